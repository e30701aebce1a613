package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// speedscope is the JSON of speedscope.app (src/lib/file-format-spec.ts of jlfwong/speedscope): frames
// shared by several profiles, which are events that open and close frames, or samples with weights.
// Each profile becomes a thread of one series per unit.
var speedscope = &format{
	Info: Info{
		Format:      Speedscope,
		Description: "JSON of speedscope.app",
		Extension:   ".speedscope.json",
		Several:     true,
	},
	sniff: func(head []byte) bool {
		s, ok := shapeOf(head)
		return ok && !s.array && (strings.Contains(s.schema, "speedscope") || s.has("shared.frames", "profiles") || s.has("profiles.startValue", "profiles.unit"))
	},
	read:  readSpeedscope,
	write: writeSpeedscope,
}

const speedscopeSchema = "https://www.speedscope.app/file-format-schema.json"

// A speedscopeUnit is what a unit of the format is in ours.
type speedscopeUnit struct {
	kind         profile.Kind
	unit, source profile.Unit
	scale        float64       // of weights
	time         time.Duration // of one unit; 0 where it is no time
}

var speedscopeUnits = map[string]speedscopeUnit{
	"nanoseconds":  {"time", profile.Nanoseconds, "", 1, time.Nanosecond},
	"microseconds": {"time", profile.Nanoseconds, profile.Microseconds, 1e3, time.Microsecond},
	"milliseconds": {"time", profile.Nanoseconds, profile.Milliseconds, 1e6, time.Millisecond},
	"seconds":      {"time", profile.Nanoseconds, profile.Seconds, 1e9, time.Second},
	"bytes":        {"bytes", profile.Bytes, "", 1, 0},
	"none":         {"samples", profile.None, "", 1, 0},
}

type speedscopeReader struct {
	*jsonReader
	draft    *draft
	frames   []profile.Frame
	profiles []*speedscopeProfile
	name     string
	kind     profile.Kind // that Sightline has written
}

// A speedscopeProfile is one of the file. Its samples are of the draft's stacks, in its own units.
type speedscopeProfile struct {
	name, kind, unit string
	start            float64
	samples          []speedscopeSample
	weights          int  // elements of weights seen
	open             int  // frames that were not closed
	events           bool // it has events

	length float64 // of its weights, where it has no events
	// What Sightline has written beside what the format has.
	thread        string
	measures      profile.Kind
	in            profile.Unit
	counts, times []float64
}

type speedscopeSample struct {
	stack      profile.StackID
	at, weight float64
}

func readSpeedscope(_ context.Context, in *input, o Options) (*profile.Capture, error) {
	r := &speedscopeReader{jsonReader: newJSONReader(in), draft: newDraft()}
	err := r.object(func(name string) error {
		switch name {
		case "name":
			s, err := r.text()
			r.name = s
			return err
		case "sightlineKind":
			s, err := r.text()
			r.kind = profile.Kind(s)
			return err
		case "shared":
			return r.object(func(name string) error {
				if name == "frames" {
					return r.array(r.frame)
				}
				return r.SkipValue()
			})
		case "profiles":
			return r.array(r.profile)
		}
		return r.SkipValue()
	})
	if err != nil {
		return nil, r.explain(err)
	}
	return r.capture(newBuilder(in, "speedscope", o))
}

func (r *speedscopeReader) frame() error {
	var f profile.Frame
	err := r.object(func(name string) (err error) {
		var v float64
		switch name {
		case "name":
			f.Func, err = r.text()
		case "file":
			f.File, err = r.text()
		case "line":
			v, err = r.number()
			f.Line = lineOf(v)
		case "col":
			v, err = r.number()
			f.Column = lineOf(v)
		case "module": // Sightline's
			f.Module, err = r.text()
		case "startLine":
			v, err = r.number()
			f.StartLine = lineOf(v)
		default:
			err = r.SkipValue()
		}
		return err
	})
	r.frames = append(r.frames, f)
	return err
}

