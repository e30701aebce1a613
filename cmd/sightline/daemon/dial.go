package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNone says that no daemon runs.
var ErrNone = errors.New("no daemon runs")

// A Refusal is the sentence of a daemon that does not serve a client.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Dial connects to the daemon of a place and says hello. The error is ErrNone where none runs. It
// takes no longer than timeout.
func Dial(p *Place, hello Hello, timeout time.Duration) (*Conn, error) {
	deadline := time.Now().Add(timeout)
	d := net.Dialer{Deadline: deadline}
	c, err := d.Dial("unix", p.address())
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the daemon at %s: %w; `sightline daemon status` tells of it", p.Socket(), cause(err))
	}
	conn := &Conn{net: c.(*net.UnixConn), Hello: hello}
	if err := ownPeer(conn.net, "the daemon at "+p.Socket()); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.net.SetDeadline(deadline)
	welcome, err := conn.greet()
	if err != nil {
		conn.Close()
		var refusal Refusal
		switch {
		case errors.As(err, &refusal):
			return nil, err
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			return nil, ErrNone // it was about to end
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("connect to the daemon at %s: it gave no answer within %s; `sightline daemon stop` ends it", p.Socket(), timeout)
		}
		return nil, fmt.Errorf("connect to the daemon at %s: %w", p.Socket(), err)
	}
	conn.Welcome = welcome
	return conn, conn.net.SetDeadline(time.Time{})
}

func (c *Conn) greet() (w Welcome, err error) {
	if err := c.sendJSON(frameHello, c.Hello); err != nil {
		return w, err
	}
	kind, payload, err := readFrame(c.net, maxFrame)
	switch {
	case err != nil:
		return w, err
	case kind == frameRefusal:
		return w, Refusal(strings.ToValidUTF8(string(payload), "?"))
	case kind != frameWelcome:
		return w, fmt.Errorf("it answered with a frame of kind %q", kind)
	}
	return w, json.Unmarshal(payload, &w)
}

// Environment is this process's environment and folder, for a Hello.
func (h Hello) Environment() Hello {
	for _, e := range os.Environ() {
		h.Env = append(append(h.Env, e...), 0)
	}
	if dir, err := os.Getwd(); err == nil {
		h.Dir = []byte(dir)
	}
	h.PID = os.Getpid()
	return h
}

// Environ is the environment of a Hello as os.Environ has it.
func (h *Hello) Environ() []string {
	var env []string
	for e := range bytes.SplitSeq(bytes.TrimSuffix(h.Env, []byte{0}), []byte{0}) {
		env = append(env, string(e))
	}
	return env
}

// What the started process says through its descriptor 3.
const (
	saysReady   = "ready\n"
	saysRunning = "running\n"
)

// A Starting is a daemon process's word to whoever starts it. The zero value is of one that was started
// by hand and tells nobody.
type Starting struct{ pipe *os.File }

// StartingVariable is set, to "1", for a daemon whose descriptor 3 leads to whoever started it.
const StartingVariable = "SIGHTLINE_DAEMON_STARTING"

// Started takes over the word to whoever starts this process.
func Started() *Starting {
	if os.Getenv(StartingVariable) != "1" {
		return &Starting{}
	}
	os.Unsetenv(StartingVariable)
	unix.CloseOnExec(3)
	return &Starting{os.NewFile(3, "starter")}
}

// Ready says that the daemon listens.
func (s *Starting) Ready() { s.say(saysReady) }

// Failed says why it does not.
func (s *Starting) Failed(err error) {
	if errors.Is(err, ErrRuns) {
		s.say(saysRunning)
		return
	}
	s.say(err.Error() + "\n")
}

func (s *Starting) say(text string) {
	if s.pipe != nil {
		_, _ = s.pipe.WriteString(text)
		_ = s.pipe.Close()
		s.pipe = nil
	}
}

// Start starts a daemon, which is args[0] with the other arguments, and returns when it listens. It is
// detached: it has a session of its own (setsid(2)), stands in the root folder, keeps nothing of ours
// open, and what it writes goes to log. It goes on when we end. No error means that a daemon runs,
// which need not be the one that was started here.
func Start(args []string, log string, timeout time.Duration) error {
	const verb = "start the daemon"
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("%s: its log %s: %w", verb, log, cause(err))
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer r.Close()
	// An editor may have left descriptors open for us, whose other ends wait for their end. Kernels
	// before 5.11 do not know how to keep them from the daemon.
	_ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), StartingVariable+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	go cmd.Wait() // so that it does not stay as a zombie, should it end before us
	_ = r.SetReadDeadline(time.Now().Add(timeout))
	said, err := io.ReadAll(io.LimitReader(r, 64<<10))
	switch text := string(said); {
	case text == saysReady, text == saysRunning:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		_ = cmd.Process.Kill()
		return fmt.Errorf("%s: it did not listen within %s; its log is %s", verb, timeout, log)
	case text == "":
		return fmt.Errorf("%s: it ended without a word; its log is %s", verb, log)
	default:
		return errors.New(strings.TrimSuffix(text, "\n"))
	}
}
