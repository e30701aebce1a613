package lspserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/store"
)

// largeFile is a Go file of so many lines, a tenth of which have a cost, and the text of the profile.
func largeFile(lines, samples int) (text, cpu string) {
	var src, prof strings.Builder
	src.WriteString("package big\n")
	prof.WriteString("cpu ns\nlength: 100s\n")
	for i := 2; i <= lines; i++ {
		switch i % 10 {
		case 2:
			fmt.Fprintf(&src, "func f%d(n int) int {\n", i)
		case 1:
			src.WriteString("}\n")
		default:
			fmt.Fprintf(&src, "\tn = n*%d + len(\"é %d\") // some words as people write them\n", i, i)
		}
	}
	for i := range samples {
		f := 10*(i*7919%(lines/10-1)) + 2
		if i%4 > 0 { // three quarters of the time are spent in ten functions
			f = 10*(i%10*37) + 2
		}
		fmt.Fprintf(&prof, "main@main.go:3|entry;f%d@big.go:%d|start=%d 1000000\n", f, f+3+i/10%5, f)
	}
	return src.String(), prof.String()
}

// BenchmarkHintsAfterEdit is one keystroke at the top of an annotated file: the change, and all hints
// of the file as they are then. Budget: 5 ms for 5,000 lines.
func BenchmarkHintsAfterEdit(b *testing.B) {
	for _, c := range []struct {
		name, key string
		threshold float64
	}{
		{"lines=5000/typing", "x", 1}, {"lines=5000/newline", "\n", 1}, {"lines=5000/newline/threshold=0", "\n", 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			text, cpu := largeFile(5000, 20000)
			s := start(b, "-- big.go --\n"+text, setup{captures: []string{cpu}})
			w := connectWire(b, s)
			u := uri.File(s.path("big.go"))
			w.call(1, "initialize", map[string]any{"capabilities": map[string]any{}, "rootUri": uri.File(s.dir), "processId": nil,
				"initializationOptions": map[string]any{"hints": map[string]any{"threshold": c.threshold}}})
			w.notify("initialized", map[string]any{})
			w.notify("textDocument/didOpen", map[string]any{"textDocument": map[string]any{"uri": u, "languageId": "go", "version": 1, "text": text}})
			all := map[string]any{"textDocument": map[string]any{"uri": u}, "range": protocol.Range{End: protocol.Position{Line: 1 << 20}}}
			want := bytes.Count(w.call(2, "textDocument/inlayHint", all), []byte(`"label"`))
			if want < 30 {
				b.Fatalf("the file has only %d hints", want)
			}
			at := protocol.Position{Line: 1}
			n := 2
			for b.Loop() {
				n++
				w.notify("textDocument/didChange", map[string]any{
					"textDocument":   map[string]any{"uri": u, "version": n},
					"contentChanges": []any{map[string]any{"text": c.key, "range": protocol.Range{Start: at, End: at}}},
				})
				w.call(n, "textDocument/inlayHint", all)
			}
			b.ReportMetric(float64(want), "hints")
		})
	}
}

// BenchmarkInitialize is from a new connection to the answer to initialize, in one process. Budget:
// 50 ms from the start of the program.
func BenchmarkInitialize(b *testing.B) {
	for b.Loop() {
		conn := lsptest.Connect(b, func(c rpc.Client) rpc.Server { return lspserver.New(c, lspserver.Config{}) }, rpc.Options{})
		e := lsptest.Start(b, conn, lsptest.Options{Raw: true})
		e.Initialize()
		b.StopTimer()
		e.Hangup()
		b.StartTimer()
	}
}

// BenchmarkFirstHint is the server's part from the end of a recording to its first hints: it hears
// that a capture is stored, reads it, and answers. Budget: 300 ms with all that comes before, for
// 100,000 samples.
func BenchmarkFirstHint(b *testing.B) {
	text, cpu := largeFile(5000, 100000)
	s := start(b, "-- big.go --\n"+text, setup{})
	path := s.path("big.go")
	s.Open(path)
	c := s.capture(cpu, nil)
	for b.Loop() {
		b.StopTimer()
		call := s.StartCommand("sightline.profileTest", map[string]any{"dir": s.dir})
		run := s.started()
		id := s.put(c)
		b.StartTimer()
		run.finish(lspserver.Result{ID: id}, nil)
		if _, err := call.Wait(); err != nil {
			b.Fatal(err)
		}
		s.Hints(path)
	}
}

// A wire is a client that looks at nothing: what a benchmark measures is the server, with its
// encoding and its pipe, and not a fake editor's checks.
type wire struct {
	b    *testing.B
	conn net.Conn
	r    *bufio.Reader
}

func connectWire(b *testing.B, s *session) *wire {
	ours, theirs := net.Pipe()
	cfg := lspserver.Config{OpenStore: func(string) (*store.Store, error) { return s.store, nil }}
	done := make(chan int)
	go func() {
		done <- rpc.Serve(context.Background(), theirs, func(c rpc.Client) rpc.Server { return lspserver.New(c, cfg) }, rpc.Options{})
	}()
	b.Cleanup(func() { ours.Close(); <-done })
	return &wire{b, ours, bufio.NewReaderSize(ours, 1<<20)}
}

func (w *wire) send(m map[string]any) {
	m["jsonrpc"] = "2.0"
	body, err := json.Marshal(m)
	if err == nil {
		_, err = fmt.Fprintf(w.conn, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	if err != nil {
		w.b.Fatal(err)
	}
}

func (w *wire) notify(method string, params any) {
	w.send(map[string]any{"method": method, "params": params})
}

// call sends a call and returns the answer's bytes; other messages on the way are dropped.
func (w *wire) call(id int, method string, params any) []byte {
	w.send(map[string]any{"id": id, "method": method, "params": params})
	for {
		header, err := textproto.NewReader(w.r).ReadMIMEHeader()
		if err != nil {
			w.b.Fatal(err)
		}
		n, err := strconv.Atoi(header.Get("Content-Length"))
		if err != nil {
			w.b.Fatal(err)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(w.r, body); err != nil {
			w.b.Fatal(err)
		}
		if bytes.Contains(body, []byte(`"result"`)) {
			return body
		}
	}
}
