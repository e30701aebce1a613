package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// Go called by C called by Go has whole stacks where both stacks of a thread are copied; where that
// cannot be done, what is lost is said, with what helps.
func TestRecordGoAndC(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the second stack is found on amd64")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatalf("cgo needs gcc, which is not installed: %v", err)
	}
	bin := filepath.Join(t.TempDir(), "crossing")
	cmd := exec.Command("go", "build", "-o", bin, "../../profiler/testdata/crossing")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Chdir(t.TempDir())
	defer checkStore(t)

	record := func(t *testing.T, engine string) (broken float64, stacks map[string]int, why whyBroken) {
		t.Helper()
		status, out, stderr := sightline(t, "record", "--json", "--engine", engine, "--", bin, "0.7")
		if status != exitDone {
			t.Fatalf("record: exit %d: %s", status, stderr)
		}
		broken = decode[struct{ Broken float64 }](t, out[strings.Index(out, "{"):]).Broken
		if status, out, stderr = sightline(t, "export", "--format", "collapsed"); status != exitDone {
			t.Fatalf("export: exit %d: %s", status, stderr)
		}
		stacks = map[string]int{}
		for line := range strings.Lines(out) {
			at := strings.LastIndexByte(line, ' ')
			n, err := strconv.Atoi(strings.TrimSpace(line[at+1:]))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			stacks[line[:at]] += n
		}
		if status, out, stderr = sightline(t, "stacks", "--why-broken", "--json"); status != exitDone {
			t.Fatalf("stacks: exit %d: %s", status, stderr)
		}
		return broken, stacks, decode[whyBroken](t, out)
	}
	// Through is the share of what is in a function whose stacks go through others, in the order of calls.
	through := func(stacks map[string]int, function string, by ...string) float64 {
		part, all := 0, 0
		for stack, n := range stacks {
			at := strings.LastIndex(stack, function)
			if at < 0 {
				continue
			}
			rest, ok := stack[:at], true
			all += n
			for _, f := range by {
				_, rest, ok = strings.Cut(rest, f)
				if !ok {
					break
				}
			}
			if ok {
				part += n
			}
		}
		return float64(part) / float64(max(all, 1))
	}
	t.Run("bpf", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("BPF needs root")
		}
		// On a busy machine samples may be lost, and the first ones come before it is known what runs.
		const attempts = 3
		for n := 1; ; n++ {
			broken, stacks, why := record(t, "bpf")
			var wrong []string
			for _, x := range []struct {
				what       string
				got, least float64
			}{
				{"whole stacks", 1 - broken, 0.99},
				{"of inC below Go", through(stacks, "!inC;", "main._Cfunc_inC", "runtime.cgocall", "runtime.asmcgocall"), 0.95},
				{"of goCompare below what called C", through(stacks, "main.goCompare", "main.main.func1", "sortsInC", "runtime.asmcgocall", "sortsInC", "qsort"), 0.95},
				{"of goInThread below a thread of C", through(stacks, "main.goInThread", "start_thread", "threadOfC", "crosscall2", "runtime.cgocallback"), 0.95},
			} {
				if x.got < x.least {
					wrong = append(wrong, fmt.Sprintf("%s: %.3f, want %.3f or more", x.what, x.got, x.least))
				}
			}
			if len(wrong) == 0 {
				return
			}
			if n == attempts {
				t.Fatalf("in each of %d recordings something is missing, in the last one:\n%s\nreasons: %+v\nstacks: %v",
					attempts, strings.Join(wrong, "\n"), why.Rows, stacks)
			}
		}
	})
	t.Run("perf", func(t *testing.T) {
		broken, _, why := record(t, "perf")
		for _, r := range why.Rows {
			if r.Reason == "cgo stack switch" && strings.Contains(r.Remedy, "bpf engine") && filepath.Base(r.Module) == "crossing" {
				return
			}
		}
		t.Errorf("%.3f of the weight is on broken stacks, and nothing says that the bpf engine helps: %+v", broken, why.Rows)
	})
}

// Reasons that the recorder gave count as far as there are broken stacks, and stacks without a reason
// have one.
func TestWhyBroken(t *testing.T) {
	p, err := profile.ParseProfile([]byte(`cpu ns
[broken stack];f@f.c:1 30
[broken stack];g@g.c:1 20
[broken stack];j@j.js:1 20
main;h@h.c:1 30
`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Frames {
		if f := &p.Frames[i]; len(f.Func) == 1 {
			f.Module = "/lib/" + f.Func
			if f.Func == "j" {
				f.Module = sourcemap.JIT
			}
		}
	}
	warn := func(module, reason string, n int64) {
		p.Warnings = append(p.Warnings, profile.Broken{Module: module, Reason: reason, Remedy: "help", Count: n}.Warning())
	}
	warn("/lib/f", "bad CFA", 1)
	warn("//anon", "no rows", 5)
	warn("/lib/h", "no rows", 7) // its root has a name that nothing calls
	want := whyBroken{Broken: 0.7, Count: 3, Rows: []brokenReason{
		{Module: "/lib/f", Reason: "bad CFA", Count: 1, Remedy: "help"},
		{Module: "/lib/g", Reason: "no caller by frame pointers", Count: 1, Remedy: "its stack was not copied: --stack-bytes 16384 has the perf engine do so also where the program that is started keeps frame pointers, and the bpf engine does by itself; or build it with -fno-omit-frame-pointer"},
		{Module: "[jit]", Reason: "no rows", Count: 1, Remedy: "help"},
	}}
	if diff := cmp.Diff(want, whyBrokenOf(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
