package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

func spawn(t *testing.T) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "RPC_SERVE=1")
	return cmd
}

// TestOrder sends 20,000 edits with calls between them, as fast as it can. Each call must see the
// documents as they were when it was sent, no edit may overtake another, and calls overlap.
func TestOrder(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T) *lsptest.Editor{
		"pipe": func(t *testing.T) *lsptest.Editor { e, _, _ := start(t, lsptest.Options{}, rpc.Options{}); return e },
		"process": func(t *testing.T) *lsptest.Editor {
			return lsptest.Start(t, lsptest.Spawn(t, spawn(t)), lsptest.Options{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := connect(t)
			const edits = 20_000
			calls := map[int]*lsptest.Call{}
			for v := 1; v <= edits; v++ {
				e.Notify(protocol.MethodTextDocumentDidChange, change(v))
				if v%20 == 0 {
					calls[v] = e.Go("sightline/version", nil)
				}
			}
			later := 0
			for v, c := range calls {
				raw, err := c.Wait()
				var saw [2]int
				if err == nil {
					err = json.Unmarshal(raw, &saw)
				}
				if err != nil || saw[0] != v {
					t.Fatalf("the call after edit %d saw %v: %v", v, saw, err)
				}
				if saw[1] > v {
					later++
				}
			}
			var stats map[string]int
			e.Must("sightline/stats", nil, &stats)
			if stats["changes"] != edits || stats["backwards"] != 0 || stats["version"] != edits {
				t.Errorf("%v", stats)
			}
			t.Logf("%d of %d calls ran after a later edit", later, len(calls))
		})
	}
}

// TestSnapshot has a call run after an edit that came later than it.
func TestSnapshot(t *testing.T) {
	e, p, _ := start(t, lsptest.Options{}, rpc.Options{})
	e.Notify(protocol.MethodTextDocumentDidChange, change(1))
	alive(t, e)
	// While the snapshot is taken nothing else may be read, however long it takes.
	first := true
	p.snapshot = func() {
		if !first {
			return
		}
		first = false
		for deadline := time.Now().Add(30 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if p.changes.Load() > 1 {
				t.Error("an edit that came later ran while the snapshot was taken")
				return
			}
		}
	}
	c := e.Go("sightline/version", true)
	e.Notify(protocol.MethodTextDocumentDidChange, change(2))
	alive(t, e)
	close(p.hold)
	if raw, err := c.Wait(); err != nil || string(raw) != "[1,2]" {
		t.Errorf("the call saw, and could have seen, %s: %v; want [1,2]", raw, err)
	}
}

