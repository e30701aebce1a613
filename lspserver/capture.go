package lspserver

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A captureKey names a stored capture within a session: ids are unique in one store only.
type captureKey struct {
	root string // of the workspace whose store has it
	id   store.ID
}

// A loaded capture is one that is ready to be asked for lines and functions. Any goroutine may read
// it.
type loaded struct {
	key       captureKey // the zero key while the capture is being recorded, and for a file of another tool
	name      string     // of that file
	target    profile.Target
	start     time.Time
	length    time.Duration
	warnings  []profile.Warning
	cut       bool // the recorder did not come to its end
	profile   *profile.Profile
	sums      *view.Sums
	total     profile.Measure
	broken    float64 // share of weight on broken stacks
	functions int     // how many have a cost of their own
	files     []*file // by path
	byBase    map[string][]*file

	// again loads the capture once more, for the kinds whose lines are not shown.
	again   func() (*profile.Capture, error)
	source  func(path string) []byte
	all     []profile.Kind // that the capture has, in its order
	kindsMu sync.Mutex     // guards kinds and loads
	kinds   map[profile.Kind]*profile.Profile
	loads   map[profile.Kind]*loaded // with lines
}

// A file is what a loaded capture knows of one source file.
type file struct {
	capture   *loaded
	path      string // as the build recorded it
	local     string // where it was found then; ""
	note      string // of the source: why there is no text
	lines     []view.Line
	functions []function // by StartLine

	// baseline is the text that the file's line numbers count in, and whether it is the recorded one.
	// Where the source was not recorded, the file as it is on disk when this is first called has to
	// do; the text is nil where that is missing too.
	baseline func() (text []byte, recorded bool)
}

// A function is one of a file's, with its place among all functions of the capture.
type function struct {
	view.Row
	rank int // 1 is the one with the most weight of its own; 0 where it has none
}

// load makes a capture ready: its CPU samples, or its first series where it has none. It fails where
// it has no series at all. Views has made the profiles of the views before, where the capture is one of
// several of a recording. Source reads the recorded text of a file, by its path as the build
// recorded it, when somebody first asks; nil stands for no text.
func load(key captureKey, c *profile.Capture, views *profile.Follower, source func(path string) []byte) (*loaded, error) {
	kind := profile.CPU
	if c.Of(kind) == nil && len(c.Series) > 0 {
		kind = c.Series[0].Kind
	}
	return loadKind(key, c, kind, views, source)
}

// as is the capture with the numbers of another of its kinds; itself where it has no such kind, or where
// that cannot be read.
func (l *loaded) as(kind profile.Kind) *loaded {
	if kind == "" || kind == l.profile.Kind || !slices.Contains(l.all, kind) {
		return l
	}
	l.kindsMu.Lock()
	defer l.kindsMu.Unlock()
	if other := l.loads[kind]; other != nil {
		return other
	}
	c, err := l.again()
	if err != nil {
		return l
	}
	other, err := loadKind(l.key, c, kind, new(profile.Follower), l.source)
	if err != nil {
		return l
	}
	other.name, other.again = l.name, l.again
	if l.loads == nil {
		l.loads = map[profile.Kind]*loaded{}
	}
	l.loads[kind] = other
	return other
}

// loadKind makes the samples of one kind of a capture ready, as load does.
func loadKind(key captureKey, c *profile.Capture, kind profile.Kind, views *profile.Follower, source func(path string) []byte) (*loaded, error) {
	p, err := views.Profile(c, kind)
	if err != nil {
		return nil, err
	}
	// What follows takes half of the time to the first hint, so what does not need one another runs side
	// by side. Both goroutines end by themselves.
	broken, named := make(chan float64, 1), make(chan []view.Row, 1)
	go func() { broken <- p.Broken() }()
	l := &loaded{
		key: key, target: c.Target, start: c.Start, length: c.Length, warnings: c.Warnings, cut: c.Interrupted,
		profile: p, sums: view.NewSums(p), total: p.Total(), byBase: map[string][]*file{},
		again: func() (*profile.Capture, error) { return c, nil }, source: source,
	}
	for i := range c.Series {
		l.all = append(l.all, c.Series[i].Kind)
	}
	go func() { named <- l.sums.ByName() }()
	byPath := map[string]*file{}
	for _, fl := range l.sums.Lines() {
		f := &file{capture: l, path: fl.File, lines: fl.Lines}
		f.baseline = sync.OnceValues(func() ([]byte, bool) {
			if text := source(f.path); text != nil {
				return text, true
			}
			text, err := os.ReadFile(f.local)
			if f.local == "" || err != nil {
				return nil, false
			}
			return text, false
		})
		byPath[fl.File] = f
		l.files = append(l.files, f)
	}
	for i := range c.Symbols.Sources {
		src := &c.Symbols.Sources[i]
		if f := byPath[src.Path]; f != nil {
			f.local, f.note = src.Local, src.Note
		}
	}
	l.broken = <-broken
	for _, row := range <-named {
		fn := function{Row: row}
		if row.Self.Weight > 0 && !row.Pseudo() {
			l.functions++
			fn.rank = l.functions
		}
		if f := byPath[row.File]; f != nil && row.Line > 0 {
			f.functions = append(f.functions, fn)
		}
	}
	for _, f := range l.files {
		slices.SortStableFunc(f.functions, func(a, b function) int { return cmp.Compare(a.Line, b.Line) })
		l.byBase[filepath.Base(f.path)] = append(l.byBase[filepath.Base(f.path)], f)
		if base := filepath.Base(f.local); f.local != "" && base != filepath.Base(f.path) {
			l.byBase[base] = append(l.byBase[base], f)
		}
	}
	return l, nil
}

