package view

import (
	"context"
	"math"
)

// buckets is how many characters the When column has, and the Which column at most.
const buckets = 32

// A timeBounds is the earliest and the latest time of the selected samples whose stack begins with that
// at a position, in ms; NaN where there are none.
type timeBounds struct{ first, last []float64 }

func (s *Selection) timeBounds() *timeBounds {
	n := len(s.node)
	b := &timeBounds{make([]float64, n), make([]float64, n)}
	for i := range n {
		b.first[i], b.last[i] = math.Inf(1), math.Inf(-1)
	}
	sc := s.scale()
	for part := range s.src.parts {
		s.samples(context.Background(), part, func(_ int, at uint32, time, weight, _ float64) {
			b.first[at] = min(b.first[at], time)
			b.last[at] = max(b.last[at], sc.until(time, weight))
		})
	}
	for i := n - 1; i > 0; i-- {
		up := s.src.parent[i]
		b.first[up] = min(b.first[up], b.first[i])
		b.last[up] = max(b.last[up], b.last[i])
	}
	return b
}

// scales are the When column's buckets and what 100 % of When and Which is.
type scales struct {
	start, end  float64 // the range as a person has it, ms
	begin, over float64 // the same, widened
	width       float64 // of a bucket, ms
	when, which float64 // in the profiles' unit
	root        []float64
	ms          float64 // of one unit of weight where it is a duration; else 0
	compat      bool
}

// until is the end of a sample: its time, or for a duration when it is over, within the range.
func (sc *scales) until(time, weight float64) float64 {
	return max(time, min(time+math.Abs(weight)*sc.ms, sc.over))
}

func (s *Selection) scales() *scales {
	sc := &scales{start: s.c.Start, end: s.c.End, compat: s.c.Compat}
	if s.c.Weights == Interval {
		sc.ms = s.src.ms
	}
	if sc.end == 0 {
		sc.end = max(s.src.length, sc.start)
		if s.c.Weights == Interval {
			for i := range s.src.parts {
				x := &s.src.parts[i]
				for k, t := range x.samples.Time {
					sc.end = max(sc.end, float64(t-x.shift)/1e6+math.Abs(x.scale*float64(x.samples.Weight[k]))*s.src.ms)
				}
			}
		}
	}
	sc.begin, sc.over = sc.start-slack, sc.end+slack
	sc.width = (sc.over - sc.begin) / buckets
	sc.root = make([]float64, buckets+len(s.src.scenarios))
	spreader := spreader{sc}
	for part := range s.src.parts {
		scenario := buckets + s.src.parts[part].scenario
		s.samples(context.Background(), part, func(_ int, _ uint32, time, weight, _ float64) {
			spreader.add(sc.root[:buckets], time, weight)
			if scenario < len(sc.root) {
				sc.root[scenario] += weight
			}
		})
	}
	for _, w := range sc.root[buckets:] {
		sc.which = max(sc.which, math.Abs(w)/2)
	}
	switch {
	case s.c.Weights != Interval:
		for _, w := range sc.root[:buckets] {
			sc.when = max(sc.when, math.Abs(w)/2)
		}
	case s.c.Compat || sc.end == sc.start:
		sc.when = sc.width / s.src.ms
	default:
		sc.when = (sc.end - sc.start) / buckets / s.src.ms
	}
	return sc
}

// Range is the time that the When column shows, in milliseconds.
func (s *Selection) Range() (start, end float64) {
	sc := s.scale()
	return sc.start, sc.end
}

// A spreader puts weights into buckets.
type spreader struct{ *scales }

// add adds a sample to the buckets it is in, and tells the first and the last of these.
func (s *spreader) add(to []float64, time, weight float64) (from, last int) {
	n := len(to)
	width := (s.over - s.begin) / float64(n)
	from = min(max(0, int((time-s.begin)/width)), n-1)
	if s.ms == 0 {
		to[from] += weight
		return from, from
	}
	span := math.Abs(weight) * s.ms
	if span == 0 || time > s.over {
		return from, from
	}
	until := time + span
	for last = from; ; last++ {
		edge := s.begin + float64(last+1)*width
		part := min(edge, until) - max(time, edge-width)
		if part > 0 {
			to[last] += weight * (part / span)
		}
		if last == n-1 || until <= edge {
			return from, last
		}
	}
}

