package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// firefox is the JSON of the Firefox Profiler (profiler.firefox.com), in both of its forms: what Gecko
// writes (tables with a schema and rows, frames as texts, subprocesses within), bare or in the wrapper
// of the old devtools, and what the profiler's front end and samply write (tables of columns, shared by
// all threads since version 60). The layouts and their history are in docs-developer/CHANGELOG-formats.md
// and src/types of firefox-devtools/profiler; see firefoxThread for what is read of them.
var firefox = &format{
	Info: Info{
		Format:      Firefox,
		Description: "JSON of the Firefox Profiler, of Gecko and of samply",
		Extension:   ".json",
	},
	sniff: func(head []byte) bool {
		s, ok := shapeOf(head)
		if !ok || s.array {
			return false
		}
		if s.has("label", "duration", "markers") {
			return true // of the devtools, with markers that fill the beginning
		}
		for _, in := range []string{"", "profile."} {
			if s.has(in+"meta.preprocessedProfileVersion") || s.has(in+"meta.interval") || s.has(in+"libs.breakpadId") ||
				s.has(in+"threads.stackTable") || s.has(in+"threads.samples") || s.has(in+"meta", in+"threads") || s.has(in+"meta", in+"libs") {
				return true
			}
		}
		return false
	},
	read:  readFirefox,
	write: writeFirefox,
}

type firefoxReader struct {
	*jsonReader
	b    *builder
	kind profile.Kind // that Sightline has written
	unit profile.Unit
}

// A firefoxProcess is a profile of the file: the whole, or in Gecko's form one of its processes.
type firefoxProcess struct {
	version   float64 // meta.preprocessedProfileVersion; NaN in Gecko's form
	startTime float64 // ms since the epoch
	interval  float64 // ms
	product   string
	libs      *firefoxLibs
	threads   []*firefoxThread
	shared    *firefoxThread // tables that all threads share
	processes []*firefoxProcess
}

type firefoxLib struct {
	profile.Mapping
	start, end, offset float64 // runtime addresses, in Gecko's form
}

// firefoxLibs are libraries, to be found by address and by name.
type firefoxLibs struct {
	all     []firefoxLib
	byStart []int          // indices into all, by start
	byName  map[string]int // the last part of the path → index
}

func (l *firefoxLibs) index() {
	l.byName = map[string]int{}
	for i := range l.all {
		l.byStart = append(l.byStart, i)
		l.byName[path.Base(l.all[i].Path)] = i
	}
	slices.SortStableFunc(l.byStart, func(i, j int) int { return cmp.Compare(l.all[i].start, l.all[j].start) })
}

// at is the library at a runtime address, or nil. Libraries do not overlap.
func (l *firefoxLibs) at(address float64) *firefoxLib {
	if l == nil {
		return nil
	}
	n, _ := slices.BinarySearchFunc(l.byStart, address, func(i int, a float64) int {
		if l.all[i].start <= a {
			return -1
		}
		return 1
	})
	if n == 0 || address >= l.all[l.byStart[n-1]].end {
		return nil
	}
	return &l.all[l.byStart[n-1]]
}

// A firefoxThread is a thread's tables, or those that all share. Names of columns are those of the
// newest processed form: prefixOffset or prefix, timeDeltas or time.
type firefoxThread struct {
	name, process  string
	pid, tid       string
	samples        firefoxTable
	allocations    firefoxTable // of JavaScript
	native         firefoxTable
	stacks, frames firefoxTable
	funcs          firefoxTable
	resources      firefoxTable
	sources        firefoxTable
	strings        []string
	libs           *firefoxLibs
	locations      map[int]profile.LocationID // of frames
	resolved       []profile.StackID          // of stacks
}

// A firefoxTable is columns of numbers by name; what is no number is NaN.
type firefoxTable struct {
	columns    map[string][]float64
	weightType string
}

func (t *firefoxTable) len(column string) int { return len(t.columns[column]) }

// at is an index; -1 where there is none.
func (t *firefoxTable) at(column string, i int) int {
	if c := t.columns[column]; i >= 0 && i < len(c) {
		return indexOf(c[i])
	}
	return -1
}

func (t *firefoxTable) number(column string, i int) float64 {
	if c := t.columns[column]; i >= 0 && i < len(c) {
		return c[i]
	}
	return math.NaN()
}

