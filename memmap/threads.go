package memmap

import (
	"bytes"
	"encoding/binary"
	"io"
	"path"
	"strconv"
	"strings"
)

// A thread is one of the process, as far as can be known without stopping it.
type thread struct {
	id   int
	name string
	sp   uint64 // its stack pointer; 0 while it runs, or where that may not be read
	own  int    // its id in its own PID namespace, which is what it knows itself by
}

// maxThreads bounds what is asked; a machine has at most 4 M.
const maxThreads = 1 << 20

// threads reads the threads of the process; those that end meanwhile are left out.
func (p *Process) threads() []thread {
	dir, err := p.open("task")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxThreads)
	var all []thread
	for _, name := range names {
		id, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		comm, err := p.read(path.Join("task", name, "comm"))
		if err != nil {
			continue
		}
		t := thread{id: id, own: id, name: strings.TrimSuffix(string(comm), "\n")}
		// It says "running" of a thread that runs; a thread mostly waits.
		for range 3 {
			text, err := p.read(path.Join("task", name, "syscall"))
			if err != nil {
				break
			}
			if t.sp = parseStackPointer(text); t.sp != 0 {
				break
			}
		}
		if t.sp == 0 {
			if status, err := p.read(path.Join("task", name, "status")); err == nil {
				t.own = parseOwnID(status, id)
			}
		}
		all = append(all, t)
	}
	return all
}

// parseStackPointer is the stack pointer in /proc/PID/task/TID/syscall: the last but one field
// (proc_pid_syscall(5)); 0 while the thread runs.
func parseStackPointer(text []byte) uint64 {
	fields := bytes.Fields(text)
	if len(fields) < 3 {
		return 0
	}
	sp, err := strconv.ParseUint(strings.TrimPrefix(string(fields[len(fields)-2]), "0x"), 16, 64)
	if err != nil {
		return 0
	}
	return sp
}

// parseOwnID is the last number of NSpid in /proc/PID/status: the id in the innermost namespace.
func parseOwnID(status []byte, id int) int {
	for l := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(l, []byte("NSpid:")); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				if own, err := strconv.Atoi(string(f[len(f)-1])); err == nil {
					return own
				}
			}
		}
	}
	return id
}

// controlBlock looks for glibc's description of a thread (struct pthread, nptl/descr.h) above a stack
// pointer, where the x86-64 ABI has it at the end of the stack: its first and third word are its own
// address. The result is the stack's first address and length as glibc has it, from two words in it.
func controlBlock(memory io.ReaderAt, sp, start, end uint64) (first, size uint64, ok bool) {
	const step, most = 16 << 10, 1 << 20
	buf := make([]byte, step+2304) // sizeof (struct pthread) of glibc 2.31 to 2.41
	for at := sp &^ 15; at < end && at < sp+most; at += step {
		n, _ := memory.ReadAt(buf[:min(uint64(len(buf)), end-at)], int64(at))
		b := buf[:n]
		for i := 0; i+24 <= len(b) && i < step; i += 16 {
			self := at + uint64(i)
			if binary.LittleEndian.Uint64(b[i:]) != self || binary.LittleEndian.Uint64(b[i+16:]) != self {
				continue
			}
			// stackblock, stackblock_size, guardsize
			for j := i + 512; j+24 <= len(b) && j < i+2304; j += 8 {
				first, size := binary.LittleEndian.Uint64(b[j:]), binary.LittleEndian.Uint64(b[j+8:])
				if first <= start && start-first <= 64<<20 && first%pageSize == 0 && size%pageSize == 0 && size > 0 &&
					size < 1<<40 && first+size > self && first+size <= end {
					return first, size, true
				}
			}
		}
	}
	return 0, 0, false
}
