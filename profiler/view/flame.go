package view

import "math"

// A FlameBox is a node of a flame graph. X and Width are shares of the graph's width, 0 to 1; Depth is
// 0 for Root.
type FlameBox struct {
	Name   string  `json:"name"`
	X      float64 `json:"x"`
	Width  float64 `json:"width"`
	Depth  int     `json:"depth"`
	Weight float64 `json:"weight"` // the node's total, negative where a difference is a gain
	Self   float64 `json:"self"`
	Parent int     `json:"parent"` // index of the caller's box; -1 for Root
}

// FlameOptions say how a flame graph is laid out. The zero value is left-aligned, whole.
type FlameOptions struct {
	MinWidth float64 // leave out boxes narrower than this share, with all that they call
	Centred  bool    // children in the middle of their caller, not at its left; always in compat
}

// Flame lays out the call tree as boxes, callers before their callees. A box is as wide as its weight
// is large, whatever the sign; where gains and losses make children wider than their caller together,
// they share its width.
func (s *Selection) Flame(o FlameOptions) []FlameBox { return s.Tree(NoColumns).Flame(o) }

// Flame lays out a branch's tree in the same way, with the branch itself as wide as the graph.
func (b *Branch) Flame(o FlameOptions) []FlameBox {
	t := b.tree
	centred := o.Centred || t.s.c.Compat
	type open struct {
		branch *Branch
		scale  float64 // width of one unit of weight
	}
	whole := 0.0
	if w := math.Abs(b.Row.Total); w > 0 {
		whole = 1 / w
	}
	boxes := []FlameBox{{Name: b.Row.Name, Width: 1, Weight: b.Row.Total, Self: b.Row.Self, Parent: -1}}
	queue := []open{{b, whole}}
	g := newGrouper(len(t.s.texts))
	for k := 0; k < len(queue); k++ {
		parent, x := boxes[k], queue[k]
		queue[k].branch = nil
		children := t.children(x.branch, g, false)
		t.sort(children)
		var sum float64
		for _, c := range children {
			sum += math.Abs(c.Row.Total)
		}
		scale := x.scale
		if scale == 0 && sum > 0 || scale*sum > parent.Width {
			scale = parent.Width / sum
		}
		at := parent.X
		if centred {
			at += (parent.Width - scale*sum) / 2
		}
		for _, c := range children {
			width := scale * math.Abs(c.Row.Total)
			if width > 0 && width >= o.MinWidth {
				boxes = append(boxes, FlameBox{Name: c.Row.Name, X: at, Width: width, Depth: parent.Depth + 1, Weight: c.Row.Total, Self: c.Row.Self, Parent: k})
				queue = append(queue, open{c, scale})
			}
			at += width
		}
	}
	return boxes
}
