package convert

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// This file is what the writers share: tables of several kinds, sums of stacks, threads, decimal
// numbers, JSON.

// together are the export's profiles with the same frames, stacks and tasks. Where there is one alone,
// it is itself.
func (e Export) together() []*profile.Profile {
	if len(e.Others) == 0 {
		return []*profile.Profile{e.Profile}
	}
	var (
		frames = make([]profile.Frame, 1)
		tasks  = make([]profile.Task, 1)
		stacks = profile.NewStacks[profile.FrameID]()
		frame  = map[profile.Frame]profile.FrameID{{}: 0}
		task   = map[profile.Task]profile.TaskID{{}: 0}
		all    []*profile.Profile
	)
	for _, p := range append([]*profile.Profile{e.Profile}, e.Others...) {
		one := *p
		one.Samples.Stack = make([]profile.StackID, p.Samples.Len())
		one.Samples.Task = make([]profile.TaskID, p.Samples.Len())
		toFrame := make([]profile.FrameID, len(p.Frames))
		for i, f := range p.Frames {
			id, ok := frame[f]
			if !ok {
				id = profile.FrameID(len(frames))
				frames = append(frames, f)
				frame[f] = id
			}
			toFrame[i] = id
		}
		toTask := make([]profile.TaskID, len(p.Tasks))
		for i, t := range p.Tasks {
			id, ok := task[t]
			if !ok {
				id = profile.TaskID(len(tasks))
				tasks = append(tasks, t)
				task[t] = id
			}
			toTask[i] = id
		}
		parents, leaves := p.Stacks.Columns()
		toStack := make([]profile.StackID, len(parents))
		for i := 1; i < len(parents); i++ {
			toStack[i] = stacks.Intern(toStack[parents[i]], toFrame[leaves[i]])
		}
		for i := range p.Samples.Len() {
			one.Samples.Stack[i] = toStack[p.Samples.Stack[i]]
			one.Samples.Task[i] = toTask[p.Samples.Task[i]]
		}
		all = append(all, &one)
	}
	for _, p := range all {
		p.Frames, p.Stacks, p.Tasks = frames, stacks, tasks
	}
	return all
}

// A stackSum is a stack and what its samples make.
type stackSum struct {
	stack profile.StackID
	profile.Measure
}

// sumStacks are the stacks that have samples of their own, by id, with the measures of those.
func sumStacks(p *profile.Profile) []stackSum {
	sums := make([]profile.Measure, p.Stacks.Len())
	seen := make([]bool, len(sums))
	n := 0
	for i := range p.Samples.Len() {
		x := p.Samples.At(i)
		if !seen[x.Stack] {
			seen[x.Stack] = true
			n++
		}
		sums[x.Stack].Add(profile.Measure{Weight: x.Weight, Count: x.Count})
	}
	all := make([]stackSum, 0, n)
	for id, ok := range seen {
		if ok {
			all = append(all, stackSum{stack: profile.StackID(id), Measure: sums[id]})
		}
	}
	return all
}

// A thread is the samples of one task, by index, in order of time.
type thread struct {
	task    profile.TaskID
	samples []int
}

// byTask are the samples of each task that has some, in the order of tasks.
func byTask(p *profile.Profile) []thread {
	of := make([][]int, len(p.Tasks))
	for i, t := range p.Samples.Task {
		of[t] = append(of[t], i)
	}
	var all []thread
	for t, samples := range of {
		if len(samples) > 0 {
			all = append(all, thread{profile.TaskID(t), samples})
		}
	}
	if len(all) == 0 {
		all = []thread{{}}
	}
	return all
}

// taskTitle names a thread for a list of threads.
func taskTitle(t profile.Task, otherwise string) string {
	name := clean(t.Comm)
	switch {
	case t == (profile.Task{}):
		return clean(otherwise)
	case t.TID != 0 && name != "":
		return fmt.Sprintf("%s (%d)", name, t.TID)
	case t.TID != 0:
		return fmt.Sprintf("thread %d", t.TID)
	case name == "":
		return fmt.Sprintf("process %d", t.PID)
	}
	return name
}

// A jsonWriter writes JSON token by token and keeps the first error.
type jsonWriter struct {
	buf *bufio.Writer
	enc *jsontext.Encoder
	err error
}

func newJSONWriter(w io.Writer) *jsonWriter {
	buf := bufio.NewWriterSize(w, 64<<10)
	return &jsonWriter{buf: buf, enc: jsontext.NewEncoder(buf, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
}

func (j *jsonWriter) value(t jsontext.Token) {
	if j.err == nil {
		j.err = j.enc.WriteToken(t)
	}
}

// raw writes a value as it is spelled.
func (j *jsonWriter) raw(value string) {
	if j.err == nil {
		j.err = j.enc.WriteValue(jsontext.Value(value))
	}
}

func (j *jsonWriter) open(c byte) {
	if c == '{' {
		j.value(jsontext.BeginObject)
	} else {
		j.value(jsontext.BeginArray)
	}
}

func (j *jsonWriter) close(c byte) {
	if c == '}' {
		j.value(jsontext.EndObject)
	} else {
		j.value(jsontext.EndArray)
	}
}

func (j *jsonWriter) name(s string) { j.value(jsontext.String(s)) }

func (j *jsonWriter) member(name string, t jsontext.Token) {
	j.name(name)
	j.value(t)
}

// texts writes members that are not empty; pairs are name and value.
func (j *jsonWriter) texts(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			j.member(pairs[i], jsontext.String(clean(pairs[i+1])))
		}
	}
}

// positive writes members that are above 0; pairs are name and number.
func (j *jsonWriter) positive(pairs ...any) {
	for i := 0; i < len(pairs); i += 2 {
		if n := pairs[i+1].(int); n > 0 {
			j.member(pairs[i].(string), jsontext.Int(int64(n)))
		}
	}
}

func (j *jsonWriter) flush() error {
	if j.err != nil {
		return j.err
	}
	return j.buf.Flush()
}

// plainWeight is a weight as a decimal number: millionths of something without a name as what they are,
// all else in its unit, with the point shifted by so many digits.
func plainWeight(weight int64, u profile.Unit, shift int) string {
	if u == profile.Millionths {
		shift += 6
	}
	if shift == 0 {
		return strconv.FormatInt(weight, 10)
	}
	sign, abs := "", uint64(weight)
	if weight < 0 {
		sign, abs = "-", -abs
	}
	s := fmt.Sprintf("%0*d", shift+1, abs)
	whole, part := s[:len(s)-shift], s[len(s)-shift:]
	for len(part) > 0 && part[len(part)-1] == '0' {
		part = part[:len(part)-1]
	}
	if part == "" {
		return sign + whole
	}
	return sign + whole + "." + part
}
