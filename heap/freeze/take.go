package freeze

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// coreMachine is the machine that this program runs on, and its targets.
var coreMachine = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]

func bytesAt(p *byte, n int) []byte { return unsafe.Slice(p, n) }

// Take takes an image of a process. With How Auto it tries a fork, then a copy, then a copy of the running
// process, and says in Notes what did not work; any other way is the only one. The image holds a copy of
// the memory that the process has for itself; what it has of files is read from them.
//
// It needs the right to trace the process (ptrace(2)): of the same user, or with CAP_SYS_PTRACE. However
// it ends, also when this program is killed, the process goes on as if nothing had been.
func Take(ctx context.Context, pid int, o Options) (*Image, error) {
	p, err := openProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("take an image: %w", err)
	}
	defer p.close()
	i, err := p.takeRunning(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("take an image: %w", err)
	}
	return i, nil
}

// takeRunning copies the memory of a process that runs on.
func (p *process) takeRunning(ctx context.Context, o Options) (*Image, error) {
	m := &meta{Version: 1, PID: p.pid, Name: p.name, How: Running, Taken: time.Now()}
	maps, err := p.read("maps")
	if err != nil {
		return nil, p.gone(err)
	}
	m.Maps = string(maps)
	regions, err := parseMaps(maps)
	if err != nil {
		return nil, fmt.Errorf("read /proc/%d/maps: %w", p.pid, err)
	}
	if exe, err := p.link("exe"); err == nil {
		m.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	ids, err := p.threadIDs()
	if err != nil {
		return nil, p.gone(err)
	}
	var threads []Thread
	for _, id := range ids {
		threads = append(threads, Thread{TID: id, Name: p.threadName(id)})
		m.Threads = append(m.Threads, threads[len(threads)-1].Name)
	}
	pages, err := p.open("pagemap")
	if err != nil {
		return nil, p.gone(err)
	}
	defer pages.Close()
	loads, err := plan(regions, &pagemap{f: pages})
	if err != nil {
		return nil, p.gone(err)
	}
	notes, err := coreNotes(p, m, threads, regions)
	if err != nil {
		return nil, p.gone(err)
	}
	l := lay(loads, notes)
	mem, err := p.open("mem")
	if err != nil {
		return nil, p.gone(err)
	}
	defer mem.Close()
	file, data, err := memoryFile(l.size)
	if err != nil {
		return nil, err
	}
	err = l.writeMapped(ctx, data, &memory{pid: p.pid, f: mem}, &progress{total: l.bytes, report: o.Progress})
	unix.Munmap(data)
	if err != nil {
		file.Close()
		return nil, err
	}
	return p.openImage(file)
}

// memoryFile makes a file of a size that is in memory only, and maps it to write to.
func memoryFile(size int64) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("sightline", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memory image")
	if err = f.Truncate(size); err == nil {
		var data []byte
		if data, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			return f, data, nil
		}
	}
	f.Close()
	return nil, nil, fmt.Errorf("make a file in memory of %s: %w", bytesText(size), err)
}

// openImage makes an image of a core file of the process that was just written, with the process's files.
func (p *process) openImage(file *os.File) (*Image, error) {
	i, err := openCore(file, "in memory")
	if err != nil {
		file.Close()
		return nil, err
	}
	i.live = true
	i.exePath = i.meta.Exe
	if f, err := p.open("exe"); err == nil {
		if err := i.useExe(f); err != nil {
			f.Close()
			i.exeErr = fmt.Errorf("the program %s of process %d: %w", i.exePath, p.pid, err)
		}
	} else {
		i.exeErr = p.gone(err)
	}
	i.openFiles(p.openMapped)
	return i, nil
}

// openMapped opens the very file of a region: by the kernel's link to it, which needs a privilege, else by
// its path as the process sees it, if that is still the same file.
func (p *process) openMapped(r *Region) (*os.File, error) {
	if f, err := p.open(fmt.Sprintf("map_files/%x-%x", r.Start, r.End)); err == nil {
		return f, nil
	}
	f, err := p.open(filepath.Join("root", r.Path))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, err
	}
	if st.Ino != r.inode || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}
