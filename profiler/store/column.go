package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// A column is n numbers of one meaning; n is known to the reader. It is stored by whichever of
// these methods comes out smallest, its first byte:
//
//	constant  one number, uvarint
//	varints   uvarints, compressed; good where values repeat in patterns
//	slots     each number's slot (its length in bits and the two bits after the leading one) as
//	          symbols, then the remaining bits as they are; good for noise such as the jitter of
//	          a timer, whose low bits no compressor gets smaller
//	ranked    up to 255 most frequent numbers are symbols; the others are a column of their own;
//	          good for a few hot stacks among many
//
// A slot is a byte: numbers below 4 are their own slot, longer ones (length-2)*4 + two bits, at
// most 251.
const (
	columnConstant = iota
	columnVarints
	columnSlots
	columnRanked
)

const rankedMax = 255 // the symbol that means "among the others"

// column writes v.
func (e *encoder) column(v []uint64) { e.columnOf(v, false) }

// ids writes v, which names entries of a table: some of them far more often than others.
func (e *encoder) ids(v []uint64) { e.columnOf(v, true) }

func (e *encoder) columnOf(v []uint64, ranked bool) {
	if len(v) == 0 {
		return
	}
	if !slices.ContainsFunc(v, func(x uint64) bool { return x != v[0] }) {
		e.byte(columnConstant)
		e.uint(v[0])
		return
	}
	// What slots and ranks will take can be told by counting. What repeats only the compressor
	// finds, so varints are tried: on a part first, since noise costs it most time.
	begin := len(e.b)
	r := ranking{cost: math.Inf(1)}
	if ranked {
		r = rank(v)
	}
	if r.cost < slotsCost(v) {
		e.ranked(v, r)
	} else {
		e.slots(v)
	}
	if e.varintsMayWin(v, len(e.b)-begin) {
		t := encoder{level: e.level}
		t.varints(v)
		if len(t.b) < len(e.b)-begin {
			e.b = append(e.b[:begin], t.b...)
		}
	}
}

// varintsMayWin tells whether v as varints may take less than size bytes.
func (e *encoder) varintsMayWin(v []uint64, size int) bool {
	const part = 4096
	if len(v) < 2*part {
		return true
	}
	var t encoder
	t.varints(v[len(v)/2:][:part])
	return float64(len(t.b)) < 1.25*float64(size)*part/float64(len(v))
}

// slotsCost is about how many bits the method slots takes for v.
func slotsCost(v []uint64) float64 {
	var counts [256]int
	bits := 0
	for _, x := range v {
		slot, low := slotOf(x)
		counts[slot]++
		bits += low
	}
	return float64(bits) + entropy(counts[:])
}

// entropy is how many bits a sequence takes whose symbols have these counts, if each is coded by
// itself.
func entropy(counts []int) float64 {
	n, sum := 0, 0.0
	for _, c := range counts {
		if c > 0 {
			n += c
			sum -= float64(c) * math.Log2(float64(c))
		}
	}
	if n == 0 {
		return 0
	}
	return sum + float64(n)*math.Log2(float64(n))
}

// A ranking is the most frequent numbers of a column.
type ranking struct {
	hot    []uint64 // ascending, at most rankedMax
	symbol []byte   // of each number: its place in hot, or rankedMax
	cost   float64  // about how many bits the column will take
}

