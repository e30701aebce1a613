package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A goTest is a compiled test binary and the way go test would run it.
type goTest struct {
	Package string   // import path
	Dir     string   // the package's folder, where the binary runs
	Run     string   // pattern of -run
	Bench   string   // pattern of -bench; with it no test runs
	Args    []string // further flags of the binary, and what came after -args
	kinds   []string // what is recorded, as checkKinds answers; none is cpu
	count   int      // -count of the caller, 1 if none
	// Processes is how many were started that write profiles.
	processes int
	binary    string
	temp      string // folder of the binary, removed by Close
	around    *surroundings
}

// TestFlags are go test's flags that the test binary takes, as "-test.NAME"; true where a flag
// needs no value. Source: `go help testflag`.
var testFlags = map[string]bool{
	"benchmem": true, "failfast": true, "fullpath": true, "short": true, "v": true,
	"benchtime": false, "blockprofilerate": false, "cpu": false, "memprofilerate": false, "mutexprofilefraction": false, "parallel": false, "shuffle": false, "skip": false, "timeout": false,
}

// SplitTestFlags parts the flags a person gives to go test into those for building and those for
// the binary, which get their "test." prefix. Count is the value of -count, 1 if absent.
func splitTestFlags(args []string) (build, binary []string, count int, err error) {
	count = 1
	for i := 0; i < len(args); i++ {
		if args[i] == "-args" || args[i] == "--args" {
			return build, append(binary, args[i+1:]...), count, nil
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		name = strings.TrimPrefix(name, "test.")
		if !strings.HasPrefix(args[i], "-") {
			build = append(build, args[i]) // the value of a build flag
			continue
		}
		alone, known := testFlags[name]
		switch name {
		case "run", "bench":
			return nil, nil, 0, fmt.Errorf("give -%s before the --", name)
		case "memprofile", "blockprofile", "mutexprofile", "cpuprofile":
			return nil, nil, 0, fmt.Errorf("-%s cannot be given: --kind asks for it and keeps what it tells", name)
		case "c", "o", "exec", "json", "fuzz", "list":
			return nil, nil, 0, fmt.Errorf("-%s cannot be given: Sightline builds and runs the test itself", name)
		}
		if !known && name != "count" {
			build = append(build, args[i])
			continue
		}
		if !alone && !hasValue {
			if i++; i == len(args) {
				return nil, nil, 0, fmt.Errorf("flag -%s needs a value", name)
			}
			value, hasValue = args[i], true
		}
		switch {
		case name == "count":
			count, err = strconv.Atoi(value)
			if err != nil || count < 1 {
				return nil, nil, 0, fmt.Errorf("-count %s is not a number above 0", value)
			}
		case hasValue:
			binary = append(binary, "-test."+name+"="+value)
		default:
			binary = append(binary, "-test."+name)
		}
	}
	return build, binary, count, nil
}

// BuildTest compiles the test of one package, as it would be built in some surroundings. Dir is where the go command runs, pattern names the
// package as go list understands it, flags are what a person gives to go test. The compiler's
// messages are in the error.
func buildTest(ctx context.Context, around *surroundings, dir, pattern, runRE, benchRE string, flags []string) (*goTest, error) {
	build, args, count, err := splitTestFlags(flags)
	if err != nil {
		return nil, err
	}
	if _, err := around.lookPath("go"); err != nil {
		return nil, errors.New("no go command on PATH; install Go to profile Go tests")
	}
	if strings.HasPrefix(pattern, "-") {
		return nil, fmt.Errorf("%s is no package; flags of go test come after --", pattern)
	}
	t := &goTest{Run: runRE, Bench: benchRE, Args: args, count: count, around: around}
	out, msg, err := goCommand(ctx, around, dir, append(append([]string{"list"}, listFlags(build)...), "-f", "{{.ImportPath}}\t{{.Dir}}", pattern)...)
	if err != nil {
		return nil, fmt.Errorf("no package %s: %s; name a folder such as ./parser, or an import path", pattern, firstLine(msg, err))
	}
	packages := strings.Split(strings.TrimSpace(out), "\n")
	if len(packages) != 1 || packages[0] == "" {
		return nil, fmt.Errorf("%s names %d packages; name one", pattern, len(packages))
	}
	var found bool
	if t.Package, t.Dir, found = strings.Cut(packages[0], "\t"); !found {
		return nil, fmt.Errorf("no package %s: go list answered %q", pattern, packages[0])
	}
	removeLeftovers()
	if t.temp, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", tempPrefix, os.Getpid())); err != nil {
		return nil, fmt.Errorf("folder for the test binary: %w", err)
	}
	t.binary = filepath.Join(t.temp, filepath.Base(t.Package)+".test")
	_, msg, err = goCommand(ctx, around, dir, append(append([]string{"test", "-c", "-o", t.binary}, build...), pattern)...)
	if err != nil {
		t.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("building the test of %s: %w", t.Package, ctx.Err())
		}
		return nil, fmt.Errorf("the test of %s does not build:\n%s", t.Package, strings.TrimRight(msg, "\n"))
	}
	if _, err := os.Stat(t.binary); err != nil {
		t.Close()
		return nil, fmt.Errorf("package %s has no test files; name a package with tests", t.Package)
	}
	if err := t.checkMatch(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// TempPrefix begins the names of folders for test binaries; the id of the process that made it
// follows.
const tempPrefix = "sightline-test-"

// RemoveLeftovers removes the test binaries of processes that were killed.
func removeLeftovers() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), tempPrefix), "-")
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			os.RemoveAll(dir) // another user's cannot be removed, and need not
		}
	}
}

