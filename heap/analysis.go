package heap

import "sync"

// An Analysis is what most questions about a heap are answered from: the dominators and the tree. It
// is read-only and safe for any number of goroutines; what it finds out later is kept.
type Analysis struct {
	Snapshot   *Snapshot
	Graph      *Graph // by goroutine, which the dominators are of
	Dominators *Dominators
	Tree       *Tree // its own graph is by kind and name of roots

	referrers func() *referrers // of Tree.Graph
}

// Analyze analyses a heap, on two cores. Priorities are those of the tree; nil are DefaultPriorities.
func Analyze(s *Snapshot, priorities *Priorities) *Analysis {
	if priorities == nil {
		var err error
		if priorities, err = ParsePriorities(DefaultPriorities); err != nil {
			panic(err) // a constant, which a test reads
		}
	}
	a := &Analysis{Snapshot: s}
	var wait sync.WaitGroup
	wait.Go(func() { a.Tree = NewTree(s, priorities) })
	a.Graph = NewGraph(s)
	a.Dominators = NewDominators(a.Graph)
	wait.Wait()
	a.referrers = sync.OnceValue(func() *referrers { return newReferrers(a.Tree.Graph) })
	return a
}

// Live says whether an object is reachable from the roots.
func (a *Analysis) Live(id ObjectID) bool { return a.Dominators.Live(NodeID(id)) }

// Retained is what would be free without an object, and in how many objects; 0 for a dead one.
func (a *Analysis) Retained(id ObjectID) (bytes uint64, objects int) {
	return a.Dominators.Retained(NodeID(id)), a.Dominators.RetainedCount(NodeID(id))
}

// A Total is a number of objects and their bytes.
type Total struct {
	Count int
	Bytes uint64
}

func (t *Total) add(bytes uint64) {
	t.Count++
	t.Bytes += bytes
}

// Totals are all that is reachable from the roots, and the rest: garbage that is not swept yet.
func (a *Analysis) Totals() (live, dead Total) {
	live = Total{a.Dominators.RetainedCount(0), a.Dominators.Retained(0)}
	for _, v := range a.Tree.Dead() {
		dead.add(a.Snapshot.Size(ObjectID(v)))
	}
	return live, dead
}

// Reached are the nodes that are reached from the top without those that skip holds (nil: none), and
// without the references that cut says true of (nil: none): from an object, which of its references.
func (g *Graph) reached(skip bits, cut func(from ObjectID, i int) bool) bits {
	objects := NodeID(g.Snapshot.Len())
	seen := newBits(g.Len())
	path := []NodeID{0}
	seen.set(0)
	for len(path) > 0 {
		v := path[len(path)-1]
		path = path[:len(path)-1]
		if v-1 < objects {
			for i, w := range g.objectEdges(v) {
				if seen.has(uint32(w)) || skip != nil && skip.has(uint32(w)) || cut != nil && cut(ObjectID(v), i) {
					continue
				}
				seen.set(uint32(w))
				path = append(path, NodeID(w))
			}
			continue
		}
		for _, w := range g.aboveEdges(v) {
			if !seen.has(uint32(w)) && (skip == nil || !skip.has(uint32(w))) {
				seen.set(uint32(w))
				path = append(path, w)
			}
		}
	}
	return seen
}

// RetainedSet is what would be free without all of some objects together, themselves included: more
// than the sum of what each retains where they keep something in common. The second value says by type
// what it is made of, the largest part first.
func (a *Analysis) RetainedSet(of func(ObjectID) bool) (Total, []TypeRow) {
	skip := newBits(a.Graph.Len())
	for id := ObjectID(1); int(id) <= a.Snapshot.Len(); id++ {
		if a.Live(id) && of(id) {
			skip.set(uint32(id))
		}
	}
	seen := a.Graph.reached(skip, nil)
	var sum Total
	rows := newTypeRows(a.Snapshot)
	for id := ObjectID(1); int(id) <= a.Snapshot.Len(); id++ {
		if a.Live(id) && !seen.has(uint32(id)) {
			sum.add(a.Snapshot.Size(id))
			rows.add(id, a.Snapshot.Size(id))
		}
	}
	return sum, rows.sorted(a.Snapshot)
}
