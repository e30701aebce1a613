package profiler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A fakeSystem has a file for each name, whose file addresses are its offsets plus 1<<40.
type fakeSystem struct {
	files map[string]*codeFile
	known map[int]*process // what discover finds
	asked []int            // of discover
}

func newFakeSystem() *fakeSystem {
	return &fakeSystem{files: map[string]*codeFile{}, known: map[int]*process{}}
}

const fakeBias = 1 << 40

func (s *fakeSystem) file(name string) *codeFile {
	f := s.files[name]
	if f == nil {
		f = &codeFile{kind: profile.FileCode, path: name, image: image{
			segments: []segment{{offset: 0, size: 1 << 39, addr: fakeBias, exec: true}},
		}}
		s.files[name] = f
	}
	return f
}

func (s *fakeSystem) find(pid int, m *mapped) *codeFile {
	if isAnonymous(m.name) {
		return nil
	}
	return s.file(m.name)
}

func (s *fakeSystem) discover(pid int) *process {
	s.asked = append(s.asked, pid)
	p := s.known[pid]
	delete(s.known, pid)
	return p
}

func (s *fakeSystem) comm(pid, tid int) string { return fmt.Sprintf("comm%d", tid) }
func (s *fakeSystem) parent(pid int) int       { return 1 }

// where tells in which file an address of a process lies, and at which offset.
func where(t *tracker, pid int, addr uint64) string {
	f, at := t.locate(t.process(pid), addr)
	switch {
	case f == nil:
		return "nothing"
	case f.kind == profile.Anonymous:
		return fmt.Sprintf("anonymous of %d at %#x", pid, at)
	}
	return fmt.Sprintf("%s+%#x", f.path, at-fakeBias)
}

func expect(t *testing.T, tr *tracker, pid int, addr uint64, want string) {
	t.Helper()
	if got := where(tr, pid, addr); got != want {
		t.Errorf("process %d, address %#x: %s, want %s", pid, addr, got, want)
	}
}

func at(name string, start, end, offset uint64) *mapped {
	return &mapped{start: start, end: end, offset: offset, name: name}
}

// What is mapped over something else replaces just that part.
func TestTrackerOverlaps(t *testing.T) {
	tr := newTracker(newFakeSystem())
	tr.rename(7, 7, "x", true)
	tr.mapped(7, at("/a", 0x1000, 0x9000, 0x100000))
	tr.mapped(7, at("/b", 0x3000, 0x4000, 0))      // in the middle
	tr.mapped(7, at("/c", 0x8000, 0xa000, 0x5000)) // over the end
	tr.mapped(7, at("/d", 0x0000, 0x2000, 0))      // over the start
	tr.mapped(7, at("//anon", 0x6000, 0x7000, 0))
	tr.mapped(7, at("/e", 0x5000, 0x5000, 0)) // nothing
	for addr, want := range map[uint64]string{
		0x0000: "/d+0x0", 0x1fff: "/d+0x1fff", 0x2000: "/a+0x101000", 0x2fff: "/a+0x101fff",
		0x3000: "/b+0x0", 0x4000: "/a+0x103000", 0x5000: "/a+0x104000", 0x6000: "anonymous of 7 at 0x6000",
		0x7000: "/a+0x106000", 0x8000: "/c+0x5000", 0x9fff: "/c+0x6fff", 0xa000: "nothing",
	} {
		expect(t, tr, 7, addr, want)
	}
	tr.mapped(7, at("/f", 0x0000, 0xb000, 0)) // over all
	if n := len(tr.pids[7].regions); n != 1 {
		t.Errorf("%d regions, want 1", n)
	}
}

