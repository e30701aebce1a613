package goruntime

import (
	"cmp"
	"slices"
	"strings"
)

// An opKind says what to do with a word, or with a few, of a value.
type opKind uint8

const (
	opUnsafe  opKind = iota
	opPointer        // to one value
	opArray          // to as many values as fit
	opString
	opSlice
	opIface
	opEface
	opReflected // as opEface, but only where the value's flag says that it is a pointer
	opFunc
	opSwiss   // a map's dirPtr; aux is where dirLen is, to the directory's element, other a group
	opGroups  // a table's groups; aux is where lengthMask is
	opCounted // to as many values as the word at aux says
	opTrie    // to a node of sync.Map: to is an entry, other an indirect, aux where the node's isEntry is
	opRepeat  // aux values of to, one after the other
)

// An op is a place in a type that leads to other objects.
type op struct {
	kind       opKind
	off        uint32
	aux        uint32
	label      uint32 // the path of the field
	arrayLabel uint32 // the same for elements of an array
	to, other  *typeInfo
}

// pointerWord is where the word is that the collector follows.
func (o *op) pointerWord() uint64 {
	if o.kind == opIface || o.kind == opEface || o.kind == opReflected {
		return uint64(o.off) + 8
	}
	return uint64(o.off)
}

// A program is a type as the scan wants it: its ops in order of offset.
type program struct {
	ops      []op
	size     uint64
	pointers bool     // it has any
	mask     uint64   // words that the collector follows, where size is at most 512
	repeats  bool     // there are opRepeats: mask does not hold
	cut      bool     // something of it is not known
	opaque   bool     // nothing of its layout is known
	waste    bool     // it has strings, slices or maps
	padding  uint64   // bytes between fields and behind the last
	byWord   []uint16 // which op has a word, counted from 1, where the size is small
}

const (
	maxOps    = 1 << 14
	maxUnroll = 256
	maxDepth  = 64
)

