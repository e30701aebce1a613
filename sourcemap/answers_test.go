package sourcemap

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// nameAll is the frames that a new Symbolizer gives to addresses of a binary.
func nameAll(t *testing.T, bin, dir string, addrs []uint64) (named [][]profile.Frame, sources profile.Symbols) {
	t.Helper()
	file, err := os.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := profile.NewCapture(profile.Target{}, time.Now())
	c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.FileCode, Path: bin})
	for _, a := range addrs {
		c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: a})
	}
	s := NewSymbolizer(Config{AnswersDir: dir})
	if err := s.Symbolize(t.Context(), c, func(profile.MappingID) (io.ReaderAt, error) { return file, nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Sources(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for i := range addrs {
		var frames []profile.Frame
		for _, id := range c.Symbols.Of[i+1] {
			frames = append(frames, c.Symbols.Frames[id])
		}
		named = append(named, frames)
	}
	return named, c.Symbols
}

// Answers that were kept are those that DWARF gives, for the addresses that were asked and for those
// around them, and however the recordings overlap.
func TestAnswers(t *testing.T) {
	bin := build(t, "g++", "-std=c++17", "-g", "-O2", "-Wl,--build-id", "-o", "OUT", "boxes.cc")
	opened, err := openDWARF(openELF(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	addrs := addressesOf(t, opened.(*dwarfTable), 1200)
	want, wantSymbols := nameAll(t, bin, "", addrs)
	dir := filepath.Join(t.TempDir(), "frames")
	var third []uint64
	for i := 0; i < len(addrs); i += 3 {
		third = append(third, addrs[i])
	}
	nameAll(t, bin, dir, third)
	for round := range 3 {
		got, symbols := nameAll(t, bin, dir, addrs)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("round %d (-without +with answers):\n%.3000s", round, d)
		}
		if d := cmp.Diff(wantSymbols.Sources, symbols.Sources); d != "" {
			t.Fatalf("round %d: sources (-without +with answers):\n%s", round, d)
		}
	}
	// They are used: without its DWARF the binary has the same names.
	id := buildID(openELF(t, bin))
	a := readAnswers(dir, id)
	if a == nil {
		t.Fatal("no answers were kept")
	}
	known := 0
	for i, addr := range addrs {
		s, ok := a.find(addr)
		if !ok {
			continue
		}
		known++
		got := a.append(s, nil)
		for j := range got {
			got[j].Module = bin
		}
		if d := cmp.Diff(want[i], got); d != "" {
			t.Fatalf("%#x (-want +kept):\n%s", addr, d)
		}
	}
	if 4*known < 3*len(addrs) {
		t.Errorf("only %d of %d addresses were kept", known, len(addrs))
	}
	if len(a.spans) >= known {
		t.Errorf("%d answers for %d addresses: none holds for more than one", len(a.spans), known)
	}
	if again, err := decodeAnswers(string(a.encode(id)), id); err != nil || cmp.Diff(a.spans, again.spans, cmp.AllowUnexported(answer{})) != "" {
		t.Errorf("answers do not survive their file: %v", err)
	}

	// What is damaged, of another build, or not a file is no answer, and is made again.
	path := filepath.Join(dir, id+answersSuffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"cut":     func() error { return os.WriteFile(path, whole[:len(whole)/2], 0o600) },
		"empty":   func() error { return os.WriteFile(path, nil, 0o600) },
		"flipped": func() error { b := slices.Clone(whole); b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"version": func() error { b := slices.Clone(whole); b[8]++; return os.WriteFile(path, b, 0o600) },
		"other":   func() error { return os.WriteFile(path, (&answers{}).encode(strings.Repeat("ab", 20)), 0o600) },
		"link":    func() error { os.Remove(path); return os.Symlink("/etc/passwd", path) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		got, _ := nameAll(t, bin, dir, third)
		for i := range third {
			if d := cmp.Diff(want[3*i], got[i]); d != "" {
				t.Fatalf("%s: %#x (-want +got):\n%s", name, third[i], d)
			}
		}
		if readAnswers(dir, id) == nil {
			t.Errorf("%s: no answers afterwards", name)
		}
	}
}

// The folder is kept below its limit by removing what was not used for the longest time; what is not
// of the cache stays.
func TestAnswersBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("%08d%s", i, answersSuffix))
		if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * answersStale)
	for _, name := range []string{"other", "half" + answersPart} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 9000), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(filepath.Join(dir, name), old, old)
	}
	shrinkAnswers(dir, 2500, "")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if d := cmp.Diff([]string{"00000002" + answersSuffix, "00000003" + answersSuffix, "other"}, names); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzAnswers(f *testing.F) {
	const id = "0123456789abcdef"
	a := (*answers)(nil).with([]freshAnswer{
		{16, 32, []profile.Frame{{Func: "inner", File: "/a.c", Line: 3, Inlined: true}, {Func: "main", File: "/b.c", Line: 7, Column: 2, StartLine: 5, Entry: true}}},
		{40, 41, []profile.Frame{{Func: "main", File: "/b.c", Line: 8}}},
		{30, 45, []profile.Frame{{Func: "twice"}}},
	}, func(file string) []sum { return []sum{{1, 2, 3}} })
	whole := a.encode(id)
	f.Add(whole[answersHead:])
	f.Add((&answers{}).encode(id)[answersHead:])
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum is made to fit, so that what is behind it is reached.
		file := sealAnswers(body)
		a, err := decodeAnswers(string(file), id)
		if (a == nil) == (err == nil) {
			t.Fatalf("answers %v, error %v", a, err)
		}
		if err != nil {
			return
		}
		again, err := decodeAnswers(string(a.encode(id)), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(again.spans) != len(a.spans) {
			t.Fatalf("%d answers became %d", len(a.spans), len(again.spans))
		}
		for _, s := range a.spans {
			other, ok := again.find(s.low)
			if !ok || !slices.Equal(a.append(s, nil), again.append(other, nil)) {
				t.Fatalf("%v became %v", s, other)
			}
		}
	})
}
