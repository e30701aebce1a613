package profiler

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// An opener opens a recording's events: it decides on the engine and whether the kernel's time can
// be had, and then opens each event alike.
type opener struct {
	target Target
	rings  []*perfevent.Ring
	clock  perfevent.Clock
	source stackSource // nil: the perf engine
	// copying says which stacks are copied; nil: none.
	copying *copying
	freq    int
	why     error // why it is not the BPF engine; nil where it is, or where perf was asked for

	mu     sync.Mutex // guards the following
	events []*perfevent.Event
	past   perfevent.Counts // of events that are closed already
	rounds int              // how often threads were looked for; with more than one some may have two events
}

// maxPast is how many events of commands that have ended are kept, for processes that they have left
// behind.
const maxPast = 256

// newOpener opens the rings and, if it may, the BPF program.
func newOpener(t Target, o Options) (*opener, error) {
	period := time.Second / time.Duration(o.Freq)
	op := &opener{
		target: t, clock: perfevent.Clock{Period: period, Inherit: !t.Machine, Disabled: true},
		copying: newCopying(t, o), freq: o.Freq,
	}
	cpus, err := perfevent.OnlineCPUs()
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", t, err)
	}
	if o.Engine != PerfEngine {
		options := bpf.Options{RingBytes: stackBytes(o.Freq, len(cpus))}
		if c := op.copying; c != nil {
			options.Copies = true
			if c.always {
				options.Copy = c.unknown()
				// Deep stacks, and at first all, are copied beyond c.bytes.
				options.RingBytes = copiesBytes(o.Freq, len(cpus), max(c.bytes, 2*defaultStackBytes))
			}
		}
		s, err := bpf.NewSampler(options)
		switch {
		case err == nil:
			op.source = s
			op.clock.NoChain = true
			if op.copying != nil {
				op.copying.set, op.copying.setPast, op.copying.forgetPast = s.SetCopy, s.SetPast, s.ForgetPast
			}
		case o.Engine == BPFEngine:
			return nil, op.refuse(err, nil)
		default:
			op.why = err
		}
	}
	if err := op.openRings(); err != nil {
		op.close()
		return nil, op.refuse(op.why, err)
	}
	return op, nil
}

// openRings opens the rings, for what samples have with the engine that there is.
func (o *opener) openRings() error {
	cpus, err := perfevent.OnlineCPUs()
	if err != nil {
		return err
	}
	size := ringBytes(o.freq, len(cpus))
	if c := o.copying; c != nil && o.source == nil {
		if !c.always {
			o.copying = nil // all or none
		} else {
			want := c.bytes
			if !c.chosen {
				want = perfStackBytes
			}
			size = max(size, min(copiesBytes(o.freq, 1, want), max(maxCopyRings/len(cpus), 1<<20)))
		}
	}
	if o.rings, err = perfevent.OpenRings(cpus, size); err != nil {
		return err
	}
	if c := o.copying; c != nil && o.source == nil {
		c.bytes = c.fit(o.rings[0].Size(), o.freq, perfStackBytes)
		c.held = !c.chosen && c.bytes < perfStackBytes
		o.clock.Registers, o.clock.StackBytes = unwind.PerfRegisters(hostMachine()), c.bytes
	}
	for _, r := range o.rings {
		r.Expect(o.clock.Registers)
	}
	return nil
}

const (
	sampleBytes  = 2048      // of a sample without a copy: deep stacks of addresses
	maxCopyRings = 256 << 20 // bytes of all rings for samples with copies
)

// copiesBytes is how large a ring for the samples of some CPUs is to be where they have copies of
// stacks: a quarter of a second's, up to 64 MiB.
func copiesBytes(freq, cpus, bytes int) int {
	return min(max(freq*cpus*(bytes+sampleBytes)/4, 1<<20), 64<<20)
}

// ringBytes is how large a CPU's ring is to be: a second of deep stacks, up to 64 MiB for all.
// Where that is more than this user may lock, OpenRings takes less.
func ringBytes(freq, cpus int) int {
	return min(max(freq*1024, 512<<10), max(64<<20/cpus, 512<<10))
}

// stackBytes is the same for the BPF ring, which all CPUs share. 0 is its own choice.
func stackBytes(freq, cpus int) int {
	if freq <= 2000 {
		return 0
	}
	return min(freq*cpus*512, 64<<20)
}

// open opens the event of one ring's CPU on a thread: 0 for the calling one, -1 for all.
func (o *opener) open(tid int, ring *perfevent.Ring) (*perfevent.Event, error) {
	e, err := o.clock.Open(tid, ring.CPU(), ring)
	if denied(err) && !o.clock.ExcludeKernel && !o.any() {
		without := o.clock
		without.ExcludeKernel = true
		if e, err2 := without.Open(tid, ring.CPU(), ring); err2 == nil {
			o.clock = without
			return o.attach(e)
		}
	}
	if err != nil {
		return nil, err
	}
	return o.attach(e)
}

func (o *opener) attach(e *perfevent.Event) (*perfevent.Event, error) {
	if o.source != nil {
		if err := o.source.Attach(e.FD()); err != nil {
			e.Close()
			return nil, &attachError{err}
		}
	}
	o.mu.Lock()
	o.events = append(o.events, e)
	o.mu.Unlock()
	return e, nil
}

// try finds out whether events can be opened at all, and how.
func (o *opener) try() error {
	_, err := o.open(0, o.rings[0])
	o.closeEvents()
	o.clock.EnableOnExec = true
	return err
}

