package freeze

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-delve/delve/pkg/proc"
	delvecore "github.com/go-delve/delve/pkg/proc/core"
	"github.com/go-delve/delve/pkg/proc/native"
	"golang.org/x/sys/unix"
)

func dump(t *testing.T, tg *target, how How) string {
	t.Helper()
	if how == Forked {
		needFork(t)
	}
	path := filepath.Join(t.TempDir(), "core")
	var d *Dumped
	patiently(t, func() (err error) {
		d, err = Dump(t.Context(), tg.pid, path, Options{How: how})
		return err
	})
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Size != d.Size || d.Stored > d.Size || d.PID != tg.pid || d.How != how || d.Threads < 2 || st.Mode&0o777 != 0o600 {
		t.Errorf("%+v, file of %d bytes, mode %o, %v", d, st.Size, st.Mode, err)
	}
	return path
}

func TestDumpEachWay(t *testing.T) {
	tg := startChurn(t, 8<<20)
	for _, how := range []How{Forked, Copied, Running} {
		path := dump(t, tg, how)
		i, err := OpenCore(path, "")
		if err != nil {
			t.Fatal(err)
		}
		checkChurn(t, tg, i)
		if i.How() != how || (i.Threads()[0].Regs != nil) != (how != Running) || len(i.Auxv()) == 0 || (i.Stopped() > 0) != (how != Running) {
			t.Errorf("%v: %v, stopped %v", how, i.How(), i.Stopped())
		}
		if how != Running {
			// What stands at one instant is of one instant: the two are written one after the other.
			b := i.Bytes(tg.pair, 16)
			if x, y := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]); x-y > 1 {
				t.Errorf("%v: the pair is %d and %d", how, x, y)
			}
			r := i.Threads()[0].Regs
			if r.CS != 0x33 || i.Bytes(r.RSP, 8) == nil || i.Bytes(r.RIP, 2) == nil {
				t.Errorf("%v: registers %+v", how, r)
			}
		}
		i.Close()
	}
	tg.nothingLeft(t)
}

// TestDebuggersOpen has gdb and Delve read what is written, and tell the same as the process.
func TestDebuggersOpen(t *testing.T) {
	tg := startChurn(t, 8<<20)
	path := dump(t, tg, Forked)
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Error("gdb is not here: .ci/packages test installs it")
	} else {
		out, err := exec.Command("gdb", "-nx", "-batch", "-ex", fmt.Sprintf("x/s %#x", tg.marker), "-ex", "info threads", "-ex", "thread apply all bt", "-ex", "info registers xmm0", tg.cmd.Path, path).CombinedOutput()
		for _, want := range []string{`"sightline\001\002\003"`, "runtime.", fmt.Sprintf("LWP %d", tg.pid), "v2_int64"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("gdb does not say %q: %v\n%s", want, err, out)
			}
		}
	}
	group, err := delvecore.OpenCore(path, tg.cmd.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	if _, err := group.Selected.Memory().ReadMemory(b, tg.marker); err != nil || string(b) != "sightline" {
		t.Errorf("Delve reads %q, %v", b, err)
	}
	all, _, err := proc.GoroutinesInfo(group.Selected, 0, 0)
	if err != nil || len(all) < 3 {
		t.Errorf("Delve finds %d goroutines, %v", len(all), err)
	}
	found := false
	for _, g := range all {
		frames, err := proc.GoroutineStacktrace(group.Selected, g, 50, 0)
		for _, f := range frames {
			found = found || f.Current.Fn != nil && f.Current.Fn.Name == "main.main"
		}
		if err != nil {
			t.Log(err) // of one that was in the middle of a call
		}
	}
	if !found {
		t.Error("Delve finds no goroutine in main.main")
	}
}

