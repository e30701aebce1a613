package sourcemap

import (
	"errors"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A table names the addresses of one binary.
//
// Its law: the same address gives the same frames, always, whatever was asked before; a table that
// meets damage says false for the addresses concerned and never panics. One goroutine asks at a
// time, so a table may cache without locks; but see binaryTable.part. It reads the binary lazily, which therefore has to stay
// open as long as the table is in use.
type table interface {
	// frames appends to buf the frames at addr, innermost first, and says whether the table knows
	// the address; buf is returned unchanged where it does not. addr is a file address that is
	// already Location.Lookup(): the table subtracts nothing.
	//
	// Every frame but the last is Inlined. Line is the line of the address in the innermost frame
	// and the line of the call in those that follow. Entry is set by isEntry on the last frame.
	// Module is left empty: the Symbolizer knows the binary's path.
	frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool)
}

// errNoTable says that a binary is sound but holds no table of the kind asked for: stripped, or
// made by a compiler that does not write one.
var errNoTable = errors.New("the binary holds no such table")
