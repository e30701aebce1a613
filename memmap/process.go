package memmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// ErrNoProcess says that there is no such process, or it has ended.
var ErrNoProcess = errors.New("there is no such process")

// ErrNoMemory says that a process has no memory of its own: a kernel thread, or one that has ended and
// waits for its parent.
var ErrNoMemory = errors.New("it has no memory")

// A Process is a process whose address space is read. It is one process from Open to Close: when it
// ends and another gets its number, Take fails and never mixes the two. Not for concurrent use.
type Process struct {
	// Walk says that Take shall walk the heaps of malloc chunk by chunk (Snapshot.Mallocs). That reads
	// all of them, so it takes time, and brings what is swapped back.
	Walk bool

	pid  int
	name string
	exe  string // path in the process's file system; "" where it may not be read
	dir  *os.File
	live *liveMemory

	// What costs time to find out and does not change while the same program runs.
	goFound   bool
	goRuntime *goruntime.Runtime
	bias      uint64
	goError   error
	exeFile   *os.File

	// What TakeLight found out the last time.
	heavy        bool // it has to be Take
	lastMappings []mapping
	lastClaims   claimed
}

// Open opens a process. It fails with ErrNoProcess and ErrNoMemory; that regions may not be read only
// Take tells, with a partial snapshot.
func Open(pid int) (*Process, error) { return openAt("/proc", pid) }

func openAt(proc string, pid int) (*Process, error) {
	dir, err := os.OpenFile(filepath.Join(proc, strconv.Itoa(pid)), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && proc == "/proc" && errors.Is(unix.Kill(pid, 0), unix.EPERM) {
			return nil, fmt.Errorf("map process %d: it belongs to another user, and /proc is mounted to hide those (hidepid); run as that user or as root", pid)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("map process %d: %w; `ps` lists those that run", pid, ErrNoProcess)
		}
		return nil, fmt.Errorf("map process %d: %w", pid, err)
	}
	p := &Process{pid: pid, dir: dir, live: &liveMemory{pid: pid}}
	if err := p.identify(); err != nil {
		dir.Close()
		return nil, err
	}
	return p, nil
}

// Close gives back what the process was read through.
func (p *Process) Close() error {
	if p.exeFile != nil {
		p.exeFile.Close()
	}
	return p.dir.Close()
}

// identify finds out what the process is.
func (p *Process) identify() error {
	stat, err := p.read("stat")
	if err != nil {
		return p.ended(err)
	}
	// pid (name) state ppid pgrp session tty tpgid flags …; the name may have parentheses in it.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return fmt.Errorf("map process %d: /proc/%d/stat is not as proc_pid_stat(5) has it", p.pid, p.pid)
	}
	p.name = string(stat[open+1 : end])
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 7 {
		return fmt.Errorf("map process %d: /proc/%d/stat is not as proc_pid_stat(5) has it", p.pid, p.pid)
	}
	const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h
	flags, _ := strconv.ParseUint(string(fields[6]), 10, 64)
	switch {
	case flags&kernelThread != 0:
		return fmt.Errorf("map process %d: %s is a thread of the kernel: %w of its own", p.pid, p.name, ErrNoMemory)
	case len(fields[0]) == 1 && strings.IndexByte("ZXx", fields[0][0]) >= 0:
		return fmt.Errorf("map process %d: %s has ended and waits for its parent to ask how (a zombie): %w any more", p.pid, p.name, ErrNoMemory)
	}
	if exe, err := p.link("exe"); err == nil {
		p.exe = strings.TrimSuffix(exe, " (deleted)")
	}
	return nil
}

// ended is the error of a process that went while it was read.
func (p *Process) ended(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("map process %d: it ended while it was read: %w", p.pid, ErrNoProcess)
	}
	return fmt.Errorf("map process %d: %w", p.pid, err)
}

// open opens a file of the process's folder, through the folder: of another process with the same
// number it cannot be.
func (p *Process) open(name string) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(p.dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(p.dir.Name(), name)), nil
}

// maxText bounds what is read of one file of /proc: a million mappings.
const maxText = 1 << 30

func (p *Process) read(name string) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readText(f)
}

// readText reads a file whose size is not known, in few calls.
func readText(f io.Reader) ([]byte, error) {
	buf := make([]byte, 0, 32<<10)
	for {
		if cap(buf)-len(buf) < 16<<10 {
			next := make([]byte, len(buf), 4*cap(buf))
			copy(next, buf)
			buf = next
		}
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		case len(buf) > maxText:
			return buf, errors.New("it is larger than any that a kernel writes")
		}
	}
}

