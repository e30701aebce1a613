package lsptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// TestMain makes this test binary the server that Spawn starts.
func TestMain(m *testing.M) {
	if os.Getenv("LSPTEST_SERVE") != "" {
		rwc, err := rpc.Stdio()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Println("this must not reach the editor")
		os.Exit(rpc.Serve(context.Background(), rwc, func(c rpc.Client) rpc.Server { return newTiny(c) }, rpc.Options{}))
	}
	os.Exit(m.Run())
}

const source = `
-- go.mod --
module example.com/tiny

go 1.26
-- a.go --
package tiny

func é𝄞() { //@ lens("Profile é𝄞")
	x := "𝄞" // cost40 //@ hint("40%"), self(">30%")
	y := "é"	// cost7 //@ hint("7%") total("5..10%")
	// wasteful //@ diag("wasteful$")
	z() //@ nohint
}
`

func start(t *testing.T, opts Options, spoil ...func(*tiny)) (*Editor, string) {
	t.Helper()
	w := NewWorkspace(t, source, WorkspaceOptions{})
	opts.Folders = []string{w.Root}
	e := Start(t, Connect(t, func(c rpc.Client) rpc.Server {
		s := newTiny(c)
		for _, f := range spoil {
			f(s)
		}
		return s
	}, rpc.Options{}), opts)
	return e, w.Path("a.go")
}

func TestEveryEditor(t *testing.T) {
	want := map[string]rpc.Encoding{"vscode": rpc.UTF16, "nvim-0.10": rpc.UTF16, "nvim-0.12": rpc.UTF8, "helix": rpc.UTF8, "eglot": rpc.UTF8}
	if got := Editors(); len(got) != len(want) {
		t.Errorf("editors %q", got)
	}
	for _, name := range Editors() {
		for _, crlf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/crlf=%v", name, crlf), func(t *testing.T) {
				w := NewWorkspace(t, source, WorkspaceOptions{CRLF: crlf, NoFinalNewline: crlf})
				a := w.Path("a.go")
				e := Start(t, Connect(t, func(c rpc.Client) rpc.Server { return newTiny(c) }, rpc.Options{}),
					Options{Editor: name, Folders: []string{w.Root}, Settings: map[string]any{"tiny": map[string]any{"name": "T"}}})
				if e.Encoding != want[name] {
					t.Errorf("encoding %v, want %v", e.Encoding, want[name])
				}
				e.Open(a)
				e.Await(Logged(`name \["T"\] <nil>`))
				CheckHints(t, e, a)
				CheckDiagnostics(t, e, a)
				CheckShares(t, e, a)
				if e.HasLenses {
					CheckLenses(t, e, a)
				}
				// Everything again after edits in the middle of wide characters.
				e.Replace(a, `"𝄞" // cost40 //@ hint\("40%"\), self\(">30%"\)`, `"𝄞𝄞é" // cost41 //@ hint("41%"), self(">40%")`)
				e.Replace(a, `\tz\(\)`, "\tinserted() // cost3 //@ hint(\"3%\")\r\n\tz()")
				e.Edit(a, Edit{0, 0, "// é\n"}, Edit{len("package "), len("package "), "𝄞"})
				CheckHints(t, e, a)
				CheckShares(t, e, a)
				CheckDiagnostics(t, e, a)
				if got := e.Hover(a, `(𝄞𝄞)é`); got != "at 𝄞" {
					t.Errorf("hover %q", got)
				}
			})
		}
	}
}

