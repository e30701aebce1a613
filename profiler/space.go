package profiler

import (
	"sort"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// A space is what a process has mapped from one change to the next. Its regions do not change, so
// stacks can be walked by them later, and beside the recording.
type space struct {
	process *process
	regions []region
	// located is as process.located, with a bit for roots. It is guarded by the recording's lock.
	located map[uint64]profile.LocationID
}

// space is the process's present one.
func (p *process) space() *space {
	if p.now == nil || p.nowChanges != p.changes {
		p.shared = true // the next change makes a copy
		p.now = &space{process: p, regions: p.regions}
		p.nowChanges = p.changes
	}
	return p.now
}

// find is the region of an address, or nil.
func (s *space) find(addr uint64) *region {
	i := sort.Search(len(s.regions), func(i int) bool { return s.regions[i].end > addr })
	if i < len(s.regions) && s.regions[i].start <= addr {
		return &s.regions[i]
	}
	return nil
}

// locate is as tracker.locate.
func (s *space) locate(addr uint64) (*codeFile, uint64) {
	r := s.find(addr)
	if r == nil {
		return nil, addr
	}
	f := r.file
	if f == nil {
		f = s.process.memory()
	}
	return f, f.address(r, addr)
}

// entryBytes is how long code at a file's entry point is taken for what nothing calls, where no rows
// say so.
const entryBytes = 64

// code is what a walk must know of the code at an address; of is what is known of a file's.
func (s *space) code(pc uint64, of func(*codeFile) *fileCode) (unwind.Code, bool) {
	r := s.find(pc)
	if r == nil {
		return unwind.Code{}, false
	}
	c := unwind.Code{Start: r.start, End: r.end}
	f := r.file
	if f == nil || f.offsets {
		return c, true
	}
	offset := pc - r.start + r.offset
	seg := f.image.segment(offset)
	if seg == nil {
		return c, true
	}
	// The addresses of the region that lie in this segment.
	base := r.start - r.offset + seg.offset // runtime address of its first byte; modulo 1<<64
	if base-r.start < r.end-r.start {
		c.Start = base
	}
	if end := base + seg.size; end-r.start < r.end-r.start {
		c.End = end
	}
	c.Bias = base - seg.addr
	known := of(f)
	c.Table, c.Go, c.Flags = known.table, known.frames, known.flags
	if entry := f.image.entry + c.Bias; f.image.entry != 0 && entry-c.Start < c.End-c.Start {
		behind := min(entry+entryBytes, c.End)
		switch {
		case pc < entry:
			c.End = entry
		case pc >= behind:
			c.Start = behind
		default:
			c.Start, c.End = entry, behind
			c.Flags |= unwind.CodeEntry
		}
	}
	return c, true
}
