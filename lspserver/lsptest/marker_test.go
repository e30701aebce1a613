package lsptest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMarkers(t *testing.T) {
	got, err := ParseMarkers("a.py", "x #@ hint(\"75.0%\")\r\ny\nz //@nohint, lens(`a \"b\"`) self(\"> 60 %\") //@ not a second one\n")
	if err == nil {
		t.Errorf("what follows a marker was read as %v", got)
	}
	got, err = ParseMarkers("a.py", "x #@ hint(\"75.0%\")\r\ny\nz //@nohint, lens(`a \"b\"`) self(\"> 60 %\")\n#@ total(\"1.5..2%\")")
	if err != nil {
		t.Fatal(err)
	}
	want := []Marker{
		{"a.py", 1, "hint", []string{"75.0%"}},
		{"a.py", 3, "nohint", nil},
		{"a.py", 3, "lens", []string{`a "b"`}},
		{"a.py", 3, "self", []string{"> 60 %"}},
		{"a.py", 4, "total", []string{"1.5..2%"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseMarkersRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"\n//@ hin(\"x\")":     `a.go:2: there is no marker "hin"`,
		"//@":                  "nothing",
		"//@ hint":             "hint takes 1 arguments, not 0",
		"//@ hint()":           "hint takes 1 arguments, not 0",
		"//@ hint(\"a\", 2)":   "hint takes 1 arguments, not 2",
		"//@ nohint(1)":        "nohint takes 0 arguments",
		"//@ hint(\"a\"":       "where a comma or ) is expected",
		"//@ hint(\"a)":        "not terminated",
		"//@ hint(,)":          "where an argument is expected",
		"//@ 5":                "where a name is expected",
		"//@ self(\"60%\")":    "is not a bound",
		"//@ self(\"9..5%\")":  "begins above its end",
		"//@ total(\">1000\")": "is not a bound",
	} {
		if m, err := ParseMarkers("a.go", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", text, m, err, want)
		}
	}
}

func TestBound(t *testing.T) {
	for s, percents := range map[string][4]float64{ // two that hold, two that do not
		">60%":    {60, 100, 59.9, 101},
		"<5%":     {0, 5, 5.1, -1},
		"40..60%": {40, 60, 39.9, 60.1},
	} {
		b, err := ParseBound(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range percents {
			if got := b.Holds(p); got != (i < 2) {
				t.Errorf("%s holds for %v: %v", s, p, got)
			}
		}
	}
}
