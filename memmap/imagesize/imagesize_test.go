package imagesize

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sums checks the law of every table: its parts sum up to the whole.
func sums(t testing.TB, r *Report) {
	t.Helper()
	for _, x := range r.Tables {
		n := int64(0)
		for _, p := range x.Parts {
			if p.Bytes <= 0 {
				t.Errorf("%s: %q has %d bytes", x.By, p.Name, p.Bytes)
			}
			n += p.Bytes
		}
		if n != r.Bytes {
			t.Errorf("by %s the sum is %d, the file has %d bytes", x.By, n, r.Bytes)
		}
	}
}

func read(t *testing.T, path string) *Report {
	t.Helper()
	r, err := ReadFile(t.Context(), path, Options{Sources: true})
	if err != nil {
		t.Fatal(err)
	}
	sums(t, r)
	return r
}

func bytesOf(r *Report, by By, name string) (n int64) {
	for _, p := range r.Of(by).Parts {
		if p.Name == name || by == Source && strings.HasSuffix(p.Name, name) {
			n += p.Bytes
		}
	}
	return n
}

func build(t *testing.T, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

const goProgram = `package main

import "fmt"

var Table = [50000]byte{1: 1}

func main() { fmt.Println(Table[1]) }
`

func TestGo(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(goProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"", "-s -w"} {
		file := filepath.Join(dir, "prog"+strings.ReplaceAll(flags, " ", ""))
		build(t, "go", "build", "-ldflags="+flags, "-o", file, source)
		r := read(t, file)
		if r.What != "Go program" {
			t.Errorf("%q: it is a %s", flags, r.What)
		}
		if n := bytesOf(r, Package, "runtime"); n < 100<<10 {
			t.Errorf("%q: package runtime has %d bytes", flags, n)
		}
		if n := bytesOf(r, Symbol, "fmt.(*pp).printValue"); n < 500 {
			t.Errorf("%q: fmt.(*pp).printValue has %d bytes", flags, n)
		}
		if n := bytesOf(r, Source, "runtime/proc.go"); n < 10<<10 {
			t.Errorf("%q: proc.go has %d bytes", flags, n)
		}
		if n := bytesOf(r, Symbol, "main.Table"); flags == "" && n != 50000 {
			t.Errorf("main.Table has %d bytes", n)
		}
	}
}

const cppProgram = `#include <cstdio>
namespace shop { struct Cart { int n; virtual int total(int x); }; int Cart::total(int x) { return n * x; }
char stock[40000] = {1}; }
int main() { shop::Cart c; c.n = 2; printf("%d %d\n", c.total(3), shop::stock[0]); }
`

func TestCppAndDifference(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "cart.cc")
	write := func(text string) {
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(cppProgram)
	old := filepath.Join(dir, "old")
	build(t, "g++", "-g", "-O1", "-o", old, source)
	a := read(t, old)
	if n := bytesOf(a, Package, "shop"); n < 40000 {
		t.Errorf("namespace shop has %d bytes", n)
	}
	if n := bytesOf(a, Symbol, "shop::Cart::total(int)"); n == 0 {
		t.Error("shop::Cart::total(int) is not told")
	}
	if n := bytesOf(a, Source, "cart.cc"); n == 0 {
		t.Error("cart.cc is not told")
	}
	write(strings.Replace(cppProgram, "40000", "50000", 1))
	now := filepath.Join(dir, "new")
	build(t, "g++", "-g", "-O1", "-o", now, source)
	d, err := Compare(a, read(t, now))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range d.Tables {
		n := int64(0)
		for _, c := range x.Changes {
			n += c.Bytes
		}
		if n != d.Bytes {
			t.Errorf("by %s the changes sum up to %d of %d", x.By, n, d.Bytes)
		}
		if x.By == Symbol && (x.Changes[0].Name != "shop::stock" || x.Changes[0].Bytes != 10000) {
			t.Errorf("the largest change is %+v", x.Changes[0])
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"net/http.(*conn).serve":                       "net/http",
		"example.com/a%2eb.F[example.com/c/d.T].func1": "example.com/a.b",
		"main.main": "main", "type:.eq.net/url.URL": "net/url", "type:*": "[Go types]", "go:string.*": "[Go strings]",
		"go:itab.*os.File,io.Reader": "os", "_cgo_init": "[no package]",
		"slices.SortFunc[go.shape.[]example.com/x.T,go.shape.int]": "slices",
	} {
		if got := goPackage(name); got != want {
			t.Errorf("%s: package %q, want %q", name, got, want)
		}
	}
	s := sizer{}
	for name, want := range map[string]string{
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE": "core",
		"_ZNSt6vectorIiSaIiEE9push_backERKi":             "std",
		"_ZTVN4shop4CartE":                               "shop",
		"_RNvNtCs1234_7mycrate3foo3bar":                  "mycrate",
		"_ZN56_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..Clone$GT$5clone17h0123456789abcdefE": "alloc",
		"memcpy": "[C]",
	} {
		if readable, got := s.nameOf(name); got != want {
			t.Errorf("%s (%s): package %q, want %q", name, readable, got, want)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, n := range map[string]int{"a.go": 10, "sub/b.go": 20, "sub/deep/c": 30, "-x": 5, "line\nbreak\xff.txt": 7} {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Link(filepath.Join(dir, "a.go"), filepath.Join(dir, "again.go"))
	os.Symlink("/", filepath.Join(dir, "root"))
	r, err := ReadFolder(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	sums(t, r)
	if r.Bytes != 72 || bytesOf(r, Folder, "sub") != 50 || bytesOf(r, Type, ".go") != 30 {
		t.Errorf("%+v", r)
	}
	if _, err := ReadFolder(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a folder that is not there: %v", err)
	}
	if _, err := ReadFile(t.Context(), filepath.Join(dir, "a.go"), Options{}); err == nil || !strings.Contains(err.Error(), "no ELF file") {
		t.Errorf("of a text: %v", err)
	}
	if _, err := ReadFile(t.Context(), "/dev/null", Options{}); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("of a device: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	source := filepath.Join(dir, "a.c")
	os.WriteFile(source, []byte("int table[100] = {1}; int twice(int x) { return x * 2 + table[0]; }\n"), 0o644)
	for i, flags := range [][]string{{"-c", "-g"}, {"-shared", "-fPIC", "-nostdlib", "-g"}, {"-shared", "-fPIC", "-nostdlib", "-s"}} {
		out := filepath.Join(dir, string(rune('a'+i))+".out")
		if exec.Command("gcc", append(flags, "-o", out, source)...).Run() == nil {
			b, _ := os.ReadFile(out)
			f.Add(b)
		}
	}
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(t.Context(), bytes.NewReader(b), int64(len(b)), Options{Sources: true})
		if (r == nil) == (err == nil) {
			t.Fatalf("value %v, error %v", r != nil, err)
		}
		if err == nil {
			sums(t, r)
		}
	})
}
