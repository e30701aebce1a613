package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
)

var gorefPeer = peer{"grf", "`go install github.com/cloudwego/goref/cmd/grf@latest` installs goref", []string{"grf", "version"}}

// A keptProgram is testdata/bench/kept, which runs.
type keptProgram struct {
	pid            int
	objects, bytes int // as its runtime counts them
}

func startKept(b *testing.B, scale int) keptProgram {
	b.Helper()
	cmd := exec.Command(benchProgram(b, "kept"), "-scale", strconv.Itoa(scale))
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
	k := keptProgram{pid: cmd.Process.Pid}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "ready %d %d", &k.objects, &k.bytes); err != nil {
		b.Fatalf("%q: %v", line, err)
	}
	return k
}

// BenchmarkHeap is a snapshot of a Go program with a million objects and of one with ten, and what is
// asked of it: how long the program stands still, the analysis by its parts, the command from its start
// to its end and its memory beyond the copy, beside goref on the same program.
func BenchmarkHeap(b *testing.B) {
	binary := sightlineBinary(b)
	for _, size := range []struct {
		name  string
		scale int
	}{{"1M", 1}, {"10M", 10}} {
		if size.scale > 1 && testing.Short() {
			continue
		}
		k := startKept(b, size.scale)
		pid := strconv.Itoa(k.pid)
		var stop, read, ask, compare, open, whole, peak []float64
		dir := workDir(b)
		file := filepath.Join(dir, "x.heap")
		var typed, covered float64
		for range max(*benchRounds/5, 1) {
			img, err := freeze.Take(b.Context(), k.pid, freeze.Options{})
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
			covered = 100 * float64(live.Bytes) / float64(k.bytes)
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
			beyond := float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10) - float64(k.bytes)
			peak = append(peak, beyond/float64(k.objects))
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
