package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
)

// An opened capture is what the reading commands work on.
type opened struct {
	meta    store.Meta
	capture *profile.Capture
	profile *profile.Profile
	sums    *view.Sums
}

// OpenCapture loads a capture by its id and makes the profile of a kind, of its first where kind is "".
func openCapture(st *store.Store, id store.ID, kind string) (*opened, error) {
	meta, err := st.LoadMeta(id)
	if err != nil {
		return nil, err
	}
	c, err := st.Load(id)
	if err != nil {
		return nil, err
	}
	o := &opened{meta: meta, capture: c}
	return o, o.take(kind)
}

// Take changes to the profile of another kind of the capture.
func (o *opened) take(kind string) error {
	p, err := profileOf(o.capture, "capture "+string(o.meta.ID), kind)
	if err != nil {
		return err
	}
	o.profile, o.sums = p, view.NewSums(p)
	return nil
}

// SourceOf is the source a frame's file stands for, or nil.
func (o *opened) sourceOf(file string) *profile.Source {
	for i := range o.capture.Symbols.Sources {
		if s := &o.capture.Symbols.Sources[i]; s.Path == file {
			return s
		}
	}
	return nil
}

// SourceFor finds the source that a person means by a file name: the very file, else the one whose
// path ends with what was given.
func (o *opened) sourceFor(name string) (*profile.Source, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	abs = canonical(abs)
	var ends []*profile.Source
	for i := range o.capture.Symbols.Sources {
		s := &o.capture.Symbols.Sources[i]
		if s.Local != "" && canonical(s.Local) == abs || s.Path == name {
			return s, nil
		}
		if strings.HasSuffix("/"+s.Path, "/"+filepath.ToSlash(name)) {
			ends = append(ends, s)
		}
	}
	switch len(ends) {
	case 1:
		return ends[0], nil
	case 0:
		if _, err := os.Stat(name); err != nil {
			return nil, fmt.Errorf("no file %s, and nothing of that name in capture %s", name, o.meta.ID)
		}
		return nil, fmt.Errorf("capture %s (%s) has no sample in %s", o.meta.ID, o.capture.Target, name)
	}
	paths := make([]string, len(ends))
	for i, s := range ends {
		paths[i] = s.Path
	}
	return nil, fmt.Errorf("%s could be %s; give more of the path", name, strings.Join(paths, " or "))
}

func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// Inside says whether a file of this machine lies in a folder.
func inside(folder, file string) bool {
	rel, err := filepath.Rel(folder, file)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// A hotLine is a line with its cost and its text as recorded.
type hotLine struct {
	File  string          `json:"file"`
	Line  int             `json:"line"`
	Self  int64           `json:"self"`
	Total int64           `json:"total"`
	Count int64           `json:"count"`
	Text  string          `json:"text,omitempty"`
	local string          // where the file is on this machine
	total profile.Measure // with its count
}

// OwnLines are the lines of the workspace's own files, the costliest first by total, then self.
// Lines of other files (libraries, the runtime) are not a person's to change.
func (o *opened) ownLines(workspace string) []hotLine {
	workspace = canonical(workspace)
	var out []hotLine
	for _, f := range o.sums.Lines() {
		s := o.sourceOf(f.File)
		if s == nil || s.Local == "" || !inside(workspace, canonical(s.Local)) {
			continue
		}
		text := strings.Split(string(s.Text), "\n")
		for _, l := range f.Lines {
			h := hotLine{File: f.File, Line: l.Line, Self: l.Self.Weight, Total: l.Total.Weight, Count: l.Total.Count, local: s.Local, total: l.Total}
			if l.Line > 0 && l.Line <= len(text) {
				h.Text = strings.TrimRight(text[l.Line-1], "\r")
			}
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b hotLine) int {
		if a.Total != b.Total {
			return compareDown(a.Total, b.Total)
		}
		return compareDown(a.Self, b.Self)
	})
	return out
}

func compareDown(a, b int64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}
