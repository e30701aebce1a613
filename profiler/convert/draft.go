package convert

import "github.com/sightline-dev/sightline/profiler/profile"

// A draft is a tree of stacks whose frames are numbers in a table of the file, which may come after
// them. Frame n is n+1 in the tree.
type draft struct {
	stacks *profile.Stacks[profile.FrameID]
}

func newDraft() *draft { return &draft{stacks: profile.NewStacks[profile.FrameID]()} }

// push is the stack that parent becomes by calling frame n, which is not negative.
func (d *draft) push(parent profile.StackID, n int) profile.StackID {
	return d.stacks.Intern(parent, profile.FrameID(n+1))
}

// resolve gives the builder's stack of each of the draft's. of is the location of a frame's number.
func (d *draft) resolve(b *builder, of func(n int) profile.LocationID) []profile.StackID {
	parents, frames := d.stacks.Columns()
	to := make([]profile.StackID, len(parents))
	for i := 1; i < len(parents); i++ {
		to[i] = b.push(to[parents[i]], of(int(frames[i])-1))
	}
	return to
}
