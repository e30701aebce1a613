//go:build cgo

package main

// static int twice(int n) { return n * 2; }
import "C"

// native calls C once, so that the program is linked with it.
func native() { C.twice(2) }
