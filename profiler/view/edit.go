package view

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// literal is a pattern that rows' names match: the names themselves as far as the simplified syntax can
// say them, else a regular expression. A name without a module is held at the beginning. Arrows are
// written so that a group's pattern may have them.
func literal(names []string) string {
	plain := make([]string, len(names))
	special := false
	for i, name := range names {
		plain[i] = name
		if !strings.Contains(name, "!") {
			plain[i] = "^" + name
		}
		special = special || name == "" || strings.ContainsAny(name, "{}|;%^\r\n") || strings.HasPrefix(name, "@") ||
			strings.Contains(name, "->") || strings.Contains(name, "=>") || !utf8.ValidString(name)
	}
	if !special {
		return strings.Join(plain, "|")
	}
	var b strings.Builder
	b.WriteByte('@')
	for i, name := range names {
		if i > 0 {
			b.WriteByte('|')
		}
		if !strings.Contains(name, "!") {
			b.WriteByte('^')
		}
		for len(name) > 0 {
			c, size := utf8.DecodeRuneInString(name)
			switch {
			case c == utf8.RuneError, c < ' ', strings.ContainsRune(";=-", c):
				fmt.Fprintf(&b, `\x{%x}`, c)
			default:
				b.WriteString(regexp.QuoteMeta(name[:size]))
			}
			name = name[size:]
		}
		if names[i] == "" {
			b.WriteByte('$')
		}
	}
	return b.String()
}

// appendItem adds an element to a list.
func appendItem(list, element string) string {
	list = strings.TrimRight(list, "; \t")
	if list == "" {
		return element
	}
	return list + ";" + element
}

// prependGroup puts an item before all others. The comment goes: it would tell of what is no more.
func prependGroup(group, element string) string {
	rest := strings.TrimLeft(withoutComment(group), "; \t")
	if strings.HasPrefix(element, "[") {
		element = ";" + element // or it would be read as a comment
	}
	if rest == "" {
		return element
	}
	return element + ";" + rest
}

func withoutComment(group string) string {
	group = strings.TrimLeft(group, " \t\r\n")
	if strings.HasPrefix(group, "[") {
		if at := strings.IndexByte(group, ']'); at >= 0 {
			return strings.TrimLeft(group[at+1:], " \t\r\n")
		}
	}
	return group
}

// entryOf is the function of a row of an entry group: what is between << and >>.
func entryOf(row string) (string, bool) {
	_, entry, ok := strings.Cut(row, " <<")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(entry, ">>")
}

// modulesOf are the modules of rows, each once; rows without one have none.
func modulesOf(rows []string) []string {
	var modules []string
	for _, row := range rows {
		if entry, ok := entryOf(row); ok {
			row = entry
		}
		if module, _, ok := strings.Cut(row, "!"); ok && module != "" && !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
	}
	return modules
}

// IncludeItem is f keeping only samples in whose stack one of the names is; once more keeps those that
// have one of both.
func (f Filter) IncludeItem(names ...string) Filter {
	if len(names) > 0 {
		f.Include = appendItem(f.Include, literal(names))
	}
	return f
}

// ExcludeItem is f without the samples in whose stack any of the names is.
func (f Filter) ExcludeItem(names ...string) Filter {
	for _, name := range names {
		f.Exclude = appendItem(f.Exclude, literal([]string{name}))
	}
	return f
}

// FoldItem is f with the names folded into their callers.
func (f Filter) FoldItem(names ...string) Filter {
	for _, name := range names {
		f.Fold = appendItem(f.Fold, literal([]string{name}))
	}
	return f
}

// FoldModule is f with all of the names' modules folded into their callers.
func (f Filter) FoldModule(names ...string) Filter {
	for _, module := range modulesOf(names) {
		f.Fold = appendItem(f.Fold, literal([]string{module + "!"}))
	}
	return f
}

