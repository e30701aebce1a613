package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/memmap"
)

// runMap runs a command line of this process and returns what it printed.
func runMap(t *testing.T, args ...string) (out, errors string, status int) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, streams{strings.NewReader(""), &o, &e})
	return o.String(), e.String(), status
}

func mustMap(t *testing.T, args ...string) string {
	t.Helper()
	out, said, status := runMap(t, args...)
	if status != exitDone {
		t.Fatalf("sightline %s: status %d: %s", strings.Join(args, " "), status, said)
	}
	return out
}

// sleeping runs a program under a name until the test ends.
func sleeping(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func TestMapViews(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	runtime.GC() // what it finds is live
	for view, words := range map[string][]string{
		"--kinds":         {"Image", "Managed heap", "Runtime metadata", "Page table", "TotalWS"},
		"--regions":       {"bss", "Go arena", "main thread"},
		"--reconcile":     {"live objects", "goroutine stacks", "images", "to the byte"},
		"--fragmentation": {"Go heap:", "large", "capital"},
		"--top=3":         {"Total"},
	} {
		out := mustMap(t, "map", self, view)
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("map %s does not say %q:\n%s", view, w, out)
			}
		}
		if text := mustMap(t, "map", self, view, "--json"); !json.Valid([]byte(text)) {
			t.Errorf("map %s --json is no JSON", view)
		}
	}
	for _, args := range [][]string{{"--explain"}, {self, "--strings", "no such text " + self + "x"}, {self, "--strings", "sightline", "--only", "stack"}, {self, "--strings", "", "--only", "stack", "--top", "5"}} {
		mustMap(t, append([]string{"map"}, args...)...)
		if text := mustMap(t, append([]string{"map", "--json"}, args...)...); !json.Valid([]byte(text)) {
			t.Errorf("map %v --json is no JSON:\n%s", args, text)
		}
	}
}

func TestMapSavedAndCompared(t *testing.T) {
	dir := t.TempDir()
	saved, table := filepath.Join(dir, "-before.json"), filepath.Join(dir, "map.csv")
	cmd := sleeping(t, "mapped by name")
	pid := strconv.Itoa(cmd.Process.Pid)
	var out string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && !strings.Contains(out, "libc"); time.Sleep(20 * time.Millisecond) {
		out = mustMap(t, "map", "mapped by name", "--regions") // once its libraries are loaded
	}
	mustMap(t, "map", pid, "-o", saved)
	mustMap(t, "map", pid, "-o", table)
	if b, err := os.ReadFile(table); err != nil || !strings.HasPrefix(string(b), "start,end,kind") {
		t.Errorf("%.50s %v", b, err)
	}
	if out := mustMap(t, "map", "--regions", "--", saved); !strings.Contains(out, "mapped by name") {
		t.Errorf("of the saved one:\n%s", out)
	}
	if out := mustMap(t, "map", "--diff", saved, pid); !strings.Contains(out, "regions") {
		t.Errorf("difference:\n%s", out)
	}
	var d memmap.Diff
	if err := json.Unmarshal([]byte(mustMap(t, "map", "--diff", saved, pid, "--json")), &d); err != nil {
		t.Error(err)
	}
	if out := mustMap(t, "stacks", saved, "--view", "call-tree"); !strings.Contains(out, "Image") || !strings.Contains(out, "KiB") {
		t.Errorf("as stacks:\n%s", out)
	}
	if out := mustMap(t, "stacks", saved, "--view", "flame"); !strings.Contains(out, "<svg") {
		t.Error("no flame graph")
	}
	pprof := filepath.Join(dir, "map.pb.gz")
	mustMap(t, "export", saved, "-o", pprof)
	mustMap(t, "import", saved, "--store", filepath.Join(dir, "store.db"))
}

func TestMapTimeline(t *testing.T) {
	cmd := sleeping(t, "watched")
	pid := strconv.Itoa(cmd.Process.Pid)
	out := mustMap(t, "map", pid, "--every", "10ms", "--for", "60ms", "--json")
	var moments []memmap.Moment
	if err := json.Unmarshal([]byte(out), &moments); err != nil || len(moments) == 0 || moments[0].Resident == 0 {
		t.Errorf("%v: %s", err, out)
	}
	if out := mustMap(t, "map", pid, "--every", "10ms", "--for", "30ms"); !strings.Contains(out, "TotalWS") || !strings.Contains(out, "In ") {
		t.Error(out)
	}
	// The process ends while it is watched.
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(100 * time.Millisecond)
		cmd.Process.Kill()
	}()
	out, said, status := runMap(t, "map", pid, "--every", "10ms", "--for", "1m")
	<-done
	if status == exitDone && (!strings.Contains(out, "In ") || !strings.Contains(said, "ended")) || status == exitUsage && said == "" {
		t.Errorf("status %d: %s\n%s", status, said, out)
	}
}

