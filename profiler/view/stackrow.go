package view

import "github.com/sightline-dev/sightline/profiler/profile"

// Columns are the parts of a row that cost a pass over the samples.
type Columns uint8

// The columns that are computed where asked for.
const (
	Times Columns = 1 << iota // First and Last
	When                      // When
	Which                     // Which

	NoColumns  Columns = 0
	AllColumns         = Times | When | Which
)

// A StackRow is a line of a view of a Selection: a function or a group and its cost.
//
// Weights are in the unit of the source (profile.Unit.In), counts in events, times in milliseconds
// since the recording began. They are fractions where a sample is split. In a difference they may be
// negative.
//
// As JSON it is {"name","total","self","totalCount","selfCount","foldWeight","foldCount","first","last",
// "when","which"}; first and last are null where no sample was counted or Times was not asked for.
type StackRow struct {
	Name                  string
	Total, Self           float64
	TotalCount, SelfCount float64
	// FoldWeight and FoldCount are the part of Self that came from folded frames.
	FoldWeight, FoldCount float64
	// First and Last are the time of the earliest sample, and of the latest or its end; NaN where there
	// is none.
	First, Last float64
	// When is the weight over time, one character for each of 32 buckets of the range.
	When string
	// Which is the weight per scenario, one character each; empty where there are none.
	Which string
	// Frame is a frame that the row stands for, for going to its source: the zero Frame for a group of
	// several functions and for ROOT. Its StartLine, not its Line, is the row's place.
	Frame profile.Frame
}
