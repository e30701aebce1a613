// Command kept builds a heap of about 1,040,000 objects and 95 MB for each unit of -scale, of the shapes
// that Go programs have, says "ready" with the number of its objects and their bytes, and waits for the
// end of its input.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
)

type node struct {
	next, prev *node
	id         int
	tag        string
}

type session struct {
	user    *user
	cookies []string
	extra   any
}

type user struct {
	name, mail string
	tags       map[string]int
}

type block struct {
	numbers [100]int64
	next    *block
	data    []byte
}

type square struct{ side float64 }

type registry struct {
	mu       sync.Mutex
	sessions map[int]*session
}

var (
	texts    = map[string][]byte{}
	first    *node
	last     *node
	reg      = &registry{sessions: map[int]*session{}}
	shapes   []any
	blocks   *block
	funcs    []func() int
	table    sync.Map
	plain    [][]byte
	messages = make(chan *user, 1024)
)

//go:noinline
func wait(ready *sync.WaitGroup, done chan int) {
	buffer := &node{tag: "held by a stack", next: &node{}}
	ready.Done()
	<-done
	runtime.KeepAlive(buffer)
}

func main() {
	scale := flag.Int("scale", 1, "how many times a million objects")
	flag.Parse()
	for i := range 200_000 * *scale {
		texts["key "+strconv.Itoa(i)] = make([]byte, 48)
	}
	for i := range 300_000 * *scale {
		n := &node{id: i, tag: "static", prev: last}
		if last == nil {
			first = n
		} else {
			last.next = n
		}
		last = n
	}
	for i := range 50_000 * *scale {
		s := &session{user: &user{name: "user " + strconv.Itoa(i)}, cookies: make([]string, 0, 4), extra: i}
		if i%10 == 0 {
			s.user.tags = map[string]int{"a": 1}
		}
		reg.sessions[i] = s
	}
	for i := range 20_000 * *scale {
		shapes = append(shapes, &square{float64(i)})
	}
	for range 2_000 * *scale {
		blocks = &block{next: blocks, data: make([]byte, 100)}
	}
	for i := range 10_000 * *scale {
		x := make([]int, 8)
		funcs = append(funcs, func() int { return x[0] + i })
	}
	for i := range 5_000 * *scale {
		table.Store(i, &square{float64(i)})
	}
	for range 32 * *scale {
		plain = append(plain, make([]byte, 1<<20))
	}
	for i := range 1000 {
		messages <- &user{name: "m" + strconv.Itoa(i)}
	}
	done := make(chan int)
	var ready sync.WaitGroup
	for range 1000 {
		ready.Add(1)
		go wait(&ready, done)
	}
	ready.Wait()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println("ready", m.HeapObjects, m.HeapAlloc)
	bufio.NewScanner(os.Stdin).Scan()
	close(done)
}