// TestCancelStorm cancels thousands of calls, in any order and more than once, between notifications
// that keep their contexts.
func TestCancelStorm(t *testing.T) {
	e, p, _ := start(t, lsptest.Options{}, rpc.Options{})
	const n = 2000
	var calls []*lsptest.Call
	for range n {
		calls = append(calls, e.Go(protocol.MethodTextDocumentHover, hover(2)))
		e.Notify(protocol.MethodWorkspaceDidChangeWatchedFiles, map[string]any{"changes": []any{}})
	}
	for _, i := range rand.Perm(n) {
		calls[i].Cancel()
		calls[i].Cancel()
		e.Notify(protocol.MethodCancelRequest, map[string]any{"id": 1_000_000 + i})
	}
	for _, bad := range []any{nil, map[string]any{}, map[string]any{"id": nil}, map[string]any{"id": 1.5}, map[string]any{"id": []any{}}, []any{1}} {
		e.Notify(protocol.MethodCancelRequest, bad)
	}
	for _, c := range calls {
		if _, err := c.Wait(); code(err) != -32800 || !strings.Contains(err.Error(), "was cancelled") {
			t.Fatalf("a cancelled call: %v", err)
		}
	}
	alive(t, e)
	if left := p.running.Load(); left != 0 {
		t.Errorf("%d calls still run", left)
	}
	p.kept.Range(func(ctx, cancel any) bool {
		if ctx.(context.Context).Err() != nil {
			t.Error("the context of a notification ended before the connection")
			return false
		}
		cancel.(context.CancelFunc)()
		return true
	})

	// A string id that is used twice at a time: the second call is still known when the first has ended.
	frame := func(method string, params any) {
		e.SendFrame(`{"jsonrpc":"2.0","id":"x","method":"` + method + `","params":` + string(must(json.Marshal(params))) + `}`)
	}
	others := func(n int) lsptest.Expectation {
		return lsptest.Expect("answers to raw messages", func(s *lsptest.State) lsptest.Verdict {
			if len(s.Others) < n {
				return lsptest.Unmet
			}
			return lsptest.Met
		})
	}
	frame("sightline/hold", nil)
	frame(protocol.MethodTextDocumentHover, hover(2))
	alive(t, e)
	close(p.hold)
	e.Await(others(1))
	e.Notify(protocol.MethodCancelRequest, map[string]any{"id": "x"})
	e.Await(others(2))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestPanics sees that a panic anywhere costs one answer and not the connection.
func TestPanics(t *testing.T) {
	e, p, log := start(t, lsptest.Options{}, rpc.Options{})
	for range 3 {
		if err := e.Call(protocol.MethodTextDocumentHover, hover(1), nil); code(err) != -32603 || !strings.Contains(err.Error(), "in a call") {
			t.Errorf("a call that panics: %v", err)
		}
		e.Notify(protocol.MethodTextDocumentDidSave, map[string]any{"textDocument": map[string]any{"uri": "file:///a.go"}})
		e.Notify(protocol.MethodTextDocumentDidClose, map[string]any{"textDocument": map[string]any{"uri": "file:///a.go"}})
		if err := e.Call("sightline/encoderPanics", nil, nil); code(err) != -32603 || !strings.Contains(err.Error(), "in an encoder") {
			t.Errorf("a result whose encoder panics: %v", err)
		}
		if err := e.Call("sightline/unencodable", nil, nil); code(err) != -32603 || !strings.Contains(err.Error(), "cannot be encoded") {
			t.Errorf("a result that is not JSON: %v", err)
		}
		if err := e.Call(protocol.MethodTextDocumentHover, hover(3), nil); code(err) != -32603 || err.Error() != "plainly wrong (-32603)" {
			t.Errorf("a call that fails: %v", err)
		}
	}
	p.snapshot = func() { panic("in the snapshot") }
	if err := e.Call(protocol.MethodTextDocumentHover, hover(0), nil); code(err) != -32603 || !strings.Contains(err.Error(), "in the snapshot") {
		t.Errorf("a snapshot that panics: %v", err)
	}
	e.Notify(protocol.MethodTextDocumentDidChange, change(1)) // the next message orders the write behind the read
	p.snapshot = nil
	alive(t, e)
	for _, want := range []string{"in a call", "in a notification", "in an encoder", "in the snapshot", "probe_test.go", "a notification that fails", "level=ERROR"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not tell of %q:\n%s", want, log)
		}
	}
}

func TestInitializeFails(t *testing.T) {
	for _, how := range []string{"panic", "fail", "nil"} {
		e, _, _ := start(t, lsptest.Options{Raw: true, InitializationOptions: how}, rpc.Options{})
		if err := e.Call(protocol.MethodInitialize, e.InitializeParams(), nil); code(err) != -32603 {
			t.Errorf("%s: initialize: %v", how, err)
		}
		if err := e.Call(protocol.MethodTextDocumentHover, hover(0), nil); code(err) != -32002 {
			t.Errorf("%s: a call after a failed initialize: %v", how, err)
		}
		// The client may try again.
		if err := e.Call(protocol.MethodInitialize, json.RawMessage(`{"capabilities":{}}`), nil); err != nil {
			t.Errorf("%s: a second try: %v", how, err)
		}
		alive(t, e)
	}
}

