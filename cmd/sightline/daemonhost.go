package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// KeepWithin is how long a daemon that is told to stop takes at most to keep what it records.
const keepWithin = 30 * time.Second

// A host is the daemon: it serves the sessions of editors and whatever commands ask, and owns the
// recordings.
type host struct {
	place   *daemon.Place
	file    *daemon.LogFile
	witness *daemon.Witness
	log     *slog.Logger
	began   time.Time
	idle    time.Duration
	quit    context.CancelFunc
	running sync.WaitGroup // recordings of ours that are not stored yet
	serving sync.WaitGroup // connections

	mu      sync.Mutex
	hubs    map[string]*lspserver.Hub // by surroundings.home
	clients map[*daemon.Conn]time.Time
	number  int            // of the newest session
	enders  []*daemon.Conn // who waits for the end of this process; held, as a connection that nobody holds gets closed
	expiry  *time.Timer    // runs while there is nothing to do
	tidy    *time.Timer    // runs after a recording or a session has ended
}

// TidyAfter is when memory is given back that nobody asks for any more: a recording needs much, and the
// next one may begin at once.
const tidyAfter = 3 * time.Second

// RunDaemon is the daemon, until it is told to stop or has had nothing to do for idle.
func runDaemon(ctx context.Context, idle time.Duration) (err error) {
	starting := daemon.Started()
	defer func() {
		if err != nil {
			starting.Failed(err)
		}
	}()
	p, err := daemonPlace()
	if err != nil {
		return err
	}
	defer p.Close()
	// One that is about to end lets go within that time.
	l, err := daemon.Listen(p, 5*time.Second)
	if err != nil {
		return err
	}
	defer l.Close()
	h := &host{}
	defer runtime.KeepAlive(h) // with its enders, after all else
	*h = host{place: p, began: time.Now(), idle: idle, hubs: map[string]*lspserver.Hub{}, clients: map[*daemon.Conn]time.Time{}}
	if h.file, err = daemon.OpenLog(logPath(p), 0, 0); err != nil {
		return err
	}
	defer h.file.Close()
	h.file.Redirect()
	h.log = slog.New(slog.NewTextHandler(h.file, nil))
	folder := logFolder(p)
	daemon.BuryAll(folder)
	about := version()
	h.witness, err = daemon.StartWitness(folder, fmt.Sprintf("sightline %s (%s, commit %s)\ndaemon %d, started %s", about.Version, about.Go, about.Revision, os.Getpid(), h.began.UTC().Format(time.RFC3339)))
	if err != nil {
		h.log.Warn("a crash would leave no report", "error", err)
		h.witness = nil
	} else {
		defer h.witness.Close()
	}
	ctx, h.quit = context.WithCancel(ctx)
	defer h.quit()
	// Whoever started it may take a moment to come.
	h.expiry = time.AfterFunc(max(idle, startWithin), func() {
		h.log.Info("nobody has needed the daemon for a while", "idle", idle)
		h.quit()
	})
	h.tidy = time.AfterFunc(tidyAfter, func() {
		h.mu.Lock()
		idle := len(h.clients) == 0
		h.mu.Unlock()
		for _, hub := range h.everyHub() {
			if idle {
				hub.Forget()
			}
		}
		debug.FreeOSMemory()
	})
	h.log.Info("the daemon listens", "version", about.Version, "pid", os.Getpid(), "socket", p.Socket())
	starting.Ready()

	accepting := make(chan struct{})
	go func() { // ends with the listener
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.serving.Go(func() { h.serve(ctx, conn) })
		}
	}()
	<-ctx.Done()
	h.log.Info("the daemon ends")
	l.StopListening()
	<-accepting
	h.end()
	return nil
}

// End keeps what is being recorded and waits for the sessions.
func (h *host) end() {
	giveUp := make(chan struct{})
	late := time.AfterFunc(keepWithin, func() { close(giveUp) })
	defer late.Stop()
	for _, hub := range h.everyHub() {
		hub.Stop(giveUp)
	}
	done := make(chan struct{})
	go func() {
		h.running.Wait()
		h.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-giveUp:
		h.log.Warn("a recording or a session did not end in time")
	}
}

