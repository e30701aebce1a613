package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
)

// A cargoMetadata is what cargo metadata prints, as far as it is needed (The Cargo Book, "cargo
// metadata").
type cargoMetadata struct {
	Packages []cargoPackage `json:"packages"`
}

type cargoPackage struct {
	Name         string        `json:"name"`
	Version      string        `json:"version"`
	ManifestPath string        `json:"manifest_path"`
	Targets      []cargoTarget `json:"targets"`
}

// A cargoTarget is something that a package builds.
type cargoTarget struct {
	Kind    []string `json:"kind"`
	Name    string   `json:"name"`
	SrcPath string   `json:"src_path"` // of its root file
}

// A cargoArtifact is a line of --message-format=json (The Cargo Book, "External tools").
type cargoMessage struct {
	Reason      string      `json:"reason"`
	Target      cargoTarget `json:"target"`
	Executable  string      `json:"executable"`
	Profile     cargoBuilt  `json:"profile"`
	LinkedPaths []string    `json:"linked_paths"` // of build-script-executed
}

type cargoBuilt struct {
	Test bool `json:"test"`
}

// Flag selects the target in a cargo command; nil for one that has no tests.
func (t *cargoTarget) flag() []string {
	switch kind := slices.Concat(t.Kind, []string{""})[0]; kind {
	case "bin", "test", "bench", "example":
		return []string{"--" + kind, t.Name}
	case "lib", "rlib", "dylib", "cdylib", "staticlib", "proc-macro":
		return []string{"--lib"}
	}
	return nil
}

// CargoTargets are the targets that a file may belong to: the one whose root it is, else those whose
// root lies nearest above it.
func cargoTargets(p *cargoPackage, file string) []cargoTarget {
	var best []cargoTarget
	depth := -1
	for _, t := range p.Targets {
		if t.flag() == nil {
			continue
		}
		if t.SrcPath == file {
			return []cargoTarget{t}
		}
		if _, ok := nativetest.ModulePath(t.SrcPath, file); !ok {
			continue
		}
		switch d := len(filepath.Dir(t.SrcPath)); {
		case d > depth:
			best, depth = []cargoTarget{t}, d
		case d == depth:
			best = append(best, t)
		}
	}
	return best
}

// BuildCargo builds the test program that has a Rust test.
func buildCargo(ctx context.Context, around *surroundings, req lspserver.Request) (*nativeRun, error) {
	t := req.Native
	cargo, err := around.lookPath("cargo")
	if err != nil {
		return nil, errors.New("no cargo command on PATH; install Rust to profile Rust tests")
	}
	manifest := filepath.Join(req.Dir, "Cargo.toml")
	answer, err := runCargo(ctx, around, req.Dir, "metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", manifest, err)
	}
	var meta cargoMetadata
	if err := json.Unmarshal(answer, &meta); err != nil {
		return nil, fmt.Errorf("read %s: cargo metadata does not answer what it is documented to: %w", manifest, err)
	}
	i := slices.IndexFunc(meta.Packages, func(p cargoPackage) bool { return sameFile(p.ManifestPath, manifest) })
	if i < 0 {
		return nil, fmt.Errorf("%s is the root of a workspace and no package: %s lies in none", manifest, t.File)
	}
	p := &meta.Packages[i]

	verb := "test"
	if t.Bench {
		verb = "bench"
	}
	args := []string{verb, "--quiet", "--no-run", "--message-format=json-render-diagnostics", "--manifest-path", manifest}
	for _, target := range cargoTargets(p, realPath(t.File)) {
		if flag := target.flag(); !slices.Contains(args, flag[len(flag)-1]) || len(flag) > 1 {
			args = append(args, flag...)
		}
	}
	messages, err := runCargo(ctx, around, req.Dir, append(args, t.Args...)...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("building the tests of %s: %w", p.Name, ctx.Err())
		}
		return nil, fmt.Errorf("the tests of %s do not build:\n%w", p.Name, err)
	}
	programs, linked := cargoPrograms(messages)
	if len(programs) == 0 {
		return nil, fmt.Errorf("cargo built no test program for %s of %s: its target may have \"test = false\"", filepath.Base(t.File), p.Name)
	}
	env := []string{
		"CARGO=" + cargo, "CARGO_MANIFEST_DIR=" + req.Dir, "CARGO_PKG_NAME=" + p.Name, "CARGO_PKG_VERSION=" + p.Version,
	}
	var there []string
	for _, program := range programs {
		run := &nativeRun{title: t.Title(), dir: req.Dir, around: around, env: append(slices.Clone(env), cargoLibraries(ctx, around, program, linked))}
		names, err := run.list(ctx, program)
		if err != nil {
			return nil, fmt.Errorf("ask %s for its tests: %w; one with \"harness = false\" cannot be asked, record its program instead", filepath.Base(program), err)
		}
		there = append(there, names...)
		chosen, err := chooseRust(names, t.Name, t.Filter)
		if err != nil {
			return nil, err
		}
		if len(chosen) > 0 {
			run.words = []string{program}
			if t.Bench {
				run.words = append(run.words, "--bench")
			}
			run.words = append(append(run.words, "--exact", "--nocapture", "--include-ignored"), chosen...)
			return run, nil
		}
	}
	if len(there) > 8 {
		there = append(there[:8], "…")
	}
	if len(there) == 0 {
		there = []string{"none"}
	}
	return nil, fmt.Errorf("%s has no test %s: it has %s (features and targets are switched on by flags of cargo, such as --features)", p.Name, t.Name, strings.Join(there, ", "))
}

