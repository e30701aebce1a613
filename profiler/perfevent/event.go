// Package perfevent opens perf events, maps the rings they write to, and decodes the records in
// them: perf_event_open(2) as far as sampling time with call chains needs it.
//
// One ring per CPU is shared by all events of that CPU, whatever task they follow. The package
// knows neither binaries nor symbols nor processes: a record's addresses are runtime addresses, and
// whom to record, in which order to read the rings, and what the records mean is the recorder's.
//
// Facts about the kernel's side are from include/uapi/linux/perf_event.h and kernel/events/core.c
// where nothing else is said.
package perfevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sampleType is what every event of this package puts into its samples, and, but for the last two,
// what sample_id_all puts at the end of every other record. Events that share a ring must agree on
// it, because a record's layout depends on it. The stack, which is last, may be missing.
const (
	sampleType = unix.PERF_SAMPLE_IDENTIFIER | unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME |
		unix.PERF_SAMPLE_CPU | unix.PERF_SAMPLE_PERIOD | sampleStack
	sampleStack = unix.PERF_SAMPLE_CALLCHAIN | unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER
)

// Bits of perf_event_attr that golang.org/x/sys/unix has no names for.
const bitBuildID = 1 << 34 // Linux 5.12: MMAP2 records carry the build ID where there is one

// A Clock describes an event that samples a task's or a CPU's running time: PERF_COUNT_SW_CPU_CLOCK.
// The zero Clock but for Period follows one task with the kernel's time included.
type Clock struct {
	// Period is the running time from one sample to the next, at least 10 µs. A fixed period is
	// not subject to kernel.perf_event_max_sample_rate, and is what the kernel makes of a
	// frequency for this event anyway (perf_swevent_init_hrtimer).
	Period time.Duration
	// ExcludeKernel leaves out both the samples taken in the kernel and the kernel's part of call
	// chains. Without it perf_event_paranoid must be 1 or less, or CAP_PERFMON held.
	ExcludeKernel bool
	// Inherit has threads and processes that the task starts from now on recorded too.
	Inherit bool
	// Disabled opens the event without starting it: no samples, and none of the task's records.
	Disabled bool
	// NoChain has samples without Record.Chain and the user's registers: for an event whose samples a BPF program takes,
	// which would otherwise be given a copy of the chain with the markers in it
	// (bpf_get_stack_pe, kernel/bpf/stackmap.c).
	NoChain bool
	// Registers are the user's registers that samples have (Record.Registers), as bits of
	// perf_event_attr.sample_regs_user, and StackBytes is how much of the user's stack, at most
	// MaxStackBytes (Record.Stack). Both are 0 where only a leaf's caller is to be found: then there
	// are what Record.SP to Record.Top need. All events of a ring must have the same Registers, which
	// Ring.Expect is to be told.
	Registers  uint64
	StackBytes int
	// EnableOnExec starts a disabled event, or one inherited from it, when its task calls exec.
	EnableOnExec bool
}

// MaxStackBytes is how much of a stack a sample can have: the kernel takes less of it where a record
// would have more than 64 KiB (perf_sample_ustack_size).
const MaxStackBytes = 1<<16 - 8

// Features of newer kernels, dropped at the first EINVAL.
const (
	featureLost    = 1 << iota // PERF_FORMAT_LOST, Linux 6.0
	featureBuildID             // perf_event_attr.build_id, Linux 5.12
	allFeatures    = featureLost | featureBuildID
)

var withheld atomic.Uint32 // features that this kernel has refused

func (c Clock) attr(features uint32) *unix.PerfEventAttr {
	a := base()
	a.Config = unix.PERF_COUNT_SW_CPU_CLOCK
	a.Sample = uint64(c.Period)
	// Task: FORK and EXIT. Comm with CommExec: names, and which of them an exec gave.
	a.Bits |= unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitComm | unix.PerfBitCommExec |
		unix.PerfBitTask | unix.PerfBitExcludeIdle | unix.PerfBitExcludeHv | unix.PerfBitExcludeGuest
	if features&featureBuildID != 0 {
		a.Bits |= bitBuildID
	}
	if features&featureLost != 0 {
		a.Read_format = unix.PERF_FORMAT_LOST
	}
	if c.ExcludeKernel {
		a.Bits |= unix.PerfBitExcludeKernel | unix.PerfBitExcludeCallchainKernel
	}
	if c.NoChain {
		a.Sample_type &^= sampleStack
		a.Sample_regs_user, a.Sample_stack_user = 0, 0
	}
	if c.Registers != 0 && !c.NoChain {
		a.Sample_regs_user = c.Registers
		a.Sample_stack_user = uint32(min(max(c.StackBytes, int(a.Sample_stack_user)), MaxStackBytes)) &^ 7
	}
	if c.Inherit {
		a.Bits |= unix.PerfBitInherit
	}
	if c.Disabled {
		a.Bits |= unix.PerfBitDisabled
	}
	if c.EnableOnExec {
		a.Bits |= unix.PerfBitEnableOnExec
	}
	return a
}

