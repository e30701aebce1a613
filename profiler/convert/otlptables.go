package convert

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// An otlpReader makes samples of messages whose numbering is known.
type otlpReader struct {
	b        *builder
	o        Options
	messages []*otlpMessage
	version  otlpVersion
	origin   uint64 // the first time, in nanoseconds since 1970
	end      uint64 // of the last profile
	kinds    []string
	spent    int64 // see spend
	scratch  otlpSample
}

// spend counts work that a small file could ask for without bound: the same long name for many
// lines, the same frames for many samples. Beyond what the file's size justifies it is refused.
func (r *otlpReader) spend(n int) error {
	if r.spent += int64(n); r.spent > 1<<26+64*r.b.in.Seen() {
		return errOTLPTooMuch
	}
	return nil
}

var errOTLPTooMuch = errors.New("its samples ask for more frames and names than its size can hold; it is damaged")

// An otlpMessage is a ProfilesData, with the tables of its dictionary: the bytes of each entry, and what
// was made of it.
type otlpMessage struct {
	data                                                        []byte
	strings, mappings, locations, functions, attributes, stacks [][]byte

	texts []otlpText
	keyed []otlpAttribute
	of    []profile.LocationID // of locations; 0 before it is made
	stack []profile.StackID    // of stacks; noStack before it is made
	task  otlpTask             // the last one, and its number
	id    profile.TaskID
}

type otlpText struct {
	s    string
	made bool
}

type otlpAttribute struct {
	key, text string
	number    int64
	made      bool
}

const noStack = math.MaxUint32

// tables finds the entries of the dictionary.
func (m *otlpMessage) tables() error {
	into := [...]*[][]byte{1: &m.mappings, 2: &m.locations, 3: &m.functions, 5: &m.strings, 6: &m.attributes, 7: &m.stacks}
	err := each(m.data, 2, func(b []byte) error {
		return fields(b, func(f wireField) error {
			if f.number < len(into) && into[f.number] != nil {
				if f.kind != wireBytes {
					return errWire
				}
				*into[f.number] = append(*into[f.number], f.data)
			}
			return nil
		})
	})
	m.of = make([]profile.LocationID, len(m.locations))
	m.stack = make([]profile.StackID, len(m.stacks))
	for i := range m.stack {
		m.stack[i] = noStack
	}
	m.texts, m.keyed = make([]otlpText, len(m.strings)), make([]otlpAttribute, len(m.attributes))
	return err
}

// text is a string of the dictionary, "" where there is none.
func (m *otlpMessage) text(i uint64) string {
	if i >= uint64(len(m.texts)) {
		return ""
	}
	t := &m.texts[i]
	if !t.made {
		t.s, t.made = clean(string(m.strings[i])), true
	}
	return t.s
}

func (r *otlpReader) read(ctx context.Context, m *otlpMessage) error {
	if err := m.tables(); err != nil {
		return err
	}
	return m.resources(func(resource []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		task, err := m.resource(resource)
		if err != nil {
			return err
		}
		return eachProfile(resource, func(b []byte) error { return r.readProfile(m, b, task) })
	})
}

// otlpTask gathers what attributes say of a thread.
type otlpTask struct {
	pid, tid           int64
	thread, executable string
}

func (t otlpTask) task() profile.Task {
	x := profile.Task{PID: bound(t.pid), TID: bound(t.tid), Comm: t.thread}
	if x.Comm == "" {
		x.Comm = t.executable
	}
	if x.TID == 0 {
		x.TID = x.PID
	}
	return x
}

// set takes an attribute by the names of OpenTelemetry's semantic conventions.
func (t *otlpTask) set(key, text string, number int64) {
	switch key {
	case "process.pid":
		t.pid = number
	case "thread.id":
		t.tid = number
	case "thread.name":
		t.thread = text
	case "process.executable.name":
		t.executable = text
	}
}

// resource is what a resource's attributes say.
func (m *otlpMessage) resource(b []byte) (t otlpTask, err error) {
	err = each(b, 1, func(b []byte) error {
		return each(b, 1, func(b []byte) error {
			key, text, number, err := m.attribute(b)
			t.set(key, text, number)
			return err
		})
	})
	return t, err
}

