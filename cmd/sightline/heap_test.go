package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// keepProgram keeps sessions in a map, and makes more of them when it is told to.
const keepProgram = `package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

type Session struct {
	User    *User
	Cookies []string
}

type User struct{ Name string }

type registry struct{ sessions map[int]*Session }

var reg = &registry{map[int]*Session{}}

func add(n int) {
	for range n {
		id := len(reg.sessions)
		reg.sessions[id] = &Session{&User{"user " + strconv.Itoa(id)}, make([]string, 0, 4)}
	}
}

func wait(buffer []byte, ready chan int) {
	ready <- 1
	select {}
	fmt.Println(buffer)
}

func main() {
	syscall.RawSyscall6(syscall.SYS_PRCTL, 0x59616d61, ^uintptr(0), 0, 0, 0, 0) // any process may read this one
	runtime.MemProfileRate = 1
	add(2000)
	ready := make(chan int)
	for range 50 {
		go wait(make([]byte, 4096), ready)
		<-ready
	}
	in := bufio.NewScanner(os.Stdin)
	for {
		runtime.GC()
		runtime.GC()
		fmt.Println("ready")
		if !in.Scan() {
			return
		}
		add(3000)
	}
}
`

// StartKeeper runs the program; more makes it keep more.
func startKeeper(t *testing.T) (pid string, more func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/keep\n\ngo 1.22\n", "main.go": keepProgram} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "keeper", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(filepath.Join(dir, "keeper"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the program ended")
	}
	return strconv.Itoa(cmd.Process.Pid), func() {
		t.Helper()
		if _, err := io.WriteString(in, "more\n"); err != nil || !lines.Scan() {
			t.Fatalf("the program ended: %v", err)
		}
	}
}

// What a person asks of a heap, of a program whose heap is known.
func TestHeapOfAProcess(t *testing.T) {
	pid, more := startKeeper(t)
	dir := t.TempDir()
	kept := filepath.Join(dir, "store.db")
	sightline := func(args ...string) string {
		t.Helper()
		return mustMap(t, append([]string{"--store", kept}, args...)...)
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("it does not say %q:\n%s", w, out)
			}
		}
	}
	says(sightline("heap", pid), "process "+pid+" (keeper)", "main.Session", "2,000", "main.User", "live in", "RETAINED")
	for view, words := range map[string][]string{
		"types":      {"main.Session"},
		"tree":       {"[globals]", "main.reg", "map[int]*main.Session", "main.Session"},
		"retained":   {"[globals]", "main.reg", "main.Session"},
		"paths":      {"[globals] main.reg", "sessions"},
		"sites":      {"main.add main.go:26"},
		"goroutines": {"main.wait", "50"},
		"waste":      {"unused capacity", "[]string"},
	} {
		says(sightline("heap", "@", "--view", view, "--fold", "0", "--secondary"), words...)
		if text := sightline("heap", "@", "--view", view, "--json"); !json.Valid([]byte(text)) {
			t.Errorf("%s --json is no JSON:\n%s", view, text)
		}
	}
	var types heapJSON
	if err := json.Unmarshal([]byte(sightline("heap", "@", "--json", "--top", "0")), &types); err != nil {
		t.Fatal(err)
	}
	address := ""
	for _, x := range types.Types {
		if x.Type == "main.Session" {
			address = x.Example
			if x.Objects != 2000 || x.Bytes != 2000*32 || x.Retained < 2000*(32+16+64) {
				t.Errorf("sessions are %+v", x)
			}
		}
	}
	for _, focus := range []string{"main.Session", address} {
		says(sightline("heap", "@", "--focus", focus), "main.Session", "Held by", "map[int]*main.Session [value]", "What its fields keep", "User", "Cookies", "[globals] main.reg")
		says(sightline("heap", "@", "--focus", focus, "--view", "paths"), "[globals] main.reg", "[value]")
		for _, view := range []string{"types", "paths"} {
			if text := sightline("heap", "@", "--focus", focus, "--view", view, "--json"); !json.Valid([]byte(text)) || !strings.Contains(text, "[globals]") {
				t.Errorf("--focus %s --view %s --json is\n%s", focus, view, text)
			}
		}
	}
	says(sightline("heap", "@", "--view", "tree", "--raise", "main.reg", "--lower", "[globals]", "--priorities", "main.User->5"), "main.reg")

	// It is a capture like others.
	file := filepath.Join(dir, "x.heap")
	sightline("heap", "@", "-o", file)
	for _, ref := range []string{"@", file} {
		for _, kind := range []string{"retained", "tree", "in-use", "goroutines"} {
			sightline("stacks", ref, "--kind", kind)
		}
		says(sightline("stacks", ref, "--view", "call-tree"), "[globals]", "main.reg", "main.Session", "KiB")
		says(sightline("stacks", ref, "--view", "flame"), "<svg")
	}
	says(sightline("stacks", file, "--kind", "in-use"), "main.add")
	sightline("export", file, "-o", filepath.Join(dir, "x.pb.gz"))
	sightline("diff", file, "@")
	says(sightline("captures"), "process "+pid)
	says(sightline("captures", "--json"), `"snapshot": `)

	more()
	says(sightline("heap", "diff", "@", pid), "main.Session", "+3,000", "survived", "[globals] main.reg", "allocated at main.add")
	var d heapDiffJSON
	if err := json.Unmarshal([]byte(sightline("heap", "diff", "@2", "@", "--json", "--top", "0")), &d); err != nil {
		t.Fatal(err)
	}
	for _, g := range d.Types {
		if g.Type == "main.Session" && (g.New.Objects != 3000 || g.Gone.Objects != 0) {
			t.Errorf("of sessions came and went %+v", g)
		}
	}
	sightline("rm", "@")
	says(sightline("heap", "@"), "2,000")
	sightline("rm", "@")
	if _, said, status := runMap(t, "--store", kept, "heap", "@"); status != exitUsage || !strings.Contains(said, "0 heap snapshots") {
		t.Errorf("without any: status %d: %s", status, said)
	}
	says(sightline("heap", pid, "--dont-keep", "--how", "running"), "read while it ran", "5,000")
	core := filepath.Join(dir, "core")
	sightline("dump", pid, "-o", core)
	says(sightline("heap", core), "core file "+core+" of keeper", "main.Session", "5,000")
}

