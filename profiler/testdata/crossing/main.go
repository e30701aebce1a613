// Go that calls C, C that calls Go, and both from threads of either, for SECONDS. The C code keeps no
// frame pointers and uses their register for other things.
package main

/*
#cgo CFLAGS: -O2 -fomit-frame-pointer
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

extern int goCompare(void *, void *);
extern void goInThread(void);

// Mixes with more values alive than there are registers, so that the frame pointer's is taken.
static __attribute__((noinline)) uint64_t mix(uint64_t *v, int rounds) {
  uint64_t a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], h = v[7], i = v[8], j = v[9], k = v[10], l = v[11];
  for (int r = 0; r < rounds; r++) {
    a += b ^ (c << 3); b ^= c + (d >> 5); c += d * 3; d ^= e + a; e += f ^ b; f ^= g + c;
    g += h * 5; h ^= i + d; i += j ^ e; j ^= k + f; k += l ^ g; l ^= a + h;
  }
  v[0] = a; v[1] = b; v[2] = c; v[3] = d; v[4] = e; v[5] = f; v[6] = g; v[7] = h; v[8] = i; v[9] = j; v[10] = k; v[11] = l;
  return a ^ l;
}

static __attribute__((noinline)) uint64_t inC(uint64_t *v, int rounds) { return mix(v, rounds) + 1; }

static int compare(const void *a, const void *b) { return goCompare((void *)a, (void *)b); }

static __attribute__((noinline)) uint64_t sortsInC(uint64_t *v, int n) {
  qsort(v, n, sizeof *v, compare);
  return v[0] + 1;
}

static void *threadOfC(void *arg) {
  uint64_t v[12] = {1, 2, 3};
  for (int i = 0; i < 20; i++) {
    mix(v, 20000);
    goInThread();
  }
  return arg;
}

static int inThreadOfC(void) {
  pthread_t t;
  if (pthread_create(&t, NULL, threadOfC, NULL))
    return 1;
  return pthread_join(t, NULL);
}
*/
import "C"

import (
	"os"
	"strconv"
	"sync"
	"time"
	"unsafe"
)

var sink uint64

//go:noinline
func inGo(n int) uint64 {
	x := uint64(n)
	for i := range n {
		x = x*6364136223846793005 + uint64(i)
	}
	return x
}

//export goCompare
func goCompare(a, b unsafe.Pointer) C.int {
	x, y := *(*uint64)(a), *(*uint64)(b)
	// The comparison is in C, called by Go called by C called by Go.
	var v [12]C.uint64_t
	v[0] = C.uint64_t(inGo(50))
	C.inC(&v[0], 20)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

//export goInThread
func goInThread() {
	var v [12]C.uint64_t
	C.inC(&v[0], 10000)
	inGo(20000)
}

// deep calls C from the end of many calls.
//
//go:noinline
func deep(n int) uint64 {
	if n > 0 {
		return deep(n-1) + 1
	}
	var v [12]C.uint64_t
	return uint64(C.inC(&v[0], 20000))
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			var x uint64
			for time.Now().Before(end) {
				x += deep(0) + deep(20) + inGo(100000)
				v := make([]C.uint64_t, 64)
				for i := range v {
					v[i] = C.uint64_t(inGo(i) * 7919)
				}
				x += uint64(C.sortsInC(&v[0], C.int(len(v))))
				if C.inThreadOfC() != 0 {
					panic("a thread of C could not be started")
				}
			}
			sink += x
		})
	}
	all.Wait()
}
