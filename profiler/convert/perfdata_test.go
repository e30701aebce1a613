package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// renderPerfSample is "kind time weight pid/tid comm: root … leaf".
func renderPerfSample(c *profile.Capture, s *profile.Series, i int) string {
	x := s.Samples.At(i)
	task := c.Tasks[x.Task]
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %d/%d<%d %s:", s.Kind, x.Time, x.Weight, task.PID, task.TID, task.Parent, task.Comm)
	for _, id := range c.Stacks.RootFirst(x.Stack, nil) {
		l := c.Locations[id]
		fmt.Fprintf(&b, " %s+%#x", c.Mappings[l.Mapping].Path, l.Addr)
		if l.Return {
			b.WriteString("r")
		}
		for _, f := range c.Symbols.Of[id] {
			b.WriteString("=" + c.Symbols.Frames[f].Func)
		}
	}
	return b.String()
}

func readPerfBytes(t testing.TB, b []byte) (*profile.Capture, error) {
	t.Helper()
	c, f, err := Read(t.Context(), bytes.NewReader(b), Options{Name: "perf.data"})
	if err == nil && f != PerfData {
		t.Fatalf("taken for %s", f)
	}
	return c, err
}

func readMade(t testing.TB, b []byte) *profile.Capture {
	t.Helper()
	c, err := readPerfBytes(t, b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var madeWant = []string{
	"cpu 0 1000000 100/100<0 parent: /bin/parent+0x1020r /bin/parent+0x1010",
	"cpu 1500 1000000 101/101<100 parent: /bin/parent+0x1020r [vdso]+0x10 [bpf]+0x30000020r=bpf_prog_1234_drop [loop]+0x20000010r [kernel]+0x100",
	"cpu 3000 1000000 101/101<100 child: /bin/child+0x20r /bin/child+0x10",
	"cpu 4200 1000000 101/102<100 worker: +0x500000",
	"cpu 4300 1000000 0/0<0 : +0x400010",
	"page-faults 4000 3 101/101<100 child: /bin/child+0x20r /lib/plugin.so+0x3010",
}

func TestPerfDataMadeByHand(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, size := range []int{64, 72, 96, 120, 136, 144, 200} {
			for _, form := range []string{"file", "pipe", "compressed", "compressed2", "compressed pipe"} {
				t.Run(fmt.Sprintf("%v/%d/%s", order, size, form), func(t *testing.T) {
					m := madePerf(order, size)
					if strings.HasPrefix(form, "compressed2") {
						m.compress(t, perfCompressed2, 90)
					} else if strings.HasPrefix(form, "compressed") {
						m.compress(t, perfCompressed, 37)
					}
					b := m.file()
					if strings.HasSuffix(form, "pipe") {
						b = m.pipe()
					}
					c := readMade(t, b)
					if diff := cmp.Diff(madeWant, renderPerf(c)); diff != "" {
						t.Errorf("samples (-want +got):\n%s", diff)
					}
					if got, want := c.Machine, "Linux 6.1.0 ppc64, 2 CPUs"; got != want {
						t.Errorf("machine %q, want %q", got, want)
					}
					if got, want := c.Target.String(), "./parent x"; got != want {
						t.Errorf("target %q, want %q", got, want)
					}
					if got, want := c.Start, time.Unix(1_700_000_000, 500); !got.Equal(want) {
						t.Errorf("start %v, want %v", got, want)
					}
					ids := map[string]string{}
					for _, m := range c.Mappings {
						if m.BuildID != "" {
							ids[m.Path] = m.BuildID
						}
						if m.Deleted != (m.Path == "/bin/child") || m.Offsets != (m.Kind == profile.FileCode || m.Kind == profile.VDSO) {
							t.Errorf("mapping %+v", m)
						}
					}
					want := map[string]string{"/bin/child": strings.Repeat("ab", 20), "[kernel]": strings.Repeat("cd", 20)}
					if diff := cmp.Diff(want, ids); diff != "" {
						t.Errorf("build IDs (-want +got):\n%s", diff)
					}
					if len(c.Warnings) != 1 || c.Warnings[0].Kind != profile.WarnLost || c.Warnings[0].Count != 12 {
						t.Errorf("warnings %v", c.Warnings)
					}
				})
			}
		}
	}
}

// Cut at any byte, a file gives what comes before, in file mode and in pipe mode, or a sentence.
func TestPerfDataCut(t *testing.T) {
	for _, form := range []string{"file", "pipe", "compressed"} {
		m := madePerf(binary.LittleEndian, 120)
		if form == "compressed" {
			m.compress(t, perfCompressed, 37)
		}
		b := m.file()
		if form == "pipe" {
			b = m.pipe()
		}
		read, most := 0, 0
		for n := len(b) % 12; n <= len(b); n += 12 {
			c, err := readPerfBytes(t, b[:n])
			if err != nil {
				if s := err.Error(); strings.Contains(s, "\n") || len(s) > 300 {
					t.Fatalf("%s cut at %d: %v", form, n, err)
				}
				continue
			}
			read++
			notes := 0
			for _, w := range c.Warnings {
				if w.Count == 0 && w.Kind == profile.WarnLost {
					notes++
				}
			}
			if notes > 1 || form == "file" && n < len(b)-8 && notes == 0 {
				t.Fatalf("%s cut at %d: notes %v", form, n, c.Warnings)
			}
			if form == "file" && n < len(b)/2 && c.Machine != "" {
				t.Fatalf("%s cut at %d: machine %q", form, n, c.Machine)
			}
			got := 0
			for _, s := range c.Series {
				got += s.Samples.Len()
			}
			if got < most {
				t.Fatalf("%s cut at %d gives %d samples, and cut before %d", form, n, got, most)
			}
			most = got
		}
		if read < len(b)/12/2 || most != len(madeWant) {
			t.Errorf("%s: %d of %d beginnings could be read, with up to %d samples", form, read, len(b)/12, most)
		}
	}
}

func TestPerfDataKilled(t *testing.T) {
	b := madePerf(binary.LittleEndian, 120).file()
	b = b[:bytes.Index(b, []byte("6.1.0\x00"))&^7-400]
	binary.LittleEndian.PutUint64(b[48:], 0) // perf fills in the size of the data when it ends
	c := readMade(t, b)
	if len(c.Series) == 0 || c.Series[0].Samples.Len() < 3 {
		t.Errorf("series %v", c.Series)
	}
	if slices.ContainsFunc(c.Warnings, func(w profile.Warning) bool { return strings.Contains(w.Text, "in the midst") }) {
		t.Errorf("two notes about the end: %v", c.Warnings)
	}
	if len(c.Warnings) == 0 || !strings.Contains(c.Warnings[0].Text, "killed") {
		t.Errorf("warnings %v", c.Warnings)
	}
}

func TestPerfDataRefused(t *testing.T) {
	whole := madePerf(binary.LittleEndian, 120).file()
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"first version": {append([]byte("PERFFILE"), make([]byte, 200)...), "PERFFILE"},
		"only magic":    {[]byte("PERFILE2"), "ends within its header"},
		"header":        {whole[:50], "ends within its header"},
		"header size":   {append([]byte("PERFILE2\x32\x00\x00\x00\x00\x00\x00\x00"), make([]byte, 200)...), "header has 50 bytes"},
		"no events":     {append(append([]byte{}, whole[:16]...), make([]byte, 200)...), "begin at byte 0"},
		"empty pipe":    {append([]byte("PERFILE2\x10"), make([]byte, 7)...), "which events"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readPerfBytes(t, test.b)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// Every field that can stand before and behind the callchain, and groups of counters.
func TestPerfDataFields(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		m := &perfMade{order: order, attrSize: 136}
		types := uint64(1<<25 - 1)
		m.attrs = []madeAttr{
			{
				kind: perfHardware, sampleType: types, period: 100, userRegs: 1<<8 | 1<<3, branches: perfBranchCallStack | perfBranchHWIndex,
				readFormat: perfReadGroup | perfReadID | perfReadTimeEnabled | perfReadTimeRunning | perfReadLost, ids: []uint64{1},
			},
			{kind: perfHardware, config: 1, sampleType: types, ids: []uint64{2}},
		}
		sample := func(time, cycles, instructions uint64) {
			b := m.u64(nil, 1, 0x400010)                   // identifier, ip
			b = m.u64(m.u32(b, 5, 6), time, 0xdead, 1, 77) // tid, time, addr, id, stream
			b = m.u64(m.u32(b, 3, 0), 100)                 // cpu, period
			b = m.u64(b, 2, 10, 10, cycles, 1, 0, instructions, 2, 0)
			b = m.u64(b, 2, perfContextKernel, madeKernel)
			b = append(m.u32(b, 12), make([]byte, 12)...) // raw
			b = m.u64(b, 2, 0, 0x400100, 0x400010, 0, 0x400200, 0x400100, 0)
			b = m.u64(b, 2, 0x33, 0x400008)      // registers: abi, 3, 8
			b = m.u64(b, 8, 0, 8)                // stack
			b = m.u64(b, 0, 0, 0, 0, 0, 0, 0, 0) // weight and others
			m.add(perfSampleRecord, perfModeKernel, b)
		}
		sample(10, 1000, 500)
		sample(20, 1500, 500) // no instruction since: no sample
		sample(30, 1800, 800)
		c := readMade(t, m.file())
		want := []string{
			"cpu 0 1000 5/6<0 : +0x400200 +0x400100 +0x400008 [kernel]+0xffffffff81000000",
			"cpu 10 500 5/6<0 : +0x400200 +0x400100 +0x400008 [kernel]+0xffffffff81000000",
			"cpu 20 300 5/6<0 : +0x400200 +0x400100 +0x400008 [kernel]+0xffffffff81000000",
			"instructions 0 500 5/6<0 : +0x400200 +0x400100 +0x400008 [kernel]+0xffffffff81000000",
			"instructions 20 300 5/6<0 : +0x400200 +0x400100 +0x400008 [kernel]+0xffffffff81000000",
		}
		if diff := cmp.Diff(want, renderPerf(c)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", order, diff)
		}
	}
}

// The user's part of a stack that the kernel walks when the thread returns to it.
func TestPerfDataDeferred(t *testing.T) {
	m := madePerf(binary.LittleEndian, 136)
	m.data = nil
	m.mmap2(0, madePID, madeMapping, 0x2000, 0x1000, 5, "/bin/parent")
	m.sample(7, 100, 1, perfModeKernel, madePID, madePID, perfContextKernel, madeKernel+1, madeKernel+2, perfContextDeferred, 55)
	m.sample(7, 150, 1, perfModeKernel, madePID, madePID, perfContextKernel, madeKernel+1, perfContextDeferred, 54)
	later := m.u64(nil, 55, 2, 0x400010, 0x400020)
	m.add(perfDeferred, perfModeUser, m.trailer(later, 7, 200, madePID, madePID))
	want := []string{
		"cpu 0 1 100/100<0 : /bin/parent+0x1020r /bin/parent+0x1010 [kernel]+0xffffffff81000002r [kernel]+0xffffffff81000001",
		"cpu 50 1 100/100<0 : [kernel]+0xffffffff81000001",
	}
	if diff := cmp.Diff(want, renderPerf(readMade(t, m.file()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The tree of regions against a plain array of bytes.
func TestPerfRegions(t *testing.T) {
	var s perfSystem
	s.init()
	files := []*perfFile{{symbol: "a"}, {symbol: "b"}, {symbol: "c"}}
	var tree *perfRegion
	type byteOf struct {
		file   *perfFile
		offset uint64
	}
	var plain [200]byteOf
	seed := uint64(1)
	random := func(n uint64) uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed >> 33 % n
	}
	for range 3000 {
		before, was := tree, plain
		start := random(190)
		r := &perfRegion{start: start, end: start + 1 + random(10), offset: random(1000), file: files[random(3)]}
		if random(50) == 0 {
			r.start, r.end = 0, 200
		}
		tree = s.put(tree, r)
		for a := r.start; a < r.end; a++ {
			plain[a] = byteOf{r.file, r.offset + a - r.start}
		}
		for tree, plain := range map[*perfRegion]*[200]byteOf{before: &was, tree: &plain} {
			for a := range plain {
				var got byteOf
				if r := tree.find(uint64(a)); r != nil {
					got = byteOf{r.file, r.offset + uint64(a) - r.start}
				}
				if got != plain[a] {
					t.Fatalf("byte %d is at %v, want %v", a, got, plain[a])
				}
			}
		}
	}
}

func TestPerfTarget(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"perf record -g ./a b -c", "./a b -c"},
		{"/usr/bin/perf record -agF 99 sleep 1", "whole machine"},
		{"perf record -e cpu-clock -F99 --call-graph dwarf -o x -- ./a -b", "./a -b"},
		{"perf record --call-graph=fp -z3 ./a", "./a"},
		{"perf record -p 71 --event cycles", "process 71"},
		{"perf sched record -- ls", "ls"},
		{"perf mem", "nothing"},
		{"perf record", "nothing"},
		{"", "nothing"},
	} {
		target, ok := perfTarget(strings.Fields(test.args))
		if got := target.String(); got != test.want || ok != (test.want != "nothing") {
			t.Errorf("%s: %q, %v; want %q", test.args, got, ok, test.want)
		}
	}
}

// FuzzPerfData asks that a file gives a capture that keeps its laws, or an error, the same both times.
func FuzzPerfData(f *testing.F) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		f.Add(madePerf(order, 120).file())
		f.Add(madePerf(order, 64).pipe())
		m := madePerf(order, 136)
		m.compress(f, perfCompressed, 37)
		f.Add(m.file())
		m = madePerf(order, 136)
		m.compress(f, perfCompressed2, 500)
		f.Add(m.pipe())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := Read(t.Context(), bytes.NewReader(b), Options{Format: PerfData})
		if (c == nil) == (err == nil) {
			t.Fatalf("capture %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		if c.Stacks.Len() > 8*len(b)+perfExpandRatio*len(b)+perfExpandSlack {
			t.Fatalf("%d bytes give %d stacks", len(b), c.Stacks.Len())
		}
	})
}
