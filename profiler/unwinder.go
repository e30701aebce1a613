package profiler

import (
	"debug/elf"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// hostMachine is the processor whose registers are sampled; EM_NONE where stacks of its code cannot be
// walked.
func hostMachine() elf.Machine {
	switch runtime.GOARCH {
	case "amd64":
		return elf.EM_X86_64
	case "arm64":
		return elf.EM_AARCH64
	}
	return elf.EM_NONE
}

// An unwinder walks the stacks of samples beside the recording, by call-frame information.
//
// Goroutines: workers take walks from jobs, from startUnwinder to stop. A walk belongs to its worker
// from dispatch until it is done; otherwise to the recording's lock, as do batch, free, late, walks and
// held. Its chain and registers do not change from submit to release.
type unwinder struct {
	files *codeFiles
	open  func(io.ReaderAt) (FrameTable, error) // nil: Go's tables are not asked
	rows  *unwind.Cache                         // nil: rows are made anew by each recording

	jobs    chan []*walk
	workers sync.WaitGroup
	waiting sync.WaitGroup // walks that are not done
	batch   []*walk        // that no worker was given yet
	free    []*walk
	late    []*walk // whose outcome nobody waits for
	walks   int     // that are not free
	held    int     // bytes of stacks in them

	mu   sync.Mutex // guards code
	code map[*codeFile]*fileCode
}

const (
	// maxHeld bounds the bytes of stacks that wait for their walk, or for their turn. What comes
	// beyond is not walked by rows.
	maxHeld  = 64 << 20
	maxWalks = 1 << 14
	// A worker is given so many at once: to wake it for each would cost more than the walk.
	walksAtOnce = 64
)

// A walk is the stack of one sample on its way through an unwinder.
type walk struct {
	space  *space
	sample unwind.Sample
	data   []byte   // of sample.Stack and sample.Also
	chain  []uint64 // what the kernel found by frame pointers, leaf first
	regs   registers
	// remembers says that found is asked for.
	remembers bool

	// The outcome, when done is set.
	frames []unwind.Frame
	end    unwind.End
	found  *unwind.Past // of a whole stack whose copy was large; else nil
	framed bool         // the chain is right: all of it is of Go's functions
	joined bool         // frames go on with the chain behind end
	done   atomic.Bool
}

// A fileCode is what is known of a file's code.
type fileCode struct {
	once   sync.Once
	ready  atomic.Bool     // once is done
	table  *unwind.Table   // nil: none
	frames unwind.GoFrames // nil: not Go, or not known
	flags  unwind.CodeFlags
}

func startUnwinder(files *codeFiles, open func(io.ReaderAt) (FrameTable, error), rows *unwind.Cache) *unwinder {
	u := &unwinder{
		files: files, open: open, rows: rows,
		jobs: make(chan []*walk, maxWalks), code: make(map[*codeFile]*fileCode),
	}
	for range max(1, min(4, runtime.NumCPU()/2)) {
		w, err := unwind.NewWalker(hostMachine())
		if err != nil {
			break // newCopying asks before
		}
		u.workers.Go(func() { u.work(w) })
	}
	return u
}

// submit takes a walk, which begins with the next dispatch at the latest, or says that there are too
// many under way. Nothing of its arguments but space is kept.
func (u *unwinder) submit(s *space, chain []uint64, r *registers) (*walk, bool) {
	bytes := len(r.stack) + len(r.other)
	if u.held+bytes > maxHeld || u.walks == maxWalks {
		return nil, false
	}
	w := &walk{}
	if n := len(u.free); n > 0 {
		w, u.free = u.free[n-1], u.free[:n-1]
	}
	u.held += bytes
	u.walks++
	w.space = s
	w.data = append(append(w.data[:0], r.stack...), r.other...)
	w.chain = append(w.chain[:0], chain...)
	w.regs = *r
	w.regs.all, w.regs.stack, w.regs.other = nil, nil, nil
	w.sample.Registers.SetPerf(hostMachine(), unwind.PerfRegisters(hostMachine()), r.all)
	w.sample.Stack = unwind.Stack{Addr: r.sp, Data: w.data[:len(r.stack)]}
	w.sample.Also = w.sample.Also[:0]
	if len(r.other) > 0 {
		w.sample.Also = append(w.sample.Also, unwind.Stack{Addr: r.otherSP, Data: w.data[len(r.stack):]})
	}
	w.framed, w.joined, w.found = false, false, nil
	w.done.Store(false)
	u.waiting.Add(1)
	if u.batch = append(u.batch, w); len(u.batch) == walksAtOnce {
		u.dispatch()
	}
	return w, true
}

// dispatch gives the workers what was submitted. It does not wait: there is room for as many batches as
// there are walks.
func (u *unwinder) dispatch() {
	u.late = slices.DeleteFunc(u.late, func(w *walk) bool {
		if !w.done.Load() {
			return false
		}
		u.release(w)
		return true
	})
	if len(u.batch) > 0 {
		u.jobs <- u.batch
		u.batch = nil
	}
}

// release takes a walk back whose outcome was used.
func (u *unwinder) release(w *walk) {
	u.held -= len(w.data)
	u.walks--
	w.space, w.found, w.sample.Past = nil, nil, nil
	const keep = 256 // walks; more were in flight for a moment only
	if len(u.free) < keep {
		u.free = append(u.free, w)
	}
}

// abandon is release for a walk that is not done.
func (u *unwinder) abandon(w *walk) { u.late = append(u.late, w) }

// wait waits for all walks.
func (u *unwinder) wait() { u.waiting.Wait() }

// stop ends the workers. No walk may be under way.
func (u *unwinder) stop() {
	close(u.jobs)
	u.workers.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.code {
		if c.table != nil {
			c.table.Close()
		}
	}
}

// A walkSpace is a worker's view of a space, and what it remembers of Go's code.
type walkSpace struct {
	*space
	of    func(*codeFile) *fileCode
	kinds map[kindKey]unwind.GoKind
}

type kindKey struct {
	table unwind.GoFrames
	addr  uint64
}

func (s *walkSpace) Code(pc uint64) (unwind.Code, bool) { return s.space.code(pc, s.of) }

// kind is what Go's function at an instruction does with stacks: GoUnknown where there is none.
func (s *walkSpace) kind(pc uint64) unwind.GoKind {
	const most = 1 << 16
	c, ok := s.Code(pc)
	if !ok || c.Go == nil {
		return unwind.GoUnknown
	}
	key := kindKey{c.Go, pc - c.Bias}
	kind, ok := s.kinds[key]
	if !ok {
		if len(s.kinds) == most {
			clear(s.kinds)
		}
		kind = c.Go.GoFrame(key.addr).Kind
		s.kinds[key] = kind
	}
	return kind
}

// right is how many return addresses of a chain are right: those up to the first that C calls Go with,
// for behind that are frame pointers of C. whole says that they lead to a root.
func (s *walkSpace) right(chain []uint64) (n int, whole bool) {
	last := unwind.GoUnknown
	for _, pc := range chain {
		kind := s.kind(pc - 1)
		if kind == unwind.GoUnknown {
			break
		}
		last = kind
		if n++; kind == unwind.GoCrosscall {
			break
		}
	}
	// mcall and morestack clear the frame pointer: what called them waits.
	return n, n == len(chain) && (last == unwind.GoRoot || last == unwind.GoSwitches)
}

func (u *unwinder) work(walker *unwind.Walker) {
	known := make(map[*codeFile]*fileCode) // without a lock
	s := &walkSpace{kinds: make(map[kindKey]unwind.GoKind), of: func(f *codeFile) *fileCode {
		c := known[f]
		if c == nil {
			c = u.file(f)
			known[f] = c
		}
		return c
	}}
	for batch := range u.jobs {
		for _, w := range batch {
			s.space = w.space
			w.run(walker, s)
			s.space = nil
			w.done.Store(true)
			u.waiting.Done()
		}
	}
}

// run finds the outcome.
func (w *walk) run(walker *unwind.Walker, s *walkSpace) {
	if len(w.chain) > 0 && s.kind(w.chain[0]) != unwind.GoUnknown {
		if _, whole := s.right(w.chain[1:]); whole {
			w.framed = true
			return
		}
	}
	w.frames, w.end = walker.Walk(&w.sample, s, w.frames[:0])
	w.found = w.past(walker)
	switch w.end.Reason {
	case unwind.GoSwitch, unwind.CgoSwitch:
		// The kernel's walk may have come to the same frame on the goroutine's stack: it has begun with
		// it, where no C function has touched the frame pointer, or has gone through the same function,
		// where all C functions keep frame pointers.
		rest := w.chain
		if w.end.FP == 0 || w.end.FP != w.regs.fp || len(rest) == 0 {
			i := slices.Index(w.chain, w.end.PC)
			if i <= 0 {
				break
			}
			rest = w.chain[i:]
		}
		n, whole := s.right(rest[1:])
		for _, pc := range rest[1:][:n] {
			w.frames = append(w.frames, unwind.Frame{PC: pc, Return: true})
		}
		w.joined = whole
	case unwind.NoStack:
		w.framed = len(w.chain) > 0
	}
}

// depth is how many bytes of a stack the walk went through, or would at least have needed; 0 where it
// cannot tell.
func (w *walk) depth() uint64 {
	if w.end.Same {
		return w.end.SP - w.sample.Stack.Addr
	}
	in := func(stack *unwind.Stack) uint64 {
		switch n, all := w.end.SP-stack.Addr, uint64(len(stack.Data)); {
		case n > all:
		case w.end.Reason == unwind.CutByCopy:
			return all + w.end.Missing
		case w.end.Reason == unwind.Root:
			return n
		}
		return 0
	}
	n := in(&w.sample.Stack)
	for i := 0; n == 0 && i < len(w.sample.Also); i++ {
		n = in(&w.sample.Also[i])
	}
	return n
}

// file is what is known of a file, which is read when it is first asked for.
func (u *unwinder) file(f *codeFile) *fileCode {
	u.mu.Lock()
	c := u.code[f]
	if c == nil {
		c = &fileCode{}
		u.code[f] = c
	}
	u.mu.Unlock()
	c.once.Do(func() {
		u.read(f, c)
		c.ready.Store(true)
	})
	return c
}

// rowsOf is the rows of a file, nil where it has none; known is false where no walk has come to it yet, or
// they are being read.
func (u *unwinder) rowsOf(f *codeFile) (table *unwind.Table, known bool) {
	u.mu.Lock()
	c := u.code[f]
	u.mu.Unlock()
	if c == nil || !c.ready.Load() {
		return nil, false
	}
	return c.table, true
}

// read reads the tables of a file. Where there are none, walks end with a reason.
func (u *unwinder) read(f *codeFile, c *fileCode) {
	file, err := u.files.reader(f)
	if err != nil {
		return
	}
	defer func() {
		if c.frames == nil { // which are read as they are asked for
			u.files.done(f)
		}
	}()
	if f.image.golang && u.open != nil {
		if t, err := u.open(file); err == nil {
			if frames, ok := t.(unwind.GoFrames); ok {
				c.frames = &oneAtATime{frames: frames}
			}
		}
	}
	if f.image.framed() {
		c.flags |= unwind.CodeGo
		return
	}
	key := f.image.buildID
	if f.kind != profile.FileCode {
		key = "" // the vdso is small
	}
	if u.rows != nil && key != "" {
		if c.table, err = u.rows.Open(key); err == nil {
			return
		}
	}
	if c.table, err = unwind.ReadELF(file); err != nil {
		c.table = nil
		return
	}
	if u.rows != nil && key != "" {
		u.rows.Put(key, c.table) // without, it is made again next time
	}
}

// oneAtATime has several workers ask one table.
type oneAtATime struct {
	mu     sync.Mutex
	frames unwind.GoFrames
}

func (o *oneAtATime) GoFrame(addr uint64) unwind.GoFrame {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.frames.GoFrame(addr)
}
