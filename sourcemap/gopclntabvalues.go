package sourcemap

import "sort"

// A pcValues is a table that has a number for each instruction of a function: its line, for
// example. It is a sequence of pairs: the difference to the number before, which at first is -1
// (zigzag), and how many quanta of code the number holds for. It ends with a difference of zero that
// is not the first. Both are numbers of at most 32 bits, seven to the byte, least significant first,
// with the high bit set on all bytes but the last (golang.org/s/go12symtab; pcvalue and step in
// runtime/symtab.go).
//
// The tables of the largest functions have tens of thousands of pairs. What was read of them is
// kept, in memory that the next function reuses, so that looking up all addresses of a function in
// any order reads its tables once.
type pcValues struct {
	im      *image
	p       []byte // what to read next
	next    uint64 // address behind p
	quantum uint64
	entry   uint64 // where the function begins
	size    uint64 // its length: no table is read beyond that
	ends    []uint32
	vals    []int32 // vals[i] holds from ends[i-1] to ends[i], which are distances from entry
	done    bool    // the end of the table was read
}

// maxValues bounds the memory that a table takes. A function with so many pairs would have tens of
// megabytes of code.
const maxValues = 4 << 20

// open makes v the table of fn at offset off in pcs, where 0 stands for no table.
func (v *pcValues) open(c *goCode, off uint32, fn *goFunc) {
	v.im, v.quantum, v.entry, v.size = c.im, c.quantum, fn.entry, fn.end-fn.entry
	v.ends, v.vals = v.ends[:0], v.vals[:0]
	v.p, v.next = nil, c.pcs+uint64(off)
	v.done = off == 0 || uint64(off) >= c.pcsSize
}

// at is the number for the instruction at addr, or -1 where the table has none.
func (v *pcValues) at(addr uint64) int32 {
	if addr-v.entry >= v.size {
		return -1
	}
	off := uint32(addr - v.entry)
	n := len(v.ends)
	if n == 0 || v.ends[n-1] <= off {
		v.readTo(off)
		if n = len(v.ends); n == 0 || v.ends[n-1] <= off {
			return -1
		}
		return v.vals[n-1]
	}
	return v.vals[sort.Search(n, func(i int) bool { return v.ends[i] > off })]
}

// readTo reads on until the table covers off.
func (v *pcValues) readTo(off uint32) {
	val, end := int32(-1), uint64(0)
	if n := len(v.ends); n > 0 {
		val, end = v.vals[n-1], uint64(v.ends[n-1])
	}
	for !v.done && end <= uint64(off) {
		if len(v.ends) == maxValues {
			v.done = true
			return
		}
		diff, ok1 := v.varint()
		var length uint32
		ok2 := ok1 && (diff != 0 || len(v.ends) == 0)
		if ok2 {
			length, ok2 = v.varint()
		}
		end += uint64(length) * v.quantum
		if !ok2 || length == 0 || end > 1<<32-1 {
			v.done = true
			return
		}
		val += int32(-(diff & 1) ^ diff>>1)
		v.ends, v.vals = append(v.ends, uint32(end)), append(v.vals, val)
	}
}

func (v *pcValues) varint() (uint32, bool) {
	if len(v.p) > 0 && v.p[0] < 0x80 { // nearly all
		b := v.p[0]
		v.p = v.p[1:]
		return uint32(b), true
	}
	var n uint32
	for shift := 0; shift < 35; shift += 7 {
		if len(v.p) == 0 {
			if v.p = v.im.bytes(v.next); v.p == nil {
				return 0, false
			}
			v.next += uint64(len(v.p))
		}
		b := v.p[0]
		v.p = v.p[1:]
		n |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return n, true
		}
	}
	return 0, false
}
