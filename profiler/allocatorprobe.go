package profiler

import (
	"debug/elf"

	"golang.org/x/arch/x86/x86asm"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

// argumentRegisters are those of a C function's arguments on amd64, each by all its names.
var argumentRegisters = [...][]x86asm.Reg{
	{x86asm.RDI, x86asm.EDI, x86asm.DI, x86asm.DIB},
	{x86asm.RSI, x86asm.ESI, x86asm.SI, x86asm.SIB},
	{x86asm.RDX, x86asm.EDX, x86asm.DX, x86asm.DL, x86asm.DH},
}

// cheapProbe is how far into a function's code a probe costs least: at the first instruction that the kernel
// emulates (branch_setup_xol_ops and push_setup_xol_ops of arch/x86/kernel/uprobes.c: push of a
// register, jumps, calls, nop), with all before it leaving what is needed in its registers. 0 where there
// is none, and on other processors.
func cheapProbe(machine elf.Machine, code []byte, what bpf.AllocationFunction) int {
	if machine != elf.EM_X86_64 {
		return 0
	}
	needed := map[x86asm.Reg]bool{}
	for _, a := range []bpf.Argument{what.Size, what.Count, what.Frees, what.Result} {
		if a > 0 && int(a) <= len(argumentRegisters) {
			for _, r := range argumentRegisters[a-1] {
				needed[r] = true
			}
		}
	}
	for at := 0; at < len(code); {
		if len(code)-at >= 4 && code[at] == 0xf3 && code[at+1] == 0x0f && code[at+2] == 0x1e && code[at+3] == 0xfa {
			at += 4 // endbr64, which the decoder does not know
			continue
		}
		inst, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			return 0
		}
		if emulated(code[at : at+inst.Len]) {
			return at
		}
		switch inst.Op {
		case x86asm.CMP, x86asm.TEST:
		case x86asm.MOV, x86asm.LEA, x86asm.SUB, x86asm.ADD, x86asm.XOR, x86asm.AND, x86asm.OR, x86asm.MOVZX, x86asm.MOVSXD:
			if r, ok := inst.Args[0].(x86asm.Reg); ok && needed[r] {
				return 0
			}
		default: // it may change what is not among its arguments
			return 0
		}
		at += inst.Len
	}
	return 0
}

// emulated says whether the kernel carries an instruction out by itself.
func emulated(code []byte) bool {
	switch b := code[0]; {
	case len(code) == 1 && b >= 0x50 && b <= 0x57, // push
		len(code) == 2 && b == 0x41 && code[1] >= 0x50 && code[1] <= 0x57,   // push of r8 to r15
		len(code) == 1 && b == 0x90,                                         // nop
		b == 0xe8 && len(code) == 5, b == 0xe9 && len(code) == 5, b == 0xeb, // call, jmp
		b >= 0x70 && b <= 0x7f, b == 0x0f && len(code) == 6 && code[1] >= 0x80 && code[1] <= 0x8f: // jumps on a condition
		return true
	}
	return false
}
