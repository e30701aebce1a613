package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Privileges are what decides whether the kernel lets this process record, and what stands in the
// way of giving it more.
type Privileges struct {
	Effective  uint64 // capabilities that count now: bit n is capability n of linux/capability.h
	Bounding   uint64 // capabilities that this process and what it starts can ever have
	NoNewPrivs bool   // file capabilities and set-user-ID are ignored (PR_SET_NO_NEW_PRIVS)
	Seccomp    bool   // a filter may refuse system calls, as container runtimes have it
	// UserNamespace says that the process is in a user namespace of its own, as in a container
	// without root: there its capabilities do not count for BPF and perf.
	UserNamespace bool

	Executable   string // this program's file; "" when not known
	NoSUID       bool   // it lies on a file system that ignores file capabilities (mount option nosuid)
	Capabilities bool   // it has file capabilities
}

// ReadPrivileges reads those of this process (proc_pid_status(5), capabilities(7)).
func ReadPrivileges() (Privileges, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Privileges{}, fmt.Errorf("read this process's privileges (is /proc mounted?): %w", err)
	}
	p := parsePrivileges(text)
	const initial = 0xEFFFFFFD // PROC_USER_INIT_INO, include/linux/proc_ns.h
	var namespace unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &namespace) == nil { // absent: a kernel without user namespaces
		p.UserNamespace = namespace.Ino != initial
	}
	if p.Executable, err = os.Executable(); err == nil {
		var fs unix.Statfs_t
		p.NoSUID = unix.Statfs(p.Executable, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0
		n, err := unix.Getxattr(p.Executable, "security.capability", nil)
		p.Capabilities = err == nil && n > 0
	}
	return p, nil
}

// FileCapabilities are the permitted capabilities of a program's file (struct vfs_cap_data,
// include/uapi/linux/capability.h). known is false where the file system, or this user, does not tell.
func FileCapabilities(path string) (permitted uint64, known bool) {
	var b [24]byte // revision 3; revision 2 has no user at its end
	n, err := unix.Getxattr(path, "security.capability", b[:])
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return 0, true
	case err != nil:
		return 0, false
	}
	return parseFileCapabilities(b[:n])
}

func parseFileCapabilities(b []byte) (permitted uint64, known bool) {
	if len(b) < 12 {
		return 0, false
	}
	permitted = uint64(binary.LittleEndian.Uint32(b[4:]))
	if len(b) >= 20 { // revision 1 has 32 of them
		permitted |= uint64(binary.LittleEndian.Uint32(b[12:])) << 32
	}
	return permitted, true
}

func parsePrivileges(status []byte) Privileges {
	var p Privileges
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(bytes.TrimSpace(line)), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "CapEff":
			p.Effective, _ = strconv.ParseUint(value, 16, 64)
		case "CapBnd":
			p.Bounding, _ = strconv.ParseUint(value, 16, 64)
		case "NoNewPrivs":
			p.NoNewPrivs = value == "1"
		case "Seccomp":
			p.Seccomp = value != "0"
		}
	}
	return p
}

// Has tells whether a capability (unix.CAP_…) counts for BPF and perf. CAP_SYS_ADMIN counts as
// CAP_BPF and CAP_PERFMON (bpf_capable and perfmon_capable, include/linux/capability.h).
func (p Privileges) Has(capability int) bool {
	if p.UserNamespace {
		return false
	}
	return p.Effective>>capability&1 != 0 ||
		(capability == unix.CAP_BPF || capability == unix.CAP_PERFMON) && p.Effective>>unix.CAP_SYS_ADMIN&1 != 0
}

// capabilityNames are those of the capabilities that recording may need.
var capabilityNames = map[int]string{
	unix.CAP_BPF:        "CAP_BPF",
	unix.CAP_PERFMON:    "CAP_PERFMON",
	unix.CAP_SYSLOG:     "CAP_SYSLOG",
	unix.CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
	unix.CAP_SYS_ADMIN:  "CAP_SYS_ADMIN",
}

// fileCapabilities are what the program's file is to have for everything that is recorded: setcap
// replaces all capabilities of a file, so a remedy always names them all.
var fileCapabilities = []int{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG}

