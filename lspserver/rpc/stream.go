package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.lsp.dev/jsonrpc2"
)

// A stream is the connection's bytes as messages. It differs from jsonrpc2's own in that
//   - a message that is no JSON or no request is answered and forgotten, where jsonrpc2 gives up the
//     connection;
//   - writing puts the message into a queue and never waits, so that a client which writes without
//     reading cannot lock both sides, and the deadline of a call holds whatever the client does;
//   - its end of input waits until the session is done, because jsonrpc2 drops the answers of calls
//     that still run when the input ends;
//   - it shows each message to the tracer.
type stream struct {
	rwc    io.ReadWriteCloser
	frames frameReader
	out    *outbox
	trace  *tracer

	unanswered gauge // calls that jsonrpc2 was given and has not answered

	ended  chan struct{} // closed when there is nothing more to read
	stop   chan struct{} // closed by the session when exit was said: read no more
	done   chan struct{} // closed by the session when Read may tell of the end
	reason error         // why reading ended; nil for a clean end. Read after ended is closed
}

var _ jsonrpc2.Stream = (*stream)(nil)

func newStream(rwc io.ReadWriteCloser, opts Options, t *tracer) *stream {
	return &stream{
		rwc: rwc, frames: frameReader{src: rwc, limit: opts.MaxMessage}, out: startOutbox(rwc, opts.MaxUnread), trace: t,
		ended: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Read returns the next message that can be used. The context is not looked at: the session ends
// reading by closing the connection.
func (s *stream) Read(context.Context) (jsonrpc2.Message, int64, error) {
	for {
		select {
		case <-s.stop:
			return s.end(nil)
		default:
		}
		body, err := s.frames.next()
		var fault *badFrame
		switch {
		case errors.As(err, &fault):
			s.refuse(jsonrpc2.ID{}, jsonrpc2.Errorf(jsonrpc2.ParseError, "%s", fault.reason))
			continue
		case err == io.EOF:
			return s.end(nil)
		case err != nil:
			return s.end(err)
		}
		msg, id, err := parse(body)
		switch {
		case msg != nil:
			s.trace.received(msg)
			if _, call := msg.(*jsonrpc2.Call); call {
				s.unanswered.add(1)
			}
			return msg, int64(len(body)), nil
		case errors.Is(err, jsonrpc2.ErrParse):
			s.frames.reject()
		}
		s.refuse(id, err)
	}
}

// end is called by the one goroutine that reads, once: jsonrpc2 reads no further after an error.
func (s *stream) end(reason error) (jsonrpc2.Message, int64, error) {
	s.reason = reason
	close(s.ended)
	<-s.done
	return nil, 0, io.EOF
}

// refuse answers a message that goes no further.
func (s *stream) refuse(id jsonrpc2.ID, err error) {
	msg := jsonrpc2.NewResponse(id, nil, err)
	s.trace.sent(msg)
	_ = s.out.put(jsonrpc2.AppendMessage(nil, msg)) // its error ends the connection by itself
}

// parse makes a message of a body, which it borrows. Where it cannot, it returns the error to answer
// and the id to answer it under, as far as it can be made out. An answer that is not well formed
// becomes an answer with an error, so that who waits for it learns of it.
func parse(body []byte) (jsonrpc2.Message, jsonrpc2.ID, error) {
	// jsonrpc2 only matches brackets; the protocol's decoders skip members they do not know.
	if !jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return nil, jsonrpc2.ID{}, jsonrpc2.NewError(jsonrpc2.ParseError, "the message is not JSON")
	}
	msg, err := jsonrpc2.DecodeMessage(body)
	if err == nil {
		return msg, jsonrpc2.ID{}, nil
	}
	members, ok := membersOf(body)
	if !ok {
		return nil, jsonrpc2.ID{}, jsonrpc2.NewError(jsonrpc2.InvalidRequest, "the message is not a JSON object; the protocol has no batches")
	}
	id, idOK := parseID(members["id"])
	reason := jsonrpc2.NewError(jsonrpc2.InvalidRequest, `the message is neither a request nor an answer of JSON-RPC 2.0`)
	has := func(name string) bool { _, ok := members[name]; return ok }
	switch {
	case string(members["jsonrpc"]) != `"2.0"`:
		reason.Message = `the message has no "jsonrpc": "2.0"`
	case !idOK:
		reason.Message = "the id of the message is neither a string nor an integer"
	case has("method") || has("params") || !id.IsValid():
	case !has("result") && !has("error"): // a client whose null is no member: Lua's nil
		return jsonrpc2.NewResponse(id, jsonrpc2.RawMessage("null"), nil), id, nil
	default:
		return jsonrpc2.NewResponse(id, nil, reason), id, nil
	}
	return nil, id, reason
}

// parseID decodes an id; an absent one is not valid but all right.
func parseID(raw jsontext.Value) (id jsonrpc2.ID, ok bool) {
	switch raw.Kind() {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return jsonrpc2.NewStringID(s), true
		}
	case '0':
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return jsonrpc2.NewNumberID(n), true
		}
	default:
		return jsonrpc2.ID{}, len(raw) == 0 || raw.Kind() == 'n'
	}
	return jsonrpc2.ID{}, false
}

