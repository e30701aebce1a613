package lsptest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.lsp.dev/protocol"
)

// The wire is written anew here, not shared with the server: a test must not agree with the code
// under test because both have the same fault.

type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// Error is an answer's error.
type Error struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// ErrEnded says that the server's end came before its answer.
var ErrEnded = errors.New("the server has ended")

// marshal encodes what cannot fail to be encoded. What the protocol package declares goes through it,
// for its unions; the members of a map must not be such unions.
func marshal(v any) json.RawMessage {
	var b []byte
	var err error
	switch v := v.(type) {
	case json.RawMessage:
		return v
	case map[string]any, []any, message:
		// Unlike the protocol package this sorts the keys, so that two logs can be compared.
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		err = enc.Encode(v)
		b = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	default:
		b, err = protocol.Marshal(v)
	}
	if err != nil {
		panic(fmt.Sprintf("lsptest: %T is not JSON: %v", v, err))
	}
	return b
}

// A Call is a call to the server that may still run.
type Call struct {
	ID     int64
	Method string

	e      *Editor
	done   chan struct{}
	result json.RawMessage // set before done is closed
	err    error
}

// Done is closed when the answer has come.
func (c *Call) Done() <-chan struct{} { return c.done }

// Cancel sends $/cancelRequest. The answer still has to come.
func (c *Call) Cancel() { c.e.Notify(protocol.MethodCancelRequest, map[string]any{"id": c.ID}) }

// Wait waits for the answer. The error is an *Error when the server gave one, or ErrEnded.
func (c *Call) Wait() (json.RawMessage, error) {
	c.e.t.Helper()
	select {
	case <-c.done:
	case <-time.After(c.e.opts.Timeout):
		c.e.t.Fatalf("%s (id %d) was not answered within %v", c.Method, c.ID, c.e.opts.Timeout)
	}
	return c.result, c.err
}

// Go sends a call. Params nil sends none.
func (e *Editor) Go(method string, params any) *Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextID++
	c := &Call{ID: e.nextID, Method: method, e: e, done: make(chan struct{})}
	if e.isEnded() {
		c.err = ErrEnded
		close(c.done)
		return c
	}
	e.pending[c.ID] = c
	e.send(message{ID: marshal(c.ID), Method: method, Params: optional(params)})
	return c
}

// Call sends a call, waits for its answer and decodes the result, unless result is nil. The error is
// as that of Call.Wait.
func (e *Editor) Call(method string, params, result any) error {
	e.t.Helper()
	raw, err := e.Go(method, params).Wait()
	if err != nil {
		return err
	}
	if result != nil && len(raw) > 0 && string(raw) != "null" {
		if err := protocol.Unmarshal(raw, result); err != nil {
			e.t.Fatalf("the result of %s does not decode: %v\n%s", method, err, raw)
		}
	}
	return nil
}

// Must is Call for a call that has to succeed.
func (e *Editor) Must(method string, params, result any) {
	e.t.Helper()
	if err := e.Call(method, params, result); err != nil {
		e.t.Fatalf("%s: %v", method, err)
	}
}

// Notify sends a notification. Params nil sends none.
func (e *Editor) Notify(method string, params any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.send(message{Method: method, Params: optional(params)})
}

func optional(params any) json.RawMessage {
	if params == nil {
		return nil
	}
	return marshal(params)
}

// SendRaw sends bytes as they are, behind what was sent before.
func (e *Editor) SendRaw(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, entry{at: time.Since(e.start), sent: true, note: fmt.Sprintf("raw %q", clipped(b))})
	e.out.put(slices.Clone(b))
}

// SendFrame sends a body, whatever it is, in a well-formed frame.
func (e *Editor) SendFrame(body string) {
	e.SendRaw(fmt.Appendf(nil, "Content-Length: %d\r\n\r\n%s", len(body), body))
}

func clipped(b []byte) []byte { return b[:min(len(b), 500)] }

// send queues a message. The caller holds mu, so the log is in the order of the wire.
func (e *Editor) send(m message) {
	m.JSONRPC = "2.0"
	body := marshal(m)
	e.log = append(e.log, entry{at: time.Since(e.start), sent: true, body: body})
	e.out.put(fmt.Appendf(nil, "Content-Length: %d\r\n\r\n%s", len(body), body))
}

