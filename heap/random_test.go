package heap

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// RandomSnapshot is a graph of n objects in one of several shapes, by seed: sparse, dense, of chains,
// of trees with links back, each with garbage, cycles, self-references and doubled ones.
func randomSnapshot(t testing.TB, seed uint64, n int) *Snapshot {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 77))
	b := NewBuilder(Info{Module: "app"})
	var types []TypeID
	for i := range 6 {
		pkg := []string{"main", "app/db", "net/http", "runtime", "", "github.com/x/y"}[i]
		types = append(types, b.AddType(Type{Name: fmt.Sprintf("t%d.T", i), Package: pkg, Origin: OriginOf(pkg, "app")}))
	}
	var fields []FieldID
	for i := range 5 {
		fields = append(fields, b.AddField(Field{Name: fmt.Sprintf("f%d", i)}))
	}
	address := uint64(0x1000)
	for range n {
		size := uint64(8 * (1 + random.IntN(20)))
		if random.IntN(50) == 0 {
			size = 0
		}
		b.AddObject(address, size, types[random.IntN(len(types))])
		address += max(size, 8) + uint64(8*random.IntN(3))
	}
	shape := seed % 5
	for i := 1; i <= n; i++ {
		add := func(to int) {
			b.AddReference(ObjectID(i), fields[random.IntN(len(fields))], ObjectID(1+(to-1+2*n)%n))
		}
		switch shape {
		case 0: // sparse
			for range random.IntN(3) {
				add(1 + random.IntN(n))
			}
		case 1: // dense
			for range random.IntN(8) {
				add(1 + random.IntN(n))
			}
		case 2: // a list with links back, and some across
			if i < n {
				add(i + 1)
			}
			if i > 1 {
				add(i - 1)
			}
			if random.IntN(10) == 0 {
				add(1 + random.IntN(n))
			}
		case 3: // a tree with links to the parent and to cousins
			if 2*i+1 <= n {
				add(2 * i)
				add(2*i + 1)
			}
			if random.IntN(3) == 0 && i > 1 {
				add(i / 2)
			}
			if random.IntN(6) == 0 {
				add(1 + random.IntN(n))
			}
		case 4: // near neighbours
			for range random.IntN(4) {
				add(i + random.IntN(9) - 3)
			}
		}
	}
	var stacks []profile.StackID
	for i := range 4 {
		stacks = append(stacks, b.AddStack([]profile.Frame{{Func: "runtime.gopark"}, {Func: fmt.Sprintf("main.work%d", i)}, {Func: "main.main"}}))
	}
	for i := range 1 + random.IntN(6) {
		b.AddGoroutine(Goroutine{
			Number: int64(10 - i), State: "waiting", Wait: []string{"select", "chan receive"}[random.IntN(2)],
			Stack: stacks[random.IntN(len(stacks))], Bytes: 2048, Blocked: time.Duration(random.IntN(3)) * time.Minute,
		})
	}
	for range 1 + random.IntN(8) {
		r := Root{Kind: RootKind(1 + random.IntN(int(rootKinds-1))), Name: fmt.Sprintf("main.v%d", random.IntN(4))}
		if r.Kind == Local || r.Kind == StackWord {
			r.Goroutine = GoroutineID(1 + random.IntN(len(b.snapshot.Goroutines)-1))
		}
		id := b.AddRoot(r)
		for range random.IntN(4) {
			b.AddRootReference(id, fields[random.IntN(len(fields))], ObjectID(1+random.IntN(n)))
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Reach is the live nodes by the plainest of ways, leaving out those that without is true of.
func reach(g *Graph, without func(NodeID) bool) map[NodeID]bool {
	seen := map[NodeID]bool{}
	var visit func(v NodeID)
	visit = func(v NodeID) {
		if seen[v] || without(v) {
			return
		}
		seen[v] = true
		g.Edges(v, func(w NodeID) bool { visit(w); return true })
	}
	visit(0)
	return seen
}

func sizeOf(g *Graph, nodes map[NodeID]bool) (bytes uint64, objects int) {
	for v := range nodes {
		bytes += g.Size(v)
		if g.Object(v) != 0 {
			objects++
		}
	}
	return bytes, objects
}

func nothing(NodeID) bool { return false }
