package unwind

import (
	"bufio"
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// library finds an installed library of this machine.
func library(t testing.TB, name string) string {
	t.Helper()
	for _, pattern := range []string{"/lib/*-linux-gnu/", "/usr/lib/*-linux-gnu/", "/lib64/", "/usr/lib64/", "/usr/lib/llvm-*/lib/"} {
		if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
			return found[0]
		}
	}
	t.Skipf("this machine has no %s", name)
	return ""
}

func readTable(t testing.TB, path string) *Table {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := ReadELF(f)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A listing is what readelf makes of a file's call-frame information.
type listing struct {
	rows    map[uint64]map[string]string // by address: columns, by name
	ends    map[uint64]bool
	begins  map[uint64]bool
	overlap int
}

// Readelf's "r2 (rcx)": the register is in another one.
var inRegister = regexp.MustCompile(`\br\d+ \((\w+)\)`)

// readelf lists rows, of .eh_frame only, or of .debug_frame where there is one.
func readelf(t testing.TB, path string) listing {
	t.Helper()
	program, err := exec.LookPath("readelf")
	if err != nil {
		t.Skip("readelf (binutils), which rows are compared with, is not installed")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(program, "-W", "--debug-dump=frames-interp", path)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// It ends with status 1 where a separate debug file that the binary names is not installed.
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("readelf %s: %v\n%s", path, err, stderr.Bytes())
	}
	l := listing{rows: make(map[uint64]map[string]string), ends: make(map[uint64]bool), begins: make(map[uint64]bool)}
	var columns []string
	ciecfa := make(map[string]map[string]string) // rules of a CIE, by its offset
	var offset, cie string
	var inherit map[string]string
	var start, end uint64
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		f := strings.Fields(inRegister.ReplaceAllString(s.Text(), "$1 "))
		switch {
		case len(f) == 0:
			if inherit != nil && end != start { // an FDE without instructions of its own
				if _, ok := l.rows[start]; !ok {
					l.rows[start] = inherit
				}
			}
			inherit = nil
		case len(f) > 3 && f[3] == "CIE":
			offset, start, end, inherit = f[0], 0, 0, nil
			cie = offset
			ciecfa[cie] = make(map[string]string)
		case len(f) > 5 && f[3] == "FDE":
			from, to, _ := strings.Cut(strings.TrimPrefix(f[5], "pc="), "..")
			start, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
			l.begins[start], l.ends[end] = true, true
			inherit, offset = ciecfa[strings.TrimPrefix(f[4], "cie=")], ""
		case f[0] == "LOC":
			columns = f[1:]
		case len(f) == len(columns)+1 && f[1] != "ZERO": // not the terminator
			at, err := strconv.ParseUint(f[0], 16, 64)
			if err != nil {
				continue
			}
			row := make(map[string]string)
			for i, c := range columns {
				row[c] = f[i+1]
			}
			if offset != "" {
				ciecfa[cie] = row
			} else if at < end {
				l.rows[at] = row
			}
		}
	}
	return l
}

// words are a row's columns as readelf has them; registers that it does not follow are left out.
func words(t *Table, addr uint64) map[string]string {
	d := t.Describe(addr)
	if d == "" {
		return nil
	}
	row := make(map[string]string)
	for _, f := range strings.Fields(d) {
		if name, v, ok := strings.Cut(f, "="); ok {
			if name == "cfa" {
				name = "CFA"
			}
			row[name] = v
		}
	}
	return row
}

func isVector(register string) bool {
	return strings.HasPrefix(register, "xmm") || strings.HasPrefix(register, "v") || strings.HasPrefix(register, "d")
}

// depthOf is what Table.Depth is to say of a row of amd64.
func depthOf(row map[string]string) (depth uint64, known bool) {
	register, offset, ok := strings.Cut(row["CFA"], "+")
	n, err := strconv.ParseUint(offset, 10, 64)
	switch {
	case !ok || err != nil || row["ra"] != "c-8":
		return 0, false
	case register == "rbp":
		return framed, true
	case register == "rsp":
		return n - 8, true
	}
	return 0, false
}

