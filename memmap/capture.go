package memmap

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The kinds of series of a snapshot's capture.
const (
	Resident profile.Kind = "resident" // memory that is in RAM, bytes
	Reserved profile.Kind = "reserved" // addresses, bytes
	Swapped  profile.Kind = "swapped"
)

// Capture makes weighted stacks of a snapshot, so that what shows stacks shows it: kind, then region,
// then part; the count of each is its mappings. A Go heap's stacks go on with what is in it, as Terms
// has it. It is an imported capture, and passes Check.
func (s *Snapshot) Capture() *profile.Capture {
	target := profile.Target{PID: s.PID}
	if s.PID == 0 || s.Core != "" {
		target = profile.Target{Command: []string{"memory", "map", "of", valid(filepath.Base(s.Name + s.coreName()))}}
	}
	c := profile.NewCapture(target, s.Time)
	c.Imported, c.Engine = true, "sightline map"
	for _, n := range s.Notes {
		c.Warn(profile.WarnHidden, 0, valid(n))
	}
	c.Symbols.Frames = make([]profile.Frame, 1)
	c.Symbols.Of = make([][]profile.FrameID, 1)
	c.Tasks = append(c.Tasks, profile.Task{PID: s.PID, TID: s.PID, Comm: valid(s.Name)})
	places := map[string]profile.LocationID{}
	place := func(name string) profile.LocationID {
		name = valid(name)
		if id, ok := places[name]; ok {
			return id
		}
		id := profile.LocationID(len(c.Locations))
		c.Locations = append(c.Locations, profile.Location{})
		c.Symbols.Frames = append(c.Symbols.Frames, profile.Frame{Func: name})
		c.Symbols.Of = append(c.Symbols.Of, []profile.FrameID{profile.FrameID(len(c.Symbols.Frames) - 1)})
		places[name] = id
		return id
	}
	resident := profile.Series{Kind: Resident, Unit: profile.Bytes}
	reserved := profile.Series{Kind: Reserved, Unit: profile.Bytes}
	swapped := profile.Series{Kind: Swapped, Unit: profile.Bytes}
	sample := func(to *profile.Series, id profile.StackID, weight, count int64) {
		if weight > 0 {
			to.Samples.Append(profile.Sample{Stack: id, Task: 1, Weight: weight, Count: count})
		}
	}
	add := func(id profile.StackID, x Columns) {
		sample(&resident, id, x.Resident, x.Blocks)
		sample(&reserved, id, x.Size, x.Blocks)
		sample(&swapped, id, x.Swap, x.Blocks)
	}
	heap, left := profile.StackID(0), int64(0)
	for i := range s.Regions {
		r := &s.Regions[i]
		kind := c.Stacks.Intern(0, place(string(r.Kind)))
		if r.Kind == ManagedHeap && len(s.Terms) > 0 {
			// Its resident memory is told by what is in it.
			heap, left = kind, left+r.Resident
			id := c.Stacks.Intern(kind, place(r.Label()))
			sample(&reserved, id, r.Size, r.Blocks)
			sample(&swapped, id, r.Swap, r.Blocks)
			continue
		}
		id := c.Stacks.Intern(kind, place(r.Label()))
		if len(r.Parts) == 0 {
			add(c.Stacks.Intern(id, place(r.Protection)), r.Columns)
		}
		for _, p := range r.Parts {
			name := p.Protection
			if p.Detail != "" {
				name += " " + p.Detail
			}
			add(c.Stacks.Intern(id, place(name)), p.Columns)
		}
	}
	if heap != 0 {
		for _, t := range s.Terms {
			switch t.Name {
			case TermLive, TermNew, TermGarbage, TermFreeSlots, TermTails, TermStacks, TermIdle, TermChanged:
				sample(&resident, c.Stacks.Intern(heap, place(t.Name)), t.Bytes, max(t.Number, 1))
				left -= t.Bytes
			}
		}
		sample(&resident, c.Stacks.Intern(heap, place("collector's work buffers")), left, 1)
	}
	for _, x := range []profile.Series{resident, reserved, swapped} {
		if x.Samples.Len() > 0 {
			c.Series = append(c.Series, x)
		}
	}
	if len(c.Series) == 0 {
		c.Series = append(c.Series, resident)
	}
	return c
}

func (s *Snapshot) coreName() string {
	if s.Core == "" {
		return ""
	}
	return " (core)"
}

// Label names a region in a few words: its detail, or its path, or what it is.
func (r *Region) Label() string {
	switch {
	case r.Kind == Image && strings.HasPrefix(r.Detail, "bss of "):
		return strings.TrimPrefix(r.Detail, "bss of ")
	case r.Path != "" && strings.HasPrefix(r.Path, "/"):
		return r.Path
	case r.Detail != "":
		return r.Detail
	case r.Path != "":
		return r.Path
	}
	return fmt.Sprintf("anonymous, %s", r.Protection)
}
