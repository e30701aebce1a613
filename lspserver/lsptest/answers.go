package lsptest

import (
	"encoding/json"
	"maps"
	"strings"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"
)

// asked answers a call of the server. The caller holds mu.
func (e *Editor) asked(m message) {
	e.state.Asked[m.Method]++
	if f, ok := e.opts.Answers[m.Method]; ok {
		if f == nil {
			return
		}
		result, err := f(m.Params)
		e.reply(m.ID, result, err)
		return
	}
	if !e.declares(m.Method) {
		e.fault("the server asked %s, which %s did not declare to answer", m.Method, e.Name)
		e.reply(m.ID, nil, &Error{Code: -32601, Message: m.Method + " is not known here"})
		return
	}
	result, err := e.answer(m)
	e.reply(m.ID, result, err)
}

func (e *Editor) reply(id json.RawMessage, result any, err error) {
	r := message{ID: id}
	if err == nil {
		if r.Result = json.RawMessage("null"); result != nil {
			r.Result = marshal(result)
		}
	} else if wire, ok := err.(*Error); ok {
		r.Error = wire
	} else {
		r.Error = &Error{Code: -32603, Message: err.Error()}
	}
	e.send(r)
}

// declares tells whether the editor declared that it answers a method.
func (e *Editor) declares(method string) bool {
	w, win := e.caps.Workspace, e.caps.Window
	if w == nil {
		w = &protocol.WorkspaceClientCapabilities{}
	}
	if win == nil {
		win = &protocol.WindowClientCapabilities{}
	}
	is := func(p *bool) bool { return p != nil && *p }
	switch method {
	case protocol.MethodWindowShowMessageRequest, protocol.MethodClientRegisterCapability, protocol.MethodClientUnregisterCapability:
		return true // what is registered is looked at there
	case protocol.MethodWindowWorkDoneProgressCreate:
		return is(win.WorkDoneProgress)
	case protocol.MethodWindowShowDocument:
		return win.ShowDocument != nil && win.ShowDocument.Support
	case protocol.MethodWorkspaceConfiguration:
		return is(w.Configuration)
	case protocol.MethodWorkspaceWorkspaceFolders:
		return is(w.WorkspaceFolders)
	case protocol.MethodWorkspaceApplyEdit:
		return is(w.ApplyEdit)
	case protocol.MethodWorkspaceCodeLensRefresh:
		return w.CodeLens != nil && is(w.CodeLens.RefreshSupport)
	case protocol.MethodWorkspaceInlayHintRefresh:
		return w.InlayHint != nil && is(w.InlayHint.RefreshSupport)
	case protocol.MethodWorkspaceDiagnosticRefresh:
		return w.Diagnostics != nil && is(w.Diagnostics.RefreshSupport)
	}
	return false
}

