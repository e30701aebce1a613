package freeze

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A load is a segment that a core file is to have.
type load struct {
	region *Region
	start  uint64 // of the segment: a region may have several
	end    uint64
	stored uint64 // bytes from its start that are in the file; a reader takes the rest from the mapped file, or there is none
	spans  []span // what of these is not zeros
	offset int64  // in the core file
}

// A layout is where everything goes in a core file.
type layout struct {
	loads []load
	head  []byte // headers and notes
	size  int64
	bytes int64 // of all spans
}

// gap is how much of a mapped file between two pages that were written to is put into the core file for
// the sake of fewer segments.
const gap = 256 << 10

// wholeMapping is up to which size a mapped file that may be written to, without being changed by it, is put
// into the core file as a whole, as the kernel does.
const wholeMapping = 64 << 20

// plan decides what of a process's memory goes to the core file, as the kernel does by default (core(5)):
// private memory, shared memory without a file that anybody could read again, pages of mapped files that
// the process has written to and the first page of programs and libraries, which has the build ID. Child
// is the process whose pages are looked at.
func plan(regions []Region, m *pagemap) ([]load, error) {
	var loads []load
	for i := range regions {
		r := &regions[i]
		switch {
		case r.Path == "[vsyscall]" || strings.HasPrefix(r.Path, "[vvar"):
			continue // the kernel's, readable by the process only
		case r.Path == "[vdso]":
			loads = append(loads, load{region: r, start: r.Start, end: r.End, stored: r.Size(), spans: []span{{r.Start, r.End}}})
			continue
		}
		again := strings.HasPrefix(r.Path, "/") && r.inode != 0 && !r.Deleted && !strings.HasPrefix(r.Path, "/dev/") && !strings.HasPrefix(r.Path, "/memfd:")
		if r.Perm[3] == 's' && (again || strings.HasPrefix(r.Path, "/dev/") && !strings.HasPrefix(r.Path, "/dev/shm/") && !strings.HasPrefix(r.Path, "/dev/zero")) {
			loads = append(loads, load{region: r, start: r.Start, end: r.End})
			continue
		}
		spans, err := m.written(r.Start, r.End, again)
		if err != nil {
			return nil, err
		}
		if !again {
			// Reservations have no pages, and need none in the file.
			l := load{region: r, start: r.Start, end: r.End, spans: spans}
			if len(spans) > 0 || r.Perm[:3] != "---" {
				l.stored = r.Size()
			}
			loads = append(loads, l)
			continue
		}
		if r.Offset == 0 && r.Perm[0] == 'r' && (len(spans) == 0 || spans[0].start > r.Start) {
			spans = append([]span{{r.Start, r.Start + pageSize}}, spans...)
		}
		if r.Perm[1] == 'w' && r.Size() <= wholeMapping {
			spans = []span{{r.Start, r.End}} // gdb takes no variables from a program's file
		}
		if len(spans) == 0 || spans[0].start > r.Start {
			loads = append(loads, load{region: r, start: r.Start, end: r.End})
		}
		for k := 0; k < len(spans); {
			from, to := spans[k].start, spans[k].end
			for k++; k < len(spans) && spans[k].start-to <= gap; k++ {
				to = spans[k].end
			}
			if n := len(loads); n > 0 && loads[n-1].region == r {
				loads[n-1].end = from
			}
			loads = append(loads, load{region: r, start: from, end: r.End, stored: to - from, spans: []span{{from, to}}})
		}
	}
	return loads, nil
}

