package unwind

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// A Table is the rows of one file: which rule holds from an address on, until the next row. It does
// not change, so any number of goroutines may use it at once.
//
// A row has 8 bytes. Rules, which many rows share, are kept once, as are their lists of saved
// registers, which many rules share. In memory and on disk a table is the same bytes, little-endian:
//
//	0   machine u32 · regions u32 · rows u32 · rules u32 · saves u32 · exprs u32 (bytes) ·
//	    damaged u32 · bytes of the first damage's text u32
//	32  regions   base u64 · its first row u32 · 0 u32
//	    addrs     of each row: address - the region's base, u32
//	    index     of each row: its rule, u32
//	    rules     cfa kind, register, flags, column of the return address u8 · cfa value i32 · first save u32 · saves u16 · 0 u16
//	    saves     register, kind u8 · 0 u16 · value i32
//	    exprs     bytes u16 · DWARF expression …
//	    text
type Table struct {
	machine *machine
	regions []region
	addrs   []byte
	index   []byte
	rules   []byte
	saves   []byte
	exprs   []byte

	damaged int
	damage  string

	data   []byte // all of it
	mapped []byte // what Close unmaps; nil for a table in memory
}

// A region is rows whose addresses lie within 4 GiB of its base. Nearly every table has one.
type region struct {
	base  uint64
	first uint32 // row
}

const (
	tableHead  = 32
	regionSize = 16
	ruleSize   = 16
	saveSize   = 8

	flagSignal = 1 << 0
	flagSigned = 1 << 1
	flagRoot   = 1 << 2 // the return address is undefined
)

// table makes the table of what was built.
func (b *builder) table(d damage) (*Table, error) {
	le := binary.LittleEndian
	const longest = 200
	text := d.first[:min(len(d.first), longest)]
	size := tableHead + regionSize*len(b.regions) + 8*len(b.rows) + ruleSize*len(b.ruleList) + len(b.saves) + len(b.exprBytes) + len(text)
	data := make([]byte, 0, size)
	for _, n := range []int{
		int(b.machine.elf), len(b.regions), len(b.rows), len(b.ruleList), len(b.saves) / saveSize, len(b.exprBytes), d.count, len(text),
	} {
		data = le.AppendUint32(data, uint32(n))
	}
	for _, r := range b.regions {
		data = le.AppendUint32(le.AppendUint32(le.AppendUint64(data, r.base), r.first), 0)
	}
	for _, a := range b.addrs {
		data = le.AppendUint32(data, a)
	}
	for _, r := range b.rows {
		data = le.AppendUint32(data, r)
	}
	for _, k := range b.ruleList {
		data = append(data, k.cfaKind, k.cfaRegister, k.flags, k.ra)
		data = le.AppendUint32(data, uint32(k.cfaValue))
		data = le.AppendUint32(data, k.list.first)
		data = le.AppendUint16(le.AppendUint16(data, k.list.count), 0)
	}
	data = append(append(append(data, b.saves...), b.exprBytes...), text...)
	return openTable(data)
}

var errTable = errors.New("the rows do not fit together")

