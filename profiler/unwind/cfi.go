package unwind

import (
	"cmp"
	"slices"
)

// A cie is what FDEs have in common (Common Information Entry).
type cie struct {
	bad       string // why no FDE of it can be used; "" if it can
	codeAlign uint64
	dataAlign int64
	ra        uint64 // column of the return address
	encoding  byte   // of addresses in FDEs
	size      uint8  // bytes of an absolute address
	augmented bool   // FDEs have augmentation data, whose length comes first
	signal    bool   // its functions are returned to by the kernel: a caller's pc is exact
	first     state  // rules after the initial instructions
}

// An fde is the rules of one range of addresses (Frame Description Entry).
type fde struct {
	start, end uint64
	cie        *cie
	from, to   uint32 // its instructions, as offsets in the section
	order      int32  // its place in the section
}

// Bounds on what damaged or hostile sections cost: the largest browsers have some 20 MB of .eh_frame
// with 600,000 FDEs and a few thousand CIEs.
const (
	maxSection = 128 << 20 // bytes read of a section
	maxFDEs    = 4 << 20
	maxCIEs    = 1 << 18
)

// A cfiSection is .eh_frame or .debug_frame while it is read.
type cfiSection struct {
	isEH bool
	data []byte
	bases
	code   ranges
	cies   map[uint64]*cie // by offset
	fdes   []fde
	damage damage
	build  *builder
	spent  uint64 // bytes of the entries read so far, which may overlap
}

// exhausted says that so many entries overlap that reading on is not in proportion to the section.
func (s *cfiSection) exhausted(bytes uint64) bool {
	s.spent += bytes
	return s.spent > 4*uint64(len(s.data))+1<<20
}

// damage counts entries that were passed over, and keeps the reason of the first.
type damage struct {
	count int
	first string
}

func (d *damage) add(why string) {
	if d.count++; d.count == 1 {
		d.first = why
	}
}

// all reads every FDE of the section. loose: the section's end is not known, and a length of zero
// ends it.
func (s *cfiSection) all(loose bool) {
	for at := uint64(0); at+4 <= uint64(len(s.data)); {
		next := s.entry(at)
		if next == 0 || loose && next == at+4 {
			return
		}
		at = next
	}
}

// entry reads the entry at an offset, if it is an FDE, and gives the offset of the next one: 0
// where there is none to be found.
func (s *cfiSection) entry(at uint64) (next uint64) {
	r, id, cieAt, ok := s.head(at)
	if !ok {
		s.damage.add("an entry is longer than its section")
		return 0
	}
	next = uint64(len(r.data))
	if s.exhausted(next - at) {
		s.damage.add("entries overlap")
		return 0
	}
	if id == idNone || id == idCIE { // a CIE is read when an FDE names it
		return next
	}
	c := s.cieAt(cieAt)
	if c.bad != "" {
		s.damage.add(c.bad)
		return next
	}
	b := s.bases
	b.size = c.size
	start := r.pointer(c.encoding, &b)
	size := r.value(c.encoding&0x0f, c.size)
	if c.augmented {
		r.take(r.uleb())
	}
	if r.bad {
		s.damage.add("an entry (FDE) ends too early, or its addresses are indirect")
		return next
	}
	end := start + size
	if end < start {
		s.damage.add("an entry (FDE) goes over the end of the address space")
		return next
	}
	if size == 0 || !s.code.covers(start) {
		return next // of a function that the linker dropped
	}
	if len(s.fdes) == maxFDEs {
		s.damage.add("the section has more entries than are read")
		return 0
	}
	s.fdes = append(s.fdes, fde{start: start, end: end, cie: c, from: uint32(r.pos), to: uint32(len(r.data)), order: int32(len(s.fdes))})
	return next
}

const (
	idNone = iota // a length of zero: the end, or filling
	idCIE
	idFDE
)

// head reads an entry's length and id. The reader's data end with the entry, and its position is
// an offset in the section.
func (s *cfiSection) head(at uint64) (r cursor, id int, cieAt uint64, ok bool) {
	r = cursor{data: s.data, pos: int(at)}
	length := uint64(r.u32())
	is64 := length == 0xffffffff
	if is64 {
		length = r.u64()
	}
	if r.bad || length > uint64(r.left()) {
		return r, 0, 0, false
	}
	r.data = s.data[:r.pos+int(length)]
	if length == 0 {
		return r, idNone, 0, true
	}
	field := uint64(r.pos)
	// In .eh_frame the id has four bytes whatever the length has: LSB 5.0 Core, section 10.6.1.1.
	var v, isCIE uint64
	switch {
	case s.isEH:
		v = uint64(r.u32())
	case is64:
		v, isCIE = r.u64(), 1<<64-1
	default:
		v, isCIE = uint64(r.u32()), 1<<32-1
	}
	switch {
	case r.bad:
		return r, idNone, 0, true // too short for anything
	case v == isCIE:
		return r, idCIE, at, true
	case s.isEH:
		return r, idFDE, field - v, true // backwards from the field; what is out of range is refused by cieAt
	default:
		return r, idFDE, v, true
	}
}

