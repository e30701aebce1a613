package sourcemap

import (
	"cmp"
	"slices"
	"sort"
)

// A lineTable is a unit's line number program, run.
type lineTable struct {
	u         *unit
	dirs      []string
	files     []lineFile
	rows      []packedRow
	sequences []piece    // by address, without overlaps; id is into bounds
	bounds    [][2]int32 // a sequence's rows: the first, and the one after the last
	lows      []uint64   // where sequences begin
}

// A lineFile is an entry of the file table; path is made when it is asked for.
type lineFile struct {
	name  string
	dir   uint64
	path  string
	known bool
	sum   sum // zero where the table has none
}

// A packedRow is a row as it is kept: off is its distance from the sequence's first one.
type packedRow struct {
	off, file, line uint32
	column          uint16
	end             bool
}

// A row says that from addr on the code is of a line, up to the next row's address.
type row struct {
	addr   uint64
	file   uint32
	line   uint32
	column uint16
	end    bool // the sequence ends here
}

// lineTable reads the line number program's header of the unit and, if run is set, runs the
// program, both once. It is nil where there is none that can be read.
func (u *unit) lineTable(run bool) *lineTable {
	if u.hasLines && (u.lines == nil || !run || u.lines.rows != nil) {
		return u.lines
	}
	if u.skeleton != nil && u.root.stmtList.form == 0 {
		return u.skeleton.lineTable(run) // files of both are numbered by it
	}
	u.hasLines = true
	if u.root.stmtList.form == 0 {
		return nil
	}
	section := u.t.line
	head := u.t.cursor(section.window(u.root.stmtList.v, 12))
	n := head.length()
	if head.bad || n > section.size {
		return nil
	}
	c := u.cursor(section.bytes(u.root.stmtList.v+uint64(head.pos), n))
	c.wide = head.wide
	l := u.lines
	if l == nil {
		l = &lineTable{u: u}
	}
	if !l.read(&c, run) {
		return nil
	}
	u.lines = l
	return l
}

// A lineProgram is what the header says of how the program is to be run.
type lineProgram struct {
	version   uint16
	minInst   uint64
	maxOps    uint64
	lineBase  int64
	lineRange uint64
	opBase    uint8
	operands  []byte // of opcodes 1 …
}

// read reads the header (DWARF 5, 6.2.4; DWARF 4, 6.2.4).
func (l *lineTable) read(c *cursor, run bool) bool {
	p := lineProgram{version: c.u16()}
	if p.version < 2 || p.version > 5 {
		return false
	}
	if p.version >= 5 {
		c.addrSize = int(c.u8())
		c.u8() // segment selectors are not used
		if c.addrSize != 4 && c.addrSize != 8 {
			return false
		}
	}
	headerLength := c.offset()
	begin := c.pos
	if c.bad || headerLength > uint64(len(c.b)-begin) {
		return false
	}
	p.minInst = uint64(c.u8())
	p.maxOps = 1
	if p.version >= 4 {
		p.maxOps = max(1, uint64(c.u8()))
	}
	c.u8() // default_is_stmt
	p.lineBase = int64(int8(c.u8()))
	p.lineRange = uint64(c.u8())
	p.opBase = c.u8()
	if p.opBase > 0 {
		p.operands = c.take(int(p.opBase) - 1)
	}
	if c.bad {
		return false
	}
	if l.files == nil {
		if p.version >= 5 {
			l.readTablesV5(c)
		} else {
			l.readTables(c)
		}
	}
	if run {
		c.pos, c.bad = begin+int(headerLength), false
		l.run(c, &p)
	}
	return true
}

// readTables reads the folders and files of versions 2 to 4. Folder 0 is where the compiler ran,
// files count from 1.
func (l *lineTable) readTables(c *cursor) {
	l.dirs = append(l.dirs, l.u.compDir())
	for !c.bad {
		name := c.cstring()
		if name == "" {
			break
		}
		l.dirs = append(l.dirs, name)
	}
	l.files = append(l.files, lineFile{})
	for !c.bad {
		f := lineFile{name: c.cstring()}
		if f.name == "" {
			break
		}
		f.dir = c.uleb()
		c.uleb() // time of modification
		c.uleb() // length
		l.files = append(l.files, f)
	}
}

