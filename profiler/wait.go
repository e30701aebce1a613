package profiler

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A waiter waits for several descriptors at once the way Go waits for a socket: no thread of the operating
// system is kept in a system call, for which the runtime would look after it some thousand times a second.
//
// One goroutine uses it.
type waiter struct {
	fd     int      // an epoll instance
	file   *os.File // the same
	conn   syscall.RawConn
	events [8]unix.EpollEvent
	ready  map[int]bool
}

func newWaiter() (*waiter, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile asks for that
		unix.Close(fd)
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	w := &waiter{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), ready: make(map[int]bool)}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	return w, nil
}

// add has wait return when a descriptor can be read. It remains the caller's, who closes it after the waiter
// or takes it out before.
func (w *waiter) add(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("wait for descriptor %d: %w", fd, err)
	}
	return nil
}

// remove takes a descriptor out.
func (w *waiter) remove(fd int) {
	unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait waits until a descriptor can be read, or for so long, and says which are: good until the next wait. A
// descriptor of perf tells only once that it can be read, and may have told the runtime: wait then returns,
// and names none.
func (w *waiter) wait(most time.Duration) map[int]bool {
	clear(w.ready)
	waited := false
	w.file.SetReadDeadline(time.Now().Add(most))
	err := w.conn.Read(func(fd uintptr) bool {
		n, err := unix.EpollWait(int(fd), w.events[:], 0)
		for i := range max(n, 0) {
			w.ready[int(w.events[i].Fd)] = true
		}
		done := n > 0 || err != nil || waited
		waited = true
		return done
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(most) // the runtime cannot wait for it: look again later
		if n, err := unix.EpollWait(w.fd, w.events[:], 0); err == nil {
			for i := range n {
				w.ready[int(w.events[i].Fd)] = true
			}
		}
	}
	return w.ready
}

func (w *waiter) close() error { return w.file.Close() }
