package lspserver

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// The commands in this file choose what is shown. They answer the state after.

type openCaptureArgs struct {
	Capture string `json:"capture"` // id, its beginning, "@" for the newest, "@2" for the one before
	Root    string `json:"root"`    // workspace folder whose store has it; "" looks in all
}

func (a *openCaptureArgs) setShort(s string) { a.Capture = s }

// showState is what is shown, as the commands of this file answer it.
type showState struct {
	Capture  string `json:"capture"`  // opened by hand; "" for the newest that touches the document
	Baseline string `json:"baseline"` // what lenses compare with; ""
	Cleared  bool   `json:"cleared"`  // captures were cleared away
	metric
	Kind string `json:"kind"` // what is measured, where a capture has it; "" for its first
}

func (s *server) showState() showState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := showState{Cleared: len(s.hidden) > 0, metric: s.metric, Kind: string(s.kind)}
	if s.opened != nil {
		st.Capture = string(s.opened.id)
	}
	if s.baseline != nil {
		st.Baseline = string(s.baseline.id)
	}
	return st
}

// openCapture shows the numbers of one capture, until another is opened or recorded or they are
// cleared. Without a capture it goes back to the newest that touches the document.
func (s *server) openCapture(_ call, a openCaptureArgs) (any, error) {
	if a.Capture == "" {
		s.mu.Lock()
		s.opened, s.hidden, s.hiddenIn = nil, nil, nil
		s.mu.Unlock()
		s.refresh.all()
		return s.showState(), nil
	}
	w, id, err := s.resolve(a)
	if err != nil {
		return nil, err
	}
	if _, err := s.load(w, id); err != nil {
		return nil, errState("capture %s is not shown: %v", id, err)
	}
	s.showCapture(w.opened(id))
	return s.showState(), nil
}

// opened names a capture of the workspace's store.
func (w *workspace) opened(id store.ID) openedCapture {
	w.mu.Lock()
	defer w.mu.Unlock()
	return openedCapture{w, w.storePath(), id}
}

// showCapture shows the numbers of one capture, of which nothing is cleared away.
func (s *server) showCapture(o openedCapture) {
	s.mu.Lock()
	s.opened, s.hidden, s.hiddenIn = &o, nil, nil
	s.mu.Unlock()
	s.refresh.all()
}

// resolve finds the capture that a person names.
func (s *server) resolve(a openCaptureArgs) (*workspace, store.ID, error) {
	all := s.allStores()
	if a.Root != "" {
		all = slices.DeleteFunc(all, func(w *workspace) bool { return w.root != filepath.Clean(a.Root) })
	}
	switch {
	case len(all) > 0:
	case a.Root != "":
		return nil, "", errState("there is no capture %q of %s: that folder is not open; open it, or leave \"root\" out", a.Capture, a.Root)
	default:
		return nil, "", errState("there is no capture %q: no folder is open; open the folder it was recorded in", a.Capture)
	}
	type match struct {
		w  *workspace
		id store.ID
	}
	for _, w := range all {
		s.list(w)
	}
	if n, ok := newest(a.Capture); ok && len(all) > 1 {
		var every []match
		known := map[storedCapture]bool{}
		for _, w := range all {
			w.mu.Lock()
			for _, m := range finished(w.metas) {
				if key := (storedCapture{w.storePath(), m.ID}); !known[key] {
					known[key] = true
					every = append(every, match{w, m.ID})
				}
			}
			w.mu.Unlock()
		}
		slices.SortStableFunc(every, func(a, b match) int { return strings.Compare(string(b.id), string(a.id)) }) // ids sort by time
		if n > len(every) {
			return nil, "", errState("there is no capture %q: the open folders have %s", a.Capture, plural(int64(len(every)), "capture"))
		}
		return every[n-1].w, every[n-1].id, nil
	}
	var matches []match
	var last error
	asked := map[string]bool{}
	for _, w := range all {
		w.mu.Lock()
		st, path := w.store, w.storePath()
		w.mu.Unlock()
		if st == nil || asked[path] {
			continue
		}
		asked[path] = true
		id, err := st.Resolve(a.Capture)
		if err != nil {
			if last == nil || !errors.Is(err, store.ErrNoCapture) {
				last = err
			}
			continue
		}
		matches = append(matches, match{w, id})
	}
	switch {
	case len(matches) == 0 && last != nil:
		return nil, "", errState("%v", last)
	case len(matches) == 0:
		return nil, "", errState("there is no capture %q: sightline/captures lists those there are", a.Capture)
	case len(matches) > 1:
		return nil, "", errState("capture %q is in the stores of %s and of %s: give \"root\" too", a.Capture, matches[0].w.root, matches[1].w.root)
	}
	return matches[0].w, matches[0].id, nil
}