func TestHeapBadInput(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "store.db")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("text ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.heap")
	if err := os.WriteFile(broken, append([]byte("SLHEAP\r\n\x01\x00\x00\x00"), make([]byte, 100)...), 0o600); err != nil {
		t.Fatal(err)
	}
	other := sleeping(t, "no heap of Go")
	for _, x := range []struct {
		want string
		args []string
	}{
		{"one process id", nil}, {"one process id", []string{"1", "2"}},
		{"no such process", []string{"99999999"}},
		{"there is no process, core file", []string{"no such thing"}},
		{"neither a core file nor a heap snapshot", []string{text}},
		{"it is damaged", []string{broken}},
		{"no Go program", []string{strconv.Itoa(other.Process.Pid), "--how", "running"}},
		{"0 heap snapshots", []string{"@"}}, {"0 heap snapshots", []string{"@3"}},
		{"there is no view", []string{"@", "--view", "x"}},
		{"no way to hold", []string{"@", "--how", "x"}},
		{"percentage", []string{"@", "--fold", "101"}},
		{"may not be negative", []string{"@", "--top", "-1"}},
		{"PATTERN->NUMBER", []string{"@", "--priorities", "main.T"}},
		{"takes two", []string{"diff", "@"}},
	} {
		out, said, status := runMap(t, append([]string{"--store", kept, "heap"}, x.args...)...)
		if status != exitUsage || out != "" || !strings.Contains(said, x.want) || strings.Count(said, "\n") != 1 {
			t.Errorf("heap %q: status %d, want %q: %s%s", x.args, status, x.want, said, out)
		}
	}
	if _, said, status := runMap(t, "stacks", broken); status != exitUsage || !strings.Contains(said, "damaged") {
		t.Errorf("stacks of a damaged one: status %d: %s", status, said)
	}
}
