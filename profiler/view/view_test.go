package view

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func mustParse(t *testing.T, text string) *profile.Profile {
	t.Helper()
	p, err := profile.ParseProfile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestError(t *testing.T) {
	for count, want := range map[int64]float64{
		0: 1, 1: 1, 4: 0.5, 100: 0.1, 10_000: 0.01, -100: 0.1, math.MinInt64: 1 / math.Sqrt(1<<63),
	} {
		if got := Error(count); got != want {
			t.Errorf("the error of %d samples is %v, want %v", count, got, want)
		}
	}
}

func TestOnly(t *testing.T) {
	p := mustParse(t, "cpu ns\nlength: 1s\ntask 1: tid=1\ntask 2: tid=2\na;b 1 task=1\nc 2 count=5 time=1ms task=2\na;b 3 time=2ms\n- 4 time=3ms task=1\n")
	before := string(p.AppendText(nil))
	var asked []profile.TaskID
	q := Only(p, func(id profile.TaskID) bool {
		asked = append(asked, id)
		return id != 2
	})
	if !slices.Equal(asked, []profile.TaskID{0, 1, 2}) {
		t.Errorf("asked about tasks %v", asked)
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
	const want = "cpu ns\nlength: 1s\ntask 1: tid=1\ntask 2: tid=2\na;b 1 task=1\na;b 3 time=2ms\n- 4 time=3ms task=1\n"
	if diff := cmp.Diff(want, string(q.AppendText(nil))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, string(p.AppendText(nil))); diff != "" {
		t.Errorf("the profile changed:\n%s", diff)
	}
	if names := ByName(Only(p, func(profile.TaskID) bool { return false })); len(names) != 0 {
		t.Errorf("functions that no sample needs: %v", names)
	}
}

// The parts of Only by task add up to the whole, in every row.
func TestTasksAddUp(t *testing.T) {
	for seed := range uint64(30) {
		p := randomProfile(seed, 40, 8, true)
		want := rowCosts(t, ByName(p))
		got := map[string]cost{}
		for task := range p.Tasks {
			for _, r := range ByName(Only(p, func(id profile.TaskID) bool { return int(id) == task })) {
				key := r.Name + "\x00" + r.Module
				c := got[key]
				c.Self.Add(r.Self)
				c.Total.Add(r.Total)
				got[key] = c
			}
		}
		same(t, "sum over tasks", want, got)
	}
}

func TestDeepStack(t *testing.T) {
	const depth = 100_000
	p := mustParse(t, "cpu ns\n"+strings.Repeat("f@x.c:1;", depth-1)+"f@x.c:1 7\n")
	s := NewSums(p)
	want := profile.Measure{Weight: 7, Count: 1}
	if rows := s.ByName(); len(rows) != 1 || rows[0].Total != want || rows[0].Self != want {
		t.Errorf("by name: %+v", rows)
	}
	if lines := s.Lines(); lines[0].Lines[0].Total != want {
		t.Errorf("lines: %+v", lines)
	}
	if d := s.DetailOf("x.c", 1); d.Callers[0].Total != want || d.Callees[0].Total != want {
		t.Errorf("detail: %+v", d)
	}
}

// Any number of goroutines may use one Sums. Run with -race.
func TestSumsAreShared(t *testing.T) {
	s := NewSums(randomProfile(1, 100, 10, false))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s.ByName()
			s.Lines()
			s.FunctionDetail("a", "")
		})
	}
	wg.Wait()
}

func TestHottestBounds(t *testing.T) {
	s := NewSums(mustParse(t, "cpu ns\nf@x.c:1 1\n"))
	for n, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 1} {
		if got := len(s.Hottest(n)); got != want {
			t.Errorf("the %d hottest lines are %d, want %d", n, got, want)
		}
	}
}
