package sourcemap

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"slices"
)

// A dwarfFile is the DWARF of one file: of a binary, of its debug file, of the supplementary file
// that several binaries share (dwz), or the part of one split unit (.dwo, or one of a .dwp).
type dwarfFile struct {
	big  bool
	code ranges // where the binary has code; none in files without code of their own

	info, abbrev, line, str, lineStr             *content
	ranges, rnglists, addrs, strOffsets, aranges *content

	abbrevTables map[abbrevKey]*abbrevs
	functions    map[uint64]function // by offset of the entry
	units        map[uint64]*unit    // by offset; nil for one that is not understood
	headers      []unitSpan          // of all units, by offset; after walk
	walked       bool

	// sums are the checksums that line tables have of the files asked for, by path as frames have it;
	// all files of one binary share them.
	sums map[string][]sum

	loaded  *loadedUnits // of all files of one binary; see unit.load
	scratch []byte       // what entries has read last

	pieces        []piece // memory for unit.walk and readBody, empty between them
	depth, around []int32
	rows          []row // memory for lineTable.run

	// linkerName is the mangled name of the function that begins at an address and is named so in DWARF,
	// "" where it has none.
	linkerName func(addr uint64, name string) string

	openSup   func() *dwarfFile // opens sup; nil where there is none
	sup       *dwarfFile        // nil where there is none or it cannot be read; after supplement
	openSplit func(*unit) *unit // finds what a unit is the skeleton of, nil where it is not found; may be nil
}

// A sum is the MD5 of a source file (DWARF 5, 6.2.4.1).
type sum [16]byte

type unitSpan struct{ off, end uint64 }

// openDWARFFile finds the debug sections of a file, those whose names end in suffix: "" or ".dwo".
// The error is errNoTable where there are none.
func openDWARFFile(f *elf.File, suffix string) (*dwarfFile, error) {
	t := &dwarfFile{big: f.ByteOrder == binary.BigEndian, sums: map[string][]sum{}, loaded: &loadedUnits{}}
	t.clear()
	var failure error
	for _, s := range []struct {
		to   **content
		name string
	}{
		{&t.info, "debug_info"}, {&t.abbrev, "debug_abbrev"}, {&t.line, "debug_line"}, {&t.str, "debug_str"},
		{&t.lineStr, "debug_line_str"}, {&t.ranges, "debug_ranges"}, {&t.rnglists, "debug_rnglists"},
		{&t.addrs, "debug_addr"}, {&t.strOffsets, "debug_str_offsets"}, {&t.aranges, "debug_aranges"},
	} {
		var err error
		if *s.to, err = openContent(f, s.name+suffix); err != nil {
			*s.to = &content{}
			failure = errors.Join(failure, err)
		}
	}
	t.str.keep = maxNames
	if t.info.size == 0 || t.abbrev.size == 0 {
		return nil, cmp.Or(failure, errNoTable)
	}
	return t, nil
}

// fork is the same file for another goroutine: it shares no more with t than what was read of the
// sections, and has read nothing of its own.
func (t *dwarfFile) fork() *dwarfFile {
	f := *t
	f.sums, f.loaded = map[string][]sum{}, &loadedUnits{}
	f.scratch, f.sup, f.pieces, f.depth, f.around, f.rows = nil, nil, nil, nil, nil, nil
	f.clear()
	return &f
}

// clear forgets all that was read.
func (t *dwarfFile) clear() {
	t.abbrevTables, t.functions, t.units = map[abbrevKey]*abbrevs{}, map[uint64]function{}, map[uint64]*unit{}
	t.headers, t.walked = nil, false
}

func (t *dwarfFile) cursor(b []byte) cursor { return cursor{b: b, big: t.big} }

// entries is n bytes of .debug_info from off on, or up to its end: valid until the next call.
func (t *dwarfFile) entries(off, n uint64) []byte {
	if t.info.r == nil {
		return t.info.bytes(off, n)
	}
	if off >= t.info.size {
		return nil
	}
	n = min(n, t.info.size-off)
	if n > uint64(cap(t.scratch)) {
		t.scratch = t.info.bytes(off, n) // which notices a size that lies
		return t.scratch
	}
	t.scratch = t.scratch[:n]
	got, _ := t.info.r.ReadAt(t.scratch, int64(off))
	return t.scratch[:got]
}

