package convert

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// svg is a flame graph as a picture of its own: callers below callees, as wide as their total weight,
// ordered by name from the left, with the module's name and the weight where the pointer rests. It has no
// script and asks nothing of elsewhere, so that mail readers and issue trackers show it.
//
// Of a difference a call is as wide as what it grew or shrank by, and its colour and a mark say which; a
// legend does, too. Where some of a caller's callees grew and others shrank, they may be wider than it
// together; then they share its width.
var svg = &format{
	Info: Info{
		Format:      SVG,
		Description: "flame graph as a picture",
		Extension:   ".svg",
	},
	write: writeSVG,
}

// The picture's measures, in pixels.
const (
	svgWidth  = 1200
	svgMargin = 10
	svgRow    = 17
	svgHead   = 52
	svgChar   = 6.6  // a character of the font; see writeSVG
	svgLeast  = 0.25 // narrower calls are not drawn
	svgRows   = 1000 // deeper calls are not drawn
)

// writeSVG lays the graph out and draws it.
func writeSVG(w io.Writer, e Export) error {
	p := e.Profile
	// Frames of one function are one, whatever their line.
	ids := map[string]profile.FrameID{}
	names := []string{""}
	frames := []profile.FrameID{0} // name → a frame that has it
	nameOf := make([]profile.FrameID, len(p.Frames))
	for i := 1; i < len(p.Frames); i++ {
		name := collapsedName(&p.Frames[i])
		id, ok := ids[name]
		if !ok {
			id = profile.FrameID(len(names))
			ids[name] = id
			names = append(names, name)
			frames = append(frames, profile.FrameID(i))
		}
		nameOf[i] = id
	}
	tree := profile.NewStacks[profile.FrameID]()
	parents, leaves := p.Stacks.Columns()
	to := make([]profile.StackID, len(parents))
	for i := 1; i < len(parents); i++ {
		to[i] = tree.Intern(to[parents[i]], nameOf[leaves[i]])
	}
	total := make([]profile.Measure, tree.Len())
	signed := e.Difference
	for i := range p.Samples.Len() {
		x := p.Samples.At(i)
		signed = signed || x.Weight < 0
		total[to[x.Stack]].Add(profile.Measure{Weight: x.Weight, Count: x.Count})
	}
	callers, leaf := tree.Columns()
	children := make([][]profile.StackID, len(callers))
	for i := len(callers) - 1; i > 0; i-- {
		total[callers[i]].Add(total[i])
		if total[i].Weight != 0 {
			children[callers[i]] = append(children[callers[i]], profile.StackID(i))
		}
	}
	all := total[0]
	type box struct {
		stack           profile.StackID
		x, width, scale float64 // scale is the width of a unit of weight
		depth           int
	}
	var boxes []box
	cut, rows := 0, 1
	for open := []box{{0, svgMargin, svgWidth - 2*svgMargin, 0, 0}}; len(open) > 0; {
		b := open[len(open)-1]
		open = open[:len(open)-1]
		boxes = append(boxes, b)
		rows = max(rows, b.depth+1)
		if b.depth+1 == svgRows && len(children[b.stack]) > 0 {
			cut++
			continue
		}
		slices.SortFunc(children[b.stack], func(i, j profile.StackID) int { return strings.Compare(names[leaf[i]], names[leaf[j]]) })
		sum := 0.0
		for _, c := range children[b.stack] {
			sum += math.Abs(float64(total[c].Weight))
		}
		if b.stack == 0 {
			b.scale = b.width / max(1, sum, math.Abs(float64(all.Weight)))
		}
		scale := b.scale
		if scale*sum > b.width {
			scale = b.width / sum
		}
		x := b.x
		for _, c := range children[b.stack] {
			width := scale * math.Abs(float64(total[c].Weight))
			if width >= svgLeast {
				open = append(open, box{c, x, width, scale, b.depth + 1})
			}
			x += width
		}
	}

	out := bufio.NewWriter(w)
	height := svgHead + rows*svgRow + svgMargin
	fmt.Fprintf(out, `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d">
<style>
text { font: 11px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1a1a1a; }
.title { font: 600 16px system-ui, "DejaVu Sans", sans-serif; }
.sub { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #555; }
g:hover rect { stroke: #000; stroke-width: 1; }
rect { stroke: #fff; stroke-width: 0.5; }
</style>
<rect width="%[1]d" height="%[2]d" fill="#fff" stroke="none"/>
`, svgWidth, height)
	title := e.Name
	if title == "" {
		title = "Flame graph"
	}
	fmt.Fprintf(out, "<text class=\"title\" x=\"%d\" y=\"22\">%s</text>\n", svgMargin, svgText(short(title, 140)))
	words := func(weight int64) string {
		if signed && weight > 0 {
			return "+" + weightText(p, weight)
		}
		return weightText(p, weight)
	}
	sub := fmt.Sprintf("%s: %s", p.Kind, words(all.Weight))
	if all.Count != all.Weight && !signed {
		sub += fmt.Sprintf(", %d samples", all.Count)
	}
	switch {
	case len(boxes) == 1 && all.Weight == 0:
		sub += "; nothing to draw"
	case cut > 0:
		sub += fmt.Sprintf("; calls deeper than %d are not drawn", svgRows)
	}
	fmt.Fprintf(out, "<text class=\"sub\" x=\"%d\" y=\"40\">%s</text>\n", svgMargin, svgText(sub))
	if signed {
		for i, sign := range []int64{1, -1} {
			x := svgWidth - svgMargin - 160 + 80*i
			fmt.Fprintf(out, "<rect x=\"%d\" y=\"30\" width=\"12\" height=\"12\" fill=\"%s\"/><text class=\"sub\" x=\"%d\" y=\"40\">%s %s</text>\n",
				x, changeColor(float64(sign)), x+17, changeMark(sign), map[int64]string{1: "grew", -1: "shrank"}[sign])
		}
	}
	most := 0.0 // the widest box's weight, the whole left out
	for _, b := range boxes[1:] {
		most = max(most, math.Abs(float64(total[b.stack].Weight)))
	}
	for _, b := range boxes {
		weight := total[b.stack].Weight
		name, label, fill := "all", "all", "#d8d8d8"
		if b.stack != 0 {
			f := &p.Frames[frames[leaf[b.stack]]]
			name, label, fill = names[leaf[b.stack]], f.Func, flameColor(f)
			if signed {
				label, fill = changeMark(weight)+" "+label, changeColor(float64(weight)/most)
			}
		}
		y := height - svgMargin - (b.depth+1)*svgRow
		cost := words(weight)
		if !signed && all.Weight > 0 {
			cost += fmt.Sprintf(", %.2f%%", 100*float64(weight)/float64(all.Weight))
		}
		fmt.Fprintf(out, `<g><title>%s: %s</title><rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s"/>`,
			svgText(short(name, 2000)), svgText(cost), b.x, y, b.width, svgRow-1, fill)
		if n := int((b.width - 6) / svgChar); n >= 3 {
			fmt.Fprintf(out, `<text x="%.2f" y="%d">%s</text>`, b.x+3, y+12, svgText(short(label, n)))
		}
		if _, err := out.WriteString("</g>\n"); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "</svg>")
	return out.Flush()
}

