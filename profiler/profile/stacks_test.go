package profile

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStacksAreATree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewStacks[FrameID]()
	want := [][]FrameID{nil} // by id: the stack's frames, root first
	ids := map[string]StackID{"": 0}
	for range 2000 {
		parent := StackID(r.IntN(s.Len()))
		frame := FrameID(1 + r.IntN(5))
		id := s.Intern(parent, frame)
		frames := append(slices.Clone(want[parent]), frame)
		key := ""
		for _, f := range frames {
			key += string(rune(f))
		}
		if old, ok := ids[key]; ok && old != id {
			t.Fatalf("%v is both %d and %d", frames, old, id)
		} else if !ok {
			if int(id) != len(want) {
				t.Fatalf("new stack %d, want %d", id, len(want))
			}
			ids[key] = id
			want = append(want, frames)
		}
		if s.Parent(id) != parent || s.Leaf(id) != frame || parent >= id {
			t.Fatalf("stack %d of %d and %d has parent %d and leaf %d", id, parent, frame, s.Parent(id), s.Leaf(id))
		}
	}
	if s.Len() != len(want) {
		t.Errorf("%d stacks, want %d", s.Len(), len(want))
	}
	parents, leaves := s.Columns()
	again := StacksOf(slices.Clone(parents), slices.Clone(leaves))
	var buf []FrameID
	for id := range StackID(s.Len()) {
		buf = s.RootFirst(id, buf)
		if !slices.Equal(buf, want[id]) {
			t.Errorf("stack %d is %v, want %v", id, buf, want[id])
		}
		leafFirst := slices.Collect(s.LeafFirst(id))
		slices.Reverse(leafFirst)
		if !slices.Equal(leafFirst, want[id]) {
			t.Errorf("stack %d is from its leaf %v, want %v", id, leafFirst, want[id])
		}
		if id != 0 && again.Intern(parents[id], leaves[id]) != id {
			t.Errorf("stack %d got a second id from its columns", id)
		}
	}
	for f := range s.LeafFirst(StackID(s.Len() - 1)) {
		_ = f
		break // must not walk on
	}
}

func TestRootFirstUsesBuf(t *testing.T) {
	s := NewStacks[FrameID]()
	id := s.Intern(s.Intern(0, 1), 2)
	buf := make([]FrameID, 0, 8)
	if got := s.RootFirst(id, buf); &got[0] != &buf[:1][0] {
		t.Error("a large enough buffer was not used")
	}
	if got := s.RootFirst(id, buf[:0:1]); !slices.Equal(got, []FrameID{1, 2}) {
		t.Errorf("a small buffer gave %v", got)
	}
	if got := s.RootFirst(0, buf); len(got) != 0 {
		t.Errorf("the empty stack is %v", got)
	}
}

// A view must stay as it was, and be readable without the lock, while its origin grows. Run with
// -race.
func TestViewIsStable(t *testing.T) {
	var mu sync.Mutex // guards c
	c := NewCapture(Target{}, time.Time{})
	c.Series = []Series{{Kind: CPU, Unit: Nanoseconds}}
	const steps = 1000
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for n := range steps {
			mu.Lock()
			c.Tasks = append(c.Tasks, Task{PID: n + 1})
			c.Mappings = append(c.Mappings, Mapping{Kind: FileCode})
			c.Mappings[1].BuildID += "x"
			c.Locations = append(c.Locations, Location{Mapping: MappingID(n + 1)})
			id := c.Stacks.Intern(StackID(n/2), LocationID(n+1))
			x := Sample{Stack: id, Task: TaskID(n + 1), Time: time.Duration(n), Count: 1, Weight: 1}
			if n == 100 {
				x.Count = 2 // from here on there is a column of counts
			}
			c.Series[0].Samples.Append(x)
			c.Warn(WarnLost, 1, "lost")
			mu.Unlock()
			if n%10 == 0 {
				time.Sleep(100 * time.Microsecond) // so that several views fall in between
			}
		}
	})
	for grown := 0; grown < steps; {
		mu.Lock()
		v := c.View()
		mu.Unlock()
		first := string(v.AppendText(nil))
		if err := v.Check(); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Profile(CPU); err != nil {
			t.Fatal(err)
		}
		if now := string(v.AppendText(nil)); now != first {
			t.Fatalf("the view changed:\n%s", cmp.Diff(first, now))
		}
		grown = v.Series[0].Samples.Len()
	}
}

// Appending to a view must not write where its origin will.
func TestViewDoesNotReachBack(t *testing.T) {
	c := NewCapture(Target{}, time.Time{})
	c.Series = []Series{{Kind: CPU}}
	c.Tasks = append(make([]Task, 0, 8), c.Tasks...)
	c.Locations = append(make([]Location, 0, 8), c.Locations...)
	c.Series[0].Samples = Samples{
		Stack: make([]StackID, 0, 8), Task: make([]TaskID, 0, 8), Time: make([]time.Duration, 0, 8), Weight: make([]int64, 0, 8),
	}
	v := c.View()
	v.Tasks = append(v.Tasks, Task{PID: 1})
	v.Locations = append(v.Locations, Location{Addr: 1})
	v.Series[0].Samples.Append(Sample{Weight: 1, Count: 1})
	c.Tasks = append(c.Tasks, Task{PID: 2})
	c.Locations = append(c.Locations, Location{Addr: 2})
	c.Series[0].Samples.Append(Sample{Weight: 2, Count: 1})
	if v.Tasks[1].PID != 1 || v.Locations[1].Addr != 1 || v.Series[0].Samples.Weight[0] != 1 {
		t.Error("the view shares room to grow with its origin")
	}
}

func TestSamples(t *testing.T) {
	want := []Sample{
		{Stack: 1, Task: 2, Time: 3, Weight: 4, Count: 1},
		{Stack: 5, Task: 6, Time: 7, Weight: 8, Count: 1},
		{Stack: 9, Task: 10, Time: 11, Weight: -12, Count: 13},
		{Stack: 14, Task: 15, Time: 16, Weight: 17, Count: 1},
	}
	var s Samples
	for i, x := range want {
		s.Append(x)
		if hasCounts := s.Count != nil; hasCounts != (i >= 2) {
			t.Errorf("after sample %d: a column of counts is %v", i, hasCounts)
		}
		var sum Measure
		for k, x := range want[:i+1] {
			if got := s.At(k); got != x {
				t.Errorf("sample %d is %+v, want %+v", k, got, x)
			}
			sum.Add(Measure{x.Weight, x.Count})
		}
		if got := s.Sum(); got != sum || s.Len() != i+1 {
			t.Errorf("%d samples sum up to %+v, want %+v", s.Len(), got, sum)
		}
	}
	part := s.Slice(1, 3)
	if part.Len() != 2 || part.At(0) != want[1] || part.At(1) != want[2] {
		t.Errorf("samples 1 and 2 are %+v", part)
	}
	part.Append(Sample{})
	if got := s.At(3); got != want[3] {
		t.Errorf("appending to a slice made sample 3 %+v", got)
	}
}
