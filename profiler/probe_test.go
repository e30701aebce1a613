package profiler

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

const probeRole = "SIGHTLINE_PROBE_TEST_ROLE"

// TestProbeRole is no test: it is what the tests below have another process do.
func TestProbeRole(t *testing.T) {
	if os.Getenv(probeRole) == "" {
		t.Skip("only for the other tests")
	}
	if err := json.NewEncoder(os.NewFile(3, "abilities")).Encode(Probe()); err != nil {
		t.Fatal(err)
	}
}

// probeAs probes in a process of its own.
func probeAs(t *testing.T, attr *syscall.SysProcAttr, command ...string) map[string]Ability {
	t.Helper()
	cmd := exec.Command(command[0], append(command[1:], "-test.run=^TestProbeRole$")...)
	cmd.Env = append(os.Environ(), probeRole+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var all []Ability
	decodeErr := json.NewDecoder(r).Decode(&all)
	if err := cmd.Wait(); err != nil || decodeErr != nil {
		t.Fatalf("%v %v\n%s", err, decodeErr, &out)
	}
	byName := map[string]Ability{}
	for _, a := range all {
		byName[a.Name] = a
		if testing.Verbose() {
			t.Logf("%-28s %-5t %s\n\twhy    %s\n\tremedy %s", a.Name, a.OK, a.Detail, a.Why, a.Remedy)
		}
	}
	return byName
}

func needRootFor(t *testing.T, what string) {
	t.Helper()
	if p, err := bpf.ReadPrivileges(); err != nil || os.Geteuid() != 0 || !p.Has(unix.CAP_SYS_ADMIN) {
		t.Skip("needs root to " + what)
	}
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// checkOK compares what is had, one to one.
func checkOK(t *testing.T, got map[string]Ability, want map[string]bool) {
	t.Helper()
	ok := map[string]bool{}
	for name, a := range got {
		ok[name] = a.OK
	}
	if diff := cmp.Diff(want, ok); diff != "" {
		t.Errorf("abilities (-want +got):\n%s", diff)
	}
}

// abilities is all of them as had or not, but for those named.
func abilities(had bool, but ...string) map[string]bool {
	all := map[string]bool{}
	for _, name := range []string{
		"perf: own processes", "perf: kernel code", "perf: whole machine", "perf: other users' processes", "perf: memory for rings",
		"bpf: ring buffer", "bpf: sampling program", "bpf: kernel and user code", "bpf: through sightline-capture", "bpf: the kernel's types",
		"names of kernel code", "names of vDSO code", "depth of stacks", "go command",
	} {
		all[name] = had != slices.Contains(but, name)
	}
	return all
}

// another starts a process of an ordinary user, for the probe to find.
func another(t *testing.T, uid uint32) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// copyOfSelf is a copy of this test's binary that any user may run.
func copyOfSelf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sightline-probe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "probe.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbeAsRoot(t *testing.T) {
	needRootFor(t, "have every ability")
	another(t, 65534)
	got := probeAs(t, nil, "/proc/self/exe")
	checkOK(t, got, abilities(true))
	for name, a := range got {
		if a.Detail == "" || a.Remedy != "" && a.Why == "" {
			t.Errorf("%s: %+v", name, a)
		}
		if want := map[string]Engine{"per": PerfEngine, "bpf": BPFEngine}[name[:3]]; a.Engine != want {
			t.Errorf("%s: engine %q, want %q", name, a.Engine, want)
		}
	}
}

// An ordinary user is told for each thing that is missing what it is and what gives it.
func TestProbeAsOrdinaryUser(t *testing.T) {
	needRootFor(t, "become another user")
	another(t, 0)
	paranoid := readSysctl("perf_event_paranoid")
	if paranoid != 2 || readSysctl("kptr_restrict") > 1 {
		t.Skipf("kernel.perf_event_paranoid is %d here; the expectations are for 2, the kernel's own default", paranoid)
	}
	if program := FindCapture(); program.Path != "" {
		t.Skipf("%s is installed here, which ordinary users then have", program.Path)
	}
	path := copyOfSelf(t)
	got := probeAs(t, &syscall.SysProcAttr{Credential: nobody}, path)
	missing := []string{
		"perf: kernel code", "perf: whole machine", "perf: other users' processes",
		"bpf: ring buffer", "bpf: sampling program", "bpf: kernel and user code", "bpf: through sightline-capture", "names of kernel code",
	}
	checkOK(t, got, abilities(true, missing...))
	setcap := "sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep " + path
	fix := "sudo " + path + " doctor --fix"
	for name, want := range map[string]struct{ why, remedy string }{
		"perf: kernel code": {
			"kernel.perf_event_paranoid is 2, which is too much without privileges, and this process lacks CAP_PERFMON",
			setcap + ", or, for every user: sudo sysctl kernel.perf_event_paranoid=1",
		},
		"perf: whole machine": {
			"kernel.perf_event_paranoid is 2, which is too much without privileges, and this process lacks CAP_PERFMON",
			setcap + ", or, for every user: sudo sysctl kernel.perf_event_paranoid=0",
		},
		"perf: other users' processes":   {"this process lacks CAP_PERFMON", setcap},
		"bpf: ring buffer":               {"this process lacks CAP_BPF and CAP_PERFMON", fix},
		"bpf: sampling program":          {"this process lacks CAP_BPF and CAP_PERFMON", fix},
		"bpf: kernel and user code":      {"this process lacks CAP_BPF and CAP_PERFMON", fix},
		"bpf: through sightline-capture": {"sightline-capture is not installed", fix},
		"names of kernel code": {
			"this process lacks CAP_SYSLOG",
			setcap + ", or, for every user: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1",
		},
	} {
		if diff := cmp.Diff([]string{want.why, want.remedy}, []string{got[name].Why, got[name].Remedy}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The remedy is applied as it is printed, and then nothing is missing: not guessed, done.
func TestRemedyHelps(t *testing.T) {
	needRootFor(t, "give a file capabilities")
	path := copyOfSelf(t)
	user := &syscall.SysProcAttr{Credential: nobody}
	remedy, _, _ := strings.Cut(probeAs(t, user, path)["perf: kernel code"].Remedy, ", or, ")
	command, ok := strings.CutPrefix(remedy, "sudo ")
	if !ok {
		t.Fatalf("the remedy is no command: %s", remedy)
	}
	if _, err := exec.LookPath("setcap"); err != nil {
		t.Skip("setcap (Debian: libcap2-bin) is not installed")
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", command, err, out)
	}
	got := probeAs(t, user, path)
	for _, name := range []string{"perf: kernel code", "perf: whole machine", "bpf: ring buffer", "bpf: sampling program", "bpf: kernel and user code", "names of kernel code"} {
		if a := got[name]; !a.OK {
			t.Errorf("after %s:\n%+v", command, a)
		}
	}

	t.Run("no_new_privs", func(t *testing.T) {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("setpriv (util-linux) is not installed")
		}
		a := probeAs(t, user, setpriv, "--no-new-privs", path)["bpf: sampling program"]
		if a.OK || !strings.Contains(a.Why, "no_new_privs is set") || a.Remedy != "start sightline outside of the sandbox" {
			t.Errorf("%+v", a)
		}
	})
}

func TestProbeWithCapabilities(t *testing.T) {
	needRootFor(t, "give capabilities")
	path := copyOfSelf(t)
	another(t, 0)
	for _, test := range []struct {
		name  string
		caps  []uintptr
		bpf   bool
		wants map[string]string // ability → its cause
	}{
		{"both", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, true, map[string]string{"names of kernel code": "this process lacks CAP_SYSLOG"}},
		{"bpf alone", []uintptr{unix.CAP_BPF}, false, map[string]string{"bpf: sampling program": "this process lacks CAP_PERFMON"}},
		{"perfmon alone", []uintptr{unix.CAP_PERFMON}, false, map[string]string{"bpf: ring buffer": "this process lacks CAP_BPF"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := probeAs(t, &syscall.SysProcAttr{Credential: nobody, AmbientCaps: test.caps}, path)
			for _, name := range []string{"bpf: sampling program", "bpf: kernel and user code"} {
				if got[name].OK != test.bpf {
					t.Errorf("%+v", got[name])
				}
			}
			for name, why := range test.wants {
				if a := got[name]; a.OK || a.Why != why {
					t.Errorf("want %q: %+v", why, a)
				}
			}
			if slices.Contains(test.caps, unix.CAP_PERFMON) && (!got["perf: kernel code"].OK || !got["perf: whole machine"].OK) {
				t.Errorf("CAP_PERFMON does not give the perf engine the kernel: %+v", got)
			}
			if a := got["perf: other users' processes"]; slices.Contains(test.caps, unix.CAP_PERFMON) && !a.OK && !strings.HasPrefix(a.Why, "this process lacks CAP_SYS_PTRACE") {
				t.Errorf("%+v", a) // which one depends on the kernel
			}
		})
	}
}

func TestProbeInContainer(t *testing.T) {
	needRootFor(t, "make a user namespace")
	got := probeAs(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}},
	}, copyOfSelf(t))
	a := got["bpf: sampling program"]
	if a.OK || !strings.Contains(a.Why, "user namespace") || a.Remedy != "run sightline outside of the container" {
		t.Errorf("%+v", a)
	}
}

