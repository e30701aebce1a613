package memmap

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pageRange is a run of pages that are alike.
type pageRange struct {
	start, end uint64
}

// pages tells which pages of a range of addresses are resident, in order; pages of zeros that the
// kernel shares among all processes are not, as in the kernel's own sums. Swapped are those in swap.
type pages interface {
	present(start, end uint64) (resident, swapped []pageRange, err error)
}

// pagemap asks /proc/PID/pagemap.
type pagemap struct {
	p      *Process
	f      *os.File
	noScan bool         // the kernel has no PAGEMAP_SCAN: before Linux 6.7
	vec    []scanRegion // what the kernel writes to
}

func (p *Process) pages() *pagemap { return &pagemap{p: p} }

// scanArgument is struct pm_scan_arg, and region struct page_region (include/uapi/linux/fs.h).
type scanArgument struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages      uint64
	invertedCategories, allCategories, anyCategories, returnMask uint64
}

type scanRegion struct {
	start, end, categories uint64
}

const (
	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5
)

func (m *pagemap) open() error {
	if m.f != nil {
		return nil
	}
	f, err := m.p.open("pagemap")
	m.f = f
	return err
}

func (m *pagemap) close() {
	if m.f != nil {
		m.f.Close()
		m.f = nil
	}
}

func (m *pagemap) present(start, end uint64) (resident, swapped []pageRange, err error) {
	if err := m.open(); err != nil {
		return nil, nil, err
	}
	start, end = start&^(pageSize-1), (end+pageSize-1)&^(pageSize-1)
	if !m.noScan {
		resident, swapped, err = m.scan(start, end)
		if err == nil {
			return resident, swapped, nil
		}
		m.noScan = true
	}
	return m.walk(start, end)
}

func appendRange(all []pageRange, start, end uint64) []pageRange {
	if n := len(all); n > 0 && all[n-1].end == start {
		all[n-1].end = end
		return all
	}
	return append(all, pageRange{start, end})
}

func (m *pagemap) scan(start, end uint64) (resident, swapped []pageRange, err error) {
	if m.vec == nil {
		m.vec = make([]scanRegion, 1024)
	}
	for at := start; at < end; {
		arg := scanArgument{
			size: uint64(unsafe.Sizeof(scanArgument{})), start: at, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&m.vec[0]))), vecLen: uint64(len(m.vec)),
			invertedCategories: pageZero, allCategories: pageZero,
			anyCategories: pagePresent | pageSwapped, returnMask: pagePresent | pageSwapped,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, m.f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 {
			return nil, nil, errno
		}
		for _, r := range m.vec[:min(int(n), len(m.vec))] {
			if r.categories&pagePresent != 0 {
				resident = appendRange(resident, r.start, r.end)
			} else {
				swapped = appendRange(swapped, r.start, r.end)
			}
		}
		if arg.walkEnd <= at {
			break
		}
		at = arg.walkEnd
	}
	return resident, swapped, nil
}

// walk reads an entry of 8 bytes for each page: bit 63 says present, bit 62 swapped, bit 56 mapped by
// no other, bit 61 of a file or shared (Documentation/admin-guide/mm/pagemap.rst).
func (m *pagemap) walk(start, end uint64) (resident, swapped []pageRange, err error) {
	buf := make([]byte, 64<<10)
	for at := start; at < end; {
		want := min(uint64(len(buf)), (end-at)/pageSize*8)
		n, err := m.f.ReadAt(buf[:want], int64(at/pageSize*8))
		for i := 0; i+8 <= n; i += 8 {
			e := binary.LittleEndian.Uint64(buf[i:])
			page := at + uint64(i)/8*pageSize
			switch {
			case e&(1<<63) != 0:
				resident = appendRange(resident, page, page+pageSize)
			case e&(1<<62) != 0:
				swapped = appendRange(swapped, page, page+pageSize)
			}
		}
		if n < 8 {
			return resident, swapped, err
		}
		at += uint64(n) / 8 * pageSize
	}
	return resident, swapped, nil
}
