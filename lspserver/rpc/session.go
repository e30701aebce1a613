package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.lsp.dev/jsonrpc2"
	"go.lsp.dev/protocol"
)

// A session is one connection.
//
// Goroutines: jsonrpc2 has one that reads, whose role passes to a fresh one with each call that is
// released, while the old one goes on to run the call; the outbox has one that writes; orphan one
// that watches a process. All end with serve, but for a call that heeds no context and a read that
// the operating system does not let us interrupt.
type session struct {
	opts          Options
	stream        *stream
	conn          jsonrpc2.Conn
	server        Server
	serveStandard jsonrpc2.Handler // protocol.ServerHandler around server

	// ctx lives as long as the connection and is the parent of all contexts that a server sees.
	//
	// The context that jsonrpc2 hands to a handler is never the parent of another one: it is recycled
	// when the handler returns, and a context derived from it then panics in a goroutine of package
	// context ("cannot create context from nil parent"), which ends the process.
	ctx    context.Context
	cancel context.CancelFunc
	outer  context.Context // as given to Serve

	exited   chan struct{} // closed by the notification exit
	orphaned chan struct{} // closed when the process that initialize named has ended

	encoding     atomic.Uint32
	capabilities atomic.Pointer[protocol.ClientCapabilities]
	tokens       atomic.Int64 // progress tokens handed out
	work         works

	// Written by the reading goroutine, in handle; read by serve too.
	initialized, shutDown atomic.Bool
	watched               *orphan

	mu      sync.Mutex
	calls   map[jsonrpc2.ID]*runningCall // released calls, for $/cancelRequest
	running gauge                        // released calls whose method has not returned
}

type runningCall struct{ cancel context.CancelFunc }

func newSession(ctx context.Context, rwc io.ReadWriteCloser, opts Options) *session {
	s := &session{
		opts: opts.withDefaults(), outer: ctx,
		exited: make(chan struct{}), orphaned: make(chan struct{}),
		calls: map[jsonrpc2.ID]*runningCall{},
	}
	trace := &tracer{}
	s.stream = newStream(rwc, s.opts, trace)
	trace.out = s.stream.out
	s.conn = jsonrpc2.NewConn(s.stream, jsonrpc2.WithCodec(codec{}))
	s.ctx, s.cancel = context.WithCancel(protocol.WithClient(context.WithoutCancel(ctx), client{s}))
	return s
}

func (s *session) serve(newServer func(Client) Server) (exitCode int) {
	log := s.opts.Log
	s.server = newServer(client{s})
	s.serveStandard = protocol.ServerHandler(s.server, nil)
	s.conn.Go(s.ctx, s.handle)

	said := false // the client said exit
	select {
	case <-s.exited:
		said = true
	case <-s.stream.ended:
		if s.stream.reason != nil {
			log.Warn("the connection broke", "error", s.stream.reason)
		} else if !s.shutDown.Load() {
			log.Info("the client closed the connection without shutdown")
		}
	case <-s.orphaned:
		log.Warn("the process that initialize named has ended", "pid", s.watched.pid)
	case <-s.outer.Done():
		log.Info("told to stop", "cause", context.Cause(s.outer))
	}
	exitCode = 1
	if s.shutDown.Load() {
		exitCode = 0
	}

	if s.initialized.Load() && s.shutDown.CompareAndSwap(false, true) {
		s.within("shutdown", s.server.Shutdown)
	}
	if !said {
		s.stream.unanswered.wait(s.opts.Grace, s.stream.out.broken) // the client may only have closed its end
	}
	s.cancel()
	s.running.wait(s.opts.Grace, nil)
	s.stream.unanswered.wait(s.opts.Grace, s.stream.out.broken)
	s.within("exit", s.server.Exit)
	if s.watched != nil {
		s.watched.close()
	}
	s.stream.out.flush(s.opts.Grace)
	close(s.stream.done)
	s.stream.Close()
	select {
	case <-s.conn.Done():
	case <-time.After(s.opts.Grace):
		log.Warn("the connection is left behind: a call, or a read, did not end")
	}
	return exitCode
}

// within runs a last method of the server for at most Grace.
func (s *session) within(what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.opts.Grace)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := s.guard(what, func() (any, error) { return nil, f(ctx) }); err != nil {
			s.opts.Log.Warn("the end of a connection", "method", what, "error", err)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.opts.Log.Warn("the end of a connection: not done in time", "method", what)
	}
}

