package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// Surroundings are the environment and the folder of whoever is served: of this process, or of the one
// that an editor started, which the daemon has from it. Programs are found, started and built as they
// would be there. The zero value, and nil, is this process.
type surroundings struct {
	env []string // as os.Environ has it; nil: this process's
	dir string   // current folder; "": this process's
}

func (s *surroundings) environ() []string {
	if s == nil || s.env == nil {
		return os.Environ()
	}
	return s.env
}

func (s *surroundings) getenv(name string) string {
	if s == nil || s.env == nil {
		return os.Getenv(name)
	}
	for _, v := range slices.Backward(s.env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// Folder is the current folder.
func (s *surroundings) folder() string {
	if s == nil || s.dir == "" {
		return "."
	}
	return s.dir
}

// LookPath finds a program as exec.LookPath does. One with a slash is looked for from this process's folder.
func (s *surroundings) lookPath(program string) (string, error) {
	if s == nil || s.env == nil || strings.ContainsRune(program, '/') {
		return exec.LookPath(program)
	}
	for _, dir := range filepath.SplitList(s.getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", &exec.Error{Name: program, Err: exec.ErrNotFound}
}

// Command is a program as it would be started there, in a folder; the path of one that has a slash is
// from that folder. That there is none is told when it is started.
func (s *surroundings) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	if s == nil || s.env == nil {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir = dir
		return cmd
	}
	path, err := program, error(nil)
	if !strings.ContainsRune(program, '/') {
		if path, err = s.lookPath(program); err != nil {
			path = program
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = program
	if err != nil {
		cmd.Err = err
	}
	cmd.Dir = dir
	cmd.Env = slices.Clone(s.env)
	if filepath.IsAbs(dir) {
		cmd.Env = append(cmd.Env, "PWD="+dir)
	}
	return cmd
}

// With is the same with further variables, as "NAME=value".
func (s *surroundings) with(env []string) *surroundings {
	if len(env) == 0 {
		return s
	}
	more := &surroundings{env: slices.Concat(s.environ(), env)}
	if s != nil {
		more.dir = s.dir
	}
	return more
}

// OpenStore opens the store of the workspace that dir lies in, or that of captures without one, and
// names what was interrupted there.
func (s *surroundings) openStore(dir string) (*store.Store, error) {
	st, err := s.storeAt(dir)
	if err == nil {
		nameInterrupted(context.Background(), st, workspaceOf(dir))
	}
	return st, err
}

// OpenStoreAtOnce is openStore for an editor, which does not wait for the names: they may take as long
// as a program is large.
func (s *surroundings) openStoreAtOnce(dir string) (*store.Store, error) {
	st, err := s.storeAt(dir)
	if err == nil {
		// Ends by itself; it may end with the process at any instant.
		go nameInterrupted(context.Background(), st, workspaceOf(dir))
	}
	return st, err
}

// StoreAt opens a store as it is.
func (s *surroundings) storeAt(dir string) (*store.Store, error) {
	workspace := workspaceOf(dir)
	options, err := s.storeOptions()
	if err != nil {
		return nil, err
	}
	if !s.general(workspace) {
		return store.OpenWorkspace(workspace, options)
	}
	path, err := store.GeneralPathIn(s.getenv)
	if err != nil {
		return nil, err
	}
	return store.Open(path, options)
}

// General says that a folder is nobody's project: the root folder, and the user's own where it is no
// repository or module. What is recorded there belongs to no workspace, and every editor shows it.
func (s *surroundings) general(workspace string) bool {
	home := s.getenv("HOME")
	return (workspace == "/" || home != "" && workspace == canonical(home)) && !hasMark(workspace)
}

// OpenGeneral opens the store of captures that belong to no workspace.
func (s *surroundings) openGeneral() (*store.Store, error) { return s.openStoreAtOnce("/") }

// Cache is the user's folder for what can be made again, as os.UserCacheDir; "" where there is none.
func (s *surroundings) cache() string {
	if dir := s.getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if home := s.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache")
	}
	return ""
}

// FindPaths is lspserver.Config.FindPaths.
func (s *surroundings) findPaths(ctx context.Context, workspace []string) (*sourcemap.Paths, error) {
	return sourcemap.FindPathsIn(ctx, workspace, s.environ())
}

// Home names where stores are: servers that mean the same store by the same folder have the same.
func (s *surroundings) home() string { return s.getenv("XDG_STATE_HOME") + "\x00" + s.getenv("HOME") }
