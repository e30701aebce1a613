package sourcemap

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// dwarfTable names addresses by DWARF, versions 2 to 5: lines and inlined calls of any depth.
//
// Only the units that addresses lie in are read. Which unit that is, .debug_aranges tells where it
// lists the address and is right; else the root entry of each unit does, which are all read once. References:
// https://dwarfstd.org, versions 4 and 5; section numbers below are theirs.
//
// It reads the encodings itself. debug/dwarf makes an object of every entry, which costs some
// hundred times more for a large unit, has no way into .debug_aranges, and is not safe from damaged
// input: it may call for any amount of memory, and not come to an end.
type dwarfTable struct {
	f    *elf.File
	big  bool
	code ranges // where the binary has code

	info, abbrev, line, str, lineStr             *content
	ranges, rnglists, addrs, strOffsets, aranges *content

	abbrevTables map[abbrevKey]*abbrevs
	functions    map[uint64]function // by offset of the entry
	units        map[uint64]*unit    // by offset; nil for one that is not understood

	listed  []uint64 // offsets of the units in .debug_aranges
	index   []piece  // their addresses; id is into listed
	read    []*unit  // units by the addresses in spans, after scan
	spans   []piece  // id is into read
	scanned bool
	headers []unitSpan // of all units, by offset; after walk
	walked  bool

	symtab    *symtabTable // nil where there is none; after symbolAt
	hasSymtab bool
}

type unitSpan struct{ off, end uint64 }

// A function is what an entry and those it refers to say of it.
type function struct {
	name  string // demangled; "" where the entry has none
	entry bool
	file  string // where it is declared
	line  int
}

// openDWARF prepares to read a binary's DWARF; nearly all is read later, so damage shows as
// addresses that are not known. The error is errNoTable where there is no DWARF in the file.
func openDWARF(f *elf.File) (table, error) {
	if f.Type == elf.ET_REL {
		return nil, fmt.Errorf("read DWARF of an object file that was not linked: %w", errNoTable)
	}
	t := &dwarfTable{
		f: f, big: f.ByteOrder == binary.BigEndian, code: merge(codeEnds(f)),
		abbrevTables: map[abbrevKey]*abbrevs{}, functions: map[uint64]function{}, units: map[uint64]*unit{},
	}
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
		if *s.to, err = openContent(f, s.name); err != nil {
			*s.to = &content{}
			failure = errors.Join(failure, err)
		}
	}
	if t.info.size == 0 || t.abbrev.size == 0 {
		return nil, cmp.Or(failure, errNoTable)
	}
	t.readIndex()
	return t, nil
}

// merge joins ranges that overlap or touch.
func merge(r ranges) ranges {
	var merged ranges
	for _, x := range r {
		if n := len(merged); n > 0 && x[0] <= merged[n-1][1] {
			merged[n-1][1] = max(merged[n-1][1], x[1])
		} else {
			merged = append(merged, x)
		}
	}
	return merged
}

func (t *dwarfTable) cursor(b []byte) cursor { return cursor{b: b, big: t.big} }

// frames implements table.
func (t *dwarfTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	u := t.unitOf(addr)
	if u == nil {
		return buf, false
	}
	u.load()
	at, hasLine := u.lines.at(addr)
	inner, hasScope := find(u.pieces, addr)
	if !hasLine && !hasScope {
		return buf, false
	}
	// Where the present frame is: at first the address's row, then the call that was inlined.
	file, line, column := at.file, at.line, at.column
	frame := func(f function) profile.Frame {
		x := profile.Frame{Func: f.name, File: u.lines.file(uint64(file))}
		switch {
		case x.File == "":
			x.File = f.file
		case line != 0:
			x.Line, x.Column = int(line), int(column)
		}
		if x.File == f.file {
			x.StartLine = f.line
		}
		return x
	}
	var f function
	if hasScope {
		id := inner.id
		for f = t.functionAt(u, u.scopes[id].die); u.scopes[id].parent >= 0; f = t.functionAt(u, u.scopes[id].die) {
			s := &u.scopes[id]
			// The name may be in a file of its own (dwz). The line is then the caller's, at the call.
			if f.name != "" {
				x := frame(f)
				x.Inlined = true
				buf = append(buf, x)
			}
			file, line, column = s.callFile, s.callLine, s.callColumn
			id = s.parent
		}
	}
	if f.name == "" { // assembly, or a unit whose functions are in a file of its own
		f.name, f.entry = t.symbolAt(addr)
	}
	x := frame(f)
	if x.Func == "" {
		x.Func = cmp.Or(path.Base(x.File), profile.Unknown)
	}
	x.Entry = f.entry
	return append(buf, x), true
}

