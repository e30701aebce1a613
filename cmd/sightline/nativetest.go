package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A nativeRun is a program with a test of a framework that is not Go's, and how it is asked to run it.
type nativeRun struct {
	title  string   // "GoogleTest Fib.Small"
	words  []string // program and arguments
	repeat string   // the flag that repeats in one process, to which a number is appended; "" where there is none
	dir    string
	env    []string // on top of the environment there is
	said   string   // see testRun.note
	around *surroundings
}

func (n *nativeRun) command(count int, out io.Writer) *exec.Cmd {
	cmd := n.around.with(n.env).command(context.Background(), n.dir, n.words[0], n.words[1:]...)
	if n.repeat != "" && count > 1 {
		cmd.Args = append(cmd.Args, n.repeat+strconv.Itoa(count))
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

func (n *nativeRun) repeats() repetition {
	if n.repeat == "" {
		return repeatsNever
	}
	return repeatsAlways
}

func (n *nativeRun) note() string { return n.said }
func (n *nativeRun) Close() error { return nil }

func (n *nativeRun) target() profile.Target {
	return profile.Target{Command: n.words, Dir: n.dir, Run: n.title}
}

// FindNative builds or finds the program that has a test. What building writes goes to out.
func findNative(ctx context.Context, around *surroundings, req lspserver.Request, out io.Writer) (*nativeRun, error) {
	t := req.Native
	if t.Framework == nativetest.Cargo {
		return buildCargo(ctx, around, req)
	}
	if len(t.Programs) == 0 && len(t.Builds) == 0 {
		return nil, fmt.Errorf("which program has the test %s is not known: name it in %s, as {\"targets\": [{\"name\": \"tests\", \"command\": [\"./build/tests\"], \"tests\": %q}]}, or build with CMake in a folder such as build",
			t.Name, launch.FileName, string(t.Framework))
	}
	var looked []string // programs that do not have it, and why
	for _, p := range t.Programs {
		if len(p.Build) > 0 {
			if err := runBuild(ctx, around, p.Name, p.Build, p.Dir, p.Env, out); err != nil {
				return nil, err
			}
		}
		run := &nativeRun{title: t.Title(), words: slices.Clone(p.Command), dir: p.Dir, env: p.Env, around: around}
		path, err := run.program()
		if err != nil {
			looked = append(looked, fmt.Sprintf("%s of target %s is not there (%v)", p.Command[0], p.Name, err))
			continue
		}
		has, err := run.selects(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("ask %s of target %s for its tests: %w", p.Command[0], p.Name, err)
		}
		if has {
			if len(p.Build) == 0 {
				run.stale(path, t.File, "build it again, or give its target a \"build\" in "+launch.FileName)
			}
			return run, nil
		}
		looked = append(looked, fmt.Sprintf("%s of target %s does not have it", p.Command[0], p.Name))
	}
	for _, dir := range t.Builds {
		run, why, err := findInCMake(ctx, around, dir, t, out)
		if err != nil || run != nil {
			return run, err
		}
		looked = append(looked, why)
	}
	return nil, fmt.Errorf("no program has the test %s of %s: %s; is it built, and does the build switch the test on? A target in %s with \"tests\": %q says which program it is",
		t.Name, filepath.Base(t.File), strings.Join(looked, "; "), launch.FileName, string(t.Framework))
}

// Program is the path of the program that would be run.
func (n *nativeRun) program() (string, error) {
	name := n.words[0]
	if !strings.Contains(name, "/") {
		return n.around.lookPath(name)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(n.dir, name)
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", errors.New("build it")
	case err != nil:
		return "", err
	case info.IsDir() || info.Mode()&0o111 == 0:
		return "", errors.New("it cannot be run")
	}
	return name, nil
}

// Stale takes note where a program is older than the source of the test.
func (n *nativeRun) stale(program, source, remedy string) {
	p, err := os.Stat(program)
	s, err2 := os.Stat(source)
	if err == nil && err2 == nil && s.ModTime().After(p.ModTime()) {
		n.said = fmt.Sprintf("%s is older than %s: %s", filepath.Base(program), filepath.Base(source), remedy)
	}
}

// listLimit is how long a program may take to list its tests.
const listLimit = time.Minute

// Selects asks a program whether it has a test, and makes the command run that alone.
func (n *nativeRun) selects(ctx context.Context, t *lspserver.NativeTest) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	ask := func(args ...string) (string, error) {
		words := slices.Concat(n.words, args)
		cmd := n.around.with(n.env).command(ctx, n.dir, words[0], words[1:]...)
		cmd.WaitDelay = time.Second
		var out, msg bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &msg
		err := cmd.Run()
		if ctx.Err() != nil {
			return "", fmt.Errorf("it has not answered within %s", listLimit)
		}
		// Catch2 before version 3 exits with the number of tests that it listed.
		if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() && t.Framework == nativetest.Catch2 {
			err = nil
		}
		if err != nil && msg.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, firstLine(msg.String(), err))
		}
		return out.String(), err
	}
	if t.Framework == nativetest.GoogleTest {
		out, err := ask("--gtest_list_tests", "--gtest_color=no", "--gtest_filter="+t.Filter)
		if err != nil || !listsGoogleTest(out) {
			return false, err
		}
		n.words = append(n.words, "--gtest_filter="+t.Filter)
		if strings.Contains(t.Name, "DISABLED_") {
			n.words = append(n.words, "--gtest_also_run_disabled_tests")
		}
		n.repeat = "--gtest_repeat="
	} else {
		out, err := ask("--list-tests", t.Filter)
		if err != nil || !listsCatch2(out) {
			return false, err
		}
		n.words = append(n.words, t.Filter)
	}
	n.words = append(n.words, t.Args...)
	return true, nil
}

