package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	proto "github.com/google/pprof/profile"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// pprof is profile.proto of github.com/google/pprof, and the forms before it that its library still
// reads: gperftools' binary CPU profiles, and the text of heap, contention, thread and Go count
// profiles.
//
// A pair of sample types (how many, how much) becomes one series with count and weight; see
// pprofSeries. The profile's default sample type is the first series.
var pprof = &format{
	Info: Info{
		Format:      Pprof,
		Description: "profile.proto of Go and gperftools, and their older forms",
		Extension:   ".pb.gz",
		Several:     true,
	},
	sniff: sniffPprof,
	read:  readPprof,
	write: writePprof,
}

// The beginnings of the text forms, as legacy_profile.go and legacy_java_profile.go of the library
// know them.
var pprofText = regexp.MustCompile(`\A(?:#.*\n|\s)*(?:heap profile: |--- ?(?:heapz|heap|contention|contentionz|mutex|growthz|fragmentationz|threadz|thread|Memory map)\b|\S+ profile: total \d+|Stack trace for thread )`)

func sniffPprof(head []byte) bool {
	if pprofText.Match(head) {
		return true
	}
	// gperftools' cpu profile: words 0, 3, version 0 or 1 (Java), period (at most a million µs by
	// custom, but any number can be set), 0.
	if len(head) >= 20 {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			w := func(i int) uint64 { return uint64(order.Uint32(head[4*i:])) }
			if w(0) == 0 && w(1) == 3 && w(2) <= 1 && w(3) > 0 {
				return true
			}
			if len(head) >= 40 {
				w = func(i int) uint64 { return order.Uint64(head[8*i:]) }
				if w(0) == 0 && w(1) == 3 && w(2) <= 1 && w(3) > 0 {
					return true
				}
			}
		}
	}
	return sniffProto(head)
}

// sniffProto walks the fields of a message of profile.proto's Profile. What tells it from others is
// sample_type, which holds one or two small numbers, or else the empty first string.
func sniffProto(head []byte) bool {
	whole := len(head) < sniffLen
	told := false
	for b := head; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return told && !whole
		}
		b = b[n:]
		field := tag >> 3
		v, n := binary.Uvarint(b)
		if field == 0 || field > 15 || n <= 0 {
			return told && n == 0 && !whole
		}
		b = b[n:]
		switch tag & 7 {
		case 0:
			if field < 7 {
				return false
			}
		case 2:
			// Repeated comments may be packed; everything else with a length is a message or string.
			if field > 6 && field != 11 && field != 13 {
				return false
			}
			if v > uint64(len(b)) {
				return told && !whole
			}
			body := b[:v]
			switch field {
			case 1:
				if !isValueType(body) {
					return false
				}
				told = true
			case 6:
				told = told || len(body) == 0
			}
			b = b[v:]
		default:
			return false
		}
	}
	return told
}

// isValueType tells whether a message has only the numbers 1 and 2.
func isValueType(b []byte) bool {
	for len(b) > 0 {
		if b[0] != 1<<3 && b[0] != 2<<3 {
			return false
		}
		_, n := binary.Uvarint(b[1:])
		if n <= 0 {
			return false
		}
		b = b[1+n:]
	}
	return true
}

// maxSampleTypes bounds the series of a file; runtimes write four, tracers a dozen.
const maxSampleTypes = 256

func readPprof(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	var data bytes.Buffer
	if _, err := data.ReadFrom(in); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends early; names and samples belong together in this format, so nothing of it can be kept")
		}
		return nil, err
	}
	if _, unpack := compressionOf(data.Bytes()); unpack != nil {
		return nil, errors.New("it is compressed more often than is seen through; unpack it first")
	}
	p, err := proto.ParseData(data.Bytes())
	if err != nil {
		return nil, fmt.Errorf("it is damaged or ends early: %w", err)
	}
	if len(p.SampleType) > maxSampleTypes {
		return nil, fmt.Errorf("it has %d sample types, more than %d; it is damaged", len(p.SampleType), maxSampleTypes)
	}
	if err := p.RemoveUninteresting(); err != nil {
		p.DropFrames = ""
	}
	b := newBuilder(in, "pprof", o)
	if slices.Contains(p.Comments, madeUpAddresses) {
		for _, l := range p.Location {
			l.Address = 0
		}
		for _, m := range p.Mapping {
			m.Start, m.Limit, m.Offset = 0, 0, 0
		}
	}
	r := &pprofReader{b: b, p: p, locations: make(map[*proto.Location]profile.LocationID, len(p.Location)), mappings: map[*proto.Mapping]profile.MappingID{}}
	if p.TimeNanos != 0 {
		b.c.Start = time.Unix(0, p.TimeNanos)
	}
	if d := time.Duration(p.DurationNanos); d > 0 && d <= maxTime {
		b.c.Length = d
	}
	if len(p.Mapping) > 0 && p.Mapping[0].File != "" && !strings.HasPrefix(p.Mapping[0].File, "[") {
		b.c.Target.Command = []string{clean(p.Mapping[0].File)}
	}
	if err := r.samples(ctx); err != nil {
		return nil, err
	}
	return b.finish()
}

