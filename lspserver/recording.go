package lspserver

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// liveInterval is how often at most live numbers are made anew; so often clients refresh.
const liveInterval = 500 * time.Millisecond

// reportInterval is how often at most progress is reported within a phase.
const reportInterval = 200 * time.Millisecond

// A recording is one that is under way. It belongs to the hub, which follows it to its end; sessions
// show it (attended).
type recording struct {
	req   Request
	owner *server // whose client began it; nil where another process records
	store string  // path of the store that takes the capture; "" where that is not known

	number int    // of those of its hub; set by Hub.begin
	name   string // for people: "TestFib"
	// target is what is recorded, in the words of its capture: "go test ./fib -run TestFib".
	target string
	dir    string       // package folder of a test; ""
	test   *TestRequest // nil for other targets
	other  string       // what tells a native test or launch target from others; ""
	builds bool         // it begins with building
	place  string       // file or folder whose workspace takes the capture; "" is where the target runs
	tags   string       // the build constraint of the test's file; ""
	run    Recording    // nil until it has started

	ended  chan struct{} // closed when result and err are set
	source sourceOf      // nil: there are no live numbers

	// texts are the files that were open when it began, as they were on disk then: what is being
	// built. By canonical path.
	texts map[string][]byte

	views profile.Follower // of the goroutine that follows the recording

	mu        sync.Mutex // guards what follows
	last      Update
	stopped   bool // stop was asked for, perhaps before run was there
	discarded bool
	output    tail // what the target wrote
	live      *loaded
	liveAt    time.Time // when live was made
	shown     func()    // Update.Shown of the last live; may be nil
	watchers  map[chan struct{}]bool
	result    Result
	err       error
}

func newRecording(req Request, owner *server) *recording {
	return &recording{req: req, owner: owner, ended: make(chan struct{}), watchers: map[chan struct{}]bool{}}
}

// attended is a recording as one session shows it.
type attended struct {
	*recording
	own  bool          // its client began it
	done chan struct{} // closed when it is over and its numbers are shown here
}

// is says whether the recording is that of a test.
func (r *recording) is(dir, run, bench string) bool {
	return r.test != nil && r.dir == dir && r.test.Run == run && r.test.Bench == bench
}

// stop ends the recording and keeps it.
func (r *recording) stop() {
	r.mu.Lock()
	r.stopped = true
	run := r.run
	r.mu.Unlock()
	if run != nil {
		run.Stop()
	}
}

func (r *recording) discard() {
	r.mu.Lock()
	r.discarded = true
	run := r.run
	r.mu.Unlock()
	if run != nil {
		run.Discard()
	}
}

// started gives the recording its run; a stop that came before is made up for.
func (r *recording) started(run Recording) {
	r.mu.Lock()
	r.run = run
	stopped, discarded := r.stopped, r.discarded
	r.mu.Unlock()
	if discarded {
		run.Discard()
	} else if stopped {
		run.Stop()
	}
}

func (r *recording) wasDiscarded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.discarded
}

func (r *recording) update(u Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.Phase == "" {
		u.Phase = r.last.Phase
	}
	// An update may carry only output.
	u.Elapsed, u.Samples = max(u.Elapsed, r.last.Elapsed), max(u.Samples, r.last.Samples)
	r.last = Update{Elapsed: u.Elapsed, Samples: u.Samples, Phase: u.Phase, Note: u.Note}
	r.output.write(u.Output)
}

// wrote is a copy of what the target wrote so far.
func (r *recording) wrote() *tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &tail{slices.Clone(r.output.kept)}
}

// state is how far the recording is.
func (r *recording) state() (elapsed time.Duration, samples int, phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Elapsed, r.last.Samples, r.last.Phase
}

// note is what is being waited for; "" where there is nothing to say of it.
func (r *recording) note() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Note
}

// status is the recording in words, for a lens.
func (r *recording) status() string {
	elapsed, samples, _ := r.state()
	if r.phase() == PhaseBuilding {
		return "building…"
	}
	return fmt.Sprintf("recording… %s, %s", Duration(elapsed), Samples(int64(samples)))
}

