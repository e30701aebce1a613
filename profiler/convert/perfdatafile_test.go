package convert

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A perfMade is a perf.data made by hand.
type perfMade struct {
	order    binary.AppendByteOrder
	attrs    []madeAttr
	attrSize int // of each attribute in the table, 64 or more
	data     []byte
	features map[int][]byte
}

type madeAttr struct {
	kind                                   uint32
	config, period, sampleType, readFormat uint64
	flags                                  uint64
	branches, userRegs                     uint64
	ids                                    []uint64
}

func (m *perfMade) u16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = m.order.AppendUint16(b, x)
	}
	return b
}

func (m *perfMade) u32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = m.order.AppendUint32(b, x)
	}
	return b
}

func (m *perfMade) u64(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = m.order.AppendUint64(b, x)
	}
	return b
}

// record is a record with a body that is padded to eight bytes.
func (m *perfMade) record(kind uint32, misc uint16, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&7)...)
	b := m.u16(m.u32(nil, kind), misc, uint16(len(body)+8))
	return append(b, body...)
}

func (m *perfMade) add(kind uint32, misc uint16, body []byte) {
	m.data = append(m.data, m.record(kind, misc, body)...)
}

// attr is a struct perf_event_attr of a size, which for 64 is written as 0, as the first kernels did.
func (m *perfMade) attr(a madeAttr, size int) []byte {
	told := uint32(size)
	if size == 64 {
		told = 0
	}
	b := m.u32(nil, a.kind, told)
	flags := a.flags
	if m.order == binary.AppendByteOrder(binary.BigEndian) {
		// The compiler lays bit fields out from the most significant bit of the most significant byte.
		var reversed uint64
		for i := range 64 {
			reversed |= flags >> i & 1 << (63 - i)
		}
		flags = reversed
	}
	b = m.u64(b, a.config, a.period, a.sampleType, a.readFormat, flags)
	b = append(b, make([]byte, 24)...)
	if size > 72 {
		b = m.u64(b, a.branches, a.userRegs)
	}
	return append(b, make([]byte, max(0, size-len(b)))...)[:size]
}

// file is the whole in file mode.
func (m *perfMade) file() []byte {
	const header = 104
	var ids, table []byte
	at := uint64(header)
	for _, a := range m.attrs {
		ids = m.u64(ids, a.ids...)
	}
	for _, a := range m.attrs {
		table = append(table, m.attr(a, m.attrSize)...)
		table = m.u64(table, at, uint64(8*len(a.ids)))
		at += uint64(8 * len(a.ids))
	}
	attrs := header + uint64(len(ids))
	data := attrs + uint64(len(table))
	magic := uint64(0x32454c4946524550)
	b := m.u64(nil, magic, header, uint64(m.attrSize+16), attrs, uint64(len(table)), data, uint64(len(m.data)), 0, 0)
	var flags [4]uint64
	var bits []int
	for bit := range m.features {
		flags[bit/64] |= 1 << (bit % 64)
		bits = append(bits, bit)
	}
	slices.Sort(bits)
	b = m.u64(b, flags[:]...)
	b = slices.Concat(b, ids, table, m.data)
	end := uint64(len(b) + 16*len(bits))
	var sections []byte
	for _, bit := range bits {
		b = m.u64(b, end+uint64(len(sections)), uint64(len(m.features[bit])))
		sections = append(sections, m.features[bit]...)
	}
	return append(b, sections...)
}

// pipe is the whole as perf writes it into a pipe.
func (m *perfMade) pipe() []byte {
	b := m.u64(nil, 0x32454c4946524550, 16)
	for _, a := range m.attrs {
		b = append(b, m.record(perfHeaderAttr, 0, m.u64(m.attr(a, m.attrSize), a.ids...))...)
	}
	for bit, content := range m.features {
		b = append(b, m.record(perfHeaderFeature, 0, append(m.u64(nil, uint64(bit)), content...))...)
	}
	return append(b, m.data...)
}