func (r *speedscopeReader) profile() error {
	p := &speedscopeProfile{}
	r.profiles = append(r.profiles, p)
	stacks, weights := 0, []float64(nil)
	err := r.object(func(name string) (err error) {
		switch name {
		case "name":
			p.name, err = r.text()
		case "type":
			p.kind, err = r.text()
		case "unit":
			p.unit, err = r.text()
		case "startValue":
			p.start, err = r.number()
		case "events":
			p.events = true
			err = r.events(p)
		case "samples":
			err = r.array(func() error {
				at := profile.StackID(0)
				err := r.array(func() error {
					v, err := r.number()
					if err != nil {
						return err
					}
					n := indexOf(v)
					if n < 0 {
						return fmt.Errorf("sample %d of %s names a frame that is no index", stacks+1, r.title(p))
					}
					at = r.draft.push(at, n)
					return nil
				})
				stacks++
				p.samples = append(p.samples, speedscopeSample{stack: at})
				return err
			})
		case "weights":
			weights, err = r.numbers()
		case "sightlineThread":
			p.thread, err = r.text()
		case "sightlineKind":
			var s string
			s, err = r.text()
			p.measures = profile.Kind(s)
		case "sightlineUnit":
			var s string
			s, err = r.text()
			p.in = profile.Unit(s)
		case "sightlineCounts":
			p.counts, err = r.numbers()
		case "sightlineTimes":
			p.times, err = r.numbers()
		default:
			err = r.SkipValue()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case p.events && stacks > 0:
		return fmt.Errorf("%s has both events and samples; it can be of one type only", r.title(p))
	case p.open > 0:
		return fmt.Errorf("%s ends while %d frames are open; each event of type O needs one of type C", r.title(p), p.open)
	case !p.events && stacks != len(weights):
		return fmt.Errorf("%s has %d samples and %d weights; each sample needs one", r.title(p), stacks, len(weights))
	}
	for i, w := range weights {
		p.samples[i].weight = w
		p.length += w
	}
	return nil
}

// title names a profile in messages.
func (r *speedscopeReader) title(p *speedscopeProfile) string {
	i := slices.Index(r.profiles, p)
	if p.name == "" {
		return fmt.Sprintf("profile %d", i+1)
	}
	return fmt.Sprintf("profile %d, %q,", i+1, p.name)
}

// events turns frames that open and close into samples: what passes between two events belongs to the
// stack that is open.
func (r *speedscopeReader) events(p *speedscopeProfile) error {
	var open []int
	stacks := []profile.StackID{0}
	last, n := math.Inf(-1), 0
	err := r.array(func() error {
		n++
		kind, frame, at := "", -1, math.NaN()
		err := r.object(func(name string) (err error) {
			var v float64
			switch name {
			case "type":
				kind, err = r.text()
			case "frame":
				v, err = r.number()
				frame = indexOf(v)
			case "at":
				at, err = r.number()
			default:
				err = r.SkipValue()
			}
			return err
		})
		switch top := len(open) - 1; {
		case err != nil:
			return err
		case frame < 0:
			return fmt.Errorf("event %d of %s names a frame that is no index", n, r.title(p))
		case math.IsNaN(at):
			return fmt.Errorf("event %d of %s has no time", n, r.title(p))
		case at < last:
			return fmt.Errorf("event %d of %s is at %v, before the event that precedes it, at %v; events must be in order", n, r.title(p), at, last)
		case kind == "O":
			r.pass(p, stacks[len(stacks)-1], last, at)
			open = append(open, frame)
			stacks = append(stacks, r.draft.push(stacks[len(stacks)-1], frame))
		case kind == "C" && top < 0:
			return fmt.Errorf("event %d of %s closes frame %d, but none is open", n, r.title(p), frame)
		case kind == "C" && open[top] != frame:
			return fmt.Errorf("event %d of %s closes frame %d while frame %d is innermost; frames must close in the reverse order", n, r.title(p), frame, open[top])
		case kind == "C":
			r.pass(p, stacks[len(stacks)-1], last, at)
			open, stacks = open[:top], stacks[:len(stacks)-1]
		default:
			return fmt.Errorf("event %d of %s is of type %q; known are O and C", n, r.title(p), kind)
		}
		last = at
		return nil
	})
	p.open = len(open)
	return err
}

func (r *speedscopeReader) pass(p *speedscopeProfile, stack profile.StackID, from, to float64) {
	if stack != 0 && to > from {
		p.samples = append(p.samples, speedscopeSample{stack: stack, at: from, weight: to - from})
	}
}

func (r *speedscopeReader) capture(b *builder) (*profile.Capture, error) {
	if len(r.profiles) == 0 {
		return nil, errors.New("it has no profiles")
	}
	if _, frames := r.draft.stacks.Columns(); int(slices.Max(frames)) > len(r.frames) {
		return nil, fmt.Errorf("a stack has frame %d, but the file has %d frames", slices.Max(frames)-1, len(r.frames))
	}
	locations := make([]profile.LocationID, len(r.frames))
	to := r.draft.resolve(b, func(n int) profile.LocationID {
		if locations[n] == 0 {
			locations[n] = b.location(r.frames[n])
		}
		return locations[n]
	})
	if r.name != "" {
		b.c.Target.Command = commandWords(clean(r.name))
	}
	first := math.Inf(1) // of times, in nanoseconds
	timed, threads := false, map[string]int{}
	for _, p := range r.profiles {
		timed = timed || p.times != nil
		if u, ok := speedscopeUnits[p.unit]; ok && u.time > 0 && p.events && !math.IsNaN(p.start) {
			first = min(first, p.start*float64(u.time))
		}
	}
	for i, p := range r.profiles {
		u, ok := speedscopeUnits[p.unit]
		if !ok {
			if p.unit != "" {
				return nil, fmt.Errorf("%s has the unit %q; known are nanoseconds, microseconds, milliseconds, seconds, bytes and none", r.title(p), p.unit)
			}
			u = speedscopeUnits["none"]
		}
		if r.kind != "" {
			u.kind = r.kind
		}
		if p.measures != "" {
			u.kind = p.measures
		}
		if p.in == profile.Cycles && u.unit == profile.None {
			u.unit = p.in
		}
		t := b.series(u.kind, u.unit, u.source, 0)
		if t.loose != (u.unit == profile.None) || !t.loose && t.s.Unit != u.unit {
			t = b.series(u.kind+"-"+profile.Kind(u.unit), u.unit, u.source, 0)
		}
		t.spans = t.spans || u.time > 0 && p.events
		if length, ok := since(p.length, u.time); ok && !p.events && !timed {
			b.c.Length = max(b.c.Length, length) // threads run side by side
		}
		if p.thread != "" {
			p.name = p.thread
		}
		task := profile.TaskID(0)
		if len(r.profiles) > 1 && !(p.measures != "" && p.name == r.name) || p.name != "" && p.name != r.name {
			tid := i + 1
			if p.measures != "" { // of Sightline, where a thread has a profile for each kind
				if threads[p.name] == 0 {
					threads[p.name] = tid
				}
				tid = threads[p.name]
			}
			task = b.task(profile.Task{TID: tid, Comm: p.name})
		}
		for n, s := range p.samples {
			x := profile.Sample{Stack: to[s.stack], Task: task, Count: 1}
			if n < len(p.counts) && p.counts[n] >= 0 && p.counts[n] < maxTotal {
				x.Count = int64(p.counts[n])
			}
			if n < len(p.times) {
				var ok bool
				if x.Time, ok = since(p.times[n], time.Nanosecond); !ok {
					b.skip(1, skippedTime)
					continue
				}
			} else if u.time > 0 && p.events {
				at, ok := since(s.at-first/float64(u.time), u.time)
				if !ok {
					b.skip(1, skippedTime)
					continue
				}
				x.Time = at
			}
			t.value(x, s.weight, u.scale)
		}
	}
	return b.finish()
}

// writeSpeedscope writes each thread of each kind as a profile of samples: the format's events cannot
// say that two samples overlap, nor that one has a negative weight. Module and first line of a
// function, and of profiles the kind, the unit, the times of samples and how many events each stands
// for, are members that only Sightline reads.
func writeSpeedscope(w io.Writer, e Export) error {
	profiles := e.together()
	out := newJSONWriter(w)
	out.open('{')
	out.member("$schema", jsontext.String(speedscopeSchema))
	out.member("exporter", jsontext.String("sightline"))
	out.member("name", jsontext.String(clean(e.Name)))
	out.member("activeProfileIndex", jsontext.Int(0))
	out.name("shared")
	out.open('{')
	out.name("frames")
	out.open('[')
	for i := range profiles[0].Frames[1:] {
		f := &profiles[0].Frames[i+1]
		out.open('{')
		out.member("name", jsontext.String(clean(f.Func)))
		out.texts("file", f.File, "module", f.Module)
		out.positive("line", f.Line, "col", f.Column, "startLine", f.StartLine)
		out.close('}')
	}
	out.close(']')
	out.close('}')
	out.name("profiles")
	out.open('[')
	for _, p := range profiles {
		for _, t := range byTask(p) {
			title := taskTitle(p.Tasks[t.task], e.Name)
			out.speedscopeProfile(p, t, title, len(profiles) > 1)
		}
	}
	out.close(']')
	out.close('}')
	return out.flush()
}

// speedscopeProfile writes a thread of a kind.
func (j *jsonWriter) speedscopeProfile(p *profile.Profile, t thread, title string, several bool) {
	unit := "none"
	switch p.Unit {
	case profile.Nanoseconds:
		unit = "nanoseconds"
	case profile.Bytes:
		unit = "bytes"
	}
	j.open('{')
	j.member("type", jsontext.String("sampled"))
	if several {
		j.member("name", jsontext.String(clean(string(p.Kind))+": "+title))
		j.texts("sightlineThread", title)
	} else {
		j.member("name", jsontext.String(title))
	}
	j.texts("sightlineKind", string(p.Kind), "sightlineUnit", string(p.Unit))
	j.member("unit", jsontext.String(unit))
	j.name("samples")
	j.open('[')
	var buf []profile.FrameID
	for _, i := range t.samples {
		j.open('[')
		buf = p.Stacks.RootFirst(p.Samples.Stack[i], buf)
		for _, f := range buf {
			j.value(jsontext.Int(int64(f) - 1))
		}
		j.close(']')
	}
	j.close(']')
	j.name("weights")
	j.open('[')
	var total int64
	for _, i := range t.samples {
		total += p.Samples.Weight[i]
		j.raw(plainWeight(p.Samples.Weight[i], p.Unit, 0))
	}
	j.close(']')
	if p.Samples.Count != nil {
		j.numbers("sightlineCounts", t.samples, func(i int) int64 { return p.Samples.Count[i] })
	}
	if slices.ContainsFunc(t.samples, func(i int) bool { return p.Samples.Time[i] != 0 }) {
		j.numbers("sightlineTimes", t.samples, func(i int) int64 { return int64(p.Samples.Time[i]) })
	}
	j.member("startValue", jsontext.Int(0))
	j.name("endValue")
	j.raw(plainWeight(total, p.Unit, 0))
	j.close('}')
}

// numbers writes an array of a number for each of the indices.
func (j *jsonWriter) numbers(name string, of []int, at func(i int) int64) {
	j.name(name)
	j.open('[')
	for _, i := range of {
		j.value(jsontext.Int(at(i)))
	}
	j.close(']')
}
