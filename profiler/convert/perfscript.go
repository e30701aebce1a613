package convert

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

var perfScript = &format{
	Info: Info{
		Format:      PerfScript,
		Description: "the text that perf script prints",
		Extension:   ".txt",
	},
	sniff: sniffPerfScript,
	read:  readPerfScript,
}

// sniffPerfScript finds a sample among the first lines, which has a time, or a thread and a frame
// below it, or is a stack of nothing but frames with addresses and modules.
func sniffPerfScript(head []byte) bool {
	seen, rows := 0, 0
	for len(head) > 0 && seen < 50 {
		line, rest, _ := bytes.Cut(head, []byte("\n"))
		head = rest
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(trimBlanks(line)) == 0 || line[0] == '#' {
			continue
		}
		seen++
		if isBlank(line[0]) && isFlatFrame(line) {
			rows++
		}
		h, ok := parseScriptHeader(line, true)
		if !ok {
			continue
		}
		below, _, _ := bytes.Cut(head, []byte("\n"))
		below = bytes.TrimSuffix(below, []byte("\r"))
		frame := isFlatFrame(below) && (h.timed || len(h.event) > 0 || below[0] == '\t')
		if len(below) > 0 && isBlank(below[0]) && (h.timed || len(h.event) > 0) {
			_, frame = parseScriptFrame(below)
		}
		if frame || h.time > 0 && len(h.event) > 0 || !h.timed && len(h.event) > 0 && isFlatFrame(h.rest) {
			return true
		}
	}
	return rows > 0 && rows == seen
}

// flatSamples tells how a text without headers (perf script -F ip,sym,dso) is to be read: perf begins
// the rows of a stack with a tab; where it knows no callers, each row is a sample, behind blanks, and
// no empty line is between them.
func flatSamples(head []byte) bool {
	rows, empty := 0, false
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case len(trimBlanks(line)) == 0:
			empty = empty || rows > 0
		case line[0] == '#':
		case line[0] != ' ' || !isFlatFrame(line):
			return false
		case empty:
			return false // the second of several stacks
		default:
			rows++
		}
	}
	return rows > 0
}

// A scriptReader reads the text of perf script.
type scriptReader struct {
	b      *builder
	events map[string]*scriptEvent
	order  []*scriptEvent
	tasks  map[string]profile.TaskID // by the words that name them
	rows   map[string]scriptRow      // by the text of frames
	single []profile.LocationID      // of frames without inlined ones, by FrameID

	// The sample at hand, whose rows are being read.
	open  bool
	h     scriptHeader
	task  profile.TaskID
	event *scriptEvent
	stack []scriptRow // leaf first
	chain []profile.FrameID
	// switched are the threads that are off the processor, by number.
	switched map[int]scriptBlocked
	blocked  []profile.Sample
	switches bool
	last     time.Duration
}

type scriptRow struct {
	frame   profile.FrameID
	inlined bool
	zero    bool // address 0: what a thread's first function "returns" to
}

type scriptEvent struct {
	name    string
	samples []profile.Sample
	lanes   []int // of each sample: its processor, or -1 - its thread
	gaps    int   // samples without a period
	timed   bool  // samples have times
}

type scriptBlocked struct {
	stack profile.StackID
	task  profile.TaskID
	since time.Duration
}

const skippedLines = "Lines that are neither samples nor stacks were left out."

// readPerfScript reads samples until the text ends. Where the file is cut, what was read is kept.
func readPerfScript(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	r := &scriptReader{
		b:        newBuilder(in, "perf", o),
		events:   map[string]*scriptEvent{},
		tasks:    map[string]profile.TaskID{},
		rows:     map[string]scriptRow{},
		switched: map[int]scriptBlocked{},
	}
	lines := in.lines()
	var release, arch string
	flat := flatSamples(in.head)
	for lines.next() && r.b.err == nil {
		line := lines.line
		switch {
		case len(trimBlanks(line)) == 0:
			r.endSample()
		case line[0] == '#':
			r.endSample()
			key, value, _ := strings.Cut(string(line[1:]), ":")
			switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
			case "cmdline":
				if t, ok := perfTarget(strings.Fields(clean(value))); ok {
					r.b.c.Target = t
				}
			case "os release":
				release = value
			case "arch":
				arch = value
			}
		case r.open && !flat && isBlank(line[0]) && r.row(line):
		default:
			if h, ok := parseScriptHeader(line, true); ok {
				r.endSample()
				r.beginSample(h)
			} else if isFlatFrame(line) {
				if !r.open || flat {
					r.endSample()
					r.beginSample(scriptHeader{cpu: -1, period: -1})
				}
				r.row(line)
			} else if !r.open {
				r.b.skip(1, skippedLines)
			}
		}
	}
	r.endSample()
	if err := lines.error(); err != nil {
		return nil, err
	}
	if lines.cut {
		r.b.cut()
	}
	if release != "" {
		r.b.c.Machine = clean(strings.TrimSpace("Linux " + release + " " + arch))
	}
	return r.finish(o)
}

