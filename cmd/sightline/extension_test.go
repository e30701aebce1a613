package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
)

var updateExtension = flag.Bool("update", false, "write the plugins' mirrors of lspserver/rpc/extension.go")

const (
	extensionSource = "lspserver/rpc/extension.go"
	extensionHeader = "Code generated from " + extensionSource + " by go test ./cmd/sightline -run TestExtension -update; DO NOT EDIT."
)

// ExtensionMirrors are the files that repeat our own methods and types for each plugin.
var extensionMirrors = map[string]func(*extension) []byte{
	"editors/vscode/src/protocol.ts":          (*extension).typeScript,
	"editors/nvim/lua/sightline/protocol.lua": (*extension).lua,
}

// TestExtensionMirrors fails when a plugin knows another protocol than the server: a method, a type,
// a field, whether it is optional, or what it means.
func TestExtensionMirrors(t *testing.T) {
	root := filepath.Join("..", "..")
	source, err := os.ReadFile(filepath.Join(root, extensionSource))
	if err != nil {
		t.Fatal(err)
	}
	ext, err := parseExtension(extensionSource, source)
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range extensionMirrors {
		path, want := filepath.Join(root, name), write(ext)
		if *updateExtension {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
			t.Errorf("%s differs from %s; go test ./cmd/sightline -run TestExtension -update writes it anew (-Go +mirror):\n%s", name, extensionSource, d)
		}
	}
}

// TestExtensionMethods checks that what a method's comment says that it takes and answers is declared.
func TestExtensionMethods(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", extensionSource))
	if err != nil {
		t.Fatal(err)
	}
	ext, err := parseExtension(extensionSource, source)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range ext.structs {
		known[s.name] = true
	}
	named := regexp.MustCompile(`[A-Z][A-Za-z]*(Params|Result|Info)\b|→ (\[\])?[A-Z][A-Za-z]*`)
	for _, g := range ext.groups {
		for _, c := range g.constants {
			if g.prefix != "Method" {
				continue
			}
			words := named.FindAllString(c.doc, -1)
			if len(words) == 0 {
				t.Errorf("%s does not say what it takes and answers", c.name)
			}
			for _, w := range words {
				if w = strings.TrimLeft(w, "→ []"); !known[w] {
					t.Errorf("%s speaks of %s, which is not declared", c.name, w)
				}
			}
		}
	}
}

// TestExtensionRefuses checks that the mirrors are not written from what they could not say.
func TestExtensionRefuses(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"type A struct { B string }", "A.B has no JSON name"},
		{"type A struct { B map[string]int `json:\"b\"` }", "A.B has a type that the mirrors cannot say"},
		{"type A struct { B C `json:\"b\"` }", "A.B has the type C, which is not declared"},
		{"type A int", "A is not a struct"},
		{"const ( AbcOne = \"1\"; DefTwo = \"2\" )", "DefTwo does not begin with Abc"},
		{"func f() {}", "only constants and types"},
	} {
		_, err := parseExtension("a.go", []byte("package rpc\n"+c.source))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.source, err, c.want)
		}
	}
}

// An extension is what the Go file declares, in its order.
type extension struct {
	groups  []constantGroup
	structs []structType
}

// A constantGroup is a parenthesized declaration: names that begin with one word.
type constantGroup struct {
	doc, prefix string
	constants   []constant
}

type constant struct{ doc, name, value string }

type structType struct {
	doc, name string
	embedded  []string
	fields    []field
}

type field struct {
	doc, name string
	elem      string // Go's name: "string", "int64", "Location"
	slice     bool
	null      bool // of the value, or of the slice's elements
	optional  bool // left out where it is zero
}

func parseExtension(name string, source []byte) (*extension, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var ext extension
	values := map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: only constants and types can be mirrored", name)
		case g.Tok == token.CONST:
			group, err := parseConstants(g, values)
			if err != nil {
				return nil, err
			}
			if g.Lparen.IsValid() {
				ext.groups = append(ext.groups, group)
			}
		case g.Tok == token.TYPE:
			for _, s := range g.Specs {
				parsed, err := parseStruct(g, s.(*ast.TypeSpec))
				if err != nil {
					return nil, err
				}
				ext.structs = append(ext.structs, parsed)
			}
		}
	}
	return &ext, ext.checkTypes()
}

