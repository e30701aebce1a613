package profiler_test

import (
	"bufio"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/sightline-dev/sightline/profiler"
)

// BenchmarkAllocations is what a malloc and its free take in CPU time: by themselves, followed with one
// allocation of every 512 KiB taken down, and with all. The peer is heaptrack, where it is there, which takes
// down all.
func BenchmarkAllocations(b *testing.B) {
	if !root() {
		b.Skip("BPF needs root")
	}
	for _, x := range []struct {
		name   string
		period int64
		old    bool
		peer   string
	}{{"none", 0, false, ""}, {"sampled", profiler.DefaultAllocationPeriod, false, ""}, {"sampled, before Linux 6.13", profiler.DefaultAllocationPeriod, true, ""},
		{"all", 1, false, ""}, {"heaptrack", 0, false, "heaptrack"}} {
		b.Run(x.name, func(b *testing.B) {
			args := []string{programs + "/allocating", "pairs"}
			if x.peer != "" {
				path, err := exec.LookPath(x.peer)
				if err != nil {
					b.Skipf("%s is not here", x.peer)
				}
				args = append([]string{path, "-r", "-o", b.TempDir() + "/out"}, args...)
			}
			cmd := exec.Command(args[0], args[1:]...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(out)
			scan := func() bool {
				in.Write([]byte("x"))
				return lines.Scan()
			}
			scan() // it has its libraries then
			if x.period > 0 {
				r, err := profiler.RecordAllocations(b.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.AllocationOptions{Period: x.period, OldProbes: x.old})
				if err != nil {
					b.Fatal(err)
				}
				defer r.Close()
			}
			var took []float64
			for b.Loop() {
				took = took[:0]
				for n := 0; n < 12 && scan(); n++ {
					if ns, err := strconv.ParseFloat(lines.Text(), 64); err == nil && n >= 2 {
						took = append(took, ns)
					}
				}
			}
			if len(took) == 0 {
				b.Skip("it says nothing")
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "ns/pair")
			b.ReportMetric(0, "ns/op")
		})
	}
}
