package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// RunAllocations records what a command or process asks its allocator for, and gives back.
func (s *session) runAllocations(ctx context.Context, st *store.Store, target profiler.Target, options profiler.Options) (lspserver.Result, error) {
	s.begun = time.Now()
	s.tell(lspserver.Update{Phase: lspserver.PhaseRecording})
	var foreseen string
	rec, err := profiler.RecordAllocations(ctx, target, profiler.AllocationOptions{
		Period: s.req.AllocationPeriod, MostSlowdown: s.req.MostSlowdown, Describe: options.Describe,
		FrameTable: options.FrameTable, RowsDir: options.RowsDir, Grace: options.Grace,
		Foreseen: func(calls, slowdown float64) {
			foreseen = fmt.Sprintf("it calls its allocator %s times a second; to follow that slows it down by about %.0f %%", lspserver.Count(int64(calls)), 100*slowdown)
			s.tell(lspserver.Update{Phase: lspserver.PhaseRecording, Note: foreseen})
		},
	})
	if err != nil {
		return lspserver.Result{}, err
	}
	defer rec.Close()
	s.begun = time.Now()
	keep, err := beginKeeping(st, rec)
	if err != nil {
		return lspserver.Result{}, err
	}
	defer keep.close()
	var following sync.WaitGroup
	over := make(chan struct{})
	following.Go(func() { s.follow(ctx, keep, over) })

	ended := make(chan struct{})
	go func() {
		rec.Wait()
		close(ended)
	}()
	var timeUp <-chan time.Time
	if s.req.For > 0 {
		t := time.NewTimer(s.req.For)
		defer t.Stop()
		timeUp = t.C
	}
	stopped := false
	select {
	case <-ended:
	case <-s.stop:
		stopped = true
	case <-timeUp:
		stopped = true
	}
	close(over)
	following.Wait()
	capture, err := rec.Stop()
	if err != nil {
		keep.writer.Discard()
		return lspserver.Result{}, err
	}
	var o outcome
	if cmd := target.Command; cmd != nil && cmd.ProcessState != nil && !cmd.ProcessState.Success() && !stopped && !s.interrupted(cmd) {
		o = outcome{failed: true, text: cmd.ProcessState.String()}
	}
	if sampleCount(capture) == 0 && !s.discard.Load() {
		if err := keep.writer.Discard(); err != nil {
			return lspserver.Result{}, err
		}
		period := s.req.AllocationPeriod
		if period == 0 {
			period = profiler.DefaultAllocationPeriod
		}
		return lspserver.Result{}, fmt.Errorf("%s asked %s for nothing that was taken down in %s; take down more than one in %s with a smaller --every-bytes, or record for longer",
			cut(expand(capture.Target.String()), 100), rec.Allocator(), lspserver.Duration(capture.Length), lspserver.Weight(period, profile.Bytes))
	}
	return s.finish(ctx, keep, capture, o)
}

// peak is when most of a capture's memory was in use at a time, and how much that was; false where what was
// freed is not known.
func peak(c *profile.Capture) (at time.Duration, most int64, ok bool) {
	s := c.Of(profile.InUse)
	if s == nil {
		return 0, 0, false
	}
	var sum int64
	for i, w := range s.Samples.Weight {
		ok = ok || w < 0
		if sum += w; sum > most {
			at, most = s.Samples.Time[i], sum
		}
	}
	return at, most, ok
}
