package profiler

import (
	"errors"
	"io"
	"math"
	"os"
	"sort"
	"time"

	"golang.org/x/sys/unix"

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
func (m *merger) take(limit uint64, record func(*perfevent.Record), stack func(*queuedStack, []uint64, []uint64)) {
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
		if q := m.queue.first(); q != nil && (q.time < at || q.time == at && first < 0) {
			kernel, user := m.queue.take()
			stack(q, kernel, user)
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
// CPUs, and what is read from it is gone from it.
type stackQueue struct {
	source    stackSource // nil: always empty
	queue     []queuedStack
	addresses []uint64
	stacks    []byte
	next      int // of queue
	sample    bpf.Sample
	broken    uint64 // samples that could not be decoded
}

type queuedStack struct {
	time, period uint64
	pid, tid     int
	at           int // of the kernel's addresses, with the user's behind them, and then all registers
	kernel, user int // how many
	all          int
	atStack      int // of the stack's bytes in stacks
	stack, other int // how many, and how many behind them of the other stack
	registers    registers
}

// maxQueued bounds the addresses held, and maxQueuedStacks the bytes of stacks. What is beyond waits in
// the BPF ring.
const (
	maxQueued       = 4 << 20
	maxQueuedStacks = 32 << 20
)

// fill reads what is in the BPF ring. full says that it had to stop before its end.
func (q *stackQueue) fill() (full bool) {
	if q.source == nil {
		return false
	}
	if q.next == len(q.queue) {
		q.queue, q.addresses, q.stacks, q.next = q.queue[:0], q.addresses[:0], q.stacks[:0], 0
	}
	for len(q.addresses) < maxQueued && len(q.stacks) < maxQueuedStacks {
		s := &q.sample
		err := q.source.ReadInto(s)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) || errors.Is(err, bpf.ErrFlushed) || err == io.EOF {
			return false
		}
		if err != nil {
			q.broken++
			return false
		}
		x := queuedStack{
			time: s.Time, period: s.Period, pid: int(s.PID), tid: int(s.TID),
			at: len(q.addresses), kernel: len(s.Kernel), user: len(s.User),
			atStack: len(q.stacks), all: len(s.Registers), stack: len(s.Stack), other: len(s.Other),
			registers: registers{sp: s.SP, fp: s.FP, link: s.Link, top: s.Top, otherSP: s.OtherSP, cut: s.KernelCut || s.UserCut},
		}
		q.addresses = append(append(append(q.addresses, s.Kernel...), s.User...), s.Registers...)
		q.stacks = append(append(q.stacks, s.Stack...), s.Other...)
		q.queue = append(q.queue, x)
		// CPUs take the time before they take their place in the ring: sort the few that came late.
		for i := len(q.queue) - 1; i > q.next && q.queue[i-1].time > x.time; i-- {
			q.queue[i-1], q.queue[i] = q.queue[i], q.queue[i-1]
		}
	}
	return true
}

func (q *stackQueue) first() *queuedStack {
	if q.next == len(q.queue) {
		return nil
	}
	return &q.queue[q.next]
}

func (q *stackQueue) take() (kernel, user []uint64) {
	x := &q.queue[q.next]
	q.next++
	split := x.at + x.kernel
	behind := split + x.user
	x.registers.all = q.addresses[behind : behind+x.all]
	x.registers.stack = q.stacks[x.atStack : x.atStack+x.stack]
	x.registers.other = q.stacks[x.atStack+x.stack:][:x.other]
	return q.addresses[x.at:split], q.addresses[split:behind]
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
	polled := []unix.PollFd{{Fd: int32(r.wake), Events: unix.POLLIN}}
	if r.pidfd >= 0 {
		polled = append(polled, unix.PollFd{Fd: int32(r.pidfd), Events: unix.POLLIN})
	}
	for _, ring := range r.rings {
		polled = append(polled, unix.PollFd{Fd: int32(ring.FD()), Events: unix.POLLIN})
	}
	var busyUntil uint64
	for {
		every := r.every
		if r.merger.look < busyUntil {
			every = min(every, readEveryBusy)
		}
		unix.Poll(polled, int(max(every.Milliseconds(), 1))) // on EINTR: one look too many
		stopping := polled[0].Revents != 0
		if r.pidfd >= 0 && polled[1].Revents != 0 {
			polled[1].Fd = -1 // poll(2) skips it
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
	r.merger.take(limit, r.b.record, func(q *queuedStack, kernel, user []uint64) {
		r.b.sample(q.pid, q.tid, q.time, int64(q.period), kernel, user, &q.registers)
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
