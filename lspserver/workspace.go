package lspserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A workspace is one root folder and the store of its captures.
type workspace struct {
	root    string
	adopted bool // taken from where an open file lies, because it lies in no folder of the client

	mu         sync.Mutex // guards what follows; held while the store is read
	store      *store.Store
	listed     bool
	*index            // what the store had when it was listed; empty before
	complained string // the last complaint about the store, said once
}

// generalRoot stands for the root folder of captures that belong to no workspace.
const generalRoot = "/"

// folder is the root folder that a path lies in, the innermost; nil if none.
func (s *server) folder(path string) *workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return folderOf(s.workspaces, path)
}

func folderOf(workspaces []*workspace, path string) *workspace {
	var best *workspace
	for _, w := range workspaces {
		if within(path, w.root) && (best == nil || len(w.root) > len(best.root)) {
			best = w
		}
	}
	return best
}

// within says whether path is folder or lies in it.
func within(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/' || folder == "/")
}

// addFolders takes root folders in. Folders that are not on this machine are told and left out.
func (s *server) addFolders(folders []protocol.WorkspaceFolder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range folders {
		path, ok := filePath(f.URI)
		if !ok {
			s.log.Warn("a folder that is not on this machine has no captures here", "folder", f.URI)
			continue
		}
		path = filepath.Clean(path)
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			s.log.Warn("a folder that does not exist is left out", "folder", path)
			continue
		}
		i := slices.IndexFunc(s.workspaces, func(w *workspace) bool { return w.root == path })
		if i < 0 {
			s.workspaces = append(s.workspaces, &workspace{root: path, index: &index{}})
		} else {
			s.workspaces[i].adopted = false
		}
	}
	s.pathsChanged()
}

// removeFolders lets root folders go.
func (s *server) removeFolders(folders []protocol.WorkspaceFolder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range folders {
		path, _ := filePath(f.URI)
		s.workspaces = slices.DeleteFunc(s.workspaces, func(w *workspace) bool { return w.root == filepath.Clean(path) })
	}
	s.pathsChanged()
}

// workspaceFor is the workspace whose store takes a recording: that of a place where one is given, a
// test's own project, else that of the folder it runs in or the first there is.
func (s *server) workspaceFor(place string, req Request) *workspace {
	if place != "" {
		return s.adoptWorkspaceOf(place)
	}
	if req.Test == nil {
		s.mu.Lock()
		w := folderOf(s.workspaces, req.Dir)
		if w == nil && len(s.workspaces) > 0 {
			w = s.workspaces[0]
		}
		s.mu.Unlock()
		if w == nil && req.Dir == generalRoot {
			w = s.general
		}
		if w != nil {
			return w
		}
	}
	return s.adoptWorkspaceOf(req.Dir)
}

// adoptDocument makes the project of an open file a workspace, but not the Go tree and the module
// cache: editors lead there, and their captures are those of who calls them.
func (s *server) adoptDocument(path string) {
	paths := s.paths.Load()
	for _, foreign := range []string{paths.GOROOT, paths.ModCache} {
		if foreign != "" && within(path, foreign) && len(s.allWorkspaces()) > 0 {
			return
		}
	}
	s.adoptWorkspaceOf(path)
}

// adoptWorkspaceOf makes the project that a file or folder lies in a workspace, where it lies in
// none: its captures are in its own store.
func (s *server) adoptWorkspaceOf(path string) *workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := folderOf(s.workspaces, path); w != nil {
		return w
	}
	w := &workspace{root: projectOf(path), adopted: true, index: &index{}}
	s.workspaces = append(s.workspaces, w)
	s.pathsChanged()
	return w
}