// columns are those of c that can be computed: without times there is no When.
func (s *Selection) columns(c Columns) Columns {
	if !s.src.timed && !s.c.Compat {
		c &^= Times | When
	}
	return c
}

// prepare computes what all rows of some columns need, each part on its own processor. The order is nil
// where no column needs it.
func (s *Selection) prepare(c Columns) (order *sampleOrder) {
	if c == NoColumns {
		return nil
	}
	s.scale()
	each(2, func(k int) {
		switch {
		case k == 0 && c&Times != 0:
			s.times()
		case k == 1 && c&(When|Which) != 0:
			order = s.sampleOrder()
		}
	})
	return order
}

// sampleOrder is the selected samples by position: those of position i are of[begin[i]:begin[i+1]]. It
// is as large as the samples themselves, so it lives no longer than the view that needs it.
type sampleOrder struct {
	begin []uint32
	of    []drawn
}

type drawn struct {
	time   float64 // ms
	weight float64 // in the profiles' unit
}

func (s *Selection) sampleOrder() *sampleOrder {
	o := &sampleOrder{begin: make([]uint32, len(s.node)+2)}
	bounded := s.c.bounds().bounded
	for part := range s.src.parts {
		if bounded {
			s.samples(context.Background(), part, func(_ int, at uint32, _, _, _ float64) { o.begin[at+2]++ })
			continue
		}
		x := &s.src.parts[part]
		for _, id := range x.samples.Stack {
			if at := x.at[id]; s.flags[at]&kept != 0 && s.included(part) {
				o.begin[at+2]++
			}
		}
	}
	for i := range s.node {
		o.begin[i+2] += o.begin[i+1]
	}
	o.of = make([]drawn, o.begin[len(s.node)+1])
	for part := range s.src.parts {
		s.samples(context.Background(), part, func(_ int, at uint32, time, weight, _ float64) {
			next := &o.begin[at+1]
			o.of[*next] = drawn{time, weight}
			*next++
		})
	}
	return o
}

// A spreadRow is the weight of a set of samples per bucket and, behind these, per scenario. Only from
// low to high is anything.
type spreadRow struct {
	sums      []float64
	low, high int
}

func (r *spreadRow) clear() {
	if r.low <= r.high {
		clear(r.sums[r.low : r.high+1])
	}
	r.low, r.high = len(r.sums), -1
}

func (r *spreadRow) add(x *spreadRow) {
	if x.low > x.high {
		return
	}
	to, from := r.sums[x.low:x.high+1], x.sums[x.low:x.high+1]
	for k, w := range from {
		to[k] += w
	}
	r.low, r.high = min(r.low, x.low), max(r.high, x.high)
}

// spread makes the row of each position, of the samples whose stack begins with its stack, and gives it
// to leave, callees before their callers. Part is what a position's own samples count for; nil is 1 for
// all. With a stop, samples below a node of that text do not count above it. No more rows exist at once
// than stacks are deep.
func (s *Selection) spread(c Columns, order *sampleOrder, part []float64, stop uint32, leave func(i uint32, r *spreadRow)) {
	src, sc := s.src, s.scale()
	sp := spreader{sc}
	size := buckets
	if c&Which != 0 {
		size += len(src.scenarios)
	}
	depth := make([]uint32, len(s.node))
	for i := 1; i < len(depth); i++ {
		depth[i] = depth[src.parent[i]] + 1
	}
	var rows []*spreadRow
	row := func(d uint32) *spreadRow {
		for int(d) >= len(rows) {
			r := &spreadRow{sums: make([]float64, size)}
			r.clear()
			rows = append(rows, r)
		}
		return rows[d]
	}
	var own spreadRow
	own.sums = make([]float64, size)
	own.clear()
	in := len(src.parts) - 1 // the part that the position is in
	for k := len(s.node) - 1; k >= 0; k-- {
		i := uint32(k)
		for in > 0 && i < src.parts[in].begin {
			in--
		}
		scenario := buckets + src.parts[in].scenario
		if s.flags[i]&hit == 0 {
			continue
		}
		r := row(depth[i])
		if mine := order.of[order.begin[i]:order.begin[i+1]]; len(mine) > 0 && (part == nil || part[i] != 0) {
			share := 1.0
			if part != nil {
				share = part[i]
			}
			for _, x := range mine {
				if c&When != 0 {
					if share == 1 {
						from, last := sp.add(r.sums[:buckets], x.time, x.weight)
						r.low, r.high = min(r.low, from), max(r.high, last)
					} else {
						// A part of a duration is a thinner one, not a shorter one.
						from, last := sp.add(own.sums[:buckets], x.time, x.weight)
						for b := from; b <= last; b++ {
							own.sums[b] *= share
						}
						own.low, own.high = from, last
						r.add(&own)
						own.clear()
					}
				}
				if scenario < size {
					r.sums[scenario] += x.weight * share
					r.low, r.high = min(r.low, scenario), max(r.high, scenario)
				}
			}
		}
		leave(i, r)
		if i > 0 && !(stop != 0 && s.text[i] == stop && s.begins(i)) {
			row(depth[i] - 1).add(r)
		}
		r.clear()
	}
}

