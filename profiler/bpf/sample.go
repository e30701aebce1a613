package bpf

import (
	"encoding/binary"
	"fmt"
)

// A Sample is one observation of a task that ran: the event a Sampler was attached to came to its
// period.
type Sample struct {
	Time   uint64 // CLOCK_MONOTONIC, in ns
	Period uint64 // what the sample stands for, in the event's unit: ns for cpu-clock
	PID    uint32 // process, in the reader's PID namespace
	TID    uint32 // thread, likewise; 0 for the idle task of a CPU, as is PID
	CPU    uint32
	// Kernel and User are runtime addresses, leaf first: the first is the instruction that was
	// interrupted, the others are return addresses. Kernel is empty where user code was
	// interrupted, User where a kernel thread was, and either where the event excludes it. In a
	// sample of kernel code the first address of User is where user code goes on after the system
	// call or interrupt: it is not a call, either.
	Kernel []uint64
	User   []uint64
	// KernelCut and UserCut say that the stack has as many addresses as are copied at most
	// (Sampler.Depth), so that its outermost callers are most likely missing.
	KernelCut bool
	UserCut   bool
	// SP, FP and Link are the user's stack pointer, frame pointer and (arm64) link register where its
	// code was interrupted or called the kernel, and Top is the words at SP, in ascending order of
	// address. They are 0 where there is no user stack, and in samples of kernel code before Linux
	// 5.15. Top is 0 also where it could not be read.
	SP, FP, Link uint64
	Top          [4]uint64
	// Registers are all of the user's registers, in the order of the bits of RegisterMask, and Stack is
	// a copy of the stack from SP on: as much as was asked for and could be read. Both are empty where
	// the stack was not to be copied or nothing of it could be read.
	Registers []uint64
	Stack     []byte
	// Other is a copy of the thread's other stack (CopyRule.Go) from OtherSP on; empty where none is known.
	OtherSP uint64
	Other   []byte
	// Past is the id of the PastStack with which the thread's stack was compared, and Same how many of its
	// frames, the outermost first, were as they had been: of these the stack has no copy, but for the return
	// address of the innermost one. Both are 0 where there are none.
	Past uint32
	Same int
	// Outside says that the task does not live in the reader's PID namespace: PID and TID are 0.
	Outside bool

	raw []byte // the record, which Stack and Other are parts of
}

// Flags of a record: OUTSIDE, KERNEL_CUT and USER_CUT of sampler.bpf.c.
const (
	flagOutside = 1 << iota
	flagKernelCut
	flagUserCut
)

// headerSize is that of struct sample_header of stacks.bpf.h.
const headerSize = 112

// decode reads a record of the ring, all of it:
//
//	0       8       16    20    24   26    28      30      32   40   48     56
//	+-------+-------+-----+-----+----+-----+-------+-------+----+----+------+--------+
//	| time  |period | pid | tid |cpu |flags|kernel | user  | sp | fp | link | top[4] |
//	|       |       |     |     |    |     | depth | depth |    |    |      |        |
//	+-------+-------+-----+-----+----+-----+-------+-------+----+----+------+--------+
//	88            92            96      104    108    112
//	+-------------+-------------+-------+------+------+--------------+------------+-----------+-------+-------------+
//	| stack bytes | other bytes | other | past | same | kernel stack | user stack | registers | bytes | other bytes |
//	+-------------+-------------+-------+------+------+--------------+------------+-----------+-------+-------------+
//
// without registers where there are no bytes, in the order of bytes that amd64 and arm64 have. It fills
// every field of s and reuses its slices, but for Stack and Other, which are parts of raw. Where it fails,
// s is as it was.
func decode(raw []byte, s *Sample) error {
	if len(raw) < headerSize {
		return fmt.Errorf("BPF sample of %d bytes: the header alone has %d", len(raw), headerSize)
	}
	kernel := int(binary.LittleEndian.Uint16(raw[28:]))
	user := int(binary.LittleEndian.Uint16(raw[30:]))
	addresses := 8 * (kernel + user)
	copied := int(binary.LittleEndian.Uint32(raw[88:]))
	other := int(binary.LittleEndian.Uint32(raw[92:]))
	want := headerSize + addresses
	if copied > 0 {
		want += 8*registerWords + copied + other
	}
	if len(raw) != want || copied == 0 && other != 0 {
		return fmt.Errorf("BPF sample of %d bytes: its header, %d kernel and %d user addresses and %d and %d bytes of stacks have %d",
			len(raw), kernel, user, copied, other, want)
	}
	flags := binary.LittleEndian.Uint16(raw[26:])
	s.Time = binary.LittleEndian.Uint64(raw)
	s.Period = binary.LittleEndian.Uint64(raw[8:])
	s.PID = binary.LittleEndian.Uint32(raw[16:])
	s.TID = binary.LittleEndian.Uint32(raw[20:])
	s.CPU = uint32(binary.LittleEndian.Uint16(raw[24:]))
	s.Outside = flags&flagOutside != 0
	s.KernelCut = flags&flagKernelCut != 0
	s.UserCut = flags&flagUserCut != 0
	s.SP = binary.LittleEndian.Uint64(raw[32:])
	s.FP = binary.LittleEndian.Uint64(raw[40:])
	s.Link = binary.LittleEndian.Uint64(raw[48:])
	for i := range s.Top {
		s.Top[i] = binary.LittleEndian.Uint64(raw[56+8*i:])
	}
	stacks := raw[headerSize:]
	s.Kernel = appendAddresses(s.Kernel[:0], stacks[:8*kernel])
	s.User = appendAddresses(s.User[:0], stacks[8*kernel:addresses])
	s.Registers, s.Stack, s.Other, s.OtherSP = s.Registers[:0], nil, nil, 0
	s.Past, s.Same = 0, 0
	if copied > 0 {
		s.Past, s.Same = binary.LittleEndian.Uint32(raw[104:]), int(min(binary.LittleEndian.Uint32(raw[108:]), MaxPast))
		registers := stacks[addresses:]
		for _, at := range registerOrder {
			s.Registers = append(s.Registers, binary.LittleEndian.Uint64(registers[8*at:]))
		}
		s.Stack = registers[8*registerWords:][:copied:copied]
		if other > 0 {
			s.OtherSP = binary.LittleEndian.Uint64(raw[96:])
			s.Other = registers[8*registerWords+copied:]
		}
	}
	return nil
}

// contextMarks is the least value that is no address but a mark between the parts of a call chain:
// PERF_CONTEXT_MAX of include/uapi/linux/perf_event.h, -4095.
const contextMarks = 1<<64 - 4095

// appendAddresses leaves marks out. bpf_get_stack gives one with each stack where the event's
// sample type has PERF_SAMPLE_CALLCHAIN: it then takes its part of the kernel's chain
// (bpf_get_stack_pe, kernel/bpf/stackmap.c).
func appendAddresses(to []uint64, raw []byte) []uint64 {
	for ; len(raw) >= 8; raw = raw[8:] {
		if addr := binary.LittleEndian.Uint64(raw); addr < contextMarks {
			to = append(to, addr)
		}
	}
	return to
}
