package sourcemap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// GoStacks says where Go's runtime keeps the pointers that lead from a thread to its two stacks: that
// of its goroutine, and its own, on which the scheduler and C run. All are offsets in bytes.
type GoStacks struct {
	TLS      int64  // of the pointer to the running g, from the thread's FS base
	M, SP    uint32 // of g.m and g.sched.sp in a g
	CurrentG uint32 // of m.curg in an m
}

// GoStacks reads them from the code of runtime.systemstack, which uses each of them. It is false where
// there is no such code: the binary has none of Go, or it is for another processor than amd64, or the
// place in the thread's local storage is found out at run time, as in a shared library.
//
// The offsets change with Go's releases, and neither Go's tables nor a stripped binary has them. The
// code is assembly (runtime/asm_amd64.s), the same in Go 1.21 to 1.26; that of 1.20 is not read.
func (f *FrameTable) GoStacks() (GoStacks, bool) {
	if f.machine != elf.EM_X86_64 {
		return GoStacks{}, false
	}
	at, ok := f.goes.funcNamed("runtime.systemstack")
	if !ok {
		return GoStacks{}, false
	}
	code := make([]byte, 256)
	return goStacks(code[:f.goes.im.fill(at, code)])
}

// funcNamed is the address of a function.
func (t *goTable) funcNamed(name string) (uint64, bool) {
	for i := range t.nfunc {
		at, ok := t.funcAt(i)
		if !ok {
			return 0, false
		}
		off, ok := t.im.u32(at + 4)
		if !ok || uint64(off) >= t.namesSize {
			continue
		}
		if p := t.im.bytes(t.names + uint64(off)); len(p) >= len(name) && string(p[:len(name)]) != name {
			continue
		}
		s, _ := t.im.text(t.names+uint64(off), len(name)+len(".abi0"))
		if s == name || s == name+".abi0" {
			return t.text + uint64(t.entryOf(i)), true
		}
	}
	return 0, false
}

// goStacks reads the instructions of systemstack, up to the first that it switches stacks with:
//
//	MOVQ g(TLS), AX           // one instruction, or with the offset in CX
//	MOVQ g_m(AX), BX
//	CMPQ AX, m_gsignal(BX)
//	MOVQ m_g0(BX), DX         // m.g0 is the first field
//	CMPQ AX, DX
//	CMPQ AX, m_curg(BX)
//	MOVQ (g_sched+gobuf_sp)(DX), SP
func goStacks(code []byte) (s GoStacks, ok bool) {
	const near = 64 // bytes from one of them to the next at most
	// next finds an instruction, of several ways to write it, and reads the number that it ends with: of
	// 32 bits or of 8, signed.
	next := func(forms ...goInstruction) (v int32, ok bool) {
		window := code[:min(len(code), near)]
		first, end := len(window), 0
		for _, f := range forms {
			i := bytes.Index(window, f.opcode)
			if i < 0 || i >= first || i+len(f.opcode)+f.bytes+len(f.then) > len(code) {
				continue
			}
			number := code[i+len(f.opcode):][:f.bytes]
			if !bytes.HasPrefix(code[i+len(f.opcode)+f.bytes:], f.then) {
				continue
			}
			switch f.bytes {
			case 1:
				v = int32(int8(number[0]))
			case 4:
				v = int32(binary.LittleEndian.Uint32(number))
			}
			first, end, ok = i, i+len(f.opcode)+f.bytes+len(f.then), true
		}
		code = code[end:]
		return v, ok
	}
	tls, ok1 := next(
		goInstruction{opcode: []byte{0x64, 0x48, 0x8b, 0x04, 0x25}, bytes: 4}, // mov %fs:n,%rax
		// mov $n,%rcx; mov %fs:(%rcx),%rax
		goInstruction{opcode: []byte{0x48, 0xc7, 0xc1}, bytes: 4, then: []byte{0x64, 0x48, 0x8b, 0x01}},
	)
	m, ok2 := next(goInstruction{opcode: []byte{0x48, 0x8b, 0x58}, bytes: 1}) // mov n(%rax),%rbx
	compare := []goInstruction{                                               // cmp n(%rbx),%rax
		{opcode: []byte{0x48, 0x3b, 0x43}, bytes: 1},
		{opcode: []byte{0x48, 0x3b, 0x83}, bytes: 4},
	}
	_, ok3 := next(compare...)
	_, ok4 := next(goInstruction{opcode: []byte{0x48, 0x8b, 0x13}}) // mov (%rbx),%rdx
	curg, ok5 := next(compare...)
	sp, ok6 := next(goInstruction{opcode: []byte{0x48, 0x8b, 0x62}, bytes: 1}) // mov n(%rdx),%rsp
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || m <= 0 || curg <= 0 || sp <= 0 {
		return GoStacks{}, false
	}
	return GoStacks{TLS: int64(tls), M: uint32(m), SP: uint32(sp), CurrentG: uint32(curg)}, true
}

// A goInstruction is the bytes of one: those before the number in it, how many the number has, and
// those behind.
type goInstruction struct {
	opcode []byte
	bytes  int
	then   []byte
}
