package convert

import (
	"math"
	"math/bits"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Values in a callchain that are no addresses but tell what those behind them are
// (enum perf_callchain_context).
const (
	perfContextHypervisor  = ^uint64(32 - 1)
	perfContextKernel      = ^uint64(128 - 1)
	perfContextUser        = ^uint64(512 - 1)
	perfContextDeferred    = ^uint64(640 - 1) // the user's part follows in a record with the cookie behind it
	perfContextGuest       = ^uint64(2048 - 1)
	perfContextGuestKernel = ^uint64(2176 - 1)
	perfContextGuestUser   = ^uint64(2560 - 1)
	perfContextMax         = ^uint64(4095 - 1) // addresses are below
)

// Values of PERF_RECORD_MISC_CPUMODE_MASK.
const (
	perfModeKernel = 1
	perfModeUser   = 2
)

// A perfSample is the fields of a sample that matter, decoded in place.
type perfSample struct {
	ip, time, period uint64
	pid, tid         uint32
	chain, branches  []byte // arrays of 8 and 24 bytes
	userIP           uint64 // of the registers of the user's part; 0 where not known
	mode             uint16
	hasTID           bool
	values           []perfValue // of PERF_SAMPLE_READ
}

type perfValue struct{ id, value uint64 }

type perfReadKey struct {
	id  uint64
	tid uint32
}

// decode takes the fields of a sample in their order, up to the last that matters. It is false where
// the record is too short for what it says it has.
func (r *perfReader) decode(e *perfEvent, rec []byte, s *perfSample) bool {
	c := perfCursor{perfOrder: r.perfOrder, b: rec[perfHeaderSize:]}
	has := func(bit uint64) bool { return e.sampleType&bit != 0 }
	var id uint64
	*s = perfSample{mode: r.u16(rec[4:]) & perfMiscModeMask, period: 1, values: s.values[:0]}
	if e.flags&perfFreq == 0 && e.period > 0 {
		s.period = e.period
	}
	if has(perfSampleIdentifier) {
		id = c.u64()
	}
	if has(perfSampleIP) {
		s.ip = c.u64()
	}
	if s.hasTID = has(perfSampleTID); s.hasTID {
		s.pid, s.tid = c.u32(), c.u32()
	}
	if has(perfSampleTime) {
		s.time = c.u64()
	}
	if has(perfSampleAddr) {
		c.u64()
	}
	if has(perfSampleID) {
		id = c.u64()
	}
	if has(perfSampleStreamID) {
		c.u64()
	}
	if has(perfSampleCPU) {
		c.u64()
	}
	if has(perfSamplePeriod) {
		s.period = c.u64()
	}
	if has(perfSampleRead) {
		c.values(e.readFormat, id, s)
	}
	if has(perfSampleCallchain) {
		n := c.u64()
		if n > uint64(len(c.b))/8 {
			return false
		}
		s.chain = c.take(8 * n)
	}
	if !e.lbrs && !e.copiesStack {
		return !c.short
	}
	if has(perfSampleRaw) {
		c.take(uint64(c.u32()))
	}
	if has(perfSampleBranchStack) {
		n := c.u64()
		if e.branches&perfBranchHWIndex != 0 {
			c.u64()
		}
		if n > uint64(len(c.b))/24 {
			return false
		}
		if b := c.take(24 * n); e.lbrs {
			s.branches = b
		}
	}
	if has(perfSampleBranchStack) && e.branches&perfBranchCounters != 0 {
		return !c.short // as many counters follow as there are branches, in one form or another
	}
	if has(perfSampleRegsUser) {
		if abi := c.u64(); abi != 0 {
			regs := c.take(8 * uint64(bits.OnesCount64(e.userRegs)))
			if i := r.instructionRegister(); regs != nil && e.userRegs>>i&1 != 0 {
				s.userIP = r.u64(regs[8*bits.OnesCount64(e.userRegs&(1<<i-1)):])
			}
		}
	}
	return !c.short
}

// instructionRegister is the number of the instruction pointer in a mask of registers
// (arch/*/include/uapi/asm/perf_regs.h); 63, which is none, where it is not known here.
func (r *perfReader) instructionRegister() uint {
	switch r.arch {
	case "", "x86_64", "i386", "i486", "i586", "i686":
		return 8
	case "aarch64", "arm64":
		return 32
	case "riscv64", "riscv32", "loongarch64":
		return 0
	}
	return 63
}

// values takes a struct read_format: one value, or one for each event of the group.
func (c *perfCursor) values(format, id uint64, s *perfSample) {
	times := uint64(0)
	if format&perfReadTimeEnabled != 0 {
		times += 8
	}
	if format&perfReadTimeRunning != 0 {
		times += 8
	}
	one := func() {
		v := perfValue{id: id, value: 0}
		v.value = c.u64()
		if format&perfReadGroup == 0 {
			c.take(times)
		}
		if format&perfReadID != 0 {
			v.id = c.u64()
		}
		if format&perfReadLost != 0 {
			c.u64()
		}
		if !c.short {
			s.values = append(s.values, v)
		}
	}
	if format&perfReadGroup == 0 {
		one()
		return
	}
	n := c.u64()
	c.take(times)
	for ; n > 0 && !c.short; n-- {
		one()
	}
}

const damagedSamples = "Samples whose records are damaged were left out."

// addSample adds a sample to the series of its event, on the stack that its process has now. Where it
// read counters, each of them is a sample as well, and what it grew by is the weight
// (deliver_sample_group in tools/perf/util/session.c).
func (r *perfReader) addSample(rec []byte) {
	e, s := r.eventOf(rec), &r.sample
	if !r.decode(e, rec, s) {
		r.b.skip(1, damagedSamples)
		return
	}
	at := time.Duration(maxTime + 1) // is left out, and counted
	if s.time < math.MaxInt64 {
		at = time.Duration(s.time)
	}
	x := profile.Sample{Time: at, Count: 1}
	var th *perfThread
	if p := r.system.none; s.hasTID && int32(s.pid) >= 0 && int32(s.tid) >= 0 {
		p = r.system.process(s.pid)
		th = r.system.thread(p, s.tid)
		x.Task = r.system.task(r.b, p, th)
	} else {
		th = r.system.thread(p, 0)
	}
	if e.copiesStack && len(s.chain) > 0 || e.copiesStack && s.userIP != 0 {
		r.copied++
	}
	waits := r.split(e, s)
	x.Stack = r.stack(th)
	if e.sampleType&perfSampleRead == 0 {
		r.addTo(e, x, s.period, waits)
		return
	}
	for _, v := range s.values {
		member := e
		if named := r.ids[v.id]; named != nil {
			member = named
		}
		key := perfReadKey{id: v.id}
		if member.flags&perfInherit != 0 { // each thread has counters of its own
			key.tid = s.tid
		}
		if grown := v.value - r.reads[key]; grown > 0 {
			r.reads[key] = v.value
			r.addTo(member, x, grown, waits)
		}
	}
}

func (r *perfReader) addTo(e *perfEvent, x profile.Sample, weight uint64, waits bool) {
	x.Weight = math.MaxInt64 // is left out, and counted
	if weight < maxTotal {
		x.Weight = int64(weight)
	}
	n := len(e.track.at)
	e.track.add(x)
	if waits && len(e.track.at) > n {
		d := perfDeferredSample{track: e.track, at: n, cookie: r.system.cookie}
		d.kernel = append(d.kernel, r.system.kernelPart...)
		r.deferred[r.sample.tid] = append(r.deferred[r.sample.tid], d)
	}
}

// A perfDeferredSample waits for the user's part of its stack.
type perfDeferredSample struct {
	track  *track
	at     int // index of the sample in it
	cookie uint64
	kernel []uint64 // leaf first
}

// completeDeferred puts the user's part below the kernel's in the samples of a thread that wait for it:
// struct { header; u64 cookie, nr; u64 ips[nr]; sample_id }.
func (r *perfReader) completeDeferred(rec []byte) {
	c := perfCursor{perfOrder: r.perfOrder, b: rec[perfHeaderSize:]}
	cookie, n := c.u64(), c.u64()
	tid, ok := r.recordTID(rec)
	if c.short || n > uint64(len(c.b))/8 || !ok {
		return
	}
	chain := c.take(8 * n)
	waiting := r.deferred[tid]
	delete(r.deferred, tid)
	th := r.system.threads[tid]
	if th == nil {
		return
	}
	for _, d := range waiting {
		if d.cookie != cookie {
			continue // its thread ended, or the record was lost
		}
		r.sample = perfSample{chain: chain, mode: perfModeUser}
		r.splitChain(&r.sample)
		r.system.kernelPart = append(r.system.kernelPart[:0], d.kernel...)
		d.track.at[d.at].Stack = r.stack(th)
	}
}

// split takes apart the sample's stack into the parts of r.system, and says whether the user's is yet
// to come.
func (r *perfReader) split(e *perfEvent, s *perfSample) (waits bool) {
	sys := &r.system
	waits = r.splitChain(s)
	sys.exact = 1
	if len(sys.userPart) == 0 && len(s.branches) >= 24 {
		// The processor's call stack: the calls' own addresses, innermost first, from where the last
		// one went to, which is where the function begins that the thread is in.
		leaf := r.u64(s.branches[8:])
		if s.mode == perfModeUser {
			leaf = s.ip
		} else if s.userIP != 0 {
			leaf = s.userIP
		}
		sys.userPart = append(sys.userPart, leaf)
		for b := s.branches; len(b) >= 24; b = b[24:] {
			if from := r.u64(b); from != 0 && from < perfContextMax {
				sys.userPart = append(sys.userPart, from)
			}
		}
		sys.exact = len(sys.userPart)
	}
	if len(sys.userPart) == 0 && !waits {
		switch {
		case s.mode == perfModeUser && s.ip != 0:
			sys.userPart = append(sys.userPart, s.ip)
		case s.userIP != 0:
			sys.userPart = append(sys.userPart, s.userIP)
		}
	}
	if len(sys.kernelPart) == 0 && len(sys.otherPart) == 0 && s.mode != perfModeUser && s.ip != 0 {
		if s.mode == perfModeKernel {
			sys.kernelPart = append(sys.kernelPart, s.ip)
		} else {
			sys.otherPart = append(sys.otherPart, s.ip)
		}
	}
	return waits
}

func (r *perfReader) splitChain(s *perfSample) (waits bool) {
	sys := &r.system
	sys.userPart, sys.kernelPart, sys.otherPart, sys.exact = sys.userPart[:0], sys.kernelPart[:0], sys.otherPart[:0], 1
	to := &sys.otherPart
	switch s.mode {
	case perfModeKernel:
		to = &sys.kernelPart
	case perfModeUser:
		to = &sys.userPart
	}
	for b := s.chain; len(b) >= 8; b = b[8:] {
		switch a := r.u64(b); {
		case a < perfContextMax:
			*to = append(*to, a)
		case a == perfContextKernel:
			to = &sys.kernelPart
		case a == perfContextUser:
			to = &sys.userPart
		case a == perfContextDeferred:
			if len(b) >= 16 {
				sys.cookie, waits = r.u64(b[8:]), true
			}
			return waits
		default: // a hypervisor's, or a guest's, whose mappings nobody told
			to = &sys.otherPart
		}
	}
	for n := len(sys.userPart); n > 0 && sys.userPart[n-1] == 0; n-- {
		sys.userPart = sys.userPart[:n-1] // what a thread's first function "returns" to
	}
	return waits
}

// stack is the stack of the parts that split has made. Most of its outer frames are those that the
// thread had in its last sample, so that two look-ups for each become one comparison.
//
// The leaf of each part is the place itself and all others are return addresses: where user code goes
// on below kernel frames is the very instruction after a page fault, and the one behind it after a
// system call.
func (r *perfReader) stack(th *perfThread) profile.StackID {
	sys, p := &r.system, th.process
	if th.changes != p.changes || th.kernelChanges != sys.kernelChanges {
		th.walked = th.walked[:0]
		th.changes, th.kernelChanges = p.changes, sys.kernelChanges
	}
	var at profile.StackID
	n, same := 0, true
	push := func(addr uint64, part perfPart, isReturn bool) {
		w := perfWalked{addr: addr, part: part, isReturn: isReturn}
		if same = same && n < len(th.walked); same {
			old := &th.walked[n]
			w.stack = old.stack
			same = *old == w
		}
		if !same {
			w.stack = r.b.push(at, sys.locate(r.b, p, addr, part, isReturn))
			th.walked = append(th.walked[:n], w)
		}
		at, n = w.stack, n+1
	}
	for i := len(sys.userPart) - 1; i >= 0; i-- {
		push(sys.userPart[i], perfUserPart, i >= sys.exact)
	}
	for i := len(sys.otherPart) - 1; i >= 0; i-- {
		push(sys.otherPart[i], perfOtherPart, i > 0)
	}
	for i := len(sys.kernelPart) - 1; i >= 0; i-- {
		push(sys.kernelPart[i], perfKernelPart, i > 0)
	}
	if at == 0 { // an event without an address is still one that happened
		push(0, perfOtherPart, false)
	}
	return at
}
