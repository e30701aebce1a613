package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A listedTarget is a launch target as targets --json prints it.
type listedTarget struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Env     []string `json:"env,omitempty"` // "KEY=value"
	Dir     string   `json:"dir"`
	Tests   string   `json:"tests,omitempty"`
	Build   []string `json:"build,omitempty"`
	File    string   `json:"file"`
	Line    int      `json:"line"` // 1-based
}

func newTargets(io streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "List the launch targets of .sightline.json",
		Long: `Lists the commands that the files .sightline.json in this folder and above it, up to the
workspace's, give a name: what sightline record --target takes and editors offer.`,
		Example: `  sightline targets
  sightline record --target server           record one`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := workspaceFlag(cmd)
			if err != nil {
				return err
			}
			dir, root, err := realFolders(dir)
			if err != nil {
				return err
			}
			targets, problem := launch.Load(dir, root, launch.Read)
			if problem != nil && len(targets) == 0 {
				return problem
			}
			list := []listedTarget{}
			for _, t := range targets {
				list = append(list, listedTarget{t.Name, t.Command, t.Env, t.Dir, t.Tests, t.Build, t.File, t.Line + 1})
			}
			switch {
			case asJSON:
				err = writeJSON(io.out, list)
			case len(list) == 0:
				fmt.Fprintf(io.out, "There are no launch targets: write %s into %s, as\n%s\n", launch.FileName, root, launch.Example)
			default:
				printTargets(io, list, dir)
			}
			return errors.Join(err, problem)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// PrintTargets writes a table: name, command, folder and what is special.
func printTargets(io streams, list []listedTarget, dir string) {
	width := 0
	for _, t := range list {
		width = max(width, len([]rune(t.Name)))
	}
	for _, t := range list {
		fmt.Fprintf(io.out, "%s%s  %s\n", t.Name, strings.Repeat(" ", width-len([]rune(t.Name))), profile.Target{Command: t.Command})
		var more []string
		if rel := relative(dir, t.Dir); rel != "." {
			more = append(more, "in "+rel)
		}
		if len(t.Env) > 0 {
			more = append(more, "with "+strings.Join(t.Env, " "))
		}
		if len(t.Build) > 0 {
			more = append(more, "built by "+profile.Target{Command: t.Build}.String())
		}
		if t.Tests != "" {
			more = append(more, "has tests of "+nativetest.Framework(t.Tests).Title())
		}
		if len(more) > 0 {
			fmt.Fprintf(io.out, "%s  %s\n", strings.Repeat(" ", width), strings.Join(more, " · "))
		}
	}
}

// Relative is a path from a folder, where that is shorter.
func relative(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

// RealFolders are a folder and its workspace, without symbolic links, so that one lies in the other.
func realFolders(dir string) (folder, root string, err error) {
	if folder, err = filepath.Abs(dir); err != nil {
		return "", "", fmt.Errorf("folder %s: %w", dir, err)
	}
	folder = realPath(folder)
	return folder, workspaceOf(folder), nil
}

// TargetNamed is a launch target of the files that hold for the current folder.
func targetNamed(cmd *cobra.Command, name string) (launch.Target, error) {
	dir, err := workspaceFlag(cmd)
	if err != nil {
		return launch.Target{}, err
	}
	dir, root, err := realFolders(dir)
	if err != nil {
		return launch.Target{}, err
	}
	t, err := launch.Lookup(dir, root, name, launch.Read)
	if err != nil {
		return t, err
	}
	if info, err := os.Stat(t.Dir); err != nil || !info.IsDir() {
		return t, fmt.Errorf("%s:%d: the target %s runs in %s, and there is no such folder; correct \"dir\"", t.File, t.Line+1, t.Name, t.Dir)
	}
	return t, nil
}

// FileLine takes FILE:LINE apart, of a file that is there.
func fileLine(arg string) (file string, line int, ok bool) {
	i := strings.LastIndexByte(arg, ':')
	if i < 0 {
		return "", 0, false
	}
	line, err := strconv.Atoi(arg[i+1:])
	if err != nil || line < 1 {
		return "", 0, false
	}
	info, err := os.Stat(arg[:i])
	return arg[:i], line, err == nil && info.Mode().IsRegular()
}

// TestAt is a request for the test around a line of a file.
func testAt(file string, line int, like lspserver.TestRequest) (lspserver.Request, error) {
	dir, root, err := realFolders(filepath.Dir(file))
	if err != nil {
		return lspserver.Request{}, err
	}
	path := filepath.Join(dir, filepath.Base(file))
	data, err := os.ReadFile(path)
	if err != nil {
		return lspserver.Request{}, err
	}
	if strings.HasSuffix(path, ".go") {
		run, bench, ok := lspserver.GoTestAt(path, data, line-1)
		if !ok {
			return lspserver.Request{}, fmt.Errorf("no test is around line %d of %s; give a line of a test, benchmark, fuzz target or example of a _test.go file", line, file)
		}
		like.Package, like.Run, like.Bench = ".", run, bench
		return lspserver.Request{Dir: dir, Test: &like}, nil
	}
	t := nativetest.At(nativetest.Find(path, string(data)), line-1)
	if t == nil {
		what := "test"
		switch {
		case nativetest.IsRust(path):
			what = "#[test] or #[bench]"
		case nativetest.IsCPP(path):
			what = "GoogleTest or Catch2 test"
		}
		return lspserver.Request{}, fmt.Errorf("no %s is around line %d of %s; give a line of one", what, line, file)
	}
	if len(like.Kinds) > 0 && !slices.Equal(like.Kinds, []string{kindCPU}) {
		return lspserver.Request{}, fmt.Errorf("--kind %s: only a Go test tells of itself; of this one the CPU can be recorded", strings.Join(like.Kinds, ","))
	}
	req, err := lspserver.NativeRequest(path, *t)
	if err != nil {
		return req, err
	}
	req.Native.Samples, req.Native.Max, req.Native.Args = like.Samples, like.Max, like.Args
	if t.Framework == nativetest.Cargo {
		return req, nil
	}
	targets, problem := launch.Load(dir, root, launch.Read)
	for _, x := range targets {
		if x.Tests == string(t.Framework) {
			req.Native.Programs = append(req.Native.Programs, x)
		}
	}
	if len(req.Native.Programs) == 0 {
		if problem != nil {
			return req, problem
		}
		req.Native.Builds = launch.CMakeBuilds(dir, root)
	}
	return req, nil
}
