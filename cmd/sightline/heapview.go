package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A heapView prints what is in a heap, in columns that fit the terminal.
type heapView struct {
	out   io.Writer
	in    *heapInput
	a     *heap.Analysis
	s     *heap.Snapshot
	flags *heapFlags
	p     palette
	width int
	live  heap.Total
	dead  heap.Total
	err   error
}

func newHeapView(out io.Writer, in *heapInput, a *heap.Analysis, flags *heapFlags) *heapView {
	v := &heapView{out: out, in: in, a: a, s: a.Snapshot, flags: flags, p: paletteFor(out), width: width(out)}
	v.live, v.dead = a.Totals()
	return v
}

func (v *heapView) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(v.out, format, args...); err != nil && v.err == nil {
		v.err = err
	}
}

// Show prints the view that the flags ask for.
func (v *heapView) show() error {
	if v.flags.asJSON {
		return v.showJSON()
	}
	v.head()
	switch v.flags.view {
	case "types":
		v.types()
	case "tree", "retained":
		if err := v.tree(); err != nil {
			return err
		}
	case "paths":
		v.paths()
	case "sites":
		v.sites()
	case "goroutines":
		v.goroutines()
	case "waste":
		v.waste()
	}
	return v.err
}

// Head says of what a table is.
func (v *heapView) head() {
	i := &v.s.Info
	title := v.name()
	if i.Exe != "" {
		title += " · " + expand(i.Exe)
	}
	v.printf("%s\n", v.p.bold(cut(title, v.width)))
	facts := []string{bytesOfHeap(v.live.Bytes) + " live in " + objectsOf(v.live.Count)}
	if v.dead.Count > 0 {
		facts = append(facts, bytesOfHeap(v.dead.Bytes)+" of garbage")
	}
	if n := len(v.s.Goroutines) - 1; n > 0 {
		facts = append(facts, plural(n, "goroutine"))
	}
	if i.Go != "" {
		facts = append(facts, i.Go)
	}
	switch i.How {
	case "", freeze.Core.String():
	case freeze.Running.String():
		facts = append(facts, "read while it ran")
	default:
		facts = append(facts, fmt.Sprintf("stopped for %s (%s)", lspserver.Duration(i.Stopped), i.How))
	}
	if time.Since(i.Taken) > 5*time.Second && !i.Taken.IsZero() {
		facts = append(facts, age(i.Taken))
	}
	if v.in.id != "" {
		facts = append(facts, "capture "+string(v.in.id))
	}
	const glue = "\x00" // lines are broken between facts, not within them
	for i, f := range facts {
		facts[i] = strings.ReplaceAll(f, " ", glue)
	}
	for _, line := range wrap(strings.Join(facts, glue+"· "), v.width) {
		v.printf("%s\n", v.p.dim(strings.ReplaceAll(line, glue, " ")))
	}
	for _, w := range i.Warnings {
		v.note(warningWords(w))
	}
	v.printf("\n")
}

// Name is of what the heap is.
func (v *heapView) name() string {
	i := &v.s.Info
	name := process.Printable(cmp.Or(i.Command, filepath.Base(i.Exe)))
	switch {
	case v.in.core != "":
		return fmt.Sprintf("core file %s of %s", expand(v.in.core), name)
	case i.How == freeze.Core.String():
		return "core file of " + name
	case i.PID != 0:
		return fmt.Sprintf("process %d (%s)", i.PID, name)
	}
	return name
}

func objectsOf(n int) string {
	if n == 1 {
		return "1 object"
	}
	return countOf(n) + " objects"
}

func (v *heapView) note(text string) {
	for k, line := range wrap("note: "+expand(text), v.width-6) {
		if k > 0 {
			line = "      " + line
		}
		v.printf("%s\n", v.p.dim(line))
	}
}

// Table is an empty one; heat colours the cells of the column that says how large a row is.
func (v *heapView) table(heatColumn int, shares *[]uint64, columns ...tableColumn) *table {
	t := &table{columns: columns, width: v.width, uncut: !isTerminal(v.out), p: v.p}
	t.paint = func(row, column int, text string) string {
		if column == heatColumn {
			return v.p.heat(text, int64((*shares)[row]), int64(v.live.Bytes))
		}
		return text
	}
	return t
}

