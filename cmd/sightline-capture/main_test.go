package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The roles this test binary plays when it starts itself.
const roleVariable = "SIGHTLINE_CAPTURE_TEST_ROLE"

var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		return
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // where setcap is, but not for everyone
	code := m.Run()
	if place.dir != "" {
		os.RemoveAll(place.dir)
	}
	os.Exit(code)
}

// Place is where the programs of these tests lie: any user may run them, and files have capabilities.
var place struct {
	sync.Mutex
	dir string
	err error
}

const capabilities = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_syslog,cap_dac_read_search=p"

// programs builds sightline-capture with an administrator's file of the tests', once, gives it capabilities
// and puts it and this test's binary into a folder. Without root, or where no file system carries
// capabilities, the test is skipped, which says so.
func programs(t *testing.T) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file capabilities")
	}
	if _, err := exec.LookPath("setcap"); err != nil {
		t.Fatal("setcap is missing; run .ci/packages test")
	}
	place.Lock()
	defer place.Unlock()
	if place.dir == "" && place.err == nil {
		place.dir, place.err = build()
	}
	if errors.Is(place.err, errNoPlace) {
		t.Skip(place.err)
	}
	if place.err != nil {
		t.Fatal(place.err)
	}
	return place.dir
}

var errNoPlace = errors.New("no file system here carries capabilities: they are mounted nosuid, or do not know them")

func build() (string, error) {
	cache, _ := os.UserCacheDir()
	for _, parent := range []string{os.TempDir(), "/var/tmp", "/dev/shm", cache} {
		dir, err := os.MkdirTemp(parent, "sightline-capture")
		if err != nil || os.Chmod(dir, 0o755) != nil {
			continue
		}
		probe := filepath.Join(dir, "probe")
		var fs unix.Statfs_t
		if os.WriteFile(probe, nil, 0o755) != nil || unix.Statfs(probe, &fs) != nil || fs.Flags&(unix.ST_NOSUID|unix.ST_NOEXEC) != 0 ||
			exec.Command("setcap", capabilities, probe).Run() != nil {
			os.RemoveAll(dir)
			continue
		}
		os.Remove(probe)
		cmd := exec.Command("go", "build", "-ldflags", "-X main.configPath="+filepath.Join(dir, "etc", "capture.conf"), "-o", filepath.Join(dir, "sightline-capture"), ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("go build: %w\n%s", err, out)
		}
		self, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "self"), self, 0o755)
		}
		out, capErr := exec.Command("setcap", capabilities, filepath.Join(dir, "sightline-capture")).CombinedOutput()
		if capErr != nil {
			err = errors.Join(err, fmt.Errorf("setcap: %w\n%s", capErr, out))
		}
		return dir, errors.Join(err, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	}
	return "", errNoPlace
}

const (
	nobody  = 65534
	another = 61234 // a user that nothing else has processes of
)

func as(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
}

// inRole is this test's binary in a role, as a user.
func inRole(t *testing.T, uid uint32, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "self"), args...)
	cmd.Env = []string{roleVariable + "=" + role, "PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.SysProcAttr = as(uid)
	return cmd
}

// start starts a program that runs until the test ends.
func start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	// Its parent's thread must not end before it does, for Pdeathsig.
	if cmd.SysProcAttr != nil {
		cmd.SysProcAttr.Pdeathsig = 0
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// config writes the administrator's file, for as long as the test runs.
func config(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(programs(t), "etc", "capture.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
}

// eventually waits for a condition, as long as the busiest machine may need.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// statusLine is a line of /proc/PID/status.
func statusLine(t *testing.T, pid any, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%v/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("/proc/%v/status has no %s", pid, name)
	return ""
}
