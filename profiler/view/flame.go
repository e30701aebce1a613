package view

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

// Flame lays out the call tree as boxes, callers before their callees.
func (s *Selection) Flame(o FlameOptions) []FlameBox { return nil }
