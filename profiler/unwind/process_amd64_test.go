package unwind

import (
	"debug/elf"

	"golang.org/x/sys/unix"
)

func (p *process) registers(tid int) unix.PtraceRegs {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// sample is the thread's registers, as perf would give them, and n bytes of its stack.
func (p *process) sample(n int) *Sample {
	r := p.registers(p.pid)
	s := new(Sample)
	s.Registers.SetPerf(elf.EM_X86_64, PerfRegisters(elf.EM_X86_64), []uint64{
		r.Rax, r.Rbx, r.Rcx, r.Rdx, r.Rsi, r.Rdi, r.Rbp, r.Rsp, r.Rip, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
	})
	s.Stack = p.piece(r.Rsp, n)
	return s
}

// stopsItself tells whether a thread is in the call that stopped it.
func (p *process) stopsItself(tid int) bool { return p.registers(tid).Orig_rax == unix.SYS_TGKILL }
