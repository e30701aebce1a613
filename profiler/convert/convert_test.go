package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// readAs reads what must be readable, of the format that must be recognized.
func readAs(t testing.TB, data []byte, want Format) *profile.Capture {
	t.Helper()
	c, f, err := Read(t.Context(), bytes.NewReader(data), Options{})
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if f != want {
		t.Errorf("recognized as %s, not %s", f, want)
	}
	checkCapture(t, c)
	return c
}

// mustRefuse reads what must not be readable, and wants the parts of the message.
func mustRefuse(t testing.TB, data []byte, o Options, parts ...string) {
	t.Helper()
	c, _, err := Read(t.Context(), bytes.NewReader(data), o)
	if err == nil {
		t.Errorf("Read gave a capture of %d series, want an error of %q", len(c.Series), parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not tell of %q", err, p)
		}
	}
}

// checkCapture checks the laws that hold for whatever is read.
func checkCapture(t testing.TB, c *profile.Capture) {
	t.Helper()
	if !c.Imported || c.Engine == "" {
		t.Errorf("Imported %v, Engine %q", c.Imported, c.Engine)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if len(c.Series) == 0 {
		t.Fatal("no series")
	}
	for _, s := range c.Series {
		if err := profileOf(t, c, s.Kind).Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// profileOf is a series of a capture as a profile; "" is the first.
func profileOf(t testing.TB, c *profile.Capture, kind profile.Kind) *profile.Profile {
	t.Helper()
	if kind == "" {
		kind = c.Series[0].Kind
	}
	p, err := c.Profile(kind)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// totals are the rows of a profile by name, as "self/total name".
func totals(p *profile.Profile) []string {
	var all []string
	for _, r := range view.ByName(p) {
		all = append(all, fmt.Sprintf("%d/%d %s", r.Self.Weight, r.Total.Weight, r.Name))
	}
	return all
}

// fuzzRead reads anything as a format: it gives a capture that keeps the laws, or an error, within
// bounds.
func fuzzRead(f *testing.F, format Format, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, got, err := Read(t.Context(), bytes.NewReader(data), Options{Format: format, Experimental: true, Name: "f"})
		runtime.ReadMemStats(&after)
		if (c == nil) == (err == nil) {
			t.Fatalf("capture %v and error %v", c, err)
		}
		// A zstd window alone may be 128 MiB.
		if made := after.TotalAlloc - before.TotalAlloc; made > 400<<20 {
			t.Fatalf("%d bytes allocated for %d", made, len(data))
		}
		if err != nil {
			return
		}
		if got != format {
			t.Fatalf("read as %s", got)
		}
		checkCapture(t, c)
	})
}

// sample is a profile with what exports must keep: modules, inlined calls, the kernel, lines, threads,
// times, weights that differ, recursion, an empty stack, and names that formats could trip over.
func sample(t testing.TB, kind profile.Kind, unit, source profile.Unit) *profile.Profile {
	t.Helper()
	b := newBuilder(&input{n: 1 << 20}, "test", Options{Name: "prog"})
	s := b.series(kind, unit, source, 0)
	main := profile.Frame{Func: "main.main", File: "/src/main.go", Line: 10, StartLine: 8, Module: "/bin/prog"}
	work := func(line int) profile.Frame {
		return profile.Frame{Func: "main.(*T).work", File: "/src/work.go", Line: line, StartLine: 1, Module: "/bin/prog"}
	}
	stacks := [][]profile.Frame{
		{main, work(3)},
		{main, work(3), work(3), work(4)},
		{main, work(5), {Func: "inl", File: "/src/inl.go", Line: 77, Column: 4, StartLine: 70, Module: "/bin/prog", Inlined: true}},
		{main, {Func: "read", Module: "/lib/libc.so.6"}, {Func: "do_syscall_64", Module: profile.Kernel}},
		{main, {Func: `a"b\c <d> & 'e' é 漢`, File: "/src/x y.c", Line: 1}},
		{{Func: "std::map<int, char*>::operator!=(int)"}, {Func: profile.Unknown, Module: "/lib/libm.so"}},
		{},
	}
	tasks := []profile.Task{{}, {PID: 7, TID: 7, Comm: "prog"}, {PID: 7, TID: 8, Comm: "worker"}}
	for i := range 40 {
		at := profile.StackID(0)
		for _, f := range stacks[i%len(stacks)] {
			at = b.push(at, b.location(f))
		}
		s.add(profile.Sample{Stack: at, Task: b.task(tasks[i%3]), Time: time.Duration(i/2) * time.Millisecond, Count: 1, Weight: int64(1000 + 7*i)})
	}
	c, err := b.finish()
	if err != nil {
		t.Fatal(err)
	}
	return profileOf(t, c, kind)
}

// roundTrip writes a profile and reads it again.
func roundTrip(t testing.TB, p *profile.Profile, f Format) *profile.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, Export{Profile: p, Name: "prog"}); err != nil {
		t.Fatalf("Write: %v", err)
	}
	return profileOf(t, readAs(t, b.Bytes(), f), "")
}

