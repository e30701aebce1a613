package lspserver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// Kinds of tests in other languages.
const (
	googleTest testKind = "GoogleTest"
	catch2Test testKind = "Catch2 test"
	rustTest   testKind = "Rust test"
	rustBench  testKind = "Rust benchmark"
)

func kindOf(t nativetest.Test) testKind {
	switch {
	case t.Bench:
		return rustBench
	case t.Framework == nativetest.Cargo:
		return rustTest
	case t.Framework == nativetest.Catch2:
		return catch2Test
	}
	return googleTest
}

// nativeKey tells one native test from others, for the recording under way.
func nativeKey(path, name string) string { return "test\x00" + path + "\x00" + name }

// under is the recording under way if it is of that key.
func (s *server) under(key string) *recording {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording != nil && s.recording.other == key {
		return s.recording.recording
	}
	return nil
}

// A testProgram is where the program of a C++ file's tests may be.
type testProgram struct {
	programs []launch.Target
	builds   []string // folders that CMake builds in
	problem  error    // with a .sightline.json
}

func (p testProgram) known() bool { return len(p.programs) > 0 || len(p.builds) > 0 }

// programOf looks for the program of the tests of a file. It only looks at files: nothing is run, as
// editors ask for lenses by themselves.
func (s *server) programOf(path string, f nativetest.Framework) testProgram {
	root := filepath.Dir(path)
	if w := s.folder(path); w != nil {
		root = w.root
	}
	targets, err := s.targetsOf(filepath.Dir(path), root)
	p := testProgram{problem: err}
	for _, t := range targets {
		if t.Tests == string(f) {
			p.programs = append(p.programs, t)
		}
	}
	if len(p.programs) == 0 {
		p.builds = launch.CMakeBuilds(filepath.Dir(path), root)
	}
	return p
}

// nativeLenses offers to profile the tests of a C++ or Rust file. Where a C++ test's program is not
// known one lens says what to write down.
func (s *server) nativeLenses(d *document, set *settings, add func(int, *protocol.Command)) {
	known := map[nativetest.Framework]bool{nativetest.Cargo: true}
	for _, t := range d.native() {
		if !set.lensTests[kindOf(t)] {
			continue
		}
		has, asked := known[t.Framework]
		if !asked {
			has = s.programOf(d.path, t.Framework).known()
			known[t.Framework] = has
		}
		switch {
		case has:
			add(t.Line, s.nativeCommand(d, t))
		case !asked:
			add(t.Line, command("sightline.createTargets", "to profile these tests, name their program in "+launch.FileName,
				"open or create "+launch.FileName+": a target with \"tests\": \""+string(t.Framework)+"\" says which program has them. A CMake build folder is found by itself.",
				createTargetsArgs{URI: string(d.uri)}))
		}
	}
}

// nativeCommand profiles a test, or stops that when it is under way.
func (s *server) nativeCommand(d *document, t nativetest.Test) *protocol.Command {
	if r := s.under(nativeKey(d.path, t.Name)); r != nil {
		return command("sightline.stop", r.status()+" · stop", "stop and keep what was recorded", nil)
	}
	tooltip := "run " + t.Name
	if t.Tags != "" {
		tooltip += " " + t.Tags
	}
	return command("sightline.profileTest", "profile", tooltip+" and see what its lines cost",
		profileTestArgs{URI: string(d.uri), Test: t.Name})
}

// nativeActions are what lenses offer for the test around the cursor.
func (s *server) nativeActions(d *document, line int, add addAction) {
	t := nativetest.At(d.native(), line)
	if t == nil {
		return
	}
	if t.Framework == nativetest.Cargo || s.programOf(d.path, t.Framework).known() {
		add("", "Profile "+t.Name, command("sightline.profileTest", "", "", profileTestArgs{URI: string(d.uri), Test: t.Name}))
		return
	}
	add("", "Name the program of "+t.Name+" in "+launch.FileName, command("sightline.createTargets", "", "", createTargetsArgs{URI: string(d.uri)}))
}

// profileNative records a C++ or Rust test to its end and answers a recordingResult.
func (s *server) profileNative(c call, a profileTestArgs) (any, error) {
	const name = "sightline.profileTest"
	if a.URI == "" || a.Dir != "" || a.Run != "" || a.Bench != "" {
		return nil, rpc.ErrParams("%s: a \"test\" needs \"uri\", the file that has it, and neither \"dir\" nor \"run\" nor \"bench\"", name)
	}
	u, err := uri.Parse(a.URI)
	path, ok := filePath(u)
	if err != nil || !ok {
		return nil, rpc.ErrParams("%s: %.80q is no file on this machine: give the file that has the test", name, a.URI)
	}
	var text string
	if d := s.snapshot(c.ctx)[u]; d != nil {
		text = d.text.String()
	} else if data, err := os.ReadFile(path); err == nil {
		text = string(data)
	} else {
		return nil, errState("%s is not read: %v", path, err)
	}
	tests := nativetest.Find(path, text)
	i := slices.IndexFunc(tests, func(t nativetest.Test) bool { return t.Name == a.Test })
	if i < 0 {
		there := "it has none"
		if len(tests) > 0 {
			names := make([]string, len(tests))
			for i, t := range tests {
				names[i] = t.Name
			}
			there = "it has " + strings.Join(names[:min(len(names), 8)], ", ")
		}
		return nil, errState("%s has no test %s; %s", filepath.Base(path), a.Test, there)
	}
	req, err := NativeRequest(path, tests[i])
	if err != nil {
		return nil, errState("%v", err)
	}
	_, set := s.shown()
	req.Native.Args = a.Args
	if tests[i].Framework == nativetest.Cargo {
		req.Native.Args = slices.Concat(a.Args, set.cargoFlags)
	} else {
		s.adoptWorkspaceOf(path)
		p := s.programOf(path, tests[i].Framework)
		if !p.known() && p.problem != nil {
			return nil, errState("%v", p.problem)
		}
		req.Native.Programs, req.Native.Builds = p.programs, p.builds
	}
	r := newRecording(req, s)
	r.name, r.other, r.builds, r.place = tests[i].Name, nativeKey(path, tests[i].Name), true, path
	return s.runRecording(c, r)
}

// NativeRequest is a request for a test of a file: without the programs that may have it, which a C++
// test needs.
func NativeRequest(path string, t nativetest.Test) (Request, error) {
	n := &NativeTest{Framework: t.Framework, Bench: t.Bench, File: path, Name: t.Name, Filter: t.Filter}
	req := Request{Dir: filepath.Dir(path), Native: n}
	if t.Framework != nativetest.Cargo {
		return req, nil
	}
	for at := req.Dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "Cargo.toml")); err == nil {
			req.Dir = at
			n.Name = nativetest.Join(nativetest.CrateModule(at, path), t.Name)
			return req, nil
		}
		if at == filepath.Dir(at) {
			return req, errState("%s lies in no package: no Cargo.toml is in its folder or above it", path)
		}
	}
}
