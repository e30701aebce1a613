package sourcemap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// build compiles files of testdata/dwarf in a folder of their own; see compileIn.
func build(t testing.TB, command ...string) string {
	t.Helper()
	dir := testDir(t)
	if err := os.CopyFS(dir, os.DirFS("testdata/dwarf")); err != nil {
		t.Fatal(err)
	}
	return compileIn(t, dir, command...)
}

// programs are what the compilers of this machine make of the test programs.
var programs = []struct {
	name    string
	command []string
}{
	{"c/4", []string{"gcc", "-gdwarf-4", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/5", []string{"gcc", "-gdwarf-5", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/3", []string{"gcc", "-gdwarf-3", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/2", []string{"gcc", "-gdwarf-2", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/O0", []string{"gcc", "-g", "-O0", "-o", "OUT", "shapes.c"}},
	{"c/O3/static", []string{"gcc", "-g", "-O3", "-static", "-o", "OUT", "shapes.c"}},
	{"c/gc-sections", []string{"gcc", "-g", "-O2", "-ffunction-sections", "-Wl,--gc-sections", "-o", "OUT", "shapes.c"}},
	{"c/zlib", []string{"gcc", "-g", "-O2", "-gz=zlib", "-o", "OUT", "shapes.c"}},
	{"c/zlib-gnu", []string{"gcc", "-g", "-O2", "-gz=zlib-gnu", "-o", "OUT", "shapes.c"}},
	{"c/64", []string{"gcc", "-gdwarf64", "-gdwarf-5", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/lines only", []string{"gcc", "-g1", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/clang", []string{"clang", "-gdwarf-5", "-O2", "-o", "OUT", "shapes.c"}},
	{"c/clang/4", []string{"clang", "-gdwarf-4", "-O2", "-o", "OUT", "shapes.c"}},
	{"c++/4", []string{"g++", "-std=c++17", "-gdwarf-4", "-O2", "-o", "OUT", "boxes.cc"}},
	{"c++/5", []string{"g++", "-std=c++17", "-gdwarf-5", "-O2", "-o", "OUT", "boxes.cc"}},
	{"c++/type units", []string{"g++", "-std=c++17", "-gdwarf-5", "-fdebug-types-section", "-O2", "-o", "OUT", "boxes.cc"}},
	{"c++/type units/4", []string{"g++", "-std=c++17", "-gdwarf-4", "-fdebug-types-section", "-O2", "-o", "OUT", "boxes.cc"}},
	{"c++/lto", []string{"g++", "-std=c++17", "-g", "-O2", "-flto", "-o", "OUT", "boxes.cc"}},
	{"c++/clang", []string{"clang++", "-std=c++17", "-gdwarf-5", "-O2", "-o", "OUT", "boxes.cc"}},
	{"go", []string{"sh", "-c", "cp tally.go.txt tally.go && go build -o out tally.go"}},
	{"c/split", []string{"sh", "-c", "gcc -g -O2 -gsplit-dwarf -o out shapes.c && rm *.dwo"}},
	{"rust/4", []string{"rustc", "-g", "-O", "-C", "codegen-units=4", "-o", "OUT", "loops.rs"}},
	{"rust/5", []string{"rustc", "-g", "-O", "-C", "dwarf-version=5", "-C", "symbol-mangling-version=v0", "-o", "OUT", "loops.rs"}},
}

// Every address of the test programs has the frames that other tools give it: llvm-symbolizer in all
// programs, addr2line of GNU binutils in those of DWARF 2 to 4. In DWARF 5 binutils 2.40 takes file 0 for file 1,
// knows no inlined calls whose ranges are indexed, and reads a 64-bit unit's 32-bit lines wrongly.
func TestDWARFAgainstOthers(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			bin := build(t, p.command...)
			for _, name := range []string{"llvm-symbolizer", "addr2line"} {
				t.Run(name, func(t *testing.T) {
					compareWith(t, name, bin)
				})
			}
		})
	}
}

