// Package lsptest is an editor for tests of a language server: it speaks real JSON-RPC, declares
// what a real editor declares and nothing more, keeps buffers, answers what a server asks, and
// waits for conditions, never for time.
//
// It is strict where editors are lenient: what the protocol forbids a server fails the test, even
// if no assertion looks at it (see Editor). It knows the protocol and our extension methods; what the
// server under test is made of it does not know.
package lsptest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// Options of an Editor; the zero value works.
type Options struct {
	// Editor names the editor to be: one of Editors. "": "vscode".
	Editor string
	// Capabilities is a JSON merge patch (RFC 7396) over what that editor declares.
	Capabilities string
	// Folders are the workspace folders, as paths. None: the editor has no folder open.
	Folders []string
	// Settings are answered to workspace/configuration: a section "a.b" is Settings["a"]["b"].
	Settings map[string]any
	// InitializationOptions go into initialize as JSON; nil: none.
	InitializationOptions any
	// Trace is the trace value in initialize; "": off.
	Trace string
	// ProcessID goes into initialize; 0: null.
	ProcessID int
	// Answers replace the editor's own answers to calls of the server, by method. A nil function
	// never answers.
	Answers map[string]func(params json.RawMessage) (any, error)
	// Choose picks the button of a window/showMessageRequest by its title. nil or "": dismissed.
	Choose func(p protocol.ShowMessageRequestParams) string
	// Timeout bounds each wait, so that a test which would hang fails. No assertion depends on it.
	// 0: 30 s.
	Timeout time.Duration
	// Raw leaves out initialize and initialized, and at the end shutdown and exit.
	Raw bool
	// Lenient tells of faults of the server in Faults and does not fail the test for them.
	Lenient bool
}

// A Connection is bytes to and from a server.
type Connection struct {
	io.ReadWriteCloser
	// Wait waits for the server's end and returns its exit status.
	Wait func() (exitCode int, err error)
	// Stderr is what the server has logged, if that is known.
	Stderr func() string
}

// Connect runs a server within the test, at the other end of a pipe.
func Connect(t testing.TB, newServer func(rpc.Client) rpc.Server, opts rpc.Options) Connection {
	ours, theirs := net.Pipe()
	exit := make(chan int, 1)
	// Not the test's context: that ends before the clean-up, in which the editor says good-bye.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { exit <- rpc.Serve(ctx, theirs, newServer, opts) }()
	return Connection{
		ReadWriteCloser: ours,
		Wait:            func() (int, error) { code := <-exit; exit <- code; return code, nil },
	}
}

// Spawn runs a server as a process that speaks on its standard input and output.
func Spawn(t testing.TB, cmd *exec.Cmd) Connection {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("start the server %v: %v", cmd.Args, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start the server %v: %v", cmd.Args, err)
	}
	var log lockedBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the server %v: %v", cmd.Args, err)
	}
	read := make(chan struct{}) // closed when its output has been read: Wait must come after that
	wait := sync.OnceValues(func() (int, error) {
		<-read
		err := cmd.Wait()
		if _, exited := err.(*exec.ExitError); exited {
			err = nil
		}
		return cmd.ProcessState.ExitCode(), err
	})
	t.Cleanup(func() { cmd.Process.Kill(); in.Close(); wait() })
	return Connection{
		ReadWriteCloser: pipes{&endReader{Reader: out, ended: read}, in},
		Wait:            wait,
		Stderr:          log.String,
	}
}

type pipes struct {
	io.Reader
	io.WriteCloser
}

// An endReader closes ended at the first error.
type endReader struct {
	io.Reader
	once  sync.Once
	ended chan struct{}
}

func (r *endReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.once.Do(func() { close(r.ended) })
	}
	return n, err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// An Editor is a client of one server. Its methods belong to the test's goroutine; they fail the
