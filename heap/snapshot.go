// Package heap is the heap of a program at one instant as a graph of objects, and the questions that
// people ask of it: what is there, what keeps it, who allocated it, what would be free without it,
// what grew. A Snapshot is the graph; what is asked of it are pure functions over it.
//
// The graph knows no kernel and no language runtime: a Builder takes objects, references and roots
// from whoever read them. Everything is kept in flat arrays, so that a heap of ten million objects
// takes a few hundred megabytes and is saved, mapped into memory and compared as it stands.
package heap

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// IDs are dense indices into the tables of one Snapshot and mean nothing outside of it. Entry 0 of
// every table is the zero value and stands for "none" or "not known".
type (
	ObjectID    uint32
	TypeID      uint32
	FieldID     uint32
	RootID      uint32
	GoroutineID uint32 // not the runtime's number, which is Goroutine.Number
)

// An Origin says whose code declares a type.
type Origin uint8

// The origins. A type of none (string, []byte, an unknown one) is Builtin.
const (
	Builtin    Origin = iota
	Own               // the program's main module
	Dependency        // another module
	Standard          // the standard library
	Runtime           // the Go runtime
)

var originNames = [...]string{"builtin", "own", "dependency", "standard library", "runtime"}

func (o Origin) String() string {
	if int(o) < len(originNames) {
		return originNames[o]
	}
	return fmt.Sprintf("origin %d", o)
}

// A Type is what objects are of. Types are unique; objects whose type is not known have type 0.
type Type struct {
	// Name is the type as Go spells it with its package's name: "main.Session", "[]main.Session" for a
	// slice's array, "map[string]int" for the parts of a map, "string" for a string's bytes.
	Name string
	// Package is the import path of the package that declares the type, or the named type that an
	// array, map or pointer is of: "net/http"; "" where no package does.
	Package string
	// Kind is what it is made of, in Go's words: "struct", "slice", "string", "map", "chan", "func".
	Kind   string
	Origin Origin
	// File and Line say where it is declared: as the build recorded the path; "" and 0 when not known.
	File string
	Line int
}

// String is the name, or what stands for it where the type is not known.
func (t Type) String() string {
	if t.Name == "" {
		return profile.Unknown
	}
	return t.Name
}

// A Field is the place in an object, or in a root, that a reference is in.
type Field struct {
	// Name is the field's path within its type: "User", "mu.waiters", "[]" for any element of an array,
	// "[].Next", "[key]" and "[value]" of a map, "(interface)"; "" when not known.
	Name string
	File string // where it is declared, as Type.File
	Line int
}

// A RootKind says why a root is one.
type RootKind uint8

// The kinds of root, each with the spelling of its String.
const (
	Global     RootKind = iota + 1 // a package variable
	Local                          // a variable of a frame of a goroutine
	StackWord                      // a word of a goroutine's stack that no variable is known to be in
	Register                       // a register of a running thread
	Finalizer                      // runtime.SetFinalizer
	Cleanup                        // runtime.AddCleanup
	WeakHandle                     // weak.Pointer, unique.Handle
	Data                           // initialized or zeroed data that no variable is known to be in
	OtherRoot                      // anything else that the collector starts from
	rootKinds
)

var rootKindNames = [rootKinds]string{
	Global: "[globals]", Local: "[local vars]", StackWord: "[stack words]", Register: "[registers]", Finalizer: "[finalizers]",
	Cleanup: "[cleanups]", WeakHandle: "[weak handles]", Data: "[unnamed data]", OtherRoot: "[other roots]",
}

// String is the pseudo-frame under which the views show the roots of the kind: "[globals]".
func (k RootKind) String() string {
	if k > 0 && k < rootKinds {
		return rootKindNames[k]
	}
	return fmt.Sprintf("[roots of kind %d]", uint8(k))
}

// A Root is where the collector starts: what it refers to is live.
type Root struct {
	Kind RootKind
	// Name is what a person calls it: "main.reg" for a variable, "main.worker.scratch" for function and
	// local variable, the function's name for a stack word or a register, "" where there is none.
	Name string
	// Goroutine is whose stack it is in; 0 for roots of no goroutine.
	Goroutine GoroutineID
	// File and Line are where the variable is declared, or the line that the frame is at.
	File string
	Line int
}