// firefoxColumns are those that are kept.
var firefoxColumns = map[string]bool{
	"stack": true, "time": true, "timeDeltas": true, "weight": true, "prefix": true, "prefixOffset": true, "frame": true,
	"location": true, "line": true, "column": true, "address": true, "inlineDepth": true, "func": true, "lib": true,
	"name": true, "resource": true, "fileName": true, "source": true, "lineNumber": true, "filename": true, "startLine": true,
	"sightlineCount": true,
}

func readFirefox(_ context.Context, in *input, o Options) (*profile.Capture, error) {
	r := &firefoxReader{jsonReader: newJSONReader(in), b: newBuilder(in, "Firefox Profiler", o)}
	p, err := r.process(0)
	if err != nil {
		return nil, r.explain(err)
	}
	if len(p.threads) == 0 && len(p.processes) == 0 {
		return nil, errors.New("it has no threads")
	}
	if p.product != "" {
		r.b.c.Target.Command = commandWords(clean(p.product))
	}
	if p.startTime > 0 && p.startTime < 1e14 {
		r.b.c.Start = time.UnixMicro(int64(p.startTime * 1e3))
	}
	if err := r.add(p, p.startTime); err != nil {
		return nil, err
	}
	if len(r.b.tracks) == 0 {
		return nil, errNoSamples
	}
	r.b.rebase()
	return r.b.finish()
}

// maxProcesses is how deep processes lie within processes; Gecko nests once.
const maxProcesses = 8

func (r *firefoxReader) process(depth int) (*firefoxProcess, error) {
	p := &firefoxProcess{version: math.NaN(), startTime: math.NaN(), interval: math.NaN(), shared: &firefoxThread{}}
	if depth > maxProcesses {
		return p, r.SkipValue()
	}
	var wrapped *firefoxProcess
	err := r.object(func(name string) (err error) {
		switch name {
		case "meta":
			err = r.meta(p)
		case "libs":
			p.libs, err = r.libs()
		case "threads":
			err = r.array(func() error {
				t := &firefoxThread{}
				p.threads = append(p.threads, t)
				return r.thread(t)
			})
		case "shared":
			err = r.thread(p.shared)
		case "processes":
			err = r.array(func() error {
				sub, err := r.process(depth + 1)
				p.processes = append(p.processes, sub)
				return err
			})
		case "profile": // of the devtools
			wrapped, err = r.process(depth + 1)
		default:
			err = r.SkipValue()
		}
		return err
	})
	if wrapped != nil && len(p.threads) == 0 {
		p = wrapped
	}
	return p, err
}

func (r *firefoxReader) meta(p *firefoxProcess) error {
	return r.object(func(name string) (err error) {
		var s string
		switch name {
		case "preprocessedProfileVersion":
			p.version, err = r.number()
		case "startTime":
			p.startTime, err = r.number()
		case "interval":
			p.interval, err = r.number()
		case "product":
			p.product, err = r.text()
		case "sightlineKind":
			s, err = r.text()
			r.kind = profile.Kind(s)
		case "sightlineUnit":
			s, err = r.text()
			r.unit = profile.Unit(s)
		default:
			err = r.SkipValue()
		}
		return err
	})
}

func (r *firefoxReader) libs() (*firefoxLibs, error) {
	libs := &firefoxLibs{}
	err := r.array(func() error {
		l := firefoxLib{Mapping: profile.Mapping{Kind: profile.FileCode}}
		var short, code string
		err := r.object(func(name string) (err error) {
			switch name {
			case "path":
				l.Path, err = r.text()
			case "name":
				short, err = r.text()
			case "codeId":
				code, err = r.text()
			case "start":
				l.start, err = r.number()
			case "end":
				l.end, err = r.number()
			case "offset":
				l.offset, err = r.number()
			default:
				err = r.SkipValue()
			}
			return err
		})
		if l.Path == "" {
			l.Path = short
		}
		l.BuildID = strings.ToLower(code)
		if isKernel(l.Path) {
			l.Kind, l.Path = profile.KernelCode, profile.Kernel
		}
		libs.all = append(libs.all, l)
		return err
	})
	libs.index()
	return libs, err
}

