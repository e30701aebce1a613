package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// A Refusal is what sightline-capture does not do, or could not.
type Refusal struct {
	Text  string     // one sentence
	Errno unix.Errno // the kernel's answer, or EPERM where sightline-capture itself refuses
}

func (r *Refusal) Error() string { return r.Text }

// Unwrap is the number, so that [os.ErrPermission] is found.
func (r *Refusal) Unwrap() error { return r.Errno }

// A Client is a recorder's end. Its methods may be called by any goroutine.
//
// It has a process, sightline-capture, that ends when the Client is closed or its process has ended.
type Client struct {
	path    string
	cmd     *exec.Cmd
	ring    *os.File
	symbols *os.File // nil: not granted
	depth   int
	granted Grants
	note    string

	mu     sync.Mutex // guards socket, closed, lost and symbols
	socket *Socket
	closed bool
	lost   uint64
	once   sync.Once
}

// patience is how long a reply may take. They take microseconds; a machine may be busy.
const patience = time.Minute

// Start starts sightline-capture, the program at path, and has it load the BPF program. The error is a
// Refusal where it says no.
func Start(path string, options bpf.Options, want Grants) (*Client, error) {
	c := &Client{path: path}
	fail := func(err error) (*Client, error) {
		c.Close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket of "+path)
	defer theirs.Close()
	if c.socket, err = NewSocket(pair[0]); err != nil {
		unix.Close(pair[0])
		return fail(err)
	}
	if err := c.socket.Within(patience); err != nil {
		return fail(err)
	}
	c.cmd = exec.Command(path)
	c.cmd.Dir, c.cmd.Env, c.cmd.Stdin = "/", []string{}, theirs
	// It is no part of what a terminal ends or stops: it ends with this process.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return fail(err)
	}
	theirs.Close()
	reply, fds, err := c.ask(Request{
		Op: Hello, Version: Version, Want: want,
		RingBytes: uint32(options.RingBytes), Depth: uint32(options.Depth), Copies: options.Copies, Copy: options.Copy,
	})
	if err == nil && (len(fds) < 1 || len(fds) > 2) {
		err = fmt.Errorf("it has passed %d descriptors with the ring", len(fds))
	}
	if err != nil {
		closeAll(fds)
		c.Close()
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			return nil, err
		}
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	c.ring = os.NewFile(uintptr(fds[0]), "BPF ring")
	if len(fds) == 2 {
		c.symbols = os.NewFile(uintptr(fds[1]), "/proc/kallsyms")
	}
	c.depth, c.granted, c.note = int(reply.Count), reply.Granted, reply.Text
	return c, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// ask sends a request and waits for the reply.
func (c *Client) ask(r Request) (Reply, []int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Reply{}, nil, os.ErrClosed
	}
	ended := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return errors.New("it has ended")
		}
		return err
	}
	if err := c.socket.Send(r.Append(nil)); err != nil {
		return Reply{}, nil, ended(err)
	}
	b, fds, err := c.socket.Receive()
	if err != nil {
		return Reply{}, nil, ended(err)
	}
	reply, err := ParseReply(b)
	if err == nil && reply.Errno != 0 {
		err = &Refusal{reply.Text, reply.Errno}
	}
	if err != nil {
		closeAll(fds)
		return Reply{}, nil, err
	}
	return reply, fds, nil
}

// Path is the program that was started.
func (c *Client) Path() string { return c.path }

// PID is its process.
func (c *Client) PID() int { return c.cmd.Process.Pid }

// Depth is as bpf.Program.Depth.
func (c *Client) Depth() int { return c.depth }

// Granted is what of the wanted grants was given.
func (c *Client) Granted() Grants { return c.granted }

// Note says what is wrong with the administrator's file, for which nothing is granted; "" where nothing is.
func (c *Client) Note() string { return c.note }

// RingFD is the descriptor of the BPF ring, for bpf.OpenReader. It remains the Client's.
func (c *Client) RingFD() int { return int(c.ring.Fd()) }

// TakeSymbols is the list of the kernel's symbols (/proc/kallsyms) with their addresses, where Kernel was
// granted; else nil. It is the caller's, and nil when it was taken.
func (c *Client) TakeSymbols() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.symbols
	c.symbols = nil
	return f
}

// Open opens an event on a task, with the program attached; of clock only Period, Inherit and EnableOnExec
// count. It is disabled, and its records go to ring. The error wraps the kernel's, as that of
// perfevent.Clock.Open does.
func (c *Client) Open(clock perfevent.Clock, tid int, ring *perfevent.Ring) (*perfevent.Event, error) {
	r := Request{Op: Open, Task: int32(tid), CPU: int32(ring.CPU()), Period: uint64(clock.Period)}
	if tid == 0 {
		r.Task = int32(unix.Gettid())
	}
	if clock.Inherit {
		r.Flags |= Inherit
	}
	if clock.EnableOnExec {
		r.Flags |= EnableOnExec
	}
	fd, err := c.one(r)
	if err != nil {
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			return nil, err
		}
		return nil, fmt.Errorf("have %s open an event on task %d: %w", c.path, r.Task, err)
	}
	return perfevent.Adopt(fd, ring.CPU(), ring)
}

// one asks for one descriptor.
func (c *Client) one(r Request) (int, error) {
	_, fds, err := c.ask(r)
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return -1, fmt.Errorf("it has passed %d descriptors, not one", len(fds))
	}
	return fds[0], nil
}

// Maps opens /proc/PID/maps of a process that another user owns; Users must be granted.
func (c *Client) Maps(pid int) (*os.File, error) {
	fd, err := c.one(Request{Op: Maps, Process: uint32(pid)})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/maps", pid)), nil
}

// File opens for reading the very file that such a process has mapped from start to end.
func (c *Client) File(pid int, start, end uint64) (*os.File, error) {
	fd, err := c.one(Request{Op: File, Process: uint32(pid), Start: start, End: end})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, start, end)), nil
}

// SetCopy is as bpf.Program.SetCopy.
func (c *Client) SetCopy(pid uint32, rule bpf.CopyRule) error {
	rule.Bytes = min(max(rule.Bytes, 0), bpf.MaxCopyBytes)
	_, _, err := c.ask(Request{Op: Rule, Process: pid, Copy: rule})
	if err != nil {
		return fmt.Errorf("set how stacks of process %d are copied: %w", pid, err)
	}
	return nil
}

// Lost is as bpf.Program.Lost; where sightline-capture has ended, what it said last.
func (c *Client) Lost() uint64 {
	reply, _, err := c.ask(Request{Op: Lost})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.lost = reply.Count
	}
	return c.lost
}

// Close ends sightline-capture. Close twice is Close.
func (c *Client) Close() error {
	c.once.Do(func() {
		if c.ring != nil {
			c.Lost()
		}
		c.mu.Lock()
		c.closed = true
		if c.socket != nil {
			c.socket.Close()
		}
		c.mu.Unlock()
		for _, f := range []*os.File{c.ring, c.TakeSymbols()} {
			if f != nil {
				f.Close()
			}
		}
		if c.cmd != nil {
			go c.cmd.Wait() // it ends at once, but nobody needs to wait for that
		}
	})
	return nil
}
