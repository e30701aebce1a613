package view_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// BenchmarkStacksPeer is what `go tool pprof` takes for like views of the profile of BenchmarkStacks: it
// reads the file anew each time, as a person waits for it, where Sightline keeps the profile.
func BenchmarkStacksPeer(b *testing.B) {
	tool, err := exec.Command("go", "tool", "-n", "pprof").Output()
	if err != nil {
		b.Skipf("there is no go tool pprof: %v", err)
	}
	p := *view.Viewer()[0]
	p.Tasks = p.Tasks[:1] // pprof's own profiles have one sample for each stack, whoever's it is
	p.Samples.Task = make([]profile.TaskID, p.Samples.Len())
	file := filepath.Join(b.TempDir(), "viewer.pb.gz")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	if err := convert.Write(f, convert.Pprof, convert.Export{Profile: &p}); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	for name, flags := range map[string][]string{"top": {"-top"}, "peek": {"-peek", "function_4001$"}} {
		b.Run("peer=pprof-"+name, func(b *testing.B) {
			var took []float64
			for b.Loop() {
				begin := time.Now()
				cmd := exec.Command(string(tool[:len(tool)-1]), append(flags, file)...)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				took = append(took, float64(time.Since(begin).Microseconds())/1000)
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took[len(took)/2], "ms/view")
		})
	}
}
