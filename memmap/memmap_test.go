package memmap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var buildOnce sync.Once
var programs struct{ dir, regions, goTarget string }

// TestMain removes what the tests built.
func TestMain(m *testing.M) {
	if os.Getenv("MEMMAP_PARTIAL") != "" { // see TestNoPermission
		partialChild()
		return
	}
	code := m.Run()
	if programs.dir != "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// build builds the programs whose memory these tests know, once.
func build(t testing.TB) {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "memmap")
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(dir, 0o755)
		programs.dir = dir
		programs.regions = filepath.Join(dir, "regions")
		if out, err := exec.Command("gcc", "-O0", "-g", "-pthread", "-o", programs.regions, "testdata/regions.c").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		programs.goTarget = filepath.Join(dir, "gotarget")
		cmd := exec.Command("go", "build", "-o", programs.goTarget, "main.go")
		cmd.Dir = "../heap/goruntime/testdata/target"
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	if programs.goTarget == "" {
		t.Fatal("the programs were not built")
	}
}

// A target is a program that said what it made where.
type target struct {
	pid   int
	said  map[string]uint64
	in    io.WriteCloser
	out   *bufio.Scanner
	cmd   *exec.Cmd
	ended sync.Once
}

// start runs a program until the test ends and returns once it says that it is ready.
func start(t testing.TB, cmd *exec.Cmd) *target {
	t.Helper()
	x := &target{said: map[string]uint64{}, cmd: cmd}
	var err error
	if x.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	x.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.pid = cmd.Process.Pid
	t.Cleanup(x.end)
	x.listen(t, "ready")
	return x
}

func (x *target) end() {
	x.ended.Do(func() {
		x.cmd.Process.Kill()
		x.in.Close()
		x.cmd.Wait()
	})
}

// listen reads what the program says until it says the word.
func (x *target) listen(t testing.TB, until string) {
	t.Helper()
	for x.out.Scan() {
		name, at, ok := strings.Cut(x.out.Text(), " ")
		if name == until {
			return
		}
		if n, err := strconv.ParseUint(at, 16, 64); ok && err == nil {
			x.said[name] = n
		}
	}
	t.Fatalf("the program ended before it said %q: %v", until, x.out.Err())
}

func (x *target) tell(t testing.TB, word string) {
	t.Helper()
	if _, err := io.WriteString(x.in, word+"\n"); err != nil {
		t.Fatal(err)
	}
	x.listen(t, "done")
}

// take makes a snapshot and checks its laws.
func take(t testing.TB, pid int) *Snapshot {
	t.Helper()
	p, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Walk = true
	s, err := p.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	laws(t, s)
	return s
}

func laws(t testing.TB, s *Snapshot) {
	t.Helper()
	if err := s.check(); err != nil {
		t.Error(err)
	}
	var kinds Columns
	for _, k := range s.ByKind() {
		if k.Kind != Free && k.Kind != PageTable {
			kinds.Add(k.Columns)
		}
	}
	total := s.Total()
	if kinds != total {
		t.Errorf("kinds sum up to %+v, regions to %+v", kinds, total)
	}
	for i := range s.Regions {
		r := &s.Regions[i]
		var parts Columns
		for _, p := range r.Parts {
			parts.Add(p.Columns)
		}
		parts.Largest = r.Largest
		if len(r.Parts) > 0 && parts != r.Columns {
			t.Errorf("%s: parts sum up to %+v, it has %+v", r.Label(), parts, r.Columns)
		}
		if r.Size != int64(r.End-r.Start) || r.Resident > r.Size || r.PrivateWS+r.ShareableWS != r.Resident || r.Committed > r.Size || r.Private > r.Committed {
			t.Errorf("%s: %+v", r.Label(), r.Columns)
		}
	}
	if s.Terms != nil {
		sum := int64(0)
		for _, x := range s.Terms {
			sum += x.Bytes
			if x.Advice == "" {
				t.Errorf("term %s has no advice", x.Name)
			}
		}
		if sum != total.Resident {
			t.Errorf("terms sum up to %d, regions to %d", sum, total.Resident)
		}
	}
	c := s.Capture()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if x := c.Of(Resident); x != nil && s.Terms == nil && x.Samples.Sum().Weight != total.Resident {
		t.Errorf("the capture has %d bytes resident, the snapshot %d", x.Samples.Sum().Weight, total.Resident)
	}
	for _, x := range s.Clusters(40) {
		if x.End <= x.Start || len(x.Cells) == 0 {
			t.Errorf("cluster %+v", x)
		}
	}
}

