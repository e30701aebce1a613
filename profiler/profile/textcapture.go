package profile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The words for mapping kinds in the text form.
var mappingWords = [...]string{NoMapping: "none", FileCode: "file", KernelCode: "kernel", VDSO: "vdso", Anonymous: "anonymous"}

// String is the kind in the text form's spelling: "none", "file", "kernel", "vdso", "anonymous".
func (k MappingKind) String() string {
	if int(k) < len(mappingWords) {
		return mappingWords[k]
	}
	return strconv.Itoa(int(k))
}

// AppendText appends the capture's text form to b: the readable twin of what a store keeps.
//
//	capture
//	target: dir=/src/fib package=./fib run=TestFib
//	command: go test ./fib -run TestFib
//	engine: bpf
//	machine: "Linux 6.18.44 x86_64, 2 CPUs"
//	start: 2026-01-31T15:04:05.123Z
//	length: 1.5s
//	interrupted: true
//	imported: true
//	task 1: pid=7 tid=8 parent=1 comm=fib.test
//	mapping 1: kind=file path=/tmp/fib.test buildid=5f3c deleted offsets
//	frame 1: main.main@main.go:3|entry
//	location 1: mapping=1 addr=0x401000 return frames=1
//	stack 1: parent=0 location=1
//	series: kind=cpu unit=ns period=1001001
//	1 1001001 time=1.001ms task=1
//	source: path=main.go local=/src/fib/main.go note="…" text
//	|package main
//	"no final newline"
//	warning: kind=lost count=3 text="3 samples were lost; …"
//
// Each line but samples and source text begins with its name and a colon; the entries of tables are
// numbered 1, 2, 3 without gaps, entry 0 being the zero value, and are declared before they are
// named. Then come fields, key=value or a single word, in any order; those that are zero may be left
// out:
//
//	target       dir= package= run= bench= (words) pid= (int) machine (flag)
//	command      the words of Target.Command
//	engine, machine, start, length, interrupted, imported   one word; a time, a duration, true
//	task         pid= tid= parent= (ints) comm= (word)
//	mapping      kind= (none, file, kernel, vdso, anonymous) path= buildid= (words) deleted offsets (flags)
//	frame        one frame, as in [Profile.AppendText]
//	location     mapping= (number) addr= (0x… or decimal) return root (flags) frames= (numbers, innermost first, with commas)
//	stack        parent= location= (numbers)
//	series       kind= unit= source= (words) period= (int), followed by its samples
//	sample       number of the stack, blank, weight [count=] [time=] [task=], as in a profile
//	source       path= local= note= (words) text (flag: the lines that follow, none for an empty file)
//	source text  "|" and a line that ends in a newline | one quoted string: exactly these bytes
//	warning      kind= text= (words) count= (int)
//
// Words are quoted as in a profile. Empty lines and lines that begin with # are skipped, except
// within source text that begins with "|".
//
// ParseCapture makes an equal capture of the text, in which no table is nil that has entries, an
// empty table is as NewCapture makes it, Count columns that hold only ones are nil, and empty lists at
// the end of Symbols.Of are left out.
func (c *Capture) AppendText(b []byte) []byte {
	b = append(b, "capture\n"...)
	b = appendTarget(b, c.Target)
	b = appendLine(b, "engine", c.Engine)
	b = appendLine(b, "machine", c.Machine)
	b = appendWhen(b, c.Start, c.Length)
	if c.Interrupted {
		b = append(b, "interrupted: true\n"...)
	}
	if c.Imported {
		b = append(b, "imported: true\n"...)
	}
	b = appendTasks(b, c.Tasks)
	for id := 1; id < len(c.Mappings); id++ {
		m := c.Mappings[id]
		b = fmt.Appendf(b, "mapping %d:", id)
		if m.Kind != NoMapping {
			b = appendField(b, "kind", m.Kind.String())
		}
		b = appendIf(b, "path", m.Path)
		b = appendIf(b, "buildid", m.BuildID)
		b = appendFlag(b, "deleted", m.Deleted)
		b = appendFlag(b, "offsets", m.Offsets)
		b = append(b, '\n')
	}
	for id := 1; id < len(c.Symbols.Frames); id++ {
		b = fmt.Appendf(b, "frame %d: ", id)
		b = appendFrame(b, c.Symbols.Frames[id])
		b = append(b, '\n')
	}
	for id := 1; id < len(c.Locations); id++ {
		b = c.appendLocation(b, LocationID(id))
	}
	parents, locations := c.Stacks.Columns()
	for id := 1; id < len(parents); id++ {
		b = fmt.Appendf(b, "stack %d: parent=%d location=%d\n", id, parents[id], locations[id])
	}
	for i := range c.Series {
		s := &c.Series[i]
		b = append(b, "series:"...)
		b = appendIf(b, "kind", string(s.Kind))
		b = appendIf(b, "unit", string(s.Unit))
		b = appendIf(b, "source", string(s.Source))
		b = appendIntIf(b, "period", s.Period)
		b = append(b, '\n')
		for k := range s.Samples.Len() {
			x := s.Samples.At(k)
			b = strconv.AppendUint(b, uint64(x.Stack), 10)
			b = appendSample(b, x)
		}
	}
	for _, s := range c.Symbols.Sources {
		b = appendSource(b, s)
	}
	return appendWarnings(b, c.Warnings)
}

