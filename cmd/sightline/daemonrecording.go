package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/store"
)

// What a command of the terminal records stays with its own process: the terminal's Ctrl-C, its job
// control and the program's standard input belong to it, it works where no daemon runs, and what it
// may record is what that shell may. The daemon is told, so that editors show how it goes and may end
// it. Where an editor or another terminal records the same target already, the terminal shows that
// recording instead, and may end it as well.
//
// The process sends a recordingNews that announces what it is about to record. The daemon's first
// recordingWord says whether that is recorded already. If not, news follow of each update and of the
// end, and words to stop. If so, it is the daemon that tells of updates and the end, and the process
// that says when to stop; a connection that ends is one who looks on no more.

type recordingNews struct {
	Home    string             `json:",omitempty"` // surroundings.home; with Request
	Store   string             `json:",omitempty"` // path of the store that takes the capture; with Request
	Request *lspserver.Request `json:",omitempty"`
	Share   bool               `json:",omitempty"` // another recording of the target will do; with Request
	recordingEvents
	recordingOrder
}

type recordingWord struct {
	Joined  string        `json:",omitempty"` // in the first: the name of the recording that is under way
	Elapsed time.Duration `json:",omitempty"` // of it
	recordingEvents
	recordingOrder
}

// RecordingEvents tell how a recording goes.
type recordingEvents struct {
	Update  *recordingState   `json:",omitempty"`
	Result  *lspserver.Result `json:",omitempty"`
	Problem string            `json:",omitempty"` // with Result: the error, where it was none
}

func endingOf(result lspserver.Result, err error) recordingEvents {
	e := recordingEvents{Result: &result}
	if err != nil {
		e.Problem = err.Error()
	}
	return e
}

// End is the result and error; ok is false while it has not ended.
func (e recordingEvents) end() (result lspserver.Result, err error, ok bool) {
	if e.Result == nil {
		return result, nil, false
	}
	if e.Problem != "" {
		err = errors.New(e.Problem)
	}
	return *e.Result, err, true
}

// A recordingState is what of an lspserver.Update others are told.
type recordingState struct {
	Elapsed time.Duration
	Samples int
	Phase   string
	Note    string `json:",omitempty"`
}

func stateOf(u lspserver.Update) *recordingState {
	return &recordingState{u.Elapsed, u.Samples, u.Phase, u.Note}
}

func (s *recordingState) update() lspserver.Update {
	return lspserver.Update{Elapsed: s.Elapsed, Samples: s.Samples, Phase: s.Phase, Note: s.Note}
}

type recordingOrder struct {
	Stop    bool `json:",omitempty"`
	Discard bool `json:",omitempty"`
}

func (o recordingOrder) give(r lspserver.Recording) {
	switch {
	case o.Discard:
		r.Discard()
	case o.Stop:
		r.Stop()
	}
}

// A remoteRecording is one that another process makes.
type remoteRecording struct {
	order   func(recordingOrder)
	updates chan lspserver.Update
	done    chan struct{} // closed when result and err are set
	result  lspserver.Result
	err     error
}

var _ lspserver.Recording = (*remoteRecording)(nil)

func newRemoteRecording(order func(recordingOrder)) *remoteRecording {
	return &remoteRecording{order: order, updates: make(chan lspserver.Update, 16), done: make(chan struct{})}
}

func (r *remoteRecording) Updates() <-chan lspserver.Update { return r.updates }
func (r *remoteRecording) Stop()                            { go r.order(recordingOrder{Stop: true}) } // of a few bytes; a process that is gone needs none
func (r *remoteRecording) Discard()                         { go r.order(recordingOrder{Discard: true}) }

func (r *remoteRecording) Wait() (lspserver.Result, error) {
	<-r.done
	return r.result, r.err
}

// Take takes in what the other process tells; over says that it was the end.
func (r *remoteRecording) take(e recordingEvents) (over bool) {
	if result, err, ok := e.end(); ok {
		r.ended(result, err)
		return true
	}
	if e.Update != nil {
		select {
		case r.updates <- e.Update.update():
		default: // the next one says it too
		}
	}
	return false
}

func (r *remoteRecording) ended(result lspserver.Result, err error) {
	r.result, r.err = result, err
	close(r.updates)
	close(r.done)
}

// Shown shows editors the recording of another process, until it ends; or shows that process the one
// that is under way.
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
	r := newRemoteRecording(func(o recordingOrder) { _ = conn.Send(recordingWord{recordingOrder: o}) })
	shared := h.hubOf(first.Home).Announce(first.Store, *first.Request, r)
	if shared != nil {
		defer shared.Leave()
		if first.Share {
			h.log.Info("a command shares a recording", "client", conn.PID(), "recording", shared.Name())
			return join(conn, shared)
		}
	} else {
		h.log.Info("a command records", "client", conn.PID(), "target", first.Request.Command, "pid", first.Request.PID)
	}
	return h.follow(conn, first, r)
}

