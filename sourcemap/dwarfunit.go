package sourcemap

import "debug/dwarf"

// Forms of attributes (DWARF 5, 7.5.6, and GNU's), which debug/dwarf does not export.
const (
	formAddr         = 0x01
	formBlock2       = 0x03
	formBlock4       = 0x04
	formData2        = 0x05
	formData4        = 0x06
	formData8        = 0x07
	formString       = 0x08
	formBlock        = 0x09
	formBlock1       = 0x0a
	formData1        = 0x0b
	formFlag         = 0x0c
	formSdata        = 0x0d
	formStrp         = 0x0e
	formUdata        = 0x0f
	formRefAddr      = 0x10
	formRef1         = 0x11
	formRef2         = 0x12
	formRef4         = 0x13
	formRef8         = 0x14
	formRefUdata     = 0x15
	formIndirect     = 0x16
	formSecOffset    = 0x17
	formExprloc      = 0x18
	formFlagPresent  = 0x19
	formStrx         = 0x1a
	formAddrx        = 0x1b
	formRefSup4      = 0x1c
	formStrpSup      = 0x1d
	formData16       = 0x1e
	formLineStrp     = 0x1f
	formRefSig8      = 0x20
	formImplicit     = 0x21
	formLoclistx     = 0x22
	formRnglistx     = 0x23
	formRefSup8      = 0x24
	formStrx1        = 0x25
	formStrx2        = 0x26
	formStrx3        = 0x27
	formStrx4        = 0x28
	formAddrx1       = 0x29
	formAddrx2       = 0x2a
	formAddrx3       = 0x2b
	formAddrx4       = 0x2c
	formGNUAddrIndex = 0x1f01
	formGNUStrIndex  = 0x1f02
	formGNURefAlt    = 0x1f20
	formGNUStrpAlt   = 0x1f21
)

// Attributes of GNU's, the others of split units before DWARF 5 (gcc.gnu.org/wiki/DebugFission).
const (
	attrMIPSLinkageName = 0x2007
	attrGNUDwoName      = 0x2130
	attrGNUDwoID        = 0x2131
	attrGNURangesBase   = 0x2132
	attrGNUAddrBase     = 0x2133
)

// Unit types (DWARF 5, 7.5.1).
const (
	unitCompile      = 1
	unitPartial      = 3
	unitSkeleton     = 4
	unitSplitCompile = 5
)

// A value is an attribute's value as it stands there; the form says how to read v: a number, an
// offset, an index. For formString v is the string's offset in .debug_info, for references within
// the unit the offset in .debug_info too. The zero value is an attribute that is not there.
type value struct {
	form uint16
	v    uint64
}

// A die is what is used of a debugging information entry.
type die struct {
	tag                                     dwarf.Tag
	children                                bool
	name, linkage, compDir                  value
	low, high, ranges                       value
	origin, specification                   value
	stmtList, addrBase, strBase, rangesBase value
	splitName, splitID, splitRanges         value
	declFile, declLine                      value
	callFile, callLine, callColumn          value
}

// An abbrev says what attributes an entry has.
type abbrev struct {
	tag      dwarf.Tag
	children bool
	scope    bool // a function or an inlined call: worth reading
	code     bool // it says where its code is
	attrs    []attrForm
	skips    []skip // how to get past all attributes
}

// A skip is a number of bytes and then a value of a form whose size varies; 0 for none, at the end.
type skip struct {
	bytes int
	form  uint16
	next  bool // the value is where the next sibling is, of whatever form
}

type attrForm struct {
	attr, form uint16
	implicit   int64
}

// abbrevs are a unit's abbreviations; codes count from 1 nearly always.
type abbrevs struct {
	list []abbrev // code i+1
	more map[uint64]*abbrev
}

func (a *abbrevs) of(code uint64) *abbrev {
	if code-1 < uint64(len(a.list)) {
		return &a.list[code-1]
	}
	return a.more[code]
}

// A unit is a compilation unit. What it holds beyond its header is read when needed.
type unit struct {
	t           *dwarfFile
	off, end    uint64 // in .debug_info, with the header
	first       uint64 // offset of the root entry
	version     uint16
	kind        uint8
	id          uint64 // of the split unit that this is, or is the skeleton of; 0 where the header has none
	skeleton    *unit  // what the binary has of this unit, where it is a split one
	split       *unit  // what this is the skeleton of, nil where that is not found; after full
	soughtSplit bool
	addrSize    int
	wide        bool
	abbrevOff   uint64   // in .debug_abbrev
	abbrevs     *abbrevs // read by table
	root        die
	low         uint64  // base of its ranges
	code        []piece // where its code is, by its root entry
	lines       *lineTable
	list        *routineList // its functions, after load
	size        int          // bytes of memory, about, that all this takes
	hasLines    bool
}

