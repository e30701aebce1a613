package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// An Allocations is BPF programs on the functions of one process's allocator: of every so many bytes one
// allocation is taken down with its stack, and told of again when it is freed. It needs CAP_BPF and
// CAP_PERFMON, or root, and Linux 5.15; from 6.13 on, functions that are not taken down cost half.
//
// One goroutine at a time may call ReadInto. The others may be called by any.
type Allocations struct {
	objects allocationsObjects
	session bool // one program for a function's beginning and end
	links   []io.Closer
	reader  *ringbuf.Reader
	record  ringbuf.Record // reused by ReadInto

	mu     sync.Mutex // guards closed and objects against Close
	closed bool
}

// An Argument is one of a function's, by its place in a call: 1 is the first, 0 is none.
type Argument uint8

// An AllocationFunction is a function of an allocator, and what its arguments are.
type AllocationFunction struct {
	Path   string // a file that has it, as this process may open it
	Offset uint64 // in the file, of the instruction that is probed
	Size   Argument
	Count  Argument // times Size
	Frees  Argument // what is freed before anything is allocated
	Result Argument // where the result is put; else it is returned
}

// allocates says whether the function allocates anything.
func (f *AllocationFunction) allocates() bool { return f.Size != 0 }

// cookie is how allocations.bpf.c is told of the arguments.
func (f *AllocationFunction) cookie() uint64 {
	word := func(a Argument) uint64 {
		if a == 0 || int(a) > len(argumentWords) {
			return 0
		}
		return uint64(argumentWords[a-1]) + 1
	}
	return word(f.Size) | word(f.Count)<<8 | word(f.Frees)<<16 | word(f.Result)<<24
}

// AllocationOptions say what is taken down.
type AllocationOptions struct {
	// Period is how many bytes it is from one allocation that is taken down to the next, on average; 1
	// takes down all.
	Period uint64
	// StackBytes is how much of the stack is copied, at most 16 KiB: none is needed where all code keeps
	// frame pointers.
	StackBytes int
	// NoSession has the kernel's older probes used, for tests.
	NoSession bool
}

// An AllocationEvent is one allocation, or the end of one.
type AllocationEvent struct {
	Freed bool
	ID    uint64 // of the allocation; not 0
	Size  uint64 // bytes that were asked for; 0 where it ends
	Time  uint64 // CLOCK_MONOTONIC, ns
	// Sample is who did it and the stack of user code, whose first address is in the allocator; of an
	// allocation only.
	Sample Sample
}

// AllocationCounts are what could not be told.
type AllocationCounts struct {
	Missed  uint64 // allocations that found the ring full
	Full    uint64 // allocations whose end is not seen, because too many are there
	Unfreed uint64 // ends that found the ring full
}

// NewAllocations loads the programs; Attach has them tell something. The error says what is missing; it
// wraps [os.ErrPermission] where that is a privilege and [errors.ErrUnsupported] where it is the kernel.
func NewAllocations(o AllocationOptions) (*Allocations, error) {
	dev, ino, err := pidNamespace()
	if err != nil {
		return nil, err
	}
	load := func(session bool) (*Allocations, error) {
		spec, err := loadAllocations()
		if err != nil {
			return nil, fmt.Errorf("read the BPF program for allocations in this binary: %w", err)
		}
		var table [257]uint32
		for i := range table {
			table[i] = uint32(math.Round(math.Log2(1+float64(i)/256) * 65536))
		}
		for name, value := range map[string]any{
			allocationsVarPidNsDev: dev, allocationsVarPidNsIno: ino, allocationsVarLogarithms: table,
			allocationsVarPeriod: max(o.Period, 1), allocationsVarCopy: uint64(min(max(o.StackBytes, 0), maxAllocationCopy)),
		} {
			if err := spec.Variables[name].Set(value); err != nil {
				return nil, fmt.Errorf("set %s in the BPF program for allocations: %w", name, err)
			}
		}
		spec.Maps[allocationsMapAllocations].MaxEntries = 64 << 20 // 3,000 allocations with the most of a stack, ten times as many with what stacks mostly have
		a := &Allocations{session: session}
		if session {
			spec.Programs[allocationsProgOnFunction].AttachType = attachUprobeSession
			return a, spec.LoadAndAssign(&a.objects, nil)
		}
		// The kernel would have to know the session's functions to load it.
		var plain struct {
			OnCall      *ebpf.Program `ebpf:"on_call"`
			OnReturn    *ebpf.Program `ebpf:"on_return"`
			CountCall   *ebpf.Program `ebpf:"count_call"`
			Allocations *ebpf.Map     `ebpf:"allocations"`
			Counted     *ebpf.Map     `ebpf:"counted"`
			Live        *ebpf.Map     `ebpf:"live"`
			Pending     *ebpf.Map     `ebpf:"pending"`
			Rooms       *ebpf.Map     `ebpf:"rooms"`
		}
		if err := spec.LoadAndAssign(&plain, nil); err != nil {
			return a, err
		}
		a.objects.OnCall, a.objects.OnReturn, a.objects.CountCall = plain.OnCall, plain.OnReturn, plain.CountCall
		a.objects.Allocations, a.objects.Counted, a.objects.Live, a.objects.Pending = plain.Allocations, plain.Counted, plain.Live, plain.Pending
		a.objects.Rooms = plain.Rooms
		return a, nil
	}
	try := func(session bool) (*Allocations, error) {
		a, err := load(session)
		if errors.Is(err, unix.EPERM) && liftMemlock() {
			a, err = load(session)
		}
		return a, err
	}
	var a *Allocations
	if !o.NoSession && atLeast(release(), 6, 13) {
		a, err = try(true)
	}
	if a == nil || err != nil {
		if a, err = try(false); err != nil {
			return nil, explain("load the BPF program for allocations", err)
		}
	}
	if a.reader, err = ringbuf.NewReader(a.objects.Allocations); err != nil {
		a.closeObjects()
		return nil, explain("map the ring buffer of the BPF program for allocations", err)
	}
	return a, nil
}

