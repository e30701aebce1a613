package view

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// The characters that % stands for. .NET's \w is Unicode's letters, non-spacing marks, digits and
// connectors, of which RE2's \w knows only the ASCII part. Linux file names and Go's package paths have
// further ones.
const (
	nameCharacters  = `[.?\p{L}\p{Mn}\p{Nd}\p{Pc}]*`
	linuxCharacters = `[-+@~.?\p{L}\p{Mn}\p{Nd}\p{Pc}]*`
	nameASCII       = `[.?\w]*`
	linuxASCII      = `[-+@~.?\w]*`
)

// A pattern decides whether a name matches. Most patterns are text with at most some *; those never
// come to a regular expression, and of the others only names with all of their text do.
type pattern struct {
	re *regexp.Regexp
	// lower is the same for ASCII in lower case, which is several times as fast; nil where it is not the
	// same.
	lower *regexp.Regexp
	// wild are the alternatives of an ASCII pattern, in lower case.
	wild []wildText
	// exact says that a name matches if it matches one of wild; else it does not if it matches none.
	exact bool
	// head says that the pattern is {%}!, whose only capture is what a name's first ! ends.
	head bool
}

// A wildText is texts that follow each other, with anything between them.
type wildText struct {
	texts []string
	begin bool // the first must be at the beginning
}

func (w *wildText) matches(lower string) bool {
	for i, text := range w.texts {
		at := strings.Index(lower, text)
		if at < 0 || i == 0 && w.begin && at != 0 {
			return false
		}
		lower = lower[at+len(text):]
	}
	return true
}

// A caseless is a name together with what makes matching it cheap.
type caseless struct {
	name  string
	lower string // in lower case where the name is ASCII
	ascii bool
	lines bool // a line ends in it, beyond which * does not go
}

func newCaseless(name string) caseless {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return caseless{name: name}
		}
	}
	return caseless{name, strings.ToLower(name), true, strings.IndexByte(name, '\n') >= 0}
}

// maybe reports whether a name may match, as far as its text goes.
func (p *pattern) maybe(n caseless) bool {
	for i := range p.wild {
		if p.wild[i].matches(n.lower) {
			return true
		}
	}
	return p.wild == nil
}

func (p *pattern) matches(n caseless) bool {
	if !n.ascii {
		return p.re.MatchString(n.name)
	}
	switch maybe := p.maybe(n); {
	case p.exact && !n.lines, !maybe, p.head:
		return maybe
	case p.lower != nil:
		return p.lower.MatchString(n.lower)
	}
	return p.re.MatchString(n.name)
}

// find is as regexp's FindStringSubmatchIndex.
func (p *pattern) find(n caseless, compat bool) []int {
	switch {
	case !n.ascii:
		return p.re.FindStringSubmatchIndex(n.name)
	case !p.maybe(n):
		return nil
	case p.head:
		end := strings.IndexByte(n.name, '!')
		begin := end
		for begin > 0 && inName(n.name[begin-1], compat) {
			begin--
		}
		return []int{begin, end + 1, begin, end}
	case p.lower != nil:
		return p.lower.FindStringSubmatchIndex(n.lower)
	}
	return p.re.FindStringSubmatchIndex(n.name)
}

// inName reports whether % stands for an ASCII character.
func inName(c byte, compat bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '?':
		return true
	case c == '-', c == '+', c == '@', c == '~':
		return !compat
	}
	return false
}

// An item is one element of a list, and where it begins in its field.
type item struct {
	text   string
	column int // 1-based, in characters
}

// items are the trimmed elements of a list, empty ones included.
func items(list string) []item {
	var all []item
	column := 1
	for {
		text, rest, more := strings.Cut(list, ";")
		trimmed := strings.TrimLeft(text, " \t\r\n")
		all = append(all, item{strings.TrimRight(trimmed, " \t\r\n"), column + utf8.RuneCountInString(text[:len(text)-len(trimmed)])})
		if !more {
			return all
		}
		column += utf8.RuneCountInString(text) + 1
		list = rest
	}
}

