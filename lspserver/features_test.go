package lspserver_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

func TestLenses(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	for _, f := range []string{"fib/fib.go", "fib/fib_test.go"} {
		s.Open(s.path(f))
		s.checkLenses(f)
		s.Replace(s.path(f), `package fib\n`, "package fib\n\n")
		s.checkLenses(f)
	}
	l := s.Lens(s.path("fib/fib.go"), "#1")
	var to struct{ Range protocol.Range }
	if err := json.Unmarshal(s.Run(l.Command, l.Arguments), &to); err != nil || to.Range.Start.Line != 7 {
		t.Errorf("the lens of Fib leads to line %d (%v), want its hottest, 8", to.Range.Start.Line+1, err)
	}
	s.Await(lsptest.ShownDocument("/fib.go"))
}

// Each kind of lens can be switched off.
func TestLensSettings(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib_test.go"))
	for _, c := range []struct {
		off  string
		want []string
	}{
		{"tests", []string{"5: total 99.0% · 9.9 s", "7: profile", "11: profile", "11: memory"}},
		{"subtests", []string{"5: profile", "5: memory", "5: total 99.0% · 9.9 s", "11: profile", "11: memory"}},
		{"benchmarks", []string{"5: profile", "5: memory", "5: total 99.0% · 9.9 s", "7: profile"}},
		{"functions", []string{"5: profile", "5: memory", "7: profile", "11: profile", "11: memory"}},
		{"memory", []string{"5: profile", "5: total 99.0% · 9.9 s", "7: profile", "11: profile"}},
	} {
		s.Forget()
		s.Configure(map[string]any{"sightline": map[string]any{"lenses": map[string]any{c.off: false}}})
		s.Await(lsptest.Refreshed("codeLens", 1))
		if diff := cmp.Diff(c.want, s.lenses("fib/fib_test.go")); diff != "" {
			t.Errorf("lenses without %s (-want +got):\n%s", c.off, diff)
		}
		s.Forget()
		s.Configure(map[string]any{"sightline": map[string]any{"lenses": map[string]any{c.off: nil}}})
		s.Await(lsptest.Refreshed("codeLens", 1))
	}
}

func TestHover(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	want := "**fib.Fib · #1 of 3 functions**\n\n| | share | time | samples |\n|---|--:|--:|--:|\n" +
		"| self | 79.0% | 7.9 s | 790 ±3.6% |\n| total | 99.0% | 9.9 s | 990 ±3.2% |\n\n" +
		"Called by\n\n- `fib.TestFib` (`fib_test.go:5`) 99.0% · 9.9 s\n\n" +
		"Calls\n\n- `fib.sum` (`fib.go:10`) 20.0% · 2.0 s\n\n" +
		"Threads\n\n- fib.test 79.0%\n- worker (2 threads) 20.0%\n\n\n" +
		"*go test ./fib -run TestFib · profiled 12 min ago*\n\n" +
		"*Kernel frames are not visible: perf_event_paranoid is 2.*"
	if diff := cmp.Diff(want, s.Hover(path, "func Fib")); diff != "" {
		t.Errorf("hover of a function (-want +got):\n%s", diff)
	}
	if got := s.Hover(path, "return n\n"); got != "" {
		t.Errorf("a line without a cost has the hover %q", got)
	}
	if got := s.Hover(path, "Fib\\(n-1"); strings.Contains(got, "command:") {
		t.Errorf("a client that runs no commands gets links to them: %s", got)
	}
}

// Clients that say so get links that run commands; others that show no markdown get plain text.
func TestHoverForms(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{
		Capabilities: `{"experimental": {"sightline": {"commandLinks": true}}}`,
	}})
	s.Open(s.path("fib/fib.go"))
	got := s.Hover(s.path("fib/fib.go"), "Fib\\(n-1")
	if !strings.Contains(got, "[`fib.sum`](command:sightline.goToFrame?%5B%7B%22capture%22") {
		t.Errorf("hover without links:\n%s", got)
	}

	s = start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{
		Capabilities: `{"textDocument": {"hover": {"contentFormat": ["plaintext"]}}}`,
	}})
	s.Open(s.path("fib/fib.go"))
	want := `fib.go:7
self   30.0%  3.0 s  300 samples ±5.8%
total  50.0%  5.0 s  500 samples ±4.5%
called by 50.0% fib.TestFib (fib_test.go:5)
calls 20.0% fib.sum (fib.go:10)
thread fib.test 30.0%
thread worker (2 threads) 20.0%
go test ./fib -run TestFib · profiled 12 min ago
Kernel frames are not visible: perf_event_paranoid is 2.`
	if diff := cmp.Diff(want, s.Hover(s.path("fib/fib.go"), "Fib\\(n-1")); diff != "" {
		t.Errorf("plain hover (-want +got):\n%s", diff)
	}
}

