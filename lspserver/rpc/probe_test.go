package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// TestMain makes this test binary the server that tests start as a process.
func TestMain(m *testing.M) {
	if os.Getenv("RPC_SERVE") == "" {
		os.Exit(m.Run())
	}
	rwc, err := rpc.Stdio()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	os.Exit(rpc.Serve(context.Background(), rwc, func(c rpc.Client) rpc.Server { return newProbe(c) }, rpc.Options{Log: log}))
}

// A probe is a server that does what it is told to, good and bad.
type probe struct {
	rpc.Unimplemented
	client rpc.Client

	version   atomic.Int32 // of the one document
	backwards atomic.Int32 // versions that did not grow
	changes   atomic.Int32
	running   atomic.Int32 // blocked calls
	shutdowns atomic.Int32
	exits     atomic.Int32
	pings     atomic.Int32

	kept       sync.Map // contexts of notifications, kept
	onShutdown func(context.Context) error
	hold       chan struct{} // "sightline/hold" waits for it
	snapshot   func()
}

func newProbe(c rpc.Client) *probe { return &probe{client: c, hold: make(chan struct{})} }

func (p *probe) Initialize(_ context.Context, params *protocol.InitializeParams) (*protocol.InitializeResult, error) {
	switch string(params.InitializationOptions) {
	case `"panic"`:
		panic("in initialize")
	case `"fail"`:
		return nil, fmt.Errorf("it does not want to")
	case `"nil"`:
		return nil, nil
	}
	yes, incremental := true, protocol.TextDocumentSyncKindIncremental
	return &protocol.InitializeResult{Capabilities: protocol.ServerCapabilities{
		TextDocumentSync: &protocol.TextDocumentSyncOptions{OpenClose: &yes, Change: &incremental},
	}}, nil
}

func (p *probe) Shutdown(ctx context.Context) error {
	p.shutdowns.Add(1)
	if p.onShutdown != nil {
		return p.onShutdown(ctx)
	}
	return nil
}

func (p *probe) Exit(context.Context) error { p.exits.Add(1); return nil }

func (p *probe) DidChange(_ context.Context, params *protocol.DidChangeTextDocumentParams) error {
	p.changes.Add(1)
	if old := p.version.Swap(params.TextDocument.Version); params.TextDocument.Version <= old {
		p.backwards.Add(1)
	}
	return nil
}

func (p *probe) DidSave(ctx context.Context, _ *protocol.DidSaveTextDocumentParams) error {
	panic("in a notification")
}

func (p *probe) DidClose(ctx context.Context, _ *protocol.DidCloseTextDocumentParams) error {
	return fmt.Errorf("a notification that fails")
}

// DidChangeWatchedFiles does what is wrong with the contexts of jsonrpc2 itself: it derives one in
// a notification and lets it live on.
func (p *probe) DidChangeWatchedFiles(ctx context.Context, _ *protocol.DidChangeWatchedFilesParams) error {
	derived, cancel := context.WithCancel(ctx)
	p.kept.Store(derived, cancel)
	go func() { <-derived.Done() }()
	return nil
}

func (p *probe) Hover(ctx context.Context, params *protocol.HoverParams) (*protocol.Hover, error) {
	switch params.Position.Line {
	case 1:
		panic("in a call")
	case 2:
		p.running.Add(1)
		defer p.running.Add(-1)
		<-ctx.Done()
		return nil, fmt.Errorf("waiting: %w", ctx.Err())
	case 3:
		return nil, fmt.Errorf("plainly wrong")
	}
	return nil, nil
}

type snapshotKey struct{}

func (p *probe) Snapshot(ctx context.Context) context.Context {
	if p.snapshot != nil {
		p.snapshot()
	}
	return context.WithValue(ctx, snapshotKey{}, p.version.Load())
}

type unencodable struct{ F func() }

func (p *probe) Extension(ctx context.Context, method string, params json.RawMessage) (any, error) {
	switch method {
	case "sightline/version": // as of the call's arrival, and now
		if params != nil {
			p.running.Add(1)
			<-p.hold
		}
		return []int32{ctx.Value(snapshotKey{}).(int32), p.version.Load()}, nil
	case "sightline/stats":
		return map[string]int32{"version": p.version.Load(), "backwards": p.backwards.Load(), "changes": p.changes.Load(), "running": p.running.Load(), "pings": p.pings.Load()}, nil
	case "sightline/ping":
		p.pings.Add(1)
		return nil, nil
	case "sightline/echo":
		if params == nil {
			return "nothing", nil
		}
		return params, nil
	case "sightline/slow": // but not so slow as Options.Grace
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
			return "nothing", nil
		}
	case "sightline/hold":
		p.running.Add(1)
		defer p.running.Add(-1)
		<-p.hold
		return "held", nil
	case "sightline/unencodable":
		return unencodable{func() {}}, nil
	case "sightline/encoderPanics":
		return encoderPanics{}, nil
	case "sightline/number":
		return rpc.DecodeParams[int](method, params)
	case "sightline/ask": // the client, while answering it
		start := time.Now()
		_, err := p.client.Configuration(ctx, &protocol.ConfigurationParams{Items: []protocol.ConfigurationItem{{}}})
		return fmt.Sprintf("%v after %v", err, time.Since(start) > time.Hour), nil
	}
	return nil, rpc.ErrMethod(method)
}

type encoderPanics struct{}

func (encoderPanics) MarshalJSON() ([]byte, error) { panic("in an encoder") }

// logs collects what a server logs.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start connects an editor to a probe.
func start(t *testing.T, opts lsptest.Options, serve rpc.Options) (*lsptest.Editor, *probe, *logs) {
	t.Helper()
	l := &logs{}
	serve.Log = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	made := make(chan *probe, 1)
	conn := lsptest.Connect(t, func(c rpc.Client) rpc.Server {
		p := newProbe(c)
		made <- p
		return p
	}, serve)
	p := <-made
	return lsptest.Start(t, conn, opts), p, l
}

// code is the code of an answer's error; 0 for none.
func code(err error) int {
	if wire, ok := err.(*lsptest.Error); ok {
		return wire.Code
	}
	return 0
}

func hover(line int) map[string]any {
	return map[string]any{"textDocument": map[string]any{"uri": "file:///a.go"}, "position": map[string]any{"line": line, "character": 0}}
}

func change(version int) map[string]any {
	return map[string]any{
		"textDocument":   map[string]any{"uri": "file:///a.go", "version": version},
		"contentChanges": []any{map[string]any{"text": fmt.Sprint(version)}},
	}
}

// alive sees that the connection still serves.
func alive(t *testing.T, e *lsptest.Editor) {
	t.Helper()
	var s string
	if err := e.Call("sightline/echo", nil, &s); err != nil || s != "nothing" {
		t.Fatalf("the connection does not serve any more: %q, %v", s, err)
	}
}
