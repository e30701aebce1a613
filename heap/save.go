package heap

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"time"
	"unsafe"
)

// The file of a snapshot: little-endian, every part at a multiple of 64 bytes.
//
//	offset  bytes
//	0       8      fileMagic
//	8       4      fileVersion
//	12      4      number of parts
//	16      8      size of the file
//	24      4      CRC-32C of the table of parts
//	28      4      0
//	32      32     0
//	64      32 × n table of parts: number (4), CRC-32C of the part (4), offset (8), bytes (8), 0 (8)
//
// The parts but partTables are arrays, as they are in memory: a file that is mapped is a snapshot
// without a copy. PartTables is the rest, in varints and texts; see appendTables.
const (
	fileMagic   = "SLHEAP\r\n"
	fileVersion = 1

	headBytes  = 64
	entryBytes = 32
	partAlign  = 64
)

// The numbers of the parts.
const (
	partTables = iota + 1
	partAddress
	partSize
	partKind
	partHuge
	partOutFirst
	partOutTo
	partOutField
	partStartFirst
	partStartTo
	partStartField
	partSampled
	partsEnd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// Sniff says whether a file that begins with head is a saved snapshot.
func Sniff(head []byte) bool {
	return len(head) >= len(fileMagic) && string(head[:len(fileMagic)]) == fileMagic
}

// BytesOf is an array as it lies in memory. The elements have no pointers and no padding.
func bytesOf[T uint32 | uint64 | TypeID | ObjectID | FieldID | hugeRecord | sampledRecord](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(*new(T))))
}

// Records of the file for what has padding, or room for it, in memory.
type (
	hugeRecord    struct{ object, size uint64 }
	sampledRecord struct {
		object, stack uint32
		count, bytes  uint64 // of math.Float64bits
	}
)

// Write saves a snapshot; Open and Parse read it.
func (s *Snapshot) Write(w io.Writer) error {
	huge := make([]hugeRecord, len(s.objects.huge))
	for i, x := range s.objects.huge {
		huge[i] = hugeRecord{uint64(x.object), x.size}
	}
	sampled := make([]sampledRecord, len(s.Sampled))
	for i, x := range s.Sampled {
		sampled[i] = sampledRecord{uint32(x.Object), uint32(x.Stack), math.Float64bits(x.Count), math.Float64bits(x.Bytes)}
	}
	parts := [partsEnd][]byte{
		partTables:  s.appendTables(nil),
		partAddress: bytesOf(s.objects.address), partSize: bytesOf(s.objects.size), partKind: bytesOf(s.objects.kind),
		partHuge:     bytesOf(huge),
		partOutFirst: bytesOf(s.outgoing.first), partOutTo: bytesOf(s.outgoing.to), partOutField: bytesOf(s.outgoing.field),
		partStartFirst: bytesOf(s.starting.first), partStartTo: bytesOf(s.starting.to), partStartField: bytesOf(s.starting.field),
		partSampled: bytesOf(sampled),
	}
	le := binary.LittleEndian
	var table []byte
	at := uint64(headBytes + entryBytes*(partsEnd-1))
	for n := 1; n < partsEnd; n++ {
		at = (at + partAlign - 1) &^ (partAlign - 1)
		table = le.AppendUint32(table, uint32(n))
		table = le.AppendUint32(table, checksum(parts[n]))
		table = le.AppendUint64(table, at)
		table = le.AppendUint64(table, uint64(len(parts[n])))
		table = le.AppendUint64(table, 0)
		at += uint64(len(parts[n]))
	}
	head := append([]byte(nil), fileMagic...)
	head = le.AppendUint32(head, fileVersion)
	head = le.AppendUint32(head, partsEnd-1)
	head = le.AppendUint64(head, at)
	head = le.AppendUint32(head, checksum(table))
	head = append(head, make([]byte, headBytes-len(head))...)
	out := bufio.NewWriterSize(w, 1<<16)
	written := 0
	put := func(data []byte) error {
		written += len(data)
		_, err := out.Write(data)
		return err
	}
	if err := put(append(head, table...)); err != nil {
		return err
	}
	var zeros [partAlign]byte
	for n := 1; n < partsEnd; n++ {
		if err := put(zeros[:-written&(partAlign-1)]); err != nil {
			return err
		}
		if err := put(parts[n]); err != nil {
			return err
		}
	}
	return out.Flush()
}

