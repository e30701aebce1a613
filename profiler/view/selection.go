package view

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// slack is what both ends of a time range are widened by, in ms, so that times copied from a display
// with three decimals include their own samples.
const slack = 0.0006

// A Selection is a Source under a Filter: what every view of the stack viewer is computed from.
//
// It is read-only; any number of goroutines may use it.
//
// A position of the source's layout is a stack as recorded. Grouping, folding and recursion make
// several of them one node: each position has the position at which its node begins, and the node's
// name. Nodes of one name below one node stay apart until a view puts them together.
type Selection struct {
	src   *Source
	c     *compiled
	names *names

	of     []decision      // by name
	texts  []string        // by text: what a row shows; 0 is Root
	frames []profile.Frame // by text: a frame that it stands for, or the zero Frame

	// By position.
	node  []uint32 // where its node begins
	text  []uint32 // of its node
	flags []uint8
	total []measure // of selected samples whose stack begins with this one

	// By position, where samples are selected one by one; else those of the source count.
	weight, count []float64

	times func() *timeBounds
	scale func() *scales
}

// A measure is a weight, in the profiles' unit, and a count.
type measure struct{ weight, count float64 }

func (m *measure) add(y measure) { m.weight += y.weight; m.count += y.count }

// The flags of a position.
const (
	discarded = 1 << iota // an excluded frame is in its stack
	kept                  // its samples are selected
	folded                // a frame was folded into its node
	hit                   // it or a position below it has selected samples
)

// A decision is what a filter makes of the frames with one name.
type decision struct {
	text     uint32
	identity uint32 // frames of one identity, one calling the other, are one node
	entry    uint32 // entry group; 0 for none
	fold     bool
	exclude  bool
}

// decide applies the patterns to all names, once each. include has a bit for each pattern.
type decisions struct {
	of      []decision // by name
	raw     []decision // of a folded frame that nothing calls; only in compat
	include []uint64   // by name; nil without include patterns
	texts   []string
	names   []uint32 // by text: a name that it stands for; 0 for a group of several
}