// unitOf is the unit an address lies in, nil for none.
func (t *dwarfTable) unitOf(addr uint64) *unit {
	if !t.code.holds(addr) {
		return nil
	}
	if p, ok := find(t.index, addr); ok {
		if u := t.unitAt(t.listed[p.id]); u != nil && u.covers(addr) {
			return u
		}
	}
	t.scan()
	if p, ok := find(t.spans, addr); ok {
		return t.read[p.id]
	}
	return nil
}

// readIndex reads .debug_aranges (DWARF 5, 6.1.2). What is damaged is left out: the units concerned
// are found by scan.
func (t *dwarfTable) readIndex() {
	c := t.cursor(t.aranges.bytes(0, t.aranges.size))
	var pieces []piece
	for !c.bad && c.pos < len(c.b) {
		begin := c.pos
		n := c.length()
		if c.bad || n > uint64(len(c.b)-c.pos) {
			break
		}
		set := c
		set.b = c.b[:c.pos+int(n)]
		c.pos = len(set.b)
		version, unit := set.u16(), set.offset()
		set.addrSize = int(set.u8())
		if segments := set.u8(); version != 2 || segments != 0 || set.addrSize != 4 && set.addrSize != 8 {
			continue
		}
		// Tuples begin at a multiple of their size from the set's begin.
		if rest := (set.pos - begin) % (2 * set.addrSize); rest != 0 {
			set.skip(uint64(2*set.addrSize - rest))
		}
		id, before := int32(len(t.listed)), len(pieces)
		for {
			low, length := set.addr(), set.addr()
			if set.bad || low == 0 && length == 0 {
				break
			}
			if low+length > low && t.code.holds(low) {
				pieces = append(pieces, piece{low, low + length, id})
			}
		}
		if len(pieces) > before {
			t.listed = append(t.listed, unit)
		}
	}
	t.index = flatten(pieces, nil)
}

// walk lists the units of .debug_info, once.
func (t *dwarfTable) walk() {
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

// scan reads the root entries of all units, once, to know their addresses. A unit that does not tell
// them is asked for those of its lines.
func (t *dwarfTable) scan() {
	if t.scanned {
		return
	}
	t.scanned = true
	t.walk()
	var pieces []piece
	for _, h := range t.headers {
		u := t.unitAt(h.off)
		if u == nil {
			continue
		}
		id, before := int32(len(t.read)), len(pieces)
		for _, p := range u.code {
			pieces = append(pieces, piece{p.low, p.high, id})
		}
		if !u.tellsRanges() {
			if l := u.lineTable(true); l != nil {
				for _, p := range l.sequences {
					pieces = append(pieces, piece{p.low, p.high, id})
				}
			}
		}
		if len(pieces) > before {
			t.read = append(t.read, u)
		} else {
			u.lines, u.hasLines = nil, false
		}
	}
	t.spans = flatten(pieces, nil)
}

// unitAt is the unit that begins at an offset of .debug_info, nil for one that is not understood.
func (t *dwarfTable) unitAt(off uint64) *unit {
	u, ok := t.units[off]
	if !ok {
		if u = t.unitHeader(off); u != nil && !u.open() {
			u = nil
		}
		t.units[off] = u
	}
	return u
}

// unitHolding is the unit an offset of .debug_info lies in.
func (t *dwarfTable) unitHolding(off uint64) *unit {
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
func (t *dwarfTable) functionAt(u *unit, off uint64) function {
	if f, ok := t.functions[off]; ok {
		return f
	}
	var f function
	var name, linkage string
	var named *unit // where name was found, and at which offset
	var namedAt uint64
	var d die
	at := off
	for range maxReferences {
		if u == nil || !u.die(at, &d) {
			break
		}
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
			u = t.unitHolding(next.v)
		default: // none, or in another file
			u = nil
		}
		at = next.v
	}
	if linkage != "" {
		f.name, f.entry = demangle(linkage), isEntry(linkage)
	} else if name != "" {
		f.name, f.entry = named.qualified(namedAt, name), isEntry(name)
	}
	t.functions[off] = f
	return f
}

// symbolAt is the name that the symbol table has for an address.
func (t *dwarfTable) symbolAt(addr uint64) (name string, entry bool) {
	if !t.hasSymtab {
		t.hasSymtab = true
		t.symtab, _ = parseSymtab(t.f) // without it the address has no name
	}
	if t.symtab == nil {
		return "", false
	}
	var buf [1]profile.Frame
	frames, ok := t.symtab.frames(addr, buf[:0])
	if !ok {
		return "", false
	}
	return frames[0].Func, frames[0].Entry
}
