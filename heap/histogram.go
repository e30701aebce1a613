package heap

import (
	"cmp"
	"slices"
)

// A TypeRow is the objects of one type.
type TypeRow struct {
	Type TypeID
	Total
	// Retained is what would be free without them, each taken alone and none counted twice: at most
	// what RetainedSet finds for all together.
	Retained uint64
	// Example is one of them: of Analysis.Types the one that retains the most.
	Example ObjectID
}

// Types are the live objects by type, the most bytes first. Share of the heap is Bytes by that of
// Totals.
func (a *Analysis) Types() []TypeRow {
	s, d := a.Snapshot, a.Dominators
	rows := newTypeRows(s)
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		if d.Live(NodeID(id)) {
			rows.add(id, s.Size(id))
		}
	}
	a.retainedByType(rows.rows)
	return rows.sorted(s)
}

// DeadTypes are the dead objects by type.
func (a *Analysis) DeadTypes() []TypeRow {
	rows := newTypeRows(a.Snapshot)
	for _, v := range a.Tree.Dead() {
		rows.add(ObjectID(v), a.Snapshot.Size(ObjectID(v)))
	}
	return rows.sorted(a.Snapshot)
}

// TypeRows are a row for each type.
type typeRows struct {
	kind []TypeID // of the objects
	rows []TypeRow
}

func newTypeRows(s *Snapshot) *typeRows {
	rows := &typeRows{kind: s.objects.kind, rows: make([]TypeRow, len(s.Types))}
	for i := range rows.rows {
		rows.rows[i].Type = TypeID(i)
	}
	return rows
}

func (t *typeRows) add(id ObjectID, size uint64) {
	r := &t.rows[t.kind[id]]
	r.Count++
	r.Bytes += size
	if r.Example == 0 {
		r.Example = id
	}
}

func (t *typeRows) sorted(s *Snapshot) []TypeRow {
	out := slices.DeleteFunc(t.rows, func(r TypeRow) bool { return r.Count == 0 })
	slices.SortFunc(out, func(x, y TypeRow) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(y.Count, x.Count), cmp.Compare(s.Types[x.Type].Name, s.Types[y.Type].Name), cmp.Compare(x.Type, y.Type))
	})
	return out
}

// RetainedByType adds what the objects of each type retain that no other of the type dominates. It
// walks the tree of dominators, counting for each type how many of it are on the way from the top.
// Objects that are single are looked at from what refers to them, which dominates them.
func (a *Analysis) retainedByType(rows []TypeRow) {
	s, d := a.Snapshot, a.Dominators
	n, objects := a.Graph.Len(), NodeID(s.Len())
	below, beside := make([]NodeID, n), make([]NodeID, n) // first child and next sibling; 0: none
	for i := len(d.order) - 1; i > 0; i-- {               // so that siblings are in order
		v := d.order[i]
		p := d.parent[v]
		beside[v], below[p] = below[p], v
	}
	inside := make([]uint32, len(s.Types))
	largest := make([]uint64, len(s.Types))
	for i := range rows {
		rows[i].Example = 0
	}
	note := func(id ObjectID, t TypeID, retained uint64) {
		if inside[t] == 0 {
			r := &rows[t]
			r.Retained += retained
			if retained > largest[t] || r.Example == 0 {
				largest[t], r.Example = retained, id
			}
		}
	}
	for v := NodeID(0); ; {
		if v-1 < objects {
			t := s.objects.kind[v]
			note(ObjectID(v), t, d.retained[v])
			inside[t]++
			for _, w := range a.Graph.objectEdges(v) {
				if d.marks[w] == single {
					note(w, s.objects.kind[w], s.Size(w))
				}
			}
		} else {
			for _, w := range a.Graph.aboveEdges(v) {
				if d.marks[w] == single {
					note(ObjectID(w), s.objects.kind[w], a.Graph.Size(w))
				}
			}
		}
		if below[v] != 0 {
			v = below[v]
			continue
		}
		for {
			if v-1 < objects {
				inside[s.objects.kind[v]]--
			}
			if v == 0 {
				return
			}
			if beside[v] != 0 {
				v = beside[v]
				break
			}
			v = d.parent[v]
		}
	}
}