// handle is called for each request, in wire order, by the goroutine that reads. For a call it
// releases that role (jsonrpc2.Async) after everything that must come before the next message.
func (s *session) handle(jctx context.Context, req *jsonrpc2.Request) (any, error) {
	method := req.Method()
	if s.opts.Received != nil {
		s.opts.Received(clip([]byte(method)))
	}
	switch {
	case !req.IsCall():
		s.notified(req)
		return nil, nil // an error would close the connection
	case method == protocol.MethodInitialize:
		return s.guard(method, func() (any, error) { return s.initialize(req) })
	case !s.initialized.Load():
		return nil, jsonrpc2.Errorf(jsonrpc2.ServerNotInitialized, "%s came before initialize", quoted(method))
	case s.shutDown.Load():
		return nil, jsonrpc2.Errorf(jsonrpc2.InvalidRequest, "%s came after shutdown; only exit may", quoted(method))
	}

	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if method == protocol.MethodShutdown {
		// From here on nothing else is served, though the server may take its time.
		s.shutDown.Store(true)
	} else if _, err := s.guard(method, func() (any, error) { ctx = s.server.Snapshot(ctx); return nil, nil }); err != nil {
		return nil, err
	}
	defer s.register(req.ID(), cancel)()
	jsonrpc2.Async(jctx)
	// From here on req owns its bytes; method is of the frame, which the next one overwrites.
	return s.guard(req.Method(), func() (any, error) { return s.call(ctx, req) })
}

// register makes a call known to $/cancelRequest, until what it returns is called.
func (s *session) register(id jsonrpc2.ID, cancel context.CancelFunc) (unregister func()) {
	c := &runningCall{cancel}
	s.running.add(1)
	s.mu.Lock()
	s.calls[id] = c
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		if s.calls[id] == c { // a client may have used the id twice
			delete(s.calls, id)
		}
		s.mu.Unlock()
		s.running.add(-1)
	}
}

func (s *session) cancelCall(params []byte) {
	members, _ := membersOf(params)
	id, ok := parseID(members["id"])
	if !ok || !id.IsValid() {
		s.opts.Log.Warn("a cancellation names no call", "params", clip(params))
		return
	}
	s.mu.Lock()
	c := s.calls[id]
	s.mu.Unlock()
	if c != nil { // else it is answered already
		c.cancel()
	}
}

// guard runs f and answers for its panics, its errors and its result's encoding.
func (s *session) guard(method string, f func() (any, error)) (result any, err error) {
	method = strings.Clone(method)
	defer func() {
		if r := recover(); r != nil {
			stack := debug.Stack()
			s.opts.Log.Error("panic", "method", method, "panic", fmt.Sprint(r), "stack", string(stack))
			s.reportPanic(method, r, stack)
			result, err = nil, jsonrpc2.Errorf(jsonrpc2.InternalError, "%s: a fault of this server: %v", method, r)
		}
	}()
	result, err = f()
	if err != nil {
		return nil, answerable(method, err)
	}
	// Encoded here, because jsonrpc2 gives up the connection if that panics.
	raw, err := codec{}.Marshal(result)
	if err != nil {
		s.opts.Log.Error("a result is not JSON", "method", method, "error", err)
		return nil, jsonrpc2.Errorf(jsonrpc2.InternalError, "%s: the result cannot be encoded: %v", method, err)
	}
	return jsonrpc2.RawMessage(raw), nil
}

// reportPanic has the person told where the report on a panic is.
func (s *session) reportPanic(method string, value any, stack []byte) {
	if s.opts.Panicked == nil {
		return
	}
	report := s.opts.Panicked(clip([]byte(method)), value, stack)
	if report == "" {
		return
	}
	text := fmt.Sprintf("%s met a fault of this server; the session goes on. The report is %s", clip([]byte(method)), report)
	err := client{s}.ShowMessage(context.Background(), &protocol.ShowMessageParams{Type: protocol.MessageTypeError, Message: text})
	if err != nil {
		s.opts.Log.Warn("the client was not told of a report", "report", report, "error", err)
	}
}

// call answers a released call.
func (s *session) call(ctx context.Context, req *jsonrpc2.Request) (result any, err error) {
	method := req.Method()
	switch info, standard := methods[method]; {
	case method == protocol.MethodShutdown:
		return nil, s.server.Shutdown(ctx)
	case strings.HasPrefix(method, ExtensionPrefix):
		// Before protocol.ServerHandler, which takes absent parameters for malformed ones.
		result, err = s.server.Extension(ctx, method, []byte(req.Params()))
	case !standard:
		return nil, ErrMethod(method)
	case info.Kind == "notification":
		return nil, jsonrpc2.Errorf(jsonrpc2.InvalidRequest, "%s is a notification: it must not have an id", method)
	default:
		if result, err = nil, s.check(method, req.Params()); err == nil {
			result, err = s.serveStandard(ctx, req)
		}
	}
	if err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, protocol.ErrRequestCancelled)) {
		return nil, jsonrpc2.Errorf(protocol.CodeRequestCancelled, "%s was cancelled", method)
	}
	return result, err
}

