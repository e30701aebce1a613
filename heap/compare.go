package heap

import (
	"cmp"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Difference is what changed between two snapshots of one process. An object is the same in both if
// it is live in both, at one address, of one type and size: Go's collector does not move objects. An
// object that took the place of another of its type and size passes for it.
type Difference struct {
	Before, After *Analysis

	New, Gone, Survived Total
	// Types are the types of which objects came or went, that which grew the most first, then by how
	// much they shrank.
	Types []TypeGrowth
	// Growth is the same by type and by what keeps the objects.
	Growth []Growth
}

// A TypeGrowth is how the objects of a type changed.
type TypeGrowth struct {
	Type                Type
	New, Gone, Survived Total
}

// Bytes is by how much they grew; negative where they shrank.
func (g *TypeGrowth) Bytes() int64 { return int64(g.New.Bytes) - int64(g.Gone.Bytes) }

// Count is by how many objects they became more.
func (g *TypeGrowth) Count() int { return g.New.Count - g.Gone.Count }

// A Growth is how the objects of a type that are kept by the same changed.
type Growth struct {
	TypeGrowth
	// Keepers are the name of the root and the first types on the way from it in the tree that are not
	// the runtime's or the standard library's, at most MostKeepers, each as often as in a row once.
	Keepers []string
	// Example is a new object, or where there is none one that went, in Of: After or Before.
	Example ObjectID
	Of      *Analysis
	// Stack is where the largest of the sampled objects was allocated, of Of's Stacks; 0 where none of
	// them was sampled.
	Stack profile.StackID
}

// Path is the way to Example.
func (g *Growth) Path() Path { return g.Of.Path(g.Example) }

// MostKeepers is how many types of a path tell growth apart.
const MostKeepers = 3

// What became of an object.
const (
	stayed = iota + 1
	left   // of those before
	came   // of those after
)

// Compare tells what changed from one snapshot to a later one.
func Compare(before, after *Analysis) *Difference {
	d := &Difference{Before: before, After: after}
	wasType, isType := d.types()
	a, b := before.Snapshot, after.Snapshot
	fateBefore, fateAfter := make([]byte, a.Len()+1), make([]byte, b.Len()+1)
	for i, j := ObjectID(1), ObjectID(1); int(i) <= a.Len() || int(j) <= b.Len(); {
		switch {
		case int(j) > b.Len() || int(i) <= a.Len() && a.Address(i) < b.Address(j):
			fateBefore[i] = fateOf(before, i, left)
			i++
		case int(i) > a.Len() || b.Address(j) < a.Address(i):
			fateAfter[j] = fateOf(after, j, came)
			j++
		default:
			if before.Live(i) && after.Live(j) && wasType[a.TypeOf(i)] == isType[b.TypeOf(j)] && a.Size(i) == b.Size(j) {
				fateBefore[i], fateAfter[j] = stayed, stayed
			} else {
				fateBefore[i], fateAfter[j] = fateOf(before, i, left), fateOf(after, j, came)
			}
			i, j = i+1, j+1
		}
	}
	d.sum(fateBefore, fateAfter, wasType, isType)
	return d
}

func fateOf(a *Analysis, id ObjectID, fate byte) byte {
	if a.Live(id) {
		return fate
	}
	return 0
}

// Types numbers the types of both snapshots: those that are called the same have one number. Where a
// type is declared does not make it another.
func (d *Difference) types() (before, after []uint32) {
	type name struct{ name, pkg string }
	numbers := map[name]uint32{}
	number := func(s *Snapshot) []uint32 {
		out := make([]uint32, len(s.Types))
		for i, t := range s.Types {
			k := name{t.Name, t.Package}
			n, ok := numbers[k]
			if !ok {
				n = uint32(len(d.Types))
				numbers[k] = n
				d.Types = append(d.Types, TypeGrowth{Type: t})
			}
			out[i] = n
		}
		return out
	}
	return number(d.Before.Snapshot), number(d.After.Snapshot)
}

func (d *Difference) sum(fateBefore, fateAfter []byte, wasType, isType []uint32) {
	type key struct{ keepers, kind uint32 }
	trails := newTrails()
	at := map[key]*Growth{}
	largest := map[key]uint64{}
	part := func(a *Analysis, fates []byte, types []uint32, fate byte) {
		s := a.Snapshot
		keepers := trails.of(a)
		for id := ObjectID(1); int(id) <= s.Len(); id++ {
			if fates[id] == 0 {
				continue
			}
			size := s.Size(id)
			byType := &d.Types[types[s.TypeOf(id)]]
			if fates[id] == stayed {
				if fate == came {
					d.Survived.add(size)
					byType.Survived.add(size)
				}
				continue
			}
			k := key{keepers[id], types[s.TypeOf(id)]}
			g := at[k]
			if g == nil {
				g = &Growth{TypeGrowth: TypeGrowth{Type: byType.Type}, Keepers: trails.names(k.keepers)}
				at[k] = g
			}
			if g.Of != a && (g.Of == nil || fate == came) {
				g.Of, g.Example, g.Stack = a, id, 0
			}
			if fate == came {
				d.New.add(size)
				byType.New.add(size)
				g.New.add(size)
			} else {
				d.Gone.add(size)
				byType.Gone.add(size)
				g.Gone.add(size)
			}
		}
		for i := range s.Sampled {
			x := &s.Sampled[i]
			if fates[x.Object] == fate {
				k := key{keepers[x.Object], types[s.TypeOf(x.Object)]}
				if g := at[k]; g.Of == a && (g.Stack == 0 || s.Size(x.Object) > largest[k]) {
					g.Example, g.Stack, largest[k] = x.Object, x.Stack, s.Size(x.Object)
				}
			}
		}
	}
	part(d.After, fateAfter, isType, came)
	part(d.Before, fateBefore, wasType, left)
	d.Types = slices.DeleteFunc(d.Types, func(g TypeGrowth) bool { return g.New.Count+g.Gone.Count == 0 })
	slices.SortStableFunc(d.Types, func(x, y TypeGrowth) int {
		return cmp.Or(cmp.Compare(y.Bytes(), x.Bytes()), cmp.Compare(y.Count(), x.Count()), cmp.Compare(x.Type.Name, y.Type.Name))
	})
	for _, g := range at {
		d.Growth = append(d.Growth, *g)
	}
	slices.SortFunc(d.Growth, func(x, y Growth) int {
		return cmp.Or(cmp.Compare(y.Bytes(), x.Bytes()), cmp.Compare(y.Count(), x.Count()), cmp.Compare(x.Type.Name, y.Type.Name),
			slices.Compare(x.Keepers, y.Keepers), cmp.Compare(x.Example, y.Example))
	})
}

// Trails number the keepers of objects, for several snapshots: 0 is none.
type trails struct {
	all   []trail
	index map[trail]uint32
}

// A trail is one keeper behind others.
type trail struct {
	before uint32
	name   string
	length int
}

func newTrails() *trails { return &trails{all: make([]trail, 1), index: map[trail]uint32{}} }

func (t *trails) longer(before uint32, name string) uint32 {
	k := trail{before, name, t.all[before].length + 1}
	id, ok := t.index[k]
	if !ok {
		id = uint32(len(t.all))
		t.all = append(t.all, k)
		t.index[k] = id
	}
	return id
}

func (t *trails) names(id uint32) []string {
	var names []string
	for ; id != 0; id = t.all[id].before {
		names = append(names, t.all[id].name)
	}
	slices.Reverse(names)
	return names
}

// Of is the number of each object's keepers, by id: they are above the object itself.
func (t *trails) of(a *Analysis) []uint32 {
	g, s := a.Tree.Graph, a.Snapshot
	// What each node adds to is what its children have.
	below := make([]uint32, g.Len())
	out := make([]uint32, s.Len()+1)
	type step struct {
		before uint32
		kind   TypeID
	}
	known := map[step]uint32{}
	for _, v := range a.Tree.Order {
		up, ok := a.Tree.Parent(v)
		before := uint32(0)
		if ok {
			before = below[up]
		}
		below[v] = before
		switch g.Kind(v) {
		case ObjectNode:
			out[v] = before
			k := step{before, s.TypeOf(ObjectID(v))}
			id, ok := known[k]
			if !ok {
				id = before
				x := &s.Types[k.kind]
				// A list is no longer for having more links: what is there already is not said again.
				if (x.Origin == Own || x.Origin == Dependency) && t.all[before].length <= MostKeepers && !slices.Contains(t.names(before), x.Name) {
					id = t.longer(before, x.Name)
				}
				known[k] = id
			}
			below[v] = id
		case RootNode:
			below[v] = t.longer(0, g.Name(v))
		}
	}
	return out
}
