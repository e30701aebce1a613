package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// What is no store of ours is refused in one sentence, and left as it is.
func TestRefused(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "captures.db")
	s := must[*Store](t)(Open(whole, Options{}))
	must[Meta](t)(s.Put(generate(small, 1)))
	stored := must[[]byte](t)(os.ReadFile(whole))
	fileOf := func(b []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, b, 0o600) }
	}
	boltOf := func(f func(*bolt.Tx) error) func(string) error {
		return func(path string) error {
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(f), db.Close())
		}
	}
	flipped := func(at int) []byte {
		b := bytes.Clone(stored)
		b[at] ^= 0x40
		return b
	}
	for name, test := range map[string]struct {
		make func(path string) error
		kind error
		says string
	}{
		"text":         {fileOf([]byte("hello\n")), ErrForeign, "not a store of captures"},
		"other bbolt":  {boltOf(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }), ErrForeign, "not a store of captures"},
		"folder":       {func(path string) error { return os.Mkdir(path, 0o700) }, ErrForeign, "folder"},
		"pipe":         {func(path string) error { return syscall.Mkfifo(path, 0o600) }, ErrForeign, "not a file"},
		"one byte":     {fileOf(stored[:1]), ErrForeign, "not a store of captures"},
		"half a page":  {fileOf(stored[:2048]), ErrDamaged, "shorter than its content"},
		"four pages":   {fileOf(stored[:4*4096]), ErrDamaged, "shorter than its content"},
		"half":         {fileOf(stored[:len(stored)/2]), ErrDamaged, "shorter than its content"},
		"both metas":   {func(p string) error { b := flipped(20); b[4096+20] ^= 1; return os.WriteFile(p, b, 0o600) }, ErrDamaged, "no meta page is valid"},
		"zeros":        {fileOf(make([]byte, len(stored))), ErrForeign, "not a store"},
		"bad version":  {versionFile([]byte("rubbish")), ErrDamaged, "is damaged"},
		"newer":        {versionFile(versionRecord(Version + 1)), ErrNewer, fmt.Sprintf("version %d and this sightline knows versions up to %d", Version+1, Version)},
		"lost buckets": {boltOf(func(tx *bolt.Tx) error { initialize(tx); return tx.DeleteBucket(bucketTexts) }), ErrDamaged, "bucket texts is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "captures.db")
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			content := func() []byte {
				if info := must[os.FileInfo](t)(os.Stat(path)); !info.Mode().IsRegular() {
					return nil
				}
				return must[[]byte](t)(os.ReadFile(path))
			}
			before := content()
			_, open := Open(path, Options{})
			// A store that was opened before meets the same file.
			s := &Store{path: path, opts: Options{Wait: time.Second, Budget: 1 << 30}, now: time.Now}
			_, list := s.List()
			_, put := s.Put(profile.NewCapture(profile.Target{}, time.Now()))
			_, changed := s.Changed()
			if name == "folder" || name == "pipe" || name == "text" {
				if !errors.Is(changed, test.kind) {
					t.Errorf("changed: %v", changed)
				}
			}
			for what, err := range map[string]error{"open": open, "list": list, "put": put, "check": s.Check(), "compact": s.Compact()} {
				if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v", what, err)
				}
				if err != nil && !strings.Contains(err.Error(), "move it away") && !strings.Contains(err.Error(), "move the file away") {
					t.Errorf("%s names no remedy: %v", what, err)
				}
			}
			if !bytes.Equal(before, content()) {
				t.Error("the file was changed")
			}
		})
	}
	// One torn meta page is what a crash may leave: the other is taken.
	for _, at := range []int{20, 4096 + 20} {
		path := filepath.Join(t.TempDir(), "captures.db")
		if err := os.WriteFile(path, flipped(at), 0o600); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, path, Options{})
		must[[]Meta](t)(s.List())
		must[Meta](t)(s.Put(generate(small, 1)))
	}
}

func versionRecord(v uint64) []byte {
	e := &encoder{}
	e.uint(v)
	return e.seal(recordFormat)
}

func versionFile(record []byte) func(path string) error {
	return func(path string) error {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(func(tx *bolt.Tx) error {
			return errors.Join(initialize(tx), tx.Bucket(bucketRoot).Put(keyFormat, record))
		}), db.Close())
	}
}

