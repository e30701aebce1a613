package lspserver_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// rows are rows of stack views, one line each: "text | self | name | location".
func (s *session) rows(rows []rpc.StackRow) []string {
	s.t.Helper()
	lines := []string{}
	for _, r := range rows {
		at := "-"
		if r.Location != nil {
			path, err := filepath.Rel(s.dir, uri.URI(r.Location.URI).FsPath())
			if err != nil {
				s.t.Fatal(err)
			}
			at = fmt.Sprintf("%s %d", path, r.Location.Line)
		}
		side := r.Side
		if side != "" {
			side += " "
		}
		lines = append(lines, fmt.Sprintf("%s | %s | %s%s | %s", r.Text, r.SelfText, side, r.Name, at))
	}
	return lines
}

func (s *session) wantRows(p rpc.StacksParams, want ...string) rpc.StacksResult {
	s.t.Helper()
	var res rpc.StacksResult
	s.Must(rpc.MethodStacks, p, &res)
	if diff := cmp.Diff(want, s.rows(res.Rows)); diff != "" {
		s.t.Errorf("%+v (-want +got):\n%s", p, diff)
	}
	return res
}

func TestStacks(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	byName := []string{
		"99.0% · 9.9 s | 79.0% · 7.9 s | fib.Fib | fib/fib.go 2",
		"20.0% · 2.0 s | 20.0% · 2.0 s | fib.sum | fib/fib.go 9",
		"1.0% · 100 ms | 1.0% · 100 ms | runtime.gc | -",
		"100.0% · 10.0 s |  | ROOT | -",
		"99.0% · 9.9 s |  | fib.TestFib | fib/fib_test.go 4",
		"99.0% · 9.9 s |  | testing.tRunner | -",
	}
	res := s.wantRows(rpc.StacksParams{View: rpc.ViewByName}, byName...)
	if res.Capture == "" || res.Unit != "ns" || res.Total != 1e10 || res.Text != "10.0 s, 1.0k samples" || res.More != 0 || res.Filter != "" {
		t.Errorf("the result says %+v", res)
	}
	if !strings.HasSuffix(res.Title, " · 12 min ago") {
		t.Errorf("the title is %q", res.Title)
	}
	res = s.wantRows(rpc.StacksParams{View: rpc.ViewByName, Offset: 1, Limit: 2}, byName[1:3]...)
	if res.More != 3 {
		t.Errorf("%d more rows, want 3", res.More)
	}
	s.wantRows(rpc.StacksParams{View: rpc.ViewByName, Find: "^fib.%"}, byName[0], byName[1], byName[4])
	res = s.wantRows(rpc.StacksParams{View: rpc.ViewByName, Filter: rpc.StackFilter{Include: "fib.sum", Fold: "tRunner", Group: "fib.T->tests"}},
		"100.0% · 2.0 s | 100.0% · 2.0 s | fib.sum | fib/fib.go 9",
		"100.0% · 2.0 s |  | ROOT | -",
		"100.0% · 2.0 s |  | fib.Fib | fib/fib.go 2",
		"100.0% · 2.0 s |  | testing.tRunner | -", // nothing calls it, so it is not folded
		"100.0% · 2.0 s |  | tests | fib/fib_test.go 4",
	)
	if res.Filter == "" || res.Fields.Include != "fib.sum" {
		t.Errorf("the filter in words is %q, its fields %+v", res.Filter, res.Fields)
	}
	s.wantRows(rpc.StacksParams{View: rpc.ViewCallerCallee, Focus: "fib.Fib"},
		"99.0% · 9.9 s | 79.0% · 7.9 s | caller fib.TestFib | fib/fib_test.go 4",
		"99.0% · 9.9 s | 79.0% · 7.9 s | focus fib.Fib | fib/fib.go 2",
		"20.0% · 2.0 s | 20.0% · 2.0 s | callee fib.sum | fib/fib.go 9")

	s.wantRows(rpc.StacksParams{View: rpc.ViewFunctions, Focus: "fib/fib.go"},
		"99.0% · 9.9 s | 79.0% · 7.9 s | fib.Fib | fib/fib.go 2", "20.0% · 2.0 s | 20.0% · 2.0 s | fib.sum | fib/fib.go 9")
	lines := s.wantRows(rpc.StacksParams{View: rpc.ViewLines, Limit: 2},
		"49.0% · 4.9 s | 49.0% · 4.9 s | fib/fib.go:4 | fib/fib.go 3", "50.0% · 5.0 s | 30.0% · 3.0 s | fib/fib.go:7 | fib/fib.go 6")
	if lines.About != "lines" || lines.More != 4 || lines.Rows[0].Label != "fib.go:4" {
		t.Errorf("%d more lines after %+v", lines.More, lines.Rows)
	}

	// A tree is walked a level at a time.
	root := s.wantRows(rpc.StacksParams{View: rpc.ViewCallTree}, "100.0% · 10.0 s |  | ROOT | -").Rows[0]
	level := s.wantRows(rpc.StacksParams{View: rpc.ViewCallTree, Node: root.Node},
		"99.0% · 9.9 s |  | testing.tRunner | -", "1.0% · 100 ms | 1.0% · 100 ms | runtime.gc | -")
	if a, b := level.Rows[0], level.Rows[1]; !a.Children || b.Children {
		t.Errorf("%s has children: %v; %s: %v", a.Name, a.Children, b.Name, b.Children)
	}
	s.wantRows(rpc.StacksParams{View: rpc.ViewCallTree, Node: level.Rows[0].Node}, "99.0% · 9.9 s |  | fib.TestFib | fib/fib_test.go 4")
	root = s.wantRows(rpc.StacksParams{View: rpc.ViewCallers, Focus: "fib.sum"}, "20.0% · 2.0 s | 20.0% · 2.0 s | fib.sum | fib/fib.go 9").Rows[0]
	callers := s.wantRows(rpc.StacksParams{View: rpc.ViewCallers, Focus: "fib.sum", Node: root.Node}, "20.0% · 2.0 s |  | fib.Fib | fib/fib.go 2")
	if callers.About != "callers of fib.sum" {
		t.Errorf("callers are about %q", callers.About)
	}

	// Places follow edits.
	path := s.path("fib/fib.go")
	s.Open(path)
	s.Replace(path, `package fib\n`, "package fib\n\n\n")
	s.wantRows(rpc.StacksParams{View: rpc.ViewByName, Find: "fib.sum"}, "20.0% · 2.0 s | 20.0% · 2.0 s | fib.sum | fib/fib.go 11")

	for want, p := range map[string]rpc.StacksParams{
		`there is no view "tree"`:                  {View: "tree"},
		`name it with "focus"`:                     {View: rpc.ViewCallees},
		`-1 parts of time`:                         {View: rpc.ViewTimeline, Buckets: -1},
		`"fib.Fob"`:                                {View: rpc.ViewCallers, Focus: "fib.Fob"},
		`group pattern "{%"`:                       {View: rpc.ViewByName, Filter: rpc.StackFilter{Group: "{%"}},
		`the filter's start is "soon"`:             {View: rpc.ViewByName, Filter: rpc.StackFilter{Start: "soon"}},
		`there is no preset "mine"`:                {View: rpc.ViewByName, Filter: rpc.StackFilter{Preset: "mine"}},
		`give the "node" of a row`:                 {View: rpc.ViewCallTree, Node: "x"},
		`has no samples of kind "heap": it has`:    {SourceRef: rpc.SourceRef{Kind: "heap"}},
		`is no absolute path`:                      {SourceRef: rpc.SourceRef{File: "a.pprof"}},
		`-1 rows from 0 on`:                        {Limit: -1},
		`this build of the server cannot read /x:`: {SourceRef: rpc.SourceRef{File: "/x"}},
	} {
		if err := s.Call(rpc.MethodStacks, p, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}

func TestStacksOverTime(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU, `cpu ns
length: 20ms
task 1: pid=7 tid=7 comm=fib.test
task 2: pid=7 tid=8 comm=worker
fib.Fib@fib/fib.go:4|start=3|entry 5000000 time=1ms task=1
fib.sum@fib/fib.go:11|start=10|entry 3000000 time=9ms task=2
`}})
	var over rpc.StacksResult
	for view, rows := range map[string]int{rpc.ViewTimeline: 2, rpc.ViewHistogram: 1} {
		s.Must(rpc.MethodStacks, rpc.StacksParams{View: view, Buckets: 8}, &over)
		var sum float64
		for _, r := range over.Rows {
			if len(r.Weights) != 8 {
				t.Errorf("%s: a row has %d weights, want 8", view, len(r.Weights))
			}
			for _, w := range r.Weights {
				sum += w
			}
		}
		if len(over.Rows) != rows || math.Abs(sum-8e6) > 1 || over.Width == 0 {
			t.Errorf("%s: %d rows of together %g, each part of %g ms", view, len(over.Rows), sum, over.Width)
		}
	}
	var rows rpc.StacksResult
	s.Must(rpc.MethodStacks, rpc.StacksParams{View: rpc.ViewByName, Find: "fib.Fib"}, &rows)
	if r := rows.Rows[0]; r.First == nil || *r.First != 1 || *r.Last != 6 || r.When == "" {
		t.Errorf("fib.Fib was from %v to %v: %s", r.First, r.Last, r.When)
	}
	p := rpc.StacksParams{View: rpc.ViewTimeline, SourceRef: rpc.SourceRef{Capture: "@2"}}
	if err := s.Call(rpc.MethodStacks, p, nil); err == nil || !strings.Contains(err.Error(), "have no times") {
		t.Errorf("weight over time of what has no times: %v", err)
	}
}

