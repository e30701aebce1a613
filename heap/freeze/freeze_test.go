package freeze

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-o", path, "./testdata/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
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

func startChurn(t testing.TB, keep int) *target {
	t.Helper()
	tg := &target{cmd: exec.Command(build(t, "churn"), fmt.Sprint(keep))}
	tg.start(t)
	line, err := tg.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "READY %d 0x%x 0x%x", &tg.pid, &tg.marker, &tg.pair); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return tg
}

func (tg *target) start(t testing.TB) {
	t.Helper()
	out, err := tg.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	tg.cmd.Stderr = os.Stderr
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
	i, err := Take(t.Context(), tg.pid, Options{How: Running})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
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
