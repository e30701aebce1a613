package perfevent

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// aligned is b at an address that is a multiple of 8, as records in a ring are.
func aligned(b []byte) []byte {
	words := make([]uint64, (len(b)+7)/8+1)
	c := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(c, b)
	return c
}

// raw puts a record together from fixed-size values, strings (padded to 8 bytes) and a header.
func raw(typ Type, misc uint16, values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.WriteString(s)
			b.WriteByte(0)
			for b.Len()%8 != 0 {
				b.WriteByte(0)
			}
			continue
		}
		binary.Write(&b, binary.NativeEndian, v)
	}
	h := binary.NativeEndian.AppendUint32(nil, uint32(typ))
	h = binary.NativeEndian.AppendUint16(h, misc)
	h = binary.NativeEndian.AppendUint16(h, uint16(headerSize+b.Len()))
	return aligned(append(h, b.Bytes()...))
}

// id is a sample_id of thread 12 of process 11, time 13, CPU 1, event 99.
var id = [4]uint64{11 | 12<<32, 13, 1, 99}

var someRegisters = [4]uint64{31, 32, 33, 34}

// withRegisters is r as it has someRegisters.
func withRegisters(r Record) Record {
	for i, n := 0, 0; i < 64; i++ {
		if sampleRegisters>>i&1 == 0 {
			continue
		}
		switch i {
		case bitFP:
			r.FP = someRegisters[n]
		case bitSP:
			r.SP = someRegisters[n]
		case bitLink:
			r.Link = someRegisters[n]
		}
		n++
	}
	return r
}

func records() map[string]struct {
	bytes []byte
	want  Record
} {
	buildID := [24]byte{0: 3, 4: 0xab, 5: 0xcd, 6: 0xef}
	return map[string]struct {
		bytes []byte
		want  Record
	}{
		"sample": {
			raw(Sample, unix.PERF_RECORD_MISC_USER, []uint64{99, 11 | 12<<32, 13, 1, 1001001, 3, ^uint64(511), 0x1000, 0x2000, 0, 0}),
			Record{Type: Sample, Misc: unix.PERF_RECORD_MISC_USER, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001, Chain: []uint64{^uint64(511), 0x1000, 0x2000}},
		},
		"sample without addresses": {
			raw(Sample, 0, []uint64{99, 11 | 12<<32, 13, 1, 1001001, 0, 0, 0}),
			Record{Type: Sample, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001},
		},
		"sample with registers": {
			raw(Sample, 0, []uint64{99, 11 | 12<<32, 13, 1, 1001001, 0, 2}, someRegisters[:bits.OnesCount64(sampleRegisters)], []uint64{32, 21, 22, 23, 24, 24}),
			withRegisters(Record{Type: Sample, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001, Top: [4]uint64{21, 22, 23, 0}}),
		},
		"sample of 32-bit code": {
			raw(Sample, 0, []uint64{99, 11 | 12<<32, 13, 1, 1001001, 0, 1}, someRegisters[:bits.OnesCount64(sampleRegisters)], []uint64{0}),
			Record{Type: Sample, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001},
		},
		"sample without chain": {
			raw(Sample, 0, []uint64{99, 11 | 12<<32, 13, 1, 1001001}),
			Record{Type: Sample, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001},
		},
		"mmap2 by inode": {
			raw(Mmap2, 0, uint32(7), uint32(8), []uint64{0x400000, 0x1000, 0x2000}, uint32(8), uint32(1), uint64(77), uint64(5), uint32(5), uint32(2), "/bin/true", id),
			Record{Type: Mmap2, ID: 99, PID: 7, TID: 8, Time: 13, CPU: 1, Addr: 0x400000, Len: 0x1000, Offset: 0x2000, Major: 8, Minor: 1, Inode: 77, Generation: 5, Prot: 5, Name: []byte("/bin/true")},
		},
		"mmap2 by build ID": {
			raw(Mmap2, unix.PERF_RECORD_MISC_MMAP_BUILD_ID, uint32(7), uint32(8), []uint64{0x400000, 0x1000, 0x2000}, buildID, uint32(5), uint32(2), "/bin/true", id),
			Record{Type: Mmap2, Misc: unix.PERF_RECORD_MISC_MMAP_BUILD_ID, ID: 99, PID: 7, TID: 8, Time: 13, CPU: 1, Addr: 0x400000, Len: 0x1000, Offset: 0x2000, BuildID: []byte{0xab, 0xcd, 0xef}, Prot: 5, Name: []byte("/bin/true")},
		},
		"mmap": {
			raw(Mmap, 0, uint32(7), uint32(8), []uint64{0x400000, 0x1000, 0x2000}, "//anon", id),
			Record{Type: Mmap, ID: 99, PID: 7, TID: 8, Time: 13, CPU: 1, Addr: 0x400000, Len: 0x1000, Offset: 0x2000, Name: []byte("//anon")},
		},
		"comm": {
			raw(Comm, 0, uint32(7), uint32(8), "worker", id),
			Record{Type: Comm, ID: 99, PID: 7, TID: 8, Time: 13, CPU: 1, Name: []byte("worker")},
		},
		"fork": {
			raw(Fork, 0, []uint32{20, 11, 21, 12}, uint64(14), id),
			Record{Type: Fork, ID: 99, PID: 20, PPID: 11, TID: 21, PTID: 12, Time: 14, CPU: 1},
		},
		"exit": {
			raw(Exit, 0, []uint32{20, 11, 21, 12}, uint64(14), id),
			Record{Type: Exit, ID: 99, PID: 20, PPID: 11, TID: 21, PTID: 12, Time: 14, CPU: 1},
		},
		"lost": {
			raw(Lost, 0, []uint64{98, 5}, id),
			Record{Type: Lost, ID: 98, PID: 11, TID: 12, Time: 13, CPU: 1, Count: 5},
		},
		"lost samples": {
			raw(LostSamples, 0, uint64(6), id),
			Record{Type: LostSamples, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Count: 6},
		},
		"throttle": {
			raw(Throttle, 0, []uint64{15, 97, 96}, id),
			Record{Type: Throttle, ID: 97, PID: 11, TID: 12, Time: 15, CPU: 1},
		},
		"of no interest": {
			raw(unix.PERF_RECORD_KSYMBOL, 1, uint64(1), uint64(2), "bpf_prog", id),
			Record{Type: unix.PERF_RECORD_KSYMBOL, Misc: 1},
		},
		"of a kernel to come": {
			raw(4711, 1),
			Record{Type: 4711, Misc: 1},
		},
	}
}

