package heap

import (
	"cmp"
	"slices"
)

// A NodeID is a node of a Graph: 0 is the root of all, 1 to Snapshot.Len() are the objects under their
// own ids, and what follows are groups of roots and the roots.
type NodeID uint32

// A NodeKind says what a node stands for.
type NodeKind uint8

// The kinds of node.
const (
	TopNode       NodeKind = iota // the root of all
	ObjectNode                    // an object
	KindNode                      // all roots of one kind, or all goroutines
	PlaceNode                     // the goroutines of one GoroutineGroup
	GoroutineNode                 // the roots of one goroutine
	RootNode                      // the roots of one kind, name and goroutine
)

// A Graph is a snapshot with its roots made nodes, so that what a variable, a goroutine or a group of
// goroutines holds can be asked as of any object. Roots of no goroutine hang under their kind:
//
//	top → [globals] → main.reg → objects
//
// and those of goroutines under these, grouped by state and place:
//
//	top → [goroutines] → 1,000 in main.worker, chan receive → goroutine 7 → main.worker.scratch → objects
//
// A Graph is read-only and safe for any number of goroutines.
type Graph struct {
	Snapshot *Snapshot
	// Groups are the goroutines by state and place, as GroupGoroutines has them.
	Groups []GoroutineGroup

	above []aboveNode // the nodes behind the objects
	other string      // name of the KindNode whose roots are of several kinds
	// first and to are the edges of node 0, then of each of above, as in references.
	first []uint32
	to    []NodeID
	// merged are the roots that each node of kind RootNode stands for, by of.
	merged []RootID
}

// An aboveNode is a group of roots, or a root.
type aboveNode struct {
	kind      NodeKind
	root      RootKind    // of KindNode (0: of several) and RootNode
	name      string      // of RootNode
	group     int         // of PlaceNode: into Graph.Groups
	goroutine GoroutineID // of GoroutineNode and RootNode
	parent    NodeID
	merged    [2]uint32 // of RootNode: range of Graph.merged
}

// Pseudo-frames that stand for no single kind of root: what goroutines hold, and what variables hold of
// those that have waited for BlockedLong or longer.
const (
	GoroutinesName = "[goroutines]"
	StuckName      = "[stuck goroutines]"
)

// NewGraph makes a snapshot's graph. It costs no more than the roots do: the references of objects are
// the snapshot's own.
func NewGraph(s *Snapshot) *Graph {
	g := &Graph{Snapshot: s, Groups: groupGoroutines(s), other: GoroutinesName}
	groupOf := make([]int, len(s.Goroutines))
	for i := range g.Groups {
		for _, id := range g.Groups[i].Members {
			groupOf[id] = i
		}
	}
	places := make([]rootPlace, len(s.Roots))
	for id := 1; id < len(s.Roots); id++ {
		r := &s.Roots[id]
		places[id] = rootPlace{kind: r.Kind, group: -1}
		if r.Goroutine != 0 {
			places[id] = rootPlace{group: groupOf[r.Goroutine], goroutine: r.Goroutine}
		}
	}
	g.arrange(places)
	return g
}

// NewNamedGraph makes a snapshot's graph with the roots by kind and name only, whosever they are:
//
//	top → [local vars] → main.worker.scratch → objects
//
// Variables of goroutines that have waited for BlockedLong or longer hang under StuckName.
func newNamedGraph(s *Snapshot) *Graph {
	g := &Graph{Snapshot: s, other: StuckName}
	places := make([]rootPlace, len(s.Roots))
	for id := 1; id < len(s.Roots); id++ {
		r := &s.Roots[id]
		places[id] = rootPlace{kind: r.Kind, group: -1}
		// Words of a stack that are in no variable may be left from before: they stay where they are.
		if x := &s.Goroutines[r.Goroutine]; r.Kind == Local && x.Blocked >= BlockedLong && !x.System {
			places[id].kind = 0
		}
	}
	g.arrange(places)
	return g
}

// A rootPlace is under which nodes a root hangs.
type rootPlace struct {
	kind      RootKind
	group     int // -1: none
	goroutine GoroutineID
}

// Arrange makes the nodes above the objects.
func (g *Graph) arrange(places []rootPlace) {
	s := g.Snapshot
	add := func(n aboveNode) NodeID {
		g.above = append(g.above, n)
		return NodeID(s.Len() + len(g.above))
	}
	order := make([]RootID, 0, len(s.Roots))
	for id := 1; id < len(s.Roots); id++ {
		order = append(order, RootID(id))
	}
	compare := func(x, y RootID) int {
		a, b := &places[x], &places[y]
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.goroutine, b.goroutine), cmp.Compare(a.kind, b.kind),
			cmp.Compare(s.Roots[x].Kind, s.Roots[y].Kind), cmp.Compare(s.Roots[x].Name, s.Roots[y].Name))
	}
	slices.SortStableFunc(order, compare)
	g.merged = order
	var kinds [rootKinds]NodeID
	var place, goroutine NodeID
	for i, id := range order {
		r, p := &s.Roots[id], &places[id]
		if i > 0 && compare(order[i-1], id) == 0 {
			g.above[len(g.above)-1].merged[1]++
			continue
		}
		if kinds[p.kind] == 0 {
			kinds[p.kind] = add(aboveNode{kind: KindNode, root: p.kind})
		}
		parent := kinds[p.kind]
		if p.group >= 0 {
			if place == 0 || g.node(place).group != p.group {
				place = add(aboveNode{kind: PlaceNode, group: p.group, parent: parent})
				goroutine = 0
			}
			if goroutine == 0 || g.node(goroutine).goroutine != p.goroutine {
				goroutine = add(aboveNode{kind: GoroutineNode, goroutine: p.goroutine, parent: place})
			}
			parent = goroutine
		}
		add(aboveNode{kind: RootNode, root: r.Kind, name: r.Name, goroutine: p.goroutine, parent: parent, merged: [2]uint32{uint32(i), uint32(i + 1)}})
	}
	g.connect()
}

