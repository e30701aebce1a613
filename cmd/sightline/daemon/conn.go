package daemon

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A connection begins with the client's Hello and the daemon's Welcome, or its refusal. What follows
// depends on what the client wants:
//
//   - A session: the client sends the editor's bytes as they are, the daemon sends frames, so that a
//     session's log and exit status fit beside what is for the editor.
//   - All else: frames of JSON in both directions.
//
// A frame is one byte of kind, four bytes of length (big endian) and as many bytes.
type frameKind byte

const (
	frameHello   frameKind = 'H'
	frameWelcome frameKind = 'W'
	frameRefusal frameKind = 'R' // a sentence
	frameData    frameKind = 'D' // for the editor
	frameLog     frameKind = 'L' // for standard error
	frameExit    frameKind = 'X' // one byte: the exit status
	frameJSON    frameKind = 'J'
)

// Sizes of frames, in bytes. A frame that claims to be larger is refused before it is read.
const (
	maxHello = 4 << 20 // execve(2) lets arguments and environment be 6 MiB at most, 2 in general
	maxFrame = 1 << 20
	chunk    = 256 << 10 // what a session's frames are cut into
)

const frameHeader = 5

// A Hello is what a client says of itself and of what it wants.
type Hello struct {
	Wants   string // a session, or what else the daemon serves
	Version string // of the client, for people
	PID     int    // of the client, for people; the kernel's word is Conn.PID
	Dir     []byte // its current folder
	Env     []byte // its environment, each NAME=VALUE ended by a zero byte; bytes, as names may be of any
	Verbose bool   // wants a session's debug log
}

// A Welcome is what the daemon answers.
type Welcome struct {
	Version string
	PID     int
	Report  string // where a report will be if the daemon crashes
	Log     string // its log file
}

// A Conn is a connection to or from a daemon, after the Hello. Its methods may be called from several
// goroutines, but one at a time receives.
type Conn struct {
	net     *net.UnixConn
	Hello   Hello
	Welcome Welcome
}

// ErrGone says that the daemon went away without a word.
var ErrGone = errors.New("the daemon went away")

func appendHeader(b []byte, kind frameKind, length int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(kind)), uint32(length))
}

func appendFrame(b []byte, kind frameKind, payload []byte) []byte {
	return append(appendHeader(b, kind, len(payload)), payload...)
}

// readFrame reads one frame of at most limit bytes, and not a byte beyond it. At the end of input
// before a frame the error is io.EOF, and io.ErrUnexpectedEOF within one.
func readFrame(r io.Reader, limit int) (frameKind, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if int64(n) > int64(limit) {
		return 0, nil, fmt.Errorf("a frame of %d bytes came and %d are the limit", n, limit)
	}
	// The length is a claim: memory is taken as the bytes come.
	payload := make([]byte, 0, min(int(n), 64<<10))
	for len(payload) < int(n) {
		if len(payload) == cap(payload) {
			payload = append(payload, 0)[:len(payload)]
		}
		got, err := io.ReadFull(r, payload[len(payload):min(cap(payload), int(n))])
		payload = payload[:len(payload)+got]
		if err != nil {
			return 0, nil, io.ErrUnexpectedEOF
		}
	}
	return frameKind(head[0]), payload, nil
}

func (c *Conn) send(kind frameKind, payload []byte) error {
	_, err := c.net.Write(appendFrame(make([]byte, 0, frameHeader+len(payload)), kind, payload))
	return err
}

func (c *Conn) sendJSON(kind frameKind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, payload)
}

// Send sends a value as JSON.
func (c *Conn) Send(v any) error { return c.sendJSON(frameJSON, v) }

// Receive takes the next value into v. It returns io.EOF where the other end has closed.
func (c *Conn) Receive(v any) error {
	kind, payload, err := readFrame(c.net, maxFrame)
	if err != nil {
		return err
	}
	if kind != frameJSON {
		return fmt.Errorf("a frame of kind %q came where a message was expected", kind)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("a message is not what was expected: %w", err)
	}
	return nil
}

// SetDeadline bounds how long sending and receiving may take; the zero time is for ever.
func (c *Conn) SetDeadline(t time.Time) error { return c.net.SetDeadline(t) }

// SetWriteDeadline is SetDeadline for sending only.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.net.SetWriteDeadline(t) }

// Close ends the connection.
func (c *Conn) Close() error { return c.net.Close() }

// Refuse says why the connection is not served, in a sentence, and closes it.
func (c *Conn) Refuse(why string) {
	_ = c.net.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.send(frameRefusal, []byte(why))
	_ = c.net.Close()
}

// Accept answers the Hello. Nothing else may be sent before.
func (c *Conn) Accept(w Welcome) error {
	c.Welcome = w
	return c.sendJSON(frameWelcome, w)
}

// PID is the process at the other end, as the kernel knows it from when it connected.
func (c *Conn) PID() int {
	cred, err := peer(c.net)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// peer asks the kernel who is at the other end.
func peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}

// ownPeer says why the other end is nobody to speak to; nil if it is this user.
func ownPeer(c *net.UnixConn, who string) error {
	cred, err := peer(c)
	if err != nil {
		return fmt.Errorf("ask who %s is: %w", who, err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is process %d of user %d and this is user %d: each user has a daemon of their own", who, cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}
