package sourcemap

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cBinary builds a C program with the frames that gcc makes.
func cBinary(t testing.TB, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "a.c")
	text := `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alloca.h>
static int compare(const void *a, const void *b) { return *(const int*)a - *(const int*)b; }
int __attribute__((noinline)) leaf(int x) { return x * 7 + 1; }
int __attribute__((noinline)) many(int n) { char b[4096]; memset(b, n, sizeof b); return leaf(b[n & 15]) + b[17]; }
int __attribute__((noinline)) grows(int n) { char *b = alloca(n + 16); memset(b, 1, n + 16); return b[n]; }
int __attribute__((noinline)) early(int n) { if (n < 3) return 1; return early(n - 1) + many(n) + grows(n); }
int main(int argc, char **argv) { int v[64]; for (int i = 0; i < 64; i++) v[i] = early(i & 7) - i; qsort(v, 64, sizeof *v, compare); printf("%d\n", v[3]); return 0; }
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "a")
	if msg, err := exec.Command("gcc", append([]string{"-o", out, source}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, msg)
	}
	return out
}

// The rules are those that readelf prints, at the first and the last instruction they hold for.
func TestCallFramesAgreeWithReadelf(t *testing.T) {
	if _, err := exec.LookPath("readelf"); err != nil {
		t.Skipf("readelf is not installed: %v", err)
	}
	libc, err := exec.Command("gcc", "-print-file-name=libc.so.6").Output()
	if err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	for name, path := range map[string]string{
		"-O2":            cBinary(t, "-O2"),
		"-O0":            cBinary(t, "-O0"),
		"frame pointers": cBinary(t, "-O2", "-fno-omit-frame-pointer"),
		"libc":           strings.TrimSpace(string(libc)),
	} {
		t.Run(name, func(t *testing.T) {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			f, err := elf.NewFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != elf.EM_X86_64 {
				t.Skip("the registers are amd64's")
			}
			frames, err := openCallFrames(newImage(file, f), f)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("readelf", "--wide", "--debug-dump=frames-interp", path).Output()
			if len(out) == 0 { // its status also tells of sections that are somewhere else
				t.Fatal(err)
			}
			registers := map[string]uint64{}
			for i, name := range strings.Fields("rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15") {
				registers[name] = uint64(i)
			}
			checked, wrong := 0, 0
			section := ""
			for line := range strings.Lines(string(out)) {
				if name, ok := strings.CutPrefix(line, "Contents of the "); ok {
					section = name
				}
				words := strings.Fields(line)
				if !strings.HasPrefix(section, ".eh_frame ") || len(words) < 2 || len(words[0]) != 16 {
					continue
				}
				addr, err := strconv.ParseUint(words[0], 16, 64)
				if err != nil || addr == 0 { // a CIE's own rule
					continue
				}
				register, offset, ok := frames.cfa(addr)
				name, off, isRule := strings.Cut(words[1], "+")
				if !isRule { // "exp": an expression
					if ok {
						t.Errorf("%#x has the rule %d+%d, readelf says %s", addr, register, offset, words[1])
					}
					continue
				}
				want, _ := strconv.ParseUint(off, 10, 64)
				r, known := registers[name]
				if !known {
					t.Fatalf("readelf names a register %q", name)
				}
				checked++
				if !ok || register != r || offset != want {
					if wrong++; wrong < 10 {
						t.Errorf("%#x has the rule %d+%d (%v), readelf says %s", addr, register, offset, ok, words[1])
					}
				}
			}
			if checked < 20 {
				t.Fatalf("readelf printed %d rules", checked)
			}
			t.Logf("%d rules", checked)
		})
	}
}

// A function's first instruction finds the return address on top of the stack.
func TestFrameTableAtEntry(t *testing.T) {
	path := cBinary(t, "-O2", "-fno-omit-frame-pointer")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := OpenFrameTable(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(file)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, s := range symbols {
		switch s.Name {
		case "leaf", "many", "grows", "early", "main":
			seen++
			if d, ok := table.Depth(s.Value); !ok || d != 0 {
				t.Errorf("depth at the entry of %s is %d, %v", s.Name, d, ok)
			}
		}
	}
	if seen != 5 {
		t.Errorf("%d of 5 functions have symbols", seen)
	}
	if _, ok := table.Depth(0); ok {
		t.Error("address 0 has a depth")
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if table, err = OpenFrameTable(self); err != nil {
		t.Fatal(err)
	}
	goes := table.goes
	for i := range uint64(200) {
		entry := goes.text + uint64(goes.entryOf(i*uint64(goes.nfunc)/200))
		if d, ok := table.Depth(entry); ok && d != 0 {
			t.Errorf("depth at the entry of the Go function at %#x is %d", entry, d)
		}
	}
}

// Whatever the bytes: an answer or none, in bounded time.
func FuzzFrameTable(f *testing.F) {
	if _, err := exec.LookPath("gcc"); err == nil {
		data, err := os.ReadFile(cBinary(f, "-O2", "-s"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint64(0x1139))
	}
	f.Add([]byte("\x7fELF"), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		table, err := OpenFrameTable(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range uint64(8) {
			d, ok := table.Depth(addr + 16*i)
			if again, ok2 := table.Depth(addr + 16*i); again != d || ok2 != ok {
				t.Errorf("the depth at %#x is %d, then %d", addr, d, again)
			}
		}
	})
}
