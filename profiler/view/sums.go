// Package view turns Profiles into what people read: the cost of lines, functions and call paths.
//
// Its functions are pure: the same profile gives the same answer in the same order, whatever the
// numbering of its frames and stacks. It knows neither files, nor editors, nor how profiles come
// about, and it words nothing. Profiles given to it must satisfy their Check.
//
// There are two ways to look at a Profile. Sums is what an editor shows beside the source: lines and
// functions as recorded. A Source is the stack viewer's: one profile, the difference of two or a set of
// scenarios, under a Filter that groups, folds and chooses; its views are those of the Selection that
// this gives.
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
	s.layOut(sumUp(p))
	s.total = append([]profile.Measure(nil), s.self...)
	for i := len(s.total) - 1; i > 0; i-- {
		s.total[s.parent[i]].Add(s.total[i])
	}
	return s
}

// A slot is what layOut knows of a stack. One place for all of it costs one cache miss per sample.
type slot struct {
	self profile.Measure
	size uint32 // of the stacks that begin with this one and that samples need
	next uint32 // position of its next child
}

// sumUp goes through the samples once; the size of the stacks they name is 1, that of others 0.
func sumUp(p *profile.Profile) []slot {
	slots := make([]slot, p.Stacks.Len())
	weights, counts := p.Samples.Weight, p.Samples.Count
	for i, id := range p.Samples.Stack {
		x := &slots[id]
		x.size = 1
		x.self.Weight += weights[i]
		if counts == nil {
			x.self.Count++
		} else {
			x.self.Count += counts[i]
		}
	}
	return slots
}

// layOut puts the stacks that samples need in preorder. Parent(id) < id makes that two loops: sizes
// from the last id to the first, positions from the first to the last.
func (s *Sums) layOut(slots []slot) {
	parents, frames := s.p.Stacks.Columns()
	slots[0].size = 1
	for id := len(parents) - 1; id > 0; id-- {
		if slots[id].size == 0 {
			continue
		}
		up := &slots[parents[id]]
		up.size = max(up.size, 1) + slots[id].size
	}
	n := slots[0].size
	s.at = make([]uint32, len(parents))
	s.parent, s.end, s.frame = make([]uint32, n), make([]uint32, n), make([]profile.FrameID, n)
	s.self = make([]profile.Measure, n)
	s.end[0], s.self[0] = n, slots[0].self
	slots[0].next = 1
	for id := 1; id < len(parents); id++ {
		x := &slots[id]
		if x.size == 0 {
			continue
		}
		up := &slots[parents[id]]
		i := up.next
		up.next += x.size
		x.next = i + 1
		s.at[id] = i
		s.parent[i], s.end[i], s.frame[i] = s.at[parents[id]], i+x.size, frames[id]
		s.self[i] = x.self
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
