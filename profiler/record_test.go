package profiler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A function that burns four fifths of the time shows as much, below its callers; the weight is the
// time the kernel counted.
func TestRecordSplit(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "split", "0.6")
		defer c.dump(t)
		between(t, "hot of hot and cold", c.hotOfSplit(t), 0.66, 0.92)
		between(t, "total of outer", c.share(t, "outer", false), 0.75, 1)
		between(t, "total of main", c.share(t, "main", false), 0.8, 1)
		whole := false
		for stack := range c.stacks(t) {
			whole = whole || strings.HasSuffix(stack, ";main;split;outer;hot")
		}
		if !whole {
			t.Error("no stack ends in main;split;outer;hot")
		}
		used := c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
		between(t, "recorded of used time", float64(c.total()+c.skipped())/float64(used), 0.75, 1.15)
		between(t, "length in seconds", c.Length.Seconds(), 0.6, 60)
		if got := c.Target.String(); got != program(t, "busy")+" split 0.6" {
			t.Errorf("target %q", got)
		}
		if task := c.Tasks[1]; task.PID != c.cmd.Process.Pid || task.TID != task.PID || task.Parent != os.Getpid() || task.Comm != "busy" {
			t.Errorf("task %+v, want process %d, started by %d", task, c.cmd.Process.Pid, os.Getpid())
		}
		if !strings.HasPrefix(c.Machine, "Linux ") || !strings.Contains(c.Machine, " CPU") {
			t.Errorf("machine %q", c.Machine)
		}
		// Timer ticks that the kernel skips because other tests keep the machine busy are told, and are not
		// the recorder's doing.
		c.Warnings = slices.DeleteFunc(c.Warnings, func(w profile.Warning) bool {
			return strings.Contains(w.Text, "the kernel skipped timer ticks")
		})
		for _, w := range c.Warnings {
			if root() && strings.Contains(w.Text, "is in no sample") {
				t.Errorf("warning %+v", w)
			}
		}
		hidden := warned(c.Capture, profile.WarnHidden)
		if root() && hidden != "" || !root() && !strings.Contains(hidden, "perf_event_paranoid is ") {
			t.Errorf("warned that %q", hidden)
		}
	})
}

// Both engines tell the same of the same program: of some 1500 samples each, shares differ by chance
// with a deviation of 1.5 points, and by six times that never. What interrupts a function on a busy
// machine counts as its own.
func TestRecordEnginesAgree(t *testing.T) {
	needRoot(t)
	a := record(t, profiler.PerfEngine, program(t, "busy"), "split", "1.5")
	b := record(t, profiler.BPFEngine, program(t, "busy"), "split", "1.5")
	for _, function := range []string{"hot", "cold", "outer"} {
		x, y := a.share(t, function, false), b.share(t, function, false)
		if d := x - y; d < -0.1 || d > 0.1 {
			t.Errorf("%s: perf %.3f, bpf %.3f: more than 10 points apart", function, x, y)
		}
	}
	a.dump(t)
	b.dump(t)
}

func TestRecordThreads(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "threads", "0.15")
		defer c.dump(t)
		if n := c.comms()["worker"]; n != 4 {
			t.Errorf("%d threads named worker, want 4", n)
		}
		between(t, "total of worker", c.share(t, "worker", false), 0.75, 1)
		used := c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
		between(t, "recorded of used time", float64(c.total()+c.skipped())/float64(used), 0.7, 1.15)
	})
}

func TestRecordForks(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "forks")
		defer c.dump(t)
		between(t, "total of first", c.share(t, "first", false), 0.2, 0.75)
		between(t, "total of second", c.share(t, "second", false), 0.2, 0.75)
		parents := map[int]int{}
		for _, task := range c.Tasks[1:] {
			parents[task.PID] = task.Parent
		}
		if len(parents) < 20 {
			t.Errorf("%d processes with samples, want 20", len(parents))
		}
		grandchildren := 0
		for _, parent := range parents {
			if parent != c.cmd.Process.Pid && parents[parent] == c.cmd.Process.Pid {
				grandchildren++
			}
		}
		if grandchildren != 10 {
			t.Errorf("%d grandchildren, want 10", grandchildren)
		}
		for _, m := range c.Mappings {
			if strings.HasSuffix(m.Path, "/busy") && m.BuildID == "" {
				t.Errorf("mapping %+v without build ID", m)
			}
		}
	})
}

