package lspserver

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"go.lsp.dev/protocol"
)

// CodeLens implements protocol.Server: on hot functions what they cost, on Go tests a way to profile
// them, and on line 1 a notice where the numbers are too old to be shown.
func (s *server) CodeLens(ctx context.Context, p *protocol.CodeLensParams) ([]protocol.CodeLens, error) {
	d, err := s.document(ctx, p.TextDocument.URI)
	if d == nil {
		return []protocol.CodeLens{}, err
	}
	m, set := s.shown()
	lenses := []protocol.CodeLens{}
	add := func(line int, c *protocol.Command) {
		at := protocol.Position{Line: uint32(line)}
		lenses = append(lenses, protocol.CodeLens{
			Range:   protocol.Range{Start: at, End: d.text.EndOf(s.client.Encoding(), line)},
			Command: *c,
		})
	}
	for _, t := range d.tests() {
		if set.lensTests[t.kind] {
			add(t.line, s.testCommand(d, t))
		}
	}
	if set.lensFunctions {
		if a := s.annotations(d); a != nil && a.stale() {
			add(0, s.staleCommand(a))
		} else if a != nil {
			for _, fn := range a.hot(set.lensThreshold) {
				add(fn.now, s.functionCommand(d, a, fn, m))
			}
		}
	}
	slices.SortStableFunc(lenses, func(a, b protocol.CodeLens) int {
		return cmp.Compare(a.Range.Start.Line, b.Range.Start.Line)
	})
	return lenses, nil
}

// hot is the functions that reach a threshold with all they call, by line.
func (p *placed) hot(threshold float64) []placedFunction {
	var hot []placedFunction
	for _, fn := range p.functions {
		if p.file.capture.over(fn.Total.Weight, threshold) {
			hot = append(hot, fn)
		}
	}
	return hot
}

// testCommand profiles a test, or stops that when it is under way.
func (s *server) testCommand(d *document, t goTest) *protocol.Command {
	s.mu.Lock()
	r := s.recording
	s.mu.Unlock()
	dir := filepath.Dir(d.path)
	if r != nil && r.is(dir, t.run, t.bench) {
		return command("sightline.stop", r.status()+" · stop", "stop and keep what was recorded", nil)
	}
	return command("sightline.profileTest", "profile", "run "+t.name+" and see what its lines cost",
		profileTestArgs{URI: string(d.uri), Run: t.run, Bench: t.bench})
}

// lensRanks is up to which place a lens tells a function's: being 188th means nothing.
const lensRanks = 20

// functionCommand says what a function costs and leads to its hottest line.
func (s *server) functionCommand(d *document, a *placed, fn placedFunction, m metric) *protocol.Command {
	l := a.file.capture
	scale := a.scale(metric{Measure: measureTotal})
	title := "total " + l.words(fn.Total.Weight, m.Form, scale)
	if fn.Self.Weight == fn.Total.Weight {
		title = "self " + l.words(fn.Self.Weight, m.Form, scale)
	} else if fn.Self.Weight > 0 {
		form := m.Form
		if form == formBoth {
			form = formPercent // the time is small beside the total's, and the title long enough
		}
		title += ", self " + l.words(fn.Self.Weight, form, scale)
	}
	if fn.rank > 0 && fn.rank <= lensRanks {
		title += fmt.Sprintf(", #%d", fn.rank)
	}
	line := a.hottestOf(fn)
	return command("sightline.goToFrame", title, "go to the hottest line of "+fn.Name,
		goToFrameArgs{URI: string(d.uri), Line: line + 1})
}

// endOf is the last 0-based line that may belong to a function: the one before the next function.
func (p *placed) endOf(fn placedFunction) int {
	for _, other := range p.functions {
		if other.now > fn.now {
			return other.now - 1
		}
	}
	return math.MaxInt32
}

// hottestOf is the 0-based line of a function with the most weight of its own; the function's first
// where none has a number.
func (p *placed) hottestOf(fn placedFunction) int {
	best, most := fn.now, int64(-1)
	for _, l := range p.within(fn.now, p.endOf(fn)) {
		if w := l.Self.Weight; w > most {
			best, most = l.now, w
		}
	}
	return best
}

// staleCommand tells that numbers are not shown, and clears them for good.
func (s *server) staleCommand(a *placed) *protocol.Command {
	return command("sightline.clear", s.staleNotice(a), "hide this notice until there is a new capture", nil)
}

// staleNotice says why a document has no numbers although a capture touches it.
func (s *server) staleNotice(a *placed) string {
	return fmt.Sprintf("profiled %s, but %d of %s have changed since: profile again",
		Age(s.age(a.file.capture)), a.lost, plural(int64(a.measured), "measured line"))
}

// age is how long ago a capture ended.
func (s *server) age(l *loaded) time.Duration { return s.cfg.Now().Sub(l.start.Add(l.length)) }
