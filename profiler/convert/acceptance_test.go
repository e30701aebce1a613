package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// TestAcceptance reads files that other tools made, from the folder that SIGHTLINE_ACCEPTANCE names,
// and wants what their makers read from them.
func TestAcceptance(t *testing.T) {
	dir := os.Getenv("SIGHTLINE_ACCEPTANCE")
	if dir == "" {
		t.Skip("SIGHTLINE_ACCEPTANCE names no folder with files of other tools")
	}
	for _, c := range []struct {
		file   string
		format Format
		kind   profile.Kind
		total  int64
		count  int64
		length string   // "" is not asked for
		rows   []string // "self/total name" of functions
	}{
		{
			"golang+go+inline_hot.pprof", Pprof, "cpu", 1_300_000_000, 130, "1.404944568s",
			[]string{"1240000000/1290000000 example.com/pgo/inline.(*BS).NS", "10000000/1300000000 example.com/pgo/inline.A"},
		},
		{
			"jlfwong+speedscope+pprof-simple.prof", Pprof, "cpu", 1_500_000_000, 150, "",
			[]string{
				"480000000/480000000 main.alpha", "390000000/390000000 main.beta", "270000000/270000000 main.gamma",
				"220000000/580000000 main.delta", "110000000/110000000 runtime.duffcopy",
			},
		},
		// Sums of the golden texts beside the files.
		{"google+pprof+cppbench.cpu", Pprof, "cpu", 7_120_000_000, 712, "", nil},
		{"google+pprof+gobench.heap", Pprof, "inuse_space", 7_721_316, 11445, "", nil},
		{"google+pprof+gobench.heap", Pprof, "alloc_space", 350_314_738, 83134, "", nil},
		{"jlfwong+speedscope+Firefox-63-simple-firefox.json", Firefox, "samples", 39, 39, "", []string{"27/27 gamma"}},
		{
			"jlfwong+speedscope+speedscope-0.0.1-simple.speedscope.json", Speedscope, "samples", 14, 4, "",
			[]string{"5/5 c", "5/14 b", "4/4 d", "0/14 a"},
		},
		{
			"jlfwong+speedscope+speedscope-0.6.0-two-sampled.speedscope.json", Speedscope, "time", 28e9, 10, "14s",
			[]string{"10000000000/10000000000 c", "10000000000/28000000000 b", "8000000000/8000000000 d"},
		},
		{"jlfwong+speedscope+stackcollapse-simple-crlf.txt", Collapsed, "samples", 14, 14, "", []string{"5/5 c", "5/14 b", "4/4 d", "0/14 a"}},
		{"jlfwong+speedscope+stackcollapse-simple-utf16-be.txt", Collapsed, "samples", 14, 14, "", []string{"5/5 c", "5/14 b", "4/4 d", "0/14 a"}},
		{"jlfwong+speedscope+stackcollapse-simple.txt", Collapsed, "samples", 14, 14, "", []string{"5/5 c", "5/14 b", "4/4 d", "0/14 a"}},
		{
			"jlfwong+speedscope+trace-event-multi-thread-with-samples.json", Chrome, "samples", 34_096_000 + 54_096_000, 8, "54.096ms",
			[]string{"30770000/54096000 [root thread 2]", "13326000/13326000 function3", "10000000/10000000 function4"},
		},
		{
			"jlfwong+speedscope+trace-event-simple.json", Chrome, "time", 14_000, 6, "14µs",
			[]string{"5000/5000 gamma", "4000/4000 epsilon", "3000/12000 beta", "2000/14000 alpha"},
		},
	} {
		t.Run(c.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, c.file))
			if err != nil {
				t.Skipf("the folder does not hold it: %v", err)
			}
			defer f.Close()
			got, format, err := Read(t.Context(), f, Options{Name: c.file})
			if err != nil {
				t.Fatal(err)
			}
			checkCapture(t, got)
			if format != c.format || len(got.Warnings) > 0 {
				t.Errorf("read as %s with warnings %v", format, got.Warnings)
			}
			p := profileOf(t, got, c.kind)
			if want := (profile.Measure{Weight: c.total, Count: c.count}); p.Total() != want {
				t.Errorf("total %v, want %v", p.Total(), want)
			}
			if c.length != "" && fmt.Sprint(got.Length) != c.length {
				t.Errorf("length %v, want %s", got.Length, c.length)
			}
			all := totals(p)
			for _, r := range c.rows {
				if !strings.Contains("\n"+strings.Join(all, "\n")+"\n", "\n"+r+"\n") {
					t.Errorf("no row %q among\n%s", r, strings.Join(all, "\n"))
				}
			}
			for _, to := range []Format{Pprof, Speedscope, Firefox, Chrome} {
				if to != Chrome || p.Unit == profile.Nanoseconds {
					compareViews(t, p, roundTrip(t, p, to), to != Chrome, false)
				}
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		b, err := os.ReadFile(filepath.Join(dir, "jlfwong+speedscope+speedscope-invalid-out-of-order-events.json"))
		if err != nil {
			t.Skipf("the folder does not hold it: %v", err)
		}
		mustRefuse(t, b, Options{}, "event 7", "closes frame 1 while frame 0 is innermost")
	})
}