// A process that calls exec has another program with other addresses.
func TestRecordExecs(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		other := copyProgram(t, "busy-anonymous", "other")
		c := record(t, e, program(t, "busy"), "execs", "0.2", other)
		defer c.dump(t)
		between(t, "total of first", c.share(t, "first", false), 0.3, 0.7)
		between(t, "total of second", c.share(t, "second", false), 0.3, 0.7)
		if n := c.comms(); n["busy"] != 1 || n["other"] != 1 {
			t.Errorf("names %v, want busy and other", n)
		}
		for _, task := range c.Tasks[1:] {
			if task.PID != c.cmd.Process.Pid {
				t.Errorf("task %+v, want process %d", task, c.cmd.Process.Pid)
			}
		}
	})
}

func TestRecordExecOfThread(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "threadexec")
		defer c.dump(t)
		for _, function := range []string{"first", "second"} {
			between(t, "total of "+function, c.share(t, function, false), 0.02, 0.95)
		}
		// The worker runs only until the other thread calls exec, which may be at once.
		between(t, "total of worker", c.share(t, "worker", false), 0, 0.95)
		for stack := range c.stacks(t) {
			if strings.Contains(stack, ";second") && !strings.Contains(stack, ";main;") {
				t.Errorf("stack %s: of the old program", stack)
			}
		}
		between(t, "what lies in no binary", c.share(t, "", true), 0, 0.02)
	})
}

// Two libraries one after the other at the same addresses.
func TestRecordPlugins(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		var out strings.Builder
		cmd := exec.Command(program(t, "busy"), "plugins", program(t, "one.so"), program(t, "two.so"))
		cmd.Stdout = &out
		c := recordCommand(t, e, cmd)
		defer c.dump(t)
		between(t, "total of one", c.share(t, "one", false), 0.25, 0.7)
		between(t, "total of two", c.share(t, "two", false), 0.25, 0.7)
		at := strings.Fields(out.String())
		if len(at) != 2 || at[0][:len(at[0])-4] != at[1][:len(at[1])-4] {
			t.Logf("plug was at %v: not reused, so this shows less than it could", at)
		}
	})
}

// A binary that is removed at once is read all the same, and its addresses are right.
func TestRecordDeleted(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		for _, name := range []string{"busy", "busy-anonymous"} {
			gone := copyProgram(t, name, "gone")
			c := record(t, e, gone, "unlink", "0.3")
			if _, err := os.Stat(gone); err == nil {
				t.Fatal("it is still there")
			}
			between(t, "hot of hot and cold", c.hotOfSplit(t), 0.66, 0.92)
			if text := warned(c.Capture, profile.WarnUnreadable); text != "" {
				t.Errorf("warned that %s", text)
			}
			c.dump(t)
		}
	})
}

// A binary whose place another one has taken is not read in its stead.
func TestRecordReplaced(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		for _, name := range []string{"busy", "busy-anonymous"} {
			path := copyProgram(t, name, "replaced")
			cmd := exec.Command(path, "wait")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			waitFor(t, "the program", func() bool {
				exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
				return exe == path
			})
			os.Rename(copyProgram(t, "threads", "threads"), path)
			r, err := profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{Engine: e})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			waitFor(t, "a sample", func() bool { return r.View().Series[0].Samples.Len() > 100 })
			c := finish(t, r)
			between(t, "hot of hot and cold", c.hotOfSplit(t), 0.5, 0.98)
			for _, m := range c.Mappings {
				if m.Path == path && !m.Deleted {
					t.Errorf("mapping %+v: want it marked as deleted", m)
				}
			}
			c.dump(t)
		}
	})
}

func TestRecordMadeCode(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program has amd64 instructions only")
	}
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "jit", "0.2")
		defer c.dump(t)
		between(t, "total of memory without a file", c.share(t, "//anon", false), 0.75, 1)
		for i, m := range c.Mappings {
			if m.Kind == profile.Anonymous {
				if _, err := c.file(profile.MappingID(i)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Binary(%+v): %v, want fs.ErrNotExist", m, err)
				}
			}
		}
	})
}

// A process that ends at once is a capture with next to no samples, and no error.
func TestRecordNothing(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "nothing")
		if n := c.Of(profile.CPU).Samples.Len(); n > 20 {
			t.Errorf("%d samples", n)
		}
		if c.Length <= 0 {
			t.Errorf("length %v", c.Length)
		}
	})
}

func TestRecordFailure(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := record(t, e, program(t, "busy"), "split", "0.05", "fail")
		if got := warned(c.Capture, profile.WarnTarget); !strings.HasSuffix(got, "ended with exit status 3") {
			t.Errorf("warned that %q", got)
		}
		if c.cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("exit status %v", c.cmd.ProcessState)
		}
	})
}

