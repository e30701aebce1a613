package view

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// ErrNoTimes says that a source's samples have no times.
var ErrNoTimes = errors.New("show weight over time: the samples have no times, which this format does not keep; use another view")

// A Histogram is weight over time, in the unit of the source.
type Histogram struct {
	Start float64   `json:"start"` // of the first bucket, in ms
	Width float64   `json:"width"` // of each bucket, in ms
	Sums  []float64 `json:"weights"`
	// Text draws the buckets in the alphabet of the When column, on the scale of its policy.
	Text string `json:"text"`
}

// mostBuckets bounds what a caller may ask for.
const mostBuckets = 100_000

// taskName is how a row or a lane calls a task: its thread's name and number.
func taskName(t profile.Task) string {
	if t == (profile.Task{}) {
		return profile.Unknown
	}
	return fmt.Sprintf("%s (%d)", t.Comm, t.TID)
}

func bucketsOf(n int) int {
	if n <= 0 {
		return buckets
	}
	return min(n, mostBuckets)
}

// Histogram is the weight of the samples in whose stack a name is, over time, in the given number of
// buckets (32 where that is 0). Root is everything. It fails with a *FocusError.
func (s *Selection) Histogram(focus string, n int) (*Histogram, error) {
	text, err := s.find(focus)
	if err != nil {
		return nil, err
	}
	if !s.src.timed && !s.c.Compat {
		return nil, ErrNoTimes
	}
	n = bucketsOf(n)
	sc := s.scale()
	h := &Histogram{Start: sc.start, Width: (sc.end - sc.start) / float64(n), Sums: make([]float64, n)}
	in := s.below([]uint32{text}, false)
	sp := spreader{sc}
	all := h.Sums
	if sp.ms == 0 {
		all = make([]float64, n) // of everything, for the scale
	}
	for part := range s.src.parts {
		s.samples(context.Background(), part, func(_ int, at uint32, time, weight, _ float64) {
			if in[at] {
				sp.add(h.Sums, time, weight)
			}
			if sp.ms == 0 {
				sp.add(all, time, weight)
			}
		})
	}
	scale := sc.when * buckets / float64(n)
	if sp.ms == 0 {
		scale = 0
		for _, w := range all {
			scale = max(scale, math.Abs(w)/2)
		}
	}
	h.Text = draw(h.Sums, scale)
	for k := range h.Sums {
		h.Sums[k] *= s.src.factor
	}
	return h, nil
}

// below marks the positions whose stack has a node of one of the texts; with leaf, those whose node is
// one.
func (s *Selection) below(texts []uint32, leaf bool) []bool {
	wanted := make([]bool, len(s.texts))
	for _, t := range texts {
		wanted[t] = true
	}
	in := make([]bool, len(s.node))
	for i := range in {
		in[i] = wanted[s.text[i]] || !leaf && i > 0 && in[s.src.parent[i]]
	}
	return in
}

// A Lane is the weight over time of one task or one name.
type Lane struct {
	Name  string       `json:"name"`
	Task  profile.Task `json:"task"` // the zero Task for a name
	Total float64      `json:"total"`
	Sums  []float64    `json:"weights"`
}

// Lanes is the timeline: weight per bucket, per task or per name, largest total first.
type Lanes struct {
	Start float64 `json:"start"` // of the first bucket, in ms
	Width float64 `json:"width"` // of each bucket, in ms
	Lanes []Lane  `json:"lanes"`
}

// Timeline is the timeline of tasks, or of the given names where there are any (Name completes them).
// Of several profiles the tasks with one process, thread and name are one. It fails with a *FocusError.
func (s *Selection) Timeline(n int, names ...string) (*Lanes, error) {
	if !s.src.timed && !s.c.Compat {
		return nil, ErrNoTimes
	}
	n = bucketsOf(n)
	sc := s.scale()
	sp := spreader{sc}
	result := &Lanes{Start: sc.start, Width: (sc.end - sc.start) / float64(n), Lanes: []Lane{}}
	if len(names) > 0 {
		for _, name := range names {
			h, err := s.Histogram(name, n)
			if err != nil {
				return nil, err
			}
			text, _ := s.find(name)
			l := Lane{Name: s.shown(text), Sums: h.Sums}
			end := uint32(0)
			for i, total := range s.total {
				if s.flags[i]&hit != 0 && s.text[i] == text && uint32(i) >= end {
					l.Total += s.src.factor * total.weight
					end = s.src.end[i]
				}
			}
			result.Lanes = append(result.Lanes, l)
		}
	} else {
		of := map[profile.Task]int{}
		for part := range s.src.parts {
			x := &s.src.parts[part]
			lane := make([]int, len(x.p.Tasks)) // by task: 1 + its lane
			s.samples(context.Background(), part, func(k int, _ uint32, time, weight, _ float64) {
				id := x.samples.Task[k]
				if lane[id] == 0 {
					task := x.p.Tasks[id]
					at, ok := of[task]
					if !ok {
						at = len(result.Lanes)
						of[task] = at
						result.Lanes = append(result.Lanes, Lane{Name: taskName(task), Task: task, Sums: make([]float64, n)})
					}
					lane[id] = at + 1
				}
				l := &result.Lanes[lane[id]-1]
				sp.add(l.Sums, time, weight)
				l.Total += weight
			})
		}
		for i := range result.Lanes {
			l := &result.Lanes[i]
			l.Total *= s.src.factor
			for k := range l.Sums {
				l.Sums[k] *= s.src.factor
			}
		}
	}
	slices.SortStableFunc(result.Lanes, func(a, b Lane) int {
		x, y := StackRow{Name: a.Name, Total: a.Total}, StackRow{Name: b.Name, Total: b.Total}
		return compareTotal(&x, &y)
	})
	return result, nil
}
