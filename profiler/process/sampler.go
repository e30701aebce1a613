package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Options of a Sampler. The zero value looks at every process of /proc and learns what costs nothing.
type Options struct {
	Want   Fields
	Kernel bool  // kernel threads too
	Dead   bool  // zombies too
	Only   []int // these processes, if they are there; nil: all
	// Proc is another place where the proc file system is mounted; "" is /proc.
	Proc string
}

// A Sampler looks at processes again and again, and tells of each what it did since the look before.
//
// One goroutine uses it. It remembers the processes of the last look and the programs that it has seen,
// nothing else.
type Sampler struct {
	o        Options
	fs       procfs.FS
	before   map[int]usage
	begun    uint64 // ticks after boot of the look before: who started later was not there
	programs programs
	page     int64
	hides    bool
}

// usage is what a process had used at one look.
type usage struct {
	start         uint64 // 0: not known
	at            time.Time
	cpu           time.Duration
	read, written int64
	io            bool
}

// A List is what one look saw.
type List struct {
	Time      time.Time
	Processes []Process // by PID
	Unseen    Unseen
}

// Unseen says what a look may not see.
type Unseen struct {
	Guarded   int  // processes whose files, I/O, PSS and program may not be seen
	Hidden    bool // /proc is mounted so that other users' processes are hidden (hidepid)
	Container bool // only the processes of this PID namespace are there
	Kernel    int  // kernel threads that were left out
	Dead      int  // zombies that were left out
	Vanished  int  // processes that ended while they were read
}

// NewSampler makes a Sampler that has seen nothing yet. The error says that there is no proc file system.
func NewSampler(o Options) (*Sampler, error) {
	o.Proc = cmp.Or(o.Proc, DefaultProc)
	proc, err := procfs.NewFS(o.Proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w; mount the proc file system there", err)
	}
	if o.Want&GoRuntime != 0 {
		o.Want |= Program
	}
	return &Sampler{
		o: o, fs: proc, page: int64(os.Getpagesize()),
		programs: programs{known: map[fileID]*program{}},
		hides:    hidesOthers(o.Proc),
	}, nil
}

// SetOnly has the following looks be at these processes.
func (s *Sampler) SetOnly(pids []int) { s.o.Only = pids }

// Begin takes the times that the first Look is compared with, as fast as can be: by system calls that
// anybody may make of any process.
func (s *Sampler) Begin(ctx context.Context) error {
	pids, err := s.pids()
	if err != nil {
		return err
	}
	s.begun = bootTicks()
	before := make(map[int]usage, len(pids))
	for _, pid := range pids {
		u := usage{at: time.Now()}
		var ok bool
		if u.cpu, ok = s.cpuTime(pid); !ok {
			continue
		}
		before[pid] = u
	}
	s.before = before
	return ctx.Err()
}