// test where they cannot do what they say. When the test has failed, all messages are dumped to its
// log.
//
// It fails the test for these faults of the server: bytes that are not frames; an answer to nothing,
// or a second one; a call that the client did not declare to answer, or a notification that only
// clients send; progress with a token that nobody made, a report before its begin or after its end;
// a hint, lens or diagnostic outside its document; an edit to a range that ends before it begins; an
// exit status that is not the protocol's.
type Editor struct {
	t    testing.TB
	opts Options
	conn Connection
	overlay
	caps  protocol.ClientCapabilities
	start time.Time
	out   *outbox
	ended chan struct{} // closed when the server's output has ended

	// Result is the server's answer to initialize.
	Result protocol.InitializeResult
	// Encoding is what positions count.
	Encoding rpc.Encoding

	mu       sync.Mutex // guards all below, which the reading goroutine changes
	log      []entry
	nextID   int64
	pending  map[int64]*Call
	buffers  map[uri.URI]*Buffer
	settings map[string]any
	state    State
	tokens   map[string]*Work // of state.Work, by token as JSON
	waiters  []*waiter
	faults   []string
	silent   bool // the test is over: nothing may be told to t any more
	closed   bool // Close was called
}

type entry struct {
	at   time.Duration
	sent bool
	body []byte
	note string // instead of body
}

// Start connects an editor to a server and, unless Options.Raw, initializes it. At the end of the test
// it is closed, if the test has not done so.
func Start(t testing.TB, conn Connection, opts Options) *Editor {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	e := &Editor{
		t: t, opts: opts, conn: conn, start: time.Now(), ended: make(chan struct{}),
		pending: map[int64]*Call{}, buffers: map[uri.URI]*Buffer{}, tokens: map[string]*Work{},
		settings: opts.Settings, state: newState(),
	}
	if err := e.overlay.load(opts.Editor, opts.Capabilities); err != nil {
		t.Fatal(err)
	}
	if err := protocol.Unmarshal(e.overlay.Capabilities, &e.caps); err != nil {
		t.Fatalf("the capabilities of editor %q: %v", opts.Editor, err)
	}
	e.out = startOutbox(conn)
	go e.read()
	t.Cleanup(func() {
		e.Close()
		if t.Failed() {
			t.Log(e.Dump())
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.silent = true
	})
	if !opts.Raw {
		e.Initialize()
	}
	return e
}

// InitializeParams is what the editor sends in initialize.
func (e *Editor) InitializeParams() json.RawMessage {
	p := map[string]any{
		"processId":    nil,
		"clientInfo":   e.overlay.ClientInfo,
		"rootUri":      nil,
		"capabilities": e.overlay.Capabilities,
	}
	if e.opts.ProcessID != 0 {
		p["processId"] = e.opts.ProcessID
	}
	if len(e.opts.Folders) > 0 {
		p["rootUri"] = uri.File(e.opts.Folders[0])
	}
	p["workspaceFolders"] = e.folders()
	if e.opts.InitializationOptions != nil {
		p["initializationOptions"] = e.opts.InitializationOptions
	}
	if e.opts.Trace != "" {
		p["trace"] = e.opts.Trace
	}
	return marshal(p)
}

// folders are the workspace folders as the protocol has them: null when there are none.
func (e *Editor) folders() any {
	var folders []any
	for _, f := range e.opts.Folders {
		folders = append(folders, map[string]any{"uri": uri.File(f), "name": filepath.Base(f)})
	}
	if folders == nil {
		return nil
	}
	return folders
}

// Initialize does the handshake, for an editor started with Options.Raw.
func (e *Editor) Initialize() {
	e.t.Helper()
	var result protocol.InitializeResult
	if err := e.Call(protocol.MethodInitialize, e.InitializeParams(), &result); err != nil {
		e.t.Fatalf("initialize: %v", err)
	}
	offered := []protocol.PositionEncodingKind{protocol.PositionEncodingKindUTF16}
	if g := e.caps.General; g != nil && len(g.PositionEncodings) > 0 {
		offered = g.PositionEncodings
	}
	kind := result.Capabilities.PositionEncoding
	if kind == "" {
		kind = protocol.PositionEncodingKindUTF16
	}
	enc, ok := rpc.ParseEncoding(kind)
	if !ok || !slices.Contains(offered, kind) && kind != protocol.PositionEncodingKindUTF16 {
		e.t.Fatalf("the server chose position encoding %q; the editor offered %q", kind, offered)
	}
	e.mu.Lock()
	e.Result, e.Encoding = result, enc
	e.mu.Unlock()
	e.Notify(protocol.MethodInitialized, struct{}{})
}

// Shutdown asks the server to shut down and to exit, and returns its exit status.
func (e *Editor) Shutdown() (exitCode int) {
	e.t.Helper()
	if err := e.Call(protocol.MethodShutdown, nil, nil); err != nil {
		e.t.Errorf("shutdown: %v", err)
	}
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.Notify(protocol.MethodExit, nil)
	return e.Wait()
}

// Hangup closes the connection without a word, as an editor that crashed, and returns the server's
// exit status.
func (e *Editor) Hangup() (exitCode int) {
	e.t.Helper()
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.out.flush()
	e.conn.Close()
	return e.Wait()
}

// Wait waits for the server's end and returns its exit status.
func (e *Editor) Wait() (exitCode int) {
	e.t.Helper()
	type end struct {
		code int
		err  error
	}
	done := make(chan end, 1)
	go func() { code, err := e.conn.Wait(); done <- end{code, err} }()
	select {
	case r := <-done:
		if r.err != nil {
			e.t.Errorf("wait for the server: %v", r.err)
		}
		return r.code
	case <-time.After(e.opts.Timeout):
		e.t.Errorf("the server has not ended after %v", e.opts.Timeout)
		return -1
	}
}

// Close ends the session as a well-behaved editor does, if the test has not ended it: it expects
// exit status 0. A Raw editor just hangs up.
func (e *Editor) Close() {
	e.t.Helper()
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	switch {
	case closed:
	case e.opts.Raw || e.isEnded():
		e.conn.Close()
	default:
		if code := e.Shutdown(); code != 0 {
			e.t.Errorf("the server ended with exit status %d after shutdown and exit", code)
		}
	}
	e.conn.Close()
	e.out.close()
	select {
	case <-e.ended:
	case <-time.After(e.opts.Timeout):
	}
}

func (e *Editor) isEnded() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

// Faults are what the server did against the protocol.
func (e *Editor) Faults() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.faults)
}

