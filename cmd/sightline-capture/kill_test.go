package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// kills is how often each is killed: SIGHTLINE_CAPTURE_KILLS.
func kills(t *testing.T) int {
	n := 10
	if text := os.Getenv("SIGHTLINE_CAPTURE_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A bench is a user whom nobody else is, with a target that spins.
type bench struct {
	uid    uint32
	dir    string // of programs
	home   string
	target *exec.Cmd
}

var sightlineBuilt sync.Mutex

// buildSightline puts sightline beside sightline-capture, once.
func buildSightline(t *testing.T, dir string) (bin string) {
	t.Helper()
	sightlineBuilt.Lock()
	defer sightlineBuilt.Unlock()
	bin = filepath.Join(dir, "sightline")
	if _, err := os.Stat(bin); err != nil {
		cmd := exec.Command("go", "build", "-o", bin, "../sightline")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	return bin
}

func newBench(t *testing.T, uid uint32) *bench {
	t.Helper()
	b := &bench{uid: uid, dir: programs(t)}
	buildSightline(t, b.dir)
	var err error
	if b.home, err = os.MkdirTemp(b.dir, "home"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(b.home, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	b.target = start(t, inRole(t, uid, "work"))
	eventually(t, "the target runs", func() bool { return commOf(b.target.Process.Pid) == "self" })
	// What a test that failed has left.
	t.Cleanup(func() {
		for _, pid := range b.processes() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return b
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(b.dir, "sightline"), args...)
	cmd.Dir = b.home
	cmd.Env = []string{"HOME=" + b.home, "XDG_RUNTIME_DIR=" + b.home, "XDG_STATE_HOME=" + b.home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: b.uid, Gid: b.uid}}
	return cmd
}

// processes are those of the user, but for the target.
func (b *bench) processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == b.target.Process.Pid {
			continue
		}
		// The folder's owner is root where the process may not be looked into.
		text, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err == nil && strings.Contains(string(text), fmt.Sprintf("\nUid:\t%d\t", b.uid)) && !strings.Contains(string(text), "\nState:\tZ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// commands are those of them that are a command of sightline.
func (b *bench) commands(name string) (pids []int) {
	for _, pid := range b.processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := strings.Split(string(line), "\x00"); len(words) > 2 && words[1] == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

// bpf are the ids of BPF programs that the user has had loaded.
func (b *bench) bpf(t *testing.T) (ids []ebpf.ProgramID) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it is gone
		}
		if info, err := p.Info(); err == nil {
			if uid, ok := info.CreatedByUID(); ok && uid == b.uid {
				ids = append(ids, id)
			}
		}
		p.Close()
	}
}

// clean waits until nothing of a recording is left, and checks that the target runs on, by itself.
func (b *bench) clean(t *testing.T, what string) {
	t.Helper()
	eventually(t, what+": its processes end", func() bool { return len(b.processes()) == 0 })
	// A program lives as long as something refers to it: an event, those that were inherited from it, a
	// link, a descriptor of any process.
	eventually(t, what+": its BPF programs go", func() bool { return len(b.bpf(t)) == 0 })
	pid := b.target.Process.Pid
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatalf("%s: the target: %v", what, err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); strings.Contains(to, "perf_event") || strings.Contains(to, "bpf") {
			t.Errorf("%s: the target has %s", what, to)
		}
	}
	if tracer := statusLine(t, pid, "TracerPid"); tracer != "0" {
		t.Errorf("%s: the target is traced by %s", what, tracer)
	}
	begin := cpuTime(pid)
	eventually(t, what+": the target runs on", func() bool { n := cpuTime(pid); return n > begin && n < 1<<30 })
}

// instant waits for any time up to one in which a recording has begun and runs.
func instant(most time.Duration) time.Duration {
	d := time.Duration(rand.Int64N(int64(most)))
	time.Sleep(d)
	return d
}

// What records is killed at any instant: nothing of ours is left in the kernel, and what was recorded runs on.
func TestKilledRecorder(t *testing.T) {
	t.Parallel()
	b := newBench(t, another+1)
	seen := 0
	for round := range kills(t) {
		cmd := b.command("record", "-p", strconv.Itoa(b.target.Process.Pid))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 { // half of them once it records
			eventually(t, "a program is loaded", func() bool { return len(b.bpf(t)) > 0 })
			seen++
		}
		d := instant(200 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		b.clean(t, fmt.Sprintf("round %d, killed after %v", round, d))
	}
	if seen == 0 {
		t.Error("nothing was killed while it recorded")
	}
}

// When sightline-capture is killed, the recording goes on with what it was given.
func TestKilledCapture(t *testing.T) {
	t.Parallel()
	b := newBench(t, another+2)
	for round := range kills(t) {
		cmd := b.command("record", "-p", strconv.Itoa(b.target.Process.Pid), "--json")
		var out, said strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := round%2 == 1
		var helper int
		eventually(t, "sightline-capture is started", func() bool {
			for _, pid := range b.processes() {
				if strings.HasPrefix("sightline-capture", commOf(pid)) && commOf(pid) != "sightline" {
					helper = pid
				}
			}
			return helper != 0 && (!late || len(b.bpf(t)) > 0)
		})
		d := instant(100 * time.Millisecond)
		syscall.Kill(helper, syscall.SIGKILL)
		eventually(t, "the recording has begun, or goes on", func() bool {
			files, _ := filepath.Glob(filepath.Join(b.home, "sightline", "*", "*"))
			more, _ := filepath.Glob(filepath.Join(b.home, "sightline", "*.db"))
			return len(files)+len(more) > 0
		})
		time.Sleep(d)
		cmd.Process.Signal(os.Interrupt)
		// On a busy machine the target may not have run meanwhile.
		if err := cmd.Wait(); err != nil && !strings.Contains(said.String(), "interrupted") && !strings.Contains(said.String(), "no sample was taken") {
			t.Errorf("round %d, sightline-capture killed after %v: %v\n%s%s", round, d, err, &said, &out)
		}
		b.clean(t, fmt.Sprintf("round %d, sightline-capture killed after %v", round, d))
	}
}

// The daemon, and the editor where it has none, record for editors.
func TestKilledDaemonAndEditor(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"daemon", "editor"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, another+3+uint32(i))
			for round := range kills(t) {
				w := lsptest.NewWorkspace(t, "-- go.mod --\nmodule example.com/w\n\ngo 1.26\n", lsptest.WorkspaceOptions{})
				for dir := w.Root; dir != "/"; dir = filepath.Dir(dir) {
					if st, err := os.Stat(dir); err == nil && st.Mode()&0o005 != 0o005 {
						os.Chmod(dir, 0o755)
					}
				}
				args := []string{"serve"}
				if name == "editor" {
					args = append(args, "--no-daemon")
				}
				cmd := b.command(args...)
				e := lsptest.Start(t, lsptest.Spawn(t, cmd), lsptest.Options{Folders: []string{w.Root}})
				e.StartCommand("sightline.record", map[string]any{"pid": b.target.Process.Pid})
				records := map[string]string{"daemon": "daemon", "editor": "serve"}[name]
				eventually(t, "what records is there", func() bool {
					return len(b.commands(records)) > 0 && (round%2 == 0 || len(b.bpf(t)) > 0)
				})
				d := instant(200 * time.Millisecond)
				// Of a daemon that had not begun the editor starts another one.
				eventually(t, "the editor's server ends", func() bool {
					for _, pid := range b.commands(records) {
						syscall.Kill(pid, syscall.SIGKILL)
					}
					return len(b.commands("serve")) == 0
				})
				e.Wait()
				b.clean(t, fmt.Sprintf("round %d, killed after %v", round, d))
			}
		})
	}
}