// compile is the program of a type, made when it is first asked for.
func (ts *typeTable) compile(t *typeInfo) *program {
	if p := t.program.Load(); p != nil {
		return p
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.compileLocked(t)
}

func (ts *typeTable) compileLocked(t *typeInfo) *program {
	if p := t.program.Load(); p != nil {
		return p
	}
	p := &program{size: t.size}
	if t.size < 1<<32 {
		c := compiler{ts: ts, p: p}
		p.padding = c.add(t, 0, "", 0)
	} else {
		p.cut = true
	}
	for i := range p.ops {
		o := &p.ops[i]
		p.pointers = true
		if w := o.pointerWord(); o.kind == opRepeat {
			p.repeats = true
		} else if w < 512 {
			p.mask |= 1 << (w / 8)
		}
	}
	slices.SortStableFunc(p.ops, func(a, b op) int { return cmp.Compare(a.pointerWord(), b.pointerWord()) })
	if p.pointers && !p.repeats && p.size <= 4096 {
		p.byWord = make([]uint16, p.size/8+1)
		for i := range p.ops {
			if w := p.ops[i].pointerWord() / 8; w < uint64(len(p.byWord)) {
				p.byWord[w] = uint16(i + 1)
			}
		}
	}
	t.program.Store(p)
	return p
}

// labelAt is the path of the field that a pointer at an offset is in, or of an element's of an array.
func (p *program) labelAt(off uint64, array bool) uint32 {
	if p.size == 0 || off >= p.size && !array {
		return 0
	}
	if array {
		off %= p.size
	}
	var o *op
	if p.byWord != nil {
		i := p.byWord[off/8]
		if i == 0 {
			return 0
		}
		o = &p.ops[i-1]
	} else {
		i, exact := slices.BinarySearchFunc(p.ops, off, func(o op, off uint64) int { return cmp.Compare(o.pointerWord(), off) })
		switch {
		case exact:
		case i > 0 && p.ops[i-1].kind == opRepeat && (off-uint64(p.ops[i-1].off))/max(p.ops[i-1].to.size, 1) < uint64(p.ops[i-1].aux):
			i--
		default:
			return 0
		}
		o = &p.ops[i]
	}
	if array {
		return o.arrayLabel
	}
	return o.label
}

type compiler struct {
	ts *typeTable
	p  *program
	// slots says that the type is of a map's slots, whose paths people know by other names.
	slots bool
}

// emit adds an op.
func (c *compiler) emit(o op, off uint64, path string) {
	if len(c.p.ops) >= maxOps {
		c.p.cut = true
		return
	}
	o.off = uint32(off)
	array := path
	switch {
	case c.slots:
	case path == "":
		array = "[]"
	case strings.HasPrefix(path, "["):
		array = "[]" + path
	default:
		array = "[]." + path
	}
	o.label, o.arrayLabel = c.ts.label(path), c.ts.label(array)
	c.p.ops = append(c.p.ops, o)
}

// add adds what a value of type t at an offset has, and returns the bytes of it that hold nothing.
func (c *compiler) add(t *typeInfo, off uint64, path string, depth int) (padding uint64) {
	if t == nil || depth > maxDepth || off+t.size > c.p.size {
		c.p.cut = true
		return 0
	}
	ts := c.ts
	switch t.kind {
	case kindUnsafe:
		c.emit(op{kind: opUnsafe}, off, path)
	case kindPointer:
		e := ts.elemOf(t)
		if e == nil {
			c.emit(op{kind: opUnsafe}, off, path)
			break
		}
		if !e.loaded && e.kind == kindStruct && (strings.HasPrefix(e.name, "runtime.") || strings.Contains(e.name, "NotInHeap")) {
			ts.load(e)
		}
		if !e.notHeap {
			c.emit(op{kind: opPointer, to: e}, off, path)
		}
	case kindString:
		c.p.waste = true
		c.emit(op{kind: opString, to: ts.text}, off, path)
	case kindSlice:
		c.p.waste = true
		if e := ts.elemOf(t); e != nil {
			c.emit(op{kind: opSlice, to: e}, off, path)
		} else {
			c.emit(op{kind: opUnsafe}, off, path)
		}
	case kindIface:
		c.emit(op{kind: opIface}, off, path)
	case kindEface:
		c.emit(op{kind: opEface}, off, path)
	case kindFunc:
		c.emit(op{kind: opFunc}, off, path)
	case kindMap, kindChan:
		ts.load(t)
		if t.elem != nil {
			c.emit(op{kind: opPointer, to: t.elem}, off, path)
		} else {
			c.emit(op{kind: opUnsafe}, off, path)
		}
	case kindArray:
		ts.load(t)
		return c.array(t, off, path, depth)
	case kindStruct:
		ts.load(t)
		return c.structure(t, off, path, depth)
	}
	return 0
}

func (c *compiler) array(t *typeInfo, off uint64, path string, depth int) (padding uint64) {
	e := c.ts.elemOf(t)
	if e == nil {
		c.p.cut = c.p.cut || t.size > 0
		return 0
	}
	if t.count == 0 || e.size == 0 || t.count > t.size/e.size {
		return 0
	}
	one := compiler{ts: c.ts, p: &program{size: e.size}, slots: c.slots}
	padding = one.add(e, 0, "", depth+1) * t.count
	c.p.cut = c.p.cut || one.p.cut
	if len(one.p.ops) == 0 {
		return padding
	}
	if t.count*uint64(len(one.p.ops)) > maxUnroll {
		c.emit(op{kind: opRepeat, to: e, aux: uint32(min(t.count, 1<<32-1))}, off, join(path, "[]"))
		return padding
	}
	for i := range t.count {
		c.add(e, off+i*e.size, join(path, "[]"), depth+1)
	}
	return padding
}

func join(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "[]":
		return path + "[]"
	}
	return path + "." + name
}

