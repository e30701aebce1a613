package view

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/driver"
	pprof "github.com/google/pprof/profile"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// million is 1,000,000 samples on 100,000 unique stacks of depth 30, of 20,000 frames of 4,000
// functions in 200 files. A stack shares its first 20 to 29 frames with an earlier one, as stacks of
// real programs do; samples come in random order, a few stacks hot.
var million = sync.OnceValue(func() *profile.Profile {
	const samples, unique, depth, frames, functions = 1_000_000, 100_000, 30, 20_000, 4_000
	r := rand.New(rand.NewPCG(1, 1))
	p := &profile.Profile{
		Kind: profile.CPU, Unit: profile.Nanoseconds, Length: time.Minute,
		Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 9),
	}
	for i := range frames {
		fn := i % functions
		p.Frames = append(p.Frames, profile.Frame{
			Func:   "example.com/module/package" + strconv.Itoa(fn/40) + ".(*Type).Method" + strconv.Itoa(fn),
			File:   "/src/module/package" + strconv.Itoa(fn/20) + "/file.go",
			Line:   100*(fn%20) + i/functions,
			Module: "/usr/bin/program", StartLine: 100 * (fn % 20),
		})
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
	for i := range samples {
		k := min(r.IntN(unique), r.IntN(unique))
		p.Samples.Append(profile.Sample{
			Stack: stacks[k], Task: profile.TaskID(r.IntN(9)), Time: time.Duration(i) * time.Microsecond, Count: 1, Weight: 1_001_001,
		})
	}
	return p
})

// BenchmarkView answers: how long does a person wait for a view of a million samples? The budget is
// 50 ms for each, from the profile to the rows.
func BenchmarkView(b *testing.B) {
	p := million()
	for _, view := range []struct {
		name    string
		compute func()
	}{
		{"sums", func() { NewSums(p) }},
		{"lines", func() { Lines(p) }},
		{"by-name", func() { ByName(p) }},
		{"detail", func() { DetailOf(p, p.Frames[7].File, p.Frames[7].Line) }},
	} {
		b.Run("view="+view.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				view.compute()
			}
			report(b, p)
		})
	}
}

// BenchmarkViewAgain is the cost of a further view of the same Sums: what a hover pays.
func BenchmarkViewAgain(b *testing.B) {
	p := million()
	s := NewSums(p)
	for _, view := range []struct {
		name    string
		compute func()
	}{
		{"lines", func() { s.Lines() }},
		{"by-name", func() { s.ByName() }},
		{"detail", func() { s.DetailOf(p.Frames[7].File, p.Frames[7].Line) }},
	} {
		b.Run("view="+view.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				view.compute()
			}
			report(b, p)
		})
	}
}

func report(b *testing.B, p *profile.Profile) {
	ms := float64(b.Elapsed().Microseconds()) / 1000 / float64(b.N)
	b.ReportMetric(ms, "ms/view")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(p.Stacks.Len()), "tree-nodes")
}

// BenchmarkPeer is pprof's -top, by function and by line, of the same profile, which is given to it
// with its samples summed up per unique stack already, and in memory.
func BenchmarkPeer(b *testing.B) {
	p := million()
	theirs := toPprof(p)
	for _, granularity := range []string{"functions", "lines"} {
		b.Run("pprof=top-"+granularity, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				fetched := theirs.Copy()
				b.StartTimer()
				err := driver.PProf(&driver.Options{
					Fetch:   fetcher{fetched},
					Flagset: &flags{FlagSet: flag.NewFlagSet("pprof", flag.ContinueOnError), args: []string{"-top", "-symbolize=none", "-" + granularity, "-output=" + os.DevNull, "memory"}},
					UI:      quiet{},
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			report(b, p)
		})
	}
}

func toPprof(p *profile.Profile) *pprof.Profile {
	theirs := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1_001_001,
		DurationNanos: int64(p.Length),
		Mapping:       []*pprof.Mapping{{ID: 1, File: "/usr/bin/program", Limit: 1 << 40, HasFunctions: true, HasFilenames: true, HasLineNumbers: true}},
	}
	functions := map[string]*pprof.Function{}
	for id, f := range p.Frames[1:] {
		fn := functions[f.Func]
		if fn == nil {
			fn = &pprof.Function{ID: uint64(len(functions) + 1), Name: f.Func, SystemName: f.Func, Filename: f.File, StartLine: int64(f.StartLine)}
			functions[f.Func] = fn
			theirs.Function = append(theirs.Function, fn)
		}
		theirs.Location = append(theirs.Location, &pprof.Location{
			ID: uint64(id + 1), Mapping: theirs.Mapping[0], Address: uint64(id+1) * 16, Line: []pprof.Line{{Function: fn, Line: int64(f.Line)}},
		})
	}
	s := NewSums(p)
	for id := range profile.StackID(p.Stacks.Len()) {
		w := s.self[s.at[id]].Weight
		if w == 0 {
			continue
		}
		sample := &pprof.Sample{Value: []int64{w}}
		for f := range p.Stacks.LeafFirst(id) {
			sample.Location = append(sample.Location, theirs.Location[f-1])
		}
		theirs.Sample = append(theirs.Sample, sample)
	}
	return theirs
}

type fetcher struct{ p *pprof.Profile }

func (f fetcher) Fetch(string, time.Duration, time.Duration) (*pprof.Profile, string, error) {
	return f.p, "memory", nil
}

type flags struct {
	*flag.FlagSet
	args []string
}

func (f *flags) StringList(name, value, usage string) *[]*string {
	return &[]*string{f.String(name, value, usage)}
}
func (f *flags) ExtraUsage() string   { return "" }
func (f *flags) AddExtraUsage(string) {}
func (f *flags) Parse(usage func()) []string {
	if err := f.FlagSet.Parse(f.args); err != nil {
		usage()
	}
	return f.Args()
}

// quiet is a user interface that nobody is at.
type quiet struct{}

func (quiet) ReadLine(string) (string, error)     { return "", io.EOF }
func (quiet) Print(...any)                        {}
func (quiet) PrintErr(...any)                     {}
func (quiet) IsTerminal() bool                    { return false }
func (quiet) WantBrowser() bool                   { return false }
func (quiet) SetAutoComplete(func(string) string) {}