// beginSample takes the header's line, whose bytes the next line overwrites.
func (r *scriptReader) beginSample(h scriptHeader) {
	if bytes.HasPrefix(h.rest, []byte("PERF_RECORD_")) || bytes.HasPrefix(h.event, []byte("PERF_RECORD_")) {
		return // perf script --show-mmap-events and the like
	}
	task, ok := r.tasks[string(h.who)]
	if !ok {
		// With one number it is the thread's, as perf prints it by default.
		task = r.b.task(profile.Task{PID: h.pid, TID: h.tid, Comm: string(h.comm)})
		r.tasks[string(h.who)] = task
	}
	e := r.events[string(h.event)]
	if e == nil {
		e = &scriptEvent{name: clean(string(h.event))}
		r.events[string(h.event)] = e
		r.order = append(r.order, e)
	}
	e.timed = e.timed || h.timed
	r.open, r.h, r.task, r.event = true, h, task, e
	r.stack = r.stack[:0]
	r.last = max(r.last, h.time)
	if leaf := h.rest; len(leaf) > 0 {
		if isTrace := strings.Contains(e.name, ":sched_switch") || e.name == "sched_switch"; isTrace {
			r.switchTo(leaf)
		} else if row, ok := r.frame(leaf, true); ok {
			r.stack = append(r.stack, row)
		}
	}
	r.h.rest, r.h.event, r.h.comm, r.h.who = nil, nil, nil, nil
}

// row reads a line below a header; false where it is none of a stack.
func (r *scriptReader) row(line []byte) bool {
	if row, ok := r.frame(line, false); ok {
		r.stack = append(r.stack, row)
		return true
	}
	if line[0] != '\t' {
		if _, ok := parseScriptHeader(line, false); ok {
			return false // perf aligns the names of threads right where samples are single lines
		}
	}
	if file, n, ok := parseScriptSource(line); ok && len(r.stack) > 0 && string(file) != "??" {
		row := &r.stack[len(r.stack)-1]
		f := r.b.c.Symbols.Frames[row.frame]
		f.File, f.Line = string(file), n
		row.frame = r.b.frame(f)
	}
	return true // registers, branches, instructions
}

// frame is the row that a line says. A frame on the header's line must have an address and may follow
// other words, those of a tracepoint.
func (r *scriptReader) frame(line []byte, header bool) (scriptRow, bool) {
	if row, ok := r.rows[string(line)]; ok {
		return row, row.frame != 0
	}
	text := line
	if header {
		text = scriptLeaf(line)
	} else if line[0] != '\t' {
		// A header that is aligned right must not be taken for a frame: its name may be "add".
		if _, ok := parseScriptHeader(line, false); ok {
			return scriptRow{}, false
		}
	}
	f, ok := parseScriptFrame(text)
	if !ok {
		return scriptRow{}, false
	}
	name, module := string(f.symbol), string(f.module)
	if module == "[unknown]" {
		module = ""
	}
	module, _ = strings.CutSuffix(module, " (deleted)")
	if strings.HasPrefix(module, "[kernel.") || strings.HasPrefix(module, "[guest.kernel.") || strings.HasSuffix(module, "/vmlinux") {
		module = profile.Kernel
	}
	if name == "[unknown]" {
		name = profile.Unknown
	}
	row := scriptRow{frame: r.b.frame(profile.Frame{Func: demangled(name), Module: module}), inlined: f.inlined, zero: f.zero}
	r.rows[string(line)] = row
	return row, true
}

