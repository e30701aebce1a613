package lspserver

import "testing"

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"a_test.go:7 · #1 of 3 functions": "a_test.go:7 · #1 of 3 functions",
		"_x_":                             `\_x\_`,
		"main.(*T).f[int] <-c":            `main.(\*T).f\[int] \<-c`,
		"a < b && c <= d":                 "a < b && c <= d",
		"x &amp; `y`\n":                   "x \\&amp; \\`y\\` ",
		`C:\dir \*`:                       `C:\dir \\\*`,
	} {
		if got := escape(text); got != want {
			t.Errorf("escape(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestWholeFrequency(t *testing.T) {
	s, _, wrong := parseSettings([]byte(`{"recording": {"frequency": 1.5}, "test": {"flags": ["-x", 3]}}`))
	if len(wrong) != 2 || s.frequency != 0 || s.testFlags != nil {
		t.Errorf("settings are %+v, told %q", s, wrong)
	}
}
