package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// newFile makes a file without a name in a folder, which is gone with the last who has it open, however
// that ends. Where the file system has no such files it has a name, which is to be removed.
func newFile(dir string) (f *os.File, name string, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), "", nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOTDIR) {
		return nil, "", err
	}
	f, err = os.CreateTemp(dir, ".sightline-*")
	if err != nil {
		return nil, "", err
	}
	return f, f.Name(), nil
}

// replaceFile has a file written and puts it in the place of path once it is whole. When it fails, nothing
// of it is left and what was at path still is. An error of the file itself is a writeError.
func replaceFile(path string, write func(*os.File) error) (err error) {
	fail := func(err error) error {
		remedy := ""
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			remedy = "; nothing of it was left there, so make room or give another place"
		}
		return fmt.Errorf("write core file %s: %w%s", path, cause(err), remedy)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write core file %s: it is no ordinary file; a core file has holes and is not written in order", path)
	}
	f, name, err := newFile(filepath.Dir(path))
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	if err := write(f); err != nil {
		if name != "" {
			os.Remove(name)
		}
		var of *writeError
		if errors.As(err, &of) {
			return fail(of.err)
		}
		return err
	}
	if name == "" {
		// Only a new name can be given to it, so it gets one and is moved.
		for n := range 1000 {
			name = filepath.Join(filepath.Dir(path), ".sightline-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(n))
			err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
			if !errors.Is(err, unix.EEXIST) {
				break
			}
		}
		if err != nil {
			return fail(err)
		}
	}
	if err := os.Rename(name, path); err != nil {
		os.Remove(name)
		return fail(err)
	}
	return nil
}
