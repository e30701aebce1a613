package convert

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

const (
	// maxDepth is the deepest stack that is kept whole; see builder.push.
	maxDepth = 100_000
	// maxInlined is the longest chain of inlined calls of one location: views repeat it for each
	// stack that has the location.
	maxInlined = 500
	// A century of nanoseconds is a third of what a time.Duration can hold: sums of two are safe.
	maxTime = 100 * 365 * 24 * time.Hour
	// maxTotal bounds the sum of the absolute weights of a series, so that nothing that adds them can
	// overflow, nor a difference of two.
	maxTotal = 1 << 61
)

// A builder makes a capture of what a reader finds. Everything is interned: saying the same thing
// twice gives the same id.
//
// Errors are kept: after the first, calls do nothing of use, and finish returns it. The only one that
// calls make is that the file asks for more than its bytes can justify.
type builder struct {
	c  *profile.Capture
	in *input

	frames   map[profile.Frame]profile.FrameID
	named    map[profile.FrameID]profile.LocationID // locations of a single frame, without an address
	chains   map[string]profile.LocationID          // those of several
	places   map[profile.Location]profile.LocationID
	mappings map[profile.Mapping]profile.MappingID
	paths    map[string]profile.MappingID // the first mapping of each path
	tasks    map[profile.Task]profile.TaskID
	depth    []uint32 // of each stack
	tracks   []*track
	rebased  bool
	err      error
}

// newBuilder begins a capture that engine made, of a target that is described by the file's name until
// the reader knows better (builder.c is its to fill).
func newBuilder(in *input, engine string, o Options) *builder {
	b := &builder{
		c:        profile.NewCapture(profile.Target{}, time.Time{}),
		in:       in,
		frames:   map[profile.Frame]profile.FrameID{},
		named:    map[profile.FrameID]profile.LocationID{},
		chains:   map[string]profile.LocationID{},
		places:   map[profile.Location]profile.LocationID{},
		mappings: map[profile.Mapping]profile.MappingID{},
		paths:    map[string]profile.MappingID{},
		tasks:    map[profile.Task]profile.TaskID{},
		depth:    make([]uint32, 1),
	}
	b.c.Engine = engine
	b.c.Imported = true
	if o.Name != "" {
		// As words, so that none must be quoted.
		b.c.Target.Command = strings.Fields(clean(filepath.Base(o.Name)))
	}
	b.c.Symbols.Frames = make([]profile.Frame, 1)
	b.c.Symbols.Of = make([][]profile.FrameID, 1)
	return b
}

// skip counts something of the file that was left out; text is a sentence that does not name a number.
func (b *builder) skip(count int64, text string) {
	b.c.Warn(profile.WarnLost, count, text)
}

// cut says that the file ends early, and where: what was read before is kept.
func (b *builder) cut() {
	b.c.Warn(profile.WarnLost, 0, fmt.Sprintf("The file ends in the midst of something, after %d bytes; what comes before is here.", b.in.Seen()))
}

// frame interns f. A frame without a name is the pseudo-frame profile.Unknown; negative lines are not
// known.
func (b *builder) frame(f profile.Frame) profile.FrameID {
	if f.Func = clean(f.Func); f.Func == "" {
		f.Func = profile.Unknown
	}
	f.File, f.Module = clean(f.File), clean(f.Module)
	f.Line, f.Column, f.StartLine = max(f.Line, 0), max(f.Column, 0), max(f.StartLine, 0)
	id, ok := b.frames[f]
	if !ok {
		id = profile.FrameID(len(b.c.Symbols.Frames))
		b.c.Symbols.Frames = append(b.c.Symbols.Frames, f)
		b.frames[f] = id
		b.afford()
	}
	return id
}

// location is the one that stands for a frame of a format without addresses: its address is a running
// number in the mapping of the frame's module.
func (b *builder) location(f profile.Frame) profile.LocationID {
	id := b.frame(f)
	l, ok := b.named[id]
	if !ok {
		l = b.newLocation(profile.Location{Mapping: b.module(b.c.Symbols.Frames[id].Module), Addr: uint64(id)})
		b.c.Symbols.Of[l] = []profile.FrameID{id}
		b.named[id] = l
	}
	return l
}

