// Package sourcemap turns places in binaries into places in sources, and back: Location to Frames
// (Go's pclntab with its inline tree, DWARF lines and inlined subroutines, symbol tables, the
// kernel's symbols), build paths to paths of this machine, and recorded lines to lines of the text
// as it is now.
//
// It knows neither how a capture was recorded, nor processes, nor the store, nor editors. Binaries
// come to it as bytes, through an Opener; the files it opens by name are sources, where Paths leads,
// debug files that are shown to belong to a binary (or fetches them, where it is told of servers),
// and the lists that processes write of code made at run time.
package sourcemap
