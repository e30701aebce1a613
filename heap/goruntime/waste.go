package goruntime

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// A WasteKind says in which way memory holds nothing.
type WasteKind uint8

// The kinds of waste.
const (
	UnusedCapacity   WasteKind = iota // of slices: behind the length of the longest on an array
	FreeMapSlots                      // slots of maps with nothing in them
	DuplicateStrings                  // bytes of strings that are equal to another
	BoxedScalars                      // numbers that an interface or a pointer holds one by one
	Padding                           // between fields, and behind values in their slots
)

// A Waste is memory of one kind and cause that could be saved.
type Waste struct {
	Kind    WasteKind
	Type    uint32 // number of the type of the objects
	What    string // the text of duplicate strings, cut
	Count   int64  // objects
	Bytes   int64  // that hold nothing
	Of      int64  // that these objects take
	Example uint32 // one of them, from 1
}

const (
	minWaste  = 1 << 10 // bytes: less is not worth a word
	maxWaste  = 100     // of each kind, the largest
	maxText   = 80      // bytes of a duplicate string that are shown
	maxString = 1 << 20 // bytes of a string that is compared
	tinySlot  = 16      // slots that several small values without pointers share (gc.TinySize)
	maxTables = 1 << 16 // of a map that are looked at
)

// A waster is one goroutine's part of the search.
type waster struct {
	h      *Heap
	s      *slots
	ts     *typeTable
	all    []*typeInfo
	types  *typer // for what interfaces hold
	seed   maphash.Seed
	extent *extents
	text   []stringAt
	sums   [5]map[uint32]*Waste // by kind, then by type's id·2, and one more for arrays
	tables map[uint64]bool
}

// Extents are, by slot, how far an object is used and how far it could be by what refers to it. Of tiny
// slots, used has a bit for each byte where a value begins.
type extents struct{ used, room []uint32 }

type stringAt struct {
	hash, at uint64
	n        uint32
}

// findWaste looks through all objects whose types are known.
func (h *Heap) findWaste() {
	e := &extents{make([]uint32, h.s.count), make([]uint32, h.s.count)}
	seed := maphash.MakeSeed()
	var parts [2]waster
	var wg sync.WaitGroup
	for i := range parts {
		w := &parts[i]
		*w = waster{h: h, s: h.s, ts: h.ts, all: *h.ts.all.Load(), types: h.t.workers[i], seed: seed, extent: e, tables: map[uint64]bool{}}
		for k := range w.sums {
			w.sums[k] = map[uint32]*Waste{}
		}
		wg.Go(func() {
			for k := len(h.s.spans) * i / 2; k < len(h.s.spans)*(i+1)/2 && h.t.ctx.Err() == nil; k++ {
				w.span(&h.s.spans[k])
			}
		})
	}
	wg.Wait()
	parts[0].capacity()
	for k := range parts[0].sums {
		for id, x := range parts[1].sums[k] {
			y := parts[0].sum(WasteKind(k), id)
			y.Count, y.Bytes, y.Of = y.Count+x.Count, y.Bytes+x.Bytes, y.Of+x.Of
			if y.Example == 0 {
				y.Example = x.Example
			}
		}
		var all []Waste
		for id, x := range parts[0].sums[k] {
			x.Kind, x.Type = WasteKind(k), id
			all = append(all, *x)
		}
		h.addWaste(all)
	}
	h.addWaste(duplicates(h, append(parts[0].text, parts[1].text...)))
}

// addWaste keeps the largest of one kind. Types are ids until nameTypes has numbered them.
func (h *Heap) addWaste(all []Waste) {
	all = slices.DeleteFunc(all, func(w Waste) bool { return w.Bytes < minWaste })
	slices.SortFunc(all, func(a, b Waste) int {
		return cmp.Or(-cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Type, b.Type), strings.Compare(a.What, b.What))
	})
	h.Waste = append(h.Waste, all[:min(len(all), maxWaste)]...)
}

func (w *waster) sum(kind WasteKind, id uint32) *Waste {
	x := w.sums[kind][id]
	if x == nil {
		x = &Waste{}
		w.sums[kind][id] = x
	}
	return x
}

func (w *waster) add(kind WasteKind, id, slot uint32, bytes, of uint64) {
	x := w.sum(kind, id)
	if x.Example == 0 && bytes > 0 {
		x.Example = w.s.number(slot) + 1
	}
	x.Count, x.Bytes, x.Of = x.Count+1, x.Bytes+int64(bytes), x.Of+int64(of)
}

