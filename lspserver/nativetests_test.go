package lspserver_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.lsp.dev/protocol"
	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// native is a workspace with tests in C++ and Rust, and launch targets.
const native = `
-- .sightline.json --
{
  "targets": [
    {"name": "server", "command": ["./server", "--port", "8080"], "env": {"A": "1"}, "build": ["make"]},
    {
      "name": "unit", "command": ["build/unit"], "tests": "gtest", "dir": "cpp"
    }
  ]
}
-- cpp/fib_test.cpp --
#include <gtest/gtest.h>
// TEST(Not, This) {}
TEST(Fib, Small) {
  EXPECT_EQ(fib(1), 1);
}
TEST_P(Fib, Each) {}
-- cpp/catch.cpp --
#include <catch2/catch.hpp>
TEST_CASE("é, 𝄞 [x]", "[fast]") {}
SCENARIO("second") {}
-- rs/Cargo.toml --
[package]
name = "fib"
-- rs/src/a/b.rs --
mod tests {
    #[test]
    fn small() {
    }
    #[bench]
    fn quick(b: &mut Bencher) {}
}
`

func (s *session) args(l lsptest.Lens) (args struct{ URI, Test, Name string }) {
	s.t.Helper()
	if len(l.Arguments) == 1 {
		if err := json.Unmarshal(l.Arguments[0], &args); err != nil {
			s.t.Fatal(err)
		}
	}
	return args
}

func (s *session) mkdir(name string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) lensAt(name string, line int) lsptest.Lens {
	s.t.Helper()
	for _, l := range s.Lenses(s.path(name)) {
		if l.Line == line {
			return l
		}
	}
	s.t.Fatalf("%s has no lens on line %d", name, line)
	return lsptest.Lens{}
}

// The lens of a GoogleTest asks for it, with the program that .sightline.json names; while it is
// recorded the lens stops it.
func TestProfileGoogleTest(t *testing.T) {
	s := start(t, native, setup{})
	path := s.path("cpp/fib_test.cpp")
	s.Open(path)
	if diff := cmp.Diff([]string{"3: profile", "6: profile"}, s.lenses("cpp/fib_test.cpp")); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
	l := s.lensAt("cpp/fib_test.cpp", 6)
	call := s.StartCommand(l.Command, l.Arguments[0])
	run := s.started()
	want := lspserver.Request{
		Workspace: s.dir, Dir: s.path("cpp"),
		Native: &lspserver.NativeTest{
			Framework: nativetest.GoogleTest, File: path, Name: "Fib.Each", Filter: "*/Fib.Each/*:Fib.Each/*",
			Programs: []launch.Target{{
				Name: "unit", Command: []string{"build/unit"}, Dir: s.path("cpp"), Tests: "gtest", File: s.path(launch.FileName), Line: 3, Last: 5,
			}},
		},
	}
	if diff := cmp.Diff(want, run.req); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	s.Await(lsptest.Begun("^Profiling Fib.Each$"))
	if l := s.lensAt("cpp/fib_test.cpp", 6); l.Title != "building… · stop" || l.Command != "sightline.stop" {
		t.Errorf("while it is built the lens is %+v", l)
	}
	if l := s.lensAt("cpp/fib_test.cpp", 3); l.Title != "profile" {
		t.Errorf("the other test's lens is %+v", l)
	}
	var status rpc.StatusResult
	s.Must(rpc.MethodStatus, nil, &status)
	if status.Target != "GoogleTest Fib.Each" || status.Phase != lspserver.PhaseBuilding {
		t.Errorf("status is %+v", status)
	}
	run.finish(lspserver.Result{ID: s.put(s.capture("cpu ns\nmain@cpp/fib_test.cpp:4 9\n", nil))}, nil)
	if res := answer(t, call); res.Name != "Fib.Each" || res.Capture == "" {
		t.Errorf("result is %+v", res)
	}
	if got := titles(s.CodeActions(path, "EXPECT_EQ")); !slices.Contains(got, "Profile Fib.Small") || slices.Contains(got, "Profile Fib.Each") {
		t.Errorf("actions are %q", got)
	}
}