// check tells of parameters that are absent or lack what they need.
func (s *session) check(method string, params []byte) error {
	if methods[method].ParamsType == "" {
		return nil
	}
	if len(params) == 0 && (len(needed[method]) > 0 || methods[method].Kind == "request") {
		return ErrParams("%s: the parameters are missing", method)
	}
	if name := Missing(method, params); name != "" {
		return ErrParams("%s: the parameters lack %s", method, name)
	}
	return nil
}

func (s *session) initialize(req *jsonrpc2.Request) (any, error) {
	if s.initialized.Load() {
		return nil, jsonrpc2.NewError(jsonrpc2.InvalidRequest, "initialize came a second time")
	}
	if err := s.check(protocol.MethodInitialize, req.Params()); err != nil {
		return nil, err
	}
	var p protocol.InitializeParams
	if err := protocol.Unmarshal(req.Params(), &p); err != nil {
		return nil, ErrParams("initialize: the parameters do not fit: %v", err)
	}
	s.capabilities.Store(&p.Capabilities)
	enc := choose(p.Capabilities)
	s.encoding.Store(uint32(enc))
	result, err := s.server.Initialize(s.ctx, &p)
	if err != nil {
		return nil, err
	}
	if result == nil {
		return nil, jsonrpc2.NewError(jsonrpc2.InternalError, "initialize: the server gave no result")
	}
	result.Capabilities.PositionEncoding = enc.Kind()
	s.stream.trace.set(p.Trace)
	if p.ProcessID != nil {
		s.watch(int(*p.ProcessID))
	}
	s.initialized.Store(true)
	return result, nil
}

// notified handles a notification, inline: the next message waits for it.
func (s *session) notified(req *jsonrpc2.Request) {
	method := req.Method()
	switch method {
	case protocol.MethodCancelRequest:
		s.cancelCall(req.Params())
		return
	case protocol.MethodExit:
		close(s.stream.stop)
		close(s.exited)
		return
	}
	if !s.initialized.Load() || s.shutDown.Load() {
		return // as the protocol wants it
	}
	_, err := s.guard(method, func() (any, error) { return nil, s.notify(req) })
	if err != nil {
		s.opts.Log.Warn("a notification came to nothing", "method", clip([]byte(method)), "error", err)
	}
}

func (s *session) notify(req *jsonrpc2.Request) error {
	method, params := req.Method(), req.Params()
	info, standard := methods[method]
	switch {
	case strings.HasPrefix(method, ExtensionPrefix):
		_, err := s.server.Extension(s.ctx, strings.Clone(method), append([]byte(nil), params...))
		return err
	case !standard && strings.HasPrefix(method, "$/"):
		return nil // optional by the protocol
	case !standard:
		s.opts.Log.Debug("a notification that is not known", "method", clip([]byte(method)))
		return nil
	case info.Kind != "notification":
		return errors.New("a call needs an id")
	}
	if method == protocol.MethodInitialized && len(params) == 0 {
		return s.server.Initialized(s.ctx, &protocol.InitializedParams{}) // some clients leave out the empty object
	}
	if err := s.check(method, params); err != nil {
		return err
	}
	switch method {
	case protocol.MethodSetTrace:
		var p protocol.SetTraceParams
		if err := protocol.Unmarshal(params, &p); err != nil {
			return err
		}
		s.stream.trace.set(p.Value)
	case protocol.MethodWindowWorkDoneProgressCancel:
		var p protocol.WorkDoneProgressCancelParams
		if err := protocol.Unmarshal(params, &p); err != nil {
			return err
		}
		s.work.cancel(p.Token)
	}
	_, err := s.serveStandard(s.ctx, req)
	return err
}

// watch ends the session when the process ends.
func (s *session) watch(pid int) {
	w, err := openOrphan(pid)
	if err != nil {
		s.opts.Log.Info("the process that initialize named is not watched", "pid", pid, "error", err)
		return
	}
	s.watched = w
	go func() {
		if w.wait() == nil {
			close(s.orphaned)
		}
	}()
}

// clip is foreign text for a log.
func clip(b []byte) string {
	if len(b) > 200 {
		b = b[:200]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// A gauge counts what is under way.
type gauge struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n comes to 0; nil while nobody waits
}

func (g *gauge) add(delta int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n += delta; g.n == 0 && g.zero != nil {
		close(g.zero)
		g.zero = nil
	}
}

// wait waits until the count is 0, or stop is closed, but at most so long.
func (g *gauge) wait(d time.Duration, stop <-chan struct{}) {
	g.mu.Lock()
	if g.n == 0 {
		g.mu.Unlock()
		return
	}
	if g.zero == nil {
		g.zero = make(chan struct{})
	}
	zero := g.zero
	g.mu.Unlock()
	select {
	case <-zero:
	case <-stop:
	case <-time.After(d):
	}
}
