package lspserver

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// manyOpen is from how many descriptors on a line that opened them is worth a diagnostic.
const manyOpen = 64

// Stacks of goroutines are worth a diagnostic where one line started so many and they take so many bytes.
const (
	manyGoroutines = 16
	muchStack      = 4 << 20
)

// inspectedFor is how long a process counts as looked at after a request for it.
const inspectedFor = 10 * time.Second

// process answers rpc.MethodProcess.
func (s *server) process(ctx context.Context, p rpc.ProcessParams) (*rpc.ProcessResult, error) {
	if s.cfg.Process == nil {
		return nil, errState("this build of the server cannot look into processes: run \"sightline ps\" in a terminal")
	}
	if p.PID <= 0 {
		return nil, rpc.ErrParams("%s needs pid: give the number of a process", rpc.MethodProcess)
	}
	if p.Limit < 0 {
		return nil, rpc.ErrParams("%s: limit is %d: give how many threads, files and regions are wanted", rpc.MethodProcess, p.Limit)
	}
	r, err := s.cfg.Process(ctx, p, s.firstFolder())
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		s.findings.forget(s, p.PID)
		return nil, errState("%v", err)
	}
	// Clients take lists for granted.
	r.Facts, r.Threads, r.Files, r.Leaks = present(r.Facts), present(r.Threads), present(r.Files), present(r.Leaks)
	for i := range r.Leaks {
		r.Leaks[i].Lines = present(r.Leaks[i].Lines)
	}
	if r.Map != nil {
		m := *r.Map // others may read it
		r.Map = &m
		m.Columns, m.Kinds, m.Terms, m.Stacks, m.Regions = present(m.Columns), present(m.Kinds), present(m.Terms), present(m.Stacks), present(m.Regions)
	}
	s.findings.tell(s, r)
	return r, nil
}

// firstFolder is the root of the first workspace folder; "" where there is none.
func (s *server) firstFolder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.workspaces) == 0 {
		return ""
	}
	return s.workspaces[0].root
}

func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Findings are diagnostics at lines that opened many descriptors of a process that is being looked at, or
// started goroutines with much stack. They go when it is not any more. The zero value has none.
type findings struct {
	mu    sync.Mutex // guards what follows, and keeps what clients are told in order
	found map[int]map[uri.URI][]protocol.Diagnostic
	ends  map[int]*time.Timer // forgets a process
	told  map[uri.URI]bool    // has diagnostics at the client
}

// tell publishes what was found out of a process.
func (o *findings) tell(s *server, r *rpc.ProcessResult) {
	found := map[uri.URI][]protocol.Diagnostic{}
	add := func(l *rpc.ProcessLine, code, message string) {
		if l.Location == nil || l.Stale {
			return
		}
		u, err := uri.Parse(l.Location.URI)
		if err != nil {
			return
		}
		text := s.unedited(u)
		if text == nil || l.Location.Line < 0 || l.Location.Line >= text.Lines() {
			return
		}
		found[u] = append(found[u], protocol.Diagnostic{
			Range:    text.Range(s.client.Encoding(), l.Location.Line),
			Severity: protocol.DiagnosticSeverityInformation, Source: protocol.NewOptional("sightline"), Code: protocol.String(code),
			Message: protocol.String(message),
		})
	}
	for _, leak := range r.Leaks {
		for i := range leak.Lines {
			if l := &leak.Lines[i]; l.Count >= manyOpen {
				add(l, "open-descriptors", fmt.Sprintf("This line opened %s descriptors that are still open in %s (%d): %s %s, %s",
					grouped(l.Count), r.Name, r.PID, leak.Type, leak.Name, leak.Text))
			}
		}
	}
	if r.Map != nil {
		for i := range r.Map.Stacks {
			if g := &r.Map.Stacks[i]; g.Number >= manyGoroutines && g.Bytes >= muchStack {
				add(&g.Line, "goroutine-stacks", fmt.Sprintf("Stack of %s goroutines that this line started in %s (%d): %s, %s together",
					grouped(g.Number), r.Name, r.PID, g.Each, g.Size))
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found == nil {
		o.found, o.ends, o.told = map[int]map[uri.URI][]protocol.Diagnostic{}, map[int]*time.Timer{}, map[uri.URI]bool{}
	}
	if len(found) == 0 && o.found[r.PID] == nil {
		return
	}
	if t := o.ends[r.PID]; t != nil {
		t.Stop()
	}
	o.ends[r.PID] = time.AfterFunc(inspectedFor, func() { o.forget(s, r.PID) })
	o.found[r.PID] = found
	o.publish(s)
}

// unedited is the text of a file; nil where there is none, or an editor has another one that is not
// saved, in which lines may be elsewhere.
func (s *server) unedited(u uri.URI) *rpc.Text {
	path, ok := filePath(u)
	if !ok {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if d := s.documents()[u]; d != nil {
		if d.unknown || d.text.String() != string(text) {
			return nil
		}
		return d.text
	}
	return rpc.NewText(string(text))
}

// forget takes the diagnostics of a process away.
func (o *findings) forget(s *server, pid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.ends[pid]; t != nil {
		t.Stop()
		delete(o.ends, pid)
	}
	if o.found[pid] == nil {
		return
	}
	delete(o.found, pid)
	o.publish(s)
}

// publish tells the client what there is of each file that has or had diagnostics.
func (o *findings) publish(s *server) {
	all := map[uri.URI][]protocol.Diagnostic{}
	for u := range o.told {
		all[u] = []protocol.Diagnostic{}
	}
	for _, pid := range slices.Sorted(maps.Keys(o.found)) {
		for u, list := range o.found[pid] {
			all[u] = append(all[u], list...)
		}
	}
	clear(o.told)
	for _, u := range slices.Sorted(maps.Keys(all)) {
		if len(all[u]) > 0 {
			o.told[u] = true
		}
		s.notify(s.client.PublishDiagnostics(context.Background(), &protocol.PublishDiagnosticsParams{URI: u, Diagnostics: all[u]}))
	}
}

// grouped is a whole number with its thousands apart: "4,812".
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
