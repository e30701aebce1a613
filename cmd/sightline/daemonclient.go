package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
)

// What a connection to the daemon may want.
const (
	wantSession   = "session"   // an editor's
	wantStatus    = "status"    // a daemonStatus
	wantStop      = "stop"      // its end; the connection closes with the process
	wantChanged   = "changed"   // to tell it a storeChanged
	wantRecording = "recording" // to show it a recording of another process; see recordingNews
	wantEnd       = "end"       // of a recording; see recordingEnd
)

const (
	daemonIdle    = 10 * time.Minute
	startWithin   = 10 * time.Second // for a daemon to listen, on a machine that is busy
	answerWithin  = 5 * time.Second  // for one that listens to answer
	tellWithin    = time.Second      // for a command that only has something to tell
	runDaemonName = "run"            // the hidden command that is the daemon
)

// NoDaemonVariable, set to anything but "" and "0", keeps this process from the daemon: for containers,
// and for tests, which must not touch a user's.
const noDaemonVariable = "SIGHTLINE_NO_DAEMON"

func noDaemon() bool {
	v := os.Getenv(noDaemonVariable)
	return v != "" && v != "0"
}

// DaemonPlace is where this build's daemon is reached.
func daemonPlace() (*daemon.Place, error) {
	build, err := daemon.Build()
	if err != nil {
		return nil, err
	}
	return daemon.Find(os.Getenv, build)
}

// LogFolder is where the daemon's log and reports of crashes are kept; it is made if it is missing. In
// a home that cannot be written they are beside the socket.
func logFolder(p *daemon.Place) string {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		state = filepath.Join(os.Getenv("HOME"), ".local", "state")
	}
	dir := filepath.Join(state, "sightline", "log")
	if filepath.IsAbs(dir) && os.MkdirAll(dir, 0o700) == nil && writable(dir) {
		return dir
	}
	return p.Dir
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".try-")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}

func logPath(p *daemon.Place) string { return filepath.Join(logFolder(p), "daemon-"+p.Name+".log") }

func greeting(wants string) daemon.Hello {
	return daemon.Hello{Wants: wants, Version: version().Version}.Environment()
}

// ReachSession connects an editor's session to the daemon, which is started if none runs.
func reachSession(o serveOptions) (*daemon.Conn, error) {
	p, err := daemonPlace()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	hello := greeting(wantSession)
	hello.Verbose = o.verbose
	deadline := time.Now().Add(startWithin + answerWithin)
	for {
		conn, err := daemon.Dial(p, hello, answerWithin)
		if !errors.Is(err, daemon.ErrNone) || time.Now().After(deadline) {
			return conn, err
		}
		// One that runs may be about to end: then the one that is started here waits for it.
		if err := startDaemon(p, o.idle); err != nil {
			return nil, err
		}
	}
}

func startDaemon(p *daemon.Place, idle time.Duration) error {
	// What runs, also where another file was put in its place since.
	exe := "/proc/self/exe"
	if path, err := os.Executable(); err == nil {
		if now, err := os.Stat(path); err == nil {
			if ours, err := os.Stat(exe); err == nil && os.SameFile(now, ours) {
				exe = path
			}
		}
	}
	return daemon.Start([]string{exe, "daemon", runDaemonName, "--idle", idle.String()}, logPath(p), startWithin)
}

// Forward carries an editor's session to the daemon, to its end.
func forward(ctx context.Context, conn *daemon.Conn, o serveOptions, logTo io.Writer) error {
	defer conn.Close()
	editor, err := editorOf(o)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // the session ends with its client
	status, whole, err := conn.Forward(editor, logTo)
	switch {
	case err != nil && ctx.Err() != nil:
		return failure{}
	case errors.Is(err, daemon.ErrGone):
		text := farewell(conn.Welcome)
		if whole {
			_, _ = editor.Write(showMessage(text))
		}
		return failure{text}
	case err != nil:
		return failure{err.Error()}
	case status != exitDone:
		return failure{} // the editor went away without saying goodbye, which the log tells
	}
	return nil
}

// Farewell says how a daemon ended that did not say so itself.
func farewell(w daemon.Welcome) string {
	if w.Report != "" {
		if report := daemon.Bury(w.Report); report != "" {
			return fmt.Sprintf("Sightline's daemon (process %d) crashed; what was stored is intact. The report is %s: `sightline bug` puts all that a report of the fault needs into one file", w.PID, report)
		}
	}
	return fmt.Sprintf("Sightline's daemon (process %d) was killed; what was stored is intact, and the next start of the server starts another", w.PID)
}

// ShowMessage is LSP's window/showMessage, as a frame.
func showMessage(text string) []byte {
	const errorMessage = 1 // MessageType (LSP 3.17)
	body, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "method": "window/showMessage", "params": map[string]any{"type": errorMessage, "message": text},
	})
	if err != nil {
		return nil
	}
	return fmt.Appendf(nil, "Content-Length: %d\r\n\r\n%s", len(body), body)
}

// A storeChanged tells the daemon that a command has changed a store.
type storeChanged struct{ Store string }

// TellDaemon tells the daemon that a store was changed, if one runs: editors then show it at once and
// not only with their next look. Nothing depends on it, so that nobody is told where it comes to
// nothing.
func tellDaemon(storePath string) {
	conn := daemonNow(wantChanged)
	if conn == nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	_ = conn.Send(storeChanged{storePath})
	_ = conn.Receive(&struct{}{})
}

// DaemonNow connects to the daemon if one runs; nil if not.
func daemonNow(wants string) *daemon.Conn {
	if noDaemon() {
		return nil
	}
	p, err := daemonPlace()
	if err != nil {
		return nil
	}
	defer p.Close()
	conn, err := daemon.Dial(p, daemon.Hello{Wants: wants, Version: version().Version, PID: os.Getpid()}, tellWithin)
	if err != nil {
		return nil
	}
	return conn
}
