package process

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An fdInfo is what /proc/PID/fdinfo/FD tells (proc_pid_fdinfo(5)); -1 is not told.
type fdInfo struct {
	pos        int64
	flags      uint64 // as of open(2); octal in the file
	flagsKnown bool
	mount      int64
	lock       byte
	eventID    int64
	count      string // of an eventfd
	epoll      []int  // descriptors that an epoll waits for
	epollMore  int    // not in epoll
	watches    int    // of inotify and fanotify
	pid        int64  // of a pidfd; -1 also where the process has ended: see isPidfd
	isPidfd    bool
	clock      int64 // of a timerfd
	next       [2]int64
	interval   [2]int64
	signals    uint64 // of a signalfd, a bit each
	isSignalfd bool
	bpf        string // "map 12", "prog 7", "link 3"
}

// maxEpoll is how many descriptors of an epoll are named.
const maxEpoll = 16

// parseFDInfo reads fdinfo. Lines that it does not know, or that are not as they should be, are left
// out.
func parseFDInfo(text []byte) fdInfo {
	x := fdInfo{pos: -1, mount: -1, eventID: -1, pid: -1, clock: -1}
	number := func(v []byte, base int) int64 {
		n, err := strconv.ParseInt(string(v), base, 64)
		if err != nil {
			return -1
		}
		return n
	}
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		if w, ok := bytes.CutPrefix(line, []byte("inotify wd:")); ok && len(w) > 0 {
			x.watches++
			continue
		}
		if w, ok := bytes.CutPrefix(line, []byte("fanotify ")); ok {
			if bytes.HasPrefix(w, []byte("ino:")) || bytes.HasPrefix(w, []byte("mnt_id:")) || bytes.HasPrefix(w, []byte("sdev:")) {
				x.watches++
			}
			continue
		}
		key, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "pos":
			x.pos = number(value, 10)
		case "flags":
			if n, err := strconv.ParseUint(string(value), 8, 64); err == nil {
				x.flags, x.flagsKnown = n, true
			}
		case "mnt_id":
			x.mount = number(value, 10)
		case "lock":
			if l, ok := parseLock(value); ok {
				x.lock = l.kind
			}
		case "eventfd-id":
			x.eventID = number(value, 10)
		case "eventfd-count":
			if n, err := strconv.ParseUint(string(value), 16, 64); err == nil {
				x.count = strconv.FormatUint(n, 10)
			}
		case "tfd":
			fd, _, _ := bytes.Cut(value, []byte(" "))
			n := number(fd, 10)
			switch {
			case n < 0 || n > 1<<31:
			case len(x.epoll) < maxEpoll:
				x.epoll = append(x.epoll, int(n))
			default:
				x.epollMore++
			}
		case "Pid":
			x.pid, x.isPidfd = number(value, 10), true
		case "clockid":
			x.clock = number(value, 10)
		case "it_value":
			x.next = pair(value)
		case "it_interval":
			x.interval = pair(value)
		case "sigmask":
			if n, err := strconv.ParseUint(string(value), 16, 64); err == nil {
				x.signals, x.isSignalfd = n, true
			}
		case "map_id", "prog_id", "link_id":
			if n := number(value, 10); n >= 0 {
				kind, _, _ := strings.Cut(string(key), "_")
				x.bpf = cmp.Or(x.bpf, fmt.Sprintf("%s %d", kind, n))
			}
		}
	}
	return x
}

// pair reads "(1, 500000000)": seconds and nanoseconds.
func pair(text []byte) (p [2]int64) {
	text = bytes.TrimSuffix(bytes.TrimPrefix(text, []byte("(")), []byte(")"))
	a, b, _ := bytes.Cut(text, []byte(", "))
	s, err1 := strconv.ParseInt(string(a), 10, 64)
	ns, err2 := strconv.ParseInt(string(b), 10, 64)
	if err1 != nil || err2 != nil || s < 0 || s > 1<<33 || ns < 0 || ns >= 1e9 {
		return [2]int64{}
	}
	return [2]int64{s, ns}
}

func span(p [2]int64) time.Duration { return time.Duration(p[0])*time.Second + time.Duration(p[1]) }

