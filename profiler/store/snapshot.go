package store

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A capture may have a snapshot beside it: a file of its own, because it is large and is mapped into
// memory. The store does not know what is in it. The capture is what people list, pin, note and
// remove; bucket snapshots says which have a file.
//
// The file is written under another name, and has its own name before the transaction that tells of
// it; it goes after the transaction that no longer does. So whenever a process dies, every row has its
// file, and at worst a file has no row: Check tells of it, and the next snapshot removes it.

// ErrNoSnapshot says that a capture has no snapshot.
var ErrNoSnapshot = errors.New("capture has no snapshot")

const (
	snapshotFolder = ".snapshots" // behind the store's name
	snapshotSuffix = ".heap"
)

func (s *Store) snapshots() string { return s.path + snapshotFolder }

func (s *Store) snapshotPath(id ID) string {
	return filepath.Join(s.snapshots(), string(id)+snapshotSuffix)
}

// A snapshotRow is what bucket snapshots knows of a file.
type snapshotRow struct {
	bytes int64
	sum   uint64 // CRC-32C of the file
}

func (r snapshotRow) encode() []byte {
	e := &encoder{}
	e.int(r.bytes)
	e.uint(r.sum)
	return e.seal(recordSnapshot)
}

func decodeSnapshot(record []byte) (r snapshotRow, err error) {
	d, err := unseal(recordSnapshot, record)
	if err != nil {
		return r, err
	}
	r.bytes, r.sum = d.int(), d.uint()
	if r.bytes < 0 {
		d.fail("a size is negative")
	}
	return r, d.done()
}

// PutSnapshot stores a finished capture under a new id, as Put does, and beside it what write writes.
func (s *Store) PutSnapshot(c *profile.Capture, write func(io.Writer) error) (Meta, error) {
	const verb = "store a snapshot in"
	s.removeOrphans()
	if err := os.MkdirAll(s.snapshots(), 0o700); err != nil {
		return Meta{}, s.explain(verb, err)
	}
	f, err := os.CreateTemp(s.snapshots(), temporarySuffix+"*")
	if err != nil {
		return Meta{}, s.explain(verb, err)
	}
	defer os.Remove(f.Name())
	row, err := writeSummed(f, write)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Meta{}, s.explain(verb, err)
	}
	path := ""
	m, err := s.replace("", c, func(tx *bolt.Tx, id ID) error {
		b, err := tx.CreateBucketIfNotExists(bucketSnapshots)
		if err != nil {
			return err
		}
		path = s.snapshotPath(id)
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
		if err := syncFolder(s.snapshots()); err != nil {
			return err
		}
		return b.Put([]byte(id), row.encode())
	})
	if err != nil && path != "" {
		os.Remove(path)
	}
	return m, err
}

// WriteSummed writes a file that survives a power failure.
func writeSummed(f *os.File, write func(io.Writer) error) (snapshotRow, error) {
	sum := crc32.New(checksums)
	var count counter
	out := bufio.NewWriterSize(io.MultiWriter(f, sum, &count), 1<<20)
	if err := write(out); err != nil {
		return snapshotRow{}, err
	}
	if err := out.Flush(); err != nil {
		return snapshotRow{}, err
	}
	return snapshotRow{int64(count), uint64(sum.Sum32())}, f.Sync()
}

var checksums = crc32.MakeTable(crc32.Castagnoli)

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// SnapshotFile is the path of the file beside a capture. The error wraps ErrNoSnapshot where it has
// none, and ErrNoCapture where there is no such capture. The file may go at any time; who has opened it
// may go on reading it.
func (s *Store) SnapshotFile(id ID) (string, error) {
	const verb = "open a snapshot of"
	found := false
	err := s.view(verb, func(tx *bolt.Tx) error {
		if _, err := s.meta(verb, tx, id); err != nil {
			return err
		}
		b := tx.Bucket(bucketSnapshots)
		found = b != nil && b.Get([]byte(id)) != nil
		return nil
	})
	if err == nil && !found {
		err = fail(ErrNoSnapshot, nil, "open a snapshot of %s: capture %s has none; `sightline heap PID` takes one", s.path, id)
	}
	return s.snapshotPath(id), err
}