// attribute reads a KeyValue, or a KeyValueAndUnit, whose key is an index of a string.
func (m *otlpMessage) attribute(b []byte) (key, text string, number int64, err error) {
	err = fields(b, func(f wireField) error {
		switch {
		case f.number == 1 && f.kind == wireBytes:
			key = clean(string(f.data))
		case f.number == 1 || f.number == 3 && key == "":
			key = m.text(f.value)
		case f.number == 2:
			return fields(f.data, func(f wireField) error {
				switch f.number {
				case 1:
					text = clean(string(f.data))
				case 3:
					number = int64(f.value)
				case 8:
					text = m.text(f.value)
				}
				return nil
			})
		}
		return nil
	})
	if n, bad := strconv.ParseInt(text, 10, 64); bad == nil && number == 0 {
		number = n
	}
	return key, text, number, err
}

// attributesOf calls f for the attributes that indexes name.
func (m *otlpMessage) attributesOf(indexes []uint64, f func(key, text string, number int64)) error {
	for _, i := range indexes {
		if i >= uint64(len(m.attributes)) {
			continue
		}
		a := &m.keyed[i]
		if !a.made {
			var err error
			if a.key, a.text, a.number, err = m.attribute(m.attributes[i]); err != nil {
				return err
			}
			a.made = true
		}
		f(a.key, a.text, a.number)
	}
	return nil
}

// otlpUnits are the units that are kept as ours, with what one of them is.
var otlpUnits = map[string]struct {
	unit, source profile.Unit
	scale        int64
}{
	"nanoseconds": {profile.Nanoseconds, "", 1}, "ns": {profile.Nanoseconds, "", 1},
	"microseconds": {profile.Nanoseconds, profile.Microseconds, 1e3}, "us": {profile.Nanoseconds, profile.Microseconds, 1e3},
	"milliseconds": {profile.Nanoseconds, profile.Milliseconds, 1e6}, "ms": {profile.Nanoseconds, profile.Milliseconds, 1e6},
	"seconds": {profile.Nanoseconds, profile.Seconds, 1e9}, "s": {profile.Nanoseconds, profile.Seconds, 1e9},
	"bytes": {profile.Bytes, "", 1}, "By": {profile.Bytes, "", 1}, "cycles": {profile.Cycles, "", 1},
}

// An otlpTrack is a series that samples of a profile go into.
type otlpTrack struct {
	*track
	scale int64 // of a value
	count bool  // a value counts events
}

// track is the series of a type. Samples that are counted while the profiler takes them every so many
// nanoseconds are that much time, as in profiles of Go.
func (r *otlpReader) track(m *otlpMessage, t otlpType, p *otlpProfile) *otlpTrack {
	kind, unit := m.text(t.kind), m.text(t.unit)
	x := &otlpTrack{scale: 1}
	u, known := otlpUnits[unit]
	period := int64(0)
	if per, ok := otlpUnits[m.text(p.period.unit)]; !known && unit == "count" && ok && p.every > 0 && per.unit == profile.Nanoseconds && p.every < int64(time.Hour) {
		if name := m.text(p.period.kind); name != "" {
			kind = name
		}
		u, known, x.count = per, true, true
		period = p.every * per.scale
		x.scale = period
	} else if known {
		x.scale = u.scale
	} else {
		u.unit = profile.Number
		x.count = unit == "count"
	}
	if kind == "" {
		kind = "samples"
	}
	for _, have := range r.b.tracks {
		if have.s.Kind == profile.Kind(kind) && have.s.Unit != u.unit {
			kind += " (" + string(u.unit) + ")"
			break
		}
	}
	if !slices.Contains(r.kinds, kind) && len(r.kinds) < 20 {
		r.kinds = append(r.kinds, kind)
	}
	if r.o.Kind == "" || r.o.Kind == profile.Kind(kind) {
		x.track = r.b.series(profile.Kind(kind), u.unit, u.source, period)
	}
	return x
}

