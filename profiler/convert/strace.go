package convert

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The text of strace(1), as `strace -r -T` prints it, also with -f, -k, -y and the stamps of -t, -tt
// and -ttt. The layout is that of strace's src/strace.c (printleader), src/syscall.c and src/unwind.c.
//
// A call is a sample: its time is when it began, its weight how long it took (-T). Its stack is, from
// the root:
//
//	[the callers, where strace printed them (-k)]
//	Path: /etc/passwd      of the file the call is about; Path: <Unknown> where its number is not known
//	Syscall: openat        or Raw Syscalls in place of the path, of a call that is about no file
//	Arguments: AT_FDCWD, "/etc/passwd", O_RDONLY
//	Return Code: 3
//
// which are the frames that PerfView's reader makes (src/TraceEvent/Stacks/Linux/StraceStackSource.cs).
// It differs where that misreads: a path is what is quoted, not all between the first and the last
// comma; stamps of lines that are no calls count; unfinished calls are joined with their ends; threads
// have their own file tables.

const (
	straceCalls profile.Kind = "syscall"

	straceRaw     = "Raw Syscalls"
	straceUnknown = "<Unknown>"

	// maxStraceCall bounds a call that output of the traced program cut into several lines.
	maxStraceCall = 1 << 20
	// A stamp from here on is of the clock (-ttt), not relative (-r): strace writes both as seconds.
	straceEpoch = 1e8 * time.Second
)

var strace = &format{
	Info: Info{
		Format:      Strace,
		Description: "text of strace -r -T, also with -f, -k, -t and -y",
		Extension:   ".strace",
	},
	sniff: sniffStrace,
	read:  readStrace,
}

// sniffStrace looks for a call in the first lines that can be told whole.
func sniffStrace(head []byte) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	whole := len(head) < sniffLen
	for range 50 {
		line, rest, more := bytes.Cut(head, []byte("\n"))
		if !more && !whole {
			return false
		}
		l := parseStraceLine(bytes.TrimSuffix(line, []byte("\r")))
		switch {
		case l.kind == straceCall && (l.took >= 0 || l.stamped && l.result != "" || l.stamped && l.unfinished):
			return true
		case l.kind == straceOther && len(bytes.TrimSpace(line)) > 0:
			// What the traced program printed may stand between, but not before the first call.
			return false
		}
		if !more {
			return false
		}
		head = rest
	}
	return false
}

func readStrace(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	r := &straceReader{b: newBuilder(in, "strace", o), threads: map[int]*straceThread{}, names: map[string]profile.LocationID{}}
	lines := in.lines()
	for lines.next() {
		if lines.long {
			r.b.skip(1, straceNoLine)
			continue
		}
		r.line(lines.line)
		if r.b.err != nil {
			break
		}
	}
	if err := lines.error(); err != nil {
		return nil, err
	}
	if lines.cut {
		r.b.cut()
	}
	c, err := r.finish()
	return ofKind(c, o.Kind, err)
}

const (
	straceNoLine   = "Lines that are no system call were left out; they may be output of the traced program."
	straceNoReturn = "System calls that did not return before the trace ended have no duration, and were left out."
	straceNoStart  = "Ends of system calls whose beginnings are not in the file were left out."
)

// A straceReader follows the threads of a trace.
type straceReader struct {
	b       *builder
	threads map[int]*straceThread // by TID; 0 is the only one of a trace without process numbers
	calls   []straceSample
	names   map[string]profile.LocationID
	last    *straceSample // the call that -k lines belong to
	lastOf  []profile.LocationID

	open      straceLine // a call that the program's output has cut into pieces
	openText  []byte
	isOpen    bool
	timed     bool          // some call says how long it took
	now       time.Duration // of the last line
	day       time.Duration // added to times of day, for the midnights that were passed
	day0      time.Duration // first time of day
	hasDay    bool
	epoch     time.Duration // first stamp of the clock
	hasEpoch  bool
	unstamped int64
	forking   []*straceThread // whose unfinished call makes a thread
	attached  map[int]bool
	began     bool // a call was seen
	stamped   bool // lines have stamps
	copied    int  // entries of file tables
}

