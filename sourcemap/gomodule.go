package sourcemap

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

// A goCode is what the Go linker writes about a binary's Go code, as far as naming addresses
// needs it. All addresses are file addresses.
//
// Two records hold it. The pcHeader (runtime/symtab.go, cmd/link/internal/ld/pcln.go) begins the
// table that is called pclntab; p is the size of a pointer:
//
//	0     magic   0xfffffff0 since Go 1.18, 0xfffffff1 since Go 1.20
//	4     0, 0, quantum (the smallest step of an instruction address), p
//	8     nfunc
//	8+p   nfiles
//	8+2p  text start; unused since Go 1.26, which so needs no relocation in read-only data
//	8+3p  distance from the header to funcnametab
//	8+4p  … to cutab
//	8+5p  … to filetab
//	8+6p  … to pctab
//	8+7p  … to the functab, whose entries point to _func records behind it
//
// The runtime's moduledata, in writable data (.go.module since Go 1.26), points to all of that, and
// alone knows where the inline trees are. In words:
//
//	0      the address of the pcHeader
//	1…18   the six tables as slices
//	19     findfunctab
//	20 21  minpc, maxpc
//	22 23  text, etext
//	24…31  the bounds of noptrdata, data, bss and noptrbss
//	32 33  the bounds of the coverage counters, since Go 1.20
//	then   end, gcdata, gcbss, types, etypes, rodata, gofunc
//
// The words are as read from the sources of Go 1.18 to 1.26: within a magic their order has not
// changed, and Go 1.26 put its new field behind gofunc.
type goCode struct {
	im      *image
	magic   uint32
	header  uint64 // address of the pcHeader
	quantum uint64
	nfunc   uint64
	text    uint64 // what function offsets count from
	etext   uint64 // where Go's code ends, exclusive
	// Where the tables begin, and their sizes as far as they are known from what follows them.
	names, cus, files, pcs, funcs          uint64
	namesSize, cusSize, filesSize, pcsSize uint64
	wrapper                                byte   // the funcID of functions made only to call another
	inline                                 uint64 // what offsets of inline trees count from; 0 when it was not found
}

const (
	magic118 = 0xfffffff0
	magic120 = 0xfffffff1
)

// moduledataWords is how many words of the moduledata are read: those up to gofunc.
const moduledataWords = 41

// errNoInline says that a binary's Go functions can be named, but not what was inlined in them.
var errNoInline = errors.New("the inlined calls of its Go code were not found: only outer functions are named")

// findWrapper learns which funcID marks wrappers. It is the last of the numbers in every release so
// far (internal/abi/symtab.go), but has risen from 21 (Go 1.20) over 22 (1.22) to 23 (1.25), and the
// tables do not tell the release. So it is the largest that occurs among the first functions, which
// in a program are those of the runtime, where there are functions with each of the numbers; in a
// plugin, which is without the runtime, there is no other number than it.
func (m *goCode) findWrapper() {
	size := uint64(10)
	if m.magic == magic118 {
		size = 9
	}
	m.wrapper = 1 // no wrapper has it
	for i := range min(m.nfunc, 4096) {
		at, _ := m.funcAt(i)
		var id [1]byte
		if m.im.read(at+4*size, id[:]) && id[0] < 64 {
			m.wrapper = max(m.wrapper, id[0])
		}
	}
}

// findGoCode looks for the tables in f: by the name of the section, or else, where the linker
// merged it into another or somebody took the names away, by how the pcHeader begins. It fails with
// errNoTable where the binary is not Go's.
//
// Without moduledata the module is returned with errNoInline.
func findGoCode(im *image, f *elf.File) (*goCode, error) {
	var damage error
	for _, s := range f.Sections {
		if s.Name == ".gopclntab" || s.Name == ".data.rel.ro.gopclntab" {
			m, err := parseGoHeader(im, s.Addr)
			if err == nil {
				return m, m.findModuledata(f)
			}
			damage = fmt.Errorf("section %s: %w", s.Name, err)
		}
	}
	if damage == nil && !maybeGo(im, f) {
		return nil, errNoTable
	}
	var m *goCode
	var noInline error
	for _, magic := range []uint32{magic120, magic118} {
		pattern := im.order.AppendUint32(nil, magic)
		pattern = append(pattern, 0, 0)
		// Read-only data first: there it is in binaries with a fixed address.
		for _, flags := range []elf.ProgFlag{elf.PF_R, elf.PF_R | elf.PF_W, elf.PF_R | elf.PF_X} {
			im.search(flags, elf.PF_R|elf.PF_W|elf.PF_X, pattern, im.ptr, func(addr uint64) bool {
				candidate, err := parseGoHeader(im, addr)
				if err != nil {
					return false
				}
				err = candidate.findModuledata(f)
				if m == nil || err == nil {
					m, noInline = candidate, err
				}
				return err == nil
			})
			if m != nil {
				return m, noInline
			}
		}
	}
	if damage != nil {
		return nil, damage
	}
	return nil, errNoTable
}

