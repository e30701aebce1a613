package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.lsp.dev/protocol"
)

// Work describes a piece of work whose progress the client is to show.
type Work struct {
	Token       protocol.ProgressToken // the workDoneToken of the call that started it; nil asks the client for one
	Title       string                 // what is done: "Recording ./fib"
	Message     string                 // how far it is, to begin with
	Cancellable bool                   // the client may offer a button
	// OnCancel is called, once and from the reading goroutine (so it must be quick), when the client
	// sends window/workDoneProgress/cancel. A client may also cancel the call that started the work:
	// that ends the call's context and does not call OnCancel.
	OnCancel func()
}

// Progress reports a piece of work to the client. Its methods may be called from any goroutine, and
// do nothing where the client shows no progress or after End.
type Progress struct {
	client client
	token  protocol.ProgressToken // nil: the client shows none

	mu    sync.Mutex // orders reports and their end
	ended bool
}

func (c client) Begin(ctx context.Context, w Work) *Progress {
	p := &Progress{client: c, token: w.Token}
	if p.token == nil {
		token := protocol.String(fmt.Sprintf("sightline-%d", c.s.tokens.Add(1)))
		// From here on the client may cancel, but it has seen no token that it could cancel.
		if err := c.WorkDoneProgressCreate(ctx, &protocol.WorkDoneProgressCreateParams{Token: token}); err != nil {
			// The protocol forbids to use a token that could not be made.
			if !errors.Is(err, errors.ErrUnsupported) {
				c.s.opts.Log.Warn("progress is not shown", "work", w.Title, "error", err)
			}
			return p
		}
		p.token = token
	}
	if w.OnCancel != nil {
		c.s.work.add(p.token, w.OnCancel)
	}
	begin := protocol.WorkDoneProgressBegin{Kind: "begin", Title: w.Title, Cancellable: &w.Cancellable}
	if w.Message != "" {
		begin.Message = &w.Message
	}
	p.send(&begin)
	return p
}

// Shown tells whether the client shows this progress.
func (p *Progress) Shown() bool { return p.token != nil }

// Report says how far the work is. A percentage below 0 is not known; one that is reported must
// not become smaller.
func (p *Progress) Report(message string, percentage int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	r := protocol.WorkDoneProgressReport{Kind: "report", Message: &message}
	if percentage >= 0 {
		n := uint32(min(percentage, 100))
		r.Percentage = &n
	}
	p.send(&r)
}

// End says that the work is over, and how it went.
func (p *Progress) End(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	if p.token == nil {
		return
	}
	p.client.s.work.remove(p.token)
	end := protocol.WorkDoneProgressEnd{Kind: "end"}
	if message != "" {
		end.Message = &message
	}
	p.send(&end)
}

func (p *Progress) send(value any) {
	if p.token == nil {
		return
	}
	raw, err := protocol.Marshal(value)
	if err == nil {
		err = p.client.Progress(context.Background(), &protocol.ProgressParams{Token: p.token, Value: raw})
	}
	if err != nil {
		p.client.s.opts.Log.Debug("progress was not sent", "error", err)
	}
}

// works are the pieces of work that a client may cancel, by token.
type works struct {
	mu       sync.Mutex
	onCancel map[protocol.ProgressToken]func()
}

func (w *works) add(token protocol.ProgressToken, onCancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onCancel == nil {
		w.onCancel = map[protocol.ProgressToken]func(){}
	}
	w.onCancel[token] = onCancel
}

func (w *works) remove(token protocol.ProgressToken) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.onCancel, token)
}

// cancel calls the work's OnCancel, the first time.
func (w *works) cancel(token protocol.ProgressToken) {
	w.mu.Lock()
	f := w.onCancel[token]
	delete(w.onCancel, token)
	w.mu.Unlock()
	if f != nil {
		f()
	}
}
