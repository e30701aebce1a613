package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A holder is a process that has a lock on a file.
type holder struct {
	pid     int
	command string // its command line; "" where it may not be seen
}

func (h holder) String() string {
	if h.command == "" {
		return fmt.Sprintf("process %d", h.pid)
	}
	return fmt.Sprintf("process %d (%s)", h.pid, h.command)
}

// holders are the processes that hold a flock(2) lock on f, this one included.
//
// /proc/locks (fs/locks.c, lock_get_status) names the process that took each lock, by the file's
// device and inode. It shows 0, or nothing, for a process of another PID namespace; and its device
// is the superblock's, which on btrfs and overlayfs is not the one stat(2) gives. So where it has
// no answer, the open files of all processes that we may look into are compared with f.
func holders(f *os.File) []holder {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return nil
	}
	var pids []int
	if b, err := os.ReadFile("/proc/locks"); err == nil {
		pids = lockOwners(b, unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	}
	if len(pids) == 0 {
		pids = lockersByFiles(&st)
	}
	slices.Sort(pids)
	var out []holder
	for _, pid := range slices.Compact(pids) {
		out = append(out, holder{pid, commandLine(pid)})
	}
	return out
}

// lockOwners finds the holders of flock locks in the text of /proc/locks, whose lines read
//
//	1: FLOCK  ADVISORY  WRITE 71 fd:00:131 0 EOF
//
// A line with "->" after the number is a process that waits.
func lockOwners(locks []byte, major, minor uint32, inode uint64) []int {
	var pids []int
	for line := range strings.Lines(string(locks)) {
		w := strings.Fields(line)
		if len(w) < 6 || w[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		if err != nil || pid <= 0 {
			continue
		}
		id := strings.Split(w[5], ":")
		if len(id) != 3 {
			continue
		}
		a, err1 := strconv.ParseUint(id[0], 16, 32)
		b, err2 := strconv.ParseUint(id[1], 16, 32)
		n, err3 := strconv.ParseUint(id[2], 10, 64)
		if err1 == nil && err2 == nil && err3 == nil && uint32(a) == major && uint32(b) == minor && n == inode {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lockersByFiles looks for the file among the open files of other processes; /proc/PID/fdinfo says
// of each which locks it has (proc_pid_fdinfo(5)).
func lockersByFiles(st *unix.Stat_t) []int {
	var pids []int
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/[0-9]*")
	for _, fd := range fds {
		var other unix.Stat_t
		if unix.Stat(fd, &other) != nil || other.Ino != st.Ino || other.Dev != st.Dev {
			continue
		}
		dir, n := filepath.Split(fd)
		process := filepath.Dir(filepath.Clean(dir))
		info, err := os.ReadFile(filepath.Join(process, "fdinfo", n))
		if err != nil || !bytes.Contains(info, []byte("FLOCK")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// commandLine is a process's command line on one line, cut at 200 bytes.
func commandLine(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	s := strings.ToValidUTF8(string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '})), "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// A process is the identity of a running process, which outlives its number: a number is used
// again, and the writer of a capture may be one of another container or of before a restart.
type process struct {
	pid       int
	started   uint64 // ticks since the machine started; proc_pid_stat(5), field 22
	boot      string // /proc/sys/kernel/random/boot_id
	namespace string // of PIDs: "pid:[4026531836]"
}

// self is this process.
func self() process {
	p := process{pid: os.Getpid()}
	p.started, _ = started(p.pid)
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		p.boot = strings.TrimSpace(string(b))
	}
	p.namespace, _ = os.Readlink("/proc/self/ns/pid")
	return p
}

// alive says whether p runs; known is false where this process cannot see p's numbers.
func (p process) alive() (alive, known bool) {
	me := self()
	if p.boot != me.boot || p.namespace != me.namespace {
		return false, false
	}
	if p.pid == me.pid {
		return p.started == me.started, true
	}
	s, err := started(p.pid)
	if err != nil {
		// hidepid (proc(5)) hides the processes of others, not whether there are any.
		return syscall.Kill(p.pid, 0) == syscall.EPERM, true
	}
	return s == p.started, true
}

// started is when a process started. The command in the second field may hold spaces and
// parentheses, so fields count from the last parenthesis.
func started(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	w := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(w) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(w)+2)
	}
	if string(w[0]) == "Z" {
		return 0, fmt.Errorf("process %d has ended and nobody has waited for it", pid)
	}
	return strconv.ParseUint(string(w[19]), 10, 64)
}
