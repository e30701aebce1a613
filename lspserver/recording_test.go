package lspserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// clickTest runs the command of the lens above a test.
func (s *session) clickTest(line int) *lsptest.Call {
	s.t.Helper()
	for _, l := range s.Lenses(s.path("fib/fib_test.go")) {
		if l.Line == line && l.Title == "profile" {
			return s.StartCommand(l.Command, l.Arguments[0])
		}
	}
	s.t.Fatalf("there is no lens to profile on line %d", line)
	return nil
}

// updateBy sends updates.
func (r *replayed) send(updates ...lspserver.Update) {
	for _, u := range updates {
		r.updates <- u
	}
}

func answer(t *testing.T, c *lsptest.Call) (res struct {
	Capture, Root, Name, Message string
	Samples                      int
	Milliseconds                 int64
	Failed, Discarded            bool
	Hottest                      *struct {
		URI   uri.URI
		Range protocol.Range
		Label string
	}
}) {
	t.Helper()
	raw, err := c.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &res); err != nil {
		t.Fatal(err)
	}
	return res
}

// The whole way: click, progress, live numbers, end, numbers from the store.
func TestProfileTest(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	call := s.clickTest(7) // the subtest
	run := s.started()
	want := lspserver.Request{
		Workspace: s.dir, Dir: s.path("fib"),
		Test: &lspserver.TestRequest{Package: s.path("fib"), Run: "^TestFib$/^small$"},
	}
	if diff := cmp.Diff(want, run.req); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	s.Await(lsptest.Begun("^Profiling TestFib/small$"), lsptest.Refreshed("codeLens", 1))
	if l := s.Lens(s.path("fib/fib_test.go"), "building"); l.Title != "building… · stop" || l.Line != 7 || l.Command != "sightline.stop" {
		t.Errorf("while building the lens is %+v", l)
	}
	run.send(
		lspserver.Update{Phase: lspserver.PhaseBuilding, Output: []byte("# fib\n")},
		lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: 3200 * time.Millisecond, Samples: 812},
	)
	s.Await(lsptest.Reported("TestFib/small", "^recording 3.2 s · 812 samples$"))
	if l := s.Lens(s.path("fib/fib_test.go"), "recording"); l.Title != "recording… 3.2 s, 812 samples · stop" || l.Line != 7 {
		t.Errorf("while recording the lens is %+v", l)
	}

	// Live numbers, before anything is stored; they follow edits too.
	s.wantHints("fib/fib.go")
	s.Forget()
	live := s.capture("cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry 5\n", nil)
	live.Symbols.Sources = nil // symbols come without sources until the end
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: 4 * time.Second, Samples: 1000, Capture: live})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go", "7: 100.0% · 5 ns")
	if got := s.Hover(s.path("fib/fib.go"), "Fib\\(n-1"); !strings.Contains(got, "being recorded") {
		t.Errorf("the hover of live numbers is %s", got)
	}
	s.Replace(s.path("fib/fib.go"), `package fib\n`, "package fib\n\n")
	s.wantHints("fib/fib.go", "8: 100.0% · 5 ns")
	s.Replace(s.path("fib/fib.go"), `package fib\n\n`, "package fib\n")

	for phase, words := range map[string]string{
		lspserver.PhaseSymbolizing: "reading symbols of 1.2k samples", lspserver.PhaseStoring: "storing 1.2k samples",
	} {
		run.send(lspserver.Update{Phase: phase, Elapsed: 5 * time.Second, Samples: 1200})
		s.Await(lsptest.Reported("TestFib/small", "^"+words+"$"))
	}
	s.Forget()
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id}, nil)
	res := answer(t, call)
	message := "TestFib/small: 5 samples in 10.5 s, hottest fib.go:7 (50.0% · 5.0 s)"
	if res.Capture != string(id) || res.Root != s.dir || res.Failed || res.Discarded || res.Message != message ||
		res.Samples != 5 || res.Milliseconds != 10500 || res.Hottest == nil || res.Hottest.Range.Start.Line != 6 {
		t.Errorf("result is %+v", res)
	}
	s.Await(lsptest.Ended("TestFib/small", "^"+message[:20]), lsptest.Shown("^"+message[:20]),
		lsptest.Logged("wrote:\n# fib$"), lsptest.Refreshed("inlayHint", 1), lsptest.NoErrorShown())
	s.checkHints("fib/fib.go")
	s.checkLenses("fib/fib_test.go")
	s.Look(func(st *lsptest.State) {
		if len(st.Shown) > 0 {
			t.Errorf("the editor was led away unasked: %v", st.Shown)
		}
	})
}

