package freeze

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoProcess says that there is no such process, or it ended meanwhile.
var ErrNoProcess = errors.New("there is no such process")

// An endedError is an ErrNoProcess in other words.
type endedError struct{ text string }

func (e *endedError) Error() string        { return e.text }
func (e *endedError) Is(target error) bool { return target == ErrNoProcess }

// errMaps says that a line is none of proc_pid_maps(5).
var errMaps = errors.New("it is not as proc_pid_maps(5) has it")

// maxMappings bounds what is read: sysctl vm.max_map_count is 65530 unless somebody raised it.
const maxMappings = 4 << 20

// parseMaps reads /proc/PID/maps.
func parseMaps(text []byte) ([]Region, error) {
	var all []Region
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		// start-end perm offset device inode path, the path behind spaces and with spaces of its own
		var field [5]string
		rest := line
		for i := range field {
			var ok bool
			field[i], rest, ok = strings.Cut(rest, " ")
			if !ok && i < 4 {
				return nil, errMaps
			}
		}
		low, high, _ := strings.Cut(field[0], "-")
		start, err1 := strconv.ParseUint(low, 16, 64)
		end, err2 := strconv.ParseUint(high, 16, 64)
		offset, err3 := strconv.ParseUint(field[2], 16, 64)
		inode, err4 := strconv.ParseUint(field[4], 10, 64)
		if err := cmp.Or(err1, err2, err3, err4); err != nil || end <= start || start%pageSize != 0 || end%pageSize != 0 || len(field[1]) != 4 || len(all) >= maxMappings {
			return nil, errMaps
		}
		if n := len(all); n > 0 && start < all[n-1].End {
			// The kernel lets go of its lock between pages of output: a mapping that grew meanwhile can
			// come twice.
			if end <= all[n-1].End {
				continue
			}
			offset += all[n-1].End - start
			start = all[n-1].End
		}
		path, deleted := strings.CutSuffix(strings.TrimLeft(rest, " "), " (deleted)")
		all = append(all, Region{
			Start: start, End: end, Perm: field[1], Offset: offset, Path: strings.ReplaceAll(path, `\012`, "\n"), Deleted: deleted,
			device: field[3], inode: inode,
		})
	}
	return all, nil
}

// A process is a process that lives, as /proc tells of it. It is one process until close: of another that
// got its number nothing is read.
type process struct {
	pid  int
	dir  *os.File
	name string
}

// openProcess opens a process, and says what cannot be read: none, ended, a thread of the kernel.
func openProcess(pid int) (*process, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("%d is no process id", pid)
	}
	dir, err := os.OpenFile("/proc/"+strconv.Itoa(pid), unix.O_DIRECTORY|os.O_RDONLY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(unix.Kill(pid, 0), unix.EPERM):
		return nil, fmt.Errorf("process %d belongs to another user, and /proc is mounted to hide those (hidepid): run as that user or as root", pid)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("process %d: %w; `sightline ps` lists those that run", pid, ErrNoProcess)
	case err != nil:
		return nil, fmt.Errorf("process %d: %w", pid, cause(err))
	}
	p := &process{pid: pid, dir: dir}
	if err := p.identify(); err != nil {
		dir.Close()
		return nil, err
	}
	return p, nil
}

func (p *process) close() { p.dir.Close() }

// open opens a file of the process's folder.
func (p *process) open(name string) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // a path may lead to a pipe
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p.dir.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), p.dir.Name()+"/"+name), nil
}

func (p *process) read(name string) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Files of /proc have no size: begin with room for most.
	b := make([]byte, 0, 16<<10)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *process) link(name string) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(int(p.dir.Fd()), name, b)
	return string(b[:max(n, 0)]), err
}

// identify finds out what the process is.
func (p *process) identify() error {
	state, flags, name, err := p.stat("stat")
	if err != nil {
		return p.gone(err)
	}
	p.name = name
	const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h
	switch {
	case flags&kernelThread != 0:
		return fmt.Errorf("process %d (%s) is a thread of the kernel: it has no memory of its own", p.pid, p.name)
	case strings.ContainsRune("ZXx", rune(state)):
		return &endedError{fmt.Sprintf("process %d (%s) has ended and waits for its parent to ask how (a zombie): it has no memory any more", p.pid, p.name)}
	}
	return nil
}

// stat reads the state, flags and name of the process or one of its threads.
func (p *process) stat(file string) (state byte, flags uint64, name string, err error) {
	stat, err := p.read(file)
	if err != nil {
		return 0, 0, "", err
	}
	// pid (name) state ppid pgrp session tty tpgid flags …; the name may have parentheses in it.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return 0, 0, "", errors.New("it is not as proc_pid_stat(5) has it")
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 7 || len(fields[0]) != 1 {
		return 0, 0, "", errors.New("it is not as proc_pid_stat(5) has it")
	}
	flags, _ = strconv.ParseUint(string(fields[6]), 10, 64)
	return fields[0][0], flags, string(stat[open+1 : end]), nil
}

// gone is the error of a process that ended while it was read.
func (p *process) gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return &endedError{fmt.Sprintf("process %d (%s) ended meanwhile", p.pid, p.name)}
	}
	return fmt.Errorf("process %d (%s): %w", p.pid, p.name, cause(err))
}