func parseConstants(g *ast.GenDecl, values map[string]string) (constantGroup, error) {
	group := constantGroup{doc: proseOf(g.Doc)}
	for _, s := range g.Specs {
		spec := s.(*ast.ValueSpec)
		if len(spec.Names) != 1 || len(spec.Values) != 1 {
			return group, errors.New("each constant stands on its own line with its value")
		}
		name := spec.Names[0].Name
		value, err := constantValue(spec.Values[0], values)
		if err != nil {
			return group, fmt.Errorf("%s: %w", name, err)
		}
		values[name] = value
		if group.prefix == "" {
			group.prefix = firstWord(name)
		}
		if !strings.HasPrefix(name, group.prefix) {
			return group, fmt.Errorf("%s does not begin with %s, as the constants before it do", name, group.prefix)
		}
		group.constants = append(group.constants, constant{cmp.Or(proseOf(spec.Doc), proseOf(spec.Comment)), name, value})
	}
	return group, nil
}

func constantValue(e ast.Expr, values map[string]string) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.Ident:
		if v, ok := values[e.Name]; ok {
			return v, nil
		}
	case *ast.BinaryExpr:
		x, errX := constantValue(e.X, values)
		y, errY := constantValue(e.Y, values)
		return x + y, errors.Join(errX, errY)
	}
	return "", errors.New("not a string, a constant above, or a sum of them")
}

func parseStruct(g *ast.GenDecl, spec *ast.TypeSpec) (structType, error) {
	s := structType{doc: cmp.Or(proseOf(spec.Doc), proseOf(g.Doc)), name: spec.Name.Name}
	body, ok := spec.Type.(*ast.StructType)
	if !ok {
		return s, fmt.Errorf("%s is not a struct", s.name)
	}
	for _, f := range body.Fields.List {
		if id, ok := f.Type.(*ast.Ident); ok && len(f.Names) == 0 {
			s.embedded = append(s.embedded, id.Name)
			continue
		}
		if len(f.Names) != 1 {
			return s, fmt.Errorf("%s: each field stands on its own line", s.name)
		}
		full := s.name + "." + f.Names[0].Name
		out := field{doc: cmp.Or(proseOf(f.Doc), proseOf(f.Comment))}
		if f.Tag != nil {
			tag, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				return s, err
			}
			name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			out.name, out.optional = name, strings.Contains(options, "omitempty")
		}
		if out.name == "" || out.name == "-" {
			return s, fmt.Errorf("%s has no JSON name", full)
		}
		typ := f.Type
		if a, ok := typ.(*ast.ArrayType); ok && a.Len == nil {
			out.slice, typ = true, a.Elt
		}
		if p, ok := typ.(*ast.StarExpr); ok {
			out.null, typ = true, p.X
		}
		id, ok := typ.(*ast.Ident)
		if !ok {
			return s, fmt.Errorf("%s has a type that the mirrors cannot say", full)
		}
		out.elem = id.Name
		// Encoding leaves out a nil pointer that may be left out.
		out.null = out.null && (out.slice || !out.optional)
		s.fields = append(s.fields, out)
	}
	return s, nil
}

func (e *extension) checkTypes() error {
	known := map[string]bool{}
	for _, s := range e.structs {
		known[s.name] = true
	}
	for _, s := range e.structs {
		for _, f := range s.fields {
			if luaTypes[f.elem] == "" && !known[f.elem] {
				return fmt.Errorf("%s.%s%s has the type %s, which is not declared", s.name, strings.ToUpper(f.name[:1]), f.name[1:], f.elem)
			}
		}
		for _, b := range s.embedded {
			if !known[b] {
				return fmt.Errorf("%s embeds %s, which is not declared", s.name, b)
			}
		}
	}
	return nil
}

var luaTypes = map[string]string{
	"string": "string", "bool": "boolean", "int": "integer", "int64": "integer", "float64": "number",
}

var typeScriptTypes = map[string]string{
	"string": "string", "bool": "boolean", "int": "number", "int64": "number", "float64": "number",
}

