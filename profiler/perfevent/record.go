package perfevent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Type is a record's type: PERF_RECORD_…
type Type uint32

// The types whose contents are decoded. Of all others a Record has Type, Misc and nothing else.
const (
	Mmap        Type = unix.PERF_RECORD_MMAP
	Mmap2       Type = unix.PERF_RECORD_MMAP2
	Comm        Type = unix.PERF_RECORD_COMM
	Fork        Type = unix.PERF_RECORD_FORK
	Exit        Type = unix.PERF_RECORD_EXIT
	Lost        Type = unix.PERF_RECORD_LOST
	LostSamples Type = unix.PERF_RECORD_LOST_SAMPLES
	Throttle    Type = unix.PERF_RECORD_THROTTLE
	Unthrottle  Type = unix.PERF_RECORD_UNTHROTTLE
	Sample      Type = unix.PERF_RECORD_SAMPLE
)

// A Record is one record of a ring. Its slices point into the ring, or into a buffer of it
// that a later record reuses: they hold until the next call of the Ring's method that filled it
// (Next or Scan), and no longer than the Ring is open.
type Record struct {
	Type Type
	Misc uint16 // PERF_RECORD_MISC_…, whose meaning depends on Type

	ID   uint64 // of the event; an inherited event has its ancestor's
	Time uint64 // CLOCK_MONOTONIC, ns
	CPU  uint32
	// PID and TID are whom the record is about: the task that ran, the new one of a Fork, the
	// ended one of an Exit. They are numbers in the PID namespace of this process; 0 for a task
	// outside of it, ^0 for one that is gone already.
	PID, TID uint32
	// PPID and PTID are the task that called fork (Fork) or the ended task's parent (Exit).
	PPID, PTID uint32

	Period uint64 // Sample: ns of running time it stands for
	// Chain are runtime addresses, leaf first, with PERF_CONTEXT_… markers before each part
	// (Sample).
	Chain []uint64

	// SP, FP and Link are the user's stack pointer, frame pointer and (arm64) link register where its
	// code was interrupted or called the kernel, and Top is the words at SP, in ascending order of
	// address. They are 0 where there is no user stack, and in samples of 32-bit code; Top is 0 also
	// where it could not be read (Sample).
	SP, FP, Link uint64
	Top          [4]uint64
	// Registers are the user's registers, in the order of the bits of Clock.Registers, and Stack is the
	// bytes from SP on, as many as could be read. They are nil where SP is 0, and where Clock.Registers
	// is (Sample).
	Registers []uint64
	Stack     []byte

	Name []byte // Comm: the new name. Mmap, Mmap2: the file's path as the process sees it, "//anon", "[vdso]"

	// What was mapped where (Mmap, Mmap2).
	Addr, Len, Offset uint64 // runtime address and bytes; offset in the file
	Prot              uint32 // PROT_… (Mmap2)
	Major, Minor      uint32 // device and inode of the file (Mmap2 without BuildID)
	Inode, Generation uint64
	BuildID           []byte // of the file (Mmap2, Linux 5.12, where the file has one)

	Count uint64 // how many records or samples were lost (Lost, LostSamples)
}

// Exec tells of a Comm that the name came with a new program in a new address space.
func (r *Record) Exec() bool {
	return r.Type == Comm && r.Misc&unix.PERF_RECORD_MISC_COMM_EXEC != 0
}

const (
	headerSize = 8 // struct perf_event_header
	// idSize is what sample_id_all appends: TID, TIME, CPU, IDENTIFIER, in this order
	// (__perf_event__output_id_sample).
	idSize = 32
)