// bytes is about how much memory the capture holds.
func (l *loaded) bytes() int64 {
	n := int64(l.profile.Samples.Len())*24 + int64(l.profile.Stacks.Len())*80 + int64(len(l.profile.Frames))*160
	for _, f := range l.files {
		n += int64(len(f.lines))*40 + 300
	}
	return n
}

// of is what the capture knows of a document; nil where it has nothing for it. Where several of the
// build's paths are that document, it is the one with the most lines.
func (l *loaded) of(d *document, paths *sourcemap.Paths) *file {
	var best *file
	consider := func(f *file) {
		if (best == nil || len(f.lines) > len(best.lines)) && d.isAt(f.path, f.local, paths) {
			best = f
		}
	}
	base := filepath.Base(d.path)
	for _, f := range l.byBase[base] {
		consider(f)
	}
	if real := filepath.Base(d.real); real != base {
		for _, f := range l.byBase[real] {
			consider(f)
		}
	}
	return best
}

// place is where the file lies now; "" where it does not.
func (f *file) place(paths *sourcemap.Paths) string {
	if f.local != "" {
		if _, err := os.Stat(f.local); err == nil {
			return f.local
		}
	}
	if local, ok := paths.Local(f.path); ok {
		return local
	}
	return ""
}

// cacheLimit is how many bytes of captures a session keeps ready; the one used last stays in any
// case.
const cacheLimit = 256 << 20

// captures keeps captures loaded, the least recently used ones going first. A capture that several
// calls ask for at once is loaded once.
type captures struct {
	limit int64
	mu    sync.Mutex
	clock int64
	byKey map[captureKey]*cacheEntry
}

type cacheEntry struct {
	load func() (*loaded, error) // loads at the first call
	used int64                   // captures.clock at the last use
	size int64                   // 0 until it is loaded
}

func newCaptures(limit int64) *captures {
	return &captures{limit: limit, byKey: map[captureKey]*cacheEntry{}}
}

// get is the capture of that key, loaded with load unless it is there. An error is remembered, so
// that a broken capture is not read for each keystroke; retain drops it.
func (c *captures) get(key captureKey, load func() (*loaded, error)) (*loaded, error) {
	c.mu.Lock()
	e := c.byKey[key]
	if e == nil {
		e = &cacheEntry{load: sync.OnceValues(load)}
		c.byKey[key] = e
	}
	c.clock++
	e.used = c.clock
	c.mu.Unlock()

	l, err := e.load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.size == 0 {
		e.size = max(1, l.bytes())
		c.evict(key)
	}
	return l, nil
}

// evict drops what was used longest ago until the rest fits, but never keep.
func (c *captures) evict(keep captureKey) {
	var sum int64
	var keys []captureKey
	for k, e := range c.byKey {
		sum += e.size
		if k != keep && e.size > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b captureKey) int { return cmp.Compare(c.byKey[a].used, c.byKey[b].used) })
	for _, k := range keys {
		if sum <= c.limit {
			return
		}
		sum -= c.byKey[k].size
		delete(c.byKey, k)
	}
}

// forget drops all captures.
func (c *captures) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byKey)
}

// retain drops the captures of a workspace that are not in its store any more, and the memory of
// errors.
func (c *captures) retain(root string, stored func(store.ID) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.byKey {
		if k.root == root && (e.size == 0 || !stored(k.id)) {
			delete(c.byKey, k)
		}
	}
}
