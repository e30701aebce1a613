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
	} else if p := all[i]; p.Name != "a (b) 1 2" || p.Command != name+" -c while :; do :; done über x\uFFFDy" || p.Go || p.CPU == "0.0%" ||
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
	own, guarded, foreign := &process{uid: 7}, &process{uid: 7, guarded: true}, &process{uid: 8, guarded: true}
	for _, c := range []struct {
		able recordability
		p    *process
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

func TestParseProcessStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 %s 7 8 9 10 11 12 13 14 15 16 17 18 19 20 321 22"
	for text, want := range map[string]processStat{
		"7 (a) b(c))" + strings.Replace(rest, "%s", "4194560", 1):                     {pid: 7, name: "a) b(c)", resident: 321},
		"2 (kthreadd)" + strings.Replace(rest, "%s", "2129984", 1):                    {pid: 2, name: "kthreadd", resident: 321, kernel: true},
		"9 (x\n)" + strings.Replace(strings.Replace(rest, "S", "Z", 1), "%s", "0", 1): {pid: 9, name: "x\uFFFD", resident: 321, dead: true},
	} {
		if got, err := parseProcessStat([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "7 (x", ")(", "7 (x) S 1", "x (y)" + rest, "7 (y)" + rest, "-7 (y)" + strings.Replace(rest, "%s", "0", 1)} {
		if got, err := parseProcessStat([]byte(text)); err == nil || got != (processStat{}) {
			t.Errorf("%q: %+v, %v; want an error", text, got, err)
		}
	}
	if uid, ok := parseProcessOwner([]byte("Name:\tx\nUid:\t5\t6\t7\t8\n")); !ok || uid != 6 {
		t.Errorf("the owner is %d, %t", uid, ok)
	}
}

func FuzzProcess(f *testing.F) {
	for _, file := range []string{"stat", "status", "cmdline"} {
		if text, err := os.ReadFile("/proc/self/" + file); err == nil {
			f.Add(text)
		}
	}
	f.Add([]byte("7 (a) b(c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"))
	f.Add([]byte("Uid:\t-1\t99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseProcessStat(text)
		if (err == nil) != (s.pid > 0) || err != nil && s != (processStat{}) {
			t.Errorf("%+v and %v", s, err)
		}
		if uid, ok := parseProcessOwner(text); !ok && uid != 0 || uid < 0 {
			t.Errorf("owner %d, %t", uid, ok)
		}
		if c := commandText(text); strings.ContainsAny(c, "\n\x1b\x00") || len(c) > 3*commandBytes+len("…") {
			t.Errorf("the command line is %q", c)
		}
	})
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
