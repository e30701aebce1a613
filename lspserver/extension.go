package lspserver

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/store"
)

// An extension answers one of our own methods.
type extension func(s *server, ctx context.Context, method string, params json.RawMessage) (any, error)

// extensions are our own methods that a client calls. Package rpc declares them.
var extensions = map[string]extension{
	rpc.MethodLines:     asked((*server).linesOf),
	rpc.MethodCaptures:  asked((*server).captureInfos),
	rpc.MethodHottest:   asked((*server).hottestSpots),
	rpc.MethodNeighbors: asked((*server).neighbors),
	rpc.MethodProcesses: asked((*server).processes),
	rpc.MethodTargets:   asked((*server).launchTargets),
	rpc.MethodProcess:   asked((*server).process),
	rpc.MethodStatus:    asked((*server).statusNow),
	rpc.MethodDoctor:    asked((*server).doctor),
	rpc.MethodStacks:    asked((*server).stacks),
	rpc.MethodDiff:      asked((*server).diff),
	rpc.MethodPresets:   asked((*server).presets),
	rpc.MethodFlame:     asked((*server).flame),
}

// extensionMethods are all of our own methods, told at initialize.
func extensionMethods() []string {
	return append(slices.Sorted(maps.Keys(extensions)), rpc.MethodChanged)
}

// asked decodes a method's parameters into P before f runs.
func asked[P, R any](f func(*server, context.Context, P) (R, error)) extension {
	return func(s *server, ctx context.Context, method string, params json.RawMessage) (any, error) {
		p, err := rpc.DecodeParams[P](method, params)
		if err != nil {
			return nil, err
		}
		return f(s, ctx, p)
	}
}

// Extension implements rpc.Server.
func (s *server) Extension(ctx context.Context, method string, params json.RawMessage) (any, error) {
	answer, ok := extensions[method]
	if !ok {
		return nil, rpc.ErrMethod(method)
	}
	return answer(s, ctx, method, params)
}

// documentAsked is the document that the parameters of one of our methods name; nil, without an
// error, for one that lies nowhere on this machine.
func (s *server) documentAsked(ctx context.Context, method string, id rpc.DocumentID) (*document, error) {
	if id.URI == "" {
		return nil, rpc.ErrParams("%s needs textDocument.uri: give that of an open document", method)
	}
	u, err := uri.Parse(id.URI)
	if err != nil {
		return nil, rpc.ErrParams("%s: %.80q is no URI", method, id.URI)
	}
	return s.document(ctx, u)
}

// linesOf answers rpc.MethodLines.
func (s *server) linesOf(ctx context.Context, p rpc.LinesParams) (*rpc.LinesResult, error) {
	d, err := s.documentAsked(ctx, rpc.MethodLines, p.TextDocument)
	if err != nil {
		return nil, err
	}
	res := &rpc.LinesResult{Lines: []rpc.LineCost{}, Kinds: []rpc.KindInfo{}}
	a := s.annotations(d)
	if a == nil {
		return res, nil
	}
	l := a.file.capture
	res.Capture, res.Kind, res.Unit = string(l.key.id), string(l.profile.Kind), string(l.profile.Unit)
	for _, k := range l.all {
		res.Kinds = append(res.Kinds, rpc.KindInfo{Kind: string(k), Text: kindTitle(k)})
	}
	res.Total, res.Stale, res.Note = l.total.Weight, a.lost, s.note(l, a.edited)
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
func (s *server) captureInfos(context.Context, noParams) ([]rpc.CaptureInfo, error) {
	infos := []rpc.CaptureInfo{}
	known := map[storedCapture]bool{}
	for _, w := range s.allStores() {
		s.list(w)
		w.mu.Lock()
		path, metas := w.storePath(), slices.Clone(w.metas)
		w.mu.Unlock()
		for i := range metas {
			key := storedCapture{path, metas[i].ID}
			if !known[key] {
				known[key] = true
				infos = append(infos, s.captureInfo(path, &metas[i]))
			}
		}
	}
	slices.SortStableFunc(infos, func(a, b rpc.CaptureInfo) int { return strings.Compare(b.ID, a.ID) }) // ids sort by time
	return infos, nil
}

// noParams are those of a method that takes none: some clients send an empty list, or an object.
type noParams struct{}

func (*noParams) UnmarshalJSON([]byte) error { return nil }

// captureInfo is what a client is told of a capture in the store at path.
func (s *server) captureInfo(path string, m *store.Meta) rpc.CaptureInfo {
	s.mu.Lock()
	opened, baseline := s.opened, s.baseline
	s.mu.Unlock()
	info := rpc.CaptureInfo{
		ID: string(m.ID), Target: m.Target.String(), Started: m.Start.Format(time.RFC3339),
		Milliseconds: m.Length.Milliseconds(), Pinned: m.Pinned, Interrupted: m.Interrupted, Note: m.Note,
		Shown: opened.is(path, m.ID), Baseline: baseline != nil && baseline.is(path, m.ID),
	}
	if len(m.Kinds) > 0 {
		info.Kind, info.Samples = string(m.Kinds[0].Kind), m.Kinds[0].Count // as views of it say
	}
	if m.Recording {
		info.Text = "being recorded"
	} else {
		verb, age := s.ageOf(m.ID, m.Start, m.Length)
		parts := []string{age}
		if verb == "imported" {
			parts[0] = verb + " " + age
		}
		if m.Length > 0 {
			parts = append(parts, Duration(m.Length))
		}
		info.Text = strings.Join(append(parts, Samples(info.Samples)), " · ")
	}
	return info
}
