package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

// Copy writes all that the store has to a new file at path, without free pages: a store by itself, to
// be kept or opened elsewhere. Files beside it are not copied: captures of heaps keep their stacks, and
// lack their objects. A file that is there is left as it is and the error wraps fs.ErrExist.
// Others may read the store meanwhile, and whoever writes waits. Where it fails nothing is left.
func (s *Store) Copy(path string) (err error) {
	const verb = "copy"
	if err := s.exists(verb); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("copy %s to %s: %w; name another file, or remove that one", s.path, path, fs.ErrExist)
	}
	// Under another name until it is whole.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w; name a file in a folder that can be written", s.path, path, cause(err))
	}
	temp := f.Name()
	f.Close()
	defer os.Remove(temp)
	return s.with(verb, false, func(db *bolt.DB) error {
		to, err := bolt.Open(temp, 0o600, &bolt.Options{NoSync: true, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return err
		}
		err = bolt.Compact(to, db, 64<<20)
		if err == nil {
			err = to.Update(func(tx *bolt.Tx) error {
				if tx.Bucket(bucketSnapshots) == nil {
					return nil
				}
				return tx.DeleteBucket(bucketSnapshots)
			})
		}
		if err == nil {
			err = to.Sync()
		}
		if cerr := to.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			// Not Rename, which would replace a file that has come meanwhile.
			err = os.Link(temp, path)
			if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
				err = os.Rename(temp, path) // a file system without hard links
			}
		}
		switch {
		case err == nil:
			return syncFolder(filepath.Dir(path))
		case noSpace(err):
			return fail(ErrFull, err, "copy %s to %s: no space is left; name a file on another disk", s.path, path)
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("copy %s to %s: %w; name another file", s.path, path, fs.ErrExist)
		}
		return fmt.Errorf("copy %s to %s: %w", s.path, path, cause(err))
	})
}