// A straceThread is what is known of one thread.
type straceThread struct {
	tid     int
	process *straceProcess
	comm    string
	files   *straceFiles
	pending *straceLine // its unfinished call
	at      time.Duration
}

// A straceProcess is named by its first thread.
type straceProcess struct {
	leader *straceThread
	parent *straceProcess
}

// straceFiles are the paths of a process's file descriptors, by their numbers as text.
type straceFiles struct{ path map[string]string }

type straceSample struct {
	at      time.Duration
	took    time.Duration // negative: not known
	thread  *straceThread
	comm    string // of the thread then
	frames  [4]profile.LocationID
	callers profile.StackID
}

func (r *straceReader) location(text string) profile.LocationID {
	l, ok := r.names[text]
	if !ok {
		// As if PerfView had read it, and written a stack file.
		l = r.b.location(splitName(text))
		r.names[text] = l
	}
	return l
}

// line takes the next line.
func (r *straceReader) line(text []byte) {
	if bytes.HasPrefix(text, []byte(" > ")) {
		r.caller(text[3:])
		return
	}
	r.settle()
	if tid, before, ok := attachNote(text); ok {
		// The first that is attached (-p) is no child.
		if r.attached == nil {
			r.attached = map[int]bool{}
		}
		r.attached[tid] = r.began || len(before) > 0
		if text = before; len(text) == 0 {
			return
		}
	}
	l := parseStraceLine(text)
	if l.kind == straceCall && !l.stamped && r.stamped {
		l.kind = straceOther // the traced program prints something alike
	}
	switch l.kind {
	case straceBlank:
		return
	case straceNote:
		r.isOpen = false
		return
	case straceOther:
		r.more(text)
		return
	}
	if r.isOpen {
		r.b.skip(1, straceNoReturn)
		r.isOpen = false
	}
	at := r.stamp(&l)
	t := r.thread(l.tid)
	switch {
	case l.kind == straceGone:
		delete(r.threads, t.tid)
		if t.pending != nil {
			t.pending = nil
			r.b.skip(1, straceNoReturn)
		}
	case l.kind == straceSignal:
	case l.resumed && t.pending == nil:
		// Attaching shows calls that had begun before: strace calls them resumed too.
		r.b.skip(1, straceNoStart)
	case l.resumed:
		begun := t.pending
		t.pending = nil
		l.name, l.args = begun.name, begun.args+l.args
		r.forked(t)
		r.call(&l, t, t.at)
	case l.unfinished:
		r.begin(&l, t, at)
	case l.result == "" && l.took < 0:
		r.isOpen, r.open = true, l
		r.openText = append(r.openText[:0], l.rest...)
	default:
		r.call(&l, t, at)
	}
}

// begin keeps a call that goes on in a later line.
func (r *straceReader) begin(l *straceLine, t *straceThread, at time.Duration) {
	if t.pending != nil {
		r.b.skip(1, straceNoReturn)
		r.forked(t)
	}
	t.pending, t.at = l, at
	r.began = true
	if forks[l.name] {
		r.forking = append(r.forking, t)
	}
}

// more takes a line that begins nothing: the rest of a call that the traced program's own output, on the
// same terminal, has cut into pieces; or that output.
func (r *straceReader) more(text []byte) {
	if !r.isOpen || len(r.openText)+len(text) > maxStraceCall {
		r.b.skip(1, straceNoLine)
		return
	}
	r.openText = append(r.openText, text...)
	unfinished := bytes.HasSuffix(text, []byte("<unfinished ...>"))
	if _, took := straceTook(text); took < 0 && !unfinished {
		return
	}
	r.isOpen = false
	l := parseStraceLine(r.openText)
	switch t := r.thread(r.open.tid); {
	case l.kind == straceCall && l.unfinished:
		r.begin(&l, t, r.now)
	case l.kind == straceCall && l.took >= 0:
		r.call(&l, t, r.now)
	default:
		r.b.skip(1, straceNoLine)
	}
}

