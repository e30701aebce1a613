package lspserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"go.lsp.dev/protocol"
)

// abilities are the client's, as far as they change what we answer. What the client answers to
// calls is looked after by rpc.Client.
type abilities struct {
	configuration         bool
	registerConfiguration bool // takes a registration for workspace/didChangeConfiguration
	showDocument          bool
	markdownHover         bool
	actionLiterals        bool // takes code actions, not only commands
	commandLinks          bool // runs command: links in markdown that we send
	changed               bool // wants rpc.MethodChanged
}

func truth(p *bool) bool { return p != nil && *p }

func abilitiesOf(c protocol.ClientCapabilities) abilities {
	var a abilities
	if w := c.Workspace; w != nil {
		a.configuration = truth(w.Configuration)
		a.registerConfiguration = w.DidChangeConfiguration != nil && truth(w.DidChangeConfiguration.DynamicRegistration)
	}
	if w := c.Window; w != nil {
		a.showDocument = w.ShowDocument != nil && w.ShowDocument.Support
	}
	if t := c.TextDocument; t != nil {
		if t.Hover != nil {
			a.markdownHover = slices.Contains(t.Hover.ContentFormat, protocol.MarkupKindMarkdown)
		}
		if t.CodeAction != nil {
			a.actionLiterals = len(t.CodeAction.CodeActionLiteralSupport.CodeActionKind.ValueSet) > 0
		}
	}
	// Our own plugins declare {"sightline": {"commandLinks": true, "changed": true}}.
	var own struct {
		Sightline struct {
			CommandLinks bool `json:"commandLinks"`
			Changed      bool `json:"changed"`
		} `json:"sightline"`
	}
	if json.Unmarshal(c.Experimental, &own) == nil {
		a.commandLinks, a.changed = own.Sightline.CommandLinks, own.Sightline.Changed
	}
	return a
}

// Initialize implements protocol.Server.
func (s *server) Initialize(_ context.Context, p *protocol.InitializeParams) (*protocol.InitializeResult, error) {
	s.can = abilitiesOf(p.Capabilities)
	s.initial = slices.Clone(p.InitializationOptions)
	s.configure(nil)
	if folders, ok := p.WorkspaceFolders.Get(); ok && len(folders) > 0 {
		s.addFolders(folders)
	} else if p.RootURI != nil && !p.RootURI.IsZero() {
		s.addFolders([]protocol.WorkspaceFolder{{URI: *p.RootURI}})
	}

	experimental, err := json.Marshal(map[string]any{"sightline": map[string]any{"methods": extensionMethods()}})
	if err != nil {
		return nil, err
	}
	yes := true
	incremental := protocol.TextDocumentSyncKindIncremental
	return &protocol.InitializeResult{
		ServerInfo: protocol.ServerInfo{Name: "sightline", Version: protocol.NewOptional(s.cfg.Version)},
		Capabilities: protocol.ServerCapabilities{
			TextDocumentSync:  &protocol.TextDocumentSyncOptions{OpenClose: &yes, Change: &incremental, Save: protocol.Boolean(true)},
			HoverProvider:     protocol.Boolean(true),
			InlayHintProvider: &protocol.InlayHintOptions{ResolveProvider: &yes},
			CodeLensProvider:  &protocol.CodeLensOptions{},
			CodeActionProvider: &protocol.CodeActionOptions{
				CodeActionKinds: []protocol.CodeActionKind{protocol.CodeActionKindEmpty, sourceAction},
			},
			ExecuteCommandProvider: protocol.ExecuteCommandOptions{
				WorkDoneProgressOptions: protocol.WorkDoneProgressOptions{WorkDoneProgress: &yes},
				Commands:                commandNames(),
			},
			Workspace: &protocol.WorkspaceOptions{
				WorkspaceFolders: &protocol.WorkspaceFoldersServerCapabilities{
					Supported:           &yes,
					ChangeNotifications: protocol.Boolean(true),
				},
			},
			Experimental: experimental,
		},
	}, nil
}

