package lspserver_test

import (
	"testing"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// sharing is a session whose hub other editors may join. Stores are never looked at unasked, so what
// reaches an editor does so through the hub.
type sharing struct {
	*session
	hub    *lspserver.Hub
	config lspserver.Config
}

func startSharing(t *testing.T, captures ...string) *sharing {
	s := &sharing{hub: lspserver.NewHub(nil)}
	s.session = start(t, fib, setup{captures: captures, config: func(_ *session, c *lspserver.Config) {
		c.Hub, c.Poll = s.hub, time.Hour
		s.config = *c
	}})
	return s
}

// join is another editor on the same folder.
func (s *sharing) join(editor string) *lsptest.Editor {
	conn := lsptest.Connect(s.t, func(c rpc.Client) rpc.Server { return lspserver.New(c, s.config) }, rpc.Options{Log: s.config.Log})
	return lsptest.Start(s.t, conn, lsptest.Options{Editor: editor, Folders: []string{s.dir}})
}

func hinted(e *lsptest.Editor, path string) int { return len(e.Hints(path)) }

// What one editor records every editor shows, with live numbers, and any may end it.
func TestRecordingIsShared(t *testing.T) {
	s := startSharing(t)
	other := s.join("nvim-0.12")
	source := s.path("fib/fib.go")
	for _, e := range []*lsptest.Editor{s.Editor, other} {
		e.Open(source)
		e.Open(s.path("fib/fib_test.go"))
	}
	call := s.clickTest(7)
	run := s.started()
	other.Await(lsptest.Begun("^Profiling TestFib/small$"))
	live := s.capture("cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry 5\n", nil)
	other.Forget()
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: 4 * time.Second, Samples: 1000, Capture: live})
	other.Await(lsptest.Refreshed("inlayHint", 1), lsptest.Reported("TestFib/small", "^recording 4.0 s · 1.0k samples$"))
	if n := hinted(other, source); n != 1 {
		t.Errorf("the other editor shows %d live hints", n)
	}
	// One that comes while it runs shows it too.
	late := s.join("vscode")
	late.Await(lsptest.Begun("^Profiling TestFib/small$"))
	if all := s.hub.Underway(); len(all) != 1 || all[0].Name != "TestFib/small" || all[0].Samples != 1000 {
		t.Errorf("under way: %+v", all)
	}

	other.Execute("sightline.stop")
	run.awaitAsked(t, "stop")
	other.Forget()
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id}, nil)
	if res := answer(t, call); res.Capture != string(id) {
		t.Errorf("result is %+v", res)
	}
	other.Await(lsptest.Ended("TestFib/small"), lsptest.Refreshed("inlayHint", 1), lsptest.NoErrorShown())
	late.Await(lsptest.Ended("TestFib/small"))
	s.checkHints("fib/fib.go")
	if got, want := hinted(other, source), len(s.Hints(source)); got != want {
		t.Errorf("the other editor shows %d hints, the first %d", got, want)
	}
	if all := s.hub.Underway(); len(all) != 0 {
		t.Errorf("under way: %+v", all)
	}
}

// A recording goes on when the editor that began it is gone, however it went, and others show it.
func TestRecordingOutlivesItsEditor(t *testing.T) {
	for _, how := range []string{"crash", "shutdown"} {
		t.Run(how, func(t *testing.T) {
			s := startSharing(t)
			first := s.join("vscode")
			first.StartCommand("sightline.record", map[string]any{"pid": 1})
			run := s.started()
			s.Await(lsptest.Begun("^Profiling process 1$"))
			if how == "crash" {
				first.Hangup()
			} else {
				first.Shutdown()
			}
			run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: time.Second, Samples: 77})
			s.Await(lsptest.Reported("process 1", "77 samples"))
			select {
			case what := <-run.asked:
				t.Errorf("the recording was asked to %s", what)
			default:
			}
			if run.ctx.Err() != nil {
				t.Error("the recording's context ended with the editor")
			}
			id := s.put(s.capture(fibCPU, nil))
			run.finish(lspserver.Result{ID: id}, nil)
			s.Await(lsptest.Ended("process 1"))
			s.Open(s.path("fib/fib.go"))
			if hinted(s.Editor, s.path("fib/fib.go")) == 0 {
				t.Error("what was recorded is not shown")
			}
		})
	}
}

