package perfevent

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openGuard(t *testing.T, tid, cpu int) *Guard {
	t.Helper()
	g, err := OpenGuard(tid, cpu, true)
	if paranoid, _ := Paranoid(); errors.Is(err, unix.EACCES) && paranoid > 2 && os.Geteuid() != 0 {
		t.Skipf("kernel.perf_event_paranoid is %d and this is not root: %v", paranoid, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// An event that was opened beside a guard counts its task, also when the guard is gone.
func TestGuard(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpus, err := OnlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	clock := Clock{Period: time.Millisecond, ExcludeKernel: true, NoChain: true, Inherit: true, Disabled: true}
	var events []*Event
	for _, cpu := range cpus {
		g := openGuard(t, unix.Gettid(), cpu)
		e, err := g.Open(clock)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		// As from another process.
		fd, err := unix.Dup(e.FD())
		if err != nil {
			t.Fatal(err)
		}
		adopted, err := Adopt(fd, cpu, nil)
		if err != nil || adopted.ID() != e.ID() {
			t.Fatalf("%v, ids %d and %d", err, adopted.ID(), e.ID())
		}
		e.Close()
		defer adopted.Close()
		if err := adopted.Enable(); err != nil {
			t.Fatal(err)
		}
		events = append(events, adopted)
	}
	spin(20 * time.Millisecond)
	var ran time.Duration
	for _, e := range events {
		c, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		ran += c.Ran
	}
	if ran == 0 {
		t.Error("nothing was counted")
	}
	if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	} else if e, err := Adopt(fd, 0, nil); err == nil {
		t.Errorf("/dev/null is taken for an event: %+v", e)
	}
}

// Beside a guard no event is opened on another task than its own, whatever number that has.
func TestGuardOfAnother(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	g := openGuard(t, cmd.Process.Pid, 0)
	defer g.Close()
	clock := Clock{Period: time.Millisecond, ExcludeKernel: true, NoChain: true, Inherit: true, Disabled: true}
	// As if this process had the number now.
	other := &Guard{fd: g.fd, tid: os.Getpid(), cpu: 0}
	if e, err := other.Open(clock); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%+v %v", e, err)
	}
	e, err := g.Open(clock)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	cmd.Process.Kill()
	cmd.Wait()
	if e, err := g.Open(clock); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("on a task that has ended: %+v %v", e, err)
	}
	if e, err := other.Open(clock); err == nil {
		t.Errorf("beside the guard of a task that has ended: %+v", e)
	}
}
