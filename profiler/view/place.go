package view

import (
	"cmp"
	"slices"
	"strings"
)

// A PlaceRow is the cost of one source line under a filter. As JSON it is
// {"file","line","total","self","totalCount","selfCount"}.
type PlaceRow struct {
	File       string  `json:"file"` // as in Frame.File
	Line       int     `json:"line"` // 1-based
	Total      float64 `json:"total"`
	Self       float64 `json:"self"`
	TotalCount float64 `json:"totalCount"`
	SelfCount  float64 `json:"selfCount"`
}

// Lines is the cost of each source line in the selected samples, ordered by file and line, in all
// files. A line counts once in a sample however often its stack comes by. A focus keeps the samples in
// whose stack that name is, and the lines of the frames that it stands for; an empty one keeps all. It
// fails with a *FocusError.
//
// In compat a sample counts for one line of the focus only: that of its frame nearest to the root.
func (s *Selection) Lines(focus string) ([]PlaceRow, error) {
	var text uint32
	all := focus == "" || focus == Root
	if !all {
		var err error
		if text, err = s.find(focus); err != nil {
			return nil, err
		}
	}
	type place struct {
		file string
		line int
	}
	ids := map[place]uint32{}
	places := make([]place, 1)
	tallies := make([]textTally, 1)
	for part := range s.src.parts {
		x := &s.src.parts[part]
		of := make([]uint32, len(x.p.Frames)) // by FrameID: its place; 0 for none
		for id := range x.p.Frames {
			f := &x.p.Frames[id]
			if f.File == "" || f.Line <= 0 {
				continue
			}
			k := place{f.File, f.Line}
			n, ok := ids[k]
			if !ok {
				n = uint32(len(places))
				places, tallies = append(places, k), append(tallies, textTally{})
				ids[k] = n
			}
			of[id] = n
		}
		outermost := uint32(0) // end of the range of the occurrence of the focus that was counted, in compat
		for i := x.begin; i < x.end; i++ {
			if s.flags[i]&hit == 0 || !all && !s.standsFor(part, i, text) {
				continue
			}
			inside := i < outermost
			if !all && !inside && s.c.Compat {
				outermost = s.src.end[i]
			}
			n := of[s.src.frame[i]]
			if n == 0 {
				continue
			}
			t := &tallies[n]
			t.hit = true
			t.self.add(s.self(i))
			if i >= t.end && !(inside && s.c.Compat && !all) {
				t.total.add(s.total[i])
				t.end = s.src.end[i]
			}
		}
	}
	f := s.src.factor
	rows := make([]PlaceRow, 0, len(places)-1)
	for n := range tallies {
		if t := &tallies[n]; t.hit {
			rows = append(rows, PlaceRow{places[n].file, places[n].line, f * t.total.weight, f * t.self.weight, t.total.count, t.self.count})
		}
	}
	slices.SortFunc(rows, func(a, b PlaceRow) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return rows, nil
}

// standsFor reports whether a text is that of the frame at a position, not only of the node that the
// frame was folded into.
func (s *Selection) standsFor(part int, i, text uint32) bool {
	if s.text[i] != text {
		return false
	}
	at := s.node[i]
	if at == i {
		return true
	}
	of := s.names.of[part]
	d := &s.of[of[s.src.frame[i]]]
	return !d.fold && (d.text == text || d.entry != 0 && d.entry == s.of[of[s.src.frame[at]]].entry)
}

// FunctionsOf is the cost of each function of a source file in the selected samples, whatever the
// groups and folds, ordered by total. File is as in Frame.File, or the end of one path that no other
// has. It fails with a *FocusError that names files.
func (s *Selection) FunctionsOf(file string, c Columns) ([]StackRow, error) {
	c = s.columns(c)
	path, err := s.file(file)
	if err != nil {
		return nil, err
	}
	order := s.prepare(c)
	all := s.names.all
	tallies := make([]textTally, len(all))
	in := make([]bool, len(all))
	name := func(part int, i uint32) uint32 {
		x := &s.src.parts[part]
		if id := s.src.frame[i]; x.p.Frames[id].File == path {
			return s.names.of[part][id]
		}
		return 0
	}
	outer := make([]bool, len(s.node))
	for part := range s.src.parts {
		x := &s.src.parts[part]
		for i := x.begin; i < x.end; i++ {
			n := name(part, i)
			if n == 0 || s.flags[i]&hit == 0 {
				continue
			}
			t := &tallies[n]
			t.hit, in[n] = true, true
			t.self.add(s.self(i))
			if i >= t.end {
				t.total.add(s.total[i])
				t.end = s.src.end[i]
				outer[i] = true
			}
		}
	}
	var rows []StackRow
	place := make([]int, len(all))
	for n := range all {
		if !in[n] {
			continue
		}
		t := &tallies[n]
		r := s.row(0, t.total, t.self, measure{})
		r.Name, r.Frame = all[n].short, all[n].frame
		rows = append(rows, r)
		place[n] = len(rows)
	}
	if c&Times != 0 {
		b := s.times()
		for part := range s.src.parts {
			x := &s.src.parts[part]
			for i := x.begin; i < x.end; i++ {
				if outer[i] {
					rows[place[name(part, i)]-1].between(b.first[i], b.last[i])
				}
			}
		}
	}
	if c&(When|Which) != 0 {
		sums := s.newSums(len(rows), c)
		s.spread(c, order, nil, 0, func(i uint32, r *spreadRow) {
			if outer[i] {
				sums.add(place[name(s.partOf(i), i)]-1, r)
			}
		})
		for k := range rows {
			s.draw(&rows[k], sums.of(k), c)
		}
	}
	return sortRows(rows, compareTotal), nil
}

// partOf is the part of a position but the root.
func (s *Selection) partOf(i uint32) int {
	return slices.IndexFunc(s.src.parts, func(x part) bool { return i < x.end })
}

// file is the path that a person means.
func (s *Selection) file(wanted string) (string, error) {
	live := map[string]bool{}
	for part := range s.src.parts {
		x := &s.src.parts[part]
		seen := make([]bool, len(x.p.Frames))
		for i := x.begin; i < x.end; i++ {
			if id := s.src.frame[i]; s.flags[i]&hit != 0 && !seen[id] {
				seen[id] = true
				if f := x.p.Frames[id].File; f != "" {
					live[f] = true
				}
			}
		}
	}
	if live[wanted] {
		return wanted, nil
	}
	type near struct {
		file string
		far  int
	}
	var ends []string
	var all []near
	for f := range live {
		if strings.HasSuffix(f, "/"+strings.TrimPrefix(wanted, "/")) {
			ends = append(ends, f)
		}
		d := min(distance(f, wanted), distance(f[strings.LastIndexByte(f, '/')+1:], wanted[strings.LastIndexByte(wanted, '/')+1:]))
		all = append(all, near{f, d})
	}
	if len(ends) == 1 {
		return ends[0], nil
	}
	e := &FocusError{Focus: wanted, Several: len(ends) > 1}
	if e.Several {
		slices.Sort(ends)
		e.Nearest = ends[:min(3, len(ends))]
		return "", e
	}
	slices.SortFunc(all, func(a, b near) int { return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.file, b.file)) })
	for _, n := range all[:min(3, len(all))] {
		e.Nearest = append(e.Nearest, n.file)
	}
	return "", e
}
