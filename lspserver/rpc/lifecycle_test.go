package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

func TestLifecycle(t *testing.T) {
	e, p, _ := start(t, lsptest.Options{Raw: true}, rpc.Options{})
	for _, method := range []string{"textDocument/hover", "shutdown", "what/ever", "sightline/echo"} {
		if err := e.Call(method, nil, nil); code(err) != -32002 {
			t.Errorf("%s before initialize: %v", method, err)
		}
	}
	e.Notify(protocol.MethodTextDocumentDidChange, change(1))
	if err := e.Call(protocol.MethodInitialize, nil, nil); code(err) != -32602 {
		t.Errorf("initialize without parameters: %v", err)
	}
	e.Initialize()
	if p.changes.Load() != 0 {
		t.Error("an edit before initialize came through")
	}
	if err := e.Call(protocol.MethodInitialize, e.InitializeParams(), nil); code(err) != -32600 {
		t.Errorf("a second initialize: %v", err)
	}
	e.Must(protocol.MethodShutdown, nil, nil)
	for _, method := range []string{"textDocument/hover", "shutdown", "initialize", "sightline/echo"} {
		if err := e.Call(method, nil, nil); code(err) != -32600 {
			t.Errorf("%s after shutdown: %v", method, err)
		}
	}
	e.Notify(protocol.MethodTextDocumentDidChange, change(2))
	e.Notify(protocol.MethodExit, nil)
	if code := e.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if p.changes.Load() != 0 {
		t.Error("an edit after shutdown came through")
	}
	if p.shutdowns.Load() != 1 || p.exits.Load() != 1 {
		t.Errorf("%d shutdowns, %d exits", p.shutdowns.Load(), p.exits.Load())
	}
}

