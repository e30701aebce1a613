package nativetest

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A cppMacro is a macro that makes a test.
type cppMacro struct {
	framework Framework
	name      int    // index of the argument that names the test; in GoogleTest that of the suite
	prefix    string // put before the name
	// filter makes what selects a test of the parts of its name.
	filter func(suite, name string) string
}

func plainFilter(suite, name string) string { return suite + "." + name }

// Instances are named Prefix/Suite.Name/Parameter and Prefix/Suite/Type.Name, without "Prefix/" where
// the prefix is empty (GoogleTest's documentation, "Value-Parameterized Tests" and "Typed Tests").
func valueFilter(suite, name string) string {
	return "*/" + suite + "." + name + "/*:" + suite + "." + name + "/*"
}
func typedFilter(suite, name string) string { return suite + "/*." + name }
func typedPFilter(suite, name string) string {
	return "*/" + suite + "/*." + name + ":" + suite + "/*." + name
}

// cppMacros are the macros of both frameworks.
var cppMacros = map[string]cppMacro{}

func init() {
	for name, filter := range map[string]func(string, string) string{
		"TEST": plainFilter, "TEST_F": plainFilter, "GTEST_TEST": plainFilter, "GTEST_TEST_F": plainFilter,
		"TEST_P": valueFilter, "TYPED_TEST": typedFilter, "TYPED_TEST_P": typedPFilter,
	} {
		cppMacros[name] = cppMacro{framework: GoogleTest, filter: filter}
	}
	single := func(_, name string) string { return escapeCatch(name) }
	several := func(_, name string) string { return escapeCatch(name) + " - *" } // one for each type
	for name, m := range map[string]cppMacro{
		"TEST_CASE": {filter: single}, "SCENARIO": {prefix: "Scenario: ", filter: single},
		"TEST_CASE_METHOD": {name: 1, filter: single}, "TEST_CASE_PERSISTENT_FIXTURE": {name: 1, filter: single},
		"SCENARIO_METHOD":    {name: 1, prefix: "Scenario: ", filter: single},
		"TEMPLATE_TEST_CASE": {filter: several}, "TEMPLATE_TEST_CASE_SIG": {filter: several},
		"TEMPLATE_PRODUCT_TEST_CASE": {filter: several}, "TEMPLATE_LIST_TEST_CASE": {filter: several},
		"TEMPLATE_TEST_CASE_METHOD": {name: 1, filter: several}, "TEMPLATE_TEST_CASE_METHOD_SIG": {name: 1, filter: several},
		"TEMPLATE_PRODUCT_TEST_CASE_METHOD": {name: 1, filter: several}, "TEMPLATE_LIST_TEST_CASE_METHOD": {name: 1, filter: several},
	} {
		m.framework = Catch2
		cppMacros[name], cppMacros["CATCH_"+name] = m, m
	}
}

