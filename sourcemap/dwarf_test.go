package sourcemap

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

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
	{"rust/4", []string{"rustc", "-g", "-O", "-C", "codegen-units=4", "-o", "OUT", "loops.rs"}},
	{"rust/5", []string{"rustc", "-g", "-O", "-C", "dwarf-version=5", "-C", "symbol-mangling-version=v0", "-o", "OUT", "loops.rs"}},
}

// Every address of the test programs has the frames that addr2line gives it: LLVM's of all programs,
// that of GNU binutils of those in DWARF 2 to 4. In DWARF 5 binutils 2.40 takes file 0 for file 1,
// knows no inlined calls whose ranges are indexed, and reads a 64-bit unit's 32-bit lines wrongly.
func TestDWARFAgainstAddr2line(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			bin := build(t, p.command...)
			for _, name := range []string{"llvm-addr2line", "addr2line"} {
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
	want := addr2line(t, name, bin, addrs)
	bad, checked, deepest := 0, 0, 0
	for i, addr := range addrs {
		if u := table.unitOf(addr); gnu && u != nil && u.version >= 5 {
			continue
		}
		got, ok := table.frames(addr, nil)
		if !ok {
			got = nil
		}
		checkChain(t, got)
		checked, deepest = checked+1, max(deepest, len(got))
		symbol, _ := table.symbolAt(addr)
		if same(got, want[i], symbol, gnu) {
			continue
		}
		if bad++; bad <= 5 {
			t.Errorf("%#x (-%s +got):\n%s", addr, name, cmp.Diff(want[i], places(got)))
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d addresses differ", bad, checked)
	}
	if checked == 0 && gnu {
		t.Skip("every unit is DWARF 5")
	}
	if checked < 300 || deepest < 3 && !strings.Contains(t.Name(), "O0") {
		t.Errorf("only %d addresses, the deepest of %d frames", checked, deepest)
	}
	t.Logf("%d addresses, up to %d frames", checked, deepest)
}

// A place is a frame as addr2line prints it. Line is 0 where it prints "?".
type place struct {
	Func, File string
	Line       int
}

func places(frames []profile.Frame) []place {
	var s []place
	for _, f := range frames {
		s = append(s, place{f.Func, f.File, f.Line})
	}
	return s
}

// same says whether frames are what addr2line prints. Files and lines have to be equal. Names may
// differ in these ways:
//   - a function without a linkage name: ours is qualified, theirs is not;
//   - the outermost, and with GNU's such a function where it is innermost, are taken from the symbol
//     table by theirs ("main.cold");
//   - LLVM 14 writes Rust's v0 names with hashes or not at all.
func same(got []profile.Frame, want []place, symbol string, gnu bool) bool {
	if len(got) != len(want) {
		return false
	}
	for i, w := range want {
		g := got[i]
		if g.File != w.File || g.Line != w.Line {
			return false
		}
		switch {
		case g.Func == w.Func:
		case strings.HasSuffix(g.Func, "::"+w.Func):
		case w.Func == symbol && (i == len(want)-1 || gnu && i == 0):
		case !gnu && strings.HasPrefix(w.Func, "_R"):
		default:
			return false
		}
	}
	return true
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
	d.scan(scannedAll)
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

// addr2line is what GNU addr2line, or LLVM's, prints for each address.
func addr2line(t testing.TB, name, bin string, addrs []uint64) [][]place {
	t.Helper()
	var stdin strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&stdin, "%#x\n", a)
	}
	out := tool(t, strings.NewReader(stdin.String()), name, "-a", "-f", "-i", "-C", "-e", bin)
	var all [][]place
	lines := slices.Collect(strings.Lines(out))
	for i := 0; i < len(lines); {
		line := strings.TrimSpace(lines[i])
		if strings.HasPrefix(line, "0x") {
			all = append(all, nil)
			i++
			continue
		}
		at, _, _ := strings.Cut(strings.TrimSpace(lines[i+1]), " (discriminator")
		i += 2
		colon := strings.LastIndexByte(at, ':')
		file := at[:colon]
		number, _ := strconv.Atoi(at[colon+1:])
		if file == "??" {
			file = ""
		} else {
			file = path.Clean(file)
		}
		n := len(all) - 1
		all[n] = append(all[n], place{line, file, number})
	}
	if len(all) != len(addrs) {
		t.Fatalf("addr2line answered %d of %d addresses", len(all), len(addrs))
	}
	return all
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
