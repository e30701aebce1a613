package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// problemsMax bounds how many problems Check tells of.
const problemsMax = 20

// problems gathers what Check finds.
type problems struct{ all []error }

func (p *problems) add(format string, args ...any) {
	if len(p.all) < problemsMax {
		p.all = append(p.all, fmt.Errorf(format, args...))
	}
}

// Check reads all there is and verifies it: the tree of pages, bbolt's own laws, each record's
// checksum and content, that each capture is whole, and that sources and texts are those that
// captures name, no more and no fewer. It is nil for a store without a file. The error wraps
// ErrDamaged and says, a line each, what is wrong; at most 20 things.
//
// The lock is taken anew for each capture, so that a recording can go on.
func (s *Store) Check() error {
	const verb = "check"
	var p problems
	var ids []ID
	err := s.with(verb, false, func(db *bolt.DB) error {
		// bbolt trusts pages, and its check runs in a goroutine of its own, where a fault would be
		// the end of this process. So the pages are checked before.
		f, err := os.Open(s.path)
		if err != nil {
			return err
		}
		defer f.Close()
		h, err := readBoltHeader(f)
		if err != nil {
			return err
		}
		if err := h.checkPages(f); err != nil {
			p.add("%w", err)
			return nil
		}
		return db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				p.add("%w", err)
			}
			empty, err := s.version(verb, tx)
			if err != nil || empty || len(p.all) > 0 {
				return err
			}
			ids = s.checkReferences(tx, &p)
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := s.checkCapture(id)
		if err != nil && !errors.Is(err, ErrNoCapture) {
			p.add("%w", err)
		}
	}
	if len(p.all) == 0 {
		return nil
	}
	all := errors.Join(p.all...)
	return fail(ErrDamaged, all, "check %s: the store is damaged; remove the captures that are named, or restore the file from a backup:\n%v", s.path, all)
}

// checkCapture reads one capture as Load does, and what Load does not look at.
func (s *Store) checkCapture(id ID) error {
	r, err := s.read("check a capture of", id, true)
	if err != nil {
		return err
	}
	if _, err := r.decode(); err != nil {
		return s.damagedCapture("check a capture of", id, err)
	}
	if !r.meta.Interrupted && r.symbols == nil {
		return s.damagedCapture("check a capture of", id, errors.New("its symbols are missing"))
	}
	bytes := int64(len(r.symbols))
	for _, c := range r.chunks {
		bytes += int64(len(c))
	}
	if bytes != r.meta.Bytes {
		return s.damagedCapture("check a capture of", id, fmt.Errorf("it has %d bytes and should have %d", bytes, r.meta.Bytes))
	}
	return nil
}

