package store

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func sortSources(s []profile.Source) {
	slices.SortFunc(s, func(a, b profile.Source) int { return cmp.Compare(a.Path, b.Path) })
}

// odd is a capture with what generated ones lack: numbers at their limits, counts, several series,
// strings of all sorts.
func odd() *profile.Capture {
	c := profile.NewCapture(profile.Target{PID: 7, Machine: true, Dir: "/tmp/ü\x00\xff", Command: []string{"", "a b"}}, time.Time{})
	c.Length = math.MaxInt64
	c.Tasks = append(c.Tasks,
		profile.Task{PID: math.MaxInt, TID: math.MinInt, Parent: -1, Comm: "\xff\x00"},
		profile.Task{PID: 1, TID: 1, Comm: ""},
	)
	c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.Anonymous, Path: "", BuildID: "x", Deleted: true, Offsets: true})
	c.Locations = append(c.Locations,
		profile.Location{Mapping: 1, Addr: math.MaxUint64, Return: true},
		profile.Location{Mapping: 1, Addr: 5, Return: true, Root: true},
		profile.Location{Addr: 0},
		profile.Location{Mapping: 1, Addr: 1 << 63},
	)
	a := c.Stacks.Intern(0, 3) // not in order of the locations
	b := c.Stacks.Intern(a, 3)
	d := c.Stacks.Intern(a, 1)
	e := c.Stacks.Intern(0, 2)
	for i, kind := range []profile.Kind{profile.CPU, profile.Blocked, "another kind"} {
		s := profile.Series{Kind: kind, Unit: profile.Cycles, Source: profile.Milliseconds, Period: []int64{0, -1, math.MaxInt64}[i]}
		if i != 1 {
			s.Samples.Append(profile.Sample{Stack: b, Task: 2, Time: math.MinInt64, Count: 1, Weight: math.MaxInt64})
			s.Samples.Append(profile.Sample{Stack: 0, Task: 0, Time: -1, Count: 1, Weight: math.MinInt64})
			s.Samples.Append(profile.Sample{Stack: d, Task: 1, Time: math.MaxInt64, Count: []int64{1, 0, -5}[i], Weight: 0})
			s.Samples.Append(profile.Sample{Stack: e, Task: 1, Time: math.MaxInt64, Count: 1, Weight: 4})
		}
		c.Series = append(c.Series, s)
	}
	c.Warnings = []profile.Warning{{Kind: "", Text: "", Count: -1}}
	c.Symbols = profile.Symbols{
		Frames: []profile.Frame{{}, {Func: "a", Line: math.MaxInt, StartLine: math.MinInt, Column: -1}, {File: "b", Inlined: true, Entry: true}},
		Of:     [][]profile.FrameID{nil, {2, 1, 2}, nil},
		Sources: []profile.Source{
			{Path: "", Text: []byte{}},
			{Path: "a", Local: "/a", Text: []byte("text")},
			{Path: "b", Note: "not found"},
		},
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	uniform := profile.NewCapture(profile.Target{}, time.Unix(5, 0).UTC())
	uniform.Series = []profile.Series{{Kind: profile.CPU, Unit: profile.Nanoseconds, Period: 1000}}
	uniform.Locations = append(uniform.Locations, profile.Location{Addr: 1})
	uniform.Stacks.Intern(0, 1)
	for i := range 300_000 {
		uniform.Series[0].Samples.Append(profile.Sample{Stack: 1, Time: time.Duration(i) * 1000, Count: 1, Weight: 1000})
	}
	for name, want := range map[string]*profile.Capture{
		"empty":     profile.NewCapture(profile.Target{}, time.Time{}),
		"odd":       odd(),
		"generated": generateOnce(small),
		"narrow":    generateOnce(narrow),
		"uniform":   uniform, // compresses so well that its record must be padded
	} {
		t.Run(name, func(t *testing.T) {
			if err := want.Check(); err != nil {
				t.Fatal(err)
			}
			s := open(t, Options{})
			m := must[Meta](t)(s.Put(want))
			if d := diff(want, must[*profile.Capture](t)(s.Load(m.ID))); d != "" {
				t.Error(d)
			}
			list := must[[]Meta](t)(s.List())
			if len(list) != 1 {
				t.Fatalf("%d captures are listed", len(list))
			}
			for i, k := range list[0].Kinds {
				sum := want.Series[i].Samples.Sum()
				got := KindMeta{want.Series[i].Kind, want.Series[i].Unit, want.Series[i].Period, want.Series[i].Samples.Len(), sum.Count, sum.Weight}
				if k != got {
					t.Errorf("listed as %+v, is %+v", k, got)
				}
			}
		})
	}
}

