package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func TestCopy(t *testing.T) {
	s := open(t, Options{})
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Copy(to); !errors.Is(err, ErrNoCapture) {
		t.Errorf("copied a store without captures: %v", err)
	}
	c := churned(1)
	m := must[Meta](t)(s.Put(c))
	if err := s.SetNote(m.ID, "a note"); err != nil {
		t.Fatal(err)
	}
	if err := s.Copy(to); err != nil {
		t.Fatal(err)
	}
	copied := openAt(t, to, Options{})
	if d := diff(c, must[*profile.Capture](t)(copied.Load(m.ID))); d != "" {
		t.Error(d)
	}
	if got := must[Meta](t)(copied.LoadMeta(m.ID)); got.Note != "a note" {
		t.Errorf("the copy is %+v", got)
	}
	before := must[[]byte](t)(os.ReadFile(to))
	if err := s.Copy(to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("copied over a file: %v", err)
	}
	if after := must[[]byte](t)(os.ReadFile(to)); string(after) != string(before) {
		t.Error("the file that was there has changed")
	}
	if err := s.Copy(filepath.Join(t.TempDir(), "missing", "copy.db")); err == nil {
		t.Error("copied into no folder")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(to), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
