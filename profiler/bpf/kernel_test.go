package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// raceDetector says that the tests run with -race.
var raceDetector bool

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
			x.Stack = slices.Clone(x.Stack)
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

// spin burns CPU time, not time: the machine may be busy.
//
//go:noinline
func spin(d time.Duration) int {
	n := 0
	for end := burnt() + d; burnt() < end; {
		n += spinInner(n)
	}
	return n
}

// burnt is the CPU time of this process.
func burnt() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}

//go:noinline
func spinInner(n int) int {
	for i := range 30000 {
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

// A loop of system calls is mostly sampled in the kernel, with the loop on the user stack below.
func TestKernelFrames(t *testing.T) {
	s := newSampler(t, Options{})
	samples := sampled(t, s, 200_000, func() { readZeros(t, 200*time.Millisecond) })
	inKernel, named := 0, 0
	for i, x := range samples {
		for _, addr := range x.Kernel {
			if addr>>63 == 0 {
				t.Fatalf("sample %d: kernel address %#x is one of user space", i, addr)
			}
		}
		for _, addr := range x.User {
			if addr>>63 != 0 {
				t.Fatalf("sample %d: user address %#x is one of the kernel", i, addr)
			}
		}
		if len(x.Kernel) > 2 {
			inKernel++
			if strings.Contains(strings.Join(functions(&x), " "), "bpf.readZeros") {
				named++
			}
		}
	}
	if inKernel < 100 || named < inKernel*8/10 {
		t.Errorf("of %d samples %d are of the kernel, and of these %d have the loop on their user stack", len(samples), inKernel, named)
	}
}

//go:noinline
func readZeros(t testing.TB, d time.Duration) {
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for end := burnt() + d; burnt() < end; {
		if _, err := f.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

// The user's registers come with samples of user code and of kernel code, and the words at the stack
// pointer with them.
func TestRegisters(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's C code has neither frame pointers nor Go's stack")
	}
	s := newSampler(t, Options{})
	samples := sampled(t, s, 200_000, func() {
		spin(20 * time.Millisecond)
		readZeros(t, 20*time.Millisecond)
	})
	var user, kernel int
	for i, x := range samples {
		if len(x.User) == 0 {
			continue
		}
		if len(x.Kernel) == 0 {
			user++
		} else {
			kernel++
		}
		// Go code keeps frame pointers: in a frame of the same stack, above the stack pointer.
		if x.SP == 0 || x.SP%8 != 0 || x.FP < x.SP || x.FP > x.SP+1<<20 || x.Top == [4]uint64{} {
			t.Fatalf("sample %d, %d kernel addresses: stack pointer %#x, frame pointer %#x, top %#x", i, len(x.Kernel), x.SP, x.FP, x.Top)
		}
		// Where a frame is near enough, its words are those that the kernel walked: the caller's
		// frame pointer, and the return address.
		if at := (x.FP - x.SP) / 8; at+1 < uint64(len(x.Top)) && len(x.User) > 1 && x.Top[at+1] != x.User[1] {
			t.Errorf("sample %d: return address %#x at the frame pointer, %#x on the stack", i, x.Top[at+1], x.User[1])
		}
	}
	if user < 5 || kernel < 5 {
		t.Errorf("%d samples of user code and %d of kernel code", user, kernel)
	}
}

// The stack is copied from the stack pointer on, with all registers, as the rule of the process says,
// and up to its end where that comes first.
func TestStackCopies(t *testing.T) {
	s := newSampler(t, Options{Copies: true, Copy: CopyRule{Bytes: 1 << 10}})
	work := func() {
		recurse(300, func() { // so that there is something on the stack
			spin(20 * time.Millisecond)
			readZeros(t, 20*time.Millisecond)
		})
	}
	check := func(what string, most int, samples []Sample) {
		t.Helper()
		whole := 0
		for i, x := range samples {
			if len(x.User) == 0 {
				continue
			}
			if len(x.Stack) > most || len(x.Stack) == most {
				whole++
			}
			if len(x.Stack) == 0 {
				t.Fatalf("%s: sample %d with %d kernel addresses has no stack", what, i, len(x.Kernel))
			}
			sp, ip := x.Registers[7], x.Registers[8]
			if runtime.GOARCH == "arm64" {
				sp, ip = x.Registers[31], x.Registers[32]
			}
			if len(x.Stack) > most || len(x.Registers) != len(registerOrder) || sp != x.SP || ip != x.User[0] {
				t.Fatalf("%s: sample %d has %d bytes and %d registers, sp %#x (%#x), ip %#x (%#x)", what, i, len(x.Stack), len(x.Registers), sp, x.SP, ip, x.User[0])
			}
			for k, w := range x.Top {
				if len(x.Stack) >= 8*k+8 && binary.LittleEndian.Uint64(x.Stack[8*k:]) != w {
					t.Fatalf("%s: sample %d begins with %x, its top is %x", what, i, x.Stack[:32], x.Top)
				}
			}
		}
		if whole < 50 {
			t.Errorf("%s: %d of %d samples have %d bytes", what, whole, len(samples), most)
		}
	}
	check("without a rule", 1<<10, sampled(t, s, 200_000, work))
	pid := uint32(os.Getpid())
	for _, n := range []int{100, 5000} {
		if err := s.SetCopy(pid, CopyRule{Bytes: n}); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprint(n, " bytes"), n, sampled(t, s, 200_000, work))
	}
	if err := s.SetCopy(pid, CopyRule{End: 1 << 63, Bytes: 1 << 10}); err != nil {
		t.Fatal(err)
	}
	for _, x := range sampled(t, s, 200_000, work) {
		if len(x.Stack) != 0 || len(x.Registers) != 0 {
			t.Fatalf("%d bytes though all code keeps frame pointers", len(x.Stack))
		}
	}
	// A stack that ends within the copy.
	if err := s.SetCopy(pid, CopyRule{Bytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	ends, all := 0, 0
	for _, x := range sampled(t, s, 200_000, work) {
		if len(x.Stack) > MaxCopyBytes {
			t.Fatalf("%d bytes of %d", len(x.Stack), MaxCopyBytes)
		}
		if len(x.User) > 0 {
			all++
			if len(x.Stack) < 1<<10 { // memory may end right behind a small stack of the runtime's
				ends++
			}
		}
	}
	if ends > all/4 {
		t.Errorf("%d of %d stacks have less than 1 KiB", ends, all)
	}
}

// Of a stack that is as it was, from the outermost frame on, only what is below those frames is copied.
func TestStackPast(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := uint32(unix.Gettid())
	s := newSampler(t, Options{Copies: true, Copy: CopyRule{Bytes: 32 << 10}})
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector would move the stack, having found it too large
	work := func() { recurse(100, func() { spin(30 * time.Millisecond) }) }
	recurse(400, func() {})                   // now it is large enough
	places := func(x *Sample) (at []uint64) { // of the return addresses, leaf first
		from := 0
		for _, pc := range x.User[1:] {
			for ; from+8 <= len(x.Stack); from += 8 {
				if binary.LittleEndian.Uint64(x.Stack[from:]) == pc {
					at = append(at, x.SP+uint64(from))
					from += 8
					break
				}
			}
		}
		return at
	}
	const frames, below = 40, 10 // frames of the past, and how many are farther in
	past := PastStack{ID: 7}
	steps := []struct {
		what   string
		change func()
		same   int
	}{
		{"nothing is known", func() {}, 0},
		{"all is as it was", func() {}, frames},
		{"a frame has changed", func() { past.Value[25]++ }, 25},
		{"the outermost has changed", func() { past.Value[0]++ }, 0},
		{"a frame is gone", func() { past.Value[0]--; past.Value[25]--; past.At[30] = 8 }, 30}, // below the stack pointer
		{"forgotten", func() {}, 0},
	}
	for i, step := range steps { // all from here, so that the frames lie in the same places
		step.change()
		var err error
		switch i {
		case 0:
		case len(steps) - 1:
			err = errors.Join(s.ForgetPast(tid), s.ForgetPast(tid))
		default:
			err = s.SetPast(tid, &past)
		}
		if err != nil {
			t.Fatal(err)
		}
		var samples []Sample
		for _, x := range sampled(t, s, 200_000, work) {
			if x.TID == tid && len(x.Kernel) == 0 && len(x.User) > 100 && len(x.Stack) > 0 {
				samples = append(samples, x)
			}
		}
		good := 0
		for _, x := range samples {
			switch {
			case step.same == 0 && x.Same == 0 && x.Past == 0 && len(x.Stack) > 4<<10,
				step.same > 0 && x.Same == step.same && x.Past == 7 && uint64(len(x.Stack)) == past.At[step.same-1]+8-x.SP:
				good++
			}
		}
		if len(samples) < 20 || good < len(samples)*9/10 {
			t.Fatalf("%s: %d of %d samples have %d frames as they were", step.what, good, len(samples), step.same)
		}
		if i > 0 {
			continue
		}
		first := &samples[len(samples)/2]
		at := places(first)
		if len(at) < below+frames {
			t.Fatalf("%d return addresses in %d bytes", len(at), len(first.Stack))
		}
		for _, at := range slices.Backward(at[below:][:frames]) {
			past.At = append(past.At, at)
			past.Value = append(past.Value, binary.LittleEndian.Uint64(first.Stack[at-first.SP:]))
		}
	}
	s.Close()
	if err := s.SetPast(tid, &past); !errors.Is(err, os.ErrClosed) {
		t.Errorf("SetPast after Close: %v", err)
	}
}

// Children of children that are started after Attach are sampled, with the process numbers that
// this process sees.
func TestInherited(t *testing.T) {
	s := newSampler(t, Options{})
	cmd := self(nil, "burn")
	samples := sampled(t, s, 1_000_000, func() {
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	})
	of := map[uint32]int{}
	for _, x := range samples {
		of[x.PID]++
	}
	most := uint32(0)
	for pid, n := range of {
		if n > of[most] {
			most = pid
		}
	}
	if of[most] < 50 || int(most) == os.Getpid() || int(most) == cmd.Process.Pid {
		t.Errorf("samples by process %v; this is %d and its child %d: want most, and 50 at least, of the child's child", of, os.Getpid(), cmd.Process.Pid)
	}
}

func TestLost(t *testing.T) {
	s := newSampler(t, Options{RingBytes: 1})
	if got := s.objects.Ring.MaxEntries(); int(got) != os.Getpagesize() {
		t.Errorf("ring of %d bytes, want a page", got)
	}
	samples := sampled(t, s, 1_000_000, func() { spin(200 * time.Millisecond) })
	lost := s.Lost()
	if len(samples) == 0 || lost == 0 || len(samples)+int(lost) < 20 {
		t.Errorf("%d samples and %d lost in a ring of one page", len(samples), lost)
	}
	more := sampled(t, s, 1_000_000, func() { spin(5 * time.Millisecond) })
	if len(more) == 0 {
		t.Error("no samples after the ring was full once")
	}
	lost = s.Lost()
	s.Close()
	if got := s.Lost(); got != lost {
		t.Errorf("%d lost after Close, %d before", got, lost)
	}
}

//go:noinline
func recurse(n int, leaf func()) int {
	if n == 0 {
		leaf()
		return 0
	}
	return recurse(n-1, leaf) + 1
}

func TestDepth(t *testing.T) {
	s := newSampler(t, Options{Depth: 10})
	if s.Depth() != 10 {
		t.Errorf("Depth is %d, want 10", s.Depth())
	}
	work := func() { recurse(50, func() { spin(50 * time.Millisecond) }) }
	samples := sampled(t, s, 1_000_000, work)
	cut := 0
	for _, x := range samples {
		if len(x.User) > 10 || len(x.Kernel) > 10 || x.UserCut != (len(x.User) == 10) || x.KernelCut != (len(x.Kernel) == 10) {
			t.Fatalf("stacks of %d and %d addresses at a depth of 10, cut: %t %t", len(x.User), len(x.Kernel), x.UserCut, x.KernelCut)
		}
		if x.UserCut {
			cut++
		}
	}
	if cut < len(samples)/2 || cut == 0 {
		t.Errorf("%d of %d stacks are cut", cut, len(samples))
	}

	whole := newSampler(t, Options{})
	for _, x := range sampled(t, whole, 1_000_000, work) {
		names := strings.Join(functions(&x), " ")
		if n := strings.Count(names, "bpf.recurse"); n != 0 && (n < 50 || x.UserCut || !strings.HasSuffix(names, "runtime.goexit")) {
			t.Errorf("%d of 50 levels, cut: %t: %s", n, x.UserCut, names)
		}
	}
}

// The verifier must accept the program for every depth that Options may ask of it.
func TestVerifierAcceptsEveryDepth(t *testing.T) {
	needRoot(t)
	for _, depth := range []uint64{1, 127, MaxDepth - 1, MaxDepth, 1 << 40} {
		spec, err := loadSampler()
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Variables[samplerVarDepth].Set(depth); err != nil {
			t.Fatal(err)
		}
		if err := spec.Variables[samplerVarPidNsIno].Set(uint64(1)); err != nil {
			t.Fatal(err)
		}
		var o samplerObjects
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			t.Errorf("depth %d: %+v", depth, err)
			continue
		}
		o.Close()
	}
}

// A reader that only waits is woken when the ring fills.
func TestWokenWhenFilling(t *testing.T) {
	s := newSampler(t, Options{RingBytes: 64 << 10})
	deadline := time.Now().Add(60 * time.Second)
	s.SetDeadline(deadline)
	type answer struct {
		err error
		at  time.Time
	}
	first := make(chan answer)
	go func() {
		var x Sample
		err := s.ReadInto(&x)
		first <- answer{err, time.Now()}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := openClock(t, 0, -1, 100_000)
	if err := s.Attach(fd); err != nil {
		t.Fatal(err)
	}
	control(t, fd, unix.PERF_EVENT_IOC_ENABLE)
	for {
		select {
		case a := <-first:
			if a.err != nil || a.at.After(deadline) {
				t.Errorf("%v at %v; deadline %v", a.err, a.at, deadline)
			}
			return
		default:
			spin(time.Millisecond)
		}
	}
}

func TestFlush(t *testing.T) {
	s := newSampler(t, Options{})
	sampled(t, s, 1_000_000, func() { spin(5 * time.Millisecond) })
	s.SetDeadline(time.Time{})
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	var x Sample
	if err := s.ReadInto(&x); !errors.Is(err, ErrFlushed) {
		t.Errorf("after Flush of an empty ring: %v", err)
	}
}

func TestCloseEndsRead(t *testing.T) {
	s := newSampler(t, Options{})
	done := make(chan error)
	go func() {
		var x Sample
		done <- s.ReadInto(&x)
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("ReadInto of a closed sampler: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Attach(0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Attach after Close: %v", err)
	}
}

func TestAttachRefused(t *testing.T) {
	s := newSampler(t, Options{})
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := s.Attach(int(null.Fd())); err == nil || !strings.Contains(err.Error(), "attach the BPF sampler to perf event") {
		t.Errorf("attached to /dev/null: %v", err)
	}
	fd := openClock(t, 0, -1, 1_000_000)
	if err := s.Attach(fd); err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(fd); !errors.Is(err, unix.EEXIST) {
		t.Errorf("second Attach: %v", err)
	}
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}

// ask runs a role and returns what it printed.
func ask(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	for _, test := range []struct {
		name    string
		ambient []uintptr
		want    []string
	}{
		{"none", nil, []string{"permission=true unsupported=false", "load the BPF sampler: this process lacks CAP_BPF and CAP_PERFMON; sudo setcap cap_bpf,cap_perfmon,cap_syslog=ep /"}},
		{"bpf", []uintptr{unix.CAP_BPF}, []string{"permission=true", "this process lacks CAP_PERFMON; sudo setcap"}},
		{"perfmon", []uintptr{unix.CAP_PERFMON}, []string{"permission=true", "this process lacks CAP_BPF; sudo setcap"}},
		{"both", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, []string{"loaded"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := self(nobody, "new")
			cmd.SysProcAttr.AmbientCaps = test.ambient
			got := ask(t, cmd)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
		})
	}
	t.Run("user namespace", func(t *testing.T) {
		cmd := self(nil, "new")
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
		if got := ask(t, cmd); !strings.Contains(got, "user namespace (a container without root)") {
			t.Errorf("got %s", got)
		}
	})
}

// In a PID namespace of its own a reader sees its own numbers, and of tasks elsewhere that they are
// elsewhere.
func TestPIDNamespace(t *testing.T) {
	needRoot(t)
	cmd := self(nil, "namespace")
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	if got := ask(t, cmd); got != "inside 1, outside seen\n" {
		t.Errorf("in a new PID namespace: %s", got)
	}
}

func namespaceRole() {
	t := &roleTB{}
	s, err := NewSampler(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range sampled(t, s, 1_000_000, func() { spin(50 * time.Millisecond) }) {
		if int(x.PID) != os.Getpid() || x.TID == 0 || x.TID > 100 || x.Outside {
			t.Fatalf("own sample: process %d, thread %d, outside %t; this is %d", x.PID, x.TID, x.Outside, os.Getpid())
		}
	}
	s.Close()

	s, err = NewSampler(Options{})
	if err != nil {
		t.Fatal(err)
	}
	child := self(nil, "spin")
	child.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	outside := 0
	for _, x := range sampled(t, s, 1_000_000, func() { child.Run() }) {
		if x.Outside {
			outside++
			if x.PID != 0 || x.TID != 0 {
				t.Fatalf("outside, but with numbers %d and %d", x.PID, x.TID)
			}
		}
	}
	if outside < 50 {
		t.Fatalf("%d samples of a process in a namespace below", outside)
	}
	fmt.Printf("inside %d, outside seen\n", os.Getpid())
}

// roleTB lets roles use the tests' functions: a failure ends the process.
type roleTB struct{ testing.TB }

func (*roleTB) Helper()        {}
func (*roleTB) Cleanup(func()) {}
func (*roleTB) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}
func (r *roleTB) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

// The question: what does a sample cost the sampled program, and what its reader?
func BenchmarkSample(b *testing.B) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skip("needs CAP_SYS_ADMIN to have the kernel take the program's time: ", err)
	}
	defer stats.Close()
	s := newSampler(b, Options{RingBytes: 16 << 20})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := openClock(b, 0, -1, 100_000)
	if err := s.Attach(fd); err != nil {
		b.Fatal(err)
	}
	s.SetDeadline(time.Unix(1, 0))
	var x Sample
	records, bytes := 0, 0
	var reading time.Duration
	for b.Loop() {
		control(b, fd, unix.PERF_EVENT_IOC_ENABLE)
		recurse(20, func() { spin(100 * time.Millisecond) })
		control(b, fd, unix.PERF_EVENT_IOC_DISABLE)
		start := time.Now()
		for s.ReadInto(&x) == nil {
			records++
			bytes += len(s.record.RawSample)
		}
		reading += time.Since(start)
	}
	b.ReportMetric(0, "ns/op") // of filling the ring: no answer
	b.ReportMetric(float64(reading.Nanoseconds())/float64(records), "reader-ns/sample")
	b.ReportMetric(float64(bytes)/float64(records), "B/sample")
	run, err := s.objects.OnSample.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(run.Runtime.Nanoseconds())/float64(run.RunCount), "kernel-ns/sample")
}
