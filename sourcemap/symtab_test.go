package sourcemap

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// compile writes source under a name that tells its language and makes a binary of it with the
// command given, whose words OUT and SRC stand for the two. It skips the test only where the compiler
// is not installed.
func compile(t testing.TB, name, source string, command ...string) string {
	t.Helper()
	dir := testDir(t)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o666); err != nil {
		t.Fatal(err)
	}
	return compileIn(t, dir, strings.Split(strings.ReplaceAll(strings.Join(command, "\x00"), "SRC", name), "\x00")...)
}

func testDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// compileIn runs a compiler in a folder, to make the binary OUT, which it returns.
func compileIn(t testing.TB, dir string, command ...string) string {
	t.Helper()
	if _, err := exec.LookPath(command[0]); errors.Is(err, exec.ErrNotFound) {
		t.Skipf("%s is not installed", command[0])
	}
	out := filepath.Join(dir, "out")
	args := slices.Clone(command[1:])
	for i, word := range args {
		if word == "OUT" {
			args[i] = out
		}
	}
	cmd := exec.CommandContext(t.Context(), command[0], args...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return out
}

func openELF(t testing.TB, path string) *elf.File {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// tool is the output of a program of binutils; the test is skipped where it is not installed.
func tool(t testing.TB, stdin io.Reader, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	return string(out)
}

// openSymtab is parseSymtab as a table.
func openSymtab(f *elf.File) (table, error) {
	t, err := parseSymtab(f)
	if err != nil {
		return nil, err
	}
	return t, nil
}

const symtabSource = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) int twice(int x) { return x + x + rand(); }
__attribute__((alias("twice"))) int __twice_alias(int);
__attribute__((weak, alias("twice"))) int tw(int);
__attribute__((noinline)) static int thrice(int x) { return twice(x) + x; }
static int pick(int x) { return x; }
static void *resolve(void) { return pick; }
int chosen(int) __attribute__((ifunc("resolve")));

__asm__(".text\n.globl by_hand\nby_hand:\n nop\n nop\n.Linside:\n nop\ninner_label:\n nop\n ret\n"
        ".type no_size,@function\nno_size:\n nop\n nop\nlabel_in_no_size:\n nop\n ret\n"
        ".type sized,@function\nsized:\n nop\nlabel_in_sized:\n nop\n.type in_sized,@function\nin_sized:\n nop\n ret\n.size sized,.-sized\n");

int main(int argc, char **argv) {
	char buf[64];
	snprintf(buf, sizeof buf, "%d %s", thrice(argc) + chosen(argc), argv[0]);
	puts(buf);
	return (int)strlen(buf);
}
`

func TestSymtab(t *testing.T) {
	bin := compile(t, "a.c", symtabSource, "gcc", "-O1", "-o", "OUT", "SRC")
	table, err := openSymtab(openELF(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	// name → address as nm prints it
	addrs := map[string]uint64{}
	for line := range strings.Lines(tool(t, nil, "nm", bin)) {
		if f := strings.Fields(line); len(f) == 3 {
			addrs[f[2]], _ = strconv.ParseUint(f[0], 16, 64)
		}
	}
	for _, test := range []struct {
		at   string
		off  uint64
		want string
	}{
		{"main", 0, "main"}, {"main", 9, "main"}, {"_start", 0, "_start"}, {"_start", 33, "_start"},
		{"twice", 0, "twice"}, {"twice", 3, "twice"}, // not __twice_alias
		{"thrice", 0, "thrice"}, {"chosen", 0, "chosen"},
		{"by_hand", 0, "by_hand"}, {"by_hand", 2, "by_hand"}, {"inner_label", 0, "by_hand"},
		{"no_size", 0, "no_size"}, {"label_in_no_size", 1, "no_size"},
		{"sized", 0, "sized"}, {"label_in_sized", 0, "sized"}, {"in_sized", 0, "sized"},
	} {
		addr := addrs[test.at]
		if addr == 0 {
			t.Fatalf("nm knows no %s", test.at)
		}
		frames, ok := table.frames(addr+test.off, nil)
		want := []profile.Frame{{Func: test.want, Entry: test.want == "_start"}}
		if d := cmp.Diff(want, frames); !ok || d != "" {
			t.Errorf("%s+%d: %v (-want +got):\n%s", test.at, test.off, ok, d)
		}
	}
	if frames, ok := table.frames(0, nil); ok {
		t.Errorf("address 0 is %v", frames)
	}
	if frames, ok := table.frames(^uint64(0), nil); ok {
		t.Errorf("the last address is %v", frames)
	}
}

// The slots of the procedure linkage table against those objdump names.
func TestSymtabPLT(t *testing.T) {
	for _, flag := range []string{"-fcf-protection=none", "-fcf-protection=full", "-fno-plt", "-Wl,-z,now"} {
		t.Run(flag, func(t *testing.T) {
			bin := compile(t, "a.c", symtabSource, "gcc", "-O1", flag, "-o", "OUT", "SRC")
			f := openELF(t, bin)
			if f.Machine != elf.EM_X86_64 {
				t.Skip("slots are named on x86-64 only")
			}
			table, err := openSymtab(f)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for line := range strings.Lines(tool(t, nil, "objdump", "-d", bin)) {
				// 0000000000001030 <puts@plt>:
				var addr uint64
				var name string
				if n, _ := fmt.Sscanf(line, "%x <%s", &addr, &name); n != 2 || !strings.HasSuffix(name, "@plt>:") {
					continue
				}
				if strings.HasPrefix(name, "*ABS*") { // objdump does not know whose resolver it is
					name = "chosen@plt>:"
				}
				found++
				frames, ok := table.frames(addr+4, nil)
				if want := strings.TrimSuffix(name, ">:"); !ok || frames[0].Func != want {
					t.Errorf("%#x is %v; want %s", addr, frames, want)
				}
			}
			if found == 0 && flag != "-fno-plt" {
				t.Error("objdump names no slot")
			}
		})
	}
}

func TestSymtabStripped(t *testing.T) {
	bin := compile(t, "a.c", symtabSource, "gcc", "-O1", "-s", "-static", "-o", "OUT", "SRC")
	f := openELF(t, bin)
	table, err := openSymtab(f)
	if err != nil {
		t.Fatal(err)
	}
	want := []profile.Frame{{Func: "_start", Entry: true}}
	for _, addr := range []uint64{f.Entry, f.Entry + 33} {
		if frames, _ := table.frames(addr, nil); !cmp.Equal(frames, want) {
			t.Errorf("entry+%d is %v", addr-f.Entry, frames)
		}
	}
	for _, addr := range []uint64{f.Entry - 1, f.Entry + entrySize} {
		if frames, ok := table.frames(addr, nil); ok {
			t.Errorf("%#x with entry %#x is %v", addr, f.Entry, frames)
		}
	}

	lib := compile(t, "a.c", "int f(void) { return 1; }", "gcc", "-shared", "-nostdlib", "-s", "-o", "OUT", "SRC")
	table, err = openSymtab(openELF(t, lib))
	if err != nil {
		t.Fatal(err) // .dynsym stays
	}
	none := compile(t, "a.c", "static int f(void) { return 1; } int *x = (int*)f;", "gcc", "-shared", "-nostdlib", "-s", "-fvisibility=hidden", "-o", "OUT", "SRC")
	if _, err = openSymtab(openELF(t, none)); !errors.Is(err, errNoTable) {
		t.Errorf("a library without functions: %v", err)
	}
}

// Every address in a function that nm gives a size is named by a function nm has around it.
func TestSymtabAgainstNM(t *testing.T) {
	bin := compile(t, "a.c", symtabSource, "gcc", "-O1", "-static", "-o", "OUT", "SRC")
	table, err := openSymtab(openELF(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	type symbol struct {
		start, end uint64
		name       string
	}
	var symbols []symbol
	for line := range strings.Lines(tool(t, nil, "nm", "-S", "--defined-only", bin)) {
		f := strings.Fields(line)
		if len(f) != 4 || !strings.Contains("tTwWi", f[2]) {
			continue
		}
		addr, _ := strconv.ParseUint(f[0], 16, 64)
		size, _ := strconv.ParseUint(f[1], 16, 64)
		name, _, _ := strings.Cut(f[3], "@")
		symbols = append(symbols, symbol{addr, addr + size, name})
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		s := symbols[r.IntN(len(symbols))]
		addr := s.start + r.Uint64N(max(1, s.end-s.start))
		allowed := map[string]bool{}
		for _, o := range symbols {
			if addr >= o.start && addr < o.end {
				allowed[o.name] = true
			}
		}
		frames, ok := table.frames(addr, nil)
		if len(allowed) > 0 && (!ok || !allowed[frames[0].Func]) {
			t.Errorf("%#x is %v; want one of %v", addr, frames, allowed)
		}
	}
}

// start is where the symbol that names an address begins.
func (t *symtabTable) start(addr uint64) uint64 {
	for _, s := range t.spans {
		if addr >= s.start && addr < s.end {
			return t.syms[s.sym].addr
		}
	}
	return 0
}

// spansOf against a scan of all symbols.
func TestSpans(t *testing.T) {
	f := &elf.File{Sections: []*elf.Section{{SectionHeader: elf.SectionHeader{Addr: 10, Size: 70, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR}}}}
	r := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		var syms []symbol
		for i := range 1 + r.IntN(8) {
			syms = append(syms, symbol{addr: 10 + r.Uint64N(60), size: 1 + r.Uint64N(30), literal: string(rune('a' + i)), rank: rankGlobal})
		}
		sizes := map[uint64]uint64{}
		for _, s := range syms {
			sizes[s.addr] = max(sizes[s.addr], s.size)
		}
		spans := spansOf(f, syms)
		for addr := range uint64(120) {
			best, found := uint64(0), false
			for start, size := range sizes {
				if addr >= start && addr < start+size && (!found || start > best) {
					best, found = start, true
				}
			}
			var got []uint64
			for i, s := range spans {
				if s.start >= s.end || i > 0 && spans[i-1].end > s.start {
					t.Fatalf("spans %v", spans)
				}
				if addr >= s.start && addr < s.end {
					got = append(got, syms[s.sym].addr)
				}
			}
			if found != (len(got) == 1) || found && got[0] != best {
				t.Fatalf("%d of %v is %v; want %v %v", addr, syms, got, best, found)
			}
		}
	}
}

// mutated changes some bytes of a binary as a damaged disk or a hostile author would.
func mutated(r *rand.Rand, data []byte) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(20) {
		switch at := r.IntN(len(data)); r.IntN(4) {
		case 0:
			data[at] = byte(r.Uint32())
		case 1:
			data[at] = 0xff
		case 2:
			data[at] = 0
		case 3:
			n := min(8, len(data)-at)
			for i := range n {
				data[at+i] = byte(r.Uint32())
			}
		}
	}
	if r.IntN(8) == 0 {
		data = data[:r.IntN(len(data))]
	}
	return data
}

func FuzzSymtab(f *testing.F) {
	if _, err := exec.LookPath("gcc"); err == nil {
		bin := compile(f, "a.c", symtabSource, "gcc", "-O1", "-o", "OUT", "SRC")
		data, err := os.ReadFile(bin)
		if err != nil {
			f.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		f.Add(data, uint64(0x1050))
		for range 10 {
			f.Add(mutated(r, data), uint64(0x1050))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		file, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return
		}
		table, err := openSymtab(file)
		if (table == nil) == (err == nil) {
			t.Fatalf("table %v, error %v", table, err)
		}
		if err == nil {
			if frames, ok := table.frames(addr, nil); ok != (len(frames) == 1) {
				t.Fatalf("%v, %v", frames, ok)
			}
		}
	})
}

func BenchmarkSymtab(b *testing.B) {
	path := "/usr/bin/node"
	if _, err := os.Stat(path); err != nil {
		path = "/bin/sh"
	}
	b.Run("open", func(b *testing.B) {
		f := openELF(b, path)
		for b.Loop() {
			if _, err := openSymtab(f); err != nil {
				b.Fatal(err)
			}
		}
	})
}