// stamp moves the clock by a line's stamp: by the sum of what is relative, and where stamps are of a
// clock, by these.
func (r *straceReader) stamp(l *straceLine) time.Duration {
	switch {
	case !l.stamped:
		r.unstamped++
		return r.now
	case l.day:
		at := l.at + r.day
		if !r.hasDay {
			r.hasDay, r.day0 = true, at
		}
		if at-r.day0 < r.now-12*time.Hour && r.now < maxTime {
			r.day += 24 * time.Hour
			at += 24 * time.Hour
		}
		r.now = at - r.day0
	case l.at >= straceEpoch || r.hasEpoch:
		if !r.hasEpoch {
			r.hasEpoch, r.epoch = true, l.at
			r.b.c.Start = time.Unix(0, int64(l.at)).UTC()
		}
		r.now = l.at - r.epoch
	default:
		r.now += l.at
		r.now = min(r.now, 2*maxTime) // a sum of hostile stamps; the builder refuses it
	}
	r.stamped = true
	return r.now
}

// thread is the state of a thread, which begins with its first line. One that a call of another is
// making shares or copies that one's files.
func (r *straceReader) thread(tid int) *straceThread {
	if t := r.threads[tid]; t != nil {
		return t
	}
	if t := r.threads[0]; t != nil && !r.attached[tid] && len(r.forking) == 0 {
		// Output to a terminal has no numbers while there is one process.
		delete(r.threads, 0)
		r.threads[tid] = t
		t.tid = tid
		return t
	}
	if tid == 0 {
		// And has none again when one is left.
		if alive := r.alone(); alive != nil {
			return alive
		}
	}
	t := &straceThread{tid: tid}
	r.threads[tid] = t
	if len(r.forking) > 0 {
		r.child(t, r.forking[0], r.forking[0].pending)
		r.forking = r.forking[1:]
		return t
	}
	t.process = &straceProcess{leader: t}
	t.files = &straceFiles{path: map[string]string{}}
	return t
}

// alone is the only thread that lives, nil where there are more or none.
func (r *straceReader) alone() *straceThread {
	var alive *straceThread
	for _, t := range r.threads {
		if alive != nil {
			return nil
		}
		alive = t
	}
	return alive
}

// forks are the calls that make threads and processes.
var forks = map[string]bool{"clone": true, "clone2": true, "clone3": true, "fork": true, "vfork": true}

// child sets what a new thread has from the one that made it with a call.
func (r *straceReader) child(t, of *straceThread, call *straceLine) {
	t.comm = of.comm
	t.process = &straceProcess{leader: t, parent: of.process}
	if call != nil && strings.Contains(call.args, "CLONE_THREAD") {
		t.process = of.process
	}
	if call != nil && strings.Contains(call.args, "CLONE_FILES") {
		t.files = of.files
		return
	}
	// A trace could ask for a great table in many processes; beyond what its size justifies, a child
	// begins with files that are not known.
	t.files = &straceFiles{path: map[string]string{}}
	if r.copied += len(of.files.path); int64(r.copied) < 1<<16+r.b.in.Seen() {
		t.files.path = maps.Clone(of.files.path)
	}
}

// forked ends the wait for a child of t's call.
func (r *straceReader) forked(t *straceThread) {
	for i, f := range r.forking {
		if f == t {
			r.forking = append(r.forking[:i], r.forking[i+1:]...)
			return
		}
	}
}

// task is that of a thread under a name that it had.
func (r *straceReader) task(t *straceThread, comm string) profile.TaskID {
	if t.tid == 0 {
		return 0
	}
	x := profile.Task{PID: t.process.leader.tid, TID: t.tid, Comm: comm}
	if p := t.process.parent; p != nil {
		x.Parent = p.leader.tid
	}
	return r.b.task(x)
}

// attachNote takes the note off a line that strace writes where a thread begins: on a terminal it
// cuts the line of the call that made it.
func attachNote(text []byte) (tid int, before []byte, ok bool) {
	const note = "strace: Process "
	rest, ok := bytes.CutSuffix(text, []byte(" attached"))
	at := bytes.LastIndex(rest, []byte(note))
	if !ok || at < 0 {
		return 0, text, false
	}
	tid, err := strconv.Atoi(string(rest[at+len(note):]))
	return tid, text[:at], err == nil
}

