package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// PerfView's stack files: `.perfView.xml` and `.perfView.json`, bare or as the one entry of a zip. The
// layout is what XmlStackSource of microsoft/perfview reads and writes
// (src/PerfView/OtherSources/XMLStackSource.cs), and StackWindowGuiState for the filters
// (src/PerfView/Extensibility.cs).
//
// The format has neither units, nor threads, nor lines. Ours are in attributes and elements that
// PerfView passes over, see perfviewwrite.go.
//
// What is rounded: a metric is read exactly to six digits behind the point, and rounded to the nearest
// beyond; so is a time, to the nanosecond. Without a unit a metric is taken as milliseconds, as
// PerfView does, unless the saved view scales to data: then it is an amount without a unit.

const (
	// perfViewTime and perfViewAmount are the kinds of files that do not say what they measure.
	perfViewTime   profile.Kind = "time"
	perfViewAmount profile.Kind = "metric"

	// metricDigits is how many digits behind the point of a metric are kept.
	metricDigits = 6
)

var perfview = &format{
	Info: Info{
		Format:      PerfView,
		Description: "stacks of PerfView, XML or JSON, plain or zipped, with the filters of the view",
		Extension:   ".perfView.xml",
	},
	sniff: sniffPerfView,
	read:  readPerfView,
	write: writePerfView,
}

func sniffPerfView(head []byte) bool {
	if utf16Order(head) != nil {
		head = bytes.ReplaceAll(head, []byte{0}, nil)
	}
	head = bytes.TrimLeft(head, " \t\r\n")
	switch {
	case bytes.HasPrefix(head, []byte("<")):
		return bytes.Contains(head, []byte("<StackWindow")) || bytes.Contains(head, []byte("<StackSource"))
	case bytes.HasPrefix(head, []byte("{")):
		_, after, ok := bytes.Cut(head, []byte(`"StackSource"`))
		after, colon := bytes.CutPrefix(bytes.TrimLeft(after, " \t\r\n"), []byte(":"))
		return ok && colon && bytes.HasPrefix(bytes.TrimLeft(after, " \t\r\n"), []byte("{"))
	}
	return false
}

// utf16Order is the byte order of a text in UTF-16 that begins with < or { and has no byte order mark;
// nil for any other.
func utf16Order(head []byte) binary.ByteOrder {
	if len(head) < 4 {
		return nil
	}
	switch first := string(head[:2]); {
	case (first == "<\x00" || first == "{\x00") && head[3] == 0:
		return binary.LittleEndian
	case (first == "\x00<" || first == "\x00{") && head[2] == 0:
		return binary.BigEndian
	}
	return nil
}

func readPerfView(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	r, err := xmlEncoding(in)
	if err != nil {
		return nil, err
	}
	head := in.head
	if utf16Order(head) != nil {
		head = bytes.ReplaceAll(head, []byte{0}, nil)
	}
	p := &perfView{b: newBuilder(in, "perfview", o), digits: metricDigits, metric: 1e6}
	if bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		err = p.readJSON(r)
	} else {
		err = p.readXML(newXMLScanner(r))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w; stacks stand apart from samples in it, so a part of it is of no use", err)
	}
	if err != nil {
		return nil, err
	}
	if o.Filter != nil {
		*o.Filter = p.filter
	}
	c, err := p.finish()
	return ofKind(c, o.Kind, err)
}

// ofKind refuses a capture whose only series is not of the kind that is asked for.
func ofKind(c *profile.Capture, kind profile.Kind, err error) (*profile.Capture, error) {
	if err == nil && kind != "" && kind != c.Series[0].Kind {
		return nil, fmt.Errorf("it holds no samples of kind %s, but of kind %s", kind, c.Series[0].Kind)
	}
	return c, err
}

// perfView is a stack file while it is read. Its tables come in any order, so stacks are made when all
// are known.
type perfView struct {
	b       *builder
	filter  Filter
	amount  bool // the saved view scales to data
	digits  int  // how many of a metric, behind the point, its weight keeps
	series  profile.Series
	said    bool                          // the file says the series' unit
	names   map[string]profile.LocationID // of frames by name alone
	frames  idTable                       // → index into of
	of      []perfViewFrame
	stacks  idTable // → index into tree
	tree    []perfViewStack
	places  idTable // → index into place
	place   []profile.Frame
	tasks   idTable // → TaskID
	samples []perfViewSample
	length  time.Duration
	metric  int64 // weight of a sample that does not name one
}

type perfViewFrame struct {
	name   string
	module string // where split is not what made it
	fixed  bool   // module is set
}

