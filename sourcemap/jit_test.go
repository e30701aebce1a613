package sourcemap

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A dump writes a jitdump.
type dump struct {
	b     []byte
	order byteOrder
}

func newDump(order byteOrder) *dump {
	d := &dump{order: order}
	d.u32(0x4A695444, 1, 40, 62, 0, 7)
	d.u64(0, 0)
	return d
}

func (d *dump) u32(v ...uint32) {
	for _, x := range v {
		d.b = d.order.AppendUint32(d.b, x)
	}
}

func (d *dump) u64(v ...uint64) {
	for _, x := range v {
		d.b = d.order.AppendUint64(d.b, x)
	}
}

func (d *dump) record(kind uint32, body func()) {
	at := len(d.b)
	d.u32(kind, 0)
	d.u64(1)
	body()
	d.order.PutUint32(d.b[at+4:], uint32(len(d.b)-at))
}

func (d *dump) load(addr, size, index uint64, name string) {
	d.record(0, func() {
		d.u32(7, 7)
		d.u64(addr, addr, size, index)
		d.b = append(append(d.b, name...), 0)
		d.b = append(d.b, make([]byte, min(size, 64))...)
	})
}

func (d *dump) move(from, to, size, index uint64) {
	d.record(1, func() {
		d.u32(7, 7)
		d.u64(to, from, to, size, index)
	})
}

type dumpLine struct {
	addr uint64
	line uint32
	file string
}

func (d *dump) lines(addr uint64, lines ...dumpLine) {
	d.record(2, func() {
		d.u64(addr, uint64(len(lines)))
		for _, l := range lines {
			d.u64(l.addr)
			d.u32(l.line, 0)
			d.b = append(append(d.b, l.file...), 0)
		}
	})
}

