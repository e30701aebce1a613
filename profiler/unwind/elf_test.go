package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"testing"
)

// bareELF is an ELF file of program headers only: a function at 0x1000, .eh_frame_hdr with a table
// of it, and .eh_frame.
func bareELF(machine elf.Machine) []byte {
	le := binary.LittleEndian
	const hdrAt, frameAt = 0x200, 0x300
	f := cfi{isEH: true, version: 1}
	f.cie("zR", []byte{encodeU4}, 16, amd64Start...)
	f.fde([]byte{0, 0x10, 0, 0, 0, 1, 0, 0, 0}, cfaAdvance|1, cfaDefCFAOffset, 16)
	end := frameAt + len(f.b)
	var b bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 3}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	binary.Write(&b, le, header)
	binary.Write(&b, le, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 4, Filesz: uint64(end), Memsz: uint64(end)})
	binary.Write(&b, le, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: 0x1000, Memsz: 0x1000})
	binary.Write(&b, le, elf.Prog64{Type: uint32(elf.PT_GNU_EH_FRAME), Flags: 4, Off: hdrAt, Vaddr: hdrAt, Filesz: 20, Memsz: 20})
	file := append(b.Bytes(), make([]byte, hdrAt-b.Len())...)
	file = append(file, 1, relativePC|encodeS4, encodeU4, relativeData|encodeS4)
	file = le.AppendUint32(file, frameAt-hdrAt-4)
	file = le.AppendUint32(file, 1)
	file = le.AppendUint32(file, 0x1000-hdrAt)
	file = le.AppendUint32(file, uint32(frameAt+f.cieAt-hdrAt+cieLength(f.b)))
	file = append(file, make([]byte, frameAt-len(file))...)
	return append(file, f.b...)
}

func cieLength(b []byte) int { return 4 + int(binary.LittleEndian.Uint32(b)) }

func TestReadELFBySegments(t *testing.T) {
	table, err := ReadELF(bytes.NewReader(bareELF(elf.EM_X86_64)))
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(table); got != "1000 cfa=rsp+8 ra=c-8 | 1001 cfa=rsp+16 ra=c-8 | 1100" {
		t.Errorf("rows %s", got)
	}
	// A debug file of the same build fills what is not covered, and nothing else.
	with, err := ReadELF(bytes.NewReader(bareELF(elf.EM_X86_64)), bytes.NewReader(bareELF(elf.EM_X86_64)))
	if err != nil || describe(with) != describe(table) {
		t.Errorf("with itself as debug file: %v", err)
	}
	if _, err := ReadELF(bytes.NewReader(bareELF(elf.EM_X86_64)), bytes.NewReader(bareELF(elf.EM_AARCH64))); err == nil {
		t.Error("with a debug file of another machine: no error")
	}
	for name, change := range map[string]func([]byte){
		"relocatable": func(b []byte) { b[16] = byte(elf.ET_REL) },
		"32 bits":     func(b []byte) { b[elf.EI_CLASS] = byte(elf.ELFCLASS32) },
		"big-endian":  func(b []byte) { b[elf.EI_DATA] = byte(elf.ELFDATA2MSB) },
		"other":       func(b []byte) { b[18] = byte(elf.EM_RISCV) },
	} {
		b := bareELF(elf.EM_X86_64)
		change(b)
		if table, err := ReadELF(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error, %d rows", name, table.Len())
		}
	}
}

// The input is what is changed in a good file: places in two bytes, and a byte for each. (Whole files as
// input keep the fuzzer busy with making them shorter.)
func FuzzReadELF(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{18, 0, byte(elf.EM_AARCH64), 40, 0, 0x10})
	f.Fuzz(func(t *testing.T, changes []byte) {
		b := bareELF(elf.EM_X86_64)
		for ; len(changes) >= 3; changes = changes[3:] {
			b[int(binary.LittleEndian.Uint16(changes))%len(b)] = changes[2]
		}
		if len(changes) > 0 {
			b = b[:len(b)-int(changes[0])]
		}
		table, err := ReadELF(bytes.NewReader(b))
		if (table == nil) == (err == nil) {
			t.Fatalf("table %v and error %v", table, err)
		}
		if table != nil && table.Len() > 4*len(b)+4 {
			t.Errorf("%d rows of %d bytes", table.Len(), len(b))
		}
	})
}

// A table of foreign bytes that is taken for good can be listed and walked by.
func FuzzOpenTable(f *testing.F) {
	f.Add(handMade(f).data, uint64(0x1004))
	f.Add(arm64Table(f).data, uint64(0x1110))
	f.Fuzz(func(t *testing.T, b []byte, pc uint64) {
		table, err := openTable(b)
		if err != nil {
			return
		}
		n := 0
		for r := range table.Rows() {
			if n++; r.Rule != table.Describe(r.Addr) {
				t.Fatalf("%#x: %q is found, %q is there", r.Addr, table.Describe(r.Addr), r.Rule)
			}
		}
		if n != table.Len() {
			t.Fatalf("%d rows of %d", n, table.Len())
		}
		w, err := NewWalker(table.Machine())
		if err != nil {
			t.Fatal(err)
		}
		w.Depth = 64
		s := Sample{Stack: stackOf(0x7000, slices.Repeat([]uint64{pc, 0x7010}, 20)...)}
		s.Registers.SetPerf(table.Machine(), 1<<33-1, slices.Repeat([]uint64{0x7000}, 40))
		s.Registers.set(w.machine.pc, pc)
		if frames, end := w.Walk(&s, &handSpace{code: Code{End: 1 << 47, Table: table}}, nil); len(frames) == 0 || end.Reason >= reasonCount {
			t.Fatalf("%d frames, %v", len(frames), end)
		}
	})
}
