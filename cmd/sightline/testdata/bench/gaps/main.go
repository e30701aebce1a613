// Command gaps does nothing but look at the clock, on one thread, and adds up the gaps in which it
// could not: the time that interrupts, and whoever makes them, take from a program. It prints the time
// on the clock and the sum of the gaps, both in nanoseconds, as testdata/bench/mixed prints its two.
//
// Its stack is as deep as those of programs, because a sampler walks it.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// A look at the clock takes some 40 ns; the shortest interrupt takes more than a microsecond.
const gap = time.Microsecond

//go:noinline
func deep(depth int, look func()) {
	if depth == 0 {
		look()
		return
	}
	deep(depth-1, look)
	runtime.KeepAlive(depth) // no tail call
}

func main() {
	length := 2 * time.Second
	if len(os.Args) > 1 {
		var err error
		if length, err = time.ParseDuration(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "gaps:", err)
			os.Exit(2)
		}
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	var sum time.Duration
	var begin time.Time
	deep(20, func() {
		begin = time.Now()
		last := time.Duration(0)
		for last < length {
			now := time.Since(begin)
			if d := now - last; d > gap {
				sum += d
			}
			last = now
		}
	})
	fmt.Printf("took %d %d\n", time.Since(begin), sum)
}
