package memmap

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A MallocHeap is a heap of glibc's malloc, walked chunk by chunk.
type MallocHeap struct {
	Start    uint64 `json:"start"`
	End      uint64 `json:"end"`
	Name     string `json:"name"` // "main arena", "arena 2"
	InUse    int64  `json:"inUse"`
	Chunks   int64  `json:"chunks"` // in use
	Free     int64  `json:"free"`
	FreeRuns int64  `json:"freeChunks"`
	Largest  int64  `json:"largestFree"`
	Top      int64  `json:"top"`      // at the end, not yet handed out
	Unwalked int64  `json:"unwalked"` // behind the first chunk that could not be believed
}

// Layouts of malloc/malloc.c and malloc/arena.c of glibc 2.26 to 2.41, 64 bits: a chunk begins with the
// size of the one before it (if that is free) and its own size, whose low bits are flags.
const (
	previousInUse = 1
	mmappedChunk  = 2
	notMainArena  = 4
	chunkFlags    = 7
	minChunk      = 32
	mallocHeapMax = 64 << 20 // HEAP_MAX_SIZE; arenas but the main one are aligned to it
)

// claimMalloc finds what malloc has mapped: heaps of its arenas, and chunks that are mappings of their
// own.
func (a *analysis) claimMalloc() {
	if !a.readable {
		return
	}
	if a.runtime != nil && !a.hasLibc() {
		return
	}
	arenas, probes := 1, maxProbes
	heads := a.heads()
	for i := range a.mappings {
		m := &a.mappings[i]
		if m.path == "[heap]" {
			if a.allocate != "" {
				continue
			}
			a.snapshot.chunks = append(a.snapshot.chunks, chunkRange{m.start, m.end})
			if h, ok := a.walkMalloc(m.start, m.end, m.start, "main arena"); ok {
				a.snapshot.Mallocs = append(a.snapshot.Mallocs, h)
			}
			continue
		}
		if !m.anonymousMemory() || !m.may('w') || m.rss+m.swap == 0 || a.inArena(m.start) {
			continue
		}
		if a.snapshot.Core != "" && a.allocate == "" {
			// A core has no names: what is chunks from its beginning to its end is the main arena.
			if h, ok := a.walkMalloc(m.start, m.end, m.start, "main arena"); ok && h.Unwalked == 0 && h.Chunks >= 3 {
				a.claims = append(a.claims, claim{start: m.start, end: m.end, kind: Heap, detail: "malloc, main arena (brk)", key: "main arena"})
				a.snapshot.chunks = append(a.snapshot.chunks, chunkRange{m.start, m.end})
				a.snapshot.Mallocs = append(a.snapshot.Mallocs, h)
				continue
			}
		}
		// A heap of an arena may follow in the same mapping as another's: each begins at a multiple.
		found := false
		for at := (m.start + mallocHeapMax - 1) &^ (mallocHeapMax - 1); at < m.end && probes > 0; at += mallocHeapMax {
			probes--
			size, first, ok := a.mallocHeap(at, m.end)
			if !ok {
				continue
			}
			found = true
			arenas++
			name := fmt.Sprintf("arena %d", arenas)
			a.claims = append(a.claims, claim{start: at, end: at + mallocHeapMax, kind: Heap, detail: "malloc, " + name, key: fmt.Sprintf("malloc %x", at)})
			a.snapshot.chunks = append(a.snapshot.chunks, chunkRange{first, at + size})
			if h, ok := a.walkMalloc(first, at+size, at, name); ok {
				a.snapshot.Mallocs = append(a.snapshot.Mallocs, h)
			}
		}
		if found {
			continue
		}
		if heads != nil && m.size() < mmapThreshold && !largeHead(heads[m.start], m.size(), pageSize) {
			continue
		}
		if n := a.claimLarge(m, &probes); n == 0 && a.allocate != "" && m.start%(1<<20) == 0 && m.size() >= 1<<20 {
			// These allocators take memory in large units that they align; nothing in it says whose it is.
			a.claims = append(a.claims, claim{start: m.start, end: m.end, kind: Heap, detail: a.allocate + ", by its alignment", key: fmt.Sprintf("chunk %x", m.start)})
		}
	}
	slices.SortFunc(a.snapshot.chunks, func(x, y chunkRange) int { return cmp.Compare(x.first, y.first) })
	slices.SortFunc(a.snapshot.Mallocs, func(x, y MallocHeap) int { return cmp.Compare(x.Start, y.Start) })
}

// Bounds on how many pages are looked at for the head of a large block: of one mapping, of all.
const (
	maxProbesEach = 2048
	maxProbes     = 64 << 10
	// mmapThreshold is the size from which malloc maps a block of its own, unless it was told otherwise
	// (M_MMAP_THRESHOLD).
	mmapThreshold = 128 << 10
)

// heads are the first bytes of all mappings that malloc may have made, where many can be read at once.
func (a *analysis) heads() map[uint64][16]byte {
	r, ok := a.memory.(interface{ heads([]uint64) [][16]byte })
	if !ok {
		return nil
	}
	var at []uint64
	for i := range a.mappings {
		if m := &a.mappings[i]; m.anonymousMemory() && m.may('w') && m.rss+m.swap > 0 && m.size() < mmapThreshold {
			at = append(at, m.start)
		}
	}
	all := make(map[uint64][16]byte, len(at))
	for i, h := range r.heads(at) {
		all[at[i]] = h
	}
	return all
}

