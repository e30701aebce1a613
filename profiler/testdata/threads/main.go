// Threads runs as many system threads as it is told, which take turns in burning time, and goes on
// starting new ones, until it is told to end.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

var sink int

//go:noinline
func burn() {
	for i := range 3_000_000 {
		sink += i * i
	}
}

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	churn := len(os.Args) > 2
	ready := make(chan bool)
	for range n {
		go func() {
			runtime.LockOSThread()
			ready <- true
			for {
				burn()
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	for range n {
		<-ready
	}
	fmt.Println("ready")
	for {
		if churn {
			go func() { // its thread ends with it
				runtime.LockOSThread()
				burn()
			}()
		}
		time.Sleep(time.Millisecond)
	}
}
