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
	"testing"
	"time"
)

// A looper is a process that does something again and again in its second thread.
type looper struct {
	pid, worker int
	in          io.Writer
	out         *bufio.Scanner
}

// startLooper starts testdata/bench/loops.c until the benchmark ends.
func startLooper(b *testing.B, path, what string) *looper {
	b.Helper()
	cmd := exec.Command(path, what)
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
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	x := &looper{pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	if !x.out.Scan() || x.out.Text() != "ready" {
		b.Fatalf("%s says %q", path, x.out.Text())
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", x.pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range tasks {
		if id, _ := strconv.Atoi(t.Name()); id != x.pid {
			x.worker = id
		}
	}
	return x
}

// state is how often it has looped, and how long its thread has waited for a processor that others had.
func (x *looper) state(b *testing.B) (loops float64, waited, at time.Duration) {
	b.Helper()
	io.WriteString(x.in, "\n")
	if !x.out.Scan() {
		b.Fatal("the program ended")
	}
	loops, err := strconv.ParseFloat(x.out.Text(), 64)
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", x.pid, x.worker))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text)) // ran, waited, times
	ns, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return loops, time.Duration(ns), time.Duration(time.Now().UnixNano())
}

// rate is loops for each second in which the thread could have run: what others took of the processor is not
// counted, what it waited for locks is.
func (x *looper) rate(b *testing.B, window time.Duration) float64 {
	b.Helper()
	loops, waited, at := x.state(b)
	time.Sleep(window)
	loops2, waited2, at2 := x.state(b)
	return (loops2 - loops) / (at2 - at - (waited2 - waited)).Seconds()
}

// BenchmarkTimeline is what `sightline map --every` takes from the process that it watches: how much less often
// one loops while its map is read, in pairs of windows in turn; noise is the same between two windows without.
func BenchmarkTimeline(b *testing.B) {
	binary := sightlineBinary(b)
	path := filepath.Join(workDir(b), "loops")
	mustOutput(b, packageDir, "gcc", "-O1", "-pthread", "-o", path, "testdata/bench/loops.c")
	for _, what := range []string{"compute", "faults", "mmap"} {
		x := startLooper(b, path, what)
		for _, every := range []time.Duration{time.Second, 100 * time.Millisecond} {
			window := max(every, 500*time.Millisecond)
			var taken, noise []float64
			for range max(4, *benchRounds/2) {
				before := x.rate(b, window)
				watch := exec.Command(binary, "map", strconv.Itoa(x.pid), "--every", every.String(), "--json")
				out, err := watch.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				if err := watch.Start(); err != nil {
					b.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				for range 2 { // "[" and the first moment: it has begun
					lines.Scan()
				}
				ended := make(chan struct{})
				go func() { io.Copy(io.Discard, out); close(ended) }()
				during := x.rate(b, window)
				watch.Process.Kill()
				<-ended
				watch.Wait()
				after := x.rate(b, window)
				plain := (before + after) / 2
				taken = append(taken, 100*(1-during/plain))
				noise = append(noise, 100*(1-after/before))
			}
			b.Run(fmt.Sprintf("target=%s/every=%v", what, every), func(b *testing.B) {
				for i, v := range noise {
					noise[i] = max(v, -v)
				}
				report(b, figure{median(taken), "taken-%"}, figure{spread(taken), "±-%"}, figure{median(noise), "noise-%"}, figure{float64(len(taken)), "rounds"})
			})
		}
	}
}