// span looks at the objects of one span.
func (w *waster) span(sp *slotSpan) {
	for i := range sp.count {
		slot := sp.first + i
		v := w.h.t.of[slot]
		if v == 0 || !w.s.has(slot) || v>>sureShift < sureFull {
			continue
		}
		t := w.all[v&typeBits]
		p := t.program.Load()
		if p == nil || p.size == 0 || p.opaque || t.data {
			continue
		}
		if sp.data == nil {
			continue
		}
		b := sp.data[uint64(i)*sp.elem+uint64(sp.header) : uint64(i+1)*sp.elem]
		n := uint64(1)
		if v&arrayBit != 0 {
			n = uint64(len(b)) / p.size
		}
		id := v&typeBits*2 + v&arrayBit/arrayBit
		lost := p.padding * n
		if v&arrayBit == 0 && uint64(len(b)) > p.size {
			lost += uint64(len(b)) - p.size
		}
		if t.rule == ruleNone && lost > 0 && (sp.elem > tinySlot || !sp.noPointers) {
			w.add(Padding, id, slot, lost, sp.elem)
		}
		if len(p.ops) == 0 {
			continue
		}
		for range n {
			w.value(p, b, id, slot)
			b = b[p.size:]
		}
	}
}

// value looks at the strings, slices, maps and boxes of one value.
func (w *waster) value(p *program, b []byte, id, slot uint32) {
	word := func(at uint32) uint64 {
		if uint64(at)+8 > uint64(len(b)) {
			return 0
		}
		return binary.LittleEndian.Uint64(b[at:])
	}
	for i := range p.ops {
		o := &p.ops[i]
		v := word(o.off)
		switch {
		case o.kind == opRepeat:
			inner := w.ts.compile(o.to)
			for k := range uint64(o.aux) {
				at := uint64(o.off) + k*inner.size
				if inner.size == 0 || at+inner.size > uint64(len(b)) {
					break
				}
				w.value(inner, b[at:], id, slot)
			}
		case v == 0:
		case o.kind == opString:
			w.string(v, word(o.off+8))
		case o.kind == opSlice:
			w.slice(v, o.to.size, word(o.off+8), word(o.off+16))
		case o.kind == opIface, o.kind == opEface:
			d, known := w.types.ifaces[v]
			if !known {
				d = w.types.dynamic(v, o.kind == opIface)
			}
			if d.t != nil && !d.direct {
				w.box(d.t, word(o.off+8))
			}
		case o.kind == opPointer:
			w.box(o.to, v)
		case o.kind == opSwiss && i == 0:
			w.swiss(o, v, word(o.aux), word(uint32(w.h.r.layout["maps.Map.used"].Offset)), id, slot)
		case o.kind == opArray && i == 0 && w.h.r.layout.has("hmap.B", "hmap.count"):
			l := w.h.r.layout
			if at := l["hmap.B"].Offset; at < uint64(len(b)) && b[at] < 40 && o.to.size > 16 {
				total, used := uint64(8)<<b[at], word(uint32(l["hmap.count"].Offset))
				w.slots(id, slot, total, used, (o.to.size-16)/8)
			}
		}
	}
}

// slots counts the free ones of a map.
func (w *waster) slots(id, slot uint32, total, used, size uint64) {
	if total > used && total < 1<<32 {
		w.add(FreeMapSlots, id, slot, (total-used)*size, total*size)
	}
}

// swiss counts the slots of a map of go1.24 or later.
func (w *waster) swiss(o *op, dir, n, used uint64, id, slot uint32) {
	if o.other == nil || o.other.size < 16 {
		return
	}
	size := (o.other.size - 8) / 8
	if n == 0 {
		w.slots(id, slot, 8, used, size)
		return
	}
	capacity, ok := w.h.r.layout["maps.table.capacity"]
	sp, target, found := w.s.slotAt(dir)
	if !ok || !found {
		return
	}
	clear(w.tables)
	total := uint64(0)
	from := dir - sp.start
	end := min(uint64(target-sp.first+1)*sp.elem, from+8*min(n, maxTables))
	for at := from; at+8 <= end; at += 8 {
		table := binary.LittleEndian.Uint64(sp.data[at:])
		if w.tables[table] {
			continue
		}
		w.tables[table] = true
		if tsp, _, ok := w.s.slotAt(table); ok {
			if at := table - tsp.start + capacity.Offset; at+2 <= uint64(len(tsp.data)) {
				total += uint64(binary.LittleEndian.Uint16(tsp.data[at:]))
			}
		}
	}
	w.slots(id, slot, total, used, size)
}

// tiny says whether values share the slots of a span.
func (sp *slotSpan) tiny() bool { return sp.noPointers && sp.elem == tinySlot }

