package profile

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAdopt(t *testing.T) {
	// Main calls f, 3 ns: of a recorder. Then f allocates, called by main and by itself: of a tool whose
	// frames tell no entry function.
	c := adopted(Series{Kind: CPU, Unit: Nanoseconds}, [][]Frame{{{Func: "main", File: "m.go", Line: 3, Entry: true}, {Func: "f", File: "m.go", Line: 9}}}, 3)
	other := adopted(Series{Kind: "alloc_space", Unit: Bytes}, [][]Frame{
		{{Func: "f", File: "m.go", Line: 9}, {Func: "f", File: "m.go", Line: 9}},
		{{Func: "g", File: "n.go", Line: 1}},
	}, 100, 7)
	if err := c.Adopt(other, "alloc_space", Alloc); err != nil {
		t.Fatal(err)
	}
	if err := c.Adopt(other, "alloc_space", Alloc); err != nil { // as a second process's
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := c.Profile(Alloc)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Total(); got != (Measure{Weight: 214, Count: 4}) {
		t.Errorf("total is %+v", got)
	}
	if b := p.Broken(); b != 0 {
		t.Errorf("%.2f of it is on broken stacks", b)
	}
	var stacks []string
	for _, s := range p.Samples.Stack {
		text := ""
		for _, f := range p.Stacks.RootFirst(s, nil) {
			text += ";" + p.Frames[f].Func
		}
		stacks = append(stacks, text)
	}
	if diff := cmp.Diff([]string{";f;f", ";g", ";f;f", ";g"}, stacks); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	cpu, err := c.Profile(CPU)
	if err != nil || cpu.Total() != (Measure{Weight: 3, Count: 1}) || cpu.Broken() != 0 {
		t.Errorf("cpu is %+v, %v", cpu.Total(), err)
	}
	if n := len(c.Mappings); n != 2 {
		t.Errorf("%d mappings, want the one that both have and none", n)
	}

	if err := c.Adopt(other, "delay", Blocked); !errors.Is(err, ErrNoSeries) {
		t.Errorf("a series that is not there: %v", err)
	}
	if err := c.Adopt(other, "alloc_space", CPU); err == nil || c.Of(CPU).Samples.Len() != 1 {
		t.Errorf("bytes among nanoseconds: %v", err)
	}
}

// adopted is a capture of one series with a sample of each weight on its stack, outermost frame first.
func adopted(s Series, stacks [][]Frame, weights ...int64) *Capture {
	c := NewCapture(Target{Command: []string{"x"}}, time.Time{})
	c.Mappings = append(c.Mappings, Mapping{Kind: FileCode, Path: "/bin/x"})
	c.Symbols = Symbols{Frames: make([]Frame, 1), Of: make([][]FrameID, 1)}
	for i, frames := range stacks {
		at := StackID(0)
		for _, f := range frames {
			c.Symbols.Frames = append(c.Symbols.Frames, f)
			c.Symbols.Of = append(c.Symbols.Of, []FrameID{FrameID(len(c.Symbols.Frames) - 1)})
			c.Locations = append(c.Locations, Location{Mapping: 1, Addr: uint64(len(c.Locations))})
			at = c.Stacks.Intern(at, LocationID(len(c.Locations)-1))
		}
		s.Samples.Append(Sample{Stack: at, Count: 1, Weight: weights[i]})
	}
	c.Series = []Series{s}
	return c
}