// compareRows compares every row that readelf prints with ours, and every end of a function.
func compareRows(t *testing.T, path string) {
	table := readTable(t, path)
	want := readelf(t, path)
	if n, first := table.Damage(); n > 0 {
		t.Errorf("%d entries damaged: %s", n, first)
	}
	wrong := 0
	fail := func(format string, args ...any) {
		if wrong++; wrong < 10 {
			t.Errorf(format, args...)
		}
	}
	for addr, row := range want.rows {
		got := words(table, addr)
		if got == nil {
			fail("%#x: no row, readelf has %v", addr, row)
			continue
		}
		for name, v := range row {
			g := got[name]
			if g == "" {
				g = "u" // readelf does not tell undefined from not said
			}
			if g != v && !isVector(name) {
				fail("%#x: %s is %s, readelf has %s", addr, name, g, v)
			}
		}
		if want, known := depthOf(row); known {
			if depth, ok := table.Depth(addr); !ok || depth != want {
				fail("%#x: depth %d, %v, readelf has %v", addr, depth, ok, row)
			}
		} else if depth, ok := table.Depth(addr); ok && row["CFA"] == "exp" {
			fail("%#x: depth %d, readelf has %v", addr, depth, row)
		}
		for name := range got {
			if _, ok := row[name]; !ok && got[name] != "u" {
				fail("%#x: %s is %s, which readelf does not have", addr, name, got[name])
			}
		}
	}
	// Between two of readelf's rows nothing changes.
	for r := range table.Rows() {
		if r.Rule == "" {
			if !want.ends[r.Addr] {
				fail("%#x: rows end, where readelf ends no function", r.Addr)
			}
		} else if _, ok := want.rows[r.Addr]; !ok {
			fail("%#x: %s, where readelf has no row", r.Addr, r.Rule)
		}
	}
	for end := range want.ends {
		if !want.begins[end] && table.Covers(end) {
			fail("%#x: a row behind the end of the function: %s", end, table.Describe(end))
		}
	}
	if wrong > 0 {
		t.Errorf("%d differences in %d rows", wrong, len(want.rows))
	}
	if len(want.rows) < 100 || table.Len() < 100 {
		t.Errorf("only %d rows compared, of %d", len(want.rows), table.Len())
	}
	t.Logf("%s: %d rows of readelf's equal, %d rows in %d bytes", filepath.Base(path), len(want.rows), table.Len(), table.Size())
}

// Rows are what readelf makes of the same call-frame information.
func TestRowsAgainstReadelf(t *testing.T) {
	for _, name := range []string{"libc.so.6", "libstdc++.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libcrypto.so.3", "libgcc_s.so.1"} {
		t.Run(name, func(t *testing.T) { compareRows(t, library(t, name)) })
	}
}

// Go's linker writes .debug_frame and no .eh_frame, compressed unless told otherwise; readelf is given
// the same binary.
func TestRowsOfGoAgainstReadelf(t *testing.T) {
	if testing.Short() {
		t.Skip("links two programs")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			compareRows(t, goProgram(t, arch))
		})
	}
}

func goProgram(t testing.TB, arch string) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\n\nimport \"strings\"\n\nfunc main() { println(strings.ToUpper(\"a\")) }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

// A row has at most 12 bytes on average, with everything it refers to.
func TestRowsAreSmall(t *testing.T) {
	for _, name := range []string{"libc.so.6", "libstdc++.so.6"} {
		table := readTable(t, library(t, name))
		if each := float64(table.Size()) / float64(table.Len()); each > 12 {
			t.Errorf("%s: %.1f bytes a row", name, each)
		}
	}
}

// What the table in .eh_frame_hdr lists is what a reading of the whole section finds.
func TestWithoutSectionHeaders(t *testing.T) {
	path := library(t, "libc.so.6")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := readTable(t, path)
	clear(b[0x28:0x30]) // e_shoff
	clear(b[0x3c:0x40]) // e_shnum, e_shstrndx
	bare, err := ReadELF(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if bare.Len() != whole.Len() || bare.Len() == 0 {
		t.Fatalf("%d rows without section headers, %d with them", bare.Len(), whole.Len())
	}
	for r := range whole.Rows() {
		if d := bare.Describe(r.Addr); d != r.Rule {
			t.Fatalf("%#x: %q without section headers, %q with them", r.Addr, d, r.Rule)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	if _, err := ReadELF(strings.NewReader("not an ELF file at all, but long enough to have a header, which has 64 bytes")); err == nil {
		t.Error("text: no error")
	}
	if _, err := ReadELF(bytes.NewReader(nil)); err == nil {
		t.Error("nothing: no error")
	}
	if _, err := Parse(Sections{Machine: elf.EM_PPC64}); err == nil {
		t.Error("another machine: no error")
	}
}

// The question: how long until the rows of a binary of 50 MB are there? ms_per_50MB scales by the
// file's size, ns/row by the rows.
func BenchmarkReadELF(b *testing.B) {
	for _, name := range []string{"libLLVM*.so.1", "libstdc++.so.6", "libc.so.6"} {
		b.Run("file="+name, func(b *testing.B) {
			data, err := os.ReadFile(library(b, name))
			if err != nil {
				b.Fatal(err)
			}
			var table *Table
			for b.Loop() {
				if table, err = ReadELF(bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
			ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(ns/float64(table.Len()), "ns/row")
			b.ReportMetric(ns/1e6*50e6/float64(len(data)), "ms_per_50MB")
			b.ReportMetric(float64(table.Size())/float64(table.Len()), "bytes/row")
			b.ReportMetric(float64(table.Len()), "rows")
		})
	}
}
