package lspserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// spots are hottest places, one line each: "text | label | detail | location".
func (s *session) spots(p rpc.HottestParams) []string {
	s.t.Helper()
	var spots []rpc.HotSpot
	s.Must(rpc.MethodHottest, p, &spots)
	lines := []string{}
	for _, x := range spots {
		at := "-"
		if x.Location != nil {
			path, err := filepath.Rel(s.dir, uri.URI(x.Location.URI).FsPath())
			if err != nil {
				s.t.Fatal(err)
			}
			at = fmt.Sprintf("%s %d", path, x.Location.Line)
		}
		lines = append(lines, fmt.Sprintf("%s | %s | %s | %s", x.Text, x.Label, x.Detail, at))
	}
	return lines
}

func (s *session) wantSpots(what string, p rpc.HottestParams, want ...string) {
	s.t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, s.spots(p)); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestHottest(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.wantSpots("lines of files that nobody opened", rpc.HottestParams{What: "lines"},
		`99.0% · 9.9 s | Fib(30) //@ hint("99.0% · 9.9 s") | fib_test.go:6 | fib/fib_test.go 5`,
		`50.0% · 5.0 s | return Fib(n-1) + Fib(n-2) //@ hint("50.0% · 5.0 s") | fib.go:7 | fib/fib.go 6`,
		`49.0% · 4.9 s | if n < 2 { //@ hint("49.0% · 4.9 s") | fib.go:4 | fib/fib.go 3`,
		`20.0% · 2.0 s | for _, v := range a { //@ hint("20.0% · 2.0 s") | fib.go:11 | fib/fib.go 10`)
	s.wantSpots("functions", rpc.HottestParams{What: "functions"},
		`99.0% · 9.9 s | fib.Fib | fib.go:3 | fib/fib.go 2`,
		`99.0% · 9.9 s | fib.TestFib | fib_test.go:5 | fib/fib_test.go 4`,
		`20.0% · 2.0 s | fib.sum | fib.go:10 | fib/fib.go 9`)
	s.wantSpots("all functions", rpc.HottestParams{What: "functions", All: true, Limit: 3},
		`99.0% · 9.9 s | fib.Fib | fib.go:3 | fib/fib.go 2`,
		`99.0% · 9.9 s | fib.TestFib | fib_test.go:5 | fib/fib_test.go 4`,
		`99.0% · 9.9 s | testing.tRunner | testing.go:1600 | -`)

	// They follow edits, and what was changed is told.
	path := s.path("fib/fib.go")
	s.Open(path)
	s.Replace(path, `package fib\n`, "package fib\n\n")
	s.Replace(path, `n < 2`, "n < 3")
	s.Execute("sightline.setMetric", "self")
	s.wantSpots("lines by themselves, after edits", rpc.HottestParams{What: "lines"},
		`49.0% · 4.9 s | if n < 2 { //@ hint("49.0% · 4.9 s") | fib.go:4, changed since | -`,
		`30.0% · 3.0 s | return Fib(n-1) + Fib(n-2) //@ hint("50.0% · 5.0 s") | fib.go:8 | fib/fib.go 7`,
		`20.0% · 2.0 s | for _, v := range a { //@ hint("20.0% · 2.0 s") | fib.go:12 | fib/fib.go 11`)
	s.wantSpots("all lines by themselves", rpc.HottestParams{What: "lines", All: true, Limit: 4},
		`49.0% · 4.9 s | if n < 2 { //@ hint("49.0% · 4.9 s") | fib.go:4, changed since | -`,
		`30.0% · 3.0 s | return Fib(n-1) + Fib(n-2) //@ hint("50.0% · 5.0 s") | fib.go:8 | fib/fib.go 7`,
		`20.0% · 2.0 s | for _, v := range a { //@ hint("20.0% · 2.0 s") | fib.go:12 | fib/fib.go 11`,
		`1.0% · 100 ms | runtime.gc | mgc.go:9 | -`)
	var spots []rpc.HotSpot
	s.Must(rpc.MethodHottest, rpc.HottestParams{What: "lines"}, &spots)
	if x := spots[1]; x.Self != 3e9 || x.Total != 5e9 || x.Count != 300 || spots[0].Heat != 1 || x.Heat != float64(3e9)/4.9e9 {
		t.Errorf("the second line is %+v", x)
	}
}

