package view

import "math"

// foldSmall folds the nodes of the call tree that cost less than FoldPercent of the whole, unless their
// name costs more over the whole tree, into their callers, with all that they call. It goes down the
// tree level by level, so that what lies below a folded node is never looked at.
func (s *Selection) foldSmall() {
	root := s.total[0].weight
	if !s.c.Compat {
		root = math.Abs(root)
	}
	least := s.c.FoldPercent * root / 100
	byName := s.tallies()
	g := newGrouper(len(s.texts))
	type open struct {
		text uint32
		at   []uint32
	}
	queue := []open{{0, []uint32{0}}}
	for k := 0; k < len(queue); k++ {
		parent := queue[k]
		queue[k].at = nil
		g.begin()
		for _, p := range parent.at {
			s.region(p, func(uint32) {}, func(c uint32) { g.add(s.text[c], c) })
		}
		for j, text := range g.texts {
			var total float64
			for _, c := range g.at[j] {
				total += s.total[c].weight
			}
			if math.Abs(total) >= least || math.Abs(byName[text].total.weight) >= least || s.isBroken(text) {
				queue = append(queue, open{text, g.at[j]})
				continue
			}
			for _, c := range g.at[j] {
				into := s.node[s.src.parent[c]]
				for i := c; i < s.src.end[c]; i++ {
					s.node[i], s.text[i] = into, parent.text
					s.flags[i] |= folded
				}
			}
		}
	}
}

// isBroken reports whether a text stands for stacks whose callers are missing, which are never folded
// for being few.
func (s *Selection) isBroken(text uint32) bool {
	switch s.texts[text] {
	case "BROKEN", "[broken stack]":
		return true
	}
	return false
}

// A grouper puts positions together by text, in the order in which texts are met.
type grouper struct {
	slot  []struct{ turn, at uint32 } // by text
	turn  uint32
	texts []uint32
	at    [][]uint32
}

func newGrouper(texts int) *grouper {
	return &grouper{slot: make([]struct{ turn, at uint32 }, texts)}
}

// begin starts with no groups; those of before stay with whoever has them.
func (g *grouper) begin() {
	g.turn++
	g.texts, g.at = g.texts[:0], nil
}

// add puts a position into its text's group, whose number it tells.
func (g *grouper) add(text, at uint32) uint32 {
	x := &g.slot[text]
	if x.turn != g.turn {
		x.turn, x.at = g.turn, uint32(len(g.texts))
		g.texts, g.at = append(g.texts, text), append(g.at, nil)
	}
	g.at[x.at] = append(g.at[x.at], at)
	return x.at
}