func TestDecode(t *testing.T) {
	for name, x := range records() {
		t.Run(name, func(t *testing.T) {
			got := Record{Name: []byte("left over"), Count: 1, Chain: []uint64{1}}
			if err := decode(x.bytes, sampleRegisters, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

// A sample with more registers, and a copy of the stack of which two words could be read.
func TestDecodeStack(t *testing.T) {
	const mask = 1<<bitFP | 1<<bitSP | 1<<2 | 1<<33
	registers := []uint64{31, 32, 33, 34}
	head := []uint64{99, 11 | 12<<32, 13, 1, 1001001, 1, 0x1000}
	want := withRegisters(Record{Type: Sample, ID: 99, PID: 11, TID: 12, Time: 13, CPU: 1, Period: 1001001, Chain: []uint64{0x1000}})
	want.FP, want.SP, want.Link = 32, 33, 0
	if bitSP < bitFP {
		want.FP, want.SP = want.SP, want.FP
	}
	want.Registers = registers
	want.Stack = words([]uint64{21, 22})
	want.Top = [4]uint64{21, 22}
	var got Record
	b := raw(Sample, 0, head, uint64(2), registers, []uint64{32, 21, 22, 23, 24, 16})
	if err := decode(b, mask, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	// Of 32-bit code, and of a kernel thread, there are none.
	for _, b := range [][]byte{
		raw(Sample, 0, head, uint64(1), registers, []uint64{16, 21, 22, 16}),
		raw(Sample, 0, head, uint64(0), uint64(0)),
	} {
		if err := decode(b, mask, &got); err != nil || got.Registers != nil || got.Stack != nil || got.SP != 0 {
			t.Errorf("decoded %+v, %v", got, err)
		}
	}
	for n := len(b) - 8; n >= headerSize; n -= 8 {
		short := aligned(b[:n])
		binary.NativeEndian.PutUint16(short[6:], uint16(n))
		if err := decode(short, mask, &got); err == nil && n != headerSize+40 {
			t.Errorf("decoded %d of %d bytes", n, len(b))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := raw(Sample, 0, []uint64{99, 0, 0, 0, 0, 2, 0x1000})
	short := raw(Fork, 0, id)
	size := raw(Comm, 0, uint32(1), uint32(1), "x", id)
	size[6]++
	for name, x := range map[string]struct {
		b    []byte
		says string
	}{
		"nothing":           {nil, "a header has 8"},
		"half a header":     {make([]byte, 4), "a header has 8"},
		"wrong size":        {size, "its header says"},
		"chain beyond end":  {long, "no room for a chain of 2"},
		"sample too short":  {raw(Sample, 0, []uint64{1, 2}), "less than"},
		"fork without body": {short, "less than"},
	} {
		if err := decode(x.b, sampleRegisters, new(Record)); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, x.says)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, x := range records() {
		f.Add(x.bytes, uint64(sampleRegisters))
	}
	f.Add(raw(Sample, 0, []uint64{99, 0, 13, 1, 1001001, 0, 2}, []uint64{31, 32, 33, 34}, []uint64{32, 21, 22, 23, 24, 16}), uint64(sampleRegisters|3))
	f.Fuzz(func(t *testing.T, b []byte, mask uint64) {
		b = aligned(b)
		var r, again Record
		err := decode(b, mask, &r)
		if err != nil {
			return
		}
		for _, part := range [][]byte{r.Name, r.BuildID, words(r.Chain), words(r.Registers), r.Stack} {
			if len(part) > 0 && !within(part, b) {
				t.Errorf("record %+v has a part outside of its %d bytes", r, len(b))
			}
		}
		if decode(b, mask, &again); !cmp.Equal(r, again) {
			t.Errorf("decoded twice: %+v and %+v", r, again)
		}
	})
}

func words(w []uint64) []byte {
	if len(w) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 8*len(w))
}

func within(part, whole []byte) bool {
	a, b := uintptr(unsafe.Pointer(&part[0])), uintptr(unsafe.Pointer(&whole[0]))
	return a >= b && a+uintptr(len(part)) <= b+uintptr(len(whole))
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string][]int{
		"0": {0}, "0-3": {0, 1, 2, 3}, "0-1,4,6-7": {0, 1, 4, 6, 7},
		"": nil, "x": nil, "3-1": nil, "0-": nil, "1,1": nil, "-1": nil, "0-99999999999": nil,
	} {
		got, err := parseCPUs(text)
		if want == nil && err == nil || want != nil && !cmp.Equal(got, want) {
			t.Errorf("parseCPUs(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}
