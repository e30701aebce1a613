package unwind

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// A Section is the bytes of an ELF section and the file address of the first.
type Section struct {
	Addr uint64
	Data []byte
}

// Sections are what rows are made of. Sections that a file has not are empty.
type Sections struct {
	Machine    elf.Machine
	EHFrame    Section
	EHFrameHdr Section
	DebugFrame Section // for addresses that EHFrame does not cover
	// Text and Data are addresses of .text and .got, which pointers may be relative to. 0: no
	// compiler of today writes such ones.
	Text, Data uint64
	// Code are the file's executable addresses; entries elsewhere are of functions that the linker
	// dropped. nil: every address but 0.
	Code []Range
	// Loose says that EHFrame.Data goes on behind the section, whose end is not known: what
	// EHFrameHdr lists is read, or if it has no list everything until a length of zero.
	Loose bool
}

// A Range is the addresses from Start, up to and without End.
type Range struct{ Start, End uint64 }

type ranges []Range

func (r ranges) covers(addr uint64) bool {
	if r == nil {
		return addr != 0
	}
	i := sort.Search(len(r), func(i int) bool { return r[i].End > addr })
	return i < len(r) && r[i].Start <= addr
}

// Parse makes the rows of sections. Entries that are damaged are passed over and counted
// (Table.Damage); an error says that the machine is unknown or that there is more than a table can
// hold. Sections without entries make a table without rows.
//
// It takes time and memory in proportion to the sections, whatever they hold. The table keeps no
// reference to them.
func Parse(s Sections) (*Table, error) {
	return parse([]Sections{s})
}

// parse makes one table of several files' sections: later ones fill what earlier ones leave.
func parse(files []Sections) (*Table, error) {
	m, err := machineOf(files[0].Machine)
	if err != nil {
		return nil, err
	}
	b := newBuilder(m)
	var covered []fdeIn
	var damaged damage
	for _, s := range files {
		if s.Machine != files[0].Machine {
			return nil, fmt.Errorf("make rows of a file for %v and of one for %v: they are not of one program", files[0].Machine, s.Machine)
		}
		code := ranges(slices.SortedFunc(slices.Values(s.Code), func(a, b Range) int {
			if a.Start < b.Start {
				return -1
			}
			return 1
		}))
		for _, isEH := range []bool{true, false} {
			section := s.EHFrame
			if !isEH {
				section = s.DebugFrame
			}
			if len(section.Data) == 0 {
				continue
			}
			r := &cfiSection{
				isEH: isEH, data: section.Data, code: code, cies: make(map[uint64]*cie), build: b,
				bases: bases{section: section.Addr, text: s.Text, data: s.Data, size: 8},
			}
			if len(r.data) > maxSection {
				r.data = r.data[:maxSection]
				damaged.add("a section is longer than is read")
			}
			if !isEH || !s.Loose || !r.listed(s.EHFrameHdr) {
				r.all(isEH && s.Loose)
			}
			covered = fill(covered, r)
			if r.damage.count > 0 {
				damaged.count += r.damage.count
				damaged.first = r.damage.first
			}
		}
	}
	for i := range covered {
		f := &covered[i]
		p := program{
			cie: f.cie, cursor: cursor{data: f.section.data[:f.to], pos: int(f.from)},
			bases: f.section.bases, build: b, state: f.cie.first, saved: b.remembered[:0],
		}
		if why := p.run(&f.fde); why != "" {
			damaged.add(why)
		}
		b.remembered = p.saved
		if i+1 == len(covered) || covered[i+1].start != f.end {
			b.row(f.end, noRule)
		}
		if b.full {
			return nil, fmt.Errorf("make rows of call-frame information: it has more than %d rows or %d different rules, which no compiler makes", maxRows, maxRules)
		}
	}
	return b.table(damaged)
}

// An fdeIn is an FDE and its section.
type fdeIn struct {
	fde
	section *cfiSection
}

// fill adds those of a section's FDEs that begin where nothing is covered yet, cut where something
// is.
func fill(covered []fdeIn, s *cfiSection) []fdeIn {
	fdes := s.sorted()
	all := make([]fdeIn, 0, len(covered)+len(fdes))
	i := 0
	for _, f := range fdes {
		for i < len(covered) && covered[i].start <= f.start {
			all = append(all, covered[i])
			i++
		}
		if len(all) > 0 && all[len(all)-1].end > f.start {
			continue
		}
		if i < len(covered) {
			f.end = min(f.end, covered[i].start)
		}
		all = append(all, fdeIn{f, s})
	}
	return append(all, covered[i:]...)
}

const (
	maxRows  = 32 << 20
	maxRules = 4 << 20
	maxBlob  = 64 << 20 // bytes of expressions, and of saved registers

	noRule = 0 // the rule of addresses that have none
)

