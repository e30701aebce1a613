package sourcemap

import (
	"debug/elf"
	"sort"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A goTable names Go code by the tables that the Go linker puts into every binary for the runtime's
// own tracebacks: function, file and line of each instruction, and the calls that were inlined
// there. They are part of the loaded program, so stripping leaves them, and no DWARF is needed.
//
// The frames are those that runtime.Callers and runtime.CallersFrames give, and so those of Go's own
// profiles. They leave wrappers out: functions that the compiler made only to call another, such as
// a promoted method or the function that a defer statement runs. Here, too, a wrapper's frame is
// left out, but only where there is another frame at the place because one was inlined into the
// other. The runtime leaves out the other wrappers as well; here they stay, so that each place has a
// frame and no sample is without one.
//
// Whatever a damaged record claims, a lookup takes bounded time and memory.
type goTable struct {
	*goCode
	// What was decoded before, by offset: names repeat in frames far more often than they differ.
	nameOf map[uint32]string
	fileOf map[uint32]string
	// The function asked for last: in sorted order the next address is often in the same one.
	fn goFunc
}

// openGoTable finds the Go code of f, whose bytes im reads. It fails with errNoTable where there is
// none. With the error errNoInline the table is usable and names outer functions only.
func openGoTable(im *image, f *elf.File) (*goTable, error) {
	m, err := findGoCode(im, f)
	if m == nil {
		return nil, err
	}
	m.findWrapper()
	return &goTable{goCode: m, nameOf: map[uint32]string{}, fileOf: map[uint32]string{}}, err
}

// A goFunc is a _func record (runtime/runtime2.go): numbers of 32 bits, in this order: entryOff,
// nameOff, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, startLine (since Go 1.20), the
// four bytes funcID, flag, padding and nfuncdata; then npcdata and nfuncdata offsets.
type goFunc struct {
	entry, end  uint64   // file addresses; end is exclusive
	nameOff     uint32   // into names
	files       pcValues // file numbers
	lines       pcValues
	inlineIndex pcValues // indices into the inline tree
	depth       pcValues // bytes from the stack pointer to the return address
	inlineTree  uint64   // address; 0 for none
	cu          uint32   // index into cus of file number 0
	startLine   int
	flags       byte // flagTopFrame, flagSPWrite
	id          byte // funcID: which special function, or wrapper; 0 for any other
}

// Indices into the offsets behind a _func: internal/abi/symtab.go, unchanged since Go 1.18.
const (
	pcdataInlTreeIndex = 2
	funcdataInlTree    = 3
)

// maxInlined bounds the inlined calls at one address. Real chains are a few tens long; one of this
// length is a cycle in a corrupt tree, and nothing of it is shown.
const maxInlined = 256

func (t *goTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	if !t.find(addr) {
		return buf, false
	}
	innermost := len(buf)
	fn, pc := &t.fn, addr
	for depth := 0; fn.inlineTree != 0; depth++ {
		i := fn.inlineIndex.at(pc)
		if i < 0 {
			break
		}
		call, ok := t.inlinedCall(uint64(i))
		if !ok || depth == maxInlined {
			buf, pc = buf[:innermost], addr
			break
		}
		if call.id != t.wrapper {
			f := profile.Frame{Func: t.name(call.nameOff), StartLine: call.startLine, Inlined: true}
			f.File, f.Line = t.position(pc)
			buf = append(buf, f)
		}
		// The compiler keeps an instruction in each caller whose position is that of the call.
		pc = call.parent
	}
	if fn.id != t.wrapper || len(buf) == innermost {
		f := profile.Frame{Func: t.name(fn.nameOff), StartLine: fn.startLine}
		f.File, f.Line = t.position(pc)
		buf = append(buf, f)
	}
	outermost := &buf[len(buf)-1]
	outermost.Inlined = false
	outermost.Entry = isEntry(outermost.Func)
	return buf, true
}

// find makes t.fn the function at addr.
func (t *goTable) find(addr uint64) bool {
	if addr-t.fn.entry < t.fn.end-t.fn.entry {
		return true
	}
	if addr < t.text || addr >= t.etext || addr-t.text > 1<<32-1 {
		return false
	}
	off := uint32(addr - t.text)
	// The first function that begins behind off; entry nfunc is the end of the last one.
	i := uint64(sort.Search(int(t.nfunc)+1, func(i int) bool { return t.entryOf(uint64(i)) > off }))
	if i == 0 || i > t.nfunc {
		return false
	}
	at, ok := t.funcAt(i - 1)
	if !ok {
		return false
	}
	var record [11]uint32
	size := uint64(len(record))
	if t.magic == magic118 {
		size-- // no startLine
	}
	for k := range record[:size] {
		if record[k], ok = t.im.u32(at + 4*uint64(k)); !ok {
			return false
		}
	}
	var last [4]byte // funcID, flag, padding, nfuncdata
	t.im.read(at+4*(size-1), last[:])
	pcdata, funcdata := uint64(record[7]), last[3]

	fn := &t.fn
	fn.entry, fn.end = t.text+uint64(t.entryOf(i-1)), t.text+uint64(t.entryOf(i))
	fn.nameOff, fn.cu, fn.id, fn.flags = record[1], record[8], last[0], last[1]
	fn.startLine = 0
	if t.magic != magic118 {
		fn.startLine = int(record[9])
	}
	var index, tree uint32
	fn.inlineTree = 0
	if t.inline != 0 && pcdata > pcdataInlTreeIndex && funcdata > funcdataInlTree {
		index, _ = t.im.u32(at + 4*(size+pcdataInlTreeIndex))
		tree, ok = t.im.u32(at + 4*(size+pcdata+funcdataInlTree))
		if ok && tree != 1<<32-1 {
			fn.inlineTree = t.inline + uint64(tree)
		}
	}
	fn.depth.open(t.goCode, record[4], fn)
	fn.files.open(t.goCode, record[5], fn)
	fn.lines.open(t.goCode, record[6], fn)
	fn.inlineIndex.open(t.goCode, index, fn)
	return true
}

// position is the file and line of the instruction at addr, within t.fn.
func (t *goTable) position(addr uint64) (string, int) {
	file, line := t.fn.files.at(addr), t.fn.lines.at(addr)
	if file < 0 || line < 0 {
		return "", 0
	}
	i := 4 * (uint64(t.fn.cu) + uint64(file))
	if i >= t.cusSize {
		return "", 0
	}
	off, ok := t.im.u32(t.cus + i)
	if !ok || uint64(off) >= t.filesSize {
		return "", 0
	}
	path, ok := t.fileOf[off]
	if !ok {
		path, _ = t.im.text(t.files+uint64(off), maxText)
		t.fileOf[off] = path
	}
	if path == "" || path == "?" {
		return "", 0
	}
	return path, int(line)
}

// maxText bounds names and paths; what is longer is not one. The longest names are those of instances
// of generics, and stay below a few KB.
const maxText = 64 << 10

// name is a function's name as Go prints it: type arguments are "[...]", as in runtime.Frame.
func (t *goTable) name(off uint32) string {
	if s, ok := t.nameOf[off]; ok {
		return s
	}
	s := ""
	if uint64(off) < t.namesSize {
		s, _ = t.im.text(t.names+uint64(off), maxText)
	}
	if i, j := strings.IndexByte(s, '['), strings.LastIndexByte(s, ']'); i >= 0 && j > i {
		s = s[:i] + "[...]" + s[j+1:]
	}
	if s == "" {
		s = profile.Unknown
	}
	t.nameOf[off] = s
	return s
}

// A goCall is a record of the inline tree (inlinedCall in runtime/symtabinl.go).
type goCall struct {
	id        byte // funcID
	nameOff   uint32
	startLine int
	parent    uint64 // address of an instruction of the caller whose position is that of the call
}

// inlinedCall reads record i of t.fn's inline tree. Since Go 1.20 a record is funcID (a byte, and
// three of padding), nameOff, parentPc and startLine; before, it was parent (16 bits), funcID,
// padding, file, line, nameOff and parentPc, and what it knew about positions was in file and line
// of the caller's instruction just the same.
func (t *goTable) inlinedCall(i uint64) (goCall, bool) {
	size, fields := uint64(16), [4]uint64{0, 4, 8, 12}
	if t.magic == magic118 {
		size, fields = 20, [4]uint64{0, 12, 16, 0}
	}
	at := t.fn.inlineTree + size*i
	var record [4]uint32
	for k, offset := range fields {
		var ok bool
		if record[k], ok = t.im.u32(at + offset); !ok {
			return goCall{}, false
		}
	}
	var id [1]byte
	if t.magic == magic118 {
		t.im.read(at+2, id[:])
		record[3] = 0
	} else {
		t.im.read(at, id[:])
	}
	call := goCall{id: id[0], nameOff: record[1], startLine: int(record[3]), parent: t.fn.entry + uint64(record[2])}
	return call, uint64(call.nameOff) < t.namesSize && call.parent < t.fn.end
}
