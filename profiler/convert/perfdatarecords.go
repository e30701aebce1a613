package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Types of records: below 64 the kernel's (enum perf_event_type), from there on those of perf
// (enum perf_user_event_type in tools/lib/perf/include/perf/event.h).
const (
	perfMmap            = 1
	perfLost            = 2
	perfComm            = 3
	perfExit            = 4
	perfThrottle        = 5
	perfUnthrottle      = 6
	perfFork            = 7
	perfRead            = 8
	perfSampleRecord    = 9
	perfMmap2           = 10
	perfAux             = 11
	perfItraceStart     = 12
	perfLostSamples     = 13
	perfSwitch          = 14
	perfSwitchCPUWide   = 15
	perfNamespaces      = 16
	perfKsymbol         = 17
	perfBPFEvent        = 18
	perfCgroup          = 19
	perfTextPoke        = 20
	perfAuxOutputHWID   = 21
	perfDeferred        = 22
	perfHeaderAttr      = 64
	perfHeaderTracing   = 66
	perfHeaderBuildID   = 67
	perfFinishedRound   = 68
	perfAuxtrace        = 71
	perfEventUpdate     = 78
	perfHeaderFeature   = 80
	perfCompressed      = 81
	perfCompressed2     = 83
	perfLastKernelType  = perfDeferred
	perfHeaderSize      = 8
	perfFirstChunk      = 8 << 10
	perfChunk           = 256 << 10
	perfExpandRatio     = 256
	perfExpandSlack     = 16 << 20
	maxPerfCounted      = 128
	perfMiscModeMask    = 7 // PERF_RECORD_MISC_CPUMODE_MASK
	perfMiscExec        = 1 << 13
	perfMiscMmapBuildID = 1 << 14
)

// A perfReader reads one perf.data.
type perfReader struct {
	perfOrder
	ctx context.Context
	in  *input
	b   *builder
	// early says that a note tells of the file's end already.
	early bool

	events    []*perfEvent
	ids       map[uint64]*perfEvent
	names     map[uint64]string // of events, by their ids
	described []perfDescribed
	buildIDs  map[string]string // by path
	system    perfSystem
	counts    [maxPerfCounted]int64 // records by type
	copied    int64                 // samples with a copy of the stack in place of callers

	release, arch string
	cpus          uint32
	cmdline       []string
	wall, clock   int64 // one instant on the wall's clock and on that of the samples; 0 where not known

	// The records that wait to be put in order. Those up to flushed, the latest time before the last
	// but one FINISHED_ROUND, come before all that are yet to be read.
	waiting       []perfWaiting
	latest, limit uint64

	sample   perfSample
	deferred map[uint32][]perfDeferredSample // by thread
	reads    map[perfReadKey]uint64
}

type perfWaiting struct {
	time uint64
	rec  []byte
}

// A perfSource gives records one after the other. Between two calls of next, a record's bytes do not
// change, nor afterwards.
type perfSource struct {
	perfOrder
	ctx context.Context
	r   io.Reader
	buf []byte // read and not given yet
	at  int64  // offset of buf in the file
	eof bool

	chunk int // how much was read at once: more each time
}

var (
	errPerfCut     = errors.New("cut")
	errPerfDamaged = errors.New("damaged")
)

// fill makes buf have n bytes: errPerfCut where the file ends before.
func (s *perfSource) fill(n int) error {
	if len(s.buf) >= n {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	// A new chunk each time: records that wait still point into the old one.
	s.chunk = min(max(2*s.chunk, perfFirstChunk), perfChunk)
	chunk := make([]byte, max(s.chunk, n))
	have := copy(chunk, s.buf)
	for have < len(chunk) && !s.eof {
		m, err := s.r.Read(chunk[have:])
		have += m
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			s.eof = true
		case err != nil:
			return err
		}
	}
	s.buf = chunk[:have]
	if have < n {
		return errPerfCut
	}
	return nil
}

// next is the next record with its header. io.EOF: there is none.
func (s *perfSource) next() ([]byte, error) {
	if err := s.fill(perfHeaderSize); err != nil {
		if err == errPerfCut && len(s.buf) == 0 {
			err = io.EOF
		}
		return nil, err
	}
	size := int(s.u16(s.buf[6:]))
	if size < perfHeaderSize {
		return nil, errPerfDamaged
	}
	if err := s.fill(size); err != nil {
		return nil, err
	}
	rec := s.buf[:size:size]
	s.buf, s.at = s.buf[size:], s.at+int64(size)
	return rec, nil
}

// skip passes over n bytes.
func (s *perfSource) skip(n uint64) error {
	for n > 0 {
		if len(s.buf) == 0 {
			if err := s.fill(1); err != nil {
				return err
			}
		}
		m := min(n, uint64(len(s.buf)))
		s.buf, s.at, n = s.buf[m:], s.at+int64(m), n-m
	}
	return nil
}

