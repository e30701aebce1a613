package sourcemap

import (
	"debug/elf"
	"errors"
	"sort"
)

// callFrames reads the call-frame information of a binary's .eh_frame, as far as it says where the
// return address is: the canonical frame address (CFA) of one instruction, below which it lies.
//
// Only the entry of the function asked for is read, found through the sorted table of
// .eh_frame_hdr, which every linker makes. Formats: LSB 5.0, Core, chapter 10.6 (both sections);
// DWARF 5, section 6.4 (the instructions); System V ABI for x86-64, figure 3.36 (registers).
//
// Whatever damaged data claim, a lookup takes bounded time and memory.
type callFrames struct {
	im    *image
	base  uint64 // address of .eh_frame_hdr, which the table is relative to
	table uint64 // address of its first pair
	count int
}

const (
	// Pointer encodings (DW_EH_PE_…) that linkers use in .eh_frame_hdr and compilers in .eh_frame.
	encodingU4      = 0x03
	encodingPCRel4  = 0x1b // pcrel | sdata4
	encodingDataRel = 0x3b // datarel | sdata4
	encodingOmit    = 0xff

	registerFP = 6 // rbp
	registerSP = 7 // rsp

	maxFDE   = 64 << 10 // bytes of an entry
	maxSaved = 64       // states that DW_CFA_remember_state keeps
)

// openCallFrames finds .eh_frame_hdr. It fails with errNoTable where there is none that is sorted,
// and for other processors than amd64.
func openCallFrames(im *image, f *elf.File) (*callFrames, error) {
	if f.Machine != elf.EM_X86_64 {
		return nil, errNoTable
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		var head [12]byte // version, three encodings, pointer to .eh_frame, count
		if !im.read(p.Vaddr, head[:]) || head[0] != 1 || head[1] != encodingPCRel4 || head[2] != encodingU4 || head[3] != encodingDataRel {
			return nil, errNoTable
		}
		count := int(im.order.Uint32(head[8:]))
		if uint64(count) > p.Filesz/8 {
			return nil, errors.New("the table of .eh_frame_hdr is longer than its segment")
		}
		return &callFrames{im: im, base: p.Vaddr, table: p.Vaddr + 12, count: count}, nil
	}
	return nil, errNoTable
}

// cfa is the register and offset that give the CFA when the instruction at addr is about to run.
// false: no entry covers it, or it computes the CFA in another way.
func (c *callFrames) cfa(addr uint64) (register, offset uint64, ok bool) {
	at := func(i int) (start, entry uint64) {
		a, _ := c.im.u32(c.table + 8*uint64(i))
		b, _ := c.im.u32(c.table + 8*uint64(i) + 4)
		return c.base + uint64(int64(int32(a))), c.base + uint64(int64(int32(b)))
	}
	i := sort.Search(c.count, func(i int) bool { start, _ := at(i); return start > addr })
	if i == 0 {
		return 0, 0, false
	}
	_, entry := at(i - 1)
	fde, ok := c.record(entry)
	if !ok {
		return 0, 0, false
	}
	back := uint64(fde.u32()) // from this field to the CIE
	cie, ok := c.record(entry + 4 - back)
	if !ok || cie.u32() != 0 {
		return 0, 0, false
	}
	rules, ok := readCIE(cie)
	if !ok || rules.encoding != encodingPCRel4 {
		return 0, 0, false
	}
	start := entry + 8 + uint64(int64(int32(fde.u32())))
	size := uint64(fde.u32())
	if addr-start >= size {
		return 0, 0, false
	}
	if rules.augmented {
		fde.skip(fde.uleb())
	}
	state := cfaState{}
	if !rules.run(rules.initial, &state, nil, start, addr) {
		return 0, 0, false
	}
	first := state
	if !rules.run(fde, &state, &first, start, addr) || fde.bad || state.expression {
		return 0, 0, false
	}
	return state.register, state.offset, true
}

// record is the bytes of a CIE or FDE behind its length.
func (c *callFrames) record(addr uint64) (*frameReader, bool) {
	n, ok := c.im.u32(addr)
	if !ok || n < 8 || n > maxFDE { // 0xffffffff begins a 64-bit record, which no compiler makes here
		return nil, false
	}
	b := make([]byte, n)
	if !c.im.read(addr+4, b) {
		return nil, false
	}
	return &frameReader{im: c.im, b: b}, true
}

// A frameReader reads one record. bad says that it ended too early.
type frameReader struct {
	im  *image
	b   []byte
	bad bool
}