// checkReferences verifies what lies between captures, and returns those it could read the Meta of.
func (s *Store) checkReferences(tx *bolt.Tx, p *problems) []ID {
	metas, err := s.metas(tx)
	if err != nil {
		p.add("%w", err)
		return nil
	}
	var ids []ID
	known := make(map[ID]bool)
	used := make(map[uint64]bool)
	damaged := false
	for i := range metas {
		m := &metas[i]
		known[m.ID] = true
		if _, ok := m.ID.parse(); !ok {
			p.add("capture %q: its id is none", m.ID)
		}
		if _, err := decodeMeta(m.ID, tx.Bucket(bucketMeta).Get([]byte(m.ID))); err != nil {
			p.add("capture %s: %w", m.ID, err)
			damaged = true
			continue
		}
		ids = append(ids, m.ID)
		for _, n := range m.sources {
			used[n] = true
		}
	}
	captures := tx.Bucket(bucketCaptures)
	_ = captures.ForEach(func(k, v []byte) error {
		if v != nil || !known[ID(k)] {
			p.add("capture %q has content and is not listed", k)
			return nil
		}
		chunks, keys := 0, 0
		b := captures.Bucket(k)
		_ = b.ForEach(func(name, _ []byte) error {
			if bytes.Equal(name, chunkKey(chunks)) {
				chunks++
			} else if !bytes.Equal(name, keySymbols) {
				p.add("capture %s: nothing belongs at %q", k, name)
			}
			keys++
			return nil
		})
		return nil
	})
	texts := make(map[[sha256.Size]byte]bool)
	_ = tx.Bucket(bucketSources).ForEach(func(k, v []byte) error {
		x, err := decodeSource(v)
		switch {
		case len(k) != 8:
			p.add("source %x: its key is no number", k)
			return nil
		case err != nil:
			p.add("source %x: %w", k, err)
			damaged = true
			return nil
		case !used[binary.BigEndian.Uint64(k)] && !damaged:
			p.add("source %x: no capture names %s", k, x.path)
		}
		if x.hasText {
			texts[x.hash] = true
			if tx.Bucket(bucketTexts).Get(x.hash[:]) == nil {
				p.add("source %x: the text of %s is missing", k, x.path)
			}
		}
		return nil
	})
	_ = tx.Bucket(bucketTexts).ForEach(func(k, v []byte) error {
		text, err := decodeText(v)
		sum := sha256.Sum256(text)
		switch {
		case err != nil:
			p.add("text %x: %w", k, err)
		case !bytes.Equal(sum[:], k):
			p.add("text %x: it is the text %x", k, sum)
		case !texts[sum] && !damaged:
			p.add("text %x: no source has it", k)
		}
		return nil
	})
	return ids
}

// checkPages walks the tree of pages by reading the file, not through bbolt, and verifies all that
// bbolt relies on when it follows them: that pages exist, are of their kind and are met once, and
// that elements lie in their pages.
//
// The layouts are those of bbolt's internal/common: a branch element is pos 4 · key size 4 · page
// 8, a leaf element flags 4 · pos 4 · key size 4 · value size 4, positions count from the element;
// a bucket's value is root page 8 · sequence 8, and a page of its own where the root is 0.
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
		more, err := p.children(p.data)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		next = slices.Concat(next, more)
	}
	return nil
}

// children verifies the elements of a branch or leaf page whose bytes are data and returns the
// pages they name.
func (p boltPage) children(data []byte) ([]uint64, error) {
	le := binary.LittleEndian
	const element = 16
	if pageHeader+p.count*element > len(data) {
		return nil, fmt.Errorf("%d elements do not fit", p.count)
	}
	var out []uint64
	for i := range p.count {
		at := pageHeader + i*element
		e := data[at:]
		switch p.flags {
		case flagBranch:
			if pos, size := uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])); uint64(at)+pos+size > uint64(len(data)) {
				return nil, fmt.Errorf("element %d goes beyond the end", i)
			}
			out = append(out, le.Uint64(e[8:]))
		case flagLeaf:
			pos, key, value := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
			if uint64(at)+pos+key+value > uint64(len(data)) {
				return nil, fmt.Errorf("element %d goes beyond the end", i)
			}
			if le.Uint32(e)&1 == 0 { // not a bucket
				continue
			}
			v := data[uint64(at)+pos+key:][:value]
			if len(v) < 16 {
				return nil, fmt.Errorf("bucket %d is cut off", i)
			}
			if root := le.Uint64(v); root != 0 {
				out = append(out, root)
				continue
			}
			// A small bucket is a leaf page inside the value. bbolt puts no buckets into those.
			v = v[16:]
			if len(v) < pageHeader {
				return nil, fmt.Errorf("bucket %d is cut off", i)
			}
			in := boltPage{flags: le.Uint16(v[8:]), count: int(le.Uint16(v[10:]))}
			if in.flags != flagLeaf {
				return nil, fmt.Errorf("bucket %d holds no leaf page", i)
			}
			more, err := in.children(v)
			if err != nil {
				return nil, fmt.Errorf("bucket %d: %w", i, err)
			}
			if len(more) > 0 {
				return nil, fmt.Errorf("bucket %d is small and holds buckets", i)
			}
		default:
			return nil, fmt.Errorf("flags %#x are of no page", p.flags)
		}
	}
	return out, nil
}
