package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/huff0"
)

// Symbols of noise have no repetitions for zstd to find, only some that are more frequent; looking
// for repetitions costs it time and, through chance ones, bytes. Such columns are packed by Huffman
// codes alone. Each block of them is
//
//	uvarint  length of what follows << 1 | 1 if it is coded, 0 if it is stored
//	         the code and the symbols, as of klauspost/compress/huff0, in four streams

// huffmanBlock is how many symbols share a code.
const huffmanBlock = 64 << 10

// A scratch of huff0 keeps tables of some kilobytes.
var huffmanScratch = sync.Pool{New: func() any { return new(huff0.Scratch) }}

func huffman(b []byte) []byte {
	s := huffmanScratch.Get().(*huff0.Scratch)
	defer huffmanScratch.Put(s)
	var out []byte
	for len(b) > 0 {
		block := b[:min(len(b), huffmanBlock)]
		b = b[len(block):]
		s.Reuse = huff0.ReusePolicyNone
		coded, _, err := huff0.Compress4X(block, s)
		if err != nil || len(coded) >= len(block) { // incompressible, or too few to be worth it
			out = binary.AppendUvarint(out, uint64(len(block))<<1)
			out = append(out, block...)
			continue
		}
		out = binary.AppendUvarint(out, uint64(len(coded))<<1|1)
		out = append(out, coded...)
	}
	return out
}

// unhuffman expects exactly n bytes, and allocates no more.
func unhuffman(b []byte, n int) ([]byte, error) {
	s := huffmanScratch.Get().(*huff0.Scratch)
	defer huffmanScratch.Put(s)
	out := make([]byte, 0, n)
	for len(out) < n {
		head, k := binary.Uvarint(b)
		if k <= 0 || head>>1 > uint64(len(b)-k) {
			return nil, errors.New("a block of symbols is cut off")
		}
		block := b[k:][:head>>1]
		b = b[k+len(block):]
		size := min(n-len(out), huffmanBlock)
		if head&1 == 0 {
			if len(block) != size {
				return nil, fmt.Errorf("a block of %d symbols has %d", size, len(block))
			}
			out = append(out, block...)
			continue
		}
		_, rest, err := huff0.ReadTable(block, s)
		if err != nil {
			return nil, fmt.Errorf("the code of symbols: %w", err)
		}
		got, err := s.Decoder().Decompress4X(out[len(out):len(out):len(out)+size], rest)
		if err != nil {
			return nil, fmt.Errorf("symbols: %w", err)
		}
		if len(got) != size {
			return nil, fmt.Errorf("a block of %d symbols has %d", size, len(got))
		}
		out = out[:len(out)+size]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow on the last symbol", len(b))
	}
	return out, nil
}
