package goruntime

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A place is where a field is in its structure. Both numbers are bytes; the size of a structure itself
// is under the structure's name, with offset 0.
type place struct {
	Offset, Size uint64
}

// A layout is the places of fields by "structure.path.to.field", structures without their package.
type layout map[string]place

func (l layout) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { _, ok := l[n]; return !ok })
}

// wanted are the fields that are read, by structure of package runtime. A name after | is what older
// releases call the one before it. Names change with releases: what is missing switches off what
// needs it. "" stands for the structure's size.
var wanted = map[string][]string{
	"mheap": {"pages.summary", "pages.chunks", "pages.scav.index.chunks", "sweepgen", "allspans", "arenas",
		"heapArenas|allArenas"},
	"mspan": {"", "next", "startAddr", "npages", "freeindex", "nelems", "allocBits", "gcmarkBits", "sweepgen",
		"spanclass", "state", "elemsize", "isUserArenaChunk", "specials"},
	"g":                  {"stack.lo", "stack.hi", "sched.sp", "atomicstatus", "goid", "gopc"},
	"m":                  {"g0", "gsignal", "procid", "alllink"},
	"heapArena":          {""},
	"gcBitsArena":        {"", "next"},
	"workType":           {"wbufSpans.free.first", "wbufSpans.busy.first"},
	"mstats":             {"numgc"},
	"gcControllerState":  {"gcPercent", "memoryLimit"},
	"spanInlineMarkBits": {"", "marks"},
	"pallocData":         {""},
	"buckhashArray":      {""},
	"special":            {"next", "offset", "kind"},
	"specialprofile":     {"b"},
	"bucket":             {"", "typ", "size", "nstk"},
}

// variables are the runtime's that are read.
var variables = []string{
	"runtime.mheap_", "runtime.allgs", "runtime.allm", "runtime.persistentChunks", "runtime.gcBitsArenas",
	"runtime.work", "runtime.buckhash", "runtime.memstats", "runtime.gcController", "runtime.MemProfileRate",
}

// layoutFromDWARF reads the layout from the one unit of the program's DWARF that describes package
// runtime, and as little else as can be: a large program has gigabytes of it.
func layoutFromDWARF(f *elf.File) (layout, error) {
	section := func(name string) []byte {
		s := f.Section(name)
		if s == nil {
			return nil
		}
		b, err := s.Data() // decompresses
		if err != nil {
			return nil
		}
		return b
	}
	info, abbrev := section(".debug_info"), section(".debug_abbrev")
	if info == nil || abbrev == nil {
		return nil, errors.New("it has no DWARF")
	}
	d, err := dwarf.New(abbrev, nil, nil, info, nil, nil, nil, section(".debug_str"))
	if err != nil {
		return nil, fmt.Errorf("its DWARF is damaged: %w", err)
	}
	for _, name := range []string{".debug_addr", ".debug_str_offsets", ".debug_line_str"} {
		if b := section(name); b != nil {
			if err := d.AddSection(name, b); err != nil {
				return nil, fmt.Errorf("its DWARF is damaged: %w", err)
			}
		}
	}
	l := layout{}
	for unit := range units(info) {
		r := d.Reader()
		r.Seek(unit)
		cu, err := r.Next()
		if err != nil || cu == nil {
			return nil, fmt.Errorf("its DWARF is damaged: %w", err)
		}
		if name, _ := cu.Val(dwarf.AttrName).(string); name != "runtime" {
			continue
		}
		found := 0
		for found < len(wanted) {
			e, err := r.Next()
			if err != nil || e == nil || e.Tag == dwarf.TagCompileUnit {
				break
			}
			if e.Children && (e.Tag == dwarf.TagSubprogram || e.Tag == dwarf.TagStructType) {
				name, _ := e.Val(dwarf.AttrName).(string)
				if short, ok := strings.CutPrefix(name, "runtime."); ok && e.Tag == dwarf.TagStructType && wanted[short] != nil {
					if t, err := d.Type(e.Offset); err == nil {
						l.add(short, t)
						found++
					}
				}
				r.SkipChildren()
			}
		}
	}
	if !l.has("mheap.allspans", "mheap.heapArenas", "mspan.startAddr", "mspan.npages", "mspan.state", "mspan.elemsize") {
		return nil, errors.New("its DWARF does not describe the runtime's heap")
	}
	return l, nil
}

