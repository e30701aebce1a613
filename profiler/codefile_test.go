package profiler

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// own is this test's binary.
func own(t testing.TB) (path string, text []byte) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, text
}

// The program headers say where functions are, as the section headers do, and notes who it is.
func TestReadImage(t *testing.T) {
	path, text := own(t)
	im, err := readImage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_NOBITS || s.Size == 0 {
			continue
		}
		for _, at := range []uint64{0, s.Size - 1} {
			if got, ok := im.address(s.Offset + at); !ok || got != s.Addr+at {
				t.Errorf("%s: offset %#x is address %#x, want %#x", s.Name, s.Offset+at, got, s.Addr+at)
			}
		}
	}
	if _, ok := im.address(1 << 60); ok {
		t.Error("an offset beyond the file has an address")
	}
	// go tool buildid prints the Go build ID, which is what there is without a GNU one.
	want, err := exec.Command("go", "tool", "buildid", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Section(".note.gnu.build-id"); s != nil {
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		want = fmt.Appendf(nil, "%x", data[16:])
	}
	if got := strings.TrimSpace(string(want)); im.buildID != got {
		t.Errorf("build ID %q, want %q", im.buildID, got)
	}
	// Without section headers its addresses are the same. Go's linker tells of the GNU build ID
	// there alone, so that the Go build ID is what is left.
	headless := bytes.Clone(text)
	clear(headless[0x28:0x30]) // e_shoff
	clear(headless[0x3a:0x40]) // e_shentsize, e_shnum, e_shstrndx
	again, err := readImage(bytes.NewReader(headless[:len(headless)/2]))
	if err != nil || !cmp.Equal(im.segments, again.segments, cmp.AllowUnexported(segment{})) || again.buildID == "" {
		t.Errorf("half of the file: %v, %v", again, err)
	}
}

