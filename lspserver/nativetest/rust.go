package nativetest

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// rustTests lists the tests of a Rust file: functions with an attribute that makes tests of them, in
// modules of the file. What a macro makes of its input is not known, but for a few that leave tests as
// they are. Tests in documentation are left out: they have no name that could be asked for.
func rustTests(src string) []Test {
	if !strings.Contains(src, "#[") {
		return nil
	}
	tokens := lexRust(src)
	p := rustParser{tokens: tokens, partner: partners(tokens)}
	return p.items()
}

// lexRust reads the tokens of Rust source (The Rust Reference, "Lexical structure"). Comments, nested
// ones too, are none. A lifetime is a tokLiteral.
func lexRust(src string) []token {
	l := rustLexer{src: src}
	if strings.HasPrefix(src, "\ufeff") {
		l.pos = len("\ufeff")
	}
	if strings.HasPrefix(src[l.pos:], "#!") && !strings.HasPrefix(strings.TrimLeft(src[l.pos+2:], " \t\r\n"), "[") {
		l.to('\n') // for the shell
	}
	for l.pos < len(l.src) {
		l.next()
	}
	return l.tokens
}

type rustLexer struct {
	src    string
	pos    int
	line   int
	tokens []token
}

// move goes n bytes on.
func (l *rustLexer) move(n int) {
	n = min(n, len(l.src)-l.pos)
	l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
	l.pos += n
}

// to goes to the next c, or the end.
func (l *rustLexer) to(c byte) {
	if i := strings.IndexByte(l.src[l.pos:], c); i >= 0 {
		l.move(i)
	} else {
		l.move(len(l.src))
	}
}

func (l *rustLexer) at(i int) byte {
	if l.pos+i < len(l.src) {
		return l.src[l.pos+i]
	}
	return 0
}

func (l *rustLexer) emit(kind byte, text string, line int) {
	l.tokens = append(l.tokens, token{kind, text, line})
}

func (l *rustLexer) next() {
	c, line := l.at(0), l.line
	switch {
	case c == '\n', c == ' ', c == '\t', c == '\r', c == '\f', c == '\v':
		l.move(1)
	case c == '/' && l.at(1) == '/':
		l.to('\n')
	case c == '/' && l.at(1) == '*':
		l.blockComment()
	case isRustWord(c) && !isDigit(c):
		word := l.word()
		switch q := l.at(0); {
		case (word == "r" || word == "br" || word == "cr") && (q == '"' || q == '#') && l.rawString():
			l.emit(tokLiteral, "", line)
		case word == "r" && q == '#' && isRustWord(l.at(1)):
			l.move(1)
			l.emit(tokWord, l.word(), line)
		case (word == "b" || word == "c") && q == '"':
			l.quoted()
			l.emit(tokLiteral, "", line)
		case word == "b" && q == '\'':
			l.character()
			l.emit(tokLiteral, "", line)
		default:
			l.emit(tokWord, word, line)
		}
	case c == '"':
		l.emit(tokString, l.quoted(), line)
	case c == '\'':
		l.character()
		l.emit(tokLiteral, "", line)
	case isDigit(c):
		l.number()
		l.emit(tokLiteral, "", line)
	default:
		l.move(1)
		l.emit(c, "", line)
	}
}

func isRustWord(c byte) bool { return isWordPart(c) && c != '$' }

func (l *rustLexer) word() string {
	end := l.pos
	for end < len(l.src) && isRustWord(l.src[end]) {
		end++
	}
	word := l.src[l.pos:end]
	l.pos = end
	return word
}

func (l *rustLexer) blockComment() {
	for depth := 0; l.pos < len(l.src); {
		switch {
		case l.at(0) == '/' && l.at(1) == '*':
			depth++
			l.move(2)
		case l.at(0) == '*' && l.at(1) == '/':
			l.move(2)
			if depth--; depth == 0 {
				return
			}
		default:
			l.move(1)
		}
	}
}

