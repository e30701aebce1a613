package goruntime

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write layouts.json from the toolchains that are here")

// releases are the Go releases whose layouts are known, with the toolchain that each was read from.
var releases = []struct{ release, toolchain string }{
	{"go1.22", "go1.22.12"}, {"go1.23", "go1.23.12"}, {"go1.24", "go1.24.10"}, {"go1.25", "go1.25.4"}, {"go1.26", ""},
}

// toolchainHere says whether a toolchain is in the module cache: tests do not download any.
func toolchainHere(t testing.TB, toolchain string) bool {
	if toolchain == "" {
		return true
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(strings.TrimSpace(string(cache)), "golang.org", "toolchain@v0.0.1-"+toolchain+".linux-amd64", "bin", "go"))
	return err == nil
}

// built are the programs that buildTarget has built, by toolchain and flags.
var built = map[string]string{}

// buildTarget builds testdata/target, whose memory these tests know.
func buildTarget(t testing.TB, toolchain string, flags ...string) string {
	t.Helper()
	key := toolchain + strings.Join(flags, " ")
	if built[key] != "" {
		return built[key]
	}
	dir, err := os.MkdirTemp("", "goruntime")
	if err != nil {
		t.Fatal(err)
	}
	folders = append(folders, dir)
	file := filepath.Join(dir, "target")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", file, "main.go")...)
	cmd.Dir = "testdata/target"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off", "GOFLAGS=", "GOEXPERIMENT=")
	if toolchain != "" {
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+toolchain)
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return v == "GO111MODULE=off" })
		cmd.Dir = t.TempDir()
		source, err := os.ReadFile("testdata/target/main.go")
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(cmd.Dir, "main.go"), source, 0o644)
		os.WriteFile(filepath.Join(cmd.Dir, "go.mod"), []byte("module target\n\ngo 1.20\n"), 0o644)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the target with %s: %v\n%s", toolchain, err, out)
	}
	built[key] = file
	return file
}

var folders []string

func TestMain(m *testing.M) {
	code := m.Run()
	for _, d := range folders {
		os.RemoveAll(d)
	}
	os.Exit(code)
}

// start runs the target until the test ends, and returns its process once it waits.
func start(t *testing.T, file string) int {
	t.Helper()
	cmd := exec.Command(file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	ready := make([]byte, 6)
	if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("the target says %q: %v", ready, err)
	}
	return cmd.Process.Pid
}