// A saveList is a list of saved registers among the builder's.
type saveList struct {
	first uint32
	count uint16
}

// A ruleKey is a rule: what a row is an index of.
type ruleKey struct {
	cfaKind, cfaRegister, flags, ra uint8
	cfaValue                        int32
	list                            saveList
}

// A builder collects rows. Rules, lists of saved registers and expressions are kept once.
type builder struct {
	machine *machine
	regions []region
	addrs   []uint32 // of rows, from their region's base on
	rows    []uint32 // their rules

	rules     map[ruleKey]uint32
	ruleList  []ruleKey
	lists     map[string]saveList
	saves     []byte
	exprs     map[string]int32
	exprBytes []byte

	lastKey    ruleKey // and its index
	lastRule   uint32
	full       bool // something had no room
	scratch    []byte
	remembered []state
}

func newBuilder(m *machine) *builder {
	return &builder{
		machine: m, rules: map[ruleKey]uint32{{}: noRule}, ruleList: make([]ruleKey, 1),
		lists: make(map[string]saveList), exprs: make(map[string]int32),
	}
}

// row says that from addr on the rule holds. Addresses do not descend; of several at one address
// the last holds.
func (b *builder) row(addr uint64, rule uint32) {
	last := len(b.rows) - 1
	if len(b.regions) == 0 || addr-b.regions[len(b.regions)-1].base > 1<<32-1 {
		if rule == noRule && len(b.regions) == 0 {
			return
		}
		b.regions = append(b.regions, region{base: addr, first: uint32(len(b.rows))})
	} else if r := &b.regions[len(b.regions)-1]; last >= int(r.first) {
		if r.base+uint64(b.addrs[last]) == addr {
			b.rows[last] = rule
			if last > int(r.first) && b.rows[last-1] == rule {
				b.addrs, b.rows = b.addrs[:last], b.rows[:last]
			}
			return
		}
		if b.rows[last] == rule {
			return
		}
	}
	if len(b.rows) == maxRows {
		b.full = true
		return
	}
	b.addrs = append(b.addrs, uint32(addr-b.regions[len(b.regions)-1].base))
	b.rows = append(b.rows, rule)
}

// rule is the index of the state's rule.
func (b *builder) rule(s *state, c *cie) uint32 {
	if s.cfaKind == ruleNone {
		return noRule
	}
	if !s.known {
		s.list, s.known = b.list(s), true
	}
	key := ruleKey{cfaKind: s.cfaKind, cfaRegister: s.cfaRegister, cfaValue: s.cfaValue, ra: uint8(c.ra), list: s.list}
	if c.signal {
		key.flags |= flagSignal
	}
	if s.signed {
		key.flags |= flagSigned
	}
	if s.saves[c.ra].kind == ruleUndefined {
		key.flags |= flagRoot
	}
	if key == b.lastKey {
		return b.lastRule
	}
	i, ok := b.rules[key]
	if !ok {
		if i = uint32(len(b.ruleList)); i == maxRules {
			b.full = true
			return noRule
		}
		b.ruleList = append(b.ruleList, key)
		b.rules[key] = i
	}
	b.lastKey, b.lastRule = key, i
	return i
}

// list is the place of a state's saved registers.
func (b *builder) list(s *state) saveList {
	k := b.scratch[:0]
	n := 0
	for i, r := range s.saves[:] {
		if s.set>>i&1 != 0 {
			k = append(k, byte(i), r.kind, 0, 0)
			k = binary.LittleEndian.AppendUint32(k, uint32(r.value))
			n++
		}
	}
	b.scratch = k
	l, ok := b.lists[string(k)]
	if !ok {
		if len(b.saves)+len(k) > maxBlob {
			b.full = true
			return saveList{}
		}
		l = saveList{uint32(len(b.saves) / saveSize), uint16(n)}
		b.saves = append(b.saves, k...)
		b.lists[string(k)] = l
	}
	return l
}

const maxExpression = 4096 // bytes; those of compilers and linkers have less than 20

// expression is the place of an expression: its length in two bytes, and its bytes.
func (b *builder) expression(e []byte) (int32, string) {
	if len(e) > maxExpression {
		return 0, "an expression is too long"
	}
	at, ok := b.exprs[string(e)]
	if !ok {
		if len(b.exprBytes)+2+len(e) > maxBlob {
			return 0, "the expressions are too long together"
		}
		at = int32(len(b.exprBytes))
		b.exprBytes = binary.LittleEndian.AppendUint16(b.exprBytes, uint16(len(e)))
		b.exprBytes = append(b.exprBytes, e...)
		b.exprs[string(e)] = at
	}
	return at, ""
}
