package goruntime

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Attributes and values of DWARF that are looked for (DWARF 5, 7.5 and 7.7), and Go's own (cmd/internal/dwarf).
const (
	tagSubprogram = 0x2e
	tagVariable   = 0x34

	attrLocation    = 0x02
	attrName        = 0x03
	attrLowPC       = 0x11
	attrLanguage    = 0x13
	attrType        = 0x49
	attrAddrBase    = 0x73
	attrGoKind      = 0x2900
	attrGoKey       = 0x2901
	attrGoElem      = 0x2902
	attrGoRuntime   = 0x2904
	attrGoInClosure = 0x2907

	opAddr, opAddrx = 0x03, 0xa1
	languageGo      = 0x16
)

// A debugInfo is the DWARF of one program with an index of what is looked for by name or address. It
// does not change once it is made; reading entries of data is for one goroutine at a time.
type debugInfo struct {
	mu    sync.Mutex // while entries of data are read
	data  *dwarf.Data
	info  []byte
	names map[string]dwarf.Offset // types by name
	// descriptors are types by where their runtime descriptor is, counted from moduledata.types;
	// functions are subprograms by the file address of their entry.
	descriptors map[uint64]dwarf.Offset
	functions   map[uint64]dwarf.Offset
	globals     []globalEntry // in order of address
}

type globalEntry struct {
	name    string
	address uint64 // file address
	typ     dwarf.Offset
}

// readDebugInfo indexes the Go units of the program's DWARF. A full reader of DWARF takes a second for a
// program of twenty megabytes, most of it to make something of entries that are not looked for.
func readDebugInfo(f *elf.File) (*debugInfo, error) {
	section := func(name string) []byte {
		s := f.Section(name)
		if s == nil {
			return nil
		}
		b, err := s.Data() // decompresses
		if err != nil {
			return nil
		}
		return b
	}
	info, abbrev := section(".debug_info"), section(".debug_abbrev")
	if info == nil || abbrev == nil {
		return nil, errors.New("it has no DWARF")
	}
	texts := section(".debug_str")
	d, err := dwarf.New(abbrev, nil, nil, info, nil, nil, nil, texts)
	if err != nil {
		return nil, fmt.Errorf("its DWARF is damaged: %w", err)
	}
	addresses := section(".debug_addr")
	for name, b := range map[string][]byte{".debug_addr": addresses, ".debug_str_offsets": section(".debug_str_offsets"), ".debug_line_str": section(".debug_line_str")} {
		if b != nil {
			if err := d.AddSection(name, b); err != nil {
				return nil, fmt.Errorf("its DWARF is damaged: %w", err)
			}
		}
	}
	x := &debugInfo{data: d, info: info, names: map[string]dwarf.Offset{}, descriptors: map[uint64]dwarf.Offset{}, functions: map[uint64]dwarf.Offset{}}
	w := walker{x: x, info: info, abbrev: abbrev, texts: texts, addresses: addresses, tables: map[uint64]map[uint64]*entryForm{}}
	w.all()
	slices.SortFunc(x.globals, func(a, b globalEntry) int { return cmp.Compare(a.address, b.address) })
	return x, nil
}

// An entryForm is how entries of one abbreviation code are written.
type entryForm struct {
	tag      uint64
	children bool
	fields   []entryField
	fixed    int // bytes of all fields, where each has a fixed size; else -1
}

type entryField struct {
	attr, form uint64
	implicit   int64
}

// A walker steps through the entries of .debug_info.
type walker struct {
	x                               *debugInfo
	info, abbrev, texts, addresses  []byte
	tables                          map[uint64]map[uint64]*entryForm // by offset in .debug_abbrev
	at                              int
	unitStart, unitEnd, offsetBytes int
	addrBase                        uint64
	version                         uint16
	bad                             bool
}