func TestMapBadInput(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("text.txt", "no map")
	write("broken.json", `{"sightlineMemoryMap":1,"regions":[{}]}`)
	write("newer.json", `{"sightlineMemoryMap":9}`)
	write("core", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00")
	self := strconv.Itoa(os.Getpid())
	for line, want := range map[string]string{
		"map":                                   "map takes one process id",
		"map 1 2":                               "map takes one process id",
		"map --diff " + self:                    "--diff takes two",
		"map 1073741824":                        "there is no such process",
		"map 99999999999999999999":              "there is no process, core file",
		"map no-such-name":                      "there is no process, core file",
		"map -- -weird":                         `"-weird"`,
		"map -weird":                            "unknown flag",
		"map ./text.txt":                        "neither a core file nor",
		"map text.txt":                          "neither a core file nor",
		"map broken.json":                       "region 0 begins",
		"map newer.json":                        "format 9",
		"map core":                              "no core file",
		"map " + self + " --kinds --regions":    "different views",
		"map " + self + " --every 1ms":          "at least 10ms",
		"map " + self + " --for 1s":             "give --every too",
		"map " + self + " --every 1s --regions": "without another view",
		"map " + self + " --strings (":          "no regular expression",
		"map " + self + " --only attic":         "there is no kind",
		"map " + self + " --top -1":             "may not be negative",
		"map " + self + " -o /nowhere/x":        "/nowhere",
		"map --diff broken.json " + self:        "region 0 begins",
		"size":                                  "accepts 1 arg",
		"size /nowhere":                         "no such file",
		"size text.txt":                         "no ELF file",
		"size /dev/null":                        "it is no file",
		"size . --by package":                   "not for folder",
		"size . --by colour":                    "there are section",
		"size . --diff /proc/self/exe":          "cannot be compared",
	} {
		out, said, status := runMap(t, strings.Fields(line)...)
		if status != exitUsage || !strings.Contains(said, want) || strings.Count(said, "\n") != 1 || out != "" {
			t.Errorf("%s: status %d, %q, want %q\n%s", line, status, said, want, out)
		}
	}
}

// TestMapNotAllowed maps as an ordinary user what belongs to another, in the open and where /proc hides
// it.
func TestMapNotAllowed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root to become another user")
	}
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	as := func(script string) string {
		out, _ := exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
		return string(out)
	}
	nobody := "setpriv --reuid 65534 --regid 65534 --clear-groups " + binary
	if out := as(fmt.Sprintf("%s map %d", nobody, os.Getpid())); !strings.Contains(out, "may not be read by this user") || !strings.Contains(out, "VmRSS") {
		t.Errorf("of another user's process:\n%s", out)
	}
	if out := as(fmt.Sprintf("%s map %d --json", nobody, os.Getpid())); !json.Valid([]byte(out)) || !strings.Contains(out, `"partial": true`) {
		t.Errorf("as JSON:\n%s", out)
	}
	out := as(fmt.Sprintf("mount -t proc -o hidepid=2 proc /proc && %s map %d", nobody, os.Getpid()))
	if strings.Contains(out, "mount:") {
		t.Skip("this machine lets nobody mount /proc: " + out)
	}
	if !strings.Contains(out, "hidepid") {
		t.Errorf("with hidepid:\n%s", out)
	}
}

func TestSizeViews(t *testing.T) {
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	small, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{small}, {small, "--by", "symbol", "--top", "3"}, {small, "--diff", small}, {".", "--top", "0"}, {".", "--diff", "testdata"}} {
		if out := mustMap(t, append([]string{"size"}, args...)...); out == "" {
			t.Errorf("size %v says nothing", args)
		}
		if text := mustMap(t, append([]string{"size", "--json"}, args...)...); !json.Valid([]byte(text)) {
			t.Errorf("size %v --json is no JSON", args)
		}
	}
	if out := mustMap(t, "size", binary); !strings.Contains(out, "github.com/sightline-dev/sightline") || !strings.Contains(out, ".gopclntab") {
		t.Error(out)
	}
}
