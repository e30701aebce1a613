package profiler

import (
	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// Pasts are the stacks that threads have had, for the BPF engine: what has not changed since is neither copied
// nor walked again.
//
// The recording's lock guards it.
type pasts struct {
	set     func(tid uint32, p *bpf.PastStack) error // nil: none are kept
	forget  func(tid uint32) error
	threads map[int]*threadPasts // by TID
	changed []*threadPasts       // that have a next one
	last    uint32               // id
	stack   bpf.PastStack        // set's, reused
}

// threadPasts are those of one thread.
type threadPasts struct {
	tid    int
	recent [recentPasts]kept // a ring
	count  int               // of all so far
	next   *unwind.Past      // that the engine is to be told of; nil: none
}

type kept struct {
	id   uint32
	past *unwind.Past
}

const (
	// recentPasts is how many a thread has at once: one is told of in each turn of the reader, and samples wait
	// for a few turns.
	recentPasts = 16
	// leastPast is how many bytes a copy has to have for the stack to be worth remembering.
	leastPast = 768
)

func newPasts(set func(uint32, *bpf.PastStack) error, forget func(uint32) error) pasts {
	return pasts{set: set, forget: forget, threads: make(map[int]*threadPasts)}
}

// find is the past of a thread with an id; nil where it is not known any more.
func (p *pasts) find(tid int, id uint32) *unwind.Past {
	t := p.threads[tid]
	if t == nil || id == 0 {
		return nil
	}
	for _, k := range t.recent {
		if k.id == id {
			return k.past
		}
	}
	return nil
}

// found is told the stack that a thread had at a sample, which is nil where it was not walked to its root,
// and whether the copy ended with a past that the walk did not come to.
func (p *pasts) found(process *process, tid int, past *unwind.Past, missed bool) {
	if p.set == nil || past == nil && !missed {
		return
	}
	if process.threads[tid] == nil || tid == process.pid && process.mainEnded {
		return // it has ended
	}
	t := p.threads[tid]
	if missed {
		if t != nil {
			t.next = nil
			p.forget(uint32(tid))
		}
		return
	}
	if t == nil {
		if len(p.threads) >= bpf.MaxPastThreads {
			return
		}
		t = &threadPasts{tid: tid}
		p.threads[tid] = t
	}
	if t.next == nil {
		p.changed = append(p.changed, t)
	}
	t.next = past
}

// tell gives the engine what was found last.
func (p *pasts) tell() {
	for _, t := range p.changed {
		if t.next == nil || p.threads[t.tid] != t {
			continue
		}
		past := t.next
		t.next = nil
		p.last++
		if p.last == 0 {
			p.last = 1
		}
		p.stack.ID, p.stack.At, p.stack.Value = p.last, past.At, p.stack.Value[:0]
		for _, f := range past.Frames {
			p.stack.Value = append(p.stack.Value, f.PC)
		}
		if p.set(uint32(t.tid), &p.stack) != nil {
			p.set = nil // stacks are copied as a whole
			break
		}
		t.recent[t.count%recentPasts] = kept{p.last, past}
		t.count++
	}
	clear(p.changed)
	p.changed = p.changed[:0]
}

// ended is told of threads that have ended.
func (p *pasts) ended(tid int) {
	if p.threads[tid] == nil {
		return
	}
	delete(p.threads, tid)
	p.forget(uint32(tid))
}

// past is the stack that the walk has found, for later ones.
func (w *walk) past(walker *unwind.Walker) *unwind.Past {
	if !w.remembers || w.end.Reason != unwind.Root || len(w.sample.Stack.Data) < leastPast {
		return nil
	}
	return unwind.NewPast(w.frames, walker.Places(), bpf.MaxPast)
}
