package heap

import "math"

// LargeObject is the size in bytes above which a sampled heap has every object, as PerfView's has.
const LargeObject = 85000

// A Reduced heap is a part of another that is small enough to be sent and drawn: of each type about as
// large a share, all large objects, and of each object the way from its root.
type Reduced struct {
	Snapshot *Snapshot
	// Scale is, by type, how many objects one stands for. Counts times it are near those of the whole,
	// and bytes are the same: large objects weigh in at their size.
	Scale []float64
	// Of are the objects' ids in the whole heap, by their ids here.
	Of []ObjectID
}

// What has become of a node while a heap is reduced.
const (
	unseen    = iota
	rejected  // looked at and left out
	potential // can be taken alone: its parent is
	taken
)

// A typeQuota is what is known of a type while a heap is reduced.
type typeQuota struct {
	total, sampled           int
	potential                int // taken, or potential
	totalBytes, sampledBytes uint64
	every, passed            int
}

type reducer struct {
	tree   *Tree
	ratio  float64
	status []byte
	quotas []typeQuota // by type; behind the types the top, groups and kinds of root
	order  []NodeID    // as taken
	dead   bits

	types, typesSampled int
}

// Reduce takes about target objects of a heap, by its tree, in PerfView's way (microsoft/perfview,
// src/MemoryGraph/graph.cs, GraphSampler). A heap of no more objects comes back whole.
func Reduce(tree *Tree, target int) *Reduced {
	r := newReducer(tree, target)
	r.run()
	return r.reduced()
}

func newReducer(tree *Tree, target int) *reducer {
	g := tree.Graph
	n := g.Len()
	dead := newBits(n)
	for _, v := range tree.Dead() {
		dead.set(uint32(v))
	}
	return &reducer{
		tree: tree, dead: dead, ratio: max(1, float64(n)/float64(max(target, 1))), status: make([]byte, n),
		quotas: make([]typeQuota, len(g.Snapshot.Types)+int(rootKinds)+2),
	}
}

func (r *reducer) quota(v NodeID) *typeQuota {
	g := r.tree.Graph
	s := g.Snapshot
	if g.Kind(v) == ObjectNode {
		return &r.quotas[s.TypeOf(ObjectID(v))]
	}
	at := len(s.Types)
	if v != 0 {
		at += 1 + int(g.RootKind(v))
	}
	return &r.quotas[at]
}

func (r *reducer) run() {
	g := r.tree.Graph
	r.take(0)
	for v := NodeID(0); int(v) < g.Len(); v++ {
		r.visit(v)
	}
	// Types of which not enough were taken get more of those that can be taken alone, evenly.
	for v := NodeID(0); int(v) < g.Len(); v++ {
		if r.status[v] != potential {
			continue
		}
		q := r.quota(v)
		needed := int(float64(q.total)/r.ratio+0.5) - q.sampled
		if needed <= 0 {
			continue
		}
		if q.every == 0 {
			q.every = max(1, (q.potential-q.sampled)/needed)
		}
		if q.passed++; q.passed >= q.every {
			q.passed = 0
			q.sampled++
			q.sampledBytes += g.Size(v)
			r.status[v] = taken
			r.order = append(r.order, v)
		}
	}
}

// See counts a node that was not looked at before.
func (r *reducer) see(v NodeID, q *typeQuota) {
	if q.total == 0 {
		r.types++
	}
	q.total++
	q.totalBytes += r.tree.Graph.Size(v)
}

// Visit decides on a node.
func (r *reducer) visit(v NodeID) {
	if r.status[v] == taken || r.status[v] == rejected {
		return
	}
	q := r.quota(v)
	if r.status[v] == unseen {
		r.see(v, q)
	}
	if q.sampled == 0 && (float64(r.typesSampled)+0.5)*r.ratio <= float64(r.types) ||
		(float64(q.potential)+0.5)*r.ratio <= float64(q.total) || r.tree.Graph.Size(v) > LargeObject {
		r.add(v, q)
		for {
			up, ok := r.tree.Parent(v)
			if !ok {
				return
			}
			r.take(up)
			v = up
		}
	}
	if r.status[v] != potential {
		r.status[v] = rejected
	}
}

