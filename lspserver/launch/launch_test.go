package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	f := Parse("/p/.sightline.json", []byte(`{
  "$schema": "x",
  "targets": [
    {"name": "server", "command": ["./server", "--port", "8080"]},
    {
      "name": "unit tests é", "command": ["build/tests"], "tests": "gtest",
      "env": {"B": "2", "A": "1=x"}, "dir": "sub/./x",
      "build": ["make", "tests"]
    },
    {"dir": "/abs/../else", "command": ["ls"], "name": "ls"}
  ]
}
`))
	want := []Target{
		{Name: "server", Command: []string{"./server", "--port", "8080"}, Dir: "/p", File: "/p/.sightline.json", Line: 3, Last: 3},
		{
			Name: "unit tests é", Command: []string{"build/tests"}, Tests: "gtest", Env: []string{"A=1=x", "B=2"}, Dir: "/p/sub/x",
			Build: []string{"make", "tests"}, File: "/p/.sightline.json", Line: 4, Last: 8,
		},
		{Name: "ls", Command: []string{"ls"}, Dir: "/else", File: "/p/.sightline.json", Line: 9, Last: 9},
	}
	if diff := cmp.Diff(want, f.Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if err := f.Err(); err != nil {
		t.Error(err)
	}
}

// Each mistake names its place, its key and what to do.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{"1:1-1 the file is empty: write " + Example}},
		{"[]", []string{"1:1-3 is a list: make it an object, as " + Example}},
		{"{}", []string{`1:1-3 there is no "targets": write ` + Example}},
		{`{"targets": {}}`, []string{"1:13-15 targets is an object: make it a list of objects"}},
		{`{"targets": [7]}`, []string{`1:14-15 targets[0] is a number: make it an object with "name" and "command"`}},
		{`{"targets": [], "target": 1}`, []string{`1:17-25 target is no key here: there is "targets"`}},
		{`{"targets": [{"name": "a", "command": "./a -x"}]}`,
			[]string{`1:39-47 targets[0].command is a string: make it a list of strings, as ["./server", "--port", "8080"]`}},
		{`{"targets": [{"name": 1, "command": ["a", 2, null]}]}`, []string{
			"1:23-24 targets[0].name is a number: make it a string",
			"1:43-44 targets[0].command[1] is a number: make it a string",
			"1:46-50 targets[0].command[2] is null: make it a string",
		}},
		{"{\"targets\": [\n {\"name\": \"a\", \"command\": []},\n\t{}]}", []string{
			"2:27-29 targets[0].command has no program: give it as the first of the list",
			`3:2-4 targets[1] has no "name": say what the target is called`,
			`3:2-4 targets[1] has no "command": give the program and its arguments, as ["./server", "--port", "8080"]`,
		}},
		{`{"targets": [{"name": "a", "command": ["a"], "tests": "junit", "env": {"X": 1, "a=b": ""}, "dir": [], "cwd": "x"}]}`, []string{
			`1:55-62 targets[0].tests is "junit": make it "gtest" or "catch2", or leave it out`,
			"1:77-78 targets[0].env.X is a number: make it a string",
			"1:80-85 targets[0].env.a=b is no name of a variable: it may not be empty and has no =",
			"1:99-101 targets[0].dir is a list: make it a string",
			`1:103-108 targets[0].cwd is no key here: there is "name", "command", "env", "dir", "tests" and "build"`,
		}},
		{`{"targets": [{"name": "a", "command": ["a"]}, {"name": "a", "command": ["b"]}, {"name": " ", "command": ["c"]}]}`, []string{
			`1:56-59 targets[1].name is "a", as that of a target before: give each another name`,
			"1:89-92 targets[2].name is empty or has more than one line: name what the target is",
		}},
		{`{"targets": [{"name": "a", "command": ["a\u0000b"]}]}`, []string{"1:40-50 targets[0].command[0] has a NUL character: leave it out"}},
		{`{"targets": [{"name": "a", "name": "b", "command": ["a"]}]}`, []string{"1:28-60 targets[0].name is there twice: leave one out"}},
		{"{\"targets\": [\n  // mine\n]}", []string{"2:3-10 this is no JSON (invalid character '/' at start of value): comments are not allowed, leave them out"}},
		{"{\"targets\": [{\"name\": \"a\", \"command\": [\"a\"]},\n]}", []string{"1:45-46 this is no JSON (invalid character ',' at start of value): no comma may stand before a closing bracket, and each opening one has its own"}},
		{`{"targets": [{"name": "a"`, []string{"1:26-26 this is no JSON (unexpected EOF): close what is open"}},
		{`{"targets": []} {}`, []string{"1:17-19 there is something after the object: leave it out"}},
		{strings.Repeat(" ", maxFile+1), []string{"1:1-1 the file is larger than 1048576 bytes: nothing of it is read"}},
	} {
		f := Parse("x/"+FileName, []byte(c.text))
		var got []string
		for _, p := range f.Problems {
			got = append(got, fmt.Sprintf("%d:%d-%d %s", p.Line+1, p.Column+1, p.Column+p.End-p.Begin+1, p.Message()))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.80s (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestManyProblems(t *testing.T) {
	f := Parse("x", []byte(`{"targets": [`+strings.Repeat("1,", 100_000)+`{"name": "a", "command": ["a"]}]}`))
	if len(f.Problems) != maxProblems || len(f.Targets) != 0 {
		t.Errorf("%d problems, %d targets", len(f.Problems), len(f.Targets))
	}
}

// What is wrong in one target leaves the others.
func TestProblemsLeaveOthers(t *testing.T) {
	f := Parse("/p/x.json", []byte(`{"targets": [{"name": "a"}, {"name": "b", "command": ["b"]}, {"name": "c", "command": ["c"], "x": 1}]}`))
	if len(f.Targets) != 1 || f.Targets[0].Name != "b" {
		t.Errorf("targets are %+v, want b", f.Targets)
	}
	want := `/p/x.json:1:14: targets[0] has no "command": give the program and its arguments, as ["./server", "--port", "8080"] (and 1 more)`
	if err := f.Err(); err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(root, "..", FileName), `{"targets": [{"name": "outside", "command": ["x"]}]}`)
	write(t, filepath.Join(root, FileName), `{"targets": [{"name": "both", "command": ["far"]}, {"name": "root", "command": ["r"]}]}`)
	sub := filepath.Join(root, "a", "b")
	write(t, filepath.Join(sub, FileName), `{"targets": [{"name": "both", "command": ["near"]}]}`)
	targets, err := Load(sub, root, Read)
	var got []string
	for _, x := range targets {
		got = append(got, x.Name+" "+x.Command[0]+" in "+strings.TrimPrefix(x.Dir, root))
	}
	if diff := cmp.Diff([]string{"both near in /a/b", "root r in "}, got); diff != "" || err != nil {
		t.Errorf("targets (-want +got):\n%s%v", diff, err)
	}
	if x, err := Lookup(filepath.Join(root, "a"), root, "both", Read); err != nil || x.Command[0] != "far" {
		t.Errorf("above the nearer file there is %v, %v", x, err)
	}
	for _, c := range []struct{ dir, root, name, want string }{
		{sub, root, "no", "there is no target no; there is both, root"},
		{t.TempDir(), root, "no", "write one, as {"},
		{sub, sub, "root", "there is no target root; there is both"},
	} {
		if _, err := Lookup(c.dir, c.root, c.name, Read); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in %s: %v, want %s", c.name, c.dir, err, c.want)
		}
	}
	write(t, filepath.Join(sub, FileName), `{"targets": [`)
	if targets, err := Load(sub, root, Read); err == nil || len(targets) != 2 || !strings.Contains(err.Error(), "b/"+FileName+":1:14: this is no JSON") {
		t.Errorf("with a broken file there are %v and the error %v", targets, err)
	}
	if _, err := Lookup(sub, root, "x", Read); err == nil || !strings.Contains(err.Error(), "no target x is known: ") {
		t.Errorf("a target is looked for in a broken file: %v", err)
	}
	// What is no file is not waited for.
	os.Remove(filepath.Join(sub, FileName))
	if err := os.Mkdir(filepath.Join(sub, FileName), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(sub, root, Read); err == nil || !strings.Contains(err.Error(), "it is no file") {
		t.Errorf("a folder of that name: %v", err)
	}
}

func TestCMakeBuilds(t *testing.T) {
	root := t.TempDir()
	for i, dir := range []string{"build", "cmake-build-debug", "out/build/x64", "src/build/release"} {
		write(t, filepath.Join(root, dir, "CMakeCache.txt"), "")
		when := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(root, dir, "CMakeCache.txt"), when, when); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "elsewhere", "CMakeCache.txt"), "")
	write(t, filepath.Join(root, "build", "sub", "CMakeCache.txt"), "") // another project's, inside
	builds := func(dir string) []string {
		got := []string{}
		for _, d := range CMakeBuilds(filepath.Join(root, dir), root) {
			rel, err := filepath.Rel(root, d)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rel)
		}
		return got
	}
	if diff := cmp.Diff([]string{"src/build/release", "out/build/x64", "cmake-build-debug", "build"}, builds("src")); diff != "" {
		t.Errorf("builds (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"out/build/x64", "cmake-build-debug", "build"}, builds("lib/none")); diff != "" {
		t.Errorf("builds from a folder that is not there (-want +got):\n%s", diff)
	}
	write(t, filepath.Join(root, "elsewhere", "compile_commands.json"), "[]")
	if err := os.Symlink("elsewhere/compile_commands.json", filepath.Join(root, "compile_commands.json")); err != nil {
		t.Fatal(err)
	}
	if got := builds("src"); len(got) != 4+1 || got[0] != "elsewhere" {
		t.Errorf("with a link to compile_commands.json there are %q", got)
	}
}

