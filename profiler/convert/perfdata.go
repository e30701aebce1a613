package convert

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The layout of perf.data is that of tools/perf/Documentation/perf.data-file-format.txt and
// tools/lib/perf/include/perf/event.h of Linux; of the kernel's records, include/uapi/linux/perf_event.h.
// All numbers are in the byte order of the machine that recorded.
const (
	perfMagic1        = "PERFFILE"
	perfMagicLittle   = "PERFILE2"
	perfMagicBig      = "2ELIFREP"
	perfPipeHeader    = 16
	perfFileHeader    = 104 // struct perf_file_header
	maxPerfAttributes = 64 << 20
	maxPerfFeature    = 256 << 20
)

// Bits of perf_file_header.flags, each of a section behind the data (tools/perf/util/header.h).
const (
	perfBuildIDs  = 2
	perfOSRelease = 4
	perfArch      = 6
	perfCPUs      = 7
	perfCmdline   = 11
	perfEventDesc = 12
	perfClockData = 29
	perfFeatures  = 256
)

var perfData = &format{
	Info: Info{
		Format:      PerfData,
		Description: "what perf record writes, to a file or into a pipe",
		Extension:   ".data",
	},
	sniff: sniffPerfData,
	read:  readPerfData,
}

func sniffPerfData(head []byte) bool {
	return bytes.HasPrefix(head, []byte(perfMagicLittle)) || bytes.HasPrefix(head, []byte(perfMagicBig)) ||
		bytes.HasPrefix(head, []byte(perfMagic1))
}

// perfOrder reads numbers in the byte order of a file.
type perfOrder struct{ big bool }

