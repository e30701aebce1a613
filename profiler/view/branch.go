package view

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync"
)

// A Branch is a node of a tree whose children are computed when asked for, so that a tree of millions
// of nodes costs what is looked at. Its Row is not changed afterwards; any number of goroutines may
// ask one Branch for its children. It keeps its Selection.
type Branch struct {
	Row StackRow

	tree *tree
	text uint32
	at   []uint32 // where its nodes begin; in a tree of callers, where those on the way up do
	of   []uint32 // in a tree of callers, by at: the occurrence of the focus that the way is from
}

// A tree is what its branches share.
type tree struct {
	s     *Selection
	cols  Columns
	focus uint32        // 0 for the call tree
	up    bool          // a tree of callers
	total []measure     // by position, of what counts in this tree
	near  []uint32      // by position: the occurrence of the focus nearest to the leaf, or none
	marks func() *marks // by occurrence, in trees of callers
}

// Root is the name of a tree's root, which stands for all that was selected.
const Root = "ROOT"

// TreeOptions limit a call tree. The zero value is the whole tree.
type TreeOptions struct {
	// MinShare leaves out nodes whose total is less than this share of the profile's, with all that
	// they call: 0.01 for one percent.
	MinShare float64
	// Depth is how many levels there are below the root; 0 for all.
	Depth int
}

// none is no position.
const none = math.MaxUint32

// region goes through the positions that make up the node at p, and through the nodes it calls.
func (s *Selection) region(p uint32, own, child func(uint32)) {
	end := s.src.end[p]
	own(p)
	for c := p + 1; c < end; {
		switch {
		case s.flags[c]&hit == 0:
			c = s.src.end[c]
		case s.node[c] == c:
			child(c)
			c = s.src.end[c]
		default:
			own(c)
			c++
		}
	}
}

// Tree is the root of the call tree.
func (s *Selection) Tree(c Columns) *Branch {
	c = s.columns(c)
	return &Branch{Row: s.Root(c), tree: &tree{s: s, cols: c, total: s.total}, at: []uint32{0}}
}

// Callees is the root of the tree of what a name calls, from the occurrence nearest to the leaf. It
// fails with a *FocusError.
func (s *Selection) Callees(focus string, c Columns) (*Branch, error) {
	text, err := s.find(focus)
	if err != nil {
		return nil, err
	}
	if text == 0 {
		return s.Tree(c), nil
	}
	t := s.around(text, c)
	b := &Branch{tree: t, text: text}
	for i := range s.node {
		if s.focused(uint32(i), text) {
			b.at = append(b.at, uint32(i))
		}
	}
	t.complete([]*Branch{b})
	return b, nil
}

// Callers is the root of the tree of what calls a name: its children are the callers, their children
// theirs, up to Root. Of a stack that has the name several times the occurrence nearest to the leaf
// counts. It fails with a *FocusError.
func (s *Selection) Callers(focus string, c Columns) (*Branch, error) {
	c = s.columns(c)
	text, err := s.find(focus)
	if err != nil {
		return nil, err
	}
	if text == 0 {
		return &Branch{Row: s.Root(c), tree: &tree{s: s, cols: c, up: true}}, nil
	}
	b, err := s.Callees(focus, c)
	if err != nil {
		return nil, err
	}
	t := *b.tree
	t.up = true
	t.marks = sync.OnceValue(t.mark)
	if !s.c.Compat {
		// An occurrence that is the nearest of no sample leads to rows of nothing only.
		b.at = slices.DeleteFunc(b.at, func(o uint32) bool { return t.total[o] == measure{} })
	}
	return &Branch{Row: b.Row, tree: &t, text: text, at: b.at, of: b.at}, nil
}

// focused reports whether a node of a text begins at a position.
func (s *Selection) focused(i, text uint32) bool {
	return s.text[i] == text && s.flags[i]&hit != 0 && s.begins(i)
}

// around makes the tree of a focus: each sample belongs to the occurrence that is nearest to its leaf,
// and counts from there on only.
func (s *Selection) around(focus uint32, c Columns) *tree {
	c = s.columns(c)
	n := len(s.node)
	t := &tree{s: s, cols: c, focus: focus, total: make([]measure, n), near: make([]uint32, n)}
	t.near[0] = none
	for i := 1; i < n; i++ {
		if s.focused(uint32(i), focus) {
			t.near[i] = uint32(i)
		} else {
			t.near[i] = t.near[s.src.parent[i]]
		}
		if t.near[i] != none && s.flags[i]&hit != 0 {
			t.total[i] = s.self(uint32(i))
		}
	}
	for i := n - 1; i > 0; i-- {
		if t.near[i] != none && t.near[i] != uint32(i) {
			t.total[s.src.parent[i]].add(t.total[i])
		}
	}
	return t
}

