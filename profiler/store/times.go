package store

import "time"

// Times of samples are nearly all noise, so this is where bytes are won. Each processor has its own
// timer, which fires every period and a little jitter; a capture is the merge of those. Neither a
// sample's processor nor the number of processors is in the capture, so the encoder finds lanes by
// itself: a time belongs to the lane whose last time, plus the period, comes closest. What is
// stored is which lane, counted from the one that was last (on N busy processors nearly always
// N-1), and how far off the guess was.
//
// A lane that stays away is not closed; its next guess is only a bad one.

// maxLanes bounds the search of the encoder, not the number of processors: with more of them the
// guesses get worse, not wrong.
const maxLanes = 64

// lanes guesses times; the encoder and the decoder drive it alike.
type lanes struct {
	period uint64
	last   []uint64 // last time of each lane, in order of those times' places in the column
}

// guess is what the next time would be if it came on time in the lane that is i lanes before the
// last one. i may be len(last): a lane that begins, guessed at the newest time of all.
func (l *lanes) guess(i int) uint64 {
	n := len(l.last)
	switch {
	case i < n:
		return l.last[n-1-i] + l.period
	case n > 0:
		return l.last[n-1]
	}
	return 0
}

// see makes lane i the last one, with time t.
func (l *lanes) see(i int, t uint64) {
	n := len(l.last)
	if i == n {
		l.last = append(l.last, t)
		return
	}
	copy(l.last[n-1-i:], l.last[n-i:])
	l.last[n-1] = t
}

// lanesOf is times told by at most limit lanes: which lane each is in, and how far off the guess was.
func lanesOf(times []time.Duration, period uint64, limit int) (which, off []uint64) {
	l := lanes{period: period}
	which = make([]uint64, len(times))
	off = make([]uint64, len(times))
	for i, d := range times {
		t := uint64(d)
		best, bestOff := 0, ^uint64(0)
		for j := range l.last {
			o := zigzag(int64(t - l.guess(j)))
			if o < bestOff {
				best, bestOff = j, o
			}
			if o < period/4 { // an eighth: the timer's, and only late
				break
			}
		}
		// Half a period is the worst guess for a lane that ticks; more is another lane.
		if n := len(l.last); n == 0 || n < limit && bestOff > period {
			best, bestOff = n, zigzag(int64(t-l.guess(n)))
		}
		which[i], off[i] = uint64(best), bestOff
		l.see(best, t)
	}
	return which, off
}

// times writes times, which are in order, by lanes with the period of the timer, or where that
// takes more, as differences: one lane without a period.
func (e *encoder) times(times []time.Duration, period int64) {
	limit := 1
	which, off := lanesOf(times, 0, 1)
	if period > 0 && len(times) > 1 {
		w, o := lanesOf(times, uint64(period), maxLanes)
		if changesCost(w)+slotsCost(o) < slotsCost(off) {
			which, off, limit = w, o, maxLanes
		}
	}
	if limit == 1 {
		period = 0
	}
	e.uint(uint64(limit))
	e.uint(uint64(period))
	e.column(which)
	e.column(off)
}

// changesCost is about how many bits v takes if it mostly goes on as it was.
func changesCost(v []uint64) float64 {
	changes := 0
	for i := 1; i < len(v); i++ {
		if v[i] != v[i-1] {
			changes++
		}
	}
	const value = 6 // bits to say what it changes to
	return entropy([]int{changes, len(v) - changes}) + value*float64(changes)
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
