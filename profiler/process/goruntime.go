package process

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GoState is what a running Go program's runtime counts, as it stood in its memory at one moment. The
// program was not stopped: the numbers are of one moment up to the microseconds of the reading.
type GoState struct {
	Version    string // of Go, "go1.26.1"
	Goroutines int    // those that the program started, as runtime.NumGoroutine has it
	Heap       int64  // bytes live after the last collection and allocated since (gcController.heapLive)
	// Why says in one sentence why the numbers could not be read; "" where they were.
	Why string
}

// goLayout is where the runtime of a Go release keeps what is read: offsets in bytes of fields, the same
// on all 64-bit architectures. They were taken from the DWARF of programs that each release built, and
// a test compares them with those of the release that runs it.
type goLayout struct {
	status   uint64 // runtime.g.atomicstatus
	heapLive uint64 // runtime.gcControllerState.heapLive
	system   uint64 // runtime.schedt.ngsys
}

// goLayouts are by minor version: go1.N.
var goLayouts = map[int]goLayout{
	20: {144, 80, 72},
	21: {144, 104, 72},
	22: {144, 104, 72},
	23: {152, 104, 72},
	24: {152, 104, 72},
	25: {144, 104, 80},
	26: {144, 104, 96},
}

// A program is what is known of an executable file.
type program struct {
	arch  string // "amd64", "386", "arm64"; as ELF names the machine where Go has no name
	isGo  bool
	entry uint64 // address of its first instruction, in the file

	version string
	layout  goLayout
	why     string            // why the runtime's counters cannot be read
	symbols map[string]uint64 // file addresses of goSymbols
}

// goSymbols are the variables of package runtime that are read.
var goSymbols = []string{"runtime.allglen", "runtime.allgptr", "runtime.gcController", "runtime.sched"}

// readProgram looks into an executable file. What is no ELF file is a program of which nothing is known.
func readProgram(f io.ReaderAt) *program {
	p := &program{}
	e, err := elf.NewFile(f)
	if err != nil {
		return p
	}
	p.arch, p.entry = archName(e), e.Entry
	if e.Section(".go.buildinfo") == nil { // stripping leaves it (cmd/link/internal/ld/data.go)
		return p
	}
	p.isGo = true
	info, err := buildinfo.Read(f)
	if err != nil {
		p.why = "its build information cannot be read"
		return p
	}
	p.version = goVersion(info)
	minor, ok := goMinor(p.version)
	layout, known := goLayouts[minor]
	switch {
	case !ok || !known:
		p.why = "where " + p.version + " keeps its counters is not known"
	case e.Class != elf.ELFCLASS64 || e.ByteOrder != binary.LittleEndian:
		p.why = "counters are read of 64-bit little-endian programs only"
	default:
		p.layout = layout
		p.symbols = symbolAddresses(e, goSymbols)
		if len(p.symbols) < len(goSymbols) {
			p.why, p.symbols = "its symbols were stripped (built with -ldflags=-s)", nil
		}
	}
	return p
}

func goVersion(info *debug.BuildInfo) string {
	version, _, _ := strings.Cut(info.GoVersion, " ") // experiments follow
	return Printable(version)
}

// goMinor is 26 of "go1.26.1" and of "go1.26rc1"; false for a version that is no release.
func goMinor(version string) (int, bool) {
	rest, ok := strings.CutPrefix(version, "go1.")
	if !ok {
		return 0, false
	}
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(rest)
	}
	minor, err := strconv.Atoi(rest[:digits])
	return minor, err == nil
}

func archName(e *elf.File) string {
	switch e.Machine {
	case elf.EM_X86_64:
		if e.Class == elf.ELFCLASS32 {
			return "x32"
		}
		return "amd64"
	case elf.EM_386:
		return "386"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_PPC64:
		if e.ByteOrder == binary.LittleEndian {
			return "ppc64le"
		}
		return "ppc64"
	case elf.EM_S390:
		return "s390x"
	}
	return strings.ToLower(strings.TrimPrefix(e.Machine.String(), "EM_"))
}

// maxSymbolBytes bounds the tables that are searched for symbols.
const maxSymbolBytes = 256 << 20

// symbolAddresses finds symbols by name. The tables are searched as they lie in the file, piece by piece:
// making a value of each of a hundred thousand symbols for the sake of four would take most of the time of a
// list, and so would memory for all of them at once.
func symbolAddresses(e *elf.File, names []string) map[string]uint64 {
	found := map[string]uint64{}
	table := e.SectionByType(elf.SHT_SYMTAB)
	if table == nil || e.Class != elf.ELFCLASS64 || int(table.Link) >= len(e.Sections) || table.FileSize > maxSymbolBytes {
		return found
	}
	text := e.Sections[table.Link]
	if text.FileSize > maxSymbolBytes {
		return found
	}
	const piece = 128 << 10
	buf := make([]byte, piece)
	at := map[uint32]string{}
	wanted := make([][]byte, len(names))
	overlap := 0
	for i, name := range names {
		wanted[i] = []byte("\x00" + name + "\x00") // tables of strings begin with a zero byte
		overlap = max(overlap, len(wanted[i])-1)
	}
	for from := int64(0); from < int64(text.FileSize) && len(at) < len(names); from += int64(piece - overlap) {
		n, _ := text.ReadAt(buf, from)
		for i, w := range wanted {
			if w == nil {
				continue
			}
			if k := bytes.Index(buf[:n], w); k >= 0 {
				at[uint32(from)+uint32(k)+1] = names[i]
				wanted[i] = nil
			}
		}
		if n < piece {
			break
		}
	}
	if len(at) < len(names) { // then none are of use
		return found
	}
	// The linker puts variables behind functions (cmd/link/internal/ld/symtab.go), so they are looked for from
	// the end on.
	for end := int64(table.FileSize) / elf.Sym64Size * elf.Sym64Size; end > 0 && len(found) < len(at); {
		from := max(0, end-piece/elf.Sym64Size*elf.Sym64Size)
		n, _ := table.ReadAt(buf[:end-from], from)
		for symbols := buf[:n]; len(symbols) >= elf.Sym64Size; symbols = symbols[elf.Sym64Size:] {
			if name, ok := at[e.ByteOrder.Uint32(symbols)]; ok {
				found[name] = e.ByteOrder.Uint64(symbols[8:])
			}
		}
		end = from
	}
	return found
}

