// Package view turns Profiles into what people read: the cost of lines, functions and call paths.
//
// Its functions are pure: the same profile gives the same answer in the same order, whatever the
// numbering of its frames and stacks. It knows neither files, nor editors, nor how profiles come
// about, and it words nothing. Profiles given to it must satisfy their Check.
//
// Self is the weight of samples whose leaf it is; total the weight of samples in whose stack it is.
// A sample counts once in a total however often its stack comes by, so no total exceeds the
// profile's. Calls that the compiler inlined are frames like all others.
package view

import (
	"cmp"
	"math"
	"sync"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Sums is a profile with its samples summed per unique stack: the one form that all views are
// computed from, so that their cost is one pass over the samples and then one over the unique
// stacks, however deep. Whoever asks for more than one view of a profile makes one Sums.
//
// A Sums is read-only once made; any number of goroutines may use it. It keeps the profile.
//
// The stacks that samples need are laid out in preorder: a stack, then all that it calls. That makes
// what lies below a stack one range of positions, and the outermost occurrence of a function on a
// path one comparison: with end[k] the end of the range of the last occurrence of k that was counted,
// the stack at position i lies within that occurrence exactly if i < end[k]. No view walks a stack.
type Sums struct {
	p  *profile.Profile
	at []uint32 // by StackID: its position; meaningless where no sample needs the stack

	// By position; 0 is the empty stack.
	parent []uint32 // position of the caller's stack; parent[i] < i but for 0
	end    []uint32 // the positions from i+1 to end[i]-1 are the stacks that begin with stack i
	frame  []profile.FrameID
	self   []profile.Measure // of samples with exactly this stack
	total  []profile.Measure // of samples whose stack begins with this one

	functions func() *functions
}

// NewSums sums up a profile, which must not change afterwards.
func NewSums(p *profile.Profile) *Sums {
	s := &Sums{p: p}
	s.functions = sync.OnceValue(func() *functions { return functionsOf(p.Frames) })
	s.layOut()
	samples := &p.Samples
	s.self = make([]profile.Measure, len(s.parent))
	for i, id := range samples.Stack {
		m := &s.self[s.at[id]]
		m.Weight += samples.Weight[i]
		m.Count++
	}
	if samples.Count != nil {
		for i, id := range samples.Stack {
			s.self[s.at[id]].Count += samples.Count[i] - 1
		}
	}
	s.total = append([]profile.Measure(nil), s.self...)
	for i := len(s.total) - 1; i > 0; i-- {
		s.total[s.parent[i]].Add(s.total[i])
	}
	return s
}

// layOut puts the stacks that samples need in preorder. Parent(id) < id makes that two loops: sizes
// from the last id to the first, positions from the first to the last.
func (s *Sums) layOut() {
	parents, frames := s.p.Stacks.Columns()
	size := make([]uint32, len(parents)) // of the stack and all below that samples need
	size[0] = 1
	for _, id := range s.p.Samples.Stack {
		size[id] = 1
	}
	for id := len(parents) - 1; id > 0; id-- {
		if size[id] == 0 {
			continue
		}
		up := parents[id]
		if size[up] == 0 {
			size[up] = 1
		}
		size[up] += size[id]
	}
	n := size[0]
	s.at = make([]uint32, len(parents))
	s.parent, s.end, s.frame = make([]uint32, n), make([]uint32, n), make([]profile.FrameID, n)
	s.end[0] = n
	next := make([]uint32, len(parents)) // by id: where its next child goes
	next[0] = 1
	for id := 1; id < len(parents); id++ {
		if size[id] == 0 {
			continue
		}
		up := parents[id]
		i := next[up]
		next[up] += size[id]
		next[id] = i + 1
		s.at[id] = i
		s.parent[i], s.end[i], s.frame[i] = s.at[up], i+size[id], frames[id]
	}
}

// Total is the measure of the whole profile.
func (s *Sums) Total() profile.Measure { return s.total[0] }

// Profile is the profile that was summed up.
func (s *Sums) Profile() *profile.Profile { return s.p }

// An edge or a frame's key occurs on many stacks: tally is its measure, counting each sample once.
type tally struct {
	self, total profile.Measure
	end         uint32 // of the range of the last occurrence that was counted
	hit         bool   // it occurs in some sample, though measures may cancel out
}

// count adds the occurrence at position i. Positions must come in ascending order.
func (t *tally) count(s *Sums, i int) {
	t.hit = true
	t.self.Add(s.self[i])
	if uint32(i) >= t.end {
		t.total.Add(s.total[i])
		t.end = s.end[i]
	}
}

// bySize orders by weight, then count, largest first. In a difference of two profiles a gain is as
// large as a loss.
func bySize(a, b profile.Measure) int {
	return cmp.Or(cmp.Compare(size(b.Weight), size(a.Weight)), cmp.Compare(size(b.Count), size(a.Count)))
}

func size(w int64) uint64 {
	if w < 0 {
		return -uint64(w)
	}
	return uint64(w)
}

// Error is the relative statistical error of a weight that count sampled events make up: one standard
// deviation of a Poisson count, 1/√count. Of 100 samples it is 0.1: the truth lies within ±10 % of
// the weight in about two cases of three. For a count of 1 or 0 it is 1.
func Error(count int64) float64 {
	if n := size(count); n > 1 {
		return 1 / math.Sqrt(float64(n))
	}
	return 1
}

// Only is the profile of those samples whose task keep accepts. It asks once per task. The result
// shares all tables but the samples with p.
func Only(p *profile.Profile, keep func(profile.TaskID) bool) *profile.Profile {
	kept := make([]bool, len(p.Tasks))
	for id := range kept {
		kept[id] = keep(profile.TaskID(id))
	}
	q := *p
	q.Samples = profile.Samples{}
	for i, task := range p.Samples.Task {
		if kept[task] {
			q.Samples.Append(p.Samples.At(i))
		}
	}
	return &q
}
