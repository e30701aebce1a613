package lspserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.lsp.dev/jsonrpc2"
	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// A handler runs one command. The result is encoded as JSON for whoever sent it.
type handler func(s *server, ctx context.Context, p *protocol.ExecuteCommandParams) (any, error)

// commands are all that workspace/executeCommand knows. Each takes one object, or nothing.
var commands map[string]handler

func init() { // not in the declaration: lenses name commands, and commands make lenses ask again
	commands = map[string]handler{
		"sightline.profileTest":     with((*server).profileTest),
		"sightline.record":          with((*server).record),
		"sightline.recordTarget":    with((*server).recordTarget),
		"sightline.createTargets":   with((*server).createTargets),
		"sightline.stop":            with((*server).stopRecording),
		"sightline.discard":         with((*server).discardRecording),
		"sightline.openCapture":     with((*server).openCapture),
		"sightline.clear":           with((*server).clear),
		"sightline.setMetric":       with((*server).setMetric),
		"sightline.nextHotLine":     with((*server).nextHotLine),
		"sightline.previousHotLine": with((*server).previousHotLine),
		"sightline.goToFrame":       with((*server).goToFrame),
		"sightline.savePreset":      with((*server).savePreset),
		"sightline.profilePackage":  with((*server).profilePackage),
		"sightline.pinCapture":      with((*server).pinCapture),
		"sightline.noteCapture":     with((*server).noteCapture),
		"sightline.removeCapture":   with((*server).removeCapture),
		"sightline.setBaseline":     with((*server).setBaseline),
		"sightline.importFile":      with((*server).importFile),
	}
}

func commandNames() []string { return slices.Sorted(maps.Keys(commands)) }

// ExecuteCommand implements protocol.Server.
func (s *server) ExecuteCommand(ctx context.Context, p *protocol.ExecuteCommandParams) (protocol.LSPAny, error) {
	run, ok := commands[p.Command]
	if !ok {
		return nil, rpc.ErrParams("%.60q is no command of this server: it has %s", p.Command, strings.Join(commandNames(), ", "))
	}
	result, err := run(s, ctx, p)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// A call is what a command sees of the request beside its arguments.
type call struct {
	ctx   context.Context
	token protocol.ProgressToken // to report progress with; nil if the client gave none
}

// with decodes a command's arguments into A before f runs.
func with[A any](f func(*server, call, A) (any, error)) handler {
	return func(s *server, ctx context.Context, p *protocol.ExecuteCommandParams) (any, error) {
		args, err := decodeArguments[A](p)
		if err != nil {
			return nil, err
		}
		return f(s, call{ctx, p.WorkDoneToken}, args)
	}
}

// A short is an argument that may be given as a plain string instead of an object.
type short interface{ setShort(string) }

// decodeArguments takes the one object that a command has, or nothing.
func decodeArguments[A any](p *protocol.ExecuteCommandParams) (args A, err error) {
	switch len(p.Arguments) {
	case 0:
		return args, nil
	case 1:
	default:
		return args, rpc.ErrParams("%s takes one object as its only argument, and %d arguments were given", p.Command, len(p.Arguments))
	}
	raw := bytes.TrimSpace(p.Arguments[0])
	if len(raw) == 0 || string(raw) == "null" {
		return args, nil
	}
	var text string
	if s, ok := any(&args).(short); ok && json.Unmarshal(raw, &text) == nil {
		s.setShort(text)
		return args, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&args); err != nil {
		return args, rpc.ErrParams("%s: %s", p.Command, argumentError(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return args, rpc.ErrParams("%s: there is something after the argument's object", p.Command)
	}
	return args, nil
}

// argumentError says what is wrong with an argument and what it must be.
func argumentError(err error) string {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		if typ.Field == "" {
			return fmt.Sprintf("the argument is %s: give one object, like {\"uri\": …}", article(typ.Value))
		}
		return fmt.Sprintf("argument %q is %s: give %s", typ.Field, article(typ.Value), kindWord(typ.Type.Kind().String()))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "there is no argument " + name + ": leave it out"
	}
	return "the argument does not decode: " + strings.TrimPrefix(err.Error(), "json: ")
}

func article(value string) string {
	switch {
	case value == "bool":
		return "true or false"
	case strings.HasPrefix(value, "number "): // "number 1.5"
		return "the number " + strings.TrimPrefix(value, "number ")
	case strings.HasPrefix(value, "a"), strings.HasPrefix(value, "o"):
		return "an " + value
	}
	return "a " + value
}

func kindWord(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	case kind == "slice":
		return "a list of strings"
	}
	return "a " + kind
}

// errState answers a command that does not fit the state of things.
func errState(format string, args ...any) error {
	return jsonrpc2.Errorf(codeRequestFailed, format, args...)
}

// codeRequestFailed is LSP's RequestFailed: the request was well formed and could not be done.
const codeRequestFailed jsonrpc2.Code = -32803

// command is one to put on a lens or action; args nil for none.
func command(name, title, tooltip string, args any) *protocol.Command {
	c := &protocol.Command{Title: title, Command: name}
	if tooltip != "" {
		c.Tooltip = &tooltip
	}
	if args != nil {
		if raw, err := json.Marshal(args); err == nil {
			c.Arguments = []protocol.LSPAny{raw}
		}
	}
	return c
}

// commandURI is a link that runs a command in clients that have such links.
func commandURI(name string, args any) string {
	raw, err := json.Marshal([]any{args})
	if err != nil {
		return ""
	}
	return "command:" + name + "?" + url.PathEscape(string(raw))
}
