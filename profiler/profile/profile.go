// Package profile is Sightline's vocabulary: what was recorded (Capture), what people read
// (Profile), and the interned tree of stacks both are made of.
//
// It imports only the standard library, does no I/O, and knows neither the kernel, nor symbol
// tables, nor the store, nor the editor.
package profile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind names what a series of samples measures.
type Kind string

// The kinds that are recorded. An import may bring others, in the words of the tool it came from
// ("inuse_space", "page-faults"). A capture holds at most one series of each.
const (
	CPU        Kind = "cpu"        // time on a processor
	Blocked    Kind = "blocked"    // time waiting, off the processor and not runnable
	Alloc      Kind = "alloc"      // memory requested, where it was requested
	InUse      Kind = "in-use"     // the part of that which is not released yet
	Contention Kind = "contention" // time that others waited for a lock, where it was released
)

// Unit is what a weight counts.
type Unit string

// The units that exist.
const (
	Nanoseconds Unit = "ns"
	Bytes       Unit = "bytes"
	Cycles      Unit = "cycles"
	Number      Unit = "count"
	Millionths  Unit = "millionths" // of a quantity that has no name, and may be a fraction
)

// The units in which other tools give what is kept in one of the above; see Unit.In.
const (
	Microseconds Unit = "µs"
	Milliseconds Unit = "ms"
	Seconds      Unit = "s"
	None         Unit = "none"
)

// In is how many source units one u makes: 1e-6 for nanoseconds in milliseconds. It is 1 where source
// is empty or is no multiple of u.
func (u Unit) In(source Unit) float64 {
	switch {
	case u == Nanoseconds && source == Microseconds:
		return 1e-3
	case u == Nanoseconds && source == Milliseconds:
		return 1e-6
	case u == Nanoseconds && source == Seconds:
		return 1e-9
	case u == Millionths && source == None:
		return 1e-6
	}
	return 1
}

// IDs are dense indices into the tables of one Capture or one Profile and mean nothing outside
// it. Entry 0 of every table is the zero value and stands for "none" or "not known".
type (
	StackID    uint32 // into Stacks; 0 is the empty stack
	LocationID uint32 // into Capture.Locations
	FrameID    uint32 // into Symbols.Frames or Profile.Frames
	MappingID  uint32 // into Capture.Mappings
	TaskID     uint32 // into Capture.Tasks or Profile.Tasks
)

// A Frame is one function call as a person reads it. The zero Frame is "no frame".
type Frame struct {
	Func      string // full name, demangled: "main.(*T).Run", "std::sort<int>(int*, int*)"
	File      string // path as the build recorded it; "" when not known
	Line      int    // 1-based line of the call or the sample; 0 when not known
	Column    int    // 1-based, in bytes; 0 when not known
	StartLine int    // 1-based line on which the function begins; 0 when not known
	Module    string // path of the binary; "[kernel]", "[vdso]"
	Inlined   bool   // the compiler put the function's body into its caller
	Entry     bool   // nothing calls it: a whole stack begins with such a frame
}

// Pseudo-frames keep totals true where a name or a caller is missing. Their spelling is fixed,
// and each is a function without file and line; Unknown has its module where that is known.
const (
	Unknown     = "[unknown]"      // an address no symbol covers
	BrokenStack = "[broken stack]" // root of a stack whose outermost callers are missing
	Kernel      = "[kernel]"       // kernel code whose names may not be read
)

// String is the frame in the text form's spelling, for messages and tests.
func (f Frame) String() string { return string(appendFrame(nil, f)) }

// A Location is a place in a binary, before symbols.
type Location struct {
	Mapping MappingID
	// Addr is a file address: the ELF virtual address in the mapping's file, whatever address the
	// process had it at. Where Mapping.Kind is Anonymous it is the runtime address, where it is
	// KernelCode the distance from the kernel's _text symbol, and where Mapping.Offsets is set the
	// offset in the file.
	Addr uint64
	// Return says that Addr is a return address: the call is before it. Lookup is the one place
	// that knows.
	Return bool
	// Root says that the recorder's walk ended here because there is no caller: a stack that begins
	// with such a location is whole, whatever its function is called.
	Root bool
}

// Lookup is the address whose line is the location's line: Addr itself for a leaf, the last byte of
// the call instruction for a return address.
func (l Location) Lookup() uint64 {
	if l.Return && l.Addr > 0 {
		return l.Addr - 1
	}
	return l.Addr
}