func (p *Process) link(name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(int(p.dir.Fd()), name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// attempts are how often regions are read when the process changes meanwhile.
const attempts = 3

// Take reads the address space as it is now. The process runs on; what it changes meanwhile is told in
// Status.Changed and a note, after some attempts. Where the regions may not be read the snapshot is
// Partial and a note says what would help. It fails with ErrNoProcess once the process has ended, with
// ErrNoMemory where it did so as a zombie, and with the context's error.
func (p *Process) Take(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{Version: formatVersion, Time: time.Now(), PID: p.pid, Name: p.name, Exe: p.exe, Regions: []Region{}}
	var mappings []mapping
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := p.open("smaps")
		if errors.Is(err, fs.ErrPermission) {
			return p.partial(s)
		}
		if err != nil {
			return nil, p.gone(err)
		}
		all, err := readSmaps(f)
		f.Close()
		switch {
		case errors.Is(err, errSmaps) && try < attempts:
			continue
		case errors.Is(err, errSmaps):
			return nil, fmt.Errorf("map process %d: /proc/%d/smaps: %w", p.pid, p.pid, err)
		case errors.Is(err, fs.ErrPermission):
			return p.partial(s)
		case err != nil:
			return nil, p.gone(err)
		}
		rollup, err := p.rollup()
		if errors.Is(err, fs.ErrPermission) {
			return p.partial(s)
		}
		if err != nil {
			return nil, p.gone(err)
		}
		sum := int64(0)
		for i := range all {
			sum += all[i].rss
		}
		mappings = all
		s.Status.Rollup, s.Status.Changed = rollup, 0
		if rollup != 0 {
			s.Status.Changed = abs(sum - rollup)
		}
		if s.Status.Changed == 0 || try == attempts {
			break
		}
	}
	if len(mappings) == 0 {
		return nil, p.gone(unix.ESRCH)
	}
	if err := p.status(s); err != nil {
		return nil, p.gone(err)
	}
	if s.Status.Changed != 0 {
		s.note("The process changed while it was read: by up to %s resident.", bytesText(s.Status.Changed))
	}
	threads := p.threads()
	p.findGo(s, mappings)
	a := analysis{snapshot: s, mappings: mappings, threads: threads, memory: p.live, pages: p.pages(), exe: p.exe, bias: p.bias, identify: p.deletedInFact, file: p.mappedFile, walk: p.Walk}
	if p.goRuntime != nil {
		p.goRuntime.Refresh()
		a.runtime = p.goRuntime
	}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func abs(n int64) int64 { return max(n, -n) }

// gone is why a process could not be read any more.
func (p *Process) gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		if err := p.identify(); err != nil {
			return err // a zombie, or not even that
		}
	}
	return p.ended(err)
}

// partial is what anybody may know of a process.
func (p *Process) partial(s *Snapshot) (*Snapshot, error) {
	if err := p.status(s); err != nil {
		return nil, p.gone(err)
	}
	s.Partial = true
	s.note("The regions of process %d may not be read by this user: what follows is from /proc/%d/status; run as its user, or with the capability CAP_SYS_PTRACE.", p.pid, p.pid)
	return s, nil
}

