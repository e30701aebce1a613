package profiler

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

// ErrNoAllocator says that a process has no allocator whose functions are known: it is no C, C++ or Rust
// program, or its symbols are gone.
var ErrNoAllocator = errors.New("no allocator")

// An allocator is the functions of the allocator that a process uses.
type allocator struct {
	name      string // of its file: "libc.so.6"
	functions []bpf.AllocationFunction
}

// Names of an allocator's functions with what their arguments are. C's are in every allocator, with the
// prefixes that allocators are built with; C++'s are in those that have their own. malloc(3),
// posix_memalign(3), reallocarray(3), jemalloc(3); the mangled names are those of the Itanium C++ ABI.
var (
	cFunctions = map[string]bpf.AllocationFunction{
		"malloc": {Size: 1}, "calloc": {Count: 1, Size: 2}, "realloc": {Frees: 1, Size: 2}, "reallocarray": {Frees: 1, Count: 2, Size: 3},
		"memalign": {Size: 2}, "aligned_alloc": {Size: 2}, "posix_memalign": {Result: 1, Size: 3}, "valloc": {Size: 1}, "pvalloc": {Size: 1},
		"free": {Frees: 1}, "cfree": {Frees: 1},
		"mallocx": {Size: 1}, "rallocx": {Frees: 1, Size: 2}, "dallocx": {Frees: 1}, "sdallocx": {Frees: 1},
		"free_sized": {Frees: 1}, "free_aligned_sized": {Frees: 1},
	}
	allocatorPrefixes = []string{"", "je_", "_rjem_", "_rjem_je_", "tc_", "mi_"}
	cxxFunctions      = map[string]bpf.AllocationFunction{
		"_Znwm": {Size: 1}, "_Znam": {Size: 1}, "_ZnwmRKSt9nothrow_t": {Size: 1}, "_ZnamRKSt9nothrow_t": {Size: 1},
		"_ZnwmSt11align_val_t": {Size: 1}, "_ZnamSt11align_val_t": {Size: 1},
		"_ZnwmSt11align_val_tRKSt9nothrow_t": {Size: 1}, "_ZnamSt11align_val_tRKSt9nothrow_t": {Size: 1},
		"_ZdlPv": {Frees: 1}, "_ZdaPv": {Frees: 1}, "_ZdlPvm": {Frees: 1}, "_ZdaPvm": {Frees: 1},
		"_ZdlPvRKSt9nothrow_t": {Frees: 1}, "_ZdaPvRKSt9nothrow_t": {Frees: 1},
		"_ZdlPvSt11align_val_t": {Frees: 1}, "_ZdaPvSt11align_val_t": {Frees: 1},
		"_ZdlPvmSt11align_val_t": {Frees: 1}, "_ZdaPvmSt11align_val_t": {Frees: 1},
	}
)

// findAllocator finds the allocator of the files that a process has mapped, the program first. Each has
// the path at which this process may open it. Where several files have a malloc, that of the program
// counts, then that of a library that is there for nothing else, and the C library's last: so does the
// dynamic linker look for it.
func findAllocator(files []allocatorFile) (*allocator, error) {
	var libc *allocator
	for i, f := range files {
		name := filepath.Base(f.name)
		functions, err := allocatorFunctions(f.path, i == 0)
		if err != nil || len(functions) == 0 {
			continue
		}
		a := &allocator{name, functions}
		if !isLibC(name) {
			return a, nil
		}
		if libc == nil {
			libc = a
		}
	}
	if libc == nil {
		return nil, ErrNoAllocator
	}
	return libc, nil
}

// An allocatorFile is a file with code, as the process calls it and as this one may open it.
type allocatorFile struct{ name, path string }

func isLibC(name string) bool {
	return strings.HasPrefix(name, "libc.") || strings.HasPrefix(name, "libc-") || strings.HasPrefix(name, "ld-") || strings.HasPrefix(name, "ld.so")
}