// What is the same again changes nothing, so that addresses stay located.
func TestTrackerMappedAgain(t *testing.T) {
	tr := newTracker(newFakeSystem())
	tr.rename(7, 7, "x", true)
	tr.mapped(7, at("/a", 0x1000, 0x2000, 0))
	tr.mapped(7, at("//anon", 0x5000, 0x6000, 0))
	p := tr.pids[7]
	p.located = map[uint64]profile.LocationID{0x1000: 1}
	tr.mapped(7, at("/a", 0x1000, 0x2000, 0))
	tr.mapped(7, at("//anon", 0x5000, 0x6000, 0x5000))
	if tr.mapped(7, at("//anon", 0x5000, 0x6000, 0x5000)); p.located != nil {
		t.Error("another offset, and addresses are still located")
	}
	p.located = map[uint64]profile.LocationID{0x1000: 1}
	tr.mapped(7, at("/a", 0x1000, 0x2000, 0))
	if p.located == nil {
		t.Error("nothing has changed, and addresses are located anew")
	}
	if tr.mapped(7, at("/b", 0x1000, 0x2000, 0)); p.located != nil {
		t.Error("another file, and addresses are still located")
	}
}

// A child has its parent's mappings, and then its own.
func TestTrackerFork(t *testing.T) {
	tr := newTracker(newFakeSystem())
	tr.rename(7, 7, "parent", true)
	tr.mapped(7, at("/a", 0x1000, 0x2000, 0))
	tr.fork(8, 8, 7, 7)
	tr.mapped(8, at("/b", 0x1000, 0x2000, 0))
	tr.mapped(7, at("/c", 0x3000, 0x4000, 0))
	tr.fork(9, 9, 8, 8)
	expect(t, tr, 7, 0x1000, "/a+0x0")
	expect(t, tr, 8, 0x1000, "/b+0x0")
	expect(t, tr, 8, 0x3000, "nothing")
	expect(t, tr, 9, 0x1000, "/b+0x0")
	if p := tr.pids[9]; p.parent != 8 || p.threads[9].comm != "parent" {
		t.Errorf("child %+v", p)
	}
	// A thread has them, too, under its process.
	tr.fork(7, 70, 7, 7)
	tr.rename(7, 70, "worker", false)
	if th := tr.pids[7].threads; th[70].comm != "worker" || th[7].comm != "parent" {
		t.Errorf("threads %v", th)
	}
}

// exec leaves nothing of the old program but the ids.
func TestTrackerExec(t *testing.T) {
	tr := newTracker(newFakeSystem())
	tr.fork(8, 8, 7, 7)
	tr.rename(8, 8, "old", true)
	tr.mapped(8, at("/old", 0x1000, 0x2000, 0))
	tr.fork(8, 80, 8, 8)
	tr.rename(8, 80, "thread", false)
	tr.exit(8, 8) // thread 80 calls exec: the others end, it becomes 8
	tr.rename(8, 8, "new", true)
	tr.mapped(8, at("/new", 0x1000, 0x2000, 0x4000))
	expect(t, tr, 8, 0x1000, "/new+0x4000")
	p := tr.pids[8]
	if p.parent != 7 || len(p.threads) != 1 || p.threads[8].comm != "new" {
		t.Errorf("after exec: %+v with threads %v", p, p.threads)
	}
}

// A number that comes back is another process, in whatever order the end of the old one is told.
func TestTrackerReuse(t *testing.T) {
	tr := newTracker(newFakeSystem())
	for n := range 3 {
		tr.fork(8, 8, 7, 7)
		expect(t, tr, 8, 0x1000, "nothing")
		name := fmt.Sprintf("/prog%d", n)
		tr.rename(8, 8, name, true)
		tr.mapped(8, at(name, 0x1000, 0x2000, 0))
		tr.exit(8, 8)
		expect(t, tr, 8, 0x1000, name+"+0x0") // late samples
	}
	tr.fork(8, 8, 7, 7)
	tr.fork(8, 9, 8, 8)
	tr.exit(8, 8)
	tr.exit(8, 99) // never heard of
	if tr.pids[8].ended {
		t.Error("ended while thread 9 runs")
	}
	if tr.exit(8, 9); !tr.pids[8].ended {
		t.Error("not ended with its last thread")
	}
}

