package sourcemap

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A symtabTable names addresses by the ELF symbol tables: functions, without files and lines.
//
// Symbols become spans that do not overlap, so an address is found by one binary search. Names are
// cut from the string tables only when asked for.
type symtabTable struct {
	spans []span
	mu    sync.Mutex              // guards known: any goroutine may ask
	known map[int32]profile.Frame // by symbol
	syms  []symbol
}

// A span is the addresses [start, end) that a symbol names.
type span struct {
	start, end uint64
	sym        int32 // into syms
}

// A symbol is one function of a symbol table.
type symbol struct {
	addr, size uint64
	names      []byte // the string table
	name       uint32 // offset in names
	rank       uint8  // of two at one address, the higher one names it
	loose      bool   // not a function by its type: names only what no function covers
	label      bool   // loose and local: ends no function before it that has no size
	plt        bool   // a procedure linkage table's slot: the name gets the suffix @plt
	literal    string // the name itself, where there is no string table
}

const (
	rankLocal = iota + 1
	rankWeak
	rankGlobal
)

// parseSymtab reads .symtab and .dynsym of a binary and of files with symbols that were stripped from
// it. The error is errNoTable where there are no symbols and no entry point to name.
func parseSymtab(files ...*elf.File) (*symtabTable, error) {
	var syms []symbol
	var failure error
	for _, f := range files {
		for _, s := range f.Sections {
			if s.Type != elf.SHT_SYMTAB && s.Type != elf.SHT_DYNSYM {
				continue
			}
			if s.Type == elf.SHT_DYNSYM && f != files[0] {
				continue // without content, or once more
			}
			var err error
			if syms, err = appendSymbols(syms, f, s); err != nil {
				failure = errors.Join(failure, err)
			}
		}
	}
	f := files[0]
	syms = appendPLT(syms, f)
	t := &symtabTable{syms: syms, known: map[int32]profile.Frame{}}
	t.spans = spansOf(f, syms)
	t.nameEntry(f)
	if len(t.spans) == 0 {
		if failure != nil {
			return nil, failure
		}
		return nil, errNoTable
	}
	return t, nil
}

