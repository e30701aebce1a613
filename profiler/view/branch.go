package view

// A Branch is a node of a tree whose children are computed when asked for, so that a tree of millions
// of nodes costs what is looked at. Its Row is not changed afterwards; any number of goroutines may
// ask one Branch for its children. It keeps its Selection.
type Branch struct {
	Row StackRow
}

// Tree is the root of the call tree.
func (s *Selection) Tree(c Columns) *Branch { return nil }

// Callers is the root of the tree of what calls a name: its children are the callers, their children
// theirs, up to Root. Of a stack that has the name several times the occurrence nearest to the leaf
// counts. It fails with a *FocusError.
func (s *Selection) Callers(focus string, c Columns) (*Branch, error) { return nil, nil }

// Callees is the root of the tree of what a name calls, from the occurrence nearest to the leaf. It
// fails with a *FocusError.
func (s *Selection) Callees(focus string, c Columns) (*Branch, error) { return nil, nil }

// Children are the branch's children with the columns its tree was asked for, ordered by total, then
// self, largest first, then by name.
func (b *Branch) Children() []*Branch { return nil }

// HasChildren reports whether there are any, at less cost.
func (b *Branch) HasChildren() bool { return false }

// Walk follows names from child to child. It fails with a *FocusError at the first that is not there.
func (b *Branch) Walk(names []string) (*Branch, error) { return nil, nil }

// A StackNode is a tree that has been computed. As JSON it is its row with "children", and "rest" and
// "restCount" where children were left out.
type StackNode struct {
	StackRow
	Children []*StackNode
	// Rest and RestCount are the total of the children that TreeOptions left out.
	Rest, RestCount float64
}

// Expand computes a branch's tree as far as options ask for it. MinShare is of the selection's total.
func (b *Branch) Expand(o TreeOptions) *StackNode { return nil }