func compareWith(t *testing.T, name, bin string) {
	opened, err := openDWARF(openELF(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	table := opened.(*dwarfTable)
	addrs := addressesOf(t, table, 6000)
	gnu := name == "addr2line"
	var want [][]place
	if gnu {
		want = addr2line(t, bin, addrs)
	} else {
		want = symbolizer(t, bin, addrs)
	}
	names := map[uint64][]string{} // of functions that the linker found to be the same
	for i := range table.symtab.syms {
		s := &table.symtab.syms[i]
		names[s.addr] = append(names[s.addr], Demangle(s.spelling()))
	}
	bad, checked, deepest := 0, 0, 0
	for i, addr := range addrs {
		u := table.unitOf(addr)
		if gnu && u.version >= 5 {
			continue
		}
		got, ok := table.frames(addr, nil)
		if !ok {
			got = nil
		}
		checkChain(t, got)
		checked, deepest = checked+1, max(deepest, len(got))
		if same(got, want[i], names[table.symtab.start(addr)], u.version, gnu) {
			continue
		}
		if bad++; bad <= 5 {
			t.Errorf("%#x (-%s +got):\n%s", addr, name, cmp.Diff(want[i], places(got, gnu)))
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d addresses differ", bad, checked)
	}
	if checked == 0 && gnu {
		t.Log("every unit is DWARF 5")
		return
	}
	if checked < 300 || deepest < 3 && !strings.Contains(t.Name(), "O0") && !strings.Contains(t.Name(), "split") {
		t.Errorf("only %d addresses, the deepest of %d frames", checked, deepest)
	}
	t.Logf("%d addresses, up to %d frames", checked, deepest)
}

// A place is a frame as the other tools print it: what is not known is 0, and start and column are
// only LLVM's.
type place struct {
	Func, File          string
	Line, Column, Start int
}

func places(frames []profile.Frame, gnu bool) []place {
	var s []place
	for _, f := range frames {
		p := place{f.Func, f.File, f.Line, f.Column, f.StartLine}
		if gnu {
			p.Column, p.Start = 0, 0
		}
		s = append(s, p)
	}
	return s
}

// same says whether frames are what another tool prints. They may differ in these ways:
//   - a function without a linkage name: ours is qualified, theirs is not;
//   - where an address has no line, ours has the file of the function's declaration;
//   - in DWARF 5, LLVM 14 does not know where functions begin whose entry shares the line of its
//     declaration with others (DW_FORM_implicit_const);
//   - the outermost, and with GNU's such a function where it is innermost, are taken from the symbol
//     table by theirs ("main.cold").
func same(got []profile.Frame, want []place, symbols []string, version uint16, gnu bool) bool {
	if len(got) != len(want) {
		return false
	}
	for i, g := range places(got, gnu) {
		w := want[i]
		switch {
		case strings.HasSuffix(g.Func, "::"+w.Func), withoutParameters(g.Func, w.Func):
			g.Func = w.Func
		case slices.Contains(symbols, w.Func) && (i == len(want)-1 || gnu && i == 0):
			g.Func = w.Func
		}
		if w.File == "" && g.Line == 0 {
			g.File, g.Start = "", 0
		}
		if w.Start == 0 && version >= 5 {
			g.Start = 0
		}
		if g != w {
			return false
		}
	}
	return true
}

// withoutParameters says whether name, of a function that has no linkage name, is short with the
// parameters and the namespaces that a symbol's name has.
func withoutParameters(name, short string) bool {
	name, _, ok := strings.Cut(name, short+"(")
	return ok && (name == "" || strings.HasSuffix(name, "::"))
}

// checkChain checks what a table promises of the frames at an address.
func checkChain(t *testing.T, frames []profile.Frame) {
	t.Helper()
	for i, f := range frames {
		if f.Inlined != (i < len(frames)-1) || f.Func == "" || f.Module != "" || f.Entry && i < len(frames)-1 ||
			f.Line < 0 || f.StartLine < 0 || f.Line == 0 && f.Column != 0 {
			t.Fatalf("frame %d of %+v", i, frames)
		}
	}
}

// addressesOf are at most n addresses in what the binary's units say is code.
func addressesOf(t testing.TB, d *dwarfTable, n int) []uint64 {
	t.Helper()
	d.scan()
	total := uint64(0)
	for _, p := range d.spans {
		total += p.high - p.low
	}
	step := max(1, total/uint64(n))
	var addrs []uint64
	for _, p := range d.spans {
		for a := p.low; a < p.high; a += step {
			if name, _ := d.symbolAt(a); name != "" { // not padding between functions
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// addr2line is what GNU addr2line prints for each address. Names come as they are in the binary, so
// that demanglers are not compared.
func addr2line(t testing.TB, bin string, addrs []uint64) [][]place {
	t.Helper()
	lines := strings.Split(tool(t, hexLines(addrs), "addr2line", "-a", "-f", "-i", "-e", bin), "\n")
	var all [][]place
	for i := 0; i+1 < len(lines); {
		if strings.HasPrefix(lines[i], "0x") {
			all = append(all, nil)
			i++
			continue
		}
		at, _, _ := strings.Cut(lines[i+1], " (discriminator")
		colon := strings.LastIndexByte(at, ':')
		line, _ := strconv.Atoi(at[colon+1:])
		n := len(all) - 1
		all[n] = append(all[n], place{Func: Demangle(lines[i]), File: filePath(at[:colon]), Line: line})
		i += 2
	}
	if len(all) != len(addrs) {
		t.Fatalf("addr2line answered %d of %d addresses", len(all), len(addrs))
	}
	return all
}

// symbolizer is what llvm-symbolizer prints for each address.
func symbolizer(t testing.TB, bin string, addrs []uint64) [][]place {
	t.Helper()
	var all [][]place
	out := tool(t, hexLines(addrs), "llvm-symbolizer", "--obj="+bin, "--no-demangle", "--verbose", "--inlines")
	for answer := range strings.SplitSeq(strings.TrimSuffix(out, "\n\n"), "\n\n") {
		var frames []place
		startFile := ""
		for line := range strings.SplitSeq(answer, "\n") {
			if !strings.HasPrefix(line, "  ") {
				frames = append(frames, place{Func: Demangle(line)})
				startFile = ""
				continue
			}
			f := &frames[len(frames)-1]
			key, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
			number, _ := strconv.Atoi(text)
			switch key {
			case "Filename":
				f.File = filePath(text)
			case "Function start filename":
				startFile = filePath(text)
			case "Function start line":
				if startFile == f.File { // a line of another file is no line of ours
					f.Start = number
				}
			case "Line":
				f.Line = number
			case "Column":
				if f.Line != 0 {
					f.Column = number
				}
			}
		}
		all = append(all, frames)
	}
	if len(all) != len(addrs) {
		t.Fatalf("llvm-symbolizer answered %d of %d addresses", len(all), len(addrs))
	}
	return all
}

func hexLines(addrs []uint64) *strings.Reader {
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "%#x\n", a)
	}
	return strings.NewReader(b.String())
}

func filePath(s string) string {
	if s == "??" {
		return ""
	}
	return path.Clean(s)
}

// Units found by .debug_aranges, by their root entries and by neither's lying give the same frames,
// in whatever order addresses are asked.
func TestDWARFIndex(t *testing.T) {
	bin := build(t, "gcc", "-g", "-O2", "-o", "OUT", "shapes.c", "more.c", "-Wl,--build-id=none")
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	f := openELF(t, bin)
	aranges := f.Section(".debug_aranges")
	if aranges == nil || aranges.Size == 0 {
		t.Fatal("the compiler wrote no .debug_aranges")
	}
	open := func(data []byte) *dwarfTable {
		file, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := openDWARF(file)
		if err != nil {
			t.Fatal(err)
		}
		return opened.(*dwarfTable)
	}
	addrs := addressesOf(t, open(data), 4000)
	with := open(data)
	if len(with.listed) != 2 {
		t.Fatalf("%d units listed", len(with.listed))
	}
	var want [][]profile.Frame
	for _, a := range addrs {
		frames, _ := with.frames(a, nil)
		want = append(want, frames)
	}
	if with.scanned {
		t.Error("units were scanned although .debug_aranges has them")
	}
	// What the section's units are, swapped: all it says is wrong.
	swapped := bytes.Clone(data)
	section := swapped[aranges.Offset:][:aranges.Size]
	second := 4 + binary.LittleEndian.Uint32(section)
	a, b := section[6:10], section[second+6:second+10]
	for i := range 4 {
		a[i], b[i] = b[i], a[i]
	}
	// None: the section's version is not known.
	none := bytes.Clone(data)
	none[aranges.Offset+4], none[aranges.Offset+uint64(second)+4] = 99, 99
	// Half: only the second unit is listed.
	half := bytes.Clone(data)
	half[aranges.Offset+4] = 99
	for name, data := range map[string][]byte{"swapped": swapped, "none": none, "half": half, "backwards": data} {
		table := open(data)
		for i, a := range slices.Backward(addrs) {
			if got, _ := table.frames(a, nil); !cmp.Equal(got, want[i]) {
				t.Fatalf("%s: %#x (-want +got):\n%s", name, a, cmp.Diff(want[i], got))
			}
		}
	}
}

// A function that the linker removed lies at address 0 by its entry, and here would reach into the
// others.
func TestDWARFRemovedFunction(t *testing.T) {
	bin := compile(t, "a.c", "void removed(void) {\n__asm__(\".skip 40000\");\n}\nint main(void) {\nreturn 0;\n}\nvoid too(void) {\n__asm__(\".skip 40000\");\n}\n",
		"gcc", "-g", "-O1", "-ffunction-sections", "-Wl,--gc-sections", "-o", "OUT", "SRC")
	f := openELF(t, bin)
	opened, err := openDWARF(f)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		switch {
		case s.Name == "removed":
			t.Fatal("the linker did not remove it")
		case s.Name == "main":
			got, ok := opened.frames(s.Value, nil)
			if !ok || len(got) != 1 || got[0].Func != "main" || got[0].StartLine != 4 {
				t.Errorf("main is %v", got)
			}
		}
	}
}

// Assembly has lines and no functions; the symbol table names it.
func TestDWARFAssembly(t *testing.T) {
	bin := compile(t, "a.s", ".globl spin\nspin:\n nop\n nop\n ret\n.globl _start\n_start:\n call spin\n hlt\n",
		"gcc", "-g", "-nostdlib", "-static", "-o", "OUT", "SRC")
	f := openELF(t, bin)
	opened, err := openDWARF(f)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name != "spin" && s.Name != "_start" {
			continue
		}
		want := profile.Frame{Func: s.Name, File: filepath.Join(filepath.Dir(bin), "a.s"), Line: map[string]int{"spin": 4, "_start": 8}[s.Name], Entry: s.Name == "_start"}
		at := s.Value + map[string]uint64{"spin": 1, "_start": 4}[s.Name]
		got, ok := opened.frames(at, nil)
		if d := cmp.Diff([]profile.Frame{want}, got); !ok || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", s.Name, ok, d)
		}
	}
}

// damaged is a binary with some bytes of its debug sections changed.
func damaged(data []byte, sections []*elf.Section, which uint8, at uint32, patch []byte) []byte {
	data = bytes.Clone(data)
	s := sections[int(which)%len(sections)]
	part := data[s.Offset:][:s.FileSize]
	if len(part) > 0 {
		copy(part[int(at)%len(part):], patch)
	}
	return data
}

// checkDamaged checks that frames of a damaged binary keep the table's promises.
func checkDamaged(t *testing.T, data []byte, addrs []uint64) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return
	}
	first, err := openDWARF(f)
	if (first == nil) == (err == nil) {
		t.Fatalf("table %v, error %v", first, err)
	}
	if err != nil {
		return
	}
	again, err := openDWARF(f)
	if err != nil {
		t.Fatal(err)
	}
	var forward [][]profile.Frame
	for _, a := range addrs {
		got, ok := first.frames(a, nil)
		if ok == (len(got) == 0) {
			t.Fatalf("%v with frames %v", ok, got)
		}
		checkChain(t, got)
		forward = append(forward, got)
	}
	for i, a := range slices.Backward(addrs) {
		if got, _ := again.frames(a, nil); !cmp.Equal(got, forward[i]) {
			t.Fatalf("%#x depends on what was asked before (-first +again):\n%s", a, cmp.Diff(forward[i], got))
		}
	}
}

