package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// oneSentence checks that a command has failed and said why in one line.
func oneSentence(t *testing.T, what string, out []byte, err error, want string) {
	t.Helper()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), want) {
		t.Errorf("%s: %v, %q; want one sentence with %q", what, err, out, want)
	}
}

// A disk that is full, and then one that cannot be written, take recordings away and nothing else: the
// daemon runs, without a log that it could write, editors are served, and what was stored is there.
func TestFullHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	home := t.TempDir()
	if err := unix.Mount("sightline_test", home, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(home, unix.MNT_DETACH) })
	t.Setenv("XDG_STATE_HOME", home)
	target := strconv.Itoa(spinner(t))
	said(t, bin, "record", "-p", target, "--for", "200ms")
	f, err := os.Create(filepath.Join(home, "full"))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		err = nil
	}
	f.Close()
	try := func(why string) {
		t.Helper()
		e := editor(t, exec.Command(bin, "serve"), w)
		e.Open(w.Path("marked.go"))
		e.Hints(w.Path("marked.go"))
		e.Await(lsptest.NoErrorShown())
		if s := statusOf(t, bin); !s.Running || len(s.Sessions) != 1 {
			t.Errorf("%s: status is %+v", why, s)
		}
		call := e.StartCommand("sightline.record", map[string]any{"pid": spinnerID(t, target), "seconds": 0.3})
		if _, err := call.Wait(); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), home) {
			t.Errorf("recording in an editor: %v; want an error with %q", err, why)
		}
		out, err := exec.Command(bin, "record", "-p", target, "--for", "200ms").CombinedOutput()
		oneSentence(t, "recording in a terminal", out, err, why)
		var list []any
		if err := e.Call("sightline/captures", nil, &list); err != nil || len(list) != 1 {
			t.Errorf("%s: %d captures, %v", why, len(list), err)
		}
		if code := e.Shutdown(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
	try("no space is left")
	said(t, bin, "daemon", "stop")
	// Of a mount of its own, which nobody has anything open of.
	if err := unix.Mount(home, home, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(home, unix.MNT_DETACH) })
	if err := unix.Mount("", home, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	try("read-only file system")
	said(t, bin, "daemon", "stop")
	checkStore(t)
}

// What root has recorded in a user's project with sudo the user cannot read, and is told so: in the
// terminal, and in the editor, which goes on.
func TestStoreOfRoot(t *testing.T) {
	user := nobody(t)
	if user == nil {
		t.Skip("only root can record for another user")
	}
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	open(t, w.Root)
	t.Chdir(w.Root)
	state := t.TempDir()
	open(t, state)
	t.Setenv("XDG_STATE_HOME", state)
	said(t, bin, "record", "-p", strconv.Itoa(spinner(t)), "--for", "200ms")
	run := t.TempDir()
	open(t, run)
	if err := os.Chown(run, int(user.Uid), int(user.Gid)); err != nil {
		t.Fatal(err)
	}
	as := func(args ...string) *exec.Cmd {
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+run, "HOME="+run)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
		return cmd
	}
	out, err := as("captures").CombinedOutput()
	oneSentence(t, "captures", out, err, "permission denied")
	e := editor(t, as("serve", "--idle", "50ms"), w)
	e.Await(lsptest.Shown("No captures for .*permission denied.*user 65534"))
	e.Open(w.Path("marked.go"))
	e.Hints(w.Path("marked.go"))
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	eventually(t, "the user's daemon ends", func() bool {
		left, _ := filepath.Glob(filepath.Join(run, "sightline", "*.sock"))
		return len(left) == 0
	})
}

