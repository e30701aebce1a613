package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// BenchmarkImport is how fast files of other tools become captures: what perf records of the large
// program with stacks, and the text that perf script prints of it. All of the text's lines were
// printed with addresses and offsets. The peers take the same perf.data: what it is on a clock until
// perf script has printed it, and perf report its table.
//
// Compressed is the same recording with perf record -z, over the bytes that it unpacks to.
func BenchmarkImport(b *testing.B) {
	if !perfPeer.there(b) {
		return
	}
	large, dir := makeLarge(b), workDir(b)
	data, packed, text := filepath.Join(dir, "perf.data"), filepath.Join(dir, "packed.data"), filepath.Join(dir, "perf.txt")
	command := []string{large.binary, largeCPU, filepath.Join(dir, "end")}
	perfRecord(b, large.dir, data, largeFrequency, command...)
	mustOutput(b, large.dir, "perf", append([]string{"record", "-z", "-F", strconv.Itoa(largeFrequency), "-g", "-o", packed, "--"}, command...)...)

	script := peerTime(b, "script", "-i", data)
	reported := peerTime(b, "report", "--stdio", "-i", data)
	if script.err == nil {
		if err := os.WriteFile(text, []byte(script.said), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("ours/format=perf.data", func(b *testing.B) { benchImport(b, data, convert.PerfData, fileSize(b, data)) })
	b.Run("ours/format=perf.data/compressed", func(b *testing.B) {
		// The two recordings are of the same work at the same frequency.
		benchImport(b, packed, convert.PerfData, fileSize(b, data))
	})
	if script.err == nil {
		b.Run("ours/format=perf-script", func(b *testing.B) { benchImport(b, text, convert.PerfScript, fileSize(b, text)) })
	}
	for name, t := range map[string]timedPeer{"script": script, "report": reported} {
		b.Run("peer=perf-"+name, func(b *testing.B) {
			if t.err != nil {
				b.Skip(t.err)
			}
			rate := float64(fileSize(b, data)) / 1e6 / t.took.Seconds()
			report(b, figure{rate, "MB/s"}, figure{milliseconds(t.took), "ms"})
		})
	}
}

func fileSize(b *testing.B, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// BenchImport reads a file as often as there are rounds, for the median.
func benchImport(b *testing.B, path string, format convert.Format, bytes int64) {
	b.Helper()
	var took []float64
	var sum profile.Measure
	var stacks int
	for range max(3, *benchRounds/3) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		c, is, err := convert.Read(b.Context(), f, convert.Options{Name: path})
		took = append(took, milliseconds(time.Since(start)))
		f.Close()
		if err != nil || is != format {
			b.Fatalf("taken for %s: %v", is, err)
		}
		sum, stacks = c.Series[0].Samples.Sum(), c.Stacks.Len()
	}
	ms := median(took)
	report(b, figure{float64(bytes) / 1e3 / ms, "MB/s"}, figure{ms, "ms"},
		figure{float64(bytes) / 1e6, "MB"}, figure{float64(sum.Count), "samples"}, figure{float64(stacks), "stacks"})
}

type timedPeer struct {
	took time.Duration
	said string
	err  error
}

// PeerTime runs perf on a file, for as long as benchScript allows.
func peerTime(b *testing.B, args ...string) timedPeer {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), *benchScript)
	defer cancel()
	start := time.Now()
	said, _, err := outputContext(ctx, "", "perf", args...)
	t := timedPeer{took: time.Since(start), said: said, err: err}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.err = fmt.Errorf("perf %s had not ended after %s", args[0], *benchScript)
	}
	return t
}