// compareViews compares two profiles by name and, where lines is set, by line. Counts are compared
// where counts is set: some formats have weights alone.
func compareViews(t testing.TB, want, got *profile.Profile, lines, counts bool) {
	t.Helper()
	strip := func(m *profile.Measure) {
		if !counts {
			m.Count = 0
		}
	}
	rows := func(p *profile.Profile) []view.Row {
		rows := slices.Clone(view.ByName(p))
		for i := range rows {
			strip(&rows[i].Self)
			strip(&rows[i].Total)
			if !lines {
				rows[i].File, rows[i].Line = "", 0
			}
		}
		// Counts order what is otherwise equal.
		slices.SortFunc(rows, func(a, b view.Row) int {
			return strings.Compare(a.Name+"\x00"+a.Module, b.Name+"\x00"+b.Module)
		})
		return rows
	}
	if d := cmp.Diff(rows(want), rows(got)); d != "" {
		t.Errorf("by name (-written +read):\n%s", d)
	}
	if !lines {
		return
	}
	files := func(p *profile.Profile) []view.FileLines {
		files := view.Lines(p)
		for i := range files {
			for j := range files[i].Lines {
				strip(&files[i].Lines[j].Self)
				strip(&files[i].Lines[j].Total)
			}
		}
		return files
	}
	if d := cmp.Diff(files(want), files(got)); d != "" {
		t.Errorf("lines (-written +read):\n%s", d)
	}
}

func TestRoundTrips(t *testing.T) {
	for _, c := range []struct {
		format        Format
		lines, counts bool
	}{
		{Pprof, true, true},
		{Collapsed, false, false},
		{Speedscope, true, true},
		{Chrome, true, false},
		{Firefox, true, true},
	} {
		t.Run(string(c.format), func(t *testing.T) {
			for _, s := range []struct {
				kind         profile.Kind
				unit, source profile.Unit
			}{
				{profile.CPU, profile.Nanoseconds, ""}, {profile.Alloc, profile.Bytes, ""},
				{"samples", profile.Number, ""}, {"x", profile.Millionths, profile.None},
			} {
				p := sample(t, s.kind, s.unit, s.source)
				got := roundTrip(t, p, c.format)
				// Complete events of a trace cannot be without a stack.
				bare := c.format == Chrome && p.Unit == profile.Nanoseconds
				if got.Total().Weight != p.Total().Weight && !bare || got.Unit != p.Unit && c.format != Collapsed {
					t.Errorf("%s: total %d %s, want %d %s", s.kind, got.Total().Weight, got.Unit, p.Total().Weight, p.Unit)
				}
				compareViews(t, p, got, c.lines, c.counts)
			}
		})
	}
}

// kindsOf are the kinds of a capture with their units, totals and number of rows.
func kindsOf(t testing.TB, c *profile.Capture) []string {
	t.Helper()
	var all []string
	for _, s := range c.Series {
		p := profileOf(t, c, s.Kind)
		m := p.Total()
		all = append(all, fmt.Sprintf("%s %s %d %d, %d rows", s.Kind, s.Unit, m.Weight, m.Count, len(view.ByName(p))))
	}
	return all
}

