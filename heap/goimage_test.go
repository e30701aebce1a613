package heap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/heap/goruntime"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A goProgram is testdata/goheap, built and running.
type goProgram struct {
	pid             int
	allocated, many uint64 // as its runtime counts: bytes and objects
}

// goSource is the text of the program, for the lines of its markers.
func goLine(t testing.TB, marker string) int {
	t.Helper()
	text, err := os.ReadFile("testdata/goheap/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasSuffix(line, "// "+marker) {
			return i + 1
		}
	}
	t.Fatalf("no line of the program ends with %q", marker)
	return 0
}

// startGo builds the program with a toolchain ("" is the one that runs the test) and starts it. It waits
// until the test ends.
func startGo(t testing.TB, toolchain string, cgo bool, flags ...string) goProgram {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"main.go", "pure.go", "native.go"} {
		text, err := os.ReadFile("testdata/goheap/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/goheap\n\ngo 1.22\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", append(append([]string{"build"}, flags...), "-o", "goheap", ".")...)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "CGO_ENABLED=0")
	if cgo {
		build.Env = append(build.Env, "CGO_ENABLED=1")
	}
	if toolchain != "" {
		build.Env = append(build.Env, "GOTOOLCHAIN="+toolchain)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program with %s %v: %v\n%s", toolchain, flags, err, out)
	}
	cmd := exec.Command(filepath.Join(dir, "goheap"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	p := goProgram{pid: cmd.Process.Pid}
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, err2 := fmt.Sscanf(line, "ready %d %d\n", &p.allocated, &p.many); err != nil || err2 != nil {
		t.Fatalf("the program says %q: %v, %v", line, err, err2)
	}
	return p
}

func snapshotOf(t testing.TB, pid int) *Snapshot {
	t.Helper()
	img, err := freeze.Take(t.Context(), pid, freeze.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	s, err := OfGo(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reachable are the objects that roots lead to, found the simplest way.
func reachable(s *Snapshot) []bool {
	live := make([]bool, s.Len()+1)
	var work []ObjectID
	mark := func(all []ObjectID) {
		for _, x := range all {
			if !live[x] {
				live[x] = true
				work = append(work, x)
			}
		}
	}
	for id := range s.Roots {
		to, _ := s.RootReferences(RootID(id))
		mark(to)
	}
	for len(work) > 0 {
		x := work[len(work)-1]
		work = work[:len(work)-1]
		to, _ := s.References(x)
		mark(to)
	}
	return live
}

// A goHeap is what the tests ask of a snapshot.
type goHeap struct {
	*Snapshot
	count         map[string]int // live objects by type
	bytes         map[string]uint64
	edges         map[string]int // references of live objects: "main.node next main.node"
	roots         map[string]int // references of roots: "[globals] main.list  main.node"
	live, untyped uint64         // bytes
}

func readGoHeap(s *Snapshot) *goHeap {
	h := &goHeap{Snapshot: s, count: map[string]int{}, bytes: map[string]uint64{}, edges: map[string]int{}, roots: map[string]int{}}
	name := func(id ObjectID) string { return s.Types[s.TypeOf(id)].String() }
	live := reachable(s)
	for id := ObjectID(1); int(id) <= s.Len(); id++ {
		if !live[id] {
			continue
		}
		h.live += s.Size(id)
		if s.TypeOf(id) == 0 {
			h.untyped += s.Size(id)
		}
		h.count[name(id)]++
		h.bytes[name(id)] += s.Size(id)
		to, field := s.References(id)
		for i := range to {
			h.edges[name(id)+" "+s.Fields[field[i]].Name+" "+name(to[i])]++
		}
	}
	for id, r := range s.Roots {
		to, field := s.RootReferences(RootID(id))
		for i := range to {
			h.roots[strings.Join([]string{r.Kind.String(), r.Name, s.Fields[field[i]].Name, name(to[i])}, " ")]++
		}
	}
	return h
}

// goToolchains are the releases that are known, with the toolchain of each; "" is the one that runs.
var goToolchains = []struct{ release, toolchain string }{
	{"go1.22", "go1.22.12"}, {"go1.23", "go1.23.12"}, {"go1.24", "go1.24.10"}, {"go1.25", "go1.25.4"}, {"go1.26", ""},
}

func hasToolchain(t testing.TB, name string) bool {
	if name == "" {
		return true
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(strings.TrimSpace(string(cache)), "golang.org", "toolchain@v0.0.1-"+name+".linux-amd64", "bin", "go"))
	return err == nil
}

// TestGoHeap reads the heap of a program whose objects are known, built in all the ways that change how
// its memory is laid out or what it tells of itself.
func TestGoHeap(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	for _, x := range goToolchains {
		t.Run(x.release, func(t *testing.T) {
			if !hasToolchain(t, x.toolchain) {
				t.Skip("the toolchain is not here; `make toolchains` gets it")
			}
			checkGoHeap(t, startGo(t, x.toolchain, false), x.release, false)
		})
	}
	for _, x := range []struct {
		name  string
		cgo   bool
		flags []string
	}{
		{"unoptimized", false, []string{"-gcflags=-N -l"}},
		{"position-independent", false, []string{"-buildmode=pie"}},
		{"cgo", true, nil},
		{"race", true, []string{"-race"}},
	} {
		t.Run(x.name, func(t *testing.T) { checkGoHeap(t, startGo(t, "", x.cgo, x.flags...), "go1.26", x.cgo) })
	}
}

func checkGoHeap(t *testing.T, p goProgram, release string, cgo bool) {
	s := snapshotOf(t, p.pid)
	h := readGoHeap(s)
	for _, w := range s.Info.Warnings {
		if w.Kind != profile.WarnEngine {
			t.Errorf("warning: %s (%d)", w.Text, w.Count)
		}
	}
	if !strings.HasPrefix(s.Info.Go, release) || s.Info.Module != "example.com/goheap" || s.Info.SampleRate != 4096 || s.Info.BuildID == "" {
		t.Errorf("info %+v", s.Info)
	}
	if off := math.Abs(float64(h.live)-float64(p.allocated)) / float64(p.allocated); off > 0.01 {
		t.Errorf("%d bytes are live, the runtime counts %d", h.live, p.allocated)
	}
	if share := 1 - float64(h.untyped)/float64(h.live); share < 0.999 {
		t.Errorf("%.3f%% of the bytes have a type", 100*share)
	}
	for name, want := range map[string]int{
		"main.node": 3000, "main.session": 500, "main.profile": 510, "main.big": 51, "main.circle": 100, "main.scratch": 40,
		"main.swapped": 1, "main.pooled": 1, "[]main.task": 1, "main.square": 650, "[]string": 502, "func main.fill.func1": 100, "func main.(*bound).add-fm": 1,
	} {
		// What lies on a stack still may keep one more of a kind: regions and the like have grown.
		if got := h.count[name]; got < want || got > want+want/100+2 {
			if name == "main.pooled" && strings.Contains(t.Name(), "race") {
				continue // sync.Pool drops things at random there
			}
			t.Errorf("%d objects of %s, want %d", got, name, want)
		}
	}
	for edge, want := range map[string]int{
		"main.node next main.node": 2999, "main.session user main.profile": 500, "main.session cookies []string": 500, "main.big data []uint8": 51,
		"map[int]*main.session [value] main.session": 500, "map[string][]uint8 [key] string": 2000, "map[string][]uint8 [value] []uint8": 2000,
		"[]main.shape [] main.square": 100, "[]main.shape [] main.circle": 100, "main.circle name string": 100, "main.scratch next main.scratch": 20,
		"main.scratch buffer []uint8": 20, "func main.fill.func1 x []int": 100, "main.profile tags map[string]int": 50,
		"[]string [] string": 300, "main.session extra main.square": 250, "main.session extra int": 20, "[]main.task [].done bool": 40,
	} {
		if release == "go1.22" && edge == "func main.fill.func1 x []int" {
			edge = "func main.fill.func1 X0 []int" // that release has no names for what closures hold
			if h.edges[edge] == 0 {
				edge = "func main.fill.func1 X1 []int"
			}
		}
		// Small values without pointers share slots, and then one of them gives the slot its type.
		if got := h.edges[edge]; got < want-want/20 {
			t.Errorf("%d references %q, want %d", got, edge, want)
		}
	}
	for root, want := range map[string]int{
		"[globals] main.list  main.node": 1, "[globals] main.reg sessions map[int]*main.session": 1, "[globals] main.byName  map[string][]uint8": 1,
		"[globals] main.queue  chan *main.profile": 1, "[globals] main.current  main.swapped": 1, "[globals] main.bigs  main.big": 1,
		"[globals] main.tasks  []main.task": 1, "[globals] main.shapes  []main.shape": 1,
	} {
		if h.roots[root] != want {
			t.Errorf("%d references of roots %q, want %d", h.roots[root], root, want)
		}
	}
	checkGoStacks(t, h)
	checkGoSites(t, h)
	checkGoWaste(t, h)
	if t.Failed() {
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for k, n := range h.edges {
				if strings.Contains(k, "main.") && !yield(fmt.Sprint(k, " ", n)) {
					return
				}
			}
		}) {
			t.Log(k)
		}
		for k, n := range h.roots {
			if strings.Contains(k, "main.") {
				t.Log(k, n)
			}
		}
		for k, n := range h.count {
			t.Log("count", k, n)
		}
	}
}

// checkGoStacks looks for the 20 workers, and for what only they hold.
func checkGoStacks(t *testing.T, h *goHeap) {
	blocked, begin, workers := goLine(t, "blocked here"), goLine(t, "workers begin here"), 0
	for i := range h.Goroutines[1:] {
		g := &h.Goroutines[i+1]
		var frames []profile.Frame
		for f := range h.Stacks.LeafFirst(g.Stack) {
			frames = append(frames, h.Frames[f])
		}
		at := slices.IndexFunc(frames, func(f profile.Frame) bool { return f.Func == "main.worker" })
		if at < 0 {
			continue
		}
		workers++
		if g.State != "waiting" || g.Wait != "chan receive" || g.System || g.Bytes < 2048 || frames[at].Line != blocked || filepath.Base(frames[at].File) != "main.go" {
			t.Errorf("worker %+v is at %v", *g, frames[at])
		}
		if last := frames[len(frames)-1]; last.Func != "runtime.goexit" || !last.Entry {
			t.Errorf("worker %d begins in %v", g.Number, last)
		}
		made := slices.Collect(h.Stacks.LeafFirst(g.Created))
		if len(made) != 1 || h.Frames[made[0]].Func != "main.main" || h.Frames[made[0]].Line != begin {
			t.Errorf("worker %d was made at %v", g.Number, made)
		}
	}
	if workers != 20 {
		t.Errorf("%d workers, want 20", workers)
	}
	named, kept := 0, 0
	for id, r := range h.Roots {
		to, _ := h.RootReferences(RootID(id))
		for _, x := range to {
			if h.Types[h.TypeOf(x)].Name == "main.scratch" && r.Goroutine != 0 {
				kept++
				if r.Kind == Local && r.Name == "main.worker.held" {
					named++
				}
			}
		}
	}
	if named != 20 || kept < 20 {
		t.Errorf("%d of the workers' objects are kept by variables, %d by stacks; there are 20", named, kept)
	}
	if h.count["main.scratch"] < 40 {
		t.Errorf("%d objects that only stacks hold are live", h.count["main.scratch"])
	}
	finalizers := 0
	for _, r := range h.Roots {
		if r.Kind == Finalizer && strings.HasPrefix(r.Name, "main.fill.func") {
			finalizers++
		}
	}
	if finalizers == 0 {
		t.Error("no root for the finalizer")
	}
}

// checkGoSites compares what the samples stand for with the known number of objects of a line.
func checkGoSites(t *testing.T, h *goHeap) {
	line, count, bytes := goLine(t, "nodes are made here"), 0.0, 0.0
	for _, x := range h.Sampled {
		for f := range h.Stacks.LeafFirst(x.Stack) {
			if f := h.Frames[f]; f.Func != "main.makeNodes" || f.Line != line {
				break
			}
			if got := h.Types[h.TypeOf(x.Object)].Name; got != "main.node" {
				t.Errorf("an object allocated at line %d is %s", line, got)
			}
			count, bytes = count+x.Count, bytes+x.Bytes
			break
		}
	}
	// 3,000 of 32 bytes at 4 KB between samples are 23 on average, with a deviation of 5.
	if count < 300 || count > 12000 || bytes < count*31 || bytes > count*33 {
		t.Errorf("the samples stand for %.0f nodes of %.0f bytes", count, bytes)
	}
}

func checkGoWaste(t *testing.T, h *goHeap) {
	find := func(kind WasteKind, name, what string) Waste {
		for _, w := range h.Waste {
			if w.Kind == kind && h.Types[w.Type].Name == name && w.What == what {
				return w
			}
		}
		return Waste{}
	}
	if w := find(UnusedCapacity, "[]string", ""); w.Count < 500 || w.Bytes < 500*64 {
		t.Errorf("unused capacity %+v", w)
	}
	if w := find(FreeMapSlots, "map[string]int", ""); w.Count < 50 || w.Bytes < 50*7*24 {
		t.Errorf("free map slots %+v", w)
	}
	if w := find(DuplicateStrings, "string", "eu-central-1"); w.Count != 300 || w.Bytes != 299*12 {
		t.Errorf("duplicate strings %+v", w)
	}
	if w := find(BoxedScalars, "int", ""); w.Count < 500 || w.Bytes < 500*8 {
		t.Errorf("boxed scalars %+v", w)
	}
	if w := find(Padding, "main.big", ""); w.Count < 50 || w.Bytes < 50*40 {
		t.Errorf("padding %+v", w)
	}
	for _, w := range h.Waste {
		if w.Bytes <= 0 || w.Count <= 0 || w.Bytes > w.Of+8*w.Count || int(w.Example) > h.Len() {
			t.Errorf("waste %+v", w)
		}
	}
}

// TestStrippedGoHeap reads programs that do not say what their variables are: what is reachable does not
// depend on it.
func TestStrippedGoHeap(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	for _, flags := range []string{"-w", "-s -w"} {
		t.Run(strings.ReplaceAll(flags, " ", ""), func(t *testing.T) {
			p := startGo(t, "", false, "-ldflags="+flags)
			s := snapshotOf(t, p.pid)
			h := readGoHeap(s)
			if off := math.Abs(float64(h.live)-float64(p.allocated)) / float64(p.allocated); off > 0.01 {
				t.Errorf("%d bytes are live, the runtime counts %d", h.live, p.allocated)
			}
			if share := 1 - float64(h.untyped)/float64(h.live); share < 0.03 { // 8 MB of it are arrays without pointers, which nothing tells of
				t.Errorf("%.3f%% of the bytes have a type", 100*share)
			}
			// The types of what the allocator notes, of what interfaces hold, and of what these lead to.
			for name, want := range map[string]int{"main.big": 51, "main.square": 400, "map[string][]uint8": 1} {
				if h.count[name] < want {
					t.Errorf("%d objects of %s, want %d", h.count[name], name, want)
				}
			}
			workers := 0
			for i := range h.Goroutines {
				g := &h.Goroutines[i]
				for f := range h.Stacks.LeafFirst(g.Stack) {
					if h.Frames[f].Func == "main.worker" && g.State == "waiting" && g.Wait == "chan receive" {
						workers++
					}
				}
			}
			if workers != 20 {
				t.Errorf("%d workers, want 20", workers)
			}
			if flags == "-w" { // else it is not known how often the program samples
				checkGoSites(t, &goHeap{Snapshot: withoutTypes(s)})
			}
			said := ""
			for _, w := range s.Info.Warnings {
				said += w.Text + "\n"
			}
			if !strings.Contains(said, "debug information") || strings.Contains(flags, "-s") != strings.Contains(said, "finalizers and cleanups that are about to run") {
				t.Errorf("it says of what is lost: %s", said)
			}
		})
	}
}

// withoutTypes is a snapshot whose sampled objects are all nodes, for what does not depend on types.
func withoutTypes(s *Snapshot) *Snapshot {
	x := *s
	x.Types = slices.Clone(s.Types)
	x.Types[0].Name = "main.node"
	return &x
}

// TestGoImageOfOthers asks for the heap of a program that has none.
func TestGoImageOfOthers(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	img, err := freeze.Take(t.Context(), cmd.Process.Pid, freeze.Options{How: freeze.Running})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := OfGo(t.Context(), img, nil); !errors.Is(err, goruntime.ErrNotGo) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("of sleep: %v", err)
	}
}

// TestGoImageIsCancelled ends the reading as soon as its context does.
func TestGoImageIsCancelled(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	img, err := freeze.Take(t.Context(), startGo(t, "", false).pid, freeze.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for stage := range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := OfGo(ctx, img, func(what string, share float64) {
			if what == "" || share < 0 || share > 1 {
				t.Errorf("progress %q %g", what, share)
			}
			if n == stage {
				cancel()
			}
			n++
		})
		cancel()
		if n <= stage || n == stage+1 && err == nil {
			continue // it was done
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at stage %d of %d: %v", stage, n, err)
		}
	}
}

// A damaged image is one with other words in some places.
type damaged struct {
	*freeze.Image
	pages map[uint64][]byte
}

func (d *damaged) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.Image.ReadAt(p, at)
	for i := 0; i < n; {
		page := (uint64(at) + uint64(i)) &^ 4095
		from := int(uint64(at) + uint64(i) - page)
		k := min(4096-from, n-i)
		if b := d.pages[page]; b != nil {
			copy(p[i:i+k], b[from:])
		}
		i += k
	}
	return n, err
}