func (r *otlpReader) readProfile(m *otlpMessage, b []byte, of otlpTask) error {
	p, err := r.profile(b)
	if err != nil {
		return err
	}
	if r.version != otlp17 && len(p.types) > 1 {
		p.types = p.types[len(p.types)-1:] // what is not repeated counts as it was said last
	}
	if len(p.types) == 0 {
		p.types = make([]otlpType, 1)
	}
	var tracks []*otlpTrack
	for _, t := range p.types[:min(len(p.types), 100)] {
		tracks = append(tracks, r.track(m, t, &p))
	}
	return each(b, 2, func(b []byte) error {
		if r.b.err != nil {
			return r.b.err
		}
		s, err := r.sample(b)
		if err != nil {
			return err
		}
		task := of
		if err := m.attributesOf(s.attributes, task.set); err != nil {
			return err
		}
		if task != m.task {
			if err := r.spend(len(task.thread) + len(task.executable)); err != nil {
				return err
			}
			m.task, m.id = task, r.b.task(task.task())
		}
		x := profile.Sample{Task: m.id}
		if x.Stack, err = r.stack(m, s, &p); err != nil {
			return err
		}
		r.add(tracks, x, s, &p)
		return nil
	})
}

// add makes samples of a sample's values and times: one for each time, whose values are of it, or 1; or
// one for all where the numbers of both differ, or there is no time.
func (r *otlpReader) add(tracks []*otlpTrack, x profile.Sample, s *otlpSample, p *otlpProfile) {
	at := func(t uint64) time.Duration {
		switch since := t - r.origin; {
		case t == 0:
			return 0
		case t < r.origin || since > math.MaxInt64:
			return maxTime + 1 // which the series skips and counts
		default:
			return time.Duration(since)
		}
	}
	emit := func(t *otlpTrack, when uint64, value int64, count int64) {
		if t.track == nil {
			return
		}
		x.Time, x.Count = at(when), count
		if t.count && value > 0 {
			x.Count = value
		}
		if value > math.MaxInt64/t.scale || value < -math.MaxInt64/t.scale {
			r.b.skip(1, skippedWeight)
			return
		}
		x.Weight = value * t.scale
		t.add(x)
	}
	if len(tracks) == 1 && (len(s.values) == 0 || len(s.values) == len(s.times)) {
		for i, when := range s.times {
			value := int64(1)
			if len(s.values) > 0 {
				value = int64(s.values[i])
			}
			emit(tracks[0], when, value, 1)
		}
		return
	}
	when := p.time
	if len(s.times) > 0 {
		when = s.times[0]
	}
	for i, t := range tracks {
		values := s.values
		if len(tracks) > 1 {
			values = values[min(i, len(values)):min(i+1, len(values))]
		}
		for _, v := range values {
			emit(t, when, int64(v), int64(max(1, len(s.times)/max(1, len(values)))))
		}
	}
}

