package profiler

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A builder turns records, given in the order of their times, into a capture: it tells the tracker
// of processes and mappings, and interns the stacks of samples.
//
// Its owner guards it with a lock.
type builder struct {
	c       *profile.Capture
	samples *profile.Samples // the capture's only series
	tracker *tracker
	zero    uint64 // CLOCK_MONOTONIC at the capture's start
	depth   int    // addresses a perf chain has at most

	files     []*codeFile                     // by MappingID, whose first element is nil
	describe  func(pid int) (*Process, error) // nil: nothing is known of processes
	makers    map[*codeFile]*Process          // of code without a file
	ids       map[*codeFile]profile.MappingID
	locations map[profile.Location]profile.LocationID
	tasks     map[profile.Task]profile.TaskID
	kernel    kernel
	code      codeReader // nil: files are not read

	last      time.Duration // of the last sample
	lost      uint64        // records the kernel had no room for
	throttled uint64        // times the kernel stopped an event for coming too often
	cut       int64         // samples with stacks at the kernel's limit
	standing  []profile.Warning
	programs  []string // paths of the commands that were started
	threads   int      // how many were recorded, those of all processes

	stackUser, stackKernel []uint64 // reused

	frames *leafFrames // nil: leaves are taken as the kernel walked them
	walks              // of stacks that were copied
}

func newBuilder(target profile.Target, sys system, start time.Time, zero uint64, period int64) *builder {
	c := profile.NewCapture(target, start)
	c.Series = []profile.Series{{Kind: profile.CPU, Unit: profile.Nanoseconds, Period: period}}
	return &builder{
		c:         c,
		samples:   &c.Series[0].Samples,
		tracker:   newTracker(sys),
		zero:      zero,
		depth:     perfevent.MaxStack(),
		files:     make([]*codeFile, 1),
		ids:       make(map[*codeFile]profile.MappingID),
		locations: make(map[profile.Location]profile.LocationID),
		tasks:     make(map[profile.Task]profile.TaskID),
	}
}

// record applies one record of a perf ring.
func (b *builder) record(r *perfevent.Record) {
	t := b.tracker
	pid, tid := int(int32(r.PID)), int(int32(r.TID))
	switch r.Type {
	case perfevent.Lost, perfevent.LostSamples:
		b.lost += r.Count
		t.lost()
		return
	case perfevent.Throttle:
		b.throttled++
		return
	case perfevent.Fork:
		if t.owners != nil && !t.owners.forked(r.ID, tid, int(int32(r.PTID))) {
			return
		}
	default:
		if t.owners != nil && !t.owners.takes(r.ID, tid) {
			return
		}
	}
	switch r.Type {
	case perfevent.Sample:
		b.chain(r.Chain)
		b.sample(pid, tid, r.Time, int64(r.Period), b.stackKernel, b.stackUser, &registers{
			sp: r.SP, fp: r.FP, link: r.Link, top: r.Top, all: r.Registers, stack: r.Stack,
			cut: len(b.stackUser)+len(b.stackKernel) >= b.depth,
		})
	case perfevent.Mmap2:
		m := mappedBy(r)
		t.mapped(pid, &m)
	case perfevent.Comm:
		t.rename(pid, tid, string(r.Name), r.Exec())
	case perfevent.Fork:
		b.threads++
		t.fork(pid, tid, int(int32(r.PPID)), int(int32(r.PTID)))
	case perfevent.Exit:
		if t.forsaken(pid, tid) {
			b.warn(profile.WarnHidden, forsaken(b.program(t.pids[pid].threads[pid].comm)))
		}
		t.exit(pid, tid)
		b.pasts.ended(tid)
		if t.owners != nil {
			t.owners.exited(tid)
		}
	}
}

func mappedBy(r *perfevent.Record) mapped {
	return mapped{
		start: r.Addr, end: r.Addr + r.Len, offset: r.Offset,
		name: string(r.Name), buildID: fmt.Sprintf("%x", r.BuildID),
		major: r.Major, minor: r.Minor, inode: r.Inode, generation: r.Generation,
	}
}

