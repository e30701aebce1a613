package sourcemap

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"
)

// To list its symbols takes the kernel a tenth of a second, each time. Those of its own code, not of
// modules, are the same at the same distances from _text as long as it is the same build, so they are kept
// by its build ID, in the folder of answers.
//
// The layout of a file: magic, version, CRC-32C of what follows; number of symbols and of bytes of names (32
// bits each, little-endian); then, of each symbol, its distance from _text; then, of each, where its name
// begins (32 bits) and its length (16 bits); then the names, and the build ID.
const (
	keptKernelMagic   = "SLkernel"
	keptKernelVersion = 1
	keptKernelHead    = 24
	keptKernelEach    = 4 + 6
	keptKernelSuffix  = ".kernel" + answersSuffix
)

var errKeptKernel = errors.New("the file is damaged, or of another version")

// image is the symbols of the kernel's own code.
func (t *kallsymsTable) image() *kallsymsTable {
	n := 0
	for n < len(t.addrs) && t.names[n].module == 0 && t.addrs[n] <= math.MaxUint32 {
		n++
	}
	return &kallsymsTable{addrs: t.addrs[:n], names: t.names[:n], text: t.text, modules: t.modules[:1]}
}

// covers says that an image answers for an address as the whole list would.
func (t *kallsymsTable) covers(addr uint64) bool {
	return len(t.addrs) > 0 && addr < t.addrs[len(t.addrs)-1]
}

// encode is the content of a kept file for an image.
func (t *kallsymsTable) encode(buildID string) []byte {
	le := binary.LittleEndian
	size := 0
	for _, n := range t.names {
		size += int(n.len)
	}
	b := make([]byte, keptKernelHead, keptKernelHead+keptKernelEach*len(t.addrs)+size+len(buildID))
	for _, a := range t.addrs {
		b = le.AppendUint32(b, uint32(a))
	}
	at := uint32(0)
	for _, n := range t.names {
		b = le.AppendUint16(le.AppendUint32(b, at), n.len)
		at += uint32(n.len)
	}
	for _, n := range t.names {
		b = append(b, t.text[n.off:][:n.len]...)
	}
	b = append(b, buildID...)
	copy(b, keptKernelMagic)
	le.PutUint32(b[8:], keptKernelVersion)
	le.PutUint32(b[16:], uint32(len(t.addrs)))
	le.PutUint32(b[20:], at)
	le.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

// decodeKernel reads what encode has written for a build ID; it keeps b.
func decodeKernel(b []byte, buildID string) (*kallsymsTable, error) {
	le := binary.LittleEndian
	if len(b) < keptKernelHead || string(b[:8]) != keptKernelMagic || le.Uint32(b[8:]) != keptKernelVersion ||
		le.Uint32(b[12:]) != crc32.Checksum(b[16:], castagnoli) {
		return nil, errKeptKernel
	}
	n, size := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:]))
	if uint64(len(b)) != keptKernelHead+keptKernelEach*n+size+uint64(len(buildID)) || string(b[len(b)-len(buildID):]) != buildID {
		return nil, errKeptKernel
	}
	addrs, names := b[keptKernelHead:], b[keptKernelHead+4*n:]
	t := &kallsymsTable{
		addrs: make([]uint64, n), names: make([]kernelName, n), text: b[keptKernelHead+keptKernelEach*n:][:size], modules: []string{""},
	}
	for i := range t.addrs {
		t.addrs[i] = uint64(le.Uint32(addrs[4*i:]))
		name := kernelName{off: le.Uint32(names[6*i:]), len: le.Uint16(names[6*i+4:])}
		if i > 0 && t.addrs[i] <= t.addrs[i-1] || uint64(name.off)+uint64(name.len) > size {
			return nil, errKeptKernel
		}
		t.names[i] = name
	}
	return t, nil
}

// kernelTable is the table for a batch of the kernel's code; nil where its names may not be read.
func (s *Symbolizer) kernelTable(w *batch, buildID string) table {
	dir := s.config.AnswersDir
	keeps := dir != "" && isBuildID(buildID)
	path := filepath.Join(dir, buildID+keptKernelSuffix)
	if !s.kernelOK && s.image == nil && keeps {
		if text, err := readOwn(path); err == nil {
			if s.image, err = decodeKernel([]byte(text), buildID); err != nil {
				os.Remove(path)
			}
			now := time.Now()
			os.Chtimes(path, now, now) // as readAnswers
		}
	}
	if !s.kernelOK && s.image != nil && w.within(s.image) {
		return s.image
	}
	if !s.kernelOK {
		s.kernelOK = true
		s.kernel = s.openKernel()
		if all, ok := s.kernel.(*kallsymsTable); ok && keeps && s.image == nil {
			_ = writeKept(dir, buildID+keptKernelSuffix, all.image().encode(buildID)) // it is as well listed again
		}
	}
	return s.kernel
}

// within says whether the image of a kernel answers for all that the batch asks.
func (w *batch) within(image *kallsymsTable) bool {
	for i := range w.asks {
		if !image.covers(w.asks[i].addr) {
			return false
		}
	}
	return true
}
