package sourcemap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// An image reads a binary by file address, as its program headers lay it out. It reads in chunks
// and keeps what it has read: the names of a few thousand places lie on a few hundred chunks of a
// table of many megabytes.
//
// The file is read and not mapped into memory: a file that somebody truncates while it is mapped
// kills the reader with SIGBUS.
//
// An image trusts nothing it reads: addresses come from the file and may point anywhere; what lies
// beyond the file's bytes reads as absent. One goroutine uses an image at a time.
type image struct {
	r     io.ReaderAt
	order byteOrder
	ptr   uint64 // size of a pointer in bytes: 4 or 8
	loads []load
	// The chunk used last, for the very many reads that follow one another.
	last     []byte
	lastAddr uint64
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// headerOrder is the order of bytes that an ELF header's EI_DATA stands for.
func headerOrder(data byte) byteOrder {
	if elf.Data(data) == elf.ELFDATA2MSB {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// A load is that part of a segment that has bytes in the file.
type load struct {
	addr, off, size uint64
	flags           elf.ProgFlag
	chunks          map[uint64][]byte // by (address - addr) / chunkSize; shorter where the file ends
}

// chunkSize trades system calls for bytes read in vain.
const chunkSize = 64 << 10

func newImage(r io.ReaderAt, f *elf.File) *image {
	im := &image{r: r, order: headerOrder(byte(f.Data)), ptr: 8}
	if f.Class == elf.ELFCLASS32 {
		im.ptr = 4
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 || p.Vaddr+p.Filesz < p.Vaddr || p.Off+p.Filesz < p.Off {
			continue
		}
		im.loads = append(im.loads, load{
			addr: p.Vaddr, off: p.Off, size: p.Filesz, flags: p.Flags, chunks: map[uint64][]byte{},
		})
	}
	return im
}

// bytes are those from addr to the end of its chunk: at least one, or nil where the file has none.
// They are not to be changed and stay valid.
func (im *image) bytes(addr uint64) []byte {
	if i := addr - im.lastAddr; i < uint64(len(im.last)) {
		return im.last[i:]
	}
	for i := range im.loads {
		l := &im.loads[i]
		if addr-l.addr >= l.size {
			continue
		}
		key := (addr - l.addr) / chunkSize
		from := key * chunkSize
		b, ok := l.chunks[key]
		if !ok {
			b = make([]byte, min(chunkSize, l.size-from))
			n, _ := im.r.ReadAt(b, int64(l.off+from)) // what an error left unread is absent
			b = b[:max(n, 0)]
			l.chunks[key] = b
		}
		im.last, im.lastAddr = b, l.addr+from
		if i := addr - im.lastAddr; i < uint64(len(b)) {
			return b[i:]
		}
		return nil
	}
	return nil
}

// read fills b from addr, and says whether the file has all of it.
func (im *image) read(addr uint64, b []byte) bool {
	for len(b) > 0 {
		p := im.bytes(addr)
		if p == nil {
			return false
		}
		n := copy(b, p)
		b, addr = b[n:], addr+uint64(n)
	}
	return true
}

// fill reads b from addr, as much as the file has of it in one segment, and keeps nothing.
func (im *image) fill(addr uint64, b []byte) int {
	for _, l := range im.loads {
		if i := addr - l.addr; i < l.size {
			n, _ := im.r.ReadAt(b[:min(uint64(len(b)), l.size-i)], int64(l.off+i))
			return max(n, 0)
		}
	}
	return 0
}

func (im *image) u32(addr uint64) (uint32, bool) {
	if p := im.bytes(addr); len(p) >= 4 {
		return im.order.Uint32(p), true
	}
	var b [4]byte
	ok := im.read(addr, b[:])
	return im.order.Uint32(b[:]), ok
}

// word reads a pointer-sized number.
func (im *image) word(addr uint64) (uint64, bool) {
	if im.ptr == 4 {
		v, ok := im.u32(addr)
		return uint64(v), ok
	}
	var b [8]byte
	ok := im.read(addr, b[:])
	return im.order.Uint64(b[:]), ok
}

// text reads the string that ends with a zero byte, of at most limit bytes.
func (im *image) text(addr uint64, limit int) (string, bool) {
	p := im.bytes(addr)
	if i := bytes.IndexByte(p, 0); i >= 0 {
		return string(p[:i]), i <= limit
	}
	var long []byte // the string goes on in the next chunk
	for p != nil && len(long) <= limit {
		i := bytes.IndexByte(p, 0)
		if i >= 0 {
			long = append(long, p[:i]...)
			return string(long), len(long) <= limit
		}
		long = append(long, p...)
		p = im.bytes(addr + uint64(len(long)))
	}
	return "", false
}

// search calls found with each address in the segments chosen by flags where pattern begins, until
// found says true. Addresses that are no multiple of align are passed over. Nothing is kept of what
// was read.
func (im *image) search(flags, of elf.ProgFlag, pattern []byte, align uint64, found func(addr uint64) bool) bool {
	var buf []byte
	for _, l := range im.loads {
		if l.flags&of != flags {
			continue
		}
		if size := min(l.size, 1<<20); uint64(len(buf)) < size {
			buf = make([]byte, size)
		}
		for at := uint64(0); at+uint64(len(pattern)) <= l.size; {
			n, _ := im.r.ReadAt(buf[:min(uint64(len(buf)), l.size-at)], int64(l.off+at))
			if n < len(pattern) {
				break
			}
			for i := 0; ; {
				j := bytes.Index(buf[i:n], pattern)
				if j < 0 {
					break
				}
				if addr := l.addr + at + uint64(i+j); addr%align == 0 && found(addr) {
					return true
				}
				i += j + 1
			}
			at += uint64(n - len(pattern) + 1) // a pattern across the border is found in the next round
		}
	}
	return false
}