// describe fills in what fdinfo tells of a descriptor.
func (f *File) describe(x fdInfo) {
	if x.pos >= 0 && f.Kind != KindAnonymous {
		f.Offset = x.pos
	}
	if x.lock != 0 {
		f.Lock = x.lock
	}
	if f.Kind != KindAnonymous && !x.isPidfd {
		return
	}
	switch {
	case x.eventID >= 0:
		f.Name = fmt.Sprintf("[eventfd:%d]", x.eventID)
		f.Detail = "count " + x.count
	case x.isPidfd:
		f.Kind = KindAnonymous
		f.Name = fmt.Sprintf("[pidfd:%d]", x.pid)
		if x.pid < 0 {
			f.Detail = "the process has ended"
		}
	case strings.HasPrefix(f.Name, "[eventpoll"):
		if len(x.epoll) > 0 {
			var b strings.Builder
			for i, fd := range x.epoll {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strconv.Itoa(fd))
			}
			if x.epollMore > 0 {
				b.WriteString(",…")
				f.Detail = fmt.Sprintf("waits for %d descriptors", len(x.epoll)+x.epollMore)
			}
			f.Name = "[eventpoll:" + b.String() + "]"
		}
	case x.watches == 1:
		f.Detail = "1 watch"
	case x.watches > 1:
		f.Detail = fmt.Sprintf("%d watches", x.watches)
	case x.clock >= 0:
		f.Detail = clockName(x.clock)
		switch {
		case x.interval != [2]int64{}:
			f.Detail += ", every " + span(x.interval).String()
		case x.next != [2]int64{}:
			f.Detail += ", in " + span(x.next).String()
		default:
			f.Detail += ", not set"
		}
	case x.isSignalfd:
		f.Detail = signalNames(x.signals)
	case x.bpf != "":
		f.Detail = x.bpf
	}
}

func clockName(id int64) string {
	switch id {
	case unix.CLOCK_REALTIME:
		return "realtime"
	case unix.CLOCK_MONOTONIC:
		return "monotonic"
	case unix.CLOCK_BOOTTIME:
		return "boottime"
	case unix.CLOCK_REALTIME_ALARM:
		return "realtime alarm"
	case unix.CLOCK_BOOTTIME_ALARM:
		return "boottime alarm"
	}
	return fmt.Sprintf("clock %d", id)
}

// signalNames are the signals of a mask, which has bit n-1 for signal n.
func signalNames(mask uint64) string {
	var names []string
	for s := range 64 {
		if mask&(1<<s) == 0 {
			continue
		}
		name := unix.SignalName(unix.Signal(s + 1))
		names = append(names, cmp.Or(name, fmt.Sprintf("signal %d", s+1)))
	}
	return strings.Join(names, " ")
}

// A lock is one line of /proc/locks (proc_locks(5)), or of a "lock:" line of fdinfo.
type lock struct {
	pid  int
	file deviceInode
	kind byte // 'R' and 'W' of the whole file, 'r' and 'w' of a part of it
}

type lockKey struct {
	pid  int
	file deviceInode
}

// parseLock reads
//
//	1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF
//
// Locks that wait ("1: -> …") are none.
func parseLock(line []byte) (lock, bool) {
	f := bytes.Fields(line)
	if len(f) < 8 || bytes.Equal(f[1], []byte("->")) {
		return lock{}, false
	}
	pid, err := strconv.Atoi(string(f[4]))
	place := bytes.SplitN(f[5], []byte(":"), 3)
	if err != nil || len(place) < 3 {
		return lock{}, false
	}
	major, err1 := strconv.ParseUint(string(place[0]), 16, 32)
	minor, err2 := strconv.ParseUint(string(place[1]), 16, 32)
	inode, err3 := strconv.ParseUint(string(place[2]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return lock{}, false
	}
	l := lock{pid: pid, file: deviceInode{unix.Mkdev(uint32(major), uint32(minor)), inode}}
	whole := string(f[6]) == "0" && string(f[7]) == "EOF"
	switch {
	case string(f[3]) == "READ" && whole:
		l.kind = 'R'
	case string(f[3]) == "READ":
		l.kind = 'r'
	case string(f[3]) == "WRITE" && whole:
		l.kind = 'W'
	case string(f[3]) == "WRITE":
		l.kind = 'w'
	default:
		return lock{}, false
	}
	return l, true
}

// readLocks reads the locks on files, of every process of this PID namespace; none where it may not.
func readLocks(proc string) map[lockKey]byte {
	text, err := os.ReadFile(proc + "/locks")
	if err != nil {
		return nil
	}
	locks := map[lockKey]byte{}
	for line := range bytes.Lines(text) {
		if l, ok := parseLock(line); ok {
			locks[lockKey{l.pid, l.file}] = l.kind
		}
	}
	return locks
}
