// Package goruntime reads the Go runtime as data: where its heap is and what its own structures say of
// it. It works on an image of memory, of a process that runs on or of a core file, and never stops,
// writes to or asks anything of the program.
//
// Spans, Areas and Stacks say what the runtime's memory is used for. Heap reads the objects: their types,
// what refers to them, where they were allocated and what of them is wasted.
//
// What it knows of the runtime's structures it has from the DWARF of the very program, by name; for
// programs without DWARF from a table by Go release, which is made from DWARF too. It imports nothing
// of ours and knows neither processes nor snapshots, so that both the heap and the memory map can use
// it.
//
// A program that runs changes while it is read. Every value is checked against bounds before it is
// followed, and what does not hold is left out: a result may lack what changed, it is never an
// endless or an oversized one.
package goruntime

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotGo says that a file is no Go program.
var ErrNotGo = errors.New("it is no Go program")

// HeapPage is the size of the runtime's own pages (runtime.pageSize), of which spans are made.
const HeapPage = 8192

// A Runtime is the Go runtime in one image of memory. Its methods may be called one at a time.
type Runtime struct {
	// Version is the Go release that built the program: "go1.26.8".
	Version string
	// Module is the path of the program's main module, BuildID the GNU build ID in hexadecimal, or else
	// Go's; "" where it has none.
	Module, BuildID string
	// Layout says where the offsets are from: "DWARF" or "table for go1.26".
	Layout string

	mem     *memory
	layout  layout
	symbols map[string]uint64 // runtime addresses of the variables that are used; 0 where not known
	base    uint64            // arena base offset, added to index × arenaBytes
	entry   uint64            // file address where the program begins
	build   string            // what tells its build from others
	bias    uint64            // how far the program was moved
	amd64   bool
	debug   *debugInfo // nil where the program has no DWARF
	code    []Section  // the program's own sections, by runtime address
}

// arenaBytes is heapArenaBytes of 64-bit Linux (runtime/malloc.go).
const arenaBytes = 64 << 20

// Open finds the runtime of the program exe in mem, a reader of runtime addresses. Bias is how far the
// program was moved when it was loaded (0 unless it is position-independent). The error wraps ErrNotGo
// where exe is of another language. Open keeps mem, and does not close exe.
func Open(exe io.ReaderAt, bias uint64, mem io.ReaderAt) (*Runtime, error) {
	f, err := elf.NewFile(exe)
	if err != nil {
		return nil, fmt.Errorf("read it as ELF: %w", err)
	}
	defer f.Close()
	info, err := buildinfo.Read(exe)
	if err != nil {
		if f.Section(".go.buildinfo") == nil && f.Section(".gopclntab") == nil {
			return nil, ErrNotGo
		}
		info = &buildinfo.BuildInfo{}
	}
	if f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian {
		return nil, fmt.Errorf("the Go runtime of %s, %s is not read; it is for 64-bit little-endian programs", f.Class, f.Data)
	}
	r := &Runtime{Version: strings.TrimPrefix(info.GoVersion, "devel "), mem: newMemory(mem)}
	if f.Machine == elf.EM_X86_64 {
		r.base = 0xffff800000000000 // arenaBaseOffset, runtime/malloc.go
	}
	r.debug, err = debugInfoOf(f)
	if err == nil {
		r.layout, err = layoutFromDWARF(r.debug)
	}
	if err == nil {
		r.Layout = "DWARF"
	} else {
		r.debug = nil
		release, known := layoutOf(r.Version)
		if known == nil {
			return nil, fmt.Errorf("the layout of %s is not known: %w; build the program without -ldflags=-w", orUnknown(r.Version), err)
		}
		r.layout, r.Layout = known, "table for "+release
	}
	r.Module, r.BuildID = info.Main.Path, buildIDOf(f)
	r.entry, r.build = f.Entry, buildIDs(f)
	r.bias, r.amd64, r.code = bias, f.Machine == elf.EM_X86_64, sectionsOf(f, bias)
	r.symbols = readSymbols(f, bias)
	if r.symbols["runtime.mheap_"] == 0 {
		at, err := r.searchHeap(f, bias)
		if err != nil {
			return nil, err
		}
		r.symbols["runtime.mheap_"] = at
	}
	if !r.plausibleHeap(r.symbols["runtime.mheap_"]) {
		return nil, errors.New("the Go runtime's heap is not where its symbols say: it has not started, or the file is not the one that runs")
	}
	return r, nil
}