// A Goroutine is one of a Go program.
type Goroutine struct {
	Number int64  // as the runtime prints it
	State  string // "running", "runnable", "waiting", "syscall", "dead", …
	// Wait is what it waits for, in the runtime's words: "chan receive", "select", "IO wait"; "" unless
	// it waits.
	Wait    string
	Blocked time.Duration   // how long it has waited; 0 when not known (the runtime notes it at a collection)
	Stack   profile.StackID // its frames, of Snapshot.Stacks
	Created profile.StackID // the go statement that made it, and what is known of its callers
	Bytes   int64           // size of its stack's memory, which is not in the heap
	// System says that the runtime made it for itself.
	System bool
}

// A Sampled object is one whose allocation the program's own memory profile recorded.
type Sampled struct {
	Object ObjectID
	Stack  profile.StackID // that allocated it, of Snapshot.Stacks
	// Count and Bytes are how many allocations it stands for, by the odds of being sampled.
	Count, Bytes float64
}

// A WasteKind says in which way memory holds nothing.
type WasteKind string

// The kinds of waste.
const (
	UnusedCapacity   WasteKind = "unused capacity"   // of slices: between length and capacity of the longest
	FreeMapSlots     WasteKind = "free map slots"    // slots of maps with nothing in them
	DuplicateStrings WasteKind = "duplicate strings" // bytes of strings that are equal to another
	BoxedScalars     WasteKind = "boxed scalars"     // small values that an interface or a pointer holds one by one
	Padding          WasteKind = "padding"           // between fields of structs, and at the end of slots
	HeldByPart       WasteKind = "held by a part"    // large objects of which only a small part is referred to
)

// A Waste is memory of one kind and cause that could be saved.
type Waste struct {
	Kind WasteKind
	Type TypeID // of the objects; of the slice's array, the map, the box
	// What tells the case from others of the type: the text of the string, the field that holds the
	// slice; "" where the type says it all.
	What    string
	Count   int64    // objects concerned
	Bytes   int64    // that hold nothing
	Of      int64    // that these objects take in all
	Example ObjectID // one of them; 0 where there is none
	Field   FieldID  // that holds them, where it is one
	Holder  TypeID   // in which that field is
}

// An Info is what is known of a snapshot as a whole.
type Info struct {
	Taken   time.Time
	PID     int    // process; 0 when not known
	Command string // the process's name
	Exe     string // path of the program
	BuildID string
	Go      string // release that built it: "go1.26.8"
	Module  string // path of its main module
	// How says how the memory was had: "forked", "copied", "running", "core"; Stopped is how long the
	// process stood still for it.
	How     string
	Stopped time.Duration
	// HeapAlloc is what the runtime itself counts as allocated, live and garbage not swept yet; Live is
	// what it found live at its last collection. 0 when not known.
	HeapAlloc, HeapLive int64
	// SampleRate is the mean distance in bytes of sampled allocations; 0 where the program does not
	// sample.
	SampleRate int64
	Warnings   []profile.Warning
}

// Warn adds a warning, or adds to the count of the same one.
func (i *Info) Warn(kind profile.WarningKind, count int64, text string) {
	for k := range i.Warnings {
		if w := &i.Warnings[k]; w.Kind == kind && w.Text == text {
			w.Count += count
			return
		}
	}
	i.Warnings = append(i.Warnings, profile.Warning{Kind: kind, Text: text, Count: count})
}

// A Snapshot is a heap at one instant. It is made by a Builder or opened from a file, does not change,
// and may be read by any number of goroutines. One that was opened is good until it is closed.
type Snapshot struct {
	Info       Info
	Types      []Type      // Types[0] is the zero Type
	Fields     []Field     // Fields[0] is the zero Field
	Roots      []Root      // Roots[0] is the zero Root
	Goroutines []Goroutine // Goroutines[0] is the zero Goroutine
	Frames     []profile.Frame
	Stacks     *profile.Stacks[profile.FrameID] // of Frames
	Sampled    []Sampled                        // in order of Object
	Waste      []Waste

	objects  columns
	outgoing references // of objects
	starting references // of roots
	close    func() error
}

