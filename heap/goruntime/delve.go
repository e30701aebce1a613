package goruntime

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	dwarfop "github.com/go-delve/delve/pkg/dwarf/op"
	"github.com/go-delve/delve/pkg/elfwriter"
	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/pkg/proc/linutil"
)

// A frozenProcess is the image as Delve wants a process: it knows where variables are, which takes an
// interpreter of DWARF expressions. It cannot be resumed or written to. The embedded interface is nil and
// has the methods whose signatures name packages internal to Delve, which nothing calls.
type frozenProcess struct {
	proc.ProcessInternal
	info        *proc.BinaryInfo
	entry       uint64
	memory      frozenMemory
	threads     []proc.Thread
	breakpoints proc.BreakpointMap
}

var errFrozen = errors.New("an image of memory does not run and is not written to")

func (p *frozenProcess) BinInfo() *proc.BinaryInfo                         { return p.info }
func (p *frozenProcess) EntryPoint() (uint64, error)                       { return p.entry, nil }
func (p *frozenProcess) ThreadList() []proc.Thread                         { return p.threads }
func (p *frozenProcess) Breakpoints() *proc.BreakpointMap                  { return &p.breakpoints }
func (p *frozenProcess) Memory() proc.MemoryReadWriter                     { return p.memory }
func (p *frozenProcess) Valid() (bool, error)                              { return true, nil }
func (p *frozenProcess) RequestManualStop(*proc.ContinueOnceContext) error { return nil }
func (p *frozenProcess) WriteBreakpoint(*proc.Breakpoint) error            { return errFrozen }
func (p *frozenProcess) EraseBreakpoint(*proc.Breakpoint) error            { return errFrozen }
func (p *frozenProcess) SupportsBPF() bool                                 { return false }
func (p *frozenProcess) StartCallInjection() (func(), error)               { return nil, errFrozen }
func (p *frozenProcess) FollowExec(bool) error                             { return errFrozen }
func (p *frozenProcess) StepInstruction(int) error                         { return errFrozen }
func (p *frozenProcess) Detach(int, bool) error                            { return nil }
func (p *frozenProcess) Close() error                                      { return nil }

func (p *frozenProcess) FindThread(id int) (proc.Thread, bool) {
	for _, t := range p.threads {
		if t.ThreadID() == id {
			return t, true
		}
	}
	return nil, false
}

func (p *frozenProcess) DumpProcessNotes(n []elfwriter.Note, _ func()) (bool, []elfwriter.Note, error) {
	return false, n, nil
}

func (p *frozenProcess) MemoryMap() ([]proc.MemoryMapEntry, error) {
	return nil, proc.ErrMemoryMapNotSupported
}

func (p *frozenProcess) ContinueOnce(*proc.ContinueOnceContext) (proc.Thread, proc.StopReason, error) {
	return nil, proc.StopUnknown, errFrozen
}

type frozenThread struct {
	process *frozenProcess
	id      int
	regs    *linutil.AMD64Registers
	common  proc.CommonThread
}

func (t *frozenThread) Breakpoint() *proc.BreakpointState           { return &proc.BreakpointState{} }
func (t *frozenThread) ThreadID() int                               { return t.id }
func (t *frozenThread) Registers() (proc.Registers, error)          { return t.regs, nil }
func (t *frozenThread) RestoreRegisters(proc.Registers) error       { return errFrozen }
func (t *frozenThread) BinInfo() *proc.BinaryInfo                   { return t.process.info }
func (t *frozenThread) ProcessMemory() proc.MemoryReadWriter        { return t.process.memory }
func (t *frozenThread) SetCurrentBreakpoint(bool) error             { return nil }
func (t *frozenThread) SoftExc() bool                               { return false }
func (t *frozenThread) Common() *proc.CommonThread                  { return &t.common }
func (t *frozenThread) SetReg(uint64, *dwarfop.DwarfRegister) error { return errFrozen }

type frozenMemory struct{ r io.ReaderAt }

func (m frozenMemory) ReadMemory(b []byte, at uint64) (int, error) {
	if at > 1<<62 {
		return 0, fmt.Errorf("address %#x is no address", at)
	}
	n, err := m.r.ReadAt(b, int64(at))
	if n == len(b) {
		err = nil
	}
	return n, err
}

func (m frozenMemory) WriteMemory(uint64, []byte) (int, error) { return 0, errFrozen }

// The programs that Delve has loaded, which takes it long, by where they begin and build.
var delve struct {
	sync.Mutex
	list []*delveProgram // the newest last
}

// A delveProgram is what Delve knows of a program. Its lock is held while anything is asked of it.
type delveProgram struct {
	sync.Mutex
	key  string
	path string // that it was opened by
	once sync.Once
	info *proc.BinaryInfo
	err  error
}

// loadDelve has Delve load a program, or finds what it has loaded before.
func loadDelve(path string, entry uint64, id string) *delveProgram {
	key := fmt.Sprintf("%x %s", entry, id)
	delve.Lock()
	var p *delveProgram
	for i, x := range delve.list {
		if x.key == key && id != "" {
			p = x
			delve.list = append(delve.list[:i:i], delve.list[i+1:]...)
			break
		}
	}
	if p == nil {
		p = &delveProgram{key: key, path: path}
	}
	if len(delve.list) == maxKept {
		delve.list = append(delve.list[:0:0], delve.list[1:]...)
	}
	delve.list = append(delve.list, p)
	delve.Unlock()
	p.once.Do(func() {
		defer func() {
			if x := recover(); x != nil {
				p.err = fmt.Errorf("load the debug information: %v", x)
			}
		}()
		p.info = proc.NewBinaryInfo("linux", "amd64", true)
		p.err = p.info.LoadBinaryInfo(p.path, entry, nil)
	})
	if p.err != nil {
		delve.Lock() // another path may do
		delve.list = slices.DeleteFunc(delve.list, func(x *delveProgram) bool { return x == p })
		delve.Unlock()
	}
	return p
}