// progress is the recording in words, for the client's progress display.
func (r *recording) progress() string {
	elapsed, samples, _ := r.state()
	switch r.phase() {
	case PhaseRecording:
		return fmt.Sprintf("recording %s · %s", Duration(elapsed), Samples(int64(samples)))
	case PhaseSymbolizing:
		if note := r.note(); note != "" {
			return note
		}
		return "reading symbols of " + Samples(int64(samples))
	case PhaseStoring:
		return "storing " + Samples(int64(samples))
	}
	return "building"
}

// runRecording records to the end. The client may end it in three ways, all of which keep what was
// recorded: by cancelling the progress, by cancelling the call, and by sightline.stop. Where another
// client records the same target, that recording is shared.
func (s *server) runRecording(c call, r *recording) (any, error) {
	if s.cfg.Recorder == nil {
		return nil, errState("this build of the server cannot record: run the program sightline itself as the language server")
	}
	w := s.workspaceFor(r.place, r.req)
	a := &attended{recording: r, own: true, done: make(chan struct{})}
	s.mu.Lock()
	if other := s.recording; other != nil && other.own {
		s.mu.Unlock()
		elapsed, _, _ := other.state()
		return nil, errState("%s is being recorded since %s: stop it with sightline.stop, or drop it with sightline.discard, before another begins", other.name, Duration(elapsed))
	}
	req := &r.req
	req.Workspace, req.Freq, req.Engine, req.Prefixes = w.root, s.settings.frequency, s.settings.engine, s.settings.prefixes
	req.DebugFolders = s.settings.debugFolders
	if req.For == 0 {
		req.For = time.Duration(s.settings.recordingLimit * float64(time.Second))
	}
	r.target = req.name()
	s.recording = a // instead of another client's, which goes on
	s.mu.Unlock()
	r.store = s.storePathOf(w)
	r.texts = s.textsOnDisk()
	r.source = func(c *profile.Capture) func(string) []byte { return s.liveSource(r, c) }

	lives := s.ctx
	if s.hub.shared {
		lives = context.WithoutCancel(s.ctx) // the client may go away, the recording goes on
	}
	of, err := s.hub.begin(r, func() (Recording, error) { return s.cfg.Recorder.Start(lives, *req) })
	if err != nil {
		s.over(a)
		return nil, errState("%v", err)
	}
	if of != r {
		shared := &attended{recording: of, own: true, done: a.done}
		s.mu.Lock()
		if s.recording == a {
			s.recording = shared
		}
		s.mu.Unlock()
		a = shared
		if other := s.workspaceOfStore(of.store); other != nil {
			w = other
		}
	}
	defer context.AfterFunc(c.ctx, func() {
		if !s.hub.shared || s.ctx.Err() == nil { // the call was cancelled; else the client went away
			a.stop()
		}
	})()
	go s.tellWhile(a)
	s.refresh.lensesOnly()
	return s.attend(w, a, c)
}

// accompany shows a recording that another client began, or another process makes, where it goes
// into a store of this session.
func (s *server) accompany(r *recording) {
	w := s.workspaceOfStore(r.store)
	if w == nil {
		return
	}
	a := &attended{recording: r, done: make(chan struct{})}
	s.mu.Lock()
	if s.recording != nil || s.ctx.Err() != nil {
		s.mu.Unlock()
		return
	}
	s.recording = a
	s.mu.Unlock()
	go s.tellWhile(a)
	s.refresh.lensesOnly()
	go func() { _, _ = s.attend(w, a, call{ctx: s.ctx}) }() // ends with the recording, or the session
}

// attend shows a recording to its end.
func (s *server) attend(w *workspace, a *attended, c call) (any, error) {
	begin := func() *rpc.Progress {
		return s.client.Begin(context.WithoutCancel(c.ctx), rpc.Work{
			Token: c.token, Title: "Profiling " + a.name, Message: a.progress(), Cancellable: true, OnCancel: a.stop,
		})
	}
	progress := make(chan *rpc.Progress, 1)
	if c.token != nil {
		progress <- begin()
	} else {
		// The client is asked, and may take its time or never answer: the recording does not wait.
		go func() { progress <- begin() }()
	}
	if !s.follow(a, progress) {
		s.over(a)
		return nil, s.ctx.Err()
	}
	result, err := a.outcome()
	res := s.finish(w, a, result, err)
	select {
	case p := <-progress:
		p.End(res.Message) // before the answer, after which the client's token means nothing
	default:
		go func() { (<-progress).End(res.Message) }()
	}
	if err != nil {
		return nil, errState("%s", withOutput(err, a.wrote()))
	}
	return res, nil
}