// newest reads "@" and "@2": the n-th newest capture, from 1.
func newest(ref string) (n int, ok bool) {
	rest, ok := strings.CutPrefix(ref, "@")
	if !ok || rest == "" {
		return 1, ok
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil && n > 0
}

type noArgs struct{}

type clearArgs struct {
	URI string `json:"uri,omitempty"` // the only document to hide numbers of; "" for all
}

// clear hides all that is stored now. What is recorded later is shown again.
func (s *server) clear(c call, a clearArgs) (any, error) {
	if a.URI != "" {
		return s.clearDocument(c, a)
	}
	hidden := map[captureKey]bool{}
	for _, w := range s.allStores() {
		s.list(w)
		w.mu.Lock()
		for _, m := range w.metas {
			hidden[captureKey{w.root, m.ID}] = true
		}
		w.mu.Unlock()
	}
	s.mu.Lock()
	s.opened, s.hidden, s.live = nil, hidden, nil
	s.mu.Unlock()
	s.refresh.all()
	return s.showState(), nil
}

// clearDocument hides all that is stored now of one document.
func (s *server) clearDocument(c call, a clearArgs) (any, error) {
	d, err := s.documentNamed(c.ctx, "sightline.clear", a.URI)
	if err != nil {
		return nil, err
	}
	of := map[captureKey]bool{}
	for _, c := range s.candidates(d) {
		of[captureKey{c.workspace.root, c.meta.ID}] = true
	}
	s.mu.Lock()
	if s.opened != nil {
		of[captureKey{s.opened.workspace.root, s.opened.id}] = true
	}
	hidden := maps.Clone(s.hiddenIn)
	if hidden == nil {
		hidden = map[string]map[captureKey]bool{}
	}
	hidden[d.path] = of
	s.hiddenIn = hidden
	s.mu.Unlock()
	s.refresh.all()
	return s.showState(), nil
}

type setMetricArgs struct {
	Metric string `json:"metric"` // "total" or "self"; "" keeps it
	Unit   string `json:"unit"`   // "both", "percent" or "time"; "" keeps it
	Kind   string `json:"kind"`   // "cpu", "alloc", "in-use", "blocked", "contention", …; "first" for that of each capture; "" keeps it
}

// setShort lets the one word be any of them.
func (a *setMetricArgs) setShort(s string) {
	switch s {
	case measureTotal, measureSelf:
		a.Metric = s
	case formBoth, formPercent, formTime:
		a.Unit = s
	default:
		a.Kind = s
	}
}

// firstKind is the word for the kind that a capture shows where nobody chooses.
const firstKind = "first"

// setMetric chooses what is shown: which cost, how it is written, and of what a capture measured.
// Without arguments it goes from total to self and back.
func (s *server) setMetric(_ call, a setMetricArgs) (any, error) {
	if !slices.Contains([]string{"", measureTotal, measureSelf}, a.Metric) {
		return nil, rpc.ErrParams("sightline.setMetric: there is no metric %q: give \"total\" or \"self\"", a.Metric)
	}
	if !slices.Contains([]string{"", formBoth, formPercent, formTime}, a.Unit) {
		return nil, rpc.ErrParams("sightline.setMetric: numbers cannot be written as %q: give \"both\", \"percent\" or \"time\"", a.Unit)
	}
	if a.Kind != "" && a.Kind != firstKind && !s.measured(profile.Kind(a.Kind)) {
		return nil, rpc.ErrParams("sightline.setMetric: there is no %.40q: give \"total\" or \"self\", \"both\", \"percent\" or \"time\", or what a capture has measured: %s", a.Kind, strings.Join(s.measuredKinds(), ", "))
	}
	s.mu.Lock()
	if a == (setMetricArgs{}) {
		a.Metric = measureSelf
		if s.metric.Measure == measureSelf {
			a.Metric = measureTotal
		}
	}
	if a.Metric != "" {
		s.metric.Measure = a.Metric
	}
	if a.Unit != "" {
		s.metric.Form = a.Unit
	}
	switch a.Kind {
	case "":
	case firstKind:
		s.kind = ""
	default:
		s.kind = profile.Kind(a.Kind)
	}
	s.mu.Unlock()
	s.refresh.all()
	return s.showState(), nil
}

// measured says whether a capture of the open folders, or the one that is shown, has a kind.
func (s *server) measured(kind profile.Kind) bool {
	return slices.Contains(s.measuredKinds(), string(kind))
}

// measuredKinds are those that the captures of the open folders have, in order of their names.
func (s *server) measuredKinds() []string {
	var kinds []string
	for _, w := range s.allWorkspaces() {
		s.list(w)
		w.mu.Lock()
		for i := range w.metas {
			for _, k := range w.metas[i].Kinds {
				kinds = append(kinds, string(k.Kind))
			}
		}
		w.mu.Unlock()
	}
	s.mu.Lock()
	if s.live != nil {
		for _, k := range s.live.all {
			kinds = append(kinds, string(k))
		}
	}
	s.mu.Unlock()
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