// What limits the numbers is said with them.
func TestHoverWarnings(t *testing.T) {
	s := start(t, fib, setup{before: func(s *session) {
		c := s.capture(`cpu ns
length: 1s
fib.Fib@fib/fib.go:4|start=3 40 count=4
fib.TestFib@fib/fib_test.go:6|start=5|entry;fib.Fib@fib/fib.go:4|start=3 60 count=6
`, nil)
		c.Interrupted = true
		c.Warnings = []profile.Warning{{Kind: profile.WarnLost, Count: 1234, Text: "Samples were lost: lower the frequency."}}
		s.put(c)
	}})
	s.Open(s.path("fib/fib.go"))
	got := s.Hover(s.path("fib/fib.go"), "n < 2")
	for _, want := range []string{
		"The recording was interrupted: its last moments are missing.",
		"40.0% of the time is on stacks whose callers are not known.",
		"Samples were lost: lower the frequency. (1.2k)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the hover does not say %q:\n%s", want, got)
		}
	}
}

func titles(actions []lsptest.Action) (all []string) {
	for _, a := range actions {
		all = append(all, strings.TrimSpace(a.Kind+" "+a.Title))
	}
	return all
}

func TestCodeActions(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU, fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	older, err := s.store.Resolve("@2")
	if err != nil {
		t.Fatal(err)
	}
	source := []string{
		"source.sightline Show what lines cost by themselves",
		"source.sightline Show percent only",
		"source.sightline Show time only",
		"source.sightline Compare with this capture from now on",
		"source.sightline Pin this capture",
		"source.sightline Clear the numbers",
		fmt.Sprintf("source.sightline Show go test ./fib -run TestFib, recorded 12 min ago (%s)", older),
	}
	for _, c := range []struct {
		file, at string
		only     []string
		want     []string
	}{
		{file: "fib/fib_test.go", at: `t.Run`, want: append([]string{
			"Profile TestFib/small", "Profile TestFib", "source.sightline Profile all tests of fib",
			"Go to the hottest line of fib.TestFib (total 99.0% · 9.9 s)", "Next hot line", "Previous hot line",
		}, source...)},
		{file: "fib/fib.go", at: `return Fib`, want: append([]string{
			"source.sightline Profile all tests of fib",
			"Go to the hottest line of fib.Fib (total 99.0% · 9.9 s, self 79.0%, #1)", "Next hot line", "Previous hot line",
		}, source...)},
		{file: "fib/fib.go", at: `return Fib`, only: []string{"source"}, want: append([]string{"source.sightline Profile all tests of fib"}, source...)},
		{file: "fib/fib.go", at: `return Fib`, only: []string{"quickfix", "refactor"}},
	} {
		if diff := cmp.Diff(c.want, titles(s.CodeActions(s.path(c.file), c.at, c.only...))); diff != "" {
			t.Errorf("actions of %s at %s, only %q (-want +got):\n%s", c.file, c.at, c.only, diff)
		}
	}
	var automatic []json.RawMessage
	s.Must(protocol.MethodTextDocumentCodeAction, map[string]any{
		"textDocument": map[string]any{"uri": uri.File(s.path("fib/fib_test.go"))}, "range": protocol.Range{},
		"context": map[string]any{"diagnostics": []any{}, "triggerKind": 2},
	}, &automatic)
	if len(automatic) != 0 {
		t.Errorf("an editor that looks whether to light its bulb gets %s", automatic)
	}
	for _, a := range s.CodeActions(s.path("fib/fib_test.go"), `t.Run`) {
		if strings.HasPrefix(a.Title, "Profile ") {
			continue // needs a recording
		}
		s.Run(a.Command, a.Arguments)
	}
}

