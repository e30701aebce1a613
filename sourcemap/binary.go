package sourcemap

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
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
	mu    sync.Mutex // guards rest and startMain
	// notes are what is wrong with the binary though it can be used, a sentence each without the
	// binary's name. They may grow with lookups.
	notes   []string
	lacks   string // the name of the supplementary file, where that is missing
	notesMu sync.Mutex
	// startMain is the address of __libc_start_main where the binary defines it, once soughtMain.
	startMain  uint64
	soughtMain bool
	// answers are what DWARF said in recordings before; nil for none. fresh are the places where it gave
	// other answers since.
	answers *answers
	fresh   []freshPlace
	built   time.Time // modification time of the file; zero where it is not known

	// What was split from the binary, after attach: its debug file and the file with common parts of
	// its debug information, nil where there is none, and where split units are.
	debug, sup *elf.File
	split      *splitFinder
	files      *filePool
	dwarf      *dwarfTable // nil where there is none or none was needed yet
}

// symbolTable is what messages call the tables of symbols.
const symbolTable = "symbol table"

// An opener is a table that is opened at its first use.
type opener struct {
	what  string // for messages
	open  func() (table, error)
	table table // nil when it was not opened, or cannot be
}

// openBinary reads a binary's headers and finds its tables. The error is a sentence's end that says
// what is wrong with the file: the caller knows its name.
func openBinary(r io.ReaderAt) (*binaryTable, error) {
	size, sized := sizeOf(r)
	f, err := elf.NewFile(r)
	var damage error
	if err != nil {
		damage = whyNotELF(r, size, sized, err)
		// Program headers are at the beginning of a file, and with them alone Go code has names.
		if f, err = elf.NewFile(sectionless{r}); err != nil {
			return nil, damage
		}
	}
	b := &binaryTable{file: f, image: newImage(r, f)}
	b.rest = []opener{{what: "DWARF", open: b.openDWARF}, {what: symbolTable, open: b.openSymbols}}
	if damage != nil {
		b.note("%v", damage)
	}
	if file, ok := r.(interface{ Stat() (os.FileInfo, error) }); ok {
		if info, err := file.Stat(); err == nil {
			b.built = info.ModTime()
		}
	}
	if sized && damage == nil {
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
	b.notesMu.Lock()
	defer b.notesMu.Unlock()
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// lack notes that the supplementary file is missing.
func (b *binaryTable) lack(name string) {
	b.notesMu.Lock()
	defer b.notesMu.Unlock()
	b.lacks = name
}

// part is a number from 0 on: addresses of different ones may be asked for at once, in different
// goroutines, those of one only one after the other.
func (b *binaryTable) part(addr uint64) int {
	if b.goes != nil {
		return 0
	}
	if _, ok := b.answers.find(addr); ok {
		return 0
	}
	b.opened(&b.rest[0])
	if t, ok := b.rest[0].table.(*dwarfTable); ok && !b.inPLT(addr) {
		return t.part(addr)
	}
	return 0
}

// frames implements table.
func (b *binaryTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	if b.goes != nil {
		// Where the Go linker has linked C code itself, its functions are in this table too, by
		// name only; but then the linker has left their DWARF away.
		if frames, ok := b.goes.frames(addr, buf); ok {
			return frames, true
		}
	}
	return b.others(addr, buf)
}

// others asks the tables that are not Go's.
func (b *binaryTable) others(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	if frames, ok := b.tables(addr, buf); ok {
		return frames, true
	}
	if b.callsMain(addr) {
		return append(buf, profile.Frame{Func: startCallMain, Entry: true}), true
	}
	return buf, false
}

// callsMain tells that addr, which no table knows, lies in the function of glibc that calls main.
// It is static and so without a name in a stripped libc.so, but it is what stacks by frame pointers
// begin with: unnamed, it would make every C program's stacks look broken. It is in one source file
// with __libc_start_main and right before it (sysdeps/nptl/libc_start_call_main.h is included by
// csu/libc-start.c, since glibc 2.34; it has some 170 bytes on x86-64).
func (b *binaryTable) callsMain(addr uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.soughtMain {
		b.soughtMain = true
		if b.file.Type == elf.ET_DYN {
			symbols, _ := b.file.DynamicSymbols()
			for _, s := range symbols {
				if s.Name == "__libc_start_main" && s.Section != elf.SHN_UNDEF {
					b.startMain = s.Value
				}
			}
		}
	}
	return addr < b.startMain && b.startMain-addr <= 256
}

// A freshPlace is a location with an answer of DWARF's, and the addresses that it holds for.
type freshPlace struct {
	low, high uint64
	location  profile.LocationID
}

// extent is the addresses around addr that have the answer which frames has just given: addr alone
// where another table than DWARF gave it, or none did. It is none where the answer need not be kept, as it
// is Go's, or was kept, or as there is no DWARF whose reading it would spare.
func (b *binaryTable) extent(addr uint64) (low, high uint64) {
	if b.dwarf == nil || b.goes != nil && b.goes.find(addr) || b.answers.has(addr) {
		return 0, 0
	}
	if !b.inPLT(addr) {
		low, high = b.dwarf.extent(addr)
	}
	if low >= high {
		return addr, addr + 1
	}
	return low, high
}

// tables asks the tables that are not Go's, one after the other.
func (b *binaryTable) tables(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	if a, ok := b.answers.find(addr); ok {
		return b.answers.append(a, buf), a.to > a.from
	}
	plt := b.inPLT(addr)
	for i := range b.rest {
		o := &b.rest[i]
		if plt && i < len(b.rest)-1 {
			continue // only symbols name what the linker made; DWARF need not be opened for it
		}
		b.opened(o)
		if o.table != nil {
			if frames, ok := o.table.frames(addr, buf); ok {
				return frames, true
			}
		}
	}
	return buf, false
}

// opened opens a table if it was not yet.
func (b *binaryTable) opened(o *opener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o.open == nil {
		return
	}
	open := o.open
	o.open = nil
	t, err := open()
	switch {
	case err == nil:
		o.table = t
	case !errors.Is(err, errNoTable):
		b.note("%s: %v", o.what, err)
	}
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
	n = max(n, 0)
	switch {
	case n == 0 && readErr != nil && readErr != io.EOF:
		return readErr
	case n < 4 || string(head[:4]) != elf.ELFMAG:
		return fmt.Errorf("not an ELF file: it begins with %q", head[:min(n, 4)])
	case n < 52 || n < len(head) && elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64:
		return fmt.Errorf("truncated: its %d bytes do not hold an ELF header", n)
	}
	order := headerOrder(head[elf.EI_DATA])
	at, count, each := uint64(order.Uint32(head[32:])), uint64(order.Uint16(head[48:])), uint64(order.Uint16(head[46:]))
	if elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		at, count, each = order.Uint64(head[40:]), uint64(order.Uint16(head[60:])), uint64(order.Uint16(head[58:]))
	}
	switch {
	case sized && (at > size || count*each > size-at):
		return fmt.Errorf("truncated: its section headers end at %d, beyond the file's %d bytes", at+count*each, size)
	case sized && errors.Is(err, io.EOF), sized && errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("truncated: its sections' names lie beyond the file's %d bytes", size)
	}
	return fmt.Errorf("corrupt ELF headers: %w", err)
}

// sectionless reads an ELF file as one without section headers.
type sectionless struct{ io.ReaderAt }

// ReadAt is that of the file, with blanks where the ELF header tells of sections.
func (r sectionless) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	var class [1]byte
	if off < 64 {
		r.ReaderAt.ReadAt(class[:], elf.EI_CLASS)
	}
	blank := func(from, to int64) {
		for i := max(from-off, 0); i < min(to-off, int64(n)); i++ {
			p[i] = 0
		}
	}
	if elf.Class(class[0]) == elf.ELFCLASS64 {
		blank(40, 48) // e_shoff
		blank(58, 64) // e_shentsize, e_shnum, e_shstrndx
	} else if off < 64 {
		blank(32, 36)
		blank(46, 52)
	}
	return n, err
}