// fault notes a fault of the server. The caller holds mu.
func (e *Editor) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.faults = append(e.faults, text)
	e.log = append(e.log, entry{at: time.Since(e.start), note: "FAULT: " + text})
	if !e.opts.Lenient && !e.silent {
		e.t.Errorf("the server is at fault: %s", text)
	}
}

// Dump is all messages so far, the long ones shortened, and what the server has logged.
func (e *Editor) Dump() string {
	e.mu.Lock()
	log := slices.Clone(e.log)
	e.mu.Unlock()
	var b strings.Builder
	const most, longest = 400, 2000
	fmt.Fprintf(&b, "%s: %d messages\n", e.Name, len(log))
	for i, m := range log {
		if i >= most/2 && i < len(log)-most/2 {
			if i == most/2 {
				fmt.Fprintf(&b, "  … %d messages left out …\n", len(log)-most)
			}
			continue
		}
		arrow, text := "<-", string(m.body)
		if m.sent {
			arrow = "->"
		}
		if m.note != "" {
			arrow, text = "!!", m.note
		}
		if len(text) > longest {
			text = fmt.Sprintf("%s… (%d bytes)", text[:longest], len(text))
		}
		fmt.Fprintf(&b, "  %9.3fms %s %s\n", float64(m.at.Microseconds())/1000, arrow, text)
	}
	if e.conn.Stderr != nil {
		fmt.Fprintf(&b, "standard error of the server:\n%s", e.conn.Stderr())
	}
	return b.String()
}