// perfUnpacker decompresses the payloads of COMPRESSED records, which together are one stream of
// zstd (tools/perf/util/zstd.c). A record ends where the compressor flushed or its output was full: in
// the midst of a block. Then the payload of the next one is fetched, and what stands between the two is
// kept for later.
type perfUnpacker struct {
	source  *perfSource
	payload []byte
	between [][]byte // records that were met while fetching
	z       *zstd.Decoder
	in, out int64
	buf     []byte // decompressed: the beginning of a record, with room behind it
}

func (u *perfUnpacker) Read(p []byte) (int, error) {
	for len(u.payload) == 0 {
		rec, err := u.source.next()
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		if payload, ok := u.source.payload(rec); ok {
			u.take(payload)
			continue
		}
		if t := u.source.u32(rec); t == perfAuxtrace || t == perfHeaderTracing {
			if err := u.source.skipData(t, rec); err != nil {
				return 0, io.ErrUnexpectedEOF
			}
		}
		u.between = append(u.between, rec)
	}
	n := copy(p, u.payload)
	u.payload = u.payload[n:]
	return n, nil
}

func (u *perfUnpacker) take(payload []byte) {
	u.payload = payload
	u.in += int64(len(payload))
}

// payload is the compressed content of a record, with false where it is of another type.
func (s *perfSource) payload(rec []byte) ([]byte, bool) {
	switch s.u32(rec) {
	case perfCompressed:
		return rec[perfHeaderSize:], true
	case perfCompressed2: // the size without padding comes first
		if len(rec) < perfHeaderSize+8 {
			return nil, true
		}
		data := rec[perfHeaderSize+8:]
		return data[:min(s.u64(rec[perfHeaderSize:]), uint64(len(data)))], true
	}
	return nil, false
}

// skipData passes over what follows some records and is not part of their size.
func (s *perfSource) skipData(t uint32, rec []byte) error {
	switch {
	case t == perfAuxtrace && len(rec) >= perfHeaderSize+8:
		return s.skip(s.u64(rec[perfHeaderSize:]))
	case t == perfHeaderTracing && len(rec) >= perfHeaderSize+4:
		return s.skip(uint64(s.u32(rec[perfHeaderSize:])))
	}
	return nil
}

// records reads all records of a file and handles them in order of time.
func (r *perfReader) records(from io.Reader, at int64) error {
	s := &perfSource{perfOrder: r.perfOrder, ctx: r.ctx, r: from, at: at}
	var err error
	var u *perfUnpacker
	defer func() {
		if u != nil && u.z != nil {
			u.z.Close()
		}
	}()
	for err == nil {
		var rec []byte
		if rec, err = s.next(); err != nil {
			break
		}
		payload, packed := s.payload(rec)
		if !packed {
			if err = s.skipData(r.u32(rec), rec); err == nil || err == errPerfCut {
				r.record(rec)
			}
		} else {
			if u == nil {
				u = &perfUnpacker{source: s}
			}
			err = r.unpack(u, payload)
		}
		if r.b.err != nil {
			return r.b.err
		}
	}
	switch {
	case err == errPerfCut:
		r.endsEarly()
	case err == errPerfDamaged:
		r.b.c.Warn(profile.WarnLost, 0, fmt.Sprintf("The record at byte %d is damaged; what comes before is here.", s.at))
	case err != io.EOF:
		return err
	}
	r.flush(math.MaxUint64)
	return r.b.err
}

// unpack handles the records of a COMPRESSED record's payload, but for the beginning of one that the
// next payload completes.
func (r *perfReader) unpack(u *perfUnpacker, payload []byte) error {
	u.take(payload)
	if u.z == nil && len(payload) > 0 {
		z, err := zstd.NewReader(u, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return errPerfDamaged
		}
		u.z = z
	}
	for len(u.payload) > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		// One Read into more room than a block can need gives one block, and asks for no byte behind it.
		const block = 128<<10 + 1
		if cap(u.buf)-len(u.buf) < block {
			u.buf = append(make([]byte, 0, len(u.buf)+4*block), u.buf...)
		}
		n, err := u.z.Read(u.buf[len(u.buf):cap(u.buf)])
		u.buf = u.buf[:len(u.buf)+n]
		u.out += int64(n)
		r.in.n += int64(n)
		if u.out > perfExpandSlack+perfExpandRatio*u.in {
			return errors.New("its compressed records unpack to more than any profile does; it is damaged")
		}
		for len(u.buf) >= perfHeaderSize {
			size := int(r.u16(u.buf[6:]))
			if size < perfHeaderSize {
				return errPerfDamaged
			}
			if size > len(u.buf) {
				break
			}
			r.record(u.buf[:size:size])
			u.buf = u.buf[size:]
		}
		for _, rec := range u.between {
			r.record(rec)
		}
		u.between = nil
		switch {
		case r.b.err != nil:
			return r.b.err
		case err == io.ErrUnexpectedEOF:
			return errPerfCut
		case err != nil:
			return errPerfDamaged
		}
	}
	return nil
}

