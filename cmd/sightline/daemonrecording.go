package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/store"
)

// What a command of the terminal records stays with its own process: the terminal's Ctrl-C, its job
// control and the program's standard input belong to it, it works where no daemon runs, and what it
// may record is what that shell may. The daemon is told, so that editors show how it goes and may end
// it.
//
// The process sends a recordingNews that announces it, then one for each update, then one for its
// end. The daemon sends recordingOrders.

type recordingNews struct {
	Home    string             `json:",omitempty"` // surroundings.home; with Request
	Store   string             `json:",omitempty"` // path of the store that takes the capture; with Request
	Request *lspserver.Request `json:",omitempty"`
	Update  *recordingState    `json:",omitempty"`
	Result  *lspserver.Result  `json:",omitempty"`
	Problem string             `json:",omitempty"` // with Result: the error, where it was none
}

// A recordingState is what of an lspserver.Update others are told.
type recordingState struct {
	Elapsed time.Duration
	Samples int
	Phase   string
	Note    string `json:",omitempty"`
}

type recordingOrder struct{ Stop, Discard bool }

// A remoteRecording is one that another process makes.
type remoteRecording struct {
	conn    *daemon.Conn
	updates chan lspserver.Update
	done    chan struct{} // closed when result and err are set
	result  lspserver.Result
	err     error
}

var _ lspserver.Recording = (*remoteRecording)(nil)

func (r *remoteRecording) Updates() <-chan lspserver.Update { return r.updates }
func (r *remoteRecording) Stop()                            { r.order(recordingOrder{Stop: true}) }
func (r *remoteRecording) Discard()                         { r.order(recordingOrder{Discard: true}) }
func (r *remoteRecording) order(o recordingOrder)           { go r.conn.Send(o) } // of a few bytes; a process that is gone needs none

func (r *remoteRecording) Wait() (lspserver.Result, error) {
	<-r.done
	return r.result, r.err
}

// Shown shows editors the recording of another process, until it ends.
func (h *host) shown(_ context.Context, conn *daemon.Conn) error {
	h.enter(conn)
	defer h.leave(conn)
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	var first recordingNews
	if err := conn.Receive(&first); err != nil {
		return err
	}
	if first.Request == nil {
		return errors.New("a recording was announced without its request")
	}
	_ = conn.SetDeadline(time.Time{})
	r := &remoteRecording{conn: conn, updates: make(chan lspserver.Update, 16), done: make(chan struct{})}
	h.mu.Lock()
	hub := h.hubs[first.Home]
	h.mu.Unlock()
	if hub == nil {
		return conn.Send(recordingOrder{}) // no editor could show it
	}
	h.log.Info("a command records", "client", conn.PID(), "target", first.Request.Command, "pid", first.Request.PID)
	hub.Announce(first.Store, *first.Request, r)
	defer close(r.done)
	defer close(r.updates)
	for {
		var news recordingNews
		err := conn.Receive(&news)
		switch {
		case err == nil && news.Result != nil:
			r.result = *news.Result
			if news.Problem != "" {
				r.err = errors.New(news.Problem)
			}
			return nil
		case err == nil && news.Update != nil:
			select {
			case r.updates <- lspserver.Update{Elapsed: news.Update.Elapsed, Samples: news.Update.Samples, Phase: news.Update.Phase, Note: news.Update.Note}:
			default: // the next one says it too
			}
		case err != nil:
			r.err = fmt.Errorf("the command that recorded (process %d) was killed; what it had stored is kept", conn.Hello.PID)
			h.running.Go(func() { nameLeft(first) })
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
}

// NameLeft names the functions of what a recorder has left that was killed.
func nameLeft(of recordingNews) {
	st, err := store.Open(of.Store, store.Options{Migrate: takeOver})
	if err != nil {
		return // whoever uses it is told
	}
	// Its connection is closed a moment before the process has ended.
	for range 50 {
		list, err := st.List()
		if err != nil || !slices.ContainsFunc(list, func(m store.Meta) bool { return m.Recording }) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	nameInterrupted(context.Background(), st, of.Request.Workspace)
}

// A showing is this process's recording as the daemon shows it; nil where no daemon runs.
type showing struct {
	conn *daemon.Conn
	once sync.Once
}

// ShowRecording tells the daemon of a recording that has begun, if one runs.
func showRecording(req lspserver.Request, storePath, dir string, running lspserver.Recording) *showing {
	conn := daemonNow(wantRecording)
	if conn == nil {
		return nil
	}
	req.Workspace, req.Dir = workspaceOf(dir), cmp.Or(req.Dir, dir)
	req.Prefixes = nil
	s := &showing{conn: conn}
	if err := conn.Send(recordingNews{Home: (*surroundings)(nil).home(), Store: storePath, Request: &req}); err != nil {
		s.close()
		return nil
	}
	go func() { // ends with the connection
		for {
			var o recordingOrder
			if conn.Receive(&o) != nil {
				return
			}
			switch {
			case o.Discard:
				running.Discard()
			case o.Stop:
				running.Stop()
			}
		}
	}()
	return s
}

// Updates passes updates on and tells the daemon of them.
func (s *showing) updates(from <-chan lspserver.Update) <-chan lspserver.Update {
	if s == nil {
		return from
	}
	to := make(chan lspserver.Update)
	go func() { // ends with from
		defer close(to)
		told := time.Time{}
		phase := ""
		for u := range from {
			if now := time.Now(); u.Phase != phase || now.Sub(told) >= 200*time.Millisecond {
				phase, told = u.Phase, now
				_ = s.conn.SetDeadline(now.Add(tellWithin))
				_ = s.conn.Send(recordingNews{Update: &recordingState{u.Elapsed, u.Samples, u.Phase, u.Note}})
				_ = s.conn.SetDeadline(time.Time{})
			}
			to <- u
		}
	}()
	return to
}

// End tells how the recording ended.
func (s *showing) end(result lspserver.Result, err error) {
	if s == nil {
		return
	}
	defer s.close()
	news := recordingNews{Result: &result}
	if err != nil {
		news.Problem = err.Error()
	}
	_ = s.conn.SetDeadline(time.Now().Add(tellWithin))
	_ = s.conn.Send(news)
}

func (s *showing) close() { s.once.Do(func() { s.conn.Close() }) }
