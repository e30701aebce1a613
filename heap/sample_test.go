package heap

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAReducedHeapIsThatOfPerfView(t *testing.T) {
	v := readVector(t, "m05_sampled")
	g, _ := v.graph(t)
	p := prioritiesOf(t, PerfViewPriorities)
	r := newReducer(span(g, typePriorities(g.Snapshot, p), nil), v.SampleTarget)
	r.run()
	out := r.reduced()
	if err := out.Snapshot.Check(); err != nil {
		t.Fatal(err)
	}
	number := map[NodeID]string{} // PerfView numbers the nodes in the order in which they are taken
	for i, n := range r.order {
		number[n] = fmt.Sprintf("n%d", i)
	}
	small := topOnly(out.Snapshot)
	tree := span(small, typePriorities(out.Snapshot, p), nil)
	got := visits(tree, func(n NodeID) string { return number[NodeID(out.Of[n])] }, func(n NodeID) float64 {
		if n == 0 {
			return 1
		}
		return out.Scale[out.Snapshot.TypeOf(ObjectID(n))]
	})
	if d := cmp.Diff(v.Expect, got, singlePrecision); d != "" {
		t.Errorf("(-PerfView +ours)\n%s", d)
	}
}

func TestAReducedHeapHasTheWaysAndTheBytes(t *testing.T) {
	fewer := 0
	for seed := range uint64(60) {
		s := randomSnapshot(t, seed, 200)
		p := prioritiesOf(t, DefaultPriorities)
		tree := NewTree(s, p)
		r := Reduce(tree, 60)
		if err := r.Snapshot.Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if r.Snapshot.Len() < s.Len() {
			fewer++
		}
		// Dead objects stay dead and live ones live: the ways are there.
		whole, small := NewDominators(tree.Graph), NewDominators(NewGraph(r.Snapshot))
		count, bytes := make([]int, len(s.Types)), make([]uint64, len(s.Types))
		wholeBytes := make([]uint64, len(s.Types))
		for id := range r.Of[1:] {
			id := ObjectID(id + 1)
			if whole.Live(NodeID(r.Of[id])) != small.Live(NodeID(id)) {
				t.Fatalf("seed %d: object %d is live: %v", seed, id, small.Live(NodeID(id)))
			}
			count[r.Snapshot.TypeOf(id)]++
			bytes[r.Snapshot.TypeOf(id)] += r.Snapshot.Size(id)
		}
		for id := ObjectID(1); int(id) <= s.Len(); id++ {
			wholeBytes[s.TypeOf(id)] += s.Size(id)
		}
		for typ := range s.Types {
			if count[typ] == 0 {
				continue
			}
			if _, got := r.Scaled(TypeID(typ), count[typ], bytes[typ]); math.Abs(float64(got)-float64(wholeBytes[typ])) > 1 {
				t.Errorf("seed %d: %d bytes of type %d stand for %d, want %d", seed, bytes[typ], typ, got, wholeBytes[typ])
			}
		}
	}
	if fewer < 50 {
		t.Errorf("only %d of 60 heaps became smaller", fewer)
	}
	s := randomSnapshot(t, 3, 40)
	if r := Reduce(NewTree(s, prioritiesOf(t, "")), 1000); r.Snapshot.Len() != s.Len() {
		t.Errorf("of 40 objects %d are left, of at most 1000", r.Snapshot.Len())
	}
}
