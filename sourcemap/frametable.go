package sourcemap

import (
	"debug/elf"
	"io"
	"strings"
)

// A FrameTable tells, for the Go code of one binary, where a function that is running has its return
// address: what a stack walked by frame pointers alone cannot say of its innermost function, which
// may have no frame at all (memmove, and every small leaf function), or not have set it up yet. It
// answers from Go's own tables. One goroutine asks at a time.
type FrameTable struct {
	goes    *goTable
	machine elf.Machine
}

// OpenFrameTable reads the tables of a binary, lazily: r is read as long as the table is used. It
// fails where the binary is no ELF file or has no Go code.
func OpenFrameTable(r io.ReaderAt) (*FrameTable, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	t, err := openGoTable(newImage(r, f), f)
	if t == nil { // without errNoInline, which does not matter here
		return nil, err
	}
	return &FrameTable{goes: t, machine: f.Machine}, nil
}

// GoKind is what a function of Go does with stacks.
type GoKind uint8

// The kinds of function. GoUnknown is what Go's tables do not cover: C code in the same binary.
const (
	GoUnknown   GoKind = iota
	GoPlain            // nothing special
	GoRoot             // the outermost of a stack
	GoSwitches         // it changes to another stack
	GoCgo              // likewise, between Go and C
	GoCrosscall        // crosscall2, by which C calls Go
	GoSigreturn        // what signal handlers return to
	GoPanic            // sigpanic, which looks as if it was called where a signal came
)

// Flags of a function, abi.FuncFlag (internal/abi/symtab.go), since Go 1.17.
const (
	flagTopFrame = 1 << 0
	flagSPWrite  = 1 << 1
)

// goKinds are functions that are told by their names.
var goKinds = map[string]GoKind{
	"runtime.asmcgocall":           GoCgo,
	"runtime.cgocallback":          GoCgo,
	"crosscall2":                   GoCrosscall,
	"runtime.sigreturn__sigaction": GoSigreturn,
	"runtime.sigpanic":             GoPanic,
	"runtime.systemstack":          GoSwitches,
	"runtime.mcall":                GoSwitches,
	"runtime.morestack":            GoSwitches,
	"runtime.gogo":                 GoSwitches,
}

// GoFrame is the kind of the function at a file address and the bytes between the stack pointer and
// the return address (on arm64, the caller's stack pointer) when the instruction there is about to
// run.
func (f *FrameTable) GoFrame(addr uint64) (kind GoKind, size uint32) {
	if !f.goes.find(addr) {
		return GoUnknown, 0
	}
	fn := &f.goes.fn
	depth := fn.depth.at(addr)
	if depth > 0 {
		size = uint32(depth)
	}
	switch kind = goKinds[strings.TrimSuffix(f.goes.name(fn.nameOff), ".abi0")]; {
	case kind != GoUnknown:
	case fn.flags&flagTopFrame != 0:
		kind = GoRoot
	case fn.flags&flagSPWrite != 0, depth < 0:
		kind = GoSwitches
	default:
		kind = GoPlain
	}
	return kind, size
}

// Depth is how many bytes above the stack pointer the return address is when the instruction at
// addr, a file address, is about to run: 0 in a function without a frame. It says false where Go's
// tables do not cover addr, and where the function cannot say because it changes stacks.
//
// On arm64 the depth is that of the caller's frame; a function without a frame has its return
// address in the link register there.
//
// The source is the table pcsp of a Go function (funcspdelta in runtime/symtab.go).
func (f *FrameTable) Depth(addr uint64) (uint64, bool) {
	if !f.goes.find(addr) {
		return 0, false
	}
	d := f.goes.fn.depth.at(addr)
	return uint64(max(d, 0)), d >= 0
}
