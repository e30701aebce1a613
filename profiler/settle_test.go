package profiler

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/unwind"
)

// A walk that does not end keeps no more than some samples waiting: beyond, those before take what the
// kernel has walked, in their order, and that is counted. The walk is not given to another sample before
// it has ended.
func TestSettleDoesNotStall(t *testing.T) {
	sys := newFakeSystem()
	b := newBuilder(profile.Target{}, sys, time.Now(), 0, 1)
	b.unwinder = &unwinder{jobs: make(chan []*walk, maxWalks)} // whose workers are busy
	p := b.tracker.process(7)
	p.put(region{start: 0x1000, end: 0x9000, file: sys.file("/bin/p")})
	sample := func(at int, copied bool) {
		r := &registers{}
		if copied {
			r.sp, r.stack = 0x7000_0000, make([]byte, 16)
		}
		b.sample(7, 7, uint64(at), 1, nil, []uint64{0x1100, 0x1200}, r)
	}
	sample(1, true)
	for i := range maxWaiting - 1 {
		sample(2+i, false)
	}
	b.settle()
	if n := b.samples.Len(); n != 0 || b.refused != 0 {
		t.Fatalf("%d samples have not waited, %d walks were given up", n, b.refused)
	}
	stuck := b.waiting[0].walk
	if batch := <-b.unwinder.jobs; len(batch) != 1 || batch[0] != stuck {
		t.Fatalf("the workers have %v", batch)
	}
	sample(1+maxWaiting, true)
	b.settle()
	if n := b.samples.Len(); n != maxWaiting || b.refused != 1 || len(b.waiting) != 1 {
		t.Fatalf("%d samples have their places, %d walks were given up, %d samples wait", n, b.refused, len(b.waiting))
	}
	if !slices.IsSorted(b.samples.Time) || len(b.c.Stacks.RootFirst(b.samples.Stack[0], nil)) != 2 {
		t.Errorf("the samples are not in order, or the first has lost its stack")
	}
	if b.unwinder.walks != 2 || b.unwinder.held != 32 || len(b.unwinder.free) != 0 {
		t.Errorf("the walk that has not ended was taken back: %+v", b.unwinder)
	}
	stuck.done.Store(true)
	next := b.waiting[0].walk
	next.end.Reason = unwind.NoRows
	next.frames = []unwind.Frame{{PC: 0x1100}}
	next.done.Store(true)
	b.settle()
	if b.unwinder.walks != 0 || b.unwinder.held != 0 || len(b.unwinder.free) != 2 {
		t.Errorf("walks that have ended were not taken back: %+v", b.unwinder)
	}
	b.finish(time.Second, 0)
	cut := slices.IndexFunc(b.c.Warnings, func(w profile.Warning) bool { return w.Kind == profile.WarnCut && w.Count == 1 })
	if cut < 0 {
		t.Errorf("nothing tells of the walk that was given up: %+v", b.c.Warnings)
	}
}

// A file whose rows were made is closed again where too many are open, one that is still read is not.
func TestLentFiles(t *testing.T) {
	fs := newCodeFiles()
	defer fs.close()
	fs.limit = 1
	dir := t.TempDir()
	find := func(name string) *codeFile {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return fs.find(os.Getpid(), &mapped{
			start: 0x1000, end: 0x2000, name: path, inode: st.Ino, major: unix.Major(st.Dev), minor: unix.Minor(st.Dev),
		})
	}
	a := find("a")
	if _, err := fs.reader(a); err != nil {
		t.Fatal(err)
	}
	b := find("b")
	if a.file == nil || b.file == nil {
		t.Fatal("a file that is read was closed")
	}
	fs.done(a)
	find("c")
	if a.file != nil && b.file != nil {
		t.Error("all files are open, though only one may be")
	}
	r, err := fs.reader(a)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(io.NewSectionReader(r, 0, 10)); string(text) != "a" {
		t.Errorf("read again: %q, %v", text, err)
	}
}
