package view

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"github.com/sightline-dev/sightline/profiler/profile"
)

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
// "when","which"} and, where known, the frame's "module","file" and "line"; first and last are null where
// no sample was counted or Times was not asked for.
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
	// several functions and for ROOT. Its StartLine, not its Line, is the row's place. Of a binary at
	// several paths it is that of the first profile, of a difference the one after.
	Frame profile.Frame
}

// MarshalJSON writes the row as its comment says.
func (r StackRow) MarshalJSON() ([]byte, error) { return json.Marshal(r.json()) }

type stackRowJSON struct {
	Name       string `json:"name"`
	Total      number `json:"total"`
	Self       number `json:"self"`
	TotalCount number `json:"totalCount"`
	SelfCount  number `json:"selfCount"`
	FoldWeight number `json:"foldWeight"`
	FoldCount  number `json:"foldCount"`
	First      number `json:"first"`
	Last       number `json:"last"`
	When       string `json:"when"`
	Which      string `json:"which"`
	Module     string `json:"module,omitempty"` // of Frame
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"` // where the function begins
}

func (r *StackRow) json() stackRowJSON {
	return stackRowJSON{
		r.Name, number(r.Total), number(r.Self), number(r.TotalCount), number(r.SelfCount),
		number(r.FoldWeight), number(r.FoldCount), number(r.First), number(r.Last), r.When, r.Which,
		r.Frame.Module, r.Frame.File, r.Frame.StartLine,
	}
}

// A number is written as null where it is not one.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 64), nil
}

// compareSelf orders by self, then total, largest first, then by name. A gain is as large as a loss.
func compareSelf(a, b *StackRow) int {
	return cmp.Or(cmp.Compare(math.Abs(b.Self), math.Abs(a.Self)), cmp.Compare(math.Abs(b.Total), math.Abs(a.Total)), cmp.Compare(a.Name, b.Name))
}

// compareTotal orders by total, then self, largest first, then by name.
func compareTotal(a, b *StackRow) int {
	return cmp.Or(cmp.Compare(math.Abs(b.Total), math.Abs(a.Total)), cmp.Compare(math.Abs(b.Self), math.Abs(a.Self)), cmp.Compare(a.Name, b.Name))
}

// sortRows puts rows in order. They are large, so it is their places that are moved.
func sortRows(rows []StackRow, compare func(a, b *StackRow) int) []StackRow {
	order := make([]uint32, len(rows))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return compare(&rows[a], &rows[b]) })
	sorted := make([]StackRow, len(rows))
	for i, at := range order {
		sorted[i] = rows[at]
	}
	return sorted
}
