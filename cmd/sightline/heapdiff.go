package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
)

func newHeapDiff(io streams) *cobra.Command {
	var hf heapFlags
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show which objects came and went between two heap snapshots, and what keeps those that came",
		Long: `Compares two snapshots of one process, object by object: Go does not move objects, so that one at the same
address, of the same type and size, is the same. Growth is told by type, and by what keeps the objects: the
variable and the first types of the program's own on the way to them.`,
		Example: `  sightline heap server            # a snapshot, and some time later
  sightline heap diff @ server     # what came since
  sightline heap diff @2 @         # between the last two`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("heap diff takes two: snapshots, captures, processes or core files, the earlier first")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			hf.view, hf.how = heapViews[0], "auto"
			if err := hf.check(); err != nil {
				return err
			}
			priorities, err := hf.prioritiesOf()
			if err != nil {
				return err
			}
			defer spareMemory()()
			var views [2]*heapView
			for i, ref := range args {
				in, err := hf.open(cmd, io, ref)
				if err != nil {
					return err
				}
				defer in.snapshot.Close()
				a := heap.Analyze(in.snapshot, priorities)
				if in.taken && !hf.dontKeep {
					in.keep(cmd, io, a)
				}
				views[i] = newHeapView(io.out, in, a, &hf)
			}
			d := &heapDiff{before: views[0], after: views[1], d: heap.Compare(views[0].a, views[1].a)}
			if hf.asJSON {
				return writeJSON(io.out, d.json())
			}
			return d.print()
		},
	}
	f := cmd.Flags()
	f.IntVar(&hf.top, "top", 20, "show at most this many rows of each table; 0 is all")
	f.StringVar(&hf.exe, "exe", "", "the program `file` that a core file is of, where it is not where the core says")
	f.BoolVar(&hf.dontKeep, "dont-keep", false, "do not keep a snapshot that is taken")
	hf.addPriorities(cmd)
	f.BoolVar(&hf.asJSON, "json", false, "print JSON, in bytes")
	return cmd
}

// A heapDiff prints what changed between two heaps.
type heapDiff struct {
	before, after *heapView
	d             *heap.Difference
}

// PathsShown is of how many of the keepers that grew the most the way is printed.
const pathsShown = 3

func (d *heapDiff) print() error {
	v := d.after
	v.printf("%s\n", v.p.bold(cut("from "+d.name(d.before), v.width)))
	v.printf("%s\n", v.p.bold(cut("  to "+d.name(v), v.width)))
	change := int64(v.live.Bytes) - int64(d.before.live.Bytes)
	v.printf("%s\n", fmt.Sprintf("%s · %s in %s new · %s in %s gone · %s in %s survived", lspserver.SignedWeight(change, profile.Bytes),
		bytesOfHeap(d.d.New.Bytes), objectsOf(d.d.New.Count), bytesOfHeap(d.d.Gone.Bytes), objectsOf(d.d.Gone.Count), bytesOfHeap(d.d.Survived.Bytes), objectsOf(d.d.Survived.Count)))
	if d.before.s.Info.PID != v.s.Info.PID || d.before.s.Info.Exe != v.s.Info.Exe {
		v.note("these are snapshots of different processes, so that hardly an object is the same: only sums per type can be compared.")
	}
	v.printf("\n")
	if len(d.d.Types) == 0 {
		v.printf("Every object is the same.\n")
		return v.err
	}
	t := d.table(tableColumn{title: "OBJECTS", rank: 1}, tableColumn{title: "NEW", rank: 2}, tableColumn{title: "GONE", rank: 3}, tableColumn{title: "TYPE"})
	n := v.top(len(d.d.Types))
	for _, g := range d.d.Types[:n] {
		t.rows = append(t.rows, []string{lspserver.SignedWeight(g.Bytes(), profile.Bytes), moreObjects(g.Count()), newOrGone(g.New), newOrGone(g.Gone), expand(g.Type.String())})
	}
	t.print(v.out)
	v.more(n, len(d.d.Types), "types")

	v.printf("\n%s\n", v.p.bold("By what keeps them"))
	t = d.table(tableColumn{title: "OBJECTS", rank: 1}, tableColumn{title: "TYPE", left: true}, tableColumn{title: "KEPT BY"})
	n = v.top(len(d.d.Growth))
	for _, g := range d.d.Growth[:n] {
		t.rows = append(t.rows, []string{lspserver.SignedWeight(g.Bytes(), profile.Bytes), moreObjects(g.Count()), cut(expand(g.Type.String()), 40), d.keepers(&g)})
	}
	t.print(v.out)
	v.more(n, len(d.d.Growth), "of these")
	for i := range d.d.Growth[:min(pathsShown, len(d.d.Growth))] {
		if g := &d.d.Growth[i]; g.Bytes() > 0 {
			v.printf("\n%s\n", v.p.bold(fmt.Sprintf("%s of %s, for example", lspserver.SignedWeight(g.Bytes(), profile.Bytes), expand(g.Type.String()))))
			v.path(g.Path())
			if g.Stack != 0 {
				v.printf("    %s\n", v.p.dim("allocated at "+placeOf(g.Of.Snapshot.PlaceOf(g.Stack))))
			}
		}
	}
	return v.err
}

