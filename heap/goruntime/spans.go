package goruntime

import (
	"cmp"
	"slices"
)

// A Slot is what is known of one slot of a span.
type Slot uint8

// What a slot may be. The runtime learns which objects are reachable in a collection: what was
// allocated since is New.
const (
	FreeSlot    Slot = iota
	LiveSlot         // the last collection reached it
	NewSlot          // allocated since the last collection: the next one will tell
	GarbageSlot      // the last collection did not reach it, and its span is not swept yet
)

// SpanUse is what a span is for.
type SpanUse uint8

// The uses of spans.
const (
	ObjectSpan SpanUse = iota
	StackSpan          // stacks of goroutines and threads, in use or kept for further ones
	WorkSpan           // the garbage collector's work buffers
)

// A Span is a run of pages of the heap that the runtime has in use. Pages of an arena in no span are
// idle.
type Span struct {
	Start, Bytes uint64 // runtime address and length, both multiples of HeapPage
	Use          SpanUse
	NoPointers   bool   // its objects hold no pointers
	Class        uint8  // size class; 0 is one large object
	SlotSize     uint64 // bytes of each slot, for objects
	Slots        []Slot // what each slot is; what follows the last is the span's tail

	specials uint64 // runtime address of the list of what is kept of single objects; 0 for none
}

// The states of spans (runtime/mheap.go).
const (
	spanInUse  = 1
	spanManual = 2
)

// Spans reads all spans in use, in order of address; they do not overlap. The second result is how
// many of the runtime's list could not be believed.
func (r *Runtime) Spans() (all []Span, unread int) {
	heap := r.symbols["runtime.mheap_"]
	generation, known := r.field(heap, "mheap.sweepgen")
	work := map[uint64]bool{}
	if at := r.symbols["runtime.work"]; at != 0 && r.layout.has("mspan.next") {
		for _, list := range []string{"workType.wbufSpans.free.first", "workType.wbufSpans.busy.first"} {
			if f, ok := r.layout[list]; ok {
				r.chain(at+f.Offset, r.layout["mspan.next"].Offset, func(span uint64) { work[span] = true })
			}
		}
	}
	f := r.layout["mheap.allspans"]
	data, ok1 := r.mem.uint(heap+f.Offset, 8)
	n, ok2 := r.mem.uint(heap+f.Offset+8, 8)
	if !ok1 || !ok2 || n > maxSpans {
		return nil, 1
	}
	for i := range n {
		at, ok := r.mem.uint(data+i*8, 8)
		if !ok {
			return all, unread + int(n-i)
		}
		state, ok := r.field(at, "mspan.state")
		if !ok {
			unread++
			continue
		}
		if state != spanInUse && state != spanManual {
			continue // on the list for use again
		}
		s, ok := r.span(at, uint32(generation), known)
		if !ok {
			unread++
			continue
		}
		switch {
		case work[at]:
			s.Use = WorkSpan
		case state == spanManual:
			s.Use = StackSpan
		}
		if s.Use != ObjectSpan {
			s.Slots, s.SlotSize = nil, 0
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	end := uint64(0)
	all = slices.DeleteFunc(all, func(s Span) bool {
		if s.Start < end { // it was freed and used anew while we read
			unread++
			return true
		}
		end = s.Start + s.Bytes
		return false
	})
	return all, unread
}

// span reads one span.
func (r *Runtime) span(at uint64, generation uint32, known bool) (s Span, ok bool) {
	start, ok1 := r.field(at, "mspan.startAddr")
	pages, ok2 := r.field(at, "mspan.npages")
	size, ok3 := r.field(at, "mspan.elemsize")
	if !ok1 || !ok2 || !ok3 || start%HeapPage != 0 || start == 0 || pages == 0 || pages > 1<<33 || start+pages*HeapPage < start {
		return s, false
	}
	class, _ := r.field(at, "mspan.spanclass")
	s = Span{Start: start, Bytes: pages * HeapPage, SlotSize: size, Class: uint8(class >> 1), NoPointers: class&1 != 0}
	s.specials = r.pointer(at, "mspan.specials")
	count, _ := r.field(at, "mspan.nelems")
	if count == 0 || size == 0 {
		return s, true
	}
	if count > 1<<16 || size > s.Bytes || count*size > s.Bytes {
		return s, false
	}
	s.Slots = make([]Slot, count)
	if user, _ := r.field(at, "mspan.isUserArenaChunk"); user != 0 {
		for i := range s.Slots {
			s.Slots[i] = LiveSlot
		}
		return s, true
	}
	free, ok := r.field(at, "mspan.freeindex")
	allocated := r.bits(r.pointer(at, "mspan.allocBits"), count)
	if !ok || allocated == nil {
		return s, false
	}
	// A span whose generation is behind the heap's has not been swept since the last collection: what
	// that collection reached is in the mark bits, and moves to the allocation bits when it is swept
	// (runtime/mheap.go at mspan.sweepgen: -2 needs sweeping, -1 is being swept, +1 is cached and needs
	// sweeping, 0 and +3 are swept).
	var marks []byte
	if swept, ok := r.field(at, "mspan.sweepgen"); ok && known {
		switch uint32(swept) - generation {
		case ^uint32(1), ^uint32(0), 1:
			marks = r.marks(at, &s, count)
		}
	}
	for i := range s.Slots {
		bit := byte(1) << (i % 8)
		survived := allocated[i/8]&bit != 0
		switch {
		case uint64(i) >= free && !survived:
		case marks != nil && marks[i/8]&bit == 0:
			s.Slots[i] = GarbageSlot
		case marks != nil || survived:
			s.Slots[i] = LiveSlot
		default:
			s.Slots[i] = NewSlot
		}
	}
	return s, true
}

// bits reads a bitmap of n bits; nil where it cannot be read.
func (r *Runtime) bits(at, n uint64) []byte {
	b := make([]byte, (n+7)/8)
	if at == 0 || !r.mem.read(b, at) {
		return nil
	}
	return b
}

// marks are the mark bits of a span that is not swept. Since go1.26 those of small objects are in the
// span itself, at the end of its page (gcUsesSpanInlineMarkBits, runtime/mgcmark_greenteagc.go).
func (r *Runtime) marks(at uint64, s *Span, count uint64) []byte {
	b := r.bits(r.pointer(at, "mspan.gcmarkBits"), count)
	inline, ok := r.layout["spanInlineMarkBits"]
	if b == nil || !ok || inline.Size == 0 || s.Bytes != HeapPage || !r.inlineMarks(s) {
		return b
	}
	in := make([]byte, len(b))
	if !r.mem.direct(in, s.Start+HeapPage-inline.Size+r.layout["spanInlineMarkBits.marks"].Offset) {
		return b
	}
	for i := range b {
		b[i] |= in[i]
	}
	return b
}

// inlineMarks says whether the mark bits of a span's objects are in the span: those of 16 to 512 bytes.
func (r *Runtime) inlineMarks(s *Span) bool {
	return s.SlotSize >= 16 && s.SlotSize <= 512
}