// inlined is the location that stands for a chain of inlined calls, innermost first, of a format
// without addresses.
func (b *builder) inlined(chain []profile.FrameID) profile.LocationID {
	chain = b.chain(chain)
	if len(chain) == 0 {
		return b.location(profile.Frame{})
	}
	if len(chain) == 1 {
		return b.location(b.c.Symbols.Frames[chain[0]])
	}
	key := make([]byte, 0, 4*len(chain))
	for _, id := range chain {
		key = append(key, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	l, ok := b.chains[string(key)]
	if !ok {
		outer := b.c.Symbols.Frames[chain[len(chain)-1]]
		l = b.newLocation(profile.Location{Mapping: b.module(outer.Module), Addr: 1<<32 + uint64(len(b.c.Locations))})
		b.c.Symbols.Of[l] = slices.Clone(chain)
		b.chains[string(key)] = l
	}
	return l
}

// address interns a location with a real address, without frames until symbolize gives them.
func (b *builder) address(at profile.Location) profile.LocationID {
	l, ok := b.places[at]
	if !ok {
		l = b.newLocation(at)
		b.places[at] = l
	}
	return l
}

// symbolize sets the frames of a location of address, innermost first.
func (b *builder) symbolize(l profile.LocationID, chain []profile.FrameID) {
	if b.err == nil && l != 0 {
		b.c.Symbols.Of[l] = slices.Clone(b.chain(chain))
	}
}

// chain bounds a chain of inlined calls: the outermost go.
func (b *builder) chain(chain []profile.FrameID) []profile.FrameID {
	if len(chain) > maxInlined {
		b.c.Warn(profile.WarnCut, 1, fmt.Sprintf("A location with more than %d inlined calls was cut.", maxInlined))
		chain = chain[:maxInlined]
	}
	return chain
}

func (b *builder) newLocation(at profile.Location) profile.LocationID {
	b.c.Locations = append(b.c.Locations, at)
	b.c.Symbols.Of = append(b.c.Symbols.Of, nil)
	b.afford()
	return profile.LocationID(len(b.c.Locations) - 1)
}

// module is the mapping of a module's name: the path of a binary, "[kernel]" or "[vdso]"; 0 for "".
func (b *builder) module(name string) profile.MappingID {
	if id, ok := b.paths[name]; ok {
		return id
	}
	switch {
	case name == "":
		return 0
	case name == "[kernel]", strings.HasPrefix(name, "[kernel."):
		return b.mapping(profile.Mapping{Kind: profile.KernelCode, Path: name})
	case name == "[vdso]":
		return b.mapping(profile.Mapping{Kind: profile.VDSO, Path: name})
	case name == "[anon]", name == "//anon", name == "[JIT]":
		return b.mapping(profile.Mapping{Kind: profile.Anonymous, Path: name})
	}
	return b.mapping(profile.Mapping{Kind: profile.FileCode, Path: name})
}

// mapping interns m.
func (b *builder) mapping(m profile.Mapping) profile.MappingID {
	m.Path, m.BuildID = clean(m.Path), clean(m.BuildID)
	if m == (profile.Mapping{}) {
		return 0
	}
	id, ok := b.mappings[m]
	if !ok {
		id = profile.MappingID(len(b.c.Mappings))
		b.c.Mappings = append(b.c.Mappings, m)
		b.mappings[m] = id
		if _, ok := b.paths[m.Path]; !ok && m.Path != "" {
			b.paths[m.Path] = id
		}
		b.afford()
	}
	return id
}

// task interns a thread under a name. A format that knows threads only by name says 0 for both
// numbers.
func (b *builder) task(t profile.Task) profile.TaskID {
	t.Comm = clean(t.Comm)
	if t == (profile.Task{}) {
		return 0
	}
	id, ok := b.tasks[t]
	if !ok {
		id = profile.TaskID(len(b.c.Tasks))
		b.c.Tasks = append(b.c.Tasks, t)
		b.tasks[t] = id
		b.afford()
	}
	return id
}

// push is the stack that parent becomes by calling l. A stack of maxDepth grows no further: the calls
// beyond are left out, and one warning counts them.
func (b *builder) push(parent profile.StackID, l profile.LocationID) profile.StackID {
	if b.err != nil || l == 0 {
		return parent
	}
	if b.depth[parent] >= maxDepth {
		b.c.Warn(profile.WarnCut, 1, fmt.Sprintf("Calls deeper than %d were left out.", maxDepth))
		return parent
	}
	id := b.c.Stacks.Intern(parent, l)
	if int(id) == len(b.depth) {
		b.depth = append(b.depth, b.depth[parent]+1)
		b.afford()
	}
	return id
}

// afford checks what was interned against what was read. Each of frame, location, task, mapping and
// stack takes at least a byte of the file to say, in every format.
func (b *builder) afford() {
	c := b.c
	made := len(c.Symbols.Frames) + len(c.Locations) + len(c.Tasks) + len(c.Mappings) + c.Stacks.Len()
	if b.err == nil && int64(made) > 4096+8*b.in.Seen() {
		b.err = fmt.Errorf("its %d bytes ask for %d stacks and names, more than they can hold; it is damaged", b.in.Seen(), made)
	}
}

// A track is a series while it is read.
type track struct {
	b      *builder
	s      profile.Series
	at     []profile.Sample
	values []float64 // of a series without a unit, parallel to at
	total  float64   // of absolute weights
	counts float64
	loose  bool
	spans  bool // samples last as long as they weigh, from their time on
}

// series begins the series of a kind, or gives the one that exists (its unit must be the same). Unit
// profile.None is of samples that track.value adds; at the end it becomes Number where all are whole,
// and Millionths else.
func (b *builder) series(kind profile.Kind, unit, source profile.Unit, period int64) *track {
	for _, t := range b.tracks {
		if t.s.Kind == kind {
			return t
		}
	}
	t := &track{b: b, loose: unit == profile.None}
	if source == unit {
		source = ""
	}
	t.s = profile.Series{Kind: profile.Kind(clean(string(kind))), Unit: unit, Source: source, Period: period}
	b.tracks = append(b.tracks, t)
	return t
}

const (
	skippedTime   = "Samples whose time is no number, or a century away, were left out."
	skippedWeight = "Samples whose weight is no number, or greater than can be summed, were left out."
)

// add adds a sample, in any order of time. A time or a weight out of bounds is skipped and counted.
func (t *track) add(x profile.Sample) {
	weight, count := math.Abs(float64(x.Weight)), math.Abs(float64(x.Count))
	switch {
	case t.b.err != nil:
	case x.Time < -maxTime || x.Time > maxTime:
		t.b.skip(1, skippedTime)
	case t.total+weight > maxTotal || t.counts+count > maxTotal:
		t.b.skip(1, skippedWeight)
	default:
		t.total += weight
		t.counts += count
		t.at = append(t.at, x)
		if t.loose {
			t.values = append(t.values, float64(x.Weight))
		}
	}
}

// value adds a sample whose weight is v units of scale each: milliseconds into a series of nanoseconds
// have scale 1e6. In a series without a unit the scale is 1. The weight is rounded to the nearest.
func (t *track) value(x profile.Sample, v, scale float64) {
	if !(math.Abs(v*scale) < maxTotal) { // also NaN
		t.b.skip(1, skippedWeight)
		return
	}
	x.Weight = int64(math.Round(v * scale))
	n := len(t.at)
	t.add(x)
	if t.loose && len(t.at) > n {
		t.values[n] = v
	}
}

// since makes a time of v units; ok is false for what is no number or a century away.
func since(v float64, unit time.Duration) (d time.Duration, ok bool) {
	ns := v * float64(unit)
	if !(math.Abs(ns) <= float64(maxTime)) {
		return 0, false
	}
	return time.Duration(math.Round(ns)), true
}

// rebase makes times begin at the first sample's: for formats whose times count from something that is
// not the recording's start (boot, the epoch).
func (b *builder) rebase() { b.rebased = true }

var errNoSamples = errors.New("it holds no samples")

// finish is the capture. Samples are put in order of time; those at the same time keep the order in
// which they were added. A file without samples is refused, unless it has a series, in which case it
// is an empty profile.
func (b *builder) finish() (*profile.Capture, error) {
	if b.err != nil {
		return nil, b.err
	}
	if len(b.tracks) == 0 {
		return nil, errNoSamples
	}
	first, last := maxTime, -maxTime
	for _, t := range b.tracks {
		for _, x := range t.at {
			first, last = min(first, x.Time), max(last, x.Time)
			if t.spans && x.Weight > 0 && x.Weight < int64(maxTime) {
				last = max(last, min(x.Time+time.Duration(x.Weight), maxTime))
			}
		}
	}
	shift := time.Duration(0)
	if b.rebased && first <= last {
		shift = first
	}
	if b.c.Length == 0 && first <= last {
		b.c.Length = max(last-shift, 0)
	}
	for _, t := range b.tracks {
		t.settle()
		slices.SortStableFunc(t.at, func(x, y profile.Sample) int { return cmp.Compare(x.Time, y.Time) })
		n := len(t.at)
		s := &t.s.Samples
		s.Stack, s.Task = make([]profile.StackID, 0, n), make([]profile.TaskID, 0, n)
		s.Time, s.Weight = make([]time.Duration, 0, n), make([]int64, 0, n)
		for _, x := range t.at {
			x.Time -= shift
			s.Append(x)
		}
		t.at, t.values = nil, nil
		b.c.Series = append(b.c.Series, t.s)
	}
	if err := b.c.Check(); err != nil {
		return nil, err
	}
	return b.c, nil
}

// settle gives a series without a unit one.
func (t *track) settle() {
	if !t.loose {
		return
	}
	t.s.Unit = profile.Number
	whole := func(v float64) bool { return v == math.Trunc(v) }
	if !slices.ContainsFunc(t.values, func(v float64) bool { return !whole(v) }) {
		return
	}
	t.s.Unit, t.s.Source = profile.Millionths, profile.None
	kept, total := t.at[:0], 0.0
	for i, x := range t.at {
		v := t.values[i] * 1e6
		if total += math.Abs(v); total > maxTotal {
			t.b.skip(1, skippedWeight)
			total -= math.Abs(v)
			continue
		}
		x.Weight = int64(math.Round(v))
		kept = append(kept, x)
	}
	t.at = kept
}
