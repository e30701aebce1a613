package profile

import (
	"iter"
	"math/bits"
	"slices"
)

// ID is what a stack is made of: locations while recording, frames when read.
type ID interface{ LocationID | FrameID }

// Stacks is an interned tree: a stack is its caller's stack and one more frame. IDs are dense and
// Parent(id) < id, so turning self into total is one loop from the last id to the first, and any
// attribute of stacks is a slice indexed by StackID.
//
// One goroutine may Intern; readers need their own View taken under the same lock.
type Stacks[F ID] struct {
	parent []StackID
	frame  []F
	// index is an open-addressed table of the stacks but 0, by parent and frame, at most half full;
	// its length is a power of two. It is built at the first Intern. A Go map took four times as long
	// for the half million stacks of a large capture.
	index []StackID
}

// NewStacks makes a tree with only the empty stack, 0.
func NewStacks[F ID]() *Stacks[F] {
	return &Stacks[F]{parent: make([]StackID, 1), frame: make([]F, 1)}
}

// StacksOf makes a tree from its columns, which it takes over. Element 0 of both is 0 (the empty
// stack), and parents come before their children; Check of the Capture or Profile verifies that.
func StacksOf[F ID](parent []StackID, frame []F) *Stacks[F] {
	return &Stacks[F]{parent: parent, frame: frame}
}

// Len is the number of stacks, the empty one included; ids are below it.
func (s *Stacks[F]) Len() int { return len(s.parent) }

// Parent is the stack without its leaf. Parent(0) is 0.
func (s *Stacks[F]) Parent(id StackID) StackID { return s.parent[id] }

// Leaf is the stack's innermost frame; 0 for the empty stack.
func (s *Stacks[F]) Leaf(id StackID) F { return s.frame[id] }

// Columns are the tree's two columns, not to be changed: parent and leaf of each stack.
func (s *Stacks[F]) Columns() (parent []StackID, frame []F) { return s.parent, s.frame }

// View is the tree as it is now, for readers, while s goes on growing. Interning into the view is
// not allowed.
func (s *Stacks[F]) View() *Stacks[F] {
	n := len(s.parent)
	return &Stacks[F]{parent: s.parent[:n:n], frame: s.frame[:n:n]}
}

// Intern is the stack that parent becomes by calling frame: the same id for the same two, always.
func (s *Stacks[F]) Intern(parent StackID, frame F) StackID {
	if 2*len(s.parent) >= len(s.index) {
		s.reindex(2 * len(s.parent))
	}
	at := s.slot(parent, frame)
	if id := s.index[at]; id != 0 {
		return id
	}
	id := StackID(len(s.parent))
	s.parent = append(s.parent, parent)
	s.frame = append(s.frame, frame)
	s.index[at] = id
	return id
}

// Grow makes room for n further stacks.
func (s *Stacks[F]) Grow(n int) {
	s.parent, s.frame = slices.Grow(s.parent, n), slices.Grow(s.frame, n)
	s.reindex(len(s.parent) + n)
}

// slot is where the stack is in the index, or else an empty place for it.
func (s *Stacks[F]) slot(parent StackID, frame F) uint64 {
	mask := uint64(len(s.index) - 1)
	// Fibonacci hashing, with the product's halves folded: the low bits depend on all of both.
	high, low := bits.Mul64(uint64(parent)<<32|uint64(frame), 0x9e3779b97f4a7c15)
	at := high ^ low
	for {
		at &= mask
		id := s.index[at]
		if id == 0 || s.parent[id] == parent && s.frame[id] == frame {
			return at
		}
		at++
	}
}

// reindex makes the index anew with room for n stacks.
func (s *Stacks[F]) reindex(n int) {
	size := 16
	for size < 2*n {
		size *= 2
	}
	s.index = make([]StackID, size)
	for i := 1; i < len(s.parent); i++ {
		if at := s.slot(s.parent[i], s.frame[i]); s.index[at] == 0 {
			s.index[at] = StackID(i)
		}
	}
}

// LeafFirst walks a stack from its innermost frame to its outermost.
func (s *Stacks[F]) LeafFirst(id StackID) iter.Seq[F] {
	return func(yield func(F) bool) {
		for ; id != 0; id = s.parent[id] {
			if !yield(s.frame[id]) {
				return
			}
		}
	}
}

// RootFirst is the stack's frames from the outermost to the innermost, in buf if it is large
// enough.
func (s *Stacks[F]) RootFirst(id StackID, buf []F) []F {
	n := 0
	for i := id; i != 0; i = s.parent[i] {
		n++
	}
	if cap(buf) < n {
		buf = make([]F, n)
	}
	buf = buf[:n]
	for ; id != 0; id = s.parent[id] {
		n--
		buf[n] = s.frame[id]
	}
	return buf
}
