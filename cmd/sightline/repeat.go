package main

import (
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A testRun is a test that is there to be run, again and again.
type testRun interface {
	// Command is one process that runs the test count times; once where it does not repeat.
	command(count int, out io.Writer) *exec.Cmd
	// Repeats says whether one process can run the test more than once.
	repeats() repetition
	// Target describes the test for the capture.
	target() profile.Target
	// Note is what a person has to know of what was run, in one sentence; "".
	note() string
	Close() error
}

// Settle is how long the recorder may take to sort the last samples of a process that has ended.
const settle = 60 * time.Millisecond

// Repetition is whether one process runs a test more than once when it is asked to.
type repetition int

const (
	repeatsNever  repetition = iota
	repeatsMostly            // not each test does, which is seen by the time that it takes
	repeatsAlways
)

// Repeat runs a test again until the recording has the samples wanted or its time is up. Within one
// process where that works, as -count does; a test that fails or does not repeat so goes on in
// fresh processes. The first run is never cut short, the others end with the time.
func (s *session) repeat(test testRun, cmd *exec.Cmd, rec *profiler.Recording, stopped bool) outcome {
	want, limit := s.wanted()
	if want == 0 {
		want = defaultSamples
	}
	if limit == 0 {
		limit = defaultMax
	}
	processes, count, before := 1, 1, 0
	took, first := time.Since(s.begun), time.Duration(0) // of the latest run, and of the first
	fresh := test.repeats() == repeatsNever              // repeat in processes of their own
	for {
		switch {
		case stopped && s.stopped(), cmd.ProcessState != nil && !cmd.ProcessState.Success() && s.interrupted(cmd):
			return outcome{text: "stopped"}
		case stopped:
			return outcome{} // its time is up
		case cmd.ProcessState == nil || cmd.ProcessState.Success():
		case processes == 1:
			return outcome{failed: true, text: cmd.ProcessState.String()}
		case !fresh && count > 1:
			fresh = true // it passed alone; its failure is one of repetition in one process
		default:
			return outcome{failed: true, text: fmt.Sprintf("%s in process %d", cmd.ProcessState, processes)}
		}
		time.Sleep(settle)
		have, left := sampleCount(rec.View()), limit-time.Since(s.begun)
		if have >= want || left <= 0 {
			return outcome{}
		}
		if first == 0 {
			first = took
		} else if test.repeats() == repeatsMostly && count > 4 && took < 2*first {
			fresh = true // -count does not repeat it: examples, or what it needs is done once
		}
		next := nextCount(want-have, have-before, count, took, left)
		runs, times := 1, next // so many processes, each of which runs it so many times
		if fresh {
			runs, times = next, 1
			if test.repeats() != repeatsNever {
				runs = 1 // it ought to have repeated in one: whether it passes is seen each time
			}
		}
		before, count = have, runs*times
		started := time.Now()
		for n := range runs {
			left := limit - time.Since(s.begun)
			if n > 0 && left <= 0 {
				return outcome{}
			}
			cmd = test.command(times, io.Discard)
			cmd.SysProcAttr = endsWithUs()
			if err := rec.Run(cmd); err != nil {
				return outcome{}
			}
			processes++
			if stopped = s.wait(rec, left); stopped || cmd.ProcessState == nil || !cmd.ProcessState.Success() {
				break
			}
		}
		took = time.Since(started)
	}
}

// Wanted is how many samples a test is repeated for, and for how long; 0 is the default.
func (s *session) wanted() (samples int, limit time.Duration) {
	if t := s.req.Test; t != nil {
		return t.Samples, t.Max
	}
	return s.req.Native.Samples, s.req.Native.Max
}

// NextCount is how often a test is to run in the next process, given what the last one of count
// runs brought and took: enough for the samples missing, no more than the time left allows.
func nextCount(missing, brought, count int, took, left time.Duration) int {
	n := count * 10
	if brought > 0 {
		n = min(n, missing*count/brought+1)
	}
	if each := took / time.Duration(count); each > 0 {
		n = min(n, int(left/each)+1)
	}
	return max(1, n)
}
