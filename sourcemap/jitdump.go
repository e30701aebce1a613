package sourcemap

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"unicode/utf8"
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
			code := jitCode{addr: addr, size: length, name: jitName([]byte(name)), lines: lines}
			if len(lines) > 0 && lines[0].file == "" {
				code.lines = inFile(lines, jitFrame(code.name).File)
			}
			codes = append(codes, code)
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
			if budget -= int(min(n, size/17)); budget < 0 {
				continue
			}
			lines := jitLines(r, addr, n)
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

// jitLines reads the n lines of the code at addr, each an address, a line, a column and the name of a
// file, or "\xff" for that of the line before. There are none where the bytes cannot be so.
//
// V8 frees the first name before it writes it (Node.js 20, PerfJitLogger::LogWriteDebugInfo): what the
// allocator has put into its first bytes, zeros among them, is in its place. Where that is so, and all
// lines are of one file, the lines are found from the record's size; their file is "" then.
func jitLines(r cursor, addr, n uint64) []jitLine {
	left := len(r.b) - r.pos
	if n == 0 || n > uint64(left)/17 {
		return nil
	}
	entry := func(r *cursor) (l jitLine, ok bool) {
		l.addr, l.line = r.uint(8), int(int32(r.uint(4)))
		r.uint(4) // column
		return l, !r.bad && l.line >= 0 && l.addr >= addr && l.addr-addr <= maxJITCode+elfHeader
	}
	begin, lines, file := r, make([]jitLine, 0, n), ""
	for range n {
		l, ok := entry(&r)
		name := r.cstring()
		if !ok || r.bad {
			break
		}
		if name != repeatedName {
			if file = plainName(name); file == "" {
				break
			}
		}
		if file == "" {
			break
		}
		l.file = file
		lines = append(lines, l)
	}
	if len(lines) == int(n) {
		return lines
	}
	// Up to 7 bytes follow the last line. Names are as long as each other, or else each line but the first
	// takes 18 bytes.
	for padding := range 8 {
		if each := (left - padding) / int(n); n > 1 && each*int(n) == left-padding && each > 18 {
			r, lines, file = begin, lines[:0], ""
			for range n {
				l, ok := entry(&r)
				name := r.take(each - 16)
				if !ok || r.bad {
					break
				}
				if len(lines) > 0 {
					if file = plainName(string(name[:len(name)-1])); file == "" || name[len(name)-1] != 0 {
						break
					}
				}
				l.file = file
				lines = append(lines, l)
			}
			if len(lines) == int(n) {
				lines[0].file = lines[1].file
				return lines
			}
		}
		r, lines = begin, lines[:0]
		first, ok := entry(&r)
		skip := left - 16 - 18*(int(n)-1) - padding
		if !ok || skip < 1 {
			return nil
		}
		r.take(skip)
		lines = append(lines, first)
		for uint64(len(lines)) < n {
			l, ok := entry(&r)
			if !ok || r.cstring() != repeatedName {
				break
			}
			lines = append(lines, l)
		}
		if len(lines) == int(n) && n > 1 {
			return lines
		}
	}
	return nil
}

// repeatedName stands for the name before.
const repeatedName = "\xff"

// plainName is a file's name as it may be printed, "" for what is none.
func plainName(name string) string {
	if name == "" || !utf8.ValidString(name) || jitName([]byte(name)) != name {
		return ""
	}
	return path.Clean(name)
}

// inFile gives lines their file; there are none where it is not known.
func inFile(lines []jitLine, file string) []jitLine {
	if file == "" {
		return nil
	}
	for i := range lines {
		lines[i].file = file
	}
	return lines
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
