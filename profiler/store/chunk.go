package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A chunk is what a capture's tables grew by between two flushes: everything but its symbols. The
// first chunk begins at entry 1 of each table (entry 0 is always zero) and a finished capture has
// one chunk that holds it all, unless it has more than chunkSamples samples of a kind. The marks at
// the head of each make a lost chunk an error instead of a shift of every identifier.

// chunkSamples bounds the memory that encoding takes, not the capture.
const chunkSamples = 4 << 20

// What an element costs in the memory of a reader, with what is needed while decoding.
const (
	sampleSize   = 4 + 4 + 8 + 8 + 8
	stackSize    = 4 + 4 + 4 + 8
	locationSize = 24 + 4*remembered + 4 + 16
	taskSize     = 48
	mappingSize  = 48
	seriesSize   = 160
)

// maxSeries is far above the kinds that exist.
const maxSeries = 64

// marks say how much of each table has been stored.
type marks struct {
	tasks, mappings, locations, stacks int
	samples                            []int // of each series
}

// start is the marks of a capture of which nothing is stored.
func start() marks { return marks{tasks: 1, mappings: 1, locations: 1, stacks: 1} }

// marksOf is where the tables of c end, with at most limit samples of each series more than from.
func marksOf(c *profile.Capture, from marks, limit int) (to marks, all bool) {
	to = marks{
		tasks: len(c.Tasks), mappings: len(c.Mappings),
		locations: len(c.Locations), stacks: c.Stacks.Len(),
	}
	all = true
	for i := range c.Series {
		n, at := c.Series[i].Samples.Len(), 0
		if i < len(from.samples) {
			at = from.samples[i]
		}
		if n-at > limit {
			n, all = at+limit, false
		}
		to.samples = append(to.samples, n)
	}
	return to, all
}

// shrunk says what of c is shorter than what has been stored of it, which the contract of Flush
// excludes.
func (m marks) shrunk(c *profile.Capture) error {
	switch {
	case len(c.Tasks) < m.tasks:
		return fmt.Errorf("%d tasks have become %d", m.tasks, len(c.Tasks))
	case len(c.Mappings) < m.mappings:
		return fmt.Errorf("%d mappings have become %d", m.mappings, len(c.Mappings))
	case len(c.Locations) < m.locations:
		return fmt.Errorf("%d locations have become %d", m.locations, len(c.Locations))
	case c.Stacks.Len() < m.stacks:
		return fmt.Errorf("%d stacks have become %d", m.stacks, c.Stacks.Len())
	case len(c.Series) < len(m.samples):
		return fmt.Errorf("%d series have become %d", len(m.samples), len(c.Series))
	}
	for i, n := range m.samples {
		if c.Series[i].Samples.Len() < n {
			return fmt.Errorf("%d samples of kind %s have become %d", n, c.Series[i].Kind, c.Series[i].Samples.Len())
		}
	}
	return nil
}

// encodeChunk is the record of c's tables from one mark to another. changed are the mappings below
// from.mappings that are not what has been stored. sizes, where not nil, is told how many bytes
// each part took.
func encodeChunk(c *profile.Capture, from, to marks, changed []profile.MappingID, sizes map[string]int) []byte {
	e := &encoder{}
	at := 0
	part := func(name string) {
		if sizes != nil {
			sizes[name] += len(e.b) - at
		}
		at = len(e.b)
	}

	e.uint(uint64(from.tasks))
	e.count(to.tasks-from.tasks, taskSize)
	e.tasks(c.Tasks[from.tasks:to.tasks])
	part("tasks")

	e.uint(uint64(from.mappings))
	e.count(to.mappings-from.mappings, mappingSize)
	for _, m := range c.Mappings[from.mappings:to.mappings] {
		e.mapping(m)
	}
	e.count(len(changed), mappingSize)
	for _, id := range changed {
		e.uint(uint64(id))
		e.mapping(c.Mappings[id])
	}
	part("mappings")

	e.uint(uint64(from.locations))
	e.count(to.locations-from.locations, locationSize)
	e.uint(uint64(from.stacks))
	e.count(to.stacks-from.stacks, stackSize)
	siblings := e.stacks(c.Stacks, from.stacks, to.stacks, from.locations, to.locations)
	part("stacks")
	e.locations(c.Locations[:to.locations], from.locations, siblings)
	part("locations")

	fresh := chainsOf(c.Stacks, from.stacks, to.stacks)
	e.uint(uint64(len(from.samples)))
	e.count(len(to.samples), seriesSize)
	for i, end := range to.samples {
		s, begin := &c.Series[i], 0
		if i < len(from.samples) {
			begin = from.samples[i]
		}
		e.string(string(s.Kind))
		e.string(string(s.Unit))
		e.string(string(s.Source))
		e.int(s.Period)
		e.uint(uint64(begin))
		e.count(end-begin, sampleSize)
		part("series")
		e.samples(s.Samples.Slice(begin, end), s.Period, fresh, part)
	}
	return e.seal(recordChunk)
}

