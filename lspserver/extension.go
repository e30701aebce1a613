package lspserver

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// extensionMethods are our own methods, told at initialize. Package rpc declares them.
var extensionMethods = []string{rpc.MethodLines, rpc.MethodCaptures, rpc.MethodChanged}

// Extension implements rpc.Server.
func (s *server) Extension(ctx context.Context, method string, params json.RawMessage) (any, error) {
	switch method {
	case rpc.MethodLines:
		p, err := rpc.DecodeParams[rpc.LinesParams](method, params)
		if err != nil {
			return nil, err
		}
		return s.linesOf(ctx, p)
	case rpc.MethodCaptures:
		return s.captureInfos(), nil
	}
	return nil, rpc.ErrMethod(method)
}

// linesOf answers rpc.MethodLines.
func (s *server) linesOf(ctx context.Context, p rpc.LinesParams) (*rpc.LinesResult, error) {
	if p.TextDocument.URI == "" {
		return nil, rpc.ErrParams("%s needs textDocument.uri: give that of an open document", rpc.MethodLines)
	}
	u, err := uri.Parse(p.TextDocument.URI)
	if err != nil {
		return nil, rpc.ErrParams("%s: %.80q is no URI", rpc.MethodLines, p.TextDocument.URI)
	}
	d, err := s.document(ctx, u)
	if err != nil {
		return nil, err
	}
	res := &rpc.LinesResult{Lines: []rpc.LineCost{}}
	a := s.annotations(d)
	if a == nil {
		return res, nil
	}
	l := a.file.capture
	res.Capture, res.Kind, res.Unit = string(l.key.id), string(l.profile.Kind), string(l.profile.Unit)
	res.Total, res.Stale = l.total.Weight, a.lost
	if a.stale() {
		return res, nil
	}
	m, set := s.shown()
	most := a.mostTotal
	if m.Measure == measureSelf {
		most = a.mostSelf
	}
	for _, ln := range a.lines {
		cost := m.cost(ln.Self, ln.Total)
		c := rpc.LineCost{Line: ln.now, Self: ln.Self.Weight, Total: ln.Total.Weight, Count: ln.Total.Count}
		if most > 0 {
			c.Heat = float64(cost.Weight) / float64(most)
		}
		if l.over(cost.Weight, set.hintThreshold) {
			c.Text = l.words(cost.Weight, m.Form)
		}
		res.Lines = append(res.Lines, c)
	}
	return res, nil
}

// captureInfos answers rpc.MethodCaptures.
func (s *server) captureInfos() []rpc.CaptureInfo {
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	infos := []rpc.CaptureInfo{}
	known := map[storedCapture]bool{}
	for _, w := range s.allWorkspaces() {
		s.list(w)
		w.mu.Lock()
		for _, m := range w.metas {
			key := storedCapture{w.storePath(), m.ID}
			if known[key] {
				continue
			}
			known[key] = true
			info := rpc.CaptureInfo{
				ID: string(m.ID), Target: m.Target.String(), Started: m.Start.Format(time.RFC3339),
				Milliseconds: m.Length.Milliseconds(), Pinned: m.Pinned, Interrupted: m.Interrupted, Note: m.Note,
				Shown: opened != nil && opened.id == m.ID && opened.store == key.store,
			}
			for _, k := range m.Kinds {
				info.Samples += int64(k.Samples)
			}
			infos = append(infos, info)
		}
		w.mu.Unlock()
	}
	slices.SortStableFunc(infos, func(a, b rpc.CaptureInfo) int { return strings.Compare(b.ID, a.ID) }) // ids sort by time
	return infos
}

// changedParams is what a client is told when numbers changed.
func (s *server) changedParams() rpc.ChangedParams {
	s.mu.Lock()
	opened, r := s.opened, s.recording
	s.mu.Unlock()
	var p rpc.ChangedParams
	if opened != nil {
		p.Capture = string(opened.id)
	}
	if r != nil {
		_, p.Samples, _ = r.state()
		p.Recording = true
	}
	return p
}
