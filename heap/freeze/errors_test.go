package freeze

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startOdd starts the program that is hard to hold.
func startOdd(t *testing.T, args ...string) *target {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not here: .ci/packages test installs it")
	}
	tg := &target{cmd: exec.Command(build(t, "odd.c"), args...)}
	tg.start(t)
	tg.ready(t)
	return tg
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\nlacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one line", err)
	}
}

func takeBy(t *testing.T, pid int, how How) error {
	i, err := Take(t.Context(), pid, Options{How: how})
	if err == nil {
		i.Close()
	}
	return err
}

func TestNoProcess(t *testing.T) {
	for _, pid := range []int{0, -1, 1 << 22} {
		if err := takeBy(t, pid, Auto); err == nil {
			t.Errorf("process %d: an image", pid)
		}
	}
	if err := takeBy(t, 1<<22, Auto); !errors.Is(err, ErrNoProcess) {
		t.Error(err)
	}
	if comm, _ := os.ReadFile("/proc/2/comm"); string(comm) == "kthreadd\n" {
		wantError(t, takeBy(t, 2, Auto), "kernel")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); strings.Contains(string(b), ") Z ") {
			break
		}
	}
	wantError(t, takeBy(t, cmd.Process.Pid, Auto), "zombie", "(true)")
}

func Test32Bit(t *testing.T) {
	// ELF header, one program header, and: mov $29,%eax (pause); int $0x80; jmp back to the begin.
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(le.AppendUint16(b, 2), 3)
	for _, v := range []uint32{1, 0x08048054, 52, 0, 0} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range []uint16{52, 32, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	for _, v := range []uint32{1, 0, 0x08048000, 0x08048000, 93, 93, 5, 0x1000} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, 0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7)
	path := filepath.Join(t.TempDir(), "narrow")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	if err := cmd.Start(); err != nil {
		t.Skipf("this machine runs no 32-bit programs: %v", err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	wantError(t, takeBy(t, cmd.Process.Pid, Auto), "32-bit", "(narrow)")
}

func TestTraced(t *testing.T) {
	tg := startOdd(t, "idle")
	held, done := make(chan error), make(chan bool)
	go func() {
		runtime.LockOSThread() // never unlocked: the kernel lets go when the thread ends
		held <- unix.PtraceSeize(tg.pid)
		<-done
	}()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	defer close(done)
	for _, how := range []How{Forked, Copied} {
		wantError(t, takeBy(t, tg.pid, how), "traced", "freeze.test")
	}
	i := mustTake(t, tg, Auto)
	if i.How() != Running || len(i.Notes()) != 1 || !strings.Contains(i.Notes()[0], "traced") {
		t.Errorf("%v, notes %q", i.How(), i.Notes())
	}
}

func TestAsleep(t *testing.T) {
	tg := startOdd(t, "asleep")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tg.pid)); strings.Contains(string(b), ") D ") {
			break
		}
	}
	wantError(t, takeBy(t, tg.pid, Copied), "uninterruptible sleep")
	i := mustTake(t, tg, Auto)
	if i.How() != Running || len(i.Notes()) != 2 {
		t.Errorf("%v, notes %q", i.How(), i.Notes())
	}
	tg.nothingLeft(t)
}

func TestSeccomp(t *testing.T) {
	tg := startOdd(t, "seccomp")
	wantError(t, takeBy(t, tg.pid, Forked), "seccomp")
	i := mustTake(t, tg, Auto)
	if i.How() != Copied || len(i.Notes()) != 1 || !strings.Contains(i.Notes()[0], "seccomp") {
		t.Errorf("%v, notes %q", i.How(), i.Notes())
	}
	tg.nothingLeft(t)
}

func TestStoppedStaysStopped(t *testing.T) {
	tg := startChurn(t, 1<<20)
	unix.Kill(tg.pid, unix.SIGSTOP)
	state := func() string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tg.pid))
		return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
	}
	waitState := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); state() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("its state is %s, not %s", state(), want)
			}
		}
	}
	waitState("T")
	for _, how := range []How{Forked, Copied} {
		mustTake(t, tg, how)
		waitState("T")
	}
	tg.nothingLeft(t)
	unix.Kill(tg.pid, unix.SIGCONT)
	for n := 0; n < 5; {
		line, err := tg.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line != "" {
			n++
		}
	}
}

