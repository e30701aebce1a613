package process

import (
	"bufio"
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// countersProgram has 1,234 goroutines and a heap, and says so.
const countersProgram = `package main

import (
	"fmt"
	"os"
	"runtime"
)

var keep [][]byte

func main() {
	for range 1234 {
		go func() { select {} }()
	}
	for range 2000 { // that have ended
		done := make(chan bool)
		go func() { close(done) }()
		<-done
	}
	for range 32 {
		keep = append(keep, make([]byte, 1<<20))
	}
	runtime.GC()
	fmt.Println(runtime.NumGoroutine())
	os.Stdin.Read(make([]byte, 1))
}
`

func TestGoCounters(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(countersProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags []string
		why   string
	}{
		{"plain", nil, ""}, {"pie", []string{"-buildmode=pie"}, ""}, {"stripped", []string{"-ldflags=-s -w"}, "stripped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := filepath.Join(dir, c.name)
			build := exec.Command("go", append(append([]string{"build", "-o", bin}, c.flags...), filepath.Join(dir, "main.go"))...)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if c.name == "plain" {
				checkLayout(t, bin)
			}
			cmd := exec.Command(bin)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { in.Close(); cmd.Wait() }()
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var want int
			if _, err := fmt.Sscan(line, &want); err != nil || want < 1235 {
				t.Fatal(line, err)
			}
			sampler, err := NewSampler(Options{Want: GoRuntime, Only: []int{cmd.Process.Pid}})
			if err != nil {
				t.Fatal(err)
			}
			list, err := sampler.Look(t.Context())
			if err != nil || len(list.Processes) != 1 {
				t.Fatal(list, err)
			}
			p := list.Processes[0]
			if !p.IsGo || !p.Has(GoRuntime) || p.Arch != runtime.GOARCH || !strings.HasPrefix(runtime.Version(), p.Go.Version) {
				t.Errorf("it is %+v", p)
			}
			if c.why != "" {
				if !strings.Contains(p.Go.Why, c.why) || p.Go.Goroutines != 0 {
					t.Errorf("it is %+v", p.Go)
				}
				return
			}
			if p.Go.Why != "" || p.Go.Goroutines != want || p.Go.Heap < 32<<20 || p.Go.Heap > 40<<20 {
				t.Errorf("it counts %d goroutines, and is %+v", want, p.Go)
			}
		})
	}
}

// checkLayout compares what is known of this release with the debug information of a program it built.
func checkLayout(t *testing.T, bin string) {
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[string]uint64{}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if e.Tag == dwarf.TagStructType && (name == "runtime.g" || name == "runtime.gcControllerState" || name == "runtime.schedt") {
			typ, err := d.Type(e.Offset)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range typ.(*dwarf.StructType).Field {
				offsets[name+"."+field.Name] = uint64(field.ByteOffset)
			}
		}
		if e.Tag != dwarf.TagCompileUnit {
			r.SkipChildren()
		}
	}
	minor, ok := goMinor(runtime.Version())
	want, known := goLayouts[minor]
	if !ok || !known {
		t.Fatalf("no layout of %s is known: g.atomicstatus %d, gcControllerState.heapLive %d, schedt.ngsys %d", runtime.Version(),
			offsets["runtime.g.atomicstatus"], offsets["runtime.gcControllerState.heapLive"], offsets["runtime.schedt.ngsys"])
	}
	got := goLayout{offsets["runtime.g.atomicstatus"], offsets["runtime.gcControllerState.heapLive"], offsets["runtime.schedt.ngsys"]}
	if got != want {
		t.Errorf("%s has %+v, and it is taken for %+v", runtime.Version(), got, want)
	}
}

func TestGoMinor(t *testing.T) {
	for version, want := range map[string]int{"go1.26.1": 26, "go1.27rc1": 27, "go1.9": 9, "devel go1.28-abc": -1, "": -1, "go1.": -1, "go2.1": -1} {
		if got, ok := goMinor(version); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q is %d, %t", version, got, ok)
		}
	}
}

// fakeMemory is bytes from an address on.
func fakeMemory(base uint64, data []byte) func([]uint64, []byte) error {
	return func(at []uint64, to []byte) error {
		size := len(to) / len(at)
		for i, addr := range at {
			if addr < base || addr-base > uint64(len(data)) || uint64(len(data))-(addr-base) < uint64(size) {
				return unix.EFAULT
			}
			copy(to[i*size:(i+1)*size], data[addr-base:])
		}
		return nil
	}
}

func FuzzCounters(f *testing.F) {
	data := make([]byte, 512)
	binary.LittleEndian.PutUint64(data[0:], 1)
	binary.LittleEndian.PutUint64(data[8:], 0x1000+64)
	binary.LittleEndian.PutUint64(data[64:], 0x1000+128)
	f.Add(data)
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &program{layout: goLayouts[26], symbols: map[string]uint64{
			"runtime.allglen": 0x1000, "runtime.allgptr": 0x1008, "runtime.gcController": 0x1010, "runtime.sched": 0x1020,
		}}
		n, heap, err := readCounters(fakeMemory(0x1000, data), p, 0)
		if err != nil {
			if n != 0 || heap != 0 || !errors.Is(err, errCounters) && !errors.Is(err, unix.EFAULT) {
				t.Errorf("%d, %d, %v", n, heap, err)
			}
		} else if n < 0 || n > len(data) || heap < 0 {
			t.Errorf("%d goroutines, %d bytes", n, heap)
		}
	})
}

func FuzzProgram(f *testing.F) {
	if exe, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(exe[:min(len(exe), 8<<10)])
	}
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p := readProgram(bytes.NewReader(data)); p == nil || p.why != "" && !p.isGo {
			t.Errorf("%+v", p)
		}
	})
}