// maybeGo tells whether a search through the whole file is worth while. Where there are no section
// names there is no telling.
func maybeGo(im *image, f *elf.File) bool {
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".go.") || strings.HasPrefix(s.Name, ".note.go.") {
			return true
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<16 {
			continue
		}
		// The note of the Go build ID has the name "Go" and type 4: cmd/link/internal/ld/elf.go.
		note := make([]byte, p.Filesz)
		n, _ := p.ReadAt(note, 0)
		head := append(im.order.AppendUint32(nil, 4), "Go\x00\x00"...)
		if bytes.Contains(note[:max(n, 0)], head) {
			return true
		}
	}
	return len(f.Sections) <= 1
}

// parseGoHeader reads the pcHeader at addr and proves it by the first function it leads to.
func parseGoHeader(im *image, addr uint64) (*goCode, error) {
	b := make([]byte, 8+8*im.ptr)
	if !im.read(addr, b) {
		return nil, fmt.Errorf("truncated: the header at %#x lies beyond the file's bytes", addr)
	}
	m := &goCode{im: im, magic: im.order.Uint32(b), header: addr, quantum: uint64(b[6])}
	switch m.magic {
	case magic118, magic120:
	case 0xfffffffa, 0xfffffffb:
		return nil, fmt.Errorf("its Go tables are those of Go 1.17 or older (magic %#x); build it with Go 1.20 or later", m.magic)
	default:
		return nil, fmt.Errorf("its Go tables begin with %#x, which no Go release up to 1.26 writes", m.magic)
	}
	if b[4] != 0 || b[5] != 0 || (m.quantum != 1 && m.quantum != 2 && m.quantum != 4) || uint64(b[7]) != im.ptr {
		return nil, fmt.Errorf("corrupt: the header at %#x holds % x", addr, b[:8])
	}
	word := func(i uint64) uint64 {
		if im.ptr == 4 {
			return uint64(im.order.Uint32(b[8+4*i:]))
		}
		return im.order.Uint64(b[8+8*i:])
	}
	m.nfunc, m.text = word(0), word(2)
	names, cus, files, pcs, funcs := word(3), word(4), word(5), word(6), word(7)
	// The linker lays the tables out in this order: (*pclntab).generatePCHeader.
	if names < uint64(len(b)) || cus < names || files < cus || pcs < files || funcs < pcs || funcs > 1<<40 || m.nfunc == 0 || m.nfunc > 1<<28 {
		return nil, fmt.Errorf("corrupt: the tables of the header at %#x are out of order", addr)
	}
	m.names, m.cus, m.files, m.pcs, m.funcs = addr+names, addr+cus, addr+files, addr+pcs, addr+funcs
	m.namesSize, m.cusSize, m.filesSize, m.pcsSize = cus-names, files-cus, pcs-files, funcs-pcs
	if im.bytes(m.funcs+8*m.nfunc+3) == nil {
		return nil, fmt.Errorf("truncated: the table of %d functions at %#x lies beyond the file's bytes", m.nfunc, m.funcs)
	}
	end, _ := im.u32(m.funcs + 8*m.nfunc)
	m.etext = m.text + uint64(end)
	first, _ := m.funcAt(0)
	if off, ok := im.u32(first); !ok || off != m.entryOf(0) {
		return nil, fmt.Errorf("corrupt: the first function of the table at %#x does not know its own address", m.funcs)
	}
	return m, nil
}

// entryOf is the distance from text to function i, or to the end of the last one.
func (m *goCode) entryOf(i uint64) uint32 {
	off, _ := m.im.u32(m.funcs + 8*i)
	return off
}

// funcAt is the address of function i's _func record.
func (m *goCode) funcAt(i uint64) (uint64, bool) {
	off, ok := m.im.u32(m.funcs + 8*i + 4)
	return m.funcs + uint64(off), ok
}

