package goruntime

import (
	"context"
	"fmt"
	"strings"
)

// HeapOptions are what Heap is told besides the memory. The zero value reads what memory alone has.
type HeapOptions struct {
	Threads []Thread // as they were when the memory was taken
	// Path is where the program's file can be opened by name while Heap runs: for the names of variables
	// on stacks. Without it they have none.
	Path string
	// Waste has Heap look for memory that holds nothing, which takes about as long again.
	Waste bool
	// Progress, if set, is told what is being done, and the share of all that is done.
	Progress func(what string, share float64)
}

// A Type is what objects are of.
type Type struct {
	Name    string // as Go spells it, with the package's name
	Package string // import path of the package that declares it, or what it is a pointer to or an array of
	Kind    string // "struct", "slice" (its array), "string" (its bytes), "map" (its parts), "chan", "func", …
}

// A Heap is the objects of a program and what refers to them. Objects are numbered from 1 in order of
// address. It refers to the image that it was read from, and is for one goroutine at a time.
type Heap struct {
	Types          []Type   // by the number that Objects gives; 0 is not known
	Fields         []string // by the number that References gives: "mu.waiters", "[].Next"; 0 is not known
	Roots          []Root
	RootReferences []RootReference
	Goroutines     []Goroutine
	Samples        []Sample
	SampleStacks   [][]Frame // the innermost first, without the allocator's own
	SampleRate     int64     // bytes between samples; 0 where there are none
	Waste          []Waste
	// Allocated are the bytes of all objects: what the runtime counts as HeapAlloc. Marked is what it
	// found live at its last collection; 0 when not known.
	Allocated, Marked int64
	// Unread is how many spans and goroutines could not be believed, Conservative how many objects were
	// looked through word by word because nothing says where their pointers are (known after
	// References), Contradicted how many pointers were not followed because the collector's bitmaps have
	// it otherwise.
	Unread, Conservative, Contradicted int64
	// Lost says in sentences what is not there because the program does not have it.
	Lost []string

	r         *Runtime
	s         *slots
	ts        *typeTable
	t         *typing
	segments  []segment
	variables []variable
	numbers   []uint32 // numbers of types by id·2, and one more for arrays of them
	names     map[Type]uint32
}