func TestTrackerForgetsTheDead(t *testing.T) {
	tr := newTracker(newFakeSystem())
	for pid := 10; pid < 10+10*maxDead; pid++ {
		tr.fork(pid, pid, 7, 7)
		tr.exit(pid, pid)
	}
	if n := len(tr.pids); n > maxDead+1 {
		t.Errorf("%d processes remembered", n)
	}
}

// A process nobody told of is asked for, and one again after records were lost.
func TestTrackerDiscovers(t *testing.T) {
	sys := newFakeSystem()
	tr := newTracker(sys)
	sys.known[7] = newProcess(7, 1)
	sys.known[7].put(region{0x1000, 0x2000, 0, sys.file("/a")})
	expect(t, tr, 7, 0x1000, "/a+0x0")
	expect(t, tr, 7, 0x5000, "nothing")
	expect(t, tr, 7, 0x5000, "nothing")
	if diff := cmp.Diff([]int{7}, sys.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	tr.lost()
	sys.known[7] = newProcess(7, 1)
	sys.known[7].put(region{0x5000, 0x6000, 0, sys.file("/b")})
	expect(t, tr, 7, 0x5000, "/b+0x0")
	tr.rename(9, 9, "x", true) // exec: all that it has will be told
	expect(t, tr, 9, 0x1000, "nothing")
	if diff := cmp.Diff([]int{7, 7}, sys.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// Each thread is reported by one family of events, and by one that is complete.
func TestOwners(t *testing.T) {
	o := newOwners()
	// Thread 1 is attached to (events 11 on CPU 0, 12 on CPU 1) and starts 2 after the first of
	// them, 3 after the second; 2 is then found and attached to, 3 is not. 4 comes later, from 2.
	o.opened(11, 1)
	o.opened(12, 1)
	o.opened(21, 2)
	o.opened(22, 2)
	take := func(id uint64, tid int, want bool) {
		t.Helper()
		if got := o.takes(id, tid); got != want {
			t.Errorf("event %d of thread %d: taken %v, want %v", id, tid, got, want)
		}
	}
	if !o.forked(11, 2, 1) || !o.forked(11, 3, 1) {
		t.Error("forks by thread 1 are not taken from its own event")
	}
	take(11, 2, false)
	take(22, 2, true)
	take(11, 3, true)
	take(12, 3, true)
	if o.forked(11, 4, 2) || !o.forked(21, 4, 2) {
		t.Error("a fork by thread 2 counts from its own event, and once")
	}
	take(11, 4, false)
	take(21, 4, true)
	take(99, 4, true) // none of ours: no reason to drop it
	o.exited(2)
	if !o.forked(11, 2, 1) { // the number comes back
		t.Error("fork not taken")
	}
	take(11, 2, true)
	take(21, 2, false)
}

// A slow model of an address space: which file is at each page.
type pages map[uint64]string

func (p pages) mapped(m *mapped) {
	for a := m.start; a < m.end; a += 0x1000 {
		if isAnonymous(m.name) {
			p[a] = "anonymous"
		} else {
			p[a] = fmt.Sprintf("%s+%#x", m.name, m.offset+a-m.start)
		}
	}
}

// Whatever records come in whatever order, the tracker agrees with the model and the capture keeps
// its laws, with each sample in it.
func FuzzTracker(f *testing.F) {
	f.Add([]byte("m1ae0m1ca0s1a0f120s2c0m2bz9s2b0e10x20"))
	f.Add([]byte(strings.Repeat("m1a10m1b20f12m23c0s1as2ac1x1m1a00x1x2s1a", 4)))
	f.Fuzz(func(t *testing.T, in []byte) {
		sys := newFakeSystem()
		b := newBuilder(profile.Target{}, sys, time.Now(), 0, 1)
		model := map[int]pages{}
		space := func(pid int) pages {
			if model[pid] == nil {
				model[pid] = pages{}
			}
			return model[pid]
		}
		samples := 0
		for now := uint64(1); len(in) >= 4; now++ {
			op, x, y, z := in[0], in[1], in[2], in[3]
			in = in[4:]
			pid := 1 + int(x%5)
			r := &perfevent.Record{PID: uint32(pid), TID: uint32(pid + int(x>>6)*10), Time: now}
			start := uint64(y%32) * 0x1000
			switch op % 7 {
			case 0, 1:
				r.Type, r.Addr, r.Len, r.Offset = perfevent.Mmap2, start, uint64(1+z%8)*0x1000, uint64(z)*0x1000
				r.Name = []byte([]string{"/a", "/b", "//anon"}[z%3])
				m := mappedBy(r)
				space(pid).mapped(&m)
			case 2:
				child := 1 + int(y%5)
				if child == pid {
					break
				}
				r.Type, r.PPID, r.PTID, r.PID, r.TID = perfevent.Fork, r.PID, r.TID, uint32(child), uint32(child)
				c := pages{}
				for a, w := range space(pid) {
					c[a] = w
				}
				model[child] = c
			case 3:
				r.Type, r.Name = perfevent.Comm, []byte{y}
				if z%2 == 0 {
					r.Misc = 1 << 13
					r.TID = r.PID
					model[pid] = pages{}
				}
			case 4:
				r.Type = perfevent.Exit
			case 5:
				r.Type, r.Count = perfevent.Lost, 1
			case 6:
				r.Type, r.Period = perfevent.Sample, 1
				r.Chain = []uint64{^uint64(511), start, uint64(z) << 56}
				if z%3 == 0 {
					r.Chain = slices.Insert(r.Chain, 0, ^uint64(127), 1<<63)
				}
				r.Chain = append(r.Chain, start+0x8000, uint64(y%3)*0x4000+1)
				samples++
				r.Time -= min(uint64(z%4), now) // late
			}
			if r.Type == 0 {
				continue
			}
			b.record(r)
			if r.Type == perfevent.Sample {
				outermost := r.Chain[len(r.Chain)-1]
				var first profile.LocationID
				for l := range b.c.Stacks.LeafFirst(b.samples.Stack[samples-1]) {
					first = l
				}
				l := b.c.Locations[first]
				got := b.c.Mappings[l.Mapping].Path
				want := space(pid)[outermost&^0xfff]
				if i := strings.IndexByte(want, '+'); i >= 0 {
					got = fmt.Sprintf("%s+%#x", got, l.Addr-fakeBias-1)
				} else if want == "anonymous" {
					want = anonymousName
				}
				if got != want {
					t.Fatalf("the outermost frame %#x of process %d is at %s, want %s", outermost, pid, got, want)
				}
			}
			p := b.tracker.process(pid)
			for a := uint64(0); a < 0x28000; a += 0x1000 {
				want, ok := space(pid)[a]
				if !ok {
					want = "nothing"
				}
				if got := where(b.tracker, pid, a); got != want && !strings.HasPrefix(got, want+" of") {
					t.Fatalf("process %d, address %#x: %s, want %s", pid, a, got, want)
				}
			}
			for i, x := range p.regions {
				if x.start >= x.end || i > 0 && p.regions[i-1].end > x.start {
					t.Fatalf("regions %+v", p.regions)
				}
			}
		}
		b.finish(0, 0)
		if err := b.c.Check(); err != nil {
			t.Fatal(err)
		}
		if n := b.samples.Len(); n != samples {
			t.Fatalf("%d samples of %d", n, samples)
		}
	})
}

// The stack of a sample: user frames below kernel frames, return addresses but for the two leaves,
// markers and the zero that ends a stack left out.
func TestBuilderStacks(t *testing.T) {
	sys := newFakeSystem()
	b := newBuilder(profile.Target{}, sys, time.Now(), 1000, 10)
	b.kernel = kernel{code: &codeFile{kind: profile.KernelCode, path: kernelName}, text: 1 << 63}
	b.tracker.rename(7, 7, "x", true)
	b.tracker.mapped(7, at("/a", 0x1000, 0x9000, 0))
	const kernelMark, userMark, guestMark = ^uint64(127), ^uint64(511), ^uint64(2047)
	for i, chain := range [][]uint64{
		{kernelMark, 1<<63 + 16, 1<<63 + 32, userMark, 0x1100, 0x2200, 0x3300, 0, 0},
		{userMark, 0x1100, 0x2200},
		{userMark, 0x2200, 0x2200},
		{kernelMark, 1<<63 + 16},
		{guestMark, 0x1100, userMark},
		{},
	} {
		b.record(&perfevent.Record{Type: perfevent.Sample, PID: 7, TID: 7, Time: uint64(1000 + i), Period: 10, Chain: chain})
	}
	var got []string
	for _, id := range b.samples.Stack {
		var s []string
		for _, l := range b.c.Stacks.RootFirst(id, nil) {
			x := b.c.Locations[l]
			text := fmt.Sprintf("%s %#x", b.c.Mappings[x.Mapping].Path, x.Addr&^fakeBias)
			if x.Return {
				text += " return"
			}
			s = append(s, text)
		}
		got = append(got, strings.Join(s, "; "))
	}
	want := []string{
		"/a 0x2300 return; /a 0x1200 return; /a 0x100; [kernel] 0x20 return; [kernel] 0x10",
		"/a 0x1200 return; /a 0x100",
		"/a 0x1200 return; /a 0x1200",
		"[kernel] 0x10",
		" 0x0",
		" 0x0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	if got, want := b.samples.Time, []time.Duration{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("times %v, want %v", got, want)
	}
	if len(b.c.Tasks) != 2 || b.c.Tasks[1] != (profile.Task{PID: 7, TID: 7, Parent: 1, Comm: "x"}) {
		t.Errorf("tasks %v", b.c.Tasks)
	}
}

// Stacks that were walked in the old program are not those of the new one, at the same addresses.
func TestBuilderWalkedBeforeExec(t *testing.T) {
	b := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, 1)
	for _, name := range []string{"/a", "/b"} {
		b.tracker.rename(7, 7, "same", true)
		b.tracker.mapped(7, at(name, 0x1000, 0x9000, 0))
		b.record(&perfevent.Record{Type: perfevent.Sample, PID: 7, TID: 7, Period: 1, Chain: []uint64{^uint64(511), 0x1100, 0x2200}})
		l := b.c.Stacks.Leaf(b.c.Stacks.Parent(b.samples.Stack[b.samples.Len()-1]))
		if got := b.c.Mappings[b.c.Locations[l].Mapping].Path; got != name {
			t.Errorf("caller in %s, want %s", got, name)
		}
	}
	if len(b.c.Tasks) != 2 {
		t.Errorf("tasks %v, want one", b.c.Tasks)
	}
}

// Losses become warnings, once each, with their counts.
func TestBuilderWarnings(t *testing.T) {
	b := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, 1)
	b.depth = 3
	b.warn(profile.WarnHidden, "hidden")
	b.record(&perfevent.Record{Type: perfevent.Lost, Count: 3})
	b.record(&perfevent.Record{Type: perfevent.LostSamples, Count: 4})
	b.record(&perfevent.Record{Type: perfevent.Throttle})
	for range 2 {
		b.record(&perfevent.Record{Type: perfevent.Sample, PID: 7, TID: 7, Period: 1, Chain: []uint64{^uint64(511), 1, 2, 3}})
	}
	for range 2 { // views while it grows
		b.finish(time.Second, 5)
	}
	var got []string
	for _, w := range b.c.Warnings {
		got = append(got, fmt.Sprintf("%s %d", w.Kind, w.Count))
	}
	if diff := cmp.Diff([]string{"hidden 0", "lost 7", "lost 1", "cut 2"}, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if b.finish(time.Second, 70); b.c.Warnings[1].Count != 70 {
		t.Errorf("warning %+v: the events counted 70", b.c.Warnings[1])
	}
}

// Time without samples is warned of with the causes that the recording speaks for, and no others.
func TestBuilderUnseen(t *testing.T) {
	const ms = time.Millisecond
	const skipped, parts, kernel, lost = "skipped timer ticks", "last part of a sampling period", "the kernel's own", "samples were lost"
	for _, test := range []struct {
		name           string
		ran            time.Duration // of which 1 s is sampled
		freq, threads  int
		hidden, losses bool
		want           []string // "" alone: nothing
		not            []string
	}{
		{"all", 1000 * ms, 999, 1, false, false, nil, nil},
		{"little", 1040 * ms, 999, 1, false, false, nil, nil},
		{"more than ran", 900 * ms, 999, 1, false, false, nil, nil},
		{"nothing ran", 0, 999, 1, false, false, nil, nil},
		{"busy", 1250 * ms, 999, 4, false, false,
			[]string{"250 ms of 1.25 s (20%) on a processor is in no sample: ", skipped, "less busy machine"}, []string{parts, kernel, "too many", "higher"}},
		{"too often", 1250 * ms, 20000, 4, false, false, []string{skipped, "20000 samples a second are too many", "lower --freq"}, []string{parts, kernel, "higher"}},
		{"short-lived", 1250 * ms, 999, 500, false, false, []string{parts, "500 threads that ran for 2.5 ms", "--freq of up to 5000"}, []string{skipped, kernel, "lower"}},
		{"short-lived, often", 1250 * ms, 4000, 5000, false, false, []string{parts, skipped, "--freq of 2000 to 5000"}, []string{kernel, "higher", "lower"}},
		{"one thread, slowly", 1250 * ms, 2, 1, false, false, []string{skipped}, []string{parts}},
		{"hidden", 1250 * ms, 999, 4, true, false, []string{kernel}, []string{skipped, parts, "--freq"}},
		{"hidden, often", 1250 * ms, 20000, 4, true, false, []string{kernel, "; or ", skipped, "lower --freq"}, []string{parts}},
		{"lost", 1250 * ms, 999, 500, true, true, []string{lost}, []string{skipped, parts, kernel, "--freq"}},
	} {
		b := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, int64(time.Second)/int64(test.freq))
		b.threads = test.threads
		b.samples.Append(profile.Sample{Weight: int64(time.Second), Count: 1})
		if test.losses {
			b.finish(time.Second, 7)
		}
		b.unseen(test.ran, test.hidden)
		got := ""
		for _, w := range b.c.Warnings {
			if w.Kind == profile.WarnHidden {
				got += w.Text
			}
		}
		if (got == "") != (test.want == nil) {
			t.Errorf("%s: warned that %q", test.name, got)
		}
		for _, text := range test.want {
			if !strings.Contains(got, text) {
				t.Errorf("%s: warned that %q, without %q", test.name, got, text)
			}
		}
		for _, text := range test.not {
			if strings.Contains(got, text) {
				t.Errorf("%s: warned that %q, with %q", test.name, got, text)
			}
		}
	}
}

func TestSpoken(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                             "0 µs",
		750 * time.Nanosecond:         "0.75 µs",
		999499 * time.Nanosecond:      "999 µs",
		999500 * time.Nanosecond:      "1 ms",
		134400 * time.Microsecond:     "134 ms",
		999500 * time.Microsecond:     "1 s",
		1980 * time.Millisecond:       "1.98 s",
		12340 * time.Millisecond:      "12.3 s",
		99949 * time.Millisecond:      "99.9 s",
		99950 * time.Millisecond:      "1 min 40 s",
		725 * time.Second:             "12 min 5 s",
		-20 * time.Millisecond:        "-20 ms",
		3*time.Hour + 100*time.Second: "181 min 40 s",
	} {
		if got := spoken(d); got != want {
			t.Errorf("spoken(%v) = %q, want %q", d, got, want)
		}
	}
}

