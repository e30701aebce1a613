package sourcemap

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"sync"
)

// A splitFinder finds what skeleton units are the skeletons of: in the package beside the binary
// (.dwp) or in a file of their own each (.dwo), which the build left where it compiled them.
//
// A unit is taken only where its id is the one that the skeleton names: a .dwo of a later build has
// other entries at other addresses.
type splitFinder struct {
	files    *filePool
	packages []string                         // where a package may be
	remap    func(path string) []string       // further places of a build path
	beside   string                           // folder of the binary; "" for none
	note     func(format string, args ...any) // tells what is wrong, without the binary's name
	mu       sync.Mutex                       // guards what follows; held by find
	opened   []*dwarfPackage
	sought   bool // packages were opened, as far as there are any
	told     bool // a note was given
}

// find is the unit that skeleton stands for, nil where it is not found.
func (s *splitFinder) find(skeleton *unit) *unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := skeleton.splitID()
	if !s.sought {
		s.sought = true
		for _, path := range s.packages {
			if p := s.openPackage(path); p != nil {
				s.opened = append(s.opened, p)
			}
		}
	}
	for _, p := range s.opened {
		if d := p.file(id); d != nil {
			if u := s.unitIn(d, skeleton, id); u != nil {
				return u
			}
		}
	}
	name := skeleton.str(skeleton.root.splitName)
	stale := ""
	for _, path := range s.candidates(skeleton.compDir(), name) {
		f, err := s.files.elf(path)
		if err != nil {
			continue
		}
		d, err := openDWARFFile(f, ".dwo")
		if err != nil {
			continue
		}
		if u := s.unitIn(d, skeleton, id); u != nil {
			return u
		}
		stale = path
	}
	if !s.told {
		s.told = true
		switch {
		case stale != "":
			s.note("its split debug information %s is of another build and is not used: inlined calls have no names; build again and keep the .dwo files", stale)
		default:
			s.note("its split debug information %s is missing: inlined calls have no names; keep the .dwo files where they were compiled, or put a .dwp package beside the binary",
				cleanJoin(skeleton.compDir(), name))
		}
	}
	return nil
}

// splitID is the id of the unit that u is the skeleton of.
func (u *unit) splitID() uint64 {
	if u.version < 5 {
		return u.root.splitID.v
	}
	return u.id
}

// candidates are where a .dwo may be.
func (s *splitFinder) candidates(dir, name string) []string {
	if name == "" {
		return nil
	}
	build := cleanJoin(dir, name)
	var paths []string
	if filepath.IsAbs(build) {
		paths = append(paths, build)
	}
	if s.remap != nil {
		paths = append(paths, s.remap(build)...)
	}
	if s.beside != "" {
		if !filepath.IsAbs(name) {
			paths = append(paths, filepath.Join(s.beside, name))
		}
		paths = append(paths, filepath.Join(s.beside, filepath.Base(name)))
	}
	slices.Sort(paths[min(1, len(paths)):])
	return slices.Compact(paths)
}

// unitIn is the unit of d with an id, opened as the one that skeleton stands for.
func (s *splitFinder) unitIn(d *dwarfFile, skeleton *unit, id uint64) *unit {
	main := skeleton.t
	d.code, d.sums, d.loaded, d.linkerName = main.code, main.sums, main.loaded, main.linkerName
	d.openSup = main.supplement
	d.walk()
	for _, h := range d.headers {
		u := d.unitHeader(h.off)
		if u == nil || !u.usable() || u.version != skeleton.version || u.kind == unitPartial || u.version >= 5 && u.kind != unitSplitCompile {
			continue
		}
		u.skeleton = skeleton
		if u.open() && (u.version >= 5 && u.id == id || u.version < 5 && u.root.splitID.form != 0 && u.root.splitID.v == id) {
			d.units[h.off] = u
			return u
		}
	}
	return nil
}

// A dwarfPackage is a .dwp: the sections of many split units, joined (DWARF 5, 7.3.5, and GNU's
// form before it, gcc.gnu.org/wiki/DebugFissionDWP).
type dwarfPackage struct {
	whole *dwarfFile
	rows  map[uint64]packageRow // by unit id
	files map[uint64]*dwarfFile
}

// A packageRow is where the parts of one unit are, by kind of section (DW_SECT_…): offset and size.
type packageRow [9][2]uint64

const (
	packageInfo       = 1
	packageAbbrev     = 3
	packageLine       = 4
	packageStrOffsets = 6
	packageRnglists   = 8 // of version 5; of version 2 it is macros
)

// openPackage opens the package at path, nil where there is none.
func (s *splitFinder) openPackage(path string) *dwarfPackage {
	f, err := s.files.elf(path)
	if err != nil {
		return nil
	}
	p, err := newDWARFPackage(f)
	if err != nil {
		s.note("its split debug information %s cannot be used: %v", path, err)
		return nil
	}
	return p
}

func newDWARFPackage(f *elf.File) (*dwarfPackage, error) {
	whole, err := openDWARFFile(f, ".dwo")
	if err != nil {
		return nil, err
	}
	index, err := openContent(f, "debug_cu_index")
	if err != nil {
		return nil, err
	}
	rows := packageIndex(whole.cursor(index.bytes(0, index.size)))
	return &dwarfPackage{whole: whole, rows: rows, files: map[uint64]*dwarfFile{}}, nil
}

// packageIndex reads .debug_cu_index (DWARF 5, 7.3.5.3). What is damaged is left out.
func packageIndex(c cursor) map[uint64]packageRow {
	rows := map[uint64]packageRow{}
	version := c.uint(4) // of GNU's form; else it has two bytes, and padding
	if c.big && version>>16 == 5 {
		version >>= 16
	}
	columns, units, slots := c.uint(4), c.uint(4), c.uint(4)
	rest := uint64(len(c.b) - c.pos)
	if c.bad || version != 2 && version != 5 || columns == 0 || columns > 16 ||
		slots > rest/12 || units > rest/(columns*8) || rest < slots*12+columns*4+units*columns*8 {
		return rows
	}
	hashes := c
	indices := c
	indices.skip(slots * 8)
	c.skip(slots * 12)
	kinds := make([]uint64, columns)
	for i := range kinds {
		kinds[i] = c.uint(4)
	}
	for range slots {
		id, row := hashes.uint(8), indices.uint(4)
		if row == 0 || row > units {
			continue
		}
		var r packageRow
		offset, size := c, c
		offset.skip((row - 1) * columns * 4)
		size.skip((units + row - 1) * columns * 4)
		for _, kind := range kinds {
			at, n := offset.uint(4), size.uint(4)
			if kind < uint64(len(r)) && (kind != packageRnglists || version == 5) {
				r[kind] = [2]uint64{at, n}
			}
		}
		if !offset.bad && !size.bad {
			rows[id] = r
		}
	}
	return rows
}

// file is the DWARF of the unit with an id, nil where the package has none.
func (p *dwarfPackage) file(id uint64) *dwarfFile {
	if d, ok := p.files[id]; ok {
		return d
	}
	r, ok := p.rows[id]
	if !ok {
		return nil
	}
	w := p.whole
	d := &dwarfFile{
		big: w.big, str: w.str, lineStr: w.lineStr, ranges: &content{}, addrs: &content{}, aranges: &content{},
		info: w.info.part(r[packageInfo]), abbrev: w.abbrev.part(r[packageAbbrev]), line: w.line.part(r[packageLine]),
		strOffsets: w.strOffsets.part(r[packageStrOffsets]), rnglists: w.rnglists.part(r[packageRnglists]),
	}
	d.clear()
	p.files[id] = d
	return d
}
