package freeze

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Types of notes in a core file (include/uapi/linux/elf.h), of Delve (pkg/elfwriter of
// github.com/go-delve/delve), and our own.
const (
	noteStatus  = 1     // struct elf_prstatus, one for each thread
	noteFloat   = 2     // struct user_fpregs_struct of the thread before it
	noteProcess = 3     // struct elf_prpsinfo
	noteAuxv    = 6     // the auxiliary vector
	noteXState  = 0x202 // all of its registers as XSAVE has them
	noteSiginfo = 0x53494749
	noteFiles   = 0x46494c45
	delveHeader = 0x444c5645
	delveThread = 0x444c5654
	noteOwn     = 0x534c434d // "MCLS": meta as JSON
)

// A meta is what our own note tells, beyond what other writers have a place for.
type meta struct {
	Version int           `json:"version"` // 1
	PID     int           `json:"pid"`
	Name    string        `json:"name"`
	How     How           `json:"how"`
	Taken   time.Time     `json:"taken"`
	Stopped time.Duration `json:"stopped"` // nanoseconds
	Exe     string        `json:"exe"`     // in the process's file system
	Notes   []string      `json:"notes,omitempty"`
	Maps    string        `json:"maps"`    // /proc/PID/maps
	Threads []string      `json:"threads"` // names, in the order of the other notes
	Stood   bool          `json:"stood"`   // whether the threads' registers are known
}

type note struct {
	name string
	kind uint32
	data []byte
}

// eachNote goes through notes (elf(5)); it ends where they are damaged.
func eachNote(b []byte) iter.Seq[note] {
	return func(yield func(note) bool) {
		le := binary.LittleEndian
		align := func(n uint64) uint64 { return (n + 3) &^ 3 }
		for len(b) >= 12 {
			name, size, kind := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
			b = b[12:]
			if align(name) > uint64(len(b)) || size > uint64(len(b))-align(name) {
				return
			}
			n := note{strings.TrimRight(string(b[:name]), "\x00"), kind, b[align(name):][:size:size]}
			if !yield(n) {
				return
			}
			b = b[min(align(name)+align(size), uint64(len(b))):]
		}
	}
}

// appendNote writes a note.
func appendNote(to []byte, name string, kind uint32, data []byte) []byte {
	le := binary.LittleEndian
	to = le.AppendUint32(to, uint32(len(name)+1))
	to = le.AppendUint32(to, uint32(len(data)))
	to = le.AppendUint32(to, kind)
	to = append(append(to, name...), 0)
	to = append(to, make([]byte, -len(to)&3)...)
	to = append(to, data...)
	return append(to, make([]byte, -len(to)&3)...)
}

// registersOf reads Registers from memory, which must be long enough.
func registersOf(b []byte) *Registers {
	r := new(Registers)
	copy((*[registerBytes]byte)(unsafe.Pointer(r))[:], b)
	return r
}

// statusNote is struct elf_prstatus (include/linux/elfcore.h): the thread at 32, its process, group and
// session, the registers at 112, then whether there is a note with its floating point registers.
func statusNote(pid int, t *Thread) []byte {
	const registers = 112
	size := registers + registerBytes
	if coreMachine == elf.EM_AARCH64 {
		size = registers + 34*8 // struct user_pt_regs
	}
	d := make([]byte, size+8)
	le := binary.LittleEndian
	le.PutUint32(d[32:], uint32(t.TID))
	le.PutUint32(d[36:], uint32(pid))
	le.PutUint32(d[40:], uint32(pid))
	le.PutUint32(d[44:], uint32(pid))
	copy(d[registers:size], t.raw)
	if t.FP != nil {
		d[size] = 1
	}
	return d
}

// processNote is struct elf_prpsinfo: state, nice and flags, the user and group at 16, the process at 24,
// its name at 40 and its arguments at 56.
func processNote(m *meta, uid, gid, parent int, arguments []byte) []byte {
	d := make([]byte, 136)
	le := binary.LittleEndian
	d[1] = 'R'
	le.PutUint32(d[16:], uint32(uid))
	le.PutUint32(d[20:], uint32(gid))
	le.PutUint32(d[24:], uint32(m.PID))
	le.PutUint32(d[28:], uint32(parent))
	copy(d[40:55], m.Name)
	copy(d[56:135], bytes.ReplaceAll(bytes.TrimRight(arguments, "\x00"), []byte{0}, []byte{' '}))
	return d
}

// filesNote is NT_FILE: count, page size, then start, end and page offset of each mapping of a file, then
// their paths (fs/binfmt_elf.c at fill_files_note).
func filesNote(regions []Region) []byte {
	le := binary.LittleEndian
	var table, names []byte
	n := uint64(0)
	for i := range regions {
		if r := &regions[i]; r.inode != 0 && strings.HasPrefix(r.Path, "/") {
			table = le.AppendUint64(le.AppendUint64(le.AppendUint64(table, r.Start), r.End), r.Offset/pageSize)
			names = append(names, r.Path...)
			if r.Deleted {
				names = append(names, " (deleted)"...)
			}
			names = append(names, 0)
			n++
		}
	}
	head := le.AppendUint64(le.AppendUint64(nil, n), pageSize)
	return append(append(head, table...), names...)
}

// parseFiles reads NT_FILE into regions without protection.
func parseFiles(b []byte) (files []Region) {
	le := binary.LittleEndian
	if len(b) < 16 {
		return nil
	}
	count, page := le.Uint64(b), le.Uint64(b[8:])
	if count > uint64(len(b)-16)/24 || page > 1<<30 {
		return nil
	}
	table, names := b[16:16+count*24], b[16+count*24:]
	for ; len(table) > 0; table = table[24:] {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return files
		}
		names = rest
		path, deleted := strings.CutSuffix(string(name), " (deleted)")
		start, end, offset := le.Uint64(table), le.Uint64(table[8:]), le.Uint64(table[16:])
		if end <= start || end > 1<<57 || offset > 1<<62/max(page, 1) {
			continue
		}
		files = append(files, Region{Start: start, End: end, Offset: offset * page, Path: path, Deleted: deleted})
	}
	return files
}

