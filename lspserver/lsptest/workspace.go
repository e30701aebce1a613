package lsptest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// A Workspace is a folder of files made for a test and removed after it.
type Workspace struct {
	Root  string   // without symbolic links
	Files []string // relative, as the archive has them
}

// WorkspaceOptions of NewWorkspace; the zero value works.
type WorkspaceOptions struct {
	CRLF bool // line ends are "\r\n", as after a checkout on Windows
	// NoFinalNewline cuts the last line end of each file. An archive cannot say that.
	NoFinalNewline bool
	// Into is an existing folder to write into; "": a temporary one.
	Into string
}

// NewWorkspace writes the files of a txtar archive.
func NewWorkspace(t testing.TB, archive string, opts WorkspaceOptions) *Workspace {
	t.Helper()
	root := opts.Into
	if root == "" {
		root = t.TempDir()
	}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatalf("make a workspace: %v", err)
	}
	w := &Workspace{Root: root}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.FromSlash(f.Name)
		if !filepath.IsLocal(name) {
			t.Fatalf("make a workspace: the file name %q leads out of it", f.Name)
		}
		data := f.Data
		if opts.NoFinalNewline {
			data = bytes.TrimSuffix(data, []byte("\n"))
		}
		if opts.CRLF {
			data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatalf("make a workspace: %v", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatalf("make a workspace: %v", err)
		}
		w.Files = append(w.Files, f.Name)
	}
	return w
}

// NewWorkspaceFrom writes the files of a txtar archive that is a file.
func NewWorkspaceFrom(t testing.TB, file string, opts WorkspaceOptions) *Workspace {
	t.Helper()
	archive, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("make a workspace: %v", err)
	}
	return NewWorkspace(t, string(archive), opts)
}

// Path is the path of a file of the workspace, which need not exist.
func (w *Workspace) Path(name string) string { return filepath.Join(w.Root, filepath.FromSlash(name)) }

// Read is the text of a file on disk.
func (w *Workspace) Read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(w.Path(name))
	if err != nil {
		t.Fatalf("read from the workspace: %v", err)
	}
	return string(text)
}

// Write replaces a file on disk behind the editor's back.
func (w *Workspace) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(w.Path(name), []byte(text), 0o644); err != nil {
		t.Fatalf("write to the workspace: %v", err)
	}
}

// Marked are the files that hold markers, relative.
func (w *Workspace) Marked(t testing.TB) []string {
	t.Helper()
	var marked []string
	for _, f := range w.Files {
		if text := w.Read(t, f); strings.Contains(text, "//@") || strings.Contains(text, "#@") {
			marked = append(marked, f)
		}
	}
	return marked
}
