package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The roles this test binary plays when it starts itself.
const roleVariable = "SIGHTLINE_BPF_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "new": // load and tell the error
		s, err := NewSampler(Options{})
		if err != nil {
			fmt.Printf("permission=%t unsupported=%t\n%v\n", errors.Is(err, os.ErrPermission), errors.Is(err, errors.ErrUnsupported), err)
			os.Exit(3)
		}
		s.Close()
		fmt.Println("loaded")
	case "burn": // burn CPU in a child of a child
		self(nil, "spin").Run()
	case "spin":
		spin(300 * time.Millisecond)
	case "namespace":
		namespaceRole()
	default:
		fmt.Println("unknown role", role)
		os.Exit(2)
	}
}

// self is this test binary in a role, as the user that creds name.
func self(creds *syscall.Credential, role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: creds}
	return cmd
}

// needRoot skips what cannot be tried by an ordinary user. In a run as root nothing is skipped:
// there every failure is one.
func needRoot(t testing.TB) {
	t.Helper()
	if p, err := ReadPrivileges(); err != nil || !p.Has(unix.CAP_BPF) || !p.Has(unix.CAP_PERFMON) {
		t.Skip("needs CAP_BPF and CAP_PERFMON")
	}
}

func newSampler(t testing.TB, opts Options) *Sampler {
	t.Helper()
	needRoot(t)
	s, err := NewSampler(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openClock opens a cpu-clock event of the given period in ns, disabled and inherited.
func openClock(t testing.TB, pid, cpu int, period uint64) int {
	t.Helper()
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample: period,
		Bits:   unix.PerfBitDisabled | unix.PerfBitInherit,
	}
	fd, err := unix.PerfEventOpen(&attr, pid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		t.Fatalf("perf_event_open: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func control(t testing.TB, fd int, request uint) {
	t.Helper()
	if err := unix.IoctlSetInt(fd, request, 0); err != nil {
		t.Fatal(err)
	}
}

// sampled attaches s to an event of the calling thread, runs work there and returns what was
// sampled meanwhile.
func sampled(t testing.TB, s *Sampler, period uint64, work func()) []Sample {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := openClock(t, 0, -1, period)
	if err := s.Attach(fd); err != nil {
		t.Fatal(err)
	}
	control(t, fd, unix.PERF_EVENT_IOC_ENABLE)
	work()
	control(t, fd, unix.PERF_EVENT_IOC_DISABLE)
	return drain(t, s)
}

// drain returns all samples that are in the ring.
func drain(t testing.TB, s *Sampler) []Sample {
	t.Helper()
	s.SetDeadline(time.Now().Add(-time.Second))
	var all []Sample
	for {
		var x Sample
		switch err := s.ReadInto(&x); {
		case err == nil:
			all = append(all, x)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return all
		default:
			t.Fatal(err)
		}
	}
}

func monotonic() uint64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return uint64(now.Nano())
}

//go:noinline
func spin(d time.Duration) int {
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		n += spinInner(n)
	}
	return n
}

//go:noinline
func spinInner(n int) int {
	for i := range 10000 {
		n = n*31 + i
	}
	return n
}

// functions are the names of the Go functions on a sample's user stack, leaf first.
func functions(x *Sample) []string {
	var names []string
	for i, pc := range x.User {
		if i > 0 {
			pc-- // a return address
		}
		if f := runtime.FuncForPC(uintptr(pc)); f != nil {
			names = append(names, f.Name())
		} else {
			names = append(names, "?")
		}
	}
	return names
}

func TestBusyLoop(t *testing.T) {
	s := newSampler(t, Options{})
	const period = 1_000_000
	before := monotonic()
	samples := sampled(t, s, period, func() { spin(200 * time.Millisecond) })
	after := monotonic()
	if len(samples) < 20 {
		t.Fatalf("%d samples of a loop of 200 ms at 1 kHz", len(samples))
	}
	inLoop := 0
	last := map[uint32]uint64{}
	for i, x := range samples {
		if int(x.PID) != os.Getpid() {
			t.Errorf("sample %d: process %d, want %d", i, x.PID, os.Getpid())
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", x.TID)); err != nil {
			t.Errorf("sample %d: thread %d is not of this process", i, x.TID)
		}
		if x.Period != period {
			t.Errorf("sample %d: period %d, want %d", i, x.Period, period)
		}
		if int(x.CPU) >= 8192 || x.Outside || x.KernelCut || x.UserCut {
			t.Errorf("sample %d: CPU %d outside %t cut %t %t", i, x.CPU, x.Outside, x.KernelCut, x.UserCut)
		}
		if x.Time < before || x.Time > after {
			t.Errorf("sample %d: time %d is not within %d and %d of CLOCK_MONOTONIC", i, x.Time, before, after)
		}
		if x.Time < last[x.CPU] {
			t.Errorf("sample %d: earlier than the one before on CPU %d", i, x.CPU)
		}
		last[x.CPU] = x.Time
		if strings.Contains(strings.Join(functions(&x), " "), "bpf.spin") {
			inLoop++
		}
	}
	if inLoop < len(samples)*8/10 {
		t.Errorf("%d of %d samples have the loop on their user stack; first: %v", inLoop, len(samples), functions(&samples[0]))
	}
	if s.Lost() != 0 {
		t.Errorf("%d lost", s.Lost())
	}
}

func namespaceRole() {}
