package perfevent

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openAll opens rings and, on the calling thread, a clock for each CPU.
func openAll(t *testing.T, c Clock, size int) ([]*Ring, []*Event) {
	t.Helper()
	cpus, err := OnlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	rings, err := OpenRings(cpus, size)
	if paranoid, _ := Paranoid(); errors.Is(err, unix.EACCES) && paranoid > 2 && os.Geteuid() != 0 {
		t.Skipf("kernel.perf_event_paranoid is %d and this is not root: %v", paranoid, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var events []*Event
	t.Cleanup(func() {
		for _, e := range events {
			e.Close()
		}
		for _, r := range rings {
			r.Close()
		}
	})
	for _, r := range rings {
		e, err := c.Open(0, r.CPU(), r)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return rings, events
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// A thread that runs is sampled at the period, with the time of CLOCK_MONOTONIC and its own ids;
// nothing comes after Disable.
func TestClock(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rings, events := openAll(t, Clock{Period: time.Millisecond, ExcludeKernel: true, Disabled: true}, 1<<20)
	before := now(t)
	for _, e := range events {
		if err := e.Enable(); err != nil {
			t.Fatal(err)
		}
	}
	spin(100 * time.Millisecond)
	for _, e := range events {
		if err := e.Disable(); err != nil {
			t.Fatal(err)
		}
	}
	after := now(t)
	spin(20 * time.Millisecond)
	samples := 0
	var ran time.Duration
	for i, ring := range rings {
		ring.Fill()
		for r := (Record{}); ring.Next(&r); {
			if r.Type != Sample {
				continue
			}
			samples++
			if r.ID != events[i].ID() || int(r.CPU) != ring.CPU() || int(r.PID) != os.Getpid() || int(r.TID) != unix.Gettid() {
				t.Errorf("sample of event %d, CPU %d, process %d, thread %d; want %d, %d, %d, %d", r.ID, r.CPU, r.PID, r.TID, events[i].ID(), ring.CPU(), os.Getpid(), unix.Gettid())
			}
			if r.Time < before || r.Time > after || r.Period != uint64(time.Millisecond) {
				t.Errorf("sample at %d with period %d; want one between %d and %d with 1 ms", r.Time, r.Period, before, after)
			}
			if len(r.Chain) < 3 {
				t.Errorf("sample with chain %x, want a marker, the leaf and its callers", r.Chain)
			}
		}
		n, err := events[i].Read()
		if err != nil || n.Lost != 0 {
			t.Errorf("counts %+v, %v", n, err)
		}
		ran += n.Ran
		if ring.Broken() != 0 {
			t.Errorf("%d bytes not understood", ring.Broken())
		}
	}
	// At most the time that has passed; at least a tenth, for the machine may be busy.
	if samples < 10 || samples > 130 {
		t.Errorf("%d samples in 100 ms", samples)
	}
	if d := ran - time.Duration(samples)*time.Millisecond; d < -30*time.Millisecond || d > 30*time.Millisecond {
		t.Errorf("%d samples of 1 ms, but %v counted", samples, ran)
	}
}

// A ring that nobody reads loses records, and all are counted.
func TestLostIsCounted(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rings, events := openAll(t, Clock{Period: 20 * time.Microsecond, ExcludeKernel: true}, MinRing)
	for tries := 0; ; tries++ {
		if tries == 100 {
			t.Fatal("nothing was lost in 5 s with 50,000 samples per second")
		}
		spin(50 * time.Millisecond)
		var lost uint64
		for _, e := range events {
			lost += counts(t, e).Lost
			if withheld.Load()&featureLost != 0 {
				t.Skip("this kernel does not tell of an event what it lost (PERF_FORMAT_LOST, Linux 6.0)")
			}
		}
		if lost > 0 {
			break
		}
	}
	// Make room: the next record is preceded by one that says how many are missing.
	for _, ring := range rings {
		ring.Fill()
		for r := (Record{}); ring.Next(&r); {
		}
		ring.Release()
	}
	spin(50 * time.Millisecond)
	var told, counted uint64
	for i, e := range events {
		e.Disable()
		counted += counts(t, e).Lost
		rings[i].Fill()
		for r := (Record{}); rings[i].Next(&r); {
			if r.Type == Lost {
				told += r.Count
			}
		}
	}
	if told == 0 || told > counted {
		t.Errorf("records tell of %d lost, the events count %d", told, counted)
	}
}

func TestRingsGetSmallerWhereTheLimitIs(t *testing.T) {
	cpus, err := OnlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	rings, err := OpenRings(cpus, MaxRing)
	if err != nil {
		t.Skipf("not even the smallest rings may be mapped: %v", err)
	}
	for _, r := range rings {
		if r.Size() < MinRing || r.Size() != rings[0].Size() {
			t.Errorf("ring of CPU %d has %d bytes, the first one %d", r.CPU(), r.Size(), rings[0].Size())
		}
		r.Close()
	}
}

func TestOpenTellsWhy(t *testing.T) {
	if _, err := (Clock{Period: time.Millisecond, ExcludeKernel: true}).Open(1<<22+1, 0, nil); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EACCES) {
		t.Errorf("a task that cannot be: %v, want ESRCH", err)
	}
	if _, err := (Clock{Period: time.Millisecond, ExcludeKernel: true}).Open(0, 1<<14, nil); err == nil {
		t.Error("a CPU that cannot be: no error")
	}
	if withheld.Load() == allFeatures {
		t.Error("errors of other causes have switched features off")
	}
}

func counts(t *testing.T, e *Event) Counts {
	t.Helper()
	n, err := e.Read()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func now(t *testing.T) uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}
