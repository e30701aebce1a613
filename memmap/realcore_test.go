package memmap

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// crasher builds testdata/crash.c.
func crasher(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crash")
	if out, err := exec.Command("gcc", "-O0", "-g", "-pthread", "-o", path, "testdata/crash.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// checkCore reads a core file of the program that said where things are; lacking are those whose memory it does
// not have.
func checkCore(t *testing.T, path string, said map[string]uint64, lacking ...string) *Snapshot {
	t.Helper()
	s := readCore(t, path)
	has := map[string]bool{}
	for _, name := range lacking {
		has[name] = true
	}
	want := map[string]Kind{"code": Image, "data": Image, "file": Image, "heap": Heap, "large": Heap, "arena": Heap, "stack": Stack}
	for name, kind := range want {
		i := s.RegionOf(said[name])
		switch {
		case i < 0:
			t.Errorf("%s, at %x, is in no region", name, said[name])
		case has[name]: // what it is cannot be told without what is in it
			if r := &s.Regions[i]; kind != Image && r.Resident != 0 {
				t.Errorf("%s is not in the core, and %+v", name, r)
			}
		case s.Regions[i].Kind != kind:
			t.Errorf("%s is %s (%s), want %s", name, s.Regions[i].Kind, s.Regions[i].Label(), kind)
		}
	}
	var b bytes.Buffer
	if err := s.Write(&b); err != nil || !json.Valid(b.Bytes()) {
		t.Errorf("it is no JSON: %v", err)
	}
	if len(s.Notes) == 0 || s.Status.Threads != 2 {
		t.Errorf("%d threads, notes %q", s.Status.Threads, s.Notes)
	}
	return s
}

// TestKernelCore reads what the kernel writes of a program that aborts, whole and with coredump_filter(5). How
// the kernel names cores belongs to the machine and is left as it is.
func TestKernelCore(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if p := strings.TrimSpace(string(pattern)); err != nil || p == "" || strings.ContainsAny(p, "|/") {
		t.Skipf("the kernel does not write core files into the folder of a program here: %q, %v", pattern, err)
	}
	program := crasher(t)
	for filter, lacking := range map[string][]string{"0x33": {}, "0x1": {}, "0x0": {"heap", "large", "arena", "stack"}} {
		t.Run(filter, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command("sh", "-c", `ulimit -c unlimited && echo "$1" > /proc/self/coredump_filter && exec "$0" abort`, program, filter)
			cmd.Dir = dir
			out, err := cmd.Output()
			if err == nil {
				t.Fatal("it did not abort")
			}
			cores, _ := filepath.Glob(filepath.Join(dir, "*"))
			if len(cores) != 1 {
				t.Skipf("the kernel wrote no core file: %q (%s)", cores, err)
			}
			s := checkCore(t, cores[0], places(out), lacking...)
			if filter == "0x0" && !strings.Contains(strings.Join(s.Notes, " "), "not written to the core file") {
				t.Errorf("notes %q", s.Notes)
			}
			if filter == "0x33" {
				needles(t, cores[0], s)
			}
		})
	}
}

// TestDebuggerCore reads what gdb writes of a program that goes on.
func TestDebuggerCore(t *testing.T) {
	if _, err := exec.LookPath("gcore"); err != nil {
		t.Skip("gdb is not installed")
	}
	cmd := exec.Command(crasher(t))
	x := start(t, cmd)
	prefix := filepath.Join(t.TempDir(), "core")
	until(t, func() error {
		if out, err := exec.Command("gcore", "-o", prefix, strconv.Itoa(x.pid)).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	path := fmt.Sprintf("%s.%d", prefix, x.pid)
	s := checkCore(t, path, x.said)
	needles(t, path, s)
	live := take(t, x.pid)
	for _, name := range []string{"heap", "arena", "large", "stack"} {
		a, b := s.Regions[s.RegionOf(x.said[name])], live.Regions[live.RegionOf(x.said[name])]
		if a.Start != b.Start || a.Size != b.Size {
			t.Errorf("%s is from %x on, %d bytes, in the core; %x, %d in the process", name, a.Start, a.Size, b.Start, b.Size)
		}
	}
}

// needles looks for texts in a core, which are in blocks of malloc.
func needles(t *testing.T, path string, s *Snapshot) {
	t.Helper()
	m, err := CoreMemory(path, CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	found := 0
	err = m.Strings(t.Context(), s, StringOptions{Pattern: regexp.MustCompile(`^needle-\d+ in a block$`)}, func(x String) bool {
		found++
		if x.Owner == nil || x.Owner.What != "block" || x.Owner.Address != x.Address || x.Owner.Size != 104 {
			t.Errorf("%q is in %+v", x.Text, x.Owner)
		}
		return true
	})
	if err != nil || found != 50 {
		t.Errorf("%d texts in the core, %v", found, err)
	}
}

// places are what the program said.
func places(out []byte) map[string]uint64 {
	said := map[string]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if name, at, ok := strings.Cut(lines.Text(), " "); ok {
			said[name], _ = strconv.ParseUint(at, 16, 64)
		}
	}
	return said
}
