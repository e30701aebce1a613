package profiler

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// Both engines give the registers that walks begin with, in the order that they are taken in.
func TestRegistersAgree(t *testing.T) {
	if want := unwind.PerfRegisters(hostMachine()); bpf.RegisterMask != want {
		t.Errorf("BPF copies registers %#x, walks take %#x", uint64(bpf.RegisterMask), want)
	}
}

func TestFramedTarget(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	goes := filepath.Join(dir, "goes")
	build := exec.Command("go", "build", "-o", goes, "./testdata/threads")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	for name, x := range map[string]struct {
		target Target
		want   bool
	}{
		"Go":           {Target{Command: exec.Command(goes)}, true},
		"Go, relative": {Target{Command: &exec.Cmd{Path: "./goes", Dir: dir}}, true},
		"C":            {Target{Command: exec.Command("true")}, false},
		"a script":     {Target{Command: exec.Command(script)}, false},
		"nothing":      {Target{Command: exec.Command(filepath.Join(dir, "none"))}, false},
		"the machine":  {Target{Machine: true}, false},
	} {
		if c := newCopying(x.target, Options{}); c == nil || c.always == x.want {
			t.Errorf("%s: copying is %+v", name, c)
		}
		// Who asks for copies may want them of what the program starts.
		if c := newCopying(x.target, Options{StackBytes: 1 << 10}); c == nil || !c.always || c.bytes != 1<<10 {
			t.Errorf("%s, with 1 KiB asked for: copying is %+v", name, c)
		}
	}
}

// The rule of a process follows what it has mapped and how deep its stacks are.
func TestCopyingRules(t *testing.T) {
	type put struct {
		pid  uint32
		rule bpf.CopyRule
	}
	var puts []put
	c := newCopying(Target{Machine: true}, Options{})
	if c == nil {
		t.Skip("stacks of this processor are not walked")
	}
	c.set = func(pid uint32, rule bpf.CopyRule) error {
		puts = append(puts, put{pid, rule})
		return nil
	}
	expect := func(what string, want ...put) {
		t.Helper()
		if diff := cmp.Diff(want, puts, cmp.AllowUnexported(put{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		puts = nil
	}
	goes := &codeFile{kind: profile.FileCode, image: image{golang: true}}
	libc := &codeFile{kind: profile.FileCode, image: image{rows: true}}
	vdso := &codeFile{kind: profile.VDSO}
	mapped := func(pid uint32, at uint64, f *codeFile) {
		c.seen(&perfevent.Record{Type: perfevent.Mmap2, PID: pid, TID: pid, Addr: at, Len: 0x1000}, f)
	}
	mapped(7, 0x1000, goes)
	mapped(7, 0x9000, vdso)
	mapped(7, 0xa000, nil)
	expect("Go alone", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000}})
	mapped(7, 0x5000, libc)
	mapped(7, 0x6000, libc)
	expect("and C", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: maxStackBytes}})
	for range triesDeep {
		c.walked(7, 1500)
	}
	expect("shallow stacks", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: 16 << 10}})
	for range triesShallow {
		c.walked(7, 1500)
	}
	expect("always", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: 6000}})
	c.walked(7, 6008)
	expect("but once", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: 16 << 10}})
	for range triesShallow {
		c.walked(7, 1500)
	}
	expect("and never less again")
	c.walked(7, 20<<10)
	c.walked(7, 1<<20)
	expect("a deep one", put{7, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: maxStackBytes}})
	for range 2 * triesDeep {
		c.walked(7, 1000)
	}
	expect("shallow ones again")
	c.seen(&perfevent.Record{Type: perfevent.Fork, PID: 8, TID: 8, PPID: 7, PTID: 7}, nil)
	expect("its child", put{8, bpf.CopyRule{Start: 0x1000, End: 0x2000, Bytes: maxStackBytes}})
	c.seen(&perfevent.Record{Type: perfevent.Fork, PID: 8, TID: 9, PPID: 8, PTID: 8}, nil)
	expect("the child's thread")
	c.seen(&perfevent.Record{Type: perfevent.Comm, PID: 8, TID: 8, Misc: unix.PERF_RECORD_MISC_COMM_EXEC}, nil)
	expect("another program", put{8, bpf.CopyRule{Bytes: maxStackBytes}})
	mapped(8, 0x3000, goes)
	expect("which is Go's", put{8, bpf.CopyRule{Start: 0x3000, End: 0x4000}})
	c.seen(&perfevent.Record{Type: perfevent.Exit, PID: 8, TID: 8}, nil)
	c.walked(8, 1<<20)
	expect("the end")
	if len(c.pids) != 1 {
		t.Errorf("%d processes remembered", len(c.pids))
	}
}

