package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// DefaultAllocationPeriod is how many bytes are allocated from one allocation that is taken down to the
// next, on average, where nobody says otherwise.
const DefaultAllocationPeriod = 512 << 10

// AllocationOptions are those of an AllocationRecording. The zero value is good.
type AllocationOptions struct {
	// Period is how many bytes are allocated from one allocation that is taken down to the next, on
	// average: each byte has the same chance. 1 takes down all; 0 is DefaultAllocationPeriod.
	Period int64
	// MostSlowdown is by how much, as a share of its time on the CPU, a running process may be slowed down
	// by what is foreseen; 0 is any. More is an error that wraps ErrTooSlow, and the process is left alone.
	MostSlowdown float64
	Describe     profile.Target                         // as in Options
	FrameTable   func(io.ReaderAt) (FrameTable, error)  // as in Options
	RowsDir      string                                 // as in Options
	Grace        time.Duration                          // as in Options
	Foreseen     func(callsPerSecond, slowdown float64) // told what is foreseen; nil: nobody is
	// OldProbes has the probes used that kernels before 6.13 have.
	OldProbes bool
}

// ErrTooSlow says that recording a process's allocations would slow it down more than was allowed.
var ErrTooSlow = errors.New("too slow")

// An AllocationRecording follows the allocations of one process: which code makes them, and what is freed.
// Processes that it starts are not followed. It needs CAP_BPF and CAP_PERFMON, or root, and Linux 5.15.
//
// Its capture has two series. In [profile.Alloc] each sample is an allocation that was taken down, with the
// bytes and the number of allocations that it stands for. [profile.InUse] has these too, and for each that
// was freed since one of the same stack with the weight and count negated: of any stretch of time it says
// what was allocated in it and is still there, and what was freed that is older is not in it at all.
//
// All methods may be called by any goroutine.
type AllocationRecording struct {
	source    *bpf.Allocations
	files     *codeFiles
	allocator string
	period    float64
	start     time.Time
	zero      uint64
	cmd       *command // nil: a process that ran
	pid       int
	pidfd     int
	grace     time.Duration

	ended    chan struct{} // closed when the process has ended, or Stop was called
	stopping sync.Once
	done     chan struct{} // closed when the reading goroutine has ended
	closing  sync.Once

	mu      sync.Mutex // guards what follows
	b       *builder
	events  []allocation
	byID    map[uint64]int // index into events of what is not freed
	err     error          // that ended the goroutine
	length  time.Duration  // 0 while it goes on
	maximum time.Duration
}

// An allocation is a sample of the capture: the beginning of one, or its end.
type allocation struct {
	at            time.Duration
	stack         profile.StackID
	task          profile.TaskID
	weight, count int64
	freed         bool
}

// RecordAllocations begins. Of the target's fields exactly one of Command and PID is set. A command is
// stopped after exec until the programs are attached. The error wraps ErrNoPermission, ErrNoProcess,
// ErrNoCommand, ErrNoAllocator or ErrTooSlow where that is the cause.
func RecordAllocations(ctx context.Context, target Target, o AllocationOptions) (*AllocationRecording, error) {
	if (target.Command == nil) == (target.PID == 0) || target.Machine {
		return nil, errors.New("record allocations: of one command or one process; give exactly one")
	}
	if o.Period == 0 {
		o.Period = DefaultAllocationPeriod
	}
	if o.Period < 1 {
		return nil, fmt.Errorf("record allocations: every %d bytes is no number of bytes; choose one above 0", o.Period)
	}
	r := &AllocationRecording{
		files: newCodeFiles(), period: float64(o.Period), start: time.Now(), zero: monotonic(), pidfd: -1, grace: o.Grace,
		ended: make(chan struct{}), done: make(chan struct{}), byID: map[uint64]int{},
	}
	if r.grace == 0 {
		r.grace = defaultGrace
	}
	ok := false
	defer func() {
		if !ok {
			r.abandon()
		}
	}()
	if err := r.begin(ctx, target, &o); err != nil {
		return nil, err
	}
	ok = true
	go r.read()
	return r, nil
}