// Each run of a test builds it at another path: its functions are the same nevertheless, and have their places.
func TestDiff(t *testing.T) {
	s := start(t, fib, setup{captures: []string{
		"cpu ns\n/tmp/1/fib.test!fib.Fib@fib/fib.go:4|start=3|entry 5000000\n/tmp/1/fib.test!fib.sum@fib/fib.go:11|start=10|entry 3000000\n",
		"cpu ns\n/tmp/2/fib.test!fib.Fib@fib/fib.go:4|start=3|entry 9000000\n/tmp/2/fib.test!fib.sum@fib/fib.go:11|start=10|entry 2000000\n",
	}})
	p := rpc.DiffParams{Before: rpc.SourceRef{Capture: "@2"}, StacksParams: rpc.StacksParams{View: rpc.ViewByName, SourceRef: rpc.SourceRef{Capture: "@"}}}
	var res rpc.StacksResult
	s.Must(rpc.MethodDiff, p, &res)
	want := []string{
		"+4.0 ms | +4.0 ms | fib.test!fib.Fib | fib/fib.go 2",
		"-1.0 ms | -1.0 ms | fib.test!fib.sum | fib/fib.go 9",
		"+3.0 ms |  | ROOT | -",
	}
	if diff := cmp.Diff(want, s.rows(res.Rows)); diff != "" || res.Text != "+3.0 ms" {
		t.Errorf("the difference of %s (-want +got):\n%s", res.Text, diff)
	}
	p.Overweight = true
	s.Must(rpc.MethodDiff, p, &res)
	want = []string{"+4.0 ms | 133% of the growth | fib.test!fib.Fib | fib/fib.go 2", "-1.0 ms | -33% of the growth | fib.test!fib.sum | fib/fib.go 9", "+3.0 ms | 100% of the growth | ROOT | -"}
	if diff := cmp.Diff(want, s.rows(res.Rows)); diff != "" {
		t.Errorf("the overweight report of %s (-want +got):\n%s", res.Text, diff)
	}
}

