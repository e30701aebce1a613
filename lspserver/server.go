// Package lspserver answers an editor: it turns stored and running recordings into inlay hints,
// code lenses, hovers, code actions and commands, in words. Each request has its method, each
// method its file.
//
// It does not know how a program is recorded (package profiler): it declares the Recorder it needs,
// and whoever makes a server gives it one. It does not know the wire either (package rpc), nor how
// any editor draws.
package lspserver

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// Config is what a server needs from the program around it. The zero value works, without
// recording.
type Config struct {
	Hub      *Hub     // what the servers of one process have in common; nil where there is but one
	Recorder Recorder // nil: commands that record answer that this build cannot
	// OpenStore opens the store of a workspace, given its root folder. It is called once per folder and
	// hub.
	// nil: store.OpenWorkspace.
	OpenStore func(workspace string) (*store.Store, error)
	// General opens the store of captures that belong to no workspace, which every session shows. It is
	// called once per hub. nil: there is none.
	General func() (*store.Store, error)
	Version string           // told to the client
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
	Poll    time.Duration    // how often stores are looked at for what other processes stored; 0: 1 s
	// ShowTimeout bounds how long a client may take to show a document, as some never answer. 0: 3 s.
	ShowTimeout time.Duration
	// FindPaths learns where sources lie; it may take long and is called again when folders change.
	// nil: sourcemap.FindPaths, which asks the go command.
	FindPaths func(ctx context.Context, workspace []string) (*sourcemap.Paths, error)
	// Doctor tells what can be recorded here, by trying it. nil: asking for it is an error.
	Doctor func(ctx context.Context) rpc.DoctorResult
	// Processes lists the processes that can be recorded, one's own first, then the busiest first.
	// nil: asking for them is an error.
	Processes func(ctx context.Context) ([]rpc.ProcessInfo, error)
	// Process tells what one process uses and has open. Workspace is the root folder whose lines are
	// preferred, "" for none. The error is one sentence with the remedy. nil: asking for it is an error.
	Process func(ctx context.Context, p rpc.ProcessParams, workspace string) (*rpc.ProcessResult, error)
	// Import reads a file of another tool into the store of a workspace, named by its root folder as
	// for OpenStore, and answers the capture that it became. Its error is one sentence with the
	// remedy. nil: asking for it is an error.
	Import  func(ctx context.Context, path string, workspace string) (store.ID, error)
	Notice  string // a warning that the person is to see once, such as what this server has to do without; ""
	LogFile string // where Log goes, to be told; "" for standard error
	// ReadFile reads a file of another tool without storing it, with names. Its error is one sentence
	// with the remedy. nil: asking for it is an error.
	ReadFile func(ctx context.Context, path string) (*profile.Capture, error)
	// Picture draws a profile, or the difference of two, as a flame graph in SVG. nil: asking for it is an
	// error.
	Picture func(p *profile.Profile, title string, difference bool) (string, error)
}

// New makes the server of one client, for rpc.Serve.
func New(client rpc.Client, cfg Config) rpc.Server {
	if cfg.OpenStore == nil {
		cfg.OpenStore = func(root string) (*store.Store, error) { return store.OpenWorkspace(root, store.Options{}) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	if cfg.ShowTimeout <= 0 {
		cfg.ShowTimeout = 3 * time.Second
	}
	if cfg.FindPaths == nil {
		cfg.FindPaths = sourcemap.FindPaths
	}
	hub := cfg.Hub
	if hub == nil {
		hub = newHub()
	}
	s := &server{
		client: client, cfg: cfg, log: cfg.Log,
		settings:   defaultSettings(),
		hub:        hub,
		captures:   hub.captures,
		complained: map[store.ID]bool{},
		told:       map[string]bool{},
		moved:      make(chan struct{}, 1),
		again:      make(chan struct{}, 1),
	}
	if cfg.General != nil {
		s.general = &workspace{root: generalRoot, adopted: true, index: &index{}}
	}
	s.metric = s.settings.metric
	s.ctx, s.end = context.WithCancel(context.Background())
	s.refresh = newRefresher(s)
	s.pathsChanged()
	hub.add(s)
	return s
}

// server is one session with one client.
type server struct {
	rpc.Unimplemented
	client   rpc.Client
	cfg      Config
	log      *slog.Logger
	ctx      context.Context // the session's life; ends at Shutdown
	end      context.CancelFunc
	refresh  *refresher
	hub      *Hub
	captures *captures  // the hub's
	general  *workspace // of captures without a workspace; nil where there are none
	views    stackViews
	findings findings

	docs    atomic.Pointer[documents]       // written by notifications only
	paths   atomic.Pointer[sourcemap.Paths] // written under mu
	can     abilities                       // set by Initialize, then read only
	initial []byte                          // settings that came with initialize, set by it
	moved   chan struct{}                   // has one when paths are to be found anew
	again   chan struct{}                   // has one when stores are to be looked at at once

	telling sync.Mutex // held while the client is told of a state, so that states are told in order; before mu

	mu         sync.Mutex // guards what follows; never held while anything waits
	workspaces []*workspace
	settings   *settings
	metric     metric                         // shown now: the settings' until setMetric
	kind       profile.Kind                   // whose numbers are shown where a capture has them; "": its first
	opened     *openedCapture                 // opened by hand; nil: the newest that touches the document
	baseline   *baseline                      // what lenses compare with; nil
	hidden     map[captureKey]bool            // cleared away; copied when it changes
	hiddenIn   map[string]map[captureKey]bool // cleared away for one document, by its path; copied when it changes
	live       *loaded                        // what the recording under way has so far; nil
	recorded   captureKey                     // what the last recording became
	recording  *attended                      // under way; nil
	complained map[store.ID]bool              // captures whose failure was told
	told       map[string]bool                // settings' mistakes that were told
}

// An openedCapture is one that a person asked to see, or to compare with.
type openedCapture struct {
	workspace *workspace
	store     string // path of the workspace's store
	id        store.ID
}

// is says whether it is the capture of that store; nil is none.
func (o *openedCapture) is(path string, id store.ID) bool {
	return o != nil && o.store == path && o.id == id
}

// say shows the person a short message.
func (s *server) say(kind protocol.MessageType, message string) {
	s.notify(s.client.ShowMessage(context.Background(), &protocol.ShowMessageParams{Type: kind, Message: message}))
}

// write puts a message into the client's log.
func (s *server) write(kind protocol.MessageType, message string) {
	s.notify(s.client.LogMessage(context.Background(), &protocol.LogMessageParams{Type: kind, Message: message}))
}

// notify takes the error of a notification, which only a connection that is going down has.
func (s *server) notify(err error) {
	if err != nil {
		s.log.Debug("the client was not told", "error", err)
	}
}

// shown is the metric and settings of now.
func (s *server) shown() (metric, *settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metric, s.settings
}
