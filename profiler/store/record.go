package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Every value in the store is a record:
//
//	kind    1 byte   what the record holds, one of the constants below
//	format  1 byte   how its payload is encoded; 1 is the only one so far
//	crc32c  4 bytes  little endian, of kind, format and payload
//	payload
//
// bbolt keeps no checksum of its data pages, so a flipped bit would otherwise be read as a
// measurement.
const (
	recordFormat   = 'F' // the version of the whole file
	recordMeta     = 'M'
	recordChunk    = 'C'
	recordSymbols  = 'Y'
	recordSource   = 'S'
	recordText     = 'T'
	recordPreset   = 'P'
	recordSnapshot = 'H'
)

const (
	recordHeader = 6
	// recordV1 is the format byte of every kind of record.
	recordV1 = 1
)

// A record may make its reader allocate at most allowance + expansion × its length. The writer
// pads a record that compresses better than that, so the law holds for every record of ours and
// a small hostile file cannot ask for gigabytes.
const (
	allowance = 64 << 10
	expansion = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errRecord is what all decoding errors of records wrap.
var errRecord = errors.New("damaged record")

// seal makes a record of what e has gathered.
func (e *encoder) seal(kind byte) []byte {
	body := len(e.b)
	if short := e.cost - allowance - expansion*body; short > 0 {
		body += (short + expansion - 1) / expansion
	}
	r := make([]byte, recordHeader+body)
	r[0], r[1] = kind, recordV1
	copy(r[recordHeader:], e.b)
	binary.LittleEndian.PutUint32(r[2:], checksum(r))
	return r
}

func checksum(r []byte) uint32 {
	return crc32.Update(crc32.Checksum(r[:2], castagnoli), castagnoli, r[recordHeader:])
}

// unseal verifies a record and gives a decoder of its payload, which shares r's memory.
func unseal(kind byte, r []byte) (*decoder, error) {
	switch {
	case len(r) < recordHeader:
		return nil, fmt.Errorf("%w: %d bytes are too few", errRecord, len(r))
	case binary.LittleEndian.Uint32(r[2:]) != checksum(r):
		return nil, fmt.Errorf("%w: its checksum does not fit its content", errRecord)
	case r[0] != kind:
		return nil, fmt.Errorf("%w: kind %q stands where %q belongs", errRecord, r[0], kind)
	case r[1] != recordV1:
		return nil, fmt.Errorf("%w: format %d is not known", errRecord, r[1])
	}
	return &decoder{b: r[recordHeader:], budget: allowance + expansion*(len(r)-recordHeader)}, nil
}

// An encoder gathers a record's payload. The zero encoder is ready.
type encoder struct {
	b     []byte
	cost  int               // what decoding will charge to decoder.budget
	level zstd.EncoderLevel // 0 is SpeedDefault
}

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) byte(v byte)   { e.b = append(e.b, v) }
func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
	e.cost += len(s)
}

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

// count writes how many elements follow, each of size bytes in the reader's memory.
func (e *encoder) count(n, size int) {
	e.uint(uint64(n))
	e.cost += n * size
}

// bytes writes b compressed.
func (e *encoder) bytes(b []byte) {
	e.count(len(b), 1)
	e.packed(b)
}

// How packed bytes are stored, the low bits of their head.
const (
	packedPlain = iota
	packedZstd
	packedHuffman
)

// packed writes b compressed, or as it is where that is smaller. The reader has to know len(b).
func (e *encoder) packed(b []byte) {
	var best []byte
	if len(b) >= 16 {
		best = compress(b, e.level)
	}
	e.smaller(b, packedZstd, best)
}

// symbols is packed for what is a sequence of symbols rather than of texts.
func (e *encoder) symbols(b []byte) {
	if len(b) < 16 {
		e.smaller(b, packedPlain, nil)
		return
	}
	h, z := huffman(b), compress(b, e.level)
	if len(h) < len(z) {
		e.smaller(b, packedHuffman, h)
	} else {
		e.smaller(b, packedZstd, z)
	}
}

// smaller writes packed, or b as it is.
func (e *encoder) smaller(b []byte, method uint64, packed []byte) {
	if packed == nil || len(packed) >= len(b) {
		method, packed = packedPlain, b
	}
	e.uint(uint64(len(packed))<<2 | method)
	e.b = append(e.b, packed...)
}

// A decoder takes a payload apart. The first error stays; after it every method returns zero.
type decoder struct {
	b      []byte
	budget int // bytes of memory that may still be asked for
	err    error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errRecord, fmt.Sprintf(format, args...))
		d.b = nil
	}
}

// done is the decoder's error, or one that says that more follows than padding.
func (d *decoder) done() error {
	for _, b := range d.b {
		if b != 0 {
			d.fail("%d bytes are left over", len(d.b))
			break
		}
	}
	return d.err
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("a number is cut off")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// uint32 is for identifiers of tables.
func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail("%d is no identifier", v)
		return 0
	}
	return uint32(v)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number is cut off")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("a byte is missing")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool {
	v := d.byte()
	if v > 1 {
		d.fail("%d is neither true nor false", v)
	}
	return v == 1
}

// count reads how many elements follow and charges their memory.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(d.budget/size) {
		d.fail("%d elements of %d bytes are more than a record of this length can hold", n, size)
		return 0
	}
	d.budget -= int(n) * size
	return int(n)
}

// take is the next n bytes, shared.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("%d bytes are wanted and %d left", n, len(d.b))
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) string() string { return string(d.take(uint64(d.count(1)))) }

// bytes reads what encoder.bytes wrote, into memory of its own; never nil without an error.
func (d *decoder) bytes() []byte { return d.packed(d.count(1)) }

// packed reads what encoder.packed or symbols wrote. The caller has bounded n.
func (d *decoder) packed(n int) []byte {
	head := d.uint()
	b := d.take(head >> 2)
	if d.err != nil {
		return nil
	}
	var out []byte
	var err error
	switch head & 3 {
	case packedPlain:
		if len(b) != n {
			err = fmt.Errorf("%d bytes stand for %d", len(b), n)
		}
		out = append(make([]byte, 0, len(b)), b...)
	case packedZstd:
		out, err = decompress(b, n)
	case packedHuffman:
		out, err = unhuffman(b, n)
	default:
		err = fmt.Errorf("nothing is packed by method %d", head&3)
	}
	if err != nil {
		d.fail("%v", err)
		return nil
	}
	return out
}

// The compressors are shared: both are safe for concurrent EncodeAll, and cost megabytes each.
var (
	fastZstd    = sync.OnceValue(func() *zstd.Encoder { return newZstd(zstd.SpeedFastest) })
	defaultZstd = sync.OnceValue(func() *zstd.Encoder { return newZstd(zstd.SpeedDefault) })
	unZstd      = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

func newZstd(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(2),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

func compress(b []byte, level zstd.EncoderLevel) []byte {
	if level == zstd.SpeedFastest {
		return fastZstd().EncodeAll(b, nil)
	}
	return defaultZstd().EncodeAll(b, nil)
}

// decompress expects exactly n bytes, and allocates no more.
func decompress(b []byte, n int) ([]byte, error) {
	out, err := unZstd().DecodeAll(b, make([]byte, 0, n))
	if err != nil {
		return nil, fmt.Errorf("compressed data: %w", err)
	}
	if len(out) != n {
		return nil, fmt.Errorf("compressed data hold %d bytes, not %d", len(out), n)
	}
	return out, nil
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// bitLen is bits.Len64, as the codecs count.
func bitLen(v uint64) int { return bits.Len64(v) }