// appendLine adds a header line of one word, unless the word is empty.
func appendLine(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = appendWord(b, value, endsWord)
	return append(b, '\n')
}

func appendTarget(b []byte, t Target) []byte {
	b = append(b, "target:"...)
	b = appendIf(b, "dir", t.Dir)
	b = appendIntIf(b, "pid", int64(t.PID))
	b = appendFlag(b, "machine", t.Machine)
	b = appendIf(b, "package", t.Package)
	b = appendIf(b, "run", t.Run)
	b = appendIf(b, "bench", t.Bench)
	b = append(b, '\n')
	if len(t.Command) > 0 {
		b = append(b, "command:"...)
		for _, w := range t.Command {
			b = append(b, ' ')
			b = appendWord(b, w, endsWord)
		}
		b = append(b, '\n')
	}
	return b
}

func (c *Capture) appendLocation(b []byte, id LocationID) []byte {
	l := c.Locations[id]
	b = fmt.Appendf(b, "location %d:", id)
	b = appendIntIf(b, "mapping", int64(l.Mapping))
	b = fmt.Appendf(b, " addr=%#x", l.Addr)
	b = appendFlag(b, "return", l.Return)
	b = appendFlag(b, "root", l.Root)
	if int(id) < len(c.Symbols.Of) {
		for i, f := range c.Symbols.Of[id] {
			if i == 0 {
				b = append(b, " frames="...)
			} else {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, uint64(f), 10)
		}
	}
	return append(b, '\n')
}

func appendSource(b []byte, s Source) []byte {
	b = append(b, "source:"...)
	b = appendIf(b, "path", s.Path)
	b = appendIf(b, "local", s.Local)
	b = appendIf(b, "note", s.Note)
	b = appendFlag(b, "text", s.Text != nil)
	b = append(b, '\n')
	for line := range strings.Lines(string(s.Text)) {
		if text, ok := strings.CutSuffix(line, "\n"); ok && plainLine(text) {
			b = append(b, '|')
			b = append(b, line...)
		} else {
			b = strconv.AppendQuote(b, line)
			b = append(b, '\n')
		}
	}
	return b
}

// plainLine reports whether a line of source text is readable as it is.
func plainLine(s string) bool {
	for _, r := range s {
		if r != '\t' && (r == utf8.RuneError || !unicode.IsPrint(r)) {
			return false
		}
	}
	return true
}

// ParseCapture reads the text form; see [Capture.AppendText]. The capture satisfies Check. An error
// names the line and what to write instead.
func ParseCapture(text []byte) (*Capture, error) {
	r := newTextReader("capture text", text)
	if !r.next() || r.rest != "capture" {
		return nil, r.errorf("the first line is not %q; begin with it, or parse a profile", "capture")
	}
	p := captureParser{
		textReader: r, c: NewCapture(Target{}, time.Time{}),
		parent: make([]StackID, 1), leaf: make([]LocationID, 1),
	}
	p.c.Symbols.Frames = make([]Frame, 1)
	for r.next() {
		if err := p.parseLine(); err != nil {
			return nil, err
		}
	}
	if len(p.c.Symbols.Frames) == 1 {
		p.c.Symbols.Frames = nil
	}
	p.c.Stacks = StacksOf(p.parent, p.leaf)
	if err := p.c.Check(); err != nil {
		return nil, fmt.Errorf("capture text: %w", err)
	}
	return p.c, nil
}

