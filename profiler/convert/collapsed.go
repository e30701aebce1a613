package convert

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// collapsed is the text of Brendan Gregg's stackcollapse programs and flamegraph.pl: a line is a
// stack, root first, its frames between semicolons, then a blank and a number. The lines of
// difffolded.pl have two, before and after. A frame that ends in _[k] is of the kernel, _[i] inlined,
// _[j] made at run time (stackcollapse-perf.pl --all).
//
// A frame is written by its full name, Module!Func; the form has no better place for a module. When
// reading, what comes before the first `!` is a module where it can be one.
var collapsed = &format{
	Info: Info{
		Format:      Collapsed,
		Description: "stacks as lines of text, as for flamegraph.pl",
		Extension:   ".txt",
	},
	sniff: sniffCollapsed,
	read:  readCollapsed,
	write: writeCollapsed,
}

const jit = "[JIT]"

// number splits the number from the end of a line. The blank before it must be there.
func lastNumber(line []byte) (rest []byte, v float64, ok bool) {
	line = bytes.TrimRight(line, " \t")
	i := bytes.LastIndexAny(line, " \t")
	if i < 0 || i+1 == len(line) {
		return nil, 0, false
	}
	for _, c := range line[i+1:] { // not "inf", not "0x10", not "1_000"
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return nil, 0, false
		}
	}
	v, err := strconv.ParseFloat(string(line[i+1:]), 64)
	return line[:i], v, err == nil
}

// countLines looks at the complete lines of head: how many are stacks with a number, how many with
// two, how many are neither, and whether any has two frames.
func countLines(head []byte) (one, two, bad int, deep bool) {
	whole := len(head) < sniffLen
	for len(head) > 0 {
		line, rest, found := bytes.Cut(head, []byte("\n"))
		if !found && !whole && one+bad > 0 {
			break
		}
		head = rest
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		stack, _, ok := lastNumber(line)
		if !ok {
			bad++
			continue
		}
		one++
		deep = deep || bytes.IndexByte(stack, ';') >= 0
		if _, _, ok := lastNumber(stack); ok {
			two++
		}
	}
	return one, two, bad, deep
}

// sniffCollapsed says yes where most lines end in a number, and where one at least has two frames or
// all do.
func sniffCollapsed(head []byte) bool {
	if h := bytes.TrimLeft(head, " \t\r\n"); len(h) == 0 || h[0] == '{' || h[0] == '<' {
		return false
	}
	if len(head) == sniffLen && bytes.IndexByte(head, '\n') < 0 {
		// A single stack, deeper than can be seen.
		return bytes.Count(head, []byte(";")) > sniffLen>>10 && bytes.IndexByte(head, 0) < 0
	}
	one, _, bad, deep := countLines(head)
	return one > 0 && (deep && one >= bad || bad == 0)
}

func readCollapsed(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	b := newBuilder(in, "collapsed stacks", o)
	one, two, _, _ := countLines(in.head)
	var before, after *track
	if one > 0 && one == two {
		after = b.series("after", profile.None, "", 0)
		before = b.series("before", profile.None, "", 0)
	} else {
		after = b.series("samples", profile.None, "", 0)
	}
	lines := in.lines()
	for lines.next() && b.err == nil {
		line := lines.line
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		stack, v, ok := lastNumber(line)
		var old float64
		if ok && before != nil {
			stack, old, ok = lastNumber(stack)
		}
		if !ok || lines.long {
			b.skip(1, "Lines that are no stack and number were left out.")
			continue
		}
		id := b.collapsedStack(stack)
		if before == nil || v != 0 {
			after.value(profile.Sample{Stack: id, Count: countOf(v)}, v, 1)
		}
		if before != nil && old != 0 {
			before.value(profile.Sample{Stack: id, Count: countOf(old)}, old, 1)
		}
	}
	if err := lines.error(); err != nil {
		return nil, err
	}
	if lines.cut {
		b.cut()
	}
	if len(after.at) == 0 && (before == nil || len(before.at) == 0) {
		return nil, errors.New("it has no line that is a stack, a blank and a number")
	}
	return b.finish()
}

// countOf is the number of events that a weight without a unit stands for: itself where it can be
// one.
func countOf(v float64) int64 {
	if v == float64(int64(v)) && v > 0 && v < 1<<53 {
		return int64(v)
	}
	return 1
}

func (b *builder) collapsedStack(stack []byte) profile.StackID {
	at := profile.StackID(0)
	if len(stack) == 0 {
		return at
	}
	for name := range bytes.SplitSeq(stack, []byte(";")) {
		at = b.push(at, b.location(collapsedFrame(string(name))))
	}
	return at
}

func collapsedFrame(name string) profile.Frame {
	if n := len(name) - len("_[k]"); n > 0 && name[n:n+2] == "_[" && name[n+3] == ']' {
		switch name[n+2] {
		case 'k':
			return profile.Frame{Func: name[:n], Module: profile.Kernel}
		case 'j':
			return profile.Frame{Func: name[:n], Module: jit}
		case 'i':
			f := splitModule(name[:n])
			f.Inlined = true
			return f
		}
	}
	return splitModule(name)
}

// collapsedName is a frame's full name, as in the stack views; one without a name is unknown.
func collapsedName(f *profile.Frame) string {
	named := *f
	if named.Func == "" {
		named.Func = profile.Unknown
	}
	return fullName(named)
}

// collapsedSafe keeps a name within its place in the line, as stackcollapse-perf.pl does with
// semicolons.
var collapsedSafe = strings.NewReplacer(";", ":", "\n", " ", "\r", " ")

func writeCollapsed(w io.Writer, e Export) error {
	p := e.Profile
	names := make([]string, len(p.Frames))
	for i := range p.Frames {
		f := &p.Frames[i]
		switch {
		case f.Module == profile.Kernel:
			names[i] = collapsedSafe.Replace(f.Func) + "_[k]"
		case f.Module == jit:
			names[i] = collapsedSafe.Replace(f.Func) + "_[j]"
		case f.Inlined:
			names[i] = collapsedSafe.Replace(collapsedName(f)) + "_[i]"
		default:
			names[i] = collapsedSafe.Replace(collapsedName(f))
		}
	}
	out := bufio.NewWriter(w)
	var buf []profile.FrameID
	for _, s := range sumStacks(p) {
		buf = p.Stacks.RootFirst(s.stack, buf)
		for i, f := range buf {
			if i > 0 {
				out.WriteByte(';')
			}
			out.WriteString(names[f])
		}
		out.WriteByte(' ')
		out.WriteString(plainWeight(s.Weight, p.Unit, 0))
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return out.Flush()
}
