package sourcemap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func gcc(t testing.TB, out string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	if msg, err := exec.Command("gcc", append([]string{"-o", out}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, msg)
	}
}

func openFile(t testing.TB, path string) *binaryTable {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b, err := openBinary(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// In a program with cgo each address is named by the table that knows most of it, whoever linked it.
func TestBinaryOfGoAndC(t *testing.T) {
	for _, link := range []string{"external", "internal"} {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			path := goBuild{cgo: true, args: []string{"-ldflags=-linkmode=" + link}}.build(t)
			b := openFile(t, path)
			if b.goes == nil {
				t.Fatal("its Go tables were not found")
			}
			symbols, err := b.file.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range symbols {
				if !strings.HasSuffix(s.Name, "_Cfunc_there") || !strings.HasPrefix(s.Name, "_cgo_") || elf.ST_TYPE(s.Info) != elf.STT_FUNC {
					continue
				}
				got, ok := b.frames(s.Value, nil)
				// Go's linker takes C code without its DWARF.
				if !ok || got[0].Func != s.Name || link == "external" && (got[0].Line == 0 || got[0].File == "") {
					t.Errorf("C function %s is %+v, %v", s.Name, got, ok)
				}
				work := addressOfFunc(t, b.goes, "main.work")
				if got, ok = b.frames(work, nil); !ok || got[0].Func != "main.work" || !strings.HasSuffix(got[0].File, "gotables/main.go") {
					t.Errorf("main.work is %+v, %v", got, ok)
				}
				return
			}
			t.Error("no symbol of the C function")
		})
	}
}

// With section names gone or changed, and with no sections at all, Go's tables are found all the same.
func TestGoTableWithoutSections(t *testing.T) {
	for _, build := range []goBuild{
		{name: "exe"},
		{name: "pie", args: []string{"-buildmode=pie"}},
		{name: "cgo-pie", cgo: true, args: []string{"-buildmode=pie"}},
	} {
		t.Run(build.name, func(t *testing.T) {
			t.Parallel()
			path := build.build(t)
			want, _ := openGo(t, path)
			image, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			addr := addressOfFunc(t, want, "main.work")
			frames, _ := want.frames(addr+40, nil)

			headless := bytes.Clone(image)
			clear(headless[40:48]) // e_shoff
			clear(headless[58:64]) // e_shentsize, e_shnum, e_shstrndx
			renamed := bytes.ReplaceAll(image, []byte("gopclntab"), []byte("xxxxxxxxx"))
			renamed = bytes.ReplaceAll(renamed, []byte(".go.module"), []byte(".xx.module"))
			for name, image := range map[string][]byte{"headless": headless, "renamed": renamed} {
				b, err := openBinary(bytes.NewReader(image))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if b.goes == nil || b.goes.inline == 0 {
					t.Fatalf("%s: the tables were not found: %q", name, b.notes)
				}
				if got, _ := b.frames(addr+40, nil); spell(got) != spell(frames) || len(got) == 0 {
					t.Errorf("%s: frames are %v; want %v", name, got, frames)
				}
			}
		})
	}
}

// Without the moduledata there is no way to the inline trees: functions are named still, and a note
// says what is missing.
func TestGoTableWithoutModuledata(t *testing.T) {
	// Before Go 1.26 the header says where the code begins.
	for version, known := range map[string]bool{"1.25.4": true, "": false} {
		path := goBuild{version: version}.build(t)
		whole, _ := openGo(t, path)
		addr := addressOfFunc(t, whole, "main.work")
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pointer := binary.LittleEndian.AppendUint64(nil, whole.header)
		image = bytes.ReplaceAll(image, pointer, make([]byte, 8))
		b, err := openBinary(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(b.notes, "\n"), "only outer functions are named") {
			t.Errorf("go%s: notes are %q", version, b.notes)
		}
		got, ok := b.goes.frames(addr, nil)
		if ok != known || known && got[0].Func != "main.work" {
			t.Errorf("go%s: frames are %v, %v", version, got, ok)
		}
	}
}

