package convert

import (
	"archive/zip"
	"bufio"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// WritePerfViewZip writes a stack file of PerfView as the one entry of a zip, which PerfView calls
// .perfView.xml.zip.
func WritePerfViewZip(w io.Writer, e Export) error {
	z := zip.NewWriter(w)
	f, err := z.Create("stacks.perfView.xml")
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	if err := writePerfView(b, e); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return z.Close()
}

// writePerfView writes the ID form: the tables Frames, Stacks and Samples, then the state of the
// window. PerfView reads these; readPerfView also reads what PerfView passes over, and gives back the
// same profile:
//
//   - StackSource has Kind, Unit, Source, Start, and Length in milliseconds.
//   - Times and metrics have up to six digits behind the point, where PerfView writes three. A weight
//     in nanoseconds is written in milliseconds, one in millionths in ones.
//   - Frame has Module where the name alone would be split otherwise, and Quoted, a Go string, where
//     the name holds characters that XML does not allow.
//   - Tasks are listed. PerfView wants the process and the thread as a stack's outermost frames,
//     `Process comm (pid)` and `Thread (tid)`. A Stack with Task is such a prefix: it is for PerfView,
//     and what is read begins behind it.
//   - Places are the files and lines of frames, to which Stack refers with Place.
//   - Sample has Count where it stands for other than one event.
//
// Invalid UTF-8 in names becomes U+FFFD.
func writePerfView(w io.Writer, e Export) error {
	p := &perfViewWriter{w: w, p: e.Profile, in: e.Profile.Stacks}
	p.print("\uFEFF<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<StackWindow>\n <StackSource")
	p.attr("Kind", string(p.p.Kind))
	unit := p.p.Unit
	p.digits, p.known = unitDigits(unit)
	if p.known {
		p.attr("Unit", string(unit))
		if p.p.Source != "" {
			p.attr("Source", string(p.p.Source))
		}
	}
	if !p.p.Start.IsZero() {
		p.attr("Start", p.p.Start.UTC().Format(time.RFC3339Nano))
	}
	p.attr("Length", fixed(int64(p.p.Length), metricDigits))
	p.print(">\n")
	p.intern()
	p.tables()
	p.samples()
	p.print(" </StackSource>\n")
	p.window(e.Filter)
	p.print("</StackWindow>\n")
	return p.err
}

type perfViewWriter struct {
	w      io.Writer
	p      *profile.Profile
	in     *profile.Stacks[profile.FrameID]
	digits int
	known  bool // the unit is one that the reader knows
	buf    []byte
	err    error

	frames []profile.Frame // Module and Func alone, by id; the first four are PerfView's
	ids    map[profile.Frame]int
	places []profile.Frame // without Module and Func
	at     map[profile.Frame]int
	frame  []int // of each profile's frame
	place  []int // -1 for none
	stacks []perfViewNode
	way    []profile.StackID
	begins []int               // of each task, the stack of its thread; -1 before it is made
	of     map[perfViewKey]int // of a task's stack of the profile
}

type perfViewKey struct {
	task  profile.TaskID
	stack profile.StackID
}

type perfViewNode struct{ caller, frame, place, task int }

// intern makes the tables of what samples use.
func (p *perfViewWriter) intern() {
	p.ids, p.at = map[profile.Frame]int{}, map[profile.Frame]int{}
	for _, name := range []string{"ROOT", "BROKEN", "?!?", "OVERHEAD"} {
		p.name(profile.Frame{Func: name})
	}
	p.frame, p.place = make([]int, len(p.p.Frames)), make([]int, len(p.p.Frames))
	for id, f := range p.p.Frames {
		p.frame[id] = -1
		p.place[id] = -1
		if id == 0 {
			continue
		}
		place := f
		place.Func, place.Module = "", ""
		if place != (profile.Frame{}) {
			n, ok := p.at[place]
			if !ok {
				n = len(p.places)
				p.places, p.at[place] = append(p.places, place), n
			}
			p.place[id] = n
		}
	}
	p.begins = make([]int, len(p.p.Tasks))
	p.of = make(map[perfViewKey]int, p.in.Len())
	processes := map[profile.Frame]int{}
	for i := range p.begins {
		p.begins[i] = -1
	}
	s := &p.p.Samples
	for i, task := range s.Task {
		if task != 0 && p.begins[task] < 0 {
			p.begins[task] = p.thread(task, processes)
		}
		p.stack(task, s.Stack[i])
	}
}

func (p *perfViewWriter) name(f profile.Frame) int {
	id, ok := p.ids[f]
	if !ok {
		id = len(p.frames)
		p.frames = append(p.frames, f)
		p.ids[f] = id
	}
	return id
}

func (p *perfViewWriter) push(n perfViewNode) int {
	p.stacks = append(p.stacks, n)
	return len(p.stacks) - 1
}

// thread makes the two stacks that PerfView knows a task by.
func (p *perfViewWriter) thread(id profile.TaskID, processes map[profile.Frame]int) int {
	t := p.p.Tasks[id]
	process := profile.Frame{Func: "Process " + t.Comm + " (" + strconv.Itoa(t.PID) + ")"}
	at, ok := processes[process]
	if !ok {
		at = p.push(perfViewNode{-1, p.name(process), -1, -1})
		processes[process] = at
	}
	thread := profile.Frame{Func: "Thread (" + strconv.Itoa(t.TID) + ")"}
	return p.push(perfViewNode{at, p.name(thread), -1, int(id)})
}

// stack is the file's stack of a task's stack.
func (p *perfViewWriter) stack(task profile.TaskID, id profile.StackID) int {
	at := -1
	if task != 0 {
		at = p.begins[task]
	}
	p.way = p.way[:0]
	for ; id != 0; id = p.in.Parent(id) {
		if made, ok := p.of[perfViewKey{task, id}]; ok {
			at = made
			break
		}
		p.way = append(p.way, id)
	}
	for _, x := range slices.Backward(p.way) {
		f := p.in.Leaf(x)
		if p.frame[f] < 0 {
			p.frame[f] = p.name(profile.Frame{Module: p.p.Frames[f].Module, Func: p.p.Frames[f].Func})
		}
		at = p.push(perfViewNode{at, p.frame[f], p.place[f], -1})
		p.of[perfViewKey{task, x}] = at
	}
	return at
}

func (p *perfViewWriter) tables() {
	if len(p.p.Tasks) > 1 {
		p.print("  <Tasks>\n")
		for id, t := range p.p.Tasks[1:] {
			p.print("   <Task")
			p.int("ID", id+1)
			p.int("PID", t.PID)
			p.int("TID", t.TID)
			if t.Parent != 0 {
				p.int("Parent", t.Parent)
			}
			p.attr("Comm", t.Comm)
			p.quoted(t.Comm)
			p.print("/>\n")
		}
		p.print("  </Tasks>\n")
	}
	if len(p.places) > 0 {
		p.print("  <Places>\n")
		for id, f := range p.places {
			p.print("   <Place")
			p.int("ID", id)
			if f.File != "" {
				p.attr("File", f.File)
				p.quoted(f.File)
			}
			for _, a := range [...]struct {
				name string
				n    int
			}{{"Line", f.Line}, {"Column", f.Column}, {"StartLine", f.StartLine}} {
				if a.n != 0 {
					p.int(a.name, a.n)
				}
			}
			if f.Inlined {
				p.attr("Inlined", "True")
			}
			if f.Entry {
				p.attr("Entry", "True")
			}
			p.print("/>\n")
		}
		p.print("  </Places>\n")
	}
	p.print("  <Frames")
	p.int("Count", len(p.frames))
	p.print(">\n")
	for id, f := range p.frames {
		name := fullName(f)
		p.print("   <Frame")
		p.int("ID", id)
		if splitName(name) != f {
			p.attr("Module", f.Module)
		}
		p.quoted(name)
		p.print(">")
		p.text(name)
		p.print("</Frame>\n")
	}
	p.print("  </Frames>\n  <Stacks")
	p.int("Count", len(p.stacks))
	p.print(">\n")
	for id, s := range p.stacks {
		p.print("   <Stack")
		p.int("ID", id)
		p.int("CallerID", s.caller)
		p.int("FrameID", s.frame)
		if s.place >= 0 {
			p.int("Place", s.place)
		}
		if s.task >= 0 {
			p.int("Task", s.task)
		}
		p.print(" />\n")
	}
	p.print("  </Stacks>\n")
}

func (p *perfViewWriter) samples() {
	s := &p.p.Samples
	p.print("  <Samples")
	p.int("Count", s.Len())
	p.print(">\n")
	for i := range s.Len() {
		x := s.At(i)
		p.print("   <Sample")
		p.int("ID", i)
		p.attr("Time", fixed(int64(x.Time), metricDigits))
		p.int("StackID", p.stack(x.Task, x.Stack))
		p.attr("Metric", metric(x.Weight, p.digits))
		if x.Count != 1 {
			p.attr("Count", strconv.FormatInt(x.Count, 10))
		}
		p.print(" />\n")
	}
	p.print("  </Samples>\n")
}

// window writes the state of PerfView's window that restores the filters.
func (p *perfViewWriter) window(f Filter) {
	p.print(" <StackWindowGuiState>\n  <FilterGuiState>\n")
	for _, box := range [...]struct{ name, value string }{
		{"Start", f.Start}, {"End", f.End}, {"Scenarios", f.Scenarios}, {"GroupRegEx", f.Group}, {"FoldPercent", f.FoldPercent},
		{"FoldRegEx", f.Fold}, {"IncludeRegEx", f.Include}, {"ExcludeRegEx", f.Exclude},
	} {
		p.print("   <" + box.name + "><Value>")
		p.text(box.value)
		p.print("</Value></" + box.name + ">\n")
	}
	p.print("  </FilterGuiState>\n  <Notes>")
	p.text(f.Notes)
	policy := "ScaleToData"
	if p.p.Unit == profile.Nanoseconds {
		policy = "TimeMetric"
	}
	p.print("</Notes>\n  <ScalingPolicy>" + policy + "</ScalingPolicy>\n </StackWindowGuiState>\n")
}

func (p *perfViewWriter) print(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

func (p *perfViewWriter) int(name string, n int) {
	p.buf = append(append(append(p.buf[:0], ' '), name...), '=', '"')
	p.buf = append(strconv.AppendInt(p.buf, int64(n), 10), '"')
	if p.err == nil {
		_, p.err = p.w.Write(p.buf)
	}
}

func (p *perfViewWriter) attr(name, value string) {
	p.print(" " + name + `="`)
	p.text(value)
	p.print(`"`)
}

// quoted writes a name that XML cannot hold as it is a second time.
func (p *perfViewWriter) quoted(name string) {
	if strings.ContainsFunc(name, func(r rune) bool { return !xmlRune(r) }) {
		p.attr("Quoted", strconv.QuoteToASCII(clean(name)))
	}
}

// xmlRune says whether a document may hold r. XML 1.0, 2.2.
func xmlRune(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r != 0xFFFE && r != 0xFFFF
}

func (p *perfViewWriter) text(s string) {
	p.buf = p.buf[:0]
	for _, r := range s {
		switch {
		case r == '<':
			p.buf = append(p.buf, "&lt;"...)
		case r == '>':
			p.buf = append(p.buf, "&gt;"...)
		case r == '&':
			p.buf = append(p.buf, "&amp;"...)
		case r == '"':
			p.buf = append(p.buf, "&quot;"...)
		case r == '\t' || r == '\n' || r == '\r':
			p.buf = append(strconv.AppendInt(append(p.buf, "&#"...), int64(r), 10), ';')
		case !xmlRune(r):
			p.buf = append(p.buf, "\uFFFD"...)
		default:
			p.buf = utf8.AppendRune(p.buf, r)
		}
	}
	if p.err == nil {
		_, p.err = p.w.Write(p.buf)
	}
}

// fixed is n × 10^-digits with at least three digits behind the point, as PerfView writes, and no
// more than it takes.
func fixed(n int64, digits int) string {
	s := metric(n, digits)
	whole, part, _ := strings.Cut(s, ".")
	for len(part) < 3 {
		part += "0"
	}
	return whole + "." + part
}

// metric is n × 10^-digits without zeros at its end.
func metric(n int64, digits int) string {
	sign := ""
	u := uint64(n)
	if n < 0 {
		sign, u = "-", -u
	}
	scale := uint64(math.Pow10(digits))
	s := sign + strconv.FormatUint(u/scale, 10)
	if rest := u % scale; rest != 0 {
		part := strconv.FormatUint(rest, 10)
		part = strings.Repeat("0", digits-len(part)) + part
		s += "." + strings.TrimRight(part, "0")
	}
	return s
}
