package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// clock makes ids that a test knows: each capture is begun a second after the one before.
func clock(s *Store) {
	now := time.UnixMilli(1_800_000_000_000)
	s.now = func() time.Time { now = now.Add(time.Second); return now }
}

func ids(metas []Meta) []ID {
	var out []ID
	for _, m := range metas {
		out = append(out, m.ID)
	}
	return out
}

// counts are the numbers of sources and texts in the file.
func counts(t *testing.T, s *Store) (sources, texts int) {
	t.Helper()
	if err := s.view("count", func(tx *bolt.Tx) error {
		sources = tx.Bucket(bucketSources).Stats().KeyN
		texts = tx.Bucket(bucketTexts).Stats().KeyN
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return sources, texts
}

func TestSourcesAreShared(t *testing.T) {
	s := open(t, Options{})
	c := profile.NewCapture(profile.Target{}, time.Now())
	text := []byte("package a\n")
	put := func(sources ...profile.Source) ID {
		c.Symbols.Sources = sources
		return must[Meta](t)(s.Put(c)).ID
	}
	a := profile.Source{Path: "a.go", Local: "/w/a.go", Text: text}
	same := profile.Source{Path: "same.go", Local: "/w/same.go", Text: text}
	missing := profile.Source{Path: "missing.go", Note: "not found"}
	first := put(a, missing)
	if n, m := counts(t, s); n != 2 || m != 1 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	second := put(a, same)
	if n, m := counts(t, s); n != 3 || m != 1 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	changed := a
	changed.Text = []byte("package a // changed\n")
	third := put(changed)
	if n, m := counts(t, s); n != 4 || m != 2 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	for id, want := range map[ID]profile.Source{first: a, second: a, third: changed} {
		got := must[profile.Source](t)(s.Source(id, "a.go"))
		if string(got.Text) != string(want.Text) || got.Local != want.Local {
			t.Errorf("%s has %+v", id, got)
		}
		light := must[*profile.Capture](t)(s.LoadWithoutSources(id))
		if len(light.Symbols.Sources) == 0 || light.Symbols.Sources[0].Path != "a.go" || light.Symbols.Sources[0].Text != nil {
			t.Errorf("without texts the sources are %+v", light.Symbols.Sources)
		}
	}
	if got := must[profile.Source](t)(s.Source(first, "missing.go")); got.Text != nil || got.Note != "not found" {
		t.Errorf("a source without text is %+v", got)
	}
	if _, err := s.Source(first, "b.go"); !errors.Is(err, ErrNoSource) {
		t.Errorf("a file that is none says %v", err)
	}
	if err := s.Remove(first); err != nil {
		t.Fatal(err)
	}
	if n, m := counts(t, s); n != 3 || m != 2 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	// Replacing lets go of what only the old one named.
	if _, err := s.Replace(third, c); err != nil {
		t.Fatal(err)
	}
	c.Symbols.Sources = nil
	if _, err := s.Replace(third, c); err != nil {
		t.Fatal(err)
	}
	if n, m := counts(t, s); n != 2 || m != 1 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	// A text stays while another source has it.
	fourth := put(same)
	if err := s.Remove(second); err != nil {
		t.Fatal(err)
	}
	if got := must[profile.Source](t)(s.Source(fourth, "same.go")); string(got.Text) != string(text) {
		t.Errorf("the text that was shared is %q", got.Text)
	}
	if n, m := counts(t, s); n != 1 || m != 1 {
		t.Errorf("%d sources and %d texts", n, m)
	}
	if err := s.Remove(fourth, third); err != nil {
		t.Fatal(err)
	}
	if n, m := counts(t, s); n != 0 || m != 0 {
		t.Errorf("%d sources and %d texts", n, m)
	}
}

func TestPrune(t *testing.T) {
	s := open(t, Options{Budget: -1})
	clock(s)
	var all []ID
	for i := range 12 {
		m := must[Meta](t)(s.Put(generate(small, uint64(i))))
		if m.Pruned != nil {
			t.Errorf("without a limit %v was pruned", m.Pruned)
		}
		all = append(all, m.ID)
	}
	if err := s.Pin(all[1], true); err != nil {
		t.Fatal(err)
	}
	if err := s.SetNote(all[1], "keep"); err != nil {
		t.Fatal(err)
	}
	w := must[*Writer](t)(s.Begin(prefix(generate(small, 50), 100)))
	u := must[Usage](t)(s.Usage())
	s.opts.Budget = u.Used - 30_000
	m := must[Meta](t)(s.Put(generate(small, 99)))
	if len(m.Pruned) < 3 || m.Pruned[0] != all[0] || m.Pruned[1] != all[2] {
		t.Errorf("pruned %v of %v, of which the second is pinned", m.Pruned, all)
	}
	if u := must[Usage](t)(s.Usage()); u.Used > s.opts.Budget {
		t.Errorf("%d bytes are used of %d", u.Used, s.opts.Budget)
	}
	want := append(slices.DeleteFunc(slices.Clone(all), func(id ID) bool { return slices.Contains(m.Pruned, id) }), w.ID(), m.ID)
	slices.Reverse(want)
	list := must[[]Meta](t)(s.List())
	if got := ids(list); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	// Nothing but what may not go, and the newest, is left under the smallest budget.
	s.opts.Budget = 1
	last := must[Meta](t)(w.Finish(generate(small, 50)))
	want = []ID{w.ID(), all[1]}
	if list := must[[]Meta](t)(s.List()); !slices.Equal(ids(list), want) || list[1].Note != "keep" || !list[1].Pinned {
		t.Errorf("left are %v, want %v", ids(list), want)
	}
	if last.Recording || last.Interrupted {
		t.Errorf("finished as %+v", last)
	}
	if err := s.Pin(all[1], false); err != nil {
		t.Fatal(err)
	}
	if m := must[Meta](t)(s.Put(generate(small, 51))); len(m.Pruned) != 2 {
		t.Errorf("pruned %v", m.Pruned)
	}
}

func TestCompact(t *testing.T) {
	s := open(t, Options{})
	if err := s.Compact(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	var all []ID
	for i := range 20 {
		all = append(all, must[Meta](t)(s.Put(generate(small, uint64(i)))).ID)
	}
	kept := must[*profile.Capture](t)(s.Load(all[19]))
	if err := s.Remove(all[:19]...); err != nil {
		t.Fatal(err)
	}
	leftover := s.Path() + temporarySuffix + "1"
	young := s.Path() + temporarySuffix + "2"
	for _, name := range []string{leftover, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(leftover, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	before := must[Usage](t)(s.Usage())
	token := must[Token](t)(s.Changed())
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	after := must[Usage](t)(s.Usage())
	if after.File > before.File/2 {
		t.Errorf("%d bytes have become %d", before.File, after.File)
	}
	if must[Token](t)(s.Changed()) == token {
		t.Error("the change was not noticed")
	}
	if d := diff(kept, must[*profile.Capture](t)(s.Load(all[19]))); d != "" {
		t.Error(d)
	}
	if info := must[os.FileInfo](t)(os.Stat(s.Path())); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(s.Path())))
	if len(entries) != 2 || entries[1].Name() != filepath.Base(young) {
		t.Errorf("left over are %v", entries)
	}
	// Numbers of sources go on after compacting: a new one must not take an old one's.
	other := generate(small, 3)
	other.Symbols.Sources[0].Text = []byte("another text")
	m := must[Meta](t)(s.Put(other))
	if d := diff(other, must[*profile.Capture](t)(s.Load(m.ID))); d != "" {
		t.Error(d)
	}
}

// A file that is mostly free is compacted without being asked, when that is worth it.
func TestCompactsByItself(t *testing.T) {
	s := open(t, Options{})
	c := profile.NewCapture(profile.Target{}, time.Now())
	noise := make([]byte, 3<<20)
	state := uint32(1)
	for i := range noise {
		state = state*1664525 + 1013904223
		noise[i] = byte(state >> 24)
	}
	var all []ID
	for i := range 4 {
		noise[0] = byte(i)
		c.Symbols.Sources = []profile.Source{{Path: "noise", Text: slices.Clone(noise)}}
		all = append(all, must[Meta](t)(s.Put(c)).ID)
	}
	before := must[Usage](t)(s.Usage())
	if before.Used < 12<<20 {
		t.Fatalf("only %d bytes are used", before.Used)
	}
	if err := s.Remove(all[:3]...); err != nil {
		t.Fatal(err)
	}
	if after := must[Usage](t)(s.Usage()); after.File > before.File/2 {
		t.Errorf("%d bytes have become %d", before.File, after.File)
	}
	if _, err := s.Load(all[3]); err != nil {
		t.Error(err)
	}
}

func TestChanged(t *testing.T) {
	s := open(t, Options{})
	seen := map[Token]string{{}: "nothing"}
	if token := must[Token](t)(s.Changed()); token != (Token{}) {
		t.Errorf("without a file the token is %v", token)
	}
	var id ID
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"put", func() error { m, err := s.Put(generate(small, 1)); id = m.ID; return err }},
		{"pin", func() error { return s.Pin(id, true) }},
		{"note", func() error { return s.SetNote(id, "a") }},
		{"note again", func() error { return s.SetNote(id, "b") }},
		{"compact", func() error { return s.Compact() }},
		{"remove", func() error { return s.Remove(id) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		// Two commits within one tick of a file system's clock.
		if err := os.Chtimes(s.Path(), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		token := must[Token](t)(s.Changed())
		if before, ok := seen[token]; ok {
			t.Errorf("%s looks like %s", step.what, before)
		}
		seen[token] = step.what
		if _, err := s.List(); err != nil {
			t.Fatal(err)
		}
		if must[Token](t)(s.Changed()) != token {
			t.Errorf("after %s, reading looks like a change", step.what)
		}
	}
}

func TestWriter(t *testing.T) {
	s := open(t, Options{})
	c := generate(small, 1)
	w := must[*Writer](t)(s.Begin(prefix(c, 0)))
	if err := w.Flush(prefix(c, 300)); err != nil {
		t.Fatal(err)
	}
	token := must[Token](t)(s.Changed())
	if err := w.Flush(prefix(c, 300)); err != nil || must[Token](t)(s.Changed()) != token {
		t.Errorf("a flush of nothing new changed the file, %v", err)
	}
	// Mappings become better known, a person pins, warnings come.
	p := prefix(c, 600)
	p.Mappings[1].BuildID = "known now"
	p.Mappings[3].Deleted = true
	p.Warnings = append(p.Warnings, profile.Warning{Kind: profile.WarnCut, Text: "deep", Count: 1})
	if err := s.Pin(w.ID(), true); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(p); err != nil {
		t.Fatal(err)
	}
	p.Mappings[1].BuildID = "known better" // and no table has grown
	p.Series = append(p.Series, profile.Series{Kind: profile.Blocked, Unit: profile.Nanoseconds})
	if err := w.Flush(p); err != nil {
		t.Fatal(err)
	}
	got := must[*profile.Capture](t)(s.Load(w.ID()))
	if !got.Interrupted || got.Warnings[len(got.Warnings)-1].Kind != profile.WarnInterrupted {
		t.Errorf("interrupted %v, %v", got.Interrupted, got.Warnings)
	}
	got.Interrupted, got.Warnings = false, got.Warnings[:len(got.Warnings)-1]
	if d := diff(p, got); d != "" {
		t.Error(d)
	}
	if err := w.Flush(prefix(c, 500)); err == nil || !strings.Contains(err.Error(), "600 samples of kind cpu have become 500") && !strings.Contains(err.Error(), "have become") {
		t.Errorf("a capture that shrinks: %v", err)
	}
	bad := generate(small, 1)
	bad.Series[0].Samples.Stack[5] = 1 << 30
	if _, err := w.Finish(bad); err == nil {
		t.Error("a capture that breaks its laws was finished")
	}
	final := generate(small, 1)
	final.Mappings[1].BuildID = "final"
	m := must[Meta](t)(w.Finish(final))
	if !m.Pinned || m.Interrupted || m.ID != w.ID() || m.Bytes == 0 || len(m.Files) != small.files {
		t.Errorf("finished as %+v", m)
	}
	if d := diff(final, must[*profile.Capture](t)(s.Load(m.ID))); d != "" {
		t.Error(d)
	}
	if err := w.Flush(final); err == nil {
		t.Error("flushed after it was finished")
	}
	if err := w.Discard(); err != nil {
		t.Errorf("discarded after it was finished: %v", err)
	}
	if _, err := s.Load(m.ID); err != nil {
		t.Error(err)
	}

	again := must[*Writer](t)(s.Begin(final))
	if err := again.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(again.ID()); !errors.Is(err, ErrNoCapture) {
		t.Errorf("discarded and loaded: %v", err)
	}
	gone := must[*Writer](t)(s.Begin(prefix(c, 10)))
	if err := s.update("test", func(tx *bolt.Tx) error { return s.remove("test", tx, []ID{gone.ID()}, true) }); err != nil {
		t.Fatal(err)
	}
	if err := gone.Flush(prefix(c, 20)); !errors.Is(err, ErrNoCapture) {
		t.Errorf("flushed into what was removed: %v", err)
	}
	if err := gone.Discard(); err != nil {
		t.Errorf("discarding what was removed: %v", err)
	}
}
