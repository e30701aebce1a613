package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// A Descriptors is a BPF program at the end of system calls, which tells of the processes that it is to
// watch which descriptors they open and close. While it is there, every system call of the machine
// takes some tens of nanoseconds longer; those of watched processes that open something, a microsecond
// or two.
//
// One goroutine at a time may call ReadInto. Watch, Forget, Lost and Close may be called by any.
type Descriptors struct {
	objects descriptorsObjects
	link    link.Link
	reader  *ringbuf.Reader
	record  ringbuf.Record // reused by ReadInto

	mu     sync.Mutex // guards closed and objects against Close
	closed bool
}

// A DescriptorEvent says that descriptors were opened or closed.
type DescriptorEvent struct {
	Opened bool
	Call   uint32 // number of the system call
	// First and Last are the descriptors, from one to the other, of a close; the two of an open, where
	// Last is -1 unless it opened two.
	First, Last int32
	// Sample is who did it, and for an open the stack of user code, whose first address is where the
	// code goes on after the call.
	Sample Sample
}

// What system calls do, CALL_… of descriptors.bpf.c.
const (
	callReturn = 1 + iota
	callPair0
	callPair3
	callFcntl
	callClose
	callRange
)

// Events, OPENED and CLOSED of descriptors.bpf.c.
const (
	eventOpened = 1 + iota
	eventClosed
)

// calls are the system calls that open or close descriptors and that all architectures have. Others are
// in callsHere. Descriptors that come through a socket (SCM_RIGHTS), from a clone with a pidfd, or
// from io_uring are not told of.
var calls = map[int]uint32{
	unix.SYS_OPENAT: callReturn, unix.SYS_OPENAT2: callReturn, unix.SYS_SOCKET: callReturn, unix.SYS_ACCEPT: callReturn,
	unix.SYS_ACCEPT4: callReturn, unix.SYS_DUP: callReturn, unix.SYS_DUP3: callReturn, unix.SYS_EVENTFD2: callReturn,
	unix.SYS_EPOLL_CREATE1: callReturn, unix.SYS_INOTIFY_INIT1: callReturn, unix.SYS_TIMERFD_CREATE: callReturn,
	unix.SYS_SIGNALFD4: callReturn, unix.SYS_MEMFD_CREATE: callReturn, unix.SYS_PIDFD_OPEN: callReturn,
	unix.SYS_PIDFD_GETFD: callReturn, unix.SYS_USERFAULTFD: callReturn, unix.SYS_PERF_EVENT_OPEN: callReturn,
	unix.SYS_FANOTIFY_INIT: callReturn, unix.SYS_IO_URING_SETUP: callReturn, unix.SYS_OPEN_BY_HANDLE_AT: callReturn,
	unix.SYS_MQ_OPEN: callReturn, unix.SYS_FSOPEN: callReturn, unix.SYS_FSMOUNT: callReturn, unix.SYS_OPEN_TREE: callReturn,
	unix.SYS_LANDLOCK_CREATE_RULESET: callReturn,
	unix.SYS_PIPE2:                   callPair0, unix.SYS_SOCKETPAIR: callPair3, unix.SYS_FCNTL: callFcntl,
	unix.SYS_CLOSE: callClose, unix.SYS_CLOSE_RANGE: callRange,
}

