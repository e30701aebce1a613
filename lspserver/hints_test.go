package lspserver_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// fib is the workspace of most tests: one file with numbers, one test file.
const fib = `
-- go.mod --
module example.com/fib
-- fib/fib.go --
package fib

func Fib(n int) int { //@ lens("total 99.0% · 9.9 s, self 79.0%, #1")
	if n < 2 { //@ hint("49.0% · 4.9 s")
		return n
	}
	return Fib(n-1) + Fib(n-2) //@ hint("50.0% · 5.0 s")
}

func sum(a []int) (s int) { //@ lens("self 20.0% · 2.0 s, #2")
	for _, v := range a { //@ hint("20.0% · 2.0 s")
		s += v
	}
	return s
}
-- fib/fib_test.go --
package fib

import "testing"

func TestFib(t *testing.T) { //@ lens("profile") lens("memory") lens("total 99.0% · 9.9 s")
	Fib(30) //@ hint("99.0% · 9.9 s")
	t.Run("small", func(t *testing.T) { //@ lens("profile")
	})
}

func BenchmarkFib(b *testing.B) { //@ lens("profile") lens("memory")
}

func ExampleFib() {
}
`

// fibCPU is 10 s: Fib has 4.9 s at line 4, 3 s at line 7 and calls sum, which has 2 s, from there.
const fibCPU = `cpu ns
length: 10.5s
task 1: pid=7 tid=7 comm=fib.test
task 2: pid=7 tid=8 comm=worker
task 3: pid=7 tid=9 comm=worker
warning: kind=hidden text="Kernel frames are not visible: perf_event_paranoid is 2."
testing.tRunner@testing/testing.go:1690|start=1600|entry;fib.TestFib@fib/fib_test.go:6|start=5;fib.Fib@fib/fib.go:4|start=3 4900000000 count=490 task=1
testing.tRunner@testing/testing.go:1690|start=1600|entry;fib.TestFib@fib/fib_test.go:6|start=5;fib.Fib@fib/fib.go:7|start=3 3000000000 count=300 task=1
testing.tRunner@testing/testing.go:1690|start=1600|entry;fib.TestFib@fib/fib_test.go:6|start=5;fib.Fib@fib/fib.go:7|start=3;fib.sum@fib/fib.go:11|start=10 1000000000 count=100 task=2
testing.tRunner@testing/testing.go:1690|start=1600|entry;fib.TestFib@fib/fib_test.go:6|start=5;fib.Fib@fib/fib.go:7|start=3;fib.sum@fib/fib.go:11|start=10 1000000000 count=100 task=3
runtime.gc@runtime/mgc.go:9|start=5|entry 100000000 count=10 task=3
`

func TestHints(t *testing.T) {
	for _, editor := range lsptest.Editors() {
		t.Run(editor, func(t *testing.T) {
			s := start(t, fib, setup{captures: []string{fibCPU}, Options: lsptest.Options{Editor: editor}})
			s.Open(s.path("fib/fib.go"))
			s.Open(s.path("fib/fib_test.go"))
			s.checkHints("fib/fib.go")
			s.checkHints("fib/fib_test.go")
		})
	}
}

// An editor asks for what it shows; hints outside are a fault that lsptest sees.
func TestHintsInRange(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	var got []string
	for _, h := range s.HintsIn(s.path("fib/fib.go"), 5, 9) {
		got = append(got, fmt.Sprintf("%d: %s", h.Line, h.Text))
	}
	if diff := cmp.Diff([]string{"7: 50.0% · 5.0 s"}, got); diff != "" {
		t.Errorf("hints in lines 5 to 9 (-want +got):\n%s", diff)
	}
	if got := s.HintsIn(s.path("fib/fib.go"), 8, 9); len(got) != 0 {
		t.Errorf("lines 8 to 9 have hints %v", got)
	}
	var raw []protocol.InlayHint
	s.Must(protocol.MethodTextDocumentInlayHint, map[string]any{
		"textDocument": map[string]any{"uri": uri.File(s.path("fib/fib.go"))},
		"range": protocol.Range{
			Start: protocol.Position{Line: 9}, End: protocol.Position{Line: 4_000_000_000, Character: 4_000_000_000},
		},
	}, &raw)
	if len(raw) != 1 {
		t.Errorf("from line 10 to far past the end there are %d hints, want 1", len(raw))
	}
}

