package convert

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	proto "github.com/google/pprof/profile"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// encoded is a profile.proto as tools write it.
func encoded(t testing.TB, p *proto.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPprofTables(t *testing.T) {
	bin := &proto.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, Offset: 0x1000, File: "/bin/p", BuildID: "abcd"}
	kernel := &proto.Mapping{ID: 2, Start: 0xffff0000, Limit: 0xffffffff, File: "[kernel.kallsyms]_text"}
	main := &proto.Function{ID: 1, Name: "main.main", Filename: "/m.go", StartLine: 3}
	work := &proto.Function{ID: 2, Name: "_ZN3foo3barEi", Filename: "/w.cc"}
	system := &proto.Function{ID: 3, SystemName: "sys_read"}
	l1 := &proto.Location{ID: 1, Mapping: bin, Address: 0x400010, Line: []proto.Line{{Function: work, Line: 7, Column: 2}, {Function: main, Line: 5}}}
	l2 := &proto.Location{ID: 2, Mapping: kernel, Address: 0xffff0100, Line: []proto.Line{{Function: system}}}
	l3 := &proto.Location{ID: 3, Mapping: bin, Address: 0x400020}
	l4 := &proto.Location{ID: 4, Mapping: bin, Address: 0x400010, Line: []proto.Line{{Function: main, Line: 6}}} // merged from another build
	p := &proto.Profile{
		SampleType:        []*proto.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "kilobytes"}, {Type: "wall", Unit: "milliseconds"}},
		DefaultSampleType: "inuse_objects",
		PeriodType:        &proto.ValueType{Type: "wall", Unit: "milliseconds"},
		Period:            10,
		TimeNanos:         1e18,
		DurationNanos:     5e9,
		Mapping:           []*proto.Mapping{bin, kernel},
		Function:          []*proto.Function{main, work, system},
		Location:          []*proto.Location{l1, l2, l3, l4},
		Sample: []*proto.Sample{
			{Location: []*proto.Location{l2, l1}, Value: []int64{3, 300, 1, 100, 20}, Label: map[string][]string{"comm": {"worker"}}, NumLabel: map[string][]int64{"pid": {7}, "tid": {8}}},
			{Location: []*proto.Location{l3, l4}, Value: []int64{1, 10, 0, 0, 0}, Label: map[string][]string{"thread": {"t"}, "pid": {"9"}}},
			{Value: []int64{0, 0, 0, 0, -1}},
		},
	}
	c := readAs(t, encoded(t, p), Pprof)
	const want = `pprof of "pprof", target /bin/p, length 5s
start 2001-09-09T01:46:40
mapping /bin/p "abcd" true
mapping [kernel] "" false
location 0x1010 in /bin/p
location 0x1010 in /bin/p
location 0x1020 in /bin/p

series inuse_space period 0 source ""
inuse_space bytes
start: 2001-09-09T01:46:40Z
task 1: pid=7 tid=8 comm=worker
task 2: pid=9 comm=t
/bin/p!main.main@/m.go:5|start=3;/bin/p!foo::bar(int)@/w.cc:7:2|inlined;[kernel]!sys_read 102400 task=1

series alloc_space period 0 source ""
alloc_space bytes
start: 2001-09-09T01:46:40Z
task 1: pid=7 tid=8 comm=worker
task 2: pid=9 comm=t
/bin/p!main.main@/m.go:5|start=3;/bin/p!foo::bar(int)@/w.cc:7:2|inlined;[kernel]!sys_read 300 count=3 task=1
/bin/p!main.main@/m.go:6|start=3;/bin/p![unknown] 10 task=2

series wall period 10000000 source "ms"
wall ns
source: ms
start: 2001-09-09T01:46:40Z
task 1: pid=7 tid=8 comm=worker
task 2: pid=9 comm=t
/bin/p!main.main@/m.go:5|start=3;/bin/p!foo::bar(int)@/w.cc:7:2|inlined;[kernel]!sys_read 20000000 task=1
- -1000000
`
	if d := cmp.Diff(want, describe(t, c, Pprof)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPprofTypes(t *testing.T) {
	for _, x := range []struct {
		types []*proto.ValueType
		want  []profile.Kind
	}{
		{[]*proto.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}}, []profile.Kind{"delay"}},
		{[]*proto.ValueType{{Type: "goroutine", Unit: "count"}}, []profile.Kind{"goroutine"}},
		{[]*proto.ValueType{{Type: "a", Unit: "count"}, {Type: "b", Unit: "bytes"}}, []profile.Kind{"b"}},
		{[]*proto.ValueType{{Type: "a", Unit: "count"}, {Type: "b", Unit: "count"}}, []profile.Kind{"b", "a"}},
		{[]*proto.ValueType{{Type: "x", Unit: "bytes"}, {Type: "x", Unit: "bytes"}}, []profile.Kind{"x#2", "x"}},
		{[]*proto.ValueType{{Type: "cpu-time", Unit: "ns"}, {Type: "samples", Unit: "count"}, {Type: "heap", Unit: "bytes"}}, []profile.Kind{"heap", "cpu-time", "samples"}},
	} {
		p := &proto.Profile{SampleType: x.types}
		c := readAs(t, encoded(t, p), Pprof)
		var got []profile.Kind
		for _, s := range c.Series {
			got = append(got, s.Kind)
		}
		if d := cmp.Diff(x.want, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", x.types, d)
		}
	}
	types := make([]*proto.ValueType, maxSampleTypes+1)
	for i := range types {
		types[i] = &proto.ValueType{Type: "x", Unit: "count"}
	}
	mustRefuse(t, encoded(t, &proto.Profile{SampleType: types}), Options{}, "257 sample types")
	whole := encoded(t, &proto.Profile{SampleType: types[:1], Comments: []string{"a long comment to be cut"}})
	mustRefuse(t, whole[:len(whole)-12], Options{Format: Pprof}, "ends early")
}

