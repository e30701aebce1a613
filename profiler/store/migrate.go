package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Versions of the file, and what each one changed:
//
//	1  Two encodings have this version. In the first, which was given up before there was a release,
//	   Meta has no Imported and a series of a chunk no Source; the second is that of version 2.
//	2  All records are in the encoding of this package.
//
// A file of an older version is written anew when it is opened, beside the old one, and then takes its
// place. The old one stays, under the name that BackupOf tells: the sightline that wrote it reads it
// with --store. A file of a newer version is refused.

// BackupOf is where a store of an older version stays when it is written anew. Where that name is taken,
// by an earlier one, a number follows: ".2".
func BackupOf(path string, version int) string { return fmt.Sprintf("%s.version-%d", path, version) }

// ErrOlder says that a store is of an older version and cannot be written anew now, because somebody
// still uses it as it is.
var ErrOlder = errors.New("store is from an older version and in use")

// versionOf is the version of a file; 0 for one that has none, or none that can be read.
func versionOf(db *bolt.DB) (v uint64) {
	_ = db.View(func(tx *bolt.Tx) error {
		if root := tx.Bucket(bucketRoot); root != nil {
			if d, err := unseal(recordFormat, root.Get(keyFormat)); err == nil {
				v = d.uint()
			}
		}
		return nil
	})
	return v
}

// migrate brings the file to the present version. It does nothing if another process has done so. At
// whatever instant it ends, the file is there whole, in one version or the other.
func (s *Store) migrate(from uint64) error {
	const verb = "bring to this version"
	if s.opts.Migrate != nil {
		if err := s.opts.Migrate(s.path, int(from)); err != nil {
			return fail(ErrOlder, err, "open %s: it is a store of version %d, which this sightline first writes anew, and %v", s.path, from, err)
		}
	}
	return s.withFile(verb, true, func(db *bolt.DB) error {
		from := versionOf(db)
		if from == 0 || from >= Version {
			return nil
		}
		if err := s.checkPages(db); err != nil {
			return s.damaged(verb, err)
		}
		if err := s.unused(db, from); err != nil {
			return err
		}
		return s.rewrite(db, func(to *bolt.DB) error { return to.Update(bringToPresent) }, func() error { return s.backUp(int(from)) })
	})
}

// unused refuses while a recorder of an older sightline writes: it could not go on.
func (s *Store) unused(db *bolt.DB, from uint64) error {
	return db.View(func(tx *bolt.Tx) error {
		now := s.now()
		return tx.Bucket(bucketMeta).ForEach(func(k, v []byte) error {
			if m, _, err := decodeAnyMeta(ID(k), v); err == nil && m.recording(now) {
				return fail(ErrOlder, nil, "open %s: it is a store of version %d, which this sightline first writes anew, and process %d, of an older sightline, records into it; wait for that recording to end, or stop it",
					s.path, from, m.writer.pid)
			}
			return nil
		})
	})
}

// backUp keeps the file under the name of its version. The caller holds its lock.
func (s *Store) backUp(version int) error {
	now, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		name := BackupOf(s.path, version)
		if n > 1 {
			name += fmt.Sprintf(".%d", n)
		}
		err := os.Link(s.path, name)
		if errors.Is(err, fs.ErrExist) {
			// A process that was killed before it came to an end may have kept it already.
			if there, err := os.Stat(name); err == nil && os.SameFile(there, now) {
				return nil
			}
			if n < 1000 {
				continue
			}
		}
		for _, without := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK} {
			if errors.Is(err, without) { // a file system that has no hard links, or no more of them
				return s.copyTo(name)
			}
		}
		if err != nil {
			return err
		}
		return syncFolder(filepath.Dir(s.path))
	}
}

// copyTo copies the file to one that does not exist.
func (s *Store) copyTo(name string) (err error) {
	from, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close()
	temp, err := s.temporary()
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	to, err := os.OpenFile(temp, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// bringToPresent changes what a copy of an older file has. Records that are damaged stay as they are:
// whoever reads them is told.
func bringToPresent(tx *bolt.Tx) error {
	first := map[ID]Meta{} // captures in the first encoding
	metas := tx.Bucket(bucketMeta)
	err := metas.ForEach(func(k, v []byte) error {
		if m, old, err := decodeAnyMeta(ID(k), v); err == nil && old {
			first[ID(k)] = m
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, m := range first {
		if b := tx.Bucket(bucketCaptures).Bucket([]byte(id)); b != nil {
			if err := recodeChunks(b, &m); err != nil {
				return err
			}
		}
		if err := metas.Put([]byte(id), m.encode()); err != nil {
			return err
		}
	}
	return putVersion(tx)
}

// decodeAnyMeta decodes a Meta of version 1. The second encoding has a byte more, of 0 or 1, before
// numbers, and a record of one is none of the other, as both are verified to their ends.
func decodeAnyMeta(id ID, record []byte) (m Meta, first bool, err error) {
	m, err = decodeMeta(id, record)
	if err == nil {
		return m, false, nil
	}
	m, err = decodeMetaAs(id, record, true)
	return m, true, err
}

// recodeChunks brings the chunks of a capture from the first encoding to the present one, and m.Bytes
// with them.
func recodeChunks(b *bolt.Bucket, m *Meta) error {
	c := profile.NewCapture(m.Target, m.Start)
	at, old := start(), 0
	for ; ; old++ {
		record := b.Get(chunkKey(old))
		if record == nil {
			break
		}
		if decodeChunkAs(c, &at, record, true) != nil {
			return nil
		}
	}
	m.Bytes = int64(len(b.Get(keySymbols)))
	n := 0
	for at, all := start(), old == 0; !all; n++ {
		var to marks
		to, all = marksOf(c, at, chunkSamples)
		record := encodeChunk(c, at, to, nil, nil)
		at = to
		m.Bytes += int64(len(record))
		if err := b.Put(chunkKey(n), record); err != nil {
			return err
		}
	}
	for ; n < old; n++ {
		if err := b.Delete(chunkKey(n)); err != nil {
			return err
		}
	}
	return nil
}