// A Rust test is named with the modules that lead to its file.
func TestProfileRustTest(t *testing.T) {
	s := start(t, native, setup{Options: lsptest.Options{Settings: map[string]any{"sightline": map[string]any{
		"test": map[string]any{"cargoFlags": []string{"--release"}},
	}}}})
	path := s.path("rs/src/a/b.rs")
	s.Open(path)
	s.Await(lsptest.Asked(protocol.MethodWorkspaceConfiguration), lsptest.Refreshed("codeLens", 1))
	for line, want := range map[int]*lspserver.NativeTest{
		2: {Name: "a::b::tests::small", Filter: "tests::small"},
		5: {Name: "a::b::tests::quick", Filter: "tests::quick", Bench: true},
	} {
		want.Framework, want.File, want.Args = nativetest.Cargo, path, []string{"--release"}
		l := s.lensAt("rs/src/a/b.rs", line)
		call := s.StartCommand(l.Command, l.Arguments[0])
		run := s.started()
		if diff := cmp.Diff(lspserver.Request{Workspace: s.dir, Dir: s.path("rs"), Native: want}, run.req); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		run.finish(lspserver.Result{}, nil)
		answer(t, call)
	}
}

// Where no program is known one lens says what to do, and does it.
func TestNameTheProgram(t *testing.T) {
	s := start(t, native, setup{before: func(s *session) {
		if err := os.Remove(s.path(launch.FileName)); err != nil {
			s.t.Fatal(err)
		}
	}})
	path := s.path("cpp/catch.cpp")
	s.Open(path)
	want := []string{"2: to profile these tests, name their program in .sightline.json"}
	if diff := cmp.Diff(want, s.lenses("cpp/catch.cpp")); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
	if got := titles(s.CodeActions(path, "SCENARIO")); !slices.Contains(got, "Name the program of Scenario: second in .sightline.json") {
		t.Errorf("actions are %q", got)
	}
	l := s.lensAt("cpp/catch.cpp", 2)
	s.Run(l.Command, l.Arguments)
	s.Await(lsptest.ShownDocument("/"+launch.FileName), lsptest.Refreshed("codeLens", 1))
	file, err := launch.Read(s.path(launch.FileName))
	if err != nil || len(file.Problems) > 0 || len(file.Targets) != 1 || file.Targets[0].Tests != "catch2" || file.Targets[0].Command[0] != "./build/catch" {
		t.Fatalf("what was made is %+v, %v", file, err)
	}
	if diff := cmp.Diff([]string{"2: profile", "3: profile"}, s.lenses("cpp/catch.cpp")); diff != "" {
		t.Errorf("lenses with the file (-want +got):\n%s", diff)
	}
	// What is there is shown, and not written over.
	s.write(launch.FileName, "{}")
	s.Run(l.Command, l.Arguments)
	if data, _ := os.ReadFile(s.path(launch.FileName)); string(data) != "{}" {
		t.Errorf("the file was written over: %s", data)
	}
	// A folder that CMake builds in is as good.
	if err := os.Remove(s.path(launch.FileName)); err != nil {
		t.Fatal(err)
	}
	s.mkdir("build")
	s.write("build/CMakeCache.txt", "")
	if got := s.lenses("cpp/catch.cpp"); len(got) != 2 || got[0] != "2: profile" {
		t.Errorf("with a CMake folder lenses are %q", got)
	}
	call := s.StartCommand("sightline.profileTest", map[string]any{"uri": string(uri.File(path)), "test": "é, 𝄞 [x]"})
	run := s.started()
	if diff := cmp.Diff([]string{s.path("build")}, run.req.Native.Builds); diff != "" || run.req.Native.Filter != `é\, 𝄞 \[x]` {
		t.Errorf("builds (-want +got):\n%sfilter %s", diff, run.req.Native.Filter)
	}
	run.finish(lspserver.Result{}, nil)
	answer(t, call)
}

// Each kind of lens can be switched off.
func TestNativeLensSettings(t *testing.T) {
	s := start(t, native, setup{})
	files := map[string]string{
		"googleTest": "cpp/fib_test.cpp", "catch2": "cpp/catch.cpp", "rustTests": "rs/src/a/b.rs", "rustBenchmarks": "rs/src/a/b.rs",
		"launchTargets": launch.FileName,
	}
	for _, f := range []string{"cpp/fib_test.cpp", "cpp/catch.cpp", "rs/src/a/b.rs", launch.FileName} {
		s.Open(s.path(f))
	}
	for kind, f := range files {
		before := s.lenses(f)
		if len(before) == 0 {
			t.Errorf("%s has no lenses", f)
		}
		s.Forget()
		s.Configure(map[string]any{"sightline": map[string]any{"lenses": map[string]any{kind: false}}})
		s.Await(lsptest.Refreshed("codeLens", 1))
		after := s.lenses(f)
		if want := map[string]int{"rustTests": 1, "rustBenchmarks": 1}[kind]; len(after) != want {
			t.Errorf("without %s there are %q", kind, after)
		}
		s.Forget()
		s.Configure(map[string]any{"sightline": map[string]any{"lenses": map[string]any{kind: nil}}})
		s.Await(lsptest.Refreshed("codeLens", 1))
	}
}