// answer is what a well-behaved editor answers. The caller holds mu.
func (e *Editor) answer(m message) (any, error) {
	s := &e.state
	decode := func(v any) error {
		if err := protocol.Unmarshal(m.Params, v); err != nil {
			e.fault("the parameters of %s do not decode: %v: %s", m.Method, err, clipped(m.Params))
			return &Error{Code: -32602, Message: err.Error()}
		}
		return nil
	}
	switch m.Method {
	case protocol.MethodWorkspaceConfiguration:
		var p protocol.ConfigurationParams
		if err := decode(&p); err != nil {
			return nil, err
		}
		values := make([]any, len(p.Items))
		for i, item := range p.Items {
			if item.Section == nil {
				values[i] = e.settings
			} else {
				values[i] = section(e.settings, *item.Section)
			}
		}
		return values, nil

	case protocol.MethodWorkspaceWorkspaceFolders:
		return e.folders(), nil

	case protocol.MethodWindowWorkDoneProgressCreate:
		var p struct{ Token json.RawMessage }
		if err := json.Unmarshal(m.Params, &p); err != nil || len(p.Token) == 0 {
			e.fault("a progress is created without a token: %s", clipped(m.Params))
			return nil, &Error{Code: -32602, Message: "no token"}
		}
		e.token(p.Token)
		return nil, nil

	case protocol.MethodWindowShowDocument:
		var p protocol.ShowDocumentParams
		if err := decode(&p); err != nil {
			return nil, err
		}
		s.Shown = append(s.Shown, p)
		// Neovim raises an error where the selection is past the end of the document.
		if b := e.buffers[uri.URI(p.URI)]; b != nil && p.Selection != nil {
			e.within(b, *p.Selection, "the selection of a shown document")
		}
		return map[string]any{"success": true}, nil

	case protocol.MethodWindowShowMessageRequest:
		var p protocol.ShowMessageRequestParams
		if err := decode(&p); err != nil {
			return nil, err
		}
		s.Messages = append(s.Messages, Message{p.Type, p.Message})
		if e.opts.Choose != nil {
			title := e.opts.Choose(p)
			for _, a := range p.Actions {
				if a.Title == title {
					return a, nil
				}
			}
		}
		return nil, nil

	case protocol.MethodWorkspaceApplyEdit:
		var p protocol.ApplyWorkspaceEditParams
		if err := decode(&p); err != nil {
			return nil, err
		}
		if err := e.applyEdit(p.Edit); err != nil {
			return map[string]any{"applied": false, "failureReason": err.Error()}, nil
		}
		return map[string]any{"applied": true}, nil

	case protocol.MethodClientRegisterCapability:
		var p protocol.RegistrationParams
		if err := decode(&p); err != nil {
			return nil, err
		}
		for _, r := range p.Registrations {
			if !e.mayRegister(r.Method) {
				e.fault("the server registered %s, for which %s did not declare dynamicRegistration", r.Method, e.Name)
			}
			s.Registered[r.ID] = r
		}
		return nil, nil

	case protocol.MethodClientUnregisterCapability:
		var p struct {
			Unregisterations []struct{ ID, Method string } // so spelled in the protocol
		}
		if err := json.Unmarshal(m.Params, &p); err != nil {
			return nil, &Error{Code: -32602, Message: err.Error()}
		}
		for _, u := range p.Unregisterations {
			delete(s.Registered, u.ID)
		}
		return nil, nil
	}
	if strings.HasSuffix(m.Method, "/refresh") {
		s.Refreshes[m.Method]++
	}
	return nil, nil
}

// mayRegister tells whether the editor declared dynamicRegistration for a method
// "workspace/name" or "textDocument/name".
func (e *Editor) mayRegister(method string) bool {
	area, name, ok := strings.Cut(method, "/")
	if !ok {
		return false
	}
	switch method {
	case protocol.MethodTextDocumentDidOpen, protocol.MethodTextDocumentDidChange, protocol.MethodTextDocumentDidSave, protocol.MethodTextDocumentDidClose:
		name = "synchronization"
	case protocol.MethodWorkspaceDidChangeWorkspaceFolders:
		return e.caps.Workspace != nil && e.caps.Workspace.WorkspaceFolders != nil && *e.caps.Workspace.WorkspaceFolders
	}
	var caps map[string]map[string]struct{ DynamicRegistration bool }
	var areas map[string]json.RawMessage
	if json.Unmarshal(e.overlay.Capabilities, &areas) != nil {
		return false
	}
	members := map[string]json.RawMessage{}
	if json.Unmarshal(areas[area], &members) != nil {
		return false
	}
	caps = map[string]map[string]struct{ DynamicRegistration bool }{area: {}}
	for k, raw := range members {
		var d struct{ DynamicRegistration bool }
		if json.Unmarshal(raw, &d) == nil {
			caps[area][k] = d
		}
	}
	return caps[area][name].DynamicRegistration
}

// section is the value at a dotted path; nil where there is none.
func section(settings map[string]any, path string) any {
	var v any = settings
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

// Configure changes the settings and tells the server with workspace/didChangeConfiguration. A
// merge patch: nil values remove.
func (e *Editor) Configure(patch map[string]any) {
	e.mu.Lock()
	merged, _ := mergePatch(map[string]any(maps.Clone(e.settings)), patch).(map[string]any)
	e.settings = merged
	e.send(message{Method: protocol.MethodWorkspaceDidChangeConfiguration, Params: marshal(map[string]any{"settings": merged})})
	e.mu.Unlock()
}
