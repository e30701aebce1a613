package goruntime

import (
	"debug/dwarf"
	"maps"
	"slices"
	"strings"
)

// closure is the type of the objects that are closures of the function at pc: nil where no function
// begins there.
func (ts *typeTable) closure(pc uint64) *typeInfo {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	f, _ := ts.code.function(pc)
	if f == nil || f.entry != pc {
		return nil
	}
	t := ts.add(&typeInfo{name: f.name, shown: "func " + shortName(f.name), pkg: packageOf(f.name), kind: kindStruct, goKind: 19, size: 8, loaded: true})
	if d := ts.r.debug; d != nil {
		if off, ok := d.functions[pc-ts.r.bias]; ok {
			d.mu.Lock()
			variables := ts.surroundings(t, off)
			d.mu.Unlock()
			if len(t.fields) == 0 {
				ts.guessSurroundings(t, variables)
			}
		}
	}
	if len(t.fields) == 0 {
		// What is behind the code's address is not known: all that is, is whose closure it is.
		t.program.Store(&program{size: 8, opaque: true})
	}
	return t
}

// surroundings reads what a closure has of the function around it, which the compiler notes at the
// variables of its function (DW_AT_go_closure_offset, since go1.23). It returns the types of all variables
// of the function.
func (ts *typeTable) surroundings(t *typeInfo, off dwarf.Offset) (variables []*typeInfo) {
	r := ts.r.debug.data.Reader()
	r.Seek(off)
	if e, err := r.Next(); err != nil || e == nil || !e.Children {
		return nil
	}
	for len(t.fields)+len(variables) < maxFields {
		e, err := r.Next()
		if err != nil || e == nil || e.Tag == 0 {
			break
		}
		if to, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && e.Tag == dwarf.TagVariable {
			if vt := ts.entry(to, 0); vt != nil {
				variables = append(variables, vt)
			}
		}
		if at, ok := e.Val(attrGoInClosure).(int64); ok && at > 0 && at < 1<<20 {
			name, _ := e.Val(dwarf.AttrName).(string)
			to, _ := e.Val(dwarf.AttrType).(dwarf.Offset)
			if ft := ts.entry(to, 0); ft != nil {
				t.fields = append(t.fields, fieldInfo{name, uint64(at), ft})
				t.size = max(t.size, (uint64(at)+ft.size+7)&^7)
			}
		}
		if e.Children {
			r.SkipChildren()
		}
	}
	return variables
}

// closurePrefix begins the names of the structures that the compiler makes for closures: which function
// each is for it does not note before go1.23.
const closurePrefix = "noalg.struct { F uintptr; "

// guessSurroundings finds the structure of a closure: of those whose fields all have the type of one of
// the function's variables, or a pointer to it, the one with the most fields, if there is only one such.
func (ts *typeTable) guessSurroundings(t *typeInfo, variables []*typeInfo) {
	if ts.shapes == nil {
		ts.shapes = []*typeInfo{}
		for _, name := range slices.Sorted(maps.Keys(ts.r.debug.names)) {
			if strings.HasPrefix(name, closurePrefix) {
				if shape := ts.fromDIE(ts.r.debug.names[name]); shape != nil {
					ts.load(shape)
					ts.shapes = append(ts.shapes, shape)
				}
			}
		}
	}
	if method, ok := strings.CutSuffix(t.name, "-fm"); ok { // a method with its receiver
		if dot := strings.LastIndexByte(method, '.'); dot > 0 {
			receiver := strings.NewReplacer("(*", "*", ")", "").Replace(method[:dot])
			if i := strings.LastIndexByte(receiver, '*'); i > 0 {
				receiver = "*" + receiver[:i] + receiver[i+1:]
			}
			if shape := ts.named(closurePrefix + "R " + receiver + " }"); shape != nil {
				ts.load(shape)
				t.fields, t.size = shape.fields, shape.size
			}
		}
		return
	}
	best, several := (*typeInfo)(nil), false
	for _, shape := range ts.shapes {
		left := slices.Clone(variables)
		fits := len(shape.fields) > 1
		for _, f := range shape.fields[min(1, len(shape.fields)):] {
			i := slices.IndexFunc(left, func(v *typeInfo) bool {
				return v == f.t || f.t.kind == kindPointer && ts.elemOf(f.t) == v
			})
			if fits = fits && i >= 0; !fits {
				break
			}
			left = slices.Delete(left, i, i+1)
		}
		switch {
		case !fits || best != nil && len(best.fields) > len(shape.fields):
		case best != nil && len(best.fields) == len(shape.fields):
			several = true
		default:
			best, several = shape, false
		}
	}
	if best != nil && !several {
		t.fields, t.size = best.fields, best.size
	}
}
