package lsptest

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// tiny is a server with just enough to see every part of the fake editor at work: the cost of a line
// is the number behind "cost" in its text.
type tiny struct {
	rpc.Unimplemented
	client rpc.Client

	mu   sync.Mutex
	docs map[uri.URI]*rpc.Text

	// What the tests put wrong.
	hintAt    func(t *rpc.Text, line int) protocol.Position
	afterOpen func(c rpc.Client)
}

func newTiny(c rpc.Client) *tiny { return &tiny{client: c, docs: map[uri.URI]*rpc.Text{}} }

func ptr[T any](v T) *T { return &v }

func (s *tiny) Initialize(context.Context, *protocol.InitializeParams) (*protocol.InitializeResult, error) {
	return &protocol.InitializeResult{Capabilities: protocol.ServerCapabilities{
		TextDocumentSync:       &protocol.TextDocumentSyncOptions{OpenClose: ptr(true), Change: ptr(protocol.TextDocumentSyncKindIncremental), Save: protocol.Boolean(true)},
		InlayHintProvider:      &protocol.InlayHintOptions{ResolveProvider: ptr(true)},
		CodeLensProvider:       &protocol.CodeLensOptions{ResolveProvider: ptr(true)},
		HoverProvider:          protocol.Boolean(true),
		CodeActionProvider:     protocol.Boolean(true),
		ExecuteCommandProvider: protocol.ExecuteCommandOptions{Commands: []string{"tiny.work", "tiny.edit", "tiny.ask"}},
	}}, nil
}

func (s *tiny) Initialized(ctx context.Context, _ *protocol.InitializedParams) error {
	go func() {
		v, err := s.client.Configuration(ctx, &protocol.ConfigurationParams{Items: []protocol.ConfigurationItem{{Section: ptr("tiny.name")}}})
		_ = s.client.LogMessage(ctx, &protocol.LogMessageParams{Type: protocol.MessageTypeInfo, Message: fmt.Sprintf("name %s %v", v, err)})
		if w := s.client.Capabilities().Workspace; w != nil && w.DidChangeConfiguration != nil && *w.DidChangeConfiguration.DynamicRegistration {
			_ = s.client.RegisterCapability(ctx, &protocol.RegistrationParams{Registrations: []protocol.Registration{{ID: "c", Method: protocol.MethodWorkspaceDidChangeConfiguration}}})
		}
	}()
	return nil
}

func (s *tiny) text(u uri.URI) *rpc.Text {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.docs[u]
}

func (s *tiny) DidOpen(ctx context.Context, p *protocol.DidOpenTextDocumentParams) error {
	s.mu.Lock()
	s.docs[p.TextDocument.URI] = rpc.NewText(p.TextDocument.Text)
	s.mu.Unlock()
	s.publish(ctx, p.TextDocument.URI)
	if s.afterOpen != nil {
		go s.afterOpen(s.client)
	}
	return nil
}

func (s *tiny) DidChange(ctx context.Context, p *protocol.DidChangeTextDocumentParams) error {
	t, err := s.text(p.TextDocument.URI).Apply(s.client.Encoding(), p.ContentChanges)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.docs[p.TextDocument.URI] = t
	s.mu.Unlock()
	s.publish(ctx, p.TextDocument.URI)
	return nil
}

func (s *tiny) DidSave(ctx context.Context, p *protocol.DidSaveTextDocumentParams) error {
	return s.client.LogMessage(ctx, &protocol.LogMessageParams{Message: "saved " + string(p.TextDocument.URI)})
}

func (s *tiny) publish(ctx context.Context, u uri.URI) {
	t := s.text(u)
	items := []protocol.Diagnostic{}
	for n := range t.Lines() {
		if strings.Contains(t.Line(n), "wasteful") {
			items = append(items, protocol.Diagnostic{Range: t.Range(s.client.Encoding(), n), Message: protocol.String("this is wasteful")})
		}
	}
	_ = s.client.PublishDiagnostics(ctx, &protocol.PublishDiagnosticsParams{URI: u, Diagnostics: items})
}

var costOf = regexp.MustCompile(`cost([0-9]+)`)

