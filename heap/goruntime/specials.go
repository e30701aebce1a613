package goruntime

import (
	"math"
	"strconv"
	"strings"
)

// Specials are the records that the runtime hangs on spans (runtime/mheap.go, special). Their kinds are
// numbered anew with each that comes in between.
type specialKinds struct{ finalizer, weak, profile, cleanup uint64 }

// kindsOf are the numbers of a release; those of the newest for one that is not known.
func kindsOf(version string) specialKinds {
	minor := 1 << 20
	if rest, ok := strings.CutPrefix(version, "go1."); ok {
		if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
			rest = rest[:i]
		}
		if n, err := strconv.Atoi(rest); err == nil {
			minor = n
		}
	}
	switch {
	case minor <= 22:
		return specialKinds{finalizer: 1, profile: 2, weak: math.MaxUint64, cleanup: math.MaxUint64}
	case minor == 23:
		return specialKinds{finalizer: 1, weak: 2, profile: 3, cleanup: math.MaxUint64}
	case minor == 24:
		return specialKinds{finalizer: 1, weak: 2, profile: 3, cleanup: 6}
	}
	return specialKinds{finalizer: 2, weak: 3, profile: 4, cleanup: 7}
}

// A Sample is an object whose allocation the program's memory profile has recorded.
type Sample struct {
	Object uint32 // number of the object, from 1
	Stack  int    // index into Heap.SampleStacks
	// Count and Bytes are how many allocations like it there are for each that was recorded.
	Count, Bytes float64
}

const (
	maxRecords  = 1 << 26
	defaultRate = 512 << 10 // runtime.MemProfileRate, unless the program sets another
)

// readSpecials reads the records of all spans: roots and samples.
func (h *Heap) readSpecials() {
	r, l := h.r, h.r.layout
	if !l.has("special.next", "special.offset", "special.kind", "mspan.specials") {
		h.Lost = append(h.Lost, "finalizers, cleanups and sampled allocations, whose records are not known in this release")
		return
	}
	kinds := kindsOf(r.Version)
	h.SampleRate = defaultRate
	if at := r.symbols["runtime.MemProfileRate"]; at != 0 {
		v, _ := r.mem.uint(at, 8)
		h.SampleRate = int64(v)
	}
	stacks := map[uint64]int{} // by bucket
	next := l["special.next"].Offset
	total := 0
	for i := range h.s.spans {
		sp := &h.s.spans[i]
		most := int(sp.count)*8 + 64
		for at := sp.specials; at != 0 && at%8 == 0 && most > 0 && total < maxRecords; most-- {
			total++
			off, ok1 := r.field(at, "special.offset")
			kind, ok2 := r.field(at, "special.kind")
			if !ok1 || !ok2 || off >= sp.bytes {
				break
			}
			h.special(sp, off, kind, at, kinds, stacks)
			var ok bool
			if at, ok = r.mem.uint(at+next, 8); !ok {
				break
			}
		}
	}
	if r.symbols["runtime.MemProfileRate"] == 0 {
		if len(h.Samples) == 0 {
			h.SampleRate = 0
		} else {
			h.Lost = append(h.Lost, "how often the program samples its allocations: sites are scaled as for the default of 512 KB")
		}
	}
}

func (h *Heap) special(sp *slotSpan, off, kind, at uint64, kinds specialKinds, stacks map[uint64]int) {
	r := h.r
	slot := sp.first + sp.slot(off)
	if sp.slot(off) >= sp.count || !h.s.has(slot) {
		return
	}
	switch kind {
	case kinds.finalizer:
		// The collector keeps the function, and what the object refers to but not the object itself, which
		// is what the finalizer waits for. Here the object counts as kept: nothing of it is free before.
		root := h.addRoot(Root{Kind: RootFinalizer, Name: h.functionOf(r.pointer(at, "specialfinalizer.fn"))})
		h.rootTo(root, "", sp.start+off)
		h.rootFunction(root, r.pointer(at, "specialfinalizer.fn"))
	case kinds.cleanup:
		fn := r.pointer(at, "specialCleanup.cleanup.fn")
		root := h.addRoot(Root{Kind: RootCleanup, Name: h.functionOf(fn)})
		h.rootFunction(root, fn)
	case kinds.weak:
		h.rootTo(h.addRoot(Root{Kind: RootWeak}), "", r.pointer(at, "specialWeakHandle.handle"))
	case kinds.profile:
		h.sample(slot, r.pointer(at, "specialprofile.b"), stacks)
	}
}

