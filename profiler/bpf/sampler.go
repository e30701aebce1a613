package bpf

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// MaxDepth is the greatest depth of a stack that a Sampler can copy, each of kernel and user
// (MAX_DEPTH of sampler.bpf.c).
const MaxDepth = 1024

// MaxCopyBytes is the most of a stack that a Sampler copies (MAX_COPY of sampler.bpf.c).
const MaxCopyBytes = 64 << 10

// MaxPast is how many frames a PastStack has at most (MAX_PAST of sampler.bpf.c).
const MaxPast = 64

// ErrFlushed is returned by ReadInto after Flush, when it has returned what there was.
var ErrFlushed = ringbuf.ErrFlushed

// Options of a Sampler. The zero value is good for a thousand samples per second on each CPU and a
// reader that comes ten times per second.
type Options struct {
	// RingBytes is the size of the ring buffer; it is rounded up to a power of two and to a page.
	// 0: 256 KiB for each CPU, at least 1 MiB and at most 64 MiB.
	RingBytes int
	// Depth is how many addresses of each stack are copied, at most kernel.perf_event_max_stack
	// and MaxDepth. 0: as many as these two allow.
	Depth int
	// Copies has samples carry the user's registers and stack (Sample.Stack), as the rules of their
	// processes say, and Copy for processes that have no rule. Samples of kernel code need Linux 5.15 for
	// that.
	Copies bool
	Copy   CopyRule
}

// A CopyRule says how much of the stacks of a process is copied. Code from Start up to End keeps frame
// pointers: where it runs nothing is.
type CopyRule struct {
	Start, End uint64 // user addresses
	Bytes      int    // of each stack, at most MaxCopyBytes
	// Go is for programs of Go and C, whose threads have two stacks: with it both are copied
	// (Sample.Other). That takes Linux 5.15 with BTF, and is done on amd64 only.
	Go GoStacks
}

// GoStacks says where Go's runtime keeps the pointers that lead from a thread to its other stack: the
// goroutine's where C runs on the thread's own, and the other way round. The zero value says nothing.
type GoStacks struct {
	TLS      int64  // of the pointer to the running g, from the thread's FS base, in bytes
	M, SP    uint32 // of g.m and g.sched.sp in a g, in bytes
	CurrentG uint32 // of m.curg in an m
}

// A PastStack is a thread's stack as it once was: return addresses and where on the stack they are, the
// outermost first, which is at the highest address. There are at most MaxPast.
type PastStack struct {
	ID        uint32 // Sample.Past: not 0, and another for each
	At, Value []uint64
}

// A Sampler is a BPF program in the kernel and the ring buffer it writes samples to. It samples
// nothing until it is attached to a perf event and that event is enabled.
//
// One goroutine at a time may call SetDeadline and ReadInto. Attach, SetCopy, SetPast, ForgetPast,
// Flush, Lost, Depth and Close may be called by any.
type Sampler struct {
	objects samplerObjects
	reader  *ringbuf.Reader
	record  ringbuf.Record // ReadInto's
	depth   int

	mu       sync.Mutex // guards closed, lastLost, past, and objects against Close
	closed   bool
	lastLost uint64
	past     samplerPast // SetPast's
}

// NewSampler loads the program into the kernel. The error says what is missing; it wraps
// [os.ErrPermission] where that is a privilege and [errors.ErrUnsupported] where it is the kernel.
func NewSampler(opts Options) (*Sampler, error) {
	spec, err := loadSampler()
	if err != nil {
		return nil, fmt.Errorf("read the BPF sampler in this binary: %w", err)
	}
	s := &Sampler{depth: stackDepth(opts.Depth)}
	ring := ringBytes(opts.RingBytes, runtime.NumCPU(), os.Getpagesize())
	spec.Maps[samplerMapRing].MaxEntries = uint32(ring)
	dev, ino, err := pidNamespace()
	if err != nil {
		return nil, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs for the BPF sampler (is /sys mounted?): %w", err)
	}
	spec.Maps[samplerMapScratch].MaxEntries = uint32(cpus)
	copies := uint64(0)
	if opts.Copies {
		copies = 1
	} else {
		spec.Maps[samplerMapCopyRules].MaxEntries = 1
		spec.Maps[samplerMapPasts].MaxEntries = 1
	}
	// The kernel refuses the last of them in lockdown=confidentiality (bpf_tracing_func_proto,
	// kernel/trace/bpf_trace.c).
	registers := uint64(1)
	for _, helper := range []asm.BuiltinFunc{asm.FnTaskPtRegs, asm.FnGetCurrentTaskBtf, asm.FnProbeReadKernel} {
		if features.HaveProgramHelper(ebpf.PerfEvent, helper) != nil {
			registers = 0
		}
	}
	// An eighth: at the default size and rate the reader's timer is sooner by far, and a reader
	// that is woken has seven eighths of the ring as time to come.
	for name, value := range map[string]uint64{
		samplerVarDepth:    uint64(s.depth),
		samplerVarWakeAt:   uint64(ring / 8),
		samplerVarPidNsDev: dev,
		samplerVarPidNsIno: ino,

		samplerVarTaskRegisters: registers,

		samplerVarCopies: copies,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s in the BPF sampler: %w", name, err)
		}
	}
	if err := spec.Variables[samplerVarCopyDefault].Set(opts.Copy.kernel()); err != nil {
		return nil, fmt.Errorf("set %s in the BPF sampler: %w", samplerVarCopyDefault, err)
	}
	err = spec.LoadAndAssign(&s.objects, nil)
	if errors.Is(err, unix.EPERM) && liftMemlock() {
		err = spec.LoadAndAssign(&s.objects, nil)
	}
	if err != nil {
		return nil, explain("load the BPF sampler", err)
	}
	s.reader, err = ringbuf.NewReader(s.objects.Ring)
	if err != nil {
		s.objects.Close()
		return nil, explain("map the BPF sampler's ring buffer", err)
	}
	return s, nil
}

