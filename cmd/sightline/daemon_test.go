package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// OwnDaemon gives a test a runtime folder, and with it a daemon, of its own, which is ended with the
// test. The test is told the program to start.
func ownDaemon(t testing.TB) (bin string) {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(noDaemonVariable, "")
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Cleanup(func() {
		if out, err := exec.Command(bin, "daemon", "stop").CombinedOutput(); err != nil {
			t.Errorf("end the daemon: %v\n%s", err, out)
		}
		os.RemoveAll(run)
	})
	return bin
}

// Editor starts `sightline serve` with further arguments for a workspace.
func editor(t testing.TB, cmd *exec.Cmd, w *lsptest.Workspace) *lsptest.Editor {
	t.Helper()
	return lsptest.Start(t, lsptest.Spawn(t, cmd), lsptest.Options{Editor: "nvim-0.12", Folders: []string{w.Root}})
}

// Said is what the program prints: the daemon of a test is bin's and not the test binary's.
func said(t testing.TB, bin string, args ...string) string {
	t.Helper()
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sightline %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

type statusOut struct {
	Running bool
	daemonStatus
}

func statusOf(t testing.TB, bin string) statusOut {
	t.Helper()
	out, err := exec.Command(bin, "daemon", "status", "--json").Output()
	if err != nil {
		t.Fatalf("daemon status: %v", err)
	}
	return decode[statusOut](t.(*testing.T), string(out))
}

// Eventually waits for a condition, as long as the busiest machine may need.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

const spinning = "echo $MARK:$PWD > mark.tmp && mv mark.tmp mark; while :; do :; done"

// Several editors have one daemon. Programs run in the environment of their own editor. A recording
// goes on when the editor that began it, which had started the daemon too, is killed; another shows it
// and ends it.
func TestOneDaemonForAllEditors(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	if s := statusOf(t, bin); s.Running {
		t.Fatalf("a daemon runs already: %+v", s)
	}
	first := exec.Command(bin, "serve")
	first.Env = append(os.Environ(), "MARK=first")
	a := editor(t, first, w)
	pid := statusOf(t, bin).PID
	second := exec.Command(bin, "serve", "--stdio")
	second.Env = append(os.Environ(), "MARK=second")
	b := editor(t, second, w)
	if s := statusOf(t, bin); s.PID != pid || len(s.Sessions) != 2 || pid == first.Process.Pid {
		t.Errorf("status is %+v; want process %d with 2 sessions", s, pid)
	}

	a.StartCommand("sightline.record", map[string]any{"command": []string{"sh", "-c", spinning}})
	b.Await(lsptest.Reported("sh", "[1-9][0-9]* samples"))
	if text, err := os.ReadFile(w.Path("mark")); err != nil || string(text) != "first:"+w.Root+"\n" {
		t.Errorf("the program's environment is %q, %v", text, err)
	}
	first.Process.Kill()
	a.Wait()
	if s := statusOf(t, bin); s.PID != pid || len(s.Recordings) != 1 {
		t.Errorf("after the editor was killed: %+v", s)
	}
	c := editor(t, exec.Command(bin, "serve"), w)
	c.Await(lsptest.Begun("^Profiling sh$"))
	c.Execute("sightline.stop")
	b.Await(lsptest.Ended("^Profiling sh$"))
	t.Chdir(w.Root)
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || list[0].Interrupted || list[0].Kinds[0].Samples == 0 {
		t.Errorf("captures are %+v, want the one, whole", list)
	}
	checkStore(t)
	out := said(t, bin, "daemon", "status")
	if !strings.Contains(out, fmt.Sprintf("process %d", pid)) || !strings.Contains(out, "2 editors") || !strings.Contains(out, packageDir) {
		t.Errorf("status prints\n%s", out)
	}
	if out := said(t, bin, "daemon", "log", "--level", "info", "-n", "100"); !strings.Contains(out, "an editor begins") {
		t.Errorf("log prints\n%s", out)
	}
	if out := said(t, bin, "daemon", "log", "--level", "error"); out != "" {
		t.Errorf("errors in the log:\n%s", out)
	}
}

// A child of ours that computes until it is killed.
func spinner(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// BpfPrograms are the ids of BPF programs that the kernel has; nil for who may not ask.
func bpfPrograms() map[ebpf.ProgramID]bool {
	all := map[ebpf.ProgramID]bool{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return all
		}
		all[next], id = true, next
	}
}

// What a terminal records, editors show and may end.
func TestEditorEndsRecordingOfTerminal(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve"), w)
	target := spinner(t)
	cmd := exec.Command(bin, "record", "-p", strconv.Itoa(target))
	cmd.Dir = w.Root
	done := make(chan error, 1)
	var out []byte
	go func() {
		var err error
		out, err = cmd.CombinedOutput()
		done <- err
	}()
	e.Await(lsptest.Reported(fmt.Sprintf("^Profiling process %d$", target), "[1-9][0-9]* samples"))
	e.Execute("sightline.stop")
	if err := <-done; err != nil {
		t.Errorf("record ended with %v\n%s", err, out)
	}
	e.Await(lsptest.Ended(fmt.Sprintf("^Profiling process %d$", target)))
	if err := syscall.Kill(target, 0); err != nil {
		t.Errorf("the target: %v", err)
	}
}

// What a terminal has recorded before it was killed is kept, named and shown.
func TestKilledTerminal(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve"), w)
	test := exec.Command("go", "test", "-c", "-o", "marked.test")
	test.Dir = w.Root
	if out, err := test.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "record", "--", "./marked.test", "-test.run", "TestBurn", "-test.count", "10000")
	cmd.Dir = w.Root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	e.Await(lsptest.Reported("^Profiling marked.test$", "[1-9][0-9][0-9] samples"))
	t.Chdir(w.Root)
	eventually(t, "a chunk is stored", func() bool {
		list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
		return len(list) == 1 && len(list[0].Kinds) > 0 && list[0].Kinds[0].Samples > 100
	})
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	cmd.Wait()
	e.Await(lsptest.Ended("^Profiling marked.test$", "was killed"))
	source := w.Path("marked.go")
	e.Open(source)
	eventually(t, "its lines are shown", func() bool { return len(e.Hints(source)) > 0 })
	checkStore(t)
}

