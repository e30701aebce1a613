package profiler

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A command is one that the recorder started.
type command struct {
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended; err and cmd.ProcessState are set before
	err   error
	ended atomic.Bool // by us
}

// checkCommand tells what is wrong with a command before anything is opened for it.
func checkCommand(cmd *exec.Cmd) error {
	switch {
	case cmd.Process != nil:
		return fmt.Errorf("record %s: the command was started already", cmd.Path)
	case cmd.Err != nil:
		return noCommand(cmd, cmd.Err)
	case cmd.Path == "":
		return noCommand(cmd, errors.New("its path is empty"))
	}
	return nil
}

func noCommand(cmd *exec.Cmd, err error) error {
	name := cmd.Path
	if len(cmd.Args) > 0 {
		name = cmd.Args[0]
	}
	what := err
	if inner := new(exec.Error); errors.As(err, &inner) {
		what = inner.Err
	} else if inner := new(fs.PathError); errors.As(err, &inner) {
		what = inner.Err
	}
	remedy := "give a program by its path or by a name on PATH"
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = "it is no program, or may not be run: see its mode (chmod +x)"
	case errors.Is(err, syscall.ENOEXEC):
		remedy = "it is neither a program for this machine nor a script that begins with #!"
	}
	return &refusal{text: fmt.Sprintf("record %s: %v; %s", name, what, remedy), reason: ErrNoCommand, cause: err}
}

// launch starts a command so that it is recorded from its first instruction, by a thread made for
// that and with the events opened on it. They are disabled, inherited by what the thread starts, and
// enabled there by exec (perf_event_enable_on_exec, kernel/events/core.c): the thread itself is
// never recorded, and the command needs no stopping. failed is told where the command fails by
// itself.
//
// The obvious alternative is to stop the command at exec with ptrace(2) and open its events then.
// That takes a permission more and robs set-user-ID programs of their user.
//
// Each command has a thread of its own, because one thread's events serve once: when the kernel
// switches from a thread to a child that has just inherited its events, it may exchange the two
// sets instead of exchanging their contents (perf_event_context_sched_out), and then what is
// enabled by exec and ends with the command are the thread's own.
//
// The thread lives as long as the command, for which its end might count as its parent's
// (PR_SET_PDEATHSIG), and is never given back to the Go runtime: what that started from it would
// inherit the events. While it is locked, the runtime makes new threads from others.
func (o *opener) launch(cmd *exec.Cmd, failed func(string)) (*command, error) {
	o.retire()
	o.deepen()
	c := &command{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and no UnlockOSThread
		for _, ring := range o.rings {
			if _, err := o.open(0, ring); err != nil {
				started <- err
				return
			}
		}
		err := cmd.Start()
		switch {
		case err == nil:
			started <- nil
			c.wait(failed)
			return
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
			err = noCommand(cmd, err)
		default:
			err = fmt.Errorf("record %s: %w", cmd.Path, err)
		}
		started <- &startError{err}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// startError says that a command could not be started, though its events could be opened.
type startError struct{ error }

func (e *startError) Unwrap() error { return e.error }

// wait waits for the command, and tells failed where it failed by itself.
func (c *command) wait(failed func(string)) {
	defer close(c.done)
	err := c.cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil
		if !c.ended.Load() {
			failed(fmt.Sprintf("%s ended with %s", c.cmd.Path, exit.ProcessState))
		}
	}
	c.err = err
}

// terminate asks the command to end, and has it killed if it has not after grace.
func (c *command) terminate(grace time.Duration) {
	select {
	case <-c.done:
		return
	default:
	}
	c.ended.Store(true)
	// The error is that it has ended by itself.
	c.cmd.Process.Signal(syscall.SIGTERM)
	go func() {
		select {
		case <-c.done:
		case <-time.After(grace):
			c.cmd.Process.Kill()
		}
	}()
}
