package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/profiler/store"
)

// anotherBuild is a copy of a program that has another build ID and therefore a daemon of its own.
func anotherBuild(t *testing.T, bin string) string {
	t.Helper()
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	note := f.Section(".note.go.buildid")
	if note == nil {
		t.Fatal("the program has no build ID")
	}
	at := note.Offset + 16 // behind sizes, type and name
	if text[at] == 'X' {
		t.Fatal("the build ID begins as the other one is to begin")
	}
	text[at] = 'X'
	other := filepath.Join(t.TempDir(), "sightline")
	if err := os.WriteFile(other, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return other
}

// Each build has a daemon, and they share stores. One that has to write a store anew ends the daemon of
// another build if that has nothing to do, and says so to whoever asks if it has.
func TestUpgrade(t *testing.T) {
	bin := ownDaemon(t)
	old := anotherBuild(t, bin)
	t.Cleanup(func() { exec.Command(old, "daemon", "stop").Run() })
	w := lsptest.NewWorkspace(t, marked, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	target := spinner(t)
	said(t, bin, "record", "-p", strconv.Itoa(target), "--for", "200ms")
	path, err := store.Path(".")
	if err != nil {
		t.Fatal(err)
	}

	first := editor(t, exec.Command(old, "serve"), w)
	before := statusOf(t, old)
	second := editor(t, exec.Command(bin, "serve"), w)
	if s := statusOf(t, bin); !before.Running || !s.Running || s.PID == before.PID || len(s.Sessions) != 1 || len(before.Sessions) != 1 {
		t.Fatalf("the daemons are %+v and %+v", before, s)
	}
	// What one stores the other shows.
	first.StartCommand("sightline.record", map[string]any{"pid": target, "seconds": 0.3})
	first.Await(lsptest.Ended("^Profiling process"))
	eventually(t, "both have the captures", func() bool {
		var list []any
		err := second.Call("sightline/captures", nil, &list)
		return err == nil && len(list) == 2
	})
	if code := second.Shutdown(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	said(t, bin, "daemon", "stop")

	// The store is of an older version, and the other daemon has an editor.
	setStoreVersion(t, path, 1)
	third := editor(t, exec.Command(bin, "serve"), w)
	third.Await(lsptest.Shown("No captures for .* version 1.*process " + strconv.Itoa(before.PID) + ".* 1 editor.*close those editors"))
	out, err := exec.Command(bin, "captures").CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "process "+strconv.Itoa(before.PID)) {
		t.Errorf("captures: %v, %q", err, out)
	}
	if left, _ := filepath.Glob(path + ".version-*"); len(left) > 0 {
		t.Errorf("it was written anew: %v", left)
	}
	// Once that has closed, it is taken over.
	if code := first.Shutdown(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	eventually(t, "the store is taken over", func() bool {
		var list []any
		err := third.Call("sightline/captures", nil, &list)
		return err == nil && len(list) == 2
	})
	if err := syscall.Kill(before.PID, 0); err == nil {
		eventually(t, "the other daemon has ended", func() bool { return !statusOf(t, old).Running })
	}
	if _, err := os.Stat(store.BackupOf(path, 1)); err != nil {
		t.Errorf("the backup: %v", err)
	}
	checkStore(t)
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "500MB": 500e6, "500 MB": 500e6, "2GiB": 2 << 30, "3K": 3000, "1T": 1e12, " 7 ": 7,
		"": -1, "MB": -1, "-1": -1, "1.5GB": -1, "9999999999G": -1, "5XB": -1, "1KiBK": -1, "4KiB": 4096, "1i": -1, "1B": -1, "KB": -1, "5 Gi": 5 << 30,
	} {
		if got, err := parseBytes(text); got != want && err == nil || (err == nil) != (want >= 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	t.Setenv(budgetVariable, "much")
	if _, err := openStore(t.TempDir()); err == nil || !strings.Contains(err.Error(), budgetVariable+"=much") || !strings.Contains(err.Error(), "500MB") {
		t.Errorf("error %v", err)
	}
}
