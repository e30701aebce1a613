package freeze

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"
)

// An Image is the memory, the threads and the program of a process at an instant. It is safe for
// concurrent use until Close, after which nothing of it may be touched.
//
// What it has is mapped from files: a core file that somebody shortens while it is open makes ReadAt fail,
// and ends a program that reads what Bytes gave.
type Image struct {
	meta    meta
	machine elf.Machine
	regions []Region
	threads []Thread
	auxv    []byte
	pieces  []piece // by address, none overlaps another

	file *os.File // the core, which is what every image is kept as
	maps [][]byte // what Close unmaps

	exe     *os.File // nil where the program is not here
	exePath string
	exeErr  error // why not
	bias    uint64
	entry   uint64 // AT_ENTRY, or as Delve's note has it; 0 is unknown
	live    bool   // taken of a process just now, not read from a core
}

// A piece is memory that the image has at hand.
type piece struct {
	start, end uint64
	data       []byte
}

// Close gives back what the image uses.
func (i *Image) Close() error {
	var errs []error
	for _, m := range i.maps {
		errs = append(errs, unix.Munmap(m))
	}
	i.maps, i.pieces = nil, nil
	if i.exe != nil {
		errs = append(errs, i.exe.Close())
	}
	if i.file != nil {
		errs = append(errs, i.file.Close())
	}
	i.exe, i.file = nil, nil
	return errors.Join(errs...)
}

// find is the piece that has the byte at an address, or the first one after it.
func (i *Image) find(at uint64) (int, bool) {
	k, found := slices.BinarySearchFunc(i.pieces, at, func(p piece, at uint64) int { return cmp.Compare(p.start, at) })
	if !found && k > 0 && at < i.pieces[k-1].end {
		return k - 1, true
	}
	return k, found
}

// ReadAt reads memory at a runtime address. Where the image has nothing it stops, with io.ErrUnexpectedEOF
// and the bytes read so far.
func (i *Image) ReadAt(p []byte, addr int64) (n int, err error) {
	// A file may have been shortened since it was mapped; the fault becomes an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r)
			}
			err = fmt.Errorf("read memory at %#x: its file was shortened since it was opened", uint64(addr)+uint64(n))
		}
	}()
	for n < len(p) {
		at := uint64(addr) + uint64(n)
		k, found := i.find(at)
		if !found {
			return n, io.ErrUnexpectedEOF
		}
		n += copy(p[n:], i.pieces[k].data[at-i.pieces[k].start:])
	}
	return n, nil
}

// Bytes are n bytes at a runtime address as the image has them: read-only, and gone after Close. It is nil
// where the image has not all of them in one piece; ReadAt may still put them together.
func (i *Image) Bytes(addr, n uint64) []byte {
	k, found := i.find(addr)
	if !found {
		return nil
	}
	p := &i.pieces[k]
	if n > p.end-addr {
		return nil
	}
	return p.data[addr-p.start:][:n:n]
}

// Executable is the very program of the process: the file that it ran, though it may have been replaced
// since, or the one that a core file names or was opened with, whose build ID is that in the core. The
// path is the one in the process's own file system; bias is how far the program was moved when it was
// loaded: runtime address less file address. The file is the image's.
func (i *Image) Executable() (file *os.File, path string, bias uint64, err error) {
	if i.exe == nil {
		return nil, i.exePath, 0, i.exeErr
	}
	return i.exe, i.exePath, i.bias, nil
}

// mapFile maps a file to read it.
func (i *Image) mapFile(f *os.File, size int64) ([]byte, error) {
	if size <= 0 || size > 1<<46 {
		return nil, io.ErrUnexpectedEOF
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	i.maps = append(i.maps, m)
	return m, nil
}

// backing is what a file has of a region where the image has nothing.
func (i *Image) backing(r *Region, data []byte) []piece {
	if r.Offset >= uint64(len(data)) {
		return nil
	}
	var fresh []piece
	add := func(from, to uint64) {
		at := from - r.Start + r.Offset
		last := min(to-r.Start+r.Offset, uint64(len(data)))
		if from < to && at < last {
			fresh = append(fresh, piece{from, from + last - at, data[at:last:last]})
		}
	}
	at := r.Start
	k, _ := i.find(r.Start)
	for ; k < len(i.pieces) && i.pieces[k].start < r.End; k++ {
		add(at, i.pieces[k].start)
		at = max(at, i.pieces[k].end)
	}
	add(at, r.End)
	return fresh
}

// auxValue is a value of the auxiliary vector.
func (i *Image) auxValue(kind uint64) uint64 {
	for b := i.auxv; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == kind {
			return binary.LittleEndian.Uint64(b[8:])
		}
	}
	return 0
}

// Keys of the auxiliary vector (include/uapi/linux/auxvec.h).
const (
	auxPHDR   = 3
	auxEntry  = 9
	auxExecFn = 31
)

// useExe takes a file for the program, if it can be the one.
func (i *Image) useExe(f *os.File) error {
	x, err := elf.NewFile(f)
	if err != nil {
		return errors.New("it is no program")
	}
	if x.Machine != i.machine || x.Type != elf.ET_EXEC && x.Type != elf.ET_DYN {
		return fmt.Errorf("it is a file of %s for %s, not a program for %s", typeWords(x.Type), machineWords(x.Machine), machineWords(i.machine))
	}
	bias := uint64(0)
	if x.Type == elf.ET_DYN {
		if i.entry == 0 {
			return errors.New("nothing tells where it was loaded: the core has no auxiliary vector")
		}
		bias = i.entry - x.Entry
	} else if i.entry != 0 && i.entry != x.Entry {
		return fmt.Errorf("it begins at %#x, the program at %#x", x.Entry, i.entry)
	}
	if bias%pageSize != 0 {
		return fmt.Errorf("it begins at %#x, the program at %#x, which no move by whole pages makes of it", x.Entry, i.entry)
	}
	if err := i.sameBuild(x, bias); err != nil {
		return err
	}
	i.exe, i.bias = f, bias
	return nil
}

// sameBuild compares the notes with build IDs that a file has with those in memory, where memory has them.
func (i *Image) sameBuild(x *elf.File, bias uint64) error {
	for _, p := range x.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz == 0 || p.Filesz > 1<<20 {
			continue
		}
		want := make([]byte, p.Filesz)
		if _, err := p.ReadAt(want, 0); err != nil {
			continue
		}
		have := i.Bytes(bias+p.Vaddr, p.Filesz) // only what the core has: files are added later
		if have == nil || bytes.Equal(have, want) {
			continue
		}
		if a, b := buildID(have), buildID(want); a != b {
			return fmt.Errorf("its build ID is %s, that of the program is %s", cmp.Or(b, "none"), cmp.Or(a, "another"))
		}
	}
	return nil
}

// buildID finds a build ID among notes: GNU's in hexadecimal, else Go's.
func buildID(notes []byte) string {
	id := ""
	for n := range eachNote(notes) {
		switch {
		case n.name == "GNU" && n.kind == 3:
			return fmt.Sprintf("%x", n.data)
		case n.name == "Go" && n.kind == 4:
			id = string(n.data)
		}
	}
	return id
}

func typeWords(t elf.Type) string {
	if t == elf.ET_CORE {
		return "a dead process (a core)"
	}
	return t.String()
}

func machineWords(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86-64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return m.String()
}
