package heap

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Each of these is asked in a second, slower way: by what can be reached without.
func TestSetsAndFieldsRetainWhatCannotBeReachedWithout(t *testing.T) {
	more := 0
	for seed := range uint64(80) {
		s := randomSnapshot(t, seed, 40)
		a := Analyze(s, nil)
		g := a.Graph
		all := reach(g, nothing)
		liveBytes, liveObjects := sizeOf(g, all)
		if live, dead := a.Totals(); live != (Total{liveObjects, liveBytes}) || live.Count+dead.Count != s.Len() {
			t.Fatalf("seed %d: live are %v and dead %v of %d", seed, live, dead, s.Len())
		}
		rows := a.Types()
		var sum Total
		for _, row := range rows {
			sum.Count, sum.Bytes = sum.Count+row.Count, sum.Bytes+row.Bytes
			of := func(id ObjectID) bool { return s.TypeOf(id) == row.Type }
			set, by := a.RetainedSet(of)
			rest := reach(g, func(v NodeID) bool { return g.Object(v) != 0 && of(g.Object(v)) })
			bytes, objects := sizeOf(g, rest)
			if want := (Total{liveObjects - objects, liveBytes - bytes}); set != want {
				t.Fatalf("seed %d: all of %s retain %v, want %v", seed, s.Types[row.Type], set, want)
			}
			var parts Total
			for _, r := range by {
				parts.Count, parts.Bytes = parts.Count+r.Count, parts.Bytes+r.Bytes
			}
			if parts != set {
				t.Fatalf("seed %d: the parts of what %s retains are %v of %v", seed, s.Types[row.Type], parts, set)
			}
			// One by one: the sets of those that no other of the type dominates.
			want, top := uint64(0), uint64(0)
			for id := ObjectID(1); int(id) <= s.Len(); id++ {
				if !of(id) || !a.Live(id) {
					continue
				}
				outermost := true
				for v := a.Dominators.Parent(NodeID(id)); v != 0; v = a.Dominators.Parent(v) {
					if g.Object(v) != 0 && of(g.Object(v)) {
						outermost = false
					}
				}
				if n, _ := a.Retained(id); outermost {
					want += n
					top = max(top, n)
				}
			}
			if row.Retained != want || row.Retained > set.Bytes {
				t.Fatalf("seed %d: %s retains %d one by one, want %d, and %d in all", seed, s.Types[row.Type], row.Retained, want, set.Bytes)
			}
			if n, _ := a.Retained(row.Example); n != top || s.TypeOf(row.Example) != row.Type {
				t.Fatalf("seed %d: the example of %s retains %d, want %d", seed, s.Types[row.Type], n, top)
			}
			if row.Retained < set.Bytes {
				more++
			}
			for _, f := range a.Fields(of) {
				keep := map[NodeID]bool{}
				var visit func(v NodeID)
				visit = func(v NodeID) {
					if keep[v] {
						return
					}
					keep[v] = true
					if id := g.Object(v); id != 0 {
						to, fields := s.References(id)
						for i := range to {
							if !of(id) || fields[i] != f.Field {
								visit(NodeID(to[i]))
							}
						}
						return
					}
					g.Edges(v, func(w NodeID) bool { visit(w); return true })
				}
				visit(0)
				bytes, objects := sizeOf(g, keep)
				if want := (Total{liveObjects - objects, liveBytes - bytes}); f.Retained != want {
					t.Fatalf("seed %d: field %d of %s retains %v, want %v", seed, f.Field, s.Types[row.Type], f.Retained, want)
				}
			}
			type holder struct {
				kind  TypeID
				root  NodeID
				field FieldID
			}
			holders := map[holder]int{}
			for id := ObjectID(1); int(id) <= s.Len(); id++ {
				if of(id) && a.Live(id) {
					up, _ := a.Tree.Parent(NodeID(id))
					k := holder{field: a.Tree.Graph.FieldTo(up, id)}
					if o := a.Tree.Graph.Object(up); o != 0 {
						k.kind = s.TypeOf(o)
					} else {
						k.root = up
					}
					holders[k]++
				}
			}
			var held Total
			for _, h := range a.Holders(of) {
				held.Count, held.Bytes = held.Count+h.Count, held.Bytes+h.Bytes
				if n := holders[holder{h.Type, h.Root, h.Field}]; n != h.Count {
					t.Fatalf("seed %d: %+v holds %d of %s", seed, h, n, s.Types[row.Type])
				}
			}
			if held != row.Total {
				t.Fatalf("seed %d: %v of %s are held, of %v", seed, held, s.Types[row.Type], row.Total)
			}
		}
		if sum != (Total{liveObjects, liveBytes}) {
			t.Fatalf("seed %d: the types are %v of %v", seed, sum, liveBytes)
		}
	}
	if more == 0 {
		t.Error("no type retains together more than one by one")
	}
}

