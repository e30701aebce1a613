package sourcemap

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// findTimeout bounds how long FindPaths waits for each tool it asks.
const findTimeout = 10 * time.Second

// FindPaths makes the Paths of a workspace: it asks the go command, in the first folder, for GOROOT
// and the module cache, and rustc for its sysroot. That takes some tens of milliseconds; no tool is
// needed. The result is never nil: where a tool is missing its fields come from the environment
// (GOROOT, GOMODCACHE, GOPATH, CARGO_HOME) or stay empty. The error tells of a tool that is there
// but gave no answer.
func FindPaths(ctx context.Context, workspace []string) (*Paths, error) {
	return FindPathsIn(ctx, workspace, os.Environ())
}

// FindPathsIn is FindPaths in an environment, as os.Environ has it, that need not be this process's:
// that of the editor which a server of several serves.
func FindPathsIn(ctx context.Context, workspace []string, environ []string) (*Paths, error) {
	env := environment(environ)
	p := &Paths{Workspace: slices.Clone(workspace)}
	for i, folder := range p.Workspace {
		if abs, err := filepath.Abs(folder); err == nil {
			p.Workspace[i] = abs
		}
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()

	rust := make(chan string, 1)
	go func() { rust <- rustSource(ctx, env) }() // ends by itself, with ctx at the latest

	home := env.get("HOME")
	err := p.askGo(ctx, env)
	p.GOROOT = cmp.Or(p.GOROOT, env.get("GOROOT"))
	if p.ModCache == "" {
		p.ModCache = env.get("GOMODCACHE")
	}
	if p.ModCache == "" {
		if paths := filepath.SplitList(env.get("GOPATH")); len(paths) > 0 && paths[0] != "" {
			p.ModCache = filepath.Join(paths[0], "pkg", "mod")
		} else if home != "" {
			p.ModCache = filepath.Join(home, "go", "pkg", "mod")
		}
	}
	cargo := env.get("CARGO_HOME")
	if cargo == "" && home != "" {
		cargo = filepath.Join(home, ".cargo")
	}
	if cargo != "" {
		p.CargoSource, _ = filepath.Glob(filepath.Join(cargo, "registry", "src", "*"))
	}
	p.RustSource = <-rust
	return p, err
}

func (p *Paths) askGo(ctx context.Context, environ environment) error {
	name := environ.lookPath("go")
	if name == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, name, "env", "-json", "GOROOT", "GOMODCACHE")
	cmd.Env = slices.Clone(environ)
	if len(p.Workspace) > 0 {
		if info, err := os.Stat(p.Workspace[0]); err == nil && info.IsDir() {
			cmd.Dir = p.Workspace[0] // its go.mod may choose another toolchain
		}
	}
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var env struct{ GOROOT, GOMODCACHE string }
	if err == nil {
		err = json.Unmarshal(out, &env)
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("ask %s env for GOROOT and GOMODCACHE: %w %s; sources of Go's own packages and of modules may not be found", name, err, first)
	}
	p.GOROOT, p.ModCache = env.GOROOT, env.GOMODCACHE
	return nil
}

// rustSource is the folder of Rust's own sources, "" where they are not installed (rustup component
// rust-src).
func rustSource(ctx context.Context, environ environment) string {
	name := environ.lookPath("rustc")
	if name == "" {
		return ""
	}
	cmd := exec.CommandContext(ctx, name, "--print", "sysroot")
	// In the workspace a rust-toolchain file could make rustup download a toolchain.
	cmd.Dir = "/"
	cmd.Env = append(slices.Clone(environ), "RUSTUP_AUTO_INSTALL=0")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	folder := filepath.Join(strings.TrimSpace(string(out)), "lib", "rustlib", "src", "rust")
	if info, err := os.Stat(filepath.Join(folder, "library")); err != nil || !info.IsDir() {
		return ""
	}
	return folder
}

// An environment is variables as os.Environ has them; of those that are there twice the last counts.
type environment []string

func (e environment) get(name string) string {
	for _, v := range slices.Backward(e) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// lookPath is exec.LookPath in the folders of the environment's PATH; "" where there is no such
// program.
func (e environment) lookPath(program string) string {
	for _, dir := range filepath.SplitList(e.get("PATH")) {
		if !filepath.IsAbs(dir) {
			continue // as exec.LookPath, which takes nothing from the current folder
		}
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// A workModule is a Go module of the workspace.
type workModule struct{ path, dir string }

// Bounds of the search for modules below a workspace folder.
const (
	maxModuleFolders = 4000
	maxModuleFiles   = 200_000
)

// workModules are the modules of the workspace, with the longest path first: those the folders lie in,
// those that a go.work there uses, and those below the folders.
func (p *Paths) workModules() []workModule {
	if p.indexed {
		return p.modules
	}
	p.indexed = true
	seen := map[string]bool{}
	add := func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		if path := modulePath(filepath.Join(dir, "go.mod")); path != "" {
			p.modules = append(p.modules, workModule{path, dir})
		}
	}
	for _, folder := range p.Workspace {
		for dir := folder; ; dir = filepath.Dir(dir) {
			add(dir)
			for _, used := range usedModules(filepath.Join(dir, "go.work")) {
				if !filepath.IsAbs(used) {
					used = filepath.Join(dir, used)
				}
				add(used)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, folder := range p.Workspace {
		for _, dir := range moduleFolders(folder) {
			add(dir)
		}
	}
	slices.SortStableFunc(p.modules, func(a, b workModule) int { return cmp.Compare(len(b.path), len(a.path)) })
	return p.modules
}

// moduleFolders are the folders with a go.mod in and below folder, near ones first. It looks at a
// bounded number of folders, and into none that the go command ignores.
func moduleFolders(folder string) []string {
	var found []string
	files := 0
	queue := []string{folder}
	for i := 0; i < len(queue) && i < maxModuleFolders && files < maxModuleFiles; i++ {
		entries, err := os.ReadDir(queue[i])
		if err != nil {
			continue
		}
		files += len(entries)
		for _, e := range entries {
			switch name := e.Name(); {
			case name == "go.mod" && !e.IsDir():
				found = append(found, queue[i])
			case !e.IsDir() || name[0] == '.' || name[0] == '_' || name == "vendor" || name == "node_modules":
			case len(queue) < maxModuleFolders:
				queue = append(queue, filepath.Join(queue[i], name))
			}
		}
	}
	return found
}

// modulePath is the path in a go.mod's module directive, "" if there is no such file.
// Syntax: https://go.dev/ref/mod#go-mod-file-lexical.
func modulePath(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if words := modWords(line); len(words) >= 2 && words[0] == "module" {
			return words[1]
		}
	}
	return ""
}

// usedModules are the folders in a go.work's use directives.
func usedModules(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var used []string
	block := false
	for line := range strings.Lines(string(text)) {
		words := modWords(line)
		switch {
		case len(words) == 0:
		case block && words[0] == ")":
			block = false
		case block:
			used = append(used, words[0])
		case words[0] == "use" && len(words) > 1 && words[1] == "(":
			block = true
		case words[0] == "use" && len(words) > 1:
			used = append(used, words[1])
		}
	}
	return used
}

// modWords are the words of a line of go.mod or go.work without its comment and the words' quotes.
func modWords(line string) []string {
	line, _, _ = strings.Cut(line, "//")
	line = strings.ReplaceAll(line, "use(", "use (")
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = strings.Trim(w, "\"`")
	}
	return words
}
