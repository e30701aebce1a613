package view

import (
	"cmp"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Line is the cost of one line of a file.
type Line struct {
	Line        int // 1-based
	Self, Total profile.Measure
}

// FileLines are the lines of a file that occur in samples.
type FileLines struct {
	File  string // as in Frame.File
	Lines []Line // ascending by line
}

// Lines is the cost of each line that occurs in a sample, files ordered by name. Frames without a
// file or a line are left out, so the sum of all Self is the profile's total less the samples whose
// leaf is such a frame and those without a stack.
func Lines(p *profile.Profile) []FileLines { return NewSums(p).Lines() }

// Lines is the same as the function Lines.
func (s *Sums) Lines() []FileLines {
	lines := s.hotLines()
	slices.SortFunc(lines, func(a, b HotLine) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line.Line, b.Line.Line))
	})
	var files []FileLines
	all := make([]Line, len(lines))
	for i := 0; i < len(lines); {
		begin, file := i, lines[i].File
		for ; i < len(lines) && lines[i].File == file; i++ {
			all[i] = lines[i].Line
		}
		files = append(files, FileLines{File: file, Lines: all[begin:i:i]})
	}
	return files
}

// A HotLine is a line together with its file.
type HotLine struct {
	File string // as in Frame.File
	Line
}

// Hottest are the n lines of all files with the most self weight, ordered by self, then total, largest
// first, then file and line. There are fewer where fewer occur in samples.
func (s *Sums) Hottest(n int) []HotLine {
	lines := s.hotLines()
	slices.SortFunc(lines, func(a, b HotLine) int {
		return cmp.Or(bySize(a.Self, b.Self), bySize(a.Total, b.Total),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line.Line, b.Line.Line))
	})
	return lines[:max(0, min(n, len(lines)))]
}

// hotLines are all lines that occur in samples, in no order.
func (s *Sums) hotLines() []HotLine {
	type key struct {
		file string
		line int
	}
	of := make([]uint32, len(s.p.Frames)) // by FrameID; 0 for frames without a file or a line
	ids := map[key]uint32{}
	keys := make([]key, 1)
	for id := range s.p.Frames {
		f := &s.p.Frames[id]
		if f.File == "" || f.Line <= 0 {
			continue
		}
		k := key{f.File, f.Line}
		n, ok := ids[k]
		if !ok {
			n = uint32(len(keys))
			keys = append(keys, k)
			ids[k] = n
		}
		of[id] = n
	}
	tallies := make([]tally, len(keys))
	for i := 1; i < len(s.frame); i++ {
		if k := of[s.frame[i]]; k != 0 {
			tallies[k].count(s, i)
		}
	}
	lines := make([]HotLine, 0, len(keys)-1)
	for k := range tallies {
		if t := &tallies[k]; t.hit {
			lines = append(lines, HotLine{keys[k].file, Line{keys[k].line, t.self, t.total}})
		}
	}
	return lines
}
