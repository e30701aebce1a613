package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sightline-dev/sightline/profiler"
)

// What `sightline doctor --fix` prints is what root has to do, and what it does as root: then an ordinary
// user records with the BPF engine.
func TestDoctorFix(t *testing.T) {
	dir := programs(t)
	if program := profiler.FindCapture(); program.Path != "" {
		t.Skipf("%s is installed here, which would be used as well", program.Path)
	}
	buildSightline(t, dir)
	// A build without capabilities beside sightline, as it is made or unpacked.
	plain := filepath.Join(dir, "unpacked")
	if err := os.MkdirAll(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sightline", "sightline-capture"} {
		if out, err := exec.Command("cp", filepath.Join(dir, name), filepath.Join(plain, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	bin := filepath.Join(plain, "sightline")
	home := filepath.Join(dir, "home-of-nobody")
	if err := os.MkdirAll(home, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(home, 0o777)
	folder := filepath.Join(dir, "libexec", "sight line")
	target := filepath.Join(folder, "sightline-capture")
	if err := os.RemoveAll(folder); err != nil { // of a run before, with -count
		t.Fatal(err)
	}
	run := func(uid uint32, args ...string) (string, error) {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "SIGHTLINE_NO_DAEMON=1", "PATH=" + folder + ":" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(uid uint32, args ...string) string {
		t.Helper()
		out, err := run(uid, args...)
		if err != nil {
			t.Fatalf("sightline %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	fix := []string{"doctor", "--fix", "--folder", folder}

	// An ordinary user is told; nothing is done.
	said := must(nobody, fix...)
	commands := regexp.MustCompile(`(?m)^ +sudo (.*)$`).FindAllStringSubmatch(said, -1)
	if len(commands) != 3 || !strings.Contains(strings.Join(strings.Fields(said), " "), "has no capabilities (a file loses them when it is copied") {
		t.Fatalf("%d commands:\n%s", len(commands), said)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("an ordinary user has made the folder")
	}
	if out, err := run(nobody, "record", "--engine", "bpf", "--", filepath.Join(dir, "self")); err == nil || !strings.Contains(out, "doctor --fix") {
		t.Errorf("recorded without capabilities, or without being told how: %v\n%s", err, out)
	}
	// What is told works, as it is told.
	for _, c := range commands {
		if out, err := exec.Command("sh", "-c", c[1]).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c[1], err, out)
		}
	}
	checkInstalled := func() {
		t.Helper()
		out, err := exec.Command("getcap", target).CombinedOutput()
		st, statErr := os.Stat(target)
		if err != nil || statErr != nil || st.Sys().(*syscall.Stat_t).Uid != 0 ||
			strings.TrimSpace(string(out)) != target+" cap_dac_read_search,cap_sys_ptrace,cap_syslog,cap_perfmon,cap_bpf=p" {
			t.Errorf("%v %v %s", err, statErr, out)
		}
	}
	checkInstalled()
	if said := must(0, fix...); !strings.Contains(said, "Nothing to do") || strings.Contains(said, "done  ") {
		t.Errorf("after the commands:\n%s", said)
	}
	records := func() {
		t.Helper()
		if out := must(nobody, "record", "--engine", "bpf", "--", "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"); !strings.Contains(out, "bpf engine") {
			t.Errorf("%s", out)
		}
	}
	records()
	if said := must(nobody, fix...); !strings.Contains(said, "Recordings use "+target) {
		t.Errorf("a user, when it is done:\n%s", said)
	}
	if said := must(nobody, "doctor"); !strings.Contains(said, "yes  bpf: through sightline-capture") {
		t.Errorf("%s", said)
	}

	// The same by this program, and for a group.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if said := must(0, fix...); strings.Count(said, "done  ") != 3 {
		t.Errorf("%s", said)
	}
	checkInstalled()
	records()
	// Replaced by another build, it is installed anew.
	if err := os.WriteFile(target, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Steps []struct {
			Command       string
			Done, Changed bool
		}
		Obstacles []struct{ What string }
	}
	if err := json.Unmarshal([]byte(must(0, append(fix, "--group", "daemon", "--json")...)), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Steps) != 3 || r.Steps[0].Changed || !r.Steps[1].Changed || !r.Steps[2].Changed || !r.Steps[2].Done || r.Obstacles == nil {
		t.Errorf("%+v", r)
	}
	checkInstalled()
	if out, err := run(nobody, "record", "--engine", "bpf", "--", "true"); err == nil || !strings.Contains(out, "this user may not run "+target+": only root and group daemon may") &&
		!strings.Contains(out, "has no capabilities") { // of the one beside it, which comes first
		t.Errorf("%v %s", err, out)
	}
	for _, test := range []struct{ args, says string }{
		{"doctor --fix --group nobodyatall", "there is no group \"nobodyatall\"; make it"},
		{"doctor --group daemon", "--group and --folder say what --fix is to do"},
	} {
		if out, err := run(nobody, strings.Fields(test.args)...); err == nil || !strings.Contains(out, test.says) {
			t.Errorf("%s: %v %s", test.args, err, out)
		}
	}
}

// Where its capabilities have no effect, a recording has the perf engine, and it and `doctor --fix` say why.
func TestWithoutEffect(t *testing.T) {
	dir := programs(t)
	bin := buildSightline(t, dir)
	home, err := os.MkdirTemp(dir, "home")
	if err != nil || os.Chmod(home, 0o777) != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, "quiet"), 0o755); err != nil { // for a file system of its own
		t.Fatal(err)
	}
	// What each runs, with sightline as $0 and something to record as $1.
	const busy = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	const nobodys = `exec setpriv --reuid 65534 --regid 65534 --clear-groups `
	for _, test := range []struct {
		name, script, says string
		attr               *syscall.SysProcAttr
	}{
		{
			"no_new_privs", nobodys + `--no-new-privs sh -c '"$0" doctor --fix --folder /; "$0" record -- sh -c "$1"' "$0" "$1"`,
			"no_new_privs is set for this process", &syscall.SysProcAttr{},
		}, {
			"nosuid", `mount -t tmpfs -o nosuid,mode=755 none quiet && cp "$0" "$0-capture" quiet && setcap ` + capabilities + ` quiet/sightline-capture && ` +
				nobodys + `sh -c '"$0" doctor --fix --folder "$PWD/quiet"; "$0" record -- sh -c "$1"' "$PWD/quiet/sightline" "$1"`,
			"mounted nosuid", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS},
		}, {
			"user namespace", `"$0" doctor; "$0" record -- sh -c "$1"`,
			"in a user namespace", &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", test.script, bin, busy)
			cmd.Dir, cmd.SysProcAttr = home, test.attr
			cmd.Env = []string{"HOME=" + home, "XDG_STATE_HOME=" + filepath.Join(home, test.name), "SIGHTLINE_NO_DAEMON=1", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
			out, err := cmd.CombinedOutput()
			if test.name == "nosuid" && strings.Contains(string(out), "mount:") {
				t.Skipf("nothing can be mounted here: %s", out)
			}
			said := strings.Join(strings.Fields(string(out)), " ")
			if err != nil || strings.Count(said, test.says) < 2 || !strings.Contains(said, "perf engine · ") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// Who is allowed to records another user's process with the names of its functions and of the kernel's.
func TestAllowedRecording(t *testing.T) {
	dir := programs(t)
	bin := buildSightline(t, dir)
	home, err := os.MkdirTemp(dir, "home")
	if err != nil || os.Chmod(home, 0o777) != nil {
		t.Fatal(err)
	}
	// A program that its user alone may read.
	self, err := os.ReadFile(filepath.Join(dir, "self"))
	if err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(home, "secretive")
	if err := errors.Join(os.WriteFile(private, self, 0o700), os.Chown(private, another, another)); err != nil {
		t.Fatal(err)
	}
	target := inRole(t, another, "spin")
	target.Path = private
	start(t, target)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "XDG_STATE_HOME=" + filepath.Join(home, "state"), "SIGHTLINE_NO_DAEMON=1", "PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	pid := strconv.Itoa(target.Process.Pid)
	if out := run("record", "-p", pid, "--for", "1s"); !strings.Contains(out, "only for those whom its administrator allows it") {
		t.Errorf("without a grant:\n%s", out)
	}
	config(t, "allow kernel users machine to user:65534\n")
	// Functions of the program, of the library that it has in it, and of the kernel.
	names := []string{"secretive!main.", "secretive!golang.org/x/sys/unix.Getppid", `"module": "[kernel]"`, "kernel!"}
	if kptr, _ := os.ReadFile("/proc/sys/kernel/kptr_restrict"); strings.TrimSpace(string(kptr)) == "2" {
		names = names[:3]
	}
	for attempt := 1; ; attempt++ { // on a busy machine the target may hardly run
		out := run("record", "--engine", "bpf", "--for", "2s", "-p", pid)
		stacks := run("stacks", "@", "--json")
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.Contains(stacks, name) })
		if strings.Contains(out, "bpf engine") && len(missing) == 0 {
			break
		}
		if attempt == 3 {
			t.Fatalf("%q are not there:\n%s\n%.3000s", missing, out, stacks)
		}
	}
}