// Clients that know no action literals get bare commands.
func TestCodeActionsAsCommands(t *testing.T) {
	s := start(t, fib, setup{Options: lsptest.Options{Capabilities: `{"textDocument": {"codeAction": {"codeActionLiteralSupport": null}}}`}})
	s.Open(s.path("fib/fib_test.go"))
	got := s.CodeActions(s.path("fib/fib_test.go"), `Fib\(30`)
	if diff := cmp.Diff([]string{"Profile TestFib", "Profile all tests of fib"}, titles(got)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestSetMetric(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	for _, c := range []struct {
		arg   any
		state string
		want  []string
	}{
		{"self", `{"capture":"","baseline":"","cleared":false,"metric":"self","unit":"both","kind":""}`, []string{"4: 49.0% · 4.9 s", "7: 30.0% · 3.0 s", "11: 20.0% · 2.0 s"}},
		{map[string]any{"unit": "time"}, `{"capture":"","baseline":"","cleared":false,"metric":"self","unit":"time","kind":""}`, []string{"4: 4.9 s", "7: 3.0 s", "11: 2.0 s"}},
		{map[string]any{"metric": "total", "unit": "percent"}, `{"capture":"","baseline":"","cleared":false,"metric":"total","unit":"percent","kind":""}`, []string{"4: 49.0%", "7: 50.0%", "11: 20.0%"}},
		{nil, `{"capture":"","baseline":"","cleared":false,"metric":"self","unit":"percent","kind":""}`, []string{"4: 49.0%", "7: 30.0%", "11: 20.0%"}},
		{"both", `{"capture":"","baseline":"","cleared":false,"metric":"self","unit":"both","kind":""}`, []string{"4: 49.0% · 4.9 s", "7: 30.0% · 3.0 s", "11: 20.0% · 2.0 s"}},
	} {
		s.Forget()
		got := s.Execute("sightline.setMetric", c.arg)
		if diff := cmp.Diff(c.state, string(got)); diff != "" {
			t.Errorf("setMetric %v (-want +got):\n%s", c.arg, diff)
		}
		s.Await(lsptest.Refreshed("inlayHint", 1))
		s.wantHints("fib/fib.go", c.want...)
	}
}

// A capture of several kinds shows its first until another is chosen; one that lacks the chosen kind
// shows its own.
func TestSetKind(t *testing.T) {
	s := start(t, fib, setup{})
	c := s.capture(fibCPU, nil)
	const alloc = "alloc bytes\nfib.TestFib@fib/fib_test.go:6|start=5|entry;fib.Fib@fib/fib.go:4|start=3 1048576 count=8\n"
	if err := c.Adopt(s.capture(alloc, nil), profile.Alloc, profile.Alloc); err != nil {
		t.Fatal(err)
	}
	s.put(c)
	path := s.path("fib/fib.go")
	s.Open(path)
	s.wantHints("fib/fib.go", "4: 49.0% · 4.9 s", "7: 50.0% · 5.0 s", "11: 20.0% · 2.0 s")
	s.Execute("sightline.setMetric", map[string]any{"kind": "alloc"})
	s.wantHints("fib/fib.go", "4: 100.0% · 1.0 MiB")
	if diff := cmp.Diff([]string{"3: self 100.0% · 1.0 MiB allocated, #1"}, s.lenses("fib/fib.go")); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
	if text := s.Hover(path, `if n < 2`); !strings.Contains(text, "| self | 100.0% | 1.0 MiB | 8 |") || !strings.Contains(text, "| bytes | objects |") {
		t.Errorf("hover: %s", text)
	}
	s.put(s.capture("cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n", nil))
	s.Execute("sightline.openCapture", "@")
	s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	s.Execute("sightline.openCapture", "@2")
	s.wantHints("fib/fib.go", "4: 100.0% · 1.0 MiB")
	s.Execute("sightline.setMetric", "first")
	s.wantHints("fib/fib.go", "4: 49.0% · 4.9 s", "7: 50.0% · 5.0 s", "11: 20.0% · 2.0 s")
	if _, err := s.StartCommand("sightline.setMetric", "heat").Wait(); err == nil || !strings.Contains(err.Error(), "alloc, cpu") {
		t.Errorf("a kind that nothing has: %v", err)
	}
}

// What setMetric chose stays when other settings change, and gives way to the setting itself.
func TestSetMetricAndSettings(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Execute("sightline.setMetric", map[string]any{"metric": "self", "unit": "percent"})
	configure := func(hints map[string]any) {
		t.Helper()
		s.Forget()
		s.Configure(map[string]any{"sightline": map[string]any{"hints": hints}})
		s.Await(lsptest.Refreshed("inlayHint", 1))
	}
	s.Await(lsptest.Refreshed("inlayHint", 1))
	configure(map[string]any{"threshold": 25})
	s.wantHints("fib/fib.go", "4: 49.0%", "7: 30.0%")
	configure(map[string]any{"unit": "time"})
	s.wantHints("fib/fib.go", "4: 4.9 s", "7: 5.0 s")
}

func TestOpenCaptureAndClear(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU, "cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n"}})
	s.Open(s.path("fib/fib.go"))
	s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	old, err := s.store.Resolve("@2")
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range []any{"@2", map[string]any{"capture": string(old)}, map[string]any{"capture": "@2", "root": s.dir}} {
		if got := string(s.Execute("sightline.openCapture", arg)); !strings.Contains(got, string(old)) {
			t.Errorf("openCapture %v answers %s", arg, got)
		}
		s.checkHints("fib/fib.go")
		s.Execute("sightline.openCapture")
		s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	}
	// An opened capture stays, whatever others store.
	s.Execute("sightline.openCapture", "@2")
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.Forget()
	s.put(s.capture("cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry 5\n", nil))
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.checkHints("fib/fib.go")

	s.Execute("sightline.clear")
	s.wantHints("fib/fib.go")
	if got := s.lenses("fib/fib.go"); len(got) != 0 {
		t.Errorf("lenses after clear: %q", got)
	}
	s.Forget()
	s.put(s.capture("cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry 7\n", nil))
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go", "7: 100.0% · 7 ns")
	s.Execute("sightline.clear")
	s.Execute("sightline.openCapture", string(old))
	s.checkHints("fib/fib.go")
}