// mappedFiles are the files with code that a process has mapped, its program first.
func mappedFiles(pid int) ([]allocatorFile, error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return nil, err
	}
	regions, err := readMaps(pid)
	if err != nil {
		return nil, err
	}
	files := []allocatorFile{{exe, fmt.Sprintf("/proc/%d/exe", pid)}}
	seen := map[string]bool{exe: true, "": true}
	for _, r := range regions {
		if seen[r.name] || !strings.HasPrefix(r.name, "/") || strings.HasPrefix(r.name, "//") {
			continue
		}
		seen[r.name] = true
		// The very file that is mapped, whatever its path is by now, where this user may follow such links.
		path := fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, r.start, r.end)
		if _, err := os.Stat(path); err != nil {
			path = fmt.Sprintf("/proc/%d/root%s", pid, r.name)
		}
		files = append(files, allocatorFile{r.name, path})
	}
	return files, nil
}

// neededFiles are the files with code that a program will have mapped when it runs, itself first, as its
// dynamic linker tells (ld.so(8), --list). The program is not run.
func neededFiles(path string, environment []string) []allocatorFile {
	files := []allocatorFile{{path, path}}
	f, err := elf.Open(path)
	if err != nil {
		return files
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return files
		}
		linker := string(bytes.TrimRight(name, "\x00"))
		cmd := exec.Command(linker, "--list", path)
		cmd.Env = environment
		out, err := cmd.Output()
		if err != nil {
			return files
		}
		for line := range strings.Lines(string(out)) { // "	libc.so.6 => /lib/libc.so.6 (0x7f…)"
			_, at, found := strings.Cut(line, " => ")
			if !found {
				at = strings.TrimSpace(line) // a preloaded library, or the linker itself
			}
			if at, _, _ = strings.Cut(at, " ("); strings.HasPrefix(at, "/") {
				files = append(files, allocatorFile{at, at})
			}
		}
	}
	return files
}

// allocatorFunctions are those of a file that belong to an allocator, each once. Where there is no
// function that allocates there are none.
func allocatorFunctions(path string, program bool) ([]bpf.AllocationFunction, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, _ := f.DynamicSymbols()
	if program {
		all, _ := f.Symbols() // of a program the linker exports only what others use
		symbols = append(symbols, all...)
	}
	byName := map[string]elf.Symbol{}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF && s.Value != 0 && s.Size > 0 {
			byName[s.Name] = s
		}
	}
	own := false // it is an allocator that has C++'s functions in its own way
	var functions []bpf.AllocationFunction
	seen := map[uint64]bool{}
	add := func(name string, what bpf.AllocationFunction) bool {
		s, ok := byName[name]
		if !ok {
			return false
		}
		offset, ok := probePoint(f, s, what)
		if !ok {
			return false
		}
		if !seen[offset] {
			seen[offset] = true
			what.Path, what.Offset = path, offset
			functions = append(functions, what)
		}
		return true
	}
	allocates := false
	for _, prefix := range allocatorPrefixes {
		for name, what := range cFunctions {
			if add(prefix+name, what) {
				allocates = allocates || what.Size != 0
				own = own || prefix != "" || strings.HasSuffix(name, "x")
			}
		}
	}
	if !allocates {
		return nil, nil
	}
	if !program || own {
		for name, what := range cxxFunctions {
			add(name, what)
		}
	}
	slices.SortFunc(functions, func(a, b bpf.AllocationFunction) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return functions, nil
}

// probePoint is where in a file a function is to be probed: at its first instruction that the kernel
// carries out by itself, before any argument that is needed is overwritten; else at its beginning, where
// the kernel has the processor carry it out and that costs several times as much.
func probePoint(f *elf.File, s elf.Symbol, what bpf.AllocationFunction) (uint64, bool) {
	const most = 64 // bytes that are looked at
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || s.Value < p.Vaddr || s.Value >= p.Vaddr+p.Filesz {
			continue
		}
		at := s.Value - p.Vaddr
		code := make([]byte, min(most, s.Size, p.Filesz-at))
		if _, err := p.ReadAt(code, int64(at)); err != nil {
			return 0, false
		}
		return p.Off + at + uint64(cheapProbe(f.Machine, code, what)), true
	}
	return 0, false
}
