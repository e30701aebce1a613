package goruntime

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// How sure an object's type is: bits 29 to 31 of its entry in types.
const (
	sureNot     = iota // not known
	sureInside         // something points into the object as if to this type
	surePart           // something points to its beginning, but the type does not fill the slot
	sureFull           // … and it does
	sureExactly        // the allocator has written it down
)

const (
	sureShift = 29
	arrayBit  = 1 << 28 // as many values as fit, not one
	typeBits  = arrayBit - 1
)

// A typing gives objects their types: those that the allocator has noted, and from there and the roots
// what the types of fields say of what they point to.
type typing struct {
	s   *slots
	ts  *typeTable
	of  []uint32 // by slot: how sure, arrayBit, id
	ctx context.Context

	mu      sync.Mutex
	changed *sync.Cond
	pool    [][]uint32 // work for whoever is free
	idle    atomic.Int32
	workers [2]*typer

	contradicted atomic.Int64 // pointers whose type the collector's bitmap does not agree with
}

// A typer is one goroutine's part of a typing.
type typer struct {
	*typing
	work     []uint32 // slots whose values are to be looked at
	inside   []inside
	ifaces   map[uint64]dynamic   // by first word of an interface
	closures map[uint64]*typeInfo // by address of code
	masks    map[uint64]*mask     // by descriptor
	// outside is called for pointers to what is not in the heap.
	outside func(at uint64, t *typeInfo, n uint64, array bool)
}

// A dynamic type is what an interface holds.
type dynamic struct {
	t      *typeInfo
	direct bool // the data word is the value
}

// An inside is a pointer into an object whose own type is not known (yet).
type inside struct {
	at    uint64
	t     *typeInfo
	array bool
}

func newTyping(ctx context.Context, s *slots, ts *typeTable) *typing {
	t := &typing{s: s, ts: ts, of: make([]uint32, s.count), ctx: ctx}
	t.changed = sync.NewCond(&t.mu)
	for i := range t.workers {
		t.workers[i] = &typer{typing: t, ifaces: map[uint64]dynamic{}, closures: map[uint64]*typeInfo{}, masks: map[uint64]*mask{}}
	}
	return t
}

// point says that the word v is a pointer to a value of type info, or to n of them in a row.
func (w *typer) point(v uint64, info *typeInfo, n uint64, array bool) {
	sp := w.s.find(v)
	if sp == nil {
		if w.outside != nil && v != 0 && info != nil {
			w.outside(v, info, n, array)
		}
		return
	}
	off := v - sp.start
	i := sp.slot(off)
	if i >= sp.count || info == nil || info.size == 0 {
		return
	}
	slot := sp.first + i
	if !w.s.has(slot) {
		return
	}
	old := atomic.LoadUint32(&w.of[slot])
	if old>>sureShift >= sureFull {
		return
	}
	p := info.program.Load()
	if p == nil {
		p = w.ts.compile(info)
	}
	if sp.noPointers == p.pointers && !p.opaque {
		return
	}
	room := sp.elem - uint64(sp.header)
	rel := off - uint64(i)*sp.elem
	sure, size := uint32(surePart), info.size
	if rel != uint64(sp.header) {
		if old != 0 || rel < uint64(sp.header) {
			return
		}
		if !sp.noPointers {
			w.inside = append(w.inside, inside{v, info, array})
			return
		}
		sure = sureInside
	} else {
		if array {
			if n > room/size {
				n = room / size
			}
			size *= n
		}
		switch {
		case p.opaque:
			sure = sureFull
		case size > room:
			return
		case size > sp.full:
			sure = sureFull
		}
		if sp.bitmap != 0 && !p.opaque && !p.repeats && !w.agrees(sp, i, p, array) {
			w.contradicted.Add(1)
			return
		}
	}
	w.set(slot, old, sure, info, array)
}

