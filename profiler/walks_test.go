package profiler_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// whole is the share of the weight on stacks whose walk came to the root. Samples that lie in the
// kernel alone, as while a program is being started, have no user stack.
func (c *recorded) whole() float64 {
	var part, all int64
	s := &c.Of(profile.CPU).Samples
	for i, id := range s.Stack {
		root := c.Locations[c.Stacks.RootFirst(id, nil)[0]]
		if c.Mappings[root.Mapping].Kind == profile.KernelCode {
			continue
		}
		all += s.Weight[i]
		if root.Root {
			part += s.Weight[i]
		}
	}
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// reasons are why stacks are broken, with how many were.
func (c *recorded) reasons() map[string]int64 {
	found := map[string]int64{}
	for _, w := range c.Warnings {
		if b, ok := w.Broken(); ok {
			found[b.Reason] += b.Count
		}
	}
	return found
}

// Code without frame pointers has whole stacks: through callbacks of libc, in threads, and in signal
// handlers; a second recording takes the rows from where the first one has put them.
func TestRecordBare(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		rows := filepath.Join(t.TempDir(), "rows")
		for _, round := range []string{"rows made", "rows kept"} {
			c := recordWith(t, profiler.Options{Engine: e, RowsDir: rows}, exec.Command(program(t, "bare"), "0.5"))
			between(t, round+": whole stacks", c.whole(), 0.99, 1)
			between(t, round+": total of compare", c.share(t, "compare", false), 0.02, 0.9)
			var below, compares, handled, inHandler time.Duration
			for stack, w := range c.stacks(t) {
				if strings.Contains(stack, ";compare") {
					compares += w
					if strings.Contains(stack, ";work;sorted;qsort") {
						below += w
					}
				}
				if strings.Contains(stack, ";handler") {
					handled += w
					if i := strings.Index(stack, ";main;"); i > 0 && i < strings.Index(stack, ";handler") {
						inHandler += w
					}
				}
			}
			between(t, round+": compare below work, sorted and qsort", float64(below)/float64(compares), 0.98, 1)
			if handled > 0 {
				between(t, round+": handler below what it interrupted", float64(inHandler)/float64(handled), 0.8, 1)
			}
			if found, err := os.ReadDir(rows); err != nil || len(found) < 2 {
				t.Errorf("%s: %d files of rows, %v", round, len(found), err)
			}
			c.dump(t)
		}
	})
}

// Without copies the same stacks are broken, and nothing says otherwise.
func TestRecordBareByFramePointers(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := recordWith(t, profiler.Options{Engine: e, StackBytes: -1}, exec.Command(program(t, "bare"), "0.2"))
		between(t, "whole stacks", c.whole(), 0, 0)
		if r := c.reasons(); len(r) != 0 {
			t.Errorf("reasons %v", r)
		}
	})
}

// Stacks that are deeper than what is copied are cut, and that is said. The BPF engine copies more when
// it has seen that.
func TestRecordBareDeep(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		c := recordWith(t, profiler.Options{Engine: e, StackBytes: 2 << 10}, exec.Command(program(t, "bare"), "0.5", "150"))
		defer c.dump(t)
		cut := c.reasons()["cut by copy"]
		if e == profiler.PerfEngine {
			between(t, "whole stacks", c.whole(), 0.1, 0.9)
			if cut == 0 {
				t.Errorf("reasons %v", c.reasons())
			}
			return
		}
		between(t, "whole stacks", c.whole(), 0.9, 1)
	})
}

// Frames that the kernel has found are right in Go code, so nothing is copied there.
func TestRecordGoIsNotCopied(t *testing.T) {
	engines(t, func(t *testing.T, e profiler.Engine) {
		cmd := startProgram(t, true, "threads", "4")
		r, err := profiler.Start(t.Context(), profiler.Target{PID: cmd.Process.Pid}, profiler.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		waitFor(t, "samples", func() bool { return r.View().Series[0].Samples.Len() > 200 })
		c := finish(t, r)
		between(t, "stacks that were walked by rows", c.whole(), 0, 0)
	})
}