// Killed at any instant, the daemon takes nothing finished with it, leaves nothing of it in the kernel
// and lets the target run on; the editor is told, and its next start has another daemon.
func TestKilledDaemon(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	target := spinner(t)
	before := bpfPrograms()
	said(t, bin, "record", "-p", strconv.Itoa(target), "--for", "300ms")
	for round, wait := range []time.Duration{0, 400 * time.Millisecond, 1500 * time.Millisecond} {
		e := editor(t, exec.Command(bin, "serve"), w)
		e.StartCommand("sightline.record", map[string]any{"pid": target})
		e.Await(lsptest.Reported("process", "[1-9][0-9]* samples"))
		time.Sleep(wait)
		s := statusOf(t, bin)
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := e.Wait(); code != 1 {
			t.Errorf("the server ended with status %d", code)
		}
		e.Await(lsptest.Shown("daemon .process [0-9]+. was killed"))
		checkStore(t)
		list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
		// A recording of which nothing was stored yet, as it had just begun, goes.
		interrupted := 0
		for _, m := range list {
			if m.Interrupted {
				interrupted++
			}
		}
		if len(list) != interrupted+1 || list[len(list)-1].Interrupted || interrupted > round+1 {
			t.Fatalf("round %d: captures are %+v", round, list)
		}
		if wait < time.Second {
			continue
		}
		if m := list[0]; !m.Interrupted {
			t.Errorf("round %d: the capture under way is not marked: %+v", round, m)
		} else if lost := s.Recordings[0].Elapsed - time.Duration(m.Length); lost > 20*time.Second {
			t.Errorf("round %d: %v are lost", round, lost)
		}
		if err := syscall.Kill(target, 0); err != nil {
			t.Errorf("the target: %v", err)
		}
	}
	if before != nil {
		eventually(t, "the daemon's BPF programs go", func() bool {
			for id := range bpfPrograms() {
				if !before[id] {
					return false
				}
			}
			return true
		})
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", target)); err != nil || !strings.Contains(string(status), "TracerPid:\t0\n") {
		t.Errorf("the target is traced: %s", status)
	}
}

