package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRuns says that the daemon of this place runs already.
var ErrRuns = errors.New("the daemon runs already")

// helloWithin is how long a client may take to say what it wants. Tests change it.
var helloWithin = 10 * time.Second

// A Listener takes connections at a place, as the only process to do so.
type Listener struct {
	place *Place
	lock  *os.File
	net   *net.UnixListener
}

// Listen becomes the daemon of a place. The error is ErrRuns where another process is that, and goes
// on to be for at least as long as wait. A socket that a dead one left is replaced. The Listener needs
// Close.
func Listen(p *Place, wait time.Duration) (*Listener, error) {
	lock, err := takeLock(p, time.Now().Add(wait))
	if err != nil {
		return nil, err
	}
	// Whoever holds the lock is the only one to listen: what is there was left by a dead one.
	if err := os.Remove(p.address()); err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, fmt.Errorf("replace the daemon's socket %s: %w; remove it", p.Socket(), cause(err))
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.address(), Net: "unix"})
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("listen at the daemon's socket %s: %w; set XDG_RUNTIME_DIR to a folder whose file system has sockets", p.Socket(), cause(err))
	}
	l.SetUnlinkOnClose(false) // Close removes it, while the lock is held
	return &Listener{place: p, lock: lock, net: l}, nil
}

// takeLock is flock(2) on a file beside the socket. The kernel lets it go when the process ends,
// however it ends. Close removes the file, so whoever gets a lock verifies that it is on the file that
// is there.
func takeLock(p *Place, deadline time.Time) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(p.dir.Fd()), p.Name+".lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the daemon's lock %s: %w; remove it", p.Lock(), err)
		}
		f := os.NewFile(uintptr(fd), p.Lock())
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == unix.EWOULDBLOCK && time.Now().Before(deadline):
			f.Close()
			time.Sleep(5 * time.Millisecond)
			continue
		case err == unix.EWOULDBLOCK:
			f.Close()
			return nil, ErrRuns
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w; set XDG_RUNTIME_DIR to a folder whose file system has locks", p.Lock(), err)
		}
		var held, there unix.Stat_t
		if unix.Fstat(fd, &held) == nil && unix.Fstatat(int(p.dir.Fd()), p.Name+".lock", &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			held.Ino == there.Ino && held.Dev == there.Dev {
			return f, nil
		}
		f.Close()
	}
}

// Accept returns the next connection of this user; others are told why not and closed. Its Hello is
// still to be read, with Hello. It fails with net.ErrClosed after Close.
func (l *Listener) Accept() (*Conn, error) {
	for {
		c, err := l.net.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil { // such as too many open files; the client waits
			time.Sleep(50 * time.Millisecond)
			continue
		}
		conn := &Conn{net: c}
		if err := ownPeer(c, "the client"); err != nil {
			go conn.Refuse(err.Error())
			continue
		}
		return conn, nil
	}
}

// ReadHello reads what the client wants. A client that says nothing, or no Hello, is told and closed.
func (c *Conn) ReadHello() error {
	_ = c.net.SetReadDeadline(time.Now().Add(helloWithin))
	kind, payload, err := readFrame(c.net, maxHello)
	if err == nil && kind != frameHello {
		err = fmt.Errorf("a frame of kind %q came first", kind)
	}
	if err == nil {
		err = json.Unmarshal(payload, &c.Hello)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("it did not say what it wants within %s", helloWithin)
	}
	if err != nil {
		err = fmt.Errorf("the client of the daemon is not understood: %w", err)
		c.Refuse(err.Error())
		return err
	}
	return c.net.SetReadDeadline(time.Time{})
}

// Close stops listening, removes the socket and lets another process be the daemon. Connections stay.
func (l *Listener) Close() error {
	err := l.net.Close()
	l.removeSocket()
	_ = unix.Unlinkat(int(l.place.dir.Fd()), l.place.Name+".lock", 0)
	return errors.Join(err, l.lock.Close())
}

// StopListening has new clients find no daemon, but no other process become it yet.
func (l *Listener) StopListening() {
	l.removeSocket()
	_ = l.net.Close()
}

// removeSocket removes the socket from the folder that it was made in. By its path it might be another
// daemon's: the folder goes with the last login, and comes again with the next.
func (l *Listener) removeSocket() {
	_ = unix.Unlinkat(int(l.place.dir.Fd()), l.place.Name+socketSuffix, 0)
}