func (r *AllocationRecording) begin(ctx context.Context, target Target, o *AllocationOptions) error {
	describe := o.Describe
	if target.Command != nil {
		if err := checkCommand(target.Command); err != nil {
			return err
		}
		if describe.String() == (profile.Target{}).String() {
			describe = profile.Target{Command: target.Command.Args, Dir: target.Command.Dir}
		}
	} else {
		r.pid = target.PID
		if err := r.findProcess(); err != nil {
			return err
		}
		if describe.String() == (profile.Target{}).String() {
			describe = profile.Target{PID: target.PID}
		}
	}
	var found *allocator
	var err error
	if target.Command != nil {
		found, err = findAllocator(neededFiles(target.Command.Path, environment(target.Command)))
	} else {
		var files []allocatorFile
		if files, err = mappedFiles(r.pid); err == nil {
			found, err = findAllocator(files)
		}
	}
	switch {
	case errors.Is(err, ErrNoAllocator):
		return &refusal{text: fmt.Sprintf("record the allocations of %s: no malloc was found in it or its libraries; a Go program tells its own (sightline test --kind heap, sightline heap PID)", r.name(target)), reason: ErrNoAllocator}
	case errors.Is(err, fs.ErrPermission):
		return &refusal{text: fmt.Sprintf("record the allocations of %s: this user may not look into it; be its owner, or root", r.name(target)), reason: ErrNoPermission, cause: err}
	case err != nil:
		return fmt.Errorf("record the allocations of %s: %w", r.name(target), err)
	}
	r.allocator = found.name
	if target.Command == nil {
		if err := r.foresee(ctx, found, o); err != nil {
			return err
		}
	}
	r.b = newBuilder(describe, &machine{files: r.files}, r.start, r.zero, 0)
	r.b.c.Engine, r.b.c.Machine = string(BPFEngine), describeMachine()
	r.b.samples = &profile.Samples{}
	r.b.c.Series = nil
	r.b.depth = perfevent.MaxStack()
	r.b.frames = newLeafFrames(o.FrameTable, r.files.reader)
	r.b.unwinder = startUnwinder(r.files, o.FrameTable, openRows(o.RowsDir))
	if target.Command != nil {
		return r.launch(target.Command, found, o)
	}
	return r.attach(found, o)
}

// name is the target in a message.
func (r *AllocationRecording) name(t Target) string {
	if t.Command != nil {
		return filepath.Base(t.Command.Path)
	}
	return fmt.Sprintf("process %d", t.PID)
}

func environment(cmd *exec.Cmd) []string {
	if cmd.Env != nil {
		return cmd.Env
	}
	return os.Environ()
}

// findProcess holds the process by a descriptor, which tells its end whatever its number becomes.
func (r *AllocationRecording) findProcess() error {
	fd, err := unix.PidfdOpen(r.pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), err == nil && isKernelThread(r.pid):
		if err == nil {
			unix.Close(fd)
		}
		return &refusal{text: fmt.Sprintf("record the allocations of process %d: there is no such process", r.pid), reason: ErrNoProcess, cause: err}
	case err != nil:
		return fmt.Errorf("record the allocations of process %d: %w", r.pid, err)
	}
	r.pidfd = fd
	go func() {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 200)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				r.end()
				return
			}
			select {
			case <-r.ended:
				return
			default:
			}
		}
	}()
	return nil
}

func isKernelThread(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return errors.Is(err, fs.ErrNotExist)
}

// What a call costs that is not taken down: the trap into the kernel and back, with what the program does.
const callCost = 0.8e-6 // s; MEASURED in BenchmarkAllocations

