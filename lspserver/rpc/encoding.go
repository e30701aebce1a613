package rpc

import (
	"unicode/utf8"

	"go.lsp.dev/protocol"
)

// An Encoding is what the character of a position counts. The zero value is UTF16, which every
// client knows.
type Encoding uint8

// The encodings of LSP 3.17.
const (
	UTF16 Encoding = iota // code units of UTF-16: two for a rune above U+FFFF
	UTF8                  // bytes
	UTF32                 // runes
)

// Kind is the encoding as the protocol spells it.
func (e Encoding) Kind() protocol.PositionEncodingKind {
	switch e {
	case UTF8:
		return protocol.PositionEncodingKindUTF8
	case UTF32:
		return protocol.PositionEncodingKindUTF32
	}
	return protocol.PositionEncodingKindUTF16
}

// String is the same as Kind.
func (e Encoding) String() string { return string(e.Kind()) }

// ParseEncoding is the encoding of that name.
func ParseEncoding(kind protocol.PositionEncodingKind) (e Encoding, ok bool) {
	for _, e := range []Encoding{UTF16, UTF8, UTF32} {
		if kind == e.Kind() {
			return e, true
		}
	}
	return UTF16, false
}

// choose picks the encoding for a client: UTF-8 where it is offered, because then positions are
// byte offsets, else the first it offers that we know, else UTF-16, which all must know.
func choose(c protocol.ClientCapabilities) Encoding {
	if c.General == nil {
		return UTF16
	}
	best, found := UTF16, false
	for _, kind := range c.General.PositionEncodings {
		e, ok := ParseEncoding(kind)
		switch {
		case !ok:
		case e == UTF8:
			return UTF8
		case !found:
			best, found = e, true
		}
	}
	return best
}

// units is how many columns a rune of so many bytes takes.
func (e Encoding) units(r rune, size int) int {
	switch {
	case e == UTF8:
		return size
	case e == UTF16 && r > 0xFFFF:
		return 2
	}
	return 1
}

// Column is the column of the byte offset in line, which may end with its terminator. An offset
// within a rune counts as the rune's beginning, one past the text before the terminator as its end.
// A byte that is not UTF-8 is one column.
func (e Encoding) Column(line string, byteOffset int) uint32 {
	line = untermed(line)
	byteOffset = max(0, min(byteOffset, len(line)))
	col := 0
	for i := 0; i < byteOffset; {
		r, size := utf8.DecodeRuneInString(line[i:])
		if i+size > byteOffset {
			break
		}
		col += e.units(r, size)
		i += size
	}
	return uint32(col)
}

// Offset is the byte offset of the column in line, which may end with its terminator: the inverse of
// Column. A column within a rune (between surrogates, or within its bytes) is the rune's beginning,
// one past the text is its end.
func (e Encoding) Offset(line string, col uint32) int {
	line = untermed(line)
	for i, left := 0, int64(col); i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		left -= int64(e.units(r, size))
		if left < 0 {
			return i
		}
		i += size
	}
	return len(line)
}

// untermed is the line without its terminator.
func untermed(line string) string {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
	}
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n]
}