type perfViewStack struct {
	caller, frame, place, task int64

	state uint8           // of resolving: 0 not begun, 1 on the way, 2 done
	id    profile.StackID // when done
	under profile.TaskID  // of the nearest stack that begins a task's stacks
}

type perfViewSample struct {
	time   time.Duration
	weight int64
	count  int64
	stack  int64           // by the file's id; -1 for none
	own    profile.StackID // where the sample brought its frames itself, or 0
}

const perfViewRefused = "Samples whose time or metric is no number, or too great, were left out."

// An idTable maps the ids of a file, mostly dense, to indexes.
type idTable struct {
	dense  []int32 // index + 1; 0 for none
	sparse map[int64]int32
	n      int
}

func (t *idTable) set(id int64, index int) {
	t.n++
	if id >= 0 && id < int64(4*t.n+1024) {
		for int64(len(t.dense)) <= id {
			t.dense = append(t.dense, 0)
		}
		t.dense[id] = int32(index + 1)
		delete(t.sparse, id)
		return
	}
	if t.sparse == nil {
		t.sparse = map[int64]int32{}
	}
	t.sparse[id] = int32(index)
}

func (t *idTable) at(id int64) (int, bool) {
	if i, ok := t.sparse[id]; ok {
		return int(i), true
	}
	if id >= 0 && id < int64(len(t.dense)) && t.dense[id] > 0 {
		return int(t.dense[id] - 1), true
	}
	return 0, false
}

// splitName is the frame of a PerfView name: module and method, split at the first `!`. It splits only
// where fullName gives the very name back.
func splitName(name string) profile.Frame {
	module, method, ok := strings.Cut(name, "!")
	if !ok {
		return profile.Frame{Func: name}
	}
	switch module {
	case "kernel", "vdso":
		module = "[" + module + "]"
	}
	if f := (profile.Frame{Module: module, Func: method}); method != "" && fullName(f) == name {
		return f
	}
	return profile.Frame{Func: name}
}

// fullName is a frame's name in stack views: `module!function`, the function alone without a module.
func fullName(f profile.Frame) string {
	switch f.Module {
	case "":
		return f.Func
	case "[kernel]":
		return "kernel!" + f.Func
	case "[vdso]":
		return "vdso!" + f.Func
	}
	return f.Module + "!" + f.Func
}

// location interns the frame of a name that comes without a table.
func (p *perfView) location(name []byte) profile.LocationID {
	l, ok := p.names[string(name)]
	if !ok {
		if p.names == nil {
			p.names = map[string]profile.LocationID{}
		}
		l = p.b.location(splitName(string(name)))
		p.names[string(name)] = l
	}
	return l
}

// readXML reads the whole document. Elements that it does not know are passed over with all they
// contain, but for StackWindow and the like, which may wrap what it knows.
func (p *perfView) readXML(s *xmlScanner) error {
	found := false
	for {
		event, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if event != xmlStart {
			continue
		}
		switch string(s.name) {
		case "StackSource":
			if found { // PerfView reads only the first
				err = s.skip()
			} else {
				found = true
				err = p.stackSource(s)
			}
		case "StackWindowGuiState":
			err = p.guiState(s)
		}
		if err != nil {
			return err
		}
	}
	if !found {
		return errors.New("it has no <StackSource>")
	}
	return nil
}

// skip passes over the element that began.
func (s *xmlScanner) skip() error {
	for depth := 1; depth > 0; {
		switch event, err := s.next(); {
		case err != nil:
			return err
		case event == xmlStart:
			depth++
		case event == xmlEnd:
			depth--
		}
	}
	return nil
}

// body is the text of the element that began, with that of elements within.
func (s *xmlScanner) body(buf []byte) ([]byte, error) {
	buf = buf[:0]
	for depth := 1; depth > 0; {
		switch event, err := s.next(); {
		case err != nil:
			return nil, err
		case event == xmlStart:
			depth++
		case event == xmlEnd:
			depth--
		default:
			if buf = append(buf, s.text...); len(buf) > maxXMLText {
				return nil, s.errorf("a text is longer than %d bytes", maxXMLText)
			}
		}
	}
	return buf, nil
}

