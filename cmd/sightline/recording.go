package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/unwind"
	"github.com/sightline-dev/sightline/sourcemap"
)

// FlushEvery is how often what was recorded goes to the store. A crash loses no more than a second,
// which is that, what the kernel holds until it is read, and the time that writing takes.
const flushEvery = 700 * time.Millisecond

// LiveEvery is how often numbers are made while the target runs.
const liveEvery = time.Second

// ShowFirst is how long the numbers of a finished recording may keep it from being written as a whole.
// What was flushed is in the store.
const showFirst = 300 * time.Millisecond

// A recorder starts recordings: from the kernel through symbols into the store. It is what both
// the command line and the language server record with (lspserver.Recorder).
type recorder struct {
	open func(dir string) (*store.Store, error) // the store of dir's workspace
	// Live has every update carry the symbolized capture so far, for an editor that shows numbers
	// while the program runs.
	live bool
	// Bound has commands end with this process, however it ends. A test always does.
	bound   bool
	running sync.WaitGroup  // recordings that are not stored yet
	all     *sync.WaitGroup // counts them too, unless it is nil
	// Around is where programs are found and started.
	around *surroundings
	// StackBytes is profiler.Options.StackBytes.
	stackBytes int
	// Interruptible has an interrupt of this process give up what a recording waits for after its end.
	interruptible bool
	// Streams are given to a recorded command as they are; where out is nil its output comes as
	// updates. A test's output always does.
	streams streams
}

// Defaults of a test's repetition: enough samples that a line of 10 % is known to a tenth of itself.
const (
	defaultSamples = 1000
	defaultMax     = 30 * time.Second
)

var _ lspserver.Recorder = (*recorder)(nil)

// Start begins one recording. It ends by itself with its target, when Stop or Discard is called,
// or when ctx is cancelled, which keeps what was recorded as Stop does.
func (r *recorder) Start(ctx context.Context, req lspserver.Request) (lspserver.Recording, error) {
	s := &session{
		recorder: r,
		req:      req,
		updates:  make(chan lspserver.Update, 16),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	// The recording outlives ctx by the time it takes to keep it.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopWatch := context.AfterFunc(ctx, s.Stop)
	r.running.Add(1)
	if r.all != nil {
		r.all.Add(1)
	}
	go func() {
		defer r.running.Done()
		defer func() {
			if r.all != nil {
				r.all.Done()
			}
		}()
		defer close(s.done)
		defer close(s.updates)
		defer cancel()
		defer stopWatch()
		s.result, s.err = s.run(work)
	}()
	return s, nil
}

// A session is one recording on its way from the kernel to the store.
type session struct {
	recorder *recorder
	req      lspserver.Request
	updates  chan lspserver.Update

	stopOnce sync.Once
	stop     chan struct{} // closed by Stop
	discard  atomic.Bool
	done     chan struct{} // closed when result and err are set

	mu   sync.Mutex      // guards skip
	skip chan<- struct{} // gives up fetching debug files; nil while none are fetched

	result lspserver.Result
	err    error

	store *store.Store
	begun time.Time
	own   *goTest // a test that writes profiles of itself, beside what is recorded of it; nil
}

func (s *session) Updates() <-chan lspserver.Update { return s.updates }

func (s *session) Stop() {
	s.stopOnce.Do(func() { close(s.stop) })
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.skip <- struct{}{}:
	default: // nothing is fetched, or that is given up already
	}
}

func (s *session) Discard() {
	s.discard.Store(true)
	s.Stop()
}

func (s *session) Wait() (lspserver.Result, error) {
	<-s.done
	return s.result, s.err
}

func (s *session) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// Tell passes an update on. Nobody needs to listen: a full channel drops what the next update says
// anyway. A program's output and the finished capture wait for their reader, but not for one that has
// stopped the recording and gone away.
func (s *session) tell(u lspserver.Update) {
	if !s.begun.IsZero() {
		u.Elapsed = time.Since(s.begun)
	}
	if u.Output != nil || u.Phase == lspserver.PhaseStoring {
		select {
		case s.updates <- u:
			return
		case <-s.stop:
		}
		select {
		case s.updates <- u:
		case <-time.After(time.Second):
		}
		return
	}
	select {
	case s.updates <- u:
	default:
	}
}

// Write makes a session the standard output of its target.
func (s *session) Write(p []byte) (int, error) {
	s.tell(lspserver.Update{Phase: lspserver.PhaseRecording, Output: append([]byte(nil), p...)})
	return len(p), nil
}