// escapeCatch writes a name so that Catch2 reads it as that name: in a test specification a comma
// separates and a bracket begins a tag (catch_test_spec_parser.cpp). It compares without case, and takes
// a * at either end for a wildcard: both select what is meant, and perhaps more.
func escapeCatch(name string) string {
	var b strings.Builder
	name = strings.TrimSpace(name)
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '\\', c == ',', c == '[', i == 0 && (c == '"' || c == '~' || c == '-'):
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// others are headers of frameworks that have macros of the same names.
var others = map[Framework][]string{
	GoogleTest: {"CppUTest", "UnitTest++", "UnitTestPP", "boost/ut", "kaguya", "criterion", "utest.h"},
	Catch2:     {"doctest", "boost/test", "lest", "utest.h"},
}

// cppTests lists the tests of a C++ file.
func cppTests(src string) []Test {
	if !mentionsTests(src) {
		return nil
	}
	l := lexCPP(src)
	foreign := func(f Framework) bool {
		return slices.ContainsFunc(l.includes, func(header string) bool {
			return slices.ContainsFunc(others[f], func(o string) bool { return strings.Contains(header, o) })
		})
	}
	p := cppParser{tokens: l.tokens, partner: partners(l.tokens)}
	var found []Test
	skip := map[Framework]bool{GoogleTest: foreign(GoogleTest), Catch2: foreign(Catch2)}
	open := -1 // index in found of a test whose end is not known
	for i := range p.tokens {
		macro, ok := cppMacros[p.tokens[i].text]
		if !ok || p.tokens[i].kind != tokWord || skip[macro.framework] || !p.beginsItem(i) {
			continue
		}
		t, ok := p.test(i, macro)
		if !ok {
			continue
		}
		if open >= 0 {
			found[open].Last = max(found[open].Line, t.Line-1)
			open = -1
		}
		if t.Last < 0 {
			open = len(found)
		}
		found = append(found, t)
	}
	if open >= 0 {
		found[open].Last = max(found[open].Line, p.tokens[len(p.tokens)-1].line)
	}
	return found
}

// mentionsTests is a quick look whether the text can have tests: most files have none.
func mentionsTests(src string) bool {
	return strings.Contains(src, "TEST") || strings.Contains(src, "SCENARIO")
}

type cppParser struct {
	tokens []token
	// partner is the index of the bracket that closes the one at an index; 0 where there is none.
	partner []int32
}

// partners matches brackets. In code that depends on a condition each alternative begins at the depth
// of the first, as only one of them is compiled.
func partners(tokens []token) []int32 {
	// An open bracket. They are linked, not in a slice, so that a state can be returned to.
	type bracket struct {
		index int32
		kind  byte
		below *bracket
		brace *bracket // the innermost "{" at or below it
	}
	partner := make([]int32, len(tokens))
	var top *bracket
	var states []*bracket // at the begin of each open conditional
	closes := func(i int, kind byte) {
		if top != nil && top.kind == kind {
			if partner[top.index] == 0 {
				partner[top.index] = int32(i)
			}
			top = top.below
		}
	}
	for i, t := range tokens {
		switch t.kind {
		case '(', '[', '{':
			b := &bracket{index: int32(i), kind: t.kind, below: top}
			if t.kind == '{' {
				b.brace = b
			} else if top != nil {
				b.brace = top.brace
			}
			top = b
		case ')':
			closes(i, '(')
		case ']':
			closes(i, '[')
		case '}':
			if top != nil && top.kind != '{' && top.brace != nil {
				top = top.brace // a parenthesis that is being typed does not end the function
			}
			closes(i, '{')
		case tokIf:
			states = append(states, top)
		case tokElse:
			if n := len(states); n > 0 {
				top = states[n-1]
			}
		case tokEndif:
			if n := len(states); n > 0 {
				states = states[:n-1]
			}
		}
	}
	return partner
}

func isConditional(kind byte) bool { return kind == tokIf || kind == tokElse || kind == tokEndif }

// beginsItem says whether the token at i may begin a declaration: macros of tests stand where functions
// do, not in expressions and other declarations.
func (p *cppParser) beginsItem(i int) bool {
	for i--; i >= 0 && isConditional(p.tokens[i].kind); i-- {
	}
	return i < 0 || strings.IndexByte("};{)]", p.tokens[i].kind) >= 0
}

// skip is the first index from i on that is no begin or end of a conditional.
func (p *cppParser) skip(i int) int {
	for i < len(p.tokens) && isConditional(p.tokens[i].kind) {
		i++
	}
	return i
}

// kind is the kind of the token at i; 0 beyond the end.
func (p *cppParser) kind(i int) byte {
	if i < len(p.tokens) {
		return p.tokens[i].kind
	}
	return 0
}

// test reads MACRO(arguments) { body } at i. Last is -1 where the body has no end.
func (p *cppParser) test(i int, m cppMacro) (t Test, ok bool) {
	at := p.skip(i + 1)
	if p.kind(at) != '(' || p.partner[at] == 0 {
		return t, false
	}
	end := int(p.partner[at])
	body := p.skip(end + 1)
	if p.kind(body) != '{' {
		return t, false
	}
	args := p.arguments(at+1, end)
	t = Test{Framework: m.framework, Line: p.tokens[i].line, Last: -1}
	if to := int(p.partner[body]); to > 0 {
		t.Last = p.tokens[to].line
	}
	if m.framework == GoogleTest {
		if len(args) != 2 || !isName(args[0]) || !isName(args[1]) {
			return t, false
		}
		suite, name := args[0][0].text, args[1][0].text
		t.Name, t.Filter = suite+"."+name, m.filter(suite, name)
		return t, true
	}
	if len(args) <= m.name {
		return t, false
	}
	name, ok := literal(args[m.name])
	if !ok || strings.TrimSpace(name) == "" {
		return t, false
	}
	t.Name = m.prefix + name
	t.Filter = m.filter("", t.Name)
	if len(args) > m.name+1 {
		if tags, ok := literal(args[m.name+1]); ok && strings.HasPrefix(tags, "[") {
			t.Tags = tags
		}
	}
	return t, true
}

// arguments splits the tokens of an argument list, from begin to before end, at the commas that are not
// in brackets.
func (p *cppParser) arguments(begin, end int) [][]token {
	var all [][]token
	var arg []token
	for i := begin; i < end; i++ {
		switch k := p.tokens[i].kind; {
		case k == ',':
			all = append(all, arg)
			arg = nil
			continue
		case isConditional(k):
			continue
		case k == '(' && p.partner[i] > 0 && int(p.partner[i]) < end: // only parentheses protect commas
			i = int(p.partner[i])
		}
		if len(arg) < 64 {
			arg = append(arg, p.tokens[i])
		}
	}
	return append(all, arg)
}

func isName(arg []token) bool { return len(arg) == 1 && arg[0].kind == tokWord }

// literal is the value of an argument that is string literals only, one after the other.
func literal(arg []token) (string, bool) {
	var b strings.Builder
	for _, t := range arg {
		switch t.kind {
		case tokRaw:
			b.WriteString(t.text)
		case tokString:
			s, ok := unescape(t.text)
			if !ok {
				return "", false
			}
			b.WriteString(s)
		default:
			return "", false
		}
	}
	return b.String(), len(arg) > 0 && utf8.ValidString(b.String())
}

// unescape is the value of the text of an ordinary string literal ([lex.ccon]).
func unescape(s string) (string, bool) {
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for len(s) > 0 {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if len(s) < 2 {
			return "", false
		}
		c, digits, base := s[1], "", 8
		switch {
		case strings.IndexByte(`'"?\`, c) >= 0:
			b.WriteByte(c)
			s = s[2:]
			continue
		case strings.IndexByte("abfnrtv", c) >= 0:
			b.WriteByte("\a\b\f\n\r\t\v"[strings.IndexByte("abfnrtv", c)])
			s = s[2:]
			continue
		case c == 'x':
			digits, base = leading(s[2:], "0123456789abcdefABCDEF", len(s)), 16
			s = s[2+len(digits):]
		case c == 'u' || c == 'U':
			size := map[byte]int{'u': 4, 'U': 8}[c]
			digits, base = leading(s[2:], "0123456789abcdefABCDEF", size), 16
			if len(digits) != size {
				return "", false
			}
			s = s[2+size:]
		default:
			digits = leading(s[1:], "01234567", 3)
			s = s[1+len(digits):]
		}
		n, err := strconv.ParseUint(digits, base, 32)
		switch {
		case err != nil:
			return "", false
		case c == 'u' || c == 'U':
			if n > utf8.MaxRune {
				return "", false
			}
			b.WriteRune(rune(n))
		case n > 0xff:
			return "", false
		default:
			b.WriteByte(byte(n))
		}
	}
	return b.String(), true
}

// leading is the first characters of s that are in a set, at most n.
func leading(s, set string, n int) string {
	end := 0
	for end < len(s) && end < n && strings.IndexByte(set, s[end]) >= 0 {
		end++
	}
	return s[:end]
}
