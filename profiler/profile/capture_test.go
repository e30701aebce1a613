package profile

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines is a profile's text without its header.
func lines(p *Profile) string {
	_, after, _ := strings.Cut(string(p.AppendText(nil)), "\n")
	return after
}

func mustParseCapture(t *testing.T, text string) *Capture {
	t.Helper()
	c, err := ParseCapture([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unsymbolized has user code (mapping 1) and kernel code (mapping 2).
const unsymbolized = `capture
mapping 1: kind=file path=/x
mapping 2: kind=kernel path=[kernel]
`

func TestCaptureProfile(t *testing.T) {
	for _, tt := range []struct{ name, capture, want string }{
		{
			"inlined calls become frames, outermost first",
			`frame 1: main.main@x.go:3|entry
frame 2: outer@x.go:7
frame 3: middle@x.go:8|inlined
frame 4: inner@x.go:9|inlined
location 1: mapping=1 addr=1 frames=1
location 2: mapping=1 addr=2 frames=4,3,2
stack 1: location=1
stack 2: parent=1 location=2
series: kind=cpu unit=ns
2 10
`,
			"main.main@x.go:3|entry;outer@x.go:7;middle@x.go:8|inlined;inner@x.go:9|inlined 10\n",
		}, {
			"an entry that was inlined into is judged by the outermost frame",
			`frame 1: main.main|entry
frame 2: inner|inlined
location 1: mapping=1 frames=2,1
stack 1: location=1
series: kind=cpu unit=ns
1 10
`,
			"main.main|entry;inner|inlined 10\n",
		}, {
			"an outermost frame that is no entry is a broken stack",
			`frame 1: work
frame 2: leaf
location 1: mapping=1 frames=1
location 2: mapping=1 frames=2
stack 1: location=1
stack 2: parent=1 location=2
series: kind=cpu unit=ns
1 10
2 20
`,
			"[broken stack];work 10\n[broken stack];work;leaf 20\n",
		}, {
			"a stack wholly in the kernel is not broken",
			`frame 1: [kernel]!ret_from_fork
location 1: mapping=2 frames=1
location 2: mapping=2
stack 1: location=1
stack 2: location=2
series: kind=cpu unit=ns
1 10
2 20
`,
			"[kernel]!ret_from_fork 10\n[unknown] 20\n",
		}, {
			"user code below a kernel leaf is judged by its root",
			`frame 1: [kernel]!do_syscall_64
frame 2: read
location 1: mapping=2 frames=1
location 2: mapping=1 frames=2
stack 1: location=2
stack 2: parent=1 location=1
series: kind=cpu unit=ns
2 10
`,
			"[broken stack];read;[kernel]!do_syscall_64 10\n",
		}, {
			"locations without symbols are unknown",
			`frame 1: main.main|entry
location 1: mapping=1 frames=1
location 2: mapping=1 addr=2
location 3: addr=3
stack 1: location=1
stack 2: parent=1 location=2
stack 3: parent=2 location=3
stack 4: location=3
series: kind=cpu unit=ns
3 10
4 20
0 30
`,
			"main.main|entry;[unknown];[unknown] 10\n[broken stack];[unknown] 20\n- 30\n",
		}, {
			"samples keep order, time, task and count",
			`task 1: pid=7 tid=7
frame 1: f|entry
location 1: frames=1
location 2: frames=1
stack 1: location=1
stack 2: location=2
series: kind=cpu unit=ns
2 10 time=1ms
1 20 count=3 time=1ms task=1
2 30 time=2ms
`,
			"task 1: pid=7 tid=7\nf|entry 10 time=1ms\nf|entry 20 count=3 time=1ms task=1\nf|entry 30 time=2ms\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParseCapture(t, unsymbolized+tt.capture)
			before := string(c.AppendText(nil))
			p, err := c.Profile(CPU)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, lines(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got, want := p.Total(), c.Of(CPU).Samples.Sum(); got != want {
				t.Errorf("the total is %+v, that of the capture %+v", got, want)
			}
			if diff := cmp.Diff(before, string(c.AppendText(nil))); diff != "" {
				t.Errorf("the capture changed:\n%s", diff)
			}
		})
	}
}

func TestProfileLeavesCaptureFrames(t *testing.T) {
	c := mustParseCapture(t, unsymbolized+"frame 1: f\nlocation 1: frames=1\nstack 1: location=1\nseries: kind=cpu\n1 1\n")
	c.Symbols.Frames = append(make([]Frame, 0, 8), c.Symbols.Frames...) // room that appending could fill
	p, err := c.Profile(CPU)
	if err != nil {
		t.Fatal(err)
	}
	q, err := c.Profile(CPU)
	if err != nil {
		t.Fatal(err)
	}
	if &p.Frames[0] == &c.Symbols.Frames[0] || &p.Frames[0] == &q.Frames[0] {
		t.Error("pseudo-frames were appended to the capture's frames")
	}
	if n := len(c.Symbols.Frames); n != 2 {
		t.Errorf("the capture has %d frames, want 2", n)
	}
}

func TestProfileUsesOnePseudoFrame(t *testing.T) {
	c := mustParseCapture(t, unsymbolized+"frame 1: [unknown]\nframe 2: [broken stack]\nlocation 1: frames=1\nlocation 2:\nstack 1: location=1\nstack 2: location=2\nseries: kind=cpu\n1 1\n2 1\n")
	p, err := c.Profile(CPU)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Frames) != 3 || p.Samples.Stack[0] != p.Samples.Stack[1] {
		t.Errorf("pseudo-frames are in the table twice: %v", p.Frames)
	}
}

func TestProfileWithoutSeries(t *testing.T) {
	_, err := NewCapture(Target{}, time.Time{}).Profile(Blocked)
	if !errors.Is(err, ErrNoSeries) || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("got %v, want ErrNoSeries that names the kind", err)
	}
}

func TestBroken(t *testing.T) {
	for text, want := range map[string]float64{
		"cpu ns":                     0,
		"cpu ns\n[broken stack];f 0": 0,
		"cpu ns\n[broken stack];f;g 10\nmain;f 30\n[broken stack] 20\n- 40": 0.3,
		"cpu ns\nmain;[broken stack] 10":                                    0,
	} {
		p, err := ParseProfile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Broken(); got != want {
			t.Errorf("%q: broken share %v, want %v", text, got, want)
		}
	}
}

func TestWarnCounts(t *testing.T) {
	c := NewCapture(Target{}, time.Time{})
	c.Warn(WarnLost, 2, "a")
	v := c.View()
	c.Warn(WarnCut, 1, "a")
	c.Warn(WarnLost, 3, "b")
	c.Warn(WarnLost, 5, "a")
	want := []Warning{{WarnLost, "a", 7}, {WarnCut, "a", 1}, {WarnLost, "b", 3}}
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("got %v, want %v", c.Warnings, want)
	}
	if v.Warnings[0].Count != 2 || len(v.Warnings) != 1 {
		t.Errorf("the view changed to %v", v.Warnings)
	}
}

