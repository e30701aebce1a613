package sourcemap

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// A Go function's first instruction finds the return address on top of the stack, and C code is not
// spoken of.
func TestFrameTableAtEntry(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	table, err := OpenFrameTable(self)
	if err != nil {
		t.Fatal(err)
	}
	goes := table.goes
	for i := range uint64(200) {
		entry := goes.text + uint64(goes.entryOf(i*uint64(goes.nfunc)/200))
		if d, ok := table.Depth(entry); ok && d != 0 {
			t.Errorf("depth at the entry of the Go function at %#x is %d", entry, d)
		}
	}
	if _, ok := table.Depth(0); ok {
		t.Error("address 0 has a depth")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	c, err := os.Open(build(t, "gcc", "-O2", "-o", "OUT", "shapes.c"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := OpenFrameTable(c); err == nil {
		t.Error("a C program has a table of Go's")
	}
}

// Whatever the bytes: an answer or none, in bounded time.
func FuzzFrameTable(f *testing.F) {
	// A whole Go binary would be too large a seed: its head is one, and tables are fuzzed by themselves.
	if data, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(data[:64<<10], uint64(0x401000))
	}
	f.Add([]byte("\x7fELF"), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		table, err := OpenFrameTable(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range uint64(8) {
			d, ok := table.Depth(addr + 16*i)
			if again, ok2 := table.Depth(addr + 16*i); again != d || ok2 != ok {
				t.Errorf("the depth at %#x is %d, then %d", addr, d, again)
			}
		}
	})
}
