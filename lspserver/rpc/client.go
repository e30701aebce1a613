package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.lsp.dev/jsonrpc2"
	"go.lsp.dev/protocol"
)

// A Client is the editor as the server sees it. All methods may be called at any time from any
// goroutine, but calls (those that have an answer) not from within a notification or Initialize,
// which hold up the reading of answers.
//
// A call ends at the latest after Options.CallTimeout, with an error that says so and a
// $/cancelRequest to the client. A call for which the client did not declare the capability is not
// sent and fails with an error that is errors.ErrUnsupported. Notifications are queued and never wait,
// whatever their context: the end of a progress must come through when its work was cancelled.
type Client interface {
	protocol.Client

	// Notify sends a notification of any method. Params is encoded as JSON; nil sends none.
	Notify(ctx context.Context, method string, params any) error

	// Encoding is what positions on this connection count, UTF16 until Initialize is called. Serve
	// chooses it from what the client offers, and puts it in the answer to initialize.
	Encoding() Encoding

	// Capabilities is what the client declared; the zero value before Initialize is called. The caller
	// must not change what it points to.
	Capabilities() protocol.ClientCapabilities

	// Begin starts to report the progress of a piece of work; see Work. It is a call to the client
	// where Work.Token is nil.
	Begin(ctx context.Context, w Work) *Progress
}

type client struct{ s *session }

var _ Client = client{}

func (c client) Encoding() Encoding { return Encoding(c.s.encoding.Load()) }

func (c client) Capabilities() protocol.ClientCapabilities {
	if p := c.s.capabilities.Load(); p != nil {
		return *p
	}
	return protocol.ClientCapabilities{}
}

func (c client) Notify(ctx context.Context, method string, params any) error {
	return c.s.conn.Notify(context.WithoutCancel(ctx), method, params)
}

// call sends a call and waits at most d for its answer.
func (c client) call(ctx context.Context, d time.Duration, method string, params, result any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errNoAnswer)
	defer cancel()
	err := protocol.Call(ctx, c.s.conn, method, params, result)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) == errNoAnswer:
		return fmt.Errorf("%s: the client did not answer within %v: %w", method, d, err)
	}
	return fmt.Errorf("%s: %w", method, err)
}

var errNoAnswer = errors.New("no answer")

func (c client) quick(ctx context.Context, method string, params, result any) error {
	return c.call(ctx, c.s.opts.CallTimeout, method, params, result)
}

// refresh asks the client to ask again for what it shows of one kind.
func (c client) refresh(ctx context.Context, method string, supported *bool) error {
	if supported == nil || !*supported {
		return unsupported(method)
	}
	return c.quick(ctx, method, nil, nil)
}

func unsupported(method string) error {
	return fmt.Errorf("%s: the client did not declare that it answers this: %w", method, errors.ErrUnsupported)
}

func (c client) workspace() *protocol.WorkspaceClientCapabilities {
	if w := c.Capabilities().Workspace; w != nil {
		return w
	}
	return &protocol.WorkspaceClientCapabilities{}
}

func isTrue(p *bool) bool { return p != nil && *p }

func (c client) Progress(ctx context.Context, p *protocol.ProgressParams) error {
	return c.Notify(ctx, protocol.MethodProgress, p)
}

func (c client) LogTrace(ctx context.Context, p *protocol.LogTraceParams) error {
	return c.Notify(ctx, protocol.MethodLogTrace, p)
}

func (c client) ShowMessage(ctx context.Context, p *protocol.ShowMessageParams) error {
	return c.Notify(ctx, protocol.MethodWindowShowMessage, p)
}

func (c client) LogMessage(ctx context.Context, p *protocol.LogMessageParams) error {
	return c.Notify(ctx, protocol.MethodWindowLogMessage, p)
}

func (c client) Telemetry(ctx context.Context, p protocol.LSPAny) error {
	return c.Notify(ctx, protocol.MethodTelemetryEvent, p)
}

func (c client) PublishDiagnostics(ctx context.Context, p *protocol.PublishDiagnosticsParams) error {
	return c.Notify(ctx, protocol.MethodTextDocumentPublishDiagnostics, p)
}

func (c client) RegisterCapability(ctx context.Context, p *protocol.RegistrationParams) error {
	return c.quick(ctx, protocol.MethodClientRegisterCapability, p, nil)
}

func (c client) UnregisterCapability(ctx context.Context, p *protocol.UnregistrationParams) error {
	return c.quick(ctx, protocol.MethodClientUnregisterCapability, p, nil)
}

func (c client) ShowMessageRequest(ctx context.Context, p *protocol.ShowMessageRequestParams) (*protocol.MessageActionItem, error) {
	var r *protocol.MessageActionItem
	err := c.call(ctx, c.s.opts.PersonTimeout, protocol.MethodWindowShowMessageRequest, p, &r)
	return r, err
}

