package profile

import (
	"errors"
	"fmt"
	"time"
)

// A Target is a description of what was recorded.
type Target struct {
	Command []string // program and arguments; nil for a running process or the machine
	Dir     string   // folder the command ran in
	PID     int      // the process that was attached to; 0 otherwise
	Machine bool     // every process of the machine
	// Package, Run and Bench say which Go test it was: import path and the patterns given to go test.
	// Without a Package, Run is what people call the Command: the name of a launch target, or of a test
	// in another language.
	Package, Run, Bench string
}

// String names the target as a person would: "go test ./fib -run TestFib", "process 71",
// "whole machine".
func (t Target) String() string {
	switch {
	case t.Package != "":
		s := "go test " + t.Package
		if t.Run != "" {
			s += " -run " + t.Run
		}
		if t.Bench != "" {
			s += " -bench " + t.Bench
		}
		return s
	case t.Run != "":
		return t.Run
	case t.Machine:
		return "whole machine"
	case t.PID != 0:
		return fmt.Sprintf("process %d", t.PID)
	case len(t.Command) > 0:
		return joinCommand(t.Command)
	}
	return "nothing"
}

// A Series is the samples of one kind.
type Series struct {
	Kind   Kind
	Unit   Unit
	Period int64 // nominal weight of one sample, in Unit; 0 where samples have no period
	// Source is the unit of the tool that an import came from, where it is another than Unit: what its
	// users expect to read. Unit.In converts.
	Source  Unit
	Samples Samples
}

// A Capture is what the kernel said about an interval: samples on stacks of locations, and after
// symbolizing the frames those locations stand for.
//
// While it is being recorded its tables only grow (Mappings may gain their BuildID), so a prefix of
// each is a valid capture; see View.
type Capture struct {
	Target    Target
	Engine    string        // "bpf" or "perf", or the tool an import came from
	Machine   string        // kernel release and architecture: "Linux 6.18.44 x86_64, 2 CPUs"
	Start     time.Time     // wall clock when recording began
	Length    time.Duration // how long it took
	Tasks     []Task
	Mappings  []Mapping
	Locations []Location
	Stacks    *Stacks[LocationID]
	Series    []Series
	Symbols   Symbols
	Warnings  []Warning
	// Interrupted says that the recorder did not come to its end: samples after the last stored
	// chunk are missing, and symbols may be.
	Interrupted bool
	// Imported says that another tool made the stacks: they are taken as they stand, whether or not
	// they begin with an entry function.
	Imported bool
}

// Symbols are the names of a capture's locations and the sources they lie in.
type Symbols struct {
	// Frames of all locations; Frames[0] is the zero Frame. Frames are unique.
	Frames []Frame
	// Of lists each location's frames, innermost first: more than one where calls were inlined.
	// Of[0] is nil. A location beyond its length, or with an empty list, is not symbolized and is
	// read as the pseudo-frame Unknown.
	Of [][]FrameID
	// Sources are the files that frames name, once each, ordered by Path.
	Sources []Source
}

// A Source is a file named by frames, as it was when recorded.
type Source struct {
	Path  string // Frame.File: as the build recorded it
	Local string // where it was found on this machine; "" when it was not
	Text  []byte // its content then; nil when it was not found
	Note  string // why there is no text, or why it may not be what was built; "" otherwise
}

// NewCapture makes an empty capture with entry 0 in every table.
func NewCapture(target Target, start time.Time) *Capture {
	return &Capture{
		Target:    target,
		Start:     start,
		Tasks:     make([]Task, 1),
		Mappings:  make([]Mapping, 1),
		Locations: make([]Location, 1),
		Stacks:    NewStacks[LocationID](),
	}
}

// Of is the series of a kind, or nil.
func (c *Capture) Of(kind Kind) *Series {
	for i := range c.Series {
		if c.Series[i].Kind == kind {
			return &c.Series[i]
		}
	}
	return nil
}

// View is the capture as it is now, for readers, while c goes on growing under the lock that the
// caller holds. It shares the tables' memory.
func (c *Capture) View() *Capture {
	v := *c
	v.Tasks = c.Tasks[:len(c.Tasks):len(c.Tasks)]
	v.Mappings = append([]Mapping(nil), c.Mappings...)
	v.Locations = c.Locations[:len(c.Locations):len(c.Locations)]
	v.Stacks = c.Stacks.View()
	v.Series = append([]Series(nil), c.Series...)
	for i := range v.Series {
		v.Series[i].Samples = v.Series[i].Samples.Slice(0, v.Series[i].Samples.Len())
	}
	v.Warnings = append([]Warning(nil), c.Warnings...)
	return &v
}

