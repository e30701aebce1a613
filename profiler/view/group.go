package view

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A groupItem is one PATTERN->NAME or PATTERN=>NAME.
type groupItem struct {
	pattern *pattern
	name    string
	entry   bool
	module  bool // exactly {%}!=>module $1, which is not run as a pattern
	goPath  bool // {go}!: $1 is the Go package
}

// moduleEntries is the pattern that everyone begins with.
const moduleEntries = "{%}!=>module $1"

// goPattern stands for the Go package of a function, in the place of a pattern.
const goPattern = "{go}!"

// parseGroups reads a Group field: an optional comment in brackets, then items.
func parseGroups(text string, compat bool) ([]groupItem, error) {
	column := 1
	if trimmed := strings.TrimLeft(text, " \t\r\n"); strings.HasPrefix(trimmed, "[") {
		if at := strings.IndexByte(trimmed, ']'); at >= 0 {
			rest := trimmed[at+1:]
			column += utf8.RuneCountInString(text[:len(text)-len(rest)])
			text = rest
		}
	}
	var groups []groupItem
	for _, it := range items(text) {
		if it.text == "" {
			continue
		}
		it.column += column - 1
		g := groupItem{name: "$&", module: it.text == moduleEntries}
		pat := it
		if before, after, ok := strings.Cut(it.text, "=>"); ok {
			pat.text, g.name, g.entry = before, strings.TrimSpace(after), true
		} else if before, after, ok := strings.Cut(it.text, "->"); ok {
			pat.text, g.name = before, strings.TrimSpace(after)
		}
		g.goPath = !compat && strings.TrimSpace(pat.text) == goPattern
		var err error
		if g.pattern, err = parsePattern(FieldGroup, pat, compat); err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// groupOf is the group of a frame by its full name; "" where it has none. An item whose name is empty
// takes a frame out of all groups; an entry group ends the search; the name of any other group is what
// later items see.
func groupOf(groups []groupItem, full caseless, compat bool) (name string, entry bool) {
	cur := full
	for i := range groups {
		g := &groups[i]
		if g.module {
			if module, ok := moduleOf(cur.name, compat); ok {
				return "module " + module, true
			}
			continue
		}
		var match []int
		if g.goPath {
			begin, end := goPackage(cur.name)
			if begin == end {
				continue
			}
			match = []int{begin, end, begin, end}
		} else if !strings.Contains(g.name, "$") {
			if !g.pattern.matches(cur) {
				continue
			}
		} else if match = g.pattern.find(cur, compat); match == nil {
			continue
		}
		name, entry = expand(g.name, cur.name, match), g.entry
		if g.goPath {
			name = strings.ReplaceAll(name, "%2e", ".")
		}
		if name == "" {
			return "", false
		}
		if entry {
			return name, true
		}
		cur = newCaseless(name)
	}
	return name, entry
}

// expand puts the captures of a match into a group's name.
func expand(name, text string, match []int) string {
	if name == "$&" {
		return text[match[0]:match[1]]
	}
	if !strings.Contains(name, "$") {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '$' && i+1 < len(name) {
			next := name[i+1]
			if next == '&' {
				next = '0'
			}
			if '0' <= next && next <= '9' {
				if k := 2 * int(next-'0'); k+1 < len(match) && match[k] >= 0 {
					b.WriteString(text[match[k]:match[k+1]])
				}
				i++
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// moduleOf is what {%}!=>module $1 calls a name's module: all between the last / and the first !, or,
// for PerfView, the letters, digits, dots and underscores before that !.
func moduleOf(name string, compat bool) (string, bool) {
	end := strings.IndexByte(name, '!')
	if end <= 0 {
		return "", false
	}
	module := name[:end]
	if !compat {
		return module[strings.LastIndexByte(module, '/')+1:], true
	}
	begin := strings.LastIndexFunc(module, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '.' && c != '_'
	})
	if begin < 0 {
		return module, true
	}
	_, size := utf8.DecodeRuneInString(module[begin:])
	return module[begin+size:], true
}

// goPackage finds the package path of a Go function in a name: all up to the last slash, then up to the
// next dot. It is empty in the names of other languages: those with ::, blanks, templates or without
// a dot. The linker writes a dot in the last element of a path as %2e (cmd/internal/objabi,
// PathToPrefix).
func goPackage(name string) (begin, end int) {
	begin = strings.IndexByte(name, '!') + 1
	path := name[begin:]
	if at := strings.IndexAny(path, "[("); at >= 0 {
		path = path[:at]
	}
	if strings.ContainsAny(path, " <>:$*") {
		return 0, 0
	}
	slash := strings.LastIndexByte(path, '/') + 1
	dot := strings.IndexByte(path[slash:], '.')
	if dot <= 0 {
		return 0, 0
	}
	if slash == 0 {
		// What GCC and LLVM append to names of C functions.
		suffix, _, _ := strings.Cut(path[dot+1:], ".")
		switch suffix {
		case "isra", "part", "cold", "constprop", "llvm", "lto_priv", "localalias":
			return 0, 0
		}
	}
	return begin, begin + slash + dot
}
