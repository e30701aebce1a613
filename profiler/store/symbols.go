package store

import (
	"unsafe"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Symbols are one record: the strings of all frames once each, the frames as columns, and the
// chain of frames of each location. Sources are elsewhere: captures share them.

const (
	frameSize = int(unsafe.Sizeof(profile.Frame{})) + 3*8
	chainSize = 24 + 8
)

// encodeSymbols is the record of frames and chains.
func encodeSymbols(s *profile.Symbols) []byte {
	e := &encoder{}
	e.count(len(s.Frames), frameSize)
	frames := s.Frames[min(1, len(s.Frames)):] // frame 0 is the zero frame
	putStrings(e, frames, func(f profile.Frame) string { return f.Func })
	putStrings(e, frames, func(f profile.Frame) string { return f.File })
	putStrings(e, frames, func(f profile.Frame) string { return f.Module })
	v := make([]uint64, len(frames))
	// Frames of one function have its first line in common, so lines are told from there.
	for i, f := range frames {
		v[i] = zigzag(int64(f.StartLine))
	}
	e.column(v)
	for i, f := range frames {
		v[i] = zigzag(int64(f.Line) - int64(f.StartLine))
	}
	e.column(v)
	for i, f := range frames {
		v[i] = zigzag(int64(f.Column))
	}
	e.column(v)
	for i, f := range frames {
		v[i] = 0
		if f.Inlined {
			v[i] |= 1
		}
		if f.Entry {
			v[i] |= 2
		}
	}
	e.column(v)

	e.count(len(s.Of), chainSize)
	lengths := make([]uint64, len(s.Of))
	total := 0
	for i, chain := range s.Of {
		lengths[i] = uint64(len(chain))
		total += len(chain)
	}
	e.column(lengths)
	e.count(total, 4+8)
	ids := make([]uint64, 0, total)
	next := profile.FrameID(1)
	for _, chain := range s.Of {
		for _, id := range chain {
			if id == next {
				ids = append(ids, 0)
				next++
			} else {
				ids = append(ids, uint64(id)+1)
				next = max(next, id+1)
			}
		}
	}
	e.column(ids)
	return e.seal(recordSymbols)
}

// decodeSymbols reads what encodeSymbols wrote. Frames and strings share memory with each other,
// none with the record.
func decodeSymbols(record []byte) (profile.Symbols, error) {
	var s profile.Symbols
	d, err := unseal(recordSymbols, record)
	if err != nil {
		return s, err
	}
	n := d.count(frameSize)
	if n > 0 {
		s.Frames = make([]profile.Frame, n)
		n--
	}
	frames := s.Frames[min(1, len(s.Frames)):]
	for i, x := range d.strings(n) {
		frames[i].Func = x
	}
	for i, x := range d.strings(n) {
		frames[i].File = x
	}
	for i, x := range d.strings(n) {
		frames[i].Module = x
	}
	v := make([]uint64, n)
	d.column(v)
	for i, x := range v {
		frames[i].StartLine = int(unzigzag(x))
	}
	d.column(v)
	for i, x := range v {
		frames[i].Line = frames[i].StartLine + int(unzigzag(x))
	}
	d.column(v)
	for i, x := range v {
		frames[i].Column = int(unzigzag(x))
	}
	d.column(v)
	for i, x := range v {
		if x > 3 {
			d.fail("frame %d has flags %#x", i+1, x)
			break
		}
		frames[i].Inlined = x&1 != 0
		frames[i].Entry = x&2 != 0
	}

	n = d.count(chainSize)
	lengths := make([]uint64, n)
	d.column(lengths)
	total := d.count(4 + 8)
	sum := uint64(0)
	for _, l := range lengths {
		if l > uint64(total) {
			sum = l
			break
		}
		sum += l
	}
	if sum != uint64(total) {
		d.fail("chains of %d frames are %d frames long", total, sum)
	}
	ids := make([]uint64, total)
	d.column(ids)
	if d.err != nil {
		return profile.Symbols{}, d.err
	}
	all := make([]profile.FrameID, total)
	next := uint64(1)
	for i, x := range ids {
		id := next
		if x != 0 {
			id = x - 1
		}
		if id == 0 || id >= uint64(len(s.Frames)) {
			d.fail("no frame has number %d", id)
			return profile.Symbols{}, d.err
		}
		next = max(next, id+1)
		all[i] = profile.FrameID(id)
	}
	if n > 0 {
		s.Of = make([][]profile.FrameID, n)
	}
	for i, l := range lengths {
		if l > 0 {
			s.Of[i], all = all[:l:l], all[l:]
		}
	}
	if err := d.done(); err != nil {
		return profile.Symbols{}, err
	}
	return s, nil
}
