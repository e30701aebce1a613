package goruntime

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
)

// A Thread is a thread of the program as it was when its memory was taken.
type Thread struct {
	TID int
	// Registers are the general ones in the order of struct user_regs_struct (sys/user.h); all 0 where
	// they are not known.
	Registers [27]uint64
}

// pc and sp are where it runs and its stack pointer.
func (t *Thread) pc() uint64 { return t.Registers[16] }
func (t *Thread) sp() uint64 { return t.Registers[19] }

// A Goroutine is one of the program.
type Goroutine struct {
	Number int64
	State  string // "running", "runnable", "waiting", "syscall", "preempted", …
	Wait   string // what it waits for, in the runtime's words
	// Since is when it began to wait, as far as the collector has noticed: nanoseconds of the monotonic
	// clock; 0 when not known.
	Since   int64
	Parent  int64   // number of the goroutine that made it; 0 when not known
	Created Frame   // the go statement
	Start   string  // the function that it was made for
	Frames  []Frame // the innermost first
	Bytes   int64   // of its stack
	System  bool    // the runtime's own

	address    uint64
	lo, hi, sp uint64
	pc         uint64
	index      int // in the runtime's list
	thread     int // TID, of one that runs
}

var goroutineStates = map[uint64]string{0: "idle", 1: "runnable", 2: "running", 3: "syscall", 4: "waiting", 6: "dead", 8: "copying stack", 9: "preempted", 10: "leaked", 11: "dead"}

const (
	stateRunning, stateSyscall, stateDead = 2, 3, 6
	maxFrames                             = 4096
)

// goroutines reads those that are not dead.
func (r *Runtime) goroutines(ctx context.Context, threads []Thread, code *codeReader) (all []Goroutine, unread int) {
	list := r.symbols["runtime.allgs"]
	if list == 0 || !r.layout.has("g.stack.lo", "g.stack.hi", "g.atomicstatus", "g.goid", "g.sched.sp", "g.sched.pc") {
		return nil, 0
	}
	data, ok1 := r.mem.uint(list, 8)
	n, ok2 := r.mem.uint(list+8, 8)
	if !ok1 || !ok2 || n > maxGoroutines {
		return nil, 1
	}
	reasons := r.waitReasons()
	seen := map[uint64]bool{}
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			break
		}
		at, ok := r.mem.uint(data+i*8, 8)
		if !ok {
			unread += int(n - i)
			break
		}
		status, ok := r.field(at, "g.atomicstatus")
		if !ok || seen[at] {
			unread++
			continue
		}
		seen[at] = true
		status &^= 0x1000 // _Gscan
		if status == 0 || status == stateDead || status == 5 || status == 11 {
			continue
		}
		g := Goroutine{address: at, index: int(i), State: goroutineStates[status], lo: r.pointer(at, "g.stack.lo"), hi: r.pointer(at, "g.stack.hi")}
		if g.State == "" {
			g.State = "unknown"
		}
		if g.lo == 0 || g.hi <= g.lo || g.hi-g.lo > 1<<32 {
			unread++
			continue
		}
		g.Number, g.Bytes = int64(r.pointer(at, "g.goid")), int64(g.hi-g.lo)
		g.sp, g.pc = r.pointer(at, "g.sched.sp"), r.pointer(at, "g.sched.pc")
		g.Parent = int64(r.pointer(at, "g.parentGoid"))
		if g.State == "waiting" {
			if reason := r.pointer(at, "g.waitreason"); reason < uint64(len(reasons)) {
				g.Wait = reasons[reason]
			}
			g.Since = int64(r.pointer(at, "g.waitsince"))
		}
		if status == stateSyscall {
			g.Since = int64(r.pointer(at, "g.waitsince"))
			if sp := r.pointer(at, "g.syscallsp"); sp != 0 {
				g.sp, g.pc = sp, r.pointer(at, "g.syscallpc")
			}
		}
		if status == stateRunning || status == stateSyscall {
			r.onThread(&g, threads, status == stateRunning)
		}
		if g.sp < g.lo || g.sp > g.hi {
			g.sp, g.pc = g.lo, 0 // all of it may be in use
		}
		if pc := r.pointer(at, "g.gopc"); pc != 0 {
			if f := code.frames(pc-1, nil); len(f) > 0 {
				g.Created = f[0]
			}
		}
		if pc := r.pointer(at, "g.startpc"); pc != 0 {
			if f, _ := code.function(pc); f != nil {
				g.Start = f.name
			}
		}
		g.System = strings.HasPrefix(g.Start, "runtime.") && g.Start != "runtime.main" && g.Start != "runtime.handleAsyncEvent" ||
			g.Start == "" && g.Created.Func == ""
		all = append(all, g)
	}
	return all, unread
}

