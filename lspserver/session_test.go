package lspserver_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// recordedAt is when captures of tests began; the server's clock stands 12 minutes after their end.
var recordedAt = time.Date(2026, 1, 31, 15, 0, 0, 0, time.UTC)

// A session is a workspace on disk, its store, a replayed recorder, and an editor that talks to the
// server under test.
type session struct {
	*lsptest.Editor
	t        testing.TB
	dir      string // the workspace's folder
	work     *lsptest.Workspace
	store    *store.Store
	recorder *replay
}

// setup are the knobs of a session; the zero value works.
type setup struct {
	lsptest.Options
	workspace lsptest.WorkspaceOptions
	captures  []string                               // texts of profiles, stored in this order before the editor starts
	config    func(*session, *lspserver.Config)      // changes the server's configuration
	before    func(*session)                         // runs before the editor starts
	source    func(file string, src *profile.Source) // changes what captures know of a source
}

// start writes the files of a txtar archive into a workspace and starts an editor in it. Frames of
// captures that name a file of the archive lie in it.
func start(t testing.TB, archive string, o setup) *session {
	t.Helper()
	s := &session{t: t, recorder: &replay{started: make(chan *replayed, 16)}}
	s.work = lsptest.NewWorkspace(t, archive, o.workspace)
	s.dir = s.work.Root
	var err error
	if s.store, err = store.Open(filepath.Join(t.TempDir(), "captures.db"), store.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, text := range o.captures {
		s.put(s.capture(text, o.source))
	}
	if o.before != nil {
		o.before(s)
	}
	cfg := lspserver.Config{
		Recorder:  s.recorder,
		OpenStore: func(string) (*store.Store, error) { return s.store, nil },
		Version:   "1.2.3",
		LogFile:   "/tmp/sightline.log",
		Now:       func() time.Time { return recordedAt.Add(12*time.Minute + 30*time.Second) },
		Poll:      20 * time.Millisecond,
		FindPaths: func(_ context.Context, workspace []string) (*sourcemap.Paths, error) {
			return &sourcemap.Paths{Workspace: workspace}, nil
		},
		Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	if o.config != nil {
		o.config(s, &cfg)
	}
	if o.Folders == nil {
		o.Folders = []string{s.dir}
	}
	conn := lsptest.Connect(t, func(c rpc.Client) rpc.Server { return lspserver.New(c, cfg) }, rpc.Options{Log: cfg.Log})
	s.Editor = lsptest.Start(t, conn, o.Options)
	t.Cleanup(func() {
		s.Editor.Close()
		if err := s.store.Check(); err != nil {
			t.Errorf("the store is not whole after the test: %v", err)
		}
	})
	return s
}

// testLog writes the server's log into the test's, as long as the test runs.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s", strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func (s *session) path(name string) string { return s.work.Path(name) }

func (s *session) write(name, text string) {
	s.t.Helper()
	s.work.Write(s.t, name, text)
}

// capture makes a capture of the text of a profile. Its sources are the files of the workspace that
// its frames name, as they are now.
func (s *session) capture(text string, change func(string, *profile.Source)) *profile.Capture {
	s.t.Helper()
	p, err := profile.ParseProfile([]byte(text))
	if err != nil {
		s.t.Fatalf("profile of the test: %v\n%s", err, text)
	}
	c := profile.NewCapture(profile.Target{Dir: s.dir, Package: "./fib", Run: "TestFib"}, recordedAt)
	c.Engine, c.Machine, c.Length, c.Warnings, c.Tasks = "perf", "Linux 6.18.0 x86_64, 2 CPUs", p.Length, p.Warnings, p.Tasks
	c.Symbols.Frames = p.Frames
	c.Symbols.Of = make([][]profile.FrameID, len(p.Frames))
	c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.FileCode, Path: "/tmp/fib.test"})
	for id := 1; id < len(p.Frames); id++ {
		c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: uint64(id)})
		c.Symbols.Of[id] = []profile.FrameID{profile.FrameID(id)}
		file := p.Frames[id].File
		if slices.ContainsFunc(c.Symbols.Sources, func(x profile.Source) bool { return x.Path == file }) || file == "" {
			continue
		}
		src := profile.Source{Path: file, Note: "not found"}
		if data, err := os.ReadFile(s.path(file)); err == nil {
			src = profile.Source{Path: file, Local: s.path(file), Text: data}
		}
		if change != nil {
			change(file, &src)
		}
		c.Symbols.Sources = append(c.Symbols.Sources, src)
	}
	slices.SortFunc(c.Symbols.Sources, func(a, b profile.Source) int { return strings.Compare(a.Path, b.Path) })
	for id := profile.StackID(1); int(id) < p.Stacks.Len(); id++ {
		c.Stacks.Intern(p.Stacks.Parent(id), profile.LocationID(p.Stacks.Leaf(id)))
	}
	c.Series = []profile.Series{{Kind: p.Kind, Unit: p.Unit, Period: 1001001, Samples: p.Samples}}
	if err := c.Check(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *session) put(c *profile.Capture) store.ID {
	s.t.Helper()
	m, err := s.store.Put(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return m.ID
}

func (s *session) hints(name string) []string {
	s.t.Helper()
	got := []string{}
	for _, h := range s.Hints(s.path(name)) {
		if !h.AtEnd {
			s.t.Errorf("%s: hint %q is not at the end of line %d", name, h.Text, h.Line)
		}
		got = append(got, fmt.Sprintf("%d: %s", h.Line, h.Text))
	}
	return got
}

func (s *session) lenses(name string) []string {
	s.t.Helper()
	got := []string{}
	for _, l := range s.Lenses(s.path(name)) {
		got = append(got, fmt.Sprintf("%d: %s", l.Line, l.Title))
	}
	return got
}

// checkHints compares a document's hints with its markers, one to one.
func (s *session) checkHints(name string) {
	s.t.Helper()
	lsptest.CheckHints(s.t, s.Editor, s.path(name))
}

func (s *session) checkLenses(name string) {
	s.t.Helper()
	lsptest.CheckLenses(s.t, s.Editor, s.path(name))
}

// wantHints compares a document's hints with a list.
func (s *session) wantHints(name string, want ...string) {
	s.t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, s.hints(name)); diff != "" {
		s.t.Errorf("hints of %s (-want +got):\n%s", name, diff)
	}
}

