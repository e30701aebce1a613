package view

import (
	"fmt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Policy says what a sample's weight is in time: how it is clipped to a range and spread over the
// buckets of the When column.
type Policy string

// The policies. An empty Policy is the profile's own: Interval where it measures time, else Amount.
const (
	Interval Policy = "interval" // a duration that begins at the sample's time
	Amount   Policy = "amount"   // an amount at an instant: bytes, counts
)

// PolicyOf is the policy that fits a profile's weights: Interval for time, Amount for all else. Time is
// what is in nanoseconds, and what another tool measured of processors and waits without naming a unit.
func PolicyOf(p *profile.Profile) Policy {
	if p.Unit == profile.Nanoseconds || p.Unit == profile.Millionths && (p.Kind == profile.CPU || p.Kind == profile.Blocked) {
		return Interval
	}
	return Amount
}

// A Filter is the text of the stack viewer's fields. The zero value filters nothing and groups
// nothing.
//
// A pattern is literal text in which * stands for any characters, % for the characters of a name, ^
// for the beginning, | for "or", and {…} for a part that a group's name may use as $1 to $9. It matches
// anywhere in a name, whatever the case. A pattern that begins with @ is a regular expression as
// package regexp reads it. Lists of patterns are separated by semicolons.
type Filter struct {
	// Group are group patterns, PATTERN->NAME or PATTERN=>NAME (which keeps the functions by which the
	// group is entered apart), after an optional comment in brackets. "{go}!->package $1" and
	// "{go}!=>package $1", in this very spelling but for the name, take the Go package for $1, which no
	// pattern can express.
	Group string `json:"group,omitempty"`
	// Fold lists patterns of frames whose cost goes to their callers.
	Fold string `json:"fold,omitempty"`
	// FoldPercent folds nodes that cost less than this share of the whole, in percent, into their callers,
	// unless their name costs more elsewhere.
	FoldPercent float64 `json:"foldPercent,omitempty"`
	// Include lists patterns each of which must occur in a sample's stack.
	Include string `json:"include,omitempty"`
	// Exclude lists patterns none of which may.
	Exclude string `json:"exclude,omitempty"`
	// Start and End bound the samples' times, in milliseconds since the recording began; 0 is unbounded.
	Start float64 `json:"start,omitempty"`
	End   float64 `json:"end,omitempty"`
	// Scenarios are those that count, by their index in Source.Scenarios, in the order of the Which
	// column; nil for all.
	Scenarios []int `json:"scenarios,omitempty"`
	// Weights is the policy; empty for the source's own.
	Weights Policy `json:"weights,omitempty"`
	// Compat follows PerfView to the letter, where Linux or reason would have it otherwise.
	Compat bool `json:"compat,omitempty"`
	// Tasks puts the frames "Process COMM (PID)" and "Thread (TID)" at the root of every stack.
	Tasks bool `json:"tasks,omitempty"`
}

// A Field is a field of Filter, in the words of the command line.
type Field string

// The fields that may be wrong.
const (
	FieldGroup   Field = "group"
	FieldFold    Field = "fold"
	FieldInclude Field = "include"
	FieldExclude Field = "exclude"
	FieldFind    Field = "find"
	FieldPercent Field = "fold-percent"
	FieldRange   Field = "start"
	FieldWeights Field = "weights"
	FieldScene   Field = "scenario"
)

// A FilterError is a field that cannot be understood.
type FilterError struct {
	Field   Field
	Pattern string // the pattern of the list that is wrong, or the field's value
	Column  int    // 1-based, in characters of the whole field; 0 where it makes no sense
	Cause   string // "the { has no }"
	Remedy  string // "write } where the group ends"
}

// Error is one sentence with the remedy.
func (e *FilterError) Error() string {
	at := ""
	if e.Column > 0 {
		at = fmt.Sprintf(", column %d", e.Column)
	}
	return fmt.Sprintf("read %s pattern %q%s: %s; %s", e.Field, e.Pattern, at, e.Cause, e.Remedy)
}

// Check tells of the first field that cannot be understood, as a *FilterError, without a profile.
func (f Filter) Check() error {
	_, err := compile(f)
	return err
}