// ListsGoogleTest says whether a list of GoogleTest has a test: suites end in a dot, and their tests
// follow, indented by two.
func listsGoogleTest(list string) bool {
	suite := false
	for line := range strings.Lines(list) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\r\n"), "  # ")
		switch {
		case strings.HasPrefix(line, "  ") && suite:
			return true
		default:
			suite = strings.HasSuffix(line, ".")
		}
	}
	return false
}

// ListsCatch2 says whether a list of Catch2 has a test: its last line counts them.
func listsCatch2(list string) bool {
	for line := range strings.Lines(list) {
		count, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.Atoi(count); err == nil && n > 0 && (rest == "matching test case" || rest == "matching test cases") {
			return true
		}
	}
	return false
}

// RunBuild runs the command that builds a target. What it writes goes to out.
func runBuild(ctx context.Context, around *surroundings, name string, words []string, dir string, env []string, out io.Writer) error {
	cmd := around.with(env).command(ctx, dir, words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	text := profile.Target{Command: words}.String()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("build %s: %w", name, ctx.Err())
	}
	return fmt.Errorf("%s does not build: %s ended with: %w", name, text, err)
}

// Limited keeps the last half megabyte or more of what is written.
type limited struct{ to *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.to.Write(p)
	if l.to.Len() > 1<<20 {
		l.to.Next(l.to.Len() - 1<<19)
	}
	return len(p), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// A ctestList is what ctest --show-only=json-v1 prints, as far as it is needed (ctest(1)).
type ctestList struct {
	Tests []struct {
		Name       string   `json:"name"`
		Command    []string `json:"command"`
		Properties []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"properties"`
	} `json:"tests"`
}

// FindInCMake builds what CMake was configured for in a folder and looks for the test in the programs
// that its tests are run with. Where none has it, why says so.
func findInCMake(ctx context.Context, around *surroundings, dir string, t *lspserver.NativeTest, out io.Writer) (run *nativeRun, why string, err error) {
	if err := runBuild(ctx, around, filepath.Base(dir), []string{"cmake", "--build", dir}, dir, nil, out); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Sprintf("%s is a build folder of CMake, and there is no cmake on PATH to build it", dir), nil
		}
		return nil, "", err
	}
	cmd := around.command(ctx, dir, "ctest", "--show-only=json-v1")
	var msg bytes.Buffer
	cmd.Stderr = &msg
	list, err := cmd.Output()
	if err != nil {
		return nil, "", fmt.Errorf("ask ctest for the tests of %s: %s; name the program in %s instead", dir, firstLine(msg.String(), err), launch.FileName)
	}
	programs, err := ctestPrograms(list)
	if err != nil {
		return nil, "", fmt.Errorf("ask ctest for the tests of %s: %w", dir, err)
	}
	for _, p := range programs {
		p.around = around
		path, err := p.program()
		if err != nil || !speaks(path, t.Framework) {
			continue
		}
		p.title = t.Title()
		if has, err := p.selects(ctx, t); err != nil {
			return nil, "", fmt.Errorf("ask %s for its tests: %w", path, err)
		} else if has {
			return p, "", nil
		}
	}
	return nil, fmt.Sprintf("none of the %s that ctest runs in %s does", plural(len(programs), "program"), dir), nil
}

// CtestPrograms are the programs of a list of tests, each once, in order, with the folder and environment
// of its first test. The arguments of tests select one, and are left out.
func ctestPrograms(list []byte) ([]*nativeRun, error) {
	var tests ctestList
	if err := json.Unmarshal(list, &tests); err != nil {
		return nil, fmt.Errorf("its answer is not what ctest 3.14 and later say: %w", err)
	}
	var programs []*nativeRun
	for _, t := range tests.Tests {
		if len(t.Command) == 0 || t.Command[0] == "" || slices.ContainsFunc(programs, func(p *nativeRun) bool { return p.words[0] == t.Command[0] }) {
			continue
		}
		p := &nativeRun{words: t.Command[:1:1], dir: filepath.Dir(t.Command[0])}
		for _, property := range t.Properties {
			// A value is a string, a list, a number or a truth value, as the property has it.
			switch property.Name {
			case "WORKING_DIRECTORY":
				var dir string
				if json.Unmarshal(property.Value, &dir) == nil && dir != "" {
					p.dir = dir
				}
			case "ENVIRONMENT":
				var env []string
				if json.Unmarshal(property.Value, &env) == nil {
					p.env = env
				}
			}
		}
		programs = append(programs, p)
	}
	return programs, nil
}

// Speaks says whether a binary has a framework in it, so that asking it for its tests does not run
// something else: words of its options, or the name of its library.
func speaks(path string, f nativetest.Framework) bool {
	marks := [][]byte{[]byte("gtest_list_tests"), []byte("libgtest")}
	if f == nativetest.Catch2 {
		marks = [][]byte{[]byte("Catch::"), []byte("5Catch"), []byte("libCatch2")} // "5Catch" begins mangled names
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	const overlap = 32
	r := bufio.NewReaderSize(file, 1<<20)
	buf := make([]byte, 0, 1<<20+overlap)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for _, m := range marks {
			if bytes.Contains(buf, m) {
				return true
			}
		}
		if err != nil {
			return false
		}
		if keep := min(overlap, len(buf)); keep < len(buf) {
			buf = append(buf[:0], buf[len(buf)-keep:]...)
		}
	}
}