// frames implements table.
func (t *symtabTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	id, ok := t.find(addr)
	if !ok {
		return buf, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	frame, ok := t.known[id]
	if !ok {
		s := &t.syms[id]
		name := s.spelling()
		frame = profile.Frame{Func: Demangle(name), Entry: isEntry(name)}
		if s.plt {
			frame.Func += "@plt"
			frame.Entry = false
		}
		t.known[id] = frame
	}
	return append(buf, frame), true
}

// find is the symbol that names an address.
func (t *symtabTable) find(addr uint64) (int32, bool) {
	i, ok := slices.BinarySearchFunc(t.spans, addr, func(s span, addr uint64) int {
		return cmp.Compare(s.start, addr)
	})
	if !ok {
		i--
	}
	if i < 0 || addr >= t.spans[i].end {
		return 0, false
	}
	return t.spans[i].sym, true
}

// beginsAt is the name, as it stands in the table, of the symbol that names an address and begins
// there; "" for none.
func (t *symtabTable) beginsAt(addr uint64) string {
	id, ok := t.find(addr)
	if !ok || t.syms[id].addr != addr {
		return ""
	}
	return t.syms[id].spelling()
}

// spelling is the symbol's name as the table has it, without the version that static symbol tables
// append to names of shared libraries ("memcpy@@GLIBC_2.14").
func (s *symbol) spelling() string {
	if s.literal != "" {
		return s.literal
	}
	name := cstring(s.names, uint64(s.name))
	if i := strings.IndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	return name
}

// cstring is the NUL-terminated string at offset off of a string table, "" outside it.
func cstring(table []byte, off uint64) string {
	if off >= uint64(len(table)) {
		return ""
	}
	b := table[off:]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// appendSymbols appends a table's functions, in no order. Layouts of Elf32_Sym and Elf64_Sym: the
// generic ABI, chapter 4, "Symbol Table".
func appendSymbols(syms []symbol, f *elf.File, section *elf.Section) ([]symbol, error) {
	data, err := sectionData(section)
	if err != nil {
		return syms, err
	}
	if int(section.Link) >= len(f.Sections) {
		return syms, fmt.Errorf("read symbols of %s: its string table is section %d of %d; the file is damaged",
			section.Name, section.Link, len(f.Sections))
	}
	names, err := sectionData(f.Sections[section.Link])
	if err != nil {
		return syms, err
	}
	size := 24
	if f.Class == elf.ELFCLASS32 {
		size = 16
	}
	code := make([]bool, len(f.Sections))
	for i, s := range f.Sections {
		code[i] = s.Flags&elf.SHF_EXECINSTR != 0
	}
	syms = slices.Grow(syms, len(data)/size/2)
	order := f.ByteOrder
	for ; len(data) >= size; data = data[size:] {
		var s symbol
		var info, other byte
		var index uint16
		s.name = order.Uint32(data)
		if size == 24 {
			info, other, index = data[4], data[5], order.Uint16(data[6:])
			s.addr, s.size = order.Uint64(data[8:]), order.Uint64(data[16:])
		} else {
			s.addr, s.size = uint64(order.Uint32(data[4:])), uint64(order.Uint32(data[8:]))
			info, other, index = data[12], data[13], order.Uint16(data[14:])
		}
		if index == uint16(elf.SHN_UNDEF) || uint64(s.name) >= uint64(len(names)) || names[s.name] == 0 {
			continue
		}
		inCode := index >= uint16(elf.SHN_LORESERVE) || int(index) < len(code) && code[index]
		switch elf.ST_TYPE(info) {
		case elf.STT_FUNC, elf.STT_GNU_IFUNC:
		case elf.STT_NOTYPE:
			// Hand-written assembly often gives its functions no type.
			if s.loose = true; !inCode || index >= uint16(elf.SHN_LORESERVE) || isLabel(names[s.name:]) {
				continue
			}
		default:
			continue
		}
		if f.Machine == elf.EM_ARM {
			s.addr &^= 1 // the lowest bit says that it is Thumb code
		}
		switch elf.ST_BIND(info) {
		case elf.STB_GLOBAL:
			s.rank = rankGlobal
		case elf.STB_WEAK:
			s.rank = rankWeak
		default:
			s.rank = rankLocal
		}
		if v := elf.ST_VISIBILITY(other); v == elf.STV_HIDDEN || v == elf.STV_INTERNAL {
			s.rank = rankLocal
		}
		s.label = s.loose && s.rank == rankLocal
		s.names = names
		syms = append(syms, s)
	}
	return syms, nil
}

// isLabel tells names of no function: mapping symbols of ARM, AArch64 and RISC-V, which mark where
// code and data begin ("$x", "$d.7"), and the assembler's local labels.
func isLabel(name []byte) bool {
	return name[0] == '$' || name[0] == '.'
}

// maxSection bounds what is read of one section into memory.
const maxSection = 2 << 30

// sectionData is a section's content, uncompressed.
func sectionData(s *elf.Section) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS {
		return nil, fmt.Errorf("read section %s: it has no content in this file, only in the one it was split from", s.Name)
	}
	r := s.Open() // sets the size of a section compressed in GNU's older form
	if s.Size > maxSection {
		return nil, fmt.Errorf("read section %s: it says it has %d bytes, more than the %d that are read", s.Name, s.Size, maxSection)
	}
	var data bytes.Buffer
	// A size that lies is noticed before all its memory is used.
	data.Grow(int(min(s.Size, 16<<20)) + bytes.MinRead)
	_, err := data.ReadFrom(io.LimitReader(r, int64(s.Size)))
	if err == nil && uint64(data.Len()) < s.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read section %s: %w; the file is cut short or damaged", s.Name, err)
	}
	return data.Bytes(), nil
}

