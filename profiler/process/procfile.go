package process

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// DefaultProc is where the proc file system is mounted.
const DefaultProc = "/proc"

// A procReader reads small files of a proc file system with one buffer, for one goroutine.
type procReader struct {
	root string
	path []byte
	buf  []byte
	pid  int // whose folder is open; 0: none
	dir  int
}

// enter opens a process's folder, through which its files are read until leave. The folder belongs to
// the process and not to its number: when the process has ended nothing is found in it any more, also
// where another has the number (proc_pid_make_inode, fs/proc/base.c).
func (r *procReader) enter(pid int) error {
	dir, err := open(r.name(pid, ""), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	r.pid, r.dir = pid, dir
	return nil
}

func (r *procReader) leave() {
	if r.pid != 0 {
		unix.Close(r.dir)
		r.pid = 0
	}
}

// there says that the process whose folder is open has not ended: what was asked of its number before
// was asked of it.
func (r *procReader) there() bool { return unix.Faccessat(r.dir, "stat", unix.F_OK, 0) == nil }

func newProcReader(root string) *procReader {
	if root == "" {
		root = DefaultProc
	}
	return &procReader{root: root, buf: make([]byte, 16<<10)}
}

// name is the path of a process's file: good until the next call.
func (r *procReader) name(pid int, file string) string {
	r.path = append(r.path[:0], r.root...)
	r.path = append(r.path, '/')
	r.path = strconv.AppendInt(r.path, int64(pid), 10)
	if file != "" {
		r.path = append(r.path, '/')
		r.path = append(r.path, file...)
	}
	return string(r.path)
}

// read is a process's file up to the size of the buffer, good until the next call. Most of what is
// read is a page at most; what is longer, a command line, is cut.
func (r *procReader) read(pid int, file string) ([]byte, error) {
	if pid == r.pid {
		return readUpTo(r.dir, file, r.buf, false)
	}
	return readUpTo(unix.AT_FDCWD, r.name(pid, file), r.buf, false)
}

// readOnce is read of a file that the kernel gives in one piece where there is room for it: those that it
// writes as one record (single_open, fs/seq_file.c), and command lines (get_mm_cmdline, fs/proc/base.c).
func (r *procReader) readOnce(pid int, file string) ([]byte, error) {
	if pid == r.pid {
		return readUpTo(r.dir, file, r.buf, true)
	}
	return readUpTo(unix.AT_FDCWD, r.name(pid, file), r.buf, true)
}

// readAll is a process's file whole, up to limit.
func (r *procReader) readAll(pid int, file string, limit int) ([]byte, error) {
	for {
		text, err := r.read(pid, file)
		if err != nil || len(text) < len(r.buf) || len(r.buf) >= limit {
			return text, err
		}
		r.buf = make([]byte, min(4*len(r.buf), limit))
	}
}

// readUpTo reads a file up to the size of a buffer; once says that what one call reads is all of it.
func readUpTo(dir int, path string, buf []byte, once bool) ([]byte, error) {
	fd, err := openAt(dir, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case m == 0:
			return buf[:n], nil
		}
		n += m
		if once {
			break
		}
	}
	return buf[:n], nil
}

func open(path string, flags int) (int, error) { return openAt(unix.AT_FDCWD, path, flags) }

func openAt(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// gone says that an error is one of a process that has ended: its folder is away (ENOENT), or was
// opened while it was there (ESRCH).
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

func denied(err error) bool { return errors.Is(err, fs.ErrPermission) }

// ids are the numbers in a folder of proc, such as the processes or the threads of one.
func ids(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil && id >= 0 {
			all = append(all, id)
		}
	}
	return all, err
}