// Folder is where the recording belongs: it decides the store and how paths are found.
func (s *session) folder() string { return cmp.Or(s.req.Workspace, s.req.Dir, ".") }

// EndsWithUs has the kernel end a command when this process is killed: nobody would stop it then.
// The thread that starts a command stays as long as the command does (see profiler).
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

// ErrNothingSeen says that a target ended before one sample fell into it.
var errNothingSeen = errors.New("no sample was taken")

func (s *session) run(ctx context.Context) (lspserver.Result, error) {
	st, err := s.recorder.open(s.folder())
	if err != nil {
		return lspserver.Result{}, err
	}
	s.store = st
	test, err := s.build(ctx)
	if err != nil && s.stopped() {
		return lspserver.Result{Message: "stopped before it ran"}, nil
	}
	if err != nil {
		return lspserver.Result{}, err
	}
	if test != nil {
		defer test.Close()
	}
	if t, ok := test.(*goTest); ok && len(t.profiles()) > 0 {
		if !t.measuresCPU() {
			return s.runProfiles(ctx, st, t)
		}
		s.own = t
	}
	target, options, err := s.target(test)
	if err != nil {
		return lspserver.Result{}, err
	}
	if s.req.Kind == profile.Alloc {
		return s.runAllocations(ctx, st, target, options)
	}
	s.begun = time.Now()
	rec, err := profiler.Start(ctx, target, options)
	if err != nil {
		return lspserver.Result{}, err
	}
	defer rec.Close()
	keep, err := beginKeeping(st, rec)
	if err != nil {
		rec.Stop()
		return lspserver.Result{}, err
	}
	defer keep.close()
	var ending sync.WaitGroup
	recordingOver := make(chan struct{})
	ending.Go(func() { s.follow(ctx, keep, recordingOver) })

	outcome := s.drive(test, target, rec)
	if test != nil && outcome.text == "" {
		outcome.text = test.note()
	}

	close(recordingOver)
	ending.Wait()
	capture, err := rec.Stop()
	if err != nil {
		keep.writer.Discard()
		return lspserver.Result{}, err
	}
	return s.finish(ctx, keep, capture, outcome)
}

// Build makes what is to be run before it is recorded, and answers the test where the request is for
// one. Stopping the recording ends it.
func (s *session) build(ctx context.Context) (testRun, error) {
	if s.req.Test == nil && s.req.Native == nil && len(s.req.Build) == 0 {
		return nil, nil
	}
	s.tell(lspserver.Update{Phase: lspserver.PhaseBuilding})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	switch {
	case s.req.Test != nil:
		t := s.req.Test
		test, err := buildTest(ctx, s.recorder.around, s.req.Dir, t.Package, t.Run, t.Bench, t.Args)
		if err != nil {
			return nil, err
		}
		test.kinds = t.Kinds
		return test, nil
	case s.req.Native != nil:
		test, err := findNative(ctx, s.recorder.around, s.req, s)
		if err != nil {
			return nil, err
		}
		return test, nil
	}
	return nil, runBuild(ctx, s.recorder.around, s.req.Name, s.req.Build, s.req.Dir, s.req.Env, s)
}

// Target turns the request into what the profiler records.
func (s *session) target(test testRun) (profiler.Target, profiler.Options, error) {
	options := profiler.Options{
		Freq: s.req.Freq, Engine: profiler.Engine(s.req.Engine), FrameTable: frameTable,
		StackBytes: s.recorder.stackBytes, RowsDir: s.recorder.around.cacheDir("unwind"),
	}
	switch {
	case test != nil:
		options.Describe = test.target()
		cmd := test.command(1, s)
		cmd.SysProcAttr = endsWithUs()
		return profiler.Target{Command: cmd}, options, nil
	case len(s.req.Command) > 0:
		cmd := s.recorder.around.with(s.req.Env).command(context.Background(), s.req.Dir, s.req.Command[0], s.req.Command[1:]...)
		cmd.Stdout, cmd.Stderr = s, s
		if s.recorder.bound {
			cmd.SysProcAttr = endsWithUs()
		}
		if s.recorder.streams.out != nil {
			cmd.Stdin, cmd.Stdout, cmd.Stderr = s.recorder.streams.in, s.recorder.streams.out, s.recorder.streams.err
		}
		options.Describe = profile.Target{Command: s.req.Command, Dir: s.req.Dir, Run: s.req.Name}
		return profiler.Target{Command: cmd}, options, nil
	case s.req.PID != 0:
		return profiler.Target{PID: s.req.PID}, options, nil
	case s.req.Machine:
		return profiler.Target{Machine: true}, options, nil
	}
	return profiler.Target{}, options, errors.New("nothing to record; name a test, a command, a process or the machine")
}

