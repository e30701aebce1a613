package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Kind says what lies behind a descriptor or a mapping, in the words of lsof's column TYPE.
type Kind string

// The kinds. A socket of a family that no table of the kernel tells of is KindSocket.
const (
	KindRegular   Kind = "REG"
	KindFolder    Kind = "DIR"
	KindChar      Kind = "CHR"
	KindBlock     Kind = "BLK"
	KindPipe      Kind = "FIFO"
	KindSymlink   Kind = "LINK"
	KindAnonymous Kind = "a_inode" // eventfd, epoll, inotify, timerfd, BPF maps
	KindIPv4      Kind = "IPv4"
	KindIPv6      Kind = "IPv6"
	KindUnix      Kind = "unix"
	KindNetlink   Kind = "netlink"
	KindPacket    Kind = "pack"
	KindRaw       Kind = "raw" // of IPv4 or IPv6
	KindSocket    Kind = "sock"
	KindUnknown   Kind = "unknown" // it may not be seen
)

// An Owner is the process that has files open.
type Owner struct {
	ID
	Parent int
	Name   string // up to 15 bytes, which may be any
	UID    int    // effective user
	Kernel bool
}

// A File is something that a process has open, runs, has mapped, or stands in.
type File struct {
	*Owner
	// FD is the number of a descriptor; one of the constants below for other uses.
	FD   int
	Mode byte // 'r', 'w', 'u' for both; ' ' where it has none
	Lock byte // 'R', 'W', 'r', 'w' of parts; ' ' for none, as lsof has it

	Kind   Kind
	Device uint64 // where the file lies; of CHR and BLK the device itself; as unix.Stat_t has it
	Inode  uint64
	Size   int64 // bytes; of files and folders. -1: not known
	Offset int64 // -1: not known, or has no meaning
	Links  int64 // -1: not known

	// Name is the path, or what stands for it: "pipe", "[eventfd:7]", "127.0.0.1:80->…". Any bytes.
	Name    string
	Detail  string  // more of it, in words: "count 3"
	Deleted bool    // it has no name in its file system any more
	Socket  *Socket // nil for what is none, and where no table of the kernel tells of it
	Peers   []Peer  // other ends of pipes and sockets, where FilesOptions.Peers
	Err     error   // why it may not be seen; Kind is KindUnknown
}

// What a process has open without a descriptor, as File.FD.
const (
	FDFolder  = -1 - iota // the current folder: cwd
	FDRoot                // the root folder: rtd
	FDProgram             // the program: txt
	FDMapped              // mapped into memory: mem
	FDDeleted             // mapped into memory, and removed since: DEL
	FDNone                // the descriptors may not be seen: NOFD
)

// FDName is a descriptor as lsof's column FD has it, without mode and lock: "3", "cwd".
func FDName(fd int) string {
	switch fd {
	case FDFolder:
		return "cwd"
	case FDRoot:
		return "rtd"
	case FDProgram:
		return "txt"
	case FDMapped:
		return "mem"
	case FDDeleted:
		return "DEL"
	case FDNone:
		return "NOFD"
	}
	return strconv.Itoa(fd)
}

// A Peer is who has the other end of a pipe or socket.
type Peer struct {
	PID  int
	Name string
	FD   int
	Mode byte
}

// Uses says which uses of files are wanted.
type Uses uint

// The uses, by what they cost.
const (
	Descriptors Uses = 1 << iota
	Folders          // current and root folder, and the program
	Mapped           // files in memory
	SocketsOnly      // of descriptors only sockets
	AllUses     = Descriptors | Folders | Mapped
)

// FilesOptions say what Files lists. The zero value lists everything that every process has open.
type FilesOptions struct {
	Uses Uses // 0: AllUses
	// Only are the processes whose files are wanted; nil: all. Keep, where it is set, chooses among
	// them before their files are read.
	Only []int
	Keep func(*Owner) bool
	// Offsets wants offsets of regular files too: two system calls each.
	Offsets bool
	// Peers wants the other ends of pipes and sockets named, for which the descriptors of all processes
	// are looked at.
	Peers bool
	Proc  string // where the proc file system is mounted; "" is /proc
}

