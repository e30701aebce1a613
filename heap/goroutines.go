package heap

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A GoroutineGroup is the goroutines that are in one state at one place.
type GoroutineGroup struct {
	State, Wait string
	// Place is the frame in which they are: see Snapshot.PlaceOf; the zero Frame where no frame is known.
	Place   profile.Frame
	Created profile.Frame // the place of the go statement; the zero Frame where it is not known
	Members []GoroutineID // in order of their numbers
	Longest time.Duration // that one of them has waited; 0 when not known
	System  bool          // the runtime made them for itself
	Stacks  int64         // bytes of their stacks, which are not in the heap
}

// BlockedLong is from when on a goroutine that waits is taken to be stuck rather than idle.
const BlockedLong = time.Minute

// Name is what a person calls the group but for its size: "main.worker, chan receive".
func (g *GoroutineGroup) Name() string {
	name := g.Place.Func
	if name == "" {
		name = profile.Unknown
	}
	if what := cmp.Or(g.Wait, g.State); what != "" {
		name += ", " + what
	}
	return name
}

// Name is how the runtime prints it: "goroutine 7".
func (g *Goroutine) Name() string { return "goroutine " + strconv.FormatInt(g.Number, 10) }

// String is the name with its state: "goroutine 7 [chan receive, 40m0s]".
func (g *Goroutine) String() string {
	text := g.Name() + " [" + cmp.Or(g.Wait, g.State, "?")
	if g.Blocked > 0 {
		text += fmt.Sprintf(", %s", g.Blocked.Round(time.Second))
	}
	return text + "]"
}

// PlaceOf is the frame of a stack that a person would name: the innermost that is neither the runtime's
// nor the standard library's, else the innermost that is not the runtime's, else the outermost but for
// where every goroutine begins.
func (s *Snapshot) PlaceOf(id profile.StackID) profile.Frame {
	var library, last profile.FrameID
	for f := range s.Stacks.LeafFirst(id) {
		name := s.Frames[f].Func
		switch OriginOf(packageOf(name), s.Info.Module) {
		case Runtime:
			// The compiler makes f.gowrap1 for go f(x).
			if last == 0 || name != "runtime.goexit" && name != "runtime.mstart" && name != "runtime.mstart0" && name != "runtime.mstart1" && !strings.Contains(name, ".gowrap") {
				last = f
			}
		case Standard:
			if library == 0 {
				library = f
			}
		case Builtin: // no package: a name that is not known
			if last == 0 {
				last = f
			}
		default:
			return s.Frames[f]
		}
	}
	return s.Frames[cmp.Or(library, last)]
}

// PackageOf is the import path of the package that a Go function is in, by its full name:
// "net/http" of "net/http.(*conn).serve".
func packageOf(function string) string {
	from := 0
	if i := strings.IndexByte(function, '['); i >= 0 {
		function = function[:i] // type arguments have paths of their own
	}
	if i := strings.LastIndexByte(function, '/'); i >= 0 {
		from = i
	}
	if i := strings.IndexByte(function[from:], '.'); i >= 0 {
		// The linker escapes dots of the last element of a path: gopkg.in/yaml%2ev3.Unmarshal.
		return strings.ReplaceAll(function[:from+i], "%2e", ".")
	}
	return ""
}

// GroupGoroutines groups a snapshot's goroutines by state, what they wait for, and place; the largest
// groups first.
func groupGoroutines(s *Snapshot) []GoroutineGroup {
	type key struct {
		state, wait   string
		place, parent profile.Frame
		system        bool
	}
	places := map[profile.StackID]profile.Frame{}
	place := func(id profile.StackID) profile.Frame {
		f, ok := places[id]
		if !ok {
			f = s.PlaceOf(id)
			places[id] = f
		}
		return f
	}
	at := map[key]int{}
	var groups []GoroutineGroup
	for id := 1; id < len(s.Goroutines); id++ {
		g := &s.Goroutines[id]
		k := key{g.State, g.Wait, place(g.Stack), place(g.Created), g.System}
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k] = i
			groups = append(groups, GoroutineGroup{State: g.State, Wait: g.Wait, Place: k.place, Created: k.parent, System: g.System})
		}
		x := &groups[i]
		x.Members = append(x.Members, GoroutineID(id))
		x.Longest = max(x.Longest, g.Blocked)
		x.Stacks += g.Bytes
	}
	for i := range groups {
		slices.SortFunc(groups[i].Members, func(x, y GoroutineID) int {
			return cmp.Or(cmp.Compare(s.Goroutines[x].Number, s.Goroutines[y].Number), cmp.Compare(x, y))
		})
	}
	slices.SortStableFunc(groups, func(x, y GoroutineGroup) int {
		return cmp.Or(cmp.Compare(len(y.Members), len(x.Members)), cmp.Compare(x.Name(), y.Name()))
	})
	return groups
}

// A GoroutineRow is one group of goroutines with what it holds.
type GoroutineRow struct {
	Group int // into Graph.Groups
	// Held is what only these goroutines hold: what would be free without them.
	Held Total
	// Most is the goroutine of the group that alone holds the most, and what it does; 0 where none
	// holds anything alone.
	Most   Total
	MostOf GoroutineID
}

// Goroutines are the groups with what they hold, those that hold the most first, then the largest.
func (a *Analysis) Goroutines() []GoroutineRow {
	g, d := a.Graph, a.Dominators
	rows := make([]GoroutineRow, len(g.Groups))
	for i := range rows {
		rows[i].Group = i
	}
	for v := NodeID(a.Snapshot.Len() + 1); int(v) < g.Len(); v++ {
		held := Total{d.RetainedCount(v), d.Retained(v)}
		switch g.Kind(v) {
		case PlaceNode:
			rows[g.GroupOf(v)].Held = held
		case GoroutineNode:
			if r := &rows[g.GroupOf(g.Parent(v))]; held.Bytes > r.Most.Bytes {
				r.Most, r.MostOf = held, g.Goroutine(v)
			}
		}
	}
	slices.SortStableFunc(rows, func(x, y GoroutineRow) int {
		return cmp.Or(cmp.Compare(y.Held.Bytes, x.Held.Bytes), cmp.Compare(x.Group, y.Group))
	})
	return rows
}