// until tries again while the machine is too busy for what a process that runs is asked.
func until(t *testing.T, what func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = what(); err == nil {
			return
		}
	}
	t.Error(err)
}

// TestKinds asks for the kind of every region of a program that makes one of each.
func TestKinds(t *testing.T) {
	build(t)
	dir := t.TempDir()
	names := []string{"plain", "deleted", "line\nbreak", "not\xffutf8", "is (deleted)", "-option"}
	var files []string
	for _, n := range names {
		files = append(files, filepath.Join(dir, n))
		if err := os.WriteFile(files[len(files)-1], make([]byte, 5000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x := start(t, exec.Command(programs.regions, files...))
	checkKinds := func(s *Snapshot) error {
		for name, want := range map[string]struct {
			kind Kind
			word string // in label
		}{
			"code": {Image, "/regions"}, "data": {Image, "/regions"}, "constant": {Image, "/regions"}, "bss": {Image, "/regions"}, "libc": {Image, "libc"},
			"main-stack": {Stack, "the main thread"}, "sleeper": {Stack, "(sleeper)"}, "spinner": {Stack, "(spinner)"},
			"heap": {Heap, "main arena"}, "arena": {Heap, "arena"}, "large": {Heap, "large block"},
			"private": {PrivateData, ""}, "reserved": {PrivateData, "reserved"}, "locked": {PrivateData, ""},
			"shared": {Shareable, ""}, "memfd": {Shareable, "/memfd:a memfd"}, "sysv": {Shareable, "/SYSV"},
			"file1": {MappedFile, "/plain"}, "file2": {MappedFile, "/deleted"}, "file3": {MappedFile, "/line\nbreak"},
			"file4": {MappedFile, "/not\xffutf8"}, "file5": {MappedFile, "/is (deleted)"}, "file6": {MappedFile, "/-option"},
		} {
			at, ok := x.said[name]
			if !ok {
				if name == "locked" {
					continue // more than this user may lock
				}
				return fmt.Errorf("the program did not say where %s is", name)
			}
			i := s.RegionOf(at)
			if i < 0 {
				return fmt.Errorf("%s at %x is in no region", name, at)
			}
			r := &s.Regions[i]
			if r.Kind != want.kind || !strings.Contains(r.Label(), want.word) {
				return fmt.Errorf("%s at %x: %s %q, want %s %q", name, at, r.Kind, r.Label(), want.kind, want.word)
			}
			if r.Deleted != (name == "file2" || name == "memfd" || name == "sysv" || name == "shared") {
				return fmt.Errorf("%s: deleted is %v", name, r.Deleted)
			}
			switch {
			case name == "locked" && r.LockedWS != pageSize:
				return fmt.Errorf("locked: %d bytes", r.LockedWS)
			case name == "reserved" && (r.Size < 1<<41 || r.Resident != 0):
				return fmt.Errorf("reserved: %+v", r.Columns)
			case name == "large" && r.Resident < 1<<20:
				return fmt.Errorf("large: %+v", r.Columns)
			}
		}
		return nil
	}
	until(t, func() error { return checkKinds(take(t, x.pid)) })
	s := take(t, x.pid)
	i := s.RegionOf(x.said["sleeper"])
	if r := &s.Regions[i]; len(r.Parts) != 2 || r.Parts[0].Detail != "guard" || r.Thread == 0 || r.Size > 9<<20 {
		t.Errorf("the stack of sleeper is %+v", r)
	}
	found := false
	for _, h := range s.Mallocs {
		if h.Name == "main arena" {
			found = true
			if h.Free < 15*5000 || h.FreeRuns < 15 || h.InUse < 20*5000 || h.Unwalked != 0 {
				t.Errorf("the main arena has 20 free blocks of 5,000 bytes between 20 in use: %+v", h)
			}
		}
	}
	if !found {
		t.Errorf("the main arena was not walked: %+v", s.Mallocs)
	}

	t.Run("texts", func(t *testing.T) { testTexts(t, x) })
	t.Run("core", func(t *testing.T) { testCore(t, x, checkKinds) })
	t.Run("changes", func(t *testing.T) { testChanges(t, x) })
}

func testChanges(t *testing.T, x *target) {
	before := take(t, x.pid)
	x.tell(t, "grow")
	x.tell(t, "map")
	after := take(t, x.pid)
	d := Compare(before, after)
	var grew, appeared bool
	for _, c := range d.Changes {
		grew = grew || c.What == Grew && c.Kind == Heap && c.Resident >= 1<<20
		appeared = appeared || (c.What == Appeared || c.What == Grew) && c.Kind == PrivateData && c.Resident >= 4<<20
	}
	if !grew || !appeared || d.Total.Resident < 6<<20 {
		t.Errorf("the heap grew by 2 MB and 4 MB were mapped: %+v", d)
	}
	back := Compare(after, before)
	if back.Total.Resident != -d.Total.Resident || len(back.Changes) != len(d.Changes) {
		t.Errorf("backwards %+v", back.Total)
	}
	if same := Compare(after, after); len(same.Changes) != 0 || len(same.Kinds) != 0 || same.Same != len(after.Regions) {
		t.Errorf("compared with itself: %+v", same)
	}
	m := MomentOf(after, before)
	sum := int64(0)
	for _, n := range m.Kinds {
		sum += n
	}
	if sum != m.Resident || m.Resident != after.Total().Resident {
		t.Errorf("moment %+v", m)
	}
}

// TestGo checks what is told of a Go program.
func TestGo(t *testing.T) {
	build(t)
	x := start(t, exec.Command(programs.goTarget))
	until(t, func() error {
		s := take(t, x.pid)
		if s.Go == "" {
			return fmt.Errorf("no Go runtime: %v", s.Notes)
		}
		kinds := map[Kind]Columns{}
		for _, k := range s.ByKind() {
			kinds[k.Kind] = k.Columns
		}
		if kinds[ManagedHeap].Resident < 3<<20 || kinds[RuntimeMetadata].Resident < 300<<10 || kinds[PrivateData].Resident > 64<<10 {
			return fmt.Errorf("%+v", s.ByKind())
		}
		terms := map[string]Term{}
		for _, x := range s.Terms {
			terms[x.Name] = x
		}
		if n := terms[TermLive]; n.Bytes < 2000*1792 || n.Number < 2000+5000 {
			return fmt.Errorf("live: %+v", n)
		}
		if n := terms[TermStacks]; n.Bytes < 50*2048 || n.Number < 50 {
			return fmt.Errorf("stacks: %+v", n)
		}
		if terms[TermFreeSlots].Bytes < 500*1792 || terms[TermImages].Bytes == 0 || terms[TermMetadata].Bytes == 0 || terms[TermTails].Bytes == 0 {
			return fmt.Errorf("%+v", s.Terms)
		}
		if c := terms[TermChanged].Bytes; c != 0 {
			return fmt.Errorf("a program that waits changed by %d bytes", c)
		}
		for _, c := range s.Classes {
			if c.SlotSize == 1792 && c.NoPointers && (c.Live < 2000 || c.Live > 2100) {
				return fmt.Errorf("size class %+v", c)
			}
		}
		if len(s.Stacks) == 0 {
			return errors.New("no stack sizes")
		}
		return nil
	})
}

// TestSums compares sums with what the kernel sums up, for programs of many kinds.
// narrowProgram is a 32-bit program that waits; "" where the assembler or the kernel has no such.
func narrowProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(programs.dir, "narrow32")
	// mmap2 of 1 MB, of which two pages are touched, then pause for ever.
	const source = `
.globl _start
_start:
	movl $192, %eax
	xorl %ebx, %ebx
	movl $0x100000, %ecx
	movl $3, %edx
	movl $0x22, %esi
	movl $-1, %edi
	xorl %ebp, %ebp
	int $0x80
	movl $1, (%eax)
	movl $1, 0x4000(%eax)
again:
	movl $29, %eax
	int $0x80
	jmp again
.bss
	.space 8192
`
	as := exec.Command("as", "--32", "-o", path+".o", "-")
	as.Stdin = strings.NewReader(source)
	if as.Run() != nil || exec.Command("ld", "-m", "elf_i386", "-o", path, path+".o").Run() != nil {
		return ""
	}
	cmd := exec.Command(path)
	if cmd.Start() != nil {
		return "" // the kernel runs no 32-bit programs
	}
	cmd.Process.Kill()
	cmd.Wait()
	return path
}

func TestSums(t *testing.T) {
	build(t)
	static := filepath.Join(programs.dir, "static")
	if out, err := exec.Command("gcc", "-static", "-pthread", "-o", static, "testdata/regions.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commands := [][]string{
		{programs.regions}, {static}, {programs.goTarget}, {"cat"}, {"sh", "-c", "read x"}, {"bash", "-c", "read x"},
		{"perl", "-e", "my @a = (1..100000); <STDIN>"}, {"python3", "-c", "import json, re, sys; a = list(range(100000)); sys.stdin.read()"},
		{"node", "-e", "a=[]; for(i=0;i<1e5;i++)a.push({i}); process.stdin.resume()"}, {"sqlite3"}, {"gdb", "-q"}, {"sed", ""}, {"tee"},
	}
	narrow := filepath.Join(programs.dir, "narrow")
	if exec.Command("gcc", "-m32", "-pthread", "-o", narrow, "testdata/regions.c").Run() == nil {
		commands = append(commands, []string{narrow})
	}
	if path := narrowProgram(t); path != "" {
		commands = append(commands, []string{path})
	}
	for _, c := range commands {
		if _, err := exec.LookPath(c[0]); err != nil {
			continue
		}
		t.Run(filepath.Base(c[0]), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(c[0], c[1:]...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { in.Close(); cmd.Process.Kill(); cmd.Wait() }()
			until(t, func() error {
				p, err := Open(cmd.Process.Pid)
				if err != nil {
					return err
				}
				defer p.Close()
				s, err := p.Take(t.Context())
				if err != nil {
					return err
				}
				laws(t, s)
				total := s.Total()
				// What is read while it changes cannot agree, so after a look at a program that runs it is
				// stopped for the next ones.
				if err := syscall.Kill(cmd.Process.Pid, syscall.SIGSTOP); err != nil {
					return err
				}
				if after, err := p.rollup(); err != nil || after != s.Status.Rollup {
					return fmt.Errorf("being looked at changed what is resident from %d to %d, %v", s.Status.Rollup, after, err)
				}
				if total.Resident != s.Status.Rollup || total.Resident != s.Status.Resident || s.Status.Changed != 0 || total.Size != s.Status.Size {
					return fmt.Errorf("resident %d, smaps_rollup %d, VmRSS %d; size %d, VmSize %d", total.Resident, s.Status.Rollup, s.Status.Resident, total.Size, s.Status.Size)
				}
				return nil
			})
		})
	}
}

// A process that runs another program than it did is mapped as that.
func TestExec(t *testing.T) {
	build(t)
	cmd := exec.Command("sh", "-c", `echo ready; read x; exec "$0"`, programs.goTarget)
	x := start(t, cmd)
	p, err := Open(x.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if s, err := p.Take(t.Context()); err != nil || s.Go != "" || s.Terms != nil {
		t.Fatalf("of the shell: %v, %+v", err, s)
	}
	io.WriteString(x.in, "\n")
	x.listen(t, "ready")
	for _, take := range []func(context.Context) (*Snapshot, error){p.TakeLight, p.Take} {
		s, err := take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Go == "" || s.Terms == nil || s.Exe != programs.goTarget || s.Name != "gotarget" {
			t.Errorf("of what it runs now: %s, %s, %q, %v", s.Exe, s.Name, s.Go, s.Notes)
		}
	}
}

// TestLight compares what timelines take with a whole snapshot, of a process that is stopped.
func TestLight(t *testing.T) {
	build(t)
	for _, path := range []string{programs.regions, programs.goTarget} {
		x := start(t, exec.Command(path))
		stop(t, x.pid)
		p, err := Open(x.pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		whole, err := p.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 { // the second has the claims of the first
			light, err := p.TakeLight(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			laws(t, light)
			a, b := MomentOf(whole, whole), MomentOf(light, light)
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("%s, light snapshot %d: %s", filepath.Base(path), i, diff)
			}
		}
	}
}

// stop stops a process until the test ends, and returns when all its threads have stopped.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	until(t, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(tasks) == 0 {
			return fmt.Errorf("no threads: %v", err)
		}
		for _, name := range tasks {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if _, rest, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(rest, "T") {
				return fmt.Errorf("%s is in state %.1s", name, rest)
			}
		}
		return nil
	})
}

