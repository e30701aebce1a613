package view

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// An OverweightRow tells how a name took part in the growth between two selections.
type OverweightRow struct {
	Name           string  `json:"name"`
	Before         float64 `json:"before"` // total, in the unit of the source
	After          float64 `json:"after"`
	Overweight     float64 `json:"overweight"`     // percent of the growth that the name would have, had all grown alike
	Responsibility float64 `json:"responsibility"` // percent of the whole's growth
	Interest       int     `json:"interest"`       // 0 to 6
}

// Overweight is the report of which names grew more than the whole did, the most interesting first.
// Names that are in one selection only, or have less than 2 % of the growth, are left out. FoldPercent of
// either filter is not applied. It is empty where the whole did not change, or was nothing before.
func Overweight(ctx context.Context, before, after *Selection) ([]OverweightRow, error) {
	old, total1, err := before.totals(ctx)
	if err != nil {
		return nil, err
	}
	now, total2, err := after.totals(ctx)
	if err != nil {
		return nil, err
	}
	rows := []OverweightRow{}
	if total1 == total2 || total1 == 0 {
		return rows, nil
	}
	growth := total2 / total1
	for name, b := range old {
		a, ok := now[name]
		if !ok {
			continue
		}
		delta := a - b
		r := OverweightRow{Name: name, Before: b, After: a, Overweight: 100 * delta / (b * (growth - 1)), Responsibility: 100 * delta / (total2 - total1)}
		share := a / total2
		responsible := math.Abs(r.Responsibility)
		for _, more := range []bool{math.Abs(r.Overweight) > 110, responsible > 5, responsible > 20, responsible > 100, share < 0.95, share < 0.75} {
			if more {
				r.Interest++
			}
		}
		if !(responsible < 2) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b OverweightRow) int {
		return cmp.Or(cmp.Compare(b.Interest, a.Interest), cmp.Compare(b.Overweight, a.Overweight), cmp.Compare(a.After-a.Before, b.After-b.Before), cmp.Compare(a.Name, b.Name))
	})
	return rows, nil
}

// totals are the totals of names that have one, and the sum of their selfs.
func (s *Selection) totals(ctx context.Context) (map[string]float64, float64, error) {
	if s.c.FoldPercent > 0 {
		c := *s.c
		c.FoldPercent = 0
		var err error
		if s, err = s.src.selection(ctx, &c); err != nil {
			return nil, 0, err
		}
	}
	all := map[string]float64{}
	var sum float64
	for _, r := range s.ByName(NoColumns).Rows {
		if r.Total != 0 {
			all[r.Name] += r.Total
			sum += r.Self
		}
	}
	return all, sum, ctx.Err()
}
