package lsptest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.lsp.dev/protocol"
)

// A Hint is an inlay hint as an editor draws it.
type Hint struct {
	Line  int    // 1-based
	Text  string // of all label parts
	AtEnd bool   // it stands at the end of its line
	Raw   protocol.InlayHint
}

// Hints are the inlay hints of a whole document, ordered by line and then as the server gave them.
func (e *Editor) Hints(path string) []Hint {
	e.t.Helper()
	return e.HintsIn(path, 1, 1<<30)
}

// HintsIn are the inlay hints of the lines from first to last, 1-based: the part of a document that an
// editor shows. A hint outside of them is a fault.
func (e *Editor) HintsIn(path string, first, last int) []Hint {
	e.t.Helper()
	e.mu.Lock()
	text := e.buffer(path).text
	e.mu.Unlock()
	span := protocol.Range{
		Start: protocol.Position{Line: uint32(max(first-1, 0))},
		End:   text.EndOf(e.Encoding, min(last, text.Lines())-1),
	}
	var raw []protocol.InlayHint
	e.Must(protocol.MethodTextDocumentInlayHint, map[string]any{"textDocument": identifier(path), "range": span}, &raw)
	e.mu.Lock()
	defer e.mu.Unlock()
	var hints []Hint
	for _, h := range raw {
		e.within(e.buffer(path), protocol.Range{Start: h.Position, End: h.Position}, "a hint")
		if h.Position.Line < span.Start.Line || h.Position.Line > span.End.Line {
			e.fault("a hint on line %d was not asked for: lines %d to %d were", h.Position.Line+1, first, last)
		}
		label := labelText(h.Label)
		if label == "" {
			e.fault("a hint on line %d has an empty label", h.Position.Line+1)
		}
		hints = append(hints, Hint{
			Line: int(h.Position.Line) + 1, Text: label, Raw: h,
			AtEnd: h.Position == text.EndOf(e.Encoding, int(h.Position.Line)),
		})
	}
	slices.SortStableFunc(hints, func(a, b Hint) int { return a.Line - b.Line })
	return hints
}

func identifier(path string) map[string]any { return map[string]any{"uri": uriOf(path)} }

func labelText(label protocol.InlayHintLabel) string {
	switch l := label.(type) {
	case protocol.String:
		return string(l)
	case protocol.InlayHintLabelPartSlice:
		var b strings.Builder
		for _, part := range l {
			b.WriteString(part.Value)
		}
		return b.String()
	}
	return ""
}

// Tooltip is the text that an editor shows over a hint. It is asked for with inlayHint/resolve where
// the hint has none yet, the editor says that it does so, and the server offers it.
func (e *Editor) Tooltip(h Hint) string {
	e.t.Helper()
	raw := h.Raw
	if raw.Tooltip == nil && e.resolvesTooltips() {
		e.Must(protocol.MethodInlayHintResolve, raw, &raw)
		if raw.Position != h.Raw.Position || labelText(raw.Label) != h.Text {
			e.t.Errorf("resolving a hint changed more than what was to be resolved: %s became %s", marshal(h.Raw), marshal(raw))
		}
	}
	switch t := raw.Tooltip.(type) {
	case protocol.String:
		return string(t)
	case *protocol.MarkupContent:
		return t.Value
	}
	return ""
}

func (e *Editor) resolvesTooltips() bool {
	td := e.caps.TextDocument
	o, ok := e.Result.Capabilities.InlayHintProvider.(*protocol.InlayHintOptions)
	return ok && o.ResolveProvider != nil && *o.ResolveProvider && td != nil && td.InlayHint != nil &&
		slices.Contains(td.InlayHint.ResolveSupport.Properties, "tooltip")
}