func TestTooltip(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	h := s.Hints(s.path("fib/fib.go"))
	s.Replace(s.path("fib/fib.go"), `package fib\n`, "package fib\n\n") // the hint is resolved after an edit
	want := "**fib.go:7**\n\n| | share | time | samples |\n|---|--:|--:|--:|\n" +
		"| self | 30.0% | 3.0 s | 300 ±5.8% |\n| total | 50.0% | 5.0 s | 500 ±4.5% |\n\n" +
		"Called by\n\n- `fib.TestFib` (`fib_test.go:5`) 50.0% · 5.0 s\n\n" +
		"Calls\n\n- `fib.sum` (`fib.go:10`) 20.0% · 2.0 s\n\n" +
		"Threads\n\n- fib.test 30.0%\n- worker (2 threads) 20.0%\n\n\n" +
		"*go test ./fib -run TestFib · profiled 12 min ago*\n\n" +
		"*Kernel frames are not visible: perf_event_paranoid is 2.*"
	if diff := cmp.Diff(want, s.Tooltip(h[1])); diff != "" {
		t.Errorf("tooltip (-want +got):\n%s", diff)
	}
	if err := s.Call(protocol.MethodInlayHintResolve, map[string]any{
		"position": protocol.Position{}, "label": "x", "data": 7}, nil); err == nil || !strings.Contains(err.Error(), "not one of ours") {
		t.Errorf("resolving a foreign hint: %v", err)
	}
}

// Numbers follow edits: lines above move them, a changed line loses its number, undo brings it back.
func TestHintsFollowEdits(t *testing.T) {
	for _, ending := range []string{"\n", "\r\n"} {
		s := start(t, fib, setup{captures: []string{fibCPU}, workspace: lsptest.WorkspaceOptions{CRLF: ending == "\r\n"}})
		path := s.path("fib/fib.go")
		s.Open(path)
		s.checkHints("fib/fib.go")

		s.Replace(path, `package fib\r?\n`, "package fib"+ending+ending+"// é 𝄞"+ending)
		s.checkHints("fib/fib.go")

		before := s.Text(path)
		s.Replace(path, `n < 2`, "n < 3")
		s.wantHints("fib/fib.go", "9: 50.0% · 5.0 s", "13: 20.0% · 2.0 s")
		if got := s.Hover(path, "n < 3"); got != "" {
			t.Errorf("a changed line has the hover %q", got)
		}
		if got := s.Hover(path, "Fib\\(n-1\\)"); !strings.Contains(got, "profiled 12 min ago, 3 lines changed since") {
			t.Errorf("the hover does not tell of the drift: %s", got)
		}
		s.SetText(path, before)
		s.checkHints("fib/fib.go")

		// White space is no change.
		s.Replace(path, `\tif n < 2`, "        if n < 2")
		s.checkHints("fib/fib.go")

		// Several edits in one change, then all gone and back.
		s.Edit(path, lsptest.Edit{Start: 0, End: 0, New: "// x" + ending}, lsptest.Edit{Start: len(s.Text(path)), End: len(s.Text(path)), New: "// y"})
		s.checkHints("fib/fib.go")
		all := s.Text(path)
		s.Edit(path, lsptest.Edit{Start: 0, End: len(all)})
		s.wantHints("fib/fib.go")
		s.Edit(path, lsptest.Edit{New: all})
		s.checkHints("fib/fib.go")
		if s.Refreshes("inlayHint") != 0 {
			t.Error("an edit led to a refresh")
		}
	}
}

// Lines with two-, three- and four-byte characters, tabs, and no final newline have their hint at
// their end in whatever the editor counts.
func TestHintPositions(t *testing.T) {
	text := "package p\n\tx := \"é𝄞\" // é\n\tvar 𝄞 = 1\r\n\t\ty()"
	cpu := `cpu ns
p.f@a.go:2|start=1|entry 10
p.f@a.go:3|start=1|entry 10
p.f@a.go:4|start=1|entry 10
`
	for _, enc := range []string{"utf-8", "utf-16", "utf-32"} {
		s := start(t, "-- go.mod --\nmodule p\n", setup{
			before: func(s *session) {
				s.write("a.go", text)
				s.put(s.capture(cpu, nil))
			},
			Options: lsptest.Options{Editor: "nvim-0.12", Capabilities: `{"general": {"positionEncodings": ["` + enc + `"]}}`},
		})
		s.Open(s.path("a.go"))
		if got := s.Encoding.String(); got != enc {
			t.Fatalf("the encoding is %s, want %s", got, enc)
		}
		s.wantHints("a.go", "2: 33.3% · 10 ns", "3: 33.3% · 10 ns", "4: 33.3% · 10 ns")
		s.Replace(s.path("a.go"), "y", "𝄞é") // inside the line: its number goes
		s.wantHints("a.go", "2: 33.3% · 10 ns", "3: 33.3% · 10 ns")
		s.Replace(s.path("a.go"), "𝄞é\\(", "y(")
		s.wantHints("a.go", "2: 33.3% · 10 ns", "3: 33.3% · 10 ns", "4: 33.3% · 10 ns")
	}
}

