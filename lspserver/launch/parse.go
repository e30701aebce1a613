package launch

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Frameworks are the words of "tests".
var Frameworks = []string{"gtest", "catch2"}

// Parse reads the text of a file. Folders in it are relative to the one that path lies in.
func Parse(path string, data []byte) *File {
	p := &parser{file: &File{Path: path}, data: data, names: map[string]bool{}}
	if len(data) > maxFile {
		p.file.Problems = []Problem{{Text: fmt.Sprintf("the file is larger than %d bytes: nothing of it is read", maxFile)}}
		return p.file
	}
	if len(bytes.TrimSpace(data)) == 0 {
		p.file.Problems = []Problem{{Text: "the file is empty: write " + Example}}
		return p.file
	}
	for i, c := range data {
		if c == '\n' {
			p.ends = append(p.ends, i)
		}
	}
	p.json = jsontext.NewDecoder(bytes.NewReader(data))
	p.parse()
	slices.SortStableFunc(p.file.Problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return p.file
}

type parser struct {
	file  *File
	data  []byte
	json  *jsontext.Decoder
	ends  []int // offsets of line ends
	names map[string]bool
	// done is set where nothing more is read: the text is no JSON from here on, or there were too many
	// mistakes.
	done bool
}

// span is a place in the text.
type span struct{ begin, end int }

// place is where an offset is.
func (p *parser) place(at int) (line, column int) {
	at = min(at, len(p.data))
	line, _ = slices.BinarySearch(p.ends, at)
	if line > 0 {
		return line, at - 1 - p.ends[line-1]
	}
	return 0, at
}

func (p *parser) problem(s span, key, format string, args ...any) {
	line, column := p.place(s.begin)
	begin, end := min(s.begin, len(p.data)), min(s.end, len(p.data))
	if to := bytes.IndexAny(p.data[begin:], "\r\n"); to >= 0 && (end <= begin || begin+to < end) {
		end = begin + to
	} else if to < 0 && end <= begin {
		end = len(p.data)
	}
	p.file.Problems = append(p.file.Problems, Problem{line, column, begin, end, key, fmt.Sprintf(format, args...)})
	p.done = p.done || len(p.file.Problems) >= maxProblems
}

// maxProblems is how many mistakes are told of one file. Nothing is read after them.
const maxProblems = 50

// broken takes note of text that is no JSON. Nothing after it is read.
func (p *parser) broken(err error) {
	if p.done {
		return
	}
	p.done = true
	at, why := int(p.json.InputOffset()), err.Error()
	if s := new(jsontext.SyntacticError); errors.As(err, &s) {
		at, why = int(s.ByteOffset), s.Err.Error()
		if errors.Is(err, jsontext.ErrDuplicateName) {
			p.problem(span{at, at}, keyOf(string(s.JSONPointer)), "is there twice: leave one out")
			return
		}
	}
	hint := "correct it"
	if rest := strings.TrimLeft(string(p.data[min(at, len(p.data)):]), " \t\r\n,"); strings.HasPrefix(rest, "//") || strings.HasPrefix(rest, "/*") {
		hint = "comments are not allowed, leave them out"
	} else if rest == "" {
		hint = "close what is open"
	} else if rest[0] == ']' || rest[0] == '}' {
		hint = "no comma may stand before a closing bracket, and each opening one has its own"
	}
	p.problem(span{at, at}, "", "this is no JSON (%s): %s", strings.TrimPrefix(why, "jsontext: "), hint)
}

// keyOf writes a JSON pointer as people write it: /targets/1/env is targets[1].env.
func keyOf(pointer string) string {
	key := ""
	for token := range jsontext.Pointer(pointer).Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			key += "[" + token + "]"
		case key == "":
			key = token
		default:
			key += "." + token
		}
	}
	return key
}

// key names the value that was read last.
func (p *parser) key() string { return keyOf(string(p.json.StackPointer())) }

// begin is where the next token begins.
func (p *parser) begin() int {
	at := int(p.json.InputOffset())
	for at < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[at]) >= 0 {
		at++
	}
	return at
}

// token reads the next token.
func (p *parser) token() (jsontext.Token, span, bool) {
	at := p.begin()
	t, err := p.json.ReadToken()
	if err != nil {
		p.broken(err)
		return t, span{at, at}, false
	}
	return t, span{at, int(p.json.InputOffset())}, true
}

// words for kinds of values.
func kindWord(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	}
	return "something else"
}

// wrong says that a value is not what it must be, and moves over it.
func (p *parser) wrong(must string) {
	at, kind := p.begin(), p.json.PeekKind()
	if err := p.json.SkipValue(); err != nil {
		p.broken(err)
		return
	}
	p.problem(span{at, int(p.json.InputOffset())}, p.key(), "is %s: make it %s", kindWord(kind), must)
}

// members calls f for each member of the object that comes, with its name read. It answers the object's
// place, and false where there is no object.
func (p *parser) members(must string, f func(name string, at span)) (span, bool) {
	if k := p.json.PeekKind(); k != '{' {
		if k == 0 {
			p.token() // which says why
		} else {
			p.wrong(must)
		}
		return span{}, false
	}
	_, whole, ok := p.token()
	ok = ok && !p.done
	for ok && p.json.PeekKind() != '}' {
		var name jsontext.Token
		var at span
		if name, at, ok = p.token(); ok {
			f(name.String(), at)
		}
		ok = ok && !p.done
	}
	if ok {
		var end span
		_, end, ok = p.token()
		whole.end = end.end
	}
	return whole, ok
}