// rollup is the resident memory as the kernel sums it, which takes one lock instead of one per page of
// text.
func (p *Process) rollup() (int64, error) {
	text, err := p.read("smaps_rollup")
	if errors.Is(err, fs.ErrNotExist) && p.exists() { // before Linux 4.14
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	all, err := parseSmaps(text)
	if err != nil || len(all) != 1 {
		return 0, nil
	}
	return all[0].rss, nil
}

func (p *Process) exists() bool {
	f, err := p.open("stat")
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// status reads what is in /proc/PID/status.
func (p *Process) status(s *Snapshot) error {
	text, err := p.read("status")
	if err != nil {
		return err
	}
	parseStatus(text, &s.Status)
	s.PageTable = s.Status.PageTable
	return nil
}

func parseStatus(text []byte, to *Status) {
	for l := range bytes.Lines(text) {
		name, rest, ok := bytes.Cut(l, []byte{':'})
		if !ok {
			continue
		}
		var field *int64
		switch string(name) {
		case "VmSize":
			field = &to.Size
		case "VmRSS":
			field = &to.Resident
		case "RssAnon":
			field = &to.ResidentAnon
		case "RssFile":
			field = &to.ResidentFile
		case "RssShmem":
			field = &to.ResidentShmem
		case "VmHWM":
			field = &to.Peak
		case "VmSwap":
			field = &to.Swap
		case "VmLck":
			field = &to.Locked
		case "VmPTE":
			field = &to.PageTable
		case "VmStk":
			field = &to.Stack
		case "Threads":
			n, _ := strconv.Atoi(string(bytes.TrimSpace(rest)))
			to.Threads = n
			continue
		default:
			continue
		}
		kilobytes(rest, field)
	}
}

// deletedInFact says whether a file that the kernel calls "NAME (deleted)" is gone: some files have
// that for a name.
func (p *Process) deletedInFact(m *mapping) bool {
	var st unix.Stat_t
	if unix.Fstatat(int(p.dir.Fd()), "root"+m.path+" (deleted)", &st, 0) != nil {
		return true
	}
	return st.Ino != m.inode
}

// mappedFile opens a file that the process has mapped, if it is still at its path.
func (p *Process) mappedFile(m *mapping) (file, error) {
	if m.deleted {
		return nil, fs.ErrNotExist
	}
	fd, err := unix.Openat(int(p.dir.Fd()), "root"+m.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), m.path)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Ino != m.inode || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// findGo opens the Go runtime of the process, once for each program that it runs.
func (p *Process) findGo(s *Snapshot, mappings []mapping) {
	if exe, err := p.link("exe"); err == nil && strings.TrimSuffix(exe, " (deleted)") != p.exe {
		p.exec(s, exe)
	} else if p.goFound && p.exeFile != nil && biasOf(p.exeFile, p.exe, mappings) != p.bias { // the same one anew
		p.exec(s, exe)
	}
	if !p.goFound {
		p.goFound = true
		if p.exeFile, p.goError = p.open("exe"); p.goError == nil {
			p.bias = biasOf(p.exeFile, p.exe, mappings)
			p.goRuntime, p.goError = goruntime.Open(p.exeFile, p.bias, p.live)
		}
	}
	s.noteGo(p.goRuntime, p.goError)
}

// exec forgets what was found out of a program, because the process runs another one now (execve(2)).
func (p *Process) exec(s *Snapshot, exe string) {
	if p.exeFile != nil {
		p.exeFile.Close()
	}
	p.exe, p.exeFile, p.goFound, p.goRuntime, p.goError, p.bias = strings.TrimSuffix(exe, " (deleted)"), nil, false, nil, nil, 0
	p.lastMappings, p.lastClaims = nil, claimed{}
	s.Exe = p.exe
	if name, err := p.read("comm"); err == nil {
		p.name = strings.TrimSuffix(string(name), "\n")
		s.Name = p.name
	}
}

func (s *Snapshot) noteGo(r *goruntime.Runtime, err error) {
	switch {
	case r != nil:
		s.Go = r.Version
	case err != nil && !errors.Is(err, goruntime.ErrNotGo) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist):
		s.note("The Go runtime cannot be asked where its memory is: %v.", err)
	}
}

// liveMemory reads the memory of a process that runs, at runtime addresses.
type liveMemory struct{ pid int }

// ReadAt reads as much as is mapped from off on. It takes the permission that ptrace takes.
func (l *liveMemory) ReadAt(b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMReadv(l.pid, local, []unix.RemoteIovec{{Base: uintptr(off), Len: len(b)}}, 0)
	if err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// heads reads the first 16 bytes at many addresses in few calls; zeros where they cannot be read.
func (l *liveMemory) heads(at []uint64) [][16]byte {
	all := make([][16]byte, len(at))
	const most = 1024 // IOV_MAX
	remote := make([]unix.RemoteIovec, 0, most)
	for i := 0; i < len(at); {
		remote = remote[:0]
		for k := i; k < len(at) && len(remote) < most; k++ {
			remote = append(remote, unix.RemoteIovec{Base: uintptr(at[k]), Len: 16})
		}
		n, err := unix.ProcessVMReadv(l.pid, []unix.Iovec{{Base: &all[i][0], Len: uint64(16 * len(remote))}}, remote, 0)
		if err != nil {
			n = 0
		}
		if n < 16*len(remote) {
			n += 16 // what comes next could not be read
		}
		i += n / 16
	}
	return all
}