// read is the goroutine that takes the server's messages. It ends with the connection.
func (e *Editor) read() {
	r := bufio.NewReader(e.conn)
	var err error
	for err == nil {
		var body []byte
		if body, err = readFrame(r); err == nil {
			err = e.receive(body)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// A connection that we closed may end within a frame.
	if err != io.EOF && !e.closed && !errors.Is(err, io.ErrClosedPipe) {
		e.fault("%v", err)
	}
	e.log = append(e.log, entry{at: time.Since(e.start), note: fmt.Sprintf("the connection has ended: %v", err)})
	close(e.ended)
	for id, c := range e.pending {
		delete(e.pending, id)
		c.err = ErrEnded
		close(c.done)
	}
	e.state.Ended = true
	e.evaluate()
}

// readFrame reads one frame and is as strict as the strictest client: exactly the header lines that
// the protocol knows, with CRLF.
func readFrame(r *bufio.Reader) ([]byte, error) {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		if err == io.EOF && first && line == "" {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("the output ended within a header, after %q: %w", line, err)
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return nil, fmt.Errorf("the output is not a frame: %q", line)
		}
		if line == "" {
			break
		}
		value, ok := strings.CutPrefix(line, "Content-Length: ")
		if !ok {
			if strings.HasPrefix(line, "Content-Type: ") {
				continue
			}
			return nil, fmt.Errorf("the output is not a frame: %q", line)
		}
		if length, err = strconv.Atoi(value); err != nil {
			return nil, fmt.Errorf("the length of a frame is %q", value)
		}
	}
	if length < 0 {
		return nil, errors.New("a frame has no length")
	}
	body := make([]byte, length)
	if n, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("the output ended after %d of %d bytes of a message: %w", n, length, err)
	}
	return body, nil
}

// receive takes one message. An error ends the connection: its reader cannot go on.
func (e *Editor) receive(body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, entry{at: time.Since(e.start), body: body})
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		e.fault("a message is not JSON: %v: %q", err, clipped(body))
		return nil
	}
	if m.JSONRPC != "2.0" {
		e.fault("a message is not JSON-RPC 2.0: %s", clipped(body))
	}
	switch {
	case m.Method == "":
		e.answered(m, body)
	case len(m.ID) > 0:
		e.asked(m)
	default:
		e.notified(m)
	}
	e.evaluate()
	return nil
}

// answered takes an answer. The caller holds mu.
func (e *Editor) answered(m message, body []byte) {
	if string(m.ID) == "null" { // to a message whose id could not be read
		if m.Error == nil {
			e.fault("an answer without id is not an error: %s", clipped(body))
			return
		}
		e.state.Refusals = append(e.state.Refusals, *m.Error)
		return
	}
	var id int64
	if err := json.Unmarshal(m.ID, &id); err != nil {
		e.state.Others = append(e.state.Others, slices.Clone(body)) // to something that was sent raw
		return
	}
	c := e.pending[id]
	if c == nil {
		if id >= 0 && id <= e.nextID {
			e.fault("call %d is answered again: %s", id, clipped(body))
			return
		}
		e.state.Others = append(e.state.Others, slices.Clone(body))
		return
	}
	delete(e.pending, id)
	if hasResult := len(m.Result) > 0; hasResult == (m.Error != nil) {
		e.fault("the answer to %s has not exactly one of result and error: %s", c.Method, clipped(body))
	}
	if c.result = m.Result; m.Error != nil {
		c.err = m.Error
	}
	close(c.done)
}

// An outbox writes to the server without ever making the test wait for it to read.
type outbox struct {
	w       io.Writer
	mu      sync.Mutex
	changed sync.Cond // on mu: anything below
	queue   []byte
	busy    bool
	closed  bool
}

func startOutbox(w io.Writer) *outbox {
	o := &outbox{w: w}
	o.changed.L = &o.mu
	go o.run()
	return o
}

func (o *outbox) put(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.queue = append(o.queue, b...)
		o.changed.Broadcast()
	}
}

// run ends after close, or when the server no longer reads.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.queue) == 0 && !o.closed {
			o.changed.Wait()
		}
		if o.closed {
			return
		}
		batch := o.queue
		o.queue, o.busy = nil, true
		o.mu.Unlock()
		_, err := o.w.Write(batch)
		o.mu.Lock()
		o.busy = false
		o.closed = o.closed || err != nil
		o.changed.Broadcast()
	}
}

// flush waits until all is written, or cannot be.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (len(o.queue) > 0 || o.busy) && !o.closed {
		o.changed.Wait()
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
}