func TestWritesSeveralKinds(t *testing.T) {
	cpu, alloc := variety(t, profile.Nanoseconds), sample(t, profile.Alloc, profile.Bytes, "")
	faults, io := sample(t, "page-faults", profile.Number, ""), variety(t, profile.Nanoseconds)
	io.Kind = "io"
	more := *io
	more.Kind = "fraction"
	more.Unit = profile.Millionths
	e := Export{Profile: cpu, Others: []*profile.Profile{alloc, faults, io, &more}, Name: "prog"}
	var want []string
	rows := func(p *profile.Profile) int { return len(view.ByName(p)) }
	for _, p := range append([]*profile.Profile{cpu}, e.Others...) {
		want = append(want, fmt.Sprintf("%s %s %d %d, %d rows", p.Kind, p.Unit, p.Total().Weight, p.Total().Count, rows(p)))
	}
	for _, i := range Formats() {
		if !i.Writes || !i.Reads {
			continue
		}
		var b bytes.Buffer
		if err := Write(&b, i.Format, e); err != nil {
			t.Fatal(err)
		}
		c := readAs(t, b.Bytes(), i.Format)
		if i.Several != (len(c.Series) > 1) {
			t.Errorf("%s: %d kinds, Several %v", i.Format, len(c.Series), i.Several)
		}
		if !i.Several {
			continue
		}
		got := kindsOf(t, c)
		for i, s := range got {
			got[i] = strings.Replace(s, "alloc_space", "alloc", 1)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-written +read):\n%s", i.Format, d)
		}
		for n, p := range append([]*profile.Profile{cpu}, e.Others...) {
			compareViews(t, p, profileOf(t, c, c.Series[n].Kind), true, true)
		}
	}
}

func TestWritersTakeAnything(t *testing.T) {
	empty := func() *profile.Profile {
		return &profile.Profile{Kind: "k", Unit: profile.Number, Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1)}
	}
	nasty := empty()
	nasty.Tasks = append(nasty.Tasks, profile.Task{Comm: "\xff;\n"})
	nasty.Unit = profile.Nanoseconds
	at := profile.StackID(0)
	for i, name := range []string{"a;b", "new\nline", "nul\x00", "bad\xffutf8", "", "x 5", "<&>\"'", "end;"} {
		nasty.Frames = append(nasty.Frames, profile.Frame{Func: name, File: name, Line: i, Module: name})
		at = nasty.Stacks.Intern(at, profile.FrameID(i+1))
		nasty.Samples.Append(profile.Sample{Stack: at, Task: 1, Time: time.Duration(i), Count: 1, Weight: int64(i - 3)})
	}
	deep := empty()
	deep.Frames = append(deep.Frames, profile.Frame{Func: "f"}, profile.Frame{Func: "g"})
	at = 0
	for i := range maxDepth {
		at = deep.Stacks.Intern(at, profile.FrameID(1+i%2))
	}
	deep.Samples.Append(profile.Sample{Stack: at, Count: 1, Weight: 5})
	for _, info := range Formats() {
		if !info.Writes {
			continue
		}
		t.Run(string(info.Format), func(t *testing.T) {
			for name, p := range map[string]*profile.Profile{"empty": empty(), "nasty": nasty, "deep": deep} {
				if err := p.Check(); err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if err := Write(&b, info.Format, Export{Profile: p}); err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if !info.Reads || name == "empty" && b.Len() == 0 {
					continue
				}
				c, f, err := Read(t.Context(), bytes.NewReader(b.Bytes()), Options{Experimental: true})
				if err != nil || f != info.Format {
					t.Errorf("%s: read as %s: %v", name, f, err)
					continue
				}
				checkCapture(t, c)
				if got := totals(profileOf(t, c, "")); name == "deep" && len(got) != 2 {
					t.Errorf("deep: %v", got)
				}
			}
		})
	}
}

