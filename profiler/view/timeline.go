package view

import "github.com/sightline-dev/sightline/profiler/profile"

// A Histogram is weight over time, in the unit of the source.
type Histogram struct {
	Start float64   `json:"start"` // of the first bucket, in ms
	Width float64   `json:"width"` // of each bucket, in ms
	Sums  []float64 `json:"weights"`
	// Text draws the buckets in the alphabet of the When column, on a scale of its own policy.
	Text string `json:"text"`
}

// Histogram is the weight of the samples in whose stack a name is, over time, in the given number of
// buckets (32 where that is 0). Root is everything. It fails with a *FocusError.
func (s *Selection) Histogram(focus string, buckets int) (*Histogram, error) { return nil, nil }

// A Lane is the weight over time of one task or one name.
type Lane struct {
	Name  string       `json:"name"`
	Task  profile.Task `json:"task"` // the zero Task for a name
	Total float64      `json:"total"`
	Sums  []float64    `json:"weights"`
}

// Lanes is the timeline: weight per bucket, per task or per name, largest total first.
type Lanes struct {
	Start float64 `json:"start"`
	Width float64 `json:"width"`
	Lanes []Lane  `json:"lanes"`
}

// Timeline is the timeline of tasks, or of the given names where there are any (Name completes them).
// It fails with a *FocusError.
func (s *Selection) Timeline(buckets int, names ...string) (*Lanes, error) { return nil, nil }