func (d *damaged) Bytes(at, n uint64) []byte {
	if n > 1<<40 || d.Image.Bytes(at, n) == nil {
		return nil
	}
	for page := at &^ 4095; page < at+n; page += 4096 {
		if d.pages[page] != nil {
			b := make([]byte, n)
			if k, _ := d.ReadAt(b, int64(at)); uint64(k) == n {
				return b
			}
			return nil
		}
	}
	return d.Image.Bytes(at, n)
}

// damage writes over words of the image's writable memory, as the random numbers say: with numbers,
// with pointers that are elsewhere, with pointers to the words themselves.
func damage(img *freeze.Image, random *rand.Rand, words int) *damaged {
	d := &damaged{img, map[uint64][]byte{}}
	var regions []freeze.Region
	for _, r := range img.Regions() {
		if strings.HasPrefix(r.Perm, "rw") && r.Path != "[stack]" {
			regions = append(regions, r)
		}
	}
	read := func(at uint64) uint64 {
		var b [8]byte
		img.ReadAt(b[:], int64(at))
		return binary.LittleEndian.Uint64(b[:])
	}
	place := func() uint64 { // of something that is there and is not all zero
		for range 64 {
			r := regions[random.IntN(len(regions))]
			at := r.Start + random.Uint64N(r.Size()/8)*8
			if read(at) != 0 {
				return at
			}
		}
		return regions[0].Start
	}
	for range words {
		at := place()
		var v uint64
		switch random.IntN(6) {
		case 0:
			v = random.Uint64()
		case 1:
			v = read(place())
		case 2:
			v = at
		case 3:
			v = read(at) ^ 1<<random.IntN(64)
		case 4:
			v = 1<<random.IntN(64) - uint64(random.IntN(2))
		case 5:
			v = place()
		}
		page := at &^ 4095
		if d.pages[page] == nil {
			b := make([]byte, 4096)
			if n, _ := img.ReadAt(b, int64(page)); n < 4096 {
				continue
			}
			d.pages[page] = b
		}
		binary.LittleEndian.PutUint64(d.pages[page][at-page:], v)
	}
	return d
}

