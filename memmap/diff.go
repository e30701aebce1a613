package memmap

import (
	"cmp"
	"slices"
)

// Happening is what became of a region.
type Happening string

// What becomes of regions. What changed grew or shrank in resident memory, or else in size.
const (
	Appeared Happening = "appeared"
	Grew     Happening = "grew"
	Shrank   Happening = "shrank"
	Went     Happening = "went"
)

// A Change is a region that is not the same in two snapshots.
type Change struct {
	What  Happening `json:"what"`
	Kind  Kind      `json:"kind"`
	Label string    `json:"label"`
	Start uint64    `json:"start"` // of the later one, where there is one
	// Columns are the differences, later less earlier; After what is now.
	Columns
	After Columns `json:"after"`
}

// A Diff is what became of an address space.
type Diff struct {
	Kinds   []KindTotal `json:"kinds"` // differences, later less earlier; those without one are left out
	Total   Columns     `json:"total"`
	Terms   []Term      `json:"terms,omitempty"` // differences
	Changes []Change    `json:"changes"`         // by how much resident memory changed, most first
	Same    int         `json:"same"`            // regions that did not change
}

// Compare tells what became of a into b. Of one process a region is the same if it has the same kind
// and the same beginning, or else the same label; of two processes only the label counts.
func Compare(a, b *Snapshot) Diff {
	d := Diff{Kinds: []KindTotal{}, Changes: []Change{}}
	before, after := map[Kind]Columns{}, map[Kind]Columns{}
	for _, k := range a.ByKind() {
		before[k.Kind] = k.Columns
	}
	for _, k := range b.ByKind() {
		after[k.Kind] = k.Columns
	}
	for _, k := range Kinds {
		x := after[k]
		x.Sub(before[k])
		if x != (Columns{}) {
			d.Kinds = append(d.Kinds, KindTotal{k, x})
		}
	}
	d.Total = b.Total()
	d.Total.Sub(a.Total())
	d.terms(a.Terms, b.Terms)

	type place struct {
		kind  Kind
		start uint64
		label string
	}
	one := a.PID == b.PID && a.Exe == b.Exe && a.Core == b.Core || a.PID == b.PID && a.Exe == b.Exe
	old := map[place][]*Region{}
	for i := range a.Regions {
		r := &a.Regions[i]
		old[place{r.Kind, r.Start, r.Label()}] = append(old[place{r.Kind, r.Start, r.Label()}], r)
	}
	used := map[*Region]bool{}
	pairs := make([]*Region, len(b.Regions))
	if one {
		for i := range b.Regions {
			r := &b.Regions[i]
			for _, x := range old[place{r.Kind, r.Start, r.Label()}] {
				if !used[x] {
					pairs[i], used[x] = x, true
					break
				}
			}
		}
	}
	byLabel := map[place][]*Region{}
	for i := range a.Regions {
		if r := &a.Regions[i]; !used[r] {
			p := place{kind: r.Kind, label: r.Label()}
			byLabel[p] = append(byLabel[p], r)
		}
	}
	for i := range b.Regions {
		r := &b.Regions[i]
		if pairs[i] != nil {
			continue
		}
		p := place{kind: r.Kind, label: r.Label()}
		if all := byLabel[p]; len(all) > 0 && (!one || !anonymousLabel(r)) {
			pairs[i], byLabel[p] = all[0], all[1:]
			used[all[0]] = true
		}
	}
	for i := range b.Regions {
		r := &b.Regions[i]
		c := Change{Kind: r.Kind, Label: r.Label(), Start: r.Start, Columns: r.Columns, After: r.Columns, What: Appeared}
		if x := pairs[i]; x != nil {
			c.Columns.Sub(x.Columns)
			switch by := cmp.Or(c.Columns.Resident, c.Columns.Size); {
			case c.Columns == (Columns{}):
				d.Same++
				continue
			case by < 0:
				c.What = Shrank
			default:
				c.What = Grew
			}
		}
		d.Changes = append(d.Changes, c)
	}
	for i := range a.Regions {
		if r := &a.Regions[i]; !used[r] {
			c := Change{What: Went, Kind: r.Kind, Label: r.Label(), Start: r.Start}
			c.Columns.Sub(r.Columns)
			d.Changes = append(d.Changes, c)
		}
	}
	slices.SortStableFunc(d.Changes, func(x, y Change) int {
		return cmp.Or(-cmp.Compare(abs(x.Resident), abs(y.Resident)), -cmp.Compare(abs(x.Size), abs(y.Size)), cmp.Compare(x.Start, y.Start))
	})
	return d
}

// anonymousLabel says whether a region's label says nothing of which it is: in one process such regions
// are told apart by where they are.
func anonymousLabel(r *Region) bool { return r.Path == "" && r.Detail == "" }

func (d *Diff) terms(a, b []Term) {
	was := map[string]Term{}
	for _, t := range a {
		was[t.Name] = t
	}
	for _, t := range b {
		x := Term{Name: t.Name, Bytes: t.Bytes - was[t.Name].Bytes, Number: t.Number - was[t.Name].Number}
		delete(was, t.Name)
		if x.Bytes != 0 || x.Number != 0 {
			d.Terms = append(d.Terms, x)
		}
	}
	for _, t := range a {
		if x, left := was[t.Name]; left {
			d.Terms = append(d.Terms, Term{Name: t.Name, Bytes: -x.Bytes, Number: -x.Number})
		}
	}
}

// A Moment is one snapshot of a timeline, summed by kind.
type Moment struct {
	Time     int64          `json:"ms"` // since the first
	Resident int64          `json:"resident"`
	Kinds    map[Kind]int64 `json:"kinds"` // resident bytes
	Terms    []Term         `json:"terms,omitempty"`
}

// MomentOf sums a snapshot up; first is the timeline's first.
func MomentOf(s, first *Snapshot) Moment {
	m := Moment{Time: s.Time.Sub(first.Time).Milliseconds(), Kinds: map[Kind]int64{}}
	for i := range s.Regions {
		m.Kinds[s.Regions[i].Kind] += s.Regions[i].Resident
		m.Resident += s.Regions[i].Resident
	}
	for _, t := range s.Terms {
		t.Advice = ""
		m.Terms = append(m.Terms, t)
	}
	return m
}