func TestSeesThrough(t *testing.T) {
	const text = "a;b 3\na 2\n"
	gz := func(s []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(s)
		z.Close()
		return b.Bytes()
	}
	zst := func(s []byte) []byte {
		var b bytes.Buffer
		z, _ := zstd.NewWriter(&b)
		z.Write(s)
		z.Close()
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"plain": []byte(text), "bom": []byte("\xef\xbb\xbf" + text), "gzip": gz([]byte(text)), "zstd": zst([]byte(text)),
		"zip": zipped(t, map[string]string{"x.txt": text}), "zip in a folder": zipped(t, map[string]string{"d/": "", "d/x": text}),
		"gzip in zip": zipped(t, map[string]string{"x.gz": string(gz([]byte(text)))}),
		"zip in zstd": zst(zipped(t, map[string]string{"x": text})),
		"two members": append(gz([]byte("a;b 3\n")), gz([]byte("a 2\n"))...),
		"utf16":       []byte("\xff\xfea\x00;\x00b\x00 \x003\x00\n\x00a\x00 \x002\x00"),
	} {
		p := profileOf(t, readAs(t, data, Collapsed), "")
		if d := cmp.Diff([]string{"3/3 b", "2/5 a"}, totals(p)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		// And from what cannot seek.
		c, _, err := Read(t.Context(), io.MultiReader(bytes.NewReader(data)), Options{})
		if err != nil || c.Series[0].Samples.Len() != 2 {
			t.Errorf("%s from a pipe: %v", name, err)
		}
	}
	mustRefuse(t, gz(gz(gz([]byte(text)))), Options{}, "gzip within compressed files")
	mustRefuse(t, zipped(t, map[string]string{"a": text, "b": text}), Options{}, "2 files", "name the one")
	mustRefuse(t, gz(bytes.Repeat([]byte("a;b 3\n"), 3<<20)), Options{}, "unpacks to more than")
	mustRefuse(t, nil, Options{Name: "x.prof"}, "x.prof", "empty")
	mustRefuse(t, []byte("hello, world"), Options{}, "not known", "pprof")
	mustRefuse(t, []byte(text), Options{Limit: 3}, "larger than the limit of 3 bytes")
	mustRefuse(t, []byte(text), Options{Format: "svg"}, "svg", "known are")
	mustRefuse(t, []byte("a 1 2\n"), Options{Kind: "cpu"}, "holds no cpu", "after, before")
	if c, _, err := Read(t.Context(), strings.NewReader("a 1 2\n"), Options{Kind: "before"}); err != nil || len(c.Series) != 1 || c.Series[0].Kind != "before" {
		t.Errorf("one kind: %v", err)
	}
	if err := Write(io.Discard, "perf.data", Export{}); !errors.Is(err, ErrFormat) {
		t.Errorf("write perf.data: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Read(ctx, strings.NewReader(text), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, _, err := Read(t.Context(), strings.NewReader("?"), Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown: %v", err)
	}
	var long strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&long, "a;b%d %d\n", i*i, i)
	}
	half := gz([]byte(long.String()))
	c, _, err := Read(t.Context(), bytes.NewReader(half[:len(half)/2]), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Series[0].Samples.Len(); n < 1000 || n > 4000 || len(c.Warnings) == 0 || !strings.Contains(c.Warnings[len(c.Warnings)-1].Text, "ends in the midst") {
		t.Errorf("half a file: %d samples, %v", n, c.Warnings)
	}
}

func TestBuilderBounds(t *testing.T) {
	b := newBuilder(&input{n: 10}, "test", Options{})
	at := profile.StackID(0)
	for i := range 10000 {
		at = b.push(at, b.location(profile.Frame{Func: fmt.Sprint(i)}))
	}
	b.series("x", profile.Number, "", 0)
	if _, err := b.finish(); err == nil || !strings.Contains(err.Error(), "10 bytes") {
		t.Errorf("finish: %v", err)
	}

	b = newBuilder(&input{n: 1 << 30}, "test", Options{})
	l := b.location(profile.Frame{Func: "f"})
	at = 0
	for range maxDepth + 5 {
		at = b.push(at, l)
	}
	s := b.series("x", profile.None, "", 0)
	s.add(profile.Sample{Stack: at, Time: 5, Count: 1, Weight: 1})
	s.add(profile.Sample{Time: -maxTime - 1, Count: 1, Weight: 1})
	s.add(profile.Sample{Time: 2, Count: 1, Weight: maxTotal})
	s.value(profile.Sample{Time: 3, Count: 1}, -0.25, 1)
	s.value(profile.Sample{Time: 4, Count: 1}, math.NaN(), 1)
	c, err := b.finish()
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	for _, w := range c.Warnings {
		warned = append(warned, fmt.Sprintf("%s %d", w.Kind, w.Count))
	}
	if d := cmp.Diff([]string{"cut 5", "lost 1", "lost 2"}, warned); d != "" {
		t.Errorf("warnings: %s", d)
	}
	want := profile.Samples{Stack: []profile.StackID{0, maxDepth}, Task: []profile.TaskID{0, 0}, Time: []time.Duration{3, 5}, Weight: []int64{-250000, 1000000}}
	if d := cmp.Diff(want, c.Series[0].Samples); d != "" {
		t.Errorf("samples: %s", d)
	}
	if c.Series[0].Unit != profile.Millionths || c.Series[0].Source != profile.None {
		t.Errorf("%s of %s", c.Series[0].Unit, c.Series[0].Source)
	}
}
