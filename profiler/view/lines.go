package view

import (
	"cmp"
	"math"
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
	names, lines := s.linesByFile()
	var files []FileLines
	for file, name := range names {
		if len(lines[file]) > 0 {
			files = append(files, FileLines{File: name, Lines: lines[file]})
		}
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
	names, byFile := s.linesByFile()
	var lines []HotLine
	for file, name := range names {
		for _, l := range byFile[file] {
			lines = append(lines, HotLine{name, l})
		}
	}
	slices.SortFunc(lines, func(a, b HotLine) int {
		return cmp.Or(bySize(a.Self, b.Self), bySize(a.Total, b.Total),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line.Line, b.Line.Line))
	})
	return lines[:max(0, min(n, len(lines)))]
}

// linesByFile are all lines that occur in samples, ascending, by file; the files are ordered by name.
//
// A large program has tens of thousands of lines in some hundred files, so files become numbers
// before lines are looked up or put in order.
func (s *Sums) linesByFile() (files []string, lines [][]Line) {
	fileOf := s.filesOfFrames(&files)
	ids := make(map[uint64]uint32, len(s.p.Frames)) // by file<<32|line
	keys := make([]uint64, 1, len(s.p.Frames))
	of := make([]uint32, len(s.p.Frames)) // by FrameID; 0 for frames without a file or a line
	for id := range s.p.Frames {
		line := s.p.Frames[id].Line
		if fileOf[id] < 0 || line <= 0 || line > math.MaxUint32 {
			continue
		}
		key := uint64(fileOf[id])<<32 | uint64(line)
		n, ok := ids[key]
		if !ok {
			n = uint32(len(keys))
			keys = append(keys, key)
			ids[key] = n
		}
		of[id] = n
	}
	tallies := make([]tally, len(keys))
	for i := 1; i < len(s.frame); i++ {
		if k := of[s.frame[i]]; k != 0 {
			tallies[k].count(s, i)
		}
	}
	order := make([]uint32, 0, len(keys)-1)
	for k := range tallies {
		if tallies[k].hit {
			order = append(order, uint32(k))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(keys[a], keys[b]) })
	all := make([]Line, len(order))
	lines = make([][]Line, len(files))
	for i := 0; i < len(order); {
		begin, file := i, keys[order[i]]>>32
		for ; i < len(order) && keys[order[i]]>>32 == file; i++ {
			t := &tallies[order[i]]
			all[i] = Line{int(uint32(keys[order[i]])), t.self, t.total}
		}
		lines[file] = all[begin:i:i]
	}
	return files, lines
}

// filesOfFrames numbers the files that frames name in the order of their names: by FrameID, -1 for
// none.
func (s *Sums) filesOfFrames(files *[]string) []int32 {
	of := make([]int32, len(s.p.Frames))
	found := map[string]int32{}
	for id := range s.p.Frames {
		file := s.p.Frames[id].File
		if file == "" {
			of[id] = -1
			continue
		}
		n, ok := found[file]
		if !ok {
			n = int32(len(*files))
			*files = append(*files, file)
			found[file] = n
		}
		of[id] = n
	}
	place := make([]int32, len(*files))
	slices.Sort(*files)
	for i, file := range *files {
		place[found[file]] = int32(i)
	}
	for id := range of {
		if of[id] >= 0 {
			of[id] = place[of[id]]
		}
	}
	return of
}