func (e *extension) typeScript() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// %s\n", extensionHeader)
	comment := func(indent, doc string) {
		if doc = mirrored(doc); doc == "" {
			return
		}
		if len(indent)+len(doc)+7 <= 110 {
			fmt.Fprintf(&b, "%s/** %s */\n", indent, doc)
			return
		}
		fmt.Fprintf(&b, "%s/**\n", indent)
		for _, line := range linesOf(doc, 105-len(indent)) {
			fmt.Fprintf(&b, "%s * %s\n", indent, line)
		}
		fmt.Fprintf(&b, "%s */\n", indent)
	}
	for _, g := range e.groups {
		b.WriteByte('\n')
		for _, line := range linesOf(mirrored(g.doc), 105) {
			fmt.Fprintf(&b, "// %s\n", line)
		}
		for _, c := range g.constants {
			comment("", c.doc)
			fmt.Fprintf(&b, "export const %s = %q;\n", c.name, c.value)
		}
	}
	for _, s := range e.structs {
		b.WriteByte('\n')
		comment("", s.doc)
		fmt.Fprintf(&b, "export interface %s ", s.name)
		if len(s.embedded) > 0 {
			fmt.Fprintf(&b, "extends %s ", strings.Join(s.embedded, ", "))
		}
		b.WriteString("{\n")
		for _, f := range s.fields {
			comment("  ", f.doc)
			typ := cmp.Or(typeScriptTypes[f.elem], f.elem)
			if f.null {
				typ += " | null"
			}
			if f.slice && f.null {
				typ = "(" + typ + ")"
			}
			if f.slice {
				typ += "[]"
			}
			mark := ""
			if f.optional {
				mark = "?"
			}
			fmt.Fprintf(&b, "  %s%s: %s;\n", f.name, mark, typ)
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

func (e *extension) lua() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "-- %s\n\nlocal M = {}\n", extensionHeader)
	for _, g := range e.groups {
		b.WriteByte('\n')
		for _, line := range linesOf(mirrored(g.doc), 105) {
			fmt.Fprintf(&b, "--- %s\n", line)
		}
		fmt.Fprintf(&b, "M.%ss = {\n", strings.ToLower(g.prefix))
		for _, c := range g.constants {
			for _, line := range linesOf(mirrored(c.doc), 105) {
				fmt.Fprintf(&b, "  --- %s\n", line)
			}
			_, key, found := strings.Cut(c.value, "/")
			if !found {
				key = c.value
			}
			fmt.Fprintf(&b, "  %s = %q,\n", strings.ReplaceAll(key, "-", "_"), c.value)
		}
		b.WriteString("}\n")
	}
	for _, s := range e.structs {
		b.WriteByte('\n')
		for _, line := range linesOf(mirrored(s.doc), 105) {
			fmt.Fprintf(&b, "--- %s\n", line)
		}
		fmt.Fprintf(&b, "---@class sightline.%s", s.name)
		for i, base := range s.embedded {
			fmt.Fprintf(&b, "%ssightline.%s", []string{": ", ", "}[min(i, 1)], base)
		}
		b.WriteByte('\n')
		for _, f := range s.fields {
			typ := luaTypes[f.elem]
			if typ == "" {
				typ = "sightline." + f.elem
			}
			if f.null {
				typ += "|vim.NIL"
			}
			if f.slice && f.null {
				typ = "(" + typ + ")"
			}
			if f.slice {
				typ += "[]"
			}
			mark := ""
			if f.optional {
				mark = "?"
			}
			fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("---@field %s%s %s %s", f.name, mark, typ, mirrored(f.doc))))
		}
	}
	b.WriteString("\nreturn M\n")
	return b.Bytes()
}

// proseOf is a comment's text on one line.
func proseOf(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return strings.Join(strings.Fields(c.Text()), " ")
}

// mirrored is a comment in words that hold in the plugins' languages.
func mirrored(doc string) string {
	doc = regexp.MustCompile(`\[\]([A-Za-z]+)`).ReplaceAllString(doc, "$1[]")
	return strings.ReplaceAll(doc, "*/", "* /")
}

// linesOf is text in lines of at most n columns; none of no text.
func linesOf(text string, n int) []string {
	if text == "" {
		return nil
	}
	return wrap(text, n)
}

func firstWord(name string) string {
	runes := []rune(name)
	if i := slices.IndexFunc(runes[1:], unicode.IsUpper); i >= 0 {
		return string(runes[:i+1])
	}
	return name
}
