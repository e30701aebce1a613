package goruntime

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
)

// RootKind says why a root is one.
type RootKind uint8

// The kinds of root.
const (
	RootGlobal    RootKind = iota + 1 // a package variable
	RootLocal                         // a variable of a frame of a goroutine
	RootStack                         // a word of a stack that no variable is known to be in
	RootRegister                      // a register of a thread
	RootFinalizer                     // runtime.SetFinalizer
	RootCleanup                       // runtime.AddCleanup
	RootWeak                          // what a weak pointer goes through
	RootData                          // a variable that has no name
	RootOther                         // the stacks of threads
)

// A Root is where the collector starts.
type Root struct {
	Kind      RootKind
	Name      string // "main.reg"; "main.worker.scratch" of a local variable; a function of words and registers
	Goroutine int    // index into Heap.Goroutines, counted from 1; 0 for none
	File      string // where the variable is declared, or the frame is at
	Line      int
}

// A RootReference is a pointer in a root.
type RootReference struct {
	Root   uint32 // index into Heap.Roots
	Field  uint32 // index into Heap.Fields
	Object uint32 // from 1
}

func (h *Heap) addRoot(x Root) uint32 {
	h.Roots = append(h.Roots, x)
	return uint32(len(h.Roots) - 1)
}

// rootTo adds a reference of a root to what an address points into, if that is an object.
func (h *Heap) rootTo(root uint32, field string, at uint64) bool {
	label := uint32(0)
	if field != "" {
		h.ts.mu.Lock()
		label = h.ts.label(field)
		h.ts.mu.Unlock()
	}
	return h.rootPointer(root, label, at)
}

func (h *Heap) rootPointer(root, label uint32, at uint64) bool {
	_, slot, ok := h.s.slotAt(at)
	if ok {
		h.RootReferences = append(h.RootReferences, RootReference{root, label, h.s.number(slot) + 1})
	}
	return ok
}

// A variable is a package variable, or a value without a name in the program's data that one leads to.
type variable struct {
	name       string
	start, end uint64
	t          *typeInfo
	array      bool
	root       int64 // index into Heap.Roots; -1 until it has one
}

// segments are the program's variables that may have pointers.
type segment struct {
	start uint64
	data  []byte
	mask  uint64
}

func (h *Heap) readSegments() {
	for i := range h.ts.modules {
		m := &h.ts.modules[i]
		for _, x := range [][3]uint64{{m.data, m.edata, m.dataMask}, {m.bss, m.ebss, m.bssMask}} {
			if x[0] == 0 || x[1] <= x[0] || x[1]-x[0] > 1<<32 {
				continue
			}
			if b, ok := h.r.mem.view(x[0], x[1]-x[0]); ok {
				h.segments = append(h.segments, segment{x[0], b, x[2]})
			}
		}
	}
}

// inSegment is the memory from an address in the program's variables to their end.
func (h *Heap) inSegment(at uint64) []byte {
	for i := range h.segments {
		if s := &h.segments[i]; at >= s.start && at-s.start < uint64(len(s.data)) {
			return s.data[at-s.start:]
		}
	}
	return nil
}