// What is stored in pieces is what was stored at once, whatever grows in between.
func TestChunks(t *testing.T) {
	c := generateOnce(small)
	counted := c.View()
	counted.Series[0].Samples.Count = make([]int64, small.samples)
	for i := range counted.Series[0].Samples.Count {
		counted.Series[0].Samples.Count[i] = 1 + int64(i/700) // ones, until others appear
	}
	for _, want := range []*profile.Capture{c, counted} {
		got := profile.NewCapture(c.Target, c.Start)
		at, wrote := start(), start()
		for _, n := range []int{0, 1, 2, 300, 300, 650, 1000} {
			p := prefix(want, n)
			if n < 650 {
				p.Series[0].Samples.Count = nil
			}
			to, _ := marksOf(p, wrote, math.MaxInt)
			if err := decodeChunk(got, &at, encodeChunk(p, wrote, to, nil, nil)); err != nil {
				t.Fatal(err)
			}
			wrote = to
			if err := got.Check(); err != nil {
				t.Fatalf("after %d: %v", n, err)
			}
		}
		all := *prefix(want, 1000)
		got.Engine, got.Machine, got.Length, got.Warnings = all.Engine, all.Machine, all.Length, all.Warnings
		if d := diff(&all, got); d != "" {
			t.Error(d)
		}
	}
}

// A chunk that is missing, or there twice, is an error and not a shift of all numbers.
func TestChunkOutOfOrder(t *testing.T) {
	c := generateOnce(small)
	half, _ := marksOf(c, start(), 500) // all tables
	whole, _ := marksOf(c, half, 500)   // samples only
	first, second := encodeChunk(c, start(), half, nil, nil), encodeChunk(c, half, whole, nil, nil)
	for name, records := range map[string][][]byte{
		"missing": {second}, "first twice": {first, first}, "second twice": {first, second, second},
	} {
		got, at := profile.NewCapture(c.Target, c.Start), start()
		for i, record := range records {
			if err := decodeChunk(got, &at, record); (err != nil) != (i == len(records)-1) {
				t.Errorf("%s: chunk %d: %v", name, i, err)
			}
		}
	}
}

// A capture of very many samples is more than one chunk.
func TestSplit(t *testing.T) {
	c := generateOnce(small)
	got := profile.NewCapture(c.Target, c.Start)
	at, wrote := start(), start()
	chunks := 0
	for all := false; !all; chunks++ {
		var to marks
		to, all = marksOf(c, wrote, 300)
		if err := decodeChunk(got, &at, encodeChunk(c, wrote, to, nil, nil)); err != nil {
			t.Fatal(err)
		}
		wrote = to
	}
	if chunks != 4 {
		t.Errorf("%d chunks of 300 for 1,000 samples", chunks)
	}
	if d := diff(c, &profile.Capture{
		Target: c.Target, Engine: c.Engine, Machine: c.Machine, Start: c.Start, Length: c.Length,
		Tasks: got.Tasks, Mappings: got.Mappings, Locations: got.Locations, Stacks: got.Stacks, Series: got.Series,
		Symbols: c.Symbols, Warnings: c.Warnings,
	}); d != "" {
		t.Error(d)
	}
}

// A record makes its reader allocate no more than the law of record.go allows.
func TestRecordsAreBounded(t *testing.T) {
	for name, build := range map[string]func(e *encoder){
		"tasks": func(e *encoder) { e.uint(1); e.uint(1 << 40) },
		"samples": func(e *encoder) {
			for _, table := range []uint64{1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1} {
				e.uint(table)
			}
			e.string("cpu")
			e.string("ns")
			e.int(1)
			e.uint(0)
			e.uint(1 << 30)
			for range 5 {
				e.byte(columnConstant)
				e.uint(0)
			}
		},
	} {
		e := &encoder{}
		build(e)
		e.cost = 0
		at := start()
		var err error
		allocated := testing.AllocsPerRun(1, func() {
			err = decodeChunk(profile.NewCapture(profile.Target{}, time.Time{}), &at, e.seal(recordChunk))
		})
		if err == nil {
			t.Errorf("%s: a record of %d bytes was read with %v allocations", name, len(e.b), allocated)
		}
	}
	// An honest record stays readable however well it compresses.
	e := &encoder{}
	e.bytes(make([]byte, 32<<20))
	d, err := unseal(recordText, e.seal(recordText))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.bytes(); len(got) != 32<<20 || d.done() != nil {
		t.Errorf("%d bytes, %v", len(got), d.done())
	}
}
