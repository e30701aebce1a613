package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// Marked is a module like burn, with the shares that its lines have to have, in percent.
const marked = `
-- go.mod --
module example.com/marked

go 1.22
-- marked.go --
package marked

var sink uint64

//go:noinline
func spin(n int) uint64 {
	x := uint64(1)
	for i := 0; i < n; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

//go:noinline
func hot(n int) { sink += spin(4 * n) } //@ total("70..90%"), self("<2%")

//go:noinline
func cold(n int) { sink += spin(n) } //@ total("12..30%"), self("<2%")

func Burn(n int) {
	for range 20 {
		hot(n)  //@ total("70..90%"), self("<2%")
		cold(n) //@ total("12..30%"), self("<2%")
	}
}
-- marked_test.go --
package marked

import "testing"

func TestBurn(t *testing.T) {
	t.Run("twice", func(t *testing.T) {
		Burn(2_000_000)
		Burn(2_000_000)
	})
}
`

// Server starts the real server as a process in an editor that has the workspace open. A credential
// other than nil makes both an ordinary user's.
func server(t *testing.T, editor string, w *lsptest.Workspace, user *syscall.Credential, settings map[string]any) *lsptest.Editor {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--stdio")
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(home, "state"))
	if user != nil {
		cmd.Env = append(cmd.Env, "HOME="+home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
		open(t, home)
		if err := os.Chown(home, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return lsptest.Start(t, lsptest.Spawn(t, cmd), lsptest.Options{
		Editor: editor, Folders: []string{w.Root}, Settings: map[string]any{"sightline": settings},
	})
}

// Open lets every user into a folder and the folders that a test made above it.
func open(t *testing.T, dir string) {
	t.Helper()
	for ; dir != filepath.Dir(os.TempDir()) && dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Nobody is an ordinary user, where the test may become one.
func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil // we are an ordinary user ourselves
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// The main job in an editor without a plugin: the lens of a test profiles it, and the lines show
// their cost.
func TestEditorProfilesATest(t *testing.T) {
	engines := []string{"perf"}
	if os.Geteuid() == 0 {
		engines = append(engines, "bpf")
	}
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
			e := server(t, "nvim-0.12", w, nil, map[string]any{"recording": map[string]any{"engine": engine}})
			test, source := w.Path("marked_test.go"), w.Path("marked.go")
			e.Open(test)
			e.Open(source)
			if hints := e.Hints(source); len(hints) != 0 {
				t.Errorf("hints before anything was recorded: %v", hints)
			}
			lens := profileLens(t, e, test, 6) // the subtest's
			e.Run(lens.Command, lens.Arguments)
			e.Await(lsptest.Ended("Profiling TestBurn/twice"), lsptest.NoErrorShown())
			lsptest.CheckShares(t, e, source)
			if hints := e.Hints(source); len(hints) == 0 {
				t.Error("no hints after recording")
			}
			for _, h := range e.Hints(source) {
				if !h.AtEnd || len([]rune(h.Text)) > 20 {
					t.Errorf("hint %q on line %d: at the end of its line: %v", h.Text, h.Line, h.AtEnd)
				}
			}
			if hover := e.Hover(source, `hot\(n\)  `); !strings.Contains(hover, "total") {
				t.Errorf("hover is %q", hover)
			}
			e.Replace(source, `func Burn`, "// A comment that moves what follows.\nfunc Burn")
			lsptest.CheckShares(t, e, source)
		})
	}
}

func profileLens(t *testing.T, e *lsptest.Editor, path string, line int) lsptest.Lens {
	t.Helper()
	for _, l := range e.Lenses(path) {
		if l.Line == line && l.Command == "sightline.profileTest" {
			return l
		}
	}
	t.Fatalf("no lens above line %d of %s: %+v", line, path, e.Lenses(path))
	return lsptest.Lens{}
}

// What a terminal records, the open editor shows at once.
func TestTerminalAndEditorShareCaptures(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	cmd := exec.Command(bin, "serve")
	e := lsptest.Start(t, lsptest.Spawn(t, cmd), lsptest.Options{Editor: "vscode", Folders: []string{w.Root}})
	source := w.Path("marked.go")
	e.Open(source)
	e.Hints(source)
	e.Forget()

	t.Chdir(w.Root)
	mustRun(t, "test", "-run", "TestBurn")
	e.Await(lsptest.Refreshed("inlayHint", 1))
	lsptest.CheckShares(t, e, source)
	checkStore(t)
}