func TestHotLines(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	go1 := func(command string, line any) string {
		t.Helper()
		args := map[string]any{"uri": uri.File(path)}
		if line != nil {
			args["line"] = line
		}
		var to struct {
			Range protocol.Range
			Shown bool
			Label string
		}
		if err := json.Unmarshal(s.Execute(command, args), &to); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %v %s", to.Range.Start.Line, to.Shown, to.Label)
	}
	for _, c := range []struct {
		command string
		line    any
		want    string
	}{
		{"sightline.nextHotLine", nil, "3 true 49.0% · 4.9 s"},
		{"sightline.nextHotLine", 3, "6 true 50.0% · 5.0 s"},
		{"sightline.nextHotLine", 10, "3 true 49.0% · 4.9 s"},
		{"sightline.nextHotLine", 9999, "3 true 49.0% · 4.9 s"},
		{"sightline.previousHotLine", nil, "10 true 20.0% · 2.0 s"},
		{"sightline.previousHotLine", 6, "3 true 49.0% · 4.9 s"},
		{"sightline.previousHotLine", 3, "10 true 20.0% · 2.0 s"},
		{"sightline.previousHotLine", -5, "10 true 20.0% · 2.0 s"},
	} {
		if got := go1(c.command, c.line); got != c.want {
			t.Errorf("%s from %v leads to %q, want %q", c.command, c.line, got, c.want)
		}
	}
	// A client without showDocument gets the place; one that never answers does not hold us up.
	s = start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{Capabilities: `{"window": {"showDocument": null}}`}})
	path = s.path("fib/fib.go")
	s.Open(path)
	if got := go1("sightline.nextHotLine", nil); got != "3 false 49.0% · 4.9 s" {
		t.Errorf("without showDocument: %q", got)
	}
	s = start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{
		Answers: map[string]func(json.RawMessage) (any, error){protocol.MethodWindowShowDocument: nil},
	}, config: func(_ *session, cfg *lspserver.Config) { cfg.ShowTimeout = 50 * time.Millisecond }})
	path = s.path("fib/fib.go")
	s.Open(path)
	if got := go1("sightline.nextHotLine", nil); got != "3 false 49.0% · 4.9 s" {
		t.Errorf("with a showDocument that is never answered: %q", got)
	}
}

