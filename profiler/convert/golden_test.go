package convert

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/sightline-dev/sightline/profiler/profile"
)

var update = flag.Bool("update", false, "rewrite the expectations of testdata/golden")

// describe is all that was read of a file, as text.
func describe(t testing.TB, c *profile.Capture, f Format) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s of %q, target %s, length %v\n", f, c.Engine, c.Target, c.Length)
	if !c.Start.IsZero() {
		fmt.Fprintf(&b, "start %s\n", c.Start.UTC().Format("2006-01-02T15:04:05.999999999"))
	}
	for _, m := range c.Mappings[1:] {
		fmt.Fprintf(&b, "mapping %s %q %v\n", m.Path, m.BuildID, m.Offsets)
	}
	for i, l := range c.Locations {
		if m := c.Mappings[l.Mapping]; m.Offsets || l.Mapping != 0 && c.Symbols.Of[i] == nil {
			fmt.Fprintf(&b, "location %#x in %s\n", l.Addr, m.Path)
		}
	}
	for _, s := range c.Series {
		fmt.Fprintf(&b, "\nseries %s period %d source %q\n", s.Kind, s.Period, s.Source)
		p := profileOf(t, c, s.Kind)
		p.Warnings, p.Start, p.Length = nil, c.Start.UTC(), 0
		b.Write(p.AppendText(nil))
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "\nwarning %s %d: %s\n", w.Kind, w.Count, w.Text)
	}
	return b.String()
}

// TestGolden reads the small files of testdata/golden: each archive says what it is about, and holds
// inputs, each followed by "want", which is what is read of it or the error.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var out txtar.Archive
			out.Comment = a.Comment
			for i, in := range a.Files {
				if in.Name == "want" {
					continue
				}
				c, f, err := Read(t.Context(), bytes.NewReader(in.Data), Options{Name: in.Name})
				var got string
				if err != nil {
					got = "error: " + err.Error() + "\n"
				} else {
					checkCapture(t, c)
					got = describe(t, c, f)
				}
				out.Files = append(out.Files, in, txtar.File{Name: "want", Data: []byte(got)})
				if *update {
					continue
				}
				if i+1 >= len(a.Files) || a.Files[i+1].Name != "want" {
					t.Fatalf("%s has no want", in.Name)
				}
				if d := cmp.Diff(string(a.Files[i+1].Data), got); d != "" {
					t.Errorf("%s (-want +got):\n%s", in.Name, d)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(&out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// goldens are the inputs of the golden files of a format, as seeds.
func goldens(t testing.TB, format string) [][]byte {
	t.Helper()
	a, err := txtar.ParseFile("testdata/golden/" + format + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, f := range a.Files {
		if f.Name != "want" {
			all = append(all, f.Data)
		}
	}
	return all
}

func FuzzCollapsed(f *testing.F) { fuzzRead(f, Collapsed, goldens(f, "collapsed")...) }

func FuzzSpeedscope(f *testing.F) { fuzzRead(f, Speedscope, goldens(f, "speedscope")...) }

func FuzzChrome(f *testing.F) { fuzzRead(f, Chrome, goldens(f, "chrome")...) }

func FuzzFirefox(f *testing.F) { fuzzRead(f, Firefox, goldens(f, "firefox")...) }

func FuzzPprof(f *testing.F) {
	seeds := goldens(f, "pprof")
	for _, unit := range []profile.Unit{profile.Nanoseconds, profile.Number} {
		var b bytes.Buffer
		if err := Write(&b, Pprof, Export{Profile: sample(f, "cpu", unit, "")}); err != nil {
			f.Fatal(err)
		}
		in, err := open(f.Context(), bytes.NewReader(b.Bytes()), 0)
		if err != nil {
			f.Fatal(err)
		}
		var plain bytes.Buffer
		if _, err := plain.ReadFrom(in); err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, plain.Bytes())
	}
	fuzzRead(f, Pprof, seeds...)
}

// FuzzRead looks at what lies around the formats: recognizing, unpacking, decoding.
func FuzzRead(f *testing.F) {
	for _, s := range [][]byte{{0x1f, 0x8b, 8}, {0x28, 0xb5, 0x2f, 0xfd}, []byte("PK\x03\x04"), {0xfe, 0xff, 0, 'a', 0xd8, 0}, zipped(f, map[string]string{"a": "a;b 1\n"})} {
		f.Add(s)
	}
	for _, format := range []string{"collapsed", "speedscope", "chrome", "firefox", "pprof"} {
		for _, s := range goldens(f, format) {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, format, err := Read(t.Context(), bytes.NewReader(data), Options{Experimental: true})
		if (c == nil) == (err == nil) {
			t.Fatalf("capture %v and error %v", c, err)
		}
		if err == nil {
			if f := formatOf(format); f == nil {
				t.Fatalf("read as %q", format)
			}
			checkCapture(t, c)
		}
	})
}

// A target is shown as its words, without quotes that its file does not have.
func TestTargetWords(t *testing.T) {
	for name, want := range map[string]string{
		"standard input": "standard input", "/tmp/a b/cpu.folded": "cpu.folded", "my file.txt": "my file.txt", "": "nothing",
	} {
		c, _, err := Read(t.Context(), strings.NewReader("a;b 1\n"), Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Target.String(); got != want {
			t.Errorf("a file named %q is shown as %q, want %q", name, got, want)
		}
	}
	for line, want := range map[string][]string{
		"gcc -O2 x.c": {"gcc", "-O2", "x.c"}, `sh -c "a \"b\"" c`: {"sh", "-c", `a "b"`, "c"}, `it"s "5`: {`it"s`, `"5`}, " ": nil, `"a"b`: {`"a"b`},
	} {
		if d := cmp.Diff(want, commandWords(line)); d != "" {
			t.Errorf("%s: %s", line, d)
		}
		if want == nil {
			continue
		}
		c := roundTripCapture(t, Speedscope, line)
		if d := cmp.Diff(want, c.Target.Command); d != "" {
			t.Errorf("speedscope of %s: %s", line, d)
		}
	}
}

// roundTripCapture is what is read of a profile of that name.
func roundTripCapture(t *testing.T, f Format, name string) *profile.Capture {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, Export{Profile: sample(t, profile.CPU, profile.Nanoseconds, ""), Name: name}); err != nil {
		t.Fatal(err)
	}
	return readAs(t, b.Bytes(), f)
}

// Formats without times have all samples at the start, and the length that the file says.
func TestNoTimes(t *testing.T) {
	for text, length := range map[string]string{
		"a;b 3\nc 5\n": "0s",
		`{"shared":{"frames":[{"name":"f"}]},"profiles":[{"type":"sampled","unit":"milliseconds","startValue":5,"endValue":8,"samples":[[0],[0]],"weights":[1,2]}]}`: "3ms",
		"a 1 9000 cpu-clock:\n\t 1 f (/a)\n\na 1 9000 cpu-clock:\n\t 1 f (/a)\n":                                                                                     "0s",
	} {
		c, _, err := Read(t.Context(), strings.NewReader(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Length.String(); got != length {
			t.Errorf("%q lasts %s, want %s", text, got, length)
		}
		for _, at := range c.Series[0].Samples.Time {
			if at != 0 {
				t.Errorf("%q has a sample at %v", text, at)
			}
		}
	}
}
