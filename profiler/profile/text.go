package profile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// This file spells what the two text forms share: frames, words, header lines, samples. The
// grammars stand at [Profile.AppendText] and [Capture.AppendText].

// joinCommand quotes the words of a command that a reader could not tell apart.
func joinCommand(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\") {
			w = strconv.Quote(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// The characters that end an unquoted component, besides blanks.
const (
	endsName = ";@!|" // of a module or a function
	endsFile = ";|:"  // of a file: module caches have '@' and '!' in paths
	endsWord = ""     // of a value in a header line
	endsMark = ";|"   // of a mark
)

// bare reports whether s may be written without quotes where a component ends at any character of
// ends. Blanks are allowed only between brackets at the beginning, as in "[broken stack]".
func bare(s, ends string) bool {
	if s == "" || s == "-" || s[0] == '#' || s[len(s)-1] == ':' {
		return false
	}
	bracket := -1
	if s[0] == '[' {
		bracket = strings.IndexByte(s, ']')
	}
	for i, r := range s {
		switch {
		case r == '"' || r == '\\' || r == utf8.RuneError || !unicode.IsPrint(r):
			return false
		case r == ' ' && i > bracket:
			return false
		case strings.ContainsRune(ends, r):
			return false
		}
	}
	return true
}

func appendWord(b []byte, s, ends string) []byte {
	if bare(s, ends) {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}

func appendFrame(b []byte, f Frame) []byte {
	if f == (Frame{}) {
		return append(b, `""`...)
	}
	if f.Module != "" {
		b = appendWord(b, f.Module, endsName)
		b = append(b, '!')
	}
	if f.Func != "" {
		b = appendWord(b, f.Func, endsName)
	}
	if f.File != "" || f.Line != 0 || f.Column != 0 {
		b = append(b, '@')
		if f.File != "" {
			b = appendWord(b, f.File, endsFile)
		}
		if f.Line != 0 || f.Column != 0 {
			b = append(b, ':')
			b = strconv.AppendInt(b, int64(f.Line), 10)
		}
		if f.Column != 0 {
			b = append(b, ':')
			b = strconv.AppendInt(b, int64(f.Column), 10)
		}
	}
	if f.StartLine != 0 {
		b = append(b, "|start="...)
		b = strconv.AppendInt(b, int64(f.StartLine), 10)
	}
	if f.Inlined {
		b = append(b, "|inlined"...)
	}
	if f.Entry {
		b = append(b, "|entry"...)
	}
	return b
}

// appendSample adds a sample's part after its stack.
func appendSample(b []byte, x Sample) []byte {
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.Weight, 10)
	if x.Count != 1 {
		b = appendIntField(b, "count", x.Count)
	}
	if x.Time != 0 {
		b = append(b, " time="...)
		b = append(b, x.Time.String()...)
	}
	if x.Task != 0 {
		b = appendIntField(b, "task", int64(x.Task))
	}
	return append(b, '\n')
}

func appendField(b []byte, key, value string) []byte {
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	return appendWord(b, value, endsWord)
}

func appendIntField(b []byte, key string, value int64) []byte {
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	return strconv.AppendInt(b, value, 10)
}

// The optional forms leave a zero value out.
func appendIf(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(b, key, value)
}

func appendIntIf(b []byte, key string, value int64) []byte {
	if value == 0 {
		return b
	}
	return appendIntField(b, key, value)
}

func appendFlag(b []byte, flag string, set bool) []byte {
	if !set {
		return b
	}
	b = append(b, ' ')
	return append(b, flag...)
}

// appendWhen adds the lines that say when the recording was.
func appendWhen(b []byte, start time.Time, length time.Duration) []byte {
	if !start.IsZero() {
		b = append(b, "start: "...)
		if y := start.UTC().Year(); y < 0 || y > 9999 { // RFC 3339 has four digits
			b = fmt.Appendf(b, "unix:%d:%d", start.Unix(), start.Nanosecond())
		} else {
			b = start.UTC().AppendFormat(b, time.RFC3339Nano)
		}
		b = append(b, '\n')
	}
	if length != 0 {
		b = fmt.Appendf(b, "length: %s\n", length)
	}
	return b
}

func appendTasks(b []byte, tasks []Task) []byte {
	for id := 1; id < len(tasks); id++ {
		t := tasks[id]
		b = fmt.Appendf(b, "task %d:", id)
		b = appendIntIf(b, "pid", int64(t.PID))
		b = appendIntIf(b, "tid", int64(t.TID))
		b = appendIntIf(b, "parent", int64(t.Parent))
		b = appendIf(b, "comm", t.Comm)
		b = append(b, '\n')
	}
	return b
}

func appendWarnings(b []byte, warnings []Warning) []byte {
	for _, w := range warnings {
		b = append(b, "warning:"...)
		b = appendIf(b, "kind", string(w.Kind))
		b = appendIntIf(b, "count", w.Count)
		b = appendIf(b, "text", w.Text)
		b = append(b, '\n')
	}
	return b
}

// A textReader goes through the lines of a text and through the parts of the present line.
type textReader struct {
	what string // "profile text", for messages
	text string // after the present line
	line int    // number of the present line
	rest string // of the present line
	seen map[string]bool
}

func newTextReader(what string, text []byte) *textReader {
	return &textReader{what: what, text: string(text), seen: map[string]bool{}}
}

func (r *textReader) errorf(format string, args ...any) error {
	return fmt.Errorf("%s, line %d: %s", r.what, r.line, fmt.Sprintf(format, args...))
}

// next goes to the next line that is neither empty nor a comment.
func (r *textReader) next() bool {
	for r.text != "" {
		r.rest, r.text, _ = strings.Cut(r.text, "\n")
		r.rest = strings.Trim(r.rest, " \t\r")
		r.line++
		if r.rest != "" && r.rest[0] != '#' {
			return true
		}
	}
	r.line++ // a message about what is missing names the line where it would stand
	return false
}

// header takes the present line's name, and its number where it has one, if it is a header line.
// number is -1 where there is none.
func (r *textReader) header() (name string, number int, ok bool) {
	i := 0
	for i < len(r.rest) && 'a' <= r.rest[i] && r.rest[i] <= 'z' {
		i++
	}
	name, after, number := r.rest[:i], r.rest[i:], -1
	if strings.HasPrefix(after, " ") {
		digits, _, _ := strings.Cut(after[1:], ":")
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return "", -1, false
		}
		number, after = int(n), after[1+len(digits):]
	}
	if i == 0 || !strings.HasPrefix(after, ":") || len(after) > 1 && after[1] != ' ' && after[1] != '\t' {
		return "", -1, false
	}
	r.rest = after[1:]
	r.blanks()
	return name, number, true
}

// once refuses a second header line of a name.
func (r *textReader) once(name string) error {
	if r.seen[name] {
		return r.errorf("a second line %q; remove one", name+":")
	}
	r.seen[name] = true
	return nil
}

// numbered refuses a header line that is not the next entry of its table.
func (r *textReader) numbered(name string, number, next int) error {
	if number != next {
		return r.errorf("expected %q; number the %ss 1, 2, 3 without gaps", fmt.Sprintf("%s %d:", name, next), name)
	}
	return nil
}

// plain refuses a number in a header line that has none.
func (r *textReader) plain(name string, number int) error {
	if number >= 0 {
		return r.errorf(`%q has no number; write "%s:"`, fmt.Sprintf("%s %d:", name, number), name)
	}
	return nil
}

func (r *textReader) blanks() { r.rest = strings.TrimLeft(r.rest, " \t") }

// word takes a quoted word, or what comes before a blank or a character of ends.
func (r *textReader) word(ends string) (string, error) {
	s := r.rest
	if strings.HasPrefix(s, `"`) {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", r.errorf("%s is not a quoted string; close the quote and escape as Go does, or write the name without quotes", shorten(s))
		}
		r.rest = s[len(q):]
		w, err := strconv.Unquote(q)
		if err != nil {
			return "", r.errorf("%s is not a quoted string; escape as Go does", shorten(q))
		}
		return w, nil
	}
	i := 0
	if strings.HasPrefix(s, "[") {
		if k := strings.IndexAny(s, "]\""+ends); k > 0 && s[k] == ']' {
			i = k
		}
	}
	if k := strings.IndexAny(s[i:], " \t"+ends); k >= 0 {
		i += k
	} else {
		i = len(s)
	}
	r.rest = s[i:]
	return s[:i], nil
}

