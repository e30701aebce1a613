package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/store"
)

// The benchmarks of bench_*_test.go measure the program as people use it: the real binary on the
// real kernel, with an editor's real protocol, each figure beside that of its peer from the same
// run. docs/benchmarks.md says what each figure means; `make bench` runs them all and prints them
// as a table. Nothing here asserts a time.
var (
	benchRounds = flag.Int("rounds", 15, "rounds of the benchmarks that compare runs of one program")
	benchScript = flag.Duration("script", 180*time.Second, "how long the benchmark of first hints waits for perf script")
)

// BenchDir is a folder below out/bench in the root of the project. That of cache is kept from run to
// run, and rebuilt by whoever finds it stale; all others are for one run.
func benchDir(b *testing.B, name string) string {
	b.Helper()
	dir := filepath.Join(packageDir, "..", "..", "out", "bench", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}

// WorkDir is an empty folder for one benchmark's files, on the disk where the project lies: not in
// memory, where stores and profiles would cost nothing to write.
func workDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(benchDir(b, "work"), "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user reads in it too
		b.Fatal(err)
	}
	return dir
}

// BenchProgram builds a program of testdata/bench.
func benchProgram(b *testing.B, name string) string {
	b.Helper()
	path := filepath.Join(benchDir(b, "cache"), name)
	mustOutput(b, packageDir, "go", "build", "-o", path, "./testdata/bench/"+name)
	return path
}

// Sightline is the binary under measurement.
func sightlineBinary(b *testing.B) string {
	b.Helper()
	path, err := program()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// MustOutput runs a command and returns its standard output.
func mustOutput(b *testing.B, dir, name string, args ...string) string {
	b.Helper()
	out, _, err := output(dir, name, args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// Output runs a command; the error quotes the end of what it said.
func output(dir, name string, args ...string) (stdout, stderr string, err error) {
	return outputContext(context.Background(), dir, name, args...)
}

func outputContext(ctx context.Context, dir, name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second // a child that outlives its parent may hold the pipes
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(e.String() + "\n" + o.String())
		return o.String(), e.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said[max(0, len(said)-2000):])
	}
	return o.String(), e.String(), nil
}

// A peer is a program to compare with that may be missing.
type peer struct {
	name   string
	remedy string
	check  []string // a command that succeeds where the peer works
}

var (
	perfPeer  = peer{"perf", "`.ci/packages bench` installs it", []string{"perf", "record", "-o", "/dev/null", "-e", "cpu-clock", "true"}}
	goplsPeer = peer{"gopls", "`go install golang.org/x/tools/gopls@v0.23.0` installs it", []string{"gopls", "version"}}
)

var missingTold sync.Map

// There says whether a peer can be used; the first time it cannot, it says why.
func (p peer) there(b *testing.B) bool {
	b.Helper()
	_, err := exec.LookPath(p.name)
	if err == nil {
		if _, _, err = output("", p.check[0], p.check[1:]...); err == nil {
			return true
		}
	}
	if _, told := missingTold.LoadOrStore(p.name, true); !told {
		if errors.Is(err, exec.ErrNotFound) {
			note("peer %s is missing; %s", p.name, p.remedy)
		} else {
			note("peer %s does not work here: %v", p.name, err)
		}
	}
	return false
}

// Note prints a line that `make bench` shows below the table. It is no benchmark line, so that tools
// which read those skip it.
func note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for line := range strings.Lines(text) {
		fmt.Printf("note: %s\n", strings.TrimRight(line, "\n"))
	}
}

// Engines are those that can record here, with the word for what they see; an engine that cannot is
// told of.
func benchEngines(b *testing.B) []string {
	b.Helper()
	var engines []string
	for _, e := range []string{"bpf", "perf"} {
		_, _, err := output("", sightlineBinary(b), "record", "--store", filepath.Join(b.TempDir(), "probe.db"), "--engine", e, "--", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
		if err != nil {
			if _, told := missingTold.LoadOrStore("engine "+e, true); !told {
				note("engine %s cannot record here; `sightline doctor` says why", e)
			}
			continue
		}
		engines = append(engines, e)
	}
	return engines
}

// Report gives a benchmark's figures in place of ns/op, which would be the time of its set-up.
func report(b *testing.B, figures ...figure) {
	b.ReportMetric(0, "ns/op")
	for _, f := range figures {
		b.ReportMetric(f.value, f.unit)
	}
}

type figure struct {
	value float64
	unit  string
}

// Quantile is the value below which a part q of the values lies, between neighbours where it must.
// The values get sorted. It is NaN where there are none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	at := q * float64(len(values)-1)
	i := int(at)
	if i+1 >= len(values) {
		return values[len(values)-1]
	}
	return values[i] + (at-float64(i))*(values[i+1]-values[i])
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// Spread is half the distance between the quartiles of the median's own distribution, roughly: how
// far the median would move if all were measured again.
func spread(values []float64) float64 {
	return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / math.Sqrt(float64(max(1, len(values))))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// OpenBenchStore opens the store of a workspace, below the present $XDG_STATE_HOME.
func openBenchStore(b *testing.B, workspace string) *store.Store {
	b.Helper()
	st, err := openStore(workspace)
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// PerfRecord records a command with perf as `perf record -F FREQ -g` does it, with the clock event
// that Sightline uses too where there is no hardware counter. It returns how many samples perf says
// it has written.
func perfRecord(b *testing.B, dir, file string, freq int, command ...string) (samples int, stdout string) {
	b.Helper()
	args := append([]string{"record", "-F", strconv.Itoa(freq), "-g", "-o", file, "--"}, command...)
	stdout, stderr, err := output(dir, "perf", args...)
	if err != nil {
		b.Fatal(err)
	}
	m := regexp.MustCompile(`\((?:~)?(\d+) samples\)`).FindStringSubmatch(stderr)
	if m == nil {
		b.Fatalf("perf record does not say how many samples it has: %s", stderr)
	}
	samples, _ = strconv.Atoi(m[1])
	return samples, stdout
}
