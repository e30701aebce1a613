package sourcemap

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// codeAddresses are the addresses of a binary's functions, some of each, by its symbols.
func codeAddresses(t testing.TB, path string) []uint64 {
	t.Helper()
	table, err := parseSymtab(openELF(t, path))
	if err != nil {
		t.Fatal(err)
	}
	var addrs []uint64
	for _, s := range table.spans {
		for a := s.start; a < s.end; a += 3 {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// named are the frames of addresses of the binary at path, and what was warned of.
func named(t testing.TB, path string, addrs []uint64, config Config) (frames [][]profile.Frame, warned string) {
	t.Helper()
	r := newRecording()
	m := r.file(t, path)
	for _, a := range addrs {
		r.add(m, a)
	}
	s := NewSymbolizer(config)
	defer s.Close()
	if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	for _, of := range r.Symbols.Of[1:] {
		var chain []profile.Frame
		for _, id := range of {
			f := r.Symbols.Frames[id]
			f.Module = ""
			chain = append(chain, f)
		}
		frames = append(frames, chain)
	}
	return frames, warnings(r.Capture)
}

// sameFrames holds what was found against what is in the whole binary.
func sameFrames(t *testing.T, addrs []uint64, want, got [][]profile.Frame) {
	t.Helper()
	bad, inlined := 0, 0
	for i := range want {
		if len(want[i]) > 1 {
			inlined++
		}
		if d := cmp.Diff(want[i], got[i]); d != "" {
			if bad++; bad <= 3 {
				t.Errorf("%#x (-whole +split):\n%s", addrs[i], d)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d addresses differ", bad, len(want))
	}
	if inlined < 100 {
		t.Errorf("only %d of %d addresses are in inlined calls", inlined, len(want))
	}
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o777); err != nil {
		t.Fatal(err)
	}
}

// What was split from a binary is found wherever the tools put it, and gives the frames of the whole
// binary.
func TestDebugFiles(t *testing.T) {
	whole := build(t, "g++", "-std=c++17", "-g", "-O2", "-o", "OUT", "boxes.cc")
	noID := build(t, "g++", "-std=c++17", "-g", "-O2", "-Wl,--build-id=none", "-o", "OUT", "boxes.cc")
	addrs := codeAddresses(t, whole)
	id := buildID(openELF(t, whole))
	if len(id) != 40 {
		t.Fatalf("build ID %q", id)
	}
	byID := filepath.Join(".build-id", id[:2], id[2:]+".debug")
	for _, c := range []struct {
		name   string
		binary string // noID or whole
		at     func(dir, folder string) string
	}{
		{"build ID", whole, func(dir, folder string) string { return filepath.Join(folder, byID) }},
		{"link beside", whole, func(dir, folder string) string { return filepath.Join(dir, "prog.debug") }},
		{"link in .debug", whole, func(dir, folder string) string { return filepath.Join(dir, ".debug", "prog.debug") }},
		{"link in the folder", whole, func(dir, folder string) string { return filepath.Join(folder, dir, "prog.debug") }},
		{"checksum", noID, func(dir, folder string) string { return filepath.Join(dir, "prog.debug") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, folder := testDir(t), testDir(t)
			prog, debug := filepath.Join(dir, "prog"), filepath.Join(dir, "prog.debug")
			copyFile(t, c.binary, prog)
			want, _ := named(t, prog, addrs, Config{})
			run(t, dir, "objcopy", "--only-keep-debug", prog, debug)
			run(t, dir, "strip", prog)
			run(t, dir, "objcopy", "--add-gnu-debuglink=prog.debug", prog)
			if at := c.at(dir, folder); at != debug {
				copyFile(t, debug, at)
				os.Remove(debug)
			}
			got, warned := named(t, prog, addrs, Config{DebugFolders: []string{folder}})
			if warned != "" {
				t.Errorf("warned: %s", warned)
			}
			sameFrames(t, addrs, want, got)
		})
	}
}

// A debug file of another build is refused, by whatever way it was found, and named in a warning.
func TestDebugFileOfAnotherBuild(t *testing.T) {
	for _, id := range []string{"sha1", "none"} {
		t.Run(id, func(t *testing.T) {
			dir := testDir(t)
			prog, debug := filepath.Join(dir, "prog"), filepath.Join(dir, "prog.debug")
			copyFile(t, build(t, "g++", "-std=c++17", "-g", "-O1", "-Wl,--build-id="+id, "-o", "OUT", "boxes.cc"), debug)
			copyFile(t, build(t, "g++", "-std=c++17", "-g", "-O2", "-Wl,--build-id="+id, "-o", "OUT", "boxes.cc"), prog)
			addrs := codeAddresses(t, prog)
			folder := ""
			if is := buildID(openELF(t, prog)); is != "" {
				folder = testDir(t)
				copyFile(t, debug, filepath.Join(folder, ".build-id", is[:2], is[2:]+".debug"))
			}
			run(t, dir, "objcopy", "--add-gnu-debuglink=prog.debug", "--strip-all", prog)
			run(t, dir, "sh", "-c", "printf x >>prog.debug")
			got, warned := named(t, prog, addrs, Config{DebugFolders: []string{folder}})
			for i, frames := range got {
				if frames[0].File != "" {
					t.Fatalf("%#x is %+v", addrs[i], frames)
				}
			}
			if !strings.Contains(warned, debug+" is of another build") {
				t.Errorf("warned: %s", warned)
			}
			if folder != "" && !strings.Contains(warned, folder) {
				t.Errorf("warned only: %s", warned)
			}
		})
	}
}

// The stripped symbols in .gnu_debugdata name functions; where it is damaged, a warning says so.
func TestDebugData(t *testing.T) {
	dir := testDir(t)
	prog := filepath.Join(dir, "prog")
	copyFile(t, build(t, "gcc", "-O2", "-o", "OUT", "shapes.c"), prog)
	addrs := codeAddresses(t, prog)
	want, _ := named(t, prog, addrs, Config{})
	run(t, dir, "objcopy", "-S", "--keep-section=.symtab", "--only-keep-debug", "prog", "mini")
	run(t, dir, "xz", "-9", "mini")
	run(t, dir, "strip", prog)
	run(t, dir, "objcopy", "--add-section", ".gnu_debugdata=mini.xz", prog)
	got, warned := named(t, prog, addrs, Config{})
	if d := cmp.Diff(want, got); d != "" || warned != "" {
		t.Errorf("warned %q (-symbols +debugdata):\n%s", warned, d)
	}

	data, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	f := openELF(t, prog)
	s := f.Section(".gnu_debugdata")
	data[s.Offset+s.FileSize/2] ^= 0x55
	if err := os.WriteFile(prog, data, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, warned = named(t, prog, addrs, Config{}); !strings.Contains(warned, ".gnu_debugdata") {
		t.Errorf("warned: %s", warned)
	}
}

// Debug sections in each compressed form give what plain ones do.
func TestDebugCompressed(t *testing.T) {
	whole := build(t, "g++", "-std=c++17", "-g", "-O2", "-o", "OUT", "boxes.cc")
	addrs := codeAddresses(t, whole)
	want, _ := named(t, whole, addrs, Config{})
	for _, form := range []string{"zlib-gabi", "zlib-gnu", "zstd"} {
		t.Run(form, func(t *testing.T) {
			packed := filepath.Join(testDir(t), "prog")
			if help, _ := exec.Command("objcopy", "--help").Output(); !bytes.Contains(help, []byte(form)) {
				t.Skipf("objcopy does not know %s", form)
			}
			run(t, "", "objcopy", "--compress-debug-sections="+form, whole, packed)
			got, warned := named(t, packed, addrs, Config{})
			if warned != "" {
				t.Errorf("warned: %s", warned)
			}
			sameFrames(t, addrs, want, got)
		})
	}
}

// Split units give what whole ones do: from their own files, from a package beside the binary, and
// when the folder of the build was moved.
func TestDebugSplit(t *testing.T) {
	for _, compiler := range []string{"g++", "clang++"} {
		for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
			t.Run(compiler+version, func(t *testing.T) {
				t.Parallel()
				testSplit(t, compiler, version)
			})
		}
	}
}

func testSplit(t *testing.T, compiler, version string) {
	flags := []string{"-std=c++17", "-O2", version, "-o", "OUT", "boxes.cc"}
	// The same folder, so that paths are the same.
	split := build(t, append([]string{compiler, "-gsplit-dwarf"}, flags...)...)
	dir := filepath.Dir(split)
	run(t, dir, "mv", "out", "split")
	whole := compileIn(t, dir, append([]string{compiler}, flags...)...)
	split = filepath.Join(dir, "split")
	addrs := codeAddresses(t, whole)
	want, _ := named(t, whole, addrs, Config{})
	dwo, err := filepath.Glob(filepath.Join(dir, "*.dwo"))
	if err != nil || len(dwo) != 1 {
		t.Fatalf("%q, %v", dwo, err)
	}
	check := func(name, prog string, config Config, warning string) {
		t.Run(name, func(t *testing.T) {
			got, warned := named(t, prog, addrs, config)
			if warned != warning && (warning == "" || !strings.Contains(warned, warning)) {
				t.Errorf("warned: %s", warned)
			}
			if warning == "" {
				sameFrames(t, addrs, want, got)
				return
			}
			for i, frames := range got {
				if len(frames) != 1 || frames[0].Func == "" {
					t.Fatalf("%#x is %+v", addrs[i], frames)
				}
			}
		})
	}
	check("files", split, Config{}, "")
	if compiler == "g++" {
		// Of clang's units LLVM 14 mixes up the ranges of inlined calls once they are split: it answers
		// otherwise for the same code with whole units, which TestDWARFAgainstOthers holds it against.
		t.Run("llvm-symbolizer", func(t *testing.T) { compareSplit(t, split, addrs) })
	}

	for _, tool := range []string{"dwp", "llvm-dwp"} {
		if version == "-gdwarf-5" && (tool == "dwp" || compiler == "g++") {
			continue // dwp of binutils 2.40 writes the older form only; llvm-dwp 14 does not end with units of GCC
		}
		t.Run(tool, func(t *testing.T) {
			other := testDir(t)
			run(t, dir, tool, "-e", split, "-o", filepath.Join(other, "split.dwp"))
			copyFile(t, split, filepath.Join(other, "split"))
			if err := os.Rename(dwo[0], dwo[0]+".away"); err != nil {
				t.Fatal(err)
			}
			defer os.Rename(dwo[0]+".away", dwo[0])
			check("package", filepath.Join(other, "split"), Config{}, "")
		})
	}
	moved := testDir(t)
	copyFile(t, dwo[0], filepath.Join(moved, filepath.Base(dwo[0])))
	if err := os.Remove(dwo[0]); err != nil {
		t.Fatal(err)
	}
	check("moved", split, Config{Paths: &Paths{Prefixes: []Prefix{{dir, moved}}}}, "")
	check("missing", split, Config{}, dwo[0]+" is missing")

	run(t, dir, compiler, "-gsplit-dwarf", "-std=c++17", "-O1", version, "-o", "later", "boxes.cc")
	if later, _ := filepath.Glob(filepath.Join(dir, "*.dwo")); len(later) != 1 {
		t.Fatalf("%q", later)
	} else if later[0] != dwo[0] {
		run(t, dir, "mv", later[0], dwo[0])
	}
	check("another build", split, Config{}, dwo[0]+" is of another build")
}

// compareSplit holds the frames of split units against LLVM's.
func compareSplit(t *testing.T, bin string, addrs []uint64) {
	want := symbolizer(t, bin, addrs)
	got, _ := named(t, bin, addrs, Config{})
	table, err := parseSymtab(openELF(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	names := map[uint64][]string{}
	for i := range table.syms {
		s := &table.syms[i]
		names[s.addr] = append(names[s.addr], Demangle(s.spelling()))
	}
	bad, compared := 0, 0
	for i, a := range addrs {
		if len(want[i]) == 0 || len(want[i]) == 1 && want[i][0].Line == 0 && got[i][0].Line == 0 {
			continue // no debug information: only a symbol
		}
		compared++
		if !same(got[i], want[i], names[table.start(a)], 5, false) {
			if bad++; bad <= 3 {
				t.Errorf("%#x (-llvm-symbolizer +got):\n%s", a, cmp.Diff(want[i], places(got[i], false)))
			}
		}
	}
	if bad*1000 > compared || compared < 300 {
		t.Errorf("%d of %d addresses differ", bad, compared)
	}
	t.Logf("%d of %d addresses differ", bad, compared)
}

// Entries that dwz moved to a file of their own are found there; without it, or with that of another
// build, a warning names it.
func TestDebugSupplement(t *testing.T) {
	for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
		t.Run(version, func(t *testing.T) {
			dir := testDir(t)
			one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
			copyFile(t, build(t, "g++", "-std=c++17", version, "-O2", "-o", "OUT", "boxes.cc"), one)
			copyFile(t, build(t, "g++", "-std=c++17", version, "-O2", "-Dextra=1", "-Wl,--build-id=uuid", "-o", "OUT", "boxes.cc"), two)
			addrs := codeAddresses(t, one)
			want, _ := named(t, one, addrs, Config{})
			run(t, dir, "dwz", "-m", "shared", "-M", "shared", "one", "two")
			name, id, ok := altLink(openELF(t, one))
			if !ok || name != "shared" || id != buildID(openELF(t, filepath.Join(dir, "shared"))) {
				t.Fatalf("%q %q %v", name, id, ok)
			}
			got, warned := named(t, one, addrs, Config{})
			if warned != "" {
				t.Errorf("warned: %s", warned)
			}
			sameFrames(t, addrs, want, got)

			if err := os.Rename(filepath.Join(dir, "shared"), filepath.Join(dir, "away")); err != nil {
				t.Fatal(err)
			}
			if got, warned = named(t, one, addrs, Config{}); !strings.Contains(warned, "shared") || len(got) != len(addrs) {
				t.Errorf("warned: %s", warned)
			}
			folder := testDir(t)
			copyFile(t, filepath.Join(dir, "away"), filepath.Join(folder, ".build-id", id[:2], id[2:]+".debug"))
			got, warned = named(t, one, addrs, Config{DebugFolders: []string{folder}})
			if warned != "" {
				t.Errorf("warned: %s", warned)
			}
			sameFrames(t, addrs, want, got)
			copyFile(t, one, filepath.Join(dir, "shared"))
			if _, warned = named(t, one, addrs, Config{}); !strings.Contains(warned, filepath.Join(dir, "shared")+" is of another build") {
				t.Errorf("warned: %s", warned)
			}
		})
	}
}

// A binary that is not the one that was recorded names nothing.
func TestBinaryOfAnotherBuild(t *testing.T) {
	bin := build(t, "gcc", "-g", "-O2", "-o", "OUT", "shapes.c")
	r := newRecording()
	m := r.file(t, bin)
	r.Mappings[m].BuildID = strings.Repeat("ab", 20)
	l := r.add(m, codeAddresses(t, bin)[0])
	if err := NewSymbolizer(Config{}).Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	if got := funcs(r.Capture, l); got != profile.Unknown {
		t.Errorf("named %s", got)
	}
	if w := warnings(r.Capture); !strings.Contains(w, bin) || !strings.Contains(w, "of another build") {
		t.Errorf("warned: %s", w)
	}
}

func FuzzAltLink(f *testing.F) {
	f.Add([]byte("../.dwz/x.debug\x00\x01\x02\x03\x04\x05\x06\x07\x08"))
	f.Add([]byte("\x05\x00\x00x.sup\x00\x04abcd"))
	f.Add([]byte("\x05\x00\x00x.sup\x00\x10abcd"))
	f.Add([]byte("x.debug\x00\x00\x00\x00\x01\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func() (string, string, bool){
			func() (string, string, bool) { return parseAltLink(data) },
			func() (string, string, bool) { return parseSup(cursor{b: data}) },
		} {
			if name, id, ok := read(); ok != (name != "" && isBuildID(id)) || !ok && (name != "" || id != "") {
				t.Errorf("%q %q %v", name, id, ok)
			}
		}
		if name, _, ok := parseDebugLink(data, binary.LittleEndian); ok && strings.Contains(name, "/") {
			t.Errorf("a path: %q", name)
		}
		for id, r := range packageIndex(cursor{b: data}) {
			if r == (packageRow{}) && id != 0 {
				continue
			}
		}
	})
}

func FuzzDebugData(f *testing.F) {
	for _, level := range []string{"-0", "-9", "-T2", "--check=crc32", "--check=none"} {
		cmd := exec.Command("xz", "-c", level)
		cmd.Stdin = strings.NewReader(strings.Repeat("symbols and symbols ", 50) + level)
		if out, err := cmd.Output(); err == nil {
			f.Add(out)
		}
	}
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x00\x00\x00\x00\x1c\xdfD!\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := unxz(data)
		if err != nil && out != nil || len(out) > maxDebugData {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	})
}

// What xz writes is read, of each form it has.
func TestUnxz(t *testing.T) {
	text := strings.Repeat("all of the text ", 1<<12)
	for _, args := range [][]string{{"-0"}, {"-9e"}, {"--check=crc32"}, {"--check=sha256"}, {"--check=none"}, {"--block-size=4096"}} {
		cmd := exec.CommandContext(t.Context(), "xz", append([]string{"-c"}, args...)...)
		cmd.Stdin = strings.NewReader(text)
		packed, err := cmd.Output()
		if err != nil {
			t.Skip("xz is not installed")
		}
		got, err := unxz(packed)
		if err != nil || string(got) != text {
			t.Errorf("%v: %d bytes, %v", args, len(got), err)
		}
		if _, err := unxz(packed[:len(packed)/2]); err == nil {
			t.Errorf("%v: half of it is read", args)
		}
	}
	if _, err := unxz([]byte("PK\x03\x04 and so on")); err == nil {
		t.Error("something else is read")
	}
}