// rowSums are the When and Which columns of many rows.
type rowSums struct {
	all  []float64
	size int
}

func (s *Selection) newSums(rows int, c Columns) *rowSums {
	size := buckets
	if c&Which != 0 {
		size += len(s.src.scenarios)
	}
	return &rowSums{make([]float64, rows*size), size}
}

func (x *rowSums) of(row int) []float64 { return x.all[row*x.size : (row+1)*x.size] }

func (x *rowSums) add(row int, r *spreadRow) {
	if r.low > r.high {
		return
	}
	to := x.of(row)
	for k := r.low; k <= r.high; k++ {
		to[k] += r.sums[k]
	}
}

// draw writes a row's When and Which columns.
func (s *Selection) draw(r *StackRow, sums []float64, c Columns) {
	sc := s.scale()
	if c&When != 0 {
		r.When = sc.draw(sums[:buckets])
	}
	if n := len(s.src.scenarios); c&Which != 0 && n > 0 {
		which := sums[buckets:]
		if list := s.c.Scenarios; list != nil {
			which = make([]float64, 0, len(list))
			for _, k := range list {
				which = append(which, sums[buckets+k])
			}
		}
		r.Which = draw(bin(which), sc.which)
	}
}

// bin averages values into as many as the Which column may have.
func bin(values []float64) []float64 {
	n := len(values)
	if n <= buckets {
		return values
	}
	to := make([]float64, buckets)
	for b := range to {
		from, until := b*n/buckets, (b+1)*n/buckets
		for _, v := range values[from:until] {
			to[b] += v / float64(until-from)
		}
	}
	return to
}

// draw draws buckets over the whole range. What lasts from the range's start or to its end does not reach
// into the slack, by which the outermost buckets are shorter; PerfView shows them as not full.
func (sc *scales) draw(sums []float64) string {
	text := draw(sums, sc.when)
	if edge := sc.when - slack/sc.ms; sc.ms != 0 && !sc.compat && edge > 0 {
		last := len(sums) - 1
		text = draw(sums[:1], edge) + text[1:last] + draw(sums[last:], edge)
	}
	return text
}

// draw is a character for each value.
func draw(values []float64, scale float64) string {
	text := make([]byte, len(values))
	for i, v := range values {
		text[i] = character(v, scale)
	}
	return string(text)
}

// character is the share of the scale that a value is: digits are tenths, letters what is beyond the
// whole, small letters what is negative.
func character(value, scale float64) byte {
	if value == 0 || scale == 0 {
		return '_'
	}
	r := value / scale
	if r >= 0.01 || r <= -0.1 {
		r += math.Copysign(1e-9, r) // what a sum of parts may lack of a whole
	}
	switch {
	case math.IsNaN(r):
		return '?'
	case r >= 3.5:
		return '*'
	case r >= 1:
		return byte('A' + min(24, tenths(r-1)))
	case r >= 0.1:
		return byte('0' + min(9, tenths(r)))
	case r >= 0.01:
		return '0'
	case r >= 0.001:
		return 'o'
	case r > 0:
		return '.'
	case r <= -2.5:
		return '@'
	}
	return byte('a' + min(24, tenths(-r)))
}

// tenths is how many whole tenths r has.
func tenths(r float64) int { return int(r*10 + 1e-9) }