// Where /proc shows a user nothing of others, an editor is served by a daemon, records its own processes
// and is told why not others'.
func TestHiddenProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting /proc takes root")
	}
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	open(t, w.Root)
	home := t.TempDir()
	open(t, home)
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	hidden := func(args ...string) *exec.Cmd {
		script := `mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"`
		cmd := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", script, "sh"}, args...)...)
		cmd.Dir = w.Root
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+home, "XDG_RUNTIME_DIR="+home)
		return cmd
	}
	// setpriv takes the place of the namespace's first process, so that another one of root is made for
	// who looks for it.
	if out, err := hidden("sh", "-c", "test ! -d /proc/2 || ls /proc").CombinedOutput(); err != nil {
		t.Skipf("mounting /proc in a namespace: %v\n%s", err, out)
	}
	e := editor(t, hidden(bin, "serve", "--idle", "50ms"), w)
	e.Await(lsptest.NoErrorShown())
	e.Open(w.Path("marked.go"))
	call := e.StartCommand("sightline.record", map[string]any{"command": []string{"sh", "-c", "while :; do :; done"}, "seconds": 0.5})
	if _, err := call.Wait(); err != nil {
		t.Errorf("recording one's own program: %v", err)
	}
	var list []any
	if err := e.Call("sightline/captures", nil, &list); err != nil || len(list) != 1 {
		t.Errorf("%d captures, %v", len(list), err)
	}
	for _, args := range [][]string{{"daemon", "status"}, {"ps"}, {"doctor"}, {"captures"}} {
		if out, err := hidden(append([]string{bin}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	out, err := hidden(bin, "record", "-p", "4711", "--for", "100ms").CombinedOutput()
	oneSentence(t, "recording a process that is not to be seen", out, err, "4711")
	e.Shutdown()
}

// A client that is stopped, or does not read, keeps no other waiting and is let go once it has left too
// much unread; many connections at once are served.
func TestSlowClients(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	stopped := exec.Command(bin, "serve")
	first := editor(t, stopped, w)
	second := editor(t, exec.Command(bin, "serve"), w)
	source := w.Path("marked.go")
	first.Open(source)
	second.Open(source)
	target := strconv.Itoa(spinner(t))
	r := inTerminal(t, w.Root, bin, "record", "-p", target)
	first.Await(lsptest.Begun("process"))
	second.Await(lsptest.Begun("process"))
	shares := inTerminal(t, w.Root, bin, "record", "-p", target)
	shares.await(t, "sharing that recording")
	for _, p := range []*os.Process{stopped.Process, shares.cmd.Process} {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer p.Signal(syscall.SIGCONT)
	}
	// With two that do not read, and a recording whose progress they are told.
	begin := time.Now()
	samples := func() int {
		s := statusOf(t, bin)
		if len(s.Recordings) != 1 {
			t.Fatalf("recordings are %+v", s.Recordings)
		}
		return s.Recordings[0].Samples
	}
	before := samples()
	for range 50 {
		second.Hints(source)
	}
	second.Await(lsptest.Reported("process", "[0-9]+ samples"))
	eventually(t, "the recording goes on", func() bool { return samples() > before })

	place, err := daemon.Find(os.Getenv, strings.TrimSuffix(filepath.Base(statusOf(t, bin).Socket), ".sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	// Two hundred that say what they want and then read nothing, and two hundred that are answered.
	var idle []*daemon.Conn
	for range 200 {
		c, err := daemon.Dial(place, daemon.Hello{Wants: wantSession}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	answered := make(chan error, 200)
	for range cap(answered) {
		go func() {
			c, err := daemon.Dial(place, daemon.Hello{Wants: wantStatus}, time.Minute)
			if err == nil {
				var s daemonStatus
				err = c.Receive(&s)
				c.Close()
				if err == nil && len(s.Sessions) < 200 {
					err = fmt.Errorf("%d sessions", len(s.Sessions))
				}
			}
			answered <- err
		}()
	}
	for range cap(answered) {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	second.Hints(source)
	for _, c := range idle {
		c.Close()
	}
	t.Logf("with slow clients for %v", time.Since(begin))
	second.Execute("sightline.stop")
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("record ended with %v\n%s", err, r.said())
	}
	second.Await(lsptest.Ended("process"))
	for _, p := range []*os.Process{stopped.Process, shares.cmd.Process} {
		p.Signal(syscall.SIGCONT)
	}
	first.Await(lsptest.Ended("process"))
	if err := shares.cmd.Wait(); err != nil {
		t.Errorf("the one that was stopped ended with %v\n%s", err, shares.said())
	}
}

// The program may be replaced or removed while its daemon runs: who asks with the old one, which an
// editor still has open, is served, and a recording in it goes on.
func TestProgramIsReplaced(t *testing.T) {
	built := ownDaemon(t)
	text, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "sightline")
	if err := os.WriteFile(bin, text, 0o755); err != nil {
		t.Fatal(err)
	}
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	e := editor(t, exec.Command(bin, "serve"), w)
	call := e.StartCommand("sightline.record", map[string]any{"pid": spinner(t)})
	e.Await(lsptest.Reported("process", "[1-9][0-9]* samples"))
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.Open(w.Path("marked.go"))
	e.Hints(w.Path("marked.go"))
	// Stopping the daemon in the midst of a recording keeps it.
	if out := said(t, built, "daemon", "stop"); !strings.Contains(out, "has ended") {
		t.Errorf("stop prints %q", out)
	}
	if code := e.Wait(); code != 0 && code != 1 {
		t.Errorf("exit status %d", code)
	}
	if _, err := call.Wait(); err == nil {
		t.Log("the editor was still told how the recording ended")
	}
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || list[0].Interrupted || list[0].Kinds[0].Samples == 0 {
		t.Errorf("captures are %+v, want one that is whole", list)
	}
	checkStore(t)
}

// The folder of the user may move while a daemon runs: what it finds is what there is.
func TestHomeMoves(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	parent := t.TempDir()
	home := filepath.Join(parent, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", home)
	target := spinner(t)
	e := editor(t, exec.Command(bin, "serve"), w)
	record := func() error {
		_, err := e.StartCommand("sightline.record", map[string]any{"pid": target, "seconds": 0.3}).Wait()
		return err
	}
	if err := record(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(home, filepath.Join(parent, "moved")); err != nil {
		t.Fatal(err)
	}
	// There is no store any more; another is made.
	if err := record(); err != nil {
		t.Error(err)
	}
	var list []any
	if err := e.Call("sightline/captures", nil, &list); err != nil || len(list) != 1 {
		t.Errorf("%d captures, %v", len(list), err)
	}
	checkStore(t)
}