// TestFlood sends notifications that nobody knows.
func TestFlood(t *testing.T) {
	e, p, _ := start(t, lsptest.Options{}, rpc.Options{})
	for i := range 20_000 {
		e.Notify([]string{"$/unknown", "what/ever", "sightline/unknown", "sightline/ping", "textDocument/hover"}[i%5], map[string]any{"i": i})
	}
	alive(t, e)
	if n := p.pings.Load(); n != 4000 {
		t.Errorf("%d of 4000 notifications of our own came through", n)
	}
}

func TestUnknown(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{}, rpc.Options{})
	for method, want := range map[string]string{
		"what/ever":                     `"what/ever": this server knows no such method (-32601)`,
		"$/unknown":                     `"$/unknown": this server knows no such method (-32601)`,
		"sightline/unknown":             `"sightline/unknown": this server knows no such method (-32601)`,
		strings.Repeat("é", 1000):       `"` + strings.Repeat("é", 40) + `…": this server knows no such method (-32601)`,
		"workspace/configuration":       `"workspace/configuration": this server knows no such method (-32601)`,
		"textDocument/rename":           `textDocument/rename: this server does not offer it (-32601)`,
		"textDocument/didChange":        `textDocument/didChange is a notification: it must not have an id (-32600)`,
		"exit":                          `exit is a notification: it must not have an id (-32600)`,
		"workspace/textDocumentContent": `workspace/textDocumentContent: this server does not offer it (-32601)`,
	} {
		params := map[string]any{"uri": "x:y", "textDocument": map[string]any{"uri": "file:///a"}, "position": map[string]any{"line": 0, "character": 0}, "newName": "x"}
		if err := e.Call(method, params, nil); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", method, err, want)
		}
	}
	for _, method := range []string{"what/ever", "sightline/unknown"} {
		if err := e.Call(method, nil, nil); code(err) != -32601 {
			t.Errorf("%s without parameters: %v", method, err)
		}
	}
	alive(t, e)
}

// TestParams gives known methods parameters that cannot be used.
func TestParams(t *testing.T) {
	e, p, log := start(t, lsptest.Options{}, rpc.Options{})
	const doc = `"textDocument":{"uri":"file:///a"}`
	for _, c := range []struct{ method, params, want string }{
		{"textDocument/hover", ``, "textDocument/hover: the parameters are missing"},
		{"textDocument/hover", `null`, "textDocument/hover: the parameters are missing"},
		{"textDocument/hover", `{}`, "textDocument/hover: the parameters lack textDocument.uri"},
		{"textDocument/hover", `[]`, "textDocument/hover: the parameters lack textDocument.uri"},
		{"textDocument/hover", `{"textDocument":{"uri":""},"position":{"line":1,"character":1}}`, "lack textDocument.uri"},
		{"textDocument/hover", `{"textDocument":null}`, "lack textDocument.uri"},
		{"textDocument/hover", `{` + doc + `}`, "lack position.line"},
		{"textDocument/hover", `{` + doc + `,"position":{"line":1}}`, "lack position.character"},
		{"textDocument/hover", `{` + doc + `,"position":{"line":-1,"character":0}}`, "textDocument/hover: the parameters do not fit: "},
		{"textDocument/hover", `{` + doc + `,"position":{"line":1.5,"character":0}}`, "do not fit"},
		{"textDocument/hover", `{` + doc + `,"position":{"line":"1","character":0}}`, "do not fit"},
		{"textDocument/hover", `{` + doc + `,"position":{"line":99999999999,"character":0}}`, "do not fit"},
		{"textDocument/inlayHint", `{` + doc + `,"range":{"start":{"line":1,"character":0}}}`, "lack range.end.line"},
		{"textDocument/codeAction", `{` + doc + `,"range":{"start":{"line":1,"character":0},"end":{"line":1,"character":0}}}`, "lack context"},
		{"workspace/executeCommand", `{"arguments":[]}`, "workspace/executeCommand: the parameters lack command"},
		{"workspace/executeCommand", `{"command":5}`, "do not fit"},
		{"sightline/number", `"x"`, "sightline/number: the parameters do not fit: json: cannot unmarshal string into Go value of type int"},
	} {
		var params any
		if c.params != "" {
			params = json.RawMessage(c.params)
		}
		if err := e.Call(c.method, params, nil); code(err) != -32602 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %s", c.method, c.params, err, c.want)
		}
	}
	for _, params := range []string{`{}`, `[1]`, `"x"`, `{` + doc + `,"contentChanges":[]}`, `{"textDocument":{"uri":"file:///a","version":"x"},"contentChanges":[]}`} {
		e.Notify(protocol.MethodTextDocumentDidChange, json.RawMessage(params))
	}
	e.Notify(protocol.MethodTextDocumentDidChange, nil)
	e.Notify(protocol.MethodWorkspaceDidChangeConfiguration, nil)
	e.Notify(protocol.MethodInitialized, nil)
	alive(t, e)
	if n := p.changes.Load(); n != 0 {
		t.Errorf("%d malformed edits came through", n)
	}
	for _, want := range []string{"lack textDocument.uri", "lack textDocument.version", "parameters are missing", "do not fit"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not tell of %q:\n%s", want, log)
		}
	}
	var n int
	if err := e.Call("sightline/number", 7, &n); err != nil || n != 7 {
		t.Errorf("good parameters: %d, %v", n, err)
	}
	if err := e.Call("sightline/number", nil, &n); err != nil || n != 0 {
		t.Errorf("no parameters: %d, %v", n, err)
	}
}

