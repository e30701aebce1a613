package heap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/heap/goruntime"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// OfGo reads the heap of a Go program out of an image of its memory. Progress, if not nil, is told what
// is being done and how much of all is done, from 0 to 1. The error wraps goruntime.ErrNotGo where the
// program is not one of Go. The snapshot does not need the image any more.
func OfGo(ctx context.Context, img *freeze.Image, progress func(what string, share float64)) (*Snapshot, error) {
	exe, path, bias, err := img.Executable()
	if err != nil {
		return nil, fmt.Errorf("read the Go heap of process %d: %w", img.PID(), err)
	}
	r, err := goruntime.Open(exe, bias, img)
	if errors.Is(err, goruntime.ErrNotGo) {
		return nil, fmt.Errorf("read the Go heap of process %d, %s: %w", img.PID(), path, err)
	} else if err != nil {
		return nil, fmt.Errorf("read the Go runtime of process %d, %s: %w", img.PID(), path, err)
	}
	options := goruntime.HeapOptions{Path: fmt.Sprintf("/proc/self/fd/%d", exe.Fd()), Waste: true, Progress: progress}
	for _, t := range img.Threads() {
		x := goruntime.Thread{TID: t.TID}
		if g := t.Regs; g != nil {
			x.Registers = [27]uint64{g.R15, g.R14, g.R13, g.R12, g.RBP, g.RBX, g.R11, g.R10, g.R9, g.R8, g.RAX, g.RCX, g.RDX, g.RSI, g.RDI,
				g.OrigRAX, g.RIP, g.CS, g.Flags, g.RSP, g.SS, g.FSBase, g.GSBase, g.DS, g.ES, g.FS, g.GS}
		}
		options.Threads = append(options.Threads, x)
	}
	h, err := r.Heap(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("read the Go heap of process %d, %s: %w", img.PID(), path, err)
	}
	b := NewBuilder(Info{
		Taken: img.Taken(), PID: img.PID(), Command: img.Name(), Exe: path, BuildID: r.BuildID, Go: r.Version, Module: r.Module,
		How: img.How().String(), Stopped: img.Stopped(), HeapAlloc: h.Allocated, HeapLive: h.Marked, SampleRate: h.SampleRate,
	})
	g := goBuilder{Builder: b, heap: h, module: r.Module, exe: path}
	g.tables()
	g.goroutines(clockAt(img))
	g.roots()
	h.Objects(func(address, size uint64, t uint32) { b.AddObject(address, size, g.types[t]) })
	err = goruntime.References(ctx, h, func(first ObjectID, end []uint32, to []ObjectID, field []FieldID) {
		for i, f := range field {
			field[i] = g.fields[f]
		}
		b.AddReferenceRun(first, end, to, field)
	})
	if err != nil {
		return nil, fmt.Errorf("read the Go heap of process %d, %s: %w", img.PID(), path, err)
	}
	g.samples()
	g.wasted()
	g.warnings(img, r)
	if progress != nil {
		progress("building the graph", 0.9)
	}
	return b.Build()
}

// clockAt is the monotonic clock when the image was taken; 0 for a core, whose clock is not known.
func clockAt(img *freeze.Image) int64 {
	var now unix.Timespec
	if img.How() == freeze.Core || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return now.Nano() - int64(time.Since(img.Taken()))
}

// A goBuilder turns what goruntime knows into what a Builder takes.
type goBuilder struct {
	*Builder
	heap        *goruntime.Heap
	module, exe string
	types       []TypeID  // by goruntime's number
	fields      []FieldID // by goruntime's number
	numbers     []GoroutineID
}

func (g *goBuilder) tables() {
	for _, t := range g.heap.Types {
		x := Type{Name: t.Name, Package: t.Package, Kind: t.Kind}
		if t.Name != "" {
			x.Origin = OriginOf(t.Package, g.module)
		}
		g.types = append(g.types, g.AddType(x))
	}
	for _, name := range g.heap.Fields {
		g.fields = append(g.fields, g.AddField(Field{Name: name}))
	}
}

