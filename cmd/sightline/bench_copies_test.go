package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A copyWay is a way to record testdata/bench/gaps.c.
type copyWay struct {
	name  string
	args  []string
	taken []float64 // % of the time on the clock in which the thread did not run, of each round
	ours  []float64 // % of one core that the processes around it took
}

// BenchmarkCopies is what it costs at 999 Hz to copy 16 KiB of stack with each sample and to walk it: the
// thread that is recorded, beyond what it loses by itself, and the recorder, start and end included. Beside it
// are perf's copies of the same size, which it walks later, and the bare timer that is in all of them.
func BenchmarkCopies(b *testing.B) {
	const (
		length = "2000" // ms
		depth  = "24"   // so that there is more than is copied
		most   = 7      // rounds
	)
	dir := workDir(b)
	program := filepath.Join(dir, "gaps")
	if _, err := exec.LookPath("gcc"); err != nil {
		b.Skip("gcc is missing")
	}
	mustOutput(b, packageDir, "gcc", "-O2", "-fomit-frame-pointer", "-o", program, "testdata/bench/gaps.c")
	target := []string{program, length, depth}
	ways := []*copyWay{{name: "plain"}}
	for _, e := range benchEngines(b) {
		ways = append(ways, &copyWay{name: "ours/engine=" + e, args: []string{
			sightlineBinary(b), "record", "--store", filepath.Join(dir, e+".db"), "--engine", e, "--stack-bytes", "16384", "--",
		}})
	}
	if perfPeer.there(b) {
		args := []string{"perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", filepath.Join(dir, "perf.data")}
		ways = append(ways,
			&copyWay{name: "peer=perf-dwarf", args: append(append([]string(nil), args...), "--call-graph", "dwarf,16384", "--")},
			&copyWay{name: "floor=no-stacks", args: append(append([]string(nil), args...), "--")})
	}
	for round := range 1 + min(most, *benchRounds) { // the first for the caches
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			taken, ours := runGaps(b, dir, append(append([]string(nil), w.args...), target...))
			if round > 0 {
				w.taken, w.ours = append(w.taken, taken), append(w.ours, ours)
			}
		}
	}
	floor := ways[len(ways)-1]
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			var taken, beyond []float64
			for i := range w.taken {
				taken = append(taken, w.taken[i]-ways[0].taken[i])
				beyond = append(beyond, w.taken[i]-floor.taken[i])
			}
			figures := []figure{
				{median(taken), "taken-%"}, {spread(taken), "taken-±%"},
				{median(w.ours), "recorder-core-%"}, {float64(len(w.taken)), "runs"},
			}
			if w != ways[0] && w != floor && strings.HasPrefix(floor.name, "floor") {
				figures = append(figures, figure{median(beyond), "beyond-timer-%"}, figure{spread(beyond), "beyond-timer-±%"})
			}
			report(b, figures...)
		})
	}
}

// RunGaps runs testdata/bench/gaps.c, recorded or not: the share of the time in which it did not run, and
// what the processes around it took, in percent of the time.
func runGaps(b *testing.B, dir string, args []string) (taken, ours float64) {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v", cmd.Args, err)
	}
	for line := range strings.Lines(string(out)) {
		var elapsed, gaps, cpu float64
		if n, _ := fmt.Sscanf(line, "took %g %g %g", &elapsed, &gaps, &cpu); n != 3 {
			continue
		}
		used := cmd.ProcessState.SysUsage().(*syscall.Rusage) // with the children it has waited for
		return 100 * gaps / elapsed, 100 * max(0, float64(used.Utime.Nano()+used.Stime.Nano())-cpu) / elapsed
	}
	b.Fatalf("the program does not say what it took: %q", out)
	return 0, 0
}