// A benchmark's lens asks for the benchmark alone; further flags and settings reach the recorder.
func TestRequests(t *testing.T) {
	s := start(t, fib, setup{Options: lsptest.Options{Settings: map[string]any{"sightline": map[string]any{
		"recording": map[string]any{"frequency": 99, "engine": "perf", "limit": 2.5},
	}}}})
	s.Open(s.path("fib/fib_test.go"))
	s.Await(lsptest.Asked(protocol.MethodWorkspaceConfiguration))
	s.Await(lsptest.Refreshed("codeLens", 1))
	dir := s.path("fib")
	common := lspserver.Request{Workspace: s.dir, Dir: dir, Freq: 99, Engine: "perf", For: 2500 * time.Millisecond}
	with := func(change func(*lspserver.Request)) lspserver.Request { r := common; change(&r); return r }
	for _, c := range []struct {
		start func() *lsptest.Call
		want  lspserver.Request
	}{
		{func() *lsptest.Call { return s.clickTest(11) },
			with(func(r *lspserver.Request) { r.Test = &lspserver.TestRequest{Package: dir, Bench: "^BenchmarkFib$"} })},
		{func() *lsptest.Call {
			return s.StartCommand("sightline.profileTest", map[string]any{"dir": dir, "args": []string{"-count=2"}})
		}, with(func(r *lspserver.Request) { r.Test = &lspserver.TestRequest{Package: dir, Args: []string{"-count=2"}} })},
		{func() *lsptest.Call {
			return s.StartCommand("sightline.record", map[string]any{"command": []string{"make", "all"}})
		}, with(func(r *lspserver.Request) { r.Dir, r.Command = s.dir, []string{"make", "all"} })},
		{func() *lsptest.Call {
			return s.StartCommand("sightline.record", map[string]any{"pid": 71, "seconds": 1.5, "dir": dir})
		}, with(func(r *lspserver.Request) { r.PID, r.For = 71, 1500*time.Millisecond })},
		{func() *lsptest.Call { return s.StartCommand("sightline.record", map[string]any{"machine": true}) },
			with(func(r *lspserver.Request) { r.Dir, r.Machine = s.dir, true })},
	} {
		call := c.start()
		run := s.started()
		if diff := cmp.Diff(c.want, run.req); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		run.finish(lspserver.Result{}, nil)
		if res := answer(t, call); !strings.Contains(res.Message, "not one sample") {
			t.Errorf("a recording without samples says %q", res.Message)
		}
	}
}

