package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// lock opens the file and waits for its lock. It returns errNoStore where there is nothing to read;
// to write, it makes what is missing. The file it returns has been verified as far as bbolt needs
// to open it.
//
// The lock is flock(2) on the file itself, the one bbolt uses. Compact puts another file in the
// place of this one, so whoever gets a lock verifies that the path still leads to the file that was
// locked.
func (s *Store) lock(verb string, write bool) (*os.File, error) {
	deadline := time.Now().Add(s.opts.Wait)
	for {
		f, err := s.openFile(verb, write)
		if err != nil {
			return nil, err
		}
		f, err = s.lockFile(verb, f, write, deadline)
		if f != nil || err != nil {
			return f, err
		}
	}
}

// openFile opens the file, and makes it if it is to be written.
func (s *Store) openFile(verb string, write bool) (*os.File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	for range 100 { // another process may remove the file after we made it, but not for ever
		// O_NONBLOCK so that a named pipe in the file's place is refused and not waited for.
		f, err := os.OpenFile(s.path, flag|syscall.O_NONBLOCK, 0)
		switch {
		case err == nil:
			info, err := f.Stat()
			if err == nil && !info.Mode().IsRegular() {
				err = fail(ErrForeign, nil, "%s %s: it is not a file; move it away to begin a new store", verb, s.path)
			}
			if err != nil {
				f.Close()
				return nil, s.explain(verb, err)
			}
			return f, nil
		case errors.Is(err, syscall.EISDIR):
			return nil, fail(ErrForeign, err, "%s %s: it is a folder; move it away to begin a new store", verb, s.path)
		case errors.Is(err, fs.ErrNotExist) && !write:
			return nil, errNoStore
		case !errors.Is(err, fs.ErrNotExist):
			return nil, s.explain(verb, err)
		}
		if err := s.create(false); err != nil {
			return nil, s.explain(verb, err)
		}
	}
	return nil, fmt.Errorf("%s %s: the file disappears as soon as it is made; another program removes it", verb, s.path)
}

// lockFile returns nil without an error where the file is no longer the store.
func (s *Store) lockFile(verb string, f *os.File, write bool, deadline time.Time) (_ *os.File, err error) {
	ok := false
	defer func() {
		if !ok {
			f.Close()
		}
	}()
	how := syscall.LOCK_SH | syscall.LOCK_NB
	if write {
		how = syscall.LOCK_EX | syscall.LOCK_NB
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			break
		}
		if err == syscall.EINTR {
			continue
		}
		if err != syscall.EWOULDBLOCK {
			return nil, fmt.Errorf("%s %s: its file system cannot lock files (%w); set XDG_STATE_HOME to a folder on one that can", verb, s.path, err)
		}
		if !time.Now().Before(deadline) {
			return nil, s.busy(verb, f)
		}
		time.Sleep(min(pause, max(0, time.Until(deadline))))
	}
	locked, err := f.Stat()
	if err != nil {
		return nil, s.explain(verb, err)
	}
	if now, err := os.Stat(s.path); err != nil || !os.SameFile(locked, now) {
		return nil, nil
	}
	if locked.Size() == 0 {
		// Whoever made it died before it wrote anything, or touched it.
		if !write {
			return nil, errNoStore
		}
		if err := s.create(true); err != nil {
			return nil, s.explain(verb, err)
		}
		return nil, nil
	}
	h, err := readBoltHeader(f)
	if err != nil {
		if boltLike(f) {
			return nil, s.damaged(verb, err)
		}
		return nil, s.foreign(verb, err)
	}
	if err := h.check(f, locked.Size(), write); err != nil {
		return nil, s.damaged(verb, err)
	}
	ok = true
	return f, nil
}

// boltLike says that f begins as a bbolt file does.
func boltLike(f *os.File) bool {
	var b [pageHeader + 4]byte
	n, _ := f.ReadAt(b[:], 0)
	return n == len(b) && string(b[pageHeader:]) == "\xed\xda\x0c\xed"
}

// create makes an empty store beside the path and moves it there whole, so that no other process
// and no crash ever sees half of one. A file that exists is left alone, unless replace says that
// the caller holds its lock and it is empty.
func (s *Store) create(replace bool) (err error) {
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if s.opts.Workspace != "" {
		name := filepath.Join(dir, WorkspaceFile)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(name, []byte(s.opts.Workspace+"\n"), 0o600); err != nil {
				return err
			}
		}
	}
	temp, err := s.temporary()
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	db, err := bolt.Open(temp, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(initialize)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if replace {
		err = os.Rename(temp, s.path)
	} else if err = os.Link(temp, s.path); errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	} else if err != nil {
		// A file system without links. Two processes that make one store at the same instant may
		// lose what the faster one has stored in that instant.
		err = os.Rename(temp, s.path)
	}
	if err != nil {
		return err
	}
	return syncFolder(dir)
}

// temporary makes an empty file of mode 0600 beside the store.
func (s *Store) temporary() (string, error) {
	f, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+temporarySuffix+"*")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

const temporarySuffix = ".new-"

// syncFolder makes a rename survive a power failure.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// busy names who holds the file's lock.
func (s *Store) busy(verb string, f *os.File) error {
	who := "another process"
	if h := holders(f); len(h) > 0 {
		who = h[0].String()
		if len(h) > 1 {
			who += fmt.Sprintf(" and %d more", len(h)-1)
		}
	}
	return fail(ErrBusy, nil, "%s %s: %s has held the file for %v; wait for it to end, or stop it", verb, s.path, who, s.opts.Wait)
}
