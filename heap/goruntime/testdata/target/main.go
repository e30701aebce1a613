// Command target is a Go program whose memory tests know.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

var (
	kept    [][]byte
	fresh   [][]byte
	pointed []*node
)

type node struct {
	next *node
	n    [4]int
}

//go:noinline
func block() []byte {
	b := make([]byte, 1700) // size class 1,792
	b[0] = 1
	return b
}

func main() {
	runtime.MemProfileRate = 1
	runtime.MemProfile(nil, true) // or the linker leaves the profile out
	debug.SetGCPercent(400)
	for i := 0; i < 3000; i++ {
		kept = append(kept, block())
	}
	for i := 0; i < 3000; i += 3 {
		kept[i] = nil
	}
	for i := 0; i < 5000; i++ {
		pointed = append(pointed, &node{n: [4]int{i}})
	}
	for i := 0; i < 50; i++ {
		go func() { time.Sleep(time.Hour) }()
	}
	runtime.GC()
	for i := 0; i < 100; i++ {
		b := make([]byte, 1700)
		b[0] = 1
		fresh = append(fresh, b)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte()
	runtime.KeepAlive(kept)
	runtime.KeepAlive(fresh)
	runtime.KeepAlive(pointed)
}