// Watch is Begin, an interval and Look.
func (s *Sampler) Watch(ctx context.Context, interval time.Duration) (*List, error) {
	if err := s.Begin(ctx); err != nil {
		return nil, err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Look(ctx)
}

// Look reads the processes as they are now. What a process used is since the Look or Begin before; the
// first look's is since the start of each. Processes that end meanwhile are left out and counted.
func (s *Sampler) Look(ctx context.Context) (*List, error) {
	pids, err := s.pids()
	if err != nil {
		return nil, err
	}
	list := &List{Time: time.Now(), Processes: make([]Process, 0, len(pids))}
	list.Unseen.Hidden = s.hides
	list.Unseen.Container = s.o.Proc == DefaultProc && nested()
	begun := bootTicks()
	workers := min(runtime.GOMAXPROCS(0), 4, 1+len(pids)/32)
	parts := make([]part, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := newProcReader(s.o.Proc)
			// Neighbours start and end together, so they are dealt out in turn.
			for i := w; i < len(pids) && ctx.Err() == nil; i += workers {
				parts[w].read(s, r, pids[i])
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	before := make(map[int]usage, len(pids))
	for i := range parts {
		list.Processes = append(list.Processes, parts[i].processes...)
		u := &list.Unseen
		u.Guarded += parts[i].guarded
		u.Kernel += parts[i].kernel
		u.Dead += parts[i].dead
		u.Vanished += parts[i].vanished
	}
	slices.SortFunc(list.Processes, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	for i := range list.Processes {
		p := &list.Processes[i]
		before[p.PID] = usage{start: p.Start, at: list.Time, cpu: p.CPUTotal, read: p.Read, written: p.Written, io: p.Has(IO)}
	}
	s.before, s.begun = before, begun
	return list, nil
}

func (s *Sampler) pids() ([]int, error) {
	if s.o.Only != nil {
		return s.o.Only, nil
	}
	pids, err := ids(s.o.Proc)
	if err != nil {
		return nil, fmt.Errorf("list processes in %s: %w; mount the proc file system there", s.o.Proc, err)
	}
	return pids, nil
}

// A part is what one goroutine has read of a look.
type part struct {
	processes                       []Process
	guarded, kernel, dead, vanished int
}

func (w *part) read(s *Sampler, r *procReader, pid int) {
	p, err := s.readProcess(r, pid)
	switch {
	case err != nil:
		w.vanished++
		return
	case p.Kernel && !s.o.Kernel:
		w.kernel++
		return
	case p.State == 'Z' && !s.o.Dead || p.State == 'X' || p.State == 'x':
		w.dead++
		return
	}
	if p.Guarded {
		w.guarded++
	}
	w.processes = append(w.processes, p)
}

var errEnded = errors.New("it has ended")

// readProcess reads what is wanted of a process. It is an error where it ends meanwhile: what was read
// then may be two processes'.
func (s *Sampler) readProcess(r *procReader, pid int) (p Process, err error) {
	if err := r.enter(pid); err != nil {
		return p, err
	}
	defer r.leave()
	text, err := r.readOnce(pid, "stat")
	if err != nil {
		return p, err
	}
	st, err := parseStat(text)
	if err != nil {
		return p, fmt.Errorf("read %s: %w", r.name(pid, "stat"), err)
	}
	p = Process{
		ID: ID{pid, st.start}, Parent: st.parent, Name: st.name, State: st.state, Kernel: st.kernel,
		Threads: st.threads, Processor: st.processor, Resident: st.resident * s.page,
	}
	if p.Kernel && !s.o.Kernel || p.State == 'Z' && !s.o.Dead {
		return p, nil
	}
	now := time.Now()
	ok := false
	if p.CPUTotal, ok = s.cpuTime(pid); !ok {
		p.CPUTotal = ticks(st.user + st.system)
	}
	want := s.o.Want
	if want&Status != 0 {
		text, err := r.readOnce(pid, "status")
		if err != nil {
			return p, err
		}
		if x, ok := parseStatus(text); ok {
			p.UID, p.RUID, p.Private, p.Swap = x.uid, x.ruid, x.anonymous, x.swap
			p.Known |= Status
		}
	}
	if want&Command != 0 && !p.Kernel {
		if line, err := r.readOnce(pid, "cmdline"); err == nil {
			p.Args = splitArgs(line)
			p.Known |= Command
		}
	}
	if want&IO != 0 && r.readIO(pid, &p.Read, &p.Written) {
		p.Known |= IO
	}
	if want&OpenFiles != 0 {
		if n, ok := r.openFiles(pid); ok {
			p.Files = n
			p.Known |= OpenFiles
		}
	}
	if want&Container != 0 && !p.Kernel {
		if text, err := r.readOnce(pid, "cgroup"); err == nil {
			p.Container = containerOf(text)
			p.Known |= Container
		}
	}
	if want&Program != 0 && !p.Kernel && p.State != 'Z' {
		s.readProgramOf(r, &p)
	}
	if want&PSS != 0 && !p.Kernel && p.State != 'Z' {
		if proc, err := s.proc(pid); err == nil {
			if m, err := proc.ProcSMapsRollup(); err == nil {
				p.PSS = int64(m.Pss)
				p.Known |= PSS
			} else if denied(err) {
				p.Guarded = true
			}
		}
	}
	if !r.there() {
		return p, errEnded
	}
	s.since(&p, now)
	return p, nil
}

// since fills in what a process did since the look before.
func (s *Sampler) since(p *Process, now time.Time) {
	p.CPU, p.ReadNow, p.WrittenNow = p.CPUTotal, p.Read, p.Written
	u, ok := s.before[p.PID]
	// Where only the number was seen, who has it now may have started since.
	if ok && (u.start == p.Start || u.start == 0 && p.Start <= s.begun) {
		p.CPU = max(0, p.CPUTotal-u.cpu)
		p.Over = now.Sub(u.at)
		if u.io && p.Has(IO) {
			p.ReadNow, p.WrittenNow = max(0, p.Read-u.read), max(0, p.Written-u.written)
		}
		return
	}
	p.Over = max(0, time.Duration(int64(bootTime())-int64(ticks(p.Start))))
}

func (s *Sampler) proc(pid int) (procfs.Proc, error) { return s.fs.Proc(pid) }

// readIO reads what of /proc/PID/io counts storage; it may be read of one's own processes only.
func (r *procReader) readIO(pid int, read, written *int64) bool {
	text, err := r.readOnce(pid, "io")
	if err != nil {
		return false
	}
	var ok bool
	*read, *written, ok = parseIO(text)
	return ok
}

// readProgramOf learns of a process's program, and of its runtime where Go built it.
func (s *Sampler) readProgramOf(r *procReader, p *Process) {
	x, err := s.programs.of(r.dir)
	if err != nil {
		// Following the link takes the permission that looking into the process takes
		// (ptrace_may_access, PTRACE_MODE_READ; proc(5)).
		p.Guarded = p.Guarded || denied(err)
		return
	}
	p.Arch, p.IsGo = x.arch, x.isGo
	p.Known |= Program
	if x.isGo && s.o.Want&GoRuntime != 0 {
		p.Go = r.readGo(p.PID, x)
		p.Known |= GoRuntime
	}
}

// openFiles counts a process's descriptors. Since Linux 6.2 the size of the folder is their number, and
// anybody may ask (proc_fd_getattr, fs/proc/fd.c).
func (r *procReader) openFiles(pid int) (int, bool) {
	var st unix.Stat_t
	if unix.Fstatat(r.dir, "fd", &st, 0) != nil {
		return 0, false
	}
	if st.Size > 0 {
		return int(st.Size), true
	}
	all, err := ids(r.name(pid, "fd"))
	return len(all), err == nil
}

// fileID says which file something is.
type fileID struct {
	dev, ino uint64
	size     int64
	mtime    unix.Timespec
}

// programs remembers executable files, for all goroutines.
type programs struct {
	mu    sync.Mutex
	known map[fileID]*program
}

// of is the program of a process whose folder is open.
func (ps *programs) of(dir int) (*program, error) {
	const exe = "exe"
	var st unix.Stat_t
	if err := unix.Fstatat(dir, exe, &st, 0); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: exe, Err: err}
	}
	id := fileID{st.Dev, st.Ino, st.Size, st.Mtim}
	ps.mu.Lock()
	p := ps.known[id]
	ps.mu.Unlock()
	if p != nil {
		return p, nil
	}
	fd, err := openAt(dir, exe, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), exe)
	defer f.Close()
	p = readProgram(f)
	ps.mu.Lock()
	ps.known[id] = p
	ps.mu.Unlock()
	return p, nil
}

// cpuTime is how much processor time a process has used, all its threads together, to the nanosecond;
// /proc counts in hundredths of a second. Anybody may ask it of any process of their PID namespace. The
// clock's number is as clock_getcpuclockid(3) makes it: the process id inverted, above three bits of
// which 2 says scheduler time.
func (s *Sampler) cpuTime(pid int) (time.Duration, bool) {
	if s.o.Proc != DefaultProc { // whose numbers may be another namespace's
		return 0, false
	}
	var used unix.Timespec
	if unix.ClockGettime(int32(^pid)<<3|2, &used) != nil {
		return 0, false
	}
	return time.Duration(used.Nano()), true
}

func ticks(n uint64) time.Duration { return time.Duration(n) * (time.Second / UserHZ) }

// bootTime is the time since boot, with that asleep, as starts of processes are counted.
func bootTime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

func bootTicks() uint64 { return uint64(bootTime() / (time.Second / UserHZ)) }

// Started is when a process of an ID started, to a hundredth of a second.
func (id ID) Started(now time.Time) time.Time {
	return now.Add(ticks(id.Start) - bootTime())
}

// nested says that this process lives in a PID namespace below the machine's first one.
func nested() bool {
	const initial = 0xEFFFFFFC // PROC_PID_INIT_INO, include/linux/proc_ns.h
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != initial
}

// hidesOthers says that a proc file system is mounted with hidepid, and this process is not above it.
func hidesOthers(root string) bool {
	if os.Geteuid() == 0 {
		return false
	}
	mounts, err := procfs.GetMounts()
	if err != nil {
		return false
	}
	hides := false
	for _, m := range mounts { // the last one on a place is the one that is seen
		if m.MountPoint == root && m.FSType == "proc" {
			switch m.SuperOptions["hidepid"] {
			case "", "0", "off":
				hides = false
			default:
				hides = true
			}
		}
	}
	return hides
}