// maxGoroutines bounds how many goroutines are counted one by one.
const maxGoroutines = 4 << 20

var errCounters = errors.New("what is in its memory are no counters of a Go runtime")

// readGo reads the counters of a process that runs p.
func (r *procReader) readGo(pid int, p *program) GoState {
	s := GoState{Version: p.version, Why: p.why}
	if s.Why != "" {
		return s
	}
	bias, err := r.loadBias(pid, p.entry)
	if err == nil {
		s.Goroutines, s.Heap, err = readCounters(func(at []uint64, to []byte) error { return readMemory(pid, at, to) }, p, bias)
	}
	switch {
	case err == nil:
	case denied(err) || errors.Is(err, unix.EPERM):
		s.Why = "its memory may be read by its user and by root only (ptrace)"
	case gone(err):
		s.Why = "it has ended"
	case errors.Is(err, errCounters):
		s.Why = err.Error()
	default:
		s.Why = "its memory cannot be read: " + err.Error()
	}
	return s
}

// readCounters reads the counters of a runtime whose file is loaded with a bias. Memory fills to with
// pieces of one size from so many runtime addresses.
func readCounters(memory func(at []uint64, to []byte) error, p *program, bias uint64) (goroutines int, heap int64, err error) {
	word := func(addr uint64) uint64 {
		var w [8]byte
		if err == nil {
			err = memory([]uint64{addr}, w[:])
		}
		return binary.LittleEndian.Uint64(w[:])
	}
	at := func(symbol string) uint64 { return p.symbols[symbol] + bias }
	live := word(at("runtime.gcController") + p.layout.heapLive)
	system := int32(word(at("runtime.sched") + p.layout.system))
	n := word(at("runtime.allglen"))
	list := word(at("runtime.allgptr")) // after the length: it never shrinks (runtime.atomicAllG)
	if err != nil {
		return 0, 0, err
	}
	if n > maxGoroutines || live > 1<<47 || system < 0 {
		return 0, 0, errCounters
	}
	if n == 0 { // the runtime has not come so far
		return 0, int64(live), nil
	}
	pointers := make([]byte, 8*n)
	if err := memory([]uint64{list}, pointers); err != nil {
		return 0, 0, err
	}
	const (
		idle, dead, deadExtra = 0, 6, 11 // states of runtime2.go
		scan                  = 0x1000
		batch                 = 512
	)
	addrs, states := make([]uint64, 0, batch), make([]byte, 4*batch)
	for len(pointers) > 0 {
		addrs = addrs[:0]
		for ; len(pointers) > 0 && len(addrs) < batch; pointers = pointers[8:] {
			addrs = append(addrs, binary.LittleEndian.Uint64(pointers)+p.layout.status)
		}
		if err := memory(addrs, states[:4*len(addrs)]); err != nil {
			return 0, 0, err
		}
		for i := range addrs {
			switch state := binary.LittleEndian.Uint32(states[4*i:]) &^ scan; {
			case state > deadExtra:
				return 0, 0, errCounters
			case state != dead && state != deadExtra && state != idle:
				goroutines++
			}
		}
	}
	// As runtime.gcount has it.
	return max(goroutines-int(system), 1), int64(live), nil
}

// loadBias is how far a process's program lies from where its file says: the auxiliary vector has
// the address of the first instruction.
func (r *procReader) loadBias(pid int, entry uint64) (uint64, error) {
	auxv, err := r.read(pid, "auxv")
	if err != nil {
		return 0, err
	}
	const atEntry = 9 // AT_ENTRY, include/uapi/linux/auxvec.h
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == atEntry {
			return binary.LittleEndian.Uint64(auxv[8:]) - entry, nil
		}
	}
	return 0, fmt.Errorf("process %d has no AT_ENTRY in its auxiliary vector: %w", pid, errCounters)
}

// readMemory fills to with pieces of one size from addresses of a process's memory, with
// process_vm_readv(2); there are at most IOV_MAX addresses, 1024.
func readMemory(pid int, at []uint64, to []byte) error {
	size := len(to) / len(at)
	remote := make([]unix.RemoteIovec, len(at))
	for i, addr := range at {
		remote[i] = unix.RemoteIovec{Base: uintptr(addr), Len: size}
	}
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: unsafe.SliceData(to), Len: uint64(len(to))}}, remote, 0)
	if err == nil && n < len(to) {
		err = unix.EFAULT // it ends at the first piece that is not mapped
	}
	if err != nil {
		return os.NewSyscallError("process_vm_readv", err)
	}
	return nil
}