// FuzzDamagedGoHeap reads heaps whose memory is damaged: lists that go round, pointers to nowhere,
// counts without end. It ends, and gives a graph that keeps its laws or an error.
func FuzzDamagedGoHeap(f *testing.F) {
	p := startGo(f, "", false)
	img, err := freeze.Take(f.Context(), p.pid, freeze.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { img.Close() })
	for i := range uint64(6) {
		f.Add(i, uint16(1)<<(2*i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, words uint16) {
		d := damage(img, rand.New(rand.NewPCG(seed, 0)), int(words%4096))
		exe, _, bias, err := img.Executable()
		if err != nil {
			t.Fatal(err)
		}
		r, err := goruntime.Open(exe, bias, d)
		if err != nil {
			return
		}
		o := goruntime.HeapOptions{Waste: true}
		if seed%8 == 0 {
			o.Path = fmt.Sprintf("/proc/self/fd/%d", exe.Fd())
		}
		h, err := r.Heap(t.Context(), o)
		if err != nil {
			return
		}
		last, objects := uint64(0), uint32(0)
		h.Objects(func(at, size uint64, typ uint32) {
			if at < last || size == 0 || int(typ) >= len(h.Types) {
				t.Fatalf("object at %#x of %d bytes and type %d, behind %#x", at, size, typ, last)
			}
			last = at + size
			objects++
		})
		if int(objects) != h.Len() {
			t.Fatalf("%d objects of %d", objects, h.Len())
		}
		next := uint32(1)
		err = goruntime.References(t.Context(), h, func(first uint32, end, to, field []uint32) {
			if first != next {
				t.Fatalf("references of object %d come after those of %d", first, next-1)
			}
			next += uint32(len(end))
			for i := range to {
				if to[i] == 0 || to[i] > objects || int(field[i]) >= len(h.Fields) {
					t.Fatalf("a reference to %d of %d through field %d of %d", to[i], objects, field[i], len(h.Fields))
				}
			}
		})
		if err != nil || next != objects+1 {
			t.Fatalf("references of %d objects of %d: %v", next-1, objects, err)
		}
	})
}