// One capture of several runs.
func TestRecordAgain(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		first := exec.Command(program(t, "busy"), "split", "0.1")
		r, err := profiler.Start(t.Context(), profiler.Target{Command: first}, profiler.Options{Engine: e, Describe: profile.Target{Package: "./busy", Run: "TestX"}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Run(exec.Command("true")); err == nil || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("Run while the first one runs: %v", err)
		}
		for n := range 3 {
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			if n < 2 {
				if err := r.Run(exec.Command(program(t, "busy"), "second", "0.1")); err != nil {
					t.Fatal(err)
				}
			}
		}
		c := finish(t, r)
		defer c.dump(t)
		between(t, "total of split", c.share(t, "split", false), 0.2, 0.5)
		between(t, "total of second", c.share(t, "second", false), 0.5, 0.8)
		if len(c.Tasks) != 4 {
			t.Errorf("%d tasks, want 3", len(c.Tasks)-1)
		}
		if c.Target.String() != "go test ./busy -run TestX" {
			t.Errorf("target %q", c.Target)
		}
		if err := r.Run(exec.Command("true")); err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("Run after Stop: %v", err)
		}
	})
}

// Views grow, are captures by themselves, and stay as they were.
func TestRecordView(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		cmd := exec.Command(program(t, "busy"), "split", "0.5")
		r, err := profiler.Start(t.Context(), profiler.Target{Command: cmd}, profiler.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ended := make(chan bool)
		go func() {
			r.Wait()
			close(ended)
		}()
		var views []*profile.Capture
		var sizes []int
		for done := false; !done; {
			select {
			case <-ended:
				done = true
			case <-time.After(20 * time.Millisecond):
			}
			v := r.View()
			views, sizes = append(views, v), append(sizes, v.Series[0].Samples.Len())
		}
		c := finish(t, r)
		views, sizes = append(views, r.View()), append(sizes, c.Series[0].Samples.Len())
		grew := 0
		for i, v := range views {
			if err := v.Check(); err != nil {
				t.Fatal(err)
			}
			if n := v.Series[0].Samples.Len(); n != sizes[i] {
				t.Errorf("view %d had %d samples and has %d", i, sizes[i], n)
			}
			if i > 0 && sizes[i] > sizes[i-1] {
				grew++
			}
			if i > 0 && sizes[i] < sizes[i-1] {
				t.Errorf("view %d has %d samples, the one before %d", i, sizes[i], sizes[i-1])
			}
		}
		if grew < 3 {
			t.Errorf("of %d views %d had more than the one before: %v", len(views), grew, sizes)
		}
	})
}

// The end of the context ends the recording, and the command with it.
func TestRecordCancel(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		for mode, signal := range map[string]syscall.Signal{"wait": syscall.SIGTERM, "stubborn": syscall.SIGKILL} {
			ctx, cancel := context.WithCancel(t.Context())
			cmd := exec.Command(program(t, "busy"), mode)
			r, err := profiler.Start(ctx, profiler.Target{Command: cmd}, profiler.Options{Engine: e, Grace: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a sample", func() bool { return r.View().Series[0].Samples.Len() > 50 })
			cancel()
			if err := r.Wait(); err != nil {
				t.Error(err)
			}
			if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != signal {
				t.Errorf("%s ended by %v, want %v", mode, got, signal)
			}
			c := finish(t, r)
			between(t, "total of split", c.share(t, "split", false), 0.3, 1)
			if text := warned(c.Capture, profile.WarnTarget); text != "" {
				t.Errorf("warned that %s", text)
			}
			if again, err := r.Stop(); again != c.Capture || err != nil {
				t.Errorf("Stop again: %p, %v; want %p", again, err, c.Capture)
			}
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRecordProcess(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		cmd := startProgram(t, false, "busy", "split", "0.8")
		waitFor(t, "the program", func() bool {
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
			return exe == cmd.Path
		})
		r, err := profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Wait(); err != nil { // until the process ends
			t.Fatal(err)
		}
		c := finish(t, r)
		defer c.dump(t)
		between(t, "hot of hot and cold", c.hotOfSplit(t), 0.66, 0.92)
		between(t, "recorded seconds", c.total().Seconds(), 0.1, 1.5)
		if task := c.Tasks[1]; task.PID != cmd.Process.Pid || task.Comm != "busy" || task.Parent != os.Getpid() {
			t.Errorf("task %+v", task)
		}
		if c.Target.PID != cmd.Process.Pid {
			t.Errorf("target %+v", c.Target)
		}
	})
}

// All of many threads are recorded, none twice, while others come and go.
func TestRecordManyThreads(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		for _, args := range [][]string{{"200"}, {"20", "churn"}} {
			cmd := startProgram(t, true, "threads", args...)
			engine := e
			if len(args) > 1 {
				engine = profiler.AnyEngine // BPF gives up where threads are started that fast
				if e == profiler.PerfEngine {
					engine = e
				}
			}
			r, err := profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{Engine: engine})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			before := cpuTime(t, cmd.Process.Pid)
			waitFor(t, "enough samples of enough threads", func() bool {
				v := r.View()
				return v.Series[0].Samples.Len() > 1000 && (len(args) > 1 || len(v.Tasks) > 150)
			})
			c := finish(t, r)
			used := cpuTime(t, cmd.Process.Pid) - before
			// A thread's last period is not seen, and the churning ones live for less than one; an
			// ordinary user does not see the kernel's time.
			least := 0.6
			if len(args) > 1 || !root() {
				least = 0.2
			}
			between(t, fmt.Sprintf("recorded of used time with %v", args), float64(c.total())/float64(used), least, 1.2)
			between(t, "total of main.burn", c.share(t, "main.burn", false), 0.5, 1)
			if t.Failed() {
				t.Logf("engine %s, used %v, recorded %v, %d tasks", c.Engine, used, c.total(), len(c.Tasks))
				for _, w := range c.Warnings {
					t.Logf("warning %+v", w)
				}
			}
			cmd.Process.Kill()
		}
	})
}

