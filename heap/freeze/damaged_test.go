package freeze

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openBytes(t *testing.T, b []byte, exe string) (*Image, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return OpenCore(path, exe)
}

func TestDamagedCores(t *testing.T) {
	tg := startChurn(t, 1<<20)
	whole, err := os.ReadFile(dump(t, tg, Forked))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		make func(b []byte) []byte
		want string
	}{
		{"empty", func([]byte) []byte { return nil }, "no core file"},
		{"text", func([]byte) []byte { return []byte(strings.Repeat("text ", 100)) }, "no core file"},
		{"headers cut", func(b []byte) []byte { return b[:150] }, "get it whole"},
		{"32-bit", func(b []byte) []byte { b[4] = 1; return b }, "32-bit"},
		{"big-endian", func(b []byte) []byte { b[5] = 2; return b }, "big-endian"},
		{"a program", func(b []byte) []byte { b[16] = 2; return b }, "no core file"},
		{"RISC-V", func(b []byte) []byte { b[18] = 243; return b }, "EM_RISCV"},
		{"header size", func(b []byte) []byte { b[54] = 32; return b }, "damaged"},
		{"overlapping", func(b []byte) []byte { copy(b[64+56+16:], b[64+2*56+16:64+2*56+24]); return b }, "overlap"},
	} {
		_, err := openBytes(t, c.make(smallCore()), "")
		t.Log(err)
		wantError(t, err, "open core file /", c.want)
	}
	if _, err := OpenCore(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("a core that is not there was opened")
	}
	if _, err := OpenCore(os.DevNull, ""); err == nil {
		t.Error("/dev/null was opened")
	}

	// One that ends early has what it has.
	cut := whole[:len(whole)-(256<<10)]
	i, err := openBytes(t, cut, "")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	checkChurn(t, tg, i)
	if len(i.Notes()) != 1 || !strings.Contains(i.Notes()[0], "ends early") {
		t.Errorf("notes %q", i.Notes())
	}
	r := i.Regions()[len(i.Regions())-1]
	for _, x := range i.Regions() {
		if x.Path == "[stack]" {
			r = x
		}
	}
	if b := i.Bytes(r.End-16, 16); b != nil {
		t.Errorf("the end of the stack, which was cut off, is %x", b)
	}

	// One that is shortened while it is open fails to be read, and no more than that.
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	i2, err := OpenCore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer i2.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	_, err = i2.ReadAt(make([]byte, 8), int64(r.End-16))
	wantError(t, err, "shortened")
}

func TestWrongProgram(t *testing.T) {
	tg := startChurn(t, 1<<20)
	path := dump(t, tg, Forked)
	self, _ := os.Executable()
	other := filepath.Join(t.TempDir(), "churn")
	cmd := exec.Command("go", "build", "-ldflags=-X=main.unused=1", "-gcflags=-N -l", "-o", other, "./testdata/churn")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, exe := range []string{self, other, "/etc/passwd", "/nonexistent"} {
		i, err := OpenCore(path, exe)
		if err == nil {
			i.Close()
			t.Errorf("%s was taken for the program", exe)
			continue
		}
		t.Log(err)
		wantError(t, err, exe)
	}
	if _, err := OpenCore(path, other); err != nil {
		wantError(t, err, "build ID")
	}
	// The program was built anew where it was: its memory is there, and not its file.
	if err := os.Rename(other, tg.cmd.Path); err != nil {
		t.Fatal(err)
	}
	programs.Delete("churn") // of the next tests
	i, err := OpenCore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if _, _, _, err := i.Executable(); err == nil || len(i.Notes()) != 1 || !strings.Contains(i.Notes()[0], "build ID") {
		t.Errorf("notes %q, %v", i.Notes(), err)
	}
	if b := i.Bytes(tg.marker, 9); string(b) != "sightline" {
		t.Errorf("at the marker: %q", b)
	}
	// The process itself still has the file that it began with.
	checkChurn(t, tg, mustTake(t, tg, Running))
}