func cost(line string) int {
	m := costOf.FindStringSubmatch(line)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func (s *tiny) InlayHint(_ context.Context, p *protocol.InlayHintParams) ([]protocol.InlayHint, error) {
	t := s.text(p.TextDocument.URI)
	if t == nil {
		return nil, rpc.ErrParams("%s is not open", p.TextDocument.URI)
	}
	var hints []protocol.InlayHint
	for n := int(p.Range.Start.Line); n <= min(int(p.Range.End.Line), t.Lines()-1); n++ {
		if c := cost(t.Line(n)); c > 0 {
			at := t.EndOf(s.client.Encoding(), n)
			if s.hintAt != nil {
				at = s.hintAt(t, n)
			}
			hints = append(hints, protocol.InlayHint{Position: at, Label: protocol.String(fmt.Sprintf("%d%%", c))})
		}
	}
	return hints, nil
}

func (s *tiny) InlayHintResolve(_ context.Context, h *protocol.InlayHint) (*protocol.InlayHint, error) {
	h.Tooltip = protocol.String(fmt.Sprintf("more of line %d", h.Position.Line+1))
	return h, nil
}

func (s *tiny) CodeLens(_ context.Context, p *protocol.CodeLensParams) ([]protocol.CodeLens, error) {
	t := s.text(p.TextDocument.URI)
	var lenses []protocol.CodeLens
	for n := range t.Lines() {
		if name, ok := strings.CutPrefix(t.Line(n), "func "); ok {
			name, _, _ = strings.Cut(name, "(")
			lenses = append(lenses, protocol.CodeLens{Range: t.Range(s.client.Encoding(), n), Data: protocol.LSPAny(strconv.Quote(name))})
		}
	}
	return lenses, nil
}

func (s *tiny) CodeLensResolve(_ context.Context, l *protocol.CodeLens) (*protocol.CodeLens, error) {
	var name string
	if err := json.Unmarshal(l.Data, &name); err != nil {
		return nil, rpc.ErrParams("%v", err)
	}
	l.Command = protocol.Command{Title: "Profile " + name, Command: "tiny.work", Arguments: []protocol.LSPAny{protocol.LSPAny(strconv.Quote(name))}}
	return l, nil
}

func (s *tiny) Hover(_ context.Context, p *protocol.HoverParams) (*protocol.Hover, error) {
	t := s.text(p.TextDocument.URI)
	offset := t.Offset(s.client.Encoding(), p.Position)
	rest := t.String()[offset:]
	return &protocol.Hover{Contents: &protocol.MarkupContent{Kind: protocol.MarkupKindMarkdown, Value: "at " + rest[:min(len(rest), 4)]}}, nil
}

func (s *tiny) CodeAction(context.Context, *protocol.CodeActionParams) ([]protocol.CommandOrCodeAction, error) {
	kind := protocol.CodeActionKind("source.profile")
	return []protocol.CommandOrCodeAction{
		&protocol.CodeAction{Title: "Profile it", Kind: &kind, Command: protocol.Command{Title: "Profile it", Command: "tiny.work", Arguments: []protocol.LSPAny{protocol.LSPAny(`"it"`)}}},
		&protocol.Command{Title: "Ask", Command: "tiny.ask"},
	}, nil
}

func (s *tiny) ExecuteCommand(ctx context.Context, p *protocol.ExecuteCommandParams) (protocol.LSPAny, error) {
	switch p.Command {
	case "tiny.ask":
		a, err := s.client.ShowMessageRequest(ctx, &protocol.ShowMessageRequestParams{Type: protocol.MessageTypeInfo, Message: "really?",
			Actions: []protocol.MessageActionItem{{Title: "Yes"}, {Title: "No"}}})
		if err != nil || a == nil {
			return protocol.LSPAny("null"), err
		}
		return protocol.LSPAny(strconv.Quote(a.Title)), nil
	case "tiny.edit":
		var u uri.URI
		_ = json.Unmarshal(p.Arguments[0], &u)
		r, err := s.client.ApplyEdit(ctx, &protocol.ApplyWorkspaceEditParams{Edit: protocol.WorkspaceEdit{Changes: map[uri.URI][]protocol.TextEdit{u: {
			{Range: s.text(u).Range(s.client.Encoding(), 0), NewText: "first é𝄞"},
			{Range: s.text(u).Range(s.client.Encoding(), 1), NewText: "second"},
		}}}})
		if err != nil {
			return nil, err
		}
		return protocol.LSPAny(strconv.FormatBool(r.Applied)), nil
	}
	cancelled := make(chan struct{})
	var token protocol.ProgressToken
	if p.WorkDoneToken != nil {
		token = p.WorkDoneToken
	}
	work := s.client.Begin(ctx, rpc.Work{Token: token, Title: "Working on " + string(p.Arguments[0]), Cancellable: true, OnCancel: func() { close(cancelled) }})
	work.Report("half", 50)
	if string(p.Arguments[0]) == `"long"` {
		select {
		case <-cancelled:
			work.End("stopped")
			return protocol.LSPAny(`"kept"`), nil
		case <-ctx.Done():
			work.End("dropped")
			return nil, ctx.Err()
		}
	}
	work.End("done")
	_ = s.client.InlayHintRefresh(ctx)
	_ = s.client.CodeLensRefresh(ctx)
	_, _ = s.client.ShowDocument(ctx, &protocol.ShowDocumentParams{URI: "file:///somewhere/report.md"})
	return protocol.LSPAny(`"ok"`), nil
}

func (s *tiny) Extension(_ context.Context, method string, params json.RawMessage) (any, error) {
	if method != rpc.MethodLines {
		return nil, rpc.ErrMethod(method)
	}
	p, err := rpc.DecodeParams[rpc.LinesParams](method, params)
	if err != nil {
		return nil, err
	}
	t := s.text(uri.URI(p.TextDocument.URI))
	r := rpc.LinesResult{Kind: "cpu", Unit: "ns", Total: 100}
	for n := range t.Lines() {
		if c := cost(t.Line(n)); c > 0 {
			r.Lines = append(r.Lines, rpc.LineCost{Line: n, Self: int64(c), Total: int64(c)})
		}
	}
	return r, nil
}