func TestRecordMachine(t *testing.T) {
	needRoot(t)
	engines(t, func(t *testing.T, e profiler.Engine) {
		r, err := profiler.Start(t.Context(), profiler.Target{Machine: true}, profiler.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := startProgram(t, false, "busy", "split", "0.4")
		old := startProgram(t, true, "threads", "2")
		cmd.Wait()
		old.Process.Kill()
		c := finish(t, r)
		// Whatever else runs on the machine is there as well, perhaps under the same names.
		mine := map[int]map[string]bool{cmd.Process.Pid: {}, old.Process.Pid: {}}
		for _, task := range c.Tasks[1:] {
			if names := mine[task.PID]; names != nil {
				names[task.Comm] = true
			}
		}
		if !mine[cmd.Process.Pid]["busy"] || !mine[old.Process.Pid]["threads"] {
			t.Errorf("names %v by process, want busy and threads among them", mine)
		}
		var hot, busy time.Duration
		s := &c.Of(profile.CPU).Samples
		for i := range s.Len() {
			x := s.At(i)
			if c.Tasks[x.Task].PID != cmd.Process.Pid {
				continue
			}
			busy += time.Duration(x.Weight)
			for _, l := range c.Stacks.RootFirst(x.Stack, nil) {
				if c.name(t, l) == "hot" {
					hot += time.Duration(x.Weight)
					break
				}
			}
		}
		between(t, "total of hot in busy", float64(hot)/float64(max(busy, 1)), 0.6, 0.9)
		if !c.Target.Machine {
			t.Errorf("target %+v", c.Target)
		}
		for _, task := range c.Tasks[1:] {
			if task.PID == 0 {
				t.Errorf("task %+v: the idle task", task)
			}
		}
	})
}

func TestRefuse(t *testing.T) {
	many := startProgram(t, true, "threads", "30")
	engines(t, func(t *testing.T, e profiler.Engine) {
		for name, x := range map[string]struct {
			target profiler.Target
			is     error
			says   string
		}{
			"nothing to record":  {profiler.Target{}, nil, "exactly one"},
			"two things":         {profiler.Target{PID: 1, Machine: true}, nil, "exactly one"},
			"no such process":    {profiler.Target{PID: 1<<22 + 1}, profiler.ErrNoProcess, "there is no such process"},
			"negative":           {profiler.Target{PID: -5}, profiler.ErrNoProcess, "negative"},
			"a thread":           {profiler.Target{PID: otherThread(t, many.Process.Pid)}, profiler.ErrNoProcess, "thread of another process"},
			"no such command":    {profiler.Target{Command: exec.Command("no-such-command")}, profiler.ErrNoCommand, "not found in $PATH"},
			"no such file":       {profiler.Target{Command: exec.Command("/no/such/file")}, profiler.ErrNoCommand, "no such file"},
			"not executable":     {profiler.Target{Command: exec.Command("/etc/passwd")}, profiler.ErrNoCommand, "permission denied"},
			"a folder":           {profiler.Target{Command: exec.Command("/tmp")}, profiler.ErrNoCommand, ""},
			"not a program file": {profiler.Target{Command: exec.Command(notProgram(t))}, profiler.ErrNoCommand, "exec format error"},
		} {
			t.Run(name, func(t *testing.T) {
				r, err := profiler.Start(t.Context(), x.target, profiler.Options{Engine: e})
				if err == nil {
					r.Close()
					t.Fatal("no error")
				}
				if x.is != nil && !errors.Is(err, x.is) || !strings.Contains(err.Error(), x.says) || !strings.HasPrefix(err.Error(), "record") || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want one that is %v and says %q", err, x.is, x.says)
				}
			})
		}
	})
}

