package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// bbolt's file does not shrink: what is removed leaves free pages, which later captures fill. So
// the budget is about pages in use, and a file of which more than half is free is written anew.

// Usage is how much a store takes.
type Usage struct {
	Used int64 // bytes of pages in use, and of snapshots
	File int64 // bytes of the file and of snapshots; where it is sparse the disk may hold less
}

// Usage tells how much the store takes.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	err := s.with("measure", false, func(db *bolt.DB) error {
		// Free pages are counted from the tree: a reader does not load the list of free ones.
		return db.View(func(tx *bolt.Tx) error {
			u.File = tx.Size()
			f, err := os.Stat(s.path)
			if err != nil {
				return err
			}
			u.File = f.Size()
			u.Used = treeBytes(tx)
			if empty, err := s.version("measure", tx); err == nil && !empty {
				snapshots := snapshotBytes(tx)
				u.Used, u.File = u.Used+snapshots, u.File+snapshots
			}
			return nil
		})
	})
	return u, err
}

// treeBytes is the size of all pages that are reachable.
func treeBytes(tx *bolt.Tx) int64 {
	var pages int
	var walk func(b *bolt.Bucket)
	walk = func(b *bolt.Bucket) {
		st := b.Stats()
		pages += st.BranchPageN + st.BranchOverflowN + st.LeafPageN + st.LeafOverflowN
	}
	_ = tx.ForEach(func(_ []byte, b *bolt.Bucket) error { walk(b); return nil })
	return int64(pages+4) * int64(os.Getpagesize())
}

// inUse are the bytes of pages in use, and of all pages, after the last commit on db.
func inUse(db *bolt.DB) (used, all int64) {
	_ = db.View(func(tx *bolt.Tx) error { all = tx.Size(); return nil })
	st := db.Stats()
	return all - int64(st.FreePageN+st.PendingPageN)*int64(db.Info().PageSize), all
}

// prune removes the oldest captures until the budget is kept, but never a pinned one, one that is
// being recorded, or the one that was just written. Failing to is no failure of the caller: it will
// be tried again with the next capture.
func (s *Store) prune(db *bolt.DB, written ID) []ID {
	var pruned []ID
	for {
		used, _ := inUse(db)
		_ = db.View(func(tx *bolt.Tx) error { used += snapshotBytes(tx); return nil })
		if s.opts.Budget < 0 || used <= s.opts.Budget {
			return pruned
		}
		var ids []ID
		err := db.Update(func(tx *bolt.Tx) error {
			metas, err := s.metas(tx)
			if err != nil {
				return err
			}
			// Bytes do not count texts and the rest of the last page, so this removes too little
			// rather than too much, and the loop goes round again.
			freed := int64(0)
			for i := 0; i < len(metas) && freed < used-s.opts.Budget; i++ {
				m := &metas[i]
				if m.Pinned || m.Recording || m.ID == written {
					continue
				}
				ids = append(ids, m.ID)
				freed += max(m.Bytes, 1) + m.Snapshot
			}
			if len(ids) == 0 {
				return errNothingToPrune
			}
			return s.remove("make room in", tx, ids, false)
		})
		if err != nil {
			return pruned
		}
		s.dropSnapshots(ids)
		pruned = append(pruned, ids...)
	}
}

var errNothingToPrune = errors.New("nothing to prune")

// Without being asked, a file is written anew only if that is worth it and does not keep others
// waiting for long.
const (
	compactFrom  = 8 << 20   // bytes of file
	compactUntil = 256 << 20 // bytes in use
)

// compactIfEmpty compacts a file that is more than half free. As with prune, the next one tries again.
func (s *Store) compactIfEmpty(db *bolt.DB) {
	used, all := inUse(db)
	if all >= compactFrom && used <= compactUntil && used < all/2 {
		_ = s.compact(db)
	}
}

// Compact writes the file anew without its free pages. Other processes wait meanwhile.
func (s *Store) Compact() error {
	const verb = "compact"
	if err := s.view(verb, func(*bolt.Tx) error { return nil }); err != nil {
		return err
	}
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.with(verb, true, func(db *bolt.DB) error { return s.compact(db) })
}

// compact copies db, whose lock the caller holds, to a file of its own and puts that in its place.
func (s *Store) compact(db *bolt.DB) error { return s.rewrite(db, nil, nil) }

// rewrite copies db, whose lock the caller holds, to a file of its own, without free pages, has change
// work on the copy and puts that in db's place, after before, which sees both. Either may be nil.
// Whoever waits for the lock of the old file notices that the path leads elsewhere (see lock).
func (s *Store) rewrite(db *bolt.DB, change func(*bolt.DB) error, before func() error) (err error) {
	s.removeLeftovers()
	temp, err := s.temporary()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	to, err := bolt.Open(temp, 0o600, &bolt.Options{NoSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = bolt.Compact(to, db, 64<<20)
	if err == nil && change != nil {
		err = change(to)
	}
	if err == nil {
		err = to.Sync()
	}
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	// Sync of bbolt is fdatasync, which need not write the file's size.
	f, err := os.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && before != nil {
		err = before()
	}
	if err == nil {
		err = os.Rename(temp, s.path)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.path))
}

// removeLeftovers removes what processes have left that died while they made or compacted a store.
func (s *Store) removeLeftovers() {
	dir, base := filepath.Split(s.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base+temporarySuffix) {
			continue
		}
		// One that is young may be the store that another process is about to make.
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
