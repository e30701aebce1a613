package profiler

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/broker"
)

// captureName is the name of the program that carries capabilities for those who have none.
const captureName = "sightline-capture"

// CaptureFolders are where it is looked for beside the folder of this program and PATH; the first is where
// an administrator is told to install it.
var CaptureFolders = []string{"/usr/local/libexec/sightline", "/usr/libexec/sightline", "/usr/lib/sightline"}

// A CaptureProgram is a sightline-capture that was found, and whether its capabilities have an effect when
// this process starts it.
type CaptureProgram struct {
	Path string `json:"path,omitempty"` // "": there is none
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // why they have none; "" where OK
}

// FindCapture looks for sightline-capture: beside this program, in libexec, and on PATH. It is the first
// whose capabilities have an effect; where there is none, the first that there is, and why not.
func FindCapture() CaptureProgram {
	var folders []string
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		folders = append(folders, dir, filepath.Join(filepath.Dir(dir), "libexec", "sightline"))
	}
	folders = append(folders, CaptureFolders...)
	folders = append(folders, filepath.SplitList(os.Getenv("PATH"))...)
	mine, err := bpf.ReadPrivileges()
	if err != nil {
		return CaptureProgram{Why: err.Error()}
	}
	first := CaptureProgram{Why: captureName + " is not installed"}
	for _, dir := range folders {
		path := filepath.Join(dir, captureName)
		if !filepath.IsAbs(path) {
			continue // a part of PATH that depends on the folder
		}
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			continue
		}
		x := CaptureProgram{Path: path, Why: captureRefusal(path, mine)}
		if x.OK = x.Why == ""; x.OK {
			return x
		}
		if first.Path == "" {
			first = x
		}
	}
	return first
}

// captureRefusal says why the capabilities of a program's file have no effect when a process with these
// privileges starts it; "" where they have.
func captureRefusal(path string, mine bpf.Privileges) string {
	if errors.Is(unix.Access(path, unix.X_OK), unix.EACCES) {
		return "this user may not run " + path + fileGroup(path)
	}
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	has, known := bpf.FileCapabilities(path)
	const needed = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	switch {
	case mine.UserNamespace:
		return "this process is in a user namespace (a container without root), where capabilities do not count for BPF and perf"
	case known && has == 0:
		return path + " has no capabilities (a file loses them when it is copied, moved to another file system or built anew)"
	case known && has&needed != needed:
		return path + " has capabilities, but not both of CAP_BPF and CAP_PERFMON"
	case err == nil && fs.Flags&unix.ST_NOSUID != 0:
		return path + " is on a file system that is mounted nosuid, where the capabilities of files are ignored"
	case mine.NoNewPrivs:
		return "no_new_privs is set for this process, so that the capabilities of files are ignored (Flatpak and Snap editors, containers, systemd's NoNewPrivileges=)"
	case mine.Bounding&needed != needed:
		return "the bounding set of this process excludes CAP_BPF or CAP_PERFMON, as in a container"
	}
	return ""
}

// fileGroup tells which group may run a program that others may not.
func fileGroup(path string) string {
	st, err := os.Stat(path)
	if err != nil || st.Mode()&0o010 == 0 {
		return ""
	}
	return fmt.Sprintf(": only root and group %s may", groupName(st.Sys().(*syscall.Stat_t).Gid))
}

// lent is the source of samples where sightline-capture has the program. Its events come with the program
// attached.
type lent struct {
	*bpf.Reader
	*broker.Client
}

var _ stackSource = (*lent)(nil)

func (l *lent) Attach(int) error { return nil }
func (l *lent) Close() error     { return errors.Join(l.Reader.Close(), l.Client.Close()) }

// borrow starts sightline-capture for a target.
func borrow(t Target, options bpf.Options) (*lent, error) {
	program := FindCapture()
	if !program.OK {
		return nil, &unborrowed{path: program.Path, why: program.Why}
	}
	want := broker.Kernel
	switch {
	case t.Machine:
		want |= broker.Users | broker.Machine
	case t.PID != 0 && !ownProcess(t.PID):
		want |= broker.Users
	}
	c, err := broker.Start(program.Path, options, want)
	if err != nil {
		return nil, err
	}
	reader, err := bpf.OpenReader(c.RingFD())
	if err != nil {
		c.Close()
		return nil, err
	}
	return &lent{reader, c}, nil
}

func ownProcess(pid int) bool {
	st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	// Of a process that its user may not look into root is the owner of the folder (proc(5)).
	return err != nil || int(st.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}

// unborrowed says that there is no sightline-capture that would help, and why this process cannot do without.
type unborrowed struct{ path, why, own string }

func (u *unborrowed) Error() string {
	text := u.why
	if u.own != "" {
		text = u.own + ", and " + text
	}
	return text + "; sudo " + bpf.ShellWord(self()) + " doctor --fix sets it up"
}

func (u *unborrowed) Unwrap() error { return os.ErrPermission }

// symbols opens the list of the kernel's symbols: that of sightline-capture, where it shows more.
func (r *Recording) symbols() (io.ReadCloser, error) {
	if r.kernelList != nil {
		return io.NopCloser(io.NewSectionReader(r.kernelList, 0, 1<<40)), nil
	}
	return os.Open("/proc/kallsyms")
}

// Kallsyms opens the list of the kernel's symbols, as /proc/kallsyms has it, with the addresses that this
// recording may see. It is good until Close.
func (r *Recording) Kallsyms() (io.ReadCloser, error) { return r.symbols() }
