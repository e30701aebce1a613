package heap

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Edge is a reference between objects by address, which any order of adding leaves as it is.
type edge struct {
	from, to uint64
	field    string
}

func edgesOf(s *Snapshot) []edge {
	var all []edge
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		to, field := s.References(id)
		for i := range to {
			all = append(all, edge{s.Address(id), s.Address(to[i]), s.Fields[field[i]].Name})
		}
	}
	return all
}

func TestTheOrderOfAddingDoesNotMatter(t *testing.T) {
	const n = 50
	random := rand.New(rand.NewPCG(1, 2))
	// References of one object keep their order: those of object i lead to a list of others.
	lists := make([][]int, n)
	for i := range lists {
		for range random.IntN(4) {
			lists[i] = append(lists[i], random.IntN(n))
		}
	}
	fieldNames := []string{"a", "b", "c", "d"}
	make := func(objects, starts []int, runs bool) *Snapshot {
		b := NewBuilder(Info{})
		typ := [2]TypeID{b.AddType(Type{Name: "main.Even", Kind: "struct"}), b.AddType(Type{Name: "main.Odd"})}
		ids := map[int]ObjectID{}
		for _, i := range objects {
			size := uint64(16)
			if i == 7 {
				size = 5 << 32
			}
			address := 1000 + uint64(i)*16
			if i > 7 {
				address += 5 << 32
			}
			ids[i] = b.AddObject(address, size, typ[i%2])
		}
		for _, i := range starts {
			if runs {
				var to []ObjectID
				var fields []FieldID
				for k, x := range lists[i] {
					to, fields = append(to, ids[x]), append(fields, b.AddField(Field{Name: fieldNames[k]}))
				}
				b.AddReferenceRun(ids[i], []uint32{uint32(len(to))}, to, fields)
				continue
			}
			for k, x := range lists[i] {
				b.AddReference(ids[i], b.AddField(Field{Name: fieldNames[k]}), ids[x])
			}
		}
		r := b.AddRoot(Root{Kind: Global, Name: "main.all"})
		b.AddRootReference(r, b.AddField(Field{Name: "[]"}), ids[3])
		b.AddSampled(Sampled{Object: ids[9], Count: 2, Bytes: 32})
		b.AddSampled(Sampled{Object: ids[4], Count: 1, Bytes: 16})
		b.AddWaste(Waste{Kind: Padding, Example: ids[5], Bytes: 3})
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	order := random.Perm(n)
	sorted := slices.Sorted(slices.Values(order))
	want := make(sorted, sorted, false)
	if len(edgesOf(want)) < n/2 {
		t.Fatal("hardly any references to compare")
	}
	for name, got := range map[string]*Snapshot{
		"objects and references": make(order, random.Perm(n), false),
		"references":             make(sorted, random.Perm(n), false),
		"runs":                   make(sorted, sorted, true),
		"runs in disorder":       make(order, random.Perm(n), true),
	} {
		if d := cmp.Diff(edgesOf(want), edgesOf(got), cmp.AllowUnexported(edge{})); d != "" {
			t.Errorf("%s added in disorder:\n%s", name, d)
		}
		if d := cmp.Diff(want.Sampled, got.Sampled); d != "" {
			t.Errorf("%s: sampled:\n%s", name, d)
		}
		if d := cmp.Diff(want.Waste, got.Waste); d != "" {
			t.Errorf("%s: waste:\n%s", name, d)
		}
		for id := ObjectID(1); int(id) <= n; id++ {
			if want.Address(id) != got.Address(id) || want.Size(id) != got.Size(id) || want.TypeOf(id) != got.TypeOf(id) {
				t.Errorf("%s: object %d is at %#x", name, id, got.Address(id))
			}
		}
		if to, _ := got.RootReferences(1); len(to) != 1 || got.Address(to[0]) != 1048 {
			t.Errorf("%s: the root leads to %v", name, to)
		}
		if id := got.At(1000 + 7*16 + 5<<32 - 1); id != 8 || got.Size(id) != 5<<32 {
			t.Errorf("%s: the last byte of the largest object is in object %d", name, id)
		}
		if id := got.At(999); id != 0 {
			t.Errorf("%s: nothing is at 999, not object %d", name, id)
		}
	}
}

func TestStacksAreInterned(t *testing.T) {
	b := NewBuilder(Info{})
	inner, outer := profile.Frame{Func: "main.f", Line: 3}, profile.Frame{Func: "main.main"}
	if b.AddStack([]profile.Frame{inner, outer}) != b.AddStack([]profile.Frame{inner, outer}) || b.AddStack(nil) != 0 {
		t.Error("equal stacks differ")
	}
	id := b.AddStack([]profile.Frame{inner, outer})
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if s.Frames[s.Stacks.Leaf(id)] != inner {
		t.Error("the leaf is not the innermost frame")
	}
}

func TestBuildRefusesWhatDoesNotFit(t *testing.T) {
	for want, add := range map[string]func(b *Builder){
		"object 3 of 2":   func(b *Builder) { b.AddReference(1, 0, 3) },
		"field 1 of 0":    func(b *Builder) { b.AddReference(1, 1, 2) },
		"starts at 7":     func(b *Builder) { b.AddReference(7, 0, 2) },
		"starts at 0":     func(b *Builder) { b.AddReference(0, 0, 2) },
		"starts at 9":     func(b *Builder) { b.AddReference(2, 0, 2); b.AddReference(1, 0, 1); b.AddReference(9, 0, 1) },
		"starts at 1 of":  func(b *Builder) { b.AddRootReference(1, 0, 2) },
		"overlaps":        func(b *Builder) { b.AddObject(104, 4, 0) },
		"type 5 of 0":     func(b *Builder) { b.AddObject(500, 8, 5) },
		"kind 0":          func(b *Builder) { b.AddRoot(Root{Name: "x"}) },
		"goroutine 1 of":  func(b *Builder) { b.AddRoot(Root{Kind: Local, Goroutine: 1}) },
		"allocation 0 is": func(b *Builder) { b.AddSampled(Sampled{Object: 3}) },
		"waste 0":         func(b *Builder) { b.AddWaste(Waste{Field: 1}) },
	} {
		b := NewBuilder(Info{})
		b.AddObject(100, 8, 0)
		b.AddObject(200, 8, 0)
		add(b)
		if s, err := b.Build(); err == nil || s != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
		if _, err := b.Build(); err == nil {
			t.Error("a builder built twice")
		}
	}
}

func TestOrigins(t *testing.T) {
	for pkg, want := range map[string]Origin{
		"": Builtin, "main": Own, "corp/app": Own, "corp/app/db": Own, "corp/apple": Standard, "net/http": Standard,
		"runtime": Runtime, "internal/runtime/maps": Runtime, "github.com/x/y": Dependency, "runtime/debug": Standard,
	} {
		if got := OriginOf(pkg, "corp/app"); got != want {
			t.Errorf("%q is %s, want %s", pkg, got, want)
		}
	}
}