// thread reads the tables of a thread, or those that all share.
func (r *firefoxReader) thread(t *firefoxThread) error {
	return r.object(func(name string) (err error) {
		switch name {
		case "name":
			t.name, err = r.text()
		case "processName":
			t.process, err = r.text()
		case "pid":
			t.pid, err = r.text()
		case "tid":
			t.tid, err = r.text()
		case "samples":
			err = r.table(&t.samples)
		case "jsAllocations":
			err = r.table(&t.allocations)
		case "nativeAllocations":
			err = r.table(&t.native)
		case "stackTable":
			err = r.table(&t.stacks)
		case "frameTable":
			err = r.table(&t.frames)
		case "funcTable":
			err = r.table(&t.funcs)
		case "resourceTable":
			err = r.table(&t.resources)
		case "sources":
			err = r.table(&t.sources)
		case "stringTable", "stringArray":
			t.strings, err = r.texts()
		case "libs":
			t.libs, err = r.libs()
		default:
			err = r.SkipValue()
		}
		return err
	})
}

// table reads the columns of a table, in either form.
func (r *firefoxReader) table(t *firefoxTable) error {
	t.columns = map[string][]float64{}
	var names []string      // of columns by position in a row; "" where the column is not kept
	var columns [][]float64 // by position
	rows := 0
	err := r.object(func(name string) error {
		switch {
		case name == "weightType":
			s, err := r.text()
			t.weightType = s
			return err
		case name == "schema":
			return r.object(func(name string) error {
				v, err := r.number()
				if i := indexOf(v); i >= 0 && i < maxFirefoxColumns && firefoxColumns[name] {
					for len(names) <= i {
						names = append(names, "")
					}
					names[i] = name
				}
				return err
			})
		case name == "data":
			return r.array(func() error {
				i := 0
				err := r.array(func() error {
					// The schema may come after the rows.
					if i >= maxFirefoxColumns || names != nil && (i >= len(names) || names[i] == "") {
						i++
						return r.SkipValue()
					}
					v, err := r.number()
					for len(columns) <= i {
						columns = append(columns, nil)
					}
					for len(columns[i]) < rows {
						columns[i] = append(columns[i], math.NaN()) // rows may end before their last nulls
					}
					columns[i] = append(columns[i], v)
					i++
					return err
				})
				rows++
				return err
			})
		case firefoxColumns[name] && r.PeekKind() == '[':
			c, err := r.numbers()
			t.columns[name] = c
			return err
		}
		return r.SkipValue()
	})
	for i, name := range names {
		if name == "" {
			continue
		}
		c := make([]float64, 0, rows)
		if i < len(columns) {
			c = columns[i]
		}
		for len(c) < rows {
			c = append(c, math.NaN())
		}
		t.columns[name] = c
	}
	return err
}

// maxFirefoxColumns is the greatest number of columns of a row that are read; Gecko has nine.
const maxFirefoxColumns = 24

// add adds a process and those within it. root is the start of the whole.
func (r *firefoxReader) add(p *firefoxProcess, root float64) error {
	shift := p.startTime - root // ms
	if math.IsNaN(shift) {
		shift = 0
	}
	for i, t := range p.threads {
		if err := r.addThread(p, t, shift); err != nil {
			return fmt.Errorf("thread %d (%s): %w", i+1, t.name, err)
		}
	}
	for _, sub := range p.processes {
		if err := r.add(sub, root); err != nil {
			return err
		}
	}
	return nil
}

