package view

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Source is what the stack viewer looks at: one profile, a difference of two, a set of scenarios, or
// some samples of these. It is made once, and filtered as often as one likes.
//
// A Source is read-only once made; any number of goroutines may use it. It keeps its profiles, which
// must satisfy their Check and must not change.
//
// Stacks are laid out as in Sums, those of several profiles one after the other: a view puts equal
// names together itself, so nothing has to be interned anew, and a difference costs no more than its
// two sides.
type Source struct {
	parts     []part
	scenarios []string
	unit      profile.Unit // of weights in rows
	factor    float64      // from a profile's unit to unit
	ms        float64      // from a profile's unit to milliseconds, where weights are durations
	policy    Policy
	timed     bool    // samples have times
	length    float64 // of the longest part, ms
	tasked    bool    // the stacks have their tasks' frames

	// By position; 0 is the empty stack of all parts.
	parent  []uint32
	end     []uint32
	frame   []profile.FrameID // of the part that the position is in
	weight  []float64         // of samples with exactly this stack, in the profiles' unit
	count   []float64
	sampled []bool // there are samples with exactly this stack

	names     [2]func() *names // default, compat
	withTasks func() *Source
}

// A part is a profile of a source.
type part struct {
	p        *profile.Profile
	samples  *profile.Samples
	scale    float64       // of weights and counts: −1 for the before of a difference
	shift    time.Duration // taken from the samples' times
	scenario int
	prefix   profile.FrameID // frame that all stacks begin with; 0 for none

	begin, end uint32   // its positions
	at         []uint32 // by StackID: position; meaningless where no sample needs the stack
}

// NewSource is a profile as a source.
func NewSource(p *profile.Profile) *Source {
	return newSource([]part{{p: p, samples: &p.Samples, scale: 1}}, nil)
}

// NewDiff is the difference of two profiles: the weights and counts of before are negative. It fails
// where their units differ.
func NewDiff(before, after *profile.Profile) (*Source, error) {
	parts := []part{{p: after, samples: &after.Samples, scale: 1}, {p: before, samples: &before.Samples, scale: -1}}
	if err := sameUnits(parts); err != nil {
		return nil, fmt.Errorf("compare two profiles: %w", err)
	}
	return newSource(parts, nil), nil
}

// sameUnits tells of the first profile whose weights cannot be added to those of the others.
func sameUnits(parts []part) error {
	a := parts[0].p
	for i := range parts {
		if b := parts[i].p; b.Unit != a.Unit || b.Unit.In(b.Source) != a.Unit.In(a.Source) {
			return fmt.Errorf("one has weights in %s, the other in %s; choose profiles of one kind", unitOf(a), unitOf(b))
		}
	}
	return nil
}

// unitOf is the unit that a profile's weights are shown in.
func unitOf(p *profile.Profile) profile.Unit {
	if p.Source != "" && p.Unit.In(p.Source) != 1 {
		return p.Source
	}
	return p.Unit
}

// A Scenario is a profile under a name.
type Scenario struct {
	Name    string
	Profile *profile.Profile
}

// NewScenarios is many profiles as one: each stack begins with a frame of its scenario's name, and each
// scenario's first sample is at time 0. Of scenarios with one name the last counts. It fails where
// units differ or there are none.
func NewScenarios(scenarios []Scenario) (*Source, error) {
	if len(scenarios) == 0 {
		return nil, errors.New("compare scenarios: there are none; name at least one profile")
	}
	last := map[string]int{}
	for i, s := range scenarios {
		last[s.Name] = i
	}
	var parts []part
	var texts []string
	for i, s := range scenarios {
		if last[s.Name] != i {
			continue
		}
		q := *s.Profile
		q.Frames = append(q.Frames[:len(q.Frames):len(q.Frames)], profile.Frame{Func: s.Name})
		x := part{p: &q, samples: &s.Profile.Samples, scale: 1, scenario: len(texts), prefix: profile.FrameID(len(q.Frames) - 1)}
		if x.samples.Len() > 0 {
			x.shift = x.samples.Time[0]
		}
		parts, texts = append(parts, x), append(texts, s.Name)
	}
	if err := sameUnits(parts); err != nil {
		return nil, fmt.Errorf("compare scenarios: %w", err)
	}
	return newSource(parts, texts), nil
}