// What pprof gets has binaries with build IDs, and addresses that belong to them.
func TestPprofMappings(t *testing.T) {
	p := sample(t, profile.CPU, profile.Nanoseconds, "")
	c := profile.NewCapture(profile.Target{}, time.Time{})
	c.Mappings = append(c.Mappings,
		profile.Mapping{Kind: profile.FileCode, Path: "/bin/prog", BuildID: "abcd"},
		profile.Mapping{Kind: profile.FileCode, Path: "/lib/libc.so.6", BuildID: "01"},
		profile.Mapping{Kind: profile.FileCode, Path: "/lib/libc.so.6", BuildID: "02"})
	var b bytes.Buffer
	if err := Write(&b, Pprof, Export{Profile: p, Name: "prog", Capture: c}); err != nil {
		t.Fatal(err)
	}
	out, err := proto.ParseData(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	end := uint64(0)
	for _, m := range out.Mapping {
		ids[m.File] = m.BuildID
		if m.Start < end || m.Limit <= m.Start || !m.HasFunctions || !m.HasFilenames || !m.HasLineNumbers || !m.HasInlineFrames {
			t.Errorf("mapping %+v after %#x", m, end)
		}
		end = m.Limit
	}
	if d := cmp.Diff(map[string]string{"/bin/prog": "abcd", "/lib/libc.so.6": "", "/lib/libm.so": "", "[kernel]": ""}, ids); d != "" {
		t.Errorf("build IDs: %s", d)
	}
	seen := map[uint64]bool{}
	for _, l := range out.Location {
		if l.Address == 0 || seen[l.Address] || l.Mapping != nil && (l.Address < l.Mapping.Start || l.Address >= l.Mapping.Limit) {
			t.Errorf("location %d at %#x in %+v", l.ID, l.Address, l.Mapping)
		}
		seen[l.Address] = true
	}
	path := filepath.Join(t.TempDir(), "cpu.pb.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-raw", "-symbolize=none", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	for _, part := range []string{"/bin/prog abcd [FN][FL][LN][IN]", "main.(*T).work /src/work.go:3", "samples/count cpu/nanoseconds[dflt]"} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("pprof -raw does not show %q:\n%s", part, raw)
		}
	}
	// Made-up addresses must not be taken for places in binaries.
	for _, l := range readAs(t, b.Bytes(), Pprof).Mappings {
		if l.Offsets {
			t.Errorf("mapping %+v has addresses", l)
		}
	}
}