// A FileList is what processes have open.
type FileList struct {
	Files  []File // by PID; of each its folders, its program, its mappings, its descriptors
	Unseen Unseen
	// Warnings say in a sentence each what of the kernel's tables could not be read.
	Warnings []string
}

// Files lists what processes have open. Processes that end meanwhile, and descriptors that are closed
// meanwhile, are left out. What may not be seen is a File of KindUnknown with Err.
func Files(ctx context.Context, o FilesOptions) (*FileList, error) {
	if o.Uses == 0 {
		o.Uses = AllUses
	}
	o.Proc = cmp.Or(o.Proc, DefaultProc)
	pids := o.Only
	if pids == nil {
		var err error
		if pids, err = ids(o.Proc); err != nil {
			return nil, fmt.Errorf("list open files: list processes in %s: %w; mount the proc file system there", o.Proc, err)
		}
	}
	pids = slices.Clone(pids)
	slices.Sort(pids)
	l := &lister{o: o, stats: map[deviceInode]statResult{}, locks: readLocks(o.Proc)}
	l.queries.Store(true)
	found := make([][]File, len(pids))
	workers := min(runtime.GOMAXPROCS(0), 4, len(pids)+1)
	states := make([]fileReader, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := &states[w]
			r.lister, r.procReader = l, newProcReader(o.Proc)
			for i := w; i < len(pids) && ctx.Err() == nil; i += workers {
				found[i] = r.process(pids[i])
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list := &FileList{}
	for w := range states {
		list.Unseen.Guarded += states[w].guarded
		list.Unseen.Vanished += states[w].vanished
	}
	list.Unseen.Hidden = hidesOthers(o.Proc)
	list.Unseen.Container = o.Proc == DefaultProc && nested()
	n := 0
	for _, files := range found {
		n += len(files)
	}
	list.Files = make([]File, 0, n)
	for _, files := range found {
		list.Files = append(list.Files, files...)
	}
	if o.Uses&Descriptors != 0 {
		list.Warnings = l.nameSockets(ctx, list.Files)
		if o.Peers {
			if err := l.namePeers(ctx, list.Files); err != nil {
				return nil, err
			}
		}
	}
	return list, ctx.Err()
}

// A lister is what the goroutines of one listing share.
type lister struct {
	o     FilesOptions
	locks map[lockKey]byte
	// queries is false where the kernel cannot be asked for single mappings.
	queries atomic.Bool

	mu    sync.Mutex // guards stats
	stats map[deviceInode]statResult
}

type deviceInode struct{ dev, ino uint64 }

// statResult is what is known of a mapped file: libraries are mapped by every process.
type statResult struct {
	size, links int64
	kind        Kind
	same        bool // the path still leads to the file that is mapped
}

// A fileReader reads the files of processes, for one goroutine.
type fileReader struct {
	*procReader
	lister            *lister
	guarded, vanished int
	link              [unix.PathMax + 1]byte
}

// process is all that one process has open; nothing where it has ended.
func (r *fileReader) process(pid int) []File {
	if r.enter(pid) != nil {
		r.vanished++
		return nil
	}
	defer r.leave()
	text, err := r.readOnce(pid, "stat")
	if err != nil {
		r.vanished++
		return nil
	}
	st, err := parseStat(text)
	if err != nil || st.state == 'Z' || st.state == 'X' { // what has ended has nothing open
		return nil
	}
	owner := &Owner{ID: ID{pid, st.start}, Parent: st.parent, Name: st.name, Kernel: st.kernel}
	// The folder belongs to the effective user, also where the rest of it is root's (task_dump_owner,
	// fs/proc/base.c).
	var folder unix.Stat_t
	if unix.Fstat(r.dir, &folder) != nil {
		r.vanished++
		return nil
	}
	owner.UID = int(folder.Uid)
	if r.lister.o.Keep != nil && !r.lister.o.Keep(owner) {
		return nil
	}
	var files []File
	refused := false
	uses := r.lister.o.Uses
	var exe deviceInode
	if uses&Folders != 0 {
		for _, x := range []struct {
			fd   int
			file string
		}{{FDFolder, "cwd"}, {FDRoot, "root"}, {FDProgram, "exe"}} {
			f, ok := r.named(owner, x.fd, x.file)
			if !ok {
				continue
			}
			refused = refused || f.Err != nil && denied(f.Err)
			if x.fd == FDProgram {
				exe = deviceInode{f.Device, f.Inode}
			}
			files = append(files, f)
		}
	}
	if uses&Mapped != 0 && !owner.Kernel {
		files = append(files, r.mapped(owner, exe)...)
	}
	if uses&Descriptors != 0 {
		fds, err := r.descriptors(owner)
		if err != nil {
			if gone(err) {
				r.vanished++
				return nil
			}
			refused = true
		}
		files = append(files, fds...)
	}
	if refused {
		r.guarded++
	}
	if !r.there() {
		r.vanished++
		return nil
	}
	return files
}

func newFile(o *Owner, fd int) File {
	return File{Owner: o, FD: fd, Mode: ' ', Lock: ' ', Size: -1, Offset: -1, Links: -1}
}

// named is what one of a process's links leads to; false where it leads nowhere any more.
func (r *fileReader) named(o *Owner, fd int, link string) (File, bool) {
	f := newFile(o, fd)
	name, err := r.readlink(r.dir, link)
	switch {
	case err != nil && fd == FDProgram && o.Kernel && errors.Is(err, fs.ErrNotExist):
		f.Kind, f.Name = KindUnknown, r.name(o.PID, link) // a thread of the kernel runs no file
		return f, true
	case gone(err):
		return f, false
	case err != nil:
		f.Kind, f.Name, f.Err = KindUnknown, r.name(o.PID, link), err
		return f, true
	}
	f.Name = name
	var st unix.Stat_t
	if err := unix.Fstatat(r.dir, link, &st, 0); err != nil {
		f.Kind, f.Err = KindUnknown, &fs.PathError{Op: "stat", Path: r.name(o.PID, link), Err: err}
		return f, !gone(err)
	}
	f.stat(&st)
	return f, true
}

// readlink is where a link leads, any bytes.
func (r *fileReader) readlink(dir int, path string) (string, error) {
	n, err := unix.Readlinkat(dir, path, r.link[:])
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return string(r.link[:n]), nil
}

// stat fills in what stat(2) tells.
func (f *File) stat(st *unix.Stat_t) {
	f.Device, f.Inode, f.Links = st.Dev, st.Ino, int64(st.Nlink)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.Kind, f.Size = KindRegular, st.Size
	case unix.S_IFDIR:
		f.Kind, f.Size = KindFolder, st.Size
	case unix.S_IFCHR:
		f.Kind, f.Device = KindChar, st.Rdev
	case unix.S_IFBLK:
		f.Kind, f.Device = KindBlock, st.Rdev
	case unix.S_IFIFO:
		f.Kind = KindPipe
	case unix.S_IFSOCK:
		f.Kind = KindSocket
	case unix.S_IFLNK:
		f.Kind, f.Size = KindSymlink, st.Size
	default:
		f.Kind = KindAnonymous
	}
	// The name stays as the kernel has it: a file may be called so.
	f.Deleted = st.Nlink == 0 && strings.HasSuffix(f.Name, deletedSuffix)
}

const deletedSuffix = " (deleted)"

// descriptors lists a process's descriptors. It is an error where the folder cannot be read; the result
// says so too unless the process has ended.
func (r *fileReader) descriptors(o *Owner) ([]File, error) {
	dir, err := openAt(r.dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if gone(err) {
			return nil, err
		}
		f := newFile(o, FDNone)
		f.Kind, f.Name, f.Err = KindUnknown, r.name(o.PID, "fd"), err
		return []File{f}, err
	}
	defer unix.Close(dir)
	numbers, err := r.numbers(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: r.name(o.PID, "fd"), Err: err}
	}
	var refused error
	files := make([]File, 0, len(numbers))
	for _, fd := range numbers {
		f, ok := r.descriptor(o, dir, fd)
		if !ok {
			continue
		}
		if f.Err != nil && denied(f.Err) {
			refused = f.Err
		}
		files = append(files, f)
	}
	return files, refused
}

