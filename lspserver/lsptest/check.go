package lsptest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// Markers are the markers in a document as the editor has it now.
func Markers(t testing.TB, e *Editor, path string) []Marker {
	t.Helper()
	markers, err := ParseMarkers(filepath.Base(path), e.Text(path))
	if err != nil {
		t.Fatal(err)
	}
	return markers
}

// CheckHints compares a document's hints with its hint and nohint markers, one to one: a marker
// without its hint fails, and so does a hint without its marker, or one that is not at the end of
// its line.
func CheckHints(t testing.TB, e *Editor, path string) {
	t.Helper()
	got, want := []string{}, []string{}
	for _, h := range e.Hints(path) {
		s := fmt.Sprintf("%d: %s", h.Line, h.Text)
		if !h.AtEnd {
			s += fmt.Sprintf(" (at character %d, not at the end)", h.Raw.Position.Character)
		}
		got = append(got, s)
	}
	for _, m := range Markers(t, e, path) {
		if m.Kind == "hint" {
			want = append(want, fmt.Sprintf("%d: %s", m.Line, m.Args[0]))
		}
	}
	compare(t, "hints", path, want, got)
}

// CheckLenses compares a document's lenses with its lens markers, one to one and, above one line, in
// order.
func CheckLenses(t testing.TB, e *Editor, path string) {
	t.Helper()
	got, want := []string{}, []string{}
	for _, l := range e.Lenses(path) {
		got = append(got, fmt.Sprintf("%d: %s", l.Line, l.Title))
	}
	for _, m := range Markers(t, e, path) {
		if m.Kind == "lens" {
			want = append(want, fmt.Sprintf("%d: %s", m.Line, m.Args[0]))
		}
	}
	compare(t, "lenses", path, want, got)
}

func compare(t testing.TB, what, path string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s of %s, line: text, differ from its markers (-marked +shown):\n%s", what, filepath.Base(path), diff)
	}
}

// CheckDiagnostics compares a document's diagnostics with its diag markers, one to one.
func CheckDiagnostics(t testing.TB, e *Editor, path string) {
	t.Helper()
	unmarked := e.Diagnostics(path)
	for _, m := range Markers(t, e, path) {
		if m.Kind != "diag" {
			continue
		}
		re, err := regexp.Compile(m.Args[0])
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		at := -1
		for i, d := range unmarked {
			if int(d.Range.Start.Line)+1 == m.Line && re.MatchString(DiagnosticText(d)) {
				at = i
				break
			}
		}
		if at < 0 {
			t.Errorf("%v: there is no such diagnostic", m)
			continue
		}
		unmarked = slices.Delete(unmarked, at, at+1)
	}
	for _, d := range unmarked {
		t.Errorf("%s:%d: a diagnostic that is not marked: %s", filepath.Base(path), d.Range.Start.Line+1, DiagnosticText(d))
	}
}

// CheckShares checks a document's self and total markers against the costs that the server gives for
// drawing (rpc.MethodLines): for what was recorded live and is not the same twice. A line without a
// cost has 0 %.
func CheckShares(t testing.TB, e *Editor, path string) {
	t.Helper()
	var lines rpc.LinesResult
	e.Must(rpc.MethodLines, rpc.LinesParams{TextDocument: rpc.DocumentID{URI: string(uriOf(path))}}, &lines)
	costs := map[int]rpc.LineCost{}
	for _, l := range lines.Lines {
		costs[l.Line+1] = l
	}
	checked := 0
	for _, m := range Markers(t, e, path) {
		if m.Kind != "self" && m.Kind != "total" {
			continue
		}
		checked++
		bound, err := ParseBound(m.Args[0])
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		weight := costs[m.Line].Total
		if m.Kind == "self" {
			weight = costs[m.Line].Self
		}
		percent := 0.0
		if lines.Total > 0 {
			percent = 100 * float64(weight) / float64(lines.Total)
		}
		if !bound.Holds(percent) {
			t.Errorf("%v: it has %.1f %% (%d of %d %s)", m, percent, weight, lines.Total, lines.Unit)
		}
	}
	if checked == 0 {
		t.Errorf("%s has no marker self or total to check", filepath.Base(path))
	}
}

// HintLines is a document's hints as "line: text", for a test that expects few.
func HintLines(e *Editor, path string) string {
	e.t.Helper()
	var s []string
	for _, h := range e.Hints(path) {
		s = append(s, fmt.Sprintf("%d: %s", h.Line, h.Text))
	}
	return strings.Join(s, "\n")
}
