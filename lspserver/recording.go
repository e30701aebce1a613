package lspserver

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

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

	name string // for people: "TestFib"
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

type profileTestArgs struct {
	URI   string   `json:"uri,omitempty"`   // a file of the package, or of a C++ or Rust test; or
	Dir   string   `json:"dir,omitempty"`   // the package's folder
	Test  string   `json:"test,omitempty"`  // name of a C++ or Rust test of the file
	Run   string   `json:"run,omitempty"`   // as for go test -run
	Bench string   `json:"bench,omitempty"` // as for go test -bench
	Args  []string `json:"args,omitempty"`  // further go test flags
	// Kinds are what a Go test measures: "cpu", "heap", "block", "mutex"; none is "cpu".
	Kinds []string `json:"kinds,omitempty"`
}

// profileTest records a Go test to its end and answers a recordingResult.
func (s *server) profileTest(c call, a profileTestArgs) (any, error) {
	const name = "sightline.profileTest"
	dir, tags := a.Dir, ""
	if a.Test != "" {
		return s.profileNative(c, a)
	}
	switch {
	case (a.URI == "") == (dir == ""):
		return nil, rpc.ErrParams("%s needs either \"uri\" (a file of the package) or \"dir\" (its folder)", name)
	case a.URI != "":
		u, err := uri.Parse(a.URI)
		path, ok := filePath(u)
		if err != nil || !ok {
			return nil, rpc.ErrParams("%s: %.80q is no file on this machine: give a file of the package", name, a.URI)
		}
		dir = filepath.Dir(path)
		tags = s.constraintOf(c.ctx, u, path)
	}
	if err := checkFolder(name, dir); err != nil {
		return nil, err
	}
	for _, p := range []struct{ arg, pattern string }{{"run", a.Run}, {"bench", a.Bench}} {
		if _, err := regexp.Compile(p.pattern); err != nil {
			return nil, rpc.ErrParams("%s: argument %q is no regular expression (%v): give one as go test -%s takes", name, p.arg, err, p.arg)
		}
	}
	for _, k := range a.Kinds {
		if !slices.Contains(testKinds, k) {
			return nil, rpc.ErrParams("%s: a test tells nothing of kind %.40q: give %s as \"kinds\"", name, k, strings.Join(testKinds, ", "))
		}
	}
	dir = filepath.Clean(dir)
	test := &TestRequest{Package: dir, Run: a.Run, Bench: a.Bench, Args: a.Args, Kinds: a.Kinds}
	if _, set := s.shown(); len(set.testFlags) > 0 {
		test.Args = slices.Concat(a.Args, set.testFlags)
	}
	r := newRecording(Request{Dir: dir, Test: test}, s)
	r.name, r.dir, r.test, r.tags, r.builds = r.req.title(), dir, test, tags, true
	return s.runRecording(c, r)
}

// testKinds are what the test of a Go package can measure.
var testKinds = []string{"cpu", "heap", "block", "mutex"}

type profilePackageArgs struct {
	URI string `json:"uri"` // a file of the package
}

func (a *profilePackageArgs) setShort(s string) { a.URI = s }

// profilePackage records all tests of a document's package and answers as profileTest does.
func (s *server) profilePackage(c call, a profilePackageArgs) (any, error) {
	if a.URI == "" {
		return nil, rpc.ErrParams("sightline.profilePackage needs the argument \"uri\": give a file of the package")
	}
	return s.profileTest(c, profileTestArgs{URI: a.URI})
}

// testTitle is the name of a test that a pattern of ours stands for, or the pattern itself.
func testTitle(run, bench string) string {
	pattern := cmp.Or(bench, run)
	parts := strings.Split(pattern, "/")
	for i, p := range parts {
		inner, ok := strings.CutPrefix(p, "^")
		inner, ok2 := strings.CutSuffix(inner, "$")
		if !ok || !ok2 {
			return pattern
		}
		parts[i] = unquoteMeta.ReplaceAllString(inner, "$1")
	}
	return strings.Join(parts, "/")
}

var unquoteMeta = regexp.MustCompile(`\\([\\.+*?()|\[\]{}^$])`)

