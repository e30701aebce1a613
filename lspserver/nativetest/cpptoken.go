package nativetest

import "strings"

// A token is one of C++ source that the preprocessor lets through, as far as one file tells, or of Rust.
type token struct {
	kind byte   // see below
	text string // of a word or literal, as it is written, without line splices
	line int    // 0-based
}

// Kinds of tokens; any other kind is that character.
const (
	tokWord    = 'a' // identifier or keyword
	tokString  = '"' // an ordinary string literal, without prefix
	tokRaw     = 'r' // a raw string literal
	tokLiteral = '0' // number, character, string with a prefix
	tokIf      = 'i' // a group of code begins that depends on a condition
	tokElse    = 'e' // an alternative to the group before it begins
	tokEndif   = 'f' // the end of the groups
)

// cppLexer is phases 2 to 4 of translation ([lex.phases]) for one file: spliced lines, comments,
// literals, and of the preprocessor the conditions that can be decided. Where one cannot be decided all
// its groups are let through, between tokIf, tokElse and tokEndif.
type cppLexer struct {
	src    string
	pos    int // between characters, never on a splice
	line   int
	tokens []token
	start  bool // nothing but blanks and comments on this line so far
	groups []group
	// includes are what #include directives name, in <> or "".
	includes []string
}

// A group is a conditional that is open.
type group struct {
	outer  bool // the code around it is active
	active bool
	taken  truth // whether one of its groups so far was
	shown  bool  // one of its groups so far was active
}

func lexCPP(src string) *cppLexer {
	l := &cppLexer{src: src, start: true}
	l.splice()
	for l.pos < len(l.src) {
		l.next()
	}
	return l
}

// splice moves over backslashes that end their line.
func (l *cppLexer) splice() {
	for l.pos < len(l.src) && l.src[l.pos] == '\\' {
		rest := l.src[l.pos+1:]
		switch {
		case strings.HasPrefix(rest, "\n"):
			l.pos += 2
		case strings.HasPrefix(rest, "\r\n"):
			l.pos += 3
		default:
			return
		}
		l.line++
	}
}

// peek is the character here; 0 at the end. A NUL in the text is a character like others.
func (l *cppLexer) peek() byte {
	if l.pos < len(l.src) {
		return l.src[l.pos]
	}
	return 0
}

// after is the character behind the one here.
func (l *cppLexer) after() byte {
	pos, line := l.pos, l.line
	l.step()
	c := l.peek()
	l.pos, l.line = pos, line
	return c
}

func (l *cppLexer) step() {
	if l.pos >= len(l.src) {
		return
	}
	if l.src[l.pos] == '\n' {
		l.line++
	}
	l.pos++
	l.splice()
}

func (l *cppLexer) active() bool {
	return len(l.groups) == 0 || l.groups[len(l.groups)-1].active
}

func (l *cppLexer) emit(kind byte, text string, line int) {
	if l.active() {
		l.tokens = append(l.tokens, token{kind, text, line})
	}
}

func isWordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordPart(c byte) bool { return isWordStart(c) || isDigit(c) }

// next reads one token, blank, comment or directive.
func (l *cppLexer) next() {
	c, line := l.peek(), l.line
	switch {
	case c == '\n':
		l.start = true
		l.step()
		return
	case c == ' ', c == '\t', c == '\r', c == '\f', c == '\v':
		l.step()
		return
	case c == '/' && l.comment():
		return
	case c == '#' && l.start:
		l.directive()
		return
	}
	l.start = false
	switch {
	case isWordStart(c):
		word := l.word()
		switch q := l.peek(); {
		case q == '"' && (word == "R" || word == "u8R" || word == "uR" || word == "UR" || word == "LR"):
			raw, ok := l.raw()
			if !ok {
				l.quoted('"')
			}
			if word == "R" && ok {
				l.emit(tokRaw, raw, line)
			} else {
				l.emit(tokLiteral, "", line)
			}
		case (q == '"' || q == '\'') && (word == "u8" || word == "u" || word == "U" || word == "L"):
			l.quoted(q)
			l.emit(tokLiteral, "", line)
		default:
			l.emit(tokWord, word, line)
		}
	case c == '"':
		l.emit(tokString, l.quoted('"'), line)
	case c == '\'':
		l.quoted('\'')
		l.emit(tokLiteral, "", line)
	case isDigit(c) || c == '.' && isDigit(l.after()):
		l.emit(tokLiteral, l.number(), line)
	default:
		l.step()
		l.emit(c, "", line) // no letter, digit or quote, so no kind of other tokens
	}
}