// Warn adds a warning, or adds to the count of the same one.
func (c *Capture) Warn(kind WarningKind, count int64, text string) {
	for i := range c.Warnings {
		if w := &c.Warnings[i]; w.Kind == kind && w.Text == text {
			w.Count += count
			return
		}
	}
	c.Warnings = append(c.Warnings, Warning{Kind: kind, Text: text, Count: count})
}

// ErrNoSeries says that a capture holds no samples of the kind asked for.
var ErrNoSeries = errors.New("no such samples in the capture")

// Profile turns one kind of a capture's samples into weighted stacks of frames: each location
// becomes its frames, outermost first, and a stack without an entry function or Location.Root begins
// with the pseudo-frame BrokenStack. What a walk found outside of an entry function is left out: nothing calls
// that, so it is junk behind the stack's end (Go before 1.26 does not clear the frame pointer where
// its threads begin). The cost is one pass over the unique stacks; samples
// keep their order and their columns are shared but for Stack. The stacks of an Imported capture are
// neither completed nor cut.
//
// A stack that lies wholly in the kernel has no user part to be broken. It fails only where the
// capture has no such series (ErrNoSeries).
func (c *Capture) Profile(kind Kind) (*Profile, error) {
	return new(Follower).Profile(c, kind)
}

func (c *Capture) kindOf(l LocationID) MappingKind {
	return c.Mappings[c.Locations[l].Mapping].Kind
}

// Broken is the share of a profile's weight on stacks that begin with BrokenStack, 0 to 1.
func (p *Profile) Broken() float64 {
	parents, leaf := p.Stacks.Columns()
	bad := make([]bool, len(parents))
	for id := 1; id < len(parents); id++ {
		bad[id] = bad[parents[id]] || parents[id] == 0 && p.Frames[leaf[id]].Func == BrokenStack
	}
	var part, all int64
	for i, id := range p.Samples.Stack {
		w := p.Samples.Weight[i]
		all += w
		if bad[id] {
			part += w
		}
	}
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// Check tells of the first broken law of the capture's tables.
func (c *Capture) Check() error {
	switch {
	case len(c.Tasks) == 0 || c.Tasks[0] != (Task{}):
		return errors.New("capture: task 0 is not the zero task")
	case len(c.Mappings) == 0 || c.Mappings[0] != (Mapping{}):
		return errors.New("capture: mapping 0 is not the zero mapping")
	case len(c.Locations) == 0 || c.Locations[0] != (Location{}):
		return errors.New("capture: location 0 is not the zero location")
	}
	for i, l := range c.Locations {
		if int(l.Mapping) >= len(c.Mappings) {
			return fmt.Errorf("capture: location %d has mapping %d of %d", i, l.Mapping, len(c.Mappings))
		}
	}
	if err := checkStacks(c.Stacks, len(c.Locations)); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	seen := map[Kind]bool{}
	for i := range c.Series {
		s := &c.Series[i]
		if seen[s.Kind] {
			return fmt.Errorf("capture: two series of kind %s", s.Kind)
		}
		seen[s.Kind] = true
		if err := s.Samples.check(c.Stacks.Len(), len(c.Tasks)); err != nil {
			return fmt.Errorf("capture: series %s: %w", s.Kind, err)
		}
	}
	switch {
	case len(c.Symbols.Frames) > 0 && c.Symbols.Frames[0] != (Frame{}):
		return errors.New("capture: frame 0 is not the zero frame")
	case len(c.Symbols.Of) > len(c.Locations):
		return fmt.Errorf("capture: symbols of %d locations, but there are %d", len(c.Symbols.Of), len(c.Locations))
	case len(c.Symbols.Of) > 0 && len(c.Symbols.Of[0]) > 0:
		return errors.New("capture: location 0 has frames")
	}
	for l, ids := range c.Symbols.Of {
		for _, id := range ids {
			if id == 0 || int(id) >= len(c.Symbols.Frames) {
				return fmt.Errorf("capture: location %d has frame %d of %d", l, id, len(c.Symbols.Frames))
			}
		}
	}
	return nil
}
