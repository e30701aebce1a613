package sourcemap

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A filePool keeps the files open that one binary's debug information is in, and not more than some
// of them: a large program built with split DWARF has thousands. Any goroutine may use it.
type filePool struct {
	root string     // of the process whose binary it is, besides this one's; "" for none
	mu   sync.Mutex // guards open, and file of all files
	open []*pooledFile
}

// maxPooled is how many files one binary's debug information keeps open.
const maxPooled = 32

// A pooledFile reads a file that is opened when it is read, and is again the same one then.
type pooledFile struct {
	pool *filePool
	root string // folder that path begins at; "" for that of this process
	path string
	info fs.FileInfo // of the file when it was first opened
	file *os.File    // nil while it is closed
}

// get opens a regular file: in the process's root, then in this one's.
func (p *filePool) get(path string) (*pooledFile, error) {
	roots := []string{p.root, ""}
	if p.root == "" {
		roots = roots[1:]
	}
	var failure error
	for _, root := range roots {
		file, info, err := openUnder(root, path)
		if err == nil {
			f := &pooledFile{pool: p, root: root, path: path, info: info, file: file}
			p.mu.Lock()
			p.keep(f)
			p.mu.Unlock()
			return f, nil
		}
		failure = cmp.Or(failure, err)
	}
	return nil, failure
}

// elf opens an ELF file; see get.
func (p *filePool) elf(path string) (*elf.File, error) {
	f, err := p.get(path)
	if err != nil {
		return nil, err
	}
	return elf.NewFile(f)
}

// keep counts an open file; the caller holds mu.
func (p *filePool) keep(f *pooledFile) {
	p.open = append(p.open, f)
	if len(p.open) > maxPooled {
		p.open[0].close()
		p.open = append(p.open[:0], p.open[1:]...)
	}
}

// close closes all files; what is read later opens them again.
func (p *filePool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.open {
		f.close()
	}
	p.open = nil
}

func (f *pooledFile) close() {
	f.file.Close()
	f.file = nil
}

// ReadAt implements io.ReaderAt. It fails where the file was changed since it was first opened.
func (f *pooledFile) ReadAt(b []byte, off int64) (int, error) {
	for {
		file, err := f.opened()
		if err != nil {
			return 0, err
		}
		n, err := file.ReadAt(b, off)
		if !errors.Is(err, os.ErrClosed) { // by one who opened another
			return n, err
		}
	}
}

// opened is the file, opened again if it was closed.
func (f *pooledFile) opened() (*os.File, error) {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if f.file == nil {
		file, info, err := openUnder(f.root, f.path)
		if err != nil {
			return nil, err
		}
		if !os.SameFile(info, f.info) || info.Size() != f.info.Size() || !info.ModTime().Equal(f.info.ModTime()) {
			file.Close()
			return nil, fmt.Errorf("read %s again: it was changed meanwhile; symbolize the recording again", f.path)
		}
		f.file = file
		f.pool.keep(f)
	}
	return f.file, nil
}

// Stat is that of the file when it was first opened.
func (f *pooledFile) Stat() (fs.FileInfo, error) { return f.info, nil }

var _ io.ReaderAt = (*pooledFile)(nil)

// openUnder opens a regular file for reading. Where root is a folder, path is that of a process whose
// root it is: neither ".." nor symbolic links lead out of it (openat2(2), RESOLVE_IN_ROOT), so that a
// container cannot name files of its host. It does not wait for a FIFO's other end.
func openUnder(root, path string) (*os.File, fs.FileInfo, error) {
	file, err := openIn(root, path, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is not a regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func openIn(root, path string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	if root == "" || root == "/" {
		fd, err := unix.Open(path, flags, 0)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root, path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(root, path)), nil
}
