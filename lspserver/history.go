package lspserver

import (
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/sourcemap"
)

// A history is how a document's text came about since it was opened: its texts then and each time
// it was saved, oldest first, and the edits from each to the next. It never changes. What was
// recorded is nearly always one of these texts, and from there on the edits tell where its lines
// are; only what happened before the first has to be found out by comparing.
type history []passage

// A passage is one text of a history and the edits that came after it, up to the next one.
type passage struct {
	origin *origin
	trail  *sourcemap.Trail
}

// historyLimit is how many texts a history keeps. The first always stays.
const historyLimit = 8

// newHistory is that of a document whose whole text just came.
func newHistory(text string) history {
	return history{{&origin{text: text}, sourcemap.NewTrail(text)}}
}

// edited is the history after one edit of the text as it was before.
func (h history) edited(before string, start, end int, replacement string) history {
	next := slices.Clone(h)
	last := &next[len(next)-1]
	last.trail = last.trail.Edit(before, start, end, replacement)
	return next
}

// saved is the history with the present text as one to begin from.
func (h history) saved(text string) history {
	if h[len(h)-1].origin.text == text {
		return h
	}
	next := slices.Clone(h)
	if len(next) == historyLimit {
		next[0].trail = next[0].trail.Then(next[1].trail)
		next = slices.Delete(next, 1, 2)
	}
	return append(next, newHistory(text)...)
}

// lineMap leads from the recorded lines of a file to those of the present text. It begins at the
// newest text that is the recorded one, or else at the one that differs least from it.
func (h history) lineMap(f *file, recorded, current []byte) *sourcemap.LineMap {
	at := -1
	for i := len(h) - 1; i >= 0 && at < 0; i-- {
		if h[i].origin.text == string(recorded) {
			at = i
		}
	}
	if at < 0 {
		at = 0
		for i := range h {
			if h[i].origin.lineMap(f, recorded).Changed() < h[at].origin.lineMap(f, recorded).Changed() {
				at = i
			}
		}
	}
	trail := h[at].trail
	for _, p := range h[at+1:] {
		trail = trail.Then(p.trail)
	}
	return trail.Follow(h[at].origin.lineMap(f, recorded), recorded, current)
}

// An origin is a text that a document once had. Any goroutine may ask it.
type origin struct {
	text string

	mu    sync.Mutex
	of    *file // that lines was made for last
	lines *sourcemap.LineMap
}

// lineMap leads from the recorded lines of a file to those of the origin.
func (o *origin) lineMap(f *file, recorded []byte) *sourcemap.LineMap {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of != f {
		o.of, o.lines = f, sourcemap.NewLineMap(recorded, []byte(o.text))
	}
	return o.lines
}
