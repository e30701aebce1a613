// The program whose frames the tests compare with what its own runtime says: inlining several
// levels deep, generics, closures, wrappers of methods, and where there is cgo C on both sides.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"example.com/gotables/expand"
)

func main() {
	if len(os.Args) == 2 {
		if err := expand.Answer(os.Args[1], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	fmt.Println(work(len(os.Args)))
}

func work(n int) string {
	shapes := []shape{square{n}, &circle{square{n}, n}, circle{square{n + 1}, n}}
	sort.Slice(shapes, func(i, j int) bool { return shapes[i].area() < shapes[j].area() })
	sum := fold(shapes, 0, func(a int, s shape) int { return a + s.area() + s.side() })
	defer func() { sum++ }()
	return strings.Repeat(fmt.Sprint(sum+outer(n)+viaC(n)+largest([]float64{1, 2, float64(n)})), 2)
}

type shape interface {
	area() int
	side() int
}

type square struct{ a int }

func (s square) area() int { return middle(s.a) * s.a }
func (s square) side() int { return s.a }

type circle struct {
	square
	r int
}

func (c circle) area() int { return 3 * c.r * inner(c.r) }

func outer(n int) int  { return middle(n) + middle(n+1) }
func middle(n int) int { return inner(n) + inner(inner(n)) }
func inner(n int) int {
	if n > 7 {
		return n &^ 5
	}
	return n * 3
}

func fold[T, A any](list []T, a A, f func(A, T) A) A {
	for _, x := range list {
		a = f(a, x)
	}
	return a
}

type pair[K comparable, V any] struct {
	k K
	v V
}

func (p *pair[K, V]) set(k K, v V) {
	if p.k != k {
		p.k, p.v = k, v
	}
}

func largest(list []float64) int {
	var p pair[string, float64]
	for i, x := range list {
		if x > p.v {
			p.set(fmt.Sprint(i), x)
		}
	}
	return int(p.v)
}