// HubOf is what sessions with the same stores have in common, by surroundings.home.
func (h *host) hubOf(home string) *lspserver.Hub {
	h.mu.Lock()
	defer h.mu.Unlock()
	hub := h.hubs[home]
	if hub == nil {
		hub = lspserver.NewHub(h.review)
		h.hubs[home] = hub
	}
	return hub
}

func (h *host) everyHub() []*lspserver.Hub {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.hubs))
}

// Review starts or stops the time after which the daemon ends.
func (h *host) review() {
	recordings := 0
	for _, hub := range h.everyHub() {
		recordings += len(hub.Underway())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) > 0 || recordings > 0 {
		h.expiry.Stop()
	} else {
		h.expiry.Reset(h.idle)
	}
	if recordings == 0 {
		h.tidy.Reset(tidyAfter)
	}
}

func (h *host) enter(conn *daemon.Conn) (number int) {
	h.mu.Lock()
	h.clients[conn] = time.Now()
	h.number++
	number = h.number
	h.mu.Unlock()
	h.review()
	return number
}

func (h *host) leave(conn *daemon.Conn) {
	h.mu.Lock()
	delete(h.clients, conn)
	h.mu.Unlock()
	h.review()
}

// Serve serves one connection to its end.
func (h *host) serve(ctx context.Context, conn *daemon.Conn) {
	keep := false
	defer func() {
		if !keep {
			conn.Close()
		}
	}()
	unbind := context.AfterFunc(ctx, func() { conn.Close() }) // so that nobody keeps the daemon from ending
	defer unbind()
	if err := conn.ReadHello(); err != nil {
		h.log.Warn("a client is not served", "error", err)
		return
	}
	var serve func(context.Context, *daemon.Conn) error
	switch conn.Hello.Wants {
	case wantSession:
		unbind() // it says goodbye
		serve = h.session
	case wantStatus:
		serve = func(_ context.Context, c *daemon.Conn) error { return c.Send(h.status()) }
	case wantStop:
		unbind()
		serve = h.stop
	case wantChanged:
		serve = h.changed
	case wantRecording:
		serve = h.shown
	case wantEnd:
		serve = h.endRecording
	default:
		conn.Refuse(fmt.Sprintf("the daemon does not know what %q is; it is of version %s", conn.Hello.Wants, version().Version))
		return
	}
	if ctx.Err() != nil {
		conn.Close() // it is about to end; another will be started
		return
	}
	w := daemon.Welcome{Version: version().Version, PID: os.Getpid(), Log: h.file.Path()}
	if h.witness != nil {
		w.Report = h.witness.Path()
	}
	if err := conn.Accept(w); err != nil {
		return
	}
	keep = conn.Hello.Wants == wantStop // its client waits for the end of this process
	if err := serve(ctx, conn); err != nil {
		h.log.Debug("a connection broke", "wants", conn.Hello.Wants, "error", err)
	}
}

// Session serves an editor.
func (h *host) session(ctx context.Context, conn *daemon.Conn) error {
	number := h.enter(conn)
	defer h.leave(conn)
	around := &surroundings{env: conn.Hello.Environ(), dir: string(conn.Hello.Dir)}
	conn.Hello.Env = nil
	level := slog.LevelInfo
	if conn.Hello.Verbose {
		level = slog.LevelDebug
	}
	lines := newLineQueue(conn)
	defer lines.close()
	options := &slog.HandlerOptions{Level: level}
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(h.file, options), slog.NewTextHandler(lines, options))).With("session", number)
	log.Info("an editor begins", "client", conn.PID(), "folder", around.folder())

	rec := &recorder{open: around.storeAt, live: true, bound: true, around: around, all: &h.running}
	inspector := newInspector(around.folder)
	defer inspector.close()
	cfg := sessionConfig(around, rec)
	cfg.Process = inspector.process
	cfg.Hub, cfg.Log, cfg.LogFile = h.hubOf(around.home()), log, h.file.Path()
	o := rpc.Options{Log: log}
	if h.witness != nil {
		o.Received = func(method string) { h.witness.Note(fmt.Sprintf("%d %s", number, method)) }
		o.Panicked = func(method string, value any, stack []byte) string { return h.witness.Fault(method, value, stack) }
	}
	code := rpc.Serve(ctx, conn.Editor(), func(c rpc.Client) rpc.Server { return lspserver.New(c, cfg) }, o)
	log.Info("an editor ends", "status", code)
	lines.close()
	return conn.Exit(code)
}

