package view

import (
	"context"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Source is what the stack viewer looks at: one profile, a difference of two, a set of scenarios, or
// some samples of these. It is made once, and filtered as often as one likes.
//
// A Source is read-only once made; any number of goroutines may use it. It keeps its profiles, which
// must satisfy their Check and must not change.
type Source struct{}

// NewSource is a profile as a source.
func NewSource(p *profile.Profile) *Source { return nil }

// NewDiff is the difference of two profiles: the weights and counts of before are negative. It fails
// where their units differ.
func NewDiff(before, after *profile.Profile) (*Source, error) { return nil, nil }

// A Scenario is a profile under a name.
type Scenario struct {
	Name    string
	Profile *profile.Profile
}

// NewScenarios is many profiles as one: each stack begins with a frame of its scenario's name, and each
// scenario's first sample is at time 0. Of scenarios with one name the last counts. It fails where
// units differ or there are none.
func NewScenarios(scenarios []Scenario) (*Source, error) { return nil, nil }

// Scenarios are the names of the source's scenarios; nil where it is no set.
func (s *Source) Scenarios() []string { return nil }

// Unit is the unit of all weights in rows.
func (s *Source) Unit() profile.Unit { return "" }

// Policy is the policy of filters that name none.
func (s *Source) Policy() Policy { return "" }

// Len is the number of samples.
func (s *Source) Len() int { return 0 }

// Sample is a source of about n samples that stands for s: one of each run of Len/n consecutive ones,
// always the same one, with weights and counts multiplied back. It is s where s has no more than n.
func (s *Source) Sample(n int) *Source { return nil }

// Filter applies a filter. It fails with a *FilterError, or with the context's error when that ends.
func (s *Source) Filter(ctx context.Context, f Filter) (*Selection, error) { return nil, nil }