func (o perfOrder) u16(b []byte) uint16 {
	v := uint16(b[0]) | uint16(b[1])<<8
	if o.big {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (o perfOrder) u32(b []byte) uint32 {
	_ = b[3]
	v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	if o.big {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func (o perfOrder) u64(b []byte) uint64 {
	_ = b[7]
	v := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	if o.big {
		v = bits.ReverseBytes64(v)
	}
	return v
}

// perfCursor takes fields from bytes. Taking more than there is gives zeros and sets short.
type perfCursor struct {
	perfOrder
	b     []byte
	short bool
}

func (c *perfCursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.short, c.b = true, nil
		return nil
	}
	t := c.b[:n:n]
	c.b = c.b[n:]
	return t
}

func (c *perfCursor) u32() uint32 {
	if t := c.take(4); t != nil {
		return c.perfOrder.u32(t)
	}
	return 0
}

func (c *perfCursor) u64() uint64 {
	if t := c.take(8); t != nil {
		return c.perfOrder.u64(t)
	}
	return 0
}

// text is a perf_header_string: its length with padding, and as many bytes.
func (c *perfCursor) text() string { return cString(c.take(uint64(c.u32()))) }

// cString is b up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// readPerfData reads what perf record wrote to a file or into a pipe.
func readPerfData(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	return newPerfReader(ctx, in, o).read(o)
}

func newPerfReader(ctx context.Context, in *input, o Options) *perfReader {
	r := &perfReader{
		ctx: ctx, in: in, b: newBuilder(in, "perf", o),
		ids: map[uint64]*perfEvent{}, names: map[uint64]string{}, buildIDs: map[string]string{},
		deferred: map[uint32][]perfDeferredSample{}, reads: map[perfReadKey]uint64{},
	}
	r.system.init()
	return r
}

func (r *perfReader) read(o Options) (*profile.Capture, error) {
	head := r.in.head
	switch {
	case bytes.HasPrefix(head, []byte(perfMagic1)):
		return nil, errors.New("it is of the format's first version (PERFFILE), which perf wrote before 2012; record it again with a newer perf, or read the text that `perf script` makes of it")
	case bytes.HasPrefix(head, []byte(perfMagicBig)):
		r.big = true
	case !bytes.HasPrefix(head, []byte(perfMagicLittle)):
		return nil, errors.New("it does not begin with PERFILE2")
	}
	if len(head) < perfPipeHeader {
		return nil, errors.New("it ends within its header")
	}
	var err error
	switch size := r.u64(head[8:]); {
	case size == perfPipeHeader:
		err = r.pipe()
	case size < perfFileHeader || size > math.MaxInt32:
		err = fmt.Errorf("its header has %d bytes; perf writes %d, or %d into a pipe", size, perfFileHeader, perfPipeHeader)
	default:
		err = r.file()
	}
	if err != nil {
		return nil, err
	}
	return r.finish(o)
}

// pipe reads what was written into a pipe: records only, with attributes and features among them.
func (r *perfReader) pipe() error {
	if _, err := io.ReadFull(r.in, make([]byte, perfPipeHeader)); err != nil {
		return err
	}
	return r.records(r.in, perfPipeHeader)
}

// file reads the tables before and behind the records, then those.
func (r *perfReader) file() error {
	at, size, cut, err := r.in.ReaderAt()
	if err != nil {
		return err
	}
	if cut {
		r.endsEarly()
	}
	head := make([]byte, perfFileHeader)
	if _, err := at.ReadAt(head, 0); err != nil {
		return errors.New("it ends within its header")
	}
	c := perfCursor{perfOrder: r.perfOrder, b: head[16:]}
	entry := c.u64()
	attrs, data := c.section(), c.section()
	c.section() // event types, which nothing has written since Linux 3.12
	if data.offset < perfFileHeader || data.offset > uint64(size) {
		return fmt.Errorf("its records begin at byte %d of %d", data.offset, size)
	}
	switch left := uint64(size) - data.offset; {
	case data.size == 0 && left > 0: // perf fills it in when it ends
		data.size = left
		r.early = true
		r.b.c.Warn(profile.WarnLost, 0, "perf was killed before it completed the file; what it had written is here, without names of events and build IDs.")
	case data.size > left:
		data.size = left
		r.endsEarly()
	default:
		var flags [perfFeatures / 64]uint64
		for i := range flags {
			flags[i] = c.u64()
		}
		r.readFeatures(at, size, data.offset+data.size, flags)
	}
	if err := r.readAttributes(at, size, attrs, entry); err != nil {
		return err
	}
	return r.records(io.NewSectionReader(at, int64(data.offset), int64(data.size)), int64(data.offset))
}

// endsEarly notes that the file is not whole, once: that nothing tells then which kernel ran, or what
// was recorded, needs no note.
func (r *perfReader) endsEarly() {
	if !r.early {
		r.early = true
		r.b.cut()
	}
}

// perfSection is a struct perf_file_section.
type perfSection struct{ offset, size uint64 }

func (c *perfCursor) section() perfSection { return perfSection{c.u64(), c.u64()} }

// bytes are the section's, as far as the file has them; nil where it has none, or too many.
func (s perfSection) bytes(at io.ReaderAt, size int64, limit uint64) []byte {
	if s.size == 0 || s.size > limit || s.offset > uint64(size) || s.size > uint64(size)-s.offset {
		return nil
	}
	b := make([]byte, s.size)
	if n, _ := at.ReadAt(b, int64(s.offset)); uint64(n) < s.size {
		return nil
	}
	return b
}

// readAttributes reads the table of events: of each an attribute of any size, and where its ids are.
func (r *perfReader) readAttributes(at io.ReaderAt, size int64, table perfSection, entry uint64) error {
	const ids = 16 // a section
	if entry < perfAttrSize0+ids || entry > 1<<16 {
		return fmt.Errorf("its attributes have %d bytes each; the kernel's have %d or more", int64(entry)-ids, perfAttrSize0)
	}
	b := table.bytes(at, size, maxPerfAttributes)
	if b == nil {
		return errors.New("it does not contain the table of its events")
	}
	for ; uint64(len(b)) >= entry; b = b[entry:] {
		e := r.addEvent(b[:entry-ids])
		c := perfCursor{perfOrder: r.perfOrder, b: b[entry-ids : entry]}
		list := perfCursor{perfOrder: r.perfOrder, b: c.section().bytes(at, size, maxPerfAttributes)}
		for len(list.b) >= 8 {
			r.ids[list.u64()] = e
		}
	}
	return nil
}

// readFeatures reads the sections behind the data that tell something of use. None is needed.
func (r *perfReader) readFeatures(at io.ReaderAt, size int64, table uint64, flags [perfFeatures / 64]uint64) {
	for bit := range perfFeatures {
		if flags[bit/64]>>(bit%64)&1 == 0 {
			continue
		}
		entry := perfSection{table, 16}.bytes(at, size, 16)
		if entry == nil {
			r.endsEarly()
			return
		}
		c := perfCursor{perfOrder: r.perfOrder, b: entry}
		table += 16
		section := c.section()
		if section.offset > uint64(size) || section.size > uint64(size)-section.offset {
			r.endsEarly()
		}
		switch bit {
		case perfBuildIDs, perfOSRelease, perfArch, perfCPUs, perfCmdline, perfEventDesc, perfClockData:
			r.readFeature(bit, section.bytes(at, size, maxPerfFeature))
		}
	}
}

// readFeature reads what a section, or in a pipe a record, says.
func (r *perfReader) readFeature(bit int, b []byte) {
	c := perfCursor{perfOrder: r.perfOrder, b: b}
	switch bit {
	case perfOSRelease:
		r.release = c.text()
	case perfArch:
		r.arch = c.text()
	case perfCPUs:
		c.u32() // available
		r.cpus = c.u32()
	case perfCmdline:
		r.cmdline = nil
		for n := c.u32(); n > 0 && len(c.b) > 0; n-- {
			if arg := c.text(); !c.short {
				r.cmdline = append(r.cmdline, clean(arg))
			}
		}
	case perfClockData:
		// struct { u32 version, clockid; u64 wall_clock_ns, clockid_time_ns }: one instant on both.
		if version := c.u32(); version == 1 {
			c.u32()
			wall, clock := c.u64(), c.u64()
			if !c.short && wall < math.MaxInt64 && clock < math.MaxInt64 {
				r.wall, r.clock = int64(wall), int64(clock)
			}
		}
	case perfBuildIDs:
		for len(c.b) >= perfHeaderSize {
			n := uint64(r.u16(c.b[6:]))
			rec := c.take(n)
			if n < perfHeaderSize || rec == nil {
				return
			}
			r.buildID(rec)
		}
	case perfEventDesc:
		n, size := c.u32(), uint64(c.u32())
		for ; n > 0 && !c.short; n-- {
			attr := c.take(size)
			ids := c.u32()
			name := c.text()
			for ; ids > 0 && !c.short; ids-- {
				r.names[c.u64()] = name
			}
			if !c.short && len(attr) >= perfAttrSize0 {
				r.described = append(r.described, perfDescribed{r.parseAttr(attr), name})
			}
		}
	}
}

// buildID reads a struct perf_record_header_build_id: of which file a build ID is.
func (r *perfReader) buildID(rec []byte) {
	const name = perfHeaderSize + 4 + 24
	if len(rec) < name {
		return
	}
	misc := r.u16(rec[4:])
	id := rec[perfHeaderSize+4 : perfHeaderSize+4+20]
	if n := rec[perfHeaderSize+4+20]; misc&(1<<15) != 0 && int(n) <= len(id) { // PERF_RECORD_MISC_BUILD_ID_SIZE
		id = id[:n]
	}
	path := cString(rec[name:])
	if len(id) == 0 || path == "" || !slices.ContainsFunc(id, func(b byte) bool { return b != 0 }) {
		return
	}
	if strings.HasPrefix(path, "[kernel.kallsyms]") {
		path = profile.Kernel
	}
	r.buildIDs[path] = hex.EncodeToString(id)
}

// finish names the series and fills in what was learned last.
func (r *perfReader) finish(o Options) (*profile.Capture, error) {
	if len(r.events) == 0 {
		return nil, errors.New("it does not tell which events its records are of")
	}
	c := r.b.c
	r.system.nameFiles(c, r.buildIDs)
	if r.release != "" {
		c.Machine = strings.TrimSpace("Linux " + r.release + " " + r.arch)
		if r.cpus == 1 {
			c.Machine += ", 1 CPU"
		} else if r.cpus > 1 {
			c.Machine += fmt.Sprintf(", %d CPUs", r.cpus)
		}
		c.Machine = clean(c.Machine)
	}
	if t, ok := perfTarget(r.cmdline); ok {
		c.Target = t
	}
	r.nameSeries()
	if o.Kind != "" {
		r.b.tracks = slices.DeleteFunc(r.b.tracks, func(t *track) bool { return t.s.Kind != o.Kind })
		if len(r.b.tracks) == 0 {
			return nil, fmt.Errorf("it holds no samples of kind %s", o.Kind)
		}
	}
	first := maxTime
	for _, t := range r.b.tracks {
		for _, x := range t.at {
			first = min(first, x.Time)
		}
	}
	if r.wall != 0 && first < maxTime {
		c.Start = time.Unix(0, r.wall).Add(first - time.Duration(r.clock))
	}
	r.b.rebase()
	if r.copied > 0 {
		c.Warn(profile.WarnCut, r.copied, "Samples whose callers perf copied as bytes of the stack (--call-graph dwarf) have only their innermost function; record with --call-graph fp, or read the text of `perf script`.")
	}
	return r.b.finish()
}
