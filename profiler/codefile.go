package profiler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Names the kernel gives to what has no file (perf_event_mmap_event, kernel/events/core.c).
const (
	anonymousName = "//anon"
	vdsoName      = "[vdso]"
	kernelName    = "[kernel]"
	deletedSuffix = " (deleted)"
)

// A codeFile is one file that had code mapped, or what takes its place: the vDSO, the kernel, or a
// process's memory without a file. It is the same for all processes that map it.
//
// What is said of it does not change once it is made; the last four fields belong to codeFiles.
type codeFile struct {
	kind    profile.MappingKind
	path    string
	image   image
	offsets bool   // image could not be read: file addresses are file offsets
	deleted bool   // profile.Mapping.Deleted
	problem string // why there are no bytes, one sentence; "" where there are
	key     fileKey
	data    []byte   // the vDSO
	of      *process // whose memory it is, where there is no file

	root *root    // that path begins at
	file *os.File // nil when there is none or it was closed to keep within the limit
	from string   // path it was opened by and can be opened by again
	lent int      // so many read file, and are not done
}

// fileKey says which file something is, by what stat(2) tells. The change time is left out: removing
// a file changes it.
type fileKey struct {
	dev, ino uint64
	size     int64
	mtime    unix.Timespec
}

// address is the file address of a byte at an offset of the file.
func (b *codeFile) address(m *region, addr uint64) uint64 {
	if b.kind == profile.Anonymous {
		return addr
	}
	offset := addr - m.start + m.offset
	if b.offsets {
		return offset
	}
	if a, ok := b.image.address(offset); ok {
		return a
	}
	return offset
}

func (b *codeFile) mapping() profile.Mapping {
	return profile.Mapping{Kind: b.kind, Path: b.path, BuildID: b.image.buildID, Deleted: b.deleted, Offsets: b.offsets}
}

// codeFiles opens each file once, when it is first seen mapped, and keeps it open, so that it can be
// read when its path is gone. All methods may be called by any goroutine.
type codeFiles struct {
	mu     sync.Mutex
	byName map[nameKey]*codeFile // what a record says of the file; only files that could be opened, or that nobody can
	byFile map[fileKey]*codeFile
	expect []*os.File  // files opened before they were mapped
	open   []*codeFile // those with a file, oldest first
	limit  int         // of open files
	vdso   *codeFile
	roots  *roots
	closed bool
	others others // nil: files of other users' processes are opened by one's own rights alone
}

// others opens what only the user of a process may, and root.
type others interface {
	Maps(pid int) (*os.File, error)
	File(pid int, start, end uint64) (*os.File, error)
}

// nameKey is a record's idea of a file.
type nameKey struct {
	name, buildID     string
	major, minor      uint32
	inode, generation uint64
	pid               int // 0, but for files that could not be opened: another process may reach them
}

func newCodeFiles() *codeFiles {
	return &codeFiles{
		byName: make(map[nameKey]*codeFile),
		byFile: make(map[fileKey]*codeFile),
		limit:  fileLimit(),
		roots:  newRoots(),
	}
}

// fileLimit is how many codeFiles are held open at once: half of the descriptors this process may
// have, and not more than a thousand.
func fileLimit() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 128
	}
	return int(min(max(r.Cur/2, 16), 1000))
}

// hold opens a file that is about to be run, in case it is gone when that is seen. A file that
// cannot be opened is not held.
func (fs *codeFiles) hold(path string) {
	if f, _, err := openRegular(path); err == nil {
		fs.mu.Lock()
		fs.expect = append(fs.expect, f)
		fs.mu.Unlock()
	}
}

// release ends all holds.
func (fs *codeFiles) release() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.expect {
		f.Close()
	}
	fs.expect = nil
}

