package sourcemap

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// systemDebugFolder is where distributions install debug files.
const systemDebugFolder = "/usr/lib/debug"

// A debugFinder finds the files that hold what was split from a binary: its debug file, by build ID
// or by the link in the binary (https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html),
// and the supplementary file that dwz has moved common entries to.
//
// A file is used only where it is shown to belong to the binary: its build ID is the binary's, or,
// where one of the two has none, its checksum is the one in the binary.
type debugFinder struct {
	folders []string // in the order they are searched
	path    string   // of the binary, as its process saw it; "" where it has none
	files   *filePool
	fetch   func(ctx context.Context, buildID string) (path string, err error) // nil: nothing is fetched
	note    func(format string, args ...any)                                   // tells what is wrong, without the binary's name
	lacks   func(name string)                                                  // tells that the supplementary file is missing
}

// A debugFile is a file that was found.
type debugFile struct {
	path string
	elf  *elf.File
}

// debug is the debug file of a binary, nil where none is found. It fails only with ctx's error.
func (d *debugFinder) debug(ctx context.Context, f *elf.File) (*debugFile, error) {
	id := buildID(f)
	for _, path := range d.byID(id) {
		if found := d.open(path, id); found != nil {
			return found, nil
		}
	}
	if name, sum, ok := debugLink(f); ok {
		for _, path := range d.byName(name) {
			found, err := d.openLinked(ctx, path, id, sum)
			if found != nil || err != nil {
				return found, err
			}
		}
	}
	return d.fetched(ctx, id)
}

// supplement is the supplementary file that f, the file at path, refers to; nil where it refers to
// none or that is not found. It fails only with ctx's error.
func (d *debugFinder) supplement(ctx context.Context, f *elf.File, path string) (*debugFile, error) {
	name, id, ok := altLink(f)
	if !ok {
		return nil, nil
	}
	paths := []string{name}
	if !filepath.IsAbs(name) {
		paths = []string{filepath.Join(filepath.Dir(path), name)}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			paths = append(paths, filepath.Join(filepath.Dir(real), name))
		}
	}
	for _, folder := range d.folders {
		paths = append(paths, filepath.Join(folder, ".dwz", filepath.Base(name)))
	}
	for _, path := range append(paths, d.byID(id)...) {
		if found := d.open(path, id); found != nil {
			return found, nil
		}
	}
	found, err := d.fetched(ctx, id)
	if found == nil && err == nil {
		d.lacks(name)
	}
	return found, err
}

// byID are the places of a file with a build ID.
func (d *debugFinder) byID(id string) []string {
	if len(id) < 4 {
		return nil
	}
	var paths []string
	for _, folder := range d.folders {
		paths = append(paths, filepath.Join(folder, ".build-id", id[:2], id[2:]+".debug"))
	}
	return paths
}

// byName are the places of a file that a binary names.
func (d *debugFinder) byName(name string) []string {
	if d.path == "" {
		return nil
	}
	dir := filepath.Dir(d.path)
	paths := []string{filepath.Join(dir, name), filepath.Join(dir, ".debug", name)}
	for _, folder := range d.folders {
		paths = append(paths, filepath.Join(folder, dir, name))
	}
	return paths
}

// fetched asks the servers for the file of a build ID.
func (d *debugFinder) fetched(ctx context.Context, id string) (*debugFile, error) {
	if d.fetch == nil || id == "" {
		return nil, nil
	}
	path, err := d.fetch(ctx, id)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrNoDebugFile):
		return nil, nil
	case err != nil:
		d.note("%v", err)
		return nil, nil
	}
	return d.open(path, id), nil
}

// open opens the file at path where it is there and has the build ID.
func (d *debugFinder) open(path, id string) *debugFile {
	f, err := d.files.elf(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.note("its debug file %s cannot be used: %v", path, err)
		}
		return nil
	}
	if got := buildID(f); got != id {
		d.note("the debug file %s is of another build (build ID %s, not %s) and is not used; install the one of this build", path, cmp.Or(got, "none"), id)
		return nil
	}
	return &debugFile{path, f}
}

// openLinked opens the file at path where it is there and is the one that a binary with the build ID
// id links to by its checksum.
func (d *debugFinder) openLinked(ctx context.Context, path, id string, sum uint32) (*debugFile, error) {
	file, err := d.files.get(path)
	if err != nil {
		return nil, nil
	}
	f, err := elf.NewFile(file)
	if err != nil || !hasDWARF(f) && f.SectionByType(elf.SHT_SYMTAB) == nil {
		return nil, nil // the binary itself, or of no use
	}
	got := buildID(f)
	if got != "" && got == id {
		return &debugFile{path, f}, nil
	}
	if got == "" || id == "" {
		has, err := checksum(ctx, file)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && has == sum {
			return &debugFile{path, f}, nil
		}
	}
	d.note("the debug file %s is of another build and is not used; install the one of this build", path)
	return nil, nil
}