// set gives an object a type, if it is surer than what is known.
func (w *typer) set(slot, old, sure uint32, info *typeInfo, array bool) {
	entry := sure<<sureShift | info.id&typeBits
	if array {
		entry |= arrayBit
	}
	for {
		if was := old >> sureShift; was > sure || was == sure && (array || (*w.ts.all.Load())[old&typeBits].size >= info.size) || old == entry {
			return
		}
		if atomic.CompareAndSwapUint32(&w.of[slot], old, entry) {
			break
		}
		old = atomic.LoadUint32(&w.of[slot])
	}
	if info.program.Load().pointers {
		w.work = append(w.work, slot)
	}
}

// bits are the collector's bits of a slot of at most 64 words.
func (sp *slotSpan) bits(i uint32) uint64 {
	word := uint64(i) * sp.elem / 8
	at, shift, n := sp.bitmap+word/64*8, word%64, sp.elem/8
	if at+8 > uint64(len(sp.data)) {
		return 0
	}
	m := binary.LittleEndian.Uint64(sp.data[at:]) >> shift
	if shift+n > 64 && at+16 <= uint64(len(sp.data)) {
		m |= binary.LittleEndian.Uint64(sp.data[at+8:]) << (64 - shift)
	}
	if n < 64 {
		m &= 1<<n - 1
	}
	return m
}

// agrees says whether a type has its pointers where the collector's bitmap has them.
func (w *typer) agrees(sp *slotSpan, i uint32, p *program, array bool) bool {
	if sp.elem > minHeader {
		return true
	}
	have := sp.bits(i)
	if !array {
		if words := p.size / 8; words < 64 {
			return have&(1<<words-1) == p.mask && p.mask != 0
		}
		return have == p.mask
	}
	words := p.size / 8
	if words == 0 {
		return false
	}
	all := p.mask
	if words >= 64 {
		return have == all
	}
	first := have&(1<<words-1) == p.mask
	for at := words; at < 64; at += words {
		all |= p.mask << at
	}
	return first && have&^all == 0
}

// headers notes the types that the allocator has written down, and puts their objects on the work list.
func (w *typer) headers(from, to int) {
	for k := from; k < to; k++ {
		sp := &w.s.spans[k]
		if sp.header == 0 && sp.large == 0 {
			continue
		}
		for i := range sp.count {
			slot := sp.first + i
			if !w.s.has(slot) {
				continue
			}
			m := w.maskOf(sp, i)
			if m == nil || m.t == nil || m.size == 0 || m.t.size != m.size {
				continue
			}
			room := sp.elem - uint64(sp.header)
			if m.size > room || m.t.kind == kindPointer && m.t.internal {
				continue
			}
			if p := w.ts.compile(m.t); p.pointers {
				entry := sureExactly<<sureShift | m.t.id&typeBits
				if m.size <= sp.full {
					entry |= arrayBit
				}
				atomic.StoreUint32(&w.of[slot], entry)
				w.work = append(w.work, slot)
			}
		}
	}
}

// maskOf is the collector's mask of an object with a header, or a large one; nil where there is none.
func (w *typer) maskOf(sp *slotSpan, i uint32) *mask {
	at := sp.large
	if sp.header != 0 {
		at = binary.LittleEndian.Uint64(sp.data[uint64(i)*sp.elem:])
	}
	if at == 0 {
		return nil
	}
	m, ok := w.masks[at]
	if !ok {
		m = w.ts.mask(at)
		if len(w.masks) > 1<<20 {
			clear(w.masks)
		}
		w.masks[at] = m
	}
	return m
}

// scan looks at the values of one object.
func (w *typer) scan(slot uint32, sp *slotSpan) {
	v := atomic.LoadUint32(&w.of[slot])
	info := (*w.ts.all.Load())[v&typeBits]
	p := w.ts.compile(info)
	at := uint64(slot-sp.first)*sp.elem + uint64(sp.header)
	end := uint64(slot-sp.first+1) * sp.elem
	b := sp.data[at:end]
	if v&arrayBit == 0 {
		w.values(p, b, 1)
		return
	}
	w.values(p, b, uint64(len(b))/max(p.size, 1))
}