// Whatever the text is: problems and targets lie in it, and what is taken is whole.
func FuzzParse(f *testing.F) {
	f.Add(`{"targets": [{"name": "a", "command": ["b"], "env": {"A": "1"}, "dir": "x", "tests": "gtest", "build": ["c"]}]}`)
	f.Add(`{"targets": [{"name": 1}, 2, {"command": []`)
	f.Add("{\"targets\"\r\n: [null, //\n")
	f.Add(`{"$schema": 1, "x": {"y": []}}`)
	f.Fuzz(func(t *testing.T, text string) {
		file := Parse("/p/"+FileName, []byte(text))
		lines := strings.Split(text, "\n")
		for _, p := range file.Problems {
			if p.Line < 0 || p.Line >= len(lines) || p.Column < 0 || p.End < p.Begin || p.Column+p.End-p.Begin > len(lines[p.Line]) {
				t.Fatalf("problem at %d:%d-%d of %d lines", p.Line, p.Begin, p.End, len(lines))
			}
			if p.Begin-p.Column != len(strings.Join(lines[:p.Line], "\n"))+min(p.Line, 1) {
				t.Fatalf("problem at %d:%d is at offset %d", p.Line, p.Column, p.Begin)
			}
			if strings.Contains(p.Text, "%!") || p.Text == "" {
				t.Fatalf("problem %q", p.Text)
			}
		}
		if len(file.Problems) == 0 && !strings.Contains(text, "targets") && !strings.Contains(text, `\u`) {
			t.Fatal("a file without targets is good")
		}
		names := map[string]bool{}
		for _, x := range file.Targets {
			if x.Name == "" || names[x.Name] || len(x.Command) == 0 || x.Command[0] == "" || !filepath.IsAbs(x.Dir) {
				t.Fatalf("target %+v", x)
			}
			names[x.Name] = true
			if x.Line < 0 || x.Last < x.Line || x.Last >= len(lines) {
				t.Fatalf("target on lines %d to %d of %d", x.Line, x.Last, len(lines))
			}
		}
	})
}