// find is the codeFile that process pid has mapped. It is nil for memory without a file.
func (fs *codeFiles) find(pid int, m *mapped) *codeFile {
	name, gone := strings.CutSuffix(m.name, deletedSuffix)
	switch {
	case name == vdsoName:
		fs.mu.Lock()
		defer fs.mu.Unlock()
		return fs.findVDSO(pid, m)
	case isAnonymous(name):
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	key := nameKey{m.name, m.buildID, m.major, m.minor, m.inode, m.generation, 0}
	// Without generation the inode's number may be that of an earlier file: ask the file system.
	sure := m.buildID != "" || m.generation != 0
	if b := fs.byName[key]; b != nil && sure {
		return b
	}
	mine := key
	mine.pid = pid
	if b := fs.byName[mine]; b != nil {
		return b
	}
	b := fs.openMapped(pid, m, name, gone)
	if b.root == nil {
		b.root, _ = fs.roots.hold(pid) // without, what goes with it is looked for in this file system
	}
	switch {
	case b.problem != "":
		fs.byName[mine] = b
	case sure:
		fs.byName[key] = b
	}
	return b
}

func isAnonymous(name string) bool {
	return !strings.HasPrefix(name, "/") || strings.HasPrefix(name, "//") ||
		strings.HasPrefix(name, "/SYSV") || strings.HasPrefix(name, "/dev/zero") ||
		strings.HasPrefix(name, "/anon_hugepage")
}

// openMapped opens the file that was mapped, by the first way that leads to it and not to another
// one that has come in its place. Those through /proc/PID lead into the process's own file system;
// exe and map_files to the file itself, whatever became of its path. map_files needs
// CAP_CHECKPOINT_RESTORE (proc_map_files_get_link, fs/proc/base.c).
func (fs *codeFiles) openMapped(pid int, m *mapped, name string, gone bool) *codeFile {
	var other bool
	var denied error
	try := func(f *os.File, st *unix.Stat_t, from string) *codeFile {
		b, same := fs.adopt(f, st, m, name, from, gone)
		if !same {
			f.Close()
			other = true
			return nil
		}
		return b
	}
	for _, f := range fs.expect {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) != nil {
			continue
		}
		if dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			wasOther := other
			if b := try(os.NewFile(uintptr(dup), f.Name()), &st, f.Name()); b != nil {
				return b
			}
			other = wasOther // one of several that are expected, not one that came in place
		}
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	ways := []string{
		fmt.Sprintf("%s/map_files/%x-%x", proc, m.start, m.end),
		proc + "/root" + name,
		name,
	}
	if to, err := os.Readlink(proc + "/exe"); err == nil && to == m.name {
		ways = slices.Insert(ways, 0, proc+"/exe")
	}
	for _, from := range ways {
		f, st, err := openRegular(from)
		if err != nil {
			if errors.Is(err, os.ErrPermission) {
				denied = err
			}
			continue
		}
		if b := try(f, st, from); b != nil {
			return b
		}
	}
	if denied != nil && fs.others != nil {
		if f, err := fs.others.File(pid, m.start, m.end); err == nil {
			var st unix.Stat_t
			if unix.Fstat(int(f.Fd()), &st) == nil {
				if b := try(f, &st, f.Name()); b != nil {
					return b
				}
			}
		}
	}
	if f := fs.openMemfd(proc, m, name); f != nil {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil {
			if b := try(f, &st, f.Name()); b != nil {
				return b
			}
		}
	}
	b := &codeFile{kind: profile.FileCode, path: name, deleted: true, offsets: true, image: image{buildID: m.buildID}}
	switch {
	case other:
		b.problem = fmt.Sprintf("%s: another file has taken the place of the one that ran, so its code has no names; record again without replacing it", name)
	case denied != nil:
		b.deleted = false
		b.problem = fmt.Sprintf("%s: this user may not read it, so its code has no names; record as its owner or as root", name)
	default:
		b.problem = fmt.Sprintf("%s: it was gone before it could be read, so its code has no names; keep it until the recording ends", name)
	}
	return b
}

