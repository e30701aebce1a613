package profiler

import (
	"slices"
	"sort"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A tracker follows which processes and threads there are and what each process has mapped, from
// the kernel's records in the order of their times.
//
// One goroutine uses it, under the recording's lock.
type tracker struct {
	sys    system
	pids   map[int]*process
	dead   []*process // ended ones that are still in pids, oldest first
	owners *owners    // nil where no record can come twice
}

// A system tells of processes what no record told: those that were there before the recording, and
// those whose records were lost. It may answer nothing.
type system interface {
	find(pid int, m *mapped) *codeFile // nil: memory without a file
	discover(pid int) *process         // a process as it is now; nil if it is gone
	comm(pid, tid int) string
	parent(pid int) int
}

// A process is one address space and the threads in it, from its fork to its end.
type process struct {
	pid, parent int
	regions     []region // ascending, not overlapping
	shared      bool     // regions are another process's too: copy before changing
	threads     map[int]*thread
	anonymous   *codeFile // its memory without a file, made when needed
	execed      bool      // a program's exec was seen, and not only its process
	mainEnded   bool      // its main thread
	ended       bool      // all its threads
	dumps       []string  // paths of the jitdumps that it has mapped
	// stale says that records were lost which may have told of mappings: the next address that is
	// in no region is reason to ask discover again.
	stale bool

	// located remembers where addresses are until the regions change; the key is the address and
	// whether it is a return address in its highest bit, which user addresses leave free.
	located map[uint64]profile.LocationID
	changes int // how often the regions have changed

	now        *space // of the regions after nowChanges changes; nil until a stack is walked
	nowChanges int
}

// memory is the process's memory without a file.
func (p *process) memory() *codeFile {
	if p.anonymous == nil {
		p.anonymous = &codeFile{kind: profile.Anonymous, path: anonymousName, of: p}
	}
	return p.anonymous
}

type thread struct {
	comm string
	task profile.TaskID // 0: no sample under this name yet

	// walked are the callers of the last sample, outermost first, with the stacks they became; good
	// while changes is the process's.
	walked  []walked
	changes int
}

type walked struct {
	addr  uint64
	stack profile.StackID
}

// A region is a range of runtime addresses at which a file's bytes from offset on are mapped.
type region struct {
	start, end, offset uint64
	file               *codeFile // nil: memory without a file
}

// maxDead is how many ended processes are remembered for records that come late.
const maxDead = 256

func newTracker(sys system) *tracker {
	return &tracker{sys: sys, pids: make(map[int]*process)}
}

func newProcess(pid, parent int) *process {
	return &process{pid: pid, parent: parent, threads: make(map[int]*thread)}
}

// process is what is known of pid, which is asked for if it was not heard of.
func (t *tracker) process(pid int) *process {
	if p := t.pids[pid]; p != nil {
		return p
	}
	p := t.sys.discover(pid)
	if p == nil {
		p = newProcess(pid, 0)
	}
	t.pids[pid] = p
	return p
}

// add makes a process known as it is now, unless something is known of it already.
func (t *tracker) add(p *process) {
	if t.pids[p.pid] == nil {
		t.pids[p.pid] = p
	}
}

func (t *tracker) thread(p *process, tid int) *thread {
	th := p.threads[tid]
	if th == nil {
		name := t.sys.comm(p.pid, tid)
		if main := p.threads[p.pid]; name == "" && main != nil {
			name = main.comm
		}
		th = &thread{comm: name}
		p.threads[tid] = th
	}
	return th
}

// fork: thread ptid of ppid started thread tid of pid; a thread where the two processes are one.
//
// A process started with CLONE_VM (vfork, posix_spawn) shares its parent's memory until it calls
// exec, and a copy is as good: it maps nothing before that.
func (t *tracker) fork(pid, tid, ppid, ptid int) {
	parent := t.process(ppid)
	comm := t.thread(parent, ptid).comm // the new task's name, until it takes another
	if pid == ppid {
		parent.ended = false
		parent.threads[tid] = &thread{comm: comm}
		return
	}
	p := newProcess(pid, ppid) // whatever had this number has ended
	p.regions, p.shared = parent.regions, true
	parent.shared = true
	p.stale = parent.stale
	p.threads[tid] = &thread{comm: comm}
	t.pids[pid] = p
}

// rename: a thread has another name. Where that is from exec, the process has a new address space
// and no other threads; the one that called exec has the process's id now, whatever it had before
// (de_thread, fs/exec.c).
func (t *tracker) rename(pid, tid int, comm string, exec bool) {
	p := t.pids[pid]
	if exec {
		next := newProcess(pid, 0)
		next.execed = true
		if p == nil {
			next.parent = t.sys.parent(pid)
		} else {
			next.parent = p.parent
			if th := p.threads[pid]; th != nil && th.comm == comm {
				next.threads[pid] = &thread{comm: comm, task: th.task}
			}
		}
		p = next
		t.pids[pid] = p
		tid = pid
	} else if p == nil {
		p = t.process(pid)
	}
	if th := p.threads[tid]; th == nil || th.comm != comm {
		p.threads[tid] = &thread{comm: comm}
	}
}

// forsaken says, when a process's main thread is told to have ended, that it has not: the kernel has
// taken its events away in the middle of exec. That is where a program has privileges of its own or
// is not readable for its user (begin_new_exec, fs/exec.c), whoever records. The events end with the
// same record as a thread does, between the new name and the first mapping of the program's code,
// without which no program runs.
func (t *tracker) forsaken(pid, tid int) bool {
	p := t.pids[pid]
	return p != nil && tid == pid && p.execed && !p.ended && !p.stale && len(p.regions) == 0
}

// exit: a thread ended. What its process had mapped is kept for a while: samples may come late.
func (t *tracker) exit(pid, tid int) {
	p := t.pids[pid]
	if p == nil || p.ended {
		return
	}
	others := len(p.threads)
	if p.threads[pid] != nil {
		others--
	}
	if tid == pid {
		p.mainEnded = true // its name stays that of the process
	} else if p.threads[tid] != nil {
		delete(p.threads, tid)
		others--
	}
	if !p.mainEnded || others > 0 {
		return
	}
	p.ended = true
	t.dead = append(t.dead, p)
	if len(t.dead) > maxDead {
		old := t.dead[0]
		t.dead = slices.Delete(t.dead, 0, 1)
		if old.ended && t.pids[old.pid] == old {
			delete(t.pids, old.pid)
		}
	}
}

// mapped: a process has mapped m, in the place of whatever was there. The kernel tells of mappings
// but not of their ends, so what is said last is true.
func (t *tracker) mapped(pid int, m *mapped) {
	if m.start >= m.end {
		return
	}
	p := t.process(pid)
	if isDump(m.name) && !slices.Contains(p.dumps, m.name) && len(p.dumps) < maxDumps {
		p.dumps = append(p.dumps, m.name)
	}
	p.put(region{m.start, m.end, m.offset, t.sys.find(pid, m)})
}

func (p *process) put(r region) {
	first := sort.Search(len(p.regions), func(i int) bool { return p.regions[i].end > r.start })
	if first < len(p.regions) && p.regions[first] == r {
		return // mprotect, or what was known at the start and is told again
	}
	p.located = nil
	p.changes++
	last := first
	var left, right []region
	for ; last < len(p.regions) && p.regions[last].start < r.end; last++ {
		old := p.regions[last]
		if old.start < r.start {
			l := old
			l.end = r.start
			left = append(left, l)
		}
		if old.end > r.end {
			rest := old
			rest.offset += r.end - old.start
			rest.start = r.end
			right = append(right, rest)
		}
	}
	if p.shared {
		p.regions, p.shared = slices.Clone(p.regions), false
	}
	p.regions = slices.Replace(p.regions, first, last, append(append(left, r), right...)...)
}

// region is where an address is, or nil.
func (p *process) region(addr uint64) *region {
	i := sort.Search(len(p.regions), func(i int) bool { return p.regions[i].end > addr })
	if i < len(p.regions) && p.regions[i].start <= addr {
		return &p.regions[i]
	}
	return nil
}

// locate is where a user address of a process lies: a file (nil where none is known) and the file
// address.
func (t *tracker) locate(p *process, addr uint64) (*codeFile, uint64) {
	r := p.region(addr)
	if r == nil && p.stale {
		p.stale = false
		if now := t.sys.discover(p.pid); now != nil {
			p.regions, p.shared, p.located = now.regions, false, nil
			p.changes++
			r = p.region(addr)
		}
	}
	if r == nil {
		return nil, addr
	}
	f := r.file
	if f == nil {
		f = p.memory()
	}
	return f, f.address(r, addr)
}

// lost: records of all processes may be missing.
func (t *tracker) lost() {
	for _, p := range t.pids {
		p.stale = true
	}
}
