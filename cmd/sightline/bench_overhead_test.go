package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A fixedRun is one run of testdata/bench/mixed.
type fixedRun struct {
	elapsed float64 // ns, as the program measured it
	cpu     float64 // ns of its process: user and system
	others  float64 // ns of CPU that the processes around it took: the recorder
}

func runFixed(b *testing.B, dir string, args ...string) fixedRun {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v", cmd.Args, err)
	}
	elapsed, cpu := tookLine(b, string(out))
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage) // with the children it has waited for
	return fixedRun{elapsed, cpu, max(0, float64(used.Utime.Nano()+used.Stime.Nano())-cpu)}
}

// BenchmarkOverhead is how much longer a program takes because it is recorded. Rounds are
// interleaved, each way once a round in an order that rotates, and every run is compared with the
// plain run of its own round: what changes slowly on the machine concerns both.
func BenchmarkOverhead(b *testing.B) {
	ways := overheadWays(b, "mixed")
	plain := ways[0]
	for _, w := range ways[1:] {
		b.Run(w.name, func(b *testing.B) {
			var elapsed, cpu, others []float64
			for i, r := range w.runs {
				elapsed = append(elapsed, 100*(r.elapsed/plain.runs[i].elapsed-1))
				cpu = append(cpu, 100*(r.cpu/plain.runs[i].cpu-1))
				others = append(others, 100*r.others/plain.runs[i].cpu)
			}
			report(b,
				figure{median(elapsed), "overhead-%"},
				figure{spread(elapsed), "overhead-±%"},
				figure{median(cpu), "cpu-overhead-%"},
				figure{spread(cpu), "cpu-overhead-±%"},
				figure{median(others), "recorder-cpu-%"},
				figure{float64(len(w.runs)), "runs"},
			)
		})
	}
	b.Run("plain", func(b *testing.B) {
		var elapsed, cpu []float64
		for _, r := range plain.runs {
			elapsed, cpu = append(elapsed, r.elapsed/1e6), append(cpu, r.cpu/1e6)
		}
		report(b, figure{median(elapsed), "elapsed-ms"}, figure{median(cpu), "cpu-ms"}, figure{float64(len(elapsed)), "runs"})
	})
}

// BenchmarkTaken is how much of a busy thread's time interrupts take while it is recorded, beyond what
// they take anyway: the overhead without the noise that a program's own scheduling and collector make.
// The bare timer of 999 interrupts a second is in it, for every sampler alike: perf record without
// stacks shows about what that takes.
func BenchmarkTaken(b *testing.B) {
	ways := overheadWays(b, "gaps")
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			var taken []float64
			for i, r := range w.runs {
				plain := ways[0].runs[i]
				taken = append(taken, 100*r.cpu/r.elapsed)
				if w != ways[0] {
					taken[i] -= 100 * plain.cpu / plain.elapsed
				}
			}
			report(b, figure{median(taken), "taken-%"}, figure{spread(taken), "taken-±%"},
				figure{float64(len(w.runs)), "runs"})
		})
	}
}

// An overheadWay is a way to run a program: by itself, or recorded.
type overheadWay struct {
	name string
	args []string
	runs []fixedRun // of each round
}

// OverheadWays runs a program in all ways, the first of which is by itself.
func overheadWays(b *testing.B, name string) []*overheadWay {
	b.Helper()
	dir := workDir(b)
	program, sightline := benchProgram(b, name), sightlineBinary(b)
	ways := []*overheadWay{{name: "plain", args: []string{program}}}
	for _, e := range benchEngines(b) {
		ways = append(ways, &overheadWay{name: "ours/engine=" + e, args: []string{
			sightline, "record", "--store", filepath.Join(dir, e+".db"), "--engine", e, "--", program,
		}})
	}
	if perfPeer.there(b) {
		args := []string{"perf", "record", "-F", "999", "-o", filepath.Join(dir, "perf.data")}
		ways = append(ways, &overheadWay{name: "peer=perf", args: slices.Concat(args, []string{"-g", "--", program})},
			&overheadWay{name: "floor=no-stacks", args: slices.Concat(args, []string{"--", program})})
	}
	for _, w := range ways { // once for the caches
		runFixed(b, dir, w.args...)
	}
	for round := range *benchRounds {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			w.runs = append(w.runs, runFixed(b, dir, w.args...))
		}
	}
	return ways
}

// TookLine reads the line "took N M" of testdata/bench/mixed, which a recorder may have put among
// lines of its own.
func tookLine(b *testing.B, out string) (elapsed, cpu float64) {
	b.Helper()
	for line := range strings.Lines(out) {
		if n, _ := fmt.Sscanf(line, "took %g %g", &elapsed, &cpu); n == 2 {
			return elapsed, cpu
		}
	}
	b.Fatalf("the program does not say what it took: %q", out)
	return 0, 0
}