type pprofReader struct {
	b         *builder
	p         *proto.Profile
	locations map[*proto.Location]profile.LocationID
	mappings  map[*proto.Mapping]profile.MappingID
}

// A pprofSeries is where a series' numbers are in each sample.
type pprofSeries struct {
	track         *track
	count, weight int     // indices into Value; count is -1 where there is none
	scale         float64 // of weight
}

func (r *pprofReader) samples(ctx context.Context) error {
	series := r.series()
	if len(series) == 0 {
		return errNoSamples
	}
	for i, s := range r.p.Sample {
		if i%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := profile.StackID(0)
		for _, l := range slices.Backward(s.Location) {
			at = r.b.push(at, r.location(l))
		}
		x := profile.Sample{Stack: at, Task: r.task(s)}
		for _, t := range series {
			weight := s.Value[t.weight]
			x.Count = 1
			switch {
			case t.count >= 0:
				x.Count = s.Value[t.count]
			case t.track.s.Unit == profile.Number:
				x.Count = weight
			}
			switch {
			case weight == 0 && (t.count < 0 || x.Count == 0): // of other types only
			case t.scale == 1:
				x.Weight = weight
				t.track.add(x)
			default:
				t.track.value(x, float64(weight), t.scale)
			}
		}
	}
	return r.b.err
}

// countTypes are sample types that say how often what another type measures has happened. Go and
// gperftools write these.
var countTypes = map[string]string{
	"samples": "cpu", "alloc_objects": "alloc_space", "inuse_objects": "inuse_space", "contentions": "delay",
	"objects": "space", "allocations": "bytes",
}

// countSuffix is the end of the names of types that count what has no entry in countTypes, where there
// are several kinds.
const countSuffix = "_samples"

// series pairs the sample types: one that counts with the one that it counts, where both are there or
// where the two are all there is. The default one comes first.
func (r *pprofReader) series() []pprofSeries {
	types := r.types()
	counts := make([]int, len(types)) // type → type that counts it
	paired := make([]bool, len(types))
	for i := range counts {
		counts[i] = -1
	}
	for i, t := range r.p.SampleType {
		j := slices.Index(types, countTypes[t.Type])
		if kind, ok := strings.CutSuffix(t.Type, countSuffix); ok && j < 0 {
			j = slices.Index(types, kind)
		}
		if len(types) == 2 && i == 0 && (t.Type == "count" || !isCount(r.p.SampleType[1].Unit)) {
			j = 1
		}
		if j >= 0 && j != i && isCount(t.Unit) && counts[j] < 0 {
			counts[j], paired[i] = i, true
		}
	}
	order := make([]int, len(types))
	for i := range order {
		order[i] = i
	}
	first := len(types) - 1 // as pprof does
	if d := slices.Index(types, r.p.DefaultSampleType); d >= 0 {
		first = d
	}
	if first >= 0 && paired[first] {
		first = slices.Index(counts, first)
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return btoi(j == first) - btoi(i == first)
	})
	var all []pprofSeries
	for _, i := range order {
		if paired[i] {
			continue
		}
		unit, scale, source := pprofUnit(r.p.SampleType[i].Unit)
		var period int64
		if t := r.p.PeriodType; t != nil && t.Type == r.p.SampleType[i].Type {
			if _, s, _ := pprofUnit(t.Unit); math.Abs(float64(r.p.Period)*s) < maxTotal {
				period = int64(float64(r.p.Period) * s)
			}
		}
		all = append(all, pprofSeries{track: r.b.series(profile.Kind(types[i]), unit, source, period), count: counts[i], weight: i, scale: scale})
	}
	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// types are the names of the sample types, each once.
func (r *pprofReader) types() []string {
	var names []string
	for i, t := range r.p.SampleType {
		name := clean(t.Type)
		if name == "" {
			name = "samples"
		}
		if slices.Contains(names, name) {
			name += "#" + strconv.Itoa(i+1)
		}
		names = append(names, name)
	}
	return names
}