// openMemfd looks among a process's descriptors for a memory file, which has no path.
func (fs *codeFiles) openMemfd(proc string, m *mapped, name string) *os.File {
	if !strings.HasPrefix(name, "/memfd:") {
		return nil
	}
	fds, err := readIDs(proc + "/fd")
	if err != nil {
		return nil
	}
	for _, fd := range append(fds, 0) {
		from := fmt.Sprintf("%s/fd/%d", proc, fd)
		if to, err := os.Readlink(from); err != nil || to != m.name {
			continue
		}
		if f, st, err := openRegular(from); err == nil {
			if m.inode == 0 || st.Ino == m.inode {
				return f
			}
			f.Close()
		}
	}
	return nil
}

// openRegular opens a regular file for reading: a device or a pipe would do something.
func openRegular(path string) (*os.File, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOEXEC}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), &st, nil
}

// adopt makes an open file the codeFile that m tells of, or says that it is another file.
func (fs *codeFiles) adopt(f *os.File, st *unix.Stat_t, m *mapped, name, from string, gone bool) (b *codeFile, same bool) {
	if m.buildID == "" && !sameInode(f, st, m) {
		return nil, false
	}
	key := fileKey{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim}
	if b := fs.byFile[key]; b != nil && (m.buildID == "" || b.image.buildID == m.buildID) {
		if b.file == nil && b.data == nil {
			fs.keep(b, f, from)
		} else {
			f.Close()
		}
		return b, true
	}
	im, err := readImage(f)
	if m.buildID != "" && im.buildID != m.buildID {
		return nil, false
	}
	b = &codeFile{
		kind: profile.FileCode, path: name, image: im, offsets: err != nil, deleted: gone, key: key,
	}
	fs.keep(b, f, from)
	fs.byFile[key] = b
	return b, true
}

// sameInode compares an open file with the device and inode of a mapping. The kernel's device and
// inode are those of the file system below where overlayfs is (until Linux 6.8) and where btrfs has
// subvolumes, so there they are no proof against it.
func sameInode(f *os.File, st *unix.Stat_t, m *mapped) bool {
	if m.inode == 0 {
		return true // nothing is known
	}
	if st.Ino == m.inode {
		return unix.Major(st.Dev) == m.major && unix.Minor(st.Dev) == m.minor ||
			unix.Major(st.Dev) == 0 || m.major == 0 // an anonymous device, as btrfs and overlayfs have
	}
	var on unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &on) == nil && on.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// keep holds a codeFile's file, and closes the oldest one that can be opened again where too many are
// held.
func (fs *codeFiles) keep(b *codeFile, f *os.File, from string) {
	if fs.closed {
		f.Close()
		return
	}
	b.file, b.from = f, from
	fs.open = append(fs.open, b)
	if len(fs.open) <= fs.limit {
		return
	}
	for i, old := range fs.open {
		var st unix.Stat_t
		if old != b && old.lent == 0 && unix.Stat(old.path, &st) == nil && st.Ino == old.key.ino && uint64(st.Dev) == old.key.dev {
			old.file.Close()
			old.file, old.from = nil, old.path
			fs.open = append(fs.open[:i], fs.open[i+1:]...)
			return
		}
	}
}

// findVDSO is the kernel's code in user space, whose bytes are in every process's memory. There are
// others for 32-bit programs, told apart by their bytes.
func (fs *codeFiles) findVDSO(pid int, m *mapped) *codeFile {
	const most = 1 << 20
	if m.end-m.start > most {
		return nil
	}
	if fs.vdso == nil {
		own, err := readMaps(os.Getpid())
		if err == nil {
			for _, o := range own {
				if o.name == vdsoName {
					if data, err := readMemory(os.Getpid(), o.start, o.end); err == nil {
						fs.vdso = newVDSO(data)
					}
				}
			}
		}
		if fs.vdso == nil {
			fs.vdso = newVDSO(nil)
		}
	}
	if len(fs.vdso.data) == int(m.end-m.start) || fs.vdso.data == nil {
		return fs.vdso
	}
	data, err := readMemory(pid, m.start, m.end)
	if err != nil {
		return fs.vdso
	}
	for _, b := range fs.byName {
		if b.kind == profile.VDSO && bytes.Equal(b.data, data) {
			return b
		}
	}
	b := newVDSO(data)
	fs.byName[nameKey{name: vdsoName, inode: uint64(len(data)), pid: pid}] = b
	return b
}

