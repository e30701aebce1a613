package profiler

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strconv"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// kernel is where the kernel's code lies, found when the first address in it is seen.
type kernel struct {
	code *codeFile
	text uint64 // runtime address of _text; 0 where it is hidden
}

func (k *kernel) file() *codeFile {
	if k.code == nil {
		k.code = &codeFile{kind: profile.KernelCode, path: kernelName}
		if f, err := os.Open("/proc/kallsyms"); err == nil {
			k.text = findText(f)
			f.Close()
		}
		if notes, err := os.ReadFile("/sys/kernel/notes"); err == nil {
			k.code.image.buildID, _ = readNotes(notes, binary.NativeEndian, 4)
		}
	}
	return k.code
}

// address is the distance from _text, which names the same place after a reboot, when the kernel
// lies somewhere else (KASLR). Modules are at no fixed distance, but it is one while they stay
// loaded. Where _text is hidden (kernel.kptr_restrict) so are all names, and the address stays.
func (k *kernel) address(addr uint64) uint64 {
	k.file() // which finds it
	return addr - k.text
}

// findText reads kallsyms ("ffffffff81000000 T _text") as far as the symbol _text. 0: it is not
// there, or addresses are hidden, which the kernel shows as zeros.
func findText(r io.Reader) uint64 {
	s := bufio.NewScanner(r)
	for s.Scan() {
		addr, rest, _ := bytes.Cut(s.Bytes(), []byte(" "))
		if _, name, _ := bytes.Cut(rest, []byte(" ")); string(name) == "_text" {
			text, _ := strconv.ParseUint(string(addr), 16, 64)
			return text
		}
	}
	return 0
}