func TestFlame(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, config: func(_ *session, c *lspserver.Config) {
		c.Picture = func(p *profile.Profile, title string, difference bool) (string, error) {
			return fmt.Sprintf("<svg/> %d, difference %t", p.Total().Weight, difference), nil
		}
	}})
	var res rpc.FlameResult
	s.Must(rpc.MethodFlame, rpc.FlameParams{}, &res)
	var got []string
	for _, b := range res.Boxes {
		at := ""
		if l := res.Locations[b.Name]; l != nil {
			at = fmt.Sprintf(" %s:%d", filepath.Base(uri.URI(l.URI).FsPath()), l.Line)
		}
		got = append(got, fmt.Sprintf("%*s%s %.2f+%.2f %s%s", 2*b.Depth, "", res.Names[b.Name], b.X, b.Width, b.Text, at))
	}
	want := []string{
		"ROOT 0.00+1.00 100.0% · 10.0 s",
		"  testing.tRunner 0.00+0.99 99.0% · 9.9 s",
		"  runtime.gc 0.99+0.01 1.0% · 100 ms",
		"    fib.TestFib 0.00+0.99 99.0% · 9.9 s fib_test.go:4",
		"      fib.Fib 0.00+0.99 99.0% · 9.9 s fib.go:2",
		"        fib.sum 0.00+0.20 20.0% · 2.0 s fib.go:9",
	}
	if diff := cmp.Diff(want, got); diff != "" || res.Depth != 4 {
		t.Errorf("depth %d (-want +got):\n%s", res.Depth, diff)
	}
	s.Must(rpc.MethodFlame, rpc.FlameParams{Focus: "fib.Fib"}, &res)
	if res.Names[res.Boxes[0].Name] != "fib.Fib" || len(res.Boxes) != 2 {
		t.Errorf("around fib.Fib there are %d boxes, the first %s", len(res.Boxes), res.Names[res.Boxes[0].Name])
	}
	s.Must(rpc.MethodFlame, rpc.FlameParams{SVG: true}, &res)
	if res.SVG != "<svg/> 10000000000, difference false" {
		t.Errorf("the picture is %q", res.SVG)
	}
	s.Must(rpc.MethodFlame, rpc.FlameParams{SVG: true, Before: &rpc.SourceRef{Capture: res.Capture}}, &res)
	if res.SVG != "<svg/> 0, difference true" {
		t.Errorf("the picture of a capture beside itself is %q", res.SVG)
	}
	if err := s.Call(rpc.MethodFlame, rpc.FlameParams{Least: 2}, nil); err == nil {
		t.Error("boxes narrower than twice the whole are left out")
	}
}

