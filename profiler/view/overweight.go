package view

import "context"

// An OverweightRow tells how a name took part in the growth between two selections.
type OverweightRow struct {
	Name           string  `json:"name"`
	Before         float64 `json:"before"` // total, in the unit of the source
	After          float64 `json:"after"`
	Overweight     float64 `json:"overweight"`     // percent of the growth that the whole would explain
	Responsibility float64 `json:"responsibility"` // percent of the whole's growth
	Interest       int     `json:"interest"`       // 0 to 6
}

// Overweight is the report of which names grew more than the whole did, the most interesting first.
// FoldPercent of either filter is not applied. It is empty where the whole did not change.
func Overweight(ctx context.Context, before, after *Selection) ([]OverweightRow, error) {
	return nil, nil
}