// What a server without a daemon was recording when it was killed is kept, and named by whoever opens the
// store next.
func TestKilledWithoutDaemon(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	if out, err := exec.Command("go", "test", "-c", "-o", "marked.test").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	target := exec.Command("./marked.test", "-test.run", "TestBurn", "-test.count", "100000")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Process.Kill(); target.Wait() })
	serve := exec.Command(bin, "serve", "--no-daemon")
	e := editor(t, serve, w)
	e.StartCommand("sightline.record", map[string]any{"pid": target.Process.Pid})
	eventually(t, "a chunk is stored", func() bool {
		list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
		return len(list) == 1 && len(list[0].Kinds) > 0 && list[0].Kinds[0].Samples > 100
	})
	serve.Process.Kill()
	e.Wait()
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || !list[0].Interrupted {
		t.Errorf("captures are %+v", list)
	}
	if out := mustRun(t, "lines", "marked.go"); !strings.Contains(out, "hot(n)") || !strings.Contains(out, "%") {
		t.Errorf("its lines are\n%s", out)
	}
	if out := mustRun(t, "show"); !strings.Contains(out, "The recorder died") || !strings.Contains(out, "named afterwards") {
		t.Errorf("show prints\n%s", out)
	}
	if statusOf(t, bin).Running {
		t.Error("a daemon was started")
	}
	checkStore(t)
}

// A daemon that crashes leaves a report, whose path the editor is told.
func TestCrashIsReported(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve"), w)
	e.Open(w.Path("marked.go"))
	e.Hints(w.Path("marked.go"))
	s := statusOf(t, bin)
	if err := syscall.Kill(s.PID, syscall.SIGABRT); err != nil { // as the runtime's own throw
		t.Fatal(err)
	}
	e.Wait()
	e.Await(lsptest.Shown("daemon .process [0-9]+. crashed.*crash-[0-9.-]+txt"))
	reports, _ := filepath.Glob(filepath.Join(filepath.Dir(s.Log), "crash-*.txt"))
	if len(reports) != 1 {
		t.Fatalf("reports: %v", reports)
	}
	text, err := os.ReadFile(reports[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SIGABRT", "goroutine ", "textDocument/inlayHint", version().Go} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	for _, secret := range []string{"func hot", "XDG_STATE_HOME"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the report tells %q", secret)
		}
	}
}

// A daemon that nobody needs ends and leaves nothing.
func TestIdleDaemonEnds(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve", "--idle", "50ms"), w)
	socket := statusOf(t, bin).Socket
	time.Sleep(200 * time.Millisecond) // an editor keeps it
	if s := statusOf(t, bin); !s.Running {
		t.Error("the daemon ended while it served an editor")
	}
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	eventually(t, "the daemon ends", func() bool {
		left, err := os.ReadDir(filepath.Dir(socket))
		return err == nil && len(left) == 0
	})
}

