package goruntime

import (
	"debug/elf"
	"encoding/binary"
	"sort"
	"strings"
)

// A module is what the linker says of a part of the program (runtime.moduledata): the program itself,
// or a plugin. All are runtime addresses.
type module struct {
	names, cus, files, pcs, funcs table // of pclntab, see below
	nfunc                         uint64
	text, etext                   uint64
	data, edata, dataMask         uint64 // initialized variables with pointers, and which words are
	bss, ebss, bssMask            uint64
	types, etypes                 uint64 // descriptors of types
	gofunc                        uint64 // what inline trees count from
	wrapper                       byte   // the funcID of functions that the compiler made only to call another
}

type table struct{ start, size uint64 }

const maxModules = 1024

// A slice's words, as the tables of a moduledata are.
func (r *Runtime) table(at uint64, name string) table {
	f, ok := r.layout[name]
	if !ok {
		return table{}
	}
	data, ok1 := r.mem.uint(at+f.Offset, 8)
	n, ok2 := r.mem.uint(at+f.Offset+8, 8)
	if !ok1 || !ok2 || n > 1<<32 {
		return table{}
	}
	return table{data, n}
}

// modules reads the program's modules.
func (r *Runtime) modules() []module {
	first := r.symbols["runtime.firstmoduledata"]
	if first == 0 {
		first = r.searchModule()
	}
	var all []module
	seen := map[uint64]bool{}
	for at := first; at != 0 && at%8 == 0 && !seen[at] && len(all) < maxModules; at = r.pointer(at, "moduledata.next") {
		seen[at] = true
		m := module{
			names: r.table(at, "moduledata.funcnametab"), cus: r.table(at, "moduledata.cutab"), files: r.table(at, "moduledata.filetab"),
			pcs: r.table(at, "moduledata.pctab"), funcs: r.table(at, "moduledata.pclntable"),
			text: r.pointer(at, "moduledata.text"), etext: r.pointer(at, "moduledata.etext"),
			data: r.pointer(at, "moduledata.data"), edata: r.pointer(at, "moduledata.edata"), dataMask: r.pointer(at, "moduledata.gcdatamask.bytedata"),
			bss: r.pointer(at, "moduledata.bss"), ebss: r.pointer(at, "moduledata.ebss"), bssMask: r.pointer(at, "moduledata.gcbssmask.bytedata"),
			types: r.pointer(at, "moduledata.types"), etypes: r.pointer(at, "moduledata.etypes"), gofunc: r.pointer(at, "moduledata.gofunc"),
		}
		m.cus.size *= 4
		n := r.table(at, "moduledata.ftab").size
		if m.etext < m.text || m.etext-m.text > 1<<32 || m.etypes < m.types || m.edata < m.data || m.ebss < m.bss || n == 0 || n > 1<<28 {
			break
		}
		m.nfunc = n - 1 // the last one is the end
		m.findWrapper(r.mem)
		all = append(all, m)
	}
	return all
}

// searchModule looks for the moduledata of a program without symbols: the word in its data that points
// to the table of functions and is followed by what that table's header says of itself
// (cmd/link/internal/ld/pcln.go: words 3 to 7 of the header are distances to the tables).
func (r *Runtime) searchModule() uint64 {
	header := uint64(0)
	for _, s := range r.code {
		if s.Name == ".gopclntab" || s.Name == ".data.rel.ro.gopclntab" {
			header = s.Start
		}
	}
	names, ok := r.mem.uint(header+8+3*8, 8)
	if header == 0 || !ok {
		return 0
	}
	for _, s := range r.code {
		if s.Name != ".go.module" && s.Name != ".noptrdata" && s.Name != ".data" && s.Name != ".data.rel.ro" {
			continue
		}
		for at := s.Start; at+8 <= s.End; at += 8 {
			if v, ok := r.mem.uint(at, 8); !ok {
				at += memoryPage - 8
			} else if v == header {
				if next, _ := r.mem.uint(at+8, 8); next == header+names {
					return at
				}
			}
		}
	}
	return 0
}

// A Section is a part of the program's file in memory.
type Section struct {
	Name       string
	Start, End uint64 // runtime addresses
	Writable   bool
}

func sectionsOf(f *elf.File, bias uint64) []Section {
	var all []Section
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_TLS == 0 && s.Size > 0 && s.Size < 1<<40 {
			all = append(all, Section{s.Name, s.Addr + bias, s.Addr + bias + s.Size, s.Flags&elf.SHF_WRITE != 0})
		}
	}
	return all
}

