package freeze

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// programs are built once.
var programs sync.Map

// build compiles one of testdata's programs, and gives its path.
func build(t testing.TB, name string) string {
	t.Helper()
	f, _ := programs.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "freeze")
		if err != nil {
			return "", err
		}
		scratch = append(scratch, dir)
		path := filepath.Join(dir, strings.TrimSuffix(name, ".c"))
		cmd := exec.Command("go", "build", "-o", path, "./testdata/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if strings.HasSuffix(name, ".c") {
			cmd = exec.Command("gcc", "-O2", "-pthread", "-o", path, "testdata/"+name)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		return path, nil
	}))
	path, err := f.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var scratch []string

func TestMain(m *testing.M) {
	if pid := os.Getenv("FREEZE_TEST_DIE"); pid != "" {
		dieAtStep(pid)
	}
	if pid := os.Getenv("FREEZE_TEST_TAKE"); pid != "" {
		takeForever(pid)
	}
	if pid := os.Getenv("FREEZE_TEST_ONCE"); pid != "" {
		id, _ := strconv.Atoi(pid)
		if _, err := Take(context.Background(), id, Options{}); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	}
	status := m.Run()
	for _, dir := range scratch {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// A target is a program that runs.
type target struct {
	cmd          *exec.Cmd
	out          *bufio.Reader
	pid          int
	marker, pair uint64
}

func startChurn(t testing.TB, keep int) *target { return startChurnIn(t, keep, "") }

func startChurnIn(t testing.TB, keep int, dir string, env ...string) *target {
	t.Helper()
	tg := &target{cmd: exec.Command(build(t, "churn"), fmt.Sprint(keep))}
	tg.cmd.Dir, tg.cmd.Env = dir, append(os.Environ(), env...)
	tg.start(t)
	tg.ready(t)
	return tg
}

// ready reads what a program says first: where what is looked for is.
func (tg *target) ready(t testing.TB) {
	t.Helper()
	line, err := tg.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "READY %d 0x%x 0x%x", &tg.pid, &tg.marker, &tg.pair); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

func (tg *target) start(t testing.TB) {
	t.Helper()
	out, err := tg.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tg.pid, tg.out = tg.cmd.Process.Pid, bufio.NewReader(out)
	t.Cleanup(func() {
		tg.cmd.Process.Kill()
		tg.cmd.Wait()
	})
}

// checkChurn asks of an image what every way to take one gives.
func checkChurn(t *testing.T, tg *target, i *Image) {
	t.Helper()
	want := []byte("sightline\x01\x02\x03")
	got := make([]byte, len(want))
	if n, err := i.ReadAt(got, int64(tg.marker)); n != len(got) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("at the marker: %q, %v", got[:n], err)
	}
	if b := i.Bytes(tg.marker, uint64(len(want))); !bytes.Equal(b, want) {
		t.Errorf("Bytes at the marker: %q", b)
	}
	if n, err := i.ReadAt(got, 8); n != 0 || err == nil {
		t.Errorf("at address 8: %d bytes, %v", n, err)
	}
	file, path, bias, err := i.Executable()
	if err != nil || path != tg.cmd.Path || bias != 0 {
		t.Errorf("executable %s, moved by %#x, %v; want %s", path, bias, err, tg.cmd.Path)
	} else {
		head := make([]byte, 64)
		if _, err := file.ReadAt(head, 0); err != nil {
			t.Error(err)
		}
		if got := i.Bytes(i.Regions()[0].Start, 64); !bytes.Equal(got, head) {
			t.Errorf("the program's first bytes are %x, in the image %x", head, got)
		}
	}
	if len(i.Threads()) < 2 || i.Threads()[0].TID != tg.pid || i.PID() != tg.pid || i.Name() != "churn" {
		t.Errorf("process %d %q, threads %+v; want %d", i.PID(), i.Name(), i.Threads(), tg.pid)
	}
}

func TestRunning(t *testing.T) {
	tg := startChurn(t, 8<<20)
	i := mustTake(t, tg, Running)
	checkChurn(t, tg, i)
	path := filepath.Join(t.TempDir(), "core")
	if err := i.WriteCore(path); err != nil {
		t.Fatal(err)
	}
	again, err := OpenCore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	checkChurn(t, tg, again)
	if again.How() != Running || again.Taken().Sub(i.Taken()) != 0 || len(again.Notes()) != 0 {
		t.Errorf("%v taken %v, notes %q", again.How(), again.Taken(), again.Notes())
	}
}

// patiently does something that may fail where threads do not get to a processor for seconds: three times.
func patiently(t *testing.T, do func() error) {
	t.Helper()
	for n := range 3 {
		err := do()
		if err == nil {
			return
		}
		if n == 2 || !strings.Contains(err.Error(), errBusy.Error()) {
			t.Fatal(err)
		}
	}
}

// mustTake takes an image.
func mustTake(t *testing.T, tg *target, how How) (i *Image) {
	t.Helper()
	if how == Forked {
		needFork(t)
	}
	patiently(t, func() (err error) {
		i, err = Take(t.Context(), tg.pid, Options{How: how})
		if err == nil && strings.Contains(strings.Join(i.Notes(), " "), errBusy.Error()) {
			i.Close()
			return errBusy // it was taken in another way for that
		}
		return err
	})
	t.Cleanup(func() { i.Close() })
	return i
}

// needFork skips a test where the machine has no fork.
func needFork(t *testing.T) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("a fork needs an x86-64 machine")
	}
}