// short is at most n characters of a text.
func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s[:min(len(s), n*utf8.UTFMax)])
	return string(r[:n-1]) + "…"
}

// flameColor tells kernel, inlined and other code apart, and neighbours by their names.
func flameColor(f *profile.Frame) string {
	h := fnv.New32a()
	io.WriteString(h, f.Func)
	v := h.Sum32()
	a, b := int(v%40), int(v>>8%40)
	switch {
	case f.Module == profile.Kernel:
		return fmt.Sprintf("#%02x%02x%02x", 150+a/2, 175+a, 225+b/2)
	case f.Inlined:
		return fmt.Sprintf("#%02x%02x%02x", 140+a, 205+b/2, 170+a)
	case f.Func == profile.Unknown:
		return "#cfcfcf"
	}
	return fmt.Sprintf("#%02x%02x%02x", 235+a/3, 140+b*2, 70+a)
}

// changeMark says without colour how a weight changed.
func changeMark(weight int64) string {
	if weight < 0 {
		return "▼"
	}
	return "▲"
}

// changeColor is red for what grew and green for what shrank, the stronger the more; change is 1 for the
// largest growth there is.
func changeColor(change float64) string {
	from, to := [3]float64{0xfb, 0xe3, 0xdf}, [3]float64{0xe8, 0x6a, 0x5b} // grew
	if change < 0 {
		from, to = [3]float64{0xdf, 0xf1, 0xdd}, [3]float64{0x62, 0xb0, 0x63}
	}
	part := min(1, math.Sqrt(math.Abs(change)))
	mix := func(i int) int { return int(from[i] + part*(to[i]-from[i]) + 0.5) }
	return fmt.Sprintf("#%02x%02x%02x", mix(0), mix(1), mix(2))
}

// weightText is a weight for people.
func weightText(p *profile.Profile, weight int64) string {
	v, abs := float64(weight), float64(max(weight, -weight))
	digits := func(v float64, unit string) string { return strconv.FormatFloat(v, 'f', 2, 64) + " " + unit }
	switch p.Unit {
	case profile.Nanoseconds:
		switch {
		case abs >= 1e9:
			return digits(v/1e9, "s")
		case abs >= 1e6:
			return digits(v/1e6, "ms")
		case abs >= 1e3:
			return digits(v/1e3, "µs")
		}
	case profile.Bytes:
		switch {
		case abs >= 1<<30:
			return digits(v/(1<<30), "GiB")
		case abs >= 1<<20:
			return digits(v/(1<<20), "MiB")
		case abs >= 1<<10:
			return digits(v/(1<<10), "KiB")
		}
	case profile.Millionths:
		return plainWeight(weight, p.Unit, 0)
	case profile.Number:
		return strconv.FormatInt(weight, 10)
	}
	return strconv.FormatInt(weight, 10) + " " + string(p.Unit)
}

// svgText escapes a text; what XML cannot say becomes U+FFFD (XML 1.0, production 2).
func svgText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '"':
			b.WriteString("&quot;")
		case r == '\t' || r == '\n' || r == '\r':
			b.WriteByte(' ')
		case r < ' ' || r == 0xfffe || r == 0xffff:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