func TestGone(t *testing.T) {
	if _, err := Open(1 << 30); !errors.Is(err, ErrNoProcess) {
		t.Errorf("of no process: %v", err)
	}
	cmd := exec.Command("cat")
	in, _ := cmd.StdinPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	in.Close() // it ends and becomes a zombie
	until(t, func() error {
		if _, err := p.Take(t.Context()); !errors.Is(err, ErrNoMemory) {
			return fmt.Errorf("of a zombie: %v", err)
		}
		return nil
	})
	until(t, func() error {
		if _, err := Open(cmd.Process.Pid); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "zombie") {
			return fmt.Errorf("open a zombie: %v", err)
		}
		return nil
	})
	cmd.Wait()
	// Whatever gets its number next, p is the one that was opened.
	if _, err := p.Take(t.Context()); !errors.Is(err, ErrNoProcess) {
		t.Errorf("of a process that is gone: %v", err)
	}
}

// TestLeaderGone maps a process whose main thread has ended while others go on.
func TestLeaderGone(t *testing.T) {
	build(t)
	x := start(t, exec.Command(programs.regions))
	io.WriteString(x.in, "leave\n")
	until(t, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.pid))
		if err != nil || !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("the main thread goes on: %s %v", stat, err)
		}
		return nil
	})
	if _, err := Open(x.pid); !errors.Is(err, ErrNoMemory) {
		t.Errorf("of a process without a main thread: %v", err)
	}
}

