package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// storeOneCapture has a folder of its own with a capture in its store.
func storeOneCapture(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Chdir(t.TempDir())
	if err := os.WriteFile("stacks.txt", []byte("main;parse 10\nmain;print 20\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "import", "stacks.txt")
}

func TestStoreCommands(t *testing.T) {
	storeOneCapture(t)
	if out := mustRun(t, "store", "check"); !strings.HasPrefix(out, "whole  ") || !strings.Contains(out, "1 capture, ") {
		t.Errorf("check prints\n%s", out)
	}
	report := decode[storeReport](t, mustRun(t, "store", "check", "--json"))
	if !report.Whole || report.Captures != 1 || report.Used == 0 || report.File < report.Used {
		t.Errorf("check says %+v", report)
	}
	if out := mustRun(t, "store", "compact"); !strings.Contains(out, " → ") {
		t.Errorf("compact prints %q", out)
	}
	mustRun(t, "store", "export", "backup.db")
	if out := mustRun(t, "--store", "backup.db", "captures"); strings.Count(out, "\n") != 2 {
		t.Errorf("the copy has\n%s", out)
	}
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{exitUsage, "name another file", []string{"store", "export", "backup.db"}},
		{exitUsage, "takes the file", []string{"store", "export"}},
		{exitUsage, "check, compact or export", []string{"store", "mend"}},
	} {
		var out, text bytes.Buffer
		if got := run(t.Context(), c.args, streams{strings.NewReader(""), &out, &text}); got != c.status || !strings.Contains(text.String(), c.want) || strings.Count(text.String(), "\n") != 1 {
			t.Errorf("%v: status %d, %q", c.args, got, text.String())
		}
	}
	// A flipped bit in a text or sample is found.
	data, err := os.ReadFile(report.Path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(data, []byte("print"))
	data[at] ^= 1
	if err := os.WriteFile(report.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if got := run(t.Context(), []string{"store", "check"}, streams{strings.NewReader(""), io.Discard, &text}); got != exitFailed || !strings.Contains(text.String(), "damaged") {
		t.Errorf("of a damaged store check says %d, %q", got, text.String())
	}
}

func TestBug(t *testing.T) {
	storeOneCapture(t)
	p, err := daemonPlace()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	folder := logFolder(p)
	for _, name := range []string{"daemon-x.log", "daemon-x.log.1", "crash-20260101-000000.000-1.txt"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("text of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "bug", "-o", "bundle.tar.gz")
	f, err := os.Open("bundle.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r)
		all[h.Name] = string(text)
	}
	for name, want := range map[string]string{
		"version.txt": "sightline ", "doctor.txt": "store: ", "daemon.txt": "no daemon", "daemon-x.log": "text of", "daemon-x.log.1": "text of",
		"crash-20260101-000000.000-1.txt": "text of",
	} {
		if text := all["bundle/"+name]; !strings.Contains(text, want) {
			t.Errorf("%s is %q", name, text)
		}
	}
	var text bytes.Buffer
	if got := run(t.Context(), []string{"bug", "-o", "bundle.tar.gz"}, streams{strings.NewReader(""), io.Discard, &text}); got != exitUsage || !strings.Contains(text.String(), "-o") {
		t.Errorf("over a file: status %d, %q", got, text.String())
	}
}
