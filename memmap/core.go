package memmap

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// biasOf is how far the program was moved when it was loaded: where its first segment is mapped, less
// where the file wants it.
func biasOf(exe io.ReaderAt, path string, mappings []mapping) uint64 {
	f, err := elf.NewFile(exe)
	if err != nil || f.Type != elf.ET_DYN {
		return 0
	}
	for i := range mappings {
		if m := &mappings[i]; m.path == path && m.inode != 0 {
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD && p.Off&^(pageSize-1) == m.offset {
					return m.start - p.Vaddr&^(pageSize-1)
				}
			}
		}
	}
	return 0
}

// SniffCore says whether a file that begins with head is a core file.
func SniffCore(head []byte) bool {
	if len(head) < 18 || string(head[:4]) != elf.ELFMAG {
		return false
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	return elf.Type(order.Uint16(head[16:])) == elf.ET_CORE
}

// A CoreOptions says how a core file is read. The zero value works.
type CoreOptions struct {
	// Exe is the path of the program that the core is of; "" takes the one that the core names.
	Exe string
}

// ReadCore makes a snapshot of a core file. A core does not tell what was resident: what it has of a
// region counts as resident unless it is all zeros, and shared and swapped memory are not told apart. A
// note says so, another what is missing of a file that ends early. It fails where the file is no core
// of a 64-bit little-endian program.
func ReadCore(ctx context.Context, path string, o CoreOptions) (*Snapshot, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("map core file %s: %w", path, cause(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("map core file %s: %w", path, cause(err))
	}
	c, err := parseCore(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("map core file %s: %w", path, err)
	}
	s := &Snapshot{Version: formatVersion, Time: info.ModTime(), PID: c.pid, Name: c.name, Core: path, Regions: []Region{}}
	s.note("A core file does not tell what was resident: what it has and is not all zeros counts as that.")
	if c.cut > 0 {
		s.note("The core file ends early: %s of %d segments are missing.", bytesText(c.missing), c.cut)
	}
	if c.lacking > 0 {
		s.note("%d segments (%s) were not written to the core file, see core(5) at coredump_filter: they count as not resident.", c.lacking, bytesText(c.lackingBytes))
	}
	if len(c.threads) > 0 {
		s.Status.Threads = len(c.threads)
	}
	exe := cmp.Or(o.Exe, c.exe)
	s.Exe = c.exe
	a := analysis{snapshot: s, mappings: c.mappings, threads: c.threads, memory: c, pages: c, exe: c.exe, walk: true}
	if exe != "" {
		if f, err := openRegular(exe); err == nil {
			defer f.Close()
			a.bias = biasOf(f, c.exe, c.mappings)
			a.runtime, err = goruntime.Open(f, a.bias, c)
			s.noteGo(a.runtime, err)
		} else {
			s.note("The program %s is not here, so a Go runtime cannot be asked where its memory is: give it with --exe.", exe)
		}
	}
	for i := range a.mappings {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.count(&a.mappings[i])
	}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	total := s.Total()
	s.Status.Size, s.Status.Resident, s.Status.Rollup = total.Size, total.Resident, total.Resident
	return s, nil
}

func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// A core is what is read of a core file (core(5), elf(5)).
type core struct {
	file     *os.File
	r        io.ReaderAt
	pid      int
	name     string
	exe      string
	mappings []mapping
	segments []segment // in order of address, as mappings
	threads  []thread

	cut, lacking          int // segments that the file ends before, that were never written
	missing, lackingBytes int64
}

type segment struct {
	start, end uint64 // runtime addresses of what the file has
	offset     int64  // in the file
}

// Bounds of a core file: the kernel writes a program header for each mapping.
const (
	maxSegments = 1 << 20
	maxNotes    = 256 << 20
)

// Types of notes (include/uapi/linux/elf.h).
const (
	noteStatus  = 1 // prstatus_t, one for each thread
	noteProcess = 3 // prpsinfo_t
	noteFiles   = 0x46494c45
)

func parseCore(r io.ReaderAt, size int64) (*core, error) {
	var head [64]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, errors.New("it is no core file: it is shorter than an ELF header")
	}
	switch {
	case !SniffCore(head[:]):
		return nil, errors.New("it is no core file")
	case head[4] != byte(elf.ELFCLASS64) || head[5] != byte(elf.ELFDATA2LSB):
		return nil, errors.New("it is of a 32-bit or a big-endian program; only 64-bit little-endian ones are read")
	}
	le := binary.LittleEndian
	at, entry, count := le.Uint64(head[32:]), le.Uint16(head[54:]), uint64(le.Uint16(head[56:]))
	if entry != 56 || at > uint64(size) {
		return nil, errors.New("its program headers are damaged")
	}
	if count == 0xffff { // PN_XNUM: the number is in the first section header
		var section [64]byte
		if _, err := r.ReadAt(section[:], int64(le.Uint64(head[40:])&(1<<62-1))); err != nil {
			return nil, errors.New("the number of its program headers is missing")
		}
		count = uint64(le.Uint32(section[44:])) // sh_info
	}
	if count > maxSegments || count*56 > uint64(size)-at {
		return nil, errors.New("it ends within its program headers; get it whole")
	}
	table := make([]byte, count*56)
	if _, err := r.ReadAt(table, int64(at)); err != nil {
		return nil, fmt.Errorf("read its program headers: %w", err)
	}
	c := &core{r: r}
	c.file, _ = r.(*os.File)
	var notes []byte
	for ; len(table) > 0; table = table[56:] {
		kind, flags := elf.ProgType(le.Uint32(table)), elf.ProgFlag(le.Uint32(table[4:]))
		offset, vaddr, inFile, inMemory := le.Uint64(table[8:]), le.Uint64(table[16:]), le.Uint64(table[32:]), le.Uint64(table[40:])
		switch kind {
		case elf.PT_NOTE:
			if offset > uint64(size) || len(notes) > 0 {
				continue
			}
			notes = make([]byte, min(inFile, maxNotes, uint64(size)-offset))
			n, _ := r.ReadAt(notes, int64(offset))
			notes = notes[:n]
		case elf.PT_LOAD:
			if inMemory == 0 || vaddr+inMemory < vaddr || vaddr+inMemory > 1<<57 || vaddr%pageSize != 0 || inMemory%pageSize != 0 {
				continue // [vsyscall] is the kernel's
			}
			m := mapping{start: vaddr, end: vaddr + inMemory, protection: protectionOf([]byte{bit(flags, elf.PF_R, 'r'), bit(flags, elf.PF_W, 'w'), bit(flags, elf.PF_X, 'x'), 'p'})}
			c.mappings = append(c.mappings, m)
			have := min(inFile, inMemory)
			if offset > uint64(size) || have > uint64(size)-offset {
				here := uint64(0)
				if offset < uint64(size) {
					here = uint64(size) - offset
				}
				c.cut++
				c.missing += int64(have - here)
				have = here
			} else if inFile == 0 && flags != 0 {
				c.lacking++
				c.lackingBytes += m.size()
			}
			if have > 0 {
				c.segments = append(c.segments, segment{vaddr, vaddr + have, int64(offset)})
			}
		}
	}
	slices.SortFunc(c.mappings, func(x, y mapping) int { return cmp.Compare(x.start, y.start) })
	slices.SortFunc(c.segments, func(x, y segment) int { return cmp.Compare(x.start, y.start) })
	for i := 1; i < len(c.mappings); i++ {
		if c.mappings[i].start < c.mappings[i-1].end {
			return nil, errors.New("its segments overlap: it is damaged")
		}
	}
	c.parseNotes(notes)
	return c, nil
}

func bit(flags, f elf.ProgFlag, c byte) byte {
	if flags&f != 0 {
		return c
	}
	return '-'
}

// parseNotes reads what the notes tell; what is damaged is left out.
func (c *core) parseNotes(notes []byte) {
	le := binary.LittleEndian
	align := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(notes) >= 12 {
		name, size, kind := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		rest := notes[12:]
		if align(name) > uint64(len(rest)) || align(name)+size > uint64(len(rest)) {
			return
		}
		data := rest[align(name) : align(name)+size]
		notes = rest[min(align(name)+align(size), uint64(len(rest))):]
		switch kind {
		case noteStatus:
			// elf_prstatus of x86-64: the thread id at 32, the registers from 112 on, the stack pointer
			// is the 20th of them.
			if len(data) >= 112+27*8 {
				c.threads = append(c.threads, thread{id: int(int32(le.Uint32(data[32:]))), sp: le.Uint64(data[112+19*8:])})
			}
		case noteProcess:
			// elf_prpsinfo: the process id at 24, the name at 40, 16 bytes.
			if len(data) >= 56 {
				c.pid = int(int32(le.Uint32(data[24:])))
				text, _, _ := bytes.Cut(data[40:56], []byte{0})
				c.name = string(text)
			}
		case noteFiles:
			c.parseFiles(data)
		}
	}
	for i := range c.threads {
		c.threads[i].name = c.name
	}
}

// parseFiles reads NT_FILE: count, page size, then start, end and page offset of each mapping of a
// file, then their paths (fs/binfmt_elf.c at fill_files_note).
func (c *core) parseFiles(data []byte) {
	le := binary.LittleEndian
	if len(data) < 16 {
		return
	}
	count, page := le.Uint64(data), le.Uint64(data[8:])
	if count > uint64(len(data))/24 || 16+count*24 > uint64(len(data)) {
		return
	}
	names := data[16+count*24:]
	first := ""
	inodes := map[string]uint64{} // a core has no inodes: a number for each path
	var unwritten []mapping
	for i := range count {
		e := data[16+i*24:]
		start, end, offset := le.Uint64(e), le.Uint64(e[8:]), le.Uint64(e[16:])
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return
		}
		names = rest
		path, deleted := strings.CutSuffix(string(name), " (deleted)")
		if first == "" {
			first = path
		}
		if inodes[path] == 0 {
			inodes[path] = uint64(len(inodes) + 1)
		}
		if start%pageSize != 0 || end%pageSize != 0 || end <= start || end > 1<<57 {
			continue
		}
		// Debuggers leave what can be read from files out, without a segment for it.
		at := start
		hole := func(to uint64) {
			if at < to {
				unwritten = append(unwritten, mapping{start: at, end: to, protection: "r--p", offset: offset*page + at - start, inode: inodes[path], path: path, deleted: deleted})
			}
		}
		k, _ := slices.BinarySearchFunc(c.mappings, start, func(m mapping, at uint64) int { return cmp.Compare(m.end-1, at) })
		for ; k < len(c.mappings) && c.mappings[k].start < end; k++ {
			m := &c.mappings[k]
			hole(min(m.start, end))
			at = max(at, m.end)
			if m.end > end || m.start < start {
				continue
			}
			m.path, m.deleted, m.inode, m.offset = path, deleted, inodes[path], offset*page+m.start-start
		}
		hole(end)
	}
	c.addUnwritten(unwritten)
	c.exe = first
	for i := range c.mappings { // the program is what has the process's name, else what comes first
		if m := &c.mappings[i]; m.file() && c.name != "" && strings.HasPrefix(filepath.Base(m.path), c.name) {
			c.exe = m.path
			break
		}
	}
}

