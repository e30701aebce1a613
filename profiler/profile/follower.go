package profile

import (
	"fmt"
	"slices"
)

// A Follower makes the profiles of a capture that grows while it is recorded: what it has made of one
// view is not made again for the next, so that a profile costs what is new since the last one. The zero
// value is ready.
//
// Each view holds all that the one before has: its locations with the same frames, and its stacks under
// the same numbers (profiler.Recording.View and sourcemap.Symbolizer give such views). A view for which
// that is not so is a beginning anew.
//
// Profiles that were made stay as they are; they share tables with those to come. One goroutine uses a
// Follower.
type Follower struct {
	imported bool
	frames   []Frame // of profiles: the zero one, Unknown, BrokenStack where the capture is recorded, then the capture's
	named    int     // how many of the capture's frames are in ids
	ids      []FrameID
	stacks   *Stacks[FrameID]
	// By the capture's stack, as far as was followed.
	parents   []StackID
	locations []LocationID
	to        []StackID // the profile's stack
	whole     []bool    // it has an entry function
}

// Ids that all profiles of a Follower begin with.
const (
	unknownFrame FrameID = 1
	brokenFrame  FrameID = 2
)

// Profile is Capture.Profile of a view.
func (f *Follower) Profile(c *Capture, kind Kind) (*Profile, error) {
	s := c.Of(kind)
	if s == nil {
		return nil, fmt.Errorf("%s: %w", kind, ErrNoSeries)
	}
	if !f.follows(c) {
		f.begin(c)
	}
	f.grow(c)
	p := &Profile{
		Kind: s.Kind, Unit: s.Unit, Source: s.Source, Start: c.Start, Length: c.Length,
		Frames: f.frames[:len(f.frames):len(f.frames)], Stacks: f.stacks.View(), Tasks: c.Tasks,
		Samples: s.Samples, Warnings: c.Warnings,
	}
	p.Samples.Stack = make([]StackID, s.Samples.Len())
	for i, id := range s.Samples.Stack {
		p.Samples.Stack[i] = f.to[id]
	}
	return p, nil
}

// follows says whether c is a later view, as far as its stacks tell.
func (f *Follower) follows(c *Capture) bool {
	parents, locations := c.Stacks.Columns()
	n := len(f.parents)
	return f.stacks != nil && f.imported == c.Imported && len(parents) >= n && len(c.Symbols.Frames) >= f.named &&
		slices.Equal(parents[:n], f.parents) && slices.Equal(locations[:n], f.locations)
}

func (f *Follower) begin(c *Capture) {
	*f = Follower{imported: c.Imported, stacks: NewStacks[FrameID](), named: 1, ids: make([]FrameID, 1), to: make([]StackID, 1), whole: make([]bool, 1)}
	f.frames = append(make([]Frame, 1, len(c.Symbols.Frames)+3), Frame{Func: Unknown})
	if !c.Imported {
		f.frames = append(f.frames, Frame{Func: BrokenStack})
	}
	f.stacks.Grow(c.Stacks.Len())
}

// grow takes over what is new.
func (f *Follower) grow(c *Capture) {
	for f.named < len(c.Symbols.Frames) {
		frame := c.Symbols.Frames[f.named]
		f.named++
		switch {
		case frame == Frame{Func: Unknown}:
			f.ids = append(f.ids, unknownFrame)
		case frame == Frame{Func: BrokenStack} && !f.imported:
			f.ids = append(f.ids, brokenFrame)
		default:
			f.ids = append(f.ids, FrameID(len(f.frames)))
			f.frames = append(f.frames, frame)
		}
	}
	parents, locations := c.Stacks.Columns()
	n := len(parents) - len(f.to)
	f.to, f.whole = slices.Grow(f.to, n), slices.Grow(f.whole, n)
	for id := len(f.to); id < len(parents); id++ {
		loc, parent := locations[id], parents[id]
		var of []FrameID
		if int(loc) < len(c.Symbols.Of) {
			of = c.Symbols.Of[loc]
		}
		outermost := unknownFrame
		if len(of) > 0 {
			outermost = f.ids[of[len(of)-1]]
		}
		at, whole := f.to[parent], f.whole[parent] || c.Imported
		kernel := c.kindOf(loc) == KernelCode
		switch entry := f.frames[outermost].Entry || c.Locations[loc].Root; {
		case whole:
		case entry && !kernel:
			at, whole = 0, true
		case parent == 0 && kernel:
			whole = true
		case parent == 0:
			at = f.stacks.Intern(0, brokenFrame)
		}
		if len(of) == 0 {
			at = f.stacks.Intern(at, unknownFrame)
		}
		for _, frame := range slices.Backward(of) {
			at = f.stacks.Intern(at, f.ids[frame])
		}
		f.to, f.whole = append(f.to, at), append(f.whole, whole)
	}
	f.parents, f.locations = parents[:len(parents):len(parents)], locations[:len(parents):len(parents)]
}
