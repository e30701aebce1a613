package heap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The kinds of failure to open a snapshot that callers tell apart with errors.Is.
var (
	ErrForeign = errors.New("it is no heap snapshot")
	ErrNewer   = errors.New("it was saved by a newer Sightline; update this one")
	ErrDamaged = errors.New("it is damaged; take or copy it again")
)

// Open maps a saved snapshot into memory, checks it, and is good until Close. The file must not be
// changed in place meanwhile; replacing and removing it is no harm. Errors wrap ErrForeign, ErrNewer,
// ErrDamaged or what the system said.
func Open(path string) (*Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open heap snapshot %s: %w", path, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open heap snapshot %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() || info.Size() < headBytes || info.Size() > math.MaxInt {
		return nil, fmt.Errorf("open heap snapshot %s: %w", path, ErrForeign)
	}
	// Populated at once: all of it is checked.
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map heap snapshot %s into memory: %w", path, err)
	}
	s, err := Parse(data)
	if err != nil {
		unix.Munmap(data)
		return nil, fmt.Errorf("open heap snapshot %s: %w", path, err)
	}
	s.close = func() error { return unix.Munmap(data) }
	return s, nil
}

func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Parse makes a snapshot of a saved one's bytes, which it goes on using where they are: they must not
// change. It checks everything.
func Parse(data []byte) (*Snapshot, error) {
	le := binary.LittleEndian
	switch {
	case !Sniff(data):
		return nil, ErrForeign
	case len(data) < headBytes:
		return nil, ErrDamaged
	case le.Uint32(data[8:]) > fileVersion:
		return nil, ErrNewer
	case le.Uint32(data[8:]) != fileVersion || le.Uint32(data[12:]) != partsEnd-1 || le.Uint64(data[16:]) != uint64(len(data)):
		return nil, ErrDamaged
	case len(data) < headBytes+entryBytes*(partsEnd-1):
		return nil, ErrDamaged
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))%partAlign != 0 {
		data = aligned(data)
	}
	table := data[headBytes : headBytes+entryBytes*(partsEnd-1)]
	if checksum(table) != le.Uint32(data[24:]) {
		return nil, ErrDamaged
	}
	var parts [partsEnd][]byte
	var sums [partsEnd]uint32
	for n := 1; n < partsEnd; n++ {
		e := table[entryBytes*(n-1):]
		at, size := le.Uint64(e[8:]), le.Uint64(e[16:])
		if le.Uint32(e) != uint32(n) || at%partAlign != 0 || at > uint64(len(data)) || size > uint64(len(data))-at {
			return nil, ErrDamaged
		}
		parts[n], sums[n] = data[at:at+size:at+size], le.Uint32(e[4:])
	}
	var wait sync.WaitGroup
	var sound [2]bool
	verify := func(i int, numbers ...int) {
		sound[i] = true
		for _, n := range numbers {
			sound[i] = sound[i] && checksum(parts[n]) == sums[n]
		}
	}
	wait.Go(func() { verify(0, partOutFirst, partOutTo, partOutField, partStartFirst, partStartTo, partStartField) })
	verify(1, partTables, partAddress, partSize, partKind, partHuge, partSampled)
	wait.Wait()
	if !sound[0] || !sound[1] {
		return nil, fmt.Errorf("%w (a checksum is wrong)", ErrDamaged)
	}
	s := &Snapshot{}
	if err := s.take(&parts); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return s, nil
}

// Aligned is a copy of a file's bytes where its arrays may lie.
func aligned(data []byte) []byte {
	words := make([]uint64, (len(data)+partAlign)/8+1)
	b := bytesOf(words)
	if off := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % partAlign); off != 0 {
		b = b[partAlign-off:]
	}
	b = b[:len(data):len(data)]
	copy(b, data)
	return b
}

// Array is a part as it lies in the file; ok is false unless it is a whole number of elements.
func array[T uint32 | uint64 | TypeID | ObjectID | FieldID | hugeRecord | sampledRecord](part []byte) (x []T, ok bool) {
	size := int(unsafe.Sizeof(*new(T)))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(part))), len(part)/size), len(part)%size == 0
}

func (s *Snapshot) take(parts *[partsEnd][]byte) error {
	whole := true
	keep := func(ok bool) { whole = whole && ok }
	var ok bool
	s.objects.address, ok = array[uint64](parts[partAddress])
	keep(ok)
	s.objects.size, ok = array[uint32](parts[partSize])
	keep(ok)
	s.objects.kind, ok = array[TypeID](parts[partKind])
	keep(ok)
	huge, ok := array[hugeRecord](parts[partHuge])
	keep(ok)
	s.outgoing.first, ok = array[uint32](parts[partOutFirst])
	keep(ok)
	s.outgoing.to, ok = array[ObjectID](parts[partOutTo])
	keep(ok)
	s.outgoing.field, ok = array[FieldID](parts[partOutField])
	keep(ok)
	s.starting.first, ok = array[uint32](parts[partStartFirst])
	keep(ok)
	s.starting.to, ok = array[ObjectID](parts[partStartTo])
	keep(ok)
	s.starting.field, ok = array[FieldID](parts[partStartField])
	keep(ok)
	sampled, ok := array[sampledRecord](parts[partSampled])
	keep(ok)
	if !whole {
		return errors.New("an array ends within an element")
	}
	for _, x := range huge {
		if x.object > math.MaxUint32 {
			return errors.New("a large object has a number that is too great")
		}
		s.objects.huge = append(s.objects.huge, hugeObject{ObjectID(x.object), x.size})
	}
	s.Sampled = make([]Sampled, len(sampled))
	for i, x := range sampled {
		s.Sampled[i] = Sampled{ObjectID(x.object), profile.StackID(x.stack), math.Float64frombits(x.count), math.Float64frombits(x.bytes)}
	}
	if err := s.parseTables(parts[partTables]); err != nil {
		return err
	}
	return s.Check()
}

