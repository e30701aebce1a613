package sourcemap

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

// maxDiffWork bounds the search for the longest common subsequence, in visited points of the edit
// graph: some tens of milliseconds. Lines that only one of the texts has are set aside before, so
// that only two texts of the same lines in wholly different order reach it.
const maxDiffWork = 3 << 20

// A differ matches the lines of two texts between their common beginning and end.
//
// The module golang.org/x/tools has a line diff, which github.com/aymanbagabas/go-udiff copies; it
// gives up being exact after some fifty edits, and neither knows of indentation or moved blocks.
type differ struct {
	m     *LineMap
	texts [2][][]byte // all lines of the recorded and the present text
	ids   [2][]int32  // of the lines between; equal lines have equal ids
	start int         // index of the first line between, in both
	keys  []lineKey   // by id
	table []keySlot   // hash table of keys: a power of two, at most half full
	seed  maphash.Seed
	work  int // what is left of maxDiffWork
}

// A lineKey is a line's content but for the white space at its ends.
type lineKey struct {
	text    []byte   // trimmed
	count   [2]int32 // lines between that have it, in the recorded and the present text
	trivial bool     // neither a letter nor a digit: blank lines, closing braces
}

// A keySlot is a place of the hash table; id is one more than the key's, 0 where the place is free.
type keySlot struct {
	hash uint64
	id   int32
}

func newDiffer(m *LineMap, recorded, current [][]byte, start, endRecorded, endCurrent int) *differ {
	n := endRecorded + endCurrent - 2*start
	d := &differ{
		m: m, texts: [2][][]byte{recorded, current}, start: start, seed: maphash.MakeSeed(),
		table: make([]keySlot, 1<<bits.Len(uint(2*n))), keys: make([]lineKey, 0, n/2), work: maxDiffWork,
	}
	for side, end := range [2]int{endRecorded, endCurrent} {
		d.ids[side] = make([]int32, end-start)
		for i, line := range d.texts[side][start:end] {
			id, _ := d.key(line, true)
			d.ids[side][i] = id
			d.keys[id].count[side]++
		}
	}
	return d
}

// key is the id of a line's content, which it adds if it is told to.
func (d *differ) key(line []byte, add bool) (int32, bool) {
	line = trim(line)
	h := maphash.Bytes(d.seed, line)
	mask := uint64(len(d.table) - 1)
	for at := h & mask; ; at = (at + 1) & mask {
		slot := d.table[at]
		switch {
		case slot.id == 0 && !add:
			return 0, false
		case slot.id == 0:
			d.keys = append(d.keys, lineKey{text: line, trivial: !slices.ContainsFunc(line, isWord)})
			d.table[at] = keySlot{h, int32(len(d.keys))}
			return int32(len(d.keys) - 1), true
		case slot.hash == h && bytes.Equal(d.keys[slot.id-1].text, line):
			return slot.id - 1, true
		}
	}
}

// isWord tells letters and digits from white space and punctuation.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// trim is a line without the white space at its ends.
func trim(line []byte) []byte {
	for len(line) > 0 && isSpace(line[0]) {
		line = line[1:]
	}
	for len(line) > 0 && isSpace(line[len(line)-1]) {
		line = line[:len(line)-1]
	}
	return line
}

// sameLine says whether two lines have the same content but for white space at their ends.
func sameLine(a, b []byte) bool { return bytes.Equal(a, b) || bytes.Equal(trim(a), trim(b)) }

// keepOrder matches the lines that kept their order.
func (d *differ) keepOrder() {
	d.matchInOrder()
	d.slide()
	d.dropStray()
}

// matchInOrder matches a longest common subsequence of the lines that both texts have, by Eugene
// W. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), in linear space.
func (d *differ) matchInOrder() {
	var both [2]sequence
	for side := range both {
		both[side].ids = make([]int32, 0, len(d.ids[side]))
		both[side].at = make([]int32, 0, len(d.ids[side]))
		for i, id := range d.ids[side] {
			if d.keys[id].count[1-side] > 0 {
				both[side].ids = append(both[side].ids, id)
				both[side].at = append(both[side].at, int32(i+d.start))
			}
		}
	}
	n := len(both[0].ids) + len(both[1].ids) + 3
	d.compare(both[0], both[1], make([]int32, 2*n))
}

// A sequence is lines by id, and where each stands in its text.
type sequence struct{ ids, at []int32 }

