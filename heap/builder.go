package heap

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Builder collects a heap and makes a Snapshot of it. Its methods are for one goroutine at a time;
// what costs time (finding the references of objects) can be done by several, each for a range of
// objects, and handed over with AddReferenceRun.
//
// Ids that it returns are good for its own methods only: Build puts the objects in order of address. It
// costs nothing where they were added so, and their references object by object, which is also what
// takes the least memory.
type Builder struct {
	Info Info // may be set until Build

	types      map[Type]TypeID
	fields     map[Field]FieldID
	frames     map[profile.Frame]profile.FrameID
	snapshot   *Snapshot
	outgoing   edges
	starting   edges
	unsorted   bool   // objects are not in order of address
	overflowed string // what was too many
}

// Bounds of the tables: ids are 32 bits and CSR ends are too.
const (
	maxObjects    = 1<<32 - 2
	maxReferences = 1<<32 - 2
)

// NewBuilder makes an empty builder.
func NewBuilder(info Info) *Builder {
	s := &Snapshot{
		Types: make([]Type, 1), Fields: make([]Field, 1), Roots: make([]Root, 1), Goroutines: make([]Goroutine, 1),
		Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](),
	}
	s.objects = columns{address: make([]uint64, 1), size: make([]uint32, 1), kind: make([]TypeID, 1)}
	return &Builder{
		Info: info, snapshot: s,
		types: map[Type]TypeID{{}: 0}, fields: map[Field]FieldID{{}: 0}, frames: map[profile.Frame]profile.FrameID{{}: 0},
	}
}

// Grow makes room for so many further objects and references, to save copying where the numbers are
// known.
func (b *Builder) Grow(objects, references int) {
	o := &b.snapshot.objects
	o.address, o.size, o.kind = slices.Grow(o.address, objects), slices.Grow(o.size, objects), slices.Grow(o.kind, objects)
	b.outgoing.to, b.outgoing.field = slices.Grow(b.outgoing.to, references), slices.Grow(b.outgoing.field, references)
	b.outgoing.first = slices.Grow(b.outgoing.first, objects+2)
}

// AddType is the id of a type: the same for an equal one.
func (b *Builder) AddType(t Type) TypeID {
	id, ok := b.types[t]
	if !ok {
		id = TypeID(len(b.snapshot.Types))
		b.snapshot.Types = append(b.snapshot.Types, t)
		b.types[t] = id
	}
	return id
}

// AddField is the id of a field: the same for an equal one.
func (b *Builder) AddField(f Field) FieldID {
	id, ok := b.fields[f]
	if !ok {
		id = FieldID(len(b.snapshot.Fields))
		b.snapshot.Fields = append(b.snapshot.Fields, f)
		b.fields[f] = id
	}
	return id
}

// AddObject adds an object at a runtime address; size is what it takes of the heap, 0 for what lies in
// the program's data. The type may be 0 and set later.
func (b *Builder) AddObject(address, size uint64, t TypeID) ObjectID {
	o := &b.snapshot.objects
	id := ObjectID(len(o.address))
	if len(o.address) > maxObjects {
		b.overflowed = "objects"
		return 0
	}
	b.unsorted = b.unsorted || address < o.address[id-1]
	if size >= hugeSize {
		o.huge = append(o.huge, hugeObject{id, size})
		size = hugeSize
	}
	o.address, o.size, o.kind = append(o.address, address), append(o.size, uint32(size)), append(o.kind, t)
	return id
}

// SetType sets the type of an object.
func (b *Builder) SetType(id ObjectID, t TypeID) { b.snapshot.objects.kind[id] = t }

// TypeOf is the type of an object as it was added or set.
func (b *Builder) TypeOf(id ObjectID) TypeID { return b.snapshot.objects.kind[id] }

// AddReference adds a reference from one object to another, through a field.
func (b *Builder) AddReference(from ObjectID, field FieldID, to ObjectID) {
	b.full(b.outgoing.add(uint32(from), field, to))
}

// AddReferenceRun adds the references of objects first, first+1, …: those of first+i are to and field
// from end[i-1] (0 for the first) to end[i]; the last end is the slices' length. It copies the slices.
func (b *Builder) AddReferenceRun(first ObjectID, end []uint32, to []ObjectID, field []FieldID) {
	b.full(b.outgoing.addRun(uint32(first), end, to, field))
}

