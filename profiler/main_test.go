package profiler_test

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// ordinary is the environment variable by which TestAsOrdinaryUser runs this binary once more as an
// ordinary user. It names the folder with the programs, which that user cannot compile.
const ordinary = "SIGHTLINE_TEST_PROGRAMS"

// lentVariable says that sightline-capture is there for an ordinary user.
const lentVariable = "SIGHTLINE_TEST_LENT"

const nobody = 65534

// programs is the folder of the compiled programs of testdata.
var programs string

// missing says why there are no programs.
var missing error

func TestMain(m *testing.M) {
	status := func() int {
		if programs = os.Getenv(ordinary); programs == "" {
			dir, err := os.MkdirTemp("", "sightline")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			programs = dir
			missing = build(dir)
		}
		return m.Run()
	}()
	os.Exit(status)
}

func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	compile := func(out, in string, flags ...string) error {
		args := append([]string{"-O1", "-g", "-fno-omit-frame-pointer", "-Wl,--build-id", "-o", filepath.Join(dir, out), "testdata/" + in}, flags...)
		if text, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc %s: %w\n%s", strings.Join(args, " "), err, text)
		}
		return nil
	}
	text, err := exec.Command("go", "build", "-o", filepath.Join(dir, "threads"), "./testdata/threads").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build ./testdata/threads: %w\n%s", err, text)
	}
	return errors.Join(
		compile("busy", "busy.c", "-ldl", "-lpthread"),
		compile("busy-anonymous", "busy.c", "-ldl", "-lpthread", "-Wl,--build-id=none"),
		compile("bare", "bare.c", "-O2", "-fomit-frame-pointer", "-lpthread"),
		compile("allocating", "allocating.c"),
		compile("allocating-bare", "allocating.c", "-O2", "-fomit-frame-pointer"),
		compile("allocating-static", "allocating.c", "-static"),
		compile("one.so", "plugin.c", "-shared", "-fPIC", "-DNAME=one"),
		compile("two.so", "plugin.c", "-shared", "-fPIC", "-DNAME=two", "-DPADDING"),
	)
}

// program is the path of one of them.
func program(t *testing.T, name string) string {
	t.Helper()
	if missing != nil {
		t.Fatalf("the programs to record could not be built; install gcc: %v", missing)
	}
	return filepath.Join(programs, name)
}

func root() bool { return os.Geteuid() == 0 }

// engines runs a test on each engine that must work here: root has both, an ordinary user perf.
func engines(t *testing.T, test func(t *testing.T, e profiler.Engine)) {
	t.Run("perf", func(t *testing.T) {
		needPerf(t)
		test(t, profiler.PerfEngine)
	})
	t.Run("bpf", func(t *testing.T) {
		if !root() && os.Getenv(lentVariable) == "" {
			t.Skip("BPF needs root, or sightline-capture")
		}
		test(t, profiler.BPFEngine)
	})
}

func needPerf(t *testing.T) {
	if paranoid, ok := perfevent.Paranoid(); !root() && (!ok || paranoid > 2) {
		t.Skipf("kernel.perf_event_paranoid is %d, so that an ordinary user may not record", paranoid)
	}
}

// needRoot skips what only root can do.
func needRoot(t *testing.T) {
	if !root() {
		t.Skip("needs root")
	}
}

// A recorded is a finished capture with its functions.
type recorded struct {
	*profile.Capture
	cmd  *exec.Cmd
	file func(profile.MappingID) (io.ReaderAt, error)

	symbols map[profile.MappingID][]elf.Symbol
}

// record records a command to its end.
func record(t *testing.T, e profiler.Engine, name string, args ...string) *recorded {
	t.Helper()
	return recordCommand(t, e, exec.Command(name, args...))
}

func recordCommand(t *testing.T, e profiler.Engine, cmd *exec.Cmd) *recorded {
	t.Helper()
	return recordWith(t, profiler.Options{Engine: e}, cmd)
}