func openProcess(t *testing.T, file string, pid int) *Runtime {
	t.Helper()
	exe, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exe.Close() })
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	r, err := Open(exe, 0, mem)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLayoutsAreCurrent(t *testing.T) {
	all := map[string]layout{}
	maps.Copy(all, knownLayouts())
	reasons := map[string][]string{}
	maps.Copy(reasons, knownReasons())
	for _, x := range releases {
		if !toolchainHere(t, x.toolchain) {
			continue
		}
		file := buildTarget(t, x.toolchain)
		words := openProcess(t, file, start(t, file)).waitReasons()
		if len(words) < 20 || !slices.Contains(words, "chan receive") {
			t.Fatalf("%s: goroutines wait for %q", x.release, words)
		}
		if *update {
			reasons[x.release] = words
		} else if diff := cmp.Diff(reasons[x.release], words); diff != "" {
			t.Errorf("%s: waitreasons.json is not current; run go generate:\n%s", x.release, diff)
		}
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		debug, err := readDebugInfo(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", x.release, err)
		}
		l, err := layoutFromDWARF(debug)
		if err != nil {
			t.Fatalf("%s: %v", x.release, err)
		}
		if *update {
			all[x.release] = l
		} else if diff := cmp.Diff(all[x.release], l); diff != "" {
			t.Errorf("%s: layouts.json is not current; run go generate:\n%s", x.release, diff)
		}
	}
	if *update {
		b, err := json.MarshalIndent(all, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte("{\n   \"Offset\""), []byte("{\"Offset\""))
		b = bytes.ReplaceAll(b, []byte(",\n   \"Size\""), []byte(", \"Size\""))
		b = bytes.ReplaceAll(b, []byte("\n  }"), []byte("}"))
		if err := os.WriteFile("layouts.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err = json.MarshalIndent(reasons, "", " "); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("waitreasons.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTarget compares what is read of a process with what the process says of itself: it has 3,000
// objects of a size of its own, let go of 1,000 of them and collected, and has 50 goroutines.
func TestTarget(t *testing.T) {
	for _, x := range releases {
		for _, flags := range []string{"", "-s -w"} {
			t.Run(x.release+strings.ReplaceAll(flags, " ", ""), func(t *testing.T) {
				if !toolchainHere(t, x.toolchain) {
					t.Skip("the toolchain is not here; `make toolchains` gets it")
				}
				if testing.Short() {
					t.Skip("builds programs")
				}
				file := buildTarget(t, x.toolchain, "-ldflags="+flags)
				r := openProcess(t, file, start(t, file))
				check(t, r, x.release, flags != "")
			})
		}
	}
}

func check(t *testing.T, r *Runtime, release string, stripped bool) {
	t.Helper()
	if !strings.HasPrefix(r.Version, release) {
		t.Errorf("the version is %s", r.Version)
	}
	if want := "DWARF"; stripped {
		if want = "table for " + release; r.Layout != want {
			t.Errorf("the layout is from %s", r.Layout)
		}
	} else if r.Layout != want {
		t.Errorf("the layout is from %s", r.Layout)
	}
	arenas := 0
	kinds := map[string]bool{}
	for _, a := range r.Areas() {
		if a.End <= a.Start {
			t.Errorf("area %+v", a)
		}
		if a.Heap {
			arenas++
		}
		kinds[a.What] = true
	}
	want := []string{"arena", "arena index", "arena data", "list of spans", "page summary, level 4", "page bitmaps", "scavenge index"}
	if !stripped {
		want = append(want, "spans, caches, profile records", "mark bits")
	}
	for _, k := range want {
		if !kinds[k] {
			t.Errorf("no area %q; there are %v", k, slices.Sorted(maps.Keys(kinds)))
		}
	}
	spans, unread := r.Spans()
	if unread > 0 || len(spans) < 100 {
		t.Errorf("%d spans, %d unread", len(spans), unread)
	}
	// 1,792 bytes is a size class that little else has, without pointers.
	var n [4]int
	for _, s := range spans {
		if s.Use == ObjectSpan && s.SlotSize == 1792 && s.NoPointers {
			for _, slot := range s.Slots {
				n[slot]++
			}
		}
	}
	if live := n[LiveSlot]; live < 2000 || live > 2100 {
		t.Errorf("%d live objects of 1,792 bytes; the target holds 2,000", live)
	}
	if fresh := n[NewSlot]; fresh < 100 || fresh > 200 {
		t.Errorf("%d new objects of 1,792 bytes; the target made 100 after the collection", fresh)
	}
	// Its memory profile records each object; the rate of one whose symbols are gone is not known.
	recorded, stacks := 0, map[*uint64]bool{}
	for _, x := range r.Sampled(spans) {
		if x.Size == 1792 {
			recorded++
			stacks[&x.Stack[0]] = true
			if !stripped && x.Objects != 1 {
				t.Fatalf("an object stands for %v; the target has all recorded", x.Objects)
			}
		}
	}
	if recorded < 2100 || recorded > 2110 || len(stacks) < 2 || len(stacks) > 10 {
		t.Errorf("%d recorded objects of 1,792 bytes from %d places; the target holds 2,000 from one, and 100 from another", recorded, len(stacks))
	}
	if stripped {
		return
	}
	goroutines, created := 0, map[uint64]int{}
	for _, s := range r.Stacks() {
		if s.Goroutine != 0 && s.End-s.Start >= 2048 {
			goroutines++
			created[s.Created]++
		}
	}
	if n := slices.Max(slices.Collect(maps.Values(created))); n != 50 {
		t.Errorf("goroutines by the statement that made them: %v; the target made 50 with one", created)
	}
	if goroutines < 50 || goroutines > 80 {
		t.Errorf("%d goroutines; the target has 50 and the runtime's own", goroutines)
	}
	l, ok := r.Limit()
	if !ok || l.Collections < 1 || l.Percent != 400 {
		t.Errorf("limit %+v, %v", l, ok)
	}
}

// TestUnswept reads a span that was made up: the last collection reached half of its objects, and it is
// not swept. Since go1.26 the marks of small objects are in the span.
func TestUnswept(t *testing.T) {
	for _, release := range []string{"go1.25", "go1.26"} {
		_, l := layoutOf(release)
		const heap, list, span, start, allocated, marked = 0x10000, 0x20000, 0x21000, 0x40000, 0x22000, 0x23000
		b := make([]byte, 0x50000)
		put := func(at uint64, name string, v uint64) {
			f := l[name]
			for i := range f.Size {
				b[at+f.Offset+i] = byte(v >> (8 * i))
			}
		}
		word := func(at, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }
		put(heap, "mheap.sweepgen", 10)
		word(heap+l["mheap.allspans"].Offset, list)
		word(heap+l["mheap.allspans"].Offset+8, 1)
		word(list, span)
		for name, v := range map[string]uint64{"startAddr": start, "npages": 1, "elemsize": 64, "nelems": 120, "spanclass": 5 << 1, "state": spanInUse,
			"sweepgen": 8, "freeindex": 100, "allocBits": allocated, "gcmarkBits": marked} {
			put(span, "mspan."+name, v)
		}
		marks := uint64(marked)
		if release == "go1.26" {
			marks = start + HeapPage - l["spanInlineMarkBits"].Size + l["spanInlineMarkBits.marks"].Offset
		}
		word(marks, 1<<50-1)           // the first 50 are reached
		word(allocated+8, 1<<(110-64)) // one behind the free index was allocated long ago
		r := &Runtime{mem: newMemory(bytes.NewReader(b)), layout: l, symbols: map[string]uint64{"runtime.mheap_": heap}}
		spans, unread := r.Spans()
		if len(spans) != 1 || unread != 0 {
			t.Fatalf("%s: %d spans, %d unread", release, len(spans), unread)
		}
		var n [4]int
		for _, slot := range spans[0].Slots {
			n[slot]++
		}
		if n != [4]int{FreeSlot: 19, LiveSlot: 50, NewSlot: 0, GarbageSlot: 51} {
			t.Errorf("%s: slots by state %v", release, n)
		}
		put(span, "mspan.sweepgen", 10) // once it is swept, marks mean nothing
		r.Refresh()
		spans, _ = r.Spans()
		if s := spans[0].Slots; s[0] != NewSlot || s[110] != LiveSlot || s[111] != FreeSlot {
			t.Errorf("%s: swept: %v", release, s)
		}
	}
}

// memoryOf is the span that has an address.
func (r *Runtime) memoryOf(at uint64, spans []Span) *Span {
	for i := range spans {
		if s := &spans[i]; at >= s.Start && at < s.Start+s.Bytes {
			return s
		}
	}
	return nil
}

func TestNoGo(t *testing.T) {
	f, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(f, 0, bytes.NewReader(nil)); !errors.Is(err, ErrNotGo) {
		t.Errorf("of /bin/sh: %v", err)
	}
	if _, err := Open(strings.NewReader("text"), 0, bytes.NewReader(nil)); err == nil {
		t.Error("of a text there is no error")
	}
	file := buildTarget(t, "")
	g, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := Open(g, 0, bytes.NewReader(nil)); err == nil || !strings.Contains(err.Error(), "not where its symbols say") {
		t.Errorf("with no memory: %v", err)
	}
}

func TestLayoutOf(t *testing.T) {
	for version, want := range map[string]string{
		"go1.26.8": "go1.26", "go1.26": "go1.26", "go1.26rc1": "go1.26", "go1.26.1 X:nogreenteagc": "", "go1.26-X:foo": "", "": "", "go1.2": "go1.2",
	} {
		if got, _ := layoutOf(version); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

// scattered is a memory whose every word is taken from fuzzed bytes, so that all pointers lead to
// something.
type scattered []byte

func (s scattered) ReadAt(p []byte, off int64) (int, error) {
	if len(s) == 0 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = s[(int(off%int64(len(s)))+i)%len(s)]
	}
	return len(p), nil
}

// FuzzMemory reads a runtime out of memory that is anything: it ends, in bounded memory, and what it
// returns keeps its laws.
func FuzzMemory(f *testing.F) {
	f.Add([]byte{0x00, 0x20, 0, 0, 0, 0, 0, 0}, uint64(0x1000))
	f.Add(bytes.Repeat([]byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, 64), uint64(0x2000))
	_, l := layoutOf("go1.26")
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		if len(b) > 1<<16 {
			return
		}
		at %= 1 << 40
		r := &Runtime{mem: newMemory(bounded{scattered(b), at &^ 4095}), layout: l, symbols: map[string]uint64{}}
		for _, v := range variables {
			r.symbols[v] = at
		}
		for _, a := range r.Areas() {
			if a.End <= a.Start {
				t.Fatalf("area %+v", a)
			}
		}
		end := uint64(0)
		spans, _ := r.Spans()
		for _, s := range spans {
			if s.Start < end || s.Bytes == 0 || uint64(len(s.Slots))*s.SlotSize > s.Bytes {
				t.Fatalf("span %+v", s)
			}
			end = s.Start + s.Bytes
		}
		for _, x := range r.Sampled(spans) {
			if x.Size == 0 || x.Objects < 1 || len(x.Stack) == 0 || r.memoryOf(x.Address, spans) == nil {
				t.Fatalf("sampled object %+v", x)
			}
		}
		r.Stacks()
		r.Limit()
	})
}

// bounded is readable in a megabyte from start on.
type bounded struct {
	io.ReaderAt
	start uint64
}

func (b bounded) ReadAt(p []byte, off int64) (int, error) {
	if uint64(off) < b.start || uint64(off)+uint64(len(p)) > b.start+1<<20 {
		return 0, io.EOF
	}
	return b.ReaderAt.ReadAt(p, off-int64(b.start))
}

func TestSpecialKinds(t *testing.T) {
	for version, want := range map[string]specialKinds{
		"go1.22.12": {finalizer: 1, profile: 2, weak: math.MaxUint64, cleanup: math.MaxUint64},
		"go1.23.1":  {finalizer: 1, weak: 2, profile: 3, cleanup: math.MaxUint64},
		"go1.24rc2": {finalizer: 1, weak: 2, profile: 3, cleanup: 6},
		"go1.26.8":  {finalizer: 2, weak: 3, profile: 4, cleanup: 7},
		"go1.31":    {finalizer: 2, weak: 3, profile: 4, cleanup: 7},
		"":          {finalizer: 2, weak: 3, profile: 4, cleanup: 7},
	} {
		if got := kindsOf(version); got != want {
			t.Errorf("%q: %+v, want %+v", version, got, want)
		}
		r := Runtime{Version: version}
		if known := version != "" && version != "go1.31"; r.Known() != known {
			t.Errorf("%q is known: %v", version, r.Known())
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][2]string{ // as people read it, package
		"main.T":               {"main.T", "main"},
		"*net/http.Request":    {"*http.Request", "net/http"},
		"[]github.com/x/y.T":   {"[]y.T", "github.com/x/y"},
		"[4]*a/b.T":            {"[4]*b.T", "a/b"},
		"map[net/http.K]a/b.V": {"map[http.K]b.V", ""},
		"sync/atomic.Pointer[internal/sync.node]": {"atomic.Pointer[sync.node]", "sync/atomic"},
		"func(a/b.T, *c/d.U) error":               {"func(b.T, *d.U) error", ""},
		"string":                                  {"string", ""},
		"gopkg.in/yaml%2ev3.Node":                 {"yaml%2ev3.Node", "gopkg.in/yaml.v3"},
		"chan a/b.T":                              {"chan b.T", "a/b"},
		"":                                        {"", ""},
		"[":                                       {"[", ""},
		"main.(*T).run":                           {"main.(*T).run", "main"},
	} {
		if got := [2]string{shortName(name), packageOf(name)}; got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// FuzzDebugInfo reads sections that are anything.
func FuzzDebugInfo(f *testing.F) {
	file, err := elf.Open(buildTarget(f, "", "-ldflags=-compressdwarf=false"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	abbrev, _ := file.Section(".debug_abbrev").Data()
	info, _ := file.Section(".debug_info").Data()
	f.Add(info[:min(len(info), 4096)], abbrev)
	f.Add([]byte{20, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1}, []byte{1, 0x11, 1, 0x13, 0x0b, 0, 0, 2, 0x2e, 1, 3, 8, 0x11, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, info, abbrev []byte) {
		if len(info)+len(abbrev) > 1<<16 {
			return
		}
		x := &debugInfo{info: info, names: map[string]dwarf.Offset{}, descriptors: map[uint64]dwarf.Offset{}, functions: map[uint64]dwarf.Offset{}}
		w := walker{x: x, info: info, abbrev: abbrev, tables: map[uint64]map[uint64]*entryForm{}}
		w.all()
		for name, off := range x.names {
			if name == "" || int(off) >= len(info) {
				t.Fatalf("type %q at %d of %d", name, off, len(info))
			}
		}
		if n := len(x.names) + len(x.functions) + len(x.globals); n > len(info) {
			t.Fatalf("%d entries in %d bytes", n, len(info))
		}
	})
}
