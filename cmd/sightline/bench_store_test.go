package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/store"
)

// BenchmarkBytesPerSample is what a sample takes in the store once stacks are interned: the samples
// with the tables that grow with them (chunks), the whole capture with its symbols, and the growth
// of the file with all source texts.
func BenchmarkBytesPerSample(b *testing.B) {
	measure := func(b *testing.B, st *store.Store, before int64) {
		list, err := st.List()
		if err != nil || len(list) == 0 {
			b.Fatalf("the recording is not in its store: %v", err)
		}
		meta := list[0]
		samples := float64(meta.Kinds[0].Samples)
		chunks, symbols := recordBytes(b, st.Path(), meta.ID)
		usage, err := st.Usage()
		if err != nil {
			b.Fatal(err)
		}
		report(b,
			figure{float64(chunks) / samples, "bytes/sample"},
			figure{float64(symbols) / samples, "symbols-bytes/sample"},
			figure{float64(meta.Bytes) / samples, "capture-bytes/sample"},
			figure{float64(usage.Used-before) / samples, "store-bytes/sample"},
			figure{float64(meta.Stacks), "stacks"}, figure{float64(meta.Locations), "locations"}, figure{samples, "samples"},
		)
	}
	usedBy := func(b *testing.B, st *store.Store) int64 {
		usage, err := st.Usage()
		if err != nil {
			b.Fatal(err)
		}
		return usage.Used
	}
	large := makeLarge(b)
	b.Run("ours/target=large", func(b *testing.B) {
		b.Setenv("XDG_STATE_HOME", workDir(b))
		before := usedBy(b, openBenchStore(b, large.dir))
		st, _ := largeCapture(b, large)
		measure(b, st, before)
	})
	example := filepath.Join(packageDir, "..", "..", "testdata", "example")
	b.Run("ours/target=test", func(b *testing.B) {
		b.Setenv("XDG_STATE_HOME", workDir(b))
		before := usedBy(b, openBenchStore(b, example))
		mustOutput(b, example, sightlineBinary(b), "test", "-run", "TestPages", "--samples", "1000")
		measure(b, openBenchStore(b, example), before)
	})
	if !perfPeer.there(b) {
		return
	}
	perf := func(b *testing.B, dir, file string, freq int, command ...string) {
		samples, _ := perfRecord(b, dir, file, freq, command...)
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		report(b, figure{float64(info.Size()) / float64(samples), "bytes/sample"}, figure{float64(samples), "samples"})
	}
	b.Run("peer=perf/target=large", func(b *testing.B) {
		dir := workDir(b)
		perf(b, large.dir, filepath.Join(dir, "perf.data"), largeFrequency, large.binary, largeCPU, filepath.Join(dir, "end"))
	})
	b.Run("peer=perf/target=test", func(b *testing.B) {
		dir := workDir(b)
		binary := filepath.Join(dir, "example.test")
		mustOutput(b, example, "go", "test", "-c", "-o", binary, ".")
		perf(b, example, filepath.Join(dir, "perf.data"), 999, binary, "-test.run=TestPages", "-test.count=5")
	})
}

// RecordBytes is what a capture's samples, stacks, locations, tasks and mappings take in the store's
// file, and what its symbols do, without the file's own pages around them.
func recordBytes(b *testing.B, path string, id store.ID) (chunks, symbols int) {
	b.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("captures")).Bucket([]byte(id)).ForEach(func(k, v []byte) error {
			if bytes.HasPrefix(k, []byte("chunk")) {
				chunks += len(k) + len(v)
			} else {
				symbols += len(k) + len(v)
			}
			return nil
		})
	})
	if err != nil {
		b.Fatal(err)
	}
	if chunks == 0 {
		b.Fatalf("capture %s has no chunks", id)
	}
	return chunks, symbols
}
