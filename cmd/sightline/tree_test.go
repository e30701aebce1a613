package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sightline-dev/sightline/"

// MayImport is who may import whom of our own packages: the design as a law. A package that is not
// listed fails the test, so that each new one is thought about here.
var mayImport = map[string][]string{
	"profiler/profile":     {},
	"profiler/view":        {"profiler/profile"},
	"profiler/store":       {"profiler/profile"},
	"profiler/convert":     {"profiler/profile"},
	"profiler/perfevent":   {},
	"profiler/bpf":         {},
	"profiler/unwind":      {},
	"profiler/process":     {},
	"profiler":             {"profiler/profile", "profiler/perfevent", "profiler/bpf", "profiler/unwind"},
	"sourcemap":            {"profiler/profile"},
	"heap/freeze":          {},
	"heap":                 {"profiler/profile", "heap/freeze", "heap/goruntime"},
	"heap/goruntime":       {},
	"memmap":               {"profiler/profile", "heap/goruntime"},
	"memmap/imagesize":     {},
	"lspserver/rpc":        {},
	"lspserver/nativetest": {},
	"lspserver/launch":     {},
	"lspserver": {
		"profiler/profile", "profiler/view", "profiler/store", "sourcemap", "lspserver/rpc", "lspserver/nativetest", "lspserver/launch",
	},
	"lspserver/lsptest": {"profiler/profile", "lspserver", "lspserver/rpc"},
	"editors/vscode":    {},
	"editors/nvim":      {},
	"cmd/sightline": {
		"profiler/profile", "profiler/view", "profiler/store", "profiler/convert", "profiler/unwind", "profiler/bpf", "profiler/process", "profiler", "sourcemap",
		"lspserver", "lspserver/rpc", "lspserver/nativetest", "lspserver/launch", "memmap", "memmap/imagesize", "heap", "heap/freeze", "cmd/sightline/daemon",
	},
	"cmd/sightline/daemon": {},
}

type listed struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(mayImport) {
		t.Fatalf("go list names %d packages, the law %d", len(all), len(mayImport))
	}
	return all
}

func TestImportsFollowTheDesign(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s is not in mayImport: say what it may know", name)
			continue
		}
		for _, i := range p.Imports {
			ours := strings.HasPrefix(i, module)
			switch {
			case ours && !slices.Contains(allowed, strings.TrimPrefix(i, module)):
				t.Errorf("%s imports %s", name, i)
			case name == "profiler/profile" && strings.Contains(strings.SplitN(i, "/", 2)[0], "."):
				t.Errorf("%s imports %s: it knows the standard library only", name, i)
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range listPackages(t) {
		found := false
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			found = found || file.Doc != nil && len(file.Doc.Text()) > 40
		}
		if !found {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestNoDrawers(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch base := strings.TrimSuffix(d.Name(), ".go"); base {
		case ".git", "bin", "out", "node_modules":
			return filepath.SkipDir
		case "util", "utils", "common", "helpers", "helper", "misc", "types", "shared":
			t.Errorf("%s: a name that says nothing", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
