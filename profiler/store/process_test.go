package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// TestMain is also the other processes of the tests: with roleVariable set, the test binary plays a
// role on the store of its argument.
func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	s, err := Open(os.Args[1], Options{Wait: 60 * time.Second})
	if err == nil {
		err = role(s, os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

const roleVariable = "STORE_TEST_ROLE"

var roles = map[string]func(s *Store, args []string) error{
	"hold":    hold,
	"record":  record,
	"put":     putMany,
	"limit":   putLimited,
	"churn":   churn,
	"migrate": migrateAgain,
}

// another starts a process in a role. Its standard output is read line by line.
func another(t *testing.T, role, path string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe := must[string](t)(os.Executable())
	cmd := exec.Command(exe, append([]string{path}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// hold keeps the lock until it is killed.
func hold(s *Store, args []string) error {
	f, err := os.OpenFile(s.Path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	how := syscall.LOCK_EX
	if args[0] == "shared" {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		return err
	}
	fmt.Println("held")
	time.Sleep(time.Hour)
	return nil
}

// record flushes a capture in pieces of 100 samples and kills itself.
func record(s *Store, args []string) error {
	n, _ := strconv.Atoi(args[0])
	c := generate(small, 1)
	w, err := s.Begin(prefix(c, 0))
	if err != nil {
		return err
	}
	for i := 100; i <= n; i += 100 {
		if err := w.Flush(prefix(c, i)); err != nil {
			return err
		}
	}
	fmt.Println(w.ID())
	if len(args) > 1 { // stay, as a recorder at work
		time.Sleep(time.Hour)
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// putMany stores and lists in turns, and prints the ids.
func putMany(s *Store, args []string) error {
	n, _ := strconv.Atoi(args[0])
	seed, _ := strconv.ParseUint(args[1], 10, 64)
	sh := small
	sh.samples, sh.stacks = 100, 20
	c := generate(sh, seed)
	for range n {
		m, err := s.Put(c)
		if err != nil {
			return err
		}
		list, err := s.List()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(x Meta) bool { return x.ID == m.ID }) {
			return fmt.Errorf("capture %s is not listed after it was stored", m.ID)
		}
		fmt.Println(m.ID)
	}
	return nil
}

// putLimited stores until the file may not grow any more, then tells how that looked.
func putLimited(s *Store, args []string) error {
	limit, _ := strconv.ParseUint(args[0], 10, 64)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	return fillUp(s, func(line string) { fmt.Println(line) })
}

// fillUp stores captures and flushes one until there is no space, and reports the ids, "begun" ID
// and "samples" N of the one that was being flushed.
func fillUp(s *Store, report func(string)) error {
	recorded := generate(shape{samples: 20_000, stacks: 3000, depth: 20, cpus: 2, threads: 4, files: 3}, 9)
	w, err := s.Begin(prefix(recorded, 100))
	if err != nil {
		return err
	}
	report("begun " + string(w.ID()))
	n := 100
	for i := 0; ; i++ {
		m, err := s.Put(generate(small, uint64(i)))
		if err == nil {
			report(string(m.ID))
		}
		if err == nil && n < 20_000 {
			if err = w.Flush(prefix(recorded, n+1000)); err == nil {
				n = min(n+1000, 20_000)
			}
		}
		if errors.Is(err, ErrFull) {
			report(fmt.Sprint("samples ", n))
			if _, err := w.Finish(recorded); !errors.Is(err, ErrFull) {
				return fmt.Errorf("finished without space: %v", err)
			}
			if !strings.Contains(err.Error(), "free some space") {
				return fmt.Errorf("the error names no remedy: %v", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A recorder that is killed leaves a capture up to its last flush.
func TestKilledWriter(t *testing.T) {
	for _, n := range []int{0, 100, 700} {
		s := open(t, Options{})
		cmd, out := another(t, "record", s.Path(), strconv.Itoa(n))
		if !out.Scan() {
			t.Fatal("the recorder said nothing")
		}
		id := ID(out.Text())
		if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
			t.Fatalf("the recorder ended with %v", err)
		}
		m := must[Meta](t)(s.LoadMeta(id))
		if !m.Interrupted || m.Recording {
			t.Errorf("interrupted %v, recording %v", m.Interrupted, m.Recording)
		}
		got := must[*profile.Capture](t)(s.Load(id))
		if len(got.Warnings) != 2 || got.Warnings[1].Kind != profile.WarnInterrupted || !got.Interrupted {
			t.Errorf("interrupted %v, warnings %v", got.Interrupted, got.Warnings)
		}
		want := prefix(generate(small, 1), n)
		got.Warnings, got.Interrupted = want.Warnings, false
		if d := diff(want, got); d != "" {
			t.Error(d)
		}
		if again := must[ID](t)(s.Resolve("@")); again != id {
			t.Errorf("@ is %s", again)
		}
		// It can be finished by whoever finds it.
		whole := generate(small, 1)
		whole.Interrupted = true
		done := must[Meta](t)(s.Replace(id, whole))
		if done.ID != id || len(must[[]Meta](t)(s.List())) != 1 {
			t.Errorf("finished as %s", done.ID)
		}
	}
}

// A capture that is being recorded is neither removed, nor replaced, nor found by @.
func TestLiveWriter(t *testing.T) {
	s := open(t, Options{Budget: 1})
	cmd, out := another(t, "record", s.Path(), "200", "stay")
	if !out.Scan() {
		t.Fatal("the recorder said nothing")
	}
	id := ID(out.Text())
	if m := must[Meta](t)(s.LoadMeta(id)); !m.Recording || !m.Interrupted {
		t.Errorf("recording %v, interrupted %v", m.Recording, m.Interrupted)
	}
	if err := s.Remove(id); !errors.Is(err, ErrRecording) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("removing says %v", err)
	}
	if _, err := s.Replace(id, generate(small, 1)); !errors.Is(err, ErrRecording) {
		t.Errorf("replacing says %v", err)
	}
	if _, err := s.Resolve("@"); !errors.Is(err, ErrNoCapture) {
		t.Errorf("@ says %v", err)
	}
	if c := must[*profile.Capture](t)(s.Load(id)); !c.Interrupted || c.Series[0].Samples.Len() != 200 {
		t.Errorf("loaded %d samples, interrupted %v", c.Series[0].Samples.Len(), c.Interrupted)
	}
	if m := must[Meta](t)(s.Put(generate(small, 2))); m.Pruned != nil {
		t.Errorf("pruned %v", m.Pruned)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if m := must[Meta](t)(s.Put(generate(small, 3))); len(m.Pruned) != 2 || m.Pruned[0] != id {
		t.Errorf("pruned %v, %s was interrupted", m.Pruned, id)
	}
}

// Whoever holds the file too long is named.
func TestHolderIsNamed(t *testing.T) {
	s := open(t, Options{Wait: 50 * time.Millisecond})
	m := must[Meta](t)(s.Put(generate(small, 1)))
	for _, how := range []string{"exclusive", "shared"} {
		cmd, out := another(t, "hold", s.Path(), how)
		if !out.Scan() || out.Text() != "held" {
			t.Fatal("the holder does not hold")
		}
		_, put := s.Put(generate(small, 2))
		_, list := s.List()
		for what, err := range map[string]error{"put": put, "list": list} {
			if what == "list" && how == "shared" {
				if err != nil {
					t.Errorf("reading beside a reader: %v", err)
				}
				continue
			}
			if !errors.Is(err, ErrBusy) {
				t.Fatalf("%s while it is held: %v", what, err)
			}
			for _, want := range []string{s.Path(), fmt.Sprint("process ", cmd.Process.Pid), filepath.Base(os.Args[0]), "wait for it to end"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: no %q in %q", what, want, err)
				}
			}
		}
		// The other way to find it, for where /proc/locks has no answer.
		f := must[*os.File](t)(os.Open(s.Path()))
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if pids := lockersByFiles(&st); !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Errorf("by open files the holders are %v, not %d", pids, cmd.Process.Pid)
		}
		f.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}
	if _, err := s.Load(m.ID); err != nil {
		t.Error(err)
	}
}

// Two processes store and list at once, and nothing is lost.
func TestTwoProcesses(t *testing.T) {
	s := open(t, Options{Wait: 60 * time.Second})
	const each = 25
	var ids []string
	type result struct {
		ids []string
		err error
	}
	results := make(chan result)
	for seed := range 2 {
		cmd, out := another(t, "put", s.Path(), strconv.Itoa(each), strconv.Itoa(seed))
		go func() {
			var r result
			for out.Scan() {
				r.ids = append(r.ids, out.Text())
			}
			r.err = cmd.Wait()
			results <- r
		}()
	}
	// Meanwhile this process compacts, so the file is another one again and again.
	for done := 0; done < 2; {
		select {
		case r := <-results:
			if r.err != nil {
				t.Error(r.err)
			}
			ids = append(ids, r.ids...)
			done++
		default:
			if err := s.Compact(); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != 2*each {
		t.Fatalf("%d ids, of which some are the same", len(ids))
	}
	list := must[[]Meta](t)(s.List())
	var listed []string
	for _, m := range slices.Backward(list) {
		listed = append(listed, string(m.ID))
	}
	if !slices.Equal(ids, listed) {
		t.Errorf("stored %v, listed %v", ids, listed)
	}
}

// verifyFilled checks that all that fillUp reported is there.
func verifyFilled(t *testing.T, s *Store, lines []string) {
	t.Helper()
	if len(lines) < 3 {
		t.Fatalf("only this was stored before space ran out: %v", lines)
	}
	var begun ID
	stored := 0
	for _, line := range lines {
		if id, ok := strings.CutPrefix(line, "begun "); ok {
			begun = ID(id)
		} else if n, ok := strings.CutPrefix(line, "samples "); ok {
			want, _ := strconv.Atoi(n)
			c := must[*profile.Capture](t)(s.Load(begun))
			if c.Series[0].Samples.Len() != want || !c.Interrupted {
				t.Errorf("%d samples were flushed and %d are there, interrupted %v", want, c.Series[0].Samples.Len(), c.Interrupted)
			}
		} else {
			stored++
			if _, err := s.Load(ID(line)); err != nil {
				t.Error(err)
			}
		}
	}
	if list := must[[]Meta](t)(s.List()); len(list) != stored+1 {
		t.Errorf("%d captures were stored and %d are there", stored+1, len(list))
	}
}

// A limit of the file's size is a full disk that needs no privilege.
func TestSizeLimit(t *testing.T) {
	s := open(t, Options{})
	cmd, out := another(t, "limit", s.Path(), "400000")
	var lines []string
	for out.Scan() {
		lines = append(lines, out.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	verifyFilled(t, s, lines)
	// With space again, all works.
	if _, err := s.Put(generate(small, 77)); err != nil {
		t.Error(err)
	}
}

func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root; TestSizeLimit does nearly the same")
	}
	dir := t.TempDir()
	if err := unix.Mount("store_test", dir, "tmpfs", 0, "size=600k"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openAt(t, filepath.Join(dir, "captures.db"), Options{})
	var lines []string
	if err := fillUp(s, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	verifyFilled(t, s, lines)
	var id ID
	for _, line := range lines[1:] {
		if !strings.Contains(line, " ") {
			id = ID(line)
		}
	}
	// Removing needs a little space too. bbolt writes the changed pages to free ones first.
	if err := s.Remove(id); err != nil {
		t.Errorf("removing to make space: %v", err)
	}
}

// asNobody runs f with the rights to files of an ordinary user: the file system user of this
// thread alone is changed, which takes its capabilities over files too (capabilities(7)).
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		unix.SetfsgidRetGid(65534)
		unix.SetfsuidRetUid(65534)
		f()
	}()
	<-done
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "store", "captures.db"), Options{})
	m := must[Meta](t)(s.Put(generate(small, 1)))
	for _, d := range []string{filepath.Dir(dir), dir, filepath.Dir(s.Path())} {
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(d, 0o755) })
	}
	if err := os.Chmod(s.Path(), 0o444); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		s, err := Open(s.Path(), Options{})
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := s.Load(m.ID); err != nil {
			t.Errorf("reading a read-only file: %v", err)
		}
		if list, err := s.List(); err != nil || len(list) != 1 {
			t.Errorf("listing a read-only file: %d, %v", len(list), err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("checking a read-only file: %v", err)
		}
		_, put := s.Put(generate(small, 2))
		_, begin := s.Begin(generate(small, 2))
		elsewhere, err := Open(filepath.Join(dir, "new", "captures.db"), Options{})
		if err != nil {
			t.Error(err)
			return
		}
		_, fresh := elsewhere.Put(generate(small, 2))
		for what, err := range map[string]error{
			"put": put, "begin": begin, "remove": s.Remove(m.ID), "pin": s.Pin(m.ID, true), "new": fresh, "compact": s.Compact(),
		} {
			if !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "change its owner") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// A store that root has made, as with sudo, cannot be read by an ordinary user, who is told by whom it is.
func TestRootsStore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a store that another user opens")
	}
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "store", "captures.db"), Options{})
	must[Meta](t)(s.Put(churned(1)))
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o700, 0o755} { // of the folder: then of the file, which is 0600
		if err := os.Chmod(filepath.Dir(s.Path()), mode); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, err := Open(s.Path(), Options{})
			if !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "owner 0") || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "\n") {
				t.Errorf("folder of mode %v: %v", mode, err)
			}
		})
	}
}

