package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxXMLTag bounds one tag with its attributes, and maxXMLText the text between two: a stack of the
	// simple form is one text.
	maxXMLTag  = 1 << 20
	maxXMLText = 64 << 20
	// maxXMLDepth bounds how deep elements may lie in each other.
	maxXMLDepth = 256
)

// An xmlScanner reads XML 1.0 as far as tools write it: elements, attributes, text, CDATA, comments and
// processing instructions; of entities the five predefined and numbers. A document type is refused, so
// that no entity can be defined. Memory is that of the largest tag and text.
type xmlScanner struct {
	r     *bufio.Reader
	line  int
	open  []string // names of the elements that are open
	tag   []byte   // what lies between < and >
	attrs []xmlAttr
	name  []byte // of the element that began or ended; valid until the next call
	text  []byte // of the text; valid until the next call
	empty bool   // the element that began has ended: <a/>
	lt    bool   // the < of the next tag is taken
	begun bool   // a root element was seen
}

type xmlAttr struct{ name, value []byte }

type xmlEvent int

const (
	xmlEnd   xmlEvent = iota // of the element name
	xmlStart                 // of the element name, with attrs
	xmlText                  // text, not empty
)

func newXMLScanner(r io.Reader) *xmlScanner {
	return &xmlScanner{r: bufio.NewReaderSize(r, sniffLen), line: 1}
}

func (s *xmlScanner) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", s.line, fmt.Errorf(format, args...))
}

// next is the next event; io.EOF after the root element.
func (s *xmlScanner) next() (xmlEvent, error) {
	if s.empty {
		s.empty = false
		s.open = s.open[:len(s.open)-1]
		return xmlEnd, nil
	}
	s.text = s.text[:0]
	for {
		if !s.lt {
			if err := s.readText(); err == io.EOF {
				return s.atEnd()
			} else if err != nil {
				return 0, err
			}
			s.lt = true
		}
		c, err := s.r.Peek(1)
		if err != nil {
			return 0, s.early(err)
		}
		if c[0] == '!' || c[0] == '?' {
			s.lt = false
			if err := s.markup(); err != nil {
				return 0, err
			}
			continue // text goes on behind it
		}
		if len(s.text) > 0 && len(s.open) > 0 {
			return xmlText, nil
		}
		if len(bytes.TrimSpace(s.text)) > 0 {
			return 0, s.errorf("there is text outside of the root element")
		}
		s.lt = false
		return s.element()
	}
}

// readText adds what comes before the next < to s.text and takes the <.
func (s *xmlScanner) readText() error {
	from := len(s.text)
	for {
		b, err := s.r.ReadSlice('<')
		s.line += bytes.Count(b, []byte{'\n'})
		s.text = append(s.text, b...)
		if len(s.text) > maxXMLText {
			return s.errorf("a text is longer than %d bytes", maxXMLText)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			if err == io.EOF && len(bytes.TrimSpace(s.text)) == 0 {
				return io.EOF
			}
			return s.early(err)
		}
		break
	}
	s.text = s.text[:len(s.text)-1]
	t, err := s.decode(s.text[from:])
	s.text = s.text[:from+len(t)]
	return err
}

func (s *xmlScanner) early(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("line %d: %w", s.line, err)
}

func (s *xmlScanner) atEnd() (xmlEvent, error) {
	switch {
	case len(s.open) > 0:
		return 0, s.errorf("it ends within <%s>: %w", s.open[len(s.open)-1], io.ErrUnexpectedEOF)
	case !s.begun:
		return 0, errors.New("there is no element")
	}
	return 0, io.EOF
}

// markup reads what begins with <! or <?, of which the < is taken. CDATA is added to the text.
func (s *xmlScanner) markup() error {
	head, err := s.r.Peek(8)
	switch {
	case bytes.HasPrefix(head, []byte("?")):
		return s.until("?>", false)
	case bytes.HasPrefix(head, []byte("!--")):
		s.r.Discard(3)
		return s.until("-->", false)
	case bytes.Equal(head, []byte("![CDATA[")):
		s.r.Discard(8)
		return s.until("]]>", true)
	case err != nil && err != io.EOF:
		return err
	}
	return s.errorf("it has a document type, or other markup that stack files do not use")
}