// A processOf writes files for a process with a number nobody has, below a root of its own.
func processOf(t *testing.T, perfMap string, dump []byte) Process {
	t.Helper()
	p := Process{PID: 1 << 30, UID: uint32(os.Getuid()), Root: testDir(t)}
	if err := os.Mkdir(filepath.Join(p.Root, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	if perfMap != "" {
		copyText(t, filepath.Join(p.Root, "tmp", fmt.Sprintf("perf-%d.map", p.PID)), perfMap)
	}
	if dump != nil {
		copyText(t, filepath.Join(p.Root, "tmp", fmt.Sprintf("jit-%d.dump", p.PID)), string(dump))
	}
	return p
}

func copyText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// jitted are the frames that a process's files give an address, as text.
func jitted(t *jitTable, addr uint64) string {
	if t == nil {
		return "nothing"
	}
	frames, ok := t.frames(addr, nil)
	if !ok {
		return "nothing"
	}
	f := frames[0]
	return strings.TrimSpace(fmt.Sprintf("%s %s:%d %d", f.Func, f.File, f.Line, f.StartLine))
}

func TestPerfMap(t *testing.T) {
	p := processOf(t, `1000 100 JS:*fib /app/main.js:12:3
1100 100 JS:~fib /app/main.js:12:3
1200 80 py::work:/app/main.py
1280 10 py::_find:<frozen importlib._bootstrap>
2000 1000 old name with  spaces
2400 10 Lcom/example/Main;::run
2800 900 _ZN4core3ptr3fooEv
0x3000 0x10 LazyCompile:~ file:///app/a b.js:1:1
4000 0 place
5000 ffffffffffffffff liar
not a line
5000 10
6000 10 Builtin:ArrayMap
7000 10 unfinished`, nil)
	table, notes := openJIT(p)
	for addr, want := range map[uint64]string{
		0x1000: "fib /app/main.js:0 12", 0x10ff: "fib /app/main.js:0 12", 0x1100: "fib /app/main.js:0 12",
		0x1200: "work /app/main.py:0 0", 0x1285: "_find :0 0",
		0x2000: "old name with  spaces :0 0", 0x2405: "Lcom/example/Main;::run :0 0", 0x2410: "old name with  spaces :0 0",
		0x2900: "core::ptr::foo() :0 0", 0x3000: "(anonymous) /app/a b.js:0 1", 0x3010: "core::ptr::foo() :0 0",
		0x4000: "nothing", 0x5001: "nothing", 0x6001: "Builtin:ArrayMap :0 0", 0x7001: "nothing", 0xfff: "nothing",
	} {
		if got := jitted(table, addr); got != want {
			t.Errorf("%#x is %q, want %q", addr, got, want)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "3 of its lines are damaged") {
		t.Errorf("notes %q", notes)
	}
}

func TestJITDump(t *testing.T) {
	for _, order := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, shift := range []uint64{0, elfHeader} {
			d := newDump(order)
			d.lines(0x1000, dumpLine{0x1000 + shift, 10, "/app/a.js"}, dumpLine{0x1010 + shift, 11, "\xff"}, dumpLine{0x1020 + shift, 3, "/app/b.js"})
			d.load(0x1000, 0x100, 1, "one")
			d.load(0x2000, 0x100, 2, "two")
			d.record(4, func() { d.u64(1, 2, 3) })
			d.move(0x1000, 0x3000, 0x100, 1)
			d.load(0x1000, 0x80, 3, "three")
			d.move(0x9999, 0x4000, 0x100, 2)
			d.load(0x5000, 1<<40, 4, "liar")
			d.b = append(d.b, 0, 0, 0, 0, 200, 0) // a record that is being written
			table, notes := openJIT(processOf(t, "", d.b))
			for addr, want := range map[uint64]string{
				0x1000: "three :0 0", 0x1090: "one /app/b.js:3 0", 0x2010: "two :0 0", 0x4000: "nothing", 0x5000: "nothing",
				0x3000: "one /app/a.js:10 0", 0x300f: "one /app/a.js:10 0", 0x3010: "one /app/a.js:11 0", 0x3020: "one /app/b.js:3 0", 0x30ff: "one /app/b.js:3 0",
			} {
				if got := jitted(table, addr); got != want {
					t.Errorf("%v, lines moved by %d: %#x is %q, want %q", order, shift, addr, got, want)
				}
			}
			if len(notes) != 0 {
				t.Errorf("notes %q", notes)
			}
		}
	}
	if _, notes := openJIT(processOf(t, "", []byte("something else"))); len(notes) != 1 || !strings.Contains(notes[0], "no jitdump") {
		t.Errorf("notes %q", notes)
	}
}

// The name of a file that was freed before it was written, as Node.js 20 does, is not taken for one: the
// function's own name tells it, where that has it and all lines are of one file.
func TestJITDumpOfFreedNames(t *testing.T) {
	const freed = "K\xff\x02\x00\x00\x00\x00\x00\x19e\x01\xff\x00\x00\xb8\x8d/a.js"
	for _, c := range []struct {
		function string
		lines    []dumpLine
		want     string
	}{
		{"JS:*f /app/src/a.js:3:1", []dumpLine{{0x1000, 4, freed}, {0x1010, 5, "\xff"}, {0x1020, 6, "\xff"}}, "f /app/src/a.js:5 3"},
		{"JS:*f /app/src/a.js:3:1", []dumpLine{{0x1000, 4, "an\x02"}, {0x1010, 5, "\xff"}}, "f /app/src/a.js:5 3"},
		{"JS:*f /app/src/a.js:3:1", []dumpLine{{0x1000, 4, freed}, {0x1010, 5, "/app/b.js"}}, "f /app/src/a.js:0 3"},
		{"JS:*f /app/src/a.js:3:1", []dumpLine{{0x1000, 4, "\xff"}, {0x1010, 5, "\xff"}}, "f /app/src/a.js:5 3"},
		{"JS:*f /app/src/a.js:3:1", []dumpLine{{0x1000, 4, "/app/src/a.js"}, {1 << 40, 5, "\xff"}}, "f /app/src/a.js:0 3"},
		{"f", []dumpLine{{0x1000, 4, freed}, {0x1010, 5, "/app/src/abcdefgh/a.js"[:len(freed)]}, {0x1020, 6, "/app/src/abcdefgh/a.js"[:len(freed)]}}, "f " + "/app/src/abcdefgh/a.js"[:len(freed)] + ":5 0"},
		{"f", []dumpLine{{0x1000, 4, freed}, {0x1010, 5, "\xff"}}, "f :0 0"},
	} {
		d := newDump(binary.LittleEndian)
		d.lines(0x1000, c.lines...)
		d.load(0x1000, 0x100, 1, c.function)
		table, _ := openJIT(processOf(t, "", d.b))
		if got := jitted(table, 0x1015); got != c.want {
			t.Errorf("%s with %v: %q, want %q", c.function, c.lines, got, c.want)
		}
	}
}

// What another user may have written, or a link leads to, is not believed.
func TestJITOfOthers(t *testing.T) {
	line := "1000 100 evil\n"
	p := processOf(t, line, nil)
	at := filepath.Join(p.Root, "tmp", fmt.Sprintf("perf-%d.map", p.PID))
	if table, _ := openJIT(p); jitted(table, 0x1000) != "evil :0 0" {
		t.Fatal("one's own is not believed")
	}
	check := func(name, want string) {
		t.Helper()
		table, notes := openJIT(p)
		if table != nil || len(notes) != 1 || !strings.Contains(notes[0], want) || !strings.Contains(notes[0], "perf-") {
			t.Errorf("%s: %v, notes %q", name, jitted(table, 0x1000), notes)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(at, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		check("another user", "belongs to user 12345")
	}
	if err := os.Rename(at, at+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at+".real", at); err != nil {
		t.Fatal(err)
	}
	check("a link", "symbolic link")
	os.Remove(at)
	if err := os.Mkdir(at, 0o777); err != nil {
		t.Fatal(err)
	}
	check("a folder", "not a regular file")

	// A link in a folder of the path does not lead out of the process's root.
	os.RemoveAll(filepath.Join(p.Root, "tmp"))
	outside := testDir(t)
	copyText(t, filepath.Join(outside, filepath.Base(at)), line)
	if err := os.Symlink("../"+filepath.Base(outside), filepath.Join(p.Root, "tmp")); err != nil {
		t.Fatal(err)
	}
	if table, notes := openJIT(p); table != nil || len(notes) != 0 {
		t.Errorf("outside: %v, notes %q", jitted(table, 0x1000), notes)
	}
}

// The code that two processes have at one address has two names, and what is written while the
// recording goes on is read.
func TestSymbolizeJIT(t *testing.T) {
	one, two := processOf(t, "1000 100 one\n", nil), processOf(t, "1000 100 JS:*two /app/x.js:5:1\n", nil)
	r := newRecording()
	a := r.mapping(profile.Mapping{Kind: profile.Anonymous, Path: "//anon"}, nil)
	b := r.mapping(profile.Mapping{Kind: profile.Anonymous, Path: "//anon"}, nil)
	c := r.mapping(profile.Mapping{Kind: profile.Anonymous, Path: "//anon"}, nil)
	processes := map[profile.MappingID]Process{a: one, b: two, c: {PID: 1<<30 + 1, Root: one.Root}}
	s := NewSymbolizer(Config{Process: func(id profile.MappingID) (Process, bool) { p, ok := processes[id]; return p, ok }})
	inOne, inTwo, inThree := r.add(a, 0x1010), r.add(b, 0x1010), r.add(c, 0x1010)
	if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	frame := func(l profile.LocationID) profile.Frame { return r.Symbols.Frames[r.Symbols.Of[l][0]] }
	for _, x := range []struct {
		l    profile.LocationID
		want profile.Frame
	}{
		{inOne, profile.Frame{Func: "one", Module: JIT}},
		{inTwo, profile.Frame{Func: "two", Module: JIT, File: "/app/x.js", StartLine: 5}},
		{inThree, profile.Frame{Func: profile.Unknown}},
	} {
		if d := cmp.Diff(x.want, frame(x.l)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	if w := warnings(r.Capture); !strings.Contains(w, fmt.Sprintf("process %d made at run time has no names", 1<<30+1)) || strings.Count(w, "\n") != 1 {
		t.Errorf("warned: %s", w)
	}
	copyText(t, filepath.Join(one.Root, "tmp", fmt.Sprintf("perf-%d.map", one.PID)), "1000 100 one\n2000 10 later\n")
	l := r.add(a, 0x2000)
	if err := s.Symbolize(t.Context(), r.Capture, r.open); err != nil {
		t.Fatal(err)
	}
	if got := frame(l).Func; got != "later" {
		t.Errorf("named %s", got)
	}
}

func FuzzPerfMap(f *testing.F) {
	f.Add([]byte("1000 100 name\n0x2000 0x10 JS:*f /a.js:1:2\nbad\n"), uint64(0x1010))
	f.Add([]byte("ffffffffffffffff ffffffffffffffff x\r\n"), uint64(1))
	f.Add([]byte("1 1 py::a:/b.py\n1 1 py:::\n1 1 JS:\n1 1 JS: :\n1 1 JS:* :1:1\n"), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		codes, bad := parsePerfMap(data)
		if len(codes)+bad > strings.Count(string(data), "\n") {
			t.Fatalf("%d functions and %d bad lines", len(codes), bad)
		}
		checkJIT(t, codes, addr)
	})
}

func FuzzJITDump(f *testing.F) {
	for _, order := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		d := newDump(order)
		d.lines(0x1000, dumpLine{0x1000, 1, "/a.js"}, dumpLine{0x1004, 2, "\xff"})
		d.load(0x1000, 0x20, 1, "f")
		d.move(0x1000, 0x2000, 0x20, 1)
		f.Add(d.b, uint64(0x2004))
	}
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		codes, err := parseJITDump(data)
		if err != nil && codes != nil {
			t.Fatalf("%v with %d functions", err, len(codes))
		}
		checkJIT(t, codes, addr)
	})
}

// checkJIT holds what was read against a slow reader: the last function that holds the address.
func checkJIT(t *testing.T, codes []jitCode, addr uint64) {
	t.Helper()
	table := &jitTable{codes: codes}
	table.index()
	for _, addr := range append([]uint64{addr}, ends(codes)...) {
		last := -1
		for i, c := range codes {
			if !believable(c.addr, c.size) || len(c.name) > 3*maxJITName {
				t.Fatalf("%+v", c)
			}
			if addr-c.addr < c.size {
				last = i
			}
		}
		got, ok := table.frames(addr, nil)
		if ok != (last >= 0) || ok && (len(got) != 1 || got[0].Func == "" || got[0].Func != jitFrame(codes[last].name).Func) {
			t.Fatalf("%#x is %+v, not %d", addr, got, last)
		}
	}
}

func ends(codes []jitCode) []uint64 {
	var addrs []uint64
	for _, c := range codes[:min(len(codes), 50)] {
		addrs = append(addrs, c.addr, c.addr+c.size-1, c.addr+c.size)
	}
	return addrs
}

// A process calls its files by the number that it knows, in the /tmp that it sees; what has lain there
// since before it began is not its own.
func TestProcessOfNamespace(t *testing.T) {
	p := processOf(t, "", nil)
	tmp := testDir(t)
	copyText(t, filepath.Join(tmp, "perf-7.map"), "1000 100 inside\n")
	copyText(t, filepath.Join(p.Root, "tmp", "perf-7.map"), "1000 100 below\n")
	p.Own = 7
	name := func() string {
		table, notes := openJIT(p)
		if len(notes) > 0 {
			t.Errorf("notes %q", notes)
		}
		return jitted(table, 0x1000)
	}
	if got := name(); got != "below :0 0" {
		t.Errorf("below its root: %s", got)
	}
	p.Tmp = tmp
	if got := name(); got != "inside :0 0" {
		t.Errorf("in its own /tmp: %s", got)
	}
	p.Begun = time.Now().Add(-time.Minute)
	if got := name(); got != "inside :0 0" {
		t.Errorf("written since it began: %s", got)
	}
	p.Begun = time.Now().Add(time.Minute)
	if got := name(); got != "nothing" {
		t.Errorf("written before it began: %s", got)
	}
}