// spansOf turns symbols into spans. Where functions overlap, the one that begins last names the
// address, up to its end. A symbol of size 0 reaches to the next symbol or the section's end.
func spansOf(f *elf.File, syms []symbol) []span {
	order := make([]int32, 0, len(syms))
	for i := range syms {
		order = append(order, int32(i))
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(syms[x].addr, syms[y].addr) })
	// One symbol for each address: the best named, with the size of the longest.
	n := 0
	for i := 0; i < len(order); {
		best, j := order[i], i+1
		size := syms[best].size
		for ; j < len(order) && syms[order[j]].addr == syms[best].addr; j++ {
			if size = max(size, syms[order[j]].size); syms[order[j]].compare(&syms[best]) < 0 {
				best = order[j]
			}
		}
		syms[best].size = size
		order[n] = best
		n++
		i = j
	}
	order = order[:n]

	// Where a symbol ends that does not say so itself. A label does not end a function.
	code := codeEnds(f)
	limits := make([]uint64, len(order))
	next, nextFirm := uint64(math.MaxUint64), uint64(math.MaxUint64)
	for i, id := range slices.Backward(order) {
		s := &syms[id]
		limits[i] = code.after(s.addr)
		if s.label {
			limits[i] = min(limits[i], next)
		} else {
			limits[i] = min(limits[i], nextFirm)
			nextFirm = s.addr
		}
		next = s.addr
	}

	spans := make([]span, 0, len(order))
	var open []span // functions around the present address, outermost first
	var at uint64   // everything below is in spans
	emit := func(to uint64) {
		for len(open) > 0 && at < to {
			top := open[len(open)-1]
			if end := min(top.end, to); at < end {
				spans = append(spans, span{at, end, top.sym})
				at = end
			}
			if top.end > at {
				return
			}
			open = open[:len(open)-1]
		}
	}
	for i, id := range order {
		s := &syms[id]
		emit(s.addr)
		at = max(at, s.addr)
		for len(open) > 0 && open[len(open)-1].end <= at {
			open = open[:len(open)-1]
		}
		end := s.addr + s.size
		switch {
		case s.size == 0 && len(open) > 0 || s.loose && len(open) > 0:
			continue // a label inside a function
		case s.size == 0:
			end = limits[i]
		case end < s.addr:
			end = math.MaxUint64
		}
		if end > s.addr {
			open = append(open, span{s.addr, end, id})
		}
	}
	emit(math.MaxUint64)
	return spans
}

