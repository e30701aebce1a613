package profiler

import (
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// A ring is a CPU's records in the order they were written. perfevent.Ring is one.
type ring interface {
	Fill() int                   // bytes not released; reading goes up to what there was now
	Size() int                   // bytes there is room for
	Next(*perfevent.Record) bool // the next record, kept until the one after it is asked for
	Scan(*perfevent.Record) bool // likewise with a position of its own, ahead of Next
	Release()                    // gives back what is behind Next
}

// A stackSource is where the BPF engine's samples come from, as bpf.Sampler gives them.
type stackSource interface {
	Attach(perfFD int) error
	SetDeadline(time.Time)
	ReadInto(*bpf.Sample) error
	Lost() uint64
	Close() error
}

// A merger reads several rings as one, in the order of times.
//
// A ring has its records in order, but for a few microseconds where an interrupt came between
// taking the time and writing. A record with an earlier time than one that was read from another
// ring can still be on its way, though, until that ring has been looked at again. So a record counts
// once its time is before the last look but one, and at least settle ago. Until then it stays in its
// ring: nothing is copied and nothing grows. A ring that is half full cannot wait.
type merger struct {
	rings []ring
	heads []head
	queue stackQueue
	look  uint64 // when the rings were looked at last, CLOCK_MONOTONIC ns
}

type head struct {
	record perfevent.Record
	ok     bool
}

const (
	settle = uint64(20 * time.Millisecond)
	// everything as a limit says that nothing can come any more.
	everything = math.MaxUint64
)

func newMerger(rings []ring, source stackSource) *merger {
	m := &merger{rings: rings, heads: make([]head, len(rings)), queue: stackQueue{source: source}}
	if source != nil {
		source.SetDeadline(time.Unix(1, 0)) // in the past: never wait
	}
	return m
}

// fill looks at what there is now and says up to which time it can be taken. soon is told at once, long
// before its turn, of each mapping and of what begins, changes and ends processes; busy says that
// processes and mappings come and go.
func (m *merger) fill(now uint64, soon func(*perfevent.Record)) (limit uint64, busy bool) {
	full := false
	for i, r := range m.rings {
		full = r.Fill() > r.Size()/2 || full
		for rec := (perfevent.Record{}); m.rings[i].Scan(&rec); {
			switch rec.Type {
			case perfevent.Mmap2, perfevent.Fork, perfevent.Comm:
				soon(&rec)
				busy = true
			case perfevent.Exit:
				soon(&rec)
			}
		}
	}
	full = m.queue.fill() || full
	limit = min(m.look, now-min(now, settle))
	m.look = now
	if full {
		limit = now
	}
	return limit, busy
}

// take gives all records with times up to limit, in order, either to record or to stack, and frees
// their room.
func (m *merger) take(limit uint64, record func(*perfevent.Record), stack func(*bpf.Sample)) {
	for {
		first, at := -1, limit
		for i := range m.heads {
			h := &m.heads[i]
			if !h.ok {
				h.ok = m.rings[i].Next(&h.record)
			}
			if h.ok && (h.record.Time < at || h.record.Time == at && first < 0) {
				first, at = i, h.record.Time
			}
		}
		if q := m.queue.first(); q != nil && (q.Time < at || q.Time == at && first < 0) {
			stack(m.queue.take())
			continue
		}
		if first < 0 {
			break
		}
		record(&m.heads[first].record)
		m.heads[first].ok = false
	}
	for _, r := range m.rings {
		r.Release()
	}
}

// A stackQueue holds the BPF engine's samples until their turn comes: the BPF ring is one for all
// CPUs, and what is read from it is gone from it. Samples are reused: a queue that is empty now and then
// allocates nothing.
type stackQueue struct {
	source stackSource   // nil: always empty
	queue  []*bpf.Sample // in the order of times, from next on
	next   int
	taken  *bpf.Sample // what take has given last
	free   []*bpf.Sample
	// What the samples in the queue have.
	addresses, bytes int
	broken           uint64 // samples that could not be decoded
}

// maxQueued bounds the addresses held, and maxQueuedStacks the bytes of stacks. What is beyond waits in
// the BPF ring.
const (
	maxQueued       = 4 << 20
	maxQueuedStacks = 32 << 20
	maxFreeSamples  = 256
)

// fill reads what is in the BPF ring. full says that it had to stop before its end.
func (q *stackQueue) fill() (full bool) {
	if q.source == nil {
		return false
	}
	if q.next > 0 {
		q.queue, q.next = slices.Delete(q.queue, 0, q.next), 0
	}
	for q.addresses < maxQueued && q.bytes < maxQueuedStacks {
		s := q.spare()
		err := q.source.ReadInto(s)
		if err != nil {
			q.free = append(q.free, s)
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, bpf.ErrFlushed) && err != io.EOF {
				q.broken++
			}
			return false
		}
		q.addresses += len(s.Kernel) + len(s.User)
		q.bytes += len(s.Stack) + len(s.Other)
		q.queue = append(q.queue, s)
		// CPUs take the time before they take their place in the ring: sort the few that came late.
		for i := len(q.queue) - 1; i > 0 && q.queue[i-1].Time > s.Time; i-- {
			q.queue[i-1], q.queue[i] = q.queue[i], q.queue[i-1]
		}
	}
	return true
}

