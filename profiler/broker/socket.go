package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is one end of the pair. One goroutine at a time may use it; Close may be called by any.
type Socket struct{ fd int }

// NewSocket takes over a descriptor. The error says why it is no end of such a pair whose other end this
// very user has made.
func NewSocket(fd int) (*Socket, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no socket: %w", fd, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || domain != unix.AF_UNIX || kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("descriptor %d is a socket of another kind than SOCK_SEQPACKET of AF_UNIX", fd)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Pid == 0 {
		return nil, fmt.Errorf("descriptor %d is a socket that nobody is at the other end of", fd)
	}
	if int(peer.Uid) != unix.Getuid() {
		return nil, fmt.Errorf("the other end of descriptor %d belongs to user %d, and this process to user %d", fd, peer.Uid, unix.Getuid())
	}
	// The kernel names the sender of each message: a descriptor can be passed to somebody else.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return nil, fmt.Errorf("have descriptor %d name who sends: %w", fd, err)
	}
	return &Socket{fd}, nil
}

// FD is the descriptor, which remains the Socket's.
func (s *Socket) FD() int { return s.fd }

// Within bounds how long Send and Receive wait; 0: for ever.
func (s *Socket) Within(d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return errors.Join(unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv), unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
}

// ErrTimeout says that nothing came within what Within allows.
var ErrTimeout = errors.New("nothing came in time")

// Send sends a message with descriptors beside it, which remain the caller's.
func (s *Socket) Send(b []byte, fds ...int) error {
	var beside []byte
	if len(fds) > 0 {
		beside = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(s.fd, b, beside, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return ErrTimeout
		}
		return err
	}
}

// maxDescriptors is how many come beside a message at most.
const maxDescriptors = 2

// Receive waits for a message and what is beside it: descriptors, which are the caller's, close-on-exec.
// The error is io.EOF where the other end is closed. A message that is longer than MaxMessage, has
// more descriptors than any has, or is sent by another user is an error, and leaves nothing open.
func (s *Socket) Receive() (b []byte, fds []int, err error) {
	b = make([]byte, MaxMessage+1)
	beside := make([]byte, unix.CmsgSpace(4*maxDescriptors)+unix.CmsgSpace(unix.SizeofUcred))
	var n, m, flags int
	for {
		n, m, flags, _, err = unix.Recvmsg(s.fd, b, beside, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil, nil, ErrTimeout
	case errors.Is(err, unix.ECONNRESET): // closed with a message unread
		return nil, nil, io.EOF
	case err != nil:
		return nil, nil, err
	}
	fds, sender, known, err := parseBeside(beside[:m])
	switch {
	case err != nil:
	case n == 0 && len(fds) == 0:
		err = io.EOF
	case n > MaxMessage || flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("a message has more than %d bytes", MaxMessage)
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("a message has more descriptors than any has, or than this process may open: %w", unix.EMFILE)
	case !known || int(sender.Uid) != unix.Getuid():
		err = fmt.Errorf("a message comes from user %d, and this process belongs to user %d", sender.Uid, unix.Getuid())
	default:
		return b[:n], fds, nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil, nil, err
}

// parseBeside reads the control messages of recvmsg(2). Where it fails the descriptors are those that were
// found.
func parseBeside(b []byte) (fds []int, sender unix.Ucred, known bool, err error) {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil, sender, false, fmt.Errorf("read what is beside a message: %w", err)
	}
	for _, m := range messages {
		// unix.ParseUnixRights and ParseUnixCredentials take for granted that the kernel wrote whole ones.
		switch {
		case m.Header.Level != unix.SOL_SOCKET:
		case m.Header.Type == unix.SCM_RIGHTS && len(m.Data)%4 == 0:
			for at := 0; at < len(m.Data); at += 4 {
				fds = append(fds, int(int32(binary.NativeEndian.Uint32(m.Data[at:]))))
			}
		case m.Header.Type == unix.SCM_CREDENTIALS && len(m.Data) == unix.SizeofUcred: // struct ucred, unix(7)
			word := binary.NativeEndian.Uint32
			sender, known = unix.Ucred{Pid: int32(word(m.Data)), Uid: word(m.Data[4:]), Gid: word(m.Data[8:])}, true
		default:
			err = errors.Join(err, fmt.Errorf("read what is beside a message: %d bytes of type %d are nothing that the kernel sends", len(m.Data), m.Header.Type))
		}
	}
	return fds, sender, known, err
}

// Close closes the descriptor.
func (s *Socket) Close() error { return unix.Close(s.fd) }
