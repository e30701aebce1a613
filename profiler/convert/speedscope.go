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
	at := p.start
	for i, w := range weights {
		p.samples[i].at, p.samples[i].weight = at, w
		at += w
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
		b.c.Target.Command = []string{clean(r.name)}
	}
	first := math.Inf(1) // of times, in nanoseconds
	for _, p := range r.profiles {
		if u, ok := speedscopeUnits[p.unit]; ok && u.time > 0 && !math.IsNaN(p.start) {
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
		t := b.series(u.kind, u.unit, u.source, 0)
		if t.loose != (u.unit == profile.None) || !t.loose && t.s.Unit != u.unit {
			t = b.series(u.kind+"-"+profile.Kind(u.unit), u.unit, u.source, 0)
		}
		t.spans = u.time > 0
		task := profile.TaskID(0)
		if len(r.profiles) > 1 || p.name != "" && p.name != r.name {
			task = b.task(profile.Task{TID: i + 1, Comm: p.name})
		}
		for _, s := range p.samples {
			x := profile.Sample{Stack: to[s.stack], Task: task, Count: 1}
			if u.time > 0 {
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

// writeSpeedscope writes each thread as a profile of samples: the format's events cannot say that two
// samples overlap, nor that one has a negative weight. Module and first line of a function are members
// of frames that only Sightline reads.
func writeSpeedscope(w io.Writer, e Export) error {
	p := e.Profile
	unit := "none"
	switch p.Unit {
	case profile.Nanoseconds:
		unit = "nanoseconds"
	case profile.Bytes:
		unit = "bytes"
	}
	out := newJSONWriter(w)
	out.open('{')
	out.member("$schema", jsontext.String(speedscopeSchema))
	out.member("exporter", jsontext.String("sightline"))
	out.member("name", jsontext.String(clean(e.Name)))
	out.member("sightlineKind", jsontext.String(clean(string(p.Kind))))
	out.member("activeProfileIndex", jsontext.Int(0))
	out.name("shared")
	out.open('{')
	out.name("frames")
	out.open('[')
	for i := range p.Frames[1:] {
		f := &p.Frames[i+1]
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
	threads := byTask(p)
	var buf []profile.FrameID
	for _, t := range threads {
		var total int64
		out.open('{')
		out.member("type", jsontext.String("sampled"))
		out.member("name", jsontext.String(taskTitle(p.Tasks[t.task], e.Name)))
		out.member("unit", jsontext.String(unit))
		out.name("samples")
		out.open('[')
		for _, i := range t.samples {
			out.open('[')
			buf = p.Stacks.RootFirst(p.Samples.Stack[i], buf)
			for _, f := range buf {
				out.value(jsontext.Int(int64(f) - 1))
			}
			out.close(']')
		}
		out.close(']')
		out.name("weights")
		out.open('[')
		for _, i := range t.samples {
			total += p.Samples.Weight[i]
			out.raw(plainWeight(p.Samples.Weight[i], p.Unit, 0))
		}
		out.close(']')
		out.member("startValue", jsontext.Int(0))
		out.name("endValue")
		out.raw(plainWeight(total, p.Unit, 0))
		out.close('}')
	}
	out.close(']')
	out.close('}')
	return out.flush()
}