// debugSections are the sections of a binary that fuzzing damages.
func debugSections(t testing.TB, data []byte) (*elf.File, []*elf.Section) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var sections []*elf.Section
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			sections = append(sections, s)
		}
	}
	return f, sections
}

func TestDWARFDamaged(t *testing.T) {
	for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			bin := build(t, "g++", "-std=c++17", version, "-O2", "-o", "OUT", "boxes.cc")
			data, err := os.ReadFile(bin)
			if err != nil {
				t.Fatal(err)
			}
			f, sections := debugSections(t, data)
			opened, err := openDWARF(f)
			if err != nil {
				t.Fatal(err)
			}
			addrs := addressesOf(t, opened.(*dwarfTable), 40)
			r := rand.New(rand.NewPCG(1, 5))
			for range 20 {
				bad := data
				for range 1 + r.IntN(6) {
					patch := make([]byte, 1+r.IntN(8))
					for i := range patch {
						patch[i] = [...]byte{0, 0xff, 0x7f, 0x80, byte(r.Uint32())}[r.IntN(5)]
					}
					bad = damaged(bad, sections, uint8(r.Uint32()), r.Uint32(), patch)
				}
				checkDamaged(t, bad, addrs)
			}
		})
	}
}

func FuzzDWARF(f *testing.F) {
	f.Add(uint8(0), uint32(0), []byte{0xff, 0xff, 0xff, 0xff}, uint8(1), uint32(11), []byte{0x80})
	f.Add(uint8(1), uint32(40), []byte{0}, uint8(2), uint32(100), []byte{0xff, 0x7f})
	f.Add(uint8(3), uint32(4), []byte{5, 0, 1}, uint8(4), uint32(20), []byte{})
	var bases [][]byte
	for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
		if _, err := exec.LookPath("gcc"); err != nil {
			f.Skip("gcc is not installed")
		}
		data, err := os.ReadFile(build(f, "gcc", version, "-O2", "-o", "OUT", "shapes.c", "more.c"))
		if err != nil {
			f.Fatal(err)
		}
		bases = append(bases, data)
	}
	f.Fuzz(func(t *testing.T, which1 uint8, at1 uint32, patch1 []byte, which2 uint8, at2 uint32, patch2 []byte) {
		for _, data := range bases {
			file, sections := debugSections(t, data)
			var addrs []uint64
			for _, p := range codeEnds(file) {
				for i := range uint64(12) {
					addrs = append(addrs, p[0]+(p[1]-p[0])*i/12)
				}
			}
			data = damaged(data, sections, which1, at1, patch1)
			checkDamaged(t, damaged(data, sections, which2, at2, patch2), addrs)
		}
	})
}

