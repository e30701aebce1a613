package profile

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// nasty are strings that a text form stumbles over.
var nasty = []string{
	"", "-", " ", "main", "main.(*T).Run", "std::sort<int>(int*, int*)", "operator;", "memcpy@GLIBC_2.14",
	"vec!", "a|b", `"`, `\`, "#", "# comment", "start:", "task 1:", "x:", "[broken stack]", "[a b", "[a b] c", "[;]", `["]`,
	"new\nline", "carriage\r", "tab\t", "nul\x00", "\xff\xfe", "𝄞é", "\u2028", "\ufeff", "\ufffd", "/go/pkg/mod/a@v1.2.3/!burnt/x.go",
	`C:\x.go`, "inlined", "start=1", "pid=7", "1", "0x1", "|", ";", "!", "@",
}

// randomCapture makes a capture that satisfies Check, using words besides the nasty ones.
func randomCapture(seed uint64, words ...string) *Capture {
	r := rand.New(rand.NewPCG(seed, 1))
	words = append(words, nasty...)
	word := func() string { return words[r.IntN(len(words))] }
	number := func() int {
		switch r.IntN(8) {
		case 0:
			return math.MinInt
		case 1:
			return math.MaxInt
		case 2, 3, 4:
			return 0
		}
		return r.IntN(1000)
	}
	coin := func() bool { return r.IntN(2) == 0 }

	c := NewCapture(Target{
		Dir: word(), PID: number(), Machine: coin(), Package: word(), Run: word(), Bench: word(),
	}, time.Time{})
	for range r.IntN(4) {
		c.Target.Command = append(c.Target.Command, word())
	}
	c.Engine, c.Machine, c.Interrupted, c.Imported, c.Length = word(), word(), coin(), coin(), time.Duration(number())
	switch r.IntN(4) {
	case 0:
		c.Start = time.Unix(r.Int64N(4e9), r.Int64N(1e9))
	case 1:
		c.Start = time.Unix(r.Int64(), r.Int64N(1e9))
	case 2:
		c.Start = time.Date(r.IntN(10000), 1, 1, 0, 0, 0, 1, time.FixedZone("x", 3601))
	}
	for range r.IntN(4) {
		c.Tasks = append(c.Tasks, Task{PID: number(), TID: number(), Parent: number(), Comm: word()})
	}
	for range r.IntN(4) {
		c.Mappings = append(c.Mappings, Mapping{
			Kind: MappingKind(r.IntN(7)), Path: word(), BuildID: word(), Deleted: coin(), Offsets: coin(),
		})
	}
	if coin() {
		c.Symbols.Frames = make([]Frame, 1)
		for range r.IntN(8) {
			c.Symbols.Frames = append(c.Symbols.Frames, randomFrame(r, word, number))
		}
	}
	for range r.IntN(8) {
		c.Locations = append(c.Locations, Location{
			Mapping: MappingID(r.IntN(len(c.Mappings))), Addr: r.Uint64() >> r.IntN(64), Return: coin(), Root: coin(),
		})
	}
	if len(c.Symbols.Frames) > 1 {
		c.Symbols.Of = make([][]FrameID, 1+r.IntN(len(c.Locations)))
		for l := 1; l < len(c.Symbols.Of); l++ {
			for range r.IntN(3) {
				c.Symbols.Of[l] = append(c.Symbols.Of[l], FrameID(1+r.IntN(len(c.Symbols.Frames)-1)))
			}
		}
	}
	if len(c.Locations) > 1 {
		for range r.IntN(20) {
			parent := StackID(r.IntN(c.Stacks.Len()))
			c.Stacks.Intern(parent, LocationID(1+r.IntN(len(c.Locations)-1)))
		}
	}
	for _, kind := range []Kind{CPU, Alloc, Kind(word() + "x")}[:r.IntN(4)] {
		s := Series{Kind: kind, Unit: Unit(word()), Source: Unit(word()), Period: int64(number())}
		var at time.Duration
		for range r.IntN(10) {
			at += time.Duration(r.IntN(3)) * time.Duration(r.IntN(1e9))
			x := Sample{
				Stack: StackID(r.IntN(c.Stacks.Len())), Task: TaskID(r.IntN(len(c.Tasks))),
				Time: at, Count: 1, Weight: int64(number()),
			}
			if r.IntN(4) == 0 {
				x.Count = int64(number())
			}
			s.Samples.Append(x)
		}
		if c.Of(kind) == nil {
			c.Series = append(c.Series, s)
		}
	}
	for range r.IntN(3) {
		s := Source{Path: word(), Local: word(), Note: word()}
		for range r.IntN(4) {
			s.Text = append(s.Text, word()...)
			if coin() {
				s.Text = append(s.Text, '\n')
			}
		}
		if s.Text == nil && coin() {
			s.Text = []byte{} // an empty file is not a missing one
		}
		c.Symbols.Sources = append(c.Symbols.Sources, s)
	}
	for range r.IntN(3) {
		c.Warnings = append(c.Warnings, Warning{Kind: WarningKind(word()), Text: word(), Count: int64(number())})
	}
	return c
}

func randomFrame(r *rand.Rand, word func() string, number func() int) Frame {
	f := Frame{Func: word(), Inlined: r.IntN(4) == 0, Entry: r.IntN(4) == 0}
	if r.IntN(2) == 0 {
		f.Module = word()
	}
	if r.IntN(2) == 0 {
		f.File, f.Line = word(), number()
	}
	if r.IntN(4) == 0 {
		f.Column, f.StartLine = number(), number()
	}
	return f
}

// equal compares captures and profiles as the text forms promise to keep them.
var equal = cmp.Options{
	cmp.Transformer("columns", func(s *Stacks[LocationID]) [2]any {
		p, f := s.Columns()
		return [2]any{p, f}
	}),
	cmp.Transformer("columns", func(s *Stacks[FrameID]) [2]any {
		p, f := s.Columns()
		return [2]any{p, f}
	}),
	cmp.Transformer("samples", func(s Samples) []Sample {
		x := make([]Sample, s.Len())
		for i := range x {
			x[i] = s.At(i)
		}
		return x
	}),
	cmp.Comparer(func(a, b Symbols) bool {
		trim := func(of [][]FrameID) [][]FrameID {
			for len(of) > 0 && len(of[len(of)-1]) == 0 {
				of = of[:len(of)-1]
			}
			return of
		}
		if len(a.Frames) == 1 {
			a.Frames = nil
		}
		if len(b.Frames) == 1 {
			b.Frames = nil
		}
		return slices.Equal(a.Frames, b.Frames) &&
			cmp.Equal(trim(a.Of), trim(b.Of), cmpopts.EquateEmpty()) &&
			slices.EqualFunc(a.Sources, b.Sources, func(a, b Source) bool {
				return a.Path == b.Path && a.Local == b.Local && a.Note == b.Note &&
					string(a.Text) == string(b.Text) && (a.Text == nil) == (b.Text == nil)
			})
	}),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.IsZero() == b.IsZero() }),
	cmpopts.EquateEmpty(),
}
