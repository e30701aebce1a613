package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/broker"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// How long the recorder may take for its first request, and for those up to its first event. Then it may
// be silent as long as it likes: it reads the rings by itself.
const (
	helloWithin = 10 * time.Second
	eventWithin = 2 * time.Minute
)

// maxRing bounds the BPF ring of one recording, in bytes of the kernel's memory.
const maxRing = 64 << 20

// A server serves one recorder.
type server struct {
	socket  *broker.Socket
	caller  caller
	program *bpf.Program
	granted broker.Grants
}

// A denial is a refusal of this program's own.
type denial string

func (d denial) Error() string { return string(d) }

// serve answers requests until the other end is closed, which is 0, or breaks the rules, which is 2.
func (s *server) serve() int {
	within := helloWithin
	for {
		if s.socket.Within(within) != nil {
			return 1
		}
		b, fds, err := s.socket.Receive()
		for _, fd := range fds { // nothing that is sent here is wanted
			unix.Close(fd)
		}
		if errors.Is(err, io.EOF) {
			return 0
		}
		var r broker.Request
		if err == nil {
			r, err = broker.ParseRequest(b)
		}
		if err == nil && (r.Op == broker.Hello) != (s.program == nil) {
			err = errors.New("the first request, and no other, is the one that names the version")
		}
		if err != nil {
			return s.refuse(err)
		}
		switch r.Op {
		case broker.Hello:
			if err := s.hello(r); err != nil {
				return s.refuse(err)
			}
			within = eventWithin
		case broker.Open:
			err = s.open(r)
			if err == nil {
				within = 0
			}
		case broker.Rule:
			err = s.answer(s.program.SetCopy(r.Process, r.Copy))
		case broker.Lost:
			err = s.reply(broker.Reply{Count: s.program.Lost()})
		case broker.Maps:
			err = s.maps(r)
		case broker.File:
			err = s.file(r)
		}
		if err != nil {
			return 1 // the other end is closed, or does not listen
		}
	}
}

// refuse tells the other end why this program ends.
func (s *server) refuse(err error) int {
	_ = s.socket.Within(time.Second)
	_ = s.answer(err)
	return 2
}

func (s *server) reply(r broker.Reply, fds ...int) error { return s.socket.Send(r.Append(nil), fds...) }

// answer replies that something was done, or why not.
func (s *server) answer(err error) error {
	r := broker.Reply{}
	if err != nil {
		r.Errno, r.Text = unix.EPERM, err.Error()
		if errno := unix.Errno(0); errors.As(err, &errno) && errno != 0 {
			r.Errno = errno
		} else if errors.Is(err, errors.ErrUnsupported) {
			r.Errno = unix.EOPNOTSUPP
		}
	}
	return s.reply(r)
}