// all walks the units. What is damaged ends its unit.
func (w *walker) all() {
	for at := 0; at+12 <= len(w.info); {
		n, head, offsets := uint64(binary.LittleEndian.Uint32(w.info[at:])), 4, 4
		if n == 0xffffffff {
			n, head, offsets = binary.LittleEndian.Uint64(w.info[at+4:]), 12, 8
		}
		if n < 8 || n > uint64(len(w.info)-at-head) {
			return
		}
		w.unitStart, w.unitEnd, w.offsetBytes, w.bad, w.addrBase = at, at+head+int(n), offsets, false, 8
		w.at = at + head
		w.version = uint16(w.number(2))
		unitType := uint64(1)
		table := uint64(0)
		if w.version >= 5 {
			unitType = w.number(1)
			w.number(1) // address size
			table = w.number(offsets)
		} else {
			table = w.number(offsets)
			w.number(1)
		}
		if w.version >= 2 && w.version <= 5 && unitType == 1 {
			w.unit(w.table(table))
		}
		at = w.unitEnd
	}
}

// number reads a little-endian number, and sets bad where the unit ends before it.
func (w *walker) number(bytes int) uint64 {
	if bytes > w.unitEnd-w.at {
		w.bad, w.at = true, w.unitEnd
		return 0
	}
	b := w.info[w.at:]
	w.at += bytes
	switch bytes {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 3:
		return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	case 8:
		return binary.LittleEndian.Uint64(b)
	}
	w.bad = true
	return 0
}

func (w *walker) uleb() uint64 {
	v, n := uleb(w.info[w.at:w.unitEnd])
	if n == 0 {
		w.bad, w.at = true, w.unitEnd
	}
	w.at += n
	return v
}

