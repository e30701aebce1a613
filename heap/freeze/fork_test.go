package freeze

import (
	"context"

	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFork(t *testing.T) {
	tg := startChurn(t, 8<<20)
	for range 5 {
		i := mustTake(t, tg, Forked)
		if i.How() != Forked || len(i.Notes()) != 0 || i.Stopped() <= 0 {
			t.Errorf("%v, stopped %v, notes %q", i.How(), i.Stopped(), i.Notes())
		}
		checkChurn(t, tg, i)
		tg.nothingLeft(t)
	}
	for range 3 {
		if _, err := tg.out.ReadString('\n'); err != nil {
			t.Fatal("the program ended", err)
		}
	}
}

// nothingLeft looks for what an image may leave with a process: children, and being traced.
func (tg *target) nothingLeft(t *testing.T) {
	t.Helper()
	if ended, living := leftovers(tg.pid); len(ended)+living > 0 {
		t.Errorf("children %v and %d that live were left", ended, living)
	}
	p, err := openProcess(tg.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.suitable(); err != nil {
		t.Error(err)
	}
}

// startCalls starts the program that says when a stop made a difference to it.
func startCalls(t *testing.T, args ...string) *target {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not here: .ci/packages test installs it")
	}
	tg := &target{cmd: exec.Command(build(t, "calls.c"), args...)}
	tg.start(t)
	if line, err := tg.out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "READY") {
		t.Fatalf("%q, %v", line, err)
	}
	tg.round(t)
	return tg
}

// round reads what the program said meanwhile, until every call of it has come round once more, and fails
// where it had anything to complain of.
func (tg *target) round(t *testing.T) {
	t.Helper()
	first := map[string]int{}
	deadline := time.Now().Add(time.Minute)
	for fresh := false; !fresh && time.Now().Before(deadline); {
		line, err := tg.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the program ended: %v", err)
		}
		if strings.HasPrefix(line, "BAD") {
			t.Errorf("the program noticed: %s", line)
			continue
		}
		fresh = true
		for _, f := range strings.Fields(line)[2:] {
			name, value, _ := strings.Cut(f, "=")
			if name == "children" {
				if value != "none" {
					t.Error("the program sees a child that it did not make")
				}
				continue
			}
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatalf("%q", line)
			}
			if _, known := first[name]; !known {
				first[name] = n
			}
			fresh = fresh && n > first[name]+1
		}
	}
}

func TestSystemCallsGoOn(t *testing.T) {
	for _, args := range [][]string{{"10", "trap"}, {"0", "ignoretrap", "deep"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			tg := startCalls(t, args...)
			for _, how := range []How{Forked, Forked, Forked, Copied, Running, Forked} {
				mustTake(t, tg, how)
				tg.nothingLeft(t)
			}
			tg.round(t)
		})
	}
}

// Steps of an injection at which a guardian may die, each as often as it comes in one fork and the wait
// after it.
var steps = []string{"written", "registers", "mask", "running", "running 2", "event", "event 2", "child", "leaving", "unmasked", "restored",
	"written 2", "registers 2", "mask 2", "running 3", "running 4", "event 3", "event 4", "leaving 2", "unmasked 2", "restored 2"}

