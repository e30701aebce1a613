package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
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

// TestMain is also the other processes of the tests: with roleVariable set, the test binary plays a
// role on the folder of its argument.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(roles[role](os.Args[1]))
	}
	os.Exit(m.Run())
}

const roleVariable = "DAEMON_TEST_ROLE"

var roles = map[string]func(dir string) int{
	"daemon": beDaemon, "connect": connectTo, "crash": func(dir string) int { return crash(dir, false) },
	"killed": func(dir string) int { return crash(dir, true) },
}

func as(role, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// nobody is another user, whom only root can become.
func nobody(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func find(t *testing.T, parent string) *Place {
	t.Helper()
	p, err := Find(func(string) string { return parent }, "build")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func listen(t *testing.T, p *Place) *Listener {
	t.Helper()
	l, err := Listen(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Each folder that is not the user's own alone is refused with a sentence and a remedy.
func TestFolderIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"link", func(t *testing.T, dir string) {
			if err := os.Symlink(t.TempDir(), dir); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"file", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no folder"},
		{"open", func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o750)); err != nil {
				t.Fatal(err)
			}
		}, "chmod 700"},
		{"owner", func(t *testing.T, dir string) {
			nobody(t)
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534)); err != nil {
				t.Fatal(err)
			}
		}, "belongs to user 65534"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			c.make(t, filepath.Join(parent, FolderName))
			p, err := Find(func(string) string { return parent }, "build")
			if err == nil {
				p.Close()
				t.Fatal("the folder was taken")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), ";") {
				t.Errorf("error %q, want one sentence with %q and a remedy", err, c.want)
			}
		})
	}
}

// Without a runtime folder of one's own, as with sudo or in a container, there is one in /tmp.
func TestFolderWithoutRuntimeFolder(t *testing.T) {
	defer func(old string) { temporary = old }(temporary)
	temporary = t.TempDir()
	want := filepath.Join(temporary, fmt.Sprintf("sightline-%d", os.Geteuid()))
	parents := []string{"", "relative", filepath.Join(temporary, "missing")}
	if os.Geteuid() == 0 {
		foreign := t.TempDir()
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		parents = append(parents, foreign)
	}
	for _, parent := range parents {
		if p := find(t, parent); p.Dir != want {
			t.Errorf("with XDG_RUNTIME_DIR=%s the folder is %s, want %s", parent, p.Dir, want)
		}
	}
	info, err := os.Stat(want)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v; want mode 0700", info.Mode(), err)
	}
	temporary = filepath.Join(temporary, "gone")
	if _, err := Find(func(string) string { return "" }, "build"); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("error %v, want one that names XDG_RUNTIME_DIR", err)
	}
}

// A path that is longer than an address may be is reached all the same.
func TestLongPath(t *testing.T) {
	parent := filepath.Join(t.TempDir(), strings.Repeat("a", 120))
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	p := find(t, parent)
	l := listen(t, p)
	go serveOne(l, func(c *Conn) { c.Send("hello") })
	c, err := Dial(p, Hello{Wants: "test"}, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var said string
	if err := c.Receive(&said); err != nil || said != "hello" {
		t.Errorf("received %q, %v", said, err)
	}
}

// serveOne serves the next connection.
func serveOne(l *Listener, f func(*Conn)) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	if c.ReadHello() == nil && c.Accept(Welcome{Version: "1", PID: os.Getpid()}) == nil {
		f(c)
	}
}