func TestRefuseOptions(t *testing.T) {
	for _, o := range []profiler.Options{{Freq: -1}, {Freq: 1e9}, {Engine: "etw"}} {
		if _, err := profiler.Start(t.Context(), profiler.Target{Machine: true}, o); err == nil || !strings.Contains(err.Error(), "choose") {
			t.Errorf("options %+v: %v", o, err)
		}
	}
}

// What an ordinary user may not record is told with both engines' reasons.
func TestRefuseWithoutPermission(t *testing.T) {
	if root() {
		t.Skip("root may; TestAsOrdinaryUser runs this")
	}
	for _, target := range []profiler.Target{{Machine: true}, {PID: 1}} {
		_, err := profiler.Start(t.Context(), target, profiler.Options{})
		if !errors.Is(err, profiler.ErrNoPermission) {
			t.Errorf("%v: %v, want ErrNoPermission", target, err)
			continue
		}
		for _, says := range []string{"the perf engine: ", "the bpf engine: ", "CAP_BPF"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%v: %q does not say %q", target, err, says)
			}
		}
	}
	_, err := profiler.Start(t.Context(), profiler.Target{Command: exec.Command("true")}, profiler.Options{Engine: profiler.BPFEngine})
	if !errors.Is(err, profiler.ErrNoPermission) {
		t.Errorf("BPF: %v, want ErrNoPermission", err)
	}
}

// Descriptors that the recorder's own limit does not allow are an error that says what would do.
func TestRefuseTooFewFiles(t *testing.T) {
	if root() {
		t.Skip("root raises the limit; TestAsOrdinaryUser runs this")
	}
	needPerf(t)
	cmd := startProgram(t, true, "threads", "200")
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	const enough = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: enough, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err != nil && !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("error %v, want one that says ulimit -n", err)
	}
	if err == nil {
		t.Log("the limit could be raised")
	}
}

// A recording leaves nothing behind: no descriptor, no thread of its own.
func TestRecordLeavesNothing(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		record := func() {
			cmd := exec.Command(program(t, "busy"), "split", "0.02")
			r, err := profiler.Start(t.Context(), profiler.Target{Command: cmd}, profiler.Options{Engine: e})
			if err != nil {
				t.Fatal(err)
			}
			r.Wait()
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		record()
		time.Sleep(100 * time.Millisecond) // events are closed where nobody waits
		files, goroutines := openFiles(t), runtime.NumGoroutine()
		for range 5 {
			record()
		}
		waitFor(t, "the end of all descriptors and goroutines", func() bool {
			return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
		})
	})
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func warned(c *profile.Capture, kind profile.WarningKind) string {
	for _, w := range c.Warnings {
		if w.Kind == kind {
			return w.Text
		}
	}
	return ""
}

// copyProgram copies a program into a folder of the test's own.
func copyProgram(t *testing.T, name, as string) string {
	t.Helper()
	from, err := os.Open(program(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), as)
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func notProgram(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("neither a program nor a script\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// otherThread is the id of a thread of a process that is not its first, waited for where there is none yet.
func otherThread(t *testing.T, pid int) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if tid, err := strconv.Atoi(e.Name()); err == nil && tid != pid {
				return tid
			}
		}
	}
	t.Fatalf("process %d has one thread", pid)
	return 0
}

// cpuTime is the time a process's threads have run, the ended ones included.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var user, system int
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// A process that has ended but for its number is no process; one whose main thread has ended is.
func TestRefuseZombie(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var err error
	waitFor(t, "the end of a process", func() bool {
		var r *profiler.Recording
		if r, err = profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{Engine: profiler.PerfEngine}); err == nil {
			r.Close()
		}
		return err != nil && strings.Contains(err.Error(), "zombie")
	})
	if !errors.Is(err, profiler.ErrNoProcess) || !strings.Contains(err.Error(), "has ended and only waits for its parent (zombie)") {
		t.Errorf("refused with %q", err)
	}
}