func (s sequence) slice(from, to int) sequence { return sequence{s.ids[from:to], s.at[from:to]} }

// compare matches two sequences; space is for two arrays of at least their lengths' sum + 3.
func (d *differ) compare(a, b sequence, space []int32) {
	for {
		i, n := 0, min(len(a.ids), len(b.ids))
		for i < n && a.ids[i] == b.ids[i] {
			d.m.match(int(a.at[i]), int(b.at[i]))
			i++
		}
		a, b = a.slice(i, len(a.ids)), b.slice(i, len(b.ids))
		x, y := len(a.ids), len(b.ids)
		for x > 0 && y > 0 && a.ids[x-1] == b.ids[y-1] {
			x, y = x-1, y-1
			d.m.match(int(a.at[x]), int(b.at[y]))
		}
		a, b = a.slice(0, x), b.slice(0, y)
		if x == 0 || y == 0 {
			return
		}
		x, y, ok := d.middle(a.ids, b.ids, space)
		if !ok {
			return
		}
		d.compare(a.slice(0, x), b.slice(0, y), space)
		a, b = a.slice(x, len(a.ids)), b.slice(y, len(b.ids))
	}
}

const unreached = -1 << 30

// middle is a point on a shortest path through the edit graph of a and b, about half-way, found by
// going forward from its begin and backward from its end in turn. The point is neither corner. It is
// false when the work allowed is done.
func (d *differ) middle(a, b, space []int32) (x, y int, ok bool) {
	n, m := int32(len(a)), int32(len(b))
	size := n + m + 3
	zero := m + 1 // index of diagonal 0: diagonals are -m-1 … n+1
	fwd, bwd := space[:size], space[size:2*size]
	for i := range fwd {
		fwd[i], bwd[i] = unreached, unreached
	}
	delta := n - m
	fwd[zero+1], bwd[zero+1] = 0, 0
	for step := int32(0); ; step++ {
		// Diagonals outside the graph are not walked.
		low, high := -step+2*max(0, step-m), step-2*max(0, step-n)
		if d.work -= int(high - low + 2); d.work < 0 {
			return 0, 0, false
		}
		for k := low; k <= high; k += 2 {
			x := farthest(fwd, zero+k, k, n, m, step == 0)
			if x < 0 {
				fwd[zero+k] = unreached
				continue
			}
			y := x - k
			from := x
			for x < n && y < m && a[x] == b[y] {
				x, y = x+1, y+1
			}
			d.work -= int(x - from)
			fwd[zero+k] = x
			if back := delta - k; delta&1 != 0 && back >= -(step-1) && back <= step-1 && back >= -m && back <= n && bwd[zero+back] >= n-x {
				return int(x), int(y), true
			}
		}
		for k := low; k <= high; k += 2 {
			x := farthest(bwd, zero+k, k, n, m, step == 0)
			if x < 0 {
				bwd[zero+k] = unreached
				continue
			}
			y := x - k
			from := x
			for x < n && y < m && a[n-1-x] == b[m-1-y] {
				x, y = x+1, y+1
			}
			d.work -= int(x - from)
			bwd[zero+k] = x
			if front := delta - k; delta&1 == 0 && front >= -step && front <= step && front >= -m && front <= n && fwd[zero+front] >= n-x {
				return int(n - x), int(m - y), true
			}
		}
	}
}

// farthest is the largest x on diagonal k that one more step from its neighbours reaches inside the
// graph, negative for none.
func farthest(v []int32, at, k, n, m int32, first bool) int32 {
	if first {
		return 0
	}
	x := int32(unreached)
	if down := v[at+1]; down >= 0 && down-k <= m {
		x = down
	}
	if right := v[at-1] + 1; right > x && right > 0 && right <= n {
		x = right
	}
	return x
}

// slide moves each run of lines that were only added, or only removed, as far down as it goes. A new
// function after another one is then seen to begin with its first line, not with the closing brace
// of the one before.
func (d *differ) slide() {
	d.slideSide(d.m.now, d.m.then, d.ids[0], d.ids[1], func(a, b int) { d.m.match(a, b) }, func(a, b int) { d.m.unmatch(a, b) })
	d.slideSide(d.m.then, d.m.now, d.ids[1], d.ids[0], func(a, b int) { d.m.match(b, a) }, func(a, b int) { d.m.unmatch(b, a) })
}