// parsePattern reads one pattern.
func parsePattern(field Field, it item, compat bool) (*pattern, error) {
	if text, ok := strings.CutPrefix(it.text, "@"); ok {
		re, err := regexp.Compile("(?i)" + text)
		if err != nil {
			e := &FilterError{Field: field, Pattern: it.text, Column: it.column, Cause: err.Error(), Remedy: "correct the regular expression after @, or leave the @ out to search for text"}
			if bad := (*syntax.Error)(nil); errors.As(err, &bad) {
				e.Cause = string(bad.Code)
				if expr := strings.TrimPrefix(bad.Expr, "(?i)"); expr != "" {
					e.Cause += ": " + expr
					if at := strings.Index(text, expr); at >= 0 {
						e.Column += 1 + utf8.RuneCountInString(text[:at])
					}
				}
			}
			return nil, e
		}
		return &pattern{re: re}, nil
	}
	if err := checkBraces(field, it); err != nil {
		return nil, err
	}
	any := linuxCharacters
	if compat {
		any = nameCharacters
	}
	re, err := regexp.Compile("(?i)" + expression(it.text, any))
	if err != nil {
		return nil, &FilterError{Field: field, Pattern: it.text, Column: it.column, Cause: err.Error(), Remedy: "use a shorter pattern with fewer braces"}
	}
	p := &pattern{re: re, head: it.text == "{%}!"}
	if lower := newCaseless(it.text); lower.ascii {
		p.wild, p.exact = wildOf(lower.lower)
		any = linuxASCII
		if compat {
			any = nameASCII
		}
		p.lower, _ = regexp.Compile(expression(lower.lower, any))
	}
	return p, nil
}

func checkBraces(field Field, it item) error {
	var open []int
	column := it.column
	for _, c := range it.text {
		switch c {
		case '{':
			open = append(open, column)
		case '}':
			if len(open) == 0 {
				return &FilterError{field, it.text, column, "there is no { before the }", "write { where the group begins, or leave the } out"}
			}
			open = open[:len(open)-1]
		}
		column++
	}
	if len(open) > 0 {
		return &FilterError{field, it.text, open[0], "the { has no }", "write } where the group ends, or leave the { out"}
	}
	return nil
}

// expression is the regular expression that a simplified pattern stands for, given that of %.
func expression(text, any string) string {
	var b strings.Builder
	for _, c := range text { // an invalid byte becomes U+FFFD, which is how regexp reads it in a name
		switch c {
		case '*':
			b.WriteString(".*")
		case '%':
			b.WriteString(any)
		case '^', '|':
			b.WriteRune(c)
		case '{':
			b.WriteByte('(')
		case '}':
			b.WriteByte(')')
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

// wildOf takes a pattern apart into its alternatives' text; nil where there is nothing to say.
func wildOf(text string) (wild []wildText, exact bool) {
	exact = !strings.ContainsAny(text, "%{}")
	if !exact && strings.Contains(text, "|") {
		return nil, false
	}
	for one := range strings.SplitSeq(text, "|") {
		rest, begin := strings.CutPrefix(one, "^")
		if strings.Contains(rest, "^") {
			return nil, false
		}
		if begin && (rest == "" || strings.ContainsRune("*%{}", rune(rest[0]))) {
			begin = false // so is everything
		}
		w := wildText{begin: begin}
		w.texts = strings.FieldsFunc(rest, func(c rune) bool { return strings.ContainsRune("*%{}", c) })
		wild = append(wild, w)
	}
	return wild, exact
}

// A list is the patterns of a field.
type list struct {
	patterns []*pattern
	// never says that an element was empty, which for PerfView is a pattern that nothing matches.
	never bool
}

func parseList(field Field, text string, compat bool) (list, error) {
	var l list
	if strings.TrimSpace(text) == "" {
		return l, nil
	}
	for _, it := range items(text) {
		if it.text == "" {
			l.never = true
			continue
		}
		p, err := parsePattern(field, it, compat)
		if err != nil {
			return l, err
		}
		l.patterns = append(l.patterns, p)
	}
	return l, nil
}

func (l *list) any(n caseless) bool {
	for _, p := range l.patterns {
		if p.matches(n) {
			return true
		}
	}
	return false
}
