package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
)

// TruthCPU is how much CPU time each run of a comparison is to take: at pprof's 100 samples a second
// a line of 50 % is then known to a point.
const truthCPU = 25 * time.Second

// A truthTarget is a test whose costs two profilers are to agree on.
type truthTarget struct {
	name     string
	dir      string // of the package
	pattern  string // of the tests
	testOf   string // what to build; "" is the folder
	everyone bool   // an ordinary user can read all of it
}

// A lineKey is a line of a source as the build recorded it.
type lineKey struct {
	file string
	line int
}

// BenchmarkTruth compares what lines cost by Sightline and by runtime/pprof, which both watch the
// same run, and Sightline's sum with the CPU time that the kernel accounts.
func BenchmarkTruth(b *testing.B) {
	compress := strings.TrimSpace(mustOutput(b, packageDir, "go", "list", "-f", "{{.Dir}}", "github.com/klauspost/compress/flate"))
	targets := []truthTarget{
		{name: "example", dir: filepath.Join(packageDir, "..", "..", "testdata", "example"), pattern: "^TestPages$", everyone: true},
		{
			name: "flate", dir: compress, testOf: "github.com/klauspost/compress/flate",
			pattern: "^(TestDeterministicL[1-9]|TestDeflateInflateString|TestRegressions|TestWriterRegression|TestBestSpeed|TestWriterReset)$",
		},
	}
	for _, target := range targets {
		dir := workDir(b)
		binary := filepath.Join(dir, target.name+".test")
		if target.testOf == "" {
			mustOutput(b, target.dir, "go", "test", "-c", "-o", binary, ".")
		} else {
			mustOutput(b, packageDir, "go", "test", "-c", "-o", binary, target.testOf)
		}
		count := truthCount(b, target, binary)
		for _, engine := range benchEngines(b) {
			b.Run(fmt.Sprintf("ours/target=%s/engine=%s", target.name, engine), func(b *testing.B) {
				truth(b, target, binary, engine, count, false)
			})
		}
		if os.Geteuid() == 0 && target.everyone {
			b.Run(fmt.Sprintf("ours/target=%s/engine=perf/user=ordinary", target.name), func(b *testing.B) {
				truth(b, target, binary, "perf", count, true)
			})
		}
	}
}

// TruthCount is how often the tests have to run to take truthCPU.
func truthCount(b *testing.B, target truthTarget, binary string) int {
	b.Helper()
	cmd := exec.Command(binary, "-test.run="+target.pattern)
	cmd.Dir = target.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return max(1, int(math.Ceil(float64(truthCPU)/float64(used))))
}

// Ordinary is the user nobody of most systems.
const ordinary = 65534

