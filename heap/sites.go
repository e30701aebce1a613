package heap

import (
	"cmp"
	"math"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A SiteRow is the live objects that one line allocated, estimated from those that the program's own
// memory profile sampled.
type SiteRow struct {
	// Place is the line: of the innermost frame that is neither the runtime's nor the standard
	// library's; see Snapshot.PlaceOf.
	Place profile.Frame
	Count int64 // objects, estimated
	Bytes int64 // estimated
	// Sampled are the objects from which they are, and are the very ones of Example.
	Sampled int
	Type    TypeID // of which are the most bytes
	Types   int    // how many types there are
	// Example is the sampled object of Type that retains the most, and Stack is where it was allocated.
	Example ObjectID
	Stack   profile.StackID
}

// Sites are the lines that allocated what is live, the most bytes first.
func (a *Analysis) Sites() []SiteRow {
	type site struct {
		count, bytes float64
		sampled      int
		types        map[TypeID]float64
		members      []int // into Sampled
	}
	s := a.Snapshot
	at := map[profile.Frame]*site{}
	places := map[profile.StackID]profile.Frame{}
	for i, x := range s.Sampled {
		if !a.Live(x.Object) {
			continue
		}
		place, ok := places[x.Stack]
		if !ok {
			place = s.PlaceOf(x.Stack)
			places[x.Stack] = place
		}
		r := at[place]
		if r == nil {
			r = &site{types: map[TypeID]float64{}}
			at[place] = r
		}
		r.count += x.Count
		r.bytes += x.Bytes
		r.sampled++
		r.types[s.TypeOf(x.Object)] += x.Bytes
		r.members = append(r.members, i)
	}
	var rows []SiteRow
	for place, r := range at {
		row := SiteRow{Place: place, Count: int64(math.Round(r.count)), Bytes: int64(math.Round(r.bytes)), Sampled: r.sampled, Types: len(r.types)}
		most := -1.0
		for k, bytes := range r.types {
			if bytes > most || bytes == most && k < row.Type {
				most, row.Type = bytes, k
			}
		}
		retained := uint64(0)
		for _, i := range r.members {
			x := &s.Sampled[i]
			if n, _ := a.Retained(x.Object); s.TypeOf(x.Object) == row.Type && (row.Example == 0 || n > retained) {
				retained, row.Example, row.Stack = n, x.Object, x.Stack
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(x, y SiteRow) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.Place.File, y.Place.File), cmp.Compare(x.Place.Line, y.Place.Line),
			cmp.Compare(x.Place.Func, y.Place.Func))
	})
	return rows
}

// SiteOf is the stack that allocated an object; ok is false unless it was sampled.
func (s *Snapshot) SiteOf(id ObjectID) (stack profile.StackID, ok bool) {
	i, ok := slices.BinarySearchFunc(s.Sampled, id, func(x Sampled, id ObjectID) int { return cmp.Compare(x.Object, id) })
	if !ok {
		return 0, false
	}
	return s.Sampled[i].Stack, true
}

// WasteRows are what could be saved, the most bytes first.
func (s *Snapshot) WasteRows() []Waste {
	rows := slices.Clone(s.Waste)
	slices.SortStableFunc(rows, func(x, y Waste) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(y.Count, x.Count), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.What, y.What))
	})
	return rows
}