func TestLabelsFit(t *testing.T) {
	s := start(t, fib, setup{captures: []string{strings.ReplaceAll(fibCPU, "00000000 ", "0000000000000 ")}})
	s.Open(s.path("fib/fib.go"))
	for _, h := range s.Hints(s.path("fib/fib.go")) {
		if utf8.RuneCountInString(h.Text) > 20 {
			t.Errorf("hint %q is longer than 20 characters", h.Text)
		}
	}
}

// When more than half of the measured lines are gone, there is one notice instead of numbers.
func TestStale(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	s.Replace(path, `n < 2`, "n < 3")
	s.wantHints("fib/fib.go", "7: 50.0% · 5.0 s", "11: 20.0% · 2.0 s") // one of three
	s.Replace(path, `Fib\(n-1\)`, "Fib(n-3)")
	s.wantHints("fib/fib.go")
	notice := "profiled 12 min ago, but 2 of 3 measured lines have changed since: profile again"
	if diff := cmp.Diff([]string{"1: " + notice}, s.lenses("fib/fib.go")); diff != "" {
		t.Errorf("lenses of a stale file (-want +got):\n%s", diff)
	}
	if got := s.Hover(path, "range a"); !strings.Contains(got, notice) {
		t.Errorf("the hover of a stale file is %q", got)
	}
	s.Run(s.Lens(path, "profile again").Command, nil)
	if got := s.lenses("fib/fib.go"); len(got) != 0 {
		t.Errorf("lenses after clear: %q", got)
	}
}

// Half of the measured lines may go; the other half is still right.
func TestHalfLost(t *testing.T) {
	s := start(t, fib, setup{captures: []string{`cpu ns
fib.Fib@fib/fib.go:4|start=3|entry 60
fib.Fib@fib/fib.go:7|start=3|entry 40
`}})
	s.Open(s.path("fib/fib.go"))
	s.Replace(s.path("fib/fib.go"), `n < 2`, "n < 3")
	s.wantHints("fib/fib.go", "7: 40.0% · 40 ns")
}

// The newest capture that touches a document supplies its numbers, whatever newer ones touch.
func TestNewestThatTouches(t *testing.T) {
	s := start(t, fib+"-- other.go --\npackage fib\n\nfunc x() {}\n", setup{captures: []string{
		fibCPU,
		"cpu ns\nx@other.go:3|start=3|entry 5\n",
		"cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n",
	}})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	s.Open(s.path("other.go"))
	s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	s.wantHints("fib/fib_test.go", "6: 99.0% · 9.9 s")
	s.wantHints("other.go", "3: 100.0% · 5 ns")
}

// A document is found through symbolic links on either side.
func TestSymlinkedWorkspace(t *testing.T) {
	link := t.TempDir() + "/link"
	s := start(t, fib, setup{captures: []string{fibCPU}, before: func(s *session) {
		if err := os.Symlink(s.dir, link); err != nil {
			t.Fatal(err)
		}
	}, Options: lsptest.Options{Folders: []string{link}}})
	s.Open(link + "/fib/fib.go")
	if got := s.Hints(link + "/fib/fib.go"); len(got) != 3 {
		t.Errorf("hints through a symbolic link: %v", got)
	}
}

// A capture from another machine is matched by build paths, through the user's prefixes too.
func TestForeignCapture(t *testing.T) {
	s := start(t, fib, setup{
		captures: []string{strings.ReplaceAll(fibCPU, "@fib/", "@/build/src/fib/")},
		Options:  lsptest.Options{Settings: map[string]any{"sightline": map[string]any{"paths": map[string]any{"/build/src": ""}}}},
	})
	s.Open(s.path("fib/fib.go"))
	s.Await(lsptest.Refreshed("inlayHint", 1)) // the first settings have come
	s.Forget()
	s.wantHints("fib/fib.go")
	s.Configure(map[string]any{"sightline": map[string]any{"paths": map[string]any{"/build/src": s.dir}}})
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.checkHints("fib/fib.go")
	if got := s.Hover(s.path("fib/fib.go"), "n < 2"); !strings.Contains(got, "The source was not recorded") {
		t.Errorf("the hover does not say that drift is unknown: %s", got)
	}
}

// A source that was found but whose text was not kept is compared with the file on disk.
func TestSourceWithoutText(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}, source: func(_ string, src *profile.Source) { src.Text = nil }})
	path := s.path("fib/fib.go")
	s.Open(path)
	s.checkHints("fib/fib.go")
	s.Replace(path, `package fib\n`, "package fib\n\n\n")
	s.checkHints("fib/fib.go")
}