// numbers are the names in a folder of descriptors, ascending.
func (r *fileReader) numbers(dir int) ([]int, error) {
	var numbers []int
	var names []string
	for {
		n, err := unix.ReadDirent(dir, r.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(numbers)
			return numbers, nil
		}
		_, _, names = syscall.ParseDirent(r.buf[:n], -1, names[:0])
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil && fd >= 0 {
				numbers = append(numbers, fd)
			}
		}
	}
}

// descriptor is what one descriptor is of; false where it was closed.
func (r *fileReader) descriptor(o *Owner, dir, fd int) (File, bool) {
	f := newFile(o, fd)
	number := strconv.Itoa(fd)
	name, err := r.readlink(dir, number)
	if err != nil {
		if gone(err) {
			return f, false
		}
		f.Kind, f.Name, f.Err = KindUnknown, r.name(o.PID, "fd/"+number), err
		return f, true
	}
	f.Name = name
	socket, isSocket := inodeOf(name, "socket:[")
	if r.lister.o.Uses&SocketsOnly != 0 && !isSocket {
		return f, false
	}
	pipe, isPipe := inodeOf(name, "pipe:[")
	if isSocket || isPipe { // what sockets are comes from the kernel's tables
		if !f.linkMode(dir, number) {
			return f, false
		}
		f.Kind, f.Inode, f.Offset = KindSocket, socket, 0
		if isPipe {
			f.Kind, f.Inode, f.Name = KindPipe, pipe, "pipe"
			f.Device = r.pipeDevice(dir, number)
		}
		return f, true
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, number, &st, 0) != nil {
		if !f.linkMode(dir, number) {
			return f, false
		}
		f.Kind, f.Err = KindUnknown, &fs.PathError{Op: "stat", Path: r.name(o.PID, "fd/"+number), Err: unix.EACCES}
		return f, true
	}
	f.stat(&st)
	if anonymous, ok := strings.CutPrefix(name, "anon_inode:"); ok {
		f.Kind, f.Name, f.Size = KindAnonymous, anonymous, -1
	}
	if lock := r.lister.locks[lockKey{o.PID, deviceInode{f.Device, f.Inode}}]; lock != 0 && f.Kind == KindRegular {
		f.Lock = lock
	}
	switch f.Kind {
	case KindRegular, KindFolder, KindSymlink:
		if !r.lister.o.Offsets {
			return f, f.linkMode(dir, number)
		}
	}
	text, err := r.readOnce(o.PID, "fdinfo/"+number)
	if err != nil {
		return f, f.linkMode(dir, number)
	}
	x := parseFDInfo(text)
	f.describe(x)
	if !x.flagsKnown || x.flags&unix.O_PATH != 0 {
		return f, f.linkMode(dir, number)
	}
	switch x.flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		f.Mode = 'r'
	case unix.O_WRONLY:
		f.Mode = 'w'
	case unix.O_RDWR:
		f.Mode = 'u'
	}
	return f, true
}