// However the client ends a recording but by discard, what was recorded is kept.
func TestStopAndKeep(t *testing.T) {
	for how, stop := range map[string]func(*session, *lsptest.Call){
		"progress": func(s *session, _ *lsptest.Call) {
			s.Await(lsptest.Begun("Profiling"))
			s.CancelWork("Profiling TestFib")
		},
		"cancel":  func(_ *session, c *lsptest.Call) { c.Cancel() },
		"command": func(s *session, _ *lsptest.Call) { s.Execute("sightline.stop") },
		"lens": func(s *session, _ *lsptest.Call) {
			l := s.Lens(s.path("fib/fib_test.go"), "stop")
			s.Run(l.Command, l.Arguments)
		},
		"action": func(s *session, _ *lsptest.Call) {
			for _, a := range s.CodeActions(s.path("fib/fib_test.go"), "package") {
				if a.Title == "Stop recording TestFib and keep it" {
					s.Run(a.Command, a.Arguments)
				}
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			s := start(t, fib, setup{})
			s.Open(s.path("fib/fib.go"))
			s.Open(s.path("fib/fib_test.go"))
			call := s.clickTest(5)
			run := s.started()
			stop(s, call)
			run.awaitAsked(t, "stop")
			id := s.put(s.capture(fibCPU, nil))
			run.finish(lspserver.Result{ID: id}, nil)
			if raw, err := call.Wait(); err == nil && !strings.Contains(string(raw), string(id)) || err != nil && how != "cancel" {
				t.Errorf("the answer is %s, %v", raw, err)
			}
			s.Await(lsptest.Shown("^TestFib: 5 samples"), lsptest.NoWork())
			s.checkHints("fib/fib.go")
		})
	}
}

func TestDiscard(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	call := s.clickTest(5)
	run := s.started()
	live := s.capture("cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry 5\n", nil)
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Samples: 1, Capture: live})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go", "7: 100.0% · 5 ns")
	s.Execute("sightline.discard")
	run.awaitAsked(t, "discard")
	run.finish(lspserver.Result{}, nil)
	if res := answer(t, call); !res.Discarded || res.Message != "TestFib: dropped" {
		t.Errorf("result is %+v", res)
	}
	s.Await(lsptest.Ended("TestFib", "^TestFib: dropped$"))
	s.checkHints("fib/fib.go") // those of before
}

// A second recording is refused, in words, and the first goes on.
func TestOneAtATime(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib_test.go"))
	first := s.clickTest(5)
	run := s.started()
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: 3200 * time.Millisecond, Samples: 5})
	s.Await(lsptest.Reported("TestFib", "recording"))
	_, err := s.StartCommand("sightline.record", map[string]any{"machine": true}).Wait()
	want := "TestFib is being recorded since 3.2 s: stop it with sightline.stop, or drop it with sightline.discard, before another begins (-32803)"
	if err == nil || err.Error() != want {
		t.Errorf("a second recording: %v, want %q", err, want)
	}
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id}, nil)
	answer(t, first)
	call := s.clickTest(5) // and then there is room
	s.started().finish(lspserver.Result{}, nil)
	answer(t, call)
}

// A failing test is reported with why it failed, and its profile is kept.
func TestFailingTest(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	call := s.clickTest(5)
	run := s.started()
	var out strings.Builder
	for i := range 30 {
		fmt.Fprintf(&out, "line %d of the test\n", i)
	}
	out.WriteString("--- FAIL: TestFib\n    fib_test.go:6: got 1, want 2\n" + strings.Repeat("é", 300) + "\nFAIL\n")
	half := out.Len() / 2
	run.send(lspserver.Update{Output: []byte(out.String()[:half])}, lspserver.Update{Output: []byte(out.String()[half:])})
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id, Failed: true, Message: "exit status 1"}, nil)
	res := answer(t, call)
	if !res.Failed || res.Capture != string(id) {
		t.Errorf("result is %+v", res)
	}
	s.Await(
		lsptest.Shown(fmt.Sprintf(`(?s)^TestFib failed; its profile is kept \(%s, 5 samples in 10\.5 s\): exit status 1\n--- FAIL: TestFib\nfib_test\.go:6: got 1, want 2$`, id)),
		lsptest.Logged(`(?s)^TestFib wrote:\nline 0 of the test\n.*FAIL$`),
	)
	s.Look(func(st *lsptest.State) {
		if st.Messages[0].Type != protocol.MessageTypeError || strings.Contains(st.Messages[0].Text, "line 1 of") {
			t.Errorf("the message is %+v", st.Messages[0])
		}
	})
	s.checkHints("fib/fib.go")
}

