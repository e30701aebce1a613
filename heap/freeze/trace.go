package freeze

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and events of ptrace(2) that golang.org/x/sys has no functions for.
const (
	ptraceGetSigmask = 0x420a
	ptraceSetSigmask = 0x420b
	ptraceRseq       = 0x420f // PTRACE_GET_RSEQ_CONFIGURATION
	eventStop        = 128    // PTRACE_EVENT_STOP
	eventClone       = 3
	regsGeneral      = 1     // NT_PRSTATUS
	regsFloat        = 2     // NT_PRFPREG
	regsExtended     = 0x202 // NT_X86_XSTATE
)

func ptrace(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// regset reads a set of registers of a stopped thread; nil where the machine has none such.
func regset(tid int, kind uintptr) []byte {
	b := registerSets.Get().(*[maxRegset]byte)
	defer registerSets.Put(b)
	iov := unix.Iovec{Base: &b[0], Len: maxRegset}
	if ptrace(unix.PTRACE_GETREGSET, tid, kind, unsafe.Pointer(&iov)) != nil {
		return nil
	}
	return bytes.Clone(b[:min(iov.Len, maxRegset)])
}

// maxRegset is more than any set of registers has: with AMX it is 11,008 bytes.
const maxRegset = 16 << 10

var registerSets = sync.Pool{New: func() any { return new([maxRegset]byte) }}

// atStep is called between the steps of an injection. Tests end this program there.
var atStep = func(step string) {}

// A traced is a thread that is held.
type traced struct {
	tid     int
	name    string
	stopped bool
	gone    bool
	general []byte // general registers, as they were when it stopped
	resend  []unix.Signal
}

// A tracer holds the threads of a process. All of it runs on one thread of this program, as ptrace wants,
// and when that thread ends, however it does, the kernel lets go of all that it holds.
type tracer struct {
	p       *process
	threads []*traced
}

// StopLimit is how long the threads of a process may take to stop, the others standing meanwhile: a thread
// may wait for a disk and cannot. On a busy machine threads take their time to get to a processor.
const (
	stopLimit  = 5 * time.Second
	sleepLimit = 150 * time.Millisecond // for threads that are in an uninterruptible sleep
)

var errBusy = errors.New("the machine is too busy")

// seize begins to hold a thread. It is false where the thread has ended.
func (t *tracer) seize(tid int) (*traced, error) {
	err := ptrace(unix.PTRACE_SEIZE, tid, 0, nil)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		if state, _, _, serr := t.p.stat("task/" + strconv.Itoa(tid) + "/stat"); serr != nil || strings.IndexByte("ZX", state) >= 0 {
			return nil, nil
		}
		return nil, t.p.forbidden(err)
	}
	th := &traced{tid: tid}
	t.threads = append(t.threads, th)
	if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0, nil); err != nil {
		if errors.Is(err, unix.ESRCH) {
			th.gone = true
			return th, nil
		}
		return nil, t.p.gone(err)
	}
	return th, nil
}

// stopAll stops all threads. No signal is sent, so neither the process nor its parent sees anything, and a
// system call that was interrupted goes on when the thread does.
func (t *tracer) stopAll() error {
	began := time.Now()
	for known := map[int]bool{}; ; {
		ids, err := t.p.threadIDs()
		if err != nil {
			return t.p.gone(err)
		}
		fresh := 0
		for _, id := range ids {
			if known[id] {
				continue
			}
			known[id] = true
			th, err := t.seize(id)
			if err != nil {
				return err
			}
			if th != nil {
				fresh++
			}
		}
		if fresh == 0 {
			break
		}
		for _, th := range t.threads {
			if err := t.waitStop(th, began); err != nil {
				return err
			}
		}
	}
	t.threads = t.held()
	if len(t.threads) == 0 {
		return t.p.gone(unix.ESRCH)
	}
	return nil
}

// stopOne stops one thread.
func (t *tracer) stopOne(tid int) (*traced, error) {
	th, err := t.seize(tid)
	if err == nil && th != nil {
		err = t.waitStop(th, time.Now())
	}
	if err != nil {
		return nil, err
	}
	if th == nil || th.gone {
		return nil, t.p.gone(unix.ESRCH)
	}
	return th, nil
}

func (t *tracer) held() []*traced {
	var held []*traced
	for _, th := range t.threads {
		if th.stopped && !th.gone {
			held = append(held, th)
		}
	}
	return held
}

// waitStop waits until a thread that was interrupted has stopped.
func (t *tracer) waitStop(th *traced, began time.Time) error {
	pause := 20 * time.Microsecond
	for !th.stopped && !th.gone {
		var ws unix.WaitStatus
		got, err := unix.Wait4(th.tid, &ws, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			th.gone = true
		case got == 0:
			waited := time.Since(began)
			if waited > sleepLimit {
				state, _, _, err := t.p.stat("task/" + strconv.Itoa(th.tid) + "/stat")
				if err == nil && state == 'D' {
					return fmt.Errorf("thread %d of process %d (%s) is in an uninterruptible sleep%s and cannot be stopped: wait until that is over",
						th.tid, t.p.pid, t.p.name, t.p.sleepsIn(th.tid))
				}
			}
			if waited > stopLimit {
				return fmt.Errorf("thread %d of process %d (%s) did not stop within %v: %w; try again", th.tid, t.p.pid, t.p.name, stopLimit, errBusy)
			}
			unix.Nanosleep(&unix.Timespec{Nsec: int64(pause)}, nil)
			pause = min(pause*3/2, time.Millisecond) // it needs a processor more than we do
		case ws.Exited() || ws.Signaled():
			th.gone = true
		case uint32(ws)>>16 == eventStop:
			th.stopped = true
		default: // a signal is about to be delivered: that first, the stop comes after it
			if err := unix.PtraceCont(th.tid, int(ws.StopSignal())); err != nil {
				th.gone = true
			}
		}
	}
	return nil
}

// sleepsIn names what a thread waits for in the kernel, where that may be seen.
func (p *process) sleepsIn(tid int) string {
	b, _ := p.read("task/" + strconv.Itoa(tid) + "/wchan")
	if name := strings.TrimSpace(string(b)); name != "" && name != "0" {
		return " (in the kernel's " + name + ")"
	}
	return ""
}

// look reads the registers of the threads that stand.
func (t *tracer) look() {
	for _, th := range t.threads {
		th.general = regset(th.tid, regsGeneral)
	}
}

// describe makes threads of those that stand, with all of their registers.
func (t *tracer) describe() []Thread {
	all := make([]Thread, 0, len(t.threads))
	for _, th := range t.threads {
		d := Thread{TID: th.tid, raw: th.general, FP: regset(th.tid, regsFloat)}
		if runtime.GOARCH == "amd64" {
			d.State = regset(th.tid, regsExtended)
			if len(th.general) >= registerBytes {
				d.Regs = registersOf(th.general)
			}
		}
		all = append(all, d)
	}
	return all
}

// letGo lets all threads run on. What it cannot let go of, a thread that did not stop, the kernel does when
// this program's thread ends.
func (t *tracer) letGo() {
	for _, th := range t.threads {
		if th.stopped && !th.gone {
			ptrace(unix.PTRACE_DETACH, th.tid, 0, nil)
			for _, s := range th.resend {
				unix.Tgkill(t.p.pid, th.tid, s)
			}
		}
	}
	t.threads = nil
}

// waitFor waits for what a thread does next.
func waitFor(tid int) (ws unix.WaitStatus, err error) {
	for {
		_, err = unix.Wait4(tid, &ws, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return ws, err
		}
	}
}
