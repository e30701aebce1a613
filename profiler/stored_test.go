package profiler

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A stored capture's binary is opened while it is the very one that ran, wherever its bytes are
// from, and refused with the reason when it is not.
func TestOpenBinary(t *testing.T) {
	_, text := own(t)
	im, err := readImage(bytes.NewReader(text))
	if err != nil || im.buildID == "" {
		t.Fatalf("this binary has build ID %q, %v", im.buildID, err)
	}
	path := filepath.Join(t.TempDir(), "program")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := profile.Mapping{Kind: profile.FileCode, Path: path, BuildID: im.buildID}
	refused := func(what string, m profile.Mapping, reason error, because string) {
		t.Helper()
		f, err := OpenBinary(m)
		if err == nil {
			f.Close()
			t.Fatalf("%s: opened", what)
		}
		if reason != nil && !errors.Is(err, reason) || !strings.Contains(err.Error(), because) || !strings.Contains(err.Error(), m.Path) {
			t.Errorf("%s: %q, which should name %q and wrap %v", what, err, because, reason)
		}
	}

	refused("no file", m, fs.ErrNotExist, "it is gone")
	write(text)
	f, err := OpenBinary(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, text) {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(text))
	}
	f.Close()

	// As a program that was built from other sources, and is where the old one was.
	id := []byte(im.buildID)
	changed := bytes.Clone(text)
	for _, form := range [][]byte{id, unhex(im.buildID)} {
		for at := 0; len(form) > 0; {
			i := bytes.Index(changed[at:], form)
			if i < 0 {
				break
			}
			changed[at+i] ^= 1
			at += i + len(form)
		}
	}
	write(changed)
	refused("changed program", m, fs.ErrNotExist, "another file now (build ID ")
	write([]byte("#!/bin/sh\n"))
	refused("script", m, fs.ErrNotExist, "another file now (no program")
	write(nil)
	refused("empty file", m, fs.ErrNotExist, "another file now (no program")

	write(text)
	without := m
	without.BuildID = ""
	refused("no build ID", without, nil, "no build ID")
	folder := m
	folder.Path = filepath.Dir(path)
	refused("folder", folder, fs.ErrNotExist, "another file now (no regular file")
	below := m
	below.Path += "/program"
	refused("file for a folder", below, fs.ErrNotExist, "it is gone")
	relative := m
	relative.Path = "program"
	refused("relative path", relative, nil, "not an absolute path")
	for _, kind := range []profile.MappingKind{profile.NoMapping, profile.KernelCode, profile.VDSO, profile.Anonymous} {
		other := m
		other.Kind = kind
		refused("other kind", other, nil, "no file")
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