func (s *Snapshot) parseTables(data []byte) error {
	r := &tableReader{b: data, texts: make([]string, 1)}
	i := &s.Info
	if n := r.int(); n != 0 {
		i.Taken = time.Unix(0, n)
	}
	i.PID = r.small()
	for _, x := range []*string{&i.Command, &i.Exe, &i.BuildID, &i.Go, &i.Module, &i.How} {
		*x = r.text()
	}
	i.Stopped = time.Duration(r.int())
	i.HeapAlloc, i.HeapLive, i.SampleRate = r.int(), r.int(), r.int()
	for range r.length(3) {
		i.Warnings = append(i.Warnings, profile.Warning{Kind: profile.WarningKind(r.text()), Text: r.text(), Count: r.int()})
	}
	n := r.length(6)
	s.Types = make([]Type, 1, n+1)
	for range n {
		s.Types = append(s.Types, Type{Name: r.text(), Package: r.text(), Kind: r.text(), Origin: Origin(r.below(256)), File: r.text(), Line: r.small()})
	}
	n = r.length(3)
	s.Fields = make([]Field, 1, n+1)
	for range n {
		s.Fields = append(s.Fields, Field{Name: r.text(), File: r.text(), Line: r.small()})
	}
	n = r.length(7)
	s.Frames = make([]profile.Frame, 1, n+1)
	for range n {
		f := profile.Frame{Func: r.text(), File: r.text(), Module: r.text(), Line: r.small(), Column: r.small(), StartLine: r.small()}
		bits := r.below(4)
		f.Inlined, f.Entry = bits&1 != 0, bits&2 != 0
		s.Frames = append(s.Frames, f)
	}
	n = r.length(2)
	parents, leaves := make([]profile.StackID, 1, n+1), make([]profile.FrameID, 1, n+1)
	for range n {
		parents, leaves = append(parents, profile.StackID(r.below(1<<32))), append(leaves, profile.FrameID(r.below(1<<32)))
	}
	s.Stacks = profile.StacksOf(parents, leaves)
	n = r.length(8)
	s.Goroutines = make([]Goroutine, 1, n+1)
	for range n {
		s.Goroutines = append(s.Goroutines, Goroutine{
			Number: r.int(), State: r.text(), Wait: r.text(), Blocked: time.Duration(r.int()), Stack: profile.StackID(r.below(1 << 32)),
			Created: profile.StackID(r.below(1 << 32)), Bytes: r.int(), System: r.below(2) == 1,
		})
	}
	n = r.length(5)
	s.Roots = make([]Root, 1, n+1)
	for range n {
		s.Roots = append(s.Roots, Root{Kind: RootKind(r.below(256)), Name: r.text(), Goroutine: GoroutineID(r.below(1 << 32)), File: r.text(), Line: r.small()})
	}
	n = r.length(9)
	for range n {
		s.Waste = append(s.Waste, Waste{
			Kind: WasteKind(r.text()), Type: TypeID(r.below(1 << 32)), What: r.text(), Count: r.int(), Bytes: r.int(), Of: r.int(),
			Example: ObjectID(r.below(1 << 32)), Field: FieldID(r.below(1 << 32)), Holder: TypeID(r.below(1 << 32)),
		})
	}
	if len(r.b) > 0 {
		r.bad = true
	}
	if r.bad {
		return errors.New("the tables do not end where they should")
	}
	return nil
}

// A tableReader reads what a tableWriter wrote; after the first mistake everything is 0.
type tableReader struct {
	b     []byte
	texts []string // by number, from 1
	bad   bool
}

func (r *tableReader) uint() uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *tableReader) int() int64 {
	x, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *tableReader) fail() { r.b, r.bad = nil, true }

func (r *tableReader) below(end uint64) uint64 {
	x := r.uint()
	if x >= end {
		r.fail()
		return 0
	}
	return x
}

// Small is an integer of 32 bits.
func (r *tableReader) small() int {
	x := r.int()
	if x != int64(int32(x)) {
		r.fail()
		return 0
	}
	return int(x)
}

// Length is that of a table of which each element takes at least so many bytes.
func (r *tableReader) length(least int) int {
	n := r.uint()
	if n > uint64(len(r.b)/least) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *tableReader) text() string {
	n := r.uint()
	if n > 0 {
		if n >= uint64(len(r.texts)) {
			r.fail()
			return ""
		}
		return r.texts[n]
	}
	size := r.uint()
	if size > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	text := string(r.b[:size])
	r.b = r.b[size:]
	r.texts = append(r.texts, text)
	return text
}