func (e *encoder) tasks(tasks []profile.Task) {
	ints := func(of func(profile.Task) int) {
		v := make([]uint64, len(tasks))
		last := 0
		for i, t := range tasks {
			x := of(t)
			v[i] = zigzag(int64(x - last))
			last = x
		}
		e.column(v)
	}
	ints(func(t profile.Task) int { return t.PID })
	ints(func(t profile.Task) int { return t.TID - t.PID })
	ints(func(t profile.Task) int { return t.PID - t.Parent })
	putStrings(e, tasks, func(t profile.Task) string { return t.Comm })
}

func (e *encoder) mapping(m profile.Mapping) {
	e.byte(byte(m.Kind))
	e.string(m.Path)
	e.string(m.BuildID)
	e.bool(m.Deleted)
	e.bool(m.Offsets)
}

// callees remembers which locations followed on a location in the stacks before: the latest first.
// A stack's next location is mostly one of those, since a call instruction mostly calls one
// function, and that has few places that are hot.
type callees [remembered]profile.LocationID

const (
	remembered = 16
	// The symbols of a stack's location: below remembered its place in the callees of its parent's
	// location; or
	leafNew   = remembered     // the one after the largest there was
	leafOther = remembered + 1 // one that is named in a column of its own
)

// touch moves entry i to the front, or puts l there.
func (c *callees) touch(i int, l profile.LocationID) {
	copy(c[1:], c[:min(i, remembered-1)])
	c[0] = l
}

// siblings are, for each new location of a chunk, one that was called from where it was called when
// it was met first: it probably lies in the same function. 0 if there is none.
type siblings struct {
	base int // first new location
	of   []profile.LocationID
}

func newSiblings(from, to int) siblings {
	return siblings{from, make([]profile.LocationID, to-from)}
}

// meet is called when l is met first, and the location met before it in the same place was near.
func (s siblings) meet(l, near profile.LocationID) {
	if i := int(l) - s.base; i >= 0 && i < len(s.of) {
		s.of[i] = near
	}
}

// guess is the sibling's address, if that comes before location l and is in mapping m.
func (s siblings) guess(locations []profile.Location, l int, m profile.MappingID) (addr uint64, ok bool) {
	near := int(s.of[l-s.base])
	if near == 0 || near >= l || locations[near].Mapping != m {
		return 0, false
	}
	return locations[near].Addr, true
}

// stacks: a new stack's nodes follow each other, so a parent is mostly the node before (0).
func (e *encoder) stacks(s *profile.Stacks[profile.LocationID], from, to, fromLocation, locations int) siblings {
	near := newSiblings(fromLocation, locations)
	if from == to {
		return near
	}
	parents, leaves := s.Columns()
	p := make([]uint64, to-from)
	symbols := make([]uint64, to-from)
	var others []uint64
	after := make([]callees, locations)
	next := nextLocation(leaves[:from])
	for i := range p {
		id := from + i
		leaf := leaves[id]
		p[i] = uint64(id) - 1 - uint64(parents[id])
		c := &after[leaves[parents[id]]]
		at := slices.Index(c[:], leaf)
		switch {
		case at >= 0:
			symbols[i] = uint64(at)
		case leaf == next:
			symbols[i], at = leafNew, remembered
			near.meet(leaf, c[0])
		default:
			symbols[i], at = leafOther, remembered
			others = append(others, uint64(leaf))
		}
		next = max(next, leaf+1)
		c.touch(at, leaf)
	}
	e.column(p)
	e.column(symbols)
	e.uint(uint64(len(others)))
	e.column(others)
	return near
}