// Children are the branch's children with the columns its tree was asked for, ordered by total, then
// self, largest first, then by name.
func (b *Branch) Children() []*Branch {
	return b.tree.children(b, newGrouper(len(b.tree.s.texts)), true)
}

// HasChildren reports whether there are any, at less cost. Those of a difference around a focus may yet
// cancel each other out.
func (b *Branch) HasChildren() bool {
	t := b.tree
	if t.up {
		return slices.ContainsFunc(b.at, func(p uint32) bool { return p != 0 })
	}
	some := false
	for _, p := range b.at {
		t.s.region(p, func(uint32) {}, func(c uint32) { some = some || t.counts(c) })
		if some {
			return true
		}
	}
	return false
}

// counts reports whether a node is in the tree: in those around a focus, not what begins at another
// occurrence of it and not, but for PerfView, what has come down to nothing.
func (t *tree) counts(c uint32) bool {
	if t.focus == 0 {
		return true
	}
	return t.s.text[c] != t.focus && (t.s.c.Compat || t.total[c] != measure{})
}

func (t *tree) children(b *Branch, g *grouper, columns bool) []*Branch {
	g.begin()
	var of [][]uint32
	for k, p := range b.at {
		if t.up {
			if p == 0 {
				continue
			}
			caller := t.s.node[t.s.src.parent[p]]
			j := g.add(t.s.text[caller], caller)
			if int(j) == len(of) {
				of = append(of, nil)
			}
			of[j] = append(of[j], b.of[k])
		} else {
			t.s.region(p, func(uint32) {}, func(c uint32) {
				if t.counts(c) {
					g.add(t.s.text[c], c)
				}
			})
		}
	}
	nodes := make([]Branch, len(g.texts))
	children := make([]*Branch, len(nodes))
	for j, text := range g.texts {
		nodes[j] = Branch{tree: t, text: text, at: g.at[j]}
		if t.up {
			nodes[j].of = of[j]
		}
		children[j] = &nodes[j]
	}
	if columns {
		t.complete(children)
	} else {
		t.measure(children)
	}
	if t.focus != 0 && !t.s.c.Compat {
		children = slices.DeleteFunc(children, func(b *Branch) bool { return b.Row.Total == 0 && b.Row.Self == 0 })
	}
	if !columns {
		return children
	}
	t.sort(children)
	return children
}

func (t *tree) sort(children []*Branch) {
	if t.byFirst() {
		slices.SortStableFunc(children, func(a, b *Branch) int {
			return cmp.Or(cmp.Compare(math.Abs(b.Row.Total), math.Abs(a.Row.Total)), cmp.Compare(a.Row.First, b.Row.First), cmp.Compare(a.Row.Name, b.Row.Name))
		})
		return
	}
	slices.SortStableFunc(children, func(a, b *Branch) int { return compareTotal(&a.Row, &b.Row) })
}

// byFirst reports whether children of one weight come in the order of their first samples.
func (t *tree) byFirst() bool { return t.s.c.Compat && t.cols&Times != 0 && t.focus == 0 }

// measure makes the rows of branches, without columns.
func (t *tree) measure(branches []*Branch) {
	s := t.s
	for _, b := range branches {
		var total, self, fold measure
		if t.up {
			for _, o := range b.of {
				total.add(t.total[o])
			}
		} else {
			for _, p := range b.at {
				total.add(t.total[p])
				s.region(p, func(i uint32) {
					m := s.self(i)
					self.add(m)
					if s.flags[i]&folded != 0 {
						fold.add(m)
					}
				}, func(uint32) {})
			}
		}
		b.Row = s.row(b.text, total, self, fold)
	}
}