// A file that a dead process left empty is a new store.
func TestEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "captures.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path, Options{})
	if list := must[[]Meta](t)(s.List()); list != nil {
		t.Errorf("listed %v", list)
	}
	must[Meta](t)(s.Put(generate(small, 1)))
	if list := must[[]Meta](t)(s.List()); len(list) != 1 {
		t.Errorf("listed %v", list)
	}
}

// One damaged capture is not in the way of the others, and can be removed.
func TestDamagedCapture(t *testing.T) {
	for name, damage := range map[string]func(tx *bolt.Tx, id ID) error{
		"chunk": func(tx *bolt.Tx, id ID) error {
			b := tx.Bucket(bucketCaptures).Bucket([]byte(id))
			v := bytes.Clone(b.Get(chunkKey(0)))
			v[len(v)/2] ^= 1
			return b.Put(chunkKey(0), v)
		},
		"no chunk": func(tx *bolt.Tx, id ID) error {
			return tx.Bucket(bucketCaptures).Bucket([]byte(id)).Delete(chunkKey(0))
		},
		"symbols": func(tx *bolt.Tx, id ID) error {
			return tx.Bucket(bucketCaptures).Bucket([]byte(id)).Put(keySymbols, []byte("Y"))
		},
		"no content": func(tx *bolt.Tx, id ID) error { return tx.Bucket(bucketCaptures).DeleteBucket([]byte(id)) },
		"meta":       func(tx *bolt.Tx, id ID) error { return tx.Bucket(bucketMeta).Put([]byte(id), []byte("M\x01 rubbish")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			first := must[Meta](t)(s.Put(generate(small, 1))).ID
			hurt := must[Meta](t)(s.Put(generate(small, 2))).ID
			if err := s.update("damage", func(tx *bolt.Tx) error { return damage(tx, hurt) }); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load(hurt)
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), string(hurt)) || !strings.Contains(err.Error(), "remove this one") {
				t.Errorf("loading says %v", err)
			}
			if err := s.Check(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), string(hurt)) {
				t.Errorf("checking says %v", err)
			}
			if list := must[[]Meta](t)(s.List()); len(list) != 2 || name == "meta" && list[0].Warnings[0].Kind != profile.WarnUnreadable {
				t.Errorf("listed %+v", list)
			}
			must[*profile.Capture](t)(s.Load(first))
			third := must[Meta](t)(s.Put(generate(small, 3))).ID
			if err := s.Remove(hurt); err != nil {
				t.Fatal(err)
			}
			must[*profile.Capture](t)(s.Load(first))
			must[*profile.Capture](t)(s.Load(third))
		})
	}
}