// SnapshotRows are the sizes of the snapshots that captures have.
func snapshotRows(tx *bolt.Tx) map[ID]int64 {
	b := tx.Bucket(bucketSnapshots)
	if b == nil {
		return nil
	}
	rows := map[ID]int64{}
	_ = b.ForEach(func(k, v []byte) error {
		row, _ := decodeSnapshot(v) // Check tells of damage
		rows[ID(k)] = row.bytes
		return nil
	})
	return rows
}

// SnapshotBytes is what all files of snapshots take.
func snapshotBytes(tx *bolt.Tx) (sum int64) {
	for _, n := range snapshotRows(tx) {
		sum += n
	}
	return sum
}

// ForgetSnapshots removes the rows of captures that are removed. Their files go with dropSnapshots,
// after the transaction.
func forgetSnapshots(tx *bolt.Tx, gone map[ID]bool) error {
	b := tx.Bucket(bucketSnapshots)
	if b == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		if err := b.Delete([]byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// DropSnapshots removes the files of captures that are no more. One that cannot be removed is an orphan.
func (s *Store) dropSnapshots(ids []ID) {
	for _, id := range ids {
		if _, ok := id.parse(); ok {
			os.Remove(s.snapshotPath(id))
		}
	}
}

// Orphans are the files in the folder of snapshots that no row tells of. Those that a process may be
// about to tell of are not among them.
func (s *Store) orphans(rows map[ID]int64) []string {
	entries, err := os.ReadDir(s.snapshots())
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), snapshotSuffix)
		if _, known := rows[ID(id)]; ok && known {
			continue
		}
		if info, err := e.Info(); err == nil && (ok || time.Since(info.ModTime()) > time.Hour) {
			out = append(out, e.Name())
		}
	}
	return out
}

// RemoveOrphans removes what processes have left that died between a snapshot's file and its row. It
// holds the store's lock, so that none is between the two.
func (s *Store) removeOrphans() {
	if _, err := os.Stat(s.snapshots()); err != nil {
		return
	}
	_ = s.with("tidy", true, func(db *bolt.DB) error {
		return db.View(func(tx *bolt.Tx) error {
			if empty, err := s.version("tidy", tx); err != nil || empty {
				return err
			}
			for _, name := range s.orphans(snapshotRows(tx)) {
				os.Remove(filepath.Join(s.snapshots(), name))
			}
			return nil
		})
	})
}

// CheckSnapshots verifies that rows and files are of each other, and that the files are as they were
// written.
func (s *Store) checkSnapshots(tx *bolt.Tx, known map[ID]bool, p *problems) {
	b := tx.Bucket(bucketSnapshots)
	if b != nil {
		_ = b.ForEach(func(k, v []byte) error {
			row, err := decodeSnapshot(v)
			switch {
			case err != nil:
				p.add("snapshot %s: %w", k, err)
			case !known[ID(k)]:
				p.add("snapshot %s: there is no such capture", k)
			default:
				if err := s.checkSnapshot(ID(k), row); err != nil {
					p.add("snapshot %s: %w", k, err)
				}
			}
			return nil
		})
	}
	for _, name := range s.orphans(snapshotRows(tx)) {
		p.add("%s: no capture has this snapshot; the next one that is taken removes it", filepath.Join(s.snapshots(), name))
	}
}

func (s *Store) checkSnapshot(id ID, row snapshotRow) error {
	f, err := os.Open(s.snapshotPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("its file is missing")
	} else if err != nil {
		return cause(err)
	}
	defer f.Close()
	sum := crc32.New(checksums)
	n, err := io.Copy(sum, f)
	switch {
	case err != nil:
		return cause(err)
	case n != row.bytes:
		return fmt.Errorf("its file has %d bytes and should have %d", n, row.bytes)
	case uint64(sum.Sum32()) != row.sum:
		return errors.New("its file is not what was written")
	}
	return nil
}