// largeHead says whether bytes look like the head of a large block of at least so many bytes, in room
// bytes.
func largeHead(head [16]byte, room int64, least uint64) bool {
	before, size := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
	return before == 0 && size&chunkFlags == mmappedChunk && size&^chunkFlags >= least && size&^chunkFlags%pageSize == 0 && size&^chunkFlags <= uint64(room)
}

// claimLarge finds chunks that malloc has mapped one by one: each begins a page with [0, size|2]. The
// kernel makes one mapping of such neighbours, and of them and other memory. The result is their number.
func (a *analysis) claimLarge(m *mapping, probes *int) (found int) {
	var head [16]byte
	first, chunks, each := m.start, 0, 0
	flush := func(end uint64) {
		if chunks > 0 {
			detail := "malloc, one large block"
			if chunks > 1 {
				detail = fmt.Sprintf("malloc, %d large blocks", chunks)
			}
			a.claims = append(a.claims, claim{start: first, end: end, kind: Heap, detail: detail, key: fmt.Sprintf("chunk %x", first)})
		}
		found, chunks = found+chunks, 0
	}
	at := m.start
	for at < m.end && each < maxProbesEach && *probes > 0 {
		n, _ := a.memory.ReadAt(head[:], int64(at))
		least := uint64(mmapThreshold)
		if at == m.start || chunks > 0 {
			least = pageSize
		}
		*probes--
		if n < len(head) || !largeHead(head, int64(m.end-at), least) {
			flush(at)
			at += pageSize
			each++
			continue
		}
		if chunks == 0 {
			first = at
		}
		chunks++
		at += binary.LittleEndian.Uint64(head[8:]) &^ chunkFlags
	}
	flush(min(at, m.end))
	return found
}

// hasLibc says whether a C library is mapped, whose malloc there may be.
func (a *analysis) hasLibc() bool {
	for i := range a.mappings {
		if m := &a.mappings[i]; m.may('x') && m.file() && strings.Contains(m.path[strings.LastIndexByte(m.path, '/')+1:], "libc") {
			return true
		}
	}
	return false
}

// mallocHeap reads heap_info (malloc/arena.c) at an address: arena, previous heap, size, size that has
// access. First is where its chunks begin.
func (a *analysis) mallocHeap(at, end uint64) (size, first uint64, ok bool) {
	var head [48]byte
	if n, _ := a.memory.ReadAt(head[:], int64(at)); n < len(head) {
		return 0, 0, false
	}
	le := binary.LittleEndian
	arena, previous, size, access := le.Uint64(head[:]), le.Uint64(head[8:]), le.Uint64(head[16:]), le.Uint64(head[24:])
	if size == 0 || size > mallocHeapMax || size%16 != 0 || access < size || access > mallocHeapMax || access%pageSize != 0 || at+access > end ||
		previous%mallocHeapMax != 0 || arena%16 != 0 {
		return 0, 0, false
	}
	offset := arena % mallocHeapMax // the first heap of an arena has the arena behind its heap_info
	if offset != 0x20 && offset != 0x30 {
		return 0, 0, false
	}
	if arena-offset != at {
		return size, at + offset, previous != 0
	}
	// struct malloc_state is 2200 bytes in glibc 2.26 to 2.41, and chunks begin where memory behind
	// their heads is aligned to 16.
	const state = 2200
	return size, (at + offset + state + 15) &^ 15, previous == 0
}

// walkMalloc walks the chunks between two addresses. It is not ok where the first of them is not to be
// believed: the memory is of another allocator.
func (a *analysis) walkMalloc(first, end, start uint64, name string) (h MallocHeap, ok bool) {
	if !a.walk {
		return h, false
	}
	h = MallocHeap{Start: start, End: end, Name: name}
	m := window{r: a.memory}
	at, before, run := first, uint64(0), int64(0)
	largest := func() {
		if run > 0 {
			h.FreeRuns++
			h.Largest = max(h.Largest, run)
			run = 0
		}
	}
	for chunks := 0; at+16 <= end; chunks++ {
		word, readable := m.uint(at + 8)
		size := word &^ chunkFlags
		if !readable || word&mmappedChunk != 0 || size < 16 || size%16 != 0 || at+size > end || size < minChunk && at+size+16 < end {
			h.Unwalked = int64(end - at)
			break
		}
		// Whether a chunk is in use its neighbour knows. The last is the top, or a fence.
		if before != 0 {
			if word&previousInUse != 0 {
				largest()
				h.InUse, h.Chunks = h.InUse+int64(before), h.Chunks+1
			} else {
				h.Free, run = h.Free+int64(before), run+int64(before)
			}
		}
		before = size
		at += size
		ok = ok || chunks >= 3
	}
	largest()
	h.Top = int64(before)
	return h, ok
}

// window reads words that lie close together, in order of address.
type window struct {
	r interface {
		ReadAt([]byte, int64) (int, error)
	}
	at   uint64
	data []byte
	buf  [64 << 10]byte
}

func (w *window) uint(at uint64) (uint64, bool) {
	if at < w.at || at+8 > w.at+uint64(len(w.data)) {
		n, _ := w.r.ReadAt(w.buf[:], int64(at))
		w.at, w.data = at, w.buf[:max(n, 0)]
		if n < 8 {
			return 0, false
		}
	}
	return binary.LittleEndian.Uint64(w.data[at-w.at:]), true
}
