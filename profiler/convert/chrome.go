package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// chrome is the Trace Event Format of Chrome's about:tracing, which many tracers write: an array of
// events, or an object with traceEvents and perhaps samples and stackFrames. What lasts (B with E, and
// X) nests by time within its thread, and what is no one's callee's time is its own; instants,
// counters, flows and asynchronous events have no time on a thread and are left out.
//
// A file may end anywhere, as about:tracing allows for tracers that died.
var chrome = &format{
	Info: Info{
		Format:      Chrome,
		Description: "Trace Event Format of about:tracing and Perfetto",
		Extension:   ".trace.json",
	},
	sniff: func(head []byte) bool {
		s, ok := shapeOf(head)
		return ok && (s.has("traceEvents") || s.array && s.has("ph") || s.has("stackFrames", "samples"))
	},
	read:  readChrome,
	write: writeChrome,
}

type chromeReader struct {
	*jsonReader
	b       *builder
	frames  []profile.Frame // of events
	ids     map[profile.Frame]int32
	threads map[chromeThread]*chromeEvents
	order   []*chromeEvents
	comms   map[string]string       // process → name
	names   map[chromeThread]string // thread → name
	samples []chromeSample
	extra   []chromeSample         // of Sightline's: without a stack or a length
	nodes   map[string]*chromeNode // of stackFrames
	other   int64                  // events without a length
	events  bool                   // there is an array of events, or of samples
	kind    profile.Kind           // that Sightline has written
	unit    profile.Unit
}

type chromeThread struct{ pid, tid string }

// chromeEvents are a thread's.
type chromeEvents struct {
	of     chromeThread
	events []chromeEvent
}

type chromeEvent struct {
	at, end int64 // nanoseconds
	frame   int32 // in chromeReader.frames
	count   int32 // samples whose leaf it is; -1 where nothing tells
	phase   byte  // B, E or X
}

// A chromeSample is of samples; its stack is named by a member of stackFrames.
type chromeSample struct {
	of     chromeThread
	at     int64
	weight float64
	count  int64 // that Sightline has written; -1: none
	stack  string
}

type chromeNode struct {
	frame    profile.Frame
	parent   string
	stack    profile.StackID
	resolved bool
}

func readChrome(_ context.Context, in *input, o Options) (*profile.Capture, error) {
	r := &chromeReader{
		jsonReader: newJSONReader(in), b: newBuilder(in, "trace events", o),
		ids: map[profile.Frame]int32{}, threads: map[chromeThread]*chromeEvents{},
		comms: map[string]string{}, names: map[chromeThread]string{}, nodes: map[string]*chromeNode{},
	}
	var err error
	if r.PeekKind() == '[' {
		r.events = true
		err = r.array(r.event)
	} else {
		err = r.object(func(name string) error {
			switch name {
			case "traceEvents":
				r.events = true
				return r.array(r.event)
			case "samples":
				r.events = true
				return r.array(func() error { return r.sample(&r.samples) })
			case "sightlineSamples":
				return r.array(func() error { return r.sample(&r.extra) })
			case "stackFrames":
				return r.object(r.node)
			case "otherData":
				return r.object(r.otherData)
			}
			return r.SkipValue()
		})
	}
	if err != nil {
		broken := r.explain(err)
		var syntax *jsontext.SyntacticError
		switch {
		case len(r.order) == 0 && len(r.samples) == 0:
			return nil, broken
		case errors.Is(broken, io.ErrUnexpectedEOF):
			r.b.cut()
		case errors.As(err, &syntax):
			r.b.skip(0, fmt.Sprintf("The file's JSON is broken at byte %d; what comes before is here.", syntax.ByteOffset))
		default:
			return nil, broken
		}
	}
	if r.other > 0 {
		r.b.skip(r.other, "Events without a time on a thread (instants, counters, flows, asynchronous ones) were left out.")
	}
	return r.capture()
}

// otherData is where Sightline says what it wrote.
func (r *chromeReader) otherData(name string) error {
	s, err := r.text()
	switch name {
	case "sightlineKind":
		r.kind = profile.Kind(s)
	case "sightlineUnit":
		r.unit = profile.Unit(s)
	}
	return err
}