// Columns are the objects, in order of address. Element 0 of each is 0.
type columns struct {
	address []uint64
	size    []uint32 // hugeSize where it does not fit
	kind    []TypeID
	huge    []hugeObject // in order of object
}

// HugeSize in a size stands for one that is in columns.huge.
const hugeSize = math.MaxUint32

type hugeObject struct {
	object ObjectID
	size   uint64
}

// References are the edges of the graph by where they start: those of x are [first[x], first[x+1]).
// A reference that is there several times, through several fields, is there as often.
type references struct {
	first []uint32
	to    []ObjectID
	field []FieldID
}

func (r *references) of(x uint32) ([]ObjectID, []FieldID) {
	from, to := r.first[x], r.first[x+1]
	return r.to[from:to:to], r.field[from:to:to]
}

// Len is the number of objects; their ids are 1 to Len.
func (s *Snapshot) Len() int { return len(s.objects.address) - 1 }

// ReferenceCount is the number of references between objects, and of roots to objects.
func (s *Snapshot) ReferenceCount() (objects, roots int) {
	return len(s.outgoing.to), len(s.starting.to)
}

// Address is where an object begins: a runtime address.
func (s *Snapshot) Address(id ObjectID) uint64 { return s.objects.address[id] }

// Size is what an object takes of the heap, in bytes: its slot, not only what its type needs. It is 0
// for what lies in the program's data.
func (s *Snapshot) Size(id ObjectID) uint64 {
	if n := s.objects.size[id]; n != hugeSize {
		return uint64(n)
	}
	return s.objects.hugeSize(id)
}

func (c *columns) hugeSize(id ObjectID) uint64 {
	i := sort.Search(len(c.huge), func(i int) bool { return c.huge[i].object >= id })
	if i < len(c.huge) && c.huge[i].object == id {
		return c.huge[i].size
	}
	return hugeSize
}

// TypeOf is an object's type; 0 where it is not known.
func (s *Snapshot) TypeOf(id ObjectID) TypeID { return s.objects.kind[id] }

// References are what an object refers to and the fields that do, in the order of the fields. The
// slices are the snapshot's own.
func (s *Snapshot) References(id ObjectID) ([]ObjectID, []FieldID) { return s.outgoing.of(uint32(id)) }

// RootReferences are what a root refers to.
func (s *Snapshot) RootReferences(id RootID) ([]ObjectID, []FieldID) {
	return s.starting.of(uint32(id))
}

// At is the object that an address lies in; 0 where it lies in none.
func (s *Snapshot) At(address uint64) ObjectID {
	i, exact := slices.BinarySearch(s.objects.address[1:], address)
	if exact {
		return ObjectID(i + 1)
	}
	if i > 0 && address-s.objects.address[i] < s.Size(ObjectID(i)) {
		return ObjectID(i)
	}
	return 0
}

// Close ends a snapshot that was opened from a file; nothing of it may be used any more. For others it
// does nothing.
func (s *Snapshot) Close() error {
	if s.close == nil {
		return nil
	}
	c := s.close
	s.close = nil
	return c()
}

// OriginOf says whose code a package is, of a program whose main module is module.
func OriginOf(pkg, module string) Origin {
	first, _, _ := strings.Cut(pkg, "/")
	switch {
	case pkg == "":
		return Builtin
	case pkg == "main", module != "" && (pkg == module || strings.HasPrefix(pkg, module+"/")):
		return Own
	case pkg == "runtime", strings.HasPrefix(pkg, "runtime/internal/"), strings.HasPrefix(pkg, "internal/runtime/"):
		return Runtime
	case strings.Contains(first, "."):
		return Dependency
	}
	return Standard
}

// FindTypes are the types that a person means: the one of this name, or full name, else those whose
// full names the pattern matches, of the kind that Priorities are of.
func (s *Snapshot) FindTypes(name string) ([]TypeID, error) {
	var exact, found []TypeID
	pattern, err := compilePattern(name)
	if err != nil {
		return nil, fmt.Errorf("type %q: %w", name, err)
	}
	for i := range s.Types {
		full := s.Types[i].FullName()
		if s.Types[i].String() == name || full == name {
			exact = append(exact, TypeID(i))
		} else if pattern.MatchString(full) {
			found = append(found, TypeID(i))
		}
	}
	if exact != nil {
		return exact, nil
	}
	return found, nil
}
