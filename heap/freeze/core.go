package freeze

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of a core file: the kernel writes a program header for each mapping.
const (
	maxSegments = 1 << 20
	maxNotes    = 256 << 20
)

// A coreFile is what a core file is made of (core(5), elf(5)).
type coreFile struct {
	meta    meta
	own     bool // our own note is there
	machine elf.Machine
	entry   uint64 // where the program begins; 0 is unknown
	regions []Region
	pieces  []piece
	threads []Thread
	auxv    []byte
	files   []Region // what mapped files are named, of NT_FILE
	args    string   // the command line, cut by the kernel

	cut     int   // segments of which the file lacks something because it ends early
	missing int64 // how many bytes
	lacking int64 // bytes of readable memory that were never written to the file
}

var errShort = errors.New("it ends within its program headers; get it whole")

// parseCore reads the headers and notes of a core file that is in memory.
func parseCore(data []byte) (*coreFile, error) {
	le := binary.LittleEndian
	switch {
	case len(data) < 64 || string(data[:4]) != elf.ELFMAG:
		return nil, errors.New("it is no core file")
	case data[4] != byte(elf.ELFCLASS64) || data[5] != byte(elf.ELFDATA2LSB):
		return nil, errors.New("it is of a 32-bit or a big-endian program; only those of 64-bit little-endian ones are read")
	case elf.Type(le.Uint16(data[16:])) != elf.ET_CORE:
		return nil, errors.New("it is a program or a library, no core file")
	}
	c := &coreFile{machine: elf.Machine(le.Uint16(data[18:]))}
	if c.machine != elf.EM_X86_64 && c.machine != elf.EM_AARCH64 {
		return nil, fmt.Errorf("it is of a program for %s; those for x86-64 and arm64 are read", machineWords(c.machine))
	}
	size := uint64(len(data))
	at, entry, count := le.Uint64(data[32:]), le.Uint16(data[54:]), uint64(le.Uint16(data[56:]))
	if entry != 56 {
		return nil, errors.New("its program headers are damaged")
	}
	if count == 0xffff { // PN_XNUM: the number is in sh_info of the first section header
		section := le.Uint64(data[40:])
		if section > size || size-section < 64 {
			return nil, errShort
		}
		count = uint64(le.Uint32(data[section+44:]))
	}
	if at > size || count > maxSegments || count*56 > size-at {
		return nil, errShort
	}
	var notes []byte
	for table := data[at:][:count*56]; len(table) > 0; table = table[56:] {
		kind, flags := elf.ProgType(le.Uint32(table)), elf.ProgFlag(le.Uint32(table[4:]))
		offset, vaddr, inFile, inMemory := le.Uint64(table[8:]), le.Uint64(table[16:]), le.Uint64(table[32:]), le.Uint64(table[40:])
		have := uint64(0) // bytes that are there
		if offset < size {
			have = min(inFile, size-offset)
		}
		switch kind {
		case elf.PT_NOTE:
			if notes == nil && have > 0 {
				notes = data[offset:][:min(have, maxNotes)]
			}
		case elf.PT_LOAD:
			inMemory = max(inMemory, inFile) // gdb before 13 wrote none for what it did not know
			if inMemory == 0 || vaddr+inMemory < vaddr || vaddr+inMemory > 1<<57 || vaddr%pageSize != 0 {
				continue // [vsyscall] is the kernel's
			}
			c.regions = append(c.regions, Region{Start: vaddr, End: vaddr + up(inMemory), Perm: permOf(flags)})
			if have < inFile {
				c.cut++
				c.missing += int64(inFile - have)
			} else if inFile == 0 && flags&elf.PF_W != 0 {
				c.lacking += int64(inMemory)
			}
			if have > 0 {
				c.pieces = append(c.pieces, piece{vaddr, vaddr + have, data[offset:][:have:have]})
			}
		}
	}
	slices.SortFunc(c.regions, func(x, y Region) int { return cmp.Compare(x.Start, y.Start) })
	slices.SortFunc(c.pieces, func(x, y piece) int { return cmp.Compare(x.start, y.start) })
	for i := 1; i < len(c.regions); i++ {
		if c.regions[i].Start < c.regions[i-1].End {
			return nil, errors.New("its segments overlap: it is damaged")
		}
	}
	c.parseNotes(notes)
	return c, nil
}

func permOf(flags elf.ProgFlag) string {
	b := []byte("---p")
	for i, f := range []elf.ProgFlag{elf.PF_R, elf.PF_W, elf.PF_X} {
		if flags&f != 0 {
			b[i] = "rwx"[i]
		}
	}
	return string(b)
}

