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

// variety is a profile of what a thread can do to a clock: it has two names, samples that count more
// or less than one, weigh nothing, overlap, or have no stack.
func variety(t testing.TB, unit profile.Unit) *profile.Profile {
	t.Helper()
	b := newBuilder(&input{n: 1 << 20}, "test", Options{})
	s := b.series(profile.CPU, unit, "", 0)
	stacks := []profile.StackID{0}
	at := profile.StackID(0)
	for _, name := range []string{"a", "b", "c"} {
		at = b.push(at, b.location(profile.Frame{Func: name, File: "/src/x.c", Line: len(stacks)}))
		stacks = append(stacks, at)
	}
	tasks := []profile.Task{
		{PID: 5, TID: 5, Comm: "sh"}, {PID: 5, TID: 5, Comm: "cc1"}, {PID: 5, TID: 6, Comm: "cc1"}, {Comm: "name alone"}, {Comm: "another"}, {},
	}
	for i := range 60 {
		s.add(profile.Sample{
			Stack: stacks[i%len(stacks)], Task: b.task(tasks[i*7%len(tasks)]), Time: time.Duration(i/3) * 500,
			Count: int64(i % 4), Weight: int64(i*13%9) * 300,
		})
	}
	c, err := b.finish()
	if err != nil {
		t.Fatal(err)
	}
	return profileOf(t, c, "")
}

// What is written and read again has the same totals, rows and lines, whatever threads do.
func TestRoundTripsAreExact(t *testing.T) {
	for _, format := range []Format{Chrome, Speedscope, Firefox, Pprof} {
		for _, unit := range []profile.Unit{profile.Nanoseconds, profile.Bytes} {
			p := variety(t, unit)
			got := roundTrip(t, p, format)
			if got.Total() != p.Total() {
				t.Errorf("%s %s: total %+v, want %+v", format, unit, got.Total(), p.Total())
			}
			compareViews(t, p, got, true, true)
		}
	}
}

func TestChromeThreadsOfOneNumber(t *testing.T) {
	p := variety(t, profile.Nanoseconds)
	got := roundTrip(t, p, Chrome)
	names := map[string]bool{}
	for _, task := range got.Tasks[1:] {
		names[task.Comm] = true
	}
	for _, name := range []string{"name alone", "another", "cc1"} {
		if !names[name] {
			t.Errorf("no thread %q among %v", name, got.Tasks)
		}
	}
	if names["sh"] {
		t.Errorf("the thread that called exec has its first name too: %v", got.Tasks)
	}
	if len(got.Warnings) > 0 {
		t.Errorf("warnings %v", got.Warnings)
	}
}
