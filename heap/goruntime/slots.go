package goruntime

import (
	"cmp"
	"context"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// sizeClasses are the sizes of small objects' slots (internal/runtime/gc/sizeclasses.go), the same in
// go1.22 to go1.26.
var sizeClasses = []uint64{0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416,
	448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096, 4864, 5120,
	5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264,
	28672, 32768}

const (
	minHeader = 512 // slots above this have a word before the object that points to its type (gc.MinSizeForMallocHeader)
	maxObject = 1<<32 - 2
	maxCopied = 64 << 10 // bytes of a span without pointers
	maxUnread = 1 << 12  // spans, besides as many as can be read
	pageShift = 13       // of HeapPage
	arenaBits = 26       // of arenaBytes
	hintShift = 8
)

// A slotSpan is a span of objects as the graph needs it.
type slotSpan struct {
	start, bytes uint64
	elem         uint64 // bytes of a slot
	magic        uint32 // ⌈2³² / elem⌉: an offset in a small span times this is the slot, in the upper half
	first, count uint32 // number of the first slot, and how many there are
	header       uint8  // bytes before an object in its slot: 8 or 0
	noPointers   bool
	bitmap       uint64 // where the bitmap of pointers begins in the span; 0 for none
	large        uint64 // descriptor of a large object's type
	full         uint64 // a value that needs more than this is all that is in the slot
	specials     uint64
	free         uint32 // all slots below are allocated
	allocated    []byte
	marks        []byte // of a span that is not swept; nil of others
	data         []byte // the span's memory; nil of large objects without pointers that the image does not have in one piece
}

// Slots is all memory that objects are in.
type slots struct {
	spans  []slotSpan // in order of address
	count  uint32     // of slots
	lowest uint64     // address >> arenaBits of the first arena
	pages  []*[arenaBytes / HeapPage]uint32
	used   []uint64 // bit by slot: an object is there
	swept  []uint64 // bit by slot: the last collection did not reach it, and it will be free
	rank   []uint32 // objects before word i of used
	object uint32   // objects
	hints  []uint32 // spans by slot >> hintShift: where that of the first such slot is
	unread int      // spans that could not be believed
	bytes  uint64   // of all objects
}

// find is the span that an address lies in; nil for none.
func (s *slots) find(at uint64) *slotSpan {
	arena := at>>arenaBits - s.lowest
	if arena >= uint64(len(s.pages)) {
		return nil
	}
	p := s.pages[arena]
	if p == nil {
		return nil
	}
	i := p[at>>pageShift&(arenaBytes/HeapPage-1)]
	if i == 0 {
		return nil
	}
	return &s.spans[i-1]
}

// slot is the number within the span of the slot at an offset.
func (sp *slotSpan) slot(off uint64) uint32 {
	if sp.count == 1 {
		return 0
	}
	return uint32(off * uint64(sp.magic) >> 32)
}

// has says whether an object is in a slot.
func (s *slots) has(slot uint32) bool { return s.used[slot>>6]>>(slot&63)&1 != 0 }

// number is the object in a slot, counted from 0 in order of address.
func (s *slots) number(slot uint32) uint32 {
	return s.rank[slot>>6] + uint32(bits.OnesCount64(s.used[slot>>6]&(1<<(slot&63)-1)))
}

// slotAt is the slot of the object that an address points into.
func (s *slots) slotAt(at uint64) (sp *slotSpan, slot uint32, ok bool) {
	sp = s.find(at)
	if sp == nil {
		return nil, 0, false
	}
	i := sp.slot(at - sp.start)
	if i >= sp.count {
		return nil, 0, false
	}
	return sp, sp.first + i, s.has(sp.first + i)
}

// readSlots reads the spans of objects and what is allocated in them.
func (r *Runtime) readSlots(ctx context.Context) (*slots, error) {
	s := &slots{}
	heap := r.symbols["runtime.mheap_"]
	generation, known := r.field(heap, "mheap.sweepgen")
	f := r.layout["mheap.allspans"]
	data, ok1 := r.mem.uint(heap+f.Offset, 8)
	n, ok2 := r.mem.uint(heap+f.Offset+8, 8)
	if !ok1 || !ok2 || n > maxSpans {
		s.unread = 1
		n = 0
	}
	arenas := map[uint64]bool{}
	for _, i := range r.words(heap, "mheap.heapArenas", maxArenas) {
		arenas[i] = true
	}
	var places spanPlaces
	places.from(r.layout)
	if places.size > 4096 { // no release's: the DWARF is damaged
		n, s.unread = 0, 1
	}
	record := make([]byte, min(places.size, 4096))
	for i := range n {
		if i%(1<<16) == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		at, ok := r.mem.uint(data+i*8, 8)
		if !ok {
			s.unread += int(n - i)
			break
		}
		if !r.mem.read(record, at) {
			if s.unread++; s.unread > maxUnread+len(s.spans) {
				s.unread += int(n-i) - 1
				break // it is no list of spans
			}
			continue
		}
		if record[places.state] != spanInUse {
			continue
		}
		sp, ok := places.span(record)
		if !ok || !arenas[(sp.start-r.base)/arenaBytes] {
			s.unread++
			continue
		}
		if sp.count > 0 {
			s.spans = append(s.spans, sp)
		}
		if len(s.spans) == 1<<16 { // lists of corrupt images name one span over and over
			s.unread += s.sort()
		}
	}
	s.unread += s.sort()
	var wg sync.WaitGroup
	var failed [2]int
	for w := range failed {
		wg.Go(func() {
			for i := len(s.spans) * w / 2; i < len(s.spans)*(w+1)/2; i++ {
				if ctx.Err() == nil && !r.openSpan(&s.spans[i], uint32(generation), known) {
					s.spans[i].count = 0
					failed[w]++
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.unread += failed[0] + failed[1]
	s.spans = slices.DeleteFunc(s.spans, func(sp slotSpan) bool { return sp.count == 0 })
	s.index()
	return s, nil
}

// sort puts the spans in order and drops those that overlap another; it returns how many.
func (s *slots) sort() (dropped int) {
	slices.SortFunc(s.spans, func(a, b slotSpan) int { return cmp.Compare(a.start, b.start) })
	end := uint64(0)
	s.spans = slices.DeleteFunc(s.spans, func(sp slotSpan) bool {
		if sp.start < end {
			dropped++
			return true
		}
		end = sp.start + sp.bytes
		return false
	})
	return dropped
}

// spanPlaces are the offsets of mspan's fields.
type spanPlaces struct {
	start, pages, elem, count, free, class, state, user, bits, marks, generation, large, specials, size uint64
	inline                                                                                              uint64
}

func (p *spanPlaces) from(l layout) {
	for name, to := range map[string]*uint64{"startAddr": &p.start, "npages": &p.pages, "elemsize": &p.elem, "nelems": &p.count,
		"freeIndexForScan": &p.free, "spanclass": &p.class, "state": &p.state, "isUserArenaChunk": &p.user, "allocBits": &p.bits,
		"gcmarkBits": &p.marks, "sweepgen": &p.generation, "largeType": &p.large, "specials": &p.specials} {
		f, ok := l["mspan."+name]
		if !ok && name == "freeIndexForScan" {
			f = l["mspan.freeindex"]
		}
		*to = f.Offset
		p.size = max(p.size, f.Offset+max(f.Size, 8))
	}
	p.inline = l["spanInlineMarkBits"].Size
}

// span reads one span's own fields. What its bits say is read by openSpan, from addresses that it keeps
// in allocated's and marks' place until then.
func (p *spanPlaces) span(b []byte) (sp slotSpan, ok bool) {
	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	half := func(at uint64) uint32 { return uint32(binary.LittleEndian.Uint16(b[at:])) }
	sp = slotSpan{start: word(p.start), bytes: word(p.pages) * HeapPage, elem: word(p.elem), count: half(p.count), free: half(p.free),
		specials: word(p.specials), noPointers: b[p.class]&1 != 0}
	if sp.start == 0 || sp.start%HeapPage != 0 || sp.start >= 1<<56 || sp.bytes == 0 || sp.bytes > 1<<40 {
		return sp, false
	}
	if sp.count == 0 || sp.elem == 0 {
		sp.count = 0
		return sp, true
	}
	if sp.elem%8 != 0 || sp.elem > sp.bytes || uint64(sp.count)*sp.elem > sp.bytes || sp.count > 1 && sp.bytes > 1<<24 {
		return sp, false
	}
	class := b[p.class] >> 1
	if sp.elem < 1<<32 {
		sp.magic = uint32((1<<32 + sp.elem - 1) / sp.elem)
		if sp.elem == 1 {
			sp.magic = 1<<32 - 1
		}
	}
	switch {
	case b[p.user] != 0:
		sp.bitmap, sp.noPointers, sp.count, sp.free, sp.elem = sp.bytes-sp.bytes/64, false, 1, 1, sp.bytes
	case sp.noPointers:
	case sp.elem <= minHeader:
		sp.bitmap = sp.bytes - sp.bytes/64
		if p.inline > 0 && sp.elem >= 16 { // Green Tea's mark bits are behind it
			sp.bitmap -= p.inline
		}
	case class == 0:
		sp.large = word(p.large)
	default:
		sp.header = 8
	}
	if i, exact := slices.BinarySearch(sizeClasses, sp.elem); exact && class != 0 {
		sp.full = sizeClasses[i-1]
	} else if sp.elem > HeapPage {
		sp.full = sp.elem - HeapPage
	}
	if sp.full >= uint64(sp.header) {
		sp.full -= uint64(sp.header)
	}
	sp.allocated = append([]byte(nil), b[p.bits:p.bits+8]...)
	sp.allocated = append(sp.allocated, b[p.marks:p.marks+8]...)
	sp.allocated = append(sp.allocated, b[p.generation:p.generation+4]...)
	return sp, true
}

// openSpan reads a span's bits and shows its memory.
func (r *Runtime) openSpan(sp *slotSpan, generation uint32, known bool) bool {
	raw := sp.allocated
	at, marksAt, swept := binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:]), binary.LittleEndian.Uint32(raw[16:])
	n := (uint64(sp.count) + 7) / 8
	read := func(at uint64) []byte {
		if v, is := r.mem.r.(viewer); is {
			if b := v.Bytes(at, n); b != nil {
				return b
			}
		}
		b := make([]byte, n)
		if at == 0 || !r.mem.direct(b, at) {
			return nil
		}
		return b
	}
	if sp.allocated = read(at); sp.allocated == nil {
		return false
	}
	v, is := r.mem.r.(viewer)
	if is {
		sp.data = v.Bytes(sp.start, sp.bytes)
	}
	if sp.data == nil {
		var page [1]byte
		switch ok := false; {
		case sp.noPointers && sp.bytes > maxCopied: // what is in it is hardly asked for
			if !r.mem.direct(page[:], sp.start) && !r.mem.direct(page[:], sp.start+sp.bytes-1) {
				return false
			}
		default:
			if sp.data, ok = r.mem.view(sp.start, sp.bytes); !ok {
				return false
			}
		}
	}
	if known {
		switch swept - generation {
		case ^uint32(1), ^uint32(0), 1: // see span in spans.go
			sp.marks = read(marksAt)
			if inline, ok := r.layout["spanInlineMarkBits"]; ok && inline.Size > 0 && sp.marks != nil && sp.bytes == HeapPage && sp.elem >= 16 && sp.elem <= minHeader {
				at := HeapPage - inline.Size + r.layout["spanInlineMarkBits.marks"].Offset
				if both := slices.Clone(sp.marks); at+n <= uint64(len(sp.data)) {
					for i := range both {
						both[i] |= sp.data[at+uint64(i)]
					}
					sp.marks = both
				}
			}
		}
	}
	return true
}

// index numbers the slots and notes which have objects.
func (s *slots) index() {
	total := uint64(0)
	for i := range s.spans {
		if total+uint64(s.spans[i].count) > maxObject {
			s.unread += len(s.spans) - i
			s.spans = s.spans[:i]
			break
		}
		s.spans[i].first = uint32(total)
		total += uint64(s.spans[i].count)
	}
	s.count = uint32(total)
	s.hints = make([]uint32, total>>hintShift+2)
	for i, k := 0, 0; k < len(s.hints); k++ {
		for i+1 < len(s.spans) && uint64(s.spans[i+1].first) <= uint64(k)<<hintShift {
			i++
		}
		s.hints[k] = uint32(i)
	}
	words := (total + 63) / 64
	s.used, s.swept, s.rank = make([]uint64, words+1), make([]uint64, words+1), make([]uint32, words+2)
	if len(s.spans) == 0 {
		return
	}
	s.lowest = s.spans[0].start >> arenaBits
	last := &s.spans[len(s.spans)-1]
	s.pages = make([]*[arenaBytes / HeapPage]uint32, min((last.start+last.bytes-1)>>arenaBits-s.lowest+1, 2*maxArenas))
	for i := range s.spans {
		sp := &s.spans[i]
		for at := sp.start; at < sp.start+sp.bytes; at += HeapPage {
			arena := at>>arenaBits - s.lowest
			if arena >= uint64(len(s.pages)) {
				break
			}
			if s.pages[arena] == nil {
				s.pages[arena] = new([arenaBytes / HeapPage]uint32)
			}
			s.pages[arena][at>>pageShift&(arenaBytes/HeapPage-1)] = uint32(i + 1)
		}
		for k := uint32(0); k < sp.count; k++ {
			bit := byte(1) << (k & 7)
			if k >= sp.free && sp.allocated[k>>3]&bit == 0 {
				continue
			}
			slot := sp.first + k
			s.used[slot>>6] |= 1 << (slot & 63)
			s.bytes += sp.elem
			if sp.marks != nil && sp.marks[k>>3]&bit == 0 {
				s.swept[slot>>6] |= 1 << (slot & 63)
			}
		}
	}
	for i, w := range s.used {
		s.rank[i+1] = s.rank[i] + uint32(bits.OnesCount64(w))
	}
	s.object = s.rank[len(s.used)]
}