// maxRanges bounds the ranges read of one unit: entries of a damaged one may all refer to one long
// list.
const maxRanges = 4 << 20

// unitHeader reads the header at off (DWARF 5, 7.5.1). It is nil where there is none.
func (t *dwarfFile) unitHeader(off uint64) *unit {
	c := t.cursor(t.info.window(off, 40))
	n := c.length()
	begin := off + uint64(c.pos)
	u := &unit{t: t, off: off, end: begin + n, wide: c.wide, kind: unitCompile}
	if u.version = c.u16(); u.version >= 5 {
		u.kind = c.u8()
		u.addrSize = int(c.u8())
		u.abbrevOff = c.offset()
		switch u.kind {
		case unitSkeleton, unitSplitCompile:
			u.id = c.uint(8)
		case 2, 6: // type units: signature, offset of the type
			c.skip(8)
			c.offset()
		}
	} else {
		u.abbrevOff = c.offset()
		u.addrSize = int(c.u8())
	}
	u.first = off + uint64(c.pos)
	if c.bad || u.end < begin || u.end > t.info.size || u.first > u.end {
		return nil
	}
	return u
}

// usable says whether the unit is of a version and kind that is understood.
func (u *unit) usable() bool {
	switch u.kind {
	case unitCompile, unitPartial, unitSkeleton, unitSplitCompile:
		return u.version >= 2 && u.version <= 5 && (u.addrSize == 4 || u.addrSize == 8)
	}
	return false
}

// open reads the root entry. It is false where the unit is damaged or of no use.
func (u *unit) open() bool {
	if !u.usable() {
		return false
	}
	// Of the abbreviations only the root's is read here, as most units are never asked.
	c := u.cursor(u.t.info.window(u.first, 16))
	code := c.uleb()
	if c.bad || code == 0 {
		return false
	}
	u.abbrevs = u.readAbbrevs(code)
	ok := u.abbrevs != nil && u.die(u.first, &u.root)
	u.abbrevs = nil
	if !ok {
		return false
	}
	switch u.root.tag {
	case dwarf.TagCompileUnit, dwarf.TagPartialUnit, dwarf.TagSkeletonUnit:
	default:
		return false
	}
	u.low, _ = u.address(u.root.low)
	if u.skeleton != nil {
		u.low = u.skeleton.low
	}
	budget := maxRanges
	u.code = flatten(u.ranges(nil, &u.root, 0, &budget), nil)
	return true
}

// tellsRanges says whether the root entry has the unit's addresses.
func (u *unit) tellsRanges() bool { return u.root.ranges.form != 0 || u.root.high.form != 0 }

// covers says whether an address is in the unit, as far as its root entry tells.
func (u *unit) covers(addr uint64) bool {
	_, ok := find(u.code, addr)
	return ok || !u.tellsRanges()
}

// abbrevKey is what the reading of abbreviations depends on.
type abbrevKey struct {
	off      uint64
	version2 bool
	wide     bool
	addrSize int
}

// table reads the unit's abbreviations, once for all units that share them. It is false where they
// are damaged.
func (u *unit) table() bool {
	if u.abbrevs == nil {
		key := abbrevKey{u.abbrevOff, u.version == 2, u.wide, u.addrSize}
		a, ok := u.t.abbrevTables[key]
		if !ok {
			a = u.readAbbrevs(0)
			u.t.abbrevTables[key] = a
		}
		u.abbrevs = a
	}
	return u.abbrevs != nil
}

// readAbbrevs reads abbreviations (DWARF 5, 7.5.3) up to the one with the code last, all for 0.
func (u *unit) readAbbrevs(last uint64) *abbrevs {
	for n := uint64(4096); ; n *= 16 {
		b := u.t.abbrev.window(u.abbrevOff, n)
		list, short := u.parseAbbrevs(u.t.cursor(b), last)
		if !short || uint64(len(b)) < n {
			return list
		}
	}
}

