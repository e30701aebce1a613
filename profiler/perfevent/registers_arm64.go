package perfevent

// Bits of perf_event_attr.sample_regs_user: enum perf_event_arm_regs,
// arch/arm64/include/uapi/asm/perf_regs.h. Registers come in the order of their bits.
const (
	bitFP, bitLink, bitSP = 29, 30, 31

	sampleRegisters = 1<<bitFP | 1<<bitLink | 1<<bitSP
)