// projectOf is the nearest folder above path that looks like the root of a project, or else the
// folder that path is or lies in.
func projectOf(path string) string {
	dir := path
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		dir = filepath.Dir(path)
	}
	for at := dir; ; at = filepath.Dir(at) {
		for _, mark := range []string{"go.work", "go.mod", ".git", "Cargo.toml"} {
			if _, err := os.Stat(filepath.Join(at, mark)); err == nil {
				return at
			}
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// pathsChanged makes the map of build paths anew, first from what is known, and has findPaths do it
// better. The caller holds s.mu.
func (s *server) pathsChanged() {
	p := &sourcemap.Paths{Prefixes: s.settings.prefixes, Workspace: rootsOf(s.workspaces)}
	if old := s.paths.Load(); old != nil {
		p.GOROOT, p.ModCache, p.RustSource, p.CargoSource = old.GOROOT, old.ModCache, old.RustSource, old.CargoSource
	}
	s.paths.Store(p)
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

func rootsOf(workspaces []*workspace) []string {
	roots := make([]string, len(workspaces))
	for i, w := range workspaces {
		roots[i] = w.root
	}
	return roots
}

// findPaths asks tools where sources lie.
func (s *server) findPaths() {
	s.mu.Lock()
	roots, prefixes := rootsOf(s.workspaces), s.settings.prefixes
	s.mu.Unlock()
	p, err := s.cfg.FindPaths(s.ctx, roots)
	if err != nil && s.ctx.Err() == nil {
		s.log.Warn("some sources may not be found", "error", err)
	}
	if p == nil {
		return
	}
	p.Prefixes = prefixes
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(roots, rootsOf(s.workspaces)) && slices.Equal(prefixes, s.settings.prefixes) {
		s.paths.Store(p) // else something changed meanwhile, and this is called again
	}
}

// DidChangeWorkspaceFolders implements protocol.Server.
func (s *server) DidChangeWorkspaceFolders(_ context.Context, p *protocol.DidChangeWorkspaceFoldersParams) error {
	s.removeFolders(p.Event.Removed)
	s.addFolders(p.Event.Added)
	s.refresh.all()
	return nil
}

// storePath names the workspace's store; "" while it has none. Several folders may share one store,
// as those of one repository do: their captures are to be counted once. The caller holds w.mu.
func (w *workspace) storePath() string {
	if w.store == nil {
		return ""
	}
	return w.store.Path()
}

// storedCapture names a capture across folders that share a store.
type storedCapture struct {
	store string
	id    store.ID
}

// allWorkspaces is the workspaces as they are now.
func (s *server) allWorkspaces() []*workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.workspaces)
}

// allStores is the workspaces as they are now, and then the one of captures without a workspace.
func (s *server) allStores() []*workspace {
	all := s.allWorkspaces()
	if s.general != nil {
		all = append(all, s.general)
	}
	return all
}

// workspaceOfStore is a workspace whose captures are in the store at path; nil if there is none.
func (s *server) workspaceOfStore(path string) *workspace {
	if path == "" {
		return nil
	}
	for _, w := range s.allStores() {
		if s.storePathOf(w) == path {
			return w
		}
	}
	return nil
}

// storePathOf is the path of a workspace's store; "" where it cannot be opened, which whoever reads it
// tells.
func (s *server) storePathOf(w *workspace) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = s.openStore(w)
	return w.storePath()
}

// openStore opens the workspace's store unless it is open. The caller holds w.mu.
func (s *server) openStore(w *workspace) error {
	if w.store != nil {
		return nil
	}
	root, open := w.root, s.cfg.OpenStore
	if w == s.general {
		root, open = "", func(string) (*store.Store, error) { return s.cfg.General() }
	}
	st, err := s.hub.openStore(root, open)
	if err == nil {
		w.store = st
	}
	return err
}

// list reads what the workspace's store has, unless nothing was written since it was last read. It
// says whether something is new. What goes wrong is told to the person once.
func (s *server) list(w *workspace) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := func() error {
		if err := s.openStore(w); err != nil {
			return err
		}
		next, err := s.hub.read(w.store)
		if err != nil || w.listed && next == w.index {
			return err
		}
		// The first list is no news: nobody has asked before it. Neither is that a recording grows.
		changed = w.listed && !slices.EqualFunc(finished(w.metas), finished(next.metas), sameCapture)
		w.index, w.listed = next, true
		s.captures.retain(w.root, func(id store.ID) bool {
			return slices.ContainsFunc(w.metas, func(m store.Meta) bool { return m.ID == id })
		})
		return nil
	}()
	if err == nil {
		w.complained = ""
	} else if msg := err.Error(); msg != w.complained {
		w.complained = msg
		s.log.Warn("the captures of a folder cannot be read", "folder", w.root, "error", err)
		s.say(protocol.MessageTypeWarning, "No captures for "+w.root+": "+msg)
	}
	return changed
}

// sameCapture says whether a list of captures shows two states of a capture alike.
func sameCapture(a, b store.Meta) bool {
	return a.ID == b.ID && a.Pinned == b.Pinned && a.Note == b.Note && a.Interrupted == b.Interrupted && len(a.Files) == len(b.Files)
}

// lookAgain has the session look at its stores at once.
func (s *server) lookAgain() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// stored takes in what this session itself has changed in a workspace's store, and tells the others.
func (s *server) stored(w *workspace) {
	s.list(w)
	s.hub.changed(s.storePathOf(w), s)
}

// finished are the captures that are complete, or will never be.
func finished(metas []store.Meta) []store.Meta {
	return slices.DeleteFunc(slices.Clone(metas), func(m store.Meta) bool { return m.Recording })
}

// A candidate is a capture that may have numbers for a document.
type candidate struct {
	workspace *workspace
	meta      *store.Meta // not to be changed
}

