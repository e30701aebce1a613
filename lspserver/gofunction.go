package lspserver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// A goFunction is where a function of a Go file lies.
type goFunction struct {
	first, last int // 0-based lines of its func and of its end
	closure     bool
}

// goFunctions finds the functions and closures of a Go file, in order of their begin. It takes text
// that does not parse and finds what the parser could make out.
func goFunctions(path, src string) []goFunction {
	if !strings.HasSuffix(path, ".go") {
		return nil
	}
	fset := token.NewFileSet()
	file, _ := parser.ParseFile(fset, path, src, parser.SkipObjectResolution|parser.AllErrors)
	if file == nil {
		return nil
	}
	var found []goFunction
	line := func(p token.Pos) int { return fset.PositionFor(p, false).Line - 1 } // whatever //line says
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			found = append(found, goFunction{line(n.Pos()), line(n.End()), false})
		case *ast.FuncLit:
			found = append(found, goFunction{line(n.Pos()), line(n.End()), true})
		}
		return true
	})
	return found
}
