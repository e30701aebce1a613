package nativetest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

func describe(tests []Test) []string {
	lines := []string{}
	for _, t := range tests {
		s := fmt.Sprintf("%d-%d %s %q", t.Line+1, t.Last+1, t.Framework, t.Name)
		if t.Filter != t.Name {
			s += fmt.Sprintf(" filter=%q", t.Filter)
		}
		if t.Bench {
			s += " bench"
		}
		if t.Tags != "" {
			s += " tags=" + t.Tags
		}
		lines = append(lines, s)
	}
	return lines
}

// Each archive has sources, and behind each a file NAME.want with the tests that are to be found.
func TestFind(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			file, want := archive.Files[i], archive.Files[i+1]
			if want.Name != file.Name+".want" {
				t.Fatalf("%s: %s is not followed by its .want", path, file.Name)
			}
			src := string(file.Data)
			wanted := strings.Split(strings.TrimSuffix(string(want.Data), "\n"), "\n")
			if len(want.Data) == 0 {
				wanted = []string{}
			}
			if diff := cmp.Diff(wanted, describe(Find(file.Name, src))); diff != "" {
				t.Errorf("%s: tests of %s (-want +got):\n%s", path, file.Name, diff)
			}
			crlf := strings.ReplaceAll(src, "\n", "\r\n")
			if diff := cmp.Diff(wanted, describe(Find(file.Name, crlf))); diff != "" {
				t.Errorf("%s: tests of %s with CRLF (-want +got):\n%s", path, file.Name, diff)
			}
		}
	}
}

func TestFindNothing(t *testing.T) {
	for name, src := range map[string]string{
		"a.go": "TEST(A, B) {}", "a.txt": "#[test] fn a() {}", "a.rs": "TEST(A, B) {}", "a.cpp": "#[test]\nfn a() {}",
		"big.cpp": "TEST(A, B) {}" + strings.Repeat("\n", maxSource),
	} {
		if got := Find(name, src); len(got) > 0 {
			t.Errorf("%s has %v", name, describe(got))
		}
	}
}

func TestAt(t *testing.T) {
	tests := Find("a.cpp", "// TEST\nTEST(A, B) {\n}\n\nTEST(A, C) {\n}\n")
	for line, want := range []string{"", "A.B", "A.B", "", "A.C", "A.C", ""} {
		got := ""
		if x := At(tests, line); x != nil {
			got = x.Name
		}
		if got != want {
			t.Errorf("on line %d is %q, want %q", line, got, want)
		}
	}
}

func TestModulePath(t *testing.T) {
	for _, c := range []struct{ root, file, want string }{
		{"/c/src/lib.rs", "/c/src/lib.rs", ""},
		{"/c/src/lib.rs", "/c/src/a.rs", "a"},
		{"/c/src/main.rs", "/c/src/a/mod.rs", "a"},
		{"/c/src/lib.rs", "/c/src/a/b.rs", "a::b"},
		{"/c/tests/it.rs", "/c/tests/it.rs", ""},
		{"/c/tests/it/main.rs", "/c/tests/it/a.rs", "a"},
		{"/c/src/lib.rs", "/c/tests/it.rs", "-"},
		{"/c/src/lib.rs", "/c/src/a.txt", "-"},
	} {
		got, ok := ModulePath(c.root, c.file)
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s below %s is module %q, want %q", c.file, c.root, got, c.want)
		}
	}
	for file, want := range map[string]string{
		"src/lib.rs": "", "src/main.rs": "", "src/a.rs": "a", "src/a/mod.rs": "a", "src/a/b.rs": "a::b", "src/main/x.rs": "main::x",
		"src/bin/tool.rs": "", "src/bin/tool/main.rs": "", "src/bin/tool/x.rs": "x",
		"tests/it.rs": "", "tests/it/main.rs": "", "tests/it/x/y.rs": "x::y", "tests/shared/mod.rs": "shared", "benches/b.rs": "",
		"build.rs": "", "../x.rs": "",
	} {
		if got := CrateModule("/c", filepath.Join("/c", file)); got != want {
			t.Errorf("%s is module %q, want %q", file, got, want)
		}
	}
	if got := Join("a", "b::c"); got != "a::b::c" {
		t.Errorf("a and b::c join to %q", got)
	}
	if got := Join("", "b") + Join("a", ""); got != "ba" {
		t.Errorf("joining with nothing gives %q", got)
	}
}

