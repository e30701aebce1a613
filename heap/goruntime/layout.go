package goruntime

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
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

// wanted are the fields that are read, by structure: of package runtime unless structurePackages names
// another. A name after | is what other releases call the one before it. Names change with releases:
// what is missing switches off what needs it. "" stands for the structure's size.
var wanted = map[string][]string{
	"mheap": {"pages.summary", "pages.chunks", "pages.scav.index.chunks", "sweepgen", "allspans", "arenas",
		"heapArenas|allArenas"},
	"mspan": {"", "next", "startAddr", "npages", "freeindex", "freeIndexForScan", "nelems", "allocBits", "gcmarkBits", "sweepgen",
		"spanclass", "state", "elemsize", "isUserArenaChunk", "specials", "largeType"},
	"g": {"", "stack.lo", "stack.hi", "sched.sp", "sched.pc", "atomicstatus", "goid", "m", "syscallsp", "syscallpc", "waitsince",
		"waitreason", "gopc", "startpc", "parentGoid"},
	"m":                  {"g0", "gsignal", "procid", "alllink", "curg"},
	"heapArena":          {""},
	"gcBitsArena":        {"", "next"},
	"workType":           {"wbufSpans.free.first", "wbufSpans.busy.first"},
	"mstats":             {"numgc", "last_gc_nanotime"},
	"gcControllerState":  {"gcPercent", "memoryLimit", "heapMarked"},
	"spanInlineMarkBits": {"", "marks"},
	"pallocData":         {""},
	"buckhashArray":      {""},
	"moduledata": {"", "pcHeader", "funcnametab", "cutab", "filetab", "pctab", "pclntable", "ftab", "text", "etext", "data", "edata",
		"bss", "ebss", "types", "etypes", "gofunc", "gcdatamask.bytedata", "gcbssmask.bytedata", "next"},
	"special":           {"next", "offset", "kind"},
	"specialfinalizer":  {"fn"},
	"specialprofile":    {"b"},
	"specialWeakHandle": {"handle"},
	"specialCleanup":    {"cleanup.fn|fn"},
	"bucket":            {"", "typ", "size", "nstk"},
	"finblock|finBlock": {"alllink", "cnt", "fin"},
	"finalizer":         {"", "fn", "arg"},
	"cleanupQueue":      {"all"},
	"cleanupBlock":      {"cleanupBlockHeader.alllink", "cleanupBlockHeader.n", "cleanups"},
	"cleanupFn":         {"", "fn", "arg"},
	"hmap":              {"", "count", "B", "buckets", "oldbuckets"},
	"hchan":             {"", "dataqsiz", "buf"},
	"maps.Map":          {"", "used", "dirPtr", "dirLen"},
	"maps.table":        {"", "used", "capacity", "groups.data", "groups.lengthMask"},
}

// structurePackages are those of the structures that package runtime does not have.
var structurePackages = map[string]string{"maps.Map": "internal/runtime/maps.Map", "maps.table": "internal/runtime/maps.table"}

// variables are the runtime's that are read.
var variables = []string{
	"runtime.mheap_", "runtime.allgs", "runtime.allm", "runtime.persistentChunks", "runtime.gcBitsArenas",
	"runtime.work", "runtime.buckhash", "runtime.memstats", "runtime.gcController",
	"runtime.firstmoduledata", "runtime.MemProfileRate", "runtime.allfin", "runtime.gcCleanups",
	"runtime.waitReasonStrings",
}

// layoutFromDWARF reads the layout from the program's DWARF.
func layoutFromDWARF(x *debugInfo) (layout, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := layout{}
	for names := range wanted {
		name, other, _ := strings.Cut(names, "|")
		for _, short := range []string{name, other} {
			full := structurePackages[short]
			if full == "" {
				full = "runtime." + short
			}
			offset, ok := x.names[full]
			if short == "" || !ok {
				continue
			}
			if t, err := x.data.Type(offset); err == nil {
				l.add(names, t)
				break
			}
		}
	}
	if !l.has("mheap.allspans", "mheap.heapArenas", "mspan.startAddr", "mspan.npages", "mspan.state", "mspan.elemsize") {
		return nil, errors.New("its DWARF does not describe the runtime's heap")
	}
	return l, nil
}

// add notes the wanted fields of one structure.
func (l layout) add(names string, t dwarf.Type) {
	name, _, _ := strings.Cut(names, "|")
	for _, want := range wanted[names] {
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

// layouts.json is the layout by Go release ("go1.26"), made from programs of the toolchains that are here
// (`make toolchains` gets those that are known).
//
//go:generate go test -count=1 -run TestLayoutsAreCurrent . -update
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

// Known says whether the runtime of the program's release is one that was looked at; of others only what
// their debug information names is read, and what it means is taken to be as in the last that is known.
func (r *Runtime) Known() bool {
	_, l := layoutOf(r.Version)
	return l != nil
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

// waitreasons.json is what runtime.waitReasonStrings has by Go release, made as layouts.json is.
//
//go:embed waitreasons.json
var waitReasonsJSON []byte

var knownReasons = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	if err := json.Unmarshal(waitReasonsJSON, &all); err != nil {
		panic("heap/goruntime/waitreasons.json: " + err.Error()) // it is part of this program
	}
	return all
})