// More says how many rows are left out.
func (v *heapView) more(shown, all int, what string) {
	if all > shown {
		v.printf("%s\n", v.p.dim(fmt.Sprintf("and %s more %s; --top 0 shows all", countOf(all-shown), what)))
	}
}

func (v *heapView) top(n int) int {
	if v.flags.top == 0 {
		return n
	}
	return min(n, v.flags.top)
}

func (v *heapView) typeName(id heap.TypeID) string { return expand(v.s.Types[id].String()) }

func (v *heapView) types() {
	rows := v.a.Types()
	v.typeTable(rows, true)
	if v.dead.Count > 0 && len(rows) > 0 {
		v.printf("%s\n", v.p.dim(fmt.Sprintf("Beside these %s are garbage that is not swept yet: --view tree has them under %s.", objectsOf(v.dead.Count), heap.NotReachable)))
	}
}

func (v *heapView) typeTable(rows []heap.TypeRow, retained bool) {
	var shares []uint64
	columns := []tableColumn{{title: "SIZE"}, {title: "SHARE", rank: 2}, {title: "OBJECTS", rank: 1}, {title: "RETAINED", optional: true}, {title: "SHARE", rank: 3, optional: true}, {title: "TYPE"}}
	t := v.table(0, &shares, columns...)
	n := v.top(len(rows))
	for _, r := range rows[:n] {
		kept, share := "", ""
		if retained {
			kept, share = bytesOfHeap(r.Retained), heapShare(r.Retained, v.live.Bytes)
		}
		t.rows = append(t.rows, []string{bytesOfHeap(r.Bytes), heapShare(r.Bytes, v.live.Bytes), countOf(r.Count), kept, share, v.typeName(r.Type)})
		shares = append(shares, max(r.Bytes, r.Retained))
	}
	t.print(v.out)
	v.more(n, len(rows), "types")
}

// Tree prints branches with the share of the heap that they hold.
func (v *heapView) tree() error {
	top, err := v.branches()
	if err != nil {
		return err
	}
	whole := top.All.Bytes
	const head = 10 + 2 + 6 + 2 + 10 + 2 + 10 + 2
	v.printf("%s\n", v.p.dim(fmt.Sprintf("%10s  %6s  %10s  %10s  %s", "TOTAL", "SHARE", "OBJECTS", "SELF", "NAME")))
	shown, left := 0, 0
	var print func(b *heap.Branch, lead, below string, depth int)
	print = func(b *heap.Branch, lead, below string, depth int) {
		if v.flags.top > 0 && shown >= v.flags.top*4 {
			left++
			return
		}
		shown++
		self := ""
		if b.Self.Bytes > 0 {
			self = bytesOfHeap(b.Self.Bytes)
		}
		line := v.p.heat(fmt.Sprintf("%10s  %6s", bytesOfHeap(b.All.Bytes), heapShare(b.All.Bytes, whole)), int64(b.All.Bytes), int64(whole))
		line += fmt.Sprintf("  %10s  %10s  ", countOf(b.All.Count), self)
		v.printf("%s%s%s\n", line, v.p.dim(lead), v.cut(expand(b.Name), head+len([]rune(lead))))
		if v.flags.depth > 0 && depth >= v.flags.depth {
			return
		}
		for i, x := range b.Below {
			if i < len(b.Below)-1 || len(b.Secondary) > 0 {
				print(x, below+"├ ", below+"│ ", depth+1)
			} else {
				print(x, below+"└ ", below+"  ", depth+1)
			}
		}
		for i, x := range b.Secondary {
			if i == 5 {
				v.printf("%s\n", v.p.dim(fmt.Sprintf("%*s%s… %d more that something else keeps", head, "", below, len(b.Secondary)-i)))
				break
			}
			text := fmt.Sprintf("%10s  %6s  %10s  %10s  %s· %s {MinDepth %d}", "", "", countOf(x.Self.Count), bytesOfHeap(x.Self.Bytes), below, expand(x.Name), x.MinDepth)
			v.printf("%s\n", v.p.dim(v.cut(text, 0)))
		}
	}
	for _, b := range top.Below {
		print(b, "", "", 1)
	}
	v.more(0, left, "branches")
	return v.err
}