// micros is a time in microseconds as nanoseconds.
func micros(v float64) (int64, bool) {
	d, ok := since(v, time.Microsecond)
	return int64(d), ok
}

func (r *chromeReader) event() error {
	var (
		f         profile.Frame
		of        chromeThread
		phase, sf string
		at        = math.NaN()
		dur, tdur = math.NaN(), math.NaN()
		argName   string
		count     = -1.0
	)
	err := r.object(func(name string) (err error) {
		switch name {
		case "name":
			f.Func, err = r.text()
		case "ph":
			phase, err = r.text()
		case "ts":
			at, err = r.number()
		case "dur":
			dur, err = r.number()
		case "tdur":
			tdur, err = r.number()
		case "pid":
			of.pid, err = r.text()
		case "tid":
			of.tid, err = r.text()
		case "sf":
			sf, err = r.text()
		case "args":
			err = r.object(func(name string) (err error) {
				var v float64
				switch name {
				case "name":
					argName, err = r.text()
				case "url", "file":
					f.File, err = r.text()
				case "line":
					v, err = r.number()
					f.Line = lineOf(v)
				case "column", "col":
					v, err = r.number()
					f.Column = lineOf(v)
				case "module":
					f.Module, err = r.text()
				case "startLine":
					v, err = r.number()
					f.StartLine = lineOf(v)
				case "inlined":
					v, err = r.number()
					f.Inlined = v == 1
				case "samples":
					count, err = r.number()
				default:
					err = r.SkipValue()
				}
				return err
			})
		default:
			err = r.SkipValue()
		}
		return err
	})
	if err != nil {
		return err
	}
	if f.File == "" && f.Module == "" {
		f.Line, f.Column = 0, 0 // of something else
	}
	switch phase {
	case "M":
		switch f.Func {
		case "process_name":
			r.comms[of.pid] = argName
		case "thread_name":
			r.names[of] = argName
		}
		return nil
	case "B", "E", "X":
	case "P":
		if sf != "" { // a sample of its own
			if ns, ok := micros(at); ok {
				r.samples = append(r.samples, chromeSample{of: of, at: ns, weight: 1, count: -1, stack: sf})
				return nil
			}
		}
		r.other++
		return nil
	default:
		r.other++
		return nil
	}
	e := chromeEvent{phase: phase[0], count: -1}
	if count >= 0 && count <= math.MaxInt32 {
		e.count = int32(count)
	}
	var ok bool
	if e.at, ok = micros(at); !ok {
		r.b.skip(1, skippedTime)
		return nil
	}
	if e.end = e.at; phase == "X" {
		if math.IsNaN(dur) {
			dur = tdur
		}
		ns, ok := micros(dur)
		if !ok && !math.IsNaN(dur) {
			r.b.skip(1, skippedTime)
			return nil
		}
		e.end = min(e.at+max(ns, 0), int64(maxTime))
	}
	id, ok := r.ids[f]
	if !ok {
		id = int32(len(r.frames))
		r.frames = append(r.frames, f)
		r.ids[f] = id
	}
	e.frame = id
	t := r.threads[of]
	if t == nil {
		t = &chromeEvents{of: of}
		r.threads[of] = t
		r.order = append(r.order, t)
	}
	t.events = append(t.events, e)
	return nil
}

func (r *chromeReader) sample(to *[]chromeSample) error {
	s := chromeSample{weight: 1, count: -1}
	at := math.NaN()
	err := r.object(func(name string) (err error) {
		switch name {
		case "pid":
			s.of.pid, err = r.text()
		case "tid":
			s.of.tid, err = r.text()
		case "ts":
			at, err = r.number()
		case "weight":
			s.weight, err = r.number()
		case "count":
			var v float64
			v, err = r.number()
			if s.count = int64(v); !(v >= 0 && v < maxTotal) {
				s.count = -1
			}
		case "sf":
			s.stack, err = r.text()
		default:
			err = r.SkipValue()
		}
		return err
	})
	if err != nil {
		return err
	}
	var ok bool
	if s.at, ok = micros(at); !ok {
		r.b.skip(1, skippedTime)
		return nil
	}
	*to = append(*to, s)
	return nil
}

