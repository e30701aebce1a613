package main

import (
	"runtime"
	"runtime/debug"
)

// CollectLate has the first garbage collection of this process wait for 32 MB, for commands that mostly end
// before: a collection at 4 MB and at each doubling costs them more than all memory they use. From then on
// all is as usual.
func collectLate() {
	before := debug.SetGCPercent(800) // of the 4 MB that a heap has at least
	if before != 100 {
		debug.SetGCPercent(before) // the person has set GOGC
		return
	}
	// What nobody holds is gone with the first collection.
	runtime.AddCleanup(new([16]byte), func(percent int) { debug.SetGCPercent(percent) }, before)
}
