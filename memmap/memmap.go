// Package memmap tells where the memory of a process is: every region of its address space with what
// it is for, how much of it is resident, private, shared, swapped, and how that changes.
//
// It reads a process that runs, without stopping it, or a core file. It knows heap snapshots, symbol
// tables, editors and terminals not; of the Go runtime it knows what package heap/goruntime reads.
// A Snapshot is data: it can be saved, compared with another, and shown as weighted stacks (Capture).
package memmap

import (
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// Kind is what a region is for. The kinds are those of VMMap, with the Go runtime's own data apart.
type Kind string

// The kinds, in the order in which tables list them. A region has one; Free is what no region is in,
// PageTable the kernel's tables for the process, which are outside of its address space.
const (
	Image           Kind = "Image"            // programs and libraries: code, constants, variables
	MappedFile      Kind = "Mapped file"      // other files
	Shareable       Kind = "Shareable"        // shared memory without a file of its own: memfd, shm, shared anonymous
	Heap            Kind = "Heap"             // of malloc
	ManagedHeap     Kind = "Managed heap"     // of a garbage-collected language: Go's arenas
	RuntimeMetadata Kind = "Runtime metadata" // the Go runtime's own data
	Stack           Kind = "Stack"            // of threads; goroutines' are in the managed heap
	PrivateData     Kind = "Private data"     // other anonymous memory
	PageTable       Kind = "Page table"
	Free            Kind = "Free"
)

// Kinds are all kinds in the order of tables.
var Kinds = []Kind{Image, MappedFile, Shareable, Heap, ManagedHeap, RuntimeMetadata, Stack, PrivateData, PageTable, Free}

// Columns are the measures of a region or of many, in bytes but for Blocks. Explanations tells what
// each is and where it is from.
type Columns struct {
	Size        int64 `json:"size"`
	Committed   int64 `json:"committed"`
	Private     int64 `json:"private"`
	Resident    int64 `json:"resident"` // VMMap: Total WS
	PrivateWS   int64 `json:"privateWS"`
	ShareableWS int64 `json:"shareableWS"`
	SharedWS    int64 `json:"sharedWS"`
	LockedWS    int64 `json:"lockedWS"`
	Pss         int64 `json:"pss"`
	Swap        int64 `json:"swap"`
	Huge        int64 `json:"huge"`
	Dirty       int64 `json:"dirty"`
	Blocks      int64 `json:"blocks"`
	Largest     int64 `json:"largest"`
}

// Add adds y to c; Largest is the larger.
func (c *Columns) Add(y Columns) {
	c.Size += y.Size
	c.Committed += y.Committed
	c.Private += y.Private
	c.Resident += y.Resident
	c.PrivateWS += y.PrivateWS
	c.ShareableWS += y.ShareableWS
	c.SharedWS += y.SharedWS
	c.LockedWS += y.LockedWS
	c.Pss += y.Pss
	c.Swap += y.Swap
	c.Huge += y.Huge
	c.Dirty += y.Dirty
	c.Blocks += y.Blocks
	c.Largest = max(c.Largest, y.Largest)
}

// Sub takes y from c; Largest too is a difference.
func (c *Columns) Sub(y Columns) {
	largest := c.Largest - y.Largest
	y.Size, y.Committed, y.Private, y.Resident = -y.Size, -y.Committed, -y.Private, -y.Resident
	y.PrivateWS, y.ShareableWS, y.SharedWS, y.LockedWS = -y.PrivateWS, -y.ShareableWS, -y.SharedWS, -y.LockedWS
	y.Pss, y.Swap, y.Huge, y.Dirty, y.Blocks = -y.Pss, -y.Swap, -y.Huge, -y.Dirty, -y.Blocks
	c.Add(y)
	c.Largest = largest
}

// A Region is a run of addresses that was reserved for one purpose: a library with all its segments, a
// thread's stack with its guard, an arena. Its Parts are what it is made of.
type Region struct {
	Start      uint64 `json:"start"` // runtime address
	End        uint64 `json:"end"`
	Kind       Kind   `json:"kind"`
	Protection string `json:"protection"` // "rw-p"; of the part that may do most
	// Path of the file, or the kernel's name ("[heap]"). It may have any byte in it, in JSON only
	// characters.
	Path    string `json:"path,omitempty"`
	Deleted bool   `json:"deleted,omitempty"` // the file has no name any more
	// Detail says in words what the region is: "stack of thread 71 (worker)", "malloc arena 2".
	Detail string `json:"detail,omitempty"`
	Thread int    `json:"thread,omitempty"` // kernel's thread id of a stack
	Columns
	Parts []Part `json:"parts,omitempty"` // in order of address; none where the region is one
}

// A Part is what the kernel keeps as one mapping, or the piece of it that belongs to the region.
type Part struct {
	Start      uint64 `json:"start"`
	End        uint64 `json:"end"`
	Protection string `json:"protection"`
	Detail     string `json:"detail,omitempty"` // "bss", "guard", "reserved"
	Columns
}

// A Snapshot is an address space at one time.
type Snapshot struct {
	Version int       `json:"sightlineMemoryMap"` // of the file format; see Write
	Time    time.Time `json:"time"`
	PID     int       `json:"pid,omitempty"`
	Name    string    `json:"name"`           // of the process
	Exe     string    `json:"exe,omitempty"`  // path of its program
	Core    string    `json:"core,omitempty"` // the core file it is from; "" for a process
	Go      string    `json:"go,omitempty"`   // release of the Go runtime in it; "" where there is none

	Regions []Region `json:"regions"` // in order of address; none overlap
	// PageTable is VmPTE; Free is what lies between regions, and the largest gap.
	PageTable int64   `json:"pageTable"`
	Free      Columns `json:"free"`
	// Status has what anybody may know of a process. Where Partial is set it is all there is, and
	// there are no regions.
	Status  Status `json:"status"`
	Partial bool   `json:"partial,omitempty"`

	// Terms are the resident memory by what holds it, for Go programs; their sum is Resident of all
	// regions. Nil where there is no Go runtime to ask.
	Terms []Term `json:"terms,omitempty"`
	// Classes are the size classes of the Go heap, Mallocs the heaps of malloc.
	Classes []SizeClass  `json:"sizeClasses,omitempty"`
	Mallocs []MallocHeap `json:"mallocHeaps,omitempty"`
	// Stacks are the number and bytes of goroutines' stacks by their size, smallest first.
	Stacks []StackSize `json:"goroutineStacks,omitempty"`
	// Goroutines are those that have one size of stack and were made by one go statement, those with the
	// most bytes of stack first; Sites where the objects of the Go heap were allocated that its memory
	// profile knows, those with the most bytes first. Both end after maxPlaces.
	Goroutines []Goroutines `json:"goroutines,omitempty"`
	Sites      []Site       `json:"sites,omitempty"`
	// Notes are what a reader must know: what could not be read, what changed meanwhile.
	Notes []string `json:"notes,omitempty"`

	// What Owner needs to know of a snapshot that was just taken, in order of address.
	chunks []chunkRange
	bias   uint64
}

// A Status is what /proc/PID/status and smaps_rollup say of the whole, in bytes.
type Status struct {
	Size          int64 `json:"size"`     // VmSize
	Resident      int64 `json:"resident"` // VmRSS
	ResidentAnon  int64 `json:"residentAnon"`
	ResidentFile  int64 `json:"residentFile"`
	ResidentShmem int64 `json:"residentShmem"`
	Peak          int64 `json:"peak"` // VmHWM
	Swap          int64 `json:"swap"`
	Locked        int64 `json:"locked"`
	PageTable     int64 `json:"pageTable"`
	Stack         int64 `json:"stack"`
	Threads       int   `json:"threads"`
	Rollup        int64 `json:"rollup"` // Rss of smaps_rollup; 0 where it may not be read
	// Changed is by how much the resident memory changed while the regions were read, at most.
	Changed int64 `json:"changed"`
}

// A StackSize counts the goroutine stacks of one size.
type StackSize struct {
	Bytes  uint64 `json:"bytes"` // of each
	Number int64  `json:"number"`
}

// A Place is a line of the source. A snapshot that is taken knows addresses only: who has symbols fills
// places in.
type Place struct {
	Func string `json:"func,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // 1-based
}

// Goroutines are those that one go statement made and whose stacks have one size.
type Goroutines struct {
	Number  int64  `json:"number"`
	Stack   uint64 `json:"stack"`   // bytes of each one's stack
	Created uint64 `json:"created"` // file address of the statement, as a return address; 0 where not known
	Place   Place  `json:"place"`   // of the statement
}

// A Site is a place at which objects of the Go heap were allocated, as far as the program's memory
// profile knows. Its numbers are estimates where the profile is of samples.
type Site struct {
	Region  uint64   `json:"region"` // start of the region that the objects are in
	Objects int64    `json:"objects"`
	Bytes   int64    `json:"bytes"`
	Stack   []uint64 `json:"stack"` // file addresses, as return addresses, the innermost first
	Place   Place    `json:"place"` // the line of the stack that a person would name
}

// maxPlaces bounds what is kept of goroutines and sites.
const maxPlaces = 1000

// Note adds a note, once.
func (s *Snapshot) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range s.Notes {
		if n == text {
			return
		}
	}
	s.Notes = append(s.Notes, text)
}

// Total is the sum over all regions.
func (s *Snapshot) Total() Columns {
	var c Columns
	for i := range s.Regions {
		c.Add(s.Regions[i].Columns)
	}
	return c
}

// A KindTotal is the sum over the regions of one kind.
type KindTotal struct {
	Kind Kind `json:"kind"`
	Columns
}

// ByKind are the totals of the kinds that are there, in the order of Kinds. PageTable and Free are
// among them and are not part of Total. A partial snapshot has what its status tells.
func (s *Snapshot) ByKind() []KindTotal {
	sums := map[Kind]*Columns{}
	add := func(k Kind, c Columns) {
		if sums[k] == nil {
			sums[k] = new(Columns)
		}
		sums[k].Add(c)
	}
	for i := range s.Regions {
		add(s.Regions[i].Kind, s.Regions[i].Columns)
	}
	if s.PageTable > 0 {
		add(PageTable, Columns{Size: s.PageTable, Committed: s.PageTable, Private: s.PageTable})
	}
	if s.Free.Size > 0 {
		add(Free, s.Free)
	}
	var all []KindTotal
	for _, k := range Kinds {
		if sums[k] != nil {
			all = append(all, KindTotal{k, *sums[k]})
		}
	}
	return all
}

// Layout of an x86-64 and arm64 address space with four levels of page tables: what user space may
// use (Documentation/arch/x86/x86_64/mm.rst).
const (
	userEnd  = 0x7ffffffff000
	pageSize = 4096
)

// countFree fills Free from the gaps between regions.
func (s *Snapshot) countFree() {
	s.Free = Columns{}
	gap := func(from, to uint64) {
		if to > from {
			n := int64(to - from)
			s.Free.Add(Columns{Size: n, Blocks: 1, Largest: n})
		}
	}
	at := uint64(pageSize)
	for i := range s.Regions {
		gap(at, s.Regions[i].Start)
		at = max(at, s.Regions[i].End)
	}
	gap(at, userEnd)
}

// runtimeOf is what of a Go runtime a snapshot is made with.
type runtimeOf struct {
	*goruntime.Runtime
	areas []goruntime.Area
}
