// Package unwind finds the callers of code that keeps no frame pointers: it turns the call-frame
// information (CFI) of an ELF file into rows, keeps rows on disk, and walks a stack by them over
// registers and a copy of the stack's bytes.
//
// A [Table] is the rows of one file: from each address on, how to find the frame's canonical frame
// address (CFA), the return address and the caller's registers. [ReadELF] and [Parse] make one;
// a [Cache] keeps them by build ID. A [Walker] walks: it asks a [Space] what code is at a runtime
// address, and needs nothing else of the process, which may be gone.
//
// The package knows neither processes nor mappings nor symbols: which file is mapped where, which
// code is Go's, and what Go's own tables say of it, is the caller's knowledge. It never reads the
// memory of a process; what is not in the copied bytes ends the walk, with the reason.
//
// Formats: DWARF 5, section 6.4 (.debug_frame and its instructions) and section 2.5 (expressions);
// LSB 5.0 Core, chapter 10.6 (.eh_frame and .eh_frame_hdr); System V ABI for x86-64, sections 3.4
// and 3.6 (frame pointers, register numbers); DWARF for the Arm 64-bit Architecture (registers,
// return address signing). arm64 is tested on recorded registers, not on hardware.
package unwind

import (
	"debug/elf"
	"fmt"
)

// Numbers of registers in DWARF, which index Registers.Value.
//
// amd64: 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi, 6 rbp, 7 rsp, 8-15 r8-r15, 16 the return
// address, which is the place of rip here. arm64: 0-30 x0-x30, 31 sp, 32 pc.
const (
	amd64FP, amd64SP, amd64PC = 6, 7, 16

	arm64FP, arm64Link, arm64SP, arm64PC = 29, 30, 31, 32

	registerCount = 33
)

// Registers are the values of a thread's general registers, by their numbers in DWARF.
type Registers struct {
	Value [registerCount]uint64
	// Known has bit n set where Value[n] is known.
	Known uint64
}

func (r *Registers) set(n int, v uint64) {
	r.Value[n] = v
	r.Known |= 1 << n
}

func (r *Registers) known(n int) bool { return r.Known>>n&1 != 0 }

// A machine is what the walk must know of a processor and of its calling convention.
type machine struct {
	elf        elf.Machine
	fp, sp, pc int
	link       int    // register with the return address at a function's entry; -1: it is on the stack
	ra         int    // column of the return address in CFI
	kept       uint64 // registers that a call leaves as they were
	codeMask   uint64 // bits of a code address; the others are a pointer's signature: arm64, 48 bits of user addresses
	perf       []int8 // DWARF number of each perf register, -1 for those not needed
	// The registers in the frame of a signal, from the stack pointer that the handler returns with.
	signal []int16 // offset by DWARF number
}

var amd64 = machine{
	elf: elf.EM_X86_64, fp: amd64FP, sp: amd64SP, pc: amd64PC, link: -1, ra: amd64PC,
	// rbx, rbp, r12-r15: System V ABI for x86-64, figure 3.4.
	kept:     1<<3 | 1<<amd64FP | 1<<12 | 1<<13 | 1<<14 | 1<<15,
	codeMask: 1<<64 - 1,
	// enum perf_event_x86_regs, arch/x86/include/uapi/asm/perf_regs.h: ax bx cx dx si di bp sp ip,
	// flags and segments, r8-r15.
	perf: []int8{0, 3, 2, 1, 4, 5, 6, 7, 16, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15},
	// struct rt_sigframe without its return address, which the handler has popped: a ucontext, whose
	// sigcontext begins at 40 (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h): r8-r15, di, si,
	// bp, bx, dx, ax, cx, sp, ip.
	signal: []int16{
		0: 40 + 8*13, 1: 40 + 8*12, 2: 40 + 8*14, 3: 40 + 8*11, 4: 40 + 8*9, 5: 40 + 8*8, 6: 40 + 8*10, 7: 40 + 8*15,
		8: 40, 9: 40 + 8, 10: 40 + 8*2, 11: 40 + 8*3, 12: 40 + 8*4, 13: 40 + 8*5, 14: 40 + 8*6, 15: 40 + 8*7, 16: 40 + 8*16,
	},
}

var arm64 = machine{
	elf: elf.EM_AARCH64, fp: arm64FP, sp: arm64SP, pc: arm64PC, link: arm64Link, ra: arm64Link,
	// x19-x29: Procedure Call Standard for the Arm 64-bit Architecture, section 6.1.1. x30 is changed
	// by each call.
	kept:     (1<<30 - 1) &^ (1<<19 - 1),
	codeMask: 1<<48 - 1,
	perf:     arm64Perf(),
	signal:   arm64Signal(),
}

// arm64Perf is enum perf_event_arm_regs (arch/arm64/include/uapi/asm/perf_regs.h), which has
// DWARF's order: x0-x29, lr, sp, pc.
func arm64Perf() []int8 {
	of := make([]int8, registerCount)
	for i := range of {
		of[i] = int8(i)
	}
	return of
}

// arm64Signal: struct rt_sigframe (arch/arm64/kernel/signal.c) is a siginfo of 128 bytes and a
// ucontext, whose sigcontext begins at 176 for its alignment: the address of the fault, x0-x30, sp, pc.
func arm64Signal() []int16 {
	of := make([]int16, registerCount)
	for i := range of {
		of[i] = int16(128 + 176 + 8 + 8*i)
	}
	return of
}

func machineOf(m elf.Machine) (*machine, error) {
	switch m {
	case elf.EM_X86_64:
		return &amd64, nil
	case elf.EM_AARCH64:
		return &arm64, nil
	}
	return nil, fmt.Errorf("unwind code of %v: only EM_X86_64 and EM_AARCH64 are known", m)
}

// PerfRegisters is the mask of registers to ask perf for on a machine:
// perf_event_attr.sample_regs_user. It is 0 for an unknown one.
func PerfRegisters(of elf.Machine) uint64 {
	m, err := machineOf(of)
	if err != nil {
		return 0
	}
	var mask uint64
	for i, n := range m.perf {
		if n >= 0 {
			mask |= 1 << i
		}
	}
	return mask
}

// SetPerf sets the registers to those of a perf sample (PERF_SAMPLE_REGS_USER): values in the order
// of the bits of mask, which is what the event was opened with. Registers that are not in the mask
// are unknown; values that the walk has no use for are passed over. An unknown machine, and values
// that end too early, leave registers unknown.
func (r *Registers) SetPerf(of elf.Machine, mask uint64, values []uint64) {
	r.Known = 0
	m, err := machineOf(of)
	if err != nil {
		return
	}
	for i := 0; mask != 0 && len(values) > 0; i, mask = i+1, mask>>1 {
		if mask&1 == 0 {
			continue
		}
		if i < len(m.perf) && m.perf[i] >= 0 {
			r.set(int(m.perf[i]), values[0])
		}
		values = values[1:]
	}
}
