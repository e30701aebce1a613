package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.lsp.dev/uri"
)

// A wire is an editor that looks at nothing but the answer it waits for, so that what is measured
// is the server and the pipe and not an editor's own work. For what an editor sees, see lsptest.
type wire struct {
	b     *testing.B
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	id    int
	begun time.Time // right before the process was made
	came  time.Time // when the last byte of the latest message had been read, before it was decoded
	// Settings answer workspace/configuration, whatever the section.
	settings any
}

// StartWire starts a server in a folder.
func startWire(b *testing.B, dir string, settings any, args ...string) *wire {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	w := &wire{b: b, cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<20), begun: time.Now(), settings: settings}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return w
}

// Initialize does the handshake and returns how long after the start of the process it was answered.
func (w *wire) initialize(dir string) time.Duration {
	w.b.Helper()
	folder := map[string]any{"uri": uri.File(dir), "name": "bench"}
	w.call("initialize", map[string]any{
		"processId": os.Getpid(), "rootUri": folder["uri"], "workspaceFolders": []any{folder},
		"initializationOptions": w.settings,
		"capabilities": map[string]any{
			"workspace":    map[string]any{"configuration": true, "workspaceFolders": true, "inlayHint": map[string]any{"refreshSupport": true}},
			"textDocument": map[string]any{"inlayHint": map[string]any{"dynamicRegistration": false}},
		},
	})
	took := w.came.Sub(w.begun)
	w.notify("initialized", map[string]any{})
	return took
}

// End says good-bye and waits for the process.
func (w *wire) end() {
	w.b.Helper()
	w.call("shutdown", nil)
	w.notify("exit", nil)
	w.in.Close()
	io.Copy(io.Discard, w.out)
	w.cmd.Wait()
}

func (w *wire) notify(method string, params any) {
	w.b.Helper()
	w.send(map[string]any{"method": method, "params": params})
}

// Call sends a call and waits for its answer, answering meanwhile what the server asks.
func (w *wire) call(method string, params any) json.RawMessage {
	w.b.Helper()
	w.id++
	w.send(map[string]any{"id": w.id, "method": method, "params": params})
	for {
		m := w.receive()
		switch {
		case m.Method != "" && m.ID != nil:
			w.answer(m)
		case m.Method != "":
		case string(m.ID) == strconv.Itoa(w.id):
			if m.Error != nil {
				w.b.Fatalf("%s: %s", method, m.Error)
			}
			return m.Result
		}
	}
}

type wireMessage struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
}

func (w *wire) answer(m wireMessage) {
	w.b.Helper()
	var result any
	if m.Method == "workspace/configuration" {
		var p struct{ Items []json.RawMessage }
		if err := json.Unmarshal(m.Params, &p); err != nil {
			w.b.Fatal(err)
		}
		all := make([]any, len(p.Items))
		for i := range all {
			all[i] = w.settings
		}
		result = all
	}
	w.send(map[string]any{"id": m.ID, "result": result})
}

func (w *wire) send(m map[string]any) {
	w.b.Helper()
	m["jsonrpc"] = "2.0"
	if p, given := m["params"]; given && p == nil {
		delete(m, "params")
	}
	body, err := json.Marshal(m)
	if err == nil {
		_, err = fmt.Fprintf(w.in, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	if err != nil {
		w.b.Fatalf("write to %v: %v", w.cmd.Args, err)
	}
}

func (w *wire) receive() (m wireMessage) {
	w.b.Helper()
	head, err := textproto.NewReader(w.out).ReadMIMEHeader()
	if err != nil {
		w.b.Fatalf("read from %v: %v", w.cmd.Args, err)
	}
	n, err := strconv.Atoi(head.Get("Content-Length"))
	if err != nil {
		w.b.Fatalf("read from %v: %v", w.cmd.Args, err)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.out, body); err != nil {
		w.b.Fatalf("read from %v: %v", w.cmd.Args, err)
	}
	w.came = time.Now()
	if err := json.Unmarshal(body, &m); err != nil {
		w.b.Fatalf("read from %v: %v", w.cmd.Args, err)
	}
	return m
}
