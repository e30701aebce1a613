package unwind

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The whole way from perf_event_open to frames, as a recorder goes it: an event that copies the
// registers of PerfRegisters and the stack, its ring, the samples in it, a Space by the process's
// mappings, and walks. A program that sorts, formats and calls is sampled; its stacks are whole.
func TestWalkPerfSamples(t *testing.T) {
	onlyAMD64(t)
	const (
		machine    = elf.EM_X86_64
		stackBytes = 16 << 10
		ringPages  = 256 // a power of two
		wanted     = 300
	)
	program := compile(t, "gcc", "walk.c", "-pthread")
	cmd := exec.Command(program, "spin")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	p := &process{t: t, pid: cmd.Process.Pid, out: bufio.NewReader(out)}
	p.lines() // it runs
	p.readMaps()

	mask := PerfRegisters(machine)
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:            uint64(time.Millisecond),
		Sample_type:       unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER,
		Sample_regs_user:  mask,
		Sample_stack_user: stackBytes,
		Bits:              unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}, p.pid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("perf_event_open is not allowed here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	page := unix.Getpagesize()
	ring, err := unix.Mmap(fd, 0, (1+ringPages)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Skipf("the ring cannot be mapped: %v", err)
	}
	defer unix.Munmap(ring)
	head := (*uint64)(unsafe.Pointer(&ring[1024])) // struct perf_event_mmap_page: data_head, data_tail
	tail := (*uint64)(unsafe.Pointer(&ring[1032]))
	data := ring[page:]

	w := newWalker(t)
	var space Space = p.maps
	var s Sample
	var frames []Frame
	var record, values []byte
	registers := make([]uint64, 0, 64)
	reasons := make(map[Reason]int)
	functions := make(map[string]int)
	samples, depth := 0, 0
	for deadline := time.Now().Add(60 * time.Second); samples < wanted && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for *tail < atomic.LoadUint64(head) {
			// struct perf_event_header: type u32, misc u16, size u16; a record may go over the ring's end.
			at := int(*tail % uint64(len(data)))
			size := int(binary.NativeEndian.Uint16(data[at+6:]))
			record = append(record[:0], data[at:min(at+size, len(data))]...)
			record = append(record, data[:size-len(record)]...)
			atomic.StoreUint64(tail, *tail+uint64(size))
			if binary.NativeEndian.Uint32(record) != unix.PERF_RECORD_SAMPLE {
				continue
			}
			// pid, tid u32 · abi u64 · registers, if abi is not 0 · size u64 · bytes · how many of them are
			// valid u64, if size is not 0 (perf_output_sample, kernel/events/core.c).
			u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(record[at:]) }
			if u64(16) != 2 { // PERF_SAMPLE_REGS_ABI_64
				continue
			}
			registers = registers[:0]
			n := 24
			for left := mask; left != 0; left &= left - 1 {
				registers = append(registers, u64(n))
				n += 8
			}
			copied := int(u64(n))
			if copied == 0 {
				continue
			}
			values = record[n+8:][:u64(n+8+copied)]
			s.Registers.SetPerf(machine, mask, registers)
			s.Stack = Stack{s.Registers.Value[amd64SP], values}
			var end End
			frames, end = w.Walk(&s, space, frames[:0])
			samples++
			depth += len(frames)
			reasons[end.Reason]++
			if end.Reason != Root {
				t.Logf("%v at %s: %v", end.Reason, p.maps.name(Frame{PC: end.PC, Return: true}), p.maps.names(frames))
			}
			seen := map[string]bool{}
			for _, name := range p.maps.names(frames) {
				if name, _, _ = strings.Cut(name, "@"); !seen[name] {
					seen[name] = true
					functions[name]++
				}
			}
		}
	}
	t.Logf("%d samples, %d frames: %v; main in %d, sorted in %d", samples, depth, reasons, functions["main"], functions["sorted"])
	if samples < 50 {
		t.Fatalf("%d samples in 20 s", samples)
	}
	if whole := reasons[Root]; whole*100 < samples*99 {
		t.Errorf("%d of %d stacks are whole", whole, samples)
	}
	if functions["main"]*100 < samples*99 || functions["sorted"] == 0 || functions["compare"] == 0 {
		names := make([]string, 0, len(functions))
		for n := range functions {
			names = append(names, n)
		}
		slices.Sort(names)
		t.Errorf("main in %d of %d samples; functions %v", functions["main"], samples, names)
	}
}