// TestExecutingMeanwhile takes images of a process that becomes another program all the time: each is an
// image or an error, and the process goes on.
func TestExecutingMeanwhile(t *testing.T) {
	tg := startOdd(t, "exec")
	took := 0
	for range 20 {
		switch err := takeBy(t, tg.pid, Auto); {
		case err == nil:
			took++
		default:
			t.Log(err)
		}
	}
	t.Logf("%d of 20 images", took)
	tg.nothingLeft(t)
}

func TestEndingMeanwhile(t *testing.T) {
	for n := range 15 {
		tg := startChurn(t, 1<<20)
		time.AfterFunc(time.Duration(n*7)*time.Millisecond, func() { tg.cmd.Process.Kill() })
		i, err := Take(t.Context(), tg.pid, Options{How: []How{Forked, Copied, Running}[n%3]})
		switch {
		case err == nil:
			i.Close()
		case !errors.Is(err, ErrNoProcess) && !strings.Contains(err.Error(), errBusy.Error()):
			t.Error(err)
		}
	}
}

func TestCancel(t *testing.T) {
	tg := startChurn(t, 32<<20)
	ctx, cancel := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "core")
	_, err := Dump(ctx, tg.pid, path, Options{Progress: func(done, total int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) > 0 {
		t.Errorf("%q were left", left)
	}
	tg.nothingLeft(t)
}

// TestDiskFull writes where there is room for a part only.
func TestDiskFull(t *testing.T) {
	tg := startChurn(t, 8<<20)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("only root may mount a small file system: %v", err)
	}
	defer unix.Unmount(dir, 0)
	path := filepath.Join(dir, "core")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []How{Auto, Forked, Copied, Running} {
		_, err := Dump(t.Context(), tg.pid, path, Options{How: how})
		wantError(t, err, path, "no space left")
		if b, _ := os.ReadFile(path); string(b) != "before" {
			t.Errorf("%v: what was there is gone", how)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("%q were left", left)
		}
	}
	tg.nothingLeft(t)
	_, err := Dump(t.Context(), tg.pid, filepath.Join(dir, "none", "core"), Options{})
	wantError(t, err, "none", "no such file")
	_, err = Dump(t.Context(), tg.pid, os.DevNull, Options{})
	wantError(t, err, os.DevNull, "ordinary file")
}

// TestAnotherUser is refused what it may not do, in words, and does what it may.
func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become another user")
	}
	tg := startChurn(t, 1<<20)
	as := func() string {
		cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/proc/self/fd/3")
		self, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		defer self.Close()
		cmd.ExtraFiles = []*os.File{self}
		cmd.Env = append(os.Environ(), "FREEZE_TEST_ONCE="+fmt.Sprint(tg.pid))
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if said := as(); !strings.Contains(said, "belongs to user 0") || strings.Count(said, "\n") != 1 {
		t.Errorf("said %q", said)
	}
	tg.nothingLeft(t)
}

func TestGroupRoom(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/memory.max", "max")
	write("a/memory.current", "900")
	write("a/b/memory.max", "1000")
	write("a/b/memory.current", "700")
	write("a/b/memory.stat", "anon 1\ninactive_file 50\nactive_file 100")
	write("a/b/c/memory.max", "2000")
	write("a/b/c/memory.current", "600")
	write("memory/x/memory.limit_in_bytes", "500")
	write("memory/x/memory.usage_in_bytes", "600")
	for _, c := range []struct {
		groups string
		want   int64
	}{
		{"0::/a/b/c\n", 350}, {"0::/a\n", 5000}, {"0::/none\n", 5000}, {"4:memory:/x\n3:cpu:/y\n", 0}, {"junk\n", 5000}, {"0::../..\n", 5000},
	} {
		if got, who := groupRoom(root, c.groups, 5000, "of the machine"); got != c.want {
			t.Errorf("%q: %d %s, want %d", c.groups, got, who, c.want)
		}
	}
}