// Changed takes in that a command has changed a store.
func (h *host) changed(_ context.Context, conn *daemon.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	var c storeChanged
	if err := conn.Receive(&c); err != nil {
		return err
	}
	for _, hub := range h.everyHub() {
		hub.Changed(c.Store)
	}
	return conn.Send(struct{}{})
}

// Stop ends the daemon. The connection is closed when all is kept, by the end of the process.
func (h *host) stop(ctx context.Context, conn *daemon.Conn) error {
	h.log.Info("the daemon is told to stop", "client", conn.PID())
	h.mu.Lock()
	h.enders = append(h.enders, conn)
	h.mu.Unlock()
	h.quit()
	return nil
}

// A daemonStatus is what `daemon status` prints.
type daemonStatus struct {
	Version    string               `json:"version"`
	PID        int                  `json:"pid"`
	Socket     string               `json:"socket"`
	Log        string               `json:"log"`
	Since      time.Time            `json:"since"`
	Idle       time.Duration        `json:"idle"` // ns
	RSS        int64                `json:"rss"`  // bytes
	Sessions   []sessionStatus      `json:"sessions"`
	Recordings []lspserver.Underway `json:"recordings"`
	Reports    []string             `json:"reports,omitempty"` // of crashes
}

type sessionStatus struct {
	PID    int       `json:"pid"` // of the process that the editor started
	Folder string    `json:"folder"`
	Since  time.Time `json:"since"`
}

func (h *host) status() daemonStatus {
	s := daemonStatus{
		Version: version().Version, PID: os.Getpid(), Socket: h.place.Socket(), Log: h.file.Path(), Since: h.began, Idle: h.idle,
		RSS: residentBytes(os.Getpid()), Sessions: []sessionStatus{}, Recordings: []lspserver.Underway{}, Reports: daemon.Reports(logFolder(h.place)),
	}
	h.mu.Lock()
	for c, since := range h.clients {
		if c.Hello.Wants == wantSession {
			s.Sessions = append(s.Sessions, sessionStatus{c.PID(), string(c.Hello.Dir), since})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(s.Sessions, func(a, b sessionStatus) int { return a.Since.Compare(b.Since) })
	for _, hub := range h.everyHub() {
		s.Recordings = append(s.Recordings, hub.Underway()...)
	}
	return s
}

// A lineQueue sends log lines to a client that may be slow to read them: what does not fit is dropped.
type lineQueue struct {
	lines chan []byte
	once  sync.Once
	sent  chan struct{} // closed when all is sent
	gone  chan struct{} // closed by close
}

func newLineQueue(conn *daemon.Conn) *lineQueue {
	q := &lineQueue{lines: make(chan []byte, 256), sent: make(chan struct{}), gone: make(chan struct{})}
	go func() { // ends with close
		defer close(q.sent)
		for {
			select {
			case l := <-q.lines:
				_ = conn.Log(l)
				continue
			default:
			}
			select {
			case l := <-q.lines:
				_ = conn.Log(l)
			case <-q.gone:
				return
			}
		}
	}()
	return q
}

func (q *lineQueue) Write(p []byte) (int, error) {
	select {
	case <-q.gone:
	case q.lines <- slices.Clone(p):
	default:
	}
	return len(p), nil
}

// Close sends what is queued, as far as the client takes it within a moment.
func (q *lineQueue) close() {
	q.once.Do(func() { close(q.gone) })
	select {
	case <-q.sent:
	case <-time.After(time.Second):
	}
}

// ResidentBytes is how much memory a process has, 0 where that is not known. The second field of
// /proc/PID/statm counts pages (proc_pid_statm(5)).
func residentBytes(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
