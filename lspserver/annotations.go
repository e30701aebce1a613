package lspserver

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// placed is what a capture says of one version of a document: its numbers on the lines where the
// code they were measured on is now. It never changes.
type placed struct {
	file      *file
	lines     []placedLine     // by now
	functions []placedFunction // by now, then hottest first
	measured  int              // lines that had a number when it was recorded
	lost      int              // of them, those that were changed or removed since
	edited    int              // lines edited since, as a person counts
	certain   bool             // the source was recorded, so drift is known
	mostSelf  int64            // largest weight of one line by itself
	mostTotal int64            // and with all it calls
}

type placedLine struct {
	view.Line     // as recorded
	now       int // 0-based line of the document
}

type placedFunction struct {
	function     // as recorded
	now      int // 0-based line of the document
}

// stale says that so much has changed that the numbers say nothing about this text.
func (p *placed) stale() bool { return 2*p.lost > p.measured }

// annotations are the numbers to show for a document; nil where there are none.
func (s *server) annotations(d *document) *placed {
	if d == nil || d.unknown {
		return nil
	}
	f := s.fileOf(d)
	if f == nil {
		return nil
	}
	if p := d.placed.Load(); p != nil && p.file == f {
		return p
	}
	p := place(f, d)
	d.placed.Store(p)
	return p
}

// place puts a file's numbers on the lines of a document. A line that was changed loses its number,
// one that was only moved keeps it.
func place(f *file, d *document) *placed {
	text := d.text
	p := &placed{file: f, measured: len(f.lines), certain: true}
	at := func(recorded int) (int, bool) { return recorded, true }
	if recorded, certain := f.baseline(); recorded != nil {
		m := d.history.lineMap(f, recorded, []byte(text.String()))
		at, p.edited, p.certain = m.Now, m.Edited(), certain
	} else {
		p.certain = false
	}
	lineOf := protocolLines(text)
	p.lines = make([]placedLine, 0, len(f.lines))
	for _, l := range f.lines {
		n, ok := at(l.Line)
		if ok {
			n, ok = lineOf(n)
		}
		if !ok {
			p.lost++
			continue
		}
		p.lines = append(p.lines, placedLine{l, n})
		p.mostSelf = max(p.mostSelf, l.Self.Weight)
		p.mostTotal = max(p.mostTotal, l.Total.Weight)
	}
	slices.SortFunc(p.lines, func(a, b placedLine) int { return cmp.Compare(a.now, b.now) })
	for _, fn := range f.functions {
		n, ok := at(fn.Line)
		if ok {
			n, ok = lineOf(n)
		}
		if ok {
			p.functions = append(p.functions, placedFunction{fn, n})
		}
	}
	slices.SortStableFunc(p.functions, func(a, b placedFunction) int { return cmp.Compare(a.now, b.now) })
	return p
}

// protocolLines turns a line as compilers count them, from 1 and ended by "\n" alone, into one as
// the protocol does, from 0 and ended by a lone "\r" too. It answers false for a line that the text
// does not have.
func protocolLines(t *rpc.Text) func(int) (int, bool) {
	s := t.String()
	if t.Lines() == strings.Count(s, "\n")+1 {
		return func(n int) (int, bool) { return n - 1, n >= 1 && n <= t.Lines() }
	}
	starts := []int{0}
	for at := 0; ; {
		i := strings.IndexByte(s[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		starts = append(starts, at)
	}
	return func(n int) (int, bool) {
		if n < 1 || n > len(starts) {
			return 0, false
		}
		return int(t.Position(rpc.UTF8, starts[n-1]).Line), true
	}
}

// cost is a line's or function's weight by the metric.
func (m metric) cost(self, total profile.Measure) profile.Measure {
	if m.Measure == measureSelf {
		return self
	}
	return total
}

// over says whether a weight reaches a threshold, in percent of the whole profile.
func (l *loaded) over(weight int64, threshold float64) bool {
	return weight > 0 && 100*float64(weight) >= threshold*float64(l.total.Weight)
}

// words writes a weight as the metric wants it: "34.1% · 1.2 s".
func (l *loaded) words(weight int64, form string) string {
	return costWords(weight, l.total.Weight, l.profile.Unit, form)
}

func costWords(weight, whole int64, unit profile.Unit, form string) string {
	switch form {
	case formPercent:
		return Percent(weight, whole)
	case formTime:
		return Weight(weight, unit)
	}
	return Percent(weight, whole) + " · " + Weight(weight, unit)
}

// on is the number on a 0-based line of the document, or nil.
func (p *placed) on(line int) *placedLine {
	i, ok := slices.BinarySearchFunc(p.lines, line, func(l placedLine, n int) int { return cmp.Compare(l.now, n) })
	if !ok {
		return nil
	}
	return &p.lines[i]
}

// within is the numbers on the lines [from, to].
func (p *placed) within(from, to int) []placedLine {
	find := func(line int) int {
		i, _ := slices.BinarySearchFunc(p.lines, line, func(l placedLine, n int) int { return cmp.Compare(l.now, n) })
		return i
	}
	lo, hi := find(from), find(to+1)
	if lo > hi {
		return nil
	}
	return p.lines[lo:hi]
}
