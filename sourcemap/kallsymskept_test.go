package sourcemap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// What is kept of a kernel's symbols answers as the whole list does, and is asked before it; what it does not
// cover, a module's code, is asked of the list.
func TestKallsymsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "frames")
	const id = "0123456789abcdef0123456789abcdef01234567"
	listed := 0
	name := func(dir, id string, addrs ...uint64) (names []string) {
		t.Helper()
		c := profile.NewCapture(profile.Target{}, time.Now())
		c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.KernelCode, Path: profile.Kernel, BuildID: id})
		for _, a := range addrs {
			c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: a})
		}
		s := NewSymbolizer(Config{AnswersDir: dir, Kallsyms: func() (io.ReadCloser, error) {
			listed++
			return io.NopCloser(strings.NewReader(someKallsyms)), nil
		}})
		defer s.Close()
		if err := s.Symbolize(t.Context(), c, func(profile.MappingID) (io.ReaderAt, error) { return nil, errors.ErrUnsupported }); err != nil {
			t.Fatal(err)
		}
		for i := range addrs {
			for _, id := range c.Symbols.Of[i+1] {
				names = append(names, c.Symbols.Frames[id].Module+"!"+c.Symbols.Frames[id].Func)
			}
		}
		return names
	}
	own := []uint64{0, 0xff, 0x100, 0x210, 0x350, 0x400, 0xffffff}
	want := name("", id, own...)
	for range 2 {
		if d := cmp.Diff(want, name(dir, id, own...)); d != "" {
			t.Errorf("with what was kept (-want +got):\n%s", d)
		}
	}
	if listed != 2 {
		t.Errorf("the kernel's list was read %d times, want 2: without a folder, and with an empty one", listed)
	}
	with := append(own, 0x1000000, 0x3f000041)
	if d := cmp.Diff(name("", id, with...), name(dir, id, with...)); d != "" || listed != 4 {
		t.Errorf("with a module's code, the list was read %d times (-want +got):\n%s", listed, d)
	}
	for _, other := range []string{"", strings.Repeat("f", 40)} {
		if name(dir, other, own...); listed != 5 {
			t.Errorf("build ID %q: the list was read %d times", other, listed)
		}
		listed = 4
	}
	path := filepath.Join(dir, id+keptKernelSuffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x20
		if _, err := decodeKernel(bad, id); err == nil {
			t.Fatalf("byte %d was changed, and nobody has seen it", i)
		}
		if _, err := decodeKernel(whole[:i], id); err == nil {
			t.Fatalf("read %d bytes of %d", i, len(whole))
		}
	}
	whole[len(whole)/2] ^= 0x20
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	listed = 0
	if d := cmp.Diff(want, name(dir, id, own...)); d != "" || listed != 1 {
		t.Errorf("with a damaged file the list was read %d times (-want +got):\n%s", listed, d)
	}
}

func FuzzKallsymsKept(f *testing.F) {
	t, err := parseKallsyms([]byte(someKallsyms))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(t.image().encode("ab"), uint64(0x210))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		b = bytes.Clone(b)
		if len(b) >= keptKernelHead { // as nearly nothing would be read else
			copy(b, keptKernelMagic)
			binary.LittleEndian.PutUint32(b[8:], keptKernelVersion)
			binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
		}
		table, err := decodeKernel(b, "ab")
		if (table == nil) == (err == nil) {
			t.Fatalf("table %v, error %v", table, err)
		}
		if err != nil {
			return
		}
		table.covers(addr)
		table.frames(addr, nil)
	})
}
