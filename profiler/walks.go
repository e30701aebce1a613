package profiler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// Walks are a builder's samples whose stacks are being walked, and what came of those before.
type walks struct {
	unwinder *unwinder // nil: stacks are taken as the kernel walked them
	copying  *copying
	pasts    pasts
	waiting  []waiting // in the order of their times; the first one is not done
	kernels  []uint64  // the kernel's addresses of those that wait, one stack after the other
	broken   map[brokenAt]int64
	refused  int64 // samples that came while there were too many walks
}

// maxWaiting bounds the samples that wait. Where one walk takes so long that more come, as the first in a
// huge binary, whose rows have to be made, what the kernel has walked is taken for it.
const maxWaiting = 1 << 17

// A waiting is a sample that waits for its walk, or for the samples before it.
type waiting struct {
	sample  profile.Sample // its stack is that of the user, where there is no walk
	process *process       // nil: none is known
	thread  *thread
	tid     int
	walk    *walk // nil: the stack is known
	kernel  int   // addresses in kernels
}

// brokenAt is where and why walks have ended early.
type brokenAt struct {
	module string
	reason unwind.Reason
	unread bool // its binary could not be read
	deep   bool // the stack is deeper than what can be copied
}

// submit has a sample's stack walked, if it was copied and may need it: nil where the kernel's walk is
// taken.
func (b *builder) submit(p *process, tid int, user []uint64, regs *registers) *walk {
	if b.unwinder == nil || len(user) == 0 {
		return nil
	}
	if len(regs.stack) == 0 {
		if len(user) == 1 && regs.sp != 0 && b.copying.wants(p.pid) {
			file, _ := b.tracker.locate(p, user[0])
			b.breaks(file, unwind.NoStack, false) // exec has taken it away
		}
		return nil
	}
	if r := p.region(user[0]); r != nil && r.file != nil && r.file.image.framed() {
		return nil
	} else if r == nil {
		b.tracker.locate(p, user[0]) // asks again where records were lost
	}
	w, ok := b.unwinder.submit(p.space(), user, regs)
	if !ok {
		b.refused++
		return nil
	}
	w.remembers = b.pasts.set != nil
	w.sample.Past, w.sample.Same = nil, regs.same
	if regs.same > 0 {
		w.sample.Past = b.pasts.find(tid, regs.past)
	}
	return w
}

// settle gives the samples that wait their places, up to the first whose walk is not done, and has those
// walks begin that have not.
func (b *builder) settle() {
	if b.unwinder != nil {
		b.unwinder.dispatch()
	}
	n, k := 0, 0
samples:
	for i := range b.waiting {
		x := &b.waiting[i]
		if x.walk != nil {
			switch {
			case x.walk.done.Load():
				x.sample.Stack = b.walked(x)
				b.unwinder.release(x.walk)
			case len(b.waiting)-n > maxWaiting:
				b.refused++
				x.sample.Stack = b.framed(x.process, x.thread, x.walk.chain, &x.walk.regs) // which the worker only reads
				b.unwinder.abandon(x.walk)
			default:
				break samples
			}
		}
		x.sample.Stack = b.inKernel(x.sample.Stack, b.kernels[k:k+x.kernel])
		b.samples.Append(x.sample)
		k += x.kernel
		n++
	}
	if n > 0 {
		b.waiting = slices.Delete(b.waiting, 0, n)
		b.kernels = slices.Delete(b.kernels, 0, k)
	}
	b.pasts.tell()
}

// walked is the stack that a walk has found.
func (b *builder) walked(x *waiting) (stack profile.StackID) {
	w := x.walk
	if w.framed {
		return b.framed(x.process, x.thread, w.chain, &w.regs)
	}
	missed := w.sample.Same > 0 && w.end.Reason == unwind.CutByCopy
	b.pasts.found(x.process, x.tid, w.found, missed)
	if n := w.depth(); n > 0 && !missed {
		b.copying.walked(x.process.pid, n)
	}
	if w.end.Reason != unwind.Root && !w.joined {
		file, _ := w.space.locate(w.end.PC)
		b.breaks(file, w.end.Reason, w.end.Reason == unwind.CutByCopy && w.depth() > maxStackBytes)
	}
	outermost := len(w.frames) - 1
	for i, f := range slices.Backward(w.frames) {
		root := i == outermost && w.end.Reason == unwind.Root
		stack = b.c.Stacks.Intern(stack, b.inSpace(w.space, f, root))
	}
	return stack
}

