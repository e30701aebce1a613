package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A shape describes a generated capture.
type shape struct {
	samples int
	stacks  int // distinct stacks of samples
	depth   int // of a stack, on average
	cpus    int
	threads int
	files   int // source files with a text of some kilobytes
}

// The shapes of the benchmarks: a program that does many things, one that does few, a short test.
var (
	wide   = shape{samples: 100_000, stacks: 20_000, depth: 30, cpus: 2, threads: 8, files: 200}
	narrow = shape{samples: 100_000, stacks: 2_000, depth: 30, cpus: 2, threads: 8, files: 60}
	small  = shape{samples: 1_000, stacks: 150, depth: 15, cpus: 2, threads: 4, files: 12}
)

// generate makes a capture as a recorder of 999 Hz on some processors would: each has a timer of
// its own that is late by microseconds, stacks come from walks through a call graph whose edges
// differ in weight, hot stacks are hot in Zipf's way, and threads move now and then.
func generate(sh shape, seed uint64) *profile.Capture {
	r := rand.New(rand.NewPCG(seed, 1))
	c := profile.NewCapture(profile.Target{
		Command: []string{"./fib.test", "-test.run", "TestFib"}, Dir: "/src/fib",
		Package: "example.org/fib", Run: "TestFib",
	}, time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC))
	c.Engine, c.Machine = "bpf", "Linux 6.18.44 x86_64, 2 CPUs"
	c.Mappings = append(c.Mappings,
		profile.Mapping{Kind: profile.FileCode, Path: "/tmp/go-build1/fib.test", BuildID: "8f3c1e", Deleted: true},
		profile.Mapping{Kind: profile.KernelCode, Path: profile.Kernel},
		profile.Mapping{Kind: profile.FileCode, Path: "/usr/lib/libc.so.6", Offsets: true},
	)
	for i := range sh.threads {
		c.Tasks = append(c.Tasks, profile.Task{PID: 4000, TID: 4000 + i, Parent: 3990, Comm: []string{"fib.test", "worker"}[min(i, 1)]})
	}

	// The call graph: each function has some call sites, each of which has one callee, and some
	// hot instructions.
	type function struct {
		addr    uint64
		mapping profile.MappingID
		callees []int
	}
	functions := make([]function, max(20, sh.stacks/10))
	for i := range functions {
		f := &functions[i]
		f.mapping = 1
		if i > len(functions)*9/10 {
			f.mapping = 2 + profile.MappingID(r.IntN(2))
		}
		f.addr = 0x401000 + uint64(r.IntN(12<<20))
		for range 1 + r.IntN(4) {
			f.callees = append(f.callees, min(len(functions)-1, i+1+int(math.Abs(r.NormFloat64())*float64(len(functions))/float64(sh.depth))))
		}
	}
	locations := map[profile.Location]profile.LocationID{}
	locate := func(l profile.Location) profile.LocationID {
		id, ok := locations[l]
		if !ok {
			id = profile.LocationID(len(c.Locations))
			locations[l] = id
			c.Locations = append(c.Locations, l)
		}
		return id
	}
	zipf := func(n int) int { return int(float64(n) * math.Pow(r.Float64(), 3)) }
	seen := map[profile.StackID]bool{}
	type walk []profile.Location
	var walks []walk
	probe := profile.NewStacks[profile.LocationID]() // only to count distinct stacks
	probeLoc := map[profile.Location]profile.LocationID{}
	for tries := 0; len(walks) < sh.stacks && tries < 50*sh.stacks; tries++ {
		var w walk
		at := zipf(3)
		for d := 0; ; d++ {
			f := &functions[at]
			if len(f.callees) == 0 || at == len(functions)-1 || d > sh.depth/2 && r.IntN(sh.depth/2+1) == 0 {
				w = append(w, profile.Location{Mapping: f.mapping, Addr: f.addr + uint64(4*zipf(60))})
				break
			}
			site := zipf(len(f.callees))
			w = append(w, profile.Location{Mapping: f.mapping, Addr: f.addr + uint64(20*site+5), Return: true})
			at = f.callees[site]
		}
		id := profile.StackID(0)
		for _, l := range w {
			if _, ok := probeLoc[l]; !ok {
				probeLoc[l] = profile.LocationID(len(probeLoc) + 1)
			}
			id = probe.Intern(id, probeLoc[l])
		}
		if !seen[id] {
			seen[id] = true
			walks = append(walks, w)
		}
	}

	const period = 1001001
	s := profile.Series{Kind: profile.CPU, Unit: profile.Nanoseconds, Period: period}
	next := make([]time.Duration, sh.cpus)
	task := make([]profile.TaskID, sh.cpus)
	for i := range next {
		next[i] = time.Duration(r.IntN(period))
		task[i] = profile.TaskID(1 + i%sh.threads)
	}
	jitter := func() time.Duration {
		j := math.Abs(r.NormFloat64()) * 2500
		if r.IntN(50) == 0 {
			j += r.ExpFloat64() * 60000
		}
		return time.Duration(j)
	}
	at := make([]time.Duration, sh.cpus)
	for i := range at {
		at[i] = next[i] + jitter()
	}
	for n := 0; n < sh.samples; n++ {
		cpu := 0
		for i := range at {
			if at[i] < at[cpu] {
				cpu = i
			}
		}
		if r.IntN(30) == 0 {
			task[cpu] = profile.TaskID(1 + r.IntN(sh.threads))
		}
		// The first time round every stack once, somewhere; then by weight.
		var w walk
		if n%(sh.samples/len(walks)) == 0 && n/(sh.samples/len(walks)) < len(walks) {
			w = walks[n/(sh.samples/len(walks))]
		} else {
			w = walks[zipf(len(walks))]
		}
		id := profile.StackID(0)
		for _, l := range w {
			id = c.Stacks.Intern(id, locate(l))
		}
		s.Samples.Append(profile.Sample{Stack: id, Task: task[cpu], Time: at[cpu], Count: 1, Weight: period})
		next[cpu] += period
		if r.IntN(40) == 0 { // the processor was idle
			next[cpu] += time.Duration(r.IntN(20)) * period
		}
		at[cpu] = max(at[cpu]+1, next[cpu]+jitter())
	}
	c.Series = append(c.Series, s)
	c.Length = s.Samples.Time[s.Samples.Len()-1] + time.Millisecond
	c.Warn(profile.WarnLost, 3, "3 samples were lost.")
	symbolize(c, sh.files, r)
	return c
}

