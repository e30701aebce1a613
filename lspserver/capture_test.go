package lspserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

func emptyCapture(t *testing.T) *loaded {
	t.Helper()
	c := profile.NewCapture(profile.Target{}, time.Unix(0, 0))
	c.Series = []profile.Series{{Kind: profile.CPU, Unit: profile.Nanoseconds}}
	l, err := load(captureKey{}, c, new(profile.Follower), func(string) []byte { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The capture used longest ago goes first, the one just used never, and what is there is not loaded
// again.
func TestCapturesAreBounded(t *testing.T) {
	one := emptyCapture(t)
	c := newCaptures(2 * one.bytes())
	loads := map[store.ID]int{}
	get := func(id store.ID) {
		t.Helper()
		if _, err := c.get(captureKey{"/", id}, func() (*loaded, error) { loads[id]++; return emptyCapture(t), nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []store.ID{"a", "b", "a", "c", "a", "c", "b"} {
		get(id)
	}
	if loads["a"] != 1 || loads["b"] != 2 || loads["c"] != 1 {
		t.Errorf("loads: %v", loads)
	}
	c.limit = 0
	get("d")
	get("d")
	if loads["d"] != 1 || len(c.byKey) != 1 {
		t.Errorf("with no room at all: %v, %d kept", loads, len(c.byKey))
	}
}

// An error is not met again for each keystroke, until the store has changed.
func TestCaptureErrorsAreRemembered(t *testing.T) {
	c := newCaptures(1 << 20)
	loads := 0
	get := func() error {
		_, err := c.get(captureKey{"/", "x"}, func() (*loaded, error) { loads++; return nil, errors.New("damaged") })
		return err
	}
	if get() == nil || get() == nil || loads != 1 {
		t.Errorf("%d loads", loads)
	}
	c.retain("/other", func(store.ID) bool { return false })
	get()
	c.retain("/", func(store.ID) bool { return true })
	get()
	if loads != 2 {
		t.Errorf("%d loads after the store has changed, want 2", loads)
	}
	c.get(captureKey{"/", "y"}, func() (*loaded, error) { return emptyCapture(t), nil })
	c.retain("/", func(id store.ID) bool { return id != "y" })
	if len(c.byKey) != 0 {
		t.Errorf("a capture that was removed from the store is kept: %v", c.byKey)
	}
}

// A capture without series has nothing to show, and says so.
func TestLoadNothing(t *testing.T) {
	if _, err := load(captureKey{}, profile.NewCapture(profile.Target{}, time.Now()), new(profile.Follower), nil); !errors.Is(err, profile.ErrNoSeries) {
		t.Errorf("load: %v", err)
	}
}

// A still client answers nothing and is never asked.
type still struct{ rpc.Client }

func (still) Encoding() rpc.Encoding { return rpc.UTF16 }

// A call sees the documents as they were when it arrived.
func TestSnapshot(t *testing.T) {
	s := New(still{}, Config{}).(*server)
	u := uri.File("/tmp/a.go")
	change := func(text string, version int32) {
		t.Helper()
		err := s.DidChange(t.Context(), &protocol.DidChangeTextDocumentParams{
			TextDocument: protocol.VersionedTextDocumentIdentifier{
				TextDocumentIdentifier: protocol.TextDocumentIdentifier{URI: u}, Version: version,
			},
			ContentChanges: []protocol.TextDocumentContentChangeEvent{&protocol.TextDocumentContentChangeWholeDocument{Text: text}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := s.Snapshot(context.Background())
	if err := s.DidOpen(t.Context(), &protocol.DidOpenTextDocumentParams{TextDocument: protocol.TextDocumentItem{URI: u, Text: "one", Version: 1}}); err != nil {
		t.Fatal(err)
	}
	opened := s.Snapshot(context.Background())
	change("two", 2)
	changed := s.Snapshot(context.Background())
	if err := s.DidClose(t.Context(), &protocol.DidCloseTextDocumentParams{TextDocument: protocol.TextDocumentIdentifier{URI: u}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.document(before, u); err == nil {
		t.Error("a call from before the opening sees the document")
	}
	for ctx, want := range map[context.Context]string{opened: "one", changed: "two"} {
		d, err := s.document(ctx, u)
		if err != nil || d.text.String() != want {
			t.Errorf("the document is %v (%v), want %q", d, err, want)
		}
	}
	if _, err := s.document(s.Snapshot(context.Background()), u); err == nil {
		t.Error("a call from after the closing sees the document")
	}
}
