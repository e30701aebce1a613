package goruntime

import (
	"debug/dwarf"
	"strings"
	"sync"
	"sync/atomic"
)

// A kind says how a value leads to objects.
type kind uint8

const (
	kindScalar  kind = iota // holds no pointer
	kindUnsafe              // a pointer of unknown type
	kindPointer             // to elem
	kindString
	kindSlice // of elem
	kindIface
	kindEface
	kindFunc
	kindMap  // a pointer to elem, the map's header
	kindChan // a pointer to elem, the runtime's hchan
	kindArray
	kindStruct
)

// A rule marks structures whose fields alone do not say where their pointers lead (the runtime's sources
// by release: internal/runtime/maps, runtime/map.go, runtime/chan.go, internal/sync/hashtriemap.go,
// sync/pool.go, sync/atomic/type.go).
type rule uint8

const (
	ruleNone      rule = iota
	ruleSwissMap       // a header of go1.24 and later: dirPtr is one group, or an array of dirLen tables
	ruleGroups         // data is an array of lengthMask+1 groups
	ruleGroup          // slots of a map
	ruleHash           // a header of go1.23 and before: buckets and oldbuckets are arrays
	ruleBucket         // slots of such a map
	ruleChan           // buf is an array of elem
	ruleAtomic         // sync/atomic.Pointer[T]: v is a *T
	ruleTrieNode       // a node of sync.Map: an entry or an indirect
	rulePool           // sync.Pool: local and victim are arrays of poolLocal
	ruleReflected      // reflect.Value: typ_ says what ptr is
)

// A typeInfo is a type of the program. What it is made of is read when it is first asked for.
type typeInfo struct {
	id      uint32
	name    string // with import paths, as DWARF has it
	shown   string // as people read it
	pkg     string
	kind    kind
	rule    rule
	goKind  uint8 // reflect.Kind; 0 where not known
	size    uint64
	count   uint64 // elements of an array
	elem    *typeInfo
	fields  []fieldInfo
	notHeap bool // never in the heap: the collector passes pointers to it over
	// internal is a pointer to what only the runtime knows by this type: the map that has it knows more.
	internal bool
	data     bool // what a string or slice points to is not told from other bytes: the bytes of a string

	die        dwarf.Offset // 0 for none
	elemDIE    dwarf.Offset
	descriptor uint64
	elemAt     uint64 // descriptor of elem
	loaded     bool

	program atomic.Pointer[program]
}

type fieldInfo struct {
	name string
	off  uint64
	t    *typeInfo
}

// typeTable holds the types met so far. Its lock guards all but all, which may be read at any time.
type typeTable struct {
	mu sync.Mutex
	r  *Runtime

	all     atomic.Pointer[[]*typeInfo]
	byDIE   map[dwarf.Offset]*typeInfo
	byDesc  map[uint64]*typeInfo
	byName  map[string]*typeInfo
	masks   map[uint64]*mask
	labels  map[string]uint32
	names   []string // by label; 0 is none
	bytes   *typeInfo
	text    *typeInfo // a string's bytes
	unsafe  *typeInfo
	types   map[uint64]uint64 // itabs to descriptors
	modules []module
	code    *codeReader
	foreign int         // descriptors that no module has
	shapes  []*typeInfo // structures of closures; nil until they are asked for
}

func newTypeTable(r *Runtime, modules []module) *typeTable {
	ts := &typeTable{r: r, byDIE: map[dwarf.Offset]*typeInfo{}, byDesc: map[uint64]*typeInfo{}, byName: map[string]*typeInfo{},
		masks: map[uint64]*mask{}, labels: map[string]uint32{"": 0}, names: []string{""}, types: map[uint64]uint64{}, modules: modules}
	all := make([]*typeInfo, 1, 1024)
	ts.all.Store(&all)
	ts.bytes = ts.add(&typeInfo{name: "uint8", size: 1, goKind: 8, loaded: true})
	ts.text = ts.add(&typeInfo{name: "string", size: 1, loaded: true, data: true})
	ts.unsafe = ts.add(&typeInfo{name: "unsafe.Pointer", kind: kindUnsafe, size: 8, loaded: true})
	ts.code = newCodeReader(r.mem, modules)
	return ts
}