// complete makes the rows of branches that have no sample in common, with their columns.
func (t *tree) complete(branches []*Branch) {
	t.measure(branches)
	s := t.s
	if t.cols == NoColumns || len(branches) == 0 {
		return
	}
	if t.cols&Times != 0 && (t.focus == 0 || s.c.Compat) {
		// PerfView has the times of all samples that come by, also of those that are counted elsewhere.
		bounds := s.times()
		for _, b := range branches {
			from := b.at
			if t.up {
				from = b.of
			}
			for _, p := range from {
				b.Row.between(bounds.first[p], bounds.last[p])
			}
		}
	}
	if t.up {
		m := t.marks()
		for _, b := range branches {
			sums := make([]float64, m.sums.size)
			for _, o := range b.of {
				k := m.of[o]
				if t.cols&Times != 0 && !s.c.Compat && m.first[k] <= m.last[k] {
					b.Row.between(m.first[k], m.last[k])
				}
				for j, w := range m.sums.of(k) {
					sums[j] += w
				}
			}
			s.draw(&b.Row, sums, t.cols)
		}
		return
	}
	times := t.cols&Times != 0 && t.focus != 0 && !s.c.Compat
	if t.cols&(When|Which) == 0 && !times {
		return
	}
	owner := make([]uint32, len(s.node)) // by position: 1 + the branch that its samples count for
	for k, b := range branches {
		for _, p := range b.at {
			for i := p; i < s.src.end[p]; i++ {
				if t.near == nil || t.near[i] == t.near[p] {
					owner[i] = uint32(k + 1)
				}
			}
		}
	}
	all := t.gather(owner, len(branches))
	for k, b := range branches {
		if times && all.first[k] <= all.last[k] {
			b.Row.between(all.first[k], all.last[k])
		}
		s.draw(&b.Row, all.sums.of(k), t.cols)
	}
}

// marks are the columns of sets of samples.
type marks struct {
	of          map[uint32]int // in a tree of callers: occurrence → set
	first, last []float64
	sums        *rowSums
}

// gather goes through the samples once. Owner is, by position, 1 + the set that samples belong to.
func (t *tree) gather(owner []uint32, n int) *marks {
	s := t.s
	m := &marks{first: make([]float64, n), last: make([]float64, n), sums: s.newSums(n, t.cols)}
	for k := range n {
		m.first[k], m.last[k] = math.Inf(1), math.Inf(-1)
	}
	sc := s.scale()
	sp := spreader{sc}
	for part := range s.src.parts {
		scenario := buckets + s.src.parts[part].scenario
		s.samples(context.Background(), part, func(_ int, at uint32, time, weight, _ float64) {
			if owner[at] == 0 {
				return
			}
			k := int(owner[at] - 1)
			m.first[k] = min(m.first[k], time)
			m.last[k] = max(m.last[k], sc.until(time, weight))
			sums := m.sums.of(k)
			if t.cols&When != 0 {
				sp.add(sums[:buckets], time, weight)
			}
			if scenario < len(sums) {
				sums[scenario] += weight
			}
		})
	}
	return m
}

// mark gathers the columns of all occurrences of the focus.
func (t *tree) mark() *marks {
	of := map[uint32]int{}
	owner := make([]uint32, len(t.near))
	for i, o := range t.near {
		if o == none {
			continue
		}
		k, ok := of[o]
		if !ok {
			k = len(of)
			of[o] = k
		}
		owner[i] = uint32(k + 1)
	}
	m := t.gather(owner, len(of))
	m.of = of
	return m
}

// Walk follows names from child to child. It fails with a *FocusError at the first that is not there.
func (b *Branch) Walk(names []string) (*Branch, error) {
	for _, name := range names {
		children := b.Children()
		at := slices.IndexFunc(children, func(c *Branch) bool { return c.Row.Name == name })
		if at < 0 {
			e := &FocusError{Focus: name}
			for _, c := range children[:min(3, len(children))] {
				e.Nearest = append(e.Nearest, c.Row.Name)
			}
			return nil, e
		}
		b = children[at]
	}
	return b, nil
}

// A StackNode is a tree that has been computed. As JSON it is its row with "children", and "rest" and
// "restCount" where children were left out.
type StackNode struct {
	StackRow
	Children []*StackNode
	// Rest and RestCount are the total of the children that TreeOptions left out.
	Rest, RestCount float64
}