// parseAbbrevs says with short that the data ended before the list did.
func (u *unit) parseAbbrevs(c cursor, last uint64) (list *abbrevs, short bool) {
	list = &abbrevs{}
	var attrs []attrForm // of all abbreviations
	for {
		code := c.uleb()
		if c.bad {
			return nil, true
		}
		if code == 0 {
			return list, false
		}
		a := abbrev{tag: dwarf.Tag(c.uleb()), children: c.u8() != 0}
		a.scope = a.tag == dwarf.TagSubprogram || a.tag == dwarf.TagInlinedSubroutine
		first := len(attrs)
		for !c.bad {
			f := attrForm{attr: clip16(c.uleb()), form: clip16(c.uleb())}
			if f.form == formImplicit {
				f.implicit = c.sleb()
			}
			if f.attr == 0 && f.form == 0 {
				break
			}
			attrs = append(attrs, f)
			a.code = a.code || dwarf.Attr(f.attr) == dwarf.AttrLowpc || dwarf.Attr(f.attr) == dwarf.AttrRanges
		}
		if c.bad {
			return nil, true
		}
		if last != 0 && code != last {
			attrs = attrs[:first]
			continue
		}
		a.attrs = attrs[first:len(attrs):len(attrs)]
		u.planSkips(&a)
		if code == uint64(len(list.list))+1 {
			list.list = append(list.list, a)
		} else {
			if list.more == nil {
				list.more = map[uint64]*abbrev{}
			}
			list.more[code] = &a
		}
		if code == last {
			return list, false
		}
	}
}

func (u *unit) planSkips(a *abbrev) {
	fixed := 0
	for _, f := range a.attrs {
		next := a.children && dwarf.Attr(f.attr) == dwarf.AttrSibling
		if size := u.formSize(f.form); size >= 0 && !next {
			fixed += size
			continue
		}
		a.skips = append(a.skips, skip{fixed, f.form, next})
		fixed = 0
	}
	if fixed > 0 {
		a.skips = append(a.skips, skip{bytes: fixed})
	}
}

// skipEntry moves the cursor past an entry's attributes. It returns the offset of its next sibling
// where it says that, and 0 where it does not.
func (u *unit) skipEntry(c *cursor, a *abbrev) (next uint64) {
	for i := range a.skips {
		s := &a.skips[i]
		if s.bytes > len(c.b)-c.pos {
			c.bad = true
			c.pos = len(c.b)
			return 0
		}
		c.pos += s.bytes
		switch {
		case s.next:
			next = u.value(c, attrForm{form: s.form}, 0).v
		case s.form == formExprloc || s.form == formBlock:
			c.skip(c.uleb())
		case s.form == formUdata || s.form == formSdata:
			c.uleb()
		case s.form != 0:
			u.value(c, attrForm{form: s.form}, 0)
		}
	}
	return next
}

func clip16(v uint64) uint16 { return uint16(min(v, 0xffff)) }

// formSize is the bytes a form takes, -1 where that varies.
func (u *unit) formSize(form uint16) int {
	switch form {
	case formFlagPresent, formImplicit:
		return 0
	case formData1, formRef1, formFlag, formStrx1, formAddrx1:
		return 1
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2
	case formStrx3, formAddrx3:
		return 3
	case formData4, formRef4, formStrx4, formAddrx4, formRefSup4:
		return 4
	case formData8, formRef8, formRefSig8, formRefSup8:
		return 8
	case formData16:
		return 16
	case formAddr:
		return u.addrSize
	case formRefAddr:
		if u.version == 2 {
			return u.addrSize
		}
		return u.offsetSize()
	case formStrp, formLineStrp, formSecOffset, formStrpSup, formGNURefAlt, formGNUStrpAlt:
		return u.offsetSize()
	}
	return -1
}

func (u *unit) offsetSize() int {
	if u.wide {
		return 8
	}
	return 4
}

// cursor reads b, which is of this unit.
func (u *unit) cursor(b []byte) cursor {
	c := u.t.cursor(b)
	c.wide, c.addrSize = u.wide, u.addrSize
	return c
}

// value reads an attribute's value; base is the offset in .debug_info at which c begins.
func (u *unit) value(c *cursor, f attrForm, base uint64) value {
	form := f.form
	for range 4 { // a form may say that the form follows
		if form != formIndirect {
			break
		}
		form = clip16(c.uleb())
	}
	x := value{form: form}
	switch form {
	case formImplicit:
		x.v = uint64(f.implicit)
	case formFlagPresent:
		x.v = 1
	case formUdata, formStrx, formAddrx, formRnglistx, formLoclistx, formGNUAddrIndex, formGNUStrIndex:
		x.v = c.uleb()
	case formRefUdata:
		x.v = u.off + c.uleb()
	case formSdata:
		x.v = uint64(c.sleb())
	case formString:
		x.v = base + uint64(c.pos)
		c.skipString()
	case formBlock1:
		c.skip(uint64(c.u8()))
	case formBlock2:
		c.skip(c.uint(2))
	case formBlock4:
		c.skip(c.uint(4))
	case formBlock, formExprloc:
		c.skip(c.uleb())
	case formData16:
		c.skip(16)
	case formRef1, formRef2, formRef4, formRef8:
		x.v = u.off + c.uint(u.formSize(form))
	default:
		size := u.formSize(form)
		if size <= 0 {
			c.bad = true // a form nobody knows: what follows cannot be found
			return value{}
		}
		x.v = c.uint(size)
	}
	return x
}