// Annotated is a document with its hints behind their lines, as an editor draws it: for golden files.
// A hint that is not at the end of its line is put in angle brackets after "!".
func (e *Editor) Annotated(path string) string {
	e.t.Helper()
	hints := e.Hints(path)
	var b strings.Builder
	lines := strings.Split(strings.ReplaceAll(e.Text(path), "\r\n", "\n"), "\n")
	for i, line := range lines {
		b.WriteString(line)
		for _, h := range hints {
			switch {
			case h.Line == i+1 && h.AtEnd:
				fmt.Fprintf(&b, "  « %s »", h.Text)
			case h.Line == i+1:
				fmt.Fprintf(&b, "  !«%d: %s»", h.Raw.Position.Character, h.Text)
			}
		}
		if i < len(lines)-1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// A Lens is a code lens, resolved.
type Lens struct {
	Line      int // 1-based, of the line it stands above
	Title     string
	Command   string // "" for a lens that is only text
	Arguments []json.RawMessage
	Raw       protocol.CodeLens
}

// Lenses are the code lenses of a document, ordered by line and then as the server gave them. It fails
// the test for an editor that has none.
func (e *Editor) Lenses(path string) []Lens {
	e.t.Helper()
	if !e.overlay.HasLenses {
		e.t.Fatalf("%s draws no code lenses", e.Name)
	}
	var raw []protocol.CodeLens
	e.Must(protocol.MethodTextDocumentCodeLens, map[string]any{"textDocument": identifier(path)}, &raw)
	var lenses []Lens
	for _, l := range raw {
		if l.Range.Start.Line != l.Range.End.Line {
			e.mu.Lock()
			e.fault("a lens has more than one line: %+v", l.Range)
			e.mu.Unlock()
		}
		if p := e.Result.Capabilities.CodeLensProvider; l.Command.Title == "" && p != nil && p.ResolveProvider != nil && *p.ResolveProvider {
			e.Must(protocol.MethodCodeLensResolve, l, &l)
		}
		e.mu.Lock()
		e.within(e.buffer(path), l.Range, "a lens")
		if l.Command.Title == "" {
			e.fault("a lens on line %d has no title", l.Range.Start.Line+1)
			e.mu.Unlock()
			continue
		}
		e.mu.Unlock()
		lens := Lens{Line: int(l.Range.Start.Line) + 1, Title: l.Command.Title, Command: l.Command.Command, Raw: l}
		for _, a := range l.Command.Arguments {
			lens.Arguments = append(lens.Arguments, json.RawMessage(a))
		}
		lenses = append(lenses, lens)
	}
	slices.SortStableFunc(lenses, func(a, b Lens) int { return a.Line - b.Line })
	return lenses
}

// Lens is the one lens of a document whose title matches.
func (e *Editor) Lens(path, title string) Lens {
	e.t.Helper()
	re := regexp.MustCompile(title)
	var found []Lens
	var titles []string
	for _, l := range e.Lenses(path) {
		titles = append(titles, fmt.Sprintf("%d: %s", l.Line, l.Title))
		if re.MatchString(l.Title) {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		e.t.Fatalf("%d lenses match %q, of:\n%s", len(found), title, strings.Join(titles, "\n"))
	}
	return found[0]
}

// Hover is the text shown at the first match of a regular expression (or its first group); "" when
// there is none.
func (e *Editor) Hover(path, expr string) string {
	e.t.Helper()
	return e.HoverAt(path, e.Position(path, e.Find(path, expr)))
}

// HoverAt is Hover at any position, which need not be in the document.
func (e *Editor) HoverAt(path string, p protocol.Position) string {
	e.t.Helper()
	var h *protocol.Hover
	e.Must(protocol.MethodTextDocumentHover, map[string]any{"textDocument": identifier(path), "position": p}, &h)
	if h == nil {
		return ""
	}
	if h.Range != nil {
		e.mu.Lock()
		e.within(e.buffer(path), *h.Range, "a hover")
		e.mu.Unlock()
	}
	switch c := h.Contents.(type) {
	case *protocol.MarkupContent:
		if td := e.caps.TextDocument; td != nil && td.Hover != nil && !slices.Contains(td.Hover.ContentFormat, c.Kind) {
			e.mu.Lock()
			e.fault("a hover is %s, which %s does not take", c.Kind, e.Name)
			e.mu.Unlock()
		}
		return c.Value
	case protocol.String:
		return string(c)
	}
	e.t.Fatalf("the contents of a hover are a %T", h.Contents)
	return ""
}

// An Action is a code action.
type Action struct {
	Title     string
	Kind      string // "" where it is a bare command
	Command   string
	Arguments []json.RawMessage
	Disabled  string // why, if it is
}

// CodeActions are the code actions at the first match of a regular expression (or its first group),
// of the given kinds only, if any are given.
func (e *Editor) CodeActions(path, expr string, only ...string) []Action {
	e.t.Helper()
	p := e.Position(path, e.Find(path, expr))
	context := map[string]any{"diagnostics": []any{}}
	if only != nil {
		context["only"] = only
	}
	var raw []protocol.CommandOrCodeAction
	e.Must(protocol.MethodTextDocumentCodeAction, map[string]any{
		"textDocument": identifier(path), "range": protocol.Range{Start: p, End: p}, "context": context,
	}, &raw)
	var actions []Action
	fill := func(a *Action, c *protocol.Command) {
		a.Command = c.Command
		for _, arg := range c.Arguments {
			a.Arguments = append(a.Arguments, json.RawMessage(arg))
		}
	}
	for _, r := range raw {
		switch r := r.(type) {
		case *protocol.Command:
			a := Action{Title: r.Title}
			fill(&a, r)
			actions = append(actions, a)
		case *protocol.CodeAction:
			o, _ := e.Result.Capabilities.CodeActionProvider.(*protocol.CodeActionOptions)
			if r.Command.Command == "" && r.Edit == nil && o != nil && o.ResolveProvider != nil && *o.ResolveProvider && e.resolvesActions() {
				e.Must(protocol.MethodCodeActionResolve, r, r)
			}
			a := Action{Title: r.Title, Disabled: r.Disabled.Reason}
			if r.Kind != nil {
				a.Kind = string(*r.Kind)
			}
			fill(&a, &r.Command)
			actions = append(actions, a)
		}
	}
	return actions
}

func (e *Editor) resolvesActions() bool {
	td := e.caps.TextDocument
	return td != nil && td.CodeAction != nil && slices.Contains(td.CodeAction.ResolveSupport.Properties, "command")
}

// Execute runs a command of the server and returns its result. It fails the test if the command
// fails, or is not one that the server declared.
func (e *Editor) Execute(command string, args ...any) json.RawMessage {
	e.t.Helper()
	raw, err := e.StartCommand(command, args...).Wait()
	if err != nil {
		e.t.Fatalf("%s: %v", command, err)
	}
	return raw
}

// StartCommand begins to run a command of the server.
func (e *Editor) StartCommand(command string, args ...any) *Call {
	e.t.Helper()
	return e.startCommand(nil, command, args)
}

// StartCommandWithToken begins to run a command under a progress token that the editor makes.
func (e *Editor) StartCommandWithToken(token, command string, args ...any) *Call {
	e.t.Helper()
	e.mu.Lock()
	e.token(marshal(token))
	e.mu.Unlock()
	return e.startCommand(token, command, args)
}

func (e *Editor) startCommand(token any, command string, args []any) *Call {
	e.t.Helper()
	if !slices.Contains(e.Result.Capabilities.ExecuteCommandProvider.Commands, command) {
		e.t.Fatalf("the server does not declare the command %q, but %q", command, e.Result.Capabilities.ExecuteCommandProvider.Commands)
	}
	p := map[string]any{"command": command}
	if len(args) > 0 {
		list := make([]any, len(args))
		for i, a := range args {
			list[i] = marshal(a)
		}
		p["arguments"] = list
	}
	if token != nil {
		p["workDoneToken"] = token
	}
	return e.Go(protocol.MethodWorkspaceExecuteCommand, p)
}

// Run runs the command of a lens or action.
func (e *Editor) Run(command string, args []json.RawMessage) json.RawMessage {
	e.t.Helper()
	list := make([]any, len(args))
	for i, a := range args {
		list[i] = a
	}
	return e.Execute(command, list...)
}

// CancelWork presses the button of running work whose title matches: window/workDoneProgress/cancel.
// It fails the test where there is none, or it has no button.
func (e *Editor) CancelWork(title string) {
	e.t.Helper()
	re := regexp.MustCompile(title)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.state.Work {
		if w.Begun && !w.Ended && re.MatchString(w.Title) {
			if !w.Cancellable {
				e.t.Fatalf("the work %q cannot be cancelled", w.Title)
			}
			e.send(message{Method: protocol.MethodWindowWorkDoneProgressCancel, Params: marshal(map[string]any{"token": w.Token})})
			return
		}
	}
	e.t.Fatalf("no work %q is under way", title)
}

// Diagnostics are the diagnostics of a document: asked for, where the server offers that and the
// editor does it, or else what was published last.
func (e *Editor) Diagnostics(path string) []protocol.Diagnostic {
	e.t.Helper()
	if td := e.caps.TextDocument; e.Result.Capabilities.DiagnosticProvider != nil && td != nil && td.Diagnostic != nil {
		var report struct{ Items []protocol.Diagnostic }
		e.Must(protocol.MethodTextDocumentDiagnostic, map[string]any{"textDocument": identifier(path)}, &report)
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, d := range report.Items {
			e.within(e.buffer(path), d.Range, "a diagnostic")
		}
		return report.Items
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.state.Diagnostics[uriOf(path)].Items)
}

// DiagnosticText is the message of a diagnostic.
func DiagnosticText(d protocol.Diagnostic) string {
	switch m := d.Message.(type) {
	case protocol.String:
		return string(m)
	case *protocol.MarkupContent:
		return m.Value
	}
	return ""
}