// What a recorder cannot do is the command's answer, one sentence; what the compiler says comes along.
func TestRecorderErrors(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	s.recorder.mu.Lock()
	s.recorder.refuse = errors.New("record TestFib: perf_event_paranoid is 3; need 2 or less, or CAP_PERFMON")
	s.recorder.mu.Unlock()
	if _, err := s.clickTest(5).Wait(); err == nil || err.Error() != "record TestFib: perf_event_paranoid is 3; need 2 or less, or CAP_PERFMON (-32803)" {
		t.Errorf("a refusal is answered with %v", err)
	}
	s.recorder.mu.Lock()
	s.recorder.refuse = nil
	s.recorder.mu.Unlock()
	call := s.clickTest(5)
	run := s.started()
	s.Await(lsptest.Begun("Profiling"))
	run.send(lspserver.Update{Phase: lspserver.PhaseBuilding, Output: []byte("fib.go:4:2: undefined: x\n")})
	run.finish(lspserver.Result{}, errors.New("build the tests of fib: exit status 1; fix what the compiler says"))
	want := "build the tests of fib: exit status 1; fix what the compiler says\nfib.go:4:2: undefined: x (-32803)"
	if _, err := call.Wait(); err == nil || err.Error() != want {
		t.Errorf("a test that does not compile is answered with %v, want %q", err, want)
	}
	s.Await(lsptest.NoWork(), lsptest.Ended("Profiling", "^build the tests"))
	s.checkHints("fib/fib.go")

	s = start(t, fib, setup{config: func(_ *session, cfg *lspserver.Config) { cfg.Recorder = nil }})
	s.Open(s.path("fib/fib_test.go"))
	if _, err := s.clickTest(5).Wait(); err == nil || !strings.Contains(err.Error(), "cannot record") {
		t.Errorf("without a recorder: %v", err)
	}
}

// Progress is the client's choice: its own token, one it makes, or none; nothing depends on it.
func TestProgressForms(t *testing.T) {
	finish := func(s *session, call *lsptest.Call) {
		t.Helper()
		run := s.started()
		run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: time.Second, Samples: 7})
		id := s.put(s.capture(fibCPU, nil))
		run.finish(lspserver.Result{ID: id}, nil)
		if res := answer(t, call); res.Capture != string(id) {
			t.Errorf("result is %+v", res)
		}
	}
	args := func(s *session) map[string]any { return map[string]any{"dir": s.path("fib")} }

	s := start(t, fib, setup{})
	finish(s, s.StartCommandWithToken("mine", "sightline.profileTest", args(s)))
	s.Look(func(st *lsptest.State) { // all of it before the answer, after which the token means nothing
		if len(st.Work) != 1 || string(st.Work[0].Token) != `"mine"` || !st.Work[0].Ended {
			t.Errorf("work is %+v", st.Work)
		}
	})

	refused := func(json.RawMessage) (any, error) { return nil, &lsptest.Error{Code: -32603, Message: "no"} }
	for what, o := range map[string]lsptest.Options{
		"none":    {Capabilities: `{"window": {"workDoneProgress": false}}`},
		"refused": {Answers: map[string]func(json.RawMessage) (any, error){protocol.MethodWindowWorkDoneProgressCreate: refused}},
		"ignored": {Answers: map[string]func(json.RawMessage) (any, error){protocol.MethodWindowWorkDoneProgressCreate: nil}},
	} {
		s := start(t, fib, setup{Options: o})
		finish(s, s.StartCommand("sightline.profileTest", args(s)))
		s.Look(func(st *lsptest.State) {
			for _, w := range st.Work {
				if w.Begun {
					t.Errorf("%s: progress began: %+v", what, w)
				}
			}
		})
	}
}

