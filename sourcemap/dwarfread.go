package sourcemap

import (
	"bytes"
	"debug/elf"
	"io"
	"path"
	"strings"
	"sync"
)

// A content is a debug section, of which only the parts asked for are read; one that is compressed
// is read as a whole. Offsets outside it give nothing. Any goroutine may read it.
//
// It is read, and not mapped: a program that is built again while its debug information is mapped
// would end this one with SIGBUS.
type content struct {
	r     io.ReaderAt // nil where all is in memory
	all   []byte
	size  uint64
	keep  int               // pages, where it is not maxPages
	mu    sync.Mutex        // guards pages
	pages map[uint64][]byte // what was read, by offset / pageSize
}

const (
	pageSize = 16 << 10
	maxPages = 512     // of one section are kept: 8 MB
	maxNames = 3 << 10 // of one with names, which are anywhere in it: 48 MB
)

// openContent finds a debug section by its name without the leading dot, in its plain form, with
// the ELF compression header, or in the older GNU form (.zdebug_…). A section that is not there is
// empty.
func openContent(f *elf.File, name string) (*content, error) {
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		switch {
		case s.Name == "."+name && s.Flags&elf.SHF_COMPRESSED == 0 && s.ReaderAt != nil:
			return &content{r: s.ReaderAt, size: s.FileSize}, nil
		case s.Name == "."+name || s.Name == ".z"+name:
			data, err := sectionData(s) // debug/elf undoes both compressions
			return &content{all: data, size: uint64(len(data))}, err
		}
	}
	return &content{}, nil
}

// part is the content from at[0] on, of at[1] bytes, as far as there are so many.
func (c *content) part(at [2]uint64) *content {
	if at[0] >= c.size {
		return &content{}
	}
	n := min(at[1], c.size-at[0])
	if c.r == nil {
		return &content{all: c.all[at[0]:][:n:n], size: n}
	}
	return &content{r: io.NewSectionReader(c.r, int64(at[0]), int64(n)), size: n}
}

// bytes is the content from off on, n bytes or up to its end, nil where it cannot be read.
func (c *content) bytes(off, n uint64) []byte {
	if off >= c.size {
		return nil
	}
	n = min(n, c.size-off)
	if c.r == nil {
		return c.all[off : off+n : off+n]
	}
	if n > maxSection {
		return nil
	}
	if n <= pageSize { // most reads: nothing to be careful about
		b := make([]byte, n)
		got, _ := c.r.ReadAt(b, int64(off))
		return b[:got]
	}
	var b []byte
	var last [1]byte
	if got, _ := c.r.ReadAt(last[:], int64(off+n-1)); got == 1 { // the usual case: there is so much
		b = make([]byte, n)
		if got, _ := c.r.ReadAt(b, int64(off)); uint64(got) < n {
			return b[:got]
		}
		return b
	}
	for uint64(len(b)) < n { // a size that lies is noticed before its memory is used
		part := min(n-uint64(len(b)), max(1<<20, uint64(len(b))))
		at := len(b)
		b = append(b, make([]byte, part)...)
		if got, err := c.r.ReadAt(b[at:], int64(off)+int64(at)); uint64(got) < part {
			_ = err // what cannot be read is not there
			return b[:at+got]
		}
	}
	return b
}

// window is the content from off on, at least n bytes unless it ends before, more where they are at
// hand.
func (c *content) window(off, n uint64) []byte {
	if off >= c.size {
		return nil
	}
	if c.r == nil {
		return c.all[off:]
	}
	b := c.rest(off)
	if uint64(len(b)) < n && off+uint64(len(b)) < c.size {
		return c.bytes(off, n)
	}
	return b
}

// rest is the content from off on up to the end of its page.
func (c *content) rest(off uint64) []byte {
	page := off / pageSize
	c.mu.Lock()
	b, ok := c.pages[page]
	c.mu.Unlock()
	if !ok {
		b = c.bytes(page*pageSize, pageSize)
		c.mu.Lock()
		if c.pages == nil || len(c.pages) >= max(c.keep, maxPages) {
			c.pages = map[uint64][]byte{}
		}
		c.pages[page] = b
		c.mu.Unlock()
	}
	if rest := off % pageSize; rest < uint64(len(b)) {
		return b[rest:]
	}
	return nil
}

