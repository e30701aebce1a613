// Package daemon finds, starts and reaches the one background process that each user has for each
// build of a program: its folder and socket, the lock that keeps it single, the check of who is at the
// other end, the frames of a connection, its log file and what remains of a crash.
//
// It does not know what the process is for. Whoever uses it says what a connection wants and what is
// served on it.
//
// # Trust
//
// The folder belongs to the user and nobody else may enter it; it is verified each time, as another
// user may have been there first. Both ends ask the kernel whose process the other one is (SO_PEERCRED,
// unix(7)) and speak to their own user only.
package daemon

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Place is where the daemon of one user and one build is reached. Its folder has been verified.
type Place struct {
	Dir  string // the folder
	Name string // of the build: 16 hex digits

	dir *os.File // Dir, so that nobody can put another in its place
}

// FolderName is the name of the folder in the user's folder for such things.
const FolderName = "sightline"

// temporary is where the folder is made for who has no XDG_RUNTIME_DIR. It is not the folder of TMPDIR:
// an editor and a terminal with different ones are to meet. Tests change it.
var temporary = "/tmp"

// Find is the place for a build, in
//
//	$XDG_RUNTIME_DIR/sightline
//
// and /tmp/sightline-UID where there is no XDG_RUNTIME_DIR that belongs to this user (as with sudo). The
// folder is made if it is missing, with mode 0700. One that is there must be a folder, no symbolic
// link, belong to this user and be open to nobody else: otherwise the error says so and what to do.
// The Place needs Close.
func Find(environment func(string) string, build string) (*Place, error) {
	dir := runtimeFolder(environment("XDG_RUNTIME_DIR"))
	if dir == "" {
		dir = filepath.Join(temporary, FolderName+"-"+strconv.Itoa(os.Geteuid()))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the daemon's folder %s: %w; set XDG_RUNTIME_DIR to a folder of your own", dir, cause(err))
	}
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	return &Place{Dir: dir, Name: build, dir: f}, nil
}

// runtimeFolder is our folder in the one that the session's login made, "" if that one is not this
// user's own.
func runtimeFolder(parent string) string {
	if !filepath.IsAbs(parent) {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Stat(parent, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return ""
	}
	return filepath.Join(parent, FolderName)
}

// openFolder verifies a folder and keeps it.
func openFolder(dir string) (*os.File, error) {
	const remedy = "remove it, or set XDG_RUNTIME_DIR to a folder of your own"
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		// O_PATH|O_NOFOLLOW opens a symbolic link itself, which then is no folder (open(2)).
		return nil, fmt.Errorf("use the daemon's folder %s: it is a file or a symbolic link and no folder; %s", dir, remedy)
	}
	if err != nil {
		return nil, fmt.Errorf("use the daemon's folder %s: %w; %s", dir, err, remedy)
	}
	f := os.NewFile(uintptr(fd), dir)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("use the daemon's folder %s: %w", dir, err)
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("use the daemon's folder %s: it belongs to user %d and this is user %d; %s", dir, st.Uid, os.Geteuid(), remedy)
	case st.Mode&0o077 != 0:
		err = fmt.Errorf("use the daemon's folder %s: its mode %04o lets other users in; `chmod 700 %s` closes it", dir, st.Mode&0o7777, dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close lets the folder go.
func (p *Place) Close() error { return p.dir.Close() }

// Others are the places of other builds that have a socket here. They share p's folder and need no
// Close.
func (p *Place) Others() []*Place {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return nil
	}
	var all []*Place
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), socketSuffix); ok && name != p.Name && e.Type()&fs.ModeSocket != 0 {
			all = append(all, &Place{Dir: p.Dir, Name: name, dir: p.dir})
		}
	}
	return all
}

const socketSuffix = ".sock"

// Socket is the path of the daemon's socket.
func (p *Place) Socket() string { return filepath.Join(p.Dir, p.Name+socketSuffix) }

// Lock is the path of the file whose lock the daemon holds.
func (p *Place) Lock() string { return filepath.Join(p.Dir, p.Name+".lock") }

// address is the socket's path as the kernel takes it: a longer one goes through the open folder.
func (p *Place) address() string {
	const longest = 107 // unix(7): sun_path has 108 bytes, the last is 0
	if path := p.Socket(); len(path) <= longest {
		return path
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s%s", p.dir.Fd(), p.Name, socketSuffix)
}

// Build names the build that runs here. Two builds that differ have different names.
func Build() (string, error) { return buildOf("/proc/self/exe") }

// buildOf reads the Go build ID, which is made of the content (cmd/go/internal/work/buildid.go). Of a
// binary that was linked without one it is the file itself: which one, how large and from when.
func buildOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the build of this program: %w", err)
	}
	defer f.Close()
	id := goBuildID(f)
	if id == "" {
		info, err := f.Stat()
		if err != nil {
			return "", fmt.Errorf("read the build of this program: %w", err)
		}
		st := info.Sys().(*syscall.Stat_t)
		id = fmt.Sprintf("%d:%d:%d:%d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]), nil
}

func goBuildID(r io.ReaderAt) string {
	file, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
	note := file.Section(".note.go.buildid")
	if note == nil {
		return ""
	}
	data, err := note.Data()
	if err != nil || len(data) < 16 {
		return ""
	}
	// An ELF note: sizes of name and description, type, "Go\0\0", description.
	n := int(file.ByteOrder.Uint32(data[4:]))
	if n <= 0 || n > len(data)-16 {
		return ""
	}
	return string(data[16 : 16+n])
}

// cause is the system's word for an error, without the path, which our sentences name.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
