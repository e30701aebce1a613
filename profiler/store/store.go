// Package store keeps captures in a bbolt file: what was recorded, the frames it stands for and the
// source texts as they were, so that a capture can be read when the program, its sources and the
// machine have changed.
//
// It knows how a capture is encoded, found, checked and thrown away. It does not know how one is
// recorded or symbolized, nor what a person wants to see of it.
//
// # The file
//
// Buckets, and what their keys stand for:
//
//	sightline  "format" → version of the file
//	meta       capture's id → Meta, with the numbers of its sources
//	captures   capture's id → bucket of "chunk" + number (big endian) and "symbols"
//	sources    number (big endian) → path, local path, note, SHA-256 of the text
//	texts      SHA-256 → text
//	presets    name → the words of whoever saved it; made with the first one
//	snapshots  capture's id → size and checksum of the file beside it; made with the first one
//
// Captures share sources and texts; both go when the last capture that names them goes, in the same
// transaction. Every value is a record with a checksum (record.go).
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Version is the version of the file that this package writes, and the newest that it reads.
const Version = 2

// The kinds of failure that callers tell apart with errors.Is. The errors that wrap them say what
// was attempted, on which file, why it did not work and what to do, in one sentence.
var (
	ErrNoCapture = errors.New("no such capture")
	ErrAmbiguous = errors.New("more than one capture has this name")
	ErrRecording = errors.New("capture is being recorded")
	ErrBusy      = errors.New("store is held by another process")
	ErrNewer     = errors.New("store is from a newer version")
	ErrForeign   = errors.New("file is not a store")
	ErrDamaged   = errors.New("store is damaged")
	ErrFull      = errors.New("no space left")
	ErrReadOnly  = errors.New("store may not be written")
)

// A failure is an error with a sentence of its own, found by its kind and its cause.
type failure struct {
	text  string
	kind  error
	cause error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

func fail(kind, cause error, format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...), kind: kind, cause: cause}
}

// Options of Open. The zero value works.
type Options struct {
	// Wait is how long a call waits for another process to let go of the file; 5 seconds if 0.
	Wait time.Duration
	// Budget is how many bytes the file may use before the oldest unpinned captures are removed
	// to make room; 2 GiB if 0, without limit if negative.
	Budget int64
	// Workspace is the folder the captures belong to. Where it is set, its path is written to the
	// file WorkspaceFile beside the store when that is made, for people who look.
	Workspace string
	// Migrate is asked before a file of an older version is written anew, by that version; its error,
	// the rest of a sentence that begins with what is attempted, refuses it. It may wait for others to
	// let go of the store. Where it is nil nobody is asked.
	Migrate func(path string, version int) error
	// Getenv is the environment in which OpenWorkspace finds the file; os.Getenv if nil.
	Getenv func(string) string
}

// WorkspaceFile is the name of the file beside a store that holds its workspace's path.
const WorkspaceFile = "path"

// A Store is a file of captures. It holds no lock and no open file between calls: each call opens
// the file, waits for its lock (shared to read, exclusive to write), works and lets go. So any
// number of processes may use one file, and all methods may be called concurrently.
type Store struct {
	path string
	opts Options
	now  func() time.Time
}

