package view

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// DrillInto is a source of exactly the samples, each once, in whose stack one of the names is, or with
// leaf, of those that end in one. Weights are as cut to the filter's range; the stacks are whole and
// not grouped. It fails with a *FocusError, or with the context's error when that ends.
func (s *Selection) DrillInto(ctx context.Context, leaf bool, names ...string) (*Source, error) {
	texts := make([]uint32, len(names))
	for i, name := range names {
		var err error
		if texts[i], err = s.find(name); err != nil {
			return nil, err
		}
	}
	in := s.below(texts, leaf)
	return s.drill(ctx, in)
}

// DrillBranch is the same for nodes of trees of s: the samples that a node's total counts, or with
// leaf, its self. In a tree of callers, whose nodes have no self, leaf takes no samples but the focus's.
func (s *Selection) DrillBranch(ctx context.Context, leaf bool, nodes ...*Branch) (*Source, error) {
	in := make([]bool, len(s.node))
	for _, b := range nodes {
		t := b.tree
		if t.s != s {
			return nil, fmt.Errorf("drill into %q: it is a node of another selection; ask this one for its tree", b.Row.Name)
		}
		switch {
		case leaf && t.up && b.text != t.focus:
		case leaf:
			for _, p := range b.at {
				s.region(p, func(i uint32) { in[i] = true }, func(uint32) {})
			}
		case t.up && t.near != nil:
			of := make(map[uint32]bool, len(b.of))
			for _, o := range b.of {
				of[o] = true
			}
			for i, o := range t.near {
				in[i] = in[i] || o != none && of[o]
			}
		default:
			for _, p := range b.at {
				for i := p; i < s.src.end[p]; i++ {
					in[i] = in[i] || t.near == nil || t.near[i] == t.near[p]
				}
			}
		}
	}
	return s.drill(ctx, in)
}

func (s *Selection) drill(ctx context.Context, in []bool) (*Source, error) {
	parts, err := s.taken(ctx, in)
	if err != nil {
		return nil, err
	}
	to := newSource(parts, s.src.scenarios)
	to.policy, to.tasked = s.src.policy, s.src.tasked
	return to, nil
}

// taken are the source's parts with only the selected samples at the positions that in marks, as cut to
// the range; all of them where in is nil.
func (s *Selection) taken(ctx context.Context, in []bool) ([]part, error) {
	parts := make([]part, len(s.src.parts))
	for i := range parts {
		x := &s.src.parts[i]
		var to profile.Samples
		err := s.samples(ctx, i, func(k int, at uint32, t, weight, _ float64) {
			if in != nil && !in[at] {
				return
			}
			sample := x.samples.At(k)
			if s.c.Start != 0 || s.c.End != 0 {
				sample.Weight = int64(math.Round(weight / x.scale))
				sample.Time = max(sample.Time, time.Duration(math.Round(t*1e6))+x.shift)
			}
			to.Append(sample)
		})
		if err != nil {
			return nil, err
		}
		parts[i] = x.withSamples(&to)
	}
	return parts, nil
}

// Flatten is a source of the selected samples with only their grouped leaf frame as stack.
func (s *Selection) Flatten(ctx context.Context) (*Source, error) {
	frames := make([]profile.Frame, len(s.texts))
	for text := 1; text < len(frames); text++ {
		frames[text] = profile.Frame{Func: s.texts[text]}
		if f := s.frames[text]; f != (profile.Frame{}) && shortName(fullName(&f, s.c.Compat)) == s.texts[text] {
			f.Line, f.Column = 0, 0
			frames[text] = f
		}
	}
	parent, leaf := make([]profile.StackID, len(frames)), make([]profile.FrameID, len(frames))
	for text := range leaf {
		leaf[text] = profile.FrameID(text)
	}
	stacks := profile.StacksOf(parent, leaf)
	parts, err := s.taken(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		x := &parts[i]
		p, samples := *x.p, *x.samples
		samples.Stack = make([]profile.StackID, len(samples.Stack))
		for k, id := range x.samples.Stack {
			samples.Stack[k] = profile.StackID(s.text[s.src.parts[i].at[id]])
		}
		p.Frames, p.Stacks, p.Samples = frames, stacks, samples
		x.p, x.samples, x.prefix = &p, &samples, 0
	}
	to := newSource(parts, s.src.scenarios)
	to.policy, to.tasked = s.src.policy, true
	return to, nil
}

// DiffSelections is the difference of two selections: each keeps its own filter but for FoldPercent,
// and its stacks are not grouped. It fails where their units differ.
func DiffSelections(ctx context.Context, before, after *Selection) (*Source, error) {
	parts, err := after.taken(ctx, nil)
	if err != nil {
		return nil, err
	}
	minus, err := before.taken(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range minus {
		minus[i].scale = -minus[i].scale
	}
	parts = append(parts, minus...)
	if err := sameUnits(parts); err != nil {
		return nil, fmt.Errorf("compare two selections: %w", err)
	}
	for i := range parts {
		parts[i].scenario = 0
	}
	to := newSource(parts, nil)
	to.policy, to.tasked = after.src.policy, after.src.tasked && before.src.tasked
	return to, nil
}