type captureParser struct {
	*textReader
	c      *Capture
	parent []StackID // the columns of the stacks so far
	leaf   []LocationID
}

func (p *captureParser) parseLine() error {
	name, number, ok := p.header()
	if !ok {
		return p.parseSample()
	}
	var next int
	var parse func() error
	switch name {
	case "task":
		next, parse = len(p.c.Tasks), p.parseTask
	case "mapping":
		next, parse = len(p.c.Mappings), p.parseMapping
	case "frame":
		next, parse = len(p.c.Symbols.Frames), p.parseFrame
	case "location":
		next, parse = len(p.c.Locations), p.parseLocation
	case "stack":
		next, parse = len(p.parent), p.parseStack
	default:
		if err := p.plain(name, number); err != nil {
			return err
		}
		return p.parseHeader(name)
	}
	if err := p.numbered(name, number, next); err != nil {
		return err
	}
	return parse()
}

func (p *captureParser) parseHeader(name string) (err error) {
	c := p.c
	switch name {
	case "series":
		return p.parseSeries()
	case "source":
		return p.parseSource()
	case "warning":
		w, err := p.warning()
		c.Warnings = append(c.Warnings, w)
		return err
	case "start", "length":
		return p.when(name, &c.Start, &c.Length)
	}
	if err := p.once(name); err != nil {
		return err
	}
	switch name {
	case "target":
		return p.parseTarget()
	case "command":
		for p.rest != "" {
			w, err := p.word(endsWord)
			if err != nil {
				return err
			}
			c.Target.Command = append(c.Target.Command, w)
			p.blanks()
		}
		return nil
	case "engine":
		c.Engine, err = p.value(name)
		return err
	case "machine":
		c.Machine, err = p.value(name)
		return err
	case "interrupted":
		c.Interrupted = true
		return p.isTrue(name)
	case "imported":
		c.Imported = true
		return p.isTrue(name)
	}
	return p.errorf("unknown line %q; the lines of a capture are target, command, engine, machine, start, length, interrupted, imported, task, mapping, frame, location, stack, series, source and warning", name+":")
}

// isTrue reads the value of a line that is there or not.
func (p *captureParser) isTrue(name string) error {
	v, err := p.value(name)
	if err == nil && v != "true" {
		err = p.errorf(`%s is %s; write "%s: true" or leave the line out`, name, shorten(v), name)
	}
	return err
}

func (p *captureParser) parseTarget() error {
	t := &p.c.Target
	return p.fields("dir, pid, machine, package, run and bench", func(key, value string) (bool, error) {
		var err error
		switch key {
		case "dir":
			t.Dir = value
		case "pid":
			t.PID, err = p.int(key, value)
		case "machine":
			t.Machine = true
		case "package":
			t.Package = value
		case "run":
			t.Run = value
		case "bench":
			t.Bench = value
		default:
			return false, nil
		}
		return true, err
	})
}

func (p *captureParser) parseTask() error {
	t, err := p.task()
	p.c.Tasks = append(p.c.Tasks, t)
	return err
}

func (p *captureParser) parseMapping() error {
	var m Mapping
	err := p.fields("kind, path, buildid, deleted and offsets", func(key, value string) (bool, error) {
		switch key {
		case "kind":
			kind, err := p.mappingKind(value)
			m.Kind = kind
			return true, err
		case "path":
			m.Path = value
		case "buildid":
			m.BuildID = value
		case "deleted":
			m.Deleted = true
		case "offsets":
			m.Offsets = true
		default:
			return false, nil
		}
		return true, nil
	})
	p.c.Mappings = append(p.c.Mappings, m)
	return err
}

func (p *captureParser) mappingKind(word string) (MappingKind, error) {
	for kind, w := range mappingWords {
		if w == word {
			return MappingKind(kind), nil
		}
	}
	if n, err := strconv.ParseUint(word, 10, 8); err == nil { // a kind of a later version
		return MappingKind(n), nil
	}
	return 0, p.errorf("unknown kind of mapping %s; write none, file, kernel, vdso or anonymous", shorten(word))
}

