package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

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
// checksum and content, that each capture is whole, that snapshots have their files, and that
// sources, texts and files of snapshots are those that captures name, no more and no fewer. It is nil for a store without a file. The error wraps
// ErrDamaged and says, a line each, what is wrong; at most 20 things.
//
// The lock is taken anew for each capture, so that a recording can go on.
func (s *Store) Check() error {
	const verb = "check"
	var p problems
	var ids []ID
	err := s.with(verb, false, func(db *bolt.DB) error {
		// bbolt's own check runs in a goroutine of its own, where a fault would be the end of this
		// process. So the pages are checked before.
		if err := s.checkPages(db); err != nil {
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
			checkPresets(tx, &p)
			known := make(map[ID]bool, len(ids))
			for _, id := range ids {
				known[id] = true
			}
			s.checkSnapshots(tx, known, &p)
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

// checkCapture reads one capture as Load does, but for texts, and what Load does not look at.
func (s *Store) checkCapture(id ID) error {
	r, err := s.read("check a capture of", id, false)
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
		chunks := 0
		b := captures.Bucket(k)
		_ = b.ForEach(func(name, _ []byte) error {
			if bytes.Equal(name, chunkKey(chunks)) {
				chunks++
			} else if !bytes.Equal(name, keySymbols) {
				p.add("capture %s: nothing belongs at %q", k, name)
			}
			return nil
		})
		if chunks == 0 {
			p.add("capture %s: its tables are missing", k)
		}
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