// A program that has its events taken away when it starts is named, once; one that ends, whether it
// did anything or not, is not.
func TestBuilderForsaken(t *testing.T) {
	exec := func(pid uint32, name string) *perfevent.Record {
		return &perfevent.Record{Type: perfevent.Comm, Misc: unix.PERF_RECORD_MISC_COMM_EXEC, PID: pid, TID: pid, Name: []byte(name)}
	}
	code := func(pid uint32) *perfevent.Record {
		return &perfevent.Record{Type: perfevent.Mmap2, PID: pid, TID: pid, Addr: 0x1000, Len: 0x1000, Name: []byte("/a")}
	}
	exit := func(pid, tid uint32) *perfevent.Record {
		return &perfevent.Record{Type: perfevent.Exit, PID: pid, TID: tid}
	}
	fork := func(pid, parent uint32) *perfevent.Record {
		return &perfevent.Record{Type: perfevent.Fork, PID: pid, TID: pid, PPID: parent, PTID: parent}
	}
	for _, test := range []struct {
		name    string
		records []*perfevent.Record
		want    string
	}{
		{"ordinary", []*perfevent.Record{exec(7, "x"), code(7), exit(7, 7)}, ""},
		{"forsaken", []*perfevent.Record{exec(7, "x"), exit(7, 7)}, "x"},
		{"second program", []*perfevent.Record{exec(7, "x"), code(7), exec(7, "y"), exit(7, 7)}, "y"},
		{"child", []*perfevent.Record{exec(7, "x"), code(7), fork(8, 7), exit(8, 8), fork(9, 7), exec(9, "y"), exit(9, 9), exit(7, 7)}, "y"},
		{"twice", []*perfevent.Record{exec(7, "x"), exit(7, 7), exec(8, "x"), exit(8, 8)}, "x"},
		{"a command", []*perfevent.Record{exec(7, "a-long-program-"), exit(7, 7)}, "/opt/a-long-program-name"},
		{"records lost", []*perfevent.Record{exec(7, "x"), {Type: perfevent.Lost, Count: 1}, exit(7, 7)}, ""},
		{"no program of its own", []*perfevent.Record{fork(8, 7), exit(8, 8)}, ""},
		{"never seen before", []*perfevent.Record{exit(7, 7)}, ""},
	} {
		b := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, 1)
		b.starts("/opt/a-long-program-name")
		for _, r := range test.records {
			b.record(r)
		}
		b.finish(time.Second, 0)
		var got []string
		for _, w := range b.c.Warnings {
			if name, _, ok := strings.Cut(w.Text, " is in no sample, "); ok && w.Kind == profile.WarnHidden {
				got = append(got, name)
			}
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: warned of %q, want %q", test.name, got, test.want)
		}
	}
}