// readVariables types what the package variables refer to. What the compiler has put into data for
// composite literals has no name: it gets that of the variable that leads there.
func (h *Heap) readVariables() {
	w := h.t.workers[0]
	known := map[uint64]uint64{} // size of what is known by address
	add := func(name string, at uint64, t *typeInfo, n uint64, array bool) {
		if t == nil || t.size == 0 || n == 0 || n > 1<<32/t.size {
			return
		}
		size := t.size * n
		if b := h.inSegment(at); uint64(len(b)) < size || known[at] >= size || len(h.variables) >= 1<<22 {
			return
		}
		if !h.ts.compile(t).pointers {
			return
		}
		known[at] = size
		h.variables = append(h.variables, variable{name: name, start: at, end: at + size, t: t, array: array, root: -1})
	}
	if d := h.r.debug; d != nil {
		for _, g := range d.globals {
			h.ts.mu.Lock()
			t := h.ts.fromDIE(g.typ)
			h.ts.mu.Unlock()
			add(g.name, g.address+h.r.bias, t, 1, false)
		}
	}
	for i := 0; i < len(h.variables); i++ {
		v := h.variables[i]
		w.outside = func(at uint64, t *typeInfo, n uint64, array bool) { add(v.name, at, t, n, array) }
		p := h.ts.compile(v.t)
		w.values(p, h.inSegment(v.start)[:v.end-v.start], (v.end-v.start)/p.size)
	}
	w.outside = nil
	slices.SortStableFunc(h.variables, func(a, b variable) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	end := uint64(0)
	h.variables = slices.DeleteFunc(h.variables, func(v variable) bool {
		if v.start < end {
			return true // within another
		}
		end = v.end
		return false
	})
}

// readData adds the pointers in the program's variables, by the collector's own masks.
func (h *Heap) readData() {
	unnamed := int64(-1)
	for i := range h.segments {
		s := &h.segments[i]
		words := uint64(len(s.data)) / 8
		bitmap, ok := h.r.mem.view(s.mask, (words+7)/8)
		if !ok || s.mask == 0 {
			h.Lost = append(h.Lost, "which words of the program's variables are pointers: all were taken for pointers")
			bitmap = make([]byte, (words+7)/8)
			for i := range bitmap {
				bitmap[i] = 0xff
			}
		}
		k := sort.Search(len(h.variables), func(k int) bool { return h.variables[k].end > s.start })
		for i, set := range bitmap {
			for ; set != 0; set &= set - 1 {
				off := uint64(i)*64 + uint64(bits.TrailingZeros8(set))*8
				if off+8 > uint64(len(s.data)) {
					break
				}
				v := binary.LittleEndian.Uint64(s.data[off:])
				if v == 0 {
					continue
				}
				if _, _, ok := h.s.slotAt(v); !ok {
					continue
				}
				at := s.start + off
				for k < len(h.variables) && h.variables[k].end <= at {
					k++
				}
				if k < len(h.variables) && h.variables[k].start <= at {
					x := &h.variables[k]
					if x.root < 0 {
						x.root = int64(h.addRoot(Root{Kind: RootGlobal, Name: x.name}))
					}
					h.rootPointer(uint32(x.root), h.ts.compile(x.t).labelAt(at-x.start, x.array), v)
					continue
				}
				if unnamed < 0 {
					unnamed = int64(h.addRoot(Root{Kind: RootData}))
				}
				h.rootPointer(uint32(unnamed), 0, v)
			}
		}
	}
}

// stackOf is a goroutine's stack from its stack pointer on.
func (h *Heap) stackOf(g *Goroutine) []byte {
	sp := g.sp &^ 7
	if sp >= g.hi {
		return nil
	}
	b, _ := h.r.mem.view(sp, g.hi-sp)
	return b
}

// readStacks adds the pointers on the stacks: those in variables by their names and types, all other
// words that look like pointers so that nothing that is in use is taken for dead.
func (h *Heap) readStacks(vars *frameVariables) {
	w := h.t.workers[0]
	covered := map[uint64]bool{}
	for i := range h.Goroutines {
		g := &h.Goroutines[i]
		stack := h.stackOf(g)
		if len(stack) == 0 {
			continue
		}
		clear(covered)
		start := g.sp &^ 7
		var frames []stackFrame
		h.r.walk(g, stack, h.ts.code, func(f stackFrame) { frames = append(frames, f) })
		for _, f := range frames {
			for _, v := range vars.at[f.pc] {
				at := f.base + uint64(v.off)
				if at < start || at%8 != 0 || v.t.size > g.hi-at || at > g.hi {
					continue
				}
				p := h.ts.compile(v.t)
				b := stack[at-start:][:v.t.size]
				w.values(p, b, 1)
				root := int64(-1)
				for off := uint64(0); off+8 <= v.t.size; off += 8 {
					if covered[at+off] {
						continue
					}
					covered[at+off] = true
					x := binary.LittleEndian.Uint64(b[off:])
					if x == 0 || !h.live(x) {
						continue
					}
					if root < 0 {
						root = int64(h.addRoot(Root{Kind: RootLocal, Name: v.name, Goroutine: i + 1, File: v.file, Line: v.line}))
					}
					h.rootPointer(uint32(root), p.labelAt(off, false), x)
				}
			}
		}
		h.readWords(g, i, stack, start, frames, covered)
	}
}

// live says whether an address may be that of an object in use: not of one that the last collection
// has given up, which only a word that means nothing any more points to.
func (h *Heap) live(at uint64) bool {
	_, slot, ok := h.s.slotAt(at)
	return ok && h.s.swept[slot>>6]>>(slot&63)&1 == 0
}

// readWords adds the words of a stack that no variable covers, by the function they are in.
func (h *Heap) readWords(g *Goroutine, index int, stack []byte, start uint64, frames []stackFrame, covered map[uint64]bool) {
	k, root := 0, int64(-1)
	for off := uint64(0); off+8 <= uint64(len(stack)); off += 8 {
		at := start + off
		for k < len(frames) && at >= frames[k].base {
			k++
			root = -1
		}
		x := binary.LittleEndian.Uint64(stack[off:])
		if x == 0 || !h.live(x) || covered[at] {
			continue
		}
		if root < 0 {
			r := Root{Kind: RootStack, Goroutine: index + 1, Name: g.Start}
			if k < len(frames) {
				r.Name = frames[k].f.name
			}
			root = int64(h.addRoot(r))
		}
		h.rootPointer(uint32(root), 0, x)
	}
}

// maxThreadStack bounds how much is looked at of a stack that the runtime does not know.
const maxThreadStack = 64 << 10

// readThreads adds the registers, and the stacks that threads run the runtime and C on.
func (h *Heap) readThreads(threads []Thread) {
	stacks := h.r.Stacks()
	for i := range threads {
		t := &threads[i]
		goroutine, name := 0, ""
		for k := range h.Goroutines {
			if h.Goroutines[k].thread == t.TID {
				goroutine = k + 1
			}
		}
		if f, _ := h.ts.code.function(t.pc()); f != nil {
			name = f.name
		}
		root := int64(-1)
		for k, x := range t.Registers {
			if k <= 14 && x != 0 && h.live(x) { // the general ones; 15 and on are flags, segments, pc and sp
				if root < 0 {
					root = int64(h.addRoot(Root{Kind: RootRegister, Name: name, Goroutine: goroutine}))
				}
				h.rootPointer(uint32(root), 0, x)
			}
		}
		if t.sp() == 0 || h.onGoroutine(t.sp()) {
			continue
		}
		root = -1
		sp := t.sp() &^ 7
		end := sp + maxThreadStack
		for _, s := range stacks {
			if s.Goroutine == 0 && sp >= s.Start && sp < s.End && s.End-s.Start <= 64<<20 {
				end = s.End
			}
		}
		for at := sp &^ (memoryPage - 1); at < end; at += memoryPage {
			page := h.r.mem.page(at / memoryPage)
			if page == nil {
				break
			}
			for k := 0; k+8 <= memoryPage; k += 8 {
				if x := binary.LittleEndian.Uint64(page[k:]); at+uint64(k) >= sp && at+uint64(k) < end && x != 0 && h.live(x) {
					if root < 0 {
						root = int64(h.addRoot(Root{Kind: RootOther, Name: "thread's own stack", Goroutine: goroutine}))
					}
					h.rootPointer(uint32(root), 0, x)
				}
			}
		}
	}
}

// onGoroutine says whether an address is on the stack of a goroutine, which is looked at as such.
func (h *Heap) onGoroutine(at uint64) bool {
	for i := range h.Goroutines {
		if g := &h.Goroutines[i]; at >= g.lo && at < g.hi {
			return true
		}
	}
	return false
}