// What is known of an address holds for the segment that it is in, and the entry point is apart.
func TestSpaceCode(t *testing.T) {
	f := &codeFile{kind: profile.FileCode, image: image{
		segments: []segment{
			{offset: 0, size: 0x800, addr: 0x400000},
			{offset: 0x1000, size: 0x3000, addr: 0x501000, exec: true},
		},
		entry: 0x501100,
	}}
	known := &fileCode{}
	s := &space{process: newProcess(7, 1), regions: []region{
		{start: 0x7000_1000, end: 0x7000_5000, offset: 0x1000, file: f},
		{start: 0x8000_0000, end: 0x8000_1000},
	}}
	of := func(*codeFile) *fileCode { return known }
	const bias = 0x7000_1000 - 0x501000
	for pc, want := range map[uint64]unwind.Code{
		0x7000_1000: {Start: 0x7000_1000, End: 0x7000_1100, Bias: bias},
		0x7000_1100: {Start: 0x7000_1100, End: 0x7000_1140, Bias: bias, Flags: unwind.CodeEntry},
		0x7000_1140: {Start: 0x7000_1140, End: 0x7000_4000, Bias: bias},
		0x7000_4500: {Start: 0x7000_1000, End: 0x7000_5000}, // behind the segment's bytes
		0x8000_0800: {Start: 0x8000_0000, End: 0x8000_1000},
	} {
		got, ok := s.code(pc, of)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("code at %#x, %v (-want +got):\n%s", pc, ok, diff)
		}
	}
	for _, pc := range []uint64{0, 0x7000_0fff, 0x7000_5000, 0x8000_1000} {
		if _, ok := s.code(pc, of); ok {
			t.Errorf("code at %#x", pc)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.code(0x7000_1200, of) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// A process's space stays as it was when the process maps something else.
	p := newProcess(8, 1)
	p.put(region{0x1000, 0x2000, 0, f})
	before := p.space()
	if p.space() != before {
		t.Error("another space, though nothing has changed")
	}
	p.put(region{0x1000, 0x3000, 0, nil})
	if r := before.find(0x1800); r == nil || r.file != f || before.find(0x2800) != nil {
		t.Errorf("the space of before has %+v", before.regions)
	}
	if now := p.space(); now == before || now.find(0x2800) == nil {
		t.Errorf("the space of now has %+v", now.regions)
	}
}

// What the perf engine copies fits its rings, unless somebody has said how much.
func TestCopyingFits(t *testing.T) {
	for _, x := range []struct{ chosen, ring, freq, want, bytes int }{
		{0, 16 << 20, 999, perfStackBytes, 32 << 10},
		{0, 4 << 20, 999, perfStackBytes, 32 << 10},
		{0, 2 << 20, 999, perfStackBytes, 16 << 10},
		{0, 512 << 10, 999, perfStackBytes, 4 << 10},
		{0, 64 << 10, 999, perfStackBytes, 4 << 10},
		{0, 4 << 20, 5000, perfStackBytes, 4 << 10},
		{0, 16 << 20, 999, maxStackBytes, maxStackBytes},
		{40 << 10, 64 << 10, 999, perfStackBytes, 40 << 10},
	} {
		c := newCopying(Target{Machine: true}, Options{StackBytes: x.chosen})
		if c == nil {
			t.Skip("stacks of this processor are not walked")
		}
		if got := c.fit(x.ring, x.freq, x.want); got != x.bytes {
			t.Errorf("%+v: %d bytes", x, got)
		}
	}
	// Cut stacks are a reason to copy more for the next command.
	c := newCopying(Target{Machine: true}, Options{})
	o := &opener{copying: c, freq: 999, rings: []*perfevent.Ring{}}
	c.bytes = 32 << 10
	c.walked(7, 20<<10)
	o.deepen()
	if o.clock.StackBytes != 0 {
		t.Errorf("%d bytes, though no stack was cut", o.clock.StackBytes)
	}
	c.walked(7, 40<<10)
	if !c.cut.Load() {
		t.Error("a stack was cut, and nobody knows")
	}
}