// parseDelveHeader reads the first note of a core that Delve wrote: "linux/amd64", its version, the
// process and where the program begins, each on a line.
func (c *coreFile) parseDelveHeader(b []byte) {
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "Target Pid: "); ok {
			if pid, err := strconv.ParseUint(text, 10, 31); err == nil {
				c.meta.PID = int(pid)
			}
		} else if text, ok := strings.CutPrefix(line, "Entry Point: "); ok {
			if at, err := strconv.ParseUint(text, 0, 64); err == nil {
				c.entry = at
			}
		}
	}
}

// parseDelveThread reads a thread of a core that Delve wrote without the kernel's notes: its id, pc, sp,
// bp and tls, whether its goroutine is known and where, then names and values of all registers.
func parseDelveThread(b []byte) (Thread, bool) {
	le := binary.LittleEndian
	const fixed = 5*8 + 1 + 8 + 4
	if len(b) < fixed {
		return Thread{}, false
	}
	id := le.Uint64(b)
	if id > math.MaxInt32 {
		return Thread{}, false
	}
	t := Thread{TID: int(id), Regs: &Registers{RIP: le.Uint64(b[8:]), RSP: le.Uint64(b[16:]), RBP: le.Uint64(b[24:]), FSBase: le.Uint64(b[32:])}}
	n := le.Uint32(b[fixed-4:])
	b = b[fixed:]
	text := func() []byte {
		if len(b) < 2 || len(b)-2 < int(le.Uint16(b)) {
			b = nil
			return nil
		}
		size := int(le.Uint16(b))
		v := b[2 : 2+size]
		b = b[2+size:]
		return v
	}
	r := t.Regs
	for range min(n, 1000) {
		name, value := string(text()), text()
		if len(value) < 2 || len(value) > 8 {
			continue
		}
		var wide [8]byte
		copy(wide[:], value)
		v := le.Uint64(wide[:])
		for _, f := range []struct {
			name string
			to   *uint64
		}{
			{"Rip", &r.RIP}, {"Rsp", &r.RSP}, {"Rax", &r.RAX}, {"Rbx", &r.RBX}, {"Rcx", &r.RCX}, {"Rdx", &r.RDX}, {"Rdi", &r.RDI}, {"Rsi", &r.RSI},
			{"Rbp", &r.RBP}, {"R8", &r.R8}, {"R9", &r.R9}, {"R10", &r.R10}, {"R11", &r.R11}, {"R12", &r.R12}, {"R13", &r.R13}, {"R14", &r.R14},
			{"R15", &r.R15}, {"Orig_rax", &r.OrigRAX}, {"Cs", &r.CS}, {"Rflags", &r.Flags}, {"Ss", &r.SS}, {"Fs_base", &r.FSBase}, {"Gs_base", &r.GSBase},
			{"Ds", &r.DS}, {"Es", &r.ES}, {"Fs", &r.FS}, {"Gs", &r.GS},
		} {
			if f.name == name {
				*f.to = v
			}
		}
	}
	return t, true
}

// parseOwn reads our own note; what is not as we write it counts as not there.
func parseOwn(b []byte) (m meta, ok bool) {
	if len(b) > 256<<20 || json.Unmarshal(b, &m) != nil || m.Version != 1 || m.How < Forked || m.How > Running {
		return meta{}, false
	}
	return m, true
}