// scriptLeaf is the part of a header's rest that is a frame: all of it, or behind a tracepoint's words
// its end, from an address on.
func scriptLeaf(rest []byte) []byte {
	if token, _ := firstToken(rest); len(token) >= 4 && isHex(token) {
		return rest
	}
	before, module := lastToken(rest)
	if len(module) < 2 || module[0] != '(' {
		return nil
	}
	before, _ = lastToken(before)
	start, address := lastToken(before)
	if len(address) < 8 || !isHex(address) {
		return nil
	}
	return trimBlanks(rest[len(start):])
}

// endSample adds the sample at hand.
func (r *scriptReader) endSample() {
	if !r.open {
		return
	}
	r.open = false
	if len(r.stack) == 0 && !r.h.timed && r.event.name == "" {
		r.b.skip(1, skippedLines) // a line that ends in a number
		return
	}
	for n := len(r.stack); n > 1 && r.stack[n-1].zero; n-- {
		r.stack = r.stack[:n-1]
	}
	stack := r.intern()
	x := profile.Sample{Stack: stack, Task: r.task, Time: r.h.time, Count: 1, Weight: r.h.period}
	if r.h.period < 0 {
		r.event.gaps++
	}
	lane := r.h.cpu
	if lane < 0 {
		lane = -1 - r.h.tid
	}
	r.event.samples = append(r.event.samples, x)
	r.event.lanes = append(r.event.lanes, lane)
	if w, ok := r.switched[r.h.tid]; ok && w.task == r.task && w.since == r.h.time && w.stack == 0 {
		w.stack = stack
		r.switched[r.h.tid] = w
	}
}

// intern is the stack of the rows: inlined ones share the location of the next that is not.
func (r *scriptReader) intern() profile.StackID {
	var at profile.StackID
	for i := len(r.stack) - 1; i >= 0; {
		first := i
		for first > 0 && r.stack[first-1].inlined {
			first--
		}
		if first == i {
			at = r.b.push(at, r.location(r.stack[i].frame))
		} else {
			r.chain = r.chain[:0]
			module := r.b.c.Symbols.Frames[r.stack[i].frame].Module
			for _, row := range r.stack[first : i+1] {
				f := r.b.c.Symbols.Frames[row.frame]
				f.Inlined, f.Module = row.inlined, module
				r.chain = append(r.chain, r.b.frame(f))
			}
			at = r.b.push(at, r.b.inlined(r.chain))
		}
		i = first - 1
	}
	return at
}

func (r *scriptReader) location(f profile.FrameID) profile.LocationID {
	if int(f) >= len(r.single) {
		r.single = append(r.single, make([]profile.LocationID, int(f)+1-len(r.single)+len(r.single)/2)...)
	}
	if r.single[f] == 0 {
		r.single[f] = r.b.location(r.b.c.Symbols.Frames[f])
	}
	return r.single[f]
}

// switchTo follows sched:sched_switch: the thread that left the processor waits from now on, unless it
// can run, on the stack of this event; the one that got it has waited.
func (r *scriptReader) switchTo(text []byte) {
	s, ok := parseScriptSwitch(text)
	if !ok || !r.h.timed {
		return
	}
	r.switches = true
	if w, ok := r.switched[s.next]; ok {
		delete(r.switched, s.next)
		r.wait(w, r.h.time)
	}
	delete(r.switched, s.prev)
	if s.prev != 0 && !s.runnable && s.prev == r.h.tid {
		r.switched[s.prev] = scriptBlocked{task: r.task, since: r.h.time}
	}
}

func (r *scriptReader) wait(w scriptBlocked, until time.Duration) {
	if until > w.since {
		r.blocked = append(r.blocked, profile.Sample{Stack: w.stack, Task: w.task, Time: w.since, Count: 1, Weight: int64(until - w.since)})
	}
}

