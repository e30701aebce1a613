package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/profiler/store"
)

// A terminal is a command that runs.
type terminal struct {
	cmd  *exec.Cmd
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (r *terminal) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// said is what it has written so far.
func (r *terminal) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func inTerminal(t *testing.T, dir, bin string, args ...string) *terminal {
	t.Helper()
	r := &terminal{cmd: exec.Command(bin, args...)}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = dir, r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() })
	return r
}

func (r *terminal) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, text, func() bool { return strings.Contains(r.said(), text) })
}

// What an editor or a terminal records already, another terminal shows instead of recording it again.
// Whoever shares a recording may end it; who only goes away leaves it to go on.
func TestTerminalSharesRecording(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	target := strconv.Itoa(spinner(t))
	e := editor(t, exec.Command(bin, "serve"), w)
	captures := func() []captureJSON { return decode[[]captureJSON](t, mustRun(t, "captures", "--json")) }

	// Of three terminals two go away in two ways, and the third ends the editor's recording.
	call := e.StartCommand("sightline.record", map[string]any{"pid": spinnerID(t, target)})
	e.Await(lsptest.Reported("process", "[1-9][0-9]* samples"))
	const sharing = "sharing that recording"
	var all []*terminal
	for range 3 {
		r := inTerminal(t, w.Root, bin, "record", "-p", target)
		r.await(t, sharing)
		all = append(all, r)
	}
	all[0].cmd.Process.Kill()
	all[0].cmd.Wait()
	all[1].cmd.Process.Signal(syscall.SIGHUP)
	if err := all[1].cmd.Wait(); err == nil || !strings.Contains(all[1].said(), "goes on without this terminal") {
		t.Errorf("a terminal that was closed: %v\n%s", err, all[1].said())
	}
	s := statusOf(t, bin)
	if len(s.Recordings) != 1 || len(captures()) != 1 {
		t.Fatalf("under way: %+v", s.Recordings)
	}
	all[2].cmd.Process.Signal(os.Interrupt)
	if err := all[2].cmd.Wait(); err != nil || !strings.Contains(all[2].said(), "samples") {
		t.Errorf("it ended with %v and\n%s", err, all[2].said())
	}
	if _, err := call.Wait(); err != nil {
		t.Error(err)
	}
	if list := captures(); len(list) != 1 || list[0].Interrupted {
		t.Errorf("captures are %+v", list)
	}

	// A terminal's, shared by another with a limit, which is the earlier end of both.
	first := inTerminal(t, w.Root, bin, "record", "-p", target)
	eventually(t, "it is recorded", func() bool { return len(statusOf(t, bin).Recordings) == 1 })
	second := inTerminal(t, w.Root, bin, "record", "-p", target, "--for", "300ms", "--json")
	second.await(t, sharing)
	for _, r := range []*terminal{first, second} {
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("it ended with %v and\n%s", err, r.said())
		}
	}
	list := captures()
	if len(list) != 2 || !strings.Contains(first.said(), string(list[0].ID)) || !strings.Contains(second.said(), string(list[0].ID)) {
		t.Errorf("captures are %+v; the terminals say\n%s\n%s", list, first.said(), second.said())
	}

	// Who asks for a certain frequency gets that.
	e.StartCommand("sightline.record", map[string]any{"pid": spinnerID(t, target)})
	e.Await(lsptest.Begun("process"))
	if out := said(t, bin, "record", "-p", target, "--freq", "99", "--for", "200ms"); strings.Contains(out, sharing) {
		t.Errorf("it was not recorded as it was asked for:\n%s", out)
	}

	// From anywhere, recordings are listed and ended.
	if out := said(t, bin, "recordings"); !strings.Contains(out, "recording") || !strings.Contains(out, target) || strings.Count(out, "\n") != 1 {
		t.Errorf("recordings prints\n%s", out)
	}
	before := len(captures())
	if out := said(t, bin, "recordings", "discard"); !strings.Contains(out, "has ended and is dropped") {
		t.Errorf("discard prints %q", out)
	}
	if after := len(captures()); after != before-1 {
		t.Errorf("%d captures before and %d after one was discarded", before, after)
	}
	for _, args := range [][]string{{"stop"}, {"stop", "7"}, {"discard", "x"}} {
		out, err := exec.Command(bin, append([]string{"recordings"}, args...)...).CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("recordings %v: %v, %q", args, err, out)
		}
	}
	checkStore(t)
}

func spinnerID(t *testing.T, target string) int {
	t.Helper()
	n, err := strconv.Atoi(target)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A test is the same whether an editor names it by its folder or a terminal by its package.
func TestTerminalSharesTest(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := editor(t, exec.Command(bin, "serve"), w)
	call := e.StartCommand("sightline.profileTest", map[string]any{"dir": w.Root, "run": "^TestBurn$"})
	e.Await(lsptest.Begun("TestBurn"))
	r := inTerminal(t, w.Root, bin, "test", "-run", "^TestBurn$")
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(r.said(), "sharing that recording") || !strings.Contains(r.said(), "hot(n)") {
		t.Errorf("the terminal says\n%s", r.said())
	}
	if _, err := call.Wait(); err != nil {
		t.Error(err)
	}
	t.Chdir(w.Root)
	if list := decode[[]captureJSON](t, mustRun(t, "captures", "--json")); len(list) != 1 {
		t.Errorf("captures are %+v", list)
	}
}

// What is recorded where no project is belongs to no workspace: every editor shows it, at once.
func TestCapturesWithoutWorkspace(t *testing.T) {
	bin := ownDaemon(t)
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	build := exec.Command("go", "test", "-c", "-o", "marked.test")
	build.Dir = w.Root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	home := t.TempDir()
	at := func(dir string, args ...string) *exec.Cmd {
		cmd := exec.Command(bin, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+home)
		return cmd
	}
	e := editor(t, at(w.Root, "serve"), w)
	source := w.Path("marked.go")
	e.Open(source)
	if n := len(e.Hints(source)); n > 0 {
		t.Fatalf("%d hints before anything was recorded", n)
	}
	if out, err := at(home, "record", "--", w.Path("marked.test"), "-test.run", "TestBurn").CombinedOutput(); err != nil {
		t.Fatalf("record: %v\n%s", err, out)
	}
	eventually(t, "its lines are shown", func() bool { return len(e.Hints(source)) > 0 })
	for dir, want := range map[string]int{home: 1, "/": 1, w.Root: 0} {
		out, err := at(dir, "captures", "--json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if list := decode[[]captureJSON](t, string(out)); len(list) != want {
			t.Errorf("in %s there are %d captures, want %d", dir, len(list), want)
		}
	}
	path, err := store.GeneralPathIn(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	// An editor without a folder records into it, and what it does to it the other shows.
	bare := lsptest.Start(t, lsptest.Spawn(t, at("/", "serve")), lsptest.Options{Editor: "nvim-0.12"})
	call := bare.StartCommand("sightline.record", map[string]any{"pid": spinner(t), "seconds": 0.3})
	if _, err := call.Wait(); err != nil {
		t.Error(err)
	}
	count := func(e *lsptest.Editor) int {
		var list []any
		if err := e.Call("sightline/captures", nil, &list); err != nil {
			t.Error(err)
		}
		return len(list)
	}
	eventually(t, "both show both", func() bool { return count(e) == 2 && count(bare) == 2 })
	bare.Execute("sightline.removeCapture", map[string]any{"capture": "@"})
	if n := count(bare); n != 1 {
		t.Errorf("%d captures after one was removed", n)
	}
}