// withOutput is an error, with the end of what the target wrote unless the error has it: the
// compiler's message where a test does not compile.
func withOutput(err error, output *tail) string {
	text, last := err.Error(), output.last()
	if last == "" || strings.Contains(text, strings.TrimSpace(last[strings.LastIndexByte(last, '\n')+1:])) {
		return text
	}
	return text + "\n" + last
}

// follow shows how a recording goes until it ends. It says false where the session ended first.
func (s *server) follow(a *attended, progress chan *rpc.Progress) (ended bool) {
	var shown *rpc.Progress
	var lens, told time.Time // when lenses and progress were shown last
	var live *loaded
	phase, toldPhase := "", a.phase()
	news, stop := a.watch()
	defer stop()
	var gone <-chan struct{}
	if s.hub.shared {
		gone = s.ctx.Done()
	}
	look := func() {
		now := time.Now()
		if p := a.phase(); p != toldPhase {
			toldPhase = p
			s.tellChanged()
		}
		if _, _, p := a.state(); shown != nil && (p != phase || now.Sub(told) >= reportInterval) {
			phase, told = p, now
			shown.Report(a.progress(), -1)
		}
		l, storing := a.numbers()
		switch {
		case l != live:
			live, lens = l, now
			s.mu.Lock()
			if s.recording == a {
				s.live = l
			}
			s.mu.Unlock()
			if storing {
				s.refresh.now()
				a.tellShown()
			} else {
				s.refresh.all()
			}
		case now.Sub(lens) >= time.Second:
			lens = now
			s.refresh.lensesOnly()
		}
	}
	for {
		select {
		case p := <-progress:
			shown = p
			_, _, phase = a.state()
			p.Report(a.progress(), -1)
			continue
		case <-news:
			look()
			continue
		case <-gone:
		case <-a.ended:
			look()
			ended = true
		}
		if shown != nil {
			progress <- shown
		}
		return ended
	}
}

// over makes room for another recording: one of this client, or another that is under way.
func (s *server) over(r *attended) {
	s.mu.Lock()
	if s.recording == r {
		s.recording, s.live = nil, nil
	}
	s.mu.Unlock()
	close(r.done)
	if s.hub.shared {
		s.accompanyAny()
	}
	s.tellChanged()
	s.refresh.all()
}

// accompanyAny shows a recording that is under way, if there is one to show.
func (s *server) accompanyAny() {
	for _, r := range s.hub.recordings() {
		s.accompany(r)
	}
}

// underway is the recording under way; an error that says so where there is none.
func (s *server) underway() (*attended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording == nil {
		return nil, errState("nothing is being recorded: start with sightline.profileTest or sightline.record")
	}
	return s.recording, nil
}

// stopRecording ends the recording under way and keeps it. The command that started it answers its
// result.
func (s *server) stopRecording(call, noArgs) (any, error) {
	r, err := s.underway()
	if err != nil {
		return nil, err
	}
	r.stop()
	return map[string]string{"stopping": r.name}, nil
}

// discardRecording ends the recording under way and drops it.
func (s *server) discardRecording(call, noArgs) (any, error) {
	r, err := s.underway()
	if err != nil {
		return nil, err
	}
	r.discard()
	return map[string]string{"discarding": r.name}, nil
}

// textsOnDisk reads the files of all open documents.
func (s *server) textsOnDisk() map[string][]byte {
	texts := map[string][]byte{}
	for _, d := range s.documents() {
		if d.path == "" {
			continue
		}
		if data, err := os.ReadFile(d.path); err == nil {
			texts[d.real] = data
		}
	}
	return texts
}

// liveSource reads source texts while recording: those that the capture has already, or else those
// of when recording began.
func (s *server) liveSource(r *recording, c *profile.Capture) func(path string) []byte {
	return func(path string) []byte {
		local := ""
		for i := range c.Symbols.Sources {
			if src := &c.Symbols.Sources[i]; src.Path == path {
				if src.Text != nil {
					return src.Text
				}
				local = src.Local
			}
		}
		paths := s.paths.Load()
		if local == "" {
			local, _ = paths.Local(path)
		}
		return r.texts[paths.Canonical(local)]
	}
}