func (p *perfView) stackSource(s *xmlScanner) error {
	if err := p.header(s); err != nil {
		return err
	}
	var text []byte
	for depth := 1; depth > 0; {
		if p.b.err != nil {
			return p.b.err
		}
		event, err := s.next()
		if err != nil {
			return err
		}
		switch event {
		case xmlEnd:
			depth--
			continue
		case xmlText:
			continue
		}
		switch string(s.name) {
		case "Frames", "Stacks", "Samples", "Tasks", "Places":
			depth++ // Count is a hint that nothing needs
		case "Frame":
			text, err = p.frame(s, text)
		case "Stack":
			err = p.stack(s)
		case "Sample":
			text, err = p.sample(s, text)
		case "Place":
			err = p.addPlace(s)
		case "Task":
			err = p.addTask(s)
		default:
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// header reads the attributes of StackSource that we write.
func (p *perfView) header(s *xmlScanner) error {
	p.series.Kind = profile.Kind(s.attr("Kind"))
	if unit := profile.Unit(s.attr("Unit")); unit != "" {
		digits, ok := unitDigits(unit)
		if !ok {
			return s.errorf("its unit is %.40q, which is none of ours", unit)
		}
		p.series.Unit, p.series.Source, p.said = unit, profile.Unit(s.attr("Source")), true
		switch p.series.Source {
		case "", profile.Microseconds, profile.Milliseconds, profile.Seconds, profile.None:
		default:
			return s.errorf("its unit's source is %.40q, which is none of ours", p.series.Source)
		}
		p.digits = digits
	}
	p.metric, _ = decimal([]byte("1"), p.digits)
	if v := s.attr("Start"); v != nil {
		t, err := time.Parse(time.RFC3339Nano, string(v))
		if err != nil {
			return s.errorf("its start is %.40q; want a time as of RFC 3339", v)
		}
		p.b.c.Start = t
	}
	if v := s.attr("Length"); v != nil {
		d, err := decimal(v, metricDigits)
		if err != nil || d < 0 || d > int64(maxTime) {
			return s.errorf("its length is %.40q; want milliseconds", v)
		}
		p.length = time.Duration(d)
	}
	return nil
}

// unitDigits is how many digits behind the point a metric has in a weight's unit: times are written in
// milliseconds.
func unitDigits(u profile.Unit) (int, bool) {
	switch u {
	case profile.Nanoseconds, profile.Millionths:
		return metricDigits, true
	case profile.Bytes, profile.Cycles, profile.Number:
		return 0, true
	}
	return 0, false
}

func (s *xmlScanner) int(name string, missing int64) (int64, error) {
	v := s.attr(name)
	if v == nil {
		return missing, nil
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
	if err != nil {
		return 0, s.errorf("%s of <%s> is %.40q; want a whole number", name, s.name, v)
	}
	return n, nil
}

// ints reads several attributes, -1 where they are missing.
func (s *xmlScanner) ints(into map[string]*int64) error {
	for name, to := range into {
		n, err := s.int(name, -1)
		if err != nil {
			return err
		}
		*to = n
	}
	return nil
}

func (p *perfView) frame(s *xmlScanner, buf []byte) ([]byte, error) {
	id, err := s.int("ID", -1)
	if err != nil {
		return buf, err
	}
	var f perfViewFrame
	if m := s.attr("Module"); m != nil {
		f.module, f.fixed = string(m), true
	}
	quoted := string(s.attr("Quoted"))
	if buf, err = s.body(buf); err != nil {
		return buf, err
	}
	f.name = string(buf)
	if quoted != "" {
		if f.name, err = strconv.Unquote(quoted); err != nil {
			return buf, s.errorf("Quoted of frame %d is no quoted string", id)
		}
	}
	if id >= 0 { // PerfView can name no other
		p.frames.set(id, len(p.of))
		p.of = append(p.of, f)
	}
	return buf, nil
}

func (p *perfView) stack(s *xmlScanner) error {
	id, err := s.int("ID", -1)
	if err != nil {
		return err
	}
	var x perfViewStack
	for _, a := range [...]struct {
		name string
		to   *int64
	}{{"CallerID", &x.caller}, {"FrameID", &x.frame}, {"Place", &x.place}, {"Task", &x.task}} {
		if *a.to, err = s.int(a.name, -1); err != nil {
			return err
		}
	}
	if id >= 0 {
		p.stacks.set(id, len(p.tree))
		p.tree = append(p.tree, x)
	}
	return s.skip()
}

// unquoted is an attribute whose text is in Quoted where XML cannot hold it.
func (s *xmlScanner) unquoted(name string) (string, error) {
	q := s.attr("Quoted")
	if q == nil {
		return string(s.attr(name)), nil
	}
	text, err := strconv.Unquote(string(q))
	if err != nil {
		return "", s.errorf("Quoted of <%s> is no quoted string", s.name)
	}
	return text, nil
}

// bound makes a line or a process of a number: not below 0, below 2³¹.
func bound(n int64) int { return int(max(0, min(n, math.MaxInt32))) }

func (p *perfView) addPlace(s *xmlScanner) error {
	var id, line, column, start int64
	if err := s.ints(map[string]*int64{"ID": &id, "Line": &line, "Column": &column, "StartLine": &start}); err != nil {
		return err
	}
	file, err := s.unquoted("File")
	if err != nil {
		return err
	}
	p.places.set(id, len(p.place))
	p.place = append(p.place, profile.Frame{
		File: file, Line: bound(line), Column: bound(column), StartLine: bound(start),
		Inlined: s.attr("Inlined") != nil, Entry: s.attr("Entry") != nil,
	})
	return s.skip()
}

func (p *perfView) addTask(s *xmlScanner) error {
	var id, pid, tid, parent int64
	if err := s.ints(map[string]*int64{"ID": &id, "PID": &pid, "TID": &tid, "Parent": &parent}); err != nil {
		return err
	}
	comm, err := s.unquoted("Comm")
	if err != nil {
		return err
	}
	p.tasks.set(id, int(p.b.task(profile.Task{PID: bound(pid), TID: bound(tid), Parent: bound(parent), Comm: comm})))
	return s.skip()
}

func (p *perfView) sample(s *xmlScanner, buf []byte) ([]byte, error) {
	stack, err := s.int("StackID", -1)
	if err != nil {
		return buf, err
	}
	count, err := s.int("Count", 1)
	if err != nil {
		return buf, err
	}
	x := perfViewSample{weight: p.metric, count: count, stack: stack}
	ok, err := p.measure(&x, s.attr("Time"), s.attr("Metric"))
	if err != nil {
		return buf, s.errorf("%w", err)
	}
	if buf, err = s.body(buf); err != nil || !ok {
		return buf, err
	}
	if text := bytes.TrimSpace(buf); len(text) > 0 {
		x.stack = -1
		for len(text) > 0 { // leaf first
			i := bytes.LastIndexByte(text, '\n')
			if name := bytes.TrimSpace(text[i+1:]); len(name) > 0 {
				x.own = p.b.push(x.own, p.location(name))
			}
			text = text[:max(i, 0)]
		}
	}
	p.samples = append(p.samples, x)
	return buf, nil
}

// measure reads time and metric, where they are given. It is not ok where one is a number that cannot
// be used, which is counted.
func (p *perfView) measure(x *perfViewSample, at, metric []byte) (ok bool, err error) {
	var ns int64
	for _, a := range [...]struct {
		name   string
		value  []byte
		digits int
		to     *int64
	}{{"time", at, metricDigits, &ns}, {"metric", metric, p.digits, &x.weight}} {
		if a.value == nil {
			continue
		}
		switch *a.to, err = decimal(a.value, a.digits); err {
		case nil:
		case errRange:
			p.b.skip(1, perfViewRefused)
			return false, nil
		default:
			return false, fmt.Errorf("the %s of a sample is %.40q; want a number", a.name, a.value)
		}
	}
	x.time = time.Duration(ns)
	return true, nil
}

var errRange = errors.New("it is no number that can be kept")

// decimal reads a decimal number as a multiple of 10^-digits, rounded to the nearest where it has more.
// It fails with errRange for what is too great, infinite or no number, and otherwise where it is
// malformed.
func decimal(b []byte, digits int) (int64, error) {
	b = bytes.TrimSpace(b)
	t, negative := bytes.CutPrefix(b, []byte("-"))
	if !negative {
		t, _ = bytes.CutPrefix(b, []byte("+"))
	}
	whole, part, _ := bytes.Cut(t, []byte("."))
	if len(whole)+len(part) == 0 || !isDigits(whole) || !isDigits(part) {
		return inexact(b, digits) // an exponent, Infinity, NaN
	}
	up := len(part) > digits && part[digits] >= '5'
	part = part[:min(len(part), digits)]
	var n int64
	add := func(c byte) {
		if n >= 0 {
			if n > (math.MaxInt64-9)/10 {
				n = -1
				return
			}
			n = 10*n + int64(c-'0')
		}
	}
	for _, c := range whole {
		add(c)
	}
	for _, c := range part {
		add(c)
	}
	for range digits - len(part) {
		add('0')
	}
	if n < 0 {
		return 0, errRange
	}
	if up {
		n++
	}
	if negative {
		n = -n
	}
	return n, nil
}

func isDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func inexact(b []byte, digits int) (int64, error) {
	v, err := strconv.ParseFloat(string(b), 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, fmt.Errorf("%.40q is no number", b)
	}
	v *= math.Pow10(digits)
	if err != nil || !(math.Abs(v) < 1<<62) {
		return 0, errRange
	}
	return int64(math.Round(v)), nil
}