// checksum is the CRC-32 of a file.
func checksum(ctx context.Context, file *pooledFile) (uint32, error) {
	hash := crc32.NewIEEE()
	r := io.NewSectionReader(file, 0, file.info.Size())
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		_, err := io.CopyN(hash, r, 8<<20)
		if err == io.EOF {
			return hash.Sum32(), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// hasDWARF says whether a file has debug information itself.
func hasDWARF(f *elf.File) bool {
	return slices.ContainsFunc(f.Sections, func(s *elf.Section) bool {
		return (s.Name == ".debug_info" || s.Name == ".zdebug_info") && s.Type != elf.SHT_NOBITS && s.Size > 0
	})
}

// buildID is a file's GNU build ID in lower-case hexadecimal, "" where it has none. The note is the
// one of name "GNU" and type 3, NT_GNU_BUILD_ID.
func buildID(f *elf.File) string {
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOTE && s.FileSize < 1<<16 && s.Flags&elf.SHF_COMPRESSED == 0 && s.ReaderAt != nil {
			if id := noteID(f, s.ReaderAt, s.FileSize); id != "" {
				return id
			}
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_NOTE && p.Filesz < 1<<16 {
			if id := noteID(f, p.ReaderAt, p.Filesz); id != "" {
				return id
			}
		}
	}
	return ""
}

func noteID(f *elf.File, r io.ReaderAt, size uint64) string {
	b := make([]byte, size)
	if n, _ := r.ReadAt(b, 0); uint64(n) < size {
		return ""
	}
	for len(b) >= 12 {
		nameSize, descSize, kind := uint64(f.ByteOrder.Uint32(b)), uint64(f.ByteOrder.Uint32(b[4:])), f.ByteOrder.Uint32(b[8:])
		desc := 12 + (nameSize+3)&^3
		end := desc + descSize
		if end > uint64(len(b)) {
			return ""
		}
		if kind == 3 && string(b[12:12+nameSize]) == "GNU\x00" && descSize >= 4 && descSize <= 64 {
			return hex.EncodeToString(b[desc:end])
		}
		b = b[min((end+3)&^3, uint64(len(b))):]
	}
	return ""
}

// debugLink is what .gnu_debuglink says: a file's name without folders, and the CRC-32 of its
// content.
func debugLink(f *elf.File) (name string, sum uint32, ok bool) {
	return parseDebugLink(linkSection(f, ".gnu_debuglink"), f.ByteOrder)
}

func parseDebugLink(data []byte, order binary.ByteOrder) (name string, sum uint32, ok bool) {
	raw, _, found := bytes.Cut(data, []byte{0})
	at := (len(raw) + 4) &^ 3 // behind the name and its end, at a multiple of 4
	if !found || len(raw) == 0 || at+4 > len(data) || bytes.ContainsRune(raw, '/') || string(raw) == "." || string(raw) == ".." {
		return "", 0, false
	}
	return string(raw), order.Uint32(data[at:]), true
}

// altLink is what names a supplementary file and its build ID: .gnu_debugaltlink (a path and the
// bytes of the ID), or .debug_sup of DWARF 5 (section 7.3.6: version, whether this is the
// supplementary file itself, path, size of the ID, ID).
func altLink(f *elf.File) (name, id string, ok bool) {
	if data := linkSection(f, ".gnu_debugaltlink"); data != nil {
		return parseAltLink(data)
	}
	if data := linkSection(f, ".debug_sup"); data != nil {
		return parseSup(cursor{b: data, big: f.ByteOrder.Uint16([]byte{0, 1}) == 1})
	}
	return "", "", false
}

func parseAltLink(data []byte) (name, id string, ok bool) {
	raw, rest, found := bytes.Cut(data, []byte{0})
	if !found || len(raw) == 0 || len(rest) < 4 || len(rest) > 64 {
		return "", "", false
	}
	return string(raw), hex.EncodeToString(rest), true
}

func parseSup(c cursor) (name, id string, ok bool) {
	version, itself := c.u16(), c.u8()
	name = c.cstring()
	size := c.uleb()
	if c.bad || version != 5 || itself != 0 || name == "" || size < 4 || size > 64 {
		return "", "", false
	}
	raw := c.take(int(size))
	if c.bad {
		return "", "", false
	}
	return name, hex.EncodeToString(raw), true
}

// linkSection is a short section's content, nil where it is not there.
func linkSection(f *elf.File, name string) []byte {
	s := f.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > 1<<16 || s.FileSize > 1<<16 {
		return nil
	}
	data, err := sectionData(s)
	if err != nil {
		return nil
	}
	return data
}
