package profiler

import (
	"bytes"
	"io"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Where a process has given up its memory, the one address of its stack says nothing; where the memory cannot be
// read just now, as in a page fault, it does.
func TestMemoryIsGone(t *testing.T) {
	if callInstruction == nil {
		t.Skip("this processor's system calls are not known")
	}
	code := make([]byte, 0x200)
	copy(code[0x100:], callInstruction)
	behind := 0x1100 + uint64(len(callInstruction))
	file := &codeFile{kind: profile.FileCode, path: "/bin/x"}
	p := newProcess(7, 1)
	p.put(region{0x1000, 0x2000, 0, file})
	p.put(region{0x3000, 0x4000, 0, nil})
	b := &builder{code: func(f *codeFile) (io.ReaderAt, error) { return bytes.NewReader(code), nil }}
	for name, x := range map[string]struct {
		user   []uint64
		regs   registers
		execed bool
		want   bool
	}{
		"in a system call":         {[]uint64{behind}, registers{sp: 8}, false, true},
		"elsewhere":                {[]uint64{behind - 1}, registers{sp: 8}, false, false},
		"at the beginning":         {[]uint64{0x1000}, registers{sp: 8}, false, false},
		"behind the file's end":    {[]uint64{0x1f00}, registers{sp: 8}, false, false},
		"with a stack":             {[]uint64{behind}, registers{sp: 8, top: [4]uint64{0, 1}}, false, false},
		"with a copy of it":        {[]uint64{behind}, registers{sp: 8, stack: []byte{1}}, false, false},
		"with callers":             {[]uint64{behind, behind}, registers{sp: 8}, false, false},
		"nothing is known":         {[]uint64{behind}, registers{}, false, false},
		"of the program before":    {[]uint64{0x9000}, registers{sp: 8}, true, true},
		"in nothing that is known": {[]uint64{0x9000}, registers{sp: 8}, false, false},
		"in code without a file":   {[]uint64{0x3100}, registers{sp: 8}, true, false},
	} {
		p.execed = x.execed
		if got := b.gone(p, x.user, &x.regs); got != x.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
