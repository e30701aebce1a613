package view

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// viewer is a million samples on 100,000 unique stacks of depth 30, of 5,000 frames in 40 modules, from
// 50 tasks, in two versions that differ in who is hot.
var viewer = sync.OnceValue(func() [2]*profile.Profile { return [2]*profile.Profile{viewerProfile(1), viewerProfile(2)} })

func viewerProfile(seed uint64) *profile.Profile {
	const samples, unique, depth, frames, tasks = 1_000_000, 100_000, 30, 5_000, 50
	r := rand.New(rand.NewPCG(7, 7))
	p := &profile.Profile{
		Kind: profile.CPU, Unit: profile.Nanoseconds, Length: time.Minute,
		Frames: make([]profile.Frame, 1, frames+1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1),
	}
	for i := range tasks {
		p.Tasks = append(p.Tasks, profile.Task{PID: 100 + i/10, TID: 100 + i, Comm: "worker" + strconv.Itoa(i)})
	}
	for i := range frames {
		module := "/usr/lib/lib" + strconv.Itoa(i%40) + "-2.1.so"
		function := "function_" + strconv.Itoa(i)
		if i%2 == 0 {
			module, function = "/home/user/bin/program", "example.com/module/package"+strconv.Itoa(i/100)+".(*Type).Method"+strconv.Itoa(i)
		}
		p.Frames = append(p.Frames, profile.Frame{Func: function, Module: module, File: "/src/file" + strconv.Itoa(i/50) + ".go", Line: 10 * (i % 50), StartLine: 10 * (i % 50)})
	}
	stacks := make([]profile.StackID, unique)
	path := make([]profile.FrameID, depth)
	for i := range stacks {
		shared := 0
		if i > 0 {
			shared = 20 + r.IntN(10)
			p.Stacks.RootFirst(stacks[r.IntN(i)], path)
		}
		for k := shared; k < depth; k++ {
			path[k] = profile.FrameID(1 + r.IntN(frames))
		}
		for _, f := range path {
			stacks[i] = p.Stacks.Intern(stacks[i], f)
		}
	}
	r = rand.New(rand.NewPCG(seed, seed))
	for i := range samples {
		k := min(r.IntN(unique), r.IntN(unique))
		p.Samples.Append(profile.Sample{Stack: stacks[k], Task: profile.TaskID(1 + r.IntN(tasks)), Time: time.Duration(i) * 60 * time.Microsecond, Count: 1, Weight: 1_001_001})
	}
	return p
}

var busy = Filter{Group: "[group module entries] {%}!=>module $1", Fold: "lib7-;function_1*9", Include: "program!*Method4|lib3"}

// BenchmarkStacks answers: how long does a person wait for a view of the stack viewer after changing a
// field? The budget is 50 ms for the views, 150 ms for a difference from its two profiles.
func BenchmarkStacks(b *testing.B) {
	two := viewer()
	s := NewSource(two[0])
	filter := func(b *testing.B, s *Source, f Filter) *Selection {
		b.Helper()
		sel, err := s.Filter(b.Context(), f)
		if err != nil {
			b.Fatal(err)
		}
		return sel
	}
	plain := filter(b, s, Filter{})
	focus := plain.ByName(NoColumns).Rows[3].Name
	for _, view := range []struct {
		name    string
		compute func(b *testing.B)
	}{
		{"source", func(b *testing.B) { NewSource(two[0]) }},
		{"filter-nothing", func(b *testing.B) { filter(b, s, Filter{}) }},
		{"group+fold+include+by-name", func(b *testing.B) { filter(b, s, busy).ByName(NoColumns) }},
		{"group+fold+include+by-name+columns", func(b *testing.B) { filter(b, s, busy).ByName(AllColumns) }},
		{"by-name+columns", func(b *testing.B) { filter(b, s, Filter{}).ByName(AllColumns) }},
		{"range+by-name", func(b *testing.B) { filter(b, s, Filter{Start: 10_000, End: 20_000}).ByName(NoColumns) }},
		{"call-tree-level-1", func(b *testing.B) { filter(b, s, busy).Tree(NoColumns).Children() }},
		{"call-tree-level-1+columns", func(b *testing.B) { filter(b, s, busy).Tree(AllColumns).Children() }},
		{"call-tree-whole", func(b *testing.B) { plain.Tree(NoColumns).Expand(TreeOptions{}) }},
		{"fold-percent-1", func(b *testing.B) { filter(b, s, Filter{FoldPercent: 1}).Tree(NoColumns).Children() }},
		{"caller-callee", func(b *testing.B) { _, _ = filter(b, s, Filter{}).CallerCallee(focus, NoColumns) }},
		{"callers-level-1", func(b *testing.B) { x, _ := filter(b, s, Filter{}).Callers(focus, NoColumns); x.Children() }},
		{"lines", func(b *testing.B) { _, _ = plain.Lines("") }},
		{"flame-1%", func(b *testing.B) { plain.Flame(FlameOptions{MinWidth: 0.01}) }},
		{"timeline", func(b *testing.B) { _, _ = plain.Timeline(100) }},
		{"tasks", func(b *testing.B) { filter(b, NewSource(two[0]), Filter{Tasks: true}).ByName(NoColumns) }},
		{"diff", func(b *testing.B) {
			d, err := NewDiff(two[0], two[1])
			if err != nil {
				b.Fatal(err)
			}
			filter(b, d, busy).ByName(NoColumns)
		}},
	} {
		b.Run("view="+view.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				view.compute(b)
			}
			report(b, two[0])
		})
	}
}

// BenchmarkStacksMemory answers: how much memory does the stack viewer take for each entry of the tree
// of stacks, beside the profile? The budget is 64 bytes and 24 for each sample, which are the profile's.
func BenchmarkStacksMemory(b *testing.B) {
	p := viewer()[0]
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := NewSource(p)
		sel, err := s.Filter(b.Context(), busy)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(p.Stacks.Len()), "B/stack")
		runtime.KeepAlive(sel)
	}
}