// NewDescriptors loads the program and attaches it. It tells nothing until Watch. The error says what is
// missing; it wraps [os.ErrPermission] where that is a privilege and [errors.ErrUnsupported] where it is
// the kernel.
func NewDescriptors() (*Descriptors, error) {
	spec, err := loadDescriptors()
	if err != nil {
		return nil, fmt.Errorf("read the BPF program for descriptors in this binary: %w", err)
	}
	dev, ino, err := pidNamespace()
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]uint64{descriptorsVarPidNsDev: dev, descriptorsVarPidNsIno: ino} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s in the BPF program for descriptors: %w", name, err)
		}
	}
	spec.Maps[descriptorsMapEvents].MaxEntries = 8 << 20 // 500 events with the most of a stack
	d := &Descriptors{}
	err = spec.LoadAndAssign(&d.objects, nil)
	if errors.Is(err, unix.EPERM) && liftMemlock() {
		err = spec.LoadAndAssign(&d.objects, nil)
	}
	if err != nil {
		return nil, explain("load the BPF program for descriptors", err)
	}
	fail := func(what string, err error) (*Descriptors, error) {
		d.objects.Close()
		return nil, explain(what, err)
	}
	for _, table := range []map[int]uint32{calls, callsHere} {
		for number, does := range table {
			if err := d.objects.Calls.Put(uint32(number), does); err != nil {
				return fail("tell the BPF program for descriptors of system calls", err)
			}
		}
	}
	if d.reader, err = ringbuf.NewReader(d.objects.Events); err != nil {
		return fail("map the ring buffer of the BPF program for descriptors", err)
	}
	d.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_exit", Program: d.objects.OnCall})
	if err != nil {
		d.reader.Close()
		return fail("attach the BPF program for descriptors to the end of system calls", err)
	}
	return d, nil
}

// maxDescriptorCopy is MAX_COPY of descriptors.bpf.c.
const maxDescriptorCopy = 16 << 10

// Watch has a process told of from now on: all its threads, but none of the processes that it starts. Of
// the user's stack so many bytes are copied (Sample.Stack), at most 16 KiB: none are needed where all code
// keeps frame pointers.
func (d *Descriptors) Watch(pid uint32, stackBytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("watch the descriptors of process %d: %w", pid, os.ErrClosed)
	}
	if err := d.objects.Watched.Put(pid, uint32(min(max(stackBytes, 0), maxDescriptorCopy))); err != nil {
		return fmt.Errorf("watch the descriptors of process %d: %w", pid, err)
	}
	return nil
}

// Forget ends Watch, which is for a process that has ended: its number may be another's soon.
func (d *Descriptors) Forget(pid uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	if err := d.objects.Watched.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("watch the descriptors of process %d no more: %w", pid, err)
	}
	return nil
}

// SetDeadline says until when ReadInto waits; the zero time is for ever.
func (d *Descriptors) SetDeadline(t time.Time) { d.reader.SetDeadline(t) }

// ReadInto takes the oldest event, reusing the slices of x. It waits for one until the deadline, and
// returns [os.ErrDeadlineExceeded] then; after Close an error that wraps [os.ErrClosed].
func (d *Descriptors) ReadInto(x *DescriptorEvent) error {
	if err := d.reader.ReadInto(&d.record); err != nil {
		return err
	}
	return decodeDescriptor(d.record.RawSample, x)
}

// Lost is how many events have found the ring full.
func (d *Descriptors) Lost() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var perCPU []uint64
	if d.closed || d.objects.Missed.Lookup(uint32(0), &perCPU) != nil {
		return 0
	}
	n := uint64(0)
	for _, x := range perCPU {
		n += x
	}
	return n
}

// Close detaches the program and frees it. Close twice is Close.
func (d *Descriptors) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.link.Close(), d.reader.Close(), d.objects.Close())
}

// descriptorBytes is the size of struct descriptor_event of descriptors.bpf.c.
const descriptorBytes = 16

// decodeDescriptor reads a record of the ring, all of it: 16 bytes that say event, system call and two
// descriptors, and then what decode reads. Where it fails, x is as it was.
func decodeDescriptor(raw []byte, x *DescriptorEvent) error {
	if len(raw) < descriptorBytes {
		return fmt.Errorf("BPF event of a descriptor of %d bytes: what it begins with alone has %d", len(raw), descriptorBytes)
	}
	event := binary.LittleEndian.Uint32(raw)
	if event != eventOpened && event != eventClosed {
		return fmt.Errorf("BPF event of a descriptor: there is no event %d", event)
	}
	if err := decode(raw[descriptorBytes:], &x.Sample); err != nil {
		return err
	}
	x.Opened = event == eventOpened
	x.Call = binary.LittleEndian.Uint32(raw[4:])
	x.First = int32(binary.LittleEndian.Uint32(raw[8:]))
	x.Last = int32(binary.LittleEndian.Uint32(raw[12:]))
	return nil
}
