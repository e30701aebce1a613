package process

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxMaps bounds how much of a process's list of mappings is read.
const maxMaps = 64 << 20

// mapped are the files that a process has mapped, each once, but for its program.
func (r *fileReader) mapped(o *Owner, exe deviceInode) []File {
	var files []File
	seen := map[deviceInode]bool{exe: true}
	wanted := func(key deviceInode) bool {
		known := seen[key]
		seen[key] = true
		return !known
	}
	r.mappedFiles(o.PID, wanted, func(m mapping) {
		key := deviceInode{m.device, m.inode}
		f := newFile(o, FDMapped)
		f.Kind, f.Device, f.Inode, f.Name = KindRegular, m.device, m.inode, m.name
		st := r.statMapped(o.PID, key, m.name)
		switch {
		case strings.HasSuffix(m.name, deletedSuffix):
			f.FD, f.Deleted = FDDeleted, true
		case !st.same: // what has no path, such as BPF maps, or has another file at its path now
			if strings.HasPrefix(m.name, "/") {
				f.Detail = "(another file, or none, is at the path now)"
			}
		default:
			f.Kind, f.Size, f.Links = st.kind, st.size, st.links
			if st.kind == KindChar || st.kind == KindBlock {
				f.Device = uint64(st.size)
				f.Size = -1
			}
		}
		files = append(files, f)
	})
	return files
}

// mappedFiles calls yield for the mappings of files that are wanted, in order of address; for none where the
// process has ended, or may not be seen, which its descriptors say.
func (r *fileReader) mappedFiles(pid int, wanted func(deviceInode) bool, yield func(mapping)) {
	if r.lister.queries.Load() {
		switch err := r.queryMapped(wanted, yield); {
		case errors.Is(err, unix.ENOTTY): // before Linux 6.11
			r.lister.queries.Store(false)
		default:
			return
		}
	}
	text, err := r.readAll(pid, "maps", maxMaps)
	if err != nil {
		return
	}
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		m, ok := parseMapping(line)
		if ok && (m.inode != 0 || strings.HasPrefix(m.name, "/")) && wanted(deviceInode{m.device, m.inode}) {
			yield(m)
		}
	}
}

// mappingQuery is struct procmap_query (include/uapi/linux/fs.h).
type mappingQuery struct {
	size, flags, addr                          uint64
	start, end, rights, pageSize, offset, file uint64
	major, minor, nameSize, buildIDSize        uint32
	name, buildID                              uint64
}

// queryMapped asks the kernel for one mapping of a file after the other, and for its name only where that is
// wanted: writing and reading the text of all mappings takes three times as long. The error wraps ENOTTY
// where the kernel does not know the question.
func (r *fileReader) queryMapped(wanted func(deviceInode) bool, yield func(mapping)) error {
	fd, err := openAt(r.dir, "maps", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const (
		query      = 0xc0686611 // PROCMAP_QUERY: _IOWR('f', 17, struct procmap_query)
		orNext     = 0x10       // PROCMAP_QUERY_COVERING_OR_NEXT_VMA
		fileBacked = 0x20       // PROCMAP_QUERY_FILE_BACKED_VMA
	)
	var q mappingQuery
	ask := func(addr uint64, name []byte) error {
		q = mappingQuery{size: uint64(unsafe.Sizeof(q)), flags: orNext | fileBacked, addr: addr, nameSize: uint32(len(name))}
		var pin runtime.Pinner
		if len(name) > 0 {
			pin.Pin(&name[0])
			defer pin.Unpin()
			q.name = uint64(uintptr(unsafe.Pointer(&name[0])))
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), query, uintptr(unsafe.Pointer(&q))); errno != 0 {
			return errno
		}
		return nil
	}
	for addr := uint64(0); ; addr = q.end {
		if err := ask(addr, nil); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil // there is no further one
			}
			return err
		}
		if q.end <= addr { // what no kernel answers
			return nil
		}
		key := deviceInode{unix.Mkdev(q.major, q.minor), q.file}
		if !wanted(key) {
			continue
		}
		start, end := q.start, q.end
		if err := ask(start, r.link[:]); err != nil || q.start != start || unix.Mkdev(q.major, q.minor) != key.dev || q.file != key.ino {
			q.end = end // it went meanwhile, or its name is too long for a path
			continue
		}
		yield(mapping{device: key.dev, inode: key.ino, name: string(r.link[:max(q.nameSize, 1)-1])}) // with a zero at its end
	}
}

// statMapped finds out about a file by its path as the process sees it, which may be in another mount
// namespace.
func (r *fileReader) statMapped(pid int, key deviceInode, name string) statResult {
	l := r.lister
	l.mu.Lock()
	known, ok := l.stats[key]
	l.mu.Unlock()
	if ok {
		return known
	}
	var st unix.Stat_t
	x := statResult{}
	if !strings.HasSuffix(name, deletedSuffix) {
		err := unix.Stat(r.name(pid, "root")+name, &st)
		if err != nil { // which may be for want of permission, and mostly the roots are one
			err = unix.Stat(name, &st)
		}
		// File systems such as btrfs and overlayfs give mappings another device than stat(2) does.
		if err == nil && st.Ino == key.ino {
			f := File{}
			f.stat(&st)
			x = statResult{size: f.Size, links: f.Links, kind: f.Kind, same: true}
			if f.Kind == KindChar || f.Kind == KindBlock {
				x.size = int64(f.Device)
			}
		}
	}
	l.mu.Lock()
	l.stats[key] = x
	l.mu.Unlock()
	return x
}

// A mapping is a line of /proc/PID/maps.
type mapping struct {
	device, inode uint64
	name          string
}

// parseMapping reads
//
//	55d0c8a3c000-55d0c8a41000 r-xp 00002000 08:01 1835029    /usr/bin/cat (deleted)
//
// as proc_pid_maps(5) has it. In names the kernel writes "\012" for a newline, and nothing else.
func parseMapping(line []byte) (m mapping, ok bool) {
	for range 3 { // addresses, permissions, offset
		_, rest, found := bytes.Cut(line, []byte(" "))
		if !found {
			return m, false
		}
		line = rest
	}
	device, rest, found := bytes.Cut(line, []byte(" "))
	if !found {
		return m, false
	}
	inode, name, _ := bytes.Cut(rest, []byte(" "))
	a, b, found := bytes.Cut(device, []byte(":"))
	major, err1 := strconv.ParseUint(string(a), 16, 32)
	minor, err2 := strconv.ParseUint(string(b), 16, 32)
	if !found || err1 != nil || err2 != nil {
		return m, false
	}
	m.device = unix.Mkdev(uint32(major), uint32(minor))
	var err error
	if m.inode, err = strconv.ParseUint(string(inode), 10, 64); err != nil {
		return mapping{}, false
	}
	m.name = strings.ReplaceAll(string(bytes.TrimLeft(name, " ")), `\012`, "\n")
	return m, true
}
