package profiler

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestParseStatus(t *testing.T) {
	const text = "Name:\tnode\nUmask:\t0022\nPid:\t4711\nPPid:\t1\nUid:\t1000\t1001\t1002\t1003\nGid:\t0\t0\t0\t0\nNSpid:\t4711\t33\t7\nThreads:\t2\n"
	if own, uid, ok := parseStatus([]byte(text)); own != 7 || uid != 1003 || !ok {
		t.Errorf("process %d of user %d, %v", own, uid, ok)
	}
	old := "Pid:\t4711\nUid:\t0\t0\t0\t0\n" // before Linux 4.1
	if own, uid, ok := parseStatus([]byte(old)); own != 4711 || uid != 0 || !ok {
		t.Errorf("process %d of user %d, %v", own, uid, ok)
	}
	for _, bad := range []string{"", "Pid:\t1\n", "Uid:\t0\t0\t0\t0\n", "Pid:\t-1\nUid:\t0\t0\t0\t0\n", "Pid:\t1\nUid:\t0\t0\t0\n", "Pid:\t1\nUid:\t0\t0\t0\tx\n"} {
		if own, uid, ok := parseStatus([]byte(bad)); ok {
			t.Errorf("%q is process %d of user %d", bad, own, uid)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte("Pid:\t4711\nUid:\t1\t2\t3\t4\nNSpid:\t4711\t7\n"), []byte("7 (a) b) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 12345 1"))
	f.Fuzz(func(t *testing.T, status, stat []byte) {
		if own, uid, ok := parseStatus(status); ok && own <= 0 || !ok && (own != 0 || uid != 0) {
			t.Errorf("process %d of user %d, %v", own, uid, ok)
		}
		if ticks, ok := parseBegun(stat); !ok && ticks != 0 {
			t.Errorf("%d ticks, %v", ticks, ok)
		}
	})
}

func TestIsDump(t *testing.T) {
	for name, want := range map[string]bool{
		"/app/jit-12.dump": true, "/tmp/jit-1.dump": true, "/tmp/jit-.dump": false, "/tmp/jit-12.dump (deleted)": false,
		"/tmp/jit-x.dump": false, "/tmp/perf-12.map": false, "//anon": false, "": false,
	} {
		if isDump(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// This process is described as it is, and has no root of its own.
func TestDescribe(t *testing.T) {
	r := newRoots()
	defer r.close()
	p, err := r.describe(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.UID != uint32(os.Geteuid()) || p.Root != "" || p.Tmp != "" || p.Own <= 0 {
		t.Errorf("%+v", p)
	}
	if since := time.Since(p.Begun); since < 0 || since > 24*time.Hour {
		t.Errorf("begun at %v", p.Begun)
	}
	if _, err := r.describe(1 << 30); err == nil || errors.Is(err, fs.ErrPermission) {
		t.Errorf("a process that there is not: %v", err)
	}
}

// What a process in a file system of its own sees can be read when it has ended, what lies in its /tmp
// as well.
func TestRootsAreHeld(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change a process's root")
	}
	jail := t.TempDir()
	if err := os.Mkdir(filepath.Join(jail, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
		`mount -t tmpfs tmpfs "$1/tmp" && echo inside >"$1/tmp/file" && echo below >"$1/file" && echo ready && read wait`, "sh", jail)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("no unshare: %v", err)
	}
	if n, _ := out.Read(make([]byte, 16)); n == 0 {
		in.Close()
		t.Skipf("no mount namespace may be made here: %v", cmd.Wait())
	}
	r := newRoots()
	p, err := r.describe(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.describe(cmd.Process.Pid)
	if err != nil || again.Root != p.Root {
		t.Errorf("described again as %+v, %v", again, err)
	}
	in.Close()
	cmd.Wait()
	if p.Root == "" || p.Tmp == "" {
		t.Fatalf("%+v: it has a mount namespace of its own", p)
	}
	if text, err := os.ReadFile(filepath.Join(p.Root, jail, "file")); string(text) != "below\n" {
		t.Errorf("below its root is %q, %v", text, err)
	}
	if _, err := os.Stat(p.Tmp); err != nil {
		t.Error(err)
	}
	r.close()
	if _, err := os.ReadDir(p.Root); err == nil {
		t.Error("it is held after the end")
	}
}
