// Command held keeps memory and goroutines until it is ended, for the page of a process.
package main

import (
	"fmt"
	"net/http/pprof"
	"runtime"
	"time"
)

var pages [][]byte

func load() {
	for range 24 {
		page := make([]byte, 1<<20)
		for i := range page {
			page[i] = byte(i)
		}
		pages = append(pages, page)
	}
}

//go:noinline
func wait(depth int) int {
	var room [1 << 10]byte
	room[depth] = byte(depth)
	if depth == 0 {
		time.Sleep(time.Hour)
		return 0
	}
	return wait(depth-1) + int(room[depth])
}

func main() {
	_ = pprof.Index // the linker keeps the memory profile
	load()
	for range 100 {
		go wait(40)
	}
	runtime.GC()
	fmt.Println("ready")
	time.Sleep(time.Hour)
	runtime.KeepAlive(pages)
}