// Open is the store at path, which need not exist: the file, and folders of mode 0700 for it, are
// made at the first write. A file that is there must be a store of ours, whole and of a version
// that we know: otherwise the error wraps ErrForeign, ErrDamaged or ErrNewer, and nothing is
// changed. One of an older version is written anew, and stays as it was beside the new one (BackupOf);
// the error wraps ErrOlder while somebody uses it who knows only that version.
func Open(path string, opts Options) (*Store, error) {
	if opts.Wait == 0 {
		opts.Wait = 5 * time.Second
	}
	if opts.Budget == 0 {
		opts.Budget = 2 << 30
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s := &Store{path: path, opts: opts, now: time.Now}
	const verb = "open"
	older := uint64(0)
	err = s.withFile(verb, false, func(db *bolt.DB) error {
		if err := s.checkPages(db); err != nil {
			return s.damaged(verb, err)
		}
		if v := versionOf(db); v > 0 && v < Version {
			older = v
			return nil
		}
		return db.View(func(tx *bolt.Tx) error {
			_, err := s.version(verb, tx)
			return err
		})
	})
	if err == nil && older > 0 {
		err = s.migrate(older)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Path is the file.
func (s *Store) Path() string { return s.path }

// Names of buckets and keys.
var (
	bucketRoot      = []byte("sightline")
	bucketMeta      = []byte("meta")
	bucketCaptures  = []byte("captures")
	bucketSources   = []byte("sources")
	bucketTexts     = []byte("texts")
	bucketPresets   = []byte("presets")
	bucketSnapshots = []byte("snapshots")
	keyFormat       = []byte("format")
	keyChunk        = []byte("chunk")
	keySymbols      = []byte("symbols")
)

func chunkKey(n int) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), keyChunk...), uint32(n))
}

// view runs fn in a transaction on the file as it is. fn is not called where there is no file, or
// nothing in it: to readers that is a store without captures. verb says what was attempted.
func (s *Store) view(verb string, fn func(*bolt.Tx) error) error {
	return s.with(verb, false, func(db *bolt.DB) error {
		return db.View(func(tx *bolt.Tx) error {
			if empty, err := s.version(verb, tx); empty || err != nil {
				return err
			}
			return fn(tx)
		})
	})
}

// update runs fn in a transaction that is committed if fn returns nil; otherwise the file is as it
// was.
func (s *Store) update(verb string, fn func(*bolt.Tx) error) error {
	return s.with(verb, true, func(db *bolt.DB) error { return s.updateIn(db, verb, fn) })
}

func (s *Store) updateIn(db *bolt.DB, verb string, fn func(*bolt.Tx) error) error {
	return db.Update(func(tx *bolt.Tx) error {
		if empty, err := s.version(verb, tx); err != nil {
			return err
		} else if empty {
			if err := initialize(tx); err != nil {
				return err
			}
		}
		return fn(tx)
	})
}

// initialize makes the buckets of an empty store.
func initialize(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketRoot, bucketMeta, bucketCaptures, bucketSources, bucketTexts} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return putVersion(tx)
}

func putVersion(tx *bolt.Tx) error {
	e := &encoder{}
	e.uint(Version)
	return tx.Bucket(bucketRoot).Put(keyFormat, e.seal(recordFormat))
}

// version refuses what is not a store of ours. A file without any bucket is an empty store.
func (s *Store) version(verb string, tx *bolt.Tx) (empty bool, err error) {
	root := tx.Bucket(bucketRoot)
	if root == nil {
		if k, _ := tx.Cursor().First(); k == nil {
			return true, nil
		}
		return false, s.foreign(verb, nil)
	}
	d, err := unseal(recordFormat, root.Get(keyFormat))
	if err != nil {
		return false, s.damaged(verb, err)
	}
	switch v := d.uint(); {
	case d.err != nil || v == 0:
		return false, s.damaged(verb, errors.New("its version is unreadable"))
	case v < Version:
		return false, s.damaged(verb, fmt.Errorf("its version has become %d", v))
	case v > Version:
		return false, fail(ErrNewer, nil, "%s %s: the file has version %d and this sightline knows versions up to %d; use the sightline that wrote it, or a newer one, or move the file away to begin a new store",
			verb, s.path, v, Version)
	}
	for _, name := range [][]byte{bucketMeta, bucketCaptures, bucketSources, bucketTexts} {
		if tx.Bucket(name) == nil {
			return false, s.damaged(verb, fmt.Errorf("bucket %s is missing", name))
		}
	}
	return false, nil
}

