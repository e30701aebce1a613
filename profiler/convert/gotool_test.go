package convert

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

const workTest = `package work

import "testing"

type node struct{ l, r *node }

func tree(n int) *node {
	if n == 0 {
		return &node{}
	}
	return &node{tree(n - 1), tree(n - 1)}
}

func (t *node) sum() int {
	if t == nil {
		return 0
	}
	return 1 + t.l.sum() + t.r.sum()
}

func TestWork(t *testing.T) {
	n := 0
	for range 8 {
		x := tree(16)
		for range 20 {
			n += x.sum()
		}
	}
	if n == 0 {
		t.Fail()
	}
}
`

// goTool profiles a small test into dir (cpu.prof, mem.prof) and gives the go command for more.
func goTool(t *testing.T, dir string) func(args ...string) string {
	t.Helper()
	for name, text := range map[string]string{"go.mod": "module example.com/work\n\ngo 1.26\n", "work_test.go": workTest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "PPROF_TMPDIR="+dir)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
		}
		return string(out)
	}
	run("test", "-count=1", "-cpuprofile=cpu.prof", "-memprofile=mem.prof", "-memprofilerate=4096", ".")
	return run
}

func readFile(t *testing.T, path string, want Format) *profile.Capture {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return readAs(t, b, want)
}

// pprofTop are the rows of pprof -top as "self/total name", by name; functions that were inlined
// everywhere are marked by it, which is left out.
func pprofTop(out string) map[string]string {
	rows := map[string]string{}
	_, table, _ := strings.Cut(out, "cum%\n")
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		name := strings.TrimSuffix(strings.TrimSuffix(strings.Join(f[5:], " "), " (inline)"), " (partial-inline)")
		number := func(s string) string { return strings.TrimRight(s, "nsB") }
		rows[name] = number(f[0]) + "/" + number(f[3])
	}
	return rows
}

// totalsByName are the same of a profile, functions of no weight left out as pprof does.
func totalsByName(p *profile.Profile) map[string]string {
	rows := map[string]string{}
	for _, r := range view.ByName(p) {
		if r.Total.Weight != 0 {
			rows[r.Name] = fmt.Sprintf("%d/%d", r.Self.Weight, r.Total.Weight)
		}
	}
	return rows
}