// breaks counts a stack that ends early in a file's code.
func (b *builder) breaks(f *codeFile, why unwind.Reason, deep bool) {
	at := brokenAt{module: profile.Unknown, reason: why, deep: deep}
	if f != nil {
		at.module, at.unread = f.path, f.problem != ""
	}
	if b.broken == nil {
		b.broken = make(map[brokenAt]int64)
	}
	b.broken[at]++
}

// inSpace is the location of a walk's frame.
func (b *builder) inSpace(s *space, f unwind.Frame, root bool) profile.LocationID {
	key := f.PC &^ (3 << 62) // which user addresses leave free
	if f.Return {
		key |= 1 << 63
	}
	if root {
		key |= 1 << 62
	}
	id, ok := s.located[key]
	if !ok {
		file, addr := s.locate(f.PC)
		id = b.location(file, profile.Location{Addr: addr, Return: f.Return, Root: root})
		if s.located == nil {
			s.located = make(map[uint64]profile.LocationID)
		}
		s.located[key] = id
	}
	return id
}

// walkWarnings adds what was not walked, and why stacks are broken.
func (b *builder) walkWarnings() {
	if b.refused > 0 {
		b.c.Warn(profile.WarnCut, b.refused, "stacks were walked by frame pointers only, because they came faster than they could be walked otherwise; record with a lower --freq or less --stack-bytes")
	}
	all := make([]profile.Broken, 0, len(b.broken))
	for at, n := range b.broken {
		all = append(all, profile.Broken{Module: at.module, Reason: at.reason.String(), Remedy: b.remedy(at), Count: n})
	}
	slices.SortFunc(all, func(x, y profile.Broken) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Module, y.Module), cmp.Compare(x.Reason, y.Reason))
	})
	for _, x := range all {
		w := x.Warning()
		b.c.Warn(w.Kind, w.Count, w.Text)
	}
}

// remedy is what helps against a reason.
func (b *builder) remedy(at brokenAt) string {
	if at.unread {
		return "its binary could not be read, as another warning tells"
	}
	switch at.reason {
	case unwind.CutByCopy:
		switch {
		case at.deep:
			return fmt.Sprintf("the stacks are deeper than the %d bytes that can be copied; build the program with -fno-omit-frame-pointer and record with --stack-bytes 0", maxStackBytes)
		case at.module == anonymousName || b.copying == nil || b.copying.bytes >= maxStackBytes:
			return ""
		case b.copying.held:
			return fmt.Sprintf("let this user lock more memory, for copies of more than %d KiB (ulimit -l, or sudo sysctl kernel.perf_event_mlock_kb=16384)", b.copying.bytes>>10)
		}
		if b.copying.set != nil && !b.copying.chosen {
			return fmt.Sprintf("they were deeper than those before them, and later ones were copied whole; --stack-bytes %d copies as much from the beginning", maxStackBytes)
		}
		return fmt.Sprintf("raise --stack-bytes (up to %d)", maxStackBytes)
	case unwind.NoRows:
		if at.module == anonymousName {
			return "have the program that makes code at run time keep frame pointers (Java: -XX:+PreserveFramePointer)"
		}
		return "build it with -fasynchronous-unwind-tables or -fno-omit-frame-pointer, and give what is assembly .cfi directives"
	case unwind.BadCFA, unwind.BadRegister, unwind.BadExpression, unwind.BadReturn, unwind.Cycle:
		return "its call-frame information does not fit there, as in hand-written assembly; build that with -fno-omit-frame-pointer"
	case unwind.GoSwitch, unwind.CgoSwitch:
		const frames = "build the C code with -fno-omit-frame-pointer (CGO_CFLAGS)"
		if b.c.Engine == string(BPFEngine) {
			return frames
		}
		return "record with the bpf engine (root, or CAP_BPF and CAP_PERFMON), which copies both stacks of a thread, or " + frames
	}
	return ""
}