// A codeFunc is a _func record (runtime/runtime2.go): numbers of 32 bits: entryOff, nameOff, args,
// deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, startLine, the four bytes funcID, flag, padding and
// nfuncdata; then npcdata and nfuncdata offsets.
type codeFunc struct {
	entry, end uint64
	name       string
	record     [10]uint32
	id, flag   byte
	index      uint32 // of the table of places in the inline tree
	tree       uint64 // address of the inline tree; 0 for none
}

// Numbers of _func (internal/abi/symtab.go), the same in go1.20 to go1.26.
const (
	funcNameOff, funcPCSP, funcPCFile, funcPCLine = 1, 4, 5, 6
	funcPCData, funcCU, funcStartLine             = 7, 8, 9
	pcdataInlTree, funcdataInlTree                = 2, 3
	funcFlagTop                                   = 1 // nothing calls it
)

// A Frame is one call on a stack.
type Frame struct {
	Func      string // as Go prints it: "main.(*T).Run"
	File      string // path as the build recorded it
	Line      int
	StartLine int // where the function begins
	Inlined   bool
}

// codeReader names addresses of Go code. It is for one goroutine at a time.
type codeReader struct {
	mem     *memory
	modules []module
	funcs   map[uint64]*codeFunc // by entry
	pages   map[uint64]*codeFunc // by address asked for
	texts   map[uint64]string
	depths  map[uint64]int32 // of functions on the stack, by address; -1 is not known
}

func newCodeReader(m *memory, modules []module) *codeReader {
	return &codeReader{mem: m, modules: modules, funcs: map[uint64]*codeFunc{}, pages: map[uint64]*codeFunc{}, texts: map[uint64]string{}, depths: map[uint64]int32{}}
}

func (m *module) entryOf(mem *memory, i uint64) uint64 {
	v, _ := mem.uint(m.funcs.start+8*i, 4)
	return v
}

// findWrapper learns which funcID marks wrappers: it is the largest in every release so far.
func (m *module) findWrapper(mem *memory) {
	m.wrapper = 1
	for i := range min(m.nfunc, 4096) {
		off, _ := mem.uint(m.funcs.start+8*i+4, 4)
		if id, ok := mem.uint(m.funcs.start+off+40, 1); ok && id < 64 {
			m.wrapper = max(m.wrapper, byte(id))
		}
	}
}

// function is the one that pc lies in; nil where there is none.
func (c *codeReader) function(pc uint64) (*codeFunc, *module) {
	for i := range c.modules {
		m := &c.modules[i]
		if pc < m.text || pc >= m.etext {
			continue
		}
		if f, ok := c.pages[pc]; ok {
			return f, m
		}
		if len(c.pages) > 1<<20 {
			clear(c.pages)
		}
		f := c.read(m, pc)
		c.pages[pc] = f
		return f, m
	}
	return nil, nil
}

func (c *codeReader) read(m *module, pc uint64) *codeFunc {
	off := pc - m.text
	i := uint64(sort.Search(int(m.nfunc)+1, func(i int) bool { return m.entryOf(c.mem, uint64(i)) > off }))
	if i == 0 || i > m.nfunc {
		return nil
	}
	entry := m.text + m.entryOf(c.mem, i-1)
	if f, ok := c.funcs[entry]; ok {
		return f
	}
	at, ok := c.mem.uint(m.funcs.start+8*(i-1)+4, 4)
	at += m.funcs.start
	var raw [44]byte
	if !ok || !c.mem.read(raw[:], at) {
		return nil
	}
	f := &codeFunc{entry: entry, end: m.text + m.entryOf(c.mem, i), id: raw[40], flag: raw[41]}
	for k := range f.record {
		f.record[k] = binary.LittleEndian.Uint32(raw[4*k:])
	}
	f.name = c.name(m, uint64(f.record[funcNameOff]))
	pcdata, funcdata := uint64(f.record[funcPCData]), uint64(raw[43])
	if pcdata > pcdataInlTree && pcdata < 1<<10 && funcdata > funcdataInlTree {
		index, _ := c.mem.uint(at+44+4*pcdataInlTree, 4)
		tree, ok := c.mem.uint(at+44+4*(pcdata+funcdataInlTree), 4)
		if f.index = uint32(index); ok && tree != 1<<32-1 && m.gofunc != 0 {
			f.tree = m.gofunc + tree
		}
	}
	c.funcs[entry] = f
	return f
}

