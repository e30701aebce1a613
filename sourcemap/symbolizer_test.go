package sourcemap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A recordingOf is a capture whose mappings are files of this machine.
type recordingOf struct {
	*profile.Capture
	readers map[profile.MappingID]io.ReaderAt
	opened  int
}

func newRecording() *recordingOf {
	return &recordingOf{
		Capture: profile.NewCapture(profile.Target{}, time.Time{}),
		readers: map[profile.MappingID]io.ReaderAt{},
	}
}

func (r *recordingOf) mapping(m profile.Mapping, reader io.ReaderAt) profile.MappingID {
	id := profile.MappingID(len(r.Mappings))
	r.Mappings = append(r.Mappings, m)
	if reader != nil {
		r.readers[id] = reader
	}
	return id
}

// file maps the file at path.
func (r *recordingOf) file(t testing.TB, path string) profile.MappingID {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return r.mapping(profile.Mapping{Kind: profile.FileCode, Path: path}, f)
}

func (r *recordingOf) add(m profile.MappingID, addr uint64) profile.LocationID {
	r.Locations = append(r.Locations, profile.Location{Mapping: m, Addr: addr})
	return profile.LocationID(len(r.Locations) - 1)
}

func (r *recordingOf) open(id profile.MappingID) (io.ReaderAt, error) {
	r.opened++
	if reader, ok := r.readers[id]; ok {
		return reader, nil
	}
	return nil, errors.New("permission denied")
}

// funcs are the functions of a location's frames, innermost first.
func funcs(c *profile.Capture, l profile.LocationID) string {
	var names []string
	for _, id := range c.Symbols.Of[l] {
		names = append(names, c.Symbols.Frames[id].Func)
	}
	return strings.Join(names, " ")
}

func warnings(c *profile.Capture) string {
	var b strings.Builder
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "%s %d %s\n", w.Kind, w.Count, w.Text)
	}
	return b.String()
}

// addressOfFunc is the file address of the first instruction of a Go function.
func addressOfFunc(t testing.TB, table *goTable, name string) uint64 {
	t.Helper()
	for i := range table.nfunc {
		addr := table.text + uint64(table.entryOf(i))
		if table.find(addr) && table.name(table.fn.nameOff) == name {
			return addr
		}
	}
	t.Fatalf("no function %s", name)
	return 0
}

const kallsyms = `ffffffff81000000 T _text
ffffffff81000100 T do_syscall_64
ffffffff81000200 T schedule
ffffffff81000300 T _etext
`

