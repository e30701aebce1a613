package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// WeightWords turns the weights of rows into words: rows count in the unit of the tool that a file came
// from, words in the unit it is kept in.
type weightWords struct {
	unit  profile.Unit
	scale float64 // of one kept unit in the rows' unit
}

func wordsOf(p *profile.Profile) weightWords { return weightWords{p.Unit, p.Unit.In(p.Source)} }

func (w weightWords) of(weight float64) string {
	return lspserver.Weight(int64(math.Round(weight/w.scale)), w.unit)
}

func share(part, whole float64) string {
	const parts = 1e9
	if whole == 0 {
		return "0.0%"
	}
	return lspserver.Percent(int64(math.Round(part/math.Abs(whole)*parts)), parts)
}

// Title is what stands above a table: what it is, how much, and what is missing.
func (x *stackInput) title() []string {
	c, total := x.capture, x.profile.Total()
	head := c.Target.String()
	if !c.Start.IsZero() {
		head += " · " + age(c.Start)
	}
	facts := []string{lspserver.Samples(total.Count)}
	if x.profile.Unit != profile.Number || total.Weight != total.Count {
		facts = append(facts, lspserver.Weight(total.Weight, x.profile.Unit)+" "+lspserver.KindWords(x.profile.Kind))
	}
	if c.Length > 0 {
		facts = append(facts, lspserver.Duration(c.Length)+" long")
	}
	if c.Engine != "" && !c.Imported {
		facts = append(facts, c.Engine+" engine")
	} else if c.Engine != "" {
		facts = append(facts, "from "+c.Engine)
	}
	if b := x.profile.Broken(); b >= 0.0005 {
		facts = append(facts, fmt.Sprintf("%.1f%% broken stacks", 100*b))
	}
	if x.name() != c.Target.String() {
		facts = append(facts, x.name())
	}
	lines := []string{head, strings.Join(facts, " · ")}
	const most = 3 // of one kind: the table is what was asked for
	told := map[profile.WarningKind]int{}
	for _, w := range c.Warnings {
		if w.Kind == profile.WarnBroken {
			continue // --why-broken tells
		}
		if told[w.Kind]++; told[w.Kind] > most {
			continue
		}
		text := w.Text
		if w.Count > 0 && w.Kind == profile.WarnLost {
			text = fmt.Sprintf("%s (%s)", text, lspserver.Count(w.Count))
		}
		lines = append(lines, "note: "+text)
	}
	for _, n := range told {
		if n > most {
			lines = append(lines, fmt.Sprintf("note: and %d more like these", n-most))
		}
	}
	return lines
}

// A stackTable prints rows of stack views in columns that fit the terminal.
type stackTable struct {
	out   io.Writer
	x     *stackShow
	p     palette
	width int
	whole float64
	uncut bool // names are never cut: nobody's terminal is too narrow for them
	err   error
}

func newStackTable(out io.Writer, x *stackShow) *stackTable {
	t := &stackTable{out: out, x: x, p: paletteFor(out), width: width(out), uncut: !isTerminal(out)}
	if x.selection != nil {
		t.whole = x.selection.Root(view.NoColumns).Total
	}
	return t
}

func (t *stackTable) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

func (t *stackTable) flush() error { return t.err }

// Head says what is shown and what is filtered.
func (t *stackTable) head() {
	for i, line := range t.x.title {
		if i == 0 {
			t.printf("%s\n", t.p.bold(cut(expand(line), t.width)))
			continue
		}
		for _, part := range wrap(expand(line), t.width) {
			t.printf("%s\n", t.p.dim(part))
		}
	}
	if words := t.x.filter.Active(); words != "" {
		root := t.x.selection.Root(view.NoColumns)
		for i, part := range wrap(expand(words), t.width-8) {
			lead := "filter: "
			if i > 0 {
				lead = "        "
			}
			t.printf("%s%s\n", t.p.dim(lead), part)
		}
		t.printf("%s\n", t.p.dim(fmt.Sprintf("        %s of %s remain", t.x.words.of(root.Total), lspserver.Samples(int64(math.Round(root.TotalCount))))))
	}
	t.printf("\n")
}

