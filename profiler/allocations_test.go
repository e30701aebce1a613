package profiler_test

import (
	"bufio"
	"cmp"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// measured is what is to be seen of a function of testdata/allocating.c: bytes and allocations in all, and
// of them in use at its end.
type measured struct{ bytes, count, inUse int64 }

// allocatingAll is what it does with each byte taken down.
var allocatingAll = map[string]measured{
	"keeps":  {1_000_000, 1000, 500_000}, // half are released
	"churns": {1_000_000, 2000, 0},
	"grows":  {127_000, 7, 64_000},
	"zeroes": {100_000, 100, 100_000},
	"aligns": {102_400, 50, 102_400},
	"fails":  {1<<47 - 4096, 1, 0},
	"large":  {200 << 20, 200, 0},
}

// byFunction sums a series by the innermost function of the program.
func byFunction(t *testing.T, c *recorded, kind profile.Kind) map[string]profile.Measure {
	t.Helper()
	sums := map[string]profile.Measure{}
	s := &c.Of(kind).Samples
	for i := range s.Len() {
		x := s.At(i)
		for l := range c.Stacks.LeafFirst(x.Stack) {
			if name := c.name(t, l); allocatingAll[name] != (measured{}) {
				m := sums[name]
				m.Add(profile.Measure{Weight: x.Weight, Count: x.Count})
				sums[name] = m
				break
			}
		}
	}
	return sums
}

func stopAllocations(t *testing.T, r *profiler.AllocationRecording) *recorded {
	t.Helper()
	c, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	for _, w := range c.Warnings {
		if w.Kind == profile.WarnLost {
			t.Errorf("warning %+v", w)
		}
	}
	return &recorded{Capture: c, file: r.Binary, symbols: map[profile.MappingID][]elf.Symbol{}}
}

// Every allocation of a command is told of with the function that made it, whatever it was made with.
func TestAllocationsOfCommand(t *testing.T) {
	needRoot(t)
	for _, x := range []struct{ name, preload string }{
		{"allocating", ""}, {"allocating-bare", ""}, {"allocating-static", ""},
		{"allocating", "libjemalloc.so.2"}, {"allocating", "libtcmalloc_minimal.so.4"}, {"allocating", "libmimalloc.so.2"},
	} {
		t.Run(x.name+" "+x.preload, func(t *testing.T) {
			cmd := exec.Command(program(t, x.name))
			if x.preload != "" {
				found, _ := filepath.Glob("/usr/lib/*/" + x.preload)
				if len(found) == 0 {
					t.Skipf("%s is not here; .ci/packages test installs it", x.preload)
				}
				cmd.Env = append(os.Environ(), "LD_PRELOAD="+found[0])
			}
			r, err := profiler.RecordAllocations(t.Context(), profiler.Target{Command: cmd}, profiler.AllocationOptions{Period: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			if want := cmp.Or(x.preload, "libc.so.6"); x.name != "allocating-static" && r.Allocator() != want {
				t.Errorf("the allocator is %s, want %s", r.Allocator(), want)
			}
			c := stopAllocations(t, r)
			if s := cmd.ProcessState; s == nil || !s.Success() {
				t.Errorf("the command ended with %v", s)
			}
			alloc, inUse := byFunction(t, c, profile.Alloc), byFunction(t, c, profile.InUse)
			for f, want := range allocatingAll {
				if got := alloc[f]; got != (profile.Measure{Weight: want.bytes, Count: want.count}) {
					t.Errorf("%s allocates %+v, want %d bytes in %d", f, got, want.bytes, want.count)
				}
				if got := inUse[f].Weight; got != want.inUse {
					t.Errorf("of %s %d bytes are in use, want %d", f, got, want.inUse)
				}
			}
			p, err := c.Profile(profile.Alloc)
			if err != nil {
				t.Fatal(err)
			}
			if b := p.Broken(); b > 0.01 {
				t.Errorf("%.3f of it is on broken stacks", b)
			}
		})
	}
}

// Of a process that runs, what it does from then on is seen, with a sample for so many bytes, and it is left
// as it was.
func TestAllocationsOfProcess(t *testing.T) {
	needRoot(t)
	for _, old := range []bool{false, true} {
		cmd := exec.Command(program(t, "allocating"), "wait")
		in, out := pipes(t, cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		says(t, out, "ready")
		foreseen := -1.0
		r, err := profiler.RecordAllocations(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.AllocationOptions{
			Period: 64 << 10, MostSlowdown: 10, Foreseen: func(calls, _ float64) { foreseen = calls }, OldProbes: old,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if foreseen != 0 {
			t.Errorf("it is foreseen that it calls the allocator %g times a second, while it waits", foreseen)
		}
		if r.Allocator() != "libc.so.6" {
			t.Errorf("its allocator is %s", r.Allocator())
		}
		io.WriteString(in, "x")
		says(t, out, "done")
		io.WriteString(in, "x")
		says(t, out, "released")
		c := stopAllocations(t, r)
		alloc, inUse := byFunction(t, c, profile.Alloc), byFunction(t, c, profile.InUse)
		// 200 MiB in pieces of 1 MiB, each of which is taken down for certain.
		if got := alloc["large"]; got.Weight < 199<<20 || got.Weight > 201<<20 || got.Count < 199 || got.Count > 201 {
			t.Errorf("large allocates %+v, want 200 MiB in 200", got)
		}
		if got := inUse["large"].Weight; got != 0 {
			t.Errorf("%d bytes of large are in use", got)
		}
		// A million bytes is 15 samples on average: from 2 to 40 all but once in ten thousand.
		if got := alloc["churns"].Weight; got < 130_000 || got > 2_700_000 {
			t.Errorf("churns allocates %d bytes by the samples, want about a million", got)
		}
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("the process has ended: %v", err)
		}
	}
}

func TestAllocationsRefused(t *testing.T) {
	needRoot(t)
	busy := startProgram(t, false, "allocating", "busy")
	thread := startProgram(t, true, "threads", "30")
	for name, c := range map[string]struct {
		target profiler.Target
		is     error
		says   string
	}{
		"nothing":         {profiler.Target{}, nil, "exactly one"},
		"the machine":     {profiler.Target{Machine: true}, nil, "exactly one"},
		"no process":      {profiler.Target{PID: 1<<22 + 1}, profiler.ErrNoProcess, "there is no such process"},
		"a kernel thread": {profiler.Target{PID: 2}, profiler.ErrNoProcess, ""},
		"a Go program":    {profiler.Target{PID: thread.Process.Pid}, profiler.ErrNoAllocator, "sightline heap"},
		"no command":      {profiler.Target{Command: exec.Command("no-such-command")}, profiler.ErrNoCommand, "not found"},
		"too slow":        {profiler.Target{PID: busy.Process.Pid}, profiler.ErrTooSlow, "--most-slowdown"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := profiler.RecordAllocations(t.Context(), c.target, profiler.AllocationOptions{MostSlowdown: 0.01})
			if err == nil {
				r.Close()
				t.Fatal("no error")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one that is %v and says %q", err, c.is, c.says)
			}
		})
	}
}

// says waits for a line of a program.
func says(t *testing.T, out *bufio.Scanner, want string) {
	t.Helper()
	line := make(chan string, 1)
	go func() {
		out.Scan()
		line <- out.Text()
	}()
	select {
	case got := <-line:
		if got != want {
			t.Fatalf("the program says %q, want %q", got, want)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("the program does not say %q", want)
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return in, bufio.NewScanner(out)
}