// readTablesV5 reads the folders and files of version 5, whose entries describe their own format.
func (l *lineTable) readTablesV5(c *cursor) {
	l.files = []lineFile{}
	wide := *l.u // the program's offsets may be of another size than the unit's
	wide.wide = c.wide
	for table := range 2 {
		const contentPath, contentDir, contentMD5 = 1, 2, 5
		format := make([]attrForm, c.u8())
		for i := range format {
			format[i] = attrForm{attr: clip16(c.uleb()), form: clip16(c.uleb())}
		}
		for n := c.uleb(); n > 0 && !c.bad; n-- {
			var f lineFile
			before := c.pos
			for _, x := range format {
				// Strings in the program itself are not at an offset of .debug_info.
				if x.form == formString {
					if s := c.cstring(); x.attr == contentPath {
						f.name = s
					}
					continue
				}
				if x.attr == contentMD5 && x.form == formData16 {
					copy(f.sum[:], c.take(16))
					continue
				}
				v := wide.value(c, x, 0)
				switch x.attr {
				case contentPath:
					f.name = l.u.str(v)
				case contentDir:
					f.dir = v.v
				}
			}
			if c.bad || c.pos == before {
				return
			}
			if table == 0 {
				l.dirs = append(l.dirs, f.name)
			} else {
				l.files = append(l.files, f)
			}
		}
	}
}

// file is the path of a file of the table, as it was built: absolute where the binary says so. It is
// "" for one that is not there.
func (l *lineTable) file(i uint64) string {
	if l == nil || i >= uint64(len(l.files)) {
		return ""
	}
	f := &l.files[i]
	if !f.known {
		f.known = true
		if f.name == "?" { // Go, of code that is in no file
			return ""
		}
		dir := ""
		if f.dir < uint64(len(l.dirs)) {
			dir = l.dirs[f.dir]
		}
		f.path = cleanJoin(cleanJoin(l.u.compDir(), dir), f.name)
		if dir == "" {
			f.path = cleanJoin(l.u.compDir(), f.name)
		}
		if sums := l.u.t.sums[f.path]; f.sum != (sum{}) && f.path != "" && !slices.Contains(sums, f.sum) {
			l.u.t.sums[f.path] = append(sums, f.sum)
		}
	}
	return f.path
}

func (u *unit) compDir() string {
	if u.root.compDir.form == 0 && u.skeleton != nil {
		return u.skeleton.compDir()
	}
	return u.str(u.root.compDir)
}