// Heap reads the objects.
func (r *Runtime) Heap(ctx context.Context, o HeapOptions) (*Heap, error) {
	progress := func(what string, share float64) {
		if o.Progress != nil {
			o.Progress(what, share)
		}
	}
	h := &Heap{r: r}
	var program *delveProgram
	loaded := make(chan struct{})
	entry := r.entry + r.bias
	go func() { // takes about as long as reading the objects
		defer close(loaded)
		if r.debug != nil && o.Path != "" && r.amd64 {
			program = loadDelve(o.Path, entry, r.build)
		}
	}()
	progress("reading spans", 0)
	modules := r.modules()
	r.searchGoroutines(modules)
	h.ts = newTypeTable(r, modules)
	var err error
	if h.s, err = r.readSlots(ctx); err != nil {
		return nil, err
	}
	h.Allocated, h.Unread = int64(h.s.bytes), int64(h.s.unread)
	h.Marked = int64(r.pointer(r.symbols["runtime.gcController"], "gcControllerState.heapMarked"))
	h.t = newTyping(ctx, h.s, h.ts)
	h.say(r, modules)

	progress("reading goroutines", 0.1)
	var unread int
	h.Goroutines, unread = r.goroutines(ctx, o.Threads, h.ts.code)
	h.Unread += int64(unread)
	h.nameFrames()
	h.readSegments()
	h.typeHeaders()
	progress("typing objects", 0.2)
	h.readVariables()
	h.t.run()
	select {
	case <-loaded:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	progress("reading stacks", 0.5)
	h.readStacks(h.readFrameVariables(ctx, program, o, entry))
	h.readThreads(o.Threads)
	h.readSpecials()
	h.readQueues()
	h.readData()
	progress("typing objects", 0.6)
	h.t.run()
	h.t.settle()
	h.sniff()
	if o.Waste && ctx.Err() == nil {
		progress("looking for waste", 0.7)
		h.findWaste()
	}
	if err := ctx.Err(); err != nil {
		return nil, err // what is typed so far is not all
	}
	h.Contradicted = h.t.contradicted.Load()
	h.nameTypes()
	h.ts.mu.Lock()
	h.Fields = h.ts.names
	h.ts.mu.Unlock()
	progress("finding references", 0.8)
	return h, nil
}

// say notes what the program does not have.
func (h *Heap) say(r *Runtime, modules []module) {
	if len(modules) == 0 {
		h.Lost = append(h.Lost, "the program's functions and variables: what the linker notes of them was not found")
	}
	if r.debug == nil {
		h.Lost = append(h.Lost, "the names and types of variables, and the types of objects of up to 512 bytes that no interface or larger object leads to: the program was built without debug information (-ldflags=-w)")
	}
	if r.symbols["runtime.allfin"] == 0 {
		h.Lost = append(h.Lost, "finalizers and cleanups that are about to run: the program has no symbols (-ldflags=-s)")
	}
	if r.symbols["runtime.allgs"] == 0 {
		h.Lost = append(h.Lost, "goroutines and what only their stacks keep alive: where the runtime lists them was not found, in a program without symbols (-ldflags=-s)")
	}
}

// nameFrames gives the goroutines the frames of their stacks.
func (h *Heap) nameFrames() {
	at := map[uint64][]Frame{}
	for i := range h.Goroutines {
		g := &h.Goroutines[i]
		stack := h.stackOf(g)
		h.r.walk(g, stack, h.ts.code, func(f stackFrame) {
			pc := f.pc
			if f.call {
				pc--
			}
			frames, ok := at[pc]
			if !ok {
				frames = h.ts.code.frames(pc, nil)
				at[pc] = frames
			}
			g.Frames = append(g.Frames, frames...)
		})
	}
}

// typeHeaders takes the types that the allocator has noted, both typers half of the spans.
func (h *Heap) typeHeaders() {
	done := make(chan struct{})
	n := len(h.s.spans)
	go func() {
		defer close(done)
		h.t.workers[1].headers(n/2, n)
	}()
	h.t.workers[0].headers(0, n/2)
	<-done
}

// readFrameVariables has Delve find the variables of the functions on the stacks: of one goroutine for
// each place.
func (h *Heap) readFrameVariables(ctx context.Context, p *delveProgram, o HeapOptions, entry uint64) *frameVariables {
	v := &frameVariables{at: map[uint64][]frameVariable{}}
	if p == nil || len(h.Goroutines) == 0 {
		return v
	}
	p.Lock()
	defer p.Unlock()
	target, err := p.target(h.r, entry, o.Threads)
	if err != nil {
		h.Lost = append(h.Lost, fmt.Sprintf("the names of variables on stacks: %v", err))
		return v
	}
	for i := range h.Goroutines {
		g := &h.Goroutines[i]
		if ctx.Err() != nil || v.asked >= maxAsked {
			break
		}
		fresh := false
		h.r.walk(g, h.stackOf(g), h.ts.code, func(f stackFrame) {
			if _, known := v.at[f.pc]; !known && !strings.HasPrefix(f.f.name, "runtime.") {
				fresh = true
			}
		})
		if !fresh {
			continue
		}
		v.ask(target, h.ts, g)
		h.r.walk(g, h.stackOf(g), h.ts.code, func(f stackFrame) {
			if _, known := v.at[f.pc]; !known {
				v.at[f.pc] = nil // once is enough
			}
		})
	}
	if v.failed > 0 {
		h.Lost = append(h.Lost, fmt.Sprintf("the names of variables on the stacks of %d goroutines: %v", v.failed, v.err))
	}
	return v
}

// sniff types objects that nothing else leads to by what is in them and in the program's variables: two
// words that are a type of the program and a pointer are an interface, and the address of a function's
// beginning at an object's is a closure. It is what stripped programs have instead of roots' types.
func (h *Heap) sniff() {
	w := h.t.workers[0]
	if h.r.debug == nil {
		for i := range h.segments {
			s := &h.segments[i]
			w.sniff(s.data)
		}
		for i := range h.Goroutines {
			w.sniff(h.stackOf(&h.Goroutines[i]))
		}
		h.t.run()
	}
	for range 4 {
		typed := 0
		for i := range h.s.spans {
			sp := &h.s.spans[i]
			if sp.noPointers || sp.elem > minHeader {
				continue
			}
			for k := range sp.count {
				slot := sp.first + k
				if h.t.of[slot] != 0 || !h.s.has(slot) || sp.bitmap == 0 {
					continue
				}
				b := sp.data[uint64(k)*sp.elem : uint64(k+1)*sp.elem]
				m := sp.bits(k)
				if m&1 == 0 {
					w.closure(sp.start + uint64(k)*sp.elem)
				}
				for word := uint64(1); word < sp.elem/8; word++ {
					if m>>word&1 != 0 && m>>(word-1)&1 == 0 {
						w.sniff(b[word*8-8 : word*8+8])
					}
				}
				if h.t.of[slot] != 0 {
					typed++
				}
			}
		}
		if typed == 0 && len(w.work) == 0 {
			break
		}
		h.t.run()
		h.t.settle()
	}
}

// sniff looks for interfaces.
func (w *typer) sniff(b []byte) {
	for i := 0; i+16 <= len(b); i += 8 {
		first, data := word(b[i:]), word(b[i+8:])
		if first == 0 || data == 0 || first%8 != 0 || w.s.find(data) == nil || w.s.find(first) != nil {
			continue
		}
		d, ok := w.ifaces[first]
		if !ok {
			d = w.ts.guess(first)
			if len(w.ifaces) < 1<<20 {
				w.ifaces[first] = d
			}
		}
		w.dynamicValue(d, data)
	}
}

func word(b []byte) uint64 {
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// guess is dynamic for a word that may be neither a descriptor nor an itab.
func (ts *typeTable) guess(at uint64) (d dynamic) {
	ts.mu.Lock()
	if ts.moduleOf(at) == nil {
		at, _ = ts.r.mem.uint(at+8, 8)
	}
	in := ts.moduleOf(at) != nil
	ts.mu.Unlock()
	if in {
		return ts.dynamic(at, false)
	}
	return dynamic{}
}

var kindWords = map[kind]string{kindUnsafe: "pointer", kindPointer: "pointer", kindString: "string", kindSlice: "slice", kindIface: "interface",
	kindEface: "interface", kindFunc: "func", kindMap: "map", kindChan: "chan", kindArray: "array", kindStruct: "struct"}

var scalarWords = [...]string{"", "bool", "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64", "uintptr", "float32", "float64", "complex64", "complex128"}

// nameTypes numbers the types that objects have.
func (h *Heap) nameTypes() {
	all := *h.ts.all.Load()
	h.numbers, h.names, h.Types = make([]uint32, 2*len(all)), map[Type]uint32{}, make([]Type, 1)
	for _, v := range h.t.of {
		if v == 0 {
			continue
		}
		i := v&typeBits*2 + v&arrayBit/arrayBit
		if h.numbers[i] == 0 {
			h.numbers[i] = h.number(describe(all[v&typeBits], v&arrayBit != 0))
		}
	}
	for i := range h.Waste {
		w := &h.Waste[i]
		if h.numbers[w.Type] == 0 { // of strings that all lie inside of other objects
			h.numbers[w.Type] = h.number(describe(all[w.Type/2], w.Type%2 != 0))
		}
		w.Type = h.numbers[w.Type]
	}
}

func (h *Heap) number(t Type) uint32 {
	n, ok := h.names[t]
	if !ok {
		n = uint32(len(h.Types))
		h.Types = append(h.Types, t)
		h.names[t] = n
	}
	return n
}

// describe is a type as people read it, or what an array of it is.
func describe(t *typeInfo, array bool) Type {
	x := Type{Name: shownName(t), Package: t.pkg, Kind: kindWords[t.kind]}
	if x.Package == "" {
		x.Package = packageOf(t.name)
	}
	switch {
	case t.data:
		return Type{Name: "string", Kind: "string"}
	case strings.HasPrefix(x.Name, "map[") && t.kind == kindStruct || t.kind == kindPointer && t.elem != nil && strings.HasPrefix(t.elem.shown, "map[") && t.elem.kind == kindStruct && array:
		if t.kind == kindPointer {
			x.Name = t.elem.shown
		}
		return Type{Name: x.Name, Package: packageOf(strings.TrimPrefix(x.Name[strings.IndexByte(x.Name, ']')+1:], "*")), Kind: "map"}
	case strings.HasPrefix(x.Name, "chan ") && t.kind == kindStruct:
		return Type{Name: x.Name, Package: x.Package, Kind: "chan"}
	case array:
		return Type{Name: "[]" + x.Name, Package: x.Package, Kind: "slice"}
	case t.kind == kindScalar && int(t.goKind) < len(scalarWords):
		x.Kind = scalarWords[t.goKind]
	case t.goKind == 19:
		x.Kind = "func"
	}
	return x
}

// Len is the number of objects.
func (h *Heap) Len() int { return int(h.s.object) }

// Objects calls yield with all objects in order: where they are, how much of the heap they take, and the
// number of their type.
func (h *Heap) Objects(yield func(address, size uint64, typ uint32)) {
	for i := range h.s.spans {
		sp := &h.s.spans[i]
		for k := range sp.count {
			slot := sp.first + k
			if !h.s.has(slot) {
				continue
			}
			v := h.t.of[slot]
			yield(sp.start+uint64(k)*sp.elem, sp.elem, h.numbers[v&typeBits*2+v&arrayBit/arrayBit])
		}
	}
}