// uleb reads an unsigned LEB128 number; 0 bytes where it is damaged.
func uleb(b []byte) (v uint64, n int) {
	for shift := 0; n < len(b) && shift < 64; shift += 7 {
		c := b[n]
		n++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}

// table reads the abbreviations at an offset.
func (w *walker) table(at uint64) map[uint64]*entryForm {
	if t, ok := w.tables[at]; ok {
		return t
	}
	t := map[uint64]*entryForm{}
	w.tables[at] = t
	if at > uint64(len(w.abbrev)) {
		return t
	}
	b := w.abbrev[at:]
	next := func() uint64 {
		v, n := uleb(b)
		if n == 0 {
			n = len(b)
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		code := next()
		if code == 0 {
			break
		}
		e := &entryForm{tag: next()}
		if len(b) > 0 {
			e.children, b = b[0] != 0, b[1:]
		}
		for len(b) > 0 {
			f := entryField{attr: next(), form: next()}
			if f.form == 0x21 { // implicit_const, a signed number
				for len(b) > 0 && b[0] >= 0x80 {
					b = b[1:]
				}
				if len(b) > 0 {
					b = b[1:]
				}
			}
			if f.attr == 0 && f.form == 0 {
				break
			}
			e.fields = append(e.fields, f)
			if n := w.fixed(f.form); n < 0 || e.fixed < 0 {
				e.fixed = -1
			} else {
				e.fixed += n
			}
		}
		t[code] = e
	}
	for _, e := range t { // sizes that depend on the unit
		for _, f := range e.fields {
			switch f.form {
			case 0x0e, 0x10, 0x17, 0x1f: // strp, ref_addr, sec_offset, line_strp
				e.fixed = -1
			}
		}
	}
	return t
}

// fixed is the size of a form's value in bytes (DWARF 5, 7.5.6), or -1.
func (w *walker) fixed(form uint64) int {
	switch form {
	case 0x19, 0x21: // flag_present, implicit_const
		return 0
	case 0x0b, 0x0c, 0x11, 0x25, 0x29: // data1, flag, ref1, strx1, addrx1
		return 1
	case 0x05, 0x12, 0x26, 0x2a: // data2, ref2, strx2, addrx2
		return 2
	case 0x27, 0x2b: // strx3, addrx3
		return 3
	case 0x06, 0x13, 0x1c, 0x28, 0x2c: // data4, ref4, ref_sup4, strx4, addrx4
		return 4
	case 0x01, 0x07, 0x14, 0x20, 0x24: // addr, data8, ref8, ref_sig8, ref_sup8
		return 8
	case 0x1e: // data16
		return 16
	case 0x0e, 0x10, 0x17, 0x1f, 0x1d: // strp, ref_addr, sec_offset, line_strp, strp_sup
		return w.offsetBytes
	}
	return -1
}

// value reads or skips one value: numbers and addresses as they are, blocks and strings as bytes.
func (w *walker) value(form uint64) (v uint64, b []byte) {
	if n := w.fixed(form); n >= 0 {
		switch n {
		case 0:
			return 1, nil
		case 16:
			w.number(8)
			return w.number(8), nil
		}
		return w.number(n), nil
	}
	block := func(n uint64) []byte {
		if n > uint64(w.unitEnd-w.at) {
			w.bad, w.at = true, w.unitEnd
			return nil
		}
		b := w.info[w.at : w.at+int(n)]
		w.at += int(n)
		return b
	}
	switch form {
	case 0x08: // string
		for i := w.at; i < w.unitEnd; i++ {
			if w.info[i] == 0 {
				b := w.info[w.at:i]
				w.at = i + 1
				return 0, b
			}
		}
		w.bad, w.at = true, w.unitEnd
	case 0x0a: // block1
		return 0, block(w.number(1))
	case 0x03: // block2
		return 0, block(w.number(2))
	case 0x04: // block4
		return 0, block(w.number(4))
	case 0x09, 0x18: // block, exprloc
		return 0, block(w.uleb())
	case 0x0d, 0x0f, 0x15, 0x1a, 0x1b, 0x22, 0x23: // sdata, udata, ref_udata, strx, addrx, loclistx, rnglistx
		return w.uleb(), nil
	default:
		w.bad, w.at = true, w.unitEnd
	}
	return 0, nil
}

// unit walks the entries of one unit, if it is of Go.
func (w *walker) unit(forms map[uint64]*entryForm) {
	depth := 0
	for !w.bad && w.at < w.unitEnd {
		offset := w.at
		code := w.uleb()
		if code == 0 {
			if depth--; depth <= 0 {
				return
			}
			continue
		}
		e := forms[code]
		if e == nil {
			return
		}
		switch {
		case depth == 0:
			if !w.head(e) {
				return
			}
		case depth == 1:
			w.entry(e, offset)
		case e.fixed >= 0:
			w.at += e.fixed
			w.bad = w.at > w.unitEnd
		default:
			for i := range e.fields {
				w.value(e.fields[i].form)
			}
		}
		if e.children {
			depth++
		}
	}
}

// head reads a unit's own entry and says whether the unit is of Go.
func (w *walker) head(e *entryForm) bool {
	isGo := false
	for i := range e.fields {
		v, _ := w.value(e.fields[i].form)
		switch e.fields[i].attr {
		case attrLanguage:
			isGo = v == languageGo
		case attrAddrBase:
			w.addrBase = v
		}
	}
	return isGo
}

// address resolves an address that a form gives.
func (w *walker) address(form, v uint64) (uint64, bool) {
	if form == 0x01 {
		return v, true
	}
	at := w.addrBase + 8*v
	if v > uint64(len(w.addresses)) || at+8 > uint64(len(w.addresses)) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(w.addresses[at:]), true
}

// entry notes an entry right below its unit's: a function, a variable of a package, a type.
func (w *walker) entry(e *entryForm, offset int) {
	var name, location []byte
	var typ, descriptor, pc uint64
	hasPC := false
	for i := range e.fields {
		f := &e.fields[i]
		v, b := w.value(f.form)
		switch f.attr {
		case attrName:
			if name = b; b == nil && f.form == 0x0e && v < uint64(len(w.texts)) {
				name = textAt(w.texts, v)
			}
		case attrType:
			if typ = v; f.form != 0x10 {
				typ += uint64(w.unitStart)
			}
		case attrGoRuntime:
			descriptor = v
		case attrLocation:
			location = b
		case attrLowPC:
			pc, hasPC = w.address(f.form, v)
		}
	}
	if w.bad {
		return
	}
	switch e.tag {
	case tagSubprogram:
		if hasPC {
			w.x.functions[pc] = dwarf.Offset(offset)
		}
	case tagVariable:
		if len(location) < 2 || len(name) == 0 {
			return
		}
		var at uint64
		switch ok := true; {
		case location[0] == opAddr && len(location) >= 9:
			at = binary.LittleEndian.Uint64(location[1:])
		case location[0] == opAddrx:
			index, _ := uleb(location[1:])
			if at, ok = w.address(0x1b, index); !ok {
				return
			}
		default:
			return
		}
		w.x.globals = append(w.x.globals, globalEntry{string(name), at, dwarf.Offset(typ)})
	case 0x01, 0x0f, 0x13, 0x15, 0x16, 0x24: // array, pointer, structure, subroutine, typedef, base
		if len(name) > 0 {
			if _, twice := w.x.names[string(name)]; !twice || e.tag != 0x16 {
				w.x.names[string(name)] = dwarf.Offset(offset)
			}
		}
		if descriptor != 0 {
			w.x.descriptors[descriptor] = dwarf.Offset(offset)
		}
	}
}

func textAt(b []byte, at uint64) []byte {
	for i := at; i < uint64(len(b)); i++ {
		if b[i] == 0 {
			return b[at:i]
		}
	}
	return nil
}

// kept are the indexes of the programs asked for last, by build ID: one program has many snapshots.
var kept struct {
	sync.Mutex
	list []keptInfo // the newest last
}

type keptInfo struct {
	id   string
	info *debugInfo
}

const maxKept = 4

// debugInfoOf is readDebugInfo, with what was read before.
func debugInfoOf(f *elf.File) (*debugInfo, error) {
	id := buildIDs(f)
	kept.Lock()
	for i, k := range kept.list {
		if k.id == id && id != "" {
			kept.list = append(append(kept.list[:i:i], kept.list[i+1:]...), k)
			kept.Unlock()
			return k.info, nil
		}
	}
	kept.Unlock()
	x, err := readDebugInfo(f)
	if err != nil {
		return nil, err
	}
	kept.Lock()
	defer kept.Unlock()
	if id != "" {
		if len(kept.list) == maxKept {
			kept.list = append(kept.list[:0:0], kept.list[1:]...)
		}
		kept.list = append(kept.list, keptInfo{id, x})
	}
	return x, nil
}

// buildIDs are the notes that tell one build from all others, and the size of the code with them: tools
// that change a program may leave its notes. "" where there are none.
func buildIDs(f *elf.File) string {
	id := ""
	for _, name := range []string{".note.go.buildid", ".note.gnu.build-id"} {
		if s := f.Section(name); s != nil && s.Size < 4096 {
			b, _ := s.Data()
			id += string(b)
		}
	}
	if id == "" {
		return ""
	}
	for _, name := range []string{".text", ".debug_info", ".zdebug_info"} {
		if s := f.Section(name); s != nil {
			id += fmt.Sprintf(" %d", s.FileSize)
		}
	}
	return id
}

// buildIDOf is a program's build ID as the tools print it: GNU's, or else Go's.
func buildIDOf(f *elf.File) string {
	for _, name := range []string{".note.gnu.build-id", ".note.go.buildid"} {
		s := f.Section(name)
		if s == nil || s.Size > 4096 {
			continue
		}
		b, err := s.Data()
		if err != nil || len(b) < 16 { // sizes of name and content, kind, "GNU" or "Go"
			continue
		}
		if n := binary.LittleEndian.Uint32(b[4:]); uint64(n) <= uint64(len(b)-16) {
			if id := b[16 : 16+n]; name == ".note.gnu.build-id" {
				return fmt.Sprintf("%x", id)
			} else {
				return string(id)
			}
		}
	}
	return ""
}
