package process

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// A Thread is what was seen of one thread over an interval.
type Thread struct {
	TID       int
	Name      string // up to 15 bytes, which may be any
	State     State
	Processor int // it ran on last

	// Running and Runnable are how long, within Over, it was on a processor and how long it waited for
	// one, by the scheduler's own count (/proc/PID/task/TID/schedstat).
	Running, Runnable, Over time.Duration

	// Wait is the function of the kernel that it sleeps in, "" where it runs or the kernel does not say:
	// it tells of one's own processes only.
	Wait string
}

// Share is the part of the interval that the thread was on a processor.
func (t *Thread) Share() float64 {
	if t.Over <= 0 {
		return 0
	}
	return float64(t.Running) / float64(t.Over)
}

// A ThreadSampler looks at the threads of one process again and again.
type ThreadSampler struct {
	id     ID
	proc   string
	reader *procReader
	before map[int]schedule
}

type schedule struct {
	start             uint64
	at                time.Time
	running, runnable time.Duration
}

// NewThreadSampler makes one for a process; proc is as in Options.
func NewThreadSampler(id ID, proc string) *ThreadSampler {
	r := newProcReader(proc)
	return &ThreadSampler{id: id, proc: r.root, reader: r}
}

// ErrGone says that a process has ended, or that its number is another's now.
type ErrGone struct{ PID int }

func (e ErrGone) Error() string { return fmt.Sprintf("process %d has ended", e.PID) }

// Look is the threads as they are now, by TID, with what each did since the look before; at the first
// look, since its start. The error is ErrGone where the process has ended.
func (s *ThreadSampler) Look(ctx context.Context) ([]Thread, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	tids, err := ids(s.reader.name(s.id.PID, "task"))
	if err != nil {
		return nil, ErrGone{s.id.PID}
	}
	slices.Sort(tids)
	// A thread's folder has the files of a process's.
	task, err := procfs.NewFS(filepath.Join(s.proc, strconv.Itoa(s.id.PID), "task"))
	if err != nil {
		return nil, ErrGone{s.id.PID}
	}
	r := newProcReader(filepath.Join(s.proc, strconv.Itoa(s.id.PID), "task"))
	threads := make([]Thread, 0, len(tids))
	before := make(map[int]schedule, len(tids))
	for _, tid := range tids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		text, err := r.read(tid, "stat")
		if err != nil {
			continue // it has ended
		}
		st, err := parseStat(text)
		if err != nil {
			continue
		}
		now := schedule{start: st.start, at: time.Now()}
		t := Thread{TID: tid, Name: st.name, State: st.state, Processor: st.processor}
		if p, err := task.Proc(tid); err == nil {
			if x, err := p.Schedstat(); err == nil {
				now.running, now.runnable = time.Duration(x.RunningNanoseconds), time.Duration(x.WaitingNanoseconds)
			} else {
				now.running = ticks(st.user + st.system)
			}
			if w, err := p.Wchan(); err == nil && strings.Trim(w, "0") != "" {
				t.Wait = w
			}
		}
		t.Running, t.Runnable = now.running, now.runnable
		if was, ok := s.before[tid]; ok && was.start == st.start {
			t.Running, t.Runnable, t.Over = max(0, now.running-was.running), max(0, now.runnable-was.runnable), now.at.Sub(was.at)
		} else {
			t.Over = max(0, bootTime()-ticks(st.start))
		}
		before[tid] = now
		threads = append(threads, t)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	s.before = before
	return threads, nil
}

// check finds out whether the process is the one that it was.
func (s *ThreadSampler) check() error {
	text, err := s.reader.read(s.id.PID, "stat")
	if err != nil {
		return ErrGone{s.id.PID}
	}
	if st, err := parseStat(text); err != nil || s.id.Start != 0 && st.start != s.id.Start {
		return ErrGone{s.id.PID}
	}
	return nil
}

// Find is the process that has a number now.
func Find(pid int, proc string) (ID, error) {
	r := newProcReader(cmp.Or(proc, DefaultProc))
	text, err := r.read(pid, "stat")
	if gone(err) {
		return ID{}, fmt.Errorf("look at process %d: there is none of this number; `sightline ps` lists them", pid)
	}
	if err != nil {
		return ID{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	st, err := parseStat(text)
	if err != nil {
		return ID{}, fmt.Errorf("look at process %d: %s: %w", pid, r.name(pid, "stat"), err)
	}
	return ID{pid, st.start}, nil
}