func (v *heapView) branches() (*heap.Branch, error) {
	o := heap.BranchOptions{Fold: v.flags.fold / 100, FoldNames: heap.DefaultFold, Secondary: v.flags.secondary}
	if v.flags.view == "retained" {
		return v.a.RetainedBranches(o)
	}
	return v.a.Branches(o)
}

// Cut shortens text that stands behind others on a terminal's line.
func (v *heapView) cut(text string, used int) string {
	if !isTerminal(v.out) {
		return text
	}
	return cut(text, max(v.width-used, 12))
}

// Paths prints the objects where much memory comes together, with the way to each.
func (v *heapView) paths() {
	list := v.a.Accumulations(v.live.Bytes / 100)
	n := v.top(len(list))
	for i, id := range list[:n] {
		if i > 0 {
			v.printf("\n")
		}
		v.object(id)
		v.path(v.a.Path(id))
	}
	if len(list) == 0 {
		v.printf("No object keeps as much as 1%% of the heap.\n")
	}
	v.more(n, len(list), "objects that keep 1% of the heap or more")
}

// Object prints one line about an object.
func (v *heapView) object(id heap.ObjectID) {
	retained, count := v.a.Retained(id)
	text := fmt.Sprintf("%s at %#x keeps %s (%s) in %s", v.typeName(v.s.TypeOf(id)), v.s.Address(id), bytesOfHeap(retained), heapShare(retained, v.live.Bytes), objectsOf(count))
	if !v.a.Live(id) {
		text = fmt.Sprintf("%s at %#x, %s, is garbage", v.typeName(v.s.TypeOf(id)), v.s.Address(id), bytesOfHeap(v.s.Size(id)))
	}
	for _, line := range wrap(text, v.width) {
		v.printf("%s\n", v.p.bold(line))
	}
}

func (v *heapView) sites() {
	rows := v.a.Sites()
	if len(rows) == 0 {
		v.printf("%s\n", v.noSites())
		return
	}
	var shares []uint64
	t := v.table(0, &shares, tableColumn{title: "SIZE"}, tableColumn{title: "SHARE", rank: 1}, tableColumn{title: "OBJECTS", rank: 2}, tableColumn{title: "SAMPLED", rank: 4},
		tableColumn{title: "TYPE", left: true, rank: 3}, tableColumn{title: "ALLOCATED AT"})
	n := v.top(len(rows))
	for _, r := range rows[:n] {
		name := cut(v.typeName(r.Type), 32)
		if r.Types > 1 {
			name += fmt.Sprintf(" +%d", r.Types-1)
		}
		t.rows = append(t.rows, []string{lspserver.Weight(r.Bytes, profile.Bytes), lspserver.Percent(r.Bytes, int64(v.live.Bytes)), countOf(int(r.Count)), countOf(r.Sampled), name, placeOf(r.Place)})
		shares = append(shares, uint64(r.Bytes))
	}
	t.print(v.out)
	v.more(n, len(rows), "lines")
	words := "Estimated from " + objectsOf(len(v.s.Sampled)) + " that the program's own memory profile sampled"
	if rate := v.s.Info.SampleRate; rate > 1 {
		words += ", one for each " + lspserver.Weight(rate, profile.Bytes) + " that it allocates"
	}
	v.printf("%s\n", v.p.dim(words+"."))
	if v.s.Info.SampleRate == 0 {
		v.note(v.noSites())
	}
}

func (v *heapView) noSites() string {
	if v.s.Info.SampleRate == 0 {
		return "The program does not sample its allocations, so that hardly any line is known: runtime.MemProfileRate is 0, or the linker left the memory profile out since nothing in the program uses it; importing net/http/pprof does."
	}
	return "None of the objects that are live was sampled when it was allocated."
}

