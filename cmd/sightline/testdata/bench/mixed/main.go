// Command mixed does a fixed amount of work of the sorts that programs do (hashing, maps,
// allocation, sorting, calls through interfaces, recursion) and prints what that took: the time on
// the clock, and the CPU time of the whole process, both in nanoseconds.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type shape interface{ area(n int) int }

type (
	square struct{ side int }
	disc   struct{ radius int }
)

//go:noinline
func (s square) area(n int) int { return s.side*s.side + n }

//go:noinline
func (d disc) area(n int) int { return 3*d.radius*d.radius - n }

type tree struct {
	left, right *tree
	key         int
}

func grow(depth, key int) *tree {
	if depth == 0 {
		return nil
	}
	return &tree{grow(depth-1, 2*key), grow(depth-1, 2*key+1), key}
}

func (t *tree) sum() int {
	if t == nil {
		return 0
	}
	return t.key + t.left.sum() + t.right.sum()
}

func hash(block []byte, rounds int) (x byte) {
	for range rounds {
		h := sha256.Sum256(block)
		copy(block, h[:])
		x ^= h[0]
	}
	return x
}

func count(words []string) int {
	seen := map[string]int{}
	for _, w := range words {
		seen[w]++
	}
	most := 0
	for _, n := range seen {
		most = max(most, n)
	}
	return most
}

func words(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "w" + strconv.Itoa(i*7919%1009)
	}
	return out
}

func order(n int) int {
	list := make([]int, n)
	x := uint32(1)
	for i := range list {
		x = x*1664525 + 1013904223
		list[i] = int(x >> 8)
	}
	slices.Sort(list)
	return list[n/2]
}

func visit(shapes []shape, rounds int) (sum int) {
	for n := range rounds {
		for _, s := range shapes {
			sum += s.area(n)
		}
	}
	return sum
}

func text(list []string) int {
	return len(strings.Fields(strings.ToUpper(strings.Join(list, " "))))
}

func main() {
	begin := time.Now()
	block := make([]byte, 4096)
	shapes := make([]shape, 100)
	for i := range shapes {
		if i%3 == 0 {
			shapes[i] = disc{i}
		} else {
			shapes[i] = square{i}
		}
	}
	sink := 0
	for range 105 {
		list := words(8000)
		sink += int(hash(block, 250)) + count(list) + order(12000) + visit(shapes, 6000) + grow(13, 1).sum() + text(list)
	}
	elapsed := time.Since(begin)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if sink == 0 {
		os.Exit(1)
	}
	fmt.Println("took", elapsed.Nanoseconds(), used.Utime.Nano()+used.Stime.Nano())
}