// Connect makes the edges of the nodes that are no objects.
func (g *Graph) connect() {
	n, s := len(g.above), g.Snapshot
	base := s.Len()
	g.first = make([]uint32, n+2)
	slot := func(v NodeID) uint32 { // in first
		if v == 0 {
			return 0
		}
		return uint32(v) - uint32(base)
	}
	for i := range g.above {
		a := &g.above[i]
		g.first[slot(a.parent)+1]++
		for _, r := range g.merged[a.merged[0]:a.merged[1]] {
			to, _ := s.RootReferences(r)
			g.first[i+2] += uint32(len(to))
		}
	}
	for i := 1; i < len(g.first); i++ {
		g.first[i] += g.first[i-1]
	}
	g.to = make([]NodeID, g.first[n+1])
	next := slices.Clone(g.first[:n+1])
	for i := range g.above {
		a := &g.above[i]
		up := slot(a.parent)
		g.to[next[up]] = NodeID(base + i + 1)
		next[up]++
		for _, r := range g.merged[a.merged[0]:a.merged[1]] {
			to, _ := s.RootReferences(r)
			for _, x := range to {
				g.to[next[i+1]] = NodeID(x)
				next[i+1]++
			}
		}
	}
}

func (g *Graph) node(v NodeID) *aboveNode { return &g.above[int(v)-g.Snapshot.Len()-1] }

// Len is the number of nodes; ids are below it.
func (g *Graph) Len() int { return 1 + g.Snapshot.Len() + len(g.above) }

// Kind is what a node stands for.
func (g *Graph) Kind(v NodeID) NodeKind {
	switch {
	case v == 0:
		return TopNode
	case int(v) <= g.Snapshot.Len():
		return ObjectNode
	}
	return g.node(v).kind
}

// Object is the object that a node stands for; 0 where it is none.
func (g *Graph) Object(v NodeID) ObjectID {
	if int(v) <= g.Snapshot.Len() {
		return ObjectID(v)
	}
	return 0
}

// Parent is the node above a group or a root; 0 for others.
func (g *Graph) Parent(v NodeID) NodeID {
	if int(v) <= g.Snapshot.Len() {
		return 0
	}
	return g.node(v).parent
}

// Roots are the roots that a node of kind RootNode stands for.
func (g *Graph) Roots(v NodeID) []RootID {
	if g.Kind(v) != RootNode {
		return nil
	}
	m := g.node(v).merged
	return g.merged[m[0]:m[1]:m[1]]
}

// GroupOf is which of Groups a node of kind PlaceNode stands for; -1 for others.
func (g *Graph) GroupOf(v NodeID) int {
	if g.Kind(v) != PlaceNode {
		return -1
	}
	return g.node(v).group
}

// Goroutine is whose roots a node is of; 0 where they are of none or of many.
func (g *Graph) Goroutine(v NodeID) GoroutineID {
	if int(v) <= g.Snapshot.Len() {
		return 0
	}
	return g.node(v).goroutine
}

// RootKind is of what kind the roots are that a node stands for; 0 where they are of several.
func (g *Graph) RootKind(v NodeID) RootKind {
	if int(v) <= g.Snapshot.Len() {
		return 0
	}
	return g.node(v).root
}

// Size is what a node itself takes of the heap: 0 for those that are no objects.
func (g *Graph) Size(v NodeID) uint64 {
	if v == 0 || int(v) > g.Snapshot.Len() {
		return 0
	}
	return g.Snapshot.Size(ObjectID(v))
}

// ObjectEdges and aboveEdges are where the edges of a node lead; see Edges.
func (g *Graph) objectEdges(v NodeID) []ObjectID {
	r := &g.Snapshot.outgoing
	return r.to[r.first[v]:r.first[v+1]]
}

func (g *Graph) aboveEdges(v NodeID) []NodeID {
	i := uint32(0)
	if v != 0 {
		i = uint32(v) - uint32(g.Snapshot.Len())
	}
	return g.to[g.first[i]:g.first[i+1]]
}

// Edges calls yield with each node that one leads to, as often as it does, in the order of its fields,
// until yield says false.
func (g *Graph) Edges(v NodeID, yield func(NodeID) bool) {
	if g.Kind(v) == ObjectNode {
		for _, w := range g.objectEdges(v) {
			if !yield(NodeID(w)) {
				return
			}
		}
		return
	}
	for _, w := range g.aboveEdges(v) {
		if !yield(w) {
			return
		}
	}
}

// Name is what a node is called: the type of an object, the name of a root or, where it has none, its
// kind, "goroutine 7", "3 goroutines in main.worker, chan receive".
func (g *Graph) Name(v NodeID) string {
	switch g.Kind(v) {
	case TopNode:
		return "[root]"
	case ObjectNode:
		return g.Snapshot.Types[g.Snapshot.TypeOf(ObjectID(v))].String()
	}
	n := g.node(v)
	switch n.kind {
	case KindNode:
		if n.root == 0 {
			return g.other
		}
		return n.root.String()
	case PlaceNode:
		return g.Groups[n.group].Name()
	case GoroutineNode:
		return g.Snapshot.Goroutines[n.goroutine].Name()
	}
	if n.name == "" {
		return n.root.String()
	}
	return n.name
}