func (b *Builder) full(ok bool) {
	if !ok {
		b.overflowed = "references"
	}
}

// AddRoot adds a root, which need not be unique: roots of one kind and name are shown together.
func (b *Builder) AddRoot(r Root) RootID {
	b.snapshot.Roots = append(b.snapshot.Roots, r)
	return RootID(len(b.snapshot.Roots) - 1)
}

// AddRootReference adds a reference from a root to an object; field is the path within the variable.
func (b *Builder) AddRootReference(from RootID, field FieldID, to ObjectID) {
	b.full(b.starting.add(uint32(from), field, to))
}

// AddStack is the id of a stack of frames, the innermost first: the same for an equal one.
func (b *Builder) AddStack(leafFirst []profile.Frame) profile.StackID {
	id := profile.StackID(0)
	for _, f := range slices.Backward(leafFirst) {
		frame, ok := b.frames[f]
		if !ok {
			frame = profile.FrameID(len(b.snapshot.Frames))
			b.snapshot.Frames = append(b.snapshot.Frames, f)
			b.frames[f] = frame
		}
		if frame != 0 {
			id = b.snapshot.Stacks.Intern(id, frame)
		}
	}
	return id
}

// AddGoroutine adds a goroutine. Its roots name it by the id.
func (b *Builder) AddGoroutine(g Goroutine) GoroutineID {
	b.snapshot.Goroutines = append(b.snapshot.Goroutines, g)
	return GoroutineID(len(b.snapshot.Goroutines) - 1)
}

// AddSampled says where an object was allocated.
func (b *Builder) AddSampled(x Sampled) { b.snapshot.Sampled = append(b.snapshot.Sampled, x) }

// AddWaste adds memory that could be saved.
func (b *Builder) AddWaste(w Waste) { b.snapshot.Waste = append(b.snapshot.Waste, w) }

// Build checks what was added, puts it in order, and ends the builder, whose memory the snapshot takes
// over. It fails where an id is out of range, two objects begin at one address, or there are more than
// 32 bits can number.
func (b *Builder) Build() (*Snapshot, error) {
	s := b.snapshot
	if s == nil {
		return nil, errors.New("build heap snapshot: it was built before")
	}
	b.snapshot = nil
	if b.overflowed != "" {
		return nil, fmt.Errorf("build heap snapshot: there are more %s than the 4,294,967,294 that it can hold", b.overflowed)
	}
	s.Info = b.Info
	b.types, b.fields, b.frames = nil, nil, nil
	n, fields := len(s.objects.address), len(s.Fields)
	var err error
	if s.outgoing, err = b.outgoing.build(n, n, fields); err == nil {
		s.starting, err = b.starting.build(len(s.Roots), n, fields)
	}
	if err != nil {
		return nil, fmt.Errorf("build heap snapshot: %w", err)
	}
	if b.unsorted {
		s.sort()
	}
	slices.SortStableFunc(s.Sampled, func(x, y Sampled) int { return cmp.Compare(x.Object, y.Object) })
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("build heap snapshot: %w", err)
	}
	return s, nil
}

// Sort puts the objects in order of address and renames them wherever they are named.
func (s *Snapshot) sort() {
	o := &s.objects
	n := len(o.address)
	old := make([]ObjectID, n) // by new id
	for i := range old {
		old[i] = ObjectID(i)
	}
	slices.SortFunc(old[1:], func(x, y ObjectID) int {
		return cmp.Or(cmp.Compare(o.address[x], o.address[y]), cmp.Compare(x, y))
	})
	renamed := make([]ObjectID, n) // by old id
	sorted := columns{address: make([]uint64, n), size: make([]uint32, n), kind: make([]TypeID, n)}
	out := references{first: make([]uint32, n+1), to: make([]ObjectID, 0, len(s.outgoing.to)), field: make([]FieldID, 0, len(s.outgoing.to))}
	for i, x := range old {
		renamed[x] = ObjectID(i)
		sorted.address[i], sorted.size[i], sorted.kind[i] = o.address[x], o.size[x], o.kind[x]
		if o.size[x] == hugeSize {
			sorted.huge = append(sorted.huge, hugeObject{ObjectID(i), o.hugeSize(x)})
		}
		to, field := s.outgoing.of(uint32(x))
		out.to, out.field = append(out.to, to...), append(out.field, field...)
		out.first[i+1] = uint32(len(out.to))
	}
	for i, x := range out.to {
		out.to[i] = renamed[x]
	}
	for i, x := range s.starting.to {
		s.starting.to[i] = renamed[x]
	}
	for i := range s.Sampled {
		if x := &s.Sampled[i].Object; int(*x) < n {
			*x = renamed[*x]
		}
	}
	for i := range s.Waste {
		if x := &s.Waste[i].Example; int(*x) < n {
			*x = renamed[*x]
		}
	}
	s.objects, s.outgoing = sorted, out
}