// The same target is recorded once, whoever asks; another one beside it.
func TestOneTargetIsRecordedOnce(t *testing.T) {
	s := startSharing(t)
	other := s.join("nvim-0.12")
	first := s.StartCommand("sightline.record", map[string]any{"pid": 1})
	run := s.started()
	other.Await(lsptest.Begun("^Profiling process 1$"))
	second := other.StartCommand("sightline.record", map[string]any{"pid": 1})
	other.Await(lsptest.Refreshed("codeLens", 1))
	third := s.join("vscode").StartCommand("sightline.record", map[string]any{"pid": 2})
	if beside := s.started(); beside.req.PID != 2 {
		t.Fatalf("process %d is recorded again", beside.req.PID)
	} else {
		beside.finish(lspserver.Result{Message: "nothing"}, nil)
	}
	answer(t, third)
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id}, nil)
	for _, c := range []*lsptest.Call{first, second} {
		if res := answer(t, c); res.Capture != string(id) {
			t.Errorf("result is %+v", res)
		}
	}
}

// What one editor or a command changes in a store the others show at once.
func TestChangesReachEveryEditor(t *testing.T) {
	s := startSharing(t, fibCPU)
	other := s.join("nvim-0.12")
	source := s.path("fib/fib.go")
	other.Open(source)
	if hinted(other, source) == 0 {
		t.Fatal("no hints of what is stored")
	}
	other.Await(lsptest.Asked("workspace/configuration"))

	other.Forget()
	s.Execute("sightline.noteCapture", map[string]any{"capture": "@", "note": "before"})
	other.Await(lsptest.Refreshed("inlayHint", 1))

	other.Forget()
	s.Execute("sightline.removeCapture", map[string]any{"capture": "@"})
	other.Await(lsptest.Refreshed("inlayHint", 1))
	if n := hinted(other, source); n != 0 {
		t.Errorf("%d hints of a capture that was removed", n)
	}

	other.Forget()
	s.put(s.capture(fibCPU, nil))
	s.hub.Changed("/another/store")
	s.hub.Changed(s.store.Path())
	other.Await(lsptest.Refreshed("inlayHint", 1))
	if hinted(other, source) == 0 {
		t.Error("no hints of what another process stored")
	}
}

// A recording of another process is shown, and can be ended.
func TestAnnouncedRecording(t *testing.T) {
	s := startSharing(t)
	announce := func(pid int) *replayed {
		run := &replayed{updates: make(chan lspserver.Update), asked: make(chan string, 8), end: make(chan ending, 1)}
		s.hub.Announce(s.store.Path(), lspserver.Request{PID: pid}, run)
		return run
	}
	run := announce(4711)
	s.Await(lsptest.Begun("^Profiling process 4711$"))
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: time.Second, Samples: 77})
	s.Await(lsptest.Reported("process 4711", "77 samples"))
	s.CancelWork("process 4711")
	run.awaitAsked(t, "stop")
	s.Execute("sightline.discard")
	run.awaitAsked(t, "discard")
	run.finish(lspserver.Result{}, nil)
	s.Await(lsptest.Ended("process 4711"))

	// It goes on when this process is to end, and what this process records is stopped.
	run = announce(4712)
	s.Await(lsptest.Begun("^Profiling process 4712$"))
	s.StartCommand("sightline.record", map[string]any{"pid": 4713})
	own := s.started()
	stopped := make(chan struct{})
	go func() {
		s.hub.Stop(nil)
		close(stopped)
	}()
	own.awaitAsked(t, "stop")
	own.finish(lspserver.Result{}, nil)
	<-stopped
	select {
	case what := <-run.asked:
		t.Errorf("the recording of another process was asked to %s", what)
	default:
	}
	run.finish(lspserver.Result{}, nil)
}
