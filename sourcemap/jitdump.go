package sourcemap

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
)

// parseJITDump reads a jitdump: a header and records, each with its size
// (tools/perf/Documentation/jitdump-specification.txt of Linux, version 1). A function's lines come
// in a record before it. Records of kinds not known are passed over; a last one without its end is
// being written. The error says why nothing can be read; what is damaged within ends the reading.
func parseJITDump(data []byte) ([]jitCode, error) {
	const (
		magic     = 0x4A695444 // "JiTD", by its writer's order of bytes
		codeLoad  = 0
		codeMove  = 1
		debugInfo = 2
		codeClose = 3
	)
	c := cursor{b: data, addrSize: 8}
	switch c.uint(4) {
	case magic:
	case 0x4454694A:
		c.big = true
	default:
		return nil, errors.New("it is no jitdump: it does not begin with JiTD")
	}
	version, size := c.uint(4), c.uint(4)
	if version != 1 || size < 40 || size > uint64(len(data)) {
		return nil, fmt.Errorf("its header is of version %d and %d bytes; only version 1 is known", version, size)
	}
	c.pos = int(size)

	var codes []jitCode
	byIndex := map[uint64]int{}       // a function's place in codes, by its number in the dump
	pending := map[uint64][]jitLine{} // lines of functions to come, by address
	budget := maxJIT / 16             // lines that are kept
	for len(codes) < maxJITCodes && len(data)-c.pos >= 16 {
		begin := c.pos
		kind, size := c.uint(4), c.uint(4)
		c.uint(8) // when
		if size < 16 || size > uint64(len(data)-begin) {
			break
		}
		r := c
		r.b = data[:begin+int(size)]
		c.pos = begin + int(size)
		switch kind {
		case codeLoad:
			r.uint(4) // process
			r.uint(4) // thread
			r.uint(8) // address in the dump's ELF file: the same
			addr, length, index := r.uint(8), r.uint(8), r.uint(8)
			name := r.cstring()
			lines := pending[addr]
			delete(pending, addr)
			if r.bad || !believable(addr, length) || name == "" {
				continue
			}
			byIndex[index] = len(codes)
			codes = append(codes, jitCode{addr: addr, size: length, name: jitName([]byte(name)), lines: lines})
		case codeMove:
			r.uint(8) // process and thread
			r.uint(8) // address in the ELF file
			from, to, length, index := r.uint(8), r.uint(8), r.uint(8), r.uint(8)
			at, ok := byIndex[index]
			if r.bad || !ok || !believable(to, length) {
				continue
			}
			moved := codes[at]
			if moved.addr != from {
				continue
			}
			moved.addr, moved.size = to, length
			moved.lines = slices.Clone(moved.lines)
			if budget -= len(moved.lines); budget < 0 {
				moved.lines = nil
			}
			for i := range moved.lines {
				moved.lines[i].addr += to - from
			}
			byIndex[index] = len(codes)
			codes = append(codes, moved)
		case debugInfo:
			addr, n := r.uint(8), r.uint(8)
			var lines []jitLine
			file := ""
			for range min(n, size/17) {
				l := jitLine{addr: r.uint(8), line: int(int32(r.uint(4)))}
				r.uint(4)                                // discriminator
				if name := r.cstring(); name != "\xff" { // the file of the entry before
					file = path.Clean(jitName([]byte(name)))
				}
				if budget--; r.bad || budget < 0 {
					break
				}
				if l.line < 0 || file == "." {
					continue
				}
				l.file = file
				lines = append(lines, l)
			}
			if len(pending) < 1<<16 {
				pending[addr] = lines
			}
		case codeClose:
			c.pos = len(data)
		}
	}
	placeLines(codes)
	return codes, nil
}

// elfHeader is what some writers (V8, LLVM) add to the addresses of lines, because perf makes an ELF
// file of each function, whose code begins behind its header (GEN_ELF_TEXT_OFFSET,
// tools/perf/util/genelf.h); others (perf's agent for Java) do not.
const elfHeader = 0x40

// placeLines puts the lines of functions in order and drops those outside. Whether elfHeader was added
// shows in that no function's lines begin at its begin.
func placeLines(codes []jitCode) {
	nearest := uint64(1 << 63)
	for _, c := range codes {
		for _, l := range c.lines {
			if l.addr >= c.addr {
				nearest = min(nearest, l.addr-c.addr)
			}
		}
	}
	shift := uint64(0)
	if nearest >= elfHeader {
		shift = elfHeader
	}
	for i := range codes {
		c := &codes[i]
		for j := range c.lines {
			c.lines[j].addr -= shift
		}
		c.lines = slices.DeleteFunc(c.lines, func(l jitLine) bool { return l.addr < c.addr || l.addr-c.addr >= c.size })
		slices.SortStableFunc(c.lines, func(a, b jitLine) int { return cmp.Compare(a.addr, b.addr) })
	}
}
