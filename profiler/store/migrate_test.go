package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/tools/txtar"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The files of testdata were written by the code of the versions that their names tell, each with the
// captures of captures.txtar: the first is pinned and has a note, the last was interrupted at its third
// flush, with 200 samples.
//
//	version-1-first.db   the first encoding of version 1
//	version-1.db         its second
//	version-2.db         the present one
const interruptedSamples = 200

func unpacked(t *testing.T, name string) []byte {
	t.Helper()
	f := must[*os.File](t)(os.Open(filepath.Join("testdata", name+".gz")))
	defer f.Close()
	return must[[]byte](t)(io.ReadAll(must[*gzip.Reader](t)(gzip.NewReader(f))))
}

// older is a store file of testdata in a folder of the test.
func older(t *testing.T, name string) (path string, content []byte) {
	t.Helper()
	content = unpacked(t, name)
	path = filepath.Join(t.TempDir(), "captures.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// setVersion makes a store one of another version, whatever it holds.
func setVersion(t *testing.T, path string, version uint64) {
	t.Helper()
	db := must[*bolt.DB](t)(bolt.Open(path, 0o600, nil))
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		e := &encoder{}
		e.uint(version)
		return tx.Bucket(bucketRoot).Put(keyFormat, e.seal(recordFormat))
	}); err != nil {
		t.Fatal(err)
	}
}

// backups are the older files beside a store.
func backups(t *testing.T, path string) []string {
	t.Helper()
	return must[[]string](t)(filepath.Glob(path + ".version-*"))
}

// hasAll checks that a store has the captures of testdata.
func hasAll(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	list := must[[]Meta](t)(s.List())
	texts := txtar.Parse(unpacked(t, "captures.txtar")).Files
	if len(list) != len(texts) {
		t.Fatalf("%d captures, want %d", len(list), len(texts))
	}
	for i, f := range texts {
		m := list[len(list)-1-i]
		want := must[*profile.Capture](t)(profile.ParseCapture(f.Data))
		got := must[*profile.Capture](t)(s.Load(m.ID))
		if interrupted := i == 2; m.Interrupted != interrupted || got.Interrupted != interrupted || interrupted && got.Series[0].Samples.Len() != interruptedSamples {
			t.Errorf("capture %d: interrupted %v with %d samples", i+1, m.Interrupted, got.Series[0].Samples.Len())
		}
		if pinned := i == 0; m.Pinned != pinned || (m.Note == "a note") != pinned {
			t.Errorf("capture %d: pinned %v, note %q", i+1, m.Pinned, m.Note)
		}
		got.Warnings, got.Interrupted = want.Warnings, want.Interrupted
		if d := diff(want, got); d != "" {
			t.Errorf("capture %d: %s", i+1, d)
		}
	}
}

// A store of each version there was is brought to the present one with all that it has, and stays as
// it was beside it.
func TestMigrate(t *testing.T) {
	for _, name := range []string{"version-1-first.db", "version-1.db", "version-2.db"} {
		t.Run(name, func(t *testing.T) {
			path, before := older(t, name)
			asked := 0
			opts := Options{Migrate: func(p string, version int) error {
				asked++
				if p != path || version != 1 {
					t.Errorf("asked for version %d of %s", version, p)
				}
				return nil
			}}
			for range 2 { // the second time there is nothing to do
				s := must[*Store](t)(Open(path, opts))
				hasAll(t, s)
			}
			kept := backups(t, path)
			if name == "version-2.db" {
				if len(kept) > 0 || asked > 0 || !bytes.Equal(before, must[[]byte](t)(os.ReadFile(path))) {
					t.Errorf("a store of this version was changed: asked %d times, backups %v", asked, kept)
				}
				return
			}
			if len(kept) != 1 || kept[0] != BackupOf(path, 1) || asked != 1 {
				t.Fatalf("backups are %v; asked %d times", kept, asked)
			}
			if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(kept[0]))) {
				t.Error("the backup is not what the file was")
			}
			if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			// The backup is a store by itself, and another backup takes the name of none.
			if err := os.Rename(kept[0], path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(kept[0], []byte("somebody's"), 0o600); err != nil {
				t.Fatal(err)
			}
			hasAll(t, must[*Store](t)(Open(path, Options{})))
			if text := must[[]byte](t)(os.ReadFile(kept[0])); string(text) != "somebody's" {
				t.Error("a file of somebody was overwritten")
			}
			if kept := backups(t, path); len(kept) != 2 {
				t.Errorf("backups are %v", kept)
			}
		})
	}
}

