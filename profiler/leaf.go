package profiler

import (
	"io"
	"runtime"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// Registers are what a sample says of the user's innermost function beyond its address: the
// registers of a frame, and the words at the stack pointer. All are 0 where they are not known.
type registers struct {
	sp, fp, link uint64
	top          [4]uint64

	// all are the registers of sampleRegisters, and stack is the bytes from sp on; empty where the
	// stack was not copied.
	all   []uint64
	stack []byte
	// other is the bytes of the thread's other stack from otherSP on: empty where none was copied.
	otherSP uint64
	other   []byte
	// past and same are as Sample.Past and Sample.Same of the BPF engine: stack ends with what is the same.
	past uint32
	same int
	cut  bool // the kernel's walk has as many addresses as it gives at most
}

// LeafFrames finds the callers that a walk by frame pointers misses. That walk reads the innermost
// function's caller from the frame that the frame pointer names, which is the caller's own where the
// innermost function has no frame: every small leaf function of Go, and those in assembly such as
// memmove. It then goes on with the caller's caller.
//
// Go's own tables tell of Go code, and call-frame information of all other.
//
// One goroutine uses it, under the recording's lock.
type leafFrames struct {
	open   func(io.ReaderAt) (FrameTable, error) // nil: Go's tables are not asked
	reader func(*codeFile) (io.ReaderAt, error)
	// Rows are those that the unwinder has for a file: nil where it has none, and not known where it has
	// not read them yet, for which nobody waits. Where this is nil, as nothing else needs rows, they are
	// read from the file.
	rows   func(*codeFile) (table *unwind.Table, known bool)
	tables map[*codeFile]leafTables
	depths map[depthKey]int64 // what was asked before; -1: not known
}

// LeafTables are what there is for one file, nil where there is none.
type leafTables struct {
	goes FrameTable
	rows *unwind.Table
}

type depthKey struct {
	file *codeFile
	addr uint64
}

// maxDepths bounds what is remembered; leaves are far fewer than that, unless code is made at
// run time, which has no table.
const maxDepths = 1 << 18

func newLeafFrames(open func(io.ReaderAt) (FrameTable, error), reader func(*codeFile) (io.ReaderAt, error)) *leafFrames {
	return &leafFrames{open: open, reader: reader, tables: make(map[*codeFile]leafTables), depths: make(map[depthKey]int64)}
}

// caller is the return address of the function at leaf, a runtime address, where the frame that the
// frame pointer names is not its own.
func (l *leafFrames) caller(t *tracker, p *process, leaf uint64, r *registers) (uint64, bool) {
	if l == nil || r.sp == 0 {
		return 0, false
	}
	file, addr := t.locate(p, leaf)
	if file == nil || file.kind != profile.FileCode {
		return 0, false
	}
	depth := l.depth(file, addr)
	if depth < 0 {
		return 0, false
	}
	var ret uint64
	switch runtime.GOARCH {
	case "arm64":
		// Where there is no frame the return address is in the link register; where there is one,
		// the frame pointer was set with it.
		if depth != 0 {
			return 0, false
		}
		ret = r.link
	default:
		// The frame pointer is set once it points to where its old value was pushed, the word
		// below the return address.
		i := uint64(depth) / 8
		if depth >= 8 && r.fp == r.sp+uint64(depth)-8 || depth%8 != 0 || i >= uint64(len(r.top)) {
			return 0, false
		}
		ret = r.top[i]
	}
	// A return address is in code that has frames of its own; anything else is a misunderstanding.
	if file, addr := t.locate(p, ret); file == nil || file.kind != profile.FileCode || l.depth(file, addr-1) < 0 {
		return 0, false
	}
	return ret, true
}

func (l *leafFrames) depth(file *codeFile, addr uint64) int64 {
	key := depthKey{file, addr}
	if d, ok := l.depths[key]; ok {
		return d
	}
	t, ok := l.tables[file]
	if !ok {
		if t, ok = l.read(file); !ok {
			return -1
		}
		l.tables[file] = t
	}
	depth := int64(-1)
	if t.goes != nil {
		if d, ok := t.goes.Depth(addr); ok {
			depth = int64(d)
		}
	}
	if depth < 0 && t.rows != nil {
		if d, ok := t.rows.Depth(addr); ok {
			depth = int64(d)
		}
	}
	if len(l.depths) >= maxDepths {
		clear(l.depths)
	}
	l.depths[key] = depth
	return depth
}

// read reads the tables of a file. Without any, its leaves stay as they are. It says false where they are
// being read.
func (l *leafFrames) read(file *codeFile) (t leafTables, known bool) {
	if l.rows != nil && !file.image.framed() {
		if t.rows, known = l.rows(file); !known {
			return t, false
		}
	}
	r, err := l.reader(file)
	if err != nil {
		return t, true
	}
	if l.open != nil && file.image.golang {
		if goes, err := l.open(r); err == nil {
			t.goes = goes
		}
	}
	if l.rows == nil && !file.image.framed() {
		if rows, err := unwind.ReadELF(r); err == nil {
			t.rows = rows
		}
	}
	return t, true
}
