// Package launch reads .sightline.json: the launch targets that the people of a project wrote down, each
// a command with its environment and folder that can be recorded by its name, and the programs that tests
// lie in. It also finds the folders that CMake builds in, where nobody wrote that down.
//
// It reads and checks files. It runs nothing, and does not know what editors and terminals do with a
// target.
package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// FileName is the name of the files that have launch targets.
const FileName = ".sightline.json"

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// A File is what one .sightline.json says.
type File struct {
	Path     string
	Targets  []Target  // those that are whole, in order
	Problems []Problem // by place; what is wrong leaves the other targets as they are
}

// A Target is a command that has a name.
type Target struct {
	Name    string
	Command []string // program and arguments; a program with a slash is relative to Dir
	Env     []string // "KEY=value", by key: on top of the environment there is
	Dir     string   // absolute: the folder that it runs in
	Tests   string   // "gtest" or "catch2" where the program has tests of that framework; ""
	Build   []string // a command that is run in Dir before; nil
	File    string   // path of the file that says so
	// Line and Last are the 0-based lines of its object in the file.
	Line, Last int
}

// A Problem is a mistake in a file.
type Problem struct {
	Line, Column int    // 0-based; the column in bytes
	Begin, End   int    // the same as offsets in the text, to the value's end or to the line's
	Key          string // what it is about: "targets[1].env"; "" for the file as a whole
	Text         string // one clause with the remedy: "is a number: make it a string"
}

// Message says what is wrong with which key.
func (p Problem) Message() string {
	if p.Key == "" {
		return p.Text
	}
	return p.Key + " " + p.Text
}

// Err is a file's first problem as an error that names the place, or nil.
func (f *File) Err() error {
	if len(f.Problems) == 0 {
		return nil
	}
	p := f.Problems[0]
	text := fmt.Sprintf("%s:%d:%d: %s", f.Path, p.Line+1, p.Column+1, p.Message())
	if more := len(f.Problems) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return errors.New(text)
}

// Read reads a file. The error is that of reading; what is wrong in the file is in its Problems.
func Read(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, fmt.Errorf("read %s: it is no file; make it one, or remove it", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data), nil
}

// Paths are the files that hold for a folder: those in it and in the folders above it up to root, the
// nearest first. A folder that is not in root has only its own.
func Paths(dir, root string) []string {
	var paths []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		path := filepath.Join(at, FileName)
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
		if rel, err := filepath.Rel(root, at); err != nil || rel == "." || !filepath.IsLocal(rel) || at == filepath.Dir(at) {
			return paths
		}
	}
}

// A Reader reads a file; see [Read].
type Reader func(path string) (*File, error)

// Load reads the files that hold for a folder. Of several targets with one name the nearest counts. The
// targets are good where there is an error, too: it tells what was left out and why.
func Load(dir, root string, read Reader) ([]Target, error) {
	var targets []Target
	var errs []error
	known := map[string]bool{}
	for _, path := range Paths(dir, root) {
		f, err := read(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := f.Err(); err != nil {
			errs = append(errs, err)
		}
		for _, t := range f.Targets {
			if !known[t.Name] {
				known[t.Name] = true
				targets = append(targets, t)
			}
		}
	}
	return targets, errors.Join(errs...)
}

// Lookup is the target with a name, in the files that hold for a folder.
func Lookup(dir, root, name string, read Reader) (Target, error) {
	targets, err := Load(dir, root, read)
	var names []string
	for _, t := range targets {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	switch {
	case err != nil:
		return Target{}, fmt.Errorf("no target %s is known: %w", name, err)
	case len(names) == 0:
		return Target{}, fmt.Errorf("there is no target %s: no %s in %s or above it up to %s has one; write one, as %s", name, FileName, dir, root, Example)
	}
	return Target{}, fmt.Errorf("there is no target %s; there is %s", name, strings.Join(names, ", "))
}

// Example is a small file for messages.
const Example = `{"targets": [{"name": "server", "command": ["./server", "--port", "8080"]}]}`