// Missing says which of the needed capabilities (unix.CAP_…) this process lacks, and how it would
// get them: a command for a shell, or what to do where no command helps. Both are "" where it has
// them all.
func (p Privileges) Missing(needed ...int) (why, remedy string) {
	var names []string
	bounded := false // the process cannot get what is missing by any file capability
	for _, c := range needed {
		if !p.Has(c) {
			names = append(names, capabilityNames[c])
			bounded = bounded || p.Bounding>>c&1 == 0
		}
	}
	if len(names) == 0 {
		return "", ""
	}
	why = "this process lacks " + strings.Join(names, " and ")
	switch {
	case p.UserNamespace:
		return "this process is in a user namespace (a container without root), where its capabilities do not count",
			"run sightline outside of the container"
	case bounded:
		var add []string
		for _, name := range names {
			add = append(add, "--cap-add="+strings.TrimPrefix(name, "CAP_"))
		}
		return why + ", and its bounding set excludes them, as in a container",
			"start the container with " + strings.Join(add, " ") + ", or run sightline outside of it"
	case p.NoNewPrivs:
		return why + ", and no_new_privs is set, so capabilities of the program's file are ignored (Flatpak and Snap editors, containers, systemd's NoNewPrivileges=)",
			"start sightline outside of the sandbox"
	case p.NoSUID:
		return why + "; " + p.Executable + " is on a file system mounted nosuid, so capabilities of the file are ignored",
			"sudo install " + ShellWord(p.Executable) + " /usr/local/bin/ && sudo setcap " + capabilityList(needed) + "=ep /usr/local/bin/sightline"
	}
	if p.Capabilities && p.Effective == 0 {
		why += ", though the program's file has capabilities: it was started under a debugger or tracer, or the file system does not carry them"
	}
	file := `"$(command -v sightline)"`
	if p.Executable != "" {
		file = ShellWord(p.Executable)
	}
	return why, "sudo setcap " + capabilityList(needed) + "=ep " + file
}

// capabilityList is fileCapabilities and what else is needed, as setcap(8) reads them.
func capabilityList(needed []int) string {
	var list []string
	seen := map[int]bool{}
	for _, c := range append(append([]int(nil), fileCapabilities...), needed...) {
		if !seen[c] {
			seen[c] = true
			list = append(list, strings.ToLower(capabilityNames[c]))
		}
	}
	return strings.Join(list, ",")
}

// ShellWord quotes a path where a shell would read it as more than one word.
func ShellWord(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@%:=", r)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return !plain(r) }) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// A Refusal is the kernel's no to BPF, with its cause.
type Refusal struct {
	Attempt string // what was attempted: "load the BPF sampler"
	Why     string // the cause
	Remedy  string // what to do: a command for a shell where one helps; "" when nothing is known
	Err     error  // the kernel's answer
}

// Error is one sentence.
func (r *Refusal) Error() string {
	s := r.Attempt + ": " + r.Why
	if r.Remedy != "" {
		s += "; " + r.Remedy
	}
	return s
}

// Unwrap is the kernel's answer, so that [os.ErrPermission] and [errors.ErrUnsupported] are found.
func (r *Refusal) Unwrap() error { return r.Err }

// explain makes a Refusal of what bpf(2) answered.
func explain(attempt string, err error) error {
	p, readErr := ReadPrivileges()
	if readErr != nil {
		return fmt.Errorf("%s: %w", attempt, errors.Join(err, readErr))
	}
	return refusal(attempt, err, p, release())
}

func refusal(attempt string, err error, p Privileges, release string) *Refusal {
	r := &Refusal{Attempt: attempt, Err: err}
	var rejected *ebpf.VerifierError
	switch {
	case errors.As(err, &rejected):
		// Its cause is EACCES, but no privilege helps: it must not be taken for os.ErrPermission.
		r.Err = errors.ErrUnsupported
		r.Why = fmt.Sprintf("the verifier of Linux %s rejects the program: %v", release, rejected)
		r.Remedy = "record with the perf engine"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		r.Why, r.Remedy = p.Missing(unix.CAP_BPF, unix.CAP_PERFMON)
		switch {
		case !KernelAtLeast(release, 5, 8):
			r.Why, r.Remedy = "Linux "+release+" has no BPF ring buffer, which needs 5.8", "record with the perf engine"
		case r.Why != "":
		case p.Seccomp:
			r.Why = "a seccomp filter is active and may refuse the bpf system call, though this process has the capabilities"
			r.Remedy = "allow bpf in the container's seccomp profile, or run sightline outside of it"
		case !KernelAtLeast(release, 5, 11):
			r.Why = "RLIMIT_MEMLOCK is too low for BPF maps, and this process may not raise it"
			r.Remedy = "ulimit -l unlimited"
		default:
			r.Why = "the kernel does not permit it, though this process has the capabilities: a security module (SELinux, AppArmor) may forbid it"
			r.Remedy = "look for the refusal in the kernel's log: sudo dmesg"
		}
	case errors.Is(err, unix.ENOSYS):
		r.Why = "the bpf system call is missing: a kernel without CONFIG_BPF_SYSCALL, or a seccomp filter"
		r.Remedy = "record with the perf engine"
	case !KernelAtLeast(release, 5, 8):
		r.Err = errors.Join(errors.ErrUnsupported, err)
		r.Why, r.Remedy = "Linux "+release+" has no BPF ring buffer, which needs 5.8", "record with the perf engine"
	default:
		r.Why = err.Error()
	}
	return r
}

// release is the kernel's version as uname(2) tells it.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "(version not known)"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// KernelAtLeast tells whether a release is of this version or newer; one that cannot be read is. It only
// chooses words and whether to lift a limit, never whether to try: distributions carry features to
// older kernels.
func KernelAtLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return true
	}
	return a > major || a == major && b >= minor
}
