package nativetest

import (
	"slices"
	"strconv"
	"strings"
)

// A truth is what is known of a condition: most depend on how the program is built.
type truth int8

const (
	no truth = iota - 1
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth        { return -t }
func (t truth) and(u truth) truth { return min(t, u) }
func (t truth) or(u truth) truth  { return max(t, u) }

// Macros that are known to be defined, or not to be, in every C++ file that is compiled for Linux.
var (
	linuxDefines = []string{"__cplusplus", "__linux__", "__linux", "__gnu_linux__", "__unix__", "__unix", "__ELF__", "__STDC_HOSTED__"}
	otherDefines = []string{
		"_WIN32", "_WIN64", "__WIN32__", "_MSC_VER", "__MINGW32__", "__MINGW64__", "__CYGWIN__",
		"__APPLE__", "__MACH__", "__FreeBSD__", "__NetBSD__", "__OpenBSD__", "__sun", "__EMSCRIPTEN__",
	}
)

// defined says whether a macro is.
func defined(name string) truth {
	name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
	switch {
	case slices.Contains(linuxDefines, name):
		return yes
	case slices.Contains(otherDefines, name):
		return no
	}
	return unknown
}

// condition decides the expression of an #if as far as its own text does: numbers, true and false,
// defined, !, &&, || and parentheses. Anything else is unknown, and so is what depends on it.
func condition(text string) truth {
	p := conditionParser{rest: text}
	t := p.or(0)
	p.blanks()
	if p.bad || p.rest != "" {
		return unknown
	}
	return t
}

type conditionParser struct {
	rest string
	bad  bool // something that is not known here was met
}

// maxDepth bounds the parentheses of a condition.
const maxDepth = 64

func (p *conditionParser) blanks() { p.rest = strings.TrimLeft(p.rest, " \t\r\f\v") }

func (p *conditionParser) take(s string) bool {
	p.blanks()
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *conditionParser) or(depth int) truth {
	t := p.and(depth)
	for p.take("||") {
		t = t.or(p.and(depth))
	}
	return t
}

func (p *conditionParser) and(depth int) truth {
	t := p.operand(depth)
	for p.take("&&") {
		t = t.and(p.operand(depth))
	}
	return t
}

// operand reads one operand of && and ||: what is between them, comparisons and sums too, is known only
// where it is a single operand of those that are known.
func (p *conditionParser) operand(depth int) truth {
	t := p.unary(depth)
	p.blanks()
	if p.rest == "" || p.rest[0] == ')' || strings.HasPrefix(p.rest, "&&") || strings.HasPrefix(p.rest, "||") {
		return t
	}
	// To the next && or || on this level.
	level := 0
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '(':
			level++
		case c == ')' && level == 0, level == 0 && (strings.HasPrefix(p.rest[i:], "&&") || strings.HasPrefix(p.rest[i:], "||")):
			p.rest = p.rest[i:]
			return unknown
		case c == ')':
			level--
		case c == '?': // binds weaker than all of this
			p.bad = true
			return unknown
		}
	}
	p.rest = ""
	return unknown
}

func (p *conditionParser) unary(depth int) truth {
	if depth > maxDepth {
		p.bad = true
		return unknown
	}
	switch {
	case strings.HasPrefix(strings.TrimLeft(p.rest, " \t"), "!="):
		return unknown
	case p.take("!"):
		return p.unary(depth + 1).not()
	case p.take("("):
		t := p.or(depth + 1)
		if !p.take(")") {
			p.bad = true
		}
		return t
	}
	p.blanks()
	end := 0
	for end < len(p.rest) && isWordPart(p.rest[end]) {
		end++
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	switch {
	case word == "true":
		return yes
	case word == "false":
		return no
	case word == "defined":
		paren := p.take("(")
		p.blanks()
		end := 0
		for end < len(p.rest) && isWordPart(p.rest[end]) {
			end++
		}
		name := p.rest[:end]
		p.rest = p.rest[end:]
		if paren && !p.take(")") || name == "" {
			p.bad = true
		}
		return defined(name)
	case word != "" && isDigit(word[0]):
		n, err := strconv.ParseInt(strings.TrimRight(word, "uUlL"), 0, 64)
		if err != nil {
			return unknown
		}
		return truthOf(n != 0)
	case word != "":
		if p.take("(") { // __has_include(<x>): up to its end
			level := 1
			i := 0
			for ; i < len(p.rest) && level > 0; i++ {
				switch p.rest[i] {
				case '(':
					level++
				case ')':
					level--
				}
			}
			p.rest = p.rest[i:]
			p.bad = p.bad || level > 0
		}
		return unknown
	}
	return unknown
}