// The same said again is said once.
func TestBuilderWarnsOnce(t *testing.T) {
	b := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, 1)
	b.warn(profile.WarnTarget, "/a ended with exit status 1")
	b.warn(profile.WarnTarget, "/a ended with exit status 2")
	b.warn(profile.WarnTarget, "/a ended with exit status 1")
	b.warn(profile.WarnHidden, "/a ended with exit status 1")
	if b.finish(time.Second, 0); len(b.c.Warnings) != 3 {
		t.Errorf("warnings %+v, want three", b.c.Warnings)
	}
}

// How many samples a second the recorder can take.
func BenchmarkRecord(b *testing.B) {
	for _, depth := range []int{20, 100} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			bu := newBuilder(profile.Target{}, newFakeSystem(), time.Now(), 0, 1)
			bu.tracker.rename(7, 7, "x", true)
			bu.tracker.mapped(7, at("/a", 0x1000, 0x1000000, 0))
			chains := make([][]uint64, 1000)
			for i := range chains {
				// A common root, and branches towards the leaf.
				chains[i] = []uint64{^uint64(511)}
				for d := range depth {
					chains[i] = append(chains[i], 0x1000+uint64(d*977)+uint64(i%(1+depth/2/(1+d))*64))
				}
			}
			n := 0
			for b.Loop() {
				bu.record(&perfevent.Record{Type: perfevent.Sample, PID: 7, TID: 7, Time: uint64(n), Period: 1, Chain: chains[n%len(chains)]})
				n++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