// AppendTables encodes all but the arrays: integers as varints, texts once each and by number after.
func (s *Snapshot) appendTables(b []byte) []byte {
	w := tableWriter{texts: map[string]uint64{}}
	i := &s.Info
	w.time(i.Taken)
	w.int(int64(i.PID))
	for _, x := range []string{i.Command, i.Exe, i.BuildID, i.Go, i.Module, i.How} {
		w.text(x)
	}
	for _, x := range []int64{int64(i.Stopped), i.HeapAlloc, i.HeapLive, i.SampleRate} {
		w.int(x)
	}
	w.uint(uint64(len(i.Warnings)))
	for _, x := range i.Warnings {
		w.text(string(x.Kind))
		w.text(x.Text)
		w.int(x.Count)
	}
	w.uint(uint64(len(s.Types) - 1))
	for _, x := range s.Types[1:] {
		w.text(x.Name)
		w.text(x.Package)
		w.text(x.Kind)
		w.uint(uint64(x.Origin))
		w.text(x.File)
		w.int(int64(x.Line))
	}
	w.uint(uint64(len(s.Fields) - 1))
	for _, x := range s.Fields[1:] {
		w.text(x.Name)
		w.text(x.File)
		w.int(int64(x.Line))
	}
	w.uint(uint64(len(s.Frames) - 1))
	for _, x := range s.Frames[1:] {
		w.text(x.Func)
		w.text(x.File)
		w.text(x.Module)
		w.int(int64(x.Line))
		w.int(int64(x.Column))
		w.int(int64(x.StartLine))
		w.bits(x.Inlined, x.Entry)
	}
	parents, leaves := s.Stacks.Columns()
	w.uint(uint64(len(parents) - 1))
	for i := range parents[1:] {
		w.uint(uint64(parents[i+1]))
		w.uint(uint64(leaves[i+1]))
	}
	w.uint(uint64(len(s.Goroutines) - 1))
	for _, x := range s.Goroutines[1:] {
		w.int(x.Number)
		w.text(x.State)
		w.text(x.Wait)
		w.int(int64(x.Blocked))
		w.uint(uint64(x.Stack))
		w.uint(uint64(x.Created))
		w.int(x.Bytes)
		w.bits(x.System)
	}
	w.uint(uint64(len(s.Roots) - 1))
	for _, x := range s.Roots[1:] {
		w.uint(uint64(x.Kind))
		w.text(x.Name)
		w.uint(uint64(x.Goroutine))
		w.text(x.File)
		w.int(int64(x.Line))
	}
	w.uint(uint64(len(s.Waste)))
	for _, x := range s.Waste {
		w.text(string(x.Kind))
		w.uint(uint64(x.Type))
		w.text(x.What)
		w.int(x.Count)
		w.int(x.Bytes)
		w.int(x.Of)
		w.uint(uint64(x.Example))
		w.uint(uint64(x.Field))
		w.uint(uint64(x.Holder))
	}
	return append(b, w.b...)
}

type tableWriter struct {
	b     []byte
	texts map[string]uint64 // numbers, from 1
}

func (w *tableWriter) uint(x uint64) { w.b = binary.AppendUvarint(w.b, x) }
func (w *tableWriter) int(x int64)   { w.b = binary.AppendVarint(w.b, x) }

// Text writes a text that was written before as its number, another as 0 and the text.
func (w *tableWriter) text(x string) {
	if n, ok := w.texts[x]; ok {
		w.uint(n)
		return
	}
	w.texts[x] = uint64(len(w.texts) + 1)
	w.uint(0)
	w.uint(uint64(len(x)))
	w.b = append(w.b, x...)
}

func (w *tableWriter) bits(x ...bool) {
	n := uint64(0)
	for i, on := range x {
		if on {
			n |= 1 << i
		}
	}
	w.uint(n)
}

func (w *tableWriter) time(x time.Time) {
	if x.IsZero() {
		w.int(0)
		return
	}
	w.int(x.UnixNano())
}
