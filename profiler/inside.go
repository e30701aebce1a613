package profiler

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Process is what is known of one whose memory without a file had code in it, as far as it takes to
// find what the process itself writes about that code: perf maps and jitdumps.
type Process struct {
	PID int // as Task.PID
	// Own is the PID that it has in its own PID namespace, by which it calls itself.
	Own int
	// UID is the user that its files belong to.
	UID uint32
	// Begun is when it was started, to some hundredths of a second. What was written before is of
	// another process that had its number.
	Begun time.Time
	// Root is the folder that its paths begin at, and Tmp what it sees as /tmp. Both are "" for a process
	// that sees the files that the recorder does, and good until the recording is closed, also when the
	// process has ended.
	Root, Tmp string
	// Dumps are the paths of the jitdumps (jit-PID.dump) that it has mapped so far.
	Dumps []string
}

// Process tells whose memory a mapping of kind profile.Anonymous is; false for others, and where this
// user may not look into the process, which a warning tells.
func (r *Recording) Process(id profile.MappingID) (Process, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(id) >= len(r.b.files) || r.b.files[id] == nil {
		return Process{}, false
	}
	f := r.b.files[id]
	m := r.b.makers[f]
	if m == nil {
		return Process{}, false
	}
	p := *m
	p.Dumps = slices.Clone(f.of.dumps)
	return p, true
}

// Root is the folder that the path of a mapping's file begins at, where its process sees other files
// than the recorder does: a container's; else "". It is good until Close.
func (r *Recording) Root(id profile.MappingID) string {
	r.mu.Lock()
	f := r.b.file(id)
	r.mu.Unlock()
	return r.files.rootOf(f)
}

// made: code in a process's memory without a file has its first sample. What is known of the process
// is found out now, for it may end.
func (b *builder) made(f *codeFile) {
	if b.describe == nil || f.of == nil {
		return
	}
	if b.makers == nil {
		b.makers = make(map[*codeFile]*Process)
	}
	p, err := b.describe(f.of.pid)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		b.warn(profile.WarnUnreadable, fmt.Sprintf(
			"code that process %d made at run time has no names: this user may not see its files (%v); record as its user or as root", f.of.pid, err))
		return
	default: // it has ended
		p = b.late(f.of)
	}
	b.makers[f] = p
}

// late is what is taken for granted of a process that ended before it could be looked at: what is known
// of its parent, or else of this process.
func (b *builder) late(of *process) *Process {
	p := &Process{PID: of.pid, Own: of.pid, UID: uint32(os.Geteuid()), Begun: b.c.Start}
	if parent := b.tracker.pids[of.parent]; parent != nil && parent.anonymous != nil {
		if m := b.makers[parent.anonymous]; m != nil {
			p.UID, p.Root, p.Tmp = m.UID, m.Root, m.Tmp
		}
	}
	return p
}

// isDump says whether a file's name is one that jitdumps have: it is mapped to tell of it and for
// nothing else (tools/perf/Documentation/jitdump-specification.txt of Linux).
func isDump(name string) bool {
	number, ok := strings.CutPrefix(path.Base(name), "jit-")
	number, ok2 := strings.CutSuffix(number, ".dump")
	_, err := strconv.ParseUint(number, 10, 32)
	return ok && ok2 && err == nil
}

// maxDumps bounds the jitdumps of one process; there is one.
const maxDumps = 16

// describe reads what /proc tells of a process. The error wraps fs.ErrPermission where this user may
// not see it, and is another where it has ended.
func (r *roots) describe(pid int) (*Process, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	p := &Process{PID: pid}
	var ok bool
	if p.Own, p.UID, ok = parseStatus(status); !ok {
		return nil, fmt.Errorf("/proc/%d/status is not as proc_pid_status(5) has it", pid)
	}
	if ticks, ok := parseBegun(stat); ok {
		p.Begun = sinceBoot(ticks)
	}
	root, err := r.hold(pid)
	if err != nil {
		return nil, err
	}
	p.Root, p.Tmp = root.path(), root.tmpPath()
	return p, nil
}