func isCount(unit string) bool {
	u, _, _ := pprofUnit(unit)
	return u == profile.Number
}

// pprofUnit is the unit of a sample type, how many of it one is, and what the tool's users read.
// The spellings are those of pprof's internal/measurement.
func pprofUnit(name string) (unit profile.Unit, scale float64, source profile.Unit) {
	switch strings.ToLower(name) {
	case "nanoseconds", "nanosecond", "ns":
		return profile.Nanoseconds, 1, ""
	case "microseconds", "microsecond", "us", "µs":
		return profile.Nanoseconds, 1e3, profile.Microseconds
	case "milliseconds", "millisecond", "ms":
		return profile.Nanoseconds, 1e6, profile.Milliseconds
	case "seconds", "second", "s", "sec":
		return profile.Nanoseconds, 1e9, profile.Seconds
	case "bytes", "byte", "b":
		return profile.Bytes, 1, ""
	case "kilobytes", "kilobyte", "kb":
		return profile.Bytes, 1 << 10, ""
	case "megabytes", "megabyte", "mb":
		return profile.Bytes, 1 << 20, ""
	case "cycles":
		return profile.Cycles, 1, ""
	case "millionths":
		return profile.Millionths, 1, profile.None
	}
	return profile.Number, 1, ""
}

func (r *pprofReader) mapping(m *proto.Mapping) profile.MappingID {
	if m == nil {
		return 0
	}
	id, ok := r.mappings[m]
	if !ok {
		to := profile.Mapping{Kind: profile.FileCode, Path: m.File, BuildID: m.BuildID}
		switch {
		case isKernel(m.File):
			to.Kind, to.Path = profile.KernelCode, profile.Kernel
		case m.File == "[vdso]":
			to.Kind = profile.VDSO
		case m.File == "" && m.BuildID == "":
			to = profile.Mapping{}
		case m.File == "//anon", strings.HasPrefix(m.File, "[anon"):
			to.Kind = profile.Anonymous
		default:
			to.Offsets = m.Start > 0 // see place
		}
		id = r.b.mapping(to)
		r.mappings[m] = id
	}
	return id
}

// isKernel knows the names that perf gives to the kernel's own code.
func isKernel(module string) bool {
	return strings.HasPrefix(module, "[kernel") || strings.HasPrefix(module, "[guest.kernel")
}

// place is a location's address as ours: pprof has the process's address and where the file was mapped,
// so what is known is the offset in the file.
func (r *pprofReader) place(l *proto.Location) profile.Location {
	at := profile.Location{Mapping: r.mapping(l.Mapping), Addr: l.Address}
	if m := l.Mapping; m != nil && r.b.c.Mappings[at.Mapping].Offsets && l.Address >= m.Start {
		at.Addr = l.Address - m.Start + m.Offset
	}
	return at
}

func (r *pprofReader) location(l *proto.Location) profile.LocationID {
	id, ok := r.locations[l]
	if ok {
		return id
	}
	var module string
	if l.Mapping != nil {
		if module = l.Mapping.File; isKernel(module) {
			module = profile.Kernel
		}
	}
	var chain []profile.FrameID
	for i, line := range l.Line {
		f := profile.Frame{Line: within(line.Line), Column: within(line.Column), Module: module, Inlined: i < len(l.Line)-1}
		if fn := line.Function; fn != nil {
			f.Func, f.File, f.StartLine = demangled(fn.Name), fn.Filename, within(fn.StartLine)
			if f.Func == "" {
				f.Func = demangled(fn.SystemName)
			}
		}
		chain = append(chain, r.b.frame(f))
		if len(chain) > maxInlined {
			break // the builder says so
		}
	}
	if len(chain) == 0 && module != "" {
		chain = append(chain, r.b.frame(profile.Frame{Func: profile.Unknown, Module: module}))
	}
	if l.Address != 0 {
		id = r.b.address(r.place(l))
		switch old := r.b.c.Symbols.Of[id]; {
		case len(old) == 0:
			r.b.symbolize(id, chain)
		case !slices.Equal(old, chain[:min(len(chain), maxInlined)]):
			// Profiles that were merged may name one address in two ways.
			id = r.b.newLocation(r.place(l))
			r.b.symbolize(id, chain)
		}
	} else {
		id = r.b.inlined(chain)
	}
	r.locations[l] = id
	return id
}

