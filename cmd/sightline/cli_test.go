package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/sightline-dev/sightline/profiler/store"
)

// Burn is a module whose test spends four fifths of its time in hot and one in cold, on lines that
// say so.
const burn = `
-- go.mod --
module example.com/burn

go 1.22
-- burn.go --
package burn

var sink uint64

//go:noinline
func spin(n int) uint64 {
	x := uint64(1)
	for i := 0; i < n; i++ {
		x = x*6364136223846793005 + 1442695040888963407 // spin
	}
	return x
}

//go:noinline
func hot(n int) { sink += spin(4 * n) } // hot

//go:noinline
func cold(n int) { sink += spin(n) } // cold

func Burn(n int) {
	for range 20 {
		hot(n)  // calls hot
		cold(n) // calls cold
	}
}
-- burn_test.go --
package burn

import (
	"os"
	"testing"
)

func TestBurn(t *testing.T) { Burn(2_000_000) }

func TestFails(t *testing.T) {
	Burn(500_000)
	t.Error("this test fails on purpose")
}

// Fails when it runs again in one process.
var ran bool

func TestOnce(t *testing.T) {
	Burn(200_000)
	if ran {
		t.Error("ran twice in one process")
	}
	ran = true
}

func TestIdle(t *testing.T) {}

func TestSlow(t *testing.T) {
	if os.Getenv("BURN_LONG") == "" {
		t.Skip("only on request")
	}
	Burn(1_000_000_000)
}

func BenchmarkBurn(b *testing.B) {
	for range b.N {
		Burn(1000)
	}
}
-- broken/broken.go --
package broken

func f() int { return "no number" }
-- broken/broken_test.go --
package broken

import "testing"

func TestBroken(t *testing.T) { f() }
-- empty/empty.go --
package empty
`

// Module writes a txtar archive into a folder of its own and makes it the current folder, with a
// state folder beside it.
func inModule(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Chdir(dir)
	return dir
}

// A safeBuffer takes what several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Sightline runs one command line in this process.
func sightline(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return sightlineContext(t.Context(), args...)
}

func sightlineContext(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, err safeBuffer
	status = run(ctx, args, streams{strings.NewReader(""), &out, &err})
	return status, out.String(), err.String()
}

// CheckStore verifies the store of the current folder: every test that made one ends with it.
func checkStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := openStore(".")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Check(); err != nil {
		t.Error(err)
	}
	return st
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// LineOf is the 1-based line of a file that ends with a comment.
func lineOf(t *testing.T, file, comment string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasSuffix(line, "// "+comment) {
			return i + 1
		}
	}
	t.Fatalf("no line of %s ends with // %s", file, comment)
	return 0
}

// Shares are the self and total of a file's lines in parts of the whole.
func shares(t *testing.T, file string, args ...string) map[int][2]float64 {
	t.Helper()
	status, out, stderr := sightline(t, append([]string{"lines", file, "--json"}, args...)...)
	if status != exitDone {
		t.Fatalf("lines: exit %d: %s", status, stderr)
	}
	a := decode[annotated](t, out)
	status, out, stderr = sightline(t, "show", string(a.Capture), "--json")
	if status != exitDone {
		t.Fatalf("show: exit %d: %s", status, stderr)
	}
	whole := float64(decode[captureJSON](t, out).Kinds[0].Total)
	share := map[int][2]float64{}
	for _, l := range a.Lines {
		share[l.Line] = [2]float64{float64(l.Self) / whole, float64(l.Total) / whole}
	}
	return share
}

func TestProfileOfATest(t *testing.T) {
	inModule(t, burn)
	status, out, stderr := sightline(t, "test", "-run", "TestBurn")
	if status != exitDone {
		t.Fatalf("exit %d: %s%s", status, out, stderr)
	}
	if !strings.Contains(out, "go test example.com/burn -run TestBurn") || !strings.Contains(out, "burn.go:") {
		t.Errorf("the summary lacks target or hot lines:\n%s", out)
	}
	share := shares(t, "burn.go")
	within := func(comment string, which int, low, high float64) {
		t.Helper()
		if got := share[lineOf(t, "burn.go", comment)][which]; got < low || got > high {
			t.Errorf("line %q has %.3f, want between %.2f and %.2f", comment, got, low, high)
		}
	}
	const self, total = 0, 1
	within("calls hot", total, 0.60, 0.93)
	within("calls cold", total, 0.07, 0.35)
	within("hot", total, 0.60, 0.93)
	within("hot", self, 0, 0.05)

	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || list[0].Kinds[0].Samples < defaultSamples {
		t.Errorf("captures are %+v, want one with %d samples", list, defaultSamples)
	}
	rows := decode[rowsOut](t, mustRun(t, "stacks", "--json"))
	if r := rows.Rows[0]; !strings.HasSuffix(r.Name, "!example.com/burn.spin") || r.Self < float64(list[0].Kinds[0].Total)*8/10 || filepath.Base(r.File) != "burn.go" || r.Line != 6 {
		t.Errorf("the first function is %+v", r)
	}
	tree := decode[rowOut](t, mustRun(t, "stacks", "--view", "call-tree", "--json"))
	if tree.Total != float64(list[0].Kinds[0].Total) || len(tree.Children) == 0 {
		t.Errorf("the tree's root is %s with %g of %d and %d children", tree.Name, tree.Total, list[0].Kinds[0].Total, len(tree.Children))
	}
	checkStore(t)
}

