package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/profiler/profile"
)

var benchLoad = flag.Duration("load", 10*time.Second, "how long the benchmark of a daemon with many clients lasts")

// DaemonFolder is a project with a file of 5,700 lines, of which a capture in its store gives every third
// a cost.
func daemonFolder(b *testing.B) (dir, file string) {
	b.Helper()
	dir = workDir(b)
	file = filepath.Join(dir, "long.go")
	b.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	var text strings.Builder
	text.WriteString("package long\n")
	c := profile.NewCapture(profile.Target{Command: []string{"./long"}, Dir: dir}, time.Now())
	c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.FileCode, Path: "/tmp/long"})
	c.Symbols.Frames, c.Symbols.Of = make([]profile.Frame, 1), make([][]profile.FrameID, 1)
	series := profile.Series{Kind: profile.CPU, Unit: profile.Nanoseconds, Period: 1_001_001}
	for line := 2; line <= 5700; line++ {
		switch line % 10 {
		case 2:
			fmt.Fprintf(&text, "func f%d(a []int) (s int) {\n", line)
		case 1:
			text.WriteString("}\n")
		default:
			fmt.Fprintf(&text, "\ts += a[%d]\n", line)
		}
		if line%3 != 0 {
			continue
		}
		id := len(c.Locations)
		c.Symbols.Frames = append(c.Symbols.Frames, profile.Frame{Func: fmt.Sprintf("long.f%d", line/10*10+2), File: file, Line: line, Module: "long"})
		c.Symbols.Of = append(c.Symbols.Of, []profile.FrameID{profile.FrameID(id)})
		c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: uint64(line)})
		stack := c.Stacks.Intern(0, profile.LocationID(id))
		for range line%7 + 1 {
			series.Samples.Append(profile.Sample{Stack: stack, Time: time.Duration(series.Samples.Len()), Count: 1, Weight: 1_001_001})
		}
	}
	c.Series = []profile.Series{series}
	c.Symbols.Sources = []profile.Source{{Path: file, Local: file, Text: []byte(text.String())}}
	for name, content := range map[string]string{"long.go": text.String(), "go.mod": "module example.com/long\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	st, err := openStore(dir)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := st.Put(c); err != nil {
		b.Fatal(err)
	}
	return dir, file
}

// BenchDaemon gives a benchmark a daemon of its own, which the first client starts.
func benchDaemon(b *testing.B) (bin string) {
	bin = sightlineBinary(b)
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv(noDaemonVariable, "")
	b.Setenv("XDG_RUNTIME_DIR", run)
	b.Cleanup(func() {
		if out, err := exec.Command(bin, "daemon", "stop").CombinedOutput(); err != nil {
			b.Errorf("end the daemon: %v\n%s", err, out)
		}
		os.RemoveAll(run)
	})
	return bin
}

// DaemonOf is the status of the daemon that runs.
func daemonOf(b *testing.B, bin string) daemonStatus {
	b.Helper()
	var s statusOut
	if err := json.Unmarshal([]byte(mustOutput(b, "/", bin, "daemon", "status", "--json")), &s); err != nil || !s.Running {
		b.Fatalf("no daemon runs: %v", err)
	}
	return s.daemonStatus
}

// BenchmarkDaemonStart is BenchmarkInitialize through a daemon: from the start of the process that the
// editor starts to its answer to initialize, where it has to start the daemon, and where one runs.
func BenchmarkDaemonStart(b *testing.B) {
	dir, _ := daemonFolder(b)
	bin := benchDaemon(b)
	starts := max(20, *benchRounds)
	for _, how := range []string{"new", "running"} {
		b.Run("daemon="+how, func(b *testing.B) {
			var took []float64
			for i := range starts + 1 {
				w := startWire(b, dir, map[string]any{}, bin, "serve")
				ms := milliseconds(w.initialize(dir))
				w.end()
				if how == "new" {
					mustOutput(b, "/", bin, "daemon", "stop")
				}
				if i > 0 {
					took = append(took, ms)
				}
			}
			report(b, figure{median(took), "initialize-ms"}, figure{quantile(took, 0.95), "p95-ms"}, figure{float64(len(took)), "runs"})
		})
	}
}

