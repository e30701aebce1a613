package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/memmap"
)

// A program whose name looks like an option and has a newline and a byte that is no character, with such a file
// open and its own file removed, is shown by every view, and all JSON is valid.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	program, file := filepath.Join(dir, "--json\n\xff"), filepath.Join(dir, "-p 1\n\xfe{\"")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{program: text, file: []byte("x")} {
		if err := os.WriteFile(name, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	cmd := exec.Command(program, "600")
	cmd.ExtraFiles = []*os.File{opened}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // until it has loaded its libraries
		stat, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/wchan")
		if strings.Contains(string(stat), "nanosleep") || time.Now().After(deadline) {
			break
		}
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	saved := filepath.Join(dir, "saved.json")
	views := [][]string{
		{"map", pid}, {"map", pid, "--regions"}, {"map", pid, "--fragmentation"}, {"map", pid, "--strings", "sleep", "--top", "5"},
		{"map", pid, "--every", "10ms", "--for", "30ms"}, {"map", "--", "--json\n\xff"}, {"map", "--diff", saved, pid},
		{"ps", pid}, {"ps", "--tree", pid}, {"ps", "--threads", pid}, {"ps", "--", "--json\n\xff"}, {"files", pid}, {"files", "-p", pid}, {"files", "+E", "-p", pid},
		{"size", program}, {"files", pid, "--watch", "--interval", "20ms", "--for", "60ms"},
	}
	check := func() {
		t.Helper()
		for _, args := range views {
			status, out, errs := sightline(t, args...)
			if status != exitDone || out == "" || !utf8.ValidString(out) {
				t.Errorf("%q: status %d, %q, %q", args, status, out, errs)
			}
			at := slices.Index(args, "--")
			if at < 0 {
				at = len(args)
			}
			status, out, errs = sightline(t, slices.Insert(slices.Clone(args), at, "--json")...)
			if status != exitDone || !json.Valid([]byte(out)) {
				t.Errorf("%q as JSON: status %d, %.300q, %q", args, status, out, errs)
			}
		}
	}
	mustMap(t, "map", pid, "-o", saved)
	check()
	for _, name := range []string{program, file} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	views = slices.DeleteFunc(views, func(args []string) bool { return args[0] == "size" })
	check()
	var s memmap.Snapshot
	if err := json.Unmarshal([]byte(mustMap(t, "map", pid, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.Regions, func(r memmap.Region) bool {
		return r.Kind == memmap.Image && r.Deleted && strings.HasSuffix(r.Path, "--json\n�")
	}) {
		t.Errorf("no region is of the removed program: %+v", s.Regions[0])
	}
	mustMap(t, "map", pid, "-o", filepath.Join(dir, "map.csv"))
}
