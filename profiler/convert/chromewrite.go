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
// what consecutive samples have in common is one event. What has no stack cannot be said so and is left
// out, and so are counts.
//
// Weights that are no times, or are negative, are written as samples with stackFrames, which fewer
// viewers draw.
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
	threads := byTask(p)
	processes := map[int]bool{}
	for _, t := range threads {
		task := p.Tasks[t.task]
		if !processes[task.PID] {
			processes[task.PID] = true
			name := e.Name
			if i := slices.IndexFunc(p.Tasks, func(t profile.Task) bool { return t.PID == task.PID && t.TID == task.PID && t.Comm != "" }); i > 0 {
				name = p.Tasks[i].Comm
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
	if !spans {
		c.samples()
	}
	c.close('}')
	return c.flush()
}

type chromeWriter struct {
	*jsonWriter
	p    *profile.Profile
	args map[profile.FrameID]jsontext.Value // of events; they repeat for each
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
}

func (c *chromeWriter) spans(t thread) {
	p := c.p
	task := p.Tasks[t.task]
	var (
		spans  []span
		open   []int // into spans
		stacks []profile.StackID
		path   []profile.StackID
		end    int64
	)
	for _, i := range t.samples {
		x := p.Samples.At(i)
		if x.Stack == 0 {
			continue
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
		if args := c.argsOf(s.frame); len(args) > 0 {
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

func (c *chromeWriter) samples() {
	p := c.p
	c.name("samples")
	c.open('[')
	for i := range p.Samples.Len() {
		x := p.Samples.At(i)
		t := p.Tasks[x.Task]
		c.open('{')
		c.member("name", jsontext.String(clean(string(p.Kind))))
		c.member("pid", jsontext.Int(int64(t.PID)))
		c.member("tid", jsontext.Int(int64(t.TID)))
		c.micros("ts", int64(x.Time))
		c.name("weight")
		c.raw(plainWeight(x.Weight, p.Unit, 0))
		if x.Stack != 0 {
			c.member("sf", jsontext.Int(int64(x.Stack)))
		}
		c.close('}')
	}
	c.close(']')
	c.name("stackFrames")
	c.open('{')
	parents, leaves := p.Stacks.Columns()
	for id := 1; id < len(parents); id++ {
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