// base is what all events have in common. Wakeup stays 0 and the watermark is the ring's, so that
// no event wakes the reader by itself.
func base() *unix.PerfEventAttr {
	return &unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample_type: sampleType,

		Sample_regs_user:  sampleRegisters,
		Sample_stack_user: uint32(unsafe.Sizeof(Record{}.Top)),

		Bits:    unix.PerfBitUseClockID | unix.PerfBitSampleIDAll | unix.PerfBitWatermark,
		Clockid: unix.CLOCK_MONOTONIC,
	}
}

// An Event is an open perf event. It must be closed; closing ends it for every task that inherited
// it.
type Event struct {
	fd  int
	id  uint64
	cpu int
}

// Open opens c for a task (a TID; 0 the calling thread, -1 every task) while it is on a CPU, and
// has the event write to the ring of that CPU, which may be nil where nothing reads its records.
//
// The error wraps the kernel's: EACCES or EPERM no permission, ESRCH no such task, ENODEV the CPU
// is offline, EMFILE too many open files.
func (c Clock) Open(tid, cpu int, ring *Ring) (*Event, error) {
	for {
		features := allFeatures &^ withheld.Load()
		fd, err := unix.PerfEventOpen(c.attr(features), tid, cpu, alone, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.EINVAL) && features != 0 {
			// The newest first: a kernel without it may have the others.
			drop := features & -features
			withheld.Or(drop)
			continue
		}
		if err != nil {
			if features == 0 && errors.Is(err, unix.EINVAL) {
				withheld.Store(0) // it was something else
			}
			return nil, fmt.Errorf("open a perf event on task %d, CPU %d: %w", tid, cpu, err)
		}
		e, err := adopt(fd, cpu, ring)
		if err != nil {
			return nil, fmt.Errorf("open a perf event on task %d, CPU %d: %w", tid, cpu, err)
		}
		return e, nil
	}
}

// alone is the group_fd of an event that is in no group.
const alone = -1

// A Guard holds on to one task, so that an event can be opened on that very task and no other that has
// come by its number. It is an event that only counts, and counts nothing. It must be closed; events
// that were opened beside it stay.
type Guard struct{ fd, tid, cpu int }

// OpenGuard opens one on a task with the rights of the calling thread: it asks for nothing that an
// ordinary user may not have of their own processes.
func OpenGuard(tid, cpu int, inherit bool) (*Guard, error) {
	a := &unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Bits: unix.PerfBitDisabled | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv | unix.PerfBitUseClockID,
		// Events of a group have one clock, and a group is inherited where its leader is.
		Clockid: unix.CLOCK_MONOTONIC,
	}
	if inherit {
		a.Bits |= unix.PerfBitInherit
	}
	fd, err := unix.PerfEventOpen(a, tid, cpu, alone, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a perf event on task %d, CPU %d: %w", tid, cpu, err)
	}
	return &Guard{fd, tid, cpu}, nil
}

// Open is as Clock.Open, on the task and the CPU of the guard, and without a ring. It fails if the task
// has ended, or has been given privileges by exec since the guard was opened: the kernel opens an event
// in a group only on the task of its leader, which it has taken from such a task (perf_event_open and
// perf_event_exit_task, kernel/events/core.c). The error wraps ESRCH then, EINVAL or ENODEV.
func (g *Guard) Open(c Clock) (*Event, error) {
	open := func() (*Event, error) {
		fd, err := unix.PerfEventOpen(c.attr(allFeatures&^withheld.Load()), g.tid, g.cpu, g.fd, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("open a perf event on task %d, CPU %d: %w", g.tid, g.cpu, err)
		}
		return adopt(fd, g.cpu, nil)
	}
	e, err := open()
	if errors.Is(err, unix.EINVAL) {
		// Perhaps for a feature that this kernel has not: an event of one's own tells.
		before := withheld.Load()
		if own, err := c.Open(0, g.cpu, nil); err == nil {
			own.Close()
		}
		if withheld.Load() != before {
			return open()
		}
	}
	return e, err
}

