package perfevent

// Bits of perf_event_attr.sample_regs_user: enum perf_event_arm_regs,
// arch/arm64/include/uapi/asm/perf_regs.h. Registers come in the order of their bits.
const (
	sampleRegisters = 1<<29 | 1<<30 | 1<<31 // X29, LR, SP
	registerCount   = 3
)

func registersOf(b []byte) (fp, link, sp uint64) { return u64(b, 0), u64(b, 8), u64(b, 16) }
