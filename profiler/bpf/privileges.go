package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Privileges are what decides whether the kernel lets this process record.
type Privileges struct {
	Effective  uint64 // capabilities that count now: bit n is capability n of linux/capability.h
	Bounding   uint64 // capabilities that this process and what it starts can ever have
	NoNewPrivs bool   // file capabilities and set-user-ID are ignored (PR_SET_NO_NEW_PRIVS)
	Seccomp    bool   // a seccomp filter may refuse system calls, as container runtimes have it
	// UserNamespace says that the process is in a user namespace of its own, as in a container
	// without root: there its capabilities do not count for BPF and perf.
	UserNamespace bool
}

// ReadPrivileges reads those of this process from /proc/self (proc_pid_status(5)).
func ReadPrivileges() (Privileges, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Privileges{}, fmt.Errorf("read this process's privileges (is /proc mounted?): %w", err)
	}
	p := parsePrivileges(text)
	const initial = 0xEFFFFFFD // PROC_USER_INIT_INO, include/linux/proc_ns.h
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/user", &st) == nil { // absent: a kernel without user namespaces
		p.UserNamespace = st.Ino != initial
	}
	return p, nil
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
	if p.Effective>>capability&1 != 0 {
		return true
	}
	return (capability == unix.CAP_BPF || capability == unix.CAP_PERFMON) && p.Effective>>unix.CAP_SYS_ADMIN&1 != 0
}

// explain makes a kernel's refusal one sentence: what was attempted, the cause, the remedy.
func explain(attempt string, err error) error {
	var rejected *ebpf.VerifierError
	switch {
	case errors.As(err, &rejected):
		return fmt.Errorf("%s: the kernel's verifier rejects the program: %w", attempt, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w: %s", attempt, unix.EPERM, denied())
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: the bpf system call is missing: %w (a kernel without CONFIG_BPF_SYSCALL, or a seccomp filter)", attempt, err)
	case !newerThan(5, 8):
		return fmt.Errorf("%s: Linux %s has no BPF ring buffer, which needs 5.8; record with the perf engine: %w", attempt, release(), errors.ErrUnsupported)
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

// denied says why the kernel answered EPERM to bpf(2).
func denied() string {
	p, err := ReadPrivileges()
	if err != nil {
		return err.Error()
	}
	var missing []string
	if !p.Has(unix.CAP_BPF) {
		missing = append(missing, "CAP_BPF")
	}
	if !p.Has(unix.CAP_PERFMON) {
		missing = append(missing, "CAP_PERFMON")
	}
	switch {
	case p.UserNamespace:
		return "this process is in a user namespace (a container without root), where no capability allows BPF; record from outside of it"
	case len(missing) > 0:
		names := strings.Join(missing, " and ")
		if !newerThan(5, 8) {
			return fmt.Sprintf("Linux %s needs root for BPF", release())
		}
		return fmt.Sprintf("this process lacks %s; give them to the program: sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep %s", names, executable())
	case p.Seccomp:
		return "this process has the capabilities, but a seccomp filter is active, which may refuse the bpf system call (containers: allow it with a seccomp profile)"
	case !newerThan(5, 11):
		return "this process has the capabilities; RLIMIT_MEMLOCK may be too low: raise it (ulimit -l unlimited)"
	}
	return "this process has the capabilities; a security module (SELinux, AppArmor) or an administrator's BPF policy may forbid it: see the kernel's log"
}

// executable is this program's file as a word for a shell.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return `"$(command -v sightline)"`
	}
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r)
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// release is the kernel's version as uname(2) tells it.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// newerThan tells whether the kernel is of this version or newer. It only chooses words and
// whether to lift a limit, never whether to try: distributions carry features to older kernels.
func newerThan(major, minor int) bool {
	return atLeast(release(), major, minor)
}

func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return true
	}
	return a > major || a == major && b >= minor
}
