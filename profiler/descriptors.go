package profiler

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// Descriptors is the kind of the series that a DescriptorWatch gives: a sample for each descriptor that is
// open, with the stack that opened it.
const Descriptors profile.Kind = "descriptors"

// A DescriptorWatch follows which code opens the descriptors of some processes. What was open before is
// not known to it. It needs CAP_BPF and CAP_PERFMON, or root, and Linux 5.8.
//
// All methods may be called by any goroutine. One goroutine of its own reads the kernel's events, from
// WatchDescriptors to Close.
type DescriptorWatch struct {
	source *bpf.Descriptors
	files  *codeFiles
	done   chan struct{} // closed when the goroutine has ended

	mu   sync.Mutex // guards what follows
	b    *builder
	open map[descriptorKey]openDescriptor
	err  error // that ended the goroutine
	stop sync.Once
}

type descriptorKey struct{ pid, fd int }

type openDescriptor struct {
	stack profile.StackID
	task  profile.TaskID
	at    time.Duration // since the start
	order uint64
}

// An OpenDescriptor is one descriptor that is open, and when it was opened, since the watch began.
type OpenDescriptor struct {
	PID, FD int
	Opened  time.Duration
}

// WatchDescriptors begins to follow processes. FrameTable is as in Options. The error wraps
// ErrNoPermission where a privilege is missing.
func WatchDescriptors(pids []int, frameTable func(io.ReaderAt) (FrameTable, error)) (*DescriptorWatch, error) {
	source, err := bpf.NewDescriptors()
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("watch which lines open descriptors: %w%w", err, silent{ErrNoPermission})
		}
		return nil, fmt.Errorf("watch which lines open descriptors: %w", err)
	}
	w := &DescriptorWatch{source: source, files: newCodeFiles(), done: make(chan struct{}), open: map[descriptorKey]openDescriptor{}}
	w.b = newBuilder(profile.Target{}, &machine{files: w.files}, time.Now(), monotonic(), 0)
	w.b.c.Series = []profile.Series{{Kind: Descriptors, Unit: profile.Number}}
	w.b.samples = &w.b.c.Series[0].Samples
	w.b.depth = perfevent.MaxStack()
	w.b.frames = newLeafFrames(frameTable, w.files.reader)
	for _, pid := range pids {
		// What it has mapped is read while it is there.
		bytes := descriptorStack
		if p := w.b.tracker.process(pid); framedProgram(p) {
			bytes = 0
		}
		if err := source.Watch(uint32(pid), bytes); err != nil {
			source.Close()
			w.files.close()
			return nil, err
		}
	}
	w.b.unwinder = startUnwinder(w.files, frameTable, nil)
	go w.read()
	return w, nil
}

// descriptorStack is how much of a stack is copied where code may keep no frame pointers.
const descriptorStack = 16 << 10

// framedProgram says that all code that a process has mapped keeps frame pointers, but for the vdso, which
// opens nothing.
func framedProgram(p *process) bool {
	for _, r := range p.regions {
		if r.file == nil || r.file.kind == profile.FileCode && !r.file.image.framed() {
			return false
		}
	}
	return len(p.regions) > 0
}

// silent is an error that tells callers something and readers nothing: another in the chain has said it.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// read takes events until Close.
func (w *DescriptorWatch) read() {
	defer close(w.done)
	var e bpf.DescriptorEvent
	for n := uint64(0); ; n++ {
		err := w.source.ReadInto(&e)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		w.mu.Lock()
		if err == nil {
			w.event(&e, n)
		} else if !errors.Is(err, os.ErrClosed) {
			w.err = err
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *DescriptorWatch) event(e *bpf.DescriptorEvent, order uint64) {
	pid, tid := int(e.Sample.PID), int(e.Sample.TID)
	if !e.Opened {
		if e.First == e.Last {
			delete(w.open, descriptorKey{pid, int(e.First)})
			return
		}
		for key := range w.open { // of a range, which may be all numbers there are
			if key.pid == pid && key.fd >= int(e.First) && key.fd <= int(e.Last) {
				delete(w.open, key)
			}
		}
		return
	}
	p := w.b.tracker.process(pid)
	p.stale = true // nobody tells of what it maps: it is asked where an address is in nothing that is known
	th := w.b.tracker.thread(p, tid)
	user := e.Sample.User
	for len(user) > 0 && user[len(user)-1] == 0 {
		user = user[:len(user)-1]
	}
	x := openDescriptor{order: order, task: w.b.task(p, th, tid)}
	x.stack = w.b.eventStack(p, th, tid, user, &registers{
		sp: e.Sample.SP, fp: e.Sample.FP, link: e.Sample.Link, top: e.Sample.Top, cut: len(user) >= w.b.depth,
		all: e.Sample.Registers, stack: e.Sample.Stack,
	})
	if e.Sample.Time > w.b.zero {
		x.at = time.Duration(e.Sample.Time - w.b.zero)
	}
	for i, fd := range []int32{e.First, e.Last} {
		if fd >= 0 && (i == 0 || fd != e.First) {
			w.open[descriptorKey{pid, int(fd)}] = x
		}
	}
}

// Capture is the descriptors that were opened since the watch began and are open still: one sample each,
// by the time of opening, and in the same order which they are. The capture is not symbolized, and the
// caller's own. The error is what ended the watch before Close.
func (w *DescriptorWatch) Capture() (*profile.Capture, []OpenDescriptor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]descriptorKey, 0, len(w.open))
	for key := range w.open {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b descriptorKey) int {
		x, y := w.open[a], w.open[b]
		return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(a.fd, b.fd))
	})
	var samples profile.Samples
	descriptors := make([]OpenDescriptor, 0, len(keys))
	for _, key := range keys {
		x := w.open[key]
		samples.Append(profile.Sample{Stack: x.stack, Task: x.task, Time: x.at, Count: 1, Weight: 1})
		descriptors = append(descriptors, OpenDescriptor{key.pid, key.fd, x.at})
	}
	w.b.finish(time.Duration(monotonic()-w.b.zero), w.source.Lost())
	c := w.b.c.View()
	c.Series = []profile.Series{{Kind: Descriptors, Unit: profile.Number, Samples: samples}}
	return c, descriptors, w.err
}

// Binary is as Recording.Binary, for the mappings of Capture.
func (w *DescriptorWatch) Binary(id profile.MappingID) (io.ReaderAt, error) {
	w.mu.Lock()
	f := w.b.file(id)
	w.mu.Unlock()
	return w.files.binary(id, f)
}

// Close ends the watch and closes the files that it holds.
func (w *DescriptorWatch) Close() error {
	err := w.source.Close()
	<-w.done
	w.stop.Do(func() { w.b.unwinder.stop() })
	w.files.close()
	return err
}