// values looks at n values in a row.
func (w *typer) values(p *program, b []byte, n uint64) {
	for range n {
		if uint64(len(b)) < p.size {
			return
		}
		for i := range p.ops {
			w.op(&p.ops[i], b)
		}
		b = b[p.size:]
	}
}

// op follows one place of the value that b begins with.
func (w *typer) op(o *op, b []byte) {
	if uint64(o.off)+8 > uint64(len(b)) {
		return
	}
	v := binary.LittleEndian.Uint64(b[o.off:])
	if v == 0 && o.kind != opRepeat {
		return
	}
	word := func(at uint32) uint64 {
		if uint64(at)+8 > uint64(len(b)) {
			return 0
		}
		return binary.LittleEndian.Uint64(b[at:])
	}
	switch o.kind {
	case opPointer:
		w.point(v, o.to, 1, false)
	case opArray:
		w.point(v, o.to, 1<<40, true)
	case opString:
		if n := word(o.off + 8); n > 0 {
			w.point(v, o.to, n, true)
		}
	case opSlice:
		if n := word(o.off + 16); n > 0 {
			w.point(v, o.to, n, true)
		}
	case opIface, opEface, opReflected:
		if data := word(o.off + 8); data != 0 {
			d := w.dynamic(v, o.kind == opIface)
			if o.kind == opReflected {
				if d.direct = word(o.off+16)&(1<<7) == 0; d.direct && d.t != nil && d.t.kind != kindPointer {
					return
				}
			}
			w.dynamicValue(d, data)
		}
	case opFunc:
		w.closure(v)
	case opSwiss:
		if n := word(o.aux); n == 0 {
			w.point(v, o.other, 1, false)
		} else {
			w.point(v, o.to, n, true)
		}
	case opGroups:
		w.point(v, o.to, word(o.aux)+1, true)
	case opCounted:
		if n := word(o.aux); n > 0 && n < 1<<48 {
			w.point(v, o.to, n, true)
		}
	case opTrie:
		sp := w.s.find(v)
		if sp == nil {
			return
		}
		to := o.other
		if at := v - sp.start + uint64(o.aux); at < uint64(len(sp.data)) && sp.data[at] != 0 {
			to = o.to
		}
		w.point(v, to, 1, false)
	case opRepeat:
		w.values(w.ts.compile(o.to), b[o.off:], uint64(o.aux))
	}
}

// dynamic is the type that the first word of an interface stands for.
func (w *typer) dynamic(word uint64, itab bool) dynamic {
	d, ok := w.ifaces[word]
	if !ok {
		d = w.ts.dynamic(word, itab)
		if len(w.ifaces) > 1<<20 {
			clear(w.ifaces)
		}
		w.ifaces[word] = d
	}
	return d
}

func (ts *typeTable) dynamic(word uint64, itab bool) (d dynamic) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if itab {
		word, _ = ts.r.mem.uint(word+8, 8) // itab.Type, behind Inter
	}
	if head, ok := ts.descriptor(word); ok {
		d.t, d.direct = ts.fromDescriptor(word), head.direct
	}
	return d
}

// mask is maskOf, for any goroutine.
func (ts *typeTable) mask(at uint64) *mask {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.maskOf(at)
}

// dynamicValue follows the data word of an interface.
func (w *typer) dynamicValue(d dynamic, data uint64) {
	switch {
	case d.t == nil:
	case !d.direct:
		w.point(data, d.t, 1, false)
	default:
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], data)
		if p := w.ts.compile(d.t); len(p.ops) == 1 && p.ops[0].off == 0 {
			w.op(&p.ops[0], b[:])
		}
	}
}