// spare is a sample to read into.
func (q *stackQueue) spare() *bpf.Sample {
	n := len(q.free)
	if n == 0 {
		return new(bpf.Sample)
	}
	s := q.free[n-1]
	q.free = q.free[:n-1]
	return s
}

func (q *stackQueue) first() *bpf.Sample {
	if q.next == len(q.queue) {
		return nil
	}
	return q.queue[q.next]
}

// take is the first one, which is kept until the next is taken.
func (q *stackQueue) take() *bpf.Sample {
	if q.taken != nil && len(q.free) < maxFreeSamples {
		q.free = append(q.free, q.taken)
	}
	s := q.queue[q.next]
	q.queue[q.next] = nil
	q.next++
	q.addresses -= len(s.Kernel) + len(s.User)
	q.bytes -= len(s.Stack) + len(s.Other)
	q.taken = s
	return s
}

// readEvery is the longest time between two looks at the rings. It is short because a process that
// was started and ends at once may take its binary with it, and shorter while processes come and go.
const (
	readEvery     = 20 * time.Millisecond
	readEveryBusy = 4 * time.Millisecond
	busyFor       = 250 * time.Millisecond
)

// read is the recording's reading goroutine: from Start until Stop has it end.
func (r *Recording) read() {
	defer close(r.readDone)
	defer r.waiter.close()
	var busyUntil uint64
	for {
		every := r.every
		if r.merger.look < busyUntil {
			every = min(every, readEveryBusy)
		}
		ready := r.waiter.wait(max(every, time.Millisecond))
		stopping := ready[r.wake]
		if r.pidfd >= 0 && ready[r.pidfd] {
			r.waiter.remove(r.pidfd)
			close(r.processDone)
		}
		now := monotonic()
		limit, busy := r.merger.fill(now, r.seen)
		if busy {
			busyUntil = now + uint64(busyFor)
		}
		if stopping {
			limit = everything
		}
		r.take(limit)
		if stopping {
			// What did not fit into the queue before.
			for r.merger.queue.fill() {
				r.take(everything)
			}
			r.take(everything)
			if u := r.b.unwinder; u != nil {
				u.wait()
				r.mu.Lock()
				r.b.settle()
				r.mu.Unlock()
				u.stop()
			}
			return
		}
	}
}

// seen opens a mapped file at once: its process may be gone by the time its record has its turn.
func (r *Recording) seen(rec *perfevent.Record) {
	var file *codeFile
	if rec.Type == perfevent.Mmap2 {
		m := mappedBy(rec)
		file = r.files.find(int(rec.PID), &m)
	}
	r.opener.copying.seen(rec, file)
}

func (r *Recording) take(limit uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merger.take(limit, r.b.record, func(s *bpf.Sample) {
		r.b.sample(int(s.PID), int(s.TID), s.Time, int64(s.Period), s.Kernel, s.User, &registers{
			sp: s.SP, fp: s.FP, link: s.Link, top: s.Top, cut: s.KernelCut || s.UserCut,
			all: s.Registers, stack: s.Stack, otherSP: s.OtherSP, other: s.Other, past: s.Past, same: s.Same,
		})
	})
	r.b.settle()
}

// pace is how long the reader may sleep: a quarter of what it takes to fill the smallest buffer
// with the largest samples, where that is less than readEvery.
func pace(period time.Duration, rings []*perfevent.Ring, perSample int) time.Duration {
	sizes := make([]int, 0, len(rings))
	for _, r := range rings {
		sizes = append(sizes, r.Size())
	}
	sort.Ints(sizes)
	return min(readEvery, max(period*time.Duration(sizes[0]/perSample/4), time.Millisecond))
}