// PlaceOf is a frame as a person names it.
func placeOf(f profile.Frame) string {
	name := f.Func
	if name == "" {
		name = profile.Unknown
	}
	if f.File == "" {
		return expand(name)
	}
	return expand(fmt.Sprintf("%s %s:%d", name, filepath.Base(f.File), f.Line))
}

func (v *heapView) goroutines() {
	rows := v.a.Goroutines()
	if len(rows) == 0 {
		v.printf("The snapshot has no goroutines.\n")
		return
	}
	var shares []uint64
	t := v.table(0, &shares, tableColumn{title: "HELD"}, tableColumn{title: "SHARE", rank: 1}, tableColumn{title: "GOROUTINES"}, tableColumn{title: "STACKS", rank: 3},
		tableColumn{title: "STATE", left: true}, tableColumn{title: "FOR", rank: 2, optional: true}, tableColumn{title: "CREATED AT", left: true, rank: 4, optional: true}, tableColumn{title: "PLACE"})
	n := v.top(len(rows))
	for _, r := range rows[:n] {
		g := &v.a.Graph.Groups[r.Group]
		longest, created := "", ""
		if g.Longest > 0 {
			longest = lspserver.Duration(g.Longest)
		}
		if g.Created.Func != "" {
			created = cut(placeOf(g.Created), 40)
		}
		place := placeOf(g.Place)
		if g.System {
			place = v.p.dim(place)
		}
		t.rows = append(t.rows, []string{bytesOfHeap(r.Held.Bytes), heapShare(r.Held.Bytes, v.live.Bytes), countOf(len(g.Members)), lspserver.Weight(g.Stacks, profile.Bytes),
			cmp.Or(g.Wait, g.State), longest, created, place})
		shares = append(shares, r.Held.Bytes)
	}
	t.print(v.out)
	v.more(n, len(rows), "groups")
	v.printf("%s\n", v.p.dim("HELD is what would be free without these goroutines, STACKS their own memory, which is not in the heap."))
}

func (v *heapView) waste() {
	rows := v.s.WasteRows()
	if len(rows) == 0 {
		v.printf("Nothing is known of memory that holds nothing.\n")
		return
	}
	var shares []uint64
	t := v.table(0, &shares, tableColumn{title: "WASTED"}, tableColumn{title: "SHARE", rank: 1}, tableColumn{title: "OF", rank: 3}, tableColumn{title: "OBJECTS", rank: 2},
		tableColumn{title: "HOW", left: true}, tableColumn{title: "TYPE", left: true}, tableColumn{title: "WHAT"})
	n := v.top(len(rows))
	var sum int64
	for _, w := range rows {
		sum += w.Bytes
	}
	for _, w := range rows[:n] {
		t.rows = append(t.rows, []string{lspserver.Weight(w.Bytes, profile.Bytes), lspserver.Percent(w.Bytes, int64(v.live.Bytes)), lspserver.Weight(w.Of, profile.Bytes), countOf(int(w.Count)),
			string(w.Kind), cut(v.typeName(w.Type), 40), v.wasteWords(&w)})
		shares = append(shares, uint64(max(w.Bytes, 0)))
	}
	t.print(v.out)
	v.more(n, len(rows), "kinds of waste")
	v.printf("%s\n", v.p.dim(fmt.Sprintf("%s in all, %s of the live heap.", lspserver.Weight(sum, profile.Bytes), lspserver.Percent(sum, int64(v.live.Bytes)))))
}

// WasteWords tell a case of waste from others of the type.
func (v *heapView) wasteWords(w *heap.Waste) string {
	text := ""
	if w.What != "" {
		text = fmt.Sprintf("%q", w.What)
		if w.Kind != heap.DuplicateStrings {
			text = expand(w.What)
		}
	}
	if w.Field != 0 || w.Holder != 0 {
		if text != "" {
			text += " "
		}
		text += "in " + v.typeName(w.Holder)
		if f := v.s.Fields[w.Field].Name; f != "" {
			text += fieldText(f)
		}
	}
	return text
}

// FieldText is a field behind a name: ".User", "[value]".
func fieldText(name string) string {
	if name == "" || strings.HasPrefix(name, "[") || strings.HasPrefix(name, "(") {
		return expand(name)
	}
	return "." + expand(name)
}