// run runs the program (DWARF 5, 6.2.5). Each byte of it makes at most one row. Sequences that are
// not in code are dropped, as linkers leave those of functions they remove.
func (l *lineTable) run(c *cursor, p *lineProgram) {
	all := l.u.t.rows[:0]
	l.rows, l.bounds = nil, nil
	var at row
	var op uint64 // operation within a VLIW instruction
	first := 0
	reset := func() { at, op = row{file: 1, line: 1}, 0 }
	advance := func(n uint64) {
		if p.maxOps == 1 {
			at.addr += p.minInst * n
			return
		}
		at.addr += p.minInst * ((op + n) / p.maxOps)
		op = (op + n) % p.maxOps
	}
	emit := func() {
		if n := len(all); n > first && all[n-1].addr == at.addr && !at.end {
			all[n-1] = at // of several rows at one address the last one counts
			return
		}
		all = append(all, at)
	}
	var found []piece
	finish := func() {
		rows := all[first:]
		if !slices.IsSortedFunc(rows, compareRows) {
			slices.SortStableFunc(rows, compareRows)
		}
		n := len(rows)
		if n < 2 || rows[0].addr >= rows[n-1].addr || rows[n-1].addr-rows[0].addr > 1<<32-1 || !l.u.t.code.holds(rows[0].addr) {
			all = all[:first]
		} else {
			found = append(found, piece{rows[0].addr, rows[n-1].addr, int32(len(l.bounds))})
			l.bounds = append(l.bounds, [2]int32{int32(first), int32(len(all))})
			first = len(all)
		}
	}
	reset()
	for c.pos < len(c.b) && !c.bad {
		opcode := c.u8()
		if opcode >= p.opBase {
			if p.lineRange == 0 {
				break
			}
			n := uint64(opcode - p.opBase)
			advance(n / p.lineRange)
			at.line = uint32(int64(at.line) + p.lineBase + int64(n%p.lineRange))
			emit()
			continue
		}
		switch opcode {
		case 0: // extended
			n := c.uleb()
			if n == 0 || n > uint64(len(c.b)-c.pos) {
				c.bad = true
				break
			}
			next := c.pos + int(n)
			switch c.u8() {
			case 1: // DW_LNE_end_sequence
				at.end = true
				emit()
				finish()
				reset()
			case 2: // DW_LNE_set_address
				if size := int(n) - 1; size >= 1 && size <= 8 {
					at.addr = c.uint(size)
				}
				op = 0
			case 3: // DW_LNE_define_file
				f := lineFile{name: c.cstring(), dir: c.uleb()}
				l.files = append(l.files, f)
			}
			c.pos = next
		case 1: // DW_LNS_copy
			emit()
		case 2: // DW_LNS_advance_pc
			advance(c.uleb())
		case 3: // DW_LNS_advance_line
			at.line = uint32(int64(at.line) + c.sleb())
		case 4: // DW_LNS_set_file
			at.file = uint32(c.uleb())
		case 5: // DW_LNS_set_column
			at.column = clip16(c.uleb())
		case 6, 7, 10, 11: // negate_stmt, basic_block, prologue_end, epilogue_begin
		case 8: // DW_LNS_const_add_pc
			if p.lineRange == 0 {
				c.bad = true
				break
			}
			advance(uint64(255-p.opBase) / p.lineRange)
		case 9: // DW_LNS_fixed_advance_pc
			at.addr += uint64(c.u16())
			op = 0
		case 12: // DW_LNS_set_isa
			c.uleb()
		default:
			for range p.operands[opcode-1] {
				c.uleb()
			}
		}
	}
	l.rows = make([]packedRow, first) // of a sequence without an end nothing is known
	l.lows = make([]uint64, len(found))
	for i, b := range l.bounds {
		l.lows[i] = found[i].low
		for j := b[0]; j < b[1]; j++ {
			r := &all[j]
			l.rows[j] = packedRow{uint32(r.addr - found[i].low), r.file, r.line, r.column, r.end}
		}
	}
	if cap(all) <= maxScratch/24 {
		l.u.t.rows = all[:0]
	}
	l.sequences = flatten(found, nil)
}

// compareRows orders rows by address; the end of the sequence comes last.
func compareRows(a, b row) int {
	if a.end != b.end {
		if a.end {
			return 1
		}
		return -1
	}
	return cmp.Compare(a.addr, b.addr)
}

// extent is the addresses around addr that belong to the same row.
func (l *lineTable) extent(addr uint64) (piece, bool) {
	if l == nil {
		return piece{}, false
	}
	s, ok := find(l.sequences, addr)
	if !ok {
		return piece{}, false
	}
	rows := l.rows[l.bounds[s.id][0]:l.bounds[s.id][1]]
	low := l.lows[s.id]
	n := sort.Search(len(rows), func(i int) bool { return uint64(rows[i].off) > addr-low })
	if n == 0 || n == len(rows) || rows[n-1].end {
		return piece{}, false
	}
	return piece{max(s.low, low+uint64(rows[n-1].off)), min(s.high, low+uint64(rows[n].off)), 0}, true
}

// at is the row an address belongs to.
func (l *lineTable) at(addr uint64) (row, bool) {
	if l == nil {
		return row{}, false
	}
	s, ok := find(l.sequences, addr)
	if !ok {
		return row{}, false
	}
	rows := l.rows[l.bounds[s.id][0]:l.bounds[s.id][1]]
	// Pieces may begin behind their sequence, where another one holds its first addresses.
	off := addr - l.lows[s.id]
	n := sort.Search(len(rows), func(i int) bool { return uint64(rows[i].off) > off })
	if n == 0 || rows[n-1].end {
		return row{}, false
	}
	r := rows[n-1]
	return row{l.lows[s.id] + uint64(r.off), r.file, r.line, r.column, false}, true
}