// maxFiles bounds how many files that a core names are opened.
const maxFiles = 4096

func programHeaders(path string) (all []elf.ProgHeader) {
	f, err := openRegular(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return nil
	}
	for _, p := range e.Progs {
		all = append(all, p.ProgHeader)
	}
	return all
}

// openRegular opens a file that a core names, which may be anything now: opening a pipe would wait for ever.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open %s: it is no regular file", path)
	}
	return f, nil
}

// addUnwritten adds mappings of which the core has nothing but the file's name. What they may do their files
// say, where they are here.
func (c *core) addUnwritten(all []mapping) {
	headers := map[string][]elf.ProgHeader{}
	for i := range all {
		m := &all[i]
		known, ok := headers[m.path]
		if !ok {
			if !m.deleted && len(headers) < maxFiles {
				known = programHeaders(m.path)
			}
			headers[m.path] = known
		}
		for _, p := range known {
			if p.Type == elf.PT_LOAD && m.offset >= p.Off&^(pageSize-1) && m.offset < p.Off+max(p.Filesz, 1) {
				m.protection = protectionOf([]byte{bit(p.Flags, elf.PF_R, 'r'), bit(p.Flags, elf.PF_W, 'w'), bit(p.Flags, elf.PF_X, 'x'), 'p'})
			}
		}
	}
	slices.SortFunc(all, func(x, y mapping) int { return cmp.Compare(x.start, y.start) })
	end := uint64(0)
	for _, m := range all {
		if m.start < end || len(c.mappings) >= maxSegments {
			continue // of a damaged note
		}
		end = m.end
		c.mappings = append(c.mappings, m)
		c.lacking++
		c.lackingBytes += m.size()
	}
	slices.SortFunc(c.mappings, func(x, y mapping) int { return cmp.Compare(x.start, y.start) })
}

