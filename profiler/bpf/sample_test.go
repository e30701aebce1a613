package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// encode is decode's reverse, by way of the struct that was generated from the C.
func encode(t testing.TB, s *Sample) []byte {
	t.Helper()
	head := samplerSampleHeader{
		Time: s.Time, Period: s.Period, Pid: s.PID, Tid: s.TID, Cpu: uint16(s.CPU),
		KernelDepth: uint16(len(s.Kernel)), UserDepth: uint16(len(s.User)),
		Sp: s.SP, Fp: s.FP, Link: s.Link, Top: s.Top, Past: s.Past, Same: uint32(s.Same),
	}
	var registers []uint64
	if len(s.Stack) > 0 {
		head.StackBytes = uint32(len(s.Stack))
		registers = make([]uint64, registerWords)
		for i, at := range registerOrder {
			registers[at] = s.Registers[i]
		}
	}
	head.Other, head.OtherBytes = s.OtherSP, uint32(len(s.Other))
	for flag, set := range map[uint16]bool{flagOutside: s.Outside, flagKernelCut: s.KernelCut, flagUserCut: s.UserCut} {
		if set {
			head.Flags |= flag
		}
	}
	var b bytes.Buffer
	for _, part := range []any{head, s.Kernel, s.User, registers, s.Stack, s.Other} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

var examples = []Sample{
	{},
	{Time: 1, Period: 2, PID: 3, TID: 4, CPU: 5, Kernel: []uint64{6, 7}, User: []uint64{8, 9, 10}, SP: 11, FP: 12, Link: 13, Top: [4]uint64{14, 15, 16, 17}},
	{Time: 1 << 63, Period: 1<<64 - 1, PID: 1<<32 - 1, TID: 1 << 31, CPU: 65535, User: []uint64{contextMarks - 1}, UserCut: true},
	{User: []uint64{8}, SP: 11, Registers: slices.Repeat([]uint64{77}, len(registerOrder)), Stack: []byte("thirteen byte"), Past: 79, Same: MaxPast},
	{User: []uint64{8}, SP: 11, Registers: slices.Repeat([]uint64{77}, len(registerOrder)), Stack: []byte("one"), OtherSP: 78, Other: []byte("other")},
	{Kernel: slices.Repeat([]uint64{0xffffffff81000000}, MaxDepth), KernelCut: true, Outside: true},
}

func TestDecode(t *testing.T) {
	reused := Sample{PID: 99, Outside: true, KernelCut: true, UserCut: true, Kernel: []uint64{1, 2, 3, 4}, User: []uint64{5}}
	for i, want := range examples {
		if err := decode(encode(t, &want), &reused); err != nil {
			t.Errorf("example %d: %v", i, err)
		}
		got := reused
		got.Kernel, got.User = slices.Clone(got.Kernel), slices.Clone(got.User)
		if len(got.Kernel) == 0 {
			got.Kernel = nil
		}
		if len(got.User) == 0 {
			got.User = nil
		}
		if got.Registers, got.Stack = slices.Clone(got.Registers), slices.Clone(got.Stack); len(got.Stack) == 0 {
			got.Registers, got.Stack = nil, nil
		}
		got.Other = slices.Clone(got.Other)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Sample{})); diff != "" {
			t.Errorf("example %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := encode(t, &examples[1])
	for n := range len(whole) {
		s := Sample{PID: 99}
		if err := decode(whole[:n], &s); err == nil {
			t.Errorf("decoded %d of %d bytes", n, len(whole))
		} else if s.PID != 99 {
			t.Errorf("%d bytes: changed the sample in spite of %v", n, err)
		}
	}
	want := fmt.Sprintf("BPF sample of %d bytes: its header, 2 kernel and 3 user addresses and 0 and 0 bytes of stacks have %d", len(whole)+1, len(whole))
	if err := decode(append(whole, 0), new(Sample)); err == nil || err.Error() != want {
		t.Errorf("a byte too many: %v, want %s", err, want)
	}
}

func TestDecodeLeavesMarksOut(t *testing.T) {
	raw := encode(t, &Sample{Kernel: []uint64{1<<64 - 128, 1, 2}, User: []uint64{1<<64 - 512, contextMarks, 3}})
	var s Sample
	if err := decode(raw, &s); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Kernel, []uint64{1, 2}) || !slices.Equal(s.User, []uint64{3}) {
		t.Errorf("kernel %x, user %x", s.Kernel, s.User)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	raw := encode(t, &examples[1])
	s := Sample{Kernel: make([]uint64, 8), User: make([]uint64, 8)}
	if n := testing.AllocsPerRun(100, func() { _ = decode(raw, &s) }); n != 0 {
		t.Errorf("%v allocations per record", n)
	}
}

// Whatever the bytes: an error, or a sample that is these very bytes, but for marks and for flags
// that mean nothing.
func FuzzDecode(f *testing.F) {
	for i := range examples {
		f.Add(encode(f, &examples[i]))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, headerSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Sample
		if err := decode(raw, &s); err != nil {
			return
		}
		raw = slices.Clone(raw)
		raw[26] &= flagOutside | flagKernelCut | flagUserCut
		raw[27] = 0
		kernel := int(binary.LittleEndian.Uint16(raw[28:]))
		if len(s.Other) == 0 {
			clear(raw[96:104]) // where nothing is
		}
		if len(s.Stack) == 0 {
			clear(raw[104:112])
		}
		binary.LittleEndian.PutUint32(raw[108:], uint32(s.Same)) // which is bounded
		addresses := kernel + int(binary.LittleEndian.Uint16(raw[30:]))
		if len(s.Stack) > 0 { // of the registers some are left out
			for i := range registerWords {
				if !slices.Contains(registerOrder[:], i) {
					clear(raw[headerSize+8*(addresses+i):][:8])
				}
			}
		}
		for i := addresses; i > 0; i-- {
			at := headerSize + 8*(i-1)
			if binary.LittleEndian.Uint64(raw[at:]) < contextMarks {
				continue
			}
			raw = slices.Delete(raw, at, at+8)
			count := 30
			if i <= kernel {
				count = 28
			}
			binary.LittleEndian.PutUint16(raw[count:], binary.LittleEndian.Uint16(raw[count:])-1)
		}
		if diff := cmp.Diff(raw, encode(t, &s)); diff != "" {
			t.Errorf("encoded again (-raw +encoded):\n%s", diff)
		}
	})
}

// The objects of both architectures are what the Go code takes them for. Only the one of this
// machine can be loaded here.
func TestObjects(t *testing.T) {
	if n := unsafe.Sizeof(samplerSampleHeader{}); n != headerSize {
		t.Errorf("struct sample_header of the generated Go has %d bytes, decode reads %d", n, headerSize)
	}
	for arch, registers := range map[string]uint32{
		"x86":   21 * 8, // sizeof(struct pt_regs)
		"arm64": 34 * 8, // sizeof(struct user_pt_regs)
	} {
		file := "sampler_" + arch + "_bpfel.o"
		spec, err := ebpf.LoadCollectionSpec(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		program := spec.Programs[samplerProgOnSample]
		if program.Type != ebpf.PerfEvent || program.License != "Dual MIT/GPL" || program.ByteOrder != binary.LittleEndian {
			t.Errorf("%s: program of type %v, licence %q, %v", file, program.Type, program.License, program.ByteOrder)
		}
		if got := spec.Maps[samplerMapScratch].ValueSize; got != headerSize+2*8*MaxDepth+registers+2*MaxCopyBytes+4096+16 {
			t.Errorf("%s: scratch of %d bytes does not hold two stacks of %d addresses, the registers and the copy of a stack", file, got, MaxDepth)
		}
		if p := spec.Maps[samplerMapPasts]; p.MaxEntries != MaxPastThreads || p.ValueSize != 8+16*MaxPast {
			t.Errorf("%s: stacks of the past of %d threads with %d bytes each", file, p.MaxEntries, p.ValueSize)
		}
		var header *btf.Struct
		if err := spec.Types.TypeByName("sample_header", &header); err != nil || header.Size != headerSize {
			t.Errorf("%s: sample_header %v, %v", file, header, err)
		}
		var context *btf.Struct
		if err := spec.Types.TypeByName("event_context", &context); err != nil || context.Members[1].Name != "sample_period" ||
			context.Members[1].Offset.Bytes() != registers {
			t.Errorf("%s: event_context %v, %v: want sample_period at %d", file, context, err, registers)
		}
		for _, name := range []string{samplerVarDepth, samplerVarWakeAt, samplerVarPidNsDev, samplerVarPidNsIno, samplerVarCopies} {
			if v := spec.Variables[name]; v == nil || v.Size() != 8 {
				t.Errorf("%s: no variable %s of 8 bytes", file, name)
			}
		}
		// Whatever ends in the object from the machine that made it would make it differ elsewhere.
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		for _, path := range []string{"/home/", "/root/", "/tmp/", "/work", "clang version"} {
			if bytes.Contains(raw, []byte(path)) {
				t.Errorf("%s contains %q", file, path)
			}
		}
	}
}

func TestRingBytes(t *testing.T) {
	for _, test := range []struct{ want, cpus, page, bytes int }{
		{0, 1, 4096, 1 << 20},
		{0, 2, 4096, 1 << 20},
		{0, 12, 4096, 4 << 20},
		{0, 1024, 4096, 64 << 20},
		{1, 2, 4096, 4096},
		{1, 2, 65536, 65536},
		{4097, 2, 4096, 8192},
		{1 << 20, 2, 4096, 1 << 20},
		{1 << 40, 2, 4096, 1 << 30},
		{-1, 2, 4096, 1 << 20},
	} {
		if got := ringBytes(test.want, test.cpus, test.page); got != test.bytes {
			t.Errorf("ringBytes(%d, %d CPUs, page of %d) = %d, want %d", test.want, test.cpus, test.page, got, test.bytes)
		}
	}
}

func TestStackDepth(t *testing.T) {
	if got := stackDepth(3); got != 3 {
		t.Errorf("stackDepth(3) = %d", got)
	}
	if all, got := stackDepth(0), stackDepth(1<<20); got != all || got > MaxDepth || got < 1 {
		t.Errorf("stackDepth(1<<20) = %d, stackDepth(0) = %d", got, all)
	}
}