// realPath is a path without symbolic links, as cargo has them.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func sameFile(a, b string) bool { return realPath(a) == realPath(b) }

// RunCargo runs cargo and answers its standard output. What it writes beside is the error where it fails.
func runCargo(ctx context.Context, around *surroundings, dir string, args ...string) ([]byte, error) {
	cmd := around.command(ctx, dir, "cargo", args...)
	// Release builds have no lines otherwise. A person's own choice counts, and debug builds have them.
	cmd.Env = slices.Concat([]string{"CARGO_PROFILE_BENCH_DEBUG=line-tables-only", "CARGO_PROFILE_RELEASE_DEBUG=line-tables-only"}, around.environ(), []string{"CARGO_TERM_COLOR=never"})
	var answer, msg bytes.Buffer
	cmd.Stdout = &answer
	cmd.Stderr = &limited{to: &msg}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if msg.Len() == 0 {
			return nil, fmt.Errorf("cargo %s: %w", args[0], err)
		}
		return nil, errors.New(lastLines(msg.String(), 60))
	}
	return answer.Bytes(), nil
}

// CargoPrograms are the test programs that a build made, and the folders that build scripts link with.
func cargoPrograms(messages []byte) (programs, linked []string) {
	lines := bufio.NewScanner(bytes.NewReader(messages))
	lines.Buffer(nil, max(1, len(messages)+1))
	for lines.Scan() {
		var m cargoMessage
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue // what programs of the build print is among them
		}
		switch {
		case m.Reason == "compiler-artifact" && m.Executable != "" && m.Profile.Test:
			programs = append(programs, m.Executable)
		case m.Reason == "build-script-executed":
			for _, path := range m.LinkedPaths {
				if _, dir, ok := strings.Cut(path, "="); ok {
					path = dir
				}
				linked = append(linked, path)
			}
		}
	}
	return programs, linked
}

// CargoLibraries is the search path for shared libraries that cargo would run a program with (The Cargo
// Book, "Environment variables", "Dynamic library paths").
func cargoLibraries(ctx context.Context, around *surroundings, program string, linked []string) string {
	deps := filepath.Dir(program)
	dirs := append(slices.Clone(linked), deps, filepath.Dir(deps))
	if out, err := around.command(ctx, "", "rustc", "--print", "target-libdir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if old := around.getenv("LD_LIBRARY_PATH"); old != "" {
		dirs = append(dirs, old)
	}
	return "LD_LIBRARY_PATH=" + strings.Join(dirs, ":")
}

// List asks a test program of Rust for the names of its tests and benchmarks.
func (n *nativeRun) list(ctx context.Context, program string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	cmd := n.around.with(n.env).command(ctx, n.dir, program, "--list", "--format", "terse")
	cmd.WaitDelay = time.Second
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(firstLine(msg.String(), err))
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		for _, kind := range []string{": test", ": benchmark"} {
			if name, ok := strings.CutSuffix(line, kind); ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// ChooseRust finds a test among the names that a program lists: by its name; else, where its file is
// another module than its place tells, by the end of it, which only one may have; else those that a macro
// made of it, whose names go on behind its own. None is not an error.
func chooseRust(names []string, name, inFile string) ([]string, error) {
	plain := func(name string) string { return strings.ReplaceAll(name, "r#", "") } // raw identifiers
	name, inFile = plain(name), plain(inFile)
	var end []string
	cases := map[string][]string{}
	for _, n := range names {
		switch p := plain(n); {
		case p == name:
			return []string{n}, nil
		case p == inFile || strings.HasSuffix(p, "::"+inFile):
			end = append(end, n)
		}
		for _, of := range slices.Compact([]string{name, inFile}) {
			if strings.HasPrefix(plain(n), of+"::") {
				cases[of] = append(cases[of], n)
			}
		}
	}
	switch {
	case len(cases[name]) > 0:
		return cases[name], nil
	case len(end) > 1:
		return nil, fmt.Errorf("there is no test %s, but several that end so: %s; run one of them as a command", name, strings.Join(end, ", "))
	case len(end) == 1:
		return end, nil
	}
	return cases[inFile], nil
}