// slideSide slides the runs that only the second text has.
func (d *differ) slideSide(one, two, idsOne, idsTwo []int32, match, unmatch func(one, two int)) {
	end := d.start + len(idsTwo)
	for from := d.start; from < end; from++ {
		if two[from] != 0 {
			continue
		}
		to := from
		for to < end && two[to] == 0 {
			to++
		}
		before := 0 // the line of one after the counterpart of the line before the run
		if from > 0 {
			before = int(two[from-1])
		}
		for to < end && int(two[to])-1 == before && idsTwo[from-d.start] == idsTwo[to-d.start] {
			unmatch(before, to)
			match(before, from)
			from, to, before = from+1, to+1, before+1
		}
		from = to - 1
	}
}

// dropStray takes back matches of blank lines and braces that stand alone between replaced lines on
// both sides: nothing says that they are the same.
func (d *differ) dropStray() {
	now, then := d.m.now, d.m.then
	end := d.start + len(d.ids[0])
	for from := d.start; from < end; from++ {
		if now[from] == 0 {
			continue
		}
		to, trivial := from, true
		for to < end && now[to] != 0 && now[to] == now[from]+int32(to-from) {
			trivial = trivial && d.keys[d.ids[0][to-d.start]].trivial
			to++
		}
		first, after := int(now[from])-1, int(now[from])-1+to-from
		if trivial && from > 0 && to < len(now) && first > 0 && after < len(then) &&
			now[from-1] == 0 && then[first-1] == 0 && now[to] == 0 && then[after] == 0 {
			for i := from; i < to; i++ {
				d.m.unmatch(i, int(now[i])-1)
			}
		}
		from = to - 1
	}
}

// A moved block has at least this many lines, of which at least two are not trivial.
const minMoved = 3

// A block is lines that may have been moved: from in the recorded text, to in the present one.
type block struct{ from, to, lines int }

// matchMoved matches blocks that were cut and pasted elsewhere. Each holds a line that both texts
// have only once, and reaches as far to both sides as unmatched lines are the same.
func (d *differ) matchMoved() {
	now, then := d.m.now, d.m.then
	at := map[int32]int{} // id of a line found once, unmatched, in the present text → its index
	for j, id := range d.ids[1] {
		if k := &d.keys[id]; then[j+d.start] == 0 && !k.trivial && k.count == [2]int32{1, 1} {
			at[id] = j + d.start
		}
	}
	if len(at) == 0 {
		return
	}
	// The common beginning and end have the same lines in both texts.
	for i, line := range d.texts[0] {
		if i >= d.start && i < d.start+len(d.ids[0]) {
			continue
		}
		if id, ok := d.key(line, false); ok {
			delete(at, id)
		}
	}
	same := func(i, j int) bool {
		i, j = i-d.start, j-d.start
		return i >= 0 && j >= 0 && i < len(d.ids[0]) && j < len(d.ids[1]) &&
			now[i+d.start] == 0 && then[j+d.start] == 0 && d.ids[0][i] == d.ids[1][j]
	}
	grow := func(i, j int) (b block, ok bool) {
		b = block{i, j, 1}
		for same(b.from-1, b.to-1) {
			b.from, b.to, b.lines = b.from-1, b.to-1, b.lines+1
		}
		for same(b.from+b.lines, b.to+b.lines) {
			b.lines++
		}
		telling := 0
		for i := range b.lines {
			if !d.keys[d.ids[0][b.from+i-d.start]].trivial {
				telling++
			}
		}
		return b, b.lines >= minMoved && telling >= 2
	}
	var blocks []block
	for i := 0; i < len(d.ids[0]); i++ {
		j, ok := at[d.ids[0][i]]
		if !ok || now[i+d.start] != 0 {
			continue
		}
		b, ok := grow(i+d.start, j)
		if ok {
			blocks = append(blocks, b)
		}
		i = b.from + b.lines - 1 - d.start
	}
	slices.SortStableFunc(blocks, func(a, b block) int { return cmp.Compare(b.lines, a.lines) })
	for _, b := range blocks {
		// A longer block may have taken some of its lines.
		for i := b.from; i < b.from+b.lines; i++ {
			j := b.to + i - b.from
			if found, ok := at[d.ids[0][i-d.start]]; !ok || found != j || !same(i, j) {
				continue
			}
			rest, ok := grow(i, j)
			if !ok {
				continue
			}
			for n := range rest.lines {
				d.m.match(rest.from+n, rest.to+n)
				d.m.markMoved(rest.from + n)
			}
		}
	}
}