// linkMode takes what a descriptor may do from its link, whose own permissions are those that the file was
// opened with (proc_fd_instantiate and tid_fd_update_inode, fs/proc/fd.c); false where it was closed.
func (f *File) linkMode(dir int, number string) bool {
	var st unix.Stat_t
	if unix.Fstatat(dir, number, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	switch st.Mode & 0o600 {
	case 0o600:
		f.Mode = 'u'
	case 0o400:
		f.Mode = 'r'
	case 0o200:
		f.Mode = 'w'
	}
	return true
}

// pipeDevice is where pipes lie: one file system for all of them.
func (r *fileReader) pipeDevice(dir int, number string) uint64 {
	l := r.lister
	l.mu.Lock()
	known, ok := l.stats[deviceInode{}]
	l.mu.Unlock()
	if ok {
		return uint64(known.size)
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, number, &st, 0) != nil {
		return 0
	}
	l.mu.Lock()
	l.stats[deviceInode{}] = statResult{size: int64(st.Dev)}
	l.mu.Unlock()
	return st.Dev
}

// inodeOf is the number in a name such as "socket:[1234]".
func inodeOf(name, prefix string) (uint64, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	rest, ok = strings.CutSuffix(rest, "]")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(rest, 10, 64)
	return n, err == nil
}
