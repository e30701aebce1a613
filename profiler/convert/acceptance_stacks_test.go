package convert

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// foreign opens a file of the acceptance folder and reads it.
func foreign(t *testing.T, name string, o Options) *profile.Capture {
	t.Helper()
	dir := os.Getenv("SIGHTLINE_ACCEPTANCE")
	if dir == "" {
		t.Skip("SIGHTLINE_ACCEPTANCE names no folder of files that other tools made")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Name = name
	c, _, err := Read(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	return c
}

// PerfView's own test of its strace reader: the text, and what PerfView saved of it.
func TestAcceptanceStrace(t *testing.T) {
	for _, name := range []string{"ls", "perf", "dotnet-info"} {
		t.Run(name, func(t *testing.T) {
			file := "microsoft+perfview+" + name + ".strace"
			if _, err := os.Stat(filepath.Join(os.Getenv("SIGHTLINE_ACCEPTANCE"), file+".zip")); err != nil {
				t.Skip("the folder does not have this one")
			}
			want, got := only(t, foreign(t, file+".perfview.xml", Options{})), only(t, foreign(t, file+".zip", Options{}))
			a, b := namesOf(want), namesOf(got)
			if name == "perf" && len(b) > 0 {
				// PerfView loses the first call to the line that strace writes before it.
				b = b[1:]
			}
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("samples (-PerfView +ours):\n%s", diff)
			}
			if want.Unit != got.Unit || want.Source != got.Source {
				t.Errorf("unit %s of %s, want %s of %s", got.Unit, got.Source, want.Unit, want.Source)
			}
			if name != "perf" {
				sameViews(t, want, got)
			}
		})
	}
}

// sameViews compares everything that a view shows.
func sameViews(t *testing.T, want, got *profile.Profile) {
	t.Helper()
	if diff := cmp.Diff(view.ByName(want), view.ByName(got)); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(view.Lines(want), view.Lines(got)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(callTree(t, want), callTree(t, got), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("call tree (-want +got):\n%s", diff)
	}
}

func callTree(t *testing.T, p *profile.Profile) *view.StackNode {
	t.Helper()
	s, err := view.NewSource(p).Filter(t.Context(), view.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return s.Tree(view.AllColumns).Expand(view.TreeOptions{})
}

func TestAcceptancePerfView(t *testing.T) {
	p := only(t, foreign(t, "microsoft+perfview+ls.strace.perfview.xml", Options{}))
	if n, last := p.Samples.Len(), p.Samples.Time[p.Samples.Len()-1]; n != 102 || last.Microseconds() != 33_833 {
		t.Errorf("%d samples, the last at %v; want 102, 33.833ms", n, last)
	}
	if sum := p.Total().Weight; sum != 15_473_000 {
		t.Errorf("sum %d ns, want 15.473 ms", sum)
	}
	// ROOT, BROKEN, ?!? and OVERHEAD are in the file's 167 frames, and in no stack. The 260 stacks do not
	// count the empty one.
	used := map[profile.FrameID]bool{}
	for id := range p.Stacks.Len() - 1 {
		used[p.Stacks.Leaf(profile.StackID(id+1))] = true
	}
	if frames, stacks := len(used), p.Stacks.Len()-1; frames != 163 || stacks != 260 {
		t.Errorf("%d frames, %d stacks; want 163, 260", frames, stacks)
	}
	for _, r := range view.ByName(p) {
		if r.Name == "Syscall: mmap" && (r.Total.Count != 27 || math.Abs(float64(r.Total.Weight)-4.926e6) > 0.5) {
			t.Errorf("%s: %+v, want 4.926 ms in 27", r.Name, r.Total)
		}
	}
	var b strings.Builder
	if err := writePerfView(&b, Export{Profile: p}); err != nil {
		t.Fatal(err)
	}
	again := only(t, mustRead(t, b.String(), Options{}))
	if diff := cmp.Diff(stacksOf(p), stacksOf(again)); diff != "" {
		t.Errorf("written and read (-want +got):\n%s", diff)
	}
	sameViews(t, p, again)
}