func kallsymsOf(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// Each kind of mapping gets the frames the contract says, and what cannot be read one warning.
func TestSymbolizeKinds(t *testing.T) {
	program := goBuild{args: []string{"-ldflags=-s -w"}}.build(t)
	table, _ := openGo(t, program)
	r := newRecording()
	goes := r.file(t, program)
	kernel := r.mapping(profile.Mapping{Kind: profile.KernelCode}, nil)
	module := r.mapping(profile.Mapping{Kind: profile.KernelCode, Path: "[nf_tables]"}, nil)
	anonymous := r.mapping(profile.Mapping{Kind: profile.Anonymous}, nil)
	gone := r.mapping(profile.Mapping{Kind: profile.FileCode, Path: "/lib/gone.so"}, nil)
	script := r.mapping(profile.Mapping{Kind: profile.FileCode, Path: "/bin/script"}, strings.NewReader("#!/bin/sh\n"))
	image, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	cut := r.mapping(profile.Mapping{Kind: profile.FileCode, Path: "/bin/cut"}, bytes.NewReader(image[:len(image)-100]))
	fold := r.add(goes, addressOfFunc(t, table, "main.work"))
	nowhere := r.add(goes, 1)
	schedule := r.add(kernel, 0x210)
	syscall := r.add(module, 0x110)
	beyond := r.add(kernel, 1<<40)
	jitted := r.add(anonymous, 0x7f0000001000)
	none := r.add(0, 0x1234)
	lost1, lost2 := r.add(gone, 0x10), r.add(gone, 0x20)
	shell := r.add(script, 0x10)
	cutWork := r.add(cut, r.Locations[fold].Addr)

	s := NewSymbolizer(Config{Kallsyms: kallsymsOf(kallsyms)})
	for range 2 { // the second time must change nothing
		if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	for _, want := range []struct {
		location profile.LocationID
		funcs    string
		module   string
	}{
		{fold, "main.work", program},
		{nowhere, "[unknown]", program},
		{schedule, "schedule", "[kernel]"},
		{syscall, "do_syscall_64", "[kernel]"},
		{beyond, "[kernel]", ""},
		{jitted, "[unknown]", ""},
		{none, "[unknown]", ""},
		{lost1, "[unknown]", "/lib/gone.so"},
		{lost2, "[unknown]", "/lib/gone.so"},
		{shell, "[unknown]", "/bin/script"},
		{cutWork, "main.work", "/bin/cut"},
	} {
		if got := funcs(r.Capture, want.location); got != want.funcs {
			t.Errorf("location %d has frames %s; want %s", want.location, got, want.funcs)
		}
		if got := r.Symbols.Frames[r.Symbols.Of[want.location][0]].Module; got != want.module {
			t.Errorf("location %d is of module %q; want %q", want.location, got, want.module)
		}
	}
	const text = `unreadable 0 the symbols of /lib/gone.so cannot be read: permission denied
unreadable 0 the symbols of /bin/script cannot be read: not an ELF file: it begins with "#!/b"
unreadable 0 /bin/cut: truncated: its sections' names lie beyond the file's SIZE bytes
`
	if diff := cmp.Diff(strings.Replace(text, "SIZE", strconv.Itoa(len(image)-100), 1), warnings(r.Capture)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if r.opened != 4 || len(s.warnings) != 3 {
		t.Errorf("%d binaries were opened, %d warnings kept; want 4, each once, and 3", r.opened, len(s.warnings))
	}
}

// A kernel that hides its symbols costs names and nothing else.
func TestSymbolizeHiddenKernel(t *testing.T) {
	for name, open := range map[string]func() (io.ReadCloser, error){
		"zeros":      kallsymsOf("0000000000000000 T _text\n0000000000000000 T schedule\n"),
		"empty":      kallsymsOf(""),
		"unreadable": func() (io.ReadCloser, error) { return nil, os.ErrPermission },
	} {
		r := newRecording()
		l := r.add(r.mapping(profile.Mapping{Kind: profile.KernelCode}, nil), 0x210)
		if err := NewSymbolizer(Config{Kallsyms: open}).Symbolize(t.Context(), r.Capture, r.open); err != nil {
			t.Fatal(err)
		}
		if got := funcs(r.Capture, l); got != profile.Kernel || len(r.Warnings) != 1 {
			t.Errorf("%s: the frame is %s, the warnings are %q", name, got, warnings(r.Capture))
		}
	}
}

// A view that has grown keeps its frames and ids, and equals what naming all at once gives; warnings
// of earlier views come with later ones, which are copies that do not have them.
func TestSymbolizeGrowingViews(t *testing.T) {
	program := goBuild{}.build(t)
	_, f := openGo(t, program)
	addrs := codeOf(f, 4099)
	r := newRecording()
	m := r.file(t, program)
	gone := r.mapping(profile.Mapping{Kind: profile.FileCode, Path: "/lib/gone.so"}, nil)
	r.add(gone, 1)
	s := NewSymbolizer(Config{})
	var before *profile.Capture
	for i, addr := range addrs {
		r.add(m, addr)
		if i%50 != 0 && i != len(addrs)-1 {
			continue
		}
		v := r.View()
		if err := s.Symbolize(t.Context(), v, r.open); err != nil {
			t.Fatal(err)
		}
		if err := v.Check(); err != nil {
			t.Fatal(err)
		}
		if len(v.Symbols.Of) != len(v.Locations) || len(v.Warnings) != 1 {
			t.Fatalf("%d of %d locations are named, warnings %q", len(v.Symbols.Of), len(v.Locations), warnings(v))
		}
		if before != nil {
			if diff := cmp.Diff(before.Symbols.Frames, v.Symbols.Frames[:len(before.Symbols.Frames)]); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(before.Symbols.Of, v.Symbols.Of[:len(before.Symbols.Of)]); diff != "" {
				t.Fatal(diff)
			}
		}
		before = v
	}
	once := r.View()
	if err := NewSymbolizer(Config{}).Symbolize(t.Context(), once, r.open); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(once.Symbols, before.Symbols); diff != "" {
		t.Error(diff)
	}
	seen := map[profile.Frame]bool{}
	for _, f := range once.Symbols.Frames {
		if seen[f] {
			t.Errorf("frame %v is there twice", f)
		}
		seen[f] = true
	}
	// An older view, named late.
	older := *r.Capture
	older.Locations = older.Locations[:3]
	if err := s.Symbolize(t.Context(), &older, r.open); err != nil || len(older.Symbols.Of) != 3 {
		t.Errorf("an older view: %v, %d of 3 locations named", err, len(older.Symbols.Of))
	}
}

func TestSymbolizeCancelled(t *testing.T) {
	program := goBuild{}.build(t)
	r := newRecording()
	r.add(r.file(t, program), 0x401000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := NewSymbolizer(Config{})
	if err := s.Symbolize(ctx, r.Capture, r.open); !errors.Is(err, context.Canceled) || r.Symbols.Of != nil {
		t.Errorf("cancelled: %v, %v", err, r.Symbols.Of)
	}
	if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil || len(r.Symbols.Of) != 2 {
		t.Errorf("after that: %v, %v", err, r.Symbols.Of)
	}
}

// Addresses that are file offsets are names for the same places.
func TestSymbolizeOffsets(t *testing.T) {
	program := goBuild{args: []string{"-buildmode=pie"}}.build(t)
	table, f := openGo(t, program)
	addr := addressOfFunc(t, table, "main.work")
	r := newRecording()
	file := r.file(t, program)
	offsets := r.mapping(profile.Mapping{Kind: profile.FileCode, Path: program, Offsets: true}, r.readers[file])
	var offset uint64
	for _, p := range f.Progs {
		if addr-p.Vaddr < p.Filesz {
			offset = addr - p.Vaddr + p.Off
		}
	}
	l := r.add(offsets, offset)
	if err := NewSymbolizer(Config{}).Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	if got := funcs(r.Capture, l); got != "main.work" || offset == addr {
		t.Errorf("offset %#x (address %#x) is %s; want main.work", offset, addr, got)
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	small, large := write("small.go", "package small\n"), write("large.c", strings.Repeat("x", maxSource+1))
	missing := filepath.Join(dir, "missing.go")
	c := profile.NewCapture(profile.Target{}, time.Time{})
	c.Symbols.Frames = []profile.Frame{{},
		{Func: "b", File: small, Line: 3}, {Func: "a", File: small, Line: 1}, {Func: "c", File: large},
		{Func: "d", File: autogenerated}, {Func: "e", File: "_cgo_gotypes.go"}, {Func: "f", File: missing},
		{Func: "g", File: dir}, {Func: "[unknown]"},
	}
	s := NewSymbolizer(Config{})
	if err := s.Sources(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want := []profile.Source{
		{Path: large, Local: large, Note: "not kept: its 4194305 bytes are more than the 4194304 of a source that is kept"},
		{Path: missing, Note: "not found on this machine; a path prefix can say where it is"},
		{Path: small, Local: small, Text: []byte("package small\n")},
		{Path: autogenerated, Note: "made by the compiler: there is no source"},
		{Path: "_cgo_gotypes.go", Note: "made by cgo during the build: the file is gone"},
	}
	got := c.Symbols.Sources
	got = append(got[:0:0], got[1:]...) // the folder: see below
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if folder := c.Symbols.Sources[0]; folder.Path != dir || folder.Text != nil || folder.Note == "" {
		t.Errorf("a folder is the source %+v", folder)
	}

	// The text stays as it was at first; what was missing may come.
	write("small.go", "package changed\n")
	write("missing.go", "package missing\n")
	if err := s.Sources(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, source := range c.Symbols.Sources {
		if source.Path == small && !bytes.Equal(source.Text, []byte("package small\n")) {
			t.Errorf("the text has become %q", source.Text)
		}
	}
}

// A source that is younger than the binary that names it may have other lines; one that nobody edits
// has the time of its installation.
func TestSourcesYoungerThanBinary(t *testing.T) {
	program := goBuild{}.build(t)
	dir := t.TempDir()
	cache := filepath.Join(dir, "mod")
	files := map[string]time.Duration{ // age relative to the binary
		filepath.Join(dir, "old.go"):               -time.Hour,
		filepath.Join(dir, "young.go"):             time.Hour,
		filepath.Join(cache, "m@v1.0.0", "dep.go"): time.Hour,
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecording()
	r.add(r.file(t, program), 0x401000)
	s := NewSymbolizer(Config{Paths: &Paths{ModCache: cache}})
	if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	r.Symbols.Frames = make([]profile.Frame, 1)
	for file, age := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("package p\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, info.ModTime().Add(age)); err != nil {
			t.Fatal(err)
		}
		r.Symbols.Frames = append(r.Symbols.Frames, profile.Frame{Func: "f", File: file, Module: program})
	}
	if err := s.Sources(t.Context(), r.Capture); err != nil {
		t.Fatal(err)
	}
	for _, source := range r.Symbols.Sources {
		want := ""
		if filepath.Base(source.Path) == "young.go" {
			want = "changed after program was built; lines may have moved"
		}
		if source.Note != want || source.Text == nil {
			t.Errorf("%s has the note %q; want %q", source.Path, source.Note, want)
		}
	}
}

// The kernel's code in user space is named by its own symbols.
func TestSymbolizeVDSO(t *testing.T) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var image []byte
	for line := range strings.Lines(string(maps)) {
		var start, end int64
		if !strings.Contains(line, "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			t.Fatal(err)
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		image = make([]byte, end-start)
		if _, err := mem.ReadAt(image, start); err != nil {
			t.Fatal(err)
		}
	}
	if image == nil {
		t.Skip("this kernel maps no vdso")
	}
	b, err := openBinary(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := b.file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	r := newRecording()
	m := r.mapping(profile.Mapping{Kind: profile.VDSO, Path: "[vdso]"}, bytes.NewReader(image))
	want := map[profile.LocationID]string{}
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, "__vdso_") || strings.HasPrefix(s.Name, "__kernel_") {
			want[r.add(m, s.Value+1)] = s.Name
		}
	}
	if err := NewSymbolizer(Config{}).Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	for l, name := range want {
		frame := r.Symbols.Frames[r.Symbols.Of[l][0]]
		if !strings.HasSuffix(frame.Func, strings.TrimLeft(name, "_")) || frame.Module != "[vdso]" {
			t.Errorf("%s is %+v", name, frame)
		}
	}
	if len(want) == 0 || len(r.Warnings) != 0 {
		t.Errorf("%d functions, warnings %q", len(want), warnings(r.Capture))
	}
}

func TestIsEntry(t *testing.T) {
	for name, want := range map[string]bool{
		"runtime.goexit": true, "runtime.goexit.abi0": true, "_rt0_amd64_linux": true, "start_thread": true,
		startCallMain: true, "runtime.systemstack": false, "main.main": false, "main": false, "": false,
	} {
		if got := isEntry(name); got != want {
			t.Errorf("isEntry(%q) is %v", name, got)
		}
	}
}