// Of many that want to be the daemon at once, one is. When it is killed another can be, in spite of the
// socket that it left, and clients are told that none runs in between.
func TestOneDaemon(t *testing.T) {
	parent := t.TempDir()
	p := find(t, parent)
	if _, err := Dial(p, Hello{}, 30*time.Second); err != ErrNone {
		t.Fatalf("before any runs: %v", err)
	}
	for round := range 3 {
		type said struct {
			cmd  *exec.Cmd
			text string
		}
		answers := make(chan said)
		const many = 6
		for range many {
			go func() {
				cmd := as("daemon", parent)
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					answers <- said{nil, err.Error()}
					return
				}
				b := make([]byte, 64)
				n, _ := out.Read(b)
				answers <- said{cmd, string(b[:n])}
			}()
		}
		var daemon *exec.Cmd
		for range many {
			switch a := <-answers; {
			case a.text == "listens\n" && daemon == nil:
				daemon = a.cmd
			case a.text == ErrRuns.Error()+"\n":
				a.cmd.Wait()
			default:
				t.Errorf("round %d: %q", round, a.text)
			}
		}
		if daemon == nil {
			t.Fatalf("round %d: none listens", round)
		}
		c, err := Dial(p, Hello{Wants: "test"}, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if c.PID() != daemon.Process.Pid {
			t.Errorf("process %d answers, want %d", c.PID(), daemon.Process.Pid)
		}
		c.Close()
		daemon.Process.Kill()
		daemon.Wait()
		if _, err := os.Lstat(p.Socket()); err != nil {
			t.Errorf("the socket of a killed daemon: %v", err)
		}
		if _, err := Dial(p, Hello{}, 30*time.Second); err != ErrNone {
			t.Errorf("after it was killed: %v", err)
		}
	}
	// One that ends by itself leaves nothing.
	l := listen(t, p)
	l.Close()
	if left, err := os.ReadDir(p.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func beDaemon(parent string) int {
	p, err := Find(func(string) string { return parent }, "build")
	var l *Listener
	if err == nil {
		l, err = Listen(p, 0)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listens")
	for {
		serveOne(l, func(*Conn) {})
	}
}

// Another user is not let in, and does not speak to a daemon that is not theirs, even where the folder
// does not keep them apart.
func TestOtherUser(t *testing.T) {
	other := nobody(t)
	parent := t.TempDir()
	p := find(t, parent)
	l := listen(t, p)
	go serveOne(l, func(*Conn) { t.Error("another user was served") })
	for dir := p.Dir; dir != filepath.Dir(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			os.Chmod(dir, info.Mode()|0o055)
		}
	}
	os.Chmod(p.Socket(), 0o777)
	cmd := as("connect", p.Socket())
	cmd.Path, cmd.SysProcAttr = filepath.Join(p.Dir, "binary"), other // go's folder of it is closed to others
	if err := os.WriteFile(cmd.Path, must(os.ReadFile("/proc/self/exe")), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := string(out)
	if !strings.Contains(text, "user 65534") || !strings.Contains(text, "user 0") || strings.Count(text, "\n") != 2 {
		t.Errorf("another user is told %q", text)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// connectTo says what the daemon answers, and what we think of it.
func connectTo(socket string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	conn := &Conn{net: c.(*net.UnixConn)}
	fmt.Println(ownPeer(conn.net, "the daemon"))
	kind, text, err := readFrame(c, maxFrame)
	fmt.Printf("%c %s %v\n", kind, text, err)
	return 0
}

// A client that says nothing, half of something, too much or what makes no sense is told so and does
// not keep others waiting.
func TestBadClients(t *testing.T) {
	p := find(t, t.TempDir())
	l := listen(t, p)
	ended := make(chan error, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { ended <- c.ReadHello() }()
		}
	}()
	for _, c := range []struct{ name, bytes, want string }{
		{"1 GB", "H\x40\x00\x00\x00", "frame of 1073741824 bytes"},
		{"half", "H\x00\x00\x00\x10{", "unexpected EOF"},
		{"nothing", "", "EOF"},
		{"kind", "Z\x00\x00\x00\x00", "kind 'Z'"},
		{"no JSON", "H\x00\x00\x00\x01{", "JSON"},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "frame of 1163141167 bytes"},
	} {
		conn, err := net.Dial("unix", p.Socket())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c.bytes)
		conn.(*net.UnixConn).CloseWrite()
		kind, text, err := readFrame(conn, maxFrame)
		if err != nil || kind != frameRefusal || !strings.Contains(string(text), c.want) {
			t.Errorf("%s: answered %q %q, %v; want a refusal with %q", c.name, kind, text, err, c.want)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: taken for a hello", c.name)
		}
		conn.Close()
	}
}

// The runtime folder goes with the last login and comes again with the next one, with another daemon in
// it. The end of the one before does it no harm.
func TestFolderComesAgain(t *testing.T) {
	parent := t.TempDir()
	p := find(t, parent)
	first := listen(t, p)
	if err := os.Rename(p.Dir, p.Dir+".gone"); err != nil {
		t.Fatal(err)
	}
	again := find(t, parent)
	second := listen(t, again)
	first.StopListening()
	first.Close()
	go serveOne(second, func(*Conn) {})
	c, err := Dial(again, Hello{}, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := Listen(again, 0); !errors.Is(err, ErrRuns) {
		t.Errorf("a third one listens: %v", err)
	}
}

// A client that says nothing and stays is told so as well.
func TestSilentClient(t *testing.T) {
	defer func(old time.Duration) { helloWithin = old }(helloWithin)
	helloWithin = 50 * time.Millisecond
	p := find(t, t.TempDir())
	l := listen(t, p)
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.ReadHello()
		}
		served <- err
	}()
	conn, err := net.Dial("unix", p.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kind, text, err := readFrame(conn, maxFrame)
	if err != nil || kind != frameRefusal || !strings.Contains(string(text), "did not say what it wants within 50ms") {
		t.Errorf("answered %q %q, %v", kind, text, err)
	}
	if err := <-served; err == nil {
		t.Error("it was served")
	}
}

// Whatever stands in the socket's place is replaced, and not what it leads to; and a client that meets
// somebody else's socket there says nothing to it.
func TestSocketIsReplaced(t *testing.T) {
	elsewhere := t.TempDir()
	target := filepath.Join(elsewhere, "theirs")
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"symbolic link", func(path string) error {
			return errors.Join(os.WriteFile(target, []byte("kept"), 0o600), os.Symlink(target, path))
		}},
		{"dangling link", func(path string) error { return os.Symlink(filepath.Join(elsewhere, "nothing"), path) }},
		{"file", func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }},
		{"empty folder", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"another's file", func(path string) error {
			err := os.WriteFile(path, nil, 0o600)
			if os.Geteuid() == 0 {
				err = errors.Join(err, os.Chown(path, 65534, 65534))
			}
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := find(t, t.TempDir())
			if err := c.make(p.Socket()); err != nil {
				t.Fatal(err)
			}
			l := listen(t, p)
			go serveOne(l, func(*Conn) {})
			conn, err := Dial(p, Hello{}, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		})
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "kept" {
		t.Errorf("what the link led to is %q, %v", text, err)
	}
	p := find(t, t.TempDir())
	if err := errors.Join(os.Mkdir(p.Socket(), 0o700), os.WriteFile(filepath.Join(p.Socket(), "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(p, 0); err == nil || !strings.Contains(err.Error(), p.Socket()) || !strings.Contains(err.Error(), "; remove it") {
		t.Errorf("in the place of a folder: %v, %v", l, err)
	}

	// Another user's daemon, reached by a link that somebody has talked us into.
	other := nobody(t)
	open := t.TempDir()
	for dir := open; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	theirs := filepath.Join(open, "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	cmd := as("daemon", theirs)
	cmd.Path, cmd.SysProcAttr = filepath.Join(open, "binary"), other
	if err := os.WriteFile(cmd.Path, must(os.ReadFile("/proc/self/exe")), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listens\n" {
		t.Fatalf("%q, %v", line, err)
	}
	p = find(t, t.TempDir())
	if err := os.Symlink(filepath.Join(theirs, FolderName, "build.sock"), p.Socket()); err != nil {
		t.Fatal(err)
	}
	if c, err := Dial(p, Hello{}.Environment(), 30*time.Second); err == nil || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("another user's daemon was spoken to: %v, %v", c, err)
	}
}

// Bytes go both ways as they are, the log and the exit status beside them.
func TestForward(t *testing.T) {
	p := find(t, t.TempDir())
	l := listen(t, p)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // more than a frame
	go serveOne(l, func(c *Conn) {
		e := c.Editor()
		got, err := io.ReadAll(e)
		if err != nil {
			t.Error(err)
		}
		c.Log([]byte("a line\n"))
		e.Write(got)
		e.Close()
		c.Exit(3)
	})
	hello := Hello{Wants: "session"}.Environment()
	c, err := Dial(p, hello, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	status, whole, err := c.Forward(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(sent), &out}, &log)
	if status != 3 || !whole || err != nil || !bytes.Equal(out.Bytes(), sent) || log.String() != "a line\n" {
		t.Errorf("status %d, whole %v, %v, %d bytes, log %q", status, whole, err, out.Len(), log.String())
	}
	if env := hello.Environ(); strings.Join(env, "\n") != strings.Join(os.Environ(), "\n") {
		t.Errorf("the environment came as %q", env)
	}

	// A daemon that goes away within a message leaves half of it.
	go serveOne(l, func(c *Conn) {
		b := appendHeader(nil, frameData, 5)
		c.net.Write(append(b, "\x01half"...))
	})
	if c, err = Dial(p, Hello{}, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, whole, err := c.Forward(struct {
		io.Reader
		io.Writer
	}{strings.NewReader(""), io.Discard}, io.Discard); whole || !errors.Is(err, ErrGone) {
		t.Errorf("whole %v, %v", whole, err)
	}
}

// A log never takes more than its bound, keeps the newest lines, and takes what the runtime writes.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := OpenLog(path, 1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				fmt.Fprintf(l, "goroutine %d line %03d\n", g, i)
			}
		})
	}
	wg.Wait()
	fmt.Fprintln(l, "the last")
	var all string
	for _, name := range []string{path + ".2", path + ".1", path} {
		text, err := os.ReadFile(name)
		if err != nil || len(text) > 1000 {
			t.Errorf("%s has %d bytes, %v", name, len(text), err)
		}
		all += string(text)
	}
	if _, err := os.Stat(path + ".3"); err == nil {
		t.Error("there is a third old file")
	}
	if !strings.HasSuffix(all, "the last\n") || strings.Count(all, "\n") < 60 {
		t.Errorf("kept:\n%s", all)
	}
	for line := range strings.Lines(all) {
		if !strings.HasPrefix(line, "goroutine ") && line != "the last\n" {
			t.Errorf("torn line %q", line)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(path, link)
	if _, err := OpenLog(link, 0, 0); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// crash notes requests and ends without a warning.
func crash(dir string, killed bool) int {
	w, err := StartWitness(dir, "version 1.2.3")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(w.Path())
	for i := range 100 {
		w.Note(fmt.Sprintf("textDocument/hover %d", i))
	}
	if killed {
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	done := make(chan int)
	go func() { panic("func secret() {\n\n\tlater()\n}") }()
	<-done
	return 0
}

func TestCrashLeavesAReport(t *testing.T) {
	dir := t.TempDir()
	run := func(role string) (report string) {
		cmd := as(role, dir)
		cmd.Stderr = nil
		out, _ := cmd.Output()
		path := strings.TrimSpace(string(out))
		// All who notice at once come to the same report.
		reports := make([]string, 4)
		var wg sync.WaitGroup
		for i := range reports {
			wg.Go(func() { reports[i] = Bury(path) })
		}
		wg.Wait()
		for _, r := range reports {
			if r != reports[0] {
				t.Errorf("reports are %q", reports)
			}
		}
		return reports[0]
	}
	if got := run("killed"); got != "" {
		t.Errorf("a killed process has the report %s", got)
	}
	report := run("crash")
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), "later") {
		t.Errorf("the report has the text of the panic:\n%s", text)
	}
	for _, want := range []string{"version 1.2.3", "panic: (a text of ", "daemon.crash.func1", "textDocument/hover 99\n", "textDocument/hover 37\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if i, j := strings.Index(string(text), "hover 99"), strings.Index(string(text), "hover 98"); i > j {
		t.Error("the newest request is not the first")
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// A fault that the process survives is reported too; one that ends well leaves nothing else.
func TestFault(t *testing.T) {
	dir := t.TempDir()
	w, err := StartWitness(dir, "version 1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	w.Note("textDocument/codeLens")
	report := w.Fault("textDocument/codeLens", errors.New("on purpose"), []byte("goroutine 1\n"))
	text, _ := os.ReadFile(report)
	if !strings.Contains(string(text), "version 1.2.3") || !strings.Contains(string(text), "*errors.errorString") || strings.Contains(string(text), "on purpose") || strings.Count(string(text), "textDocument/codeLens") != 2 {
		t.Errorf("the report is %q", text)
	}
	w.Close()
	w.Note("late")
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || left[0] != report {
		t.Errorf("left behind: %v", left)
	}
	for range maxReports + 5 {
		if _, err := writeReport(dir, 1, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(Reports(dir)); n > maxReports {
		t.Errorf("%d reports are kept", n)
	}
}

func TestBuild(t *testing.T) {
	ours, err := Build()
	if err != nil || len(ours) != 16 {
		t.Fatalf("build %q, %v", ours, err)
	}
	// Of a file that is no Go program it is the file itself.
	path := filepath.Join(t.TempDir(), "a")
	os.WriteFile(path, []byte("a"), 0o600)
	a, err := buildOf(path)
	if err != nil || a == ours {
		t.Errorf("build %q, %v", a, err)
	}
	os.WriteFile(path, []byte("ab"), 0o600)
	if b, _ := buildOf(path); b == a {
		t.Error("a changed file has the same build")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("H\x00\x00\x00\x02{}"))
	f.Add([]byte("D\x40\x00\x00\x00"))
	f.Add([]byte{})
	f.Add(appendFrame(nil, frameLog, bytes.Repeat([]byte("x"), 70_000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		kind, payload, err := readFrame(r, maxFrame)
		if err != nil {
			if payload != nil {
				t.Fatal("a value and an error")
			}
			return
		}
		again := appendFrame(nil, kind, payload)
		if !bytes.Equal(again, data[:len(data)-r.Len()]) {
			t.Fatalf("read %q of %q", again, data)
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add(make([]byte, slots*slotSize))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, ring []byte) {
		text := requestsIn(ring)
		if text == "" || len(text) > 4*len(ring)+64 {
			t.Fatalf("%d bytes became %d", len(ring), len(text))
		}
	})
}
