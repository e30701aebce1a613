package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/process"
)

var (
	lsofPeer = peer{"lsof", "`.ci/packages bench` installs it", []string{"lsof", "-v"}}
	psPeer   = peer{"ps", "install procps", []string{"ps", "--version"}}
)

// sleepers starts processes that do nothing until the benchmark ends.
func sleepers(b *testing.B, n int) {
	b.Helper()
	for range n {
		cmd := exec.Command("sleep", "3600")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
}

// fastest is the least time of some runs: what else the machine does only adds.
func fastest(b *testing.B, rounds int, run func()) float64 {
	b.Helper()
	least := time.Duration(1<<63 - 1)
	for range rounds {
		begun := time.Now()
		run()
		least = min(least, time.Since(begun))
	}
	return float64(least) / float64(time.Millisecond)
}

// BenchmarkPs lists 1,000 processes and those that the machine has anyway. The interval that CPU is of is
// waited for on purpose, so it is a millisecond here; the default is 200.
func BenchmarkPs(b *testing.B) {
	sleepers(b, 1000)
	bin := sightlineBinary(b)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			b.ReportMetric(fastest(b, 7, func() { mustOutput(b, "", bin, "ps", "--interval", "1ms") }), "ps-ms")
			sampler, err := process.NewSampler(process.Options{Want: process.AllFields})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(fastest(b, 7, func() {
				if err := sampler.Begin(b.Context()); err != nil {
					b.Fatal(err)
				}
				if _, err := sampler.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
			}), "look-ms")
		}
		b.ReportMetric(0, "ns/op")
	})
	b.Run("peer=ps", func(b *testing.B) {
		if !psPeer.there(b) {
			b.Skip()
		}
		for b.Loop() {
			b.ReportMetric(fastest(b, 7, func() { mustOutput(b, "", "ps", "aux") }), "ps-ms")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// An openRow is a file of a list, as both tools name it.
type openRow struct{ pid, fd, kind, node string }

// BenchmarkFiles lists what the whole machine has open, and compares the set with lsof's. Ours is listed
// before and after lsof: what only one of these has was opened or closed meanwhile and is no difference.
func BenchmarkFiles(b *testing.B) {
	if !lsofPeer.there(b) {
		b.Skip()
	}
	bin := sightlineBinary(b)
	ours := func() map[openRow]bool {
		var list filesJSON
		if err := json.Unmarshal([]byte(mustOutput(b, "", bin, "files", "--json")), &list); err != nil {
			b.Fatal(err)
		}
		rows := map[openRow]bool{}
		for _, f := range list.Files {
			r := openRow{fmt.Sprint(f.PID), f.FD, f.Type, fmt.Sprint(f.Inode)}
			if f.Error != "" || f.Type == "unknown" || f.Type == "IPv4" || f.Type == "IPv6" { // of which lsof names no inode
				r.node = ""
			}
			rows[r] = true
		}
		return rows
	}
	for b.Loop() {
		least := fastest(b, 5, func() { mustOutput(b, "", bin, "files") })
		lsof := fastest(b, 3, func() { mustOutput(b, "", "sh", "-c", "lsof -n -P 2>/dev/null || true") })
		alone := fastest(b, 3, func() { mustOutput(b, "", "sh", "-c", "lsof -n -P -Ki 2>/dev/null || true") })
		before := ours()
		theirs := lsofRows(mustOutput(b, "", "sh", "-c", "lsof -n -P -Ki -F pfti 2>/dev/null || true"))
		after := ours()
		var more, less []openRow
		for r := range before {
			if after[r] && !theirs[r] {
				more = append(more, r)
			}
		}
		for r := range theirs {
			if !before[r] && !after[r] && stillOpen(r) {
				less = append(less, r)
			}
		}
		b.ReportMetric(least, "files-ms")
		b.ReportMetric(lsof, "lsof-ms")
		b.ReportMetric(alone, "lsof-without-threads-ms")
		b.ReportMetric(float64(len(theirs)), "lsof-rows")
		b.ReportMetric(float64(len(more)), "only-ours")
		b.ReportMetric(float64(len(less)), "only-lsof")
		for name, rows := range map[string][]openRow{"only sightline lists": more, "only lsof lists": less} {
			slices.SortFunc(rows, func(a, b openRow) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			for i, r := range rows {
				if i == 5 {
					note("%s %d more", name, len(rows)-i)
					break
				}
				note("%s process %s, %s, %s, node %s", name, r.pid, r.fd, r.kind, r.node)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// lsofRows reads lsof -F pfti: a letter and a value each line; p begins a process, f a file.
func lsofRows(text string) map[openRow]bool {
	rows := map[openRow]bool{}
	pid := ""
	var row openRow
	flush := func() {
		if row.fd != "" && row.pid != "" {
			if row.kind == "unknown" {
				row.node = ""
			}
			rows[row] = true
		}
		row = openRow{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		switch value := line[1:]; line[0] {
		case 'p':
			flush()
			pid = value
		case 'f':
			flush()
			row = openRow{pid: pid, fd: value}
		case 't':
			row.kind = value
		case 'i':
			row.node = value
		}
	}
	flush()
	return rows
}

// stillOpen says that a row of lsof's is of a process that is there, and not of lsof itself, and of a
// descriptor that is open as it was.
func stillOpen(r openRow) bool {
	name, err := os.ReadFile("/proc/" + r.pid + "/comm")
	if err != nil || strings.TrimSpace(string(name)) == "lsof" {
		return false
	}
	if r.fd == "mem" || r.fd == "DEL" {
		maps, err := os.ReadFile("/proc/" + r.pid + "/maps")
		return err == nil && strings.Contains(string(maps), " "+r.node+" ")
	}
	if _, err := strconv.Atoi(r.fd); err != nil {
		return true
	}
	info, err := os.Stat("/proc/" + r.pid + "/fd/" + r.fd)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (r.node == "" || fmt.Sprint(st.Ino) == r.node)
}
