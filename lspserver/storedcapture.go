package lspserver

import (
	"path/filepath"
	"slices"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/store"
)

// The commands in this file change what is stored. Those about one capture answer it as it is then.

type pinCaptureArgs struct {
	openCaptureArgs
	Pinned *bool `json:"pinned"` // absent: true
}

// pinCapture keeps a capture from being removed to make room, or no longer.
func (s *server) pinCapture(_ call, a pinCaptureArgs) (any, error) {
	return s.changeCapture("sightline.pinCapture", a.openCaptureArgs, func(st *store.Store, id store.ID) error {
		return st.Pin(id, a.Pinned == nil || *a.Pinned)
	})
}

type noteCaptureArgs struct {
	openCaptureArgs
	Note string `json:"note"` // "" for none
}

const noteBytes = 4096 // of a person's words on a capture

// noteCapture keeps a person's words with a capture.
func (s *server) noteCapture(_ call, a noteCaptureArgs) (any, error) {
	const name = "sightline.noteCapture"
	if len(a.Note) > noteBytes {
		return nil, rpc.ErrParams("%s: the note has %d bytes: give one of at most %d", name, len(a.Note), noteBytes)
	}
	return s.changeCapture(name, a.openCaptureArgs, func(st *store.Store, id store.ID) error { return st.SetNote(id, a.Note) })
}

// changeCapture changes what is stored of one capture.
func (s *server) changeCapture(name string, a openCaptureArgs, change func(*store.Store, store.ID) error) (any, error) {
	w, st, id, err := s.captureNamed(name, a)
	if err != nil {
		return nil, err
	}
	if err := change(st, id); err != nil {
		return nil, errState("%v", err)
	}
	s.stored(w)
	s.refresh.all()
	w.mu.Lock()
	i := slices.IndexFunc(w.metas, func(m store.Meta) bool { return m.ID == id })
	if i < 0 { // removed by somebody at this very moment
		w.mu.Unlock()
		return nil, errState("capture %s was removed meanwhile: sightline/captures lists those there are", id)
	}
	m := w.metas[i]
	w.mu.Unlock()
	return s.captureInfo(st.Path(), &m), nil
}

// captureNamed is the capture that a command's arguments name, which they must.
func (s *server) captureNamed(name string, a openCaptureArgs) (*workspace, *store.Store, store.ID, error) {
	if a.Capture == "" {
		return nil, nil, "", rpc.ErrParams("%s needs the argument \"capture\": give an id as sightline/captures has it, or \"@\" for the newest", name)
	}
	w, id, err := s.resolve(a)
	if err != nil {
		return nil, nil, "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, w.store, id, nil
}

// removeCapture removes a capture for good. Where it was shown, the newest is shown again.
func (s *server) removeCapture(_ call, a openCaptureArgs) (any, error) {
	w, st, id, err := s.captureNamed("sightline.removeCapture", a)
	if err != nil {
		return nil, err
	}
	if err := st.Remove(id); err != nil {
		return nil, errState("%v", err)
	}
	s.mu.Lock()
	if s.opened.is(st.Path(), id) { // so that nobody is told what they did themselves
		s.opened = nil
	}
	s.mu.Unlock()
	s.stored(w)
	s.dropBaseline()
	s.refresh.all()
	return s.showState(), nil
}

type importFileArgs struct {
	Path string `json:"path"`
}

func (a *importFileArgs) setShort(s string) { a.Path = s }

// An importResult is what a file of another tool became.
type importResult struct {
	showState
	Root string `json:"root"` // the folder whose store has the capture
}

// importFile reads a file of another tool into the store and shows it.
func (s *server) importFile(c call, a importFileArgs) (any, error) {
	const name = "sightline.importFile"
	if !filepath.IsAbs(a.Path) {
		return nil, rpc.ErrParams("%s: %.80q is no absolute path: give the file's full path as \"path\"", name, a.Path)
	}
	path := filepath.Clean(a.Path)
	if s.cfg.Import == nil {
		return nil, errState("this build of the server cannot import %s: run \"sightline import %[1]s\" in a terminal", path)
	}
	w := s.workspaceFor("", Request{Dir: filepath.Dir(path)})
	progress := s.client.Begin(c.ctx, rpc.Work{Token: c.token, Title: "Importing " + filepath.Base(path)})
	id, err := s.cfg.Import(c.ctx, path, w.root)
	if err != nil {
		progress.End("")
		if c.ctx.Err() != nil {
			return nil, c.ctx.Err()
		}
		return nil, errState("%v", err)
	}
	s.stored(w)
	_, err = s.load(w, id)
	progress.End("")
	if err != nil {
		return nil, errState("%s was imported as %s, which is not shown: %v", path, id, err)
	}
	s.showCapture(w.opened(id))
	return importResult{s.showState(), w.root}, nil
}