// ListFlags keeps the build flags that decide which files a package has: go list takes no test
// flags such as -cover.
func listFlags(build []string) []string {
	var out []string
	for i := 0; i < len(build); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(build[i], "-"), "=")
		switch name {
		case "tags", "mod", "modfile", "overlay":
			out = append(out, build[i])
			if !hasValue && i+1 < len(build) {
				i++
				out = append(out, build[i])
			}
		}
	}
	return out
}

// CheckMatch fails where no test, example, fuzz target or benchmark has a name that the pattern
// could mean, naming what there is.
func (t *goTest) checkMatch(ctx context.Context) error {
	pattern, what := t.Run, "-run"
	if t.Bench != "" {
		pattern, what = t.Bench, "-bench"
	}
	if pattern == "" {
		return nil
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return fmt.Errorf("%s %s is no regular expression: %w", what, pattern, err)
	}
	first, _, _ := strings.Cut(pattern, "/")
	list := func(re string) ([]string, error) {
		cmd := t.around.command(ctx, t.Dir, t.binary, "-test.list="+re)
		out, err := cmd.Output()
		var names []string
		for line := range strings.Lines(string(out)) {
			// A test binary may print more than names: whatever its TestMain does.
			line = strings.TrimSpace(line)
			isBench := strings.HasPrefix(line, "Benchmark")
			isTest := strings.HasPrefix(line, "Test") || strings.HasPrefix(line, "Example") || strings.HasPrefix(line, "Fuzz")
			if isBench && t.Bench != "" || isTest && t.Bench == "" {
				names = append(names, line)
			}
		}
		return names, err
	}
	names, err := list(first)
	if err != nil {
		return fmt.Errorf("%s %s: the test binary refuses the pattern or cannot start: %w", what, pattern, err)
	}
	if len(names) > 0 {
		return nil
	}
	there, _ := list(".")
	if len(there) > 8 {
		there = append(there[:8], "…")
	}
	if len(there) == 0 {
		return fmt.Errorf("nothing in %s matches %s %s; it has none (tests behind a build tag need -- -tags)", t.Package, what, pattern)
	}
	return fmt.Errorf("nothing in %s matches %s %s; it has %s", t.Package, what, pattern, strings.Join(there, ", "))
}

// Command is one run of the binary as go test does it: in the package's folder, with its standard
// time limit, each test count times. It writes the profiles that are wanted.
func (t *goTest) command(count int, out io.Writer) *exec.Cmd {
	cmd := t.around.command(context.Background(), t.Dir, t.binary, slices.Concat(t.profileFlags(), t.arguments(count))...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

func (t *goTest) arguments(count int) []string {
	args := []string{"-test.paniconexit0", "-test.count=" + strconv.Itoa(count*t.count)}
	if t.Bench != "" {
		args = append(args, "-test.run=^$", "-test.bench="+t.Bench)
	} else if t.Run != "" {
		args = append(args, "-test.run="+t.Run)
	}
	timeout := true
	for _, a := range t.Args {
		timeout = timeout && !strings.HasPrefix(a, "-test.timeout")
	}
	if timeout {
		args = append(args, "-test.timeout=10m0s")
	}
	return append(args, t.Args...)
}

func (t *goTest) repeats() repetition { return repeatsMostly }

func (t *goTest) note() string { return "" }

// Target describes the test for the capture.
func (t *goTest) target() profile.Target {
	return profile.Target{Command: append([]string{t.binary}, t.arguments(1)...), Dir: t.Dir, Package: t.Package, Run: t.Run, Bench: t.Bench}
}

// Close removes the binary.
func (t *goTest) Close() error { return os.RemoveAll(t.temp) }

func goCommand(ctx context.Context, around *surroundings, dir string, args ...string) (stdout, stderr string, err error) {
	cmd := around.command(ctx, dir, "go", args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// FirstLine is the first line of a program's message that says something, else the error.
func firstLine(msg string, err error) string {
	for line := range strings.Lines(msg) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, ":"), "; to add it")
			return line
		}
	}
	return err.Error()
}
