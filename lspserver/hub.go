package lspserver

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// A Hub is what the servers of one process have in common: stores that are open, captures that are
// ready, and recordings, which belong to the process and not to the editor that began them. All
// methods may be called from any goroutine.
//
// The servers of one Hub must mean the same store by the same folder.
type Hub struct {
	shared   bool // more servers than one may use it, and come and go
	captures *captures

	mu       sync.Mutex // guards what follows; never held while anything waits
	servers  map[*server]bool
	stores   map[string]*store.Store // by root folder
	indexes  map[string]*index       // by the store's path
	underway []*recording            // in the order in which they began
	began    int                     // how many recordings have begun
	moved    func()                  // told when underway changes; may be nil
}

// NewHub makes a Hub for the servers of one process, to be given to each in its Config. A recording
// then goes on to its end when the editor that began it goes away, and is kept. Moved, which may be
// nil, is called after a recording has begun or ended; it must not wait.
func NewHub(moved func()) *Hub {
	h := newHub()
	h.shared, h.moved = true, moved
	return h
}

func newHub() *Hub {
	return &Hub{
		captures: newCaptures(cacheLimit),
		servers:  map[*server]bool{}, stores: map[string]*store.Store{}, indexes: map[string]*index{},
	}
}

// An index is what a store has, at one state of its file. It does not change.
type index struct {
	version store.Token
	metas   []store.Meta // newest first
	byBase  map[string][]touch
	until   time.Time // when it is to be read anew though the file is the same; zero: never
}

// A touch is a file of a stored capture.
type touch struct {
	meta int // index into metas
	file store.FileMeta
}

// newIndex makes metas findable by the files they touch. Paths are compared when somebody asks: to
// resolve all of them up front would be slow.
func newIndex(version store.Token, metas []store.Meta) *index {
	x := &index{version: version, metas: metas, byBase: map[string][]touch{}}
	for i, m := range metas {
		if m.Recording { // it has no symbols yet, and may be abandoned without a word
			x.until = time.Now().Add(time.Second)
			continue
		}
		for _, f := range m.Files {
			base := filepath.Base(f.Path)
			x.byBase[base] = append(x.byBase[base], touch{i, f})
			if local := filepath.Base(f.Local); f.Local != "" && local != base {
				x.byBase[local] = append(x.byBase[local], touch{i, f})
			}
		}
	}
	return x
}

// openStore is the store of a root folder, opened with open the first time.
func (h *Hub) openStore(root string, open func(string) (*store.Store, error)) (*store.Store, error) {
	h.mu.Lock()
	st := h.stores[root]
	h.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := open(root)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stores[root] = st
	return st, nil
}

// read is what the store has now. It is read anew only where the file has changed.
func (h *Hub) read(st *store.Store) (*index, error) {
	version, err := st.Changed()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	x := h.indexes[st.Path()]
	h.mu.Unlock()
	if x != nil && x.version == version && (x.until.IsZero() || time.Now().Before(x.until)) {
		return x, nil
	}
	metas, err := st.List()
	if err != nil {
		return nil, err
	}
	x = newIndex(version, metas)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.indexes[st.Path()] = x
	return x, nil
}

// Forget lets captures that are kept ready go, for a process that nobody asks anything. They are read
// again when somebody does.
func (h *Hub) Forget() {
	h.mu.Lock()
	h.indexes = map[string]*index{}
	h.mu.Unlock()
	h.captures.forget()
}

func (h *Hub) add(s *server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers[s] = true
}

func (h *Hub) remove(s *server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.servers, s)
}

func (h *Hub) everyServer() []*server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.servers))
}

// Changed says that the store at path was changed by somebody who is no server of h, so that its
// servers look at once. Path "" is any store.
func (h *Hub) Changed(path string) { h.changed(path, nil) }

// changed has all servers but one look at a store.
func (h *Hub) changed(path string, but *server) {
	for _, s := range h.everyServer() {
		if s != but && (path == "" || s.workspaceOfStore(path) != nil) {
			s.lookAgain()
		}
	}
}