// dieAtStep is the main function of a guardian that ends at a step, as kill -9 ends it.
func dieAtStep(pid string) {
	want, number, _ := strings.Cut(os.Getenv("FREEZE_TEST_STEP"), " ")
	nth, _ := strconv.Atoi(number)
	nth = max(nth, 1)
	atStep = func(step string) {
		if step == want {
			if nth--; nth == 0 {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
	}
	out, err := memoryFile()
	if err != nil {
		panic(err)
	}
	id, _ := strconv.Atoi(pid)
	runtime.LockOSThread()
	h := &hold{request: request{PID: id, How: Forked, Memory: true}, out: out, send: func(message) {}}
	if err := h.run(context.Background()); err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

func TestGuardianDiesAtEveryStep(t *testing.T) {
	for _, args := range [][]string{{"3", "trap"}, {"0", "alone"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) { testDiesAtEveryStep(t, startCalls(t, args...)) })
	}
}

func testDiesAtEveryStep(t *testing.T, tg *target) {
	needFork(t)
	for _, step := range steps {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "FREEZE_TEST_DIE="+fmt.Sprint(tg.pid), "FREEZE_TEST_STEP="+step)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.String() != "signal: killed" {
			t.Fatalf("at %s the guardian did not die: %v\n%s", step, err, out)
		}
		p, err := openProcess(tg.pid)
		if err != nil {
			t.Fatalf("at %s: %v", step, err)
		}
		tg.round(t)
		if ended, living := leftovers(tg.pid); len(ended)+living > 0 {
			t.Logf("at %s: children %v, %d living", step, ended, living)
		}
		p.clearUp(t.Context())
		p.close()
		tg.nothingLeft(t)
		if t.Failed() {
			t.Fatalf("at step %s", step)
		}
	}
}

// takeForever is the main function of a program that takes image after image, until its input ends, or its
// guardian is killed.
func takeForever(pid string) {
	id, _ := strconv.Atoi(pid)
	ended := make(chan bool)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		select {
		case <-ended:
			os.Exit(0)
		default:
		}
		i, err := Take(context.Background(), id, Options{How: Forked})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		i.Close()
	}
}

// kills is how often the programs are killed: SIGHTLINE_KILLS has it be more.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("SIGHTLINE_KILLS")); err == nil && n > 0 {
		return n
	}
	return 40
}

// TestKilledAtAnyInstant kills, with -9, the program that takes images, its guardian, or both at once.
func TestKilledAtAnyInstant(t *testing.T) {
	needFork(t)
	targets := []*target{startChurn(t, 8<<20), startCalls(t, "3", "trap")}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	died := map[string]int{}
	left := 0
	for n := range kills() {
		tg := targets[n%2]
		victims := []string{"program", "guardian", "both"}[n%3]
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "FREEZE_TEST_TAKE="+fmt.Sprint(tg.pid))
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Most of the time is that of the guardian's start, so wait for one, and then for a bit.
		guardian := 0
		for deadline := time.Now().Add(30 * time.Second); guardian == 0 && time.Now().Before(deadline); {
			guardian = guardianOf(tg.pid)
		}
		time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond))))
		if now := guardianOf(tg.pid); now != 0 {
			guardian = now
		}
		if victims != "program" {
			unix.Kill(guardian, unix.SIGKILL)
		}
		if victims != "guardian" {
			cmd.Process.Kill()
		}
		in.Close()
		cmd.Wait()
		waitNoGuardian(t, tg.pid)
		died[victims]++
		ended, living := leftovers(tg.pid)
		if len(ended)+living > 0 {
			if victims != "both" {
				t.Errorf("%d: %s killed, children %v and %d that live were left; %s", n, victims, ended, living, said.String())
			}
			left++
			p, err := openProcess(tg.pid)
			if err != nil {
				t.Fatal(err)
			}
			p.clearUp(t.Context())
			p.close()
		}
		tg.nothingLeft(t)
		if tg == targets[1] {
			tg.round(t)
		} else {
			for range 2 {
				if _, err := tg.out.ReadString('\n'); err != nil {
					t.Fatal("the program ended", err)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("killed %v; of both at once a child that had ended was left %d times, until the next image", died, left)
}

// guardianOf finds a guardian that holds a process; 0 is none.
func guardianOf(pid int) int {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if b, _ := os.ReadFile(name); string(b) == fmt.Sprintf("%s\x00%d\x00", guardianName, pid) {
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return id
		}
	}
	return 0
}

// waitNoGuardian waits until no guardian holds a process, whose program may have been killed.
func waitNoGuardian(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if guardianOf(pid) == 0 {
			return
		}
	}
	t.Error("a guardian lives on, though nobody listens any more")
}
