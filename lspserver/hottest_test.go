package lspserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	"go.lsp.dev/protocol"
)

// The hottest line of a function lies inside it, closures included, and is the one whose hint shows
// the highest number.
func TestHottestLineOfFunction(t *testing.T) {
	const archive = `
-- go.mod --
module p
-- a.go --
package p

func Outer(n int) int {
	x := 0
	f := func() {
		x += n
		x *= n
	}
	f()
	return x + helper(n)
}

func helper(n int) int {
	return n
}

// no function follows that has a cost
var table = build(
	7,
)

func last() { spin() }
`
	s := start(t, archive, setup{captures: []string{`cpu ns
p.Outer@a.go:3|start=3|entry 300
p.Outer@a.go:4|start=3|entry 40
p.Outer@a.go:9|start=3|entry;p.Outer.func1@a.go:6|start=5 100
p.Outer@a.go:9|start=3|entry;p.Outer.func1@a.go:7|start=5 160
p.Outer@a.go:10|start=3|entry;p.helper@a.go:14|start=13 120
p.init@a.go:18|start=18|entry 900
p.last@a.go:22|start=22|entry 50
`}})
	path := s.path("a.go")
	s.Open(path)
	leads := func() map[string]uint32 {
		t.Helper()
		to := map[string]uint32{}
		for _, a := range s.Lenses(path) {
			var where struct{ Range protocol.Range }
			if err := json.Unmarshal(s.Run(a.Command, a.Arguments), &where); err != nil {
				t.Fatal(err)
			}
			to[strings.Fields(s.lineText(path, a.Line))[1]] = where.Range.Start.Line + 1
		}
		return to
	}
	check := func(got, want map[string]uint32) {
		t.Helper()
		for name, line := range want {
			if got[name] != line {
				t.Errorf("the lens of %s leads to line %d, want %d", name, got[name], line)
			}
		}
	}
	check(leads(), map[string]uint32{"Outer(n": 9, ":=": 7, "helper(n": 14, "last()": 22})
	s.Execute("sightline.setMetric", "self")
	check(leads(), map[string]uint32{"Outer(n": 7, ":=": 7, "helper(n": 14, "last()": 22})
	for _, a := range s.CodeActions(path, `var table`) {
		if strings.Contains(a.Title, "helper") {
			t.Errorf("below helper there is the action %q", a.Title)
		}
	}
}

// In other languages a function ends where the next begins that is not part of it.
func TestHottestLineElsewhere(t *testing.T) {
	s := start(t, "-- a.rs --\nfn outer() {\n\ta();\n\tv.map(|x| {\n\t\tx + 1\n\t});\n\tb();\n}\nfn next() {\n\tc();\n}\n",
		setup{captures: []string{`cpu ns
outer@a.rs:2|start=1|entry 10
outer::{closure}@a.rs:4|start=3|entry 20
outer@a.rs:6|start=1|entry 30
next@a.rs:9|start=8|entry 50
`}})
	path := s.path("a.rs")
	s.Open(path)
	var where struct{ Range protocol.Range }
	l := s.Lens(path, "40")
	if err := json.Unmarshal(s.Run(l.Command, l.Arguments), &where); err != nil || where.Range.Start.Line != 5 {
		t.Errorf("the lens of outer leads to line %d (%v), want 6", where.Range.Start.Line+1, err)
	}
}

func (s *session) lineText(path string, line int) string {
	return strings.Split(s.Text(path), "\n")[line-1]
}
