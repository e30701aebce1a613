package lspserver

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

const (
	hotSpots     = 50   // that are listed where nobody says how many
	hotSpotsMost = 1000 // that are listed at most
)

// hottestSpots answers rpc.MethodHottest, by the cost that is shown (sightline.setMetric), so that a
// list and the hints agree.
func (s *server) hottestSpots(ctx context.Context, p rpc.HottestParams) ([]rpc.HotSpot, error) {
	const method = rpc.MethodHottest
	switch {
	case p.What != "lines" && p.What != "functions":
		return nil, rpc.ErrParams("%s: there are no hottest %.40q: give \"what\" as \"lines\" or \"functions\"", method, p.What)
	case p.Limit < 0 || p.Limit > hotSpotsMost:
		return nil, rpc.ErrParams("%s: %d are too few or too many: give a limit up to %d, or 0 for %d", method, p.Limit, hotSpotsMost, hotSpots)
	}
	hot, err := s.hotProfile(ctx, method, p.SourceRef)
	if err != nil {
		return nil, err
	}
	l := hot.capture
	places := s.places(ctx)
	m, _ := s.shown()
	own := places.own
	if p.All {
		own = func(*file) bool { return true }
	}
	spots := []rpc.HotSpot{}
	add := func(label, detail string, at *rpc.Location, self, total profile.Measure) {
		cost := m.cost(self, total)
		spots = append(spots, rpc.HotSpot{
			Label: label, Detail: detail, Text: costWords(cost.Weight, hot.sums.Total().Weight, hot.unit, m.Form),
			Self: self.Weight, Total: total.Weight, Count: cost.Count, Location: at,
		})
	}
	limit := cmp.Or(p.Limit, hotSpots)
	if p.What == "functions" {
		for _, row := range hottestRows(hot.sums, m, func(r *view.Row) bool {
			f := l.fileAt(r.File)
			return p.All || f != nil && own(f)
		}, limit) {
			at := places.of(l.fileAt(row.File), row.Line)
			add(functionLabel(row.Name), placeText(row.File, row.Line, at), at, row.Self, row.Total)
		}
	} else {
		for _, x := range hottestLines(hot.files, m, own, limit) {
			label, at := places.text(x.file, x.Line.Line)
			detail := placeText(x.file.path, x.Line.Line, at)
			if at == nil && label != "" {
				detail += ", changed since"
			}
			if label == "" { // without its text a line is known by its function
				if d := hot.sums.DetailOf(x.file.path, x.Line.Line); len(d.Functions) > 0 {
					label = functionLabel(d.Functions[0].Name)
				}
			}
			add(cmp.Or(label, detail), detail, at, x.Self, x.Total)
		}
	}
	weight := func(x *rpc.HotSpot) int64 {
		if m.Measure == measureSelf {
			return x.Self
		}
		return x.Total
	}
	for i := range spots {
		if most := weight(&spots[0]); most > 0 {
			spots[i].Heat = float64(weight(&spots[i])) / float64(most)
		}
	}
	return spots, ctx.Err()
}

// A hotProfile is one series of a capture, to be asked for what is hottest in it.
type hotProfile struct {
	capture *loaded
	sums    *view.Sums
	unit    profile.Unit
	files   []hotFile // by path
}

// A hotFile is a source file with its lines in one series.
type hotFile struct {
	*file
	lines []view.Line
}

// hotProfile is what a SourceRef names.
func (s *server) hotProfile(ctx context.Context, method string, ref rpc.SourceRef) (*hotProfile, error) {
	var l *loaded
	var err error
	if ref.File != "" {
		l, err = s.foreignFile(ctx, method, ref.File)
	} else {
		l, err = s.captureAsked(ref)
	}
	if err != nil {
		return nil, err
	}
	h := &hotProfile{capture: l, sums: l.sums, unit: l.profile.Unit}
	if ref.Kind == "" || ref.Kind == string(l.profile.Kind) {
		for _, f := range l.files {
			h.files = append(h.files, hotFile{f, f.lines})
		}
		return h, nil
	}
	p, err := l.ofKind(profile.Kind(ref.Kind))
	if err != nil {
		return nil, rpc.ErrParams("%s: %v", method, err)
	}
	h.sums, h.unit = view.NewSums(p), p.Unit
	for _, fl := range h.sums.Lines() {
		f := l.fileAt(fl.File)
		if f == nil { // only this series comes by it: its lines count in the text as it is
			f = &file{capture: l, path: fl.File, baseline: func() ([]byte, bool) { return nil, false }}
		}
		h.files = append(h.files, hotFile{f, fl.Lines})
	}
	return h, nil
}

// captureAsked is the capture that stacks are asked of: a stored one that is named, else what is
// shown, else the newest that is complete.
func (s *server) captureAsked(ref rpc.SourceRef) (*loaded, error) {
	s.mu.Lock()
	live, opened, kind := s.live, s.opened, s.kind
	s.mu.Unlock()
	shownAs := func(l *loaded) *loaded { // the kind that is shown, where none is named
		if ref.Kind != "" {
			return l
		}
		return l.as(kind)
	}
	switch {
	case ref.Capture != "" || ref.Root != "":
	case live != nil:
		return shownAs(live), nil
	case opened != nil:
		l, err := s.load(opened.workspace, opened.id)
		if err != nil {
			return nil, errState("capture %s cannot be read: %v", opened.id, err)
		}
		return shownAs(l), nil
	}
	w, id, err := s.resolve(openCaptureArgs{Capture: cmp.Or(ref.Capture, "@"), Root: ref.Root})
	if err != nil {
		return nil, err
	}
	l, err := s.load(w, id)
	if err != nil {
		return nil, errState("capture %s cannot be read: %v", id, err)
	}
	if ref.Capture == "" {
		return shownAs(l), nil
	}
	return l, nil
}

