package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.lsp.dev/uri"
)

// BenchmarkInitialize is from the start of the server's process to its answer to initialize, in a
// workspace that has captures. A bare process of the machine is the floor.
func BenchmarkInitialize(b *testing.B) {
	large := makeLarge(b)
	b.Setenv("XDG_STATE_HOME", workDir(b))
	largeCapture(b, large)
	starts := max(20, *benchRounds)
	server := func(dir string, args ...string) func(b *testing.B) {
		return func(b *testing.B) {
			var took []float64
			for i := range starts + 1 {
				w := startWire(b, dir, map[string]any{}, args...)
				ms := milliseconds(w.initialize(dir))
				w.end()
				if i > 0 { // the first is for the caches
					took = append(took, ms)
				}
			}
			report(b, figure{median(took), "initialize-ms"}, figure{quantile(took, 0.95), "p95-ms"}, figure{float64(len(took)), "runs"})
		}
	}
	b.Run("ours", server(large.dir, sightlineBinary(b), "serve"))
	if goplsPeer.there(b) {
		b.Run("peer=gopls", server(large.dir, "gopls", "serve"))
	}
	b.Run("floor=sh", func(b *testing.B) {
		var took []float64
		for range starts {
			begin := time.Now()
			if err := exec.Command("sh", "-c", ":").Run(); err != nil {
				b.Fatal(err)
			}
			took = append(took, milliseconds(time.Since(begin)))
		}
		report(b, figure{median(took), "process-ms"}, figure{float64(len(took)), "runs"})
	})
	b.Run("floor=version", func(b *testing.B) { // a process of our own size that has nothing to do
		var took []float64
		for range starts {
			begin := time.Now()
			mustOutput(b, large.dir, sightlineBinary(b), "version")
			took = append(took, milliseconds(time.Since(begin)))
		}
		report(b, figure{median(took), "process-ms"}, figure{float64(len(took)), "runs"})
	})
}

// BenchmarkHintsAfterEdit is a keystroke in an annotated file of more than 5,000 lines, and the hints
// as they are then: from the edit's first byte to the server until the answer's last one.
func BenchmarkHintsAfterEdit(b *testing.B) {
	large := makeLarge(b)
	b.Setenv("XDG_STATE_HOME", workDir(b))
	largeCapture(b, large, "one")
	text, err := os.ReadFile(large.file)
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Count(text, []byte("\n"))
	edits := max(50, 4**benchRounds)

	type edited struct{ name, text string }
	server := func(settings any, edit edited, first, last int, args ...string) func(b *testing.B) {
		return func(b *testing.B) {
			w := startWire(b, large.dir, settings, args...)
			defer w.end()
			w.initialize(large.dir)
			u := uri.File(large.file)
			document := map[string]any{"uri": u}
			w.notify("textDocument/didOpen", map[string]any{"textDocument": map[string]any{"uri": u, "languageId": "go", "version": 1, "text": string(text)}})
			ask := map[string]any{"textDocument": document, "range": map[string]any{"start": place(first, 0), "end": place(last, 0)}}
			hints := 0
			for deadline := time.Now().Add(2 * time.Minute); ; { // a server may have to read and load first
				var list []json.RawMessage
				if err := json.Unmarshal(w.call("textDocument/inlayHint", ask), &list); err != nil {
					b.Fatal(err)
				}
				if hints = len(list); hints > 0 {
					break
				}
				if time.Now().After(deadline) {
					b.Fatalf("%s shows no hints", args[0])
				}
				time.Sleep(100 * time.Millisecond)
			}
			// In the middle of a comment's line, behind the package clause: no line that has a cost.
			at := place(0, 3)
			var took []float64
			for i := range edits {
				begin := time.Now()
				w.notify("textDocument/didChange", map[string]any{
					"textDocument":   map[string]any{"uri": u, "version": i + 2},
					"contentChanges": []any{map[string]any{"text": edit.text, "range": map[string]any{"start": at, "end": at}}},
				})
				w.call("textDocument/inlayHint", ask)
				took = append(took, milliseconds(w.came.Sub(begin)))
				time.Sleep(5 * time.Millisecond) // nobody types without a pause
			}
			report(b, figure{median(took), "hints-ms"}, figure{quantile(took, 0.95), "p95-ms"}, figure{float64(hints), "hints"},
				figure{float64(lines), "lines"}, figure{float64(len(took)), "runs"})
		}
	}
	usual, every := map[string]any{}, map[string]any{"hints": map[string]any{"threshold": 0}}
	letter, line := edited{"letter", "x"}, edited{"newline", "\n// "}
	for _, edit := range []edited{letter, line} {
		b.Run("ours/edit="+edit.name, server(usual, edit, 0, lines, sightlineBinary(b), "serve"))
	}
	b.Run("ours/edit=letter/threshold=0", server(every, letter, 0, lines, sightlineBinary(b), "serve"))
	b.Run("ours/edit=letter/threshold=0/asked=60lines", server(every, letter, 100, 160, sightlineBinary(b), "serve"))
	if goplsPeer.there(b) {
		gopls := map[string]any{"hints": map[string]any{"assignVariableTypes": true, "parameterNames": true, "rangeVariableTypes": true}}
		b.Run("peer=gopls/edit=letter", server(gopls, letter, 0, lines, "gopls", "serve"))
		b.Run("peer=gopls/edit=letter/asked=60lines", server(gopls, letter, 100, 160, "gopls", "serve"))
	}
}

func place(line, character int) map[string]any {
	return map[string]any{"line": line, "character": character}
}
