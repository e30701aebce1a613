package process

import (
	"bytes"
	"path"
	"time"
)

// An ID names one process of this machine from its start to its end. A number alone is another's later.
type ID struct {
	PID   int
	Start uint64 // ticks after boot, of UserHZ; two processes of one number never have the same
}

// Fields says which facts of a process are wanted, or were learned.
type Fields uint

// The facts that cost a read or a system call each. Not in any of them, and always read: number, parent,
// name, state, threads, processor time, resident memory.
const (
	Status    Fields = 1 << iota // owner, Private, Swap
	Command                      // Args
	IO                           // Read, Written; of one's own processes only
	OpenFiles                    // Files
	PSS                          // PSS; of one's own only, and the kernel walks the page tables for it
	Program                      // Arch, and whether Go built it; of one's own only
	GoRuntime                    // Go's counters; with Program
	Container                    // Container
)

// AllFields are all but PSS, which takes as long as all the others together.
const AllFields = Status | Command | IO | OpenFiles | Program | GoRuntime | Container

// A Process is what was seen of one at one moment. Texts are as the process has them: any bytes, which
// Printable makes fit to be shown.
type Process struct {
	ID
	Parent    int
	Name      string // of its main thread, up to 15 bytes
	Args      []string
	State     State
	Kernel    bool // a thread of the kernel, which has no program
	Threads   int
	Processor int // its main thread ran on last

	UID, RUID int // effective and real user

	// CPU is processor time used, all threads together, since the look before, and Over how long ago
	// that was; of a process that was not there then, since its start. CPUTotal is since its start.
	CPU, Over, CPUTotal time.Duration

	Resident int64 // bytes
	Private  int64 // bytes resident without a file behind: nobody else's (RssAnon)
	Swap     int64 // bytes
	PSS      int64 // bytes resident, those shared by n counted as an nth

	// Read and Written are bytes that it caused to be read from and written to storage, since its start;
	// ReadNow and WrittenNow in the interval of CPU.
	Read, Written       int64
	ReadNow, WrittenNow int64

	Files     int    // open descriptors
	Arch      string // of its program: "amd64"
	IsGo      bool
	Go        GoState // where IsGo
	Container string  // "docker 3f2a9c0d1e4b"; "" for none

	// Known are the fields that were learned: others were not asked for, or may not be seen.
	Known Fields
	// Guarded says that looking into the process was refused: it is another user's, or keeps others
	// from looking into it.
	Guarded bool
}

// Has says that facts were learned.
func (p *Process) Has(f Fields) bool { return p.Known&f == f }

// Busy is the share of one processor that the process used in the interval: 2 is two processors.
func (p *Process) Busy() float64 {
	if p.Over <= 0 {
		return 0
	}
	return float64(p.CPU) / float64(p.Over)
}

// CommandLine is the arguments on one line; for a kernel thread, and a process without arguments, the
// name in brackets, as ps has it.
func (p *Process) CommandLine() string {
	if len(p.Args) == 0 {
		return "[" + p.Name + "]"
	}
	var b bytes.Buffer
	for i, a := range p.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

// Called says whether a person may mean the process by a name: its own, or that of the file it runs,
// as the first argument has it. A login shell's is "-bash", which "bash" means too.
func (p *Process) Called(name string) bool {
	if name == "" {
		return false
	}
	if p.Name == name {
		return true
	}
	if len(p.Args) == 0 {
		return false
	}
	first := p.Args[0]
	base := path.Base(first)
	return first == name || base == name || len(base) > 1 && base[0] == '-' && base[1:] == name
}

// splitArgs are the arguments of /proc/PID/cmdline: each ends with a zero byte, but where the process
// wrote a text of its own over them.
func splitArgs(line []byte) []string {
	line = bytes.TrimRight(line, "\x00")
	if len(line) == 0 {
		return nil
	}
	var args []string
	for a := range bytes.SplitSeq(line, []byte{0}) {
		args = append(args, string(a))
	}
	return args
}

// Children orders processes as a tree: each after its parent, siblings in the order that they came
// in, with how deep it lies. One whose parent is not among them is a root, as is one of a circle, which
// numbers that were used again may make.
func Children(all []Process) []TreeRow {
	at := make(map[int]int, len(all))
	for i := range all {
		at[all[i].PID] = i
	}
	children := make(map[int][]int)
	var roots []int
	for i := range all {
		p := &all[i]
		parent, ok := at[p.Parent]
		if !ok || parent == i || all[parent].Start > p.Start {
			roots = append(roots, i)
			continue
		}
		children[parent] = append(children[parent], i)
	}
	rows := make([]TreeRow, 0, len(all))
	seen := make([]bool, len(all))
	var walk func(i, depth int, last []bool)
	walk = func(i, depth int, last []bool) {
		if seen[i] {
			return
		}
		seen[i] = true
		rows = append(rows, TreeRow{Index: i, Depth: depth, Last: append([]bool(nil), last...)})
		below := children[i]
		for k, c := range below {
			walk(c, depth+1, append(last, k == len(below)-1))
		}
	}
	for _, i := range roots {
		walk(i, 0, nil)
	}
	for i := range all { // parts of circles
		walk(i, 0, nil)
	}
	return rows
}

// A TreeRow is a process's place in a tree.
type TreeRow struct {
	Index int    // of the list that the tree was made of
	Depth int    // 0 for a root
	Last  []bool // for each level from the first below the root: whether it is the last of its siblings
}
