package view

import (
	"cmp"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Row is a function and its cost. Functions are told apart by Name and Module.
type Row struct {
	Name   string // Frame.Func
	Module string // Frame.Module
	// File and Line say where the function begins: Frame.File and Frame.StartLine, Line 0 where it is
	// not known. Where frames of one function disagree, those with a start line win, then the first
	// file by name, then the smaller line.
	File        string
	Line        int
	Self, Total profile.Measure
}

// Pseudo reports whether the row stands for no function but for what is not known: an unknown
// address, a broken stack, the kernel, a frame without a name.
func (r *Row) Pseudo() bool {
	if r.Module != "" || r.File != "" {
		return false
	}
	switch r.Name {
	case "", profile.Unknown, profile.BrokenStack, profile.Kernel:
		return true
	}
	return false
}

// functions tells the functions of a frame table. Function 0 is that of frame 0: none.
type functions struct {
	of   []uint32 // by FrameID
	rows []Row    // by function, without measures
}

func functionsOf(frames []profile.Frame) *functions {
	type key struct{ name, module string }
	fs := &functions{of: make([]uint32, len(frames)), rows: make([]Row, 1)}
	ids := map[key]uint32{}
	for id := 1; id < len(frames); id++ {
		f := &frames[id]
		k := key{f.Func, f.Module}
		fn, ok := ids[k]
		if !ok {
			fn = uint32(len(fs.rows))
			fs.rows = append(fs.rows, Row{Name: f.Func, Module: f.Module, File: f.File, Line: f.StartLine})
			ids[k] = fn
		}
		fs.of[id] = fn
		if r := &fs.rows[fn]; beginsBefore(f, r) {
			r.File, r.Line = f.File, f.StartLine
		}
	}
	return fs
}

// beginsBefore reports whether f tells better than r where the function begins.
func beginsBefore(f *profile.Frame, r *Row) bool {
	if known := f.StartLine != 0; known != (r.Line != 0) {
		return known
	}
	if known := f.File != ""; known != (r.File != "") {
		return known
	}
	return cmp.Or(cmp.Compare(f.File, r.File), cmp.Compare(f.StartLine, r.Line)) < 0
}

// row completes a function's row with its measures.
func (fs *functions) row(fn uint32, t *tally) Row {
	r := fs.rows[fn]
	r.Self, r.Total = t.self, t.total
	return r
}

// inOrder are the rows of functions that occur, given their tallies by function. Rows are large, so
// what is put in order is their places.
func (fs *functions) inOrder(tallies []tally, compare func(a, b *Row) int) []Row {
	var found []Row
	for fn := range tallies {
		if t := &tallies[fn]; t.hit {
			found = append(found, fs.row(uint32(fn), t))
		}
	}
	order := make([]uint32, len(found))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return compare(&found[a], &found[b]) })
	rows := make([]Row, len(found))
	for i, at := range order {
		rows[i] = found[at]
	}
	return rows
}

// byTotalOf are the same, ordered by total.
func (fs *functions) byTotalOf(tallies []tally) []Row {
	return fs.inOrder(tallies, byTotal)
}

func byName(a, b *Row) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Module, b.Module))
}

func bySelf(a, b *Row) int {
	return cmp.Or(bySize(a.Self, b.Self), bySize(a.Total, b.Total), byName(a, b))
}

func byTotal(a, b *Row) int {
	return cmp.Or(bySize(a.Total, b.Total), bySize(a.Self, b.Self), byName(a, b))
}

// ByName is the cost of each function that occurs in a sample, ordered by self, then total, largest
// first, then by name and module.
func ByName(p *profile.Profile) []Row { return NewSums(p).ByName() }

// ByName is the same as the function ByName.
func (s *Sums) ByName() []Row {
	fs := s.functions()
	tallies := make([]tally, len(fs.rows))
	for i := 1; i < len(s.frame); i++ {
		tallies[fs.of[s.frame[i]]].count(s, i)
	}
	return fs.inOrder(tallies, bySelf)
}

// A Rank is a function's place among all functions, 1 for the most costly. Functions of equal weight
// share a place. It is 0, not ranked, for pseudo-frames and where the weight is not positive.
type Rank struct{ BySelf, ByTotal int }

// Ranks are the ranks of rows, one for each, in their order.
func Ranks(rows []Row) []Rank {
	ranks := make([]Rank, len(rows))
	set := func(weight func(*Row) int64, place func(*Rank) *int) {
		var order []int
		for i := range rows {
			if !rows[i].Pseudo() && weight(&rows[i]) > 0 {
				order = append(order, i)
			}
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(weight(&rows[b]), weight(&rows[a])) })
		for k, i := range order {
			if k > 0 && weight(&rows[order[k-1]]) == weight(&rows[i]) {
				*place(&ranks[i]) = *place(&ranks[order[k-1]])
			} else {
				*place(&ranks[i]) = k + 1
			}
		}
	}
	set(func(r *Row) int64 { return r.Self.Weight }, func(r *Rank) *int { return &r.BySelf })
	set(func(r *Row) int64 { return r.Total.Weight }, func(r *Rank) *int { return &r.ByTotal })
	return ranks
}
