package profile

import (
	"strconv"
	"strings"
)

// joinCommand quotes the words of a command that a reader could not tell apart.
func joinCommand(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\") {
			w = strconv.Quote(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

func appendFrame(b []byte, f Frame) []byte {
	b = append(b, f.Func...)
	if f.File != "" {
		b = append(b, '@')
		b = append(b, f.File...)
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(f.Line), 10)
	}
	return b
}
