package daemon

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Editor is the daemon's end of a session: what it reads are the editor's bytes, what is written to it
// goes to the editor. Each Write arrives whole or not at all, should this process end.
func (c *Conn) Editor() io.ReadWriteCloser { return editorEnd{c} }

type editorEnd struct{ c *Conn }

func (e editorEnd) Read(p []byte) (int, error) { return e.c.net.Read(p) }
func (e editorEnd) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(len(rest), chunk)]
		rest = rest[len(part):]
		// The flag says whether more of this Write is to come.
		more := byte(0)
		if len(rest) > 0 {
			more = 1
		}
		b := appendHeader(make([]byte, 0, frameHeader+1+len(part)), frameData, 1+len(part))
		b = append(append(b, more), part...)
		if _, err := e.c.net.Write(b); err != nil {
			return len(p) - len(rest) - len(part), err
		}
	}
	return len(p), nil
}

// Close ends reading, and a Write that waits for the client. The connection itself stays, to tell the
// exit status.
func (e editorEnd) Close() error {
	return errors.Join(e.c.net.SetWriteDeadline(time.Now()), e.c.net.CloseRead())
}

// Log has the client write text to its standard error.
func (c *Conn) Log(text []byte) error {
	for len(text) > 0 {
		part := text[:min(len(text), chunk)]
		text = text[len(part):]
		if err := c.send(frameLog, part); err != nil {
			return err
		}
	}
	return nil
}

// Exit tells the exit status of a session and closes the connection.
func (c *Conn) Exit(status int) error {
	_ = c.net.SetWriteDeadline(time.Now().Add(time.Second))
	err := c.send(frameExit, []byte{byte(status)})
	return errors.Join(err, c.net.Close())
}

// Forward is the client's end of a session: it copies between an editor and the daemon until the
// session is over, and returns the exit status. Log lines of the session go to log, which may be slow:
// what does not fit into its queue is dropped.
//
// Where the daemon goes away before it said the exit status, the error is ErrGone; whole says whether
// all that was written to the editor is whole, so that something may be added.
func (c *Conn) Forward(editor io.ReadWriter, log io.Writer) (status int, whole bool, err error) {
	go func() { // ends with the editor's input, or this process
		_, _ = io.Copy(c.net, onlyReader{editor})
		_ = c.net.CloseWrite()
	}()
	lines := make(chan []byte, 256)
	var logging sync.WaitGroup
	logging.Go(func() {
		for l := range lines {
			_, _ = log.Write(l)
		}
	})
	defer func() {
		close(lines)
		if err != nil { // else the last lines are lost with the process
			return
		}
		logging.Wait()
	}()
	whole = true
	for {
		kind, payload, err := readFrame(c.net, maxFrame)
		if err != nil {
			return 1, whole, fmt.Errorf("%w: %w", ErrGone, err)
		}
		switch {
		case kind == frameData && len(payload) > 0:
			whole = payload[0] == 0
			if _, err := editor.Write(payload[1:]); err != nil {
				return 1, false, fmt.Errorf("write to the editor: %w", err)
			}
		case kind == frameLog:
			select {
			case lines <- payload:
			default:
			}
		case kind == frameExit && len(payload) == 1:
			return int(payload[0]), whole, nil
		default:
			return 1, whole, fmt.Errorf("%w: it sent a frame of kind %q and %d bytes", ErrGone, kind, len(payload))
		}
	}
}

// onlyReader keeps io.Copy from asking the editor's end for more than bytes.
type onlyReader struct{ io.Reader }
