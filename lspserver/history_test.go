package lspserver_test

import (
	"strings"
	"testing"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// twins is two functions with the same body, one of which is hot.
const twins = `
-- go.mod --
module p
-- s.go --
package p

func Cold(n int) (x int) {
	for i := range n {
		x ^= i << 3
		x += i >> 2
	}
	return x
}

func Hot(n int) (x int) {
	for i := range n {
		x ^= i << 3
		x += i >> 2
	}
	return x
}
`

const twinsCPU = `cpu ns
p.Cold@s.go:5|start=3|entry 10
p.Hot@s.go:13|start=11|entry 70
p.Hot@s.go:14|start=11|entry 20
`

const coldText = "func Cold(n int) (x int) {\n\tfor i := range n {\n\t\tx ^= i << 3\n\t\tx += i >> 2\n\t}\n\treturn x\n}\n\n"

// cutCold cuts Cold and pastes it below Hot, in two changes.
func cutCold(s *session) {
	s.t.Helper()
	path := s.path("s.go")
	s.Replace(path, `func Cold(?s:.*?)\n}\n\n`, "")
	s.wantHints("s.go", "5: 70.0% · 70 ns", "6: 20.0% · 20 ns")
	s.Replace(path, `\z`, "\n"+strings.TrimSuffix(coldText, "\n"))
}

// Of two functions with the same body each keeps its numbers, however they are moved.
func TestTwinsAreToldApart(t *testing.T) {
	s := start(t, twins, setup{captures: []string{twinsCPU}})
	path := s.path("s.go")
	s.Open(path)
	before := []string{"5: 10.0% · 10 ns", "13: 70.0% · 70 ns", "14: 20.0% · 20 ns"}
	s.wantHints("s.go", before...)
	cutCold(s)
	moved := []string{"5: 70.0% · 70 ns", "6: 20.0% · 20 ns", "13: 10.0% · 10 ns"}
	s.wantHints("s.go", moved...)

	// What is saved may be recorded: the numbers count in the lines of then.
	s.Save(path)
	s.put(s.capture("cpu ns\np.Hot@s.go:5|start=3|entry 60\np.Cold@s.go:13|start=11|entry 40\n", nil))
	again := []string{"5: 60.0% · 60 ns", "13: 40.0% · 40 ns"}
	s.Execute("sightline.openCapture", "@")
	s.wantHints("s.go", again...)
	s.Replace(path, `package p\n`, "package p\n\n")
	s.wantHints("s.go", "6: 60.0% · 60 ns", "14: 40.0% · 40 ns")
	s.Execute("sightline.openCapture", "@2") // and those of before still in theirs
	s.wantHints("s.go", "6: 70.0% · 70 ns", "7: 20.0% · 20 ns", "14: 10.0% · 10 ns")
}

// A line pasted above an equal one has no number, and the old one keeps its own.
func TestCopiedLine(t *testing.T) {
	s := start(t, twins, setup{captures: []string{twinsCPU}})
	path := s.path("s.go")
	s.Open(path)
	at := s.Find(path, `func Hot[^^]*?(\t\tx \^=)`)
	hot := "\t\tx ^= i << 3\n"
	s.Edit(path, editAt(at, at, hot))
	s.wantHints("s.go", "5: 10.0% · 10 ns", "14: 70.0% · 70 ns", "15: 20.0% · 20 ns")
	s.Edit(path, editAt(at, at+len(hot), ""))
	s.wantHints("s.go", "5: 10.0% · 10 ns", "13: 70.0% · 70 ns", "14: 20.0% · 20 ns")
	s.Replace(path, `Hot(?s:.*?)<< 3`, "Hot(n int) (x int) {\n\tfor i := range n {\n\t\tx ^= i << 4") // changed
	s.wantHints("s.go", "5: 10.0% · 10 ns", "14: 20.0% · 20 ns")
	s.Replace(path, `<< 4`, "<< 3") // and back
	s.wantHints("s.go", "5: 10.0% · 10 ns", "13: 70.0% · 70 ns", "14: 20.0% · 20 ns")
}

// White space within a line is a change, as any other; that before it is none.
func TestSpaceWithinLine(t *testing.T) {
	s := start(t, twins, setup{captures: []string{twinsCPU}})
	path := s.path("s.go")
	s.Open(path)
	s.Replace(path, `(Cold[^^]*?)\t\tx \^=`, "$1\t\t\t x ^=")
	s.wantHints("s.go", "5: 10.0% · 10 ns", "13: 70.0% · 70 ns", "14: 20.0% · 20 ns")
	s.Replace(path, `x \+= i >> 2\n\t}\n\treturn x\n}\n\z`, "x +=  i >> 2\n\t}\n\treturn x\n}\n")
	s.wantHints("s.go", "5: 10.0% · 10 ns", "13: 70.0% · 70 ns")
	if got := s.Hover(path, "func Hot"); !strings.Contains(got, "1 line changed since") {
		t.Errorf("the hover does not tell of the edit: %s", got)
	}
}

// After a change that cannot be applied nothing is known until the whole text comes.
func TestChangeThatCannotBeApplied(t *testing.T) {
	s := start(t, twins, setup{captures: []string{twinsCPU}})
	path := s.path("s.go")
	s.Open(path)
	text := s.Text(path)
	s.Notify(protocol.MethodTextDocumentDidChange, map[string]any{
		"textDocument": map[string]any{"uri": uri.File(path), "version": 2},
		"contentChanges": []any{map[string]any{"text": "x", "range": protocol.Range{
			Start: protocol.Position{Line: 5}, End: protocol.Position{Line: 4},
		}}},
	})
	s.wantHints("s.go")
	s.SetText(path, text)
	s.wantHints("s.go", "5: 10.0% · 10 ns", "13: 70.0% · 70 ns", "14: 20.0% · 20 ns")
}

// Going to a recorded line that was changed says so.
func TestGoToChangedLine(t *testing.T) {
	s := start(t, twins, setup{captures: []string{twinsCPU}})
	path := s.path("s.go")
	s.Open(path)
	s.Replace(path, `range n(?s:.*)\z`, "range 5 {\n\t}\n}\n")
	s.Execute("sightline.goToFrame", map[string]any{"capture": "@", "file": "s.go", "line": 4})
	s.Await(lsptest.Shown(`^Line 4 of s\.go was changed since it was recorded: this is about where it was\.$`))
}

func editAt(from, to int, text string) lsptest.Edit {
	return lsptest.Edit{Start: from, End: to, New: text}
}