func TestCaptureCheck(t *testing.T) {
	fresh := func() *Capture {
		return mustParseCapture(t, `capture
task 1: pid=7
mapping 1: kind=file
frame 1: f
location 1: mapping=1 frames=1
location 2: mapping=1
stack 1: location=1
stack 2: parent=1 location=2
series: kind=cpu unit=ns
1 1
2 1 time=1ns task=1
`)
	}
	for _, tt := range []struct {
		want  string
		spoil func(c *Capture)
	}{
		{"", func(c *Capture) {}},
		{"task 0 is not the zero task", func(c *Capture) { c.Tasks[0].PID = 1 }},
		{"task 0 is not the zero task", func(c *Capture) { c.Tasks = nil }},
		{"mapping 0 is not the zero mapping", func(c *Capture) { c.Mappings[0].Path = "x" }},
		{"mapping 0 is not the zero mapping", func(c *Capture) { c.Mappings = nil }},
		{"location 0 is not the zero location", func(c *Capture) { c.Locations[0].Addr = 1 }},
		{"location 0 is not the zero location", func(c *Capture) { c.Locations = nil }},
		{"location 2 has mapping 2 of 2", func(c *Capture) { c.Locations[2].Mapping = 2 }},
		{"no stacks", func(c *Capture) { c.Stacks = nil }},
		{"stack 0 is not the empty stack", func(c *Capture) { c.Stacks = StacksOf[LocationID](nil, nil) }},
		{"stack 0 is not the empty stack", func(c *Capture) { c.Stacks.frame[0] = 1 }},
		{"stack 0 is not the empty stack", func(c *Capture) { c.Stacks.frame = c.Stacks.frame[:2] }},
		{"stack 1 has parent 1, which does not come before it", func(c *Capture) { c.Stacks.parent[1] = 1 }},
		{"stack 2 has frame 3 of 3", func(c *Capture) { c.Stacks.frame[2] = 3 }},
		{"stack 2 has frame 0 of 3", func(c *Capture) { c.Stacks.frame[2] = 0 }},
		{"two series of kind cpu", func(c *Capture) { c.Series = append(c.Series, c.Series[0]) }},
		{"series cpu: sample columns differ in length", func(c *Capture) { c.Series[0].Samples.Task = make([]TaskID, 1) }},
		{"series cpu: sample columns differ in length", func(c *Capture) { c.Series[0].Samples.Time = nil }},
		{"series cpu: sample columns differ in length", func(c *Capture) { c.Series[0].Samples.Weight = make([]int64, 3) }},
		{"series cpu: sample columns differ in length", func(c *Capture) { c.Series[0].Samples.Count = make([]int64, 1) }},
		{"series cpu: sample 1 has stack 3 of 3", func(c *Capture) { c.Series[0].Samples.Stack[1] = 3 }},
		{"series cpu: sample 0 has task 2 of 2", func(c *Capture) { c.Series[0].Samples.Task[0] = 2 }},
		{"series cpu: samples are not in order of time", func(c *Capture) { c.Series[0].Samples.Time[0] = 2 }},
		{"frame 0 is not the zero frame", func(c *Capture) { c.Symbols.Frames[0].Line = 1 }},
		{"symbols of 4 locations, but there are 3", func(c *Capture) { c.Symbols.Of = make([][]FrameID, 4) }},
		{"location 0 has frames", func(c *Capture) { c.Symbols.Of[0] = []FrameID{1} }},
		{"location 1 has frame 2 of 2", func(c *Capture) { c.Symbols.Of[1][0] = 2 }},
		{"location 1 has frame 0 of 2", func(c *Capture) { c.Symbols.Of[1][0] = 0 }},
	} {
		c := fresh()
		tt.spoil(c)
		checkSays(t, c.Check(), "capture: ", tt.want)
	}
}