// TestMalformed sends what is no message, between messages that are.
func TestMalformed(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{}, rpc.Options{MaxMessage: 1 << 20})
	for _, c := range []struct {
		raw  string
		code int
		say  string
	}{
		{frame(`{"jsonrpc":"2.0","id":1,"method":`), -32700, "the message is not JSON"},
		{frame(`hello`), -32700, "the message is not JSON"},
		{frame(`{"jsonrpc":"2.0","id":1,"method":"sightline/ping","params":{"a":[1,}}`), -32700, "the message is not JSON"},
		{frame(`{"jsonrpc":"2.0","method":"sightline/ping"} {}`), -32700, "the message is not JSON"},
		{frame(`[]`), -32600, "no batches"},
		{frame(`[{"jsonrpc":"2.0","id":1,"method":"sightline/ping"}]`), -32600, "no batches"},
		{frame(`5`), -32600, "not a JSON object"},
		{frame(`{}`), -32600, `no "jsonrpc": "2.0"`},
		{frame(`{"jsonrpc":"1.0","method":"sightline/ping"}`), -32600, `no "jsonrpc": "2.0"`},
		{frame(`{"jsonrpc":"2.0"}`), -32600, "neither a request nor an answer"},
		{frame(`{"jsonrpc":"2.0","id":{},"method":"sightline/ping"}`), -32600, "neither a string nor an integer"},
		{frame(`{"jsonrpc":"2.0","id":1.5,"method":"sightline/ping"}`), -32600, "neither a string nor an integer"},
		{frame(`{"jsonrpc":"2.0","method":5}`), -32600, "neither a request nor an answer"},
		{"Content-Length: 99999999999\r\n\r\n", -32700, "the message has 99999999999 bytes; 1048576 are the limit"},
		{"Content-Length: x\r\n\r\n", -32700, "not a number of bytes"},
		{"\r\n", -32700, "no Content-Length"},
		{"GET / HTTP/1.1\r\n\r\n", -32700, "not of the form Name: value"},
		// A length too great takes in what follows, and gives it back.
		{"Content-Length: 100\r\n\r\n{}" + frame(`{"jsonrpc":"2.0","method":"$/x"}`) + frame(`{"jsonrpc":"2.0","method":"$/x"}`), -32700, "the message is not JSON"},
	} {
		e.Forget()
		e.SendRaw([]byte(c.raw))
		alive(t, e)
		e.Await(lsptest.Refused(c.code))
		e.Look(func(s *lsptest.State) {
			if len(s.Refusals) != 1 || !strings.Contains(s.Refusals[0].Message, c.say) {
				t.Errorf("%q: refused with %+v, want %q", c.raw, s.Refusals, c.say)
			}
		})
	}
	// With an id that can be made out, the answer bears it.
	e.Forget()
	e.SendFrame(`{"jsonrpc":"2.0","id":"me","method":5}`)
	e.SendFrame(`{"id":77777,"method":"sightline/ping"}`)
	e.SendFrame(`{"jsonrpc":"2.0","id":"empty","method":""}`)
	answered := func(n int) lsptest.Expectation {
		return lsptest.Expect(fmt.Sprintf("%d raw messages are answered", n), func(s *lsptest.State) lsptest.Verdict {
			if len(s.Others) < n {
				return lsptest.Unmet
			}
			return lsptest.Met
		})
	}
	e.Await(answered(3))
	e.Look(func(s *lsptest.State) {
		for i, want := range []string{`"id":"me","error":{"code":-32600`, `"id":77777,"error":{"code":-32600`, `"id":"empty","error":{"code":-32601`} {
			if !strings.Contains(string(s.Others[i]), want) {
				t.Errorf("answer %q, want %q", s.Others[i], want)
			}
		}
	})
	// A frame in pieces.
	body := frame(`{"jsonrpc":"2.0","method":"sightline/ping"}`)
	for i := range body {
		e.SendRaw([]byte{body[i]})
	}
	var stats map[string]int
	e.Must("sightline/stats", nil, &stats)
	if stats["pings"] != 1 {
		t.Errorf("%v", stats)
	}
	// Strings that are not UTF-8, and members that come twice, are taken.
	e.SendFrame("{\"jsonrpc\":\"2.0\",\"id\":9,\"id\":88888,\"method\":\"sightline/echo\",\"params\":\"\xff\"}")
	e.Await(answered(4))
	e.Look(func(s *lsptest.State) {
		if last := s.Others[len(s.Others)-1]; !strings.Contains(string(last), `"id":88888,"result"`) {
			t.Errorf("answer %q", last)
		}
	})
}

