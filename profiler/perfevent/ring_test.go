package perfevent

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A kernelSide writes to a ring of ordinary memory as the kernel does.
type kernelSide struct {
	*Ring
	lost int
}

func newKernelSide(size int, start uint64) *kernelSide {
	head, tail := start, start
	r := &Ring{data: aligned(make([]byte, size)), head: &head, tail: &tail}
	r.next.pos, r.scan.pos, r.last, r.limit = start, start, start, start
	return &kernelSide{Ring: r}
}

func (k *kernelSide) write(b []byte) bool {
	if *k.head-*k.tail+uint64(len(b)) > uint64(len(k.data)) {
		k.lost++
		return false
	}
	for i, c := range b {
		k.data[(*k.head+uint64(i))%uint64(len(k.data))] = c
	}
	*k.head += uint64(len(b))
	return true
}

func sampleOf(n uint64, depth int) []byte {
	values := []uint64{99, 0, n, 0, 1, uint64(depth)}
	for i := range depth {
		values = append(values, n+uint64(i))
	}
	return raw(Sample, 0, append(values, 0, 0)) // no registers
}

// A ring gives what was written, in order and once, through wrap-around, in whatever portions it is
// read, and memory that was not released is not overwritten.
func TestRingGivesWhatWasWritten(t *testing.T) {
	var samples [40][]byte // by depth; stamped with their number when written
	for depth := range samples {
		samples[depth] = sampleOf(0, depth)
	}
	for _, start := range []uint64{0, 1<<64 - 1024} { // positions may wrap, too
		rnd := rand.New(rand.NewPCG(1, 2))
		k := newKernelSide(4096, start)
		var written, read, scanned uint64
		write := func() bool {
			x := samples[rnd.IntN(len(samples))]
			binary.NativeEndian.PutUint64(x[headerSize+16:], written)
			for at := headerSize + 48; at < len(x)-16; at += 8 {
				binary.NativeEndian.PutUint64(x[at:], written)
			}
			if !k.write(x) {
				return false
			}
			written++
			return true
		}
		for range 20000 {
			for rnd.IntN(3) > 0 && write() {
			}
			k.Fill()
			var r Record
			for rnd.IntN(4) > 0 && k.Scan(&r) {
				if r.Time != scanned {
					t.Fatalf("Scan gave record %d, want %d", r.Time, scanned)
				}
				scanned++
			}
			for rnd.IntN(8) > 0 && k.Next(&r) {
				if r.Time != read {
					t.Fatalf("Next gave record %d, want %d", r.Time, read)
				}
				read++
				if rnd.IntN(2) == 0 {
					k.Release()
				}
				if rnd.IntN(20) == 0 {
					for write() { // the kernel takes all the room it is given
					}
				}
				for _, a := range r.Chain {
					if a != r.Time {
						t.Fatalf("record %d has address %d: it was overwritten", r.Time, a)
					}
				}
			}
			scanned = max(scanned, read)
		}
		k.Fill()
		for r := (Record{}); k.Next(&r); read++ {
		}
		if read != written || k.lost == 0 || k.Broken() != 0 {
			t.Errorf("read %d of %d records with %d lost, %d bytes not understood", read, written, k.lost, k.Broken())
		}
	}
}

func TestReleaseKeepsTheLastRecord(t *testing.T) {
	k := newKernelSide(1024, 0)
	a, b := sampleOf(1, 3), sampleOf(2, 3)
	k.write(a)
	k.write(b)
	if got, want := k.Fill(), len(a)+len(b); got != want {
		t.Errorf("Fill() = %d, want %d", got, want)
	}
	var r Record
	for _, want := range []uint64{0, uint64(len(a))} {
		if !k.Next(&r) {
			t.Fatal("no record")
		}
		if k.Release(); *k.tail != want {
			t.Errorf("released up to %d, want %d", *k.tail, want)
		}
	}
	if k.Next(&r) {
		t.Error("a third record")
	}
	if k.Release(); *k.tail != *k.head {
		t.Errorf("released up to %d, want all %d", *k.tail, *k.head)
	}
}

// What makes no sense is skipped and counted, and what is written after it is read.
func TestRingSkipsNonsense(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"size 0":         func(b []byte) { binary.NativeEndian.PutUint16(b[6:], 0) },
		"size 12":        func(b []byte) { binary.NativeEndian.PutUint16(b[6:], 12) },
		"beyond the end": func(b []byte) { binary.NativeEndian.PutUint16(b[6:], 8000) },
		"bad contents":   func(b []byte) { binary.NativeEndian.PutUint64(b[48:], 1<<40) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernelSide(1024, 512)
			k.write(sampleOf(1, 2))
			bad := sampleOf(2, 2)
			damage(bad)
			k.write(bad)
			k.Fill()
			var got []uint64
			var r Record
			for k.Scan(&r) {
			}
			for k.Next(&r) {
				got = append(got, r.Time)
			}
			k.Release()
			k.write(sampleOf(3, 2))
			k.Fill()
			for k.Next(&r) {
				got = append(got, r.Time)
			}
			if diff := cmp.Diff([]uint64{1, 3}, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if k.Broken() != uint64(len(bad)) {
				t.Errorf("Broken() = %d, want %d", k.Broken(), len(bad))
			}
		})
	}
}

func FuzzRing(f *testing.F) {
	for _, x := range records() {
		f.Add(x.bytes, uint16(0))
		f.Add(append(sampleOf(1, 4), x.bytes...), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, b []byte, start uint16) {
		const size = 1024
		k := newKernelSide(size, uint64(start)&^7)
		for len(b) > 0 {
			n := min(len(b), size)
			k.write(b[:n])
			b = b[n:]
			k.Fill()
			var r Record
			count := 0
			for k.Scan(&r) {
				count++
			}
			for k.Next(&r) {
				count--
			}
			if count != 0 {
				t.Fatalf("Scan and Next differ by %d records", count)
			}
			k.Release()
			if *k.tail != *k.head {
				t.Fatalf("released up to %d of %d", *k.tail, *k.head)
			}
		}
	})
}

// How long one record takes to read, with a stack of usual depth.
func BenchmarkRead(b *testing.B) {
	for _, depth := range []int{20, 100} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			k := newKernelSide(1<<20, 0)
			x := sampleOf(1, depth)
			n := 0
			for k.write(x) {
				n++
			}
			head := *k.head
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				k.next.pos, k.last, *k.tail, *k.head = 0, 0, 0, head
				k.Fill()
				var r Record
				for k.Next(&r) {
				}
				k.Release()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