func TestGoToFrame(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	at := func(args map[string]any) string {
		t.Helper()
		var to struct {
			URI   uri.URI
			Range protocol.Range
		}
		if err := json.Unmarshal(s.Execute("sightline.goToFrame", args), &to); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s:%d", filepath.Base(to.URI.FsPath()), to.Range.Start.Line+1)
	}
	if got := at(map[string]any{"capture": "@", "file": "fib/fib.go", "line": 11}); got != "fib.go:11" {
		t.Errorf("a file that is not open: %s", got)
	}
	s.Open(path)
	s.Replace(path, `package fib\n`, "package fib\n\n\n")
	if got := at(map[string]any{"capture": "@", "file": "fib/fib.go", "line": 11}); got != "fib.go:13" {
		t.Errorf("after two lines were added above: %s", got)
	}
	if got := at(map[string]any{"file": "fib/fib_test.go", "line": 6}); got != "fib_test.go:6" {
		t.Errorf("without a capture: %s", got)
	}
	if got := at(map[string]any{"uri": uri.File(path), "line": 99999}); got != "fib.go:18" {
		t.Errorf("past the end: %s", got)
	}
	for args, want := range map[string]string{
		`{"file": "runtime/mgc.go", "capture": "@", "line": 9}`: "there is no source for runtime/mgc.go: not found; map its path with the setting sightline.paths",
		`{"file": "nowhere.go", "line": 9}`:                     "there is no source for nowhere.go on this machine",
		`{"file": "fib/fib.go", "line": 0}`:                     "there is no line 0",
		`{"line": 4}`:                                           `needs either "uri" (a document) or "file"`,
		`{"file": "x", "capture": "zzz", "line": 1}`:            "zzz",
		`{"uri": "file:///no/such/file.go", "line": 1}`:         "no such file",
	} {
		_, err := s.StartCommand("sightline.goToFrame", json.RawMessage(args)).Wait()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("goToFrame %s: %v, want %q", args, err, want)
		}
	}
}

