package process

import (
	"bytes"
	"errors"
	"strconv"
)

// UserHZ is how many ticks of /proc make a second: the kernel's USER_HZ, 100 on every architecture
// that Go runs on (include/asm-generic/param.h).
const UserHZ = 100

// A State is what a process or thread does, as the kernel's letter: 'R' runs or could, 'S' sleeps,
// 'D' sleeps and cannot be woken, 'T' is stopped, 't' is stopped by a debugger, 'Z' has ended and is
// not asked for, 'I' is an idle kernel thread, 'X' is dead (proc_pid_stat(5)).
type State byte

func (s State) String() string {
	switch s {
	case 'R':
		return "running"
	case 'S':
		return "sleeping"
	case 'D':
		return "waiting for a device"
	case 'T':
		return "stopped"
	case 't':
		return "stopped by a debugger"
	case 'Z':
		return "zombie"
	case 'I':
		return "idle"
	case 'X', 'x':
		return "dead"
	}
	return "state " + string(rune(s))
}

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

var errNoStat = errors.New("it is not as proc_pid_stat(5) has it")

// A procStat is what is used of /proc/PID/stat.
type procStat struct {
	pid, parent  int
	name         string // up to 15 bytes, which may be any
	state        State
	kernel       bool   // a kernel thread
	user, system uint64 // ticks on a processor
	threads      int
	start        uint64 // ticks after boot
	resident     int64  // pages
	processor    int    // it ran on last
}

// parseStat reads /proc/PID/stat, as proc_pid_stat(5) has it. It is an error where a field is not there
// or no number; on error the result is zero.
func parseStat(text []byte) (procStat, error) {
	// The name is in parentheses and may have any byte in it, parentheses too.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return procStat{}, errNoStat
	}
	s := procStat{name: string(text[open+1 : end])}
	ok := true
	number := func(field []byte) int64 {
		n, err := strconv.ParseInt(string(field), 10, 64)
		ok = ok && err == nil
		return n
	}
	s.pid = int(number(bytes.TrimSpace(text[:open])))
	rest, at := text[end+1:], 3 // number of the field that comes
	for ; at <= 39; at++ {
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) == 0 || rest[0] == '\n' {
			break
		}
		n := bytes.IndexAny(rest, " \n")
		if n < 0 {
			n = len(rest)
		}
		field := rest[:n]
		rest = rest[n:]
		switch at {
		case 3:
			ok = ok && len(field) == 1
			s.state = State(field[0])
		case 4:
			s.parent = int(number(field))
		case 9:
			flags := number(field)
			s.kernel = flags&kernelThread != 0
		case 14:
			s.user = uint64(number(field))
		case 15:
			s.system = uint64(number(field))
		case 20:
			s.threads = int(number(field))
		case 22:
			s.start = uint64(number(field))
		case 24:
			s.resident = number(field)
		case 39:
			s.processor = int(number(field))
		}
	}
	if !ok || at <= 24 || s.pid <= 0 || s.resident < 0 || s.resident > 1<<46 {
		return procStat{}, errNoStat
	}
	return s, nil
}

// A procStatus is what is used of /proc/PID/status.
type procStatus struct {
	uid, ruid int   // effective and real
	anonymous int64 // bytes resident of memory without a file
	swap      int64 // bytes
	memory    bool  // it has memory: neither a kernel thread nor a zombie
}

// parseStatus reads /proc/PID/status (proc_pid_status(5)); false where it does not say whose the
// process is.
func parseStatus(text []byte) (s procStatus, ok bool) {
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		key, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		switch string(key) {
		case "Uid":
			ids := bytes.Fields(value) // real, effective, saved, of file systems
			if len(ids) < 2 {
				return procStatus{}, false
			}
			real, err1 := strconv.ParseUint(string(ids[0]), 10, 32)
			effective, err2 := strconv.ParseUint(string(ids[1]), 10, 32)
			if err1 != nil || err2 != nil {
				return procStatus{}, false
			}
			s.ruid, s.uid, ok = int(real), int(effective), true
		case "RssAnon":
			s.anonymous, s.memory = kilobytes(value)
		case "VmSwap":
			s.swap, _ = kilobytes(value)
		}
	}
	if !ok {
		return procStatus{}, false
	}
	return s, true
}

// kilobytes reads "  1234 kB" as bytes.
func kilobytes(value []byte) (int64, bool) {
	number, unit, _ := bytes.Cut(bytes.TrimSpace(value), []byte(" "))
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || n < 0 || n > 1<<50 || string(bytes.TrimSpace(unit)) != "kB" {
		return 0, false
	}
	return n << 10, true
}

// parseIO reads what /proc/PID/io says of storage (proc_pid_io(5)), in bytes.
func parseIO(text []byte) (read, written int64, ok bool) {
	found := 0
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		key, value, _ := bytes.Cut(line, []byte(": "))
		to := &read
		switch string(key) {
		case "write_bytes":
			to = &written
		case "read_bytes":
		default:
			continue
		}
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			return 0, 0, false
		}
		*to = n
		found++
	}
	if found < 2 {
		return 0, 0, false
	}
	return read, written, true
}