func newSource(parts []part, scenarios []string) *Source {
	p := parts[0].p
	s := &Source{parts: parts, scenarios: scenarios, unit: unitOf(p), factor: p.Unit.In(p.Source), policy: PolicyOf(p)}
	s.ms = s.factor
	if p.Unit == profile.Nanoseconds {
		s.ms = 1e-6
	}
	places := make([][]place, len(parts))
	each(len(parts), func(i int) { places[i] = parts[i].sumUp() })
	n := uint32(1)
	for i := range parts {
		x := &parts[i]
		if k := x.samples.Len(); k == 1 || k > 1 && (x.samples.Time[0] != 0 || x.samples.Time[k-1] != 0) {
			s.timed = true
		}
		x.begin = n
		n += places[i][0].size - 1
		if x.prefix != 0 {
			n++
		}
		x.end = n
		s.length = max(s.length, float64(x.p.Length-x.shift)/1e6)
		if k := x.samples.Len(); k > 0 {
			s.length = max(s.length, float64(x.samples.Time[k-1]-x.shift)/1e6)
		}
	}
	s.parent, s.end, s.frame = make([]uint32, n), make([]uint32, n), make([]profile.FrameID, n)
	s.weight, s.count, s.sampled = make([]float64, n), make([]float64, n), make([]bool, n)
	s.end[0] = n
	each(len(parts), func(i int) { s.layOut(&parts[i], places[i]) })
	for i := range parts { // what is at the root, which parts share
		x := &parts[i]
		root := &places[i][0]
		at := x.at[0]
		s.weight[at] += x.scale * float64(root.weight)
		s.count[at] += x.scale * float64(root.count)
		s.sampled[at] = s.sampled[at] || root.sampled
	}
	for k := range s.names {
		s.names[k] = sync.OnceValue(func() *names { return namesOf(s.parts, k == 1) })
	}
	s.withTasks = sync.OnceValue(func() *Source {
		to := newSource(addTasks(s.parts), s.scenarios)
		to.policy, to.tasked = s.policy, true
		return to
	})
	return s
}

// each calls f with 0 to n-1, at once.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { f(i) })
	}
	f(0)
	wg.Wait()
}

// A place is what layOut knows of a stack. One place for all of it costs one cache miss per sample.
type place struct {
	weight, count int64
	size          uint32 // of the stacks that begin with this one and that samples need
	next          uint32 // position of its next child
	sampled       bool   // some sample has exactly this stack
}

// sumUp goes through a part's samples once, then through its stacks for their sizes.
func (x *part) sumUp() []place {
	parents, _ := x.p.Stacks.Columns()
	places := make([]place, len(parents))
	weights, counts := x.samples.Weight, x.samples.Count
	for i, id := range x.samples.Stack {
		pl := &places[id]
		pl.size, pl.sampled = 1, true
		pl.weight += weights[i]
		if counts == nil {
			pl.count++
		} else {
			pl.count += counts[i]
		}
	}
	places[0].size = 1
	for id := len(parents) - 1; id > 0; id-- {
		if places[id].size == 0 {
			continue
		}
		up := &places[parents[id]]
		up.size = max(up.size, 1) + places[id].size
	}
	return places
}

