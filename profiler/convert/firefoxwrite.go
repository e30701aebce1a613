package convert

import (
	"io"
	"path"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// firefoxVersion is the processed form that is written: the last before threads shared their strings.
// The profiler brings it up to date when it loads it (src/profile-logic/processed-profile-versioning.ts),
// so that any since the end of 2024 can.
const firefoxVersion = 55

// writeFirefox writes each thread with tables of its own. Times are in milliseconds: weights too where
// they are times, which the profiler takes for the self time of a trace.
func writeFirefox(w io.Writer, e Export) error {
	p := e.Profile
	f := &firefoxWriter{jsonWriter: newJSONWriter(w), p: p, libs: map[string]int{}}
	f.open('{')
	f.name("meta")
	f.open('{')
	f.member("preprocessedProfileVersion", jsontext.Int(firefoxVersion))
	f.member("version", jsontext.Int(30)) // of Gecko's form; any that knew the processed one
	f.member("product", jsontext.String(clean(e.Name)))
	f.member("importedFrom", jsontext.String("Sightline"))
	f.member("sightlineKind", jsontext.String(clean(string(p.Kind))))
	f.member("sightlineUnit", jsontext.String(string(p.Unit)))
	start := int64(0)
	if !p.Start.IsZero() {
		start = p.Start.UnixMicro()
	}
	f.name("startTime")
	f.raw(plainWeight(start, profile.Nanoseconds, 3))
	f.name("interval")
	f.raw("1")
	for _, name := range []string{"processType", "stackwalk", "debug"} {
		f.member(name, jsontext.Int(0))
	}
	f.member("symbolicated", jsontext.Bool(true))
	f.name("categories")
	f.open('[')
	f.open('{')
	f.texts("name", "Other", "color", "grey")
	f.name("subcategories")
	f.open('[')
	f.value(jsontext.String("Other"))
	f.close(']')
	f.close('}')
	f.close(']')
	f.empty("markerSchema")
	f.close('}')
	f.modules()
	f.name("threads")
	f.open('[')
	for i, t := range byTask(p) {
		f.thread(t, e.Name, i)
	}
	f.close(']')
	f.close('}')
	return f.flush()
}

type firefoxWriter struct {
	*jsonWriter
	p    *profile.Profile
	libs map[string]int // module → index
}

// empty writes members that are empty arrays.
func (f *firefoxWriter) empty(names ...string) {
	for _, name := range names {
		f.name(name)
		f.open('[')
		f.close(']')
	}
}

// modules writes the list of libraries.
func (f *firefoxWriter) modules() {
	f.name("libs")
	f.open('[')
	for i := range f.p.Frames {
		m := f.p.Frames[i].Module
		if _, ok := f.libs[m]; ok || m == "" {
			continue
		}
		f.libs[m] = len(f.libs)
		f.open('{')
		for _, pair := range [][2]string{{"arch", ""}, {"name", path.Base(m)}, {"path", m}, {"debugName", path.Base(m)}, {"debugPath", m}, {"breakpadId", ""}} {
			f.member(pair[0], jsontext.String(clean(pair[1])))
		}
		f.member("codeId", jsontext.Null)
		f.close('}')
	}
	f.close(']')
}

// firefoxIDs numbers things in the order in which they come.
type firefoxIDs[K comparable] struct {
	of  map[K]int
	all []K
}

func (n *firefoxIDs[K]) id(k K) int {
	id, ok := n.of[k]
	if !ok {
		if n.of == nil {
			n.of = map[K]int{}
		}
		id = len(n.all)
		n.of[k] = id
		n.all = append(n.all, k)
	}
	return id
}

// A firefoxFunc is what the profiler takes for one function.
type firefoxFunc struct {
	name, file, module string
	line               int
}

func (f *firefoxWriter) thread(t thread, title string, index int) {
	p := f.p
	task := p.Tasks[t.task]
	var (
		texts     firefoxIDs[string]
		frames    firefoxIDs[profile.FrameID]
		funcs     firefoxIDs[firefoxFunc]
		resources firefoxIDs[string] // modules
		stacks    firefoxIDs[profile.StackID]
		path      []profile.StackID
	)
	for _, i := range t.samples {
		path = path[:0]
		for s := p.Samples.Stack[i]; s != 0; s = p.Stacks.Parent(s) {
			if _, ok := stacks.of[s]; ok {
				break
			}
			path = append(path, s)
		}
		for n := len(path) - 1; n >= 0; n-- {
			stacks.id(path[n]) // callers first
		}
	}
	f.open('{')
	f.texts("processType", "default", "processName", title)
	for _, name := range []string{"processStartupTime", "registerTime"} {
		f.member(name, jsontext.Int(0))
	}
	for _, name := range []string{"processShutdownTime", "unregisterTime"} {
		f.member(name, jsontext.Null)
	}
	f.empty("pausedRanges")
	name := clean(task.Comm)
	if name == "" {
		name = taskTitle(task, title)
	}
	f.member("name", jsontext.String(name))
	f.member("isMainThread", jsontext.Bool(index == 0 || task.PID == task.TID))
	f.member("pid", jsontext.String(strconv.Itoa(task.PID)))
	f.member("tid", jsontext.Int(int64(task.TID)))

	f.samples(t, &stacks)

	f.table("stackTable", len(stacks.all))
	f.column("frame", len(stacks.all), func(i int) int { return frames.id(p.Stacks.Leaf(stacks.all[i])) })
	f.column("prefix", len(stacks.all), func(i int) int {
		if parent := p.Stacks.Parent(stacks.all[i]); parent != 0 {
			return stacks.of[parent]
		}
		return none
	})
	f.close('}')

	frame := func(i int) *profile.Frame { return &p.Frames[frames.all[i]] }
	n := len(frames.all)
	f.table("frameTable", n)
	f.column("func", n, func(i int) int {
		x := frame(i)
		return funcs.id(firefoxFunc{clean(x.Func), clean(x.File), x.Module, x.StartLine})
	})
	f.column("line", n, func(i int) int { return known(frame(i).Line) })
	f.column("column", n, func(i int) int { return known(frame(i).Column) })
	f.column("inlineDepth", n, func(i int) int { return btoi(frame(i).Inlined) })
	f.column("address", n, func(int) int { return -1 })
	for _, name := range []string{"category", "subcategory", "innerWindowID"} {
		f.column(name, n, func(int) int { return 0 })
	}
	f.column("nativeSymbol", n, func(int) int { return none })
	f.close('}')

	n = len(funcs.all)
	f.table("funcTable", n)
	f.column("name", n, func(i int) int { return texts.id(funcs.all[i].name) })
	f.flags("isJS", n)
	f.flags("relevantForJS", n)
	f.column("resource", n, func(i int) int {
		if m := funcs.all[i].module; m != "" {
			return resources.id(m)
		}
		return -1
	})
	f.column("fileName", n, func(i int) int {
		if file := funcs.all[i].file; file != "" {
			return texts.id(file)
		}
		return none
	})
	f.column("lineNumber", n, func(i int) int { return known(funcs.all[i].line) })
	f.column("columnNumber", n, func(int) int { return none })
	f.close('}')

	n = len(resources.all)
	f.table("resourceTable", n)
	f.column("lib", n, func(i int) int { return f.libs[resources.all[i]] })
	f.column("name", n, func(i int) int { return texts.id(clean(resources.all[i])) })
	f.column("host", n, func(int) int { return none })
	f.column("type", n, func(int) int { return 1 }) // a library
	f.close('}')

	f.table("nativeSymbols", 0)
	f.empty("libIndex", "address", "name", "functionSize")
	f.close('}')
	f.table("markers", 0)
	f.empty("data", "name", "startTime", "endTime", "phase", "category")
	f.close('}')

	f.name("stringArray")
	f.open('[')
	for _, s := range texts.all {
		f.value(jsontext.String(s))
	}
	f.close(']')
	f.close('}')
}

// none is a column's null.
const none = -1 << 31

func known(n int) int {
	if n <= 0 {
		return none
	}
	return n
}

// table begins one.
func (f *firefoxWriter) table(name string, length int) {
	f.name(name)
	f.open('{')
	f.member("length", jsontext.Int(int64(length)))
}

func (f *firefoxWriter) column(name string, n int, at func(i int) int) {
	f.name(name)
	f.open('[')
	for i := range n {
		if v := at(i); v == none {
			f.value(jsontext.Null)
		} else {
			f.value(jsontext.Int(int64(v)))
		}
	}
	f.close(']')
}

// flags writes a column of false.
func (f *firefoxWriter) flags(name string, n int) {
	f.name(name)
	f.open('[')
	for range n {
		f.value(jsontext.False)
	}
	f.close(']')
}

func (f *firefoxWriter) samples(t thread, stacks *firefoxIDs[profile.StackID]) {
	p := f.p
	f.table("samples", len(t.samples))
	shift, weightType := 0, "samples"
	switch p.Unit {
	case profile.Nanoseconds:
		shift, weightType = 6, "tracing-ms"
	case profile.Bytes:
		weightType = "bytes"
	}
	f.texts("weightType", weightType)
	f.column("stack", len(t.samples), func(i int) int {
		if s := p.Samples.Stack[t.samples[i]]; s != 0 {
			return stacks.of[s]
		}
		return none
	})
	f.name("time")
	f.open('[')
	for _, i := range t.samples {
		f.raw(plainWeight(int64(p.Samples.Time[i]), profile.Nanoseconds, 6))
	}
	f.close(']')
	f.name("weight")
	f.open('[')
	for _, i := range t.samples {
		f.raw(plainWeight(p.Samples.Weight[i], p.Unit, shift))
	}
	f.close(']')
	if p.Samples.Count != nil {
		f.name("sightlineCount") // which only Sightline reads
		f.open('[')
		for _, i := range t.samples {
			f.value(jsontext.Int(p.Samples.Count[i]))
		}
		f.close(']')
	}
	f.close('}')
}