func recordWith(t *testing.T, options profiler.Options, cmd *exec.Cmd) *recorded {
	t.Helper()
	e := options.Engine
	r, err := profiler.Start(t.Context(), profiler.Target{Command: cmd}, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	c := finish(t, r)
	c.cmd = cmd
	if c.Engine != string(e) {
		t.Errorf("engine %q, want %q", c.Engine, e)
	}
	return c
}

// finish stops a recording and checks what holds for all captures.
func finish(t *testing.T, r *profiler.Recording) *recorded {
	t.Helper()
	c, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	s := c.Of(profile.CPU)
	if s == nil || s.Unit != profile.Nanoseconds || s.Period < 1 {
		t.Fatalf("series %+v", c.Series)
	}
	for i := range s.Samples.Len() {
		if x := s.Samples.At(i); x.Time < 0 || x.Time > c.Length || x.Weight < s.Period {
			t.Fatalf("sample %d of %+v in a capture of %v with period %d", i, x, c.Length, s.Period)
		}
	}
	for _, w := range c.Warnings {
		// The rings of an ordinary user are small, and those of the whole machine have what other tests do: where
		// they keep the reader from the processor, some samples find no room, which is told.
		if w.Kind == profile.WarnLost && root() && !c.Target.Machine && w.Count > 50 {
			t.Errorf("warning %+v", w)
		} else if w.Kind == profile.WarnLost {
			t.Logf("warning %+v", w)
		}
	}
	return &recorded{Capture: c, file: r.Binary, symbols: map[profile.MappingID][]elf.Symbol{}}
}

// name is the function a location lies in, by the binary's symbol table.
func (c *recorded) name(t *testing.T, id profile.LocationID) string {
	t.Helper()
	l := c.Locations[id]
	m := c.Mappings[l.Mapping]
	if m.Kind != profile.FileCode || m.Offsets {
		return m.Path
	}
	symbols, ok := c.symbols[l.Mapping]
	if !ok {
		if file, err := c.file(l.Mapping); err != nil {
			t.Logf("%s: %v", m.Path, err)
		} else if f, err := elf.NewFile(file); err != nil {
			t.Errorf("%s: %v", m.Path, err)
		} else {
			static, _ := f.Symbols()
			dynamic, _ := f.DynamicSymbols()
			for _, s := range append(static, dynamic...) {
				if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 {
					symbols = append(symbols, s)
				}
			}
			sort.Slice(symbols, func(i, j int) bool { return symbols[i].Value < symbols[j].Value })
		}
		c.symbols[l.Mapping] = symbols
	}
	at := l.Lookup()
	i := sort.Search(len(symbols), func(i int) bool { return symbols[i].Value > at }) - 1
	if i >= 0 && at < symbols[i].Value+symbols[i].Size {
		return symbols[i].Name
	}
	return filepath.Base(m.Path)
}

// stacks are the samples' stacks as function names, outermost first, with their weights.
func (c *recorded) stacks(t *testing.T) map[string]time.Duration {
	t.Helper()
	all := map[string]time.Duration{}
	s := &c.Of(profile.CPU).Samples
	names := map[profile.StackID]string{}
	for i, id := range s.Stack {
		text, ok := names[id]
		if !ok {
			var frames []string
			for _, l := range c.Stacks.RootFirst(id, nil) {
				frames = append(frames, c.name(t, l))
			}
			text = strings.Join(frames, ";")
			names[id] = text
		}
		all[text] += time.Duration(s.Weight[i])
	}
	return all
}

// share is the part of the weight on stacks of which one function's name is, or is the leaf.
func (c *recorded) share(t *testing.T, function string, leaf bool) float64 {
	t.Helper()
	var part, all time.Duration
	for stack, w := range c.stacks(t) {
		all += w
		frames := strings.Split(stack, ";")
		if leaf {
			frames = frames[len(frames)-1:]
		}
		for _, f := range frames {
			if f == function {
				part += w
				break
			}
		}
	}
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// hotOfSplit is the time in hot of the time in hot and cold, of which the program spends four fifths
// in hot. What interrupts them on a busy machine lies below both, and counts for neither alone.
func (c *recorded) hotOfSplit(t *testing.T) float64 {
	t.Helper()
	hot, cold := c.share(t, "hot", false), c.share(t, "cold", false)
	if hot+cold < 0.5 {
		t.Errorf("hot and cold have %.3f together", hot+cold)
	}
	return hot / (hot + cold)
}

// skipped is the time that the capture says is in no sample.
func (c *recorded) skipped() time.Duration {
	var sum time.Duration
	for _, w := range c.Warnings {
		if text, ok := strings.CutSuffix(strings.SplitN(w.Text, " of ", 2)[0], "s"); ok && strings.Contains(w.Text, "is in no sample") {
			d, _ := time.ParseDuration(strings.ReplaceAll(text, " ", "") + "s")
			sum += d
		}
	}
	return sum
}

func (c *recorded) total() time.Duration {
	return time.Duration(c.Of(profile.CPU).Samples.Sum().Weight)
}

// dump shows what was recorded where a test fails.
func (c *recorded) dump(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	for stack, w := range c.stacks(t) {
		t.Logf("%10v %s", w, stack)
	}
	for _, w := range c.Warnings {
		t.Logf("warning %+v", w)
	}
	for _, task := range c.Tasks {
		t.Logf("task %+v", task)
	}
	for _, m := range c.Mappings {
		t.Logf("mapping %+v", m)
	}
}

func between(t *testing.T, what string, got, least, most float64) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s is %.3f, want %.2f to %.2f", what, got, least, most)
	}
}

