package launch

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CMakeBuilds are the folders that CMake has built in for the project that a folder lies in, the one
// configured last first: those with a CMakeCache.txt, looked for where people put them, in the folder and
// those above it up to root. compile_commands.json, which is often a link into the folder it was made in,
// leads to one as well.
func CMakeBuilds(dir, root string) []string {
	type build struct {
		dir  string
		when time.Time
	}
	var found []build
	try := func(dir string) bool {
		info, err := os.Stat(filepath.Join(dir, "CMakeCache.txt"))
		if err != nil || !info.Mode().IsRegular() {
			return false
		}
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		if !slices.ContainsFunc(found, func(b build) bool { return b.dir == dir }) {
			found = append(found, build{dir, info.ModTime()})
		}
		return true
	}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		try(at)
		if link, err := filepath.EvalSymlinks(filepath.Join(at, "compile_commands.json")); err == nil {
			try(filepath.Dir(link))
		}
		for _, name := range below(at, isBuildName) {
			inside := filepath.Join(at, name)
			if try(inside) {
				continue
			}
			for _, preset := range below(inside, func(string) bool { return true }) { // build/debug, out/build/x64
				if !try(filepath.Join(inside, preset)) && preset == "build" {
					for _, p := range below(filepath.Join(inside, preset), func(string) bool { return true }) {
						try(filepath.Join(inside, preset, p))
					}
				}
			}
		}
		if rel, err := filepath.Rel(root, at); err != nil || rel == "." || !filepath.IsLocal(rel) || at == filepath.Dir(at) {
			break
		}
	}
	slices.SortStableFunc(found, func(a, b build) int { return cmp.Compare(b.when.UnixNano(), a.when.UnixNano()) })
	dirs := make([]string, len(found))
	for i, b := range found {
		dirs[i] = b.dir
	}
	return dirs
}

// isBuildName says whether people call a folder that they build in so.
func isBuildName(name string) bool {
	lower := strings.ToLower(name)
	return strings.Contains(lower, "build") || slices.Contains([]string{"out", "bin", "debug", "release", "_out"}, lower)
}

// mostEntries bounds how many entries of a folder are looked at.
const mostEntries = 1000

// below are the folders in a folder whose names satisfy a condition.
func below(dir string, is func(string) bool) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(mostEntries)
	var names []string
	for _, e := range entries {
		if e.IsDir() && is(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}