// quoted reads a string that has escapes and may have many lines, and returns what is between its
// quotes.
func (l *rustLexer) quoted() string {
	begin, end := l.pos+1, l.pos+1
	for end < len(l.src) && l.src[end] != '"' {
		if l.src[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(l.src))
	text := l.src[begin:end]
	l.move(end + 1 - l.pos)
	return text
}

// rawString reads #"…"# from its first # or quote on, with as many # as there are. It answers false,
// and moves nowhere, where there is none.
func (l *rustLexer) rawString() bool {
	hashes := 0
	for l.at(hashes) == '#' {
		hashes++
	}
	if l.at(hashes) != '"' || hashes > 255 {
		return false
	}
	closing := `"` + strings.Repeat("#", hashes)
	begin := l.pos + hashes + 1
	if i := strings.Index(l.src[begin:], closing); i >= 0 {
		l.move(begin + i + len(closing) - l.pos)
	} else {
		l.move(len(l.src))
	}
	return true
}

// character reads a character literal, or a lifetime, or a quote that is neither.
func (l *rustLexer) character() {
	rest := l.src[l.pos+1:]
	if strings.HasPrefix(rest, `\`) { // an escape: to the closing quote on this line
		end := 2
		for end < len(rest) && rest[end] != '\'' && rest[end] != '\n' {
			end++
		}
		if end < len(rest) && rest[end] == '\'' {
			end++
		}
		l.move(1 + min(end, len(rest)))
		return
	}
	_, size := utf8.DecodeRuneInString(rest)
	if size > 0 && size < len(rest) && rest[size] == '\'' && rest[0] != '\'' {
		l.move(1 + size + 1)
		return
	}
	l.move(1)
	l.word()
}

// number reads a number; what follows ".." is another.
func (l *rustLexer) number() {
	for isRustWord(l.at(0)) || l.at(0) == '.' && isDigit(l.at(1)) {
		l.move(1)
	}
}

// A rustParser walks over the items of a file.
type rustParser struct {
	tokens  []token
	partner []int32
}

// A rustScope is a module, or the input of a macro, that the walk is in.
type rustScope struct {
	end    int    // index of the bracket that closes it; beyond the last token for one that is not closed
	module string // path in the file
	off    bool   // not compiled for tests on Linux
}

// attributes are those before an item.
type attributes struct {
	any         bool
	line        int // of the first
	test, bench bool
	off         bool // a #[cfg] that does not hold
}

// transparent are macros that take tests and leave their names as they are: of the crates proptest,
// quickcheck and rusty-fork.
var transparent = []string{"proptest", "quickcheck", "rusty_fork_test"}

func (p *rustParser) kind(i int) byte {
	if i < len(p.tokens) {
		return p.tokens[i].kind
	}
	return 0
}

func (p *rustParser) word(i int) string {
	if p.kind(i) == tokWord {
		return p.tokens[i].text
	}
	return ""
}

// past is the index behind what the bracket at i holds; behind the bracket alone where it is not closed.
func (p *rustParser) past(i int) int {
	if to := int(p.partner[i]); to > 0 {
		return to + 1
	}
	return i + 1
}

func (p *rustParser) items() []Test {
	var found []Test
	scopes := []rustScope{{end: len(p.tokens)}}
	var attrs attributes
	for i := 0; i < len(p.tokens); {
		for len(scopes) > 1 && i >= scopes[len(scopes)-1].end {
			scopes = scopes[:len(scopes)-1]
		}
		scope := &scopes[len(scopes)-1]
		switch t := p.tokens[i]; t.kind {
		case '#':
			inner := p.kind(i+1) == '!' && p.kind(i+2) == '['
			open := i + 1
			if inner {
				open++
			}
			if p.kind(open) != '[' || p.partner[open] == 0 {
				i++
				continue
			}
			if to := int(p.partner[open]); inner {
				var a attributes
				p.attribute(open+1, to, &a)
				scope.off = scope.off || a.off
			} else {
				if !attrs.any {
					attrs = attributes{any: true, line: t.line}
				}
				p.attribute(open+1, to, &attrs)
			}
			i = p.past(open)
		case tokWord:
			switch {
			case t.text == "mod" && p.word(i+1) != "":
				if p.kind(i+2) == '{' {
					end := len(p.tokens)
					if to := int(p.partner[i+2]); to > 0 {
						end = to
					}
					scopes = append(scopes, rustScope{end, Join(scope.module, p.word(i+1)), scope.off || attrs.off})
				}
				i += 3
				attrs = attributes{}
			case t.text == "fn" && p.word(i+1) != "":
				next, last := p.function(i + 2)
				if (attrs.test || attrs.bench) && !attrs.off && !scope.off {
					name := Join(scope.module, p.word(i+1))
					found = append(found, Test{
						Framework: Cargo, Bench: attrs.bench, Name: name, Filter: name, Line: attrs.line, Last: last,
					})
				}
				i = next
				attrs = attributes{}
			case p.kind(i+1) == '!':
				i = p.invocation(i, &scopes)
				attrs = attributes{}
			default:
				i++ // of a visibility, of async, const, unsafe and extern, or of an item without tests
			}
		case '(', '[':
			i = p.past(i)
		case '{': // of an item without tests
			i = p.past(i)
			attrs = attributes{}
		case ';', '}':
			i++
			attrs = attributes{}
		default:
			i++
		}
	}
	return found
}

// function moves from behind a function's name to its end and answers the line of that.
func (p *rustParser) function(i int) (next, last int) {
	for i < len(p.tokens) {
		switch p.tokens[i].kind {
		case '(', '[':
			i = p.past(i)
		case '{':
			next = p.past(i)
			return next, p.tokens[next-1].line
		case ';', '}':
			return i, p.tokens[i].line
		default:
			if w := p.word(i); w == "fn" && p.word(i+1) != "" || w == "mod" && p.kind(i+2) == '{' {
				return i, p.tokens[i-1].line // another item: this one is being typed
			}
			i++
		}
	}
	return i, p.tokens[len(p.tokens)-1].line
}

// invocation moves over name! or macro_rules! at i, or into it where tests in it stay what they are.
func (p *rustParser) invocation(i int, scopes *[]rustScope) int {
	name := p.word(i)
	open := i + 2
	if p.word(open) != "" { // macro_rules! name
		open++
	}
	switch p.kind(open) {
	case '(', '[', '{':
	default:
		return i + 2
	}
	if slices.Contains(transparent, name) && p.partner[open] > 0 {
		outer := (*scopes)[len(*scopes)-1]
		*scopes = append(*scopes, rustScope{int(p.partner[open]), outer.module, outer.off})
		return open + 1
	}
	return p.past(open)
}

// testAttributes are the last parts of the paths of attributes that make a test of a function: Rust's
// own and those of runtimes (#[tokio::test]), and of the crates rstest, test-case, quickcheck and
// googletest. Some make several tests of one function, whose names begin with its.
var testAttributes = []string{"test", "rstest", "test_case", "test_matrix", "quickcheck", "gtest"}

// attribute takes note of what the attribute in the tokens from begin to before end says.
func (p *rustParser) attribute(begin, end int, a *attributes) {
	i, parts := begin, 0
	name := ""
	for i < end && p.kind(i) == tokWord {
		name = p.tokens[i].text
		parts++
		if i++; p.kind(i) != ':' || p.kind(i+1) != ':' {
			break
		}
		i += 2
	}
	switch {
	case slices.Contains(testAttributes, name):
		a.test = true
	case name == "bench" && parts == 1:
		a.bench = true
	case name == "cfg" && parts == 1 && p.kind(i) == '(' && p.partner[i] > 0 && int(p.partner[i]) < end:
		c := cfgParser{p: p, i: i + 1, end: int(p.partner[i])}
		if c.predicate(0) == no && !c.bad {
			a.off = true
		}
	}
}

// cfgParser decides a configuration predicate for a test build on Linux (The Rust Reference,
// "Conditional compilation").
type cfgParser struct {
	p      *rustParser
	i, end int
	bad    bool
}

func (c *cfgParser) kind() byte {
	if c.i < c.end {
		return c.p.kind(c.i)
	}
	return 0
}

func (c *cfgParser) predicate(depth int) truth {
	word := ""
	if c.i < c.end {
		word = c.p.word(c.i)
	}
	if word == "" || depth > maxDepth {
		c.bad = true
		return unknown
	}
	c.i++
	if c.kind() == '(' {
		c.i++
		var of []truth
		for !c.bad && c.i < c.end && c.kind() != ')' {
			of = append(of, c.predicate(depth+1))
			if c.kind() == ',' {
				c.i++
			} else if c.kind() != ')' {
				c.bad = true
			}
		}
		c.i++
		switch {
		case word == "all":
			return slices.Min(append(of, yes))
		case word == "any":
			return slices.Max(append(of, no))
		case word == "not" && len(of) == 1:
			return of[0].not()
		}
		return unknown
	}
	value := ""
	if c.kind() == '=' {
		c.i++
		if c.kind() != tokString {
			c.bad = true
			return unknown
		}
		value = c.p.tokens[c.i].text
		c.i++
	}
	switch word {
	case "test", "true":
		return yes
	case "false", "windows", "miri":
		return no
	case "unix":
		return yes
	case "target_os":
		return truthOf(value == "linux")
	case "target_family":
		return truthOf(value == "unix")
	}
	return unknown
}