// BenchmarkDaemonLoad has eight editors and four clients of the command line ask one daemon fifty times a
// second each while it records: hints of the lines on the screen above all, and in turns hovers, lenses
// and all hints of a file of more than 5,000 lines. `make soak` lets it last for ten minutes.
func BenchmarkDaemonLoad(b *testing.B) {
	const editors, commands, every = 8, 4, 20 * time.Millisecond
	dir, file := daemonFolder(b)
	bin := benchDaemon(b)
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	busy := exec.Command("sh", "-c", "while :; do :; done")
	if err := busy.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { busy.Process.Kill(); busy.Wait() }()

	document := map[string]any{"uri": uri.File(file)}
	lines := strings.Count(string(text), "\n")
	wires := make([]*wire, editors)
	for i := range wires {
		wires[i] = startWire(b, dir, map[string]any{}, bin, "serve")
		wires[i].initialize(dir)
		wires[i].notify("textDocument/didOpen", map[string]any{"textDocument": map[string]any{"uri": document["uri"], "languageId": "go", "version": 1, "text": string(text)}})
	}
	wires[0].send(map[string]any{"id": -1, "method": "workspace/executeCommand", "params": map[string]any{
		"command": "sightline.record", "arguments": []any{map[string]any{"pid": busy.Process.Pid, "seconds": benchLoad.Seconds()}},
	}})
	pid := daemonOf(b, bin).PID

	var hints, commandsTook []float64
	var mu sync.Mutex // guards them
	var all sync.WaitGroup
	var late, failed atomic.Int64
	end := time.Now().Add(*benchLoad)
	pace := func(f func(n int) (ms float64, isHint bool)) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		var took, other []float64
		for n := 0; time.Now().Before(end); n++ {
			<-tick.C
			ms, isHint := f(n)
			if ms > milliseconds(every) {
				late.Add(1)
			}
			if isHint {
				took = append(took, ms)
			} else {
				other = append(other, ms)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		hints, commandsTook = append(hints, took...), append(commandsTook, other...)
	}
	ask := func(first, last int) map[string]any {
		return map[string]any{"textDocument": document, "range": map[string]any{
			"start": map[string]any{"line": first, "character": 0}, "end": map[string]any{"line": last, "character": 0}}}
	}
	for i, w := range wires {
		all.Go(func() {
			pace(func(n int) (float64, bool) {
				begin, hint := time.Now(), true
				switch n % 10 {
				case 7:
					hint = false
					w.call("textDocument/hover", map[string]any{"textDocument": document, "position": map[string]any{"line": (n * 7) % lines, "character": 2}})
				case 8:
					hint = false
					w.call("textDocument/codeLens", map[string]any{"textDocument": document})
				case 9:
					w.call("textDocument/inlayHint", ask(0, lines))
				default:
					at := (n*60 + i*700) % (lines - 60)
					w.call("textDocument/inlayHint", ask(at, at+60))
				}
				return milliseconds(w.came.Sub(begin)), hint
			})
		})
	}
	st, err := openStore(dir)
	if err != nil {
		b.Fatal(err)
	}
	place, err := daemon.Find(os.Getenv, strings.TrimSuffix(filepath.Base(daemonOf(b, bin).Socket), ".sock"))
	if err != nil {
		b.Fatal(err)
	}
	defer place.Close()
	for range commands {
		all.Go(func() { // what a command sends; the start of its process is no work of the daemon's
			pace(func(n int) (float64, bool) {
				begin := time.Now()
				wants := []string{wantStatus, wantChanged}[n%2]
				conn, err := daemon.Dial(place, daemon.Hello{Wants: wants, PID: os.Getpid()}, answerWithin)
				if err == nil && wants == wantChanged {
					err = conn.Send(storeChanged{st.Path()})
				}
				if err == nil {
					err = conn.Receive(&json.RawMessage{})
					conn.Close()
				}
				if err != nil {
					failed.Add(1)
				}
				return milliseconds(time.Since(begin)), false
			})
		})
	}
	// The first fifth warms the daemon up. Its memory goes up and down with the garbage of requests, so
	// that what it has in the second fifth is compared with what it has in the last.
	var memory [5][]float64
	for begin := time.Now(); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if rss := residentBytes(pid); rss > 0 {
			fifth := min(int(time.Since(begin)*5 / *benchLoad), 4)
			memory[fifth] = append(memory[fifth], float64(rss)/1e6)
		}
	}
	all.Wait()
	warm, last := median(memory[1]), median(memory[4])
	most := 0.0
	for _, m := range memory[1:] {
		most = max(most, slices.Max(m))
	}
	for _, w := range wires {
		w.end()
	}
	if failed.Load() > 0 {
		b.Errorf("%d requests of commands came to nothing", failed.Load())
	}
	report(b, figure{quantile(hints, 0.99), "p99-hints-ms"}, figure{median(hints), "hints-ms"}, figure{quantile(commandsTook, 0.99), "p99-other-ms"},
		figure{float64(len(hints) + len(commandsTook)), "requests"}, figure{float64(len(hints)+len(commandsTook)) / benchLoad.Seconds(), "requests/s"},
		figure{float64(failed.Load()), "errors"}, figure{float64(late.Load()), "late"},
		figure{warm, "rss-warm-MB"}, figure{last, "rss-end-MB"}, figure{most, "rss-peak-MB"}, figure{100 * (last - warm) / warm, "rss-growth-%"})
}

// BenchmarkDaemonIdle is the memory of a daemon that an editor has asked for a list of a thousand
// captures, and that nobody asks any more.
func BenchmarkDaemonIdle(b *testing.B) {
	dir, _ := daemonFolder(b)
	st, err := openStore(dir)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		c := profile.NewCapture(profile.Target{Command: []string{"./prog", fmt.Sprint(i)}}, time.Now())
		c.Series = []profile.Series{{Kind: profile.CPU, Unit: profile.Nanoseconds}}
		for f := range 30 {
			c.Symbols.Sources = append(c.Symbols.Sources, profile.Source{Path: fmt.Sprintf("/src/package%d/file%d.go", f%7, f), Note: "not found"})
		}
		if _, err := st.Put(c); err != nil {
			b.Fatal(err)
		}
	}
	bin := benchDaemon(b)
	w := startWire(b, dir, map[string]any{}, bin, "serve")
	w.initialize(dir)
	var list []json.RawMessage
	if err := json.Unmarshal(w.call("sightline/captures", nil), &list); err != nil || len(list) != 1001 {
		b.Fatalf("%d captures are listed, %v", len(list), err)
	}
	pid := daemonOf(b, bin).PID
	served := residentBytes(pid)
	w.end()
	time.Sleep(tidyAfter + time.Second)
	report(b, figure{float64(residentBytes(pid)) / 1e6, "idle-MB"}, figure{float64(served) / 1e6, "serving-MB"}, figure{float64(len(list)), "captures"})
}