// supplement is the supplementary file, nil for none.
func (t *dwarfFile) supplement() *dwarfFile {
	if t.openSup != nil {
		t.sup = t.openSup()
		t.openSup = nil
		if t.sup != nil {
			t.sup.sums, t.sup.loaded = t.sums, t.loaded
		}
	}
	return t.sup
}

// walk lists the units of .debug_info, once.
func (t *dwarfFile) walk() {
	if t.walked {
		return
	}
	t.walked = true
	for off := uint64(0); off < t.info.size; {
		u := t.unitHeader(off)
		if u == nil {
			break // without its length the next one cannot be found
		}
		t.headers = append(t.headers, unitSpan{off, u.end})
		off = u.end
	}
}

// unitAt is the unit that begins at an offset of .debug_info, nil for one that is not understood.
func (t *dwarfFile) unitAt(off uint64) *unit {
	u, ok := t.units[off]
	if !ok {
		if u = t.unitHeader(off); u != nil && !u.open() {
			u = nil
		}
		t.units[off] = u
	}
	return u
}

// adopt is t's own of a unit that another part of the same file has opened.
func (t *dwarfFile) adopt(of *unit) *unit {
	u := t.units[of.off]
	if u == nil {
		u = &unit{
			t: t, off: of.off, end: of.end, first: of.first, version: of.version, kind: of.kind, id: of.id, addrSize: of.addrSize,
			wide: of.wide, abbrevOff: of.abbrevOff, root: of.root, low: of.low, code: of.code,
		}
		t.units[of.off] = u
	}
	return u
}

// unitHolding is the unit an offset of .debug_info lies in.
func (t *dwarfFile) unitHolding(off uint64) *unit {
	t.walk()
	i, _ := slices.BinarySearchFunc(t.headers, off, func(h unitSpan, off uint64) int {
		if h.end <= off {
			return -1
		}
		return 1
	})
	if i == len(t.headers) {
		return nil
	}
	return t.unitAt(t.headers[i].off)
}

// maxReferences bounds how far a name is followed from entry to entry: an inlined call refers to its
// pattern, that to its declaration in a class, and link-time optimization adds one of each.
const maxReferences = 8

// functionAt is the function of an entry, which is in u. What an entry does not say itself, the one
// it refers to does, which may be in another unit.
func (t *dwarfFile) functionAt(u *unit, off uint64) function {
	if f, ok := t.functions[off]; ok {
		return f
	}
	var f function
	var name, linkage string
	var named *unit // where name was found, and at which offset
	var namedAt uint64
	var d die
	at := off
	type place struct {
		u  *unit
		at uint64
	}
	var passed []place
	for range maxReferences {
		if u == nil || !u.die(at, &d) {
			break
		}
		passed = append(passed, place{u, at})
		if name == "" {
			if name = u.str(d.name); name != "" {
				named, namedAt = u, at
			}
		}
		if linkage == "" {
			linkage = u.str(d.linkage)
		}
		if f.file == "" && d.declFile.form != 0 {
			f.file = u.lineTable(false).file(d.declFile.v)
		}
		if f.line == 0 {
			f.line = int(clip32(d.declLine.v))
		}
		next := d.origin
		if next.form == 0 {
			next = d.specification
		}
		switch next.form {
		case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		case formRefAddr:
			u = u.t.unitHolding(next.v)
		case formGNURefAlt, formRefSup4, formRefSup8:
			if sup := u.t.supplement(); sup != nil {
				u = sup.unitHolding(next.v)
			} else {
				u = nil
			}
		default: // none, or in a type unit
			u = nil
		}
		at = next.v
	}
	if linkage == "" && name != "" && t.linkerName != nil {
		// Compilers leave the linkage name away of functions that only one unit has.
		for _, p := range passed {
			if low, ok := p.u.entryLow(p.at); ok {
				linkage = t.linkerName(low, name)
				break
			}
		}
	}
	if linkage != "" {
		f.name, f.entry = Demangle(linkage), isEntry(linkage)
	} else if name != "" {
		f.name, f.entry = named.qualified(namedAt, name), isEntry(name)
	}
	t.functions[off] = f
	return f
}
