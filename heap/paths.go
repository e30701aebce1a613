package heap

import (
	"cmp"
	"slices"
)

// A Step is one node on the way from a root to an object.
type Step struct {
	Node NodeID // of Analysis.Tree.Graph: a root, then objects
	// Field is where the step before refers to this one: 0 for the root, and where it is not known.
	Field FieldID
}

// A Path is the way from a root to an object, the root first.
type Path []Step

// Referrers are the edges of a graph by where they lead: what leads to v is
// from[first[v]:first[v+1]], each as often as it does.
type referrers struct {
	first []uint32
	from  []NodeID
}

func newReferrers(g *Graph) *referrers {
	s, n := g.Snapshot, g.Len()
	r := &referrers{first: make([]uint32, n+1), from: make([]NodeID, len(s.outgoing.to)+len(g.to))}
	for _, w := range s.outgoing.to {
		r.first[w]++
	}
	for _, w := range g.to {
		r.first[w]++
	}
	sum := uint32(0)
	for i := range r.first {
		sum += r.first[i]
		r.first[i] = sum
	}
	// From the last node to the first, so that those that lead to one are in order.
	for v := n - 1; v >= 0; v-- {
		note := func(w NodeID) {
			r.first[w]--
			r.from[r.first[w]] = NodeID(v)
		}
		if g.Kind(NodeID(v)) == ObjectNode {
			for _, w := range g.objectEdges(NodeID(v)) {
				note(NodeID(w))
			}
		} else {
			for _, w := range g.aboveEdges(NodeID(v)) {
				note(w)
			}
		}
	}
	return r
}

func (r *referrers) of(v NodeID) []NodeID { return r.from[r.first[v]:r.first[v+1]] }

// Referrers are the objects and roots that refer to an object, once each, by id; dead ones too.
func (a *Analysis) Referrers(id ObjectID) []NodeID {
	return slices.Compact(slices.Clone(a.referrers().of(NodeID(id))))
}

// FieldTo is the first field through which one node refers to an object; 0 where it does not or the
// field is not known.
func (g *Graph) FieldTo(from NodeID, to ObjectID) FieldID {
	s := g.Snapshot
	search := func(targets []ObjectID, fields []FieldID) (FieldID, bool) {
		if i := slices.Index(targets, to); i >= 0 {
			return fields[i], true
		}
		return 0, false
	}
	if g.Kind(from) == ObjectNode {
		f, _ := search(s.References(ObjectID(from)))
		return f
	}
	for _, r := range g.Roots(from) {
		if f, ok := search(s.RootReferences(r)); ok {
			return f
		}
	}
	return 0
}

// Path is the way to an object in the tree: through what its priorities prefer. It is nil for dead
// objects.
func (a *Analysis) Path(id ObjectID) Path {
	if !a.Live(id) {
		return nil
	}
	var p Path
	g := a.Tree.Graph
	for v := NodeID(id); ; {
		up, _ := a.Tree.Parent(v)
		if g.Kind(v) == RootNode {
			p = append(p, Step{Node: v})
			break
		}
		p = append(p, Step{v, g.FieldTo(up, ObjectID(v))})
		v = up
	}
	slices.Reverse(p)
	return p
}

// Paths are ways from roots to an object: for each variable or other root from which it is reached, one
// of the shortest that does not lead through another root's. They are at most limit (0: all), those of
// roots that keep what they refer to first, then the shortest.
func (a *Analysis) Paths(id ObjectID, limit int) []Path {
	g, r := a.Tree.Graph, a.referrers()
	next := make(map[NodeID]NodeID) // towards the object
	next[NodeID(id)] = 0
	queue := []NodeID{NodeID(id)}
	var roots []NodeID
	for i := 0; i < len(queue); i++ {
		for _, v := range r.of(queue[i]) {
			if _, ok := next[v]; ok {
				continue
			}
			next[v] = queue[i]
			if g.Kind(v) == RootNode {
				roots = append(roots, v)
			} else if a.Live(ObjectID(v)) {
				queue = append(queue, v)
			}
		}
	}
	var paths []Path
	for _, root := range roots {
		p := Path{{Node: root}}
		for v := root; next[v] != 0; v = next[v] {
			p = append(p, Step{next[v], g.FieldTo(v, ObjectID(next[v]))})
		}
		paths = append(paths, p)
	}
	slices.SortStableFunc(paths, func(x, y Path) int {
		return cmp.Or(cmp.Compare(g.weakness(x[0].Node), g.weakness(y[0].Node)), cmp.Compare(len(x), len(y)))
	})
	if limit > 0 && len(paths) > limit {
		paths = paths[:limit]
	}
	return paths
}

// Weakness orders the kinds of roots by how much a person can do about them.
func (g *Graph) weakness(v NodeID) int {
	switch g.RootKind(v) {
	case Global:
		return 0
	case Local:
		return 1
	case StackWord, Register:
		return 2
	}
	return 3
}

// A Holder is what holds some objects: the type or the root that is their parent in the tree, and the
// field that refers to them.
type Holder struct {
	Type  TypeID // of the parent; 0 where it is a root or not known
	Root  NodeID // of Tree.Graph; 0 where the parent is an object
	Field FieldID
	Total
	// Retained is what each of them retains, together.
	Retained uint64
	Example  ObjectID // one of those that are held
}