const maxTypes = 1 << 24

// add gives a type its id. The lock is held, or nobody else knows the table.
func (ts *typeTable) add(t *typeInfo) *typeInfo {
	all := *ts.all.Load()
	t.id = uint32(len(all))
	all = append(all, t)
	ts.all.Store(&all)
	return t
}

func (ts *typeTable) label(name string) uint32 {
	id, ok := ts.labels[name]
	if !ok {
		id = uint32(len(ts.names))
		ts.names = append(ts.names, name)
		ts.labels[name] = id
	}
	return id
}

// named finds a type by its DWARF name. The lock is held.
func (ts *typeTable) named(name string) *typeInfo {
	if t, ok := ts.byName[name]; ok {
		return t
	}
	var t *typeInfo
	if d := ts.r.debug; d != nil {
		if off, ok := d.names[name]; ok {
			t = ts.fromDIE(off)
		}
	}
	ts.byName[name] = t
	return t
}

// fromDIE is the type of a DWARF entry; nil where it cannot be read. The lock is held.
func (ts *typeTable) fromDIE(off dwarf.Offset) *typeInfo {
	if t, ok := ts.byDIE[off]; ok || off == 0 {
		return t
	}
	d := ts.r.debug
	d.mu.Lock()
	defer d.mu.Unlock()
	return ts.entry(off, 0)
}

