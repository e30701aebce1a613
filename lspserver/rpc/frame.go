package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// A frame is a header of lines "Name: value", an empty line, and as many bytes of JSON as the
// header's Content-Length says (LSP 3.17, "Base Protocol").
//
// After a fault in a header nobody can say where the next frame begins, but one thing can be looked
// for: `Content-Length: <digits>` followed by a line end does not occur within JSON, whose strings
// hold no raw line ends. So a frameReader that lost its way searches for that, and loses only what
// lay before.

const (
	lengthName = "content-length"
	maxHeader  = 8 << 10 // bytes of a header, a few hundred in the worst case known
	keepBuffer = 1 << 20 // a buffer that had to grow beyond this is given back once it is empty
)

// A badFrame is a frame that cannot be used. Reading may go on.
type badFrame struct{ reason string }

func (b *badFrame) Error() string { return b.reason }

func bad(format string, args ...any) error { return &badFrame{fmt.Sprintf(format, args...)} }

// A frameReader cuts a stream of bytes into frames.
type frameReader struct {
	src   io.Reader
	limit int // bytes of a body

	buf  []byte // buf[r:] is read and not yet used
	r    int
	last int  // length of the body that next returned
	lost bool // where a frame begins is to be searched for
}

// next reads a frame and returns its body, which is valid until the following call. It returns
// io.EOF at the end of the stream between frames, io.ErrUnexpectedEOF at its end within one, and a
// *badFrame for what cannot be used.
func (f *frameReader) next() (body []byte, err error) {
	f.r += f.last
	f.last = 0
	if f.lost {
		if err := f.search(); err != nil {
			return nil, err
		}
		f.lost = false
	}
	n, err := f.header()
	if err == nil && n > f.limit {
		err = bad("the message has %d bytes; %d are the limit", n, f.limit)
	}
	if err != nil {
		f.lost = true
		return nil, err
	}
	if err := f.have(n); err != nil {
		return nil, unexpected(err)
	}
	f.last = n
	return f.buf[f.r : f.r+n], nil
}

// reject says that the body which next returned is no JSON. Its length may have been wrong: if
// another frame begins within it, the following one is that.
func (f *frameReader) reject() {
	switch at, keep := findLength(f.buf[f.r : f.r+f.last]); {
	case at >= 0:
		f.last = at
	case keep < f.last: // one may begin in it and end behind it
		f.last, f.lost = keep, true
	}
}

// header reads the lines of a header and returns the length they give.
func (f *frameReader) header() (length int, err error) {
	length = -1
	for used := 0; ; {
		line, err := f.line(maxHeader - used)
		if err != nil {
			if used > 0 || len(f.buf) > f.r {
				err = unexpected(err)
			}
			return 0, err
		}
		used += len(line)
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return 0, bad("a message header line is not of the form Name: value")
		}
		if !bytes.EqualFold(bytes.TrimSpace(name), []byte(lengthName)) {
			continue // Content-Type, or what a later protocol may bring
		}
		if length, ok = number(bytes.TrimSpace(value)); !ok {
			return 0, bad("the Content-Length of a message is not a number of bytes")
		}
	}
	if length <= 0 {
		return 0, bad("a message header has no Content-Length above 0")
	}
	return length, nil
}

// number is a decimal number; one too large for a message is the largest int.
func number(digits []byte) (n int, ok bool) {
	const huge = int(^uint(0) >> 1)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (huge-9)/10 {
			n = huge
		} else if n < huge {
			n = n*10 + int(c-'0')
		}
	}
	return n, len(digits) > 0
}

// line takes a line of at most limit bytes, with its end.
func (f *frameReader) line(limit int) ([]byte, error) {
	for seen := 0; ; {
		rest := f.buf[f.r:]
		if n := bytes.IndexByte(rest[seen:], '\n'); n >= 0 && seen+n < limit {
			f.r += seen + n + 1
			return rest[:seen+n+1], nil
		} else if n >= 0 || len(rest) >= limit {
			return nil, bad("a message header has more than %d bytes", maxHeader)
		}
		seen = len(rest)
		if err := f.fill(); err != nil {
			return nil, err
		}
	}
}

// search drops bytes up to where a frame seems to begin.
func (f *frameReader) search() error {
	for {
		at, keep := findLength(f.buf[f.r:])
		if at >= 0 {
			f.r += at
			return nil
		}
		f.r += keep
		if err := f.fill(); err != nil {
			return unexpected(err)
		}
	}
}

// findLength finds the beginning of a line end that ends `Content-Length: <digits>`, and of that
// the beginning. Where there is none at is -1, and from keep on one may yet come.
func findLength(b []byte) (at, keep int) {
	for from := 0; from < len(b); {
		n := bytes.IndexAny(b[from:], "Cc")
		if n < 0 {
			return -1, len(b)
		}
		from += n
		switch isLength(b[from:]) {
		case found:
			return from, from
		case perhaps:
			return -1, from
		}
		from++
	}
	return -1, len(b)
}

type answer int

const (
	no answer = iota
	perhaps
	found
)

// isLength tells whether b begins with `Content-Length: <digits>` and a line end.
func isLength(b []byte) answer {
	n := min(len(b), len(lengthName))
	if !bytes.EqualFold(b[:n], []byte(lengthName[:n])) {
		return no
	}
	i, digits := len(lengthName), 0
	for ; i < len(b) && (b[i] == ' ' || b[i] == '\t') && i < 40; i++ {
	}
	if i < len(b) && b[i] != ':' {
		return no
	}
	for i++; i < len(b) && (b[i] == ' ' || b[i] == '\t') && i < 60; i++ {
	}
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9' && digits < 20; i++ {
		digits++
	}
	if i < len(b) && b[i] == '\r' {
		i++
	}
	switch {
	case i >= len(b):
		return perhaps
	case b[i] == '\n' && digits > 0:
		return found
	}
	return no
}

// have makes buf hold n unused bytes. Memory grows with what has come, not with what was announced.
func (f *frameReader) have(n int) error {
	for len(f.buf)-f.r < n {
		if err := f.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once more into buf.
func (f *frameReader) fill() error {
	if f.r > 0 && f.r == len(f.buf) {
		f.r, f.buf = 0, f.buf[:0]
		if cap(f.buf) > keepBuffer {
			f.buf = nil
		}
	}
	if len(f.buf) == cap(f.buf) {
		if f.r > 0 && f.r >= len(f.buf)/2 { // make room at the end
			f.buf = f.buf[:copy(f.buf, f.buf[f.r:])]
		} else {
			f.buf = append(make([]byte, 0, max(8<<10, 2*(len(f.buf)-f.r))), f.buf[f.r:]...)
		}
		f.r = 0
	}
	for range 100 {
		n, err := f.src.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// unexpected is err, or for the end of the stream that it came within a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
