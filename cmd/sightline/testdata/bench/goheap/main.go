// Command goheap holds so many objects as it is told, of the kinds that programs have: entries of maps,
// lists, strings, interfaces, closures, and a thousand goroutines that wait.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
)

type node struct {
	next, before *node
	id           int
	tag          string
}

type session struct {
	user    *profile
	cookies []string
	extra   any
}

type profile struct {
	name, mail string
	tags       map[string]int
}

type scratch struct {
	buffer []byte
	next   *scratch
}

var (
	byName   = map[string][]byte{}
	list     *node
	sessions = map[int]*session{}
	closures []func() int
)

//go:noinline
func worker(stop chan bool, ready *sync.WaitGroup) {
	held := &scratch{make([]byte, 2048), &scratch{}}
	ready.Done()
	<-stop
	runtime.KeepAlive(held)
}

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	for i := range n / 10 * 2 { // a key and a value each: 4 of 10
		byName["key-"+strconv.Itoa(i)] = make([]byte, 48)
	}
	for i := range n / 10 * 3 {
		list = &node{next: list, id: i, tag: "fixed"}
		if list.next != nil {
			list.next.before = list
		}
	}
	for i := range n / 20 { // 5 of 20
		s := &session{user: &profile{name: "user" + strconv.Itoa(i)}, cookies: make([]string, 0, 4), extra: i + 1000}
		if i%10 == 0 {
			s.user.tags = map[string]int{"a": 1}
		}
		sessions[i] = s
	}
	for i := range n / 40 { // 2 of 40
		x := make([]int, 8)
		closures = append(closures, func() int { return x[0] + i })
	}
	stop, ready := make(chan bool), sync.WaitGroup{}
	for range 1000 {
		ready.Add(1)
		go worker(stop, &ready)
	}
	ready.Wait()
	runtime.GC()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte()
	fmt.Println(len(byName), list, len(sessions), len(closures))
}