// TestGoProfile reads what this very toolchain writes, and wants of it what the pprof tool says.
func TestGoProfile(t *testing.T) {
	dir := t.TempDir()
	run := goTool(t, dir)
	c := readFile(t, filepath.Join(dir, "cpu.prof"), Pprof)
	p := profileOf(t, c, profile.CPU)
	if p.Unit != profile.Nanoseconds || c.Series[0].Period != 10_000_000 || c.Length <= 0 || c.Start.IsZero() {
		t.Errorf("unit %s, period %d, length %v, start %v", p.Unit, c.Series[0].Period, c.Length, c.Start)
	}
	top := run("tool", "pprof", "-top", "-unit=ns", "-nodecount=10000", "-nodefraction=0", filepath.Join(dir, "cpu.prof"))
	if len(pprofTop(top)) < 5 {
		t.Fatalf("pprof says\n%s", top)
	}
	if d := cmp.Diff(pprofTop(top), totalsByName(p)); d != "" {
		t.Errorf("functions (-pprof +ours):\n%s\n%s", d, top)
	}
	heap := readFile(t, filepath.Join(dir, "mem.prof"), Pprof)
	if heap.Series[0].Kind != "alloc_space" && heap.Series[0].Kind != "inuse_space" {
		t.Errorf("the first series is %s", heap.Series[0].Kind)
	}
	for _, k := range []profile.Kind{"alloc_space", "inuse_space"} {
		top := run("tool", "pprof", "-top", "-unit=B", "-nodecount=10000", "-nodefraction=0", "-sample_index="+string(k), filepath.Join(dir, "mem.prof"))
		if d := cmp.Diff(pprofTop(top), totalsByName(profileOf(t, heap, k))); d != "" {
			t.Errorf("%s (-pprof +ours):\n%s", k, d)
		}
	}
	var lines int
	for _, f := range view.Lines(p) {
		if strings.HasSuffix(f.File, "work_test.go") {
			lines += len(f.Lines)
		}
	}
	if lines == 0 {
		t.Error("no line of the profiled source")
	}
	// What we write, the tool reads as it reads the original.
	var ours strings.Builder
	if err := Write(&ours, Pprof, Export{Profile: p}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "ours.pb.gz")
	if err := os.WriteFile(out, []byte(ours.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pprofTop(top), pprofTop(run("tool", "pprof", "-top", "-unit=ns", "-nodecount=10000", "-nodefraction=0", out))); d != "" {
		t.Errorf("written and read by pprof (-original +ours):\n%s", d)
	}
}