// Whatever the arguments are, the answer is one sentence with the remedy.
func TestBadArguments(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	for _, c := range []struct{ command, args, want string }{
		{"sightline.noSuch", `[]`, `"sightline.noSuch" is no command of this server: it has sightline.clear, `},
		{"sightline.clear", `[{}, {}]`, `sightline.clear takes one object as its only argument, and 2 arguments were given`},
		{"sightline.clear", `[7]`, `sightline.clear: the argument is a number: give one object, like {"uri": …}`},
		{"sightline.clear", `[{"x": 1}]`, `sightline.clear: there is no argument "x": leave it out`},
		{"sightline.setMetric", `["fast"]`, `there is no "fast": give "total" or "self", "both", "percent" or "time", or what a capture has measured: cpu`},
		{"sightline.setMetric", `[{"unit": "fast"}]`, `numbers cannot be written as "fast": give "both", "percent" or "time"`},
		{"sightline.profileTest", `[{"dir": "/tmp", "kinds": ["heat"]}]`, `a test tells nothing of kind "heat": give cpu, heap, block, mutex`},
		{"sightline.setMetric", `[{"metric": "fast"}]`, `there is no metric "fast": give "total" or "self"`},
		{"sightline.setMetric", `[{"metric": 3}]`, `argument "metric" is a number: give a string`},
		{"sightline.nextHotLine", `[{}]`, `needs the argument "uri": give that of an open document`},
		{"sightline.nextHotLine", `[{"uri": "file:///x.go"}]`, `file:///x.go is not open here: send textDocument/didOpen first`},
		{"sightline.nextHotLine", `[{"uri": "untitled:x"}]`, `is no file on this machine`},
		{"sightline.nextHotLine", `[{"uri": 5}]`, `argument "uri" is a number: give a string`},
		{"sightline.nextHotLine", `[{"uri": "file:///x.go", "line": 1.5}]`, `argument "line" is the number 1.5: give a whole number`},
		{"sightline.openCapture", `["@9"]`, `@9`},
		{"sightline.openCapture", `[{"capture": "@", "root": "/nowhere"}]`, `there is no capture "@" of /nowhere: that folder is not open`},
		{"sightline.profileTest", `[]`, `needs either "uri" (a file of the package) or "dir" (its folder)`},
		{"sightline.profileTest", `[{"dir": "fib"}]`, `"fib" is no absolute path`},
		{"sightline.profileTest", `[{"dir": "/no/such/folder"}]`, `there is no folder "/no/such/folder": give one that exists`},
		{"sightline.profileTest", `[{"uri": "git:/x/y.go"}]`, `is no file on this machine`},
		{"sightline.profileTest", `[{"dir": "/tmp", "run": "("}]`, `argument "run" is no regular expression`},
		{"sightline.profileTest", `[{"dir": "/tmp", "bench": "["}]`, `argument "bench" is no regular expression`},
		{"sightline.profileTest", `[{"dir": "/tmp", "args": "-v"}]`, `argument "args" is a string: give a list of strings`},
		{"sightline.record", `[]`, `needs exactly one of "command", "pid" and "machine"`},
		{"sightline.record", `[{"pid": 3, "machine": true}]`, `needs exactly one of`},
		{"sightline.record", `[{"pid": -3}]`, `there is no process -3`},
		{"sightline.record", `[{"machine": "yes"}]`, `argument "machine" is a string: give true or false`},
		{"sightline.record", `[{"command": [""]}]`, `the command has no program`},
		{"sightline.record", `[{"machine": true, "seconds": -1}]`, `-1 seconds`},
		{"sightline.stop", `[]`, `nothing is being recorded: start with sightline.profileTest or sightline.record`},
		{"sightline.discard", `[]`, `nothing is being recorded`},
		{"sightline.profilePackage", `[]`, `needs the argument "uri": give a file of the package`},
		{"sightline.profilePackage", `[{"uri": "untitled:x"}]`, `is no file on this machine`},
		{"sightline.pinCapture", `[{}]`, `sightline.pinCapture needs the argument "capture"`},
		{"sightline.pinCapture", `[{"capture": "@", "pinned": 1}]`, `argument "pinned" is a number: give true or false`},
		{"sightline.noteCapture", `[]`, `sightline.noteCapture needs the argument "capture"`},
		{"sightline.noteCapture", `[{"capture": "@", "note": 3}]`, `argument "note" is a number: give a string`},
		{"sightline.noteCapture", `[{"capture": "@", "note": "` + strings.Repeat("x", 5000) + `"}]`, `the note has 5000 bytes: give one of at most 4096`},
		{"sightline.removeCapture", `[]`, `sightline.removeCapture needs the argument "capture"`},
		{"sightline.removeCapture", `["@9"]`, `@9`},
		{"sightline.setBaseline", `["nothing"]`, `nothing`},
		{"sightline.importFile", `[]`, `"" is no absolute path: give the file's full path as "path"`},
		{"sightline.importFile", `["/tmp/x.pprof"]`, `run "sightline import /tmp/x.pprof" in a terminal`},
	} {
		err := s.Call(protocol.MethodWorkspaceExecuteCommand,
			map[string]any{"command": c.command, "arguments": json.RawMessage(c.args)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.command, c.args, err, c.want)
		}
	}
	s.checkHints("fib/fib.go") // and nothing broke
}

func TestSettings(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{
		InitializationOptions: map[string]any{"hints": map[string]any{"unit": "percent"}},
		Settings: map[string]any{"sightline": map[string]any{
			"hints":   map[string]any{"threshold": 25, "metric": 7},
			"unknown": true,
		}},
	}})
	s.Open(s.path("fib/fib.go"))
	s.Await(
		lsptest.Shown(`^sightline\.hints\.metric is 7: make it "total" or "self"\. It stays as it was\.$`),
		lsptest.Logged(`^sightline\.unknown is no setting of Sightline and has no effect\.$`),
		lsptest.Refreshed("inlayHint", 1),
	)
	s.wantHints("fib/fib.go", "4: 49.0%", "7: 50.0%")
	s.Forget()
	s.Configure(map[string]any{"sightline": map[string]any{"hints": map[string]any{"enable": false}}})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go")
	s.Look(func(st *lsptest.State) {
		if len(st.Messages)+len(st.Logs) > 0 {
			t.Errorf("old mistakes are told again: %v %v", st.Messages, st.Logs)
		}
	})
}

// A client that answers no workspace/configuration sends the settings along.
func TestSettingsSentAlong(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{Capabilities: `{"workspace": {"configuration": null}}`}})
	s.Open(s.path("fib/fib.go"))
	s.checkHints("fib/fib.go")
	s.Configure(map[string]any{"sightline": map[string]any{"hints": map[string]any{"unit": "time"}}})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go", "4: 4.9 s", "7: 5.0 s", "11: 2.0 s")
}

