package sourcemap

import "bytes"

// A LineMap tells which line of a text, as it is now, is which line of the text that was recorded.
// Lines are numbered from 1 and end with "\n", as compilers count them.
//
// White space at the ends of a line is no change: a line that was indented anew or given another line
// ending keeps its number. A line with any other change, be it a space between two words, has no
// counterpart. Lines that keep their order are matched by a longest common
// subsequence; of the rest, a block that was moved as a whole keeps its numbers if it has at least
// three lines and at least one that is found only once in both texts.
//
// Except for moved blocks Now is strictly increasing, and always Then(Now(n)) = n where Now has an
// answer. Texts that differ too much to be compared in bounded time keep only their common
// beginning and end and their moved blocks. A LineMap is immutable; any goroutine may ask it.
type LineMap struct {
	now, then []int32 // counterpart of line i+1, 0 for none
	moved     []bool  // recorded line i+1 is part of a moved block; nil where no block was moved
	edited    int
}

// NewLineMap compares the text that was recorded with the text as it is now. It keeps neither.
func NewLineMap(recorded, current []byte) *LineMap {
	a, b := splitLines(recorded), splitLines(current)
	m := newLineMap(len(a), len(b))
	if d := m.compare(a, b); d != nil {
		d.matchMoved()
	}
	m.countEdited()
	return m
}

func newLineMap(recorded, current int) *LineMap {
	return &LineMap{now: make([]int32, recorded), then: make([]int32, current)}
}

// compare matches the lines that kept their order. It returns what it compared them with, nil where
// nothing is left to be matched.
func (m *LineMap) compare(a, b [][]byte) *differ {
	start := 0
	for start < len(a) && start < len(b) && sameLine(a[start], b[start]) {
		m.match(start, start)
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && sameLine(a[endA-1], b[endB-1]) {
		endA, endB = endA-1, endB-1
		m.match(endA, endB)
	}
	if start == endA || start == endB {
		return nil
	}
	d := newDiffer(m, a, b, start, endA, endB)
	d.keepOrder()
	return d
}

// Now is the present line of a recorded line. It is false for a line that was changed or removed,
// and outside the text.
func (m *LineMap) Now(recordedLine int) (line int, ok bool) { return at(m.now, recordedLine) }

// Then is the recorded line of a present line. It is false for a line that was changed or added,
// and outside the text.
func (m *LineMap) Then(currentLine int) (line int, ok bool) { return at(m.then, currentLine) }

func at(lines []int32, n int) (int, bool) {
	if n < 1 || n > len(lines) || lines[n-1] == 0 {
		return 0, false
	}
	return int(lines[n-1]), true
}

// Changed is the number of recorded lines without a counterpart and of present lines without one;
// a line that was altered counts as both.
func (m *LineMap) Changed() int {
	n := 0
	for _, l := range m.now {
		if l == 0 {
			n++
		}
	}
	for _, l := range m.then {
		if l == 0 {
			n++
		}
	}
	return n
}

// Edited is the number of lines a person would say were edited: where lines were replaced by others
// the larger of the two numbers, else the number of lines added or removed.
func (m *LineMap) Edited() int { return m.edited }

// Lines is how many lines the recorded and the present text have.
func (m *LineMap) Lines() (recorded, current int) { return len(m.now), len(m.then) }

func (m *LineMap) match(a, b int) { m.now[a], m.then[b] = int32(b+1), int32(a+1) }

func (m *LineMap) unmatch(a, b int) { m.now[a], m.then[b] = 0, 0 }

// countEdited counts replaced lines once: it walks both texts side by side from one pair that kept
// its order to the next.
func (m *LineMap) countEdited() {
	for i, j := 0, 0; i < len(m.now) || j < len(m.then); i, j = i+1, j+1 {
		removed, added := 0, 0
		for ; i < len(m.now) && (m.now[i] == 0 || m.isMoved(i)); i++ {
			if m.now[i] == 0 {
				removed++
			}
		}
		for ; j < len(m.then) && (m.then[j] == 0 || m.isMoved(int(m.then[j]-1))); j++ {
			if m.then[j] == 0 {
				added++
			}
		}
		m.edited += max(removed, added)
	}
}

// isMoved says whether recorded line i+1 is part of a moved block.
func (m *LineMap) isMoved(i int) bool { return m.moved != nil && m.moved[i] }

func (m *LineMap) markMoved(i int) {
	if m.moved == nil {
		m.moved = make([]bool, len(m.now))
	}
	m.moved[i] = true
}

// splitLines cuts a text after each "\n", without the line endings. A last line without an ending is
// a line; an ending at the end begins none. A byte order mark is no part of the text, as editors do
// not show it.
func splitLines(text []byte) [][]byte {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	lines := make([][]byte, 0, bytes.Count(text, []byte{'\n'})+1)
	for len(text) > 0 {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return append(lines, text)
		}
		lines = append(lines, text[:i])
		text = text[i+1:]
	}
	return lines
}
