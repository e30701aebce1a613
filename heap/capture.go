package heap

import (
	"math"
	"path/filepath"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The kinds of series of a heap's capture.
const (
	RetainedKind   profile.Kind = "retained"    // live objects on the way from the top down the dominators
	TreeKind       profile.Kind = "tree"        // all objects on their way in the tree, dead ones too
	AllocatedKind               = profile.InUse // live objects on the stacks that allocated them, estimated from sampled ones
	GoroutinesKind profile.Kind = "goroutines"  // goroutines on their stacks, with the bytes that only they hold
)

// Capture makes weighted stacks of a heap, so that what shows stacks shows it: bytes and objects, each
// series of one of the kinds above. Series without samples are left out, but not TreeKind. It is an
// imported capture, and passes Check.
//
// Objects of one type that keep each other in a row, such as the links of a list, are one frame: so is
// a row of types that comes again and again. A stack has at most maxDepth frames.
func (a *Analysis) Capture() *profile.Capture {
	s := a.Snapshot
	target := profile.Target{PID: s.Info.PID}
	if s.Info.PID == 0 || s.Info.How == "core" {
		target = profile.Target{Command: []string{"heap", "of", valid(s.Info.name())}}
	}
	c := profile.NewCapture(target, s.Info.Taken)
	c.Imported, c.Engine = true, "sightline heap"
	for _, w := range s.Info.Warnings {
		c.Warn(w.Kind, w.Count, valid(w.Text))
	}
	b := &captureBuilder{
		capture: c, frames: map[profile.Frame]profile.LocationID{}, types: make([]profile.LocationID, len(s.Types)),
		stacks: make([]profile.StackID, s.Stacks.Len()),
	}
	c.Symbols.Frames, c.Symbols.Of = make([]profile.Frame, 1), make([][]profile.FrameID, 1)
	c.Tasks = append(c.Tasks, profile.Task{PID: s.Info.PID, TID: s.Info.PID, Comm: valid(s.Info.Command)})
	b.retained(a)
	b.tree(a)
	b.allocated(a)
	b.goroutines(a)
	return c
}

// Name is what a person calls the program.
func (i *Info) name() string {
	if i.Command != "" {
		return i.Command
	}
	return filepath.Base(i.Exe)
}

func valid(text string) string { return strings.ToValidUTF8(text, "�") }

// MaxDepth is how many frames a stack of objects has at most: what is deeper counts at the last.
const maxDepth = 200

type captureBuilder struct {
	capture *profile.Capture
	frames  map[profile.Frame]profile.LocationID
	types   []profile.LocationID // of types, where they are known
	stacks  []profile.StackID    // of the snapshot's stacks, where they are known
}

func (b *captureBuilder) place(f profile.Frame) profile.LocationID {
	f.Func, f.File, f.Module = valid(f.Func), valid(f.File), valid(f.Module)
	id, ok := b.frames[f]
	if !ok {
		c := b.capture
		id = profile.LocationID(len(c.Locations))
		c.Locations = append(c.Locations, profile.Location{})
		c.Symbols.Frames = append(c.Symbols.Frames, f)
		c.Symbols.Of = append(c.Symbols.Of, []profile.FrameID{profile.FrameID(len(c.Symbols.Frames) - 1)})
		b.frames[f] = id
	}
	return id
}

// Node is the frame of a graph's node; 0 for those that have none.
func (b *captureBuilder) node(g *Graph, v NodeID) profile.LocationID {
	s := g.Snapshot
	switch g.Kind(v) {
	case TopNode, GoroutineNode: // thousands of goroutines are told apart by their place only
		return 0
	case ObjectNode:
		k := s.TypeOf(ObjectID(v))
		if b.types[k] == 0 {
			t := &s.Types[k]
			b.types[k] = b.place(profile.Frame{Func: t.String(), Module: t.Origin.moduleName(), File: t.File, Line: t.Line})
		}
		return b.types[k]
	case RootNode:
		module, name, ok := strings.Cut(g.FullName(v), "!")
		if !ok {
			module, name = "", module
		}
		r := &s.Roots[g.Roots(v)[0]]
		return b.place(profile.Frame{Func: name, Module: module, File: r.File, Line: r.Line})
	}
	return b.place(profile.Frame{Func: g.Name(v)})
}

// Deeper is the stack with a frame more, but for what comes again: a frame behind the same one, or a
// row of frames behind the same row, leads back to the first of both.
func (b *captureBuilder) deeper(stack profile.StackID, depth uint32, frame profile.LocationID) (profile.StackID, uint32) {
	if frame == 0 {
		return stack, depth
	}
	stacks := b.capture.Stacks
	const longest = 8
	// Where frame, as the end of a row of n, would complete the row's second time, the stack n-1 frames
	// up already has it at its end.
	var last [2 * longest]profile.LocationID
	n := 0
	for at := stack; at != 0 && n < len(last); at = stacks.Parent(at) {
		last[n] = stacks.Leaf(at)
		n++
	}
	back := stack
	for row := 1; row <= longest && 2*row-1 <= n; row++ {
		if last[row-1] == frame {
			again := true
			for i := range row - 1 {
				again = again && last[i] == last[i+row]
			}
			if again {
				for range row - 1 {
					back = stacks.Parent(back)
				}
				return back, depth - uint32(row-1)
			}
		}
	}
	if depth >= maxDepth {
		return stack, depth
	}
	return stacks.Intern(stack, frame), depth + 1
}

// A sums collects what stacks weigh.
type sums struct {
	weight, count []int64
}

func (x *sums) add(id profile.StackID, weight, count int64) {
	for int(id) >= len(x.weight) {
		x.weight, x.count = append(x.weight, 0), append(x.count, 0)
	}
	x.weight[id] += weight
	x.count[id] += count
}

func (b *captureBuilder) series(kind profile.Kind, x *sums, always bool) {
	series := profile.Series{Kind: kind, Unit: profile.Bytes}
	for id, count := range x.count {
		if count > 0 {
			series.Samples.Append(profile.Sample{Stack: profile.StackID(id), Task: 1, Weight: x.weight[id], Count: count})
		}
	}
	if always || series.Samples.Len() > 0 {
		b.capture.Series = append(b.capture.Series, series)
	}
}

func (b *captureBuilder) retained(a *Analysis) {
	g, d := a.Graph, a.Dominators
	stack, depth := make([]profile.StackID, g.Len()), make([]uint32, g.Len())
	var x sums
	for v := range d.InOrder {
		up := d.Parent(v)
		stack[v], depth[v] = b.deeper(stack[up], depth[up], b.node(g, v))
		if g.Kind(v) == ObjectNode {
			x.add(stack[v], int64(g.Size(v)), 1)
		}
	}
	b.series(RetainedKind, &x, false)
}

func (b *captureBuilder) tree(a *Analysis) {
	t, g := a.Tree, a.Tree.Graph
	stack, depth := make([]profile.StackID, g.Len()), make([]uint32, g.Len())
	dead := b.capture.Stacks.Intern(0, b.place(profile.Frame{Func: NotReachable}))
	var x sums
	for _, v := range t.Order {
		up, ok := t.Parent(v)
		from, length := stack[up], depth[up]
		if !ok && v != 0 {
			from, length = dead, 1
		}
		stack[v], depth[v] = b.deeper(from, length, b.node(g, v))
		if g.Kind(v) == ObjectNode {
			x.add(stack[v], int64(g.Size(v)), 1)
		}
	}
	b.series(TreeKind, &x, true)
}

// Own is the capture's stack of one of the snapshot's, behind what is given.
func (b *captureBuilder) own(s *Snapshot, id profile.StackID) profile.StackID {
	if id == 0 || b.stacks[id] != 0 {
		return b.stacks[id]
	}
	// Parents have lesser ids: all that are missing are made from the outermost on.
	var path []profile.StackID
	for ; id != 0 && b.stacks[id] == 0; id = s.Stacks.Parent(id) {
		path = append(path, id)
	}
	stack := b.stacks[id]
	for i := len(path) - 1; i >= 0; i-- {
		stack = b.capture.Stacks.Intern(stack, b.place(s.Frames[s.Stacks.Leaf(path[i])]))
		b.stacks[path[i]] = stack
	}
	return stack
}

func (b *captureBuilder) allocated(a *Analysis) {
	s := a.Snapshot
	weight, count := make([]float64, s.Stacks.Len()), make([]float64, s.Stacks.Len())
	for _, x := range s.Sampled {
		if a.Live(x.Object) {
			weight[x.Stack] += x.Bytes
			count[x.Stack] += x.Count
		}
	}
	var x sums
	for id := range weight {
		if count[id] > 0 {
			x.add(b.own(s, profile.StackID(id)), int64(math.Round(weight[id])), max(1, int64(math.Round(count[id]))))
		}
	}
	b.series(AllocatedKind, &x, false)
}

func (b *captureBuilder) goroutines(a *Analysis) {
	s, g := a.Snapshot, a.Graph
	held := make([]uint64, len(s.Goroutines))
	for v := s.Len() + 1; v < g.Len(); v++ {
		if g.Kind(NodeID(v)) == GoroutineNode {
			held[g.Goroutine(NodeID(v))] = a.Dominators.Retained(NodeID(v))
		}
	}
	var x sums
	for id := 1; id < len(s.Goroutines); id++ {
		x.add(b.own(s, s.Goroutines[id].Stack), int64(held[id]), 1)
	}
	b.series(GoroutinesKind, &x, false)
}
