package lsptest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// A Buffer is an open document.
type Buffer struct {
	URI     uri.URI
	Path    string // "" where the URI is of no file
	Version int32
	text    *rpc.Text
}

// An Edit replaces the bytes from Start to End of a document by New.
type Edit struct {
	Start, End int
	New        string
}

// languages are the language ids by file extension.
var languages = map[string]string{".go": "go", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".rs": "rust", ".py": "python", ".md": "markdown"}

// Open opens a file as it is on disk.
func (e *Editor) Open(path string) {
	e.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatalf("open in the editor: %v", err)
	}
	e.OpenText(path, string(text))
}

// OpenText opens a file with a text that need not be on disk.
func (e *Editor) OpenText(path, text string) { e.OpenURI(uri.File(path), path, text) }

// OpenURI opens a document of any URI. Invalid UTF-8 becomes U+FFFD, as in every editor: JSON
// has no other.
func (e *Editor) OpenURI(u uri.URI, path, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &Buffer{URI: u, Path: path, Version: 1, text: rpc.NewText(strings.ToValidUTF8(text, "\uFFFD"))}
	if e.buffers[u] != nil {
		e.t.Fatalf("open in the editor: %s is open", u)
	}
	e.buffers[u] = b
	language := languages[filepath.Ext(path)]
	if language == "" {
		language = "plaintext"
	}
	if e.syncOptions().openClose {
		e.send(message{Method: protocol.MethodTextDocumentDidOpen, Params: marshal(map[string]any{"textDocument": map[string]any{
			"uri": u, "languageId": language, "version": b.Version, "text": b.text.String(),
		}})})
	}
}

type syncOptions struct {
	openClose, save, saveText bool
	change                    protocol.TextDocumentSyncKind
}

// syncOptions is what the server wants to be told of documents.
func (e *Editor) syncOptions() syncOptions {
	switch s := e.Result.Capabilities.TextDocumentSync.(type) {
	case *protocol.TextDocumentSyncOptions:
		o := syncOptions{openClose: s.OpenClose != nil && *s.OpenClose}
		if s.Change != nil {
			o.change = *s.Change
		}
		switch save := s.Save.(type) {
		case protocol.Boolean:
			o.save = bool(save)
		case *protocol.SaveOptions:
			o.save, o.saveText = true, save.IncludeText != nil && *save.IncludeText
		}
		return o
	case protocol.TextDocumentSyncKind:
		return syncOptions{openClose: true, save: true, change: s}
	}
	return syncOptions{}
}

// buffer is the open document of a path, or of a URI with a scheme.
func (e *Editor) buffer(path string) *Buffer {
	e.t.Helper()
	b := e.buffers[uriOf(path)]
	if b == nil {
		e.t.Fatalf("%s is not open in the editor", path)
	}
	return b
}

// uriOf takes a path, or a URI with a scheme.
func uriOf(path string) uri.URI {
	if strings.Contains(path, ":/") && !filepath.IsAbs(path) {
		return uri.URI(path)
	}
	return uri.File(path)
}

// Text is the document as it is in the editor.
func (e *Editor) Text(path string) string {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.buffer(path).text.String()
}

// Edit changes a document by edits that do not overlap, whose offsets all are of the text before, and
// sends one didChange, in whatever form the server asked for.
func (e *Editor) Edit(path string, edits ...Edit) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buffer(path)
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(x, y Edit) int { return y.Start - x.Start }) // last first: then each is of the text it finds
	var changes []map[string]any
	end := len(b.text.String())
	for _, ed := range edits {
		if ed.Start < 0 || ed.End < ed.Start || ed.End > end {
			e.t.Fatalf("edit %s: bytes %d to %d, with %d bytes that may be edited", path, ed.Start, ed.End, end)
		}
		end = ed.Start
		old := b.text
		r := protocol.Range{Start: old.Position(e.Encoding, ed.Start), End: old.Position(e.Encoding, ed.End)}
		if old.Offset(e.Encoding, r.Start) != ed.Start || old.Offset(e.Encoding, r.End) != ed.End {
			e.t.Fatalf("edit %s: bytes %d to %d begin or end within a character or a line end", path, ed.Start, ed.End)
		}
		b.text = rpc.NewText(old.String()[:ed.Start] + ed.New + old.String()[ed.End:])
		changes = append(changes, map[string]any{"range": r, "text": ed.New})
	}
	e.changed(b, changes)
}