// Weight is a cell: share and weight, or signed weight and share in a difference.
func (t *stackTable) cell(weight float64) string {
	text := fmt.Sprintf("%7s %9s", share(weight, t.whole), t.x.words.of(weight))
	if t.x.signed {
		sign := ""
		if weight > 0 {
			sign = "+"
		}
		text = fmt.Sprintf("%10s", sign+t.x.words.of(weight))
	}
	return text
}

func (t *stackTable) heat(text string, weight float64) string {
	if t.x.signed {
		switch {
		case weight > 0:
			return t.p.bad(text)
		case weight < 0:
			return t.p.good(text)
		}
		return text
	}
	const parts = 1e6
	return t.p.heat(text, int64(weight/max(t.whole, math.SmallestNonzeroFloat64)*parts), parts)
}

func (t *stackTable) cellWidth() int {
	if t.x.signed {
		return 10
	}
	return 17
}

// WhenWidth is the room of the When column, 0 where the terminal has none or there are no times.
func (t *stackTable) whenWidth() int {
	if t.x.source != nil && !t.x.source.Timed() && !t.x.filter.Compat || t.width < 2*t.cellWidth()+4+34+30 {
		return 0
	}
	return 32
}

func (t *stackTable) titles(name string) {
	w := t.cellWidth()
	line := fmt.Sprintf("%*s  %*s  ", w, "self", w, "total")
	if n := t.whenWidth(); n > 0 {
		line += fmt.Sprintf("%-*s  ", n, "when")
	}
	t.printf("%s\n", t.p.dim(line+name))
}

// Row prints one row; lead stands before its name.
func (t *stackTable) row(r *view.StackRow, lead string) {
	w := t.cellWidth()
	self := strings.Repeat(" ", w)
	if r.Self != 0 {
		self = t.heat(fmt.Sprintf("%*s", w, t.cell(r.Self)), r.Self)
	}
	line := self + "  " + fmt.Sprintf("%*s", w, t.cell(r.Total)) + "  "
	used := 2*w + 4
	if n := t.whenWidth(); n > 0 {
		line += t.p.dim(fmt.Sprintf("%-*s", n, r.When)) + "  "
		used += n + 2
	}
	if r.Which != "" {
		line += r.Which + "  "
		used += len([]rune(r.Which)) + 2
	}
	room := max(t.width-used-len([]rune(lead)), 10)
	name := expand(r.Name)
	if !t.uncut {
		name = fitName(name, room)
	}
	place := ""
	if f := r.Frame; f.File != "" && f.StartLine > 0 {
		place = fmt.Sprintf("%s:%d", filepath.Base(f.File), f.StartLine)
	}
	if place != "" && len([]rune(name))+len(place)+2 <= room {
		name += "  " + t.p.dim(place)
	}
	t.printf("%s\n", strings.TrimRight(line+t.p.dim(lead)+name, " "))
}

// FitName shortens a name to n columns by what tells least: its module, then its beginning.
func fitName(name string, n int) string {
	if len([]rune(name)) <= n {
		return name
	}
	if module, fn, ok := strings.Cut(name, "!"); ok && fn != "" && !strings.ContainsAny(module, " <") {
		name = fn
	}
	r := []rune(name)
	if len(r) <= n || n < 2 {
		return cut(name, n)
	}
	return "…" + string(r[len(r)-n+1:])
}

func (t *stackTable) rows(rows []view.StackRow, all int) {
	t.titles("name")
	for i := range rows {
		t.row(&rows[i], "")
	}
	t.more(len(rows), all)
}

func (t *stackTable) more(shown, all int) {
	if shown < all {
		t.printf("%s\n", t.p.dim(fmt.Sprintf("… %d more; --top 0 shows all", all-shown)))
	}
}

