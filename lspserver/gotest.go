package lspserver

import (
	"context"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.lsp.dev/uri"
)

// testKind is a kind of Go test, by the word people use for it. Each has a setting of its own.
type testKind string

const (
	plainTest  testKind = "test"
	benchmark  testKind = "benchmark"
	fuzzTarget testKind = "fuzz target"
	example    testKind = "example"
	subtest    testKind = "subtest"
)

// A goTest is something in a file that go test can be asked to run alone.
type goTest struct {
	kind testKind
	name string // as go test prints it: "TestX/sub_name"
	line int    // 0-based line of its func or of its Run call
	last int    // 0-based line of its end
	// run and bench are the anchored patterns for -run and -bench; one of them is "".
	run, bench string
}

// goTests finds the tests of a file, in order of lines. It takes text that does not parse and finds
// what the parser could make out: people edit while they look.
func goTests(path string, src []byte) []goTest {
	if !strings.HasSuffix(path, "_test.go") {
		return nil
	}
	fset := token.NewFileSet()
	// Without AllErrors the parser gives up at the tenth error and returns an empty file.
	file, _ := parser.ParseFile(fset, path, src,
		parser.ParseComments|parser.SkipObjectResolution|parser.AllErrors)
	if file == nil {
		return nil
	}
	finder := testFinder{fset: fset, names: map[string]int{}}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Type.TypeParams != nil {
			continue
		}
		switch name := fn.Name.Name; {
		case hasTestPrefix(name, "Test") && takes(fn.Type, "T"):
			finder.add(plainTest, name, fn)
			finder.subtests(fn.Body, parameter(fn.Type), name)
		case hasTestPrefix(name, "Benchmark") && takes(fn.Type, "B"):
			finder.add(benchmark, name, fn)
			finder.subtests(fn.Body, parameter(fn.Type), name)
		case hasTestPrefix(name, "Fuzz") && takes(fn.Type, "F"):
			finder.add(fuzzTarget, name, fn)
		case hasTestPrefix(name, "Example") && fn.Type.Params.NumFields() == 0 &&
			fn.Type.Results.NumFields() == 0 && hasOutput(fn.Body, file.Comments):
			finder.add(example, name, fn)
		}
	}
	return finder.found
}

// GoTestAt is the innermost Go test around a 0-based line of a file: the patterns for -run and -bench, one
// of which is "".
func GoTestAt(path string, src []byte, line int) (run, bench string, ok bool) {
	tests := goTests(path, src)
	for i := len(tests) - 1; i >= 0; i-- {
		if t := tests[i]; t.line <= line && line <= t.last {
			return t.run, t.bench, true
		}
	}
	return "", "", false
}

// constraintOf is the build constraint of a file, as its text in the editor or else on disk has it;
// "" where it has none.
func (s *server) constraintOf(ctx context.Context, u uri.URI, path string) string {
	var text string
	if d := s.snapshot(ctx)[u]; d != nil {
		text = d.text.String()
	} else if data, err := os.ReadFile(path); err == nil {
		text = string(data)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if constraint.IsGoBuild(line) {
			return line
		}
		if strings.HasPrefix(line, "package ") {
			break // constraints stand above it
		}
	}
	return ""
}

// hasTestPrefix is cmd/go's rule (internal/load/test.go, isTest): what follows the prefix does not
// begin with a lower-case letter.
func hasTestPrefix(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	r, _ := utf8.DecodeRuneInString(rest)
	return ok && (rest == "" || !unicode.IsLower(r))
}

// takes says whether the function's only parameter is a *T or *testing.T and it returns nothing.
// How testing was imported cannot be seen from one file; cmd/go does not look either.
func takes(fn *ast.FuncType, typ string) bool {
	if fn.Results.NumFields() > 0 || fn.Params.NumFields() != 1 {
		return false
	}
	star, ok := fn.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	switch x := star.X.(type) {
	case *ast.Ident:
		return x.Name == typ
	case *ast.SelectorExpr:
		return x.Sel.Name == typ
	}
	return false
}