// closure follows a function value: it points to a word with the address of the code, which what the
// function uses of its surroundings comes behind.
func (w *typer) closure(v uint64) {
	sp := w.s.find(v)
	if sp == nil {
		return // without surroundings it is in the program's data
	}
	at := v - sp.start
	if at+8 > uint64(len(sp.data)) || at%8 != 0 {
		return
	}
	pc := binary.LittleEndian.Uint64(sp.data[at:])
	t, ok := w.closures[pc]
	if !ok {
		t = w.ts.closure(pc)
		if len(w.closures) > 1<<20 {
			clear(w.closures)
		}
		w.closures[pc] = t
	}
	if t != nil {
		w.point(v, t, 1, false)
	}
}

// run works until nothing is left, with both typers.
func (t *typing) run() {
	var wg sync.WaitGroup
	t.idle.Store(0)
	for _, w := range t.workers {
		wg.Go(func() { w.loop() })
	}
	wg.Wait()
}

const (
	shareAbove = 2048
	shareSize  = 1024
)

func (w *typer) loop() {
	for steps := 0; ; steps++ {
		if steps%(1<<14) == 0 && w.ctx.Err() != nil {
			w.work = w.work[:0]
		}
		if len(w.work) == 0 && !w.take() {
			return
		}
		slot := w.work[len(w.work)-1]
		w.work = w.work[:len(w.work)-1]
		w.scan(slot, w.s.spanOf(slot))
		if len(w.work) > shareAbove && w.idle.Load() > 0 {
			w.mu.Lock()
			w.pool = append(w.pool, append([]uint32(nil), w.work[:shareSize]...))
			w.work = append(w.work[:0], w.work[shareSize:]...)
			w.changed.Signal()
			w.mu.Unlock()
		}
	}
}

// take waits for work of the other; false where there is none and will be none.
func (w *typer) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle.Add(1) == int32(len(w.workers)) && len(w.pool) == 0 {
		w.changed.Broadcast()
		return false
	}
	for len(w.pool) == 0 {
		if w.idle.Load() == int32(len(w.workers)) {
			w.changed.Broadcast()
			return false
		}
		w.changed.Wait()
	}
	w.idle.Add(-1)
	w.work = append(w.work, w.pool[len(w.pool)-1]...)
	w.pool = w.pool[:len(w.pool)-1]
	return true
}

// spanOf is the span of a slot.
func (s *slots) spanOf(slot uint32) *slotSpan {
	lo, hi := 0, len(s.spans)
	if c := s.hints; c != nil {
		lo, hi = int(c[slot>>hintShift]), int(c[slot>>hintShift+1])+1
	}
	for lo+1 < hi {
		if m := int(uint(lo+hi) / 2); s.spans[m].first <= slot {
			lo = m
		} else {
			hi = m
		}
	}
	return &s.spans[lo]
}

// settle gives types to objects that only pointers into them are known of, then goes on from there.
func (t *typing) settle() {
	for range 8 {
		var all []inside
		for _, w := range t.workers {
			all, w.inside = append(all, w.inside...), nil
		}
		if len(all) == 0 {
			return
		}
		w := t.workers[0]
		seen := map[inside]bool{}
		for _, x := range all {
			sp, slot, ok := t.s.slotAt(x.at)
			if !ok || t.of[slot]>>sureShift > sureInside || seen[inside{x.at, x.t, false}] {
				continue
			}
			p := t.ts.compile(x.t)
			i := slot - sp.first
			rel := x.at - sp.start - uint64(i)*sp.elem - uint64(sp.header)
			if rel%x.t.size == 0 && t.of[slot] == 0 && sp.elem <= minHeader && sp.bitmap != 0 && !p.repeats && w.agrees(sp, i, p, true) {
				w.set(slot, t.of[slot], sureInside, x.t, true)
				continue
			}
			if len(seen) < 1<<20 {
				seen[inside{x.at, x.t, false}] = true
				at := x.at - sp.start
				w.values(p, sp.data[at:uint64(i+1)*sp.elem], 1)
			}
		}
		t.run()
	}
}