// units are the offsets of the first entries of the units in .debug_info (DWARF 5, 7.5.1).
func units(info []byte) func(yield func(dwarf.Offset) bool) {
	return func(yield func(dwarf.Offset) bool) {
		for at := uint64(0); at+12 <= uint64(len(info)); {
			n := uint64(binary.LittleEndian.Uint32(info[at:]))
			head, offsets := uint64(4), uint64(4)
			if n == 0xffffffff {
				n, head, offsets = binary.LittleEndian.Uint64(info[at+4:]), 12, 8
			}
			if n < 8 || n > uint64(len(info))-at-min(head, uint64(len(info))-at) || at+head+3 > uint64(len(info)) {
				return
			}
			first := at + head + 2 + offsets + 1 // version, abbreviations, address size
			if version := binary.LittleEndian.Uint16(info[at+head:]); version >= 5 {
				first++ // unit type
				if kind := info[at+head+2]; kind != 1 {
					at += head + n
					continue // no compile unit
				}
			}
			if !yield(dwarf.Offset(first)) {
				return
			}
			at += head + n
		}
	}
}

// add notes the wanted fields of one structure.
func (l layout) add(name string, t dwarf.Type) {
	for _, want := range wanted[name] {
		if want == "" {
			l[name] = place{0, uint64(max(t.Size(), 0))}
			continue
		}
		want, old, _ := strings.Cut(want, "|")
		for _, path := range []string{want, old} {
			if offset, size, ok := fieldOf(t, path); ok {
				l[name+"."+want] = place{offset, size}
				break
			}
		}
	}
}

func fieldOf(t dwarf.Type, path string) (offset, size uint64, ok bool) {
	for name := range strings.SplitSeq(path, ".") {
		for {
			td, is := t.(*dwarf.TypedefType)
			if !is {
				break
			}
			t = td.Type
		}
		s, is := t.(*dwarf.StructType)
		if !is {
			return 0, 0, false
		}
		i := slices.IndexFunc(s.Field, func(f *dwarf.StructField) bool { return f.Name == name })
		if i < 0 {
			return 0, 0, false
		}
		offset, t = offset+uint64(s.Field[i].ByteOffset), s.Field[i].Type
	}
	return offset, uint64(max(t.Size(), 0)), path != ""
}

// layouts.json is the layout by Go release ("go1.26"), made by TestLayoutsAreCurrent -update.
//
//go:embed layouts.json
var layoutsJSON []byte

var knownLayouts = sync.OnceValue(func() map[string]layout {
	all := map[string]layout{}
	if err := json.Unmarshal(layoutsJSON, &all); err != nil {
		panic("heap/goruntime/layouts.json: " + err.Error()) // it is part of this program
	}
	return all
})

// layoutOf is the layout of the release that a version belongs to: that of go1.26 for go1.26.8. An
// experiment in a version ("X:nogreenteagc") may change structures, so there is none for it.
func layoutOf(version string) (release string, l layout) {
	version, experiment, _ := strings.Cut(version, " ")
	if strings.HasPrefix(experiment, "X:") || strings.Contains(version, "-X:") {
		return "", nil
	}
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return "", nil
	}
	minor := parts[1]
	if i := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = minor[:i] // 26rc1
	}
	release = parts[0] + "." + minor
	return release, knownLayouts()[release]
}

// readSymbols looks the variables up in the symbol table, without making something of the others.
func readSymbols(f *elf.File, bias uint64) map[string]uint64 {
	found := map[string]uint64{}
	table := f.SectionByType(elf.SHT_SYMTAB)
	if table == nil || int(table.Link) >= len(f.Sections) {
		return found
	}
	symbols, err1 := table.Data()
	names, err2 := f.Sections[table.Link].Data()
	if err1 != nil || err2 != nil {
		return found
	}
	want := map[string]bool{}
	for _, v := range variables {
		want[v] = true
	}
	const size = 24 // Elf64_Sym: name, info, other, section, value, size
	for ; len(symbols) >= size; symbols = symbols[size:] {
		at := uint64(binary.LittleEndian.Uint32(symbols))
		if at >= uint64(len(names)) || !bytes.HasPrefix(names[at:], []byte("runtime.")) {
			continue
		}
		name := names[at:min(at+64, uint64(len(names)))]
		if end := bytes.IndexByte(name, 0); end >= 0 && want[string(name[:end])] {
			found[string(name[:end])] = binary.LittleEndian.Uint64(symbols[8:]) + bias
		}
	}
	return found
}
