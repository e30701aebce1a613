package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
)

// What is recorded of other users' processes has names only with what these have mapped, which their
// users may read, and root.

// foreign says no where processes of others are not granted.
func (s *server) foreign() error {
	if s.granted&(broker.Users|broker.Machine) == 0 {
		return denial("look into a process of another user: sightline-capture does that only for who is allowed to record it, in " + configPath)
	}
	return nil
}

// maps passes /proc/PID/maps, open: the kernel asks once who opens it, and shows what that very program
// has mapped, not what the process may exec later (proc_maps_open, fs/proc/task_mmu.c).
func (s *server) maps(r broker.Request) error {
	var f *os.File
	err := s.foreign()
	if err == nil {
		err = with(setOf(unix.CAP_SYS_PTRACE), func() (err error) {
			f, err = os.Open(fmt.Sprintf("/proc/%d/maps", r.Process))
			return err
		})
	}
	if err != nil {
		return s.answer(err)
	}
	defer f.Close()
	return s.reply(broker.Reply{}, int(f.Fd()))
}

// file passes a file that a process has mapped executable, open for reading.
func (s *server) file(r broker.Request) error {
	fd := -1
	err := s.foreign()
	if err == nil {
		err = with(setOf(unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH), func() (err error) {
			fd, err = openMapped(int(r.Process), r.Start, r.End)
			return err
		})
	}
	if err != nil {
		return s.answer(err)
	}
	defer unix.Close(fd)
	return s.reply(broker.Reply{}, fd)
}

// openMapped opens the file of a mapping from start to end: the program itself, or what lies at the path
// where the process sees it, if that is the same file still.
func openMapped(pid int, start, end uint64) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return -1, err
	}
	path, want, ok := findMapping(text, start, end)
	if !ok {
		return -1, fmt.Errorf("open a file of process %d: it has none mapped as code from %#x to %#x: %w", pid, start, end, unix.ENOENT)
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	var st unix.Stat_t
	if fd, err := unix.Open(fmt.Sprintf("/proc/%d/exe", pid), flags, 0); err == nil {
		if unix.Fstat(fd, &st) == nil && st.Ino == want.ino && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return fd, nil
		}
		unix.Close(fd)
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the root of process %d: %w", pid, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, fmt.Errorf("open %s of process %d: %w", path, pid, err)
	}
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != want.ino ||
		unix.Major(st.Dev) != want.major || unix.Minor(st.Dev) != want.minor {
		unix.Close(fd)
		return -1, fmt.Errorf("open %s of process %d: another file is there now: %w", path, pid, errors.Join(err, unix.ESTALE))
	}
	return fd, nil
}

// A fileIdentity is what /proc/PID/maps says of a file.
type fileIdentity struct {
	major, minor uint32
	ino          uint64
}

// findMapping finds the line of an executable mapping of a file in /proc/PID/maps (proc_pid_maps(5)).
func findMapping(text []byte, start, end uint64) (path string, id fileIdentity, ok bool) {
	for line := range bytes.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 6)
		if len(fields) < 6 || fields[0] != fmt.Sprintf("%08x-%08x", start, end) || len(fields[1]) < 3 || fields[1][2] != 'x' {
			continue
		}
		path = strings.ReplaceAll(strings.TrimLeft(fields[5], " "), `\012`, "\n")
		major, minor, _ := strings.Cut(fields[3], ":")
		a, err1 := strconv.ParseUint(major, 16, 32)
		b, err2 := strconv.ParseUint(minor, 16, 32)
		ino, err3 := strconv.ParseUint(fields[4], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil || !strings.HasPrefix(path, "/") {
			return "", fileIdentity{}, false
		}
		return path, fileIdentity{uint32(a), uint32(b), ino}, true
	}
	return "", fileIdentity{}, false
}
