package lspserver

import (
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// functionLabel is a function's name (Frame.Func) for narrow places: without the folders of a Go
// package, and as sourcemap.ShortName has it. "example.com/x/y.(*T).F[a/b.U]" is "y.(*T).F[a/b.U]".
func functionLabel(fn string) string {
	short := sourcemap.ShortName(fn)
	end := strings.IndexAny(short, "([{< ") // types within have folders of their own
	if end < 0 {
		end = len(short)
	}
	if slash := strings.LastIndexByte(short[:end], '/'); slash+1 < end {
		return short[slash+1:]
	}
	return short
}

// rowLabel is a row's name for narrow places. A row of one function, whose frame f is, has the
// function's without its binary; so has a name that looks like one. A group's name stays as its pattern
// made it.
func rowLabel(name string, f profile.Frame) string {
	if f.Func != "" && (name == f.Func || strings.HasSuffix(name, "!"+f.Func)) {
		return functionLabel(f.Func)
	}
	if module, fn, ok := strings.Cut(name, "!"); ok && fn != "" && !strings.Contains(module, " ") {
		return functionLabel(fn)
	}
	return name
}