// cieAt is the CIE at an offset, which is read once.
func (s *cfiSection) cieAt(at uint64) *cie {
	if c := s.cies[at]; c != nil {
		return c
	}
	if len(s.cies) == maxCIEs {
		return &cie{bad: "the section has more CIEs than are read"}
	}
	c := new(cie)
	s.cies[at] = c
	if at >= uint64(len(s.data)) {
		c.bad = "an entry (FDE) names a CIE outside of the section"
		return c
	}
	r, id, _, ok := s.head(at)
	if s.exhausted(uint64(len(r.data)) - at) {
		c.bad = "CIEs overlap"
		return c
	}
	if !ok || id != idCIE {
		c.bad = "an entry (FDE) names a CIE that is not there"
		return c
	}
	if c.bad = c.read(&r, s); c.bad == "" {
		p := program{cie: c, cursor: r, build: s.build, bases: s.bases}
		if why := p.run(nil); why != "" {
			c.bad = "a CIE's initial instructions: " + why
		}
		c.first = p.state
	}
	return c
}

// read reads a CIE behind its id, up to its instructions.
func (c *cie) read(r *cursor, s *cfiSection) string {
	version := r.u8()
	if version != 1 && version != 3 && version != 4 {
		return "a CIE has an unknown version"
	}
	augmentation := r.text()
	c.size = s.size
	if version == 4 {
		c.size = r.u8()
		if segment := r.u8(); c.size != 4 && c.size != 8 || segment != 0 {
			return "a CIE has addresses of a strange size"
		}
	}
	if augmentation == "eh" { // gcc 2: a pointer to exception tables
		r.take(uint64(c.size))
		augmentation = ""
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		c.ra = uint64(r.u8())
	} else {
		c.ra = r.uleb()
	}
	if augmentation != "" && augmentation[0] == 'z' {
		c.augmented = true
		data := r.take(r.uleb())
		a := cursor{data: r.data[:r.pos], pos: r.pos - len(data)}
		b := s.bases
		b.size = c.size
		for _, letter := range []byte(augmentation[1:]) {
			switch letter {
			case 'R':
				c.encoding = a.u8()
			case 'L': // encoding of a pointer in each FDE's augmentation data
				a.u8()
			case 'P': // personality routine
				a.skipPointer(a.u8(), &b)
			case 'S':
				c.signal = true
			case 'B', 'G': // arm64: addresses are signed with key B; stack memory is tagged
			default:
				return "a CIE has an unknown augmentation"
			}
		}
		if a.bad {
			return "a CIE's augmentation data end too early"
		}
	} else if augmentation != "" {
		return "a CIE has an unknown augmentation"
	}
	if r.bad {
		return "a CIE ends too early"
	}
	if c.ra >= registerCount {
		return "a CIE keeps the return address in an unknown register"
	}
	return ""
}

// listed reads the FDEs that .eh_frame_hdr names. It tells whether there was a table.
func (s *cfiSection) listed(hdr Section) bool {
	b := s.bases
	b.section, b.data = hdr.Addr, hdr.Addr
	r := cursor{data: hdr.Data}
	version, pointer, count, table := r.u8(), r.u8(), r.u8(), r.u8()
	r.skipPointer(pointer, &b)
	if r.bad || version != 1 || count == omit || table == omit {
		return false
	}
	n := r.pointer(count, &b)
	for range n {
		r.pointer(table, &b)
		at := r.pointer(table, &b) - s.section
		if r.bad {
			s.damage.add(".eh_frame_hdr ends too early")
			break
		}
		if at+4 > uint64(len(s.data)) || at+4 < at || s.entry(at) == 0 {
			s.damage.add(".eh_frame_hdr names an entry outside of .eh_frame")
		}
	}
	return true
}

// sorted orders the FDEs by address and cuts each where the next one begins, as a search in the
// table of .eh_frame_hdr would. Of several with the same start the first in the section stays.
func (s *cfiSection) sorted() []fde {
	less := func(a, b fde) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.order, b.order))
	}
	if !slices.IsSortedFunc(s.fdes, less) {
		slices.SortFunc(s.fdes, less)
	}
	f := slices.CompactFunc(s.fdes, func(a, b fde) bool { return a.start == b.start })
	for i := range f[:max(len(f)-1, 0)] {
		f[i].end = min(f[i].end, f[i+1].start)
	}
	return f
}
