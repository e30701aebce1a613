package main

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/heap/goruntime"
)

// BenchmarkGoHeap reads the heap of a Go program with a million and with ten million objects out of an
// image of its memory: the objects, their types, their references and the roots (analyse-ms, and
// first-ms for the first image of a program, whose debug information is read too), the same made a
// snapshot with what is wasted (snapshot-ms), and the memory that takes beyond the image (bytes/object,
// at its highest, as the collector lets it grow). goref, the only other reader of live heaps with types,
// is not on the module proxy.
func BenchmarkGoHeap(b *testing.B) {
	dir := workDir(b)
	target := filepath.Join(dir, "goheap")
	mustOutput(b, packageDir, "go", "build", "-o", target, "testdata/bench/goheap/main.go")
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run("objects="+strconv.Itoa(n), func(b *testing.B) {
			cmd := exec.Command(target, strconv.Itoa(n))
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
			if s := bufio.NewScanner(out); !s.Scan() || s.Text() != "ready" {
				b.Fatalf("the target says %q", s.Text())
			}
			img, err := freeze.Take(b.Context(), cmd.Process.Pid, freeze.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer img.Close()
			var first float64
			var analysed, whole []float64
			var objects, most float64
			for range max(*benchRounds, 2) {
				runtime.GC()
				began := time.Now()
				objects = float64(analyse(b, img))
				if first == 0 {
					first = milliseconds(time.Since(began))
				} else {
					analysed = append(analysed, milliseconds(time.Since(began)))
				}
				debug.FreeOSMemory()
				peak := watchHeap()
				began = time.Now()
				s, err := heap.OfGo(b.Context(), img, nil)
				if err != nil {
					b.Fatal(err)
				}
				whole = append(whole, milliseconds(time.Since(began)))
				most = max(most, float64(peak())/objects)
				runtime.KeepAlive(s)
			}
			b.Run("ours", func(b *testing.B) {
				report(b, figure{median(analysed), "analyse-ms"}, figure{first, "first-ms"}, figure{median(whole), "snapshot-ms"},
					figure{most, "bytes/object"}, figure{objects, "objects"})
			})
		})
	}
}

// analyse reads objects, types and references, and returns how many objects there are.
func analyse(b *testing.B, img *freeze.Image) int {
	exe, _, bias, err := img.Executable()
	if err != nil {
		b.Fatal(err)
	}
	r, err := goruntime.Open(exe, bias, img)
	if err != nil {
		b.Fatal(err)
	}
	h, err := r.Heap(b.Context(), goruntime.HeapOptions{Path: "/proc/self/fd/" + strconv.Itoa(int(exe.Fd()))})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	err = goruntime.References(b.Context(), h, func(_ uint32, _, to, _ []uint32) { n += len(to) })
	if err != nil || n == 0 {
		b.Fatalf("%d references: %v", n, err)
	}
	return h.Len()
}

// watchHeap watches how large this program's heap is, until what it returns is called, which tells by how
// much it grew at most.
func watchHeap() func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	now := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	base, most := now(), uint64(0)
	stop := make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, now())
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(stop)
		wg.Wait()
		return most - min(base, most)
	}
}
