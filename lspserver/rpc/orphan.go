package rpc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An orphan watches a process that is not our child, by a pidfd: a descriptor that becomes readable
// when the process ends, and that cannot come to mean another process (pidfd_open(2), Linux 5.3).
type orphan struct {
	pid  int
	file *os.File
}

// openOrphan begins to watch. It fails where there is no such process, as when an editor in another
// PID namespace names itself: then the end of input must do.
func openOrphan(pid int) (*orphan, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	// Not blocking makes it the runtime poller's, so that close ends wait. PIDFD_NONBLOCK would need
	// Linux 5.10.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return &orphan{pid: pid, file: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns nil when the process has ended, or an error after close.
func (o *orphan) wait() error {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

func (o *orphan) close() { o.file.Close() }