// lay puts headers, notes and segments one after the other, the first segment not before from.
func lay(loads []load, notes []byte, from uint64) *layout {
	l := &layout{loads: loads}
	le := binary.LittleEndian
	count := len(loads) + 1
	sections := 0
	if count >= 0xffff { // PN_XNUM
		sections = 1
	}
	const header, entry, section = 64, 56, 64
	at := uint64(header + count*entry + sections*section)
	head := append([]byte(elf.ELFMAG), byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), 0, 0, 0, 0, 0, 0, 0, 0, 0)
	u16 := func(v ...uint16) {
		for _, v := range v {
			head = le.AppendUint16(head, v)
		}
	}
	u32 := func(v ...uint32) {
		for _, v := range v {
			head = le.AppendUint32(head, v)
		}
	}
	u64 := func(v ...uint64) {
		for _, v := range v {
			head = le.AppendUint64(head, v)
		}
	}
	u16(uint16(elf.ET_CORE), uint16(coreMachine))
	u32(uint32(elf.EV_CURRENT))
	shoff := uint64(0)
	if sections > 0 {
		shoff = uint64(header + count*entry)
	}
	u64(0, header, shoff)
	u32(0)
	u16(header, entry, uint16(min(count, 0xffff)), uint16(sections*section), uint16(sections), 0)
	program := func(kind elf.ProgType, flags elf.ProgFlag, offset, vaddr, inFile, inMemory, align uint64) {
		u32(uint32(kind), uint32(flags))
		u64(offset, vaddr, 0, inFile, inMemory, align)
	}
	program(elf.PT_NOTE, 0, at, 0, uint64(len(notes)), 0, 4)
	at = max(up(at+uint64(len(notes))), from)
	for i := range loads {
		s := &loads[i]
		var flags elf.ProgFlag
		for k, f := range []elf.ProgFlag{elf.PF_R, elf.PF_W, elf.PF_X} {
			if s.region.Perm[k] != '-' {
				flags |= f
			}
		}
		for _, p := range s.spans {
			l.bytes += int64(p.end - p.start)
		}
		s.offset = int64(at)
		program(elf.PT_LOAD, flags, at, s.start, s.stored, s.end-s.start, pageSize)
		at += s.stored
	}
	if sections > 0 {
		u32(0, 0)
		u64(0, 0, 0, 0)
		u32(0, uint32(count)) // sh_link, sh_info
		u64(0, 0)
	}
	l.head, l.size = append(head, notes...), int64(at)
	return l
}

// A coreWriter writes a core file of a process.
type coreWriter struct {
	layout  *layout
	memory  memory
	source  *process
	meta    *meta
	threads []Thread
	regions []Region
	ownSize int // of our own note
	pages   *os.File
	from    uint64 // of the first segment
	room    []byte // memory that the file was mapped to before, or nil
}