func TestReadImageRefuses(t *testing.T) {
	_, text := own(t)
	for name, in := range map[string]string{
		"nothing":               "",
		"a script":              "#!/bin/sh\necho this is not a program\n",
		"the identification":    string(text[:16]),
		"no program headers":    string(text[:64]),
		"half a program header": string(text[:64+20]),
	} {
		im, err := readImage(strings.NewReader(in))
		if err == nil {
			t.Errorf("%s: image %+v", name, im)
		}
		if is := errors.Is(err, errNotELF); is != (name == "nothing" || name == "a script") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadImage(f *testing.F) {
	_, text := own(f)
	f.Add(text[:4096])
	f.Add(text[:100])
	for _, tool := range []string{"/bin/true", "/bin/sh"} {
		if text, err := os.ReadFile(tool); err == nil {
			f.Add(text[:min(len(text), 2048)])
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		im, err := readImage(bytes.NewReader(in))
		if err != nil && (im.segments != nil || im.buildID != "") {
			t.Errorf("both %+v and %v", im, err)
		}
		for _, s := range im.segments {
			if a, ok := im.address(s.offset); !ok {
				t.Errorf("segment %+v has no address at its start, but %#x", s, a)
			}
		}
		// The reader that this one stands in for has no other idea of a good file.
		if other, err2 := elf.NewFile(bytes.NewReader(in)); err == nil && err2 == nil {
			n := 0
			for _, p := range other.Progs {
				if p.Type == elf.PT_LOAD && p.Filesz > 0 && p.Off+p.Filesz >= p.Off {
					n++
				}
			}
			if n != len(im.segments) {
				t.Errorf("%d segments, debug/elf has %d", len(im.segments), n)
			}
		}
	})
}

func FuzzReadNotes(f *testing.F) {
	note := func(kind uint32, name, desc string) string {
		var b bytes.Buffer
		binary.Write(&b, binary.LittleEndian, []uint32{uint32(len(name)), uint32(len(desc)), kind})
		for _, s := range []string{name, desc} {
			b.WriteString(s)
			for b.Len()%4 != 0 {
				b.WriteByte(0)
			}
		}
		return b.String()
	}
	gnu, golang := note(3, "GNU\x00", "\xab\xcd\xef"), note(4, "Go\x00\x00", "a/b/c/d")
	f.Add([]byte(gnu+golang), uint64(4))
	f.Add([]byte(golang+note(1, "stapsdt\x00", "xxxxx")+gnu), uint64(8))
	f.Fuzz(func(t *testing.T, in []byte, align uint64) {
		a, b := readNotes(in, binary.LittleEndian, align)
		if len(a) > 512 || len(b) > 256 {
			t.Errorf("build IDs of %d and %d bytes", len(a), len(b))
		}
	})
	for _, in := range []string{gnu + golang, golang + gnu} {
		if a, b := readNotes([]byte(in), binary.LittleEndian, 4); a != "abcdef" || b != "a/b/c/d" {
			f.Errorf("notes %q: %q and %q", in, a, b)
		}
	}
}

const someMaps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1800000-35b1820000 r-xp 00001000 fe:01 135522  /usr/lib/ld\012new.so (deleted)
f2c6ff8c000-7f2c7078c000 rwxp 00000000 00:00 0
7fffb2c0d000-7fffb2c2e000 rw-p 00000000 00:00 0   [stack]
7fffb2d48000-7fffb2d49000 r-xp 00000000 00:00 0   [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMaps(t *testing.T) {
	want := []mapped{
		{start: 0x400000, end: 0x452000, name: "/usr/bin/dbus daemon", major: 8, minor: 2, inode: 173521},
		{start: 0x35b1800000, end: 0x35b1820000, offset: 0x1000, name: "/usr/lib/ld\nnew.so (deleted)", major: 0xfe, minor: 1, inode: 135522},
		{start: 0xf2c6ff8c000, end: 0x7f2c7078c000, name: "//anon"},
		{start: 0x7fffb2d48000, end: 0x7fffb2d49000, name: "[vdso]"},
		{start: 0xffffffffff600000, end: 0xffffffffff601000, name: "[vsyscall]"},
	}
	if diff := cmp.Diff(want, parseMaps([]byte(someMaps)), cmp.AllowUnexported(mapped{})); diff != "" {
		t.Errorf("maps (-want +got):\n%s", diff)
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(someMaps))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, m := range parseMaps(in) {
			if m.start >= m.end || m.name == "" || strings.Contains(m.name, "\n") && !bytes.Contains(in, []byte(`\012`)) {
				t.Errorf("mapping %+v", m)
			}
		}
	})
}

func TestFindText(t *testing.T) {
	const before = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\n"
	for in, want := range map[string]uint64{
		before + "ffffffff81000010 T _text\nffffffff81000020 t x\n": 0xffffffff81000010,
		before + "0000000000000000 T _text\n":                       0,
		before:                                                      0,
		"":                                                          0,
	} {
		if got := findText(strings.NewReader(in)); got != want {
			t.Errorf("_text of %q is %#x, want %#x", in, got, want)
		}
	}
}

// mappedFile is how the kernel tells of a mapping of a whole file.
func mappedFile(t *testing.T, path string) *mapped {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return &mapped{
		start: 0x1000, end: 0x2000, name: path, inode: st.Ino,
		major: unix.Major(st.Dev), minor: unix.Minor(st.Dev),
	}
}

func content(t *testing.T, fs *codeFiles, f *codeFile) string {
	t.Helper()
	r, err := fs.reader(f)
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<20))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// A file is one for all processes and all paths; files that took its place are others; and what is
// held stays what it was.
func TestCodeFilesIdentity(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "lib.so"), filepath.Join(dir, "link.so")
	write := func(text string) *mapped {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return mappedFile(t, path)
	}
	fs := newCodeFiles()
	defer fs.close()
	pid := os.Getpid()
	first := write("first")
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	a := fs.find(pid, first)
	if b := fs.find(pid, mappedFile(t, link)); a != b {
		t.Error("the same file by another name is another codeFile")
	}
	os.Remove(link)
	second := write("second")
	b := fs.find(pid, second)
	if a == b || content(t, fs, a) != "first" || content(t, fs, b) != "second" {
		t.Errorf("first is %q, second is %q", content(t, fs, a), content(t, fs, b))
	}
	if !a.offsets || a.kind != profile.FileCode || a.deleted || a.problem != "" {
		t.Errorf("not an ELF file, but mapped: %+v", a)
	}
	// The first one again, which is gone: asked from a process that never had it.
	gone := newCodeFiles()
	defer gone.close()
	if c := gone.find(pid, first); !c.deleted || !strings.Contains(c.problem, "another file has taken the place") {
		t.Errorf("a replaced file: %+v", c)
	}
	os.Remove(path)
	c := gone.find(pid, second)
	if !c.deleted || !strings.Contains(c.problem, "gone before it could be read") {
		t.Errorf("a removed file: %+v", c)
	}
	if _, err := gone.reader(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading it: %v, want ErrNotExist", err)
	}
	// A file that was held before it was mapped is found though it is gone.
	third := write("third")
	gone.hold(path)
	os.Remove(path)
	if c := gone.find(pid, third); content(t, gone, c) != "third" {
		t.Errorf("a held file: %+v", c)
	}
}

