package heap

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A vector is a golden case: a heap and the tree that PerfView makes of it.
type vector struct {
	Priorities   string
	SampleTarget int
	Nodes        []struct {
		ID, Type string
		Size     uint64
		Refs     []string
	}
	Expect []vectorVisit `json:"expect_visit_order"`
}

type vectorVisit struct {
	Node          string
	Metric, Count float64
	Stack         []string `json:"stack_root_first"`
}

func readVector(t testing.TB, name string) (v vector) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Graph makes the vector's: its first node is the top, the others are objects.
func (v *vector) graph(t testing.TB) (g *Graph, ids []string) {
	t.Helper()
	b := NewBuilder(Info{})
	node := map[string]ObjectID{v.Nodes[0].ID: 0}
	ids = []string{v.Nodes[0].ID}
	for i, n := range v.Nodes[1:] {
		node[n.ID] = b.AddObject(uint64(i+1)<<20, n.Size, b.AddType(Type{Name: n.Type}))
		ids = append(ids, n.ID)
	}
	top := b.AddRoot(Root{Kind: OtherRoot})
	for _, n := range v.Nodes {
		for _, ref := range n.Refs {
			switch from, to := node[n.ID], node[ref]; {
			case to == 0: // the top has no parent anyway
			case from == 0:
				b.AddRootReference(top, 0, to)
			default:
				b.AddReference(from, 0, to)
			}
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topOnly(s), ids
}

// TopOnly is a graph whose top leads to what the roots do.
func topOnly(s *Snapshot) *Graph {
	g := &Graph{Snapshot: s, first: []uint32{0, uint32(len(s.starting.to))}}
	for _, x := range s.starting.to {
		g.to = append(g.to, NodeID(x))
	}
	return g
}

// Visits are a tree in the form of a vector's expectation; names gives an object's id, scale how many
// objects one of a type stands for.
func visits(t *Tree, name func(NodeID) string, scale func(NodeID) float64) []vectorVisit {
	var all []vectorVisit
	for _, v := range t.Order {
		x := vectorVisit{Node: name(v), Metric: float64(t.Graph.Size(v)) * scale(v), Count: scale(v)}
		for at, ok := v, true; ok; {
			x.Stack = append(x.Stack, t.Graph.FullName(at))
			var up NodeID
			if up, ok = t.Parent(at); !ok && at != 0 {
				x.Stack = append(x.Stack, NotReachable)
			}
			at = up
		}
		slices.Reverse(x.Stack)
		all = append(all, x)
	}
	return all
}

// As the vectors' index says: their metrics were accumulated in single precision.
var singlePrecision = cmp.Comparer(func(x, y float64) bool {
	return math.Abs(x-y) <= 1e-3*max(math.Abs(x), math.Abs(y))
})

func prioritiesOf(t testing.TB, text string) *Priorities {
	t.Helper()
	p, err := ParsePriorities(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func typePriorities(s *Snapshot, p *Priorities) []float64 {
	out := make([]float64, len(s.Types))
	for i := range out {
		out[i] = p.Of(s.Types[i].FullName())
	}
	return out
}

func TestTreesAreThoseOfPerfView(t *testing.T) {
	for _, name := range []string{"m01_default_priorities", "m03_bfs_ties"} {
		v := readVector(t, name)
		g, ids := v.graph(t)
		tree := span(g, typePriorities(g.Snapshot, prioritiesOf(t, PerfViewPriorities)), nil)
		got := visits(tree, func(n NodeID) string { return ids[n] }, func(NodeID) float64 { return 1 })
		if d := cmp.Diff(v.Expect, got); d != "" {
			t.Errorf("%s: (-PerfView +ours)\n%s", name, d)
		}
	}
}

// The same by the letter: one list of nodes, searched for the greatest priority each time.
func plainTree(g *Graph, priority func(NodeID) float64) (order []NodeID, parent map[NodeID]NodeID) {
	type entry struct {
		v NodeID
		p float64
	}
	var queue []entry
	parent = map[NodeID]NodeID{0: 0}
	inherited := map[NodeID]float64{}
	run := func() {
		for len(queue) > 0 {
			best := 0
			for i, e := range queue {
				if e.p > queue[best].p {
					best = i
				}
			}
			v := queue[best].v
			queue = slices.Delete(queue, best, best+1)
			order = append(order, v)
			g.Edges(v, func(w NodeID) bool {
				if _, ok := parent[w]; !ok {
					parent[w] = v
					inherited[w] = priority(w) + inherited[v]/10
					queue = append(queue, entry{w, inherited[w]})
				}
				return true
			})
		}
	}
	queue = append(queue, entry{0, 0})
	run()
	dead := map[NodeID]map[NodeID]bool{} // what each leads to
	for v := NodeID(1); int(v) < g.Len(); v++ {
		if _, ok := parent[v]; !ok {
			seen := map[NodeID]bool{}
			var visit func(NodeID)
			visit = func(v NodeID) {
				g.Edges(v, func(w NodeID) bool {
					if _, live := parent[w]; !live && !seen[w] {
						seen[w] = true
						visit(w)
					}
					return true
				})
			}
			visit(v)
			dead[v] = seen
		}
	}
	for v := NodeID(1); int(v) < g.Len(); v++ {
		if dead[v] == nil {
			continue
		}
		orphan := true
		for w, reaches := range dead {
			if w != v && reaches[v] && (!dead[v][w] || w < v) {
				orphan = false
			}
		}
		if orphan {
			parent[v] = orphanParent
			inherited[v] = priority(v)
			queue = append(queue, entry{v, inherited[v]})
		}
	}
	run()
	return order, parent
}

func TestTreesFollowTheRuleByTheLetter(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	dead, live := 0, 0
	for seed := range uint64(120) {
		s := randomSnapshot(t, seed, 5+int(seed)%50)
		var rules []string
		for i := range 6 {
			rules = append(rules, fmt.Sprintf("t%d.T->%d", i, random.IntN(5)-2))
		}
		p := prioritiesOf(t, strings.Join(append(rules, DefaultPriorities), ";"))
		tree := NewTree(s, p)
		order, parent := plainTree(tree.Graph, func(v NodeID) float64 { return p.Of(tree.Graph.FullName(v)) })
		if d := cmp.Diff(order, tree.Order); d != "" {
			t.Fatalf("seed %d: order of the visit:\n%s", seed, d)
		}
		for v := range tree.parent {
			if want := parent[NodeID(v)]; tree.parent[v] != want {
				t.Fatalf("seed %d: node %d is under %d, want %d", seed, v, tree.parent[v], want)
			}
		}
		dead += len(tree.Dead())
		live += len(tree.Order) - len(tree.Dead())
	}
	if dead < 100 || live < 1000 {
		t.Errorf("%d dead and %d live nodes are too few to tell", dead, live)
	}
}

func TestPriorities(t *testing.T) {
	p := prioritiesOf(t, DefaultPriorities)
	for name, want := range map[string]float64{
		"main.Session": 0, "std!net/http.conn": -1, "runtime!runtime.g": -10, "dep!yaml.Node": 0, "std!sync.Pool": -100,
		"std![]sync.poolLocal": -100, "[local vars]": -1000, "[stuck goroutines]": 0, "[finalizers]": -2e6, "[globals]": 0,
	} {
		if got := p.Of(name); got != want {
			t.Errorf("priority of %s is %g, want %g", name, got, want)
		}
	}
	if got := prioritiesOf(t, p.String()).String(); got != p.String() {
		t.Errorf("%s reads as %s", p, got)
	}
	name := "main.Map[string,int]"
	up := p.Raise(name, 1)
	if up.Of(name) != 1 || up.Of(name+"x") != 0 || up.Raise(name, 1).Of(name) != 2 || len(up.Raise(name, 1).rules) != len(up.rules) {
		t.Errorf("raised by 1, and by 1 again: %s", up.Raise(name, 1))
	}
	if down := p.Raise("std!net/http.conn", -1); down.Of("std!net/http.conn") != -2 || down.Of("std!net/http.Conn2") != -1 {
		t.Errorf("lowered: %s", down)
	}
	if prioritiesOf(t, up.String()).Of(name) != 1 {
		t.Errorf("%s does not read back", up)
	}
	for _, bad := range []string{"main.T", "->1", "main.T->x", "main.T->1e99", "main.T->NaN", "@(->1", "a{b->1", "a}b->1"} {
		if p, err := ParsePriorities(bad); err == nil {
			t.Errorf("%q reads as %s", bad, p)
		} else if strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("%q: more than a sentence: %v", bad, err)
		}
	}
}

func BenchmarkTree(b *testing.B) {
	const n = 1e6
	s := largeSnapshot(b, n)
	p := prioritiesOf(b, DefaultPriorities)
	for b.Loop() {
		NewTree(s, p)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/object")
}
