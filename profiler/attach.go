package profiler

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// errDoubled says that threads were started while events were opened, so that some may have two.
var errDoubled = errors.New("the process starts threads faster than they can be attached to")

// openPID opens a pidfd, which becomes readable when the process has ended.
func openPID(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil && zombie(pid):
		unix.Close(fd)
		return -1, &refusal{
			text:   fmt.Sprintf("record: process %d has ended and only waits for its parent (zombie); give a process that runs", pid),
			reason: ErrNoProcess, cause: unix.ESRCH,
		}
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ESRCH):
		return -1, &refusal{text: fmt.Sprintf("record process %d: there is no such process", pid), reason: ErrNoProcess, cause: err}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return -1, &refusal{
			text:   fmt.Sprintf("record process %d: it is a thread of another process; give the id of that", pid),
			reason: ErrNoProcess, cause: err,
		}
	}
	return -1, fmt.Errorf("record process %d: %w", pid, err)
}

// process opens events on all threads of a running process.
//
// Threads that it starts meanwhile inherit events from those that have theirs already, so that they
// may have two when they are given their own. The records of perf events tell which event they are
// from, and owners drops those of one. The BPF engine's do not tell: it is used only where no new
// threads were met, and errDoubled says that this could not be had.
func (o *opener) process(pid int) (*owners, error) {
	const quietTries = 3
	for try := 1; ; try++ {
		owners, rounds, err := o.threads(pid)
		o.rounds = rounds
		if err != nil || o.source == nil || rounds <= 1 {
			return owners, err
		}
		if try == quietTries {
			return nil, errDoubled
		}
		o.closeEvents()
	}
}

// threads opens events until no thread is found that has none, and says how often it found new
// ones.
func (o *opener) threads(pid int) (own *owners, rounds int, err error) {
	own = newOwners()
	seen := map[int]bool{}
	folder := fmt.Sprintf("/proc/%d/task", pid)
	for {
		tids, err := readIDs(folder)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				err = unix.ESRCH
			}
			return nil, rounds, err
		}
		found := false
		for _, tid := range tids {
			if seen[tid] {
				continue
			}
			seen[tid], found = true, true
			for _, ring := range o.rings {
				e, err := o.open(tid, ring)
				if errors.Is(err, unix.ESRCH) {
					break // the thread has ended
				}
				if errors.Is(err, unix.EMFILE) && raiseFileLimit(len(tids)*len(o.rings)+256) {
					e, err = o.open(tid, ring)
				}
				if err != nil {
					return nil, rounds, err
				}
				own.opened(e.ID(), tid)
			}
		}
		if !found {
			if !o.any() {
				return nil, rounds, unix.ESRCH
			}
			return own, rounds, nil
		}
		rounds++
	}
}

// raiseFileLimit raises the limit of open files so that need more can be opened. The Go runtime has
// raised it to the hard limit already, which takes CAP_SYS_RESOURCE to raise.
func raiseFileLimit(need int) bool {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return false
	}
	want := r.Cur + uint64(need)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: max(want, r.Max)}) == nil
}

// machine opens one event on each CPU for whatever runs there.
func (o *opener) machine() error {
	for _, ring := range o.rings {
		if _, err := o.open(-1, ring); err != nil {
			return err
		}
	}
	return nil
}

// snapshot tells the tracker what there is before the first record.
func (r *Recording) snapshot() error {
	pids := []int{r.target.PID}
	if r.target.Machine {
		var err error
		if pids, err = readIDs("/proc"); err != nil {
			return fmt.Errorf("record %s: list its processes: %w", r.target, err)
		}
	}
	for _, pid := range pids {
		if p := r.b.tracker.sys.discover(pid); p != nil {
			r.b.tracker.add(p)
			r.opener.copying.known(p)
			r.b.threads += len(p.threads)
		}
	}
	return nil
}

// A machine tells of processes from /proc.
type machine struct{ files *codeFiles }

func (m *machine) find(pid int, x *mapped) *codeFile { return m.files.find(pid, x) }
func (m *machine) parent(pid int) int                { return readParent(pid) }

func (m *machine) comm(pid, tid int) string {
	name, _ := readComm(pid, tid)
	return name
}

// discover reads a process as it is now. A kernel thread and a process whose memory this user may
// not see have no regions.
func (m *machine) discover(pid int) *process {
	tids, err := readIDs(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	p := newProcess(pid, readParent(pid))
	for _, tid := range tids {
		if comm, ok := readComm(pid, tid); ok {
			p.threads[tid] = &thread{comm: comm}
		}
	}
	maps, _ := m.files.maps(pid)
	for i := range maps {
		x := &maps[i]
		if isDump(x.name) && len(p.dumps) < maxDumps {
			p.dumps = append(p.dumps, x.name)
		}
		p.put(region{x.start, x.end, x.offset, m.files.find(pid, x)})
	}
	return p
}

// describeMachine is Capture.Machine.
func describeMachine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "Linux"
	}
	word := func(b []byte) string { return unix.ByteSliceToString(b) }
	cpus, err := perfevent.OnlineCPUs()
	n := len(cpus)
	if err != nil {
		n = runtime.NumCPU()
	}
	unit := "CPUs"
	if n == 1 {
		unit = "CPU"
	}
	return strings.Join([]string{word(u.Sysname[:]), word(u.Release[:]), word(u.Machine[:]) + ",", fmt.Sprint(n), unit}, " ")
}