func TestParseMaps(t *testing.T) {
	got, err := parseMaps([]byte(`00400000-00401000 r-xp 00000000 fe:00 123                              /a program (deleted)
00401000-00403000 rw-p 00001000 00:00 0 
00402000-00404000 rw-p 00001000 00:00 0                                  [heap]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`))
	want := []Region{
		{Start: 0x400000, End: 0x401000, Perm: "r-xp", Path: "/a program", Deleted: true, device: "fe:00", inode: 123},
		{Start: 0x401000, End: 0x403000, Perm: "rw-p", Offset: 0x1000, device: "00:00"},
		{Start: 0x403000, End: 0x404000, Perm: "rw-p", Offset: 0x2000, Path: "[heap]", device: "00:00"},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000, Perm: "--xp", Path: "[vsyscall]", device: "00:00"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(Region{})); d != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s", err, d)
	}
	for _, bad := range []string{"x\n", "1-2 rw-p 0 0:0 0\n", "00402000-00401000 rw-p 0 0:0 0\n", "00401000-00402000 rw 0 0:0 0\n"} {
		if _, err := parseMaps([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestManySegments has more of them than the header of a core file can say.
func TestManySegments(t *testing.T) {
	var loads []load
	var regions []Region
	for i := range uint64(70_000) {
		regions = append(regions, Region{Start: (i*2 + 16) << 12, End: (i*2 + 17) << 12, Perm: "rw-p"})
	}
	for i := range regions {
		r := &regions[i]
		loads = append(loads, load{region: r, start: r.Start, end: r.End, stored: pageSize})
	}
	l := lay(loads, appendNote(nil, "CORE", noteProcess, make([]byte, 136)), 0)
	path := filepath.Join(t.TempDir(), "core")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(l.head, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(l.size); err != nil {
		t.Fatal(err)
	}
	i, err := OpenCore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if len(i.Regions()) != len(regions) || i.Bytes(regions[69_999].Start, pageSize) == nil {
		t.Errorf("%d regions", len(i.Regions()))
	}
}

// TestReadAt compares reading with a memory that is all there, byte by byte.
func TestReadAt(t *testing.T) {
	i := &Image{pieces: []piece{
		{0x1000, 0x1008, []byte("abcdefgh")}, {0x1008, 0x100c, []byte("ijkl")}, {0x2000, 0x2002, []byte("yz")},
	}}
	at := map[uint64]byte{}
	for _, p := range i.pieces {
		for k, b := range p.data {
			at[p.start+uint64(k)] = b
		}
	}
	for addr := uint64(0xff0); addr < 0x2010; addr++ {
		if addr == 0x1020 {
			addr = 0x1ff0
		}
		for n := range 20 {
			var want []byte
			for k := range uint64(n) {
				b, ok := at[addr+k]
				if !ok {
					break
				}
				want = append(want, b)
			}
			got := make([]byte, n)
			k, err := i.ReadAt(got, int64(addr))
			if !bytes.Equal(got[:k], want) || (err == nil) != (k == n) {
				t.Fatalf("%d bytes at %#x: %q, %v; want %q", n, addr, got[:k], err, want)
			}
			if b := i.Bytes(addr, uint64(n)); b != nil && !bytes.Equal(b, got) {
				t.Fatalf("%d bytes at %#x: Bytes has %q", n, addr, b)
			}
		}
	}
	for _, addr := range []uint64{0, ^uint64(0), 1 << 63} {
		if n, err := i.ReadAt(make([]byte, 8), int64(addr)); n != 0 || err == nil {
			t.Errorf("at %#x: %d, %v", addr, n, err)
		}
		if i.Bytes(addr, 8) != nil {
			t.Errorf("at %#x is something", addr)
		}
	}
	if i.Bytes(0x1000, ^uint64(0)) != nil {
		t.Error("more than there is")
	}
}

// smallCore is a core file with all notes and two segments, as a seed.
func smallCore() []byte {
	regions := []Region{
		{Start: 0x400000, End: 0x402000, Perm: "r-xp", Path: "/bin/program", inode: 1},
		{Start: 0x500000, End: 0x501000, Perm: "rw-p"},
	}
	threads := []Thread{{TID: 7, raw: make([]byte, registerBytes), FP: make([]byte, 512), State: make([]byte, 832)}, {TID: 8, raw: make([]byte, registerBytes)}}
	m := &meta{Version: 1, PID: 7, Name: "program", How: Forked, Threads: []string{"program", "x"}, Stood: true}
	var b []byte
	for i := range threads {
		b = appendNote(b, "CORE", noteStatus, statusNote(7, &threads[i]))
		b = appendNote(b, "CORE", noteFloat, threads[i].FP)
		b = appendNote(b, "LINUX", noteXState, threads[i].State)
	}
	b = appendNote(b, "CORE", noteProcess, processNote(m, 1, 2, 3, []byte("program\x00-x\x00")))
	aux := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, auxEntry), 0x400080)
	b = appendNote(b, "CORE", noteAuxv, append(aux, make([]byte, 16)...))
	b = appendNote(b, "CORE", noteFiles, filesNote(regions))
	b = appendNote(b, "DELVE", delveHeader, []byte("linux/amd64\n1.27.2\nTarget Pid: 7\nEntry Point: 0x400080\n"))
	l := lay([]load{{region: &regions[0], start: 0x400000, end: 0x402000, stored: pageSize}, {region: &regions[1], start: 0x500000, end: 0x501000, stored: pageSize}}, b, 0)
	return append(l.head, make([]byte, l.size-int64(len(l.head)))...)
}

// FuzzCore reads anything for a core file: an image whose regions and pieces are in order and within the
// file, or an error.
func FuzzCore(f *testing.F) {
	small := smallCore()
	f.Add(small)
	f.Add(small[:700])
	own := &meta{Version: 1, PID: 7, How: Copied, Maps: "00400000-00401000 r-xp 00000000 fe:00 1 /bin/program\n", Threads: []string{"a"}}
	l := lay(nil, appendNote(nil, "SIGHTLINE", noteOwn, []byte(`{"version":1,"pid":7,"how":2,"maps":"`+strings.TrimSpace(own.Maps)+`\n"}`)), 0)
	f.Add(l.head)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCore(b)
		if (c == nil) == (err == nil) {
			t.Fatalf("core %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		for i, r := range c.regions {
			if r.End <= r.Start || len(r.Perm) != 4 || i > 0 && r.Start < c.regions[i-1].End {
				t.Fatalf("region %d: %+v", i, r)
			}
		}
		for i, p := range c.pieces {
			if p.end-p.start != uint64(len(p.data)) || len(p.data) == 0 || i > 0 && p.start < c.pieces[i-1].end {
				t.Fatalf("piece %d: %x-%x of %d bytes", i, p.start, p.end, len(p.data))
			}
		}
		i := &Image{regions: c.regions, pieces: c.pieces, auxv: c.auxv}
		i.exePath = c.exeName(i)
		for _, r := range i.regions {
			i.ReadAt(make([]byte, 64), int64(r.Start))
			i.backing(&r, b)
		}
	})
}

func FuzzMaps(f *testing.F) {
	f.Add([]byte("00400000-00401000 r-xp 00000000 fe:00 123                  /a program (deleted)\n"))
	f.Add([]byte("00401000-00403000 rw-p 00001000 00:00 0 \n00402000-00404000 rw-p 00001000 00:00 0 [heap]\n"))
	own, _ := os.ReadFile("/proc/self/maps")
	f.Add(own)
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseMaps(b)
		if err != nil && all != nil {
			t.Fatal("both regions and an error")
		}
		for i, r := range all {
			if r.End <= r.Start || i > 0 && r.Start < all[i-1].End || len(r.Perm) != 4 {
				t.Fatalf("%+v", r)
			}
		}
	})
}