// Take adds a node that must be there.
func (r *reducer) take(v NodeID) {
	if r.status[v] == taken {
		return
	}
	q := r.quota(v)
	if r.status[v] == unseen {
		r.see(v, q)
	}
	r.add(v, q)
}

func (r *reducer) add(v NodeID, q *typeQuota) {
	if q.sampled == 0 {
		r.typesSampled++
	}
	q.sampled++
	q.sampledBytes += r.tree.Graph.Size(v)
	if r.status[v] != potential {
		q.potential++
	}
	r.status[v] = taken
	r.order = append(r.order, v)
	r.tree.Graph.Edges(v, func(w NodeID) bool {
		// What a dead object refers to may be live, which it would not be with this alone.
		if r.status[w] == taken || r.status[w] == potential || r.dead.has(uint32(v)) && !r.dead.has(uint32(w)) {
			return true
		}
		q := r.quota(w)
		if r.status[w] == unseen {
			r.see(w, q)
		}
		r.status[w] = potential
		q.potential++
		return true
	})
}

// Reduced makes a snapshot of what was taken, with every reference between two of it.
func (r *reducer) reduced() *Reduced {
	s := r.tree.Graph.Snapshot
	small := *s
	small.close = nil
	out := &Reduced{Snapshot: &small, Scale: make([]float64, len(s.Types)), Of: make([]ObjectID, 1)}
	for i := range out.Scale {
		out.Scale[i] = r.quotas[i].scale()
	}
	renamed := make([]ObjectID, s.Len()+1)
	o := columns{address: make([]uint64, 1), size: make([]uint32, 1), kind: make([]TypeID, 1)}
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		if r.status[id] != taken {
			continue
		}
		renamed[id] = ObjectID(len(out.Of))
		out.Of = append(out.Of, id)
		o.address, o.size, o.kind = append(o.address, s.Address(id)), append(o.size, s.objects.size[id]), append(o.kind, s.TypeOf(id))
		if n := s.Size(id); n >= hugeSize {
			o.huge = append(o.huge, hugeObject{renamed[id], n})
		}
	}
	small.objects = o
	narrow := func(of *references, starts []uint32) references {
		x := references{first: make([]uint32, 1, len(starts)+1)}
		for _, start := range starts {
			to, field := of.of(start)
			for i, w := range to {
				if renamed[w] != 0 {
					x.to, x.field = append(x.to, renamed[w]), append(x.field, field[i])
				}
			}
			x.first = append(x.first, uint32(len(x.to)))
		}
		return x
	}
	var starts []uint32
	for _, id := range out.Of {
		starts = append(starts, uint32(id))
	}
	small.outgoing = narrow(&s.outgoing, starts)
	starts = starts[:0]
	for id := range s.Roots {
		starts = append(starts, uint32(id))
	}
	small.starting = narrow(&s.starting, starts)
	small.Sampled = nil
	for _, x := range s.Sampled {
		if x.Object = renamed[x.Object]; x.Object != 0 {
			small.Sampled = append(small.Sampled, x)
		}
	}
	small.Waste = append([]Waste(nil), s.Waste...)
	for i := range small.Waste {
		small.Waste[i].Example = renamed[small.Waste[i].Example]
	}
	return out
}

func (q *typeQuota) scale() float64 {
	if q.sampledBytes == 0 {
		return 1
	}
	return float64(q.totalBytes) / float64(q.sampledBytes)
}

// Scaled is what n objects of a type and of so many bytes stand for.
func (r *Reduced) Scaled(t TypeID, n int, bytes uint64) (count float64, scaled uint64) {
	return float64(n) * r.Scale[t], uint64(math.Round(float64(bytes) * r.Scale[t]))
}
