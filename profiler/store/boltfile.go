package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt's file, as far as it has to be understood before bbolt may map it: pages of pageSize bytes,
// the first two of them meta pages. See bbolt's internal/common/page.go and meta.go. Numbers are in
// the machine's order, which on every machine we build for is little endian.
//
//	page header   id 8 · flags 2 · count 2 · overflow 4
//	meta page     magic 4 · version 4 · page size 4 · flags 4 · root page 8 · root sequence 8 ·
//	              free list's page 8 · pages in use 8 · transaction 8 · FNV-1a of all that 8
const (
	pageHeader  = 16
	metaLength  = 64
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	// noFreelist stands for a file whose free pages are not listed.
	noFreelist = ^uint64(0)
)

// A boltHeader is a valid meta page.
type boltHeader struct {
	pageSize uint64
	root     uint64 // page
	freelist uint64 // page, or noFreelist
	pages    uint64 // high-water mark: pages below it may be in use
	txid     uint64 // grows by one with each commit
}

var (
	errNotBolt = errors.New("no meta page is valid")
	errCut     = errors.New("the file is shorter than its content")
)

// readBoltHeader is the newest valid meta page of a file. The error wraps errNotBolt or is one of
// reading.
func readBoltHeader(r io.ReaderAt) (boltHeader, error) {
	var best boltHeader
	found := false
	see := func(h boltHeader, ok bool) {
		if ok && (!found || h.txid > best.txid) {
			best, found = h, true
		}
	}
	first, ok := readMetaPage(r, 0)
	see(first, ok)
	if ok {
		see(readMetaPage(r, int64(first.pageSize)))
		return best, nil
	}
	// The first is torn, so the page size is not known: the sizes bbolt itself looks for.
	for size := int64(1 << 10); size <= 16<<20; size <<= 1 {
		if h, ok := readMetaPage(r, size); ok && h.pageSize == uint64(size) {
			return h, nil
		}
	}
	return best, errNotBolt
}

func readMetaPage(r io.ReaderAt, at int64) (boltHeader, bool) {
	var b [pageHeader + metaLength]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return boltHeader{}, false
	}
	m := b[pageHeader:]
	le := binary.LittleEndian
	sum := fnv.New64a()
	sum.Write(m[:56])
	h := boltHeader{
		pageSize: uint64(le.Uint32(m[8:])),
		root:     le.Uint64(m[16:]),
		freelist: le.Uint64(m[32:]),
		pages:    le.Uint64(m[40:]),
		txid:     le.Uint64(m[48:]),
	}
	return h, le.Uint32(m) == boltMagic && le.Uint32(m[4:]) == boltVersion && le.Uint64(m[56:]) == sum.Sum64() &&
		h.pageSize >= 1<<10 && h.pageSize <= 16<<20 && h.pageSize&(h.pageSize-1) == 0
}

// check verifies what bbolt relies on while it opens a file of size bytes: that all pages are
// there and, since it reads that before it writes, that the list of free pages is one.
func (h boltHeader) check(r io.ReaderAt, size int64, write bool) error {
	if h.pages > uint64(size)/h.pageSize {
		return fmt.Errorf("%w: it has %d bytes and needs %d", errCut, size, h.pages*h.pageSize)
	}
	if h.root < 2 || h.root >= h.pages {
		return fmt.Errorf("its root page %d does not exist", h.root)
	}
	if !write || h.freelist == noFreelist {
		return nil
	}
	p, err := h.page(r, h.freelist)
	if err != nil {
		return err
	}
	_, err = p.free(h)
	return err
}

// A boltPage is a page with its overflow pages.
type boltPage struct {
	id    uint64
	flags uint16
	count int
	span  uint64 // pages it covers, at least 1
	size  uint64 // bytes of those
	data  []byte // the beginning, header included
	more  io.ReaderAt
}

// page reads one page and verifies that it lies in the file and knows its own number.
func (h boltHeader) page(r io.ReaderAt, id uint64) (boltPage, error) {
	if id < 2 || id >= h.pages {
		return boltPage{}, fmt.Errorf("page %d does not exist", id)
	}
	data := make([]byte, h.pageSize)
	if _, err := r.ReadAt(data, int64(id*h.pageSize)); err != nil {
		return boltPage{}, fmt.Errorf("page %d: %w", id, err)
	}
	le := binary.LittleEndian
	p := boltPage{id: id, flags: le.Uint16(data[8:]), count: int(le.Uint16(data[10:])), span: uint64(le.Uint32(data[12:])) + 1, data: data}
	if got := le.Uint64(data); got != id {
		return p, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	if p.span > h.pages-id {
		return p, fmt.Errorf("page %d goes beyond the end", id)
	}
	p.size = p.span * h.pageSize
	p.more = io.NewSectionReader(r, int64(id*h.pageSize), int64(p.size))
	return p, nil
}

// read is n bytes of a page.
func (p boltPage) read(at, n uint64) ([]byte, error) {
	if at+n > p.size {
		return nil, fmt.Errorf("%d bytes at %d do not fit", n, at)
	}
	if at+n <= uint64(len(p.data)) {
		return p.data[at : at+n], nil
	}
	b := make([]byte, n)
	_, err := p.more.ReadAt(b, int64(at))
	return b, err
}

// free lists the pages that a free list names. Where there are 65,535 or more, their number
// stands first.
func (p boltPage) free(h boltHeader) ([]uint64, error) {
	if p.flags != flagFreelist {
		return nil, fmt.Errorf("its list of free pages is not at page %d", p.id)
	}
	n, at := uint64(p.count), uint64(pageHeader)
	le := binary.LittleEndian
	if n == 0xFFFF {
		b, err := p.read(at, 8)
		if err != nil {
			return nil, err
		}
		n, at = le.Uint64(b), at+8
	}
	if n > (p.size-at)/8 {
		return nil, fmt.Errorf("its list of %d free pages is longer than its page", n)
	}
	ids, err := p.read(at, 8*n)
	if err != nil {
		return nil, err
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = le.Uint64(ids[8*i:])
		if out[i] < 2 || out[i] >= h.pages {
			return nil, fmt.Errorf("page %d is listed as free and does not exist", out[i])
		}
	}
	return out, nil
}