// Refreshes come together, and not at all for a client that has none.
func TestRefreshes(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{
		Capabilities: `{"workspace": {"inlayHint": {"refreshSupport": false}}}`,
	}})
	s.Open(s.path("fib/fib.go"))
	for range 20 {
		s.Execute("sightline.setMetric")
	}
	s.Await(lsptest.Refreshed("codeLens", 1))
	s.checkHints("fib/fib.go")
	s.Execute("sightline.setMetric", "total")
	s.Await(lsptest.Refreshed("codeLens", 2))
	if n := s.Refreshes("codeLens"); n > 20 {
		t.Errorf("21 changes led to %d refreshes", n)
	}
	if n := s.Refreshes("inlayHint"); n != 0 {
		t.Errorf("a client without refreshes had %d", n)
	}
}

// The end of a session stops what is recorded and keeps it.
func TestShutdownWhileRecording(t *testing.T) {
	for _, how := range []string{"shutdown", "hangup"} {
		s := start(t, fib, setup{})
		s.Open(s.path("fib/fib_test.go"))
		s.clickTest(5)
		run := s.started()
		done := make(chan bool)
		go func() {
			defer close(done)
			if got := <-run.asked; got != "stop" {
				t.Errorf("%s: the recorder was asked to %s", how, got)
			}
			run.finish(lspserver.Result{}, nil)
			<-run.ctx.Done()
		}()
		if how == "shutdown" {
			s.Shutdown()
		} else {
			s.Hangup()
		}
		<-done
	}
}

// Numbers that a client draws by itself say how hot a line is and that a recording runs.
func TestChangedWhileRecording(t *testing.T) {
	s := start(t, fib, setup{Options: lsptest.Options{Capabilities: `{"experimental": {"sightline": {"changed": true}}}`}})
	s.Open(s.path("fib/fib_test.go"))
	call := s.clickTest(5)
	run := s.started()
	building := rpc.StatusResult{
		Recording: true, Phase: "building", Target: "go test ./fib -run TestFib", Text: "building", Version: "1.2.3", Log: "/tmp/sightline.log",
	}
	s.Await(changed("it builds", rpc.ChangedParams{StatusResult: building}))
	var now rpc.StatusResult
	s.Must(rpc.MethodStatus, nil, &now)
	if diff := cmp.Diff(building, now); diff != "" {
		t.Errorf("status while building (-want +got):\n%s", diff)
	}
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Elapsed: 3200 * time.Millisecond, Samples: 1234, Capture: s.capture(fibCPU, nil)})
	recording := building
	recording.Phase, recording.Text, recording.Milliseconds, recording.Samples = "recording", "3.2 s · 1.2k samples", 3200, 1234
	s.Await(changed("it records", rpc.ChangedParams{StatusResult: recording}))
	// While nothing happens it is told again and again.
	s.Forget()
	s.Await(changed("it records still", rpc.ChangedParams{StatusResult: recording}))
	s.Forget()
	s.Await(changed("and still", rpc.ChangedParams{StatusResult: recording}))
	run.send(lspserver.Update{Phase: lspserver.PhaseSymbolizing, Elapsed: 4 * time.Second, Samples: 2000})
	s.Await(lsptest.Expect("it reads symbols", func(st *lsptest.State) lsptest.Verdict { return lastPhase(t, st, "symbolizing") }))
	id := s.put(s.capture(fibCPU, nil))
	run.finish(lspserver.Result{ID: id}, nil)
	answer(t, call)
	idle := rpc.StatusResult{Version: "1.2.3", Log: "/tmp/sightline.log"}
	s.Await(changed("it is over", rpc.ChangedParams{StatusResult: idle}))
	s.Must(rpc.MethodStatus, nil, &now)
	if diff := cmp.Diff(idle, now); diff != "" {
		t.Errorf("status after the end (-want +got):\n%s", diff)
	}
	s.Forget()
	s.Execute("sightline.openCapture", "@")
	s.Await(changed("a capture is shown", rpc.ChangedParams{Capture: string(id), StatusResult: idle}))
}

