package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var gcorePeer = peer{"gcore", "`.ci/packages bench` installs gdb, which it is of", []string{"gdb", "--version"}}

// BenchmarkDump writes core files of a C program with 100 MB on its heap beside gcore, and of a Go program
// that collects garbage all the time, alone: gcore would write a gigabyte of what Go only reserves. How long
// the C program stood still it says itself.
func BenchmarkDump(b *testing.B) {
	binary := sightlineBinary(b)
	dir := workDir(b)
	heap := filepath.Join(dir, "heap")
	mustOutput(b, packageDir, "gcc", "-O1", "-pthread", "-o", heap, "testdata/bench/heap.c")
	churn := filepath.Join(dir, "churn")
	mustOutput(b, packageDir, "go", "build", "-o", churn, "../../heap/freeze/testdata/churn")
	core := filepath.Join(dir, "core")
	defer os.Remove(core)

	c := startDumpTarget(b, heap)
	gap := func() float64 {
		fmt.Fprintln(c.in)
		line, err := c.out.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		us, _ := strconv.ParseFloat(strings.TrimSpace(line), 64)
		return us / 1000
	}
	kept := map[string]map[string][]float64{}
	note := func(name, unit string, value float64) {
		if kept[name] == nil {
			kept[name] = map[string][]float64{}
		}
		kept[name][unit] = append(kept[name][unit], value)
	}
	ours := func(name, how string, t *dumpTarget) {
		before := t.resident(b)
		var d dumpJSON
		if err := json.Unmarshal([]byte(mustOutput(b, dir, binary, "dump", t.pid, "-o", core, "--how", how, "--json")), &d); err != nil {
			b.Fatal(err)
		}
		resident := max(before, t.resident(b)) // a heap that is collected is larger and smaller all the time
		note(name, "stop-ms", milliseconds(d.Stopped))
		note(name, "stop-ms/100MB", milliseconds(d.Stopped)/resident*100e6)
		note(name, "dump-ms", milliseconds(d.Took))
		note(name, "disk-%-of-resident", float64(d.Stored)/resident*100)
	}
	for range *benchRounds {
		for _, how := range []string{"fork", "copy"} {
			gap()
			ours("ours/target=c/how="+how, how, c)
			note("ours/target=c/how="+how, "gap-ms", gap())
		}
		if gcorePeer.there(b) {
			gap()
			resident, began := c.resident(b), time.Now()
			mustOutput(b, dir, "gcore", "-o", core, c.pid)
			note("peer=gcore/target=c", "dump-ms", milliseconds(time.Since(began)))
			note("peer=gcore/target=c", "gap-ms", gap())
			info, err := os.Stat(core + "." + c.pid)
			if err != nil {
				b.Fatal(err)
			}
			note("peer=gcore/target=c", "disk-%-of-resident", float64(info.Sys().(*syscall.Stat_t).Blocks*512)/resident*100)
			os.Remove(core + "." + c.pid)
		}
	}
	c.end()
	g := startDumpTarget(b, churn, "40000000")
	for range *benchRounds {
		ours("ours/target=go/how=fork", "fork", g)
	}
	g.end()
	for name, units := range kept {
		b.Run(name, func(b *testing.B) {
			figures := []figure{{float64(*benchRounds), "runs"}}
			for unit, all := range units {
				figures = append(figures, figure{median(all), unit})
			}
			report(b, figures...)
		})
	}
}

// A dumpTarget is a program that core files are written of.
type dumpTarget struct {
	cmd *exec.Cmd
	pid string
	in  interface {
		Write([]byte) (int, error)
		Close() error
	}
	out *bufio.Reader
}

func startDumpTarget(b *testing.B, path string, args ...string) *dumpTarget {
	b.Helper()
	t := &dumpTarget{cmd: exec.Command(path, args...)}
	in, err := t.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := t.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(t.end)
	t.pid, t.in, t.out = strconv.Itoa(t.cmd.Process.Pid), in, bufio.NewReader(out)
	if line, err := t.out.ReadString('\n'); !strings.HasPrefix(strings.ToLower(line), "ready") {
		b.Fatalf("%s says %q, %v", path, line, err)
	}
	return t
}

func (t *dumpTarget) end() {
	t.in.Close()
	t.cmd.Process.Kill()
	t.cmd.Wait()
}

// Resident is the memory of its own that the program has, in bytes.
func (t *dumpTarget) resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/" + t.pid + "/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kb * 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
