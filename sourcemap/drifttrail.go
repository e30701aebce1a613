package sourcemap

import "strings"

// A Trail tells where the lines of a text are after the edits that were made to it, one after the
// other. Unlike a LineMap it does not compare: of two functions with the same body it knows which is
// which, however they were moved about each other. A Trail is immutable; any goroutine may ask it.
type Trail struct {
	from   []int32 // for each present line the line of the first text, from 1, that it is; 0 for none
	edited bool
}

// NewTrail is the trail of a text before any edit.
func NewTrail(text string) *Trail {
	t := &Trail{from: make([]int32, lineCount(text))}
	for i := range t.from {
		t.from[i] = int32(i + 1)
	}
	return t
}

// lineCount is how many lines splitLines makes.
func lineCount(text string) int {
	n := strings.Count(text, "\n")
	if text != "" && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// Edit is the trail after the bytes from start to end of a text were replaced. Lines wholly outside
// are shifted. A line that was altered stays itself; where lines were replaced by another number of
// lines, those at the begin and at the end that are the same stay, and the others are new.
func (t *Trail) Edit(before string, start, end int, replacement string) *Trail {
	first := strings.Count(before[:start], "\n") // index of the first line that is touched
	head := strings.LastIndexByte(before[:start], '\n') + 1
	// The first line below that is not touched: the one at end if it still begins there.
	below, after := strings.Count(before[:end], "\n"), end
	whole := end == 0 || before[end-1] == '\n'
	if replacement == "" {
		whole = whole && head == start
	} else {
		whole = whole && replacement[len(replacement)-1] == '\n'
	}
	if !whole {
		below++
		if n := strings.IndexByte(before[end:], '\n'); n >= 0 {
			after += n + 1
		} else {
			after = len(before)
		}
	}
	first, below = min(first, len(t.from)), min(below, len(t.from))
	removed := splitLines([]byte(before[head:after]))
	added := splitLines([]byte(before[head:start] + replacement + before[end:after]))

	next := &Trail{from: make([]int32, 0, first+len(added)+len(t.from)-below), edited: true}
	next.from = append(next.from, t.from[:first]...)
	touched := t.from[first:below]
	lines := make([]int32, len(added))
	n := min(len(touched), len(removed), len(added))
	i := 0
	for i < n && sameLine(removed[i], added[i]) {
		lines[i] = touched[i]
		i++
	}
	same := 0
	for same < n-i && sameLine(removed[len(removed)-1-same], added[len(added)-1-same]) {
		same++
		lines[len(added)-same] = touched[len(touched)-same]
	}
	if len(added)-same-i == 1 && len(touched)-same-i == 1 {
		lines[i] = touched[i]
	}
	next.from = append(next.from, lines...)
	next.from = append(next.from, t.from[below:]...)
	return next
}

// Then is the trail of the edits of t followed by those of u, whose first text is t's last.
func (t *Trail) Then(u *Trail) *Trail {
	if !t.edited || !u.edited {
		if u.edited {
			return u
		}
		return t
	}
	both := &Trail{from: make([]int32, len(u.from)), edited: true}
	for i, n := range u.from {
		if n > 0 && int(n) <= len(t.from) {
			both.from[i] = t.from[n-1]
		}
	}
	return both
}

// Follow continues a LineMap, from a recorded text to the first text of the trail, through the edits.
// A recorded line has a counterpart where it went if that has its content, so a line that is edited
// loses its counterpart and has it again when the edit is undone. Lines that were replaced by others
// are compared in their place. Of the rest, moved blocks are found as NewLineMap finds them.
func (t *Trail) Follow(first *LineMap, recorded, current []byte) *LineMap {
	if !t.edited {
		return first
	}
	a, b := splitLines(recorded), splitLines(current)
	m := newLineMap(len(a), len(b))
	for j, n := range t.from[:min(len(t.from), len(b))] {
		i, ok := first.Then(int(n))
		if !ok || i > len(a) || !sameLine(a[i-1], b[j]) {
			continue
		}
		m.match(i-1, j)
		if first.isMoved(i - 1) {
			m.markMoved(i - 1)
		}
	}
	// Between two neighbours that kept their order lie the lines that were replaced.
	i, restA, restB := 0, 0, 0
	for j := 0; j <= len(b); j++ {
		end := len(a)
		if j < len(b) {
			if m.then[j] == 0 || m.isMoved(int(m.then[j]-1)) {
				continue
			}
			end = int(m.then[j] - 1)
		}
		from := j
		for from > 0 && (m.then[from-1] == 0 || m.isMoved(int(m.then[from-1]-1))) {
			from--
		}
		leftA, leftB := m.between(a, b, i, end, from, j)
		restA, restB = restA+leftA, restB+leftB
		i = end + 1
	}
	if restA >= minMoved && restB >= minMoved {
		newDiffer(m, a, b, 0, len(a), len(b)).matchMoved()
	}
	m.countEdited()
	return m
}

// between matches the lines of two ranges that have no counterpart, and tells how many are left.
func (m *LineMap) between(a, b [][]byte, fromA, toA, fromB, toB int) (leftA, leftB int) {
	pick := func(text [][]byte, of []int32, from, to int) (lines [][]byte, at []int) {
		for n := from; n < to; n++ {
			if of[n] == 0 {
				lines, at = append(lines, text[n]), append(at, n)
			}
		}
		return lines, at
	}
	linesA, atA := pick(a, m.now, fromA, toA)
	linesB, atB := pick(b, m.then, fromB, toB)
	leftA, leftB = len(linesA), len(linesB)
	if leftA == 0 || leftB == 0 {
		return leftA, leftB
	}
	inner := newLineMap(leftA, leftB)
	inner.compare(linesA, linesB)
	for i, j := range inner.now {
		if j != 0 {
			m.match(atA[i], atB[j-1])
			leftA, leftB = leftA-1, leftB-1
		}
	}
	return leftA, leftB
}