// begin notes that a value begins at an address in a tiny slot; false if it is known already.
func (w *waster) begin(slot uint32, off uint64) bool {
	bit := uint32(1) << (off & 15)
	return atomic.OrUint32(&w.extent.used[slot], bit)&bit == 0
}

// string notes the text of a string, once for each place in memory.
func (w *waster) string(at, n uint64) {
	sp, slot, ok := w.s.slotAt(at)
	if !ok || n == 0 || n > maxString {
		return
	}
	off := at - sp.start
	rel := off - uint64(slot-sp.first)*sp.elem
	if rel+n > sp.elem || off+n > uint64(len(sp.data)) {
		return
	}
	switch {
	case sp.tiny():
		if !w.begin(slot, rel) {
			return
		}
	case rel != 0 || !atomic.CompareAndSwapUint32(&w.extent.used[slot], 0, uint32(n)):
		return
	}
	w.text = append(w.text, stringAt{maphash.Bytes(w.seed, sp.data[off:off+n]), at, uint32(n)})
}

// slice notes how far an array is used.
func (w *waster) slice(at, size, n, room uint64) {
	sp, slot, ok := w.s.slotAt(at)
	if !ok || sp.tiny() || room == 0 || n > room || size == 0 || room > sp.elem/size {
		return
	}
	rel := at - sp.start - uint64(slot-sp.first)*sp.elem - uint64(sp.header)
	if rel > sp.elem || rel+room*size > sp.elem || sp.elem >= 1<<32 {
		return
	}
	most(&w.extent.used[slot], uint32(rel+n*size))
	most(&w.extent.room[slot], uint32(rel+room*size))
}

func most(to *uint32, v uint32) {
	for old := atomic.LoadUint32(to); old < v && !atomic.CompareAndSwapUint32(to, old, v); {
		old = atomic.LoadUint32(to)
	}
}

// box counts a number that something points to.
func (w *waster) box(t *typeInfo, at uint64) {
	if t.kind != kindScalar || t.goKind == 0 || t.goKind > 16 {
		return
	}
	sp, slot, ok := w.s.slotAt(at)
	if !ok || !sp.noPointers {
		return
	}
	off := at - sp.start - uint64(slot-sp.first)*sp.elem
	if (sp.tiny() || off == 0) && w.begin(slot, off) {
		w.add(BoxedScalars, t.id*2, slot, max(t.size, 8), max(t.size, 8))
	}
}

// capacity sums up what slices have left over.
func (w *waster) capacity() {
	for i := range w.s.spans {
		sp := &w.s.spans[i]
		for k := range sp.count {
			slot := sp.first + k
			used, room := w.extent.used[slot], w.extent.room[slot]
			if v := w.h.t.of[slot]; room > used && v != 0 {
				w.add(UnusedCapacity, v&typeBits*2+v&arrayBit/arrayBit, slot, uint64(room-used), sp.elem)
			}
		}
	}
}

// duplicates groups equal strings. Most are like no other: two bits for each find those that may be.
func duplicates(h *Heap, all []stringAt) []Waste {
	size := uint64(1024)
	for size < 16*uint64(len(all)) {
		size *= 2
	}
	once, twice := make([]uint64, size/64), make([]uint64, size/64)
	for _, x := range all {
		i, bit := x.hash%size/64, uint64(1)<<(x.hash%64)
		twice[i] |= once[i] & bit
		once[i] |= bit
	}
	type group struct {
		first stringAt
		n     int64
	}
	groups := map[uint64]*group{}
	for _, x := range all {
		if twice[x.hash%size/64]>>(x.hash%64)&1 == 0 {
			continue
		}
		if g := groups[x.hash]; g != nil {
			g.n++
		} else {
			groups[x.hash] = &group{x, 1}
		}
	}
	var found []Waste
	for _, g := range groups {
		if g.n < 2 {
			continue
		}
		sp, slot, _ := h.s.slotAt(g.first.at)
		one := int64(sp.elem)
		if sp.tiny() {
			one = int64(g.first.n)
		}
		off := g.first.at - sp.start
		found = append(found, Waste{Kind: DuplicateStrings, Type: h.ts.text.id*2 + 1, What: cut(sp.data[off : off+uint64(g.first.n)]),
			Count: g.n, Bytes: (g.n - 1) * one, Of: g.n * one, Example: h.s.number(slot) + 1})
	}
	return found
}

// cut is a text as a line shows it.
func cut(b []byte) string {
	s := string(b[:min(len(b), maxText)])
	for len(b) > maxText && len(s) > 0 && !utf8.ValidString(s) && len(s) > maxText-utf8.UTFMax {
		s = s[:len(s)-1]
	}
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(b) > maxText {
		s += "…"
	}
	return s
}
