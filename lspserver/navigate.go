package lspserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// A destination is where a navigating command leads, and whether the client went there.
type destination struct {
	URI   uri.URI        `json:"uri"`
	Range protocol.Range `json:"range"`
	Shown bool           `json:"shown"`
	// Label is the number of the line, as the hint words it; "" where it has none.
	Label string `json:"label"`
}

type hotLineArgs struct {
	URI  string `json:"uri"`
	Line *int   `json:"line"` // 0-based line to start from; absent: from outside the document
}

func (s *server) nextHotLine(c call, a hotLineArgs) (any, error)     { return s.hotLine(c, a, +1) }
func (s *server) previousHotLine(c call, a hotLineArgs) (any, error) { return s.hotLine(c, a, -1) }

// hotLine goes to the nearest line with a hint after or before one, around the document's end.
func (s *server) hotLine(c call, a hotLineArgs, step int) (any, error) {
	name := "sightline.nextHotLine"
	if step < 0 {
		name = "sightline.previousHotLine"
	}
	d, err := s.documentNamed(c.ctx, name, a.URI)
	if err != nil {
		return nil, err
	}
	from := -1
	if a.Line != nil {
		from = *a.Line
	} else if step < 0 {
		from = d.text.Lines()
	}
	p := s.annotations(d)
	m, set := s.shown()
	var hot []placedLine
	if p != nil && !p.stale() {
		for _, l := range p.lines {
			if p.file.capture.over(m.cost(l.Self, l.Total).Weight, set.hintThreshold) {
				hot = append(hot, l)
			}
		}
	}
	if len(hot) == 0 {
		return nil, errState("%s has no hot lines: profile a test that runs it, or set sightline.hints.threshold below %g", filepath.Base(d.path), set.hintThreshold)
	}
	best := hot[0]
	if step > 0 {
		for _, l := range hot {
			if l.now > from {
				best = l
				break
			}
		}
	} else {
		best = hot[len(hot)-1]
		for _, l := range hot {
			if l.now < from {
				best = l
			}
		}
		if hot[0].now >= from {
			best = hot[len(hot)-1]
		}
	}
	to := s.destination(d.uri, d.text, best.now)
	to.Label = p.file.capture.words(m.cost(best.Self, best.Total).Weight, m.Form)
	s.show(c.ctx, to)
	return to, nil
}

// documentNamed is the open document that a command's argument names.
func (s *server) documentNamed(ctx context.Context, command, name string) (*document, error) {
	if name == "" {
		return nil, rpc.ErrParams("%s needs the argument \"uri\": give that of an open document", command)
	}
	u, err := uri.Parse(name)
	if err != nil {
		return nil, rpc.ErrParams("%s: %.80q is no URI: give that of an open document", command, name)
	}
	d, err := s.document(ctx, u)
	if err == nil && d == nil {
		err = rpc.ErrParams("%s: %.80q is no file on this machine: give the URI of an open file", command, name)
	}
	return d, err
}

type goToFrameArgs struct {
	URI     string `json:"uri,omitempty"`     // a document, whose present lines are meant; or else
	Capture string `json:"capture,omitempty"` // a stored capture ("" for what is shown)
	File    string `json:"file,omitempty"`    // and a file as its frames name it, whose recorded lines are meant
	Line    int    `json:"line"`              // 1-based
}

