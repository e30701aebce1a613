package sourcemap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A source is held against the MD5 that the compiler wrote for it, whatever the times of files, and
// is found by a rule for relative paths.
func TestSourcesMD5(t *testing.T) {
	bin := compile(t, "sums.c", "int main(int n, char **v) {\n\treturn n * 7;\n}\n", "sh", "-c", "clang -gdwarf-5 -O2 -ffile-prefix-map=$PWD=. -o out sums.c")
	dir := filepath.Dir(bin)
	source := filepath.Join(dir, "sums.c")
	note := func() string {
		t.Helper()
		r := newRecording()
		m := r.file(t, bin)
		for _, a := range codeAddresses(t, bin) {
			r.add(m, a)
		}
		s := NewSymbolizer(Config{Paths: &Paths{Prefixes: []Prefix{{".", dir}}}})
		if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
			t.Fatal(err)
		}
		if err := s.Sources(t.Context(), r.Capture); err != nil {
			t.Fatal(err)
		}
		var found *profile.Source
		for i, x := range r.Symbols.Sources {
			if filepath.Base(x.Path) == "sums.c" {
				found = &r.Symbols.Sources[i]
			}
		}
		if found == nil || found.Local != source || found.Text == nil {
			t.Fatalf("%+v", r.Symbols.Sources)
		}
		return found.Note
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(source, later, later); err != nil {
		t.Fatal(err)
	}
	if n := note(); n != "" {
		t.Errorf("the text of the build, only touched: %s", n)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, append([]byte("// new\n"), text...), 0o666); err != nil {
		t.Fatal(err)
	}
	earlier := time.Now().Add(-time.Hour)
	if err := os.Chtimes(source, earlier, earlier); err != nil {
		t.Fatal(err)
	}
	if n := note(); !strings.Contains(n, "MD5") {
		t.Errorf("another text with an older time: %q", n)
	}
}