func shorten(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// field takes the next "key=value" or "flag" of a header line or a sample; ok is false at the end.
func (r *textReader) field() (key, value string, ok bool, err error) {
	r.blanks()
	if r.rest == "" {
		return "", "", false, nil
	}
	i := 0
	for i < len(r.rest) && 'a' <= r.rest[i] && r.rest[i] <= 'z' {
		i++
	}
	key, r.rest = r.rest[:i], r.rest[i:]
	switch {
	case i == 0:
		return "", "", false, r.errorf("unexpected %s; write fields as key=value", shorten(r.rest))
	case strings.HasPrefix(r.rest, "="):
		r.rest = r.rest[1:]
		if value, err = r.word(endsWord); err != nil {
			return "", "", false, err
		}
	}
	if r.rest != "" && r.rest[0] != ' ' && r.rest[0] != '\t' {
		return "", "", false, r.errorf("unexpected %s after %s; put a blank between fields", shorten(r.rest), key)
	}
	return key, value, true, nil
}

// fields takes all fields of a line. set stores one and reports whether it knows the key.
func (r *textReader) fields(keys string, set func(key, value string) (known bool, err error)) error {
	for {
		key, value, ok, err := r.field()
		if err != nil || !ok {
			return err
		}
		known, err := set(key, value)
		if err != nil {
			return err
		}
		if !known {
			return r.errorf("unknown field %q; the fields here are %s", key, keys)
		}
	}
}

// value takes a line's only word.
func (r *textReader) value(name string) (string, error) {
	w, err := r.word(endsWord)
	if err != nil {
		return "", err
	}
	r.blanks()
	if r.rest != "" {
		return "", r.errorf("unexpected %s after %q; quote a value that has blanks", shorten(r.rest), name+":")
	}
	return w, nil
}

func (r *textReader) int(key, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, r.errorf("%s %s is not a whole number of 64 bits; write digits only", key, shorten(value))
	}
	return n, nil
}