// begin takes a recording in, from its start to its end. The same target is recorded once: where
// another recording of it is under way, begin returns that and start is not called. A start that
// fails leaves nothing behind.
func (h *Hub) begin(r *recording, start func() (Recording, error)) (of *recording, err error) {
	h.mu.Lock()
	if i := slices.IndexFunc(h.underway, func(o *recording) bool { return o.sameTarget(r) }); i >= 0 {
		other := h.underway[i]
		h.mu.Unlock()
		return other, nil
	}
	h.began++
	r.number = h.began
	h.underway = append(h.underway, r)
	h.mu.Unlock()
	run, err := start()
	if err != nil {
		h.drop(r)
		r.end(Result{}, err)
		return nil, err
	}
	r.started(run)
	go h.follow(r, run)
	for _, s := range h.everyServer() {
		if s != r.owner {
			go s.accompany(r) // may have to open a store
		}
	}
	h.tell()
	return r, nil
}

// follow runs in a goroutine of its own until the recording has ended.
func (h *Hub) follow(r *recording, run Recording) {
	for u := range run.Updates() {
		r.take(u)
	}
	result, err := run.Wait()
	h.drop(r) // before anybody looks for another to show
	r.end(result, err)
	h.changed(r.store, r.owner) // its owner looks by itself
}

func (h *Hub) drop(r *recording) {
	h.mu.Lock()
	h.underway = slices.DeleteFunc(h.underway, func(o *recording) bool { return o == r })
	h.mu.Unlock()
	h.tell()
}

func (h *Hub) tell() {
	if h.moved != nil {
		h.moved()
	}
}

func (h *Hub) recordings() []*recording {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.underway)
}

// Stop ends all recordings of this process, keeps them, and returns when they are kept, or when giveUp is
// closed. Those of other processes go on.
func (h *Hub) Stop(giveUp <-chan struct{}) {
	all := slices.DeleteFunc(h.recordings(), func(r *recording) bool { return r.owner == nil })
	for _, r := range all {
		r.stop()
	}
	for _, r := range all {
		select {
		case <-r.ended:
		case <-giveUp:
			return
		}
	}
}

// take is an update, in the goroutine that follows the recording. Live numbers are made ready here,
// once for all who show them.
func (r *recording) take(u Update) {
	r.update(u)
	awaited := false // somebody will say that the numbers are shown
	if u.Capture != nil && r.source != nil {
		now := time.Now()
		r.mu.Lock()
		due := u.Phase == PhaseStoring || now.Sub(r.liveAt) >= liveInterval
		r.mu.Unlock()
		if due {
			if l, err := load(captureKey{}, u.Capture, &r.views, r.source(u.Capture)); err == nil {
				r.mu.Lock()
				r.live, r.liveAt, r.shown = l, now, u.Shown
				awaited = len(r.watchers) > 0
				r.mu.Unlock()
			}
		}
	}
	r.poke()
	if u.Shown != nil && !awaited {
		u.Shown()
	}
}

// tellShown says that somebody shows the live numbers.
func (r *recording) tellShown() {
	r.mu.Lock()
	tell := r.shown
	r.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// poke tells all who watch that something is new.
func (r *recording) poke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// watch is told of each update, or of several at once, until stop is called.
func (r *recording) watch() (news <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	r.mu.Lock()
	r.watchers[c] = true
	r.mu.Unlock()
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, c)
	}
}

func (r *recording) end(result Result, err error) {
	r.mu.Lock()
	r.result, r.err = result, err
	r.mu.Unlock()
	close(r.ended)
}

// outcome is how the recording ended; to be called after ended is closed.
func (r *recording) outcome() (Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result, r.err
}

// numbers are the live numbers, or nil.
func (r *recording) numbers() (l *loaded, storing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live, r.last.Phase == PhaseStoring
}

// sourceOf reads a recording's source texts while it runs, given its capture.
type sourceOf func(*profile.Capture) func(path string) []byte
