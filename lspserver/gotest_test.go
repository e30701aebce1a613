package lspserver

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGoTests(t *testing.T) {
	src := `package fib_test

import "testing"

func TestMain(m *testing.M) {}
func TestFib(t *testing.T) {
	t.Run("small numbers", func(t *testing.T) {
		t.Run("a/b (c)", func(st *testing.T) { st.Run("deep", nil) })
	})
	for range 3 {
		t.Run("looped", helper)
	}
	t.Run("twice", helper)
	t.Run("twice", helper)
	t.Run("", helper)
	t.Run("tab\tand\x00é𝄞", helper)
	t.Run(name, helper)
	other.Run("no", helper)
	func(t *fake) { t.Run("shadowed", nil) }(nil)
}
func Testing(t *testing.T)      {}
func Testify(t *testing.T)      {}
func TestÉ(t *T)                {}
func TestGeneric[X any](t *testing.T) {}
func (s suite) TestMethod(t *testing.T) {}
func TestResult(t *testing.T) error { return nil }
func BenchmarkFib(b *testing.B) {
	b.Run("n=10", func(b *testing.B) {})
}
func FuzzFib(f *testing.F) { f.Fuzz(func(t *testing.T, n int) { t.Run("no", nil) }) }
func ExampleFib() {
	// Output: 55
}
func ExampleFib_unordered() {
	// Unordered output:
	// 1
}
func ExampleSilent() {
	// Output: no, this is not the last comment
	x()
	// nothing
}
func Example() {} // Output: outside
func broken( {
`
	want := []string{
		"5 test TestFib run=^TestFib$",
		"6 subtest TestFib/small_numbers run=^TestFib$/^small_numbers$",
		`7 subtest TestFib/small_numbers/a/b_(c) run=^TestFib$/^small_numbers$/^a$/^b_\(c\)$`,
		`7 subtest TestFib/small_numbers/a/b_(c)/deep run=^TestFib$/^small_numbers$/^a$/^b_\(c\)$/^deep$`,
		"10 subtest TestFib/looped run=^TestFib$/^looped$",
		"12 subtest TestFib/twice run=^TestFib$/^twice$",
		"13 subtest TestFib/twice#01 run=^TestFib$/^twice#01$",
		"14 subtest TestFib/#00 run=^TestFib$/^#00$",
		`15 subtest TestFib/tab_and\x00é𝄞 run=^TestFib$/^tab_and\\x00é𝄞$`,
		"22 test TestÉ run=^TestÉ$",
		"26 benchmark BenchmarkFib bench=^BenchmarkFib$",
		"27 subtest BenchmarkFib/n=10 bench=^BenchmarkFib$/^n=10$",
		"29 fuzz target FuzzFib run=^FuzzFib$",
		"30 example ExampleFib run=^ExampleFib$",
		"33 example ExampleFib_unordered run=^ExampleFib_unordered$",
	}
	if diff := cmp.Diff(want, describe(goTests("fib_test.go", []byte(src)))); diff != "" {
		t.Errorf("tests found (-want +got):\n%s", diff)
	}
	crlf := strings.ReplaceAll(src, "\n", "\r\n")
	if diff := cmp.Diff(want, describe(goTests("fib_test.go", []byte(crlf)))); diff != "" {
		t.Errorf("with CRLF (-want +got):\n%s", diff)
	}
	if got := goTests("fib.go", []byte(src)); got != nil {
		t.Errorf("a file that is no test file has %v", got)
	}
}

func describe(tests []goTest) (lines []string) {
	for _, g := range tests {
		s := Count(int64(g.line)) + " " + string(g.kind) + " " + g.name
		if g.run != "" {
			s += " run=" + g.run
		}
		if g.bench != "" {
			s += " bench=" + g.bench
		}
		lines = append(lines, s)
	}
	return lines
}

// A file with more errors than the parser reports by default still has its tests.
func TestGoTestsOfBrokenFile(t *testing.T) {
	src := "package p\nfunc TestA(t *testing.T) {}\n" +
		strings.Repeat("func ) {\n", 30) + "func TestB(t *testing.T) {}\n"
	got := describe(goTests("a_test.go", []byte(src)))
	if len(got) == 0 || got[0] != "1 test TestA run=^TestA$" {
		t.Errorf("found %q, want TestA first", got)
	}
	for _, src := range []string{"", "\x00", "package", "package p\nfunc TestX(", "package p\nfunc TestX(t *testing.T) { t.Run(\"", "package p\nfunc Test() {}\nfunc Example( {"} {
		goTests("a_test.go", []byte(src)) // must not panic
	}
}

// Whatever the text is: lines lie in it, and patterns match the names they stand for.
func FuzzGoTests(f *testing.F) {
	f.Add("package p\nfunc TestA(t *testing.T) { t.Run(\"a/b c\", func(t *testing.T) {}) }\n")
	f.Add("package p\nfunc ExampleX() {\n// Output: 1\n}\nfunc BenchmarkB(b *B) { b.Run(`x\ny`, nil)")
	f.Add("package p\nfunc (")
	f.Add("//line x.go:1000000\npackage p\nfunc TestA(t *testing.T) {}")
	f.Fuzz(func(t *testing.T, src string) {
		lines := strings.Count(src, "\n") + 1
		for _, g := range goTests("a_test.go", []byte(src)) {
			if g.line < 0 || g.line >= lines || g.last < g.line || g.last >= lines {
				t.Fatalf("%s is on lines %d to %d of %d", g.name, g.line, g.last, lines)
			}
			if (g.run == "") == (g.bench == "") {
				t.Fatalf("%s has patterns %q and %q", g.name, g.run, g.bench)
			}
			parts, names := strings.Split(g.run+g.bench, "/"), strings.Split(g.name, "/")
			if len(parts) != len(names) {
				t.Fatalf("%q has other parts than %q", g.run+g.bench, g.name)
			}
			for i, p := range parts {
				if !regexp.MustCompile(p).MatchString(names[i]) {
					t.Fatalf("%q does not match %q", p, names[i])
				}
			}
			if title := testTitle(g.run, g.bench); title != g.name {
				t.Fatalf("the title of %q is %q, want %q", g.run+g.bench, title, g.name)
			}
		}
	})
}
