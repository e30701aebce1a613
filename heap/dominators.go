package heap

import "sync"

// Dominators say of each node what must be gone for it to be free: its immediate dominator is the
// nearest node that every path from the roots to it goes through. With a node goes all that it
// dominates, which is what it retains.
//
// They are read-only.
type Dominators struct {
	Graph *Graph

	parent []NodeID // the immediate dominator; noNode where the node is dead
	// order has the live nodes, each behind its dominator, but those that are single: they retain
	// themselves only, and follow.
	order    []NodeID
	marks    []byte
	retained []uint64 // bytes; of those in order
	count    []uint32 // objects, as retained
}

const noNode = NodeID(1<<32 - 1)

// Live says whether a node is reachable from the roots.
func (d *Dominators) Live(v NodeID) bool { return d.parent[v] != noNode }

// Parent is the immediate dominator of a node; 0 for node 0 and for dead nodes.
func (d *Dominators) Parent(v NodeID) NodeID {
	if p := d.parent[v]; p != noNode {
		return p
	}
	return 0
}

// Retained is what the node and all that it dominates take of the heap: the bytes that would be free
// without it. It is 0 for dead nodes.
func (d *Dominators) Retained(v NodeID) uint64 {
	if d.marks[v] == single && d.Live(v) {
		return d.Graph.Size(v)
	}
	return d.retained[v]
}

// RetainedCount is how many objects the node dominates, with itself where it is one.
func (d *Dominators) RetainedCount(v NodeID) int {
	if d.marks[v] == single && d.Live(v) {
		return 1
	}
	return int(d.count[v])
}

// InOrder calls yield with every live node, each behind its dominator, until yield says false.
func (d *Dominators) InOrder(yield func(NodeID) bool) {
	for _, v := range d.order {
		if !yield(v) {
			return
		}
	}
	for v, m := range d.marks {
		if v := NodeID(v); m == single && d.Live(v) && !yield(v) {
			return
		}
	}
}

// Marks of nodes while dominators are found.
const (
	referred = 1 << iota       // a reference leads here
	shared                     // more than one does
	leaf                       // no reference starts here
	single   = referred | leaf // of objects only
)

// NewDominators finds the dominators of all nodes that are reachable from the roots, and what each
// retains. The algorithm is that of Lengauer and Tarjan ("A Fast Algorithm for Finding Dominators in a
// Flowgraph", TOPLAS 1979) with path compression, O(m log n); objects without references that one
// reference leads to, which are most of a heap, are left out of it: what refers to them dominates them.
func NewDominators(g *Graph) *Dominators {
	n := g.Len()
	d := &Dominators{Graph: g, marks: g.marks(), retained: make([]uint64, n), count: make([]uint32, n), parent: make([]NodeID, n)}
	f := newFlow(g, d.marks)
	f.dominate()
	for v := range d.parent {
		d.parent[v] = noNode
	}
	for i, v := range f.vertex {
		d.parent[v] = f.vertex[f.dominator[i]]
	}
	d.order = f.vertex
	d.own()
	for i := len(d.order) - 1; i > 0; i-- {
		v, p := d.order[i], d.order[f.dominator[i]]
		d.retained[p] += d.retained[v]
		d.count[p] += d.count[v]
	}
	return d
}

// Own finds the dominators of what is marked single, and what each node retains but for those that the
// flow is of.
func (d *Dominators) own() {
	g, s := d.Graph, d.Graph.Snapshot
	part := func(from, to NodeID) { // of the objects
		for v := from; v < to; v++ {
			if d.marks[v] == single || !d.Live(v) {
				continue
			}
			bytes, count := s.Size(ObjectID(v)), uint32(1)
			for _, w := range g.objectEdges(v) {
				if d.marks[w] == single {
					d.parent[w] = v
					bytes += s.Size(w)
					count++
				}
			}
			d.retained[v], d.count[v] = bytes, count
		}
	}
	above := func(v NodeID) {
		if !d.Live(v) {
			return
		}
		for _, w := range g.aboveEdges(v) {
			if d.marks[w] == single {
				d.parent[w] = v
				d.retained[v] += g.Size(w)
				d.count[v]++
			}
		}
	}
	objects := NodeID(s.Len())
	// Each single node is referred to once, so that the two write to different ones; what they read of
	// liveness was settled before.
	var wait sync.WaitGroup
	wait.Go(func() { part(1, 1+objects/2) })
	part(1+objects/2, 1+objects)
	wait.Wait()
	above(0)
	for v := objects + 1; v < NodeID(g.Len()); v++ {
		above(v)
	}
}

// Marks tells of each node how it is referred to, and whether it refers to others.
func (g *Graph) marks() []byte {
	n, s := g.Len(), g.Snapshot
	marks := make([]byte, n)
	// Each half of the targets is one goroutine's own, which writes to it alone.
	half := NodeID(n / 2)
	var wait sync.WaitGroup
	mark := func(from, to NodeID) {
		note := func(w NodeID) {
			if m := marks[w]; m&referred != 0 {
				marks[w] = m | shared
			} else {
				marks[w] = m | referred
			}
		}
		for _, w := range s.outgoing.to {
			if w := NodeID(w); w-from < to-from {
				note(w)
			}
		}
		for _, w := range g.to {
			if w-from < to-from {
				note(w)
			}
		}
		first := s.outgoing.first
		for v := max(from, 1); v < min(to, NodeID(s.Len()+1)); v++ {
			if first[v] == first[v+1] {
				marks[v] |= leaf
			}
		}
	}
	wait.Go(func() { mark(0, half) })
	mark(half, NodeID(n))
	wait.Wait()
	return marks
}