// Holders are what holds some live objects, that which holds the most bytes first. Each object has one
// holder.
func (a *Analysis) Holders(of func(ObjectID) bool) []Holder {
	type key struct {
		kind  TypeID
		root  NodeID
		field FieldID
	}
	g, s := a.Tree.Graph, a.Snapshot
	at := map[key]*Holder{}
	counted := newBits(s.Len() + 1)
	// From the parents: what refers to a million objects is not searched for each of them.
	from := func(v NodeID, kind TypeID, root NodeID, to []ObjectID, fields []FieldID) {
		for i, id := range to {
			if a.Tree.parent[id] != v || counted.has(uint32(id)) || !of(id) {
				continue
			}
			counted.set(uint32(id))
			k := key{kind, root, fields[i]}
			h := at[k]
			if h == nil {
				h = &Holder{Type: k.kind, Root: k.root, Field: k.field, Example: id}
				at[k] = h
			}
			h.add(s.Size(id))
			bytes, _ := a.Retained(id)
			h.Retained += bytes
		}
	}
	for _, v := range a.Tree.Order[:a.Tree.dead] {
		if g.Kind(v) == ObjectNode {
			to, fields := s.References(ObjectID(v))
			from(v, s.TypeOf(ObjectID(v)), 0, to, fields)
			continue
		}
		for _, r := range g.Roots(v) {
			to, fields := s.RootReferences(r)
			from(v, 0, v, to, fields)
		}
	}
	var all []Holder
	for _, h := range at {
		all = append(all, *h)
	}
	slices.SortFunc(all, func(x, y Holder) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(y.Count, x.Count), cmp.Compare(x.Example, y.Example))
	})
	return all
}

// A FieldRow says what one field of some objects keeps.
type FieldRow struct {
	Field  FieldID
	Direct Total // objects that the field refers to, each once for each reference
	// Retained is what would be free if the field were nil in all of them.
	Retained Total
}

// MostFields is how many fields Fields looks at.
const MostFields = 24

// Fields say which field of some live objects retains how much, that which retains the most first. It
// looks at those that refer to the most bytes.
func (a *Analysis) Fields(of func(ObjectID) bool) []FieldRow {
	s := a.Snapshot
	in := newBits(s.Len() + 1)
	direct := map[FieldID]*FieldRow{}
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		if !a.Live(id) || !of(id) {
			continue
		}
		in.set(uint32(id))
		to, fields := s.References(id)
		for i, f := range fields {
			row := direct[f]
			if row == nil {
				row = &FieldRow{Field: f}
				direct[f] = row
			}
			row.Direct.add(s.Size(to[i]))
		}
	}
	var rows []FieldRow
	for _, row := range direct {
		rows = append(rows, *row)
	}
	slices.SortFunc(rows, func(x, y FieldRow) int {
		return cmp.Or(cmp.Compare(y.Direct.Bytes, x.Direct.Bytes), cmp.Compare(x.Field, y.Field))
	})
	rows = rows[:min(len(rows), MostFields)]
	first, field := s.outgoing.first, s.outgoing.field
	for k := range rows {
		row := &rows[k]
		seen := a.Graph.reached(nil, func(from ObjectID, i int) bool {
			return in.has(uint32(from)) && field[int(first[from])+i] == row.Field
		})
		for id := ObjectID(1); int(id) <= s.Len(); id++ {
			if a.Live(id) && !seen.has(uint32(id)) {
				row.Retained.add(s.Size(id))
			}
		}
	}
	slices.SortStableFunc(rows, func(x, y FieldRow) int { return cmp.Compare(y.Retained.Bytes, x.Retained.Bytes) })
	return rows
}

// Accumulations are the live objects in which much comes together, that which retains the most first:
// each retains least bytes or more, and what it dominates directly has no object that retains three
// quarters of that. What an object of the same type dominates directly is a part of that: a link of a
// list, a table of a map.
func (a *Analysis) Accumulations(least uint64) []ObjectID {
	d, s := a.Dominators, a.Snapshot
	passes := map[NodeID]bool{} // to something of another type
	var large []NodeID
	for _, v := range d.order {
		if v == 0 || d.Retained(v) < max(least, 1) {
			continue
		}
		large = append(large, v)
		p := d.Parent(v)
		if a.Graph.Kind(v) == ObjectNode && a.Graph.Kind(p) == ObjectNode && s.TypeOf(ObjectID(v)) != s.TypeOf(ObjectID(p)) && d.Retained(v) >= d.Retained(p)/4*3 {
			passes[p] = true
		}
	}
	var out []ObjectID
	for _, v := range large {
		if a.Graph.Kind(v) != ObjectNode || passes[v] {
			continue
		}
		p := d.Parent(v)
		if a.Graph.Kind(p) == ObjectNode && s.TypeOf(ObjectID(p)) == s.TypeOf(ObjectID(v)) {
			continue
		}
		out = append(out, ObjectID(v))
	}
	slices.SortStableFunc(out, func(x, y ObjectID) int {
		return cmp.Compare(d.Retained(NodeID(y)), d.Retained(NodeID(x)))
	})
	return out
}
