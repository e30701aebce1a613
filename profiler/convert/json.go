package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads JSON token by token, so that a file of gigabytes needs memory for what is kept of it
// only. Duplicate names and invalid UTF-8 are let through, as the tools that write such files do.

// A jsonReader reads the values of an input. A method that meets another kind of value than it asks
// for skips it and gives the zero value: what a format says of a member that is of no other use is
// not worth refusing a file.
type jsonReader struct {
	*jsontext.Decoder
}

func newJSONReader(r io.Reader) *jsonReader {
	return &jsonReader{jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
}

// explain makes a sentence of a decoder's error.
func (j *jsonReader) explain(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return cutError{j.InputOffset()}
	case errors.As(err, &syntax):
		return fmt.Errorf("its JSON is broken at byte %d: %w", syntax.ByteOffset, syntax.Err)
	}
	return err
}

// A cutError says that the JSON ends early.
type cutError struct{ at int64 }

func (e cutError) Error() string {
	return fmt.Sprintf("its JSON ends early, after %d bytes, and nothing can be kept of a part; get the whole file", e.at)
}

func (e cutError) Unwrap() error { return io.ErrUnexpectedEOF }

// object calls f for each member of an object, at its value, which f must read or skip.
func (j *jsonReader) object(f func(name string) error) error {
	if j.PeekKind() != '{' {
		return j.SkipValue()
	}
	if _, err := j.ReadToken(); err != nil {
		return err
	}
	for {
		switch j.PeekKind() {
		case '}':
			_, err := j.ReadToken()
			return err
		case 0:
			_, err := j.ReadToken()
			return unexpected(err)
		}
		name, err := j.ReadToken()
		if err != nil {
			return err
		}
		if err := f(name.String()); err != nil {
			return err
		}
	}
}

// array calls f for each element of an array, at its value, which f must read or skip.
func (j *jsonReader) array(f func() error) error {
	if j.PeekKind() != '[' {
		return j.SkipValue()
	}
	if _, err := j.ReadToken(); err != nil {
		return err
	}
	for {
		switch j.PeekKind() {
		case ']':
			_, err := j.ReadToken()
			return err
		case 0:
			_, err := j.ReadToken()
			return unexpected(err)
		}
		if err := f(); err != nil {
			return err
		}
	}
}

func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// text reads a string; a number is given as it is spelled.
func (j *jsonReader) text() (string, error) {
	switch j.PeekKind() {
	case '"', '0':
		t, err := j.ReadToken()
		if err != nil {
			return "", err
		}
		return t.String(), nil
	}
	return "", j.SkipValue()
}

// number reads a number, or a string that spells one; anything else is NaN.
func (j *jsonReader) number() (float64, error) {
	switch j.PeekKind() {
	case '0':
		t, err := j.ReadToken()
		if err != nil {
			return 0, err
		}
		v, err := t.Float()
		if err != nil {
			v = math.NaN() // out of range
		}
		return v, nil
	case '"':
		t, err := j.ReadToken()
		if err != nil {
			return 0, err
		}
		return parseNumber(t.String()), nil
	}
	return math.NaN(), j.SkipValue()
}

func parseNumber(s string) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

// numbers reads an array of numbers.
func (j *jsonReader) numbers() ([]float64, error) {
	var all []float64
	err := j.array(func() error {
		v, err := j.number()
		all = append(all, v)
		return err
	})
	return all, err
}

// texts reads an array of strings.
func (j *jsonReader) texts() ([]string, error) {
	var all []string
	err := j.array(func() error {
		s, err := j.text()
		all = append(all, s)
		return err
	})
	return all, err
}

// indexOf is a number as an index or another whole number that is not negative; -1 for what is none.
func indexOf(v float64) int {
	if v >= 0 && v <= math.MaxInt32 && v == math.Trunc(v) {
		return int(v)
	}
	return -1
}

// lineOf is a number as a line or column; 0 for what is none.
func lineOf(v float64) int { return max(indexOf(v), 0) }

// A shape is what the beginning of a JSON file looks like.
type shape struct {
	array bool // the file is an array, not an object
	// paths are the names of members of the outermost three objects, joined by dots; arrays do not
	// count: "threads.samples.schema".
	paths  map[string]bool
	schema string // of the member "$schema"
}

// shapeOf looks at the beginning of a file; ok is false where it is no JSON object or array.
func shapeOf(head []byte) (s shape, ok bool) {
	h := bytes.TrimLeft(head, " \t\r\n")
	if len(h) == 0 || h[0] != '{' && h[0] != '[' {
		return s, false
	}
	s = shape{array: h[0] == '[', paths: map[string]bool{}}
	j := newJSONReader(bytes.NewReader(h))
	var stack []string // paths of the open objects and arrays
	path := ""         // of the value that comes
	for {
		kind, n := j.StackIndex(j.StackDepth())
		isName := kind == '{' && n%2 == 0
		t, err := j.ReadToken()
		if err != nil {
			return s, len(s.paths) > 0 || s.array
		}
		switch k := t.Kind(); {
		case isName && k == '"':
			if path = stack[len(stack)-1]; path != "" {
				path += "."
			}
			if path += t.String(); strings.Count(path, ".") < 3 && len(s.paths) < 1000 {
				s.paths[path] = true
			}
		case k == '{' || k == '[':
			if kind == '[' && len(stack) > 0 {
				path = stack[len(stack)-1]
			}
			if len(path) > 1000 {
				path = path[:1000]
			}
			stack = append(stack, path)
		case k == '}' || k == ']':
			stack = stack[:len(stack)-1]
		case k == '"' && path == "$schema":
			s.schema = t.String()
		}
	}
}

func (s *shape) has(paths ...string) bool {
	for _, p := range paths {
		if !s.paths[p] {
			return false
		}
	}
	return true
}
