package view

import "context"

// DrillInto is a source of exactly the samples, each once, in whose stack one of the names is, or with
// leaf, of those that end in one. Weights are as clipped to the filter's range; the stacks are whole and
// not grouped. It fails with a *FocusError, or with the context's error when that ends.
func (s *Selection) DrillInto(ctx context.Context, leaf bool, names ...string) (*Source, error) {
	return nil, nil
}

// DrillBranch is the same for nodes of a tree of s: the samples that a node's total counts, or with
// leaf, its self.
func (s *Selection) DrillBranch(ctx context.Context, leaf bool, nodes ...*Branch) (*Source, error) {
	return nil, nil
}

// Flatten is a source of the selected samples with only their grouped leaf frame as stack.
func (s *Selection) Flatten(ctx context.Context) (*Source, error) { return nil, nil }

// DiffSelections is the difference of two selections: each keeps its own filter but for FoldPercent,
// and its stacks are not grouped. It fails where their units differ.
func DiffSelections(ctx context.Context, before, after *Selection) (*Source, error) { return nil, nil }
