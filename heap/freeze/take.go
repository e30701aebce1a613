package freeze

import (
	"context"
	"debug/elf"
	"errors"
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
// it ends, also when this program is killed, the process goes on as if nothing had been. A call that the
// kernel never restarts after a stop, such as epoll_wait, may return EINTR, as it does after SIGSTOP and
// SIGCONT (signal(7)).
func Take(ctx context.Context, pid int, o Options) (*Image, error) {
	i, err := take(ctx, pid, o)
	if err != nil {
		return nil, attempted("take an image of", pid, err)
	}
	return i, nil
}

// attempted says of an error what it was that was attempted, once.
func attempted(what string, pid int, err error) error {
	if strings.HasPrefix(err.Error(), "process ") {
		return fmt.Errorf("%s %w", what, err)
	}
	return fmt.Errorf("%s process %d: %w", what, pid, err)
}

func take(ctx context.Context, pid int, o Options) (*Image, error) {
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.roomFor(p.ownMemory()); err != nil {
		return nil, fmt.Errorf("%w: `sightline dump` writes it to a file, which can be opened", err)
	}
	file, err := memoryFile()
	if err != nil {
		return nil, err
	}
	if _, err := p.write(ctx, o, file, true); err != nil {
		file.Close()
		return nil, err
	}
	return p.openImage(file)
}

// roomFor says whether this program may take some memory.
func (p *process) roomFor(need int64) error {
	self, err := openProcess(os.Getpid())
	if err != nil {
		return err
	}
	defer self.close()
	if free, who := self.room(); need > free {
		return fmt.Errorf("a copy of its memory takes %s, and %s %s are free", bytesText(need), bytesText(free), strings.Replace(who, " its ", " this program's ", 1))
	}
	return nil
}

// A Dumped tells how a core file was written.
type Dumped struct {
	PID     int
	Name    string
	How     How
	Stopped time.Duration // how long the process stood still
	Took    time.Duration // until the file was there
	Size    int64         // of the file
	Stored  int64         // bytes of it on disk: the rest is holes
	Threads int
	Notes   []string // as Image.Notes
}

// Dump writes a core file of a process, as Take and WriteCore do but without the copy in memory in between.
// A file that is there is replaced once the new one is whole; when it fails, or this program is killed,
// nothing of it is left.
func Dump(ctx context.Context, pid int, path string, o Options) (*Dumped, error) {
	began := time.Now()
	fail := func(err error) error { return attempted("dump", pid, err) }
	p, err := openProcess(pid)
	if err != nil {
		return nil, fail(err)
	}
	defer p.close()
	d := &Dumped{PID: pid, Name: p.name}
	err = replaceFile(path, func(out *os.File) error {
		m, err := p.write(ctx, o, out, false)
		if err != nil {
			return err
		}
		d.How, d.Stopped, d.Threads, d.Notes = m.How, m.Stopped, len(m.Threads), m.Notes
		var st unix.Stat_t
		if err := unix.Fstat(int(out.Fd()), &st); err != nil {
			return err
		}
		d.Size, d.Stored = st.Size, st.Blocks*512
		return nil
	})
	if err != nil {
		return nil, fail(err)
	}
	d.Took = time.Since(began)
	return d, nil
}

// write writes a core file of the process to a file, in the ways that are wanted, and gives our own note.
func (p *process) write(ctx context.Context, o Options, out *os.File, inMemory bool) (*meta, error) {
	ways := []How{o.How}
	if o.How == Auto {
		ways = []How{Forked, Copied, Running}
	} else if o.How < Auto || o.How > Running {
		return nil, fmt.Errorf("%v is no way to take an image", o.How)
	}
	p.clearUp(ctx)
	var notes []string
	if err := p.suitable(); err != nil {
		var traced *tracedError
		if !errors.As(err, &traced) || o.How != Auto && o.How != Running {
			return nil, err
		}
		// Its memory can be read all the same.
		notes = append(notes, "it could not be stopped: "+err.Error())
		ways = []How{Running}
	}
	var first error
	for _, how := range ways {
		m, err := p.writeBy(ctx, how, notes, o, out, inMemory)
		if err == nil {
			return m, ctx.Err() // who does not want it any more gets none, also if it was done
		}
		var g *guardianError
		if ctx.Err() != nil || errors.Is(err, ErrNoProcess) || errors.As(err, &g) && g.Forbidden {
			return nil, err
		}
		var full *writeError
		if errors.As(err, &full) {
			return nil, err
		}
		if !p.alive() {
			return nil, p.gone(unix.ESRCH)
		}
		if first == nil {
			first = err
		}
		notes = append(notes, fmt.Sprintf("no %v: %v", how, err))
	}
	return nil, first
}

// A writeError is an error of the file, which no other way to hold the process mends.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// writeBy writes it in one way. Notes are what is known so far and goes into the file.
func (p *process) writeBy(ctx context.Context, how How, notes []string, o Options, out *os.File, inMemory bool) (*meta, error) {
	if err := out.Truncate(0); err != nil {
		return nil, &writeError{err}
	}
	switch {
	case how == Running:
		m := &meta{Version: 1, PID: p.pid, Name: p.name, How: Running, Taken: time.Now(), Notes: notes}
		ids, err := p.threadIDs()
		if err != nil {
			return nil, p.gone(err)
		}
		var threads []Thread
		for _, id := range ids {
			threads = append(threads, Thread{TID: id})
		}
		w, err := p.prepare(m, threads, p, 0)
		if err != nil {
			return nil, err
		}
		defer w.close()
		if err := w.write(ctx, out, inMemory, o.Progress); err != nil {
			return nil, err
		}
		if !p.alive() {
			return nil, p.gone(unix.ESRCH)
		}
		return m, nil
	case how == Copied && !inMemory && p.roomFor(p.ownMemory()) == nil:
		// Memory is faster than a disk, and the process stands meanwhile.
		file, err := memoryFile()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		m, err := p.writeBy(ctx, how, notes, o, file, true)
		if err != nil {
			return nil, err
		}
		if err := copySparse(ctx, out, file); err != nil {
			return nil, &writeError{err}
		}
		return m, nil
	}
	last, err := employ(ctx, request{PID: p.pid, How: how, Memory: inMemory, Notes: notes}, out, o.Progress)
	if err != nil {
		var g *guardianError
		if errors.As(err, &g) && g.killed {
			p.clearUp(context.WithoutCancel(ctx))
		} else if errors.As(err, &g) && g.Full {
			err = &writeError{unix.Errno(g.Errno)}
		}
		return nil, err
	}
	return last.Meta, nil
}

// clearUp has children of the process that killed guardians left waited for.
func (p *process) clearUp(ctx context.Context) {
	if ended, living := leftovers(p.pid); len(ended)+living == 0 {
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return
	}
	defer null.Close()
	employ(ctx, request{PID: p.pid, Reap: true}, null, nil)
}

// memoryFile makes a file that is in memory only.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("sightline", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "memory image"), nil
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