// decode reads one record, header included, whose layout is that of sampleType with the registers of
// a mask. b is aligned to 8 bytes and as long as its header says.
//
//	SAMPLE   id u64 · pid, tid u32 · time u64 · cpu, 0 u32 · period u64 [· stack]
//	stack    n u64 · chain [n]u64 · abi u64 [· registers, if abi is not 0] · size u64 [· top [size]byte · used u64, if size is not 0]
//	others   body · pid, tid u32 · time u64 · cpu, 0 u32 · id u64
func decode(b []byte, registers uint64, r *Record) error {
	*r = Record{}
	if len(b) < headerSize {
		return fmt.Errorf("perf record of %d bytes: a header has %d", len(b), headerSize)
	}
	r.Type = Type(binary.NativeEndian.Uint32(b))
	r.Misc = binary.NativeEndian.Uint16(b[4:])
	if size := int(binary.NativeEndian.Uint16(b[6:])); size != len(b) || size%8 != 0 {
		return fmt.Errorf("perf record of type %d: its header says %d bytes of %d", r.Type, size, len(b))
	}
	body := b[headerSize:]
	if r.Type == Sample {
		return r.decodeSample(body, registers)
	}
	least, known := bodySize[r.Type]
	if !known {
		return nil
	}
	if len(body) < least+idSize {
		return fmt.Errorf("perf record of type %d has %d bytes, which is less than %d", r.Type, len(b), headerSize+least+idSize)
	}
	id := body[len(body)-idSize:]
	body = body[:len(body)-idSize]
	r.PID, r.TID = u32(id, 0), u32(id, 4)
	r.Time = u64(id, 8)
	r.CPU = u32(id, 16)
	r.ID = u64(id, 24)
	switch r.Type {
	case Mmap:
		r.PID, r.TID = u32(body, 0), u32(body, 4)
		r.Addr, r.Len, r.Offset = u64(body, 8), u64(body, 16), u64(body, 24)
		r.Name = cString(body[32:])
	case Mmap2:
		r.PID, r.TID = u32(body, 0), u32(body, 4)
		r.Addr, r.Len, r.Offset = u64(body, 8), u64(body, 16), u64(body, 24)
		if r.Misc&unix.PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
			// u8 size, 3 bytes reserved, u8 build_id[20]
			if n := int(body[32]); n <= 20 {
				r.BuildID = body[36 : 36+n : 36+n]
			}
		} else {
			r.Major, r.Minor, r.Inode, r.Generation = u32(body, 32), u32(body, 36), u64(body, 40), u64(body, 48)
		}
		r.Prot = u32(body, 56)
		r.Name = cString(body[64:])
	case Comm:
		r.PID, r.TID = u32(body, 0), u32(body, 4)
		r.Name = cString(body[8:])
	case Fork, Exit:
		r.PID, r.PPID = u32(body, 0), u32(body, 4)
		r.TID, r.PTID = u32(body, 8), u32(body, 12)
		r.Time = u64(body, 16)
	case Lost:
		r.ID, r.Count = u64(body, 0), u64(body, 8)
	case LostSamples:
		r.Count = u64(body, 0)
	case Throttle, Unthrottle:
		r.Time, r.ID = u64(body, 0), u64(body, 8)
	}
	return nil
}

// bodySize is the least size of a record between header and sample_id.
var bodySize = map[Type]int{
	Mmap:        32,
	Mmap2:       64,
	Comm:        8,
	Fork:        24,
	Exit:        24,
	Lost:        16,
	LostSamples: 8,
	Throttle:    24,
	Unthrottle:  24,
}

func (r *Record) decodeSample(body []byte, registers uint64) error {
	const fixed = 40
	if len(body) < fixed {
		return fmt.Errorf("perf sample of %d bytes, which is less than %d", headerSize+len(body), headerSize+fixed)
	}
	r.ID = u64(body, 0)
	r.PID, r.TID = u32(body, 8), u32(body, 12)
	r.Time = u64(body, 16)
	r.CPU = u32(body, 24)
	r.Period = u64(body, 32)
	if len(body) == fixed {
		return nil // Clock.NoChain
	}
	n := u64(body, fixed)
	chain := body[fixed+8:]
	if n > uint64(len(chain)/8) {
		return fmt.Errorf("perf sample of %d bytes: no room for a chain of %d addresses", headerSize+len(body), n)
	}
	r.Chain = wordsOf(chain[:8*n])
	return r.decodeRegisters(chain[8*n:], registers)
}

// decodeRegisters reads what PERF_SAMPLE_REGS_USER and PERF_SAMPLE_STACK_USER add to a sample
// (perf_output_sample and perf_output_sample_ustack).
func (r *Record) decodeRegisters(b []byte, registers uint64) error {
	const abi64 = 2 // PERF_SAMPLE_REGS_ABI_64; 0 is none: a kernel thread
	short := fmt.Errorf("perf sample ends in the middle of its registers")
	if len(b) < 8 {
		return short
	}
	abi := u64(b, 0)
	if b = b[8:]; abi != 0 {
		size := 8 * bits.OnesCount64(registers)
		if len(b) < size {
			return short
		}
		if abi == abi64 {
			word := func(bit int) uint64 {
				if registers>>bit&1 == 0 {
					return 0
				}
				return u64(b, 8*bits.OnesCount64(registers&(1<<bit-1)))
			}
			r.SP, r.FP = word(bitSP), word(bitFP)
			if bitLink >= 0 {
				r.Link = word(max(bitLink, 0))
			}
			if registers != sampleRegisters {
				r.Registers = wordsOf(b[:size])
			}
		}
		b = b[size:]
	}
	if len(b) < 8 {
		return short
	}
	size := u64(b, 0)
	b = b[8:]
	if r.SP == 0 {
		r.Registers = nil
	}
	if size == 0 || r.SP == 0 {
		return nil
	}
	if uint64(len(b)) < size || len(b)-int(size) < 8 {
		return short
	}
	used := min(u64(b, int(size)), size) // how much of it could be read
	for i := range r.Top {
		if uint64(8*i+8) <= used {
			r.Top[i] = u64(b, 8*i)
		}
	}
	if r.Registers != nil && used > 0 {
		r.Stack = b[:used:used]
	}
	return nil
}

// wordsOf takes bytes for words. Records begin at multiples of 8 in the ring and in the buffer for
// wrapped ones.
func wordsOf(b []byte) []uint64 {
	if len(b) < 8 {
		return nil
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

func u32(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }

// cString is b up to its first zero byte: names are padded with zeros to a multiple of 8.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i:i]
	}
	return b
}