// Another process stores a capture: the editor is asked to refresh, and what it then asks is new.
func TestCaptureByOtherProcess(t *testing.T) {
	s := start(t, fib, setup{})
	s.Open(s.path("fib/fib.go"))
	s.wantHints("fib/fib.go")
	s.put(s.capture(fibCPU, nil))
	s.Await(lsptest.Refreshed("inlayHint", 1), lsptest.Refreshed("codeLens", 1))
	s.checkHints("fib/fib.go")
}

// Lone carriage returns are line ends to the protocol and none to compilers.
func TestLoneCarriageReturn(t *testing.T) {
	s := start(t, "-- go.mod --\nmodule p\n", setup{before: func(s *session) {
		s.write("a.go", "package p // a\rb\n\nfunc f() {}\n")
		s.put(s.capture("cpu ns\np.f@a.go:3|start=3|entry 10\n", nil))
	}})
	s.Open(s.path("a.go"))
	s.wantHints("a.go", "4: 100.0% · 10 ns")
}

func TestDocumentsThatAreNoFiles(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.OpenURI("git:/fib/fib.go?ref=HEAD", "git:/fib/fib.go?ref=HEAD", "package fib\n")
	if got := s.Hints("git:/fib/fib.go?ref=HEAD"); len(got) != 0 {
		t.Errorf("a document of git has hints %v", got)
	}
	if got := s.HoverAt("git:/fib/fib.go?ref=HEAD", protocol.Position{}); got != "" {
		t.Errorf("a document of git has a hover %q", got)
	}
}

func TestDocumentNeverOpened(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	id := map[string]any{"uri": uri.File(s.path("fib/fib.go"))}
	zero := protocol.Range{}
	for method, params := range map[string]map[string]any{
		protocol.MethodTextDocumentInlayHint:  {"textDocument": id, "range": zero},
		protocol.MethodTextDocumentCodeLens:   {"textDocument": id},
		protocol.MethodTextDocumentHover:      {"textDocument": id, "position": zero.Start},
		protocol.MethodTextDocumentCodeAction: {"textDocument": id, "range": zero, "context": map[string]any{"diagnostics": []any{}}},
		"sightline/lines":                     {"textDocument": id},
	} {
		err := s.Call(method, params, nil)
		if err == nil || !strings.Contains(err.Error(), "is not open here: send textDocument/didOpen first (-32602)") {
			t.Errorf("%s of a document that is not open: %v", method, err)
		}
	}
	s.Notify(protocol.MethodTextDocumentDidChange, map[string]any{
		"textDocument": map[string]any{"uri": id["uri"], "version": 2}, "contentChanges": []any{map[string]any{"text": "x"}},
	})
	s.Notify(protocol.MethodTextDocumentDidClose, map[string]any{"textDocument": id})
	s.Open(s.path("fib/fib.go"))
	s.checkHints("fib/fib.go")
}

// Positions past the end mean the end.
func TestPositionsPastTheEnd(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	path := s.path("fib/fib.go")
	s.Open(path)
	if got := s.HoverAt(path, protocol.Position{Line: 4_000_000_000, Character: 7}); got != "" {
		t.Errorf("hover past the end is %q", got)
	}
	if got := s.HoverAt(path, protocol.Position{Line: 3, Character: 4_000_000_000}); !strings.Contains(got, "fib.go:4") {
		t.Errorf("hover past the end of line 4 is %q", got)
	}
	s.Notify(protocol.MethodTextDocumentDidChange, map[string]any{
		"textDocument": map[string]any{"uri": uri.File(path), "version": 2},
		"contentChanges": []any{map[string]any{"text": "\n// end", "range": protocol.Range{
			Start: protocol.Position{Line: 3_000_000, Character: 5}, End: protocol.Position{Line: 4_000_000, Character: 5},
		}}},
	})
	var raw []protocol.InlayHint
	s.Must(protocol.MethodTextDocumentInlayHint, map[string]any{
		"textDocument": map[string]any{"uri": uri.File(path)},
		"range":        protocol.Range{End: protocol.Position{Line: 100}},
	}, &raw)
	if len(raw) != 3 {
		t.Errorf("after an edit past the end there are %d hints, want 3", len(raw))
	}
}

// Each weight is written in the step that suits it: none loses its digits beside a larger one.
func TestSmallBesideLarge(t *testing.T) {
	s := start(t, fib, setup{captures: []string{`cpu ns
fib.Fib@fib/fib.go:4|start=3|entry 5800000000
fib.Fib@fib/fib.go:7|start=3|entry 199000000
`}})
	s.Open(s.path("fib/fib.go"))
	s.wantHints("fib/fib.go", "4: 96.7% · 5.8 s", "7: 3.3% · 199 ms")
	if diff := cmp.Diff([]string{"3: self 100.0% · 6.0 s, #1"}, s.lenses("fib/fib.go")); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
}
