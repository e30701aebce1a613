package store

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// open is a store in a folder of the test, which is checked when the test ends.
func open(t testing.TB, opts Options) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "captures.db"), opts)
}

func openAt(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// diff compares captures by their content. cmp is slow on a million numbers, so it is only asked
// what the difference is.
func diff(want, got *profile.Capture) string {
	want, got = plain(want), plain(got)
	if reflect.DeepEqual(want, got) {
		return ""
	}
	if len(want.Series) > 0 && want.Series[0].Samples.Len() > 10_000 {
		for i := range reflect.TypeFor[profile.Capture]().NumField() {
			if !reflect.DeepEqual(reflect.ValueOf(*want).Field(i).Interface(), reflect.ValueOf(*got).Field(i).Interface()) {
				return reflect.TypeFor[profile.Capture]().Field(i).Name + " differs"
			}
		}
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty(),
		cmp.Transformer("text", func(b []byte) string { return string(b) }),
		cmp.Transformer("stacks", func(s *profile.Stacks[profile.LocationID]) (c struct {
			Parents []profile.StackID
			Leaves  []profile.LocationID
		}) {
			c.Parents, c.Leaves = s.Columns()
			return c
		}))
}

// plain is c without the index of its stacks, and as a store returns an empty list: nil.
func plain(c *profile.Capture) *profile.Capture {
	p := *c
	p.Stacks = profile.StacksOf(c.Stacks.Columns())
	p.Start = p.Start.UTC()
	p.Symbols.Of = slices.Clone(p.Symbols.Of)
	for i, chain := range p.Symbols.Of {
		if len(chain) == 0 {
			p.Symbols.Of[i] = nil
		}
	}
	return &p
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPutAndLoad(t *testing.T) {
	s := open(t, Options{})
	want := generate(small, 1)
	m := must[Meta](t)(s.Put(want))
	got := must[*profile.Capture](t)(s.Load(m.ID))
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
	list := must[[]Meta](t)(s.List())
	if len(list) != 1 || list[0].ID != m.ID || len(list[0].Files) != small.files {
		t.Errorf("list is %+v", list)
	}
}