// hello decides on what is granted, loads the program so that it gives no more, and gives up what is not
// needed any more.
func (s *server) hello(r broker.Request) error {
	if r.Version != broker.Version {
		return fmt.Errorf("sightline and sightline-capture are of different builds (%d and %d); install both of one, and then run: sudo sightline doctor --fix", r.Version, broker.Version)
	}
	who, err := whoCalls()
	if err != nil {
		return err
	}
	var note string
	allowed, err := granted(configPath, who)
	if err != nil {
		note = err.Error()
	}
	if most := r.Want & (broker.Users | broker.Machine) &^ allowed; most != 0 {
		what, words := "processes of other users", "users"
		if most&broker.Machine != 0 {
			what, words = "the whole machine", "users machine"
		}
		text := fmt.Sprintf("sightline-capture records %s only for those whom its administrator allows it (in %s: allow %s to user:%d)", what, configPath, words, who.user)
		if note != "" {
			text += "; " + note
		}
		return denial(text)
	}
	s.granted = r.Want & allowed
	if s.granted&broker.Kernel != 0 && hidden() {
		s.granted &^= broker.Kernel
	}
	needed := []int{unix.CAP_BPF, unix.CAP_PERFMON}
	if s.granted&broker.Kernel != 0 {
		needed = append(needed, unix.CAP_SYSLOG)
	}
	if s.granted&(broker.Users|broker.Machine) != 0 {
		needed = append(needed, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	}
	if err := keep(setOf(needed...)); err != nil {
		return err
	}

	options := bpf.Options{RingBytes: int(min(r.RingBytes, maxRing)), Depth: int(min(r.Depth, bpf.MaxDepth)), Copies: r.Copies, Copy: r.Copy}
	options.HideKernel = s.granted&broker.Kernel == 0
	if s.granted&(broker.Users|broker.Machine) == 0 {
		own := uint32(who.user)
		options.User = &own
	}
	err = with(setOf(unix.CAP_BPF, unix.CAP_PERFMON), func() (err error) {
		s.program, err = bpf.Load(options)
		return err
	})
	if err != nil {
		return err
	}
	pass := []int{s.program.RingFD()}
	if s.granted&broker.Kernel != 0 {
		// Whoever opens it is who the kernel shows addresses to, or not (kallsyms_open, kernel/kallsyms.c).
		err := with(setOf(unix.CAP_SYSLOG), func() error {
			fd, err := unix.Open("/proc/kallsyms", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				pass = append(pass, fd)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("open /proc/kallsyms: %w", err)
		}
	}
	// What is left: opening events and, where it is granted, looking into processes of others.
	left := []int{unix.CAP_PERFMON}
	if s.granted&(broker.Users|broker.Machine) != 0 {
		left = append(left, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	}
	if err := keep(setOf(left...)); err != nil {
		return err
	}
	if s.caller, err = newCaller(); err != nil {
		return err
	}
	err = s.reply(broker.Reply{Granted: s.granted, Count: uint64(s.program.Depth()), Text: note}, pass...)
	for _, fd := range pass[1:] {
		unix.Close(fd)
	}
	return err
}

// hidden says that the administrator has addresses of the kernel hidden from everybody, which a grant does
// not change.
func hidden() bool {
	text, err := os.ReadFile("/proc/sys/kernel/kptr_restrict")
	n, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	return err != nil || parseErr != nil || n >= 2
}

// open opens an event, attaches the program and passes it.
//
// Whether the caller may see the task is for the kernel to say, to a thread that has the caller's rights
// and nothing else: it opens an event of user code there, and with that holds on to the task. The event
// that is passed is opened beside it, so that it is of the very same task, whatever has become of
// its number since (perfevent.Guard).
//
// The event says nothing that the caller could not have without this program, but for how long the task is
// in the kernel. Its own records have no addresses of code (perfevent.Clock.NoChain), the program
// that is attached takes its samples and cannot be taken off, and what else can be done with the
// descriptor is to start, stop and count it, to change its period and to have its records written elsewhere.
func (s *server) open(r broker.Request) error {
	clock := perfevent.Clock{
		Period: time.Duration(r.Period), NoChain: true, Disabled: true,
		Inherit: r.Flags&broker.Inherit != 0, EnableOnExec: r.Flags&broker.EnableOnExec != 0,
	}
	var event *perfevent.Event
	var err error
	if r.Task == -1 {
		if s.granted&broker.Machine == 0 {
			return s.answer(denial("sightline-capture records the whole machine only for those whom its administrator allows it, in " + configPath))
		}
		err = with(setOf(unix.CAP_PERFMON), func() (err error) {
			event, err = clock.Open(-1, int(r.CPU), nil)
			return err
		})
	} else {
		event, err = s.openTask(int(r.Task), int(r.CPU), clock)
	}
	if err != nil {
		return s.answer(err)
	}
	defer event.Close()
	if err := s.program.Attach(event.FD()); err != nil {
		return s.answer(err)
	}
	return s.reply(broker.Reply{}, event.FD())
}

func (s *server) openTask(tid, cpu int, clock perfevent.Clock) (*perfevent.Event, error) {
	var guard *perfevent.Guard
	openGuard := func() (err error) {
		guard, err = perfevent.OpenGuard(tid, cpu, clock.Inherit)
		return err
	}
	err := s.caller.do(openGuard)
	if err != nil && s.granted&broker.Users != 0 && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
		err = with(setOf(unix.CAP_PERFMON), openGuard)
	}
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	// A process may always look into itself, so the kernel has no objection; and while the guard is
	// there, the task is the one that it is on.
	if unix.Tgkill(unix.Getpid(), tid, 0) == nil {
		return nil, denial("record sightline-capture itself: that is not done")
	}
	var event *perfevent.Event
	err = with(setOf(unix.CAP_PERFMON), func() (err error) {
		event, err = guard.Open(clock)
		return err
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		err = fmt.Errorf("open a perf event on task %d: it has ended, or become another program: %w", tid, unix.ESRCH)
	}
	return event, err
}