// Edges are references on their way to become CSR. While they come in order of where they start, first
// grows with them; from the first that does not, from has where each starts.
type edges struct {
	first []uint32 // as references.first, for the starts seen so far
	from  []uint32
	to    []ObjectID
	field []FieldID
}

func (e *edges) add(from uint32, field FieldID, to ObjectID) bool {
	if len(e.to) >= maxReferences {
		return false
	}
	if e.from == nil {
		if int(from) >= len(e.first)-1 {
			e.reach(from)
		} else {
			e.disorder()
		}
	}
	if e.from != nil {
		e.from = append(e.from, from)
	}
	e.to, e.field = append(e.to, to), append(e.field, field)
	return true
}

// Reach says that what comes now starts at from: first[from] is set.
func (e *edges) reach(from uint32) {
	for uint64(len(e.first)) <= uint64(from) {
		e.first = append(e.first, uint32(len(e.to)))
	}
}

// Disorder gives each reference its own start.
func (e *edges) disorder() {
	e.from = make([]uint32, len(e.to), cap(e.to)+1)
	for x := range e.first {
		to := len(e.to)
		if x+1 < len(e.first) {
			to = int(e.first[x+1])
		}
		for i := int(e.first[x]); i < to; i++ {
			e.from[i] = uint32(x)
		}
	}
	e.first = nil
}

func (e *edges) addRun(first uint32, end []uint32, to []ObjectID, field []FieldID) bool {
	if len(e.to)+len(to) > maxReferences || uint64(first)+uint64(len(end)) > math.MaxUint32 {
		return false
	}
	if e.from == nil && len(e.first) > 0 && int(first) < len(e.first)-1 {
		e.disorder()
	}
	at := uint32(0)
	for i, next := range end {
		switch {
		case e.from == nil:
			e.reach(first + uint32(i))
		default:
			for range next - at {
				e.from = append(e.from, first+uint32(i))
			}
		}
		e.to, e.field = append(e.to, to[at:next]...), append(e.field, field[at:next]...)
		at = next
	}
	return true
}

// Build makes CSR of starts starting points, each to an object below objects through a field below
// fields.
func (e *edges) build(starts, objects, fields int) (references, error) {
	for i, x := range e.to {
		if x == 0 || int(x) >= objects {
			return references{}, fmt.Errorf("a reference leads to object %d of %d", x, objects-1)
		}
		if int(e.field[i]) >= fields {
			return references{}, fmt.Errorf("a reference is in field %d of %d", e.field[i], fields-1)
		}
	}
	if e.from == nil {
		if len(e.first) > starts {
			return references{}, fmt.Errorf("a reference starts at %d of %d", len(e.first)-1, starts-1)
		}
		e.reach(uint32(starts))
		if e.first[1] != 0 {
			return references{}, errors.New("a reference starts at 0")
		}
		return references{first: e.first, to: e.to, field: e.field}, nil
	}
	// Counting sort, which keeps the order of what starts at one place.
	r := references{first: make([]uint32, starts+1), to: make([]ObjectID, len(e.to)), field: make([]FieldID, len(e.to))}
	for _, x := range e.from {
		if x == 0 || int(x) >= starts {
			return references{}, fmt.Errorf("a reference starts at %d of %d", x, starts-1)
		}
		r.first[x+1]++
	}
	for x := range starts {
		r.first[x+1] += r.first[x]
	}
	next := slices.Clone(r.first[:starts])
	for i, x := range e.from {
		r.to[next[x]], r.field[next[x]] = e.to[i], e.field[i]
		next[x]++
	}
	return r, nil
}
