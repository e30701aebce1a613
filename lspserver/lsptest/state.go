package lsptest

import (
	"encoding/json"
	"slices"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"
)

// State is what the server has told the editor since the start, or since Editor.Forget.
type State struct {
	Work        []*Work                   // progress, in order of its token's first appearance
	Refreshes   map[string]int            // how often each workspace/…/refresh was asked
	Messages    []Message                 // window/showMessage and window/showMessageRequest
	Logs        []Message                 // window/logMessage
	Traces      []protocol.LogTraceParams // $/logTrace
	Shown       []protocol.ShowDocumentParams
	Diagnostics map[uri.URI]Diagnostics          // what was published last; Forget keeps it
	Notified    map[string][]json.RawMessage     // parameters of every notification, by method
	Asked       map[string]int                   // calls of the server, by method
	Registered  map[string]protocol.Registration // by id; Forget keeps it
	Refusals    []Error                          // answers without an id: to malformed messages
	Others      [][]byte                         // answers to what was sent raw
	Ended       bool                             // the connection has ended; Forget keeps it
}

// A Message is a text for the person.
type Message struct {
	Type protocol.MessageType
	Text string
}

// Diagnostics are those of one document.
type Diagnostics struct {
	Version *int32 // of the document they were made for
	Items   []protocol.Diagnostic
}

// Work is one piece of work that the server reports on.
type Work struct {
	Token       json.RawMessage
	Title       string
	Cancellable bool
	Begun       bool
	Ended       bool
	Message     string   // the latest
	Reports     []Report // without begin and end
	EndMessage  string
}

// A Report is one report of a Work.
type Report struct {
	Message    string
	Percentage int // -1: none
}

func newState() State {
	return State{
		Refreshes: map[string]int{}, Diagnostics: map[uri.URI]Diagnostics{}, Notified: map[string][]json.RawMessage{},
		Asked: map[string]int{}, Registered: map[string]protocol.Registration{},
	}
}

// Forget begins State anew, so that what is awaited next must come next. Running work, diagnostics
// and registrations stay.
func (e *Editor) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.state
	e.state = newState()
	e.state.Diagnostics, e.state.Registered, e.state.Ended = old.Diagnostics, old.Registered, old.Ended
	for _, w := range old.Work {
		if !w.Ended {
			e.state.Work = append(e.state.Work, w)
		}
	}
}

// Look calls f with the state as it is now, which f must not keep.
func (e *Editor) Look(f func(s *State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.state)
}

// Refreshes is how often the server has asked to refresh: "inlayHint", "codeLens", "diagnostic".
func (e *Editor) Refreshes(kind string) (n int) {
	e.Look(func(s *State) { n = s.Refreshes["workspace/"+kind+"/refresh"] })
	return n
}

// serverNotifications are those that a server may send, besides $/… and our own.
var serverNotifications = []string{
	protocol.MethodWindowShowMessage, protocol.MethodWindowLogMessage, protocol.MethodTelemetryEvent,
	protocol.MethodTextDocumentPublishDiagnostics, protocol.MethodProgress, protocol.MethodLogTrace, protocol.MethodCancelRequest,
}

