package unwind

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func openCache(t *testing.T, limit int64) *Cache {
	t.Helper()
	c, err := OpenCache(filepath.Join(t.TempDir(), "rows"), limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPut(t *testing.T, c *Cache, key string, table *Table) {
	t.Helper()
	if err := c.Put(key, table); err != nil {
		t.Fatal(err)
	}
}

// What was stored is what is opened, for build IDs, Go build IDs and hostile names.
func TestCache(t *testing.T) {
	c := openCache(t, 1<<20)
	want := handMade(t)
	for _, key := range []string{"0123456789abcdef0123456789abcdef01234567", "aB-/_x/y/z", "../../escape", strings.Repeat("k", maxKey)} {
		if _, err := c.Open(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q, before it was stored: %v", key, err)
		}
		mustPut(t, c, key, want)
		got, err := c.Open(key)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.data) != string(want.data) || got.Len() != want.Len() || got.Describe(0x1004) != want.Describe(0x1004) {
			t.Errorf("%q: another table", key)
		}
		mustPut(t, c, key, got) // one that is mapped
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if got.Len() != 0 || got.Covers(0x1004) || got.Close() != nil {
			t.Error("a closed table still has rows")
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(c.dir)); len(entries) != 1 {
		t.Errorf("files outside of the folder: %v", entries)
	}
	for _, key := range []string{"", strings.Repeat("k", maxKey+1)} {
		if c.Put(key, want) == nil {
			t.Errorf("a key of %d bytes: no error", len(key))
		}
	}
}

// Every single damaged byte, and every truncation, is noticed, and the file is gone then.
func TestCacheDamaged(t *testing.T) {
	c := openCache(t, 1<<20)
	mustPut(t, c, "k", handMade(t))
	path := c.path("k")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if table, err := c.Open("k"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", what, table, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the file is still there", what)
		}
	}
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 0x10
		try(fmt.Sprintf("byte %d changed", i), b)
		try(fmt.Sprintf("%d bytes", i), good[:i])
	}
	try("longer", append(append([]byte(nil), good...), 0))
	other := encodeFile(handMade(t), "another")
	try("another key's", other)

	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open("k"); err == nil {
		t.Error("a folder: no error")
	}
}

// The oldest go first, and using one makes it young.
func TestCacheIsBounded(t *testing.T) {
	table := handMade(t)
	size := int64(len(encodeFile(table, "k0")))
	c := openCache(t, 3*size)
	foreign := filepath.Join(c.dir, "notes.txt")
	part := filepath.Join(c.dir, "1"+partSuffix)
	for _, f := range []string{foreign, part} {
		if err := os.WriteFile(f, make([]byte, 10*size), 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-2 * staleAfter)
		os.Chtimes(f, old, old)
	}
	for i := range 3 {
		mustPut(t, c, fmt.Sprint("k", i), table)
		old := time.Now().Add(time.Duration(i-10) * time.Minute)
		os.Chtimes(c.path(fmt.Sprint("k", i)), old, old)
	}
	used, err := c.Open("k0")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, c, "k3", table)
	for key, want := range map[string]bool{"k0": true, "k1": false, "k2": true, "k3": true} {
		if _, err := os.Stat(c.path(key)); (err == nil) != want {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file that is not the cache's: %v", err)
	}
	if _, err := os.Stat(part); err == nil {
		t.Error("a half-written file of two hours ago is still there")
	}
	// A table in use outlives its file.
	os.Remove(c.path("k0"))
	if used.Describe(0x1004) != table.Describe(0x1004) {
		t.Error("the mapped table has changed")
	}
	used.Close()
	small := openCache(t, size-1)
	if small.Put("k", table) == nil {
		t.Error("a table larger than the limit: no error")
	}
}

// Many at once, with and without each other's files: nothing but whole tables is seen, and the
// limit holds.
func TestCacheAtOnce(t *testing.T) {
	table := handMade(t)
	size := int64(len(encodeFile(table, "0")))
	c := openCache(t, 4*size)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 60 {
				key := fmt.Sprint((g + i) % 7)
				got, err := c.Open(key)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					if err := c.Put(key, table); err != nil {
						t.Error(err)
					}
				case err != nil:
					t.Error(err)
				default:
					if got.Describe(0x1004) != table.Describe(0x1004) {
						t.Error("another table")
					}
					got.Close()
				}
			}
		})
	}
	group.Wait()
	var sum int64
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	if sum > 4*size || sum == 0 {
		t.Errorf("%d bytes; the limit is %d", sum, 4*size)
	}
}