// rank finds v's most frequent numbers, if its numbers are dense enough to be counted in a table.
// Otherwise the cost is infinite.
func rank(v []uint64) ranking {
	top := slices.Max(v)
	if top >= 4*uint64(len(v))+1<<12 {
		return ranking{cost: math.Inf(1)}
	}
	counts := make([]int32, top+1)
	for _, x := range v {
		counts[x]++
	}
	var all []uint64
	for x, n := range counts {
		if n > 1 {
			all = append(all, uint64(x))
		}
	}
	slices.SortFunc(all, func(a, b uint64) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	r := ranking{hot: all[:min(len(all), rankedMax)], symbol: bytes.Repeat([]byte{rankedMax}, len(counts))}
	slices.Sort(r.hot)
	symbols := make([]int, 0, len(r.hot)+1)
	for i, x := range r.hot {
		r.symbol[x] = byte(i)
		symbols = append(symbols, int(counts[x]))
	}
	var others []uint64
	for _, x := range v {
		if r.symbol[x] == rankedMax {
			others = append(others, x)
		}
	}
	const dictionary = 10 // bits for each
	r.cost = entropy(append(symbols, len(others))) + slotsCost(others) + dictionary*float64(len(r.hot))
	return r
}

func (e *encoder) varints(v []uint64) {
	raw := make([]byte, 0, 2*len(v))
	for _, x := range v {
		raw = binary.AppendUvarint(raw, x)
	}
	e.byte(columnVarints)
	e.uint(uint64(len(raw)))
	e.packed(raw)
}

func slotOf(v uint64) (slot byte, low int) {
	if v < 4 {
		return byte(v), 0
	}
	n := bitLen(v)
	return byte((n-2)<<2 | int(v>>(n-3)&3)), n - 3
}

func (e *encoder) slots(v []uint64) {
	slots := make([]byte, len(v))
	var w bitWriter
	for i, x := range v {
		slot, low := slotOf(x)
		slots[i] = slot
		w.write(x&(1<<low-1), low)
	}
	e.byte(columnSlots)
	e.symbols(slots)
	tail := w.close()
	e.uint(uint64(len(tail)))
	e.b = append(e.b, tail...)
}

func (e *encoder) ranked(v []uint64, r ranking) {
	e.byte(columnRanked)
	e.uint(uint64(len(r.hot)))
	last := uint64(0)
	for _, x := range r.hot {
		e.uint(x - last)
		last = x
	}
	symbols := make([]byte, len(v))
	var others []uint64
	for i, x := range v {
		symbols[i] = r.symbol[x]
		if symbols[i] == rankedMax {
			others = append(others, x)
		}
	}
	e.symbols(symbols)
	e.column(others)
}

// column fills v.
func (d *decoder) column(v []uint64) { d.columnOf(v, true) }

func (d *decoder) columnOf(v []uint64, ranked bool) {
	if len(v) == 0 {
		return
	}
	method := d.byte()
	if d.err != nil {
		return
	}
	switch {
	case method == columnConstant:
		x := d.uint()
		for i := range v {
			v[i] = x
		}
	case method == columnVarints:
		d.varints(v)
	case method == columnSlots:
		d.slots(v)
	case method == columnRanked && ranked:
		d.ranked(v)
	default:
		d.fail("no column has method %d", method)
	}
}

func (d *decoder) varints(v []uint64) {
	n := d.uint()
	if n > uint64(len(v))*binary.MaxVarintLen64 {
		d.fail("%d bytes are too many for %d numbers", n, len(v))
		return
	}
	raw := d.packed(int(n))
	if d.err != nil {
		return
	}
	for i := range v {
		if len(raw) > 0 && raw[0] < 0x80 {
			v[i], raw = uint64(raw[0]), raw[1:]
			continue
		}
		x, n := binary.Uvarint(raw)
		if n <= 0 {
			d.fail("column ends at number %d of %d", i, len(v))
			return
		}
		v[i], raw = x, raw[n:]
	}
	if len(raw) > 0 {
		d.fail("column has %d bytes more than its numbers", len(raw))
	}
}

func (d *decoder) slots(v []uint64) {
	slots := d.packed(len(v))
	r := bitReader{b: d.take(d.uint())}
	if d.err != nil {
		return
	}
	for i, slot := range slots {
		if slot < 4 {
			v[i] = uint64(slot)
			continue
		}
		if slot > 251 {
			d.fail("no number has slot %d", slot)
			return
		}
		low := int(slot>>2) - 1
		v[i] = (4|uint64(slot&3))<<low | r.read(low)
	}
	if !r.ended() {
		d.fail("the bits of a column do not fit its slots")
	}
}

func (d *decoder) ranked(v []uint64) {
	n := d.uint()
	if n > rankedMax {
		d.fail("%d ranked numbers are too many", n)
		return
	}
	var dict [rankedMax]uint64
	last := uint64(0)
	for i := range n {
		last += d.uint()
		dict[i] = last
	}
	symbols := d.packed(len(v))
	if d.err != nil {
		return
	}
	rest := 0
	for i, s := range symbols {
		switch {
		case s == rankedMax:
			rest++
		case uint64(s) >= n:
			d.fail("number %d has rank %d of %d", i, s, n)
			return
		default:
			v[i] = dict[s]
		}
	}
	if rest == 0 {
		return
	}
	others := make([]uint64, rest)
	d.columnOf(others, false)
	if d.err != nil {
		return
	}
	next := 0
	for i, s := range symbols {
		if s == rankedMax {
			v[i] = others[next]
			next++
		}
	}
}

// A bitWriter packs numbers of up to 61 bits, lowest bit first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   int // bits in acc, below 8 between calls
}

func (w *bitWriter) write(v uint64, n int) {
	if n > 32 {
		w.write(v&(1<<32-1), 32)
		v, n = v>>32, n-32
	}
	w.acc |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

func (w *bitWriter) close() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc))
	}
	return w.b
}

// A bitReader reads what a bitWriter wrote; past the end it reads zeros and remembers.
type bitReader struct {
	b    []byte
	acc  uint64
	n    int
	over bool
}

func (r *bitReader) read(n int) uint64 {
	if n > 32 {
		low := r.read(32)
		return low | r.read(n-32)<<32
	}
	for r.n < n {
		if len(r.b) >= 4 && r.n <= 32 {
			r.acc |= uint64(binary.LittleEndian.Uint32(r.b)) << r.n
			r.b, r.n = r.b[4:], r.n+32
			continue
		}
		if len(r.b) == 0 {
			r.over = true
			r.n = n
			break
		}
		r.acc |= uint64(r.b[0]) << r.n
		r.b, r.n = r.b[1:], r.n+8
	}
	v := r.acc & (1<<n - 1)
	r.acc >>= n
	r.n -= n
	return v
}

// ended says that exactly the bits that were written have been read.
func (r *bitReader) ended() bool { return !r.over && len(r.b) == 0 && r.n < 8 && r.acc == 0 }
