package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The roles this test binary plays when it starts itself.
const roleVariable = "SIGHTLINE_PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "busy":
		fmt.Println("ready")
		for {
		}
	case "open":
		openZoo()
	case "listen":
		listenRole()
	case "hidden":
		hiddenRole()
	case "files":
		filesRole()
	default:
		fmt.Println("unknown role", role)
		os.Exit(2)
	}
}

// A player is this test binary in a role.
type player struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// play starts the binary in a role and waits for the first line that it prints. It ends with the test.
func play(t *testing.T, role string, change func(*exec.Cmd)) (*player, string) {
	t.Helper()
	p := &player{Cmd: exec.Command("/proc/self/exe")}
	p.Env = append(os.Environ(), roleVariable+"="+role)
	p.Stderr = os.Stderr
	if change != nil {
		change(p.Cmd)
	}
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("role %s: %v", role, err)
	}
	return p, strings.TrimSpace(line)
}

func find(list []Process, pid int) *Process {
	if i := slices.IndexFunc(list, func(p Process) bool { return p.PID == pid }); i >= 0 {
		return &list[i]
	}
	return nil
}

func TestSampler(t *testing.T) {
	busy, _ := play(t, "busy", func(c *exec.Cmd) { c.Args = []string{"bu\nsy", "\xff", ""} })
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	sampler, err := NewSampler(Options{Want: AllFields | PSS, Kernel: true, Dead: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := sampler.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		list, err := sampler.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, z := find(list.Processes, busy.Process.Pid), find(list.Processes, zombie.Process.Pid)
		if p == nil || z == nil {
			t.Fatalf("children %d and %d are not listed", busy.Process.Pid, zombie.Process.Pid)
		}
		if (p.CPU == 0 || z.State != 'Z') && time.Now().Before(deadline) {
			continue
		}
		if z.State != 'Z' || z.Resident != 0 || z.Has(PSS) || z.Parent != os.Getpid() {
			t.Errorf("a zombie is %+v", z)
		}
		if p.CPU <= 0 || p.Busy() <= 0 || p.CPUTotal < p.CPU || p.Over <= 0 {
			t.Errorf("a busy process took %v of %v in %v", p.CPU, p.CPUTotal, p.Over)
		}
		if !slices.Equal(p.Args, []string{"bu\nsy", "\xff"}) && !slices.Equal(p.Args, []string{"bu\nsy", "\xff", ""}) {
			t.Errorf("its arguments are %q", p.Args)
		}
		if !p.Has(AllFields|PSS) || p.Parent != os.Getpid() || p.UID != os.Geteuid() || p.Files < 3 || p.Threads < 2 || p.Resident <= 0 ||
			p.Private <= 0 || p.PSS <= 0 || p.PSS > 2*p.Resident || !p.IsGo || p.Arch == "" || p.Guarded || p.Kernel {
			t.Errorf("a process of one's own is %+v", p)
		}
		if age := time.Since(p.Started(time.Now())); age < 0 || age > time.Hour {
			t.Errorf("it started %v ago", age)
		}
		if k := slices.IndexFunc(list.Processes, func(p Process) bool { return p.Kernel }); k >= 0 {
			if k := list.Processes[k]; len(k.Args) != 0 || !strings.HasPrefix(k.CommandLine(), "[") || k.IsGo || k.Has(Program) {
				t.Errorf("a kernel thread is %+v", k)
			}
		}
		break
	}
}

// A number that is another process's now is another process.
func TestNumbersUsedAgain(t *testing.T) {
	s := &Sampler{before: map[int]usage{7: {start: 100, cpu: time.Hour, read: 50, io: true}, 8: {cpu: time.Hour}, 9: {start: 100, cpu: time.Hour, at: time.Now().Add(-time.Second)}}, begun: 500}
	for _, c := range []struct {
		pid   int
		start uint64
		want  time.Duration
	}{
		{7, 101, time.Minute}, {8, 501, time.Minute}, {9, 100, time.Second}, {10, 1, time.Hour + time.Second},
	} {
		p := Process{ID: ID{c.pid, c.start}, CPUTotal: c.want, Read: 9, Known: IO}
		if c.pid == 9 {
			p.CPUTotal = time.Hour + time.Second
		}
		s.since(&p, time.Now())
		if p.CPU != c.want || p.ReadNow != 9 {
			t.Errorf("%v used %v and read %d", p.ID, p.CPU, p.ReadNow)
		}
	}
	self, err := Find(os.Getpid(), "")
	if err != nil {
		t.Fatal(err)
	}
	other := NewThreadSampler(ID{self.PID, self.Start - 1}, "")
	if _, err := other.Look(t.Context()); !errors.As(err, new(ErrGone)) {
		t.Errorf("the threads of the process that had this number: %v", err)
	}
}

func TestProcessGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if _, err := Find(pid, ""); err == nil || !strings.Contains(err.Error(), "sightline ps") {
		t.Errorf("it is %v", err)
	}
	sampler, err := NewSampler(Options{Want: AllFields | PSS, Only: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := sampler.Watch(t.Context(), time.Millisecond)
	if err != nil || len(list.Processes) != 0 || list.Unseen.Vanished != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	files, err := Files(t.Context(), FilesOptions{Only: []int{pid}})
	if err != nil || len(files.Files) != 0 || files.Unseen.Vanished != 1 {
		t.Errorf("%+v, %v", files, err)
	}
	if _, err := NewSampler(Options{Proc: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a proc that is not there is read")
	}
}

// Processes come and go while they are listed, and nothing but what was there is told.
func TestChurn(t *testing.T) {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				exec.Command("true").Run()
			}
		}
	}()
	sampler, err := NewSampler(Options{Want: AllFields | PSS, Dead: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		list, err := sampler.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Processes {
			if p.PID <= 0 || p.Start == 0 && p.PID != 1 && p.PID != 2 && !p.Kernel || p.State == 0 {
				t.Errorf("%+v", p)
			}
		}
		if _, err := Files(t.Context(), FilesOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-ended
}

func TestThreads(t *testing.T) {
	busy, _ := play(t, "busy", nil)
	id, err := Find(busy.Process.Pid, "")
	if err != nil {
		t.Fatal(err)
	}
	s := NewThreadSampler(id, "")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		threads, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ran, waits := false, false
		for _, th := range threads {
			ran = ran || th.Running > 0 && th.Over > 0 && th.Share() > 0 && th.State == 'R' && th.Wait == ""
			waits = waits || strings.Contains(th.Wait, "futex") || th.State == 'S' && th.Wait != ""
		}
		if len(threads) < 2 || threads[0].TID != busy.Process.Pid {
			t.Fatalf("%+v", threads)
		}
		if ran && waits {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("one runs: %t, one waits: %t: %+v", ran, waits, threads)
		}
	}
	busy.Process.Kill()
	busy.Wait()
	if _, err := s.Look(t.Context()); !errors.As(err, new(ErrGone)) {
		t.Errorf("of a process that has ended: %v", err)
	}
}

// ordinary has a command run as nobody, who may not look at it by its path.
func ordinary(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to be another user")
	}
	return func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}
		c.Dir = "/"
	}
}