// fileAt is the file of that build path; nil where no line of it has a cost.
func (l *loaded) fileAt(path string) *file {
	for _, f := range l.byBase[filepath.Base(path)] {
		if f.path == path {
			return f
		}
	}
	return nil
}

// hottestRows are the at most n functions with most cost by the metric, largest first.
func hottestRows(sums *view.Sums, m metric, keep func(*view.Row) bool, n int) []view.Row {
	rows := slices.DeleteFunc(sums.ByName(), func(r view.Row) bool {
		return r.Pseudo() || m.cost(r.Self, r.Total).Weight <= 0 || !keep(&r)
	})
	slices.SortStableFunc(rows, func(a, b view.Row) int { // they come by self, then total, then name
		return cmp.Compare(m.cost(b.Self, b.Total).Weight, m.cost(a.Self, a.Total).Weight)
	})
	return rows[:min(n, len(rows))]
}

// placeText is a place for people, "fib.go:9": where it is now, or else where it was recorded.
func placeText(file string, line int, now *rpc.Location) string {
	switch {
	case file == "":
		return ""
	case now != nil:
		line = now.Line + 1
	case line == 0:
		return filepath.Base(file)
	}
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}

type fileLine struct {
	file *file
	view.Line
}

// hottestLines are the at most n lines with most cost by the metric, largest first; those of equal
// cost by the other cost, then by file and line.
func hottestLines(files []hotFile, m metric, keep func(*file) bool, n int) []fileLine {
	var lines []fileLine
	for _, f := range files {
		if !keep(f.file) {
			continue
		}
		for _, x := range f.lines {
			if m.cost(x.Self, x.Total).Weight > 0 {
				lines = append(lines, fileLine{f.file, x})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b fileLine) int { // they come by file and line
		return cmp.Or(cmp.Compare(m.cost(b.Self, b.Total).Weight, m.cost(a.Self, a.Total).Weight),
			cmp.Compare(b.Self.Weight, a.Self.Weight), cmp.Compare(b.Total.Weight, a.Total.Weight))
	})
	return lines[:min(n, len(lines))]
}

// places finds where recorded lines are now, in the editor's text where a file is open and else in
// the disk's. It serves one request: each file is looked at once.
type places struct {
	s     *server
	open  documents
	roots []string
	found map[*file]*foundFile
	owned map[*file]bool
}

// A foundFile is a file of a capture as it is now; its document is nil where it is not here.
type foundFile struct {
	doc    *document
	at     func(recorded int) (int, bool) // 1-based lines, then and now
	lineOf func(now int) (int, bool)      // to a 0-based line of the protocol
}

func (s *server) places(ctx context.Context) *places {
	p := &places{s: s, open: s.snapshot(ctx), found: map[*file]*foundFile{}, owned: map[*file]bool{}}
	paths := s.paths.Load()
	for _, w := range s.allWorkspaces() {
		p.roots = append(p.roots, w.root)
		if real := paths.Canonical(w.root); real != w.root {
			p.roots = append(p.roots, real)
		}
	}
	return p
}

// own says whether a file lies in the workspace.
func (p *places) own(f *file) bool {
	own, known := p.owned[f]
	if known {
		return own
	}
	local := f.local
	if local == "" {
		local, _ = p.s.paths.Load().Local(f.path)
	}
	own = local != "" && slices.ContainsFunc(p.roots, func(root string) bool { return within(local, root) })
	p.owned[f] = own
	return own
}

// file is a file of a capture as it is now.
func (p *places) file(f *file) *foundFile {
	if found := p.found[f]; found != nil {
		return found
	}
	found := &foundFile{at: func(n int) (int, bool) { return n, true }}
	p.found[f] = found
	paths := p.s.paths.Load()
	path := f.place(paths)
	if path == "" {
		return found
	}
	for _, d := range p.open {
		if d.path != "" && !d.unknown && paths.Same(d.path, path) {
			found.doc = d
		}
	}
	if found.doc == nil {
		data, err := os.ReadFile(path)
		if err != nil {
			return found
		}
		text := string(data)
		found.doc = newDocument(uri.File(path), path, path, 0, rpc.NewText(text), newHistory(text))
	}
	found.lineOf = protocolLines(found.doc.text)
	if recorded, _ := f.baseline(); recorded != nil {
		found.at = found.doc.history.lineMap(f, recorded, []byte(found.doc.text.String())).Now
	}
	return found
}

// of is where a recorded line is now; nil where that is not known. f may be nil.
func (p *places) of(f *file, line int) *rpc.Location {
	if f == nil || line < 1 {
		return nil
	}
	found := p.file(f)
	if found.doc == nil {
		return nil
	}
	now, ok := found.at(line)
	if ok {
		now, ok = found.lineOf(now)
	}
	if !ok {
		return nil
	}
	return &rpc.Location{URI: string(found.doc.uri), Line: now}
}

// text is a recorded line's text, trimmed, and where it is now; "" where the text is not known.
func (p *places) text(f *file, line int) (string, *rpc.Location) {
	at := p.of(f, line)
	if at != nil {
		return shortened(strings.TrimSpace(p.file(f).doc.text.Line(at.Line))), at
	}
	recorded, _ := f.baseline()
	n := 0
	for l := range strings.Lines(string(recorded)) {
		if n++; n == line {
			return shortened(strings.TrimSpace(l)), nil
		}
	}
	return "", nil
}
