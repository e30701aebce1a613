package convert

import (
	"bytes"
	"io"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// writeChrome writes times as complete events (X), which every viewer draws: the samples of a thread
// lie one after the other, each as long as it weighs, at its time or when the one before ends, and
// what consecutive samples have in common is one event. Tasks that are one thread under two names (it
// has called exec) are one thread under the last of them, as events know threads by number.
//
// Weights that are no times, or are negative, are written as samples with stackFrames, which fewer
// viewers draw. Only Sightline reads what events cannot say: how often something happened (the
// argument samples of an event of which that is not once), and samples without a stack or a length
// (the member sightlineSamples).
func writeChrome(w io.Writer, e Export) error {
	p := e.Profile
	c := &chromeWriter{jsonWriter: newJSONWriter(w), p: p, args: map[profile.FrameID]jsontext.Value{}}
	c.open('{')
	c.name("otherData")
	c.open('{')
	c.member("exporter", jsontext.String("sightline"))
	c.texts("name", e.Name, "sightlineKind", string(p.Kind))
	spans := p.Unit == profile.Nanoseconds && !slices.ContainsFunc(p.Samples.Weight, func(w int64) bool { return w < 0 })
	if !spans {
		c.texts("sightlineUnit", string(p.Unit))
	}
	c.close('}')
	c.member("displayTimeUnit", jsontext.String("ms"))
	c.name("traceEvents")
	c.open('[')
	c.tasks = chromeTasks(p)
	processes := map[int]bool{}
	for _, t := range c.threads() {
		task := c.tasks[t.task]
		if !processes[task.PID] {
			processes[task.PID] = true
			name := e.Name
			for _, t := range c.tasks {
				if t.PID == task.PID && t.TID == task.PID && t.Comm != "" {
					name = t.Comm
				}
			}
			c.meta("process_name", task, name)
		}
		if task.Comm != "" {
			c.meta("thread_name", task, task.Comm)
		}
		if spans {
			c.spans(t)
		}
	}
	c.close(']')
	if spans {
		c.samples("sightlineSamples", func(x profile.Sample) bool { return x.Stack == 0 || x.Weight == 0 })
	} else {
		c.samples("samples", func(profile.Sample) bool { return true })
	}
	c.close('}')
	return c.flush()
}

// chromeTasks are the profile's tasks as a trace numbers them: threads that are known by name alone
// have made-up numbers, lest they be one.
func chromeTasks(p *profile.Profile) []profile.Task {
	all := slices.Clone(p.Tasks)
	last, known := 0, map[string]int{}
	for _, t := range all {
		last = max(last, t.TID)
	}
	for i := range all {
		t := &all[i]
		if t.PID != 0 || t.TID != 0 || t.Comm == "" {
			continue
		}
		tid, ok := known[t.Comm]
		if !ok {
			if len(known) > 0 {
				last++
				tid = last
			}
			known[t.Comm] = tid
		}
		t.TID = tid
	}
	return all
}

// threads are the samples of each pid and tid, under the task that it was last.
func (c *chromeWriter) threads() []thread {
	var all []thread
	at := map[[2]int]int{}
	for _, t := range byTask(c.p) {
		task := c.tasks[t.task]
		key := [2]int{task.PID, task.TID}
		n, ok := at[key]
		if !ok {
			at[key] = len(all)
			all = append(all, t)
			continue
		}
		merged := &all[n]
		if slices.Max(t.samples) > slices.Max(merged.samples) {
			merged.task = t.task
		}
		merged.samples = append(merged.samples, t.samples...)
	}
	for _, t := range all {
		slices.Sort(t.samples)
	}
	return all
}

type chromeWriter struct {
	*jsonWriter
	p     *profile.Profile
	tasks []profile.Task                     // of the profile, as they are written
	args  map[profile.FrameID]jsontext.Value // of events; they repeat for each
}

func (c *chromeWriter) meta(what string, t profile.Task, name string) {
	c.event(what, "M", t)
	c.name("args")
	c.open('{')
	c.member("name", jsontext.String(clean(name)))
	c.close('}')
	c.close('}')
}

// event begins one.
func (c *chromeWriter) event(name, phase string, t profile.Task) {
	c.open('{')
	c.member("name", jsontext.String(clean(name)))
	c.member("ph", jsontext.String(phase))
	c.member("pid", jsontext.Int(int64(t.PID)))
	c.member("tid", jsontext.Int(int64(t.TID)))
}

// micros writes a member in microseconds, exactly.
func (c *chromeWriter) micros(name string, ns int64) {
	c.name(name)
	c.raw(plainWeight(ns, profile.Nanoseconds, 3))
}

// A span is a call that lasts.
type span struct {
	frame   profile.FrameID
	at, end int64
	count   int64 // of the samples whose leaf it is
	leaf    bool  // there are some
}

func (c *chromeWriter) spans(t thread) {
	p := c.p
	task := c.tasks[t.task]
	var (
		spans  []span
		open   []int // into spans
		stacks []profile.StackID
		path   []profile.StackID
		end    int64
	)
	for _, i := range t.samples {
		x := p.Samples.At(i)
		if x.Stack == 0 || x.Weight == 0 {
			continue // see writeChrome
		}
		at := int64(x.Time)
		if at < end || at-end < x.Weight && end > 0 {
			at = end // what samplers are late by is no gap
		}
		path = path[:0]
		for s := x.Stack; s != 0; s = p.Stacks.Parent(s) {
			path = append(path, s)
		}
		slices.Reverse(path)
		same := 0
		if at == end {
			for same < min(len(path), len(stacks)) && path[same] == stacks[same] {
				same++
			}
		}
		for _, s := range open[same:] {
			spans[s].end = end
		}
		open, stacks = open[:same], stacks[:same]
		if same == 0 {
			c.flushSpans(task, spans)
			spans = spans[:0]
		}
		for _, s := range path[same:] {
			open = append(open, len(spans))
			stacks = append(stacks, s)
			spans = append(spans, span{frame: p.Stacks.Leaf(s), at: at})
		}
		leaf := &spans[open[len(open)-1]]
		leaf.count, leaf.leaf = leaf.count+x.Count, true
		end = at + x.Weight
	}
	for _, s := range open {
		spans[s].end = end
	}
	c.flushSpans(task, spans)
}

func (c *chromeWriter) flushSpans(t profile.Task, spans []span) {
	for _, s := range spans {
		f := &c.p.Frames[s.frame]
		c.event(f.Func, "X", t)
		c.micros("ts", s.at)
		c.micros("dur", s.end-s.at)
		if args := c.argsOf(s.frame); s.leaf && s.count != 1 {
			c.name("args")
			c.open('{')
			c.place(f)
			c.member("samples", jsontext.Int(s.count))
			c.close('}')
		} else if len(args) > 0 {
			c.name("args")
			c.raw(string(args))
		}
		c.close('}')
	}
}

// argsOf says where a frame is, in a value of its own; nil where nothing is known.
func (c *chromeWriter) argsOf(id profile.FrameID) jsontext.Value {
	args, ok := c.args[id]
	if f := &c.p.Frames[id]; !ok && (f.File != "" || f.Module != "") {
		var b bytes.Buffer
		w := chromeWriter{jsonWriter: newJSONWriter(&b)}
		w.open('{')
		w.place(f)
		w.close('}')
		if err := w.flush(); err != nil && c.err == nil {
			c.err = err
		}
		args = jsontext.Value(bytes.TrimSpace(b.Bytes()))
	}
	if !ok {
		c.args[id] = args
	}
	return args
}

// place says where a frame is.
func (c *chromeWriter) place(f *profile.Frame) {
	c.texts("file", f.File, "module", f.Module)
	inlined := 0
	if f.Inlined {
		inlined = 1
	}
	c.positive("line", f.Line, "column", f.Column, "startLine", f.StartLine, "inlined", inlined)
}

// samples writes those that are of the list under a name, and the stacks that they need.
func (c *chromeWriter) samples(name string, of func(profile.Sample) bool) {
	p := c.p
	var list []int
	needed := make([]bool, p.Stacks.Len())
	for i := range p.Samples.Len() {
		if x := p.Samples.At(i); of(x) {
			list = append(list, i)
			needed[x.Stack] = true
		}
	}
	if len(list) == 0 && name != "samples" {
		return
	}
	c.name(name)
	c.open('[')
	for _, i := range list {
		x := p.Samples.At(i)
		t := c.tasks[x.Task]
		c.open('{')
		c.member("name", jsontext.String(clean(string(p.Kind))))
		c.member("pid", jsontext.Int(int64(t.PID)))
		c.member("tid", jsontext.Int(int64(t.TID)))
		c.micros("ts", int64(x.Time))
		c.name("weight")
		c.raw(plainWeight(x.Weight, p.Unit, 0))
		if x.Count != 1 {
			c.member("count", jsontext.Int(x.Count))
		}
		if x.Stack != 0 {
			c.member("sf", jsontext.Int(int64(x.Stack)))
		}
		c.close('}')
	}
	c.close(']')
	c.name("stackFrames")
	c.open('{')
	parents, leaves := p.Stacks.Columns()
	for id := len(parents) - 1; id > 0; id-- {
		needed[parents[id]] = needed[parents[id]] || needed[id]
	}
	for id := 1; id < len(parents); id++ {
		if !needed[id] {
			continue
		}
		f := &p.Frames[leaves[id]]
		c.name(strconv.Itoa(id))
		c.open('{')
		c.member("name", jsontext.String(clean(f.Func)))
		c.member("category", jsontext.String(clean(f.Module)))
		if parents[id] != 0 {
			c.member("parent", jsontext.Int(int64(parents[id])))
		}
		c.place(f)
		c.close('}')
	}
	c.close('}')
}