// changed says that the last that was told of numbers is what is wanted.
func changed(what string, want rpc.ChangedParams) lsptest.Expectation {
	return lsptest.Expect(what, func(s *lsptest.State) lsptest.Verdict {
		all := s.Notified[rpc.MethodChanged]
		var p rpc.ChangedParams
		if len(all) == 0 || json.Unmarshal(all[len(all)-1], &p) != nil || p != want {
			return lsptest.Unmet
		}
		return lsptest.Met
	})
}

func lastPhase(t *testing.T, s *lsptest.State, want string) lsptest.Verdict {
	t.Helper()
	for _, raw := range s.Notified[rpc.MethodChanged] {
		var p rpc.ChangedParams
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Errorf("changed: %v", err)
		}
		if p.Phase == want {
			return lsptest.Met
		}
	}
	return lsptest.Unmet
}

// The status names what is recorded as its capture will.
func TestStatusOfTargets(t *testing.T) {
	s := start(t, fib, setup{})
	for args, want := range map[string][2]string{
		`{"command": ["make", "all"]}`:                              {"make all", "0 s · 0 samples"},
		`{"pid": 71}`:                                               {"process 71", "0 s · 0 samples"},
		`{"machine": true}`:                                         {"whole machine", "0 s · 0 samples"},
		`{"dir": "DIR", "run": "^TestFib$/^a\\.b$"}`:                {"go test ./fib -run TestFib/a.b", "building"},
		`{"dir": "DIR/fib", "bench": "^BenchmarkFib$", "run": "-"}`: {"go test ./fib -run - -bench BenchmarkFib", "building"},
	} {
		command := "sightline.record"
		if strings.Contains(args, "dir") {
			command = "sightline.profileTest"
			args = strings.ReplaceAll(strings.Replace(args, "DIR/fib", "DIR", 1), "DIR", s.path("fib"))
		}
		call := s.StartCommand(command, json.RawMessage(args))
		run := s.started()
		var st rpc.StatusResult
		s.Must(rpc.MethodStatus, nil, &st)
		if st.Target != want[0] || st.Text != want[1] || !st.Recording {
			t.Errorf("%s: status is %+v, want %q", args, st, want)
		}
		run.finish(lspserver.Result{}, nil)
		answer(t, call)
	}
}

// The hottest line is one of the workspace's, with what it calls outside: what a person can change.
func TestHottestLine(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib.go"))
	call := s.StartCommand("sightline.profileTest", map[string]any{"dir": s.path("fib")})
	run := s.started()
	id := s.put(s.capture(`cpu ns
length: 1s
task 1: pid=7 tid=7 comm=fib.test
task 2: pid=7 tid=8 comm=fib.test
fib.TestFib@fib/fib_test.go:6|start=5|entry;fib.Fib@fib/fib.go:4|start=3 40 task=1
fib.TestFib@fib/fib_test.go:6|start=5|entry;fib.Fib@fib/fib.go:7|start=3;runtime.x@runtime/x.go:1;runtime.y@runtime/x.go:2 25 task=1
fib.TestFib@fib/fib_test.go:6|start=5|entry;fib.Fib@fib/fib.go:7|start=3;runtime.x@runtime/x.go:3 25 task=2
runtime.gc@runtime/x.go:9|entry 60 task=2
`, nil))
	run.finish(lspserver.Result{ID: id, Message: "3 runs"}, nil)
	res := answer(t, call)
	if want := "the tests of fib: 4 samples in 1.0 s, hottest fib.go:7 (33.3% · 50 ns)"; res.Message != want {
		t.Errorf("the message is %q, want %q", res.Message, want)
	}
	s.Await(lsptest.Shown(`hottest fib.go:7 \(33\.3% · 50 ns\)\. 3 runs$`))
	if got := s.Hover(s.path("fib/fib.go"), `Fib\(n-1`); strings.Contains(got, "Threads") {
		t.Errorf("threads of one name are told apart:\n%s", got)
	}
}
