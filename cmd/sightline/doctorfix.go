package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/bpf"
)

// A remedy is what `doctor --fix` does, or tells root to do: sightline-capture is installed where only root
// writes, with the capabilities that it hands nobody.
type remedy struct {
	Steps     []*fixStep              `json:"steps"`
	Obstacles []profiler.Obstacle     `json:"obstacles"` // that no step overcomes
	Capture   profiler.CaptureProgram `json:"capture"`   // what recordings of this process use, afterwards
	root      bool
	again     string // the command that does all of it
}

// A fixStep is one command, and the same done by this process.
type fixStep struct {
	Command string `json:"command"` // for root's shell
	Done    bool   `json:"done"`    // that holds now
	Changed bool   `json:"changed"` // by this run

	check func() (bool, error)
	do    func() error
}

// CaptureFileCapabilities are those of sightline-capture's file, as setcap(8) reads them. They are permitted
// and not effective: the program makes each effective only while it is needed.
const captureFileCapabilities = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_syslog,cap_dac_read_search=p"

// FixPrivileges finds out what is to be done and, as root, does it. Group is who may run the program, "" for
// everyone; folder is where it is installed.
func fixPrivileges(folder, group string) (*remedy, error) {
	source, err := captureBeside()
	if err != nil {
		return nil, err
	}
	gid, mode := 0, os.FileMode(0o755)
	if group != "" {
		if gid, err = groupID(group); err != nil {
			return nil, err
		}
		mode = 0o750
	}
	r := &remedy{root: os.Geteuid() == 0, again: "sudo " + bpf.ShellWord(ownPath()) + " doctor --fix"}
	if folder != profiler.CaptureFolders[0] {
		r.again += " --folder " + bpf.ShellWord(folder)
	}
	if group != "" {
		r.again += " --group " + bpf.ShellWord(group)
	}
	r.Steps, err = fixSteps(source, folder, gid, group, mode)
	if err != nil {
		return nil, err
	}
	for _, s := range r.Steps {
		if s.Done, err = s.check(); err != nil {
			return nil, err
		}
		if s.Done || !r.root {
			continue
		}
		if err := s.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Command, err)
		}
		s.Done, s.Changed = true, true
	}
	r.Obstacles = append([]profiler.Obstacle{}, profiler.Obstacles(folder)...)
	r.Capture = profiler.FindCapture()
	return r, nil
}

// OwnPath is this program's file, or else its name.
func ownPath() string {
	path, err := os.Executable()
	if err != nil {
		return "sightline"
	}
	return path
}

// CaptureBeside is the sightline-capture of this build: beside this program, wherever that really lies.
func captureBeside() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	path := filepath.Join(filepath.Dir(self), "sightline-capture")
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("there is no %s, which is what is given capabilities; `make build` makes it beside sightline, and releases have both", path)
	}
	return path, nil
}

func groupID(name string) (int, error) {
	if g, err := user.LookupGroup(name); err == nil {
		return strconv.Atoi(g.Gid)
	}
	if g, err := user.LookupGroupId(name); err == nil {
		return strconv.Atoi(g.Gid)
	}
	return 0, fmt.Errorf("there is no group %q; make it and add who may record: sudo groupadd %s && sudo usermod -aG %s USER", name, bpf.ShellWord(name), bpf.ShellWord(name))
}

