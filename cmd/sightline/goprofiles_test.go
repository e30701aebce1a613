package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// kinds is a test that allocates 16 MiB, waits for a channel and has another goroutine wait for a lock.
const kinds = `
-- go.mod --
module example.com/kinds

go 1.22
-- kinds_test.go --
package kinds

import (
	"os"
	"sync"
	"testing"
	"time"
)

var keep [][]byte

func TestKinds(t *testing.T) {
	keep = nil
	for i := 0; i < 256; i++ {
		keep = append(keep, make([]byte, 1<<16)) // allocates
	}
	c := make(chan int)
	go func() {
		time.Sleep(50 * time.Millisecond)
		c <- 1
	}()
	<-c // waits
	var mu sync.Mutex
	mu.Lock()
	done := make(chan bool)
	go func() {
		mu.Lock()
		mu.Unlock()
		close(done)
	}()
	time.Sleep(100 * time.Millisecond)
	mu.Unlock() // is waited for
	<-done
}

func TestExits(t *testing.T) { os.Exit(0) }

func TestComputes(t *testing.T) {
	x := uint64(1)
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		for i := 0; i < 1000; i++ {
			x = x*2862933555777941757 + 3037000493
		}
	}
	keep = append(keep, make([]byte, 1<<24|int(x&1))) // allocates once
}
`

// costOf is the weight and count of a line in the newest capture's series of a kind.
func costOf(t *testing.T, comment, kind string) (weight, count int64) {
	t.Helper()
	a := decode[annotated](t, mustRun(t, "lines", "kinds_test.go", "--json", "--kind", kind, "--capture", "@"))
	line := lineOf(t, "kinds_test.go", comment)
	for _, l := range a.Lines {
		if l.Line == line {
			return l.Total, l.Count
		}
	}
	return 0, 0
}

func TestKindsOfATest(t *testing.T) {
	inModule(t, kinds)
	out := mustRun(t, "test", "-run", "TestKinds", "--kind", "mutex,heap,block")
	for _, want := range []string{"allocated", "blocked", "of contention", "runtime engine", "objects"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if weight, count := costOf(t, "allocates", "alloc"); weight < 16<<20 || weight > 18<<20 || count < 256 {
		t.Errorf("%d bytes in %d objects, want some more than %d in 256", weight, count, 16<<20)
	}
	if weight, _ := costOf(t, "allocates", "in-use"); weight < 16<<20 || weight > 18<<20 {
		t.Errorf("%d bytes are in use, want some more than %d", weight, 16<<20)
	}
	if weight, count := costOf(t, "waits", "blocked"); weight < 40e6 || count != 1 {
		t.Errorf("waits %d times, for %d ns; want once, for 50 ms", count, weight)
	}
	if weight, count := costOf(t, "is waited for", "contention"); weight <= 0 || count < 1 {
		t.Errorf("waited for %d times, for %d ns", count, weight)
	}
	var got []profile.Kind
	for _, k := range decode[captureJSON](t, mustRun(t, "show", "@", "--json")).Kinds {
		got = append(got, k.Kind)
	}
	if want := []profile.Kind{profile.Alloc, profile.InUse, profile.Blocked, profile.Contention}; !slices.Equal(got, want) {
		t.Errorf("kinds %v, want %v", got, want)
	}
}

// Beside the CPU's samples the test is repeated, and what each run allocates adds up.
func TestKindsBesideCPU(t *testing.T) {
	inModule(t, kinds)
	mustRun(t, "test", "-run", "TestComputes", "--kind", "cpu,heap", "--samples", "200", "--max", "20s")
	weight, count := costOf(t, "allocates once", "alloc")
	if weight < 2<<24 || count < 2 {
		t.Errorf("%d bytes in %d objects: the runs do not add up", weight, count)
	}
	if inUse, _ := costOf(t, "allocates once", "in-use"); inUse < 1<<24 || inUse > weight/2 {
		t.Errorf("%d bytes are in use at the end of a run that has %d of %d", inUse, 1<<24, weight)
	}
	if list := decode[captureJSON](t, mustRun(t, "show", "@", "--json")).Kinds; len(list) != 3 || list[0].Kind != profile.CPU {
		t.Errorf("kinds %v", list)
	}
}

func TestKindsRefused(t *testing.T) {
	inModule(t, kinds)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--kind", "heat"}, "--kind heat is nothing that a test tells; use cpu, heap, block, mutex"},
		{[]string{"-run", "TestExits", "--kind", "heap"}, "ended before it wrote a profile"},
		{[]string{"--", "-memprofile", "x"}, "--kind asks for it"},
	} {
		status, _, stderr := sightline(t, append([]string{"test"}, c.args...)...)
		if status == exitDone || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %s; want %q", c.args, status, stderr, c.want)
		}
	}
}