// MappingKind tells what is mapped.
type MappingKind uint8

// The kinds of mapping.
const (
	NoMapping  MappingKind = iota // the address lay in nothing that was known
	FileCode                      // an executable or shared object
	KernelCode                    // the kernel and its modules
	VDSO                          // the kernel's code in user space
	Anonymous                     // memory without a file: code made at run time
)

// A Mapping is a binary that ran, once per distinct file, not once per process and address.
type Mapping struct {
	Kind    MappingKind
	Path    string // as the process saw it, without " (deleted)"
	BuildID string // GNU build ID, or else the Go build ID, in the form the tools print; "" if none
	Deleted bool   // the file was gone, or another file, when the recorder came to open it
	Offsets bool   // Location.Addr is a file offset: the file's program headers could not be read
}

// A Task is a thread under one name. A thread that takes another name (exec, prctl) becomes a
// further Task with the same TID.
type Task struct {
	PID    int    // process
	TID    int    // thread; equals PID for the main thread
	Parent int    // PID of the process that started this one; 0 when not known
	Comm   string // the thread's name, at most 15 bytes
}

// A Sample is one observation: Count events of together Weight, seen on Stack at Time.
type Sample struct {
	Stack  StackID
	Task   TaskID
	Time   time.Duration // since the capture's start
	Count  int64         // how many events it stands for; 1 unless scaled
	Weight int64         // in the series' unit; the sampling period for CPU
}

// Samples are columns of equal length, ordered by time. Count is nil while every count is 1.
type Samples struct {
	Stack  []StackID
	Task   []TaskID
	Time   []time.Duration
	Weight []int64
	Count  []int64
}

// Len is the number of samples.
func (s *Samples) Len() int { return len(s.Stack) }

// At assembles sample i.
func (s *Samples) At(i int) Sample {
	x := Sample{Stack: s.Stack[i], Task: s.Task[i], Time: s.Time[i], Weight: s.Weight[i], Count: 1}
	if s.Count != nil {
		x.Count = s.Count[i]
	}
	return x
}

// Append adds a sample, which must not be earlier than the last one.
func (s *Samples) Append(x Sample) {
	if x.Count != 1 && s.Count == nil {
		s.Count = make([]int64, len(s.Stack), cap(s.Stack)+1)
		for i := range s.Count {
			s.Count[i] = 1
		}
	}
	s.Stack = append(s.Stack, x.Stack)
	s.Task = append(s.Task, x.Task)
	s.Time = append(s.Time, x.Time)
	s.Weight = append(s.Weight, x.Weight)
	if s.Count != nil {
		s.Count = append(s.Count, x.Count)
	}
}

// Slice is samples [from, to), sharing memory with s.
func (s *Samples) Slice(from, to int) Samples {
	x := Samples{
		Stack:  s.Stack[from:to:to],
		Task:   s.Task[from:to:to],
		Time:   s.Time[from:to:to],
		Weight: s.Weight[from:to:to],
	}
	if s.Count != nil {
		x.Count = s.Count[from:to:to]
	}
	return x
}

// A Measure is the weight and count of some set of samples.
type Measure struct {
	Weight int64 // in the profile's unit
	Count  int64 // number of events
}

// Add adds y to m.
func (m *Measure) Add(y Measure) { m.Weight += y.Weight; m.Count += y.Count }

// Sum is the measure of all samples.
func (s *Samples) Sum() Measure {
	m := Measure{Count: int64(s.Len())}
	for _, w := range s.Weight {
		m.Weight += w
	}
	if s.Count != nil {
		m.Count = 0
		for _, c := range s.Count {
			m.Count += c
		}
	}
	return m
}

// WarningKind says what sort of loss a Warning tells of, for tests and for grouping.
type WarningKind string

// The kinds of warning.
const (
	WarnLost        WarningKind = "lost"        // samples or records the kernel or we dropped; Count of them
	WarnHidden      WarningKind = "hidden"      // something the engine may not see here
	WarnUnreadable  WarningKind = "unreadable"  // a binary, symbol table or source that could not be read
	WarnCut         WarningKind = "cut"         // stacks deeper than the kernel copies; Count of them
	WarnInterrupted WarningKind = "interrupted" // the recorder died; what it had stored is here
	WarnTarget      WarningKind = "target"      // the target's own failure: exit status, signal
	WarnBroken      WarningKind = "broken"      // stacks that lost their callers in one module; see Broken
	WarnEngine      WarningKind = "engine"      // another engine was used than would be best, and why
)