func checkFolder(command, dir string) error {
	if !filepath.IsAbs(dir) {
		return rpc.ErrParams("%s: %.80q is no absolute path: give the folder's full path", command, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return rpc.ErrParams("%s: there is no folder %.200q: give one that exists", command, dir)
	}
	return nil
}

type recordArgs struct {
	Command []string `json:"command,omitempty"` // program and arguments; or
	PID     int      `json:"pid,omitempty"`     // a process; or
	Machine bool     `json:"machine,omitempty"` // every process
	Dir     string   `json:"dir,omitempty"`     // folder the command runs in; "" is the first root folder
	Seconds float64  `json:"seconds,omitempty"` // how long at most; 0 is until it ends or is stopped
}

// record records a command, a process or the machine to its end and answers a recordingResult.
func (s *server) record(c call, a recordArgs) (any, error) {
	const name = "sightline.record"
	targets := 0
	for _, given := range []bool{len(a.Command) > 0, a.PID != 0, a.Machine} {
		if given {
			targets++
		}
	}
	switch {
	case targets != 1:
		return nil, rpc.ErrParams("%s needs exactly one of \"command\", \"pid\" and \"machine\"", name)
	case a.PID < 0:
		return nil, rpc.ErrParams("%s: there is no process %d: give the id of a running one", name, a.PID)
	case a.Seconds < 0 || a.Seconds > 86400:
		return nil, rpc.ErrParams("%s: %g seconds are too many or too few: give up to 86400, or 0 for no limit", name, a.Seconds)
	case len(a.Command) > 0 && a.Command[0] == "":
		return nil, rpc.ErrParams("%s: the command has no program: give it as the first of \"command\"", name)
	}
	if a.Dir == "" {
		if all := s.allWorkspaces(); len(all) > 0 {
			a.Dir = all[0].root
		} else if len(a.Command) > 0 {
			return nil, rpc.ErrParams("%s: no folder is open to run the command in: give \"dir\"", name)
		} else {
			a.Dir = "/"
		}
	}
	if err := checkFolder(name, a.Dir); err != nil {
		return nil, err
	}
	req := Request{
		Dir: filepath.Clean(a.Dir), Command: a.Command, PID: a.PID, Machine: a.Machine,
		For: time.Duration(a.Seconds * float64(time.Second)),
	}
	r := newRecording(req, s)
	r.name = req.title()
	return s.runRecording(c, r)
}

// title is a short name of what is recorded, for people.
func (req Request) title() string {
	switch {
	case req.Test != nil:
		return cmp.Or(testTitle(req.Test.Run, req.Test.Bench), "the tests of "+filepath.Base(req.Dir))
	case req.Native != nil:
		return req.Native.Name
	case req.Name != "":
		return req.Name
	case req.PID != 0:
		return fmt.Sprintf("process %d", req.PID)
	case len(req.Command) > 0:
		return filepath.Base(req.Command[0])
	}
	return "the machine"
}

// A recordingResult is the answer of the commands that record.
type recordingResult struct {
	Capture      string       `json:"capture"` // id; "" where nothing was stored
	Root         string       `json:"root"`    // the folder whose store has it
	Name         string       `json:"name"`    // of what was recorded
	Samples      int          `json:"samples"`
	Milliseconds int64        `json:"milliseconds"`
	Failed       bool         `json:"failed"`    // the target failed; the capture is kept
	Discarded    bool         `json:"discarded"` // by sightline.discard
	Message      string       `json:"message"`   // the result as it was shown
	Hottest      *destination `json:"hottest"`   // the line of the workspace with most weight, see hottest; null
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

// finish shows the numbers of a recording that has ended and tells the person how it went.
func (s *server) finish(w *workspace, r *attended, result Result, err error) *recordingResult {
	elapsed, samples, _ := r.state()
	res := &recordingResult{
		Capture: string(result.ID), Root: w.root, Name: r.name, Samples: samples, Milliseconds: elapsed.Milliseconds(),
		Failed: result.Failed, Discarded: r.wasDiscarded(),
	}
	var l *loaded
	if result.ID != "" {
		s.list(w)
		// Loading before the live numbers go spares the editor a moment without any.
		var loadErr error
		if l, loadErr = s.load(w, result.ID); loadErr != nil {
			s.complain(result.ID, loadErr)
		}
		if r.own { // what somebody else recorded takes nobody away from what they look at
			s.mu.Lock()
			s.opened, s.recorded = nil, captureKey{w.root, result.ID}
			s.mu.Unlock()
		}
	}
	s.over(r)
	if l != nil {
		res.Milliseconds = l.length.Milliseconds()
		res.Samples = l.profile.Samples.Len()
		res.Hottest = s.hottest(w, l)
	}
	if result.ID == "" && !res.Discarded && r.tags != "" {
		hint := fmt.Sprintf("The file is built only with %q: give go test the tags in the setting sightline.test.flags, like [\"-tags=…\"]", r.tags)
		if err != nil {
			err = fmt.Errorf("%w. %s", err, hint)
		} else {
			result.Message = strings.TrimSuffix(cmp.Or(result.Message, res.Name+": no test ran"), ".") + ". " + hint
		}
	}
	res.Message = outcome(res, result, err)
	if r.own {
		s.report(res, result, err, r.wrote())
	}
	return res
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

// outcome is one short sentence on how a recording went.
func outcome(res *recordingResult, result Result, err error) string {
	what := fmt.Sprintf("%s in %s", Samples(int64(res.Samples)), Duration(time.Duration(res.Milliseconds)*time.Millisecond))
	switch {
	case err != nil:
		return err.Error()
	case res.Discarded:
		return res.Name + ": dropped"
	case result.Failed && result.ID != "":
		return fmt.Sprintf("%s failed; its profile is kept (%s, %s)", res.Name, result.ID, what)
	case result.Failed:
		return res.Name + " failed"
	case result.ID == "":
		return cmp.Or(result.Message, res.Name+": not one sample was taken, the target may have been too quick")
	}
	text := res.Name + ": " + what
	if res.Hottest != nil {
		text += fmt.Sprintf(", hottest %s:%d (%s)", filepath.Base(res.Hottest.URI.FsPath()), res.Hottest.Range.Start.Line+1, res.Hottest.Label)
	}
	return text
}

// report tells the person. An error is the answer to the command, which clients show.
func (s *server) report(res *recordingResult, result Result, err error, output *tail) {
	if all := output.String(); all != "" {
		kind := protocol.MessageTypeLog
		if result.Failed {
			kind = protocol.MessageTypeError
		}
		s.write(kind, res.Name+" wrote:\n"+all)
	}
	switch {
	case err != nil, res.Discarded:
	case result.Failed:
		text := res.Message
		if result.Message != "" {
			text += ": " + result.Message
		}
		if why := output.why(); why != "" {
			text += "\n" + why
		}
		s.say(protocol.MessageTypeError, text)
	case result.ID == "":
		s.say(protocol.MessageTypeWarning, res.Message)
	default:
		text := res.Message
		if result.Message != "" {
			text += ". " + result.Message
		}
		s.say(protocol.MessageTypeInfo, text)
	}
}

// accompanyAny shows a recording that is under way, if there is one to show.
func (s *server) accompanyAny() {
	for _, r := range s.hub.recordings() {
		s.accompany(r)
	}
}

// hottest is the hottest line of the function of the workspace that most time is spent in, with what
// it calls outside of the workspace: what a person can change. It is as recorded, and the line that
// the function's lens leads to; nil where no sample comes by the workspace.
func (s *server) hottest(w *workspace, l *loaded) *destination {
	paths := s.paths.Load()
	root := paths.Canonical(w.root)
	own := map[string]*file{}
	for _, f := range l.files {
		if f.local != "" && (within(f.local, w.root) || within(paths.Canonical(f.local), root)) {
			own[f.path] = f
		}
	}
	type line struct { // or a function, by its name
		file, function string
		line           int
	}
	// The innermost line of the workspace on each stack; parents come before their children.
	parents, leaves := l.profile.Stacks.Columns()
	innermost := make([]line, len(parents))
	for id := 1; id < len(parents); id++ {
		innermost[id] = innermost[parents[id]]
		if f := &l.profile.Frames[leaves[id]]; f.Line > 0 && own[f.File] != nil {
			innermost[id] = line{f.File, f.Func, f.Line}
		}
	}
	lines, functions := map[line]int64{}, map[line]int64{}
	for i, id := range l.profile.Samples.Stack {
		if at := innermost[id]; at.file != "" {
			lines[at] += l.profile.Samples.Weight[i]
			at.line = 0
			functions[at] += l.profile.Samples.Weight[i]
		}
	}
	heaviest := func(weights map[line]int64, candidate func(line) bool) (best line, found bool) {
		for at, weight := range weights {
			c := cmp.Or(cmp.Compare(weight, weights[best]), cmp.Compare(best.file, at.file), cmp.Compare(best.line, at.line), cmp.Compare(best.function, at.function))
			if candidate(at) && (c > 0 || !found) {
				best, found = at, true
			}
		}
		return best, found
	}
	function, found := heaviest(functions, func(line) bool { return true })
	if !found {
		return nil
	}
	f := own[function.file]
	recorded, _ := f.baseline()
	text := string(recorded)
	d := newDocument(uri.File(f.local), f.local, f.local, 0, rpc.NewText(text), newHistory(text))
	m, _ := s.shown()
	p := place(f, d)
	for _, fn := range p.functions {
		if fn.Name != function.function {
			continue
		}
		to := s.destination(d.uri, d.text, p.hottestOf(d, fn, m))
		if at := p.on(int(to.Range.Start.Line)); at != nil {
			to.Label = l.words(m.cost(at.Self, at.Total).Weight, m.Form)
			return to
		}
	}
	// The function's begin is not known: its line that most time is spent in.
	at, _ := heaviest(lines, func(at line) bool { return at.file == function.file && at.function == function.function })
	to := s.destination(d.uri, d.text, at.line-1)
	to.Label = l.words(lines[at], m.Form)
	return to
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
