package goruntime

import (
	"math"
)

// A Sampled is an object whose allocation the program's own memory profile has recorded
// (runtime.MemProfileRate): one in so many bytes. It stands for others of its size from its place.
type Sampled struct {
	Address uint64 // runtime address of its slot
	Size    uint64 // bytes, as the profile has them: those of its size class
	// Objects is how many allocations it stands for, as package runtime/pprof scales them.
	Objects float64
	// Stack are the runtime addresses at which it was allocated, return addresses, the innermost first. Objects
	// from one place share it.
	Stack []uint64
}

// Bounds of what is read for one object, and in all.
const (
	maxSpecials  = 1 << 16 // of one span
	maxSampled   = 1 << 22
	maxProfStack = 1024 // maxProfStackDepth, runtime/mprof.go
)

// Sampled are the objects among spans that the memory profile knows, in order of spans. A program that does
// not use the profile has none: the linker switches it off.
func (r *Runtime) Sampled(spans []Span) []Sampled {
	if !r.layout.has("special.next", "special.offset", "special.kind", "specialprofile.b", "bucket", "bucket.typ", "bucket.size", "bucket.nstk") {
		return nil
	}
	rate := uint64(512 << 10) // what it is unless the program changes it, which without symbols cannot be known
	if at := r.symbols["runtime.MemProfileRate"]; at != 0 {
		if n, ok := r.mem.uint(at, 8); ok && int64(n) > 0 {
			rate = n
		}
	}
	kind := profileKind(r.Version)
	buckets := map[uint64]*Sampled{} // without Address
	var all []Sampled
	for i := range spans {
		s := &spans[i]
		if s.specials == 0 || s.Use != ObjectSpan || s.SlotSize == 0 {
			continue
		}
		at := s.specials
		for range maxSpecials {
			if at == 0 || len(all) == maxSampled {
				break
			}
			offset, ok1 := r.field(at, "special.offset")
			k, ok2 := r.field(at, "special.kind")
			if !ok1 || !ok2 {
				break
			}
			if k == kind && offset < s.Bytes {
				bucket := r.pointer(at, "specialprofile.b")
				b, known := buckets[bucket]
				if !known {
					b = r.bucket(bucket, rate)
					buckets[bucket] = b
				}
				if slot := offset / s.SlotSize; b != nil && b.Size <= s.SlotSize && slot < uint64(len(s.Slots)) && s.Slots[slot] != FreeSlot {
					x := *b
					x.Address = s.Start + slot*s.SlotSize
					all = append(all, x)
				}
			}
			at = r.pointer(at, "special.next")
		}
	}
	return all
}

// bucket reads a place of the memory profile; nil where it is not to be believed.
func (r *Runtime) bucket(at, rate uint64) *Sampled {
	const memory = 1 // memProfile, runtime/mprof.go
	kind, ok1 := r.field(at, "bucket.typ")
	size, ok2 := r.field(at, "bucket.size")
	n, ok3 := r.field(at, "bucket.nstk")
	if !ok1 || !ok2 || !ok3 || kind != memory || size == 0 || size > 1<<48 || n == 0 || n > maxProfStack {
		return nil
	}
	b := &Sampled{Size: size, Objects: 1, Stack: make([]uint64, n)}
	if rate > 1 { // scaleHeapSample, runtime/pprof/protomem.go
		b.Objects = 1 / (1 - math.Exp(-float64(size)/float64(rate)))
	}
	for i := range b.Stack { // it follows the structure
		pc, ok := r.mem.uint(at+r.layout["bucket"].Size+uint64(i)*8, 8)
		if !ok {
			return nil
		}
		b.Stack[i] = pc
	}
	return b
}

// profileKind is _KindSpecialProfile of a release (runtime/mheap.go).
func profileKind(version string) uint64 {
	return kindsOf(version).profile
}