// A flow is the part of the graph that Lengauer and Tarjan's algorithm works on, its nodes numbered in
// the order in which a depth-first search comes to them.
type flow struct {
	vertex []NodeID // by number
	parent []uint32 // in the search's tree
	// into are the edges that are not of that tree: those that lead to v come from
	// into[start[v]:start[v+1]].
	start, into []uint32
	dominator   []uint32
}

// NewFlow searches the graph from its root, but for what is marked single.
func newFlow(g *Graph, marks []byte) *flow {
	s := g.Snapshot
	objects := NodeID(s.Len())
	const leftOut = 1<<32 - 1
	number := make([]uint32, g.Len()) // plus 1; 0 for those not reached
	within := 1
	for v, m := range marks {
		if m == single {
			number[v] = leftOut
		} else if m&referred != 0 {
			within++
		}
	}
	f := &flow{vertex: make([]NodeID, 0, within), parent: make([]uint32, 0, within)}
	type step struct {
		v        NodeID
		number   uint32
		next, to uint32 // edges that are not looked at yet
	}
	first, above := s.outgoing.first, g.first
	path := make([]step, 0, 1024)
	enter := func(v NodeID, parent uint32) {
		self := uint32(len(f.vertex))
		number[v] = self + 1
		f.vertex, f.parent = append(f.vertex, v), append(f.parent, parent)
		switch {
		case v == 0:
			path = append(path, step{v, self, above[0], above[1]})
		case v <= objects:
			path = append(path, step{v, self, first[v], first[v+1]})
		default:
			i := v - objects
			path = append(path, step{v, self, above[i], above[i+1]})
		}
	}
	type edge struct{ from, to uint32 }
	var across []edge // that are not of the search's tree
	enter(0, 0)
	out := s.outgoing.to
search:
	for len(path) > 0 {
		at := &path[len(path)-1]
		for at.next < at.to {
			var w NodeID
			if at.v-1 < objects {
				w = NodeID(out[at.next])
			} else {
				w = g.to[at.next]
			}
			at.next++
			switch x := number[w]; x {
			case leftOut:
			case 0:
				enter(w, at.number)
				continue search
			default:
				if x--; x != at.number && f.parent[x] != at.number {
					across = append(across, edge{at.number, x})
				}
			}
		}
		path = path[:len(path)-1]
	}
	f.start = make([]uint32, len(f.vertex)+1)
	for _, e := range across {
		f.start[e.to]++
	}
	sum := uint32(0)
	for i := range f.start {
		sum += f.start[i]
		f.start[i] = sum
	}
	f.into = make([]uint32, len(across))
	for _, e := range across {
		f.start[e.to]--
		f.into[f.start[e.to]] = e.from
	}
	return f
}

// Dominate finds the dominators by number.
func (f *flow) dominate() {
	m := uint32(len(f.vertex))
	const none = 1<<32 - 1
	semi := make([]uint32, m) // the semidominator's number; of what is not yet linked, its own
	label := make([]uint32, m)
	ancestor := make([]uint32, m)
	// bucket chains the nodes by their semidominator, until its tree is complete.
	bucket, chain := make([]uint32, m), make([]uint32, m)
	dominator := make([]uint32, m)
	for i := range m {
		semi[i], label[i], ancestor[i], bucket[i] = i, i, none, none
	}
	var path []uint32
	// eval is the node of least semidominator on the way up from v to, but without, the root of its
	// linked tree.
	eval := func(v uint32) uint32 {
		a := ancestor[v]
		if a == none {
			return v
		}
		if ancestor[a] == none {
			return label[v]
		}
		path = path[:0]
		u := v
		for ancestor[ancestor[u]] != none {
			path = append(path, u)
			u = ancestor[u]
		}
		top := ancestor[u]
		least := label[u]
		for k := len(path) - 1; k >= 0; k-- {
			x := path[k]
			if semi[least] < semi[label[x]] {
				label[x] = least
			}
			least = label[x]
			ancestor[x] = top
		}
		return label[v]
	}
	for w := m - 1; w > 0 && w < m; w-- {
		p := f.parent[w]
		least := p
		for _, v := range f.into[f.start[w]:f.start[w+1]] {
			if v < least {
				least = v
			} else if v > w {
				if x := semi[eval(v)]; x < least {
					least = x
				}
			}
		}
		semi[w] = least
		ancestor[w] = p
		if least == p {
			dominator[w] = p // no node of its tree has a lesser one
		} else {
			chain[w], bucket[least] = bucket[least], w
		}
		for v := bucket[p]; v != none; v = chain[v] {
			if u := eval(v); semi[u] < p {
				dominator[v] = u // the same dominator as u has, which is not known yet
			} else {
				dominator[v] = p
			}
		}
		bucket[p] = none
	}
	for w := uint32(1); w < m; w++ {
		if dominator[w] != semi[w] {
			dominator[w] = dominator[dominator[w]]
		}
	}
	f.dominator = dominator
}
