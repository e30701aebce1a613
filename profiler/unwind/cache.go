package unwind

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Cache keeps tables on disk: one file for each key, which is what identifies a binary, its build
// ID. Several processes may use one folder at once, as may several goroutines one Cache.
//
// A file comes to be under a name of its own and is renamed when it is whole; it is never changed
// afterwards, only removed. So what Open has mapped stays as it was, whatever others do. Nothing in
// the folder is trusted: what is not whole, or of another version, key or owner, is no table.
type Cache struct {
	dir   string
	limit int64
}

// OpenCache opens the cache of a folder, which is made if need be, for its user alone. The files of
// the cache will have at most limit bytes together; of others in the folder nothing is known and
// nothing touched.
func OpenCache(dir string, limit int64) (*Cache, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("open the cache of rows %s: its limit is %d bytes", dir, limit)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the cache of rows %s: %w", dir, err)
	}
	return &Cache{dir, limit}, nil
}

// The layout of a file, little-endian:
//
//	0   magic [8]byte · version u32 · CRC-32C of everything behind u32 · size of the file u64 · bytes of the key u32 · 0 u32
//	32  key, filled up with zeros to a multiple of 8
//	    the table's bytes
//
// cacheVersion changes with the layout, and whenever the same call-frame information makes other
// rows.
const (
	cacheMagic   = "SLunwind"
	cacheVersion = 1
	cacheHead    = 32
	cacheSuffix  = ".rows"
	partSuffix   = ".rows.part"
	maxKey       = 512

	staleAfter = time.Hour // for files that a process left half written
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// path is where a key's file is: named by the key if that is plain, else by its hash.
func (c *Cache) path(key string) string {
	plain := key != "" && len(key) <= 128
	for _, r := range key {
		plain = plain && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z')
	}
	if !plain {
		sum := sha256.Sum256([]byte(key))
		key = "H" + hex.EncodeToString(sum[:])
	}
	return filepath.Join(c.dir, key+cacheSuffix)
}

// Open maps the table of a key. The error is fs.ErrNotExist where the cache has none that can be
// used: a damaged file is removed. The table must be closed.
func (c *Cache) Open(key string) (*Table, error) {
	path := c.path(key)
	data, err := mapOwn(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("open the cached rows %s: %w", path, err)
		}
		return nil, err
	}
	t, err := decodeFile(data, key)
	if err != nil {
		unix.Munmap(data)
		os.Remove(path) // if another process has just put a good one there, that is lost, and made again
		return nil, fmt.Errorf("open the cached rows %s: %w: %w", path, err, fs.ErrNotExist)
	}
	t.mapped = data
	// The oldest are removed first; it is no harm if this cannot be noted.
	unix.UtimesNanoAt(unix.AT_FDCWD, path, nil, unix.AT_SYMLINK_NOFOLLOW)
	return t, nil
}

// mapOwn maps a regular file that belongs to this user or to root.
func mapOwn(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file; please remove it")
	}
	if int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return nil, fmt.Errorf("it belongs to user %d; please remove it", st.Uid)
	}
	if st.Size < cacheHead || st.Size > 1<<32 {
		os.Remove(path)
		return nil, fs.ErrNotExist
	}
	return unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
}

var errFile = errors.New("the file is damaged, or of another version")

// decodeFile makes the table in a file's bytes, which the table keeps.
func decodeFile(b []byte, key string) (*Table, error) {
	le := binary.LittleEndian
	if len(b) < cacheHead || string(b[:8]) != cacheMagic || le.Uint32(b[8:]) != cacheVersion || le.Uint64(b[16:]) != uint64(len(b)) {
		return nil, errFile
	}
	if le.Uint32(b[12:]) != crc32.Checksum(b[16:], castagnoli) {
		return nil, errFile
	}
	n := uint64(le.Uint32(b[24:]))
	table := cacheHead + (n+7)&^7
	if n > maxKey || table > uint64(len(b)) || string(b[cacheHead:cacheHead+n]) != key {
		return nil, errFile
	}
	return openTable(b[table:])
}

// encodeFile is the reverse.
func encodeFile(t *Table, key string) []byte {
	le := binary.LittleEndian
	var b bytes.Buffer
	b.Grow(cacheHead + len(key) + 8 + len(t.data))
	head := make([]byte, cacheHead, cacheHead+len(key)+8)
	head = append(head, key...)
	for len(head)%8 != 0 {
		head = append(head, 0)
	}
	copy(head, cacheMagic)
	le.PutUint32(head[8:], cacheVersion)
	le.PutUint64(head[16:], uint64(len(head)+len(t.data)))
	le.PutUint32(head[24:], uint32(len(key)))
	b.Write(head)
	b.Write(t.data)
	le.PutUint32(b.Bytes()[12:], crc32.Checksum(b.Bytes()[16:], castagnoli))
	return b.Bytes()
}

// Put stores a table under a key, in the place of another one, and then removes the tables that
// were not used for the longest time, as far as the limit asks. It keeps no reference to t, which
// may be one that Open gave. A table that is larger than the limit is not stored, and that is an
// error.
func (c *Cache) Put(key string, t *Table) error {
	if err := c.put(key, t); err != nil {
		return fmt.Errorf("store rows in %s: %w", c.dir, err)
	}
	return nil
}

func (c *Cache) put(key string, t *Table) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("a key of %d bytes; it has 1 to %d", len(key), maxKey)
	}
	b := encodeFile(t, key)
	if int64(len(b)) > c.limit {
		return fmt.Errorf("%d bytes are more than the cache may have, %d", len(b), c.limit)
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// Room is made first, so that the folder is never over the limit.
	path := c.path(key)
	c.shrink(c.limit-int64(len(b)), path)
	f, err := os.CreateTemp(c.dir, "*"+partSuffix) // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// lock keeps other processes from storing and removing. Those who open tables do not wait for it.
func (c *Cache) lock() (unlock func(), err error) {
	fd, err := unix.Open(filepath.Join(c.dir, "rows.lock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// shrink removes the oldest files until they have at most limit bytes; replaced counts as removed.
// It is called with the lock.
func (c *Cache) shrink(limit int64, replaced string) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var sum int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		switch {
		case strings.HasSuffix(path, partSuffix):
			if time.Since(info.ModTime()) > staleAfter {
				os.Remove(path)
			}
		case strings.HasSuffix(path, cacheSuffix) && path != replaced:
			files = append(files, file{path, info.Size(), info.ModTime()})
			sum += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path))
	})
	for _, f := range files {
		if sum <= limit {
			return
		}
		if err := os.Remove(f.path); err == nil || errors.Is(err, fs.ErrNotExist) {
			sum -= f.size
		}
	}
}
