package rpc

import (
	"fmt"
	"strings"

	"go.lsp.dev/protocol"
)

// A Text is the content of a document, cut into lines as the protocol cuts them: at "\n", "\r\n"
// and "\r", so that a text which ends in a terminator has an empty last line. It never changes, and
// any goroutine may read it.
//
// A lone "\r" is no line end to compilers: in the rare file that has one, their line numbers and
// those of the protocol part there.
type Text struct {
	text   string
	starts []int // byte offset of each line; starts[0] is 0
}

// NewText cuts a text into lines.
func NewText(text string) *Text {
	starts := make([]int, 1, 16+len(text)/32)
	returns := strings.IndexByte(text, '\r') >= 0
	for at := 0; ; {
		n := strings.IndexByte(text[at:], '\n')
		end := at + n // of the line, at its "\n"
		if n < 0 {
			end = len(text)
		}
		for returns { // those within text[at:end]
			r := strings.IndexByte(text[at:end], '\r')
			if r < 0 || n >= 0 && at+r+1 == end { // none, or that of "\r\n"
				break
			}
			at += r + 1
			starts = append(starts, at)
		}
		if n < 0 {
			return &Text{text: text, starts: starts}
		}
		at = end + 1
		starts = append(starts, at)
	}
}

// String is the whole text.
func (t *Text) String() string { return t.text }

// Lines is the number of lines, at least 1.
func (t *Text) Lines() int { return len(t.starts) }

// Line is the line, counted from 0, without its terminator; "" for a line the text does not have.
func (t *Text) Line(line int) string {
	if line < 0 || line >= len(t.starts) {
		return ""
	}
	return untermed(t.raw(line))
}

// raw is the line with its terminator.
func (t *Text) raw(line int) string {
	if line+1 < len(t.starts) {
		return t.text[t.starts[line]:t.starts[line+1]]
	}
	return t.text[t.starts[line]:]
}

// EndOf is the position at the end of a line, counted from 0, before its terminator. A line past the
// text is its last.
func (t *Text) EndOf(e Encoding, line int) protocol.Position {
	line = max(0, min(line, len(t.starts)-1))
	s := t.Line(line)
	return protocol.Position{Line: uint32(line), Character: e.Column(s, len(s))}
}

// Range is a whole line, counted from 0, without its terminator. A line past the text is its last.
func (t *Text) Range(e Encoding, line int) protocol.Range {
	end := t.EndOf(e, line)
	return protocol.Range{Start: protocol.Position{Line: end.Line}, End: end}
}

// Offset is the byte offset of a position. A position past the end of its line is the end of the
// line before its terminator; a line past the text is the end of the text.
func (t *Text) Offset(e Encoding, p protocol.Position) int {
	if int64(p.Line) >= int64(len(t.starts)) {
		return len(t.text)
	}
	return t.starts[p.Line] + e.Offset(t.Line(int(p.Line)), p.Character)
}

// Position is the position of a byte offset; one within a terminator is the end of its line.
func (t *Text) Position(e Encoding, offset int) protocol.Position {
	offset = max(0, min(offset, len(t.text)))
	lo, hi := 0, len(t.starts) // starts[lo] ≤ offset < starts[hi]
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; t.starts[mid] <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return protocol.Position{Line: uint32(lo), Character: e.Column(t.raw(lo), offset-t.starts[lo])}
}

// Apply is the text after the changes of a textDocument/didChange, each made to the result of the
// one before it. It fails where a range ends before it begins; nothing of the changes counts then.
func (t *Text) Apply(e Encoding, changes []protocol.TextDocumentContentChangeEvent) (*Text, error) {
	for i, change := range changes {
		switch c := change.(type) {
		case *protocol.TextDocumentContentChangeWholeDocument:
			t = NewText(c.Text)
		case *protocol.TextDocumentContentChangePartial:
			start, end := t.Offset(e, c.Range.Start), t.Offset(e, c.Range.End)
			if end < start {
				return nil, ErrParams("change %d of the document has a range that ends (%d:%d) before it begins (%d:%d)", i+1,
					c.Range.End.Line, c.Range.End.Character, c.Range.Start.Line, c.Range.Start.Character)
			}
			t = NewText(t.text[:start] + c.Text + t.text[end:])
		default:
			return nil, ErrParams("change %d of the document is neither a text nor a range with a text", i+1)
		}
	}
	return t, nil
}

// GoString is the text as Go source, for messages of tests.
func (t *Text) GoString() string { return fmt.Sprintf("rpc.NewText(%q)", t.text) }