// TryRing makes a ring buffer and throws it away: the error is as NewSampler's. That needs CAP_BPF
// alone, so it tells which of the two capabilities is missing.
func TryRing() error {
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		return explain("create a BPF ring buffer", err)
	}
	return ring.Close()
}

// Depth is how many addresses of each stack are copied at most.
func (s *Sampler) Depth() int { return s.depth }

// Attach has a perf event's samples go to the ring buffer instead of the event's own. That lasts
// as long as the event: there is no detaching, and perfFD remains the caller's. To be covered too,
// children that inherit the event (perf_event_attr.inherit) must be started after Attach; the
// kernel gives them the program of their parent's event (perf_event_alloc, kernel/events/core.c).
//
// The event needs no ring of its own, so one that is inherited may have cpu -1, which could not be
// mapped. Its sample type is best 0, or what the other records of the event are to carry: the kernel
// prepares what it names before it calls the program, for nobody. With PERF_SAMPLE_CALLCHAIN in it
// the two stacks are the two parts of one chain, which is cut at kernel.perf_event_max_stack as a
// whole, and KernelCut and UserCut do not tell. Only events with perf_event_attr.precise_ip must
// have it (else EPROTO).
//
// A BPF link (Linux 5.15) would do the same at the price of a second file descriptor for every
// event, of which there is one per thread or CPU. All that it gives is detaching, and the recorder
// closes its events anyway.
func (s *Sampler) Attach(perfFD int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("attach the BPF sampler: %w", os.ErrClosed)
	}
	err := unix.IoctlSetInt(perfFD, unix.PERF_EVENT_IOC_SET_BPF, s.objects.OnSample.FD())
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("attach the BPF sampler to perf event %d: it has a BPF program already: %w", perfFD, err)
	}
	if err != nil {
		return fmt.Errorf("attach the BPF sampler to perf event %d: %w", perfFD, err)
	}
	return nil
}

// SetCopy gives a process its rule, or another one. The Sampler forgets the rules that were not used
// for the longest time where there are more than 16,384.
func (s *Sampler) SetCopy(pid uint32, r CopyRule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("set how stacks of process %d are copied: %w", pid, os.ErrClosed)
	}
	if err := s.objects.CopyRules.Put(pid, r.kernel()); err != nil {
		return fmt.Errorf("set how stacks of process %d are copied: %w", pid, err)
	}
	return nil
}

// SetPast has a thread's stack copied from now on only as far as it has changed (Sample.Past). The Sampler
// forgets the stacks of the threads that were not sampled for the longest time where there are more than
// MaxPastThreads.
func (s *Sampler) SetPast(tid uint32, p *PastStack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("set the stack that thread %d had: %w", tid, os.ErrClosed)
	}
	x := &s.past
	x.Id, x.Count = p.ID, uint32(min(len(p.At), len(p.Value), MaxPast))
	for i := range x.Count {
		x.Frames[i].At, x.Frames[i].Value = p.At[i], p.Value[i]
	}
	if err := s.objects.Pasts.Put(tid, x); err != nil {
		return fmt.Errorf("set the stack that thread %d had: %w", tid, err)
	}
	return nil
}

// ForgetPast ends SetPast, which is for a thread that has ended.
func (s *Sampler) ForgetPast(tid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if err := s.objects.Pasts.Delete(tid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget the stack that thread %d had: %w", tid, err)
	}
	return nil
}

// MaxPastThreads is of how many threads a PastStack is kept.
const MaxPastThreads = 1024

