package heap

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Branch is a node of a tree as people read it: all objects of one type that are kept in the same
// way, or roots of one name.
type Branch struct {
	Name string // with whose it is before it: "std!net/http.conn"; "[root]" of the whole
	// Self are its own objects, All with those of all branches below.
	Self, All Total
	Below     []*Branch // the most bytes first
	// Secondary are what its objects refer to and is not below it, since something else keeps it: by
	// MinDepth, then name. They have only Self.
	Secondary []*Branch
	// MinDepth is, of a secondary branch, how far from the top the nearest of its objects is.
	MinDepth int
	Example  ObjectID // one of its own objects; 0 where it has none
}

// BranchOptions say how branches are made. The zero value makes all there are.
type BranchOptions struct {
	// Fold leaves out branches below this share of the whole: their objects count for the one above.
	Fold float64
	// FoldNames are the types that count for what refers to them, in the way of priorities: a list of
	// patterns with semicolons between. DefaultFold is what people want.
	FoldNames string
	// Secondary adds the references that are not the tree's.
	Secondary bool
}

// DefaultFold are strings, arrays and what boxes a value: they are read as a part of what holds them.
const DefaultFold = "@^(string|\\[\\].*|\\*?u?int(8|16|32|64)?|float(32|64)|bool)$"

// Branches are the tree by priorities, dead objects under NotReachable.
func (a *Analysis) Branches(o BranchOptions) (*Branch, error) {
	t := a.Tree
	return a.branches(o, t.Graph, func(yield func(v, parent NodeID, dead bool)) {
		for _, v := range t.Order {
			up, ok := t.Parent(v)
			yield(v, up, !ok && v != 0)
		}
	})
}

// RetainedBranches are the tree of dominators: below each branch what goes with it.
func (a *Analysis) RetainedBranches(o BranchOptions) (*Branch, error) {
	o.Secondary = false
	return a.branches(o, a.Graph, func(yield func(v, parent NodeID, dead bool)) {
		for v := range a.Dominators.InOrder {
			yield(v, a.Dominators.Parent(v), false)
		}
	})
}

func (a *Analysis) branches(o BranchOptions, g *Graph, walk func(func(v, parent NodeID, dead bool))) (*Branch, error) {
	var fold Priorities
	for p := range strings.SplitSeq(o.FoldNames, ";") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		re, err := compilePattern(p)
		if err != nil {
			return nil, err
		}
		fold.rules = append(fold.rules, priorityRule{p, 1, re})
	}
	s := a.Snapshot
	folded := make([]bool, len(s.Types))
	for i := range folded {
		_, folded[i] = fold.rule(s.Types[i].FullName())
	}
	b := &captureBuilder{
		capture: &profile.Capture{Locations: make([]profile.Location, 1), Stacks: profile.NewStacks[profile.LocationID]()},
		frames:  map[profile.Frame]profile.LocationID{}, types: make([]profile.LocationID, len(s.Types)),
	}
	b.capture.Symbols.Frames = make([]profile.Frame, 1)
	// Stacks as of a capture; those of folded objects are what keeps them.
	stack, depth := make([]profile.StackID, g.Len()), make([]uint32, g.Len())
	steps := make([]uint32, g.Len()) // from the top
	var x sums
	var example []ObjectID
	x.add(0, 0, 0)
	dead := profile.StackID(0)
	walk(func(v, up NodeID, orphan bool) {
		from, length := stack[up], depth[up]
		if orphan {
			if dead == 0 {
				dead = b.capture.Stacks.Intern(0, b.place(profile.Frame{Func: NotReachable}))
			}
			from, length = dead, 1
			steps[v] = 1
		} else if v != 0 {
			steps[v] = steps[up] + 1
		}
		object := g.Object(v)
		if object != 0 && folded[s.TypeOf(object)] && from != 0 {
			stack[v], depth[v] = from, length
		} else {
			stack[v], depth[v] = b.deeper(from, length, b.node(g, v))
		}
		if object != 0 {
			x.add(stack[v], int64(g.Size(v)), 1)
			for len(example) < len(x.weight) {
				example = append(example, 0)
			}
			if example[stack[v]] == 0 {
				example[stack[v]] = object
			}
		}
	})
	parents, leaves := b.capture.Stacks.Columns()
	for len(x.weight) < len(parents) {
		x.add(profile.StackID(len(x.weight)), 0, 0)
	}
	example = append(example, make([]ObjectID, len(parents)-len(example))...)
	rows := make([]*Branch, len(parents))
	for id := range parents {
		name := "[root]"
		if id > 0 {
			f := &b.capture.Symbols.Frames[leaves[id]]
			name = f.Func
			if f.Module != "" {
				name = f.Module + "!" + name
			}
		}
		self := Total{int(x.count[id]), uint64(x.weight[id])}
		rows[id] = &Branch{Name: name, Self: self, All: self, Example: example[id]}
	}
	for id := len(rows) - 1; id > 0; id-- {
		up := rows[parents[id]]
		up.All.Count, up.All.Bytes = up.All.Count+rows[id].All.Count, up.All.Bytes+rows[id].All.Bytes
	}
	least := o.Fold * float64(rows[0].All.Bytes)
	for id := len(rows) - 1; id > 0; id-- {
		// What is above is at least as large, so that folding ends at a branch that stays.
		if r := rows[id]; float64(r.All.Bytes) < least || r.All.Count == 0 {
			up := rows[parents[id]]
			up.Self.Count, up.Self.Bytes = up.Self.Count+r.Self.Count, up.Self.Bytes+r.Self.Bytes
			rows[id] = nil
		}
	}
	for id := 1; id < len(rows); id++ {
		if rows[id] != nil {
			up := rows[parents[id]]
			up.Below = append(up.Below, rows[id])
		}
	}
	if o.Secondary {
		a.secondary(g, rows, parents, stack, steps)
	}
	for _, r := range rows {
		if r != nil {
			slices.SortStableFunc(r.Below, func(x, y *Branch) int {
				return cmp.Or(cmp.Compare(y.All.Bytes, x.All.Bytes), cmp.Compare(y.All.Count, x.All.Count), cmp.Compare(x.Name, y.Name))
			})
		}
	}
	return rows[0], nil
}