// layOut puts the stacks of a part in preorder at its positions. The part's empty stack is position 0,
// or the frame that all its stacks begin with; its samples are left to the caller.
func (s *Source) layOut(x *part, places []place) {
	parents, frames := x.p.Stacks.Columns()
	x.at = make([]uint32, len(parents))
	next := x.begin
	if x.prefix != 0 {
		x.at[0] = next
		s.end[next], s.frame[next] = x.end, x.prefix
		next++
	}
	places[0].next = next
	for id := 1; id < len(parents); id++ {
		pl := &places[id]
		if pl.size == 0 {
			continue
		}
		up := &places[parents[id]]
		i := up.next
		up.next += pl.size
		pl.next = i + 1
		x.at[id] = i
		s.parent[i], s.end[i], s.frame[i] = x.at[parents[id]], i+pl.size, frames[id]
		s.weight[i], s.count[i], s.sampled[i] = x.scale*float64(pl.weight), x.scale*float64(pl.count), pl.sampled
	}
}

// Scenarios are the names of the source's scenarios; nil where it is no set.
func (s *Source) Scenarios() []string { return s.scenarios }

// Unit is the unit of all weights in rows.
func (s *Source) Unit() profile.Unit { return s.unit }

// Policy is the policy of filters that name none.
func (s *Source) Policy() Policy { return s.policy }

// Timed reports whether samples have times. Several formats of other tools have none: all their samples,
// of which there are more than one, are at time 0, and nothing can be said of when they were.
func (s *Source) Timed() bool { return s.timed }

// Len is the number of samples.
func (s *Source) Len() int {
	n := 0
	for i := range s.parts {
		n += s.parts[i].samples.Len()
	}
	return n
}

// Sample is a source of about n samples that stands for s: one of each run of Len/n consecutive ones,
// always the same one, with weights and counts multiplied back. It is s where s has no more than n.
func (s *Source) Sample(n int) *Source {
	total := s.Len()
	if n < 1 || total <= n {
		return s
	}
	parts := make([]part, len(s.parts))
	for i := range s.parts {
		parts[i] = s.parts[i].withSamples(sampled(s.parts[i].samples, float64(total)/float64(n)))
		if k := parts[i].samples.Len(); k > 0 {
			parts[i].scale *= float64(s.parts[i].samples.Len()) / float64(k)
		}
	}
	to := newSource(parts, s.scenarios)
	to.policy, to.tasked = s.policy, s.tasked
	return to
}

// sampled takes one of each run of samples. Which one is drawn from the run's number, so that what
// recurs with the run's length is not always or never met.
func sampled(x *profile.Samples, run float64) *profile.Samples {
	var y profile.Samples
	for k := 0; ; k++ {
		from, to := int(float64(k)*run), min(int(float64(k+1)*run), x.Len())
		if from >= x.Len() {
			return &y
		}
		h := (uint64(k) + 1) * 0x9e3779b97f4a7c15
		h ^= h >> 29
		h *= 0xbf58476d1ce4e5b9
		y.Append(x.At(from + int((h>>33)%uint64(to-from))))
	}
}

// withSamples is the part with other samples.
func (x *part) withSamples(samples *profile.Samples) part {
	return part{p: x.p, samples: samples, scale: x.scale, shift: x.shift, scenario: x.scenario, prefix: x.prefix}
}

// Filter applies a filter. It fails with a *FilterError, or with the context's error when that ends.
func (s *Source) Filter(ctx context.Context, f Filter) (*Selection, error) {
	c, err := compile(f)
	if err != nil {
		return nil, err
	}
	for _, k := range f.Scenarios {
		if k < 0 || k >= max(1, len(s.scenarios)) {
			return nil, &FilterError{FieldScene, fmt.Sprint(k), 0, fmt.Sprintf("there are %d scenarios, counted from 0", max(1, len(s.scenarios))), "leave it out"}
		}
	}
	if !f.Compat && !s.timed && (f.Start != 0 || f.End != 0) {
		return nil, &FilterError{FieldRange, rangeText(f), 0, "the samples have no times", "leave start and end out"}
	}
	if f.Tasks && !s.tasked {
		s = s.withTasks()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.selection(ctx, c)
}
