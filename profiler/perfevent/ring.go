package perfevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MinRing and MaxRing bound the bytes of one ring.
const (
	MinRing = 64 << 10
	MaxRing = 64 << 20
)

// A Ring is the memory that the events of one CPU write their records to. The kernel writes at the
// head, the reader releases at the tail, and records that find no room between them are lost and
// counted.
//
// One goroutine at a time may use a Ring.
type Ring struct {
	fd   int // the event that owns the ring
	cpu  int
	mem  []byte // control page and data, as mapped
	data []byte // the data; its length is a power of two
	head *uint64
	tail *uint64

	next, scan cursor // where Next and Scan are
	last       uint64 // position of the record that Next returned last
	limit      uint64 // the head when it was last looked at
	broken     uint64 // bytes skipped

	registers uint64 // of samples
}

// A cursor is a position in a ring, in bytes since it was mapped, as head and tail are.
type cursor struct {
	pos     uint64
	wrapped []uint64 // the last record that went round the ring's end, put together
}

// OpenRing maps a ring of at least size bytes for a CPU; size is rounded up to a power of two and
// kept within MinRing and MaxRing. Pages count against kernel.perf_event_mlock_kb for each CPU and
// then against RLIMIT_MEMLOCK: the error wraps EPERM where these do not suffice, and a smaller ring
// may.
//
// The owner is an event that itself records nothing, on the main thread of this process, which
// lives as long as the process. So the ring outlives every task recorded, and polling it never
// reports a hang-up.
func OpenRing(cpu, size int) (*Ring, error) {
	size = 1 << bits.Len(uint(min(max(size, MinRing), MaxRing)-1))
	a := base()
	a.Config = unix.PERF_COUNT_SW_DUMMY
	a.Bits |= unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv
	a.Wakeup = uint32(size / 4) // watermark: the reader has three quarters of the ring as time to come
	fd, err := unix.PerfEventOpen(a, os.Getpid(), cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the ring of CPU %d: %w", cpu, err)
	}
	page := os.Getpagesize()
	mem, err := unix.Mmap(fd, 0, page+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map a ring of %d KiB for CPU %d: %w", size>>10, cpu, err)
	}
	control := (*unix.PerfEventMmapPage)(unsafe.Pointer(unsafe.SliceData(mem)))
	return &Ring{
		fd: fd, cpu: cpu, mem: mem, data: mem[page:],
		head: &control.Data_head, tail: &control.Data_tail,
		registers: sampleRegisters,
	}, nil
}

// OpenRings opens a ring for each CPU, all of one size: the largest not above size that the limits
// on locked memory allow. CPUs that are offline are left out.
func OpenRings(cpus []int, size int) ([]*Ring, error) {
	for {
		rings, err := openRings(cpus, size)
		if err == nil {
			return rings, nil
		}
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOMEM) || size <= MinRing {
			return nil, err
		}
		size /= 2
	}
}

func openRings(cpus []int, size int) ([]*Ring, error) {
	var rings []*Ring
	for _, cpu := range cpus {
		r, err := OpenRing(cpu, size)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			for _, r := range rings {
				r.Close()
			}
			return nil, err
		}
		rings = append(rings, r)
	}
	if len(rings) == 0 {
		return nil, fmt.Errorf("open perf rings: none of %d CPUs is online", len(cpus))
	}
	return rings, nil
}

// Expect says which registers the samples will have: Clock.Registers of all events that write to
// the ring. It is called before anything is read.
func (r *Ring) Expect(registers uint64) {
	if registers == 0 {
		registers = sampleRegisters
	}
	r.registers = registers
}

// CPU is the CPU the ring is for.
func (r *Ring) CPU() int { return r.cpu }

// FD is readable for poll(2) when a quarter of the ring was written since the last wakeup. It
// remains the ring's.
func (r *Ring) FD() int { return r.fd }

// Size is the ring's size in bytes.
func (r *Ring) Size() int { return len(r.data) }

// Fill looks at how far the kernel has come and says how many bytes there are that are not
// released. Next and Scan read up to there; what the kernel writes later waits for the next Fill.
func (r *Ring) Fill() int {
	// The kernel writes the records before the head (perf_output_put_handle); Go's atomic load
	// has the acquire semantics this needs.
	r.limit = atomic.LoadUint64(r.head)
	if n := r.limit - r.next.pos; n > uint64(len(r.data)) {
		// Cannot be: only this process writes the tail, and the kernel keeps behind it.
		r.broken += n
		r.next.pos, r.scan.pos, r.last = r.limit, r.limit, r.limit
	}
	return int(r.limit - r.last)
}

// Next decodes the next record and moves behind it. Its memory is kept while it is the last one
// returned.
func (r *Ring) Next(rec *Record) bool {
	r.last = r.next.pos
	for r.next.pos != r.limit {
		b, ok := r.next.take(r)
		if ok && decode(b, r.registers, rec) == nil {
			return true
		}
		r.broken += r.next.pos - r.last
		r.last = r.next.pos
	}
	return false
}

// Scan is Next with a position of its own, for a look at records before their turn. It never falls
// behind Next.
func (r *Ring) Scan(rec *Record) bool {
	if int64(r.scan.pos-r.next.pos) < 0 {
		r.scan.pos = r.next.pos
	}
	for r.scan.pos != r.limit {
		if b, ok := r.scan.take(r); ok && decode(b, r.registers, rec) == nil {
			return true
		}
	}
	return false
}

// take is the bytes of the record at the cursor, in one piece, and moves the cursor behind it.
// Where they make no sense nothing tells where the record after it begins, so everything up to the
// limit is skipped.
func (c *cursor) take(r *Ring) ([]byte, bool) {
	at, there := c.pos&uint64(len(r.data)-1), r.limit-c.pos
	c.pos = r.limit
	if there < headerSize || at%8 != 0 {
		return nil, false
	}
	// A header is 8 bytes at a multiple of 8, so it never wraps.
	size := uint64(binary.NativeEndian.Uint16(r.data[at+6:]))
	if size < headerSize || size%8 != 0 || size > there {
		return nil, false
	}
	c.pos -= there - size
	if end := at + size; end <= uint64(len(r.data)) {
		return r.data[at:end:end], true
	}
	if c.wrapped == nil {
		c.wrapped = make([]uint64, 1<<16/8) // a record's size is 16 bits
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&c.wrapped[0])), size)
	n := copy(b, r.data[at:])
	copy(b[n:], r.data)
	return b, true
}

// Release gives the memory of all records before the one that Next returned last back to the
// kernel, and that one's too when Next has returned false since.
func (r *Ring) Release() { atomic.StoreUint64(r.tail, r.last) }

// Broken is how many bytes made no sense and were skipped. It is 0 unless the kernel's format is
// not the one known here.
func (r *Ring) Broken() uint64 { return r.broken }

// Close unmaps the ring. Events that still write to it keep its memory alive in the kernel.
func (r *Ring) Close() error {
	return errors.Join(unix.Munmap(r.mem), unix.Close(r.fd))
}
