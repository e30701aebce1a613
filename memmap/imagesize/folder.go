package imagesize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// ReadFolder tells what takes the space in a folder: bytes of its files, a file with several names
// once, links not followed. What may not be read is noted.
func ReadFolder(ctx context.Context, root string) (*Report, error) {
	r := &Report{Path: root, What: "folder"}
	sums := map[By]map[string]int64{Folder: {}, File: {}, Type: {}}
	seen := map[[2]uint64]bool{}
	unread := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if cancelled := ctx.Err(); cancelled != nil {
			return cancelled
		}
		if err != nil {
			if path == root {
				return err
			}
			unread++
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil { // it is gone
			unread++
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			key := [2]uint64{uint64(st.Dev), st.Ino}
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			rel = path
		}
		n := info.Size()
		r.Bytes += n
		rel = strings.ToValidUTF8(rel, "\ufffd")
		sums[File][rel] += n
		first, _, deeper := strings.Cut(rel, "/")
		if !deeper {
			first = "."
		}
		sums[Folder][first] += n
		ext := filepath.Ext(rel)
		if ext == "" || ext == filepath.Base(rel) {
			ext = "[no extension]"
		}
		sums[Type][ext] += n
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("size of folder %s: %w", root, cause(err))
	}
	if unread > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d files or folders may not be read by this user and are left out.", unread))
	}
	for _, by := range []By{Folder, Type, File} {
		t := Table{By: by}
		for name, n := range sums[by] {
			t.Parts = append(t.Parts, Part{Name: name, Bytes: n})
		}
		t.sort()
		r.Tables = append(r.Tables, t)
	}
	return r, nil
}

// ErrDifferent says that two reports are not of the same sort.
var ErrDifferent = errors.New("a file and a folder cannot be compared")

// A Change is a part that is larger or smaller than it was.
type Change struct {
	Name   string `json:"name"`
	In     string `json:"in,omitempty"`
	Before int64  `json:"before"`
	After  int64  `json:"after"`
	Bytes  int64  `json:"bytes"` // After less Before
}

// A ChangeTable is what changed in one table, by how much, most first; what did not is left out.
type ChangeTable struct {
	By      By       `json:"by"`
	Changes []Change `json:"changes"`
}

// A Diff is what became of a file or folder. The changes of each table sum up to Bytes.
type Diff struct {
	Old    string        `json:"old"`
	New    string        `json:"new"`
	Before int64         `json:"before"`
	After  int64         `json:"after"`
	Bytes  int64         `json:"bytes"`
	Tables []ChangeTable `json:"tables"`
	Notes  []string      `json:"notes,omitempty"`
}