func fixSteps(source, folder string, gid int, group string, mode os.FileMode) ([]*fixStep, error) {
	target := filepath.Join(folder, "sightline-capture")
	build, err := os.ReadFile(source)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	want := fileCapabilities(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_SYSLOG, unix.CAP_DAC_READ_SEARCH)
	owned := "root"
	if group != "" {
		owned = group
	}
	// The file is made beside its place, and is complete when it comes there.
	install := func() error {
		f, err := os.CreateTemp(folder, ".sightline-capture-")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if _, err := f.Write(build); err != nil {
			return err
		}
		if err := errors.Join(f.Chown(0, gid), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
			return err
		}
		return os.Rename(f.Name(), target)
	}
	return []*fixStep{
		{
			Command: "install -d -o root -g root -m 0755 " + bpf.ShellWord(folder),
			check:   func() (bool, error) { return is(folder, 0, 0, os.ModeDir|0o755) },
			do: func() error {
				if err := os.MkdirAll(folder, 0o755); err != nil {
					return err
				}
				if err := os.Chown(folder, 0, 0); err != nil {
					return err
				}
				return os.Chmod(folder, 0o755)
			},
		}, {
			Command: fmt.Sprintf("install -o root -g %s -m %#o %s %s", bpf.ShellWord(owned), mode, bpf.ShellWord(source), bpf.ShellWord(target)),
			check: func() (bool, error) {
				ok, err := is(target, 0, gid, mode)
				if err != nil || !ok {
					return false, err
				}
				there, err := os.ReadFile(target)
				if errors.Is(err, fs.ErrPermission) {
					return false, nil // this user is not of the group: root will see
				}
				return bytes.Equal(there, build), err
			},
			do: install,
		}, {
			Command: "setcap " + captureFileCapabilities + " " + bpf.ShellWord(target),
			check: func() (bool, error) {
				var b [64]byte
				n, err := unix.Getxattr(target, "security.capability", b[:])
				return err == nil && bytes.Equal(b[:n], want), nil
			},
			do: func() error {
				err := unix.Setxattr(target, "security.capability", want, 0)
				if errors.Is(err, unix.EOPNOTSUPP) {
					return fmt.Errorf("the file system of %s does not carry capabilities; install sightline-capture on another one: sightline doctor --fix --folder DIR, with DIR on PATH", folder)
				}
				if errors.Is(err, unix.EPERM) {
					return fmt.Errorf("this root may not give capabilities to files, as in a container or a user namespace; do it on the host")
				}
				return err
			},
		},
	}, nil
}

// is tells whether a file has this owner, group and mode. A file that is not there has not.
func is(path string, uid, gid int, mode os.FileMode) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner := st.Sys().(*syscall.Stat_t)
	return st.Mode() == mode && int(owner.Uid) == uid && int(owner.Gid) == gid, nil
}

// FileCapabilities is the extended attribute security.capability with these permitted: struct vfs_cap_data,
// include/uapi/linux/capability.h, revision 2.
func fileCapabilities(permitted ...int) []byte {
	var words [2]uint32
	for _, c := range permitted {
		words[c/32] |= 1 << (c % 32)
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x02000000)
	for _, w := range words {
		b = le.AppendUint32(le.AppendUint32(b, w), 0) // none is inheritable
	}
	return b
}

func (r *remedy) print(out io.Writer) {
	p := paletteFor(out)
	changed, left := 0, 0
	for _, s := range r.Steps {
		if s.Changed {
			changed++
		}
		if !s.Done {
			left++
		}
	}
	switch {
	case left > 0:
		fmt.Fprintf(out, "%s, or all of it at once: %s\n\n", p.bold("As root"), r.again)
	case changed > 0:
		fmt.Fprintln(out, p.bold("Done")+"\n")
	default:
		fmt.Fprintln(out, p.bold("Nothing to do")+"\n")
	}
	for _, s := range r.Steps {
		switch {
		case s.Changed:
			fmt.Fprintf(out, "  %s  %s\n", p.good("done  "), s.Command)
		case s.Done:
			fmt.Fprintf(out, "  %s  %s\n", p.good("is so "), s.Command)
		case left == len(r.Steps):
			fmt.Fprintf(out, "  sudo %s\n", s.Command)
		default:
			fmt.Fprintf(out, "  %s  sudo %s\n", p.bad("not so"), s.Command)
		}
	}
	room := max(width(out)-4, 40)
	if len(r.Obstacles) > 0 {
		fmt.Fprintln(out, "\n"+p.bold("What no capability overcomes"))
	}
	for _, o := range r.Obstacles {
		fmt.Fprintln(out)
		for _, line := range wrap(o.What+": "+o.Effect, room) {
			fmt.Fprintf(out, "  %s\n", line)
		}
		if o.Remedy != "" {
			fmt.Fprintf(out, "    %s\n", strings.Join(wrap(o.Remedy, room), "\n    "))
		}
	}
	fmt.Fprintln(out)
	switch {
	case r.root:
		fmt.Fprintln(out, "Root records without it. For ordinary users: sightline doctor, as one of them, tries it.")
	case r.Capture.OK:
		fmt.Fprintf(out, "Recordings use %s.\n", r.Capture.Path)
	case left == 0:
		for _, line := range wrap("Yet recordings do not use it: "+r.Capture.Why+".", room) {
			fmt.Fprintln(out, line)
		}
	default:
		for _, line := range wrap("Until then recordings use the perf engine: "+r.Capture.Why+".", room) {
			fmt.Fprintln(out, line)
		}
	}
}
