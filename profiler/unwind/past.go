package unwind

import "slices"

// A Past is what a walk of the same thread has found before, so that the next one need not go that way again:
// the frames, and where on the stack their addresses were read. It does not change.
type Past struct {
	// Frames are from the outermost on, which is a root; At is where the address of each was read, a
	// runtime address: descending.
	Frames []Frame
	At     []uint64
}

// NewPast is the Past that a whole walk gives for later ones: the outermost frames, at most most of them, as far
// as each was read from a place on one stack. at are the places of the frames that Walk has given, as
// Walker.Places has them. It is nil where there are none.
func NewPast(frames []Frame, at []uint64, most int) *Past {
	n := len(frames)
	if n != len(at) {
		return nil
	}
	low := n
	for low > 0 && n-low < most && at[low-1] != 0 && frames[low-1].Return && (low == n || at[low-1] < at[low]) {
		low--
	}
	if low == n {
		return nil
	}
	p := &Past{Frames: slices.Clone(frames[low:]), At: slices.Clone(at[low:])}
	slices.Reverse(p.Frames)
	slices.Reverse(p.At)
	return p
}

// Equal says that two have the same frames in the same places.
func (p *Past) Equal(q *Past) bool {
	return p != nil && q != nil && slices.Equal(p.At, q.At) && slices.Equal(p.Frames, q.Frames)
}

// index is which of the first same frames was read at an address; -1 where none was.
func (p *Past) index(addr uint64, same int) int {
	if p == nil || same > len(p.At) {
		return -1
	}
	i, ok := slices.BinarySearchFunc(p.At[:same], addr, func(at, addr uint64) int {
		switch {
		case at > addr:
			return -1
		case at < addr:
			return 1
		}
		return 0
	})
	if !ok {
		return -1
	}
	return i
}