// elements calls f for each element of the list that comes.
func (p *parser) elements(must string, f func()) bool {
	if k := p.json.PeekKind(); k != '[' {
		if k == 0 {
			p.token()
		} else {
			p.wrong(must)
		}
		return false
	}
	_, _, ok := p.token()
	for ok && p.json.PeekKind() != ']' {
		f()
		ok = !p.done
	}
	if ok {
		_, _, ok = p.token()
	}
	return ok
}

func (p *parser) text(must string) (string, span, bool) {
	if p.json.PeekKind() != '"' {
		if p.json.PeekKind() == 0 {
			p.token()
		} else {
			p.wrong(must)
		}
		return "", span{}, false
	}
	t, at, ok := p.token()
	if !ok {
		return "", at, false
	}
	s := t.String()
	if strings.ContainsRune(s, 0) {
		p.problem(at, p.key(), "has a NUL character: leave it out")
		return "", at, false
	}
	return s, at, true
}

func (p *parser) texts(must string) (list []string, ok bool) {
	ok = true
	whole := p.elements(must, func() {
		s, _, fine := p.text("a string")
		list, ok = append(list, s), ok && fine
	})
	return list, ok && whole
}

func (p *parser) parse() {
	found := false
	_, ok := p.members("an object, as "+Example, func(name string, at span) {
		switch name {
		case "$schema":
			p.text("a string")
		case "targets":
			found = true
			p.elements("a list of objects", p.target)
		default:
			p.unknown(name, at, `"targets"`)
		}
	})
	if !ok {
		return
	}
	if !found {
		p.problem(span{}, "", `there is no "targets": write %s`, Example)
	}
	at := p.begin()
	if k := p.json.PeekKind(); k != 0 || at < len(p.data) {
		p.done = true
		p.problem(span{at, len(p.data)}, "", "there is something after the object: leave it out")
	}
}

// unknown says that there is no such key, and moves over its value.
func (p *parser) unknown(name string, at span, there string) {
	p.problem(at, p.key(), "is no key here: there is %s", there)
	if err := p.json.SkipValue(); err != nil {
		p.broken(err)
	}
}

func (p *parser) target() {
	t := Target{File: p.file.Path, Dir: filepath.Dir(p.file.Path)}
	good := true
	has := map[string]bool{}
	before := len(p.file.Problems)
	at, ok := p.members(`an object with "name" and "command"`, func(name string, at span) {
		has[name] = true
		switch name {
		case "name":
			s, at, fine := p.text("a string")
			switch {
			case !fine:
			case strings.TrimSpace(s) == "" || strings.ContainsAny(s, "\n\r"):
				p.problem(at, p.key(), "is empty or has more than one line: name what the target is")
			case p.names[s]:
				p.problem(at, p.key(), "is %q, as that of a target before: give each another name", s)
			default:
				t.Name = s
			}
		case "command":
			t.Command = p.command()
		case "build":
			t.Build = p.command()
		case "env":
			t.Env = p.env()
		case "dir":
			if s, _, fine := p.text("a string"); fine && filepath.IsAbs(s) {
				t.Dir = filepath.Clean(s)
			} else if fine {
				t.Dir = filepath.Join(t.Dir, s)
			}
		case "tests":
			s, at, fine := p.text("a string")
			if fine && s != "" && !slices.Contains(Frameworks, s) {
				p.problem(at, p.key(), "is %.40q: make it \"%s\", or leave it out", s, strings.Join(Frameworks, `" or "`))
			}
			t.Tests = s
		default:
			p.unknown(name, at, `"name", "command", "env", "dir", "tests" and "build"`)
		}
	})
	if !ok {
		return
	}
	// The object is over, and so its key is the last one named.
	for _, name := range []string{"name", "command"} {
		if !has[name] {
			good = false
			p.problem(at, p.key(), "has no %q: %s", name, map[string]string{
				"name": "say what the target is called", "command": `give the program and its arguments, as ["./server", "--port", "8080"]`,
			}[name])
		}
	}
	if t.Name != "" {
		p.names[t.Name] = true
	}
	// One that is wrong in part would run something else than what was meant.
	if good && t.Name != "" && len(t.Command) > 0 && len(p.file.Problems) == before {
		t.Line, _ = p.place(at.begin)
		t.Last, _ = p.place(at.end)
		p.file.Targets = append(p.file.Targets, t)
	}
}

// command reads a program and its arguments; nil where it is not what it must be.
func (p *parser) command() []string {
	at := p.begin()
	list, ok := p.texts(`a list of strings, as ["./server", "--port", "8080"]`)
	switch {
	case !ok:
		return nil
	case len(list) == 0, list[0] == "":
		p.problem(span{at, int(p.json.InputOffset())}, p.key(), "has no program: give it as the first of the list")
		return nil
	}
	return list
}

func (p *parser) env() []string {
	var env []string
	p.members("an object of strings", func(name string, at span) {
		if name == "" || strings.ContainsAny(name, "=\x00") || !utf8.ValidString(name) {
			p.problem(at, p.key(), "is no name of a variable: it may not be empty and has no =")
		}
		if s, _, ok := p.text("a string"); ok {
			env = append(env, name+"="+s)
		}
	})
	slices.Sort(env)
	return env
}