// Expand computes a branch's tree as far as options ask for it. MinShare is of the selection's total.
func (b *Branch) Expand(o TreeOptions) *StackNode {
	t := b.tree
	s := t.s
	root := &StackNode{StackRow: b.Row}
	least := o.MinShare * math.Abs(s.total[0].weight) * s.src.factor
	type open struct {
		branch *Branch
		node   *StackNode
		depth  int
	}
	queue := []open{{b, root, 0}}
	g := newGrouper(len(s.texts))
	for k := 0; k < len(queue); k++ {
		x := queue[k]
		children := t.children(x.branch, g, t.up)
		kept := children[:0]
		for _, c := range children {
			if o.Depth > 0 && x.depth == o.Depth || math.Abs(c.Row.Total) < least {
				x.node.Rest += c.Row.Total
				x.node.RestCount += c.Row.TotalCount
			} else {
				kept = append(kept, c)
			}
		}
		for _, c := range kept {
			n := &StackNode{StackRow: c.Row}
			x.node.Children = append(x.node.Children, n)
			queue = append(queue, open{c, n, x.depth + 1})
		}
	}
	if !t.up && t.cols != NoColumns {
		// One walk of all stacks for the columns of all nodes.
		place := make([]uint32, len(s.node))
		for k := range queue[1:] {
			for _, p := range queue[k+1].branch.at {
				place[p] = uint32(k + 1)
			}
		}
		t.completeAll(place, len(queue)-1, func(k int) *StackRow { return &queue[k+1].node.StackRow })
	}
	if !t.up {
		for k := range queue {
			n := queue[k].node
			compare := compareTotal
			if t.byFirst() {
				compare = func(a, b *StackRow) int {
					return cmp.Or(cmp.Compare(math.Abs(b.Total), math.Abs(a.Total)), cmp.Compare(a.First, b.First), cmp.Compare(a.Name, b.Name))
				}
			}
			slices.SortStableFunc(n.Children, func(a, b *StackNode) int { return compare(&a.StackRow, &b.StackRow) })
		}
	}
	return root
}

// completeAll writes the columns of n rows. Place is, by position, 1 + the row of the node that begins
// there.
func (t *tree) completeAll(place []uint32, n int, row func(int) *StackRow) {
	s := t.s
	order := s.prepare(t.cols)
	if t.cols&Times != 0 {
		var first, last []float64
		if t.focus == 0 || s.c.Compat {
			b := s.times()
			first, last = b.first, b.last
		} else {
			first, last = t.timesBelow()
		}
		for i, k := range place {
			if k != 0 && first[i] <= last[i] {
				row(int(k-1)).between(first[i], last[i])
			}
		}
	}
	if t.cols&(When|Which) != 0 {
		sums := s.newSums(n, t.cols)
		s.spread(t.cols, order, nil, t.focus, func(i uint32, r *spreadRow) {
			if k := place[i]; k != 0 {
				sums.add(int(k-1), r)
			}
		})
		for k := range n {
			s.draw(row(k), sums.of(k), t.cols)
		}
	}
}

// timesBelow are the bounds of the samples that belong to the focus above a position.
func (t *tree) timesBelow() (first, last []float64) {
	s := t.s
	first, last = make([]float64, len(s.node)), make([]float64, len(s.node))
	for i := range first {
		first[i], last[i] = math.Inf(1), math.Inf(-1)
	}
	sc := s.scale()
	for part := range s.src.parts {
		s.samples(context.Background(), part, func(_ int, at uint32, time, weight, _ float64) {
			first[at] = min(first[at], time)
			last[at] = max(last[at], sc.until(time, weight))
		})
	}
	for i := len(first) - 1; i > 0; i-- {
		if t.near[i] != uint32(i) {
			up := s.src.parent[i]
			first[up], last[up] = min(first[up], first[i]), max(last[up], last[i])
		}
	}
	return first, last
}

type stackNodeJSON struct {
	stackRowJSON
	Rest      float64          `json:"rest,omitempty"`
	RestCount float64          `json:"restCount,omitempty"`
	Children  []*stackNodeJSON `json:"children"`
}

// MarshalJSON writes the tree as StackNode's comment says. A tree deeper than encoding/json follows is
// cut there, its rest told as such.
func (n *StackNode) MarshalJSON() ([]byte, error) { return json.Marshal(n.json()) }

// deepest is how many levels are written as JSON: encoding/json and other readers follow 10,000 brackets,
// of which a level is two.
const deepest = 4000

func (n *StackNode) json() *stackNodeJSON {
	node := func(n *StackNode) *stackNodeJSON {
		return &stackNodeJSON{stackRowJSON: n.StackRow.json(), Rest: n.Rest, RestCount: n.RestCount, Children: []*stackNodeJSON{}}
	}
	root := node(n)
	type open struct {
		from  *StackNode
		to    *stackNodeJSON
		depth int
	}
	for todo := []open{{n, root, 0}}; len(todo) > 0; {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, c := range x.from.Children {
			if x.depth == deepest {
				x.to.Rest += c.Total
				x.to.RestCount += c.TotalCount
				continue
			}
			j := node(c)
			x.to.Children = append(x.to.Children, j)
			todo = append(todo, open{c, j, x.depth + 1})
		}
	}
	return root
}
