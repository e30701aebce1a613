package goruntime

import (
	"encoding/binary"
	"io"
	"slices"
	"sync/atomic"
)

const (
	memoryPage = 4096
	// maxPages bounds the cache: 64 MB, enough for the spans of a heap of several gigabytes.
	maxPages = 16 << 10
)

// memory reads an image page by page and keeps the pages: the runtime's structures lie close together,
// and a system call for each of their fields would cost a hundred times what they do.
type memory struct {
	r     io.ReaderAt
	pages map[uint64][]byte // by page number; nil is one that cannot be read
	// holes are bytes of copies around what cannot be read.
	holes atomic.Int64
}

func newMemory(r io.ReaderAt) *memory { return &memory{r: r, pages: map[uint64][]byte{}} }

func (m *memory) page(number uint64) []byte {
	if p, ok := m.pages[number]; ok {
		return p
	}
	if len(m.pages) >= maxPages {
		clear(m.pages)
	}
	if number > 1<<51 { // above what an int64 can address
		return nil
	}
	p := make([]byte, memoryPage)
	if n, _ := m.r.ReadAt(p, int64(number*memoryPage)); n < memoryPage {
		p = nil
	}
	m.pages[number] = p
	return p
}

// read fills p from an address, or says that not all of it can be read.
func (m *memory) read(p []byte, at uint64) bool {
	for len(p) > 0 {
		page := m.page(at / memoryPage)
		if page == nil {
			return false
		}
		n := copy(p, page[at%memoryPage:])
		p, at = p[n:], at+uint64(n)
	}
	return true
}

// direct is read past the cache, for what is looked at once.
func (m *memory) direct(p []byte, at uint64) bool {
	if at > 1<<62 {
		return false
	}
	n, _ := m.r.ReadAt(p, int64(at))
	return n == len(p)
}

// uint is a little-endian number of 1, 2, 4 or 8 bytes.
func (m *memory) uint(at, size uint64) (uint64, bool) {
	var b [8]byte
	if size == 0 || size > 8 || !m.read(b[:size], at) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[:]), true
}

// Refresh forgets what was read, so that what is read next is as it is then.
func (r *Runtime) Refresh() { clear(r.mem.pages) }

// A viewer is an image that can show memory without copying it: the bytes of a range that lies in one
// piece of it, else nil. Nobody writes to them.
type viewer interface {
	Bytes(addr, n uint64) []byte
}

// maxHoles bounds what view takes for memory that is not there, because an image that is damaged claims
// any size.
const maxHoles = 1 << 30

// view is n bytes of memory: as the image has them, or a copy. What cannot be read is zero; ok is false
// where that is the first page. It may be called by several goroutines.
func (m *memory) view(at, n uint64) (b []byte, ok bool) {
	if at > 1<<62 || n == 0 {
		return nil, false
	}
	if v, is := m.r.(viewer); is {
		if b := v.Bytes(at, n); b != nil {
			return b, true
		}
	}
	first := make([]byte, min(n, memoryPage))
	if !m.fill(first, at) {
		return nil, false
	}
	const piece = 1 << 20
	b = make([]byte, 0, min(n, piece))
	for uint64(len(b)) < n {
		from := uint64(len(b))
		b = slices.Grow(b, int(min(n-from, piece)))[:min(n, from+piece)]
		if m.direct(b[from:], at+from) {
			continue // it takes the memory that there is
		}
		if left := n - from; left > maxHoles || m.holes.Add(int64(left)) > maxHoles {
			return nil, false
		}
		all := make([]byte, n) // what is not written to takes no memory
		copy(all, b[:from])
		for ; from < n; from += piece {
			m.fill(all[from:min(n, from+piece)], at+from)
		}
		return all, true
	}
	return b, true
}

// fill reads what of p, which is zero, can be read: page by page where it is not all; false where it is
// nothing of the first page.
func (m *memory) fill(p []byte, at uint64) bool {
	if m.direct(p, at) {
		return true
	}
	first := true
	for i := 0; i < len(p); {
		n := min(len(p)-i, int(memoryPage-(at+uint64(i))%memoryPage))
		if !m.direct(p[i:i+n], at+uint64(i)) {
			first = first && i > 0
		}
		i += n
	}
	return first
}