// record handles what needs no order and lets all else wait.
func (r *perfReader) record(rec []byte) {
	t := r.u32(rec)
	if t < maxPerfCounted {
		r.counts[t]++
	}
	body := rec[perfHeaderSize:]
	switch t {
	case perfSampleRecord:
		if e := r.eventOf(rec); e != nil {
			r.wait(e.sampleTime(r.perfOrder, rec), rec)
		} else {
			r.b.skip(1, "Samples of events that the file does not describe were left out.")
		}
	case perfMmap, perfMmap2, perfComm, perfFork, perfExit, perfKsymbol, perfDeferred:
		r.wait(r.recordTime(rec), rec)
	case perfLost:
		if len(body) >= 16 {
			r.lose(r.u64(body[8:]))
		}
	case perfLostSamples:
		if len(body) >= 8 {
			r.lose(r.u64(body))
		}
	case perfThrottle:
		r.b.skip(1, "The kernel paused sampling because it took too much time; a lower frequency avoids that.")
	case perfAuxtrace:
		r.b.c.Warn(profile.WarnUnreadable, 1, "Hardware traces (AUX areas) were left out; `perf script --itrace` makes samples of them.")
	case perfFinishedRound:
		// tools/perf/util/ordered-events.c: nothing of a round is earlier than what came before the
		// round before it.
		r.flush(r.limit)
		r.limit = r.latest
	case perfHeaderAttr:
		r.attribute(body)
	case perfHeaderBuildID:
		r.buildID(rec)
	case perfHeaderFeature:
		if len(body) >= 8 {
			if bit := r.u64(body); bit < perfFeatures {
				r.readFeature(int(bit), body[8:])
			}
		}
	case perfEventUpdate:
		const name = 2 // PERF_EVENT_UPDATE__NAME
		if len(body) >= 16 && r.u64(body) == name {
			r.names[r.u64(body[8:])] = cString(body[16:])
		}
	}
}

func (r *perfReader) lose(n uint64) {
	r.b.skip(int64(min(n, 1<<48)), "The kernel dropped records because perf did not read them fast enough; a lower frequency or larger buffers (perf record -m) avoid that.")
}

// attribute reads a HEADER_ATTR record: an attribute, and the ids behind it.
func (r *perfReader) attribute(body []byte) {
	if len(body) < perfAttrSize0 {
		return
	}
	size := int(r.u32(body[4:]))
	if size == 0 {
		size = perfAttrSize0
	}
	if size < perfAttrSize0 || size > len(body) {
		return
	}
	e := r.addEvent(body[:size])
	for ids := body[size:]; len(ids) >= 8; ids = ids[8:] {
		r.ids[r.u64(ids)] = e
	}
}

// wait keeps a record until all that are earlier have been read.
func (r *perfReader) wait(time uint64, rec []byte) {
	if time == math.MaxUint64 {
		time = 0 // what perf writes where it has none
	}
	r.latest = max(r.latest, time)
	r.waiting = append(r.waiting, perfWaiting{time, rec})
}

// flush handles the waiting records up to a time, earliest first, those of one time as they were read.
//
// Each record is sorted at most three times, as what waits at a FINISHED_ROUND goes with the one after
// the next at the latest.
func (r *perfReader) flush(limit uint64) {
	if len(r.waiting) == 0 {
		return
	}
	slices.SortStableFunc(r.waiting, func(a, b perfWaiting) int { return cmp.Compare(a.time, b.time) })
	n := 0
	for ; n < len(r.waiting) && r.waiting[n].time <= limit && r.b.err == nil; n++ {
		r.handle(r.waiting[n].rec)
	}
	left := copy(r.waiting, r.waiting[n:])
	clear(r.waiting[left:])
	r.waiting = r.waiting[:left]
}

// handle applies a record at its time.
func (r *perfReader) handle(rec []byte) {
	switch r.u32(rec) {
	case perfSampleRecord:
		r.addSample(rec)
	case perfMmap, perfMmap2:
		r.mmap(rec)
	case perfComm:
		r.comm(rec)
	case perfFork:
		r.fork(rec)
	case perfKsymbol:
		r.ksymbol(rec)
	case perfDeferred:
		r.completeDeferred(rec)
	}
}