func (c client) ShowDocument(ctx context.Context, p *protocol.ShowDocumentParams) (*protocol.ShowDocumentResult, error) {
	if w := c.Capabilities().Window; w == nil || w.ShowDocument == nil || !w.ShowDocument.Support {
		return nil, unsupported(protocol.MethodWindowShowDocument)
	}
	r := new(protocol.ShowDocumentResult)
	err := c.quick(ctx, protocol.MethodWindowShowDocument, p, r)
	return r, err
}

func (c client) WorkDoneProgressCreate(ctx context.Context, p *protocol.WorkDoneProgressCreateParams) error {
	if w := c.Capabilities().Window; w == nil || !isTrue(w.WorkDoneProgress) {
		return unsupported(protocol.MethodWindowWorkDoneProgressCreate)
	}
	return c.quick(ctx, protocol.MethodWindowWorkDoneProgressCreate, p, nil)
}

func (c client) Configuration(ctx context.Context, p *protocol.ConfigurationParams) ([]protocol.LSPAny, error) {
	if !isTrue(c.workspace().Configuration) {
		return nil, unsupported(protocol.MethodWorkspaceConfiguration)
	}
	var r []protocol.LSPAny
	err := c.quick(ctx, protocol.MethodWorkspaceConfiguration, p, &r)
	if err == nil && len(r) != len(p.Items) {
		return nil, fmt.Errorf("%s: the client answered %d settings for %d asked", protocol.MethodWorkspaceConfiguration, len(r), len(p.Items))
	}
	return r, err
}

func (c client) WorkspaceFolders(ctx context.Context) ([]protocol.WorkspaceFolder, error) {
	if !isTrue(c.workspace().WorkspaceFolders) {
		return nil, unsupported(protocol.MethodWorkspaceWorkspaceFolders)
	}
	var r []protocol.WorkspaceFolder
	err := c.quick(ctx, protocol.MethodWorkspaceWorkspaceFolders, nil, &r)
	return r, err
}

func (c client) ApplyEdit(ctx context.Context, p *protocol.ApplyWorkspaceEditParams) (*protocol.ApplyWorkspaceEditResult, error) {
	if !isTrue(c.workspace().ApplyEdit) {
		return nil, unsupported(protocol.MethodWorkspaceApplyEdit)
	}
	r := new(protocol.ApplyWorkspaceEditResult)
	err := c.quick(ctx, protocol.MethodWorkspaceApplyEdit, p, r)
	return r, err
}

func (c client) CodeLensRefresh(ctx context.Context) error {
	var ok *bool
	if l := c.workspace().CodeLens; l != nil {
		ok = l.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceCodeLensRefresh, ok)
}

func (c client) InlayHintRefresh(ctx context.Context) error {
	var ok *bool
	if h := c.workspace().InlayHint; h != nil {
		ok = h.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceInlayHintRefresh, ok)
}

func (c client) DiagnosticRefresh(ctx context.Context) error {
	var ok *bool
	if d := c.workspace().Diagnostics; d != nil {
		ok = d.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceDiagnosticRefresh, ok)
}

func (c client) FoldingRangeRefresh(ctx context.Context) error {
	var ok *bool
	if f := c.workspace().FoldingRange; f != nil {
		ok = f.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceFoldingRangeRefresh, ok)
}

func (c client) SemanticTokensRefresh(ctx context.Context) error {
	var ok *bool
	if t := c.workspace().SemanticTokens; t != nil {
		ok = t.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceSemanticTokensRefresh, ok)
}

func (c client) InlineValueRefresh(ctx context.Context) error {
	var ok *bool
	if v := c.workspace().InlineValue; v != nil {
		ok = v.RefreshSupport
	}
	return c.refresh(ctx, protocol.MethodWorkspaceInlineValueRefresh, ok)
}

func (c client) TextDocumentContentRefresh(ctx context.Context, p *protocol.TextDocumentContentRefreshParams) error {
	if c.workspace().TextDocumentContent == nil {
		return unsupported(protocol.MethodWorkspaceTextDocumentContentRefresh)
	}
	return c.quick(ctx, protocol.MethodWorkspaceTextDocumentContentRefresh, p, nil)
}

// codec encodes parameters and results with the protocol's own unions and passes encoded JSON
// through as it is.
type codec struct{}

var _ jsonrpc2.Codec = codec{}

func (codec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.(jsonrpc2.RawMessage); ok {
		if raw == nil {
			return []byte("null"), nil
		}
		return raw, nil
	}
	return protocol.Marshal(v)
}

func (codec) Unmarshal(data []byte, v any) error {
	if raw, ok := v.(*jsonrpc2.RawMessage); ok {
		*raw = append(jsonrpc2.RawMessage{}, data...)
		return nil
	}
	return protocol.Unmarshal(data, v)
}