func newVDSO(data []byte) *codeFile {
	b := &codeFile{kind: profile.VDSO, path: vdsoName, data: data}
	im, err := readImage(bytes.NewReader(data))
	b.image, b.offsets = im, err != nil
	if data == nil {
		b.problem = "[vdso]: its memory could not be read, so its code has no names"
	}
	return b
}

// readMemory copies a process's memory. /proc/PID/mem would do for most, but is closed to a program
// with file capabilities, whose own process is not dumpable; process_vm_readv(2) on oneself is not.
func readMemory(pid int, from, to uint64) ([]byte, error) {
	if to <= from {
		return nil, fmt.Errorf("read memory of process %d: from %#x to %#x there is none", pid, from, to)
	}
	data := make([]byte, to-from)
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(from), Len: len(data)}}, 0)
	if err != nil {
		return nil, fmt.Errorf("read %d bytes of memory of process %d: %w", len(data), pid, err)
	}
	if n < len(data) {
		return nil, fmt.Errorf("read %d bytes of memory of process %d: there are %d", len(data), pid, n)
	}
	return data, nil
}

// reader is a codeFile's bytes, opened again where they had to be closed. The result is good until
// done or close.
func (fs *codeFiles) reader(b *codeFile) (io.ReaderAt, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	switch {
	case fs.closed:
		return nil, fmt.Errorf("read %s: the recording is closed: %w", b.path, os.ErrClosed)
	case b.data != nil:
		return bytes.NewReader(b.data), nil
	case b.file != nil:
		b.lent++
		return b.file, nil
	case b.problem != "":
		return nil, fmt.Errorf("%s: %w", b.problem, os.ErrNotExist)
	case b.kind != profile.FileCode:
		return nil, fmt.Errorf("read %s: it is not a file: %w", b.path, os.ErrNotExist)
	}
	f, st, err := openRegular(b.from)
	if err != nil {
		return nil, fmt.Errorf("read %s once more: %w", b.path, err)
	}
	if key := (fileKey{uint64(st.Dev), st.Ino, st.Size, st.Mtim}); key != b.key {
		f.Close()
		return nil, fmt.Errorf("read %s once more: it is another file now: %w", b.path, os.ErrNotExist)
	}
	// Not subject to the limit: it was asked for, and must stay.
	b.file = f
	b.lent++
	fs.open = append(fs.open, b)
	return f, nil
}

// done says that what reader gave is not read any more, so that the file may be closed for others.
func (fs *codeFiles) done(b *codeFile) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	b.lent = max(b.lent-1, 0)
}

// close closes all files.
func (fs *codeFiles) close() {
	fs.release()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.closed = true
	for _, b := range fs.open {
		b.file.Close()
		b.file = nil
	}
	fs.open = nil
	fs.roots.close()
}

// binary is the bytes of a mapping's file, as Recording.Binary gives them.
func (c *codeFiles) binary(id profile.MappingID, f *codeFile) (io.ReaderAt, error) {
	if f == nil {
		return nil, fmt.Errorf("read the binary of mapping %d: there is no such mapping", id)
	}
	return c.reader(f)
}

// rootOf is the folder that a file's path begins at, as Recording.Root gives it.
func (c *codeFiles) rootOf(f *codeFile) string {
	if f == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.root.path()
}