func checkSays(t *testing.T, err error, prefix, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("a sound table is said to break a law: %v", err)
	case want != "" && (err == nil || err.Error() != prefix+want):
		t.Errorf("got %v, want %s%s", err, prefix, want)
	}
}

func TestProfileCheck(t *testing.T) {
	fresh := func() *Profile {
		p, err := ParseProfile([]byte("cpu ns\ntask 1: pid=7\nf;g 1\nf 1 time=1ns task=1\n"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		want  string
		spoil func(p *Profile)
	}{
		{"", func(p *Profile) {}},
		{"frame 0 is not the zero frame", func(p *Profile) { p.Frames[0].Func = "x" }},
		{"frame 0 is not the zero frame", func(p *Profile) { p.Frames = nil }},
		{"no stacks", func(p *Profile) { p.Stacks = nil }},
		{"stack 2 has frame 2 of 2", func(p *Profile) { p.Frames = p.Frames[:2] }},
		{"task 0 is not the zero task", func(p *Profile) { p.Tasks[0].Comm = "x" }},
		{"task 0 is not the zero task", func(p *Profile) { p.Tasks = nil }},
		{"sample 0 has stack 3 of 3", func(p *Profile) { p.Samples.Stack[0] = 3 }},
		{"sample 1 has task 1 of 1", func(p *Profile) { p.Tasks = p.Tasks[:1] }},
		{"samples are not in order of time", func(p *Profile) { p.Samples.Time[0] = 2 }},
	} {
		p := fresh()
		tt.spoil(p)
		checkSays(t, p.Check(), "profile: ", tt.want)
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		l    Location
		want uint64
	}{
		{Location{Addr: 5}, 5}, {Location{Addr: 5, Return: true}, 4}, {Location{Return: true}, 0}, {Location{}, 0},
	} {
		if got := tt.l.Lookup(); got != tt.want {
			t.Errorf("%+v is looked up at %d, want %d", tt.l, got, tt.want)
		}
	}
}

// A stack whose walk ended for want of a caller is whole, whatever its outermost function is.
func TestProfileTrustsRoots(t *testing.T) {
	c := NewCapture(Target{Command: []string{"./prog"}}, time.Time{})
	c.Mappings = append(c.Mappings, Mapping{Kind: FileCode, Path: "/bin/prog"})
	c.Locations = append(c.Locations, Location{Mapping: 1, Addr: 0x10, Root: true}, Location{Mapping: 1, Addr: 0x10})
	c.Series = []Series{{Kind: CPU, Unit: Nanoseconds}}
	c.Symbols.Frames = []Frame{{}, {Func: "stripped"}}
	c.Symbols.Of = [][]FrameID{nil, {1}, {1}}
	for _, l := range []LocationID{1, 2} {
		c.Series[0].Samples.Append(Sample{Stack: c.Stacks.Intern(0, l), Count: 1, Weight: 1})
	}
	p, err := c.Profile(CPU)
	if err != nil {
		t.Fatal(err)
	}
	if b := p.Broken(); b != 0.5 {
		t.Errorf("broken share %v, want a half", b)
	}
}

func TestBrokenWarning(t *testing.T) {
	for _, b := range []Broken{
		{Module: "/lib/a: b.so", Reason: "no rows", Remedy: "build it anew; or not", Count: 3},
		{Module: "//anon", Reason: "cut by copy", Count: 1},
	} {
		if got, ok := b.Warning().Broken(); !ok || got != b {
			t.Errorf("%+v came back as %+v, %v", b, got, ok)
		}
	}
	if _, ok := (Warning{Kind: WarnLost, Text: "x: callers are missing: y"}).Broken(); ok {
		t.Error("a warning of another kind")
	}
}

// Nothing calls an entry function: what a walk found outside of one is junk and left out, and the
// stack is whole. A stack that ends within the junk is broken.
func TestProfileDropsWhatIsOutsideAnEntry(t *testing.T) {
	c := NewCapture(Target{Command: []string{"./prog"}}, time.Time{})
	c.Mappings = append(c.Mappings, Mapping{Kind: FileCode, Path: "/bin/prog"})
	for addr := range uint64(3) {
		c.Locations = append(c.Locations, Location{Mapping: 1, Addr: 0x10 * (addr + 1)})
	}
	c.Series = []Series{{Kind: CPU, Unit: Nanoseconds}}
	c.Symbols.Frames = []Frame{{}, {Func: "junk"}, {Func: "mstart", Entry: true}, {Func: "schedule"}}
	c.Symbols.Of = [][]FrameID{nil, {1}, {2}, {3}}
	junk := c.Stacks.Intern(0, 1)
	mstart := c.Stacks.Intern(junk, 2)
	schedule := c.Stacks.Intern(mstart, 3)
	again := c.Stacks.Intern(schedule, 2) // an entry function within a whole stack cuts nothing
	for _, id := range []StackID{junk, schedule, again} {
		c.Series[0].Samples.Append(Sample{Stack: id, Count: 1, Weight: 1})
	}
	p, err := c.Profile(CPU)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, id := range p.Samples.Stack {
		var names []string
		for _, f := range p.Stacks.RootFirst(id, nil) {
			names = append(names, p.Frames[f].Func)
		}
		got = append(got, strings.Join(names, ";"))
	}
	want := []string{"[broken stack];junk", "mstart;schedule", "mstart;schedule;mstart"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	if b := p.Broken(); b != 1.0/3 {
		t.Errorf("broken share %v, want a third", b)
	}
}

// A Follower's profile of each view of a growing capture is the view's own.
func TestFollower(t *testing.T) {
	text := unsymbolized + `frame 1: main.main@x.go:3|entry
frame 2: [unknown]
frame 3: outer@x.go:7
frame 4: inner@x.go:9|inlined
location 1: mapping=1 addr=1 frames=1
location 2: mapping=1 addr=2 frames=2
location 3: mapping=1 addr=3 frames=4,3
location 4: mapping=2 addr=4
stack 1: location=1
stack 2: parent=1 location=3
stack 3: location=2
stack 4: parent=3 location=3
stack 5: parent=2 location=1
stack 6: location=4
series: kind=cpu unit=ns
2 10
4 20
1 5
5 3
6 7
`
	whole := mustParseCapture(t, text)
	var f Follower
	parents, locations := whole.Stacks.Columns()
	for n := 1; n <= len(parents); n++ {
		view := *whole
		view.Stacks = StacksOf(parents[:n:n], locations[:n:n])
		frames := FrameID(0)
		for _, l := range locations[:n] {
			if int(l) < len(whole.Symbols.Of) {
				for _, id := range whole.Symbols.Of[l] {
					frames = max(frames, id)
				}
			}
		}
		view.Symbols.Frames = whole.Symbols.Frames[:frames+1]
		view.Series = nil
		for _, s := range whole.Series {
			samples := Samples{}
			for i := range s.Samples.Len() {
				if x := s.Samples.At(i); int(x.Stack) < n {
					samples.Append(x)
				}
			}
			s.Samples = samples
			view.Series = append(view.Series, s)
		}
		got, err := f.Profile(&view, CPU)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Check(); err != nil {
			t.Fatal(err)
		}
		want, err := view.Profile(CPU)
		if err != nil {
			t.Fatal(err)
		}
		if lines(got) != lines(want) {
			t.Errorf("%d stacks:\n%s\nwant:\n%s", n, lines(got), lines(want))
		}
	}
	// What does not continue the view before is a capture of its own.
	other := mustParseCapture(t, unsymbolized+"frame 1: other@o.c:1\nlocation 1: mapping=1 frames=1\nstack 1: location=1\nseries: kind=cpu unit=ns\n1 3\n")
	got, err := f.Profile(other, CPU)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := other.Profile(CPU)
	if lines(got) != lines(want) {
		t.Errorf("another capture:\n%s\nwant:\n%s", lines(got), lines(want))
	}
}