// Files beyond the limit are closed and opened again, but only if they are the same still.
func TestCodeFilesLimit(t *testing.T) {
	dir := t.TempDir()
	fs := newCodeFiles()
	fs.limit = 4
	var files []*codeFile
	for i := range 10 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, fs.find(os.Getpid(), mappedFile(t, path)))
	}
	if n := len(fs.open); n != 4 {
		t.Errorf("%d files are open, want 4", n)
	}
	os.Rename(files[1].path, files[0].path) // replaced
	os.Remove(files[2].path)                // removed
	for i, f := range files {
		got := content(t, fs, f)
		switch i {
		case 0:
			if !strings.Contains(got, "it is another file now") {
				t.Errorf("a replaced file: %s", got)
			}
		case 1, 2:
			if !strings.Contains(got, "no such file") {
				t.Errorf("a removed file: %s", got)
			}
		default:
			if got != f.path {
				t.Errorf("file %s has %s", f.path, got)
			}
		}
	}
	fs.close()
	if got := content(t, fs, files[9]); !strings.Contains(got, "closed") {
		t.Errorf("after close: %s", got)
	}
}

// Neither pipes nor devices are opened, whatever a process has mapped.
func TestCodeFilesOpenOnlyFiles(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	fs := newCodeFiles()
	defer fs.close()
	if f := fs.find(os.Getpid(), mappedFile(t, pipe)); f.file != nil || f.problem == "" {
		t.Errorf("a pipe was opened: %+v", f)
	}
	for _, name := range []string{"//anon", "[heap]", "[stack]", "/SYSV00000000 (deleted)", "/dev/zero (deleted)", "anon_inode:[perf]"} {
		if f := fs.find(os.Getpid(), &mapped{start: 1, end: 2, name: name}); f != nil {
			t.Errorf("%s is a file: %+v", name, f)
		}
	}
}

func TestVDSO(t *testing.T) {
	maps, err := readMaps(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	fs := newCodeFiles()
	defer fs.close()
	for i := range maps {
		if m := &maps[i]; m.name == vdsoName {
			f := fs.find(os.Getpid(), m)
			if f.kind != profile.VDSO || f.problem != "" || f != fs.find(1, m) {
				t.Fatalf("vdso %+v", f)
			}
			r, err := fs.reader(f)
			if err != nil {
				t.Fatal(err)
			}
			if e, err := elf.NewFile(r); err != nil {
				t.Error(err)
			} else if symbols, err := e.DynamicSymbols(); err != nil || len(symbols) < 3 {
				t.Errorf("vdso symbols %v, %v", symbols, err)
			}
			return
		}
	}
	t.Skip("this kernel gives processes no vdso")
}
