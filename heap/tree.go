package heap

import (
	"container/heap"
)

// NotReachable is the pseudo-frame under which trees show dead objects.
const NotReachable = "[not reachable from roots]"

// A Tree gives each object of a heap one parent of those that refer to it, as PerfView does
// (microsoft/perfview, src/PerfView/memory/MemoryGraphStackSource.cs): from the top on, the node of the
// greatest priority comes next, of equal ones the one found first, and becomes the parent of all that
// it refers to and that has none yet. The priority of a node is that of its name and a tenth of its
// parent's. Dead objects come last: those that no other dead object leads to are roots of their own
// under NotReachable; of a cycle it is the one of least id.
//
// Where PerfView breaks ties by subtracting an ever greater number, a tree keeps to the order of
// discovery, whatever the size of the heap.
//
// It is read-only.
type Tree struct {
	Graph *Graph // its roots are by kind and name
	// Order are all nodes in the order of the visit, so each is behind its parent.
	Order []NodeID

	parent []NodeID // orphanParent for those under NotReachable
	dead   int      // where in Order the dead ones begin
}

const (
	orphanParent = NodeID(1<<32 - 2)
	maxNodes     = 1<<32 - 3
)

// Parent is a node's parent; ok is false for node 0 and for what hangs under NotReachable.
func (t *Tree) Parent(v NodeID) (parent NodeID, ok bool) {
	if p := t.parent[v]; p < maxNodes {
		return p, v != 0
	}
	return 0, false
}

// Dead are the nodes that are not reachable from roots, in order.
func (t *Tree) Dead() []NodeID { return t.Order[t.dead:] }

// NewTree makes a snapshot's tree by priorities.
func NewTree(s *Snapshot, priorities *Priorities) *Tree {
	g := newNamedGraph(s)
	types := make([]float64, len(s.Types))
	for i := range types {
		types[i] = priorities.Of(s.Types[i].FullName())
	}
	above := make([]float64, len(g.above))
	for i := range above {
		above[i] = priorities.Of(g.FullName(NodeID(s.Len() + 1 + i)))
	}
	return span(g, types, above)
}

// Span makes the tree of a graph, by the priorities of types and of the nodes that are no objects.
func span(g *Graph, types, above []float64) *Tree {
	s := g.Snapshot
	n := g.Len()
	objects := NodeID(s.Len())
	t := &Tree{Graph: g, Order: make([]NodeID, 0, n), parent: make([]NodeID, n)}
	for i := range t.parent {
		t.parent[i] = noNode
	}
	q := newPriorityQueue()
	t.parent[0] = 0
	q.push(0, 0)
	kind := s.objects.kind
	visit := func() {
		for {
			v, priority, ok := q.pop()
			if !ok {
				return
			}
			t.Order = append(t.Order, v)
			inherited := priority / 10
			if v-1 < objects {
				for _, w := range g.objectEdges(v) {
					if t.parent[w] == noNode {
						t.parent[w] = v
						q.push(NodeID(w), types[kind[w]]+inherited)
					}
				}
				continue
			}
			for _, w := range g.aboveEdges(v) {
				if t.parent[w] == noNode {
					t.parent[w] = v
					own := 0.0
					if w <= objects {
						own = types[kind[w]]
					} else {
						own = above[w-objects-1]
					}
					q.push(w, own+inherited)
				}
			}
		}
	}
	visit()
	t.dead = len(t.Order)
	for _, v := range t.orphans() {
		t.parent[v] = orphanParent
		q.push(v, types[kind[v]])
	}
	visit()
	return t
}

