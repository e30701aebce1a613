// Package profiler records what programs do: which code was on a processor, sampled by the kernel,
// with the stack of each sample.
//
// A Recording watches a command, a process or the whole machine, reads the kernel's records in the
// order of their times, follows which binary is mapped where in which process, and interns stacks of
// file addresses into a [profile.Capture]. It holds the binaries that ran, so that they can be
// symbolized when they are gone. It knows nothing of symbols, sources, stores and editors.
package profiler

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Target says what to record. It is a description: exactly one field is set.
type Target struct {
	Command *exec.Cmd // not started yet; Recording starts it and waits for it
	PID     int       // a running process, with the threads it has and whatever they start from now on
	Machine bool      // every process of the machine, those of the kernel included
}

// Engine is the way samples come from the kernel. Both give the same capture.
type Engine string

// The engines.
const (
	AnyEngine  Engine = ""     // BPF where it may be used, else Perf
	BPFEngine  Engine = "bpf"  // a BPF program that puts samples into its own ring buffer
	PerfEngine Engine = "perf" // the rings of perf events; needs no privilege for one's own processes
)

// Options of a recording. The zero value is good.
type Options struct {
	// Freq is how many samples are taken of each second a thread runs, up to 100,000. 0: 999,
	// which is not a multiple of what programs do periodically.
	Freq int
	// Engine forces one engine; a recording that it cannot make is an error then.
	Engine Engine
	// Describe is Capture.Target. Where it is the zero Target, the recorder fills in the command
	// with its folder, or the process, or the machine.
	Describe profile.Target
	// FrameTable reads, from a Go binary that was mapped, where Go's functions keep their return
	// addresses. nil: callers of those without a frame of their own are missing from stacks. A table that
	// is an unwind.GoFrames as well tells Go's code from C's where one binary has both.
	FrameTable func(io.ReaderAt) (FrameTable, error)
	// StackBytes is how much of the user's stack is copied with a sample where the code may keep no
	// frame pointers, to be walked by the call-frame information of the binaries, at most 65,528. Below 0:
	// nothing is copied, and stacks are walked by frame pointers alone. 0: with the BPF engine 16 KiB, and
	// up to that most of processes whose stacks turn out to be deeper, as it does whatever is said here;
	// with the perf engine 32 KiB, or less where this user may not have rings for that (RLIMIT_MEMLOCK,
	// kernel.perf_event_mlock_kb), and more for commands that are started when stacks were cut.
	StackBytes int
	// RowsDir is the folder in which what was made of call-frame information is kept from recording to
	// recording, up to 512 MB. "": it is made anew.
	RowsDir string
	// Grace is how long a command that was sent SIGTERM may take to end before it is sent SIGKILL.
	// 0: 5 s.
	Grace time.Duration
}

// A FrameTable tells where a function that is running has its return address. The walk by frame
// pointers, which finds all others, cannot: the innermost function may have no frame or not have
// made it yet, and then its caller's frame is taken for its own.
type FrameTable interface {
	// Depth is how many bytes above the stack pointer the return address is when the instruction at
	// addr, a file address, is about to run (on arm64: how large the frame is); false where that is
	// not known.
	Depth(addr uint64) (uint64, bool)
}

const (
	defaultFreq  = 999
	maxFreq      = 100_000 // a period is at least 10 µs (perf_swevent_start_hrtimer, kernel/events/core.c)
	defaultGrace = 5 * time.Second
)

// Reasons a recording cannot be made, for errors.Is.
var (
	ErrNoPermission = errors.New("no permission")
	ErrNoProcess    = errors.New("no such process")
	ErrNoCommand    = errors.New("no such command")
)

// refusal is a reason in one sentence that also wraps one of the errors above.
type refusal struct {
	text   string
	reason error
	cause  error
}

func (r *refusal) Error() string   { return r.text }
func (r *refusal) Unwrap() []error { return []error{r.reason, r.cause} }

func (t Target) check() error {
	n := 0
	for _, set := range []bool{t.Command != nil, t.PID != 0, t.Machine} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("record: a target is a command, a process or the machine, exactly one of them")
	case t.PID < 0:
		return &refusal{text: fmt.Sprintf("record process %d: there is no process with a negative id", t.PID), reason: ErrNoProcess}
	case t.Command != nil && t.Command.Process != nil:
		return fmt.Errorf("record %s: the command was started already; give its process id instead", t.Command.Path)
	}
	return nil
}

func (o Options) check() (Options, error) {
	if o.Freq == 0 {
		o.Freq = defaultFreq
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.StackBytes > 0 { // whole words, and no less than a frame
		o.StackBytes = max(o.StackBytes&^7, 64)
	}
	switch {
	case o.Freq < 1 || o.Freq > maxFreq:
		return o, fmt.Errorf("record: %d samples per second cannot be had; choose between 1 and %d", o.Freq, maxFreq)
	case o.StackBytes > maxStackBytes:
		return o, fmt.Errorf("record: %d bytes of a stack cannot be copied; choose up to %d", o.StackBytes, maxStackBytes)
	case o.Engine != AnyEngine && o.Engine != BPFEngine && o.Engine != PerfEngine:
		return o, fmt.Errorf("record: there is no engine %q; choose %q or %q, or none", o.Engine, BPFEngine, PerfEngine)
	}
	return o, nil
}

// String is the target as a person would name it in a message.
func (t Target) String() string {
	switch {
	case t.Command != nil:
		return t.Command.Path
	case t.Machine:
		return "the whole machine"
	}
	return fmt.Sprintf("process %d", t.PID)
}

func (t Target) describe() profile.Target {
	switch {
	case t.Command != nil:
		return profile.Target{Command: t.Command.Args, Dir: t.Command.Dir}
	case t.Machine:
		return profile.Target{Machine: true}
	}
	return profile.Target{PID: t.PID}
}