func TestWork(t *testing.T) {
	e, a := start(t, Options{Editor: "nvim-0.12", Choose: func(protocol.ShowMessageRequestParams) string { return "Yes" }})
	e.Open(a)

	lens := e.Lens(a, "Profile")
	if got := e.Run(lens.Command, lens.Arguments); string(got) != `"ok"` {
		t.Errorf("result %s", got)
	}
	e.Await(Begun("Working"), Reported("Working", "half"), Ended("Working on", "^done$"), Refreshed("inlayHint", 1), Refreshed("codeLens", 1), NoWork(), NoErrorShown(), ShownDocument("report.md"))
	e.Await(OnceMet(Ended("Working"), Begun("Working")))

	e.Forget()
	if n := e.Refreshes("inlayHint"); n != 0 {
		t.Errorf("%d refreshes after Forget", n)
	}
	call := e.StartCommand("tiny.work", "long")
	e.Await(OnceMet(Begun("long"), NotRefreshed("inlayHint")))
	e.CancelWork("long")
	if raw, err := call.Wait(); err != nil || string(raw) != `"kept"` {
		t.Errorf("stopped work: %s %v", raw, err)
	}
	e.Await(Ended("long", "stopped"))

	e.Forget()
	call = e.StartCommandWithToken("mine", "tiny.work", "long")
	e.Await(Begun("long"))
	call.Cancel()
	var wire *Error
	if _, err := call.Wait(); !errors.As(err, &wire) || wire.Code != -32800 {
		t.Errorf("cancelled work: %v", err)
	}
	e.Await(Ended("long", "dropped"))

	if got := e.Execute("tiny.ask"); string(got) != `"Yes"` {
		t.Errorf("asked: %s", got)
	}
	e.Await(Shown("really"))
	if got := e.Execute("tiny.edit", uri.File(a)); string(got) != "true" {
		t.Errorf("edit: %s", got)
	}
	if got := e.Text(a); !strings.HasPrefix(got, "first é𝄞\nsecond\nfunc é𝄞") {
		t.Errorf("text after an edit of the server: %q", got)
	}
	if got := e.Hover(a, "second"); got != "at seco" {
		t.Errorf("the server does not know its own edit: hover %q", got)
	}
	actions := e.CodeActions(a, "second")
	want := []Action{{Title: "Profile it", Kind: "source.profile", Command: "tiny.work", Arguments: []json.RawMessage{json.RawMessage(`"it"`)}}, {Title: "Ask", Command: "tiny.ask"}}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Error(diff)
	}
	e.Save(a)
	e.Await(Logged("saved file://"))
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	e.Await(ConnectionEnded())
}

func TestTooltip(t *testing.T) {
	for editor, want := range map[string]string{"vscode": "more of line 4", "nvim-0.10": "", "nvim-0.12": "more of line 4", "helix": ""} {
		e, a := start(t, Options{Editor: editor})
		e.Open(a)
		if got := e.Tooltip(e.Hints(a)[0]); got != want {
			t.Errorf("%s: tooltip %q, want %q", editor, got, want)
		}
	}
}

func TestAnnotated(t *testing.T) {
	e, a := start(t, Options{})
	e.OpenText(a, "a\nb cost1\r\nc\n")
	if got, want := e.Annotated(a), "a\nb cost1  « 1% »\nc\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := HintLines(e, a); got != "2: 1%" {
		t.Errorf("%q", got)
	}
}

// TestSpawned is a session with a process, over its standard input and output.
func TestSpawned(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spawn := func() *Editor {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "LSPTEST_SERVE=1")
		return Start(t, Spawn(t, cmd), Options{})
	}
	e := spawn()
	e.OpenText("/tmp/x.go", "cost5\n")
	if got := HintLines(e, "/tmp/x.go"); got != "1: 5%" {
		t.Errorf("%q", got)
	}
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit code %d after shutdown", code)
	}
	if got := e.conn.Stderr(); !strings.Contains(got, "must not reach") {
		t.Errorf("what was printed is not on standard error: %q", got)
	}
	if code := spawn().Hangup(); code != 1 {
		t.Errorf("exit code %d after hanging up", code)
	}
	if code := func() int { e := spawn(); e.Notify("exit", nil); e.Await(ConnectionEnded()); return e.Wait() }(); code != 1 {
		t.Errorf("exit code %d after exit without shutdown", code)
	}
}