func TestInitialize(t *testing.T) {
	s := start(t, fib, setup{})
	c := s.Result.Capabilities
	if s.Result.ServerInfo.Name != "sightline" {
		t.Errorf("serverInfo is %+v", s.Result.ServerInfo)
	}
	if v, _ := s.Result.ServerInfo.Version.Get(); v != "1.2.3" {
		t.Errorf("the version is %q", v)
	}
	want := []string{
		"sightline.clear", "sightline.createTargets", "sightline.discard", "sightline.goToFrame", "sightline.importFile", "sightline.nextHotLine",
		"sightline.noteCapture", "sightline.openCapture", "sightline.pinCapture", "sightline.previousHotLine",
		"sightline.profilePackage", "sightline.profileTest", "sightline.record", "sightline.recordTarget", "sightline.removeCapture", "sightline.savePreset",
		"sightline.setBaseline", "sightline.setMetric", "sightline.stop",
	}
	if diff := cmp.Diff(want, c.ExecuteCommandProvider.Commands); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if got := string(c.Experimental); !strings.Contains(got, "sightline/lines") {
		t.Errorf("experimental is %s", got)
	}
	if c.DefinitionProvider != nil || c.CompletionProvider != nil || c.ReferencesProvider != nil {
		t.Error("the server competes with the language's own")
	}
}

// What a client does not declare, lsptest takes as a fault of ours; this is what it does declare.
func TestRegistration(t *testing.T) {
	s := start(t, fib, setup{Options: lsptest.Options{Capabilities: `{"workspace": {"didChangeConfiguration": {"dynamicRegistration": true}}}`}})
	s.Await(lsptest.Registered(protocol.MethodWorkspaceDidChangeConfiguration))
}

// Captures of all folders count; folders that are not on this machine are left out.
func TestFolders(t *testing.T) {
	var asked []string
	other := lsptest.NewWorkspace(t, "-- a.go --\npackage a\n", lsptest.WorkspaceOptions{})
	otherStore, err := store.Open(filepath.Join(t.TempDir(), "captures.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, fib, setup{captures: []string{fibCPU}, config: func(s *session, cfg *lspserver.Config) {
		cfg.OpenStore = func(root string) (*store.Store, error) {
			asked = append(asked, root) // only one goroutine of the server opens stores at a time here
			if root == other.Root {
				return otherStore, nil
			}
			return s.store, nil
		}
	}})
	s.Open(s.path("fib/fib.go"))
	s.checkHints("fib/fib.go")
	c := s.capture("cpu ns\np.a@a.go:1|start=1|entry 5\n", func(_ string, src *profile.Source) {
		src.Local, src.Text = other.Path("a.go"), []byte("package a\n")
	})
	if _, err := otherStore.Put(c); err != nil {
		t.Fatal(err)
	}
	s.Open(other.Path("a.go"))
	if got := s.Hints(other.Path("a.go")); len(got) != 1 {
		t.Errorf("a file outside of the open folders has hints %v, want those of its own project", got)
	}
	change := func(added, removed []any) {
		s.Notify(protocol.MethodWorkspaceDidChangeWorkspaceFolders, map[string]any{"event": map[string]any{"added": added, "removed": removed}})
	}
	folder := func(u any) any { return map[string]any{"uri": u, "name": "x"} }
	change([]any{folder(uri.File(other.Root)), folder("vscode-remote://ssh/home"), folder("file://host/share"), folder("file:///no/such/folder")}, []any{})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	if got := s.Hints(other.Path("a.go")); len(got) != 1 {
		t.Errorf("after its folder was added the file has hints %v", got)
	}
	s.Forget()
	change([]any{}, []any{folder(uri.File(s.dir))})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go")
	if slices.Contains(asked, "/share") || slices.Contains(asked, "/no/such/folder") || slices.Contains(asked, "/home") {
		t.Errorf("stores were opened for %q", asked)
	}
}

