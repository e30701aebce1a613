package lspserver_test

import (
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// The notice that numbers are too old is hidden for its file alone, until there is a new capture.
func TestStaleNoticeIsOfOneFile(t *testing.T) {
	s := start(t, fib, setup{captures: []string{fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Open(s.path("fib/fib_test.go"))
	s.SetText(s.path("fib/fib.go"), "package fib\n")
	l := s.Lens(s.path("fib/fib.go"), "changed since")
	s.Run(l.Command, l.Arguments)
	if got := s.lenses("fib/fib.go"); len(got) != 0 {
		t.Errorf("after its lens was run the notice is still there: %q", got)
	}
	s.checkHints("fib/fib_test.go")
	s.checkLenses("fib/fib_test.go")
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.Forget()
	s.put(s.capture("cpu ns\nfib.Fib@fib/fib.go:1|start=1|entry 5\n", nil))
	s.Await(lsptest.Refreshed("inlayHint", 1))
	s.wantHints("fib/fib.go", "1: 100.0% · 5 ns")
}

func TestStaleNoticeOfOneLine(t *testing.T) {
	s := start(t, fib, setup{captures: []string{"cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n"}})
	s.Open(s.path("fib/fib.go"))
	s.Replace(s.path("fib/fib.go"), `n < 2`, "n < 3")
	if got := s.lenses("fib/fib.go"); len(got) != 1 || !strings.Contains(got[0], "1 of 1 measured line has changed since") {
		t.Errorf("lenses are %q", got)
	}
}

// When the capture that was opened is removed, the newest is shown and the person told, once.
func TestOpenedCaptureRemoved(t *testing.T) {
	s := start(t, fib, setup{captures: []string{"cpu ns\nfib.Fib@fib/fib.go:4|start=3|entry 5\n", fibCPU}})
	s.Open(s.path("fib/fib.go"))
	s.Execute("sightline.openCapture", "@2")
	s.wantHints("fib/fib.go", "4: 100.0% · 5 ns")
	id, err := s.store.Resolve("@2")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Remove(id); err != nil {
		t.Fatal(err)
	}
	s.Await(lsptest.Shown(`^Capture ` + string(id) + ` was removed: the newest is shown again\.$`))
	s.checkHints("fib/fib.go")
	s.Look(func(st *lsptest.State) {
		if len(st.Messages) != 1 {
			t.Errorf("messages: %v", st.Messages)
		}
	})
}
