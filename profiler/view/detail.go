package view

import (
	"cmp"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// LineDetail is the breakdown of a line's or a function's cost.
//
// Rows of callers and callees are calls, not functions: Total is the weight of samples with such a call
// in their stack, each once; Self of those in which that call is the last. Under recursion a sample
// may have several callers, so callers' totals may add up to more than Total; none exceeds it.
type LineDetail struct {
	Self, Total profile.Measure
	// Functions are those that the line belongs to, with what they cost at the line: more than one where
	// a generic or inlined function has several names. Ordered by total.
	Functions []Row
	// Callers are the functions that call the line's function, on stacks that come by the line. Ordered
	// by total.
	Callers []Row
	// Callees are the functions called from the line. Ordered by total.
	Callees []Row
	// Threads are the tasks that came by, ordered by total, then by ID.
	Threads []ThreadRow
}

// A ThreadRow is a task's part of a cost.
type ThreadRow struct {
	ID          profile.TaskID
	Task        profile.Task
	Self, Total profile.Measure
}

// DetailOf is the breakdown of one line, for hovers. File is as in Frame.File. All is zero where no
// sample came by the line.
func DetailOf(p *profile.Profile, file string, line int) LineDetail {
	return NewSums(p).DetailOf(file, line)
}

// DetailOf is the same as the function DetailOf.
func (s *Sums) DetailOf(file string, line int) LineDetail {
	return s.detail(func(f *profile.Frame) bool { return f.Line == line && f.File == file })
}

// FunctionDetail is the breakdown of the functions with a name: in every module, where module is "".
func FunctionDetail(p *profile.Profile, name, module string) LineDetail {
	return NewSums(p).FunctionDetail(name, module)
}

// FunctionDetail is the same as the function FunctionDetail.
func (s *Sums) FunctionDetail(name, module string) LineDetail {
	return s.detail(func(f *profile.Frame) bool { return f.Func == name && (module == "" || f.Module == module) })
}

// detail is the breakdown of the frames that focus accepts.
func (s *Sums) detail(focus func(*profile.Frame) bool) LineDetail {
	in := make([]bool, len(s.p.Frames))
	some := false
	for id := 1; id < len(in); id++ {
		in[id] = focus(&s.p.Frames[id])
		some = some || in[id]
	}
	if !some {
		return LineDetail{}
	}
	fs := s.functions()
	var all tally
	functions := make([]tally, len(fs.rows))
	callers := make([]tally, len(fs.rows))
	callees := make([]tally, len(fs.rows))
	below := make([]bool, len(s.frame)) // by position: the stack has a frame in focus
	for i := 1; i < len(s.frame); i++ {
		frame, up := s.frame[i], s.parent[i]
		if in[frame] {
			all.count(s, i)
			functions[fs.of[frame]].count(s, i)
			if up != 0 {
				callers[fs.of[s.frame[up]]].count(s, i)
			}
		}
		if in[s.frame[up]] {
			callees[fs.of[frame]].count(s, i)
		}
		below[i] = uint32(i) < all.end
	}
	return LineDetail{
		Self: all.self, Total: all.total,
		Functions: fs.byTotalOf(functions),
		Callers:   fs.byTotalOf(callers),
		Callees:   fs.byTotalOf(callees),
		Threads:   s.threads(in, below),
	}
}

func (s *Sums) threads(in, below []bool) []ThreadRow {
	tallies := make([]tally, len(s.p.Tasks))
	samples := &s.p.Samples
	for k, id := range samples.Stack {
		i := s.at[id]
		if !below[i] {
			continue
		}
		m := profile.Measure{Weight: samples.Weight[k], Count: 1}
		if samples.Count != nil {
			m.Count = samples.Count[k]
		}
		t := &tallies[samples.Task[k]]
		t.hit = true
		t.total.Add(m)
		if in[s.frame[i]] {
			t.self.Add(m)
		}
	}
	var rows []ThreadRow
	for id := range tallies {
		if t := &tallies[id]; t.hit {
			rows = append(rows, ThreadRow{profile.TaskID(id), s.p.Tasks[id], t.self, t.total})
		}
	}
	slices.SortFunc(rows, func(a, b ThreadRow) int {
		return cmp.Or(bySize(a.Total, b.Total), bySize(a.Self, b.Self), cmp.Compare(a.ID, b.ID))
	})
	return rows
}
