// Program churn is what tests take images of: a heap that changes all the time, a global with known
// content, and threads. Its argument is how many bytes it keeps.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// Marker is what tests look for: its address is printed.
var marker = [32]byte{'s', 'i', 'g', 'h', 't', 'l', 'i', 'n', 'e', 1, 2, 3}

// Pair is written from two sides: an image of one instant never has them more than one apart.
var pair [2]uint64

type node struct {
	next  *node
	value [10]uint64
}

func main() {
	keep := 8 << 20
	if len(os.Args) > 1 {
		keep, _ = strconv.Atoi(os.Args[1])
	}
	var head *node
	for range keep / 96 {
		head = &node{next: head, value: [10]uint64{1, 2, 3}}
	}
	go func() {
		for {
			var garbage *node
			for range 10_000 {
				garbage = &node{next: garbage}
			}
			runtime.Gosched()
		}
	}()
	go func() {
		for n := uint64(1); ; n++ {
			pair[0] = n
			pair[1] = n
			if n%100_000 == 0 {
				runtime.Gosched()
			}
		}
	}()
	fmt.Printf("READY %d %p %p\n", os.Getpid(), &marker, &pair)
	for n := 0; ; n++ {
		began := time.Now()
		time.Sleep(20 * time.Millisecond)
		fmt.Printf("%d %d\n", n, time.Since(began).Microseconds())
		runtime.KeepAlive(head)
	}
}