// until passes over all up to and with end; with keep, what comes before end is added to the text.
func (s *xmlScanner) until(end string, keep bool) error {
	s.tag = s.tag[:0]
	for n := 0; ; {
		b, err := s.r.ReadSlice(end[len(end)-1])
		s.line += bytes.Count(b, []byte{'\n'})
		if n += len(b); n > maxXMLText {
			return s.errorf("a comment or text is longer than %d bytes", maxXMLText)
		}
		if !keep {
			s.tag = append(s.tag[:0], s.tag[max(0, len(s.tag)-len(end)):]...)
		}
		s.tag = append(s.tag, b...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return s.early(err)
		}
		if bytes.HasSuffix(s.tag, []byte(end)) {
			if keep {
				s.text = append(s.text, s.tag[:len(s.tag)-len(end)]...)
			}
			if len(s.text) > maxXMLText {
				return s.errorf("a text is longer than %d bytes", maxXMLText)
			}
			return nil
		}
	}
}

// element reads a tag, of which the < is taken.
func (s *xmlScanner) element() (xmlEvent, error) {
	s.tag = s.tag[:0]
	quote := byte(0)
	for {
		b, err := s.r.ReadSlice('>')
		s.line += bytes.Count(b, []byte{'\n'})
		if len(s.tag)+len(b) > maxXMLTag {
			return 0, s.errorf("a tag is longer than %d bytes", maxXMLTag)
		}
		s.tag = append(s.tag, b...)
		quote = quoteAfter(b, quote)
		if err != nil && err != bufio.ErrBufferFull {
			return 0, s.early(err)
		}
		if err == nil && quote == 0 {
			break
		}
	}
	t := s.tag[:len(s.tag)-1]
	if bytes.HasPrefix(t, []byte("/")) {
		s.name = bytes.TrimRight(t[1:], " \t\r\n")
		if n := len(s.open); n == 0 || s.open[n-1] != string(s.name) {
			return 0, s.errorf("</%.40s> ends an element that is not open", s.name)
		}
		s.open = s.open[:len(s.open)-1]
		return xmlEnd, nil
	}
	if bytes.HasSuffix(t, []byte("/")) {
		t = t[:len(t)-1]
		s.empty = true
	}
	n := bytes.IndexAny(t, " \t\r\n")
	if n < 0 {
		n = len(t)
	}
	s.name = t[:n]
	if !xmlName(s.name) {
		return 0, s.errorf("<%.40s is no tag", s.name)
	}
	if len(s.open) == 0 && s.begun {
		return 0, s.errorf("there is a second root element, <%.40s>", s.name)
	}
	if len(s.open) == maxXMLDepth {
		return 0, s.errorf("elements lie more than %d deep in each other", maxXMLDepth)
	}
	s.begun = true
	s.open = append(s.open, intern(s.name))
	return xmlStart, s.attributes(t[n:])
}

// intern makes strings of the names that occur everywhere without allocating.
func intern(b []byte) string {
	switch string(b) {
	case "Sample":
		return "Sample"
	case "Stack":
		return "Stack"
	case "Frame":
		return "Frame"
	}
	return string(b)
}

func quoteAfter(b []byte, quote byte) byte {
	for len(b) > 0 {
		var i int
		if quote != 0 {
			i = bytes.IndexByte(b, quote)
		} else {
			i = bytes.IndexAny(b, `"'`)
		}
		if i < 0 {
			return quote
		}
		if quote != 0 {
			quote = 0
		} else {
			quote = b[i]
		}
		b = b[i+1:]
	}
	return quote
}

func xmlName(b []byte) bool {
	if len(b) == 0 || b[0] >= '0' && b[0] <= '9' || b[0] == '-' || b[0] == '.' {
		return false
	}
	return !bytes.ContainsAny(b, "<>&\"'=/!?;#()[]{}")
}