func TestKernelThread(t *testing.T) {
	for pid := 2; pid < 100; pid++ {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe != "" || errors.Is(err, os.ErrPermission) {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			continue
		}
		_, err := Open(pid)
		if !errors.Is(err, ErrNoMemory) {
			t.Errorf("process %d: %v", pid, err)
		}
		return
	}
	t.Skip("there are no kernel threads here: a container")
}

// TestNoPermission runs this test's program as another user, who may see sums only.
func TestNoPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root to become another user")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "MEMMAP_PARTIAL="+strconv.Itoa(os.Getpid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "partial: true, 0 regions, resident: true, The regions of process ") {
		t.Errorf("%v: %s", err, out)
	}
}

func partialChild() {
	pid, _ := strconv.Atoi(os.Getenv("MEMMAP_PARTIAL"))
	p, err := Open(pid)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := p.Take(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("partial: %v, %d regions, resident: %v, %s\n", s.Partial, len(s.Regions), s.Status.Resident > 0, strings.Join(s.Notes, " "))
}

// TestOtherNamespace maps a process that has other ids and another view of files than this one.
func TestOtherNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root to make namespaces")
	}
	build(t)
	cmd := exec.Command(programs.regions)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	x := start(t, cmd)
	until(t, func() error {
		s := take(t, x.pid)
		for _, name := range []string{"sleeper", "spinner"} {
			if r := &s.Regions[s.RegionOf(x.said[name])]; r.Kind != Stack || !strings.Contains(r.Detail, name) {
				return fmt.Errorf("%s: %s %q", name, r.Kind, r.Detail)
			}
		}
		return nil
	})
}