// maxAllocationCopy is MAX_COPY of allocations.bpf.c.
const maxAllocationCopy = 16 << 10

// attachUprobeSession is BPF_TRACE_UPROBE_SESSION of include/uapi/linux/bpf.h.
const attachUprobeSession = ebpf.AttachType(57)

// Attach puts the programs on the functions of a process. What is attached when it fails goes with Close.
func (a *Allocations) Attach(pid int, functions []AllocationFunction) error {
	return a.attach(pid, functions, func(path string, of []AllocationFunction) error {
		if a.session {
			l, err := attachSession(a.objects.OnFunction, path, of, pid)
			if err == nil {
				a.links = append(a.links, l)
			}
			return err
		}
		for _, f := range of {
			if err := a.probe(path, f, pid, a.objects.OnCall, false); err != nil {
				return err
			}
			if f.allocates() {
				if err := a.probe(path, f, pid, a.objects.OnReturn, true); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Count has calls of the functions counted and nothing else, until Close. Calls answers how many there
// were.
func (a *Allocations) Count(pid int, functions []AllocationFunction) error {
	return a.attach(pid, functions, func(path string, of []AllocationFunction) error {
		for _, f := range of {
			if err := a.probe(path, f, pid, a.objects.CountCall, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// Detach takes all programs off.
func (a *Allocations) Detach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.detach()
}

func (a *Allocations) detach() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	a.links = nil
	return errors.Join(errs...)
}

func (a *Allocations) attach(pid int, functions []AllocationFunction, file func(string, []AllocationFunction) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("follow the allocations of process %d: %w", pid, os.ErrClosed)
	}
	byPath := map[string][]AllocationFunction{}
	var paths []string
	for _, f := range functions {
		if byPath[f.Path] == nil {
			paths = append(paths, f.Path)
		}
		byPath[f.Path] = append(byPath[f.Path], f)
	}
	for _, path := range paths {
		if err := file(path, byPath[path]); err != nil {
			return explain(fmt.Sprintf("attach to the allocator of process %d in %s", pid, path), err)
		}
	}
	return nil
}

// probe attaches a program by itself, as kernels since 5.15 can.
func (a *Allocations) probe(path string, f AllocationFunction, pid int, program *ebpf.Program, end bool) error {
	x, err := link.OpenExecutable(path)
	if err != nil {
		return err
	}
	o := &link.UprobeOptions{Address: f.Offset, PID: pid, Cookie: f.cookie()}
	var l link.Link
	if end {
		l, err = x.Uretprobe("", program, o)
	} else {
		l, err = x.Uprobe("", program, o)
	}
	if err == nil {
		a.links = append(a.links, l)
	}
	return err
}

// sessionLink is the kernel's link of a program to functions of a file.
type sessionLink int

func (l sessionLink) Close() error { return unix.Close(int(l)) }

// attachSession is BPF_LINK_CREATE for BPF_TRACE_UPROBE_SESSION, which cilium/ebpf has not: union bpf_attr of
// include/uapi/linux/bpf.h, link_create.uprobe_multi.
func attachSession(program *ebpf.Program, path string, functions []AllocationFunction, pid int) (io.Closer, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, err
	}
	var offsets, cookies []uint64
	for i := range functions {
		offsets, cookies = append(offsets, functions[i].Offset), append(cookies, functions[i].cookie())
	}
	attr := struct {
		program, target, attachType, flags uint32
		path, offsets, refCounts, cookies  uint64
		count, multiFlags, pid, _          uint32
	}{
		program: uint32(program.FD()), attachType: uint32(attachUprobeSession),
		path: address(unsafe.Pointer(name)), offsets: address(unsafe.Pointer(&offsets[0])), cookies: address(unsafe.Pointer(&cookies[0])),
		count: uint32(len(functions)), pid: uint32(pid),
	}
	const linkCreate = 28 // BPF_LINK_CREATE
	fd, _, errno := unix.Syscall(unix.SYS_BPF, linkCreate, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(name)
	runtime.KeepAlive(offsets)
	runtime.KeepAlive(cookies)
	if errno != 0 {
		return nil, fmt.Errorf("link %d functions: %w", len(functions), errno)
	}
	return sessionLink(fd), nil
}

func address(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }

// SetDeadline says until when ReadInto waits; the zero time is for ever.
func (a *Allocations) SetDeadline(t time.Time) { a.reader.SetDeadline(t) }

// ReadInto takes the oldest event, reusing the slices of x. It waits for one until the deadline, and
// returns [os.ErrDeadlineExceeded] then; after Close an error that wraps [os.ErrClosed].
func (a *Allocations) ReadInto(x *AllocationEvent) error {
	if err := a.reader.ReadInto(&a.record); err != nil {
		return err
	}
	return decodeAllocation(a.record.RawSample, x)
}

// Waiting is how many bytes of events are to be read.
func (a *Allocations) Waiting() int { return a.reader.AvailableBytes() }

// cpuCounts is struct counts of allocations.bpf.c.
type cpuCounts struct {
	Left                                int64
	Calls, Missed, Full, Taken, Unfreed uint64
}

func (a *Allocations) counts() (sum cpuCounts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var perCPU []cpuCounts
	if a.closed || a.objects.Counted.Lookup(uint32(0), &perCPU) != nil {
		return sum
	}
	for _, c := range perCPU {
		sum.Calls += c.Calls
		sum.Missed += c.Missed
		sum.Full += c.Full
		sum.Taken += c.Taken
		sum.Unfreed += c.Unfreed
	}
	return sum
}

// Calls is how many calls Count has counted.
func (a *Allocations) Calls() uint64 { return a.counts().Calls }

// Counts is what was not told so far.
func (a *Allocations) Counts() AllocationCounts {
	c := a.counts()
	return AllocationCounts{Missed: c.Missed, Full: c.Full, Unfreed: c.Unfreed}
}

// Close detaches the programs and frees them. Close twice is Close.
func (a *Allocations) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	return errors.Join(a.detach(), a.reader.Close(), a.closeObjects())
}

func (a *Allocations) closeObjects() error {
	var errs []error
	for _, p := range []*ebpf.Program{a.objects.OnFunction, a.objects.OnCall, a.objects.OnReturn, a.objects.CountCall} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	for _, m := range []*ebpf.Map{a.objects.Allocations, a.objects.Counted, a.objects.Live, a.objects.Pending, a.objects.Rooms} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Events, ALLOCATED and FREED of allocations.bpf.c, and the size of struct allocation_event.
const (
	eventAllocated  = 1
	eventFreed      = 2
	allocationBytes = 32
)

// decodeAllocation reads a record of the ring, all of it: what it begins with, and for an allocation what decode
// reads. Where it fails, x is as it was.
func decodeAllocation(raw []byte, x *AllocationEvent) error {
	if len(raw) < allocationBytes {
		return fmt.Errorf("BPF event of an allocation of %d bytes: what it begins with alone has %d", len(raw), allocationBytes)
	}
	event := binary.LittleEndian.Uint32(raw)
	id, size, time := binary.LittleEndian.Uint64(raw[8:]), binary.LittleEndian.Uint64(raw[16:]), binary.LittleEndian.Uint64(raw[24:])
	if id == 0 || event != eventAllocated && event != eventFreed {
		return fmt.Errorf("BPF event %d of allocation %d: there is no such event", event, id)
	}
	if event == eventAllocated {
		if err := decode(raw[allocationBytes:], &x.Sample); err != nil {
			return err
		}
	} else if len(raw) != allocationBytes {
		return fmt.Errorf("BPF event of an allocation of %d bytes: its end has %d", len(raw), allocationBytes)
	}
	x.Freed, x.ID, x.Size, x.Time = event == eventFreed, id, size, time
	return nil
}
