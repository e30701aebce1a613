package profile

import (
	"strings"
)

// AppendText appends the profile's text form to b: what goldens are written in.
//
//	cpu ns
//	source: ms
//	start: 2026-01-31T15:04:05.123Z
//	length: 1.5s
//	task 1: pid=7 tid=8 parent=1 comm=worker
//	warning: kind=lost count=3 text="3 samples were lost; …"
//	main@main.c:3;fib@fib.c:9;fib@fib.c:10 10
//	/bin/x!main.main@x.go:7|start=5|entry;main.f@x.go:2:9|inlined 20 count=2 time=1.5ms task=1
//
// The grammar, where […] may be left out and {…} may be repeated or left out:
//
//	text    = kind " " unit NL {header NL} {sample NL}
//	header  = "source: " word | "start: " RFC 3339 time | "length: " Go duration
//	        | "task " number ":" [" pid=" int] [" tid=" int] [" parent=" int] [" comm=" word]
//	        | "warning:" [" kind=" word] [" count=" int] [" text=" word]
//	sample  = stack " " weight [" count=" int] [" time=" Go duration] [" task=" number]
//	stack   = frame {";" frame}, outermost first | "-" for the empty stack
//	frame   = [module "!"] [function] ["@" [file] [":" line [":" column]]] {"|" mark}
//	        | `""` for a frame of which nothing is known
//	mark    = "start=" line | "inlined" | "entry"
//
// Kind, unit, module, function, file and word are written as they are, or as strconv.Quote writes
// them where they hold a blank, a quote, a backslash, a character that is not printable, bytes that
// are not UTF-8, or a character that would end them: any of ; @ ! | in a module or a function, any of
// ; | : in a file. Blanks within brackets at the beginning of a name need no quotes: [broken stack].
// Header lines may come in any order, tasks numbered 1, 2, 3. Empty lines and lines that begin with #
// are skipped. What is left out is zero, and one for a count.
//
// The text has each sample in order and all that Profile holds, but no ids: ParseProfile numbers
// frames and stacks in the order in which samples need them, and leaves out those that none needs.
// For a profile that ParseProfile made, parsing its text gives an equal profile.
func (p *Profile) AppendText(b []byte) []byte {
	b = appendWord(b, string(p.Kind), endsWord)
	b = append(b, ' ')
	b = appendWord(b, string(p.Unit), endsWord)
	b = append(b, '\n')
	b = appendLine(b, "source", string(p.Source))
	b = appendWhen(b, p.Start, p.Length)
	b = appendTasks(b, p.Tasks)
	b = appendWarnings(b, p.Warnings)
	var frames []FrameID
	for i := range p.Samples.Len() {
		x := p.Samples.At(i)
		frames = p.Stacks.RootFirst(x.Stack, frames)
		for k, id := range frames {
			if k > 0 {
				b = append(b, ';')
			}
			b = appendFrame(b, p.Frames[id])
		}
		if len(frames) == 0 {
			b = append(b, '-')
		}
		b = appendSample(b, x)
	}
	return b
}

// ParseProfile reads the text form; see [Profile.AppendText] for its grammar. Frames are taken as
// they stand: no stack gets a BrokenStack root. The profile satisfies Check. An error names the line
// and what to write instead.
func ParseProfile(text []byte) (*Profile, error) {
	r := newTextReader("profile text", text)
	p := &Profile{Frames: make([]Frame, 1), Stacks: NewStacks[FrameID](), Tasks: make([]Task, 1)}
	if !r.next() {
		return nil, r.errorf("the kind and the unit are missing; begin with a line such as %q", "cpu ns")
	}
	first := shorten(r.rest)
	kind, err := r.word(endsWord)
	if err != nil {
		return nil, err
	}
	r.blanks()
	missing := r.rest == ""
	unit, err := r.word(endsWord)
	if err != nil {
		return nil, err
	}
	if missing || r.rest != "" {
		return nil, r.errorf("%s is not a kind and a unit; begin with a line such as %q", first, "cpu ns")
	}
	p.Kind, p.Unit = Kind(kind), Unit(unit)

	ids := map[Frame]FrameID{} // without the zero frame: a frame of which nothing is known is a frame
	for r.next() {
		if name, number, ok := r.header(); ok {
			err = p.parseHeader(r, name, number)
		} else {
			err = p.parseSample(r, ids)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Profile) parseHeader(r *textReader, name string, number int) error {
	if name == "task" {
		if err := r.numbered(name, number, len(p.Tasks)); err != nil {
			return err
		}
		t, err := r.task()
		p.Tasks = append(p.Tasks, t)
		return err
	}
	if err := r.plain(name, number); err != nil {
		return err
	}
	switch name {
	case "source":
		word, err := r.value(name)
		p.Source = Unit(word)
		return err
	case "start", "length":
		return r.when(name, &p.Start, &p.Length)
	case "warning":
		w, err := r.warning()
		p.Warnings = append(p.Warnings, w)
		return err
	}
	return r.errorf("unknown line %q; the lines of a profile are source, start, length, task, warning and samples, and a function that ends in a colon is quoted", name+":")
}

func (p *Profile) parseSample(r *textReader, ids map[Frame]FrameID) error {
	var stack StackID
	if rest, ok := strings.CutPrefix(r.rest, "-"); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
		r.rest = rest
		return r.sample(&p.Samples, 0, len(p.Tasks))
	}
	for {
		f, err := r.frame()
		if err != nil {
			return err
		}
		id, ok := ids[f]
		if !ok {
			id = FrameID(len(p.Frames))
			p.Frames = append(p.Frames, f)
			ids[f] = id
		}
		stack = p.Stacks.Intern(stack, id)
		rest, more := strings.CutPrefix(r.rest, ";")
		if !more {
			return r.sample(&p.Samples, stack, len(p.Tasks))
		}
		r.rest = rest
	}
}