// entry reads one entry and what it only renames. The lock of the debug information is held too.
func (ts *typeTable) entry(off dwarf.Offset, depth int) *typeInfo {
	if t, ok := ts.byDIE[off]; ok || off == 0 {
		return t
	}
	ts.byDIE[off] = nil // what is damaged is asked for once
	if depth > 16 {
		return nil
	}
	r := ts.r.debug.data.Reader()
	r.Seek(off)
	e, err := r.Next()
	if err != nil || e == nil {
		return nil
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	size, _ := e.Val(dwarf.AttrByteSize).(int64)
	target, _ := e.Val(dwarf.AttrType).(dwarf.Offset)
	goKind, _ := e.Val(attrGoKind).(int64)
	elem, _ := e.Val(attrGoElem).(dwarf.Offset)
	t := &typeInfo{name: name, size: uint64(max(size, 0)), die: off, goKind: uint8(goKind & 31)}
	switch e.Tag {
	case dwarf.TagTypedef:
		under := ts.entry(target, depth+1)
		switch {
		case under == nil:
			return nil
		case (t.goKind == 21 || t.goKind == 18) && under.kind == kindPointer: // a map, a channel
			t.kind, t.size, t.loaded = kindMap, 8, true
			if t.goKind == 18 {
				t.kind = kindChan
			}
			t.elem = ts.entryElem(under, depth+1)
			if h := t.elem; h != nil && h.kind == kindStruct {
				ts.byDIE[off] = ts.add(t)
				e := ts.entry(elem, depth+1)
				if t.kind == kindChan {
					h.elem = e
					h.shown = "chan " + shownName(e)
				} else {
					key, _ := ts.nameOf(off, attrGoKey)
					h.shown = "map[" + shortName(key) + "]" + shownName(e)
				}
				return t
			}
		case t.goKind == 20 && under.kind == kindStruct: // an interface
			t.kind, t.size, t.loaded = kindIface, 16, true
			if under.name == "runtime.eface" {
				t.kind = kindEface
			}
		case name == under.name || under.kind == kindStruct || under.goKind == 0:
			ts.byDIE[off] = under
			return under
		default:
			ts.byDIE[off] = under
			return under
		}
	case dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType:
		under := ts.entry(target, depth+1)
		ts.byDIE[off] = under
		return under
	case dwarf.TagPointerType:
		t.kind, t.size, t.elemDIE, t.internal = kindPointer, 8, target, isInternal(name)
		if t.elemDIE == 0 || name == "unsafe.Pointer" {
			t.kind, t.loaded = kindUnsafe, true
		}
	case dwarf.TagSubroutineType:
		t.kind, t.size, t.loaded = kindFunc, 8, true
	case dwarf.TagArrayType:
		t.kind, t.elemDIE = kindArray, target
	case dwarf.TagStructType:
		t.kind = kindStruct
		switch t.goKind {
		case 24:
			t.kind, t.loaded = kindString, true
		case 23:
			t.kind, t.elemDIE = kindSlice, elem
		}
	case dwarf.TagBaseType, dwarf.TagEnumerationType, dwarf.TagUnionType, dwarf.TagClassType:
		t.loaded = true
	default:
		return nil
	}
	ts.byDIE[off] = ts.add(t)
	if t.kind == kindArray { // its size may follow from its elements
		ts.loadEntry(t, depth)
	}
	return t
}

func isInternal(name string) bool {
	return name == "*internal/runtime/maps.table" || name == "*maps.table" || name == "*runtime.bmap"
}

// nameOf is the name of the type that an attribute of an entry refers to.
func (ts *typeTable) nameOf(off dwarf.Offset, attr dwarf.Attr) (string, bool) {
	r := ts.r.debug.data.Reader()
	r.Seek(off)
	if e, err := r.Next(); err == nil && e != nil {
		if to, ok := e.Val(attr).(dwarf.Offset); ok {
			r.Seek(to)
			if e, err := r.Next(); err == nil && e != nil {
				name, ok := e.Val(dwarf.AttrName).(string)
				return name, ok
			}
		}
	}
	return "", false
}

func (ts *typeTable) entryElem(t *typeInfo, depth int) *typeInfo {
	if t.elem == nil && t.elemDIE != 0 {
		t.elem = ts.entry(t.elemDIE, depth)
		t.elemDIE = 0
	}
	return t.elem
}

// elemOf is what a pointer, slice or array leads to. The lock is held.
func (ts *typeTable) elemOf(t *typeInfo) *typeInfo {
	if t.elem == nil && t.elemDIE != 0 {
		t.elem = ts.fromDIE(t.elemDIE)
		t.elemDIE = 0
	}
	if t.elem == nil && t.elemAt != 0 {
		t.elem = ts.fromDescriptor(t.elemAt)
		t.elemAt = 0
	}
	return t.elem
}

// load reads what a type is made of. The lock is held.
func (ts *typeTable) load(t *typeInfo) {
	if t.loaded {
		return
	}
	if t.die != 0 {
		d := ts.r.debug
		d.mu.Lock()
		ts.loadEntry(t, 0)
		d.mu.Unlock()
		return
	}
	t.loaded = true
	if t.descriptor != 0 {
		ts.loadDescriptor(t)
	}
}

// maxFields bounds what is believed of a structure.
const maxFields = 1 << 16

func (ts *typeTable) loadEntry(t *typeInfo, depth int) {
	if t.loaded {
		return
	}
	t.loaded = true
	r := ts.r.debug.data.Reader()
	r.Seek(t.die)
	e, err := r.Next()
	if err != nil || e == nil || !e.Children {
		if t.kind == kindArray {
			ts.sizeArray(t, depth)
		}
		return
	}
	for len(t.fields) < maxFields {
		e, err := r.Next()
		if err != nil || e == nil || e.Tag == 0 {
			break
		}
		switch {
		case e.Tag == dwarf.TagMember && t.kind == kindStruct:
			name, _ := e.Val(dwarf.AttrName).(string)
			off, _ := e.Val(dwarf.AttrDataMemberLoc).(int64)
			to, _ := e.Val(dwarf.AttrType).(dwarf.Offset)
			if ft := ts.entry(to, depth+1); ft != nil && off >= 0 && uint64(off) <= t.size {
				t.fields = append(t.fields, fieldInfo{name, uint64(off), ft})
			}
		case e.Tag == dwarf.TagSubrangeType && t.kind == kindArray:
			if n, ok := e.Val(dwarf.AttrCount).(int64); ok && n >= 0 {
				t.count = uint64(n)
			} else if n, ok := e.Val(dwarf.AttrUpperBound).(int64); ok && n >= 0 {
				t.count = uint64(n) + 1
			}
		}
		if e.Children {
			r.SkipChildren()
		}
	}
	if t.kind == kindArray {
		ts.sizeArray(t, depth)
	}
	if t.kind == kindStruct {
		t.setRule()
	}
}

func (ts *typeTable) sizeArray(t *typeInfo, depth int) {
	if e := ts.entryElem(t, depth+1); e != nil && (e.size == 0 || t.count < 1<<40/max(e.size, 1)) {
		if n := e.size * t.count; t.size == 0 || e.size > 0 && t.size < n {
			t.size = n
		}
	} else {
		t.count = 0
	}
}

// field finds a field by name.
func (t *typeInfo) field(name string) *fieldInfo {
	for i := range t.fields {
		if t.fields[i].name == name {
			return &t.fields[i]
		}
	}
	return nil
}

// setRule recognizes structures that need one, by name.
func (t *typeInfo) setRule() {
	for _, f := range t.fields {
		if f.off == 0 && strings.HasSuffix(f.t.name, "/sys.NotInHeap") || f.t.notHeap {
			t.notHeap = true
		}
	}
	n := t.name
	if strings.HasSuffix(n, "/sys.NotInHeap") || strings.HasSuffix(n, "/sys.nih") {
		t.notHeap = true
	}
	switch {
	case strings.HasPrefix(n, "map<"):
		t.rule = ruleSwissMap
	case strings.HasPrefix(n, "groupReference<"):
		t.rule = ruleGroups
	case strings.HasPrefix(n, "map.group["), strings.HasPrefix(n, "noalg.map.group["):
		t.rule, t.shown = ruleGroup, "map"+shortName(n[strings.IndexByte(n, '['):])
	case strings.HasPrefix(n, "map.bucket["), strings.HasPrefix(n, "noalg.map.bucket["):
		t.rule, t.shown = ruleBucket, "map"+shortName(n[strings.IndexByte(n, '['):])
	case strings.HasPrefix(n, "group<"):
		t.rule = ruleGroup
	case strings.HasPrefix(n, "hash<"):
		t.rule = ruleHash
	case strings.HasPrefix(n, "bucket<"):
		t.rule = ruleBucket
	case strings.HasPrefix(n, "hchan<"):
		t.rule = ruleChan
	case strings.HasPrefix(n, "sync/atomic.Pointer["), strings.HasPrefix(n, "atomic.Pointer["):
		t.rule = ruleAtomic
	case strings.HasPrefix(n, "internal/sync.node["), strings.HasPrefix(n, "internal/concurrent.node["):
		t.rule = ruleTrieNode
	case n == "sync.Pool":
		t.rule = rulePool
	case n == "reflect.Value":
		t.rule = ruleReflected
	}
}

// shownName is a type as people read it.
func shownName(t *typeInfo) string {
	switch {
	case t == nil:
		return "?"
	case t.shown == "":
		t.shown = shortName(t.name)
	}
	return t.shown
}

// shortName leaves the import paths out of a type's name, but for their last elements.
func shortName(name string) string {
	if !strings.Contains(name, "/") {
		return name
	}
	var b strings.Builder
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && !strings.ContainsRune("[]*(){},<>; ", rune(name[i])) {
			continue
		}
		word := name[start:i]
		b.WriteString(word[strings.LastIndexByte(word, '/')+1:])
		if i < len(name) {
			b.WriteByte(name[i])
		}
		start = i + 1
	}
	return b.String()
}

// packageOf is the import path of the named type that a type's name begins with, behind what makes
// pointers, slices and arrays of it.
func packageOf(name string) string {
	for name != "" {
		switch {
		case name[0] == '*':
			name = name[1:]
		case name[0] == '[':
			i := strings.IndexByte(name, ']')
			if i < 0 {
				return ""
			}
			name = name[i+1:]
		case strings.HasPrefix(name, "chan "):
			name = name[len("chan "):]
		case strings.HasPrefix(name, "map["), strings.HasPrefix(name, "func("), strings.HasPrefix(name, "struct {"), strings.HasPrefix(name, "interface {"):
			return ""
		default:
			name, _, _ = strings.Cut(name, "[")
			slash := strings.LastIndexByte(name, '/')
			dot := strings.IndexByte(name[slash+1:], '.')
			if dot < 0 {
				return ""
			}
			return strings.ReplaceAll(name[:slash+1+dot], "%2e", ".")
		}
	}
	return ""
}