// Write queues a message. The context is not looked at, for it is never waited.
func (s *stream) Write(_ context.Context, msg jsonrpc2.Message) (int64, error) {
	body := jsonrpc2.AppendMessage(nil, msg)
	s.trace.sent(msg)
	err := s.out.put(body)
	// What jsonrpc2 writes is of types of its own: look at what it is on the wire.
	if v, _ := jsonrpc2.ScanMessageView(body); v.Kind == jsonrpc2.MessageViewResponseResult || v.Kind == jsonrpc2.MessageViewResponseError {
		s.unanswered.add(-1)
	}
	if err != nil {
		return 0, err
	}
	return int64(len(body)), nil
}

func (s *stream) Close() error {
	s.out.close()
	return s.rwc.Close()
}

// An outbox is a queue of frames and the goroutine that writes them, in order. The goroutine is
// started by startOutbox and ends after close or the first error, which also closes the connection.
type outbox struct {
	rwc   io.ReadWriteCloser
	limit int

	mu      sync.Mutex
	changed sync.Cond // on mu: anything below
	queue   []byte    // frames to be written
	unread  int       // bytes queued or being written
	closed  bool
	err     error         // why no more can be written
	broken  chan struct{} // closed when err is set
}

var errClosed = errors.New("the connection is closed")

func startOutbox(rwc io.ReadWriteCloser, limit int) *outbox {
	o := &outbox{rwc: rwc, limit: limit, broken: make(chan struct{})}
	o.changed.L = &o.mu
	go o.run()
	return o
}

// put queues a frame around the body.
func (o *outbox) put(body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
		return o.err
	case o.closed:
		return errClosed
	case o.unread > 0 && o.unread+len(body) > o.limit:
		o.fail(fmt.Errorf("write to the client: it has left %d bytes unread", o.unread))
		return o.err
	}
	before := len(o.queue)
	o.queue = append(o.queue, "Content-Length: "...)
	o.queue = strconv.AppendInt(o.queue, int64(len(body)), 10)
	o.queue = append(o.queue, "\r\n\r\n"...)
	o.queue = append(o.queue, body...)
	o.unread += len(o.queue) - before
	o.changed.Broadcast()
	return nil
}

// fail gives up the connection. The caller holds mu.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
		close(o.broken)
		go o.rwc.Close() // may wait for the write under way; that ends by it
	}
	o.unread = 0
	o.changed.Broadcast()
}

func (o *outbox) run() {
	var batch []byte
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.queue) == 0 && !o.closed && o.err == nil {
			o.changed.Wait()
		}
		if len(o.queue) == 0 || o.err != nil {
			return
		}
		if cap(batch) > keepBuffer {
			batch = nil
		}
		batch, o.queue = o.queue, batch[:0]
		o.mu.Unlock()
		_, err := o.rwc.Write(batch)
		o.mu.Lock()
		o.unread -= len(batch)
		if err != nil {
			o.fail(fmt.Errorf("write to the client: %w", err))
			return
		}
		o.changed.Broadcast()
	}
}

// flush waits until all is written, but at most so long.
func (o *outbox) flush(d time.Duration) {
	expired := false
	t := time.AfterFunc(d, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		expired = true
		o.changed.Broadcast()
	})
	defer t.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.unread > 0 && o.err == nil && !expired {
		o.changed.Wait()
	}
}

// close ends the goroutine once the queue is written.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
}
