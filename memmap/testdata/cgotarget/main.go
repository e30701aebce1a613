// Command cgotarget is a Go program of which C holds memory and threads.
package main

/*
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile kept; // or the compiler leaves all of it out

static void eat(int n) {
	for (int i = 0; i < n; i++) kept = memset(malloc(1000), 1, 1000);
	kept = memset(malloc(3 << 20), 1, 3 << 20);
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"sync"
)

var keep = make([]byte, 5<<20)

func main() {
	for i := range keep {
		keep[i] = 1
	}
	C.eat(5000)
	var ready sync.WaitGroup
	for range 3 {
		ready.Add(1)
		go func() {
			C.eat(1000)
			ready.Done()
			C.pause()
		}()
	}
	ready.Wait()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte()
	fmt.Println(len(keep))
}