// notified takes a notification of the server. The caller holds mu.
func (e *Editor) notified(m message) {
	s := &e.state
	s.Notified[m.Method] = append(s.Notified[m.Method], m.Params)
	decode := func(v any) bool {
		err := protocol.Unmarshal(m.Params, v)
		if err != nil {
			e.fault("the parameters of %s do not decode: %v: %s", m.Method, err, clipped(m.Params))
		}
		return err == nil
	}
	switch m.Method {
	case protocol.MethodWindowShowMessage:
		var p protocol.ShowMessageParams
		if decode(&p) {
			s.Messages = append(s.Messages, Message{p.Type, p.Message})
		}
	case protocol.MethodWindowLogMessage:
		var p protocol.LogMessageParams
		if decode(&p) {
			s.Logs = append(s.Logs, Message{p.Type, p.Message})
		}
	case protocol.MethodLogTrace:
		var p protocol.LogTraceParams
		if decode(&p) {
			s.Traces = append(s.Traces, p)
		}
	case protocol.MethodTextDocumentPublishDiagnostics:
		var p protocol.PublishDiagnosticsParams
		if decode(&p) {
			d := Diagnostics{Items: p.Diagnostics}
			if v, ok := p.Version.Get(); ok {
				d.Version = &v
			}
			s.Diagnostics[p.URI] = d
			if b := e.buffers[p.URI]; b != nil {
				for _, item := range p.Diagnostics {
					e.within(b, item.Range, "a diagnostic")
				}
			}
		}
	case protocol.MethodProgress:
		e.progressed(m.Params)
	default:
		if known := protocolMethods[m.Method]; known && !slices.Contains(serverNotifications, m.Method) {
			e.fault("the server sent %s, which only clients send", m.Method)
		}
	}
}

// protocolMethods are all methods of the protocol.
var protocolMethods = func() map[string]bool {
	m := map[string]bool{}
	for _, info := range protocol.Methods {
		m[info.Method] = true
	}
	return m
}()

// progressed takes a $/progress. The caller holds mu.
func (e *Editor) progressed(params json.RawMessage) {
	var p struct {
		Token json.RawMessage
		Value struct {
			Kind        string
			Title       *string
			Message     *string
			Cancellable bool
			Percentage  *uint32
		}
	}
	if err := json.Unmarshal(params, &p); err != nil {
		e.fault("a progress does not decode: %v: %s", err, clipped(params))
		return
	}
	w := e.tokens[string(p.Token)]
	if w == nil {
		e.fault("progress for a token that nobody made: %s", clipped(params))
		return
	}
	v := p.Value
	if v.Message != nil {
		w.Message = *v.Message
	}
	switch {
	case w.Ended:
		e.fault("progress after its end: %s", clipped(params))
	case v.Kind == "begin" && w.Begun:
		e.fault("progress begins twice: %s", clipped(params))
	case v.Kind == "begin" && v.Title == nil:
		e.fault("progress begins without a title: %s", clipped(params))
	case v.Kind == "begin":
		w.Begun, w.Title, w.Cancellable = true, *v.Title, v.Cancellable
	case !w.Begun:
		e.fault("progress before its beginning: %s", clipped(params))
	case v.Kind == "report":
		r := Report{Message: w.Message, Percentage: -1}
		if v.Percentage != nil {
			r.Percentage = int(*v.Percentage)
		}
		if n := len(w.Reports); n > 0 && r.Percentage >= 0 && r.Percentage < w.Reports[n-1].Percentage {
			e.fault("progress goes backwards: %s", clipped(params))
		}
		w.Reports = append(w.Reports, r)
	case v.Kind == "end":
		w.Ended = true
		if v.Message != nil {
			w.EndMessage = *v.Message
		}
	default:
		e.fault("progress of kind %q", v.Kind)
	}
}

// token makes a token known. The caller holds mu.
func (e *Editor) token(raw json.RawMessage) {
	if e.tokens[string(raw)] != nil {
		e.fault("the progress token %s is made twice", raw)
		return
	}
	w := &Work{Token: slices.Clone(raw)}
	e.tokens[string(raw)] = w
	e.state.Work = append(e.state.Work, w)
}

// within notes a fault if a range is not one of a buffer. The caller holds mu.
func (e *Editor) within(b *Buffer, r protocol.Range, what string) {
	for _, p := range []protocol.Position{r.Start, r.End} {
		if int(p.Line) >= b.text.Lines() || b.text.Position(e.Encoding, b.text.Offset(e.Encoding, p)) != p {
			e.fault("%s in %s is at %d:%d, which the document does not have", what, b.URI, p.Line, p.Character)
			return
		}
	}
	if before(r.End, r.Start) {
		e.fault("%s in %s ends before it begins: %+v", what, b.URI, r)
	}
}

func before(a, b protocol.Position) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Character < b.Character
}