func TestPathsAreWaysFromRoots(t *testing.T) {
	several := 0
	for seed := range uint64(60) {
		s := randomSnapshot(t, seed, 40)
		a := Analyze(s, nil)
		g := a.Tree.Graph
		check := func(p Path, to ObjectID) {
			t.Helper()
			if g.Kind(p[0].Node) != RootNode || p[len(p)-1].Node != NodeID(to) {
				t.Fatalf("seed %d: the path to %d is %v", seed, to, p)
			}
			for i := 1; i < len(p); i++ {
				found := false
				look := func(targets []ObjectID, fields []FieldID) {
					for k, w := range targets {
						found = found || NodeID(w) == p[i].Node && fields[k] == p[i].Field
					}
				}
				if i == 1 {
					for _, r := range g.Roots(p[0].Node) {
						look(s.RootReferences(r))
					}
				} else {
					look(s.References(ObjectID(p[i-1].Node)))
				}
				if !found {
					t.Fatalf("seed %d: no reference from step %d to the next of %v", seed, i-1, p)
				}
			}
		}
		// Distances from each root, by searching onwards.
		distance := map[NodeID]map[NodeID]int{}
		for v := NodeID(s.Len() + 1); int(v) < g.Len(); v++ {
			if g.Kind(v) != RootNode {
				continue
			}
			d := map[NodeID]int{v: 1}
			for queue := []NodeID{v}; len(queue) > 0; queue = queue[1:] {
				g.Edges(queue[0], func(w NodeID) bool {
					if _, ok := d[w]; !ok {
						d[w] = d[queue[0]] + 1
						queue = append(queue, w)
					}
					return true
				})
			}
			distance[v] = d
		}
		for id := ObjectID(1); int(id) <= s.Len(); id++ {
			p, paths := a.Path(id), a.Paths(id, 0)
			if !a.Live(id) {
				if p != nil || len(paths) != 0 {
					t.Fatalf("seed %d: dead object %d has paths", seed, id)
				}
				continue
			}
			check(p, id)
			want := map[NodeID]int{}
			for root, d := range distance {
				if n, ok := d[NodeID(id)]; ok {
					want[root] = n
				}
			}
			got := map[NodeID]int{}
			for i, p := range paths {
				check(p, id)
				got[p[0].Node] = len(p)
				if i > 0 && g.weakness(p[0].Node) < g.weakness(paths[i-1][0].Node) {
					t.Fatalf("seed %d: a weaker root comes first", seed)
				}
			}
			if !maps.Equal(got, want) {
				t.Fatalf("seed %d: paths to %d have lengths %v, want %v", seed, id, got, want)
			}
			if len(paths) > 1 {
				several++
				if one := a.Paths(id, 1); len(one) != 1 || !slices.Equal(one[0], paths[0]) {
					t.Fatalf("seed %d: the first path alone is %v", seed, one)
				}
			}
		}
	}
	if several < 100 {
		t.Errorf("only %d objects have several paths", several)
	}
}