// A Warning is a loss or a limit a reader of the capture must know: data, not a log line.
type Warning struct {
	Kind  WarningKind
	Text  string // one sentence, with the remedy where there is one
	Count int64  // how many were concerned; 0 where counting makes no sense
}

// Broken is why stacks lost their outermost callers: in one module, for one reason. A capture keeps it
// as a warning of kind WarnBroken.
type Broken struct {
	Module string // path of the binary whose callers could not be found; as in Frame.Module
	Reason string // in a few words: "no rows"
	Remedy string // what would help; "" where nothing is known to
	Count  int64  // how many stacks
}

// Warning is b in the form of a warning, for Warning.Broken.
func (b Broken) Warning() Warning {
	text := fmt.Sprintf("%s: callers are missing: %s", b.Module, b.Reason)
	if b.Remedy != "" {
		text += "; " + b.Remedy
	}
	return Warning{Kind: WarnBroken, Text: text, Count: b.Count}
}

// Broken is what a warning of kind WarnBroken tells; false for others.
func (w Warning) Broken() (Broken, bool) {
	module, rest, ok := strings.Cut(w.Text, ": callers are missing: ")
	if w.Kind != WarnBroken || !ok {
		return Broken{}, false
	}
	reason, remedy, _ := strings.Cut(rest, "; ")
	return Broken{Module: module, Reason: reason, Remedy: remedy, Count: w.Count}, true
}

// A Profile is what people read: weighted stacks of frames, of one kind.
//
// A Profile is read-only once made: views share its tables.
type Profile struct {
	Kind    Kind
	Unit    Unit          // of weights
	Source  Unit          // as in Series
	Start   time.Time     // when the recording began; zero when not known
	Length  time.Duration // how long it took
	Frames  []Frame       // Frames[0] is the zero Frame
	Stacks  *Stacks[FrameID]
	Tasks   []Task // Tasks[0] is the zero Task
	Samples Samples
	// Warnings are those of the capture.
	Warnings []Warning
}

// Total is the measure of the whole profile.
func (p *Profile) Total() Measure { return p.Samples.Sum() }

// Check tells of the first broken law of the profile's tables: ids in range, parents before
// children, columns of one length, times in order.
func (p *Profile) Check() error {
	if len(p.Frames) == 0 || p.Frames[0] != (Frame{}) {
		return fmt.Errorf("profile: frame 0 is not the zero frame")
	}
	if err := checkStacks(p.Stacks, len(p.Frames)); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if len(p.Tasks) == 0 || p.Tasks[0] != (Task{}) {
		return fmt.Errorf("profile: task 0 is not the zero task")
	}
	if err := p.Samples.check(p.Stacks.Len(), len(p.Tasks)); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}

func checkStacks[F ID](s *Stacks[F], frames int) error {
	if s == nil {
		return fmt.Errorf("no stacks")
	}
	if len(s.parent) == 0 || len(s.parent) != len(s.frame) || s.parent[0] != 0 || s.frame[0] != 0 {
		return fmt.Errorf("stack 0 is not the empty stack")
	}
	for i := 1; i < len(s.parent); i++ {
		if int(s.parent[i]) >= i {
			return fmt.Errorf("stack %d has parent %d, which does not come before it", i, s.parent[i])
		}
		if f := int(s.frame[i]); f == 0 || f >= frames {
			return fmt.Errorf("stack %d has frame %d of %d", i, f, frames)
		}
	}
	return nil
}

func (s *Samples) check(stacks, tasks int) error {
	n := len(s.Stack)
	if len(s.Task) != n || len(s.Time) != n || len(s.Weight) != n || s.Count != nil && len(s.Count) != n {
		return fmt.Errorf("sample columns differ in length")
	}
	for i := range n {
		switch {
		case int(s.Stack[i]) >= stacks:
			return fmt.Errorf("sample %d has stack %d of %d", i, s.Stack[i], stacks)
		case int(s.Task[i]) >= tasks:
			return fmt.Errorf("sample %d has task %d of %d", i, s.Task[i], tasks)
		}
	}
	if !slices.IsSorted(s.Time) {
		return fmt.Errorf("samples are not in order of time")
	}
	return nil
}