// parseStatus reads /proc/PID/status (proc_pid_status(5)): the PID in the innermost namespace, which is
// the last of the line NSpid, and the user of files, which is the last of the line Uid.
func parseStatus(text []byte) (own int, uid uint32, ok bool) {
	found := 0
	for line := range bytes.Lines(text) {
		key, rest, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		last := string(fields[len(fields)-1])
		switch string(key) {
		case "Uid":
			n, err := strconv.ParseUint(last, 10, 32)
			if err != nil || len(fields) != 4 {
				return 0, 0, false
			}
			uid = uint32(n)
			found |= 1
		case "Pid", "NSpid": // the second comes later, if there is one (Linux 4.1)
			n, err := strconv.ParseInt(last, 10, 32)
			if err != nil || n <= 0 {
				return 0, 0, false
			}
			own = int(n)
			found |= 2
		}
	}
	return own, uid, found == 3
}

// parseBegun reads when a process was started from /proc/PID/stat, in clock ticks since boot
// (proc_pid_stat(5), field 22).
func parseBegun(text []byte) (ticks uint64, ok bool) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[22-3]), 10, 64)
	return ticks, err == nil
}

// sinceBoot is the time so many ticks after boot. A tick is a hundredth of a second for every program
// (USER_HZ, include/asm-generic/param.h).
func sinceBoot(ticks uint64) time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil || ticks > 1<<50 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(now.Nano()))
}

// roots holds the file systems of processes that see other files than this one, so that they can be
// read when the processes have ended. All methods may be called by any goroutine.
type roots struct {
	mu   sync.Mutex
	own  rootKey // of this process; zero where it could not be read
	held map[rootKey]*root
}

// maxRoots bounds the file systems that are held; each is two descriptors.
const maxRoots = 64

// A rootKey tells which files a process sees: its root folder, and its mount namespace.
type rootKey struct{ dev, ino, namespace uint64 }

// A root is the file system that a process sees. Its folders are found through descriptors: neither
// the end of the process nor that of its mount namespace takes them away. nil is that of this process.
type root struct {
	dir, tmp *os.File // tmp may be another file system, and is nil where there is none
}

func (r *root) path() string {
	if r == nil {
		return ""
	}
	return descriptorPath(r.dir)
}

func (r *root) tmpPath() string {
	if r == nil || r.tmp == nil {
		return ""
	}
	return descriptorPath(r.tmp)
}

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func newRoots() *roots {
	r := &roots{held: make(map[rootKey]*root)}
	if f, key, err := openRoot("self"); err == nil {
		f.Close()
		r.own = key
	}
	return r
}

// hold is the root of a process: nil for one that sees what this process does.
func (r *roots) hold(pid int) (*root, error) {
	proc := strconv.Itoa(pid)
	dir, key, err := openRoot(proc)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if key == r.own {
		dir.Close()
		return nil, nil
	}
	if h := r.held[key]; h != nil {
		dir.Close()
		return h, nil
	}
	if len(r.held) >= maxRoots || r.held == nil {
		dir.Close()
		return nil, fmt.Errorf("see the files of process %d: those of %d other containers are held already", pid, maxRoots)
	}
	h := &root{dir: dir}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if fd, err := unix.Openat2(int(dir.Fd()), "tmp", &how); err == nil {
		h.tmp = os.NewFile(uintptr(fd), "/tmp of process "+proc)
	}
	r.held[key] = h
	return h, nil
}

func openRoot(proc string) (*os.File, rootKey, error) {
	path := "/proc/" + proc + "/root"
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, rootKey{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st, namespace unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, rootKey{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	path = "/proc/" + proc + "/ns/mnt"
	if err := unix.Stat(path, &namespace); err != nil {
		f.Close()
		return nil, rootKey{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return f, rootKey{uint64(st.Dev), st.Ino, namespace.Ino}, nil
}

func (r *roots) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		h.dir.Close()
		if h.tmp != nil {
			h.tmp.Close()
		}
	}
	r.held = nil
}