// retire closes the oldest events if there are too many.
func (o *opener) retire() {
	o.mu.Lock()
	var old []*perfevent.Event
	if n := len(o.events) - maxPast; n > 0 {
		old = append(old, o.events[:n]...)
		o.events = append([]*perfevent.Event(nil), o.events[n:]...)
	}
	for _, e := range old {
		o.past = plus(o.past, e)
	}
	o.mu.Unlock()
	for _, e := range old {
		e.Close()
	}
}

// attachError says that the BPF program could not be attached, which is no reason against perf.
type attachError struct{ error }

func (e *attachError) Unwrap() error { return e.error }

// usePerf gives the BPF engine up, with what was opened for it.
func (o *opener) usePerf(why error) error {
	o.closeEvents()
	o.source.Close()
	o.source, o.why = nil, why
	o.clock.NoChain = false
	if o.copying == nil {
		return nil
	}
	o.copying.set, o.copying.setPast, o.copying.forgetPast = nil, nil, nil
	for _, r := range o.rings {
		r.Close()
	}
	o.rings = nil
	return o.openRings()
}

// deepen has commands that are started from now on copied more, if stacks were cut.
func (o *opener) deepen() {
	if c := o.copying; c != nil && o.source == nil && c.cut.Load() {
		o.clock.StackBytes = c.fit(o.rings[0].Size(), o.freq, maxStackBytes)
	}
}

func (o *opener) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.events) > 0
}

func (o *opener) each(do func(*perfevent.Event) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, e := range o.events {
		errs = append(errs, do(e))
	}
	return errors.Join(errs...)
}

func (o *opener) enable() error  { return o.each((*perfevent.Event).Enable) }
func (o *opener) disable() error { return o.each((*perfevent.Event).Disable) }

// counts are those of all events.
func (o *opener) counts() perfevent.Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := o.past
	for _, e := range o.events {
		sum = plus(sum, e)
	}
	return sum
}

// plus adds an event's counts; one that cannot be read counts nothing.
func plus(a perfevent.Counts, e *perfevent.Event) perfevent.Counts {
	b, _ := e.Read()
	return perfevent.Counts{Ran: a.Ran + b.Ran, Lost: a.Lost + b.Lost}
}

func (o *opener) engine() Engine {
	if o.source != nil {
		return BPFEngine
	}
	return PerfEngine
}

func (o *opener) closeEvents() {
	o.mu.Lock()
	events := o.events
	o.events = nil
	o.mu.Unlock()
	for _, e := range events {
		e.Close()
	}
}

// close closes everything. Closing hundreds of events takes a while.
func (o *opener) close() {
	o.closeEvents()
	if o.source != nil {
		o.source.Close()
	}
	for _, r := range o.rings {
		r.Close()
	}
}

func denied(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// refuse says in one sentence why neither engine can record the target. viaBPF is nil where BPF was
// not tried or was not the obstacle, viaPerf where it was not tried.
func (o *opener) refuse(viaBPF, viaPerf error) error {
	r := &refusal{cause: errors.Join(viaBPF, viaPerf)}
	text := fmt.Sprintf("record %s: ", o.target)
	switch {
	case viaPerf == nil:
		r.text = text + "the bpf engine: " + viaBPF.Error()
	case viaBPF == nil:
		r.text = text + o.explain(viaPerf)
	default:
		r.text = text + "the perf engine: " + o.explain(viaPerf) + "; the bpf engine: " + viaBPF.Error()
	}
	switch {
	case errors.Is(viaPerf, unix.ESRCH):
		r.reason = ErrNoProcess
		r.text = text + "there is no such process"
	case denied(viaPerf), viaPerf == nil && errors.Is(viaBPF, os.ErrPermission):
		r.reason = ErrNoPermission
	}
	return r
}

// explain says why the kernel refused to open an event, and what would help.
func (o *opener) explain(err error) string {
	paranoid, known := perfevent.Paranoid()
	need := 2
	if o.target.Machine {
		need = 0
	}
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		threads, _ := readIDs(fmt.Sprintf("/proc/%d/task", o.target.PID))
		return fmt.Sprintf("its %d threads on %d CPUs need %d open files, which is more than the limit of this process; raise it (ulimit -n) and record again",
			len(threads), len(o.rings), len(threads)*len(o.rings)+64)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Sprintf("perf_event_open is missing: a kernel without CONFIG_PERF_EVENTS, or a seccomp filter as containers have it (%v)", err)
	case !denied(err):
		return err.Error()
	case known && paranoid > need:
		return fmt.Sprintf("kernel.perf_event_paranoid is %d; it must be %d or less (sudo sysctl kernel.perf_event_paranoid=%d), or the program needs CAP_PERFMON (sudo setcap cap_perfmon=ep %s)",
			paranoid, need, need, self())
	case o.target.PID > 0:
		return fmt.Sprintf("it belongs to %s; record as that user or as root", ownerOf(o.target.PID))
	}
	return fmt.Sprintf("%v, though kernel.perf_event_paranoid allows it: a security module or a container's seccomp filter forbids it", err)
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		return "sightline"
	}
	return path
}

// ownerOf names the user a process belongs to.
func ownerOf(pid int) string {
	st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return "another user"
	}
	uid := strconv.Itoa(int(st.Sys().(*syscall.Stat_t).Uid))
	if uid == strconv.Itoa(os.Geteuid()) {
		return "a program with privileges of its own"
	}
	if u, err := user.LookupId(uid); err == nil {
		return "user " + u.Username
	}
	return "user " + uid
}
