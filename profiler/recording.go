package profiler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// A Recording is a capture in the making. Its methods may be called by any goroutine.
//
// Goroutines: read takes records from the kernel, from Start to Stop, and ends those of the unwinder,
// which walk stacks beside it. One waits for the context, from
// Start to Stop. Each command has one on a thread of its own that starts it and waits for its end.
// Stop starts one that closes the events.
type Recording struct {
	options    Options
	target     Target
	opener     *opener
	files      *codeFiles
	rings      []*perfevent.Ring
	merger     *merger       // read's alone
	every      time.Duration // read's longest sleep
	start      uint64        // CLOCK_MONOTONIC
	pidfd      int           // of a recorded process; -1 otherwise
	wake       int           // eventfd that ends read
	waiter     *waiter       // open's, and then read's
	kernelList *os.File      // of the kernel's symbols, as sightline-capture may see it; nil where it gave none

	processDone chan struct{} // closed when the recorded process has ended
	stopping    chan struct{} // closed by Stop
	readDone    chan struct{} // closed when read has returned

	mu  sync.Mutex // guards b
	b   *builder
	run sync.Mutex // guards command; held while one is started
	now *command   // the present or last command; nil but for a command

	stop  sync.Once
	close sync.Once
}

// Start begins to record. When it returns, a command runs and a process or the machine is being
// sampled, until Stop is called, the context ends, or the command or process does; then too Stop
// must be called for the capture, and Close in the end.
//
// When the context ends, so does the recording; what was recorded is kept for Stop. See Stop for
// what becomes of the command.
//
// A command is covered from its first instruction, and so are all threads and processes that it
// starts, also after it has ended. It stays in the process group it would have without the
// recorder: on a terminal, Ctrl-C reaches it as well as the recorder. Of a running process all
// threads are covered, and what they start from now on.
//
// A thread is sampled after each period that it has run on one CPU. The last part of a period is
// not seen, so of what lives for less than a few periods some is missing.
func Start(ctx context.Context, target Target, options Options) (*Recording, error) {
	if err := target.check(); err != nil {
		return nil, err
	}
	options, err := options.check()
	if err != nil {
		return nil, err
	}
	if target.Command != nil {
		if err := checkCommand(target.Command); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("record %s: %w", target, err)
	}
	r := &Recording{
		options: options, target: target, files: newCodeFiles(), pidfd: -1, wake: -1,
		processDone: make(chan struct{}), stopping: make(chan struct{}), readDone: make(chan struct{}),
	}
	if err := r.open(); err != nil {
		r.abandon()
		return nil, err
	}
	go r.read()
	if target.Command != nil {
		if err := r.Run(target.Command); err != nil {
			r.Stop()
			r.Close()
			return nil, err
		}
	}
	go func() {
		select {
		case <-ctx.Done():
			r.Stop()
		case <-r.stopping:
		}
	}()
	return r, nil
}

