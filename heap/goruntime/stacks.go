package goruntime

import (
	"cmp"
	"slices"
)

// A Stack is the memory of one stack that goroutines or threads run on.
type Stack struct {
	Start, End uint64 // runtime addresses
	Used       uint64 // bytes in use as far as the runtime knows; 0 where it runs
	Goroutine  uint64 // its number; 0 for a thread's own stack
	// Created is the runtime address of the go statement that made the goroutine, as a return address; 0
	// for the first one, and where it is not known.
	Created uint64
	Thread  uint64 // kernel's thread id, for a thread's own stack
	Signal  bool   // the stack that the thread handles signals on
}

const maxGoroutines = 1 << 26

// Stacks are those of all goroutines that are not dead, and of the runtime's threads where they are in
// the heap (they are not with cgo), in order of address.
func (r *Runtime) Stacks() []Stack {
	var all []Stack
	read := func(g uint64) (Stack, bool) {
		lo, ok1 := r.field(g, "g.stack.lo")
		hi, ok2 := r.field(g, "g.stack.hi")
		if !ok1 || !ok2 || lo == 0 || hi <= lo || hi-lo > 1<<32 {
			return Stack{}, false
		}
		return Stack{Start: lo, End: hi}, true
	}
	if list := r.symbols["runtime.allgs"]; list != 0 && r.layout.has("g.stack.lo", "g.stack.hi", "g.atomicstatus", "g.goid") {
		data, ok1 := r.mem.uint(list, 8)
		n, ok2 := r.mem.uint(list+8, 8)
		for i := range min(n, maxGoroutines) {
			g, ok := r.mem.uint(data+i*8, 8)
			if !ok || !ok1 || !ok2 {
				break
			}
			const dead, scan = 6, 0x1000 // _Gdead, _Gscan (runtime/runtime2.go)
			if status, _ := r.field(g, "g.atomicstatus"); status&^scan == dead {
				continue
			}
			s, ok := read(g)
			if !ok {
				continue
			}
			if s.Goroutine, ok = r.field(g, "g.goid"); !ok {
				continue
			}
			if sp := r.pointer(g, "g.sched.sp"); sp >= s.Start && sp <= s.End {
				s.Used = s.End - sp
			}
			s.Created = r.pointer(g, "g.gopc")
			all = append(all, s)
		}
	}
	if r.symbols["runtime.allm"] != 0 && r.layout.has("m.g0", "m.gsignal", "m.procid", "m.alllink") {
		r.chain(r.symbols["runtime.allm"], r.layout["m.alllink"].Offset, func(m uint64) {
			thread := r.pointer(m, "m.procid")
			for _, field := range []string{"m.g0", "m.gsignal"} {
				if s, ok := read(r.pointer(m, field)); ok {
					s.Thread, s.Signal = thread, field == "m.gsignal"
					all = append(all, s)
				}
			}
		})
	}
	slices.SortFunc(all, func(a, b Stack) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Goroutine, b.Goroutine))
	})
	return all
}