func (r *chromeReader) node(id string) error {
	n := &chromeNode{}
	r.nodes[id] = n
	return r.object(func(name string) (err error) {
		var v float64
		f := &n.frame
		switch name {
		case "name":
			f.Func, err = r.text()
		case "parent":
			n.parent, err = r.text()
		case "file":
			f.File, err = r.text()
		case "module":
			f.Module, err = r.text()
		case "line":
			v, err = r.number()
			f.Line = lineOf(v)
		case "column":
			v, err = r.number()
			f.Column = lineOf(v)
		case "startLine":
			v, err = r.number()
			f.StartLine = lineOf(v)
		case "inlined":
			v, err = r.number()
			f.Inlined = v == 1
		default:
			err = r.SkipValue()
		}
		return err
	})
}

func (r *chromeReader) capture() (*profile.Capture, error) {
	kind := r.kind
	if kind == "" {
		kind = "time"
	}
	if len(r.samples) > 0 {
		if err := r.addSamples(); err != nil {
			return nil, err
		}
	}
	long := false
	for _, t := range r.order {
		long = long || slices.ContainsFunc(t.events, func(e chromeEvent) bool { return e.phase != 'X' || e.end > e.at })
	}
	if len(r.samples) == 0 || long || len(r.extra) > 0 {
		t := r.b.series(kind, profile.Nanoseconds, profile.Microseconds, 0)
		t.spans = true
		if r.kind != "" {
			t.s.Source = ""
		}
		for _, of := range r.order {
			r.nest(t, r.task(of.of), of.events)
		}
		for _, s := range r.extra {
			if err := r.addSample(t, s); err != nil {
				return nil, err
			}
		}
	}
	if !r.events {
		return nil, errors.New("it has neither traceEvents nor samples")
	}
	r.b.rebase()
	return r.b.finish()
}

// task is a thread by its numbers; those that are no numbers become part of its name.
func (r *chromeReader) task(of chromeThread) profile.TaskID {
	t := profile.Task{Comm: r.names[of]}
	if t.Comm == "" {
		t.Comm = r.comms[of.pid]
	}
	var err error
	if t.PID, err = strconv.Atoi(of.pid); err != nil && t.Comm == "" {
		t.Comm = of.pid
	}
	if t.TID, err = strconv.Atoi(of.tid); err != nil && of.tid != "" && r.names[of] == "" {
		t.Comm = of.tid
	}
	return r.b.task(t)
}

// nest turns a thread's events into samples: each interval between two events belongs to the innermost
// call that spans it.
func (r *chromeReader) nest(t *track, task profile.TaskID, events []chromeEvent) {
	calls := r.match(events)
	slices.SortStableFunc(calls, func(a, b chromeEvent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.end, a.end))
	})
	type open struct {
		end   int64
		stack profile.StackID
		count int64 // of the next sample
	}
	var stack []open
	at := int64(math.MinInt64)
	emit := func(to int64, always bool) {
		if n := len(stack); n > 0 && (to > at || always) {
			top := &stack[n-1]
			t.add(profile.Sample{Stack: top.stack, Task: task, Time: time.Duration(at), Count: top.count, Weight: to - at})
			if r.kind != "" {
				top.count = 0 // all that Sightline has counted is in the first
			}
		}
		at = to
	}
	advance := func(to int64) {
		for n := len(stack); n > 0 && stack[n-1].end <= to; n = len(stack) {
			emit(stack[n-1].end, false)
			stack = stack[:n-1]
		}
		emit(to, false)
	}
	for _, c := range calls {
		advance(c.at)
		end, parent := c.end, profile.StackID(0)
		if n := len(stack); n > 0 {
			parent = stack[n-1].stack
			if end > stack[n-1].end {
				end = stack[n-1].end
				r.b.skip(1, "Events that last longer than what they are within were cut to its end.")
			}
		}
		count := int64(1)
		if r.kind != "" && c.count >= 0 {
			count = int64(c.count)
		}
		stack = append(stack, open{end, r.b.push(parent, r.b.location(r.frames[c.frame])), count})
		if c.end == c.at {
			emit(c.at, true) // it happened, however short
		}
	}
	advance(math.MaxInt64)
}