// CacheDir is where things are kept that are as well made again: "unwind", what was made of call-frame
// information, "frames", what DWARF said of addresses. It is "" where this user has no folder for such.
func (s *surroundings) cacheDir(what string) string {
	dir := s.cache()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "sightline", what)
}

// FrameTable lets the recorder ask Go's own tables for the callers of functions without a frame.
func frameTable(r io.ReaderAt) (profiler.FrameTable, error) {
	t, err := sourcemap.OpenFrameTable(r)
	if err != nil {
		return nil, err
	}
	return goFrames{t}, nil
}

// GoFrames tells a walk what Go's tables say, in the walk's words.
type goFrames struct{ *sourcemap.FrameTable }

var goKinds = [...]unwind.GoKind{
	sourcemap.GoUnknown:   unwind.GoUnknown,
	sourcemap.GoPlain:     unwind.GoPlain,
	sourcemap.GoRoot:      unwind.GoRoot,
	sourcemap.GoSwitches:  unwind.GoSwitches,
	sourcemap.GoCgo:       unwind.GoCgo,
	sourcemap.GoCrosscall: unwind.GoCrosscall,
	sourcemap.GoSigreturn: unwind.GoSigreturn,
	sourcemap.GoPanic:     unwind.GoPanic,
}

func (g goFrames) GoFrame(addr uint64) unwind.GoFrame {
	kind, size := g.FrameTable.GoFrame(addr)
	return unwind.GoFrame{Kind: goKinds[kind], Size: size}
}

// GoStacks tells the recorder where Go's runtime keeps the stacks of a thread.
func (g goFrames) GoStacks() (bpf.GoStacks, bool) {
	s, ok := g.FrameTable.GoStacks()
	return bpf.GoStacks{TLS: s.TLS, M: s.M, SP: s.SP, CurrentG: s.CurrentG}, ok
}

// An outcome is how a recording's target fared.
type outcome struct {
	failed bool
	text   string // "exit status 1", "stopped"; "" where there is nothing to say
}

// Drive waits for the target, repeats a test until it has samples enough, and says how it ended.
func (s *session) drive(test testRun, target profiler.Target, rec *profiler.Recording) outcome {
	stopped := s.wait(rec, s.req.For)
	if test != nil {
		return s.repeat(test, target.Command, rec, stopped)
	}
	cmd := target.Command
	if cmd == nil || cmd.ProcessState == nil || cmd.ProcessState.Success() || stopped || s.interrupted(cmd) {
		return outcome{}
	}
	return outcome{failed: true, text: cmd.ProcessState.String()}
}

// Wait waits for the present command to end, for Stop, or for the time given, if it is not 0. It
// says whether it ended the recording itself.
func (s *session) wait(rec *profiler.Recording, limit time.Duration) (stopped bool) {
	ended := make(chan error, 1)
	go func() { ended <- rec.Wait() }()
	var timeUp <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timeUp = t.C
	}
	select {
	case <-ended:
		return false
	case <-s.stop:
	case <-timeUp:
	}
	// A command is asked to end; its last output still comes. A process goes on.
	rec.Stop()
	<-ended
	return true
}

// Interrupted says whether a command ended by the Ctrl-C that stops the recording as well: on a
// terminal both get it, and the command may be the first to end.
func (s *session) interrupted(cmd *exec.Cmd) bool {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		return false
	}
	select {
	case <-s.stop:
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

// A recorded is where a keeper has its capture from.
type recorded interface {
	View() *profile.Capture
	Binary(profile.MappingID) (io.ReaderAt, error)
	Root(profile.MappingID) string
	Process(profile.MappingID) (profiler.Process, bool)
}

// A keeper takes one recording into the store: chunk by chunk while it runs, whole at its end.
// One goroutine uses it at a time, but for flush.
type keeper struct {
	writer  *store.Writer
	rec     recorded
	paths   *sourcemap.Paths      // found when they are first needed
	symbols *sourcemap.Symbolizer // of previews; nil before the first
	flushed error                 // the first flush that failed; the recording is ended by it. Of flush, then of its end
}

func beginKeeping(st *store.Store, rec recorded) (*keeper, error) {
	writer, err := st.Begin(rec.View())
	if err != nil {
		return nil, err
	}
	return &keeper{writer: writer, rec: rec}, nil
}

func (k *keeper) close() {
	if k.symbols != nil {
		k.symbols.Close()
	}
}

// Flush stores what was recorded since, again and again until over is closed. Nothing that may take
// long is done here: what is not stored yet is lost if this process is killed.
func (s *session) flush(k *keeper, over <-chan struct{}) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		err := k.writer.Flush(k.rec.View())
		if err == nil || errors.Is(err, store.ErrBusy) {
			continue // the next one stores this too
		}
		k.flushed = err
		s.Stop()
		return
	}
}

