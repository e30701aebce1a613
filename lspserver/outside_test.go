package lspserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// A test outside of the open folders is recorded into the store of its own project.
func TestRecordOutside(t *testing.T) {
	other := lsptest.NewWorkspace(t, "-- go.mod --\nmodule a\n-- sub/a_test.go --\npackage a\n", lsptest.WorkspaceOptions{})
	s := start(t, fib, setup{})
	s.Open(other.Path("sub/a_test.go"))
	call := s.StartCommand("sightline.profileTest", map[string]any{"uri": uri.File(other.Path("sub/a_test.go")), "run": "^TestA$"})
	run := s.started()
	if run.req.Workspace != other.Root {
		t.Errorf("the test is recorded for %s, want %s", run.req.Workspace, other.Root)
	}
	run.finish(lspserver.Result{}, nil)
	answer(t, call)
}

// Files are named in several ways that all mean this machine.
func TestFormsOfURIs(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	for _, prefix := range []string{"file://localhost", "FILE://", "file://LOCALHOST"} {
		u := uri.URI(prefix + s.path("fib/fib.go"))
		s.Notify(protocol.MethodTextDocumentDidOpen, map[string]any{"textDocument": map[string]any{
			"uri": u, "languageId": "go", "version": 1, "text": "package fib\n\nfunc Fib(n int) int {\n\tif n < 2 { //@ hint(\"49.0% · 4.9 s\")\n",
		}})
		var hints []protocol.InlayHint
		s.Must(protocol.MethodTextDocumentInlayHint, map[string]any{
			"textDocument": map[string]any{"uri": u}, "range": protocol.Range{End: protocol.Position{Line: 9}},
		}, &hints)
		var lenses []protocol.CodeLens
		s.Must(protocol.MethodTextDocumentCodeLens, map[string]any{"textDocument": map[string]any{"uri": u}}, &lenses)
		if len(hints)+len(lenses) == 0 {
			t.Errorf("%s has neither hints nor lenses", u)
		}
	}
}

// Further flags of go test come after those of the lens; a file with a build constraint says so where
// nothing ran.
func TestFlagsOfTests(t *testing.T) {
	s := start(t, fib+"-- fib/tag_test.go --\n//go:build integration\n\npackage fib\n", setup{Options: lsptest.Options{
		InitializationOptions: map[string]any{"test": map[string]any{"flags": []string{"-tags=x", "-short"}}},
	}})
	u := uri.File(s.path("fib/tag_test.go"))
	call := s.StartCommand("sightline.profileTest", map[string]any{"uri": u, "run": "^TestTag$", "args": []string{"-v"}})
	run := s.started()
	if diff := cmp.Diff([]string{"-v", "-tags=x", "-short"}, run.req.Test.Args); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	run.finish(lspserver.Result{Message: "no test of fib matches ^TestTag$."}, nil)
	answer(t, call)
	s.Await(lsptest.Shown(`^no test of fib matches \^TestTag\$\. The file is built only with "//go:build integration": give go test the tags in the setting sightline\.test\.flags`))
}

// The panic is why a test failed, whatever else it wrote.
func TestWhyFailed(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN TestFib\n--- FAIL: TestFib (0.00s)\npanic: boom [recovered]\n\tpanic: boom\n\ngoroutine 7\nFAIL\tfib\t0.1s\n": "panic: boom [recovered]",
		"    a_test.go:3: first\n    a_test.go:4: second\n--- FAIL: TestFib (0.00s)\n--- FAIL: TestB (0s)\nFAIL\n":             "--- FAIL: TestFib (0.00s)\na_test.go:3: first",
		"one\ntwo\nthree\nexit status 3\n":                                                         "two\nthree",
		"[ RUN      ] A.B\na_test.cc:18: Failure\nExpected equality of these values:\n  1\n":       "a_test.cc:18: Failure\nExpected equality of these values:",
		"....\n\nc_test.cpp:9: FAILED:\n  REQUIRE( false )\n\n":                                    "c_test.cpp:9: FAILED:\nREQUIRE( false )",
		"running 1 test\nthread 'a::b' (7) panicked at src/lib.rs:28:9:\nboom\nnote: run with x\n": "thread 'a::b' (7) panicked at src/lib.rs:28:9:\nboom",
	} {
		s := start(t, fib, setup{})
		call := s.StartCommand("sightline.profileTest", map[string]any{"dir": s.path("fib"), "run": "^TestFib$"})
		run := s.started()
		run.send(lspserver.Update{Output: []byte(out)})
		run.finish(lspserver.Result{Failed: true}, nil)
		answer(t, call)
		s.Await(lsptest.Shown("failed"))
		s.Look(func(st *lsptest.State) {
			if got := st.Messages[0].Text; got != "TestFib failed\n"+want {
				t.Errorf("the message is %q, want %q at its end", got, want)
			}
		})
	}
}

