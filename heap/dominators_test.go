package heap

import (
	"math/rand/v2"
	"testing"
)

// What a node retains is by definition what cannot be reached without it: the second way to find it.
func TestRetainedIsWhatCannotBeReachedWithout(t *testing.T) {
	live, several := 0, 0
	for seed := range uint64(300) {
		g := NewGraph(randomSnapshot(t, seed, 5+int(seed)%60))
		d := NewDominators(g)
		all := reach(g, nothing)
		bytes, objects := sizeOf(g, all)
		if d.Retained(0) != bytes || d.RetainedCount(0) != objects {
			t.Fatalf("seed %d: live are %d bytes in %d objects, want %d in %d", seed, d.Retained(0), d.RetainedCount(0), bytes, objects)
		}
		seen := map[NodeID]bool{}
		for v := range d.InOrder {
			if v != 0 && !seen[d.Parent(v)] || seen[v] {
				t.Fatalf("seed %d: node %d comes before its dominator, or twice", seed, v)
			}
			seen[v] = true
		}
		if len(seen) != len(all) {
			t.Fatalf("seed %d: %d nodes in order, want %d", seed, len(seen), len(all))
		}
		for v := range NodeID(g.Len()) {
			if d.Live(v) != all[v] {
				t.Fatalf("seed %d: node %d live: %v, want %v", seed, v, d.Live(v), all[v])
			}
			if !all[v] {
				continue
			}
			rest := reach(g, func(w NodeID) bool { return w == v })
			restBytes, restObjects := sizeOf(g, rest)
			if got, want := d.Retained(v), bytes-restBytes; got != want || d.RetainedCount(v) != objects-restObjects {
				t.Fatalf("seed %d: node %d (%s) retains %d bytes in %d objects, want %d in %d", seed, v, g.Name(v), got, d.RetainedCount(v), want, objects-restObjects)
			}
			live++
			if objects-restObjects > 1 {
				several++
			}
			if v != 0 && rest[v] || v != 0 && reach(g, func(w NodeID) bool { return w == d.Parent(v) })[v] {
				t.Fatalf("seed %d: node %d is reached without %d", seed, v, d.Parent(v))
			}
		}
	}
	if several < 500 || live-several < 500 {
		t.Errorf("%d nodes retain others, %d themselves: too few to tell", several, live-several)
	}
}

// LargeSnapshot is a heap of about n objects of the shapes that Go programs have: maps of strings and
// of structs with several parts, a list with links in both directions, garbage.
func largeSnapshot(t testing.TB, n int) *Snapshot {
	random := rand.New(rand.NewPCG(5, 6))
	b := NewBuilder(Info{Module: "app"})
	b.Grow(n, 2*n)
	text := b.AddType(Type{Name: "string", Kind: "string"})
	bytes := b.AddType(Type{Name: "[]uint8", Kind: "slice"})
	table := b.AddType(Type{Name: "map[string][]uint8", Kind: "map", Origin: Standard})
	node := b.AddType(Type{Name: "main.Node", Package: "main", Kind: "struct", Origin: Own})
	session := b.AddType(Type{Name: "main.Session", Package: "main", Kind: "struct", Origin: Own})
	key, value := b.AddField(Field{Name: "[key]"}), b.AddField(Field{Name: "[value]"})
	next, prev, tag := b.AddField(Field{Name: "Next"}), b.AddField(Field{Name: "Prev"}), b.AddField(Field{Name: "Tag"})
	// Which object each address has is by chance, as in a heap that has lived.
	type object struct {
		size uint64
		kind TypeID
	}
	var objects []object
	add := func(size uint64, kind TypeID) int {
		objects = append(objects, object{size, kind})
		return len(objects) - 1
	}
	type reference struct {
		from, to int
		field    FieldID
	}
	var references []reference
	refer := func(from, to int, field FieldID) { references = append(references, reference{from, to, field}) }
	reg, last := add(48, table), -1
	var roots []int
	roots = append(roots, reg)
	for len(objects) < n {
		switch random.IntN(3) {
		case 0: // a group of a map
			g := add(208, table)
			refer(reg, g, 0)
			for range 7 {
				refer(g, add(16, text), key)
				refer(g, add(48, bytes), value)
			}
		case 1: // links of the list
			for range 8 {
				x := add(64, node)
				if last < 0 {
					roots = append(roots, x)
				} else {
					refer(last, x, next)
					refer(x, last, prev)
				}
				if random.IntN(2) == 0 {
					refer(x, add(16, text), tag)
				}
				last = x
			}
		case 2:
			x := add(96, session)
			refer(reg, x, value)
			u := add(64, session)
			refer(x, u, 0)
			refer(u, add(16, text), tag)
			if random.IntN(4) == 0 {
				refer(u, reg, 0)
			}
			add(32, bytes) // garbage
		}
	}
	place := random.Perm(len(objects))
	for i := range place { // mostly near each other, as a heap fills
		place[i] = i
	}
	for range len(objects) / 5 {
		i, j := random.IntN(len(objects)), random.IntN(len(objects))
		place[i], place[j] = place[j], place[i]
	}
	at := make([]int, len(objects))
	for i, p := range place {
		at[p] = i
	}
	address := uint64(0xc000000000)
	for _, i := range at {
		b.AddObject(address, objects[i].size, objects[i].kind)
		address += objects[i].size
	}
	out := make([][]reference, len(objects))
	for _, r := range references {
		out[place[r.from]] = append(out[place[r.from]], r)
	}
	for i, list := range out {
		for _, r := range list {
			b.AddReference(ObjectID(i+1), r.field, ObjectID(place[r.to]+1))
		}
	}
	for i, x := range roots {
		r := b.AddRoot(Root{Kind: Global, Name: []string{"main.reg", "main.list"}[i]})
		b.AddRootReference(r, 0, ObjectID(place[x]+1))
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func BenchmarkDominators(b *testing.B) {
	for name, n := range map[string]int{"1M": 1e6, "10M": 1e7} {
		b.Run("objects="+name, func(b *testing.B) {
			if testing.Short() && n > 1e6 {
				b.Skip("takes gigabytes")
			}
			g := NewGraph(largeSnapshot(b, n))
			for b.Loop() {
				NewDominators(g)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/object")
		})
	}
}

// The same of 20 objects of a real program's heap.
func TestRetainedOfARealHeap(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	s := snapshotOf(t, startGo(t, "", false).pid)
	g := NewGraph(s)
	d := NewDominators(g)
	bytes, objects := sizeOf(g, reach(g, nothing))
	if d.Retained(0) != bytes || d.RetainedCount(0) != objects || objects < 1000 {
		t.Fatalf("live are %d bytes in %d objects, want %d in %d", d.Retained(0), d.RetainedCount(0), bytes, objects)
	}
	random := rand.New(rand.NewPCG(8, 9))
	var chosen []NodeID
	for several := true; len(chosen) < 20; { // half of them keep others
		v := NodeID(1 + random.IntN(s.Len()))
		if d.Live(v) && (d.RetainedCount(v) > 1) == several {
			chosen = append(chosen, v)
			several = !several
		}
	}
	for _, v := range chosen {
		rest, kept := sizeOf(g, reach(g, func(w NodeID) bool { return w == v }))
		if d.Retained(v) != bytes-rest || d.RetainedCount(v) != objects-kept {
			t.Errorf("%s at %#x retains %d bytes in %d objects, want %d in %d", g.Name(v), s.Address(ObjectID(v)), d.Retained(v), d.RetainedCount(v), bytes-rest, objects-kept)
		}
	}
}