// compress packs the records so far as one stream, cut into records of at most n bytes.
func (m *perfMade) compress(t testing.TB, kind uint32, n int) {
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(m.data, 100) { // perf flushes with each read of a ring
		z.Write(part)
		z.Flush()
	}
	m.data = nil // the stream has no end: perf does not write one
	for part := range slices.Chunk(packed.Bytes(), n) {
		if kind == perfCompressed2 {
			m.add(kind, 0, append(m.u64(nil, uint64(len(part))), part...))
			continue
		}
		b := m.u16(m.u32(nil, kind), 0, uint16(len(part)+8)) // not padded
		m.data = append(append(m.data, b...), part...)
	}
}

func (m *perfMade) text(b []byte, s string) []byte {
	n := (len(s) + 1 + 63) &^ 63
	b = m.u32(b, uint32(n))
	return append(append(b, s...), make([]byte, n-len(s))...)
}

const (
	madeTypes   = perfSampleIP | perfSampleTID | perfSampleTime | perfSampleCPU | perfSamplePeriod | perfSampleCallchain | perfSampleIdentifier
	madeKernel  = 0xffffffff81000000
	madePID     = 100
	madeChild   = 101
	madeMapping = 0x400000
)

// trailer is the struct sample_id of madeTypes.
func (m *perfMade) trailer(b []byte, id, time uint64, pid, tid uint32) []byte {
	b = append(b, make([]byte, -len(b)&7)...)
	b = m.u64(m.u32(b, pid, tid), time)
	return m.u64(m.u32(b, 0, 0), id)
}

// sample is a sample of madeTypes.
func (m *perfMade) sample(id, time, period uint64, mode uint16, pid, tid uint32, chain ...uint64) {
	ip := uint64(0)
	for _, a := range chain {
		if a < perfContextMax {
			ip = a
			break
		}
	}
	b := m.u64(nil, id, ip)
	b = m.u64(m.u32(b, pid, tid), time)
	b = m.u64(m.u32(b, 1, 0), period)
	m.add(perfSampleRecord, mode, m.u64(m.u64(b, uint64(len(chain))), chain...))
}

func (m *perfMade) mmap2(time uint64, pid uint32, start, length, offset, inode uint64, path string) {
	b := m.u64(m.u32(nil, pid, pid), start, length, offset)
	b = m.u64(m.u32(b, 8, 1), inode, 0)
	b = append(m.u32(b, 5, 2), path...)
	m.add(perfMmap2, perfModeUser, m.trailer(append(b, 0), 7, time, pid, pid))
}

func (m *perfMade) comm(time uint64, misc uint16, pid, tid uint32, name string) {
	b := append(m.u32(nil, pid, tid), name...)
	m.add(perfComm, misc, m.trailer(append(b, 0), 7, time, pid, tid))
}