// Launch targets are offered on their entries and by a method, and recorded by name.
func TestLaunchTargets(t *testing.T) {
	s := start(t, native, setup{})
	path := s.path(launch.FileName)
	s.Open(path)
	s.Await(lsptest.Diagnosed(path, 0, ""))
	if diff := cmp.Diff([]string{"3: record server", "4: record unit"}, s.lenses(launch.FileName)); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
	if got := titles(s.CodeActions(path, `"unit"`)); !slices.Contains(got, "Record unit") || slices.Contains(got, "Record server") {
		t.Errorf("actions are %q", got)
	}
	s.Open(s.path("cpp/fib_test.cpp"))
	if got := titles(s.CodeActions(s.path("cpp/fib_test.cpp"), "include", "source")); !slices.Contains(got, "source.sightline Record server (./server --port 8080)") {
		t.Errorf("actions in a source are %q", got)
	}
	var res rpc.TargetsResult
	s.Must(rpc.MethodTargets, nil, &res)
	where := string(uri.File(path))
	want := rpc.TargetsResult{Targets: []rpc.TargetInfo{
		{Name: "server", Text: "./server --port 8080", Detail: ".sightline.json · built by make", Location: rpc.Location{URI: where, Line: 2}},
		{Name: "unit", Text: "build/unit", Detail: ".sightline.json · in cpp", Location: rpc.Location{URI: where, Line: 3}},
	}}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}

	l := s.lensAt(launch.FileName, 3)
	call := s.StartCommand(l.Command, l.Arguments[0])
	run := s.started()
	request := lspserver.Request{
		Workspace: s.dir, Dir: s.dir, Name: "server", Command: []string{"./server", "--port", "8080"}, Env: []string{"A=1"}, Build: []string{"make"},
	}
	if diff := cmp.Diff(request, run.req); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	s.Await(lsptest.Begun("^Profiling server$"))
	if l := s.lensAt(launch.FileName, 3); l.Title != "building… · stop" {
		t.Errorf("while it is recorded the lens is %+v", l)
	}
	run.finish(lspserver.Result{}, nil)
	answer(t, call)

	// A nearer file comes first, as the editor has it; so does its folder.
	s.write("cpp/.sightline.json", `{"targets": [{"name": "server", "command": ["near"]}]}`)
	s.Open(s.path("cpp/.sightline.json"))
	s.Replace(s.path("cpp/.sightline.json"), `near`, "nearer")
	call = s.StartCommand("sightline.recordTarget", map[string]any{"name": "server", "uri": string(uri.File(s.path("cpp/fib_test.cpp")))})
	run = s.started()
	if run.req.Command[0] != "nearer" || run.req.Dir != s.path("cpp") {
		t.Errorf("request is %+v", run.req)
	}
	run.finish(lspserver.Result{}, nil)
	answer(t, call)
	s.Must(rpc.MethodTargets, rpc.TargetsParams{URI: string(uri.File(s.path("cpp")))}, &res)
	if len(res.Targets) != 3 || res.Targets[0].Text != "nearer" || res.Targets[0].Detail != "cpp/.sightline.json" {
		t.Errorf("targets near cpp are %+v", res.Targets)
	}
}

// Mistakes in a .sightline.json are diagnostics at their place, gone when they are corrected.
func TestTargetDiagnostics(t *testing.T) {
	for _, editor := range []string{"vscode", "nvim-0.12"} {
		s := start(t, native, setup{Options: lsptest.Options{Editor: editor}})
		path := s.path(launch.FileName)
		s.Open(path)
		s.Await(lsptest.Diagnosed(path, 0, ""))
		s.Replace(path, `\["build/unit"\], "tests": "gtest"`, `["é𝄞", 7], "tests": "gtest"`)
		s.Await(lsptest.Diagnosed(path, 1, `^targets\[1\]\.command\[1\] is a number: make it a string$`))
		d := s.Diagnostics(path)[0]
		if got := s.Position(path, s.Find(path, `7\], "tests"`)); d.Range.Start != got || d.Range.End.Character != got.Character+1 {
			t.Errorf("%s: the diagnostic is at %+v, want %+v", editor, d.Range, got)
		}
		if diff := cmp.Diff([]string{"3: record server"}, s.lenses(launch.FileName)); diff != "" {
			t.Errorf("lenses (-want +got):\n%s", diff)
		}
		_, err := s.StartCommand("sightline.recordTarget", "unit").Wait()
		if err == nil || !strings.Contains(err.Error(), launch.FileName+":5:") || !strings.Contains(err.Error(), "targets[1].command[1] is a number") {
			t.Errorf("recording a broken target: %v", err)
		}
		s.Replace(path, `, 7\]`, `]`)
		s.Await(lsptest.Diagnosed(path, 0, ""))
		s.SetText(path, "{")
		s.Await(lsptest.Diagnosed(path, 1, `^this is no JSON \(unexpected EOF\): close what is open$`))
		s.CloseFile(path)
		s.Await(lsptest.Diagnosed(path, 0, ""))
	}
}

