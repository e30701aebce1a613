package goruntime

import (
	"cmp"
	"fmt"
	"slices"
)

// Bounds of what is believed of a runtime's own counts.
const (
	maxSpans  = 1 << 26 // 64 M spans are at least 512 GB
	maxArenas = 1 << 22 // arenaL2Bits of 64-bit Linux: all there can be
	maxChain  = 1 << 20 // of chunks in a list
	// Sizes that are constants of the runtime, the same in go1.22 to go1.26 (runtime/malloc.go,
	// mheap.go, mpagealloc.go).
	persistentChunk = 256 << 10
	gcBitsChunk     = 64 << 10
	arenaIndexBytes = maxArenas * 8
	chunksL1, chunk = 8192, 8192 // pallocChunksL1Bits and L2Bits of 13 each
	bucketHashBytes = 179999 * 8
	summaryLevels   = 5
)

// An Area is a range of addresses that the runtime made for one purpose.
type Area struct {
	Start, End uint64 // runtime addresses
	Heap       bool   // an arena, where objects and stacks are; else the runtime's own data
	What       string // "arena", "page summary", "gc bits", …
}

// Areas are the ranges that the runtime has reserved, in order of address. They may overlap where the
// program changed while it was read.
func (r *Runtime) Areas() []Area {
	var all []Area
	add := func(start, size uint64, what string) {
		if start != 0 && start+size > start {
			all = append(all, Area{Start: start, End: start + size, What: what})
		}
	}
	heap := r.symbols["runtime.mheap_"]
	index := uint64(0) // of heapArena structures by arena
	if f, ok := r.layout["mheap.arenas"]; ok {
		index, _ = r.mem.uint(heap+f.Offset, 8)
		add(index, arenaIndexBytes, "arena index")
	}
	arenas := r.words(heap, "mheap.heapArenas", maxArenas)
	for _, i := range arenas {
		if i >= maxArenas {
			continue
		}
		start := i*arenaBytes + r.base
		all = append(all, Area{Start: start, End: start + arenaBytes, Heap: true, What: "arena"})
		if at, ok := r.mem.uint(index+i*8, 8); ok && index != 0 {
			add(at, r.layout["heapArena"].Size, "arena data")
		}
	}
	if f, ok := r.layout["mheap.heapArenas"]; ok {
		at, _ := r.mem.uint(heap+f.Offset, 8)
		room, _ := r.mem.uint(heap+f.Offset+16, 8)
		add(at, min(room, maxArenas)*8, "list of arenas")
	}
	if f, ok := r.layout["mheap.allspans"]; ok {
		at, _ := r.mem.uint(heap+f.Offset, 8)
		room, _ := r.mem.uint(heap+f.Offset+16, 8)
		add(at, min(room, maxSpans)*8, "list of spans")
	}
	if f, ok := r.layout["mheap.pages.summary"]; ok {
		for level := range uint64(summaryLevels) {
			at, _ := r.mem.uint(heap+f.Offset+level*24, 8)
			room, _ := r.mem.uint(heap+f.Offset+level*24+16, 8)
			add(at, min(room, 1<<36)*8, fmt.Sprintf("page summary, level %d", level))
		}
	}
	if f, ok := r.layout["mheap.pages.chunks"]; ok {
		bytes := r.layout["pallocData"].Size
		for i := range uint64(min(chunksL1, f.Size/8)) {
			if at, ok := r.mem.uint(heap+f.Offset+i*8, 8); ok {
				add(at, chunk*bytes, "page bitmaps")
			}
		}
	}
	if f, ok := r.layout["mheap.pages.scav.index.chunks"]; ok {
		at, _ := r.mem.uint(heap+f.Offset, 8)
		room, _ := r.mem.uint(heap+f.Offset+16, 8)
		add(at, min(room, 1<<36)*8, "scavenge index")
	}
	r.chain(r.symbols["runtime.persistentChunks"], 0, func(at uint64) { add(at, persistentChunk, "spans, caches, profile records") })
	if arenas := r.symbols["runtime.gcBitsArenas"]; arenas != 0 {
		for i := range uint64(4) { // free, next, current, previous, after the lock
			r.chain(arenas+8+i*8, r.layout["gcBitsArena.next"].Offset, func(at uint64) { add(at, gcBitsChunk, "mark bits") })
		}
	}
	if at, ok := r.mem.uint(r.symbols["runtime.buckhash"], 8); ok && r.symbols["runtime.buckhash"] != 0 {
		add(at, bucketHashBytes, "profile hash")
	}
	slices.SortFunc(all, func(a, b Area) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(all)
}

// words are the elements of a slice of words that is a field.
func (r *Runtime) words(base uint64, name string, most uint64) []uint64 {
	f, ok := r.layout[name]
	if !ok {
		return nil
	}
	data, ok1 := r.mem.uint(base+f.Offset, 8)
	n, ok2 := r.mem.uint(base+f.Offset+8, 8)
	if !ok1 || !ok2 || n > most {
		return nil
	}
	var all []uint64
	for i := range n {
		v, ok := r.mem.uint(data+i*8, 8)
		if !ok {
			break
		}
		all = append(all, v)
	}
	return all
}

// chain follows a list from the word at head; next is where an element has the pointer to the next.
func (r *Runtime) chain(head, next uint64, yield func(at uint64)) {
	if head == 0 {
		return
	}
	seen := map[uint64]bool{}
	at, ok := r.mem.uint(head, 8)
	for ok && at != 0 && at%8 == 0 && !seen[at] && len(seen) < maxChain {
		seen[at] = true
		yield(at)
		at, ok = r.mem.uint(at+next, 8)
	}
}