func (s *xmlScanner) attributes(t []byte) error {
	s.attrs = s.attrs[:0]
	for {
		t = bytes.TrimLeft(t, " \t\r\n")
		if len(t) == 0 {
			return nil
		}
		eq := bytes.IndexByte(t, '=')
		if eq < 0 {
			return s.errorf("<%.40s> has an attribute without a value", s.name)
		}
		name := bytes.TrimRight(t[:eq], " \t\r\n")
		t = bytes.TrimLeft(t[eq+1:], " \t\r\n")
		if !xmlName(name) || bytes.ContainsAny(name, " \t\r\n") || len(t) < 2 || t[0] != '"' && t[0] != '\'' {
			return s.errorf("<%.40s> has a malformed attribute", s.name)
		}
		end := bytes.IndexByte(t[1:], t[0])
		if end < 0 {
			return s.errorf("<%.40s> has an attribute without an end", s.name)
		}
		value, err := s.decode(t[1 : 1+end])
		if err != nil {
			return err
		}
		s.attrs = append(s.attrs, xmlAttr{name, value})
		t = t[end+2:]
	}
}

// attr is the value of an attribute of the element that began; nil if it has none.
func (s *xmlScanner) attr(name string) []byte {
	for _, a := range s.attrs {
		if string(a.name) == name {
			return a.value
		}
	}
	return nil
}

// decode replaces entities and line ends in place.
func (s *xmlScanner) decode(b []byte) ([]byte, error) {
	i := bytes.IndexAny(b, "&\r")
	if i < 0 {
		return b, nil
	}
	out := b[:i]
	for i < len(b) {
		switch c := b[i]; c {
		case '\r': // XML 1.0, 2.11
			out = append(out, '\n')
			if i++; i < len(b) && b[i] == '\n' {
				i++
			}
		case '&':
			end := bytes.IndexByte(b[i:min(len(b), i+12)], ';')
			if end < 0 {
				return nil, s.errorf("there is an & that begins no entity")
			}
			r, ok := entity(b[i+1 : i+end])
			if !ok {
				return nil, s.errorf("&%s; is not defined", b[i+1:i+end])
			}
			out = utf8.AppendRune(out, r)
			i += end + 1
		default:
			out = append(out, c)
			i++
		}
	}
	return out, nil
}

func entity(b []byte) (rune, bool) {
	switch string(b) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(b) < 2 || b[0] != '#' {
		return 0, false
	}
	digits, base := string(b[1:]), 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune {
		return 0, false
	}
	return rune(n), true
}

// xmlEncoding makes UTF-8 of an XML document whose declaration, or whose first bytes, name another
// encoding. A document with a byte order mark has been decoded before.
func xmlEncoding(in *input) (io.Reader, error) {
	if order := utf16Order(in.head); order != nil {
		return &utf16Reader{r: bufio.NewReader(in), order: order}, nil
	}
	declared := ""
	head := in.head[:min(len(in.head), 256)]
	if end := bytes.Index(head, []byte("?>")); end >= 0 && bytes.HasPrefix(head, []byte("<?xml")) {
		if _, after, ok := bytes.Cut(head[:end], []byte("encoding")); ok {
			declared = strings.ToLower(strings.Trim(string(after), " \t\r\n='\""))
			declared, _, _ = strings.Cut(declared, "\"")
			declared, _, _ = strings.Cut(declared, "'")
		}
	}
	switch declared {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "unicode":
		return in, nil
	case "iso-8859-1", "latin1", "windows-1252":
		return &latin1Reader{r: in}, nil
	}
	return nil, fmt.Errorf("its encoding is %.40s; save it as UTF-8", declared)
}

// latin1Reader makes UTF-8 of ISO 8859-1.
type latin1Reader struct {
	r   io.Reader
	buf [2048]byte
}

func (l *latin1Reader) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	n, err := l.r.Read(l.buf[:min(len(l.buf), len(p)/2)])
	out := p[:0]
	for _, c := range l.buf[:n] {
		out = utf8.AppendRune(out, rune(c))
	}
	return len(out), err
}
