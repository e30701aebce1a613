package process

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is a foreign text, such as a path or a name, on one line and in valid UTF-8: what is not
// printed is escaped as Go and C do, "\n", "\x1b", "\u202e", and so is each byte that is no UTF-8, "\xff".
// A backslash of the text's own stays as it is.
func Printable(text string) string {
	clean := true
	for i, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			clean = clean && r == utf8.RuneError && strings.HasPrefix(text[i:], string(utf8.RuneError))
		}
		if !clean {
			break
		}
	}
	if clean {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x`)
			b.WriteString(strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}
