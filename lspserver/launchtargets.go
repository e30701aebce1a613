package lspserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// readTargets reads a .sightline.json as the editor has it, or else from the disk. It is read each time
// it is needed, so nobody has to tell that it changed.
func (s *server) readTargets(path string) (*launch.File, error) {
	for _, d := range s.documents() {
		if d.path == path {
			if f := d.launch(); f != nil {
				return f, nil
			}
		}
	}
	return launch.Read(path)
}

// targetsOf are the launch targets that hold for a folder. They are good where there is an error, too.
func (s *server) targetsOf(dir, root string) ([]launch.Target, error) {
	return launch.Load(dir, root, s.readTargets)
}

// allTargets are the launch targets that hold for a file or folder, and those of the workspace folders.
// Each comes once; those of a nearer file come first.
func (s *server) allTargets(near string) ([]launch.Target, error) {
	var all []launch.Target
	var errs []error
	known := map[string]bool{}
	take := func(dir, root string) {
		targets, err := s.targetsOf(dir, root)
		if err != nil {
			errs = append(errs, err)
		}
		for _, t := range targets {
			if key := t.File + "\x00" + t.Name; !known[key] {
				known[key] = true
				all = append(all, t)
			}
		}
	}
	if near != "" {
		dir := near
		if info, err := os.Stat(near); err != nil || !info.IsDir() {
			dir = filepath.Dir(near)
		}
		root := dir
		if w := s.folder(near); w != nil {
			root = w.root
		}
		take(dir, root)
	}
	for _, w := range s.allWorkspaces() {
		take(w.root, w.root)
	}
	return all, errors.Join(errs...)
}

// checkTargets tells the mistakes of a .sightline.json as diagnostics. Lenses elsewhere depend on it.
func (s *server) checkTargets(d *document) {
	f := d.launch()
	if f == nil || d.unknown {
		return
	}
	items := []protocol.Diagnostic{}
	for _, p := range f.Problems {
		enc := s.client.Encoding()
		items = append(items, protocol.Diagnostic{
			Range:    protocol.Range{Start: d.text.Position(enc, p.Begin), End: d.text.Position(enc, p.End)},
			Severity: protocol.DiagnosticSeverityError, Source: protocol.NewOptional("sightline"), Message: protocol.String(p.Message()),
		})
	}
	s.notify(s.client.PublishDiagnostics(s.ctx, &protocol.PublishDiagnosticsParams{URI: d.uri, Version: protocol.NewOptional(d.version), Diagnostics: items}))
	s.refresh.lensesOnly()
}

// forgetTargets takes the diagnostics of a document back that is closed.
func (s *server) forgetTargets(d *document) {
	if d.launch() == nil {
		return
	}
	s.notify(s.client.PublishDiagnostics(s.ctx, &protocol.PublishDiagnosticsParams{URI: d.uri, Diagnostics: []protocol.Diagnostic{}}))
	s.refresh.lensesOnly()
}

func targetKey(t launch.Target) string { return "target\x00" + t.File + "\x00" + t.Name }

// targetLenses offers to record the launch targets of a .sightline.json.
func (s *server) targetLenses(d *document, set *settings, add func(int, *protocol.Command)) {
	f := d.launch()
	if f == nil || !set.lensTargets {
		return
	}
	lineOf := protocolLines(d.text)
	for _, t := range f.Targets {
		line, ok := lineOf(t.Line + 1)
		if !ok {
			continue
		}
		if r := s.under(targetKey(t)); r != nil {
			add(line, command("sightline.stop", r.status()+" · stop", "stop and keep what was recorded", nil))
			continue
		}
		add(line, command("sightline.recordTarget", "record "+t.Name, "run "+commandText(t)+" and see what its lines cost",
			recordTargetArgs{Name: t.Name, URI: string(d.uri)}))
	}
}

const actionTargets = 8 // launch targets that are offered in other files

// targetActions offers to record the launch target around the cursor, or in sources those that hold for
// the file.
func (s *server) targetActions(d *document, line int, add addAction) {
	s.mu.Lock()
	busy := s.recording != nil
	s.mu.Unlock()
	if busy {
		return
	}
	if f := d.launch(); f != nil {
		lineOf := protocolLines(d.text)
		for _, t := range f.Targets {
			first, ok := lineOf(t.Line + 1)
			last, ok2 := lineOf(t.Last + 1)
			if ok && ok2 && first <= line && line <= last {
				add("", "Record "+t.Name, command("sightline.recordTarget", "", "", recordTargetArgs{Name: t.Name, URI: string(d.uri)}))
			}
		}
		return
	}
	targets, _ := s.allTargets(d.path) // what is wrong is told in the file, and when a target is recorded
	for i, t := range targets {
		if i == actionTargets {
			break
		}
		add(sourceAction, "Record "+t.Name+" ("+commandText(t)+")", command("sightline.recordTarget", "", "",
			recordTargetArgs{Name: t.Name, URI: string(uri.File(t.File))}))
	}
}

// commandText is a target's command for people.
func commandText(t launch.Target) string {
	text := profile.Target{Command: t.Command}.String()
	if r := []rune(text); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return text
}

