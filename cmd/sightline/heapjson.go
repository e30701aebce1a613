package main

import (
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// A heapJSON is what heap --json prints: of what, and one of the views.
type heapJSON struct {
	Capture    store.ID            `json:"capture,omitempty"`
	PID        int                 `json:"pid,omitempty"`
	Command    string              `json:"command,omitempty"`
	Exe        string              `json:"exe,omitempty"`
	Go         string              `json:"go,omitempty"`
	Taken      *time.Time          `json:"taken,omitempty"`
	How        string              `json:"how,omitempty"`
	Stopped    int64               `json:"stopped"` // nanoseconds
	Live       totalJSON           `json:"live"`
	Garbage    totalJSON           `json:"garbage"`
	HeapAlloc  int64               `json:"heapAlloc,omitempty"`
	HeapLive   int64               `json:"heapLive,omitempty"`
	SampleRate int64               `json:"sampleRate"`
	Warnings   []warningJSON       `json:"warnings,omitempty"`
	Types      []heapTypeJSON      `json:"types,omitempty"`
	Tree       *branchJSON         `json:"tree,omitempty"`
	Paths      []heapPathJSON      `json:"paths,omitempty"`
	Sites      []heapSiteJSON      `json:"sites,omitempty"`
	Goroutines []heapGoroutineJSON `json:"goroutines,omitempty"`
	Waste      []heapWasteJSON     `json:"waste,omitempty"`
	Focus      *heapFocusJSON      `json:"focus,omitempty"`
}

type totalJSON struct {
	Objects int    `json:"objects"`
	Bytes   uint64 `json:"bytes"`
}

type heapTypeJSON struct {
	Type     string `json:"type"`
	Package  string `json:"package,omitempty"`
	Origin   string `json:"origin"`
	Objects  int    `json:"objects"`
	Bytes    uint64 `json:"bytes"`
	Retained uint64 `json:"retained,omitempty"`
	Example  string `json:"example"` // address
}

type branchJSON struct {
	Name      string        `json:"name"`
	Self      totalJSON     `json:"self"`
	Total     totalJSON     `json:"total"`
	Below     []*branchJSON `json:"below,omitempty"`
	Secondary []*branchJSON `json:"secondary,omitempty"`
	MinDepth  int           `json:"minDepth,omitempty"`
}

type heapPathJSON struct {
	Object   heapObjectJSON `json:"object"`
	Retained totalJSON      `json:"retained"`
	Steps    []pathRow      `json:"steps"`
}

type heapObjectJSON struct {
	Type    string `json:"type"`
	Address string `json:"address"`
	Bytes   uint64 `json:"bytes"`
	Live    bool   `json:"live"`
}

type heapSiteJSON struct {
	Func    string `json:"func"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
	Sampled int    `json:"sampled"`
	Type    string `json:"type"`
	Types   int    `json:"types"`
	Example string `json:"example"`
}

type heapGoroutineJSON struct {
	State      string    `json:"state"`
	Wait       string    `json:"wait,omitempty"`
	Func       string    `json:"func,omitempty"`
	File       string    `json:"file,omitempty"`
	Line       int       `json:"line,omitempty"`
	Created    string    `json:"created,omitempty"`
	Goroutines int       `json:"goroutines"`
	Longest    int64     `json:"longest,omitempty"` // nanoseconds
	Stacks     int64     `json:"stacks"`            // bytes
	Held       totalJSON `json:"held"`
	System     bool      `json:"system,omitempty"`
}

type heapWasteJSON struct {
	Kind    heap.WasteKind `json:"kind"`
	Type    string         `json:"type"`
	What    string         `json:"what,omitempty"`
	Holder  string         `json:"holder,omitempty"`
	Field   string         `json:"field,omitempty"`
	Objects int64          `json:"objects"`
	Bytes   int64          `json:"bytes"`
	Of      int64          `json:"of"`
	Example string         `json:"example,omitempty"`
}

type heapFocusJSON struct {
	Types    []string         `json:"types,omitempty"`
	Object   *heapObjectJSON  `json:"object,omitempty"`
	Retained totalJSON        `json:"retained"` // what would be free without
	Holders  []heapHolderJSON `json:"holders"`
	Fields   []heapFieldJSON  `json:"fields"`
	MadeOf   []heapTypeJSON   `json:"madeOf"`
	Paths    []heapPathJSON   `json:"paths"`
}

type heapHolderJSON struct {
	Holder   string `json:"holder"`
	Objects  int    `json:"objects"`
	Bytes    uint64 `json:"bytes"`
	Retained uint64 `json:"retained"`
}

type heapFieldJSON struct {
	Field    string    `json:"field"`
	Refers   totalJSON `json:"refers"`
	Retained totalJSON `json:"retained"`
}

func totalOf(t heap.Total) totalJSON { return totalJSON{t.Count, t.Bytes} }

func (v *heapView) headJSON() *heapJSON {
	i := &v.s.Info
	j := &heapJSON{
		Capture: v.in.id, PID: i.PID, Command: i.Command, Exe: i.Exe, Go: i.Go, How: i.How, Stopped: int64(i.Stopped), Live: totalOf(v.live), Garbage: totalOf(v.dead),
		HeapAlloc: i.HeapAlloc, HeapLive: i.HeapLive, SampleRate: i.SampleRate, Warnings: warningsToJSON(i.Warnings),
	}
	if !i.Taken.IsZero() {
		j.Taken = &i.Taken
	}
	return j
}

func (v *heapView) showJSON() error {
	j := v.headJSON()
	switch v.flags.view {
	case "types":
		rows := v.a.Types()
		j.Types = v.typesJSON(rows[:v.top(len(rows))])
	case "tree", "retained":
		top, err := v.branches()
		if err != nil {
			return err
		}
		j.Tree = branchToJSON(top, v.flags.depth, 0)
	case "paths":
		list := v.a.Accumulations(v.live.Bytes / 100)
		for _, id := range list[:v.top(len(list))] {
			j.Paths = append(j.Paths, v.pathJSON(id, v.a.Path(id)))
		}
	case "sites":
		rows := v.a.Sites()
		for _, r := range rows[:v.top(len(rows))] {
			j.Sites = append(j.Sites, heapSiteJSON{r.Place.Func, r.Place.File, r.Place.Line, r.Count, r.Bytes, r.Sampled, v.s.Types[r.Type].String(), r.Types, v.addressOf(r.Example)})
		}
	case "goroutines":
		rows := v.a.Goroutines()
		for _, r := range rows[:v.top(len(rows))] {
			g := &v.a.Graph.Groups[r.Group]
			x := heapGoroutineJSON{
				State: g.State, Wait: g.Wait, Func: g.Place.Func, File: g.Place.File, Line: g.Place.Line, Goroutines: len(g.Members), Longest: int64(g.Longest),
				Stacks: g.Stacks, Held: totalOf(r.Held), System: g.System,
			}
			if g.Created != (profile.Frame{}) {
				x.Created = placeOf(g.Created)
			}
			j.Goroutines = append(j.Goroutines, x)
		}
	case "waste":
		rows := v.s.WasteRows()
		for _, w := range rows[:v.top(len(rows))] {
			x := heapWasteJSON{Kind: w.Kind, Type: v.s.Types[w.Type].String(), What: w.What, Field: v.s.Fields[w.Field].Name, Objects: w.Count, Bytes: w.Bytes, Of: w.Of}
			if w.Holder != 0 {
				x.Holder = v.s.Types[w.Holder].String()
			}
			if w.Example != 0 {
				x.Example = v.addressOf(w.Example)
			}
			j.Waste = append(j.Waste, x)
		}
	}
	return writeJSON(v.out, j)
}

func (v *heapView) addressOf(id heap.ObjectID) string { return fmt.Sprintf("%#x", v.s.Address(id)) }

func (v *heapView) typesJSON(rows []heap.TypeRow) []heapTypeJSON {
	out := []heapTypeJSON{}
	for _, r := range rows {
		t := &v.s.Types[r.Type]
		out = append(out, heapTypeJSON{t.String(), t.Package, t.Origin.String(), r.Count, r.Bytes, r.Retained, v.addressOf(r.Example)})
	}
	return out
}

func branchToJSON(b *heap.Branch, most, depth int) *branchJSON {
	j := &branchJSON{Name: b.Name, Self: totalOf(b.Self), Total: totalOf(b.All)}
	if most > 0 && depth >= most {
		return j
	}
	for _, x := range b.Below {
		j.Below = append(j.Below, branchToJSON(x, most, depth+1))
	}
	for _, x := range b.Secondary {
		j.Secondary = append(j.Secondary, &branchJSON{Name: x.Name, Self: totalOf(x.Self), Total: totalOf(x.Self), MinDepth: x.MinDepth})
	}
	return j
}

func (v *heapView) objectJSON(id heap.ObjectID) heapObjectJSON {
	return heapObjectJSON{v.s.Types[v.s.TypeOf(id)].String(), v.addressOf(id), v.s.Size(id), v.a.Live(id)}
}

func (v *heapView) pathJSON(id heap.ObjectID, p heap.Path) heapPathJSON {
	bytes, count := v.a.Retained(id)
	return heapPathJSON{v.objectJSON(id), totalJSON{count, bytes}, v.pathRows(p)}
}

func (v *heapView) focusJSON(f *heapFocus) error {
	j := v.headJSON()
	of := f.of(v.s)
	set, rows := v.a.RetainedSet(of)
	x := &heapFocusJSON{Retained: totalOf(set), Holders: []heapHolderJSON{}, Fields: []heapFieldJSON{}, MadeOf: v.typesJSON(rows[:v.top(len(rows))]), Paths: []heapPathJSON{}}
	if f.object != 0 {
		o := v.objectJSON(f.object)
		x.Object = &o
	}
	for id := range v.s.Types {
		if f.types[heap.TypeID(id)] {
			x.Types = append(x.Types, v.s.Types[id].String())
		}
	}
	holders := v.a.Holders(of)
	for _, h := range holders[:v.top(len(holders))] {
		x.Holders = append(x.Holders, heapHolderJSON{v.holderName(&h), h.Count, h.Bytes, h.Retained})
	}
	for _, r := range v.a.Fields(of) {
		x.Fields = append(x.Fields, heapFieldJSON{v.s.Fields[r.Field].Name, totalOf(r.Direct), totalOf(r.Retained)})
	}
	example := v.example(f)
	if v.flags.view == "paths" {
		paths := v.a.Paths(example, 0)
		for _, p := range paths[:v.top(len(paths))] {
			x.Paths = append(x.Paths, v.pathJSON(example, p))
		}
	} else if v.a.Live(example) {
		x.Paths = append(x.Paths, v.pathJSON(example, v.a.Path(example)))
	}
	j.Focus = x
	return writeJSON(v.out, j)
}