// A replay is a Recorder whose recordings do what the test says.
type replay struct {
	started chan *replayed // has each recording that was started
	mu      sync.Mutex
	refuse  error // what Start fails with
}

func (r *replay) Start(ctx context.Context, req lspserver.Request) (lspserver.Recording, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, r.refuse
	}
	run := &replayed{req: req, ctx: ctx, updates: make(chan lspserver.Update), asked: make(chan string, 8), end: make(chan ending, 1)}
	r.started <- run
	return run, nil
}

// A replayed recording ends when the test says so.
type replayed struct {
	req     lspserver.Request
	ctx     context.Context
	updates chan lspserver.Update
	asked   chan string // "stop" and "discard", as they come
	end     chan ending
}

type ending struct {
	result lspserver.Result
	err    error
}

func (r *replayed) Updates() <-chan lspserver.Update { return r.updates }
func (r *replayed) Stop()                            { r.asked <- "stop" }
func (r *replayed) Discard()                         { r.asked <- "discard" }

func (r *replayed) Wait() (lspserver.Result, error) {
	e := <-r.end
	r.end <- e
	return e.result, e.err
}

// finish ends the recording.
func (r *replayed) finish(result lspserver.Result, err error) {
	close(r.updates)
	r.end <- ending{result, err}
}

func (s *session) started() *replayed {
	s.t.Helper()
	select {
	case r := <-s.recorder.started:
		return r
	case <-time.After(60 * time.Second):
		s.t.Fatal("no recording was started")
		return nil
	}
}

func (r *replayed) awaitAsked(t testing.TB, what string) {
	t.Helper()
	select {
	case got := <-r.asked:
		if got != what {
			t.Fatalf("the recorder was asked to %s, want %s", got, what)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("the recorder was not asked to %s", what)
	}
}