// finish makes series of the events: the first clock is of kind cpu, or cycles where there is no clock.
// Where neither periods nor times are told, a sample is one event, of its event's name.
func (r *scriptReader) finish(o Options) (*profile.Capture, error) {
	var cpu *scriptEvent
	for _, e := range r.order {
		e.findGaps()
		if !e.timed && !e.weighed() {
			continue
		}
		if e.clock() && (cpu == nil || !cpu.clock()) || e.cycles() && cpu == nil {
			cpu = e
		}
	}
	for _, e := range r.order {
		if len(e.samples) == 0 {
			continue
		}
		kind, unit := profile.Kind(e.name), profile.Number
		switch {
		case e.clock() && (e.timed || e.weighed()):
			unit = profile.Nanoseconds
			e.weighClock()
		case e.cycles() && e.weighed():
			unit = profile.Cycles
		}
		if e == cpu || cpu != nil && cpu.cycles() && e.cycles() && strings.Contains(e.name, "/") && e.name != cpu.name && e.weighed() == cpu.weighed() {
			kind = profile.CPU // a hybrid processor counts with two PMUs
		}
		if kind == "" {
			kind = "samples"
		}
		t := r.b.series(kind, unit, "", 0)
		for _, x := range e.samples {
			if x.Weight < 0 {
				x.Weight = 1
			}
			t.add(x)
		}
		e.samples, e.lanes = nil, nil
	}
	if r.switches {
		for _, tid := range sortedKeys(r.switched) {
			r.wait(r.switched[tid], r.last)
		}
		t := r.b.series(profile.Blocked, profile.Nanoseconds, "", 0)
		for _, x := range r.blocked {
			t.add(x)
		}
	}
	if o.Kind != "" && len(r.b.tracks) > 0 {
		r.b.tracks = slices.DeleteFunc(r.b.tracks, func(t *track) bool { return t.s.Kind != o.Kind })
	}
	r.b.rebase()
	return r.b.finish()
}

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// plain is the event's name without modifiers: "cpu-clock:ppp".
func (e *scriptEvent) plain() string {
	name, _, _ := strings.Cut(e.name, ":")
	return name
}

func (e *scriptEvent) clock() bool {
	switch e.plain() {
	case "cpu-clock", "task-clock", "cpu_clock", "task_clock":
		return true
	}
	return false
}

func (e *scriptEvent) cycles() bool {
	switch name := e.plain(); name {
	case "cycles", "cpu-cycles":
		return true
	default:
		// "cpu_core/cycles/P"
		_, event, ok := strings.Cut(name, "/")
		event, _, closed := strings.Cut(event, "/")
		return ok && closed && (event == "cycles" || event == "cpu-cycles")
	}
}

const (
	// A clock's period below this is none: no processor can be sampled so often, and other tools write 1.
	minScriptPeriod = int64(time.Microsecond)
	// loneScriptSample is the weight of a sample that has no neighbour: the period of perf record -F 1000.
	loneScriptSample = int64(time.Millisecond)
)

// weighed tells whether samples have periods.
func (e *scriptEvent) weighed() bool { return e.gaps < len(e.samples) }

// findGaps takes periods away that are none.
func (e *scriptEvent) findGaps() {
	if !e.clock() {
		return
	}
	for i := range e.samples {
		if w := e.samples[i].Weight; w >= 0 && w < minScriptPeriod {
			e.samples[i].Weight = -1
			e.gaps++
		}
	}
}

// weighClock gives the samples of a clock that have no period one: the time to the next sample on the
// same processor, or of the same thread where processors are not told. A gap of more than two typical
// ones is one in which the processor was idle; then, as at the end, the typical gap is taken. Without
// times it is the typical period of the others.
func (e *scriptEvent) weighClock() {
	if e.gaps == 0 {
		return
	}
	if !e.timed {
		var periods []int64
		for _, x := range e.samples {
			if x.Weight >= 0 {
				periods = append(periods, x.Weight)
			}
		}
		slices.Sort(periods)
		for i := range e.samples {
			if x := &e.samples[i]; x.Weight < 0 {
				x.Weight = periods[len(periods)/2]
			}
		}
		return
	}
	order := make([]int, len(e.samples))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(e.samples[a].Time, e.samples[b].Time) })
	next := map[int]time.Duration{}
	gap := make([]int64, len(order))
	var typical []int64
	for _, i := range slices.Backward(order) {
		x := &e.samples[i]
		gap[i] = -1
		if at, ok := next[e.lanes[i]]; ok {
			gap[i] = int64(at - x.Time)
			typical = append(typical, gap[i])
		}
		next[e.lanes[i]] = x.Time
	}
	median := loneScriptSample
	if len(typical) > 0 {
		slices.Sort(typical)
		median = typical[len(typical)/2]
	}
	for i := range e.samples {
		if x := &e.samples[i]; x.Weight < 0 {
			if x.Weight = gap[i]; gap[i] < 0 || gap[i]/2 > median {
				x.Weight = median
			}
		}
	}
}