// A hint's tooltip says what is not certain, and that of a live hint is there after the end.
func TestTooltipLater(t *testing.T) {
	s := start(t, fib, setup{captures: []string{strings.ReplaceAll(fibCPU, "@fib/", "@/build/src/fib/")}, Options: lsptest.Options{
		Settings: map[string]any{"sightline": map[string]any{"paths": map[string]any{}}},
	}})
	path := s.path("fib/fib.go")
	s.Open(path)
	s.Configure(map[string]any{"sightline": map[string]any{"paths": map[string]any{"/build/src": s.dir}}})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	if got := s.Tooltip(s.Hints(path)[0]); !strings.Contains(got, "The source was not recorded") {
		t.Errorf("the tooltip does not say that drift is unknown:\n%s", got)
	}

	s = start(t, fib, setup{})
	path = s.path("fib/fib.go")
	s.Open(path)
	call := s.StartCommand("sightline.profileTest", map[string]any{"dir": s.path("fib")})
	run := s.started()
	run.send(lspserver.Update{Phase: lspserver.PhaseRecording, Capture: s.capture(fibCPU, nil)})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	live := s.Hints(path)
	run.finish(lspserver.Result{ID: s.put(s.capture(fibCPU, nil))}, nil)
	answer(t, call)
	if got := s.Tooltip(live[0]); !strings.Contains(got, "fib.go:4") {
		t.Errorf("after the recording a live hint has the tooltip %q", got)
	}
}

// Repetitions of a test are one row per thread name, programs are told apart, and the rows add up.
func TestThreadsInHover(t *testing.T) {
	var runs, many strings.Builder
	runs.WriteString("cpu ns\n")
	many.WriteString("cpu ns\n")
	for i := range 9 {
		fmt.Fprintf(&runs, "task %d: pid=%d tid=%d comm=fib.test\n", i+1, i+100, i+100)
		fmt.Fprintf(&many, "task %d: pid=%d tid=%d comm=prog%d\n", i+1, i+100, i+100, i)
	}
	runs.WriteString("task 10: pid=100 tid=200 comm=worker\n")
	for i := range 9 {
		fmt.Fprintf(&runs, "fib.Fib@fib/fib.go:4|start=3|entry 10 task=%d\n", i+1)
		fmt.Fprintf(&many, "fib.Fib@fib/fib.go:4|start=3|entry %d task=%d\n", 20-i, i+1)
	}
	same := runs.String()
	runs.WriteString("fib.Fib@fib/fib.go:4|start=3|entry 10 task=10\n")
	for _, c := range []struct{ name, cpu, want string }{
		{"one name", same, ""},
		{"two names", runs.String(), "- fib.test (9 threads) 90.0%\n- worker 10.0%\n"},
		{"programs", many.String(), "- prog0 (pid 100) 13.9%\n- prog1 (pid 101) 13.2%\n- prog2 (pid 102) 12.5%\n- prog3 (pid 103) 11.8%\n- prog4 (pid 104) 11.1%\n- others 37.5%\n"},
	} {
		s := start(t, fib, setup{captures: []string{c.cpu}})
		s.Open(s.path("fib/fib.go"))
		_, got, _ := strings.Cut(s.Hover(s.path("fib/fib.go"), "n < 2"), "Threads\n\n")
		got, _, _ = strings.Cut(got, "\n\n")
		if strings.TrimSpace(got) != strings.TrimSpace(c.want) {
			t.Errorf("%s: threads are\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}
