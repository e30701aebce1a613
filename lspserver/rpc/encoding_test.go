package rpc

import (
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"go.lsp.dev/protocol"
)

var encodings = []Encoding{UTF16, UTF8, UTF32}

func TestColumn(t *testing.T) {
	for _, c := range []struct {
		line   string
		offset int
		want   [3]uint32 // UTF-16, UTF-8, UTF-32
	}{
		{"", 0, [3]uint32{0, 0, 0}},
		{"", 5, [3]uint32{0, 0, 0}},
		{"abc", 2, [3]uint32{2, 2, 2}},
		{"abc", -1, [3]uint32{0, 0, 0}},
		{"abc\r\n", 99, [3]uint32{3, 3, 3}},
		{"abc\n", 4, [3]uint32{3, 3, 3}},
		{"abc\r", 4, [3]uint32{3, 3, 3}},
		{"\té\t𝄞x", 4, [3]uint32{3, 4, 3}},
		{"\té\t𝄞x", 8, [3]uint32{5, 8, 4}},
		{"\té\t𝄞x", 9, [3]uint32{6, 9, 5}},
		{"é", 1, [3]uint32{0, 0, 0}},        // within é
		{"a𝄞", 3, [3]uint32{1, 1, 1}},       // within 𝄞
		{"a\xffb", 2, [3]uint32{2, 2, 2}},   // a byte that is not UTF-8
		{"\xf0\x9d", 2, [3]uint32{2, 2, 2}}, // the first half of 𝄞
		{"\ufeffx", 3, [3]uint32{1, 3, 1}},  // a byte order mark is a character
		{"e\u0301x", 3, [3]uint32{2, 3, 2}}, // so is a combining accent
		{"👩‍👩x", 11, [3]uint32{5, 11, 3}},   // and each part of an emoji
	} {
		for i, e := range encodings {
			if got := e.Column(c.line, c.offset); got != c.want[i] {
				t.Errorf("%v: Column(%q, %d) = %d, want %d", e, c.line, c.offset, got, c.want[i])
			}
		}
	}
}

func TestOffset(t *testing.T) {
	for _, c := range []struct {
		e    Encoding
		line string
		col  uint32
		want int
	}{
		{UTF16, "a𝄞b", 1, 1},
		{UTF16, "a𝄞b", 2, 1}, // between the surrogates: the beginning of 𝄞
		{UTF16, "a𝄞b", 3, 5},
		{UTF16, "a𝄞b", 4, 6},
		{UTF16, "a𝄞b", 5, 6},
		{UTF16, "a𝄞b\r\n", 1 << 31, 6},
		{UTF16, "a𝄞b\r\n", ^uint32(0), 6},
		{UTF8, "a𝄞b\n", 3, 1},
		{UTF8, "a𝄞b\n", 5, 5},
		{UTF8, "a𝄞b\n", 7, 6},
		{UTF32, "a𝄞b", 2, 5},
		{UTF32, "a𝄞b", 3, 6},
		{UTF32, "", 3, 0},
		{UTF16, "\r\n", 1, 0},
	} {
		if got := c.e.Offset(c.line, c.col); got != c.want {
			t.Errorf("%v: Offset(%q, %d) = %d, want %d", c.e, c.line, c.col, got, c.want)
		}
	}
}

// slowColumn is Column for an offset between runes, by way of the standard library's encoders.
func slowColumn(e Encoding, line string, offset int) uint32 {
	switch e {
	case UTF8:
		return uint32(offset)
	case UTF32:
		return uint32(len([]rune(line[:offset])))
	}
	return uint32(len(utf16.Encode([]rune(line[:offset]))))
}

func FuzzEncoding(f *testing.F) {
	f.Add("\té𝄞x\r\n", 3, uint32(4))
	f.Add("a\xff\xf0\x9d𝄞", 5, uint32(2))
	f.Add("no end", 100, ^uint32(0))
	f.Fuzz(func(t *testing.T, line string, offset int, col uint32) {
		text := untermed(line)
		for _, e := range encodings {
			got := e.Offset(line, col)
			if got < 0 || got > len(text) {
				t.Fatalf("%v: Offset(%q, %d) = %d, outside of the line", e, line, col, got)
			}
			if back := e.Column(line, got); back > col || col <= e.Column(line, len(text)) && col-back > 3 {
				t.Fatalf("%v: Offset(%q, %d) = %d, whose column is %d", e, line, col, got, back)
			}
			// Every rune boundary goes there and back, and agrees with the slow way.
			last := -1
			for i := 0; i <= len(text); {
				c := e.Column(line, i)
				if want := slowColumn(e, text, i); c != want {
					t.Fatalf("%v: Column(%q, %d) = %d, want %d", e, line, i, c, want)
				}
				if back := e.Offset(line, c); back != i {
					t.Fatalf("%v: Offset(%q, %d) = %d, want %d", e, line, c, back, i)
				}
				if int(c) <= last {
					t.Fatalf("%v: columns of %q do not grow", e, line)
				}
				last = int(c)
				_, size := utf8.DecodeRuneInString(text[i:])
				i += max(size, 1)
			}
			// Any offset at all is the boundary at or before it.
			at := e.Offset(line, e.Column(line, offset))
			if want := max(0, min(offset, len(text))); at > want || want-at > 3 {
				t.Fatalf("%v: offset %d of %q goes to %d", e, offset, line, at)
			}
		}
	})
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		offered string
		want    Encoding
	}{
		{"", UTF16}, {"utf-16", UTF16}, {"utf-7", UTF16}, {"utf-32", UTF32}, {"utf-7 utf-32 utf-16", UTF32},
		{"utf-32 utf-8 utf-16", UTF8}, {"utf-16 utf-32", UTF16}, {"utf-16 utf-8", UTF8},
	} {
		var caps protocol.ClientCapabilities
		if c.offered != "" {
			caps.General = &protocol.GeneralClientCapabilities{PositionEncodings: kindsOf(c.offered)}
		}
		if got := choose(caps); got != c.want {
			t.Errorf("of %q %v is chosen, want %v", c.offered, got, c.want)
		}
	}
}