// chain splits a call chain at its markers: enum perf_callchain_context,
// include/uapi/linux/perf_event.h. The parts of a guest and of a hypervisor are not ours.
func (b *builder) chain(chain []uint64) {
	b.stackKernel, b.stackUser = b.stackKernel[:0], b.stackUser[:0]
	const (
		contextMax    = ^uint64(4095 - 1) // PERF_CONTEXT_MAX; addresses are below
		contextKernel = ^uint64(128 - 1)
		contextUser   = ^uint64(512 - 1)
	)
	var to *[]uint64
	for _, a := range chain {
		switch {
		case a == contextKernel:
			to = &b.stackKernel
		case a == contextUser:
			to = &b.stackUser
		case a >= contextMax:
			to = nil
		case to != nil:
			*to = append(*to, a)
		}
	}
}

// sample adds one sample. Both stacks are of runtime addresses, leaf first.
//
// Return is false for the leaf of each stack and true for all others. The leaf of a user stack
// below kernel frames is where user code goes on: after a page fault or an interrupt that is the
// very instruction, after a system call the one behind it. Taking it for a return address would be
// right for the system call only, and for a fault at a function's first instruction it would name
// another function; taken as it is, both are in the right function, and on the right line but where
// a system call ends its line.
//
// What user lacks where the innermost function has no frame is added with the help of the registers.
//
// A stack that was copied is walked by call-frame information instead, beside the recording: the sample
// takes its place among the others when that is done.
func (b *builder) sample(pid, tid int, at uint64, weight int64, kernel, user []uint64, regs *registers) {
	if at > b.zero {
		// Rings are merged with some slack; what comes later than that is put last.
		b.last = max(b.last, time.Duration(at-b.zero))
	}
	x := waiting{tid: tid, sample: profile.Sample{Time: b.last, Count: 1, Weight: weight}}
	for len(user) > 0 && user[len(user)-1] == 0 {
		user = user[:len(user)-1] // what a thread's first function "returns" to
	}
	if pid > 0 {
		x.process = b.tracker.process(pid)
		x.thread = b.tracker.thread(x.process, tid)
		if len(kernel) > 0 && (x.process.execing() || b.gone(x.process, user, regs)) {
			user = nil // registers of the program before, whose memory is gone
		}
		x.sample.Task = b.task(x.process, x.thread, tid)
		x.walk = b.submit(x.process, tid, user, regs)
		if x.walk == nil {
			x.sample.Stack = b.framed(x.process, x.thread, user, regs)
		}
	}
	if x.walk == nil && len(b.waiting) == 0 {
		x.sample.Stack = b.inKernel(x.sample.Stack, kernel)
		b.samples.Append(x.sample)
		return
	}
	x.kernel = len(kernel)
	b.kernels = append(b.kernels, kernel...)
	b.waiting = append(b.waiting, x)
}

// framed is the stack that was found by frame pointers.
func (b *builder) framed(p *process, th *thread, user []uint64, regs *registers) (stack profile.StackID) {
	if regs.cut {
		b.cut++
	}
	stack = b.callers(p, th, user)
	if len(user) > 0 {
		if caller, ok := b.frames.caller(b.tracker, p, user[0], regs); ok {
			stack = b.c.Stacks.Intern(stack, b.user(p, caller, true))
		}
		stack = b.c.Stacks.Intern(stack, b.user(p, user[0], false))
	}
	return stack
}

// inKernel is a user's stack with the kernel's on it.
func (b *builder) inKernel(stack profile.StackID, kernel []uint64) profile.StackID {
	for i := len(kernel) - 1; i >= 0; i-- {
		l := profile.Location{Addr: b.kernel.address(kernel[i]), Return: i > 0}
		stack = b.c.Stacks.Intern(stack, b.location(b.kernel.file(), l))
	}
	if stack == 0 { // neither: still time that was spent
		stack = b.c.Stacks.Intern(0, b.location(nil, profile.Location{}))
	}
	return stack
}

// callers is the stack of all frames of a user stack but the leaf. Most of them are those that the
// thread had in its last sample, so that two look-ups for each frame become one comparison.
func (b *builder) callers(p *process, th *thread, user []uint64) (stack profile.StackID) {
	same := th.changes == p.changes
	th.changes = p.changes
	for i, n := len(user)-1, 0; i > 0; i, n = i-1, n+1 {
		if same = same && n < len(th.walked) && th.walked[n].addr == user[i]; same {
			stack = th.walked[n].stack
			continue
		}
		stack = b.c.Stacks.Intern(stack, b.user(p, user[i], true))
		th.walked = append(th.walked[:n], walked{user[i], stack})
	}
	return stack
}

