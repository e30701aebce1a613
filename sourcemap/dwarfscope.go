package sourcemap

import (
	"cmp"
	"container/heap"
	"debug/dwarf"
	"slices"
)

// A piece is the addresses [low, high) that belong to something with an id.
type piece struct {
	low, high uint64
	id        int32
}

// find is the piece that holds addr, of pieces in ascending order without overlaps.
func find(pieces []piece, addr uint64) (piece, bool) {
	i, _ := slices.BinarySearchFunc(pieces, addr, func(p piece, addr uint64) int {
		if p.high <= addr {
			return -1
		}
		return 1
	})
	if i == len(pieces) || addr < pieces[i].low {
		return piece{}, false
	}
	return pieces[i], true
}

// flatten makes pieces that do not overlap, in ascending order. Where several hold an address, the
// one of the greatest depth gets it, of equals the one with the lowest id. depth is by id; nil says
// that all are equal.
func flatten(pieces []piece, depth []int32) []piece {
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.high, b.high), cmp.Compare(a.id, b.id))
	})
	open := openPieces{depth: depth}
	flat := make([]piece, 0, len(pieces))
	var at uint64
	upTo := func(end uint64) {
		for len(open.pieces) > 0 && at < end {
			top := open.pieces[0]
			if top.high <= at {
				heap.Pop(&open)
				continue
			}
			to := min(top.high, end)
			if n := len(flat); n > 0 && flat[n-1].id == top.id && flat[n-1].high == at {
				flat[n-1].high = to
			} else {
				flat = append(flat, piece{at, to, top.id})
			}
			at = to
		}
		at = end
	}
	for _, p := range pieces {
		upTo(p.low)
		heap.Push(&open, p)
	}
	upTo(^uint64(0))
	return flat
}

// openPieces is a heap with the piece on top that flatten prefers.
type openPieces struct {
	pieces []piece
	depth  []int32
}

func (o *openPieces) Len() int      { return len(o.pieces) }
func (o *openPieces) Swap(i, j int) { o.pieces[i], o.pieces[j] = o.pieces[j], o.pieces[i] }
func (o *openPieces) Push(x any)    { o.pieces = append(o.pieces, x.(piece)) }

func (o *openPieces) Less(i, j int) bool {
	a, b := o.pieces[i].id, o.pieces[j].id
	if o.depth != nil && o.depth[a] != o.depth[b] {
		return o.depth[a] > o.depth[b]
	}
	return a < b
}

func (o *openPieces) Pop() any {
	n := len(o.pieces) - 1
	p := o.pieces[n]
	o.pieces = o.pieces[:n]
	return p
}

// A scope is a function that has code, or a call that was inlined.
type scope struct {
	die        uint64 // offset in .debug_info
	parent     int32  // scope that an inlined call is in; -1 for a function
	callFile   uint32 // into the unit's file table
	callLine   uint32
	callColumn uint32
}

// load reads the unit's functions and inlined calls and runs its line number program, once.
func (u *unit) load() {
	if u.loaded {
		return
	}
	u.loaded = true
	if u.skeleton == nil {
		u.lineTable(true)
	}
	if !u.table() {
		return
	}
	u.data = u.t.info.bytes(u.off, u.end-u.off)
	c := u.cursor(u.data)
	c.pos = min(int(u.first-u.off), len(c.b))

	var depth []int32 // by scope: how many inlined calls it is in
	var pieces []piece
	// What the entries at the cursor are in, -1 for nothing: scope and container. And the same of
	// the entries around them.
	type level struct{ scope, container int32 }
	inside := level{-1, -1}
	var around []level
	for !c.bad && c.pos < len(c.b) {
		at := c.pos
		code := c.uleb()
		if code == 0 { // the end of siblings
			if len(around) == 0 {
				break
			}
			inside = around[len(around)-1]
			around = around[:len(around)-1]
			continue
		}
		a := u.abbrevs.of(code)
		if a == nil {
			break
		}
		here := inside
		switch {
		case a.scope:
			var d die
			u.attributes(&c, u.off, a, &d)
			id := int32(len(u.scopes))
			before := len(pieces)
			if pieces = u.ranges(pieces, &d, id); len(pieces) > before {
				s := scope{die: u.off + uint64(at), parent: -1}
				deep := int32(0)
				if a.tag == dwarf.TagInlinedSubroutine && inside.scope >= 0 {
					s.parent = inside.scope
					deep = depth[inside.scope] + 1
					s.callFile, s.callLine, s.callColumn = clip32(d.callFile.v), clip32(d.callLine.v), clip32(d.callColumn.v)
				}
				u.scopes = append(u.scopes, s)
				depth = append(depth, deep)
				here.scope = id
			} else if a.tag == dwarf.TagSubprogram {
				here.scope = -1 // a declaration, or the pattern of inlined calls: no code is in it
			}
			if d.linkage.form == 0 && d.name.form != 0 && inside.container >= 0 {
				if u.members == nil {
					u.members = map[uint64]int32{}
				}
				u.members[u.off+uint64(at)] = inside.container
			}
		case a.fixed >= 0:
			c.skip(uint64(a.fixed))
		default:
			for _, f := range a.attrs {
				if u.value(&c, f, u.off); c.bad {
					break
				}
			}
		}
		if a.children {
			if isContainer(a.tag) {
				here.container = int32(len(u.containers))
				u.containers = append(u.containers, container{u.off + uint64(at), inside.container})
			}
			around = append(around, inside)
			inside = here
		}
	}
	u.pieces = flatten(pieces, depth)
}

// full is the unit that has the functions of u, loaded: u itself, or what u is the skeleton of.
func (u *unit) full() *unit {
	if !u.soughtSplit {
		u.soughtSplit = true
		if u.root.splitName.form != 0 && u.skeleton == nil && u.t.openSplit != nil {
			if u.split = u.t.openSplit(u); u.split != nil {
				u.split.load()
			}
		}
	}
	if u.split != nil {
		return u.split
	}
	return u
}

// A container is an entry whose name is part of the names of the functions in it.
type container struct {
	die    uint64 // offset in .debug_info
	parent int32  // container it is in; -1 for none
}

func isContainer(tag dwarf.Tag) bool {
	switch tag {
	case dwarf.TagNamespace, dwarf.TagClassType, dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagEnumerationType,
		dwarf.TagInterfaceType, dwarf.TagModule:
		return true
	}
	return false
}

// qualified is the name of the function at off with those of the namespaces and types around it, for
// functions that have no linkage name: constructors, members of types in units of their own.
func (u *unit) qualified(off uint64, name string) string {
	u.load()
	id, ok := u.members[off]
	for ok && id >= 0 {
		var d die
		if !u.die(u.containers[id].die, &d) {
			break
		}
		outer := u.str(d.name)
		if outer == "" && d.tag == dwarf.TagNamespace {
			outer = "(anonymous namespace)"
		}
		if outer != "" {
			name = outer + "::" + name
		}
		id = u.containers[id].parent
	}
	return name
}

func clip32(v uint64) uint32 { return uint32(min(v, 0xffffffff)) }
