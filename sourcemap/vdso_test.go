package sourcemap

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"testing"
)

// The kernel's code in user space is an ELF image like any other, with .dynsym only.
func TestVDSO(t *testing.T) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, "[vdso]") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		image := make([]byte, to-from)
		if _, err := mem.ReadAt(image, from); err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		table, err := openSymtab(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" || s.Name == "__kernel_clock_gettime" {
				if frames, ok := table.frames(s.Value+s.Size/2, nil); !ok || frames[0].Func != s.Name {
					t.Errorf("%s is %v", s.Name, frames)
				}
				return
			}
		}
		t.Errorf("no clock_gettime among %d symbols", len(symbols))
		return
	}
	t.Skip("the kernel maps no vdso here")
}