// searchGoroutines finds runtime.allgs in a program without symbols: the one slice among its variables
// that begins with goroutine 1.
func (r *Runtime) searchGoroutines(modules []module) {
	if r.symbols["runtime.allgs"] != 0 || len(modules) == 0 || !r.layout.has("g.goid", "g.stack.lo", "g.stack.hi", "g.atomicstatus") {
		return
	}
	m := &modules[0]
	for at := (m.bss + 7) &^ 7; at+24 <= m.ebss && m.ebss-m.bss < 1<<30; at += 8 {
		data, ok1 := r.mem.uint(at, 8)
		n, ok2 := r.mem.uint(at+8, 8)
		room, ok3 := r.mem.uint(at+16, 8)
		if !ok1 || !ok2 || !ok3 || data == 0 || data%8 != 0 || n == 0 || n > room || room > maxGoroutines {
			continue
		}
		g, ok := r.mem.uint(data, 8)
		if !ok || g == 0 || g%8 != 0 || r.pointer(g, "g.goid") != 1 {
			continue
		}
		lo, hi := r.pointer(g, "g.stack.lo"), r.pointer(g, "g.stack.hi")
		if status := r.pointer(g, "g.atomicstatus") &^ 0x1000; lo != 0 && hi > lo && hi-lo <= 1<<30 && status > 0 && status < 12 {
			r.symbols["runtime.allgs"] = at
			return
		}
	}
}

// onThread takes the registers of the thread that a goroutine runs on, where it is on its own stack.
func (r *Runtime) onThread(g *Goroutine, threads []Thread, running bool) {
	tid := int(r.pointer(r.pointer(g.address, "g.m"), "m.procid"))
	for _, t := range threads {
		if t.TID != tid || t.sp() == 0 {
			continue
		}
		g.thread = tid
		if sp := t.sp(); sp >= g.lo && sp <= g.hi && (running || g.sp == 0 || sp < g.sp) {
			g.sp, g.pc = sp, t.pc()
		}
		return
	}
	if running {
		g.sp, g.pc = g.lo, 0 // where it is nobody knows
	}
}

// waitReasons are the runtime's words for why goroutines wait (runtime.waitReasonStrings).
func (r *Runtime) waitReasons() []string {
	at := r.symbols["runtime.waitReasonStrings"]
	if at == 0 {
		release, _ := layoutOf(r.Version)
		return knownReasons()[release]
	}
	var all []string
	for range 128 {
		data, ok1 := r.mem.uint(at, 8)
		n, ok2 := r.mem.uint(at+8, 8)
		if !ok1 || !ok2 || n > 64 || data == 0 && len(all) > 0 {
			break
		}
		b := make([]byte, n)
		if n > 0 && !r.mem.read(b, data) {
			break
		}
		if slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c > '~' }) {
			break
		}
		all = append(all, string(b))
		at += 16
	}
	return all
}

// A stackFrame is a function's part of a stack, with what was inlined into it.
type stackFrame struct {
	pc       uint64 // in the function: for callers the return address
	call     bool   // pc is a return address
	sp, base uint64 // from the stack pointer to where the return address ends
	f        *codeFunc
}

// walk finds the frames of a goroutine, from the stack pointer to its first function. Go's functions
// have a known size at each instruction.
func (r *Runtime) walk(g *Goroutine, stack []byte, code *codeReader, yield func(f stackFrame)) {
	pc, sp, call := g.pc, g.sp, false
	for range maxFrames {
		at := pc
		if call {
			at--
		}
		f, m := code.function(at)
		if f == nil || sp < g.sp || sp > g.hi {
			return
		}
		size, ok := code.depthAt(m, f, at)
		if !ok || size > g.hi-sp {
			return
		}
		base := sp + size + 8
		if base > g.hi {
			return
		}
		yield(stackFrame{pc, call, sp, base, f})
		if f.flag&funcFlagTop != 0 || base-8-g.sp+8 > uint64(len(stack)) {
			return
		}
		pc = binary.LittleEndian.Uint64(stack[base-8-g.sp:])
		// Behind an instruction that faulted is a call that the runtime has put there.
		call = f.name != "runtime.sigpanic"
		sp = base
	}
}

// depthAt is how many bytes a function has on the stack at an instruction, without its return address.
func (c *codeReader) depthAt(m *module, f *codeFunc, pc uint64) (uint64, bool) {
	if d, ok := c.depths[pc]; ok {
		return uint64(d), d >= 0
	}
	v, ok := c.value(m, f, f.record[funcPCSP], pc)
	if !ok || v < 0 {
		v = -1
	}
	if len(c.depths) > 1<<20 {
		clear(c.depths)
	}
	c.depths[pc] = v
	return uint64(v), v >= 0
}