// match makes calls of a thread's B and E, and leaves X as they are. An E ends the innermost open B of
// its name, and with it those within; an E without a name ends the innermost. A B without an E lasts
// until the thread's last event.
func (r *chromeReader) match(events []chromeEvent) []chromeEvent {
	slices.SortStableFunc(events, func(a, b chromeEvent) int { return cmp.Compare(a.at, b.at) })
	var calls []chromeEvent
	var open []int            // into calls
	names := map[string]int{} // how many of open have the name
	name := func(call int) string { return r.frames[calls[call].frame].Func }
	last := int64(math.MinInt64)
	for _, e := range events {
		last = max(last, e.end)
		switch e.phase {
		case 'X':
			calls = append(calls, e)
		case 'B':
			names[r.frames[e.frame].Func]++
			open = append(open, len(calls))
			calls = append(calls, e)
		case 'E':
			i := len(open) - 1
			if ends := r.frames[e.frame].Func; ends != "" && names[ends] == 0 {
				i = -1
			} else if ends != "" {
				for name(open[i]) != ends {
					i--
				}
			}
			if i < 0 {
				r.b.skip(1, "Events that end something that has not begun were left out.")
				continue
			}
			if left := len(open) - 1 - i; left > 0 {
				r.b.skip(int64(left), "Events that did not end before what they are within were ended with it.")
			}
			for _, c := range open[i:] {
				calls[c].end = e.at
				names[name(c)]--
			}
			open = open[:i]
		}
	}
	for _, c := range open {
		calls[c].end = max(last, calls[c].at)
	}
	if len(open) > 0 {
		r.b.skip(int64(len(open)), "Events that never ended were ended with their thread.")
	}
	return calls
}

// stackOf is the stack of a member of stackFrames.
func (r *chromeReader) stackOf(id string) (profile.StackID, error) {
	var chain []*chromeNode
	at := profile.StackID(0)
	for id != "" {
		n := r.nodes[id]
		if n == nil && id == "0" && len(chain) > 0 {
			break // some write 0 for no parent
		}
		if n == nil {
			return 0, fmt.Errorf("a stack names the frame %q, which is not among its stackFrames", id)
		}
		if n.resolved {
			at = n.stack
			break
		}
		if chain = append(chain, n); len(chain) > len(r.nodes) {
			return 0, fmt.Errorf("stackFrames make a circle: %q is among its own callers", id)
		}
		id = n.parent
	}
	for _, n := range slices.Backward(chain) {
		at = r.b.push(at, r.b.location(n.frame))
		n.stack, n.resolved = at, true
	}
	return at, nil
}

// addSamples adds what is in samples. A sample stands for the time until its thread's next, and counts
// as often as its weight says; what Sightline wrote says what its weight is.
func (r *chromeReader) addSamples() error {
	slices.SortStableFunc(r.samples, func(a, b chromeSample) int { return cmp.Compare(a.at, b.at) })
	next := map[chromeThread]int64{}
	if r.unit != "" {
		unit := r.unit
		if unit == profile.Millionths {
			unit = profile.None
		}
		t := r.b.series(r.kind, unit, "", 0)
		for _, s := range r.samples {
			if err := r.addSample(t, s); err != nil {
				return err
			}
		}
		return nil
	}
	t := r.b.series("samples", profile.Nanoseconds, profile.Microseconds, 0)
	t.spans = true
	for _, s := range slices.Backward(r.samples) {
		stack, err := r.sampleStack(s)
		if err != nil {
			return err
		}
		x := profile.Sample{Stack: stack, Task: r.task(s.of), Time: time.Duration(s.at), Count: max(countOf(s.weight), 1)}
		if end, ok := next[s.of]; ok {
			x.Weight = end - s.at
		}
		next[s.of] = s.at
		t.add(x)
	}
	return nil
}

// addSample adds a sample that Sightline has written.
func (r *chromeReader) addSample(t *track, s chromeSample) error {
	stack, err := r.sampleStack(s)
	if err != nil {
		return err
	}
	x := profile.Sample{Stack: stack, Task: r.task(s.of), Time: time.Duration(s.at), Count: 1}
	if s.count >= 0 {
		x.Count = s.count
	}
	t.value(x, s.weight, 1)
	return nil
}

func (r *chromeReader) sampleStack(s chromeSample) (profile.StackID, error) {
	if s.stack == "" {
		return 0, nil
	}
	return r.stackOf(s.stack)
}
