package rpc

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.lsp.dev/jsonrpc2"
	"go.lsp.dev/protocol"
)

// maxTraced is how much of a message a verbose trace shows, in bytes.
const maxTraced = 64 << 10

// A tracer reports the connection's messages to the client in $/logTrace, when it asked for that in
// initialize or with $/setTrace. It works on whole messages, on both sides of jsonrpc2;
// protocol.LoggingStream locks up when a peer answers with an error.
type tracer struct {
	level atomic.Pointer[protocol.TraceValue] // nil: off
	out   *outbox

	mu      sync.Mutex
	pending map[pendingCall]asked // calls seen while tracing whose answers were not
}

type pendingCall struct {
	ours bool // we asked the client
	id   jsonrpc2.ID
}

type asked struct {
	method string
	at     time.Time
}

// set takes another level; one that is not known is off.
func (t *tracer) set(level protocol.TraceValue) {
	if level != protocol.TraceValueMessages && level != protocol.TraceValueVerbose {
		t.level.Store(nil)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.pending = nil
		return
	}
	t.level.Store(&level)
}

func (t *tracer) received(msg jsonrpc2.Message) { t.message("received", false, msg) }
func (t *tracer) sent(msg jsonrpc2.Message)     { t.message("sent", true, msg) }

func (t *tracer) message(did string, ours bool, msg jsonrpc2.Message) {
	level := t.level.Load()
	if level == nil {
		return
	}
	body := jsonrpc2.AppendMessage(nil, msg)
	// Messages that jsonrpc2 writes are of types of its own: look at what goes over the wire.
	m, err := jsonrpc2.DecodeMessage(body)
	if err != nil {
		return
	}
	var text string
	switch m := m.(type) {
	case *jsonrpc2.Call:
		text = fmt.Sprintf("%s call %s (%q)", did, m.Method(), m.ID())
		t.mu.Lock()
		if t.pending == nil {
			t.pending = map[pendingCall]asked{}
		}
		t.pending[pendingCall{ours, m.ID()}] = asked{string(append([]byte(nil), m.Method()...)), time.Now()}
		t.mu.Unlock()
	case *jsonrpc2.Notification:
		if m.Method() == protocol.MethodLogTrace {
			return
		}
		text = fmt.Sprintf("%s notification %s", did, m.Method())
	case *jsonrpc2.Response:
		key := pendingCall{!ours, m.ID()}
		t.mu.Lock()
		call, ok := t.pending[key]
		delete(t.pending, key)
		t.mu.Unlock()
		text = fmt.Sprintf("%s answer (%q)", did, m.ID())
		if ok {
			text = fmt.Sprintf("%s answer %s (%q) after %v", did, call.method, m.ID(), time.Since(call.at).Round(time.Microsecond))
		}
		if m.Err() != nil {
			text += ": " + m.Err().Error()
		}
	}
	p := protocol.LogTraceParams{Message: text}
	if *level == protocol.TraceValueVerbose {
		v := string(body)
		if len(v) > maxTraced {
			v = fmt.Sprintf("%s… (%d bytes)", v[:maxTraced], len(v))
		}
		p.Verbose = &v
	}
	raw, err := protocol.Marshal(&p)
	if err != nil {
		return
	}
	_ = t.out.put(jsonrpc2.AppendNotification(nil, protocol.MethodLogTrace, raw))
}