// maxString bounds a name: templates make names of some ten thousand bytes.
const maxString = 1 << 16

// cstring is the NUL-terminated string at off.
func (c *content) cstring(off uint64) string {
	if c.r != nil && off < c.size {
		b := c.rest(off)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i])
		}
	}
	for n := uint64(256); ; n *= 16 {
		b := c.window(off, n)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i])
		}
		if uint64(len(b)) < n || n >= maxString {
			return ""
		}
	}
}

// A cursor reads the encodings of DWARF. Reading past the end gives zeros and sets bad, which stays
// set: loops end when they see it.
type cursor struct {
	b        []byte
	pos      int
	bad      bool
	big      bool // most significant byte first
	wide     bool // offsets have 8 bytes, not 4
	addrSize int
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b)-c.pos {
		c.bad = true
		c.pos = len(c.b)
		return nil
	}
	b := c.b[c.pos : c.pos+n]
	c.pos += n
	return b
}

func (c *cursor) skip(n uint64) {
	if n > uint64(len(c.b)-c.pos) {
		c.bad = true
		c.pos = len(c.b)
		return
	}
	c.pos += int(n)
}

func (c *cursor) u8() uint8 {
	if c.pos >= len(c.b) {
		c.bad = true
		return 0
	}
	c.pos++
	return c.b[c.pos-1]
}

// uint is an unsigned number of n bytes, n from 1 to 8.
func (c *cursor) uint(n int) uint64 {
	b := c.take(n)
	var v uint64
	if c.big {
		for _, x := range b {
			v = v<<8 | uint64(x)
		}
		return v
	}
	for i, x := range b {
		v |= uint64(x) << (8 * i)
	}
	return v
}

func (c *cursor) u16() uint16 { return uint16(c.uint(2)) }

func (c *cursor) addr() uint64 { return c.uint(c.addrSize) }

func (c *cursor) offset() uint64 {
	if c.wide {
		return c.uint(8)
	}
	return c.uint(4)
}

// uleb is an unsigned LEB128 number (DWARF 5, 7.6); bits beyond 64 are dropped.
func (c *cursor) uleb() uint64 {
	if c.pos < len(c.b) && c.b[c.pos] < 0x80 { // nearly all
		c.pos++
		return uint64(c.b[c.pos-1])
	}
	return c.longULEB()
}

func (c *cursor) longULEB() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		x := c.u8()
		if shift < 64 {
			v |= uint64(x&0x7f) << shift
		}
		if x < 0x80 {
			return v
		}
	}
}

func (c *cursor) sleb() int64 {
	var v int64
	for shift := uint(0); ; {
		x := c.u8()
		if shift < 64 {
			v |= int64(x&0x7f) << shift
		}
		if shift += 7; x < 0x80 {
			if x&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
}

func (c *cursor) cstring() string {
	b := c.b[c.pos:]
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		c.bad = true
		c.pos = len(c.b)
		return ""
	}
	c.pos += i + 1
	return string(b[:i])
}

// length is a unit's length and sets wide by its form (DWARF 5, 7.4).
func (c *cursor) length() uint64 {
	n := c.uint(4)
	c.wide = n == 0xffffffff
	if c.wide {
		return c.uint(8)
	}
	if n >= 0xfffffff0 { // reserved
		c.bad = true
	}
	return n
}

// cleanJoin joins a build's folder and file names. A folder "." is left out: binaries that do not
// tell where they were built say so.
func cleanJoin(dir, name string) string {
	switch {
	case name == "":
		return ""
	case strings.HasPrefix(name, "/") || dir == "" || dir == ".":
	default:
		name = dir + "/" + name
	}
	return path.Clean(name)
}
