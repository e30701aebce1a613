package store

import (
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Meta is what a list of captures shows, without their samples.
type Meta struct {
	ID      ID
	Target  profile.Target
	Engine  string // as in profile.Capture
	Machine string
	Start   time.Time // when recording began; not when it was stored, which is ID.Time
	Length  time.Duration
	Kinds   []KindMeta // one for each series, in the capture's order
	// Files are the sources that the capture's frames name, ordered by Path. They are known when
	// the capture has been finished.
	Files    []FileMeta
	Warnings []profile.Warning
	Pinned   bool   // not removed to make room
	Note     string // a person's words
	// Interrupted says that the recorder has not come to its end: it died, or records still.
	Interrupted bool
	// Imported is as in profile.Capture.
	Imported bool
	// Recording says that it records still. It is found out when the Meta is read, and is never set
	// without Interrupted.
	Recording bool
	// Stacks and Locations count what the samples are made of.
	Stacks, Locations int
	// Bytes is what the capture takes in the file, but for the source texts, which captures share.
	Bytes int64
	// Snapshot is what the file beside it takes, of a heap; 0 where there is none. See SnapshotFile.
	Snapshot int64

	// Pruned are the captures that Finish or Put removed to make room for this one; nil in a Meta
	// that was read.
	Pruned []ID

	// What the store keeps for itself.
	writer  process   // who records; zero when finished
	flushed time.Time // when it last wrote
	sources []uint64  // keys of bucket sources, in the order of Files
}

// A KindMeta is the sum of one series.
type KindMeta struct {
	Kind    profile.Kind
	Unit    profile.Unit
	Period  int64 // nominal weight of one sample; 0 where there is none
	Samples int   // how many are stored
	Count   int64 // events they stand for
	Weight  int64 // their weight, in Unit
}

// A FileMeta is a source without its text, as in profile.Source.
type FileMeta struct {
	Path  string
	Local string
}

// heartbeat bounds how long a writer stays silent, and silence is how long a writer that this
// process cannot see (another PID namespace, another machine) may be silent and still counts as
// alive.
const (
	heartbeat = 10 * time.Second
	silence   = time.Minute
)

// recording finds out whether m's writer still records.
func (m *Meta) recording(now time.Time) bool {
	if !m.Interrupted || m.writer.pid == 0 {
		return false
	}
	alive, known := m.writer.alive()
	if known {
		return alive
	}
	age := now.Sub(m.flushed)
	return age < silence && age > -silence
}

// metaOf is c's Meta, but for ID, Files, Bytes and what people and the writer add.
func metaOf(c *profile.Capture) Meta {
	m := Meta{
		Target: c.Target, Engine: c.Engine, Machine: c.Machine, Start: c.Start, Length: c.Length,
		Warnings: c.Warnings, Interrupted: c.Interrupted, Imported: c.Imported,
		Stacks: c.Stacks.Len() - 1, Locations: len(c.Locations) - 1,
	}
	for i := range c.Series {
		s := &c.Series[i]
		sum := s.Samples.Sum()
		m.Kinds = append(m.Kinds, KindMeta{s.Kind, s.Unit, s.Period, s.Samples.Len(), sum.Count, sum.Weight})
	}
	return m
}

// capture is a capture without tables that has what m knows of it.
func (m *Meta) capture() *profile.Capture {
	c := profile.NewCapture(m.Target, m.Start)
	c.Engine, c.Machine, c.Length = m.Engine, m.Machine, m.Length
	c.Warnings, c.Interrupted, c.Imported = m.Warnings, m.Interrupted, m.Imported
	return c
}

// encode is the record of bucket meta. The id is its key.
func (m *Meta) encode() []byte {
	e := &encoder{}
	t := &m.Target
	e.count(len(t.Command), 16)
	for _, w := range t.Command {
		e.string(w)
	}
	e.string(t.Dir)
	e.int(int64(t.PID))
	e.bool(t.Machine)
	e.string(t.Package)
	e.string(t.Run)
	e.string(t.Bench)
	e.string(m.Engine)
	e.string(m.Machine)
	e.time(m.Start)
	e.int(int64(m.Length))
	e.count(len(m.Kinds), 88)
	for _, k := range m.Kinds {
		e.string(string(k.Kind))
		e.string(string(k.Unit))
		e.int(k.Period)
		e.uint(uint64(k.Samples))
		e.int(k.Count)
		e.int(k.Weight)
	}
	e.count(len(m.Warnings), 40)
	for _, w := range m.Warnings {
		e.string(string(w.Kind))
		e.string(w.Text)
		e.int(w.Count)
	}
	e.bool(m.Pinned)
	e.string(m.Note)
	e.bool(m.Interrupted)
	e.bool(m.Imported)
	e.uint(uint64(m.Stacks))
	e.uint(uint64(m.Locations))
	e.int(m.Bytes)
	e.uint(uint64(m.writer.pid))
	e.uint(m.writer.started)
	e.string(m.writer.boot)
	e.string(m.writer.namespace)
	e.time(m.flushed)
	// Captures of one program name nearly the same sources, stored one after the other.
	e.count(len(m.sources), 8+32)
	last := uint64(0)
	for _, n := range m.sources {
		e.int(int64(n - last))
		last = n
	}
	return e.seal(recordMeta)
}

func decodeMeta(id ID, record []byte) (Meta, error) { return decodeMetaAs(id, record, false) }

// decodeMetaAs decodes the present encoding, or the first one of version 1 (migrate.go).
func decodeMetaAs(id ID, record []byte, first bool) (Meta, error) {
	m := Meta{ID: id}
	d, err := unseal(recordMeta, record)
	if err != nil {
		return m, err
	}
	t := &m.Target
	if n := d.count(16); n > 0 {
		t.Command = make([]string, n)
		for i := range t.Command {
			t.Command[i] = d.string()
		}
	}
	t.Dir = d.string()
	t.PID = int(d.int())
	t.Machine = d.bool()
	t.Package = d.string()
	t.Run = d.string()
	t.Bench = d.string()
	m.Engine = d.string()
	m.Machine = d.string()
	m.Start = d.time()
	m.Length = time.Duration(d.int())
	for range d.count(88) {
		m.Kinds = append(m.Kinds, KindMeta{
			profile.Kind(d.string()), profile.Unit(d.string()), d.int(), int(d.uint()), d.int(), d.int(),
		})
	}
	for range d.count(40) {
		m.Warnings = append(m.Warnings, profile.Warning{
			Kind: profile.WarningKind(d.string()), Text: d.string(), Count: d.int(),
		})
	}
	m.Pinned = d.bool()
	m.Note = d.string()
	m.Interrupted = d.bool()
	if !first {
		m.Imported = d.bool()
	}
	m.Stacks = int(d.uint())
	m.Locations = int(d.uint())
	m.Bytes = d.int()
	m.writer.pid = int(d.uint())
	m.writer.started = d.uint()
	m.writer.boot = d.string()
	m.writer.namespace = d.string()
	m.flushed = d.time()
	if n := d.count(8 + 32); n > 0 {
		m.sources = make([]uint64, n)
		last := uint64(0)
		for i := range m.sources {
			last += uint64(d.int())
			m.sources[i] = last
		}
	}
	if err := d.done(); err != nil {
		return Meta{ID: id}, err
	}
	return m, nil
}

// time writes an instant and its distance from UTC; not the name of its zone.
func (e *encoder) time(t time.Time) {
	e.bool(!t.IsZero())
	if t.IsZero() {
		return
	}
	_, offset := t.Zone()
	e.int(t.Unix())
	e.uint(uint64(t.Nanosecond()))
	e.int(int64(offset))
}

// time reads an instant, in local time if the distance from UTC is the same there.
func (d *decoder) time() time.Time {
	if !d.bool() {
		return time.Time{}
	}
	sec, nsec, offset := d.int(), d.uint(), d.int()
	if nsec >= 1e9 || offset < -86400 || offset > 86400 {
		d.fail("an instant is out of range")
		return time.Time{}
	}
	t := time.Unix(sec, int64(nsec))
	if _, here := t.Zone(); here == int(offset) {
		return t
	}
	if offset == 0 {
		return t.UTC()
	}
	return t.In(time.FixedZone("", int(offset)))
}