// kernel is the rule as the program wants it.
func (r CopyRule) kernel() *samplerCopyRule {
	rule := &samplerCopyRule{Start: r.Start, End: r.End, Bytes: uint64(min(max(r.Bytes, 0), MaxCopyBytes))}
	if r.Go != (GoStacks{}) {
		rule.Go.Tls, rule.Go.M, rule.Go.Sp, rule.Go.Curg = r.Go.TLS, r.Go.M, r.Go.SP, r.Go.CurrentG
		rule.Go.FsBase = fsBase()
	}
	return rule
}

// SetDeadline says until when ReadInto waits for samples; the zero time is for ever. A deadline in
// the past makes ReadInto return what is in the ring and never wait.
func (s *Sampler) SetDeadline(t time.Time) { s.reader.SetDeadline(t) }

// ReadInto takes the oldest sample out of the ring, reusing the slices of x. It waits for the
// deadline, for a ring that is an eighth full, or for Flush, whatever comes first; then it returns
// all samples there are, call by call, and after them [os.ErrDeadlineExceeded] or [ErrFlushed] if
// one of these ended the wait. After Close it returns an error that wraps [os.ErrClosed].
//
// A sample alone does not end the wait, so a reader without deadline may wait long: set one.
//
// Samples of one CPU come in the order of time. Those of different CPUs may be out of order by the
// few microseconds between taking the time and having the ring's lock.
func (s *Sampler) ReadInto(x *Sample) error {
	s.record.RawSample = x.raw
	err := s.reader.ReadInto(&s.record)
	x.raw = s.record.RawSample
	if err != nil {
		return err
	}
	return decode(x.raw, x)
}

// Flush ends the present or the next wait of ReadInto.
func (s *Sampler) Flush() error { return s.reader.Flush() }

// Lost is how many samples have found the ring full. After Close it is the number at Close.
//
// Not in it are samples the kernel dropped before the program ran: those that were due while
// another BPF program or the bpf system call ran on the same CPU (bpf_prog_active). They last
// microseconds and are not counted anywhere.
func (s *Sampler) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost()
}

func (s *Sampler) lost() uint64 {
	if s.closed {
		return s.lastLost
	}
	var perCPU []uint64
	if err := s.objects.Lost.Lookup(uint32(0), &perCPU); err != nil {
		return s.lastLost // an array's only element: this cannot be
	}
	s.lastLost = 0
	for _, n := range perCPU {
		s.lastLost += n
	}
	return s.lastLost
}

// Close ends a blocked ReadInto and frees the program and the ring. Events that are still open
// keep the program alive, which then writes for nobody: close them first. Close twice is Close.
func (s *Sampler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.lost()
	s.closed = true
	return errors.Join(s.reader.Close(), s.objects.Close())
}

// ringBytes is the size of the ring buffer: a power of two and a multiple of the page size, as
// ringbuf_map_alloc demands (kernel/bpf/ringbuf.c).
func ringBytes(want, cpus, page int) int {
	const most = 1 << 30 // RINGBUF_MAX_DATA_SZ is more, but the size is a 32-bit number
	if want <= 0 {
		want = min(max(cpus*256<<10, 1<<20), 64<<20)
	}
	want = min(max(want, page), most)
	return 1 << bits.Len(uint(want-1))
}

// stackDepth is how many addresses of a stack can be had: the kernel cuts at its own limit.
func stackDepth(want int) int {
	limit := 127 // PERF_MAX_STACK_DEPTH, include/uapi/linux/perf_event.h
	if text, err := os.ReadFile("/proc/sys/kernel/perf_event_max_stack"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n > 0 {
			limit = n
		}
	}
	limit = min(limit, MaxDepth)
	if want > 0 {
		limit = min(limit, want)
	}
	return limit
}

// pidNamespace names the namespace in which this process sees process numbers, as
// bpf_get_ns_current_pid_tgid wants it: 0, 0 for the initial one.
func pidNamespace() (dev, ino uint64, err error) {
	const initial = 0xEFFFFFFC // PROC_PID_INIT_INO, include/linux/proc_ns.h
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, 0, fmt.Errorf("find the PID namespace of this process (is /proc mounted?): stat /proc/self/ns/pid: %w", err)
	}
	if st.Ino == initial {
		return 0, 0, nil
	}
	// st_dev is in the form of new_encode_dev, the helper compares with the kernel's own dev_t
	// (MKDEV, include/linux/kdev_t.h).
	return uint64(unix.Major(st.Dev))<<20 | uint64(unix.Minor(st.Dev)), st.Ino, nil
}

// liftMemlock raises RLIMIT_MEMLOCK to no limit and tells whether that changed anything: before
// Linux 5.11 maps count against it, and running into it is EPERM. cilium/ebpf's rlimit package is
// not used because it changes the limit at the start of every process that merely links it.
func liftMemlock() bool {
	var old unix.Rlimit
	if atLeast(release(), 5, 11) || unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old) != nil || old.Cur == unix.RLIM_INFINITY {
		return false
	}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil ||
		old.Cur < old.Max && unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: old.Max, Max: old.Max}) == nil
}