// tasks are the names of threads with samples, and how many threads had each.
func (c *recorded) comms() map[string]int {
	n := map[string]int{}
	for _, task := range c.Tasks[1:] {
		n[task.Comm]++
	}
	return n
}

// startProgram starts a program that is to be attached to, and waits for its first output if it has
// any to wait for.
func startProgram(t *testing.T, wait bool, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if wait {
		if _, err := out.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// One run as root covers the ordinary user's tier as well.
func TestAsOrdinaryUser(t *testing.T) {
	needRoot(t)
	program(t, "busy")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary lies where only root may go.
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(programs, "profiler.test")
	if err := os.WriteFile(copied, text, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(programs, "tmp")
	if err := errors.Join(os.MkdirAll(tmp, 0o777), os.Chmod(tmp, 0o777)); err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, tests, passes string, env ...string) {
		cmd := exec.CommandContext(t.Context(), copied, "-test.v", "-test.timeout=5m", "-test.run="+tests)
		cmd.Dir = tmp
		cmd.Env = append([]string{ordinary + "=" + programs, "TMPDIR=" + tmp, "PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE")}, env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+passes) {
			t.Errorf("as user %d: %v\n%s", nobody, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "--- SKIP") || strings.Contains(line, "--- FAIL") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	run(t, "^Test(Record|Refuse)", "TestRecordSplit/perf")
	// The same with the BPF engine, whose program and events sightline-capture has.
	t.Run("lent", func(t *testing.T) {
		path := filepath.Join(programs, "sightline-capture")
		build := exec.Command("go", "build", "-o", path, "../cmd/sightline-capture")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		defer os.Remove(path)
		if out, err := exec.Command("setcap", "cap_bpf,cap_perfmon=p", path).CombinedOutput(); err != nil {
			t.Skipf("the file system of %s does not carry capabilities, or setcap is missing: %v %s", programs, err, out)
		}
		var on unix.Statfs_t
		if unix.Statfs(path, &on) == nil && on.Flags&unix.ST_NOSUID != 0 {
			t.Skipf("the file system of %s is mounted nosuid, where capabilities of files are ignored", programs)
		}
		run(t, "^TestRecord(Split|Forsaken|Threads|Execs|Again|Process|LeavesNothing)$/^bpf$", "TestRecordSplit/bpf", lentVariable+"=1")
	})
}

func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in 20 s", what)
		}
	}
}