// symbolize gives each location a frame or two, in files with a text.
func symbolize(c *profile.Capture, files int, r *rand.Rand) {
	c.Symbols.Frames = make([]profile.Frame, 1)
	c.Symbols.Of = make([][]profile.FrameID, len(c.Locations))
	known := map[profile.Frame]profile.FrameID{}
	frame := func(f profile.Frame) profile.FrameID {
		id, ok := known[f]
		if !ok {
			id = profile.FrameID(len(c.Symbols.Frames))
			known[f] = id
			c.Symbols.Frames = append(c.Symbols.Frames, f)
		}
		return id
	}
	path := func(i uint64) string { return fmt.Sprintf("/src/module/internal/package%02d/file%03d.go", i%17, i) }
	for id := 1; id < len(c.Locations); id++ {
		l := c.Locations[id]
		function := l.Addr >> 8
		file := path(function % uint64(files))
		of := profile.Frame{
			Func: fmt.Sprintf("example.org/module/internal/package%02d.(*Type%d).method%d", function%uint64(files)%17, function%97, function),
			File: file, StartLine: int(function % 900), Line: int(function%900 + l.Lookup()&0xff/4),
			Module: c.Mappings[l.Mapping].Path, Entry: id == 1,
		}
		if r.IntN(3) == 0 {
			in := profile.Frame{Func: fmt.Sprintf("slices.inlined%d", function%211), File: file, StartLine: 10, Line: 11 + int(l.Addr%7), Module: of.Module, Inlined: true}
			c.Symbols.Of[id] = append(c.Symbols.Of[id], frame(in))
		}
		c.Symbols.Of[id] = append(c.Symbols.Of[id], frame(of))
	}
	for i := range files {
		p := path(uint64(i))
		text := make([]byte, 0, 20<<10)
		text = append(text, fmt.Sprintf("package package%02d // file %d\n", i%17, i)...)
		src := rand.New(rand.NewPCG(uint64(i), 2)) // the same file in every capture
		for n := range 300 {
			text = append(text, fmt.Sprintf("\tv%d := compute%d(a[%d], %q)\n", n, src.IntN(50), src.IntN(1000), path(uint64(src.IntN(50))))...)
		}
		c.Symbols.Sources = append(c.Symbols.Sources, profile.Source{Path: p, Local: "/home/me" + p, Text: text})
	}
	sortSources(c.Symbols.Sources)
}
