package store

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// checkPages verifies what bbolt relies on when it follows pages. bbolt believes all it reads: of a
// damaged page it would make a panic or a fault, which can be caught, or a walk in a circle until
// the stack overflows, which cannot. Open does this once; later changes are bbolt's own.
func (s *Store) checkPages(db *bolt.DB) error {
	f, err := os.Open(db.Path())
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := readBoltHeader(f)
	if err != nil {
		return err
	}
	return h.checkPages(f)
}

// checkPages walks the tree of pages by reading the file, not through bbolt, and verifies that pages
// exist, are of their kind and are met once, and that elements lie in their pages. It reads neither
// keys nor values, but for buckets.
//
// The layouts are those of bbolt's internal/common: a branch element is pos 4 · key size 4 · page
// 8, a leaf element flags 4 · pos 4 · key size 4 · value size 4, positions count from the element;
// a bucket's value is root page 8 · sequence 8, and then a page of its own where the root is 0.
func (h boltHeader) checkPages(r io.ReaderAt) error {
	seen := make([]bool, h.pages)
	see := func(p boltPage) error {
		for i := range p.span {
			if seen[p.id+i] {
				return fmt.Errorf("page %d is used twice", p.id+i)
			}
			seen[p.id+i] = true
		}
		return nil
	}
	if h.freelist != noFreelist {
		p, err := h.page(r, h.freelist)
		if err != nil {
			return err
		}
		if err := see(p); err != nil {
			return err
		}
		free, err := p.free(h)
		if err != nil {
			return err
		}
		for _, id := range free {
			if seen[id] {
				return fmt.Errorf("page %d is used and free", id)
			}
			seen[id] = true
		}
	}
	// The pages that are still to be read; no recursion, so that no chain of pages is too deep.
	next := []uint64{h.root}
	for len(next) > 0 {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		p, err := h.page(r, id)
		if err != nil {
			return err
		}
		if err := see(p); err != nil {
			return err
		}
		if next, err = p.children(next); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	return nil
}

// children verifies the elements of a branch or leaf page and appends the pages they name to out.
func (p boltPage) children(out []uint64) ([]uint64, error) {
	const element = 16
	table, err := p.read(pageHeader, uint64(p.count)*element)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	for i := range p.count {
		e, at := table[i*element:], pageHeader+uint64(i)*element
		switch p.flags {
		case flagBranch:
			if at+uint64(le.Uint32(e))+uint64(le.Uint32(e[4:])) > p.size {
				return nil, fmt.Errorf("element %d goes beyond the end", i)
			}
			out = append(out, le.Uint64(e[8:]))
		case flagLeaf:
			at += uint64(le.Uint32(e[4:])) + uint64(le.Uint32(e[8:]))
			value := uint64(le.Uint32(e[12:]))
			if at+value > p.size {
				return nil, fmt.Errorf("element %d goes beyond the end", i)
			}
			if le.Uint32(e)&1 == 0 {
				continue
			}
			v, err := p.read(at, value)
			if err != nil {
				return nil, err
			}
			if out, err = bucketPages(v, out); err != nil {
				return nil, fmt.Errorf("bucket %d: %w", i, err)
			}
		}
	}
	if p.flags != flagBranch && p.flags != flagLeaf {
		return nil, fmt.Errorf("flags %#x are of no such page", p.flags)
	}
	if p.flags == flagBranch && p.count == 0 {
		return nil, fmt.Errorf("it leads nowhere")
	}
	return out, nil
}

// bucketPages verifies the value of a bucket and appends its root page, if it has one, to out.
func bucketPages(v []byte, out []uint64) ([]uint64, error) {
	const header = 16
	if len(v) < header {
		return nil, fmt.Errorf("it is cut off")
	}
	le := binary.LittleEndian
	if root := le.Uint64(v); root != 0 {
		return append(out, root), nil
	}
	// A small bucket is a leaf page inside the value. bbolt puts no buckets into those.
	v = v[header:]
	if len(v) < pageHeader {
		return nil, fmt.Errorf("it is cut off")
	}
	in := boltPage{flags: le.Uint16(v[8:]), count: int(le.Uint16(v[10:])), size: uint64(len(v)), data: v}
	if in.flags != flagLeaf {
		return nil, fmt.Errorf("it holds no leaf page")
	}
	more, err := in.children(nil)
	if err == nil && len(more) > 0 {
		err = fmt.Errorf("it is small and holds buckets")
	}
	return out, err
}