// target makes a Delve target of an image. The program's lock is held.
func (p *delveProgram) target(r *Runtime, entry uint64, threads []Thread) (*proc.Target, error) {
	if p.err != nil {
		return nil, p.err
	}
	f := &frozenProcess{info: p.info, entry: entry, memory: frozenMemory{r.mem.r}, breakpoints: proc.NewBreakpointMap()}
	for _, t := range threads {
		f.add(t)
	}
	if len(f.threads) == 0 {
		f.add(Thread{TID: 1}) // of a process that was not stopped nothing is known, but Delve wants one
	}
	group, add := proc.NewGroup(f, proc.NewTargetGroupConfig{StopReason: proc.StopAttached})
	if _, err := add(f, f.threads[0].ThreadID(), f.threads[0], p.path, proc.StopAttached, ""); err != nil {
		return nil, err
	}
	return group.Selected, nil
}

func (p *frozenProcess) add(t Thread) {
	r := t.Registers
	regs := linutil.AMD64PtraceRegs{R15: r[0], R14: r[1], R13: r[2], R12: r[3], Rbp: r[4], Rbx: r[5], R11: r[6], R10: r[7], R9: r[8], R8: r[9],
		Rax: r[10], Rcx: r[11], Rdx: r[12], Rsi: r[13], Rdi: r[14], Orig_rax: r[15], Rip: r[16], Cs: r[17], Eflags: r[18], Rsp: r[19], Ss: r[20],
		Fs_base: r[21], Gs_base: r[22], Ds: r[23], Es: r[24], Fs: r[25], Gs: r[26]}
	p.threads = append(p.threads, &frozenThread{process: p, id: t.TID, regs: linutil.NewAMD64Registers(&regs, func(*linutil.AMD64Registers) error { return nil })})
}

// A frameVariable is a variable of a function at one instruction: where it is from the end of the frame
// is the same in all frames there.
type frameVariable struct {
	name string
	off  int64 // from the end of the frame, so below 0 but for parameters
	t    *typeInfo
	file string
	line int
}

// frameVariables are the variables by address of code; present and empty where there are none.
type frameVariables struct {
	at     map[uint64][]frameVariable
	asked  int // goroutines that Delve was asked about
	failed int
	err    error // of the last that failed
}

// maxAsked bounds how many goroutines Delve is asked about: each is one at places where none before was.
const maxAsked = 4000

// ask has Delve walk one goroutine's stack and say where the variables of its frames are. Delve trusts
// what it reads more than a damaged image deserves: what it dies of is an error here.
func (v *frameVariables) ask(t *proc.Target, ts *typeTable, g *Goroutine) {
	v.asked++
	err := func() (err error) {
		defer func() {
			if x := recover(); x != nil {
				err = fmt.Errorf("%v", x)
			}
		}()
		gs, _, err := proc.GoroutinesInfo(t, g.index, 1)
		if err != nil {
			return err
		}
		if len(gs) != 1 || gs[0].ID != g.Number || gs[0].Unreadable != nil {
			return fmt.Errorf("goroutine %d is not where the list has it", g.Number)
		}
		frames, err := proc.GoroutineStacktrace(t, gs[0], 256, 0)
		if err != nil {
			return err
		}
		tid := t.CurrentThread().ThreadID()
		if gs[0].Thread != nil {
			tid = gs[0].Thread.ThreadID()
		}
		fresh := map[uint64][]frameVariable{}
		for i := range frames {
			f := &frames[i]
			pc := f.Current.PC
			if _, known := v.at[pc]; known || f.Current.Fn == nil {
				continue
			}
			fresh[pc] = append(fresh[pc], v.locals(t, ts, g, gs[0], tid, frames[i:])...)
		}
		for pc, all := range fresh {
			v.at[pc] = all
		}
		return nil
	}()
	if err != nil {
		v.failed++
		v.err = err
	}
}

// locals are the variables of the first of some frames that have pointers and are in its memory.
func (v *frameVariables) locals(t *proc.Target, ts *typeTable, g *Goroutine, dg *proc.G, tid int, frames []proc.Stackframe) (all []frameVariable) {
	f := &frames[0]
	locals, err := proc.FrameToScope(t, t.Memory(), dg, tid, frames...).Locals(0, "")
	if err != nil {
		return nil
	}
	for _, x := range locals {
		if x.Addr < g.lo || x.Addr >= g.hi || x.DwarfType == nil {
			continue // in the heap, in a register, or in several places
		}
		ts.mu.Lock()
		info := ts.fromDIE(x.DwarfType.Common().Offset)
		ts.mu.Unlock()
		if info == nil || info.size == 0 || !ts.compile(info).pointers {
			continue
		}
		all = append(all, frameVariable{name: f.Current.Fn.Name + "." + x.Name, off: int64(x.Addr) - f.Regs.CFA, t: info, file: f.Current.File, line: int(x.DeclLine)})
	}
	return all
}
