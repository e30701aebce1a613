package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// stacksProgram keeps objects that one line allocated, and goroutines that another started, whose stacks have
// grown.
const stacksProgram = `package main

import (
	"fmt"
	"net/http/pprof"
	"runtime"
	"time"
)

var kept [][]byte

//go:noinline
func deep(n int) int {
	var room [1 << 10]byte
	room[n%len(room)] = byte(n)
	if n == 0 {
		time.Sleep(time.Hour)
		return int(room[0])
	}
	return deep(n-1) + int(room[n%len(room)])
}

func main() {
	_ = pprof.Index // the linker keeps the memory profile
	for range 32 {
		kept = append(kept, make([]byte, 1<<20)) // allocated
		for at := range kept[len(kept)-1] {
			kept[len(kept)-1][at] = 1
		}
	}
	for range 100 {
		go deep(40) // started
	}
	runtime.GC()
	fmt.Println("ready")
	time.Sleep(time.Hour)
	runtime.KeepAlive(kept)
}
`

// buildProgram builds and starts a Go program that says that it is ready, and ends it with the test.
func buildProgram(t *testing.T, name, text string) (dir string, pid int) {
	t.Helper()
	dir = t.TempDir()
	for file, text := range map[string]string{"go.mod": "module example.com/" + name + "\n\ngo 1.22\n", "main.go": text} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", name, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(filepath.Join(dir, name))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return dir, cmd.Process.Pid
}

// lineWith is the 0-based line of a program with a text.
func lineWith(t *testing.T, program, text string) int {
	t.Helper()
	i := slices.IndexFunc(strings.Split(program, "\n"), func(l string) bool { return strings.Contains(l, text) })
	if i < 0 {
		t.Fatalf("no line has %q", text)
	}
	return i
}

// A process page tells where the memory is, what holds it, and which lines are behind that.
func TestInspectMap(t *testing.T) {
	dir, pid := buildProgram(t, "stacks", stacksProgram)
	n := newInspector(func() string { return dir })
	defer n.close()
	file := string(uri.File(canonical(filepath.Join(dir, "main.go"))))
	var m *rpc.ProcessMap
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r, err := n.process(t.Context(), rpc.ProcessParams{PID: pid, Map: true, Limit: 5}, "")
		if err != nil {
			t.Fatal(err)
		}
		m = r.Map
		// Stacks are full-grown once all goroutines have run.
		if m != nil && len(m.Stacks) > 0 && m.Stacks[0].Number == 100 && m.Stacks[0].Each == "64.0 KiB each" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stacks are %+v", m.Stacks)
		}
	}
	at := func(l rpc.ProcessLine, text string) {
		t.Helper()
		if want := lineWith(t, stacksProgram, text); l.Location == nil || l.Location.URI != file || l.Location.Line != want || l.Stale {
			t.Errorf("%+v at %+v, want line %d of %s", l, l.Location, want, file)
		}
	}
	at(m.Stacks[0].Line, "// started")
	if s := m.Stacks[0]; s.Bytes != 100<<16 || s.Size != "6.2 MiB" || !strings.Contains(s.Line.Text, "100 goroutines, 64.0 KiB each, started by main.main main.go:") {
		t.Errorf("stacks %+v", s)
	}
	resident, heap := int64(0), false
	for _, k := range m.Kinds {
		if k.Detail == "" || len(k.Cells) != len(m.Columns) {
			t.Errorf("kind %+v of %d columns", k, len(m.Columns))
		}
		resident += k.Resident
		heap = heap || k.Name == "Managed heap" && k.Resident > 32<<20 && k.Share != ""
	}
	if !heap || resident != m.Resident {
		t.Errorf("kinds sum up to %d of %d: %+v", resident, m.Resident, m.Kinds)
	}
	sum := int64(0)
	for _, x := range m.Terms {
		sum += x.Bytes
		if x.Advice == "" || x.Text == "" || x.Share == "" {
			t.Errorf("term %+v", x)
		}
		if x.Name == "live objects" {
			if len(x.Lines) == 0 {
				t.Fatalf("no lines are behind %+v", x)
			}
			at(x.Lines[0], "// allocated")
		}
	}
	if sum != m.Resident || !strings.Contains(m.Sum, "sum up") {
		t.Errorf("terms sum up to %d of %d: %s", sum, m.Resident, m.Sum)
	}
	if len(m.Regions) != 5 || m.More < 5 || m.Regions[0].Kind != "Managed heap" || len(m.Regions[0].Lines) == 0 {
		t.Fatalf("%d regions and %d more, the first %+v", len(m.Regions), m.More, m.Regions[0])
	}
	at(m.Regions[0].Lines[0], "// allocated")

	status, out, errs := sightline(t, "map", "--reconcile", "stacks")
	for _, want := range []string{"allocated, about", "main.main", "started by", "100"} {
		if status != exitDone || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q in %s%s", status, want, out, errs)
		}
	}
}

// What has no memory has a page that says so, and what may not be read has sums.
func TestInspectMapOfNothing(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	n := newInspector(func() string { return t.TempDir() })
	defer n.close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := n.process(t.Context(), rpc.ProcessParams{PID: cmd.Process.Pid, Map: true}, "")
		if err != nil {
			t.Fatal(err)
		}
		if r.Map != nil && strings.Contains(r.Map.Note, "zombie") && len(r.Map.Kinds) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of a zombie: %+v", r.Map)
		}
	}
}