// openTable makes a table of its bytes, which it keeps. Everything that a walk relies on is
// checked, so that no table, whoever wrote it, leads a walk out of bounds.
func openTable(data []byte) (*Table, error) {
	le := binary.LittleEndian
	if len(data) < tableHead {
		return nil, errTable
	}
	head := func(i int) int { return int(le.Uint32(data[4*i:])) }
	m, err := machineOf(elf.Machine(head(0)))
	if err != nil {
		return nil, err
	}
	t := &Table{machine: m, data: data, damaged: head(6)}
	rest := data[tableHead:]
	short := false
	take := func(count, size int) []byte {
		n := count * size
		if n > len(rest) {
			short = true
			return nil
		}
		b := rest[:n:n]
		rest = rest[n:]
		return b
	}
	regions, rows, rules := take(head(1), regionSize), head(2), head(3)
	t.addrs, t.index, t.rules = take(rows, 4), take(rows, 4), take(rules, ruleSize)
	t.saves, t.exprs = take(head(4), saveSize), take(head(5), 1)
	text := take(head(7), 1)
	if short || len(rest) > 0 || rules == 0 || (rows > 0) != (len(regions) > 0) {
		return nil, errTable
	}
	t.damage = string(text)
	for i := 0; i < len(regions); i += regionSize {
		r := region{base: le.Uint64(regions[i:]), first: le.Uint32(regions[i+8:])}
		switch n := len(t.regions); {
		case n == 0 && r.first != 0, int(r.first) >= rows:
			return nil, errTable
		case n > 0 && (r.base <= t.regions[n-1].base || r.first <= t.regions[n-1].first):
			return nil, errTable
		}
		t.regions = append(t.regions, r)
	}
	for i := range t.regions {
		first, end := t.span(i)
		last := int64(-1)
		for row := first; row < end; row++ {
			a := int64(t.addr(row))
			if a <= last || int(le.Uint32(t.index[4*row:])) >= rules {
				return nil, errTable
			}
			last = a
		}
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// check goes through the rules.
func (t *Table) check() error {
	expression := func(at int32) bool {
		if at < 0 || int(at)+2 > len(t.exprs) {
			return false
		}
		return int(at)+2+int(binary.LittleEndian.Uint16(t.exprs[at:])) <= len(t.exprs)
	}
	for i := range len(t.rules) / ruleSize {
		r := t.rule(uint32(i))
		ok := r.cfaRegister < registerCount && r.ra < registerCount
		switch r.cfaKind {
		case ruleNone:
			ok = ok && i == noRule
		case ruleRegister:
		case ruleValExpr:
			ok = ok && expression(r.cfaValue)
		default:
			ok = false
		}
		if !ok || int(r.list.first)+int(r.list.count) > len(t.saves)/saveSize || i == noRule && r.cfaKind != ruleNone {
			return errTable
		}
	}
	for i := range len(t.saves) / saveSize {
		n, s := t.save(i)
		ok := n < registerCount
		switch s.kind {
		case ruleUndefined, ruleSame, ruleOffset, ruleValOffset:
		case ruleRegister:
			ok = ok && s.value >= 0 && s.value < registerCount
		case ruleExpression, ruleValExpr:
			ok = ok && expression(s.value)
		default:
			ok = false
		}
		if !ok {
			return errTable
		}
	}
	return nil
}

// span is the rows of a region.
func (t *Table) span(region int) (first, end int) {
	end = len(t.addrs) / 4
	if region+1 < len(t.regions) {
		end = int(t.regions[region+1].first)
	}
	return int(t.regions[region].first), end
}

func (t *Table) addr(row int) uint32 { return binary.LittleEndian.Uint32(t.addrs[4*row:]) }

func (t *Table) rule(i uint32) (k ruleKey) {
	le := binary.LittleEndian
	b := t.rules[ruleSize*int(i):][:ruleSize]
	k.cfaKind, k.cfaRegister, k.flags, k.ra = b[0], b[1], b[2], b[3]
	k.cfaValue = int32(le.Uint32(b[4:]))
	k.list = saveList{le.Uint32(b[8:]), le.Uint16(b[12:])}
	return k
}

func (t *Table) save(i int) (register uint8, s saved) {
	b := t.saves[saveSize*i:][:saveSize]
	return b[0], saved{b[1], int32(binary.LittleEndian.Uint32(b[4:]))}
}

// expression is the bytes of an expression.
func (t *Table) expression(at int32) []byte {
	n := int(binary.LittleEndian.Uint16(t.exprs[at:]))
	return t.exprs[at+2:][:n]
}

// find is the rule at a file address, and the address from which the next row holds: 0 where there
// is none in the region.
func (t *Table) find(addr uint64) (rule uint32, next uint64) {
	i := 0
	if len(t.regions) != 1 {
		i = sort.Search(len(t.regions), func(i int) bool { return t.regions[i].base > addr }) - 1
	}
	if i < 0 || t.regions[i].base > addr {
		return noRule, 0
	}
	base := t.regions[i].base
	first, end := t.span(i)
	delta := addr - base
	// The last row that begins at addr or before.
	low, high := first, end
	for low < high {
		if mid := int(uint(low+high) >> 1); uint64(t.addr(mid)) > delta {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low < end {
		next = base + uint64(t.addr(low))
	}
	if low == first {
		return noRule, next
	}
	return binary.LittleEndian.Uint32(t.index[4*(low-1):]), next
}

// Machine is the processor whose registers the rows speak of.
func (t *Table) Machine() elf.Machine { return t.machine.elf }

// Len is the number of rows.
func (t *Table) Len() int { return len(t.addrs) / 4 }

// Size is how many bytes the table takes, in memory and on disk.
func (t *Table) Size() int { return len(t.data) }

// Damage is how many entries of the file's call-frame information were passed over, as a whole or
// from some instruction on, and what was wrong with the first. Functions that they were of have no
// rows.
func (t *Table) Damage() (count int, first string) { return t.damaged, t.damage }

// Covers tells whether there is a rule at a file address.
func (t *Table) Covers(addr uint64) bool {
	rule, _ := t.find(addr)
	return rule != noRule
}

// Close gives back what a table from a Cache holds. No walk may use it then or later. Closing one
// that was made in memory does nothing, and so does closing twice.
func (t *Table) Close() error {
	b := t.mapped
	if b == nil {
		return nil
	}
	*t = Table{machine: t.machine}
	if err := unix.Munmap(b); err != nil {
		return fmt.Errorf("unmap the rows of a file: %w", err)
	}
	return nil
}

// A Row is one row in words.
type Row struct {
	Addr uint64 // file address from which on it holds
	Rule string // as Table.Describe has it; "" for addresses without a rule
}

// Rows are all rows by ascending address.
func (t *Table) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i, r := range t.regions {
			first, end := t.span(i)
			for row := first; row < end; row++ {
				rule := binary.LittleEndian.Uint32(t.index[4*row:])
				if !yield(Row{r.base + uint64(t.addr(row)), t.describe(rule)}) {
					return
				}
			}
		}
	}
}

// Describe is the rule at a file address in words: "cfa=rsp+16 rbx=c-16 ra=c-8". Registers are as
// readelf has them: c-16 is saved at the CFA - 16, v+8 is the CFA + 8, exp and vexp are by
// expression, u is undefined, s the same, and a name is the register it is in. Signal frames say
// "signal". It is "" where there is no rule.
func (t *Table) Describe(addr uint64) string {
	rule, _ := t.find(addr)
	return t.describe(rule)
}

func (t *Table) describe(rule uint32) string {
	if rule == noRule {
		return ""
	}
	r := t.rule(rule)
	var b strings.Builder
	if r.cfaKind == ruleValExpr {
		b.WriteString("cfa=exp")
	} else {
		fmt.Fprintf(&b, "cfa=%s%+d", t.machine.name(int(r.cfaRegister)), r.cfaValue)
	}
	for i := range int(r.list.count) {
		n, s := t.save(int(r.list.first) + i)
		name := t.machine.name(int(n))
		if n == r.ra {
			name = "ra"
		}
		b.WriteByte(' ')
		b.WriteString(name)
		b.WriteByte('=')
		switch s.kind {
		case ruleUndefined:
			b.WriteByte('u')
		case ruleSame:
			b.WriteByte('s')
		case ruleOffset:
			fmt.Fprintf(&b, "c%+d", s.value)
		case ruleValOffset:
			fmt.Fprintf(&b, "v%+d", s.value)
		case ruleRegister:
			b.WriteString(t.machine.name(int(s.value)))
		case ruleExpression:
			b.WriteString("exp")
		case ruleValExpr:
			b.WriteString("vexp")
		}
	}
	if r.flags&flagSignal != 0 {
		b.WriteString(" signal")
	}
	if r.flags&flagSigned != 0 {
		b.WriteString(" signed")
	}
	return b.String()
}

var amd64Names = [...]string{"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"}

func (m *machine) name(n int) string {
	switch {
	case m == &amd64 && n < len(amd64Names):
		return amd64Names[n]
	case m == &arm64 && n == arm64SP:
		return "sp"
	case m == &arm64 && n == arm64PC:
		return "pc"
	case m == &arm64:
		return fmt.Sprintf("x%d", n)
	}
	return fmt.Sprintf("r%d", n)
}