// Secondary adds to each branch what its objects refer to and is not below it.
func (a *Analysis) secondary(g *Graph, rows []*Branch, parents, stack []profile.StackID, steps []uint32) {
	s := a.Snapshot
	// The branch that a stack is read as: its own, or the nearest that was not folded.
	shown := make([]profile.StackID, len(rows))
	for id := 1; id < len(rows); id++ {
		if shown[id] = profile.StackID(id); rows[id] == nil {
			shown[id] = shown[parents[id]]
		}
	}
	type key struct {
		branch profile.StackID
		kind   TypeID
	}
	type pair struct {
		branch profile.StackID
		object ObjectID
	}
	at := map[key]*Branch{}
	seen := map[pair]bool{}
	names := make([]string, len(s.Types))
	for i := range names {
		names[i] = s.Types[i].FullName()
	}
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		branch := shown[stack[id]]
		if branch == 0 {
			continue
		}
		for _, w := range g.objectEdges(NodeID(id)) {
			to := shown[stack[w]]
			if to == branch || shown[parents[to]] == branch && to != 0 || seen[pair{branch, w}] {
				continue
			}
			seen[pair{branch, w}] = true
			k := key{branch, s.TypeOf(w)}
			x, ok := at[k]
			if !ok {
				r, name := rows[branch], names[k.kind]
				if name != r.Name && !slices.ContainsFunc(r.Below, func(b *Branch) bool { return b.Name == name }) {
					x = &Branch{Name: name, MinDepth: int(steps[w]), Example: w}
					r.Secondary = append(r.Secondary, x)
				}
				at[k] = x
			}
			if x == nil {
				continue // it is the branch's own type, or one of those below it
			}
			x.Self.add(s.Size(w))
			x.MinDepth = min(x.MinDepth, int(steps[w]))
		}
	}
	for _, r := range rows {
		if r != nil {
			slices.SortFunc(r.Secondary, func(x, y *Branch) int {
				return cmp.Or(cmp.Compare(x.MinDepth, y.MinDepth), cmp.Compare(x.Name, y.Name))
			})
		}
	}
}
