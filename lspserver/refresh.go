package lspserver

import (
	"errors"
	"sync"
	"time"
)

// refreshDelay is how long a refresh waits for more reasons to refresh. Refreshing makes a client
// ask again for all its open documents.
const refreshDelay = 75 * time.Millisecond

// A refresher has the client ask again for hints and lenses. It is never used for edits: a client
// asks by itself after those.
type refresher struct {
	s *server

	mu      sync.Mutex
	timer   *time.Timer // set while a refresh is due
	running bool        // a refresh is being answered
	hints   bool        // what is due
	lenses  bool
	stopped bool
}

func newRefresher(s *server) *refresher { return &refresher{s: s} }

// all has hints and lenses asked for again.
func (r *refresher) all() { r.want(true, true) }

// lensesOnly has only lenses asked for again.
func (r *refresher) lensesOnly() { r.want(false, true) }

// now is all without the delay: for the numbers that somebody is waiting for.
func (r *refresher) now() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hints, r.lenses = true, true
	if r.timer != nil && r.timer.Stop() {
		r.timer = nil
	}
	if !r.stopped && !r.running && r.timer == nil {
		r.timer = time.AfterFunc(0, r.send)
	}
}

func (r *refresher) want(hints, lenses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hints, r.lenses = r.hints || hints, r.lenses || lenses
	r.schedule()
}

// schedule sets the timer, unless one is set or a refresh is being answered. The caller holds mu.
func (r *refresher) schedule() {
	if r.stopped || r.running || r.timer != nil || !r.hints && !r.lenses {
		return
	}
	r.timer = time.AfterFunc(refreshDelay, r.send)
}

// send runs in the timer's goroutine. A client that answers slowly gets one refresh after another,
// never two at a time.
func (r *refresher) send() {
	r.mu.Lock()
	hints, lenses := r.hints, r.lenses
	r.hints, r.lenses, r.timer, r.running = false, false, nil, true
	r.mu.Unlock()

	var wg sync.WaitGroup
	ask := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && !errors.Is(err, errors.ErrUnsupported) && r.s.ctx.Err() == nil {
				r.s.log.Info("the client did not refresh", "what", what, "error", err)
			}
		})
	}
	if hints {
		ask("hints", func() error { return r.s.client.InlayHintRefresh(r.s.ctx) })
	}
	if lenses {
		ask("lenses", func() error { return r.s.client.CodeLensRefresh(r.s.ctx) })
	}
	if hints {
		r.s.tellChanged()
	}
	wg.Wait()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	r.schedule()
}

// stop ends refreshing.
func (r *refresher) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}
