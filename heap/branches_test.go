package heap

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func (b *Branch) text(indent string, out *strings.Builder) {
	fmt.Fprintf(out, "%s%s %d/%d self %d/%d\n", indent, b.Name, b.All.Count, b.All.Bytes, b.Self.Count, b.Self.Bytes)
	for _, x := range b.Below {
		x.text(indent+" ", out)
	}
	for _, x := range b.Secondary {
		fmt.Fprintf(out, "%s {%s MinDepth %d %d/%d}\n", indent, x.Name, x.MinDepth, x.Self.Count, x.Self.Bytes)
	}
}

func TestBranches(t *testing.T) {
	a := Analyze(sessions(t, 20, false), nil)
	show := func(b *Branch, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		b.text("", &out)
		return out.String()
	}
	want := `[root] 1044/26320 self 0/0
 [local vars] 1001/24128 self 0/0
  main.run.head 1001/24128 self 0/0
   main.Link 1001/24128 self 1000/24000
    std!net/http.conn 1/128 self 1/128
 [globals] 42/2144 self 0/0
  main.reg 42/2144 self 0/0
   main.registry 42/2144 self 1/32
    map[int]*main.Session 41/2112 self 1/512
     main.Session 40/1600 self 40/1600
 [not reachable from roots] 1/48 self 0/0
  main.Session 1/48 self 1/48
`
	if got := show(a.Branches(BranchOptions{FoldNames: DefaultFold})); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// What is small counts for what is above it.
	small := show(a.RetainedBranches(BranchOptions{Fold: 0.05}))
	if strings.Contains(small, "string") || !strings.Contains(small, "main.Link 1001/24128 self 1001/24128") {
		t.Errorf("folded at 5%%:\n%s", small)
	}
	if _, err := a.Branches(BranchOptions{FoldNames: "string;@("}); err == nil {
		t.Error("a wrong pattern is taken")
	}
}

// By the rule's letter: for each branch what its members refer to, that is neither it nor below it.
func TestSecondaryReferences(t *testing.T) {
	found := 0
	for seed := range uint64(60) {
		a := Analyze(randomSnapshot(t, seed, 50), nil)
		s, g := a.Snapshot, a.Tree.Graph
		top, err := a.Branches(BranchOptions{Secondary: true})
		if err != nil {
			t.Fatal(err)
		}
		if live, dead := a.Totals(); top.All != (Total{live.Count + dead.Count, live.Bytes + dead.Bytes}) {
			t.Fatalf("seed %d: branches have %v of %v and %v", seed, top.All, live, dead)
		}
		var visit func(b *Branch)
		visit = func(b *Branch) {
			if !slices.IsSortedFunc(b.Secondary, func(x, y *Branch) int {
				if x.MinDepth != y.MinDepth {
					return x.MinDepth - y.MinDepth
				}
				return strings.Compare(x.Name, y.Name)
			}) {
				t.Fatalf("seed %d: secondary branches of %s are out of order", seed, b.Name)
			}
			for _, x := range b.Secondary {
				found++
				if x.Name == b.Name || slices.ContainsFunc(b.Below, func(y *Branch) bool { return y.Name == x.Name }) {
					t.Fatalf("seed %d: %s is below %s already", seed, x.Name, b.Name)
				}
				if g.FullName(NodeID(x.Example)) != x.Name || x.Self.Count == 0 || x.Self.Bytes < s.Size(x.Example) {
					t.Fatalf("seed %d: %s of %s has %v, for example %d", seed, x.Name, b.Name, x.Self, x.Example)
				}
				depth := 0
				if !a.Live(x.Example) {
					depth++ // NotReachable
				}
				for v, ok := NodeID(x.Example), true; ok; depth++ {
					if v, ok = a.Tree.Parent(v); !ok {
						break
					}
				}
				if x.MinDepth > depth {
					t.Fatalf("seed %d: the nearest %s is %d away, but %d is %d", seed, x.Name, x.MinDepth, x.Example, depth)
				}
				refers := slices.ContainsFunc(a.Referrers(x.Example), func(v NodeID) bool { return g.FullName(v) == b.Name })
				if !refers {
					t.Fatalf("seed %d: no %s refers to %d", seed, b.Name, x.Example)
				}
			}
			for _, x := range b.Below {
				visit(x)
			}
		}
		visit(top)
	}
	if found < 100 {
		t.Errorf("%d secondary branches are too few to tell", found)
	}
}

// A's only object refers to two of X that others keep, the farther one first.
func TestMinDepthIsThatOfTheNearest(t *testing.T) {
	b := NewBuilder(Info{})
	var ids []ObjectID
	for i, name := range []string{"A", "X", "B", "B2", "C", "X"} {
		ids = append(ids, b.AddObject(uint64(0x1000+64*i), 64, b.AddType(Type{Name: name})))
	}
	a, far, outer, inner, c, near := ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]
	refer := func(from ObjectID, to ...ObjectID) {
		for _, x := range to {
			b.AddReference(from, 0, x)
		}
	}
	refer(a, far, near)
	refer(outer, inner)
	refer(inner, far)
	refer(c, near)
	for i, x := range []ObjectID{outer, c, a} {
		b.AddRootReference(b.AddRoot(Root{Kind: Global, Name: []string{"main.b", "main.c", "main.a"}[i]}), 0, x)
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	an := Analyze(s, prioritiesOf(t, "^A->-10;^main.a->-100"))
	top, err := an.Branches(BranchOptions{Secondary: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range top.Below[0].Below {
		if root.Name != "main.a" {
			continue
		}
		x := root.Below[0].Secondary
		if len(x) != 1 || x[0].Name != "X" || x[0].MinDepth != 4 || x[0].Self != (Total{2, 128}) {
			t.Errorf("beside A's own is %+v", x)
		}
		return
	}
	t.Errorf("main.a is not in %+v", top.Below[0])
}