// compare orders symbols of one address by how well they name it, the best first: functions before
// untyped labels, global before weak before local, then with fewer leading underscores, then the
// shorter, then by name so that the choice is always the same.
func (s *symbol) compare(t *symbol) int {
	if s.loose != t.loose {
		if t.loose {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(t.rank, s.rank); c != 0 {
		return c
	}
	return compareNames(s.spelling(), t.spelling())
}

func compareNames(a, b string) int {
	return cmp.Or(
		// A mangled name's underscore is the ABI's, not noise.
		cmp.Compare(underscores(a), underscores(b)),
		cmp.Compare(len(a), len(b)),
		cmp.Compare(a, b),
	)
}

func underscores(name string) int {
	if isMangled(name) {
		return 0
	}
	return len(name) - len(strings.TrimLeft(name, "_"))
}

// ranges are address ranges in ascending order.
type ranges [][2]uint64

// codeEnds are the executable sections of a binary, or its executable segments where it has no
// section headers.
func codeEnds(f *elf.File) ranges {
	var r ranges
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 && s.Flags&elf.SHF_ALLOC != 0 && s.Addr+s.Size > s.Addr {
			r = append(r, [2]uint64{s.Addr, s.Addr + s.Size})
		}
	}
	if len(r) == 0 {
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Vaddr+p.Memsz > p.Vaddr {
				r = append(r, [2]uint64{p.Vaddr, p.Vaddr + p.Memsz})
			}
		}
	}
	slices.SortFunc(r, func(a, b [2]uint64) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return r
}

// after is the end of the range that holds addr, or addr.
func (r ranges) after(addr uint64) uint64 {
	i, ok := slices.BinarySearchFunc(r, addr, func(x [2]uint64, addr uint64) int { return cmp.Compare(x[0], addr) })
	if !ok {
		i--
	}
	if i < 0 || addr >= r[i][1] {
		return addr
	}
	return r[i][1]
}

// holds says whether addr lies in a range.
func (r ranges) holds(addr uint64) bool { return r.after(addr) > addr }

// entrySize is how far from e_entry a program without a symbol there is taken to be in _start: it is
// a few instructions that call __libc_start_main (sysdeps/*/start.S of the GNU C library, 34 bytes on
// x86-64, 52 on AArch64).
const entrySize = 64

// nameEntry names the entry point of a program _start where no symbol covers it: a stack that
// reaches it is whole, and without the name would look broken.
func (t *symtabTable) nameEntry(f *elf.File) {
	code := codeEnds(f)
	if f.Entry == 0 || !code.holds(f.Entry) {
		return
	}
	i, _ := slices.BinarySearchFunc(t.spans, f.Entry, func(s span, addr uint64) int {
		if s.end <= addr {
			return -1
		}
		return 1
	})
	end := min(f.Entry+entrySize, code.after(f.Entry))
	if i < len(t.spans) {
		if t.spans[i].start <= f.Entry {
			return
		}
		end = min(end, t.spans[i].start)
	}
	t.syms = append(t.syms, symbol{addr: f.Entry, size: end - f.Entry, literal: "_start"})
	t.spans = slices.Insert(t.spans, i, span{f.Entry, end, int32(len(t.syms) - 1)})
}

// appendPLT appends the slots of the procedure linkage table, through which a program calls shared
// libraries; their samples belong to the call, and without a name would be unknown. Only x86-64 is
// known: there each slot jumps through its entry of the global offset table ("jmp *rel(%rip)",
// ff 25), and a relocation names the function that the entry holds, or the resolver that chooses it.
func appendPLT(syms []symbol, f *elf.File) []symbol {
	if f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian {
		return syms
	}
	le := binary.LittleEndian
	entries := pltTargets(syms, f)
	if len(entries) == 0 {
		return syms
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_PROGBITS || !strings.HasPrefix(s.Name, ".plt") {
			continue
		}
		size := uint64(16)
		if s.Name == ".plt.got" && s.Entsize == 8 {
			size = 8
		}
		data, err := sectionData(s)
		if err != nil {
			continue
		}
		for at := uint64(0); at+size <= uint64(len(data)); at += size {
			slot := data[at : at+size]
			for i := 0; i+6 <= len(slot) && i < 6; i++ { // after an endbr64 and a bnd prefix
				if slot[i] != 0xff || slot[i+1] != 0x25 {
					continue
				}
				next := s.Addr + at + uint64(i) + 6
				if target, ok := entries[next+uint64(int64(int32(le.Uint32(slot[i+2:]))))]; ok {
					target.addr, target.size, target.rank, target.plt = s.Addr+at, size, rankLocal, true
					target.loose, target.label = false, false
					syms = append(syms, target)
				}
				break
			}
		}
	}
	return syms
}

// pltTargets are the functions that the entries of the global offset table hold, by the entry's
// address.
func pltTargets(syms []symbol, f *elf.File) map[uint64]symbol {
	le := binary.LittleEndian
	targets := map[uint64]symbol{}
	resolvers := map[uint64][]uint64{} // address of a resolver → entries
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		data, err := sectionData(s)
		if err != nil {
			continue
		}
		var dynsym, dynstr []byte
		if int(s.Link) < len(f.Sections) && f.Sections[s.Link].Type == elf.SHT_DYNSYM {
			section := f.Sections[s.Link]
			if int(section.Link) < len(f.Sections) {
				// Without the two, entries have no names.
				dynsym, _ = sectionData(section)
				dynstr, _ = sectionData(f.Sections[section.Link])
			}
		}
		for ; len(data) >= 24; data = data[24:] { // Elf64_Rela: offset, info, addend
			entry, info := le.Uint64(data), le.Uint64(data[8:])
			switch elf.R_X86_64(info & 0xffffffff) {
			case elf.R_X86_64_JMP_SLOT, elf.R_X86_64_GLOB_DAT:
				if at := info >> 32 * 24; at+24 <= uint64(len(dynsym)) {
					targets[entry] = symbol{names: dynstr, name: le.Uint32(dynsym[at:])}
				}
			case elf.R_X86_64_IRELATIVE:
				resolver := le.Uint64(data[16:])
				resolvers[resolver] = append(resolvers[resolver], entry)
			}
		}
	}
	if len(resolvers) > 0 { // symbols of type STT_GNU_IFUNC have their resolver's address
		for i := range syms {
			s := &syms[i]
			for _, entry := range resolvers[s.addr] {
				if known, ok := targets[entry]; !ok || s.compare(&known) < 0 {
					targets[entry] = *s
				}
			}
		}
	}
	return targets
}
