package store

import "time"

// Times of samples are nearly all noise, so this is where bytes are won. Each processor has its own
// timer, which fires every period and a little jitter; a capture is the merge of those. Neither a
// sample's processor nor the number of processors is in the capture, so the encoder finds lanes by
// itself: a time belongs to the lane whose last time, plus the period, comes closest. What is
// stored is which lane (counted from the one that has waited longest: nearly always 0) and how far
// off the guess was.
//
// A lane that stays away is not closed; its next guess is only a bad one.

// maxLanes bounds the search of the encoder, not the number of processors: with more of them the
// guesses get worse, not wrong.
const maxLanes = 64

// lanes guesses times; the encoder and the decoder drive it alike.
type lanes struct {
	period uint64
	last   []uint64 // last time of each lane, the one that has waited longest first
}

// guess is what the next time in lane i would be, if it came on time. i may be len(last): a
// lane that begins, guessed at the newest time of all.
func (l *lanes) guess(i int) uint64 {
	switch {
	case i < len(l.last):
		return l.last[i] + l.period
	case len(l.last) > 0:
		return l.last[len(l.last)-1]
	}
	return 0
}

// see moves lane i to the end, with time t.
func (l *lanes) see(i int, t uint64) {
	if i == len(l.last) {
		l.last = append(l.last, t)
		return
	}
	copy(l.last[i:], l.last[i+1:])
	l.last[len(l.last)-1] = t
}

// times writes a column of times with at most limit lanes.
func (e *encoder) timesIn(times []time.Duration, period uint64, limit int) {
	l := lanes{period: period}
	which := make([]uint64, len(times))
	off := make([]uint64, len(times))
	for i, d := range times {
		t := uint64(d)
		best, bestOff := 0, ^uint64(0)
		for j := range l.last {
			o := zigzag(int64(t - l.guess(j)))
			if o < bestOff {
				best, bestOff = j, o
			}
		}
		if n := len(l.last); n < limit {
			// Half a period is the worst guess for a lane that ticks; more is another lane.
			if n == 0 || bestOff > period {
				best, bestOff = n, zigzag(int64(t-l.guess(n)))
			}
		}
		which[i], off[i] = uint64(best), bestOff
		l.see(best, t)
	}
	e.uint(uint64(limit))
	e.uint(period)
	e.column(which)
	e.column(off)
}

// times writes times, which are in order, by the period that fits them best: 0 is the plain
// difference to the time before.
func (e *encoder) times(times []time.Duration, period int64) {
	var best *encoder
	try := func(period uint64, limit int) {
		t := &encoder{best: e.best}
		t.timesIn(times, period, limit)
		if best == nil || len(t.b) < len(best.b) {
			best = t
		}
	}
	try(0, 1)
	if period > 0 && len(times) > 1 {
		try(uint64(period), maxLanes)
	}
	e.b = append(e.b, best.b...)
}

// times fills out. Whether the times are in order is for Capture.Check to say.
func (d *decoder) times(out []time.Duration, scratch *[]uint64) {
	limit := d.uint()
	if limit == 0 || limit > maxLanes {
		d.fail("%d lanes of time are not possible", limit)
		return
	}
	l := lanes{period: d.uint()}
	n := len(out)
	*scratch = grow(*scratch, 2*n)
	which, off := (*scratch)[:n], (*scratch)[n:2*n]
	d.column(which)
	d.column(off)
	if d.err != nil {
		return
	}
	for i := range out {
		j := which[i]
		if j > uint64(len(l.last)) || j >= limit {
			d.fail("sample %d has lane %d of %d", i, j, len(l.last))
			return
		}
		t := l.guess(int(j)) + uint64(unzigzag(off[i]))
		l.see(int(j), t)
		out[i] = time.Duration(t)
	}
}

// grow is a slice of n numbers, in s's memory where that is large enough. Its content is undefined.
func grow(s []uint64, n int) []uint64 {
	if cap(s) < n {
		return make([]uint64, n)
	}
	return s[:n]
}