// Tree draws a tree. A run of calls with one way to go on stays in one column, so that depth on the
// screen is depth of decision.
func (t *stackTable) tree(root *view.StackNode) {
	t.titles("call")
	type line struct {
		n            *view.StackNode
		indent, mark string
	}
	stack := []line{{n: root}}
	for len(stack) > 0 {
		l := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		indent := l.indent + l.mark
		if most := t.width / 3; len([]rune(indent)) > most {
			indent = "…" + string([]rune(indent)[len([]rune(indent))-most:])
		}
		t.row(&l.n.StackRow, indent)
		switch l.mark {
		case "├ ":
			l.indent += "│ "
		case "└ ":
			l.indent += "  "
		}
		for i := len(l.n.Children) - 1; i >= 0; i-- {
			mark := "├ "
			switch {
			case len(l.n.Children) == 1:
				mark = ""
			case i == len(l.n.Children)-1:
				mark = "└ "
			}
			stack = append(stack, line{l.n.Children[i], l.indent, mark})
		}
	}
}

func (t *stackTable) calls(c *view.Calls, top int) {
	t.titles("name")
	for i := range firstOf(c.Callers, top) {
		t.row(&c.Callers[i], "  ↓ ")
	}
	t.more(len(firstOf(c.Callers, top)), len(c.Callers))
	t.row(&c.Focus, "")
	for i := range firstOf(c.Callees, top) {
		t.row(&c.Callees[i], "  → ")
	}
	t.more(len(firstOf(c.Callees, top)), len(c.Callees))
}

func (t *stackTable) lines(lines []view.PlaceRow, all int) {
	w := t.cellWidth()
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%*s  %*s  %s", w, "self", w, "total", "line")))
	for _, l := range lines {
		self := strings.Repeat(" ", w)
		if l.Self != 0 {
			self = t.heat(fmt.Sprintf("%*s", w, t.cell(l.Self)), l.Self)
		}
		place := fmt.Sprintf("%s:%d", l.File, l.Line)
		if room := t.width - 2*w - 4; len([]rune(place)) > room && room > 4 {
			r := []rune(place)
			place = "…" + string(r[len(r)-room+1:])
		}
		t.printf("%s  %*s  %s\n", self, w, t.cell(l.Total), expand(place))
	}
	t.more(len(lines), all)
}

// Bars draws weights as a row of blocks, the largest full.
func bars(sums []float64, most float64) string {
	levels := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, s := range sums {
		k := 0
		if most > 0 && s > 0 {
			k = max(1, min(len(levels)-1, int(math.Ceil(s/most*float64(len(levels)-1)))))
		}
		b.WriteRune(levels[k])
	}
	return b.String()
}

func (t *stackTable) lanes(l *view.Lanes, top int) {
	shown := firstOf(l.Lanes, top)
	most := 0.0
	longest := 4
	for _, lane := range shown {
		for _, s := range lane.Sums {
			most = max(most, s)
		}
		longest = min(max(longest, len([]rune(expand(lane.Name)))), t.width/3)
	}
	for _, lane := range shown {
		t.printf("%s  %-*s  %s\n", t.cell(lane.Total), longest, cut(expand(lane.Name), longest), bars(lane.Sums, most))
	}
	t.more(len(shown), len(l.Lanes))
	t.printf("%s\n", t.p.dim(fmt.Sprintf("each column is %s", lspserver.Duration(timeOf(l.Width)))))
}

func (t *stackTable) histogram(h *view.Histogram) {
	most := 0.0
	for _, s := range h.Sums {
		most = max(most, s)
	}
	room := max(t.width-40, 10)
	for i, s := range h.Sums {
		n := 0
		if most > 0 && s > 0 {
			n = max(1, int(s/most*float64(room)))
		}
		t.printf("%10s  %10s  %s\n", lspserver.Duration(timeOf(h.Start+float64(i)*h.Width)), t.x.words.of(s), strings.Repeat("█", n))
	}
	t.printf("%s\n", t.p.dim("when "+h.Text))
}
