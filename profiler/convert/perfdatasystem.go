package convert

import (
	"encoding/hex"
	"hash/maphash"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A perfSystem is what a file's records tell of processes and of what they have mapped, as of the time
// up to which they were handled.
type perfSystem struct {
	processes map[uint32]*perfProcess
	threads   map[uint32]*perfThread
	none      *perfProcess // of samples whose process is not known
	files     map[perfFileKey]*perfFile
	byPath    map[string]*perfFile // the last one mapped at each path
	seed      maphash.Seed

	kernel        *perfRegion // modules, and code made at run time
	kernelFile    *perfFile
	kernelChanges int
	text          uint64 // runtime address of the kernel's _text; 0 where it was hidden
	located       perfLocated

	// The parts of the stack at hand, leaf first. exact is how many of the user's are no return
	// addresses.
	userPart, kernelPart, otherPart []uint64
	exact                           int
	cookie                          uint64
}

// A perfProcess is one address space, from fork or exec on.
type perfProcess struct {
	pid, parent uint32
	regions     *perfRegion
	changes     int // of regions
	located     perfLocated
	anonymous   map[string]*perfFile
}

// A perfThread is a thread under one name.
type perfThread struct {
	process       *perfProcess
	tid           uint32
	comm          string
	named         bool // comm is its own, not that of its process
	task          profile.TaskID
	changes       int
	kernelChanges int
	walked        []perfWalked // the frames of its last sample, outermost first
}

type perfPart uint8

const (
	perfUserPart perfPart = iota
	perfKernelPart
	perfOtherPart
)

type perfWalked struct {
	addr     uint64
	stack    profile.StackID
	part     perfPart
	isReturn bool
}

// perfLocated are the locations of runtime addresses: of places, and of return addresses.
type perfLocated struct{ places, returns map[uint64]profile.LocationID }

// perfFileKey tells files apart: by build ID, or by device, inode and generation.
type perfFileKey struct {
	kind       profile.MappingKind
	path       string
	buildID    string
	major      uint32
	minor      uint32
	inode      uint64
	generation uint64
}

// A perfFile becomes a mapping of the capture with its first location.
type perfFile struct {
	mapping profile.Mapping
	id      profile.MappingID
	symbol  string // of kernel code made at run time: its only name
}

func (s *perfSystem) init() {
	s.processes, s.threads = map[uint32]*perfProcess{}, map[uint32]*perfThread{}
	s.files, s.byPath = map[perfFileKey]*perfFile{}, map[string]*perfFile{}
	s.none, s.seed = &perfProcess{}, maphash.MakeSeed()
	s.kernelFile = &perfFile{mapping: profile.Mapping{Kind: profile.KernelCode, Path: profile.Kernel}}
	s.byPath[profile.Kernel] = s.kernelFile
}

func (s *perfSystem) process(pid uint32) *perfProcess {
	p := s.processes[pid]
	if p == nil {
		p = &perfProcess{pid: pid}
		s.processes[pid] = p
	}
	return p
}

func (s *perfSystem) thread(p *perfProcess, tid uint32) *perfThread {
	if p == s.none {
		return &perfThread{process: p}
	}
	th := s.threads[tid]
	if th == nil || th.process != p {
		th = &perfThread{process: p, tid: tid}
		if main := s.threads[p.pid]; main != nil && main.process == p {
			th.comm = main.comm
		} else if p.pid == 0 {
			th.comm = "swapper" // the idle threads, of which no record tells
		}
		s.threads[tid] = th
	}
	return th
}

func (s *perfSystem) task(b *builder, p *perfProcess, th *perfThread) profile.TaskID {
	if th.task == 0 {
		th.task = b.task(profile.Task{PID: int(p.pid), TID: int(th.tid), Parent: int(p.parent), Comm: th.comm})
	}
	return th.task
}

// comm reads struct { header; u32 pid, tid; char comm[] }: a thread has another name. Where that is
// from exec, its process has nothing mapped and no other threads.
func (r *perfReader) comm(rec []byte) {
	const name = perfHeaderSize + 8
	if len(rec) < name {
		return
	}
	pid, tid, s := r.u32(rec[8:]), r.u32(rec[12:]), &r.system
	p := s.process(pid)
	if r.u16(rec[4:])&perfMiscExec != 0 {
		next := &perfProcess{pid: pid, parent: p.parent}
		s.processes[pid] = next
		p = next
	}
	s.threads[tid] = &perfThread{process: p, tid: tid, comm: cString(rec[name:])}
}

// fork reads struct { header; u32 pid, ppid, tid, ptid; u64 time }: a process with the mappings of its
// parent, or a thread. A process that is said to be from exec is one that perf found running and tells
// the mappings of (perf_event__synthesize_fork).
func (r *perfReader) fork(rec []byte) {
	if len(rec) < perfHeaderSize+16 {
		return
	}
	pid, ppid, tid, ptid, s := r.u32(rec[8:]), r.u32(rec[12:]), r.u32(rec[16:]), r.u32(rec[20:]), &r.system
	comm := ""
	if th := s.threads[ptid]; th != nil {
		comm = th.comm
	}
	p := s.process(pid)
	if pid != ppid {
		p = &perfProcess{pid: pid, parent: ppid}
		if parent := s.processes[ppid]; parent != nil && r.u16(rec[4:])&perfMiscExec == 0 {
			p.regions = parent.regions
		}
		s.processes[pid] = p
	}
	s.threads[tid] = &perfThread{process: p, tid: tid, comm: comm}
}

// mmap reads a MMAP or a MMAP2 record: struct { header; u32 pid, tid; u64 start, len, pgoff;
// (MMAP2:) u32 maj, min; u64 ino, ino_generation, or a build ID of up to 20 bytes behind its size;
// u32 prot, flags; (both:) char filename[] }.
func (r *perfReader) mmap(rec []byte) {
	const numbers, more = perfHeaderSize + 8 + 24, 32
	name := numbers
	second := r.u32(rec) == perfMmap2
	if second {
		name += more
	}
	if len(rec) < name {
		return
	}
	misc, pid := r.u16(rec[4:]), r.u32(rec[8:])
	start, length, offset := r.u64(rec[16:]), r.u64(rec[24:]), r.u64(rec[32:])
	key := perfFileKey{path: cString(rec[name:])}
	if second {
		if id := rec[numbers:]; misc&perfMiscMmapBuildID != 0 {
			key.buildID = hex.EncodeToString(id[4 : 4+min(int(id[0]), 20)])
		} else {
			key.major, key.minor, key.inode, key.generation = r.u32(id), r.u32(id[4:]), r.u64(id[8:]), r.u64(id[16:])
		}
	}
	end := start + length
	if end <= start {
		if length == 0 || end != 0 {
			return
		}
		end = ^uint64(0) // up to the end of the address space
	}
	region := &perfRegion{start: start, end: end, offset: offset}
	s := &r.system
	if mode := misc & perfMiscModeMask; mode == perfModeKernel || int32(pid) == -1 {
		s.mapKernel(region, key)
		return
	} else if mode != perfModeUser && mode != 0 {
		return // a guest's
	}
	p := s.process(pid)
	region.file = s.file(p, key)
	p.regions = s.put(p.regions, region)
	p.changes++
	p.located = perfLocated{}
}

// mapKernel follows what perf tells of the kernel (perf_event__synthesize_kernel_mmap): as a mapping
// of "[kernel.kallsyms]_text", with the runtime address of that symbol in place of an offset, and of
// modules by their paths or as "[name]".
func (s *perfSystem) mapKernel(region *perfRegion, key perfFileKey) {
	s.kernelChanges++
	s.located = perfLocated{}
	if symbol, ok := strings.CutPrefix(key.path, "[kernel.kallsyms]"); ok || strings.HasPrefix(key.path, "[guest.kernel") {
		if !ok {
			return
		}
		if (symbol == "_text" || symbol == "_stext") && region.offset != 0 {
			s.text = region.offset
		} else if s.text == 0 && region.start != 0 {
			s.text = region.start
		}
		if key.buildID != "" {
			s.kernelFile.mapping.BuildID = key.buildID
		}
		return // what no other region has is the kernel's
	}
	key.kind = profile.KernelCode
	region.file = s.intern(key, profile.Mapping{Kind: profile.KernelCode, Path: key.path, BuildID: key.buildID})
	s.kernel = s.put(s.kernel, region)
}

// ksymbol reads struct { header; u64 addr; u32 len; u16 ksym_type, flags; char name[] }: code that the
// kernel has made, a BPF program above all.
func (r *perfReader) ksymbol(rec []byte) {
	const name = perfHeaderSize + 16
	if len(rec) < name {
		return
	}
	const unregister, bpf = 1, 1
	s := &r.system
	addr, length, kind, flags := r.u64(rec[8:]), uint64(r.u32(rec[16:])), r.u16(rec[20:]), r.u16(rec[22:])
	if flags&unregister != 0 || addr+length <= addr {
		return // samples of it may still come
	}
	f := &perfFile{symbol: cString(rec[name:]), mapping: profile.Mapping{Kind: profile.KernelCode, Path: profile.Kernel}}
	if kind == bpf {
		f.mapping.Path = "[bpf]"
	}
	if f.symbol == "" {
		return
	}
	s.kernelChanges++
	s.located = perfLocated{}
	s.kernel = s.put(s.kernel, &perfRegion{start: addr, end: addr + length, file: f})
}

// file is what a process has mapped by a record's name of it. The kernel has names for what is no file
// (perf_event_mmap_event in kernel/events/core.c), and files that are memory.
func (s *perfSystem) file(p *perfProcess, key perfFileKey) *perfFile {
	path := key.path
	switch {
	case path == "[vdso]" || path == "[vdso32]" || path == "[vdsox32]":
		key = perfFileKey{kind: profile.VDSO, path: path, buildID: key.buildID}
		return s.intern(key, profile.Mapping{Kind: profile.VDSO, Path: path, BuildID: key.buildID, Offsets: true})
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.HasPrefix(path, "/SYSV") ||
		strings.HasPrefix(path, "/dev/zero") || strings.HasPrefix(path, "/anon_hugepage"):
		f := p.anonymous[path]
		if f == nil {
			f = &perfFile{mapping: profile.Mapping{Kind: profile.Anonymous, Path: path}}
			if p.anonymous == nil {
				p.anonymous = map[string]*perfFile{}
			}
			p.anonymous[path] = f
		}
		return f
	}
	key.kind = profile.FileCode
	m := profile.Mapping{Kind: profile.FileCode, BuildID: key.buildID, Offsets: true}
	m.Path, m.Deleted = strings.CutSuffix(path, " (deleted)")
	return s.intern(key, m)
}

func (s *perfSystem) intern(key perfFileKey, m profile.Mapping) *perfFile {
	f := s.files[key]
	if f == nil {
		f = &perfFile{mapping: m}
		s.files[key] = f
	}
	s.byPath[m.Path] = f
	return f
}

// locate is the location of a runtime address in a process. That a file is mapped where it was is
// remembered until the mappings change.
func (s *perfSystem) locate(b *builder, p *perfProcess, addr uint64, part perfPart, isReturn bool) profile.LocationID {
	located := &s.located
	switch part {
	case perfUserPart:
		located = &p.located
	case perfOtherPart:
		return b.address(profile.Location{Addr: addr, Return: isReturn})
	}
	known := &located.places
	if isReturn {
		known = &located.returns
	}
	id, ok := (*known)[addr]
	if ok {
		return id
	}
	if *known == nil {
		*known = map[uint64]profile.LocationID{}
	}
	l := profile.Location{Addr: addr, Return: isReturn}
	name := ""
	if part == perfKernelPart {
		f := s.kernelFile
		if region := s.kernel.find(l.Lookup()); region != nil {
			f = region.file
		}
		l.Mapping, name = f.mappingID(b), f.symbol
		l.Addr -= s.text
	} else if region := p.regions.find(l.Lookup()); region != nil {
		l.Mapping = region.file.mappingID(b)
		if region.file.mapping.Kind != profile.Anonymous {
			l.Addr += region.offset - region.start
		}
	}
	id = b.address(l)
	if name != "" {
		b.symbolize(id, []profile.FrameID{b.frame(profile.Frame{Func: name, Module: b.c.Mappings[l.Mapping].Path})})
	}
	(*known)[addr] = id
	return id
}

// mappingID is the file's mapping. Files that look alike but are not the same one have one each, which
// is why it is not interned.
func (f *perfFile) mappingID(b *builder) profile.MappingID {
	if f.id == 0 {
		f.id = profile.MappingID(len(b.c.Mappings))
		m := f.mapping
		m.Path = clean(m.Path)
		b.c.Mappings = append(b.c.Mappings, m)
		b.afford()
	}
	return f.id
}

// nameFiles gives build IDs by path to the mappings that have none. Where several files were at a path,
// the last is the one that perf found there when it ended.
func (s *perfSystem) nameFiles(c *profile.Capture, buildIDs map[string]string) {
	for path, id := range buildIDs {
		path, _ = strings.CutSuffix(path, " (deleted)")
		if f := s.byPath[path]; f != nil && f.id != 0 && c.Mappings[f.id].BuildID == "" {
			c.Mappings[f.id].BuildID = id
		}
	}
}

// A perfRegion is a range of runtime addresses at which a file's bytes from offset on are mapped, and
// a node of a tree of such ranges, by address, which do not overlap. Nodes do not change, so that the
// tree of a process is that of its child too. As a treap it is balanced by numbers that are as good as
// random, and stays so whatever order a file maps in.
type perfRegion struct {
	start, end, offset uint64
	file               *perfFile
	left, right        *perfRegion
	weight             uint64
}

// find is the region that has addr, or nil.
func (t *perfRegion) find(addr uint64) *perfRegion {
	for t != nil {
		switch {
		case addr < t.start:
			t = t.left
		case addr >= t.end:
			t = t.right
		default:
			return t
		}
	}
	return nil
}

func (t *perfRegion) last() *perfRegion {
	for t != nil && t.right != nil {
		t = t.right
	}
	return t
}

// split makes two trees: of the regions that begin below at, and of the others.
func (t *perfRegion) split(at uint64) (below, rest *perfRegion) {
	if t == nil {
		return nil, nil
	}
	n := *t
	if t.start < at {
		n.right, rest = t.right.split(at)
		return &n, rest
	}
	below, n.left = t.left.split(at)
	return below, &n
}

// joinRegions makes one tree of two, of which all of a lie before b.
func joinRegions(a, b *perfRegion) *perfRegion {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		n := *a
		n.right = joinRegions(a.right, b)
		return &n
	}
	n := *b
	n.left = joinRegions(a, b.left)
	return &n
}

// put is t with a region in the place of whatever was there: the kernel tells of mappings but not of
// their ends.
func (s *perfSystem) put(t, region *perfRegion) *perfRegion {
	leaf := func(start, end, offset uint64, f *perfFile) *perfRegion {
		return &perfRegion{start: start, end: end, offset: offset, file: f, weight: maphash.Comparable(s.seed, start)}
	}
	below, rest := t.split(region.start)
	gone, above := rest.split(region.end)
	over := gone.last()
	if p := below.last(); p != nil && p.end > region.start {
		below, _ = below.split(p.start)
		below = joinRegions(below, leaf(p.start, region.start, p.offset, p.file))
		if over == nil {
			over = p
		}
	}
	if over != nil && over.end > region.end {
		above = joinRegions(leaf(region.end, over.end, over.offset+region.end-over.start, over.file), above)
	}
	return joinRegions(joinRegions(below, leaf(region.start, region.end, region.offset, region.file)), above)
}