// A list and a map of sessions, each with a string: what a person would read of it.
func sessions(t testing.TB, n int, before bool) *Snapshot {
	t.Helper()
	b := NewBuilder(Info{Module: "app", Command: "server", PID: 7})
	registry := b.AddType(Type{Name: "main.registry", Package: "main", Origin: Own})
	table := b.AddType(Type{Name: "map[int]*main.Session", Kind: "map"})
	session := b.AddType(Type{Name: "main.Session", Package: "main", Origin: Own, File: "/src/main.go", Line: 12})
	text := b.AddType(Type{Name: "string"})
	link := b.AddType(Type{Name: "main.Link", Package: "main", Origin: Own})
	conn := b.AddType(Type{Name: "net/http.conn", Package: "net/http", Origin: Standard})
	at := uint64(0x1000)
	add := func(size uint64, k TypeID) ObjectID {
		at += size
		return b.AddObject(at-size, size, k)
	}
	value, user, next := b.AddField(Field{Name: "[value]"}), b.AddField(Field{Name: "User"}), b.AddField(Field{Name: "Next"})
	r, m := add(32, registry), add(512, table)
	b.AddReference(r, b.AddField(Field{Name: "sessions"}), m)
	allocated := b.AddStack([]profile.Frame{{Func: "main.open", File: "/src/main.go", Line: 40}, {Func: "main.main", File: "/src/main.go", Line: 9}})
	for i := range n {
		x := add(64, session)
		b.AddReference(m, value, x)
		b.AddReference(x, user, add(16, text))
		if i%10 == 0 {
			b.AddSampled(Sampled{Object: x, Stack: allocated, Count: 10, Bytes: 640})
		}
	}
	reg := b.AddRoot(Root{Kind: Global, Name: "main.reg"})
	b.AddRootReference(reg, 0, r)
	if before {
		at += 1 << 20
	}
	last := ObjectID(0)
	local := b.AddRoot(Root{Kind: Local, Name: "main.run.head", Goroutine: b.AddGoroutine(Goroutine{
		Number: 1, State: "waiting", Wait: "select", Stack: b.AddStack([]profile.Frame{{Func: "runtime.gopark"}, {Func: "main.run", File: "/src/main.go", Line: 30}})})})
	for range 1000 {
		x := add(24, link)
		if last == 0 {
			b.AddRootReference(local, 0, x)
		} else {
			b.AddReference(last, next, x)
		}
		last = x
	}
	b.AddReference(last, b.AddField(Field{Name: "owner"}), add(128, conn))
	add(48, session) // garbage
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestACaptureIsTheHeapAsStacks(t *testing.T) {
	a := Analyze(sessions(t, 20, false), nil)
	c := a.Capture()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	text := func(kind profile.Kind) string {
		p, err := c.Profile(kind)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for i := range p.Samples.Len() {
			x := p.Samples.At(i)
			var names []string
			for _, f := range p.Stacks.RootFirst(x.Stack, nil) {
				name := p.Frames[f].Func
				if m := p.Frames[f].Module; m != "" {
					name = m + "!" + name
				}
				names = append(names, name)
			}
			lines = append(lines, strings.Join(names, ";")+" "+profileMeasure(x))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	for kind, want := range map[profile.Kind]string{
		RetainedKind: `[globals];main.reg;main.registry 1 32
[globals];main.reg;main.registry;map[int]*main.Session 1 512
[globals];main.reg;main.registry;map[int]*main.Session;main.Session 20 1280
[globals];main.reg;main.registry;map[int]*main.Session;main.Session;string 20 320
[goroutines];main.run, select;main.run.head;main.Link 1000 24000
[goroutines];main.run, select;main.run.head;main.Link;std!net/http.conn 1 128`,
		TreeKind: `[globals];main.reg;main.registry 1 32
[globals];main.reg;main.registry;map[int]*main.Session 1 512
[globals];main.reg;main.registry;map[int]*main.Session;main.Session 20 1280
[globals];main.reg;main.registry;map[int]*main.Session;main.Session;string 20 320
[local vars];main.run.head;main.Link 1000 24000
[local vars];main.run.head;main.Link;std!net/http.conn 1 128
[not reachable from roots];main.Session 1 48`,
		AllocatedKind:  `main.main;main.open 20 1280`,
		GoroutinesKind: `main.run;runtime.gopark 1 24128`,
	} {
		if got := text(kind); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", kind, got, want)
		}
	}
	// All objects are there in any shape.
	for seed := range uint64(40) {
		a := Analyze(randomSnapshot(t, seed, 60), nil)
		c := a.Capture()
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		live, dead := a.Totals()
		whole := profile.Measure{Weight: int64(live.Bytes + dead.Bytes), Count: int64(live.Count + dead.Count)}
		if got := c.Of(TreeKind).Samples.Sum(); got != whole {
			t.Fatalf("seed %d: the tree has %v of %v", seed, got, whole)
		}
		if live.Count == 0 {
			continue
		}
		if got := c.Of(RetainedKind).Samples.Sum(); got != (profile.Measure{Weight: int64(live.Bytes), Count: int64(live.Count)}) {
			t.Fatalf("seed %d: retained has %v of %v", seed, got, live)
		}
	}
}

func profileMeasure(x profile.Sample) string {
	return strings.Join([]string{itoa(x.Count), itoa(x.Weight)}, " ")
}

func itoa(n int64) string {
	var b []byte
	for ; n > 0 || b == nil; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

func TestRowsOfTypesThatComeAgainAreOne(t *testing.T) {
	b := NewBuilder(Info{})
	x, y := b.AddType(Type{Name: "X"}), b.AddType(Type{Name: "Y"})
	const n = 3000
	for i := range uint64(n) {
		b.AddObject(0x1000+16*i, 16, []TypeID{x, y}[i%2])
		if i > 0 {
			b.AddReference(ObjectID(i), 0, ObjectID(i+1))
		}
	}
	b.AddRootReference(b.AddRoot(Root{Kind: Global, Name: "main.list"}), 0, 1)
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	c := Analyze(s, nil).Capture()
	if got := c.Of(RetainedKind).Samples.Len(); got > 4 {
		t.Errorf("a list of two types is %d stacks", got)
	}
	if got := c.Of(RetainedKind).Samples.Sum().Count; got != n {
		t.Errorf("%d of %d objects are there", got, n)
	}
}

func TestCompareTellsObjectsApart(t *testing.T) {
	a, b := sessions(t, 20, true), sessions(t, 35, true)
	before, after := Analyze(a, nil), Analyze(b, nil)
	d := Compare(before, after)
	// By a second way: sets of what identifies an object.
	type identity struct {
		address, size uint64
		kind          string
	}
	set := func(a *Analysis) map[identity]bool {
		m := map[identity]bool{}
		for id := ObjectID(1); int(id) <= a.Snapshot.Len(); id++ {
			if a.Live(id) {
				m[identity{a.Snapshot.Address(id), a.Snapshot.Size(id), a.Snapshot.Types[a.Snapshot.TypeOf(id)].Name}] = true
			}
		}
		return m
	}
	was, is := set(before), set(after)
	var fresh, gone, survived Total
	for x := range is {
		if was[x] {
			survived.add(x.size)
		} else {
			fresh.add(x.size)
		}
	}
	for x := range was {
		if !is[x] {
			gone.add(x.size)
		}
	}
	if d.New != fresh || d.Gone != gone || d.Survived != survived || fresh.Count < 30 || survived.Count < 40 {
		t.Errorf("new %v, gone %v, survived %v; want %v, %v, %v", d.New, d.Gone, d.Survived, fresh, gone, survived)
	}
	g := d.Growth[0]
	if g.Type.Name != "main.Session" || g.Bytes() != 15*64 || !slices.Equal(g.Keepers, []string{"main.reg", "main.registry"}) {
		t.Errorf("most growth is %+v", g)
	}
	if g.Of != after || b.Frames[b.Stacks.Leaf(g.Stack)].Line != 40 || len(g.Path()) != 4 {
		t.Errorf("its example is %d, on a path of %d, allocated at %v", g.Example, len(g.Path()), b.Frames[b.Stacks.Leaf(g.Stack)])
	}
	var sum int64
	for _, g := range d.Growth {
		sum += g.Bytes()
	}
	if want := int64(fresh.Bytes) - int64(gone.Bytes); sum != want {
		t.Errorf("growth adds up to %d, want %d", sum, want)
	}
	same := Compare(before, Analyze(sessions(t, 20, true), nil))
	if same.New.Count+same.Gone.Count != 0 || len(same.Growth)+len(same.Types) != 0 || same.Survived.Count != len(was) {
		t.Errorf("the same heap differs: new %v, gone %v", same.New, same.Gone)
	}
	back := Compare(after, before)
	if back.New != gone || back.Gone != fresh || back.Types[len(back.Types)-1].Bytes() >= 0 {
		t.Errorf("backwards: new %v, gone %v", back.New, back.Gone)
	}
}

func TestGoroutinesAreGroupedByStateAndPlace(t *testing.T) {
	b := NewBuilder(Info{Module: "app"})
	worker := b.AddStack([]profile.Frame{{Func: "runtime.gopark"}, {Func: "runtime.chanrecv"}, {Func: "sync.(*Cond).Wait"}, {Func: "app/jobs.worker", Line: 94}, {Func: "main.main"}})
	idle := b.AddStack([]profile.Frame{{Func: "runtime.gopark"}, {Func: "runtime.bgsweep"}})
	b.AddGoroutine(Goroutine{Number: 2, State: "waiting", Wait: "GC sweep wait", Stack: idle, System: true})
	for i := range 3 {
		g := b.AddGoroutine(Goroutine{Number: int64(9 - i), State: "waiting", Wait: "chan receive", Stack: worker, Bytes: 8192, Blocked: BlockedLong * 40})
		x := b.AddObject(uint64(0x1000+64*i), 64, 0)
		b.AddRootReference(b.AddRoot(Root{Kind: Local, Name: "app/jobs.worker.buf", Goroutine: g}), 0, x)
	}
	shared := b.AddObject(0x2000, 100, 0)
	for id := range 3 {
		b.AddRootReference(RootID(id+1), 0, shared)
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	a := Analyze(s, nil)
	groups := a.Graph.Groups
	if len(groups) != 2 || groups[0].Name() != "app/jobs.worker, chan receive" || len(groups[0].Members) != 3 || groups[0].Longest != 40*BlockedLong || groups[0].Stacks != 3*8192 {
		t.Fatalf("groups are %+v", groups)
	}
	if groups[1].Name() != "runtime.bgsweep, GC sweep wait" || !groups[1].System {
		t.Errorf("the runtime's own are %+v", groups[1])
	}
	if n := s.Goroutines[groups[0].Members[0]].Number; n != 7 {
		t.Errorf("the first goroutine is %d, want 7", n)
	}
	rows := a.Goroutines()
	if rows[0].Group != 0 || rows[0].Held != (Total{4, 292}) || rows[0].Most.Bytes != 64 {
		t.Errorf("the first group holds %+v", rows[0])
	}
	// Stuck for long, they are as good a parent as a global.
	if up, _ := a.Tree.Parent(1); a.Tree.Graph.Name(a.Tree.Graph.Parent(up)) != StuckName {
		t.Errorf("the buffer is under %s", a.Tree.Graph.Name(a.Tree.Graph.Parent(up)))
	}
}

func TestAccumulations(t *testing.T) {
	s := sessions(t, 200, false)
	a := Analyze(s, nil)
	live, _ := a.Totals()
	names := func(least uint64) (out []string) {
		for _, id := range a.Accumulations(least) {
			out = append(out, s.Types[s.TypeOf(id)].Name)
		}
		return out
	}
	// The registry has nothing but the map, so that it is the map where much comes together; of the list's
	// links it is the first.
	if got, want := names(live.Bytes/100), []string{"main.Link", "map[int]*main.Session"}; !slices.Equal(got, want) {
		t.Errorf("much comes together in %v, want %v", got, want)
	}
	if got := names(live.Bytes); len(got) != 0 {
		t.Errorf("all of the heap comes together in %v", got)
	}
	for _, id := range a.Accumulations(0) {
		if n, _ := a.Retained(id); n == 0 || !a.Live(id) {
			t.Errorf("object %d retains %d", id, n)
		}
	}
}