// TestForeignCores opens what gdb, Delve and the kernel wrote.
func TestForeignCores(t *testing.T) {
	writers := map[string]func(t *testing.T, tg *target, path string){
		"gcore": func(t *testing.T, tg *target, path string) {
			if _, err := exec.LookPath("gcore"); err != nil {
				t.Fatal("gcore is not here: .ci/packages test installs gdb")
			}
			if out, err := exec.Command("gcore", "-o", path, fmt.Sprint(tg.pid)).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if err := os.Rename(fmt.Sprintf("%s.%d", path, tg.pid), path); err != nil {
				t.Fatal(err)
			}
		},
		"delve":                      func(t *testing.T, tg *target, path string) { delveDump(t, tg, path, 0) },
		"delve platform independent": func(t *testing.T, tg *target, path string) { delveDump(t, tg, path, proc.DumpPlatformIndependent) },
		"kernel":                     kernelDump,
	}
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			var tg *target
			if name == "gcore" { // of a Go program it writes a gigabyte of what that only reserves
				tg = startOdd(t, "idle")
			} else {
				tg = startCore(t)
			}
			path := filepath.Join(t.TempDir(), "core")
			write(t, tg, path)
			if name != "kernel" {
				tg.cmd.Process.Kill()
			}
			i, err := OpenCore(path, "")
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			if _, _, _, err := i.Executable(); err != nil { // Delve's own notes do not name it
				if !strings.HasPrefix(name, "delve") {
					t.Error(err)
				}
				i.Close()
				if i, err = OpenCore(path, tg.cmd.Path); err != nil {
					t.Fatal(err)
				}
			}
			if i.How() != Core || i.PID() != tg.pid || len(i.Threads()) == 0 || i.Threads()[0].TID != tg.pid {
				t.Errorf("%v of process %d, threads %d", i.How(), i.PID(), len(i.Threads()))
			}
			for _, th := range i.Threads() {
				if th.Regs == nil || th.Regs.RIP == 0 || th.Regs.RSP == 0 || i.Bytes(th.Regs.RSP, 8) == nil {
					t.Errorf("thread %d: registers %+v", th.TID, th.Regs)
				}
			}
			if b := i.Bytes(tg.marker, 9); string(b) != "sightline" {
				t.Errorf("at the marker: %q", b)
			}
			file, _, bias, err := i.Executable()
			if err != nil || (bias != 0) != (name == "gcore") { // gcc makes what is loaded anywhere
				t.Fatalf("executable moved by %#x, %v", bias, err)
			}
			x, err := elf.NewFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code := make([]byte, 64)
			if _, err := x.Section(".text").ReadAt(code, 0); err != nil || !bytes.Equal(i.Bytes(bias+x.Section(".text").Addr, 64), code) {
				t.Errorf("the code in the image is not that of the program, %v", err)
			}
		})
	}
}

// startCore starts the churning program in a folder of its own, such that the kernel writes a core of it
// when it dies.
func startCore(t *testing.T) *target {
	return startChurnIn(t, 1<<20, t.TempDir(), "GOTRACEBACK=crash")
}

func delveDump(t *testing.T, tg *target, path string, flags proc.DumpFlags) {
	t.Helper()
	group, err := native.Attach(tg.pid, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Detach(true)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var state proc.DumpState
	group.Selected.Dump(f, flags, &state)
	if state.Err != nil {
		t.Fatal(state.Err)
	}
}

// kernelDump has the kernel write a core where a pattern may be set for it, else where it does already.
func kernelDump(t *testing.T, tg *target, path string) {
	t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.HasPrefix(string(pattern), "|") || strings.Contains(string(pattern), "/") {
		t.Skipf("the kernel's core_pattern is %q: its cores go elsewhere", pattern)
	}
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(tg.pid, unix.RLIMIT_CORE, &limit, nil); err != nil {
		t.Skipf("its limit for cores may not be raised: %v", err)
	}
	unix.Kill(tg.pid, unix.SIGABRT)
	tg.cmd.Wait()
	found, _ := filepath.Glob(filepath.Join(tg.cmd.Dir, "core*"))
	for _, f := range found {
		if head, err := os.ReadFile(f); err == nil && bytes.HasPrefix(head, []byte("\x7fELF")) {
			if err := os.Rename(f, path); err == nil {
				return
			}
		}
	}
	t.Skip("the kernel wrote no core")
}
