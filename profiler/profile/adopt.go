package profile

import (
	"fmt"
	"slices"
)

// Adopt adds the samples of one kind of another capture to c's series of kind as, which is made where c
// has none: the same run, as another tool saw it. The other capture must be symbolized; its stacks are
// taken as whole, its names as they are, its samples in their order at the time 0. Frames, locations and
// stacks that c has already are shared.
//
// It fails, and changes nothing, where the other capture has no such series (ErrNoSeries) or where the
// two series have different units.
func (c *Capture) Adopt(other *Capture, kind, as Kind) error {
	from := other.Of(kind)
	if from == nil {
		return fmt.Errorf("%w: %s", ErrNoSeries, kind)
	}
	to := c.Of(as)
	if to != nil && to.Unit != from.Unit {
		return fmt.Errorf("%s is in %s and in %s", as, to.Unit, from.Unit)
	}
	if to == nil {
		c.Series = append(c.Series, Series{Kind: as, Unit: from.Unit, Period: from.Period, Source: from.Source})
		to = &c.Series[len(c.Series)-1]
	}
	a := newAdoption(c, other)
	added := Samples{Count: []int64{}}
	for i := range from.Samples.Len() {
		x := from.Samples.At(i)
		x.Stack, x.Task, x.Time = a.stack(x.Stack), 0, 0
		added.Append(x)
	}
	for i := range to.Samples.Len() { // which may have a time, and come after
		added.Append(to.Samples.At(i))
	}
	to.Samples = added
	return nil
}

// An adoption maps what one capture has to what another one has.
type adoption struct {
	c, other  *Capture
	frames    map[Frame]FrameID
	mappings  map[Mapping]MappingID
	locations map[adoptedLocation]LocationID
	stacks    map[StackID]StackID
}

// AdoptedLocation is one of the other capture's, as the outermost of a stack or within it.
type adoptedLocation struct {
	id   LocationID
	root bool
}

func newAdoption(c, other *Capture) *adoption {
	a := &adoption{
		c: c, other: other, frames: map[Frame]FrameID{}, mappings: map[Mapping]MappingID{},
		locations: map[adoptedLocation]LocationID{}, stacks: map[StackID]StackID{0: 0},
	}
	if len(c.Symbols.Frames) == 0 {
		c.Symbols.Frames = make([]Frame, 1)
	}
	for len(c.Symbols.Of) < len(c.Locations) { // what is not named yet stays so
		c.Symbols.Of = append(c.Symbols.Of, nil)
	}
	for i, f := range c.Symbols.Frames {
		a.frames[f] = FrameID(i)
	}
	for i, m := range c.Mappings {
		a.mappings[m] = MappingID(i)
	}
	return a
}

func (a *adoption) stack(id StackID) StackID {
	if to, ok := a.stacks[id]; ok {
		return to
	}
	var path []StackID // from id towards the root, all of them new
	at := id
	for {
		if _, ok := a.stacks[at]; ok {
			break
		}
		path = append(path, at)
		at = a.other.Stacks.Parent(at)
	}
	for _, s := range slices.Backward(path) {
		parent := a.other.Stacks.Parent(s)
		location := a.location(adoptedLocation{a.other.Stacks.Leaf(s), parent == 0})
		a.stacks[s] = a.c.Stacks.Intern(a.stacks[parent], location)
	}
	return a.stacks[id]
}

func (a *adoption) location(l adoptedLocation) LocationID {
	if to, ok := a.locations[l]; ok {
		return to
	}
	x := a.other.Locations[l.id]
	x.Mapping, x.Root = a.mapping(a.other.Mappings[x.Mapping]), l.root
	var of []FrameID
	if int(l.id) < len(a.other.Symbols.Of) {
		for _, f := range a.other.Symbols.Of[l.id] {
			of = append(of, a.frame(a.other.Symbols.Frames[f]))
		}
	}
	to := LocationID(len(a.c.Locations))
	a.c.Locations, a.c.Symbols.Of = append(a.c.Locations, x), append(a.c.Symbols.Of, of)
	a.locations[l] = to
	return to
}

func (a *adoption) mapping(m Mapping) MappingID {
	to, ok := a.mappings[m]
	if !ok {
		// The same binary may be known by another build ID, which tools read in different ways.
		i := slices.IndexFunc(a.c.Mappings, func(x Mapping) bool { return x.Kind == m.Kind && x.Path == m.Path && m.Path != "" })
		if to = MappingID(i); i < 0 {
			to = MappingID(len(a.c.Mappings))
			a.c.Mappings = append(a.c.Mappings, m)
		}
		a.mappings[m] = to
	}
	return to
}

func (a *adoption) frame(f Frame) FrameID {
	to, ok := a.frames[f]
	if !ok {
		to = FrameID(len(a.c.Symbols.Frames))
		a.c.Symbols.Frames = append(a.c.Symbols.Frames, f)
		a.frames[f] = to
	}
	return to
}