// Where no daemon can be, the editor is served all the same, and told.
func TestWithoutDaemon(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	for _, c := range []struct {
		what    string
		prepare func(t *testing.T, run string)
		want    string
	}{
		{"symbolic link", func(t *testing.T, run string) {
			if err := os.Symlink(t.TempDir(), filepath.Join(run, "sightline")); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"open folder", func(t *testing.T, run string) {
			dir := filepath.Join(run, "sightline")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "chmod 700"},
	} {
		t.Run(c.what, func(t *testing.T) {
			run := t.TempDir()
			t.Setenv("XDG_RUNTIME_DIR", run)
			c.prepare(t, run)
			e := editor(t, exec.Command(bin, "serve"), w)
			e.Await(lsptest.Shown("without a daemon.*" + c.want))
			out, err := exec.Command(bin, "daemon", "status").CombinedOutput()
			if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), c.want) {
				t.Errorf("daemon status: %v, %q", err, out)
			}
		})
	}
	// A home that cannot be written leaves the log beside the socket.
	user := nobody(t)
	if user == nil {
		return // an ordinary user's test runs below as well as above
	}
	run := t.TempDir()
	open(t, run)
	if err := os.Chown(run, int(user.Uid), int(user.Gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--idle", "50ms")
	cmd.Env = append(os.Environ(), "HOME=/proc", "XDG_STATE_HOME=", "XDG_RUNTIME_DIR="+run)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	open(t, w.Root)
	e := editor(t, cmd, w)
	e.Await(lsptest.NoErrorShown())
	logs, _ := filepath.Glob(filepath.Join(run, "sightline", "daemon-*.log"))
	if len(logs) != 1 {
		t.Errorf("logs: %v", logs)
	}
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	eventually(t, "the daemon ends", func() bool {
		left, _ := filepath.Glob(filepath.Join(run, "sightline", "*.sock"))
		return len(left) == 0
	})
}

// What one editor sends, however bad, keeps no other waiting.
func TestBadEditorKeepsNobodyWaiting(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	good := editor(t, exec.Command(bin, "serve"), w)
	bad := lsptest.Start(t, lsptest.Spawn(t, exec.Command(bin, "serve")), lsptest.Options{Raw: true, Lenient: true})
	silent := lsptest.Start(t, lsptest.Spawn(t, exec.Command(bin, "serve")), lsptest.Options{Raw: true, Lenient: true})
	bad.SendRaw([]byte("Content-Length: 1073741824\r\n\r\n"))
	bad.SendRaw([]byte(strings.Repeat("x", 1<<20)))
	bad.SendRaw([]byte("Content-Length: 100\r\n\r\n{"))
	good.Open(w.Path("marked.go"))
	good.Hints(w.Path("marked.go"))
	eventually(t, "all have their sessions", func() bool { return len(statusOf(t, bin).Sessions) == 3 })
	bad.Hangup()
	silent.Hangup()
	eventually(t, "their sessions end", func() bool { return len(statusOf(t, bin).Sessions) == 1 })
	if rss := statusOf(t, bin).RSS; rss > 500e6 {
		t.Errorf("the daemon has %d MB", rss/1e6)
	}
	good.Hints(w.Path("marked.go"))
}

// A daemon that does not answer is not waited for without end.
func TestStoppedDaemon(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve"), w)
	pid := statusOf(t, bin).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	other := editor(t, exec.Command(bin, "serve"), w)
	other.Await(lsptest.Shown("without a daemon.*no answer within"))
	syscall.Kill(pid, syscall.SIGCONT)
	e.Open(w.Path("marked.go"))
	e.Hints(w.Path("marked.go"))
}

// The log is followed across a change of file, with the levels that are asked for.
func TestFollowLog(t *testing.T) {
	keep, err := levelFilter("WARN")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := levelFilter("loud"); err == nil {
		t.Error("a level that does not exist was taken")
	}
	path := filepath.Join(t.TempDir(), "log")
	add := func(name, text string) {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	add(path, "time=1 level=INFO msg=a\ntime=2 level=WARN msg=b\ngoroutine 1\nhalf")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	text, at, err := lastLogLines(f, 1, keep)
	f.Close()
	if err != nil || text != "goroutine 1\n" {
		t.Errorf("last lines are %q, %v", text, err)
	}
	out := make(chan string, 16)
	go followLog(t.Context(), lineWriter(out), path, at, keep)
	add(path, " a line\ntime=3 level=DEBUG msg=c\n")
	got := []string{<-out}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(path, "time=4 level=ERROR msg=d\n")
	got = append(got, <-out)
	if want := []string{"half a line\n", "time=4 level=ERROR msg=d\n"}; !slices.Equal(got, want) {
		t.Errorf("followed %q, want %q", got, want)
	}
}

type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) { w <- string(p); return len(p), nil }