// Initialized implements protocol.Server. What needs the client's answer happens in a goroutine that
// ends with the session.
func (s *server) Initialized(context.Context, *protocol.InitializedParams) error {
	if s.cfg.Notice != "" {
		s.say(protocol.MessageTypeWarning, s.cfg.Notice)
	}
	go func() {
		s.fetchConfiguration()
		if s.can.registerConfiguration {
			err := s.client.RegisterCapability(s.ctx, &protocol.RegistrationParams{
				Registrations: []protocol.Registration{{
					ID:              "sightline-configuration",
					Method:          protocol.MethodWorkspaceDidChangeConfiguration,
					RegisterOptions: protocol.LSPAny(`{"section":"` + settingsSection + `"}`),
				}},
			})
			if err != nil && s.ctx.Err() == nil {
				s.log.Info("the client does not tell when settings change", "error", err)
			}
		}
		s.watch()
	}()
	if s.hub.shared {
		go s.accompanyAny()
	}
	return nil
}

// DidChangeConfiguration implements protocol.Server. Clients that answer workspace/configuration are
// asked; others send the settings along.
func (s *server) DidChangeConfiguration(_ context.Context, p *protocol.DidChangeConfigurationParams) error {
	if s.can.configuration {
		go s.fetchConfiguration()
		return nil
	}
	if len(p.Settings) > 0 && string(p.Settings) != "null" {
		s.configure(p.Settings)
		s.refresh.all()
	}
	return nil
}

// fetchConfiguration asks the client for the settings.
func (s *server) fetchConfiguration() {
	if !s.can.configuration {
		return
	}
	section := settingsSection
	answer, err := s.client.Configuration(s.ctx, &protocol.ConfigurationParams{
		Items: []protocol.ConfigurationItem{{Section: &section}},
	})
	if err != nil {
		if s.ctx.Err() == nil && !errors.Is(err, errors.ErrUnsupported) {
			s.log.Warn("the client's settings are not known, those of before stay", "error", err)
		}
		return
	}
	if len(answer) == 1 && len(answer[0]) > 0 && string(answer[0]) != "null" {
		if s.configure(answer[0]) {
			s.refresh.all()
		}
	}
}

// configure takes settings over, on top of those that came with initialize, and says whether that
// changes anything. Each mistake is told once.
func (s *server) configure(raw []byte) (changed bool) {
	next, unknown, wrong := parseSettings(s.initial, raw)
	s.mu.Lock()
	before := s.settings
	s.settings = next
	if next.metric != before.metric { // else what setMetric chose stays
		s.metric = next.metric
	}
	s.pathsChanged()
	fresh := func(keys []string) []string {
		return slices.DeleteFunc(slices.Clone(keys), func(k string) bool {
			old := s.told[k]
			s.told[k] = true
			return old
		})
	}
	unknown, wrong = fresh(unknown), fresh(wrong)
	s.mu.Unlock()

	// A message before the answer to initialize is allowed, a warning of it too (LSP, initialize).
	for _, key := range unknown {
		s.log.Warn("a setting is not known and has no effect", "setting", key)
		s.write(protocol.MessageTypeWarning, key+" is no setting of Sightline and has no effect.")
	}
	for _, text := range wrong {
		s.log.Warn("a setting is ignored", "why", text)
		s.say(protocol.MessageTypeWarning, text+". It stays as it was.")
	}
	return !next.equal(before)
}

// Shutdown implements protocol.Server: a recording under way is stopped and kept, unless it belongs
// to a hub that outlives the client. It waits for the recording's end as long as ctx allows.
func (s *server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	r := s.recording
	s.mu.Unlock()
	if r != nil && !s.hub.shared {
		r.stop()
		select {
		case <-r.done:
		case <-ctx.Done():
		}
	}
	s.end()
	s.hub.remove(s)
	s.refresh.stop()
	return nil
}

// Exit implements protocol.Server. It comes without Shutdown where the client never said initialize.
func (s *server) Exit(context.Context) error {
	s.end()
	s.hub.remove(s)
	return nil
}

// SetTrace implements protocol.Server; tracing is rpc's.
func (s *server) SetTrace(context.Context, *protocol.SetTraceParams) error { return nil }
