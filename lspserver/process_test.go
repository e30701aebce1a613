package lspserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// A process is asked for, and lines that opened many of its descriptors are diagnostics until it ends.
func TestProcess(t *testing.T) {
	var asked rpc.ProcessParams
	var folder string
	var answer rpc.ProcessResult
	var fail error
	s := start(t, fib, setup{config: func(_ *session, c *lspserver.Config) {
		c.Process = func(_ context.Context, p rpc.ProcessParams, workspace string) (*rpc.ProcessResult, error) {
			asked, folder = p, workspace
			r := answer
			return &r, fail
		}
	}})
	path := s.path("fib/fib.go")
	s.Open(path)
	answer = rpc.ProcessResult{PID: 7, Start: "99", Name: "srv"}
	var raw json.RawMessage
	s.Must(rpc.MethodProcess, rpc.ProcessParams{PID: 7, Leaks: true, Start: "99"}, &raw)
	if asked != (rpc.ProcessParams{PID: 7, Leaks: true, Start: "99"}) || folder == "" || !strings.HasPrefix(path, folder) || strings.Contains(string(raw), "null") {
		t.Errorf("asked for %+v, it answers %s", asked, raw)
	}
	line := func(count int, at int, stale bool) rpc.ProcessLine {
		return rpc.ProcessLine{Count: count, Text: "by fib", Location: &rpc.Location{URI: string(uri.File(path)), Line: at}, Stale: stale}
	}
	answer.Leaks = []rpc.ProcessLeak{{Type: "REG", Name: "/tmp/*", Text: "5000 open, +90 in 3.0 s", Lines: []rpc.ProcessLine{
		line(4812, 3, false), line(100, 2, true), line(3, 1, false), line(100, 99999, false), line(100, -1, false), {Count: 500, Text: "before"},
		{Count: 500, Location: &rpc.Location{URI: "http://x/y"}}, {Count: 500, Location: &rpc.Location{URI: string(uri.File("/none.go"))}},
	}}}
	s.Must(rpc.MethodProcess, rpc.ProcessParams{PID: 7}, nil)
	s.Await(lsptest.Diagnosed(path, 1, `^This line opened 4,812 descriptors that are still open in srv \(7\): REG /tmp/\*, 5000 open`))
	// Edits that are not saved may have moved the line.
	s.Edit(path, lsptest.Edit{New: "// above\n"})
	s.Must(rpc.MethodProcess, rpc.ProcessParams{PID: 7}, nil)
	s.Await(lsptest.Diagnosed(path, 0, ""))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.SetText(path, string(text))
	s.Must(rpc.MethodProcess, rpc.ProcessParams{PID: 7}, nil)
	s.Await(lsptest.Diagnosed(path, 1, "4,812"))
	answer.Leaks, answer.Map = nil, &rpc.ProcessMap{Stacks: []rpc.ProcessStacks{
		{Number: 900, Bytes: 900 << 16, Size: "56.2 MiB", Each: "64.0 KiB each", Line: line(900, 2, false)},
		{Number: 3, Bytes: 300 << 20, Line: line(3, 1, false)}, {Number: 3000, Bytes: 3000, Line: line(3000, 1, false)},
		{Number: 900, Bytes: 900 << 16, Line: line(900, 1, true)}, {Number: 900, Bytes: 900 << 16},
	}}
	s.Must(rpc.MethodProcess, rpc.ProcessParams{PID: 7, Map: true}, &raw)
	if !asked.Map || strings.Contains(string(raw), "null") {
		t.Errorf("asked for %+v, it answers %s", asked, raw)
	}
	s.Await(lsptest.Diagnosed(path, 1, `^Stack of 900 goroutines that this line started in srv \(7\): 64.0 KiB each, 56.2 MiB together`))
	fail = errors.New("process 7 has ended")
	if err := s.Call(rpc.MethodProcess, rpc.ProcessParams{PID: 7}, nil); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("of a process that has ended: %v", err)
	}
	s.Await(lsptest.Diagnosed(path, 0, ""))
	for _, p := range []rpc.ProcessParams{{}, {PID: -1}, {PID: 1, Limit: -1}} {
		if err := s.Call(rpc.MethodProcess, p, nil); err == nil || !strings.Contains(err.Error(), "give ") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	s = start(t, fib, setup{})
	if err := s.Call(rpc.MethodProcess, rpc.ProcessParams{PID: 7}, nil); err == nil || !strings.Contains(err.Error(), "sightline ps") {
		t.Errorf("of a server without it: %v", err)
	}
}
