package profiler

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// An image is what the recorder must know of an ELF file: where its bytes are in its own address
// space, and who it is. It is read from the program headers, which the kernel maps by and which a
// stripped or even truncated file still has; debug/elf.NewFile would refuse such files for their
// section headers.
type image struct {
	segments []segment
	buildID  string // GNU build ID in hex, else the Go build ID; "" if none
	entry    uint64 // address of its first instruction; 0 if none
	golang   bool   // Go's linker made it, or had another one make it
	rows     bool   // it has .eh_frame_hdr: call-frame information of code that may keep no frame pointers
}

// framed says that all code of the file keeps frame pointers: Go's compiler does, and its linker leaves
// C's call-frame information out where it links that itself, which is no more than some stubs.
func (im *image) framed() bool { return im.golang && !im.rows }

// segment is the segment that address takes for an offset, or nil.
func (im *image) segment(offset uint64) *segment {
	var found *segment
	for i := range im.segments {
		if s := &im.segments[i]; offset-s.offset < s.size {
			found = s
			if s.exec {
				break
			}
		}
	}
	return found
}

// A segment is a PT_LOAD program header.
type segment struct {
	offset, size uint64 // in the file
	addr         uint64 // ELF virtual address of its first byte
	exec         bool
}

var errNotELF = errors.New("not an ELF file")

const (
	maxProgramHeaders = 1024
	maxSections       = 4096
	maxNotes          = 64 << 10
)

