//go:build cgo

package main

/*
static int burn(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * n; return s; }
extern int back(int);
static int there(int n) { return back(burn(n)); }
extern int Answer(char*, int, int);
*/
import "C"

import (
	"os"

	"example.com/gotables/expand"
)

func viaC(n int) int { return int(C.there(C.int(n))) }

//export back
func back(n C.int) C.int { return C.int(inner(int(n))) }

// Answer is expand.Answer for a program that has this one as a shared library.
//
//export Answer
func Answer(path *C.char, in, out C.int) C.int {
	err := expand.Answer(C.GoString(path), os.NewFile(uintptr(in), "in"), os.NewFile(uintptr(out), "out"))
	if err != nil {
		println(err.Error())
		return 1
	}
	return 0
}
