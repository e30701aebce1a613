package lspserver

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Announce shows the servers of h a recording that another process is about to make, whose capture goes
// into the store at path. They show how it goes and may end it. It returns at once.
//
// Where the same target is being recorded into that store already, run is not used, and the recording
// that is under way is returned. It needs Leave.
func (h *Hub) Announce(path string, req Request, run Recording) *Shared {
	r := newRecording(req, nil)
	r.name, r.store, r.target = req.title(), path, req.name()
	r.builds = req.Test != nil || req.Native != nil || len(req.Build) > 0
	if req.Test != nil {
		r.dir, r.test = req.Dir, req.Test
	}
	of, err := h.begin(r, func() (Recording, error) { return run, nil })
	if err != nil || of == r {
		return nil // the start does not fail
	}
	s := &Shared{of: of, updates: make(chan Update, 16), left: make(chan struct{})}
	go s.pass()
	return s
}

// sameTarget says whether two recordings record the same thing for the same store.
func (r *recording) sameTarget(o *recording) bool {
	a, b := r.req, o.req
	switch {
	case r.store != o.store:
		return false
	case a.Native != nil || b.Native != nil:
		return a.Native != nil && b.Native != nil && a.Native.File == b.Native.File && a.Native.Name == b.Native.Name && slices.Equal(a.Native.Args, b.Native.Args)
	case a.Test != nil && b.Test != nil:
		return a.Test.Package == b.Test.Package && a.Test.Run == b.Test.Run && a.Test.Bench == b.Test.Bench &&
			slices.Equal(a.Test.Args, b.Test.Args) && slices.Equal(a.Test.kinds(), b.Test.kinds())
	}
	return a.Test == nil && b.Test == nil && slices.Equal(a.Command, b.Command) && a.PID == b.PID && a.Machine == b.Machine &&
		(len(a.Command) == 0 || a.Dir == b.Dir && slices.Equal(a.Env, b.Env))
}

// kinds are what the test measures, in order.
func (t *TestRequest) kinds() []string {
	if len(t.Kinds) == 0 {
		return testKinds[:1]
	}
	return slices.Compact(slices.Sorted(slices.Values(t.Kinds)))
}

// Shared is a recording as somebody sees it who asked for the same and is no server of the hub. It is the
// same recording: who stops it stops it for all.
type Shared struct {
	of      *recording
	updates chan Update
	once    sync.Once
	left    chan struct{} // closed by Leave
}

var _ Recording = (*Shared)(nil)

// Name is what is recorded, for people; Elapsed since when.
func (s *Shared) Name() string { return s.of.name }

// Elapsed is for how long it has been recorded.
func (s *Shared) Elapsed() time.Duration { elapsed, _, _ := s.of.state(); return elapsed }

// Updates are without output and capture, which its own recorder has.
func (s *Shared) Updates() <-chan Update { return s.updates }
func (s *Shared) Stop()                  { s.of.stop() }
func (s *Shared) Discard()               { s.of.discard() }

// Wait is the end of the recording, or an error after Leave.
func (s *Shared) Wait() (Result, error) {
	select {
	case <-s.of.ended:
		return s.of.outcome()
	case <-s.left:
		return Result{}, fmt.Errorf("%s is still being recorded", s.of.name)
	}
}

// Leave lets the recording go, which goes on. It may be called more than once.
func (s *Shared) Leave() { s.once.Do(func() { close(s.left) }) }

// pass passes updates on until the recording has ended, or is left.
func (s *Shared) pass() {
	defer close(s.updates)
	news, stop := s.of.watch()
	defer stop()
	for {
		select {
		case <-news:
		case <-s.of.ended:
			return
		case <-s.left:
			return
		}
		elapsed, samples, _ := s.of.state()
		select {
		case s.updates <- Update{Elapsed: elapsed, Samples: samples, Phase: s.of.phase(), Note: s.of.note()}:
		default: // the next one says it too
		}
	}
}

// An Underway is a recording as it is now.
type Underway struct {
	Number  int    // of the hub's recordings, from 1
	Name    string // for people: "TestFib"
	Target  string // as its capture will be named
	Store   string // path of the store that takes it; "" where that is not known
	Phase   string
	Elapsed time.Duration
	Samples int
}

// Underway lists the recordings, in the order in which they began.
func (h *Hub) Underway() []Underway {
	var all []Underway
	for _, r := range h.recordings() {
		elapsed, samples, _ := r.state()
		all = append(all, Underway{r.number, r.name, r.target, r.store, r.phase(), elapsed, samples})
	}
	return all
}

// End ends the recording of a number (Underway.Number), which is kept, or dropped where discard is set.
// It returns at once; the channel is closed when it has ended, and is nil where none of that number is
// under way.
func (h *Hub) End(number int, discard bool) (ended <-chan struct{}) {
	for _, r := range h.recordings() {
		if r.number == number {
			if discard {
				r.discard()
			} else {
				r.stop()
			}
			return r.ended
		}
	}
	return nil
}
