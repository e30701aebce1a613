package sourcemap

import "strings"

// ShortName is a function's name (Frame.Func) for narrow places: the arguments of templates and
// generic functions are folded to "<…>", parameters and what a C++ function returns are left out.
// "void std::sort<int*>(int*, int*)" is "std::sort<…>", "<alloc::vec::Vec<T> as core::ops::Drop>::drop"
// is "<alloc::vec::Vec<…> as core::ops::Drop>::drop". Names of Go and C, and names that are not
// understood, stay as they are.
//
// It tells overloads and instances no longer apart: it is for drawing, and never a key.
func ShortName(name string) string {
	if !strings.ContainsAny(name, "<(") || strings.HasPrefix(name, "[") {
		return name
	}
	if goName(name) {
		return name
	}
	short, ok := fold(name)
	if !ok || short == "" {
		return name
	}
	return short
}

// goName tells Go's names with parentheses, which are receivers ("main.(*T).Run") and follow a dot.
func goName(name string) bool {
	i := strings.IndexByte(name, '(')
	return i > 0 && name[i-1] == '.' && !strings.Contains(name[:i], "::")
}

// fold does the work of ShortName; it is false where brackets do not match.
func fold(name string) (string, bool) {
	var b strings.Builder
	begin := 0 // in b, where the name begins: behind the type that is returned
	conversion := false
	operator := -1 // in b, where an operator's sign ends
	for i := 0; i < len(name); {
		rest := name[i:]
		switch c := name[i]; {
		case strings.HasPrefix(rest, "operator") && !wordBefore(name, i) && (len(rest) == 8 || !isNameByte(rest[8])):
			n := operatorLength(rest)
			if n == 0 { // to a type, up to the parameters
				conversion = true
				n = len("operator")
			}
			b.WriteString(rest[:n])
			operator = b.Len()
			if i += n; strings.HasPrefix(name[i:], " <") { // operator<< <char>
				b.WriteString(" ")
				operator++
				i++
			}
		case strings.HasPrefix(rest, "->"):
			b.WriteString("->")
			i += 2
		case c == '<':
			end := closing(rest)
			if end < 0 {
				return "", false
			}
			switch at := b.String(); {
			case at == "" || strings.HasSuffix(at, "::") && strings.Contains(rest[:end], " as "), strings.HasSuffix(at, " ") && b.Len() != operator:
				// Rust: a type, and not arguments.
				inner, ok := foldTypes(rest[1:end])
				if !ok {
					return "", false
				}
				b.WriteString("<" + inner + ">")
			default:
				b.WriteString("<…>")
			}
			i += end + 1
		case c == '(':
			end := closing(rest)
			if end < 0 {
				return "", false
			}
			if rest[:end+1] == "(anonymous namespace)" {
				b.WriteString(rest[:end+1])
				i += end + 1
				break
			}
			if strings.HasSuffix(b.String(), "decltype") || b.Len() == begin {
				b.WriteString("(…)") // a type, as of a function that is returned
				i += end + 1
				break
			}
			// Parameters. What may follow: const, &, [clone .cold], and for names in functions ::name.
			i += end + 1
			for _, word := range []string{" const", " volatile", " &&", " &", " noexcept"} {
				i += len(name[i:]) - len(strings.TrimPrefix(name[i:], word))
			}
			if !strings.HasPrefix(name[i:], "::") {
				return b.String()[begin:], b.Len() > begin
			}
		case c == '{' || c == '[':
			end := closing(rest)
			if end < 0 {
				return "", false
			}
			part := rest[:end+1]
			if open := strings.IndexByte(part, '('); c == '{' && open > 0 {
				if shut := strings.LastIndexByte(part, ')'); shut > open { // {lambda(int)#1}
					part = part[:open] + "()" + part[shut+1:]
				}
			}
			b.WriteString(part)
			i += end + 1
		case c == '>' || c == ')' || c == '}' || c == ']':
			return "", false
		case c == ' ' && !conversion:
			b.WriteByte(c)
			if i++; !strings.HasPrefix(name[i:], "[") { // [clone …], [abi:…]
				begin = b.Len()
			}
		default:
			b.WriteByte(c)
			i++
		}
	}
	if strings.HasSuffix(b.String(), " ") {
		return "", false
	}
	return b.String()[begin:], true
}

// foldTypes folds the arguments within a type's name, or within "TYPE as TRAIT".
func foldTypes(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "->"):
			b.WriteString("->")
			i += 2
		case s[i] == '<':
			end := closing(s[i:])
			if end < 0 {
				return "", false
			}
			b.WriteString("<…>")
			i += end + 1
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String(), true
}

// closing is where the bracket that s begins with is closed, -1 where it is not.
func closing(s string) int {
	var open []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '<', '(', '[', '{':
			if strings.HasPrefix(s[i:], "<<") && strings.HasSuffix(s[:i], "operator") {
				i++
				continue
			}
			open = append(open, c)
		case '>', ')', ']', '}':
			if c == '>' && i > 0 && s[i-1] == '-' {
				continue // an arrow
			}
			// Within parentheses of an argument there may be a comparison.
			if len(open) == 0 || open[len(open)-1] != openedBy(c) {
				return -1
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return i
			}
		}
	}
	return -1
}

// openedBy is the bracket that c closes.
func openedBy(c byte) byte {
	switch c {
	case '>':
		return '<'
	case ')':
		return '('
	case ']':
		return '['
	}
	return '{'
}

// operatorLength is the length of an operator's name with its sign, 0 for a conversion.
func operatorLength(s string) int {
	rest := s[len("operator"):]
	for _, sign := range []string{
		"()", "[]", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">", "==", "!=", "&&", "||", "++", "--",
		"+=", "-=", "*=", "/=", "%=", "^=", "&=", "|=", "+", "-", "*", "/", "%", "^", "&", "|", "~", "!", "=", ",",
		" new[]", " delete[]", " new", " delete", " co_await", "\"\" ",
	} {
		if strings.HasPrefix(rest, sign) {
			return len("operator") + len(sign)
		}
	}
	return 0
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func wordBefore(s string, i int) bool { return i > 0 && isNameByte(s[i-1]) }
