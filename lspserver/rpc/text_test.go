package rpc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
)

func kindsOf(s string) (kinds []protocol.PositionEncodingKind) {
	for _, k := range strings.Fields(s) {
		kinds = append(kinds, protocol.PositionEncodingKind(k))
	}
	return kinds
}

// slowLines cuts a text the plain way.
func slowLines(s string) []string {
	return strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s), "\n")
}

func TestTextLines(t *testing.T) {
	for _, s := range []string{
		"", "\n", "\r", "\r\n", "a", "a\n", "a\r\n", "a\r", "a\nb", "a\r\nb\r\n", "\n\n", "\r\r", "\r\r\n", "\r\n\r", "\n\r", "\n\r\n",
		"a\rb\nc\r\nd", "é\r𝄞\n\r\nx", "\r\n\r\n", "a\r\r\r\nb",
	} {
		text := NewText(s)
		var got []string
		for n := range text.Lines() {
			got = append(got, text.Line(n))
		}
		if diff := cmp.Diff(slowLines(s), got); diff != "" {
			t.Errorf("lines of %q: %s", s, diff)
		}
		if text.Line(-1) != "" || text.Line(text.Lines()) != "" {
			t.Errorf("%q has lines before the first or after the last", s)
		}
	}
}

func pos(line, char uint32) protocol.Position { return protocol.Position{Line: line, Character: char} }

func TestTextPositions(t *testing.T) {
	text := NewText("package x\r\n\ts := \"𝄞é\"\nlast")
	for _, c := range []struct {
		e    Encoding
		p    protocol.Position
		want int
	}{
		{UTF16, pos(0, 0), 0},
		{UTF16, pos(0, 9), 9},
		{UTF16, pos(0, 10), 9}, // past the end: before the terminator
		{UTF16, pos(1, 7), 18},
		{UTF16, pos(1, 8), 18}, // between surrogates
		{UTF16, pos(1, 9), 22},
		{UTF8, pos(1, 11), 22},
		{UTF32, pos(1, 8), 22},
		{UTF16, pos(2, 99), 30},
		{UTF16, pos(3, 0), 30}, // past the last line: the end of the text
		{UTF16, pos(^uint32(0), ^uint32(0)), 30},
	} {
		if got := text.Offset(c.e, c.p); got != c.want {
			t.Errorf("%v: offset of %v is %d, want %d", c.e, c.p, got, c.want)
		}
	}
	if got, want := text.EndOf(UTF16, 1), pos(1, 11); got != want {
		t.Errorf("end of line 1 is %v, want %v", got, want)
	}
	if got, want := text.EndOf(UTF8, 99), pos(2, 4); got != want {
		t.Errorf("end of a line past the text is %v, want %v", got, want)
	}
	if got, want := text.Range(UTF32, 0), (protocol.Range{End: pos(0, 9)}); got != want {
		t.Errorf("range of line 0 is %v, want %v", got, want)
	}
	if got, want := text.Position(UTF16, 10), pos(0, 9); got != want {
		t.Errorf("position within a terminator is %v, want %v", got, want)
	}
	if got, want := text.Position(UTF16, -5), pos(0, 0); got != want {
		t.Errorf("position before the text is %v, want %v", got, want)
	}
	if got, want := text.Position(UTF16, 99), pos(2, 4); got != want {
		t.Errorf("position after the text is %v, want %v", got, want)
	}
}

func TestTextApply(t *testing.T) {
	text := NewText("one\r\n𝄞wo\nthree")
	changes := []protocol.TextDocumentContentChangeEvent{
		&protocol.TextDocumentContentChangePartial{Range: protocol.Range{Start: pos(1, 0), End: pos(1, 2)}, Text: "T"},
		&protocol.TextDocumentContentChangePartial{Range: protocol.Range{Start: pos(0, 3), End: pos(1, 0)}, Text: "\né\n"},
		&protocol.TextDocumentContentChangePartial{Range: protocol.Range{Start: pos(9, 0), End: pos(9, 0)}, Text: "!"},
	}
	got, err := text.Apply(UTF16, changes)
	if err != nil || got.String() != "one\né\nTwo\nthree!" {
		t.Errorf("%#v %v", got, err)
	}
	if text.String() != "one\r\n𝄞wo\nthree" {
		t.Errorf("the text itself has changed: %#v", text)
	}
	got, err = text.Apply(UTF16, append(changes, &protocol.TextDocumentContentChangeWholeDocument{Text: "new\n"}))
	if err != nil || got.String() != "new\n" || got.Lines() != 2 {
		t.Errorf("%#v %v", got, err)
	}
	_, err = text.Apply(UTF16, []protocol.TextDocumentContentChangeEvent{
		changes[0], &protocol.TextDocumentContentChangePartial{Range: protocol.Range{Start: pos(1, 0), End: pos(0, 2)}},
	})
	if err == nil || !strings.Contains(err.Error(), "change 2 of the document has a range that ends (0:2) before it begins (1:0)") {
		t.Errorf("a range that ends before it begins: %v", err)
	}
	if _, err := text.Apply(UTF16, []protocol.TextDocumentContentChangeEvent{nil}); err == nil {
		t.Error("a change that is none is applied")
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\r\nb\rc\n𝄞é", "x\r", uint32(1), uint32(1), uint32(2), uint32(5))
	f.Add("\r", "\n", uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add("", "", uint32(0), uint32(0), uint32(9), uint32(9))
	f.Fuzz(func(t *testing.T, s, insert string, l1, c1, l2, c2 uint32) {
		text := NewText(s)
		slow := slowLines(s)
		if text.Lines() != len(slow) {
			t.Fatalf("%q has %d lines, want %d", s, text.Lines(), len(slow))
		}
		for n, want := range slow {
			if got := text.Line(n); got != want {
				t.Fatalf("line %d of %q is %q, want %q", n, s, got, want)
			}
		}
		for _, e := range encodings {
			for off := range len(s) + 1 {
				p := text.Position(e, off)
				back := text.Offset(e, p)
				// Within a rune or a terminator an offset is rounded down, by at most 3 bytes.
				if back > off || off-back > 3 {
					t.Fatalf("%v: offset %d of %q goes to %v and back to %d", e, off, s, p, back)
				}
				if again := text.Position(e, back); again != p {
					t.Fatalf("%v: position %v of %q goes to %d and back to %v", e, p, s, back, again)
				}
			}
			r := protocol.Range{Start: pos(l1, c1), End: pos(l2, c2)}
			start, end := text.Offset(e, r.Start), text.Offset(e, r.End)
			got, err := text.Apply(e, []protocol.TextDocumentContentChangeEvent{&protocol.TextDocumentContentChangePartial{Range: r, Text: insert}})
			if (err != nil) != (end < start) {
				t.Fatalf("%v: replace %v of %q: %v", e, r, s, err)
			}
			if err == nil && got.String() != s[:start]+insert+s[end:] {
				t.Fatalf("%v: replace %v of %q by %q: %q", e, r, s, insert, got)
			}
		}
	})
}

func BenchmarkTextEdit(b *testing.B) {
	text := NewText(strings.Repeat("\tfor i := range xs { total += weights[i] * xs[i] }\n", 5000))
	change := []protocol.TextDocumentContentChangeEvent{&protocol.TextDocumentContentChangePartial{Range: protocol.Range{Start: pos(2500, 3), End: pos(2500, 3)}, Text: "x"}}
	for b.Loop() {
		var err error
		if text, err = text.Apply(UTF16, change); err != nil {
			b.Fatal(err)
		}
	}
}
