package unwind

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ReadELF makes the rows of a program, a shared library or a vdso image, of its .eh_frame and where
// that covers nothing its .debug_frame; then those of debug files of the same build, in their order.
// A file whose section headers are gone is read by its program headers and .eh_frame_hdr.
//
// The error says that a file cannot be read, is not ELF, is relocatable, or is for another machine
// than 64-bit little-endian x86 or Arm. A file without call-frame information is none: its table has
// no rows. What is damaged in one is passed over and counted (Table.Damage).
func ReadELF(file io.ReaderAt, debug ...io.ReaderAt) (*Table, error) {
	var all []Sections
	for i, r := range append([]io.ReaderAt{file}, debug...) {
		s, err := readSections(r)
		if err != nil {
			if i > 0 {
				return nil, fmt.Errorf("read the call-frame information of debug file %d: %w", i, err)
			}
			return nil, fmt.Errorf("read the call-frame information: %w", err)
		}
		all = append(all, s)
	}
	return parse(all)
}

var errRelocatable = errors.New("it is a relocatable object, whose addresses are not known before it is linked")

func readSections(r io.ReaderAt) (Sections, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		s, plain := readSegments(r)
		if plain != nil {
			return s, fmt.Errorf("%w (nor by its segments: %w)", err, plain)
		}
		return s, nil
	}
	if err := supported(f.Class, f.Data, f.Type); err != nil {
		return Sections{}, err
	}
	s := Sections{Machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Vaddr+p.Memsz > p.Vaddr {
			s.Code = append(s.Code, Range{p.Vaddr, p.Vaddr + p.Memsz})
		}
	}
	for _, h := range f.Sections {
		var to *Section
		switch h.Name {
		case ".eh_frame":
			to = &s.EHFrame
		case ".eh_frame_hdr":
			to = &s.EHFrameHdr
		case ".debug_frame":
			to = &s.DebugFrame
		case ".text":
			s.Text = h.Addr
		case ".got":
			s.Data = h.Addr
		}
		if to == nil || to.Data != nil || h.Type == elf.SHT_NOBITS || h.Size == 0 {
			continue
		}
		to.Addr = h.Addr
		if to.Data, err = readSection(h); err != nil {
			return s, fmt.Errorf("read section %s: %w", h.Name, err)
		}
	}
	if s.EHFrame.Data == nil {
		// Section headers that were taken away, or that name nothing.
		if bare, err := readSegments(r); err == nil {
			s.EHFrame, s.EHFrameHdr, s.Loose = bare.EHFrame, bare.EHFrameHdr, bare.Loose
		}
	}
	return s, nil
}

// readSection reads a section, decompressing it, up to what is read of one.
func readSection(h *elf.Section) ([]byte, error) {
	r := h.Open()
	if h.Flags&elf.SHF_COMPRESSED == 0 && h.FileSize <= 32<<20 {
		b := make([]byte, h.FileSize)
		n, err := io.ReadFull(r, b)
		return whole(b[:n], err)
	}
	// The size is a claim: memory grows with what is there.
	return whole(io.ReadAll(io.LimitReader(r, maxSection)))
}

// whole takes what a truncated file still has.
func whole(b []byte, err error) ([]byte, error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b, err
}

func supported(class elf.Class, data elf.Data, kind elf.Type) error {
	switch {
	case class != elf.ELFCLASS64 || data != elf.ELFDATA2LSB:
		return fmt.Errorf("it is %v, %v; only 64-bit little-endian programs are known", class, data)
	case kind == elf.ET_REL:
		return errRelocatable
	}
	return nil
}

const maxSegments = 1024

// readSegments reads what the program headers lead to: .eh_frame_hdr, which names the start of
// .eh_frame.
func readSegments(r io.ReaderAt) (Sections, error) {
	var h elf.Header64
	if err := binary.Read(io.NewSectionReader(r, 0, 1<<16), binary.LittleEndian, &h); err != nil {
		return Sections{}, fmt.Errorf("read the ELF header: %w", err)
	}
	if string(h.Ident[:4]) != elf.ELFMAG {
		return Sections{}, errors.New("it is not an ELF file")
	}
	if err := supported(elf.Class(h.Ident[elf.EI_CLASS]), elf.Data(h.Ident[elf.EI_DATA]), elf.Type(h.Type)); err != nil {
		return Sections{}, err
	}
	s := Sections{Machine: elf.Machine(h.Machine), Loose: true}
	var loads []elf.Prog64
	var hdr *elf.Prog64
	for i := range min(h.Phnum, maxSegments) {
		var p elf.Prog64
		at := h.Phoff + uint64(i)*uint64(h.Phentsize)
		if at > 1<<62 {
			break
		}
		if err := binary.Read(io.NewSectionReader(r, int64(at), 56), binary.LittleEndian, &p); err != nil {
			return s, fmt.Errorf("read program header %d: %w", i, err)
		}
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			if loads = append(loads, p); elf.ProgFlag(p.Flags)&elf.PF_X != 0 && p.Vaddr+p.Memsz > p.Vaddr {
				s.Code = append(s.Code, Range{p.Vaddr, p.Vaddr + p.Memsz})
			}
		case elf.PT_GNU_EH_FRAME:
			hdr = &p
		}
	}
	if hdr == nil {
		return s, nil
	}
	var err error
	if s.EHFrameHdr.Data, err = readAt(r, hdr.Off, hdr.Filesz); err != nil {
		return s, fmt.Errorf("read .eh_frame_hdr: %w", err)
	}
	s.EHFrameHdr.Addr = hdr.Vaddr
	c := cursor{data: s.EHFrameHdr.Data}
	b := bases{section: hdr.Vaddr, data: hdr.Vaddr, size: 8}
	version, encoding := c.u8(), c.u8()
	c.u16()
	start := c.pointer(encoding, &b)
	if version != 1 || c.bad {
		return s, nil
	}
	for _, p := range loads {
		if start-p.Vaddr < p.Filesz {
			s.EHFrame.Addr = start
			if s.EHFrame.Data, err = readAt(r, p.Off+(start-p.Vaddr), p.Filesz-(start-p.Vaddr)); err != nil {
				return s, fmt.Errorf("read .eh_frame: %w", err)
			}
			break
		}
	}
	return s, nil
}

// readAt reads as much of n bytes as there is, and no more than is read of a section.
func readAt(r io.ReaderAt, at, n uint64) ([]byte, error) {
	if at > 1<<62 {
		return nil, nil
	}
	return whole(io.ReadAll(io.NewSectionReader(r, int64(at), int64(min(n, maxSection)))))
}
