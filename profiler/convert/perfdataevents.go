package convert

import (
	"fmt"
	"math/bits"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// perfAttrSize0 is PERF_ATTR_SIZE_VER0: the attribute up to config1. Later kernels appended fields,
// and wrote their own size into the attribute; what lies beyond the known ones has no meaning here.
const perfAttrSize0 = 64

// Bits of perf_event_attr.sample_type, in the order of the kernel's header; the fields of a sample are
// in another order (PERF_RECORD_SAMPLE there).
const (
	perfSampleIP          = 1 << 0
	perfSampleTID         = 1 << 1
	perfSampleTime        = 1 << 2
	perfSampleAddr        = 1 << 3
	perfSampleRead        = 1 << 4
	perfSampleCallchain   = 1 << 5
	perfSampleID          = 1 << 6
	perfSampleCPU         = 1 << 7
	perfSamplePeriod      = 1 << 8
	perfSampleStreamID    = 1 << 9
	perfSampleRaw         = 1 << 10
	perfSampleBranchStack = 1 << 11
	perfSampleRegsUser    = 1 << 12
	perfSampleStackUser   = 1 << 13
	perfSampleIdentifier  = 1 << 16
)

// Bits of perf_event_attr's flags.
const (
	perfInherit     = 1 << 1
	perfFreq        = 1 << 10
	perfSampleIDAll = 1 << 18
)

// Bits of read_format.
const (
	perfReadTimeEnabled = 1 << 0
	perfReadTimeRunning = 1 << 1
	perfReadID          = 1 << 2
	perfReadGroup       = 1 << 3
	perfReadLost        = 1 << 4
)

// Bits of branch_sample_type.
const (
	perfBranchCallStack = 1 << 11
	perfBranchHWIndex   = 1 << 17
	perfBranchCounters  = 1 << 19
)

// Types of events (enum perf_type_id) and two of their configs.
const (
	perfHardware    = 0
	perfSoftware    = 1
	perfTracepoint  = 2
	perfHardwareBus = 32 // hybrid processors: the PMU of an event of type perfHardware is config >> 32

	perfCycles    = 0
	perfCPUClock  = 0
	perfTaskClock = 1
	perfDummy     = 9
)

var perfHardwareNames = []string{"cycles", "instructions", "cache-references", "cache-misses", "branches",
	"branch-misses", "bus-cycles", "stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"}

var perfSoftwareNames = []string{"cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations",
	"minor-faults", "major-faults", "alignment-faults", "emulation-faults", "dummy", "bpf-output", "cgroup-switches"}

// A perfAttr is what matters of a struct perf_event_attr.
type perfAttr struct {
	kind, config       uint64 // type; config
	period             uint64 // or a frequency in Hz, where flags has perfFreq
	sampleType         uint64
	readFormat         uint64
	flags              uint64
	branches, userRegs uint64
	copiesStack, lbrs  bool
	// Where fields are in samples, from the record's beginning, and in other records, from the
	// record's end; 0: nowhere.
	idOffset, timeOffset               int
	idFromEnd, timeFromEnd, tidFromEnd int
}

// A perfEvent is an event that was counted, with the samples of it.
type perfEvent struct {
	perfAttr
	track *track
	name  string
}

// perfDescribed is an event of the feature event desc: attributes as in the table, with a name.
type perfDescribed struct {
	attr perfAttr
	name string
}

// parseAttr reads an attribute of any size that is not below perfAttrSize0.
func (o perfOrder) parseAttr(b []byte) perfAttr {
	c := perfCursor{perfOrder: o, b: b}
	var a perfAttr
	a.kind = uint64(c.u32())
	c.u32() // size
	a.config, a.period, a.sampleType, a.readFormat, a.flags = c.u64(), c.u64(), c.u64(), c.u64(), c.u64()
	if o.big {
		a.flags = bits.Reverse64(a.flags) // bit fields begin at the most significant bit there
	}
	c.take(24) // wakeup, breakpoint type and config1, config2
	a.branches, a.userRegs = c.u64(), c.u64()
	a.lbrs = a.sampleType&perfSampleBranchStack != 0 && a.branches&perfBranchCallStack != 0
	a.copiesStack = a.sampleType&perfSampleStackUser != 0

	// Where in samples, which begin with IDENTIFIER, IP, TID, TIME, ADDR, ID.
	at := perfHeaderSize
	field := func(bit uint64) int {
		if a.sampleType&bit == 0 {
			return 0
		}
		at += 8
		return at - 8
	}
	a.idOffset = field(perfSampleIdentifier)
	field(perfSampleIP)
	field(perfSampleTID)
	a.timeOffset = field(perfSampleTime)
	field(perfSampleAddr)
	if id := field(perfSampleID); a.idOffset == 0 {
		a.idOffset = id
	}
	// And in the struct sample_id at the end of all other records: TID, TIME, ID, STREAM_ID, CPU,
	// IDENTIFIER, each of eight bytes.
	if a.flags&perfSampleIDAll != 0 {
		at = 0
		a.idFromEnd = field(perfSampleIdentifier)
		if a.sampleType&perfSampleIdentifier != 0 {
			a.idFromEnd = at
		}
		field(perfSampleCPU)
		field(perfSampleStreamID)
		field(perfSampleID)
		if a.sampleType&perfSampleID != 0 && a.idFromEnd == 0 {
			a.idFromEnd = at
		}
		field(perfSampleTime)
		if a.sampleType&perfSampleTime != 0 {
			a.timeFromEnd = at
		}
		field(perfSampleTID)
		if a.sampleType&perfSampleTID != 0 {
			a.tidFromEnd = at
		}
	}
	return a
}

// addEvent adds the event of an attribute.
func (r *perfReader) addEvent(attr []byte) *perfEvent {
	e := &perfEvent{perfAttr: r.parseAttr(attr), track: &track{b: r.b}}
	r.events = append(r.events, e)
	return e
}

// eventOf is the event that a sample is of; nil where the file does not describe it. Where several
// events are in a file, all samples have their id in one place (perf makes sure of it).
func (r *perfReader) eventOf(rec []byte) *perfEvent {
	if len(r.events) == 0 {
		return nil
	}
	e := r.events[0]
	if len(r.events) == 1 || e.idOffset == 0 {
		return e
	}
	if len(rec) < e.idOffset+8 {
		return e // it will be found damaged
	}
	return r.ids[r.u64(rec[e.idOffset:])]
}

// sampleTime is a sample's time; 0 where it has none.
func (e *perfEvent) sampleTime(o perfOrder, rec []byte) uint64 {
	if e.timeOffset == 0 || len(rec) < e.timeOffset+8 {
		return 0
	}
	return o.u64(rec[e.timeOffset:])
}

// trailerOf is the event by whose sample_type a record that is no sample ends; nil where it has no
// struct sample_id.
func (r *perfReader) trailerOf(rec []byte) *perfEvent {
	if len(r.events) == 0 {
		return nil
	}
	e := r.events[0]
	if len(r.events) > 1 && e.idFromEnd > 0 && len(rec) >= perfHeaderSize+e.idFromEnd {
		if named := r.ids[r.u64(rec[len(rec)-e.idFromEnd:])]; named != nil {
			e = named
		}
	}
	return e
}

// recordTime is the time of a record that is no sample; 0 where it has none, as those have that perf
// made up from /proc when it began.
func (r *perfReader) recordTime(rec []byte) uint64 {
	e := r.trailerOf(rec)
	if e == nil || e.timeFromEnd == 0 || len(rec) < perfHeaderSize+e.timeFromEnd {
		return 0
	}
	return r.u64(rec[len(rec)-e.timeFromEnd:])
}

// recordTID is the thread of a record that is no sample.
func (r *perfReader) recordTID(rec []byte) (uint32, bool) {
	e := r.trailerOf(rec)
	if e == nil || e.tidFromEnd == 0 || len(rec) < perfHeaderSize+e.tidFromEnd {
		return 0, false
	}
	return r.u32(rec[len(rec)-e.tidFromEnd+4:]), true
}

// pmuConfig is the config without the number of a hybrid processor's PMU.
func (a *perfAttr) pmuConfig() uint64 {
	if a.kind == perfHardware {
		return a.config & (1<<perfHardwareBus - 1)
	}
	return a.config
}

func (a *perfAttr) clock() bool {
	return a.kind == perfSoftware && (a.config == perfCPUClock || a.config == perfTaskClock)
}

func (a *perfAttr) cycles() bool { return a.kind == perfHardware && a.pmuConfig() == perfCycles }

func (a *perfAttr) dummy() bool { return a.kind == perfSoftware && a.config == perfDummy }

// plainName is what an event is called where the file does not say it.
func (a *perfAttr) plainName() string {
	switch {
	case a.kind == perfHardware && a.pmuConfig() < uint64(len(perfHardwareNames)):
		return perfHardwareNames[a.pmuConfig()]
	case a.kind == perfSoftware && a.config < uint64(len(perfSoftwareNames)):
		return perfSoftwareNames[a.config]
	case a.kind == perfTracepoint:
		return fmt.Sprintf("tracepoint %d", a.config)
	}
	return fmt.Sprintf("event %d/%#x", a.kind, a.config)
}

// nameEvents finds the events' names: by their ids, else by the order in which they are described.
func (r *perfReader) nameEvents() {
	for id, e := range r.ids {
		if name := r.names[id]; name != "" {
			e.name = name
		}
	}
	for i, e := range r.events {
		if e.name == "" && len(r.described) == len(r.events) {
			if d := r.described[i]; d.attr.kind == e.kind && d.attr.config == e.config {
				e.name = d.name
			}
		}
		if e.name == "" {
			e.name = e.plainName()
		}
	}
}

// nameSeries makes a series of each event. The first clock is the series of kind cpu, or cycles where
// there is no clock; those that a hybrid processor counts with two PMUs are one.
func (r *perfReader) nameSeries() {
	r.nameEvents()
	var cpu *perfEvent
	for _, e := range r.events {
		if e.clock() && (cpu == nil || !cpu.clock()) || e.cycles() && cpu == nil {
			cpu = e
		}
	}
	used := map[profile.Kind]int{}
	for _, e := range r.events {
		t := e.track
		if e.dummy() && len(t.at) == 0 {
			continue // perf adds it to follow mappings
		}
		if e != cpu && cpu != nil && cpu.cycles() && e.cycles() && e.config != cpu.config {
			for _, x := range t.at {
				cpu.track.add(x)
			}
			continue
		}
		t.s.Unit = profile.Number
		switch {
		case e.clock():
			t.s.Unit = profile.Nanoseconds
		case e.cycles():
			t.s.Unit = profile.Cycles
		}
		if e.flags&perfFreq == 0 {
			t.s.Period = int64(min(e.period, maxTotal))
		} else if e.clock() && e.period > 0 {
			t.s.Period = int64(1e9 / e.period)
		}
		kind := profile.Kind(clean(e.name))
		if e == cpu {
			kind = profile.CPU
		}
		if used[kind]++; used[kind] > 1 {
			kind = profile.Kind(fmt.Sprintf("%s #%d", kind, used[kind]))
		}
		t.s.Kind = kind
		r.b.tracks = append(r.b.tracks, t)
	}
}
