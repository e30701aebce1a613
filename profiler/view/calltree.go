package view

import (
	"encoding/json"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Root is the name of a call tree's root, which stands for the whole profile.
const Root = "ROOT"

// A Node is a call path: the functions from the root to this one. Lines of a function are not told
// apart; a function that calls itself is a node below its node.
//
// Its Self is the weight of samples with exactly this path, its Total of those whose path begins so,
// and Total = Self + the children's Totals + Rest.
//
// As JSON it is its Row with "children" where there are any, and "rest" and "restCount" where
// children were left out.
type Node struct {
	Row
	// Children are ordered by total, then self, largest first, then by name and module.
	Children []*Node
	// Rest is the total of the children that TreeOptions left out.
	Rest profile.Measure
}

type nodeJSON struct {
	rowJSON
	Rest      int64       `json:"rest,omitempty"`
	RestCount int64       `json:"restCount,omitempty"`
	Children  []*nodeJSON `json:"children,omitempty"`
}

func (n *Node) json() *nodeJSON {
	j := &nodeJSON{rowJSON: n.Row.json(), Rest: n.Rest.Weight, RestCount: n.Rest.Count}
	for _, c := range n.Children {
		j.Children = append(j.Children, c.json())
	}
	return j
}

// MarshalJSON writes the tree as Node's comment says.
func (n *Node) MarshalJSON() ([]byte, error) { return json.Marshal(n.json()) }

// TreeOptions limit a call tree. The zero value is the whole tree.
type TreeOptions struct {
	// MinShare leaves out nodes whose total is less than this share of the profile's, with all that
	// they call: 0.01 for one percent.
	MinShare float64
	// Depth is how many levels there are below the root; 0 for all.
	Depth int
}

// CallTree is the whole tree of call paths. Its root is named Root and has the profile's total.
func CallTree(p *profile.Profile) *Node { return NewSums(p).CallTree(TreeOptions{}) }

// CallTree is the tree of call paths, as far as options ask for it. What they leave out costs nothing.
func (s *Sums) CallTree(o TreeOptions) *Node {
	fs := s.functions()
	least := o.MinShare * float64(size(s.total[0].Weight))
	root := &Node{Row: Row{Name: Root, Self: s.self[0], Total: s.total[0]}}

	// A node is the stacks with its path: a list of positions, linked by next. Position 0 is the root's
	// alone, so it ends lists.
	type open struct {
		node     *Node
		fn       uint32
		stacks   uint32
		measures tally
		depth    int
	}
	next := make([]uint32, len(s.parent))
	slot := make([]struct{ parent, child int }, len(fs.rows)) // by function: its index in queue, for the parent at parent-1
	queue := []open{{node: root}}
	for k := 0; k < len(queue); k++ {
		parent := queue[k]
		if o.Depth > 0 && parent.depth == o.Depth {
			n := parent.node
			n.Rest = profile.Measure{Weight: n.Total.Weight - n.Self.Weight, Count: n.Total.Count - n.Self.Count}
			continue
		}
		first := len(queue)
		for i := parent.stacks; ; i = next[i] {
			for c := i + 1; c < s.end[i]; c = s.end[c] {
				fn := fs.of[s.frame[c]]
				if slot[fn].parent != k+1 {
					slot[fn].parent, slot[fn].child = k+1, len(queue)
					queue = append(queue, open{fn: fn, depth: parent.depth + 1})
				}
				child := &queue[slot[fn].child]
				child.measures.self.Add(s.self[c])
				child.measures.total.Add(s.total[c])
				next[c], child.stacks = child.stacks, c
			}
			if next[i] == 0 {
				break
			}
		}
		if first == len(queue) {
			continue
		}
		found := queue[first:]
		kept := found[:0]
		for _, child := range found {
			if float64(size(child.measures.total.Weight)) < least {
				parent.node.Rest.Add(child.measures.total)
			} else {
				kept = append(kept, child)
			}
		}
		nodes := make([]Node, len(kept))
		parent.node.Children = make([]*Node, len(kept))
		for j := range kept {
			nodes[j].Row = fs.row(kept[j].fn, &kept[j].measures)
			kept[j].node = &nodes[j]
			parent.node.Children[j] = &nodes[j]
		}
		slices.SortFunc(parent.node.Children, func(a, b *Node) int { return byTotal(&a.Row, &b.Row) })
		queue = queue[:first+len(kept)]
	}
	return root
}
