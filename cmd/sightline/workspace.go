package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/profiler/store"
)

// WorkspaceMarks are what the folder of a project has, the most telling first.
var workspaceMarks = []string{".git", "go.work", "go.mod"}

// HasMark says that a folder has one of them.
func hasMark(dir string) bool {
	return slices.ContainsFunc(workspaceMarks, func(mark string) bool {
		_, err := os.Stat(filepath.Join(dir, mark))
		return err == nil
	})
}

// WorkspaceOf is the folder whose captures belong together with dir's: the repository dir lies in,
// else its Go workspace or module, else dir. An editor and a terminal come to the same answer
// wherever in the repository each was opened.
func workspaceOf(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, mark := range workspaceMarks {
		for at := dir; ; {
			if _, err := os.Stat(filepath.Join(at, mark)); err == nil {
				return at
			}
			up := filepath.Dir(at)
			if up == at {
				break
			}
			at = up
		}
	}
	return dir
}

// OpenStore opens the store of the workspace that dir lies in.
func openStore(dir string) (*store.Store, error) { return (*surroundings)(nil).openStore(dir) }

// StoreOf opens the store that a command's flags mean.
func storeOf(cmd *cobra.Command) (*store.Store, error) {
	dir, err := workspaceFlag(cmd)
	if err != nil {
		return nil, err
	}
	path, _ := cmd.Flags().GetString("store")
	if path == "" {
		return openStore(dir)
	}
	options, err := (*surroundings)(nil).storeOptions()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(path, options)
	if err == nil {
		nameInterrupted(cmd.Context(), st, workspaceOf(dir))
	}
	return st, err
}

// WorkspaceFlag is the folder given by --workspace, else the current folder.
func workspaceFlag(cmd *cobra.Command) (string, error) {
	if dir, _ := cmd.Flags().GetString("workspace"); dir != "" {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return "", fmt.Errorf("workspace %s is not a folder; give the folder of your project", dir)
		}
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("current folder: %w; give one with --workspace", err)
	}
	return dir, nil
}