// A rowOut is a row as other programs read it.
type rowOut struct {
	Name, Module, File                 string
	Line                               int
	Self, Total, SelfCount, TotalCount float64
	Children                           []rowOut
}

// RowsOut is the by-name view.
type rowsOut struct {
	Root rowOut
	Rows []rowOut
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	status, out, stderr := sightline(t, args...)
	if status != exitDone {
		t.Fatalf("sightline %s: exit %d: %s", strings.Join(args, " "), status, stderr)
	}
	return out
}

func TestProfileOfABenchmark(t *testing.T) {
	inModule(t, burn)
	out := mustRun(t, "test", "-bench=Burn", "--samples", "200", "--json", "--", "-benchtime", "200ms", "-benchmem")
	o := decode[outcomeJSON](t, out)
	if o.Samples < 200 || o.Failed || o.Target != "go test example.com/burn -bench Burn" {
		t.Errorf("the outcome is %+v", o)
	}
	checkStore(t)
}

func TestFailingTestIsReportedAndKept(t *testing.T) {
	inModule(t, burn)
	status, out, stderr := sightline(t, "test", "-run", "TestFails")
	if status != exitFailed {
		t.Errorf("exit %d, want %d", status, exitFailed)
	}
	if !strings.Contains(out, "this test fails on purpose") {
		t.Errorf("the test's own output is missing:\n%s%s", out, stderr)
	}
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || list[0].Kinds[0].Samples == 0 {
		t.Fatalf("captures are %+v, want the failed test's", list)
	}
	checkStore(t)
}

// A test that cannot run twice in one process is repeated in processes of its own.
func TestRepeatsInFreshProcesses(t *testing.T) {
	inModule(t, burn)
	status, out, stderr := sightline(t, "test", "-run", "TestOnce", "--samples", "300", "--json")
	if status != exitDone {
		t.Fatalf("exit %d: %s%s", status, out, stderr)
	}
	if o := decode[outcomeJSON](t, out); o.Samples < 300 || o.Failed {
		t.Errorf("the outcome is %+v", o)
	}
	checkStore(t)
}

