// Package freeze holds a process for milliseconds, or not at all, and gives its memory as it was at that
// instant: an Image. Images are also read from core files, of the kernel, gdb, Delve and this package,
// and written as such.
//
// It knows processes, registers and ELF, and nothing of what is in the memory: neither the Go runtime nor
// a heap. The process is never written to but for its registers and, below a stack that it never used, a
// few words for the time of a fork; no breakpoint is set, no signal is sent.
package freeze

import (
	"fmt"
	"time"
)

// How says how an image came to be.
type How int

// The ways to take an image, the best first. Auto tries one after the other and says in Image.Notes what
// did not work and why.
const (
	Auto    How = iota
	Forked      // the process was stopped for a fork, and its child was read while it ran on
	Copied      // the process was stopped while its memory was copied
	Running     // its memory was copied while it ran: not of one instant
	Core        // read from a core file of another program
)

func (h How) String() string {
	switch h {
	case Auto:
		return "auto"
	case Forked:
		return "fork"
	case Copied:
		return "copy"
	case Running:
		return "running"
	case Core:
		return "core"
	}
	return fmt.Sprintf("How(%d)", int(h))
}

// Options say how an image is taken. The zero value works.
type Options struct {
	// How is the one way to take, with no other tried; Auto, the zero value, tries all in order.
	How How
	// Progress is called now and then with the bytes that were copied and that are to be copied, from
	// one goroutine, and after the last byte. Nil is none.
	Progress func(done, total int64)
}

// A Region is a range of addresses of a process: what the kernel keeps as one mapping, or what a core
// file has as one segment.
type Region struct {
	Start, End uint64 // runtime addresses, multiples of the page size
	Perm       string // "rw-p" as in proc_pid_maps(5); in cores of others the last is p always
	Offset     uint64 // in the file, in bytes
	Path       string // of a file, a name of the kernel's such as [stack], or ""
	Deleted    bool   // the file at Path was removed while it was mapped

	device string // major:minor and inode of the file, while the process lives
	inode  uint64
}

// Size is how many bytes the region has.
func (r *Region) Size() uint64 { return r.End - r.Start }

// A Thread is a thread of the process.
type Thread struct {
	TID   int
	Name  string     // "" where a core does not tell
	Regs  *Registers // nil where they are not known: of a process that was not stopped, of arm64
	FP    []byte     // floating point and vector registers as struct user_fpregs_struct has them, or nil
	State []byte     // all of these as XSAVE has them, or nil

	raw []byte // general registers as the kernel has them on this machine
}

// Registers are the general registers of x86-64 in the order of struct user_regs_struct (sys/user.h).
type Registers struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI uint64
	OrigRAX                                                                 uint64
	RIP, CS, Flags, RSP, SS                                                 uint64
	FSBase, GSBase                                                          uint64
	DS, ES, FS, GS                                                          uint64
}

// RegisterBytes is the size of Registers in memory and in notes.
const registerBytes = 27 * 8

// PageSize is that of the processes that are read.
const pageSize = 4096

func up(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// PID is the id of the process.
func (i *Image) PID() int { return i.meta.PID }

// Name is the name of the process, of which the kernel keeps 15 bytes.
func (i *Image) Name() string { return i.meta.Name }

// Taken is when the image was taken: of a foreign core when the file was changed last.
func (i *Image) Taken() time.Time { return i.meta.Taken }

// How says how the image was taken. Of a core that this package wrote it is how the process was held.
func (i *Image) How() How { return i.meta.How }

// Stopped is how long the process stood still, from the first thread that stopped until all ran again.
func (i *Image) Stopped() time.Duration { return i.meta.Stopped }

// Notes are sentences on what a person should know of the image: what was tried and why it did not work,
// what a file lacks. Without a full stop.
func (i *Image) Notes() []string { return i.meta.Notes }

// Regions are the regions by address. They are the image's own: not to be changed.
func (i *Image) Regions() []Region { return i.regions }

// Threads are the threads, the main one first. They are the image's own: not to be changed.
func (i *Image) Threads() []Thread { return i.threads }

// Auxv is the auxiliary vector that the kernel gave to the program (getauxval(3)), pairs of words; nil
// where a core has none.
func (i *Image) Auxv() []byte { return i.auxv }
