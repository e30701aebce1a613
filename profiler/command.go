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

// A launcher starts commands so that they are recorded from their first instruction, by a thread of
// its own that has the events. They are disabled, inherited by what the thread starts, and enabled
// there by exec (perf_event_enable_on_exec, kernel/events/core.c): the thread itself is never
// recorded, and the command needs no stopping.
//
// The obvious alternative is to stop the command at exec with ptrace(2) and open its events then.
// That takes a permission more, robs set-user-ID programs of their user, and must open new events
// for every command of a recording that repeats a test for half a minute.
type launcher struct {
	jobs chan func()
	done chan struct{}
}

// startLauncher makes the thread. What it starts later must not inherit its events, so the thread
// ends with the launcher and is never given back to the Go runtime; the runtime makes new threads
// from others while it is locked.
func startLauncher() *launcher {
	l := &launcher{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		runtime.LockOSThread() // and no UnlockOSThread
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

func (l *launcher) do(job func() error) error {
	result := make(chan error)
	l.jobs <- func() { result <- job() }
	return <-result
}

// end ends the thread.
func (l *launcher) end() {
	close(l.jobs)
	<-l.done
}

// open opens the events of the thread.
func (l *launcher) open(o *opener) error {
	return l.do(func() error {
		o.clock.EnableOnExec = true
		for _, ring := range o.rings {
			if _, err := o.open(0, ring); err != nil {
				return err
			}
		}
		return nil
	})
}

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
	return &refusal{text: fmt.Sprintf("record %s: %v", name, err), reason: ErrNoCommand, cause: err}
}

func (l *launcher) start(cmd *exec.Cmd) (*command, error) {
	err := l.do(cmd.Start)
	switch {
	case err == nil:
		return &command{cmd: cmd, done: make(chan struct{})}, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return nil, noCommand(cmd, err)
	}
	return nil, fmt.Errorf("record %s: %w", cmd.Path, err)
}

// wait waits for the command, and tells warn where it failed by itself.
func (c *command) wait(warn func(string)) {
	defer close(c.done)
	err := c.cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil
		if !c.ended.Load() {
			warn(fmt.Sprintf("%s ended with %s", c.cmd.Path, exit.ProcessState))
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
