// Package nativetest finds the tests in the text of one C++ or Rust file: where each one is, what its
// framework calls it, and what selects it alone. It reads text that does not compile, as people edit
// while they look.
//
// It does not know how a test's program is built, found or run, nor any other file: a macro that
// another file defines is a name like any other, and what a build switches on is not known. So it may
// name a test that a program does not have; whoever runs one asks the program first.
package nativetest

import (
	"path/filepath"
	"slices"
	"strings"
)

// A Framework is what a test is written with, and so how its program is asked to run it.
type Framework string

// The frameworks. Their words are those of "tests" in .sightline.json.
const (
	GoogleTest Framework = "gtest"
	Catch2     Framework = "catch2"
	Cargo      Framework = "cargo" // Rust's own, libtest
)

// Title is the framework's name for people.
func (f Framework) Title() string {
	switch f {
	case GoogleTest:
		return "GoogleTest"
	case Catch2:
		return "Catch2"
	case Cargo:
		return "cargo test"
	}
	return string(f)
}

// A Test is a test of a file.
type Test struct {
	Framework Framework
	Bench     bool // Rust's #[bench]
	// Name is what people call it: "Suite.Name", "Scenario: x", or in Rust the path of modules inside the
	// file, "tests::parses". Rust's is relative to the file's own module; see [ModulePath].
	Name string
	// Filter selects it, with all instances of a test with parameters or types: the value of
	// --gtest_filter, Catch2's test specification, or Name in Rust.
	Filter string
	Tags   string // of Catch2: "[fast][io]"; ""
	// Line and Last are the 0-based lines of its macro or first attribute, and of its end.
	Line, Last int
}

// maxSource bounds what is read of a file, and so memory: generated files may be larger than that, and
// nobody reads them.
const maxSource = 4 << 20

// Find lists the tests of a file, in order of lines. What the file is tells its name.
func Find(path, src string) []Test {
	if len(src) > maxSource {
		return nil
	}
	switch {
	case IsRust(path):
		return rustTests(src)
	case IsCPP(path):
		return cppTests(src)
	}
	return nil
}

// IsCPP says whether a file's name is that of C++ source. Tests may be in headers.
func IsCPP(path string) bool {
	return slices.Contains([]string{".cpp", ".cc", ".cxx", ".c++", ".C", ".hpp", ".hh", ".hxx", ".h", ".ipp", ".inl", ".cu"}, filepath.Ext(path))
}

// IsRust says whether a file's name is that of Rust source.
func IsRust(path string) bool { return filepath.Ext(path) == ".rs" }

// At is the innermost test around a 0-based line, the last of several; nil where there is none.
func At(tests []Test, line int) *Test {
	for i := len(tests) - 1; i >= 0; i-- {
		if t := &tests[i]; t.Line <= line && line <= t.Last {
			return t
		}
	}
	return nil
}

// ModulePath is the module that a Rust file is, as a path from the root file of its crate target:
// "parser::lexer" for src/parser/lexer.rs or src/parser/lexer/mod.rs below src/lib.rs; "" for the root
// itself. Files that a #[path] attribute names are elsewhere than that.
// Source: The Rust Reference, "Module source filenames".
func ModulePath(root, file string) (string, bool) {
	if root == file {
		return "", true
	}
	rel, err := filepath.Rel(filepath.Dir(root), file)
	if err != nil || !filepath.IsLocal(rel) || !IsRust(rel) {
		return "", false
	}
	parts := strings.Split(strings.TrimSuffix(rel, ".rs"), string(filepath.Separator))
	if last := len(parts) - 1; parts[last] == "mod" {
		parts = parts[:last]
	}
	return strings.Join(parts, "::"), true
}

// CrateModule is the module that a Rust file is, where the package lies in dir as Cargo's conventions
// have it: the part of a test's name that its file decides. A package may name its targets' files
// otherwise.
// Source: The Cargo Book, "Package Layout".
func CrateModule(dir, file string) string {
	rel, err := filepath.Rel(dir, file)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	parts := strings.Split(filepath.ToSlash(rel), "/")
	root := ""
	switch {
	case len(parts) > 2 && parts[0] == "src" && parts[1] == "bin":
		root = filepath.Join(dir, "src", "bin", parts[2])
		if len(parts) > 3 {
			root = filepath.Join(root, "main.rs")
		}
	case parts[0] == "src" && len(parts) == 2 && (parts[1] == "lib.rs" || parts[1] == "main.rs"):
		return ""
	case parts[0] == "src":
		root = filepath.Join(dir, "src", "lib.rs")
	case len(parts) > 1 && slices.Contains([]string{"tests", "benches", "examples"}, parts[0]):
		switch {
		case len(parts) == 2 || parts[2] == "main.rs":
			return ""
		case parts[2] == "mod.rs": // a module that several targets share
			return parts[1]
		}
		root = filepath.Join(dir, parts[0], parts[1], "main.rs")
	default:
		return ""
	}
	module, _ := ModulePath(root, file)
	return module
}

// Join is the path of an item below a module; either may be "".
func Join(module, name string) string {
	if module == "" || name == "" {
		return module + name
	}
	return module + "::" + name
}