func (r *textReader) duration(key, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, r.errorf("%s %s is not a duration; write a number and a unit, as in 1.5ms", key, shorten(value))
	}
	return d, nil
}

// id reads an entry of a table that has the entries below n.
func (r *textReader) id(table, value string, n int) (int, error) {
	id, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0, r.errorf("%s %s is not the number of an entry; write digits only", table, shorten(value))
	}
	if id >= uint64(n) {
		return 0, r.errorf(`%s %d is not declared; put its line "%s %d: …" before this one`, table, id, table, id)
	}
	return int(id), nil
}

// when reads the value of "start:" or "length:".
func (r *textReader) when(name string, start *time.Time, length *time.Duration) error {
	if err := r.once(name); err != nil {
		return err
	}
	value, err := r.value(name)
	if err != nil {
		return err
	}
	if name == "length" {
		*length, err = r.duration(name, value)
		return err
	}
	if unix, ok := strings.CutPrefix(value, "unix:"); ok {
		seconds, nanoseconds, _ := strings.Cut(unix, ":")
		s, err1 := strconv.ParseInt(seconds, 10, 64)
		ns, err2 := strconv.ParseUint(nanoseconds, 10, 30)
		if err1 == nil && err2 == nil {
			*start = time.Unix(s, int64(ns)).UTC()
			return nil
		}
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return r.errorf("start %s is not a time; write it as 2026-01-31T15:04:05.123Z", shorten(value))
	}
	*start = t.UTC()
	return nil
}