// stack is that of a sample.
func (r *otlpReader) stack(m *otlpMessage, s *otlpSample, p *otlpProfile) (profile.StackID, error) {
	if r.version == otlp17 {
		if s.length == 0 || s.stack > uint64(len(p.locations)) || s.length > uint64(len(p.locations))-s.stack {
			if s.length > 0 {
				r.b.c.Warn(profile.WarnUnreadable, 1, missingStack)
			}
			return 0, nil
		}
		// Ranges may overlap, so that a small file could ask for any number of frames.
		where := [2]uint64{s.stack, s.length}
		id, ok := p.stacks[where]
		if !ok {
			err := r.spend(16 * int(s.length))
			if err != nil {
				return 0, err
			}
			if id, err = r.walk(m, p.locations[s.stack:s.stack+s.length]); err != nil {
				return 0, err
			}
			if p.stacks == nil {
				p.stacks = map[[2]uint64]profile.StackID{}
			}
			p.stacks[where] = id
		}
		return id, nil
	}
	if s.stack >= uint64(len(m.stacks)) {
		if s.stack > 0 {
			r.b.c.Warn(profile.WarnUnreadable, 1, missingStack)
		}
		return 0, nil
	}
	if id := m.stack[s.stack]; id != noStack {
		return id, nil
	}
	var locations []uint64
	err := fields(m.stacks[s.stack], func(f wireField) (err error) {
		if f.number == 1 {
			locations, err = f.varints(locations)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	id, err := r.walk(m, locations)
	m.stack[s.stack] = id
	return id, err
}

// walk makes a stack of locations, leaf first.
func (r *otlpReader) walk(m *otlpMessage, locations []uint64) (at profile.StackID, err error) {
	for _, i := range slices.Backward(locations) {
		if i >= uint64(len(m.locations)) {
			r.b.c.Warn(profile.WarnUnreadable, 1, missingFrame)
			at = r.b.push(at, r.b.location(profile.Frame{}))
			continue
		}
		if m.of[i] == 0 {
			if m.of[i], err = r.location(m, m.locations[i]); err != nil {
				return 0, err
			}
		}
		at = r.b.push(at, m.of[i])
	}
	return at, nil
}

// location makes a Location, whose lines are innermost first; one without lines is an address in its
// mapping.
func (r *otlpReader) location(m *otlpMessage, b []byte) (profile.LocationID, error) {
	var mapping, address uint64
	var lines [][]byte
	kernel, mapped := false, false
	err := fields(b, func(f wireField) error {
		switch {
		case f.number == 1:
			mapping, mapped = f.value, r.version == otlp17 // whose first mapping is one
		case f.number == 2:
			address = f.value
		case f.number == 3:
			lines = append(lines, f.data)
		case f.number == 4 && r.version != otlp17, f.number == 5:
			indexes, err := f.varints(nil)
			if err != nil {
				return err
			}
			return m.attributesOf(indexes, func(key, text string, _ int64) {
				kernel = kernel || key == "profile.frame.type" && text == "kernel"
			})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	in := profile.Mapping{}
	if mapping != 0 || mapped {
		if in, err = m.mapping(mapping); err != nil {
			return 0, err
		}
	}
	if err := r.spend(2*len(in.Path) + len(in.BuildID)); err != nil {
		return 0, err
	}
	if kernel {
		in = profile.Mapping{Kind: profile.KernelCode, Path: profile.Kernel}
	}
	var chain []profile.FrameID
	for i, line := range lines {
		f, err := m.frame(line)
		if err != nil {
			return 0, err
		}
		if err := r.spend(len(f.Func) + len(f.File) + len(in.Path)); err != nil {
			return 0, err
		}
		f.Module, f.Inlined = in.Path, i < len(lines)-1
		chain = append(chain, r.b.frame(f))
	}
	if len(chain) == 0 {
		chain = append(chain, r.b.frame(profile.Frame{Func: profile.Unknown, Module: in.Path}))
	} else if address == 0 {
		return r.b.inlined(chain), nil
	}
	// What has no machine code may have another line at the same number.
	l := r.b.address(profile.Location{Mapping: r.b.mapping(in), Addr: address})
	if have := r.b.c.Symbols.Of[l]; len(have) > 0 && !slices.Equal(have, chain) {
		return r.b.inlined(chain), nil
	}
	r.b.symbolize(l, chain)
	return l, nil
}

// frame makes a Line and its function a frame.
func (m *otlpMessage) frame(line []byte) (f profile.Frame, err error) {
	var function uint64
	err = fields(line, func(x wireField) error {
		switch x.number {
		case 1:
			function = x.value
		case 2:
			f.Line = bound(int64(x.value))
		case 3:
			f.Column = bound(int64(x.value))
		}
		return nil
	})
	if err != nil || function >= uint64(len(m.functions)) {
		return f, err
	}
	system := ""
	err = fields(m.functions[function], func(x wireField) error {
		switch x.number {
		case 1:
			f.Func = m.text(x.value)
		case 2:
			system = m.text(x.value)
		case 3:
			f.File = m.text(x.value)
		case 4:
			f.StartLine = bound(int64(x.value))
		}
		return nil
	})
	if f.Func == "" {
		f.Func = demangled(system)
	}
	return f, err
}

// mapping is one of the dictionary, with its build ID.
func (m *otlpMessage) mapping(i uint64) (x profile.Mapping, err error) {
	if i >= uint64(len(m.mappings)) {
		return x, nil
	}
	err = fields(m.mappings[i], func(f wireField) error {
		switch f.number {
		case 4:
			x.Path = m.text(f.value)
		case 5:
			indexes, err := f.varints(nil)
			if err != nil {
				return err
			}
			return m.attributesOf(indexes, func(key, text string, _ int64) {
				if key == "process.executable.build_id.gnu" || key == "process.executable.build_id.go" && x.BuildID == "" {
					x.BuildID = text
				}
			})
		}
		return nil
	})
	if x.Path != "" || x.BuildID != "" {
		x.Kind = profile.FileCode
	}
	return x, err
}