// ReadAt reads at a runtime address what the file has.
func (c *core) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		at := uint64(off) + uint64(n)
		i, found := slices.BinarySearchFunc(c.segments, at, func(s segment, at uint64) int { return cmp.Compare(s.start, at) })
		if !found {
			i--
		}
		if i < 0 || at >= c.segments[i].end {
			return n, io.ErrUnexpectedEOF
		}
		s := c.segments[i]
		k, err := c.r.ReadAt(b[n:n+int(min(uint64(len(b)-n), s.end-at))], s.offset+int64(at-s.start))
		n += k
		if k == 0 {
			return n, err
		}
	}
	return n, nil
}

// count takes what the core has of a mapping for what was resident of it.
func (c *core) count(m *mapping) {
	resident, _, _ := c.present(m.start, m.end)
	m.rss = bytesOf(resident)
	m.pss = m.rss
	if m.inode == 0 || m.may('w') {
		m.anonymous = m.rss
	}
	m.privateDirty = m.anonymous
}

// present are the pages of which the core has something else than zeros. Holes of the file are not
// read.
func (c *core) present(start, end uint64) (resident, _ []pageRange, err error) {
	i, _ := slices.BinarySearchFunc(c.segments, start, func(s segment, at uint64) int { return cmp.Compare(s.end-1, at) })
	buf := make([]byte, 256<<10)
	zero := make([]byte, pageSize)
	for ; i < len(c.segments) && c.segments[i].start < end; i++ {
		s := c.segments[i]
		at, stop := max(start, s.start), min(end, s.end)
		for at < stop {
			offset := s.offset + int64(at-s.start)
			if c.file != nil { // skip what the file has no blocks for
				if data, err := unix.Seek(int(c.file.Fd()), offset, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
					break
				} else if err == nil && data > offset {
					skip := uint64(data-offset) &^ (pageSize - 1)
					at += skip
					if skip > 0 {
						continue
					}
				}
			}
			n, _ := c.r.ReadAt(buf[:min(uint64(len(buf)), stop-at)], offset)
			if n <= 0 {
				break
			}
			for k := 0; k < n; k += pageSize {
				page := buf[k:min(k+pageSize, n)]
				if !bytes.Equal(page, zero[:len(page)]) {
					resident = appendRange(resident, at+uint64(k), at+uint64(k)+pageSize)
				}
			}
			at += up(uint64(n))
		}
	}
	return resident, nil, nil
}