// TestEnds are the ways in which a session ends without shutdown: the server is shut down all the
// same, and running calls end.
func TestEnds(t *testing.T) {
	for name, end := range map[string]func(e *lsptest.Editor) int{
		"exit":   func(e *lsptest.Editor) int { e.Notify(protocol.MethodExit, nil); return e.Wait() },
		"hangup": func(e *lsptest.Editor) int { return e.Hangup() },
		"half a message, hangup": func(e *lsptest.Editor) int {
			e.SendRaw([]byte("Content-Length: 10\r\n\r\n{"))
			return e.Hangup()
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, p, log := start(t, lsptest.Options{}, rpc.Options{Grace: 50 * time.Millisecond})
			for range 3 {
				e.Go(protocol.MethodTextDocumentHover, hover(2))
			}
			e.Must("sightline/stats", nil, nil)
			if code := end(e); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if p.shutdowns.Load() != 1 || p.exits.Load() != 1 || p.running.Load() != 0 {
				t.Errorf("%d shutdowns, %d exits, %d calls that still run", p.shutdowns.Load(), p.exits.Load(), p.running.Load())
			}
			if name != "exit" && !strings.Contains(log.String(), "the c") {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestStubborn is a server that does not shut down and has a call that heeds nothing.
func TestStubborn(t *testing.T) {
	e, p, log := start(t, lsptest.Options{}, rpc.Options{Grace: 20 * time.Millisecond})
	p.onShutdown = func(ctx context.Context) error { <-p.hold; return nil }
	defer close(p.hold)
	e.Go("sightline/hold", nil)
	if code := e.Hangup(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"not done in time", "left behind"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not tell %q:\n%s", want, log)
		}
	}
}

func TestShutdownFails(t *testing.T) {
	e, p, _ := start(t, lsptest.Options{Raw: true}, rpc.Options{})
	p.onShutdown = func(context.Context) error { panic("in shutdown") }
	e.Initialize()
	if err := e.Call(protocol.MethodShutdown, nil, nil); code(err) != -32603 {
		t.Errorf("shutdown: %v", err)
	}
	e.Notify(protocol.MethodExit, nil)
	if code := e.Wait(); code != 0 {
		t.Errorf("exit code %d: it was asked to shut down", code)
	}
}

// TestToldToStop ends the context that Serve was given.
func TestToldToStop(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	defer w.Close()
	made, exit := make(chan *probe, 1), make(chan int, 1)
	go func() {
		exit <- rpc.Serve(ctx, rwc{r, io.Discard}, func(c rpc.Client) rpc.Server { p := newProbe(c); made <- p; return p }, rpc.Options{})
	}()
	p := <-made
	fmt.Fprint(w, frame(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`))
	fmt.Fprint(w, frame(`{"jsonrpc":"2.0","method":"initialized"}`))
	cancel()
	if code := <-exit; code != 1 {
		t.Errorf("exit code %d", code)
	}
	if p.shutdowns.Load() != 1 || p.exits.Load() != 1 {
		t.Errorf("%d shutdowns, %d exits", p.shutdowns.Load(), p.exits.Load())
	}
}

type rwc struct {
	*io.PipeReader
	io.Writer
}

// TestOrphan ends the process that initialize named.
func TestOrphan(t *testing.T) {
	parent := exec.Command("sleep", "1000")
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	e, p, _ := start(t, lsptest.Options{ProcessID: parent.Process.Pid}, rpc.Options{})
	alive(t, e)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	e.Await(lsptest.ConnectionEnded())
	if code := e.Wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if p.shutdowns.Load() != 1 {
		t.Errorf("%d shutdowns", p.shutdowns.Load())
	}
}

// TestNoSuchParent names a process that there is not, as an editor in another container does.
func TestNoSuchParent(t *testing.T) {
	e, _, log := start(t, lsptest.Options{ProcessID: 1<<22 + 1}, rpc.Options{})
	alive(t, e)
	if !strings.Contains(log.String(), "is not watched") {
		t.Errorf("log: %s", log)
	}
}

// TestPiped gives a server process its messages as a file: the answers of calls under way when the
// input ends still come out.
func TestPiped(t *testing.T) {
	cmd := spawn(t)
	var in strings.Builder
	in.WriteString(frame(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{}}}`))
	for i := range 200 {
		in.WriteString(frame(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"sightline/%s"}`, i+1, []string{"echo", "slow"}[i%2])))
	}
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("the process ended with %v", err)
	}
	if n := len(regexp.MustCompile(`"result":"nothing"`).FindAll(out, -1)); n != 200 {
		t.Errorf("%d of 200 calls were answered", n)
	}
}

func TestTrace(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{Trace: "verbose"}, rpc.Options{})
	traced := func(message, verbose string) lsptest.Expectation {
		m, v := regexp.MustCompile(message), regexp.MustCompile(verbose)
		return lsptest.Expect("trace of "+message, func(s *lsptest.State) lsptest.Verdict {
			for _, x := range s.Traces {
				if m.MatchString(x.Message) && (verbose == "") == (x.Verbose == nil) && (x.Verbose == nil || v.MatchString(*x.Verbose)) {
					return lsptest.Met
				}
			}
			return lsptest.Unmet
		})
	}
	alive(t, e)
	e.Await(traced(`^received call sightline/echo \(#2\)$`, `"method":"sightline/echo"`), traced(`^sent answer sightline/echo \(#2\) after .*s$`, `"result":"nothing"`))
	e.Notify(protocol.MethodSetTrace, map[string]any{"value": "messages"})
	e.Must("sightline/ask", nil, nil)
	e.Await(traced("^sent call workspace/configuration", ""), traced("^received answer workspace/configuration", ""))
	_ = e.Call("what/ever", nil, nil)
	e.Await(traced("^sent answer what/ever .*no such method", ""))
	e.Notify(protocol.MethodSetTrace, map[string]any{"value": "off"})
	alive(t, e)
	e.Forget()
	alive(t, e)
	e.Look(func(s *lsptest.State) {
		if len(s.Traces) != 0 {
			t.Errorf("traces after off: %v", s.Traces)
		}
	})
}

func TestProgress(t *testing.T) {
	made := make(chan rpc.Client, 1)
	conn := lsptest.Connect(t, func(c rpc.Client) rpc.Server { made <- c; return newProbe(c) }, rpc.Options{})
	e := lsptest.Start(t, conn, lsptest.Options{Editor: "nvim-0.12"})
	c := <-made
	cancelled := make(chan string, 9)
	ctx, cancel := context.WithCancel(t.Context())
	work := c.Begin(ctx, rpc.Work{Title: "Recording", Message: "now", Cancellable: true, OnCancel: func() { cancelled <- "once" }})
	cancel() // what was begun can be reported and ended though its context has ended
	work.Report("10 samples", 10)
	work.Report("20 samples", -1)
	work.Report("200 samples", 200)
	e.Await(lsptest.Begun("Recording"), lsptest.Reported("Recording", "200 samples"))
	e.CancelWork("Recording")
	e.CancelWork("Recording")
	if got := <-cancelled; got != "once" {
		t.Error(got)
	}
	alive(t, e)
	if len(cancelled) != 0 {
		t.Error("OnCancel was called again")
	}
	work.End("kept")
	work.End("again")
	work.Report("after the end", 5)
	e.Await(lsptest.Ended("Recording", "^kept$"))
	alive(t, e)
	if !work.Shown() {
		t.Error("it says that it is not shown")
	}

	// A client that refuses to make a token is not bothered with it.
	conn = lsptest.Connect(t, func(c rpc.Client) rpc.Server { made <- c; return newProbe(c) }, rpc.Options{})
	e = lsptest.Start(t, conn, lsptest.Options{Answers: map[string]func(json.RawMessage) (any, error){
		protocol.MethodWindowWorkDoneProgressCreate: func(json.RawMessage) (any, error) { return nil, errors.New("no") },
	}})
	work = (<-made).Begin(t.Context(), rpc.Work{Title: "x"})
	work.End("y")
	alive(t, e)
	if work.Shown() {
		t.Error("a refused token is used")
	}
}

// Whoever wants to is told of each request, and of each panic, whose report the person is told of.
func TestRequestsAndPanicsAreTold(t *testing.T) {
	var mu sync.Mutex
	var received, panicked []string
	e, _, _ := start(t, lsptest.Options{Lenient: true}, rpc.Options{
		Received: func(method string) {
			mu.Lock()
			defer mu.Unlock()
			received = append(received, method)
		},
		Panicked: func(method string, value any, stack []byte) string {
			mu.Lock()
			defer mu.Unlock()
			panicked = append(panicked, fmt.Sprint(method, ": ", value))
			if !strings.Contains(string(stack), "probe_test.go") {
				t.Errorf("the stack is\n%s", stack)
			}
			return "/state/report.txt"
		},
	})
	if err := e.Call("sightline/encoderPanics", nil, nil); err == nil {
		t.Error("a call that panics was answered")
	}
	e.Await(lsptest.Shown("^sightline/encoderPanics met a fault.*/state/report.txt$"))
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(received, "initialize") || !slices.Contains(received, "sightline/encoderPanics") {
		t.Errorf("received %v", received)
	}
	if want := []string{"sightline/encoderPanics: in an encoder"}; !slices.Equal(panicked, want) {
		t.Errorf("panicked %v, want %v", panicked, want)
	}
}