// open opens what the target needs and starts sampling, but for a command.
func (r *Recording) open() (err error) {
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("record %s: make an eventfd: %w", r.target, err)
	}
	if r.waiter, err = newWaiter(); err != nil {
		return fmt.Errorf("record %s: %w", r.target, err)
	}
	if pid := r.target.PID; pid != 0 {
		if r.pidfd, err = openPID(pid); err != nil {
			return err
		}
	}
	if r.opener, err = newOpener(r.target, r.options); err != nil {
		return err
	}
	if l := r.opener.lent; l != nil {
		r.kernelList = l.TakeSymbols()
		if l.Granted()&broker.Users != 0 {
			r.files.others = l.Client
		}
	}
	attach := func() (*owners, error) {
		switch {
		case r.target.Command != nil:
			return nil, r.opener.try()
		case r.target.Machine:
			return nil, r.opener.machine()
		}
		return r.opener.process(r.target.PID)
	}
	owners, err := attach()
	if bpfOnly := new(attachError); err != nil && r.opener.source != nil && r.options.Engine == AnyEngine &&
		(errors.As(err, &bpfOnly) || errors.Is(err, errDoubled)) {
		if err = r.opener.usePerf(err); err == nil {
			owners, err = attach()
		}
	}
	if err != nil {
		if r.opener.source != nil && errors.As(err, new(*attachError)) {
			return r.opener.refuse(err, nil)
		}
		return r.opener.refuse(r.opener.why, err)
	}

	r.rings = r.opener.rings
	rings := make([]ring, len(r.rings))
	for i := range rings {
		rings[i] = r.rings[i]
	}
	describe := r.options.Describe
	if describe.String() == (profile.Target{}).String() {
		describe = r.target.describe()
	}
	period := r.opener.clock.Period
	r.start = monotonic()
	r.b = newBuilder(describe, &machine{files: r.files}, time.Now(), r.start, int64(period))
	r.b.c.Engine = string(r.opener.engine())
	r.b.c.Machine = describeMachine()
	r.b.tracker.owners = owners
	r.b.describe = r.files.roots.describe
	r.b.kernel.symbols = r.symbols
	r.b.frames = newLeafFrames(r.options.FrameTable, r.files.reader)
	r.b.code = r.files.reader
	r.warn()
	r.merger = newMerger(rings, r.opener.source)
	perSample := 64 + 8*r.b.depth
	if r.opener.source == nil {
		perSample += r.opener.clock.StackBytes
	}
	r.every = pace(period, r.rings, perSample)
	if r.opener.copying != nil {
		r.b.copying = r.opener.copying
		r.b.copying.reader = r.files.reader
		if c := r.opener.copying; c.setPast != nil {
			r.b.pasts = newPasts(c.setPast, c.forgetPast)
		}
		r.b.unwinder = startUnwinder(r.files, r.options.FrameTable, openRows(r.options.RowsDir))
		r.b.frames.rows = r.b.unwinder.rowsOf
	}

	waited := []int{r.wake}
	for _, ring := range r.rings {
		waited = append(waited, ring.FD())
	}
	if r.pidfd >= 0 {
		waited = append(waited, r.pidfd)
	}
	for _, fd := range waited {
		if err := r.waiter.add(fd); err != nil {
			return fmt.Errorf("record %s: %w", r.target, err)
		}
	}
	if r.target.Command != nil {
		return nil // exec enables it
	}
	if err := r.opener.enable(); err != nil {
		return fmt.Errorf("record %s: %w", r.target, err)
	}
	// Only now, for what is mapped from now on is told by records: what both tell is the same. It
	// counts from the start of the capture on, before all records.
	return r.snapshot()
}

// openRows opens the cache of rows in a folder; nil where there is none, and then rows are made anew, which
// takes a little longer.
func openRows(dir string) *unwind.Cache {
	const most = 512 << 20
	if dir == "" {
		return nil
	}
	c, err := unwind.OpenCache(dir, most)
	if err != nil {
		return nil
	}
	return c
}

// warn adds what cannot be seen.
func (r *Recording) warn() {
	o := r.opener
	if l := o.lent; l != nil {
		if l.Note() != "" {
			r.b.warn(profile.WarnHidden, l.Path()+" grants no more than one's own processes: "+l.Note())
		}
		if l.Granted()&broker.Kernel == 0 {
			r.b.warn(profile.WarnHidden, "time in the kernel is counted as "+profile.Kernel+" and not told apart: to see the kernel's functions, "+
				"an administrator writes into /etc/sightline/capture.conf: allow kernel to user:"+userName())
		}
		return
	}
	if !o.clock.ExcludeKernel {
		return
	}
	paranoid, _ := perfevent.Paranoid()
	r.b.warn(profile.WarnHidden, fmt.Sprintf(
		"the kernel's own time is hidden and not in the numbers: kernel.perf_event_paranoid is %d; to see it: sudo sightline doctor --fix, or sudo sysctl kernel.perf_event_paranoid=1",
		paranoid))
	if missing := (*unborrowed)(nil); o.why != nil && !errors.As(o.why, &missing) {
		r.b.warn(profile.WarnEngine, "recorded with the perf engine, which may not see the kernel here: "+o.why.Error())
	} else if missing != nil && missing.path != "" {
		r.b.warn(profile.WarnEngine, "recorded with the perf engine, because "+missing.why)
	}
}

