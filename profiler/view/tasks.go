package view

import (
	"fmt"
	"slices"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// addTasks puts the frames "Process COMM (PID)" and "Thread (TID)" at the root of every stack of the
// parts, in the spelling that PerfView has for Linux, for which the stock patterns are made. Samples of
// the task that is not known stay as they are.
func addTasks(parts []part) []part {
	to := slices.Clone(parts)
	each(len(parts), func(i int) {
		p, samples := withTasks(parts[i].p, parts[i].samples)
		to[i] = part{p: p, samples: samples, scale: parts[i].scale, shift: parts[i].shift, scenario: parts[i].scenario, prefix: parts[i].prefix}
	})
	return to
}

func withTasks(p *profile.Profile, x *profile.Samples) (*profile.Profile, *profile.Samples) {
	q := *p
	q.Frames = p.Frames[:len(p.Frames):len(p.Frames)]
	process := map[int]string{} // by PID: the name of its main thread
	for id := len(p.Tasks) - 1; id > 0; id-- {
		if t := p.Tasks[id]; t.TID == t.PID || process[t.PID] == "" {
			process[t.PID] = t.Comm
		}
	}
	for id := 1; id < len(p.Tasks); id++ {
		if t := p.Tasks[id]; t.TID == t.PID {
			process[t.PID] = t.Comm
		}
	}
	frames := map[string]profile.FrameID{}
	frame := func(text string) profile.FrameID {
		id, ok := frames[text]
		if !ok {
			id = profile.FrameID(len(q.Frames))
			q.Frames = append(q.Frames, profile.Frame{Func: text})
			frames[text] = id
		}
		return id
	}

	// Samples by task, in their order within each.
	begin := make([]uint32, len(p.Tasks)+1)
	for _, t := range x.Task {
		begin[t+1]++
	}
	for t := range p.Tasks {
		begin[t+1] += begin[t]
	}
	order := make([]uint32, x.Len())
	next := slices.Clone(begin)
	for k, t := range x.Task {
		order[next[t]] = uint32(k)
		next[t]++
	}

	// The stacks of each task are copied below its frames.
	parents, leaf := p.Stacks.Columns()
	parent, leaves := make([]profile.StackID, 1), make([]profile.FrameID, 1)
	push := func(up profile.StackID, f profile.FrameID) profile.StackID {
		parent, leaves = append(parent, up), append(leaves, f)
		return profile.StackID(len(parent) - 1)
	}
	roots := map[profile.FrameID]profile.StackID{}
	stack := make([]profile.StackID, x.Len())
	copied := make([]profile.StackID, len(parents))
	task := make([]uint32, len(parents)) // for which copied holds: TaskID+1
	var needed []profile.StackID
	for t := range p.Tasks {
		mine := order[begin[t]:begin[t+1]]
		if len(mine) == 0 {
			continue
		}
		var root profile.StackID
		if t != 0 {
			id := p.Tasks[t]
			f := frame(fmt.Sprintf("Process %s (%d)", process[id.PID], id.PID))
			up, ok := roots[f]
			if !ok {
				up = push(0, f)
				roots[f] = up
			}
			root = push(up, frame(fmt.Sprintf("Thread (%d)", id.TID)))
		}
		copied[0], task[0] = root, uint32(t)+1
		needed = needed[:0]
		for _, k := range mine {
			for id := x.Stack[k]; task[id] != uint32(t)+1; id = parents[id] {
				task[id] = uint32(t) + 1
				needed = append(needed, id)
			}
		}
		slices.Sort(needed)
		for _, id := range needed {
			copied[id] = push(copied[parents[id]], leaf[id])
		}
		for _, k := range mine {
			stack[k] = copied[x.Stack[k]]
		}
	}
	q.Stacks = profile.StacksOf(parent, leaves)
	y := *x
	y.Stack = stack
	q.Samples = y
	return &q, &y
}