// parseNotes reads what the notes tell; what is damaged counts as not there.
func (c *coreFile) parseNotes(notes []byte) {
	le := binary.LittleEndian
	var delve []Thread
	for n := range eachNote(notes) {
		var last *Thread
		if len(c.threads) > 0 {
			last = &c.threads[len(c.threads)-1]
		}
		switch n.kind {
		case noteStatus:
			if len(n.data) < 112 {
				continue
			}
			t := Thread{TID: int(int32(le.Uint32(n.data[32:])))}
			if c.machine == elf.EM_X86_64 && len(n.data) >= 112+registerBytes {
				t.Regs = registersOf(n.data[112:])
			}
			c.threads = append(c.threads, t)
		case noteFloat:
			if last != nil && c.machine == elf.EM_X86_64 {
				last.FP = n.data
			}
		case noteXState:
			if last != nil && c.machine == elf.EM_X86_64 {
				last.State = n.data
			}
		case noteProcess:
			if len(n.data) >= 136 {
				c.meta.PID = int(int32(le.Uint32(n.data[24:])))
				c.meta.Name = textOf(n.data[40:56])
				c.args = textOf(n.data[56:136])
			}
		case noteAuxv:
			c.auxv = n.data
		case noteFiles:
			c.files = parseFiles(n.data)
		case delveHeader:
			c.parseDelveHeader(n.data)
		case delveThread:
			if t, ok := parseDelveThread(n.data); ok {
				delve = append(delve, t)
			}
		case noteOwn:
			if m, ok := parseOwn(n.data); ok {
				c.meta, c.own = m, true
			}
		}
	}
	if len(c.threads) == 0 {
		c.threads = delve
	}
	if c.own {
		for i := range c.threads {
			if i < len(c.meta.Threads) {
				c.threads[i].Name = c.meta.Threads[i]
			}
			if !c.meta.Stood {
				c.threads[i].Regs = nil
			}
		}
		if regions, err := parseMaps([]byte(c.meta.Maps)); err == nil {
			c.regions = regions
			return
		}
	}
	// The kernel puts the thread that died first; the one with the process's id is the main one.
	if i := slices.IndexFunc(c.threads, func(t Thread) bool { return t.TID == c.meta.PID }); i > 0 {
		main := c.threads[i]
		copy(c.threads[1:i+1], c.threads[:i])
		c.threads[0] = main
	}
	for _, f := range c.files {
		k, _ := slices.BinarySearchFunc(c.regions, f.Start, func(r Region, at uint64) int { return cmp.Compare(r.Start, at) })
		for ; k < len(c.regions) && c.regions[k].End <= f.End; k++ {
			r := &c.regions[k]
			r.Path, r.Deleted, r.Offset = f.Path, f.Deleted, f.Offset+r.Start-f.Start
		}
	}
	// What was not written at all has no segment with some writers.
	for _, f := range c.files {
		k, found := slices.BinarySearchFunc(c.regions, f.Start, func(r Region, at uint64) int { return cmp.Compare(r.Start, at) })
		if !found && (k == len(c.regions) || c.regions[k].Start >= f.End) && (k == 0 || c.regions[k-1].End <= f.Start) {
			f.Perm = "r--p"
			c.regions = slices.Insert(c.regions, k, f)
		}
	}
}

func textOf(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// OpenCore opens a core file. Exe is the program that it is of; "" takes the one that the core names, if
// that is here. Where the program is not, or is another (its build ID is not that in the core), an exe that
// was given is an error; one that the core names is what Executable tells and Notes says.
//
// A core file that ends early is opened as far as it goes, and Notes says what is missing. It fails where
// the file is no core of a 64-bit little-endian program for x86-64 or arm64.
func OpenCore(path, exe string) (*Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open core file %s: %w", path, cause(err))
	}
	image, err := openCore(file, path)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open core file %s: %w", path, err)
	}
	if err := image.openExe(exe); err != nil {
		image.Close()
		return nil, fmt.Errorf("open core file %s with the program %s: %w", path, exe, err)
	}
	image.openFiles(func(r *Region) (*os.File, error) { return os.Open(r.Path) })
	return image, nil
}

// openCore makes an image of a core file, which is the image's when there is no error. The program and
// other files are not opened.
func openCore(file *os.File, path string) (*Image, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file that can be mapped")
	}
	image := &Image{}
	data, err := image.mapFile(file, info.Size())
	if err != nil {
		return nil, errors.New("it is no core file: it is empty")
	}
	c, err := parseCore(data)
	if err != nil {
		image.Close()
		return nil, err
	}
	image.file, image.meta, image.machine = file, c.meta, c.machine
	image.regions, image.threads, image.auxv, image.pieces = c.regions, c.threads, c.auxv, c.pieces
	image.entry = cmp.Or(image.auxValue(auxEntry), c.entry)
	if !c.own {
		image.meta.How, image.meta.Taken = Core, info.ModTime()
		image.meta.Exe = c.exeName(image)
	}
	if c.cut > 0 {
		image.note("the core file ends early: %s of %d segments are missing", bytesText(c.missing), c.cut)
	}
	if c.lacking > 0 && !c.own {
		image.note("%s of writable memory were never written to the core file, see core(5) at coredump_filter", bytesText(c.lacking))
	}
	return image, nil
}