func (c *cursor) skipString() {
	for c.u8() != 0 {
	}
}

// entry reads the entry at the cursor; base is the offset in .debug_info at which c begins. It is
// false for an end of siblings, and where c turns bad.
func (u *unit) entry(c *cursor, base uint64, d *die) bool {
	code := c.uleb()
	if code == 0 {
		return false
	}
	a := u.abbrevs.of(code)
	if a == nil {
		c.bad = true
		return false
	}
	u.attributes(c, base, a, d)
	return !c.bad
}

func (u *unit) attributes(c *cursor, base uint64, a *abbrev, d *die) {
	*d = die{tag: a.tag, children: a.children}
	for _, f := range a.attrs {
		x := u.value(c, f, base)
		if c.bad {
			return
		}
		switch dwarf.Attr(f.attr) {
		case dwarf.AttrName:
			d.name = x
		case dwarf.AttrLinkageName, attrMIPSLinkageName:
			d.linkage = x
		case dwarf.AttrCompDir:
			d.compDir = x
		case dwarf.AttrLowpc:
			d.low = x
		case dwarf.AttrHighpc:
			d.high = x
		case dwarf.AttrRanges:
			d.ranges = x
		case dwarf.AttrAbstractOrigin:
			d.origin = x
		case dwarf.AttrSpecification:
			d.specification = x
		case dwarf.AttrStmtList:
			d.stmtList = x
		case dwarf.AttrAddrBase, attrGNUAddrBase:
			d.addrBase = x
		case dwarf.AttrDwoName, attrGNUDwoName:
			d.splitName = x
		case attrGNUDwoID:
			d.splitID = x
		case attrGNURangesBase:
			d.splitRanges = x
		case dwarf.AttrStrOffsetsBase:
			d.strBase = x
		case dwarf.AttrRnglistsBase:
			d.rangesBase = x
		case dwarf.AttrDeclFile:
			d.declFile = x
		case dwarf.AttrDeclLine:
			d.declLine = x
		case dwarf.AttrCallFile:
			d.callFile = x
		case dwarf.AttrCallLine:
			d.callLine = x
		case dwarf.AttrCallColumn:
			d.callColumn = x
		}
	}
}

// die reads the entry at an offset in .debug_info, which is in this unit.
func (u *unit) die(off uint64, d *die) bool {
	if off < u.first || off >= u.end || !u.table() {
		return false
	}
	for n := uint64(512); ; n *= 16 {
		b := u.t.info.window(off, min(n, u.end-off))
		c := u.cursor(b[:min(uint64(len(b)), u.end-off)])
		if u.entry(&c, off, d) {
			return true
		}
		if !c.bad || uint64(len(c.b)) >= u.end-off || uint64(len(b)) < n {
			return false
		}
	}
}

// str is an attribute's string, "" for none and for one in a file that is missing.
func (u *unit) str(x value) string {
	switch x.form {
	case formString:
		return u.t.info.cstring(x.v)
	case formStrp:
		return u.t.str.cstring(x.v)
	case formLineStrp:
		return u.t.lineStr.cstring(x.v)
	case formStrpSup, formGNUStrpAlt:
		if sup := u.t.supplement(); sup != nil {
			return sup.str.cstring(x.v)
		}
	case formStrx, formStrx1, formStrx2, formStrx3, formStrx4, formGNUStrIndex:
		size := uint64(u.offsetSize())
		base := 2 * size // the table's header
		if u.version < 5 {
			base = 0
		}
		if u.root.strBase.form != 0 {
			base = u.root.strBase.v
		}
		if x.v > u.t.strOffsets.size {
			return ""
		}
		c := u.cursor(u.t.strOffsets.window(base+x.v*size, size))
		if off := c.offset(); !c.bad {
			return u.t.str.cstring(off)
		}
	}
	return ""
}

// address is an attribute's address.
func (u *unit) address(x value) (uint64, bool) {
	switch x.form {
	case formAddr:
		return x.v, true
	case formAddrx, formAddrx1, formAddrx2, formAddrx3, formAddrx4, formGNUAddrIndex:
		return u.addrAt(x.v)
	}
	return 0, false
}

