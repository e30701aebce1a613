package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/heap"
)

// A pathRow is a step of a path as it is printed: a root, an object, or what is left out between.
type pathRow struct {
	Kind     string `json:"kind,omitempty"`  // of the root: "[globals]"
	Field    string `json:"field,omitempty"` // of what is above, in which this is
	Name     string `json:"name,omitempty"`  // of the root's variable, or of the type
	Address  string `json:"address,omitempty"`
	Retained uint64 `json:"retained,omitempty"`
	File     string `json:"file,omitempty"` // where the variable or the type is declared
	Line     int    `json:"line,omitempty"`
	Skipped  int    `json:"skipped,omitempty"` // steps that are left out here
}

// Bounds of a path that is printed.
const (
	pathHead = 12 // steps at its beginning
	pathTail = 8  // and at its end, where the middle is left out
)

// PathRows are the steps of a path. Of steps of one type through one field in a row only the first and
// the last are there, and of what is still long the middle is left out.
func (v *heapView) pathRows(p heap.Path) []pathRow {
	g := v.a.Tree.Graph
	same := func(x, y heap.Step) bool {
		return x.Field == y.Field && v.s.TypeOf(heap.ObjectID(x.Node)) == v.s.TypeOf(heap.ObjectID(y.Node))
	}
	var rows []pathRow
	for i := 0; i < len(p); i++ {
		step := p[i]
		if i == 0 {
			r := pathRow{Kind: g.Name(g.Parent(step.Node)), Name: g.Name(step.Node)}
			if r.Name == r.Kind {
				r.Name = ""
			}
			if roots := g.Roots(step.Node); len(roots) > 0 {
				r.File, r.Line = v.s.Roots[roots[0]].File, v.s.Roots[roots[0]].Line
			}
			rows = append(rows, r)
			continue
		}
		last := i
		for last+1 < len(p) && same(p[last+1], step) {
			last++
		}
		rows = append(rows, v.pathRow(step))
		if last-i > 2 {
			rows = append(rows, pathRow{Skipped: last - i - 1, Name: rows[len(rows)-1].Name, Field: rows[len(rows)-1].Field})
			i = last - 1
		}
	}
	if len(rows) > pathHead+pathTail+1 {
		skipped := 0
		for _, r := range rows[pathHead : len(rows)-pathTail] {
			skipped += max(r.Skipped, 1)
		}
		tail := rows[len(rows)-pathTail:]
		rows = append(append(rows[:pathHead:pathHead], pathRow{Skipped: skipped}), tail...)
	}
	return rows
}

func (v *heapView) pathRow(step heap.Step) pathRow {
	id := heap.ObjectID(step.Node)
	t := &v.s.Types[v.s.TypeOf(id)]
	retained, _ := v.a.Retained(id)
	return pathRow{Field: v.s.Fields[step.Field].Name, Name: t.String(), Address: fmt.Sprintf("%#x", v.s.Address(id)), Retained: retained, File: t.File, Line: t.Line}
}

// Path prints a path: each step with the field in which it is, and what it keeps.
func (v *heapView) path(p heap.Path) {
	rows := v.pathRows(p)
	widest := 0
	for _, r := range rows {
		widest = max(widest, len([]rune(fieldText(r.Field))))
	}
	widest = min(widest, 32)
	for _, r := range rows {
		switch {
		case r.Kind != "":
			text := r.Kind
			if r.Name != "" {
				text += " " + expand(r.Name)
			}
			if r.File != "" {
				text += v.p.dim(fmt.Sprintf("  %s:%d", filepath.Base(r.File), r.Line))
			}
			v.printf("  %s\n", text)
		case r.Skipped > 0:
			what := "step"
			if r.Name != "" {
				what = expand(r.Name) + " through " + fieldText(r.Field)
			} else if r.Skipped > 1 {
				what = "steps"
			}
			v.printf("    %s\n", v.p.dim(fmt.Sprintf("… %s more %s", countOf(r.Skipped), what)))
		default:
			field := fieldText(r.Field)
			line := fmt.Sprintf("    %-*s  %10s  ", widest, field, bytesOfHeap(r.Retained))
			v.printf("%s%s\n", line, v.cut(expand(r.Name)+"  "+v.p.dim(r.Address), len([]rune(line))))
		}
	}
}