func (r *firefoxReader) addThread(p *firefoxProcess, t *firefoxThread, shift float64) error {
	// What a thread does not have of its own is shared. Where stacks and frames both are, all threads'
	// stacks are the same ones.
	s := p.shared
	same := t.stacks.columns == nil && t.frames.columns == nil && t.strings == nil
	for _, x := range []struct{ own, shared *firefoxTable }{
		{&t.stacks, &s.stacks}, {&t.frames, &s.frames}, {&t.funcs, &s.funcs}, {&t.resources, &s.resources}, {&t.sources, &s.sources},
	} {
		if x.own.columns == nil {
			*x.own = *x.shared
		}
	}
	if t.strings == nil {
		t.strings = s.strings
	}
	if t.libs == nil {
		t.libs = p.libs
	}
	t.locations = map[int]profile.LocationID{}
	stacks := s.resolved
	if !same || stacks == nil {
		var err error
		if stacks, err = r.stacks(t); err != nil {
			return err
		}
		if same {
			s.resolved = stacks
		}
	}
	task := profile.Task{Comm: t.name, PID: max(atoi(t.pid), 0), TID: max(atoi(t.tid), 0)}
	if task.Comm == "" {
		task.Comm = t.process
	}
	id := r.b.task(task)
	for _, x := range []struct {
		kind  profile.Kind
		table *firefoxTable
	}{{"", &t.samples}, {"js-allocations", &t.allocations}, {"native-allocations", &t.native}} {
		if x.table.columns != nil {
			if err := r.addSamples(p, x.table, x.kind, stacks, id, shift); err != nil {
				return err
			}
		}
	}
	return nil
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// addSamples adds the samples of a table that looks like that of samples. A sample without a weight
// counts once.
func (r *firefoxReader) addSamples(p *firefoxProcess, t *firefoxTable, kind profile.Kind, stacks []profile.StackID, task profile.TaskID, shift float64) error {
	var series *track
	scale := 1.0
	name := func(otherwise profile.Kind) profile.Kind {
		switch {
		case kind != "":
			return kind
		case r.kind != "":
			return r.kind
		}
		return otherwise
	}
	switch {
	case r.unit != "" && kind == "":
		unit := r.unit
		switch unit {
		case profile.Millionths:
			unit = profile.None
		case profile.Nanoseconds:
			scale = 1e6
		}
		series = r.b.series(name(""), unit, "", 0)
	case t.weightType == "tracing-ms":
		series, scale = r.b.series(name("time"), profile.Nanoseconds, profile.Milliseconds, 0), 1e6
	case t.weightType == "bytes" || kind != "":
		series = r.b.series(name("bytes"), profile.Bytes, "", 0)
	default:
		series = r.b.series(name("samples"), profile.None, "", 0)
	}
	at, deltas := 0.0, t.columns["timeDeltas"]
	for i := range t.len("stack") {
		if deltas != nil {
			if i < len(deltas) {
				at += deltas[i]
			}
		} else {
			at = t.number("time", i)
		}
		x := profile.Sample{Task: task, Count: 1}
		if n := t.at("stack", i); n >= len(stacks) {
			return fmt.Errorf("sample %d has stack %d of %d", i, n, len(stacks))
		} else if n >= 0 {
			x.Stack = stacks[n]
		}
		var ok bool
		if x.Time, ok = since(at+shift, time.Millisecond); !ok {
			r.b.skip(1, skippedTime)
			continue
		}
		if n := t.number("sightlineCount", i); n >= 0 && n < maxTotal {
			x.Count = int64(n)
		}
		weight := 1.0
		if w := t.number("weight", i); !math.IsNaN(w) {
			weight = w
		} else if t.len("weight") > i {
			r.b.skip(1, skippedWeight)
			continue
		}
		series.value(x, weight, scale)
	}
	return nil
}

// stacks are the builder's stacks of a thread's.
func (r *firefoxReader) stacks(t *firefoxThread) ([]profile.StackID, error) {
	n := t.stacks.len("frame")
	to := make([]profile.StackID, n)
	offsets := t.stacks.columns["prefixOffset"] != nil
	for i := range n {
		parent := t.stacks.at("prefix", i)
		if offsets {
			if parent = -1; t.stacks.at("prefixOffset", i) > 0 {
				if parent = i - t.stacks.at("prefixOffset", i); parent < 0 {
					return nil, fmt.Errorf("stack %d has a prefix before the first stack", i)
				}
			}
		}
		if parent >= i {
			return nil, fmt.Errorf("stack %d has prefix %d, which does not come before it", i, parent)
		}
		at := profile.StackID(0)
		if parent >= 0 {
			at = to[parent]
		}
		frame := t.stacks.at("frame", i)
		l, ok := t.locations[frame]
		if !ok {
			f, at, err := r.frame(t, frame)
			if err != nil {
				return nil, fmt.Errorf("stack %d: %w", i, err)
			}
			if at == nil {
				l = r.b.location(f)
			} else if l = r.b.address(*at); len(r.b.c.Symbols.Of[l]) == 0 {
				r.b.symbolize(l, []profile.FrameID{r.b.frame(f)})
			}
			t.locations[frame] = l
		}
		to[i] = r.b.push(at, l)
	}
	return to, nil
}

func (t *firefoxThread) text(i int) string {
	if i >= 0 && i < len(t.strings) {
		return t.strings[i]
	}
	return ""
}

// frame is a frame of the frame table, and where it is known by its address alone, the address.
func (r *firefoxReader) frame(t *firefoxThread, i int) (profile.Frame, *profile.Location, error) {
	if t.frames.columns["location"] != nil { // Gecko's form
		if i < 0 || i >= t.frames.len("location") {
			return profile.Frame{}, nil, fmt.Errorf("it has frame %d of %d", i, t.frames.len("location"))
		}
		f, at := r.location(t, t.text(t.frames.at("location", i)))
		if line := lineOf(t.frames.number("line", i)); line > 0 {
			f.Line = line
		}
		if column := lineOf(t.frames.number("column", i)); column > 0 {
			f.Column = column
		}
		return f, at, nil
	}
	if i < 0 || i >= t.frames.len("func") {
		return profile.Frame{}, nil, fmt.Errorf("it has frame %d of %d", i, t.frames.len("func"))
	}
	fn := t.frames.at("func", i)
	if fn < 0 || fn >= t.funcs.len("name") {
		return profile.Frame{}, nil, fmt.Errorf("frame %d has function %d of %d", i, fn, t.funcs.len("name"))
	}
	f := profile.Frame{
		Func:      t.text(t.funcs.at("name", fn)),
		Line:      lineOf(t.frames.number("line", i)),
		Column:    lineOf(t.frames.number("column", i)),
		StartLine: lineOf(t.funcs.number("lineNumber", fn)),
		File:      t.text(t.funcs.at("fileName", fn)),
		Inlined:   t.frames.at("inlineDepth", i) > 0,
	}
	if source := t.funcs.at("source", fn); source >= 0 {
		f.File = t.text(t.sources.at("filename", source))
	}
	lib := t.frames.at("lib", i)
	if lib < 0 {
		lib = t.resources.at("lib", t.funcs.at("resource", fn))
	}
	if lib < 0 || t.libs == nil || lib >= len(t.libs.all) {
		return f, nil, nil
	}
	f.Module = t.libs.all[lib].Path
	if bareAddress.MatchString(f.Func) {
		// A frame that nobody symbolized; its address is the module's.
		f.Func = profile.Unknown
		if a := t.frames.number("address", i); a >= 0 && a < 1<<63 {
			return f, &profile.Location{Mapping: r.b.mapping(t.libs.all[lib].Mapping), Addr: uint64(a)}, nil
		}
	}
	return f, nil, nil
}

var (
	bareAddress = regexp.MustCompile(`^0x[0-9a-fA-F]{1,16}$`)
	// name (in library), with the source's place since version 14 or so: name (in library) (file:line).
	geckoNative = regexp.MustCompile(`^(.*) \(in ([^)]*)\)(?: \+ \d+| \((.*):(\d+)\))?$`)
	// name (url:line:column)[source], or without a column, or url:line:column alone.
	geckoScript = regexp.MustCompile(`^(?:(.*) \((.+?):(\d+)(?::\d+)?\)|(.+?):(\d+)(?::\d+)?)(?:\[\d+\])?$`)
)

// location takes a frame of Gecko's form apart: extractFuncsAndResourcesFromFrameLocations in
// process-profile.ts of the profiler tells what there is. Addresses are return addresses but for the
// leaf's; as nothing tells which is which, all are taken as they are.
func (r *firefoxReader) location(t *firefoxThread, s string) (profile.Frame, *profile.Location) {
	if bareAddress.MatchString(s) {
		a, err := strconv.ParseUint(s[2:], 16, 64)
		f := profile.Frame{Func: s}
		if l := t.libs.at(float64(a)); err == nil && l != nil {
			f.Func, f.Module = profile.Unknown, l.Path
			return f, &profile.Location{Mapping: r.b.mapping(l.Mapping), Addr: a - uint64(max(l.start, 0)) + uint64(max(l.offset, 0))}
		}
		return f, nil
	}
	if m := geckoNative.FindStringSubmatch(s); m != nil {
		f := profile.Frame{Func: m[1], Module: m[2], File: m[3], Line: lineOf(parseNumber(m[4]))}
		if t.libs != nil {
			if i, ok := t.libs.byName[m[2]]; ok {
				f.Module = t.libs.all[i].Path
			}
		}
		return f, nil
	}
	if m := geckoScript.FindStringSubmatch(s); m != nil {
		f := profile.Frame{Func: m[1], File: m[2] + m[4], StartLine: lineOf(parseNumber(m[3] + m[5]))}
		if i := strings.LastIndex(f.File, " -> "); i >= 0 {
			f.File = f.File[i+len(" -> "):] // a script that another loaded
		}
		if f.Func == "" {
			f.Func = "(root scope) " + f.File
		}
		return f, nil
	}
	return profile.Frame{Func: s}, nil
}