// rootBit marks Location.Root in the column of mappings.
const rootBit = 1 << 33

// locations: an address is told by its distance from the sibling's, or else from the one before in
// the same mapping.
func (e *encoder) locations(locations []profile.Location, from int, near siblings) {
	mapping := make([]uint64, len(locations)-from)
	addr := make([]uint64, len(locations)-from)
	last := make(map[profile.MappingID]uint64)
	for i := range mapping {
		l := locations[from+i]
		mapping[i] = uint64(l.Mapping) << 1
		if l.Return {
			mapping[i] |= 1
		}
		if l.Root { // above the mapping, which has 32 bits: few locations have it
			mapping[i] |= rootBit
		}
		guess := last[l.Mapping]
		if addr, ok := near.guess(locations, from+i, l.Mapping); ok {
			guess = addr
		}
		addr[i] = zigzag(int64(l.Addr - guess))
		last[l.Mapping] = l.Addr
	}
	e.column(mapping)
	e.column(addr)
}

// nextLocation is one above the largest location that leaves name.
func nextLocation(leaves []profile.LocationID) profile.LocationID {
	if len(leaves) == 0 {
		return 1
	}
	return slices.Max(leaves) + 1
}

// chains guesses the stack of a sample that is the first to have it. Its nodes were made for it, each
// the parent of the next, so it is where that chain ends which begins after the largest stack there
// was.
type chains struct {
	base profile.StackID   // first stack of the chunk
	ends []profile.StackID // of each stack from base: where its chain ends
}

func chainsOf(s *profile.Stacks[profile.LocationID], from, to int) chains {
	parents, _ := s.Columns()
	c := chains{base: profile.StackID(from), ends: make([]profile.StackID, to-from)}
	for i := len(c.ends) - 1; i >= 0; i-- {
		id := from + i
		c.ends[i] = profile.StackID(id)
		if i+1 < len(c.ends) && int(parents[id+1]) == id {
			c.ends[i] = c.ends[i+1]
		}
	}
	return c
}

// after is the guess where largest is the largest stack there was; 0 if there is no further one.
func (c chains) after(largest profile.StackID) profile.StackID {
	if i := int(largest) + 1 - int(c.base); i < len(c.ends) {
		return c.ends[i]
	}
	return 0
}

// samples: a stack is 0 where fresh guesses it, or else one more than its number.
func (e *encoder) samples(s profile.Samples, period int64, fresh chains, part func(string)) {
	n := s.Len()
	v := make([]uint64, n)
	for i, t := range s.Task {
		v[i] = uint64(t)
	}
	e.ids(v)
	part("sample.task")
	largest := fresh.base - 1
	first := fresh.after(largest)
	for i, id := range s.Stack {
		v[i] = uint64(id) + 1
		if id == first {
			v[i] = 0
		}
		if id > largest {
			largest = id
			first = fresh.after(largest)
		}
	}
	e.ids(v)
	part("sample.stack")
	for i, w := range s.Weight {
		v[i] = zigzag(w)
	}
	e.column(v)
	part("sample.weight")
	e.bool(s.Count != nil)
	if s.Count != nil {
		for i, x := range s.Count {
			v[i] = zigzag(x)
		}
		e.column(v)
	}
	part("sample.count")
	e.times(s.Time, period)
	part("sample.time")
}

// decodeChunk appends what a chunk holds to c. at are the marks of what c has so far, and are moved.
func decodeChunk(c *profile.Capture, at *marks, record []byte) error {
	return decodeChunkAs(c, at, record, false)
}