// stack adds frames, the innermost first.
func (g *goBuilder) stack(frames []goruntime.Frame) profile.StackID {
	all := make([]profile.Frame, 0, len(frames))
	for _, f := range frames {
		name := f.Func
		if name == "" {
			name = profile.Unknown
		}
		all = append(all, profile.Frame{Func: name, File: f.File, Line: f.Line, StartLine: f.StartLine, Module: g.exe, Inlined: f.Inlined,
			Entry: name == "runtime.goexit" || name == "runtime.mstart" || name == "runtime.rt0_go"})
	}
	return g.AddStack(all)
}

// goroutines adds them; clock is the monotonic clock at the instant.
func (g *goBuilder) goroutines(clock int64) {
	if clock == 0 {
		for i := range g.heap.Goroutines { // the last that began to wait tells the least that the others have
			clock = max(clock, g.heap.Goroutines[i].Since)
		}
	}
	g.numbers = make([]GoroutineID, 1)
	for i := range g.heap.Goroutines {
		x := &g.heap.Goroutines[i]
		y := Goroutine{Number: x.Number, State: x.State, Wait: x.Wait, Stack: g.stack(x.Frames), Bytes: x.Bytes, System: x.System}
		if x.Since > 0 && clock > x.Since {
			y.Blocked = time.Duration(clock - x.Since)
		}
		if x.Created.Func != "" {
			y.Created = g.stack([]goruntime.Frame{x.Created})
		}
		g.numbers = append(g.numbers, g.AddGoroutine(y))
	}
}

var goRootKinds = [...]RootKind{
	goruntime.RootGlobal: Global, goruntime.RootLocal: Local, goruntime.RootStack: StackWord, goruntime.RootRegister: Register,
	goruntime.RootFinalizer: Finalizer, goruntime.RootCleanup: Cleanup, goruntime.RootWeak: WeakHandle, goruntime.RootData: Data,
	goruntime.RootOther: OtherRoot,
}

func (g *goBuilder) roots() {
	var ids []RootID
	for _, r := range g.heap.Roots {
		ids = append(ids, g.AddRoot(Root{Kind: goRootKinds[r.Kind], Name: r.Name, Goroutine: g.numbers[r.Goroutine], File: r.File, Line: r.Line}))
	}
	for _, x := range g.heap.RootReferences {
		g.AddRootReference(ids[x.Root], g.fields[x.Field], ObjectID(x.Object))
	}
}

func (g *goBuilder) samples() {
	var stacks []profile.StackID
	for _, s := range g.heap.SampleStacks {
		stacks = append(stacks, g.stack(s))
	}
	for _, s := range g.heap.Samples {
		g.AddSampled(Sampled{Object: ObjectID(s.Object), Stack: stacks[s.Stack], Count: s.Count, Bytes: s.Bytes})
	}
}

var wasteKinds = [...]WasteKind{
	goruntime.UnusedCapacity: UnusedCapacity, goruntime.FreeMapSlots: FreeMapSlots, goruntime.DuplicateStrings: DuplicateStrings,
	goruntime.BoxedScalars: BoxedScalars, goruntime.Padding: Padding,
}

func (g *goBuilder) wasted() {
	for _, w := range g.heap.Waste {
		g.AddWaste(Waste{Kind: wasteKinds[w.Kind], Type: g.types[w.Type], What: w.What, Count: w.Count, Bytes: w.Bytes, Of: w.Of, Example: ObjectID(w.Example)})
	}
}

// warnings says what the snapshot lacks.
func (g *goBuilder) warnings(img *freeze.Image, r *goruntime.Runtime) {
	h := g.heap
	if !r.Known() {
		g.Info.Warn(profile.WarnEngine, 0, fmt.Sprintf("the program was built by %s, whose runtime is not one of those known (go1.22 to go1.26): its debug information told where things are, what they mean may have changed", cmp.Or(r.Version, "an unknown Go release")))
	}
	for _, note := range img.Notes() {
		g.Info.Warn(profile.WarnEngine, 0, note)
	}
	for _, lost := range h.Lost {
		g.Info.Warn(profile.WarnUnreadable, 0, "not in this snapshot: "+strings.TrimSuffix(lost, "."))
	}
	if h.Unread > 0 {
		g.Info.Warn(profile.WarnLost, h.Unread, "spans or goroutines whose records could not be believed were left out: the program changed while it was read, or its memory is damaged")
	}
	if h.Conservative > 0 {
		g.Info.Warn(profile.WarnUnreadable, h.Conservative, "objects were looked through word by word, because nothing says which of their words are pointers")
	}
}