// comment moves over a comment and says whether there is one.
func (l *cppLexer) comment() bool {
	switch l.after() {
	case '/':
		for l.pos < len(l.src) && l.peek() != '\n' {
			l.step()
		}
	case '*':
		l.step()
		l.step()
		for l.pos < len(l.src) {
			c := l.peek()
			l.step()
			if c == '*' && l.peek() == '/' {
				l.step()
				break
			}
		}
	default:
		return false
	}
	return true
}

// text collects characters while they satisfy a condition. Splices are no part of it.
func (l *cppLexer) text(while func(byte) bool) string {
	begin, size := l.pos, 0
	var spliced []byte
	for l.pos < len(l.src) && while(l.peek()) {
		if spliced == nil && l.pos != begin+size {
			spliced = []byte(l.src[begin : begin+size])
		}
		if spliced != nil {
			spliced = append(spliced, l.peek())
		}
		size++
		l.step()
	}
	if spliced != nil {
		return string(spliced)
	}
	return l.src[begin : begin+size]
}

func (l *cppLexer) word() string { return l.text(isWordPart) }

// number reads a pp-number ([lex.ppnumber]), whose digits may have ' between them.
func (l *cppLexer) number() string {
	var last byte
	return l.text(func(c byte) bool {
		ok := isWordPart(c) || c == '.' ||
			(c == '+' || c == '-') && (last == 'e' || last == 'E' || last == 'p' || last == 'P') ||
			c == '\'' && isWordPart(l.after())
		last = c
		return ok
	})
}

// quoted reads a literal to its closing quote, or the end of the line for one that is not closed. It
// returns what is between the quotes.
func (l *cppLexer) quoted(quote byte) string {
	l.step()
	escaped := false
	s := l.text(func(c byte) bool {
		if c == '\n' || c == quote && !escaped {
			return false
		}
		escaped = c == '\\' && !escaped
		return true
	})
	if l.peek() == quote {
		l.step()
	}
	return s
}

// raw reads a raw string from its quote on: "delimiter(text)delimiter". It answers false, and moves
// nowhere, where it does not begin as one.
func (l *cppLexer) raw() (string, bool) {
	rest := l.src[l.pos+1:]
	open := strings.IndexAny(rest, "()\\ \t\v\f\n\r\"")
	if open < 0 || open > 16 || rest[open] != '(' {
		return "", false
	}
	text := rest[open+1:]
	closing := ")" + rest[:open] + `"`
	size, whole := strings.Index(text, closing), 0
	if size < 0 {
		size, whole = len(text), len(text)
	} else {
		whole = size + len(closing)
	}
	l.line += strings.Count(text[:whole], "\n")
	l.pos += 1 + open + 1 + whole
	l.splice()
	return text[:size], true
}

// directive reads a directive to the end of its line and does what it says to what follows.
func (l *cppLexer) directive() {
	line := l.line
	l.step()
	var b strings.Builder
	for l.pos < len(l.src) && l.peek() != '\n' {
		c := l.peek()
		switch {
		case c == '/' && l.comment():
			b.WriteByte(' ')
		case c == '"' || c == '\'':
			b.WriteByte(c)
			b.WriteString(l.quoted(c))
			b.WriteByte(c)
		default:
			b.WriteByte(c)
			l.step()
		}
	}
	text := strings.TrimSpace(b.String())
	end := 0
	for end < len(text) && isWordPart(text[end]) {
		end++
	}
	name, rest := text[:end], strings.TrimSpace(text[end:])
	switch name {
	case "if":
		l.open(condition(rest), line)
	case "ifdef":
		l.open(defined(rest), line)
	case "ifndef":
		l.open(defined(rest).not(), line)
	case "elif":
		l.alternative(condition(rest), line)
	case "elifdef":
		l.alternative(defined(rest), line)
	case "elifndef":
		l.alternative(defined(rest).not(), line)
	case "else":
		l.alternative(yes, line)
	case "endif":
		if n := len(l.groups) - 1; n >= 0 {
			l.groups = l.groups[:n]
			l.emit(tokEndif, "", line)
		}
	case "include", "include_next", "import":
		if l.active() {
			l.includes = append(l.includes, strings.Trim(rest, `<>"`))
		}
	}
}

func (l *cppLexer) open(c truth, line int) {
	outer := l.active()
	l.emit(tokIf, "", line)
	active := outer && c != no
	l.groups = append(l.groups, group{outer: outer, active: active, taken: c, shown: active})
}

func (l *cppLexer) alternative(c truth, line int) {
	if len(l.groups) == 0 {
		return
	}
	g := &l.groups[len(l.groups)-1]
	g.active = g.outer && g.taken != yes && c != no
	if g.taken != yes {
		g.taken = g.taken.or(c)
	}
	if g.active && g.shown {
		l.emit(tokElse, "", line)
	}
	g.shown = g.shown || g.active
}