// decodeChunkAs decodes the present encoding, or the first one of version 1 (migrate.go).
func decodeChunkAs(c *profile.Capture, at *marks, record []byte, first bool) error {
	d, err := unseal(recordChunk, record)
	if err != nil {
		return err
	}
	d.begins("tasks", at.tasks)
	n := d.count(taskSize)
	c.Tasks = d.tasks(c.Tasks, n)
	at.tasks += n

	d.begins("mappings", at.mappings)
	n = d.count(mappingSize)
	for range n {
		c.Mappings = append(c.Mappings, d.mapping())
	}
	at.mappings += n
	for range d.count(mappingSize) {
		id := d.uint32()
		m := d.mapping()
		if d.err != nil {
			return d.err
		}
		if id == 0 || int(id) >= len(c.Mappings) {
			return fmt.Errorf("%w: mapping %d of %d has changed", errRecord, id, len(c.Mappings))
		}
		c.Mappings[id] = m
	}

	d.begins("locations", at.locations)
	n = d.count(locationSize)
	d.begins("stacks", at.stacks)
	stacks := d.count(stackSize)
	var scratch []uint64
	var near siblings
	c.Stacks, near = d.stacks(c.Stacks, stacks, at.locations, at.locations+n, &scratch)
	if d.err != nil {
		return d.err
	}
	fresh := chainsOf(c.Stacks, at.stacks, at.stacks+stacks)
	at.stacks += stacks
	c.Locations = d.locations(c.Locations, n, near, &scratch)
	at.locations += n

	d.begins("series", len(at.samples))
	n = d.count(seriesSize)
	if n < len(at.samples) || n > maxSeries {
		d.fail("%d series follow on %d", n, len(at.samples))
	}
	for i := 0; i < n && d.err == nil; i++ {
		kind, unit, source := profile.Kind(d.string()), profile.Unit(d.string()), profile.Unit("")
		if !first {
			source = profile.Unit(d.string())
		}
		period := d.int()
		if i == len(at.samples) {
			at.samples = append(at.samples, 0)
			c.Series = append(c.Series, profile.Series{Kind: kind, Unit: unit, Source: source, Period: period})
		}
		s := &c.Series[i]
		if s.Kind != kind || s.Unit != unit {
			d.fail("series %d has become %s in %s from %s in %s", i, kind, unit, s.Kind, s.Unit)
		}
		s.Period = period
		d.begins("samples", at.samples[i])
		samples := d.count(sampleSize)
		d.samples(&s.Samples, samples, fresh, &scratch)
		at.samples[i] += samples
	}
	return d.done()
}

// begins verifies that what follows begins where the last chunk ended.
func (d *decoder) begins(table string, at int) {
	if from := d.uint(); d.err == nil && from != uint64(at) {
		d.fail("%s begin at %d and the chunk before ended at %d", table, from, at)
	}
}

func (d *decoder) tasks(tasks []profile.Task, n int) []profile.Task {
	if d.err != nil || n == 0 {
		return tasks
	}
	had := len(tasks)
	tasks = append(tasks, make([]profile.Task, n)...)
	v := make([]uint64, n)
	ints := func(set func(t *profile.Task, x int)) {
		d.column(v)
		last := int64(0)
		for i := range v {
			last += unzigzag(v[i])
			set(&tasks[had+i], int(last))
		}
	}
	ints(func(t *profile.Task, x int) { t.PID = x })
	ints(func(t *profile.Task, x int) { t.TID = t.PID + x })
	ints(func(t *profile.Task, x int) { t.Parent = t.PID - x })
	for i, s := range d.strings(n) {
		tasks[had+i].Comm = s
	}
	return tasks
}

func (d *decoder) mapping() profile.Mapping {
	m := profile.Mapping{
		Kind: profile.MappingKind(d.byte()), Path: d.string(), BuildID: d.string(),
		Deleted: d.bool(), Offsets: d.bool(),
	}
	if m.Kind > profile.Anonymous {
		d.fail("no mapping has kind %d", m.Kind)
	}
	return m
}

func (d *decoder) locations(locations []profile.Location, n int, near siblings, scratch *[]uint64) []profile.Location {
	if d.err != nil || n == 0 {
		return locations
	}
	*scratch = grow(*scratch, 2*n)
	mapping, addr := (*scratch)[:n], (*scratch)[n:2*n]
	d.column(mapping)
	d.column(addr)
	if d.err != nil {
		return locations
	}
	locations = slices.Grow(locations, n)
	last := make(map[profile.MappingID]uint64)
	for i := range n {
		if mapping[i]&^rootBit>>1 > 1<<32-1 {
			d.fail("location %d has mapping %d", i, mapping[i]>>1)
			return locations
		}
		m := profile.MappingID(mapping[i] >> 1)
		guess := last[m]
		if addr, ok := near.guess(locations, len(locations), m); ok {
			guess = addr
		}
		a := guess + uint64(unzigzag(addr[i]))
		last[m] = a
		locations = append(locations, profile.Location{Mapping: m, Addr: a, Return: mapping[i]&1 == 1, Root: mapping[i]&rootBit != 0})
	}
	return locations
}

