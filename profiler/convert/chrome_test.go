package convert

import (
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Samples that weigh more than the time to the next must not cover each other in a trace.
func TestChromeSpans(t *testing.T) {
	b := newBuilder(&input{n: 1 << 20}, "test", Options{})
	s := b.series(profile.CPU, profile.Nanoseconds, "", 0)
	stack := func(names ...string) profile.StackID {
		at := profile.StackID(0)
		for _, n := range names {
			at = b.push(at, b.location(profile.Frame{Func: n}))
		}
		return at
	}
	main := b.task(profile.Task{PID: 1, TID: 1, Comm: "main"})
	for i, id := range []profile.StackID{stack("a", "b"), stack("a", "b"), stack("a", "c"), stack("a"), stack("d"), stack("a", "b", "a"), stack("d")} {
		at := time.Duration(i) * 3
		if i == 6 {
			at = time.Second // after a gap
		}
		s.add(profile.Sample{Stack: id, Task: main, Time: at, Count: 1, Weight: int64(10 + i)})
	}
	c, err := b.finish()
	if err != nil {
		t.Fatal(err)
	}
	p := profileOf(t, c, "")
	got := roundTrip(t, p, Chrome)
	compareViews(t, p, got, true, false)
	if got.Total().Weight != p.Total().Weight {
		t.Errorf("total %d, want %d", got.Total().Weight, p.Total().Weight)
	}
	if n := got.Samples.Len(); got.Samples.Time[n-1] != time.Second || n != 6 {
		t.Errorf("%d samples, the last at %v; want 6, as two have one stack, and the gap kept", n, got.Samples.Time[n-1])
	}
}
