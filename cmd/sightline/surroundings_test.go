package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A program that is named by a path lies where it is to run and not where the daemon is.
func TestCommandOfAPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "here"), []byte("#!/bin/sh\npwd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	for name, s := range map[string]*surroundings{"this process": nil, "another": {env: os.Environ(), dir: "/"}} {
		for _, program := range []string{"./bin/here", "bin/here", filepath.Join(dir, "bin", "here")} {
			out, err := s.command(t.Context(), dir, program).Output()
			if err != nil || string(out) != dir+"\n" {
				t.Errorf("%s: %s says %q, %v", name, program, out, err)
			}
		}
		if err := s.command(t.Context(), dir, "./nothing").Run(); err == nil {
			t.Errorf("%s: a program that is not there was started", name)
		}
	}
}