// TestFaults puts a server wrong in every way that the editor has to notice.
func TestFaults(t *testing.T) {
	opened := func(f func(rpc.Client)) func(*tiny) { return func(s *tiny) { s.afterOpen = f } }
	progress := func(c rpc.Client, token, value string) {
		_ = c.Progress(t.Context(), &protocol.ProgressParams{Token: protocol.String(token), Value: protocol.LSPAny(value)})
	}
	create := func(c rpc.Client, token string) {
		_ = c.WorkDoneProgressCreate(t.Context(), &protocol.WorkDoneProgressCreateParams{Token: protocol.String(token)})
	}
	done := func(c rpc.Client) { _ = c.Notify(t.Context(), "sightline/done", nil) }
	for name, c := range map[string]struct {
		editor string
		spoil  func(*tiny)
		fault  string
	}{
		"hint behind the line": {"vscode", func(s *tiny) {
			s.hintAt = func(t *rpc.Text, line int) protocol.Position {
				return protocol.Position{Line: uint32(line), Character: 999}
			}
		}, "a hint in .* which the document does not have"},
		"hint in the wrong encoding": {"vscode", func(s *tiny) {
			s.hintAt = func(t *rpc.Text, line int) protocol.Position { return t.EndOf(rpc.UTF8, line) }
		}, "a hint in "},
		"hint elsewhere": {"vscode", func(s *tiny) {
			s.hintAt = func(t *rpc.Text, line int) protocol.Position { return protocol.Position{} }
		}, "was not asked for"},
		"unknown token": {"vscode", opened(func(c rpc.Client) { progress(c, "none", `{"kind":"end"}`); done(c) }), "token that nobody made"},
		"no begin":      {"vscode", opened(func(c rpc.Client) { create(c, "a"); progress(c, "a", `{"kind":"report"}`); done(c) }), "before its beginning"},
		"two ends": {"vscode", opened(func(c rpc.Client) {
			create(c, "a")
			progress(c, "a", `{"kind":"begin","title":"x"}`)
			progress(c, "a", `{"kind":"end"}`)
			progress(c, "a", `{"kind":"end"}`)
			done(c)
		}), "after its end"},
		"backwards": {"vscode", opened(func(c rpc.Client) {
			create(c, "a")
			progress(c, "a", `{"kind":"begin","title":"x"}`)
			progress(c, "a", `{"kind":"report","percentage":5}`)
			progress(c, "a", `{"kind":"report","percentage":4}`)
			done(c)
		}), "goes backwards"},
		"undeclared registration": {"nvim-0.12", opened(func(c rpc.Client) {
			_ = c.RegisterCapability(t.Context(), &protocol.RegistrationParams{Registrations: []protocol.Registration{{ID: "x", Method: "workspace/didChangeWatchedFiles"}}})
			done(c)
		}), "did not declare dynamicRegistration"},
		"a client's notification": {"vscode", opened(func(c rpc.Client) { _ = c.Notify(t.Context(), "textDocument/didOpen", nil); done(c) }), "which only clients send"},
		"diagnostic nowhere": {"vscode", opened(func(c rpc.Client) {
			_ = c.PublishDiagnostics(t.Context(), &protocol.PublishDiagnosticsParams{URI: "file:///tiny.go", Diagnostics: []protocol.Diagnostic{
				{Range: protocol.Range{Start: protocol.Position{Line: 70}, End: protocol.Position{Line: 70}}, Message: protocol.String("x")}}})
			done(c)
		}), "a diagnostic in"},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := start(t, Options{Editor: c.editor, Lenient: true}, c.spoil)
			e.OpenText("/tiny.go", "x\n𝄞é cost1\n")
			if strings.HasPrefix(name, "hint") {
				e.HintsIn("/tiny.go", 2, 2)
			} else {
				e.Await(Notified("sightline/done"))
			}
			if faults := e.Faults(); len(faults) != 1 || !matches(c.fault, faults[0]) {
				t.Errorf("faults %q, want one like %q", faults, c.fault)
			}
		})
	}
}

// TestUndeclared sees that what an editor does not declare is a fault to ask for.
func TestUndeclared(t *testing.T) {
	conn, server := pipe()
	e := Start(t, conn, Options{Editor: "eglot", Raw: true, Lenient: true})
	fmt.Fprint(server, frame(`{"jsonrpc":"2.0","id":1,"method":"workspace/codeLens/refresh"}`))
	e.Await(Asked("workspace/codeLens/refresh"))
	if faults := e.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "did not declare") {
		t.Errorf("faults %q", faults)
	}
}

// TestWireFaults are faults of the wire itself.
func TestWireFaults(t *testing.T) {
	for name, c := range map[string]struct{ bytes, fault string }{
		"a stray print":        {"hello\n" + frame(`{}`), "not a frame"},
		"no CR":                {"Content-Length: 2\n\n{}", "not a frame"},
		"half a body":          {"Content-Length: 20\r\n\r\n{}", "after 2 of 20 bytes"},
		"half a header":        {"Content-Len", "within a header"},
		"not JSON":             {frame(`{"a`), "not JSON"},
		"no version":           {frame(`{"method":"$/x"}`), "not JSON-RPC 2.0"},
		"result without an id": {frame(`{"jsonrpc":"2.0","id":null,"result":1}`), "answer without id"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, server := pipe()
			e := Start(t, conn, Options{Raw: true, Lenient: true})
			fmt.Fprint(server, c.bytes)
			server.Close()
			e.Await(ConnectionEnded())
			if faults := e.Faults(); len(faults) != 1 || !strings.Contains(faults[0], c.fault) {
				t.Errorf("faults %q, want one with %q", faults, c.fault)
			}
			if !strings.Contains(e.Dump(), "FAULT") {
				t.Error("the dump does not show the fault")
			}
		})
	}
	t.Run("second answer", func(t *testing.T) {
		conn, server := pipe()
		e := Start(t, conn, Options{Raw: true, Lenient: true})
		call := e.Go("x/y", nil)
		fmt.Fprint(server, frame(`{"jsonrpc":"2.0","id":1,"result":1}`)+frame(`{"jsonrpc":"2.0","id":1,"result":1}`))
		server.Close()
		e.Await(ConnectionEnded())
		if raw, err := call.Wait(); err != nil || string(raw) != "1" {
			t.Errorf("%s %v", raw, err)
		}
		if err := e.Call("x/z", nil, nil); !errors.Is(err, ErrEnded) {
			t.Errorf("a call after the end: %v", err)
		}
		if faults := e.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "answered again") {
			t.Errorf("faults %q", faults)
		}
	})
}

