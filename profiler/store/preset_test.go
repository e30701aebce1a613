package store

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

func TestPresets(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "captures.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.Presets(); err != nil || all != nil {
		t.Errorf("an empty store has presets %v, %v", all, err)
	}
	if err := s.RemovePreset("a"); !errors.Is(err, ErrNoPreset) {
		t.Errorf("removing from an empty store: %v", err)
	}
	for _, p := range []Preset{{"b", "1"}, {"a", "2"}, {"b", `{"group": "𝄞"}`}} {
		if err := s.SetPreset(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []Preset{{"", "1"}, {" a", "1"}, {strings.Repeat("x", 101), "1"}, {"x", strings.Repeat("x", 65<<10)}} {
		if err := s.SetPreset(p); err == nil {
			t.Errorf("preset %.20q was kept", p.Name)
		}
	}
	got, err := s.Presets()
	if want := []Preset{{"a", "2"}, {"b", `{"group": "𝄞"}`}}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("presets %v, %v; want %v", got, err, want)
	}
	if err := s.RemovePreset("c"); !errors.Is(err, ErrNoPreset) {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := s.RemovePreset("a"); err != nil {
		t.Error(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if err := s.update("break", func(tx *bolt.Tx) error { return tx.Bucket(bucketPresets).Put([]byte("x"), []byte("junk")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Presets(); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged preset was read: %v", err)
	}
	if err := s.Check(); !errors.Is(err, ErrDamaged) {
		t.Errorf("Check of a damaged preset: %v", err)
	}
}
