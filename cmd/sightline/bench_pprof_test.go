package main

import (
	"os"
	"testing"

	pprof "github.com/google/pprof/profile"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// WritePprof writes a symbolized capture as runtime/pprof would have written the same samples:
// samples summed up by stack, with the functions and lines of each location, inlined ones first.
func writePprof(b *testing.B, path string, c *profile.Capture) {
	b.Helper()
	s := c.Of(profile.CPU)
	out := &pprof.Profile{
		SampleType:    []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType:    &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:        s.Period,
		TimeNanos:     c.Start.UnixNano(),
		DurationNanos: int64(c.Length),
	}
	mappings := make([]*pprof.Mapping, len(c.Mappings))
	for i, m := range c.Mappings {
		if i == 0 {
			continue
		}
		mappings[i] = &pprof.Mapping{
			ID: uint64(i), Start: uint64(i) << 40, Limit: uint64(i+1) << 40, File: m.Path, BuildID: m.BuildID,
			HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
		}
		out.Mapping = append(out.Mapping, mappings[i])
	}
	type name struct {
		fn, file string
		start    int
	}
	functions := map[name]*pprof.Function{}
	function := func(f profile.Frame) *pprof.Function {
		key := name{f.Func, f.File, f.StartLine}
		fn := functions[key]
		if fn == nil {
			fn = &pprof.Function{ID: uint64(len(functions) + 1), Name: f.Func, SystemName: f.Func, Filename: f.File, StartLine: int64(f.StartLine)}
			functions[key] = fn
			out.Function = append(out.Function, fn)
		}
		return fn
	}
	locations := make([]*pprof.Location, len(c.Locations))
	for i, l := range c.Locations {
		if i == 0 {
			continue
		}
		loc := &pprof.Location{ID: uint64(i), Mapping: mappings[l.Mapping], Address: uint64(l.Mapping)<<40 + l.Addr}
		if i < len(c.Symbols.Of) {
			for _, id := range c.Symbols.Of[i] {
				f := c.Symbols.Frames[id]
				loc.Line = append(loc.Line, pprof.Line{Function: function(f), Line: int64(f.Line)})
			}
		}
		locations[i] = loc
		out.Location = append(out.Location, loc)
	}
	byStack := map[profile.StackID]*pprof.Sample{}
	for i := range s.Samples.Len() {
		x := s.Samples.At(i)
		sample := byStack[x.Stack]
		if sample == nil {
			sample = &pprof.Sample{Value: make([]int64, 2)}
			for l := range c.Stacks.LeafFirst(x.Stack) {
				sample.Location = append(sample.Location, locations[l])
			}
			byStack[x.Stack] = sample
			out.Sample = append(out.Sample, sample)
		}
		sample.Value[0] += x.Count
		sample.Value[1] += x.Weight
	}
	if err := out.CheckValid(); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := out.Write(f); err != nil {
		b.Fatal(err)
	}
}
