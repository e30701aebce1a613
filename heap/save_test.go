package heap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// FullSnapshot has something in every table.
func fullSnapshot(t testing.TB) *Snapshot {
	t.Helper()
	b := NewBuilder(Info{
		Taken: time.Unix(1700000000, 5), PID: 71, Command: "server", Exe: "/bin/server", BuildID: "ab", Go: "go1.26.8", Module: "app",
		How: "forked", Stopped: 7 * time.Millisecond, HeapAlloc: 1 << 40, HeapLive: 1 << 39, SampleRate: 524288,
	})
	b.Info.Warn(profile.WarnHidden, 3, "something is not to be seen")
	k := b.AddType(Type{Name: "main.T", Package: "main", Kind: "struct", Origin: Own, File: "/m.go", Line: 3})
	f := b.AddField(Field{Name: "next", File: "/m.go", Line: 4})
	x, y := b.AddObject(0x1000, 6<<32, k), b.AddObject(0x1000+6<<32, 16, 0)
	b.AddReference(x, f, y)
	b.AddReference(y, 0, x)
	stack := b.AddStack([]profile.Frame{{Func: "main.f", File: "/m.go", Line: 9, Column: 2, StartLine: 7, Module: "server", Inlined: true}, {Func: "main.main", Entry: true}})
	g := b.AddGoroutine(Goroutine{Number: 1, State: "waiting", Wait: "select", Blocked: time.Hour, Stack: stack, Created: stack, Bytes: 8192, System: true})
	b.AddRootReference(b.AddRoot(Root{Kind: Local, Name: "main.f.x", Goroutine: g, File: "/m.go", Line: 8}), f, x)
	b.AddSampled(Sampled{Object: y, Stack: stack, Count: 1.5, Bytes: 24})
	b.AddWaste(Waste{Kind: DuplicateStrings, Type: k, What: "eu-\xff", Count: 2, Bytes: 3, Of: 4, Example: y, Field: f, Holder: k})
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func saved(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var wholeSnapshots = cmp.Options{
	cmp.AllowUnexported(Snapshot{}, columns{}, hugeObject{}, references{}, profile.Stacks[profile.FrameID]{}),
	cmp.FilterPath(func(p cmp.Path) bool { n := p.Last().String(); return n == ".close" || n == ".index" }, cmp.Ignore()),
	cmpopts.EquateEmpty(),
}

func TestASavedSnapshotIsTheSame(t *testing.T) {
	list := []*Snapshot{fullSnapshot(t)}
	for seed := range uint64(20) {
		list = append(list, randomSnapshot(t, seed, 30))
	}
	for i, want := range list {
		path := filepath.Join(t.TempDir(), "x.heap")
		if err := os.WriteFile(path, saved(t, want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Info.Taken.Equal(want.Info.Taken) {
			t.Errorf("taken at %v, want %v", got.Info.Taken, want.Info.Taken)
		}
		got.Info.Taken = want.Info.Taken
		if d := cmp.Diff(want, got, wholeSnapshots); d != "" {
			t.Errorf("snapshot %d: (-saved +opened)\n%s", i, d)
		}
		if !bytes.Equal(saved(t, got), saved(t, want)) {
			t.Errorf("snapshot %d: saved again it is another file", i)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if err := got.Close(); err != nil {
			t.Error("closed twice:", err)
		}
	}
}

func TestEveryDamageIsFound(t *testing.T) {
	data := saved(t, fullSnapshot(t))
	if _, err := Parse(data); err != nil {
		t.Fatal(err)
	}
	unused := 0
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if s, err := Parse(bad); err == nil {
			unused++ // the space between parts
			if !bytes.Equal(saved(t, s), data) {
				t.Errorf("with byte %d damaged it is another snapshot", i)
			}
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if unused > len(data)/2 {
		t.Errorf("damage of %d of %d bytes is not noticed", unused, len(data))
	}
	for n := range data {
		if _, err := Parse(data[:n]); err == nil {
			t.Fatalf("the first %d bytes are a snapshot", n)
		}
	}
	newer := slices.Clone(data)
	newer[8] = fileVersion + 1
	if _, err := Parse(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer file: %v", err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"empty": nil, "text": []byte(strings.Repeat("no snapshot\n", 100))} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "none"), "/dev/null"} {
		if _, err := Open(path); err == nil || strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("open %s: %v", path, err)
		}
	}
}

// What passes for a snapshot must be one: it can be analysed and saved, whatever the checksums.
func FuzzParse(f *testing.F) {
	f.Add(saved(f, fullSnapshot(f)))
	for seed := range uint64(5) {
		f.Add(saved(f, randomSnapshot(f, seed, 6)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(resum(data))
		if err != nil {
			if s != nil {
				t.Fatal("both a snapshot and an error")
			}
			return
		}
		a := Analyze(s, nil)
		if err := a.Capture().Check(); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(saved(t, s))
		if err != nil {
			t.Fatalf("saved again it is no snapshot: %v", err)
		}
		if again.Len() != s.Len() || len(again.Types) != len(s.Types) || len(again.Roots) != len(s.Roots) {
			t.Fatal("saved again it is another snapshot")
		}
	})
}

// Resum makes the checksums and the size of a file right, so that fuzzing comes past them.
func resum(data []byte) []byte {
	if !Sniff(data) || len(data) < headBytes+entryBytes*(partsEnd-1) {
		return data
	}
	data = slices.Clone(data)
	le := binary.LittleEndian
	le.PutUint64(data[16:], uint64(len(data)))
	table := data[headBytes : headBytes+entryBytes*(partsEnd-1)]
	for n := range partsEnd - 1 {
		e := table[entryBytes*n:]
		at, size := le.Uint64(e[8:]), le.Uint64(e[16:])
		if at <= uint64(len(data)) && size <= uint64(len(data))-at {
			le.PutUint32(e[4:], checksum(data[at:at+size]))
		}
	}
	le.PutUint32(data[24:], checksum(table))
	return data
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.heap")
	if err := os.WriteFile(path, saved(b, largeSnapshot(b, 1e6)), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/open")
}