func orUnknown(version string) string {
	if version == "" {
		return "an unknown Go release"
	}
	return version
}

// A Limit is what keeps the heap from growing, as the runtime has it now.
type Limit struct {
	Collections uint32 // garbage collections so far
	Percent     int64  // GOGC; -1 is off
	Bytes       int64  // GOMEMLIMIT; math.MaxInt64 is none
}

// Limit reads the garbage collector's settings; false where they are not known.
func (r *Runtime) Limit() (Limit, bool) {
	stats, control := r.symbols["runtime.memstats"], r.symbols["runtime.gcController"]
	if stats == 0 || control == 0 || !r.layout.has("mstats.numgc", "gcControllerState.gcPercent", "gcControllerState.memoryLimit") {
		return Limit{}, false
	}
	var l Limit
	collections, ok1 := r.field(stats, "mstats.numgc")
	percent, ok2 := r.field(control, "gcControllerState.gcPercent")
	limit, ok3 := r.field(control, "gcControllerState.memoryLimit")
	l.Collections, l.Percent, l.Bytes = uint32(collections), int64(int32(percent)), int64(limit)
	return l, ok1 && ok2 && ok3
}

// field reads a field of the structure at base; what is not known, or cannot be read, is false.
func (r *Runtime) field(base uint64, name string) (uint64, bool) {
	f, ok := r.layout[name]
	if !ok || base == 0 {
		return 0, false
	}
	return r.mem.uint(base+f.Offset, f.Size)
}

// pointer is field for a field that is a word; 0 where it cannot be had.
func (r *Runtime) pointer(base uint64, name string) uint64 {
	v, _ := r.field(base, name)
	return v
}

// plausibleHeap says whether what is at an address looks like runtime.mheap_ of a program that has
// started.
func (r *Runtime) plausibleHeap(at uint64) bool {
	slice := func(name string) (data, n, room uint64, ok bool) {
		f, known := r.layout[name]
		if !known {
			return
		}
		var all [24]byte
		if !r.mem.read(all[:], at+f.Offset) {
			return
		}
		return binary.LittleEndian.Uint64(all[:]), binary.LittleEndian.Uint64(all[8:]), binary.LittleEndian.Uint64(all[16:]), true
	}
	spans, n, room, ok := slice("mheap.allspans")
	if !ok || spans == 0 || spans%8 != 0 || n == 0 || n > room || room > maxSpans {
		return false
	}
	arenas, n, room, ok := slice("mheap.heapArenas")
	if !ok || arenas == 0 || arenas%8 != 0 || n == 0 || n > room || room > maxArenas {
		return false
	}
	first, ok := r.mem.uint(spans, 8)
	if !ok || first%8 != 0 {
		return false
	}
	start, ok1 := r.field(first, "mspan.startAddr")
	pages, ok2 := r.field(first, "mspan.npages")
	return ok1 && ok2 && start != 0 && start%HeapPage == 0 && pages > 0 && pages < 1<<32
}

// searchHeap looks for runtime.mheap_ in the variables of a program without symbols: it is the only
// structure there with the two slices at their offsets that lead to a span.
func (r *Runtime) searchHeap(f *elf.File, bias uint64) (uint64, error) {
	for _, name := range []string{".bss", ".noptrbss", ".data", ".noptrdata"} {
		s := f.Section(name)
		if s == nil || s.Size > 1<<30 {
			continue
		}
		for at := (s.Addr + bias + 7) &^ 7; at < s.Addr+bias+s.Size; at += 8 {
			if r.plausibleHeap(at) {
				return at, nil
			}
		}
	}
	return 0, errors.New("the Go runtime's heap was not found: the program has no symbols, and nothing in its variables looks like it")
}