// Follow takes in how the recording of another process goes.
func (h *host) follow(conn *daemon.Conn, first recordingNews, r *remoteRecording) error {
	err := conn.Send(recordingWord{})
	for err == nil {
		var news recordingNews
		if err = conn.Receive(&news); err == nil && r.take(news.recordingEvents) {
			return nil
		}
	}
	r.ended(lspserver.Result{}, fmt.Errorf("the command that recorded (process %d) was killed; what it had stored is kept", conn.Hello.PID))
	h.running.Go(func() { nameLeft(first) })
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Join tells another process how a recording goes that is not its own.
func join(conn *daemon.Conn, shared *lspserver.Shared) error {
	if err := conn.Send(recordingWord{Joined: shared.Name(), Elapsed: shared.Elapsed()}); err != nil {
		return err
	}
	go func() { // ends with the connection
		defer shared.Leave()
		for {
			var news recordingNews
			if conn.Receive(&news) != nil {
				return
			}
			news.give(shared)
		}
	}()
	for u := range shared.Updates() {
		// One that does not read, such as a stopped process, loses the connection and nothing else.
		_ = conn.SetWriteDeadline(time.Now().Add(answerWithin))
		if err := conn.Send(recordingWord{recordingEvents: recordingEvents{Update: stateOf(u)}}); err != nil {
			return err
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(answerWithin))
	return conn.Send(recordingWord{recordingEvents: endingOf(shared.Wait())})
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

// A showing is this process's recording as the daemon shows it, or one of others as this process does;
// nil where no daemon runs.
type showing struct {
	conn   *daemon.Conn
	once   sync.Once
	joined *remoteRecording // nil: this process records
	name   string           // of joined
	since  time.Duration    // when joined had begun
}

// ShowRecording tells the daemon of a recording that is about to begin, if one runs. Share says that one
// of others will do.
func showRecording(req lspserver.Request, storePath, dir string, share bool) *showing {
	conn := daemonNow(wantRecording)
	if conn == nil {
		return nil
	}
	req.Workspace, req.Dir = workspaceOf(dir), cmp.Or(req.Dir, dir)
	req.Prefixes = nil
	if t := req.Test; t != nil {
		// As an editor names it: by its folder.
		test := *t
		if strings.HasPrefix(test.Package, ".") && !strings.Contains(test.Package, "...") {
			test.Package = filepath.Join(req.Dir, test.Package)
		}
		if filepath.IsAbs(test.Package) {
			req.Dir = test.Package
		}
		req.Test = &test
	}
	s := &showing{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	var word recordingWord
	err := conn.Send(recordingNews{Home: (*surroundings)(nil).home(), Store: storePath, Request: &req, Share: share})
	if err == nil {
		err = conn.Receive(&word)
	}
	if err != nil {
		s.close()
		return nil
	}
	_ = conn.SetDeadline(time.Time{})
	if word.Joined != "" {
		s.name, s.since = word.Joined, word.Elapsed
		s.joined = newRemoteRecording(func(o recordingOrder) { _ = conn.Send(recordingNews{recordingOrder: o}) })
		go s.look()
	}
	return s
}

// Look takes in how the recording of others goes, until it ends or this process lets it go.
func (s *showing) look() {
	for {
		var word recordingWord
		if err := s.conn.Receive(&word); err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = errLeft
			} else {
				err = fmt.Errorf("%w while it recorded %s; what it had stored is kept", daemon.ErrGone, s.name)
			}
			s.joined.ended(lspserver.Result{}, err)
			return
		}
		if s.joined.take(word.recordingEvents) {
			return
		}
	}
}

// errLeft says that this process looks on no more.
var errLeft = errors.New("the recording goes on without this terminal; `sightline recordings` tells how")

// Share is the recording of others in place of one of this process; nil where there is none. An
// interrupt stops it for all, as it does with one's own; a terminal that is closed, or a process that is
// told to end, leaves it to go on.
func (s *showing) share(ctx context.Context, io streams, limit time.Duration) lspserver.Recording {
	if s == nil || s.joined == nil {
		return nil
	}
	fmt.Fprintf(io.err, "%s is being recorded already, for %s: sharing that recording. Ctrl-C ends it for all, and keeps it.\n", s.name, lspserver.Duration(s.since))
	context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); cause != nil && strings.HasPrefix(cause.Error(), os.Interrupt.String()) {
			s.joined.Stop()
		} else {
			s.close()
		}
	})
	if limit > 0 {
		time.AfterFunc(limit, s.joined.Stop)
	}
	return s.joined
}

// Began has editors show, and end, this process's recording.
func (s *showing) began(running lspserver.Recording) {
	if s == nil {
		return
	}
	go func() { // ends with the connection
		for {
			var word recordingWord
			if s.conn.Receive(&word) != nil {
				return
			}
			word.give(running)
		}
	}()
}

// Updates passes updates on and tells the daemon of them.
func (s *showing) updates(from <-chan lspserver.Update) <-chan lspserver.Update {
	if s == nil || s.joined != nil {
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
				s.tell(recordingEvents{Update: stateOf(u)})
			}
			to <- u
		}
	}()
	return to
}

// Tell sends news. A daemon that does not take them is told nothing more.
func (s *showing) tell(e recordingEvents) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(tellWithin))
	if s.conn.Send(recordingNews{recordingEvents: e}) != nil {
		s.close()
	}
}

// End tells how the recording ended.
func (s *showing) end(result lspserver.Result, err error) {
	if s == nil {
		return
	}
	defer s.close()
	if s.joined == nil {
		s.tell(endingOf(result, err))
	}
}

func (s *showing) close() { s.once.Do(func() { s.conn.Close() }) }