// Close ends the guard.
func (g *Guard) Close() error { return unix.Close(g.fd) }

// Adopt makes an Event of the descriptor of one that another process has opened, for a CPU, and has it
// write to a ring, which may be nil. It takes the descriptor over, and closes it where it fails.
func Adopt(fd, cpu int, ring *Ring) (*Event, error) {
	unix.CloseOnExec(fd)
	e, err := adopt(fd, cpu, ring)
	if err != nil {
		return nil, fmt.Errorf("take over a perf event of CPU %d: %w", cpu, err)
	}
	return e, nil
}

func adopt(fd, cpu int, ring *Ring) (*Event, error) {
	e := &Event{fd: fd, cpu: cpu}
	if err := e.setUp(ring); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return e, nil
}

func (e *Event) setUp(ring *Ring) error {
	if err := ioctlPointer(e.fd, unix.PERF_EVENT_IOC_ID, unsafe.Pointer(&e.id)); err != nil {
		return fmt.Errorf("ask for its id: %w", err)
	}
	if ring == nil {
		return nil
	}
	if err := unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_SET_OUTPUT, ring.fd); err != nil {
		return fmt.Errorf("redirect it to the ring of CPU %d: %w", ring.cpu, err)
	}
	return nil
}

// ID is what records of this event, and of all events inherited from it, carry as Record.ID.
func (e *Event) ID() uint64 { return e.id }

// FD is the event's file descriptor, which remains the event's.
func (e *Event) FD() int { return e.fd }

// Enable starts the event in its task and in all that inherited it.
func (e *Event) Enable() error { return e.control("start", unix.PERF_EVENT_IOC_ENABLE) }

// Disable stops it likewise. Records that are in the ring stay there.
func (e *Event) Disable() error { return e.control("stop", unix.PERF_EVENT_IOC_DISABLE) }

func (e *Event) control(verb string, request uint) error {
	if err := unix.IoctlSetInt(e.fd, request, 0); err != nil {
		return fmt.Errorf("%s the perf event on CPU %d: %w", verb, e.cpu, err)
	}
	return nil
}

// Counts are what an event has counted so far, together with all that inherited it.
type Counts struct {
	Ran  time.Duration // running time of its tasks on its CPU, the kernel's included, sampled or not
	Lost uint64        // records that found the ring full; 0 before Linux 6.0, which does not tell
}

// Read reads the event's counts.
func (e *Event) Read() (Counts, error) {
	var b [16]byte // struct read_format: value, lost
	n, err := unix.Read(e.fd, b[:])
	if err != nil {
		return Counts{}, fmt.Errorf("read the perf event on CPU %d: %w", e.cpu, err)
	}
	c := Counts{Ran: time.Duration(binary.NativeEndian.Uint64(b[:]))}
	if n == len(b) {
		c.Lost = binary.NativeEndian.Uint64(b[8:])
	}
	return c, nil
}

// Close ends the event. It may wait for other CPUs to let go of it; stop many events before
// closing them, and close them where nobody waits.
func (e *Event) Close() error { return unix.Close(e.fd) }

func ioctlPointer(fd int, request uintptr, p unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}

// MaxStack is how many addresses a call chain has at most: kernel.perf_event_max_stack, which
// counts kernel and user addresses together.
func MaxStack() int {
	return sysctl("perf_event_max_stack", 127)
}

// Paranoid is the value of kernel.perf_event_paranoid; ok is false where it cannot be read.
func Paranoid() (value int, ok bool) {
	const absent = -1 << 31
	value = sysctl("perf_event_paranoid", absent)
	return value, value != absent
}

func sysctl(name string, otherwise int) int {
	text, err := os.ReadFile("/proc/sys/kernel/" + name)
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return otherwise
	}
	return n
}

// OnlineCPUs lists the CPUs that are online, ascending.
func OnlineCPUs() ([]int, error) {
	const file = "/sys/devices/system/cpu/online"
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("list the CPUs (is /sys mounted?): %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("list the CPUs in %s: %w", file, err)
	}
	return cpus, nil
}

// parseCPUs reads the kernel's list format: "0-3,8,10-11".
func parseCPUs(text string) ([]int, error) {
	const most = 1 << 16 // NR_CPUS is 8192 at most; a bound for nonsense
	var cpus []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(last)
		}
		if err != nil || a < 0 || b < a || b >= most || len(cpus) > 0 && a <= cpus[len(cpus)-1] {
			return nil, fmt.Errorf("%q is not a list of CPUs", text)
		}
		for cpu := a; cpu <= b; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