func (s *Store) foreign(verb string, cause error) error {
	return fail(ErrForeign, cause, "%s %s: the file is not a store of captures; it was left as it is: move it away to begin a new store", verb, s.path)
}

func (s *Store) damaged(verb string, cause error) error {
	return fail(ErrDamaged, cause, "%s %s: the file is damaged (%v); it was left as it is: restore it from a backup, or move it away to begin a new store", verb, s.path, cause)
}

// errNoStore says that there is nothing to read.
var errNoStore = errors.New("there is no store")

// with runs fn on the open, locked file. One of an older version, which somebody has put there since
// Open, is first brought to this one.
func (s *Store) with(verb string, write bool, fn func(*bolt.DB) error) error {
	for {
		older := uint64(0)
		err := s.withFile(verb, write, func(db *bolt.DB) error {
			if v := versionOf(db); v > 0 && v < Version {
				older = v
				return nil
			}
			return fn(db)
		})
		if older == 0 || err != nil {
			return err
		}
		if err := s.migrate(older); err != nil {
			return err
		}
	}
}

// withFile runs fn on the open, locked file, whatever its version.
//
// bbolt maps the file. It reads what a page says without doubting it, so a damaged page makes it
// panic or touch memory beyond the file (SIGSEGV, or SIGBUS where another program has cut the file).
// Both become errors here.
func (s *Store) withFile(verb string, write bool, fn func(*bolt.DB) error) (err error) {
	f, err := s.lock(verb, write)
	if err == errNoStore {
		return nil
	}
	if err != nil {
		return err
	}
	var db *bolt.DB
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			// The transaction may be half rolled back and hold bbolt's own locks, so Close might
			// never return. The mapping holds the open file, and that the lock, until the process
			// ends; so the lock is given up by hand.
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
			f.Close()
			err = s.damaged(verb, fmt.Errorf("%v", r))
		}
	}()
	db, err = bolt.Open(s.path, 0o600, &bolt.Options{
		ReadOnly:     !write,
		FreelistType: bolt.FreelistMapType,
		// f has the lock already; bbolt locks it again, which changes nothing and never waits.
		Timeout:  time.Second,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	})
	if err != nil {
		f.Close()
		return s.explain(verb, err)
	}
	err = fn(db)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return s.explain(verb, err)
}

// explain makes a sentence of what bbolt and the system say.
func (s *Store) explain(verb string, err error) error {
	var f *failure
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case noSpace(err):
		return fail(ErrFull, err, "%s %s: no space is left (%v); what was stored before is intact: free some space, or remove captures", verb, s.path, cause(err))
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return s.readOnly(verb, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum), errors.Is(err, errRecord):
		return s.damaged(verb, err)
	}
	return fmt.Errorf("%s %s: %w", verb, s.path, err)
}

// noSpace: bbolt wraps some of these as text only.
func noSpace(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) || strings.HasSuffix(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// cause is the system's word for an error, without the path, which our sentences name already.
func cause(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// readOnly says who may write, since the likely reason is a store made by another user (sudo).
func (s *Store) readOnly(verb string, err error) error {
	why := cause(err).Error()
	at := s.path
	info, serr := os.Stat(at)
	if serr != nil {
		for at != filepath.Dir(at) && serr != nil {
			at = filepath.Dir(at)
			info, serr = os.Stat(at)
		}
	}
	if errors.Is(err, syscall.EROFS) {
		return fail(ErrReadOnly, err, "%s %s: %s; set XDG_STATE_HOME to a folder on a file system that can be written", verb, s.path, why)
	}
	if serr == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			why += fmt.Sprintf(": %s has mode %04o and owner %d, and this process is user %d", at, info.Mode().Perm(), st.Uid, os.Geteuid())
		}
	}
	return fail(ErrReadOnly, err, "%s %s: %s; change its owner or mode, or set XDG_STATE_HOME to a folder of your own", verb, s.path, why)
}
