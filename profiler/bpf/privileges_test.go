package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParsePrivileges(t *testing.T) {
	const status = "Name:\tsightline\nCapInh:\t0000000000000000\nCapPrm:\t000000c000000000\nCapEff:\t000000c000000000\n" +
		"CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"
	want := Privileges{
		Effective:  1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON,
		Bounding:   1<<41 - 1,
		NoNewPrivs: true,
		Seccomp:    true,
	}
	if diff := cmp.Diff(want, parsePrivileges([]byte(status))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := parsePrivileges([]byte("CapEff:\tnonsense\nSeccomp:\t0\n\n:\n")); got != (Privileges{}) {
		t.Errorf("nonsense: %+v", got)
	}
}

func TestHas(t *testing.T) {
	admin := Privileges{Effective: 1 << unix.CAP_SYS_ADMIN}
	if !admin.Has(unix.CAP_BPF) || !admin.Has(unix.CAP_PERFMON) || admin.Has(unix.CAP_SYSLOG) {
		t.Error("CAP_SYS_ADMIN counts as CAP_BPF and CAP_PERFMON, and not as CAP_SYSLOG")
	}
	admin.UserNamespace = true
	if admin.Has(unix.CAP_BPF) || admin.Has(unix.CAP_SYS_ADMIN) {
		t.Error("capabilities in a user namespace do not count")
	}
}

const all = 1<<41 - 1

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		name        string
		p           Privileges
		needed      []int
		why, remedy string
	}{
		{
			"has them", Privileges{Effective: 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON}, []int{unix.CAP_BPF, unix.CAP_PERFMON}, "", "",
		}, {
			"ordinary user", Privileges{Bounding: all, Executable: "/usr/bin/sightline"}, []int{unix.CAP_BPF, unix.CAP_PERFMON},
			"this process lacks CAP_BPF and CAP_PERFMON",
			"sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /usr/bin/sightline",
		}, {
			"file not known", Privileges{Bounding: all}, []int{unix.CAP_SYSLOG},
			"this process lacks CAP_SYSLOG",
			`sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep "$(command -v sightline)"`,
		}, {
			"one more than usual", Privileges{Bounding: all, Executable: "/o'pt/s l"}, []int{unix.CAP_SYS_PTRACE},
			"this process lacks CAP_SYS_PTRACE",
			`sudo setcap cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace=ep '/o'\''pt/s l'`,
		}, {
			"file has capabilities", Privileges{Bounding: all, Executable: "/s", Capabilities: true}, []int{unix.CAP_BPF},
			"this process lacks CAP_BPF, though the program's file has capabilities: it was started under a debugger or tracer, or the file system does not carry them",
			"sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /s",
		}, {
			"file has others", Privileges{Bounding: all, Executable: "/s", Capabilities: true, Effective: 1 << unix.CAP_BPF}, []int{unix.CAP_BPF, unix.CAP_PERFMON},
			"this process lacks CAP_PERFMON",
			"sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /s",
		}, {
			"sandbox", Privileges{Bounding: all, NoNewPrivs: true}, []int{unix.CAP_BPF},
			"this process lacks CAP_BPF, and no_new_privs is set, so capabilities of the program's file are ignored (Flatpak and Snap editors, containers, systemd's NoNewPrivileges=)",
			"start sightline outside of the sandbox",
		}, {
			"container", Privileges{Bounding: all &^ (1 << unix.CAP_PERFMON), NoNewPrivs: true}, []int{unix.CAP_BPF, unix.CAP_PERFMON},
			"this process lacks CAP_BPF and CAP_PERFMON, and its bounding set excludes them, as in a container",
			"start the container with --cap-add=BPF --cap-add=PERFMON, or run sightline outside of it",
		}, {
			"container without root", Privileges{Effective: all, Bounding: all, UserNamespace: true}, []int{unix.CAP_BPF},
			"this process is in a user namespace (a container without root), where its capabilities do not count",
			"run sightline outside of the container",
		}, {
			"nosuid", Privileges{Bounding: all, NoSUID: true, Executable: "/tmp/sightline"}, []int{unix.CAP_BPF},
			"this process lacks CAP_BPF; /tmp/sightline is on a file system mounted nosuid, so capabilities of the file are ignored",
			"sudo install /tmp/sightline /usr/local/bin/ && sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /usr/local/bin/sightline",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			why, remedy := test.p.Missing(test.needed...)
			if diff := cmp.Diff([]string{test.why, test.remedy}, []string{why, remedy}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	capable := Privileges{Effective: all, Bounding: all}
	filtered := capable
	filtered.Seccomp = true
	none := Privileges{Bounding: all, Executable: "/s"}
	create := fmt.Errorf("map create: %w (MEMLOCK may be too low)", unix.EPERM)
	for _, test := range []struct {
		name    string
		err     error
		p       Privileges
		release string
		want    string
		is      error
	}{
		{"no capabilities", create, none, "6.18.44", "x: this process lacks CAP_BPF and CAP_PERFMON; sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /s", os.ErrPermission},
		{"seccomp", create, filtered, "6.18.44", "x: a seccomp filter is active and may refuse the bpf system call, though this process has the capabilities; allow bpf in the container's seccomp profile, or run sightline outside of it", os.ErrPermission},
		{"limit", create, capable, "5.10.0-1-amd64", "x: RLIMIT_MEMLOCK is too low for BPF maps, and this process may not raise it; ulimit -l unlimited", os.ErrPermission},
		{"security module", create, capable, "6.18.44", "x: the kernel does not permit it, though this process has the capabilities: a security module (SELinux, AppArmor) may forbid it; look for the refusal in the kernel's log: sudo dmesg", os.ErrPermission},
		{"old, no capabilities", create, none, "5.4.0", "x: Linux 5.4.0 has no BPF ring buffer, which needs 5.8; record with the perf engine", os.ErrPermission},
		{"old", unix.EINVAL, capable, "5.4.0", "x: Linux 5.4.0 has no BPF ring buffer, which needs 5.8; record with the perf engine", errors.ErrUnsupported},
		{"no bpf", unix.ENOSYS, capable, "6.18.44", "x: the bpf system call is missing: a kernel without CONFIG_BPF_SYSCALL, or a seccomp filter; record with the perf engine", errors.ErrUnsupported},
		{"verifier", &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"invalid bpf_context access"}}, capable, "6.18.44", "x: the verifier of Linux 6.18.44 rejects the program: : permission denied: invalid bpf_context access; record with the perf engine", errors.ErrUnsupported},
		{"memory", unix.ENOMEM, capable, "6.18.44", "x: cannot allocate memory", unix.ENOMEM},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := refusal("x", test.err, test.p, test.release)
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
			if test.is != os.ErrPermission && errors.Is(err, os.ErrPermission) {
				t.Errorf("%v is taken for a missing privilege", err)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.7.19-generic": false, "6.1.0-13-amd64": true, "4.19": false, "5.10": true, "(version not known)": true, "": true,
	} {
		if got := KernelAtLeast(release, 5, 8); got != want {
			t.Errorf("KernelAtLeast(%q, 5, 8) = %t", release, got)
		}
	}
}

func TestReadPrivileges(t *testing.T) {
	p, err := ReadPrivileges()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Executable, "bpf.test") {
		t.Errorf("executable %q", p.Executable)
	}
	if os.Getuid() == 0 && p.Effective == 0 && !p.UserNamespace {
		t.Errorf("root without capabilities: %+v", p)
	}
}
