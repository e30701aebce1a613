package store

// putStrings writes one string of each element of v: a column of numbers, 0 for a string that was
// not met before and n+1 for the n-th distinct one, and the distinct ones in order of appearance.
func putStrings[T any](e *encoder, v []T, of func(T) string) {
	if len(v) == 0 {
		return
	}
	e.cost += len(v) * (16 + 8)
	which := make([]uint64, len(v))
	known := make(map[string]int)
	var lengths []uint64
	var text []byte
	for i, x := range v {
		s := of(x)
		n, ok := known[s]
		if ok {
			which[i] = uint64(n) + 1
			continue
		}
		known[s] = len(lengths)
		lengths = append(lengths, uint64(len(s)))
		text = append(text, s...)
	}
	e.column(which)
	e.count(len(lengths), 16+8)
	e.column(lengths)
	e.bytes(text)
}

// strings reads n strings. They share one piece of memory.
func (d *decoder) strings(n int) []string {
	if n == 0 || d.err != nil {
		return nil
	}
	if d.budget -= n * (16 + 8); d.budget < 0 {
		d.fail("%d strings are more than a record of this length can hold", n)
		return nil
	}
	which := make([]uint64, n)
	d.column(which)
	distinct := make([]string, d.count(16+8))
	lengths := make([]uint64, len(distinct))
	d.column(lengths)
	text := string(d.bytes())
	if d.err != nil {
		return nil
	}
	for i, l := range lengths {
		if l > uint64(len(text)) {
			d.fail("string %d is longer than all strings", i)
			return nil
		}
		distinct[i], text = text[:l], text[l:]
	}
	if text != "" {
		d.fail("%d bytes belong to no string", len(text))
		return nil
	}
	out := make([]string, n)
	next := uint64(0)
	for i, x := range which {
		at := x - 1
		if x == 0 {
			at = next
			next++
		}
		if at >= uint64(len(distinct)) {
			d.fail("string %d of %d is wanted", at, len(distinct))
			return nil
		}
		out[i] = distinct[at]
	}
	return out
}
