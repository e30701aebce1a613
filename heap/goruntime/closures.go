package goruntime

import "debug/dwarf"

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
			ts.surroundings(t, off)
			d.mu.Unlock()
		}
	}
	if len(t.fields) == 0 {
		// What is behind the code's address is not known: all that is, is whose closure it is.
		t.program.Store(&program{size: 8, opaque: true})
	}
	return t
}

// surroundings reads what a closure has of the function around it, which the compiler notes at the
// variables of its function (DW_AT_go_closure_offset, since go1.23).
func (ts *typeTable) surroundings(t *typeInfo, off dwarf.Offset) {
	r := ts.r.debug.data.Reader()
	r.Seek(off)
	if e, err := r.Next(); err != nil || e == nil || !e.Children {
		return
	}
	for len(t.fields) < maxFields {
		e, err := r.Next()
		if err != nil || e == nil || e.Tag == 0 {
			return
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
}