func readImage(r io.ReaderAt) (image, error) {
	var ident [elf.EI_NIDENT]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil || string(ident[:4]) != elf.ELFMAG {
		if err != nil && err != io.EOF {
			return image{}, err
		}
		return image{}, errNotELF
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(ident[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	var phoff, shoff, entry uint64
	var phentsize, phnum, shentsize, shnum uint16
	is64 := elf.Class(ident[elf.EI_CLASS]) == elf.ELFCLASS64
	if is64 {
		var h elf.Header64
		if err := readStruct(r, 0, order, &h); err != nil {
			return image{}, fmt.Errorf("read the ELF header: %w", err)
		}
		phoff, phentsize, phnum = h.Phoff, h.Phentsize, h.Phnum
		entry = h.Entry
		shoff, shentsize, shnum = h.Shoff, h.Shentsize, h.Shnum
	} else {
		var h elf.Header32
		if err := readStruct(r, 0, order, &h); err != nil {
			return image{}, fmt.Errorf("read the ELF header: %w", err)
		}
		phoff, phentsize, phnum = uint64(h.Phoff), h.Phentsize, h.Phnum
		entry = uint64(h.Entry)
		shoff, shentsize, shnum = uint64(h.Shoff), h.Shentsize, h.Shnum
	}
	if phnum == 0 || phnum > maxProgramHeaders || phoff > 1<<62 {
		return image{}, fmt.Errorf("ELF file with %d program headers", phnum)
	}
	im := image{entry: entry}
	var gnuID, goID string
	notes := func(offset, size, align uint64) {
		if offset > 1<<62 {
			return
		}
		b := make([]byte, min(size, maxNotes))
		n, _ := r.ReadAt(b, int64(offset))
		gnu, golang := readNotes(b[:n], order, align)
		gnuID, goID = cmp.Or(gnuID, gnu), cmp.Or(goID, golang)
	}
	for i := range uint64(phnum) {
		p, err := readProgramHeader(r, int64(phoff+i*uint64(phentsize)), order, is64)
		if err != nil {
			return image{}, fmt.Errorf("read ELF program header %d: %w", i, err)
		}
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			if p.Off+p.Filesz >= p.Off && p.Filesz > 0 {
				im.segments = append(im.segments, segment{
					offset: p.Off, size: p.Filesz, addr: p.Vaddr, exec: elf.ProgFlag(p.Flags)&elf.PF_X != 0,
				})
			}
		case elf.PT_GNU_EH_FRAME:
			im.rows = true
		case elf.PT_NOTE:
			notes(p.Off, p.Filesz, p.Align)
		}
	}
	// Go's linker leaves its .note.gnu.build-id out of the program headers.
	for i := uint64(0); gnuID == "" && shoff != 0 && i < uint64(min(shnum, maxSections)); i++ {
		h, err := readSectionHeader(r, int64(shoff+i*uint64(shentsize)), order, is64)
		if err != nil {
			break
		}
		if elf.SectionType(h.Type) == elf.SHT_NOTE && elf.SectionFlag(h.Flags)&elf.SHF_ALLOC != 0 {
			notes(h.Off, h.Size, h.Addralign)
		}
	}
	im.golang = goID != ""
	if im.buildID = gnuID; im.buildID == "" {
		im.buildID = goID
	}
	return im, nil
}

func readSectionHeader(r io.ReaderAt, at int64, order binary.ByteOrder, is64 bool) (elf.Section64, error) {
	if is64 {
		var h elf.Section64
		err := readStruct(r, at, order, &h)
		return h, err
	}
	var h elf.Section32
	err := readStruct(r, at, order, &h)
	return elf.Section64{
		Type: h.Type, Flags: uint64(h.Flags), Off: uint64(h.Off), Size: uint64(h.Size), Addralign: uint64(h.Addralign),
	}, err
}

func readProgramHeader(r io.ReaderAt, at int64, order binary.ByteOrder, is64 bool) (elf.Prog64, error) {
	if is64 {
		var p elf.Prog64
		err := readStruct(r, at, order, &p)
		return p, err
	}
	var p elf.Prog32
	err := readStruct(r, at, order, &p)
	return elf.Prog64{
		Type: p.Type, Flags: p.Flags, Off: uint64(p.Off), Vaddr: uint64(p.Vaddr),
		Filesz: uint64(p.Filesz), Memsz: uint64(p.Memsz), Align: uint64(p.Align),
	}, err
}

func readStruct(r io.ReaderAt, at int64, order binary.ByteOrder, to any) error {
	if at < 0 {
		return io.ErrUnexpectedEOF
	}
	return binary.Read(io.NewSectionReader(r, at, int64(binary.Size(to))), order, to)
}

// readNotes finds the build IDs among notes: namesz, descsz, type, and then name and desc, each
// padded to 4 bytes (or to the segment's alignment where that is 8: gABI, "Note Section").
func readNotes(b []byte, order binary.ByteOrder, align uint64) (gnu, golang string) {
	const (
		gnuBuildID = 3 // NT_GNU_BUILD_ID
		goBuildID  = 4 // cmd/link: ELF_NOTE_GOBUILDID_TAG
		maxID      = 256
	)
	if align != 8 {
		align = 4
	}
	pad := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		namesz, descsz, kind := uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint32(b[8:])
		// Desc begins at a multiple of align from the note's start, not from the name's.
		at := pad(12 + namesz)
		if at+descsz > uint64(len(b)) {
			return gnu, golang
		}
		name := string(bytes.TrimRight(b[12:12+namesz], "\x00"))
		desc := b[at : at+descsz]
		switch {
		case name == "GNU" && kind == gnuBuildID && gnu == "" && 0 < descsz && descsz <= maxID:
			gnu = hex.EncodeToString(desc)
		case name == "Go" && kind == goBuildID && golang == "" && 0 < descsz && descsz <= maxID:
			golang = string(bytes.TrimRight(desc, "\x00"))
		}
		next := pad(at + descsz)
		if next >= uint64(len(b)) {
			break
		}
		b = b[next:]
	}
	return gnu, golang
}

// address turns a file offset into the ELF virtual address of that byte. Two segments may share a
// page of the file; their byte ranges still differ. ok is false where no segment has the byte.
func (im *image) address(offset uint64) (addr uint64, ok bool) {
	if s := im.segment(offset); s != nil {
		return offset - s.offset + s.addr, true
	}
	return 0, false
}