// Where the clock is set back, what is stored later is still the later one.
func TestClockSetBack(t *testing.T) {
	s := open(t, Options{})
	now := time.Now()
	s.now = func() time.Time { return now }
	first := must[Meta](t)(s.Put(churned(1)))
	now = now.Add(-48 * time.Hour)
	w := must[*Writer](t)(s.Begin(prefix(churned(2), 10)))
	if m := must[Meta](t)(s.LoadMeta(w.ID())); !m.Recording {
		t.Error("a capture that is being recorded is not said to be")
	}
	now = now.Add(-48 * time.Hour)
	if err := w.Flush(prefix(churned(2), 100)); err != nil {
		t.Error(err)
	}
	second := must[Meta](t)(w.Finish(churned(2)))
	if second.ID <= first.ID {
		t.Errorf("%s was stored before %s", first.ID, second.ID)
	}
	if id := must[ID](t)(s.Resolve("@")); id != second.ID {
		t.Errorf("the newest is %s, not %s", id, second.ID)
	}
	// The oldest goes first, by the order in which they were stored.
	s.opts.Budget = 1
	if third := must[Meta](t)(s.Put(churned(3))); !slices.Equal(third.Pruned, []ID{first.ID, second.ID}) {
		t.Errorf("pruned %v", third.Pruned)
	}
}
