// Command sightline-capture is the one part of Sightline that may carry file capabilities. It opens perf
// events with a BPF program attached for a recorder that has no privileges, passes it their
// descriptors, and serves only what its caller may see anyway: user code of their own processes; more
// where an administrator's file grants it.
//
// It is no command for people. It reads no arguments and no environment, takes requests from its standard
// input alone, which is a socket (package broker), and ends when that is closed. It knows neither
// captures nor symbols, and what it does not need it gives up: see main, and docs/security.md.
package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
)

// configPath is the administrator's file. Tests are linked with another one (go build -ldflags -X).
var configPath = "/etc/sightline/capture.conf"

const about = `sightline-capture opens perf events and BPF programs for sightline, which starts it by itself where the
user lacks the privilege. It is no command to be run by hand.

To give it the capabilities that it needs:  sudo sightline doctor --fix
What it may then do, and for whom:          docs/security.md and docs/permissions.md
`

func main() { os.Exit(run()) }

func run() int {
	os.Clearenv() // of its caller it takes nothing but the socket
	socket, err := broker.NewSocket(0)
	if err != nil || len(os.Args) > 1 {
		fmt.Fprint(os.Stderr, about)
		return 2
	}
	// A terminal's signals are for the recorder.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	s := &server{socket: socket}
	if err := confine(); err != nil {
		return s.refuse(err)
	}
	go endWith(socket.FD())
	return s.serve()
}

// endWith ends this process when the other end of the socket is closed, also while a request hangs
// in the kernel.
func endWith(socket int) {
	// Events of 0 leave what poll(2) always reports: that the other end is closed.
	for poll := []unix.PollFd{{Fd: int32(socket)}}; ; {
		if n, err := unix.Poll(poll, -1); err == nil && n > 0 {
			os.Exit(0)
		}
	}
}
