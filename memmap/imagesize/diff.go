package imagesize

import (
	"cmp"
	"slices"
)

// Compare tells what is larger and smaller in b than in a. It fails with ErrDifferent.
func Compare(a, b *Report) (*Diff, error) {
	if (a.What == "folder") != (b.What == "folder") {
		return nil, ErrDifferent
	}
	d := &Diff{Old: a.Path, New: b.Path, Before: a.Bytes, After: b.Bytes, Bytes: b.Bytes - a.Bytes}
	for _, n := range append(slices.Clone(a.Notes), b.Notes...) {
		if !slices.Contains(d.Notes, n) {
			d.Notes = append(d.Notes, n)
		}
	}
	for i := range b.Tables {
		t := &b.Tables[i]
		old := a.Of(t.By)
		if old == nil {
			continue
		}
		type place struct{ name, in string }
		was := map[place]int64{}
		for _, p := range old.Parts {
			was[place{p.Name, p.In}] += p.Bytes
		}
		x := ChangeTable{By: t.By, Changes: []Change{}}
		note := func(c Change) {
			if c.Bytes = c.After - c.Before; c.Bytes != 0 {
				x.Changes = append(x.Changes, c)
			}
		}
		for _, p := range t.Parts {
			k := place{p.Name, p.In}
			note(Change{Name: p.Name, In: p.In, Before: was[k], After: p.Bytes})
			delete(was, k)
		}
		for k, n := range was {
			note(Change{Name: k.name, In: k.in, Before: n})
		}
		slices.SortFunc(x.Changes, func(a, b Change) int {
			return cmp.Or(-cmp.Compare(abs(a.Bytes), abs(b.Bytes)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.In, b.In))
		})
		d.Tables = append(d.Tables, x)
	}
	return d, nil
}

func abs(n int64) int64 { return max(n, -n) }