// prepare looks at what there is to write. Owner is the process that has the threads, source the one whose
// memory is read: itself or its child. The first segment is not before from.
func (source *process) prepare(m *meta, threads []Thread, owner *process, from uint64) (_ *coreWriter, err error) {
	maps, err := source.read("maps")
	if err != nil {
		return nil, source.forbidden(err)
	}
	m.Maps = string(maps)
	w := &coreWriter{source: source, meta: m, threads: threads, from: from}
	if w.regions, err = parseMaps(maps); err != nil {
		return nil, fmt.Errorf("read /proc/%d/maps: %w", source.pid, err)
	}
	if exe, err := source.link("exe"); err == nil {
		m.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	m.Threads = m.Threads[:0]
	for i := range threads {
		m.Threads = append(m.Threads, owner.threadName(threads[i].TID))
	}
	if w.pages, err = source.open("pagemap"); err != nil {
		return nil, source.forbidden(err)
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	loads, err := plan(w.regions, &pagemap{f: w.pages})
	if err != nil {
		return nil, source.gone(err)
	}
	notes, err := w.notes()
	if err != nil {
		return nil, err
	}
	w.layout = lay(loads, notes, from)
	w.memory.pid = source.pid
	if w.memory.f, err = source.open("mem"); err != nil {
		return nil, source.forbidden(err)
	}
	return w, nil
}

func (w *coreWriter) close() {
	w.pages.Close()
	if w.memory.f != nil {
		w.memory.f.Close()
	}
}

// write writes the file; one in memory is mapped.
func (w *coreWriter) write(ctx context.Context, out *os.File, inMemory bool, report func(done, total int64)) error {
	p := &progress{total: w.layout.bytes, report: report}
	if !inMemory {
		return w.layout.writeFile(ctx, out, &w.memory, p)
	}
	size := w.layout.size
	err := out.Truncate(size)
	if err == nil && int64(len(w.room)) >= size {
		return w.layout.writeMapped(ctx, w.room, &w.memory, p)
	}
	if err == nil {
		var data []byte
		if data, err = unix.Mmap(int(out.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			err = w.layout.writeMapped(ctx, data, &w.memory, p)
			unix.Munmap(data)
			return err
		}
	}
	return fmt.Errorf("make a file in memory of %s: %w", bytesText(size), err)
}

// roomForChange is how much longer than expected a file may become in memory that was made ready for it.
const roomForChange = 64 << 20

// makeReady maps a file in memory and has the kernel put pages where the process has some now, which takes
// most of the time of a copy. What it gives is at least as long as the file that is laid out.
func (w *coreWriter) makeReady(out *os.File) ([]byte, error) {
	size := w.layout.size + roomForChange
	if err := out.Truncate(size); err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(out.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	for i := range w.layout.loads {
		s := &w.layout.loads[i]
		for _, sp := range s.spans {
			at := s.offset + int64(sp.start-s.start)
			if unix.Madvise(data[at:at+int64(sp.end-sp.start)], unix.MADV_POPULATE_WRITE) != nil {
				return data, nil // before Linux 5.14: they come when they are written to
			}
		}
	}
	return data, nil
}

// rewrite writes the head once more, for what was not known when it was laid out.
func (w *coreWriter) rewrite(out *os.File) error {
	notes, err := w.notes()
	if err != nil {
		return err
	}
	l := lay(w.layout.loads, notes, w.from)
	if len(l.head) != len(w.layout.head) {
		return nil // never: the note is as long as it was
	}
	if _, err := out.WriteAt(l.head, 0); err != nil {
		return &writeError{cause(err)}
	}
	return nil
}

// notes are the notes of the core file.
func (w *coreWriter) notes() ([]byte, error) {
	p, m := w.source, w.meta
	status, err := p.statusFields("status")
	if err != nil {
		return nil, p.gone(err)
	}
	arguments, _ := p.read("cmdline")
	auxv, err := p.read("auxv")
	if err != nil {
		return nil, p.forbidden(err)
	}
	own, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if w.ownSize == 0 {
		w.ownSize = len(own) + 64
	}
	if len(own) < w.ownSize {
		own = append(own, bytes.Repeat([]byte{' '}, w.ownSize-len(own))...)
	}
	var b []byte
	for i := range w.threads {
		t := &w.threads[i]
		b = appendNote(b, "CORE", noteStatus, statusNote(m.PID, t))
		if i == 0 {
			b = appendNote(b, "CORE", noteProcess, processNote(m, firstNumber(status["Uid"]), firstNumber(status["Gid"]), firstNumber(status["PPid"]), arguments))
			b = appendNote(b, "CORE", noteAuxv, auxv)
			b = appendNote(b, "CORE", noteFiles, filesNote(w.regions))
		}
		if t.FP != nil {
			b = appendNote(b, "CORE", noteFloat, t.FP)
		}
		if t.State != nil {
			b = appendNote(b, "LINUX", noteXState, t.State)
		}
	}
	return appendNote(b, "SIGHTLINE", noteOwn, own), nil
}

func firstNumber(text string) int {
	n := 0
	fmt.Sscan(text, &n)
	return n
}

// A progress counts what is written.
type progress struct {
	done, total int64
	report      func(done, total int64)
}

func (p *progress) add(n int64) {
	p.done += n
	if p.report != nil {
		p.report(p.done, p.total)
	}
}

// writeFile writes a core file of memory to a file of a file system: page by page, and pages of zeros as
// holes.
func (l *layout) writeFile(ctx context.Context, out *os.File, m *memory, p *progress) error {
	if _, err := out.WriteAt(l.head, 0); err != nil {
		return &writeError{cause(err)}
	}
	buf := make([]byte, 1<<20)
	zero := make([]byte, pageSize)
	for i := range l.loads {
		s := &l.loads[i]
		for _, sp := range s.spans {
			for at := sp.start; at < sp.end; {
				if err := ctx.Err(); err != nil {
					return err
				}
				want := min(uint64(len(buf)), sp.end-at)
				b := buf[:want]
				n := m.readSpan(span{at, at + want}, b)
				clear(b[n:])
				if err := writeSparse(out, b, s.offset+int64(at-s.start), zero); err != nil {
					return &writeError{cause(err)}
				}
				p.add(int64(want))
				at += want
			}
		}
	}
	if err := out.Truncate(l.size); err != nil {
		return &writeError{cause(err)}
	}
	return nil
}

// writeSparse writes whole pages, but not those of zeros.
func writeSparse(out *os.File, b []byte, offset int64, zero []byte) error {
	for from := 0; from < len(b); {
		if string(b[from:from+pageSize]) == string(zero) {
			from += pageSize
			continue
		}
		to := from + pageSize
		for to < len(b) && string(b[to:to+pageSize]) != string(zero) {
			to += pageSize
		}
		if _, err := out.WriteAt(b[from:to], offset+int64(from)); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// writeMapped writes a core file of memory to a file in memory, which data is the mapping of: without a
// copy in between, many spans with one call.
func (l *layout) writeMapped(ctx context.Context, data []byte, m *memory, p *progress) error {
	copy(data, l.head)
	const most, room = 512, 16 << 20 // of one call
	local, remote := make([]unix.Iovec, 0, most), make([]unix.RemoteIovec, 0, most)
	size := 0
	flush := func() error {
		if size == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.ProcessVMReadv(m.pid, local, remote, 0)
		if err != nil || n < size {
			n = max(n, 0) // one by one from the span where it stopped
			for i := range local {
				if k := int(local[i].Len); n >= k {
					n -= k
					continue
				} else {
					from := uint64(remote[i].Base)
					m.readSpan(span{from, from + local[i].Len}, bytesAt(local[i].Base, k))
					n = 0
				}
			}
		}
		p.add(int64(size))
		local, remote, size = local[:0], remote[:0], 0
		return nil
	}
	for i := range l.loads {
		s := &l.loads[i]
		for _, sp := range s.spans {
			for at := sp.start; at < sp.end; {
				n := min(sp.end-at, room)
				b := data[s.offset+int64(at-s.start):]
				local = append(local, unix.Iovec{Base: &b[0], Len: n})
				remote = append(remote, unix.RemoteIovec{Base: uintptr(at), Len: int(n)})
				size += int(n)
				at += n
				if len(local) == most || size >= room {
					if err := flush(); err != nil {
						return err
					}
				}
			}
		}
	}
	err := flush()
	runtime.KeepAlive(data)
	return err
}

// WriteCore writes the image as a core file that gdb, Delve and OpenCore read: what nobody wrote to, or is
// zeros, is holes. A file that is there is replaced once the new one is whole; when it fails, nothing is
// left of it.
func (i *Image) WriteCore(path string) error {
	return replaceFile(path, func(out *os.File) error {
		if err := copySparse(context.Background(), out, i.file); err != nil {
			return &writeError{cause(err)}
		}
		return nil
	})
}

// copySparse copies a file, and what it has not or is zeros as holes.
func copySparse(ctx context.Context, out, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	zero := make([]byte, pageSize)
	for at := int64(0); at < info.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err == nil {
			at = data &^ (pageSize - 1)
		}
		n, err := from.ReadAt(buf, at)
		if n == 0 {
			return err
		}
		whole := n &^ (pageSize - 1)
		if err := writeSparse(out, buf[:whole], at, zero); err != nil {
			return err
		}
		if whole < n { // the last bytes of a file
			if _, err := out.WriteAt(buf[whole:n], at+int64(whole)); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return out.Truncate(info.Size())
}
