package view

import (
	"fmt"
	"math"
	"strings"
)

// maxInclude is how many include patterns there may be: one bit each in a stack's mask.
const maxInclude = 64

// compiled is a Filter whose text has been read.
type compiled struct {
	Filter
	groups                 []groupItem
	fold, include, exclude list
}

func compile(f Filter) (*compiled, error) {
	c := &compiled{Filter: f}
	var err error
	if c.groups, err = parseGroups(f.Group, f.Compat); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		field Field
		text  string
		to    *list
	}{{FieldFold, f.Fold, &c.fold}, {FieldInclude, f.Include, &c.include}, {FieldExclude, f.Exclude, &c.exclude}} {
		if *l.to, err = parseList(l.field, l.text, f.Compat); err != nil {
			return nil, err
		}
	}
	switch {
	case len(c.include.patterns) > maxInclude:
		return nil, &FilterError{FieldInclude, f.Include, 0, fmt.Sprintf("there are %d patterns, and %d at most are kept apart", len(c.include.patterns), maxInclude), "join those of which one is enough with |"}
	case math.IsNaN(f.FoldPercent) || f.FoldPercent < 0 || f.FoldPercent > 100:
		return nil, &FilterError{FieldPercent, fmt.Sprint(f.FoldPercent), 0, "it is not a percentage", "give a number from 0 to 100"}
	case math.IsNaN(f.Start-f.Start) || math.IsNaN(f.End-f.End): // not a number, or infinite
		return nil, &FilterError{FieldRange, rangeText(f), 0, "it is not a time", "give milliseconds since the start, or nothing"}
	case f.End != 0 && f.End < f.Start:
		return nil, &FilterError{FieldRange, rangeText(f), 0, "the end is before the start", "exchange the two"}
	case f.Weights != "" && f.Weights != Interval && f.Weights != Amount:
		return nil, &FilterError{FieldWeights, string(f.Weights), 0, "there is no such policy", "use interval or amount"}
	}
	return c, nil
}

// rangeText is a filter's time range as an error quotes it.
func rangeText(f Filter) string { return fmt.Sprintf("%v to %v", f.Start, f.End) }

// Active describes in one line what the filter does, for the head of a table: "group … · include …".
// Groups that have a comment are told by it. It is empty for a filter that keeps all as it is.
func (f Filter) Active() string {
	var parts []string
	add := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	group := strings.TrimSpace(f.Group)
	if comment, patterns, ok := strings.Cut(group, "]"); ok && strings.HasPrefix(comment, "[") && strings.TrimSpace(patterns) != "" {
		group = comment + "]" // what people call it; the patterns may be long
	}
	add("group", group)
	add("fold", f.Fold)
	if f.FoldPercent != 0 {
		add("fold below", fmt.Sprintf("%g%%", f.FoldPercent))
	}
	add("include", f.Include)
	add("exclude", f.Exclude)
	switch {
	case f.Start != 0 && f.End != 0:
		add("from", fmt.Sprintf("%g to %g ms", f.Start, f.End))
	case f.Start != 0:
		add("from", fmt.Sprintf("%g ms", f.Start))
	case f.End != 0:
		add("to", fmt.Sprintf("%g ms", f.End))
	}
	if f.Scenarios != nil {
		add("scenarios", strings.Trim(fmt.Sprint(f.Scenarios), "[]"))
	}
	add("weights as", string(f.Weights))
	return strings.Join(parts, " · ")
}