// A source or text that is damaged hurts those captures that name it.
func TestDamagedSource(t *testing.T) {
	for _, bucket := range [][]byte{bucketSources, bucketTexts} {
		for _, lost := range []bool{true, false} {
			s := open(t, Options{})
			c := generate(small, 1)
			id := must[Meta](t)(s.Put(c)).ID
			none := must[Meta](t)(s.Put(profile.NewCapture(profile.Target{}, time.Now()))).ID
			if err := s.update("damage", func(tx *bolt.Tx) error {
				b := tx.Bucket(bucket)
				k, v := b.Cursor().First()
				if lost {
					return b.Delete(bytes.Clone(k))
				}
				v = bytes.Clone(v)
				v[len(v)-1] ^= 1
				return b.Put(bytes.Clone(k), v)
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(id); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: loading says %v", bucket, err)
			}
			if err := s.Check(); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: checking says %v", bucket, err)
			}
			must[*profile.Capture](t)(s.Load(none))
			must[[]Meta](t)(s.List())
			// The same sources can be stored again, and the damaged ones go with their capture.
			again := must[Meta](t)(s.Put(c)).ID
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load(again)
			if bytes.Equal(bucket, bucketTexts) && !lost {
				// The text is there under its name, so it was not stored again.
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: loading says %v", bucket, err)
				}
				if err := s.Remove(again); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", bucket, err)
			}
			if bytes.Equal(bucket, bucketSources) && !lost {
				// What cannot be read cannot be known to be unused; Check says so until it is gone.
				if err := s.update("mend", func(tx *bolt.Tx) error {
					b := tx.Bucket(bucket)
					k, _ := b.Cursor().First()
					return b.Delete(bytes.Clone(k))
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// What nobody refers to, and what refers to nothing, is found.
func TestCheckFindsReferences(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(tx *bolt.Tx) error
		says   string
	}{
		"text": {func(tx *bolt.Tx) error {
			x := sourceOf(&profile.Source{Text: []byte("orphan")})
			return tx.Bucket(bucketTexts).Put(x.hash[:], encodeText([]byte("orphan")))
		}, "no source has it"},
		"source": {func(tx *bolt.Tx) error {
			return tx.Bucket(bucketSources).Put(sourceKey(99), source{path: "orphan.go"}.encode())
		}, "no capture names orphan.go"},
		"wrong text": {func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketTexts)
			k, _ := b.Cursor().First()
			return b.Put(bytes.Clone(k), encodeText([]byte("another")))
		}, "it is the text"},
		"content": {func(tx *bolt.Tx) error {
			_, err := tx.Bucket(bucketCaptures).CreateBucket([]byte("000000001"))
			return err
		}, "is not listed"},
		"key": {func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketCaptures)
			k, _ := b.Cursor().First()
			return b.Bucket(k).Put([]byte("x"), nil)
		}, "nothing belongs at"},
		"bytes": {func(tx *bolt.Tx) error {
			k, v := tx.Bucket(bucketMeta).Cursor().First()
			m, err := decodeMeta(ID(k), v)
			if err != nil {
				return err
			}
			m.Bytes++
			return tx.Bucket(bucketMeta).Put([]byte(m.ID), m.encode())
		}, "bytes and should have"},
	} {
		s := must[*Store](t)(Open(filepath.Join(t.TempDir(), "captures.db"), Options{}))
		must[Meta](t)(s.Put(generate(small, 1)))
		if err := s.update("damage", test.damage); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever bit is wrong: no panic, no fault, no hang; and what is read is what was stored, or an
// error.
func TestFlippedBits(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.db")
	s := must[*Store](t)(Open(whole, Options{}))
	want := generate(shape{samples: 200, stacks: 30, depth: 8, cpus: 2, threads: 2, files: 2}, 1)
	m := must[Meta](t)(s.Put(want))
	other := must[Meta](t)(s.Put(generate(small, 2)))
	if err := s.Remove(other.ID); err != nil { // for a list of free pages
		t.Fatal(err)
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	must[Meta](t)(s.Put(want))
	stored := must[[]byte](t)(os.ReadFile(whole))
	r := rand.New(rand.NewPCG(1, 1))
	path := filepath.Join(dir, "captures.db")
	found := 0
	n := 300
	if testing.Short() {
		n = 50
	}
	for range n {
		b := bytes.Clone(stored)
		// Headers of pages and elements more often than values.
		at := r.IntN(len(b))
		if r.IntN(2) == 0 {
			at = at/4096*4096 + r.IntN(128)
		}
		b[at] ^= 1 << r.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := &Store{path: path, opts: Options{Wait: time.Second, Budget: 1 << 30}, now: time.Now}
		if got, err := s.Load(m.ID); err == nil {
			if d := diff(want, got); d != "" {
				t.Fatalf("flipped at %d: %s", at, d)
			}
		}
		if err := s.Check(); err != nil {
			found++
		}
		s.List()
		s.Source(m.ID, want.Symbols.Sources[0].Path)
		if _, err := Open(path, Options{}); err != nil {
			continue
		}
		s.Put(want)
		s.Remove(m.ID)
		s.Compact()
	}
	if found < n/10 {
		t.Errorf("of %d flipped bits only %d were found", n, found)
	}
}

// Another program that cuts the file while it is mapped makes the kernel send SIGBUS.
func TestCutWhileMapped(t *testing.T) {
	s := must[*Store](t)(Open(filepath.Join(t.TempDir(), "captures.db"), Options{Wait: time.Second}))
	m := must[Meta](t)(s.Put(generate(small, 1)))
	for what, run := range map[string]func(string, func(*bolt.Tx) error) error{"view": s.view, "update": s.update} {
		stored := must[[]byte](t)(os.ReadFile(s.Path()))
		err := run(what, func(tx *bolt.Tx) error {
			if err := os.Truncate(s.Path(), 8192); err != nil {
				return err
			}
			c := tx.Bucket(bucketCaptures).Bucket([]byte(m.ID))
			t.Errorf("%d bytes of what is gone", len(bytes.Clone(c.Get(chunkKey(0)))))
			return nil
		})
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.WriteFile(s.Path(), stored, 0o600); err != nil {
			t.Fatal(err)
		}
		// Nothing is left locked.
		must[Meta](t)(s.Put(generate(small, 2)))
		must[*profile.Capture](t)(s.Load(m.ID))
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
