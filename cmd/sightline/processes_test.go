package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/process"
)

// child runs a command until the test ends.
func child(t *testing.T, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

func TestProcesses(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	// Its name is as hard to read as any, and it is busy.
	name := filepath.Join(t.TempDir(), "a (b) 1 2")
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sh, name); err != nil {
		t.Fatal(err)
	}
	busy := child(t, name, "-c", "while :; do :; done", "über", "x\ny")
	idle := exec.Command(bin, "serve")
	if _, err := idle.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { idle.Process.Kill(); idle.Wait() })
	all, err := processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := func(pid int) int { return slices.IndexFunc(all, func(p rpc.ProcessInfo) bool { return p.PID == pid }) }
	if i := at(busy); i < 0 {
		t.Errorf("process %d is not listed", busy)
	} else if p := all[i]; p.Name != "a (b) 1 2" || p.Command != name+" -c while :; do :; done über x\\ny" || p.Go || p.CPU == "0.0%" ||
		p.User != nameOfUser(os.Geteuid()) || !strings.HasSuffix(p.Memory, "iB") {
		t.Errorf("a shell is %+v", p)
	}
	if i := at(idle.Process.Pid); i < 0 || !all[i].Go {
		t.Errorf("a Go program is not known as one: %+v", all[max(0, i)])
	} else if i < at(busy) {
		t.Errorf("an idle process comes before a busy one: %d, %d", i, at(busy))
	}
	if at(os.Getpid()) >= 0 {
		t.Error("the process that lists is listed")
	}
	own := slices.IndexFunc(all, func(p rpc.ProcessInfo) bool { return p.User != nameOfUser(os.Geteuid()) })
	if own >= 0 && slices.ContainsFunc(all[own:], func(p rpc.ProcessInfo) bool { return p.User == nameOfUser(os.Geteuid()) }) {
		t.Error("processes of others come before those of one's own")
	}
}

// What is told of abilities rests on their names.
func TestAbilitiesHaveTheseNames(t *testing.T) {
	all := profiler.Probe()
	for _, name := range []string{abilityOwn, abilityOthers, abilityBPF} {
		if !slices.ContainsFunc(all, func(a profiler.Ability) bool { return a.Name == name }) {
			t.Errorf("there is no ability %q any more", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	with := func(own, others, bpf bool) recordability {
		return recordabilityOf([]profiler.Ability{
			{Name: abilityOwn, OK: own, Why: "kernel.perf_event_paranoid is 4", Remedy: "sudo sysctl x"},
			{Name: abilityOthers, OK: others, Why: "this process lacks CAP_PERFMON"},
			{Name: abilityBPF, OK: bpf, Detail: "could not load it"},
		})
	}
	own, guarded, foreign := &process.Process{UID: 7}, &process.Process{UID: 7, Guarded: true}, &process.Process{UID: 8, Guarded: true}
	for _, c := range []struct {
		able recordability
		p    *process.Process
		want string
	}{
		{with(true, true, true), foreign, ""},
		{with(true, false, false), own, ""},
		{with(true, false, false), guarded, "it guards itself from other processes of its user, and this process lacks CAP_PERFMON"},
		{with(true, false, false), foreign, "it belongs to eve, and this process lacks CAP_PERFMON"},
		{with(false, false, false), own, "kernel.perf_event_paranoid is 4; what helps: sudo sysctl x"},
		{with(false, true, true), own, ""},
	} {
		if got := c.able.refusal(c.p, 7, "eve"); got != c.want {
			t.Errorf("%+v of %+v: %q, want %q", c.p, c.able, got, c.want)
		}
	}
}

// An editor is told what can be recorded, and what cannot and why.
func TestEditorAsksWhatCanBeRecorded(t *testing.T) {
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	e := server(t, "vscode", w, nobody(t), nil)
	var report rpc.DoctorResult
	e.Must(rpc.MethodDoctor, nil, &report)
	if !strings.Contains(report.Text, abilityOwn) || strings.Contains(report.Text, "\x1b") || len(report.Engines) < 10 {
		t.Errorf("the report is %+v", report)
	}
	works := false
	for _, x := range report.Engines {
		works = works || x.Works && (x.Engine == "perf" && x.What == "own processes" || x.Engine == "bpf" && x.What == "kernel and user code")
		if !x.Works && x.Why == "" {
			t.Errorf("nobody says why there is no %+v", x)
		}
	}
	if works != report.Healthy {
		t.Errorf("healthy is %t, and it works is %t", report.Healthy, works)
	}
	var all []rpc.ProcessInfo
	e.Must(rpc.MethodProcesses, nil, &all)
	if nobody(t) == nil {
		return
	}
	i := slices.IndexFunc(all, func(p rpc.ProcessInfo) bool { return p.PID == os.Getpid() })
	if i < 0 || all[i].User != "root" || !strings.HasPrefix(all[i].Refused, "it belongs to root, and ") || !strings.Contains(all[i].Refused, "CAP_PERFMON") {
		t.Errorf("what an ordinary user hears of a process of root is %+v", all[max(i, 0)])
	}
}