// What is wrong with a file is said in a sentence.
func TestOpenBinaryErrors(t *testing.T) {
	path := goBuild{}.build(t)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, f := openGo(t, path)
	offset := func(addr uint64) int {
		for _, p := range f.Progs {
			if addr-p.Vaddr < p.Filesz {
				return int(addr - p.Vaddr + p.Off)
			}
		}
		t.Fatalf("no bytes at %#x", addr)
		return 0
	}
	header := offset(table.header)
	work := addressOfFunc(t, table, "main.work")
	edit := func(at int, with ...byte) []byte {
		b := bytes.Clone(image)
		copy(b[at:], with)
		return b
	}
	for _, test := range []struct {
		name  string
		image []byte
		err   string // of openBinary
		note  string // where it opens all the same
	}{
		{"empty", nil, `not an ELF file: it begins with ""`, ""},
		{"text", []byte("#!/bin/sh\n"), `not an ELF file: it begins with "#!/b"`, ""},
		{"header only", image[:40], "truncated: its 40 bytes do not hold an ELF header", ""},
		{"no sections", image[:200], "truncated: its section headers end at ", ""},
		{"half", image[:len(image)/2], "", "truncated: its sections' names lie beyond the file's "},
		{"end cut", image[:len(image)-100], "", "truncated: its sections' names lie beyond the file's "},
		{"cut table", image[:header+100], "", "truncated: its sections' names lie beyond the file's "},
		{"class", edit(4, 9), "corrupt ELF headers: ", ""},
		{"future magic", edit(header, 0xf2), "", "section .gopclntab: its Go tables begin with 0xfffffff2, which no Go release up to 1.26 writes"},
		{"past magic", edit(header, 0xfa), "", "section .gopclntab: its Go tables are those of Go 1.17 or older (magic 0xfffffffa); build it with Go 1.20 or later"},
		{"pointer size", edit(header+7, 3), "", "section .gopclntab: corrupt: the header at"},
		{"order", edit(header+8+3*8, 0xff, 0xff, 0xff, 0xff, 0xff), "", "section .gopclntab: corrupt: the tables of the header at"},
		{"no functions", edit(header+8, make([]byte, 8)...), "", "section .gopclntab: corrupt: the tables of the header at"},
		{"functions", edit(header+8, 0xff, 0xff, 0xff, 0), "", "section .gopclntab: truncated: the table of 16777215 functions"},
		{"first function", edit(offset(table.funcs)+4, 0xff, 0xff, 0xff, 0), "", "section .gopclntab: corrupt: the first function"},
	} {
		b, err := openBinary(bytes.NewReader(test.image))
		switch {
		case (err != nil) != (test.err != ""):
			t.Errorf("%s: error %v; want %q", test.name, err, test.err)
		case err != nil:
			if !strings.HasPrefix(err.Error(), test.err) {
				t.Errorf("%s: error %v; want %q", test.name, err, test.err)
			}
		case !strings.Contains(strings.Join(b.notes, "\n"), test.note):
			t.Errorf("%s: notes are %q; want %q", test.name, b.notes, test.note)
		default:
			got, ok := b.frames(work, nil) // comes back, whatever it says
			if test.name == "end cut" && (!ok || got[0].Func != "main.work") {
				t.Errorf("%s: main.work is %+v, %v", test.name, got, ok)
			}
		}
	}
}

// The C library's caller of main is known, though it has no symbol in a stripped library.
func TestBinaryCallerOfMain(t *testing.T) {
	out, err := exec.Command("gcc", "-print-file-name=libc.so.6").Output()
	if err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	b := openFile(t, strings.TrimSpace(string(out)))
	symbols, err := b.file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "__libc_start_main" && s.Version == "GLIBC_2.34" {
			got, ok := b.frames(s.Value-0x40, nil)
			if !ok || len(got) != 1 || got[0].Func != startCallMain || !got[0].Entry {
				t.Errorf("before __libc_start_main is %+v, %v", got, ok)
			}
			return
		}
	}
	t.Skip("the C library is not glibc 2.34 or later")
}

// The entry point of a stripped C program is _start, so that its stacks are whole.
func TestBinaryStrippedC(t *testing.T) {
	dir := t.TempDir()
	source, path := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	gcc(t, path, "-s", source)
	b := openFile(t, path)
	if b.goes != nil {
		t.Error("a C program has Go tables")
	}
	// The call of __libc_start_main returns to the instruction behind it: on x86-64 at 37 of 38 bytes.
	got, ok := b.frames(b.file.Entry+36, nil)
	if !ok || got[0].Func != "_start" || !got[0].Entry {
		t.Errorf("the entry point is %+v, %v", got, ok)
	}
}