// Follow reports, and has what was recorded stored, until over is closed.
func (s *session) follow(ctx context.Context, k *keeper, over <-chan struct{}) {
	var flushing sync.WaitGroup
	flushing.Go(func() { s.flush(k, over) })
	defer flushing.Wait()
	report := time.NewTicker(100 * time.Millisecond)
	defer report.Stop()
	lastLive := time.Now()
	for {
		select {
		case <-over:
			return
		case <-report.C:
		}
		view := k.rec.View()
		u := lspserver.Update{Phase: lspserver.PhaseRecording, Samples: sampleCount(view)}
		if s.recorder.live && time.Since(lastLive) >= liveEvery {
			lastLive = time.Now()
			if err := s.preview(ctx, k, view); err == nil {
				u.Capture = view
			}
		}
		s.tell(u)
	}
}

// Finish names the capture's locations and stores it whole, or drops it.
func (s *session) finish(ctx context.Context, k *keeper, c *profile.Capture, o outcome) (lspserver.Result, error) {
	if s.discard.Load() {
		return lspserver.Result{Message: "discarded"}, k.writer.Discard()
	}
	if sampleCount(c) == 0 && (s.own == nil || !s.own.hasProfiles()) {
		if err := k.writer.Discard(); err != nil {
			return lspserver.Result{}, err
		}
		nothing := fmt.Errorf("%s: %w in %s; record something that computes for longer, or with a higher frequency",
			cut(expand(c.Target.String()), 100), errNothingSeen, lspserver.Duration(c.Length))
		if o.failed {
			return lspserver.Result{Failed: true, Message: fmt.Sprintf("%s, and %v", o.text, nothing)}, nil
		}
		return lspserver.Result{}, nothing
	}
	s.tell(lspserver.Update{Phase: lspserver.PhaseSymbolizing, Samples: sampleCount(c)})
	if err := s.symbolize(ctx, k, c); err != nil {
		c.Warn(profile.WarnUnreadable, 0, "symbols: "+err.Error())
	}
	if k.flushed != nil {
		c.Warn(profile.WarnInterrupted, 0, "recording was stopped because it could not be stored: "+k.flushed.Error())
	}
	if s.req.Test != nil || s.req.Native != nil { // what single processes ended with is said by the outcome
		c.Warnings = slices.DeleteFunc(c.Warnings, func(w profile.Warning) bool { return w.Kind == profile.WarnTarget })
		if o.failed {
			c.Warn(profile.WarnTarget, 0, "the test failed: "+o.text)
		}
	}
	return s.keep(k, c, o)
}

// Keep shows a finished capture and stores it.
func (s *session) keep(k *keeper, c *profile.Capture, o outcome) (lspserver.Result, error) {
	if s.discard.Load() { // while symbols were read
		return lspserver.Result{Message: "discarded"}, k.writer.Discard()
	}
	u := lspserver.Update{Phase: lspserver.PhaseStoring, Samples: sampleCount(c)}
	if s.recorder.live {
		u.Capture = c // what was recorded is shown before it is written; nobody changes it any more
		shown := make(chan struct{})
		u.Shown = sync.OnceFunc(func() { close(shown) })
		s.tell(u)
		select {
		case <-shown:
		case <-time.After(showFirst):
		}
	} else {
		s.tell(u)
	}
	meta, err := k.writer.Finish(c)
	if err != nil {
		if m, metaErr := s.store.LoadMeta(k.writer.ID()); metaErr == nil && len(m.Kinds) > 0 && m.Kinds[0].Samples > 0 {
			return lspserver.Result{}, fmt.Errorf("%w; what was stored before is capture %s", err, m.ID)
		}
		k.writer.Discard() // without a sample it is of no use; that it cannot be removed changes nothing
		return lspserver.Result{}, err
	}
	if s.discard.Load() { // while it was being written
		return lspserver.Result{Message: "discarded"}, s.store.Remove(meta.ID)
	}
	return lspserver.Result{ID: meta.ID, Failed: o.failed, Message: o.text}, nil
}

func sampleCount(c *profile.Capture) int {
	n := 0
	for i := range c.Series {
		n += c.Series[i].Samples.Len()
	}
	return n
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