func (r *textReader) task() (t Task, err error) {
	err = r.fields("pid, tid, parent and comm", func(key, value string) (bool, error) {
		var err error
		switch key {
		case "pid":
			t.PID, err = r.int(key, value)
		case "tid":
			t.TID, err = r.int(key, value)
		case "parent":
			t.Parent, err = r.int(key, value)
		case "comm":
			t.Comm = value
		default:
			return false, nil
		}
		return true, err
	})
	return t, err
}

func (r *textReader) warning() (w Warning, err error) {
	err = r.fields("kind, count and text", func(key, value string) (bool, error) {
		switch key {
		case "kind":
			w.Kind = WarningKind(value)
		case "count":
			n, err := r.int(key, value)
			w.Count = int64(n)
			return true, err
		case "text":
			w.Text = value
		default:
			return false, nil
		}
		return true, nil
	})
	return w, err
}

// sample takes what follows a sample's stack and appends the sample.
func (r *textReader) sample(to *Samples, stack StackID, tasks int) error {
	x := Sample{Stack: stack, Count: 1}
	r.blanks()
	weight, err := r.word(endsWord)
	if err != nil {
		return err
	}
	if x.Weight, err = strconv.ParseInt(weight, 10, 64); err != nil {
		return r.errorf("weight %s is not a whole number of 64 bits; write the stack, a blank and the weight, as in %q", shorten(weight), "main;fib 10")
	}
	err = r.fields("count, time and task", func(key, value string) (bool, error) {
		switch key {
		case "count":
			n, err := r.int(key, value)
			x.Count = int64(n)
			return true, err
		case "time":
			var err error
			x.Time, err = r.duration(key, value)
			return true, err
		case "task":
			id, err := r.id(key, value, tasks)
			x.Task = TaskID(id)
			return true, err
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if n := to.Len(); n > 0 && x.Time < to.Time[n-1] {
		return r.errorf("time %s comes after %s; order the samples by time", x.Time, to.Time[n-1])
	}
	to.Append(x)
	return nil
}

// frame takes a frame.
func (r *textReader) frame() (f Frame, err error) {
	begin := r.rest
	if f.Func, err = r.word(endsName); err != nil {
		return f, err
	}
	if strings.HasPrefix(r.rest, "!") {
		f.Module = f.Func
		r.rest = r.rest[1:]
		if f.Func, err = r.word(endsName); err != nil {
			return f, err
		}
	}
	if strings.HasPrefix(r.rest, "@") {
		r.rest = r.rest[1:]
		if f.File, err = r.word(endsFile); err != nil {
			return f, err
		}
		for _, n := range []*int{&f.Line, &f.Column} {
			if !strings.HasPrefix(r.rest, ":") {
				break
			}
			r.rest = r.rest[1:]
			digits, err := r.word(endsFile)
			if err != nil {
				return f, err
			}
			if *n, err = strconv.Atoi(digits); err != nil {
				return f, r.errorf("line or column %s in %s is not a whole number; write function@file:line:column and quote a file that has a colon", shorten(digits), shorten(begin))
			}
		}
	}
	for strings.HasPrefix(r.rest, "|") {
		r.rest = r.rest[1:]
		mark, err := r.word(endsMark)
		if err != nil {
			return f, err
		}
		start, isStart := strings.CutPrefix(mark, "start=")
		switch {
		case mark == "inlined":
			f.Inlined = true
		case mark == "entry":
			f.Entry = true
		case isStart:
			if f.StartLine, err = strconv.Atoi(start); err != nil {
				return f, r.errorf("start line %s is not a whole number; write digits only", shorten(start))
			}
		default:
			return f, r.errorf("unknown mark %s; the marks are inlined, entry and start=LINE, and a name that has | is quoted", shorten(mark))
		}
	}
	switch {
	case r.rest == "" || strings.IndexByte("; \t", r.rest[0]) >= 0:
	default:
		return f, r.errorf("unexpected %s in a frame; write module!function@file:line:column and quote names with special characters", shorten(r.rest))
	}
	if len(begin) == len(r.rest) {
		return f, r.errorf(`a frame is missing at %s; write "" for a frame of which nothing is known`, shorten(begin))
	}
	return f, nil
}