// UngroupItem is f with the group that a row stands for opened: of an entry group the row's function is
// taken out; another group's item is removed, or where its name has captures, what they hold in the row
// is taken out.
func (f Filter) UngroupItem(row string) Filter {
	if entry, ok := entryOf(row); ok {
		f.Group = prependGroup(f.Group, literal([]string{entry})+"->")
		return f
	}
	all := items(withoutComment(f.Group))
	for i, it := range all {
		before, name, ok := strings.Cut(it.text, "=>")
		if !ok {
			before, name, ok = strings.Cut(it.text, "->")
		}
		name = strings.TrimSpace(name)
		switch {
		case !ok:
			p, err := parsePattern(FieldGroup, it, f.Compat)
			if err != nil || it.text == "" || !p.matches(newCaseless(row)) {
				continue
			}
			f.Group = prependGroup(f.Group, literal([]string{row})+"->")
			return f
		case !strings.Contains(name, "$"):
			if name != row {
				continue
			}
			rest := make([]string, 0, len(all))
			for _, other := range slices.Delete(all, i, i+1) {
				if other.text != "" {
					rest = append(rest, other.text)
				}
			}
			f.Group = strings.Join(rest, ";")
			return f
		}
		captures, ok := captured(name, row)
		if !ok {
			continue
		}
		if !f.Compat && strings.TrimSpace(before) == goPattern {
			path := captures[1]
			last := strings.LastIndexByte(path, '/') + 1
			path = path[:last] + strings.ReplaceAll(path[last:], ".", "%2e") + "."
			f.Group = prependGroup(f.Group, literal([]string{"!" + path, path})+"->")
			return f
		}
		f.Group = prependGroup(f.Group, filled(before, captures)+"->")
		return f
	}
	return f
}

// captured finds what the captures in a group's name hold in a row.
func captured(name, row string) (captures [10]string, ok bool) {
	var b strings.Builder
	var order []int
	b.WriteString("(?s)^")
	for i := 0; i < len(name); i++ {
		if name[i] == '$' && i+1 < len(name) {
			if next := name[i+1]; next == '&' || '0' <= next && next <= '9' {
				b.WriteString("(.*)")
				order = append(order, int(max(next, '0')-'0'))
				i++
				continue
			}
		}
		b.WriteString(regexp.QuoteMeta(name[i : i+1]))
	}
	b.WriteByte('$')
	re, err := regexp.Compile(b.String())
	if err != nil {
		return captures, false
	}
	match := re.FindStringSubmatch(row)
	if match == nil {
		return captures, false
	}
	for i, n := range order {
		captures[n] = match[i+1]
	}
	return captures, true
}

// filled is a pattern with its captures' text in the place of its braces; one that the name did not use
// stays.
func filled(pattern string, captures [10]string) string {
	if strings.HasPrefix(pattern, "@") {
		return pattern
	}
	var b strings.Builder
	n, depth, begin := 0, 0, 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '{':
			if depth == 0 {
				n, begin = n+1, i
			}
			depth++
			continue
		case '}':
			if depth--; depth == 0 {
				if n < len(captures) && captures[n] != "" {
					b.WriteString(captures[n])
				} else {
					b.WriteString(pattern[begin : i+1])
				}
			}
			continue
		}
		if depth == 0 {
			b.WriteByte(pattern[i])
		}
	}
	return b.String()
}

// UngroupModule is f with the functions of the names' modules out of every group.
func (f Filter) UngroupModule(names ...string) Filter {
	for _, module := range modulesOf(names) {
		f.Group = prependGroup(f.Group, literal([]string{module + "!"})+"->")
	}
	return f
}

// GroupModule is f with each of the names' modules as one group.
func (f Filter) GroupModule(names ...string) Filter { return f.groupModules("->", names) }

// EntryGroup is f with each of the names' modules as a group that keeps its entry functions apart.
func (f Filter) EntryGroup(names ...string) Filter { return f.groupModules("=>", names) }

func (f Filter) groupModules(arrow string, names []string) Filter {
	for _, module := range modulesOf(names) {
		name := strings.NewReplacer(";", ",", "$", "", ">", "").Replace(module)
		f.Group = appendItem(f.Group, literal([]string{module + "!"})+arrow+name)
	}
	return f
}

// SetTimeRange is f bounded to a part of the When column, in milliseconds.
func (f Filter) SetTimeRange(start, end float64) Filter {
	f.Start, f.End = min(start, end), max(start, end)
	return f
}