// In a mount namespace whose /proc has hidepid=2, an ordinary user sees their own, and is told so.
func TestHidepid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to mount")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("unshare", "--mount", "sh", "-c",
		`mount --make-rprivate / 2>/dev/null; mount -t proc -o hidepid=2 proc /proc || { echo cannot mount; exit 0; }
		exec setpriv --reuid 65534 --regid 65534 --clear-groups /proc/self/fd/3`)
	cmd.Env = append(os.Environ(), roleVariable+"=hidden")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := strings.TrimSpace(string(out))
	if strings.Contains(text, "cannot mount") {
		t.Skipf("this container may not mount proc: %s", text)
	}
	if text != "hidden=true others=0 self=true" {
		t.Errorf("under hidepid it is %q", text)
	}
}

func hiddenRole() {
	sampler, err := NewSampler(Options{Want: Status})
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := sampler.Look(contextOfRole())
	if err != nil {
		fmt.Println(err)
		return
	}
	others := 0
	for _, p := range list.Processes {
		if p.UID != os.Geteuid() {
			others++
		}
	}
	fmt.Printf("hidden=%t others=%d self=%t\n", list.Unseen.Hidden, others, find(list.Processes, os.Getpid()) != nil)
}

// A process of another user has what everybody may know, and the rest is not known, nor zero.
func TestGuarded(t *testing.T) {
	p, out := play(t, "files", ordinary(t))
	fields := strings.Fields(out)
	if len(fields) != 2 || fields[0] == "0" || fields[1] != "true" {
		t.Errorf("an ordinary user, process %d, hears %q", p.Process.Pid, out)
	}
}

func filesRole() {
	list, err := Files(contextOfRole(), FilesOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	refused, honest := 0, true
	for i := range list.Files {
		f := &list.Files[i]
		if f.Err != nil {
			refused++
			honest = honest && f.Kind == KindUnknown && denied(f.Err)
		}
	}
	sampler, err := NewSampler(Options{Want: AllFields | PSS, Only: []int{1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	look, err := sampler.Watch(contextOfRole(), time.Millisecond)
	if err != nil || len(look.Processes) != 1 {
		fmt.Println("process 1 is not listed:", err)
		return
	}
	one := look.Processes[0]
	honest = honest && one.Guarded && look.Unseen.Guarded == 1 && !one.Has(IO) && !one.Has(PSS) && !one.Has(Program) && one.Has(Status) && list.Unseen.Guarded > 0
	fmt.Println(refused, honest)
	io.Copy(io.Discard, os.Stdin)
}

// In a PID namespace of its own a process says so.
func TestNested(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		t.Fatal(err)
	}
	if inside := st.Ino != 0xEFFFFFFC; inside != nested() {
		t.Errorf("nested is %t", nested())
	}
}
