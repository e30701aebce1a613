package bpf

// RegisterMask says which registers Sample.Registers are: bits of perf_event_attr.sample_regs_user,
// enum perf_event_x86_regs of arch/x86/include/uapi/asm/perf_regs.h. ax bx cx dx si di bp sp ip, r8-r15.
const RegisterMask = 0xff01ff

// registerWords is how many words struct pt_regs has (REGISTERS of sampler.bpf.c), and registerOrder
// where in it the registers of RegisterMask are. struct pt_regs, arch/x86/include/uapi/asm/ptrace.h: r15 r14
// r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss.
const registerWords = 21

var registerOrder = [...]int{10, 5, 11, 12, 13, 14, 4, 19, 16, 9, 8, 7, 6, 3, 2, 1, 0}

// argumentWords are where in struct pt_regs the arguments of a C function are (System V ABI): di, si, dx.
var argumentWords = [...]int{14, 13, 12}
