package goruntime

import (
	"encoding/binary"
	"fmt"
)

// A descriptor (internal/abi/type.go) is what the program itself knows of a type. In bytes, the same in
// go1.22 to go1.26:
//
//	 0  Size_, 8 PtrBytes, 16 Hash (4), 20 TFlag (1), 21 Align_, 22 FieldAlign_, 23 Kind_ (1)
//	24  Equal, 32 GCData, 40 Str (4), 44 PtrToThis (4)
//	48  what the kind needs: Elem of pointers, slices, channels; Elem, Slice and Len of arrays; PkgPath
//	    and Fields of structures; Key, Elem, and Bucket or Group of maps
const (
	descriptorBytes = 48
	flagUncommon    = 1 << 0
	flagExtraStar   = 1 << 1
	flagNamed       = 1 << 2
	flagOnDemand    = 1 << 4 // GCData points to a pointer (go1.24 and later)
	directBit       = 1 << 5 // of Kind_ up to go1.25, of TFlag since: the value is the interface's data word
	gcProgBit       = 1 << 6 // of Kind_ up to go1.23: GCData is a program
)

type descriptor struct {
	size, pointerBytes uint64
	flag, kind         byte
	direct             bool
	gcData             uint64
	str                uint32
}

// descriptor reads what all descriptors have. The lock of the type table is held.
func (ts *typeTable) descriptor(at uint64) (d descriptor, ok bool) {
	var b [descriptorBytes]byte
	if at == 0 || at%8 != 0 || !ts.r.mem.read(b[:], at) {
		return d, false
	}
	d = descriptor{size: binary.LittleEndian.Uint64(b[0:]), pointerBytes: binary.LittleEndian.Uint64(b[8:]), flag: b[20], kind: b[23] & 31,
		direct: (b[20]|b[23])&directBit != 0, gcData: binary.LittleEndian.Uint64(b[32:]), str: binary.LittleEndian.Uint32(b[40:])}
	return d, d.kind >= 1 && d.kind <= 26 && d.pointerBytes <= d.size && d.size < 1<<40
}

// moduleOf is the module whose types an address is among.
func (ts *typeTable) moduleOf(at uint64) *module {
	for i := range ts.modules {
		if m := &ts.modules[i]; at >= m.types && at < m.etypes {
			return m
		}
	}
	return nil
}

// fromDescriptor is the type whose descriptor is at an address; nil where none is. The lock is held.
func (ts *typeTable) fromDescriptor(at uint64) *typeInfo {
	if t, ok := ts.byDesc[at]; ok || at == 0 {
		return t
	}
	if len(ts.byDesc) > maxTypes {
		return nil
	}
	m := ts.moduleOf(at)
	if m != nil && ts.r.debug != nil && m == &ts.modules[0] {
		if off, ok := ts.r.debug.descriptors[at-m.types]; ok {
			t := ts.fromDIE(off)
			if t != nil {
				ts.byDesc[at] = t
				return t
			}
		}
	}
	ts.byDesc[at] = nil
	d, ok := ts.descriptor(at)
	if !ok {
		return nil
	}
	t := &typeInfo{size: d.size, goKind: d.kind, descriptor: at}
	if m != nil {
		t.name = ts.nameAt(m.types + uint64(d.str))
		if d.flag&flagExtraStar != 0 && t.name != "" {
			t.name = t.name[1:]
		}
	}
	word := func(i uint64) uint64 {
		v, _ := ts.r.mem.uint(at+descriptorBytes+8*i, 8)
		return v
	}
	switch d.kind {
	case 17: // array
		t.kind, t.elemAt, t.count = kindArray, word(0), word(2)
		if t.count > d.size {
			t.count = 0
		}
	case 18:
		t.kind, t.elemAt = kindChan, 0
	case 19:
		t.kind = kindFunc
	case 20:
		t.kind = kindIface
		if methods := word(2); methods == 0 {
			t.kind = kindEface
		}
	case 21:
		t.kind = kindMap
	case 22:
		t.kind, t.elemAt, t.internal = kindPointer, word(0), isInternal(t.name)
	case 23:
		t.kind, t.elemAt = kindSlice, word(0)
	case 24:
		t.kind = kindString
	case 25:
		t.kind = kindStruct
	case 26:
		t.kind = kindUnsafe
	}
	ts.byDesc[at] = ts.add(t)
	if m != nil && d.flag&flagUncommon != 0 && d.kind == 25 {
		// The package's path is behind the structure's own part (internal/abi/type.go, UncommonType).
		if off, ok := ts.r.mem.uint(at+descriptorBytes+32, 4); ok {
			t.pkg = ts.nameAt(m.types + off)
		}
	}
	if t.name == "" {
		t.name = fmt.Sprintf("(type of kind %d made at run time)", d.kind)
	}
	return t
}

