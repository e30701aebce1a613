package sourcemap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Bounds of what .gnu_debugdata may hold: that of a large program has some megabytes. The dictionary
// is memory that a block's first bytes call for; xz -9 uses one of 64 MiB.
const (
	maxDebugData     = 256 << 20
	maxDebugDataDict = 64 << 20
)

// debugData is the ELF file in .gnu_debugdata, nil where there is none: symbols that were stripped
// from the binary, compressed with xz
// (https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html).
func debugData(f *elf.File) (*elf.File, error) {
	s := f.Section(".gnu_debugdata")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	data, err := sectionData(s)
	if err != nil {
		return nil, err
	}
	if data, err = unxz(data); err == nil {
		if f, err = elf.NewFile(bytes.NewReader(data)); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("read section .gnu_debugdata: %w; the file is damaged", err)
}

var errNoXZ = errors.New("it is no xz stream")

// unxz is the content of an xz stream (The .xz File Format 1.2, https://tukaani.org/xz): a header,
// blocks, an index that is not needed here. The frame is read here and not by package xz, which makes
// a dictionary of up to 4 GiB where a block says so.
func unxz(data []byte) ([]byte, error) {
	const streamHeader = 12
	if len(data) < streamHeader || string(data[:6]) != "\xfd7zXZ\x00" || data[6] != 0 {
		return nil, errNoXZ
	}
	check := data[7] & 0xf
	rest := data[streamHeader:]
	var out bytes.Buffer
	for len(rest) > 0 && rest[0] != 0 { // 0 begins the index
		size := 4 * (int(rest[0]) + 1) // of the block's header, with its checksum
		if size > len(rest) || crc32.ChecksumIEEE(rest[:size-4]) != binary.LittleEndian.Uint32(rest[size-4:]) {
			return nil, errNoXZ
		}
		dict, err := xzDictionary(rest[:size-4])
		if err != nil {
			return nil, err
		}
		packed := bytes.NewReader(rest[size:])
		r, err := lzma.Reader2Config{DictCap: dict}.NewReader2(packed)
		if err != nil {
			return nil, err
		}
		from := out.Len()
		if _, err := out.ReadFrom(io.LimitReader(r, int64(maxDebugData+1-from))); err != nil {
			return nil, err
		}
		if out.Len() > maxDebugData {
			return nil, fmt.Errorf("it holds more than %d bytes", maxDebugData)
		}
		used := len(rest) - packed.Len()
		used = (used + 3) &^ 3
		sumSize := xzCheckSize[check]
		if used+sumSize > len(rest) {
			return nil, io.ErrUnexpectedEOF
		}
		sum, block := rest[used:used+sumSize], out.Bytes()[from:]
		if check == 1 && binary.LittleEndian.Uint32(sum) != crc32.ChecksumIEEE(block) ||
			check == 4 && binary.LittleEndian.Uint64(sum) != crc64.Checksum(block, xzCRC64) {
			return nil, errors.New("its checksum is wrong")
		}
		rest = rest[used+sumSize:]
	}
	if len(rest) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return out.Bytes(), nil
}

// xzCheckSize is the size of a block's checksum by its kind (2.1.1.2).
var xzCheckSize = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

var xzCRC64 = crc64.MakeTable(crc64.ECMA)

// xzDictionary is the size of the dictionary that a block's header calls for (3.1, 5.3.1). Its only
// filter is LZMA2, as debug data is written; others (for code of some processors) are not known.
func xzDictionary(header []byte) (int, error) {
	c := cursor{b: header, pos: 1}
	flags := c.u8()
	if flags&0x40 != 0 {
		c.uleb() // compressed size
	}
	if flags&0x80 != 0 {
		c.uleb()
	}
	id, size, bits := c.uleb(), c.uleb(), uint64(c.u8())
	switch {
	case c.bad || flags&0x3f != 0 || id != 0x21 || size != 1 || bits > 40:
		return 0, errors.New("it is compressed in a way that is not known")
	case bits == 40 || (2|bits&1)<<(bits/2+11) > maxDebugDataDict:
		return 0, fmt.Errorf("it calls for a dictionary of more than %d bytes", maxDebugDataDict)
	}
	return int(2|bits&1) << (bits/2 + 11), nil
}