// structure adds the fields of a structure, and what its rule says.
func (c *compiler) structure(t *typeInfo, off uint64, path string, depth int) (padding uint64) {
	ts := c.ts
	elem := func(name string) *typeInfo {
		if f := t.field(name); f != nil && f.t.kind == kindPointer {
			return ts.elemOf(f.t)
		}
		return nil
	}
	skip := "" // the field that the rule is for
	switch t.rule {
	case ruleSwissMap:
		dir, n := t.field("dirPtr"), t.field("dirLen")
		pt := elem("dirPtr")
		if dir == nil || n == nil || pt == nil || pt.kind != kindPointer {
			break
		}
		c.p.waste = true
		group := c.groupOf(ts.elemOf(pt), t)
		c.emit(op{kind: opSwiss, to: pt, other: group, aux: uint32(off + n.off)}, off+dir.off, join(path, "tables"))
		return 0
	case ruleGroups:
		data, n := t.field("data"), t.field("lengthMask")
		if e := elem("data"); data != nil && n != nil && e != nil {
			c.emit(op{kind: opGroups, to: e, aux: uint32(off + n.off)}, off+data.off, "groups")
			return 0
		}
	case ruleGroup:
		c.slots = true
		for _, f := range t.fields {
			if slots := f.t; f.name == "slots" && slots.kind == kindArray {
				ts.load(slots)
				e := ts.elemOf(slots)
				if e == nil || e.size == 0 || slots.count > 64 {
					continue
				}
				ts.load(e)
				for i := range slots.count {
					for _, sf := range e.fields {
						name := map[string]string{"key": "[key]", "elem": "[value]"}[sf.name]
						c.add(sf.t, off+f.off+i*e.size+sf.off, name, depth+1)
					}
				}
			}
		}
		return 0
	case ruleHash:
		c.p.waste = true
		for _, f := range t.fields {
			if e := elem(f.name); e != nil && (f.name == "buckets" || f.name == "oldbuckets") {
				e.shown = t.shown
				c.emit(op{kind: opArray, to: e}, off+f.off, join(path, f.name))
			} else if f.name == "extra" && f.t.kind == kindPointer {
				c.add(f.t, off+f.off, join(path, f.name), depth+1)
			}
		}
		if !c.has("extra", t) && t.size >= 48 { // from the table by release: the last word
			c.emit(op{kind: opUnsafe}, off+t.size-8, join(path, "extra"))
		}
		return 0
	case ruleBucket:
		c.slots = true
		for _, f := range t.fields {
			name := map[string]string{"keys": "[key]", "values": "[value]", "elems": "[value]"}[f.name]
			if a := f.t; name != "" && a.kind == kindArray {
				ts.load(a)
				if e := ts.elemOf(a); e != nil && a.count <= 64 {
					for i := range a.count {
						c.add(e, off+f.off+i*e.size, name, depth+1)
					}
				}
			} else {
				if f.t.kind == kindUnsafe && f.name == "overflow" {
					c.emit(op{kind: opPointer, to: t}, off+f.off, "overflow")
					continue
				}
				c.add(f.t, off+f.off, f.name, depth+1)
			}
		}
		return 0
	case ruleChan:
		if buf, n := t.field("buf"), t.field("dataqsiz"); buf != nil && n != nil && t.elem != nil {
			c.emit(op{kind: opCounted, to: t.elem, aux: uint32(off + n.off)}, off+buf.off, join(path, "buf"))
			skip = "buf"
		}
	case ruleAtomic:
		f := t.field("v")
		if f == nil {
			break
		}
		for _, a := range t.fields {
			if a.t.kind != kindArray {
				continue
			}
			ts.load(a.t)
			if p := ts.elemOf(a.t); p != nil && p.kind == kindPointer {
				if e := ts.elemOf(p); e != nil {
					c.atomic(e, off+f.off, path)
					return 0
				}
			}
		}
	case ruleReflected:
		if f := t.field("ptr"); f != nil && f.off == 8 {
			c.emit(op{kind: opReflected}, off, join(path, "ptr"))
			return 0
		}
	}
	used := uint64(0)
	for i := range t.fields {
		f := &t.fields[i]
		used += f.t.size
		if f.name == skip && skip != "" {
			continue
		}
		if t.rule == rulePool && (f.name == "local" || f.name == "victim") {
			if n, e := t.field(f.name+"Size"), ts.named("sync.poolLocal"); n != nil && e != nil {
				c.emit(op{kind: opCounted, to: e, aux: uint32(off + n.off)}, off+f.off, join(path, f.name))
				continue
			}
		}
		padding += c.add(f.t, off+f.off, join(path, f.name), depth+1)
	}
	if used <= t.size && len(t.fields) > 0 {
		padding += t.size - used
	}
	return padding
}

func (c *compiler) has(name string, t *typeInfo) bool { return t.field(name) != nil }

// groupOf goes from a map's table to its groups, and gives all parts the map's name.
func (c *compiler) groupOf(table, header *typeInfo) *typeInfo {
	if table == nil {
		return nil
	}
	c.ts.load(table)
	table.shown = header.shown
	for _, f := range table.fields {
		if f.t.rule == ruleNone && f.t.kind == kindStruct {
			c.ts.load(f.t)
		}
		if data := f.t.field("data"); f.t.rule == ruleGroups && data != nil && data.t.kind == kindPointer {
			group := c.ts.elemOf(data.t)
			if group != nil {
				group.shown = header.shown
				c.ts.load(group)
			}
			return group
		}
	}
	return nil
}

// atomic adds a sync/atomic.Pointer to e.
func (c *compiler) atomic(e *typeInfo, off uint64, path string) {
	ts := c.ts
	if e.kind == kindStruct {
		ts.load(e)
	}
	if e.rule == ruleTrieNode {
		flag := e.field("isEntry")
		i := strings.IndexByte(e.name, '[')
		if flag != nil && i > 0 {
			pkg := strings.TrimSuffix(e.name[:i], "node")
			entry, indirect := ts.named(pkg+"entry"+e.name[i:]), ts.named(pkg+"indirect"+e.name[i:])
			if entry != nil && indirect != nil {
				c.emit(op{kind: opTrie, to: entry, other: indirect, aux: uint32(flag.off)}, off, path)
				return
			}
		}
		c.emit(op{kind: opUnsafe}, off, path)
		return
	}
	c.emit(op{kind: opPointer, to: e}, off, path)
}
