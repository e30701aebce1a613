package profiler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// An Ability is one thing that recordings use, and whether this process has it here and now.
type Ability struct {
	Name   string `json:"name"`             // what it is for: "perf: kernel code"
	Engine Engine `json:"engine,omitempty"` // the engine that uses it; AnyEngine: both, or what comes after
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`           // what was tried and what came of it, with the values that matter now
	Why    string `json:"why,omitempty"`    // the cause; "" where OK and nothing is less than it could be
	Remedy string `json:"remedy,omitempty"` // what gives it with the least privilege: a command for a shell where there is one
}

// Probe tells what each engine may do here. It finds out by doing it: it opens events and programs
// and takes a few samples of itself. Nothing of that is left behind, and it takes some tens of
// milliseconds. The order is fixed: the perf engine, the BPF engine, what both need.
func Probe() []Ability {
	p := newProber()
	defer p.end()
	user := p.perfSamples(false)
	program := p.bpfProgram()
	defer program.close()
	lent := p.bpfLent(program.Ability)
	all := []Ability{
		user,
		p.perfSamples(true),
		p.perfMachine(),
		p.perfOthers(),
		p.perfMemory(user),
		p.bpfRing(),
		program.Ability,
		p.bpfSamples(program),
		lent,
		p.bpfTypes(),
		p.kernelSymbols(),
		p.vdso(),
		p.stackDepth(),
		p.goCommand(),
	}
	// What sightline-capture does, or would do, in its place needs no capabilities of this program's file.
	for i := range all {
		a := &all[i]
		if a.OK || a.Engine != BPFEngine || !strings.HasPrefix(a.Remedy, "sudo setcap ") {
			continue
		}
		if lent.OK {
			a.Why += "; sightline-capture has them in its place"
			a.Remedy = ""
		} else {
			a.Remedy = lent.Remedy
		}
	}
	return all
}

// circumstances are what refusals are explained by.
type circumstances struct {
	privileges bpf.Privileges
	paranoid   int // kernel.perf_event_paranoid; unknown where it cannot be read
	kptr       int // kernel.kptr_restrict; likewise
}

const (
	unknown = math.MinInt // value of a setting that cannot be read
	never   = math.MaxInt // value that would be needed where none helps
)

// A prober holds the probing goroutine on one thread and one CPU, because events of the recorder
// are each of one CPU.
type prober struct {
	circumstances
	cpu   int
	cpus  []int
	saved *unix.CPUSet // to be restored; nil where it was not changed
}

func newProber() *prober {
	runtime.LockOSThread()
	p := &prober{}
	p.privileges, _ = bpf.ReadPrivileges() // without /proc everything below says so
	p.paranoid = readSysctl("perf_event_paranoid")
	p.kptr = readSysctl("kptr_restrict")
	p.cpus, _ = perfevent.OnlineCPUs()
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) == nil {
		for cpu := range len(allowed) * 64 {
			if !allowed.IsSet(cpu) {
				continue
			}
			var one unix.CPUSet
			one.Set(cpu)
			if unix.SchedSetaffinity(0, &one) == nil {
				p.cpu, p.saved = cpu, &allowed
			}
			break
		}
	}
	return p
}

func (p *prober) end() {
	if p.saved != nil && unix.SchedSetaffinity(0, p.saved) != nil {
		return // the thread stays locked, and so ends with its goroutine
	}
	runtime.UnlockOSThread()
}

// readSysctl is a number in /proc/sys/kernel, or unknown.
func readSysctl(name string) int {
	text, err := os.ReadFile("/proc/sys/kernel/" + name)
	if err != nil {
		return unknown
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return unknown
	}
	return n
}

// sysctl names a setting with its value now.
func sysctl(name string, value int) string {
	if value == unknown {
		return "kernel." + name + " cannot be read"
	}
	return fmt.Sprintf("kernel.%s is %d", name, value)
}

// probePeriod is so short that a few hundred microseconds suffice for a sample.
const probePeriod = 100 * time.Microsecond

// errNoSample says that all could be opened, but nothing came.
var errNoSample = errors.New("it could be opened, but no sample came in 20 ms of running")

// await runs system calls until seen, which it asks now and then, or for 20 ms of this thread's
// time.
func await(seen func() bool) error {
	for end := threadTime() + 20*time.Millisecond; ; {
		for range 200 {
			unix.Getppid()
		}
		if seen() {
			return nil
		}
		if threadTime() > end {
			return errNoSample
		}
	}
}

func threadTime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// perfSamples samples this thread with a perf event and its ring.
func (p *prober) perfSamples(kernel bool) Ability {
	a := Ability{Name: "perf: own processes", Engine: PerfEngine, Detail: "sampled this process"}
	need := 2
	if kernel {
		a.Name, a.Detail = "perf: kernel code", "sampled this process in the kernel"
		need = 1
	}
	err := p.samplePerf(kernel)
	a.Detail += "; " + sysctl("perf_event_paranoid", p.paranoid)
	switch {
	case err == nil:
		a.OK = true
	case errors.Is(err, errNoMemory):
		a.Why = err.Error()
		a.Remedy = p.memoryRemedy()
	default:
		a.Detail = "could not sample this process: " + err.Error()
		a.Why, a.Remedy = p.perfRefusal(err, need, unix.CAP_PERFMON)
	}
	return a
}

// errNoMemory says that an event could be opened, but not its ring.
var errNoMemory = errors.New("the memory that perf rings may lock is used up, by other recordings of this user")

func (p *prober) samplePerf(kernel bool) error {
	clock := perfevent.Clock{Period: probePeriod, ExcludeKernel: !kernel, Disabled: true}
	alone, err := clock.Open(0, p.cpu, nil)
	if err != nil {
		return err
	}
	alone.Close()
	ring, err := perfevent.OpenRing(p.cpu, perfevent.MinRing)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) {
		return errNoMemory
	}
	if err != nil {
		return err
	}
	defer ring.Close()
	event, err := clock.Open(0, p.cpu, ring)
	if err != nil {
		return err
	}
	defer event.Close()
	if err := event.Enable(); err != nil {
		return err
	}
	defer event.Disable()
	const inKernel = 1<<64 - 128 // PERF_CONTEXT_KERNEL, the mark before kernel addresses
	return await(func() (seen bool) {
		ring.Fill()
		for rec := (perfevent.Record{}); ring.Next(&rec); {
			if rec.Type == perfevent.Sample && len(rec.Chain) > 1 && (!kernel || rec.Chain[0] == inKernel) {
				seen = true
			}
		}
		ring.Release()
		return seen
	})
}

// perfRefusal explains an error of perf_event_open(2): need is the greatest value of
// perf_event_paranoid that would permit it to everybody, capabilities what permits it in spite of
// that (kernel/events/core.c, and Documentation/admin-guide/perf-security.rst).
func (c *circumstances) perfRefusal(err error, need int, capabilities ...int) (why, remedy string) {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "the perf_event_open system call is missing: a kernel without CONFIG_PERF_EVENTS, or a seccomp filter, as containers have it",
			"allow perf_event_open in the container's seccomp profile, or run sightline outside of it"
	case !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM):
		return err.Error(), ""
	}
	lacks, set := c.privileges.Missing(capabilities...)
	lower := fmt.Sprintf("sudo sysctl kernel.perf_event_paranoid=%d", need)
	switch {
	// The kernel itself answers EACCES to perf_event_open; Docker's default profile EPERM.
	case errors.Is(err, unix.EPERM) && c.privileges.Seccomp:
		return "a seccomp filter refuses the perf_event_open system call, as containers have it",
			"allow perf_event_open in the container's seccomp profile, or run sightline outside of it"
	// Mainline knows no values above 2. Debian's and Ubuntu's kernels refuse everything above 2 or
	// 3, and ask for CAP_SYS_ADMIN where mainline is content with CAP_PERFMON.
	case c.paranoid > 2 && c.privileges.Effective>>unix.CAP_SYS_ADMIN&1 == 0:
		why = fmt.Sprintf("kernel.perf_event_paranoid is %d, with which this distribution's kernel keeps perf events from everybody without CAP_SYS_ADMIN", c.paranoid)
		if need == 2 || lacks == "" {
			return why, "sudo sysctl kernel.perf_event_paranoid=2"
		}
		return why + ", and " + lacks, "sudo sysctl kernel.perf_event_paranoid=2, and " + set
	case lacks != "" && c.paranoid > need:
		why = fmt.Sprintf("kernel.perf_event_paranoid is %d, which is too much without privileges, and %s", c.paranoid, lacks)
		if strings.HasPrefix(set, "sudo ") {
			return why, set + ", or, for every user: " + lower
		}
		return why, lower + ", or " + set
	case lacks != "":
		return lacks, set
	}
	return "the kernel does not permit it, though nothing that is known forbids it: a security module (SELinux, AppArmor) may",
		"look for the refusal in the kernel's log: sudo dmesg"
}

// perfMachine opens an event for everything that runs on a CPU.
func (p *prober) perfMachine() Ability {
	a := Ability{Name: "perf: whole machine", Engine: PerfEngine}
	if err := p.opens(-1, false); err != nil {
		a.Detail = fmt.Sprintf("could not open an event for all processes on CPU %d: %v", p.cpu, err)
		a.Why, a.Remedy = p.perfRefusal(err, 0, unix.CAP_PERFMON)
		return a
	}
	a.OK = true
	a.Detail = fmt.Sprintf("opened an event for all processes and the kernel on CPU %d; %s", p.cpu, sysctl("perf_event_paranoid", p.paranoid))
	return a
}

func (p *prober) opens(tid int, excludeKernel bool) error {
	e, err := perfevent.Clock{Period: probePeriod, ExcludeKernel: excludeKernel, Disabled: true}.Open(tid, p.cpu, nil)
	if err != nil {
		return err
	}
	return e.Close()
}

// perfOthers opens an event on another user's process, and reads what is mapped there. Some programs
// guard themselves, so it tries a few.
func (p *prober) perfOthers() Ability {
	a := Ability{Name: "perf: other users' processes", Engine: PerfEngine}
	pids := otherProcesses(8)
	for _, pid := range pids {
		if a = p.perfOther(a, pid); a.OK {
			return a
		}
	}
	if len(pids) == 0 {
		a.Detail = "not tried: there is no process of another user"
		a.Why, a.Remedy = p.privileges.Missing(unix.CAP_PERFMON)
		a.OK = a.Why == ""
	}
	return a
}

func (p *prober) perfOther(a Ability, pid int) Ability {
	if err := p.opens(pid, true); err != nil {
		a.Detail = fmt.Sprintf("could not open an event on process %d of %s: %v", pid, ownerOf(pid), err)
		a.Why, a.Remedy = p.perfRefusal(err, never, unix.CAP_PERFMON)
		return a
	}
	if _, err := readMaps(pid); err != nil {
		// Since 6.15 CAP_PERFMON suffices for this, too (may_access_mm, kernel/fork.c).
		a.Detail = fmt.Sprintf("opened an event on process %d of %s, but could not read which binaries it has mapped: %v", pid, ownerOf(pid), err)
		a.Why, a.Remedy = p.privileges.Missing(unix.CAP_SYS_PTRACE)
		if a.Why == "" {
			a.Why = err.Error()
		}
		return a
	}
	a.OK = true
	a.Detail = fmt.Sprintf("opened an event on process %d of %s and read which binaries it has mapped", pid, ownerOf(pid))
	a.Why, a.Remedy = "", ""
	return a
}

// otherProcesses are at most n processes that run a program for another user, the youngest first.
func otherProcesses(n int) (others []int) {
	pids, err := readIDs("/proc")
	if err != nil {
		return nil
	}
	slices.SortFunc(pids, func(a, b int) int { return b - a })
	for _, pid := range pids {
		if len(others) == n {
			break
		}
		st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		if err != nil || int(st.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() {
			continue
		}
		// Kernel threads and zombies have no command line.
		if command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(command) > 0 {
			others = append(others, pid)
		}
	}
	return others
}

// perfMemory opens the rings that a recording at the default rate would have.
func (p *prober) perfMemory(user Ability) Ability {
	a := Ability{Name: "perf: memory for rings", Engine: PerfEngine}
	want := ringBytes(defaultFreq, max(len(p.cpus), 1))
	rings, err := perfevent.OpenRings(p.cpus, want)
	limits := sysctl("perf_event_mlock_kb", readSysctl("perf_event_mlock_kb")) + ", RLIMIT_MEMLOCK " + memlock()
	if err != nil {
		a.Detail = "could not map a ring for each CPU: " + err.Error() + "; " + limits
		a.Why, a.Remedy = user.Why, user.Remedy
		if user.OK {
			a.Why, a.Remedy = errNoMemory.Error(), p.memoryRemedy()
		}
		return a
	}
	size := rings[0].Size()
	for _, r := range rings {
		r.Close()
	}
	a.OK = true
	a.Detail = fmt.Sprintf("mapped %d rings of %d KiB; %s", len(rings), size>>10, limits)
	if size < want {
		a.Why = fmt.Sprintf("%d KiB each would be better at %d samples per second, but these limits do not allow it", want>>10, defaultFreq)
		a.Remedy = p.memoryRemedy()
	}
	return a
}

// memoryRemedy gives room for two recordings at the default rate.
func (p *prober) memoryRemedy() string {
	ring := 1 << 10 // rounded up as perfevent.OpenRing does
	for ring < ringBytes(defaultFreq, max(len(p.cpus), 1)) {
		ring <<= 1
	}
	return fmt.Sprintf("sudo sysctl kernel.perf_event_mlock_kb=%d", 2*(ring+os.Getpagesize())>>10)
}

func memlock() string {
	var r unix.Rlimit
	switch {
	case unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r) != nil:
		return "not known"
	case r.Cur == unix.RLIM_INFINITY:
		return "unlimited"
	}
	return fmt.Sprintf("%d KiB", r.Cur>>10)
}

// explain fills in an error of package bpf.
func (a *Ability) explain(err error) {
	a.Why = err.Error()
	if r := (*bpf.Refusal)(nil); errors.As(err, &r) {
		a.Why, a.Remedy = r.Why, r.Remedy
	}
}

func (p *prober) bpfRing() Ability {
	a := Ability{Name: "bpf: ring buffer", Engine: BPFEngine, Detail: "created one"}
	if err := bpf.TryRing(); err != nil {
		a.Detail = "could not create one"
		a.explain(err)
		return a
	}
	a.OK = true
	return a
}

// A program is the Ability to load one, and the one.
type program struct {
	Ability
	sampler *bpf.Sampler // nil where it could not be loaded
}

func (p *program) close() {
	if p.sampler != nil {
		p.sampler.Close()
	}
}

func (p *prober) bpfProgram() *program {
	a := &program{Ability: Ability{Name: "bpf: sampling program", Engine: BPFEngine, Detail: "loaded it"}}
	var err error
	if a.sampler, err = bpf.NewSampler(bpf.Options{RingBytes: 64 << 10}); err != nil {
		a.Detail = "could not load it"
		a.explain(err)
		return a
	}
	a.OK = true
	return a
}

// bpfSamples attaches the program to an event of this thread and waits for a sample of the kernel.
func (p *prober) bpfSamples(program *program) Ability {
	a := Ability{Name: "bpf: kernel and user code", Engine: BPFEngine}
	if program.sampler == nil {
		a.Detail = "not tried, for the program could not be loaded"
		a.Why, a.Remedy = program.Why, program.Remedy
		return a
	}
	if err := p.sampleBPF(program.sampler); err != nil {
		a.Detail = "could not sample this process in the kernel: " + err.Error()
		a.Why, a.Remedy = p.perfRefusal(err, 1, unix.CAP_PERFMON)
		return a
	}
	a.OK = true
	a.Detail = "attached it and sampled this process in the kernel"
	return a
}

func (p *prober) sampleBPF(s *bpf.Sampler) error {
	event, err := perfevent.Clock{Period: probePeriod, Disabled: true}.Open(0, p.cpu, nil)
	if err != nil {
		return err
	}
	defer event.Close()
	if err := s.Attach(event.FD()); err != nil {
		return err
	}
	if err := event.Enable(); err != nil {
		return err
	}
	defer event.Disable()
	s.SetDeadline(time.Unix(1, 0))
	var x bpf.Sample
	var broken error
	err = await(func() bool {
		for {
			err := s.ReadInto(&x)
			if err == nil && len(x.Kernel) > 0 && len(x.User) > 0 {
				return true
			}
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					broken = err
				}
				return broken != nil
			}
		}
	})
	return errors.Join(broken, err)
}

func (p *prober) bpfTypes() Ability {
	const file = "/sys/kernel/btf/vmlinux"
	a := Ability{Name: "bpf: the kernel's types", Engine: BPFEngine}
	f, err := os.Open(file)
	if err != nil {
		a.Detail = err.Error()
		a.Why = "the kernel was built without CONFIG_DEBUG_INFO_BTF; sampling does not need it"
		if errors.Is(err, os.ErrPermission) {
			a.Why = "this process may not read it; sampling does not need it"
		}
		return a
	}
	f.Close()
	a.OK = true
	a.Detail = "opened " + file + "; sampling does not need it"
	return a
}

// kernelSymbols reads the address of one symbol.
func (p *prober) kernelSymbols() Ability {
	const file = "/proc/kallsyms"
	a := Ability{Name: "names of kernel code"}
	f, err := os.Open(file)
	if err != nil {
		a.Detail, a.Why = err.Error(), "the kernel was built without CONFIG_KALLSYMS"
		if errors.Is(err, os.ErrPermission) {
			a.Why = "this process may not read it"
		}
		return a
	}
	defer f.Close()
	if findText(f) != 0 {
		a.OK = true
		a.Detail = "read the address of _text in " + file
		return a
	}
	a.Detail = file + " shows no address of _text; " + sysctl("kptr_restrict", p.kptr)
	a.Why, a.Remedy = p.symbolsRefusal()
	return a
}

// symbolsRefusal follows kallsyms_show_value (kernel/ksyms_common.c).
func (c *circumstances) symbolsRefusal() (why, remedy string) {
	lacks, set := c.privileges.Missing(unix.CAP_SYSLOG)
	if c.kptr >= 2 {
		remedy = "sudo sysctl kernel.kptr_restrict=1"
		if set != "" {
			remedy += ", and " + set
		}
		return "kernel.kptr_restrict is 2, which hides addresses from everybody", remedy
	}
	if lacks != "" {
		if !strings.HasPrefix(set, "sudo ") {
			return lacks, "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1, or " + set
		}
		return lacks, set + ", or, for every user: sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1"
	}
	return "the kernel hides them, though nothing that is known forbids it", ""
}

// vdso reads the kernel's code in this process.
func (p *prober) vdso() Ability {
	a := Ability{Name: "names of vDSO code"}
	maps, err := readMaps(os.Getpid())
	for _, m := range maps {
		if m.name != vdsoName {
			continue
		}
		data, err := readMemory(os.Getpid(), m.start, m.end)
		if err != nil {
			a.Detail, a.Why = "could not read this process's vDSO", err.Error()
			return a
		}
		a.OK = true
		a.Detail = fmt.Sprintf("read this process's vDSO, %d bytes", len(data))
		return a
	}
	a.Detail = "this process has no vDSO"
	a.Why = "the kernel was started without it (vdso=0), or the architecture has none"
	if err != nil {
		a.Detail, a.Why = "could not look for this process's vDSO", err.Error()
	}
	return a
}

// stackDepth is about stacks that are cut.
func (p *prober) stackDepth() Ability {
	depth := perfevent.MaxStack()
	a := Ability{Name: "depth of stacks", OK: true, Detail: fmt.Sprintf("kernel.perf_event_max_stack is %d: outer callers of deeper stacks are missing", depth)}
	if depth < 127 {
		a.Why = "it is less than what kernels have by themselves"
		a.Remedy = "sudo sysctl kernel.perf_event_max_stack=127"
	}
	return a
}

// goCommand asks the go command that tests are built with for its version.
func (p *prober) goCommand() Ability {
	a := Ability{Name: "go command"}
	path, err := exec.LookPath("go")
	if err != nil {
		a.Detail = "looked for it in PATH"
		a.Why = "there is none; only sightline test needs it"
		a.Remedy = "install Go (https://go.dev/dl) and put its bin folder into PATH"
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local") // nothing is to be downloaded
	out, err := cmd.Output()
	if err != nil {
		a.Detail = "ran " + path + " version"
		a.Why = err.Error()
		a.Remedy = "see what the command says: " + path + " version"
		return a
	}
	a.OK = true
	a.Detail = path + ": " + strings.TrimPrefix(strings.TrimSpace(string(out)), "go version ")
	return a
}