// nameAt reads a name: flags, length, bytes (internal/abi/type.go, Name).
func (ts *typeTable) nameAt(at uint64) string {
	var b [11]byte
	if !ts.r.mem.read(b[:3], at) || !ts.r.mem.read(b[1:], at+1) {
		ts.r.mem.read(b[1:3], at+1)
	}
	n, used := uleb(b[1:])
	if used == 0 || n > 16<<10 {
		return ""
	}
	text := make([]byte, n)
	if !ts.r.mem.read(text, at+1+uint64(used)) {
		return ""
	}
	return string(text)
}

// loadDescriptor reads what a type is made of from its descriptor.
func (ts *typeTable) loadDescriptor(t *typeInfo) {
	word := func(i uint64) uint64 {
		v, _ := ts.r.mem.uint(t.descriptor+descriptorBytes+8*i, 8)
		return v
	}
	switch t.kind {
	case kindArray:
		ts.elemOf(t)
	case kindStruct:
		fields, n := word(1), word(2)
		for i := range min(n, maxFields) {
			var b [24]byte // Name, Typ, Offset
			if !ts.r.mem.read(b[:], fields+24*i) {
				break
			}
			off := binary.LittleEndian.Uint64(b[16:])
			ft := ts.fromDescriptor(binary.LittleEndian.Uint64(b[8:]))
			if ft == nil || off > t.size || ft.size > t.size-off {
				continue
			}
			t.fields = append(t.fields, fieldInfo{ts.nameAt(binary.LittleEndian.Uint64(b[0:])), off, ft})
		}
		t.setRule()
		if t.name == "atomic.Pointer" || t.rule == ruleAtomic {
			t.rule = ruleAtomic
		}
		if t.name == "sync.node" {
			t.rule = ruleTrieNode
		}
	case kindChan:
		l := ts.r.layout
		e := ts.fromDescriptor(word(0))
		header := ts.add(&typeInfo{name: "hchan<" + nameOrEmpty(e) + ">", shown: "chan " + shownName(e), kind: kindStruct, size: l["hchan"].Size, elem: e, rule: ruleChan, loaded: true})
		if l.has("hchan", "hchan.buf", "hchan.dataqsiz") {
			header.fields = []fieldInfo{{"dataqsiz", l["hchan.dataqsiz"].Offset, ts.scalar()}, {"buf", l["hchan.buf"].Offset, ts.unsafe}}
			t.elem = header
		}
	case kindMap:
		ts.mapFromDescriptor(t, word(0), word(1), word(2))
	}
}

func nameOrEmpty(t *typeInfo) string {
	if t == nil {
		return ""
	}
	return t.name
}

// scalar is a word without a pointer.
func (ts *typeTable) scalar() *typeInfo {
	t, ok := ts.byName["uint64"]
	if !ok || t == nil || t.kind != kindScalar {
		t = ts.add(&typeInfo{name: "uint64", size: 8, goKind: 11, loaded: true})
		ts.byName["uint64"] = t
	}
	return t
}