// findModuledata looks for the moduledata that points to the header, and takes the text bounds and
// the base of inline trees from it. It fails with errNoInline, and then m can only name outer
// functions, or not even those where the header does not hold the text start: m.etext is then 0.
func (m *goCode) findModuledata(f *elf.File) error {
	im := m.im
	pattern := im.order.AppendUint32(nil, uint32(m.header))
	if im.ptr == 8 {
		pattern = im.order.AppendUint64(nil, m.header)
	}
	plain := func(addr uint64) bool { return m.takeModuledata(addr, nil) }
	if s := f.Section(".go.module"); s != nil && plain(s.Addr) {
		return nil
	}
	if im.search(elf.PF_W, elf.PF_W, pattern, im.ptr, plain) {
		return nil
	}
	// In a binary without a fixed address the words may be blank until the dynamic linker puts
	// them in.
	var candidates []uint64
	im.relocations(f, func(addr, value uint64) {
		if value == m.header && len(candidates) < 16 {
			candidates = append(candidates, addr)
		}
	})
	for _, at := range candidates {
		fixes := map[uint64]uint64{}
		im.relocations(f, func(addr, value uint64) {
			if addr-at < moduledataWords*im.ptr {
				fixes[addr] = value
			}
		})
		if m.takeModuledata(at, fixes) {
			return nil
		}
	}
	if m.text == 0 {
		m.etext = 0
	}
	return errNoInline
}

// takeModuledata tries addr as that of the moduledata. fixes are the relocated words; nil for none.
func (m *goCode) takeModuledata(addr uint64, fixes map[uint64]uint64) bool {
	im := m.im
	word := func(i uint64) uint64 {
		if v, ok := fixes[addr+i*im.ptr]; ok {
			return v
		}
		v, _ := im.word(addr + i*im.ptr)
		return v
	}
	// Words 1 to 18 are the tables the header has told of, in the same order; the functab counts
	// its end as an entry.
	for i, table := range []uint64{m.names, m.cus, m.files, m.pcs, m.funcs, m.funcs} {
		if word(1+3*uint64(i)) != table {
			return false
		}
	}
	gofunc := uint64(40)
	if m.magic == magic118 {
		gofunc = 38
	}
	text, etext, inline := word(22), word(23), word(gofunc)
	minpc, maxpc := word(20), word(21)
	if word(0) != m.header || word(17) != m.nfunc+1 || etext < text || minpc < text || maxpc > etext || maxpc < minpc {
		return false
	}
	if im.bytes(inline) == nil {
		return false
	}
	m.text, m.etext, m.inline = text, etext, inline
	return true
}

// relocations calls yield with the words of data that the dynamic linker sets to addresses of the
// binary itself: where the word is and the file address it gets. Relocations without an addend are
// not among them: there the value is in place already. What is damaged is passed over.
func (im *image) relocations(f *elf.File, yield func(addr, value uint64)) {
	relative, ok := relativeRelocation[f.Machine]
	if !ok || im.ptr != 8 {
		return
	}
	var table, size uint64
	for _, p := range f.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		for i := uint64(0); i < p.Filesz/16; i++ {
			tag, _ := im.word(p.Vaddr + 16*i)
			value, ok := im.word(p.Vaddr + 16*i + 8)
			if !ok || elf.DynTag(tag) == elf.DT_NULL {
				break
			}
			switch elf.DynTag(tag) {
			case elf.DT_RELA:
				table = value
			case elf.DT_RELASZ:
				size = value
			}
		}
	}
	const entry = 24 // Elf64_Rela: offset, type and symbol, addend
	buf := make([]byte, entry<<12)
	for size >= entry {
		b := buf[:min(uint64(len(buf)), size/entry*entry)]
		n := im.fill(table, b) / entry * entry
		for b = b[:n]; len(b) > 0; b = b[entry:] {
			if uint32(im.order.Uint64(b[8:])) == relative {
				yield(im.order.Uint64(b), im.order.Uint64(b[16:]))
			}
		}
		if n == 0 {
			return
		}
		table, size = table+uint64(n), size-uint64(n)
	}
}

// relativeRelocation is the type of relocation that adds the load bias, on the machines of 64 bits
// that use relocations with addends (their ELF psABIs).
var relativeRelocation = map[elf.Machine]uint32{
	elf.EM_X86_64:    uint32(elf.R_X86_64_RELATIVE),
	elf.EM_AARCH64:   uint32(elf.R_AARCH64_RELATIVE),
	elf.EM_RISCV:     uint32(elf.R_RISCV_RELATIVE),
	elf.EM_LOONGARCH: uint32(elf.R_LARCH_RELATIVE),
	elf.EM_PPC64:     uint32(elf.R_PPC64_RELATIVE),
	elf.EM_S390:      12, // R_390_RELATIVE
}