// parameter is the name of a function's first parameter, "" if it has none.
func parameter(fn *ast.FuncType) string {
	if fn.Params.NumFields() == 0 || len(fn.Params.List[0].Names) == 0 {
		return ""
	}
	return fn.Params.List[0].Names[0].Name
}

// outputComment begins the last comment of an example that go test runs (go/doc, example.go).
var outputComment = regexp.MustCompile(`(?i)^[[:space:]]*(unordered )?output:`)

// hasOutput says whether an example has an output comment; without one it is only compiled.
func hasOutput(body *ast.BlockStmt, comments []*ast.CommentGroup) bool {
	if body == nil {
		return false
	}
	var last *ast.CommentGroup
	for _, c := range comments {
		if c.Pos() >= body.Pos() && c.End() <= body.End() {
			last = c
		}
	}
	return last != nil && outputComment.MatchString(last.Text())
}

// A testFinder collects the tests of one file.
type testFinder struct {
	fset  *token.FileSet
	found []goTest
	names map[string]int // how often each full name was used, as package testing counts
}

func (f *testFinder) add(kind testKind, name string, at ast.Node) {
	line := func(p token.Pos) int { return f.fset.PositionFor(p, false).Line - 1 } // whatever //line says
	t := goTest{kind: kind, name: name, line: line(at.Pos())}
	t.last = max(t.line, line(at.End())) // a function that is not closed may have no end
	if kind == benchmark || kind == subtest && strings.HasPrefix(name, "Benchmark") {
		t.bench = testPattern(name)
	} else {
		t.run = testPattern(name)
	}
	f.found = append(f.found, t)
}

// subtests finds calls recv.Run("name", …) below a body. Names that are not literals, as in tables,
// cannot be known without running the test; neither is it known how often a loop calls Run, so a
// repeated name stands for its first use.
func (f *testFinder) subtests(body *ast.BlockStmt, recv, parent string) {
	if body == nil || recv == "" || recv == "_" { // while it is typed, a function may have no body
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			// A function with a parameter of the same name speaks of another test.
			return !declares(n.Type, recv)
		case *ast.CallExpr:
			name, fn, ok := runCall(n, recv)
			if !ok {
				return true
			}
			full := f.unique(parent, subtestName(name))
			f.add(subtest, full, n)
			if lit, ok := fn.(*ast.FuncLit); ok && parameter(lit.Type) != "" {
				f.subtests(lit.Body, parameter(lit.Type), full)
			}
			return false
		}
		return true
	})
}

// runCall takes recv.Run("literal", fn) apart.
func runCall(call *ast.CallExpr, recv string) (name string, fn ast.Expr, ok bool) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Run" || len(call.Args) != 2 {
		return "", nil, false
	}
	if x, ok := sel.X.(*ast.Ident); !ok || x.Name != recv {
		return "", nil, false
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", nil, false
	}
	name, err := strconv.Unquote(lit.Value)
	return name, call.Args[1], err == nil
}

func declares(fn *ast.FuncType, name string) bool {
	if fn.Params == nil {
		return false
	}
	for _, field := range fn.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return true
			}
		}
	}
	return false
}

// subtestName is how package testing writes the name given to Run (testing/match.go, rewrite).
func subtestName(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte('_')
		case !strconv.IsPrint(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unique is a subtest's full name, numbered when the name is empty or was used before
// (testing/match.go, unique).
func (f *testFinder) unique(parent, name string) string {
	full := parent + "/" + name
	n := f.names[full]
	f.names[full]++
	if n == 0 && name != "" {
		return full
	}
	return fmt.Sprintf("%s#%02d", full, n)
}

// testPattern is the pattern that go test -run (or -bench) matches with this test alone. go test
// splits pattern and name at slashes, also at those inside a subtest's own name.
func testPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
