package unwind

import (
	"debug/elf"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An assembler of call-frame information, for what no compiler at hand writes.
type cfi struct {
	b       []byte
	isEH    bool
	is64    bool
	addr    uint64
	cieAt   int
	version byte
}

func (c *cfi) entry(id uint64, isCIE bool, body []byte) int {
	le := binary.LittleEndian
	at := len(c.b)
	width := 4
	if c.is64 && !c.isEH {
		width = 8
	}
	length := width + len(body)
	if c.is64 {
		c.b = le.AppendUint64(le.AppendUint32(c.b, 0xffffffff), uint64(length))
	} else {
		c.b = le.AppendUint32(c.b, uint32(length))
	}
	switch {
	case isCIE && c.isEH:
		id = 0
	case isCIE:
		id = 1<<64 - 1
	case c.isEH:
		id = uint64(len(c.b) - c.cieAt)
	default:
		id = uint64(c.cieAt)
	}
	if width == 8 {
		c.b = le.AppendUint64(c.b, id)
	} else {
		c.b = le.AppendUint32(c.b, uint32(id))
	}
	c.b = append(c.b, body...)
	return at
}

// cie appends a CIE: data is the augmentation data.
func (c *cfi) cie(augmentation string, data []byte, ra byte, program ...byte) {
	body := append([]byte{c.version}, augmentation...)
	body = append(body, 0)
	if c.version == 4 {
		body = append(body, 8, 0)
	}
	body = append(body, 1, 0x78, ra) // code 1, data -8
	if strings.HasPrefix(augmentation, "z") {
		body = append(append(body, byte(len(data))), data...)
	}
	c.cieAt = c.entry(0, true, append(body, program...))
}

// fde appends an FDE whose addresses are as encoded by its CIE.
func (c *cfi) fde(addresses []byte, program ...byte) {
	c.entry(0, false, append(slices.Clone(addresses), program...))
}

func words64(v ...uint64) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// amd64Start is what CIEs on amd64 begin with: the CFA is rsp+8, the return address below it.
var amd64Start = []byte{cfaDefCFA, 7, 8, cfaOffset | 16, 1}

// handMade is a table of a function at 0x1000 with 0x20 bytes.
func handMade(t testing.TB) *Table {
	t.Helper()
	c := cfi{version: 4}
	c.cie("", nil, 16, amd64Start...)
	c.fde(words64(0x1000, 0x20), cfaAdvance|1, cfaDefCFAOffset, 16, cfaOffset|6, 2, cfaAdvance|3, cfaDefCFARegister, 6,
		cfaAdvance|20, cfaDefCFAExpression, 3, 0x77, 8, opNop)
	return parsed(t, Sections{Machine: elf.EM_X86_64, DebugFrame: Section{Data: c.b}})
}

func parsed(t testing.TB, s Sections) *Table {
	t.Helper()
	table, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func describe(t *Table) string {
	var b strings.Builder
	for r := range t.Rows() {
		if b.Len() > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(strings.TrimSpace(strings.Join([]string{strconv.FormatUint(r.Addr, 16), r.Rule}, " ")))
	}
	return b.String()
}

func TestInstructions(t *testing.T) {
	at := words64(0x1000, 0x40)
	tests := []struct {
		name    string
		program []byte
		want    string // rows before that of the end, after "1000 "
		damage  string
	}{
		{"nothing", nil, "cfa=rsp+8 ra=c-8", ""},
		{"pushes", []byte{cfaAdvance | 2, cfaDefCFAOffset, 16, cfaOffset | 3, 2}, "cfa=rsp+8 ra=c-8 | 1002 cfa=rsp+16 rbx=c-16 ra=c-8", ""},
		{"advance in all sizes", []byte{
			cfaAdvance1, 4, cfaDefCFAOffset, 16, cfaAdvance2, 4, 0, cfaDefCFAOffset, 24, cfaAdvance4, 4, 0, 0, 0, cfaDefCFAOffset, 32,
			cfaSetLoc, 0x20, 0x10, 0, 0, 0, 0, 0, 0, cfaDefCFAOffset, 40,
		}, "cfa=rsp+8 ra=c-8 | 1004 cfa=rsp+16 ra=c-8 | 1008 cfa=rsp+24 ra=c-8 | 100c cfa=rsp+32 ra=c-8 | 1020 cfa=rsp+40 ra=c-8", ""},
		{"remember, restore", []byte{
			cfaOffset | 3, 2, cfaRememberState, cfaAdvance | 1, cfaDefCFA, 6, 32, cfaRestore | 3, cfaAdvance | 1, cfaRestoreState,
		}, "cfa=rsp+8 rbx=c-16 ra=c-8 | 1001 cfa=rbp+32 ra=c-8 | 1002 cfa=rsp+8 rbx=c-16 ra=c-8", ""},
		{"signed and factored", []byte{
			cfaDefCFASF, 6, 0x7e, cfaOffsetExtendedSF, 12, 0x7f, cfaValOffset, 13, 2, cfaValOffsetSF, 14, 0x7f, cfaGNUNegOffset, 15, 2,
			cfaAdvance | 1, cfaDefCFAOffsetSF, 0x7f,
		}, "cfa=rbp+16 r12=c+8 r13=v-16 r14=v+8 r15=c+16 ra=c-8 | 1001 cfa=rbp+8 r12=c+8 r13=v-16 r14=v+8 r15=c+16 ra=c-8", ""},
		{"registers", []byte{cfaRegister, 16, 2, cfaSameValue, 3, cfaUndefined, 12, cfaRestoreExtended, 13, cfaRegister, 14, 40},
			"cfa=rsp+8 rbx=s r12=u r14=u ra=rcx", ""},
		{"expressions", []byte{cfaDefCFAExpression, 2, 0x77, 8, cfaExpression, 3, 2, 0x77, 0, cfaValExpression, 12, 2, 0x77, 8},
			"cfa=exp rbx=exp r12=vexp ra=c-8", ""},
		{"root", []byte{cfaUndefined, 16}, "cfa=rsp+8 ra=u", ""},
		{"argument sizes", []byte{cfaGNUArgsSize, 16, cfaNop, cfaNegateRAState}, "cfa=rsp+8 ra=c-8", ""},
		{"vector registers", []byte{cfaOffsetExtended, 40, 3}, "cfa=rsp+8 ra=c-8", ""},
		{"behind the end", []byte{cfaAdvance1, 0x40, cfaDefCFAOffset, 16, 0x3f}, "cfa=rsp+8 ra=c-8", ""},
		{"unknown", []byte{cfaAdvance | 4, 0x3f}, "cfa=rsp+8 ra=c-8 | 1004", "an unknown instruction"},
		{"cut", []byte{cfaAdvance | 4, cfaDefCFA, 6}, "cfa=rsp+8 ra=c-8 | 1004", "an instruction ends too early"},
		{"backwards", []byte{cfaAdvance | 4, cfaSetLoc, 0, 0x10, 0, 0, 0, 0, 0, 0}, "cfa=rsp+8 ra=c-8 | 1004", "an address that goes backwards"},
		{"nothing remembered", []byte{cfaAdvance | 4, cfaRestoreState}, "cfa=rsp+8 ra=c-8 | 1004", "a state is restored that was not remembered"},
		{"remembered without end", slices.Repeat([]byte{cfaRememberState}, maxRemembered+1), "", "states are remembered too deep"},
		{"far", []byte{cfaAdvance | 4, cfaDefCFAOffset, 0x80, 0x80, 0x80, 0x80, 0x10}, "cfa=rsp+8 ra=c-8 | 1004", "a CFA beyond 2 GiB"},
		{"offset of an expression", []byte{cfaDefCFAExpression, 1, opLit0, cfaDefCFAOffset, 16}, "", "an offset for a CFA that has no register"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			a := cfi{version: 3}
			a.cie("", nil, 16, amd64Start...)
			a.fde(at, c.program...)
			table := parsed(t, Sections{Machine: elf.EM_X86_64, DebugFrame: Section{Data: a.b}})
			want := "1000 " + c.want
			if !strings.HasSuffix(c.want, " 1004") {
				want = strings.TrimSpace(want) + " | 1040"
			}
			if c.want == "" {
				want = ""
			}
			if got := describe(table); got != want {
				t.Errorf("rows %s\nwant %s", got, want)
			}
			if n, why := table.Damage(); (n > 0) != (c.damage != "") || why != c.damage {
				t.Errorf("damage %d, %q; want %q", n, why, c.damage)
			}
		})
	}
}

// All encodings of addresses lead to the same function, in 32-bit and 64-bit DWARF, in all
// versions.
func TestEncodings(t *testing.T) {
	const section, text, got = 0x2000, 0x1800, 0x2800
	const start, size = 0x1234, 0x10
	for _, is64 := range []bool{false, true} {
		for _, version := range []byte{1, 3, 4} {
			for _, format := range []byte{encodeAbsolute, encodeU2, encodeU4, encodeU8, encodeULEB, encodeS2, encodeS4, encodeS8, encodeSLEB} {
				for _, relative := range []byte{0, relativePC, relativeText, relativeData, aligned} {
					if relative == aligned && format != encodeAbsolute || relative != 0 && relative != aligned && (format == encodeULEB || format == encodeU2 || format == encodeU4) {
						continue // negative numbers have no unsigned form
					}
					c := cfi{isEH: true, is64: is64, version: version}
					c.cie("zPLRSB", append([]byte{indirect | relativePC | encodeS4, 1, 2, 3, 4, encodeU4}, format|relative), 16, amd64Start...)
					at := uint64(section + len(c.b) + 8)
					if is64 {
						at += 8
					}
					v := uint64(start)
					switch relative {
					case relativePC:
						v -= at
					case relativeText:
						v -= text
					case relativeData:
						v -= got
					}
					var address []byte
					if relative == aligned {
						for (at+uint64(len(address)))%8 != 0 {
							address = append(address, 0)
						}
					}
					address = appendEncoded(appendEncoded(address, format, v), format, size)
					c.fde(append(address, 0))
					table := parsed(t, Sections{
						Machine: elf.EM_X86_64, EHFrame: Section{section, c.b}, Text: text, Data: got,
						Code: []Range{{0x1000, 0x2000}},
					})
					if rows := describe(table); rows != "1234 cfa=rsp+8 ra=c-8 signal | 1244" {
						n, why := table.Damage()
						t.Errorf("64 bits %v, version %d, encoding %#x: rows %s; damage %d, %s", is64, version, format|relative, rows, n, why)
					}
				}
			}
		}
	}
}

func appendEncoded(b []byte, format byte, v uint64) []byte {
	le := binary.LittleEndian
	switch format {
	case encodeU2, encodeS2:
		return le.AppendUint16(b, uint16(v))
	case encodeU4, encodeS4:
		return le.AppendUint32(b, uint32(v))
	case encodeULEB:
		return binary.AppendUvarint(b, v)
	case encodeSLEB:
		for {
			x := byte(v & 0x7f)
			v = uint64(int64(v) >> 7)
			if v == 0 && x&0x40 == 0 || v == 1<<64-1 && x&0x40 != 0 {
				return append(b, x)
			}
			b = append(b, x|0x80)
		}
	}
	return le.AppendUint64(b, v)
}

// What is covered twice, dropped by the linker, or damaged does not disturb the rest.
func TestManyEntries(t *testing.T) {
	eh := cfi{isEH: true, version: 1}
	eh.cie("zR", []byte{encodeAbsolute}, 16, amd64Start...)
	entry := func(start, size uint64, program ...byte) {
		eh.fde(append(words64(start, size), 0), program...)
	}
	entry(0x3000, 0x100, cfaDefCFAOffset, 24)
	entry(0x1000, 0x100)
	entry(0x1080, 0x100, cfaDefCFAOffset, 16) // overlaps the last one
	entry(0x1000, 0x50, cfaDefCFAOffset, 99)  // again: the first holds
	entry(0, 0x100)                           // dropped by the linker
	entry(0x9000, 0x100)                      // not code
	entry(0xfffffffffffffff0, 0x100)          // goes round
	good := len(eh.b)
	eh.fde([]byte{1, 2}) // too short
	eh.b = append(eh.b, 0, 0, 0, 0)
	debug := cfi{version: 4}
	debug.cie("", nil, 16, amd64Start...)
	debug.fde(words64(0x1000, 0x100), cfaDefCFAOffset, 80) // covered
	debug.fde(words64(0x2f00, 0x200), cfaDefCFAOffset, 32) // half covered
	debug.fde(words64(0x5_0000_0000, 0x10))                // far
	table := parsed(t, Sections{
		Machine: elf.EM_X86_64, EHFrame: Section{0x8000, eh.b}, DebugFrame: Section{0, debug.b},
		Code: []Range{{0x1000, 0x4000}, {0x5_0000_0000, 0x5_0000_1000}},
	})
	const want = "1000 cfa=rsp+8 ra=c-8 | 1080 cfa=rsp+16 ra=c-8 | 1180 | 2f00 cfa=rsp+32 ra=c-8 | 3000 cfa=rsp+24 ra=c-8 | 3100 | " +
		"500000000 cfa=rsp+8 ra=c-8 | 500000010"
	if got := describe(table); got != want {
		t.Errorf("rows %s\nwant %s", got, want)
	}
	if n, _ := table.Damage(); n != 2 {
		t.Errorf("%d entries damaged, want 2", n)
	}
	if len(table.regions) != 2 || !table.Covers(0x5_0000_0004) || table.Covers(0x4_0000_0000) || table.Covers(0x5_0000_0010) {
		t.Errorf("%d regions", len(table.regions))
	}
	// An entry that claims to be longer than the section ends the reading.
	cut := parsed(t, Sections{Machine: elf.EM_X86_64, EHFrame: Section{0x8000, append(slices.Clone(eh.b[:good]), 0xff, 0xff, 0, 0)}})
	if n, _ := cut.Damage(); n == 0 || !cut.Covers(0x1000) {
		t.Errorf("%d entries damaged, rows %s", n, describe(cut))
	}
}

// A list that names one long entry at many places inside of it is not read in full.
func TestOverlappingEntries(t *testing.T) {
	le := binary.LittleEndian
	const n = 1 << 16
	var b, hdr []byte
	c := cfi{isEH: true, version: 1}
	c.cie("", nil, 16, amd64Start...)
	b = c.b
	hdr = le.AppendUint32([]byte{1, encodeU4, encodeU4, encodeU4, 0, 0, 0, 0}, n)
	for i := range n { // each begins an entry that goes up to the end
		at := len(b)
		hdr = le.AppendUint32(le.AppendUint32(hdr, uint32(i)), uint32(at))
		b = le.AppendUint32(b, uint32(32*(n-i)-4))
		b = le.AppendUint32(b, uint32(at+4))
		b = append(b, words64(uint64(0x1000+i), 1, 0)...)
	}
	table := parsed(t, Sections{Machine: elf.EM_X86_64, EHFrame: Section{0, b}, EHFrameHdr: Section{0, hdr}, Loose: true})
	if d, why := table.Damage(); d == 0 || why != "entries overlap" || table.Len() > 100 {
		t.Errorf("%d rows; damage %d, %s", table.Len(), d, why)
	}
}

func FuzzParse(f *testing.F) {
	eh := cfi{isEH: true, version: 1}
	eh.cie("zPLR", []byte{encodeU4, 1, 2, 3, 4, 0, relativePC | encodeS4}, 16, amd64Start...)
	eh.fde(append([]byte{0, 0xf0, 0xff, 0xff, 0x40, 0, 0, 0}, 0), cfaAdvance|1, cfaDefCFAOffset, 16, cfaRememberState, cfaAdvance|2, cfaRestoreState)
	f.Add(eh.b, []byte{1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xf0, 0xff, 0xff, 0x20, 0, 0, 0}, true)
	debug := cfi{version: 4, is64: true}
	debug.cie("", nil, 16, amd64Start...)
	debug.fde(words64(0x1000, 0x40), cfaAdvance|1, cfaDefCFAExpression, 3, 0x77, 8, opNop, cfaValExpression, 3, 1, opLit0)
	f.Add(debug.b, []byte{}, false)
	f.Fuzz(func(t *testing.T, b, hdr []byte, loose bool) {
		for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			table, err := Parse(Sections{Machine: m, EHFrame: Section{0x2000, b}, EHFrameHdr: Section{0x3000, hdr}, DebugFrame: Section{0, b}, Loose: loose})
			if (table == nil) == (err == nil) {
				t.Fatalf("table %v and error %v", table, err)
			}
			if err != nil {
				return
			}
			if table.Len() > 4*len(b)+4 {
				t.Errorf("%d rows of %d bytes", table.Len(), len(b))
			}
			last, first := uint64(0), true
			for r := range table.Rows() {
				if !first && r.Addr <= last {
					t.Fatalf("row at %#x behind %#x", r.Addr, last)
				}
				last, first = r.Addr, false
				if table.Describe(r.Addr) != r.Rule {
					t.Fatalf("%#x: %q is found, %q is there", r.Addr, table.Describe(r.Addr), r.Rule)
				}
			}
			again, err := decodeFile(encodeFile(table, "k"), "k")
			if err != nil || string(again.data) != string(table.data) {
				t.Fatalf("stored and opened: %v", err)
			}
		}
	})
}