// goToFrame shows a line of source: one of a document as it is now, or the place where a recorded
// line is now.
func (s *server) goToFrame(c call, a goToFrameArgs) (any, error) {
	const name = "sightline.goToFrame"
	switch {
	case a.Line < 1:
		return nil, rpc.ErrParams("%s: there is no line %d: give \"line\", counted from 1", name, a.Line)
	case (a.URI == "") == (a.File == ""):
		return nil, rpc.ErrParams("%s needs either \"uri\" (a document) or \"file\" (a file of the capture)", name)
	case a.URI != "":
		return s.goToURI(c, a)
	}
	path, f, err := s.frameFile(a)
	if err != nil {
		return nil, err
	}
	// The editor's text if it is open, else the disk's, is what the line is looked up in.
	u, paths := uri.File(path), s.paths.Load()
	var text *rpc.Text
	var h history
	for _, d := range s.snapshot(c.ctx) {
		if d.path != "" && paths.Same(d.path, path) {
			u, text, h = d.uri, d.text, d.history
		}
	}
	if text == nil {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, errState("%s is not shown: %v", path, err)
		}
		text, h = rpc.NewText(string(data)), newHistory(string(data))
	}
	line := a.Line
	if f != nil {
		if recorded, _ := f.baseline(); recorded != nil {
			if n, ok := h.lineMap(f, recorded, []byte(text.String())).Now(line); ok {
				line = n
			} else {
				s.say(protocol.MessageTypeInfo, fmt.Sprintf("Line %d of %s was changed since it was recorded: this is about where it was.", line, filepath.Base(path)))
			}
		}
	}
	at := text.Lines() - 1
	if n, ok := protocolLines(text)(line); ok {
		at = n
	}
	to := s.destination(u, text, at)
	s.show(c.ctx, to)
	return to, nil
}

// goToURI shows a present line of a document, open or not.
func (s *server) goToURI(c call, a goToFrameArgs) (any, error) {
	u, err := uri.Parse(a.URI)
	if err != nil {
		return nil, rpc.ErrParams("sightline.goToFrame: %.80q is no URI", a.URI)
	}
	path, ok := filePath(u)
	if !ok {
		return nil, rpc.ErrParams("sightline.goToFrame: %.80q is no file on this machine", a.URI)
	}
	var text *rpc.Text
	if d := s.snapshot(c.ctx)[u]; d != nil {
		text = d.text
	} else {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, errState("%s is not shown: %v", path, err)
		}
		text = rpc.NewText(string(data))
	}
	to := s.destination(u, text, a.Line-1)
	s.show(c.ctx, to)
	return to, nil
}

// frameFile finds where a file of a capture lies now. The file itself is nil where the capture has
// no costs for it.
func (s *server) frameFile(a goToFrameArgs) (string, *file, error) {
	var l *loaded
	if a.Capture != "" {
		w, id, err := s.resolve(openCaptureArgs{Capture: a.Capture})
		if err != nil {
			return "", nil, err
		}
		if l, err = s.load(w, id); err != nil {
			return "", nil, errState("capture %s cannot be read: %v", id, err)
		}
	} else {
		s.mu.Lock()
		opened, live := s.opened, s.live
		s.mu.Unlock()
		if live != nil {
			l = live
		} else if opened != nil {
			var err error
			if l, err = s.load(opened.workspace, opened.id); err != nil {
				return "", nil, errState("capture %s cannot be read: %v", opened.id, err)
			}
		}
	}
	paths := s.paths.Load()
	if l != nil {
		for _, f := range l.files {
			if f.path != a.File {
				continue
			}
			if path := f.place(paths); path != "" {
				return path, f, nil
			}
			why := f.note
			if why == "" {
				why = "it is not on this machine"
			}
			return "", nil, errState("there is no source for %s: %s; map its path with the setting sightline.paths", a.File, why)
		}
	}
	if path, ok := paths.Local(a.File); ok {
		return path, nil, nil
	}
	return "", nil, errState("there is no source for %s on this machine: map its path with the setting sightline.paths", a.File)
}

// destination is a whole 0-based line, clamped to the text: editors refuse a selection past the end.
func (s *server) destination(u uri.URI, text *rpc.Text, line int) *destination {
	return &destination{URI: u, Range: text.Range(s.client.Encoding(), max(0, min(line, text.Lines()-1)))}
}

// show has the client go there, if it can. Whether it did is not reliable; the caller gets the place
// in any case.
func (s *server) show(ctx context.Context, to *destination) {
	if !s.can.showDocument {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ShowTimeout)
	defer cancel()
	focus := true
	at := protocol.Range{Start: to.Range.Start, End: to.Range.Start}
	r, err := s.client.ShowDocument(ctx, &protocol.ShowDocumentParams{URI: to.URI, TakeFocus: &focus, Selection: &at})
	switch {
	case err == nil && r != nil:
		to.Shown = r.Success
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		s.log.Info("the client did not show a document", "uri", to.URI, "error", err)
	}
}
