package profiler

import (
	"bytes"
	"io"
	"runtime"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// callInstruction is what a process calls the kernel with: syscall of amd64, svc #0 of arm64.
var callInstruction = map[string][]byte{"amd64": {0x0f, 0x05}, "arm64": {0x01, 0x00, 0x00, 0xd4}}[runtime.GOARCH]

// gone says of a sample of the kernel's code that the process has given its memory up, in exec or at its end:
// of the user's stack there is no word any more, and the one address is behind the system call, or of the
// program before. A page fault finds the stack unreadable now and then too, but is at no system call.
//
// Only the kernel's frames are left of such a stack, and they begin with how it was entered.
func (b *builder) gone(p *process, user []uint64, regs *registers) bool {
	if len(user) != 1 || regs.sp == 0 || len(regs.stack) > 0 || regs.top != [4]uint64{} {
		return false
	}
	r := p.region(user[0])
	if r == nil {
		return p.execed && !p.stale
	}
	n := uint64(len(callInstruction))
	if r.file == nil || r.file.kind != profile.FileCode || b.code == nil || n == 0 || user[0]-r.start < n {
		return false
	}
	f, err := b.code(r.file)
	if err != nil {
		return false
	}
	before := make([]byte, n)
	_, err = f.ReadAt(before, int64(user[0]-n-r.start+r.offset))
	return err == nil && bytes.Equal(before, callInstruction)
}

// codeReader gives the bytes of a file that was mapped.
type codeReader func(*codeFile) (io.ReaderAt, error)