func (r *frameReader) u8() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *frameReader) u16() uint16 { return uint16(r.u8()) | uint16(r.u8())<<8 }
func (r *frameReader) u32() uint32 { return uint32(r.u16()) | uint32(r.u16())<<16 }

func (r *frameReader) skip(n uint64) {
	if n > uint64(len(r.b)) {
		r.bad = true
		n = uint64(len(r.b))
	}
	r.b = r.b[n:]
}

func (r *frameReader) uleb() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := r.u8()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *frameReader) sleb() int64 {
	var v int64
	for shift := 0; shift < 64; shift += 7 {
		b := r.u8()
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if b&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	r.bad = true
	return 0
}

// A cie is what FDEs have in common.
type cie struct {
	codeAlign uint64
	dataAlign int64
	encoding  byte // of addresses in FDEs
	augmented bool // FDEs have augmentation data, with their length first
	initial   *frameReader
}

// readCIE reads a CIE whose id has been read.
func readCIE(r *frameReader) (cie, bool) {
	c := cie{encoding: 0}
	version := r.u8()
	var augmentation []byte
	for b := r.u8(); b != 0; b = r.u8() {
		augmentation = append(augmentation, b)
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		r.u8() // return address register
	} else {
		r.uleb()
	}
	if len(augmentation) > 0 && augmentation[0] == 'z' {
		c.augmented = true
		n := r.uleb()
		if r.bad || n > uint64(len(r.b)) {
			return c, false
		}
		data := &frameReader{im: r.im, b: r.b[:n]}
		r.skip(n)
	letters:
		for _, l := range augmentation[1:] {
			switch l {
			case 'R':
				c.encoding = data.u8()
			case 'L':
				data.u8()
			case 'P':
				switch encoding := data.u8(); encoding & 0x0f {
				case 0x03, 0x0b:
					data.skip(4)
				case 0x00, 0x04, 0x0c:
					data.skip(8)
				default:
					break letters
				}
			case 'S', 'B':
			default:
				break letters
			}
		}
	}
	c.initial = r
	return c, !r.bad && version <= 4 && c.encoding != encodingOmit
}

// A cfaState is the rule for the CFA at one instruction.
type cfaState struct {
	register, offset uint64
	expression       bool // the CFA is computed by an expression
}

// run executes instructions until they speak of what is behind addr. first is the state of the
// CIE's, nil while those run.
func (c *cie) run(r *frameReader, s, first *cfaState, at, addr uint64) bool {
	var saved []cfaState
	for len(r.b) > 0 && !r.bad {
		op := r.u8()
		advance := uint64(0)
		switch op & 0xc0 {
		case 0x40: // advance_loc
			advance = uint64(op & 0x3f)
		case 0x80: // offset
			r.uleb()
		case 0xc0: // restore: of a register other than the CFA's rule
		default:
			switch op {
			case 0x00, 0x2d: // nop, GNU_window_save
			case 0x01: // set_loc
				r.skip(4)
				return false
			case 0x02:
				advance = uint64(r.u8())
			case 0x03:
				advance = uint64(r.u16())
			case 0x04:
				advance = uint64(r.u32())
			case 0x05, 0x09, 0x14, 0x2f: // offset_extended, register, val_offset, negative_offset
				r.uleb()
				r.uleb()
			case 0x06, 0x07, 0x08, 0x2e: // restore_extended, undefined, same_value, GNU_args_size
				r.uleb()
			case 0x0a: // remember_state
				if len(saved) == maxSaved {
					return false
				}
				saved = append(saved, *s)
			case 0x0b: // restore_state
				if len(saved) == 0 {
					return false
				}
				*s = saved[len(saved)-1]
				saved = saved[:len(saved)-1]
			case 0x0c: // def_cfa
				*s = cfaState{register: r.uleb(), offset: r.uleb()}
			case 0x0d: // def_cfa_register
				s.register = r.uleb()
			case 0x0e: // def_cfa_offset
				s.offset = r.uleb()
			case 0x0f: // def_cfa_expression
				r.skip(r.uleb())
				s.expression = true
			case 0x10, 0x16: // expression, val_expression
				r.uleb()
				r.skip(r.uleb())
			case 0x11, 0x15: // offset_extended_sf, val_offset_sf
				r.uleb()
				r.sleb()
			case 0x12: // def_cfa_sf
				*s = cfaState{register: r.uleb(), offset: uint64(r.sleb() * c.dataAlign)}
			case 0x13: // def_cfa_offset_sf
				s.offset = uint64(r.sleb() * c.dataAlign)
			default:
				return false
			}
		}
		if advance != 0 && first != nil {
			if at += advance * c.codeAlign; at > addr {
				return true
			}
		}
	}
	return !r.bad
}
