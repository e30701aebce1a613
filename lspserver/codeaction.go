package lspserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/profiler/store"
)

// sourceAction is the kind of actions that concern the whole file. Those that concern the line have
// no kind: they are no fix and change no code.
const sourceAction protocol.CodeActionKind = "source.sightline"

const actionCaptures = 5 // older captures that are offered

// CodeAction implements protocol.Server: all that lenses do, for editors that have none, and what
// belongs to a file with numbers. Nothing is offered unless somebody asked: an editor asks by itself
// at each move of the cursor to see whether to light its bulb.
func (s *server) CodeAction(ctx context.Context, p *protocol.CodeActionParams) ([]protocol.CommandOrCodeAction, error) {
	d, err := s.document(ctx, p.TextDocument.URI)
	actions := []protocol.CommandOrCodeAction{}
	if d == nil || p.Context.TriggerKind == protocol.CodeActionTriggerKindAutomatic {
		return actions, err
	}
	add := func(kind protocol.CodeActionKind, title string, c *protocol.Command) {
		if !wanted(kind, p.Context.Only) {
			return
		}
		c.Title = title
		if !s.can.actionLiterals {
			actions = append(actions, c)
			return
		}
		action := &protocol.CodeAction{Title: title, Command: *c}
		if kind != "" {
			action.Kind = &kind
		}
		actions = append(actions, action)
	}
	line := int(min(p.Range.Start.Line, 1<<30))
	s.testActions(d, line, add)
	s.targetActions(d, line, add)
	s.numberActions(d, line, add)
	return actions, nil
}

type addAction func(kind protocol.CodeActionKind, title string, c *protocol.Command)

// wanted says whether the client asked for a kind: it names kinds that ours may lie below.
func wanted(kind protocol.CodeActionKind, only []protocol.CodeActionKind) bool {
	return len(only) == 0 || slices.ContainsFunc(only, func(o protocol.CodeActionKind) bool {
		return o == kind || o == "" || strings.HasPrefix(string(kind), string(o)+".")
	})
}

// testActions profile the tests around the cursor, innermost first, or end what is under way.
func (s *server) testActions(d *document, line int, add addAction) {
	s.mu.Lock()
	r := s.recording
	s.mu.Unlock()
	if r != nil {
		add("", "Stop recording "+r.name+" and keep it", command("sightline.stop", "", "", nil))
		add("", "Stop recording "+r.name+" and drop it", command("sightline.discard", "", "", nil))
		return
	}
	tests := d.tests()
	for i := len(tests) - 1; i >= 0; i-- {
		if t := tests[i]; t.line <= line && line <= t.last {
			add("", "Profile "+t.name, command("sightline.profileTest", "", "",
				profileTestArgs{URI: string(d.uri), Run: t.run, Bench: t.bench}))
		}
	}
	s.nativeActions(d, line, add)
	if strings.HasSuffix(d.path, "_test.go") && len(tests) > 0 || strings.HasSuffix(d.path, ".go") && hasTests(filepath.Dir(d.path)) {
		add(sourceAction, "Profile all tests of "+filepath.Base(filepath.Dir(d.path)),
			command("sightline.profilePackage", "", "", profilePackageArgs{URI: string(d.uri)}))
	}
}

// hasTests says whether a folder has Go files with tests.
func hasTests(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), "_test.go") })
}

// numberActions belong to a document that has numbers, or had.
func (s *server) numberActions(d *document, line int, add addAction) {
	a := s.annotations(d)
	m, set := s.shown()
	if a != nil && !a.stale() {
		for _, fn := range a.hot(set.lensThreshold) {
			if end := a.endOf(d, fn); fn.now <= line && line <= end {
				c := s.functionCommand(d, a, fn, m)
				add("", fmt.Sprintf("Go to the hottest line of %s (%s)", fn.Name, c.Title), c)
			}
		}
		at := hotLineArgs{URI: string(d.uri), Line: &line}
		add("", "Next hot line", command("sightline.nextHotLine", "", "", at))
		add("", "Previous hot line", command("sightline.previousHotLine", "", "", at))
		if m.Measure == measureTotal {
			add(sourceAction, "Show what lines cost by themselves", command("sightline.setMetric", "", "", setMetricArgs{Metric: measureSelf}))
		} else {
			add(sourceAction, "Show what lines cost with all they call", command("sightline.setMetric", "", "", setMetricArgs{Metric: measureTotal}))
		}
		for _, f := range []struct{ form, title string }{
			{formBoth, "Show percent and time"}, {formPercent, "Show percent only"}, {formTime, "Show time only"},
		} {
			if f.form != m.Form {
				add(sourceAction, f.title, command("sightline.setMetric", "", "", setMetricArgs{Unit: f.form}))
			}
		}
	}
	if a != nil {
		s.captureActions(a.file.capture, add)
		add(sourceAction, "Clear the numbers", command("sightline.clear", "", "", nil))
	}
	if s.showState().Capture != "" {
		add(sourceAction, "Show the newest capture", command("sightline.openCapture", "", "", openCaptureArgs{}))
	}
	offered := 0
	for _, c := range s.candidates(d) {
		if a != nil && a.file.capture.key == (captureKey{c.workspace.root, c.meta.ID}) {
			continue
		}
		if offered++; offered > actionCaptures {
			break
		}
		verb, age := s.ageOf(c.meta.ID, c.meta.Start, c.meta.Length)
		if verb == "profiled" {
			verb = "recorded"
		}
		add(sourceAction, fmt.Sprintf("Show %s, %s %s (%s)", c.meta.Target, verb, age, c.meta.ID),
			command("sightline.openCapture", "", "", openCaptureArgs{Capture: string(c.meta.ID), Root: c.workspace.root}))
	}
}

// captureActions belong to the capture whose numbers a document has.
func (s *server) captureActions(l *loaded, add addAction) {
	s.mu.Lock()
	b := s.baseline
	s.mu.Unlock()
	key := openCaptureArgs{Capture: string(l.key.id), Root: l.key.root}
	if l.key.id != "" {
		if b == nil || l.key != (captureKey{b.workspace.root, b.id}) {
			add(sourceAction, "Compare with this capture from now on", command("sightline.setBaseline", "", "", key))
		}
		if m := s.metaOf(l.key); m != nil {
			pinned, title := !m.Pinned, "Pin this capture"
			if m.Pinned {
				title = "Unpin this capture"
			}
			add(sourceAction, title, command("sightline.pinCapture", "", "", pinCaptureArgs{key, &pinned}))
		}
	}
	if b != nil {
		add(sourceAction, "Stop comparing with "+b.name, command("sightline.setBaseline", "", "", openCaptureArgs{}))
	}
}

// metaOf is what is stored of a capture; nil where it is not any more.
func (s *server) metaOf(key captureKey) *store.Meta {
	w := s.workspaceAt(key.root)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.metas {
		if w.metas[i].ID == key.id {
			return &w.metas[i]
		}
	}
	return nil
}
