package profiler

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A descriptor that is open is in the capture with the stack that opened it, and one that was closed is not.
func TestDescriptorWatch(t *testing.T) {
	w, err := WatchDescriptors([]int{os.Getpid()}, nil)
	if errors.Is(err, ErrNoPermission) && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	keep, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(keep)
	gone, err := unix.FcntlInt(uintptr(keep), unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(gone)
	last, err := unix.FcntlInt(uintptr(keep), unix.F_DUPFD_CLOEXEC, 300)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(last)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, open, err := w.Capture()
		if err != nil {
			t.Fatal(err)
		}
		at := map[int]int{}
		for i, d := range open {
			if d.PID != os.Getpid() {
				t.Fatalf("process %d is watched", d.PID)
			}
			at[d.FD] = i
		}
		if _, ok := at[last]; !ok { // events come in their order: what was before it came too
			if time.Now().After(deadline) {
				t.Fatalf("descriptor %d was not told of; there are %v", last, open)
			}
			continue
		}
		if _, ok := at[gone]; ok {
			t.Errorf("descriptor %d is closed", gone)
		}
		i, ok := at[keep]
		if !ok {
			t.Fatalf("descriptor %d is not told of", keep)
		}
		if err := c.Check(); err != nil {
			t.Error(err)
		}
		s := c.Of(Descriptors)
		if s == nil || s.Samples.Len() != len(open) {
			t.Fatalf("%d samples for %d descriptors", s.Samples.Len(), len(open))
		}
		depth := 0
		mapped := false
		for loc := range c.Stacks.LeafFirst(s.Samples.Stack[i]) {
			depth++
			m := c.Mappings[c.Locations[loc].Mapping]
			mapped = mapped || m.Kind == profile.FileCode && strings.HasSuffix(m.Path, ".test")
			if m.Kind == profile.FileCode {
				if _, err := w.Binary(c.Locations[loc].Mapping); err != nil {
					t.Error(err)
				}
			}
		}
		if depth < 3 || !mapped {
			t.Errorf("the stack has %d frames, of this program: %t", depth, mapped)
		}
		break
	}
	if _, err := w.Binary(99); err == nil {
		t.Error("a mapping that there is not has a binary")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error("again:", err)
	}
}

// An ordinary user hears what is missing, and can tell that it is a privilege.
func TestDescriptorWatchRefused(t *testing.T) {
	if os.Getenv("SIGHTLINE_REFUSED") != "" {
		_, err := WatchDescriptors([]int{os.Getpid()}, nil)
		if !errors.Is(err, ErrNoPermission) || !strings.Contains(err.Error(), "CAP_BPF") || strings.Count(err.Error(), "setcap") > 1 {
			t.Fatalf("the error is %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("it takes root to be an ordinary user")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "/proc/self/fd/3", "-test.run=TestDescriptorWatchRefused$")
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(os.Environ(), "SIGHTLINE_REFUSED=1")
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