// foresee counts the allocator's calls for a moment, and refuses where following them would cost more than
// is allowed.
func (r *AllocationRecording) foresee(ctx context.Context, found *allocator, o *AllocationOptions) error {
	if o.MostSlowdown == 0 && o.Foreseen == nil {
		return nil
	}
	counter, err := bpf.NewAllocations(bpf.AllocationOptions{Period: 1})
	if err != nil {
		return r.refused(err)
	}
	defer counter.Close()
	if err := counter.Count(r.pid, found.functions); err != nil {
		return r.refused(err)
	}
	ran, began := processTime(r.pid), time.Now()
	select {
	case <-time.After(time.Second):
	case <-r.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	took := time.Since(began).Seconds()
	calls := float64(counter.Calls())
	ran = processTime(r.pid) - ran
	// The count itself has taken a part of the time that the process ran.
	own := max(ran.Seconds()-calls*callCost, 0.01*took)
	slowdown := calls * 2 * callCost / own
	if o.Foreseen != nil {
		o.Foreseen(calls/took, slowdown)
	}
	if o.MostSlowdown > 0 && slowdown > o.MostSlowdown {
		return &refusal{text: fmt.Sprintf("record the allocations of process %d: it calls %s %.0f times a second, and would be slowed down by about %.0f %%; allow it with --most-slowdown %.0f",
			r.pid, r.allocator, calls/took, 100*slowdown, math.Ceil(slowdown*20)*5+5), reason: ErrTooSlow}
	}
	return nil
}

// processTime is how long the threads of a process have run.
func processTime(pid int) time.Duration {
	var clock int32 = int32(^pid<<3 | 2) // CPUCLOCK_SCHED of a process: MAKE_PROCESS_CPUCLOCK, include/linux/posix-timers.h
	var ts unix.Timespec
	if unix.ClockGettime(clock, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (r *AllocationRecording) refused(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("record allocations: %w%w", err, silent{ErrNoPermission})
	}
	return fmt.Errorf("record allocations: %w", err)
}

// attach has the process r.pid told of from now on.
func (r *AllocationRecording) attach(found *allocator, o *AllocationOptions) error {
	bytes := 16 << 10
	if p := r.b.tracker.process(r.pid); framedProgram(p) {
		bytes = 0
	}
	var err error
	r.source, err = bpf.NewAllocations(bpf.AllocationOptions{Period: uint64(o.Period), StackBytes: bytes, NoSession: o.OldProbes})
	if err == nil {
		err = r.source.Attach(r.pid, found.functions)
	}
	if err != nil {
		return r.refused(err)
	}
	return nil
}

// launch starts a command that stops at its first instruction, attaches to it, and lets it run.
func (r *AllocationRecording) launch(cmd *exec.Cmd, found *allocator, o *AllocationOptions) error {
	r.cmd = &command{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it is the tracer, and stays as long as the command
		defer runtime.UnlockOSThread()
		attr := &syscall.SysProcAttr{}
		if cmd.SysProcAttr != nil {
			*attr = *cmd.SysProcAttr
		}
		attr.Ptrace = true
		cmd.SysProcAttr = attr
		if err := cmd.Start(); err != nil {
			close(r.cmd.done)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
				err = noCommand(cmd, err)
			} else {
				err = fmt.Errorf("record the allocations of %s: %w", cmd.Path, err)
			}
			started <- err
			return
		}
		r.pid = cmd.Process.Pid
		var status unix.WaitStatus
		_, err := unix.Wait4(r.pid, &status, 0, nil)
		if err == nil && status.Stopped() {
			err = r.attach(found, o)
			if detach := unix.PtraceDetach(r.pid); err == nil && detach != nil {
				err = fmt.Errorf("record the allocations of %s: let it run: %w", cmd.Path, detach)
			}
		} else if err == nil {
			err = fmt.Errorf("record the allocations of %s: it did not start: %v", cmd.Path, status)
		}
		if err != nil {
			cmd.Process.Kill()
		}
		started <- err
		r.cmd.wait(func(string) {})
		r.end()
	}()
	return <-started
}

// end has reading go on until what is there is read.
func (r *AllocationRecording) end() { r.stopping.Do(func() { close(r.ended) }) }

// read takes events until the process ends or Stop is called, and then what is in the ring.
func (r *AllocationRecording) read() {
	defer close(r.done)
	var e bpf.AllocationEvent
	var over <-chan struct{} = r.ended
	draining := false
	for {
		r.source.SetDeadline(time.Now().Add(50 * time.Millisecond))
		err := r.source.ReadInto(&e)
		switch {
		case err == nil:
			r.mu.Lock()
			r.event(&e)
			r.mu.Unlock()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if draining {
				return
			}
		default:
			r.mu.Lock()
			if !errors.Is(err, os.ErrClosed) && r.err == nil {
				r.err = err
			}
			r.mu.Unlock()
			if errors.Is(err, os.ErrClosed) {
				return
			}
		}
		select {
		case <-over:
			over, draining = nil, true
			r.mu.Lock()
			r.length = time.Duration(monotonic() - r.zero)
			r.mu.Unlock()
			r.source.Detach()
		default:
		}
	}
}

func (r *AllocationRecording) event(e *bpf.AllocationEvent) {
	at := time.Duration(0)
	if e.Time > r.zero {
		at = time.Duration(e.Time - r.zero)
	}
	r.maximum = max(r.maximum, at)
	if e.Freed {
		if i, ok := r.byID[e.ID]; ok {
			x := r.events[i]
			delete(r.byID, e.ID)
			r.events = append(r.events, allocation{max(at, x.at), x.stack, x.task, -x.weight, -x.count, true})
		}
		return
	}
	pid, tid := int(e.Sample.PID), int(e.Sample.TID)
	p := r.b.tracker.process(pid)
	p.stale = true // nobody tells of what it maps
	th := r.b.tracker.thread(p, tid)
	user := e.Sample.User
	for len(user) > 0 && user[len(user)-1] == 0 {
		user = user[:len(user)-1]
	}
	x := allocation{at: at, task: r.b.task(p, th, tid)}
	x.weight, x.count = standsFor(float64(e.Size), r.period)
	x.stack = r.b.eventStack(p, th, tid, user, &registers{
		sp: e.Sample.SP, fp: e.Sample.FP, link: e.Sample.Link, top: e.Sample.Top, cut: len(user) >= r.b.depth,
		all: e.Sample.Registers, stack: e.Sample.Stack,
	})
	r.byID[e.ID] = len(r.events)
	r.events = append(r.events, x)
}

// standsFor is the bytes and the number of allocations that one of size bytes stands for which was taken
// down: its chance was 1 − e^(−size/period).
func standsFor(size, period float64) (weight, count int64) {
	if period <= 1 {
		return int64(size), 1
	}
	share := -math.Expm1(-size / period)
	return int64(math.Round(size / share)), max(1, int64(math.Round(1/share)))
}

// eventStack is the stack of an event that is not a sample: by call-frame information where it was copied
// and the code may keep no frame pointers. Such events are far fewer than samples, so each walk is waited
// for. It is not 0: what is not known is counted too.
func (b *builder) eventStack(p *process, th *thread, tid int, user []uint64, regs *registers) (stack profile.StackID) {
	defer func() {
		if stack == 0 {
			stack = b.inKernel(0, nil)
		}
	}()
	walk := b.submit(p, tid, user, regs)
	if walk == nil {
		return b.framed(p, th, user, regs)
	}
	b.unwinder.dispatch()
	b.unwinder.wait()
	defer b.unwinder.release(walk)
	if walk.framed || len(walk.frames) == 0 {
		return b.framed(p, th, user, regs)
	}
	outermost := len(walk.frames) - 1
	for i, f := range slices.Backward(walk.frames) {
		stack = b.c.Stacks.Intern(stack, b.inSpace(walk.space, f, i == outermost && walk.end.Reason == unwind.Root))
	}
	return stack
}

// Wait waits until the process has ended or Stop is called, and the events are read. The error is that
// of reading them.
func (r *AllocationRecording) Wait() error {
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Stop ends the recording: a command is asked to end, a process goes on. The capture is whole then and the
// caller's own, not symbolized. Stop twice is Stop.
func (r *AllocationRecording) Stop() (*profile.Capture, error) {
	if r.cmd != nil {
		r.cmd.terminate(r.grace)
		<-r.cmd.done
	}
	r.end()
	<-r.done
	r.closing.Do(func() {
		r.source.Detach()
		r.b.unwinder.stop()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.capture(math.MaxInt64), r.err
}

// View is the capture as it is now, for reading, while the recording goes on. What happened in the last
// moment is not in it: an event may still come that was before others, and a later view begins with this one.
func (r *AllocationRecording) View() *profile.Capture {
	const moment = 100 * time.Millisecond
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.length != 0 {
		return r.capture(math.MaxInt64)
	}
	return r.capture(time.Duration(monotonic()-r.zero) - moment)
}

// capture is what was recorded before some time since the start.
func (r *AllocationRecording) capture(before time.Duration) *profile.Capture {
	length := r.length
	if length == 0 {
		length = time.Duration(monotonic() - r.zero)
	}
	order := make([]int, 0, len(r.events))
	for i := range r.events {
		if r.events[i].at < before {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(r.events[i].at, r.events[j].at) })
	alloc := profile.Series{Kind: profile.Alloc, Unit: profile.Bytes, Period: int64(r.period)}
	inUse := profile.Series{Kind: profile.InUse, Unit: profile.Bytes, Period: int64(r.period)}
	for _, i := range order {
		x := &r.events[i]
		s := profile.Sample{Stack: x.stack, Task: x.task, Time: x.at, Count: x.count, Weight: x.weight}
		inUse.Samples.Append(s)
		if !x.freed {
			alloc.Samples.Append(s)
		}
	}
	r.b.last = r.maximum
	r.b.finish(length, 0)
	n := r.source.Counts()
	warn := func(n uint64, text string) {
		if n > 0 {
			r.b.c.Warn(profile.WarnLost, int64(n), text)
		}
	}
	warn(n.Missed, "allocations were not taken down because they came too fast; take down fewer with a larger --every-bytes")
	warn(n.Full, "allocations may be freed without being seen, because more are there at a time than are followed; take down fewer with a larger --every-bytes")
	warn(n.Unfreed, "allocations were freed too fast to be seen, and count as still in use; take down fewer with a larger --every-bytes")
	c := r.b.c.View()
	c.Series = []profile.Series{alloc, inUse}
	return c
}

// Allocator is the file whose functions are followed: "libc.so.6".
func (r *AllocationRecording) Allocator() string { return r.allocator }

// PID is the process.
func (r *AllocationRecording) PID() int { return r.pid }

// Binary is as Recording.Binary.
func (r *AllocationRecording) Binary(id profile.MappingID) (io.ReaderAt, error) {
	r.mu.Lock()
	f := r.b.file(id)
	r.mu.Unlock()
	return r.files.binary(id, f)
}

// Kallsyms is as Recording.Kallsyms.
func (r *AllocationRecording) Kallsyms() (io.ReadCloser, error) { return os.Open("/proc/kallsyms") }

// Root is as Recording.Root.
func (r *AllocationRecording) Root(id profile.MappingID) string {
	r.mu.Lock()
	f := r.b.file(id)
	r.mu.Unlock()
	return r.files.rootOf(f)
}

// Process is as Recording.Process: nothing is known of code that was made at run time.
func (r *AllocationRecording) Process(profile.MappingID) (Process, bool) { return Process{}, false }

// Close ends the recording if Stop has not, and closes the binaries.
func (r *AllocationRecording) Close() error {
	_, err := r.Stop()
	r.abandon()
	return err
}

func (r *AllocationRecording) abandon() {
	r.end()
	if r.source != nil {
		r.source.Close()
	}
	if r.pidfd >= 0 {
		unix.Close(r.pidfd)
		r.pidfd = -1
	}
	r.files.close()
}
