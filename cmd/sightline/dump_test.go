package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/heap/freeze"
)

func TestDump(t *testing.T) {
	cmd := sleeping(t, "dumped")
	pid := strconv.Itoa(cmd.Process.Pid)
	t.Chdir(t.TempDir())
	out := mustMap(t, "dump", "dumped")
	for _, want := range []string{"core." + pid + " process " + pid + " (dumped) · 1 thread · ", "on disk", "written in"} {
		if !strings.Contains(out, want) {
			t.Errorf("dump does not say %q:\n%s", want, out)
		}
	}
	image, err := freeze.OpenCore("core."+pid, "")
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if image.PID() != cmd.Process.Pid || image.Name() != "dumped" {
		t.Errorf("the core is of process %d (%s)", image.PID(), image.Name())
	}
	if text := mustMap(t, "map", "core."+pid); !strings.Contains(text, "dumped") {
		t.Errorf("map reads the core as\n%s", text)
	}

	// A name that is there is kept, unless it is given.
	if _, said, status := runMap(t, "dump", pid); status != exitUsage || !strings.Contains(said, "is there already") {
		t.Errorf("status %d: %s", status, said)
	}
	var d dumpJSON
	if err := json.Unmarshal([]byte(mustMap(t, "dump", pid, "-o", "core."+pid, "--how", "running", "--json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.PID != cmd.Process.Pid || d.Name != "dumped" || d.How != "running" || d.Stopped != 0 || d.Threads != 1 || d.Notes == nil || d.Size < d.Stored || d.Took <= 0 {
		t.Errorf("%+v", d)
	}
	if left, _ := filepath.Glob("*"); len(left) != 1 {
		t.Errorf("%q are in the folder", left)
	}
}

func TestDumpRefuses(t *testing.T) {
	for line, words := range map[string]string{
		"dump":                                    "one process id or name",
		"dump 1 2":                                "one process id or name",
		"dump 4194304":                            "no such process",
		"dump 99999999999999999999":               "no process",
		"dump no-such-name":                       "no process \"no-such-name\"",
		"dump 1 --how gently":                     "no way to hold",
		"dump " + strconv.Itoa(os.Getpid()):       "this command itself",
		"dump 4194304 -o /nonexistent/core":       "no such process",
		"dump " + strconv.Itoa(os.Getpid()) + "x": "no process",
	} {
		out, said, status := runMap(t, strings.Fields(line)...)
		if status != exitUsage || out != "" || !strings.Contains(said, words) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: status %d, said %q, printed %q; want %q", line, status, said, out, words)
		}
	}
}