// The causes on kernels that are not here.
func TestPerfRefusal(t *testing.T) {
	ordinary := bpf.Privileges{Bounding: 1<<41 - 1, Executable: "/s"}
	perfmon := bpf.Privileges{Bounding: 1<<41 - 1, Effective: 1 << unix.CAP_PERFMON, Executable: "/s"}
	root := bpf.Privileges{Bounding: 1<<41 - 1, Effective: 1<<41 - 1}
	docker := bpf.Privileges{Bounding: 0xa80425fb, Effective: 0xa80425fb, Seccomp: true}
	const setcap = "sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /s"
	for _, test := range []struct {
		name        string
		c           circumstances
		err         error
		need        int
		why, remedy string
	}{
		{
			"Debian, own processes", circumstances{ordinary, 3, 0}, unix.EACCES, 2,
			"kernel.perf_event_paranoid is 3, with which this distribution's kernel keeps perf events from everybody without CAP_SYS_ADMIN",
			"sudo sysctl kernel.perf_event_paranoid=2",
		}, {
			"Ubuntu, kernel code", circumstances{ordinary, 4, 0}, unix.EACCES, 1,
			"kernel.perf_event_paranoid is 4, with which this distribution's kernel keeps perf events from everybody without CAP_SYS_ADMIN, and this process lacks CAP_PERFMON",
			"sudo sysctl kernel.perf_event_paranoid=2, and " + setcap,
		}, {
			"Ubuntu, kernel code with CAP_PERFMON", circumstances{perfmon, 4, 0}, unix.EACCES, 1,
			"kernel.perf_event_paranoid is 4, with which this distribution's kernel keeps perf events from everybody without CAP_SYS_ADMIN",
			"sudo sysctl kernel.perf_event_paranoid=2",
		}, {
			"kernel code", circumstances{ordinary, 2, 0}, unix.EACCES, 1,
			"kernel.perf_event_paranoid is 2, which is too much without privileges, and this process lacks CAP_PERFMON",
			setcap + ", or, for every user: sudo sysctl kernel.perf_event_paranoid=1",
		}, {
			"Docker", circumstances{docker, 2, 0}, unix.EPERM, 2,
			"a seccomp filter refuses the perf_event_open system call, as containers have it",
			"allow perf_event_open in the container's seccomp profile, or run sightline outside of it",
		}, {
			"Docker with perf_event_open allowed", circumstances{docker, 2, 0}, unix.EACCES, 1,
			"kernel.perf_event_paranoid is 2, which is too much without privileges, and this process lacks CAP_PERFMON, and its bounding set excludes them, as in a container",
			"sudo sysctl kernel.perf_event_paranoid=1, or start the container with --cap-add=PERFMON, or run sightline outside of it",
		}, {
			"no perf", circumstances{root, unknown, 0}, fmt.Errorf("open: %w", unix.ENOSYS), 2,
			"the perf_event_open system call is missing: a kernel without CONFIG_PERF_EVENTS, or a seccomp filter, as containers have it",
			"allow perf_event_open in the container's seccomp profile, or run sightline outside of it",
		}, {
			"root refused", circumstances{root, 2, 0}, unix.EACCES, 1,
			"the kernel does not permit it, though nothing that is known forbids it: a security module (SELinux, AppArmor) may",
			"look for the refusal in the kernel's log: sudo dmesg",
		}, {
			"another user's process", circumstances{ordinary, 2, 0}, unix.EACCES, never,
			"this process lacks CAP_PERFMON", setcap,
		}, {
			"Debian, another user's process", circumstances{ordinary, 3, 0}, unix.EACCES, never,
			"kernel.perf_event_paranoid is 3, with which this distribution's kernel keeps perf events from everybody without CAP_SYS_ADMIN, and this process lacks CAP_PERFMON",
			"sudo sysctl kernel.perf_event_paranoid=2, and " + setcap,
		}, {
			"no such event", circumstances{root, 2, 0}, unix.ENOENT, 1, "no such file or directory", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			why, remedy := test.c.perfRefusal(test.err, test.need, unix.CAP_PERFMON)
			if diff := cmp.Diff([]string{test.why, test.remedy}, []string{why, remedy}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSymbolsRefusal(t *testing.T) {
	ordinary := bpf.Privileges{Bounding: 1<<41 - 1, Executable: "/s"}
	root := bpf.Privileges{Effective: 1<<41 - 1}
	const setcap = "sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /s"
	for _, test := range []struct {
		c           circumstances
		why, remedy string
	}{
		{circumstances{ordinary, 2, 2}, "kernel.kptr_restrict is 2, which hides addresses from everybody", "sudo sysctl kernel.kptr_restrict=1, and " + setcap},
		{circumstances{root, 2, 2}, "kernel.kptr_restrict is 2, which hides addresses from everybody", "sudo sysctl kernel.kptr_restrict=1"},
		{circumstances{ordinary, 2, 1}, "this process lacks CAP_SYSLOG", setcap + ", or, for every user: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1"},
		{circumstances{root, 2, 0}, "the kernel hides them, though nothing that is known forbids it", ""},
	} {
		why, remedy := test.c.symbolsRefusal()
		if diff := cmp.Diff([]string{test.why, test.remedy}, []string{why, remedy}); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.c, diff)
		}
	}
}

// Nothing is left behind: no descriptor, no changed affinity, no thread that is bound.
func TestProbeLeavesNothing(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	Probe() // the Go runtime's own descriptors (its poller) come with the first use
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	fds := count()
	Probe()
	if n := count(); n != fds {
		t.Errorf("%d open files after, %d before", n, fds)
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil || before != after {
		t.Errorf("affinity %v after, %v before", after, before)
	}
}

// The question: how long does sightline doctor take?
func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		Probe()
	}
}
