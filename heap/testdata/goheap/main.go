// Command goheap is a Go program whose heap the tests know: so many objects of each type, referred to in
// ways that differ. It says what its runtime counts, and waits.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type node struct { // 3,000 in a list
	next *node
	id   int
	tag  string
}

type session struct { // 500 in a map
	user    *profile
	cookies []string
	started time.Time
	extra   any
}

type profile struct { // 500 + 10 in a channel
	name string
	tags map[string]int
}

type big struct { // 50, above 512 bytes: the allocator notes their type
	head [100]int64
	next *big
	data []byte
}

type shape interface{ area() float64 }
type square struct { // too large to share a slot with other small values
	side float64
	room [2]int
}

type circle struct {
	r    float64
	name *string
}

func (s *square) area() float64 { return s.side * s.side }
func (c circle) area() float64  { return c.r }

type registry struct {
	mu       sync.Mutex
	sessions map[int]*session
}

type scratch struct { // 20 + 20, held by stacks only
	buffer []byte
	next   *scratch
}

type swapped struct{ text string }  // 1, behind an atomic.Pointer
type pooled struct{ room [40]*int } // 1, in a sync.Pool
type task struct {                  // 100, of which 40 are done: the queue begins at the 41st
	name string
	done *bool
}
type bound struct{ sum *int } // 1, held by a method value

func (b *bound) add() int { return *b.sum }

var (
	byName   = map[string][]byte{}
	list     *node
	reg      = &registry{sessions: map[int]*session{}}
	shapes   []shape
	bigs     *big
	queue    = make(chan *profile, 16)
	closures []func() int
	stored   sync.Map
	numbers  []any
	current  atomic.Pointer[swapped]
	pool     sync.Pool
	tasks    []task
	regions  []string
	method   func() int
	final    *big
	plain    [][]byte
)

//go:noinline
func newScratch() *scratch { return &scratch{buffer: make([]byte, 2048), next: &scratch{}} }

//go:noinline
func worker(stop chan bool, ready *sync.WaitGroup) {
	held := newScratch()
	ready.Done()
	<-stop // blocked here
	runtime.KeepAlive(held)
}

//go:noinline
func makeNodes(n int) {
	for i := 0; i < n; i++ {
		list = &node{next: list, id: i, tag: "fixed"} // nodes are made here
	}
}

func fill() {
	for i := 0; i < 8; i++ { // first: the rate of sampling holds from the next sample on
		plain = append(plain, make([]byte, 1<<20))
		plain[i][1] = 1
	}
	for i := 0; i < 2000; i++ {
		byName["key-"+strconv.Itoa(i)] = make([]byte, 48)
	}
	makeNodes(3000)
	for i := 0; i < 500; i++ {
		s := &session{user: &profile{name: "user" + strconv.Itoa(i)}, cookies: make([]string, 0, 4), started: time.Now()}
		if i%10 == 0 {
			s.user.tags = map[string]int{"a": 1}
		}
		if i%2 == 0 {
			s.extra = &square{side: float64(i)}
		} else {
			s.extra = i + 1000
		}
		reg.sessions[i] = s
	}
	for i := 0; i < 200; i++ {
		if i%2 == 0 {
			shapes = append(shapes, &square{side: 1})
		} else {
			name := "circle"
			shapes = append(shapes, circle{r: 2, name: &name})
		}
	}
	for i := 0; i < 50; i++ {
		bigs = &big{next: bigs, data: make([]byte, 100)}
	}
	for i := 0; i < 10; i++ {
		queue <- &profile{name: "q" + strconv.Itoa(i)}
	}
	for i := 0; i < 100; i++ {
		x := make([]int, 8)
		x[0] = i
		closures = append(closures, func() int { return x[0] + i })
	}
	for i := 0; i < 300; i++ {
		stored.Store(i, &square{side: float64(i)})
		numbers = append(numbers, i+1000)
		regions = append(regions, strings.Clone("eu-central-1"))
	}
	current.Store(&swapped{strings.Clone("now")})
	for i := 0; i < 100; i++ {
		tasks = append(tasks, task{"t", new(bool)})
	}
	tasks = tasks[40:]
	sum := new(int)
	method = (&bound{sum}).add
	final = &big{data: make([]byte, 10)}
	runtime.SetFinalizer(final, func(*big) {})
}

// settled waits until all workers are where they stay.
//
//go:noinline
func settled() {
	for text := make([]byte, 1<<18); strings.Count(string(text[:runtime.Stack(text, true)]), "[chan receive") < 20; {
		time.Sleep(time.Millisecond)
	}
}

func main() {
	runtime.MemProfileRate = 4096
	fill()
	stop := make(chan bool)
	var ready sync.WaitGroup
	for i := 0; i < 20; i++ {
		ready.Add(1)
		go worker(stop, &ready) // workers begin here
	}
	ready.Wait()
	settled()
	in, out := bufio.NewReader(os.Stdin), make([]byte, 0, 256)
	native()
	runtime.GC()
	pool.Put(&pooled{}) // lives through one collection
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	out = fmt.Appendf(out, "ready %d %d\n", stats.HeapAlloc, stats.HeapObjects)
	os.Stdout.Write(out)
	in.ReadByte()
	fmt.Println(len(byName), list, reg, shapes, bigs, queue, closures, numbers, current.Load(), tasks, method(), final, len(plain), regions)
}
