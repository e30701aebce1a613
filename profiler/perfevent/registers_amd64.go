package perfevent

// Bits of perf_event_attr.sample_regs_user: enum perf_event_x86_regs,
// arch/x86/include/uapi/asm/perf_regs.h. Registers come in the order of their bits.
const (
	sampleRegisters = 1<<6 | 1<<7 // BP, SP
	registerCount   = 2
)

func registersOf(b []byte) (fp, link, sp uint64) { return u64(b, 0), 0, u64(b, 8) }
