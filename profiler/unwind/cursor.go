package unwind

import "encoding/binary"

// A cursor reads little-endian data. bad says that it was read beyond its end, or was not
// understood; from then on every value is 0.
type cursor struct {
	data []byte
	pos  int
	bad  bool
}

func (c *cursor) left() int { return len(c.data) - c.pos }

// take is the next n bytes, nil where there are not so many.
func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(c.left()) {
		c.bad = true
		c.pos = len(c.data)
		return nil
	}
	b := c.data[c.pos : c.pos+int(n)]
	c.pos += int(n)
	return b
}

func (c *cursor) u8() byte {
	if c.pos >= len(c.data) {
		c.bad = true
		return 0
	}
	b := c.data[c.pos]
	c.pos++
	return b
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uleb reads an unsigned LEB128. Bits above 64 are refused, zeros there are not: they are padding.
func (c *cursor) uleb() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		if c.bad {
			return 0
		}
		low := uint64(b & 0x7f)
		if shift >= 64 && low != 0 || shift == 63 && low > 1 {
			c.bad = true
			return 0
		}
		if shift < 64 {
			v |= low << shift
		}
		if b < 0x80 {
			return v
		}
	}
}

// sleb reads a signed LEB128; bits above 64 are sign.
func (c *cursor) sleb() int64 {
	var v int64
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		if c.bad {
			return 0
		}
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b < 0x80 {
			if b&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (c *cursor) text() string {
	for i := c.pos; i < len(c.data); i++ {
		if c.data[i] == 0 {
			s := string(c.data[c.pos:i])
			c.pos = i + 1
			return s
		}
	}
	c.bad = true
	c.pos = len(c.data)
	return ""
}

// Pointer encodings, DW_EH_PE_…: LSB 5.0 Core, section 10.5.1. The low four bits are the format,
// the next three what it is relative to.
const (
	encodeAbsolute = 0x00
	encodeULEB     = 0x01
	encodeU2       = 0x02
	encodeU4       = 0x03
	encodeU8       = 0x04
	encodeSigned   = 0x08
	encodeSLEB     = 0x09
	encodeS2       = 0x0a
	encodeS4       = 0x0b
	encodeS8       = 0x0c

	relativePC       = 0x10
	relativeText     = 0x20
	relativeData     = 0x30
	relativeFunction = 0x40
	aligned          = 0x50
	indirect         = 0x80
	omit             = 0xff
)

// bases are what pointers can be relative to.
type bases struct {
	section        uint64 // address of the cursor's first byte
	text, data, fn uint64
	size           uint8 // bytes of an absolute pointer
}

// pointer reads a pointer. An indirect one is the address of what it should have been, which
// nothing here needs; it is refused.
func (c *cursor) pointer(encoding byte, b *bases) uint64 {
	if encoding == omit || encoding&indirect != 0 {
		c.bad = true
		return 0
	}
	if encoding&0x70 == aligned {
		if rest := (b.section + uint64(c.pos)) % uint64(max(b.size, 1)); rest != 0 {
			c.take(uint64(b.size) - rest)
		}
		return c.value(encodeAbsolute, b.size)
	}
	at := b.section + uint64(c.pos)
	v := c.value(encoding&0x0f, b.size)
	switch encoding & 0x70 {
	case encodeAbsolute:
	case relativePC:
		v += at
	case relativeText:
		v += b.text
	case relativeData:
		v += b.data
	case relativeFunction:
		v += b.fn
	default:
		c.bad = true
	}
	if b.size == 4 {
		v = uint64(uint32(v))
	}
	return v
}

func (c *cursor) value(format byte, size uint8) uint64 {
	switch format {
	case encodeAbsolute, encodeSigned:
		if size == 4 {
			return uint64(c.u32())
		}
		return c.u64()
	case encodeULEB:
		return c.uleb()
	case encodeU2:
		return uint64(c.u16())
	case encodeU4:
		return uint64(c.u32())
	case encodeU8, encodeS8:
		return c.u64()
	case encodeSLEB:
		return uint64(c.sleb())
	case encodeS2:
		return uint64(int16(c.u16()))
	case encodeS4:
		return uint64(int32(c.u32()))
	}
	c.bad = true
	return 0
}

// skipPointer passes a pointer whose value is of no use, indirect or not.
func (c *cursor) skipPointer(encoding byte, b *bases) {
	if encoding != omit {
		c.pointer(encoding&^indirect, b)
	}
}