func (i *Image) note(format string, args ...any) {
	i.meta.Notes = append(i.meta.Notes, fmt.Sprintf(format, args...))
}

// exeName is the path of the program that a foreign core is of: the mapped file in which the kernel said
// the program's headers are, else what it said was executed.
func (c *coreFile) exeName(i *Image) string {
	for _, at := range []uint64{i.auxValue(auxPHDR), i.entry} {
		for _, f := range c.files {
			if at != 0 && f.Start <= at && at < f.End {
				return f.Path
			}
		}
	}
	if at := i.auxValue(auxExecFn); at != 0 {
		var b [4096]byte
		n, _ := i.ReadAt(b[:], int64(at))
		if text, _, found := strings.Cut(string(b[:n]), "\x00"); found && filepath.IsAbs(text) {
			return text
		}
	}
	if first, _, _ := strings.Cut(c.args, " "); filepath.IsAbs(first) {
		return first
	}
	return ""
}

// openExe opens the program: the one that is given, which must be right, or the one that the core names.
func (i *Image) openExe(given string) error {
	i.exePath = cmp.Or(given, i.meta.Exe)
	if i.exePath == "" {
		i.exeErr = errors.New("the core file does not name its program: give it")
		return nil
	}
	f, err := os.Open(i.exePath)
	if err == nil {
		if err = i.useExe(f); err != nil {
			f.Close()
		}
	}
	switch {
	case err == nil:
		return nil
	case given != "":
		return cause(err)
	case errors.Is(err, fs.ErrNotExist):
		i.exeErr = fmt.Errorf("the program %s is not here: give it", i.exePath)
	default:
		i.exeErr = fmt.Errorf("%s is not the program that the core is of (%w): give the right one", i.exePath, cause(err))
	}
	i.note("%v", i.exeErr)
	return nil
}

// openFiles adds what the core has not and mapped files have: the program, and files that are what they
// were as far as one can tell. Open opens the file of a region.
func (i *Image) openFiles(open func(*Region) (*os.File, error)) {
	var fresh []piece
	mapped := map[string][]byte{} // by path; nil is not to be had
	for k := range i.regions {
		r := &i.regions[k]
		if !strings.HasPrefix(r.Path, "/") || r.Perm[3] == 's' {
			continue
		}
		data, known := mapped[r.Path]
		if !known {
			data = i.openFile(r, open)
			mapped[r.Path] = data
		}
		fresh = append(fresh, i.backing(r, data)...)
	}
	if len(fresh) > 0 {
		i.pieces = append(i.pieces, fresh...)
		slices.SortFunc(i.pieces, func(x, y piece) int { return cmp.Compare(x.start, y.start) })
	}
}

func (i *Image) openFile(r *Region, open func(*Region) (*os.File, error)) []byte {
	f := i.exe
	if r.Path != i.meta.Exe || f == nil {
		if r.Path == i.meta.Exe || r.Deleted {
			return nil
		}
		var err error
		if f, err = open(r); err != nil {
			return nil
		}
		defer f.Close()
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || f != i.exe && !i.sameFile(r, f) {
		return nil
	}
	data, err := i.mapFile(f, info.Size())
	if err != nil {
		return nil
	}
	return data
}

// sameFile says whether a library is the one in the core, of which the core has the first page.
func (i *Image) sameFile(r *Region, f *os.File) bool {
	if i.live { // the open function has compared device and inode
		return true
	}
	first := slices.IndexFunc(i.regions, func(x Region) bool { return x.Path == r.Path && x.Offset == 0 })
	x, err := elf.NewFile(f)
	if err != nil || first < 0 || len(x.Progs) == 0 {
		return false
	}
	base := uint64(0)
	for _, p := range x.Progs {
		if p.Type == elf.PT_LOAD {
			base = p.Vaddr &^ (pageSize - 1)
			break
		}
	}
	bias := i.regions[first].Start - base
	for _, p := range x.Progs {
		if p.Type == elf.PT_NOTE && p.Filesz > 0 && p.Filesz < 1<<20 {
			want := make([]byte, p.Filesz)
			have := i.Bytes(bias+p.Vaddr, p.Filesz)
			if _, err := p.ReadAt(want, 0); err == nil && have != nil && buildID(want) != "" {
				return bytes.Equal(have, want)
			}
		}
	}
	return false
}

func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// bytesText is a number of bytes as people say it.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[u])
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