func (c *compiled) decide(ctx context.Context, all []name) (*decisions, error) {
	ds := &decisions{of: make([]decision, len(all)), texts: make([]string, 1, len(all)+1), names: make([]uint32, 1, len(all)+1)}
	type found struct {
		group   string
		entry   bool
		fold    bool
		exclude bool
		include uint64
	}
	results := make([]found, len(all))
	half := (len(all) + 1) / 2
	each(2, func(k int) {
		for i := max(1, k*half); i < min(len(all), (k+1)*half); i++ {
			if i%256 == 0 && ctx.Err() != nil {
				return
			}
			n, r := &all[i], &results[i]
			r.group, r.entry = groupOf(c.groups, n.full, c.Compat)
			shown := n.full
			switch {
			case r.group == "":
				if len(n.full.name) >= 2 && n.full.name[len(n.full.name)-2:] == "!?" {
					r.group = n.short
					shown = newCaseless(r.group)
				}
			case r.entry:
				shown = newCaseless(r.group + " <<" + n.short + ">>")
			default:
				shown = newCaseless(r.group)
			}
			r.exclude = c.exclude.any(shown)
			r.fold = c.fold.any(shown)
			for bit, p := range c.include.patterns {
				if p.matches(shown) {
					r.include |= 1 << bit
				}
			}
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(c.include.patterns) > 0 {
		ds.include = make([]uint64, len(all))
	}
	texts := map[string]uint32{}
	text := func(s string, n uint32) uint32 {
		id, ok := texts[s]
		if !ok {
			id = uint32(len(ds.texts))
			ds.texts, ds.names = append(ds.texts, s), append(ds.names, n)
			texts[s] = id
		} else if ds.names[id] != n {
			ds.names[id] = 0
		}
		return id
	}
	// A function of the same binary at several paths, as of two builds that are compared, has the place
	// that it has in the first.
	function := func(n uint32) uint32 {
		if id, ok := texts[all[n].short]; ok && all[ds.names[id]].short == all[n].short {
			return id
		}
		return text(all[n].short, n)
	}
	groups, entries := map[string]uint32{}, map[string]uint32{}
	id := func(m map[string]uint32, s string) uint32 {
		n, ok := m[s]
		if !ok {
			n = uint32(len(m) + 1)
			m[s] = n
		}
		return n
	}
	if c.Compat && len(c.fold.patterns) > 0 {
		ds.raw = make([]decision, len(all))
	}
	for i := 1; i < len(all); i++ {
		r, d := &results[i], &ds.of[i]
		d.fold, d.exclude = r.fold, r.exclude
		d.identity = 2 * uint32(i)
		switch {
		case r.group == "":
			d.text = function(uint32(i))
		case r.entry:
			d.text = text(r.group+" <<"+all[i].short+">>", uint32(i))
			d.entry = id(entries, r.group)
		default:
			d.text = text(r.group, uint32(i))
			d.identity = 2*id(groups, r.group) + 1
		}
		if ds.raw != nil {
			ds.raw[i] = decision{text: d.text, identity: 2 * uint32(i)}
			if r.group != "" {
				ds.raw[i].text = function(uint32(i))
			}
		}
		if ds.include != nil {
			ds.include[i] = r.include
			if c.Compat && r.fold {
				ds.include[i] = 0
			}
		}
	}
	ds.texts[0] = Root
	return ds, nil
}

// selection applies the filter: to each name, then along the stacks, then to the samples.
func (s *Source) selection(ctx context.Context, c *compiled) (*Selection, error) {
	compat := 0
	if c.Compat {
		compat = 1
	}
	sel := &Selection{src: s, c: c, names: s.names[compat]()}
	if c.Weights == "" {
		c.Weights = s.policy
	}
	ds, err := c.decide(ctx, sel.names.all)
	if err != nil {
		return nil, err
	}
	sel.of, sel.texts = ds.of, ds.texts
	sel.frames = make([]profile.Frame, len(ds.texts))
	for t, n := range ds.names {
		sel.frames[t] = sel.names.all[n].frame
	}
	n := len(s.parent)
	sel.node, sel.text, sel.flags = make([]uint32, n), make([]uint32, n), make([]uint8, n)
	sel.total = make([]measure, n)
	sel.propagate(ds)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Start != 0 || c.End != 0 || c.Scenarios != nil {
		if err := sel.pick(ctx); err != nil {
			return nil, err
		}
	}
	sel.sum()
	sel.times = sync.OnceValue(sel.timeBounds)
	sel.scale = sync.OnceValue(sel.scales)
	if c.FoldPercent > 0 {
		sel.foldSmall()
	}
	return sel, ctx.Err()
}

// propagate decides every position from its caller's.
func (s *Selection) propagate(ds *decisions) {
	src := s.src
	never := s.c.Compat && s.c.include.never
	var full uint64
	var mask []uint64
	if ds.include != nil {
		full = math.MaxUint64 >> (64 - len(s.c.include.patterns))
		mask = make([]uint64, len(s.node))
	}
	if full == 0 && !never {
		s.flags[0] = kept
	}
	each(len(src.parts), func(part int) {
		x := &src.parts[part]
		of := s.names.of[part]
		for i := x.begin; i < x.end; i++ {
			up := src.parent[i]
			if s.flags[up]&discarded != 0 {
				s.flags[i] = discarded
				continue
			}
			name := of[src.frame[i]]
			d := &ds.of[name]
			if d.exclude {
				s.flags[i] = discarded
				continue
			}
			var flags uint8
			begins := true
			if up != 0 {
				at := s.node[up]
				caller := of[src.frame[at]]
				e := &ds.of[caller]
				if e.fold && ds.raw != nil {
					e = &ds.raw[caller] // it begins a node, so it is at the root
				}
				switch {
				case d.fold:
					begins, flags = false, folded
				case d.identity == e.identity, d.entry != 0 && d.entry == e.entry:
					begins, flags = false, s.flags[up]&folded
				}
				if !begins {
					s.node[i], s.text[i] = at, s.text[at]
				}
			}
			if begins {
				s.node[i], s.text[i] = i, d.text
				if up == 0 && d.fold && ds.raw != nil {
					s.text[i] = ds.raw[name].text
				}
			}
			if mask != nil {
				mask[i] = mask[up]
				if begins {
					mask[i] |= ds.include[name]
				}
				if mask[i] == full {
					flags |= kept
				}
			} else {
				flags |= kept
			}
			if never {
				flags &^= kept
			}
			s.flags[i] = flags
		}
	})
}

// sum makes totals of the positions' own measures.
func (s *Selection) sum() {
	src := s.src
	weight, count := src.weight, src.count
	if s.weight != nil {
		weight, count = s.weight, s.count
	}
	own := func(i uint32) {
		if s.weight == nil && s.flags[i]&kept != 0 && src.sampled[i] {
			s.flags[i] |= hit
		}
		if s.flags[i]&hit != 0 {
			s.total[i] = measure{weight[i], count[i]}
		}
	}
	own(0)
	roots := make([]measure, len(src.parts))
	hits := make([]bool, len(src.parts))
	each(len(src.parts), func(part int) {
		x := &src.parts[part]
		for i := x.begin; i < x.end; i++ {
			own(i)
		}
		for i := x.end - 1; i >= x.begin && i > 0; i-- {
			if s.flags[i]&hit == 0 {
				continue
			}
			if up := src.parent[i]; up != 0 {
				s.total[up].add(s.total[i])
				s.flags[up] |= hit
			} else {
				roots[part].add(s.total[i])
				hits[part] = true
			}
		}
	})
	for part := range roots {
		s.total[0].add(roots[part])
		if hits[part] {
			s.flags[0] |= hit
		}
	}
}

// self is the measure of the selected samples with exactly the stack at a position.
func (s *Selection) self(i uint32) measure {
	if s.weight != nil {
		return measure{s.weight[i], s.count[i]}
	}
	if s.flags[i]&kept == 0 {
		return measure{}
	}
	return measure{s.src.weight[i], s.src.count[i]}
}

// begins reports whether a node begins at a position.
func (s *Selection) begins(i uint32) bool { return s.node[i] == i }

// pick selects samples one by one, by time and scenario, and cuts what lasts beyond the range.
func (s *Selection) pick(ctx context.Context) error {
	n := len(s.node)
	s.weight, s.count = make([]float64, n), make([]float64, n)
	var err error
	for part := range s.src.parts {
		if err = s.samples(ctx, part, func(_ int, at uint32, _, weight, count float64) {
			s.weight[at] += weight
			s.count[at] += count
			s.flags[at] |= hit
		}); err != nil {
			return err
		}
	}
	return nil
}

// included reports whether a part's scenario counts.
func (s *Selection) included(part int) bool {
	return s.c.Scenarios == nil || slices.Contains(s.c.Scenarios, s.src.parts[part].scenario)
}

// bounds are a filter's time range as samples are held against it, in ms.
type bounds struct {
	begin, end float64
	bounded    bool
	interval   bool
}

func (c *compiled) bounds() bounds {
	b := bounds{math.Inf(-1), math.Inf(1), c.Start != 0 || c.End != 0, c.Weights == Interval}
	if c.Start != 0 {
		b.begin = c.Start - slack
	}
	if c.End != 0 {
		b.end = c.End + slack
	}
	return b
}

// cut is a part's sample k as cut to the range: its time in ms, its weight in the profiles' unit and its
// count. Others are not selected.
func (s *Selection) cut(b *bounds, x *part, k int) (time, weight, count float64, ok bool) {
	time = float64(x.samples.Time[k]-x.shift) / 1e6
	weight, count = x.scale*float64(x.samples.Weight[k]), x.scale
	if x.samples.Count != nil {
		count = x.scale * float64(x.samples.Count[k])
	}
	switch {
	case !b.bounded:
	case time > b.end:
		return 0, 0, 0, false
	case !b.interval:
		if time < b.begin {
			return 0, 0, 0, false
		}
	default:
		span := math.Abs(weight) * s.src.ms
		if time+span < b.begin {
			return 0, 0, 0, false
		}
		before, after := b.begin-time, time+span-b.end
		if before > 0 {
			span, time = span-before, b.begin
		}
		if after > 0 {
			span -= after
		}
		if before > 0 || after > 0 {
			weight = math.Copysign(span/s.src.ms, weight)
		}
	}
	return time, weight, count, true
}

// samples goes through a part's selected samples: their number, position and what cut makes of them.
func (s *Selection) samples(ctx context.Context, part int, f func(k int, at uint32, time, weight, count float64)) error {
	if !s.included(part) {
		return nil
	}
	x, b := &s.src.parts[part], s.c.bounds()
	for k, id := range x.samples.Stack {
		if k&0xffff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := x.at[id]
		if s.flags[at]&kept == 0 {
			continue
		}
		if time, weight, count, ok := s.cut(&b, x, k); ok {
			f(k, at, time, weight, count)
		}
	}
	return nil
}

// Source is what was filtered.
func (s *Selection) Source() *Source { return s.src }

// Filter is what it was filtered by, with the policy that was used.
func (s *Selection) Filter() Filter { return s.c.Filter }

// shown is a text as a row shows it. PerfView cuts names at a brace.
func (s *Selection) shown(text uint32) string {
	t := s.texts[text]
	if s.c.Compat {
		for i := 1; i < len(t); i++ {
			if t[i] == '{' {
				return t[:i]
			}
		}
	}
	return t
}

// row makes a row of measures in the profiles' unit.
func (s *Selection) row(text uint32, total, self, fold measure) StackRow {
	f := s.src.factor
	return StackRow{
		Name:  s.shown(text),
		Total: f * total.weight, Self: f * self.weight,
		TotalCount: total.count, SelfCount: self.count,
		FoldWeight: f * fold.weight, FoldCount: fold.count,
		First: math.NaN(), Last: math.NaN(),
		Frame: s.frames[text],
	}
}