// sample reads the record of one sampled object.
func (h *Heap) sample(slot uint32, bucket uint64, stacks map[uint64]int) {
	r := h.r
	if bucket == 0 || !r.layout.has("bucket", "bucket.size", "bucket.nstk") {
		return
	}
	size := r.pointer(bucket, "bucket.size")
	i, known := stacks[bucket]
	if !known {
		n := r.pointer(bucket, "bucket.nstk")
		var frames []Frame
		for k := range min(n, 1024) {
			pc, ok := r.mem.uint(bucket+r.layout["bucket"].Size+8*k, 8)
			if !ok {
				break
			}
			// One address for each call, inlined ones too: the innermost at each is what it stands for.
			if f := h.ts.code.frames(pc-1, nil); len(f) > 0 {
				f[0].Inlined = false
				frames = append(frames, f[0])
			}
		}
		own := 0
		for own < len(frames) && (strings.HasPrefix(frames[own].Func, "runtime.") || strings.HasPrefix(frames[own].Func, "internal/runtime/")) {
			own++ // the allocator itself
		}
		if own < len(frames) {
			frames = frames[own:]
		}
		i = len(h.SampleStacks)
		h.SampleStacks = append(h.SampleStacks, frames)
		stacks[bucket] = i
	}
	weight := 1.0
	if h.SampleRate > 1 && size > 0 {
		weight = 1 / (1 - math.Exp(-float64(size)/float64(h.SampleRate)))
	}
	h.Samples = append(h.Samples, Sample{Object: h.s.number(slot) + 1, Stack: i, Count: weight, Bytes: weight * float64(size)})
}

// functionOf is the name of the function of a closure.
func (h *Heap) functionOf(closure uint64) string {
	pc, _ := h.r.mem.uint(closure, 8)
	if f, _ := h.ts.code.function(pc); f != nil && closure != 0 {
		return f.name
	}
	return ""
}

// rootFunction adds a function value as what a root refers to.
func (h *Heap) rootFunction(root uint32, closure uint64) {
	if closure == 0 {
		return
	}
	h.rootTo(root, "", closure)
	h.t.workers[0].closure(closure)
}

// readQueues reads the finalizers and cleanups that are about to run: their objects are reachable from
// nowhere else (markroot in runtime/mgcmark.go).
func (h *Heap) readQueues() {
	r, l := h.r, h.r.layout
	if at := r.symbols["runtime.allfin"]; at != 0 && l.has("finblock.alllink", "finblock.cnt", "finblock.fin", "finalizer", "finalizer.fn", "finalizer.arg") {
		r.chain(at, l["finblock.alllink"].Offset, func(block uint64) {
			n, _ := r.field(block, "finblock.cnt")
			for i := range min(n, l["finblock.fin"].Size/max(l["finalizer"].Size, 1)) {
				f := block + l["finblock.fin"].Offset + i*l["finalizer"].Size
				root := h.addRoot(Root{Kind: RootFinalizer, Name: h.functionOf(r.pointer(f, "finalizer.fn"))})
				h.rootFunction(root, r.pointer(f, "finalizer.fn"))
				h.rootTo(root, "", r.pointer(f, "finalizer.arg"))
			}
		})
	}
	if at := r.symbols["runtime.gcCleanups"]; at != 0 && l.has("cleanupQueue.all", "cleanupBlock.cleanupBlockHeader.alllink", "cleanupBlock.cleanupBlockHeader.n", "cleanupBlock.cleanups") {
		size, arg := uint64(8), uint64(0) // a function value alone, until go1.26
		if l.has("cleanupFn", "cleanupFn.fn", "cleanupFn.arg") {
			size, arg = l["cleanupFn"].Size, l["cleanupFn.arg"].Offset
		}
		r.chain(at+l["cleanupQueue.all"].Offset, l["cleanupBlock.cleanupBlockHeader.alllink"].Offset, func(block uint64) {
			n, _ := r.field(block, "cleanupBlock.cleanupBlockHeader.n")
			for i := range min(n, l["cleanupBlock.cleanups"].Size/max(size, 1)) {
				f := block + l["cleanupBlock.cleanups"].Offset + i*size
				fn, _ := r.mem.uint(f+l["cleanupFn.fn"].Offset, 8)
				root := h.addRoot(Root{Kind: RootCleanup, Name: h.functionOf(fn)})
				h.rootFunction(root, fn)
				if arg != 0 {
					to, _ := r.mem.uint(f+arg, 8)
					h.rootTo(root, "", to)
				}
			}
		})
	}
}
