package perfevent

// Bits of perf_event_attr.sample_regs_user: enum perf_event_x86_regs,
// arch/x86/include/uapi/asm/perf_regs.h. Registers come in the order of their bits.
const (
	bitFP, bitSP, bitLink = 6, 7, -1

	sampleRegisters = 1<<bitFP | 1<<bitSP
)
