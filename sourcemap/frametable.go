package sourcemap

import (
	"debug/elf"
	"io"
)

// A FrameTable tells, for the Go code of one binary, where a function that is running has its return
// address: what a stack walked by frame pointers alone cannot say of its innermost function, which
// may have no frame at all (runtime.memmove, and every small leaf function), or not have set it up
// yet. One goroutine asks at a time.
type FrameTable struct{ t *goTable }

// OpenFrameTable reads the table of a binary, lazily: r is read as long as the table is used. It
// fails where the binary is no ELF file or has no Go code.
func OpenFrameTable(r io.ReaderAt) (*FrameTable, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	t, err := openGoTable(newImage(r, f), f)
	if t == nil {
		return nil, err
	}
	return &FrameTable{t}, nil
}

// Depth is how many bytes above the stack pointer the return address is when the instruction at
// addr, a file address, is about to run: 0 in a function without a frame. It says false for what is
// not Go code, and where the function cannot say because it changes stacks.
//
// On arm64 the depth is that of the caller's frame; a function without a frame has its return
// address in the link register there.
//
// The source is the table pcsp of the function (funcspdelta in runtime/symtab.go).
func (f *FrameTable) Depth(addr uint64) (uint64, bool) {
	if !f.t.find(addr) {
		return 0, false
	}
	d := f.t.fn.depth.at(addr)
	if d < 0 {
		return 0, false
	}
	return uint64(d), true
}
