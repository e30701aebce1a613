package sourcemap

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A binaryTable names the addresses of one binary, each by the best of the binary's tables: Go code
// by Go's own, all else by DWARF, and by symbols where DWARF is absent or silent. The tables behind
// the first are opened when an address needs them.
type binaryTable struct {
	file  *elf.File
	image *image
	goes  *goTable // nil in binaries that are not Go's
	rest  []opener
	// notes are what is wrong with the binary though it can be used, a sentence each without the
	// binary's name. They may grow with lookups.
	notes []string
	built time.Time // modification time of the file; zero where it is not known
}

// An opener is a table that is opened at its first use.
type opener struct {
	what  string // for messages
	open  func(*elf.File) (table, error)
	table table // nil when it was not opened, or cannot be
}

// openBinary reads a binary's headers and finds its tables. The error is a sentence's end that says
// what is wrong with the file: the caller knows its name.
func openBinary(r io.ReaderAt) (*binaryTable, error) {
	size, sized := sizeOf(r)
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, whyNotELF(r, size, sized, err)
	}
	b := &binaryTable{file: f, image: newImage(r, f), rest: []opener{
		{what: "symbol table", open: openSymtab},
	}}
	if file, ok := r.(interface{ Stat() (os.FileInfo, error) }); ok {
		if info, err := file.Stat(); err == nil {
			b.built = info.ModTime()
		}
	}
	if sized {
		for _, s := range f.Sections {
			if s.Type != elf.SHT_NOBITS && (s.Offset > size || s.FileSize > size-s.Offset) {
				b.note("truncated: section %s ends at %d, beyond the file's %d bytes", s.Name, s.Offset+s.FileSize, size)
				break
			}
		}
	}
	b.goes, err = openGoTable(b.image, f)
	if err != nil && !errors.Is(err, errNoTable) {
		b.note("%v", err)
	}
	return b, nil
}

func (b *binaryTable) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// frames implements table.
func (b *binaryTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	from := len(buf)
	if b.goes != nil {
		if frames, ok := b.goes.frames(addr, buf); ok {
			if frames[from].File != "" {
				return frames, true
			}
			// Where the Go linker linked C code itself, its table has the C functions' names and
			// nothing more.
			if frames, ok := b.others(addr, frames[:from]); ok {
				return frames, true
			}
			return b.goes.frames(addr, buf)
		}
	}
	return b.others(addr, buf)
}

// others asks the tables that are not Go's.
func (b *binaryTable) others(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	plt := b.inPLT(addr)
	for i := range b.rest {
		o := &b.rest[i]
		if plt && i < len(b.rest)-1 {
			continue // only symbols name what the linker made; DWARF need not be opened for it
		}
		if o.open != nil {
			var err error
			if o.table, err = o.open(b.file); err != nil {
				o.table = nil
				if !errors.Is(err, errNoTable) {
					b.note("%s: %v", o.what, err)
				}
			}
			o.open = nil
		}
		if o.table != nil {
			if frames, ok := o.table.frames(addr, buf); ok {
				return frames, true
			}
		}
	}
	return buf, false
}

func (b *binaryTable) inPLT(addr uint64) bool {
	for _, s := range b.file.Sections {
		if strings.HasPrefix(s.Name, ".plt") && addr-s.Addr < s.Size {
			return true
		}
	}
	return false
}

// addressOf is the file address of what is at a file offset.
func (b *binaryTable) addressOf(offset uint64) (uint64, bool) {
	for _, l := range b.image.loads {
		if offset-l.off < l.size {
			return l.addr + (offset - l.off), true
		}
	}
	return 0, false
}

// sizeOf is the number of bytes r has, where it can tell.
func sizeOf(r io.ReaderAt) (uint64, bool) {
	switch r := r.(type) {
	case interface{ Size() int64 }:
		return uint64(r.Size()), true
	case interface{ Stat() (os.FileInfo, error) }:
		info, err := r.Stat()
		if err == nil && info.Mode().IsRegular() {
			return uint64(info.Size()), true
		}
	}
	return 0, false
}

// whyNotELF says what is wrong with a file that debug/elf does not take.
func whyNotELF(r io.ReaderAt, size uint64, sized bool, err error) error {
	var head [64]byte
	n, readErr := r.ReadAt(head[:], 0)
	switch {
	case n == 0 && readErr != nil && readErr != io.EOF:
		return readErr
	case n < 4 || string(head[:4]) != elf.ELFMAG:
		return fmt.Errorf("not an ELF file: it begins with %q", head[:min(max(n, 0), 4)])
	case n < len(head):
		return fmt.Errorf("truncated: its %d bytes do not hold an ELF header", n)
	}
	order := headerOrder(head[elf.EI_DATA])
	sections := uint64(order.Uint32(head[32:]))
	if elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		sections = order.Uint64(head[40:])
	}
	if sized && sections > size {
		return fmt.Errorf("truncated: its section headers are at %d, beyond the file's %d bytes", sections, size)
	}
	return fmt.Errorf("corrupt ELF headers: %w", err)
}
