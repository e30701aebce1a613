package profiler

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// The engine is told of the last stack of each thread in each turn, and what it was told of before is known for
// some turns, until the thread ends.
func TestPasts(t *testing.T) {
	told := map[uint32]bpf.PastStack{}
	refuse := false
	p := newPasts(func(tid uint32, s *bpf.PastStack) error {
		if refuse {
			return errors.New("no")
		}
		told[tid] = bpf.PastStack{ID: s.ID, At: slices.Clone(s.At), Value: slices.Clone(s.Value)}
		return nil
	}, func(tid uint32) error {
		delete(told, tid)
		return nil
	})
	process := newProcess(7, 1)
	process.threads[7], process.threads[8] = &thread{}, &thread{}
	past := func(pc uint64) *unwind.Past {
		return &unwind.Past{Frames: []unwind.Frame{{PC: 1, Return: true}, {PC: pc, Return: true}}, At: []uint64{200, 100}}
	}
	p.found(process, 7, past(10), false)
	p.found(process, 8, past(11), false)
	p.found(process, 7, past(12), false)
	p.found(process, 9, past(13), false) // has ended
	p.found(process, 8, nil, false)      // its stack was not worth it
	if len(told) != 0 {
		t.Errorf("told of %v before the turn's end", told)
	}
	p.tell()
	if want := (bpf.PastStack{ID: told[7].ID, At: []uint64{200, 100}, Value: []uint64{1, 12}}); len(told) != 2 || cmp.Diff(want, told[7]) != "" {
		t.Errorf("told of %v", told)
	}
	first := told[7].ID
	if first == 0 || first == told[8].ID || p.find(7, first).Frames[1].PC != 12 || p.find(8, first) != nil || p.find(9, first) != nil || p.find(7, 0) != nil {
		t.Errorf("threads %v", p.threads)
	}
	p.tell()
	if told[7].ID != first {
		t.Error("told of the same again")
	}
	for i := range recentPasts - 1 {
		p.found(process, 7, past(uint64(20+i)), false)
		p.tell()
	}
	if p.find(7, first) == nil || p.find(7, told[7].ID).Frames[1].PC != 20+recentPasts-2 {
		t.Error("forgotten too soon")
	}
	p.found(process, 7, past(99), false)
	p.tell()
	if p.find(7, first) != nil {
		t.Error("remembered for ever")
	}
	// A walk that did not come to what was the same: the whole stack is copied the next time, and what is on
	// its way is known still.
	last := told[7].ID
	p.found(process, 7, past(100), false)
	p.found(process, 7, nil, true)
	p.tell()
	if _, ok := told[7]; ok || p.find(7, last) == nil {
		t.Errorf("told of %v", told)
	}
	p.found(process, 8, past(101), false)
	process.mainEnded = true
	p.found(process, 7, past(102), false)
	p.ended(8)
	p.ended(9)
	p.tell()
	if len(told) != 0 || len(p.threads) != 1 {
		t.Errorf("told of %v, threads %v, though they have ended", told, p.threads)
	}
	process.mainEnded, refuse = false, true
	p.found(process, 7, past(103), false)
	p.tell()
	if p.set != nil || len(p.changed) != 0 {
		t.Error("the engine refuses, and is told on")
	}
	p.found(process, 7, past(104), false)
	p.tell()
}