// call makes a sample of a call that is whole.
func (r *straceReader) call(l *straceLine, t *straceThread, at time.Duration) {
	r.began = true
	path, about := t.files.call(l)
	r.identity(l, t)
	if l.took < 0 && strings.HasPrefix(l.result, "?") {
		return // it does not return: exit_group and the like
	}
	x := straceSample{at: at, took: l.took, thread: t, comm: t.comm}
	first := straceRaw
	if about {
		if path == "" {
			path = straceUnknown
		}
		first = "Path: " + path
	}
	x.frames = [4]profile.LocationID{
		r.location(first), r.location("Syscall: " + l.name), r.location("Arguments: " + l.args), r.location("Return Code: " + l.result),
	}
	r.timed = r.timed || l.took >= 0
	r.calls = append(r.calls, x)
	r.last = &r.calls[len(r.calls)-1]
}

// identity follows the names and children of threads.
func (r *straceReader) identity(l *straceLine, t *straceThread) {
	if l.name == "execve" && l.result == "0" {
		if path, ok := quotedIn(l.args); ok {
			t.comm = comm(path)
			if r.b.c.Target.PID == 0 && len(r.calls) == 0 {
				r.b.c.Target.Command = commandIn(l.args)
			}
		}
		return
	}
	if l.name == "prctl" && strings.HasPrefix(l.args, "PR_SET_NAME,") && l.result == "0" {
		if name, ok := quotedIn(l.args); ok {
			t.comm = comm(name)
		}
		return
	}
	if !forks[l.name] {
		return
	}
	tid := 0
	for _, c := range []byte(l.result) {
		if c < '0' || c > '9' || tid > math.MaxInt32/10 {
			break
		}
		tid = 10*tid + int(c-'0')
	}
	if tid == 0 {
		return
	}
	if r.threads[tid] == nil {
		c := &straceThread{tid: tid}
		r.threads[tid] = c
		r.child(c, t, l)
	}
}

// comm is the name that the kernel gives a thread by the file it executes. proc_pid_comm(5).
func comm(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return name[:min(len(name), 15)]
}

// settle makes one stack of the callers of the last call.
func (r *straceReader) settle() {
	if r.last != nil {
		for i := len(r.lastOf) - 1; i >= 0; i-- {
			r.last.callers = r.b.push(r.last.callers, r.lastOf[i])
		}
	}
	r.last, r.lastOf = nil, r.lastOf[:0]
}

// finish makes the series. Without -T all calls are counted; with it, those without a duration did
// not return.
func (r *straceReader) finish() (*profile.Capture, error) {
	r.settle()
	if r.isOpen {
		r.b.skip(1, straceNoReturn)
	}
	for _, t := range r.threads {
		if t.pending != nil {
			r.b.skip(1, straceNoReturn)
		}
	}
	if len(r.calls) == 0 && r.b.err == nil {
		return nil, fmt.Errorf("it has no system call that returned")
	}
	unit := profile.Nanoseconds
	if !r.timed {
		unit = profile.Number
		r.b.c.Warn(profile.WarnHidden, 0, "The trace does not say how long calls took, so they are counted; run strace with -T to measure them.")
	}
	if r.unstamped > 0 {
		r.b.c.Warn(profile.WarnHidden, r.unstamped, "Lines without a time stamp have that of the line before; run strace with -r to have them.")
	}
	track := r.b.series(straceCalls, unit, sourceOf(unit), 0)
	end := time.Duration(0)
	for i := range r.calls {
		x := &r.calls[i]
		if r.timed && x.took < 0 {
			r.b.skip(1, straceNoReturn)
			continue
		}
		stack := x.callers
		for _, l := range x.frames {
			stack = r.b.push(stack, l)
		}
		weight := int64(x.took)
		if !r.timed {
			weight = 1
		}
		track.add(profile.Sample{Stack: stack, Task: r.task(x.thread, x.comm), Time: x.at, Weight: weight, Count: 1})
		if x.at <= maxTime {
			end = max(end, x.at+max(min(x.took, maxTime), 0))
		}
	}
	r.b.c.Length = min(end, maxTime)
	return r.b.finish()
}

// sourceOf is the unit that PerfView gives a call's duration in.
func sourceOf(u profile.Unit) profile.Unit {
	if u == profile.Nanoseconds {
		return profile.Milliseconds
	}
	return ""
}