func frame(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

// TestMalformedAnswer sees that an answer which cannot be read ends the call that waits for it.
func TestMalformedAnswer(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{Answers: map[string]func(json.RawMessage) (any, error){protocol.MethodWorkspaceConfiguration: nil}}, rpc.Options{CallTimeout: time.Hour})
	c := e.Go("sightline/ask", nil)
	e.Await(lsptest.Asked(protocol.MethodWorkspaceConfiguration))
	e.SendFrame(`{"jsonrpc":"2.0","id":1,"error":"no"}`)
	e.SendFrame(`{"jsonrpc":"2.0","id":99999,"params":{}}`) // no answer, but a call without a method
	if raw, err := c.Wait(); err != nil || !strings.Contains(string(raw), "neither a request nor an answer") {
		t.Errorf("%s %v", raw, err)
	}
	for _, stray := range []string{`{"jsonrpc":"2.0","id":1,"result":[]}`, `{"jsonrpc":"2.0","id":999,"result":[]}`, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}`} {
		e.SendFrame(stray)
	}
	alive(t, e)
}

// TestConcurrentCalls sends from many goroutines at once.
func TestConcurrentCalls(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{}, rpc.Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				want := fmt.Sprintf("%d/%d/é𝄞", g, i)
				raw, err := e.Go("sightline/echo", want).Wait()
				if err != nil || string(raw) != string(must(json.Marshal(want))) {
					t.Errorf("echo of %q: %s, %v", want, raw, err)
					return
				}
				if i%10 == 0 {
					e.Go(protocol.MethodTextDocumentHover, hover(2)).Cancel()
				}
			}
		})
	}
	wg.Wait()
}

// TestClientSilent is a client that does not answer: a call to it ends at its deadline, says so, and
// is taken back.
func TestClientSilent(t *testing.T) {
	e, _, _ := start(t, lsptest.Options{Answers: map[string]func(json.RawMessage) (any, error){protocol.MethodWorkspaceConfiguration: nil}}, rpc.Options{CallTimeout: 20 * time.Millisecond})
	var s string
	e.Must("sightline/ask", nil, &s)
	if !strings.HasPrefix(s, "workspace/configuration: the client did not answer within 20ms: context deadline exceeded after false") {
		t.Errorf("%q", s)
	}
	e.Await(lsptest.Notified(protocol.MethodCancelRequest))
	alive(t, e)
}

// TestClientDeaf is a client that writes and does not read. The server goes on reading, and gives up
// when too much is unread.
func TestClientDeaf(t *testing.T) {
	ours, theirs := net.Pipe()
	made, exit := make(chan *probe, 1), make(chan int, 1)
	go func() {
		exit <- rpc.Serve(context.Background(), theirs, func(c rpc.Client) rpc.Server { p := newProbe(c); made <- p; return p }, rpc.Options{MaxUnread: 1 << 20})
	}()
	p := <-made
	write := func(body string) error { _, err := io.WriteString(ours, frame(body)); return err }
	if err := write(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`); err != nil {
		t.Fatal(err)
	}
	for v := 1; v <= 1000; v++ { // each is read though the answer to initialize is not
		if err := write(`{"jsonrpc":"2.0","method":"textDocument/didChange","params":` + string(must(json.Marshal(change(v)))) + `}`); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 10_000)
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"sightline/echo","params":%q}`, i+2, long))
	}
	if err == nil {
		t.Error("100 MB are unread and the connection still stands")
	}
	if code := <-exit; code != 1 {
		t.Errorf("exit code %d", code)
	}
	if n := p.changes.Load(); n != 1000 {
		t.Errorf("%d of 1000 edits were read", n)
	}
	if p.shutdowns.Load() != 1 || p.exits.Load() != 1 {
		t.Errorf("%d shutdowns, %d exits", p.shutdowns.Load(), p.exits.Load())
	}
}

// TestUnsupported sees that a client is not asked for what it did not declare.
func TestUnsupported(t *testing.T) {
	made := make(chan rpc.Client, 1)
	conn := lsptest.Connect(t, func(c rpc.Client) rpc.Server { made <- c; return newProbe(c) }, rpc.Options{})
	e := lsptest.Start(t, conn, lsptest.Options{Raw: true})
	c := <-made
	if got := c.Encoding(); got != rpc.UTF16 {
		t.Errorf("encoding before initialize: %v", got)
	}
	if err := e.Call(protocol.MethodInitialize, json.RawMessage(`{"capabilities":{}}`), nil); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	work := c.Begin(ctx, rpc.Work{Title: "x"})
	work.Report("a", 1)
	work.End("b")
	if work.Shown() {
		t.Error("progress is shown to a client that shows none")
	}
	_, config := c.Configuration(ctx, &protocol.ConfigurationParams{})
	_, folders := c.WorkspaceFolders(ctx)
	_, edit := c.ApplyEdit(ctx, &protocol.ApplyWorkspaceEditParams{})
	_, show := c.ShowDocument(ctx, &protocol.ShowDocumentParams{})
	for name, err := range map[string]error{
		"configuration": config, "folders": folders, "edit": edit, "show": show, "hints": c.InlayHintRefresh(ctx), "lenses": c.CodeLensRefresh(ctx),
		"diagnostics": c.DiagnosticRefresh(ctx), "folding": c.FoldingRangeRefresh(ctx), "tokens": c.SemanticTokensRefresh(ctx), "values": c.InlineValueRefresh(ctx),
		"content": c.TextDocumentContentRefresh(ctx, &protocol.TextDocumentContentRefreshParams{}), "progress": c.WorkDoneProgressCreate(ctx, &protocol.WorkDoneProgressCreateParams{Token: protocol.String("x")}),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	alive(t, e)
	e.Look(func(s *lsptest.State) {
		if len(s.Asked) != 0 || len(s.Notified) != 0 {
			t.Errorf("asked %v, notified %v", s.Asked, s.Notified)
		}
	})
}
