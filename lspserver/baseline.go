package lspserver

import (
	"fmt"
	"math"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
)

// A baseline is the capture that lenses compare with. It never changes, and needs the capture itself
// no more.
type baseline struct {
	openedCapture
	name  string // for people: its target and its id
	kind  profile.Kind
	unit  profile.Unit
	total profile.Measure
	costs map[string]view.Row // of functions, by comparedName
}

// setBaseline has lenses compare with one capture from now on; without a capture they compare with
// none.
func (s *server) setBaseline(_ call, a openCaptureArgs) (any, error) {
	var next *baseline
	if a.Capture != "" {
		w, id, err := s.resolve(a)
		if err != nil {
			return nil, err
		}
		l, err := s.load(w, id)
		if err != nil {
			return nil, errState("capture %s cannot be compared with: %v", id, err)
		}
		next = newBaseline(w.opened(id), l)
	}
	s.mu.Lock()
	s.baseline = next
	s.mu.Unlock()
	s.refresh.all()
	return s.showState(), nil
}

func newBaseline(of openedCapture, l *loaded) *baseline {
	b := &baseline{
		openedCapture: of, name: fmt.Sprintf("%s (%s)", l.target, of.id),
		kind: l.profile.Kind, unit: l.profile.Unit, total: l.total, costs: map[string]view.Row{},
	}
	for _, r := range l.sums.ByName() {
		name := comparedName(&r)
		if old, ok := b.costs[name]; ok { // binaries of one name in different folders
			r.Self.Add(old.Self)
			r.Total.Add(old.Total)
		}
		b.costs[name] = r
	}
	return b
}

// baselineFor is what a capture is compared with; nil where there is no baseline, or it is the
// capture itself, or measures something else.
func (s *server) baselineFor(l *loaded) *baseline {
	s.mu.Lock()
	b := s.baseline
	s.mu.Unlock()
	if b == nil || b.kind != l.profile.Kind || b.unit != l.profile.Unit || l.key == (captureKey{b.workspace.root, b.id}) {
		return nil
	}
	return b
}

// dropBaseline compares with nothing where the baseline is not among the captures of its store any
// more.
func (s *server) dropBaseline() {
	s.mu.Lock()
	b := s.baseline
	s.mu.Unlock()
	if b == nil {
		return
	}
	w := b.workspace
	w.mu.Lock()
	there := !w.listed || slices.ContainsFunc(w.metas, func(m store.Meta) bool { return m.ID == b.id })
	w.mu.Unlock()
	if there {
		return
	}
	s.mu.Lock()
	if s.baseline == b {
		s.baseline = nil
	}
	s.mu.Unlock()
}

// change says how much more a function costs than in the baseline, by the metric: "▲ +3.1% · +120 ms".
// The percentage is the difference of the two shares, which does not depend on how long was recorded.
func (b *baseline) change(l *loaded, fn *function, m metric) string {
	old, known := b.costs[comparedName(&fn.Row)]
	now, then := m.cost(fn.Self, fn.Total), m.cost(old.Self, old.Total)
	points := share(now, l.total) - share(then, b.total)
	weight := now.Weight - then.Weight
	var text string
	grew := points
	switch m.Form {
	case formPercent:
		text = SignedPercent(points)
	case formTime:
		text, grew = SignedWeight(weight, l.profile.Unit), float64(weight)
	default:
		text = SignedPercent(points) + " · " + SignedWeight(weight, l.profile.Unit)
	}
	if !known {
		text += ", new"
	}
	switch {
	case m.Form != formTime && math.Abs(points) < leastPercent, grew == 0:
		return "= " + text
	case grew < 0:
		return "▼ " + text
	}
	return "▲ " + text
}

// share is part of whole in percent.
func share(part, whole profile.Measure) float64 {
	if whole.Weight == 0 {
		return 0
	}
	return 100 * float64(part.Weight) / float64(whole.Weight)
}
