package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func putSnapshot(t *testing.T, s *Store, content string) Meta {
	t.Helper()
	c := profile.NewCapture(profile.Target{PID: 7}, time.Unix(1700000000, 0))
	c.Series = []profile.Series{{Kind: "retained", Unit: profile.Bytes}}
	return must[Meta](t)(s.PutSnapshot(c, func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}))
}

func filesIn(t *testing.T, s *Store) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.snapshots())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestASnapshotGoesWithItsCapture(t *testing.T) {
	s := open(t, Options{})
	clock(s)
	first, second := putSnapshot(t, s, "one"), putSnapshot(t, s, "second")
	plain := must[Meta](t)(s.Put(profile.NewCapture(profile.Target{}, time.Now())))
	if first.Snapshot != 3 || second.Snapshot != 6 || plain.Snapshot != 0 {
		t.Errorf("sizes are %d, %d, %d", first.Snapshot, second.Snapshot, plain.Snapshot)
	}
	var sizes []int64
	for _, m := range must[[]Meta](t)(s.List()) {
		sizes = append(sizes, m.Snapshot)
	}
	if !slices.Equal(sizes, []int64{0, 6, 3}) || must[Meta](t)(s.LoadMeta(second.ID)).Snapshot != 6 {
		t.Errorf("the list has sizes %v", sizes)
	}
	content, err := os.ReadFile(must[string](t)(s.SnapshotFile(second.ID)))
	if err != nil || string(content) != "second" {
		t.Errorf("the file has %q, %v", content, err)
	}
	if _, err := s.SnapshotFile(plain.ID); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("of a capture without: %v", err)
	}
	if _, err := s.SnapshotFile("none"); !errors.Is(err, ErrNoCapture) {
		t.Errorf("of no capture: %v", err)
	}
	if err := s.SetNote(second.ID, "before"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(first.ID); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, s); !slices.Equal(got, []string{string(second.ID) + ".heap"}) {
		t.Errorf("files are %v", got)
	}
	u := must[Usage](t)(s.Usage())
	if err := s.Remove(second.ID); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, s); len(got) != 0 {
		t.Errorf("files are %v", got)
	}
	if after := must[Usage](t)(s.Usage()); after.Used >= u.Used {
		t.Errorf("%d bytes are used, and %d before", after.Used, u.Used)
	}
}

func TestSnapshotsCountForTheBudget(t *testing.T) {
	s := open(t, Options{Budget: 1 << 20})
	clock(s)
	large := strings.Repeat("x", 400<<10)
	kept := putSnapshot(t, s, large)
	if err := s.Pin(kept.ID, true); err != nil {
		t.Fatal(err)
	}
	gone := putSnapshot(t, s, large)
	last := putSnapshot(t, s, large)
	if !slices.Equal(last.Pruned, []ID{gone.ID}) {
		t.Errorf("pruned are %v, want %s", last.Pruned, gone.ID)
	}
	if got := filesIn(t, s); !slices.Equal(got, []string{string(kept.ID) + ".heap", string(last.ID) + ".heap"}) {
		t.Errorf("files are %v", got)
	}
}

func TestAFailedSnapshotLeavesNothing(t *testing.T) {
	s := open(t, Options{})
	c := profile.NewCapture(profile.Target{}, time.Now())
	bad := errors.New("the disk is on fire")
	if _, err := s.PutSnapshot(c, func(w io.Writer) error { w.Write(make([]byte, 2<<20)); return bad }); !errors.Is(err, bad) {
		t.Errorf("the error is %v", err)
	}
	if got := filesIn(t, s); len(got) != 0 {
		t.Errorf("files are %v", got)
	}
	if list := must[[]Meta](t)(s.List()); len(list) != 0 {
		t.Errorf("captures are %v", ids(list))
	}
}

func TestCheckFindsOrphansAndDamage(t *testing.T) {
	s := must[*Store](t)(Open(filepath.Join(t.TempDir(), "captures.db"), Options{}))
	one, two, three := putSnapshot(t, s, "one"), putSnapshot(t, s, "two"), putSnapshot(t, s, "three")
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(s.snapshots(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// As a process leaves it that dies between file and row.
	orphan := write("20300101-000000-zzzz"+snapshotSuffix, "lost")
	young, old := write(temporarySuffix+"1", "being written"), write(temporarySuffix+"2", "left")
	if err := os.Chtimes(old, time.Now(), time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	write(string(one.ID)+snapshotSuffix, "ONE")
	write(string(two.ID)+snapshotSuffix, "twotwo")
	if err := os.Remove(s.snapshotPath(three.ID)); err != nil {
		t.Fatal(err)
	}
	err := s.Check()
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("the check finds %v", err)
	}
	for _, want := range []string{
		filepath.Base(orphan), filepath.Base(old), string(one.ID) + ": its file is not what was written",
		string(two.ID) + ": its file has 6 bytes and should have 3", string(three.ID) + ": its file is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the check says nothing of %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), filepath.Base(young)) {
		t.Errorf("the check tells of a file that is being written:\n%v", err)
	}
	if err := s.Remove(one.ID, two.ID, three.ID); err != nil {
		t.Fatal(err)
	}
	last := putSnapshot(t, s, "last")
	if err := s.Check(); err != nil {
		t.Errorf("orphans stay: %v", err)
	}
	if got := filesIn(t, s); !slices.Equal(got, []string{temporarySuffix + "1", string(last.ID) + snapshotSuffix}) {
		t.Errorf("files are %v", got)
	}
	// A copy is a store by itself.
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Copy(to); err != nil {
		t.Fatal(err)
	}
	other := openAt(t, to, Options{})
	if _, err := other.SnapshotFile(last.ID); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("a copy has a snapshot: %v", err)
	}
}

func TestDamagedRowsAreFound(t *testing.T) {
	s := must[*Store](t)(Open(filepath.Join(t.TempDir(), "captures.db"), Options{}))
	m := putSnapshot(t, s, "one")
	if err := s.update("test", func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketSnapshots)
		record := bytes.Clone(b.Get([]byte(m.ID)))
		record[len(record)-1] ^= 1
		if err := b.Put([]byte("x"), snapshotRow{bytes: 1}.encode()); err != nil {
			return err
		}
		return b.Put([]byte(m.ID), record)
	}); err != nil {
		t.Fatal(err)
	}
	err := s.Check()
	if err == nil || !strings.Contains(err.Error(), string(m.ID)) || !strings.Contains(err.Error(), "x: there is no such capture") {
		t.Errorf("the check finds %v", err)
	}
}
