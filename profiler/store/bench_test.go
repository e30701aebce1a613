package store

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// What the package is held to. Values were measured on 2 cores of a virtual machine in November
// 2026; raise one only with the reason beside it.
//
//	bytes of samples and stacks per sample   8      generated: 4.0 (2,000 stacks), 5.8 (20,000);
//	                                                recorded: 6.0 (114,000 samples of a Go test on
//	                                                70,000 stacks), 7.4 (20,000 samples of it)
//	load 100,000 samples                     30 ms  10 ms (2,000 stacks); 26 ms (20,000, 6 MB of texts),
//	                                                20 ms without the texts
//	list 1,000 captures of 200 files         20 ms  14 ms

var shapes = []struct {
	name string
	shape
}{
	{"stacks=20000", wide},
	{"stacks=2000", narrow},
	{"stacks=150", small},
}

// generated keeps captures for all benchmarks of a run.
var generated = struct {
	sync.Mutex
	of map[shape]*profile.Capture
}{of: map[shape]*profile.Capture{}}

func generateOnce(sh shape) *profile.Capture {
	generated.Lock()
	defer generated.Unlock()
	if generated.of[sh] == nil {
		generated.of[sh] = generate(sh, 1)
	}
	return generated.of[sh]
}

func BenchmarkEncode(b *testing.B) {
	for _, sh := range shapes {
		b.Run(sh.name, func(b *testing.B) {
			c := generateOnce(sh.shape)
			to, _ := marksOf(c, start(), chunkSamples)
			var chunk, symbols []byte
			for b.Loop() {
				chunk = encodeChunk(c, start(), to, nil, nil)
				symbols = encodeSymbols(&c.Symbols)
			}
			n := float64(sh.samples)
			b.ReportMetric(float64(len(chunk))/n, "chunk-B/sample")
			b.ReportMetric(float64(len(chunk)+len(symbols))/n, "all-B/sample")
			parts := map[string]int{}
			encodeChunk(c, start(), to, nil, parts)
			columns := 0
			for name, size := range parts {
				if len(name) > 7 && name[:7] == "sample." {
					columns += size
				}
			}
			b.ReportMetric(float64(columns)/n, "columns-B/sample")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, sh := range shapes {
		b.Run(sh.name, func(b *testing.B) {
			c := generateOnce(sh.shape)
			to, _ := marksOf(c, start(), chunkSamples)
			chunk := encodeChunk(c, start(), to, nil, nil)
			symbols := encodeSymbols(&c.Symbols)
			for b.Loop() {
				at := start()
				if err := decodeChunk(profile.NewCapture(c.Target, c.Start), &at, chunk); err != nil {
					b.Fatal(err)
				}
				if _, err := decodeSymbols(symbols); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFinish is the end of a recording: its sources are in the store already, except the
// first time.
func BenchmarkFinish(b *testing.B) {
	for _, sh := range shapes {
		b.Run(sh.name, func(b *testing.B) {
			c := generateOnce(sh.shape)
			s := open(b, Options{Budget: 64 << 20})
			for b.Loop() {
				if _, err := s.Put(c); err != nil {
					b.Fatal(err)
				}
			}
			u, err := s.Usage()
			if err != nil {
				b.Fatal(err)
			}
			list, err := s.List()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(u.Used)/float64(len(list)*sh.samples), "file-B/sample")
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, sh := range shapes {
		for _, with := range []string{"all", "no-text"} {
			b.Run(fmt.Sprintf("%s/%s", sh.name, with), func(b *testing.B) {
				s := open(b, Options{})
				m, err := s.Put(generateOnce(sh.shape))
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := s.load(m.ID, with == "all"); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkFlush is a second of a recording on two processors.
func BenchmarkFlush(b *testing.B) {
	c := generateOnce(wide)
	s := open(b, Options{})
	w, err := s.Begin(prefix(c, 1000))
	if err != nil {
		b.Fatal(err)
	}
	n := 1000
	for b.Loop() {
		if n += 2000; n > wide.samples {
			b.StopTimer()
			if err := w.Discard(); err != nil {
				b.Fatal(err)
			}
			if w, err = s.Begin(prefix(c, 1000)); err != nil {
				b.Fatal(err)
			}
			n = 3000
			b.StartTimer()
		}
		if err := w.Flush(prefix(c, n)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList lists captures that name 200 files each, of 400.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("captures=%d", n), func(b *testing.B) {
			s := open(b, Options{})
			fillMetas(b, s, n)
			for b.Loop() {
				list, err := s.List()
				if err != nil || len(list) != n {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}

// fillMetas stores n captures without samples, in one transaction since a thousand take long.
func fillMetas(b *testing.B, s *Store, n int) {
	sh := small
	sh.files = 400
	c := generateOnce(sh)
	symbols := encodeSymbols(&profile.Symbols{Frames: make([]profile.Frame, 1)})
	chunk := encodeChunk(profile.NewCapture(c.Target, c.Start), start(), start(), nil, nil)
	err := s.update("fill", func(tx *bolt.Tx) error {
		for i := range n {
			sources := newSourceSet(c.Symbols.Sources[i%200:][:200])
			m := metaOf(c)
			m.ID = nextID("", time.UnixMilli(1_800_000_000_000+int64(i)*60_000))
			m.Kinds = nil
			m.Bytes = int64(len(chunk) + len(symbols))
			if err := s.putFinal(tx, &m, [][]byte{chunk}, symbols, sources); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "captures.db")
	s := openAt(b, path, Options{})
	if _, err := s.Put(generateOnce(small)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Open(path, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChanged(b *testing.B) {
	s := open(b, Options{})
	if _, err := s.Put(generateOnce(small)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Changed(); err != nil {
			b.Fatal(err)
		}
	}
}

// prefix is c as it was when it had n samples.
func prefix(c *profile.Capture, n int) *profile.Capture {
	p := c.View()
	p.Symbols = profile.Symbols{}
	p.Series[0].Samples = p.Series[0].Samples.Slice(0, min(n, p.Series[0].Samples.Len()))
	stacks, locations := profile.StackID(0), profile.LocationID(0)
	for _, id := range p.Series[0].Samples.Stack {
		stacks = max(stacks, id)
	}
	parents, leaves := p.Stacks.Columns()
	for _, l := range leaves[:stacks+1] {
		locations = max(locations, l)
	}
	p.Stacks = profile.StacksOf(parents[:stacks+1:stacks+1], leaves[:stacks+1:stacks+1])
	p.Locations = p.Locations[:locations+1]
	if s := p.Series[0].Samples; s.Len() > 0 {
		p.Length = s.Time[s.Len()-1]
	}
	return p
}