// What cannot be recorded is told in one sentence.
func TestNativeErrors(t *testing.T) {
	s := start(t, native, setup{})
	file := func(name string) string { return string(uri.File(s.path(name))) }
	s.write("alone.rs", "#[test]\nfn a() {}\n")
	s.write("gone.json", "")
	s.mkdir("x")
	s.mkdir("y")
	s.write("x/"+launch.FileName, `{"targets": [{"name": "nowhere", "command": ["a"], "dir": "none"}]}`)
	s.write("y/"+launch.FileName, `{`)
	s.write("y/a_test.cc", "TEST(A, B) {}")
	for _, c := range []struct {
		command string
		args    map[string]any
		want    string
	}{
		{"profileTest", map[string]any{"test": "A.B"}, `a "test" needs "uri"`},
		{"profileTest", map[string]any{"test": "A.B", "uri": file("cpp/fib_test.cpp"), "run": "x"}, `neither "dir" nor "run" nor "bench"`},
		{"profileTest", map[string]any{"test": "A.B", "uri": "untitled:x"}, "is no file on this machine"},
		{"profileTest", map[string]any{"test": "A.B", "uri": file("none.cpp")}, "no such file"},
		{"profileTest", map[string]any{"test": "A.B", "uri": file("cpp/fib_test.cpp")}, "fib_test.cpp has no test A.B; it has Fib.Small, Fib.Each"},
		{"profileTest", map[string]any{"test": "a", "uri": file("gone.json")}, "gone.json has no test a; it has none"},
		{"profileTest", map[string]any{"test": "a", "uri": file("alone.rs")}, "lies in no package: no Cargo.toml"},
		{"recordTarget", map[string]any{}, `needs the argument "name"`},
		{"recordTarget", map[string]any{"name": "nope"}, "there is no target nope: there is server, unit"},
		{"recordTarget", map[string]any{"name": "nowhere", "uri": file("x/a.c")}, `there is no such folder: correct "dir"`},
		{"recordTarget", map[string]any{"name": "nope", "uri": file("y/a.c")}, "y/.sightline.json:1:2: this is no JSON"},
		{"recordTarget", map[string]any{"name": "server", "uri": "http://x"}, "is no file on this machine"},
	} {
		_, err := s.StartCommand("sightline."+c.command, c.args).Wait()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %v: %v, want %q", c.command, c.args, err, c.want)
		}
	}
	// In an empty workspace there is nothing to choose from.
	s = start(t, "-- a.go --\npackage a\n", setup{})
	if _, err := s.StartCommand("sightline.recordTarget", "x").Wait(); err == nil || !strings.Contains(err.Error(), "no .sightline.json in the workspace has one") {
		t.Errorf("without a file: %v", err)
	}
	s.Execute("sightline.createTargets")
	if f, err := launch.Read(filepath.Join(s.dir, launch.FileName)); err != nil || len(f.Targets) != 1 || f.Targets[0].Name != "server" {
		t.Errorf("what was made is %+v, %v", f, err)
	}
}

// A Rust test and the closure that its harness calls it by are one lens: they begin on one line and cost
// the same.
func TestOneLensForTheSame(t *testing.T) {
	s := start(t, "-- rs/a.rs --\n#[test]\nfn a() {\n    work();\n}\nfn work() {\n    spin();\n}\n", setup{captures: []string{
		"cpu ns\nlength: 1s\na::a::{{closure}}@rs/a.rs:2|start=2|entry;a::a@rs/a.rs:3|start=2;a::work@rs/a.rs:6|start=5 9\n",
	}})
	s.Open(s.path("rs/a.rs"))
	want := []string{"1: profile", "2: total 100.0% · 9 ns", "5: self 100.0% · 9 ns, #1"}
	if diff := cmp.Diff(want, s.lenses("rs/a.rs")); diff != "" {
		t.Errorf("lenses (-want +got):\n%s", diff)
	}
}
