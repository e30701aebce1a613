package bpf

// RegisterMask says which registers Sample.Registers are: bits of perf_event_attr.sample_regs_user,
// enum perf_event_arm_regs of arch/arm64/include/uapi/asm/perf_regs.h: x0-x29, lr, sp, pc.
const RegisterMask = 1<<33 - 1

// registerWords is how many words struct user_pt_regs has (REGISTERS of sampler.bpf.c), and
// registerOrder where in it the registers of RegisterMask are: the same order, with pstate behind
// (arch/arm64/include/uapi/asm/ptrace.h).
const registerWords = 34

var registerOrder = [...]int{
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
}

// argumentWords are where the arguments of a C function are (AAPCS64): x0 to x2.
var argumentWords = [...]int{0, 1, 2}