// Bad input is one sentence with the remedy and exit status 2, and loses nothing.
func TestBadInput(t *testing.T) {
	dir := inModule(t, burn)
	if err := os.WriteFile("notes.txt", []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("cut", cutBinary(t), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string // parts of the sentence
	}{
		{"test ./nowhere", []string{"no package ./nowhere", "name a folder"}},
		{"test example.com/nowhere", []string{"no package example.com/nowhere"}},
		{"test ./...", []string{"names 3 packages"}},
		{"test . ./broken", []string{"one package"}},
		{"test ./empty", []string{"has no test files"}},
		{"test -run TestNone", []string{"matches -run TestNone", "TestBurn"}},
		{"test -bench None", []string{"matches -bench None", "BenchmarkBurn"}},
		{"test -run [", []string{"-run ["}},
		{"test -run (", []string{"-run (", "regular expression"}},
		{"test -v", []string{"-v", "after --"}},
		{"test -- -o x", []string{"-o"}},
		{"test --max 0s", []string{"--max 0s"}},
		{"test --freq abc", []string{"abc", "no number"}},
		{"rm", []string{"rm takes"}},
		{"stacks --top -1", []string{"--top -1"}},
		{"test -run A -bench B", []string{"-run and -bench"}},
		{"test --samples 0", []string{"--samples 0"}},
		{"test --freq 0", []string{"--freq 0"}},
		{"test --engine dtrace", []string{"--engine dtrace", "bpf or perf"}},
		{"test --nope", []string{"--nope", "--help"}},
		{"record", []string{"nothing to record"}},
		{"record -p 0", []string{"-p 0"}},
		{"record -p 4194303", []string{"4194303"}},
		{"record -p 1 -a", []string{"one of"}},
		{"record --kind blocked -- true", []string{"--kind blocked", "cpu"}},
		{"record -- ./nowhere", []string{"./nowhere"}},
		{"record -- nowhere-in-path", []string{"nowhere-in-path"}},
		{"record -- ./notes.txt", []string{"notes.txt"}},
		{"record -- ./cut", []string{"cut"}},
		{"show", []string{"no finished captures", "record one"}},
		{"show zz", []string{"zz"}},
		{"show @7", []string{"@7"}},
		{"rm zz", []string{"zz"}},
		{"lines", []string{"one file"}},
		{"lines nowhere.go", []string{"no file nowhere.go"}},
		{"lines burn.go", []string{"nothing is recorded"}},
		{"stacks --view pie", []string{"no view pie", "by-name"}},
		{"--workspace nowhere captures", []string{"nowhere"}},
		{"frobnicate", []string{"frobnicate"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			status, out, stderr := sightline(t, strings.Fields(c.args)...)
			if status != exitUsage {
				t.Errorf("exit %d, want %d; %s", status, exitUsage, out)
			}
			if lines := strings.Count(stderr, "\n"); lines != 1 {
				t.Errorf("%d lines, want one sentence: %q", lines, stderr)
			}
			for _, part := range c.want {
				if !strings.Contains(stderr, part) {
					t.Errorf("%q lacks %q", stderr, part)
				}
			}
		})
	}
	t.Run("does not compile", func(t *testing.T) {
		status, _, stderr := sightline(t, "test", "./broken")
		if status != exitUsage || !strings.Contains(stderr, "broken.go:3") {
			t.Errorf("exit %d, %q; want the compiler's message", status, stderr)
		}
	})
	t.Run("ends at once", func(t *testing.T) {
		status, _, stderr := sightline(t, "test", "-run", "TestIdle", "--max", "50ms", "--freq", "1")
		if status != exitUsage || !strings.Contains(stderr, "no sample") {
			t.Errorf("exit %d, %q; want a word of no samples", status, stderr)
		}
	})
	if dir != "" {
		if st := checkStore(t); st != nil {
			if list, err := st.List(); err != nil || len(list) != 0 {
				t.Errorf("left behind: %v, %v", list, err)
			}
		}
	}
}

// CutBinary is the first part of a program: an ELF file that ends too early.
func cutBinary(t *testing.T) []byte {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return self[:100]
}

// Ctrl-C ends a recording and keeps it.
func TestInterruptKeepsTheRecording(t *testing.T) {
	inModule(t, burn)
	t.Setenv("BURN_LONG", "1")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			if st, err := openStore("."); err == nil {
				if list, err := st.List(); err == nil && len(list) == 1 && len(list[0].Kinds) > 0 && list[0].Kinds[0].Samples > 50 {
					return
				}
			}
		}
	}()
	status, out, stderr := sightlineContext(ctx, "test", "-run", "TestSlow")
	if status != exitDone || !strings.Contains(out, "stopped") {
		t.Fatalf("exit %d: %s%s", status, out, stderr)
	}
	if !strings.Contains(out, "burn.go") {
		t.Errorf("no hot lines in %s", out)
	}
	checkStore(t)
}

// Program is the sightline binary itself, for what needs a process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sightline-program-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user runs it too
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "sightline")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = packageDir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return path, nil
})

var (
	built      string // folder of program, once it is built
	packageDir string // before any test went elsewhere
)

func TestMain(m *testing.M) {
	packageDir, _ = os.Getwd()
	// Tests never meet a user's daemon. Those of the daemon have one of their own (daemon_test.go).
	os.Setenv(noDaemonVariable, "1")
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// After kill -9 of the recorder the capture is there up to the last chunk, marked as interrupted.
func TestKilledRecorderLeavesItsChunks(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	inModule(t, burn)
	// The program's functions are named afterwards: from the binary, which is still there.
	if out, err := exec.Command("go", "test", "-c", "-o", "burn.test").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "record", "--", "./burn.test", "-test.run", "TestSlow")
	cmd.Env = append(os.Environ(), "BURN_LONG=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	st, err := openStore(".")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(90 * time.Second)
	for {
		if list, err := st.List(); err == nil && len(list) == 1 && len(list[0].Kinds) > 0 && list[0].Kinds[0].Samples > 100 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was stored while recording")
		}
		time.Sleep(50 * time.Millisecond)
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	cmd.Wait()

	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 1 || !list[0].Interrupted || list[0].Kinds[0].Samples < 100 {
		t.Errorf("captures are %+v, want an interrupted one with samples", list)
	}
	if out := mustRun(t, "show"); !strings.Contains(out, "recorder died") {
		t.Errorf("show does not tell of the interruption:\n%s", out)
	}
	rows := decode[rowsOut](t, mustRun(t, "stacks", "--json"))
	if !strings.HasSuffix(rows.Rows[0].Name, "!example.com/burn.spin") {
		t.Errorf("the first function is %+v, want spin", rows.Rows[0])
	}
	mustRun(t, "lines", "burn.go")
	checkStore(t)
}
