package profiler

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// A fakeRing shows each record from a time on.
type fakeRing struct {
	records []fakeRecord
	now     *uint64
	limit   int
	next    int
	scanned int
	size    int
}

type fakeRecord struct {
	time    uint64 // in the record
	visible uint64 // when the kernel has written it
	kind    perfevent.Type
}

func (r *fakeRing) Fill() int {
	for r.limit < len(r.records) && r.records[r.limit].visible <= *r.now {
		r.limit++
	}
	return r.limit - r.next
}

func (r *fakeRing) Size() int { return r.size }
func (r *fakeRing) Release()  {}

func (r *fakeRing) Next(rec *perfevent.Record) bool { return r.take(&r.next, rec) }
func (r *fakeRing) Scan(rec *perfevent.Record) bool { return r.take(&r.scanned, rec) }

func (r *fakeRing) take(at *int, rec *perfevent.Record) bool {
	if *at == r.limit {
		return false
	}
	*rec = perfevent.Record{Time: r.records[*at].time, Type: r.records[*at].kind}
	*at++
	return true
}

// A fakeSource is a fakeRing in the form of the BPF engine's.
type fakeSource struct{ ring fakeRing }

func (s *fakeSource) Attach(int) error      { return nil }
func (s *fakeSource) SetDeadline(time.Time) {}
func (s *fakeSource) Lost() uint64          { return 0 }
func (s *fakeSource) Close() error          { return nil }
func (s *fakeSource) ReadInto(x *bpf.Sample) error {
	s.ring.Fill()
	var rec perfevent.Record
	if !s.ring.Next(&rec) {
		return os.ErrDeadlineExceeded
	}
	*x = bpf.Sample{Time: rec.Time, User: []uint64{rec.Time, 2}, Kernel: []uint64{1}}
	return nil
}

// Records of several rings come in the order of their times, once each, though rings are looked at
// one after the other and records are written a while after their times.
func TestMergerOrder(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := uint64(time.Hour)
		rings := make([]ring, 4)
		var all []uint64
		make1 := func() fakeRing {
			r := fakeRing{now: &now, size: 1 << 30}
			at := now
			for range 2000 {
				at += uint64(rnd.IntN(2_000_000))
				r.records = append(r.records, fakeRecord{time: at, visible: at + uint64(rnd.IntN(100_000)), kind: perfevent.Sample})
				all = append(all, at)
			}
			for i := 1; i < len(r.records); i++ { // a ring is written in order
				r.records[i].visible = max(r.records[i].visible, r.records[i-1].visible)
			}
			return r
		}
		for i := range rings {
			r := make1()
			rings[i] = &r
		}
		source := &fakeSource{make1()}
		// The CPUs of the one ring overtake each other.
		for i := 0; i+1 < len(source.ring.records); i += 1 + rnd.IntN(3) {
			a, b := &source.ring.records[i], &source.ring.records[i+1]
			if b.time-a.time < 50_000 {
				a.time, b.time = b.time, a.time
			}
		}
		m := newMerger(rings, source)
		var got []uint64
		take := func(limit uint64) {
			m.take(limit,
				func(r *perfevent.Record) { got = append(got, r.Time) },
				func(s *bpf.Sample) {
					if s.User[0] != s.Time || s.Kernel[0] != 1 || len(s.User) != 2 || len(s.Kernel) != 1 {
						t.Fatalf("sample at %d with stacks %x, %x", s.Time, s.Kernel, s.User)
					}
					got = append(got, s.Time)
				})
		}
		for range 400 {
			now += uint64(rnd.IntN(20_000_000))
			limit, _ := m.fill(now, func(*perfevent.Record) {})
			if limit > now-settle {
				t.Fatalf("limit %d at %d", limit, now)
			}
			take(limit)
		}
		early := len(got)
		now += uint64(time.Hour)
		m.fill(now, func(*perfevent.Record) {})
		take(everything)
		if !slices.IsSorted(got) {
			t.Errorf("seed %d: not in order", seed)
		}
		if slices.Sort(all); !slices.Equal(all, got) {
			t.Errorf("seed %d: %d records of %d", seed, len(got), len(all))
		}
		if early < len(all)/2 {
			t.Errorf("seed %d: only %d records of %d were taken before the end", seed, early, len(all))
		}
	}
}

// A ring that is half full is not waited for.
func TestMergerFullRing(t *testing.T) {
	now := uint64(time.Hour)
	r := &fakeRing{now: &now, size: 4}
	for i := range uint64(3) {
		r.records = append(r.records, fakeRecord{time: now + i, visible: now + i})
	}
	m := newMerger([]ring{r}, nil)
	now += 1
	if limit, _ := m.fill(now, func(*perfevent.Record) {}); limit == now {
		t.Error("half full, and not waited for")
	}
	now += 1
	if limit, _ := m.fill(now, func(*perfevent.Record) {}); limit != now {
		t.Errorf("limit %d, want %d", limit, now)
	}
}

// Mappings are told of as soon as they are there, each once, long before their turn.
func TestMergerTellsMappingsSoon(t *testing.T) {
	now := uint64(time.Hour)
	r := &fakeRing{now: &now, size: 100, records: []fakeRecord{
		{now, now, perfevent.Sample}, {now, now, perfevent.Mmap2}, {now, now, perfevent.Sample}, {now + 5, now + 5, perfevent.Mmap2},
	}}
	m := newMerger([]ring{r}, nil)
	told := 0
	look := func() bool {
		_, busy := m.fill(now, func(r *perfevent.Record) { told++ })
		return busy
	}
	if busy := look(); told != 1 || !busy {
		t.Errorf("told of %d mappings, busy %v; want 1", told, busy)
	}
	if busy := look(); told != 1 || busy {
		t.Errorf("told of %d mappings, busy %v; want 1 and nothing new", told, busy)
	}
	now += 10
	if look(); told != 2 {
		t.Errorf("told of %d mappings, want 2", told)
	}
}

// What the queue may not hold stays where it is.
func TestStackQueueIsBounded(t *testing.T) {
	s := &endless{}
	q := stackQueue{source: s}
	if !q.fill() || q.addresses > maxQueued+1000 {
		t.Errorf("%d addresses in the queue", q.addresses)
	}
	n := s.n
	if q.fill(); s.n > n+1 {
		t.Errorf("read %d more samples", s.n-n)
	}
	for q.first() != nil {
		q.take()
	}
	if q.addresses != 0 || q.bytes != 0 || len(q.free) != maxFreeSamples {
		t.Errorf("empty, with %d addresses, %d bytes and %d samples to reuse", q.addresses, q.bytes, len(q.free))
	}
	if q.fill(); s.n < n+2 {
		t.Error("empty, and reads nothing")
	}
}

type endless struct {
	fakeSource
	n int
}

func (s *endless) ReadInto(x *bpf.Sample) error {
	s.n++
	*x = bpf.Sample{Time: uint64(s.n), User: make([]uint64, 1000)}
	return nil
}

func TestStackQueueErrors(t *testing.T) {
	q := stackQueue{source: &failing{}}
	if q.fill() || q.broken != 1 {
		t.Errorf("%d broken samples, want 1", q.broken)
	}
}

type failing struct{ fakeSource }

func (*failing) ReadInto(*bpf.Sample) error { return errors.New("not a sample") }