// candidates are the captures of all workspaces that touch a document, newest first.
func (s *server) candidates(d *document) []candidate {
	paths := s.paths.Load()
	var found []candidate
	known := map[storedCapture]bool{}
	for _, w := range s.allStores() {
		w.mu.Lock()
		if !w.listed {
			w.mu.Unlock()
			s.list(w)
			w.mu.Lock()
		}
		consider := func(base string) {
			for _, t := range w.byBase[base] {
				key := storedCapture{w.storePath(), w.metas[t.meta].ID}
				if !known[key] && d.isAt(t.file.Path, t.file.Local, paths) {
					known[key] = true
					found = append(found, candidate{w, &w.metas[t.meta]})
				}
			}
		}
		base, real := filepath.Base(d.path), filepath.Base(d.real)
		consider(base)
		if real != base {
			consider(real)
		}
		w.mu.Unlock()
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Compare(b.meta.ID, a.meta.ID) // ids sort by time
	})
	return found
}

// load makes a stored capture ready.
func (s *server) load(w *workspace, id store.ID) (*loaded, error) {
	w.mu.Lock()
	st := w.store
	w.mu.Unlock()
	if st == nil {
		return nil, fmt.Errorf("the captures of %s cannot be read", w.root)
	}
	key := captureKey{w.root, id}
	return s.captures.get(key, func() (*loaded, error) {
		c, err := st.LoadWithoutSources(id)
		if err != nil {
			return nil, err
		}
		l, err := load(key, c, new(profile.Follower), func(path string) []byte {
			src, err := st.Source(id, path)
			if err != nil {
				s.log.Warn("a recorded source cannot be read, its lines may be off", "capture", id, "file", path, "error", err)
			}
			return src.Text
		})
		if err == nil {
			l.again = func() (*profile.Capture, error) { return st.LoadWithoutSources(id) }
		}
		return l, err
	})
}

// watch looks once in a while whether another process has stored a capture, until the session ends.
func (s *server) watch() {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.moved:
			s.findPaths()
		case <-s.again:
			s.relist()
		case <-tick.C:
			s.relist()
		}
	}
}

// relist looks whether stores have something new and has the client ask again if so.
func (s *server) relist() {
	changed := false
	for _, w := range s.allStores() {
		changed = s.list(w) || changed
	}
	if changed {
		s.removedOpened()
		s.dropBaseline()
		s.refresh.all()
	}
}

// fileOf is what to show for a document: the recording that is under way, if it has been there
// already; else the capture that was opened by hand; else the newest that touches it and was not
// cleared away.
func (s *server) fileOf(d *document) *file {
	s.mu.Lock()
	live, opened, paths := s.live, s.opened, s.paths.Load()
	hidden, hiddenHere, kind := s.hidden, s.hiddenIn[d.path], s.kind
	s.mu.Unlock()
	if live != nil {
		if f := live.as(kind).of(d, paths); f != nil {
			return f
		}
	}
	if opened != nil {
		if hiddenHere[captureKey{opened.workspace.root, opened.id}] {
			return nil
		}
		l, err := s.load(opened.workspace, opened.id)
		switch {
		case err == nil:
			return l.as(kind).of(d, paths)
		case !errors.Is(err, store.ErrNoCapture):
			s.complain(opened.id, err)
			return nil
		}
		s.letGo(opened)
	}
	for _, c := range s.candidates(d) {
		if key := (captureKey{c.workspace.root, c.meta.ID}); hidden[key] || hiddenHere[key] {
			continue
		}
		l, err := s.load(c.workspace, c.meta.ID)
		if err != nil {
			s.complain(c.meta.ID, err)
			continue
		}
		if f := l.as(kind).of(d, paths); f != nil {
			return f
		}
	}
	return nil
}

// letGo goes back to the newest captures where the one that was opened is not stored any more, and
// says so.
func (s *server) letGo(opened *openedCapture) {
	s.mu.Lock()
	still := s.opened == opened
	if still {
		s.opened = nil
	}
	s.mu.Unlock()
	if still {
		s.say(protocol.MessageTypeInfo, "Capture "+string(opened.id)+" was removed: the newest is shown again.")
		s.refresh.all()
	}
}

// removedOpened lets the opened capture go where it is not among those of its store any more.
func (s *server) removedOpened() {
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	if opened == nil {
		return
	}
	w := opened.workspace
	w.mu.Lock()
	there := !w.listed || slices.ContainsFunc(w.metas, func(m store.Meta) bool { return m.ID == opened.id })
	w.mu.Unlock()
	if !there {
		s.letGo(opened)
	}
}

// complain tells once that a capture cannot be read.
func (s *server) complain(id store.ID, err error) {
	s.mu.Lock()
	said := s.complained[id]
	s.complained[id] = true
	s.mu.Unlock()
	if !said {
		s.log.Warn("a capture cannot be read", "capture", id, "error", err)
		s.say(protocol.MessageTypeWarning, "Capture "+string(id)+" is not shown: "+err.Error())
	}
}

// workspaceAt is the workspace with that root; nil if there is none.
func (s *server) workspaceAt(root string) *workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workspaces {
		if w.root == root {
			return w
		}
	}
	if s.general != nil && s.general.root == root {
		return s.general
	}
	return nil
}