func TestCondition(t *testing.T) {
	for text, want := range map[string]truth{
		"0": no, "1": yes, "0x10u": yes, "00": no, "true": yes, "false": no, "": unknown,
		"!0": yes, "!!1": yes, "0 && X": no, "X && 0": no, "X || 1": yes, "0 || X": unknown, "X": unknown,
		"(0)": no, "(0 || (1 && 1))": yes, "defined(_WIN32)": no, "defined _WIN32": no, "defined(__linux__) && 1": yes,
		"defined(FOO)": unknown, "!defined(FOO)": unknown, "!defined(_MSC_VER)": yes,
		"X == 0": unknown, "0 == X": unknown, "0 == 0": unknown, "X > 3 && 0": no, "0 && X > (3 || 1)": no,
		"0 ? 1 : 1": unknown, "X ? 0 : 0": unknown, "X && 0 ? 1 : 1": unknown, "__has_include(<x>)": unknown,
		"__has_include(<x>) && 0": no, "(0": unknown, "0)": unknown, "! (": unknown, "0 && (": unknown,
		"X != 0": unknown, "0 + 1": unknown, "__cplusplus >= 201703L || 1": yes,
	} {
		if got := condition(text); got != want {
			t.Errorf("#if %s is %d, want %d", text, got, want)
		}
	}
	if got := condition(strings.Repeat("(", 1000) + "0" + strings.Repeat(")", 1000)); got != unknown {
		t.Errorf("a thousand parentheses are %d", got)
	}
}

func TestEscapeCatch(t *testing.T) {
	for name, want := range map[string]string{
		"plain": "plain", " a, b [c] \\ ": `a\, b \[c] \\`, "~not": `\~not`, `"q"`: `\"q"`, "": "",
	} {
		if got := escapeCatch(name); got != want {
			t.Errorf("%q is escaped %q, want %q", name, got, want)
		}
	}
}

// Laws of every scanner, whatever the text is: tests lie in it, in order, and have names; a line before
// the text moves them all by one; code that is commented out has none.
func laws(t *testing.T, path, src string) {
	t.Helper()
	tests := Find(path, src)
	lines := strings.Count(src, "\n") + 1
	for i, x := range tests {
		if x.Line < 0 || x.Last < x.Line || x.Last >= lines {
			t.Fatalf("%q is on lines %d to %d of %d", x.Name, x.Line, x.Last, lines)
		}
		if x.Name == "" || x.Filter == "" || strings.ContainsRune(x.Filter, 0) && !strings.ContainsRune(src, 0) {
			t.Fatalf("test %d has name %q and filter %q", i, x.Name, x.Filter)
		}
	}
	if strings.HasPrefix(src, "#!") || strings.HasPrefix(src, "\ufeff") {
		return // they mean something at the very begin alone
	}
	moved := Find(path, "\n"+src)
	if len(moved) != len(tests) {
		t.Fatalf("a line before the text makes %d tests of %d", len(moved), len(tests))
	}
	for i := range moved {
		if moved[i].Line != tests[i].Line+1 || moved[i].Name != tests[i].Name {
			t.Fatalf("%+v moved to %+v", tests[i], moved[i])
		}
	}
	if strings.Contains(src, "*/") || strings.Contains(src, "/*") || strings.Contains(src, `\`) {
		return // the comment below may end in it, or have others inside
	}
	if got := Find(path, "/*"+src); len(got) > 0 {
		t.Fatalf("a comment has %v", describe(got))
	}
}

func seeds(f *testing.F, ext string) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if filepath.Ext(file.Name) == ext {
				f.Add(string(file.Data))
			}
		}
	}
}

func FuzzCPP(f *testing.F) {
	seeds(f, ".cpp")
	f.Add("TEST(A,B){")
	f.Add("#if 0\nTEST(A,B){}\n#elif X\n{\n#else\n}\n#endif\nTEST_CASE(\"a\" R\"x(\\)x\"){}")
	f.Add("#if (((((!defined(")
	f.Add("SCENARIO(\"\\x41\\u00e9\\")
	f.Add("TEST\\\n_CASE\\\r\n(\"a\\\nb\"){}")
	f.Fuzz(func(t *testing.T, src string) { laws(t, "a.cpp", src) })
}

func FuzzRust(f *testing.F) {
	seeds(f, ".rs")
	f.Add("#[test] fn a(){")
	f.Add("mod a { #![cfg(any())] mod b{ #[tokio::test(x)] async fn c() } }")
	f.Add("#[cfg(not(all(test,any(unix,windows))))]#[bench]fn b(){}")
	f.Add("/* /* */ '\\'' 'a r##\"\"# b'x' br\"\" r#fn")
	f.Fuzz(func(t *testing.T, src string) { laws(t, "a.rs", src) })
}

func FuzzCondition(f *testing.F) {
	f.Add("defined(X) && !(0 || 1)")
	f.Add("(((")
	f.Fuzz(func(t *testing.T, text string) {
		a := condition(text)
		if a < no || a > yes {
			t.Fatalf("%q is %d", text, a)
		}
		if strings.ContainsAny(text, "?()") {
			return // what is one operand may become several
		}
		if b := condition("0 && " + text); !strings.Contains(text, "||") && b == yes {
			t.Fatalf("0 && %q holds", text)
		}
	})
}