// alive says whether it has not ended, nor is about to: then its memory is gone.
func (p *process) alive() bool {
	f, err := p.statusFields("status")
	return err == nil && f["VmSize"] != "" && !strings.HasPrefix(f["State"], "Z") && !strings.HasPrefix(f["State"], "X")
}

func (p *process) openWrite(name string) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p.dir.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), p.dir.Name()+"/"+name), nil
}

// statusFields are the lines of a status file (proc_pid_status(5)) by their names.
func (p *process) statusFields(name string) (map[string]string, error) {
	text, err := p.read(name)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// threads are the ids of the threads, the main one first.
func (p *process) threadIDs() ([]int, error) {
	dir, err := p.open("task")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	ids := make([]int, 0, len(names))
	for _, n := range names {
		if id, err := strconv.Atoi(n); err == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int) int {
		switch {
		case a == b:
			return 0
		case a == p.pid:
			return -1
		case b == p.pid:
			return 1
		}
		return cmp.Compare(a, b)
	})
	return ids, nil
}

func (p *process) threadName(tid int) string {
	b, _ := p.read("task/" + strconv.Itoa(tid) + "/comm")
	return strings.TrimSuffix(string(b), "\n")
}

// A span is a range of addresses.
type span struct{ start, end uint64 }

func appendSpan(all []span, start, end uint64) []span {
	if n := len(all); n > 0 && all[n-1].end == start {
		all[n-1].end = end
		return all
	}
	return append(all, span{start, end})
}

// A pagemap tells which pages of a process have something.
type pagemap struct {
	f      *os.File
	noScan bool // the kernel has no PAGEMAP_SCAN: before Linux 6.7
	vec    []pageRegion
	buf    []byte
}

// pageScan is struct pm_scan_arg and pageRegion struct page_region (include/uapi/linux/fs.h).
type pageScan struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages      uint64
	invertedCategories, allCategories, anyCategories, returnMask uint64
}

type pageRegion struct{ start, end, categories uint64 }

const (
	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	pageFile    = 1 << 2     // of a file or shared
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5 // the page of zeros that all processes share
)

// written are the pages between start and end that are in memory or in swap; with private only those that
// are of the process's own, not of a file.
func (m *pagemap) written(start, end uint64, private bool) ([]span, error) {
	if !m.noScan {
		all, err := m.scan(start, end, private)
		if err == nil {
			return all, nil
		}
		if !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
			return nil, err
		}
		m.noScan = true
	}
	return m.walk(start, end, private)
}

func (m *pagemap) scan(start, end uint64, private bool) (all []span, err error) {
	if m.vec == nil {
		m.vec = make([]pageRegion, 2048)
	}
	not := uint64(pageZero)
	if private {
		not |= pageFile
	}
	for at := start; at < end; {
		arg := pageScan{
			size: uint64(unsafe.Sizeof(pageScan{})), start: at, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&m.vec[0]))), vecLen: uint64(len(m.vec)),
			invertedCategories: not, allCategories: not, anyCategories: pagePresent | pageSwapped, returnMask: pagePresent,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, m.f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 {
			return nil, errno
		}
		for _, r := range m.vec[:min(int(n), len(m.vec))] {
			all = appendSpan(all, r.start, r.end)
		}
		if arg.walkEnd <= at {
			break
		}
		at = arg.walkEnd
	}
	return all, nil
}

// walk reads an entry of 8 bytes for each page: bit 63 says present, bit 62 swapped, bit 61 of a file or
// shared (Documentation/admin-guide/mm/pagemap.rst).
func (m *pagemap) walk(start, end uint64, private bool) (all []span, err error) {
	if m.buf == nil {
		m.buf = make([]byte, 64<<10)
	}
	for at := start; at < end; {
		n, err := m.f.ReadAt(m.buf[:min(uint64(len(m.buf)), (end-at)/pageSize*8)], int64(at/pageSize*8))
		if n < 8 {
			return all, err
		}
		for i := 0; i+8 <= n; i += 8 {
			e := binary.LittleEndian.Uint64(m.buf[i:])
			page := at + uint64(i)/8*pageSize
			if e&(3<<62) != 0 && (!private || e&(1<<61) == 0) {
				all = appendSpan(all, page, page+pageSize)
			}
		}
		at += uint64(n) / 8 * pageSize
	}
	return all, nil
}

// A memory reads a process's memory: by process_vm_readv, and what may not be read so, such as pages
// without permission, through /proc/PID/mem.
type memory struct {
	pid int
	f   *os.File // /proc/PID/mem
}

// readSpan reads a span into b, which has its size, and says how much of it could be read.
func (m *memory) readSpan(s span, b []byte) int {
	n := 0
	for n < len(b) {
		local := []unix.Iovec{{Base: &b[n], Len: uint64(len(b) - n)}}
		k, err := unix.ProcessVMReadv(m.pid, local, []unix.RemoteIovec{{Base: uintptr(s.start) + uintptr(n), Len: len(b) - n}}, 0)
		if err != nil || k <= 0 {
			break
		}
		n += k
	}
	if n < len(b) && m.f != nil {
		k, _ := m.f.ReadAt(b[n:], int64(s.start)+int64(n))
		n += max(k, 0)
	}
	return n
}
