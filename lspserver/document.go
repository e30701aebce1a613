package lspserver

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A document is one version of what an editor has open. It never changes; an edit makes another.
type document struct {
	uri     uri.URI
	path    string // where it lies; "" where that is not this machine's file system
	real    string // path without symbolic links
	version int32
	text    *rpc.Text
	history history // how text came about
	unknown bool    // a change could not be applied: where lines are is not known

	tests     func() []goTest // found at the first call
	native    func() []nativetest.Test
	launch    func() *launch.File    // nil for a document that has no launch targets
	functions func() []goFunction    // found at the first call
	placed    atomic.Pointer[placed] // the numbers placed last; see annotations
}

func newDocument(u uri.URI, path, real string, version int32, text *rpc.Text, h history) *document {
	d := &document{uri: u, path: path, real: real, version: version, text: text, history: h}
	d.functions = sync.OnceValue(func() []goFunction { return goFunctions(path, text.String()) })
	d.tests = sync.OnceValue(func() []goTest { return goTests(path, []byte(text.String())) })
	d.native = sync.OnceValue(func() []nativetest.Test { return nativetest.Find(path, text.String()) })
	d.launch = sync.OnceValue(func() *launch.File {
		if filepath.Base(path) != launch.FileName {
			return nil
		}
		return launch.Parse(path, []byte(text.String()))
	})
	return d
}

// documents are all that are open, by URI. The map never changes.
type documents map[uri.URI]*document

// isAt says whether a source of a capture is the document: where it was found when it was recorded,
// or else, which serves captures of other machines, where its build path leads now.
func (d *document) isAt(build, local string, paths *sourcemap.Paths) bool {
	if local != "" && paths.Same(local, d.path) {
		return true
	}
	if local != "" {
		if _, err := os.Stat(local); err == nil {
			return false
		}
	}
	here, ok := paths.Local(build)
	return ok && paths.Same(here, d.path)
}

// filePath is the path a URI names, and false where it names no file of this machine. An empty URI
// is read by the protocol package as the root folder, which is no document.
func filePath(u uri.URI) (string, bool) {
	// Schemes and host names are of either case, and the host may be named (RFC 8089, 2).
	if rest := string(u); len(rest) > 5 && strings.EqualFold(rest[:5], "file:") {
		rest = rest[5:]
		if host := "//localhost/"; len(rest) >= len(host) && strings.EqualFold(rest[:len(host)], host) {
			rest = "//" + rest[len(host)-1:]
		}
		u = uri.URI("file:" + rest)
	}
	if !u.IsFile() || u.Authority() != "" {
		return "", false
	}
	path := u.FsPath()
	return path, filepath.IsAbs(path) && path != "/"
}

type snapshotKey struct{}

// Snapshot implements rpc.Server: a call sees the documents as they were when it arrived.
func (s *server) Snapshot(ctx context.Context) context.Context {
	return context.WithValue(ctx, snapshotKey{}, s.documents())
}

func (s *server) documents() documents {
	if d := s.docs.Load(); d != nil {
		return *d
	}
	return nil
}

// snapshot is the documents that a call sees.
func (s *server) snapshot(ctx context.Context) documents {
	if d, ok := ctx.Value(snapshotKey{}).(documents); ok {
		return d
	}
	return s.documents()
}

// document is the one that a call is about. It is nil, without an error, for a document that lies
// nowhere on this machine, of which there is nothing to say.
func (s *server) document(ctx context.Context, u uri.URI) (*document, error) {
	d, ok := s.snapshot(ctx)[u]
	if !ok {
		if _, file := filePath(u); !file {
			return nil, nil
		}
		return nil, rpc.ErrParams("%s is not open here: send textDocument/didOpen first", u)
	}
	if d.path == "" {
		return nil, nil
	}
	return d, nil
}

// setDocument puts a version in place, or takes the document out with nil.
func (s *server) setDocument(u uri.URI, d *document) {
	// Notifications run one after the other, so nobody else writes.
	next := maps.Clone(s.documents())
	if next == nil {
		next = documents{}
	}
	if d == nil {
		delete(next, u)
	} else {
		next[u] = d
	}
	s.docs.Store(&next)
}

// DidOpen implements protocol.Server.
func (s *server) DidOpen(_ context.Context, p *protocol.DidOpenTextDocumentParams) error {
	item := p.TextDocument
	path, ok := filePath(item.URI)
	real := ""
	if ok {
		s.adoptDocument(path)
		real = s.paths.Load().Canonical(path)
	} else {
		s.log.Info("a document that is no file here is not annotated", "uri", item.URI)
	}
	d := newDocument(item.URI, path, real, item.Version, rpc.NewText(item.Text), newHistory(item.Text))
	s.setDocument(item.URI, d)
	s.checkTargets(d)
	return nil
}

// DidChange implements protocol.Server. Changes of a document that was never opened have no text to
// apply to. After one that cannot be applied the document has no numbers until its whole text comes.
func (s *server) DidChange(_ context.Context, p *protocol.DidChangeTextDocumentParams) error {
	d, ok := s.documents()[p.TextDocument.URI]
	if !ok {
		s.log.Warn("a change of a document that is not open is ignored", "uri", p.TextDocument.URI)
		return nil
	}
	text, h, unknown := d.text, d.history, d.unknown
	enc := s.client.Encoding()
	for i := range p.ContentChanges {
		next, err := text.Apply(enc, p.ContentChanges[i:i+1])
		if err != nil {
			s.log.Warn("a change was not applied: the document has no numbers until its whole text comes",
				"uri", d.uri, "version", p.TextDocument.Version, "error", err)
			unknown = true
			continue
		}
		if c, ok := p.ContentChanges[i].(*protocol.TextDocumentContentChangePartial); ok {
			h = h.edited(text.String(), text.Offset(enc, c.Range.Start), text.Offset(enc, c.Range.End), c.Text)
		} else {
			h, unknown = newHistory(next.String()), false
		}
		text = next
	}
	next := newDocument(d.uri, d.path, d.real, p.TextDocument.Version, text, h)
	next.unknown = unknown
	s.setDocument(d.uri, next)
	s.checkTargets(next)
	return nil
}

// DidSave implements protocol.Server: what is on disk now may be what is built and recorded next.
func (s *server) DidSave(_ context.Context, p *protocol.DidSaveTextDocumentParams) error {
	d, ok := s.documents()[p.TextDocument.URI]
	if !ok || d.unknown {
		return nil
	}
	next := newDocument(d.uri, d.path, d.real, d.version, d.text, d.history.saved(d.text.String()))
	s.setDocument(d.uri, next)
	return nil
}

// DidClose implements protocol.Server.
func (s *server) DidClose(_ context.Context, p *protocol.DidCloseTextDocumentParams) error {
	if d := s.documents()[p.TextDocument.URI]; d != nil {
		s.forgetTargets(d)
	}
	s.setDocument(p.TextDocument.URI, nil)
	return nil
}