// mapFromDescriptor makes the types of a map's parts from its descriptor, as the compiler makes them
// for DWARF. Slots is the type of a group, or of a bucket before go1.24.
func (ts *typeTable) mapFromDescriptor(t *typeInfo, key, elem, slots uint64) {
	l, slot := ts.r.layout, ts.fromDescriptor(slots)
	shown := "map[" + shownName(ts.fromDescriptor(key)) + "]" + shownName(ts.fromDescriptor(elem))
	if slot == nil || slot.kind != kindStruct {
		return
	}
	slot.shown = shown
	pointer := func(to *typeInfo) *typeInfo {
		return ts.add(&typeInfo{name: "*" + to.name, kind: kindPointer, size: 8, elem: to, loaded: true})
	}
	header := &typeInfo{shown: shown, kind: kindStruct, loaded: true}
	switch {
	case l.has("maps.Map", "maps.Map.dirPtr", "maps.Map.dirLen", "maps.table", "maps.table.groups.data", "maps.table.groups.lengthMask"):
		ts.load(slot)
		slot.rule = ruleGroup
		data := l["maps.table.groups.data"].Offset
		groups := ts.add(&typeInfo{name: "groupReference<>", shown: shown, kind: kindStruct, size: 16, loaded: true, rule: ruleGroups})
		groups.fields = []fieldInfo{{"data", 0, pointer(slot)}, {"lengthMask", l["maps.table.groups.lengthMask"].Offset - data, ts.scalar()}}
		table := ts.add(&typeInfo{name: "table<>", shown: shown, kind: kindStruct, size: l["maps.table"].Size, loaded: true})
		table.fields = []fieldInfo{{"groups", data, groups}}
		header.name, header.size, header.rule = "map<>", l["maps.Map"].Size, ruleSwissMap
		header.fields = []fieldInfo{{"used", l["maps.Map.used"].Offset, ts.scalar()}, {"dirPtr", l["maps.Map.dirPtr"].Offset, pointer(pointer(table))}, {"dirLen", l["maps.Map.dirLen"].Offset, ts.scalar()}}
	case l.has("hmap", "hmap.buckets", "hmap.oldbuckets"):
		ts.load(slot)
		slot.rule = ruleBucket
		header.name, header.size, header.rule = "hash<>", l["hmap"].Size, ruleHash
		header.fields = []fieldInfo{{"buckets", l["hmap.buckets"].Offset, pointer(slot)}, {"oldbuckets", l["hmap.oldbuckets"].Offset, pointer(slot)}}
	default:
		return
	}
	t.elem = ts.add(header)
}

// A mask says which words of a type the collector takes for pointers.
type mask struct {
	size  uint64 // of the type
	words uint64 // how many of its first words the mask is for
	bits  []byte
	t     *typeInfo
	known bool // false: nothing could be read
}

// maskOf is the mask in a descriptor. The lock is held.
func (ts *typeTable) maskOf(at uint64) *mask {
	if m, ok := ts.masks[at]; ok {
		return m
	}
	m := &mask{}
	if len(ts.masks) < maxTypes {
		ts.masks[at] = m
	}
	var b [descriptorBytes]byte
	if at == 0 || at%8 != 0 || !ts.r.mem.read(b[:], at) {
		return m
	}
	size, pointers, gcData := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[32:])
	m.size, m.t = size, ts.fromDescriptor(at)
	if size == 0 || pointers > size || pointers > 1<<32 || b[23]&gcProgBit != 0 && b[20]&flagOnDemand == 0 {
		return ts.maskByLayout(m)
	}
	if b[20]&flagOnDemand != 0 && b[23]&gcProgBit == 0 && ts.r.layout.has("maps.Map") { // since go1.24
		gcData, _ = ts.r.mem.uint(gcData, 8)
	}
	m.words = pointers / 8
	bytes := (m.words + 7) / 8
	if gcData == 0 || bytes > 1<<24 {
		return ts.maskByLayout(m)
	}
	all := make([]byte, 0, min(bytes, 1<<16))
	for uint64(len(all)) < bytes { // as much as there is: the size is only claimed
		n := min(bytes-uint64(len(all)), 1<<16)
		piece := make([]byte, n)
		if !ts.r.mem.direct(piece, gcData+uint64(len(all))) {
			return ts.maskByLayout(m)
		}
		all = append(all, piece...)
	}
	m.bits, m.known = all, true
	return m
}

// maskByLayout makes a mask from what the type is made of, where the descriptor has none to read.
func (ts *typeTable) maskByLayout(m *mask) *mask {
	m.words = 0
	if m.t == nil || m.size == 0 || m.t.size != m.size {
		return m
	}
	p := ts.compileLocked(m.t)
	if p.cut || p.repeats {
		return m
	}
	m.words = m.size / 8
	if m.words > 1<<24 {
		m.words = 0
		return m
	}
	m.bits = make([]byte, (m.words+7)/8)
	for i := range p.ops {
		if w := p.ops[i].pointerWord(); w/64 < uint64(len(m.bits)) {
			m.bits[w/64] |= 1 << (w / 8 % 8)
		}
	}
	m.known = true
	return m
}

// word64 is 64 of the mask's bits from word i·64 on.
func (m *mask) word64(i uint64) uint64 {
	var b [8]byte
	if i*8 >= uint64(len(m.bits)) {
		return 0
	}
	copy(b[:], m.bits[i*8:])
	v := binary.LittleEndian.Uint64(b[:])
	if left := m.words - i*64; left < 64 {
		v &= 1<<left - 1
	}
	return v
}
