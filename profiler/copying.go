package profiler

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// Bytes of a stack that are copied with a sample.
const (
	defaultStackBytes = 16 << 10
	// perfStackBytes is the perf engine's default, where its rings have room: it cannot copy more when it
	// has seen that stacks are deep.
	perfStackBytes  = 32 << 10
	leastStackBytes = 4 << 10
	// maxStackBytes is what both engines can copy: a record of perf has less than 64 KiB.
	maxStackBytes = perfevent.MaxStackBytes
)

// Copying decides how much of whose stacks is copied with samples: nothing of processes whose code
// keeps frame pointers, and more of those whose stacks turned out to be deeper.
//
// The perf engine decides for each command that is started, or once for a process or the machine: the
// kernel takes no other size for an event that there is. The BPF engine is told of each process. Only the
// reading goroutine uses it, and open before that.
type copying struct {
	bytes  int          // to begin with
	chosen bool         // bytes was asked for
	held   bool         // perf's rings had no room for as much as would have been copied
	cut    atomic.Bool  // the perf engine has cut stacks
	always bool         // processes that nothing is known of are copied
	target bpf.GoStacks // of the program that is recorded
	set    func(pid uint32, rule bpf.CopyRule) error
	pids   map[int]copied

	// What stacks have been, told to the BPF engine; nil with the other.
	setPast    func(tid uint32, p *bpf.PastStack) error
	forgetPast func(tid uint32) error

	open   func(io.ReaderAt) (FrameTable, error) // nil: nothing is known of Go's stacks
	reader func(*codeFile) (io.ReaderAt, error)  // likewise
	stacks map[*codeFile]bpf.GoStacks            // of those that were asked for
}

// A GoStacker is a FrameTable that knows where Go's runtime keeps the stacks of a thread. With it the BPF
// engine copies both stacks of a thread that C and Go run on by turns.
type GoStacker interface {
	// GoStacks is false where that is not known.
	GoStacks() (bpf.GoStacks, bool)
}

// copied is what a process's rule is made of.
type copied struct {
	rule  bpf.CopyRule
	bytes int  // if anything
	needs bool // it has code that may keep no frame pointers
	tries int  // whole stacks that were seen
	most  int  // bytes of the deepest of them
	deep  bool // one of them, or one that was cut, has more than is copied to begin with
	cut   bool // one was cut that has not
}

// Of a new process as much is copied as can be until it is known how deep its stacks are: the copy ends
// with the stack, and that of most is not deep. Else the first stacks of deep ones would be cut, all
// that are taken until the first of them was walked. Later less is copied where stacks have proved to be
// shallow, unless somebody has said how much.
const (
	triesDeep    = 100
	triesShallow = 1000
)

// newCopying says how stacks of a target are to be copied; nil: not at all.
func newCopying(t Target, o Options) *copying {
	if o.StackBytes < 0 || hostMachine() == elf.EM_NONE {
		return nil
	}
	c := &copying{
		bytes: cmp.Or(o.StackBytes, defaultStackBytes), chosen: o.StackBytes != 0, always: true, open: o.FrameTable,
		pids: make(map[int]copied), stacks: make(map[*codeFile]bpf.GoStacks),
	}
	f := openTarget(t)
	if f == nil {
		return c
	}
	defer f.Close()
	im, err := readImage(f)
	c.always = err != nil || !im.framed() || c.chosen
	if c.always && im.golang && !im.framed() {
		c.target = c.goStacks(f)
	}
	return c
}

// openTarget opens a target's program, not those that it starts; nil where it cannot be read, or has none.
func openTarget(t Target) *os.File {
	path := ""
	switch {
	case t.Command != nil:
		path = t.Command.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(t.Command.Dir, path)
		}
	case t.PID != 0:
		path = fmt.Sprintf("/proc/%d/exe", t.PID)
	default:
		return nil
	}
	f, _, err := openRegular(path)
	if err != nil {
		return nil
	}
	return f
}

// goStacks is where a binary's runtime keeps the stacks of a thread, as far as that is known.
func (c *copying) goStacks(r io.ReaderAt) bpf.GoStacks {
	if c.open == nil {
		return bpf.GoStacks{}
	}
	t, err := c.open(r)
	if err != nil {
		return bpf.GoStacks{}
	}
	if g, ok := t.(GoStacker); ok {
		if s, ok := g.GoStacks(); ok {
			return s
		}
	}
	return bpf.GoStacks{}
}

