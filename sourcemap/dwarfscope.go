package sourcemap

import (
	"cmp"
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
// that all are equal. It sorts what it is given.
func flatten(pieces []piece, depth []int32) []piece {
	slices.SortFunc(pieces, func(a, b piece) int {
		switch {
		case a.low != b.low:
			return cmp.Compare(a.low, b.low)
		case a.high != b.high:
			return cmp.Compare(a.high, b.high)
		}
		return cmp.Compare(a.id, b.id)
	})
	open := openPieces{depth: depth}
	flat := make([]piece, 0, len(pieces))
	var at uint64
	upTo := func(end uint64) {
		for len(open.pieces) > 0 && at < end {
			top := open.pieces[0]
			if top.high <= at {
				open.pop()
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
		open.push(p)
	}
	upTo(^uint64(0))
	return flat
}

// openPieces is a heap with the piece on top that flatten prefers. (container/heap would make an
// object of each piece.)
type openPieces struct {
	pieces []piece
	depth  []int32
}

func (o *openPieces) less(i, j int) bool {
	a, b := o.pieces[i].id, o.pieces[j].id
	if o.depth != nil && o.depth[a] != o.depth[b] {
		return o.depth[a] > o.depth[b]
	}
	return a < b
}

func (o *openPieces) push(p piece) {
	o.pieces = append(o.pieces, p)
	for i := len(o.pieces) - 1; i > 0; {
		up := (i - 1) / 2
		if !o.less(i, up) {
			break
		}
		o.pieces[i], o.pieces[up] = o.pieces[up], o.pieces[i]
		i = up
	}
}

func (o *openPieces) pop() {
	n := len(o.pieces) - 1
	o.pieces[0] = o.pieces[n]
	o.pieces = o.pieces[:n]
	for i := 0; ; {
		best := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if o.less(child, best) {
				best = child
			}
		}
		if best == i {
			return
		}
		o.pieces[i], o.pieces[best] = o.pieces[best], o.pieces[i]
		i = best
	}
}

// A routine is a function that has code. What was inlined into it is read when one of its addresses is
// asked for: most of a unit's entries are in functions that no sample has hit.
type routine struct {
	die, end uint64 // offsets in .debug_info: its entry, and what follows all that is in it
	low      uint64 // where its code begins
	body     *body  // nil until it is asked for
}

// A body is the calls that were inlined into a routine.
type body struct {
	scopes []scope // the routine itself first
	pieces []piece // by address, without overlaps; id is into scopes
}

// A scope is a routine, or a call that was inlined.
type scope struct {
	die        uint64 // offset in .debug_info of an entry that tells its name
	parent     int32  // scope that an inlined call is in; -1 for a function
	callFile   uint32 // into the unit's file table
	callLine   uint32
	callColumn uint32
}

// A routineList is what one walk over a unit's entries has found.
type routineList struct {
	routines   []routine
	pieces     []piece     // by address, without overlaps; id is into routines
	outOfLine  [][2]uint64 // routines that have an abstract instance: its entry's offset, the routine's low; sorted
	containers []container // in the order of entries
	marks      []mark      // some of the entries, in order
}

// A container is an entry whose name is part of the names of the functions in it.
type container struct {
	die    uint64 // offset in .debug_info
	parent int32  // container it is in; -1 for none
}

// A mark is an entry right below the unit's root or a container, from which a walk can begin.
type mark struct {
	die       uint64
	container int32
}

const (
	marksEvery = 64      // entries
	maxScratch = 8 << 20 // bytes of entries that stay in memory for the next unit
)

// load finds the unit's functions and runs its line number program, once.
func (u *unit) load() {
	if u.list != nil {
		return
	}
	if u.skeleton == nil {
		u.lineTable(true)
	}
	u.list = u.walk()
	u.t.loaded.add(u)
}

// walk passes through all of the unit's entries: functions with code may be in any other entry, those of
// lambdas are in the function that has the lambda. Nearly all entries cost no more than their length.
func (u *unit) walk() *routineList {
	l := &routineList{}
	if !u.table() {
		return l
	}
	data := u.t.entries(u.off, u.end-u.off)
	c := u.cursor(data)
	c.pos = min(int(u.first-u.off), len(c.b))
	budget := maxRanges
	pieces := u.t.pieces[:0]
	// What the entries at the cursor are in: container, -1 for none; and routine, -1 where they are
	// right below the root or a container, or in anything else. And the same of the entries around them.
	type level struct {
		container, routine int32
		direct             bool // right below the root or a container
	}
	inside := level{-1, -1, false}
	var around []level
	var d die
	for sinceMark := marksEvery; !c.bad && c.pos < len(c.b); {
		at := c.pos
		code := c.uleb()
		if code == 0 { // the end of siblings
			if inside.routine >= 0 {
				l.routines[inside.routine].end = u.off + uint64(c.pos)
			}
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
		if sinceMark++; inside.direct && sinceMark >= marksEvery {
			l.marks = append(l.marks, mark{u.off + uint64(at), inside.container})
			sinceMark = 0
		}
		here := level{inside.container, -1, false}
		if a.tag == dwarf.TagSubprogram && a.code {
			u.attributes(&c, u.off, a, &d)
			id := int32(len(l.routines))
			before := len(pieces)
			if pieces = u.ranges(pieces, &d, id, &budget); len(pieces) > before {
				r := routine{die: u.off + uint64(at), end: u.off + uint64(c.pos), low: pieces[before].low}
				l.routines = append(l.routines, r)
				if d.origin.form != 0 && d.linkage.form == 0 {
					l.outOfLine = append(l.outOfLine, [2]uint64{d.origin.v, r.low})
				}
				here.routine = id
			}
		} else {
			u.skipEntry(&c, a)
		}
		if !a.children {
			continue
		}
		if isContainer(a.tag) {
			here.container = int32(len(l.containers))
			here.direct = inside.direct
			l.containers = append(l.containers, container{u.off + uint64(at), inside.container})
		}
		if a.tag == dwarf.TagCompileUnit || a.tag == dwarf.TagPartialUnit {
			here.direct = true
		}
		around = append(around, inside)
		inside = here
	}
	for _, x := range append(around, inside) { // of a damaged unit
		if x.routine >= 0 {
			l.routines[x.routine].end = u.end
		}
	}
	if cap(u.t.scratch) > maxScratch {
		u.t.scratch = nil
	}
	slices.SortFunc(l.outOfLine, func(a, b [2]uint64) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	u.t.pieces = pieces[:0]
	l.pieces = slices.Clip(flatten(pieces, nil))
	l.routines, l.containers, l.outOfLine, l.marks = slices.Clip(l.routines), slices.Clip(l.containers), slices.Clip(l.outOfLine), slices.Clip(l.marks)
	return l
}

// bodyAt is the body of the routine that holds an address, and which of its scopes does, up to where.
func (u *unit) bodyAt(addr uint64) (b *body, scope piece, ok bool) {
	u.load()
	p, ok := find(u.list.pieces, addr)
	if !ok {
		return nil, piece{}, false
	}
	r := &u.list.routines[p.id]
	if r.body == nil {
		r.body = u.readBody(r)
		u.t.loaded.grow(u, r.body.size())
	}
	inner, ok := find(r.body.pieces, addr)
	if !ok {
		return r.body, piece{addr, addr + 1, 0}, true
	}
	return r.body, piece{max(p.low, inner.low), min(p.high, inner.high), inner.id}, true
}

// readBody reads the entries in a routine's.
func (u *unit) readBody(r *routine) *body {
	data := u.t.entries(r.die, r.end-r.die)
	// Entries of a damaged unit may all refer to one long list of ranges. Real ones take more bytes than
	// they have ranges.
	budget := 4096 + 8*len(data)
	c := u.cursor(data)
	b := &body{}
	depth := u.t.depth[:0] // by scope: how many inlined calls it is in
	pieces := u.t.pieces[:0]
	inside := int32(-1)
	around := u.t.around[:0]
	var d die
	for !c.bad && c.pos < len(c.b) {
		at := c.pos
		code := c.uleb()
		if code == 0 {
			if len(around) == 0 {
				break
			}
			inside = around[len(around)-1]
			if around = around[:len(around)-1]; len(around) == 0 {
				break
			}
			continue
		}
		a := u.abbrevs.of(code)
		if a == nil {
			break
		}
		here := inside
		if a.scope && (a.code || a.tag == dwarf.TagSubprogram) {
			u.attributes(&c, r.die, a, &d)
			id := int32(len(b.scopes))
			before := len(pieces)
			if pieces = u.ranges(pieces, &d, id, &budget); len(pieces) > before || id == 0 {
				s := scope{die: r.die + uint64(at), parent: -1}
				if d.onlyRefers() {
					s.die = d.origin.v // so that all calls of a function share its name
				}
				deep := int32(0)
				if a.tag == dwarf.TagInlinedSubroutine && inside >= 0 {
					s.parent = inside
					deep = depth[inside] + 1
					s.callFile, s.callLine, s.callColumn = clip32(d.callFile.v), clip32(d.callLine.v), clip32(d.callColumn.v)
				}
				b.scopes = append(b.scopes, s)
				depth = append(depth, deep)
				here = id
			} else if a.tag == dwarf.TagSubprogram {
				here = -1 // a declaration, or the pattern of inlined calls: no code is in it
			}
		} else {
			u.skipEntry(&c, a)
		}
		if a.children {
			around = append(around, inside)
			inside = here
		} else if len(around) == 0 {
			break
		}
	}
	if len(b.scopes) == 0 { // the entry cannot be read twice
		b.scopes = []scope{{die: r.die, parent: -1}}
	}
	u.t.pieces, u.t.depth, u.t.around = pieces[:0], depth[:0], around[:0]
	b.pieces = slices.Clip(flatten(pieces, depth))
	b.scopes = slices.Clip(b.scopes)
	return b
}

// onlyRefers says whether an entry tells nothing of its function but in which other entry of the unit
// that is told.
func (d *die) onlyRefers() bool {
	switch d.origin.form {
	case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		return d.name.form == 0 && d.linkage.form == 0 && d.declFile.form == 0 && d.declLine.form == 0
	}
	return false
}

func (b *body) size() int { return 24*(len(b.scopes)+len(b.pieces)) + 64 }

// entryLow is where the code begins of the function at an entry, which is a routine's or its abstract
// instance's; false for none.
func (u *unit) entryLow(off uint64) (uint64, bool) {
	u.load()
	if i, ok := slices.BinarySearchFunc(u.list.routines, off, func(r routine, off uint64) int { return cmp.Compare(r.die, off) }); ok {
		return u.list.routines[i].low, true
	}
	i, _ := slices.BinarySearchFunc(u.list.outOfLine, off, func(o [2]uint64, off uint64) int { return cmp.Compare(o[0], off) })
	if i < len(u.list.outOfLine) && u.list.outOfLine[i][0] == off {
		return u.list.outOfLine[i][1], true
	}
	return 0, false
}

// loadedUnits bounds the memory that the units of one binary take: those that were loaded first are
// forgotten first, and loaded anew when they are asked for. Addresses are asked for in order, so that
// this is rare.
type loadedUnits struct {
	units []*unit // in the order they were loaded
	size  int
}

const maxLoadedUnits = 128 << 20 / maxParts // bytes of each part

func (l *loadedUnits) add(u *unit) {
	l.units = append(l.units, u)
	u.size = 24*(len(u.list.pieces)) + 40*len(u.list.routines) + 16*(len(u.list.outOfLine)+len(u.list.containers)+len(u.list.marks))
	if u.lines != nil {
		u.size += 16*len(u.lines.rows) + 40*len(u.lines.sequences)
	}
	l.size += u.size
	for ; l.size > maxLoadedUnits && len(l.units) > 1; l.units = l.units[1:] {
		old := l.units[0]
		l.size -= old.size
		old.list = nil
		if old.lines != nil {
			old.lines.rows, old.lines.sequences, old.lines.bounds, old.lines.lows = nil, nil, nil, nil
		}
	}
}

// grow counts what a loaded unit takes besides.
func (l *loadedUnits) grow(u *unit, n int) {
	u.size += n
	l.size += n
}

// full is the unit that has the functions of u, loaded: u itself, or what u is the skeleton of.
func (u *unit) full() *unit {
	if !u.soughtSplit {
		u.soughtSplit = true
		if u.root.splitName.form != 0 && u.skeleton == nil && u.t.openSplit != nil {
			u.split = u.t.openSplit(u)
		}
	}
	if u.split != nil {
		return u.split
	}
	return u
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
	for _, at := range slices.Backward(u.containersAt(off)) {
		var d die
		if !u.die(at, &d) {
			break
		}
		outer := u.str(d.name)
		if outer == "" && d.tag == dwarf.TagNamespace {
			outer = "(anonymous namespace)"
		}
		if outer != "" {
			name = outer + "::" + name
		}
	}
	return name
}

// containersAt are the entries whose names belong to that of the entry at off, outermost first.
func (u *unit) containersAt(off uint64) []uint64 {
	i, found := slices.BinarySearchFunc(u.list.marks, off, func(m mark, off uint64) int { return cmp.Compare(m.die, off) })
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	var path []uint64
	m := u.list.marks[i]
	for id := m.container; id >= 0; id = u.list.containers[id].parent {
		path = append(path, u.list.containers[id].die)
	}
	slices.Reverse(path)
	if m.die == off {
		return path
	}
	data := u.t.entries(m.die, off-m.die)
	c := u.cursor(data)
	var isName []bool // of the entries around the cursor, from the mark on: is it in path
	for !c.bad && c.pos < len(c.b) {
		at := m.die + uint64(c.pos)
		code := c.uleb()
		if code == 0 {
			n := len(isName)
			if n == 0 { // right below a container, so that is left
				if len(path) == 0 {
					return nil
				}
				path = path[:len(path)-1]
				continue
			}
			if isName[n-1] {
				path = path[:len(path)-1]
			}
			isName = isName[:n-1]
			continue
		}
		a := u.abbrevs.of(code)
		if a == nil {
			return nil
		}
		next := u.skipEntry(&c, a)
		if !a.children {
			continue
		}
		if next > m.die+uint64(c.pos) && next <= off {
			c.pos = int(next - m.die)
			continue
		}
		if isName = append(isName, isContainer(a.tag)); isName[len(isName)-1] {
			path = append(path, at)
		}
	}
	return path
}

func clip32(v uint64) uint32 { return uint32(min(v, 0xffffffff)) }