func (b *builder) user(p *process, addr uint64, isReturn bool) profile.LocationID {
	key := addr &^ (1 << 63)
	if isReturn {
		key |= 1 << 63
	}
	if id, ok := p.located[key]; ok {
		return id
	}
	f, at := b.tracker.locate(p, addr)
	id := b.location(f, profile.Location{Addr: at, Return: isReturn})
	if p.located == nil {
		p.located = make(map[uint64]profile.LocationID)
	}
	p.located[key] = id
	return id
}

// location interns a file address. Files become mappings of the capture with their first location.
func (b *builder) location(f *codeFile, l profile.Location) profile.LocationID {
	var m profile.MappingID
	if f != nil {
		var ok bool
		if m, ok = b.ids[f]; !ok {
			m = profile.MappingID(len(b.c.Mappings))
			b.ids[f] = m
			b.files = append(b.files, f)
			b.c.Mappings = append(b.c.Mappings, f.mapping())
			b.made(f)
			if f.problem != "" {
				b.warn(profile.WarnUnreadable, f.problem)
			}
		}
	}
	l.Mapping = m
	id, ok := b.locations[l]
	if !ok {
		id = profile.LocationID(len(b.c.Locations))
		b.c.Locations = append(b.c.Locations, l)
		b.locations[l] = id
	}
	return id
}

func (b *builder) task(p *process, th *thread, tid int) profile.TaskID {
	if th.task == 0 {
		task := profile.Task{PID: p.pid, TID: tid, Parent: p.parent, Comm: th.comm}
		id, ok := b.tasks[task]
		if !ok {
			id = profile.TaskID(len(b.c.Tasks))
			b.c.Tasks = append(b.c.Tasks, task)
			b.tasks[task] = id
		}
		th.task = id
	}
	return th.task
}

// warn adds a warning that holds from now on, unless it was given already.
func (b *builder) warn(kind profile.WarningKind, text string) {
	if w := (profile.Warning{Kind: kind, Text: text}); !slices.Contains(b.standing, w) {
		b.standing = append(b.standing, w)
	}
}

// starts says that a command is about to be started.
func (b *builder) starts(path string) {
	b.threads++
	if !slices.Contains(b.programs, path) {
		b.programs = append(b.programs, path)
	}
}

// program is the path of a started command that has a thread's name after exec, or else that name.
func (b *builder) program(comm string) string {
	const most = 15 // bytes of a name, TASK_COMM_LEN
	for _, path := range b.programs {
		if name := filepath.Base(path); name[:min(len(name), most)] == comm {
			return path
		}
	}
	return comm
}

// forsaken is the warning where the kernel took a program's events away.
func forsaken(program string) string {
	return fmt.Sprintf("%s is in no sample, nor is what it started: it has privileges of its own (set-user-ID, set-group-ID, file capabilities) or may not be read by this user, and the kernel ends the recording of such a program when it starts; "+
		"run it as root, or record its process (-p) or the whole machine as root or with CAP_PERFMON and CAP_SYS_PTRACE", program)
}

// finish brings what grows with the recording up to date: its length and its warnings. lost is what
// other counters than the records tell.
func (b *builder) finish(length time.Duration, lost uint64) {
	b.c.Length = max(length, b.last)
	b.c.Warnings = append([]profile.Warning(nil), b.standing...)
	if n := max(b.lost, lost); n > 0 {
		b.c.Warn(profile.WarnLost, int64(n), "the kernel found no room for samples or records; record with a lower --freq, or on a less busy machine")
	}
	if b.throttled > 0 {
		b.c.Warn(profile.WarnLost, int64(b.throttled), "the kernel paused sampling because it took too much time; record with a lower --freq, or raise kernel.perf_event_max_sample_rate")
	}
	b.walkWarnings()
	if b.cut > 0 {
		b.c.Warn(profile.WarnCut, b.cut, fmt.Sprintf(
			"stacks deeper than %d frames lost their outermost callers; to copy more: sudo sysctl kernel.perf_event_max_stack=1024 (while nothing else is being recorded)", b.depth))
	}
}

// file is what a mapping is of; nil where there is no such mapping, or it is of nothing.
func (b *builder) file(id profile.MappingID) *codeFile {
	if int(id) >= len(b.files) {
		return nil
	}
	return b.files[id]
}

// monotonic is the clock of all records.
func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano())
}