func TestDWARFNone(t *testing.T) {
	bin := compile(t, "a.c", "int main(void) { return 0; }", "gcc", "-s", "-o", "OUT", "SRC")
	if _, err := openDWARF(openELF(t, bin)); !errors.Is(err, errNoTable) {
		t.Errorf("a stripped binary: %v", err)
	}
	obj := compile(t, "a.c", "int main(void) { return 0; }", "gcc", "-g", "-c", "-o", "OUT", "SRC")
	if _, err := openDWARF(openELF(t, obj)); !errors.Is(err, errNoTable) {
		t.Errorf("an object file: %v", err)
	}
}

// processorTime is what this process has used; it tells more than the clock where other work runs.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What 1,000 addresses cost a recording of a program: opening the table, reading the units hit and
// naming every frame. The C++ library has eight units.
func BenchmarkDWARF(b *testing.B) {
	library := "for i in 1 2 3 4 5 6 7 8; do " +
		"g++ -std=c++17 -g -O2 -fPIC -Dmain=main$i -Dstore=store$i -Dplain_c=plain$i -c -o $i.o boxes.cc || exit 1; done; g++ -shared -o out *.o"
	for _, bench := range []struct {
		name    string
		command []string
	}{
		{"c++", []string{"sh", "-c", library}},
		{"rust", []string{"rustc", "-g", "-O", "-o", "OUT", "loops.rs"}},
		{"go", []string{"sh", "-c", "cp tally.go.txt tally.go && go build -o out tally.go"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := openELF(b, build(b, bench.command...))
			open := func() *dwarfTable {
				opened, err := openDWARF(f)
				if err != nil {
					b.Fatal(err)
				}
				return opened.(*dwarfTable)
			}
			table := open()
			addrs := addressesOf(b, table, 1000)
			b.Run("addresses=1000", func(b *testing.B) {
				b.ReportAllocs()
				frames, before := 0, processorTime(b)
				for b.Loop() {
					table, frames = open(), 0
					var buf []profile.Frame
					for _, a := range addrs {
						buf, _ = table.frames(a, buf[:0])
						frames += len(buf)
					}
				}
				used := processorTime(b) - before
				b.ReportMetric(float64(used.Microseconds())/1e3/float64(b.N), "cpu-ms/op")
				b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/float64(frames), "cpu-ns/frame")
				b.ReportMetric(float64(table.info.size)/1e6, "MB-info")
			})
			b.Run("first", func(b *testing.B) {
				for b.Loop() {
					open().frames(addrs[len(addrs)/2], nil)
				}
			})
		})
	}
}