// Which capture is meant: a named one, else what is shown, else the newest.
func TestHottestOfCapture(t *testing.T) {
	s := start(t, fib, setup{captures: []string{"cpu ns\nfib.sum@fib/fib.go:11|start=10|entry 5\n", fibCPU}})
	older := `100.0% · 5 ns | fib.sum | fib.go:10 | fib/fib.go 9`
	p := rpc.HottestParams{What: "functions", Limit: 1}
	s.wantSpots("of the newest", p, `99.0% · 9.9 s | fib.Fib | fib.go:3 | fib/fib.go 2`)
	p.Capture = "@2"
	s.wantSpots("of the one before", p, older)
	p.Root = s.dir
	s.wantSpots("of the one before in this folder", p, older)
	s.Execute("sightline.openCapture", "@2")
	s.wantSpots("of what is shown", rpc.HottestParams{What: "functions", Limit: 1}, older)

	for want, p := range map[string]rpc.HottestParams{
		`there are no hottest "": give "what" as "lines" or "functions"`:   {},
		`there are no hottest "files"`:                                     {What: "files"},
		`-1 are too few or too many: give a limit up to 1000, or 0 for 50`: {What: "lines", Limit: -1},
		`there is no capture "@" of /nowhere`:                              {What: "lines", SourceRef: rpc.SourceRef{Root: "/nowhere"}},
		`@9`:                                                               {What: "lines", SourceRef: rpc.SourceRef{Capture: "@9"}},
		`/x.pprof`:                                                         {What: "lines", SourceRef: rpc.SourceRef{File: "/x.pprof"}},
		`has no samples of kind "alloc": it has cpu`:                       {What: "lines", SourceRef: rpc.SourceRef{Kind: "alloc"}},
	} {
		if err := s.Call(rpc.MethodHottest, p, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}

// Other kinds of a capture, and files that nobody imported, are listed in their own unit.
func TestHottestOfOtherKinds(t *testing.T) {
	var c *profile.Capture
	s := start(t, fib, setup{
		before: func(s *session) {
			c = s.capture("cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\nfib.TestFib@fib/fib_test.go:6|start=5|entry 0\n", nil)
			alloc := profile.Series{Kind: profile.Alloc, Unit: profile.Bytes}
			alloc.Samples.Append(profile.Sample{Stack: 1, Count: 3, Weight: 3072})
			alloc.Samples.Append(profile.Sample{Stack: 2, Count: 1, Weight: 1024})
			c.Series = append(c.Series, alloc)
			s.put(c)
		},
		config: func(_ *session, cfg *lspserver.Config) {
			cfg.ReadFile = func(context.Context, string) (*profile.Capture, error) { return c, nil }
		},
	})
	want := []string{
		`75.0% · 3.0 KiB | if n < 2 { //@ hint("49.0% · 4.9 s") | fib.go:4 | fib/fib.go 3`,
		`25.0% · 1.0 KiB | Fib(30) //@ hint("99.0% · 9.9 s") | fib_test.go:6 | fib/fib_test.go 5`,
	}
	s.wantSpots("lines by memory", rpc.HottestParams{What: "lines", SourceRef: rpc.SourceRef{Kind: "alloc"}}, want...)
	s.wantSpots("functions by memory", rpc.HottestParams{What: "functions", Limit: 1, SourceRef: rpc.SourceRef{Kind: "alloc"}},
		`75.0% · 3.0 KiB | fib.Fib | fib.go:3 | fib/fib.go 2`)
	s.wantSpots("lines of a file", rpc.HottestParams{What: "lines", SourceRef: rpc.SourceRef{File: s.path("go.mod"), Kind: "alloc"}}, want...)
}

// Of lines with one total, the one that costs most by itself comes first.
func TestHottestOfEqual(t *testing.T) {
	s := start(t, fib, setup{captures: []string{"cpu ns\nfib.Fib@fib/fib.go:7|start=3|entry;fib.TestFib@fib/fib_test.go:6|start=5 5\n"}})
	s.wantSpots("lines", rpc.HottestParams{What: "lines"},
		`100.0% · 5 ns | Fib(30) //@ hint("99.0% · 9.9 s") | fib_test.go:6 | fib/fib_test.go 5`,
		`100.0% · 5 ns | return Fib(n-1) + Fib(n-2) //@ hint("50.0% · 5.0 s") | fib.go:7 | fib/fib.go 6`)
	s.wantSpots("functions", rpc.HottestParams{What: "functions"},
		`100.0% · 5 ns | fib.TestFib | fib_test.go:5 | fib/fib_test.go 4`,
		`100.0% · 5 ns | fib.Fib | fib.go:3 | fib/fib.go 2`)
}

// Without a capture there is nothing to list, and the answer says so.
func TestHottestOfNothing(t *testing.T) {
	s := start(t, fib, setup{})
	if err := s.Call(rpc.MethodHottest, rpc.HottestParams{What: "lines"}, nil); err == nil || !strings.Contains(err.Error(), "no finished captures") {
		t.Errorf("hottest lines of nothing: %v", err)
	}
}

func TestNeighbors(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	ask := func(line int) (res rpc.NeighborsResult) {
		t.Helper()
		s.Must(rpc.MethodNeighbors, rpc.NeighborsParams{TextDocument: rpc.DocumentID{URI: string(uri.File(path))}, Line: line}, &res)
		return res
	}
	check := func(line int) {
		t.Helper()
		res := ask(line)
		if res.Capture == "" || res.Name != "fib.Fib" || res.Label != "fib.Fib" || res.Text != "99.0% · 9.9 s in total, 79.0% · 7.9 s itself" {
			t.Errorf("the function of line %d is %q: %s", line, res.Name, res.Text)
		}
		want := []rpc.StackRow{{
			Name: "fib.TestFib", Label: "fib.TestFib", Side: "caller", Total: 9.9e9, Self: 7.9e9, TotalCount: 990, SelfCount: 790,
			Share: 0.99, Text: "99.0% · 9.9 s", SelfText: "79.0% · 7.9 s",
			Location: &rpc.Location{URI: string(uri.File(s.path("fib/fib_test.go"))), Line: 4},
			Tooltip:  "fib.TestFib\ncalls fib.Fib: 99.0% · 9.9 s, 990 samples\nfib_test.go:5",
		}}
		if diff := cmp.Diff(want, res.Callers); diff != "" {
			t.Errorf("callers (-want +got):\n%s", diff)
		}
		if len(res.Callees) != 1 || res.Callees[0].Name != "fib.sum" || res.Callees[0].Side != "callee" || res.Callees[0].Text != "20.0% · 2.0 s" ||
			res.Callees[0].Tooltip != fmt.Sprintf("fib.sum\nis called by fib.Fib: 20.0%% · 2.0 s, 200 samples\nfib.go:%d", res.Callees[0].Location.Line+1) {
			t.Errorf("callees are %+v", res.Callees)
		}
	}
	check(2) // its first line
	check(4) // one without a cost
	check(7) // its last
	if res := ask(8); res.Name != "" || res.Capture == "" || res.Callers == nil || res.Callees == nil {
		t.Errorf("between functions there is %+v", res)
	}
	s.Replace(path, `package fib\n`, "package fib\n\n\n")
	check(9)
	if res := ask(12); res.Name != "fib.sum" || len(res.Callees) != 0 || len(res.Callers) != 1 {
		t.Errorf("the neighbors of sum are %+v", res)
	}
	s.SetText(path, "package fib\n")
	if res := ask(0); res.Name != "" || res.Capture == "" {
		t.Errorf("where the numbers are too old there is %+v", res)
	}
	if err := s.Call(rpc.MethodNeighbors, rpc.NeighborsParams{TextDocument: rpc.DocumentID{URI: string(uri.File(path))}, Line: -1}, nil); err == nil {
		t.Error("line -1 is answered")
	}
}

// Closures are functions of their own, and binaries stand before names.
func TestNeighborsOfClosure(t *testing.T) {
	s := start(t, "-- go.mod --\nmodule p\n-- a.go --\npackage p\n\nfunc F() {\n\tf := func() {\n\t\tg()\n\t}\n\tf()\n}\n", setup{captures: []string{`cpu ns
/tmp/x/p.test!p.F@a.go:7|start=3|entry;/tmp/x/p.test!p.F.func1@a.go:5|start=4;[kernel]!memmove 10
`}})
	s.Open(s.path("a.go"))
	for line, want := range map[int][2]string{4: {"p.test!p.F.func1", "p.F"}, 6: {"p.test!p.F", ""}} {
		var res rpc.NeighborsResult
		s.Must(rpc.MethodNeighbors, rpc.NeighborsParams{TextDocument: rpc.DocumentID{URI: string(uri.File(s.path("a.go")))}, Line: line}, &res)
		caller := ""
		if len(res.Callers) > 0 {
			caller = res.Callers[0].Label
		}
		if res.Name != want[0] || caller != want[1] {
			t.Errorf("line %d is in %q, called by %q; want %q", line, res.Name, caller, want)
		}
		if line == 4 && (len(res.Callees) != 1 || res.Callees[0].Name != "kernel!memmove") {
			t.Errorf("callees are %+v", res.Callees)
		}
	}
}

func TestDoctorAndProcesses(t *testing.T) {
	report := rpc.DoctorResult{Healthy: true, Text: "yes\n", Engines: []rpc.EngineInfo{{Engine: "perf", What: "own processes", Works: true}}}
	all := []rpc.ProcessInfo{{PID: 7, Name: "fib", Command: "./fib 30", CPU: "12.3%", Go: true}}
	var fail error
	s := start(t, fib, setup{config: func(_ *session, c *lspserver.Config) {
		c.Doctor = func(context.Context) rpc.DoctorResult { return report }
		c.Processes = func(context.Context) ([]rpc.ProcessInfo, error) { return all, fail }
	}})
	var gotReport rpc.DoctorResult
	s.Must(rpc.MethodDoctor, nil, &gotReport)
	var got []rpc.ProcessInfo
	s.Must(rpc.MethodProcesses, nil, &got)
	if diff := cmp.Diff(report, gotReport) + cmp.Diff(all, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all, fail = nil, errors.New("read /proc: permission denied; mount it")
	if err := s.Call(rpc.MethodProcesses, nil, nil); err == nil || !strings.Contains(err.Error(), "mount it") {
		t.Errorf("processes that cannot be listed: %v", err)
	}
	fail = nil
	var raw json.RawMessage
	if s.Must(rpc.MethodProcesses, nil, &raw); string(raw) != "[]" {
		t.Errorf("no processes are %s", raw)
	}

	s = start(t, fib, setup{})
	for method, want := range map[string]string{rpc.MethodDoctor: "sightline doctor", rpc.MethodProcesses: "sightline.record"} {
		if err := s.Call(method, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of a server without it: %v", method, err)
		}
	}
}

func (s *session) infos() []rpc.CaptureInfo {
	s.t.Helper()
	var infos []rpc.CaptureInfo
	s.Must(rpc.MethodCaptures, nil, &infos)
	return infos
}

func TestCaptureCommands(t *testing.T) {
	s := start(t, fib, setup{
		captures: []string{"cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n", fibCPU},
		Options:  lsptest.Options{Capabilities: `{"experimental": {"sightline": {"changed": true}}}`},
	})
	s.Open(s.path("fib/fib.go"))
	for _, params := range []string{`[]`, `{}`, `{"x": 1}`} { // where there are none to give
		var got []rpc.CaptureInfo
		if s.Must(rpc.MethodCaptures, json.RawMessage(params), &got); len(got) != 2 {
			t.Errorf("with %s, captures are %+v", params, got)
		}
	}
	if got := s.infos(); len(got) != 2 || got[0].Kind != "cpu" || got[0].Text != "12 min ago · 10.5 s · 1.0k samples" {
		t.Fatalf("captures are %+v", got)
	}
	var info rpc.CaptureInfo
	do := func(command string, args any) {
		t.Helper()
		s.Forget()
		if err := json.Unmarshal(s.Execute(command, args), &info); err != nil {
			t.Fatal(err)
		}
		s.Await(lsptest.Notified(rpc.MethodChanged)) // so that lists are asked for again
		if got := s.infos(); !slices.Contains(got, info) {
			t.Errorf("%s answers %+v, and captures are %+v", command, info, got)
		}
	}
	do("sightline.pinCapture", "@")
	if !info.Pinned || info.ID != s.infos()[0].ID {
		t.Errorf("after pinning: %+v", info)
	}
	if !slices.ContainsFunc(s.CodeActions(s.path("fib/fib.go"), "package"), func(a lsptest.Action) bool { return a.Title == "Unpin this capture" }) {
		t.Error("a pinned capture cannot be unpinned by an action")
	}
	do("sightline.pinCapture", map[string]any{"capture": info.ID, "root": s.dir, "pinned": false})
	if info.Pinned {
		t.Errorf("after unpinning: %+v", info)
	}
	do("sightline.noteCapture", map[string]any{"capture": "@2", "note": "before the cache\nö"})
	if info.Note != "before the cache\nö" || info.ID != s.infos()[1].ID {
		t.Errorf("after noting: %+v", info)
	}

	s.Execute("sightline.openCapture", "@2")
	s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	s.Forget()
	s.Execute("sightline.removeCapture", map[string]any{"capture": "@2", "root": s.dir})
	s.checkHints("fib/fib.go")
	if got := s.infos(); len(got) != 1 || got[0].Shown {
		t.Errorf("after removing, captures are %+v", got)
	}
	s.Await(lsptest.Notified(rpc.MethodChanged))
	s.Look(func(st *lsptest.State) {
		if len(st.Messages) != 0 {
			t.Errorf("what somebody did is told them: %v", st.Messages)
		}
	})
	s.Execute("sightline.removeCapture", "@")
	s.wantHints("fib/fib.go")
	if got := s.infos(); len(got) != 0 {
		t.Errorf("captures are %+v", got)
	}
}

func TestBaseline(t *testing.T) {
	const after = `cpu ns
fib.TestFib@fib/fib_test.go:6|start=5|entry;/tmp/b/fib.test!fib.Fib@fib/fib.go:4|start=3 600000000 count=60
fib.TestFib@fib/fib_test.go:6|start=5|entry;fib.sum@fib/fib.go:11|start=10 400000000 count=40
`
	before := `cpu ns
fib.TestFib@fib/fib_test.go:6|start=5|entry;/tmp/a/fib.test!fib.Fib@fib/fib.go:4|start=3 500000000 count=50
fib.TestFib@fib/fib_test.go:6|start=5|entry 500000000 count=50
`
	s := start(t, fib, setup{captures: []string{before, after}})
	s.Open(s.path("fib/fib.go"))
	plain := []string{"3: self 60.0% · 600 ms, #1", "10: self 40.0% · 400 ms, #2"}
	want := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, s.lenses("fib/fib.go")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("without a baseline", plain...)
	s.Execute("sightline.setBaseline", map[string]any{"capture": "@2", "root": s.dir})
	want("with a baseline",
		"3: self 60.0% · 600 ms, #1, ▲ +10.0% · +100 ms", "10: self 40.0% · 400 ms, #2, ▲ +40.0% · +400 ms, new")
	if got := s.infos(); got[0].Baseline || !got[1].Baseline {
		t.Errorf("captures are %+v", got)
	}
	if l := s.Lens(s.path("fib/fib.go"), "#1"); !strings.Contains(tooltipOf(t, s, "fib/fib.go", 3), "\ncompared with go test ./fib -run TestFib (") {
		t.Errorf("the tooltip of %q does not name the baseline", l.Title)
	}
	s.wantHints("fib/fib.go", "4: 60.0% · 600 ms", "11: 40.0% · 400 ms")
	s.Execute("sightline.setMetric", "time")
	want("in time", "3: self 600 ms, #1, ▲ +100 ms", "10: self 400 ms, #2, ▲ +400 ms, new")
	s.Execute("sightline.setMetric", "percent")
	want("in percent", "3: self 60.0%, #1, ▲ +10.0%", "10: self 40.0%, #2, ▲ +40.0%, new")
	s.Execute("sightline.setMetric", "both")

	// The other way round, and of itself.
	s.Execute("sightline.setBaseline", "@")
	want("of itself", plain...)
	s.Execute("sightline.openCapture", "@2")
	want("what sank", "3: self 50.0% · 500 ms, #2, ▼ -10.0% · -100 ms")
	s.Open(s.path("fib/fib_test.go"))
	if l := s.Lens(s.path("fib/fib_test.go"), "total"); !strings.HasSuffix(l.Title, ", = ±0.0% · ±0 s") {
		t.Errorf("what stayed as it was is %q", l.Title)
	}

	// By actions, there and back.
	run := func(title string) {
		t.Helper()
		for _, a := range s.CodeActions(s.path("fib/fib.go"), "package") {
			if strings.HasPrefix(a.Title, title) {
				s.Run(a.Command, a.Arguments)
				return
			}
		}
		t.Errorf("there is no action %q", title)
	}
	run("Stop comparing with go test ./fib -run TestFib (")
	want("cleared", "3: self 50.0% · 500 ms, #2")
	s.Execute("sightline.openCapture", "@")
	run("Compare with this capture from now on")
	s.Execute("sightline.openCapture", "@2")
	want("by an action", "3: self 50.0% · 500 ms, #2, ▼ -10.0% · -100 ms")

	// A baseline that somebody removes is one no more.
	s.Execute("sightline.openCapture", map[string]any{})
	s.Execute("sightline.setBaseline", "@2")
	s.Forget()
	id, err := s.store.Resolve("@2")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Remove(id); err != nil {
		t.Fatal(err)
	}
	// A refresh may still come of what was before.
	for end := time.Now().Add(time.Minute); !slices.Equal(s.lenses("fib/fib.go"), plain) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	want("removed", plain...)
}

// tooltipOf is that of the function's lens above a line.
func tooltipOf(t *testing.T, s *session, name string, line int) string {
	t.Helper()
	var raw []protocol.CodeLens
	s.Must(protocol.MethodTextDocumentCodeLens, map[string]any{"textDocument": map[string]any{"uri": uri.File(s.path(name))}}, &raw)
	for _, l := range raw {
		if int(l.Range.Start.Line)+1 == line && l.Command.Tooltip != nil {
			return *l.Command.Tooltip
		}
	}
	t.Errorf("%s:%d has no lens with a tooltip", name, line)
	return ""
}

// How old numbers are and how far the text has drifted is one sentence everywhere.
func TestNote(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	for _, c := range []struct{ from, to, want string }{
		{`^`, "", "profiled 12 min ago"},
		{`n < 2`, "n < 3", "profiled 12 min ago, 1 line changed since"},
		{`s \+= v`, "s -= v", "profiled 12 min ago, 2 lines changed since"},
		{`n < 3`, "n < 2", "profiled 12 min ago, 1 line changed since"},
	} {
		s.Replace(path, c.from, c.to)
		var lines rpc.LinesResult
		s.Must(rpc.MethodLines, rpc.LinesParams{TextDocument: rpc.DocumentID{URI: string(uri.File(path))}}, &lines)
		if lines.Note != c.want {
			t.Errorf("the note is %q, want %q", lines.Note, c.want)
		}
		if got := s.Hover(path, `func Fib`); !strings.Contains(got, " · "+c.want+"*") {
			t.Errorf("the hover does not say %q:\n%s", c.want, got)
		}
		if got := tooltipOf(t, s, "fib/fib.go", 3); !strings.HasSuffix(got, "\n"+c.want) {
			t.Errorf("the lens's tooltip does not say %q: %q", c.want, got)
		}
	}
	s.Open(s.path("go.mod"))
	var lines rpc.LinesResult
	s.Must(rpc.MethodLines, rpc.LinesParams{TextDocument: rpc.DocumentID{URI: string(uri.File(s.path("go.mod")))}}, &lines)
	if lines.Note != "" || lines.Lines == nil {
		t.Errorf("of a file without numbers there is %+v", lines)
	}
}

func TestImportFile(t *testing.T) {
	var s *session
	var asked [2]string
	s = start(t, fib, setup{config: func(s *session, c *lspserver.Config) {
		c.Import = func(_ context.Context, path, workspace string) (store.ID, error) {
			asked = [2]string{path, workspace}
			if strings.HasSuffix(path, ".txt") {
				return "", fmt.Errorf("import %s: it is of no format that is known; see sightline import --help", path)
			}
			return s.put(s.capture(fibCPU, nil)), nil
		}
	}})
	s.Open(s.path("fib/fib.go"))
	var res struct{ Capture, Root string }
	if err := json.Unmarshal(s.Execute("sightline.importFile", map[string]any{"path": s.path("fib/cpu.pprof")}), &res); err != nil {
		t.Fatal(err)
	}
	if want := [2]string{s.path("fib/cpu.pprof"), s.dir}; asked != want || res.Root != s.dir || res.Capture == "" {
		t.Errorf("the import was asked for %q, want %q, and answered %+v", asked, want, res)
	}
	s.checkHints("fib/fib.go")
	if got := s.infos(); len(got) != 1 || !got[0].Shown || got[0].ID != res.Capture {
		t.Errorf("captures are %+v", got)
	}
	err := s.Call(protocol.MethodWorkspaceExecuteCommand, map[string]any{"command": "sightline.importFile", "arguments": []string{"/x.txt"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "see sightline import --help") {
		t.Errorf("what cannot be imported: %v", err)
	}
	s.Await(lsptest.NoWork())
}

// All tests of a package are profiled from any of its files.
func TestProfilePackage(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib.go"))
	for _, a := range s.CodeActions(s.path("fib/fib.go"), "package") {
		if a.Title != "Profile all tests of fib" {
			t.Errorf("there is the action %q", a.Title)
			continue
		}
		call := s.StartCommand(a.Command, a.Arguments[0])
		run := s.started()
		if want := (&lspserver.TestRequest{Package: s.path("fib")}); !cmp.Equal(run.req.Test, want) {
			t.Errorf("asked for %+v, want %+v", run.req.Test, want)
		}
		run.finish(lspserver.Result{}, nil)
		if res := answer(t, call); res.Name != "the tests of fib" {
			t.Errorf("answered %+v", res)
		}
	}
}

// Every method that is declared is told at initialize, or will be: none is answered that is not.
func TestMethodsAreTold(t *testing.T) {
	s := start(t, fib, setup{})
	var told struct {
		Sightline struct{ Methods []string }
	}
	if err := json.Unmarshal(s.Result.Capabilities.Experimental, &told); err != nil {
		t.Fatal(err)
	}
	for _, m := range told.Sightline.Methods {
		if m == rpc.MethodChanged {
			continue
		}
		if err := s.Call(m, nil, nil); err != nil && strings.Contains(err.Error(), "knows no such method") {
			t.Errorf("%s is told and not known", m)
		}
	}
	for _, m := range []string{rpc.MethodLines, rpc.MethodCaptures, rpc.MethodHottest, rpc.MethodNeighbors, rpc.MethodProcesses, rpc.MethodStatus, rpc.MethodDoctor, rpc.MethodChanged} {
		if !slices.Contains(told.Sightline.Methods, m) {
			t.Errorf("%s is not told", m)
		}
	}
}