func truth(b *testing.B, target truthTarget, binary, engine string, count int, asOrdinary bool) {
	dir, who := workDir(b), engine
	if asOrdinary {
		who += " ordinary"
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	cmd := exec.Command(sightlineBinary(b), "record", "--engine", engine, "--store", file("captures.db"), "--workspace", target.dir, "--",
		benchProgram(b, "timed"), file("rusage"),
		binary, "-test.run="+target.pattern, "-test.count="+strconv.Itoa(count), "-test.cpuprofile="+file("cpu.pprof"))
	cmd.Dir = target.dir
	if asOrdinary {
		if err := os.Chown(dir, ordinary, ordinary); err != nil {
			b.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
		cmd.Env = append(os.Environ(), "HOME="+dir, "GOCACHE="+file("gocache"))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if asOrdinary && strings.Contains(err.Error(), fs.ErrPermission.Error()) {
			b.Skipf("an ordinary user may not run programs below %s", dir)
		}
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}

	st, err := store.Open(file("captures.db"), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	id, err := st.Resolve("@")
	if err != nil {
		b.Fatal(err)
	}
	c, err := st.Load(id)
	if err != nil {
		b.Fatal(err)
	}
	p, err := c.Profile(profile.CPU)
	if err != nil {
		b.Fatal(err)
	}
	total := p.Total()
	ours, theirs := ourLines(p), pprofLines(b, file("cpu.pprof"))
	disagreements := checkAgainstList(b, file("cpu.pprof"), theirs.whole)
	maps.Copy(ours.hidden, theirs.hidden)
	all, leftOut := compareLines(ours.whole, theirs.whole, ours.hidden)
	below, _ := compareLines(ours.test, theirs.test, ours.hidden)
	noise := 0.0
	var points, testPoints []float64
	for _, r := range all {
		points = append(points, r.points())
		noise = max(noise, math.Sqrt(r.theirs*(100-r.theirs)/float64(theirs.samples)))
		if r.points() > 3 {
			note("%s, %s engine: %s is %.1f%% here, %.1f%% by pprof; of what the test itself takes %.1f%% and %.1f%%",
				target.name, who, r.place(), r.ours, r.theirs, ours.test[r.lineKey], theirs.test[r.lineKey])
		}
	}
	for _, r := range below {
		testPoints = append(testPoints, r.points())
	}
	for _, r := range leftOut {
		if _, told := missingTold.LoadOrStore(target.name+r.place(), true); !told {
			note("%s, left out: %s is %.1f%% here, %.1f%% by pprof: %s", target.name, r.place(), r.ours, r.theirs, ours.hidden[r.lineKey])
		}
	}
	user, system := rusageFile(b, file("rusage"))
	accounted := user + system
	if slices.ContainsFunc(c.Warnings, func(w profile.Warning) bool { return w.Kind == profile.WarnHidden }) {
		accounted = user
	}
	report(b,
		figure{quantile(points, 1), "max-points"},
		figure{median(points), "median-points"},
		figure{quantile(testPoints, 1), "test-max-points"},
		figure{noise, "noise-points"},
		figure{float64(len(points)), "lines"},
		figure{float64(len(leftOut)), "left-out-lines"},
		figure{100 * (float64(total.Weight)/accounted - 1), "total-%"},
		figure{100 * (float64(theirs.weight)/(user+system) - 1), "pprof-total-%"},
		figure{accounted / 1e9, "cpu-s"},
		figure{float64(total.Count), "samples"},
		figure{float64(theirs.samples), "pprof-samples"},
		figure{100 * p.Broken(), "broken-%"},
		figure{float64(disagreements), "list-disagreements"},
	)
}

// LineShares are what lines cost, in percent.
type lineShares struct {
	whole map[lineKey]float64 // of everything
	test  map[lineKey]float64 // of what testRoot calls, by it and what it calls
	// Hidden are lines that only one of the profilers shows, with the function and why: frames that
	// the Go runtime leaves out of its stack traces.
	hidden  map[lineKey]string
	samples int64
	weight  int64
}

// TestRoot is the function that calls a test. What it calls is what the person who wrote the test
// sees of it; the collector's own goroutines, which are not below it, are shared by all.
const testRoot = "testing.tRunner"

// HiddenFrame says why a frame is in one profile only; "" for others.
//
// runtime/pprof leaves out the compiler's wrappers (elideWrapperCalling in runtime/traceback.go) and
// goexit, the frame below each goroutine. asyncPreempt is the other way round: it is in the profile
// of pprof because a thread gets the signals SIGPROF and SIGURG together when it is resumed.
func hiddenFrame(fn, file string) string {
	switch {
	case fn == "runtime.goexit":
		return fn + ", the root of each goroutine"
	case fn == "runtime.asyncPreempt":
		return fn + ", where one signal meets another"
	case file == "<autogenerated>", strings.Contains(fn, ".gowrap"), strings.Contains(fn, ".deferwrap"):
		return fn + ", a wrapper of the compiler's"
	}
	return ""
}

type comparedLine struct {
	lineKey
	ours, theirs float64
}

func (r comparedLine) points() float64 { return math.Abs(r.ours - r.theirs) }

// Place is the line as "regexp/regexp.go:131": of a path in Go's own sources or in the module cache
// only what is below them.
func (r comparedLine) place() string {
	file := r.file
	for _, root := range []string{"/src/", "/mod/"} {
		if _, after, found := strings.Cut(file, root); found {
			file = after
		}
	}
	return fmt.Sprintf("%s:%d", file, r.line)
}

// CompareLines are the lines of 2 % and more by either, those that differ most first, without the
// hidden ones, which come apart.
func compareLines(ours, theirs map[lineKey]float64, hidden map[lineKey]string) (rows, leftOut []comparedLine) {
	keys := map[lineKey]bool{}
	for _, m := range []map[lineKey]float64{ours, theirs} {
		for key, share := range m {
			if share >= 2 {
				keys[key] = true
			}
		}
	}
	for key := range keys {
		r := comparedLine{key, ours[key], theirs[key]}
		if hidden[key] != "" {
			leftOut = append(leftOut, r)
		} else {
			rows = append(rows, r)
		}
	}
	for _, list := range [][]comparedLine{rows, leftOut} {
		slices.SortFunc(list, func(a, c comparedLine) int {
			return cmp.Or(cmp.Compare(c.points(), a.points()), cmp.Compare(a.file, c.file), cmp.Compare(a.line, c.line))
		})
	}
	return rows, leftOut
}

func ourLines(p *profile.Profile) lineShares {
	shares := lineShares{test: map[lineKey]float64{}, hidden: map[lineKey]string{}}
	for _, f := range p.Frames {
		if why := hiddenFrame(f.Func, f.File); why != "" {
			shares.hidden[lineKey{f.File, f.Line}] = why
		}
	}
	sums := func(p *profile.Profile) map[lineKey]float64 {
		whole := float64(p.Total().Weight)
		m := map[lineKey]float64{}
		for _, f := range view.Lines(p) {
			for _, l := range f.Lines {
				m[lineKey{f.File, l.Line}] = 100 * float64(l.Total.Weight) / whole
			}
		}
		return m
	}
	shares.whole = sums(p)
	inTest := make([]bool, p.Stacks.Len())
	parents, leaves := p.Stacks.Columns()
	for id := 1; id < len(inTest); id++ {
		inTest[id] = inTest[parents[id]] || p.Frames[leaves[id]].Func == testRoot
	}
	test := *p
	test.Samples = profile.Samples{}
	for i := range p.Samples.Len() {
		if x := p.Samples.At(i); inTest[x.Stack] {
			test.Samples.Append(x)
		}
	}
	shares.test = sums(&test)
	return shares
}

func rusageFile(b *testing.B, file string) (user, system float64) {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &user, &system); err != nil {
		b.Fatalf("%s: %v", file, err)
	}
	return user, system
}

// PprofLines is the share of each line in a CPU profile: of the samples that have the line anywhere
// in their stack.
func pprofLines(b *testing.B, file string) lineShares {
	b.Helper()
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p, err := pprof.Parse(f)
	if err != nil {
		b.Fatal(err)
	}
	value, err := p.SampleIndexByName("cpu")
	if err != nil {
		b.Fatal(err)
	}
	shares := lineShares{whole: map[lineKey]float64{}, test: map[lineKey]float64{}, hidden: map[lineKey]string{}}
	var below float64
	for _, s := range p.Sample {
		w := float64(s.Value[value])
		shares.weight += s.Value[value]
		shares.samples += s.Value[0]
		seen := map[lineKey]bool{}
		inTest := false
		for _, l := range s.Location {
			for _, line := range l.Line {
				key := lineKey{line.Function.Filename, int(line.Line)}
				seen[key] = true
				if why := hiddenFrame(line.Function.Name, line.Function.Filename); why != "" {
					shares.hidden[key] = why
				}
				inTest = inTest || line.Function.Name == testRoot
			}
		}
		if inTest {
			below += w
		}
		for key := range seen {
			shares.whole[key] += w
			if inTest {
				shares.test[key] += w
			}
		}
	}
	for key := range shares.whole {
		shares.whole[key] *= 100 / float64(shares.weight)
	}
	for key := range shares.test {
		shares.test[key] *= 100 / below
	}
	return shares
}

// CheckAgainstList holds the shares that we have counted against what `go tool pprof -list` prints,
// and says on how many lines of 2 % and more they differ by more than its rounding. A line that
// several functions share is left out: the list has it once for each.
func checkAgainstList(b *testing.B, file string, share map[lineKey]float64) (disagreements int) {
	b.Helper()
	out := mustOutput(b, filepath.Dir(file), "go", "tool", "pprof", "-unit=ms", "-list=.", file)
	total := regexp.MustCompile(`^Total: (\d+)ms`)
	routine := regexp.MustCompile(`^ROUTINE =+ .* in (.*)$`)
	line := regexp.MustCompile(`^ *\S+ +(\d+)ms +(\d+):`)
	var whole float64
	var name string
	listed, times := map[lineKey]float64{}, map[lineKey]int{}
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := total.FindStringSubmatch(lines.Text()); m != nil {
			whole, _ = strconv.ParseFloat(m[1], 64)
		} else if m := routine.FindStringSubmatch(lines.Text()); m != nil {
			name = m[1]
		} else if m := line.FindStringSubmatch(lines.Text()); m != nil {
			ms, _ := strconv.ParseFloat(m[1], 64)
			n, _ := strconv.Atoi(m[2])
			listed[lineKey{name, n}] = ms
			times[lineKey{name, n}]++
		}
	}
	if whole == 0 {
		b.Fatalf("go tool pprof -list of %s has no total", file)
	}
	for key, ms := range listed {
		if s := share[key]; times[key] == 1 && s >= 2 && math.Abs(100*ms/whole-s) > 0.1 {
			disagreements++
			note("pprof -list has %.1f%% for %s:%d, its samples %.1f%%", 100*ms/whole, key.file, key.line, s)
		}
	}
	return disagreements
}
