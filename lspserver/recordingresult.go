package lspserver

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// A recordingResult is the answer of the commands that record.
type recordingResult struct {
	Capture      string       `json:"capture"` // id; "" where nothing was stored
	Root         string       `json:"root"`    // the folder whose store has it
	Name         string       `json:"name"`    // of what was recorded
	Samples      int          `json:"samples"`
	Milliseconds int64        `json:"milliseconds"`
	Failed       bool         `json:"failed"`    // the target failed; the capture is kept
	Discarded    bool         `json:"discarded"` // by sightline.discard
	Message      string       `json:"message"`   // the result as it was shown
	Hottest      *destination `json:"hottest"`   // the line of the workspace with most weight, see hottest; null
}

// finish shows the numbers of a recording that has ended and tells the person how it went.
func (s *server) finish(w *workspace, r *attended, result Result, err error) *recordingResult {
	elapsed, samples, _ := r.state()
	res := &recordingResult{
		Capture: string(result.ID), Root: w.root, Name: r.name, Samples: samples, Milliseconds: elapsed.Milliseconds(),
		Failed: result.Failed, Discarded: r.wasDiscarded(),
	}
	var l *loaded
	if result.ID != "" {
		s.list(w)
		// Loading before the live numbers go spares the editor a moment without any.
		var loadErr error
		if l, loadErr = s.load(w, result.ID); loadErr != nil {
			s.complain(result.ID, loadErr)
		}
		if r.own { // what somebody else recorded takes nobody away from what they look at
			s.mu.Lock()
			s.opened, s.recorded = nil, captureKey{w.root, result.ID}
			s.mu.Unlock()
		}
	}
	s.over(r)
	if l != nil {
		res.Milliseconds = l.length.Milliseconds()
		res.Samples = l.profile.Samples.Len()
		res.Hottest = s.hottest(w, l)
	}
	if result.ID == "" && !res.Discarded && r.tags != "" {
		hint := fmt.Sprintf("The file is built only with %q: give go test the tags in the setting sightline.test.flags, like [\"-tags=…\"]", r.tags)
		if err != nil {
			err = fmt.Errorf("%w. %s", err, hint)
		} else {
			result.Message = strings.TrimSuffix(cmp.Or(result.Message, res.Name+": no test ran"), ".") + ". " + hint
		}
	}
	res.Message = outcome(res, result, err)
	if r.own {
		s.report(res, result, err, r.wrote())
	}
	return res
}

// outcome is one short sentence on how a recording went.
func outcome(res *recordingResult, result Result, err error) string {
	what := fmt.Sprintf("%s in %s", Samples(int64(res.Samples)), Duration(time.Duration(res.Milliseconds)*time.Millisecond))
	switch {
	case err != nil:
		return err.Error()
	case res.Discarded:
		return res.Name + ": dropped"
	case result.Failed && result.ID != "":
		return fmt.Sprintf("%s failed; its profile is kept (%s, %s)", res.Name, result.ID, what)
	case result.Failed:
		return res.Name + " failed"
	case result.ID == "" && result.Message != "" && !strings.Contains(result.Message, res.Name):
		return res.Name + ": " + result.Message
	case result.ID == "":
		return cmp.Or(result.Message, res.Name+": not one sample was taken, the target may have been too quick")
	}
	text := res.Name + ": " + what
	if res.Hottest != nil {
		text += fmt.Sprintf(", hottest %s:%d (%s)", filepath.Base(res.Hottest.URI.FsPath()), res.Hottest.Range.Start.Line+1, res.Hottest.Label)
	}
	return text
}

// report tells the person. An error is the answer to the command, which clients show.
func (s *server) report(res *recordingResult, result Result, err error, output *tail) {
	if all := output.String(); all != "" {
		kind := protocol.MessageTypeLog
		if result.Failed {
			kind = protocol.MessageTypeError
		}
		s.write(kind, res.Name+" wrote:\n"+all)
	}
	switch {
	case err != nil, res.Discarded:
	case result.Failed:
		text := res.Message
		if result.Message != "" {
			text += ": " + result.Message
		}
		if why := output.why(); why != "" {
			text += "\n" + why
		}
		s.say(protocol.MessageTypeError, text)
	case result.ID == "":
		s.say(protocol.MessageTypeWarning, res.Message)
	default:
		text := res.Message
		if result.Message != "" {
			text += ". " + result.Message
		}
		s.say(protocol.MessageTypeInfo, text)
	}
}

// hottest is the hottest line of the function of the workspace that most time is spent in, with what
// it calls outside of the workspace: what a person can change. It is as recorded, and the line that
// the function's lens leads to; nil where no sample comes by the workspace.
func (s *server) hottest(w *workspace, l *loaded) *destination {
	paths := s.paths.Load()
	root := paths.Canonical(w.root)
	own := map[string]*file{}
	for _, f := range l.files {
		if f.local != "" && (within(f.local, w.root) || within(paths.Canonical(f.local), root)) {
			own[f.path] = f
		}
	}
	type line struct { // or a function, by its name
		file, function string
		line           int
	}
	// The innermost line of the workspace on each stack; parents come before their children.
	parents, leaves := l.profile.Stacks.Columns()
	innermost := make([]line, len(parents))
	for id := 1; id < len(parents); id++ {
		innermost[id] = innermost[parents[id]]
		if f := &l.profile.Frames[leaves[id]]; f.Line > 0 && own[f.File] != nil {
			innermost[id] = line{f.File, f.Func, f.Line}
		}
	}
	lines, functions := map[line]int64{}, map[line]int64{}
	for i, id := range l.profile.Samples.Stack {
		if at := innermost[id]; at.file != "" {
			lines[at] += l.profile.Samples.Weight[i]
			at.line = 0
			functions[at] += l.profile.Samples.Weight[i]
		}
	}
	heaviest := func(weights map[line]int64, candidate func(line) bool) (best line, found bool) {
		for at, weight := range weights {
			c := cmp.Or(cmp.Compare(weight, weights[best]), cmp.Compare(best.file, at.file), cmp.Compare(best.line, at.line), cmp.Compare(best.function, at.function))
			if candidate(at) && (c > 0 || !found) {
				best, found = at, true
			}
		}
		return best, found
	}
	function, found := heaviest(functions, func(line) bool { return true })
	if !found {
		return nil
	}
	f := own[function.file]
	recorded, _ := f.baseline()
	text := string(recorded)
	d := newDocument(uri.File(f.local), f.local, f.local, 0, rpc.NewText(text), newHistory(text))
	m, _ := s.shown()
	p := place(f, d)
	for _, fn := range p.functions {
		if fn.Name != function.function {
			continue
		}
		to := s.destination(d.uri, d.text, p.hottestOf(d, fn, m))
		if at := p.on(int(to.Range.Start.Line)); at != nil {
			to.Label = l.words(m.cost(at.Self, at.Total).Weight, m.Form)
			return to
		}
	}
	// The function's begin is not known: its line that most time is spent in.
	at, _ := heaviest(lines, func(at line) bool { return at.file == function.file && at.function == function.function })
	to := s.destination(d.uri, d.text, at.line-1)
	to.Label = l.words(lines[at], m.Form)
	return to
}