func (d *decoder) stacks(s *profile.Stacks[profile.LocationID], n, fromLocation, locations int, scratch *[]uint64) (*profile.Stacks[profile.LocationID], siblings) {
	near := newSiblings(fromLocation, locations)
	if d.err != nil || n == 0 {
		return s, near
	}
	*scratch = grow(*scratch, 2*n)
	p, symbols := (*scratch)[:n], (*scratch)[n:2*n]
	d.column(p)
	d.column(symbols)
	others := d.uint()
	if others > uint64(n) {
		d.fail("%d of %d stacks have other locations", others, n)
	}
	if d.err != nil {
		return s, near
	}
	other := make([]uint64, others)
	d.column(other)
	if d.err != nil {
		return s, near
	}
	parents, leaves := s.Columns()
	parents, leaves = slices.Grow(parents, n), slices.Grow(leaves, n)
	after := make([]callees, locations)
	next := uint64(nextLocation(leaves))
	for i := range n {
		id := uint64(len(parents))
		if p[i] >= id {
			d.fail("stack %d has no parent", id)
			return s, near
		}
		parent := id - 1 - p[i]
		c := &after[leaves[parent]]
		at, leaf := remembered, uint64(0)
		switch x := symbols[i]; {
		case x < remembered:
			at = int(x)
			leaf = uint64(c[at])
		case x == leafNew:
			leaf = next
			near.meet(profile.LocationID(leaf), c[0])
		case x == leafOther && len(other) > 0:
			leaf, other = other[0], other[1:]
		}
		if leaf == 0 || leaf >= uint64(locations) {
			d.fail("stack %d has location %d of %d", id, leaf, locations)
			return s, near
		}
		next = max(next, leaf+1)
		c.touch(at, profile.LocationID(leaf))
		parents = append(parents, profile.StackID(parent))
		leaves = append(leaves, profile.LocationID(leaf))
	}
	if len(other) > 0 {
		d.fail("%d locations belong to no stack", len(other))
	}
	return profile.StacksOf(parents, leaves), near
}

func (d *decoder) samples(s *profile.Samples, n int, fresh chains, scratch *[]uint64) {
	if d.err != nil {
		return
	}
	had := s.Len()
	*scratch = grow(*scratch, n)
	v := *scratch
	d.column(v)
	s.Task = slices.Grow(s.Task, n)
	for _, x := range v {
		if x > 1<<32-1 {
			d.fail("no task has number %d", x)
			return
		}
		s.Task = append(s.Task, profile.TaskID(x))
	}
	d.column(v)
	s.Stack = slices.Grow(s.Stack, n)
	largest := fresh.base - 1
	first := fresh.after(largest)
	for _, x := range v {
		if x > 1<<32-1 {
			d.fail("no stack has number %d", x)
			return
		}
		id := first
		if x != 0 {
			id = profile.StackID(x - 1)
		}
		if id > largest {
			largest = id
			first = fresh.after(largest)
		}
		s.Stack = append(s.Stack, id)
	}
	d.column(v)
	s.Weight = slices.Grow(s.Weight, n)
	for _, x := range v {
		s.Weight = append(s.Weight, unzigzag(x))
	}
	if counted := d.bool(); counted || s.Count != nil {
		for len(s.Count) < had {
			s.Count = append(s.Count, 1)
		}
		if counted {
			d.column(v)
		}
		s.Count = slices.Grow(s.Count, n)
		for _, x := range v {
			if !counted {
				x = zigzag(1)
			}
			s.Count = append(s.Count, unzigzag(x))
		}
	}
	s.Time = append(s.Time, make([]time.Duration, n)...)
	d.times(s.Time[had:], scratch)
}