func TestStacksOfFile(t *testing.T) {
	reads := 0
	s := start(t, fib, setup{config: func(s *session, c *lspserver.Config) {
		c.ReadFile = func(_ context.Context, path string) (*profile.Capture, error) {
			if reads++; filepath.Base(path) != "cpu.pprof" {
				return nil, errors.New("it is no profile; give one")
			}
			return s.capture("cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5000000\n", nil), nil
		}
	}})
	path := s.path("cpu.pprof")
	for _, name := range []string{path, s.path("other")} {
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := rpc.StacksParams{View: rpc.ViewByName, SourceRef: rpc.SourceRef{File: path}}
	for range 2 {
		res := s.wantRows(p, "100.0% · 5.0 ms | 100.0% · 5.0 ms | fib.Fib | fib/fib.go 2", "100.0% · 5.0 ms |  | ROOT | -")
		if !strings.HasPrefix(res.Title, "cpu.pprof") || res.Capture != "" {
			t.Errorf("the title is %q, the capture %q", res.Title, res.Capture)
		}
	}
	if reads != 1 {
		t.Errorf("the file was read %d times", reads)
	}
	p.File = s.path("other")
	if err := s.Call(rpc.MethodStacks, p, nil); err == nil || !strings.Contains(err.Error(), "it is no profile; give one") {
		t.Errorf("a file that is none: %v", err)
	}
	p.File = s.path("gone")
	if err := s.Call(rpc.MethodStacks, p, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A request that is cancelled is answered at once; the file that it began to read is there for the next.
func TestStacksCancelled(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := start(t, fib, setup{config: func(s *session, c *lspserver.Config) {
		c.ReadFile = func(ctx context.Context, path string) (*profile.Capture, error) {
			close(begun) // a second time would panic
			<-goOn
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return s.capture("cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5000000\n", nil), nil
		}
	}})
	path := s.path("cpu.pprof")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := rpc.StacksParams{View: rpc.ViewByName, SourceRef: rpc.SourceRef{File: path}}
	call := s.Go(rpc.MethodStacks, p)
	<-begun
	call.Cancel()
	if _, err := call.Wait(); err == nil || !strings.Contains(err.Error(), "-32800") && !strings.Contains(err.Error(), "cancel") {
		t.Errorf("cancelled: %v", err)
	}
	close(goOn)
	s.wantRows(p, "100.0% · 5.0 ms | 100.0% · 5.0 ms | fib.Fib | fib/fib.go 2", "100.0% · 5.0 ms |  | ROOT | -")
}

func TestPresets(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	var all []rpc.Preset
	s.Must(rpc.MethodPresets, rpc.PresetsParams{}, &all)
	stock := len(all)
	if stock < 6 || !all[0].Stock || !all[0].Default {
		t.Fatalf("the presets are %+v", all)
	}
	s.Execute("sightline.savePreset", map[string]any{"name": "mine", "filter": map[string]any{"fold": "fib.sum", "start": "1.5"}})
	s.Must(rpc.MethodPresets, rpc.PresetsParams{}, &all)
	if len(all) != stock+1 || all[0].Name != "mine" || all[0].Stock || all[0].Filter.Fold != "fib.sum" || all[0].Filter.Start != "1.5" {
		t.Errorf("after saving one the presets begin with %+v", all[0])
	}
	s.wantRows(rpc.StacksParams{View: rpc.ViewByName, Find: "^fib.", Filter: rpc.StackFilter{Preset: "Mine", Start: "0"}},
		"99.0% · 9.9 s | 99.0% · 9.9 s | fib.Fib | fib/fib.go 2", "99.0% · 9.9 s |  | fib.TestFib | fib/fib_test.go 4")
	s.Execute("sightline.savePreset", map[string]any{"name": "mine", "remove": true})
	s.Must(rpc.MethodPresets, rpc.PresetsParams{}, &all)
	if len(all) != stock {
		t.Errorf("after removing it there are %d presets, want %d", len(all), stock)
	}
}

// What is shown ages, however often it was asked for before.
func TestTitlesAge(t *testing.T) {
	now := recordedAt.Add(12 * time.Minute)
	var mu sync.Mutex
	s := start(t, fib, setup{captures: []string{fibCPU, fibCPU}, config: func(_ *session, cfg *lspserver.Config) {
		cfg.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	}})
	for _, want := range []string{"12 min ago", "3 h ago"} {
		var res rpc.StacksResult
		s.Must(rpc.MethodStacks, rpc.StacksParams{View: rpc.ViewByName}, &res)
		if title := "go test ./fib -run TestFib · " + want; res.Title != title {
			t.Errorf("the title is %q, want %q", res.Title, title)
		}
		s.Must(rpc.MethodDiff, rpc.DiffParams{StacksParams: rpc.StacksParams{View: rpc.ViewByName}, Before: rpc.SourceRef{Capture: "@2"}}, &res)
		if title := "go test ./fib -run TestFib · from " + want + " to " + want; res.Title != title {
			t.Errorf("the title of a difference is %q, want %q", res.Title, title)
		}
		mu.Lock()
		now = now.Add(3 * time.Hour)
		mu.Unlock()
	}
}