// madePerf is a file of two events with what happens to processes in it: a fork, an exec, a mapping in
// the place of another, and a kernel module; its records are not in order.
func madePerf(order binary.AppendByteOrder, attrSize int) *perfMade {
	m := &perfMade{order: order, attrSize: attrSize, features: map[int][]byte{}}
	flags := uint64(perfFreq | perfSampleIDAll)
	m.attrs = []madeAttr{
		{kind: perfSoftware, config: perfCPUClock, period: 1000, sampleType: madeTypes, flags: flags, ids: []uint64{7, 8}},
		{kind: perfSoftware, config: 2, period: 1, sampleType: madeTypes, flags: flags &^ perfFreq, ids: []uint64{9}},
	}
	kernel := m.u64(m.u32(nil, ^uint32(0), 0), madeKernel, 0x1000000, madeKernel)
	m.add(perfMmap, perfModeKernel, m.trailer(append(kernel, "[kernel.kallsyms]_text\x00"...), 0, 0, 0, 0))
	module := m.u64(m.u32(nil, ^uint32(0), 0), madeKernel+0x20000000, 0x4000, 0)
	m.add(perfMmap, perfModeKernel, m.trailer(append(module, "[loop]\x00"...), 0, 0, 0, 0))
	jit := m.u16(m.u32(m.u64(nil, madeKernel+0x30000000), 0x100), 1, 0)
	m.add(perfKsymbol, 0, m.trailer(append(jit, "bpf_prog_1234_drop\x00"...), 7, 0, 0, 0))

	m.comm(0, 0, madePID, madePID, "parent")
	m.mmap2(0, madePID, madeMapping, 0x2000, 0x1000, 5, "/bin/parent")
	m.mmap2(0, madePID, 0x7fff0000, 0x1000, 0, 0, "[vdso]")

	// The child's exec is written before its fork: another processor's ring was read first.
	m.comm(3000, perfMiscExec, madeChild, madeChild, "child")
	m.mmap2(3100, madeChild, madeMapping, 0x2000, 0, 6, "/bin/child (deleted)")
	m.sample(7, 4000, 1_000_000, perfModeUser, madeChild, madeChild, perfContextUser, 0x400010, 0x400020, 0)
	m.mmap2(4500, madeChild, madeMapping+0x1000, 0x1000, 0x3000, 7, "/lib/plugin.so")
	m.sample(9, 5000, 3, perfModeUser, madeChild, madeChild, perfContextUser, 0x401010, 0x400020)
	m.add(perfFinishedRound, 0, nil)

	m.sample(7, 1000, 1_000_000, perfModeUser, madePID, madePID, perfContextUser, 0x400010, 0x400020)
	fork := m.u64(m.u32(nil, madeChild, madePID, madeChild, madePID), 2000)
	m.add(perfFork, 0, m.trailer(fork, 7, 2000, madePID, madePID))
	m.sample(8, 2500, 1_000_000, perfModeKernel, madeChild, madeChild,
		perfContextKernel, madeKernel+0x100, madeKernel+0x20000010, madeKernel+0x30000020, perfContextUser, 0x7fff0010, 0x400020)
	lost := m.u64(nil, 7, 12)
	m.add(perfLost, 0, m.trailer(lost, 7, 2600, 0, 0))
	m.add(perfFinishedRound, 0, nil)

	// A guest's mapping and sample, an unknown record, a thread, and a sample without a thread.
	m.comm(5100, 0, madeChild, madeChild+1, "worker")
	m.sample(7, 5200, 1_000_000, perfModeUser, madeChild, madeChild+1, perfContextUser, 0x500000)
	m.add(200, 0, []byte("what later kernels will tell"))
	m.sample(7, 5300, 1_000_000, perfModeUser, ^uint32(0), ^uint32(0), perfContextUser, 0x400010)

	desc := m.u32(nil, 2, uint32(attrSize))
	for i, a := range m.attrs {
		desc = append(desc, m.attr(a, attrSize)...)
		desc = m.text(m.u32(desc, uint32(len(a.ids))), []string{"cpu-clock:u", "page-faults"}[i])
		desc = m.u64(desc, a.ids...)
	}
	m.features[perfEventDesc] = desc
	m.features[perfOSRelease] = m.text(nil, "6.1.0")
	m.features[perfArch] = m.text(nil, "ppc64")
	m.features[perfCPUs] = m.u32(nil, 4, 2)
	cmdline := m.u32(nil, 5)
	for _, arg := range []string{"/usr/bin/perf", "record", "-gF1000", "./parent", "x"} {
		cmdline = m.text(cmdline, arg)
	}
	m.features[perfCmdline] = cmdline
	m.features[perfClockData] = m.u64(m.u32(nil, 1, 1), 1_700_000_000_000_000_000, 500)
	buildIDs := []byte(nil)
	for path, id := range map[string]byte{"/bin/child": 0xab, "[kernel.kallsyms]": 0xcd} {
		b := m.u32(nil, ^uint32(0))
		b = append(b, bytes.Repeat([]byte{id}, 20)...)
		b = append(append(b, 20, 0, 0, 0), path...)
		buildIDs = append(buildIDs, m.record(perfHeaderBuildID, 1<<15|perfModeUser, append(b, 0))...)
	}
	m.features[perfBuildIDs] = buildIDs
	return m
}

// renderPerf is a capture as text, a line for each sample.
func renderPerf(c *profile.Capture) []string {
	var lines []string
	for _, s := range c.Series {
		for i := range s.Samples.Len() {
			lines = append(lines, renderPerfSample(c, &s, i))
		}
	}
	return lines
}
