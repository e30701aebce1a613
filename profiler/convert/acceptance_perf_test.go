package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// openForeign opens a file of the acceptance folder, and skips the test where there is none.
func openForeign(t *testing.T, name string) *os.File {
	t.Helper()
	dir := os.Getenv("SIGHTLINE_ACCEPTANCE")
	if dir == "" {
		t.Skip("SIGHTLINE_ACCEPTANCE names no folder with files of other tools")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("the acceptance folder does not have it: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// readPerfFile reads a perf.data and gives its reader too, for what a capture does not hold.
func readPerfFile(t *testing.T, path string) (*profile.Capture, *perfReader) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := open(t.Context(), f, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	r := newPerfReader(context.Background(), in, Options{Name: path})
	c, err := r.read(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestAcceptancePerfData(t *testing.T) {
	for _, test := range []struct {
		name             string
		unit             profile.Unit
		samples, weight  int64
		switches, spaces int64
		command          string
		mappings         int // with a build ID
		stacks           int // 0: not known
	}{
		{"google+perf_data_converter+single-event-single-process.perf.data", profile.Nanoseconds, 45937, 45937 * 250000, 0, 0, "./a.out", 3, 1061},
		{"google+perf_data_converter+perf.data.ctx_switch_namespaces-4.14", profile.Cycles, 2, 2, 2, 1, "sleep 0.001", 1, 0},
		{"mstange+linux-perf-data+sleep.compressed.data", profile.Cycles, 8, 2201546, 0, 0, "sleep 1", 0, 0},
		{"mstange+linux-perf-data+sleep.data", profile.Cycles, 7, 668601, 0, 0, "sleep 1", 2, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, r := readPerfFile(t, openForeign(t, test.name).Name())
			if len(c.Series) != 1 || c.Series[0].Kind != profile.CPU || c.Series[0].Unit != test.unit {
				t.Fatalf("series: %+v", c.Series)
			}
			if got, want := c.Series[0].Samples.Sum(), (profile.Measure{Weight: test.weight, Count: test.samples}); got != want {
				t.Errorf("sum %+v, want %+v", got, want)
			}
			if got := r.counts[perfSwitch] + r.counts[perfSwitchCPUWide]; got != test.switches {
				t.Errorf("%d switches, want %d", got, test.switches)
			}
			if got := r.counts[perfNamespaces]; got != test.spaces {
				t.Errorf("%d namespaces, want %d", got, test.spaces)
			}
			if got := c.Target.String(); got != test.command {
				t.Errorf("target %q, want %q", got, test.command)
			}
			named := 0
			for _, m := range c.Mappings {
				if m.BuildID != "" {
					named++
				}
			}
			if named != test.mappings {
				t.Errorf("%d mappings with a build ID, want %d: %v", named, test.mappings, c.Mappings)
			}
			if got := c.Stacks.Len() - 1; test.stacks != 0 && got != test.stacks {
				t.Errorf("%d stacks, want %d", got, test.stacks)
			}
			if len(c.Warnings) > 0 {
				t.Errorf("warnings: %v", c.Warnings)
			}
		})
	}
}

func TestAcceptancePerfScript(t *testing.T) {
	read := func(t *testing.T, name string) *profile.Capture {
		t.Helper()
		c, f, err := Read(t.Context(), openForeign(t, name), Options{Name: name})
		if err != nil || f != PerfScript {
			t.Fatalf("taken for %q: %v", f, err)
		}
		return c
	}
	t.Run("forks", func(t *testing.T) {
		c := read(t, "jlfwong+speedscope+linux-perf-forks.linux-perf.txt")
		if got, want := seriesOf(c), map[string]profile.Measure{"cpu": {Weight: 561 * 1001001, Count: 561}}; !cmp.Equal(got, want) {
			t.Errorf("series %v, want %v", got, want)
		}
		if len(c.Tasks)-1 != 4 {
			t.Errorf("threads %v, want 4", c.Tasks[1:])
		}
	})
	t.Run("switches", func(t *testing.T) {
		c := read(t, "microsoft+perfview+mixed_switches.perf.data.dump")
		want := []string{
			`sched:sched_switch 0 1 0/0 "comm1": module!symbol`,
			`sched:sched_switch 1000000000 1 1/1 "comm2": module!symbol`,
			`sched:sched_switch 2000000000 1 3/3 "comm4": module!symbol`,
			`sched:sched_switch 3000000000 1 2/2 "comm3": module!symbol`,
			`cpu 4000000000 1000000 4/4 "comm5": module!symbol`,
			`blocked 1000000000 3000000000 1/1 "comm2": module!symbol`,
			`blocked 2000000000 2000000000 3/3 "comm4": module!symbol`,
			`blocked 3000000000 1000000000 2/2 "comm3": module!symbol`,
		}
		if diff := cmp.Diff(want, renderScript(c)); diff != "" {
			t.Errorf("samples (-want +got):\n%s", diff)
		}
	})
}
