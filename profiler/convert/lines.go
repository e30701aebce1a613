package convert

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxLine is the longest line that is read; what is longer is no profile's line.
const maxLine = 64 << 20

// A lineReader gives an input line by line, with bounded memory.
type lineReader struct {
	r    *bufio.Reader
	line []byte
	n    int  // lines so far
	long bool // the line was longer than maxLine, and is its beginning
	cut  bool // the file ends within a compressed stream
	err  error
}

func (in *input) lines() *lineReader {
	return &lineReader{r: bufio.NewReaderSize(in, sniffLen)}
}

// next goes to the next line; at the end, or at an error, it is false.
func (l *lineReader) next() bool {
	l.line, l.long = l.line[:0], false
	for l.err == nil {
		part, err := l.r.ReadSlice('\n')
		if room := maxLine - len(l.line); len(part) > room {
			part, l.long = part[:room], true
		}
		l.line = append(l.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.ErrUnexpectedEOF):
			l.cut, l.err = true, io.EOF
		case err != nil:
			l.err = err
		}
		if err == nil || len(l.line) > 0 {
			l.n++
			l.line = bytes.TrimSuffix(bytes.TrimSuffix(l.line, []byte("\n")), []byte("\r"))
			return true
		}
	}
	return false
}

// error is why the reading ended, nil at the end of the file.
func (l *lineReader) error() error {
	if l.err == io.EOF {
		return nil
	}
	return l.err
}
