package sourcemap

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/modfile"
)

// Modules are the import paths of the Go modules in a folder: of its go.mod, and of those that its
// go.work uses. There are none where neither can be read.
func Modules(folder string) []string {
	folders := []string{folder}
	if text, err := os.ReadFile(filepath.Join(folder, "go.work")); err == nil {
		if work, err := modfile.ParseWork("go.work", text, nil); err == nil {
			for _, use := range work.Use {
				path := use.Path
				if !filepath.IsAbs(path) {
					path = filepath.Join(folder, path)
				}
				folders = append(folders, path)
			}
		}
	}
	var modules []string
	for _, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err != nil {
			continue
		}
		if path := modfile.ModulePath(text); path != "" && !slices.Contains(modules, path) {
			modules = append(modules, path)
		}
	}
	return modules
}