// launchTargets answers rpc.MethodTargets.
func (s *server) launchTargets(_ context.Context, p rpc.TargetsParams) (rpc.TargetsResult, error) {
	near, err := placeNamed(rpc.MethodTargets, p.URI)
	if err != nil {
		return rpc.TargetsResult{}, err
	}
	res := rpc.TargetsResult{Targets: []rpc.TargetInfo{}}
	targets, err := s.allTargets(near)
	if err != nil {
		res.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	for _, t := range targets {
		detail := t.File
		if w := s.folder(t.File); w != nil {
			if rel, err := filepath.Rel(w.root, t.File); err == nil {
				detail = rel
			}
		}
		if rel, err := filepath.Rel(filepath.Dir(t.File), t.Dir); err == nil && rel != "." {
			detail += " · in " + rel
		}
		if len(t.Build) > 0 {
			detail += " · built by " + profile.Target{Command: t.Build}.String()
		}
		res.Targets = append(res.Targets, rpc.TargetInfo{
			Name: t.Name, Text: commandText(t), Detail: detail, Location: rpc.Location{URI: string(uri.File(t.File)), Line: t.Line},
		})
	}
	return res, nil
}

// placeNamed is the path that a URI names; "" where none is given.
func placeNamed(what, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	u, err := uri.Parse(name)
	path, ok := filePath(u)
	if err != nil || !ok {
		return "", rpc.ErrParams("%s: %.80q is no file on this machine: give the URI of one", what, name)
	}
	return path, nil
}

type recordTargetArgs struct {
	Name string `json:"name"`
	URI  string `json:"uri,omitempty"` // the .sightline.json that has it, or a file or folder near which to look
}

func (a *recordTargetArgs) setShort(s string) { a.Name = s }

// recordTarget records a launch target to its end and answers a recordingResult.
func (s *server) recordTarget(c call, a recordTargetArgs) (any, error) {
	const name = "sightline.recordTarget"
	if a.Name == "" {
		return nil, rpc.ErrParams("%s needs the argument \"name\": give that of a target of %s", name, launch.FileName)
	}
	near, err := placeNamed(name, a.URI)
	if err != nil {
		return nil, err
	}
	targets, problem := s.allTargets(near)
	var names []string
	for _, t := range targets {
		if t.Name == a.Name {
			if err := checkFolder(name, t.Dir); err != nil {
				return nil, errState("%s:%d: the target %s runs in %s, and there is no such folder: correct \"dir\"", t.File, t.Line+1, t.Name, t.Dir)
			}
			r := newRecording(TargetRequest(t), s)
			r.name, r.other, r.builds, r.place = t.Name, targetKey(t), len(t.Build) > 0, t.File
			return s.runRecording(c, r)
		}
		names = append(names, t.Name)
	}
	switch {
	case problem != nil:
		return nil, errState("there is no target %s: %v", a.Name, problem)
	case len(names) == 0:
		return nil, errState("there is no target %s: no %s in the workspace has one", a.Name, launch.FileName)
	}
	return nil, errState("there is no target %s: there is %s", a.Name, strings.Join(names, ", "))
}

// TargetRequest is a request for a launch target.
func TargetRequest(t launch.Target) Request {
	return Request{Dir: t.Dir, Command: t.Command, Name: t.Name, Env: t.Env, Build: t.Build}
}

type createTargetsArgs struct {
	URI string `json:"uri"` // a file that targets are wanted for
}

func (a *createTargetsArgs) setShort(s string) { a.URI = s }

// createTargets shows the .sightline.json that holds for a file. Where there is none it is made in the
// workspace's folder, with what a person has to fill in.
func (s *server) createTargets(c call, a createTargetsArgs) (any, error) {
	const name = "sightline.createTargets"
	near, err := placeNamed(name, a.URI)
	if err != nil {
		return nil, err
	}
	if near == "" {
		all := s.allWorkspaces()
		if len(all) == 0 {
			return nil, rpc.ErrParams("%s: no folder is open: give \"uri\", a file that targets are wanted for", name)
		}
		near = filepath.Join(all[0].root, launch.FileName)
	}
	w := s.adoptWorkspaceOf(near)
	path := filepath.Join(w.root, launch.FileName)
	if there := launch.Paths(filepath.Dir(near), w.root); len(there) > 0 {
		path = there[0]
	} else if err := create(path, targetsTemplate(near)); err != nil {
		return nil, errState("%s is not created: %v", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errState("%s is not shown: %v", path, err)
	}
	text := rpc.NewText(string(data))
	line := 0
	for i := range text.Lines() {
		if strings.Contains(text.Line(i), `"command"`) {
			line = i
			break
		}
	}
	to := s.destination(uri.File(path), text, line)
	s.show(c.ctx, to)
	s.refresh.lensesOnly()
	return to, nil
}

// create writes a file that must not be there yet.
func create(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody was quicker
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// quoted is a JSON string.
func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always can
	return string(b)
}

// targetsTemplate is a file with one target, for the tests of a C++ file that lies at a path where it has
// some.
func targetsTemplate(path string) string {
	program, tests := `"name": "server", "command": ["./server", "--port", "8080"]`, ""
	if data, err := os.ReadFile(path); err == nil {
		for _, t := range nativetest.Find(path, string(data)) {
			if t.Framework != nativetest.Cargo {
				base := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
				program = fmt.Sprintf(`"name": %s, "command": [%s]`, quoted(base), quoted("./build/"+base))
				tests = fmt.Sprintf(`, "tests": %q`, t.Framework)
				break
			}
		}
	}
	return "{\n  \"targets\": [\n    { " + program + tests + " }\n  ]\n}\n"
}