// A heapFocus is what one asks about.
type heapFocus struct {
	name   string
	types  map[heap.TypeID]bool
	object heap.ObjectID // 0: types
}

func (f *heapFocus) of(s *heap.Snapshot) func(heap.ObjectID) bool {
	return func(id heap.ObjectID) bool {
		if f.object != 0 {
			return id == f.object
		}
		return f.types[s.TypeOf(id)]
	}
}

// FocusOf finds what a person means: an address is the object there, else a type.
func (v *heapView) focusOf(text string) (*heapFocus, error) {
	if digits, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		if address, err := strconv.ParseUint(digits, 16, 64); err == nil {
			id := v.s.At(address)
			if id == 0 {
				return nil, fmt.Errorf("no object of the heap is at %s", text)
			}
			return &heapFocus{name: text, object: id}, nil
		}
	}
	types, err := v.s.FindTypes(text)
	if err != nil {
		return nil, err
	}
	if len(types) == 0 {
		return nil, fmt.Errorf("no type of the heap is called %q, or matches it; --view types --top 0 lists all", text)
	}
	f := &heapFocus{name: text, types: map[heap.TypeID]bool{}}
	for _, id := range types {
		f.types[id] = true
	}
	if len(types) == 1 {
		f.name = v.typeName(types[0])
	}
	return f, nil
}

// Example is the object of the focus that keeps the most, a live one where there is one.
func (v *heapView) example(f *heapFocus) heap.ObjectID {
	if f.object != 0 {
		return f.object
	}
	best, most := heap.ObjectID(0), uint64(0)
	of := f.of(v.s)
	for id := heap.ObjectID(1); int(id) <= v.s.Len(); id++ {
		if !of(id) {
			continue
		}
		if n, _ := v.a.Retained(id); best == 0 || n > most {
			best, most = id, n
		}
	}
	return best
}

// ShowFocus prints what is to say of a type or an object: with the view paths all ways to it, else who
// holds it and what it keeps.
func (v *heapView) showFocus(text string) error {
	f, err := v.focusOf(text)
	if err != nil {
		return err
	}
	if v.flags.asJSON {
		return v.focusJSON(f)
	}
	v.head()
	example := v.example(f)
	if v.flags.view == "paths" {
		v.object(example)
		v.allPaths(example)
		return v.err
	}
	if f.object != 0 {
		v.object(example)
	} else {
		v.focusHead(f)
	}
	v.holders(f)
	v.kept(f)
	v.madeOf(f)
	if v.a.Live(example) {
		if f.object == 0 {
			v.printf("\n")
			v.object(example)
		} else {
			v.printf("\n%s\n", v.p.bold("The way to it"))
		}
		v.path(v.a.Path(example))
	}
	v.allocated(example)
	return v.err
}

func (v *heapView) focusHead(f *heapFocus) {
	var sum heap.Total
	of := f.of(v.s)
	for id := heap.ObjectID(1); int(id) <= v.s.Len(); id++ {
		if of(id) && v.a.Live(id) {
			sum.Count++
			sum.Bytes += v.s.Size(id)
		}
	}
	set, _ := v.a.RetainedSet(of)
	text := fmt.Sprintf("%s: %s live in %s (%s); without them %s in %s would be free (%s)", expand(f.name), bytesOfHeap(sum.Bytes), objectsOf(sum.Count),
		heapShare(sum.Bytes, v.live.Bytes), bytesOfHeap(set.Bytes), objectsOf(set.Count), heapShare(set.Bytes, v.live.Bytes))
	if len(f.types) > 1 {
		text = fmt.Sprintf("%s, %s", plural(len(f.types), "type"), text)
	}
	for _, line := range wrap(text, v.width) {
		v.printf("%s\n", v.p.bold(line))
	}
}

