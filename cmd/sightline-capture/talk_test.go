package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
)

// raw starts sightline-capture with nothing between this process and its socket.
func raw() (*broker.Socket, *exec.Cmd, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	cmd := exec.Command(beside())
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = []string{}, theirs, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	s, err := broker.NewSocket(pair[0])
	if err != nil {
		return nil, nil, err
	}
	return s, cmd, s.Within(time.Minute)
}

var hello = broker.Request{Op: broker.Hello, Version: broker.Version, RingBytes: 1 << 16}

// talk sends what no recorder does, and prints what comes back and the exit status.
func talk() error {
	event := broker.Request{Op: broker.Open, Task: int32(os.Getpid()), Period: 1e6}
	old := hello
	old.Version++
	cases := []struct {
		name string
		send func(*broker.Socket) error
	}{
		{"half a message", func(s *broker.Socket) error { return s.Send(hello.Append(nil)[:20]) }},
		{"a byte", func(s *broker.Socket) error { return s.Send([]byte{1}) }},
		{"an empty message", func(s *broker.Socket) error { return s.Send(nil) }},
		{"text", func(s *broker.Socket) error { return s.Send([]byte("GET / HTTP/1.1\r\n\r\n")) }},
		{"an event first", func(s *broker.Socket) error { return s.Send(event.Append(nil)) }},
		{"another build", func(s *broker.Socket) error { return s.Send(old.Append(nil)) }},
		{"hello twice", func(s *broker.Socket) error {
			if err := s.Send(hello.Append(nil)); err != nil {
				return err
			}
			if b, _, err := s.Receive(); err != nil || len(b) < 16 {
				return fmt.Errorf("%q %w", b, err)
			}
			return s.Send(hello.Append(nil))
		}},
		{"100 kB", func(s *broker.Socket) error { return s.Send(make([]byte, 100_000)) }},
		{"descriptors", func(s *broker.Socket) error { return s.Send([]byte{1, 2, 3, 4}, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2) }},
		{"1 GB in one", func(s *broker.Socket) error {
			all, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
			if err != nil {
				return err
			}
			defer unix.Munmap(all)
			if err := s.Send(all); !errors.Is(err, unix.EMSGSIZE) {
				return fmt.Errorf("the kernel takes it: %v", err)
			}
			return s.Send(make([]byte, broker.MaxMessage+1))
		}},
		{"1 GB in many", func(s *broker.Socket) error {
			for n := 0; n < 1<<30; n += 1 << 16 {
				if err := s.Send(make([]byte, 1<<16)); err != nil {
					return nil // it has ended
				}
			}
			return errors.New("it has read it all")
		}},
	}
	for _, c := range cases {
		s, cmd, err := raw()
		if err != nil {
			return err
		}
		if err := c.send(s); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		text := ""
		for {
			b, _, err := s.Receive()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				break
			}
			r, err := broker.ParseReply(b)
			if err != nil {
				return err
			}
			text = r.Text
		}
		cmd.Wait()
		s.Close()
		fmt.Printf("%s: %d %s\n", c.name, cmd.ProcessState.ExitCode(), text)
	}
	return nil
}

func TestNoRecorder(t *testing.T) {
	cmd := inRole(t, nobody, "talk")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"half a message: 2 read a request: it has 20 bytes, and one of kind 1 has 64",
		"a byte: 2 read a request: it has 1 bytes, and the shortest has 4",
		"an empty message: 0 ",
		"text: 2 read a request: there is none of kind 71",
		"an event first: 2 the first request, and no other, is the one that names the version",
		"another build: 2 sightline and sightline-capture are of different builds (2 and 1); install both of one, and then run: sudo sightline doctor --fix",
		"hello twice: 2 the first request, and no other, is the one that names the version",
		"100 kB: 2 a message has more than 2048 bytes",
		"descriptors: 2 a message has more descriptors than any has, or than this process may open: too many open files",
		"1 GB in one: 2 a message has more than 2048 bytes",
		"1 GB in many: 2 ",
	} {
		if !strings.Contains("\n"+string(out), "\n"+want) {
			t.Errorf("not told: %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// silent starts sightline-capture and says nothing.
func silent() error {
	s, cmd, err := raw()
	if err != nil {
		return err
	}
	begin := time.Now()
	b, _, err := s.Receive()
	if err != nil {
		return err
	}
	r, err := broker.ParseReply(b)
	cmd.Wait()
	fmt.Println(r.Text, cmd.ProcessState.ExitCode(), time.Since(begin) > helloWithin-time.Second, err)
	return nil
}

func TestSilentRecorder(t *testing.T) {
	t.Parallel()
	cmd := inRole(t, nobody, "silent")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "nothing came in time 2 true <nil>\n" {
		t.Errorf("%v %s", err, out)
	}
}

// It is no command for people: it says what it is for, wherever it is started from but a recorder.
func TestByHand(t *testing.T) {
	dir := programs(t)
	stream, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// A pair of root's, given to another user's sightline-capture.
	roots, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		in   io.Reader
		args []string
	}{
		"nothing":             {nil, nil},
		"a pipe":              {strings.NewReader("hello"), nil},
		"an argument":         {nil, []string{"--help"}},
		"a stream":            {os.NewFile(uintptr(stream[0]), "stream"), nil},
		"a socket of its own": {os.NewFile(uintptr(alone), "alone"), nil},
		"another user's":      {os.NewFile(uintptr(roots[0]), "roots"), nil},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "sightline-capture"), test.args...)
		cmd.Stdin = test.in
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || string(out) != about {
			t.Errorf("%s: status %d\n%s", name, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// A message of another user is not read, though they were given the descriptor.
func TestAnotherUserSends(t *testing.T) {
	programs(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := broker.NewSocket(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	cmd := exec.Command("sh", "-c", "echo hello >&0")
	cmd.Stdin, cmd.SysProcAttr = theirs, as(nobody)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if b, _, err := s.Receive(); err == nil || !strings.Contains(err.Error(), "comes from user 65534") || b != nil {
		t.Errorf("%q %v", b, err)
	}
}
