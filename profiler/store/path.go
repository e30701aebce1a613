package store

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// Path is where the captures of a workspace are kept: a folder named by the workspace's own name
// and the beginning of a hash of its canonical path, in
//
//	$XDG_STATE_HOME/sightline/NAME-HASH/captures.db
//
// and ~/.local/state where XDG_STATE_HOME is not an absolute path (XDG Base Directory
// Specification 0.8). The workspace must be a folder that exists. Nothing is made.
func Path(workspace string) (string, error) { return PathIn(workspace, os.Getenv) }

// PathIn is Path in an environment that need not be this process's.
func PathIn(workspace string, getenv func(string) string) (string, error) {
	canonical, err := canonicalFolder(workspace)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(canonical))
	return inState(fmt.Sprintf("%s-%x", folderName(canonical), hash[:4]), "captures of "+workspace, getenv)
}

// GeneralPathIn is where captures are kept that belong to no workspace, in an environment:
//
//	$XDG_STATE_HOME/sightline/general/captures.db
//
// No workspace has that name, as theirs end with a hash.
func GeneralPathIn(getenv func(string) string) (string, error) {
	return inState("general", "captures without a workspace", getenv)
}

func inState(folder, what string, getenv func(string) string) (string, error) {
	state := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", fmt.Errorf("find where %s are kept: neither XDG_STATE_HOME nor HOME is set to an absolute path; set one of them to a folder of your own", what)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "sightline", folder, "captures.db"), nil
}

// OpenWorkspace is Open of the store that Path names, with Options.Workspace set.
func OpenWorkspace(workspace string, opts Options) (*Store, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	path, err := PathIn(workspace, opts.Getenv)
	if err != nil {
		return nil, err
	}
	if opts.Workspace, err = canonicalFolder(workspace); err != nil {
		return nil, err
	}
	return Open(path, opts)
}

// canonicalFolder is the one absolute path without symbolic links of a folder.
func canonicalFolder(folder string) (string, error) {
	p, err := filepath.Abs(folder)
	if err == nil {
		p, err = filepath.EvalSymlinks(p)
	}
	if err != nil {
		return "", fmt.Errorf("find the workspace %s: %w; name a folder that exists", folder, cause(err))
	}
	info, err := os.Stat(p)
	if err != nil {
		return "", fmt.Errorf("find the workspace %s: %w; name a folder that exists", folder, cause(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("find the workspace %s: it is not a folder; name the folder that holds it", folder)
	}
	return p, nil
}

// folderName makes the last part of a path fit to be part of a name: no longer than 64 bytes, and
// without what a shell or a terminal would trip over.
func folderName(path string) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._+-", r) {
			return r
		}
		return '_'
	}, filepath.Base(path))
	if path == string(filepath.Separator) {
		name = "root"
	}
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "")
	}
	return name
}