// HolderName is what holds something: "main.registry.sessions", "main.reg".
func (v *heapView) holderName(h *heap.Holder) string {
	g := v.a.Tree.Graph
	name := ""
	if h.Root != 0 {
		name = g.Name(g.Parent(h.Root)) + " " + g.Name(h.Root)
	} else {
		name = v.s.Types[h.Type].String()
	}
	field := fieldText(v.s.Fields[h.Field].Name)
	if field != "" && field[0] != '.' {
		field = " " + field
	}
	return expand(name) + field
}

func (v *heapView) holders(f *heapFocus) {
	rows := v.a.Holders(f.of(v.s))
	if len(rows) == 0 {
		return
	}
	v.printf("\n%s\n", v.p.bold("Held by"))
	var shares []uint64
	t := v.table(0, &shares, tableColumn{title: "SIZE"}, tableColumn{title: "OBJECTS", rank: 1}, tableColumn{title: "THAT KEEP"}, tableColumn{title: "HOLDER"})
	n := v.top(len(rows))
	for _, r := range rows[:n] {
		t.rows = append(t.rows, []string{bytesOfHeap(r.Bytes), countOf(r.Count), bytesOfHeap(r.Retained), v.holderName(&r)})
		shares = append(shares, r.Retained)
	}
	t.print(v.out)
	v.more(n, len(rows), "holders")
}

func (v *heapView) kept(f *heapFocus) {
	rows := v.a.Fields(f.of(v.s))
	if len(rows) == 0 {
		return
	}
	v.printf("\n%s\n", v.p.bold("What its fields keep"))
	var shares []uint64
	t := v.table(0, &shares, tableColumn{title: "RETAINED"}, tableColumn{title: "OBJECTS", rank: 1}, tableColumn{title: "REFERS TO"}, tableColumn{title: "FIELD"})
	n := v.top(len(rows))
	for _, r := range rows[:n] {
		name := v.s.Fields[r.Field].Name
		if name == "" {
			name = "[unknown]"
		}
		t.rows = append(t.rows, []string{bytesOfHeap(r.Retained.Bytes), countOf(r.Retained.Count), bytesOfHeap(r.Direct.Bytes), expand(name)})
		shares = append(shares, r.Retained.Bytes)
	}
	t.print(v.out)
	v.more(n, len(rows), "fields")
}

// MadeOf is what would be free, by type.
func (v *heapView) madeOf(f *heapFocus) {
	set, rows := v.a.RetainedSet(f.of(v.s))
	if len(rows) < 2 {
		return
	}
	v.printf("\n%s\n", v.p.bold(fmt.Sprintf("What would be free without, %s", bytesOfHeap(set.Bytes))))
	v.typeTable(rows, false)
}

// Allocated says where an object was allocated, where that is known.
func (v *heapView) allocated(id heap.ObjectID) {
	stack, ok := v.s.SiteOf(id)
	if !ok {
		return
	}
	v.printf("\n%s\n", v.p.bold("Allocated at"))
	for f := range v.s.Stacks.LeafFirst(stack) {
		v.printf("    %s\n", v.cut(placeOf(v.s.Frames[f]), 4))
	}
}

// AllPaths prints one way from each root.
func (v *heapView) allPaths(id heap.ObjectID) {
	paths := v.a.Paths(id, 0)
	if len(paths) == 0 {
		v.printf("No root leads to it.\n")
		return
	}
	n := v.top(len(paths))
	for _, p := range paths[:n] {
		v.printf("\n")
		v.path(p)
	}
	v.more(n, len(paths), "roots that lead to it")
}
