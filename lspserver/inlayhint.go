package lspserver

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"strconv"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/store"
)

// hintData is what a hint carries so that its tooltip can be made later, for the very number that is
// shown, whatever happens to the document in between.
type hintData struct {
	Root    string   `json:"root,omitempty"`
	Capture store.ID `json:"capture,omitempty"` // "" while it is being recorded
	File    string   `json:"file"`              // as the build recorded it
	Edited  int      `json:"edited,omitempty"`  // lines edited since
	Unsure  bool     `json:"unsure,omitempty"`  // the source was not recorded
	Line    int      `json:"line"`              // as recorded
}

// InlayHint implements protocol.Server: the costs of the lines in a range that reach the threshold,
// at the ends of the lines, because that is where they do not move the code.
func (s *server) InlayHint(ctx context.Context, p *protocol.InlayHintParams) ([]protocol.InlayHint, error) {
	d, err := s.document(ctx, p.TextDocument.URI)
	if err != nil {
		return nil, err
	}
	m, set := s.shown()
	hints := []protocol.InlayHint{}
	if !set.hints {
		return hints, nil
	}
	a := s.annotations(d)
	if a == nil || a.stale() {
		return hints, nil
	}
	enc := s.client.Encoding()
	first, last := lineRange(p.Range)
	data := dataOf(a)
	padding := true
	for _, l := range a.within(first, last) {
		cost := m.cost(l.Self, l.Total)
		if !a.file.capture.over(cost.Weight, set.hintThreshold) {
			continue
		}
		end := d.text.EndOf(enc, l.now)
		if before(end, p.Range.Start) || before(p.Range.End, end) && int(p.Range.End.Line) != l.now {
			continue
		}
		hints = append(hints, protocol.InlayHint{
			Position:    end,
			Label:       protocol.String(a.file.capture.words(cost.Weight, m.Form)),
			PaddingLeft: &padding,
			Data:        data(l.Line.Line),
		})
	}
	return hints, nil
}

// dataOf makes the data of hints. They differ in nothing but the line, and a file may have thousands,
// so the rest is encoded once.
func dataOf(p *placed) func(line int) protocol.LSPAny {
	key := p.file.capture.key
	common, err := json.Marshal(hintData{Root: key.root, Capture: key.id, File: p.file.path, Edited: p.edited, Unsure: !p.certain})
	if err != nil { // strings and numbers always encode
		return func(int) protocol.LSPAny { return nil }
	}
	common = bytes.TrimSuffix(common, []byte("0}")) // what ends it is the line
	return func(line int) protocol.LSPAny {
		data := make([]byte, 0, len(common)+8)
		data = strconv.AppendInt(append(data, common...), int64(line), 10)
		return append(data, '}')
	}
}

// lineRange is the first and last 0-based line that a range touches. A range that ends at the start
// of a line does not touch that line.
func lineRange(r protocol.Range) (first, last int) {
	first, last = int(min(r.Start.Line, math.MaxInt32)), int(min(r.End.Line, math.MaxInt32))
	if last > first && r.End.Character == 0 {
		last--
	}
	return first, last
}

func before(a, b protocol.Position) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Character < b.Character
}

// InlayHintResolve implements protocol.Server: the hint's tooltip.
func (s *server) InlayHintResolve(_ context.Context, h *protocol.InlayHint) (*protocol.InlayHint, error) {
	var data hintData
	if err := json.Unmarshal(h.Data, &data); err != nil || data.File == "" {
		return nil, rpc.ErrParams("inlayHint/resolve: the hint is not one of ours: its data is %.60q", h.Data)
	}
	f := s.fileNamed(captureKey{data.Root, data.Capture}, data.File)
	if f == nil {
		return h, nil // cleared, or removed from the store, since the hint was made
	}
	page := s.linePage(f, data.Line)
	page.origin = s.origin(f.capture, data.Edited, !data.Unsure)
	h.Tooltip = s.markup(page, true)
	return h, nil
}

// fileNamed is a file of a capture that is being shown; nil where there is none any more.
func (s *server) fileNamed(key captureKey, path string) *file {
	var l *loaded
	if key.id == "" {
		s.mu.Lock()
		l = s.live
		if l == nil {
			key = s.recorded // a hint of a recording that has ended since: what it became
		}
		s.mu.Unlock()
	}
	if l != nil || key.id == "" {
		// shown while it is being recorded, or not any more
	} else if w := s.workspaceAt(key.root); w != nil {
		var err error
		if l, err = s.load(w, key.id); err != nil {
			return nil
		}
	}
	if l == nil {
		return nil
	}
	for _, f := range l.files {
		if f.path == path {
			return f
		}
	}
	return nil
}