// stacksOf is the same for a file that was mapped.
func (c *copying) stacksOf(f *codeFile) bpf.GoStacks {
	s, known := c.stacks[f]
	if !known {
		if r, err := c.reader(f); err == nil {
			s = c.goStacks(r)
		}
		c.stacks[f] = s
	}
	return s
}

// unknown is the rule of processes that nothing is known of yet.
func (c *copying) unknown() bpf.CopyRule {
	return bpf.CopyRule{Bytes: maxStackBytes, Go: c.target}
}

// seen is told each record that tells of processes and mappings, long before its turn; file is what was
// mapped.
func (c *copying) seen(r *perfevent.Record, file *codeFile) {
	if c == nil || c.set == nil {
		return
	}
	pid := int(int32(r.PID))
	switch r.Type {
	case perfevent.Fork:
		if parent, ok := c.pids[int(int32(r.PPID))]; ok && r.PID != r.PPID {
			c.put(pid, parent)
		}
	case perfevent.Exit:
		if r.PID == r.TID {
			delete(c.pids, pid)
		}
	case perfevent.Comm:
		if r.Exec() {
			c.put(pid, copied{rule: c.unknown(), bytes: maxStackBytes, needs: true}) // until it is known what was mapped
			delete(c.pids, pid)
		}
	case perfevent.Mmap2:
		c.mapped(pid, r.Addr, r.Addr+r.Len, file)
	}
}

// mapped: a process has executable code of a file from start to end; nil: of no file.
func (c *copying) mapped(pid int, start, end uint64, file *codeFile) {
	if c == nil || c.set == nil || file == nil || file.kind != profile.FileCode {
		return
	}
	x, known := c.pids[pid]
	if !known {
		x.bytes = maxStackBytes
	}
	if file.image.framed() {
		x.rule.Start, x.rule.End = start, end
	} else {
		x.needs = true
		if file.image.golang && c.reader != nil {
			x.rule.Go = c.stacksOf(file)
		}
	}
	if !known || x != c.pids[pid] {
		c.put(pid, x)
	}
}

// known is told what a process has mapped at the start.
func (c *copying) known(p *process) {
	if c == nil {
		return
	}
	for _, r := range p.regions {
		c.mapped(p.pid, r.start, r.end, r.file)
	}
}

// fit says how much the perf engine is to copy with a ring of so many bytes for each CPU: as much as is
// wanted, if nobody has said, and less where the ring would hold less than a tenth of a second, for which
// a busy machine may keep the reader waiting.
func (c *copying) fit(ring, freq, want int) int {
	if c.chosen {
		return c.bytes
	}
	n := want
	for n > leastStackBytes && 10*ring < freq*(n+sampleBytes) {
		n /= 2
	}
	return n
}

// walked is told how many bytes of a process's stack a walk went through to the root, or would at least
// have needed.
func (c *copying) walked(pid int, bytes uint64) {
	if c == nil {
		return
	}
	if c.set == nil {
		if bytes > uint64(c.bytes) {
			c.cut.Store(true)
		}
		return
	}
	x, known := c.pids[pid]
	if !known || !x.needs || x.deep && x.bytes == maxStackBytes {
		return
	}
	before, n := x.bytes, int(min(bytes, 1<<30))
	x.most = max(x.most, n)
	x.tries++
	switch {
	case n > c.bytes:
		x.deep, x.bytes = true, maxStackBytes
	case n > x.bytes:
		x.cut, x.bytes = true, c.bytes
	case x.tries == triesDeep && !x.deep:
		x.bytes = c.bytes
	case x.tries == triesShallow && !x.deep && !x.cut && !c.chosen:
		x.bytes = min(max(4*x.most, leastStackBytes), c.bytes)
	}
	c.pids[pid] = x
	if x.bytes != before {
		c.put(pid, x)
	}
}

// wants says that stacks of a process are copied wherever its code is.
func (c *copying) wants(pid int) bool {
	if c == nil {
		return false
	}
	if c.set == nil {
		return true // perf's are all alike
	}
	x, known := c.pids[pid]
	return known && x.needs && x.rule.End == 0
}

func (c *copying) put(pid int, x copied) {
	c.pids[pid] = x
	x.rule.Bytes = 0
	if x.needs {
		x.rule.Bytes = x.bytes
	}
	// A process without a rule is as one that nothing is known of.
	c.set(uint32(pid), x.rule)
}
