package store

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// The fuzz targets get payloads, which are sealed here: a fuzzer cannot guess checksums.

func sealed(kind byte, payload []byte) []byte {
	e := &encoder{b: payload}
	return e.seal(kind)
}

// tiny is a capture whose records are short enough for a fuzzer to change with effect.
func tiny() *profile.Capture {
	return generate(shape{samples: 70, stacks: 7, depth: 4, cpus: 2, threads: 2, files: 2}, 1)
}

func FuzzChunk(f *testing.F) {
	for _, c := range []*profile.Capture{tiny(), odd(), profile.NewCapture(profile.Target{}, time.Time{})} {
		to, _ := marksOf(c, start(), math.MaxInt)
		f.Add(encodeChunk(c, start(), to, nil, nil)[recordHeader:])
	}
	c := tiny()
	first := prefix(c, 30)
	from, _ := marksOf(first, start(), math.MaxInt)
	to, _ := marksOf(c, start(), math.MaxInt)
	second := encodeChunk(c, from, to, []profile.MappingID{1}, nil)[recordHeader:]
	f.Add(second)
	f.Fuzz(func(t *testing.T, payload []byte) {
		// On nothing, and on a chunk before.
		for _, before := range []*profile.Capture{nil, first} {
			got, at := profile.NewCapture(profile.Target{}, time.Time{}), start()
			if before != nil {
				if err := decodeChunk(got, &at, encodeChunk(first, start(), from, nil, nil)); err != nil {
					t.Fatal(err)
				}
			}
			err := decodeChunk(got, &at, sealed(recordChunk, payload))
			if err != nil || got.Check() != nil {
				continue // value or error: of a capture that breaks its laws, Load makes an error
			}
			to, _ := marksOf(got, start(), math.MaxInt)
			again, at := profile.NewCapture(profile.Target{}, time.Time{}), start()
			if err := decodeChunk(again, &at, encodeChunk(got, start(), to, nil, nil)); err != nil {
				t.Fatalf("what was read cannot be stored: %v", err)
			}
			if d := diff(got, again); d != "" {
				t.Fatal(d)
			}
		}
	})
}

func FuzzSymbols(f *testing.F) {
	for _, c := range []*profile.Capture{tiny(), odd()} {
		f.Add(encodeSymbols(&c.Symbols)[recordHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := decodeSymbols(sealed(recordSymbols, payload))
		if err != nil {
			if s.Frames != nil || s.Of != nil {
				t.Fatal("both a value and an error")
			}
			return
		}
		again, err := decodeSymbols(encodeSymbols(&s))
		if err != nil {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
		if d := cmp.Diff(s, again, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzMeta(f *testing.F) {
	for _, c := range []*profile.Capture{tiny(), odd()} {
		m := metaOf(c)
		m.sources = []uint64{7, 1, math.MaxUint64, 0}
		m.writer = self()
		m.flushed = time.Date(1, 1, 1, 0, 0, 0, 1, time.FixedZone("", -3600))
		f.Add(m.encode()[recordHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := decodeMeta("1", sealed(recordMeta, payload))
		if err != nil {
			if d := cmp.Diff(Meta{ID: "1"}, m, cmp.AllowUnexported(Meta{}, process{})); d != "" {
				t.Fatalf("both a value and an error: %s", d)
			}
			return
		}
		m.recording(time.Now())
		again, err := decodeMeta("1", m.encode())
		if err != nil {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
		if d := cmp.Diff(m, again, cmp.AllowUnexported(Meta{}, process{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzSource(f *testing.F) {
	for _, c := range []*profile.Capture{tiny(), odd()} {
		for i := range c.Symbols.Sources {
			f.Add(sourceOf(&c.Symbols.Sources[i]).encode()[recordHeader:])
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		x, err := decodeSource(sealed(recordSource, payload))
		if err != nil {
			return
		}
		if again, err := decodeSource(x.encode()); err != nil || again != x {
			t.Fatalf("%+v became %+v, %v", x, again, err)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, text := range []string{"", "a", "package a\npackage a\npackage a\n"} {
		f.Add(encodeText([]byte(text))[recordHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, err := decodeText(sealed(recordText, payload))
		if err != nil {
			return
		}
		if again, err := decodeText(encodeText(text)); err != nil || !bytes.Equal(text, again) {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

// FuzzRecord reads records whose checksum is whatever it is.
func FuzzRecord(f *testing.F) {
	f.Add(byte(recordText), encodeText([]byte("text")))
	f.Fuzz(func(t *testing.T, kind byte, record []byte) {
		d, err := unseal(kind, record)
		if (d == nil) == (err == nil) {
			t.Fatalf("%v and %v", d, err)
		}
	})
}

// FuzzPages verifies files before bbolt gets them; what passes must not make bbolt walk in circles.
func FuzzPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "captures.db")
	s := must[*Store](f)(Open(path, Options{}))
	must[Meta](f)(s.Put(tiny()))
	m := must[Meta](f)(s.Put(profile.NewCapture(profile.Target{}, time.Now())))
	if err := s.Remove(m.ID); err != nil {
		f.Fatal(err)
	}
	whole := must[[]byte](f)(os.ReadFile(path))
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096*3+8), []byte{1, 0, 1, 0})
	f.Add(uint32(4096*5), []byte{5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		b := bytes.Clone(whole)
		if uint64(at)+uint64(len(change)) > uint64(len(b)) {
			return
		}
		copy(b[at:], change)
		r := bytes.NewReader(b)
		h, err := readBoltHeader(r)
		if err != nil {
			return
		}
		if h.check(r, int64(len(b)), true) == nil {
			h.checkPages(r)
		}
	})
}

func FuzzLockOwners(f *testing.F) {
	f.Add([]byte("1: FLOCK  ADVISORY  WRITE 71 fd:01:131 0 EOF\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, pid := range lockOwners(b, 0xfd, 1, 131) {
			if pid <= 0 {
				t.Fatal(pid)
			}
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte{4, 200, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		row, err := decodeSnapshot(sealed(recordSnapshot, payload))
		if err != nil {
			return
		}
		again, err := decodeSnapshot(row.encode())
		if err != nil || again != row || row.bytes < 0 {
			t.Fatalf("%+v reads as %+v, %v", row, again, err)
		}
	})
}