// abandon frees what open had opened before it failed.
func (r *Recording) abandon() {
	if r.opener != nil {
		r.opener.close()
	}
	if r.b != nil && r.b.unwinder != nil {
		r.b.unwinder.stop()
	}
	if r.waiter != nil {
		r.waiter.close()
	}
	r.files.close()
	if r.kernelList != nil {
		r.kernelList.Close()
	}
	for _, fd := range []int{r.wake, r.pidfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Wait returns when the present command or the process has ended, or after Stop or the end of the
// context: then a process or the machine is not waited for, but a command is, which Stop has ended.
// The machine ends only so.
//
// It is nil also when the command failed: its exit status is in ProcessState. The error is that of
// copying its output, see exec.Cmd.Wait.
func (r *Recording) Wait() error {
	if r.target.Command == nil {
		select {
		case <-r.processDone:
		case <-r.stopping:
		}
		return nil
	}
	r.run.Lock()
	c := r.now
	r.run.Unlock()
	if c == nil {
		return nil
	}
	<-c.done
	return c.err
}

// Stop ends the recording and returns the capture, which is not symbolized and which the recording
// does not touch any more. It leaves a recorded process alone. A command that still runs is sent
// SIGTERM, and SIGKILL after Options.Grace; Wait waits for that, Stop does not.
//
// Stop again returns the same capture.
func (r *Recording) Stop() (*profile.Capture, error) {
	r.stop.Do(func() {
		close(r.stopping)
		err := r.opener.disable()
		length := time.Duration(monotonic() - r.start)
		var one [8]byte
		one[0], one[7] = 1, 1 // not 0 in any order of bytes
		unix.Write(r.wake, one[:])
		<-r.readDone
		r.run.Lock()
		c := r.now
		r.run.Unlock()
		if c != nil {
			c.terminate(r.options.Grace)
		}
		counts := r.opener.counts()
		lost := counts.Lost
		var unread uint64
		if s := r.opener.source; s != nil {
			lost += s.Lost()
		}
		for _, ring := range r.rings {
			unread += ring.Broken()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.b.warn(profile.WarnTarget, err.Error())
		}
		r.b.finish(length, lost)
		// On the machine's events idle time counts as well, and time of a thread that has two events
		// counts twice.
		if !r.target.Machine && r.opener.rounds <= 1 {
			r.b.unseen(counts.Ran, r.opener.clock.ExcludeKernel)
		}
		if unread > 0 || r.merger.queue.broken > 0 {
			r.b.c.Warn(profile.WarnLost, int64(unread), "the kernel wrote records that could not be understood; Count is their bytes")
		}
		// Nobody waits for this: it can take a second for hundreds of events.
		go r.opener.close()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.c, nil
}

// View is the capture as it is now, for reading, while the recording goes on.
func (r *Recording) View() *profile.Capture {
	select {
	case <-r.readDone:
	default:
		var lost uint64
		if s := r.opener.source; s != nil {
			lost = s.Lost()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		select {
		case <-r.stopping:
		default:
			r.b.finish(time.Duration(monotonic()-r.start), lost)
		}
		return r.b.c.View()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.c.View()
}

// Binary is the file of a mapping: the very file that ran, held since it was seen mapped, whatever
// became of its path. The bytes may be read until Close, by any goroutine. The error says why there
// are none; it wraps fs.ErrNotExist where the file was gone, and where the mapping is no file.
func (r *Recording) Binary(id profile.MappingID) (io.ReaderAt, error) {
	r.mu.Lock()
	f := r.b.file(id)
	r.mu.Unlock()
	return r.files.binary(id, f)
}

// Close ends the recording if Stop has not, waits for a command that is being ended, and closes the
// binaries.
func (r *Recording) Close() error {
	r.Stop()
	r.close.Do(func() {
		if r.target.Command != nil {
			r.Wait()
		}
		r.files.close()
		if r.kernelList != nil {
			r.kernelList.Close()
		}
		unix.Close(r.wake)
		if r.pidfd >= 0 {
			unix.Close(r.pidfd)
		}
	})
	return nil
}

// Run records one more command in the same capture, after the one before it has ended: a test that
// is repeated. Only a recording that began with a command can.
func (r *Recording) Run(cmd *exec.Cmd) error {
	if r.target.Command == nil {
		return fmt.Errorf("record %s as well: this is a recording of %s", cmd.Path, r.target)
	}
	if err := checkCommand(cmd); err != nil {
		return err
	}
	r.run.Lock()
	defer r.run.Unlock()
	if r.now != nil {
		select {
		case <-r.now.done:
		default:
			return fmt.Errorf("record %s: the command before it has not ended", cmd.Path)
		}
	}
	select {
	case <-r.stopping:
		return fmt.Errorf("record %s: the recording has been stopped", cmd.Path)
	default:
	}
	r.files.release()
	r.files.hold(cmd.Path)
	r.mu.Lock()
	r.b.starts(cmd.Path)
	r.mu.Unlock()
	c, err := r.opener.launch(cmd, func(text string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.b.warn(profile.WarnTarget, text)
	})
	if start := new(startError); errors.As(err, &start) {
		return start.error
	}
	if err != nil {
		return r.opener.refuse(r.opener.why, err)
	}
	r.now = c
	return nil
}