// addrAt is entry i of the unit's part of .debug_addr.
func (u *unit) addrAt(i uint64) (uint64, bool) {
	if u.skeleton != nil {
		return u.skeleton.addrAt(i)
	}
	base := uint64(8)
	if u.wide {
		base = 16
	}
	if u.version < 5 {
		base = 0
	}
	if u.root.addrBase.form != 0 {
		base = u.root.addrBase.v
	}
	if i > u.t.addrs.size {
		return 0, false
	}
	c := u.cursor(u.t.addrs.window(base+i*uint64(u.addrSize), uint64(u.addrSize)))
	addr := c.addr()
	return addr, !c.bad
}

// isConstant tells the forms of class constant; DW_AT_high_pc is then a length.
func isConstant(form uint16) bool {
	switch form {
	case formData1, formData2, formData4, formData8, formSdata, formUdata, formImplicit:
		return true
	}
	return false
}

// ranges appends the addresses of an entry, with the id given. Those not in code are left out:
// linkers set the addresses of functions they remove to 0, 1 or the highest one.
func (u *unit) ranges(to []piece, d *die, id int32, budget *int) []piece {
	if d.ranges.form != 0 {
		return u.rangeList(to, d.ranges, id, budget)
	}
	low, ok := u.address(d.low)
	if !ok {
		return to
	}
	high := low
	if isConstant(d.high.form) {
		high += d.high.v
	} else if h, ok := u.address(d.high); ok {
		high = h
	}
	return u.appendRange(to, low, high, id, budget)
}

// appendRange takes one from the budget, which bounds what a damaged unit costs.
func (u *unit) appendRange(to []piece, low, high uint64, id int32, budget *int) []piece {
	if *budget--; *budget < 0 || low >= high || !u.t.code.holds(low) {
		return to
	}
	return append(to, piece{low, high, id})
}

// rangeList appends the addresses of a range list, of .debug_ranges before DWARF 5 and of
// .debug_rnglists since.
func (u *unit) rangeList(to []piece, x value, id int32, budget *int) []piece {
	section, parse, off := u.t.ranges, u.rangesV4, x.v
	if u.version < 5 && u.skeleton != nil {
		section, off = u.skeleton.t.ranges, off+u.skeleton.root.splitRanges.v
	}
	if u.version >= 5 {
		section, parse = u.t.rnglists, u.rangesV5
		if x.form == formRnglistx {
			size := uint64(u.offsetSize())
			base := 12 + uint64(u.offsetSize()-4)*2
			if u.root.rangesBase.form != 0 {
				base = u.root.rangesBase.v
			}
			if x.v > section.size {
				return to
			}
			c := u.cursor(section.window(base+x.v*size, size))
			if off = base + c.offset(); c.bad {
				return to
			}
		}
	}
	for n := uint64(1024); ; n *= 16 {
		b := section.window(off, n)
		c := u.cursor(b)
		list := parse(&c, to, id, budget)
		if !c.bad || uint64(len(b)) < n || *budget < 0 {
			return list
		}
	}
}

// rangesV4 reads pairs of addresses (DWARF 4, 2.17.3).
func (u *unit) rangesV4(c *cursor, to []piece, id int32, budget *int) []piece {
	base, highest := u.low, uint64(1)<<(8*u.addrSize-1)<<1-1
	for *budget >= 0 {
		low, high := c.addr(), c.addr()
		switch {
		case c.bad || low == 0 && high == 0:
			return to
		case low == highest:
			base = high
		default:
			to = u.appendRange(to, base+low, base+high, id, budget)
		}
	}
	return to
}

// rangesV5 reads range list entries (DWARF 5, 7.25).
func (u *unit) rangesV5(c *cursor, to []piece, id int32, budget *int) []piece {
	base := u.low
	for *budget >= 0 {
		var low, high uint64
		ok := true
		indexed := func() (addr uint64) {
			var found bool
			addr, found = u.addrAt(c.uleb())
			ok = ok && found
			return addr
		}
		kind := c.u8()
		switch {
		case c.bad:
			return to
		case kind == 0: // end_of_list
			return to
		case kind == 1: // base_addressx
			base = indexed()
			continue
		case kind == 2: // startx_endx
			low, high = indexed(), indexed()
		case kind == 3: // startx_length
			low = indexed()
			high = low + c.uleb()
		case kind == 4: // offset_pair
			low, high = base+c.uleb(), base+c.uleb()
		case kind == 5: // base_address
			base = c.addr()
			continue
		case kind == 6: // start_end
			low, high = c.addr(), c.addr()
		case kind == 7: // start_length
			low = c.addr()
			high = low + c.uleb()
		default:
			return to
		}
		if ok && !c.bad {
			to = u.appendRange(to, low, high, id, budget)
		}
	}
	return to
}