// within is a number of a line or column; what can be none is not known.
func within(n int64) int {
	if n < 0 || n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

// task is the thread that a sample's labels tell of: perf_data_converter and Sightline write pid, tid
// and comm; others have a name alone.
func (r *pprofReader) task(s *proto.Sample) profile.TaskID {
	if len(s.Label) == 0 && len(s.NumLabel) == 0 {
		return 0
	}
	num := func(names ...string) int {
		for _, n := range names {
			if v := s.NumLabel[n]; len(v) > 0 {
				return within(v[0])
			}
			if v := s.Label[n]; len(v) > 0 {
				if i, err := strconv.ParseInt(v[0], 10, 32); err == nil {
					return within(i)
				}
			}
		}
		return 0
	}
	t := profile.Task{PID: num("pid", "process_id"), TID: num("tid", "thread_id", "thread id")}
	for _, n := range []string{"comm", "thread_comm", "thread_name", "thread name", "thread"} {
		if v := s.Label[n]; len(v) > 0 {
			t.Comm = v[0]
			break
		}
	}
	return r.b.task(t)
}

// pprofTypes are the names of kinds and of how many, as Go's tools spell them. several says that there
// are other kinds too.
func pprofTypes(p *profile.Profile, several bool) (count, weight string) {
	switch p.Kind {
	case profile.CPU:
		return "samples", "cpu"
	case profile.Blocked:
		return "contentions", "delay"
	case profile.Alloc:
		return "alloc_objects", "alloc_space"
	}
	for c, w := range countTypes {
		if w == string(p.Kind) {
			return c, w
		}
	}
	switch {
	case several:
		return string(p.Kind) + countSuffix, string(p.Kind)
	case p.Unit == profile.Number:
		return "count", string(p.Kind) // see pprofReader.series
	}
	return "samples", string(p.Kind)
}

// pprofUnits are our units in pprof's words.
var pprofUnits = map[profile.Unit]string{
	profile.Nanoseconds: "nanoseconds", profile.Bytes: "bytes", profile.Cycles: "cycles", profile.Number: "count", profile.Millionths: "millionths",
}

// writePprof writes a compressed profile.proto, with a pair of sample types for each kind. The format
// has no times of samples; those of one stack and thread become one. Calls that were inlined are lines
// of their caller's location.
func writePprof(w io.Writer, e Export) error {
	profiles := e.together()
	p := profiles[0]
	out := &proto.Profile{DurationNanos: int64(p.Length)}
	for i, p := range profiles {
		countType, weightType := pprofTypes(p, len(profiles) > 1)
		unit, ok := pprofUnits[p.Unit]
		if !ok {
			unit = string(p.Unit)
		}
		weight := &proto.ValueType{Type: clean(weightType), Unit: unit}
		out.SampleType = append(out.SampleType, &proto.ValueType{Type: clean(countType), Unit: "count"}, weight)
		if i == 0 {
			out.DefaultSampleType = weight.Type
			out.PeriodType = &proto.ValueType{Type: weight.Type, Unit: unit}
		}
	}
	if !p.Start.IsZero() {
		out.TimeNanos = p.Start.UnixNano()
	}
	if e.Name != "" {
		out.Comments = []string{clean(e.Name)}
	}
	out.Comments = append(out.Comments, madeUpAddresses)
	locations := newPprofLocations(p, out, e.Capture)
	type key struct {
		stack profile.StackID
		task  profile.TaskID
	}
	at := map[key]int{}
	var chain []profile.FrameID
	for kind, p := range profiles {
		for i := range p.Samples.Len() {
			x := p.Samples.At(i)
			k := key{x.Stack, x.Task}
			n, ok := at[k]
			if !ok {
				s := &proto.Sample{Value: make([]int64, 2*len(profiles))}
				chain = chain[:0]
				for f := range p.Stacks.LeafFirst(x.Stack) {
					chain = append(chain, f)
					if !p.Frames[f].Inlined {
						s.Location = append(s.Location, locations.of(chain))
						chain = chain[:0]
					}
				}
				if len(chain) > 0 { // the root is inlined, which no compiler does
					s.Location = append(s.Location, locations.of(chain))
				}
				locations.label(s, p.Tasks[x.Task])
				n = len(out.Sample)
				at[k] = n
				out.Sample = append(out.Sample, s)
			}
			out.Sample[n].Value[2*kind] += x.Count
			out.Sample[n].Value[2*kind+1] += x.Weight
		}
	}
	locations.place()
	if err := out.CheckValid(); err != nil {
		return fmt.Errorf("make a profile.proto: %w", err)
	}
	return out.Write(w)
}

// madeUpAddresses is the comment that tells a reader not to look for addresses in binaries.
const madeUpAddresses = "Addresses are running numbers: sightline wrote names and lines instead of them."

type functionKey struct {
	name, file string
	line       int
}

// pprofLocations makes the tables of a profile.proto.
type pprofLocations struct {
	buildIDs  map[string]string // of modules
	p         *profile.Profile
	out       *proto.Profile
	functions map[functionKey]*proto.Function
	modules   map[string]*proto.Mapping
	places    map[string]*proto.Location
}

// newPprofLocations makes them of the frames of p. c may be nil.
func newPprofLocations(p *profile.Profile, out *proto.Profile, c *profile.Capture) *pprofLocations {
	t := &pprofLocations{
		p: p, out: out, buildIDs: map[string]string{}, functions: map[functionKey]*proto.Function{},
		modules: map[string]*proto.Mapping{}, places: map[string]*proto.Location{},
	}
	if c != nil {
		known := map[string]bool{}
		for _, m := range c.Mappings {
			if known[m.Path] && t.buildIDs[m.Path] != m.BuildID {
				m.BuildID = "" // two builds ran: names do not tell which is meant
			}
			t.buildIDs[m.Path], known[m.Path] = m.BuildID, true
		}
	}
	return t
}

// pprofBase is where made-up addresses begin, and what lies between those of two binaries.
const pprofBase = 1 << 20

// place gives each location an address of its own, in the range of its mapping: pprof tells locations
// apart by address in some of its views, and looks for what has names already by none.
func (t *pprofLocations) place() {
	next := uint64(pprofBase)
	of := make(map[*proto.Mapping][]*proto.Location, len(t.out.Mapping))
	for _, l := range t.out.Location {
		of[l.Mapping] = append(of[l.Mapping], l)
	}
	for _, m := range append(slices.Clone(t.out.Mapping), nil) { // those without a module last
		start := next
		for i, l := range of[m] {
			l.Address = start + 16*uint64(i)
			next = l.Address + 16
		}
		if next = (next + pprofBase) &^ (pprofBase - 1); m != nil {
			m.Start, m.Limit = start, next
		}
		next += pprofBase
	}
}

// of is the location of a call and those inlined into it, innermost first.
func (t *pprofLocations) of(chain []profile.FrameID) *proto.Location {
	key := make([]byte, 0, 4*len(chain))
	for _, f := range chain {
		key = binary.LittleEndian.AppendUint32(key, uint32(f))
	}
	if l, ok := t.places[string(key)]; ok {
		return l
	}
	l := &proto.Location{ID: uint64(len(t.out.Location) + 1)}
	for _, id := range chain {
		f := &t.p.Frames[id]
		k := functionKey{f.Func, f.File, f.StartLine}
		fn, ok := t.functions[k]
		if !ok {
			fn = &proto.Function{ID: uint64(len(t.out.Function) + 1), Name: clean(f.Func), SystemName: clean(f.Func), Filename: clean(f.File), StartLine: int64(f.StartLine)}
			t.functions[k] = fn
			t.out.Function = append(t.out.Function, fn)
		}
		l.Line = append(l.Line, proto.Line{Function: fn, Line: int64(f.Line), Column: int64(f.Column)})
	}
	l.Mapping = t.module(t.p.Frames[chain[len(chain)-1]].Module)
	t.places[string(key)] = l
	t.out.Location = append(t.out.Location, l)
	return l
}

func (t *pprofLocations) module(name string) *proto.Mapping {
	m, ok := t.modules[name]
	if !ok && name != "" {
		m = &proto.Mapping{ID: uint64(len(t.out.Mapping) + 1), File: clean(name), BuildID: clean(t.buildIDs[name]), HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
		t.modules[name] = m
		t.out.Mapping = append(t.out.Mapping, m)
	}
	return m
}

func (t *pprofLocations) label(s *proto.Sample, task profile.Task) {
	if task == (profile.Task{}) {
		return
	}
	nums := map[string]int{"pid": task.PID, "tid": task.TID}
	maps.DeleteFunc(nums, func(_ string, v int) bool { return v == 0 })
	for name, v := range nums {
		if s.NumLabel == nil {
			s.NumLabel = map[string][]int64{}
		}
		s.NumLabel[name] = []int64{int64(v)}
	}
	if task.Comm != "" {
		s.Label = map[string][]string{"comm": {clean(task.Comm)}}
	}
}
