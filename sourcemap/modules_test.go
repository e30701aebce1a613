package sourcemap

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModules(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := Modules(dir); got != nil {
		t.Errorf("an empty folder has modules %q", got)
	}
	write("go.mod", "// a comment\nmodule \"example.com/root\"\n\ngo 1.26\n")
	if diff := cmp.Diff([]string{"example.com/root"}, Modules(dir)); diff != "" {
		t.Error(diff)
	}
	write("go.work", "go 1.26\n\nuse .\nuse (\n\t./a\n\t./gone\n)\n")
	write("a/go.mod", "module example.com/a\n")
	if diff := cmp.Diff([]string{"example.com/root", "example.com/a"}, Modules(dir)); diff != "" {
		t.Error(diff)
	}
	write("go.work", "nonsense {")
	if diff := cmp.Diff([]string{"example.com/root"}, Modules(dir)); diff != "" {
		t.Error(diff)
	}
}