// changed tells the server of a buffer's new version. The caller holds mu.
func (e *Editor) changed(b *Buffer, changes []map[string]any) {
	b.Version++
	switch e.syncOptions().change {
	case protocol.TextDocumentSyncKindNone:
		return
	case protocol.TextDocumentSyncKindFull:
		changes = nil
	}
	if changes == nil {
		changes = []map[string]any{{"text": b.text.String()}}
	}
	e.send(message{Method: protocol.MethodTextDocumentDidChange, Params: marshal(map[string]any{
		"textDocument":   map[string]any{"uri": b.URI, "version": b.Version},
		"contentChanges": changes,
	})})
}

// Replace replaces every match of a regular expression, as regexp.ReplaceAllString does. It fails the
// test when there is none.
func (e *Editor) Replace(path, expr, replacement string) {
	e.t.Helper()
	re := regexp.MustCompile(expr)
	text := e.Text(path)
	var edits []Edit
	for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
		edits = append(edits, Edit{m[0], m[1], string(re.ExpandString(nil, replacement, text, m))})
	}
	if edits == nil {
		e.t.Fatalf("replace in %s: nothing matches %q", path, expr)
	}
	e.Edit(path, edits...)
}

// SetText replaces a whole document, in one change without a range.
func (e *Editor) SetText(path, text string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buffer(path)
	b.text = rpc.NewText(text)
	e.changed(b, nil)
}

// Save writes a document to disk.
func (e *Editor) Save(path string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buffer(path)
	if err := os.WriteFile(b.Path, []byte(b.text.String()), 0o644); err != nil {
		e.t.Fatalf("save from the editor: %v", err)
	}
	if o := e.syncOptions(); o.save {
		p := map[string]any{"textDocument": map[string]any{"uri": b.URI}}
		if o.saveText {
			p["text"] = b.text.String()
		}
		e.send(message{Method: protocol.MethodTextDocumentDidSave, Params: marshal(p)})
	}
}

// CloseFile closes a document.
func (e *Editor) CloseFile(path string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.buffer(path)
	delete(e.buffers, b.URI)
	if e.syncOptions().openClose {
		e.send(message{Method: protocol.MethodTextDocumentDidClose, Params: marshal(map[string]any{"textDocument": map[string]any{"uri": b.URI}})})
	}
}

// Find is the byte offset of the first match of a regular expression, or of its first group.
func (e *Editor) Find(path, expr string) int {
	e.t.Helper()
	m := regexp.MustCompile(expr).FindStringSubmatchIndex(e.Text(path))
	if m == nil {
		e.t.Fatalf("find in %s: nothing matches %q", path, expr)
	}
	if len(m) > 2 && m[2] >= 0 {
		return m[2]
	}
	return m[0]
}

// Position is the position of a byte offset.
func (e *Editor) Position(path string, offset int) protocol.Position {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.buffer(path).text.Position(e.Encoding, offset)
}

// applyEdit applies what a server wants edited, in open buffers and in files. The caller holds mu.
func (e *Editor) applyEdit(edit protocol.WorkspaceEdit) error {
	todo := map[uri.URI][]protocol.TextEdit{}
	for u, edits := range edit.Changes {
		todo[uri.URI(u)] = append(todo[uri.URI(u)], edits...)
	}
	for _, change := range edit.DocumentChanges {
		c, ok := change.(*protocol.TextDocumentEdit)
		if !ok {
			return fmt.Errorf("an edit of kind %T is not known here", change)
		}
		for _, x := range c.Edits {
			switch x := x.(type) {
			case *protocol.TextEdit:
				todo[c.TextDocument.URI] = append(todo[c.TextDocument.URI], *x)
			case *protocol.AnnotatedTextEdit:
				todo[c.TextDocument.URI] = append(todo[c.TextDocument.URI], x.TextEdit)
			default:
				return fmt.Errorf("an edit of kind %T is not known here", x)
			}
		}
	}
	for u, edits := range todo {
		b := e.buffers[u]
		if b == nil {
			return fmt.Errorf("%s is not open", u)
		}
		slices.SortStableFunc(edits, func(x, y protocol.TextEdit) int {
			if before(x.Range.Start, y.Range.Start) {
				return 1
			}
			return -1
		})
		var changes []map[string]any
		for _, x := range edits {
			e.within(b, x.Range, "an edit")
			text, err := b.text.Apply(e.Encoding, []protocol.TextDocumentContentChangeEvent{
				&protocol.TextDocumentContentChangePartial{Range: x.Range, Text: x.NewText},
			})
			if err != nil {
				return err
			}
			b.text = text
			changes = append(changes, map[string]any{"range": x.Range, "text": x.NewText})
		}
		e.changed(b, changes)
	}
	return nil
}