// text is the text at an address that ends with a zero byte.
func (c *codeReader) text(at uint64) string {
	if s, ok := c.texts[at]; ok {
		return s
	}
	var b []byte
	for from := at; len(b) < 16<<10; {
		piece := make([]byte, 64)
		if !c.mem.read(piece, from) && !c.mem.read(piece[:1], from) {
			break
		} else if !c.mem.read(piece, from) {
			piece = piece[:1]
		}
		if end := strings.IndexByte(string(piece), 0); end >= 0 {
			b = append(b, piece[:end]...)
			break
		}
		b = append(b, piece...)
		from += uint64(len(piece))
	}
	c.texts[at] = string(b)
	return string(b)
}

// name is a function's name as Go prints it: type arguments are "[...]".
func (c *codeReader) name(m *module, off uint64) string {
	if off >= m.names.size {
		return ""
	}
	s := c.text(m.names.start + off)
	if i, j := strings.IndexByte(s, '['), strings.LastIndexByte(s, ']'); i >= 0 && j > i {
		s = s[:i] + "[...]" + s[j+1:]
	}
	return s
}

// value looks a number up in one of a function's tables: pairs of a difference, zigzag, and how many
// bytes of code it holds for (runtime/symtab.go, pcvalue).
func (c *codeReader) value(m *module, f *codeFunc, off uint32, pc uint64) (int32, bool) {
	if off == 0 || uint64(off) >= m.pcs.size || pc < f.entry || pc >= f.end {
		return -1, false
	}
	var buf [256]byte
	b, next := buf[:0], m.pcs.start+uint64(off)
	varint := func() (v uint32, ok bool) {
		for shift := 0; shift < 35; shift += 7 {
			if len(b) == 0 {
				n := min(uint64(len(buf)), memoryPage-next%memoryPage)
				if b = buf[:n]; !c.mem.read(b, next) {
					return 0, false
				}
				next += n
			}
			x := b[0]
			b = b[1:]
			v |= uint32(x&0x7f) << shift
			if x < 0x80 {
				return v, true
			}
		}
		return 0, false
	}
	v, end := int32(-1), f.entry
	for first := true; ; first = false {
		diff, ok := varint()
		if !ok || diff == 0 && !first {
			return -1, false
		}
		length, ok := varint()
		if !ok || length == 0 {
			return -1, false
		}
		v += int32(-(diff & 1) ^ diff>>1)
		if end += uint64(length); pc < end {
			return v, true
		}
	}
}

// position is the file and line of an instruction.
func (c *codeReader) position(m *module, f *codeFunc, pc uint64) (string, int) {
	file, ok1 := c.value(m, f, f.record[funcPCFile], pc)
	line, ok2 := c.value(m, f, f.record[funcPCLine], pc)
	at := 4 * (uint64(f.record[funcCU]) + uint64(uint32(file)))
	if !ok1 || !ok2 || file < 0 || line < 0 || at >= m.cus.size {
		return "", 0
	}
	off, ok := c.mem.uint(m.cus.start+at, 4)
	if !ok || off >= m.files.size {
		return "", 0
	}
	if path := c.text(m.files.start + off); path != "" && path != "?" {
		return path, int(line)
	}
	return "", 0
}

// maxInlined bounds the inlined calls at one address.
const maxInlined = 256

// frames appends the calls at pc, the innermost first: what was inlined there, then the function. For a
// return address pc is one less.
func (c *codeReader) frames(pc uint64, all []Frame) []Frame {
	f, m := c.function(pc)
	if f == nil {
		return all
	}
	start, at := len(all), pc
	for depth := 0; f.tree != 0 && depth < maxInlined; depth++ {
		i, ok := c.value(m, f, f.index, at)
		if !ok || i < 0 {
			break
		}
		var call [16]byte // funcID and three of padding, nameOff, parentPc, startLine (runtime/symtabinl.go)
		if !c.mem.read(call[:], f.tree+16*uint64(i)) {
			break
		}
		if call[0] != m.wrapper {
			x := Frame{Func: c.name(m, uint64(binary.LittleEndian.Uint32(call[4:]))), StartLine: int(int32(binary.LittleEndian.Uint32(call[12:]))), Inlined: true}
			x.File, x.Line = c.position(m, f, at)
			all = append(all, x)
		}
		at = f.entry + uint64(binary.LittleEndian.Uint32(call[8:]))
	}
	if f.id != m.wrapper || len(all) == start {
		x := Frame{Func: f.name, StartLine: int(int32(f.record[funcStartLine]))}
		x.File, x.Line = c.position(m, f, at)
		all = append(all, x)
	}
	all[len(all)-1].Inlined = false
	return all
}