// TestUnmeetable sees that waiting for what cannot come fails at once.
func TestUnmeetable(t *testing.T) {
	e, a := start(t, Options{})
	e.Open(a)
	e.Execute("tiny.work", "short")
	for what, x := range map[string]Expectation{
		"another end":   Ended("short", "^failed$"),
		"too late":      OnceMet(Ended("short"), NotRefreshed("inlayHint")),
		"none possible": AnyOf(Ended("short", "^a$"), Ended("short", "^b$")),
	} {
		e.Await(Refreshed("codeLens", 1))
		if failed := failsAs(t, e, func(testing.TB) { e.Await(x) }); failed == "" {
			t.Errorf("%s: did not fail", what)
		} else if !strings.Contains(failed, "cannot come") {
			t.Errorf("%s: failed with %q", what, failed)
		}
	}
	if code := e.Shutdown(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if failed := failsAs(t, e, func(testing.TB) { e.Await(Shown("never")) }); !strings.Contains(failed, "cannot come") {
		t.Errorf("after the end: %q", failed)
	}
}

// TestSurprises sees that checks by markers are one to one.
func TestSurprises(t *testing.T) {
	e, a := start(t, Options{})
	for text, want := range map[string]string{
		"x cost1\n":                                  `+ 	"1: 1%"`,
		"x cost1 //@ hint(\"2%\")\n":                 `"1: 2%"`,
		"x //@ hint(\"2%\")\n":                       `- 	"1: 2%"`,
		"x #@ self(\">1%\")\n":                       "0.0 %",
		"x cost9 #@ hint(\"9%\") total(\"1..8%\")\n": "9.0 %",
		"x wasteful\n":                               "not marked",
		"x //@ diag(\"x\")\n":                        "no such diagnostic",
		"func a()\n":                                 "Profile a",
		"x //@ lens(\"Profile\")\n":                  "Profile",
		"x //@ hind(\"y\")\n":                        `there is no marker "hind"`,
	} {
		e.OpenText(a, text)
		failed := failsAs(t, e, func(tb testing.TB) {
			CheckHints(tb, e, a)
			CheckLenses(tb, e, a)
			CheckDiagnostics(tb, e, a)
			if strings.Contains(text, "self") || strings.Contains(text, "total") {
				CheckShares(tb, e, a)
			}
		})
		if !strings.Contains(strings.ReplaceAll(failed, "\u00a0", " "), want) {
			t.Errorf("%q: failed with %q, want %q", text, failed, want)
		}
		e.CloseFile(a)
	}
}

func TestWorkspace(t *testing.T) {
	w := NewWorkspace(t, "-- a/b.go --\nx\ny //@ nohint\n-- c.go --\nz\n", WorkspaceOptions{CRLF: true, NoFinalNewline: true})
	if got := w.Read(t, "a/b.go"); got != "x\r\ny //@ nohint" {
		t.Errorf("%q", got)
	}
	if got := w.Marked(t); !slices.Equal(got, []string{"a/b.go"}) {
		t.Errorf("marked %q", got)
	}
	w.Write(t, "c.go", "new")
	if got := w.Read(t, "c.go"); got != "new" {
		t.Errorf("%q", got)
	}
	if !filepath.IsAbs(w.Path("c.go")) {
		t.Error("a path is not absolute")
	}
	if failed := fails(t, func(tb testing.TB) { NewWorkspace(tb, "-- ../x --\n", WorkspaceOptions{Into: t.TempDir()}) }); !strings.Contains(failed, "leads out") {
		t.Errorf("a name outside of the workspace: %q", failed)
	}
}

// fails runs f with a TB that takes note of failures, and returns what they said.
func fails(t *testing.T, f func(testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); f(r) }()
	<-done
	return strings.Join(r.said, "\n")
}

// failsAs is fails for what an editor says of itself.
func failsAs(t *testing.T, e *Editor, f func(testing.TB)) string {
	return fails(t, func(tb testing.TB) {
		set := func(tb testing.TB) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.t = tb
		}
		set(tb)
		defer set(t)
		f(tb)
	})
}

// pipe is a connection to a server that the test plays itself.
func pipe() (Connection, net.Conn) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	return Connection{ReadWriteCloser: ours, Wait: func() (int, error) { return 0, nil }}, theirs
}

func frame(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

func matches(expr, s string) bool { return regexp.MustCompile(expr).MatchString(s) }

type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) { r.said = append(r.said, fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
func (r *recorder) Fatal(args ...any) { r.Error(args...); runtime.Goexit() }
