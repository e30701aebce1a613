package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/broker"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

func init() {
	roles["spin"] = func() error {
		for {
			unix.Getppid()
		}
	}
	roles["work"] = func() error { // and leave some to others
		for {
			for end := time.Now().Add(2 * time.Millisecond); time.Now().Before(end); {
				unix.Getppid()
			}
			time.Sleep(4 * time.Millisecond)
		}
	}
	roles["undumpable"] = func() error {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return err
		}
		fmt.Println("ready")
		select {}
	}
	roles["attack"] = attack
	roles["follow"] = follow
	roles["others"] = others
	roles["talk"] = talk
	roles["silent"] = silent
	roles["hold"] = hold
}

// beside is the sightline-capture beside this binary.
func beside() string { return filepath.Join(filepath.Dir(os.Args[0]), "sightline-capture") }

const period = time.Millisecond

var everyMillisecond = perfevent.Clock{Period: period, Inherit: true}

// ringOf opens a ring of CPU 0.
func ringOf() (*perfevent.Ring, error) { return perfevent.OpenRing(0, perfevent.MinRing) }

// outcome is an error in the few words that a table has.
func outcome(err error) string {
	errno := unix.Errno(0)
	switch {
	case err == nil:
		return "given"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// attack asks for what is not for an ordinary user, by its arguments name=PID, and prints what came of it.
func attack() error {
	c, err := broker.Start(beside(), bpf.Options{RingBytes: 1 << 16}, broker.Kernel)
	if err != nil {
		return err
	}
	defer c.Close()
	ring, err := ringOf()
	if err != nil {
		return err
	}
	got := map[string]string{}
	targets := map[string]int{"itself": c.PID(), "the machine": -1, "nobody": 1 << 29, "this process": os.Getpid()}
	for _, arg := range os.Args[1:] {
		name, pid, _ := strings.Cut(arg, "=")
		targets[name], _ = strconv.Atoi(pid)
	}
	var own *perfevent.Event
	for name, pid := range targets {
		e, err := c.Open(everyMillisecond, pid, ring)
		got[name] = outcome(err)
		if name == "this process" {
			own = e
		}
	}
	tids, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.PID()))
	for _, tid := range tids {
		n, _ := strconv.Atoi(tid.Name())
		if _, err := c.Open(everyMillisecond, n, ring); err == nil {
			got["itself"] = "thread given"
		}
	}
	if err != nil || len(tids) < 2 {
		return fmt.Errorf("%d threads of sightline-capture: %v", len(tids), err)
	}
	got["kernel"] = fmt.Sprint(c.Granted(), c.TakeSymbols() != nil)
	_, err = c.Maps(1)
	got["maps of others"] = outcome(err)
	_, err = c.File(1, 0x1000, 0x2000)
	got["files of others"] = outcome(err)

	// What can be done with the descriptors that were given.
	if own != nil {
		got["program of one's own"] = outcome(unix.IoctlSetInt(own.FD(), unix.PERF_EVENT_IOC_SET_BPF, c.RingFD()))
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Sample_type: unix.PERF_SAMPLE_IP}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(own.FD()), unix.PERF_EVENT_IOC_MODIFY_ATTRIBUTES, uintptr(unsafe.Pointer(&attr)))
		got["other attributes"] = unix.ErrnoName(errno)
		kernel := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: attr.Size, Sample_type: unix.PERF_SAMPLE_IP, Sample: 1e6}
		_, err = unix.PerfEventOpen(&kernel, os.Getpid(), 0, own.FD(), 0)
		got["an event of the kernel beside it"] = outcome(err)
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// What an ordinary user is not given, whoever asks sightline-capture for it and however: other users'
// processes, one with privileges, itself, the machine, addresses of the kernel.
func TestRefused(t *testing.T) {
	dir := programs(t)
	spin := func(uid uint32, path string) *exec.Cmd {
		cmd := inRole(t, uid, "spin")
		cmd.Path = path
		return start(t, cmd)
	}
	self, err := os.ReadFile(filepath.Join(dir, "self"))
	if err != nil {
		t.Fatal(err)
	}
	copied := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, self, 0o755), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	withCap := copied("with-cap", 0o755)
	if out, err := exec.Command("setcap", "cap_net_raw=ep", withCap).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	plain := filepath.Join(dir, "self")
	undumpable := inRole(t, nobody, "undumpable")
	ready, err := undumpable.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, undumpable)
	if _, err := ready.Read(make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	targets := map[string]*exec.Cmd{
		"root's":                spin(0, plain),
		"another user's":        spin(another, plain),
		"the user's":            spin(nobody, plain),
		"set-user-ID":           spin(nobody, copied("set-user-id", 0o755|os.ModeSetuid)),
		"set-group-ID":          spin(nobody, copied("set-group-id", 0o755|os.ModeSetgid)),
		"with a capability":     spin(nobody, withCap),
		"unreadable":            spin(nobody, copied("unreadable", 0o711)),
		"that hides its memory": undumpable,
	}
	args := []string{"init=1", "kernel thread=2"}
	for name, cmd := range targets {
		args = append(args, fmt.Sprintf("%s=%d", name, cmd.Process.Pid))
		if name == "that hides its memory" {
			continue
		}
		eventually(t, "the program runs", func() bool {
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
			return err == nil && exe == cmd.Path
		})
	}
	cmd := inRole(t, nobody, "attack", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var got map[string]string
	if err != nil || json.Unmarshal(out, &got) != nil {
		t.Fatalf("%v %s", err, out)
	}
	want := map[string]string{
		"the user's": "given", "this process": "given",
		"root's": "EACCES", "another user's": "EACCES", "init": "EACCES", "kernel thread": "EACCES",
		"set-user-ID": "EACCES", "set-group-ID": "EACCES", "with a capability": "EACCES", "unreadable": "EACCES", "that hides its memory": "EACCES",
		"itself": "EACCES", "the machine": "EPERM", "nobody": "ESRCH",
		"kernel": "0 false", "maps of others": "EPERM", "files of others": "EPERM",
		"program of one's own": "EINVAL", "other attributes": "EINVAL", "an event of the kernel beside it": "EACCES",
	}
	if got["other attributes"] == "EOPNOTSUPP" { // a matter of the kernel's version
		got["other attributes"] = "EINVAL"
	}
	// It is refused for hiding its memory, and where it would not, for being itself.
	if got["itself"] == "EPERM" {
		got["itself"] = "EACCES"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// follow records a child that becomes the program of its first argument after a while, and prints what was
// sampled of it before and after.
func follow() error {
	c, err := broker.Start(beside(), bpf.Options{RingBytes: 1 << 20}, broker.Kernel)
	if err != nil {
		return err
	}
	defer c.Close()
	reader, err := bpf.OpenReader(c.RingFD())
	if err != nil {
		return err
	}
	reader.SetDeadline(time.Unix(1, 0))
	cpus, err := perfevent.OnlineCPUs()
	if err != nil {
		return err
	}
	// It begins to spin when it is told to, and is replaced, with a child, when it is told again.
	child := exec.Command("sh", "-c", `read x; while [ ! -e "$0" ]; do :; done; "$1" & exec "$1"`, os.Args[1]+".go", os.Args[1])
	child.Env = []string{roleVariable + "=spin"}
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer child.Process.Kill()
	var events []*perfevent.Event
	for _, cpu := range cpus {
		ring, err := perfevent.OpenRing(cpu, perfevent.MinRing)
		if err != nil {
			return err
		}
		e, err := c.Open(everyMillisecond, child.Process.Pid, ring)
		if err != nil {
			return err
		}
		if err := e.Enable(); err != nil {
			return err
		}
		events = append(events, e)
	}
	var result struct{ Before, After, Kernel, Named int }
	counted := func() (n int) {
		for x := (bpf.Sample{}); reader.ReadInto(&x) == nil; n++ {
			if len(x.Kernel) > 0 {
				result.Kernel++
			}
			if slices.ContainsFunc(x.Kernel, func(a uint64) bool { return a != 0 }) {
				result.Named++
			}
		}
		return n
	}
	fmt.Fprintln(in)
	within := time.Now().Add(time.Minute)
	for result.Before < 20 && time.Now().Before(within) {
		result.Before += counted()
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(os.Args[1]+".go", nil, 0o644); err != nil {
		return err
	}
	// It and its child have become the other program when they have its name, and run in it when they have
	// run a while since.
	await := func(met func() bool) bool {
		for !met() && time.Now().Before(within) {
			time.Sleep(time.Millisecond)
		}
		return met()
	}
	both := []int{child.Process.Pid, 0}
	replaced := func(pid int) bool { return strings.HasPrefix(filepath.Base(os.Args[1]), commOf(pid)) }
	if !await(func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", both[0]))
		both[1], _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return both[1] > 0 && replaced(both[0]) && replaced(both[1])
	}) {
		return errors.New("the child does not become another program")
	}
	run := func(ticks int) {
		for _, pid := range both {
			for begin := cpuTime(pid); cpuTime(pid) < begin+ticks && time.Now().Before(within); {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	defer syscall.Kill(both[1], syscall.SIGKILL)
	run(3)
	counted() // from before
	ran := func() (d time.Duration) {
		for _, e := range events {
			x, _ := e.Read()
			d += x.Ran
		}
		return d
	}
	before := ran()
	run(5) // 50 samples of each
	result.After = counted()
	if ran() != before && result.After == 0 {
		result.After = -1 // the kernel has left it an event
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func commOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "has ended"
	}
	return strings.TrimSpace(string(text))
}

// cpuTime is how many hundredths of a second a process has run.
func cpuTime(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 1 << 30 // it has ended
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// A target that becomes a program with privileges of its own is not followed there, nor are its
// children; one that becomes an ordinary program is. Addresses of the kernel are in no sample.
func TestTargetGainsPrivileges(t *testing.T) {
	dir := programs(t)
	self, err := os.ReadFile(filepath.Join(dir, "self"))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"ordinary": 0o755, "setuser": 0o755 | os.ModeSetuid, "setgroup": 0o755 | os.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			folder, err := os.MkdirTemp(dir, name)
			path := filepath.Join(folder, name)
			if err := errors.Join(err, os.Chmod(folder, 0o777), os.WriteFile(path, self, 0o755), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
			cmd := inRole(t, nobody, "follow", path)
			cmd.SysProcAttr.Setpgid = true
			defer func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
			out, err := cmd.Output()
			var got struct{ Before, After, Kernel, Named int }
			if err != nil || json.Unmarshal(out, &got) != nil {
				t.Fatalf("%v %s", err, out)
			}
			if got.Before < 20 || got.Kernel == 0 || got.Named != 0 || (got.After != 0) != (name == "ordinary") {
				t.Errorf("%+v", got)
			}
		})
	}
}

// others asks for what an administrator's file may allow.
func others() error {
	want, _ := strconv.Atoi(os.Args[1])
	c, err := broker.Start(beside(), bpf.Options{RingBytes: 1 << 16}, broker.Grants(want))
	if err != nil {
		fmt.Println(err)
		return nil
	}
	defer c.Close()
	ring, err := ringOf()
	if err != nil {
		return err
	}
	fmt.Print(c.Granted())
	if c.Note() != "" {
		fmt.Print(" ", c.Note())
	}
	if f := c.TakeSymbols(); f != nil {
		line := make([]byte, 1<<16)
		n, _ := f.ReadAt(line, 0)
		shown := false
		for l := range strings.Lines(string(line[:n])) {
			shown = shown || !strings.HasPrefix(l, "0000000000000000 ")
		}
		fmt.Print(" symbols ", shown)
	}
	pid, _ := strconv.Atoi(os.Args[2])
	_, err = c.Open(everyMillisecond, pid, ring)
	fmt.Print(" process ", outcome(err))
	_, err = c.Open(everyMillisecond, -1, ring)
	fmt.Print(" machine ", outcome(err))
	maps, err := c.Maps(pid)
	fmt.Print(" maps ", outcome(err))
	if err == nil {
		text, err := io.ReadAll(maps)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var from, to uint64
			if fields := strings.Fields(line); len(fields) == 6 && fields[1] == "r-xp" && strings.HasPrefix(fields[5], "/") {
				fmt.Sscanf(fields[0], "%x-%x", &from, &to)
				f, err := c.File(pid, from, to)
				fmt.Print(" file ", outcome(err))
				if err == nil {
					magic := make([]byte, 4)
					f.ReadAt(magic, 0)
					fmt.Printf(" %q", magic)
				}
				_, err = c.File(pid, from, to+4096)
				fmt.Print(" another ", outcome(err))
				break
			}
		}
	}
	fmt.Println()
	return nil
}

// An administrator's file allows more, to those whom it names. One that is not root's alone allows nothing,
// which is said.
func TestAdministratorAllows(t *testing.T) {
	dir := programs(t)
	// A program that only its user may read.
	self, err := os.ReadFile(filepath.Join(dir, "self"))
	if err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(dir, "private")
	if err := errors.Join(os.WriteFile(private, self, 0o700), os.Chown(private, another, another)); err != nil {
		t.Fatal(err)
	}
	target := inRole(t, another, "spin")
	target.Path = private
	start(t, target)
	eventually(t, "the program runs", func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", target.Process.Pid))
		return err == nil && exe == private
	})
	ask := func(want broker.Grants) string {
		t.Helper()
		cmd := inRole(t, nobody, "others", strconv.Itoa(int(want)), strconv.Itoa(target.Process.Pid))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return strings.TrimSpace(strings.ReplaceAll(string(out), dir, ""))
	}
	const nothing = "0 process EACCES machine EPERM maps EPERM"
	const noUsers = "sightline-capture records processes of other users only for those whom its administrator allows it (in /etc/capture.conf: allow users to user:65534)"
	kptr, _ := os.ReadFile("/proc/sys/kernel/kptr_restrict")
	kernel := "1 symbols true process EACCES machine EPERM maps EPERM"
	if strings.TrimSpace(string(kptr)) == "2" {
		kernel = nothing
	}
	for _, test := range []struct {
		config string
		want   broker.Grants
		got    string
	}{
		{"allow kernel to user:61234 group:61234\n", broker.Kernel, nothing},
		{"allow kernel to group:65534\n", broker.Kernel, kernel},
		{"allow kernel to everyone\n", 0, nothing}, // what is not asked for is not given
		{"allow kernel to everyone\n", broker.Users, noUsers},
		{"allow users to everyone\n", 0, nothing},
		{"allow users to everyone\n", broker.Users, `2 process given machine EPERM maps given file given "\x7fELF" another ENOENT`},
		{"allow users to everyone\n", broker.Users | broker.Machine, strings.NewReplacer("processes of other users", "the whole machine", "allow users", "allow users machine").Replace(noUsers)},
		{"allow machine, users to user:65534\n", broker.Users | broker.Machine, `6 process given machine given maps given file given "\x7fELF" another ENOENT`},
		{"allow users to user:nobodyatall\n", broker.Kernel, `0 read /etc/capture.conf, of which nothing is obeyed: line 1: there is no user "nobodyatall"` + nothing[1:]},
	} {
		config(t, test.config)
		if got := ask(test.want); got != test.got {
			t.Errorf("%q, %d wanted:\ngot  %s\nwant %s", test.config, test.want, got, test.got)
		}
	}
	config(t, "allow kernel, users to everyone\n")
	if err := os.Chmod(filepath.Join(dir, "etc", "capture.conf"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := ask(broker.Kernel); !strings.Contains(got, "others than root may write to it (mode 0666)") || !strings.HasSuffix(got, nothing[1:]) {
		t.Errorf("a file that others may write: %s", got)
	}
	if got := ask(broker.Users); !strings.HasPrefix(got, noUsers) || !strings.Contains(got, "others than root may write to it") {
		t.Errorf("a file that others may write: %s", got)
	}
}

// While it serves, sightline-capture has nothing left that it does not need.
func TestGivesUp(t *testing.T) {
	dir := programs(t)
	cmd := inRole(t, nobody, "hold")
	cmd.Env = append(cmd.Env, "GODEBUG=madvdontneed=1", "LD_PRELOAD=/nothing")
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	none := 0
	for _, task := range tasks {
		id := fmt.Sprintf("%d/task/%s", pid, task.Name())
		permitted := statusLine(t, id, "CapPrm")
		if permitted == "0000000000000000" {
			none++
		} else if permitted != fmt.Sprintf("%016x", uint64(1)<<unix.CAP_PERFMON) {
			t.Errorf("CapPrm of a thread is %s", permitted)
		}
		for name, want := range map[string]string{
			"CapEff": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1",
			"Uid": "65534\t65534\t65534\t65534",
		} {
			if got := statusLine(t, id, name); got != want {
				t.Errorf("%s of a thread is %s, want %s", name, got, want)
			}
		}
	}
	if none != 1 {
		t.Errorf("%d threads have the caller's rights alone, want one", none)
	}
	// Its memory and descriptors are not its caller's to look at.
	look := exec.Command("cat", fmt.Sprintf("/proc/%d/environ", pid))
	look.SysProcAttr = as(nobody)
	if text, err := look.CombinedOutput(); err == nil || !strings.Contains(string(text), "ermission denied") {
		t.Errorf("its caller may look into it: %s", text)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) != 0 {
		t.Errorf("it has an environment: %q %v", env, err)
	}
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe != filepath.Join(dir, "sightline-capture") {
		t.Errorf("process %d is %s", pid, exe)
	}
	// A terminal's signals do not end it; that its recorder closes the socket does.
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(in)
	var said string
	if _, err := fmt.Fscan(out, &said); err != nil || said != "given" {
		t.Errorf("after signals: %s %v", said, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "sightline-capture ends with its recorder", func() bool { return syscall.Kill(pid, 0) != nil })
}

// hold starts sightline-capture, says its PID, and asks it for an event when told to.
func hold() error {
	c, err := broker.Start(beside(), bpf.Options{RingBytes: 1 << 16}, broker.Kernel)
	if err != nil {
		return err
	}
	ring, err := ringOf()
	if err != nil {
		return err
	}
	if _, err := c.Open(everyMillisecond, os.Getpid(), ring); err != nil {
		return err
	}
	fmt.Println(c.PID())
	fmt.Scanln()
	_, err = c.Open(everyMillisecond, os.Getpid(), ring)
	fmt.Println(outcome(err))
	select {}
}