// Who asks first may refuse, and a recorder that knows only the older version is not cut off. The file
// is left as it was, and the sentence says why.
func TestMigrateRefused(t *testing.T) {
	path, before := older(t, "version-1.db")
	_, err := Open(path, Options{Migrate: func(string, int) error { return errors.New("another daemon uses it; end that first") }})
	if !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another daemon uses it; end that first") {
		t.Errorf("error %v", err)
	}
	if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(path))) || len(backups(t, path)) > 0 {
		t.Error("the file was changed")
	}

	s := open(t, Options{})
	w := must[*Writer](t)(s.Begin(prefix(churned(1), 100)))
	setVersion(t, s.Path(), 1)
	_, err = Open(s.Path(), Options{})
	if !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "wait for that recording") {
		t.Errorf("error %v", err)
	}
	setVersion(t, s.Path(), Version)
	if _, err := w.Finish(churned(1)); err != nil {
		t.Error(err)
	}
}

// A store that somebody has put in the place of one that is open is brought to this version as well.
func TestMigrateWhileOpen(t *testing.T) {
	s := open(t, Options{})
	m := must[Meta](t)(s.Put(churned(1)))
	setVersion(t, s.Path(), 1)
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%d captures, %v", len(list), err)
	}
	if len(backups(t, s.Path())) != 1 {
		t.Error("there is no backup")
	}
	setVersion(t, s.Path(), 1)
	if err := s.Pin(m.ID, true); err != nil {
		t.Error(err)
	}
}

// A store of another version is neither read nor changed by who does not know it.
func TestNewerIsLeft(t *testing.T) {
	s := open(t, Options{})
	must[Meta](t)(s.Put(churned(1)))
	setVersion(t, s.Path(), Version+1)
	before := must[[]byte](t)(os.ReadFile(s.Path()))
	_, opened := Open(s.Path(), Options{})
	_, listed := s.List()
	_, put := s.Put(churned(2))
	for what, err := range map[string]error{"open": opened, "list": listed, "put": put, "compact": s.Compact(), "check": s.Check()} {
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("version %d", Version+1)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !bytes.Equal(before, must[[]byte](t)(os.ReadFile(s.Path()))) || len(backups(t, s.Path())) > 0 {
		t.Error("the file was changed")
	}
	setVersion(t, s.Path(), Version)
}

// migrateAgain brings a store to this version, sets it back and so on until it is killed.
func migrateAgain(s *Store, _ []string) error {
	fmt.Println("begins")
	for {
		db, err := bolt.Open(s.Path(), 0o600, nil)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			e := &encoder{}
			e.uint(1)
			return tx.Bucket(bucketRoot).Put(keyFormat, e.seal(recordFormat))
		})
		db.Close()
		if err != nil {
			return err
		}
		if _, err := Open(s.Path(), Options{}); err != nil {
			return err
		}
		os.Remove(BackupOf(s.Path(), 1))
	}
}

// Killed at any instant of a migration, the next one comes to its end, nothing is lost, and what it
// began with is there.
func TestKilledWhileMigrating(t *testing.T) {
	kills := max(killsAsked(t)/5, 4)
	path, _ := older(t, "version-1-first.db")
	hasAll(t, must[*Store](t)(Open(path, Options{})))
	os.Remove(BackupOf(path, 1)) // it has the first encoding, and those to come the second
	for kill := range kills {
		cmd, out := another(t, "migrate", path)
		if !out.Scan() {
			t.Fatalf("kill %d: the other process said nothing", kill)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(25 * time.Millisecond))))
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		hasAll(t, s)
		for _, name := range backups(t, path) {
			setVersion(t, name, Version) // it is whole
			hasAll(t, must[*Store](t)(Open(name, Options{})))
			os.Remove(name)
		}
		if t.Failed() {
			t.Fatalf("after kill %d", kill)
		}
	}
}