// An ordinary user records a program of their own with the perf engine; root with both. All agree.
func TestEnginesAgree(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	if out, err := exec.Command("go", "test", "-c", "-o", "marked.test").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	open(t, w.Root)
	type run struct {
		engine string
		user   *syscall.Credential
	}
	runs := []run{{"perf", nobody(t)}}
	if os.Geteuid() == 0 {
		runs = append(runs, run{"perf", nil}, run{"bpf", nil})
	}
	share := map[run]float64{}
	for _, r := range runs {
		state := t.TempDir()
		open(t, state)
		if r.user != nil {
			if err := os.Chown(state, int(r.user.Uid), int(r.user.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		sightline := func(args ...string) string {
			cmd := exec.Command(bin, args...)
			cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state, "HOME="+state)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("sightline %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
			}
			return string(out)
		}
		sightline("record", "--engine", r.engine, "--", "./marked.test", "-test.run", "TestBurn", "-test.count", "4")
		a := decode[annotated](t, sightline("lines", "marked.go", "--json"))
		whole := float64(decode[captureJSON](t, sightline("show", "--json")).Kinds[0].Total)
		for _, l := range a.Lines {
			if strings.Contains(l.Text, "hot(n)  ") {
				share[r] = 100 * float64(l.Total) / whole
			}
		}
		if r.user != nil || os.Geteuid() != 0 {
			if !strings.Contains(sightline("show"), "kernel") {
				t.Error("the capture of an ordinary user does not say that the kernel's time is hidden")
			}
		}
	}
	low, high := 100.0, 0.0
	for r, s := range share {
		t.Logf("%s as %s: %.1f%%", r.engine, userName(r.user), s)
		low, high = min(low, s), max(high, s)
	}
	// Each has a statistical error of about 1.3 points, and more where other tests keep the machine busy;
	// what a benchmark on a quiet one says to a point is here only not to be grossly wrong.
	if len(share) != len(runs) || high-low > 10 {
		t.Errorf("the engines differ: %v", share)
	}
}

func userName(c *syscall.Credential) string {
	if c == nil {
		return "this user"
	}
	return "user " + strconv.Itoa(int(c.Uid))
}

// In C too, a function without a frame and one of the C library do not hide the lines that call them.
func TestCallersOfLeavesInC(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	w := lsptest.NewWorkspace(t, `
-- a.c --
#include <string.h>
static char a[1 << 16], b[1 << 16];
volatile double sum;
static double __attribute__((noinline)) leaf(int n, int k) {
	double s = k;
	for (int i = 1; i < n; i++) s += 1.0 / i;
	return s;
}
int main(void) {
	for (int k = 0; k < 60; k++) {
		sum += leaf(2000000, k); // leaf
		for (int i = 0; i < 3000; i++) { memcpy(a, b, sizeof a); b[i] += a[k]; } // copy
	}
	return 0;
}
`, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if out, err := exec.Command("gcc", "-O2", "-g", "-fno-omit-frame-pointer", "-o", "a", "a.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	mustRun(t, "record", "--", "./a")
	share := shares(t, "a.c")
	leaf, copies := share[lineOf(t, "a.c", "leaf")][1], share[lineOf(t, "a.c", "copy")][1]
	if leaf < 0.1 || copies < 0.1 || leaf+copies < 0.8 {
		t.Errorf("the line that calls leaf has %.3f, that with memcpy %.3f; together they should have nearly all", leaf, copies)
	}
}

// A program that was recorded as an ordinary user with the bpf engine is refused with the remedy.
func TestNoPermission(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	open(t, state)
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state, "HOME="+state)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody(t)}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != exitUsage || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), want) {
			t.Errorf("sightline %s: %v: %q; want one sentence with %q and exit status %d", strings.Join(args, " "), err, out, want, exitUsage)
		}
	}
	if user := nobody(t); user != nil {
		if err := os.Chown(state, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	run("doctor --fix sets it up", "record", "--engine", "bpf", "--", "true")
	run("perf_event_paranoid", "record", "-a", "--for", "1s")
	if os.Geteuid() == 0 {
		run("root", "record", "-p", strconv.Itoa(os.Getpid()), "--for", "1s")
	}
}

// The server answers initialize and bad traffic like any other, as a process too.
func TestServerAsAProcess(t *testing.T) {
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := server(t, "vscode", w, nil, nil)
	e.SendFrame(`{"jsonrpc":"2.0","id":1,`)
	if err := e.Call("sightline/nothing", nil, nil); err == nil {
		t.Error("an unknown method was answered")
	}
	if err := e.Call("workspace/executeCommand", json.RawMessage(`{"command":"sightline.profileTest","arguments":[{"dir":"/nowhere"}]}`), nil); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error %v, want one that names the folder", err)
	}
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit status %d after shutdown", code)
	}
}

// An editor that crashes takes its ends of all pipes with it, that of the log first. The recording
// is stopped and kept, and what it recorded does not run on.
func TestEditorCrashesWhileRecording(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	cmd := exec.Command(bin, "serve")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := lsptest.Start(t, lsptest.Connection{
		ReadWriteCloser: pipes{out, in},
		Wait:            func() (int, error) { err := cmd.Wait(); return cmd.ProcessState.ExitCode(), ignoreExit(err) },
	}, lsptest.Options{Folders: []string{w.Root}})
	pidFile := w.Path("pid")
	e.StartCommand("sightline.record", map[string]any{"command": []string{"sh", "-c", "echo $$ > pid.tmp && mv pid.tmp pid; while :; do :; done"}})
	e.Await(lsptest.Reported("sh", "[1-9][0-9][0-9] samples"))
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	if code := e.Hangup(); code != 1 {
		t.Errorf("the server ended with status %d, want 1", code)
	}
	for i := 0; syscall.Kill(pid, 0) == nil; i++ {
		if i == 100 {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the recorded program runs on")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Chdir(w.Root)
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || list[0].Interrupted || list[0].Kinds[0].Samples < 100 {
		t.Errorf("captures are %+v, want the one, whole", list)
	}
	checkStore(t)
}

type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.ReadCloser.Close()) }

func ignoreExit(err error) error {
	if errors.As(err, new(*exec.ExitError)) {
		return nil
	}
	return err
}
