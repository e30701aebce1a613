package memmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func testTexts(t *testing.T, x *target) {
	p, err := Open(x.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := p.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := p.Memory()
	defer m.Close()
	find := func(o StringOptions) (all []String) {
		o.Pattern = regexp.MustCompile(`needle-471[12]`)
		if err := m.Strings(t.Context(), s, o, func(x String) bool { all = append(all, x); return true }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := find(StringOptions{Kinds: []Kind{Heap}})
	if len(all) != 2 || all[0].Address != x.said["heap"] || all[0].Text != "ASCII needle-4711 in the heap" || all[0].UTF16 ||
		all[1].Text != "wide needle-4712 in the heap" || !all[1].UTF16 || all[1].Address != x.said["heap"]+500 {
		t.Errorf("texts in the heap: %+v", all)
	}
	for _, y := range all {
		if s.Regions[y.Region].Kind != Heap {
			t.Errorf("its owner is %+v", s.Regions[y.Region])
		}
	}
	if n := len(find(StringOptions{})); n < 3 { // they are in the program's constants too
		t.Errorf("%d texts in all", n)
	}
	if n := len(find(StringOptions{Shortest: 100})); n != 0 {
		t.Errorf("%d texts of 100 characters", n)
	}
}

// coreOf makes a core file of a process that waits, as the kernel does: notes, then segments. With
// lacking, segments that it picks are not written.
func coreOf(t *testing.T, x *target, lacking func(*mapping) bool) string {
	t.Helper()
	p, err := Open(x.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	text, err := p.read("smaps")
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseSmaps(text)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	var notes bytes.Buffer
	note := func(kind uint32, data []byte) {
		var head [12]byte
		le.PutUint32(head[:], 5)
		le.PutUint32(head[4:], uint32(len(data)))
		le.PutUint32(head[8:], kind)
		notes.Write(head[:])
		notes.WriteString("CORE\x00\x00\x00\x00")
		notes.Write(data)
		notes.Write(make([]byte, -len(data)&3))
	}
	process := make([]byte, 136)
	le.PutUint32(process[24:], uint32(x.pid))
	copy(process[40:], p.name)
	note(noteProcess, process)
	for _, th := range p.threads() {
		status := make([]byte, 336)
		le.PutUint32(status[32:], uint32(th.id))
		le.PutUint64(status[112+19*8:], th.sp)
		note(noteStatus, status)
	}
	var files, names bytes.Buffer
	count := uint64(0)
	for i := range all {
		if m := &all[i]; m.inode != 0 {
			files.Write(le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, m.start), m.end), m.offset/pageSize))
			path := m.path
			if m.deleted {
				path += " (deleted)"
			}
			names.WriteString(path + "\x00")
			count++
		}
	}
	note(noteFiles, append(append(le.AppendUint64(le.AppendUint64(nil, count), pageSize), files.Bytes()...), names.Bytes()...))

	var loads []*mapping
	for i := range all {
		if m := &all[i]; m.path != "[vsyscall]" {
			loads = append(loads, m)
		}
	}
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	le.PutUint16(head[16:], 4) // ET_CORE
	le.PutUint16(head[18:], 62)
	le.PutUint64(head[32:], 64)
	le.PutUint16(head[52:], 64)
	le.PutUint16(head[54:], 56)
	le.PutUint16(head[56:], uint16(len(loads)+1))
	var table []byte
	entry := func(kind, flags uint32, offset, address, inFile, inMemory uint64) {
		table = le.AppendUint32(le.AppendUint32(table, kind), flags)
		for _, v := range []uint64{offset, address, 0, inFile, inMemory, pageSize} {
			table = le.AppendUint64(table, v)
		}
	}
	offset := uint64(64 + 56*(len(loads)+1))
	entry(4, 0, offset, 0, uint64(notes.Len()), 0)
	offset = up(offset + uint64(notes.Len()))
	path := filepath.Join(t.TempDir(), "core")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, m := range loads {
		flags := uint32(0)
		for i, c := range "xwr" {
			if m.may(byte(c)) {
				flags |= 1 << i
			}
		}
		inFile := uint64(0)
		if m.may('r') && m.size() < 1<<30 && m.path != "[vvar]" && (lacking == nil || !lacking(m)) {
			inFile = uint64(m.size())
			resident, _, _ := p.pages().present(m.start, m.end) // the rest is a hole
			for _, r := range resident {
				b := make([]byte, r.end-r.start)
				p.live.ReadAt(b, int64(r.start))
				if _, err := f.WriteAt(b, int64(offset+r.start-m.start)); err != nil {
					t.Fatal(err)
				}
			}
		}
		entry(1, flags, offset, m.start, inFile, uint64(m.size()))
		offset += inFile
	}
	f.WriteAt(append(append(head, table...), notes.Bytes()...), 0)
	if info, _ := f.Stat(); uint64(info.Size()) < offset {
		f.Truncate(int64(offset))
	}
	return path
}

func readCore(t *testing.T, path string) *Snapshot {
	t.Helper()
	s, err := ReadCore(t.Context(), path, CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	laws(t, s)
	return s
}

func testCore(t *testing.T, x *target, checkKinds func(*Snapshot) error) {
	live := take(t, x.pid)
	path := coreOf(t, x, nil)
	s := readCore(t, path)
	if s.PID != x.pid || s.Name != "regions" || s.Exe != programs.regions {
		t.Errorf("it is of process %d, %q, %q", s.PID, s.Name, s.Exe)
	}
	for _, name := range []string{"code", "data", "bss", "libc", "sleeper", "heap", "arena", "large", "private", "reserved", "file1", "file2"} {
		i, k := s.RegionOf(x.said[name]), live.RegionOf(x.said[name])
		if i < 0 || k < 0 {
			t.Errorf("%s is in no region", name)
			continue
		}
		if a, b := &s.Regions[i], &live.Regions[k]; a.Kind != b.Kind {
			t.Errorf("%s: %s in the core, %s in the process", name, a.Kind, b.Kind)
		}
	}
	if a, b := s.Total().Resident, live.Total().Resident; a > b || a < b/2 {
		t.Errorf("%d bytes resident in the core, %d in the process", a, b)
	}
	m, err := CoreMemory(path, CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	found := 0
	m.Strings(t.Context(), s, StringOptions{Pattern: regexp.MustCompile("needle-471[12] in the heap")}, func(String) bool { found++; return true })
	if found < 2 {
		t.Errorf("%d texts in the core", found)
	}
	lacking := readCore(t, coreOf(t, x, func(m *mapping) bool { return m.file() }))
	if note := strings.Join(lacking.Notes, " "); !strings.Contains(note, "not written to the core file") {
		t.Errorf("of a core without segments: %s", note)
	}
	if i := lacking.RegionOf(x.said["code"]); lacking.Regions[i].Kind != Image {
		t.Errorf("without its file the code is %+v", lacking.Regions[i])
	}
	whole, _ := os.ReadFile(path)
	short := filepath.Join(t.TempDir(), "short")
	os.WriteFile(short, whole[:len(whole)/2], 0o644)
	if note := strings.Join(readCore(t, short).Notes, " "); !strings.Contains(note, "ends early") {
		t.Errorf("of half a core: %s", note)
	}
	os.WriteFile(short, whole[:100], 0o644)
	if _, err := ReadCore(t.Context(), short, CoreOptions{}); err == nil || !strings.Contains(err.Error(), "program headers") {
		t.Errorf("of 100 bytes: %v", err)
	}
}

func TestGoCore(t *testing.T) {
	build(t)
	x := start(t, exec.Command(programs.goTarget))
	s := readCore(t, coreOf(t, x, nil))
	if s.Go == "" || s.Terms == nil {
		t.Fatalf("no Go runtime in the core: %v", s.Notes)
	}
	for _, term := range s.Terms {
		if term.Name == TermLive && (term.Number < 7000 || term.Bytes < 2000*1792) {
			t.Errorf("live: %+v", term)
		}
	}
}

func TestCoreErrors(t *testing.T) {
	for path, want := range map[string]string{
		"/nowhere/core": "no such file", "core_test.go": "it is no core file", "/proc/self/exe": "it is no core file",
	} {
		if _, err := ReadCore(t.Context(), path, CoreOptions{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzCore(f *testing.F) {
	head := make([]byte, 64+56*2+40)
	copy(head, "\x7fELF\x02\x01\x01")
	head[16], head[32], head[54], head[56] = 4, 64, 56, 2
	head[64], head[64+8], head[64+32] = 4, 176, 40
	head[120], head[120+8], head[120+17], head[120+33], head[120+41] = 1, 0, 0x10, 0x10, 0x10
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCore(bytes.NewReader(b), int64(len(b)))
		if (c == nil) == (err == nil) {
			t.Fatalf("value %v, error %v", c != nil, err)
		}
		if err != nil {
			return
		}
		s := &Snapshot{Version: formatVersion}
		a := analysis{snapshot: s, mappings: c.mappings, threads: c.threads, memory: c, pages: c, exe: c.exe, walk: true}
		for i := range a.mappings {
			c.count(&a.mappings[i])
		}
		if err := a.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err != nil {
			// Only sizes may be beyond what is believed.
			if !strings.Contains(err.Error(), "no size of memory") {
				t.Fatal(err)
			}
		}
	})
}

// FuzzMalloc walks heaps and looks for stacks in memory that is anything.
func FuzzMalloc(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0}, 100), uint64(0x4000000))
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		at = at % (1 << 46) &^ (pageSize - 1)
		b = b[:min(len(b), 1<<20)]
		a := analysis{memory: bounded{bytes.NewReader(b), at, uint64(len(b))}, walk: true}
		end := at + uint64(len(b))
		h, ok := a.walkMalloc(at, end, at, "fuzzed")
		if h.InUse+h.Free+h.Top+h.Unwalked > int64(len(b)) || h.InUse < 0 || h.Largest > h.Free {
			t.Fatalf("%+v of %d bytes, %v", h, len(b), ok)
		}
		if size, first, ok := a.mallocHeap(at, end); ok && (size > mallocHeapMax || first < at) {
			t.Fatalf("heap of %d bytes from %x", size, first)
		}
		if first, size, ok := controlBlock(a.memory, at, at, end); ok && (first > at || first+size > end) {
			t.Fatalf("stack %x, %d bytes", first, size)
		}
		a.threadOf(end, end)
	})
}

type bounded struct {
	r        *bytes.Reader
	start, n uint64
}

func (b bounded) ReadAt(p []byte, off int64) (int, error) {
	if uint64(off) < b.start || uint64(off) >= b.start+b.n {
		return 0, errors.New("not mapped")
	}
	return b.r.ReadAt(p, off-int64(b.start))
}
