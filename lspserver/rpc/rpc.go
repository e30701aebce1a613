// Package rpc connects a language server to one editor: framing, dispatch, cancellation,
// lifecycle, tracing, progress, and positions in the encoding that was negotiated.
//
// It knows the Language Server Protocol and nothing of profiles: what a request means is the
// Server's business. The JSON-RPC engine and the protocol's types are go.lsp.dev/jsonrpc2 and
// go.lsp.dev/protocol; how they are put together differs from protocol.NewServer in the points
// that doc comments of this package state (order, panics, bad input, deadlines).
package rpc

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"go.lsp.dev/protocol"
)

// A Server answers one editor. Serve calls it by these rules.
//
// Notifications, Initialize and Snapshot run inline, one at a time and in wire order: they must be
// quick, and must not wait for the client (their caller is the one who reads its answers); what
// takes longer belongs in a goroutine. Every other call runs in a goroutine of its own, at the
// same time as other calls and as later notifications, with a context that ends when the client
// cancels the call or goes away. The context of a notification lives as long as the connection.
//
// An error is answered with the code of the *jsonrpc2.Error it wraps, or else as an internal error;
// the error of a notification is logged. A panic is answered as an internal error and logged with
// its stack; the connection goes on. Parameters are the method's to keep.
//
// Before a method runs, Serve has checked the lifecycle (nothing but Initialize before Initialize
// succeeded, nothing after Shutdown), that the parameters decode and that the members without which
// they mean nothing are there (see Missing). Shutdown and Exit are called at most once each; when an
// editor vanishes, Serve calls them itself. Request is never called: methods that the protocol does
// not know are either an Extension or answered as not found.
type Server interface {
	protocol.Server

	// Snapshot returns ctx with whatever of the server's state a call must see as it was when the
	// call arrived, the documents foremost: a didChange that comes later may run before the call's
	// method does. It is called for every call but Initialize and Shutdown. The result must be ctx
	// or derived from it.
	Snapshot(ctx context.Context) context.Context

	// Extension answers a method whose name begins with ExtensionPrefix. Params is nil where there
	// were none, and the method's to keep. For a notification the result is dropped. A method it does
	// not know it answers with ErrMethod.
	Extension(ctx context.Context, method string, params json.RawMessage) (any, error)
}

// Unimplemented is a Server to embed: calls answer that they are not offered, notifications do
// nothing, Snapshot returns its argument, Shutdown succeeds.
type Unimplemented struct{ protocol.UnimplementedServer }

// Shutdown implements Server.
func (Unimplemented) Shutdown(context.Context) error { return nil }

// Snapshot implements Server.
func (Unimplemented) Snapshot(ctx context.Context) context.Context { return ctx }

// Extension implements Server.
func (Unimplemented) Extension(_ context.Context, method string, _ json.RawMessage) (any, error) {
	return nil, ErrMethod(method)
}

var _ Server = Unimplemented{}

// Options of a connection; the zero value works.
type Options struct {
	Log *slog.Logger // nil: nothing is logged

	// Received is called with the method of each request and notification, by the goroutine that reads,
	// so it must be quick. nil: nobody is told.
	Received func(method string)
	// Panicked is called when a method has panicked, and returns the path of its report on that, which
	// the client is told; "" for none. nil: the log has it.
	Panicked func(method string, value any, stack []byte) (report string)

	// CallTimeout bounds each call to the client, so that one which never answers holds nobody up.
	// 0: 10 s.
	CallTimeout time.Duration
	// PersonTimeout does so for calls that a person answers (window/showMessageRequest). 0: 10 min.
	PersonTimeout time.Duration
	// Grace is how long the end of a connection waits for Shutdown, then for calls still running, and
	// then for what is written to be read. 0: 2 s each.
	Grace time.Duration

	// MaxMessage is the size in bytes above which a message is refused unread. 0: 256 MiB.
	MaxMessage int
	// MaxUnread is how many bytes of ours the client may leave unread before the connection is given
	// up. 0: 256 MiB.
	MaxUnread int
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	def(&o.CallTimeout, 10*time.Second)
	def(&o.PersonTimeout, 10*time.Minute)
	def(&o.Grace, 2*time.Second)
	if o.MaxMessage <= 0 {
		o.MaxMessage = 256 << 20
	}
	if o.MaxUnread <= 0 {
		o.MaxUnread = 256 << 20
	}
	return o
}

// Serve speaks to one editor over rwc until it says exit, closes its end or dies (the process that
// initialize named), or ctx ends. It makes the server first and closes rwc last. Nothing but frames
// is written to rwc.
//
// At the end it calls Shutdown unless the editor did, lets running calls finish for Options.Grace
// and then cancels them (at once after exit), and calls Exit.
//
// The result is the exit status that the protocol asks of the process: 0 when the editor had asked
// for shutdown, 1 otherwise.
func Serve(ctx context.Context, rwc io.ReadWriteCloser, newServer func(Client) Server, opts Options) (exitCode int) {
	return newSession(ctx, rwc, opts).serve(newServer)
}
