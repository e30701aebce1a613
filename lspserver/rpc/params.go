package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.lsp.dev/jsonrpc2"
	"go.lsp.dev/protocol"
)

// ErrMethod answers a call of a method that is not known.
func ErrMethod(method string) error {
	return jsonrpc2.Errorf(jsonrpc2.MethodNotFound, "%s: this server knows no such method", quoted(method))
}

// ErrParams answers a call whose parameters are wrong, with a sentence that says in what.
func ErrParams(format string, args ...any) error {
	return jsonrpc2.Errorf(jsonrpc2.InvalidParams, format, args...)
}

// DecodeParams decodes the parameters of an extension method into *T. Absent parameters are the zero
// value; ones that do not fit are an error as ErrParams makes it.
func DecodeParams[T any](method string, params json.RawMessage) (v T, err error) {
	if len(params) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(params, &v); err != nil {
		return v, ErrParams("%s: the parameters do not fit: %v", method, err)
	}
	return v, nil
}

// quoted is a method name for a message: foreign, so bounded.
func quoted(method string) string {
	if len(method) > 80 {
		method = strings.ToValidUTF8(method[:80], "") + "…"
	}
	return fmt.Sprintf("%q", method)
}

// methods are those of the protocol that a client may send.
var methods = func() map[string]protocol.MethodInfo {
	m := map[string]protocol.MethodInfo{}
	for _, info := range protocol.Methods {
		if info.Direction != protocol.DirectionServerToClient {
			m[info.Method] = info
		}
	}
	return m
}()

const (
	document = "textDocument.uri"
	position = "position.line position.character"
	span     = "range.start.line range.start.character range.end.line range.end.character"
)

// needed names for each method the members without which its parameters mean nothing. The
// protocol's decoder takes an absent member for its zero value, so that a hover without a position
// would be answered for the first character of the file. Only methods that this server may come to
// offer are listed; members that carry no meaning for it (languageId) are not asked for.
var needed = func() map[string][]string {
	m := map[string][]string{}
	for method, fields := range map[string]string{
		protocol.MethodInitialize:                         "capabilities",
		protocol.MethodSetTrace:                           "value",
		protocol.MethodTextDocumentDidOpen:                document + " textDocument.version textDocument.text",
		protocol.MethodTextDocumentDidChange:              document + " textDocument.version contentChanges",
		protocol.MethodTextDocumentDidSave:                document,
		protocol.MethodTextDocumentDidClose:               document,
		protocol.MethodTextDocumentHover:                  document + " " + position,
		protocol.MethodTextDocumentInlayHint:              document + " " + span,
		protocol.MethodInlayHintResolve:                   position + " label",
		protocol.MethodTextDocumentCodeLens:               document,
		protocol.MethodCodeLensResolve:                    span,
		protocol.MethodTextDocumentCodeAction:             document + " " + span + " context",
		protocol.MethodCodeActionResolve:                  "title",
		protocol.MethodTextDocumentDiagnostic:             document,
		protocol.MethodTextDocumentDocumentSymbol:         document,
		protocol.MethodTextDocumentDefinition:             document + " " + position,
		protocol.MethodTextDocumentReferences:             document + " " + position,
		protocol.MethodTextDocumentPrepareCallHierarchy:   document + " " + position,
		protocol.MethodWorkspaceExecuteCommand:            "command",
		protocol.MethodWorkspaceDidChangeWorkspaceFolders: "event",
		protocol.MethodWorkspaceDidChangeWatchedFiles:     "changes",
		protocol.MethodWorkspaceTextDocumentContent:       "uri",
		protocol.MethodWindowWorkDoneProgressCancel:       "token",
	} {
		m[method] = strings.Fields(fields)
	}
	return m
}()

// Missing names the first member that the parameters of method need and do not have, as
// "textDocument.uri"; "" when none is missing. Parameters that are not an object lack the first.
// A member that is null, or a URI that is empty, counts as missing.
func Missing(method string, params []byte) string {
	fields := needed[method]
	if len(fields) == 0 {
		return ""
	}
	var (
		prefix  string // of the object that members belongs to
		members map[string]jsontext.Value
	)
	top, ok := membersOf(params)
	for _, field := range fields {
		if !ok {
			return field
		}
		parent, name := "", field
		if dot := strings.LastIndexByte(field, '.'); dot >= 0 {
			parent, name = field[:dot], field[dot+1:]
		}
		if members == nil || parent != prefix {
			prefix, members = parent, top
			for part := range strings.SplitSeq(parent, ".") {
				if part == "" {
					break
				}
				if members, ok = membersOf(members[part]); !ok {
					return field
				}
			}
		}
		if v := members[name]; len(v) == 0 || v.Kind() == 'n' || name == "uri" && string(v) == `""` {
			return field
		}
	}
	return ""
}

// membersOf are the members of a JSON object, undecoded; they are parts of it.
func membersOf(object []byte) (map[string]jsontext.Value, bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, false
	}
	m := map[string]jsontext.Value{}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, false
		}
		key := name.String()
		v, err := dec.ReadValue()
		if err != nil {
			return nil, false
		}
		end := dec.InputOffset()
		m[key] = object[end-int64(len(v)) : end : end]
	}
	return m, true
}

// answerable is an error as a client is to read it: what the protocol package says of parameters
// that do not decode becomes a sentence with the right code, a call it has no method for says so.
func answerable(method string, err error) error {
	var wire *jsonrpc2.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsonrpc2.ErrParse):
		// The frame was JSON, or it would not have come this far: the parameters do not fit.
		return ErrParams("%s: the parameters do not fit: %s", method, strings.TrimPrefix(err.Error(), jsonrpc2.ErrParse.Message+": "))
	case errors.As(err, &wire):
		if wire.Code == jsonrpc2.MethodNotFound && wire.Message == "not implemented" {
			return jsonrpc2.Errorf(jsonrpc2.MethodNotFound, "%s: this server does not offer it", method)
		}
		return err
	}
	return jsonrpc2.NewError(jsonrpc2.InternalError, err.Error())
}
