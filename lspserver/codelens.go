package lspserver

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// CodeLens implements protocol.Server: on hot functions what they cost, on tests a way to profile them,
// on launch targets one to record them, and on line 1 a notice where the numbers are too old to be shown.
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
			if set.lensMemory && (t.kind == plainTest || t.kind == benchmark) && s.recordingOf(d, t) == nil {
				add(t.line, memoryCommand(d, t))
			}
		}
	}
	s.nativeLenses(d, set, add)
	s.targetLenses(d, set, add)
	if set.lensFunctions {
		if a := s.annotations(d); a != nil && a.stale() {
			add(0, s.staleCommand(d, a))
		} else if a != nil {
			said := map[string]bool{}
			for _, fn := range a.hot(set.lensThreshold) {
				c := s.functionCommand(d, a, fn, m)
				// A Rust test and the closure that its harness calls it by begin on one line and cost the same.
				if key := fmt.Sprint(fn.now, c.Title); !said[key] {
					said[key] = true
					add(fn.now, c)
				}
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

// recordingOf is the recording of a test that is under way; nil where none is.
func (s *server) recordingOf(d *document, t goTest) *attended {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.recording; r != nil && r.is(filepath.Dir(d.path), t.run, t.bench) {
		return r
	}
	return nil
}

// memoryCommand has a test tell what its lines allocate.
func memoryCommand(d *document, t goTest) *protocol.Command {
	return command("sightline.profileTest", "memory", "run "+t.name+" and see what its lines allocate",
		profileTestArgs{URI: string(d.uri), Run: t.run, Bench: t.bench, Kinds: []string{"heap"}})
}

// testCommand profiles a test, or stops that when it is under way.
func (s *server) testCommand(d *document, t goTest) *protocol.Command {
	if r := s.recordingOf(d, t); r != nil {
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
	title := "total " + l.words(fn.Total.Weight, m.Form)
	if fn.Self.Weight == fn.Total.Weight {
		title = "self " + l.words(fn.Self.Weight, m.Form)
	} else if fn.Self.Weight > 0 {
		form := m.Form
		if form == formBoth {
			form = formPercent // the time is small beside the total's, and the title long enough
		}
		title += ", self " + l.words(fn.Self.Weight, form)
	}
	if k := l.profile.Kind; k != profile.CPU {
		title += " " + KindWords(k)
	}
	if fn.rank > 0 && fn.rank <= lensRanks {
		title += fmt.Sprintf(", #%d", fn.rank)
	}
	tooltip := "go to the hottest line of " + fn.Name
	if b := s.baselineFor(l); b != nil {
		title += ", " + b.change(l, &fn.function, m)
		tooltip += "\ncompared with " + b.name
	}
	tooltip += "\n" + s.note(l, a.edited)
	line := a.hottestOf(d, fn, m)
	return command("sightline.goToFrame", title, tooltip,
		goToFrameArgs{URI: string(d.uri), Line: line + 1})
}

// endOf is the last 0-based line of a function. Closures belong to the function around them. In Go
// the source tells; elsewhere it is the line before the next function that has a cost and does not
// lie in this one.
func (p *placed) endOf(d *document, fn placedFunction) int {
	var inner *goFunction
	for _, g := range d.functions() {
		if g.first != fn.now {
			continue
		}
		if g.closure == isClosure(fn.Name) {
			return g.last
		}
		inner = &g
	}
	if inner != nil {
		return inner.last
	}
	for _, other := range p.functions {
		if other.now > fn.now && !isNested(other.Name, fn.Name) {
			return other.now - 1
		}
	}
	return math.MaxInt32
}

// goClosure is how the Go linker names closures: "p.F.func1", "p.F.func1.2", "p.F.gowrap1".
var goClosure = regexp.MustCompile(`\.(func|gowrap|deferwrap)?[0-9]+$`)

func isClosure(name string) bool { return goClosure.MatchString(name) }

// isNested says whether a function lies in another, as names tell: "f.func1", "f::{closure}".
func isNested(name, outer string) bool {
	rest, ok := strings.CutPrefix(name, outer)
	return ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "::"))
}

// hottestOf is the 0-based hottest line of a function: the one inside with the highest number, as the
// hints show it; the first of several. A function's head has the cost of entering it, and what is
// measured there is rarely what to look at, so it is the answer only where nothing else has a number.
func (p *placed) hottestOf(d *document, fn placedFunction, m metric) int {
	best, most := fn.now, int64(0)
	for _, l := range p.within(fn.now+1, p.endOf(d, fn)) {
		if w := m.cost(l.Self, l.Total).Weight; w > most {
			best, most = l.now, w
		}
	}
	return best
}

// staleCommand tells that numbers are not shown, and clears those of this document for good.
func (s *server) staleCommand(d *document, a *placed) *protocol.Command {
	return command("sightline.clear", s.staleNotice(a), "hide this notice until there is a new capture", clearArgs{URI: string(d.uri)})
}

// staleNotice says why a document has no numbers although a capture touches it.
func (s *server) staleNotice(a *placed) string {
	have := "have"
	if a.lost == 1 {
		have = "has"
	}
	return fmt.Sprintf("%s, but %d of %s %s changed since: profile again",
		s.profiled(a.file.capture), a.lost, plural(int64(a.measured), "measured line"), have)
}

// profiled says how long ago a capture ended: "profiled 3 min ago".
func (s *server) profiled(l *loaded) string {
	verb, age := s.ageOf(l.key.id, l.start, l.length)
	return verb + " " + age
}

// ageOf is how long ago a capture ended, or where a file of another tool does not tell its time, was
// stored: "profiled", "3 min ago".
func (s *server) ageOf(id store.ID, start time.Time, length time.Duration) (verb, age string) {
	if start.IsZero() {
		return "imported", Age(s.cfg.Now().Sub(id.Time()))
	}
	return "profiled", Age(s.cfg.Now().Sub(start.Add(length)))
}