func (p *captureParser) parseFrame() error {
	f, err := p.frame()
	if err != nil {
		return err
	}
	if p.rest != "" {
		return p.errorf("unexpected %s after a frame; write one frame per line and quote names that have blanks", shorten(p.rest))
	}
	p.c.Symbols.Frames = append(p.c.Symbols.Frames, f)
	return nil
}

func (p *captureParser) parseLocation() error {
	c := p.c
	var l Location
	var frames []FrameID
	err := p.fields("mapping, addr, return, root and frames", func(key, value string) (bool, error) {
		switch key {
		case "mapping":
			id, err := p.id(key, value, len(c.Mappings))
			l.Mapping = MappingID(id)
			return true, err
		case "addr":
			addr, err := strconv.ParseUint(value, 0, 64)
			if err != nil {
				return true, p.errorf("addr %s is not an address; write it as 0x401000", shorten(value))
			}
			l.Addr = addr
		case "return":
			l.Return = true
		case "root":
			l.Root = true
		case "frames":
			for part := range strings.SplitSeq(value, ",") {
				id, err := p.id("frame", part, len(c.Symbols.Frames))
				if err != nil {
					return true, err
				}
				if id == 0 {
					return true, p.errorf("frame 0 is no frame; frames are numbered from 1")
				}
				frames = append(frames, FrameID(id))
			}
		default:
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if frames != nil {
		for len(c.Symbols.Of) < len(c.Locations) {
			c.Symbols.Of = append(c.Symbols.Of, nil)
		}
		c.Symbols.Of = append(c.Symbols.Of, frames)
	}
	c.Locations = append(c.Locations, l)
	return nil
}

func (p *captureParser) parseStack() error {
	var parent, leaf int
	err := p.fields("parent and location", func(key, value string) (bool, error) {
		var err error
		switch key {
		case "parent":
			parent, err = p.id("stack", value, len(p.parent))
		case "location":
			leaf, err = p.id("location", value, len(p.c.Locations))
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return err
	}
	if leaf == 0 {
		return p.errorf("the stack has no location; add location= with a number from 1 on")
	}
	p.parent = append(p.parent, StackID(parent))
	p.leaf = append(p.leaf, LocationID(leaf))
	return nil
}

func (p *captureParser) parseSeries() error {
	var s Series
	err := p.fields("kind, unit, source and period", func(key, value string) (bool, error) {
		switch key {
		case "kind":
			s.Kind = Kind(value)
		case "unit":
			s.Unit = Unit(value)
		case "source":
			s.Source = Unit(value)
		case "period":
			n, err := p.int(key, value)
			s.Period = int64(n)
			return true, err
		default:
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if p.c.Of(s.Kind) != nil {
		return p.errorf("a second series of kind %s; put its samples under the first, ordered by time", shorten(string(s.Kind)))
	}
	p.c.Series = append(p.c.Series, s)
	return nil
}

func (p *captureParser) parseSample() error {
	n := len(p.c.Series)
	if n == 0 {
		return p.errorf("%s comes before any series; put a line %q above the samples", shorten(p.rest), "series: kind=cpu unit=ns")
	}
	word, err := p.word(endsWord)
	if err != nil {
		return err
	}
	stack, err := p.id("stack", word, len(p.parent))
	if err != nil {
		return err
	}
	return p.sample(&p.c.Series[n-1].Samples, StackID(stack), len(p.c.Tasks))
}

func (p *captureParser) parseSource() error {
	var s Source
	err := p.fields("path, local, note and text", func(key, value string) (bool, error) {
		switch key {
		case "path":
			s.Path = value
		case "local":
			s.Local = value
		case "note":
			s.Note = value
		case "text":
			s.Text = []byte{}
		default:
			return false, nil
		}
		return true, nil
	})
	for err == nil && s.Text != nil && p.text != "" && (p.text[0] == '|' || p.text[0] == '"') {
		p.line++
		var line string
		line, p.text, _ = strings.Cut(p.text, "\n")
		line = strings.TrimSuffix(line, "\r")
		if plain, ok := strings.CutPrefix(line, "|"); ok {
			s.Text = append(s.Text, plain...)
			s.Text = append(s.Text, '\n')
			continue
		}
		p.rest = line
		var quoted string
		if quoted, err = p.value("source text"); err == nil {
			s.Text = append(s.Text, quoted...)
		}
	}
	p.c.Symbols.Sources = append(p.c.Symbols.Sources, s)
	return err
}
