package profiler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// mapped is something that was mapped into a process: a record of the kernel, or a line of
// /proc/PID/maps.
type mapped struct {
	start, end uint64 // runtime addresses
	offset     uint64 // in the file, of start
	name       string // path as the process sees it, perhaps with " (deleted)"; "//anon", "[vdso]"

	// Who the file is: a build ID, or else device and inode.
	buildID      string // hex
	major, minor uint32
	inode        uint64
	generation   uint64 // of the inode; 0 where not known
}

// readMaps lists what process pid has mapped executable, by address.
func readMaps(pid int) ([]mapped, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	return parseMaps(text), nil
}

// maps is the same, also for a process of another user where that is granted.
func (fs *codeFiles) maps(pid int) ([]mapped, error) {
	all, err := readMaps(pid)
	if fs.others == nil || !errors.Is(err, os.ErrPermission) {
		return all, err
	}
	f, err := fs.others.Maps(pid)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return parseMaps(text), err
}

// parseMaps reads the executable lines of /proc/PID/maps (proc_pid_maps(5)):
//
//	55d0c8a3c000-55d0c8a41000 r-xp 00002000 08:01 1835029    /usr/bin/cat (deleted)
//
// Lines that do not have this form are left out.
func parseMaps(text []byte) []mapped {
	var all []mapped
	for line := range bytes.Lines(text) {
		if m, ok := parseMapsLine(bytes.TrimSuffix(line, []byte("\n"))); ok {
			all = append(all, m)
		}
	}
	return all
}

func parseMapsLine(line []byte) (m mapped, ok bool) {
	field := func() string {
		f, rest, _ := bytes.Cut(line, []byte(" "))
		line = rest
		return string(f)
	}
	bounds, prot, offset, device, inode := field(), field(), field(), field(), field()
	if len(prot) < 4 || prot[2] != 'x' {
		return m, false
	}
	from, to, ok1 := cutHex(bounds, '-', 64)
	major, minor, ok2 := cutHex(device, ':', 32)
	off, err1 := strconv.ParseUint(offset, 16, 64)
	ino, err2 := strconv.ParseUint(inode, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || from >= to {
		return m, false
	}
	name := string(bytes.TrimLeft(line, " "))
	// "\012" stands for a newline, the only character the kernel escapes (seq_file_path).
	name = string(bytes.ReplaceAll([]byte(name), []byte(`\012`), []byte("\n")))
	if name == "" {
		name = anonymousName
	}
	return mapped{
		start: from, end: to, offset: off, name: name,
		major: uint32(major), minor: uint32(minor), inode: ino,
	}, true
}

func cutHex(s string, sep byte, bits int) (a, b uint64, ok bool) {
	for i := range len(s) {
		if s[i] == sep {
			a, err1 := strconv.ParseUint(s[:i], 16, bits)
			b, err2 := strconv.ParseUint(s[i+1:], 16, bits)
			return a, b, err1 == nil && err2 == nil
		}
	}
	return 0, 0, false
}

// readComm is the name of a thread, or of a process where tid is its PID.
func readComm(pid, tid int) (string, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", pid, tid))
	if err != nil {
		return "", false
	}
	return string(bytes.TrimSuffix(text, []byte("\n"))), true
}

// readParent is the PID of a process's parent, or 0.
func readParent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, parent := parseStat(text)
	return parent
}

// zombie says that a process has ended and its parent has not asked for its status. A process whose
// main thread alone has ended looks the same, but for its other threads.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	if state, _ := parseStat(text); state != "Z" && state != "X" {
		return false
	}
	tids, err := readIDs(fmt.Sprintf("/proc/%d/task", pid))
	return err != nil || len(tids) <= 1
}

// parseStat reads a process's state and the PID of its parent from /proc/PID/stat (proc_pid_stat(5)):
// "PID (comm) S PPID …", where comm may contain anything.
func parseStat(text []byte) (state string, parent int) {
	i := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[i+1:])
	if i < 0 || len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent
}

// readIDs lists the numbers that name entries of a folder of /proc: processes or threads.
func readIDs(folder string) ([]int, error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	ids := make([]int, 0, len(names))
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil && id > 0 {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