func (d *heapDiff) name(v *heapView) string {
	words := v.name() + " · " + bytesOfHeap(v.live.Bytes) + " live in " + objectsOf(v.live.Count)
	if a := age(v.s.Info.Taken); a != "" {
		words += " · " + a
	}
	if v.in.id != "" {
		words += " · capture " + string(v.in.id)
	}
	return words
}

func (d *heapDiff) keepers(g *heap.Growth) string {
	if len(g.Keepers) == 0 {
		return profile.Unknown
	}
	return expand(strings.Join(g.Keepers, " → "))
}

// Table is one whose first column is signed: red what grew, green what shrank.
func (d *heapDiff) table(columns ...tableColumn) *table {
	v := d.after
	t := &table{columns: append([]tableColumn{{title: "GROWTH"}}, columns...), width: v.width, uncut: !isTerminal(v.out), p: v.p}
	t.paint = func(row, column int, text string) string {
		switch sign := strings.TrimLeft(text, " "); {
		case column > 0:
		case strings.HasPrefix(sign, "+"):
			return v.p.bad(text)
		case strings.HasPrefix(sign, "-"):
			return v.p.good(text)
		}
		return text
	}
	return t
}

func moreObjects(n int) string {
	if n > 0 {
		return "+" + countOf(n)
	}
	return countOf(n)
}

func newOrGone(t heap.Total) string {
	if t.Count == 0 {
		return ""
	}
	return bytesOfHeap(t.Bytes)
}

type heapDiffJSON struct {
	Before   *heapJSON    `json:"before"`
	After    *heapJSON    `json:"after"`
	New      totalJSON    `json:"new"`
	Gone     totalJSON    `json:"gone"`
	Survived totalJSON    `json:"survived"`
	Types    []growthJSON `json:"types"`
	Growth   []growthJSON `json:"growth"`
}

type growthJSON struct {
	Type      string    `json:"type"`
	Bytes     int64     `json:"bytes"`
	Objects   int       `json:"objects"`
	New       totalJSON `json:"new"`
	Gone      totalJSON `json:"gone"`
	Keepers   []string  `json:"keepers,omitempty"`
	Example   string    `json:"example,omitempty"`
	Allocated string    `json:"allocated,omitempty"`
	Path      []pathRow `json:"path,omitempty"`
}

func (d *heapDiff) json() *heapDiffJSON {
	j := &heapDiffJSON{
		Before: d.before.headJSON(), After: d.after.headJSON(), New: totalOf(d.d.New), Gone: totalOf(d.d.Gone), Survived: totalOf(d.d.Survived),
		Types: []growthJSON{}, Growth: []growthJSON{},
	}
	for _, g := range d.d.Types[:d.after.top(len(d.d.Types))] {
		j.Types = append(j.Types, growthJSON{Type: g.Type.String(), Bytes: g.Bytes(), Objects: g.Count(), New: totalOf(g.New), Gone: totalOf(g.Gone)})
	}
	for i := range d.d.Growth[:d.after.top(len(d.d.Growth))] {
		g := &d.d.Growth[i]
		of := d.after
		if g.Of == d.before.a {
			of = d.before
		}
		x := growthJSON{
			Type: g.Type.String(), Bytes: g.Bytes(), Objects: g.Count(), New: totalOf(g.New), Gone: totalOf(g.Gone), Keepers: g.Keepers,
			Example: of.addressOf(g.Example), Path: of.pathRows(g.Path()),
		}
		if g.Stack != 0 {
			x.Allocated = placeOf(g.Of.Snapshot.PlaceOf(g.Stack))
		}
		j.Growth = append(j.Growth, x)
	}
	return j
}
