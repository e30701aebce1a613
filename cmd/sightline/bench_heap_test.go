package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
)

var gorefPeer = peer{"grf", "`go install github.com/cloudwego/goref/cmd/grf@latest` installs goref", []string{"grf", "version"}}

// StartGoHeap runs testdata/bench/goheap with so many objects.
func startGoHeap(b *testing.B, objects int) (pid int) {
	b.Helper()
	cmd := exec.Command(benchProgram(b, "goheap"), strconv.Itoa(objects))
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
		b.Fatalf("the program says %q", s.Text())
	}
	return cmd.Process.Pid
}

// BenchmarkHeap is a snapshot of a Go program with a million objects and of one with ten, and what is
// asked of it: how long the program stands still, the analysis by its parts, the command from its start
// to its end and its memory beyond the copy, beside goref on the same program.
func BenchmarkHeap(b *testing.B) {
	binary := sightlineBinary(b)
	for _, size := range []struct {
		name    string
		objects int
	}{{"1M", 1e6}, {"10M", 1e7}} {
		if size.objects > 1e6 && testing.Short() {
			continue
		}
		target := startGoHeap(b, size.objects)
		pid := strconv.Itoa(target)
		var stop, read, ask, compare, open, whole, peak []float64
		dir := workDir(b)
		file := filepath.Join(dir, "x.heap")
		var typed, covered float64
		for range max(*benchRounds/5, 1) {
			img, err := freeze.Take(b.Context(), target, freeze.Options{})
			if err != nil {
				b.Fatal(err)
			}
			stop = append(stop, milliseconds(img.Stopped()))
			began := time.Now()
			s, err := heap.OfGo(b.Context(), img, nil)
			if err != nil {
				b.Fatal(err)
			}
			read = append(read, milliseconds(time.Since(began)))
			img.Close()
			began = time.Now()
			a := heap.Analyze(s, nil)
			rows := a.Types()
			ask = append(ask, milliseconds(time.Since(began)))
			live, _ := a.Totals()
			covered = 100 * float64(live.Bytes) / float64(s.Info.HeapAlloc)
			known := uint64(0)
			for _, r := range rows {
				if r.Type != 0 {
					known += r.Bytes
				}
			}
			typed = 100 * float64(known) / float64(live.Bytes)
			began = time.Now()
			heap.Compare(a, a)
			compare = append(compare, milliseconds(time.Since(began)))
			if err := writeFile(file, s.Write); err != nil {
				b.Fatal(err)
			}
			began = time.Now()
			saved, err := heap.Open(file)
			if err != nil {
				b.Fatal(err)
			}
			open = append(open, milliseconds(time.Since(began)))
			saved.Close()
			cmd := exec.Command(binary, "heap", pid, "--dont-keep")
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, io.Discard, os.Stderr
			began = time.Now()
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			whole = append(whole, milliseconds(time.Since(began)))
			// The copy lies in a file in memory, of which each page that was looked at counts as resident.
			beyond := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss - anonymous(b, target)
			peak = append(peak, float64(beyond<<10)/float64(s.Len()))
		}
		all := make([]float64, len(read))
		for i := range all {
			all[i] = read[i] + ask[i]
		}
		b.Run("ours/objects="+size.name, func(b *testing.B) {
			report(b, figure{median(all), "analyse-ms"}, figure{median(read), "read-ms"}, figure{median(ask), "ask-ms"}, figure{median(stop), "stop-ms"},
				figure{median(whole), "heap-ms"}, figure{median(peak), "B/object"}, figure{median(compare), "compare-ms"}, figure{median(open), "open-ms"},
				figure{typed, "%-typed"}, figure{covered, "%-live"}, figure{float64(len(all)), "runs"})
		})
		if gorefPeer.there(b) {
			began := time.Now()
			mustOutput(b, dir, "grf", "attach", pid, "-o", filepath.Join(dir, "goref.out"))
			took := milliseconds(time.Since(began))
			b.Run("peer=goref/objects="+size.name, func(b *testing.B) { report(b, figure{took, "heap-ms"}) })
		}
	}
}

// Anonymous is the resident memory of a process that no file has, in KiB: what a snapshot copies.
func anonymous(b *testing.B, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " -")[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib
}