// Without a folder, the project that an open file lies in is one.
// Folders of one repository share a store: its captures are there once.
func TestFoldersWithOneStore(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU, fibCPU}, before: func(s *session) {}, Options: lsptest.Options{}})
	s.Notify(protocol.MethodWorkspaceDidChangeWorkspaceFolders, map[string]any{"event": map[string]any{
		"added": []any{map[string]any{"uri": uri.File(s.path("fib")), "name": "fib"}}, "removed": []any{},
	}})
	s.Open(s.path("fib/fib.go"))
	s.checkHints("fib/fib.go")
	var captures []rpc.CaptureInfo
	s.Must(rpc.MethodCaptures, nil, &captures)
	if len(captures) != 2 || captures[0].ID <= captures[1].ID {
		t.Errorf("captures are %+v", captures)
	}
	got := string(s.Execute("sightline.openCapture", "@2"))
	if !strings.Contains(got, captures[1].ID) {
		t.Errorf("@2 is %s, want %s", got, captures[1].ID)
	}
	s.Execute("sightline.openCapture", captures[0].ID)
	if _, err := s.StartCommand("sightline.openCapture", "@3").Wait(); err == nil || !strings.Contains(err.Error(), "have 2 captures") {
		t.Errorf("@3: %v", err)
	}
	shown := 0
	for _, a := range s.CodeActions(s.path("fib/fib.go"), "package") {
		if strings.HasPrefix(a.Title, "Show go test") {
			shown++
		}
	}
	if shown != 1 {
		t.Errorf("%d other captures are offered, want 1", shown)
	}
	s.Execute("sightline.clear")
	s.wantHints("fib/fib.go")
}

func TestNoFolder(t *testing.T) {
	roots := make(chan string, 10)
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{Folders: []string{}}, config: func(s *session, cfg *lspserver.Config) {
		open := cfg.OpenStore
		cfg.OpenStore = func(root string) (*store.Store, error) { roots <- root; return open(root) }
	}})
	s.Open(s.path("fib/fib.go"))
	s.checkHints("fib/fib.go")
	if got := <-roots; got != s.dir {
		t.Errorf("the workspace is %s, want %s", got, s.dir)
	}
}

// A store that cannot be read is told of once, in its own words, and the rest works.
func TestBadStore(t *testing.T) {
	s := start(t, fib, setup{config: func(s *session, cfg *lspserver.Config) {
		path := filepath.Join(s.dir, "bad.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a store ", 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg.OpenStore = func(string) (*store.Store, error) { return store.Open(path, store.Options{}) }
	}})
	s.Open(s.path("fib/fib_test.go"))
	s.wantHints("fib/fib_test.go")
	if got := s.lenses("fib/fib_test.go"); len(got) != 5 {
		t.Errorf("lenses on tests are %q", got)
	}
	s.Await(lsptest.Shown(`^No captures for .*bad\.db: the file is not a store of captures; .* move it away`))
	s.Hints(s.path("fib/fib_test.go"))
	s.Look(func(st *lsptest.State) {
		if len(st.Messages) != 1 {
			t.Errorf("messages: %v", st.Messages)
		}
	})
}

func TestExtensions(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{Capabilities: `{"experimental": {"sightline": {"changed": true}}}`}})
	s.Open(s.path("fib/fib.go"))
	var lines rpc.LinesResult
	id := map[string]any{"textDocument": map[string]any{"uri": uri.File(s.path("fib/fib.go"))}}
	s.Must("sightline/lines", id, &lines)
	if lines.Kind != "cpu" || lines.Unit != "ns" || lines.Total != 10e9 || len(lines.Lines) != 3 {
		t.Errorf("lines are %+v", lines)
	} else if l := lines.Lines[0]; l.Line != 3 || l.Self != 4.9e9 || l.Total != 4.9e9 || l.Count != 490 || l.Heat != 0.98 || l.Text != "49.0% · 4.9 s" {
		t.Errorf("line 0 is %+v", l)
	}
	var captures []rpc.CaptureInfo
	s.Execute("sightline.openCapture", "@")
	s.Await(lsptest.Notified("sightline/changed"))
	s.Must("sightline/captures", nil, &captures)
	if len(captures) != 1 || captures[0].Target != "go test ./fib -run TestFib" || !captures[0].Shown || captures[0].Samples != 1000 {
		t.Errorf("captures are %+v", captures)
	}
	for method, params := range map[string]any{"sightline/noSuch": nil, "sightline/lines": nil} {
		if err := s.Call(method, params, nil); err == nil {
			t.Errorf("%s without what it needs is answered", method)
		}
	}
}
