package view

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Profile is what was selected as a profile of its own, for other programs: its samples in order of
// time, weights and times as cut to the filter's range, weights and counts rounded to whole ones.
// Grouped has its frames as the rows name them, without files and lines, and what was folded away is
// not in its stacks; else its stacks are as recorded. It fails only with the context's error.
func (s *Selection) Profile(ctx context.Context, grouped bool) (*profile.Profile, error) {
	first := s.src.parts[0].p
	q := &profile.Profile{
		Kind: first.Kind, Unit: first.Unit, Source: first.Source, Start: first.Start, Length: first.Length,
		Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1),
	}
	var text []profile.FrameID // by text, for grouped
	if grouped {
		text = make([]profile.FrameID, len(s.texts))
	}
	stack := make([]profile.StackID, len(s.node)) // by position
	var samples []profile.Sample
	for part := range s.src.parts {
		x := &s.src.parts[part]
		q.Length = max(q.Length, x.p.Length)
		q.Warnings = append(q.Warnings, x.p.Warnings...)
		frame := profile.FrameID(len(q.Frames) - 1) // of the part's frame 0, were it there
		if !grouped {
			q.Frames = append(q.Frames, x.p.Frames[1:]...)
		}
		for i := x.begin; i < x.end; i++ {
			if s.flags[i]&hit == 0 {
				continue
			}
			up := stack[s.src.parent[i]]
			switch t := s.text[i]; {
			case !grouped:
				stack[i] = q.Stacks.Intern(up, frame+s.src.frame[i])
			case !s.begins(i):
				stack[i] = up
			default:
				if text[t] == 0 {
					text[t] = profile.FrameID(len(q.Frames))
					q.Frames = append(q.Frames, profile.Frame{Func: s.texts[t]})
				}
				stack[i] = q.Stacks.Intern(up, text[t])
			}
		}
		task := profile.TaskID(len(q.Tasks) - 1)
		q.Tasks = append(q.Tasks, x.p.Tasks[1:]...)
		err := s.samples(ctx, part, func(k int, at uint32, ms, weight, count float64) {
			y := profile.Sample{
				Stack: stack[at], Time: time.Duration(math.Round(ms * 1e6)),
				Weight: int64(math.Round(weight)), Count: int64(math.Round(count)),
			}
			if t := x.samples.Task[k]; t != 0 {
				y.Task = task + t
			}
			samples = append(samples, y)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(samples, func(a, b profile.Sample) int {
		switch {
		case a.Time < b.Time:
			return -1
		case a.Time > b.Time:
			return 1
		}
		return 0
	})
	for _, x := range samples {
		q.Samples.Append(x)
	}
	return q, nil
}