// Orphans are the dead objects that the others are reached from, in order of id: of each part of the
// dead graph that nothing dead outside of it leads to, one; of a cycle the least.
//
// From each object that was not come to before, in order of id, everything is marked: then a part that
// nothing leads to was come to first at its least object. Of these starts those count that no later
// one leads to; an earlier one cannot, or it were no start.
func (t *Tree) orphans() []NodeID {
	g, objects := t.Graph, NodeID(t.Graph.Snapshot.Len())
	var starts, path []NodeID
	seen := newBits(g.Len())
	spread := func(v NodeID) {
		seen.set(uint32(v))
		path = append(path[:0], v)
		for len(path) > 0 {
			v := path[len(path)-1]
			path = path[:len(path)-1]
			for _, w := range g.objectEdges(v) {
				if t.parent[w] == noNode && !seen.has(uint32(w)) {
					seen.set(uint32(w))
					path = append(path, NodeID(w))
				}
			}
		}
	}
	for v := NodeID(1); v <= objects; v++ {
		if t.parent[v] == noNode && !seen.has(uint32(v)) {
			starts = append(starts, v)
			spread(v)
		}
	}
	clear(seen)
	n := len(starts)
	for i := n - 1; i >= 0; i-- {
		if v := starts[i]; !seen.has(uint32(v)) {
			n--
			starts[n] = v
			spread(v)
		}
	}
	return starts[n:]
}

// Bits are a set of ids.
type bits []uint64

func newBits(n int) bits         { return make(bits, (n+63)/64) }
func (b bits) has(i uint32) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bits) set(i uint32)      { b[i/64] |= 1 << (i % 64) }

// A priorityQueue has nodes by priority, and by arrival where that is equal. There are few priorities
// that differ: each has a list of its own, and only the lists are in a heap. A list is a chain of blocks,
// so that going through it touches memory in order.
type priorityQueue struct {
	lists []nodeList
	index map[float64]int // into lists, by priority
	full  listHeap        // those that are not empty
	last  int             // the list that was pushed to last
	spare *nodeBlock      // blocks to be used again
}

type nodeBlock struct {
	nodes [61]NodeID // with next, 256 bytes
	next  *nodeBlock
}

type nodeList struct {
	priority    float64
	first, last *nodeBlock
	from, to    int // the first node is first.nodes[from]; the last is before last.nodes[to]
}

func newPriorityQueue() *priorityQueue {
	q := &priorityQueue{index: map[float64]int{}, last: -1}
	q.full.queue = q
	return q
}

func (q *priorityQueue) push(v NodeID, priority float64) {
	i := q.last
	if i < 0 || q.lists[i].priority != priority {
		var ok bool
		if i, ok = q.index[priority]; !ok {
			i = len(q.lists)
			q.lists = append(q.lists, nodeList{priority: priority})
			q.index[priority] = i
		}
		q.last = i
	}
	l := &q.lists[i]
	if l.first == nil {
		l.first = q.block()
		l.last, l.from, l.to = l.first, 0, 0
		heap.Push(&q.full, i)
	} else if l.to == len(l.last.nodes) {
		l.last.next = q.block()
		l.last, l.to = l.last.next, 0
	}
	l.last.nodes[l.to] = v
	l.to++
}

func (q *priorityQueue) block() *nodeBlock {
	b := q.spare
	if b == nil {
		return new(nodeBlock)
	}
	q.spare, b.next = b.next, nil
	return b
}

func (q *priorityQueue) pop() (v NodeID, priority float64, ok bool) {
	if len(q.full.lists) == 0 {
		return 0, 0, false
	}
	l := &q.lists[q.full.lists[0]]
	b := l.first
	v = b.nodes[l.from]
	l.from++
	empty := b == l.last && l.from == l.to
	if empty || l.from == len(b.nodes) {
		l.first, l.from = b.next, 0
		b.next, q.spare = q.spare, b
	}
	if empty {
		l.first = nil
		heap.Pop(&q.full)
	}
	return v, l.priority, true
}

// A listHeap has the lists that are not empty, the greatest priority first.
type listHeap struct {
	queue *priorityQueue
	lists []int
}

func (h *listHeap) Len() int { return len(h.lists) }
func (h *listHeap) Less(i, j int) bool {
	return h.queue.lists[h.lists[i]].priority > h.queue.lists[h.lists[j]].priority
}
func (h *listHeap) Swap(i, j int) { h.lists[i], h.lists[j] = h.lists[j], h.lists[i] }
func (h *listHeap) Push(x any)    { h.lists = append(h.lists, x.(int)) }
func (h *listHeap) Pop() any {
	n := len(h.lists) - 1
	x := h.lists[n]
	h.lists = h.lists[:n]
	return x
}
