package sourcemap

import (
	"cmp"
	"debug/elf"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"strings"
	"sync"

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
	*dwarfFile // of the binary, or of its debug file

	parts []*dwarfFile   // each names the addresses in some of the units, and may do so while others do
	mu    sync.Mutex     // guards what finds an address's unit: all below but symtab, and the dwarfFile
	owner map[uint64]int // a unit's offset → the part that names the addresses in it
	load  []uint64       // bytes of units that each part has

	listed  []uint64 // offsets of the units in .debug_aranges
	index   []piece  // their addresses; id is into listed
	read    []*unit  // units by the addresses in spans, after scan
	spans   []piece  // id is into read
	scanned bool

	symbols    func() *symtabTable // of the binary; nil where there is none
	symtab     *symtabTable        // nil where there is none; after openedSymtab
	symtabOnce sync.Once
}

// A function is what an entry and those it refers to say of it.
type function struct {
	name  string // demangled; "" where the entry has none
	entry bool
	file  string // where it is declared
	line  int
}

// openDWARF prepares to read the DWARF of a binary that holds all of it itself. The error is
// errNoTable where there is none in the file.
func openDWARF(f *elf.File) (table, error) {
	t, err := newDWARFTable(f, func() *symtabTable {
		t, _ := parseSymtab(f) // without it addresses have no name
		return t
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// newDWARFTable prepares to read the DWARF in f, a binary or its debug file; nearly all is read
// later, so damage shows as addresses that are not known. Sup opens the supplementary file and split
// the units that f has skeletons of; both may be nil.
func newDWARFTable(f *elf.File, symbols func() *symtabTable, sup func() *dwarfFile, split func(*unit) *unit) (*dwarfTable, error) {
	if f.Type == elf.ET_REL {
		return nil, fmt.Errorf("read DWARF of an object file that was not linked: %w", errNoTable)
	}
	file, err := openDWARFFile(f, "")
	if err != nil {
		return nil, err
	}
	file.code = merge(codeEnds(f))
	file.openSup, file.openSplit = sup, split
	t := &dwarfTable{dwarfFile: file, symbols: symbols}
	file.linkerName = t.mangledAt
	t.readIndex()
	t.parts = []*dwarfFile{file.fork()}
	for range min(runtime.GOMAXPROCS(0), maxParts) - 1 {
		t.parts = append(t.parts, file.fork())
	}
	t.owner, t.load = map[uint64]int{}, make([]uint64, len(t.parts))
	return t, nil
}

// maxParts bounds the memory that parts take for what all of them read.
const maxParts = 4

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

// frames implements table.
func (t *dwarfTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	t.mu.Lock()
	part, u := t.place(addr)
	t.mu.Unlock()
	if u == nil {
		return buf, false
	}
	u = t.parts[part].adopt(u)
	u.load()
	at, hasLine := u.lines.at(addr)
	full := u.full()
	inlined, inner, hasScope := full.bodyAt(addr)
	if !hasLine && !hasScope {
		return buf, false
	}
	// Where the present frame is: at first the address's row, then the call that was inlined.
	file, line, column := u.lines.file(uint64(at.file)), at.line, uint32(at.column)
	frame := func(f function) profile.Frame {
		x := profile.Frame{Func: f.name, File: file}
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
		id, scopes := inner.id, inlined.scopes
		for f = full.t.functionAt(full, scopes[id].die); scopes[id].parent >= 0; f = full.t.functionAt(full, scopes[id].die) {
			s := &scopes[id]
			// The name may be in a file that is missing (dwz). The line is then the caller's, at the call.
			if f.name != "" {
				x := frame(f)
				x.Inlined = true
				buf = append(buf, x)
			}
			file, line, column = full.lineTable(false).file(uint64(s.callFile)), s.callLine, s.callColumn
			id = s.parent
		}
	}
	if f.name == "" { // assembly, or a unit whose functions are in a file that is missing
		f.name, f.entry = t.symbolAt(addr)
	}
	x := frame(f)
	if x.Func == "" {
		x.Func = cmp.Or(path.Base(x.File), profile.Unknown)
	}
	x.Entry = f.entry
	return append(buf, x), true
}

// extent is the addresses around addr that have the same frames; none where that is not known.
func (t *dwarfTable) extent(addr uint64) (low, high uint64) {
	t.mu.Lock()
	part, u := t.place(addr)
	t.mu.Unlock()
	if u == nil {
		return 0, 0
	}
	u = t.parts[part].adopt(u)
	u.load()
	row, ok := u.lines.extent(addr)
	if !ok {
		return 0, 0
	}
	_, scope, ok := u.full().bodyAt(addr)
	if !ok { // symbols name it, which end where they like
		return 0, 0
	}
	return max(row.low, scope.low), min(row.high, scope.high)
}

// part is the number of the part that names an address: those of different ones may be asked for at
// once.
func (t *dwarfTable) part(addr uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	part, _ := t.place(addr)
	return part
}

// place is the part that names an address, and its unit as the index has it. A unit that nobody has
// asked for is given to the part with the least to read.
func (t *dwarfTable) place(addr uint64) (part int, u *unit) {
	if u = t.unitOf(addr); u == nil {
		return 0, nil
	}
	part, ok := t.owner[u.off]
	if !ok {
		for i, n := range t.load {
			if n < t.load[part] {
				part = i
			}
		}
		t.owner[u.off] = part
		t.load[part] += u.end - u.off
	}
	return part, u
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

// symbolAt is the name that the symbol table has for an address.
func (t *dwarfTable) symbolAt(addr uint64) (name string, entry bool) {
	if t.openedSymtab() == nil {
		return "", false
	}
	var buf [1]profile.Frame
	frames, ok := t.symtab.frames(addr, buf[:0])
	if !ok {
		return "", false
	}
	return frames[0].Func, frames[0].Entry
}

func (t *dwarfTable) openedSymtab() *symtabTable {
	t.symtabOnce.Do(func() { t.symtab = t.symbols() })
	return t.symtab
}

// mangledAt is the mangled C++ name that the linker knows the function by which begins at an address
// and has a name in DWARF; without what marks it as a part or a copy of one, and "" where there is none.
// A name that is not mangled tells no more than DWARF does, and one that does not hold the name in DWARF is
// of another function: linkers join those with the same code.
func (t *dwarfTable) mangledAt(addr uint64, name string) string {
	symtab := t.openedSymtab()
	if symtab == nil {
		return ""
	}
	mangled := symtab.beginsAt(addr)
	if !strings.HasPrefix(mangled, "_Z") {
		return ""
	}
	mangled = cloneSuffix.ReplaceAllString(mangled, "")
	if name, _, _ = strings.Cut(name, "<"); !strings.Contains(Demangle(mangled), name) {
		return ""
	}
	return mangled
}

// cloneSuffix is what GCC and LLVM append to the name of a function's copy or part.
var cloneSuffix = regexp.MustCompile(`(\.(cold|part|isra|constprop|lto_priv|llvm|clone)(\.\d+)*)+$`)
